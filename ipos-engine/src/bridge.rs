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

mod joint;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use ipos_core::{Device, EndpointId, Event, Instant, ListenerId};
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use slab::Slab;

use joint::{Bridge, Progress};

/// Bytes that all bridges together move before the ports' turn.
const HOST_TURN: usize = 1024 * 1024;

/// All bridges of one engine.
pub(crate) struct Bridges {
    applications: Vec<Application>,
    bridges: Slab<Bridge>,
    by_endpoint: HashMap<EndpointId, usize>,
    /// Bridges that can go on without a new edge; each at most once, but for removed ones.
    queue: VecDeque<usize>,
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
    /// It refused the last connection, and that was said.
    refusing: bool,
}

impl Bridges {
    /// No bridges yet, at most `bound`; sockets get tokens from `base` on.
    pub(crate) fn new(
        applications: Vec<SocketAddr>,
        bound: usize,
        base: usize,
        half_close: Duration,
    ) -> Bridges {
        Bridges {
            applications: applications
                .into_iter()
                .map(|address| Application {
                    address,
                    refusing: false,
                })
                .collect(),
            bridges: Slab::new(),
            by_endpoint: HashMap::new(),
            queue: VecDeque::new(),
            scratch: vec![0; joint::TURN],
            bound,
            base,
            half_close,
            refused: 0,
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
        now: Instant,
        registry: &Registry,
        event: &Event,
    ) {
        match *event {
            Event::Bound {
                endpoint, listener, ..
            } => self.connect(device, now, registry, endpoint, listener),
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

    /// Moves bytes, each bridge in its turn, as far as the allowance of one turn goes.
    pub(crate) fn turn(&mut self, device: &mut Device, now: Instant, registry: &Registry) {
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
                Progress::Stale => self.renew(device, now, registry, key),
                progress => self.settle(device, now, key, progress),
            }
        }
    }

    /// Closes the bridges whose application closed, and whose client then did nothing for too long.
    ///
    /// An application's `close` and its `shutdown` look the same from here; a kernel would
    /// end its side of a closed connection after a time (FIN-WAIT-2), and so does this.
    pub(crate) fn sweep(&mut self, device: &mut Device, now: Instant) {
        let silent: Vec<usize> = self
            .bridges
            .iter()
            .filter(|(_, bridge)| {
                bridge.application_done && now.saturating_since(bridge.last) >= self.half_close
            })
            .map(|(key, _)| key)
            .collect();
        for key in silent {
            self.settle(device, now, key, Progress::Finished);
        }
    }

    /// Ends everything: clients and applications get RST.
    pub(crate) fn abort_all(&mut self, device: &mut Device, now: Instant) {
        let all: Vec<usize> = self.bridges.iter().map(|(key, _)| key).collect();
        for key in all {
            self.settle(device, now, key, Progress::Failed);
        }
    }

    fn connect(
        &mut self,
        device: &mut Device,
        now: Instant,
        registry: &Registry,
        endpoint: EndpointId,
        listener: ListenerId,
    ) {
        let opened = if self.bridges.len() < self.bound {
            self.open(registry, endpoint, listener, now)
        } else {
            None
        };
        match opened {
            Some(key) => {
                self.by_endpoint.insert(endpoint, key);
            }
            None => {
                self.refused += 1;
                if let Some(endpoint) = device.endpoint(now, endpoint) {
                    endpoint.abort();
                }
            }
        }
    }

    /// Begins to connect; the key of the new bridge. `None`: the operating system refused.
    fn open(
        &mut self,
        registry: &Registry,
        endpoint: EndpointId,
        listener: ListenerId,
        now: Instant,
    ) -> Option<usize> {
        let application = self.applications.get_mut(listener.0)?;
        let entry = self.bridges.vacant_entry();
        let key = entry.key();
        match application.dial(registry, Token(self.base + key)) {
            Ok(socket) => {
                entry.insert(Bridge::new(endpoint, listener, socket, now));
                Some(key)
            }
            Err(error) => {
                application.say_refused(&error);
                None
            }
        }
    }

    /// Connects to the application again.
    fn renew(&mut self, device: &mut Device, now: Instant, registry: &Registry, key: usize) {
        let Some(bridge) = self.bridges.get_mut(key) else {
            return;
        };
        let Some(application) = self.applications.get(bridge.listener.0) else {
            return;
        };
        match application.dial(registry, Token(self.base + key)) {
            Ok(socket) => bridge.renew(socket),
            Err(error) => self.settle(device, now, key, Progress::Refused(error)),
        }
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
        if let Some(application) = self.applications.get_mut(bridge.listener.0) {
            if let Progress::Refused(error) = &progress {
                self.refused += 1;
                application.say_refused(error);
            } else if bridge.connected {
                application.refusing = false;
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
        if reset
            && let Err(error) =
                socket2::SockRef::from(&bridge.socket).set_linger(Some(Duration::ZERO))
        {
            tracing::debug!(%error, "the application gets FIN in place of RST");
        }
    }
}

impl Application {
    /// Begins to connect to it.
    fn dial(&self, registry: &Registry, token: Token) -> std::io::Result<TcpStream> {
        let mut socket = TcpStream::connect(self.address)?;
        registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(socket)
    }

    /// Says once that the application cannot be reached, until it could be again.
    fn say_refused(&mut self, error: &std::io::Error) {
        if !std::mem::replace(&mut self.refusing, true) {
            tracing::warn!(application = %self.address, %error, "the application cannot be reached; its clients get RST");
        }
    }
}
