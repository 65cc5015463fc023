//! Whole farms: real devices, independent clients.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipos_balance::{self as balance, Candidate, Policy, PolicyKind};
use ipos_core::{DropReason, Instant, Port};
use ipos_proto::{ETHERTYPE_EXPERIMENTAL, Ethernet, MacAddr};
use ipos_sim::addresses::ServerAddresses;
use ipos_sim::{
    Capture, Farm, FarmBuilder, Http, Impairments, Job, LanConfig, Node, Outbox, Outcome, Request,
    pattern,
};
use rand_core::Rng;

/// Bytes of the large transfers: as asked for where it is fast, a tenth of it in debug builds.
const LARGE: u64 = if cfg!(debug_assertions) {
    10_000_000
} else {
    100_000_000
};
const UPLOAD: u64 = if cfg!(debug_assertions) {
    1_000_000
} else {
    10_000_000
};

const ROUGH: Impairments = Impairments {
    loss: 0.01,
    duplication: 0.01,
    reordering: 0.01,
    hold_back: Duration::from_millis(2),
    corruption: 0.0,
    delay: Duration::ZERO,
    jitter: Duration::ZERO,
};

/// Runs the farm, and says why where something went wrong.
fn run(farm: &mut Farm) -> Outcome {
    let outcome = farm.run();
    let wrong = farm
        .records()
        .find(|record| record.exchange.result.is_err());
    assert_eq!(outcome.errors, 0, "seed {}: {wrong:?}", farm.seed());
    assert_eq!(
        outcome.violations,
        0,
        "seed {}: {:?}",
        farm.seed(),
        farm.violations()
    );
    for port in Port::ALL {
        let seen = farm.lan(port).unwrap().statistics();
        assert_eq!(
            (seen.oversized, seen.overflowed),
            (0, 0),
            "LAN of port {port:?}"
        );
    }
    outcome
}

/// A farm whose clients do only what they are given.
fn idle() -> FarmBuilder {
    Farm::builder().requests(0)
}

/// A job for server `index` once the servers know each other.
fn job(index: usize, script: Http) -> Job {
    Job {
        not_before: Instant::from_millis(1_500),
        ..Job::new(ServerAddresses::of(index).http(), script)
    }
}

/// Four standard deviations of the share that `count` draws of probability `share` give.
fn allowed(share: f64, count: u64) -> f64 {
    4.0 * (share * (1.0 - share) / count as f64).sqrt()
}

#[test]
fn three_hundred_requests_on_three_servers() {
    let outcome = run(&mut Farm::builder().build().unwrap());
    assert_eq!(outcome.requests, 300);
    let sum =
        |count: fn(&ipos_sim::ServerOutcome) -> u64| outcome.servers.iter().map(count).sum::<u64>();
    assert_eq!(sum(|s| s.served), 300);
    assert_eq!(sum(|s| s.local) + sum(|s| s.migrated_in), 300);
    assert_eq!(sum(|s| s.migrated_in), sum(|s| s.migrated_out));
    for server in &outcome.servers {
        assert_eq!(
            server.served,
            server.local + server.migrated_in,
            "{}",
            server.name
        );
        assert!(
            server.migrated_in > 0 && server.migrated_out > 0,
            "{}",
            server.name
        );
        let allowed = allowed(server.expected_share, server.selections);
        assert!(
            (server.share - server.expected_share).abs() < allowed,
            "{server:?} ± {allowed}"
        );
    }
    assert!(outcome.migration.p50 > Duration::ZERO && outcome.latency.p50 > Duration::ZERO);
}

#[test]
fn round_robin_shares_are_equal() {
    let outcome = run(&mut Farm::builder()
        .policy(PolicyKind::RoundRobin)
        .build()
        .unwrap());
    for server in &outcome.servers {
        assert!((server.share - 1.0 / 3.0).abs() < 0.01, "{server:?}");
    }
}

/// The candidate with the greatest number: the last server.
struct Last;

impl Policy for Last {
    fn name(&self) -> &'static str {
        "last"
    }

    fn probabilities(&self, candidates: &[Candidate], out: &mut [f64]) {
        out.fill(0.0);
        if let Some(place) = out.get_mut(candidates.len() - 1) {
            *place = 1.0;
        }
    }

    fn select(
        &mut self,
        _: balance::Request,
        candidates: &[Candidate],
        _: &mut dyn Rng,
    ) -> Option<usize> {
        let last = candidates.iter().enumerate().max_by_key(|(_, c)| c.server);
        last.map(|(index, _)| index)
    }
}

