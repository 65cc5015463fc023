//! Whose a connection is.

use std::collections::{BTreeMap, BTreeSet};

use ipos_proto::SeqNum;

/// Sequence numbers that a client uses on one connection, at the most.
pub(super) const USED: i32 = 1 << 24;

/// A connection.
#[derive(Default)]
pub(super) struct Ownership {
    /// The client's initial sequence number: another one is another connection.
    pub(super) isn: i32,
    /// That of the last other SYN that has come to the first server.
    pub(super) next: Option<i32>,
    /// The first server has sent a SYN-ACK: what passed before was of a former connection.
    pub(super) begun: bool,
    /// The server that transmits; `None` from its first 0x02 on until the next one does.
    pub(super) owner: Option<usize>,
    /// Servers that have the endpoint and were sent a packet of it.
    pub(super) granted: BTreeSet<usize>,
    /// The last offer that has reached each server.
    pub(super) offers: BTreeMap<usize, Offer>,
    /// The epoch of the offer by which each server became the owner last.
    pub(super) epochs: BTreeMap<usize, u32>,
    /// Servers that have crashed since they answered an offer; their 0x03 may be under way.
    pub(super) forgotten: BTreeSet<usize>,
    /// The server that the first one sends the client's packets to.
    pub(super) forwarded_to: Option<usize>,
    /// The last MOVED that has come to the first server, and that it has not answered.
    pub(super) told: Option<Told>,
    /// The epoch of the last one that it has followed.
    pub(super) followed: u32,
    /// Where other servers have passed the client's packets on to, last.
    pub(super) passed_to: BTreeMap<usize, usize>,
    /// The owner has released it.
    pub(super) ended: bool,
    /// The server that it was handed over to has let it lapse for want of a packet: the first server offers it again, or resets it.
    pub(super) lapsed: bool,
}

/// A 0x01.
#[derive(Clone, Copy)]
pub(super) struct Offer {
    pub(super) giver: usize,
    pub(super) epoch: u32,
    /// It was answered with 0x03.
    pub(super) answered: bool,
}

/// A MOVED: the first server follows when it knows who says so.
#[derive(Clone, Copy)]
pub(super) struct Told {
    pub(super) owner: usize,
    pub(super) epoch: u32,
}

impl Ownership {
    /// Whether a client's segment with this sequence number is of this connection, and not of another one between its ports.
    pub(super) fn uses(&self, seq: i32) -> bool {
        (0..=USED).contains(&seq.wrapping_sub(self.isn))
    }

    /// Whether what is said of a place in a client's stream is said of this connection, or of the SYN behind it.
    pub(super) fn is_at(&self, at: SeqNum) -> bool {
        let at = at.raw() as i32;
        self.next == Some(at) || self.uses(at)
    }

    /// Whether it is between two servers.
    pub(super) fn is_nobodys(&self) -> bool {
        self.owner.is_none() && self.granted.is_empty()
    }

    /// Whether the connection cannot go on without this server.
    pub(super) fn needs(&self, server: usize) -> bool {
        let under_way = |offer: &Offer| offer.answered || offer.giver == server;
        let between = self.is_nobodys()
            && (self.offers.get(&server).is_some_and(under_way)
                || self.offers.values().any(|offer| offer.giver == server));
        let owns = self.owner == Some(server) || self.granted.contains(&server);
        between || owns || self.path().any(|on| on == server)
    }

    /// The servers that the client's packets pass from the first one on. No server is passed twice.
    fn path(&self) -> impl Iterator<Item = usize> {
        let next = |on: &usize| self.passed_to.get(on).copied();
        std::iter::successors(self.forwarded_to, next).take(1 + self.passed_to.len())
    }

    /// The server has lost its state.
    pub(super) fn forget(&mut self, server: usize) {
        if self
            .offers
            .remove(&server)
            .is_some_and(|offer| offer.answered)
        {
            self.forgotten.insert(server);
        }
        // A new life begins with epochs of its own.
        self.epochs.remove(&server);
    }

    /// The first server answers a SYN. Whether it may.
    pub(super) fn begins(&mut self, server: usize, isn: i32) -> bool {
        let same = self.isn == isn;
        if self.begun && (same || self.next != Some(isn)) {
            // A late copy of the SYN of what has ended is answered as a new one (RFC 9293 §3.5).
            return same && (self.ended || self.lapsed || self.owner == Some(server));
        }
        let may = self.ended
            || self.lapsed
            || self.owner == Some(server)
            || self.granted.contains(&server);
        *self = Ownership {
            isn,
            begun: true,
            owner: Some(server),
            ..Ownership::default()
        };
        may
    }

    /// A server sends a 0x02 to another one. Whether that one has crashed in between.
    pub(super) fn hands_on(&mut self, server: usize, to: Option<usize>) -> bool {
        let granted = self.granted.remove(&server);
        let taken = to.and_then(|to| self.offers.get(&to));
        let gives = taken.is_some_and(|offer| offer.giver == server && offer.answered);
        if self.owner == Some(server) || granted && gives {
            self.owner = None;
            self.offers.remove(&server);
        } else if granted {
            // The packet came too late: it had forgotten the endpoint, and may be offered it again.
            self.epochs.remove(&server);
        }
        to.is_some_and(|to| self.forgotten.contains(&to))
    }
}
