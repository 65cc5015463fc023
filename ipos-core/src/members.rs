//! The server state table (FIG. 12): who is in the farm, and how loaded.

mod willingness;

use alloc::collections::VecDeque;
use alloc::string::String;
use alloc::vec::Vec;
use core::cmp::Ordering;
use core::net::Ipv4Addr;

use ipos_proto::synch::SynchHeader;
use ipos_proto::{MacAddr, Trailer};

use crate::config::Listen;
use crate::inspect::Load;
use crate::time::{Duration, Instant};
use willingness::Willingness;

/// What another server has told of itself.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// Its Synch address: the table's key.
    pub(crate) synch: Ipv4Addr,
    pub(crate) name: String,
    pub(crate) port_b: Ipv4Addr,
    pub(crate) hardware: MacAddr,
    /// The addresses that clients reach it at.
    pub(crate) port_a: Vec<Ipv4Addr>,
    pub(crate) connections: u32,
    pub(crate) load: Load,
    pub(crate) draining: bool,
    pub(crate) listen: Vec<Listen>,
    pub(crate) incarnation: u32,
    /// Sequence number of the last report of each priority.
    pub(crate) sequence: [Option<u32>; 3],
    /// The parts of a medium-priority report that have come so far.
    pub(crate) partial: Vec<Listen>,
    /// The part of a report of each priority that comes next.
    pub(crate) next_part: [u8; 3],
    pub(crate) heard: Instant,
    /// The last frame from its Port B.
    pub(crate) heard_on_b: Instant,
    /// When it was first asked whether it lives, since it was last seen.
    pub(crate) asked: Option<Instant>,
    /// When it came (back) into the farm; `None`: it was there before this server.
    pub(crate) since: Option<Instant>,
    /// How it takes what is offered to it.
    pub(crate) willingness: Willingness,
    /// Of its trailers.
    pub(crate) counter: Counter,
    /// It has been silent for so long that it counts as gone.
    pub(crate) lost: bool,
    /// It has said that it leaves: kept so that an older message does not bring it back.
    pub(crate) left: bool,
    /// It counts as up: the host was told so.
    pub(crate) up: bool,
    /// It has begun a life since this server did, and was not up in it yet.
    pub(crate) newcomer: bool,
    /// Connections sent to it since its last advert.
    pub(crate) sent: u32,
    /// Requests for which it was selected.
    pub(crate) selected: u64,
    /// Sum of the probabilities that the policy gave to it.
    pub(crate) expected: f64,
}

/// Which trailers of a server have come: each counts once (RFC 4303 §3.4.3).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counter {
    newest: u32,
    /// The newest and the 127 before it; 0: none has come.
    seen: u128,
    /// The last one that was too far ahead to be believed alone.
    far: Option<u32>,
}

/// A number that is further ahead is believed when the next one agrees (RFC 3550 A.1): the bits of one may be broken.
const FAR: u32 = 1 << 16;

impl Counter {
    /// The newest number that has come, if any.
    fn newest(&self) -> Option<u32> {
        (self.seen != 0).then_some(self.newest)
    }

    /// Whether a trailer is new; it is not from now on. `signed`: a right tag vouches for its bits.
    fn take(&mut self, number: u32, signed: bool) -> bool {
        let far = self.far.take();
        let ahead = number.wrapping_sub(self.newest) as i32;
        if !signed && self.seen != 0 && ahead.unsigned_abs() > FAR {
            let agrees = far.is_some_and(|far| (1..FAR).contains(&number.wrapping_sub(far)));
            if !agrees {
                self.far = Some(number);
                return false;
            }
            self.seen = 0;
        }
        if self.seen == 0 {
            *self = Counter {
                newest: number,
                seen: 1,
                far: None,
            };
            return true;
        }
        if ahead > 0 {
            self.seen = self.seen.checked_shl(ahead as u32).unwrap_or(0) | 1;
            self.newest = number;
            return true;
        }
        let bit = 1_u128.checked_shl(ahead.unsigned_abs()).unwrap_or(0);
        let new = bit != 0 && self.seen & bit == 0;
        self.seen |= bit;
        new
    }
}

