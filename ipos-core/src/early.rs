//! Packets (0x02) that overtook their endpoint (0x01).

use alloc::boxed::Box;
use alloc::collections::VecDeque;
use alloc::vec::Vec;

use ipos_proto::MacAddr;

use crate::flow::Flow;
use crate::inspect::EarlyRow;
use crate::time::{Duration, Instant};

/// Flows that may have packets waiting at once.
const FLOWS: usize = 64;

#[derive(Debug)]
struct Packet {
    flow: Flow,
    from: MacAddr,
    bytes: Box<[u8]>,
    until: Instant,
}

/// A bounded number of packets for a bounded time. Full: the new one is dropped.
#[derive(Debug)]
pub(crate) struct Early {
    packets: VecDeque<Packet>,
    per_flow: usize,
    keep: Duration,
}

impl Early {
    pub(crate) fn new(per_flow: usize, keep: Duration) -> Early {
        Early {
            packets: VecDeque::new(),
            per_flow,
            keep,
        }
    }

    /// Keeps a packet that `from` sent; `false` when there is no room.
    pub(crate) fn push(&mut self, now: Instant, flow: Flow, from: MacAddr, bytes: &[u8]) -> bool {
        let of_flow = self.packets.iter().filter(|p| p.flow == flow).count();
        if of_flow >= self.per_flow || self.packets.len() >= self.per_flow.saturating_mul(FLOWS) {
            return false;
        }
        self.packets.push_back(Packet {
            flow,
            from,
            bytes: bytes.into(),
            until: now + self.keep,
        });
        true
    }

    /// The flow's packets from that sender, in the order of their arrival.
    pub(crate) fn take(&mut self, flow: &Flow, from: MacAddr) -> Vec<Box<[u8]>> {
        let mut taken = Vec::new();
        if self.packets.is_empty() {
            return taken;
        }
        self.packets.retain_mut(|packet| {
            let matches = packet.flow == *flow && packet.from == from;
            if matches {
                taken.push(core::mem::take(&mut packet.bytes));
            }
            !matches
        });
        taken
    }

    /// A packet that has waited too long: its flow, who sent it, and its bytes.
    pub(crate) fn expire(&mut self, now: Instant) -> Option<(Flow, MacAddr, Box<[u8]>)> {
        // All wait equally long, so the oldest is in front.
        let packet = self.packets.pop_front_if(|packet| packet.until <= now)?;
        Some((packet.flow, packet.from, packet.bytes))
    }

    /// When [`Early::expire`] must be called.
    pub(crate) fn timeout(&self) -> Option<Instant> {
        self.packets.front().map(|packet| packet.until)
    }

    /// Those that wait, the oldest first.
    pub(crate) fn iter(&self) -> impl Iterator<Item = EarlyRow> {
        self.packets.iter().map(|packet| EarlyRow {
            flow: packet.flow,
            from: packet.from,
            len: packet.bytes.len(),
        })
    }

    /// Other bounds, for what comes from now on.
    pub(crate) fn set_limits(&mut self, per_flow: usize, keep: Duration) {
        (self.per_flow, self.keep) = (per_flow, keep);
    }

    pub(crate) fn len(&self) -> usize {
        self.packets.len()
    }

    pub(crate) fn bound(&self) -> usize {
        self.per_flow.saturating_mul(FLOWS)
    }
}
