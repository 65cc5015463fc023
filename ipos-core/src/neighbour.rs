//! Neighbours on the LANs of clients: hardware addresses by ARP (RFC 826).

use alloc::collections::BTreeSet;
use alloc::vec::Vec;
use core::net::Ipv4Addr;

use hashbrown::HashMap;
use ipos_proto::MacAddr;

use crate::event::Port;
use crate::inspect::NeighbourRow;
use crate::time::{Duration, Instant};

/// A confirmed address is used for so long; then it is asked for again, and used meanwhile.
const FRESH: Duration = Duration::from_secs(60);
/// Between two requests for one address.
const RETRY: Duration = Duration::from_millis(250);
/// An answer may take so long.
const ANSWER: Duration = Duration::from_secs(1);
/// Requests without an answer until the address counts as unreachable.
const TRIES: u8 = 6;

/// The next station on the way to a client.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Hop {
    /// The port that its LAN is at.
    pub(crate) port: Port,
    pub(crate) address: Ipv4Addr,
}

#[derive(Clone, Debug)]
struct Neighbour {
    hardware: Option<MacAddr>,
    /// Confirmed, or first asked for.
    since: Instant,
    used: Instant,
    /// The next request may go out then.
    retry: Instant,
    tries: u8,
    /// Who waits for the address.
    waiting: Vec<u32>,
}

impl Neighbour {
    fn asked_for(now: Instant) -> Neighbour {
        Neighbour {
            hardware: None,
            since: now,
            used: now,
            retry: now,
            tries: 0,
            waiting: Vec::new(),
        }
    }
}

/// The neighbour table. Bounded: the longest unused is replaced, but none that is asked for and may answer yet; then
/// the new one waits for room.
#[derive(Debug)]
pub(crate) struct Neighbours {
    table: HashMap<Hop, Neighbour, foldhash::fast::FixedState>,
    bound: usize,
    /// The earliest `retry` of an address that somebody waits for.
    next: Option<Instant>,
    /// Who waits for room in the table, from where on the next one has its turn, and when all look up again.
    crowded: BTreeSet<u32>,
    turn: u32,
    crowded_until: Option<Instant>,
    /// There is no room before.
    room_at: Instant,
    /// Who waited for an address that had to make room.
    evicted: Vec<u32>,
    /// Datagrams for addresses that are asked for.
    held: Vec<Held>,
}

/// A frame without its destination.
#[derive(Debug)]
struct Held {
    hop: Hop,
    since: Instant,
    frame: Vec<u8>,
}

/// How long, and how many, datagrams wait for an address. Full: dropped.
const HELD: Duration = Duration::from_secs(1);
const HELD_BOUND: usize = 256;

/// What is known of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lookup {
    /// Its hardware address, if known.
    pub(crate) hardware: Option<MacAddr>,
    /// A request should be sent.
    pub(crate) ask: bool,
}

/// What [`Neighbours::due`] gives.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Due {
    /// Addresses to ask for again.
    pub(crate) ask: Vec<Hop>,
    /// Who waited for an address that has not answered and is forgotten.
    pub(crate) given_up: Vec<u32>,
    /// Who waited for room, and may look up again.
    pub(crate) crowded: Vec<u32>,
}

