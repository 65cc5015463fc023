use std::net::Ipv4Addr;
use std::time::Duration;

use ipos_core::Load;

use super::*;

fn plan() -> Plan {
    Plan {
        servers: 2,
        requests: 4,
        concurrency: 1,
        policy: PolicyKind::InverseConnections,
        seed: 5,
        impairments: Impairments::default(),
        carrier: Carrier::default(),
    }
}

fn state(name: &str, selected: u64, expected: f64) -> ServerState {
    ServerState {
        name: name.into(),
        synch: Ipv4Addr::UNSPECIFIED,
        port_b: Ipv4Addr::UNSPECIFIED,
        connections: 0,
        load: Load::default(),
        alive: true,
        draining: false,
        is_self: false,
        silent_for: Duration::ZERO,
        selected,
        expected,
    }
}

fn device(name: &str, states: &[ServerState], migrations: &[u64]) -> DeviceReport {
    let mut counters = Counters::default();
    (counters.local, counters.migrated_out, counters.migrated_in) = (1, 2, 3);
    DeviceReport {
        name: name.into(),
        counters,
        servers: states.to_vec(),
        migrations: migrations.to_vec(),
    }
}

fn served(by: &str, latency: u64) -> Exchange {
    Exchange {
        latency,
        first_byte: Some(("s1".into(), latency / 10)),
        result: Ok(by.into()),
    }
}

#[test]
fn shares_count_what_was_served_and_what_was_expected() {
    let devices = [
        device("s1", &[state("s1", 1, 0.5), state("s2", 1, 1.5)], &[10, 30]),
        device("s2", &[state("s1", 0, 0.5), state("s2", 2, 1.5)], &[20]),
    ];
    let failed = Exchange {
        latency: 9,
        first_byte: None,
        result: Err("connection reset".into()),
    };
    let exchanges = [
        served("s1", 100),
        served("s2", 300),
        served("s2", 200),
        served("s2", 400),
        failed,
    ];
    let outcome = Outcome::new("sim", "nobody".into(), &plan(), &exchanges, &devices);
    assert_eq!((outcome.requests, outcome.errors), (5, 1));
    assert_eq!(outcome.reasons.get("connection reset"), Some(&1));
    assert_eq!(
        outcome.latency_us,
        Percentiles {
            p50: Some(200),
            p99: Some(400)
        }
    );
    assert_eq!(
        outcome.migration_us,
        Percentiles {
            p50: Some(20),
            p99: Some(30)
        }
    );
    let first_byte = &outcome.first_byte_us;
    assert_eq!(
        (first_byte.local.p50, first_byte.migrated.p50),
        (Some(10), Some(30))
    );
    let shares: Vec<_> = outcome
        .servers
        .iter()
        .map(|s| (s.served, s.share, s.expected_share))
        .collect();
    assert_eq!(shares, [(1, 0.25, 0.25), (3, 0.75, 0.75)]);
    assert_eq!(outcome.remarks, Vec::<String>::new());
}

#[test]
fn json_has_the_contract_s_keys() {
    let outcome = Outcome::new(
        "netns",
        "curl".into(),
        &plan(),
        &[served("s1", 7)],
        &[device("s1", &[], &[])],
    );
    let json = serde_json::to_value(&outcome).unwrap();
    for key in [
        "fabric",
        "requests",
        "errors",
        "policy",
        "latency_us",
        "migration_us",
        "servers",
    ] {
        assert!(json.get(key).is_some(), "{key}");
    }
    assert_eq!(json["latency_us"]["p50"], 7);
    assert!(json["migration_us"]["p99"].is_null());
    for key in [
        "name",
        "served",
        "local",
        "migrated_out",
        "migrated_in",
        "share",
        "expected_share",
    ] {
        assert!(json["servers"][0].get(key).is_some(), "{key}");
    }
}

#[test]
fn departures_are_remarked() {
    let exchanges: Vec<_> = (0..100)
        .map(|i| served(if i < 10 { "s1" } else { "s2" }, 1))
        .collect();
    let states = [state("s1", 50, 50.0), state("s2", 50, 50.0)];
    let devices = [device("s1", &states, &[]), device("s2", &[], &[])];
    let outcome = Outcome::new("sim", "nobody".into(), &plan(), &exchanges, &devices);
    assert_eq!(outcome.remarks.len(), 2);
    assert!(table(&outcome).contains("s1 served a share of 0.100 where 0.500 was expected"));
}

#[test]
fn percentiles_of_nothing_and_of_many() {
    assert_eq!(
        Percentiles::of(vec![]),
        Percentiles {
            p50: None,
            p99: None
        }
    );
    assert_eq!(
        Percentiles::of((1..=1000).rev().collect()),
        Percentiles {
            p50: Some(500),
            p99: Some(990)
        }
    );
}