#[test]
fn a_policy_of_ones_own_selects() {
    let mut farm = Farm::builder()
        .own_policy(|_| Box::new(Last))
        .requests(60)
        .build()
        .unwrap();
    let outcome = run(&mut farm);
    let served: Vec<_> = outcome.servers.iter().map(|s| s.served).collect();
    assert_eq!(served, [0, 0, 60]);
    assert_eq!(outcome.servers[2].expected_share, 1.0);
}

#[test]
fn one_seed_one_run() {
    let run = |seed| {
        let captures = [Port::A, Port::B, Port::Synch]
            .map(|port| Arc::new(Mutex::new(Capture::new(port.into(), Vec::new()).unwrap())));
        let mut builder = Farm::builder().seed(seed).requests(60).impairments(ROUGH);
        for capture in &captures {
            builder = builder.observer(capture.clone());
        }
        let outcome = builder.build().unwrap().run();
        (
            outcome,
            captures.map(|capture| capture.lock().unwrap().finish().unwrap().unwrap()),
        )
    };
    let (outcome, pcaps) = run(7);
    assert!(pcaps.iter().all(|pcap| pcap.len() > 1_000));
    let (again, pcaps_again) = run(7);
    assert_eq!(outcome, again);
    assert!(pcaps == pcaps_again, "the same to the last bit");
    let (_, others) = run(8);
    assert!(pcaps.iter().zip(&others).all(|(one, other)| one != other));
}

#[test]
fn a_thousand_requests_across_impaired_lans() {
    let mut farm = Farm::builder()
        .requests(1_000)
        .impairments(ROUGH)
        .build()
        .unwrap();
    assert_eq!(run(&mut farm).requests, 1_000);
    for port in [Port::A, Port::B] {
        let seen = farm.lan(port).unwrap().statistics().impairments;
        assert!(
            seen.lost > 0 && seen.duplicated > 0 && seen.reordered > 0,
            "{port:?}: {seen:?}"
        );
    }
}

#[test]
fn corrupt_frames_on_lan_a_are_never_served() {
    let impairments = Impairments {
        corruption: 0.02,
        ..Impairments::default()
    };
    let lan = LanConfig {
        impairments,
        ..LanConfig::default()
    };
    let mut farm = Farm::builder().lan(Port::A, lan).build().unwrap();
    run(&mut farm);
    assert!(
        farm.lan(Port::A)
            .unwrap()
            .statistics()
            .impairments
            .corrupted
            > 50
    );
}

/// One client that does one job at a time, and servers that take turns: of two requests to `s1` the second is
/// migrated. Gives how long the second took.
fn second_is_migrated(builder: FarmBuilder, request: Request) -> Duration {
    let mut farm = builder
        .clients(1)
        .concurrency(1)
        .policy(PolicyKind::RoundRobin)
        .build()
        .unwrap();
    farm.push(0, job(0, Http::new([Request::name()])));
    let large = job(0, Http::new([request])).with_buffers(256 * 1024);
    farm.push(
        0,
        Job {
            deadline: Duration::from_secs(600),
            ..large
        },
    );
    run(&mut farm);
    let servers: Vec<_> = farm
        .records()
        .map(|record| record.exchange.result.clone().unwrap())
        .collect();
    assert_eq!(servers, ["s1", "s2"]);
    farm.records().nth(1).unwrap().exchange.latency()
}

#[test]
fn a_large_download_over_a_migrated_connection() {
    second_is_migrated(idle(), Request::download(LARGE, 1));
}

#[test]
fn a_large_upload_over_a_migrated_connection() {
    second_is_migrated(idle(), Request::upload(UPLOAD, 1));
}

#[test]
fn transfers_over_a_migrated_connection_across_impaired_lans() {
    second_is_migrated(idle().impairments(ROUGH), Request::download(UPLOAD, 1));
    second_is_migrated(idle().impairments(ROUGH), Request::upload(UPLOAD, 1));
}

#[test]
fn requests_in_several_segments_are_gathered_and_migrated() {
    let pause = Duration::from_millis(30);
    let cookie = "c".repeat(6_000);
    let long = Request::download(50_000, 1).with_field("Cookie", &cookie);
    let requests = [
        long.clone(),
        long.in_pieces(500, pause),
        Request::name().in_pieces(7, pause),
        Request::upload(20_000, 1).in_pieces(1_000, pause),
    ];
    for request in requests {
        let took = second_is_migrated(idle(), request.clone());
        second_is_migrated(idle().impairments(ROUGH), request);
        assert!(
            took < Duration::from_secs(3),
            "no request waits for its deadline: {took:?}"
        );
    }
}

