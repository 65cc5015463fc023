//! The port: `pnet`'s channel behind the trait.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, IntoRawFd};
use std::time::Duration;

use ipos_backend::burst::{Cut, complete};
use ipos_backend::interface::{Interface, is_lost, name_error};
use ipos_backend::{Backend, Burst, Capabilities, Frame, Statistics};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use pnet_datalink::{
    Channel, ChannelType, Config, DataLinkReceiver, DataLinkSender, MacAddr, NetworkInterface,
};
use socket2::Socket;

use crate::virtio::{self, Left};
use crate::{Frames, NEEDS, OpenError, PnetOptions, direct, socket};

/// Bytes of an Ethernet header.
const ETHERNET: usize = 14;
/// Largest frame of [`Frames::Passing`]: the largest IP packet in a frame.
const LARGEST: usize = 65_535 + ETHERNET;
/// The longest burst, as a port lends its buffer.
const BURST_LEN: usize = u16::MAX as usize;
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
    /// Bytes of the header that goes with each frame; 0: there is none.
    head: usize,
    /// That header, and the frame to be sent.
    frame: Box<[u8]>,
    /// A received frame that is being finished.
    finished: Box<[u8]>,
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
    /// A frame of so many bytes, its header counted, that the socket has not taken yet.
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
            _ => usize::from(link.mtu) + ETHERNET,
        };
        let (head, longest) = match options.frames {
            Frames::Passing => (0, largest),
            Frames::None => (virtio::LEN, 0),
            Frames::Addressed | Frames::Arriving => (virtio::LEN, largest.max(LARGEST)),
        };
        let config = Config {
            write_buffer_size: 0,
            read_buffer_size: 0,
            channel_type: ChannelType::Layer2,
            promiscuous: matches!(options.frames, Frames::Arriving | Frames::Passing),
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
            buffer: vec![0; head + longest + 1].into_boxed_slice(),
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
            head,
            frame: vec![0; head + largest.max(BURST_LEN)].into_boxed_slice(),
            finished: vec![0; largest.min(longest)].into_boxed_slice(),
            slot: Slot::Free,
            fault: None,
            statistics: Statistics::default(),
        })
    }

    /// Sends a frame of `len` bytes, of `most` at most, behind this header.
    fn commit_with(&mut self, len: usize, most: usize, header: Option<[u8; virtio::LEN]>) {
        match header {
            Some(header) if self.slot == Slot::Lent && len <= most => {
                let (head, _) = self.frame.split_at_mut(self.head);
                head.copy_from_slice(&header[..self.head]);
                self.send(self.head + len);
            }
            _ => self.statistics.transmit_failed += 1,
        }
    }

    /// Bytes of the largest frame that the interface takes.
    fn mtu_frame(&self) -> usize {
        usize::from(self.capabilities.mtu) + ETHERNET
    }

    /// The room for a frame behind its header.
    fn lend(&mut self, len: usize) -> Option<&mut [u8]> {
        self.send_kept();
        if matches!(self.slot, Slot::Kept(_)) {
            return None;
        }
        self.slot = Slot::Lent;
        self.frame.get_mut(self.head..self.head + len)
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
            let bytes = match self.receiver.next() {
                Ok(bytes) => bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if is_not_yet(&error) => break,
                Err(error) => return Err(self.receive_error(error)),
            };
            taken += 1;
            let lent = match self.head {
                0 => finish(Left::Nothing, bytes, self.largest, &mut self.finished, sink),
                _ => virtio::split(bytes).map_or(0, |(left, frame)| {
                    finish(left, frame, self.largest, &mut self.finished, sink)
                }),
            };
            self.statistics.received += lent;
            self.statistics.receive_dropped += u64::from(lent == 0);
        }
        Ok(taken)
    }

    fn buffer(&mut self) -> Option<&mut [u8]> {
        self.lend(self.mtu_frame())
    }

    fn commit(&mut self, len: usize) {
        self.commit_with(len, self.mtu_frame(), Some([0; virtio::LEN]));
    }

    fn cuts_bursts(&self) -> bool {
        self.head > 0
    }

    fn burst_buffer(&mut self) -> Option<&mut [u8]> {
        self.lend(self.frame.len() - self.head)
    }

    fn commit_burst(&mut self, len: usize, burst: Burst) {
        let frame = self.frame.get(self.head..).and_then(|room| room.get(..len));
        let header = frame
            .filter(|_| self.head > 0)
            .and_then(|frame| virtio::of_burst(frame, burst));
        self.commit_with(len, BURST_LEN, header);
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

/// Lends a received frame to `sink` as a wire would carry it, of `largest` bytes at most, with `room` for what is made of it; how many frames that
/// were.
fn finish(
    left: Left,
    frame: &[u8],
    largest: usize,
    room: &mut [u8],
    sink: &mut dyn FnMut(&mut dyn Frame),
) -> u64 {
    match left {
        Left::Nothing if frame.len() <= largest => {
            sink(&mut &*frame);
            1
        }
        Left::Checksum { start, offset } => {
            let Some(whole) = room.get_mut(..frame.len()) else {
                return 0;
            };
            whole.copy_from_slice(frame);
            if !complete(whole, start, offset) {
                return 0;
            }
            sink(&mut &*whole);
            1
        }
        Left::Cut { segment } => {
            let words = frame
                .get(ETHERNET)
                .map_or(0, |first| u16::from(first & 0x0f));
            let transport = ETHERNET as u16 + words * 4;
            let Some(mut cut) = Cut::new(frame, Burst { transport, segment }) else {
                return 0;
            };
            let mut lent = 0;
            while let Some(len) = cut.next(frame, room) {
                sink(&mut &room[..len]);
                lent += 1;
            }
            lent
        }
        Left::Nothing | Left::Unknown => 0,
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
