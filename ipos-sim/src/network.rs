//! Nodes and LANs in virtual time.

use std::cmp::{Ordering, Reverse};
use std::collections::BinaryHeap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipos_core::Instant;
use ipos_proto::ETHERNET_LEN;

use crate::frame::{Frame, Outbox};
use crate::lan::{Delivery, Lan, LanConfig};
use crate::observe::{Observer, Sighting};
use crate::random::{Purpose, stream};

/// A LAN of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LanId(pub usize);

/// A node of a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub usize);

/// A machine on LANs. Its ports are numbered in the order in which
/// [`Network::add_node`] attaches them.
pub trait Node {
    /// A whole Ethernet frame came in through `port`.
    fn handle_frame(&mut self, now: Instant, port: usize, frame: &[u8], out: &mut Outbox);

    /// The moment of [`Node::poll_timeout`] has come.
    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox);

    /// When [`Node::handle_timeout`] is to be called. A moment already past is taken for one microsecond from now.
    fn poll_timeout(&self) -> Option<Instant>;
}

/// A machine that is looked into after the run: keep a clone.
impl<N: Node> Node for Arc<Mutex<N>> {
    fn handle_frame(&mut self, now: Instant, port: usize, frame: &[u8], out: &mut Outbox) {
        let mut node = self.lock().unwrap_or_else(PoisonError::into_inner);
        node.handle_frame(now, port, frame, out);
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        let mut node = self.lock().unwrap_or_else(PoisonError::into_inner);
        node.handle_timeout(now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let node = self.lock().unwrap_or_else(PoisonError::into_inner);
        node.poll_timeout()
    }
}

/// Room for bytes beyond the MTU in a frame's buffer, so that oversized frames are seen and counted.
const EXCESS: usize = 256;

/// Frames and deadlines under way. Full: frames are dropped and counted.
const UNDER_WAY: usize = 1 << 22;

/// Nodes, the LANs between them, and the frames under way.
///
/// Nothing in it reads a clock or a global generator: the same calls with the same seed give the
/// same run.
pub struct Network<N> {
    now: Instant,
    seed: u64,
    queue: BinaryHeap<Reverse<Scheduled>>,
    /// Counts what was ever scheduled: simultaneous things happen in the order in which they were scheduled.
    scheduled: u64,
    lans: Vec<Lan>,
    nodes: Vec<Place<N>>,
    observers: Vec<Box<dyn Observer>>,
    out: Outbox,
    deliveries: Vec<Delivery>,
}

struct Place<N> {
    node: N,
    /// LAN and attachment of each port.
    ports: Vec<(LanId, usize)>,
    /// The wake-up that counts; others in the queue are stale.
    wake: Option<Instant>,
}

struct Scheduled {
    at: Instant,
    order: u64,
    what: What,
}

enum What {
    Arrival {
        lan: LanId,
        attachment: usize,
        frame: Frame,
    },
    Wake(NodeId),
}

impl PartialEq for Scheduled {
    fn eq(&self, other: &Scheduled) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Scheduled {}

impl PartialOrd for Scheduled {
    fn partial_cmp(&self, other: &Scheduled) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Scheduled {
    fn cmp(&self, other: &Scheduled) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}

impl<N: Node> Network<N> {
    /// A network with these LANs ([`LanId`]s in their order) and no nodes.
    pub fn new(seed: u64, lans: &[LanConfig]) -> Network<N> {
        let mtu = lans
            .iter()
            .map(|lan| usize::from(lan.mtu))
            .max()
            .unwrap_or(0);
        Network {
            now: Instant::ZERO,
            seed,
            queue: BinaryHeap::new(),
            scheduled: 0,
            lans: lans
                .iter()
                .enumerate()
                .map(|(index, config)| Lan::new(*config, stream(seed, Purpose::Lan, index)))
                .collect(),
            nodes: Vec::new(),
            observers: Vec::new(),
            out: Outbox::new(mtu + ETHERNET_LEN + EXCESS),
            deliveries: Vec::new(),
        }
    }

    /// Adds a node whose ports are attached to `ports`; unknown LANs among them stay unconnected.
    pub fn add_node(&mut self, node: N, ports: &[LanId]) -> NodeId {
        let id = NodeId(self.nodes.len());
        let lans = &mut self.lans;
        let ports = ports
            .iter()
            .enumerate()
            .map(|(port, &lan)| {
                (
                    lan,
                    lans.get_mut(lan.0)
                        .map_or(usize::MAX, |lan| lan.attach(id, port)),
                )
            })
            .collect();
        self.nodes.push(Place {
            node,
            ports,
            wake: None,
        });
        self.rearm(id, self.now);
        id
    }

