//! The giver's side of a hand-over (FIG. 10B): offer, acknowledgement, replay; or service here.

use alloc::boxed::Box;
use alloc::string::String;

use ipos_proto::{
    ConnectionInfo, ETHERNET_LEN, Epoch, MacAddr, Message, SeqNum, Trailer, TrailerFlags,
};

use super::Device;
use super::select::Choice;
use crate::build;
use crate::counters::DropReason;
use crate::event::{Event, ListenerId, Origin, Verdict};
use crate::flow::Flow;
use crate::flow_table::Record;
use crate::handover::{
    Aside, Before, Bound, Forwarding, Kept, Migration, Pending, Replaying, Retry, TRIES, Target,
    Tombstone,
};
use crate::members::Member;
use crate::stack::Slot;
use crate::time::{Duration, Instant};

/// A client that may be waiting for its server to speak is waited for no longer than this.
const PAUSE: Duration = Duration::from_millis(100);

impl Device {
    /// Some of a request has come: is it enough to tell which server it is for?
    pub(super) fn consider(&mut self, now: Instant, key: u32, ended: bool) {
        let Device {
            flows,
            stack,
            rules,
            sessions,
            config,
            ..
        } = self;
        if let Some((_, Record::Pending(pending))) = flows.get_mut(key)
            && let Some(inspector) = &mut pending.inspector
            && let Some(slot) = pending.endpoint.and_then(|endpoint| stack.get(endpoint))
        {
            let bytes = slot.tcp.readable();
            let session = |id: &[u8]| sessions.get(now, id).map(|row| row.server.clone());
            match rules.wanted(inspector.inspect(bytes), session) {
                None if !ended && bytes.len() < config.limits.request => {
                    if inspector.may_wait_for_server() {
                        let asked = pending.asked.unwrap_or(now);
                        let deadline = asked + config.limits.request_deadline;
                        flows.schedule(key, Some(deadline.min(now + PAUSE)));
                    }
                    return;
                }
                wanted => pending.wanted = wanted.unwrap_or_default(),
            }
            pending.inspector = None;
        }
        self.decide(now, key);
    }

    /// A request has come: which server is it for? Nothing happens while a hand-over is under way.
    pub(super) fn decide(&mut self, now: Instant, key: u32) {
        let Some((flow, Record::Pending(pending))) = self.flows.get(key) else {
            return;
        };
        if pending.migration.is_some() {
            return;
        }
        let client = *flow.client.ip();
        let asked = pending.asked.filter(|_| pending.tried.is_empty());
        let (listener, tried) = (pending.listener, pending.tried.clone());
        let wanted = pending.wanted.clone();
        let nothing_to_replay = pending.bound.is_none() && pending.kept.is_empty();
        if nothing_to_replay || tried.is_full() || !self.may_leave(pending.endpoint) {
            self.serve_here(now, key);
            return;
        }
        if let Some(asked) = asked {
            self.counters.decision.count(now.saturating_since(asked));
        }
        match self.select(now, client, listener, &tried, &wanted) {
            Choice::Local => self.serve_here(now, key),
            Choice::Server(to) => self.begin_offer(now, key, to),
        }
    }

    /// Everything sent is acknowledged, and the forward table has room. UDP may always leave.
    pub(super) fn may_leave(&self, endpoint: Option<u32>) -> bool {
        let exportable = |endpoint| {
            let slot = self.stack.get(endpoint);
            slot.is_some_and(|slot| slot.tcp.is_exportable())
        };
        endpoint.is_none_or(exportable) && self.flows.forward() < self.config.limits.forward
    }

