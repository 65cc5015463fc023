//! The servers under test, each with its clients' LAN.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ipos_backend::Backend;
use ipos_backend_pnet::{PnetBackend, PnetOptions};
use ipos_balance::PolicyKind;
use ipos_core::config::{Config, Listen, PortA, PortB, SynchPort};
use ipos_core::{Device, Event, TableSize};
use ipos_engine::{Engine, Options, Ports, Stop, clock};
use ipos_lab::{Farm, FarmPlan, Lan, Server};
use ipos_proto::{MacAddr, Protocol};

use crate::app::{App, Registry};
use crate::wire::{Receiving, Wire, lock};

/// What clients connect to.
pub const PORT: u16 = 80;
/// A port where nobody listens.
pub const CLOSED_PORT: u16 = 81;
/// Where applications behind devices listen.
const APPLICATION: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8080);
/// LAN A is a /16 here: every case has an address of its own.
const PREFIX: u8 = 16;
/// Half-open connections that a device keeps; beyond them it uses SYN cookies.
const HALF_OPEN: usize = 1_000;
/// Long enough that no server counts as silent while this machine is busy.
const SYNCH_INTERVAL: Duration = Duration::from_millis(200);
/// How often a device's tables are looked at.
const LOOK: Duration = Duration::from_millis(100);
/// Where connections are.
const FLOW_TABLES: [&str; 4] = ["temporary", "local", "forward-connect", "forward"];
/// How long a device keeps what is over: short, so that the end of all cases can be waited for.
const CLOSING: Duration = Duration::from_secs(10);
/// How long the servers may take to see each other.
const JOINING: Duration = Duration::from_secs(20);

/// Which server is tested.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One device.
    Local,
    /// Two devices: every request is migrated to the other one.
    Migrated,
    /// The Linux kernel.
    Kernel,
}

/// A server under test and what belongs to it.
pub struct Bed {
    pub kind: Kind,
    pub wire: Arc<Wire>,
    pub registry: Arc<Registry>,
    /// What clients connect to.
    pub server: SocketAddrV4,
    /// Its hardware address, as ARP tells it.
    pub hardware: [u8; 6],
    /// The hardware addresses that its segments may come from.
    pub senders: Vec<[u8; 6]>,
    /// The server that got the last request, and the right to send the next one: policies go round.
    pub turn: Mutex<Option<&'static str>>,
    // Dropped in this order: devices, applications, client, network.
    devices: Vec<Running>,
    _apps: Vec<App>,
    _receiving: Receiving,
    _lab: Farm,
}

impl Bed {
    pub fn start(kind: Kind) -> Result<Bed, String> {
        let servers = if kind == Kind::Migrated { 2 } else { 1 };
        let lab = Farm::build(FarmPlan {
            servers,
            ..FarmPlan::default()
        })
        .map_err(|error| error.to_string())?;
        let registry = Arc::new(Registry::default());
        let server = SocketAddrV4::new(lab.servers()[0].address(Lan::A), PORT);
        let mut devices = Vec::new();
        let mut apps = Vec::new();
        for (number, (place, name)) in lab.servers().iter().zip(["s1", "s2"]).enumerate() {
            let address = if kind == Kind::Kernel {
                let added = place
                    .namespace()
                    .add_address(Lan::A.interface(), *server.ip(), PREFIX);
                added.map_err(|error| error.to_string())?;
                server.into()
            } else {
                devices.push(Running::start(place, number)?);
                APPLICATION
            };
            apps.push(App::start(place.namespace(), name, address, &registry)?);
        }
        let (wire, receiving) = Wire::open(lab.client(), Farm::CLIENT_INTERFACE)?;
        let hardware = wire
            .host()
            .resolve(*server.ip())
            .ok_or("the server does not answer ARP")?;
        let senders = lab
            .servers()
            .iter()
            .map(|server| server.hardware_address(Lan::A))
            .collect();
        let bed = Bed {
            kind,
            wire,
            registry,
            server,
            hardware,
            senders,
            turn: Mutex::new(None),
            devices,
            _apps: apps,
            _receiving: receiving,
            _lab: lab,
        };
        bed.wait_joined()?;
        Ok(bed)
    }

