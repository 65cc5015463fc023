//! Sessions: the stack's cookie in the hands of curl.

use std::fs;
use std::thread;
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::site::{self, wait_until};
use crate::{Bed, NAMES};

const URL: &str = "http://app.example/";
/// Three medium intervals.
const TOLD: Duration = Duration::from_secs(3);

/// A request with the jar to `server`; who answers.
fn ask(bed: &Bed, server: usize) -> String {
    let jar = bed.file("jar");
    bed.curl(server, URL, &["-b", &jar, "-c", &jar])
}

/// The session's id in the jar.
fn id(bed: &Bed) -> String {
    let jar = fs::read_to_string(bed.file("jar")).unwrap();
    let cookie = jar.lines().find(|line| line.contains("IPOSSESSION"));
    let id = cookie.and_then(|line| line.split_whitespace().last());
    id.expect("a cookie").to_owned()
}

/// nginx knows nothing of it.
pub fn the_stack_sets_the_cookie(bed: &Bed) {
    let head = bed.curl(0, URL, &["-D", "-", "-o", "/dev/null"]);
    let cookies: Vec<_> = head
        .lines()
        .filter(|l| l.starts_with("Set-Cookie: "))
        .collect();
    let [cookie] = &cookies[..] else {
        panic!("{head}");
    };
    let cookie = cookie.strip_prefix("Set-Cookie: IPOSSESSION=").unwrap();
    let (id, attributes) = cookie.split_once("; ").unwrap();
    assert_eq!(id.len(), 32);
    assert!(id.bytes().all(|digit| digit.is_ascii_hexdigit()));
    assert_eq!(
        attributes.trim_end(),
        "Path=/; Max-Age=600; SameSite=Lax; HttpOnly"
    );
    // Who has one is not given another.
    let with = format!("Cookie: IPOSSESSION={id}");
    let head = bed.curl(0, URL, &["-H", &with, "-D", "-", "-o", "/dev/null"]);
    assert!(!head.contains("Set-Cookie"), "{head}");
}

/// The second embodiment: an answer of a connection that another server has opened names the address of the one that answers. A
/// client that understands it goes there.
pub fn answers_name_the_direct_address(bed: &Bed) {
    let mut others = 0;
    for _ in 0..6 {
        let answer = bed.curl(0, URL, &["-w", " %header{x-ipos-server}"]);
        let (name, direct) = answer.split_once(' ').unwrap();
        let at = NAMES.iter().position(|known| *known == name).unwrap();
        if at == 0 {
            assert_eq!(direct, "");
            continue;
        }
        assert_eq!(direct, format!("{}:80", bed.address(at)));
        others += 1;
    }
    assert!(others > 0, "the policy never took another server");
}

/// The example client takes the hint: all its connections but the first are with the server that has it.
pub fn a_client_goes_to_its_server_directly(bed: &Bed) {
    let client = crate::common::example("direct");
    let first = format!("{}:80", bed.address(0));
    let url = [URL, "--connect", &first, "--requests", "3"];
    for _ in 0..6 {
        let said = bed.run(&client.display().to_string(), &url);
        let lines: Vec<_> = said.lines().collect();
        let (told, then) = lines.split_first().expect("a line for each request");
        assert!(
            told.starts_with(&format!("{first}: 200 OK, 2 bytes")),
            "{said}"
        );
        if let Some((_, direct)) = told.split_once("its server is at ") {
            assert_ne!(direct, first);
            assert_eq!(then.len(), 2, "{said}");
            let expected = format!("{direct}: 200 OK, 2 bytes");
            assert!(then.iter().all(|line| *line == expected), "{said}");
            return;
        }
    }
    panic!("the policy never took another server");
}

/// A second connection with the cookie, at any server, lands on the one that has the session.
pub fn every_server_knows_the_session(bed: &Bed) {
    let first = ask(bed, 0);
    let session = id(bed);
    for _ in 0..3 {
        for server in 0..NAMES.len() {
            assert_eq!(ask(bed, server), first);
        }
    }
    assert_eq!(id(bed), session, "the cookie stays as it is");
}

/// The device of the server that has the session is started again, as for an upgrade or by a watchdog: its application still has it.
pub fn a_session_outlives_a_device(bed: &mut Bed) {
    for signal in [Signal::SIGTERM, Signal::SIGKILL] {
        let first = ask(bed, 0);
        let at = NAMES.iter().position(|name| *name == first).unwrap();
        bed.sites[at].end_inic(signal);
        bed.sites[at].start_inic();
        bed.wait_for_all();
        // It asks nobody, and nobody asks it.
        let session = id(bed);
        wait_until("the session is given back", || {
            let map = "http://127.0.0.1:9180/tables?table=cookie-map";
            site::curl(bed.sites[at].server.namespace(), &[map]).contains(&session)
        });
        for server in 0..NAMES.len() {
            assert_eq!(ask(bed, server), first, "{signal}");
        }
    }
}

/// The server that has the session dies: the next request takes it to another one, and the map follows on all servers.
pub fn a_session_moves(bed: &mut Bed) {
    let first = ask(bed, 0);
    let session = id(bed);
    let dead = NAMES.iter().position(|name| *name == first).unwrap();
    bed.sites[dead].end_inic(Signal::SIGKILL);
    let alive: Vec<_> = (0..NAMES.len()).filter(|server| *server != dead).collect();
    for &server in &alive {
        wait_until("silence is noticed", || !bed.sites[server].sees(&first));
    }
    let second = ask(bed, alive[0]);
    assert_ne!(second, first);
    for _ in 0..3 {
        for &server in &alive {
            assert_eq!(ask(bed, server), second);
        }
    }
    // It comes back, and is told whose the session is now: within a medium interval.
    bed.sites[dead].start_inic();
    bed.wait_for_all();
    thread::sleep(TOLD);
    for server in 0..NAMES.len() {
        assert_eq!(ask(bed, server), second);
    }
    assert_eq!(id(bed), session, "the client notices nothing");
}
