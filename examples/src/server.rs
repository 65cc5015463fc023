//! One server of a farm: a device on this host's interfaces, by its configuration file, until it is stopped.

use std::collections::{BTreeMap, HashSet};
use std::io;
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{ExitCode, exit};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ipos_core::{Device, Event};
use ipos_engine::{Application, Engine, Options, Ports, Stop, clock};

use crate::admin::Admin;
use crate::backend::{Opener, claims_a, claims_b, claims_c, claims_synch};
use crate::config::{FileConfig, FileError, Interfaces, Start};
use crate::program;
use crate::reload::Reloader;

/// Runs the device until the process is asked to end; `heard` is told of its events. SIGHUP: it reads its file again.
pub fn serve(
    file: FileConfig,
    applications: Vec<Application>,
    heard: impl FnMut(&Event) + 'static,
) -> ExitCode {
    let stop = Arc::new(OnceLock::<Stop>::new());
    let interrupted = Arc::clone(&stop);
    // Nobody knows of a device that is not up yet.
    let end = move || {
        interrupted
            .get()
            .map_or_else(|| exit(0), |stop| stop.stop())
    };
    if let Err(error) = program::on_interrupt(end) {
        return program::fail(format_args!("cannot catch signals: {error}"), 1);
    }
    let (mut engine, reloader, admin) = match start(file, applications, heard) {
        Ok(started) => started,
        Err(StartError::Input(error)) => return program::fail(error, program::BAD_INPUT),
        Err(StartError::System(error)) => return program::fail(error, 1),
    };
    stop.get_or_init(|| engine.stop_handle());
    match run(&mut engine, reloader, admin) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => program::fail(error, 1),
    }
}

/// Why the device cannot start.
enum StartError {
    /// The file says something that does not hold on this host.
    Input(FileError),
    /// The operating system refused.
    System(Box<dyn std::error::Error>),
}

/// Opens the ports and the admin address, and puts the device together.
fn start(
    file: FileConfig,
    applications: Vec<Application>,
    mut heard: impl FnMut(&Event) + 'static,
) -> Result<(Engine, Reloader, Option<Admin>), StartError> {
    let [a, b, synch] = file.interfaces();
    let opener = Opener::new(file.carrier(), file.xdp())
        .map_err(|error| StartError::System(error.into()))?;
    // The frames of the device's own are known before its interfaces are.
    let known = file
        .device(Interfaces::ETHERNET, Start::default())
        .map_err(StartError::Input)?;
    let open = |key: &str, interface: &str, claims| {
        let opened = opener.open(interface, claims);
        opened.map_err(|error| StartError::Input(file.error(key, error)))
    };
    let ports = Ports {
        a: open("port_a.interface", a, claims_a(&known))?,
        b: open("port_b.interface", b, claims_b(&known))?,
        synch: open("synch.interface", synch, claims_synch(&known))?,
        c: match file.interface_c() {
            Some(c) => Some(open("port_c.interface", c, claims_c(&known))?),
            None => None,
        },
    };
    let interfaces = Interfaces {
        a: ports.a.capabilities(),
        b: ports.b.capabilities(),
        synch: ports.synch.capabilities(),
        c: ports.c.as_ref().map(|port| port.capabilities()),
    };
    let open = |address| {
        Admin::open(address).map_err(|error| {
            StartError::Input(file.error("admin.listen", program::refused(address, &error)))
        })
    };
    let admin = file.admin().map(open).transpose()?;
    if let Some(cpu) = file.cpu() {
        let cpus = ipos_engine::cpus().map_err(|error| StartError::System(error.into()))?;
        if !cpus.contains(&cpu) {
            let what = format_args!("{cpu}: this process may run on {cpus:?}");
            return Err(StartError::Input(file.error("engine.cpu", what)));
        }
    }
    warn_of_the_kernel(&file.addresses());
    if !file.has_farm_key() {
        tracing::warn!(
            "no farm key: whoever can send on LAN B or the Synch LAN can take and end connections (security.farm_key_file)"
        );
    }
    let moment = moment().map_err(StartError::System)?;
    let config = file.device(interfaces, moment).map_err(StartError::Input)?;
    let device = Device::new(config, clock::now())
        .map_err(|error| StartError::Input(file.error(error.field, error.problem)))?;
    let options = Options {
        interface: Some(file.way_out().to_owned()),
        health: file.health(),
        linger: file.linger(),
        cpu: file.cpu(),
        ..Options::default()
    };
    let mut engine = Engine::new(device, ports, applications, options)
        .map_err(|error| StartError::System(error.into()))?;
    let mut seen = warn_of_the_absent(file.servers(), file.name())
        .map_err(|error| StartError::System(format!("cannot start a thread: {error}").into()))?;
    engine.observe(Box::new(move |event| {
        seen(event);
        heard(event);
    }));
    let reloader = Reloader::new(file, interfaces, moment, engine.control());
    Ok((engine, reloader, admin))
}

