//! How an ipOS device meets a network: one [`Backend`] per port.
//!
//! A backend moves whole Ethernet frames (without FCS) between one interface and its
//! caller. It knows nothing of ipOS; the engine polls it, the device never sees it.
//!
//! ```text
//!    interface --> receive(budget, sink)          one call a burst, frames lent, never blocks
//!                  peek(budget, sink)             before it, the same frames shown, where they are in memory
//!    interface <-- buffer() .. commit(len)        one call a frame, built in place
//!    interface <-- burst_buffer() .. commit_burst(..)   one call for many segments, where the port cuts them
//!    interface <-- forward(frame, ..)             one call a frame that another port has lent
//!                  flush()                        end of a burst
//!                  wait(timeout) | readiness()    until frames may have come
//! ```
//!
//! Receiving is lossy where the interface is: a backend whose ring is full drops the newest
//! frames and counts them in [`Backend::statistics`]. Transmitting is not: [`Backend::buffer`]
//! returns `None` when nothing can be queued, and the caller keeps what it has.
//!
//! ```
//! use ipos_backend::Backend;
//! use ipos_backend::memory::{Cable, Plan, Side};
//!
//! let cable = Cable::new(Plan::default());
//! let (mut near, mut far) = (cable.open(Side::Near)?, cable.open(Side::Far)?);
//! let buffer = near.buffer().ok_or("the transmit queue is full")?;
//! buffer[..60].fill(0);
//! near.commit(60);
//! near.flush()?;
//! let taken = far.receive(64, &mut |frame| assert_eq!(frame.bytes(), [0; 60]))?;
//! assert_eq!(taken, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A backend of your own has the methods that have no body here, and passes `conformance!` (feature `conformance`): two ends of a
//! link, and a test of each promise. [`memory`] is one to begin from.

#![forbid(unsafe_code)]

use std::any::Any;
use std::fmt;
use std::io;
use std::ops::Range;
use std::os::fd::BorrowedFd;
use std::time::Duration;

/// What one port of a backend can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capabilities {
    /// The interface's hardware address.
    pub hardware_address: [u8; 6],
    /// The largest IP packet that the interface carries, in bytes (Ethernet header not counted).
    pub mtu: u16,
    /// How many frames a [`Backend::receive`] call should ask for: more gain nothing.
    pub burst: usize,
}

/// What a port has done since it was opened. Every frame is counted once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Frames handed to the caller.
    pub received: u64,
    /// Frames given to the interface.
    pub transmitted: u64,
    /// Frames lost on receive: ring full, or larger than a buffer.
    pub receive_dropped: u64,
    /// Frames that the interface refused.
    pub transmit_failed: u64,
}

/// A received frame, lent to the sink of [`Backend::receive`].
pub trait Frame {
    /// The frame, from its Ethernet header on.
    fn bytes(&self) -> &[u8];

    /// What another port of the same backend needs to take the frame's buffer in [`Backend::forward`]: a type that only
    /// the backend knows. `None`: the buffer cannot be taken. A frame that was taken has no bytes any more.
    fn owner(&mut self) -> Option<&mut dyn Any> {
        None
    }
}

/// Bytes that are lent, and not more: what a backend without shared memory hands to the sink.
impl Frame for &[u8] {
    fn bytes(&self) -> &[u8] {
        self
    }
}

/// Why a frame was not queued.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The transmit queue is full.
    Full,
    /// The frame is larger than the port carries, or the part of it that was named is not there.
    Oversize,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Refused::Full => "the transmit queue is full: flush, or wait",
            Refused::Oversize => "the frame is larger than the port carries",
        })
    }
}

impl std::error::Error for Refused {}

/// One network port: whole Ethernet frames in and out.
///
/// No call but [`Backend::wait`] blocks. After an error of [`io::ErrorKind::NetworkDown`] the
/// port may be used again once the interface is up.
pub trait Backend {
    /// The port's properties; they do not change while it is open.
    fn capabilities(&self) -> Capabilities;

    /// Lends waiting frames to `sink`, in the order of arrival, until `budget` frames are taken from
    /// the interface or none wait any more, and returns how many were taken. A number below
    /// `budget` therefore means that the port was empty, as callers with edge-triggered polling need to know.
    ///
    /// Frames that this host itself sent through the interface are not among them. A frame is
    /// never truncated: one that does not fit is dropped and counted, and counts as taken.
    ///
    /// # Errors
    /// The interface is down or gone ([`io::ErrorKind::NetworkDown`]); told once each time it goes
    /// down, after which the port is just empty until the interface is up again. Frames lent before
    /// the error stay delivered.
    fn receive(&mut self, budget: usize, sink: &mut dyn FnMut(&mut dyn Frame))
    -> io::Result<usize>;

