//! What concerns whole processes, so each case runs in one of its own, which this program starts
//! as itself with the case's name in an environment variable:
//! an unprivileged user's laboratory, and what a killed one leaves behind.

use std::collections::HashSet;
use std::fs;
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Stdio};

use ipos_backend::Backend;
use ipos_backend_pnet::{OpenError, PnetBackend, PnetOptions};
use ipos_lab::{
    Farm, FarmPlan, LabError, Lan, Namespace, Privilege, available, enter_user_namespace, privilege,
};

/// Tells a process which case it is.
const CASE: &str = "IPOS_LAB_CASE";
/// Nobody's user and group number.
const NOBODY: u32 = 65_534;

fn main() {
    match std::env::var(CASE).as_deref() {
        Ok("victim") => victim(),
        Ok("unprivileged") => unprivileged(),
        Ok("threads") => threads(),
        Ok("raw socket") => raw_socket(),
        Ok(case) => panic!("no case {case}"),
        Err(_) => {
            for (name, test) in [
                (
                    "a_killed_process_leaves_nothing_behind",
                    a_killed_process_leaves_nothing_behind as fn() -> bool,
                ),
                (
                    "an_unprivileged_user_has_a_laboratory",
                    as_nobody_unprivileged,
                ),
                ("opening_a_port_needs_privilege", as_nobody_raw_socket),
                ("a_process_with_threads_is_told_so", with_threads),
            ] {
                let end = if test() { "ok" } else { "skipped" };
                println!("test {name} ... {end}");
            }
        }
    }
}

/// This program as `case`.
fn process(case: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.env(CASE, case);
    command
}

/// Makes `command` run as a user without any privilege. Only root can.
fn as_nobody(command: &mut Command) -> &mut Command {
    command.uid(NOBODY).gid(NOBODY)
}

/// Whether this process can become another user; says so if not.
fn is_root() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap();
    let root = fs::metadata("/proc/self").unwrap().uid() == 0
        && map.split_whitespace().eq(["0", "0", "4294967295"]);
    if !root {
        eprintln!("only root can become a user without privilege");
    }
    root
}

fn expect_success(status: io::Result<ExitStatus>) -> bool {
    let status = status.unwrap();
    assert!(status.success(), "{status}");
    true
}

// A killed process

/// A farm, whose namespaces are written to standard output; then waits for its end.
fn victim() {
    let farm = Farm::build(FarmPlan::default()).unwrap();
    let servers = farm.servers().iter().map(|server| server.namespace());
    for namespace in servers.chain([farm.client(), farm.switch()]) {
        namespace.spawn("inside", std::thread::park).unwrap();
        println!("{}", fs::read_link(namespace.path()).unwrap().display());
    }
    println!("end");
    io::stdout().flush().unwrap();
    loop {
        std::thread::park();
    }
}

fn a_killed_process_leaves_nothing_behind() -> bool {
    if !available("a_killed_process_leaves_nothing_behind") {
        return false;
    }
    let links = links();
    let mut child = process("victim").stdout(Stdio::piped()).spawn().unwrap();
    let namespaces = namespaces_of(&mut child);
    assert_eq!(namespaces.len(), 5, "three servers, the client, the switch");
    assert!(namespaces.is_subset(&held()), "while it lives");
    // SIGKILL.
    child.kill().unwrap();
    child.wait().unwrap();
    let left: Vec<_> = namespaces.intersection(&held()).cloned().collect();
    assert_eq!(left, Vec::<PathBuf>::new(), "after the kill");
    assert_eq!(self::links(), links, "this namespace's links");
    true
}

fn namespaces_of(child: &mut Child) -> HashSet<PathBuf> {
    BufReader::new(child.stdout.as_mut().unwrap())
        .lines()
        .map(Result::unwrap)
        .take_while(|line| line != "end")
        .map(PathBuf::from)
        .collect()
}

/// This namespace's interfaces, from a list that names nothing else.
fn links() -> Vec<String> {
    let list = fs::read_to_string("/proc/thread-self/net/dev").unwrap();
    let names = list.lines().filter_map(|line| line.split_once(':'));
    names.map(|(name, _)| name.trim().to_owned()).collect()
}