    /// Adds an observer.
    pub fn observe(&mut self, observer: Box<dyn Observer>) {
        self.observers.push(observer);
    }

    /// The present moment.
    pub fn now(&self) -> Instant {
        self.now
    }

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A LAN.
    pub fn lan(&self, id: LanId) -> Option<&Lan> {
        self.lans.get(id.0)
    }

    /// A LAN, to change it.
    pub fn lan_mut(&mut self, id: LanId) -> Option<&mut Lan> {
        self.lans.get_mut(id.0)
    }

    /// A node.
    pub fn node(&self, id: NodeId) -> Option<&N> {
        self.nodes.get(id.0).map(|place| &place.node)
    }

    /// Calls a node from outside; what it puts into the outbox is sent.
    pub fn with<R>(
        &mut self,
        id: NodeId,
        call: impl FnOnce(&mut N, Instant, &mut Outbox) -> R,
    ) -> Option<R> {
        let place = self.nodes.get_mut(id.0)?;
        let result = call(&mut place.node, self.now, &mut self.out);
        self.flush(id);
        self.rearm(id, self.now);
        Some(result)
    }

    /// Tells the observers that `id` has lost its state.
    pub fn crashed(&mut self, id: NodeId) {
        for observer in &mut self.observers {
            observer.crashed(self.now, id);
        }
    }

    /// Does what comes next, if it comes at `limit` at the latest, and says which node it came to.
    /// Otherwise goes to `limit` and returns `None`.
    pub fn step(&mut self, limit: Instant) -> Option<NodeId> {
        loop {
            if self
                .queue
                .peek()
                .is_none_or(|Reverse(next)| next.at > limit)
            {
                self.now = self.now.max(limit);
                return None;
            }
            let Reverse(Scheduled { at, what, .. }) = self.queue.pop()?;
            self.now = at;
            let touched = match what {
                What::Arrival {
                    lan,
                    attachment,
                    frame,
                } => self.arrive(lan, attachment, frame),
                What::Wake(id) => self.wake(id),
            };
            if touched.is_some() {
                return touched;
            }
        }
    }

    /// Runs to `moment`.
    pub fn run_until(&mut self, moment: Instant) {
        while self.step(moment).is_some() {}
    }

    fn arrive(&mut self, lan: LanId, attachment: usize, frame: Frame) -> Option<NodeId> {
        let (id, port) = self.lans.get(lan.0)?.receiver(attachment)?;
        for observer in &mut self.observers {
            observer.delivered(&Sighting {
                now: self.now,
                lan,
                node: id,
                frame: frame.bytes(),
            });
        }
        let place = self.nodes.get_mut(id.0)?;
        place
            .node
            .handle_frame(self.now, port, frame.bytes(), &mut self.out);
        self.out.free(frame);
        self.flush(id);
        self.rearm(id, self.now);
        Some(id)
    }

    fn wake(&mut self, id: NodeId) -> Option<NodeId> {
        let place = self.nodes.get_mut(id.0)?;
        if place.wake != Some(self.now) {
            return None;
        }
        place.wake = None;
        if place.node.poll_timeout().is_none_or(|at| at > self.now) {
            // The deadline has moved since the wake-up was scheduled.
            self.rearm(id, self.now);
            return None;
        }
        place.node.handle_timeout(self.now, &mut self.out);
        self.flush(id);
        self.rearm(id, self.now + Duration::from_micros(1));
        Some(id)
    }

    /// Schedules the node's wake-up, unless an earlier one is on its way.
    fn rearm(&mut self, id: NodeId, earliest: Instant) {
        let Some(place) = self.nodes.get_mut(id.0) else {
            return;
        };
        let Some(at) = place.node.poll_timeout() else {
            return;
        };
        let at = at.max(earliest);
        if place.wake.is_none_or(|wake| at < wake) {
            place.wake = Some(at);
            self.schedule(at, What::Wake(id));
        }
    }

    fn schedule(&mut self, at: Instant, what: What) {
        self.queue.push(Reverse(Scheduled {
            at,
            order: self.scheduled,
            what,
        }));
        self.scheduled += 1;
    }

