//! A device inside this process: its tables can be seen, and its TCP can be set, which the configuration file has no keys for.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use ipos_backend::Backend;
use ipos_backend_pnet::{PnetBackend, PnetOptions};
use ipos_core::config::Tcp;
use ipos_core::{Config, Device, TableSize};
use ipos_engine::{Engine, Options, Ports, Stop, clock};
use ipos_examples::config::{FileConfig, Interfaces, Start};
use ipos_lab::{Lan, Server};

use crate::site::{configuration, wait_until};

/// How often the tables are looked at.
const LOOK: Duration = Duration::from_millis(10);
/// The tables that hold connections, and what belongs to them.
const CONNECTIONS: [&str; 5] = [
    "temporary",
    "local",
    "forward-connect",
    "forward",
    "early-packets",
];

/// What was seen of a device.
#[derive(Default)]
struct Seen {
    tables: Vec<TableSize>,
    /// Servers alive, itself included.
    alive: usize,
}

/// A device on a thread in its namespace.
pub struct Inside {
    name: String,
    seen: Arc<Mutex<Seen>>,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Inside {
    /// Starts the device of `server`, as `inic` would by its configuration file, but for its TCP.
    pub fn start(server: &Server, change: impl Fn(&mut Tcp) + Send + 'static) -> Inside {
        let name = server.name().to_owned();
        let text = configuration(server);
        let seen = Arc::default();
        let shown = Arc::clone(&seen);
        let (started, start) = std::sync::mpsc::channel();
        let run = move || {
            let mut engine = engine(&text, change);
            let stop = engine.stop_handle();
            started.send(stop.clone()).unwrap();
            let mut look = clock::now();
            while !stop.is_stopped() {
                engine.step(Some(LOOK)).unwrap();
                let now = clock::now();
                if now >= look {
                    look = now + LOOK;
                    show(&engine, &shown);
                }
            }
            // It does not leave the farm: as though it was killed.
        };
        let thread = server.namespace().spawn(&name, run).unwrap();
        Inside {
            name,
            seen,
            stop: start.recv().unwrap(),
            thread: Some(thread),
        }
    }

    /// Records of a table.
    pub fn len(&self, table: &str) -> usize {
        let seen = self.seen.lock().unwrap();
        let table = seen.tables.iter().find(|size| size.name == table);
        table.map_or(0, |size| size.len)
    }

    /// What connections have left in its tables.
    pub fn left(&self) -> Vec<(&'static str, usize)> {
        let tables = CONNECTIONS.map(|table| (table, self.len(table)));
        tables.into_iter().filter(|(_, len)| *len > 0).collect()
    }

    /// Waits until nothing is left of any connection.
    pub fn wait_empty(&self) {
        let what = format!("the tables of {} become empty", self.name);
        wait_until(&what, || self.left().is_empty());
    }

    /// Servers that it sees alive, itself included.
    pub fn alive(&self) -> usize {
        self.seen.lock().unwrap().alive
    }

    /// Ends it from one moment to the next, with no word to anybody.
    pub fn kill(mut self) {
        self.stop.stop();
        self.thread.take().expect("it runs").join().unwrap();
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            eprintln!("the device of {} panicked", self.name);
        }
    }
}

fn show(engine: &Engine, shown: &Mutex<Seen>) {
    let servers = engine.device().servers(clock::now());
    *shown.lock().unwrap() = Seen {
        tables: engine.device().tables(),
        alive: servers.iter().filter(|server| server.alive).count(),
    };
}

fn engine(text: &str, change: impl Fn(&mut Tcp)) -> Engine {
    let file = FileConfig::parse(Path::new("inic.toml"), text).unwrap();
    let open = |lan: Lan| -> Box<dyn Backend> {
        Box::new(PnetBackend::open(lan.interface(), PnetOptions::default()).unwrap())
    };
    let ports = Ports {
        a: open(Lan::A),
        b: open(Lan::B),
        synch: open(Lan::Synch),
        c: None,
    };
    let interfaces = Interfaces {
        a: ports.a.capabilities(),
        b: ports.b.capabilities(),
        synch: ports.synch.capabilities(),
        c: None,
    };
    let mut config: Config = file.device(interfaces, Start::default()).unwrap();
    change(&mut config.tcp);
    let device = Device::new(config, clock::now()).unwrap();
    Engine::new(device, ports, file.applications(), Options::default()).unwrap()
}
