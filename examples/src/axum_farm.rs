//! A farm whose applications are axum servers in the devices' own process.
//!
//! ```text
//!   browser -- 127.0.0.1:8080 --> door --+-- LAN A -- device s1 --> Listener, axum
//!           -- 127.0.0.1:8081 --> door --+-- LAN A -- device s2 --> Listener, axum
//! ```
//!
//! A door takes connections of this host, and makes one of its own to its server for each: by the kernel's TCP in a network
//! namespace, or by smoltcp's where no privilege is to be had.

mod app;
mod cable;
mod device;
mod gateway;
mod netns;
pub mod visitor;

use std::net::{SocketAddr, SocketAddrV4, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use ipos_engine::socket::SocketLimits;
use ipos_lab::Lan;
use ipos_tokio::{Listener, Peer};
use tokio::runtime::Runtime;

use crate::config::FileConfig;
use crate::device_thread::DeviceThread;
use crate::farm::FarmError;
use crate::program::{fail, refused};
use crate::server;
use app::Site;
use device::Running;

/// Most servers: each LAN in memory joins everybody with everybody.
pub const MOST_SERVERS: usize = 16;
/// The port that clients connect to.
const PORT: u16 = 80;
/// Host number of the first server; the doors' is [`ipos_lab::Farm::CLIENT`].
const FIRST: u8 = 11;
/// How long the servers may take to find each other.
const JOINING: Duration = Duration::from_secs(10);
/// How often that is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// What the LANs are made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fabric {
    /// Network namespaces; the doors use the kernel's TCP.
    Netns,
    /// Socket pairs in this process; the doors use smoltcp's TCP.
    Process,
}

/// What to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// What the LANs are made of.
    pub fabric: Fabric,
    /// Servers, 1 to [`MOST_SERVERS`].
    pub servers: usize,
    /// The first server's door; those of the others have the next ports. Port 0: any that are free.
    pub listen: SocketAddr,
}

/// A farm that is up.
pub struct AxumFarm {
    doors: Vec<SocketAddr>,
    // Dropped in this order: clients, applications, devices, network.
    _gate: Gate,
    runtime: Option<Runtime>,
    devices: Vec<Running>,
    _lab: Option<ipos_lab::Farm>,
}

/// What is behind the doors.
enum Gate {
    Netns { _gate: netns::Gate },
    Process { _gate: gateway::Gateway },
}

impl AxumFarm {
    /// Builds the network, starts devices and applications, and waits until the servers see each other.
    ///
    /// # Errors
    /// An address is in use, there is no privilege for network namespaces, or servers do not find each other in 10 s.
    pub fn start(plan: &Plan) -> Result<AxumFarm, FarmError> {
        let runtime = Runtime::new().map_err(FarmError::of("tokio"))?;
        let listeners = doors(plan)?;
        let address = |door: &TcpListener| door.local_addr().map_err(FarmError::of("door"));
        let doors = listeners.iter().map(address).collect::<Result<_, _>>()?;
        let hosts = (FIRST..).take(plan.servers);
        let servers: Vec<SocketAddrV4> = hosts.clone().map(reached).collect();
        let hosts: Vec<u8> = hosts.collect();
        let mut backlogs = Vec::new();
        let site = Arc::new(Site::new(hosts.iter().map(|&host| name(host))));
        for &host in &hosts {
            let (listener, backlog) = ipos_tokio::listen(SocketLimits::default());
            backlogs.push(backlog);
            serve_from(
                &runtime,
                listener,
                app::router(Arc::clone(&site), &name(host)),
            );
        }
        let (lab, devices, gate) = match plan.fabric {
            Fabric::Netns => {
                let lab = ipos_lab::Farm::build(ipos_lab::FarmPlan {
                    servers: plan.servers,
                    ..ipos_lab::FarmPlan::default()
                })?;
                let devices = netns::devices(&lab, backlogs)?;
                let gate = netns::Gate::open(lab.client(), listeners, servers)?;
                (Some(lab), devices, Gate::Netns { _gate: gate })
            }
            Fabric::Process => {
                let (devices, port) = cable::devices(&hosts, backlogs)?;
                let gate = gateway::Gateway::open(port, listeners, servers)?;
                (None, devices, Gate::Process { _gate: gate })
            }
        };
        let mut farm = AxumFarm {
            doors,
            _gate: gate,
            runtime: Some(runtime),
            devices,
            _lab: lab,
        };
        farm.wait_joined()?;
        Ok(farm)
    }