    /// The control block is this server's last word, unless nobody takes it.
    pub(super) fn begin_offer(&mut self, now: Instant, key: u32, to: Target) {
        let Some((flow, Record::Pending(pending))) = self.flows.get(key) else {
            return;
        };
        // Every offer has its own epoch: answers to an earlier one are told apart.
        let mut epoch = Epoch::new(1 + pending.tried.len() as u32);
        if let Some(endpoint) = pending.endpoint {
            let others = self.epoch_of_port(flow);
            let Some(slot) = self.stack.get_mut(endpoint) else {
                return;
            };
            slot.muted = true;
            epoch = slot.epoch.max(others).next();
            slot.epoch = epoch;
            self.stack.reschedule(endpoint);
        }
        let member = self.members.by_port_b(to.address);
        let migration = Migration {
            to,
            epoch,
            started: now,
            retry: Retry::new(now),
            newest: member.and_then(Member::newest),
        };
        self.flows.update(key, |record| {
            if let Record::Pending(pending) = record {
                pending.migration = Some(migration);
            }
        });
        if let Some(member) = self.members.by_port_b_mut(to.address) {
            member.sent = member.sent.saturating_add(1);
        }
        self.offer(now, key);
    }

    /// The last epoch of the connections that the flow's client has from the same port, with whatever server: answers name the
    /// port alone, and are told apart by their epoch.
    fn epoch_of_port(&self, flow: &Flow) -> Epoch {
        let (client, port) = (flow.client, flow.endpoint.port());
        let records = self.flows.of_port(client, port, flow.protocol);
        let epochs = records.map(|(_, _, record)| record.epoch());
        epochs.max().unwrap_or_default()
    }

    /// Nobody else takes the endpoint: temporary to local (FIG. 10A), and a bound one has its record back.
    pub(super) fn serve_here(&mut self, now: Instant, key: u32) {
        let Some((_, Record::Pending(pending))) = self.flows.get(key) else {
            return;
        };
        let Some(endpoint) = pending.endpoint else {
            return self.keep_datagrams(now, key);
        };
        let listener = pending.listener;
        if pending.bound.is_some() {
            self.bind_again(key, endpoint);
        } else {
            self.bind_local(now, key, endpoint, listener);
        }
        self.stack.unmute(endpoint);
        self.sweep(now, endpoint);
    }

    /// A bound endpoint has its record back.
    fn bind_again(&mut self, key: u32, endpoint: u32) {
        let Some(Record::Pending(pending)) = self.flows.replace(key, Record::Local(endpoint))
        else {
            return;
        };
        if let Some(Bound::Installed(installed)) = pending.bound {
            let due = installed.moved.map(|retry| retry.due);
            self.flows.replace(key, Record::ForwardConnect(installed));
            self.flows.schedule(key, due);
        }
    }

    fn bind_local(&mut self, now: Instant, key: u32, endpoint: u32, listener: usize) {
        if self.established() >= self.config.limits.endpoints {
            self.counters.drop(DropReason::TableFull);
            return self.turn_away(now, key, endpoint);
        }
        self.flows.replace(key, Record::Local(endpoint));
        self.counters.local += 1;
        self.bind(endpoint, listener, Origin::Local);
    }

    /// There is no place for the connection: RST to its client. A cookie would bring it back again and again.
    fn turn_away(&mut self, now: Instant, key: u32, endpoint: u32) {
        let Some(slot) = self.stack.get_mut(endpoint) else {
            return self.discard(key);
        };
        let (flow, tombstone) = (slot.flow, Tombstone::of(&slot.tcp, Epoch::default()));
        slot.tcp.abort();
        let reset = slot.tcp.poll(now, &self.config.tcp);
        self.stack.remove(endpoint);
        // The RST may get lost: the client is told again.
        self.bury_briefly(now, key, tombstone);
        if let Some(reset) = reset {
            let hop = self.next_hop(*flow.endpoint.ip(), *flow.client.ip());
            self.counters.resets += 1;
            self.send_to(now, hop, |link| build::bare_tcp(link, &flow, &reset));
        }
    }

