//! How endpoints end, and what is left of them.

use alloc::vec::Vec;

use ipos_proto::{Epoch, Message};

use super::Device;
use crate::event::Failure;
use crate::flow_table::Record;
use crate::handover::{Bound, Installed, Tombstone};
use crate::tcp::{Outcome, State};
use crate::time::{Duration, Instant};

/// So long a client may send a segment again that the network has held back, or whose answer got lost.
const BRIEFLY: Duration = Duration::from_secs(10);

impl Device {
    /// What an endpoint's segment or deadline led to.
    pub(super) fn settle(&mut self, now: Instant, index: u32, outcome: Outcome) {
        if let Some(failure) = outcome.failed {
            self.stack.fail(index, failure);
        }
        self.sweep(now, index);
        self.try_leave(now, index);
    }

    /// Removes an endpoint that has ended and that no application holds.
    pub(super) fn sweep(&mut self, now: Instant, index: u32) {
        let Some(slot) = self.stack.get(index) else {
            return;
        };
        if !self.stack.is_closed(index) || slot.attached {
            return;
        }
        let key = slot.key;
        let received = slot.tcp.rcv_nxt();
        let tombstone = Tombstone::of(&slot.tcp, Epoch::default());
        self.stack.remove(index);
        let installed = match self.flows.get(key) {
            Some((&flow, Record::ForwardConnect(installed))) => Some((flow, installed)),
            Some((&flow, Record::Pending(pending))) => match &pending.bound {
                Some(Bound::Installed(installed)) => Some((flow, installed)),
                Some(Bound::Local) | None => None,
            },
            _ => None,
        };
        let Some((flow, installed)) = installed else {
            match self.cookies.are_good(now) {
                // A late copy of what has brought a cookie back opens nothing once more.
                true => self.bury_briefly(now, key, tombstone),
                false => drop(self.flows.remove(key)),
            }
            return;
        };
        let Installed {
            owner,
            first,
            epoch,
            home,
            ..
        } = **installed;
        self.bury(now, key, Tombstone { epoch, ..tombstone });
        if owner.is_some() && !home {
            let trailer = Some(self.trailer(epoch, Some(received)));
            self.send(first, &flow, Message::Release { trailer });
        }
    }

    /// A connection is over that other servers have had: late frames of theirs must not bring it back.
    pub(super) fn bury(&mut self, now: Instant, key: u32, tombstone: Tombstone) {
        self.bury_until(key, tombstone, now + self.config.limits.tombstone);
    }

    /// A connection is over that only its client may bring back: of a full table it makes room before those that others have had.
    pub(super) fn bury_briefly(&mut self, now: Instant, key: u32, tombstone: Tombstone) {
        let until = now + self.config.limits.tombstone.min(BRIEFLY);
        self.bury_until(key, tombstone, until);
    }

    fn bury_until(&mut self, key: u32, tombstone: Tombstone, until: Instant) {
        let limits = &self.config.limits;
        self.flows.replace(key, Record::Tombstone(tombstone));
        self.flows.schedule(key, Some(until));
        if self.flows.tombstones() > limits.tombstones
            && let Some(first) = self.flows.first_tombstone()
        {
            self.flows.remove(first);
        }
    }

    /// Ends what is served here, for a drain that may take no longer: clients of TCP connections get RST, UDP flows are over.
    pub fn end_connections(&mut self, now: Instant) {
        let (rows, _) = self.flows.rows(0, usize::MAX);
        let bound = rows.filter(|(.., record)| record.is_bound());
        let bound: Vec<(u32, Option<u32>)> = bound
            .map(|(place, _, record)| (place as u32, record.endpoint()))
            .collect();
        for (key, endpoint) in bound {
            let Some(endpoint) = endpoint else {
                self.end_datagrams(key);
                continue;
            };
            let slot = self.stack.get(endpoint);
            if slot.is_some_and(|slot| slot.tcp.state() != State::TimeWait) {
                self.take_back(now, endpoint);
                self.stack.fail(endpoint, Failure::Ended);
                self.with_endpoint(now, endpoint, |slot, _| slot.tcp.abort());
            }
        }
    }

    /// Connections in TIME-WAIT that must make room for newer ones.
    pub(super) fn evict(&mut self, now: Instant) {
        while let Some(index) = self.stack.evicted(self.config.limits.time_wait) {
            self.sweep(now, index);
        }
    }
}
