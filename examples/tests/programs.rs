//! The programs' command lines: a contract.

#![allow(missing_docs, reason = "a test")]

mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use ipos_lab::{End, Namespace, connect};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

fn farm(arguments: &[&str]) -> Output {
    Command::new(common::example("farm"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// The object that a good run prints.
fn outcome(arguments: &[&str]) -> Value {
    let output = farm(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn sum(outcome: &Value, key: &str) -> u64 {
    let servers = outcome["servers"].as_array().unwrap();
    servers
        .iter()
        .map(|server| server[key].as_u64().unwrap())
        .sum()
}

/// What must hold of every run of `requests` without errors.
fn check(outcome: &Value, fabric: &str, servers: usize, requests: u64) {
    assert_eq!(outcome["fabric"], fabric);
    assert_eq!(
        (&outcome["requests"], &outcome["errors"]),
        (&requests.into(), &0.into()),
        "{outcome}"
    );
    assert_eq!(outcome["servers"].as_array().unwrap().len(), servers);
    assert_eq!(sum(outcome, "served"), requests);
    assert_eq!(sum(outcome, "migrated_out"), sum(outcome, "migrated_in"));
    assert_eq!(
        sum(outcome, "local") + sum(outcome, "migrated_in"),
        requests
    );
    assert!(outcome["latency_us"]["p50"].as_u64() <= outcome["latency_us"]["p99"].as_u64());
}

#[test]
fn a_simulated_farm_is_the_same_again() {
    let arguments = [
        "--fabric",
        "sim",
        "--seed",
        "11",
        "--requests",
        "90",
        "--servers",
        "4",
        "--json",
    ];
    let first = outcome(&arguments);
    check(&first, "sim", 4, 90);
    assert_eq!(first["policy"], "inverse-connections");
    assert!(sum(&first, "migrated_out") > 0);
    assert_eq!(first, outcome(&arguments));
}

#[test]
fn a_simulated_farm_has_every_policy() {
    for policy in [
        "inverse-connections",
        "round-robin",
        "least-connections",
        "p2c",
        "weighted",
        "maglev",
    ] {
        let arguments = [
            "--fabric",
            "sim",
            "--requests",
            "20",
            "--seed",
            "1",
            "--json",
        ];
        let outcome = outcome(&[&arguments[..], &["--policy", policy]].concat());
        check(&outcome, "sim", 3, 20);
        assert_eq!(outcome["policy"], policy);
    }
}

#[test]
fn a_simulated_farm_survives_a_bad_network() {
    let outcome = outcome(&[
        "--fabric",
        "sim",
        "--loss",
        "0.03",
        "--reorder",
        "0.1",
        "--duplicate",
        "0.03",
        "--seed",
        "3",
        "--json",
    ]);
    assert_eq!(
        (&outcome["requests"], &outcome["errors"]),
        (&300.into(), &0.into()),
        "{outcome}"
    );
}

#[test]
fn a_farm_of_namespaces() {
    if !common::available("a_farm_of_namespaces", &[]) {
        return;
    }
    let outcome = outcome(&[
        "--fabric",
        "netns",
        "--requests",
        "120",
        "--policy",
        "round-robin",
        "--json",
    ]);
    check(&outcome, "netns", 3, 120);
    assert_eq!(outcome["policy"], "round-robin");
    assert!(sum(&outcome, "migrated_out") > 0);
}

#[test]
fn a_farm_over_af_xdp() {
    let test = "a_farm_over_af_xdp";
    if !common::available(test, &[]) || !common::xdp_available(test) {
        return;
    }
    let outcome = outcome(&[
        "--fabric",
        "netns",
        "--backend",
        "xdp",
        "--requests",
        "120",
        "--json",
    ]);
    check(&outcome, "netns", 3, 120);
    assert!(sum(&outcome, "migrated_out") > 0);
}

#[test]
fn a_held_farm_can_be_reached() {
    if !common::available("a_held_farm_can_be_reached", &["nsenter", "curl"]) {
        return;
    }
    let mut command = Command::new(common::example("farm"));
    command
        .args(["--hold", "--requests", "5"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut farm = command.spawn().unwrap();
    let mut lines = BufReader::new(farm.stderr.take().unwrap()).lines();
    let hint = lines
        .find_map(|line| line.ok().filter(|line| line.contains("curl")))
        .expect("a command line");
    let mut words = hint.split_whitespace();
    let answer = Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap();
    let name = String::from_utf8(answer.stdout).unwrap();
    assert!(["s1\n", "s2\n", "s3\n"].contains(&name.as_str()), "{name}");
    // As timeout(1) does it: twice.
    for _ in 0..2 {
        kill(Pid::from_raw(farm.id() as i32), Signal::SIGTERM).unwrap();
    }
    assert_eq!(farm.wait().unwrap().code(), Some(0));
}

/// `farm` on a terminal of its own: `script` has one for it.
fn farm_on_a_terminal(arguments: &str) -> Command {
    let farm = common::example("farm");
    let mut command = Command::new("script");
    command
        .args(["-qefc", &format!("exec '{}' {arguments}", farm.display())])
        .arg("/dev/null")
        .env("TERM", "xterm");
    command
}

/// Whether there is `script`; says so if not.
fn has_terminals(test: &str) -> bool {
    let found = Command::new("script").arg("-V").output().is_ok();
    if !found {
        common::skipped(test, "there is no script: apt-get install bsdutils");
    }
    found
}

#[test]
fn a_farm_on_a_terminal_has_a_picture_that_moves() {
    if !has_terminals("a_farm_on_a_terminal_has_a_picture_that_moves") {
        return;
    }
    let output = farm_on_a_terminal("--fabric sim --seed 1 --requests 9000")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    let text = String::from_utf8(output.stdout).unwrap();
    let progress = |part: &str| part.rsplit(' ').next().and_then(|done| done.parse().ok());
    let pictures: Vec<u64> = text
        .split(" of 9000 requests, 0 failed")
        .filter_map(progress)
        .collect();
    assert!(pictures.len() > 1 && pictures.is_sorted(), "{pictures:?}");
    // Each is drawn over the one before.
    assert!(
        text.contains("\u{1b}[4A") && text.contains("s3  █"),
        "{text}"
    );
    assert!(text.contains("│ s3     ┆"), "{text}");

    // Not a terminal: lines, and nothing drawn over.
    let output = farm(&["--fabric", "sim", "--seed", "1", "--requests", "9000"]);
    assert!(!output.stderr.contains(&0x1b) && !output.stdout.contains(&0x1b));
}

#[test]
fn the_picture_of_a_held_farm_shows_who_serves_later_requests() {
    let test = "the_picture_of_a_held_farm_shows_who_serves_later_requests";
    if !has_terminals(test) || !common::available(test, &["nsenter", "curl"]) {
        return;
    }
    let mut terminal = farm_on_a_terminal("--hold --requests 5")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    // Each picture ends where the next one begins to be drawn over it.
    let mut lines = BufReader::new(terminal.stdout.take().unwrap()).split(b'\r');
    let mut next = |wanted: &dyn Fn(&str) -> bool| {
        lines
            .by_ref()
            .map(|line| String::from_utf8_lossy(&line.unwrap()).into_owned())
            .find(|line| wanted(line))
            .expect("the program goes on")
    };
    let hint = next(&|line| line.contains("curl"));
    for _ in 0..20 {
        let asked = Command::new("sh").args(["-c", &hint]).output().unwrap();
        assert!(asked.stdout.starts_with(b"s"), "{asked:?}");
    }
    // Five requests of its own clients, twenty of curl's.
    let served = |picture: &str| -> u64 {
        let words: Vec<_> = picture.split_whitespace().collect();
        let rows = words
            .windows(3)
            .filter(|row| row[1].starts_with(['█', '░']));
        let served = rows.filter(|row| row[0].starts_with('s'));
        served.filter_map(|row| row[2].parse::<u64>().ok()).sum()
    };
    next(&|picture| served(picture) == 25);
    // As somebody at the keyboard ends it.
    terminal.stdin.take().unwrap().write_all(b"\x03").unwrap();
    while lines.next().is_some() {}
    assert_eq!(terminal.wait().unwrap().code(), Some(0));
}

#[test]
fn bad_options_are_one_line() {
    for (arguments, part) in [
        (&["--fabric", "paper"][..], "--fabric"),
        (&["--servers", "0"], "--servers"),
        (&["--requests", "many"], "--requests"),
        (&["--policy", "fair"], "--policy"),
        (&["--loss", "1.5"], "--loss"),
        (&["--fabric", "sim", "--backend", "xdp"], "--backend xdp"),
        (&["--backend", "xdp", "--loss", "0.1"], "--backend xdp"),
        (&["--fabric", "netns", "--loss", "0.1"], "--loss"),
        (&["--fabric", "sim", "--hold"], "--hold"),
        (&["--loss", "0.1", "--hold"], "--hold"),
        (&["--fabric", "sim", "--servers", "200"], "servers"),
        (&["--colour"], "--colour"),
    ] {
        let output = farm(arguments);
        let error = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {error}");
        // The choice of a fabric may be told before.
        let error: Vec<_> = error
            .lines()
            .filter(|line| !line.starts_with("fabric: "))
            .collect();
        assert!(
            error.len() == 1 && error[0].contains(part),
            "{arguments:?}: {error:?}"
        );
        assert!(output.stdout.is_empty());
    }
}

/// Two hosts, each with a cable to `relay`.
fn cables(relay: &Namespace) -> [(Namespace, Ipv4Addr); 2] {
    [("r0", 1), ("r1", 2)].map(|(port, number)| {
        let host = Namespace::new().unwrap();
        let end = |namespace, name| End {
            namespace,
            name,
            hardware_address: None,
        };
        connect(end(&host, "e0"), end(relay, port), 1500).unwrap();
        let address = Ipv4Addr::new(10, 77, 0, number);
        host.add_address("e0", address, 24).unwrap();
        host.set_up("e0").unwrap();
        relay.set_up(port).unwrap();
        (host, address)
    })
}

#[test]
fn a_relay_repeats_what_it_carries() {
    if !common::available("a_relay_repeats_what_it_carries", &[]) {
        return;
    }
    let between = Namespace::new().unwrap();
    let [(near, _), (far, address)] = cables(&between);
    let mut command = Command::new(common::example("relay"));
    command
        .args(["--between", "r0", "r1", "--duplicate", "1"])
        .stderr(Stdio::piped());
    let relay = between.run(|| command.spawn()).unwrap().unwrap();
    let receiver = far.run(|| UdpSocket::bind((address, 0))).unwrap().unwrap();
    let wait = Duration::from_millis(50);
    receiver.set_read_timeout(Some(wait)).unwrap();
    let to = receiver.local_addr().unwrap();
    let sender = near
        .run(|| UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)))
        .unwrap()
        .unwrap();
    let mut byte = [0];
    // Until the relay is up, and the hosts know each other's hardware addresses.
    let up = (0..100).any(|_| {
        sender.send_to(&[0], to).unwrap();
        receiver.recv(&mut byte).is_ok()
    });
    assert!(up, "the relay carries nothing");
    receiver.set_read_timeout(None).unwrap();
    let mut copies = [0; 20];
    for number in 1..20 {
        sender.send_to(&[number], to).unwrap();
    }
    while copies[19] < 2 {
        receiver.recv(&mut byte).unwrap();
        copies[usize::from(byte[0])] += 1;
    }
    assert_eq!(copies[1..], [2; 19]);
    kill(Pid::from_raw(relay.id() as i32), Signal::SIGTERM).unwrap();
    let output = relay.wait_with_output().unwrap();
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{error}");
    assert!(error.contains(" 0 lost, 0 late, "), "{error}");
    assert!(!error.contains(" 0 twice"), "{error}");
}

#[test]
fn every_program_has_help() {
    for name in [
        "axum_farm",
        "direct",
        "dissect",
        "farm",
        "inic",
        "redirector",
        "relay",
    ] {
        let output = Command::new(common::example(name))
            .arg("--help")
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(0), "{name}");
        assert!(
            String::from_utf8(output.stdout)
                .unwrap()
                .contains(&format!("Usage: {name}")),
            "{name}"
        );
    }
}

#[test]
fn inic_checks_its_file() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("inic.toml");
    let text = include_str!("minimal.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let output = Command::new(common::example("inic"))
            .arg("--check")
            .arg("--config")
            .arg(&file)
            .output()
            .unwrap();
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let name = file.display();
    assert_eq!(
        check(text),
        (Some(0), format!("{name}: ok\n"), String::new())
    );
    let (status, output, error) = check(&text.replace("10.99.0.11", "10.99.0.256"));
    assert_eq!((status, output.as_str()), (Some(2), ""));
    assert_eq!(
        error,
        format!(
            "{name}: synch.address: invalid IPv4 address syntax: four numbers, as in `10.77.0.11` (line 4)\n"
        )
    );
    let content = "url_map = [{ path = \"/a\", servers = [\"s9\"] }]\n[session]\ncookie = \"C\"\n";
    let (status, _, error) = check(&format!("{text}{content}"));
    assert_eq!((status, error), (Some(0), String::new()));
    for (from, to, expected) in [
        (
            "/a",
            "a",
            "url_map[0].path: `a` is not a path: it must begin",
        ),
        (
            "[session]",
            "[admin]",
            "admin.cookie: unknown field `cookie`, expected `listen` (line 8)",
        ),
    ] {
        let (status, _, error) = check(&format!("{text}{}", content.replace(from, to)));
        assert_eq!(status, Some(2));
        assert!(error.starts_with(&format!("{name}: {expected}")), "{error}");
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

#[test]
fn axum_servers_in_one_process_answer_and_move_their_connections() {
    let output = Command::new(common::example("axum_farm"))
        .args(["--fabric", "process", "--listen", "127.0.0.1:0"])
        .args(["--visits", "90", "--json"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{error}");
    let visits: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(visits["requests"], 90);
    assert!(visits["moves"].as_u64() > Some(0), "{visits}");
    let answered = visits["answered"].as_object().unwrap();
    assert_eq!(answered.values().filter_map(Value::as_u64).sum::<u64>(), 90);
}