    /// Gives an endpoint to the application behind a listening socket.
    pub(super) fn bind(&mut self, endpoint: u32, listener: usize, origin: Origin) {
        let (Some(id), Some(slot)) = (self.stack.id(endpoint), self.stack.get_mut(endpoint)) else {
            return;
        };
        slot.listener = listener;
        let flow = slot.flow;
        self.stack.push_event(Event::Bound {
            endpoint: id,
            listener: ListenerId(listener),
            flow,
            origin,
        });
        self.begin_speech(endpoint);
        self.stack.attach(&self.config.tcp, endpoint);
    }

    /// Sends 0x01, with the endpoint as it is now.
    fn offer(&mut self, now: Instant, key: u32) {
        let Some((flow, Record::Pending(pending))) = self.flows.get(key) else {
            return;
        };
        let (flow, Some(migration)) = (*flow, pending.migration) else {
            return;
        };
        let Migration {
            to, epoch, retry, ..
        } = migration;
        let first = flow.endpoint;
        let exported = match pending.endpoint {
            None => Some((ConnectionInfo::Udp { first }, None)),
            Some(endpoint) => self.stack.get(endpoint).and_then(|slot| {
                let control = slot.tcp.export(now, epoch, pending.replay)?;
                Some((
                    ConnectionInfo::Tcp { first, control },
                    Some(slot.tcp.rcv_nxt()),
                ))
            }),
        };
        let Some((connection, received)) = exported else {
            self.serve_here(now, key);
            return;
        };
        let trailer = Some(self.trailer(epoch, received));
        let message = Message::Endpoint {
            connection,
            trailer,
        };
        self.send(to, &flow, message);
        self.flows.schedule(key, Some(retry.due));
    }

    /// A flow's deadline has passed.
    pub(super) fn flow_deadline(&mut self, now: Instant, key: u32) {
        match self.flows.get_mut(key) {
            Some((_, Record::Pending(pending))) => match &mut pending.migration {
                // What there is must do. Of a client that has sent nothing the application may be one that speaks first.
                None => {
                    pending.inspector = None;
                    self.decide(now, key);
                }
                Some(migration) if migration.retry.is_used_up(TRIES) => {
                    self.counters.unanswered += 1;
                    self.offer_failed(now, key, TrailerFlags::empty());
                }
                Some(migration) => {
                    migration.retry.sent(now);
                    self.counters.offers_repeated += 1;
                    self.offer(now, key);
                }
            },
            Some((_, Record::ForwardConnect(installed))) if installed.owner.is_none() => {
                self.give_up(now, key);
            }
            Some((_, Record::ForwardConnect(_))) => self.tell_first(now, key),
            Some((_, Record::Forward(_))) => self.forward_deadline(now, key),
            Some((_, Record::Datagrams(_))) => self.datagrams_deadline(now, key),
            Some((_, Record::Tombstone(_))) => {
                self.flows.remove(key);
            }
            Some((_, Record::Local(_))) | None => {}
        }
    }

    /// The server refused, for this reason, or did not answer: another one, or this one.
    fn offer_failed(&mut self, now: Instant, key: u32, reason: TrailerFlags) {
        let Some(&Flow {
            endpoint, protocol, ..
        }) = self.flows.get(key).map(|(flow, _)| flow)
        else {
            return;
        };
        let mut failed = None;
        let only = self.flows.update(key, |record| {
            let Record::Pending(pending) = record else {
                return None;
            };
            let migration = pending.migration.take()?;
            failed = Some(migration.to);
            // Full: `decide` serves here.
            let _ = pending.tried.try_push(migration.to.address);
            Some(pending.only)
        });
        // The first server may have forgotten the connection, which says nothing of others.
        let unknown = |member: &Member| {
            reason.contains(TrailerFlags::INVALID) && member.port_a.contains(endpoint.ip())
        };
        if let Some(to) = failed
            && let Some(member) = self.members.by_port_b_mut(to.address)
            && !unknown(member)
        {
            let willingness = &mut member.willingness;
            match reason.contains(TrailerFlags::NO_APPLICATION) {
                true => willingness.service_failed(now, (protocol, to.port), &member.listen),
                false => willingness.server_failed(now),
            }
        }
        match only.flatten() {
            Some(true) => self.serve_here(now, key),
            Some(false) => self.decide(now, key),
            None => {}
        }
    }

