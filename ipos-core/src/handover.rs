//! What the tables hold of a hand-over (FIG. 10B, 10C).
//!
//! ```text
//!   first server                         second server
//!   Pending + Migration   -- 0x01 -->    Installed
//!   Pending -> Forwarding <-- 0x03 --
//!   Kept packets          -- 0x02 -->    Installed, owner
//!   Kept dropped          <-- 0x03 --    (rcv_nxt covers them)
//! ```

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use arrayvec::ArrayVec;
use ipos_proto::{ENCAPSULATION_LEN, Epoch, MacAddr, SeqNum};

use crate::time::{Duration, Instant};

/// Packets of a client, as they came.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    packets: Vec<Box<[u8]>>,
    bytes: usize,
}

impl Kept {
    /// Whether a packet of `len` bytes may be kept within `bound` bytes.
    pub(crate) fn fits(&self, len: usize, bound: usize) -> bool {
        self.bytes + len <= bound
    }

    pub(crate) fn push(&mut self, packet: &[u8]) {
        self.bytes += packet.len();
        self.packets.push(packet.into());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.packets.iter().map(AsRef::as_ref)
    }
}

/// Another server's Port B, and the application's port there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) address: Ipv4Addr,
    pub(crate) hardware: MacAddr,
    pub(crate) port: u16,
}

/// Servers that one request may be offered to; then it is served here.
pub(crate) const OFFERS: usize = 2;

/// A temporary record: the server for its request is not settled.
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) endpoint: u32,
    /// Place of its listening socket.
    pub(crate) listener: usize,
    /// The SYN's TSval: replayed packets must pass PAWS.
    pub(crate) syn_tsval: u32,
    /// The request's packets.
    pub(crate) kept: Kept,
    /// The hand-over under way.
    pub(crate) migration: Option<Migration>,
    /// Servers that refused it or did not answer.
    pub(crate) tried: ArrayVec<Ipv4Addr, OFFERS>,
}

/// A hand-over under way: 0x01 is sent until 0x03 or REFUSE comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Migration {
    pub(crate) to: Target,
    pub(crate) epoch: Epoch,
    pub(crate) started: Instant,
    pub(crate) retry: Retry,
}

/// Repetition at doubling intervals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    pub(crate) sent: u8,
    interval: Duration,
}

/// behaviour: "start 2 ms, double".
const FIRST_INTERVAL: Duration = Duration::from_millis(2);
/// Kept packets are sent no more rarely than this.
const LONGEST_INTERVAL: Duration = Duration::from_millis(250);

impl Retry {
    /// After the first sending.
    pub(crate) fn new() -> Retry {
        Retry {
            sent: 1,
            interval: FIRST_INTERVAL,
        }
    }

    /// When it is due again.
    pub(crate) fn next(&self, now: Instant) -> Instant {
        now + self.interval
    }

    /// The next interval is twice as long, up to [`LONGEST_INTERVAL`].
    pub(crate) fn slower(&mut self) {
        self.interval = self.interval.saturating_mul(2).min(LONGEST_INTERVAL);
    }

    /// Counts a sending; `false` when `tries` are used up.
    pub(crate) fn again(&mut self, tries: u8) -> bool {
        if self.sent >= tries {
            return false;
        }
        self.sent += 1;
        self.interval = self.interval.saturating_mul(2);
        true
    }
}

/// A forward-connect record.
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) endpoint: u32,
    /// The first server: where the client's packets come from.
    pub(crate) from: Target,
    pub(crate) epoch: Epoch,
    /// The client's packets have come: this server answers it.
    pub(crate) owner: bool,
    /// What the first server has acknowledged to the client, and must be told of.
    pub(crate) cover: Option<SeqNum>,
}

/// What is left of a connection that has ended at its owner: late frames do not bring it back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tombstone {
    /// Tells the connection from a later one between the same ports.
    pub(crate) iss: SeqNum,
}

/// A forward record: 0x02 frames of the flow begin with these headers.
#[derive(Debug)]
pub(crate) struct Forwarding {
    pub(crate) headers: [u8; ENCAPSULATION_LEN],
    pub(crate) to: Ipv4Addr,
    pub(crate) epoch: Epoch,
    /// The last packet.
    pub(crate) used: Instant,
    /// The frame of a SYN among them: the client wants a new connection, which begins here when the old one is released.
    pub(crate) opening: Option<Box<[u8]>>,
    /// Request packets that the client will not send again.
    pub(crate) replay: Option<Box<Replaying>>,
}

/// Kept packets until the new owner has them.
#[derive(Debug)]
pub(crate) struct Replaying {
    pub(crate) kept: Kept,
    /// They are covered when the owner has received up to here.
    pub(crate) until: SeqNum,
    pub(crate) retry: Retry,
}
