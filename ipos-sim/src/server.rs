//! A server: a device, its host and the application on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ipos_balance::Policy;
use ipos_core::{
    Config, ConfigError, Device, EndpointId, Event, Failure, Flow, Instant, Load, Origin, Port,
    Process, Verdict,
};

use crate::app::{Application, Session};
use crate::frame::Outbox;
use crate::network::Node;
use crate::stream::Next;

/// Tells a server's figures from the moment and its established connections.
pub type LoadModel = Box<dyn FnMut(Instant, u32) -> Load + Send>;

/// A host of 100 connections, 8 GiB and 10 Gbit/s: each connection takes one percent of the CPU, 1 MiB and 10 Mbit/s.
pub fn default_load(_: Instant, connections: u32) -> Load {
    let taken = u64::from(connections);
    Load {
        cpu: (connections as f32 / 100.0).min(1.0),
        free_memory: (8u64 << 30).saturating_sub(taken << 20),
        free_bandwidth: 10_000_000_000u64.saturating_sub(taken * 10_000_000),
    }
}

/// A running server.
pub struct Server {
    device: Device,
    application: Box<dyn Application>,
    sessions: BTreeMap<EndpointId, Running>,
    wakes: BTreeSet<(Instant, EndpointId)>,
    load: LoadModel,
    next_load: Instant,
    interval: Duration,
    journal: Journal,
}

/// What a server has told its host. It grows with every event.
#[derive(Clone, Debug, Default)]
pub struct Journal {
    /// How long each migration took, from the first 0x01 to the 0x03.
    pub migrations: Vec<Duration>,
    /// Bound connections that moved on to another server.
    pub left: u64,
    /// Connections that were migrated here and had begun here.
    pub came_home: u64,
    /// Endpoints that were gone before their application had closed them.
    pub failures: Vec<(Instant, Failure)>,
    /// Names of servers that came (`true`) and went (`false`).
    pub members: Vec<(Instant, String, bool)>,
}

struct Running {
    flow: Flow,
    session: Box<dyn Session>,
    wake: Option<Instant>,
}

impl Server {
    /// Starts a server.
    ///
    /// # Errors
    /// The device refuses its configuration.
    pub fn new(
        config: Config,
        now: Instant,
        application: Box<dyn Application>,
        load: LoadModel,
    ) -> Result<Server, ConfigError> {
        let interval = config.synch.high;
        let port = config
            .listen
            .first()
            .map_or(0, |listen| listen.address.port());
        let mut device = Device::new(config, now)?;
        let process = Process {
            pid: 1,
            name: "application".into(),
            port,
            memory: 64 << 20,
            cpu: 0.1,
        };
        device.handle_processes(vec![process]);
        Ok(Server {
            device,
            application,
            sessions: BTreeMap::new(),
            wakes: BTreeSet::new(),
            load,
            next_load: now,
            interval: interval.max(Duration::from_millis(1)),
            journal: Journal::default(),
        })
    }

