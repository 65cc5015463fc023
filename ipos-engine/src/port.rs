//! One port of the device: a backend, and what the loop remembers about it.

use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;

use ipos_backend::Backend;
use ipos_core::Port;
use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};

use crate::error::{EngineError, port_name};

/// The three ports of a device.
pub struct Ports {
    /// Clients.
    pub a: Box<dyn Backend>,
    /// The other servers.
    pub b: Box<dyn Backend>,
    /// State.
    pub synch: Box<dyn Backend>,
}

/// Why a frame could not be queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// The transmit queue is full.
    Full,
    /// The frame is larger than the port carries.
    Oversize,
}

/// A backend with what the loop knows of it.
pub(crate) struct PortState {
    pub(crate) name: Port,
    pub(crate) backend: Box<dyn Backend>,
    /// Frames may wait. Readiness is told once (edge), so this stays set until a receive found nothing.
    pub(crate) ready: bool,
    /// The backend has no readiness descriptor: it is asked every so often.
    pub(crate) polled: bool,
    /// The transmit queue was full even after a flush.
    pub(crate) blocked: bool,
    /// Bytes received and transmitted.
    pub(crate) bytes: [u64; 2],
    /// Frames were queued since the last flush.
    queued: bool,
    /// The interface is down, and that was said.
    down: bool,
    /// Frames were lost on receive, and that was said.
    lossy: bool,
}

impl PortState {
    pub(crate) fn new(
        name: Port,
        backend: Box<dyn Backend>,
        token: Token,
        registry: &Registry,
    ) -> Result<PortState, EngineError> {
        let polled = match backend.readiness() {
            None => true,
            Some(descriptor) => {
                registry
                    .register(
                        &mut SourceFd(&descriptor.as_raw_fd()),
                        token,
                        Interest::READABLE,
                    )
                    .map_err(EngineError::Poll)?;
                false
            }
        };
        // What came before the registration gives no edge.
        Ok(PortState {
            name,
            backend,
            ready: true,
            polled,
            blocked: false,
            bytes: [0; 2],
            queued: false,
            down: false,
            lossy: false,
        })
    }

    /// Queues one frame made of two parts.
    pub(crate) fn put(&mut self, headers: &[u8], payload: &[u8]) -> Result<(), Refused> {
        let len = headers.len() + payload.len();
        let frame = self.room().ok_or(Refused::Full)?;
        let Some((first, second)) = frame
            .get_mut(..len)
            .and_then(|frame| frame.split_at_mut_checked(headers.len()))
        else {
            return Err(Refused::Oversize);
        };
        first.copy_from_slice(headers);
        second.copy_from_slice(payload);
        self.commit(len);
        Ok(())
    }

    /// A buffer for the next frame; the queue is flushed where that makes room.
    pub(crate) fn room(&mut self) -> Option<&mut [u8]> {
        if self.backend.buffer().is_none() {
            self.queued = true;
            self.flush_or_note();
        }
        let room = self.backend.buffer();
        self.blocked = room.is_none();
        room
    }

    /// Queues the first `len` bytes of the buffer.
    pub(crate) fn commit(&mut self, len: usize) {
        self.backend.commit(len);
        self.bytes[1] += len as u64;
        self.queued = true;
    }

    /// Hands queued frames to the interface.
    pub(crate) fn flush(&mut self) -> Result<(), EngineError> {
        if !std::mem::take(&mut self.queued) {
            return Ok(());
        }
        let result = self.backend.flush();
        if self.judge(result)?.is_some() {
            self.down = false;
        }
        Ok(())
    }

    /// A flush whose fatal error, if any, comes again at the next call.
    fn flush_or_note(&mut self) {
        if let Err(error) = self.flush() {
            tracing::debug!(%error, "flush failed");
            self.queued = true;
        }
    }

    /// Receives up to `burst` frames; how many.
    pub(crate) fn receive(
        &mut self,
        burst: usize,
        sink: &mut dyn FnMut(&[u8]),
    ) -> Result<usize, EngineError> {
        let mut bytes = 0;
        let result = self.backend.receive(burst, &mut |frame| {
            bytes += frame.len() as u64;
            sink(frame);
        });
        self.bytes[0] += bytes;
        let received = self.judge(result)?.unwrap_or(0);
        self.ready = received > 0;
        self.down &= received == 0;
        Ok(received)
    }

    /// Says once that the interface loses frames because they are not taken fast enough.
    pub(crate) fn look_at_losses(&mut self) {
        let lost = self.backend.statistics().receive_dropped;
        if lost > 0 && !std::mem::replace(&mut self.lossy, true) {
            tracing::warn!(
                port = port_name(self.name),
                lost,
                "frames come faster than they are taken, or larger than the MTU"
            );
        }
    }

    /// Separates an interface that is down, which may come up again, from a port that is lost.
    fn judge<T>(&mut self, result: io::Result<T>) -> Result<Option<T>, EngineError> {
        match result {
            Ok(value) => Ok(Some(value)),
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NetworkDown | io::ErrorKind::Interrupted
                ) =>
            {
                if error.kind() == io::ErrorKind::NetworkDown
                    && !std::mem::replace(&mut self.down, true)
                {
                    tracing::warn!(
                        port = port_name(self.name),
                        "the interface is down; waiting until it is up"
                    );
                }
                Ok(None)
            }
            Err(source) => Err(EngineError::Port {
                port: self.name,
                source,
            }),
        }
    }
}

/// Frames that go back through the port they came from: they wait here for the end of the burst,
/// while the port lends its receive buffers.
///
/// The space for a whole burst is reserved at the start; a frame that does not fit is refused.
pub(crate) struct Relay {
    bytes: Vec<u8>,
    frames: Vec<Range<usize>>,
}

impl Relay {
    /// Room for `burst` frames of `frame` bytes.
    pub(crate) fn new(burst: usize, frame: usize) -> Relay {
        Relay {
            bytes: Vec::with_capacity(burst.saturating_mul(frame)),
            frames: Vec::with_capacity(burst),
        }
    }

    /// Keeps one frame made of two parts.
    pub(crate) fn push(&mut self, headers: &[u8], payload: &[u8]) -> Result<(), Refused> {
        let start = self.bytes.len();
        let end = start + headers.len() + payload.len();
        if end > self.bytes.capacity() || self.frames.len() == self.frames.capacity() {
            return Err(Refused::Full);
        }
        self.bytes.extend_from_slice(headers);
        self.bytes.extend_from_slice(payload);
        self.frames.push(start..end);
        Ok(())
    }

    /// Queues all kept frames on `port`, and hands every refusal to `refused`.
    pub(crate) fn drain(&mut self, port: &mut PortState, mut refused: impl FnMut(Refused)) {
        for range in self.frames.drain(..) {
            if let Err(why) = port.put(&self.bytes[range], &[]) {
                refused(why);
            }
        }
        self.bytes.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::os::fd::BorrowedFd;
    use std::rc::Rc;
    use std::time::Duration;

    use ipos_backend::{Capabilities, Statistics};

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

        fn receive(&mut self, _: usize, sink: &mut dyn FnMut(&[u8])) -> io::Result<usize> {
            let state = self.fake.0.borrow();
            if let Some(kind) = state.error {
                return Err(kind.into());
            }
            sink(&[0; 60]);
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
}
