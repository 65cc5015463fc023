//! What an operator sees of a device, and changes while it runs.

mod common;

use common::talk::*;
use common::{Farm, config, port_a};
use ipos_balance::PolicyKind;
use ipos_core::config::{Config, Session, Threshold};
use ipos_core::{Device, Duration, Event, Failure, FlowRow, Instant, ReconfigureError};

/// Rows of one table, from a walk in pieces of two places.
fn rows(device: &Device, table: &str) -> Vec<FlowRow> {
    let (mut from, mut all) = (0, Vec::new());
    loop {
        let (rows, next) = device.flows(from, 2, |of, _| of == table);
        all.extend(rows);
        match next {
            Some(next) => from = next,
            None => return all,
        }
    }
}

#[test]
fn rows_of_a_connection_that_moves() {
    let mut farm = Farm::pair();
    let (client, _) = moved(&mut farm, 4000);
    let [forward] = &rows(&farm.devices[0], "forward")[..] else {
        panic!("{:?}", farm.devices[0].tables());
    };
    assert_eq!(forward.flow, flow(&client));
    assert_eq!(forward.name.as_deref(), Some("s2"));
    assert_eq!((forward.epoch.raw(), forward.listener), (1, None));
    let [installed] = &rows(&farm.devices[1], "forward-connect")[..] else {
        panic!("{:?}", farm.devices[1].tables());
    };
    assert_eq!(installed.flow, flow(&client));
    assert_eq!(installed.state, "ESTABLISHED");
    assert_eq!(installed.name.as_deref(), Some("s1"));
    assert_eq!(installed.listener.map(|listener| listener.0), Some(0));
    for device in &farm.devices {
        for table in device.tables() {
            let seen = rows(device, table.name).len();
            assert!(seen == table.len || !table.name.contains("forward"));
        }
    }
    let neighbours: Vec<_> = farm.devices[0].neighbours().collect();
    assert!(neighbours.iter().any(|row| row.address == common::CLIENT));
}

#[test]
fn connections_are_ended() {
    let mut farm = Farm::pair();
    let (away, (_, installed)) = moved(&mut farm, 4001);
    let (here, bound) = asked(&mut farm);
    let now = farm.now;
    farm.sent.clear();
    for (at, client, id) in [(0, &here, bound.1), (1, &away, installed)] {
        farm.devices[at].end_connections(now);
        farm.pump();
        reset(&farm.take(client));
        let failed = Event::Failed(id, Failure::Ended);
        assert!(farm.events.contains(&(at, failed)), "{:?}", farm.events);
        assert_eq!(farm.devices[at].connections(), 0);
    }
    assert_eq!(farm.table(0, "forward"), 0, "it is told");
}

#[test]
fn hand_overs_and_decisions_are_timed() {
    let mut farm = Farm::pair();
    let (_, _) = moved(&mut farm, 4000);
    let counters = farm.devices[0].counters();
    assert_eq!(counters.handover.len(), counters.migrated_out);
    assert_eq!(
        counters.decision.len(),
        counters.local + counters.migrated_out
    );
    assert!(farm.devices[1].counters().handover.is_empty());
}

#[test]
fn a_request_that_is_gathered_takes_its_time() {
    let mut farm = Farm::with(2, |_, config| {
        config.content.session = Some(Session::new("S", [1; 32]));
    });
    let mut client = farm.connect(0, 4000);
    farm.send(&client, "PA", b"GET / HTTP/1.1\r\n");
    client.seq += 16;
    farm.run(ms(30));
    assert!(farm.devices[0].counters().decision.is_empty());
    farm.send(&client, "PA", b"Host: a\r\n\r\n");
    let decision = farm.devices[0].counters().decision;
    assert_eq!((decision.len(), decision.sum()), (1, ms(30)));
}

/// Reconfigures the first device of a farm.
fn reconfigure(
    farm: &mut Farm,
    change: impl FnOnce(&mut Config),
) -> Result<Vec<&'static str>, ReconfigureError> {
    let mut config = farm.devices[0].config().clone();
    change(&mut config);
    farm.devices[0].reconfigure(config)
}

#[test]
fn what_may_change_changes_and_connections_go_on() {
    let mut farm = Farm::pair();
    let (mut client, bound) = asked(&mut farm);
    let changed = reconfigure(&mut farm, |config| {
        config.balance.policy = PolicyKind::LeastConnections;
        config.balance.activity_threshold = Threshold {
            connections: 100,
            cpu: 0.0,
        };
        config.limits.forward += 1;
        config.limits.servers += 1;
        config.limits.owner_lost = None;
        config.content.session = Some(Session::new("S", [3; 32]));
    });
    let expected = [
        "balance.policy",
        "balance.activity_threshold",
        "session",
        "limits.forward",
        "limits.servers",
        "limits.owner_lost_ms",
    ];
    let mut changed = changed.unwrap();
    changed.sort_unstable();
    let mut expected = expected.to_vec();
    expected.sort_unstable();
    assert_eq!(changed, expected);
    works(&mut farm, &mut client, bound);
    // Below the threshold everything stays here.
    for port in 5000..5004 {
        let mut client = farm.connect(0, port);
        request(&mut farm, &mut client);
        assert_eq!(farm.bound().0, 0);
    }
    assert_eq!(reconfigure(&mut farm, |_| {}), Ok(vec![]));
}

#[test]
fn what_stays_for_life_is_refused_by_its_name() {
    type Change = fn(&mut Config);
    let cases: [(&str, Change); 9] = [
        ("name", |config| config.name = "s9".into()),
        ("port_a.addresses", |config| {
            config.port_a.addresses.push(port_a(7));
        }),
        ("port_b.ethertype", |config| {
            config.port_b.ethertype = 0x88b5;
        }),
        ("synch.interval_ms", |config| {
            config.synch.high = Duration::from_millis(7);
        }),
        ("balance.seed", |config| config.seed += 1),
        ("listen[0].service", |config| {
            config.listen[0].service = "other".into();
        }),
        ("listen", |config| {
            let mut more = config.listen[0].clone();
            more.address.set_port(81);
            config.listen.push(more);
        }),
        ("limits.forward", |config| config.limits.forward -= 1),
        ("limits.request", |config| config.limits.request = 1),
    ];
    let mut device = Device::new(config(0), Instant::ZERO).unwrap();
    for (field, change) in cases {
        let mut config = device.config().clone();
        config.balance.per_request = true;
        change(&mut config);
        let error = device.reconfigure(config).unwrap_err();
        assert_eq!(error.field(), field, "{error}");
        assert!(!device.config().balance.per_request, "as it was");
    }
}

/// A session that is taken out of the configuration and put back must not give ids a second time.
#[test]
fn session_ids_do_not_come_again() {
    let mut farm = alone();
    let session = Some(Session::new("S", [5; 32]));
    let mut ids = Vec::new();
    for (round, port) in [(0, 4000), (1, 4001)] {
        let with = session.clone();
        reconfigure(&mut farm, |config| config.content.session = with).unwrap();
        let mut client = farm.connect(0, port);
        let ask = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        farm.send(&client, "PA", ask);
        client.seq += ask.len() as u32;
        let bound = farm.bound();
        farm.read(bound);
        farm.write(bound, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        let answer = String::from_utf8(payload(&farm.take(&client))).unwrap();
        let id = answer.split("S=").nth(1).unwrap_or_else(|| {
            panic!("round {round}: {answer}");
        });
        ids.push(id[..32].to_owned());
        reconfigure(&mut farm, |config| config.content.session = None).unwrap();
    }
    assert_ne!(ids[0], ids[1]);
}
