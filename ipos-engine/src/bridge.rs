//! The bridge to unmodified applications: one kernel TCP connection on this host for each bound endpoint.
//!
//! ```text
//!   client <== endpoint (the device's TCP) <== bridge ==> socket (the kernel's TCP) ==> application
//! ```
//!
//! Bytes pass both ways, half closes too, and back-pressure: what the application does not take
//! stays in the endpoint, whose window closes; what the client does not take stays in the socket.
//!
//! What passes is followed as HTTP. Between two requests the endpoint may move to another server, for there a fresh connection
//! to the application goes on; the one here is closed when it has. An exchange that is not HTTP stays where it is.
//!
//! A connection that the application refuses, or does not take for a while, is parked: it goes to another server, or the
//! application comes back; after a while the client gets RST.

mod joint;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use ipos_core::{Device, EndpointId, Event, Flow, Instant, ListenerId};
use mio::net::TcpStream;
use mio::{Registry, Token};
use slab::Slab;

use crate::connect;
use crate::health::{self, Health};
use crate::proxy;
pub(crate) use joint::TURN;
use joint::{Bridge, Progress};

/// Bytes that all bridges together move before the ports' turn.
pub(crate) const HOST_TURN: usize = 1024 * 1024;
/// How often the device is asked whether another server takes what is parked, and of how many at once: the others have their turn
/// later.
pub(crate) const PARKED_TURN: Duration = Duration::from_millis(50);
const PARKED_MOST: usize = 512;

/// All bridges of one engine.
pub(crate) struct Bridges {
    applications: BTreeMap<ListenerId, Application>,
    bridges: Slab<Bridge>,
    by_endpoint: HashMap<EndpointId, usize>,
    /// Bridges that can go on without a new edge; each at most once, but for removed ones.
    queue: VecDeque<usize>,
    /// Bridges that are parked, and when they have their turn.
    parked: BTreeSet<usize>,
    parked_turn: Instant,
    /// The one that had its turn last.
    parked_at: usize,
    /// How long one may be.
    patience: Duration,
    scratch: Vec<u8>,
    /// Bound of `bridges`. Full: the endpoint is aborted.
    bound: usize,
    /// The first token of the sockets.
    base: usize,
    /// How long the client may leave its half open once the application has closed.
    half_close: Duration,
    refused: u64,
}

/// An application behind a listening socket.
struct Application {
    address: SocketAddr,
    /// Its connections begin with a header of the PROXY protocol.
    proxied: bool,
}

impl Bridges {
    /// No bridges yet, at most `bound`; sockets get tokens from `base` on.
    pub(crate) fn new(
        applications: BTreeMap<ListenerId, SocketAddr>,
        proxied: &BTreeSet<ListenerId>,
        bound: usize,
        base: usize,
        half_close: Duration,
        patience: Duration,
    ) -> Bridges {
        Bridges {
            applications: applications
                .into_iter()
                .map(|(listener, address)| {
                    let application = Application {
                        address,
                        proxied: proxied.contains(&listener),
                    };
                    (listener, application)
                })
                .collect(),
            bridges: Slab::new(),
            by_endpoint: HashMap::new(),
            queue: VecDeque::new(),
            parked: BTreeSet::new(),
            parked_turn: Instant::ZERO,
            parked_at: 0,
            patience,
            scratch: vec![0; TURN],
            bound,
            base,
            half_close,
            refused: 0,
        }
    }

    /// The applications' addresses.
    pub(crate) fn applications(&self) -> impl Iterator<Item = (ListenerId, SocketAddr)> {
        let applications = self.applications.iter();
        applications.map(|(&listener, application)| (listener, application.address))
    }

    /// The applications that are told who their clients are.
    pub(crate) fn proxied(&self) -> impl Iterator<Item = ListenerId> {
        let proxied = self.applications.iter().filter(|(_, app)| app.proxied);
        proxied.map(|(&listener, _)| listener)
    }

    /// Other addresses of the same applications, some of them told who their clients are. Connections to the former ones go on.
    pub(crate) fn set_applications(
        &mut self,
        addresses: &BTreeMap<ListenerId, SocketAddr>,
        proxied: &BTreeSet<ListenerId>,
    ) {
        for (listener, &address) in addresses {
            let Some(application) = self.applications.get_mut(listener) else {
                continue;
            };
            application.proxied = proxied.contains(listener);
            application.address = address;
        }
    }

    /// Bridges that are up.
    pub(crate) fn len(&self) -> usize {
        self.bridges.len()
    }

