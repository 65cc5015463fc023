//! The port: `pnet`'s channel behind the trait.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::time::Duration;

use ipos_backend::interface::{Interface, is_lost, name_error};
use ipos_backend::{Backend, Capabilities, Frame, Statistics};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use pnet_datalink::{
    Channel, ChannelType, Config, DataLinkReceiver, DataLinkSender, MacAddr, NetworkInterface,
};
use socket2::Socket;

use crate::{Frames, NEEDS, OpenError, PnetOptions, direct, socket};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Largest frame of [`Frames::Passing`]: the largest IP packet in a frame.
const LARGEST: usize = 65_535 + ETHERNET;
/// Frames a call: the raw socket gains nothing from more, and the caller's other ports wait meanwhile.
const BURST: usize = 64;

/// One port on a raw socket.
///
/// `commit` sends at once; one frame is kept when the socket's send buffer is full, and
/// until it is gone [`Backend::buffer`] returns `None`. [`Backend::wait`] then also
/// returns when there is room.
pub struct PnetBackend {
    interface: String,
    capabilities: Capabilities,
    /// The same socket as the channel's, to wait on and to ask.
    socket: Socket,
    sender: Box<dyn DataLinkSender>,
    receiver: Box<dyn DataLinkReceiver>,
    /// Frames above this many bytes are dropped.
    largest: usize,
    frame: Box<[u8]>,
    slot: Slot,
    /// Why frames could not be sent, until `flush` reports it.
    fault: Option<io::Error>,
    statistics: Statistics,
}

/// What the transmit buffer holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    /// Nothing.
    Free,
    /// What the caller builds.
    Lent,
    /// A frame of so many bytes that the socket has not taken yet.
    Kept(usize),
}

impl PnetBackend {
    /// Opens `interface` of the calling thread's network namespace. The port may then be used from any thread.
    ///
    /// # Errors
    /// [`OpenError`]: no such interface, not Ethernet, down, or no right to open raw sockets.
    pub fn open(interface: &str, options: PnetOptions) -> Result<Self, OpenError> {
        let link = Interface::query(interface)?;
        let fails = |action| move |error| OpenError::system(interface, action, NEEDS, error);
        let socket = socket::open(&options).map_err(fails("open a raw socket"))?;
        let duplicate = socket
            .try_clone()
            .map_err(fails("duplicate the raw socket"))?;
        let largest = match options.frames {
            Frames::Passing => LARGEST,
            Frames::Addressed | Frames::Arriving => usize::from(link.mtu) + ETHERNET,
        };
        let config = Config {
            write_buffer_size: 0,
            read_buffer_size: 0,
            channel_type: ChannelType::Layer2,
            promiscuous: options.frames != Frames::Addressed,
            // From here on the descriptor is the channel's, which closes it: the duplicates keep the socket open.
            socket_fd: Some(socket.into_raw_fd()),
            ..Config::default()
        };
        let channel = pnet_datalink::channel(&describe(interface, &link), config)
            .map_err(fails("bind a raw socket"))?;
        let Channel::Ethernet(..) = channel else {
            let error = io::Error::from(io::ErrorKind::Unsupported);
            return Err(fails("open an Ethernet channel")(error));
        };
        let half = || {
            duplicate
                .try_clone()
                .map_err(fails("duplicate the raw socket"))
        };
        let sender = direct::Sender(half()?);
        let receiver = direct::Receiver {
            socket: half()?,
            // One byte more than the largest frame: a longer one, cut to this, is recognised by it.
            buffer: vec![0; largest + 1].into_boxed_slice(),
        };
        Ok(Self {
            interface: interface.to_owned(),
            capabilities: Capabilities {
                hardware_address: link.hardware_address,
                mtu: link.mtu,
                burst: BURST,
            },
            socket: duplicate,
            sender: Box::new(sender),
            receiver: Box::new(receiver),
            largest,
            frame: vec![0; usize::from(link.mtu) + ETHERNET].into_boxed_slice(),
            slot: Slot::Free,
            fault: None,
            statistics: Statistics::default(),
        })
    }

