//! A whole farm: servers, clients, LANs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipos_core::{Device, Flow, Instant, Port};

use crate::addresses::ServerAddresses;
use crate::builder::{FarmBuilder, FarmError, Plan};
use crate::client::{Client, Job, Workload};
use crate::frame::Outbox;
use crate::lan::Lan;
use crate::network::{LanId, Network, Node, NodeId};
use crate::outcome::{Outcome, Quantiles, ServerOutcome};
use crate::owner::{OneOwner, Violation};
use crate::script::{Connection, Record};
use crate::server::Server;

impl From<Port> for LanId {
    /// The farm's LAN that the ports of this kind are on.
    fn from(port: Port) -> LanId {
        LanId(match port {
            Port::A => 0,
            Port::B => 1,
            Port::Synch => 2,
            Port::C => 3,
        })
    }
}

/// A machine of a farm.
pub(crate) enum Host {
    /// A server that runs.
    Server(Box<Server>),
    /// A server that was killed: what comes to it vanishes.
    Down,
    /// A client host.
    Client(Box<Client>),
    /// A machine that the user has added.
    Guest(Box<dyn Node + Send>),
}

impl Node for Host {
    fn handle_frame(&mut self, now: Instant, port: usize, frame: &[u8], out: &mut Outbox) {
        match self {
            Host::Server(server) => server.handle_frame(now, port, frame, out),
            Host::Client(client) => client.handle_frame(now, port, frame, out),
            Host::Guest(guest) => guest.handle_frame(now, port, frame, out),
            Host::Down => {}
        }
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        match self {
            Host::Server(server) => server.handle_timeout(now, out),
            Host::Client(client) => client.handle_timeout(now, out),
            Host::Guest(guest) => guest.handle_timeout(now, out),
            Host::Down => {}
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Host::Server(server) => server.poll_timeout(),
            Host::Client(client) => client.poll_timeout(),
            Host::Guest(guest) => guest.poll_timeout(),
            Host::Down => None,
        }
    }
}

/// A place for a server.
pub(crate) struct Site {
    node: NodeId,
    /// Times that it was started.
    life: u32,
    /// What was counted in its former lives.
    former: Tally,
}

/// What a server has counted.
#[derive(Clone, Default)]
struct Tally {
    local: u64,
    migrated_out: u64,
    migrated_in: u64,
    moved: u64,
    came_home: u64,
    migrations: Vec<Duration>,
    /// Selections by this server and their expectation, by server name.
    selected: BTreeMap<String, (u64, f64)>,
}

impl Site {
    pub(crate) fn new(node: NodeId) -> Site {
        Site {
            node,
            life: 1,
            former: Tally::default(),
        }
    }

    pub(crate) fn node(&self) -> NodeId {
        self.node
    }
}

impl Tally {
    fn add(&mut self, now: Instant, server: &Server) {
        let counters = server.device().counters();
        self.local += counters.local;
        self.migrated_out += counters.migrated_out;
        self.migrated_in += counters.migrated_in;
        self.moved += server.journal().left;
        self.came_home += server.journal().came_home;
        self.migrations.extend(&server.journal().migrations);
        for state in server.device().servers(now) {
            let (selected, expected) = self.selected.entry(state.name).or_default();
            *selected += state.selected;
            *expected += state.expected;
        }
    }
}

/// A farm in virtual time. The same builder with the same seed gives the same run, bit for bit.
///
/// It keeps a record of every exchange, so its memory grows with the requests that it has served.
pub struct Farm {
    network: Network<Host>,
    sites: Vec<Site>,
    clients: Vec<NodeId>,
    /// Clients that have something to do.
    busy: BTreeSet<NodeId>,
    plan: Plan,
    owner: Option<Arc<Mutex<OneOwner>>>,
}

impl Farm {
    /// Three servers, eight client hosts, 300 requests.
    pub fn builder() -> FarmBuilder {
        FarmBuilder::default()
    }

    pub(crate) fn new(
        network: Network<Host>,
        sites: Vec<Site>,
        plan: Plan,
        owner: Option<Arc<Mutex<OneOwner>>>,
    ) -> Farm {
        Farm {
            network,
            sites,
            clients: Vec::new(),
            busy: BTreeSet::new(),
            plan,
            owner,
        }
    }

    // ---- running ----

    /// The present moment.
    pub fn now(&self) -> Instant {
        self.network.now()
    }

    /// Does the next thing that happens, if it happens by `limit`. Whether there was one.
    pub fn step(&mut self, limit: Instant) -> bool {
        self.step_node(limit).is_some()
    }

    /// Does the next thing that happens, if it happens by `limit`. The node that it happened to.
    pub fn step_node(&mut self, limit: Instant) -> Option<NodeId> {
        let touched = self.network.step(limit)?;
        if self.busy.contains(&touched) {
            self.look_at(touched);
        }
        Some(touched)
    }

