//! One server's device on a thread in its namespace.

use std::cell::RefCell;
use std::net::SocketAddrV4;
use std::rc::Rc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipos_core::config::{Config, Listen, PortA, PortB, SynchPort};
use ipos_core::{Counters, Device, Event};
use ipos_engine::{Engine, Options, Ports, Stop, clock};
use ipos_lab::{Lan, PREFIX, Server};
use ipos_proto::{MacAddr, Protocol};

use super::{BUSY, LOOK, PORT, web};
use crate::backend::{Carrier, Opener, Sizes, claims_a, claims_b, claims_synch};
use crate::device_thread::{DeviceThread, part};
use crate::farm::{DeviceReport, FarmError, Plan};

/// The high-priority interval: short, so that a run of a second balances by fresh figures. The silence time stays
/// the default: devices that share a busy machine are not dead.
const INTERVAL: Duration = Duration::from_millis(20);
/// How long a device may take to answer a question.
const ANSWER: Duration = Duration::from_secs(5);

/// What a device shows of itself all the time.
#[derive(Clone, Debug, Default)]
pub(super) struct View {
    /// Servers that it sees alive, itself included.
    pub(super) known: usize,
    /// Its connections that are open.
    pub(super) open: u32,
    /// What it has counted.
    pub(super) counters: Counters,
}

/// A device that runs.
pub(super) struct Running {
    pub(super) thread: DeviceThread,
    view: Arc<Mutex<View>>,
    questions: Sender<Sender<DeviceReport>>,
}

impl Running {
    /// Starts the device of `server`, the `number`-th of the farm.
    pub(super) fn start(server: &Server, number: usize, plan: &Plan) -> Result<Running, FarmError> {
        let name = server.name().to_owned();
        let mut isn_key = [0; 16];
        getrandom::fill(&mut isn_key).map_err(FarmError::of(part(&name)))?;
        let mut config = base(server);
        config.listen.push(Listen {
            address: SocketAddrV4::new(server.address(Lan::A), PORT),
            protocol: Protocol::Tcp,
            service: "web".to_owned(),
        });
        config.balance.policy = plan.policy;
        config.seed = plan.seed.wrapping_add(number as u64);
        config.isn_key = isn_key;
        let view = Arc::default();
        let (questions, asked) = channel();
        let (started, start) = channel();
        let thread = {
            let (name, view) = (name.clone(), Arc::clone(&view));
            let (requests, carrier) = (plan.requests, plan.carrier);
            server
                .namespace()
                .spawn(&format!("device {name}"), move || {
                    run(config, carrier, requests, &view, &asked, &started)
                })?
        };
        Ok(Running {
            thread: DeviceThread::started(&name, thread, &start)?,
            view,
            questions,
        })
    }

    /// What the device shows of itself.
    pub(super) fn view(&self) -> View {
        self.view
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// What the device did so far.
    pub(super) fn report(&mut self) -> Result<DeviceReport, FarmError> {
        let (answer, answered) = channel();
        let answer = match self.questions.send(answer) {
            Ok(()) => answered.recv_timeout(ANSWER),
            Err(_) => Err(RecvTimeoutError::Disconnected),
        };
        answer.map_err(|error| match error {
            RecvTimeoutError::Timeout => FarmError::Failed {
                part: self.thread.part(),
                what: format!("does not answer within {} s; {BUSY}", ANSWER.as_secs()),
            },
            RecvTimeoutError::Disconnected => self.thread.failure(),
        })
    }
}

/// The addresses of `server`, and defaults.
fn base(server: &Server) -> Config {
    let hardware = |lan| MacAddr(server.hardware_address(lan));
    let port_a = PortA::new(hardware(Lan::A), vec![server.address(Lan::A)], PREFIX);
    let port_b = PortB::new(hardware(Lan::B), server.address(Lan::B));
    let mut synch = SynchPort::new(hardware(Lan::Synch), server.address(Lan::Synch));
    synch.high = INTERVAL;
    Config::new(server.name(), port_a, port_b, synch)
}

/// The thread: runs the engine, and answers questions between its steps. Of migrations, the first `measured` are measured.
fn run(
    config: Config,
    carrier: Carrier,
    measured: usize,
    view: &Mutex<View>,
    asked: &Receiver<Sender<DeviceReport>>,
    started: &Sender<Stop>,
) -> Result<(), String> {
    let opener = Opener::new(carrier, Sizes::default()).map_err(|error| error.to_string())?;
    let ports = Ports {
        a: opener.open(Lan::A.interface(), claims_a(&config))?,
        b: opener.open(Lan::B.interface(), claims_b(&config))?,
        synch: opener.open(Lan::Synch.interface(), claims_synch(&config))?,
        c: None,
    };
    let name = config.name.clone();
    let device = Device::new(config, clock::now()).map_err(|error| error.to_string())?;
    let mut engine = Engine::new(device, ports, vec![web::ADDRESS], Options::default())
        .map_err(|error| error.to_string())?;
    let migrations = Rc::new(RefCell::new(Vec::new()));
    let times = Rc::clone(&migrations);
    engine.observe(Box::new(move |event| {
        let mut times = times.borrow_mut();
        if let Event::Migrated { took, .. } = event
            && times.len() < measured
        {
            times.push(u64::try_from(took.as_micros()).unwrap_or(u64::MAX));
        }
    }));
    let stop = engine.stop_handle();
    // Nobody waits for it any more if the program is ending.
    let _ = started.send(stop.clone());
    let mut look = clock::now();
    while !stop.is_stopped() {
        engine.step(None).map_err(|error| error.to_string())?;
        let now = clock::now();
        if now < look {
            continue;
        }
        look = now + LOOK;
        let servers = engine.device().servers(now);
        let me = servers.iter().find(|server| server.is_self);
        *view.lock().unwrap_or_else(PoisonError::into_inner) = View {
            known: servers.iter().filter(|server| server.alive).count(),
            open: me.map_or(0, |me| me.connections),
            counters: engine.device().counters(),
        };
        for answer in asked.try_iter() {
            let counters = engine.device().counters();
            let report = DeviceReport {
                name: name.clone(),
                counters,
                servers: servers.clone(),
                migrations: migrations.borrow().clone(),
            };
            let _ = answer.send(report);
        }
    }
    engine.leave().map_err(|error| error.to_string())
}