#[test]
fn keep_alive_half_close_and_closing_clients() {
    let requests = || (0..5).map(|seed| Request::download(20_000, seed));
    let mut farm = idle().policy(PolicyKind::RoundRobin).build().unwrap();
    for index in 0..farm.clients() {
        farm.push(index, job(index % 3, Http::new(requests())));
        farm.push(index, job(index % 3, Http::new(requests()).client_closes()));
        farm.push(index, job(index % 3, Http::new(requests()).half_close()));
    }
    let outcome = run(&mut farm);
    assert_eq!(outcome.requests, 8 * 3 * 5);
    assert_eq!(
        outcome
            .servers
            .iter()
            .map(|s| s.local + s.migrated_in)
            .sum::<u64>(),
        24,
        "one bind a connection"
    );

    // TIME-WAIT lasts 60 s; nothing is left after it.
    farm.run_for(Duration::from_secs(90));
    for index in 0..3 {
        assert_eq!(farm.server(index).unwrap().sessions().len(), 0);
        let tables = farm.device(index).unwrap().tables();
        let flows: Vec<_> = tables
            .iter()
            .take(4)
            .map(|table| (table.name, table.len))
            .collect();
        assert!(
            flows.iter().all(|(_, len)| *len == 0),
            "s{}: {flows:?}",
            index + 1
        );
    }
}

/// Requests to servers 0 and 1 that begin in `span` milliseconds from `begin` on.
fn requests_in(farm: &mut Farm, begin: u64, span: u64, count: u64) {
    for number in 0..count {
        let not_before = Instant::from_millis(begin + span * number / count);
        let script = Http::new([Request::download(5_000, number)]);
        let server = ServerAddresses::of(number as usize % 2).http();
        let client = number as usize % farm.clients();
        farm.push(
            client,
            Job {
                not_before,
                ..Job::new(server, script)
            },
        );
    }
}

fn migrated_to_third(farm: &Farm) -> u64 {
    farm.outcome().servers[2].migrated_in
}

#[test]
fn a_silent_server_is_not_selected_until_it_is_back() {
    let mut farm = idle().policy(PolicyKind::RoundRobin).build().unwrap();
    requests_in(&mut farm, 1_500, 1_000, 60);
    run(&mut farm);
    let before = migrated_to_third(&farm);
    assert!(before >= 15, "{before}");

    // Nothing of it is under way when it dies, and its silence (500 ms) is noticed before the next requests.
    farm.run_until(Instant::from_millis(5_000));
    farm.kill(2);
    requests_in(&mut farm, 5_700, 1_000, 60);
    run(&mut farm);
    assert_eq!(migrated_to_third(&farm), before);
    let state = farm
        .device(0)
        .unwrap()
        .servers(farm.now())
        .into_iter()
        .find(|state| state.name == "s3");
    assert!(state.is_none_or(|state| !state.alive));

    farm.restart(2).unwrap();
    let back = farm.now().as_millis();
    requests_in(&mut farm, back + 1_500, 3_000, 180);
    run(&mut farm);
    assert!(migrated_to_third(&farm) > before, "it is used again");
    let ups = |index: usize| &farm.server(index).unwrap().journal().members;
    assert!(
        ups(0)
            .iter()
            .any(|(at, name, up)| name == "s3" && *up && at.as_millis() >= back),
        "{:?}",
        ups(0)
    );
}

#[test]
fn a_server_killed_under_load_costs_only_its_own_connections() {
    let mut farm = Farm::builder()
        .requests(600)
        .deadline(Duration::from_secs(5))
        .build()
        .unwrap();
    farm.run_until(Instant::from_millis(1_600));
    assert!(farm.outcome().requests > 50);
    farm.kill(2);
    let outcome = farm.run();
    assert_eq!(outcome.requests, 600);
    assert_eq!(outcome.violations, 0, "{:?}", farm.violations());
    // The others serve what is sent to them once the silence is noticed.
    let late = |record: &&ipos_sim::Record| record.exchange.started >= Instant::from_millis(2_300);
    let wrong = farm.records().filter(late).find(|record| {
        record.connection.server != ServerAddresses::of(2).http() && record.exchange.result.is_err()
    });
    assert_eq!(wrong, None);
    assert!(
        farm.records()
            .filter(late)
            .any(|record| record.exchange.result.is_ok())
    );
}

#[test]
fn a_partition_of_lan_b_is_invisible_to_clients() {
    let mut farm = Farm::builder()
        .policy(PolicyKind::RoundRobin)
        .build()
        .unwrap();
    let (one, two) = (farm.server_node(0).unwrap(), farm.server_node(1).unwrap());
    farm.lan_mut(Port::B).unwrap().partition(one, two);
    let outcome = run(&mut farm);
    assert_eq!(outcome.requests, 300);
    assert!(outcome.servers[0].migrated_out > 0, "to the third");
}