    /// Runs to `moment`, whatever the clients do.
    pub fn run_until(&mut self, moment: Instant) {
        while self.step(moment) {}
    }

    /// Runs for `time`, whatever the clients do.
    pub fn run_for(&mut self, time: Duration) {
        self.run_until(self.now() + time);
    }

    /// Runs until all clients have done their jobs, or `limit` has come. Whether they have.
    pub fn run_until_done(&mut self, limit: Instant) -> bool {
        while !self.busy.is_empty() && self.step(limit) {}
        self.busy.is_empty()
    }

    /// Whether a client has a job that is not done.
    pub fn is_busy(&self) -> bool {
        !self.busy.is_empty()
    }

    /// Runs until all clients have done their jobs, each of which ends by its deadline, and says what came of it.
    pub fn run(&mut self) -> Outcome {
        self.run_until_done(Instant::from_micros(u64::MAX));
        self.outcome()
    }

    // ---- servers ----

    /// Number of servers, those killed included.
    pub fn servers(&self) -> usize {
        self.sites.len()
    }

    /// Server number `index`, unless it was killed.
    pub fn server(&self, index: usize) -> Option<&Server> {
        match self.network.node(self.sites.get(index)?.node)? {
            Host::Server(server) => Some(server),
            _ => None,
        }
    }

    /// The device of server number `index`, unless it was killed.
    pub fn device(&self, index: usize) -> Option<&Device> {
        self.server(index).map(Server::device)
    }

    /// Calls a device from outside, then takes its events and sends its frames. `None` if the server was killed.
    pub fn with_device<R>(
        &mut self,
        index: usize,
        call: impl FnOnce(&mut Device, Instant) -> R,
    ) -> Option<R> {
        let node = self.sites.get(index)?.node;
        self.network.with(node, |host, now, out| match host {
            Host::Server(server) => Some(server.with_device(now, out, |device| call(device, now))),
            _ => None,
        })?
    }

    /// Kills a server: its state is lost, and frames to it vanish. Frames that it has sent still arrive.
    pub fn kill(&mut self, index: usize) {
        let now = self.now();
        let Some(site) = self.sites.get_mut(index) else {
            return;
        };
        if !matches!(self.network.node(site.node), Some(Host::Server(_))) {
            return;
        }
        let former = &mut site.former;
        self.network.with(site.node, |host, _, _| {
            if let Host::Server(server) = host {
                former.add(now, server);
                *host = Host::Down;
            }
        });
        self.network.crashed(site.node);
    }

    /// Starts a server that was killed, with empty tables and the next incarnation.
    ///
    /// # Errors
    /// There is no such server, or the device refuses its configuration, as changed by [`FarmBuilder::configure`].
    pub fn restart(&mut self, index: usize) -> Result<(), FarmError> {
        let now = self.now();
        let Some(site) = self.sites.get_mut(index) else {
            return Err(FarmError::NoServer(index));
        };
        if !matches!(self.network.node(site.node), Some(Host::Down)) {
            return Ok(());
        }
        site.life += 1;
        let server = self.plan.start(index, site.life, now)?;
        self.network.with(site.node, |host, _, _| {
            *host = Host::Server(Box::new(server))
        });
        Ok(())
    }

    // ---- clients ----

    /// Number of client hosts.
    pub fn clients(&self) -> usize {
        self.clients.len()
    }

    /// Client host number `index`.
    pub fn client(&self, index: usize) -> Option<&Client> {
        match self.network.node(*self.clients.get(index)?)? {
            Host::Client(client) => Some(client),
            _ => None,
        }
    }

    /// Gives client host number `index` a job, before those of its workload that it has not begun. Whether there is
    /// such a host.
    pub fn push(&mut self, index: usize, job: Job) -> bool {
        self.with_client(index, |client, now, out| client.push(now, job, out))
    }

    /// Gives client host number `index` a workload, in place of what is left of the former one. Whether there is
    /// such a host.
    pub fn set_workload(&mut self, index: usize, workload: Workload) -> bool {
        self.with_client(index, |client, now, out| {
            client.set_workload(now, workload, out)
        })
    }

    /// All exchanges that clients have finished, host by host.
    pub fn records(&self) -> impl Iterator<Item = &Record> {
        (0..self.clients.len())
            .filter_map(|index| self.client(index))
            .flat_map(|client| client.log().records())
    }

    /// How many exchanges clients have finished.
    pub fn finished(&self) -> usize {
        (0..self.clients.len())
            .filter_map(|index| self.client(index))
            .map(|client| client.log().records().len())
            .sum()
    }

    pub(crate) fn add_client(&mut self, client: Client, port: Port) {
        let node = self
            .network
            .add_node(Host::Client(Box::new(client)), &[port.into()]);
        self.clients.push(node);
    }

