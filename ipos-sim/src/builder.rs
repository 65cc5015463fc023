//! How a farm is made.

use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipos_balance::{Policy, PolicyKind};
use ipos_core::config::{Limits, Listen, PortA, PortB, SynchPort};
use ipos_core::{Config, ConfigError, Instant, Load, Port};
use ipos_proto::{ETHERTYPE, Protocol};
use rand_core::Rng;
use thiserror::Error;

use crate::addresses::{self, MAX_CLIENTS, MAX_SERVERS, ServerAddresses};
use crate::app::{Application, Web};
use crate::client::{Client, ClientConfig, ClientTcp, Job, Workload};
use crate::farm::{Farm, Host, Site};
use crate::impair::{ImpairmentError, Impairments};
use crate::lan::LanConfig;
use crate::network::{LanId, Network};
use crate::observe::Observer;
use crate::owner::OneOwner;
use crate::random::{Purpose, stream};
use crate::requests::{Http, Request};
use crate::server::{Server, default_load};

/// The service that all servers of a farm offer.
const SERVICE: &str = "web";

/// Makes a [`Farm`]. Everything has a default; see each method.
pub struct FarmBuilder {
    pub(crate) plan: Plan,
    clients: usize,
    concurrency: usize,
    requests: usize,
    response: u64,
    deadline: Duration,
    warm_up: Duration,
    lans: [LanConfig; Port::ALL.len()],
    workload: Option<Box<dyn FnMut(usize) -> Workload + Send>>,
    configure_client: Option<ConfigureClient>,
    observers: Vec<Box<dyn Observer>>,
    check_owner: bool,
}

/// Changes the configuration of a server.
type Configure = Box<dyn FnMut(usize, &mut Config) + Send>;
/// Changes the configuration of a client host.
type ConfigureClient = Box<dyn FnMut(usize, &mut ClientConfig) + Send>;
/// Makes the application of a server.
type Applications = Box<dyn FnMut(usize) -> Box<dyn Application> + Send>;

/// Makes the policy of a server.
type Policies = Box<dyn FnMut(usize) -> Box<dyn Policy> + Send>;

/// What is needed to start a server, the first time and again.
pub(crate) struct Plan {
    pub(crate) seed: u64,
    pub(crate) servers: usize,
    policy: PolicyKind,
    own_policy: Option<Policies>,
    service: RangeInclusive<Duration>,
    configure: Option<Configure>,
    application: Option<Applications>,
    load: Arc<dyn Fn(usize, Instant, u32) -> Load + Send + Sync>,
    mtu: [u16; Port::ALL.len()],
}

/// Why a farm cannot be made.
#[derive(Clone, Debug, Error, PartialEq)]
pub enum FarmError {
    /// None, or more than there are addresses for.
    #[error("a farm has 1 to {MAX_SERVERS} servers, not {0}")]
    Servers(usize),
    /// None, or more than there are addresses for.
    #[error("a farm has 1 to {MAX_CLIENTS} client hosts, not {0}")]
    Clients(usize),
    /// A server was named that the farm does not have.
    #[error("the farm has no server number {0}")]
    NoServer(usize),
    /// Clients that would do nothing.
    #[error("a client host does at least one job at a time")]
    Concurrency,
    /// A probability that is none.
    #[error("LAN of port {port:?}: {source}")]
    Impairment {
        /// The port that the LAN is for.
        port: Port,
        /// What is wrong.
        source: ImpairmentError,
    },
    /// A device refuses its configuration.
    #[error("server {name}: {source}")]
    Config {
        /// The server.
        name: String,
        /// What is wrong.
        source: ConfigError,
    },
}

impl Default for FarmBuilder {
    fn default() -> FarmBuilder {
        FarmBuilder {
            plan: Plan {
                seed: 1,
                servers: 3,
                policy: PolicyKind::default(),
                own_policy: None,
                service: Duration::from_millis(5)..=Duration::from_millis(50),
                configure: None,
                application: None,
                load: Arc::new(|_, now, connections| default_load(now, connections)),
                mtu: [1500; Port::ALL.len()],
            },
            clients: 8,
            concurrency: 4,
            requests: 300,
            response: 10_000,
            deadline: Duration::from_secs(60),
            warm_up: Duration::from_millis(1_200),
            lans: [LanConfig::default(); Port::ALL.len()],
            workload: None,
            configure_client: None,
            observers: Vec::new(),
            check_owner: true,
        }
    }
}

impl FarmBuilder {
    /// Number of servers; 3 by default.
    pub fn servers(mut self, servers: usize) -> FarmBuilder {
        self.plan.servers = servers;
        self
    }

    /// Number of client hosts; 8 by default. Every other one uses TCP timestamps.
    pub fn clients(mut self, clients: usize) -> FarmBuilder {
        self.clients = clients;
        self
    }

