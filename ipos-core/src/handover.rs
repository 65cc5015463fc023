//! What the tables hold of a hand-over (FIG. 10B, 10C).
//!
//! ```text
//!   first server                         second server
//!   Pending + Migration   -- 0x01 -->    Installed
//!   Pending -> Forwarding <-- 0x03 --
//!   Kept packets          -- 0x02 -->    Installed, owner
//!   Kept dropped          <-- 0x03 --    (rcv_nxt covers them)
//! ```
//!
//! A bound connection that moves on does the same, from its owner to the next one. An owner that is not the first server
//! passes on what still comes to it for a while; the next one tells the first server:
//!
//! ```text
//!   first server          owner                            next server
//!                         Pending, bound     -- 0x01 -->   Installed
//!                         Forwarding         <-- 0x03 --
//!                         Kept packets       -- 0x02 -->   Installed, owner
//!   Forwarding <-------------------------------- MOVED --
//!              -- 0x03 ------------------------------->
//! ```

mod forwarding;
mod installed;

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use arrayvec::ArrayVec;
use ipos_content::Inspector;
use ipos_proto::{Epoch, MacAddr, Trailer};

pub(crate) use self::forwarding::{Aside, Asked, Before, Forwarding, NEAR, Opening, Replaying};
pub(crate) use self::installed::{BEYOND, Datagrams, DatagramsInstalled, Installed, Tombstone};
use crate::content::Wanted;
use crate::event::Port;
use crate::members::Newest;
use crate::outbox::Outbox;
use crate::tcp::Replay;
use crate::time::{Duration, Instant};

/// Packets of a client, as they came.
#[derive(Debug, Default)]
pub(crate) struct Kept {
    packets: Vec<Box<[u8]>>,
    bytes: usize,
    /// Where the next turn begins.
    next: usize,
}

impl Kept {
    /// Bytes of all packets.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(crate) fn push(&mut self, packet: &[u8]) {
        self.bytes += packet.len();
        self.packets.push(packet.into());
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> + Clone {
        self.packets.iter().map(AsRef::as_ref)
    }

    /// Queues packets as 0x02: as many as there is room for, from where the last turn has ended, so that each has its
    /// turn. How many.
    pub(crate) fn send(&mut self, headers: &[u8], outbox: &mut Outbox) -> u64 {
        let (all, from) = (self.packets.len(), self.next);
        let some = outbox.room(Port::B).min(all);
        self.next = (from + some).checked_rem(all).unwrap_or(0);
        for packet in self.iter().cycle().skip(from).take(some) {
            outbox.push(Port::B, [headers, packet].concat());
        }
        some as u64
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

/// An endpoint whose server is not settled: a temporary record, or a bound endpoint that moves on.
#[derive(Debug)]
pub(crate) struct Pending {
    /// UDP has none.
    pub(crate) endpoint: Option<u32>,
    /// Place of its listening socket.
    pub(crate) listener: usize,
    /// The record that it had while it was bound; `None`: temporary.
    pub(crate) bound: Option<Bound>,
    /// Where the kept packets begin.
    pub(crate) replay: Replay,
    /// When the request began, while nothing was selected for it.
    pub(crate) asked: Option<Instant>,
    /// The request's packets.
    pub(crate) kept: Kept,
    /// The hand-over under way.
    pub(crate) migration: Option<Migration>,
    /// No other server than that of the hand-over is asked.
    pub(crate) only: bool,
    /// Servers that refused it or did not answer.
    pub(crate) tried: ArrayVec<Ipv4Addr, OFFERS>,
    /// Reads what the client asks for, while that is not known.
    pub(crate) inspector: Option<Box<Inspector>>,
    /// What the client asks for says which servers may get it.
    pub(crate) wanted: Wanted,
}

impl Pending {
    /// Its server is open, and nothing is kept.
    pub(crate) fn new(endpoint: Option<u32>, listener: usize, replay: Replay) -> Pending {
        Pending {
            endpoint,
            listener,
            bound: None,
            replay,
            asked: None,
            kept: Kept::default(),
            migration: None,
            only: false,
            tried: ArrayVec::new(),
            inspector: None,
            wanted: Wanted::default(),
        }
    }
}

/// The record of a bound endpoint, which it gets back when nobody takes it.
#[derive(Debug)]
pub(crate) enum Bound {
    /// Its client connected here, and it never left.
    Local,
    /// It was migrated here.
    Installed(Box<Installed>),
}

/// A hand-over under way: 0x01 is sent until 0x03 or REFUSE comes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Migration {
    pub(crate) to: Target,
    pub(crate) epoch: Epoch,
    pub(crate) started: Instant,
    pub(crate) retry: Retry,
    /// What the server had said last by then: what is not newer answers something else.
    pub(crate) newest: Option<Newest>,
}

impl Migration {
    /// Whether what the Port B with this hardware address says is an answer to the offer. One that says what was received
    /// is of kept packets.
    pub(crate) fn is_answered_by(&self, hardware: MacAddr, trailer: Option<&Trailer>) -> bool {
        let fits = |trailer: &Trailer| {
            trailer.epoch == self.epoch
                && trailer.acknowledged().is_none()
                && self.is_newer(trailer)
        };
        self.to.hardware == hardware && trailer.is_none_or(fits)
    }

