//! Three unmodified nginx behind three `inic` processes, an unmodified client: `curl`. Needs the
//! right to make network namespaces, nginx and curl; says so and does nothing without.

#![allow(missing_docs, reason = "a test")]

#[path = "../common/mod.rs"]
mod common;
mod port_c;
mod proxy;
#[path = "../common/site.rs"]
mod site;
#[path = "../common/traffic.rs"]
mod traffic;

use std::fs;
use std::net::SocketAddrV4;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

use common::{available, skipped, xdp_available};
use ipos_lab::{Farm, FarmPlan, Lan, Server};
use ipos_proto::MacAddr;
use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};
use site::{
    Site, all_see_all, configuration, curl, migrated, nginx_sites, noise, output, upload, url,
    wait_until,
};

/// The port that the proof's client uses.
const CLIENT_PORT: u16 = 45_000;
/// A user without any privilege: nobody.
const NOBODY: u32 = 65_534;

/// What the tests need beside a laboratory.
const PROGRAMS: [&str; 2] = ["nginx", "curl"];

#[test]
fn nginx_behind_inic() {
    if available("nginx_behind_inic", &PROGRAMS) {
        nginx_behind("pnet");
    }
}

#[test]
fn nginx_behind_inic_over_af_xdp() {
    let test = "nginx_behind_inic_over_af_xdp";
    if available(test, &PROGRAMS) && xdp_available(test) {
        nginx_behind("xdp");
    }
}

fn nginx_behind(backend: &str) {
    let root = site::directory();
    let big = noise(100_000_000, 1);
    let big_file = root.path().join("big.bin");
    fs::write(&big_file, &big).unwrap();
    let farm = Farm::build(FarmPlan::default()).unwrap();
    let configure = |server: &_| format!("backend = \"{backend}\"\n{}", configuration(server));
    let mut sites = nginx_sites(farm.servers(), root.path(), &big_file, configure);
    wait_until("the servers see each other", || all_see_all(&sites));

    packets_go_where_they_should(&farm, &sites, root.path());
    transfers_are_whole(&farm, &sites, &big, root.path());
    a_link_may_go_down_and_up(&farm, &sites[0]);
    a_dead_server_is_not_selected(&farm, &mut sites);

    for site in &mut sites {
        assert_eq!(site.end_inic(Signal::SIGTERM).code(), Some(0));
        assert_eq!(site.logged("left the farm"), 1);
        assert_eq!(site.logged("panicked"), 0);
    }
}

/// A request to server 1 is answered by another server, from that server's interface with server 1's
/// address; what the client sends goes there byte for byte.
fn packets_go_where_they_should(farm: &Farm, sites: &[Site], directory: &Path) {
    let first = &farm.servers()[0];
    let lan_a = farm.capture(Lan::A, directory.join("lan-a.pcap")).unwrap();
    let lan_b = farm.capture(Lan::B, directory.join("lan-b.pcap")).unwrap();
    let (site, attempt) = migrated(sites, |attempt| {
        let port = (CLIENT_PORT + attempt).to_string();
        curl(farm.client(), &["--local-port", &port, &url(first, "/")])
    });
    // LAN B first: what is forwarded was on LAN A before.
    let lan_b = lan_b.stop().unwrap();
    let lan_a = lan_a.stop().unwrap();
    assert_eq!((lan_a.lost, lan_b.lost), (0, 0));
    let client = SocketAddrV4::new(Lan::A.address(Farm::CLIENT), CLIENT_PORT + attempt);
    let service = SocketAddrV4::new(first.address(Lan::A), 80);
    let hardware = |server: &Server, lan| MacAddr(server.hardware_address(lan));

    let seen = traffic::segments(&lan_a.read().unwrap());
    let responses = seen
        .iter()
        .filter(|segment| segment.destination == client && segment.payload > 0);
    let senders: Vec<_> = responses
        .map(|segment| (segment.source, segment.from))
        .collect();
    assert!(!senders.is_empty());
    let expected = (service, hardware(site.server, Lan::A));
    assert!(
        senders.iter().all(|&sender| sender == expected),
        "{senders:?} instead of {expected:?}"
    );
    // The first answer to the client, the SYN-ACK, was server 1's.
    let answer = seen
        .iter()
        .find(|segment| segment.destination == client)
        .unwrap();
    assert_eq!(
        (answer.source, answer.from),
        (service, hardware(first, Lan::A))
    );

    let sent: Vec<_> = seen
        .iter()
        .filter(|segment| segment.source == client)
        .collect();
    let forwarded = traffic::forwarded(&lan_b.read().unwrap(), client);
    assert!(!forwarded.is_empty());
    for packet in &forwarded {
        assert_eq!(
            (packet.from, packet.to),
            (hardware(first, Lan::B), hardware(site.server, Lan::B))
        );
        assert_eq!(packet.destination, site.server.address(Lan::B));
        assert!(
            sent.iter().any(|segment| segment.packet == packet.packet),
            "a packet that the client did not send"
        );
    }
    // Whatever carries data went there: the request did not stay with server 1.
    for segment in sent.iter().filter(|segment| segment.payload > 0) {
        assert!(
            forwarded
                .iter()
                .any(|packet| packet.packet == segment.packet),
            "a packet of the request is missing"
        );
    }
}

