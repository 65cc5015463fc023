//! The farm in network namespaces: one device over a real backend for each server, real HTTP
//! servers, the kernel's TCP as client.

mod client;
mod device;
mod web;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use indicatif::ProgressBar;
use ipos_lab::{Farm, FarmPlan, Lan};

use super::{DeviceReport, Exchange, FarmError, Interrupt, Outcome, Plan};
use device::Running;
use web::Web;

/// The port that clients connect to.
const PORT: u16 = 80;
/// How long the servers may take to see each other.
const JOINING: Duration = Duration::from_secs(10);
/// How often that is looked at, and questions are answered.
const LOOK: Duration = Duration::from_millis(10);

/// A farm that is up.
pub struct Netns {
    // Dropped in this order: devices, applications, network.
    devices: Vec<Running>,
    _webs: Vec<Web>,
    lab: Farm,
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
            .map(|(number, server)| Running::start(server, number, plan))
            .collect::<Result<_, _>>()?;
        let farm = Netns {
            devices,
            _webs: webs,
            lab,
        };
        farm.wait_joined(interrupt)?;
        Ok(farm)
    }

    fn wait_joined(&self, interrupt: &Interrupt) -> Result<(), FarmError> {
        let start = Instant::now();
        loop {
            let missing = self
                .devices
                .iter()
                .find(|device| device.known() < self.devices.len());
            let Some(device) = missing else { return Ok(()) };
            if interrupt.is_set() {
                return Ok(());
            }
            if start.elapsed() > JOINING {
                let what = format!(
                    "sees {} of {} servers after {} s",
                    device.known(),
                    self.devices.len(),
                    JOINING.as_secs()
                );
                return Err(FarmError::Failed {
                    part: device.name().to_owned(),
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
        progress: &ProgressBar,
    ) -> Result<Vec<Exchange>, FarmError> {
        client::run(
            self.lab.client(),
            plan,
            self.addresses(),
            interrupt,
            progress,
        )
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
    pub fn reports(&self) -> Result<Vec<DeviceReport>, FarmError> {
        self.devices.iter().map(Running::report).collect()
    }

    /// The outcome of `exchanges`.
    ///
    /// # Errors
    /// A device ended.
    pub fn outcome(&self, plan: &Plan, exchanges: &[Exchange]) -> Result<Outcome, FarmError> {
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
        self.devices.into_iter().try_for_each(Running::stop)
    }
}
