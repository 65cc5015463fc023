//! A whole farm on one machine, and what came of it.
//!
//! ```text
//!   Plan --> netns: namespaces, engines, the kernel's TCP   --> Exchanges, DeviceReports --> Outcome --> table, JSON
//!        \-> sim:   one process, virtual time, smoltcp      -/
//! ```

pub mod netns;
mod picture;
mod report;
pub mod sim;
mod statistics;

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use crate::backend::Carrier;
use ipos_balance::PolicyKind;
use ipos_core::{Counters, ServerState};
use serde::Serialize;

pub use picture::{Now, Picture, ServerNow};
pub use report::table;
pub use statistics::Percentiles;

/// What to run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Servers of the farm.
    pub servers: usize,
    /// Requests in all.
    pub requests: usize,
    /// Requests under way at once.
    pub concurrency: usize,
    /// How servers are selected.
    pub policy: PolicyKind,
    /// Seed of every generator.
    pub seed: u64,
    /// What the simulator's LANs A and B do to frames.
    pub impairments: Impairments,
    /// What carries frames in network namespaces.
    pub carrier: Carrier,
}

/// Probabilities, 0 to 1, for each frame.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Impairments {
    /// It is lost.
    pub loss: f64,
    /// Later frames overtake it.
    pub reorder: f64,
    /// It comes twice.
    pub duplicate: f64,
}

impl Impairments {
    /// Whether frames are harmed at all.
    pub fn any(&self) -> bool {
        *self != Impairments::default()
    }
}

/// One request of a client.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// From the beginning of the connect to the last byte of the response, in µs.
    pub latency: u64,
    /// The server that the client connected to, and the time from the request to the head of its response, in µs.
    pub first_byte: Option<(String, u64)>,
    /// The server that says it answered, or what went wrong.
    pub result: Result<String, String>,
}

/// What one device did.
#[derive(Clone, Debug)]
pub struct DeviceReport {
    /// The server's name.
    pub name: String,
    /// What it counted.
    pub counters: Counters,
    /// Its view of all servers.
    pub servers: Vec<ServerState>,
    /// How long its migrations took, from 0x01 to 0x03, in µs.
    pub migrations: Vec<u64>,
}

/// What came of a run: the object that `--json` prints.
#[derive(Clone, Debug, Serialize)]
pub struct Outcome {
    /// `netns` or `sim`.
    pub fabric: &'static str,
    /// Requests that clients made.
    pub requests: usize,
    /// Requests without the right response.
    pub errors: usize,
    /// The policy's name.
    pub policy: &'static str,
    /// From connect to the last byte.
    pub latency_us: Percentiles,
    /// From 0x01 to 0x03.
    pub migration_us: Percentiles,
    /// From the request to the head of its response.
    pub first_byte_us: FirstByte,
    /// What each server did, in the order of their numbers.
    pub servers: Vec<ServerOutcome>,
    /// What sends the requests.
    pub client: String,
    /// The seed of the run.
    pub seed: u64,
    /// What a reader should know.
    pub remarks: Vec<String>,
    /// Reasons of errors, and how often each came.
    #[serde(skip)]
    pub reasons: BTreeMap<String, usize>,
}

/// What a hand-over costs the client.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct FirstByte {
    /// The server that the client connected to has answered.
    pub local: Percentiles,
    /// Another one has.
    pub migrated: Percentiles,
}

impl FirstByte {
    fn of<'a>(exchanges: impl Iterator<Item = &'a Exchange> + Clone) -> FirstByte {
        let took = |moved: bool| {
            let measured = exchanges.clone().filter_map(move |exchange| {
                let (first, took) = exchange.first_byte.as_ref()?;
                let by = exchange.result.as_ref().ok()?;
                ((by != first) == moved).then_some(*took)
            });
            Percentiles::of(measured.collect())
        };
        FirstByte {
            local: took(false),
            migrated: took(true),
        }
    }
}