/// 100 MB down and 10 MB up over connections that have moved.
fn transfers_are_whole(farm: &Farm, sites: &[Site], big: &[u8], directory: &Path) {
    let first = &farm.servers()[0];
    let down = directory.join("down.bin");
    let down = down.to_str().unwrap();
    migrated(sites, |_| {
        curl(
            farm.client(),
            &[
                "-o",
                down,
                "-w",
                "%header{x-server}",
                &url(first, "/big.bin"),
            ],
        )
    });
    assert_eq!(Sha256::digest(fs::read(down).unwrap()), Sha256::digest(big));

    let up = noise(10_000_000, 2);
    upload(farm.client(), sites, &directory.join("up.bin"), &up);
}

/// A device whose Port A goes down says so, and goes on when it is up again.
fn a_link_may_go_down_and_up(farm: &Farm, site: &Site) {
    let (namespace, interface) = (site.server.namespace(), Lan::A.interface());
    namespace.set_down(interface).unwrap();
    wait_until("the device says so", || {
        site.logged("the interface is down") >= 1
    });
    namespace.set_up(interface).unwrap();
    namespace.wait_ready(interface).unwrap();
    let name = curl(farm.client(), &[&url(site.server, "/")]);
    assert!(["s1", "s2", "s3"].contains(&name.as_str()), "{name}");
}

/// A server that was killed gets nothing once it has been silent, and gets its share again after its return.
fn a_dead_server_is_not_selected(farm: &Farm, sites: &mut [Site]) {
    let first = &farm.servers()[0];
    sites[1].end_inic(Signal::SIGKILL);
    for site in [0, 2] {
        wait_until("silence is noticed", || !sites[site].sees("s2"));
    }
    let answers: Vec<_> = (0..9)
        .map(|_| curl(farm.client(), &[&url(first, "/")]))
        .collect();
    assert!(
        answers.iter().all(|name| name == "s1" || name == "s3"),
        "{answers:?}"
    );

    sites[1].start_inic();
    wait_until("it is back", || all_see_all(sites));
    wait_until("it is selected", || {
        curl(farm.client(), &[&url(first, "/")]) == "s2"
    });
}

#[test]
fn bad_input_is_one_line() {
    if !available("bad_input_is_one_line", &PROGRAMS) {
        return;
    }
    let root = site::directory();
    let farm = Farm::build(FarmPlan {
        servers: 1,
        ..FarmPlan::default()
    })
    .unwrap();
    let server = &farm.servers()[0];
    // Where nobody may run it.
    let program = root.path().join("inic");
    fs::copy(common::example("inic"), &program).unwrap();
    let file = root.path().join("inic.toml");
    let good = configuration(server);
    let run = |text: &str, user: Option<u32>| -> Output {
        fs::write(&file, text).unwrap();
        let mut command = Command::new(&program);
        command.arg("--config").arg(&file);
        if let Some(user) = user {
            command.uid(user).gid(user);
        }
        output(server.namespace(), &mut command)
    };
    let refused = |output: Output, expected: &str| {
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
        let expected = format!("{}: {expected}", file.display());
        assert!(
            error.starts_with(&expected),
            "{error} instead of {expected}"
        );
    };
    refused(
        run(&good.replace("prefix", "prefixx"), None),
        "port_a.prefixx: unknown field",
    );
    refused(
        run(&good.replace("round-robin", "fair"), None),
        "balance.policy: policy \"fair\" is not available",
    );
    refused(
        run(&good.replace("\"b0\"", "\"b7\""), None),
        "port_b.interface: there is no interface b7",
    );
    if farm
        .client()
        .run(|| {
            Command::new("true")
                .uid(NOBODY)
                .gid(NOBODY)
                .status()
                .is_ok()
        })
        .unwrap()
    {
        refused(
            run(&good, Some(NOBODY)),
            "port_a.interface: opening interface a0 needs CAP_NET_RAW",
        );
    } else {
        skipped(
            "bad_input_is_one_line, without privilege",
            "this user namespace has one user only",
        );
    }
}
