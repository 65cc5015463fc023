//! What a send buffer does that is full, which no veth's ever is: with a channel of our own.

use std::sync::{Arc, Mutex};

use socket2::{Domain, Type};

use super::*;

/// A channel that has room for a number of frames, and keeps them.
#[derive(Clone, Default)]
struct Channel(Arc<Mutex<(usize, Vec<Vec<u8>>)>>);

impl Channel {
    fn make_room(&self, frames: usize) {
        self.0.lock().unwrap().0 += frames;
    }

    fn sent(&self) -> Vec<Vec<u8>> {
        self.0.lock().unwrap().1.clone()
    }
}

impl DataLinkSender for Channel {
    fn build_and_send(
        &mut self,
        _: usize,
        _: usize,
        _: &mut dyn FnMut(&mut [u8]),
    ) -> Option<io::Result<()>> {
        None
    }

    fn send_to(&mut self, frame: &[u8], _: Option<NetworkInterface>) -> Option<io::Result<()>> {
        let (room, sent) = &mut *self.0.lock().unwrap();
        if *room == 0 {
            return Some(Err(io::ErrorKind::TimedOut.into()));
        }
        *room -= 1;
        sent.push(frame.to_vec());
        Some(Ok(()))
    }
}

impl DataLinkReceiver for Channel {
    fn next(&mut self) -> io::Result<&[u8]> {
        Err(io::ErrorKind::TimedOut.into())
    }
}

fn port(channel: &Channel) -> PnetBackend {
    PnetBackend {
        interface: "b0".to_owned(),
        capabilities: Capabilities {
            hardware_address: [2, 0, 0, 0, 0, 1],
            mtu: 100,
            burst: BURST,
        },
        socket: Socket::new(Domain::UNIX, Type::DGRAM, None).unwrap(),
        sender: Box::new(channel.clone()),
        receiver: Box::new(channel.clone()),
        largest: 114,
        head: 0,
        frame: vec![0; 114].into_boxed_slice(),
        finished: vec![0; 114].into_boxed_slice(),
        slot: Slot::Free,
        fault: None,
        statistics: Statistics::default(),
    }
}

fn send(port: &mut PnetBackend, byte: u8) {
    let buffer = port.buffer().unwrap();
    buffer[..20].fill(byte);
    port.commit(20);
}

#[test]
fn a_frame_is_kept_until_the_socket_takes_it() {
    let channel = Channel::default();
    let mut port = port(&channel);
    channel.make_room(1);
    send(&mut port, 1);
    send(&mut port, 2);
    assert_eq!(port.statistics.transmitted, 1);
    assert!(port.buffer().is_none(), "the queue is full");
    port.commit(20);
    assert_eq!(port.statistics.transmit_failed, 1, "no buffer was lent");
    port.flush().unwrap();
    assert!(port.buffer().is_none(), "it still is");

    channel.make_room(1);
    port.flush().unwrap();
    assert_eq!(channel.sent(), [[1; 20], [2; 20]]);
    channel.make_room(1);
    send(&mut port, 3);
    assert_eq!(channel.sent(), [[1; 20], [2; 20], [3; 20]]);
    assert_eq!(port.statistics.transmitted, 3);
    assert_eq!(port.statistics.transmit_failed, 1);
}

#[test]
fn asking_for_a_buffer_sends_what_was_kept() {
    let channel = Channel::default();
    let mut port = port(&channel);
    send(&mut port, 1);
    channel.make_room(1);
    assert_eq!(port.buffer().map(|buffer| buffer.len()), Some(114));
    assert_eq!(channel.sent(), [[1; 20]]);
}

#[test]
fn a_buffer_is_lent_twice_and_committed_once() {
    let channel = Channel::default();
    let mut port = port(&channel);
    channel.make_room(2);
    port.buffer().unwrap()[..20].fill(7);
    assert_eq!(port.buffer().unwrap()[..20], [7; 20]);
    port.commit(20);
    port.commit(20);
    assert_eq!(channel.sent(), [[7; 20]]);
    assert_eq!(port.statistics.transmit_failed, 1);
}