    fn wait_joined(&self) -> Result<(), String> {
        let start = Instant::now();
        while self
            .devices
            .iter()
            .any(|device| device.peers.load(Ordering::Relaxed) + 1 < self.devices.len())
        {
            if start.elapsed() > JOINING {
                return Err(format!(
                    "the servers do not see each other after {JOINING:?}"
                ));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// Records in the devices' flow tables, by table, where there are any.
    pub fn flows(&self) -> Vec<TableSize> {
        let tables = self
            .devices
            .iter()
            .flat_map(|device| lock(&device.tables).clone());
        tables
            .filter(|table| FLOW_TABLES.contains(&table.name) && table.len > 0)
            .collect()
    }

    /// Ends the devices; an error says which one failed before.
    pub fn stop(mut self) -> Result<(), String> {
        self.devices.drain(..).try_for_each(Running::stop)
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.registry.close();
    }
}

/// A device on a thread of its own.
struct Running {
    /// Other servers that it has seen come up.
    peers: Arc<AtomicUsize>,
    tables: Arc<Mutex<Vec<TableSize>>>,
    stop: Stop,
    thread: Option<JoinHandle<Result<(), String>>>,
}

impl Running {
    fn start(server: &Server, number: usize) -> Result<Running, String> {
        let config = config(server, number);
        let peers = Arc::new(AtomicUsize::new(0));
        let (started, start) = channel();
        let seen = Arc::clone(&peers);
        let tables = Arc::new(Mutex::default());
        let shown = Arc::clone(&tables);
        let run = move || -> Result<(), String> {
            let open = |lan: Lan| -> Result<Box<dyn Backend>, String> {
                let port = PnetBackend::open(lan.interface(), PnetOptions::default());
                Ok(Box::new(port.map_err(|error| error.to_string())?))
            };
            let ports = Ports {
                a: open(Lan::A)?,
                b: open(Lan::B)?,
                synch: open(Lan::Synch)?,
                c: None,
            };
            let device = Device::new(config, clock::now()).map_err(|error| error.to_string())?;
            let engine = Engine::new(device, ports, vec![APPLICATION], Options::default());
            let mut engine = engine.map_err(|error| error.to_string())?;
            engine.observe(Box::new(move |event| {
                if let Event::ServerUp(_) = event {
                    seen.fetch_add(1, Ordering::Relaxed);
                }
            }));
            // Nobody waits for it any more if the program is ending.
            let stop = engine.stop_handle();
            let _ = started.send(stop.clone());
            let mut look = Instant::now();
            while !stop.is_stopped() {
                engine.step(Some(LOOK)).map_err(|error| error.to_string())?;
                if look.elapsed() > LOOK {
                    look = Instant::now();
                    *lock(&shown) = engine.device().tables();
                }
            }
            engine.leave().map_err(|error| error.to_string())
        };
        let thread = server
            .namespace()
            .spawn(&format!("device {}", server.name()), run);
        let thread = thread.map_err(|error| error.to_string())?;
        match start.recv() {
            Ok(stop) => Ok(Running {
                peers,
                tables,
                stop,
                thread: Some(thread),
            }),
            Err(_) => Err(thread
                .join()
                .map_or("a device panicked".to_owned(), |result| {
                    result.err().unwrap_or_default()
                })),
        }
    }

    fn stop(mut self) -> Result<(), String> {
        self.stop.stop();
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(()),
            Some(Ok(result)) => result,
            Some(Err(_)) => Err("a device panicked".to_owned()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            // Its failure was told, or the program is ending for another reason.
            let _ = thread.join();
        }
    }
}

fn config(server: &Server, number: usize) -> Config {
    let hardware = |lan| MacAddr(server.hardware_address(lan));
    let port_a = PortA::new(hardware(Lan::A), vec![server.address(Lan::A)], PREFIX);
    let port_b = PortB::new(hardware(Lan::B), server.address(Lan::B));
    let synch = SynchPort::new(hardware(Lan::Synch), server.address(Lan::Synch));
    let mut config = Config::new(
        server.name(),
        port_a,
        port_b,
        synch.with_interval(SYNCH_INTERVAL),
    );
    config.listen.push(Listen {
        address: SocketAddrV4::new(server.address(Lan::A), PORT),
        protocol: Protocol::Tcp,
        service: "test".to_owned(),
    });
    config.balance.policy = PolicyKind::RoundRobin;
    config.limits.temporary = HALF_OPEN;
    config.tcp.time_wait = CLOSING;
    config.tcp.fin_wait_2 = CLOSING;
    config.tcp.syn_retries = 3;
    config.seed = number as u64;
    config.isn_key = [0x5a ^ number as u8; 16];
    config
}
