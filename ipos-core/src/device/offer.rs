//! The first server's side of a hand-over (FIG. 10B): offer, acknowledgement, replay; or service here.

use alloc::boxed::Box;

use ipos_proto::{ConnectionInfo, Epoch, Message, SeqNum, Trailer};

use super::Device;
use super::select::Choice;
use crate::counters::DropReason;
use crate::event::{Event, ListenerId, Origin, Port, Verdict};
use crate::flow_table::Record;
use crate::handover::{Forwarding, Migration, Replaying, Retry};
use crate::stack::Slot;
use crate::tcp::Replay;
use crate::time::{Duration, Instant};

/// How often 0x01 is sent before another server is taken.
const OFFER_TRIES: u8 = 5;
/// A SYN is answered late within this time: then its client sends it again (RFC 6298 §2.1).
const SYN_VALID: Duration = Duration::from_secs(1);

impl Device {
    /// A request has come: which server is it for? Nothing happens while a hand-over is under way.
    pub(super) fn decide(&mut self, now: Instant, key: u32) {
        let Some((_, Record::Temporary(pending))) = self.flows.get(key) else {
            return;
        };
        if pending.migration.is_some() {
            return;
        }
        let (listener, endpoint, tried) =
            (pending.listener, pending.endpoint, pending.tried.clone());
        let exportable = self
            .stack
            .get(endpoint)
            .is_some_and(|slot| slot.tcp.is_exportable());
        let room = self.flows.forward() < self.config.limits.forward;
        if !exportable || !room || pending.kept.is_empty() || tried.is_full() {
            self.bind_local(now, key);
            return;
        }
        match self.select(now, listener, &tried) {
            Choice::Local => self.bind_local(now, key),
            Choice::Server(to) => {
                let epoch = Epoch::new(1 + tried.len() as u32);
                let migration = Migration {
                    to,
                    epoch,
                    started: now,
                    retry: Retry::new(),
                };
                if let Some((_, Record::Temporary(pending))) = self.flows.get_mut(key) {
                    pending.migration = Some(migration);
                }
                // The control block is this server's last word, unless nobody takes it.
                if let Some(slot) = self.stack.get_mut(endpoint) {
                    slot.muted = true;
                }
                self.stack.reschedule(endpoint);
                if let Some(member) = self.members.by_port_b_mut(to.address) {
                    member.sent = member.sent.saturating_add(1);
                }
                self.offer(now, key);
            }
        }
    }

    /// Temporary to local (FIG. 10A).
    pub(super) fn bind_local(&mut self, now: Instant, key: u32) {
        let Some((_, Record::Temporary(pending))) = self.flows.get(key) else {
            return;
        };
        let (listener, endpoint) = (pending.listener, pending.endpoint);
        self.with_endpoint(now, endpoint, |slot, _| slot.muted = false);
        if self.established() >= self.config.limits.endpoints {
            self.counters.drop(DropReason::TableFull);
            self.with_endpoint(now, endpoint, |slot, _| slot.tcp.abort());
            return;
        }
        self.flows.replace(key, Record::Local(endpoint));
        self.counters.local += 1;
        self.bind(endpoint, listener, Origin::Local);
    }

    /// Gives an endpoint to the application behind a listening socket.
    pub(super) fn bind(&mut self, endpoint: u32, listener: usize, origin: Origin) {
        let (Some(id), Some(slot)) = (self.stack.id(endpoint), self.stack.get(endpoint)) else {
            return;
        };
        let flow = slot.flow;
        self.stack.push_event(Event::Bound {
            endpoint: id,
            listener: ListenerId(listener),
            flow,
            origin,
        });
        self.stack.attach(&self.config.tcp, endpoint);
    }

