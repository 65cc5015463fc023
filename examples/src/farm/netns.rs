//! The farm in network namespaces: one device over a real backend for each server, real HTTP
//! servers, the kernel's TCP as client.

mod client;
mod device;
mod web;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ipos_lab::{Farm, FarmPlan, Lan};

use crate::device_thread::DeviceThread;

use super::{DeviceReport, Exchange, FarmError, Interrupt, Now, Outcome, Picture, Plan, ServerNow};
use client::Tally;
use device::{Running, View};
use web::Web;

/// The port that clients connect to.
const PORT: u16 = 80;
/// How long the servers may take to see each other.
const JOINING: Duration = Duration::from_secs(10);
/// What to do about a device that is slow.
const BUSY: &str = "perhaps this machine is too busy: fewer servers (--servers)";
/// How often that is looked at, and questions are answered.
const LOOK: Duration = Duration::from_millis(10);

/// A farm that is up.
pub struct Netns {
    // Dropped in this order: devices, applications, network.
    devices: Vec<Running>,
    webs: Vec<Web>,
    lab: Farm,
    tally: Arc<Tally>,
}

impl Netns {
    /// Builds the network, starts applications and devices, and waits until the servers see each other.
    ///
    /// # Errors
    /// No privilege, a device that cannot start, or servers that do not find each other in 10 s.
    pub fn start(plan: &Plan, interrupt: &Interrupt) -> Result<Netns, FarmError> {
        let lab = Farm::build(FarmPlan {
            servers: plan.servers,
            ..FarmPlan::default()
        })?;
        let servers = lab.servers();
        let webs = servers
            .iter()
            .map(|server| Web::start(server.namespace(), server.name()))
            .collect::<Result<_, _>>()?;
        let numbered = servers.iter().enumerate();
        let devices = numbered
            .take_while(|_| !interrupt.is_set())
            .map(|(number, server)| Running::start(server, number, plan))
            .collect::<Result<_, _>>()?;
        let mut farm = Netns {
            devices,
            webs,
            lab,
            tally: Arc::default(),
        };
        farm.wait_joined(interrupt)?;
        Ok(farm)
    }

    fn wait_joined(&mut self, interrupt: &Interrupt) -> Result<(), FarmError> {
        let start = Instant::now();
        loop {
            if let Some(device) = self.devices.iter_mut().find(|d| d.thread.has_ended()) {
                return Err(device.thread.failure());
            }
            let missing = self
                .devices
                .iter()
                .find(|device| device.view().known < self.devices.len());
            let Some(device) = missing else { return Ok(()) };
            if interrupt.is_set() {
                return Ok(());
            }
            if start.elapsed() > JOINING {
                let what = format!(
                    "sees {} of {} servers after {} s; {BUSY}",
                    device.view().known,
                    self.devices.len(),
                    JOINING.as_secs()
                );
                return Err(FarmError::Failed {
                    part: device.thread.part(),
                    what,
                });
            }
            std::thread::sleep(LOOK);
        }
    }

    /// Makes the plan's requests.
    ///
    /// # Errors
    /// The clients cannot run; what happens to a request is in its [`Exchange`].
    pub fn drive(
        &self,
        plan: &Plan,
        interrupt: &Interrupt,
        picture: &Picture,
    ) -> Result<Vec<Exchange>, FarmError> {
        client::run(
            self.lab.client(),
            plan,
            self.addresses(),
            interrupt,
            &self.tally,
            || picture.update(|| self.now()),
        )
    }

    /// Keeps the farm up, and the picture moving, until `interrupt` is set.
    pub fn hold(&self, interrupt: &Interrupt, picture: &Picture) {
        while !interrupt.wait_for(LOOK) {
            picture.update(|| self.now());
        }
    }

    /// What the picture shows.
    fn now(&self) -> Now {
        let servers = self.devices.iter().zip(&self.webs);
        Now {
            finished: self.tally.finished.load(Ordering::Relaxed),
            errors: self.tally.errors.load(Ordering::Relaxed),
            servers: servers
                .map(|(device, web)| {
                    let View { counters, open, .. } = device.view();
                    ServerNow {
                        name: device.thread.name().to_owned(),
                        served: web.served(),
                        local: counters.local,
                        migrated_out: counters.migrated_out,
                        migrated_in: counters.migrated_in,
                        open,
                    }
                })
                .collect(),
        }
    }

    /// What clients connect to.
    fn addresses(&self) -> Vec<SocketAddr> {
        self.lab
            .servers()
            .iter()
            .map(|server| SocketAddr::from((server.address(Lan::A), PORT)))
            .collect()
    }

    /// What the devices did so far.
    ///
    /// # Errors
    /// A device ended.
    pub fn reports(&mut self) -> Result<Vec<DeviceReport>, FarmError> {
        self.devices.iter_mut().map(Running::report).collect()
    }

    /// The outcome of `exchanges`.
    ///
    /// # Errors
    /// A device ended.
    pub fn outcome(&mut self, plan: &Plan, exchanges: &[Exchange]) -> Result<Outcome, FarmError> {
        Ok(Outcome::new(
            "netns",
            client::NAME.to_owned(),
            plan,
            exchanges,
            &self.reports()?,
        ))
    }

    /// Command lines that reach the farm while it is up.
    pub fn hints(&self) -> Vec<String> {
        let addresses = self.addresses();
        let urls = addresses
            .iter()
            .map(|address| format!("curl http://{}/", address.ip()));
        urls.map(|url| self.lab.client().command_line(&url))
            .collect()
    }

    /// Ends all devices: they leave the farm.
    ///
    /// # Errors
    /// A device failed before.
    pub fn stop(self) -> Result<(), FarmError> {
        let mut threads = self.devices.into_iter().map(|device| device.thread);
        threads.try_for_each(DeviceThread::stop)
    }
}
