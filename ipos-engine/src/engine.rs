//! The loop.

mod turn;
mod wait;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use arrayvec::ArrayVec;
use ipos_backend::Backend;
use ipos_core::{Device, Event, Instant, ListenerId, Port};
use ipos_proto::Protocol;
use mio::{Events, Poll, Token, Waker};

use self::wait::RETRY;
use crate::application::{Application, Served};
use crate::bridge::Bridges;
use crate::clock;
use crate::control::{Commands, Control};
use crate::datagrams::DatagramBridges;
use crate::drain::Drain;
use crate::error::EngineError;
use crate::health::Health;
use crate::load::{self, Bandwidth, Intervals, Monitor, link_speed};
use crate::options::{Options, Statistics};
use crate::port::{PortState, Ports, Relay};
use crate::socket::Notices;
use crate::sockets::Sockets;
use crate::stop::Stop;

/// How often half-closed bridges and drop counters are looked at.
const HOUSEKEEPING: Duration = Duration::from_secs(1);
/// Tokens below this are the ports', in the order of [`Port::ALL`], and the waker's; behind them are those of the checks of
/// applications, then those of connections' sockets.
const SOCKETS: usize = WAKER.0 + 1;
const WAKER: Token = Token(Port::ALL.len());
/// Tokens from this one on are those of UDP flows' sockets; below it are those of connections'.
const DATAGRAMS: usize = usize::MAX / 2;
/// Readiness events taken at once; more come at the next turn.
const EVENTS: usize = 256;
/// Turns that [`Engine::leave`] spends at most on what is queued.
const LEAVE_TURNS: usize = 100;

/// What is called with the device's events.
pub type Observer = dyn FnMut(&Event);

/// Joins the ports' backends, one device and the host's applications.
///
/// Made and run on one thread. The device must have been made with [`clock::now`] for its time.
pub struct Engine {
    pub(crate) device: Device,
    /// In the order of [`Port::ALL`]; Port C may be missing.
    ports: ArrayVec<PortState, { Port::ALL.len() }>,
    pub(crate) host: Bridges,
    sockets: Sockets,
    pub(crate) health: Health,
    datagrams: DatagramBridges,
    relay: Relay,
    poll: Poll,
    events: Events,
    stop: Stop,
    pub(crate) control: Control,
    pub(crate) commands: Commands,
    pub(crate) drain: Option<Drain>,
    monitor: Monitor,
    bandwidth: Bandwidth,
    observer: Option<Box<Observer>>,
    burst: usize,
    /// How long the loop looks for work before it sleeps, and when it last had some.
    linger: Duration,
    worked: Instant,
    cpu: Option<usize>,
    /// The port whose turn is first.
    first: usize,
    /// A port has more to transmit than one turn allows.
    more: bool,
    housekeeping: Instant,
    checksums: u64,
    advised: bool,
    statistics: Statistics,
}