    /// Endpoints that found no application.
    pub(crate) fn refused(&self) -> u64 {
        self.refused
    }

    /// Whether a turn would find work.
    pub(crate) fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }

    /// What the device tells its host.
    pub(crate) fn handle_event(
        &mut self,
        device: &mut Device,
        health: &mut Health,
        now: Instant,
        registry: &Registry,
        event: &Event,
    ) {
        match *event {
            Event::Bound {
                endpoint, listener, ..
            } => self.connect(device, health, now, registry, endpoint, listener),
            Event::Readable(id) | Event::Writable(id) => {
                if let Some(&key) = self.by_endpoint.get(&id) {
                    self.wake(key);
                }
            }
            Event::Failed(id, _) => {
                if let Some(&key) = self.by_endpoint.get(&id) {
                    self.remove(key, true);
                }
            }
            Event::Left { endpoint, .. } => {
                if let Some(&key) = self.by_endpoint.get(&endpoint) {
                    self.remove(key, false);
                }
            }
            _ => {}
        }
    }

    /// An edge of an application's socket.
    pub(crate) fn handle_ready(&mut self, event: &mio::event::Event) {
        let Some(key) = event.token().0.checked_sub(self.base) else {
            return;
        };
        let Some(bridge) = self.bridges.get_mut(key) else {
            return;
        };
        bridge.ready(event);
        self.wake(key);
    }

    /// When what is parked has its turn.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        (!self.parked.is_empty()).then_some(self.parked_turn)
    }

    /// The application behind `listener` answers: what is parked for it connects again.
    pub(crate) fn resume(
        &mut self,
        device: &mut Device,
        health: &mut Health,
        now: Instant,
        registry: &Registry,
        listener: ListenerId,
    ) {
        let bridges = &self.bridges;
        let of_listener = |key: &usize| bridges.get(*key).is_some_and(|b| b.listener == listener);
        let parked: Vec<usize> = self.parked.iter().copied().filter(of_listener).collect();
        for key in parked {
            self.parked.remove(&key);
            self.renew(device, health, now, registry, key);
        }
    }

    /// What is parked is offered to other servers again, and is reset in the end.
    fn turn_parked(&mut self, device: &mut Device, now: Instant) {
        if self.deadline().is_none_or(|deadline| now < deadline) {
            return;
        }
        self.parked_turn = now + PARKED_TURN;
        let (behind, before) = (self.parked_at.saturating_add(1).., ..=self.parked_at);
        let round = self.parked.range(behind).chain(self.parked.range(before));
        let parked: Vec<usize> = round.take(PARKED_MOST).copied().collect();
        for key in parked {
            self.parked_at = key;
            let Some(bridge) = self.bridges.get(key) else {
                continue;
            };
            let since = bridge.parked.unwrap_or(now);
            if now.saturating_since(since) >= self.patience {
                self.refused += 1;
                self.settle(device, now, key, Progress::Failed);
            } else {
                pass_on(device, now, bridge.endpoint);
            }
        }
    }

    /// Moves bytes, each bridge in its turn, as far as the allowance of one turn goes.
    pub(crate) fn turn(
        &mut self,
        device: &mut Device,
        health: &mut Health,
        now: Instant,
        registry: &Registry,
    ) {
        self.turn_parked(device, now);
        let mut allowance = HOST_TURN;
        for _ in 0..self.queue.len() {
            if allowance == 0 {
                return;
            }
            let Some(key) = self.queue.pop_front() else {
                return;
            };
            let Some(bridge) = self.bridges.get_mut(key) else {
                continue;
            };
            bridge.queued = false;
            let progress = bridge.pump(device, now, &mut self.scratch, &mut allowance);
            match progress {
                Progress::Stale => self.renew(device, health, now, registry, key),
                Progress::Refused(error) => self.refuse(device, health, now, key, &error),
                progress => self.settle(device, now, key, progress),
            }
        }
    }

    /// Closes the bridges whose application closed, and whose client then did nothing for too long. An application that
    /// does not take a connection for too long has refused it.
    ///
    /// An application's `close` and its `shutdown` look the same from here; a kernel would
    /// end its side of a closed connection after a time (FIN-WAIT-2), and so does this.
    pub(crate) fn sweep(&mut self, device: &mut Device, health: &mut Health, now: Instant) {
        let (mut silent, mut deaf) = (Vec::new(), Vec::new());
        for (key, bridge) in &self.bridges {
            let since = now.saturating_since(bridge.last);
            let waits = !bridge.connected && bridge.parked.is_none();
            if bridge.application_done && since >= self.half_close {
                silent.push(key);
            } else if waits && since >= self.patience {
                deaf.push(key);
            }
        }
        for key in silent {
            self.settle(device, now, key, Progress::Finished);
        }
        for key in deaf {
            self.refuse(device, health, now, key, &health::late());
        }
    }

    fn connect(
        &mut self,
        device: &mut Device,
        health: &mut Health,
        now: Instant,
        registry: &Registry,
        endpoint: EndpointId,
        listener: ListenerId,
    ) {
        if self.bridges.len() >= self.bound || !self.applications.contains_key(&listener) {
            self.refused += 1;
            if let Some(endpoint) = device.endpoint(now, endpoint) {
                endpoint.abort();
            }
            return;
        }
        let key = self.bridges.insert(Bridge::new(endpoint, listener, now));
        self.by_endpoint.insert(endpoint, key);
        self.renew(device, health, now, registry, key);
    }

    /// Connects to the application, or connects again.
    fn renew(
        &mut self,
        device: &mut Device,
        health: &mut Health,
        now: Instant,
        registry: &Registry,
        key: usize,
    ) {
        let Some(bridge) = self.bridges.get_mut(key) else {
            return;
        };
        let Some(application) = self.applications.get(&bridge.listener) else {
            return;
        };
        let endpoint = device.endpoint(now, bridge.endpoint);
        let Some(flow) = endpoint.and_then(|endpoint| endpoint.flow()) else {
            return;
        };
        match application.dial(registry, Token(self.base + key), &flow) {
            Ok((socket, header)) => bridge.renew(socket, header, now),
            Err(error) => self.refuse(device, health, now, key, &error),
        }
    }

    /// The application has refused a connection, or none could be made to it: the endpoint is parked.
    fn refuse(
        &mut self,
        device: &mut Device,
        health: &mut Health,
        now: Instant,
        key: usize,
        error: &std::io::Error,
    ) {
        let Some(bridge) = self.bridges.get_mut(key) else {
            return;
        };
        let (endpoint, listener) = (bridge.endpoint, bridge.listener);
        bridge.connected = false;
        bridge.parked.get_or_insert(now);
        self.parked.insert(key);
        health.refused(device, now, listener, error);
        pass_on(device, now, endpoint);
    }

    fn wake(&mut self, key: usize) {
        if let Some(bridge) = self.bridges.get_mut(key)
            && !std::mem::replace(&mut bridge.queued, true)
        {
            self.queue.push_back(key);
        }
    }

    /// Acts on how far a bridge came.
    fn settle(&mut self, device: &mut Device, now: Instant, key: usize, progress: Progress) {
        let Some(bridge) = self.bridges.get(key) else {
            return;
        };
        let reset = match progress {
            Progress::Waiting | Progress::Stale => return,
            Progress::More => return self.wake(key),
            Progress::Finished => false,
            Progress::Failed | Progress::Refused(_) => true,
        };
        if let Some(endpoint) = device.endpoint(now, bridge.endpoint) {
            if reset {
                endpoint.abort()
            } else {
                endpoint.close()
            }
        }
        self.remove(key, reset);
    }

    /// Drops a bridge, with RST to the application if `reset`. Closing the descriptor takes it out of the poll.
    fn remove(&mut self, key: usize, reset: bool) {
        let Some(bridge) = self.bridges.try_remove(key) else {
            return;
        };
        self.by_endpoint.remove(&bridge.endpoint);
        self.parked.remove(&key);
        if reset
            && let Some(socket) = &bridge.socket
            && let Err(error) = socket2::SockRef::from(socket).set_linger(Some(Duration::ZERO))
        {
            tracing::debug!(%error, "the application gets FIN in place of RST");
        }
    }
}

impl Application {
    /// Begins to connect to it; and what it is told first.
    fn dial(
        &self,
        registry: &Registry,
        token: Token,
        flow: &Flow,
    ) -> std::io::Result<(TcpStream, Vec<u8>)> {
        let header = match self.proxied {
            true => proxy::header(flow)?,
            false => Vec::new(),
        };
        Ok((connect::dial(self.address, registry, token)?, header))
    }
}

/// The endpoint shall go to another server, as it has come: the application has seen nothing of it.
pub(crate) fn pass_on(device: &mut Device, now: Instant, endpoint: EndpointId) {
    if let Some(mut endpoint) = device.endpoint(now, endpoint) {
        endpoint.set_quiet(true);
        if let Err(error) = endpoint.migrate(None) {
            tracing::debug!(%error, "no server takes it");
        }
    }
}
