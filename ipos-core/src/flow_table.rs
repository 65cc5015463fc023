//! The flow tables of FIG. 12: temporary, local, forward-connect and forward.
//!
//! A flow is in one of them at a time, so they are one index whose records say which: a packet is classified
//! with one look-up, and a record moves from one table to the next in place.

use alloc::boxed::Box;
use core::hash::BuildHasher;
use core::mem::offset_of;
use core::net::{Ipv4Addr, SocketAddrV4};

use arrayvec::ArrayVec;
use foldhash::fast::FixedState;
use hashbrown::HashTable;
use ipos_proto::{Epoch, MacAddr, Protocol};
use slab::Slab;

use crate::flow::Flow;
use crate::handover::{Bound, Datagrams, Forwarding, Installed, Migration, Pending, Tombstone};
use crate::time::Instant;
use crate::timer_queue::TimerQueue;

/// Where a flow stands.
#[derive(Debug)]
pub(crate) enum Record {
    /// Endpoint not yet bound to an application socket; or bound, and offered to another server.
    Pending(Box<Pending>),
    /// Endpoint bound to an application on this server.
    Local(u32),
    /// Endpoint migrated to this server.
    ForwardConnect(Box<Installed>),
    /// A UDP flow of this server.
    Datagrams(Datagrams),
    /// Endpoint migrated away.
    Forward(Forwarding),
    /// Endpoint that was migrated to this server, and has ended, or whose packets never came.
    Tombstone(Tombstone),
}

/// The flow tables' names (FIG. 12); tombstones are ours.
pub const TABLES: [&str; 5] = [
    "temporary",
    "local",
    "forward-connect",
    "forward",
    "tombstones",
];

impl Record {
    /// Place in [`TABLES`].
    pub(crate) fn table(&self) -> usize {
        match self {
            Record::Pending(pending) => match &pending.bound {
                None => 0,
                Some(Bound::Local) => 1,
                Some(Bound::Installed(installed)) => installed.table(),
            },
            Record::Local(_) => 1,
            Record::ForwardConnect(installed) => installed.table(),
            Record::Datagrams(datagrams) => 1 + usize::from(datagrams.installed.is_some()),
            Record::Forward(_) => 3,
            Record::Tombstone(_) => 4,
        }
    }

    /// Whether the flow is served here: it is local, or forward-connect.
    pub(crate) fn is_bound(&self) -> bool {
        matches!(self.table(), 1 | 2)
    }

    /// Places in the forward table that it may come to need: its endpoint is offered, or its forward record is set aside.
    fn reserved(&self) -> usize {
        let reserved = match self {
            Record::Pending(pending) => pending.migration.is_some(),
            Record::ForwardConnect(installed) => installed.back.is_some(),
            _ => false,
        };
        usize::from(reserved)
    }

    /// Bytes of packets that are kept for the flow.
    fn kept(&self) -> usize {
        let forwarded = |forwarding: &Forwarding| {
            let replay = forwarding.replay.as_ref();
            replay.map_or(0, |replay| replay.kept.bytes())
        };
        match self {
            Record::Pending(pending) => pending.kept.bytes(),
            Record::Forward(forwarding) => forwarded(forwarding),
            Record::ForwardConnect(installed) => installed.back.as_deref().map_or(0, forwarded),
            Record::Local(_) | Record::Datagrams(_) | Record::Tombstone(_) => 0,
        }
    }

    /// Whether the flow is offered to, forwarded to, or comes from the Port B with this hardware address.
    pub(crate) fn concerns(&self, hardware: MacAddr) -> bool {
        match self {
            Record::Pending(pending) => {
                let offered = |migration: &Migration| migration.to.hardware == hardware;
                pending.migration.as_ref().is_some_and(offered)
                    || matches!(&pending.bound, Some(Bound::Installed(i)) if i.comes_from(hardware))
            }
            Record::Forward(forwarding) => forwarding.concerns(hardware),
            Record::ForwardConnect(installed) => installed.comes_from(hardware),
            Record::Datagrams(datagrams) => datagrams
                .installed
                .is_some_and(|installed| installed.first.hardware == hardware),
            Record::Local(_) | Record::Tombstone(_) => false,
        }
    }