impl Neighbours {
    pub(crate) fn new(bound: usize, seed: u64) -> Neighbours {
        let hasher = foldhash::fast::FixedState::with_seed(seed);
        Neighbours {
            table: HashMap::with_hasher(hasher),
            bound: bound.max(1),
            next: None,
            crowded: BTreeSet::new(),
            turn: 0,
            crowded_until: None,
            room_at: Instant::ZERO,
            evicted: Vec::new(),
            held: Vec::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn bound(&self) -> usize {
        self.bound
    }

    pub(crate) fn set_bound(&mut self, bound: usize) {
        self.bound = bound.max(1);
        self.room_at = Instant::ZERO;
    }

    /// All of them, in no order.
    pub(crate) fn iter(&self) -> impl Iterator<Item = NeighbourRow> {
        self.table.iter().map(|(hop, neighbour)| NeighbourRow {
            port: hop.port,
            address: hop.address,
            hardware: neighbour.hardware,
        })
    }

    /// Looks `hop` up for `who`, who is told by [`Neighbours::confirm`] when it was not known; or when there may be room, where
    /// there was none (`None`).
    pub(crate) fn lookup(&mut self, now: Instant, hop: Hop, who: u32) -> Option<Lookup> {
        let lookup = self.refresh(now, hop);
        match self.table.get_mut(&hop) {
            Some(neighbour) if neighbour.hardware.is_some() => {}
            Some(neighbour) => {
                if !neighbour.waiting.contains(&who) {
                    neighbour.waiting.push(who);
                }
                let retry = neighbour.retry;
                self.next = Some(self.next.map_or(retry, |next| next.min(retry)));
            }
            None => {
                self.crowded.insert(who);
                self.crowded_until.get_or_insert(now + RETRY);
            }
        }
        lookup
    }

    /// Looks `hop` up for somebody who does not wait. `None`: the table has no room for it.
    pub(crate) fn refresh(&mut self, now: Instant, hop: Hop) -> Option<Lookup> {
        if !self.table.contains_key(&hop) && !self.make_room(now) {
            return None;
        }
        let neighbour = self
            .table
            .entry(hop)
            .or_insert_with(|| Neighbour::asked_for(now));
        neighbour.used = now;
        let stale = neighbour.hardware.is_none() || now.saturating_since(neighbour.since) > FRESH;
        let ask = stale && neighbour.retry <= now;
        if ask {
            neighbour.retry = now + RETRY;
            neighbour.tries = neighbour.tries.saturating_add(1);
        }
        Some(Lookup {
            hardware: neighbour.hardware,
            ask,
        })
    }

    /// Keeps a frame for `hop`, which is asked for, until its hardware address is known, for a while. Whether there is room.
    pub(crate) fn hold(&mut self, now: Instant, hop: Hop, frame: Vec<u8>) -> bool {
        self.held
            .retain(|held| now.saturating_since(held.since) < HELD);
        let room = self.held.len() < HELD_BOUND;
        if room {
            self.held.push(Held {
                hop,
                since: now,
                frame,
            });
        }
        room
    }

    /// The frames that were kept for `hop`, with its hardware address.
    pub(crate) fn take_held(&mut self, hop: Hop, hardware: MacAddr) -> Vec<Vec<u8>> {
        let for_it = |held: &mut Held| held.hop == hop;
        let held = self.held.extract_if(.., for_it);
        let addressed = held.map(|Held { mut frame, .. }| {
            frame[..hardware.0.len()].copy_from_slice(&hardware.0);
            frame
        });
        addressed.collect()
    }

    /// The hardware address, where it is known.
    pub(crate) fn known(&mut self, now: Instant, hop: Hop) -> Option<MacAddr> {
        let neighbour = self.table.get_mut(&hop)?;
        neighbour.used = now;
        neighbour.hardware
    }

    /// `hop` is at `hardware`. Learnt where somebody has asked for it, or where `learn` says that it is of use
    /// (RFC 826: the target of a request). Returns those who waited for it, and one of those who wait for room.
    pub(crate) fn confirm(
        &mut self,
        now: Instant,
        hop: Hop,
        hardware: MacAddr,
        learn: bool,
    ) -> Vec<u32> {
        if learn && !self.table.contains_key(&hop) && self.make_room(now) {
            let fresh = Neighbour::asked_for(now);
            self.table.insert(hop, fresh);
        }
        let Some(neighbour) = self.table.get_mut(&hop) else {
            return Vec::new();
        };
        let answered = neighbour.hardware.replace(hardware).is_none();
        neighbour.since = now;
        neighbour.tries = 0;
        let mut waiting = core::mem::take(&mut neighbour.waiting);
        if answered {
            self.room_at = Instant::ZERO;
            waiting.extend(self.next_of_crowded());
        }
        waiting
    }

    /// Each has its turn.
    fn next_of_crowded(&mut self) -> Option<u32> {
        let behind = self.crowded.range(self.turn..).next();
        let next = *behind.or(self.crowded.first())?;
        self.turn = next.wrapping_add(1);
        self.crowded.take(&next)
    }

    /// All of them, in turn.
    fn all_of_crowded(&mut self) -> Vec<u32> {
        self.crowded_until = None;
        let before: Vec<u32> = self.crowded.range(..self.turn).copied().collect();
        let all: Vec<u32> = self
            .crowded
            .range(self.turn..)
            .copied()
            .chain(before)
            .collect();
        self.crowded.clear();
        self.turn = all.first().map_or(0, |first| first.wrapping_add(1));
        all
    }

    /// When [`Neighbours::due`] must be called.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        [self.next, self.crowded_until].into_iter().flatten().min()
    }

    /// What is to be done now.
    pub(crate) fn due(&mut self, now: Instant) -> Due {
        let crowded = match self.crowded_until {
            Some(until) if until <= now => self.all_of_crowded(),
            _ => Vec::new(),
        };
        if self.next.is_none_or(|next| next > now) {
            return Due {
                crowded,
                ..Due::default()
            };
        }
        let (mut ask, mut given_up) = (Vec::new(), core::mem::take(&mut self.evicted));
        self.table.retain(|hop, n| {
            if n.hardware.is_some() || n.retry > now {
                return true;
            }
            if n.tries >= TRIES || n.waiting.is_empty() {
                given_up.append(&mut n.waiting);
                return false;
            }
            n.tries += 1;
            n.retry = now + RETRY;
            ask.push(*hop);
            true
        });
        let pending = self.table.values().filter(|n| n.hardware.is_none());
        self.next = pending.map(|n| n.retry).min();
        ask.sort_unstable();
        given_up.sort_unstable();
        Due {
            ask,
            given_up,
            crowded,
        }
    }

    /// Whether there is room for one more.
    fn make_room(&mut self, now: Instant) -> bool {
        if self.table.len() < self.bound {
            return true;
        }
        if now < self.room_at {
            return false;
        }
        let may_answer =
            |n: &Neighbour| n.hardware.is_none() && now.saturating_since(n.since) < ANSWER;
        let oldest = self
            .table
            .iter()
            .filter(|(_, n)| !may_answer(n))
            .min_by_key(|(hop, n)| (n.used, **hop))
            .map(|(hop, _)| *hop);
        let Some(oldest) = oldest.and_then(|oldest| self.table.remove(&oldest)) else {
            let answers = self.table.values().map(|n| n.since + ANSWER);
            self.room_at = answers.min().unwrap_or(now);
            return false;
        };
        if !oldest.waiting.is_empty() {
            self.evicted.extend(oldest.waiting);
            self.next = Some(now);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const HOST: Hop = hop(Port::A, 100);

    const fn hop(port: Port, host: u8) -> Hop {
        let address = Ipv4Addr::new(10, 77, 0, host);
        Hop { port, address }
    }

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    #[test]
    fn asks_until_answered_and_wakes_who_waits() {
        let mut table = Neighbours::new(4, 1);
        assert_eq!(
            table.lookup(at(0), HOST, 7),
            Some(Lookup {
                hardware: None,
                ask: true,
            })
        );
        assert_eq!(
            table.lookup(at(1), HOST, 8),
            Some(Lookup {
                hardware: None,
                ask: false,
            })
        );
        assert!(table.due(at(100)).ask.is_empty());
        assert_eq!(table.due(at(250)).ask, [HOST]);
        assert_eq!(table.confirm(at(260), HOST, MAC, false), [7, 8]);
        assert_eq!(
            table.lookup(at(300), HOST, 7),
            Some(Lookup {
                hardware: Some(MAC),
                ask: false,
            })
        );
        assert!(table.due(at(10_000)).ask.is_empty());
        assert_eq!(table.timeout(), None);
        assert_eq!(
            table.lookup(at(61_000), HOST, 7),
            Some(Lookup {
                hardware: Some(MAC),
                ask: true,
            })
        );
    }

    #[test]
    fn an_address_that_never_answers_is_forgotten() {
        let mut table = Neighbours::new(4, 1);
        table.lookup(at(0), HOST, 7);
        let (mut asked, mut given_up) = (0, vec![]);
        while let Some(next) = table.timeout() {
            let due = table.due(next);
            asked += due.ask.len();
            given_up.extend(due.given_up);
        }
        assert_eq!((asked, table.len()), (usize::from(TRIES) - 1, 0));
        assert_eq!(given_up, [7]);
    }

    #[test]
    fn a_full_table_replaces_the_longest_unused() {
        let mut table = Neighbours::new(2, 1);
        let host = |n| hop(Port::A, n);
        for n in 1..=3 {
            table.confirm(at(n.into()), host(n), MAC, true);
        }
        assert_eq!(table.len(), 2);
        let mut found = |n| table.lookup(at(9), host(n), 0).unwrap().hardware;
        assert_eq!(found(1), None);
        assert_eq!(found(3), Some(MAC));
    }

    #[test]
    fn a_full_table_lets_its_requests_be_answered() {
        let mut table = Neighbours::new(1, 1);
        let other = hop(Port::A, 9);
        assert!(table.lookup(at(0), HOST, 1).unwrap().ask);
        assert_eq!(table.lookup(at(1), other, 2), None);
        assert_eq!(table.confirm(at(2), HOST, MAC, false), [1, 2]);
        assert!(table.lookup(at(3), other, 2).unwrap().ask);
        assert_eq!(table.lookup(at(4), HOST, 1), None);
        // That one does not answer.
        let due = table.due(at(254));
        assert_eq!((due.ask, due.crowded), (vec![other], vec![1]));
        assert_eq!(table.lookup(at(300), HOST, 1), None);
        assert!(table.lookup(at(1_003), HOST, 1).unwrap().ask);
        assert_eq!(table.due(at(1_003)).given_up, [2]);
    }

    #[test]
    fn who_waits_for_room_has_its_turn() {
        let mut table = Neighbours::new(1, 1);
        let mut turns = vec![];
        table.lookup(at(0), hop(Port::A, 0), 0);
        for now in 1..=8 {
            for who in 1..=4 {
                table.lookup(at(now), hop(Port::A, who as u8), who);
            }
            let asked = table.iter().next().unwrap().address;
            let asked = hop(Port::A, asked.octets()[3]);
            let next = table.confirm(at(now), asked, MAC, false).pop().unwrap();
            turns.push(next);
            table.lookup(at(now), hop(Port::A, next as u8), next);
        }
        assert_eq!(turns, [1, 2, 3, 4, 1, 2, 3, 4]);
    }

    #[test]
    fn one_address_on_two_lans_is_two_neighbours() {
        let mut table = Neighbours::new(4, 1);
        let at_c = hop(Port::C, 100);
        table.confirm(at(0), HOST, MAC, true);
        assert_eq!(table.lookup(at(1), at_c, 7).unwrap().hardware, None);
        assert!(table.take_held(at_c, MAC).is_empty());
        assert_eq!(table.confirm(at(2), at_c, MAC, false), [7]);
    }

    #[test]
    fn unasked_answers_are_not_learnt() {
        let mut table = Neighbours::new(4, 1);
        assert!(table.confirm(at(0), HOST, MAC, false).is_empty());
        assert_eq!(table.len(), 0);
    }
}
