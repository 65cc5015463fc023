//! LANs that lose, repeat and reorder.

use std::collections::HashMap;
use std::fs;
use std::net::SocketAddrV4;

use ipos_lab::{Farm, FarmPlan, Lan};
use ipos_proto::MacAddr;

use crate::bed::{self, Files, LOSS_30, PROGRAMS, digest, end_relays, impair_client, impair_lan_b};
use crate::common::available;
use crate::site::{Site, curl, noise, page, upload, url};
use crate::traffic;

/// What each cable of LAN B does.
const LAN_B: [&str; 6] = ["--loss", LOSS_30, "--duplicate", "0.1", "--reorder", "0.1"];
/// The same, where ACKs of large downloads pass: 10 % of them get lost.
const LAN_B_LESS: [&str; 6] = ["--loss", "0.0513", "--duplicate", "0.1", "--reorder", "0.1"];
/// What the client's cable does.
const CLIENT: [&str; 4] = ["--loss", "0.03", "--reorder", "0.03"];
const PARALLEL: usize = 200;
const KEPT: usize = 30;
/// Connections that are made until each server has had one: a server that has not answered an offer is tried less for a while.
const CONNECTIONS: usize = 100;

#[test]
fn lan_b_loses_30_percent() {
    if !available("lan_b_loses_30_percent", &PROGRAMS) {
        return;
    }
    let files = Files::new();
    let farm = Farm::build(FarmPlan::default()).unwrap();
    let relays = impair_lan_b(&farm, &files, &LAN_B);
    let mut sites = bed::sites(&farm, &files, |_, text| text);
    many_at_once(&farm, &files, &sites);
    many_over_one_connection(&farm, &sites);
    upload(
        farm.client(),
        &sites,
        &files.path("up.bin"),
        &noise(3_000_000, 2),
    );
    bed::end(&mut sites);
    end_relays(relays, &["--loss", "--duplicate", "--reorder"]);
}

/// Each request gets one whole answer, and no connection is answered by two servers.
fn many_at_once(farm: &Farm, files: &Files, sites: &[Site]) {
    let first = sites[0].server;
    let capture = farm.capture(Lan::A, files.path("lan-a.pcap")).unwrap();
    let outputs = files.path("outputs");
    let arguments = [
        "--parallel",
        "--parallel-immediate",
        "--parallel-max",
        &PARALLEL.to_string(),
        "--fail",
        "--header",
        "Connection: close",
        "--create-dirs",
        "--output",
        &format!("{}/#1", outputs.display()),
        "--write-out",
        "%{local_port} %header{x-server}\n",
        &url(first, &format!("/page?[1-{PARALLEL}]")),
    ];
    let told = curl(farm.client(), &arguments);
    let capture = capture.stop().unwrap();
    assert_eq!(capture.lost, 0);

    let pages: Vec<_> = sites.iter().map(|site| page(site.server.name())).collect();
    for number in 1..=PARALLEL {
        let answer = fs::read_to_string(outputs.join(number.to_string())).unwrap();
        assert!(
            pages.contains(&answer),
            "request {number}: {} bytes, {:?} …",
            answer.len(),
            answer.get(..20)
        );
    }
    let service = SocketAddrV4::new(first.address(Lan::A), 80);
    let mut senders: HashMap<u16, Vec<MacAddr>> = HashMap::new();
    for segment in traffic::segments(&capture.read().unwrap()) {
        if segment.source == service && segment.payload > 0 {
            let from = senders.entry(segment.destination.port()).or_default();
            if !from.contains(&segment.from) {
                from.push(segment.from);
            }
        }
    }
    assert_eq!((told.lines().count(), senders.len()), (PARALLEL, PARALLEL));
    let mut served: HashMap<&str, usize> = HashMap::new();
    for line in told.lines() {
        let (port, name) = line.split_once(' ').unwrap();
        let site = sites.iter().find(|site| site.server.name() == name);
        let server = site
            .unwrap_or_else(|| panic!("answered by {name:?}"))
            .server;
        let hardware = MacAddr(server.hardware_address(Lan::A));
        assert_eq!(
            senders.get(&port.parse().unwrap()),
            Some(&vec![hardware]),
            "who answered port {port}, {name} or another one?"
        );
        *served.entry(server.name()).or_default() += 1;
    }
    assert_eq!(served.len(), sites.len(), "{served:?}");
}

/// Keep-alive: connections that have moved, and many requests over each.
fn many_over_one_connection(farm: &Farm, sites: &[Site]) {
    let mut servers = Vec::new();
    for _ in 0..CONNECTIONS {
        let arguments = [
            "--output",
            "/dev/null",
            "--write-out",
            "%{num_connects} %{size_download} %header{x-server}\n",
            &url(sites[0].server, &format!("/page?[1-{KEPT}]")),
        ];
        let told = curl(farm.client(), &arguments);
        let name = told.trim_end().rsplit(' ').next().unwrap();
        let len = page(name).len();
        let expected: String = (0..KEPT)
            .map(|number| format!("{} {len} {name}\n", usize::from(number == 0)))
            .collect();
        assert_eq!(told, expected, "requests over one connection");
        if !servers.contains(&name.to_owned()) {
            servers.push(name.to_owned());
        }
        if servers.len() == sites.len() {
            return;
        }
    }
    panic!("{CONNECTIONS} connections, and answers from {servers:?} only");
}

/// Downloads from every server while LAN A is bad too.
#[test]
fn lan_a_loses_too() {
    if !available("lan_a_loses_too", &PROGRAMS) {
        return;
    }
    let files = Files::new();
    let farm = Farm::build(FarmPlan::default()).unwrap();
    let mut relays = impair_lan_b(&farm, &files, &LAN_B_LESS);
    relays.push(impair_client(&farm, &files, &CLIENT));
    let mut sites = bed::sites(&farm, &files, |_, text| text);
    let mut servers = Vec::new();
    let output = files.path("down.bin");
    for _ in 0..10 {
        let arguments = [
            "--output",
            output.to_str().unwrap(),
            "--write-out",
            "%header{x-server}",
            &url(sites[0].server, "/big.bin"),
        ];
        let name = curl(farm.client(), &arguments);
        assert_eq!(
            digest(&fs::read(&output).unwrap()),
            files.digest,
            "the download from {name}"
        );
        if !servers.contains(&name) {
            servers.push(name);
        }
        if servers.len() == sites.len() {
            break;
        }
    }
    assert_eq!(
        servers.len(),
        sites.len(),
        "downloads from {servers:?} only"
    );
    bed::end(&mut sites);
    end_relays(relays, &["--loss", "--reorder"]);
}
