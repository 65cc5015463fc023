//! Bound connections that move again: when, where to, and how forward records follow.

use alloc::boxed::Box;
use core::net::SocketAddrV4;

use ipos_proto::Protocol;

use super::Device;
use super::select::Choice;
use crate::build;
use crate::content::Wanted;
use crate::counters::DropReason;
use crate::event::Verdict;
use crate::flow::Flow;
use crate::flow_table::Record;
use crate::handover::{Bound, Kept, Pending, TRIES, Target};
use crate::packet::Ipv4Packet;
use crate::speech::Speech;
use crate::stack::{Slot, Wish};
use crate::tcp::{Replay, Segment};
use crate::time::Instant;

/// Why a connection cannot be asked to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MigrateError {
    /// No connection of this server, or first opened at it, has this flow.
    #[error("no such connection here")]
    UnknownFlow,
    /// It is a UDP flow: once it has its server it stays there.
    #[error("UDP flows do not move again")]
    Datagrams,
    /// No live server has this name.
    #[error("no live server has this name")]
    UnknownServer,
    /// The server does not listen for the connection's service.
    #[error("that server has no such application")]
    NoApplication,
}

impl Device {
    /// Begins or ends draining: other servers select this one no more, new requests go to them where they can, and bound
    /// connections move on at their next quiet point ([`Endpoint::set_quiet`](super::Endpoint::set_quiet)).
    pub fn drain(&mut self, now: Instant, draining: bool) {
        self.me.draining = draining;
        // The others shall know at once.
        self.me.due[0] = now;
        self.move_quiet(now);
    }

    /// Whether [`Device::drain`] has begun.
    pub fn is_draining(&self) -> bool {
        self.me.draining
    }

    /// What is at a quiet point, and shall move, moves on.
    pub(super) fn move_quiet(&mut self, now: Instant) {
        for endpoint in self.stack.quiet(self.me.draining) {
            self.try_leave(now, endpoint);
        }
    }

    /// An operator's command: the connection shall move to the server named `to`, at its next quiet point. Its owner
    /// moves it; the first server asks the owner to (0x12, up to five times until that answers).
    ///
    /// # Errors
    /// This server does not know the flow or the server, or that one has no such application.
    pub fn migrate(&mut self, now: Instant, flow: &Flow, to: &str) -> Result<(), MigrateError> {
        if flow.protocol == Protocol::Udp {
            return Err(MigrateError::Datagrams);
        }
        let key = self.flows.find(flow).ok_or(MigrateError::UnknownFlow)?;
        let (_, record) = self.flows.get(key).ok_or(MigrateError::UnknownFlow)?;
        if let Some(endpoint) = record.endpoint() {
            return self.wish(now, endpoint, Some(to));
        }
        let Record::Forward(_) = record else {
            return Err(MigrateError::UnknownFlow);
        };
        let serves =
            |l: &crate::config::Listen| l.address == flow.endpoint && l.protocol == flow.protocol;
        let listener = self.config.listen.iter().position(serves);
        let listener = listener.ok_or(MigrateError::NoApplication)?;
        let target = if to == self.config.name {
            SocketAddrV4::new(self.config.port_b.address, flow.endpoint.port())
        } else {
            self.server_named(to, listener)?
        };
        self.ask(now, key, target, TRIES);
        Ok(())
    }

    /// The endpoint shall move: to the server of this name, or to the one that selection finds.
    pub(super) fn wish(
        &mut self,
        now: Instant,
        endpoint: u32,
        to: Option<&str>,
    ) -> Result<(), MigrateError> {
        let slot = self.stack.get(endpoint).filter(|slot| slot.attached);
        let listener = slot.ok_or(MigrateError::UnknownFlow)?.listener;
        let wish = match to {
            None => Wish::Any,
            Some(name) if name == self.config.name => return Ok(()),
            Some(name) => Wish::To(self.server_named(name, listener)?),
        };
        self.set_wish(now, endpoint, wish);
        Ok(())
    }

    /// The endpoint shall move to one of the servers named: the policy selects among those that live.
    pub(super) fn wish_among(
        &mut self,
        now: Instant,
        endpoint: u32,
        names: &[&str],
    ) -> Result<(), MigrateError> {
        let slot = self.stack.get(endpoint).filter(|slot| slot.attached);
        let slot = slot.ok_or(MigrateError::UnknownFlow)?;
        let (client, listener) = (*slot.flow.client.ip(), slot.listener);
        let wanted = Wanted::among(names.iter().map(|&name| name.into()).collect());
        match self.select_wanted(now, client, listener, &[], &wanted, false) {
            None => Err(MigrateError::UnknownServer),
            Some(Choice::Local) => Ok(()),
            Some(Choice::Server(to)) => {
                let to = SocketAddrV4::new(to.address, to.port);
                self.set_wish(now, endpoint, Wish::To(to));
                Ok(())
            }
        }
    }