    /// Sends 0x01, with the endpoint as it is now.
    fn offer(&mut self, now: Instant, key: u32) {
        let Some((flow, Record::Temporary(pending))) = self.flows.get(key) else {
            return;
        };
        let (
            flow,
            Some(Migration {
                to, epoch, retry, ..
            }),
        ) = (*flow, pending.migration)
        else {
            return;
        };
        let Some(slot) = self.stack.get(pending.endpoint) else {
            return;
        };
        // The request's packets are replayed: the importer begins where it begins.
        let replay = Replay {
            rcv_nxt: slot.tcp.irs() + 1,
            ts_recent: pending.syn_tsval,
        };
        let received = slot.tcp.rcv_nxt();
        let Some(control) = slot.tcp.export(now, epoch, replay) else {
            self.bind_local(now, key);
            return;
        };
        let trailer = self.trailer(epoch, Some(received));
        let connection = ConnectionInfo::Tcp {
            first: flow.endpoint,
            control,
        };
        self.send(
            to,
            flow.client,
            to.port,
            flow.protocol,
            Message::Endpoint {
                connection,
                trailer: Some(trailer),
            },
        );
        self.flows.schedule(key, Some(retry.next(now)));
    }

    /// A flow's deadline has passed.
    pub(super) fn flow_deadline(&mut self, now: Instant, key: u32) {
        match self.flows.get_mut(key) {
            Some((_, Record::Temporary(pending))) => match &mut pending.migration {
                // The client has sent nothing for so long: its application may be one that speaks first.
                None => self.bind_local(now, key),
                Some(migration) => {
                    if migration.retry.again(OFFER_TRIES) {
                        self.counters.offers_repeated += 1;
                        self.offer(now, key);
                    } else {
                        self.counters.unanswered += 1;
                        self.offer_failed(now, key);
                    }
                }
            },
            Some((_, Record::ForwardConnect(installed))) if !installed.owner => {
                let endpoint = installed.endpoint;
                self.counters.never_owned += 1;
                self.stack.fail(endpoint, crate::event::Failure::NeverOwned);
                self.discard(key);
            }
            Some((_, Record::Forward(_))) => self.forward_deadline(now, key),
            Some((_, Record::Tombstone(_))) => {
                self.flows.remove(key);
            }
            Some((_, Record::ForwardConnect(_) | Record::Local(_))) | None => {}
        }
    }

    /// The server refused or did not answer: another one, or this one.
    fn offer_failed(&mut self, now: Instant, key: u32) {
        if let Some((_, Record::Temporary(pending))) = self.flows.get_mut(key)
            && let Some(migration) = pending.migration.take()
        {
            // Full: `decide` serves here.
            let _ = pending.tried.try_push(migration.to.address);
            self.decide(now, key);
        }
    }

    /// 0x03: the endpoint is installed there, or the kept packets have arrived.
    pub(super) fn acknowledged(
        &mut self,
        now: Instant,
        key: u32,
        trailer: Option<Trailer>,
    ) -> Result<Verdict, DropReason> {
        match self.flows.get_mut(key) {
            Some((_, Record::Temporary(pending))) => {
                let migration = pending
                    .migration
                    .filter(|m| trailer.is_none_or(|trailer| trailer.epoch == m.epoch));
                let migration = migration.ok_or(DropReason::Stale)?;
                self.hand_over(now, key, migration);
                Ok(Verdict::Consumed)
            }
            Some((_, Record::Forward(forwarding))) => {
                let received = trailer.as_ref().and_then(Trailer::acknowledged);
                if let (Some(replay), Some(received)) = (&forwarding.replay, received)
                    && received.ge(replay.until)
                {
                    forwarding.replay = None;
                    let idle = forwarding.used + self.config.limits.forward_idle;
                    self.flows.schedule(key, Some(idle));
                }
                Ok(Verdict::Consumed)
            }
            _ => Err(DropReason::Stale),
        }
    }

