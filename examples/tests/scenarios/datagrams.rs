//! UDP: DNS servers behind the devices, and `dig`.

use std::path::Path;
use std::process::Command;

use ipos_lab::{Farm, FarmPlan, Lan, Server};

use crate::bed::{self, Files};
use crate::common::available;
use crate::site::{Running, Site, all_see_all, output, ports, wait_until};

const PROGRAMS: [&str; 2] = ["dnsmasq", "dig"];
const QUERIES: usize = 100;
/// Queries over one flow, and flows.
const REPEATED: usize = 5;
const FLOWS: u16 = 6;
const NAME: &str = "who.farm.test";
/// The first of the source ports that are used again.
const PORT: u16 = 40_000;

/// The address that the DNS server of `server` tells: the server's own.
fn told_by(server: &Server) -> String {
    server.address(Lan::A).to_string()
}

fn configuration(server: &Server) -> String {
    let listen = format!(
        "\n[[listen]]\naddress = \"{}:53\"\napp = \"127.0.0.1:5353\"\nprotocol = \"udp\"\n",
        server.address(Lan::A)
    );
    ports(server) + &listen
}

/// dnsmasq that knows one name, and reads nothing of this host.
fn dnsmasq(server: &Server, directory: &Path) -> Running {
    let mut command = Command::new("dnsmasq");
    // Debugging mode: a user namespace has no other user to change to.
    command
        .args(["--no-daemon", "--conf-file=/dev/null", "--pid-file="])
        .args(["--no-resolv", "--no-hosts", "--bind-interfaces"])
        .args(["--listen-address=127.0.0.1", "--port=5353"])
        .arg(format!("--address=/{NAME}/{}", told_by(server)));
    let log = directory.join("application.err");
    Running::start(server.namespace(), command, &log)
}

/// Runs dig in the client's namespace; the addresses that it was told. Every query is asked once, and must be answered.
fn dig(farm: &Farm, arguments: &[String]) -> Vec<String> {
    let mut command = Command::new("dig");
    command
        .args(["+tries=1", "+time=10", "+short"])
        .arg(format!("@{}", farm.servers()[0].address(Lan::A)))
        .args(arguments);
    let output = output(farm.client(), &mut command);
    let told = String::from_utf8(output.stdout).unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "dig {arguments:?}: {told}{error}");
    told.lines().map(str::to_owned).collect()
}

#[test]
fn dns_servers_behind_inic() {
    if !available("dns_servers_behind_inic", &PROGRAMS) {
        return;
    }
    let files = Files::new();
    let farm = Farm::build(FarmPlan::default()).unwrap();
    let start = |server| Site::start(server, files.root(), &configuration(server), dnsmasq);
    let mut sites: Vec<_> = farm.servers().iter().map(start).collect();
    wait_until("the servers see each other", || all_see_all(&sites));
    let known: Vec<_> = farm.servers().iter().map(told_by).collect();
    let servers = |answers: &[String]| {
        let mut servers = answers.to_vec();
        servers.sort();
        servers.dedup();
        servers
    };

    // Each from a port of its own.
    let answers: Vec<_> = (0..QUERIES)
        .flat_map(|_| dig(&farm, &[NAME.to_owned()]))
        .collect();
    assert_eq!(answers.len(), QUERIES, "{answers:?}");
    let from = servers(&answers);
    assert!(
        from.len() >= 2 && from.iter().all(|server| known.contains(server)),
        "{from:?}"
    );

    // From one port: one flow, which stays with its server.
    let mut from = Vec::new();
    for port in PORT..PORT + FLOWS {
        let source = format!("{}#{port}", Lan::A.address(Farm::CLIENT));
        let query = ["-b".to_owned(), source, NAME.to_owned()];
        let answers: Vec<_> = (0..REPEATED).flat_map(|_| dig(&farm, &query)).collect();
        assert_eq!(answers, vec![answers[0].clone(); REPEATED], "port {port}");
        from.push(answers[0].clone());
    }
    assert!(servers(&from).len() >= 2, "all flows to {from:?}");
    bed::end(&mut sites);
}