impl Engine {
    /// Joins `device` to its ports and to `applications`: an address, or a [`Backlog`](crate::socket::Backlog), for each entry of the
    /// configuration's `listen`, in that order.
    ///
    /// # Errors
    /// As many applications as listening sockets are needed, those of UDP have an address, each port must carry the configured MTU, and the
    /// operating system must give a poll descriptor and a thread.
    pub fn new<A: Into<Application>>(
        device: Device,
        ports: Ports,
        applications: Vec<A>,
        options: Options,
    ) -> Result<Engine, EngineError> {
        let config = device.config();
        let applications: Vec<Application> = applications.into_iter().map(A::into).collect();
        if config.listen.len() != applications.len() {
            return Err(EngineError::Applications {
                listeners: config.listen.len(),
                applications: applications.len(),
            });
        }
        check_mtu(Port::A, config.port_a.mtu, &*ports.a)?;
        check_mtu(Port::B, config.port_b.mtu, &*ports.b)?;
        match (&config.port_c, &ports.c) {
            (Some(port_c), Some(c)) => check_mtu(Port::C, port_c.port.mtu, &**c)?,
            (None, None) => {}
            _ => return Err(EngineError::PortC),
        }
        let poll = Poll::new().map_err(EngineError::Poll)?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER).map_err(EngineError::Poll)?);
        let intervals = Intervals {
            host: config.synch.high,
            processes: config.synch.medium,
            discovery: config.synch.low,
        };
        let speed = options
            .interface
            .as_deref()
            .and_then(link_speed)
            .unwrap_or(options.assumed_speed);
        let burst = options.burst.max(1);
        let backends = [Some(&ports.a), Some(&ports.b), ports.c.as_ref()];
        let mtu = backends
            .into_iter()
            .flatten()
            .map(|port| port.capabilities().mtu);
        let largest = usize::from(mtu.max().unwrap_or(0)) + 64;
        let base = SOCKETS + applications.len();
        let bound = config.limits.endpoints;
        let Served {
            addresses,
            proxied,
            sockets,
        } = Served::new(&config.listen, applications)?;
        let looked_for = looked_for(&device, &addresses);
        let monitor = Monitor::start(looked_for, intervals, Arc::clone(&waker))
            .map_err(EngineError::Monitor)?;
        let of_tcp = of_tcp(&device, &addresses);
        let health = Health::new(of_tcp, options.health, SOCKETS, clock::now());
        let datagrams = DatagramBridges::new(addresses.clone(), bound, DATAGRAMS);
        let (half_close, patience) = (options.half_close, options.patience);
        let notices = Notices::new(Arc::clone(&waker));
        let sockets = Sockets::new(sockets, notices, bound, half_close, patience);
        let host = Bridges::new(addresses, &proxied, bound, base, half_close, patience);
        let backends = [Some(ports.a), Some(ports.b), Some(ports.synch), ports.c];
        let ports = Port::ALL.into_iter().zip(backends).enumerate();
        let ports = ports.filter_map(|(token, (name, backend))| {
            backend.map(|backend| PortState::new(name, backend, Token(token), poll.registry()))
        });
        let ports = ports.collect::<Result<_, _>>()?;
        let (control, commands) = Control::new(Arc::clone(&waker));
        Ok(Engine {
            device,
            ports,
            host,
            sockets,
            health,
            datagrams,
            relay: Relay::new(burst, largest),
            events: Events::with_capacity(EVENTS),
            stop: Stop::new(waker),
            control,
            commands,
            drain: None,
            monitor,
            bandwidth: Bandwidth::new(speed),
            observer: None,
            burst,
            linger: options.linger,
            worked: clock::now(),
            cpu: options.cpu,
            first: 0,
            more: false,
            housekeeping: clock::now(),
            checksums: 0,
            advised: false,
            statistics: Statistics::default(),
            poll,
        })
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// What the engine did so far.
    pub fn statistics(&self) -> Statistics {
        Statistics {
            refused: self.host.refused() + self.sockets.refused(),
            bridges: self.host.len(),
            sockets: self.sockets.len(),
            datagrams_lost: self.datagrams.lost(),
            ..self.statistics
        }
    }

    /// What the backend of `port` did so far: nothing, where there is no such port.
    pub fn port_statistics(&self, port: Port) -> ipos_backend::Statistics {
        let port = self.ports.iter().find(|state| state.name == port);
        port.map(|port| port.backend.statistics())
            .unwrap_or_default()
    }

    /// By which other threads end the engine.
    pub fn stop_handle(&self) -> Stop {
        self.stop.clone()
    }

    /// Calls `observer` with every event of the device, before the engine acts on it.
    pub fn observe(&mut self, observer: Box<Observer>) {
        self.observer = Some(observer);
    }

    /// Runs until [`Stop::stop`]; then leaves the farm ([`Engine::leave`]). The calling thread is bound to the processor that the options
    /// name; those that it starts later inherit that.
    ///
    /// # Errors
    /// There is no such processor, a port's interface is gone, or the operating system refuses to wait. An interface that is down is not an error.
    pub fn run(&mut self) -> Result<(), EngineError> {
        if let Some(cpu) = self.cpu {
            crate::cpu::pin(cpu).map_err(|source| EngineError::Cpu { cpu, source })?;
        }
        while !self.stop.is_stopped() {
            self.step(None)?;
        }
        self.leave()
    }

    /// Waits until there is something to do, for `limit` at most, and does one turn of it.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn step(&mut self, limit: Option<Duration>) -> Result<(), EngineError> {
        self.wait(limit)?;
        let now = clock::now();
        self.first = (self.first + 1) % self.ports.len();
        for offset in 0..self.ports.len() {
            self.receive((self.first + offset) % self.ports.len(), now)?;
        }
        self.figures(now);
        self.obey(now);
        if self
            .device
            .poll_timeout()
            .is_some_and(|deadline| deadline <= now)
        {
            self.device.handle_timeout(now);
        }
        self.events(now);
        self.host_turn(now);
        self.datagrams.turn(&mut self.device, now);
        self.housekeeping(now);
        self.transmit(now)
    }

    /// Everything of the applications.
    fn host_turn(&mut self, now: Instant) {
        let Engine {
            device,
            host,
            sockets,
            health,
            poll,
            ..
        } = self;
        sockets.turn(device, now);
        for listener in health.turn(device, now, poll.registry()) {
            host.resume(device, health, now, poll.registry(), listener);
        }
        host.turn(device, health, now, poll.registry());
    }

    /// Other applications, and other checks of them, behind the same listening sockets.
    pub(crate) fn set_applications(
        &mut self,
        now: Instant,
        applications: BTreeMap<ListenerId, SocketAddr>,
        proxied: &BTreeSet<ListenerId>,
        health: Option<Duration>,
    ) {
        let of_tcp = of_tcp(&self.device, &applications);
        self.health.reload(now, of_tcp, health);
        self.monitor
            .look_for(looked_for(&self.device, &applications));
        self.host.set_applications(&applications, proxied);
        self.datagrams.set_applications(applications);
    }

    /// Leaves the farm: connections are reset, the other servers are told, all queues are flushed.
    ///
    /// # Errors
    /// As [`Engine::run`].
    pub fn leave(&mut self) -> Result<(), EngineError> {
        let now = clock::now();
        self.sockets.abort_all(&mut self.device, now);
        self.device.end_connections(now);
        self.device.leave();
        self.transmit(now)?;
        for _ in 0..LEAVE_TURNS {
            if !self.more && !self.ports.iter().any(|port| port.blocked) {
                break;
            }
            self.step(Some(RETRY))?;
        }
        Ok(())
    }
}

