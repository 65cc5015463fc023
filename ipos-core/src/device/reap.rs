//! Connections whose owner has died: their clients are told (RST), as its host would have. And those whose first server has begun
//! a new life: no packet of their clients comes here any more.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use etherparse::TcpSlice;
use ipos_proto::{Epoch, Message, Protocol};

use super::Device;
use crate::build;
use crate::event::Port;
use crate::flow::Flow;
use crate::flow_table::Record;
use crate::handover::{Forwarding, Installed, Target};
use crate::tcp::{Flags, Outgoing, Window};
use crate::time::Instant;

/// Places of the flow table that are looked at in one go.
const STEPS: usize = 4_096;
/// A flow of nobody's: whoever is asked to move it answers, if it lives.
const NOBODY: Flow = Flow::tcp(NOWHERE, NOWHERE);
const NOWHERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0);

/// A search for the connections of a dead server.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reaping {
    /// Its Port B.
    owner: Ipv4Addr,
    /// Its lives before this one are over.
    incarnation: u32,
    /// It has begun this life, and the one before was heard of last then. `None`: it is silent, and may still forward packets.
    reborn: Option<Instant>,
    /// Where in the flow table the search is.
    cursor: usize,
}

impl Reaping {
    /// Whether the dead server has the connection of this record.
    fn has(&self, forwarding: &Forwarding) -> bool {
        forwarding.to().address == self.owner && forwarding.incarnation < self.incarnation
    }

    /// Whether a connection that came through the server was opened in a life of it that is over: it says so itself, or this
    /// server has had the connection before it last heard of that life.
    fn gave(&self, installed: &Installed) -> bool {
        let (Some(heard), Some(since)) = (self.reborn, installed.owner) else {
            return false;
        };
        match installed.incarnation {
            0 => since <= heard,
            told => told < self.incarnation,
        }
    }
}

impl Device {
    /// Looks for owners that have died, and asks those that are silent whether they live.
    pub(super) fn look_for_dead(&mut self, now: Instant) {
        let lost = self.config.limits.owner_lost;
        let silence = self.config.synch.silence;
        // This server may have stood still itself: answers may lie in the ports' queues.
        let patience = self.config.synch.high.saturating_mul(2);
        let (mut dead, mut silent) = (Vec::new(), Vec::new());
        for member in self.members.iter_mut() {
            // Nobody is given up for being silent, perhaps; who has said that it leaves, and does not answer, is gone.
            let Some(lost) = lost.or(member.left.then_some(silence)) else {
                member.lost = false;
                continue;
            };
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
            self.reap(owner, u32::MAX, None);
        }
        for to in silent {
            let target = SocketAddrV4::new(to.address, 0);
            let trailer = Some(self.trailer(Epoch::default(), None));
            self.send(to, &NOBODY, Message::Move { target, trailer });
        }
    }

    /// The connections that `owner` has in lives before `incarnation` are over; and those that it has given away in them, where
    /// it has begun this life (`reborn`: when the one before was heard of last). Bounded by the servers that there are.
    pub(super) fn reap(&mut self, owner: Ipv4Addr, incarnation: u32, reborn: Option<Instant>) {
        if self.config.limits.owner_lost.is_none() {
            return;
        }
        self.reapings.retain(|reaping| reaping.owner != owner);
        self.reapings.push(Reaping {
            owner,
            incarnation,
            reborn,
            cursor: 0,
        });
    }

    /// Much waits for the ports to clients already.
    pub(super) fn is_busy_with_clients(&self) -> bool {
        self.outbox.is_half_full(Port::A) || self.outbox.is_half_full(Port::C)
    }

    /// Resets some of them; the rest when there is room for more frames.
    pub(super) fn go_on_reaping(&mut self, now: Instant) {
        let Some(reaping) = self.reapings.last().copied() else {
            return;
        };
        let (mut cursor, end) = (reaping.cursor, reaping.cursor + STEPS);
        let next = loop {
            if cursor >= end || self.is_busy_with_clients() {
                break Some(cursor);
            }
            match self.flows.next_migrated(cursor, end - cursor) {
                Ok((key, flow, record)) => {
                    cursor = key as usize + 1;
                    match record {
                        Record::Forward(forwarding) if reaping.has(forwarding) => {
                            self.counters.owners_lost += 1;
                            self.reset_forwarded(now, key);
                        }
                        Record::ForwardConnect(installed)
                            if self.is_first(reaping.owner, flow) && reaping.gave(installed) =>
                        {
                            self.release(now, key);
                        }
                        _ => {}
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

    /// Whether clients reach the flow's connection through the server with this Port B.
    fn is_first(&self, port_b: Ipv4Addr, flow: &Flow) -> bool {
        let first = self.members.by_port_a(*flow.endpoint.ip());
        first.is_some_and(|first| first.port_b == port_b)
    }

    /// Whether a segment begins a connection in place of one whose forward record leads to a server that has left and is gone, or is
    /// forgotten, and that is not reset for it.
    pub(super) fn leads_nowhere(&self, key: u32, segment: &TcpSlice<'_>) -> bool {
        let Some((_, Record::Forward(forwarding))) = self.flows.get(key) else {
            return false;
        };
        if !forwarding.is_followed_by(segment) {
            return false;
        }
        let owner = self.members.by_port_b(forwarding.to().address);
        self.config.limits.owner_lost.is_none() && owner.is_none_or(|owner| owner.lost)
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
        let hop = self.next_hop(*flow.endpoint.ip(), *flow.client.ip());
        let Some(hardware) = self.neighbours.known(now, hop) else {
            return;
        };
        let make = |link| build::bare_tcp(link, &flow, &reset);
        if let Some(frame) = self.make_frame(hop.port, hardware, make) {
            self.counters.resets += 1;
            self.outbox.push(hop.port, frame);
        }
    }
}