/// Every network namespace that a process, a thread, an open file or a mount holds.
fn held() -> HashSet<PathBuf> {
    let list = |path: PathBuf| {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let mut held: HashSet<PathBuf> = HashSet::new();
    for process in list("/proc".into()) {
        let threads = list(process.join("task"));
        let threads = threads.iter().map(|thread| thread.join("ns/net"));
        let files = list(process.join("fd"));
        // Of processes that end meanwhile, or that nobody may look into, nothing is read.
        held.extend(
            threads
                .chain(files)
                .filter_map(|path| fs::read_link(path).ok()),
        );
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    held.extend(mounts.split_whitespace().map(PathBuf::from));
    held.retain(|path| path.to_string_lossy().starts_with("net:["));
    held
}

// An unprivileged user

fn as_nobody_unprivileged() -> bool {
    let mut process = process("unprivileged");
    match privilege() {
        // Already a user without privilege.
        Ok(Privilege::UserNamespace) | Err(_) => expect_success(process.status()),
        Ok(Privilege::Direct) => is_root() && expect_success(as_nobody(&mut process).status()),
    }
}

/// A user with no right at all: enters a user namespace, builds a farm and uses it.
fn unprivileged() {
    match privilege() {
        Ok(privilege) => assert_eq!(privilege, Privilege::UserNamespace),
        Err(unavailable) => {
            eprintln!("an_unprivileged_user_has_a_laboratory: not on this machine: {unavailable}");
            return;
        }
    }
    assert!(Namespace::new().is_err(), "not before");
    enter_user_namespace().unwrap();
    assert_eq!(privilege().unwrap(), Privilege::Direct);

    let farm = Farm::build(FarmPlan::default()).unwrap();
    let [one, two, _] = farm.servers() else {
        panic!("three servers are the default");
    };
    let open = |server: &ipos_lab::Server| {
        let port = || PnetBackend::open(Lan::B.interface(), PnetOptions::default());
        server.namespace().run(port).unwrap().unwrap()
    };
    let (mut sender, mut receiver) = (open(one), open(two));
    let mut frame = [0x55; 100];
    frame[..6].copy_from_slice(&two.hardware_address(Lan::B));
    frame[6..12].copy_from_slice(&one.hardware_address(Lan::B));
    frame[12..14].copy_from_slice(&[0, 7]);
    // Malformed IPv4 passes too: netfilter is off on these bridges.
    let mut broken = frame;
    broken[12..14].copy_from_slice(&[8, 0]);
    for frame in [frame, broken] {
        sender.buffer().unwrap()[..frame.len()].copy_from_slice(&frame);
        sender.commit(frame.len());
        sender.flush().unwrap();
        let mut got = Vec::new();
        while got.is_empty() {
            receiver.wait(None).unwrap();
            receiver
                .receive(1, &mut |frame| got.extend_from_slice(frame.bytes()))
                .unwrap();
        }
        assert_eq!(got, frame);
    }
}

// Errors

fn with_threads() -> bool {
    expect_success(process("threads").status())
}

fn threads() {
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let other = std::thread::spawn(move || stopped.recv());
    let error = enter_user_namespace().unwrap_err();
    assert!(matches!(error, LabError::Threads), "{error}");
    drop(stop);
    let _ = other.join();
}

fn as_nobody_raw_socket() -> bool {
    if !available("opening_a_port_needs_privilege") || !is_root() {
        return false;
    }
    let farm = Farm::build(FarmPlan::default()).unwrap();
    let mut command = process("raw socket");
    let place = farm.servers()[0].namespace();
    let status = place.run(|| as_nobody(&mut command).status());
    expect_success(status.unwrap())
}

fn raw_socket() {
    let Err(error) = PnetBackend::open("b0", PnetOptions::default()) else {
        panic!("nobody opened a raw socket");
    };
    assert!(matches!(error, OpenError::Privilege { .. }), "{error}");
}