    pub(super) fn set_wish(&mut self, now: Instant, endpoint: u32, wish: Wish) {
        if let Some(slot) = self.stack.get_mut(endpoint) {
            slot.wish = Some(wish);
        }
        self.try_leave(now, endpoint);
    }

    fn server_named(&self, name: &str, listener: usize) -> Result<SocketAddrV4, MigrateError> {
        let mut members = self.members.iter().filter(|member| member.up);
        let member = members.find(|member| member.name == name);
        let member = member.ok_or(MigrateError::UnknownServer)?;
        let listen = self.config.listen.get(listener);
        let port = listen.and_then(|listen| member.serves(listen));
        let port = port.ok_or(MigrateError::NoApplication)?;
        Ok(SocketAddrV4::new(member.port_b, port))
    }

    /// Whether the endpoint is at a quiet point: its application is between two requests, everything sent is acknowledged and
    /// everything received is consumed.
    fn is_at_rest(&self, key: u32, endpoint: u32, now: Instant) -> bool {
        let consumed = |slot: &Slot| slot.tcp.has_consumed_all();
        self.stack.get(endpoint).is_some_and(consumed) && self.is_quiet(key, endpoint, now)
    }

    /// Whether a fresh instance of the application could go on with what has not been consumed. An endpoint that has just come
    /// stays for as long as late packets may be under way.
    fn is_quiet(&self, key: u32, endpoint: u32, now: Instant) -> bool {
        let settled = match self.flows.get(key) {
            Some((_, Record::Local(_))) => true,
            Some((_, Record::ForwardConnect(installed))) => installed.owner.is_some_and(|since| {
                now.saturating_since(since) >= self.config.limits.early_deadline
            }),
            _ => false,
        };
        let quiet = self.stack.get(endpoint).is_some_and(|slot| {
            let said = slot.speech.as_deref().is_none_or(Speech::may_leave);
            slot.quiet && slot.attached && said
        });
        settled && quiet && self.may_leave(Some(endpoint))
    }

    /// Moves the endpoint on if it shall, and may now. One that was wished away takes what has not been consumed along.
    pub(super) fn try_leave(&mut self, now: Instant, endpoint: u32) {
        let Some(slot) = self.stack.get(endpoint) else {
            return;
        };
        let (key, wish) = (slot.key, slot.wish);
        let limits = &self.config.limits;
        // As packets it may take twice as much.
        let room = limits.kept.saturating_sub(self.flows.kept()) / 2;
        let unread = match wish {
            Some(_) => limits.request.min(room),
            None => 0,
        };
        if !slot.tcp.has_unread_at_most(unread) {
            return;
        }
        let Some(wish) = wish.or(self.me.draining.then_some(Wish::Any)) else {
            return;
        };
        if !self.is_quiet(key, endpoint, now) || !self.detach(key) {
            return;
        }
        if let Some(slot) = self.stack.get_mut(endpoint) {
            slot.wish = None;
        }
        self.take_along(now, key, endpoint);
        match wish {
            Wish::Any => self.consider(now, key, true),
            Wish::To(target) => {
                let Some(target) = self.target(target) else {
                    // It was forgotten meanwhile.
                    return self.serve_here(now, key);
                };
                if let Some((_, Record::Pending(pending))) = self.flows.get_mut(key) {
                    pending.only = true;
                }
                self.begin_offer(now, key, target);
            }
        }
    }

    /// What the host has not consumed of a detached endpoint is kept for the next server, as the client would send it again,
    /// and that one is selected by it.
    fn take_along(&mut self, now: Instant, key: u32, endpoint: u32) {
        let Some(slot) = self.stack.get(endpoint) else {
            return;
        };
        let (from_client, (replay, segments)) =
            (slot.flow.reversed(), slot.tcp.unread(now, &self.config.tcp));
        if segments.is_empty() {
            return;
        }
        let mut kept = Kept::default();
        for (segment, payload) in &segments {
            let packet = build::tcp_packet(&from_client, segment, payload);
            packet.iter().for_each(|packet| kept.push(packet));
        }
        let inspector = self.rules.inspector();
        self.flows.update(key, |record| {
            if let Record::Pending(pending) = record {
                pending.replay = replay;
                pending.kept = kept;
                pending.inspector = inspector;
            }
        });
    }

