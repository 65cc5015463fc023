//! The bridge to applications that take datagrams: one kernel UDP socket on this host for each flow, so that an unmodified
//! application tells clients apart by the address it sees, and its answers find their way back.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::io::{Error, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

use ipos_core::{DatagramError, Device, Event, Flow, Instant, ListenerId};
use mio::net::UdpSocket;
use mio::{Interest, Registry, Token};
use slab::Slab;

/// Datagrams that one socket passes on before the next one's turn.
const TURN: usize = 32;
/// The longest datagram there is.
const LONGEST: usize = 65_535;

/// The sockets of all UDP flows of one engine.
pub(crate) struct DatagramBridges {
    applications: BTreeMap<ListenerId, SocketAddr>,
    bridges: Slab<DatagramBridge>,
    by_flow: HashMap<Flow, usize>,
    /// Sockets that may have something to read; each at most once, but for removed ones.
    queue: VecDeque<usize>,
    scratch: Vec<u8>,
    /// Bound of `bridges`. Full: datagrams of new flows are lost.
    bound: usize,
    /// The first token of the sockets.
    base: usize,
    /// Datagrams that found no application, or were too long for a client.
    lost: u64,
}

struct DatagramBridge {
    flow: Flow,
    socket: UdpSocket,
    queued: bool,
}

impl DatagramBridges {
    /// No sockets yet, at most `bound`; they get tokens from `base` on.
    pub(crate) fn new(
        applications: BTreeMap<ListenerId, SocketAddr>,
        bound: usize,
        base: usize,
    ) -> DatagramBridges {
        DatagramBridges {
            applications,
            bridges: Slab::new(),
            by_flow: HashMap::new(),
            queue: VecDeque::new(),
            scratch: vec![0; LONGEST],
            bound,
            base,
            lost: 0,
        }
    }

    /// Other addresses of the same applications. Flows that have a socket keep theirs.
    pub(crate) fn set_applications(&mut self, applications: BTreeMap<ListenerId, SocketAddr>) {
        self.applications = applications;
    }

    /// Datagrams that were lost here.
    pub(crate) fn lost(&self) -> u64 {
        self.lost
    }

    /// Whether a turn would find work.
    pub(crate) fn has_work(&self) -> bool {
        !self.queue.is_empty()
    }

    /// What the device tells its host.
    pub(crate) fn handle_event(&mut self, registry: &Registry, event: &Event) {
        match event {
            Event::Datagram {
                flow,
                listener,
                payload,
            } => {
                if let Err(error) = self.pass(registry, flow, *listener, payload) {
                    self.lost += 1;
                    tracing::debug!(%flow, %error, "a datagram is lost");
                }
            }
            Event::DatagramsEnded(flow) => self.remove(flow),
            _ => {}
        }
    }

    /// A socket is readable. Whether the token was one of these.
    pub(crate) fn handle_ready(&mut self, token: Token) -> bool {
        let Some(key) = token.0.checked_sub(self.base) else {
            return false;
        };
        if let Some(bridge) = self.bridges.get_mut(key)
            && !std::mem::replace(&mut bridge.queued, true)
        {
            self.queue.push_back(key);
        }
        true
    }

    /// Passes on the applications' answers, each socket in its turn.
    pub(crate) fn turn(&mut self, device: &mut Device, now: Instant) {
        for _ in 0..self.queue.len() {
            let Some(key) = self.queue.pop_front() else {
                return;
            };
            let Some(bridge) = self.bridges.get_mut(key) else {
                continue;
            };
            let flow = bridge.flow;
            match bridge.answer(device, now, &mut self.scratch, &mut self.lost) {
                Answered::All => bridge.queued = false,
                Answered::Some => self.queue.push_back(key),
                Answered::Gone => self.remove(&flow),
            }
        }
    }

    /// A client's datagram, to its application.
    fn pass(
        &mut self,
        registry: &Registry,
        flow: &Flow,
        listener: ListenerId,
        payload: &[u8],
    ) -> Result<(), Error> {
        let key = match self.by_flow.get(flow) {
            Some(&key) => key,
            None => self.open(registry, flow, listener)?,
        };
        if let Some(bridge) = self.bridges.get(key) {
            bridge.socket.send(payload)?;
        }
        Ok(())
    }

    fn open(
        &mut self,
        registry: &Registry,
        flow: &Flow,
        listener: ListenerId,
    ) -> Result<usize, Error> {
        let application = *self
            .applications
            .get(&listener)
            .ok_or(ErrorKind::NotFound)?;
        if self.bridges.len() >= self.bound {
            return Err(ErrorKind::QuotaExceeded.into());
        }
        let any: SocketAddr = match application {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let mut socket = UdpSocket::bind(any)?;
        socket.connect(application)?;
        let entry = self.bridges.vacant_entry();
        let key = entry.key();
        registry.register(&mut socket, Token(self.base + key), Interest::READABLE)?;
        entry.insert(DatagramBridge {
            flow: *flow,
            socket,
            queued: false,
        });
        self.by_flow.insert(*flow, key);
        Ok(key)
    }

    fn remove(&mut self, flow: &Flow) {
        // Closing the descriptor takes it out of the poll.
        if let Some(key) = self.by_flow.remove(flow) {
            self.bridges.try_remove(key);
        }
    }
}

/// How far a socket came.
enum Answered {
    All,
    Some,
    /// The device has the flow no more.
    Gone,
}

impl DatagramBridge {
    fn answer(
        &mut self,
        device: &mut Device,
        now: Instant,
        scratch: &mut [u8],
        lost: &mut u64,
    ) -> Answered {
        for _ in 0..TURN {
            match self.socket.recv(scratch) {
                Ok(len) => match device.send_datagram(now, &self.flow, &scratch[..len]) {
                    Ok(()) => {}
                    Err(DatagramError::UnknownFlow) => return Answered::Gone,
                    Err(error) => {
                        *lost += 1;
                        tracing::warn!(flow = %self.flow, len, %error, "an answer is lost");
                    }
                },
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => return Answered::All,
                    ErrorKind::Interrupted => {}
                    // The application is not there: its client asks again, or not.
                    _ => {
                        *lost += 1;
                        tracing::debug!(flow = %self.flow, %error, "the application does not take datagrams");
                    }
                },
            }
        }
        Answered::Some
    }
}
