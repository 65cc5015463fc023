use std::cell::RefCell;
use std::os::fd::BorrowedFd;
use std::rc::Rc;
use std::time::Duration;

use ipos_backend::{Capabilities, Frame, Statistics};

use super::*;

/// Takes `room` frames between flushes, and says what its interface says.
#[derive(Clone, Default)]
struct Fake(Rc<RefCell<State>>);

#[derive(Default)]
struct State {
    room: usize,
    /// A flush makes room.
    flushes: bool,
    queued: Vec<Vec<u8>>,
    sent: Vec<Vec<u8>>,
    error: Option<io::ErrorKind>,
}

struct Backing {
    fake: Fake,
    buffer: [u8; 64],
}

impl Backend for Backing {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            hardware_address: [0; 6],
            mtu: 50,
            burst: 1,
        }
    }

    fn receive(&mut self, _: usize, sink: &mut dyn FnMut(&mut dyn Frame)) -> io::Result<usize> {
        let state = self.fake.0.borrow();
        if let Some(kind) = state.error {
            return Err(kind.into());
        }
        sink(&mut &[0; 60][..]);
        Ok(1)
    }

    fn buffer(&mut self) -> Option<&mut [u8]> {
        let state = self.fake.0.borrow();
        (state.queued.len() < state.room).then_some(&mut self.buffer[..])
    }

    fn commit(&mut self, len: usize) {
        self.fake
            .0
            .borrow_mut()
            .queued
            .push(self.buffer[..len].to_vec());
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut state = self.fake.0.borrow_mut();
        if let Some(kind) = state.error {
            return Err(kind.into());
        }
        if state.flushes {
            let queued = std::mem::take(&mut state.queued);
            state.sent.extend(queued);
        }
        Ok(())
    }

    fn wait(&mut self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn statistics(&self) -> Statistics {
        Statistics::default()
    }
}

fn port(room: usize, flushes: bool) -> (PortState, Fake) {
    let fake = Fake::default();
    fake.0.borrow_mut().room = room;
    fake.0.borrow_mut().flushes = flushes;
    let backend = Box::new(Backing {
        fake: fake.clone(),
        buffer: [0; 64],
    });
    let poll = mio::Poll::new().unwrap();
    (
        PortState::new(Port::B, backend, Token(0), poll.registry()).unwrap(),
        fake,
    )
}

#[test]
fn a_full_queue_is_flushed_for_the_next_frame() {
    let (mut port, fake) = port(2, true);
    for number in 0..5 {
        assert_eq!(port.put(&[number], b"payload"), Ok(()));
    }
    assert!(!port.blocked);
    port.flush().unwrap();
    let sent: Vec<_> = fake.0.borrow().sent.iter().map(|frame| frame[0]).collect();
    assert_eq!(sent, [0, 1, 2, 3, 4]);
    assert_eq!(fake.0.borrow().sent[4], b"\x04payload");
    assert_eq!(port.bytes, [0, 40]);
}

#[test]
fn what_does_not_fit_is_refused() {
    let (mut port, fake) = port(1, false);
    assert_eq!(port.put(&[1; 30], &[2; 35]), Err(Refused::Oversize));
    assert_eq!(port.put(&[1; 30], &[2; 34]), Ok(()));
    assert_eq!(port.put(&[1], &[2]), Err(Refused::Full));
    assert!(port.blocked);
    // Tried again later, although nothing was committed since.
    fake.0.borrow_mut().flushes = true;
    assert!(port.room().is_some());
    assert!(!port.blocked);
}

#[test]
fn relayed_frames_keep_their_order_and_bound() {
    let (mut port, fake) = port(2, true);
    let mut relay = Relay::new(3, 10);
    for number in 0..3 {
        assert_eq!(relay.push(&[number], &[9; 4]), Ok(()));
    }
    assert_eq!(relay.push(&[3], &[]), Err(Refused::Full));
    relay.drain(&mut port, |why| panic!("{why:?}"));
    port.flush().unwrap();
    assert_eq!(
        fake.0.borrow().sent,
        [[0, 9, 9, 9, 9], [1, 9, 9, 9, 9], [2, 9, 9, 9, 9]]
    );
    // Empty again, for the next burst.
    assert_eq!(relay.push(&[4; 30], &[]), Ok(()));
    assert_eq!(relay.push(&[4], &[]), Err(Refused::Full));
}

#[test]
fn an_interface_that_is_down_is_waited_for_and_one_that_is_lost_is_an_error() {
    let (mut port, fake) = port(8, true);
    assert_eq!(port.receive(1, &mut |_| {}).unwrap(), 1);
    assert!(port.ready);
    fake.0.borrow_mut().error = Some(io::ErrorKind::NetworkDown);
    assert_eq!(port.receive(1, &mut |_| {}).unwrap(), 0);
    assert!(!port.ready);
    port.put(&[0], &[]).unwrap();
    port.flush().unwrap();
    assert!(port.down);
    fake.0.borrow_mut().error = None;
    port.put(&[0], &[]).unwrap();
    port.flush().unwrap();
    assert!(!port.down);
    fake.0.borrow_mut().error = Some(io::ErrorKind::NotConnected);
    assert!(matches!(
        port.receive(1, &mut |_| {}),
        Err(EngineError::Port { port: Port::B, .. })
    ));
    port.put(&[0], &[]).unwrap();
    assert!(port.flush().is_err());
}
