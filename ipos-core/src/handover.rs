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

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use arrayvec::ArrayVec;
use ipos_content::Inspector;
use ipos_proto::{
    ConnectionInfo, ControlBlock, ENCAPSULATION_LEN, ETHERNET_LEN, Epoch, MacAddr, SeqNum, Trailer,
};

use crate::config::Limits;
use crate::content::Wanted;
use crate::event::Port;
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
    /// The newest trailer that the server had sent by then: what is not newer answers something else.
    pub(crate) newest: Option<u32>,
}

impl Migration {
    /// Whether what the Port B with this hardware address says is an answer to the offer. One that says what was received
    /// is of kept packets.
    pub(crate) fn is_answered_by(&self, hardware: MacAddr, trailer: Option<&Trailer>) -> bool {
        let fits = |trailer: &Trailer| {
            trailer.epoch == self.epoch
                && trailer.acknowledged().is_none()
                && self.is_newer(trailer.number)
        };
        self.to.hardware == hardware && trailer.is_none_or(fits)
    }

    /// Whether what the Port B with this hardware address says is a refusal of the offer. Epoch 0: of a frame that could not be
    /// read as a whole.
    pub(crate) fn is_refused_by(&self, hardware: MacAddr, trailer: Option<&Trailer>) -> bool {
        let fits = |trailer: &Trailer| {
            let epoch = trailer.epoch;
            (epoch == self.epoch || epoch == Epoch::default()) && self.is_newer(trailer.number)
        };
        self.to.hardware == hardware && trailer.is_none_or(fits)
    }

    /// Whether a trailer with this number may have been sent after the offer.
    pub(crate) fn is_newer(&self, number: u32) -> bool {
        let behind = |newest: u32| number.wrapping_sub(newest) as i32 > 0;
        self.newest.is_none_or(behind)
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
/// behaviour: "start 2 ms, double".
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

/// A forward-connect record; of a connection that has come home, a local one.
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) endpoint: u32,
    /// The first server: where the client's packets come from.
    pub(crate) first: Target,
    /// The first server's incarnation, where it has handed the endpoint over itself, or answered MOVED. 0: not told.
    pub(crate) incarnation: u32,
    /// The server that handed the endpoint over: it replays what it has kept.
    pub(crate) giver: Target,
    pub(crate) epoch: Epoch,
    /// The giver's packets have come: this server answers the client.
    pub(crate) owner: Option<Instant>,
    /// MOVED is repeated until the first server's record has followed.
    pub(crate) moved: Option<Retry>,
    /// What the giver has acknowledged to the client, and must be told of.
    pub(crate) cover: Option<SeqNum>,
    /// Where nothing was replayed: number and acknowledgment of the segment that came instead.
    pub(crate) last_word: Option<(SeqNum, SeqNum)>,
    /// The client connected here: its packets come through Port A.
    pub(crate) home: bool,
    /// Where the packets go until this server is the owner, when the flow was given away from here before.
    pub(crate) back: Option<Box<Forwarding>>,
}

/// A UDP flow of this server.
#[derive(Debug)]
pub(crate) struct Datagrams {
    /// Place of its listening socket.
    pub(crate) listener: usize,
    /// The last datagram, either way.
    pub(crate) used: Instant,
    /// It was migrated here.
    pub(crate) installed: Option<DatagramsInstalled>,
}

/// Where the datagrams of a migrated UDP flow come from.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DatagramsInstalled {
    pub(crate) first: Target,
    pub(crate) epoch: Epoch,
    /// They have come: this server answers the client.
    pub(crate) owner: bool,
}

/// What is left of a connection that has ended at its owner: late frames do not bring it back. And of an endpoint whose
/// packets never came: only its own 0x01 brings that one back.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tombstone {
    /// This server, or the one that it was given to, has answered the client.
    pub(crate) owned: bool,
    /// Tells the connection from a later one between the same ports.
    pub(crate) irs: SeqNum,
    /// Where the endpoint was here at last: it tells more surely.
    pub(crate) iss: Option<SeqNum>,
    /// Of its last owner.
    pub(crate) epoch: Epoch,
    /// What the client has acknowledged of it: a later connection between the same ports begins behind.
    pub(crate) acknowledged: SeqNum,
}

