//! The systemd unit, and the script that makes root unnecessary. Says so and does nothing where a program or a right is missing.

#![allow(missing_docs, reason = "a test")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/site.rs"]
mod site;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use common::{available, example, skipped, xdp_available};
use ipos_lab::{Farm, FarmPlan};
use nix::sys::signal::Signal;
use site::{Running, configuration, curl, wait_until};

const PACKAGING: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../packaging");
/// A user without any privilege: nobody.
const NOBODY: u32 = 65_534;

fn script(arguments: &[&str]) -> Output {
    let mut command = Command::new(Path::new(PACKAGING).join("set-capabilities"));
    command.args(arguments).output().unwrap()
}

/// A copy of `inic` in a directory that everybody may look into.
fn program(directory: &Path) -> PathBuf {
    let program = directory.join("inic");
    fs::copy(example("inic"), &program).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
    program
}

#[test]
fn systemd_takes_the_units() {
    if Command::new("systemd-analyze")
        .arg("--version")
        .output()
        .is_err()
    {
        skipped("systemd_takes_the_units", "there is no systemd-analyze");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    for (name, extension) in [("inic", Some("xdp.conf")), ("redirector", None)] {
        let file = format!("{name}.service");
        let unit = fs::read_to_string(Path::new(PACKAGING).join(&file)).unwrap();
        // It looks whether the program is there.
        let program = example(name);
        let installed = format!("/usr/local/sbin/{name}");
        assert!(unit.contains(&installed));
        let unit = unit.replace(&installed, program.to_str().unwrap());
        let path = directory.path().join(&file);
        fs::write(&path, unit).unwrap();
        if let Some(extension) = extension {
            let extensions = directory.path().join(format!("{file}.d"));
            fs::create_dir(&extensions).unwrap();
            let from = Path::new(PACKAGING).join(extension);
            fs::copy(from, extensions.join(extension)).unwrap();
        }
        let output = Command::new("systemd-analyze")
            .args(["verify", "--man=no", "--recursive-errors=no"])
            .arg(&path)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        let about: Vec<_> = told.lines().filter(|line| line.contains(name)).collect();
        assert!(output.status.success() && about.is_empty(), "{told}");
    }
}

#[test]
fn bad_use_of_the_script_is_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let open = program(directory.path());
    fs::set_permissions(&open, fs::Permissions::from_mode(0o777)).unwrap();
    let open = open.to_str().unwrap();
    for (arguments, expected) in [
        (&[][..], "usage: "),
        (&["--root", "x"], "--root: unknown option"),
        (
            &["/nonexistent/inic"],
            "/nonexistent/inic: there is no such file",
        ),
        (
            &[open],
            &format!("{open}: its group or everybody may write to it"),
        ),
    ] {
        let output = script(arguments);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(
            told.starts_with(&format!("set-capabilities: {expected}")),
            "{told}"
        );
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}

#[test]
fn a_device_without_root() {
    without_root("a_device_without_root", &[], "");
}

/// Its memory is beyond what a process may lock.
#[test]
fn a_device_on_af_xdp_without_root() {
    let test = "a_device_on_af_xdp_without_root";
    if !available(test, &[]) || !xdp_available(test) {
        return;
    }
    without_root(test, &["--xdp"], "backend = \"xdp\"\n");
}

/// With the script's capabilities a device of nobody's serves; systemd is told when it does.
fn without_root(test: &str, options: &[&str], backend: &str) {
    if !available(test, &["curl", "setcap", "getcap"]) {
        return;
    }
    let root = site::directory();
    let inic = program(root.path());
    let path = inic.to_str().unwrap();
    let given = script(&[options, &[path]].concat());
    if !given.status.success() {
        let why = String::from_utf8_lossy(&given.stderr);
        skipped(test, why.trim());
        return;
    }
    let told = String::from_utf8(given.stdout).unwrap();
    assert!(told.contains("cap_net_raw"), "{told}");
    let farm = Farm::build(FarmPlan {
        servers: 1,
        ..FarmPlan::default()
    })
    .unwrap();
    let server = &farm.servers()[0];
    let file = root.path().join("inic.toml");
    let configuration = format!("{backend}{}[admin]\n", configuration(server));
    fs::write(&file, configuration).unwrap();
    let systemd = root.path().join("notify");
    let notified = UnixDatagram::bind(&systemd).unwrap();
    fs::set_permissions(&systemd, fs::Permissions::from_mode(0o777)).unwrap();
    let mut command = nobodys(&inic, &file);
    command.env("NOTIFY_SOCKET", &systemd);
    let log = root.path().join("inic.err");
    let namespace = server.namespace();
    if namespace
        .run(|| {
            Command::new("true")
                .uid(NOBODY)
                .gid(NOBODY)
                .status()
                .is_err()
        })
        .unwrap()
    {
        skipped(test, "this user namespace has one user only");
        return;
    }
    let running = Running::start(namespace, command, &log);
    let logged = || fs::read_to_string(&log).unwrap();
    wait_until("the device is up", || {
        assert!(!logged().contains("CAP_"), "{}", logged());
        logged().contains("device up")
    });
    notified.set_read_timeout(Some(site::PATIENCE)).unwrap();
    let mut message = [0; 64];
    let length = notified.recv(&mut message).unwrap();
    assert_eq!(&message[..length], b"READY=1\n");
    let health = curl(
        namespace,
        &[
            "--retry-connrefused",
            "--retry",
            "9",
            "http://127.0.0.1:9180/healthz",
        ],
    );
    assert!(health.contains("\"server\":\"s1\""), "{health}");
    assert_eq!(running.end(Signal::SIGTERM).code(), Some(0));
    // Taken back, it says what is missing.
    assert!(script(&["--remove", path]).status.success());
    let refused = |expected: &str| {
        let output = site::output(namespace, &mut nobodys(&inic, &file));
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{told}");
        assert!(told.contains(expected), "{told}");
    };
    refused("needs CAP_NET_");
    if !backend.is_empty() {
        let most = ["cap_net_raw,cap_net_admin,cap_bpf+ep", path];
        assert!(
            Command::new("setcap")
                .args(most)
                .status()
                .unwrap()
                .success()
        );
        refused("MiB of locked memory");
    }
}

/// `inic` as nobody, with the locked memory that a login has.
fn nobodys(inic: &Path, file: &Path) -> Command {
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -l 64; exec \"$0\" --config \"$1\""])
        .args([inic, file])
        .uid(NOBODY)
        .gid(NOBODY);
    command
}
