//! The engine's side of the sockets in its process: endpoints of the device, joined to the buffers that applications read and
//! write.

mod joint;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::net::SocketAddrV4;
use std::sync::Arc;
use std::time::Duration;

use ipos_core::{Device, EndpointId, Event, Failure, Flow, Instant, ListenerId, Origin};
use slab::Slab;

use crate::bridge::{HOST_TURN, PARKED_TURN, pass_on};
use crate::socket::{Backlog, Ended, Notices, Shared};
use joint::{Joint, Progress};

/// All in-process connections of one engine.
pub(crate) struct Sockets {
    listeners: BTreeMap<ListenerId, Backlog>,
    joints: Slab<Joint>,
    by_endpoint: HashMap<EndpointId, usize>,
    /// Joints that can go on; each at most once, but for removed ones.
    queue: VecDeque<usize>,
    /// Joints that nobody can accept, and since when.
    parked: BTreeMap<usize, Instant>,
    parked_turn: Instant,
    notices: Arc<Notices>,
    /// Taken from the notices; reused.
    told: Vec<usize>,
    /// Bound of `joints`. Full: the endpoint is aborted.
    bound: usize,
    /// How long a closed connection's client may take nothing.
    half_close: Duration,
    /// How long a joint may be parked.
    patience: Duration,
    refused: u64,
}

impl Sockets {
    /// The listening sockets of these addresses; at most `bound` connections.
    pub(crate) fn new(
        listeners: BTreeMap<ListenerId, (SocketAddrV4, Backlog)>,
        notices: Notices,
        bound: usize,
        half_close: Duration,
        patience: Duration,
    ) -> Sockets {
        let notices = Arc::new(notices);
        let begin = |(listener, (address, backlog)): (_, (_, Backlog))| {
            backlog.begin(address, &notices);
            (listener, backlog)
        };
        let listeners = listeners.into_iter().map(begin).collect();
        // Those that were dropped before now tell nobody.
        notices.tell(Backlog::GONE);
        Sockets {
            listeners,
            joints: Slab::new(),
            by_endpoint: HashMap::new(),
            queue: VecDeque::new(),
            parked: BTreeMap::new(),
            parked_turn: Instant::ZERO,
            notices,
            told: Vec::new(),
            bound,
            half_close,
            patience,
            refused: 0,
        }
    }

    /// Connections that are open.
    pub(crate) fn len(&self) -> usize {
        self.joints.len()
    }

