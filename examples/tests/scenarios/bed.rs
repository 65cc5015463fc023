//! The farm of a scenario: its cables, its sites, its clients.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use ipos_lab::{End, Farm, Lan, Namespace, Server, connect};
use nix::sys::signal::Signal;
use sha2::{Digest, Sha256};

use crate::common;
use crate::site::{
    Running, Site, all_see_all, configuration, curl, nginx_sites, noise, wait_until,
};

/// What the scenarios over HTTP need beside a laboratory.
pub const PROGRAMS: [&str; 2] = ["nginx", "curl"];
/// Bytes of the file that is downloaded.
const BIG: usize = 6_000_000;

/// The probability that a cable loses a frame, so that LAN B loses 30 % of what goes from server to server: over two cables.
pub const LOSS_30: &str = "0.1634";

/// The files of a test.
pub struct Files {
    root: tempfile::TempDir,
    pub big: PathBuf,
    /// SHA-256 of `big`.
    pub digest: Vec<u8>,
}

impl Files {
    pub fn new() -> Files {
        let root = crate::site::directory();
        let bytes = noise(BIG, 1);
        let big = root.path().join("big.bin");
        fs::write(&big, &bytes).unwrap();
        Files {
            root,
            big,
            digest: digest(&bytes),
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    pub fn root(&self) -> &Path {
        self.root.path()
    }
}

pub fn digest(bytes: &[u8]) -> Vec<u8> {
    Sha256::digest(bytes).to_vec()
}

/// Three nginx behind three devices that see each other; `change` has the last word on the configuration file.
pub fn sites<'a>(
    farm: &'a Farm,
    files: &Files,
    change: impl Fn(&Server, String) -> String,
) -> Vec<Site<'a>> {
    let configure = |server: &Server| change(server, configuration(server));
    let sites = nginx_sites(farm.servers(), files.root(), &files.big, configure);
    wait_until("the servers see each other", || all_see_all(&sites));
    sites
}

/// Ends the devices in order; nothing may have gone wrong in them.
pub fn end(sites: &mut [Site]) {
    for site in sites {
        let name = site.server.name();
        assert_eq!(site.end_inic(Signal::SIGTERM).code(), Some(0), "{name}");
        assert_eq!(site.logged("panicked"), 0, "{name}");
        assert_eq!(site.logged("ERROR"), 0, "{name}");
    }
}

/// A relay in a cable of the switch.
pub struct Relay {
    running: Running,
    log: PathBuf,
}

impl Relay {
    /// What it told at its end, of both ways: frames passed, lost, late, twice.
    pub fn end(self) -> Vec<[u64; 4]> {
        self.running.end(Signal::SIGTERM);
        let log = fs::read_to_string(self.log).unwrap();
        let numbers = |line: &str| {
            let numbers: Vec<_> = line
                .split_whitespace()
                .filter_map(|word| word.parse().ok())
                .collect();
            numbers[..4].try_into().unwrap()
        };
        let ways: Vec<_> = log.lines().map(numbers).collect();
        assert_eq!(ways.len(), 2, "{log}");
        ways
    }

    /// The same as though somebody had cut the cable.
    pub fn cut(self) {
        self.running.end(Signal::SIGKILL);
    }
}

/// Ends relays; each must have done all that it was started for.
pub fn end_relays(relays: Vec<Relay>, kinds: &[&str]) {
    for relay in relays {
        let ways = relay.end();
        for (kind, number) in [("--loss", 1), ("--reorder", 2), ("--duplicate", 3)] {
            let count: u64 = ways.iter().map(|way| way[number]).sum();
            assert!(count > 0 || !kinds.contains(&kind), "{kind}: {ways:?}");
        }
    }
}

/// A cable of the switch that a relay can be put into: `client`, or `s1-b0`.
pub struct Cable<'a> {
    switch: &'a Namespace,
    port: String,
}

impl<'a> Cable<'a> {
    /// Takes `port` off its LAN; a relay carries what comes and goes from now on.
    pub fn of(farm: &'a Farm, port: &str, lan: Lan) -> Cable<'a> {
        let switch = farm.switch();
        // Another bridge, with no other port, takes it.
        let alone = format!("{port}-x");
        switch.add_bridge(&alone, 1500).unwrap();
        switch.attach(port, &alone).unwrap();
        let ends = [format!("{port}-r"), format!("{port}-l")];
        let [near, far] = ends.each_ref().map(|name| End {
            namespace: switch,
            name,
            hardware_address: None,
        });
        connect(near, far, 1500).unwrap();
        switch.attach(&ends[1], lan.bridge()).unwrap();
        for end in &ends {
            switch.set_up(end).unwrap();
        }
        for end in &ends {
            switch.wait_ready(end).unwrap();
        }
        Cable {
            switch,
            port: port.to_owned(),
        }
    }

    /// Starts a relay with these options in it.
    pub fn relay(&self, files: &Files, options: &[&str]) -> Relay {
        let mut command = Command::new(common::example("relay"));
        let near = format!("{}-r", self.port);
        command.args(["--between", &self.port, &near]).args(options);
        let log = files.path(&format!("relay-{}.err", self.port));
        let _none = fs::remove_file(&log);
        let running = Running::start(self.switch, command, &log);
        Relay { running, log }
    }
}

/// A relay in the cable of every server to LAN B.
pub fn impair_lan_b(farm: &Farm, files: &Files, options: &[&str]) -> Vec<Relay> {
    let impair = |(number, server): (usize, &Server)| {
        let port = format!("{}-{}", server.name(), Lan::B.interface());
        let seed = number.to_string();
        let options = [options, &["--seed", &seed]].concat();
        Cable::of(farm, &port, Lan::B).relay(files, &options)
    };
    (10..).zip(farm.servers()).map(impair).collect()
}

/// A relay in the client's cable to LAN A.
pub fn impair_client(farm: &Farm, files: &Files, options: &[&str]) -> Relay {
    Cable::of(farm, "client", Lan::A).relay(files, options)
}

/// The names in the answers to `count` requests to `server`, one after the other, each over its own connection.
pub fn names(farm: &Farm, server: &Server, count: usize) -> Vec<String> {
    let urls = format!("http://{}/?[1-{count}]", server.address(Lan::A));
    let arguments = ["--header", "Connection: close", "-w", "\n", &urls];
    let answers = curl(farm.client(), &arguments);
    let names: Vec<_> = answers.lines().map(str::to_owned).collect();
    assert_eq!(names.len(), count, "{names:?}");
    names
}

/// Asserts that the answers came from these servers, and from each.
pub fn assert_from(answers: &[String], servers: &[&str], what: &str) {
    for name in answers {
        assert!(
            servers.contains(&name.as_str()),
            "{what}: {name:?} in {answers:?}"
        );
    }
    for server in servers {
        let answered = answers.iter().any(|name| name == server);
        assert!(answered, "{what}: nothing from {server} in {answers:?}");
    }
}