    /// Selects by `policy` instead of the configuration's.
    pub fn set_policy(&mut self, policy: Box<dyn Policy>) {
        self.device.set_policy(policy);
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Calls the device from outside, then takes its events and sends its frames.
    pub fn with_device<R>(
        &mut self,
        now: Instant,
        out: &mut Outbox,
        call: impl FnOnce(&mut Device) -> R,
    ) -> R {
        let result = call(&mut self.device);
        self.settle(now, out);
        result
    }

    /// What the device has told so far.
    pub fn journal(&self) -> &Journal {
        &self.journal
    }

    /// The connections that the application has.
    pub fn sessions(&self) -> impl ExactSizeIterator<Item = Flow> {
        self.endpoints().map(|(_, flow)| flow)
    }

    /// The same, with the endpoint of each.
    pub fn endpoints(&self) -> impl ExactSizeIterator<Item = (EndpointId, Flow)> {
        self.sessions
            .iter()
            .map(|(&endpoint, running)| (endpoint, running.flow))
    }

    /// Takes the device's events and sends its frames, until there is neither.
    fn settle(&mut self, now: Instant, out: &mut Outbox) {
        loop {
            while let Some(event) = self.device.poll_event() {
                self.take(now, event);
            }
            let mut quiet = true;
            for (number, port) in Port::ALL.into_iter().enumerate() {
                while out.build(number, |buffer| {
                    self.device.poll_transmit(now, port, buffer)
                }) {
                    quiet = false;
                }
            }
            if quiet {
                return;
            }
        }
    }

    fn take(&mut self, now: Instant, event: Event) {
        match event {
            Event::Bound {
                endpoint,
                listener,
                flow,
                origin,
            } => {
                let ours = &self.device.config().port_a.addresses;
                let home = origin != Origin::Local && ours.contains(flow.endpoint.ip());
                self.journal.came_home += u64::from(home);
                let session = self.application.accept(now, listener, flow, origin);
                self.sessions.insert(
                    endpoint,
                    Running {
                        flow,
                        session,
                        wake: None,
                    },
                );
                self.serve(now, endpoint);
            }
            Event::Readable(endpoint) | Event::Writable(endpoint) => self.serve(now, endpoint),
            Event::Failed(endpoint, failure) => {
                self.journal.failures.push((now, failure));
                if let Some(mut running) = self.forget(endpoint) {
                    running.session.failed(now, failure);
                }
            }
            Event::Left { endpoint, .. } => {
                self.journal.left += 1;
                self.forget(endpoint);
            }
            Event::Datagram {
                flow,
                listener,
                payload,
            } => {
                let answer = self.application.datagram(now, listener, flow, &payload);
                // Too long for a packet: lost, as on any network.
                let _ = answer.map(|answer| self.device.send_datagram(now, &flow, &answer));
            }
            Event::DatagramsEnded(_) => {}
            Event::Migrated { took, .. } => self.journal.migrations.push(took),
            Event::ServerUp(name) => self.journal.members.push((now, name, true)),
            Event::ServerDown(name) => self.journal.members.push((now, name, false)),
        }
    }

    /// Polls a session.
    fn serve(&mut self, now: Instant, id: EndpointId) {
        let Some(running) = self.sessions.get_mut(&id) else {
            return;
        };
        let Some(mut endpoint) = self.device.endpoint(now, id) else {
            self.forget(id);
            return;
        };
        if let Some(wake) = running.wake.take() {
            self.wakes.remove(&(wake, id));
        }
        match running.session.poll(now, &mut endpoint) {
            Next::Wait => {}
            Next::Until(at) => {
                let at = at.max(now + Duration::from_micros(1));
                running.wake = Some(at);
                self.wakes.insert((at, id));
            }
            Next::Close => {
                endpoint.close();
                self.forget(id);
            }
            Next::Abort => {
                endpoint.abort();
                self.forget(id);
            }
        }
    }

    fn forget(&mut self, id: EndpointId) -> Option<Running> {
        let running = self.sessions.remove(&id)?;
        if let Some(wake) = running.wake {
            self.wakes.remove(&(wake, id));
        }
        Some(running)
    }
}

impl Node for Server {
    fn handle_frame(&mut self, now: Instant, port: usize, frame: &[u8], out: &mut Outbox) {
        let Some(&port) = Port::ALL.get(port) else {
            return;
        };
        if let Verdict::Forward(forward) = self.device.handle_frame(now, port, frame)
            && let Some(payload) = frame.get(forward.payload.clone())
            && let Some(number) = Port::ALL.iter().position(|&port| port == forward.port)
        {
            out.send(number, &forward.headers, payload);
        }
        self.settle(now, out);
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        if now >= self.next_load {
            let load = (self.load)(now, self.device.connections());
            self.device.handle_load(load);
            self.next_load = now + self.interval;
        }
        while let Some(&(_, id)) = self.wakes.first().filter(|(at, _)| *at <= now) {
            self.serve(now, id);
        }
        if self.device.poll_timeout().is_some_and(|at| at <= now) {
            self.device.handle_timeout(now);
        }
        self.settle(now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let wake = self.wakes.first().map(|(at, _)| *at);
        self.device
            .poll_timeout()
            .into_iter()
            .chain(wake)
            .chain([self.next_load])
            .min()
    }
}