    /// Endpoints that found no application.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether a turn would find work.
    pub(crate) fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }

    /// When what is parked has its turn.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (!self.parked.is_empty()).then_some(self.parked_turn)
    }

    /// What the device tells its host; whether it was about one of these.
    pub(crate) fn handle_event(
        &mut self,
        device: &mut Device,
        now: Instant,
        event: &Event,
    ) -> bool {
        let (endpoint, ended) = match event {
            Event::Bound {
                endpoint,
                listener,
                flow,
                origin,
            } => {
                let known = self.listeners.contains_key(listener);
                if known {
                    self.open(device, now, *endpoint, *listener, *flow, *origin);
                }
                return known;
            }
            Event::Readable(endpoint) | Event::Writable(endpoint) => (endpoint, None),
            Event::Failed(endpoint, why) => (endpoint, Some(ended(*why))),
            Event::Left { endpoint, to } => (endpoint, Some(Ended::Moved { to: to.clone() })),
            _ => return false,
        };
        let Some(&key) = self.by_endpoint.get(endpoint) else {
            return false;
        };
        match ended {
            None => self.wake(key),
            Some(_) => self.remove(key, ended),
        }
        true
    }

    /// Moves bytes, each connection in its turn, as far as the allowance of one turn goes.
    pub(crate) fn turn(&mut self, device: &mut Device, now: Instant) {
        self.listen_to_applications(device, now);
        self.turn_parked(device, now);
        let mut allowance = HOST_TURN;
        for _ in 0..self.queue.len() {
            if allowance == 0 {
                return;
            }
            let Some(key) = self.queue.pop_front() else {
                return;
            };
            let Some(joint) = self.joints.get_mut(key) else {
                continue;
            };
            joint.queued = false;
            let progress = joint.pump(device, now, &mut allowance);
            self.settle(device, now, key, progress);
        }
    }

    /// What is looked at now and then: closed connections whose clients take nothing, and buffers that nobody uses.
    pub(crate) fn sweep(&mut self, device: &mut Device, now: Instant) {
        let half_close = self.half_close;
        let silent = |(key, joint): (usize, &mut Joint)| {
            let closed = joint.look_after();
            (closed && now.saturating_since(joint.last) >= half_close).then_some(key)
        };
        let silent: Vec<usize> = self.joints.iter_mut().filter_map(silent).collect();
        for key in silent {
            self.settle(device, now, key, Progress::Failed);
        }
    }

    /// Ends everything: clients get RST, applications [`Ended::Stopped`].
    pub(crate) fn abort_all(&mut self, device: &mut Device, now: Instant) {
        for joint in self.joints.drain() {
            if let Some(endpoint) = device.endpoint(now, joint.endpoint) {
                endpoint.abort();
            }
            joint.shared.end(Some(Ended::Stopped));
        }
        self.by_endpoint.clear();
        self.parked.clear();
    }

    /// What applications have done since the last turn.
    fn listen_to_applications(&mut self, device: &mut Device, now: Instant) {
        let mut told = std::mem::take(&mut self.told);
        self.notices.take(&mut told);
        for key in told.drain(..) {
            match key {
                Backlog::GONE => self.close_listeners(device, now),
                key => self.wake(key),
            }
        }
        self.told = told;
    }

    /// Connections of listening sockets that nobody accepts from any more shall go to other servers.
    fn close_listeners(&mut self, device: &mut Device, now: Instant) {
        for (&listener, backlog) in &self.listeners {
            if backlog.is_closed() {
                device.set_available(now, listener, false);
                for shared in backlog.forsaken() {
                    let key = shared.key();
                    // Its client may have left, and another connection have its place.
                    let joint = self.joints.get(key);
                    if joint.is_some_and(|joint| Arc::ptr_eq(&joint.shared, &shared)) {
                        self.parked.insert(key, now);
                    }
                }
            }
        }
        self.parked_turn = now;
    }

    fn open(
        &mut self,
        device: &mut Device,
        now: Instant,
        endpoint: EndpointId,
        listener: ListenerId,
        flow: Flow,
        origin: Origin,
    ) {
        let backlog = self.listeners.get(&listener);
        let Some(backlog) = backlog.filter(|_| self.joints.len() < self.bound) else {
            self.refused += 1;
            if let Some(endpoint) = device.endpoint(now, endpoint) {
                endpoint.abort();
            }
            return;
        };
        let entry = self.joints.vacant_entry();
        let key = entry.key();
        let notices = Arc::clone(&self.notices);
        let shared = Shared::new(flow, origin, backlog.limits(), key, notices);
        entry.insert(Joint::new(endpoint, listener, Arc::new(shared), now));
        self.by_endpoint.insert(endpoint, key);
        self.offer(device, now, key);
    }

    /// A connection is there to be accepted, or is parked.
    fn offer(&mut self, device: &mut Device, now: Instant, key: usize) {
        let Some(joint) = self.joints.get(key) else {
            return;
        };
        let backlog = self.listeners.get(&joint.listener);
        if backlog.is_some_and(|backlog| backlog.push(Arc::clone(&joint.shared))) {
            self.parked.remove(&key);
            return self.wake(key);
        }
        self.parked.entry(key).or_insert(now);
        pass_on(device, now, joint.endpoint);
    }

    /// What is parked is offered again, here and to other servers, and is reset in the end.
    fn turn_parked(&mut self, device: &mut Device, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        self.parked_turn = now + PARKED_TURN;
        let parked: Vec<_> = self.parked.iter().map(|(&k, &since)| (k, since)).collect();
        for (key, since) in parked {
            let Some(joint) = self.joints.get(key) else {
                self.parked.remove(&key);
                continue;
            };
            // Of one that is on offer to another server nothing can be read here.
            let here = device.endpoint(now, joint.endpoint);
            let Some(mut endpoint) = here.filter(|endpoint| endpoint.writable() > 0) else {
                continue;
            };
            endpoint.set_quiet(false);
            if now.saturating_since(since) >= self.patience {
                self.refused += 1;
                self.settle(device, now, key, Progress::Failed);
            } else {
                self.offer(device, now, key);
            }
        }
    }

    fn wake(&mut self, key: usize) {
        if let Some(joint) = self.joints.get_mut(key)
            && !std::mem::replace(&mut joint.queued, true)
        {
            self.queue.push_back(key);
        }
    }

    /// Acts on how far a connection came.
    fn settle(&mut self, device: &mut Device, now: Instant, key: usize, progress: Progress) {
        let Some(joint) = self.joints.get_mut(key) else {
            return;
        };
        match progress {
            Progress::Waiting => return,
            Progress::More => return self.wake(key),
            Progress::Stale => {
                joint.renew();
                return self.offer(device, now, key);
            }
            Progress::Finished | Progress::Failed => {}
        }
        let failed = matches!(progress, Progress::Failed);
        if let Some(endpoint) = device.endpoint(now, joint.endpoint) {
            if failed {
                endpoint.abort()
            } else {
                endpoint.close()
            }
        }
        self.remove(key, failed.then_some(Ended::Reset));
    }

    fn remove(&mut self, key: usize, ended: Option<Ended>) {
        if let Some(joint) = self.joints.try_remove(key) {
            self.by_endpoint.remove(&joint.endpoint);
            self.parked.remove(&key);
            joint.shared.end(ended);
        }
    }
}

impl Drop for Sockets {
    fn drop(&mut self) {
        for joint in self.joints.drain() {
            joint.shared.end(Some(Ended::Stopped));
        }
    }
}

fn ended(failure: Failure) -> Ended {
    match failure {
        Failure::Reset => Ended::Reset,
        Failure::Ended => Ended::Stopped,
        Failure::TimedOut | Failure::NeverOwned => Ended::TimedOut,
    }
}