/// A place in what a server says on Port B.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Newest {
    incarnation: u32,
    number: u32,
}

impl Newest {
    /// Whether a trailer of the same server comes behind it.
    pub(crate) fn is_before(&self, trailer: &Trailer) -> bool {
        let behind = trailer.number.wrapping_sub(self.number) as i32 > 0;
        trailer.incarnation != self.incarnation || behind
    }
}

impl Member {
    /// Whether a trailer is of this life, and has not come before. Only the Synch LAN tells of a later life, so that a broken
    /// frame ends none: until it does, what says so is taken, and does not count. Not what is `signed`: those bits are not broken,
    /// but they may be another server's.
    pub(crate) fn takes(&mut self, trailer: &Trailer, signed: bool) -> bool {
        match trailer.incarnation.cmp(&self.incarnation) {
            Ordering::Less => false,
            Ordering::Equal => self.counter.take(trailer.number, signed),
            Ordering::Greater => !signed,
        }
    }

    /// The newest that it has said on Port B, if anything.
    pub(crate) fn newest(&self) -> Option<Newest> {
        let number = self.counter.newest()?;
        Some(Newest {
            incarnation: self.incarnation,
            number,
        })
    }

    /// Whether it has been heard within the silence time.
    pub(crate) fn is_alive(&self, now: Instant, silence: Duration) -> bool {
        !self.left && self.is_identified() && now.saturating_since(self.heard) <= silence
    }

    /// The last sign of life, on either port.
    pub(crate) fn seen(&self) -> Instant {
        self.heard.max(self.heard_on_b)
    }

    /// It is silent and is asked now: since when, without an answer.
    pub(crate) fn ask(&mut self, now: Instant) -> Instant {
        let seen = self.seen();
        let asked = self.asked.filter(|asked| *asked > seen);
        *self.asked.insert(asked.unwrap_or(now))
    }

    /// Whether it has told where its Port B is.
    pub(crate) fn is_identified(&self) -> bool {
        !self.port_b.is_unspecified()
    }

    /// The port of its application for a service.
    pub(crate) fn serves(&self, wanted: &Listen) -> Option<u16> {
        let same = |l: &&Listen| l.protocol == wanted.protocol && l.service == wanted.service;
        // The same port where it has one, so that several listeners of a service stay apart.
        let exact = self
            .listen
            .iter()
            .filter(same)
            .find(|l| l.address.port() == wanted.address.port());
        exact
            .or_else(|| self.listen.iter().find(same))
            .map(|l| l.address.port())
    }
}

/// All other servers. Bounded: full, messages of unknown ones are dropped.
#[derive(Debug)]
pub(crate) struct Members {
    table: Vec<Member>,
    /// With a farm key: what was heard last of those that were forgotten, so that it is not news when it comes again. Full:
    /// the oldest makes room.
    former: VecDeque<Former>,
    bound: usize,
}

/// What a forgotten server has said last.
#[derive(Debug)]
struct Former {
    synch: Ipv4Addr,
    incarnation: u32,
    sequence: [Option<u32>; 3],
    next_part: [u8; 3],
    left: bool,
    counter: Counter,
    port_b: Ipv4Addr,
}

impl Members {
    pub(crate) fn new(bound: usize) -> Members {
        Members {
            table: Vec::new(),
            former: VecDeque::new(),
            bound,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.table.len()
    }

    pub(crate) fn bound(&self) -> usize {
        self.bound
    }

    pub(crate) fn set_bound(&mut self, bound: usize) {
        self.bound = bound;
    }

    /// All of them, by Synch address.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Member> {
        self.table.iter()
    }

    pub(crate) fn get_mut(&mut self, synch: Ipv4Addr) -> Option<&mut Member> {
        self.table.iter_mut().find(|m| m.synch == synch)
    }

    /// Whether a forgotten server has said this, or something since.
    pub(crate) fn has_said(&self, synch: Ipv4Addr, header: &SynchHeader) -> bool {
        let said = |former: &Former| match header.incarnation.cmp(&former.incarnation) {
            Ordering::Less => true,
            Ordering::Equal => !former
                .sequence
                .iter()
                .all(|&last| header.is_newer_than(last)),
            Ordering::Greater => false,
        };
        let mut former = self.former.iter().filter(|former| former.synch == synch);
        former.any(said)
    }