    /// Sends what a node has put into the outbox.
    fn flush(&mut self, id: NodeId) {
        let mut frames = self.out.take();
        for (port, mut frame) in frames.drain(..) {
            frame.pad();
            let place = self.nodes.get(id.0).and_then(|place| place.ports.get(port));
            match place {
                Some(&(lan, attachment)) => self.transmit(id, lan, attachment, frame),
                None => self.out.free(frame),
            }
        }
        self.out.put_back(frames);
    }

    fn transmit(&mut self, node: NodeId, id: LanId, attachment: usize, frame: Frame) {
        let Some(lan) = self.lans.get_mut(id.0) else {
            self.out.free(frame);
            return;
        };
        for observer in &mut self.observers {
            observer.sent(&Sighting {
                now: self.now,
                lan: id,
                node,
                frame: frame.bytes(),
            });
        }
        let mut deliveries = std::mem::take(&mut self.deliveries);
        lan.switch(self.now, attachment, frame.bytes(), &mut deliveries);
        let last = deliveries.pop();
        for delivery in deliveries.drain(..) {
            let copy = self.out.copy(&frame);
            self.send(id, delivery, copy);
        }
        self.deliveries = deliveries;
        match last {
            Some(delivery) => self.send(id, delivery, frame),
            None => self.out.free(frame),
        }
    }

    fn send(&mut self, lan: LanId, delivery: Delivery, mut frame: Frame) {
        if self.queue.len() >= UNDER_WAY {
            if let Some(lan) = self.lans.get_mut(lan.0) {
                lan.overflow();
            }
            self.out.free(frame);
            return;
        }
        if let Some(bit) = delivery.flip {
            frame.flip(bit);
        }
        self.schedule(
            delivery.at,
            What::Arrival {
                lan,
                attachment: delivery.to,
                frame,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends a frame to everybody at its moments, and notes what comes.
    struct Beacon {
        moments: Vec<u64>,
        heard: Vec<(u64, u8)>,
        name: u8,
    }

    impl Node for Beacon {
        fn handle_frame(&mut self, now: Instant, port: usize, frame: &[u8], _: &mut Outbox) {
            assert_eq!(port, 0);
            self.heard.push((now.as_micros(), frame[14]));
        }

        fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
            self.moments.retain(|&moment| moment > now.as_micros());
            out.send(0, &[0xff; 14], &[self.name]);
        }

        fn poll_timeout(&self) -> Option<Instant> {
            self.moments
                .iter()
                .min()
                .map(|&moment| Instant::from_micros(moment))
        }
    }

    fn beacon(name: u8, moments: &[u64]) -> Beacon {
        Beacon {
            moments: moments.to_vec(),
            heard: Vec::new(),
            name,
        }
    }

    #[test]
    fn frames_arrive_after_the_latency_in_order() {
        let lan = LanConfig {
            latency: Duration::from_micros(10),
            ..LanConfig::default()
        };
        let mut network = Network::new(1, &[lan]);
        let a = network.add_node(beacon(1, &[5, 20]), &[LanId(0)]);
        let b = network.add_node(beacon(2, &[5]), &[LanId(0)]);
        network.run_until(Instant::from_micros(15));
        assert_eq!(network.node(a).unwrap().heard, [(15, 2)]);
        assert_eq!(network.node(b).unwrap().heard, [(15, 1)]);
        network.with(b, |_, now, out| {
            assert_eq!(now.as_micros(), 15);
            out.send(0, &[0xff; 14], &[7]);
            out.send(1, &[0xff; 14], b"no such port");
        });
        network.run_until(Instant::from_micros(100));
        assert_eq!(network.node(a).unwrap().heard, [(15, 2), (25, 7)]);
        assert_eq!(network.node(b).unwrap().heard, [(15, 1), (30, 1)]);
        assert_eq!(network.now(), Instant::from_micros(100));
    }

    #[test]
    fn a_deadline_that_never_moves_on_does_not_stop_time() {
        struct Stuck(u32);
        impl Node for Stuck {
            fn handle_frame(&mut self, _: Instant, _: usize, _: &[u8], _: &mut Outbox) {}
            fn handle_timeout(&mut self, _: Instant, _: &mut Outbox) {
                self.0 += 1;
            }
            fn poll_timeout(&self) -> Option<Instant> {
                Some(Instant::ZERO)
            }
        }
        let mut network = Network::new(1, &[]);
        let id = network.add_node(Stuck(0), &[]);
        network.run_until(Instant::from_micros(9));
        assert_eq!(network.node(id).unwrap().0, 10);
    }
}
