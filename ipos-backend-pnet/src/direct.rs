//! The channel's two halves without a poll in front of every call: the socket does not block, and says itself when it
//! has nothing, or no room.

use std::io::{self, Read};

use pnet_datalink::{DataLinkReceiver, DataLinkSender, NetworkInterface};
use socket2::Socket;

/// Sends through a bound socket.
pub(crate) struct Sender(pub(crate) Socket);

impl DataLinkSender for Sender {
    fn build_and_send(
        &mut self,
        _packets: usize,
        _size: usize,
        _build: &mut dyn FnMut(&mut [u8]),
    ) -> Option<io::Result<()>> {
        None
    }

    fn send_to(
        &mut self,
        frame: &[u8],
        _interface: Option<NetworkInterface>,
    ) -> Option<io::Result<()>> {
        Some(self.0.send(frame).map(drop))
    }
}

/// Receives from a bound socket.
pub(crate) struct Receiver {
    pub(crate) socket: Socket,
    /// A longer frame is cut to this.
    pub(crate) buffer: Box<[u8]>,
}

impl DataLinkReceiver for Receiver {
    fn next(&mut self) -> io::Result<&[u8]> {
        let len = self.socket.read(&mut self.buffer)?;
        Ok(self.buffer.get(..len).unwrap_or_default())
    }
}