    /// Jobs that a client host does at a time; 4 by default.
    pub fn concurrency(mut self, concurrency: usize) -> FarmBuilder {
        self.concurrency = concurrency;
        self
    }

    /// Requests of the default workload, 300 by default: each on a connection of its own, to the servers in
    /// turn. 0 for jobs that come later with [`Farm::push`].
    pub fn requests(mut self, requests: usize) -> FarmBuilder {
        self.requests = requests;
        self
    }

    /// Bytes of each response of the default workload; 10 000 by default.
    pub fn response(mut self, bytes: u64) -> FarmBuilder {
        self.response = bytes;
        self
    }

    /// Gives client host number `n` the jobs `workload(n)`, in place of the default workload.
    pub fn workload(
        mut self,
        workload: impl FnMut(usize) -> Workload + Send + 'static,
    ) -> FarmBuilder {
        self.workload = Some(Box::new(workload));
        self
    }

    /// How long a client waits for a job of the default workload; 60 s by default.
    pub fn deadline(mut self, deadline: Duration) -> FarmBuilder {
        self.deadline = deadline;
        self
    }

    /// When the default workload begins: the servers know each other by then; 1.2 s by default.
    pub fn warm_up(mut self, warm_up: Duration) -> FarmBuilder {
        self.warm_up = warm_up;
        self
    }

    /// How servers are selected; inverse connection count by default.
    pub fn policy(mut self, policy: PolicyKind) -> FarmBuilder {
        self.plan.policy = policy;
        self
    }

    /// The policy of server number `n`, at every start of it, instead of those that have names.
    pub fn own_policy(
        mut self,
        policy: impl FnMut(usize) -> Box<dyn Policy> + Send + 'static,
    ) -> FarmBuilder {
        self.plan.own_policy = Some(Box::new(policy));
        self
    }

    /// The seed of everything; 1 by default.
    pub fn seed(mut self, seed: u64) -> FarmBuilder {
        self.plan.seed = seed;
        self
    }

    /// The properties of the LAN that all ports of this kind are on.
    pub fn lan(mut self, port: Port, config: LanConfig) -> FarmBuilder {
        self.lans[LanId::from(port).0] = config;
        self
    }

    /// Impairments of LANs A and B.
    pub fn impairments(mut self, impairments: Impairments) -> FarmBuilder {
        for port in [Port::A, Port::B] {
            self.lans[LanId::from(port).0].impairments = impairments;
        }
        self
    }

    /// How long the default application takes for an answer, uniform; 5 to 50 ms by default.
    pub fn service_time(mut self, service: RangeInclusive<Duration>) -> FarmBuilder {
        self.plan.service = service;
        self
    }

    /// Changes the configuration of server number `n`, at every start of it. Its addresses are to stay.
    pub fn configure(
        mut self,
        configure: impl FnMut(usize, &mut Config) + Send + 'static,
    ) -> FarmBuilder {
        self.plan.configure = Some(Box::new(configure));
        self
    }

    /// Changes the configuration of client host number `n`. Its addresses are to stay.
    pub fn configure_client(
        mut self,
        configure: impl FnMut(usize, &mut ClientConfig) + Send + 'static,
    ) -> FarmBuilder {
        self.configure_client = Some(Box::new(configure));
        self
    }

    /// The application of server number `n`, at every start of it; a [`Web`] by default.
    pub fn application(
        mut self,
        application: impl FnMut(usize) -> Box<dyn Application> + Send + 'static,
    ) -> FarmBuilder {
        self.plan.application = Some(Box::new(application));
        self
    }

    /// The figures of server number `n`, from the moment and its connections; [`default_load`] by default.
    pub fn load(
        mut self,
        load: impl Fn(usize, Instant, u32) -> Load + Send + Sync + 'static,
    ) -> FarmBuilder {
        self.plan.load = Arc::new(load);
        self
    }

    /// Adds an observer, such as a [`Capture`](crate::Capture).
    pub fn observer(mut self, observer: impl Observer + 'static) -> FarmBuilder {
        self.observers.push(Box::new(observer));
        self
    }

    /// Whether every frame is checked by [`OneOwner`]; it is by default.
    pub fn check_owner(mut self, check: bool) -> FarmBuilder {
        self.check_owner = check;
        self
    }

