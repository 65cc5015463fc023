//! UDP flows (FIG. 11C): nothing of them is to be handed over but where their datagrams go; they end when nothing passes.

use alloc::vec::Vec;

use ipos_proto::{Epoch, Header, MacAddr, Message, TrailerFlags};

use super::forward::pass_on;
use super::icmp::PORT_UNREACHABLE;
use super::{Device, Via};
use crate::build;
use crate::config::{Listen, Unmatched};
use crate::counters::DropReason;
use crate::event::{Event, ListenerId, Verdict};
use crate::flow::Flow;
use crate::flow_table::Record;
use crate::handover::{
    Datagrams, DatagramsInstalled, Forwarding, Kept, Migration, Pending, Target,
};
use crate::packet::Ipv4Packet;
use crate::time::Instant;
use ipos_proto::ETHERNET_LEN;

/// Why a datagram cannot be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DatagramError {
    /// The flow has ended, or belongs to another server.
    #[error("no such flow here")]
    UnknownFlow,
    /// It does not fit into Port A's MTU: the device does not fragment.
    #[error("the datagram does not fit into one packet")]
    TooLong,
}

impl Device {
    /// Sends a datagram to a flow's client, from the address that the client sent to. It is lost where the client's
    /// hardware address is not found out in time, as on any network.
    ///
    /// # Errors
    /// This server does not have the flow, or the datagram is too long for one packet.
    pub fn send_datagram(
        &mut self,
        now: Instant,
        flow: &Flow,
        payload: &[u8],
    ) -> Result<(), DatagramError> {
        let key = self.flows.find(flow).ok_or(DatagramError::UnknownFlow)?;
        let Some((_, Record::Datagrams(datagrams))) = self.flows.get_mut(key) else {
            return Err(DatagramError::UnknownFlow);
        };
        if datagrams
            .installed
            .is_some_and(|installed| !installed.owner)
        {
            return Err(DatagramError::UnknownFlow);
        }
        datagrams.used = now;
        let hop = self.next_hop(*flow.endpoint.ip(), *flow.client.ip());
        let make = |link| build::udp(link, flow.endpoint, flow.client, payload);
        self.send_to(now, hop, make).ok_or(DatagramError::TooLong)
    }

    /// A client's datagram.
    pub(super) fn balance_datagram(
        &mut self,
        now: Instant,
        via: Via,
        packet: &Ipv4Packet<'_>,
    ) -> Result<Verdict, DropReason> {
        let (flow, payload) = packet.udp()?;
        let Some(key) = self.flows.find_next(&flow) else {
            return self.open_datagrams(now, via, &flow, packet);
        };
        match self.flows.get_mut(key) {
            Some((_, Record::Pending(_))) => self.keep_datagram(key, packet),
            Some((_, Record::Forward(forwarding))) => {
                if packet.bytes().len() > self.config.port_b.room() {
                    return self.say_too_big(now, via, packet);
                }
                forwarding.used = now;
                self.counters.forwarded += 1;
                Ok(pass_on(forwarding.headers, ETHERNET_LEN, packet))
            }
            Some((_, Record::Datagrams(datagrams))) if datagrams.installed.is_none() => {
                datagrams.used = now;
                let listener = datagrams.listener;
                self.deliver(&flow, listener, payload)
            }
            _ => Err(DropReason::NotOurs),
        }
    }

    /// The flow's server is not settled.
    fn keep_datagram(&mut self, key: u32, packet: &Ipv4Packet<'_>) -> Result<Verdict, DropReason> {
        match self.flows.get(key) {
            Some((_, Record::Pending(pending))) if self.may_keep(&pending.kept, packet) => {
                self.keep(key, packet);
                Ok(Verdict::Consumed)
            }
            _ => Err(DropReason::RequestFull),
        }
    }

