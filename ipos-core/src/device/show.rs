//! What a device tells of itself: counters, and the tables of FIG. 12.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use ipos_proto::Epoch;

use super::Device;
use crate::config::{Config, PROCESSES};
use crate::counters::Counters;
use crate::event::{ListenerId, Port};
use crate::flow::Flow;
use crate::flow_table::{Record, TABLES};
use crate::handover::{Bound, Pending};
use crate::inspect::{EarlyRow, FlowRow, NeighbourRow, Process, ServerState, TableSize};
use crate::time::{Duration, Instant};

impl Device {
    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// What was counted so far.
    pub fn counters(&self) -> Counters {
        let mut counters = self.counters.clone();
        counters.outbox_dropped = self.outbox.dropped;
        counters
    }

    /// Established connections of this server: CN of equation 1.
    pub fn connections(&self) -> u32 {
        u32::try_from(self.established()).unwrap_or(u32::MAX)
    }

    /// Local and forward-connect, less what only waits for late segments.
    pub(super) fn established(&self) -> usize {
        self.flows.bound().saturating_sub(self.stack.time_wait())
    }

    /// The server state table, this server first.
    pub fn servers(&self, now: Instant) -> Vec<ServerState> {
        let me = ServerState {
            name: self.config.name.clone(),
            synch: self.config.synch.address,
            port_b: self.config.port_b.address,
            connections: self.connections(),
            load: self.me.load,
            alive: !self.me.left,
            draining: self.me.draining,
            is_self: true,
            silent_for: Duration::ZERO,
            selected: self.me.selected,
            expected: self.me.expected,
        };
        let others = self
            .members
            .iter()
            .filter(|member| !member.left)
            .map(|member| ServerState {
                name: member.name.clone(),
                synch: member.synch,
                port_b: member.port_b,
                connections: member.connections.saturating_add(member.sent),
                load: member.load,
                alive: member.is_alive(now, self.config.synch.silence),
                draining: member.draining,
                is_self: false,
                silent_for: now.saturating_since(member.heard),
                selected: member.selected,
                expected: member.expected,
            });
        core::iter::once(me).chain(others).collect()
    }

    /// The application information table.
    pub fn processes(&self) -> &[Process] {
        &self.me.processes
    }

    /// How full each table is.
    pub fn tables(&self) -> Vec<TableSize> {
        let limits = &self.config.limits;
        let [temporary, local, forward_connect, forward, tombstones] = self.flows.counts();
        let bound = limits.endpoints.saturating_add(limits.time_wait);
        let flow = [
            (temporary, limits.temporary),
            (local, bound),
            (forward_connect, bound),
            (forward, limits.forward),
            (tombstones, limits.tombstones),
        ];
        let flow = TABLES.into_iter().zip(flow);
        let listening = self.config.listen.len();
        let others = [
            ("time-wait", (self.stack.time_wait(), limits.time_wait)),
            ("listening-sockets", (listening, listening)),
            (
                "server-state",
                (self.members.len() + 1, self.members.bound() + 1),
            ),
            (
                "application-information",
                (self.me.processes.len(), PROCESSES),
            ),
            (
                "neighbours",
                (self.neighbours.len(), self.neighbours.bound()),
            ),
            ("cookie-map", (self.sessions.len(), self.sessions.bound())),
            ("early-packets", (self.early.len(), self.early.bound())),
            ("datagrams", (self.stack.datagrams(), limits.datagrams)),
            (
                "outbox",
                (
                    self.outbox.len(),
                    limits.outbox.saturating_mul(Port::ALL.len()),
                ),
            ),
        ];
        flow.chain(others)
            .map(|(name, (len, bound))| TableSize { name, len, bound })
            .collect()
    }

