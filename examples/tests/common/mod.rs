//! What the tests of programs share.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ipos_backend::interface;
use ipos_backend::memory::Side;
use ipos_backend_xdp::{Memory, MemoryOptions, OpenError, XdpBackend, XdpOptions};

/// Where the tests' programs come from.
const PACKAGES: &str = "nginx-light curl util-linux dnsmasq-base bind9-dnsutils openssl nghttp2-client wrk tshark iproute2 ethtool python3";

/// The example beside this test: `<target>/<profile>/examples/<name>`. A plain `cargo test` builds both; with `--test`,
/// `cargo build --examples` comes first.
pub fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a running program has a path");
    let profile = test
        .parent()
        .and_then(Path::parent)
        .expect("target/<profile>/deps/<test>");
    let program = profile.join("examples").join(name);
    assert!(
        program.exists(),
        "{} is missing: `cargo build -p ipos-examples --examples` first",
        program.display()
    );
    program
}

/// Says so on standard error, past the capture of the test harness.
pub fn skipped(test: &str, reason: &str) {
    // Without standard error there is nobody to tell.
    let _ = writeln!(std::io::stderr(), "{test}: skipped: {reason}");
}

/// Whether these programs and a laboratory are to be had; says which is not.
pub fn available(test: &str, programs: &[&str]) -> bool {
    for program in programs {
        // Any option does: what counts is whether it starts.
        let found = Command::new(program)
            .arg("-V")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if found.is_err() {
            skipped(
                test,
                &format!("there is no {program}: apt-get install {PACKAGES}"),
            );
            return false;
        }
    }
    ipos_lab::available(test)
}

/// Whether AF_XDP ports can be opened here; says why not. The rest of [`available`] is given.
#[allow(dead_code, reason = "not every test needs it")]
pub fn xdp_available(test: &str) -> bool {
    let pair = ipos_lab::Pair::new().expect("a laboratory is to be had");
    let opened = pair.at(Side::Near).run(|| {
        let memory = Memory::new(MemoryOptions::default()).expect("memory");
        XdpBackend::open(ipos_lab::Pair::INTERFACE, &memory, &XdpOptions::default()).map(drop)
    });
    match opened.expect("a laboratory is to be had") {
        Err(
            error @ (OpenError::Interface(interface::OpenError::Privilege { .. })
            | OpenError::LockedMemory { .. }),
        ) => {
            skipped(test, &error.to_string());
            false
        }
        opened => {
            opened.expect("a veth opens");
            true
        }
    }
}
