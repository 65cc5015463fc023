//! A Port B that is dead from the start, or dies.

use std::thread;

use ipos_lab::{Farm, FarmPlan, Lan};

use crate::bed::{self, Cable, Files, PROGRAMS, assert_from, digest, names};
use crate::client::Client;
use crate::common::available;
use crate::site::wait_until;

/// Where server 2's Port B is plugged in.
const PORT: &str = "s2-b0";

/// Nothing comes or goes through Port B of server 2, which says over the Synch Port that it is alive: what cannot be moved
/// there is served elsewhere, and what comes to it first is served there.
#[test]
fn port_b_is_dead_from_the_start() {
    if !available("port_b_is_dead_from_the_start", &PROGRAMS) {
        return;
    }
    let files = Files::new();
    let farm = Farm::build(FarmPlan::default()).unwrap();
    let relay = Cable::of(&farm, PORT, Lan::B).relay(&files, &["--loss", "1"]);
    let mut sites = bed::sites(&farm, &files, |_, text| text);
    let [first, second, _] = farm.servers() else {
        panic!("three servers")
    };
    assert_from(&names(&farm, first, 40), &["s1", "s3"], "to server 1");
    assert_from(&names(&farm, second, 10), &["s2"], "to server 2");
    let lost: u64 = relay.end().iter().map(|way| way[1]).sum();
    assert!(lost > 0, "nothing was sent to server 2");
    bed::end(&mut sites);
}

/// Nobody is told: frames get lost.
#[test]
fn the_cable_of_port_b_is_cut() {
    if !available("the_cable_of_port_b_is_cut", &PROGRAMS) {
        return;
    }
    let files = Files::new();
    let farm = Farm::build(FarmPlan::default()).unwrap();
    let cable = Cable::of(&farm, PORT, Lan::B);
    let relay = cable.relay(&files, &[]);
    let mut relay_again = None;
    dies_and_comes_back(
        &farm,
        &files,
        || relay.cut(),
        || relay_again = Some(cable.relay(&files, &[])),
    );
}

/// The device is told.
#[test]
fn the_link_of_port_b_goes_down() {
    if !available("the_link_of_port_b_goes_down", &PROGRAMS) {
        return;
    }
    let files = Files::new();
    let farm = Farm::build(FarmPlan::default()).unwrap();
    let switch = farm.switch();
    dies_and_comes_back(
        &farm,
        &files,
        || switch.set_down(PORT).unwrap(),
        || {
            switch.set_up(PORT).unwrap();
            switch.wait_ready(PORT).unwrap();
        },
    );
}

/// While a download of server 2 runs, its Port B dies: new requests are served elsewhere. The download goes on, and server
/// 2 is selected again, when it is whole again.
fn dies_and_comes_back(farm: &Farm, files: &Files, die: impl FnOnce(), mend: impl FnOnce()) {
    let mut sites = bed::sites(farm, files, |_, text| text);
    let [first, second, _] = farm.servers() else {
        panic!("three servers")
    };
    assert_from(&names(farm, first, 30), &["s1", "s2", "s3"], "before");
    let (mut client, head) = Client::migrated(farm, "/slow.bin", "s2");
    let download = thread::spawn(move || client.body(&head));
    die();
    assert_from(&names(farm, first, 30), &["s1", "s3"], "to server 1");
    assert_from(&names(farm, second, 5), &["s2"], "to server 2");
    assert!(!download.is_finished(), "the download was too short");
    mend();
    let body = download.join().unwrap();
    let body = body.unwrap_or_else(|error| panic!("the download from s2: {error}"));
    assert_eq!(digest(&body), files.digest, "the download from s2");
    wait_until("server 2 is selected again", || {
        names(farm, first, 3).contains(&"s2".to_owned())
    });
    bed::end(&mut sites);
}
