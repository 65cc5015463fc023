//! A LAN: a learning Ethernet switch.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipos_core::Instant;
use ipos_proto::{ETHERNET_LEN, Ethernet, MacAddr};
use rand_chacha::ChaCha8Rng;

use crate::impair::{Impairer, ImpairmentStatistics, Impairments};
use crate::network::NodeId;

/// Hardware addresses that a switch learns. Full: further ones are not learned, their frames flooded.
const LEARNED: usize = 4096;

/// The properties of a LAN.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LanConfig {
    /// Largest packet after the Ethernet header, in bytes.
    pub mtu: u16,
    /// From a sender to a receiver.
    pub latency: Duration,
    /// What happens to frames on the way.
    pub impairments: Impairments,
}

impl Default for LanConfig {
    /// 1500 bytes, 20 µs, no impairments.
    fn default() -> LanConfig {
        LanConfig {
            mtu: 1500,
            latency: Duration::from_micros(20),
            impairments: Impairments::default(),
        }
    }
}

/// What a LAN has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LanStatistics {
    /// Frames that came in.
    pub frames: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// Frames for a group or for an address not learned, sent to everybody.
    pub flooded: u64,
    /// Frames longer than MTU + 14 bytes: dropped.
    pub oversized: u64,
    /// Frames shorter than an Ethernet header: dropped.
    pub undersized: u64,
    /// Frames kept from a receiver by a partition.
    pub partitioned: u64,
    /// Copies dropped because too many frames were under way in the network.
    pub overflowed: u64,
    /// Per receiver of a frame.
    pub impairments: ImpairmentStatistics,
}

/// One copy of a frame on its way.
pub(crate) struct Delivery {
    pub(crate) to: usize,
    pub(crate) at: Instant,
    pub(crate) flip: Option<usize>,
}

/// A port of the switch.
struct Attachment {
    node: NodeId,
    /// The node's number for it.
    port: usize,
    /// Frames that are not held back leave in order.
    last: Instant,
}

/// A LAN: frames go to the attachment where their destination was last seen as a source, others to everybody.
pub struct Lan {
    mtu: u16,
    latency: Duration,
    attachments: Vec<Attachment>,
    learned: BTreeMap<MacAddr, usize>,
    apart: BTreeSet<(NodeId, NodeId)>,
    impairer: Impairer,
    statistics: LanStatistics,
}

impl Lan {
    pub(crate) fn new(config: LanConfig, rng: ChaCha8Rng) -> Lan {
        Lan {
            mtu: config.mtu,
            latency: config.latency,
            attachments: Vec::new(),
            learned: BTreeMap::new(),
            apart: BTreeSet::new(),
            impairer: Impairer::new(config.impairments, rng),
            statistics: LanStatistics::default(),
        }
    }

    pub(crate) fn attach(&mut self, node: NodeId, port: usize) -> usize {
        self.attachments.push(Attachment {
            node,
            port,
            last: Instant::ZERO,
        });
        self.attachments.len() - 1
    }

    /// The node and its port number at `attachment`.
    pub(crate) fn receiver(&self, attachment: usize) -> Option<(NodeId, usize)> {
        self.attachments.get(attachment).map(|a| (a.node, a.port))
    }

    /// Largest packet after the Ethernet header, in bytes.
    pub fn mtu(&self) -> u16 {
        self.mtu
    }

    /// What the LAN has seen so far.
    pub fn statistics(&self) -> LanStatistics {
        LanStatistics {
            impairments: self.impairer.statistics,
            ..self.statistics
        }
    }

    /// What happens to frames from now on.
    pub fn set_impairments(&mut self, impairments: Impairments) {
        self.impairer.impairments = impairments;
    }

    /// Keeps `a` and `b` apart: no frame passes between them, in either direction, until they are healed.
    pub fn partition(&mut self, a: NodeId, b: NodeId) {
        self.apart.insert((a.min(b), a.max(b)));
    }

    /// Ends [`Lan::partition`].
    pub fn heal(&mut self, a: NodeId, b: NodeId) {
        self.apart.remove(&(a.min(b), a.max(b)));
    }

    /// Ends all partitions.
    pub fn heal_all(&mut self) {
        self.apart.clear();
    }

    /// A copy was dropped because too many frames were under way.
    pub(crate) fn overflow(&mut self) {
        self.statistics.overflowed += 1;
    }

    /// Takes a frame from `from` and lists its deliveries.
    pub(crate) fn switch(
        &mut self,
        now: Instant,
        from: usize,
        frame: &[u8],
        deliveries: &mut Vec<Delivery>,
    ) {
        self.statistics.frames += 1;
        self.statistics.bytes += frame.len() as u64;
        if frame.len() > usize::from(self.mtu) + ETHERNET_LEN {
            self.statistics.oversized += 1;
            return;
        }
        let Ok((
            Ethernet {
                destination,
                source,
                ..
            },
            _,
        )) = Ethernet::parse(frame)
        else {
            self.statistics.undersized += 1;
            return;
        };
        self.learn(source, from);
        let known = if destination.is_multicast() {
            None
        } else {
            self.learned.get(&destination).copied()
        };
        match known {
            Some(to) if to == from => {}
            Some(to) => self.deliver(now, from, to, frame, deliveries),
            None => {
                self.statistics.flooded += 1;
                for to in (0..self.attachments.len()).filter(|&to| to != from) {
                    self.deliver(now, from, to, frame, deliveries);
                }
            }
        }
    }