    /// Whether a server with another Synch address has said in this life, or a later one, that this Port B is its own.
    pub(crate) fn is_of_another(
        &self,
        port_b: Ipv4Addr,
        synch: Ipv4Addr,
        incarnation: u32,
    ) -> bool {
        let present = self
            .table
            .iter()
            .map(|m| (m.synch, m.port_b, m.incarnation));
        let former = self
            .former
            .iter()
            .map(|m| (m.synch, m.port_b, m.incarnation));
        present
            .chain(former)
            .any(|(at, its, life)| at != synch && its == port_b && life >= incarnation)
    }

    /// The server whose Port B has this hardware address.
    pub(crate) fn by_hardware(&self, hardware: MacAddr) -> Option<&Member> {
        self.table
            .iter()
            .find(|m| m.hardware == hardware && m.is_identified())
    }

    pub(crate) fn by_hardware_mut(&mut self, hardware: MacAddr) -> Option<&mut Member> {
        self.table
            .iter_mut()
            .find(|m| m.hardware == hardware && m.is_identified())
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Member> {
        self.table.iter_mut()
    }

    /// The server that clients reach at this address.
    pub(crate) fn by_port_a(&self, address: Ipv4Addr) -> Option<&Member> {
        self.table
            .iter()
            .find(|m| m.port_a.contains(&address) && m.is_identified())
    }

    /// The server whose Port B has this address.
    pub(crate) fn by_port_b(&self, address: Ipv4Addr) -> Option<&Member> {
        self.table
            .iter()
            .find(|m| m.port_b == address && m.is_identified())
    }

    pub(crate) fn by_port_b_mut(&mut self, address: Ipv4Addr) -> Option<&mut Member> {
        self.table
            .iter_mut()
            .find(|m| m.port_b == address && m.is_identified())
    }

    /// A new record; `None` when the table is full.
    pub(crate) fn add(
        &mut self,
        now: Instant,
        synch: Ipv4Addr,
        incarnation: u32,
    ) -> Option<&mut Member> {
        if self.table.len() >= self.bound {
            return None;
        }
        let at = self.former.iter().position(|former| former.synch == synch);
        let former = at.and_then(|at| self.former.remove(at));
        let former = former.filter(|former| former.incarnation >= incarnation);
        let Former {
            incarnation,
            sequence,
            next_part,
            left,
            counter,
            ..
        } = former.unwrap_or(Former {
            synch,
            incarnation,
            sequence: [None; 3],
            next_part: [0; 3],
            left: false,
            counter: Counter::default(),
            port_b: Ipv4Addr::UNSPECIFIED,
        });
        let member = Member {
            synch,
            name: String::new(),
            port_b: Ipv4Addr::UNSPECIFIED,
            hardware: MacAddr([0; 6]),
            port_a: Vec::new(),
            connections: 0,
            load: Load::default(),
            draining: false,
            listen: Vec::new(),
            incarnation,
            sequence,
            partial: Vec::new(),
            next_part,
            heard: now,
            heard_on_b: now,
            asked: None,
            since: None,
            willingness: Willingness::default(),
            counter,
            lost: false,
            left,
            up: false,
            newcomer: false,
            sent: 0,
            selected: 0,
            expected: 0.0,
        };
        let at = self.table.partition_point(|m| m.synch < synch);
        self.table.insert(at, member);
        self.table.get_mut(at)
    }

    /// Forgets those that have been silent for so long. What was `signed` is not taken once more.
    pub(crate) fn forget(&mut self, now: Instant, after: Duration, signed: bool) {
        let silent = |m: &mut Member| now.saturating_since(m.seen()) > after;
        for member in self.table.extract_if(.., silent).filter(|_| signed) {
            if self.former.len() >= self.bound {
                self.former.pop_front();
            }
            self.former.push_back(Former {
                synch: member.synch,
                incarnation: member.incarnation,
                sequence: member.sequence,
                next_part: member.next_part,
                left: member.left,
                counter: member.counter,
                port_b: member.port_b,
            });
        }
    }
}

#[cfg(test)]
mod tests;