impl Tombstone {
    /// Whether a control block is of this connection.
    pub(crate) fn is_of(&self, control: &ControlBlock) -> bool {
        match self.iss {
            Some(iss) => iss == control.iss,
            None => self.irs == control.irs,
        }
    }
}

impl Installed {
    /// Place in [`TABLES`](crate::flow_table::TABLES): a connection that has come home is local.
    pub(crate) fn table(&self) -> usize {
        if self.home { 1 } else { 2 }
    }

    /// Whether the client's packets come from the Port B with this hardware address.
    pub(crate) fn comes_from(&self, hardware: MacAddr) -> bool {
        self.first.hardware == hardware || self.giver.hardware == hardware
    }
}

/// A forward record: 0x02 frames of the flow begin with these headers.
#[derive(Debug)]
pub(crate) struct Forwarding {
    pub(crate) headers: [u8; ENCAPSULATION_LEN],
    pub(crate) epoch: Epoch,
    /// The owner's incarnation: a later one knows nothing of the connection. 0: not told.
    pub(crate) incarnation: u32,
    /// The last packet.
    pub(crate) used: Instant,
    /// What the client has acknowledged last: where a RST is believed.
    pub(crate) acknowledged: SeqNum,
    /// The client's initial sequence number: late copies of its SYN open nothing.
    pub(crate) irs: SeqNum,
    /// Where the client's stream was at the last packet that has come here.
    pub(crate) seq: SeqNum,
    /// Request packets that the client will not send again.
    pub(crate) replay: Option<Box<Replaying>>,
    /// What only few records have; of the first server's one at most.
    pub(crate) aside: Option<Box<Aside>>,
}

/// What a forward record may have besides.
#[derive(Debug)]
pub(crate) enum Aside {
    /// This server is not the first one: packets come from there until its record has followed.
    First(Before),
    /// The client wants a new connection, which begins here when this one is released.
    Opening(Opening),
    /// The owner is asked to move the connection on, or whether it lives.
    Asked(Asked),
}

/// Where the packets come from of a connection that was given here and given on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Before {
    pub(crate) first: Target,
    /// The server that gave it, and passes on what still comes to it.
    pub(crate) giver: MacAddr,
}

/// MOVE is repeated until it is answered.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Asked {
    /// The server that the connection shall move to; its owner, where it is only asked whether it lives.
    pub(crate) target: SocketAddrV4,
    pub(crate) retry: Retry,
    /// How often it is sent.
    pub(crate) tries: u8,
}

impl Forwarding {
    /// Packets go where `headers` say.
    pub(crate) fn new(
        now: Instant,
        headers: [u8; ENCAPSULATION_LEN],
        epoch: Epoch,
        incarnation: u32,
    ) -> Forwarding {
        Forwarding {
            headers,
            epoch,
            incarnation,
            used: now,
            acknowledged: SeqNum::default(),
            irs: SeqNum::default(),
            seq: SeqNum::default(),
            replay: None,
            aside: None,
        }
    }

    /// The first server, where this is another one.
    pub(crate) fn first(&self) -> Option<Target> {
        self.before().map(|before| before.first)
    }

    fn before(&self) -> Option<Before> {
        match self.aside.as_deref() {
            Some(Aside::First(before)) => Some(*before),
            _ => None,
        }
    }

    /// The client has acknowledged up to here. Packets overtake one another: an older one says nothing new.
    pub(crate) fn acknowledges(&mut self, up_to: SeqNum) {
        let further = up_to.since(self.acknowledged);
        if (1..=LARGEST_WINDOW).contains(&further) {
            self.acknowledged = up_to;
        }
    }

    /// The new connection that waits for this one's end, if any.
    pub(crate) fn take_opening(&mut self) -> Option<Opening> {
        match self.aside.take().map(|aside| *aside) {
            Some(Aside::Opening(opening)) => Some(opening),
            other => {
                self.aside = other.map(Box::new);
                None
            }
        }
    }

    pub(crate) fn asked(&self) -> Option<&Asked> {
        match self.aside.as_deref() {
            Some(Aside::Asked(asked)) => Some(asked),
            _ => None,
        }
    }