    fn learn(&mut self, source: MacAddr, from: usize) {
        if source.is_multicast() {
            return;
        }
        if let Some(attachment) = self.learned.get_mut(&source) {
            *attachment = from;
        } else if self.learned.len() < LEARNED {
            self.learned.insert(source, from);
        }
    }

    fn deliver(
        &mut self,
        now: Instant,
        from: usize,
        to: usize,
        frame: &[u8],
        deliveries: &mut Vec<Delivery>,
    ) {
        if !self.apart.is_empty() {
            let (a, b) = (self.attachments[from].node, self.attachments[to].node);
            if self.apart.contains(&(a.min(b), a.max(b))) {
                self.statistics.partitioned += 1;
                return;
            }
        }
        for copy in self.impairer.fate(frame).into_iter().flatten() {
            let mut at = now + self.latency + copy.delay;
            if !copy.held_back {
                let last = &mut self.attachments[to].last;
                at = at.max(*last);
                *last = at;
            }
            deliveries.push(Delivery {
                to,
                at,
                flip: copy.flip,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::{Purpose, stream};

    fn lan(impairments: Impairments) -> Lan {
        let mut lan = Lan::new(
            LanConfig {
                impairments,
                ..LanConfig::default()
            },
            stream(1, Purpose::Lan, 0),
        );
        for node in 0..4 {
            lan.attach(NodeId(node), 0);
        }
        lan
    }

    fn frame(destination: u8, source: u8) -> [u8; 60] {
        let mut frame = [0; 60];
        frame[..6].fill(destination);
        frame[6..12].fill(source);
        frame
    }

    fn receivers(lan: &mut Lan, from: usize, frame: &[u8]) -> Vec<usize> {
        let mut deliveries = Vec::new();
        lan.switch(Instant::ZERO, from, frame, &mut deliveries);
        deliveries.iter().map(|delivery| delivery.to).collect()
    }

    #[test]
    fn unknown_addresses_and_groups_are_flooded_known_ones_are_not() {
        let mut lan = lan(Impairments::default());
        assert_eq!(
            receivers(&mut lan, 0, &frame(2, 4)),
            [1, 2, 3],
            "2 has not been seen"
        );
        assert_eq!(receivers(&mut lan, 2, &frame(4, 2)), [0], "4 was seen at 0");
        assert_eq!(receivers(&mut lan, 0, &frame(2, 4)), [2]);
        assert_eq!(receivers(&mut lan, 0, &frame(0xff, 4)), [1, 2, 3]);
        assert_eq!(
            receivers(&mut lan, 0, &frame(4, 6)),
            [0usize; 0],
            "not back to where it came from"
        );
        assert_eq!(
            receivers(&mut lan, 3, &frame(0xff, 2)),
            [0, 1, 2],
            "2 moves to 3"
        );
        assert_eq!(receivers(&mut lan, 0, &frame(2, 4)), [3]);
        assert_eq!(lan.statistics().flooded, 3);
    }

    #[test]
    fn too_long_and_too_short_frames_are_counted() {
        let mut lan = lan(Impairments::default());
        assert_eq!(receivers(&mut lan, 0, &[3; 1514]).len(), 3);
        assert_eq!(receivers(&mut lan, 0, &[3; 1515]).len(), 0);
        assert_eq!(receivers(&mut lan, 0, &[3; 13]).len(), 0);
        let seen = lan.statistics();
        assert_eq!((seen.frames, seen.oversized, seen.undersized), (3, 1, 1));
    }

    #[test]
    fn partitions_hold_in_both_directions_until_healed() {
        let mut lan = lan(Impairments::default());
        lan.partition(NodeId(2), NodeId(0));
        assert_eq!(receivers(&mut lan, 0, &frame(0xff, 4)), [1, 3]);
        assert_eq!(receivers(&mut lan, 2, &frame(4, 2)), [0usize; 0]);
        assert_eq!(lan.statistics().partitioned, 2);
        lan.heal(NodeId(0), NodeId(2));
        assert_eq!(receivers(&mut lan, 0, &frame(0xff, 4)), [1, 2, 3]);
    }

    #[test]
    fn jitter_keeps_the_order_reordering_does_not() {
        let arrivals = |impairments| {
            let mut lan = lan(impairments);
            lan.learn(MacAddr([2; 6]), 1);
            let mut deliveries = Vec::new();
            for micros in 0..1000 {
                lan.switch(
                    Instant::from_micros(micros),
                    0,
                    &frame(2, 4),
                    &mut deliveries,
                );
            }
            deliveries
                .iter()
                .map(|delivery| delivery.at)
                .collect::<Vec<_>>()
        };
        let jitter = Impairments {
            jitter: Duration::from_micros(500),
            ..Impairments::default()
        };
        let steady = arrivals(jitter);
        assert_eq!(steady.len(), 1000);
        assert!(steady.is_sorted());
        let reordered = arrivals(Impairments {
            reordering: 0.1,
            ..jitter
        });
        assert_eq!(reordered.len(), 1000);
        assert!(!reordered.is_sorted());
    }
}