    /// 0x03: the endpoint is installed there, or the kept packets have arrived, or a forward record has followed.
    pub(super) fn acknowledged(
        &mut self,
        now: Instant,
        key: u32,
        hardware: MacAddr,
        trailer: Option<Trailer>,
    ) -> Result<Verdict, DropReason> {
        let fits = |epoch: Epoch| trailer.is_none_or(|trailer| trailer.epoch == epoch);
        // Only the Synch LAN vouches for its bits.
        let life = self.members.by_hardware(hardware).map(|m| m.incarnation);
        let life = life.filter(|&life| trailer.is_some_and(|t| t.incarnation == life));
        match self.flows.get_mut(key) {
            Some((_, Record::Pending(pending))) => {
                let migration = pending
                    .migration
                    .filter(|migration| migration.is_answered_by(hardware, trailer.as_ref()));
                let migration = migration.ok_or(DropReason::Stale)?;
                let incarnation = trailer.map_or(0, |trailer| trailer.incarnation);
                self.hand_over(now, key, migration, incarnation);
            }
            Some((_, Record::Forward(_))) => self.forward_acknowledged(now, key, trailer.as_ref()),
            Some((_, Record::ForwardConnect(installed)))
                if installed.first.hardware == hardware && fits(installed.epoch) =>
            {
                installed.moved = None;
                // In this life it has the connection.
                installed.incarnation = life.unwrap_or(installed.incarnation);
                if installed.owner.is_some() {
                    self.flows.schedule(key, None);
                }
            }
            _ => return Err(DropReason::Stale),
        }
        Ok(Verdict::Consumed)
    }

    /// The record becomes a forward record: from here on the other server answers the client.
    fn hand_over(&mut self, now: Instant, key: u32, migration: Migration, incarnation: u32) {
        let Migration {
            to, epoch, started, ..
        } = migration;
        let Some((&flow, Record::Pending(pending))) = self.flows.get(key) else {
            return;
        };
        if let Some(member) = self.members.by_port_b_mut(to.address) {
            let service = (flow.protocol, to.port);
            member.willingness.succeeded(now, service);
        }
        let Pending {
            endpoint, bound, ..
        } = &**pending;
        let Some(endpoint) = *endpoint else {
            return self.hand_over_datagrams(now, key, migration, incarnation);
        };
        let before = match bound {
            Some(Bound::Installed(installed)) if !installed.home => Some(Before {
                first: installed.first,
                giver: installed.giver.hardware,
            }),
            Some(Bound::Installed(_) | Bound::Local) | None => None,
        };
        let (id, bound, replay) = (self.stack.id(endpoint), bound.is_some(), pending.replay);
        let kept = self.flows.update(key, |record| match record {
            Record::Pending(pending) => core::mem::take(&mut pending.kept),
            _ => Kept::default(),
        });
        let mut kept = kept.unwrap_or_default();
        let exported = self.stack.get(endpoint).and_then(|slot| {
            let control = slot.tcp.export(now, epoch, replay)?;
            let first = flow.endpoint;
            Some((ConnectionInfo::Tcp { first, control }, slot.tcp.rcv_nxt()))
        });
        let Some(slot) = self.stack.remove(endpoint) else {
            return;
        };
        if kept.is_empty() {
            // Without a packet the other server does not become the owner: the client's last word is said again.
            let reversed = flow.reversed();
            let nudge = build::bare_tcp(build::Link::NONE, &reversed, &slot.tcp.last_word(now));
            nudge
                .into_iter()
                .for_each(|frame| kept.push(&frame[ETHERNET_LEN..]));
        }
        self.counters.migrated_out += 1;
        let headers = self.packet_headers(&flow, to);
        // What was acknowledged here is in nobody's hands but ours.
        let replay = Replaying {
            offer: exported,
            offer_until: now + self.config.limits.replay(),
            refusable: now + self.config.limits.install_deadline.saturating_mul(3),
            kept,
            until: slot.tcp.rcv_nxt(),
            beyond: 0,
            retry: Retry::new(now),
        };
        let forwarding = Forwarding {
            acknowledged: slot.tcp.snd_una(),
            irs: slot.tcp.irs(),
            replay: Some(Box::new(replay)),
            aside: before.map(|before| Box::new(Aside::First(before))),
            seq: slot.tcp.rcv_nxt(),
            ..Forwarding::new(now, headers, epoch, incarnation)
        };
        self.flows.replace(key, Record::Forward(forwarding));
        self.replay(key);
        self.schedule_forward(key);
        if let Some(endpoint) = id.filter(|_| bound && slot.attached) {
            let to = self.name_of(to);
            self.stack.push_event(Event::Left { endpoint, to });
        }
        self.tell_migrated(flow, to, now.saturating_since(started));
    }

