//! The farm in the simulator: one process, virtual time, clients with smoltcp's TCP.

use std::time::Duration;

use ipos_sim::addresses::MAX_CLIENTS;
use ipos_sim::{Farm, Record};

use super::{DeviceReport, Exchange, FarmError, Interrupt, Now, Outcome, Picture, Plan, ServerNow};

/// Virtual time between two looks at the interrupt.
const SLICE: Duration = Duration::from_millis(100);

/// Runs `plan` in virtual time. An interrupt ends it with the requests made so far.
///
/// # Errors
/// The plan asks for more than a simulated farm can be.
pub fn run(plan: &Plan, interrupt: &Interrupt, picture: &Picture) -> Result<Outcome, FarmError> {
    // One job at a time on each client host; several only where there are not enough hosts.
    let clients = plan.concurrency.clamp(1, MAX_CLIENTS);
    let impairments = ipos_sim::Impairments {
        loss: plan.impairments.loss,
        reordering: plan.impairments.reorder,
        duplication: plan.impairments.duplicate,
        ..ipos_sim::Impairments::default()
    };
    let mut farm = Farm::builder()
        .servers(plan.servers)
        .clients(clients)
        .concurrency(plan.concurrency.div_ceil(clients))
        .requests(plan.requests)
        .policy(plan.policy)
        .seed(plan.seed)
        .impairments(impairments)
        .build()
        .map_err(|error| FarmError::Input(error.to_string()))?;
    while !farm.run_until_done(farm.now() + SLICE) && !interrupt.is_set() {
        picture.update(|| look(&farm));
    }
    let violations = farm.violations();
    if let Some(violation) = violations.first() {
        let part = format!("server {}", violation.server + 1);
        let what = format!("transmitted on a connection of another server: {violation:?}");
        return Err(FarmError::Failed { part, what });
    }
    let exchanges: Vec<Exchange> = farm.records().map(exchange).collect();
    let devices: Vec<DeviceReport> = (0..farm.servers())
        .filter_map(|index| report(&farm, index))
        .collect();
    let client = format!("smoltcp's TCP on {clients} simulated hosts");
    Ok(Outcome::new("sim", client, plan, &exchanges, &devices))
}

/// What the picture shows.
fn look(farm: &Farm) -> Now {
    let devices = (0..farm.servers()).filter_map(|index| farm.device(index));
    let mut now = Now {
        servers: devices
            .map(|device| {
                let counters = device.counters();
                let servers = device.servers(farm.now());
                let me = servers.iter().find(|server| server.is_self);
                ServerNow {
                    name: device.config().name.clone(),
                    served: 0,
                    local: counters.local,
                    migrated_out: counters.migrated_out,
                    migrated_in: counters.migrated_in,
                    open: me.map_or(0, |me| me.connections),
                }
            })
            .collect(),
        ..Now::default()
    };
    for record in farm.records() {
        now.finished += 1;
        let by = record.exchange.result.as_ref().ok();
        match by.and_then(|by| now.servers.iter_mut().find(|server| server.name == *by)) {
            Some(server) => server.served += 1,
            None => now.errors += 1,
        }
    }
    now
}

fn exchange(record: &Record) -> Exchange {
    let result = record.exchange.result.clone();
    Exchange {
        latency: micros(record.exchange.latency()),
        first_byte: None,
        result: result.map_err(|error| error.to_string()),
    }
}

fn report(farm: &Farm, index: usize) -> Option<DeviceReport> {
    let server = farm.server(index)?;
    Some(DeviceReport {
        name: server.device().config().name.clone(),
        counters: server.device().counters(),
        servers: server.device().servers(farm.now()),
        migrations: server
            .journal()
            .migrations
            .iter()
            .copied()
            .map(micros)
            .collect(),
    })
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use ipos_balance::PolicyKind;

    use super::*;
    use crate::backend::Carrier;
    use crate::farm::Impairments;

    fn plan() -> Plan {
        Plan {
            servers: 3,
            requests: 120,
            concurrency: 8,
            policy: PolicyKind::InverseConnections,
            seed: 5,
            impairments: Impairments::default(),
            carrier: Carrier::default(),
        }
    }

    fn run_json(plan: &Plan) -> serde_json::Value {
        let outcome = run(plan, &Interrupt::default(), &Picture::hidden()).unwrap();
        serde_json::to_value(&outcome).unwrap()
    }

    #[test]
    fn every_request_is_served_and_one_seed_gives_one_outcome() {
        let outcome = run_json(&plan());
        assert_eq!(
            (&outcome["fabric"], &outcome["requests"], &outcome["errors"]),
            (&"sim".into(), &120.into(), &0.into())
        );
        let servers = outcome["servers"].as_array().unwrap();
        assert_eq!(servers.len(), 3);
        assert_eq!(
            servers
                .iter()
                .map(|s| s["served"].as_u64().unwrap())
                .sum::<u64>(),
            120
        );
        assert!(
            servers.iter().all(|s| s["migrated_out"].as_u64() > Some(0)),
            "{outcome}"
        );
        assert_eq!(outcome, run_json(&plan()));
        assert_ne!(outcome, run_json(&Plan { seed: 6, ..plan() }));
    }

    #[test]
    fn impairments_reach_the_lans() {
        let impairments = Impairments {
            loss: 0.05,
            reorder: 0.05,
            duplicate: 0.05,
        };
        let calm = run_json(&plan())["latency_us"]["p99"].as_u64();
        let rough = run_json(&Plan {
            impairments,
            ..plan()
        })["latency_us"]["p99"]
            .as_u64();
        assert!(rough > calm, "{rough:?} {calm:?}");
    }

    #[test]
    fn an_interrupt_ends_the_run() {
        let interrupt = Interrupt::default();
        interrupt.set();
        let outcome = run(&plan(), &interrupt, &Picture::hidden()).unwrap();
        assert_eq!(outcome.requests, 0);
    }

    #[test]
    fn too_many_servers_are_refused() {
        let error = run(
            &Plan {
                servers: 90,
                ..plan()
            },
            &Interrupt::default(),
            &Picture::hidden(),
        )
        .err()
        .unwrap();
        assert_eq!(error.to_string(), "a farm has 1 to 89 servers, not 90");
    }
}