    /// Shows up to `budget` frames that the next [`Backend::receive`] will lend, in their order, and takes none: what a burst needs can be
    /// brought near before it is handled. To be followed by a receive of as many. A port shows what lies in memory already,
    /// or nothing.
    fn peek(&mut self, budget: usize, sink: &mut dyn FnMut(&[u8])) {
        let _ = (budget, sink);
    }

    /// The buffer in which the next frame may be built: at least the MTU plus 14 bytes long.
    /// `None` while the transmit queue is full. A second call without
    /// [`Backend::commit`] returns the same buffer.
    fn buffer(&mut self) -> Option<&mut [u8]>;

    /// Queues the first `len` bytes of the last [`Backend::buffer`] as one frame; a backend may send
    /// it at once. Frames shorter than the Ethernet minimum are padded by an interface whose medium asks
    /// for it. A call without a buffer, or with more bytes than it has, queues nothing and counts a failed frame.
    fn commit(&mut self, len: usize);

    /// Whether the port takes bursts ([`Backend::commit_burst`]).
    fn cuts_bursts(&self) -> bool {
        false
    }

    /// As [`Backend::buffer`], for a frame that may be a burst: of a port that cuts bursts it holds 65,535 bytes.
    fn burst_buffer(&mut self) -> Option<&mut [u8]> {
        self.buffer()
    }

    /// Queues the first `len` bytes of the last [`Backend::burst_buffer`] as one frame that leaves as segments, each with a right
    /// checksum; each must fit the MTU. What [`Backend::commit`] says of wrong calls holds here too, and a port that cuts no bursts
    /// takes none.
    fn commit_burst(&mut self, _len: usize, _burst: Burst) {
        // More than any buffer has: counted as failed.
        self.commit(usize::MAX);
    }

    /// Queues one frame: `headers`, then the part `payload` of a frame that another port has lent. It is copied unless the
    /// port shares its memory with the other one and finds room for the headers in front of the payload: then the buffer
    /// itself changes hands, and the lent frame is empty afterwards. A frame that is refused stays lent as it was.
    ///
    /// # Errors
    /// [`Refused`]: nothing was queued.
    fn forward(
        &mut self,
        frame: &mut dyn Frame,
        headers: &[u8],
        payload: Range<usize>,
    ) -> Result<(), Refused> {
        let payload = frame.bytes().get(payload).ok_or(Refused::Oversize)?;
        self.transmit(headers, payload)
    }

    /// Queues one frame made of two parts, which are copied.
    ///
    /// # Errors
    /// [`Refused`]: nothing was queued.
    fn transmit(&mut self, headers: &[u8], payload: &[u8]) -> Result<(), Refused> {
        let len = headers.len() + payload.len();
        let buffer = self.buffer().ok_or(Refused::Full)?;
        let frame = buffer.get_mut(..len).ok_or(Refused::Oversize)?;
        let (first, second) = frame.split_at_mut(headers.len());
        first.copy_from_slice(headers);
        second.copy_from_slice(payload);
        self.commit(len);
        Ok(())
    }

    /// Hands the queued frames to the interface, as many as it takes now; the others stay queued.
    ///
    /// # Errors
    /// The interface is down or gone ([`io::ErrorKind::NetworkDown`]); the frames that were queued
    /// are counted as failed.
    fn flush(&mut self) -> io::Result<()>;

    /// Blocks until frames may be waiting, or until there is room again after [`Backend::buffer`]
    /// returned `None`, for `timeout` at most (`None`: without limit). It may return early.
    ///
    /// # Errors
    /// The system cannot wait on this port. An interface that is down is told by [`Backend::receive`].
    fn wait(&mut self, timeout: Option<Duration>) -> io::Result<()>;

    /// A descriptor that is readable while frames wait, for callers that poll several ports and
    /// sockets at once. `None` where the backend has none: such a port is polled.
    fn readiness(&self) -> Option<BorrowedFd<'_>>;

    /// What happened so far.
    fn statistics(&self) -> Statistics;
}

pub mod burst;
#[cfg(feature = "conformance")]
pub mod conformance;
#[cfg(feature = "interface")]
pub mod interface;
pub mod memory;

pub use burst::Burst;
