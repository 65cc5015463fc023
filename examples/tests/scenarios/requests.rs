//! Requests of one connection, each selected for.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use ipos_lab::{Farm, FarmPlan};

use crate::bed::{self, Files, PROGRAMS, end_relays, impair_client, impair_lan_b};
use crate::client::Client;
use crate::common::available;
use crate::site::page;

const REQUESTS: usize = 100;
/// An endpoint that has just come stays for 100 ms.
const INTERVAL: Duration = Duration::from_millis(110);
/// What LANs A and B do.
const LOSS: [&str; 2] = ["--loss", "0.01"];

#[test]
fn each_request_is_selected_for() {
    if available("each_request_is_selected_for", &PROGRAMS) {
        one_connection(false);
    }
}

#[test]
fn each_request_is_selected_for_with_loss() {
    if available("each_request_is_selected_for_with_loss", &PROGRAMS) {
        one_connection(true);
    }
}

/// One connection, many requests: all servers answer, each answer is whole, and the connection stays.
fn one_connection(lossy: bool) {
    let files = Files::new();
    let farm = Farm::build(FarmPlan::default()).unwrap();
    let mut relays = Vec::new();
    if lossy {
        relays = impair_lan_b(&farm, &files, &LOSS);
        relays.push(impair_client(&farm, &files, &LOSS));
    }
    let mut sites = bed::sites(&farm, &files, |_, text| {
        text.replace("[balance]\n", "[balance]\nper_request = true\n")
    });
    let mut client = Client::connect(&farm, &farm.servers()[0]);
    let mut answered: BTreeMap<String, usize> = BTreeMap::new();
    for number in 1..=REQUESTS {
        let answer = client.get("/page").and_then(|head| {
            let body = client.body(&head)?;
            Ok((head.server, body))
        });
        let (server, body) = answer
            .unwrap_or_else(|error| panic!("request {number}: {error}; before it: {answered:?}"));
        assert!(
            body == page(&server).as_bytes(),
            "request {number}: not the whole answer of {server}; before it: {answered:?}"
        );
        *answered.entry(server).or_default() += 1;
        thread::sleep(INTERVAL);
    }
    assert_eq!(answered.len(), farm.servers().len(), "{answered:?}");
    bed::end(&mut sites);
    end_relays(relays, &["--loss"]);
}