    /// Whether what a trailer says to be received can be of this connection, and is not of another one of the client's port:
    /// the client's packets pass the first server, and others as long as they come there.
    pub(crate) fn is_of(&self, trailer: &Trailer) -> bool {
        trailer.acknowledged().is_none_or(|received| {
            // Or it answers the SYN that waits for this connection's end.
            let opens =
                matches!(self.aside.as_deref(), Some(Aside::Opening(o)) if o.seq == received);
            // Its owner has received more than the SYN: that is said of what has ended before, where the SYN was passed on to.
            let began = self.first().is_some() || received.gt(self.irs);
            opens || began && received.since(self.seq).unsigned_abs() <= NEAR
        })
    }

    /// Whether a RELEASE can be for the flow: one that does not say where the connection was answers MOVE.
    pub(crate) fn is_told(&self, trailer: Option<&Trailer>) -> bool {
        let placed = |trailer: &Trailer| trailer.acknowledged().is_some();
        trailer.is_none_or(placed) || self.asked().is_some()
    }

    /// Whether a REFUSE can be for the kept offer.
    pub(crate) fn is_refused_by(&self, trailer: Option<&Trailer>) -> bool {
        let fits = |t: &Trailer| t.epoch == self.epoch || t.epoch == Epoch::default();
        trailer.is_none_or(fits) && self.replay.as_ref().is_some_and(|r| r.offer.is_some())
    }

    /// The owner's Port B.
    pub(crate) fn to(&self) -> Target {
        let [a0, a1, a2, a3, a4, a5, ..] = self.headers;
        let at = ETHERNET_LEN + DESTINATION_AT;
        let [b0, b1, b2, b3, p0, p1] = *self.headers[at..].first_chunk().unwrap_or(&[0; 6]);
        Target {
            address: Ipv4Addr::new(b0, b1, b2, b3),
            hardware: MacAddr([a0, a1, a2, a3, a4, a5]),
            port: u16::from_be_bytes([p0, p1]),
        }
    }

    /// Whether packets go to, or come from, the Port B with this hardware address.
    pub(crate) fn concerns(&self, hardware: MacAddr) -> bool {
        // Its frames begin with their destination.
        self.headers.starts_with(&hardware.0)
            || self
                .before()
                .is_some_and(|before| before.first.hardware == hardware || before.giver == hardware)
    }

    /// How long the record lives without a packet.
    pub(crate) fn idle(&self, limits: &Limits) -> Duration {
        match self.first() {
            None => limits.forward_idle,
            Some(_) if self.replay.is_some() => limits.replay(),
            Some(_) => limits.tombstone,
        }
    }

    /// When the kept packets or MOVE are to be repeated, or the record to be dropped, which lives so long without a packet.
    pub(crate) fn deadline(&self, idle: Duration) -> Instant {
        let replay = self.replay.as_ref().map(|replay| replay.retry.due);
        let asked = self.asked().map(|asked| asked.retry.due);
        // Who is asked may show that the connection lives.
        let idle = asked.unwrap_or(self.used + idle);
        replay.map_or(idle, |replay| replay.min(idle))
    }
}

/// The SYN of a client that uses its port again.
#[derive(Debug)]
pub(crate) struct Opening {
    pub(crate) at: Instant,
    /// It came in by this one.
    pub(crate) port: Port,
    /// The SYN's sequence number.
    pub(crate) seq: SeqNum,
    pub(crate) frame: Box<[u8]>,
}

/// Bytes between what an owner has received and the client's last packet: a window, and packets that were lost.
pub(crate) const NEAR: u32 = 1 << 22;
/// RFC 7323 §2.3.
const LARGEST_WINDOW: i32 = 1 << 30;
/// Where the destination stands in the ipOS header.
const DESTINATION_AT: usize = 6;

/// Kept packets until the new owner has them.
#[derive(Debug)]
pub(crate) struct Replaying {
    /// The 0x01 that was answered, and what it said was received here: a server that has forgotten it meanwhile installs the
    /// endpoint again.
    pub(crate) offer: Option<(ConnectionInfo, SeqNum)>,
    /// Until then: later the server may have forgotten that the connection has ended.
    pub(crate) offer_until: Instant,
    /// From then on a REFUSE is believed: there may be room before.
    pub(crate) refusable: Instant,
    pub(crate) kept: Kept,
    /// They are covered when the owner has received up to here.
    pub(crate) until: SeqNum,
    pub(crate) retry: Retry,
}