    /// Whether what the Port B with this hardware address says is a refusal of the offer. Epoch 0: of a frame that could not be
    /// read as a whole.
    pub(crate) fn is_refused_by(&self, hardware: MacAddr, trailer: Option<&Trailer>) -> bool {
        let fits = |trailer: &Trailer| {
            let epoch = trailer.epoch;
            (epoch == self.epoch || epoch == Epoch::default()) && self.is_newer(trailer)
        };
        self.to.hardware == hardware && trailer.is_none_or(fits)
    }

    /// Whether a trailer may have been sent after the offer.
    pub(crate) fn is_newer(&self, trailer: &Trailer) -> bool {
        self.newest.is_none_or(|newest| newest.is_before(trailer))
    }
}

/// Repetition at doubling intervals.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    sent: u8,
    interval: Duration,
    /// When it is due again.
    pub(crate) due: Instant,
}

/// How often 0x01 is sent before another server is taken, and MOVE before it is given up.
pub(crate) const TRIES: u8 = 5;
/// How often an owner is asked whether an idle connection lives: for 3 s.
pub(crate) const IDLE_TRIES: u8 = 18;
/// Of 0x01 and what else is repeated until it is answered.
const FIRST_INTERVAL: Duration = Duration::from_millis(2);
/// What is repeated until it is answered is sent no more rarely than this.
const LONGEST_INTERVAL: Duration = Duration::from_millis(250);
/// The first server may be gone for long: a connection that waits for it is not in a hurry.
pub(crate) const LONGEST_MOVED: Duration = Duration::from_secs(10);

impl Retry {
    /// After the first sending.
    pub(crate) fn new(now: Instant) -> Retry {
        Retry {
            sent: 1,
            interval: FIRST_INTERVAL,
            due: now + FIRST_INTERVAL,
        }
    }

    /// Counts a sending: the next interval is twice as long, up to [`LONGEST_INTERVAL`].
    pub(crate) fn sent(&mut self, now: Instant) {
        self.sent_up_to(now, LONGEST_INTERVAL);
    }

    /// As [`Retry::sent`], with another longest interval.
    pub(crate) fn sent_up_to(&mut self, now: Instant, longest: Duration) {
        self.sent = self.sent.saturating_add(1);
        self.interval = self.interval.saturating_mul(2).min(longest);
        self.due = now + self.interval;
    }

    /// Whether it was sent so often.
    pub(crate) fn is_used_up(&self, tries: u8) -> bool {
        self.sent >= tries
    }
}