/// The applications that connections are made to, by their listening sockets.
fn of_tcp(
    device: &Device,
    addresses: &BTreeMap<ListenerId, SocketAddr>,
) -> Vec<(ListenerId, SocketAddr)> {
    let tcp = |listener: &ListenerId| {
        let listen = device.config().listen.get(listener.0);
        listen.is_some_and(|listen| listen.protocol == Protocol::Tcp)
    };
    let of_tcp = addresses.iter().filter(|(listener, _)| tcp(listener));
    of_tcp
        .map(|(&listener, &address)| (listener, address))
        .collect()
}

/// The applications whose processes are looked for.
fn looked_for(
    device: &Device,
    addresses: &BTreeMap<ListenerId, SocketAddr>,
) -> Vec<load::Application> {
    let listen = device.config().listen.iter().enumerate();
    let looked_for = listen.map(|(at, listen)| load::Application {
        address: addresses.get(&ListenerId(at)).copied(),
        port: listen.address.port(),
    });
    looked_for.collect()
}

fn check_mtu(port: Port, configured: u16, backend: &dyn Backend) -> Result<(), EngineError> {
    let capable = backend.capabilities().mtu;
    if configured > capable {
        Err(EngineError::Mtu {
            port,
            configured,
            capable,
        })
    } else {
        Ok(())
    }
}
