//! A port that is one end of a socket pair: a datagram is a frame.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ipos_backend::{Backend, Capabilities, Frame, Statistics};

const MTU: u16 = 1500;
const FRAME: usize = MTU as usize + 14;
/// Frames that wait for the other end.
const QUEUE: usize = 16;

/// Two ends.
pub fn cord() -> (UnixDatagram, UnixDatagram) {
    let (near, far) = UnixDatagram::pair().unwrap();
    for end in [&near, &far] {
        end.set_nonblocking(true).unwrap();
        // Room for a few frames only.
        socket2::SockRef::from(end)
            .set_send_buffer_size(16 * 1024)
            .unwrap();
    }
    (near, far)
}

/// Passes frames between two ends, from the first one only while the valve is open.
pub fn pass(near: UnixDatagram, far: UnixDatagram, open: Arc<AtomicBool>) {
    thread::spawn(move || {
        let mut frame = [0; 1514];
        loop {
            let mut moved = false;
            if open.load(Ordering::Relaxed)
                && let Ok(len) = near.recv(&mut frame)
            {
                // Full: lost, as on any network.
                let _ = far.send(&frame[..len]);
                moved = true;
            }
            if let Ok(len) = far.recv(&mut frame) {
                let _ = near.send(&frame[..len]);
                moved = true;
            }
            if !moved {
                thread::sleep(Duration::from_micros(100));
            }
        }
    });
}

/// The port. The socket pair holds few datagrams, so its transmit queue is often full.
pub struct Cord {
    socket: UnixDatagram,
    /// Whether there is a descriptor to wait on.
    pub descriptor: bool,
    /// What [`Capabilities::mtu`] says.
    pub mtu: u16,
    hardware: [u8; 6],
    queue: VecDeque<Vec<u8>>,
    /// The last flush could not hand over everything.
    stuck: bool,
    buffer: Vec<u8>,
    statistics: Statistics,
}

impl Cord {
    pub fn new(socket: UnixDatagram, hardware: [u8; 6]) -> Cord {
        Cord {
            socket,
            descriptor: true,
            mtu: MTU,
            hardware,
            queue: VecDeque::new(),
            stuck: false,
            buffer: vec![0; FRAME],
            statistics: Statistics::default(),
        }
    }
}

impl Backend for Cord {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            hardware_address: self.hardware,
            mtu: self.mtu,
            burst: 64,
        }
    }

    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&mut dyn Frame),
    ) -> io::Result<usize> {
        let mut frame = [0; FRAME];
        for taken in 0..budget {
            match self.socket.recv(&mut frame) {
                Ok(len) => sink(&mut &frame[..len]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(taken),
                Err(error) => return Err(error),
            }
            self.statistics.received += 1;
        }
        Ok(budget)
    }

    fn buffer(&mut self) -> Option<&mut [u8]> {
        (!self.stuck && self.queue.len() < QUEUE).then_some(&mut self.buffer[..])
    }

    fn commit(&mut self, len: usize) {
        self.queue.push_back(self.buffer[..len].to_vec());
    }

    fn flush(&mut self) -> io::Result<()> {
        while let Some(frame) = self.queue.front() {
            match self.socket.send(frame) {
                Ok(_) => self.statistics.transmitted += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    self.stuck = true;
                    return Ok(());
                }
                // Nobody at the other end.
                Err(_) => self.statistics.transmit_failed += 1,
            }
            self.queue.pop_front();
        }
        self.stuck = false;
        Ok(())
    }

    fn wait(&mut self, _: Option<Duration>) -> io::Result<()> {
        unreachable!("the engine polls")
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        self.descriptor.then(|| self.socket.as_fd())
    }

    fn statistics(&self) -> Statistics {
        self.statistics
    }
}