    /// The servers' doors, in order.
    pub fn doors(&self) -> &[SocketAddr] {
        &self.doors
    }

    /// Ends all devices: they leave the farm.
    ///
    /// # Errors
    /// A device failed before.
    pub fn stop(mut self) -> Result<(), FarmError> {
        let mut threads = self.devices.drain(..).map(|device| device.thread);
        threads.try_for_each(DeviceThread::stop)
    }

    fn wait_joined(&mut self) -> Result<(), FarmError> {
        let start = Instant::now();
        let others = self.devices.len() - 1;
        loop {
            if let Some(device) = self.devices.iter_mut().find(|d| d.thread.has_ended()) {
                return Err(device.thread.failure());
            }
            let Some(device) = self.devices.iter().find(|d| d.known() < others) else {
                return Ok(());
            };
            if start.elapsed() > JOINING {
                let what = format!("sees {} of {others} other servers", device.known());
                let part = device.thread.part();
                return Err(FarmError::Failed { part, what });
            }
            std::thread::sleep(LOOK);
        }
    }
}

/// One server of a farm whose servers are processes, on this host's interfaces, by its configuration file: until it is stopped.
pub fn serve(file: FileConfig) -> ExitCode {
    let runtime = match Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => return fail(format_args!("tokio: {error}"), 1),
    };
    let site = Arc::new(Site::new([file.name().to_owned()]));
    let router = app::router(Arc::clone(&site), file.name());
    let listening = (0..file.listening()).map(|_| {
        let (listener, backlog) = ipos_tokio::listen(SocketLimits::default());
        serve_from(&runtime, listener, router.clone());
        backlog.into()
    });
    let applications = listening.collect();
    let status = server::serve(file, applications, move |event| site.hear(event));
    // Its tasks wait for connections that do not come any more.
    runtime.shutdown_background();
    status
}

fn serve_from(runtime: &Runtime, listener: Listener, router: Router) {
    let service = router.into_make_service_with_connect_info::<Peer>();
    runtime.spawn(async { axum::serve(listener, service).await });
}

impl Drop for AxumFarm {
    fn drop(&mut self) {
        // Its tasks may wait for connections that never come.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// One listening socket of this host for each server.
fn doors(plan: &Plan) -> Result<Vec<TcpListener>, FarmError> {
    if !(1..=MOST_SERVERS).contains(&plan.servers) {
        let what = format!("--servers: 1 to {MOST_SERVERS}, not {}", plan.servers);
        return Err(FarmError::Input(what));
    }
    let door = |number: usize| {
        let mut address = plan.listen;
        let port = match plan.listen.port() {
            0 => Some(0),
            first => u16::try_from(number)
                .ok()
                .and_then(|n| first.checked_add(n)),
        };
        address.set_port(port.ok_or_else(|| too_high(plan.listen))?);
        let taken = |error| FarmError::Input(format!("--listen: {}", refused(address, &error)));
        let listener = TcpListener::bind(address).map_err(taken)?;
        let ready = listener.set_nonblocking(true);
        ready.map(|()| listener).map_err(FarmError::of("door"))
    };
    (0..plan.servers).map(door).collect()
}

fn too_high(listen: SocketAddr) -> FarmError {
    FarmError::Input(format!(
        "--listen: {listen}: not enough ports above it for the other servers"
    ))
}

/// The name of the server with this host number.
fn name(host: u8) -> String {
    format!("s{}", host - FIRST + 1)
}

/// What clients of that server connect to.
fn reached(host: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Lan::A.address(host), PORT)
}

#[cfg(test)]
mod tests;