    fn open_datagrams(
        &mut self,
        now: Instant,
        via: Via,
        flow: &Flow,
        packet: &Ipv4Packet<'_>,
    ) -> Result<Verdict, DropReason> {
        let serves = |l: &Listen| l.address == flow.endpoint && l.protocol == flow.protocol;
        let Some(listener) = self.config.listen.iter().position(serves) else {
            if self.config.unmatched == Unmatched::Reset {
                self.answer_with_error(now, via, packet, PORT_UNREACHABLE, 0);
            }
            return Err(DropReason::Unmatched);
        };
        if self.flows.temporary() >= self.config.limits.temporary {
            return Err(DropReason::TableFull);
        }
        let mut kept = Kept::default();
        if !self.may_keep(&kept, packet) {
            return Err(DropReason::RequestFull);
        }
        kept.push(packet.bytes());
        let mut pending = Pending::new(None, listener, Default::default());
        pending.kept = kept;
        pending.asked = Some(now);
        let key = self.flows.insert(*flow, Record::Pending(pending.into()));
        self.decide(now, key);
        Ok(Verdict::Consumed)
    }

    /// Nobody else takes the flow.
    pub(super) fn keep_datagrams(&mut self, now: Instant, key: u32) {
        if self.established() >= self.config.limits.endpoints {
            self.counters.drop(DropReason::TableFull);
            self.flows.remove(key);
            return;
        }
        let Some((&flow, Record::Pending(pending))) = self.flows.get(key) else {
            return;
        };
        let datagrams = Datagrams {
            listener: pending.listener,
            used: now,
            installed: None,
        };
        let former = self.flows.replace(key, Record::Datagrams(datagrams));
        self.schedule_datagrams(key);
        self.counters.local += 1;
        let Some(Record::Pending(pending)) = former else {
            return;
        };
        for packet in pending.kept.iter() {
            let read = Ipv4Packet::read(packet).and_then(|packet| packet.udp());
            let delivered =
                read.and_then(|(_, payload)| self.deliver(&flow, pending.listener, payload));
            if let Err(reason) = delivered {
                self.counters.drop(reason);
            }
        }
    }

    /// 0x03 for a UDP flow: its datagrams go to the other server. They are sent once, as on any network.
    pub(super) fn hand_over_datagrams(
        &mut self,
        now: Instant,
        key: u32,
        migration: Migration,
        incarnation: u32,
    ) {
        let Migration {
            to, epoch, started, ..
        } = migration;
        let Some((&flow, _)) = self.flows.get(key) else {
            return;
        };
        let headers = self.packet_headers(&flow, to);
        let forwarding = Forwarding::new(now, headers, epoch, incarnation);
        let former = self.flows.replace(key, Record::Forward(forwarding));
        self.schedule_forward(key);
        self.counters.migrated_out += 1;
        if let Some(Record::Pending(mut pending)) = former {
            self.counters.forwarded += pending.kept.send(&headers, &mut self.outbox);
        }
        self.tell_migrated(flow, to, now.saturating_since(started));
    }

    /// 0x01 for UDP (FIG. 11F).
    pub(super) fn install_datagrams(
        &mut self,
        now: Instant,
        header: &Header,
        giver: Target,
        flow: &Flow,
        epoch: Epoch,
    ) -> Result<Verdict, DropReason> {
        let installed = DatagramsInstalled {
            first: giver,
            epoch,
            owner: false,
        };
        if let Some(key) = self.flows.find(flow) {
            match self.flows.get_mut(key) {
                Some((_, Record::Datagrams(datagrams))) => {
                    let known = datagrams.installed.ok_or(DropReason::Stale)?;
                    if epoch < known.epoch {
                        return Err(DropReason::Stale);
                    }
                    // Repeated, or the first server has forgotten and begins anew.
                    datagrams.installed = Some(DatagramsInstalled {
                        owner: known.owner,
                        ..installed
                    });
                }
                _ => return Err(DropReason::Stale),
            }
        } else {
            let listener = self.listener_for(giver, flow, header.port, false);
            let available = |at: &usize| !self.me.unavailable.contains(at);
            let Some(listener) = listener.filter(available) else {
                return self.refuse(giver, flow, TrailerFlags::NO_APPLICATION, epoch);
            };
            if self.me.left || self.me.draining {
                return self.refuse(giver, flow, TrailerFlags::DRAINING, epoch);
            }
            if self.established() >= self.config.limits.endpoints {
                self.counters.drop(DropReason::TableFull);
                return self.refuse(giver, flow, TrailerFlags::FULL, epoch);
            }
            let datagrams = Datagrams {
                listener,
                used: now,
                installed: Some(installed),
            };
            let key = self.flows.insert(*flow, Record::Datagrams(datagrams));
            self.schedule_datagrams(key);
        }
        self.acknowledge_epoch(giver, flow, epoch, None);
        for packet in self.early.take(flow, giver.hardware) {
            if let Err(reason) = self.owned_packet(now, giver.hardware, &packet) {
                self.counters.drop(reason);
            }
        }
        Ok(Verdict::Consumed)
    }

