//! What was given away.

use alloc::boxed::Box;
use core::net::{Ipv4Addr, SocketAddrV4};

use etherparse::TcpSlice;
use ipos_proto::{
    ConnectionInfo, ENCAPSULATION_LEN, ETHERNET_LEN, Epoch, MacAddr, SeqNum, Trailer,
};

use super::{Kept, Retry, Target};
use crate::config::Limits;
use crate::event::Port;
use crate::time::{Duration, Instant};

/// A forward record. What each packet needs comes first: in the flow table it shares the flow's cache line.
#[derive(Debug)]
#[repr(C)]
pub(crate) struct Forwarding {
    pub(crate) kind: Kind,
    /// 0x02 frames of the flow begin with them.
    pub(crate) headers: [u8; ENCAPSULATION_LEN],
    /// Where the client's stream was at the last packet that has come here.
    pub(crate) seq: SeqNum,
    /// What the client has acknowledged last: where a RST is believed.
    pub(crate) acknowledged: SeqNum,
    /// The last packet.
    pub(crate) used: Instant,
    pub(crate) epoch: Epoch,
    /// The owner's incarnation: a later one knows nothing of the connection. 0: not told.
    pub(crate) incarnation: u32,
    /// The client's initial sequence number: late copies of its SYN open nothing.
    pub(crate) irs: SeqNum,
    /// Request packets that the client will not send again.
    pub(crate) replay: Option<Box<Replaying>>,
    /// What only few records have; of the first server's one at most.
    pub(crate) aside: Option<Box<Aside>>,
}

/// The byte in which `Record` says what it is: one of its own would cost eight.
#[derive(Debug)]
#[repr(u8)]
pub(crate) enum Kind {
    Forward,
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
    /// So many bytes of it are what each packet needs.
    pub(crate) const HOT: usize = core::mem::offset_of!(Forwarding, epoch);

    /// Packets go where `headers` say.
    pub(crate) fn new(
        now: Instant,
        headers: [u8; ENCAPSULATION_LEN],
        epoch: Epoch,
        incarnation: u32,
    ) -> Forwarding {
        Forwarding {
            kind: Kind::Forward,
            headers,
            seq: SeqNum::default(),
            acknowledged: SeqNum::default(),
            used: now,
            epoch,
            incarnation,
            irs: SeqNum::default(),
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

    /// A packet of the client passes: where its stream is now.
    pub(crate) fn passes(&mut self, now: Instant, segment: &TcpSlice<'_>) {
        self.used = now;
        if segment.ack() {
            let seq = SeqNum::new(segment.sequence_number());
            self.seq = seq + segment.payload().len() as u32;
            self.acknowledges(SeqNum::new(segment.acknowledgment_number()));
        }
    }

    /// Whether a segment is the SYN of another connection between the same ports.
    pub(crate) fn is_followed_by(&self, segment: &TcpSlice<'_>) -> bool {
        let opens = segment.syn() && !segment.ack() && !segment.rst();
        opens && SeqNum::new(segment.sequence_number()) != self.irs
    }

    /// The client has acknowledged up to here. Packets overtake one another: an older one says nothing new.
    fn acknowledges(&mut self, up_to: SeqNum) {
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
            // Not so a stream that has gone round the numbers.
            let behind = |at: SeqNum| (0..=NEAR as i32).contains(&self.irs.since(at));
            let began = self.first().is_some() || !behind(received) || behind(self.seq);
            opens || began && received.since(self.seq).unsigned_abs() <= NEAR
        })
    }

    /// Whether a RELEASE can be for the flow: one that does not say where the connection was, and is of no epoch, answers MOVE.
    pub(crate) fn is_told(&self, trailer: Option<&Trailer>) -> bool {
        trailer.is_none_or(|trailer| {
            let unknown = trailer.epoch == Epoch::default();
            trailer.acknowledged().is_some() || unknown && self.asked().is_some()
        })
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
    /// How often in turn the client was found far beyond that.
    pub(crate) beyond: u8,
    pub(crate) retry: Retry,
}

#[cfg(test)]
mod tests {
    use ipos_proto::TrailerFlags;

    use super::*;

    /// A RELEASE or MOVED that tells how much of the client's stream was received.
    fn told(received: SeqNum) -> Trailer {
        Trailer {
            flags: TrailerFlags::RCV_NXT,
            epoch: Epoch::new(1),
            rcv_nxt: received,
            incarnation: 1,
            number: 1,
            tag: None,
        }
    }

    /// The client's stream is as long as it likes, and its connection is told from others of its port by its place in it.
    #[test]
    fn words_are_told_apart_by_their_place_in_the_stream() {
        let irs = SeqNum::new(1_000);
        for sent in [1, NEAR, 1 << 31, 3 << 30, u32::MAX - 10] {
            let mut forwarding =
                Forwarding::new(Instant::ZERO, [0; ENCAPSULATION_LEN], Epoch::new(1), 1);
            (forwarding.irs, forwarding.seq) = (irs, irs + sent);
            assert!(forwarding.is_of(&told(irs + sent)), "{sent}");
            assert!(!forwarding.is_of(&told(irs + sent + NEAR + 1)), "{sent}");
        }
        let mut young = Forwarding::new(Instant::ZERO, [0; ENCAPSULATION_LEN], Epoch::new(1), 1);
        (young.irs, young.seq) = (irs, irs + 100);
        // Of what has ended before: the SYN was passed on to its owner.
        assert!(!young.is_of(&told(irs)) && !young.is_of(&told(irs - 1)));
    }

    /// RELEASE that does not say where the connection was answers MOVE where nothing is known of it, of no epoch; and MOVED.
    #[test]
    fn an_answer_to_moved_ends_nothing_that_is_asked_about() {
        let mut forwarding =
            Forwarding::new(Instant::ZERO, [0; ENCAPSULATION_LEN], Epoch::new(1), 1);
        let unplaced = |epoch| Trailer {
            flags: TrailerFlags::empty(),
            epoch: Epoch::new(epoch),
            ..told(SeqNum::default())
        };
        assert!(!forwarding.is_told(Some(&unplaced(0))));
        forwarding.aside = Some(Box::new(Aside::Asked(Asked {
            target: SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80),
            retry: Retry::new(Instant::ZERO),
            tries: 1,
        })));
        assert!(forwarding.is_told(Some(&unplaced(0))));
        assert!(!forwarding.is_told(Some(&unplaced(1))));
    }
}
