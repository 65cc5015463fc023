//! Sessions: the cookie in answers, and the cookie map.

mod answers;
#[path = "../common/mod.rs"]
mod common;
mod map;

use common::talk::*;
use common::{Client, Farm};
use ipos_core::ListenerId;
use ipos_core::config::{Config, Session};

/// What stands behind the id.
const ATTRIBUTES: &str = "; Path=/; SameSite=Lax; HttpOnly";

/// Servers that keep what reaches them, and have sessions. They have been up for long enough to adopt some.
fn farm(servers: u8) -> Farm {
    farm_with(servers, |_| {})
}

fn farm_with(servers: u8, change: impl Fn(&mut Config)) -> Farm {
    let mut farm = Farm::with(servers, |server, config| {
        config.balance.activity_threshold.connections = u32::MAX;
        config.content.session = Some(Session::new("IPOS", [server + 1; 32]));
        change(config);
    });
    farm.run(ms(3_000));
    farm
}

fn connect(farm: &mut Farm, server: u8) -> Client {
    let used: u64 = (farm.devices.iter().map(|d| d.counters().frames)).sum();
    farm.connect(server, 1_000 + used as u16)
}

fn get(cookie: Option<&str>) -> Vec<u8> {
    let cookie = cookie.map(|id| format!("Cookie: a=b; IPOS={id}\r\n"));
    let head = format!("GET / HTTP/1.1\r\n{}\r\n", cookie.unwrap_or_default());
    head.into_bytes()
}

/// What the client gets, all of which it acknowledges; and whether the server has closed.
fn receive(farm: &mut Farm, client: &mut Client) -> (Vec<u8>, bool) {
    let (mut got, mut ended) = (vec![], false);
    loop {
        let before = client.ack;
        for sent in farm.take(client) {
            assert!(!sent.header.rst, "reset");
            if sent.header.sequence_number == client.ack.raw() && !ended {
                ended = sent.header.fin;
                client.ack += sent.payload.len() as u32 + u32::from(ended);
                got.extend(sent.payload);
            }
        }
        if client.ack == before {
            return (got, ended);
        }
        farm.send(client, "A", &[]);
    }
}

/// The ids that an answer gives, and the answer without their lines.
fn without_cookies(answer: &[u8]) -> (Vec<String>, Vec<u8>) {
    let text: String = answer.iter().map(|b| char::from(*b)).collect();
    let mut parts = text.split("Set-Cookie: IPOS=");
    let mut rest = parts.next().unwrap_or_default().to_string();
    let ids = parts.map(|part| {
        let (id, behind) = part.split_at(32);
        let behind = behind.strip_prefix(ATTRIBUTES).expect("the attributes");
        let behind = behind.strip_prefix('\r').unwrap_or(behind);
        rest += behind.strip_prefix('\n').expect("the line's end");
        id.to_string()
    });
    let ids = ids.collect();
    (ids, rest.chars().map(|c| c as u8).collect())
}

/// A request with this cookie, and its answer: who serves it, and the id that it gives.
fn exchange(farm: &mut Farm, client: &mut Client, cookie: Option<&str>) -> (usize, Option<String>) {
    let request = get(cookie);
    farm.send(client, "PA", &request);
    client.seq += request.len() as u32;
    farm.run(ms(5));
    let [bound] = alive(farm, client)[..] else {
        panic!("one server has the connection")
    };
    assert_eq!(farm.read(bound), request);
    receive(farm, client);
    farm.write(bound, RESPONSE);
    let (mut ids, answer) = without_cookies(&receive(farm, client).0);
    assert_eq!(answer, RESPONSE);
    assert!(ids.len() <= 1);
    at_rest(farm, bound);
    farm.run(ms(150));
    (bound.0, ids.pop())
}

/// The same on a connection of its own.
fn visit(farm: &mut Farm, server: u8, cookie: Option<&str>) -> (usize, Option<String>) {
    let mut client = connect(farm, server);
    let found = exchange(farm, &mut client, cookie);
    farm.send(&client, "RA", &[]);
    found
}

/// A session that this server has begun.
fn begin(farm: &mut Farm, server: u8) -> String {
    let (at, id) = visit(farm, server, None);
    assert_eq!(at, usize::from(server));
    id.expect("a session")
}

fn holder(farm: &Farm, at: usize, id: &str) -> Option<String> {
    let mut sessions = farm.devices[at].sessions(farm.now);
    let found = sessions.find(|(session, _, _)| *session == id.as_bytes());
    found.map(|(_, server, _)| server.to_string())
}

