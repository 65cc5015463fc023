//! What a device tells of itself: counters, and the tables of FIG. 12.

use alloc::vec::Vec;

use super::Device;
use crate::config::{Config, PROCESSES};
use crate::counters::Counters;
use crate::event::Port;
use crate::flow_table::TABLES;
use crate::inspect::{Process, ServerState, TableSize};
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
        let flow = [
            (temporary, limits.temporary),
            (local, limits.endpoints + limits.time_wait),
            (forward_connect, limits.endpoints + limits.time_wait),
            (forward, limits.forward),
            (tombstones, limits.tombstones),
        ];
        let flow = TABLES.into_iter().zip(flow);
        let listening = self.config.listen.len();
        let others = [
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
            (
                "outbox",
                (self.outbox.len(), limits.outbox * Port::ALL.len()),
            ),
        ];
        flow.chain(others)
            .map(|(name, (len, bound))| TableSize { name, len, bound })
            .collect()
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