    fn name_of(&self, server: Target) -> String {
        let member = self.members.by_port_b(server.address);
        member.map(|member| member.name.clone()).unwrap_or_default()
    }

    pub(super) fn tell_migrated(&mut self, flow: Flow, to: Target, took: Duration) {
        self.counters.handover.count(took);
        let to = self.name_of(to);
        self.tell(Event::Migrated { flow, to, took });
    }

    /// 0x11: the server does not take the endpoint.
    pub(super) fn refused(
        &mut self,
        now: Instant,
        key: u32,
        hardware: MacAddr,
        trailer: Option<Trailer>,
    ) -> Result<Verdict, DropReason> {
        let trailer = trailer.as_ref();
        match self.flows.get(key) {
            Some((_, Record::Pending(pending)))
                if (pending.migration).is_some_and(|m| m.is_refused_by(hardware, trailer)) =>
            {
                self.counters.refused += 1;
                let reason = trailer.map_or(TrailerFlags::empty(), |t| t.flags);
                self.offer_failed(now, key, reason);
            }
            // Its deadline there has passed without a packet, and it is not taken again: nobody has the connection.
            Some((_, Record::Forward(forwarding)))
                if forwarding.to().hardware == hardware
                    && forwarding.is_refused_by(trailer)
                    && (forwarding.replay.as_ref()).is_some_and(|r| now >= r.refusable) =>
            {
                self.counters.refused += 1;
                self.lose(now, key);
            }
            _ => return Err(DropReason::Stale),
        }
        Ok(Verdict::Consumed)
    }

    // ---- small things about flows and their endpoints ----

    /// Tells a slot where its flow's record is.
    pub(super) fn place(&mut self, endpoint: u32, key: u32) {
        if let Some(slot) = self.stack.get_mut(endpoint) {
            slot.key = key;
        }
    }

    /// Removes a flow and its endpoint, silently.
    pub(super) fn discard(&mut self, key: u32) {
        if let Some((_, record)) = self.flows.remove(key)
            && let Some(endpoint) = record.endpoint()
        {
            self.stack.remove(endpoint);
        }
    }

    /// The next byte that the endpoint expects of its client.
    pub(super) fn rcv_nxt(&self, endpoint: u32) -> SeqNum {
        self.stack
            .get(endpoint)
            .map(|slot| slot.tcp.rcv_nxt())
            .unwrap_or_default()
    }

    /// Changes an endpoint, and looks at what it wants then.
    pub(super) fn with_endpoint(
        &mut self,
        now: Instant,
        endpoint: u32,
        change: impl FnOnce(&mut Slot, &crate::config::Tcp),
    ) {
        if let Some(slot) = self.stack.get_mut(endpoint) {
            change(slot, &self.config.tcp);
            self.stack.touch(endpoint);
        }
        self.sweep(now, endpoint);
    }
}
