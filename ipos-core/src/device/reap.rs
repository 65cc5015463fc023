//! Connections whose owner has died: their clients are told (RST), as its host would have.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use ipos_proto::{Epoch, Message, Protocol};

use super::Device;
use crate::build;
use crate::event::Port;
use crate::flow::Flow;
use crate::flow_table::Record;
use crate::handover::Target;
use crate::tcp::{Flags, Outgoing, Window};
use crate::time::Instant;

/// Places of the flow table that are looked at in one go.
const STEPS: usize = 4_096;
/// A flow of nobody's: whoever is asked to move it answers, if it lives.
const NOBODY: Flow = Flow::tcp(NOWHERE, NOWHERE);
const NOWHERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

/// A search for the connections of a dead owner.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reaping {
    /// Its Port B.
    owner: Ipv4Addr,
    /// Its lives before this one are over.
    incarnation: u32,
    /// Where in the flow table the search is.
    cursor: usize,
}

impl Device {
    /// Looks for owners that have died, and asks those that are silent whether they live.
    pub(super) fn look_for_dead(&mut self, now: Instant) {
        let Some(lost) = self.config.limits.owner_lost else {
            return;
        };
        let silence = self.config.synch.silence;
        // This server may have stood still itself: answers may lie in the ports' queues.
        let patience = self.config.synch.high.saturating_mul(2);
        let (mut dead, mut silent) = (Vec::new(), Vec::new());
        for member in self.members.iter_mut() {
            let seen = now.saturating_since(member.seen());
            if member.is_alive(now, silence) || seen < lost {
                // It may fall silent once more.
                member.lost = false;
            }
            if member.is_alive(now, silence) {
                continue;
            }
            if !member.lost && member.is_identified() {
                let asked = member.ask(now);
                if seen >= lost && now.saturating_since(asked) >= patience {
                    member.lost = true;
                    dead.push(member.port_b);
                } else {
                    silent.push(Target {
                        address: member.port_b,
                        hardware: member.hardware,
                        port: 0,
                    });
                }
            }
        }
        for owner in dead {
            self.reap(owner, u32::MAX);
        }
        for to in silent {
            let target = SocketAddrV4::new(to.address, 0);
            let trailer = Some(self.trailer(Epoch::default(), None));
            self.send(to, &NOBODY, Message::Move { target, trailer });
        }
    }

    /// The connections that `owner` has in lives before `incarnation` are over. Bounded by the servers that there are.
    pub(super) fn reap(&mut self, owner: Ipv4Addr, incarnation: u32) {
        if self.config.limits.owner_lost.is_none() {
            return;
        }
        self.reapings.retain(|reaping| reaping.owner != owner);
        self.reapings.push(Reaping {
            owner,
            incarnation,
            cursor: 0,
        });
    }

    /// Much waits for the ports to clients already.
    pub(super) fn is_busy_with_clients(&self) -> bool {
        self.outbox.is_half_full(Port::A) || self.outbox.is_half_full(Port::C)
    }

    /// Resets some of them; the rest when there is room for more frames.
    pub(super) fn go_on_reaping(&mut self, now: Instant) {
        let Some(Reaping {
            owner,
            incarnation,
            cursor,
        }) = self.reapings.last().copied()
        else {
            return;
        };
        let (mut cursor, end) = (cursor, cursor + STEPS);
        let next = loop {
            if cursor >= end || self.is_busy_with_clients() {
                break Some(cursor);
            }
            match self.flows.next_forward(cursor, end - cursor) {
                Ok((key, forwarding)) => {
                    cursor = key as usize + 1;
                    let told = forwarding.incarnation;
                    if forwarding.to().address == owner && told < incarnation {
                        self.counters.owners_lost += 1;
                        self.reset_forwarded(now, key);
                    }
                }
                Err(next) => break next,
            }
        };
        match (next, self.reapings.last_mut()) {
            (Some(next), Some(reaping)) => reaping.cursor = next,
            _ => {
                self.reapings.pop();
            }
        }
    }

    /// Whether a forward record leads to a server that is forgotten, and is not reset for it.
    pub(super) fn leads_nowhere(&self, key: u32) -> bool {
        let Some((_, Record::Forward(forwarding))) = self.flows.get(key) else {
            return false;
        };
        let owner = self.members.by_port_b(forwarding.to().address);
        self.config.limits.owner_lost.is_none() && owner.is_none()
    }

    /// A record that was laid by meanwhile may lead to a server that has died.
    pub(super) fn reset_if_dead(&mut self, now: Instant, key: u32) {
        let Some((_, Record::Forward(forwarding))) = self.flows.get(key) else {
            return;
        };
        let owner = self.members.by_port_b(forwarding.to().address);
        let lives = owner.is_some_and(|m| !m.lost && m.incarnation <= forwarding.incarnation);
        if !lives && self.config.limits.owner_lost.is_some() {
            self.counters.owners_lost += 1;
            self.reset_forwarded(now, key);
        }
    }

    /// RST to the client where its hardware address is known; what it sends later is answered as of no connection.
    pub(super) fn reset_forwarded(&mut self, now: Instant, key: u32) {
        let Some((flow, Record::Forward(forwarding))) = self.flows.remove(key) else {
            return;
        };
        let silent = forwarding.first().is_some() || flow.protocol == Protocol::Udp;
        if silent || self.config.unmatched == crate::config::Unmatched::Drop {
            return;
        }
        let reset = Outgoing {
            seq: forwarding.acknowledged,
            ack: Default::default(),
            flags: Flags::RST,
            window: Window::default(),
            options: Default::default(),
            payload: (0, 0),
            burst: None,
        };
        self.reset_client(now, &flow, &reset);
    }

    /// A RST, where the client's hardware address is known.
    pub(super) fn reset_client(&mut self, now: Instant, flow: &Flow, reset: &Outgoing) {
        let hop = self.next_hop(*flow.endpoint.ip(), *flow.client.ip());
        let Some(hardware) = self.neighbours.known(now, hop) else {
            return;
        };
        let make = |link| build::bare_tcp(link, flow, reset);
        if let Some(frame) = self.make_frame(hop.port, hardware, make) {
            self.counters.resets += 1;
            self.outbox.push(hop.port, frame);
        }
    }
}