    /// A client's datagram from Port B.
    pub(super) fn owned_datagram(
        &mut self,
        now: Instant,
        hardware: MacAddr,
        packet: &Ipv4Packet<'_>,
    ) -> Result<Verdict, DropReason> {
        let (flow, payload) = packet.udp()?;
        let Some(key) = self.flows.find_next(&flow) else {
            return self.keep_early(now, &flow, hardware, packet);
        };
        let (listener, begins) = match self.flows.get_mut(key) {
            Some((_, Record::Datagrams(datagrams))) => {
                let installed = datagrams.installed.as_mut().ok_or(DropReason::Stale)?;
                if installed.first.hardware != hardware {
                    return Err(DropReason::Stranger);
                }
                let begins = !core::mem::replace(&mut installed.owner, true);
                datagrams.used = now;
                (datagrams.listener, begins)
            }
            _ => return Err(DropReason::Stale),
        };
        if begins {
            self.counters.migrated_in += 1;
        }
        self.deliver(&flow, listener, payload)
    }

    /// To the application, unless it does not keep up.
    fn deliver(
        &mut self,
        flow: &Flow,
        listener: usize,
        payload: &[u8],
    ) -> Result<Verdict, DropReason> {
        if self.stack.datagrams() >= self.config.limits.datagrams {
            return Err(DropReason::HostBusy);
        }
        self.stack.push_event(Event::Datagram {
            flow: *flow,
            listener: ListenerId(listener),
            payload: Vec::from(payload),
        });
        Ok(Verdict::Consumed)
    }

    fn schedule_datagrams(&mut self, key: u32) {
        if let Some((_, Record::Datagrams(datagrams))) = self.flows.get(key) {
            let idle = datagrams.used + self.config.limits.udp_idle;
            self.flows.schedule(key, Some(idle));
        }
    }

    /// The flow's deadline has passed: unless something has passed meanwhile, it is over.
    pub(super) fn datagrams_deadline(&mut self, now: Instant, key: u32) {
        let Some((_, Record::Datagrams(datagrams))) = self.flows.get(key) else {
            return;
        };
        if datagrams.used + self.config.limits.udp_idle > now {
            return self.schedule_datagrams(key);
        }
        self.end_datagrams(key);
    }

    /// The flow is over: host and first server are told.
    pub(super) fn end_datagrams(&mut self, key: u32) {
        let Some((&flow, Record::Datagrams(datagrams))) = self.flows.get(key) else {
            return;
        };
        let installed = datagrams.installed;
        let never_owned = installed.is_some_and(|installed| !installed.owner);
        self.flows.remove(key);
        if never_owned {
            self.counters.never_owned += 1;
            return;
        }
        self.stack.push_event(Event::DatagramsEnded(flow));
        if let Some(DatagramsInstalled { first, epoch, .. }) = installed {
            let trailer = Some(self.trailer(epoch, None));
            let message = Message::Release { trailer };
            self.send(first, &flow, message);
        }
    }
}