/// What one server did.
#[derive(Clone, Debug, Serialize)]
pub struct ServerOutcome {
    /// Its name.
    pub name: String,
    /// Requests that it answered, by what clients saw.
    pub served: usize,
    /// Connections that its device bound to its application without migration.
    pub local: u64,
    /// Connections that its device moved to other servers.
    pub migrated_out: u64,
    /// Connections that other servers moved to it.
    pub migrated_in: u64,
    /// Its part of all requests served.
    pub share: f64,
    /// The part that the policy's probabilities predict, over the selections of all devices.
    pub expected_share: f64,
}

/// Why a farm could not be run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FarmError {
    /// The options do not go together, or ask for too much.
    #[error("{0}")]
    Input(String),
    /// The laboratory cannot be built.
    #[error(transparent)]
    Lab(#[from] ipos_lab::LabError),
    /// A part of the farm failed.
    #[error("{part}: {what}")]
    Failed {
        /// Which part.
        part: String,
        /// What it said.
        what: String,
    },
}

impl FarmError {
    /// A function that says which part of the farm an error is of.
    pub(crate) fn of<E: std::fmt::Display>(part: impl Into<String>) -> impl FnOnce(E) -> FarmError {
        let part = part.into();
        move |error| FarmError::Failed {
            part,
            what: error.to_string(),
        }
    }
}

/// Whether, and when, somebody asked the program to end.
#[derive(Clone, Debug, Default)]
pub struct Interrupt(Arc<(Mutex<bool>, Condvar)>);

impl Interrupt {
    /// Asks.
    pub fn set(&self) {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.0.1.notify_all();
    }

    /// Whether it was asked.
    pub fn is_set(&self) -> bool {
        *self.0.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until it is.
    pub fn wait(&self) {
        let mut asked = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        while !*asked {
            asked = self.0.1.wait(asked).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Waits until it is, so long at most; whether it is.
    pub fn wait_for(&self, time: Duration) -> bool {
        let asked = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.0.1.wait_timeout_while(asked, time, |asked| !*asked);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

impl Outcome {
    /// Puts together what clients saw and what devices did.
    pub fn new(
        fabric: &'static str,
        client: String,
        plan: &Plan,
        exchanges: &[Exchange],
        devices: &[DeviceReport],
    ) -> Outcome {
        let mut reasons = BTreeMap::new();
        for reason in exchanges
            .iter()
            .filter_map(|exchange| exchange.result.as_ref().err())
        {
            *reasons.entry(reason.clone()).or_default() += 1;
        }
        let good = exchanges.iter().filter(|exchange| exchange.result.is_ok());
        let servers: Vec<_> = devices
            .iter()
            .map(|device| server(device, exchanges, devices))
            .collect();
        Outcome {
            fabric,
            requests: exchanges.len(),
            errors: exchanges.len() - good.clone().count(),
            policy: plan.policy.name(),
            first_byte_us: FirstByte::of(good.clone()),
            latency_us: Percentiles::of(good.map(|exchange| exchange.latency).collect()),
            migration_us: Percentiles::of(
                devices
                    .iter()
                    .flat_map(|device| device.migrations.iter().copied())
                    .collect(),
            ),
            remarks: statistics::departures(&servers),
            servers,
            client,
            seed: plan.seed,
            reasons,
        }
    }
}

/// What one of the `devices` and its applications did.
fn server(
    device: &DeviceReport,
    exchanges: &[Exchange],
    devices: &[DeviceReport],
) -> ServerOutcome {
    let by = |name: &str| {
        exchanges
            .iter()
            .filter(|exchange| exchange.result.as_deref() == Ok(name))
            .count()
    };
    let served = by(&device.name);
    let all = exchanges
        .iter()
        .filter(|exchange| exchange.result.is_ok())
        .count();
    let rows = devices.iter().flat_map(|device| &device.servers);
    let (mut expected, mut selected) = (0.0, 0);
    for row in rows {
        selected += row.selected;
        if row.name == device.name {
            expected += row.expected;
        }
    }
    ServerOutcome {
        name: device.name.clone(),
        served,
        local: device.counters.local,
        migrated_out: device.counters.migrated_out,
        migrated_in: device.counters.migrated_in,
        share: statistics::ratio(served as f64, all as f64),
        expected_share: statistics::ratio(expected, selected as f64),
    }
}

#[cfg(test)]
mod tests;
