//! Farms that once went wrong, by their seeds.

use std::time::Duration;

use ipos_core::{Instant, Port};
use ipos_sim::addresses::ServerAddresses;
use ipos_sim::{Farm, Http, Impairments, Job, LanConfig, Request};

fn lan(impairments: Impairments) -> LanConfig {
    LanConfig {
        impairments,
        ..LanConfig::default()
    }
}

fn loss(loss: f64) -> LanConfig {
    lan(Impairments {
        loss,
        ..Impairments::default()
    })
}

/// The request's packet is lost on LAN B, and the client waits longer than the second server does.
#[test]
fn a_lost_request_is_replayed_before_the_endpoint_is_forgotten() {
    for seed in 0..20 {
        let farm = Farm::builder()
            .lan(Port::A, loss(0.05))
            .lan(Port::B, loss(0.05));
        let outcome = farm.seed(seed).build().unwrap().run();
        assert_eq!(outcome.errors, 0, "seed {seed}: {outcome}");
    }
}

/// Replayed packets overtake each other: the older one's timestamp is no reason to drop it.
#[test]
fn reordered_replays_pass_paws() {
    for seed in 0..40 {
        let reordering = Impairments {
            reordering: 0.5,
            ..Impairments::default()
        };
        let mut farm = Farm::builder()
            .requests(0)
            .clients(1)
            .seed(seed)
            .lan(Port::A, loss(0.2))
            .lan(Port::B, lan(reordering))
            // Five SYN-ACKs are too few for so much loss.
            .configure(|_, config| config.tcp.syn_retries = 10)
            .build()
            .unwrap();
        for _ in 0..40 {
            let request = Request::name().with_field("Cookie", &"c".repeat(2_000));
            let job = Job {
                not_before: Instant::from_millis(1_500),
                deadline: Duration::from_secs(300),
                ..Job::new(ServerAddresses::of(0).http(), Http::new([request]))
            };
            farm.push(0, job);
        }
        let outcome = farm.run();
        assert_eq!(outcome.errors, 0, "seed {seed}: {outcome}");
    }
}

/// A 0x01 and 0x02s that arrive after RELEASE do not bring the connection back.
#[test]
fn late_frames_do_not_revive_an_ended_connection() {
    for seed in 0..20 {
        let late = Impairments {
            reordering: 0.3,
            hold_back: Duration::from_millis(20),
            ..Impairments::default()
        };
        let mut farm = Farm::builder()
            .lan(Port::B, lan(late))
            .service_time(Duration::ZERO..=Duration::ZERO)
            .response(30_000)
            .requests(100)
            .seed(seed)
            .build()
            .unwrap();
        farm.run();
        farm.run_for(Duration::from_secs(1_000));
        assert_eq!(farm.outcome().violations, 0, "seed {seed}");
        for server in 0..3 {
            assert_eq!(
                farm.server(server).unwrap().sessions().len(),
                0,
                "seed {seed}"
            );
        }
    }
}

/// Connections in TIME-WAIT do not keep new ones out.
#[test]
fn time_wait_does_not_fill_the_tables() {
    let mut farm = Farm::builder()
        .requests(2_000)
        .concurrency(4)
        .response(100)
        .service_time(Duration::ZERO..=Duration::from_millis(1))
        .configure(|_, config| {
            config.limits.endpoints = 64;
            config.limits.time_wait = 128;
        })
        .build()
        .unwrap();
    let outcome = farm.run();
    assert_eq!(outcome.errors, 0, "{outcome}");
    for at in 0..3 {
        for table in farm.device(at).unwrap().tables() {
            assert!(table.len <= table.bound, "{table:?}");
        }
    }
}