    /// Temporary to forward: from here on the other server answers the client.
    fn hand_over(&mut self, now: Instant, key: u32, migration: Migration) {
        let Migration {
            to, epoch, started, ..
        } = migration;
        let Some(&flow) = self.flows.get(key).map(|(flow, _)| flow) else {
            return;
        };
        let headers = self.packet_headers(&flow, to);
        let forwarding = Forwarding {
            headers,
            to: to.address,
            epoch,
            used: now,
            opening: None,
            replay: None,
        };
        let Some(Record::Temporary(pending)) = self.flows.replace(key, Record::Forward(forwarding))
        else {
            return;
        };
        let Some(slot) = self.stack.remove(pending.endpoint) else {
            return;
        };
        self.counters.migrated_out += 1;
        // What was acknowledged here is in nobody's hands but ours, and without the first packet the other server does not
        // become the owner.
        let retry = Retry::new();
        let deadline = retry.next(now);
        let replay = Replaying {
            kept: pending.kept,
            until: slot.tcp.rcv_nxt(),
            retry,
        };
        self.send_packets(&headers, &replay);
        if let Some((_, Record::Forward(forwarding))) = self.flows.get_mut(key) {
            forwarding.replay = Some(Box::new(replay));
        }
        self.flows.schedule(key, Some(deadline));
        let name = self
            .members
            .by_port_b(to.address)
            .map(|member| member.name.clone())
            .unwrap_or_default();
        self.tell(Event::Migrated {
            flow,
            to: name,
            took: now.saturating_since(started),
        });
    }

    /// Kept packets as 0x02.
    fn send_packets(&mut self, headers: &[u8], replay: &Replaying) {
        for packet in replay.kept.iter() {
            self.counters.forwarded += 1;
            self.outbox.push(Port::B, [headers, packet].concat());
        }
    }

    /// Kept packets are sent again, or the record has been idle too long.
    fn forward_deadline(&mut self, now: Instant, key: u32) {
        let Some((_, Record::Forward(forwarding))) = self.flows.get_mut(key) else {
            return;
        };
        if let Some(mut replay) = forwarding.replay.take() {
            let headers = forwarding.headers;
            // What they carry is in nobody else's hands: only the cover, RELEASE or the owner's end ends it.
            if self.members.by_port_b(forwarding.to).is_none() {
                self.flows.remove(key);
                return;
            }
            replay.retry.slower();
            self.send_packets(&headers, &replay);
            let deadline = replay.retry.next(now);
            if let Some((_, Record::Forward(forwarding))) = self.flows.get_mut(key) {
                forwarding.replay = Some(replay);
            }
            self.flows.schedule(key, Some(deadline));
            return;
        }
        let idle = forwarding.used + self.config.limits.forward_idle;
        if idle <= now {
            self.flows.remove(key);
        } else {
            self.flows.schedule(key, Some(idle));
        }
    }

    /// 0x11: the server does not take the endpoint.
    pub(super) fn refused(
        &mut self,
        now: Instant,
        key: u32,
        trailer: Option<Trailer>,
    ) -> Result<Verdict, DropReason> {
        let Some((_, Record::Temporary(pending))) = self.flows.get(key) else {
            return Err(DropReason::Stale);
        };
        // Epoch 0: of a frame that could not be read as a whole.
        let fits = pending.migration.is_some_and(|m| {
            trailer.is_none_or(|t| t.epoch == m.epoch || t.epoch == Epoch::default())
        });
        if !fits {
            return Err(DropReason::Stale);
        }
        self.counters.refused += 1;
        self.offer_failed(now, key);
        Ok(Verdict::Consumed)
    }

    /// 0x10: the connection has ended at its owner.
    pub(super) fn released(
        &mut self,
        now: Instant,
        key: u32,
        trailer: Option<Trailer>,
    ) -> Result<Verdict, DropReason> {
        let opening = match self.flows.get_mut(key) {
            Some((_, Record::Forward(forwarding)))
                if trailer.is_none_or(|trailer| trailer.epoch >= forwarding.epoch) =>
            {
                let recent = now.saturating_since(forwarding.used) < SYN_VALID;
                forwarding.opening.take().filter(|_| recent)
            }
            _ => return Err(DropReason::Stale),
        };
        self.flows.remove(key);
        match opening {
            Some(frame) => self.balance(now, &frame),
            None => Ok(Verdict::Consumed),
        }
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

    /// The next byte that the endpoint expects of its client.
    pub(super) fn rcv_nxt(&self, endpoint: u32) -> SeqNum {
        self.stack
            .get(endpoint)
            .map(|slot| slot.tcp.rcv_nxt())
            .unwrap_or_default()
    }
}
