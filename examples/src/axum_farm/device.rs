//! One server's device on a thread of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use ipos_balance::PolicyKind;
use ipos_core::config::{Config, Listen, PortA, PortB, SynchPort};
use ipos_core::{Device, Event};
use ipos_engine::socket::Backlog;
use ipos_engine::{Engine, Options, Ports, Stop, clock};
use ipos_lab::{Lan, PREFIX};
use ipos_proto::{MacAddr, Protocol};

use super::{name, reached};
use crate::device_thread::{DeviceThread, Ended, part};
use crate::farm::FarmError;

/// The high-priority interval: short, so that the servers find each other soon.
const INTERVAL: Duration = Duration::from_millis(50);

/// A device that runs.
pub(super) struct Running {
    pub(super) thread: DeviceThread,
    /// Other servers that it sees alive.
    known: Arc<AtomicUsize>,
}

/// What the device's thread does.
pub(super) type Work = Box<dyn FnOnce() -> Ended + Send>;

impl Running {
    /// Starts the device with this host number, on a thread that `spawn` makes, with the ports that `ports` opens there.
    pub(super) fn start(
        host: u8,
        backlog: Backlog,
        ports: impl FnOnce() -> Result<Ports, String> + Send + 'static,
        spawn: impl FnOnce(&str, Work) -> Result<JoinHandle<Ended>, FarmError>,
    ) -> Result<Running, FarmError> {
        let name = name(host);
        let part = part(&name);
        let config = config(host).map_err(FarmError::of(part.clone()))?;
        let known = Arc::new(AtomicUsize::new(0));
        let (started, start): (_, Receiver<Stop>) = channel();
        let counter = Arc::clone(&known);
        let work = Box::new(move || run(config, ports()?, backlog, counter, &started));
        let thread = spawn(&part, work)?;
        Ok(Running {
            thread: DeviceThread::started(&name, thread, &start)?,
            known,
        })
    }

    pub(super) fn known(&self) -> usize {
        self.known.load(Ordering::Relaxed)
    }
}

fn config(host: u8) -> Result<Config, getrandom::Error> {
    let hardware = |lan: Lan| MacAddr(lan.hardware_address(host));
    let mut synch = SynchPort::new(hardware(Lan::Synch), Lan::Synch.address(host));
    synch.high = INTERVAL;
    let port_a = PortA::new(hardware(Lan::A), vec![*reached(host).ip()], PREFIX);
    let port_b = PortB::new(hardware(Lan::B), Lan::B.address(host));
    let mut config = Config::new(name(host), port_a, port_b, synch);
    config.listen.push(Listen {
        address: reached(host),
        protocol: Protocol::Tcp,
        service: "web".to_owned(),
    });
    config.balance.policy = PolicyKind::RoundRobin;
    config.seed = getrandom::u64()?;
    getrandom::fill(&mut config.isn_key)?;
    Ok(config)
}

fn run(
    config: Config,
    ports: Ports,
    backlog: Backlog,
    known: Arc<AtomicUsize>,
    started: &Sender<Stop>,
) -> Ended {
    let device = Device::new(config, clock::now()).map_err(|error| error.to_string())?;
    let engine = Engine::new(device, ports, vec![backlog], Options::default());
    let mut engine = engine.map_err(|error| error.to_string())?;
    engine.observe(Box::new(move |event| {
        match event {
            Event::ServerUp(_) => known.fetch_add(1, Ordering::Relaxed),
            Event::ServerDown(_) => known.fetch_sub(1, Ordering::Relaxed),
            _ => 0,
        };
    }));
    // Nobody waits for it any more if the program is ending.
    let _ = started.send(engine.stop_handle());
    engine.run().map_err(|error| error.to_string())
}