/// Servers that were not up within this time are told of: they may join later, or be misspelt.
const ABSENT: Duration = Duration::from_secs(10);

/// Maps and weights may name servers that are not there: nothing is selected by them. The function is to be told of all events.
fn warn_of_the_absent(
    named: Vec<(String, String)>,
    own: &str,
) -> io::Result<impl FnMut(&Event) + use<>> {
    // By their names: the first place of each is enough.
    let mut places = BTreeMap::new();
    for (key, name) in named {
        places.entry(name).or_insert(key);
    }
    places.remove(own);
    let seen = Arc::new(Mutex::new(HashSet::new()));
    let up = Arc::clone(&seen);
    if !places.is_empty() {
        let warn = move || {
            thread::sleep(ABSENT);
            let Ok(seen) = seen.lock() else { return };
            for (name, key) in places.iter().filter(|(name, _)| !seen.contains(*name)) {
                tracing::warn!("{key}: no server `{name}` has come up yet: it counts once it does");
            }
        };
        thread::Builder::new().name("absent".into()).spawn(warn)?;
    }
    Ok(move |event: &Event| {
        if let Event::ServerUp(name) = event
            && let Ok(mut up) = up.lock()
        {
            up.insert(name.clone());
        }
    })
}

/// Where the kernel has an address of the device, it answers clients too, with RST.
fn warn_of_the_kernel(addresses: &[Ipv4Addr]) {
    for address in addresses {
        if UdpSocket::bind((*address, 0)).is_ok() {
            tracing::warn!(
                "{address} belongs to this host's kernel, which would reset the device's connections: \
                 take it from its interface with `ip address del`"
            );
        }
    }
}

/// What the file does not say: secrets from the operating system's generator, the incarnation from the wall clock.
fn moment() -> Result<Start, Box<dyn std::error::Error>> {
    let (mut seed, mut isn_key, mut session_key) = ([0; 8], [0; 16], [0; 32]);
    for secret in [&mut seed[..], &mut isn_key, &mut session_key] {
        getrandom::fill(secret)
            .map_err(|error| format!("no random numbers from the operating system: {error}"))?;
    }
    Ok(Start {
        seed: u64::from_ne_bytes(seed),
        isn_key,
        session_key,
        incarnation: incarnation()?,
    })
}

/// Eighths of a second since 2025, until the year 2042. Waits for the next one: a later life never has the same.
fn incarnation() -> Result<u32, &'static str> {
    const UNIT: u128 = 125_000;
    let begin = UNIX_EPOCH + Duration::from_secs(1_735_689_600);
    let wrong = "the clock of this host is before 2025 or after 2042: set it";
    let since = SystemTime::now()
        .duration_since(begin)
        .map_err(|_| wrong)?
        .as_micros();
    let rest = UNIT - since % UNIT;
    std::thread::sleep(Duration::from_micros(rest as u64));
    u32::try_from(since / UNIT + 1).map_err(|_| wrong)
}

/// Runs until it is stopped; at each SIGHUP it reads its file again.
fn run(
    engine: &mut Engine,
    mut reloader: Reloader,
    admin: Option<Admin>,
) -> Result<(), Box<dyn std::error::Error>> {
    program::on_hangup(move || reloader.reload())
        .map_err(|error| format!("cannot catch signals: {error}"))?;
    if let Some(admin) = admin {
        let started = admin.start(engine.control());
        started.map_err(|error| format!("cannot start a thread: {error}"))?;
    }
    let config = engine.device().config();
    tracing::info!(name = config.name, addresses = ?config.port_a.addresses, "device up");
    // Nobody waits for it where systemd has not started this program.
    if let Err(error) = sd_notify::notify(&[sd_notify::NotifyState::Ready]) {
        tracing::warn!(%error, "systemd cannot be told that the device is up");
    }
    engine.run()?;
    tracing::info!("left the farm");
    Ok(())
}
