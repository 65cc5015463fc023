//! The farm key: three unmodified nginx behind three devices with key files, while curl and wrk ask them. Needs the right to make
//! network namespaces and those programs; says so and does nothing without.

#![allow(missing_docs, reason = "a test")]

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/site.rs"]
mod site;
#[path = "../operations/traffic.rs"]
mod traffic;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use common::available;
use ipos_lab::{Farm, FarmPlan, Server};
use nix::sys::signal::Signal;
use site::{Site, all_see_all, curl, migrated, nginx_sites, noise, url, wait_until};
use traffic::{Load, while_downloading};

/// What the tests need beside a laboratory.
const PROGRAMS: [&str; 3] = ["nginx", "curl", "wrk"];
/// Bytes of the file that is downloaded.
const BIG: usize = 8_000_000;

/// A farm whose servers have key files.
struct Bed<'a> {
    farm: &'a Farm,
    sites: Vec<Site<'a>>,
    directory: &'a Path,
    /// What `/big.bin` and `/slow.bin` are.
    big: Vec<u8>,
}

impl Bed<'_> {
    fn key_file(&self, server: usize) -> PathBuf {
        let name = self.sites[server].server.name();
        self.directory.join(name).join("farm.key")
    }

    /// Has a device read its configuration again, and waits for the log to say `expected`.
    fn reload(&self, server: usize, expected: &str) {
        let site = &self.sites[server];
        let before = site.logged(expected);
        site.signal_inic(Signal::SIGHUP);
        wait_until(expected, || site.logged(expected) > before);
    }

    /// Gives a device that runs these keys.
    fn rekey(&self, server: usize, keys: &[u8]) {
        write_keys(&self.key_file(server), keys);
        self.reload(server, "reloaded: security.farm_key_file");
    }

    /// Frames that a device has dropped for a reason.
    fn dropped(&self, server: usize, reason: &str) -> u64 {
        let namespace = self.sites[server].server.namespace();
        let metrics = curl(namespace, &["http://127.0.0.1:9180/metrics"]);
        let label = format!("\"{reason}\"");
        let mut lines = metrics.lines().filter(|line| line.contains(&label));
        let line = lines
            .next()
            .unwrap_or_else(|| panic!("{reason} is not counted"));
        let (_, value) = line.rsplit_once(' ').unwrap();
        value.parse::<f64>().unwrap() as u64
    }

    /// Who answers six clients of a server.
    fn answers(&self, server: usize) -> Vec<String> {
        let target = url(self.sites[server].server, "/");
        let ask = |_| curl(self.farm.client(), &[&target]);
        (0..6).map(ask).collect()
    }
}

/// Keys of these numbers, one a line, for their owner alone.
fn write_keys(file: &Path, keys: &[u8]) {
    let lines = keys
        .iter()
        .map(|key| format!("{key:02x}").repeat(32) + "\n");
    fs::write(file, lines.collect::<String>()).unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o600)).unwrap();
}

fn configuration(server: &Server) -> String {
    site::configuration(server) + "[admin]\n[security]\nfarm_key_file = \"farm.key\"\n"
}

#[test]
fn a_farm_with_a_key() {
    if !available("a_farm_with_a_key", &PROGRAMS) {
        return;
    }
    let root = site::directory();
    let big = noise(BIG, 1);
    let big_file = root.path().join("big.bin");
    fs::write(&big_file, &big).unwrap();
    let farm = Farm::build(FarmPlan::default()).unwrap();
    // The third server has another farm's key.
    for (server, key) in farm.servers().iter().zip([1, 1, 9]) {
        let directory = root.path().join(server.name());
        fs::create_dir(&directory).unwrap();
        write_keys(&directory.join("farm.key"), &[key]);
    }
    let mut bed = Bed {
        farm: &farm,
        sites: nginx_sites(farm.servers(), root.path(), &big_file, configuration),
        directory: root.path(),
        big,
    };
    wait_until("the first two see each other", || {
        all_see_all(&bed.sites[..2])
    });

    another_key_is_another_farm(&bed);
    the_right_key_joins(&bed);
    the_key_changes_under_load(&bed);
    a_file_that_others_may_read(&bed);

    for site in &mut bed.sites {
        assert_eq!(site.end_inic(Signal::SIGTERM).code(), Some(0));
        assert_eq!(site.logged("panicked"), 0);
        assert_eq!(site.logged("no farm key"), 0);
    }
}

/// It serves its clients itself, and nobody else's.
fn another_key_is_another_farm(bed: &Bed) {
    wait_until("reports of the other farm are dropped", || {
        (0..3).all(|server| bed.dropped(server, "tag") > 0)
    });
    let mut answers = bed.answers(0);
    answers.sort();
    answers.dedup();
    assert_eq!(answers, ["s1", "s2"]);
    assert_eq!(bed.answers(2), ["s3"; 6]);
    assert!(!bed.sites[2].sees("s1") && !bed.sites[0].sees("s3"));
}

fn the_right_key_joins(bed: &Bed) {
    bed.rekey(2, &[1]);
    wait_until("the servers see each other", || all_see_all(&bed.sites));
    let ask = |_| curl(bed.farm.client(), &[&url(bed.sites[2].server, "/")]);
    let (first, rest) = (&bed.sites[2], &bed.sites[..2]);
    let answered: Vec<String> = (0..6).map(ask).collect();
    assert!(
        rest.iter()
            .any(|site| answered.contains(&site.server.name().to_owned()))
    );
    assert!(answered.contains(&first.server.name().to_owned()));
    migrated(&bed.sites, |_| {
        curl(bed.farm.client(), &[&url(bed.sites[0].server, "/")])
    });
}

/// The new key is accepted everywhere, signs everywhere, and is alone then. No frame is refused and no client notices.
fn the_key_changes_under_load(bed: &Bed) {
    let refused = || {
        ["tag", "no-tag", "no-key", "replayed"].map(|reason| {
            (0..3)
                .map(|server| bed.dropped(server, reason))
                .sum::<u64>()
        })
    };
    let before = refused();
    let load = Load::start(bed, bed.sites[0].server, "/page");
    while_downloading(bed, bed.sites[0].server, || {
        for keys in [&[1, 2][..], &[2, 1], &[2]] {
            for server in 0..3 {
                bed.rekey(server, keys);
            }
        }
    });
    assert!(load.end() > 0);
    assert_eq!(refused(), before);
    assert!(all_see_all(&bed.sites));
}

/// It is refused where the device runs, and where it is to start.
fn a_file_that_others_may_read(bed: &Bed) {
    let file = bed.key_file(0);
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    let what = format!(
        "inic.toml: security.farm_key_file: `{file}` is not its owner's alone (mode 0644): `chmod 600 {file}` (line ",
        file = file.display()
    );
    bed.reload(0, &what);
    assert_eq!(
        bed.sites[0].logged("not reloaded, everything stays as it was: "),
        1
    );
    assert_eq!(bed.answers(0).len(), 6);
    let mut check = Command::new(common::example("inic"));
    check.arg("--config").arg(file.with_file_name("inic.toml"));
    let checked = check.arg("--check").output().unwrap();
    assert_eq!(checked.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&checked.stderr).contains(&what));
    fs::set_permissions(&file, Permissions::from_mode(0o600)).unwrap();
    bed.reload(0, "reloaded: nothing has changed");
}