    /// The last epoch of the flow's connection here, or of its offer.
    pub(crate) fn epoch(&self) -> Epoch {
        match self {
            Record::Pending(pending) => {
                let offered = pending.migration.map(|migration| migration.epoch);
                let installed = match &pending.bound {
                    Some(Bound::Installed(installed)) => Some(installed.epoch),
                    Some(Bound::Local) | None => None,
                };
                offered.max(installed).unwrap_or_default()
            }
            Record::ForwardConnect(installed) => installed.epoch,
            Record::Forward(forwarding) => forwarding.epoch,
            Record::Tombstone(tombstone) => tombstone.epoch,
            Record::Local(_) | Record::Datagrams(_) => Epoch::default(),
        }
    }

    /// Whether the flow's connection was given away, or has come from another server.
    pub(crate) fn has_moved(&self) -> bool {
        match self {
            Record::Forward(_) | Record::Tombstone(_) => true,
            Record::ForwardConnect(installed) => {
                installed.owner.is_some() || installed.back.is_some()
            }
            Record::Pending(pending) => matches!(pending.bound, Some(Bound::Installed(_))),
            Record::Local(_) | Record::Datagrams(_) => false,
        }
    }

    /// Where the flow's packets are forwarded, or are until this server owns it.
    pub(crate) fn leads(&self) -> Option<&Forwarding> {
        match self {
            Record::Forward(forwarding) => Some(forwarding),
            Record::ForwardConnect(installed) => installed.back.as_deref(),
            _ => None,
        }
    }

    /// The endpoint, where the flow has one here.
    pub(crate) fn endpoint(&self) -> Option<u32> {
        match self {
            Record::Pending(pending) => pending.endpoint,
            Record::Local(endpoint) => Some(*endpoint),
            Record::ForwardConnect(installed) => Some(installed.endpoint),
            Record::Datagrams(_) | Record::Forward(_) | Record::Tombstone(_) => None,
        }
    }
}

/// Whole cache lines, of which a client's packet that is passed on needs the first one only.
#[derive(Debug)]
#[repr(C, align(64))]
struct Entry {
    flow: Flow,
    record: Record,
    scheduled: Option<Instant>,
}

const _: () = {
    assert!(size_of::<Option<Entry>>() <= 128);
    assert!(size_of::<Record>() == size_of::<Forwarding>());
    assert!(offset_of!(Entry, record) + Forwarding::HOT <= 64);
};

/// Flows that are looked ahead for at once.
pub(crate) const AHEAD: usize = 64;

/// All flows of a device.
#[derive(Debug)]
pub(crate) struct FlowTable {
    index: HashTable<u32>,
    entries: Slab<Entry>,
    hasher: FixedState,
    counts: [usize; TABLES.len()],
    reserved: usize,
    kept: usize,
    timers: TimerQueue,
    /// The deadlines of tombstones: the one whose time ends first makes room.
    graves: TimerQueue,
    ahead: Ahead,
}

/// Places of flows whose frames come next, in the order of these.
#[derive(Debug, Default)]
struct Ahead {
    keys: ArrayVec<u32, AHEAD>,
    next: usize,
}

impl FlowTable {
    /// An empty table whose hash nobody can foresee who does not know `seed`.
    pub(crate) fn new(seed: u64) -> FlowTable {
        FlowTable {
            index: HashTable::new(),
            entries: Slab::new(),
            hasher: FixedState::with_seed(seed),
            counts: [0; TABLES.len()],
            reserved: 0,
            kept: 0,
            timers: TimerQueue::default(),
            graves: TimerQueue::default(),
            ahead: Ahead::default(),
        }
    }

    /// Records in the tables, in the order of [`TABLES`].
    pub(crate) fn counts(&self) -> [usize; TABLES.len()] {
        self.counts
    }

    pub(crate) fn temporary(&self) -> usize {
        self.counts[0]
    }

    /// Established connections of this server: local and forward-connect.
    pub(crate) fn bound(&self) -> usize {
        self.counts[1] + self.counts[2]
    }