/// All servers that live agree on who has the session.
#[track_caller]
fn assert_all_know(farm: &Farm, id: &str, server: Option<&str>) {
    for at in (0..farm.devices.len()).filter(|at| !farm.dead[*at]) {
        assert_eq!(holder(farm, at, id).as_deref(), server, "at s{}", at + 1);
    }
}

fn kill(farm: &mut Farm, at: usize) {
    farm.dead[at] = true;
    farm.run(ms(700));
}

fn drain(farm: &mut Farm, at: usize) {
    let now = farm.now;
    farm.devices[at].drain(now, true);
    farm.pump();
}

#[test]
fn a_session_stays_with_its_server_wherever_its_client_connects() {
    let mut farm = farm(4);
    let id = begin(&mut farm, 2);
    for server in 0..4 {
        assert_eq!(visit(&mut farm, server, Some(&id)), (2, None));
    }
    // On one connection as well, which moves for it.
    let mut client = connect(&mut farm, 0);
    assert_eq!(exchange(&mut farm, &mut client, None).0, 0);
    assert_eq!(exchange(&mut farm, &mut client, Some(&id)), (2, None));
    let other = begin(&mut farm, 3);
    assert_eq!(exchange(&mut farm, &mut client, Some(&other)), (3, None));
    assert_eq!(exchange(&mut farm, &mut client, Some(&id)), (2, None));
    assert_all_know(&farm, &id, Some("s3"));
}

#[test]
fn a_connection_that_moves_between_two_requests_keeps_its_session() {
    let mut farm = farm(3);
    let mut client = connect(&mut farm, 0);
    let (at, id) = exchange(&mut farm, &mut client, None);
    let id = id.expect("a session");
    assert_eq!(at, 0);
    migrate(&mut farm, 0, &client, "s2", 150);
    let bound = farm.bound();
    assert_eq!(bound.0, 1);
    at_rest(&mut farm, bound);
    // Its cookie brings it home.
    assert_eq!(exchange(&mut farm, &mut client, Some(&id)), (0, None));
    assert_all_know(&farm, &id, Some("s1"));
}

#[test]
fn values_that_are_no_ids_get_a_session_and_unknown_ids_are_adopted() {
    let mut farm = farm(3);
    let long = "a".repeat(33);
    let upper = "A".repeat(32);
    for value in ["", "1", &long, &upper, "'; drop table sessions"] {
        let (at, id) = visit(&mut farm, 1, Some(value));
        assert_eq!(at, 1);
        assert_eq!(id.map(|id| id.len()), Some(32), "{value}");
    }
    assert_eq!(farm.devices[0].sessions(farm.now).count(), 5);
    let unknown = "0123456789abcdef".repeat(2);
    assert_eq!(visit(&mut farm, 1, Some(&unknown)), (1, None));
    assert_all_know(&farm, &unknown, Some("s2"));
}

type Fault = fn(&mut Farm, usize);

/// What makes a server one that takes no requests.
const FAULTS: [(&str, Fault); 4] = [
    ("dead", kill),
    ("draining", drain),
    ("left", |farm, at| {
        farm.devices[at].leave();
        farm.pump();
    }),
    ("its application is gone", |farm, at| {
        let now = farm.now;
        farm.devices[at].set_available(now, ListenerId(0), false);
        farm.run(ms(5));
    }),
];

#[test]
fn a_session_whose_server_takes_nothing_moves_and_the_map_follows() {
    each(FAULTS, |(_, fault)| {
        let mut farm = farm(4);
        let id = begin(&mut farm, 1);
        let mut client = connect(&mut farm, 3);
        assert_eq!(exchange(&mut farm, &mut client, None).0, 3);
        fault(&mut farm, 1);
        // Of a new connection, and of an old one.
        assert_eq!(visit(&mut farm, 2, Some(&id)), (2, None));
        let counters = farm.devices[2].counters();
        assert_eq!(counters.refused + counters.unavailable, 1);
        for at in [0, 2, 3] {
            assert_eq!(
                holder(&farm, at, &id).as_deref(),
                Some("s3"),
                "at s{}",
                at + 1
            );
        }
        assert_eq!(exchange(&mut farm, &mut client, Some(&id)), (2, None));
        assert_eq!(visit(&mut farm, 0, Some(&id)), (2, None));
    });
}

#[test]
fn a_client_at_a_draining_server_takes_its_session_elsewhere() {
    let mut farm = farm(3);
    let id = begin(&mut farm, 0);
    drain(&mut farm, 0);
    let (at, given) = visit(&mut farm, 0, Some(&id));
    assert!(at != 0 && given.is_none());
    let name = format!("s{}", at + 1);
    assert_all_know(&farm, &id, Some(&name));
    assert_eq!(visit(&mut farm, 0, Some(&id)), (at, None));
}