    fn with_client(
        &mut self,
        index: usize,
        call: impl FnOnce(&mut Client, Instant, &mut Outbox),
    ) -> bool {
        let Some(&node) = self.clients.get(index) else {
            return false;
        };
        self.network.with(node, |host, now, out| {
            if let Host::Client(client) = host {
                call(client, now, out);
            }
        });
        self.look_at(node);
        true
    }

    /// Notes whether a client has something to do.
    fn look_at(&mut self, node: NodeId) {
        match self.network.node(node) {
            Some(Host::Client(client)) if !client.is_done() => self.busy.insert(node),
            _ => self.busy.remove(&node),
        };
    }

    // ---- LANs ----

    /// The seed.
    pub fn seed(&self) -> u64 {
        self.network.seed()
    }

    /// The LAN that ports of this kind are on.
    pub fn lan(&self, port: Port) -> Option<&Lan> {
        self.network.lan(port.into())
    }

    /// The same, to change it.
    pub fn lan_mut(&mut self, port: Port) -> Option<&mut Lan> {
        self.network.lan_mut(port.into())
    }

    /// The node of server number `index`, for partitions.
    pub fn server_node(&self, index: usize) -> Option<NodeId> {
        self.sites.get(index).map(|site| site.node)
    }

    /// The node of client host number `index`, for partitions.
    pub fn client_node(&self, index: usize) -> Option<NodeId> {
        self.clients.get(index).copied()
    }

    /// Adds a machine with one port on each of these LANs.
    pub fn add_guest(&mut self, guest: impl Node + Send + 'static, ports: &[Port]) -> NodeId {
        let lans: Vec<LanId> = ports.iter().copied().map(LanId::from).collect();
        self.network.add_node(Host::Guest(Box::new(guest)), &lans)
    }

    // ---- results ----

    /// The first times that a server transmitted on a connection that was not its own.
    pub fn violations(&self) -> Vec<Violation> {
        self.with_owner(|owner| owner.violations().to_vec())
    }

    /// When a server crashed that a connection between these ports was in the hands of, or that it was being handed to; see
    /// [`OneOwner::bereavements`].
    pub fn bereavements(&self, connection: &Connection) -> Vec<Instant> {
        let flow = Flow::tcp(connection.client, connection.server);
        self.with_owner(|owner| owner.bereavements(&flow).to_vec())
    }

    fn with_owner<R: Default>(&self, look: impl FnOnce(&OneOwner) -> R) -> R {
        self.owner
            .as_ref()
            .map(|owner| look(&owner.lock().unwrap_or_else(PoisonError::into_inner)))
            .unwrap_or_default()
    }

    /// What came of the run so far.
    pub fn outcome(&self) -> Outcome {
        let tallies: Vec<Tally> = (0..self.sites.len())
            .map(|index| self.tally(index))
            .collect();
        let mut selected: BTreeMap<&str, (u64, f64)> = BTreeMap::new();
        for (name, (count, expected)) in tallies.iter().flat_map(|tally| &tally.selected) {
            let sum = selected.entry(name).or_default();
            sum.0 += count;
            sum.1 += expected;
        }
        let all = selected
            .values()
            .fold((0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        let part = |one: f64, all: f64| if all > 0.0 { one / all } else { 0.0 };

        let mut served: BTreeMap<&str, u64> = BTreeMap::new();
        let (mut requests, mut latencies) = (0, Vec::new());
        for exchange in self.records().map(|record| &record.exchange) {
            requests += 1;
            if let Ok(name) = &exchange.result {
                *served.entry(name).or_default() += 1;
                latencies.push(exchange.latency());
            }
        }
        let servers = tallies.iter().enumerate().map(|(index, tally)| {
            let name = ServerAddresses::of(index).name;
            let (count, expected) = selected.get(name.as_str()).copied().unwrap_or_default();
            ServerOutcome {
                served: served.get(name.as_str()).copied().unwrap_or_default(),
                local: tally.local,
                migrated_out: tally.migrated_out,
                migrated_in: tally.migrated_in,
                moved: tally.moved,
                came_home: tally.came_home,
                share: part(count as f64, all.0 as f64),
                expected_share: part(expected, all.1),
                selections: all.0,
                name,
            }
        });
        Outcome {
            requests,
            errors: requests - latencies.len() as u64,
            servers: servers.collect(),
            latency: Quantiles::of(latencies),
            migration: Quantiles::of(
                tallies
                    .iter()
                    .flat_map(|tally| tally.migrations.iter().copied())
                    .collect(),
            ),
            violations: self.with_owner(OneOwner::count),
        }
    }

    /// What server number `index` has counted in all its lives.
    fn tally(&self, index: usize) -> Tally {
        let mut tally = self
            .sites
            .get(index)
            .map(|site| site.former.clone())
            .unwrap_or_default();
        if let Some(server) = self.server(index) {
            tally.add(self.now(), server);
        }
        tally
    }
}