    /// Places of the forward table that are taken, or may be by what is under way.
    pub(crate) fn forward(&self) -> usize {
        self.counts[3] + self.reserved
    }

    pub(crate) fn tombstones(&self) -> usize {
        self.counts[4]
    }

    /// All flows.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A flow's place.
    pub(crate) fn find(&self, flow: &Flow) -> Option<u32> {
        let hash = self.hasher.hash_one(flow);
        self.index
            .find(hash, |&key| {
                self.entries
                    .get(key as usize)
                    .is_some_and(|e| e.flow == *flow)
            })
            .copied()
    }

    /// The flows of a client's port with an application's port of any server.
    pub(crate) fn of_port(
        &self,
        client: SocketAddrV4,
        port: u16,
        protocol: Protocol,
    ) -> impl Iterator<Item = (u32, &Flow, &Record)> {
        // Of whatever address: they have one hash.
        let endpoint = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, port);
        let named = Flow {
            client,
            endpoint,
            protocol,
        };
        let keys = self.index.iter_hash(self.hasher.hash_one(named));
        keys.filter_map(move |&key| {
            let Entry { flow, record, .. } = self.entries.get(key as usize)?;
            let of_port = (flow.client, flow.endpoint.port(), flow.protocol);
            (of_port == (client, port, protocol)).then_some((key, flow, record))
        })
    }

    /// As [`FlowTable::find`], for a frame's flow: one that was looked ahead for is there at once. Not so those before the last
    /// [`AHEAD`] of a longer burst, and those behind two in turn that were dropped before they came here.
    pub(crate) fn find_next(&mut self, flow: &Flow) -> Option<u32> {
        let Ahead { keys, next } = &mut self.ahead;
        let entries = &self.entries;
        let is_there = |&key: &u32| entries.get(key as usize).is_some_and(|e| e.flow == *flow);
        let passed = keys.iter().skip(*next).take(2).position(is_there);
        if let Some(passed) = passed {
            *next += passed + 1;
            return keys.get(*next - 1).copied();
        }
        self.find(flow)
    }

    /// Brings near what [`FlowTable::find_next`] and [`FlowTable::get_mut`] will read for these flows. One flow's reads depend on
    /// each other, those of several flows do not: each pass makes one read for every flow, so that the processor waits for all
    /// of them at once.
    pub(crate) fn look_ahead(&mut self, flows: &ArrayVec<Flow, AHEAD>) {
        type Each<T> = ArrayVec<T, AHEAD>;
        let hashes = flows.iter().map(|flow| self.hasher.hash_one(flow));
        let hashes: Each<u64> = hashes.collect();
        // Control bytes: the first bucket of the right tag is nearly always the flow's.
        let buckets = hashes.iter().map(|&hash| self.index.iter_hash(hash).next());
        let buckets: Each<Option<&u32>> = buckets.collect();
        // Buckets.
        let keys = buckets.into_iter().flatten().copied().collect();
        self.ahead = Ahead { keys, next: 0 };
        // Rows.
        let row = |&key: &u32| self.entries.get(key as usize);
        let read = self.ahead.keys.iter().filter_map(row);
        core::hint::black_box(read.fold(0, |all, row| all ^ row.flow.client.port()));
    }

    pub(crate) fn get(&self, key: u32) -> Option<(&Flow, &Record)> {
        self.entries
            .get(key as usize)
            .map(|entry| (&entry.flow, &entry.record))
    }

    /// Bytes of packets that are kept for all flows.
    pub(crate) fn kept(&self) -> usize {
        self.kept
    }

    /// The record, to change what is not counted here: the table that it belongs to, offers, kept packets are
    /// [`FlowTable::update`]'s.
    pub(crate) fn get_mut(&mut self, key: u32) -> Option<(&Flow, &mut Record)> {
        self.entries
            .get_mut(key as usize)
            .map(|entry| (&entry.flow, &mut entry.record))
    }

    /// Adds a flow that is not in the table.
    pub(crate) fn insert(&mut self, flow: Flow, record: Record) -> u32 {
        let hash = self.hasher.hash_one(flow);
        self.counts[record.table()] += 1;
        self.reserved += record.reserved();
        self.kept += record.kept();
        // The tables' bounds are far below 2^32.
        let key = self.entries.insert(Entry {
            flow,
            record,
            scheduled: None,
        }) as u32;
        let entries = &self.entries;
        let hasher = &self.hasher;
        self.index.insert_unique(hash, key, |&k| {
            entries
                .get(k as usize)
                .map_or(0, |e| hasher.hash_one(e.flow))
        });
        key
    }

    /// Moves a flow to the table that `record` belongs to; its deadline ends.
    pub(crate) fn replace(&mut self, key: u32, record: Record) -> Option<Record> {
        self.schedule(key, None);
        self.update(key, |entry| core::mem::replace(entry, record))
    }

    /// Changes a record in any way.
    pub(crate) fn update<R>(
        &mut self,
        key: u32,
        change: impl FnOnce(&mut Record) -> R,
    ) -> Option<R> {
        let record = &mut self.entries.get_mut(key as usize)?.record;
        self.counts[record.table()] -= 1;
        self.reserved -= record.reserved();
        self.kept -= record.kept();
        let result = change(record);
        self.counts[record.table()] += 1;
        self.reserved += record.reserved();
        self.kept += record.kept();
        Some(result)
    }

    /// Removes a flow.
    pub(crate) fn remove(&mut self, key: u32) -> Option<(Flow, Record)> {
        self.schedule(key, None);
        let entry = self.entries.try_remove(key as usize)?;
        self.counts[entry.record.table()] -= 1;
        self.reserved -= entry.record.reserved();
        self.kept -= entry.record.kept();
        let hash = self.hasher.hash_one(entry.flow);
        if let Ok(found) = self.index.find_entry(hash, |&k| k == key) {
            found.remove();
        }
        Some((entry.flow, entry.record))
    }

    /// Sets or ends a flow's deadline.
    pub(crate) fn schedule(&mut self, key: u32, at: Option<Instant>) {
        if let Some(entry) = self.entries.get_mut(key as usize) {
            let timers = match entry.record {
                Record::Tombstone(_) => &mut self.graves,
                _ => &mut self.timers,
            };
            timers.schedule(key, &mut entry.scheduled, at);
        }
    }

    /// The tombstone whose time ends first.
    pub(crate) fn first_tombstone(&self) -> Option<u32> {
        self.graves.first()
    }

    /// The flows at `places` places from `from` on, each with its place; and where to go on, `None` at the end.
    pub(crate) fn rows(
        &self,
        from: usize,
        places: usize,
    ) -> (impl Iterator<Item = (usize, &Flow, &Record)>, Option<usize>) {
        let all = self.entries.capacity();
        let end = all.min(from.saturating_add(places));
        let row = |place| {
            let entry = self.entries.get(place)?;
            Some((place, &entry.flow, &entry.record))
        };
        ((from..end).filter_map(row), (end < all).then_some(end))
    }

    /// The next place, from `cursor` on, whose flow has migrated, among at most `steps` places; `Err` is where to go on,
    /// `None` there the end.
    pub(crate) fn next_migrated(
        &self,
        cursor: usize,
        steps: usize,
    ) -> Result<(u32, &Flow, &Record), Option<usize>> {
        let end = self.entries.capacity().min(cursor.saturating_add(steps));
        let found = (cursor..end).find_map(|key| {
            let Entry { flow, record, .. } = self.entries.get(key)?;
            let migrated = matches!(record, Record::Forward(_) | Record::ForwardConnect(_));
            migrated.then_some((key as u32, flow, record))
        });
        found.ok_or((end < self.entries.capacity()).then_some(end))
    }

    /// The earliest deadline.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        let timers = [self.timers.next(), self.graves.next()];
        timers.into_iter().flatten().min()
    }

    /// A flow whose deadline has passed; it has none any more.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<u32> {
        let key = self.timers.pop(now).or_else(|| self.graves.pop(now))?;
        if let Some(entry) = self.entries.get_mut(key as usize) {
            entry.scheduled = None;
        }
        Some(key)
    }
}

#[cfg(test)]
mod tests;