    /// Makes the farm, at moment zero.
    ///
    /// # Errors
    /// A number or probability is out of its range, or a device refuses its configuration.
    pub fn build(mut self) -> Result<Farm, FarmError> {
        self.check()?;
        self.plan.mtu = self.lans.map(|lan| lan.mtu);
        let mut network = Network::new(self.plan.seed, &self.lans);
        let mut sites = Vec::new();
        let mut ethertype = ETHERTYPE;
        let mut limits = Limits::default();
        for index in 0..self.plan.servers {
            let server = self.plan.start(index, 1, Instant::ZERO)?;
            let config = server.device().config();
            ethertype = config.port_b.ethertype;
            limits.clone_from(&config.limits);
            let node =
                network.add_node(Host::Server(Box::new(server)), &Port::ALL.map(LanId::from));
            sites.push(Site::new(node));
        }
        for observer in self.observers.drain(..) {
            network.observe(observer);
        }
        let owner = self.check_owner.then(|| {
            let nodes = sites.iter().map(Site::node);
            let check = OneOwner::new(Port::A.into(), Port::B.into(), nodes);
            let check = check.with_ethertype(ethertype);
            Arc::new(Mutex::new(check.with_limits(Port::Synch.into(), &limits)))
        });
        if let Some(owner) = &owner {
            network.observe(Box::new(owner.clone()));
        }
        let mut farm = Farm::new(network, sites, self.plan, owner);
        for index in 0..self.clients {
            let (hardware, address) = addresses::client(index);
            let mut config = ClientConfig {
                lan: Port::A,
                hardware,
                address,
                prefix: addresses::PREFIX,
                mtu: self.lans[LanId::from(Port::A).0].mtu,
                concurrency: self.concurrency,
                ports: ClientConfig::PORTS,
                rest: ClientConfig::REST,
                ports_per_server: false,
                tcp: ClientTcp {
                    timestamps: index % 2 == 0,
                    ..ClientTcp::default()
                },
                seed: farm.seed(),
            };
            if let Some(configure) = &mut self.configure_client {
                configure(index, &mut config);
            }
            let lan = config.lan;
            farm.add_client(Client::new(config), lan);
            let workload = match &mut self.workload {
                Some(workload) => workload(index),
                None => default_workload(
                    (index..self.requests).step_by(self.clients),
                    farm.servers(),
                    self.response,
                    self.deadline,
                    Instant::ZERO + self.warm_up,
                ),
            };
            farm.set_workload(index, workload);
        }
        Ok(farm)
    }

    fn check(&self) -> Result<(), FarmError> {
        if !(1..=MAX_SERVERS).contains(&self.plan.servers) {
            return Err(FarmError::Servers(self.plan.servers));
        }
        if !(1..=MAX_CLIENTS).contains(&self.clients) {
            return Err(FarmError::Clients(self.clients));
        }
        if self.concurrency == 0 {
            return Err(FarmError::Concurrency);
        }
        for (port, lan) in Port::ALL.into_iter().zip(&self.lans) {
            lan.impairments
                .validate()
                .map_err(|source| FarmError::Impairment { port, source })?;
        }
        Ok(())
    }
}

/// Each request on a connection of its own, to the servers in turn, with a pattern of its own.
fn default_workload(
    requests: impl Iterator<Item = usize> + Send + 'static,
    servers: usize,
    response: u64,
    deadline: Duration,
    begin: Instant,
) -> Workload {
    Box::new(requests.map(move |number| {
        let server = ServerAddresses::of(number % servers).http();
        let script = Http::new([Request::download(response, number as u64)]);
        Job {
            deadline,
            not_before: begin,
            ..Job::new(server, script)
        }
    }))
}

impl Plan {
    /// Starts server `index` for the `life`th time.
    pub(crate) fn start(
        &mut self,
        index: usize,
        life: u32,
        now: Instant,
    ) -> Result<Server, FarmError> {
        let config = self.config(index, life);
        let name = config.name.clone();
        let seed = stream(self.seed, Purpose::Application, index << 32 | life as usize).next_u64();
        let application = match &mut self.application {
            Some(application) => application(index),
            None => Box::new(Web::new(name.clone(), seed).with_service(self.service.clone())),
        };
        let load = self.load.clone();
        let load = Box::new(move |now, connections| load(index, now, connections));
        let mut server = Server::new(config, now, application, load)
            .map_err(|source| FarmError::Config { name, source })?;
        if let Some(policy) = &mut self.own_policy {
            server.set_policy(policy(index));
        }
        Ok(server)
    }

    fn config(&mut self, index: usize, life: u32) -> Config {
        let ServerAddresses {
            name, a, b, synch, ..
        } = ServerAddresses::of(index);
        let [mtu_a, mtu_b, ..] = self.mtu;
        let port_a = PortA {
            mtu: mtu_a,
            ..PortA::new(a.0, vec![a.1], addresses::PREFIX)
        };
        let port_b = PortB {
            mtu: mtu_b,
            ..PortB::new(b.0, b.1)
        };
        let mut config = Config::new(name, port_a, port_b, SynchPort::new(synch.0, synch.1));
        config.listen.push(Listen {
            address: ServerAddresses::of(index).http(),
            protocol: Protocol::Tcp,
            service: SERVICE.into(),
        });
        config.balance.policy = self.policy;
        config.incarnation = life;
        config.seed = stream(self.seed, Purpose::Device, index << 32 | life as usize).next_u64();
        stream(self.seed, Purpose::IsnKey, 0).fill_bytes(&mut config.isn_key);
        if let Some(configure) = &mut self.configure {
            configure(index, &mut config);
        }
        config
    }
}
