//! The first server of a connection is killed: its owner hears of the client no more.

use std::fs;
use std::io::ErrorKind;
use std::time::Duration;

use ipos_core::config::Tcp;
use ipos_lab::{Farm, FarmPlan};

use crate::bed::{Files, PROGRAMS, assert_from, names};
use crate::client::Client;
use crate::common::available;
use crate::device::Inside;
use crate::site::{Running, nginx, wait_until};

/// An owner gives up soon. The configuration file has no keys for these.
fn impatient(tcp: &mut Tcp) {
    tcp.max_rto = Duration::from_millis(400);
    tcp.retries = 6;
    tcp.idle = Some(Duration::from_secs(4));
    tcp.time_wait = Duration::from_millis(500);
}

/// A connection that carries data and one that is idle end by themselves, their clients are told, and nothing is left.
#[test]
fn a_first_server_is_killed() {
    if !available("a_first_server_is_killed", &PROGRAMS) {
        return;
    }
    let files = Files::new();
    let farm = Farm::build(FarmPlan::default()).unwrap();
    let servers = farm.servers();
    let start = |server: &ipos_lab::Server| -> Running {
        let directory = files.path(server.name());
        fs::create_dir_all(&directory).unwrap();
        nginx(server, &directory, &files.big)
    };
    let _applications: Vec<_> = servers.iter().map(start).collect();
    let [s1, s2, s3] = [0, 1, 2].map(|number| Inside::start(&servers[number], impatient));
    for device in [&s1, &s2, &s3] {
        wait_until("the servers see each other", || device.alive() == 3);
    }

    let (busy, _) = Client::migrated(&farm, "/slow.bin", "s2");
    let (mut idle, head) = Client::migrated(&farm, "/page", "s3");
    idle.body(&head).unwrap();
    wait_until("both have moved", || {
        let owned = [&s2, &s3].map(|device| device.len("forward-connect"));
        s1.len("forward") >= 2 && owned.iter().all(|&len| len >= 1)
    });
    s1.kill();
    for (what, client) in [("data was coming", busy), ("it was idle", idle)] {
        let end = client.until_end();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset, "{what}: {end}");
    }
    for device in [&s2, &s3] {
        wait_until("the silence is noticed", || device.alive() == 2);
    }
    let answers = names(&farm, &servers[1], 12);
    assert_from(&answers, &["s2", "s3"], "without the first server");
    for device in [&s2, &s3] {
        device.wait_empty();
    }
}