    /// The server for a later request of a bound connection, where each request is selected for, or this server drains, and
    /// it is another one; and those that the request wants, where that one does not take it.
    pub(super) fn server_for_request(
        &mut self,
        now: Instant,
        key: u32,
        endpoint: u32,
        segment: &Segment<'_>,
    ) -> Option<(Target, Wanted)> {
        let begins = !segment.payload.is_empty() && segment.seq == self.rcv_nxt(endpoint);
        let per_request = self.config.balance.per_request || self.me.draining;
        if !per_request && self.rules.is_empty() || !begins || !self.is_at_rest(key, endpoint, now)
        {
            return None;
        }
        let slot = self.stack.get(endpoint)?;
        let (client, listener) = (*slot.flow.client.ip(), slot.listener);
        let mut wanted = Wanted::default();
        if let Some(mut inspector) = self.rules.inspector() {
            let session = |id: &[u8]| self.sessions.get(now, id).map(|row| row.server.clone());
            // A head that its first segment does not hold stays here: to gather it would hold up its application.
            let reading = inspector.inspect(segment.payload);
            wanted = self.rules.wanted(reading, session)?;
        }
        let choice = match per_request {
            true => self.select(now, client, listener, &[], &wanted),
            false => self.select_wanted(now, client, listener, &[], &wanted, true)?,
        };
        match choice {
            Choice::Local => None,
            Choice::Server(to) => Some((to, wanted)),
        }
    }

    /// A client that asks again at once acknowledges the last answer with its next request. While this server drains the
    /// acknowledgment counts first: between the two is a quiet point, at which the request is selected for.
    pub(super) fn acknowledge_first(&mut self, now: Instant, endpoint: u32, segment: &Segment<'_>) {
        let flags = segment.flags;
        let carries = !segment.payload.is_empty() && !flags.syn && !flags.rst;
        if !self.me.draining || !carries || segment.seq != self.rcv_nxt(endpoint) {
            return;
        }
        let waits = self.stack.get(endpoint).is_some_and(|slot| {
            slot.quiet && slot.tcp.has_consumed_all() && !slot.tcp.is_exportable()
        });
        if waits {
            let mut acknowledgment = segment.clone();
            acknowledgment.payload = &[];
            acknowledgment.flags.fin = false;
            // An acknowledgment ends nothing here, and the whole segment says the rest.
            let _ = (self.stack).handle(now, &self.config.tcp, endpoint, &acknowledgment);
        }
    }

    /// A later request goes to another server: the connection moves with it.
    pub(super) fn move_with_request(
        &mut self,
        now: Instant,
        key: u32,
        (to, wanted): (Target, Wanted),
        packet: &Ipv4Packet<'_>,
        segment: &Segment<'_>,
    ) -> Result<Verdict, DropReason> {
        if !self.detach(key) {
            return Err(DropReason::Stale);
        }
        if let Some((_, Record::Pending(pending))) = self.flows.get_mut(key) {
            pending.wanted = wanted;
        }
        let verdict = self.gather(now, key, None, packet, segment);
        // Unless the segment has ended the connection.
        self.begin_offer(now, key, to);
        verdict
    }

    /// The bound endpoint's server is open again, from what it has received so far on.
    pub(super) fn detach(&mut self, key: u32) -> bool {
        let endpoint = self
            .flows
            .get(key)
            .and_then(|(_, record)| record.endpoint());
        let Some((endpoint, slot)) = endpoint.and_then(|e| Some((e, self.stack.get(e)?))) else {
            return false;
        };
        let replay = Replay {
            rcv_nxt: slot.tcp.rcv_nxt(),
            ts_recent: slot.tcp.ts_recent(),
        };
        let mut pending = Pending::new(Some(endpoint), slot.listener, replay);
        self.flows.update(key, |record| {
            // In place of the record for as long as it takes to build the new one.
            pending.bound = match core::mem::replace(record, Record::Local(endpoint)) {
                Record::Local(_) => Some(Bound::Local),
                Record::ForwardConnect(installed) => Some(Bound::Installed(installed)),
                other => {
                    *record = other;
                    return;
                }
            };
            *record = Record::Pending(Box::new(pending));
        });
        self.flows.schedule(key, None);
        matches!(self.flows.get(key), Some((_, Record::Pending(_))))
    }

    /// The host acts on an endpoint that is offered: it stays.
    pub(super) fn take_back(&mut self, now: Instant, endpoint: u32) {
        let Some(key) = self.stack.get(endpoint).map(|slot| slot.key) else {
            return;
        };
        if matches!(self.flows.get(key), Some((_, Record::Pending(p))) if p.bound.is_some()) {
            self.serve_here(now, key);
        }
    }

    /// The known server with this Port B, and the application on this port of it.
    pub(super) fn target(&self, at: SocketAddrV4) -> Option<Target> {
        let member = self.members.by_port_b(*at.ip())?;
        Some(Target {
            address: member.port_b,
            hardware: member.hardware,
            port: at.port(),
        })
    }
}