    /// Rows of the flow tables at `places` places from `from` on: those that `wanted` takes, which gets each one's table and
    /// place; and where to go on, `None` at the end. A flow keeps its place for as long as it has a record, so that a walk in
    /// pieces sees each that stays.
    pub fn flows(
        &self,
        from: usize,
        places: usize,
        mut wanted: impl FnMut(&'static str, usize) -> bool,
    ) -> (Vec<FlowRow>, Option<usize>) {
        let (rows, next) = self.flows.rows(from, places);
        let row = |(place, flow, record): (usize, &Flow, &Record)| {
            let table = TABLES.get(record.table()).copied().unwrap_or_default();
            wanted(table, place).then(|| self.row(flow, record))
        };
        (rows.filter_map(row).collect(), next)
    }

    fn row(&self, flow: &Flow, record: &Record) -> FlowRow {
        let slot = record.endpoint().and_then(|index| self.stack.get(index));
        let state = slot.map(|slot| slot.tcp.state().name());
        let epoch = slot.map(|slot| slot.epoch).unwrap_or_default();
        let pending = |pending: &Pending| {
            let migration = pending.migration.map(|migration| ("offered", migration));
            let other = match (&migration, &pending.bound) {
                (Some((_, migration)), _) => Some(migration.to.address),
                (None, Some(Bound::Installed(installed))) => Some(installed.first.address),
                (None, Some(Bound::Local) | None) => None,
            };
            let state = migration.map(|(word, _)| word).or(state);
            (state.unwrap_or("gathered"), other, epoch)
        };
        let (state, server, epoch): (_, Option<Ipv4Addr>, Epoch) = match record {
            Record::Pending(record) => pending(record),
            Record::Local(_) => (state.unwrap_or("CLOSED"), None, epoch),
            Record::ForwardConnect(installed) => {
                let state = match installed.owner {
                    None => "installed",
                    Some(_) => state.unwrap_or("CLOSED"),
                };
                let from = (!installed.home).then_some(installed.first.address);
                (state, from, installed.epoch)
            }
            Record::Datagrams(datagrams) => {
                let installed = datagrams.installed;
                let epoch = installed.map(|installed| installed.epoch);
                let from = installed.map(|installed| installed.first.address);
                ("datagrams", from, epoch.unwrap_or_default())
            }
            Record::Forward(forwarding) => {
                let state = match forwarding.replay {
                    None => "forwarded",
                    Some(_) => "replayed",
                };
                (state, Some(forwarding.to().address), forwarding.epoch)
            }
            Record::Tombstone(tombstone) => {
                let state = match tombstone.owned {
                    true => "ended",
                    false => "never owned",
                };
                (state, None, tombstone.epoch)
            }
        };
        let member = server.and_then(|address| self.members.by_port_b(address));
        let listener = match record {
            Record::Pending(pending) => Some(pending.listener),
            Record::Datagrams(datagrams) => Some(datagrams.listener),
            Record::Local(_) | Record::ForwardConnect(_) => slot.map(|slot| slot.listener),
            Record::Forward(_) | Record::Tombstone(_) => None,
        };
        FlowRow {
            table: TABLES.get(record.table()).copied().unwrap_or_default(),
            flow: *flow,
            state,
            server,
            name: member.map(|member| member.name.clone()),
            listener: listener.map(ListenerId),
            epoch,
        }
    }

    /// Records of the forward table: connections that are served elsewhere, and whose packets come through here.
    pub fn forwarded(&self) -> usize {
        let [_, _, _, forward, _] = self.flows.counts();
        forward
    }

    /// Whether the application behind a listening socket answers, as [`Device::set_available`] was told.
    pub fn is_available(&self, listener: ListenerId) -> bool {
        !self.me.unavailable.contains(&listener.0)
    }

    /// The neighbour table, in no order.
    pub fn neighbours(&self) -> impl Iterator<Item = NeighbourRow> {
        self.neighbours.iter()
    }

    /// Packets that wait for their endpoints, the oldest first.
    pub fn early_packets(&self) -> impl Iterator<Item = EarlyRow> {
        self.early.iter()
    }

    /// Frames that wait for a port, those of endpoints left out.
    pub fn waiting(&self, port: Port) -> usize {
        self.outbox.waiting(port)
    }

    /// Bytes of clients' packets that are kept for other servers.
    pub fn kept(&self) -> usize {
        self.flows.kept()
    }

    /// Bytes that the endpoints' buffers hold.
    pub fn buffered(&self) -> usize {
        self.stack.held()
    }
}