#[test]
fn a_server_that_leaves_is_selected_no_more() {
    let mut farm = idle().policy(PolicyKind::RoundRobin).build().unwrap();
    farm.run_until(Instant::from_millis(1_500));
    farm.with_device(2, |device, _| device.leave()).unwrap();
    requests_in(&mut farm, 1_600, 1_000, 60);
    run(&mut farm);
    assert_eq!(migrated_to_third(&farm), 0);
}

#[test]
fn below_its_threshold_a_server_keeps_every_request() {
    let mut farm = Farm::builder()
        .configure(|_, config| config.balance.activity_threshold.connections = 1_000)
        .build()
        .unwrap();
    let outcome = run(&mut farm);
    assert!(
        outcome
            .servers
            .iter()
            .all(|server| server.local == 100 && server.migrated_in == 0),
        "{outcome}"
    );
}

#[test]
fn a_configuration_that_does_not_hold_is_named() {
    let error = Farm::builder()
        .configure(|_, config| config.tcp.mss = 100)
        .build()
        .err()
        .unwrap();
    assert!(error.to_string().starts_with("server s1: "), "{error}");
    let error = Farm::builder().servers(90).build().err().unwrap();
    assert_eq!(error.to_string(), "a farm has 1 to 89 servers, not 90");
    let error = Farm::builder()
        .impairments(Impairments { loss: 2.0, ..ROUGH })
        .build()
        .err()
        .unwrap();
    assert!(
        error
            .to_string()
            .starts_with("LAN of port A: impairment `loss` is 2"),
        "{error}"
    );
}

/// A machine that sends frames of every type with random contents to every server, and never listens.
struct Rubbish {
    left: u64,
}

impl Node for Rubbish {
    fn handle_frame(&mut self, _: Instant, _: usize, _: &[u8], _: &mut Outbox) {}

    fn handle_timeout(&mut self, _: Instant, out: &mut Outbox) {
        self.left -= 1;
        let server = ServerAddresses::of((self.left % 3) as usize);
        for (port, (hardware, _)) in [server.a, server.b, server.synch].into_iter().enumerate() {
            let types: [u16; 5] = [0x0800, 0x0806, 0x0007, 0x86dd, self.left as u16];
            let ethertype = types[(self.left / 3 % 5) as usize];
            let source = MacAddr([2, 0, 0, 0, 9, port as u8]);
            let head = Ethernet {
                destination: hardware,
                source,
                ethertype,
            }
            .to_bytes();
            let mut random = [0; 400];
            pattern::fill(self.left, port as u64 * 50, &mut random);
            if ethertype == 0x0800 {
                random[0] = 0x45;
            }
            out.send(port, &head, &random[..(self.left % 400) as usize]);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        (self.left > 0).then(|| Instant::from_micros(2_000_000 - 30 * self.left))
    }
}

#[test]
fn rubbish_on_every_lan_harms_nobody() {
    let mut farm = Farm::builder().build().unwrap();
    farm.add_guest(Rubbish { left: 30_000 }, &[Port::A, Port::B, Port::Synch]);
    run(&mut farm);
    farm.run_until(Instant::from_millis(2_100));
    for index in 0..3 {
        let counters = farm.device(index).unwrap().counters();
        let dropped: u64 = DropReason::ALL
            .iter()
            .map(|reason| counters.dropped(*reason))
            .sum();
        assert!(dropped >= 25_000, "s{}: {dropped}", index + 1);
        assert_eq!(farm.device(index).unwrap().servers(farm.now()).len(), 3);
    }
}

#[test]
fn segments_fit_the_mtu_of_both_lans() {
    for (a, b) in [
        (9_000, 9_000),
        (1_500, 9_000),
        (9_000, 1_500),
        (1_500, 1_400),
        (600, 1_500),
    ] {
        let lan = |mtu| LanConfig {
            mtu,
            ..LanConfig::default()
        };
        let builder = Farm::builder().requests(60).response(50_000);
        run(&mut builder
            .lan(Port::A, lan(a))
            .lan(Port::B, lan(b))
            .build()
            .unwrap());
    }
}

#[test]
fn the_other_ethernet_type_works_too() {
    let builder = Farm::builder().requests(60);
    let mut farm = builder
        .configure(|_, config| config.port_b.ethertype = ETHERTYPE_EXPERIMENTAL)
        .build()
        .unwrap();
    let outcome = run(&mut farm);
    assert!(
        outcome.servers.iter().all(|server| server.migrated_in > 0),
        "{outcome}"
    );
}

/// A campaign spreads farms over threads.
#[test]
fn a_farm_may_go_to_another_thread() {
    let mut farm = Farm::builder().requests(20).build().unwrap();
    let outcome = std::thread::spawn(move || farm.run()).join().unwrap();
    assert_eq!(outcome, Farm::builder().requests(20).build().unwrap().run());
}