    /// Gives the first `len` bytes of the buffer to the socket.
    fn send(&mut self, len: usize) {
        let mut result = self.sender.send_to(&self.frame[..len], None);
        if matches!(&result, Some(Err(error)) if is_lost(error)) {
            // The first call after the interface went down returns the socket's pending error, though the
            // interface may be up again by now. The second one tells how it is.
            result = self.sender.send_to(&self.frame[..len], None);
        }
        self.slot = Slot::Free;
        match result {
            Some(Ok(())) => self.statistics.transmitted += 1,
            Some(Err(error)) if is_not_yet(&error) => self.slot = Slot::Kept(len),
            Some(Err(error)) => {
                self.statistics.transmit_failed += 1;
                if is_lost(&error) {
                    self.fault = Some(name_error(&self.interface, &error));
                }
            }
            // pnet's way to say that it has no buffer; on Linux it needs none.
            None => self.statistics.transmit_failed += 1,
        }
    }

    /// Sends the kept frame if the socket takes it now.
    fn send_kept(&mut self) {
        if let Slot::Kept(len) = self.slot {
            self.send(len);
        }
    }

    /// What a failed receive means.
    fn receive_error(&self, error: io::Error) -> io::Error {
        match self.socket.take_error() {
            Ok(Some(pending)) => name_error(&self.interface, &pending),
            Ok(None) | Err(_) => name_error(&self.interface, &error),
        }
    }
}

impl Backend for PnetBackend {
    fn capabilities(&self) -> Capabilities {
        self.capabilities
    }

    fn receive(
        &mut self,
        budget: usize,
        sink: &mut dyn FnMut(&mut dyn Frame),
    ) -> io::Result<usize> {
        let mut taken = 0;
        while taken < budget {
            match self.receiver.next() {
                Ok(mut frame) if frame.len() <= self.largest => {
                    sink(&mut frame);
                    self.statistics.received += 1;
                    taken += 1;
                }
                Ok(_) => {
                    self.statistics.receive_dropped += 1;
                    taken += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_not_yet(&error) => break,
                Err(error) => return Err(self.receive_error(error)),
            }
        }
        Ok(taken)
    }

    fn buffer(&mut self) -> Option<&mut [u8]> {
        self.send_kept();
        if matches!(self.slot, Slot::Kept(_)) {
            return None;
        }
        self.slot = Slot::Lent;
        Some(&mut self.frame)
    }

    fn commit(&mut self, len: usize) {
        if self.slot == Slot::Lent && len <= self.frame.len() {
            self.send(len);
        } else {
            self.statistics.transmit_failed += 1;
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.send_kept();
        self.fault.take().map_or(Ok(()), Err)
    }

    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()> {
        let mut events = PollFlags::POLLIN;
        if matches!(self.slot, Slot::Kept(_)) {
            events |= PollFlags::POLLOUT;
        }
        // What does not fit the system call's seconds is as good as no limit.
        let timeout = timeout
            .filter(|limit| i32::try_from(limit.as_secs()).is_ok())
            .map(TimeSpec::from_duration);
        match ppoll(
            &mut [PollFd::new(self.socket.as_fd(), events)],
            timeout,
            None,
        ) {
            Ok(_) | Err(Errno::EINTR) => Ok(()),
            Err(error) => Err(name_error(&self.interface, &error.into())),
        }
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        Some(self.socket.as_fd())
    }

    fn statistics(&self) -> Statistics {
        let mut statistics = self.statistics;
        statistics.receive_dropped += socket::dropped(&self.socket);
        statistics
    }
}

/// The interface as pnet wants it described; only the index and the address matter to it.
fn describe(interface: &str, link: &Interface) -> NetworkInterface {
    let [a, b, c, d, e, f] = link.hardware_address;
    NetworkInterface {
        name: interface.to_owned(),
        description: String::new(),
        index: link.index,
        mac: Some(MacAddr(a, b, c, d, e, f)),
        ips: Vec::new(),
        flags: 0,
    }
}

/// Nothing to read, or no room to write, at the moment.
fn is_not_yet(error: &io::Error) -> bool {
    use io::ErrorKind::{Interrupted, TimedOut, WouldBlock};
    matches!(error.kind(), TimedOut | WouldBlock | Interrupted)
}

#[cfg(test)]
mod tests;
