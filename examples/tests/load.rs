//! A short run of `scripts/load`: a farm under load that is disturbed. Says so and does nothing where a program or a right is
//! missing.

#![allow(missing_docs, reason = "a test")]

mod common;

use std::process::Command;

use common::{available, example, skipped};
use serde_json::Value;

const SCRIPT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../scripts/load");
const TEST: &str = "a_short_load_run";
/// One of each; how long an interval is, and all of them in minutes.
const DISTURBANCES: [&str; 4] = ["drain", "kill", "migrate", "reload"];
const INTERVAL_S: &str = "8";
const MINUTES: &str = "0.54";

/// The script needs namespaces with names: a right to mount that a user namespace alone does not give.
fn named_namespaces() -> bool {
    let name = format!("ipos-load-{}", std::process::id());
    let ip = |verb| Command::new("ip").args(["netns", verb, &name]).output();
    match ip("add") {
        Ok(added) if added.status.success() => {
            ip("del").expect("ip has just been started");
            true
        }
        Ok(added) => {
            let told = String::from_utf8_lossy(&added.stderr);
            skipped(TEST, told.lines().last().unwrap_or("ip netns add fails"));
            false
        }
        Err(error) => {
            skipped(TEST, &error.to_string());
            false
        }
    }
}

#[test]
fn a_short_load_run() {
    let programs = ["ip", "ethtool", "nginx", "wrk", "python3"];
    if !available(TEST, &programs) || !named_namespaces() {
        return;
    }
    let mut script = Command::new(SCRIPT);
    script.args([MINUTES, "--interval", INTERVAL_S, "--short", "--json"]);
    script.args(["--only", &DISTURBANCES.join(",")]);
    let run = script.env("INIC", example("inic")).output().unwrap();
    let told = String::from_utf8_lossy(&run.stderr);
    let report = String::from_utf8_lossy(&run.stdout);
    assert!(run.status.success(), "{}\n{told}{report}", run.status);
    let report: Value = serde_json::from_str(&report).unwrap();
    let number = |value: &Value| value.as_u64().unwrap_or_default();
    for disturbance in DISTURBANCES {
        let done = number(&report["disturbances"][disturbance]);
        assert_eq!(done, 1, "{disturbance}: {report}");
    }
    for job in report["wrk"].as_array().unwrap() {
        assert!(number(&job["requests"]) > 0, "{job}");
    }
    assert!(number(&report["checked_requests"]) > 0, "{report}");
    for server in report["servers"].as_array().unwrap() {
        for way in ["migrated_out", "migrated_in"] {
            assert!(number(&server[way]) > 0, "{way}: {server}");
        }
    }
}
