//! The programs' command lines: a contract.

#![allow(missing_docs, reason = "a test")]

mod common;

use std::io::{BufRead, BufReader};
use std::process::{Command, Output, Stdio};

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

#[test]
fn bad_options_are_one_line() {
    for (arguments, part) in [
        (&["--fabric", "paper"][..], "--fabric"),
        (&["--servers", "0"], "--servers"),
        (&["--requests", "many"], "--requests"),
        (&["--policy", "fair"], "--policy"),
        (&["--loss", "1.5"], "--loss"),
        (&["--backend", "xdp"], "--backend xdp: not supported yet"),
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

#[test]
fn every_program_has_help() {
    for name in ["farm", "inic", "dissect"] {
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
    let text = r#"
name = "s1"
port_a = { interface = "a0", addresses = ["10.77.0.11"], prefix = 24 }
port_b = { interface = "b0", address = "10.88.0.11" }
synch = { interface = "c0", address = "10.99.0.11" }
listen = [{ address = "10.77.0.11:80", app = "127.0.0.1:8080" }]
"#;
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
        format!("{name}: synch.address: invalid IPv4 address syntax (line 5)\n")
    );
    let (status, _, error) = check(&format!("{text}\n[session]\ncookie = \"C\"\n"));
    assert_eq!(
        (status, error),
        (
            Some(2),
            format!("{name}: session: not supported yet (line 8)\n")
        )
    );
}
