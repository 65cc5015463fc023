//! The cookie in answers: once, in every shape, and nothing else is changed.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, SocketAddrV4};

use ipos_core::config::{Listen, PortA, PortC, Session};
use ipos_core::{Event, Port};

use super::common::talk::*;
use super::common::{Client, Farm, isn, mac, port_a};
use super::{ATTRIBUTES, begin, connect, farm, farm_with, get, receive, without_cookies};

/// A conversation; in the answers `^` stands where a cookie's line is expected.
const SHAPES: &[(&str, &str)] = &[
    ("GET", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n^\r\nhi"),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n^\r\n2\r\n\r\n\r\n0\r\nA: b\r\n\r\n",
    ),
    ("HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 100\r\n^\r\n"),
    (
        "GET",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\nETag: \"a\"\r\n^\r\n",
    ),
    (
        "GET",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: <a>\r\n\r\nHTTP/1.1 204 No Content\r\n^\r\n",
    ),
    (
        "GET",
        "HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 0\r\nSet-Cookie: IPOS2=c\r\n^\r\n",
    ),
    ("GET", "HTTP/1.0 500 No\nContent-Length: 1\n^\n\n"),
    ("GET", "HTTP/1.0 200 OK\r\n^\r\nHTTP/1.1 200 OK\r\n\r\n"),
    (
        "HEAD GET",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n^\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n^\r\nhello",
    ),
    (
        "UPGRADE",
        "HTTP/1.1 101 Switching Protocols\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ),
    ("NAMED", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi"),
    ("NAMED GET", "HTTP/1.1 204 A\r\n\r\nHTTP/1.1 204 B\r\n^\r\n"),
    ("GET", "220 HTTP/1.1 is not spoken here\r\n\r\n"),
];

fn requests(kinds: &str) -> Vec<u8> {
    let requests = kinds.split(' ').map(|kind| match kind {
        "NAMED" => get(Some(&"a".repeat(32))),
        "UPGRADE" => b"GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n".to_vec(),
        method => format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").into_bytes(),
    });
    requests.collect::<Vec<_>>().concat()
}

#[test]
fn every_answer_gets_its_cookie_once_however_it_is_written() {
    let mut farm = farm(1);
    for (kinds, shape) in SHAPES {
        let app = shape.replace('^', "");
        let app = app.as_bytes();
        let halves = (0..app.len()).map(|at| app.split_at(at));
        let halves = halves.map(|(first, second)| vec![first, second]);
        for pieces in halves.chain([app.chunks(1).collect()]) {
            let mut client = connect(&mut farm, 0);
            let request = requests(kinds);
            farm.send(&client, "PA", &request);
            client.seq += request.len() as u32;
            let bound = farm.bound();
            assert_eq!(farm.read(bound), request);
            for piece in &pieces {
                assert_eq!(farm.write(bound, piece), piece.len());
            }
            farm.close(bound);
            let (answer, ended) = receive(&mut farm, &mut client);
            let (ids, rest) = without_cookies(&answer);
            assert!(ended);
            assert_eq!(rest, app, "{shape:?} {pieces:?}");
            // Each at its place: one id for all of a connection.
            let id = ids.first().cloned().unwrap_or_default();
            let text = String::from_utf8(answer).unwrap();
            let end = if shape.contains('\r') { "\r\n" } else { "\n" };
            let line = format!("Set-Cookie: IPOS={id}{ATTRIBUTES}{end}");
            assert_eq!(text, shape.replace('^', &line));
            farm.send(&client, "RA", &[]);
        }
    }
}

#[test]
fn what_is_held_of_a_head_goes_out_when_the_application_closes() {
    let app = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
    for len in 1..app.len() {
        for shutdown in [false, true] {
            let mut farm = farm(1);
            let mut client = connect(&mut farm, 0);
            farm.send(&client, "PA", &get(None));
            client.seq += get(None).len() as u32;
            let bound = farm.bound();
            farm.read(bound);
            farm.write(bound, &app.as_bytes()[..len]);
            if shutdown {
                let now = farm.now;
                farm.devices[0].endpoint(now, bound.1).unwrap().shutdown();
            } else {
                farm.close(bound);
            }
            let got = receive(&mut farm, &mut client);
            assert_eq!(got, (app.as_bytes()[..len].to_vec(), true));
        }
    }
}

#[test]
fn a_full_send_buffer_loses_nothing() {
    let mut farm = farm_with(1, |config| config.tcp.send_buffer = 4_096);
    let field = format!("A: {}\r\n", "a".repeat(9_000));
    let head = format!("HTTP/1.1 200 OK\r\n{field}Content-Length: 60000\r\n\r\n");
    let body = vec![b'\n'; 60_000];
    let answer = [head.as_bytes(), &body].concat();
    let app = [&answer[..], &answer].concat();
    let mut client = connect(&mut farm, 0);
    let request = requests("GET GET");
    farm.send(&client, "PA", &request);
    client.seq += request.len() as u32;
    let bound = farm.bound();
    farm.read(bound);
    let (mut rest, mut got) = (&app[..], vec![]);
    let mut short = 0;
    while !rest.is_empty() {
        farm.events.clear();
        let taken = farm.write(bound, rest);
        short += usize::from(taken < rest.len());
        rest = &rest[taken..];
        assert!(taken <= 4_096 + 16 * 1024, "the buffer and a head");
        got.extend(receive(&mut farm, &mut client).0);
        // The application waits for nothing else.
        assert!(rest.is_empty() || farm.events.contains(&(0, Event::Writable(bound.1))));
    }
    got.extend(receive(&mut farm, &mut client).0);
    assert!(short > 10);
    let (ids, rest) = without_cookies(&got);
    assert_eq!(ids.len(), 2);
    assert!(rest == app, "byte for byte");
}

#[test]
fn ids_are_unlike_each_other_and_come_from_the_key() {
    let ids_of = |seed, key: u8, name: &str, incarnation| {
        let mut farm = farm_with(1, |config| {
            config.seed = seed;
            config.name = name.into();
            config.incarnation = incarnation;
            config.content.session = Some(Session::new("IPOS", [key; 32]));
        });
        (0..50).map(|_| begin(&mut farm, 0)).collect::<Vec<_>>()
    };
    let ids = |seed, key| ids_of(seed, key, "s1", 1);
    let first = ids(1, 1);
    for id in &first {
        assert!(
            id.bytes()
                .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
        );
    }
    // One key for several servers, or lives, is no harm.
    let (other, later) = (ids_of(1, 1, "s2", 1), ids_of(1, 1, "s1", 2));
    let all: BTreeSet<_> = [&first[..], &ids(1, 2), &ids(2, 3), &other, &later]
        .concat()
        .into_iter()
        .collect();
    assert_eq!(
        all.len(),
        250,
        "the seed does not tell them, and none comes twice"
    );
    assert_eq!(
        first,
        ids(2, 1),
        "nothing but key, name and incarnation does"
    );
}

#[test]
fn the_attributes_are_as_configured() {
    let mut farm = farm_with(1, |config| {
        config.content.session = Some(Session {
            path: None,
            max_age: Some(60),
            same_site: None,
            http_only: false,
            secure: true,
            ..Session::new("sid", [1; 32])
        });
    });
    let client = connect(&mut farm, 0);
    farm.send(&client, "PA", &get(None));
    let bound = farm.bound();
    farm.read(bound);
    farm.take(&client);
    farm.write(bound, RESPONSE);
    let head = String::from_utf8(payload(&farm.take(&client))).unwrap();
    let (_, line) = head.split_once("Set-Cookie: sid=").expect("a cookie");
    assert!(line[32..].starts_with("; Max-Age=60; Secure\r\n"), "{head}");
}

#[test]
fn only_requests_below_its_path_get_the_cookie() {
    let mut farm = farm_with(1, |config| {
        let session = config.content.session.as_mut().unwrap();
        session.path = Some("/app".into());
    });
    for (path, times) in [("/", 0), ("/app", 1), ("/app/x?y", 1), ("/apps", 0)] {
        let client = connect(&mut farm, 0);
        let request = format!("GET {path} HTTP/1.1\r\n\r\n");
        farm.send(&client, "PA", request.as_bytes());
        let bound = farm.bound();
        farm.read(bound);
        farm.take(&client);
        farm.write(bound, RESPONSE);
        let head = String::from_utf8(payload(&farm.take(&client))).unwrap();
        assert_eq!(head.matches("Set-Cookie").count(), times, "{path}");
    }
}

#[test]
fn the_second_embodiment_tells_where_the_server_is_reached() {
    let mut farm = farm_with(2, |config| {
        let session = config.content.session.as_mut().unwrap();
        session.direct = Some("X-Server-Address".into());
    });
    let id = begin(&mut farm, 1);
    for (server, line) in [(0, Some(port_a(1))), (1, None)] {
        let client = connect(&mut farm, server);
        farm.send(&client, "PA", &get(Some(&id)));
        let bound = farm.bound();
        assert_eq!(bound.0, 1);
        farm.read(bound);
        farm.take(&client);
        farm.write(bound, RESPONSE);
        let head = String::from_utf8(payload(&farm.take(&client))).unwrap();
        let wanted = line.map(|address| format!("X-Server-Address: {address}:80\r\n"));
        let found = wanted.as_ref().map(|line| head.matches(&**line).count());
        assert_eq!(found.unwrap_or(1), 1, "{head}");
        assert_eq!(head.contains("X-Server-Address"), wanted.is_some());
    }
}

/// Who came by LAN C is told an address there, whichever listening socket is written first.
#[test]
fn the_address_that_a_client_is_told_is_on_its_own_lan() {
    let on_c = |server: u8| SocketAddrV4::new(Ipv4Addr::new(10, 66, 0, 11 + server), 80);
    let mut farm = Farm::with(2, |server, config| {
        config.content.session = Some(Session {
            direct: Some("X-Server-Address".into()),
            ..Session::new("IPOS", [server + 1; 32])
        });
        // The client's own address is beyond LAN A's prefix for whoever looks at LAN C: all of it is on the link.
        let port = PortA::new(mac(0xd, server), vec![*on_c(server).ip()], 0);
        config.port_c = Some(PortC {
            port,
            responses: false,
        });
        let address = on_c(server);
        let listen = config.listen[0].clone();
        config.listen.push(Listen { address, ..listen });
    });
    let mut told = vec![];
    for port in 4_000..4_004 {
        let mut client = Client::new(0, port, isn(port));
        client.server = on_c(0);
        let send = |farm: &mut Farm, client: &Client, flags, options: &[u8], payload: &[u8]| {
            let mut frame = client.frame(flags, options, payload);
            frame[..6].copy_from_slice(&mac(0xd, 0).0);
            farm.deliver(0, Port::C, &frame);
            farm.pump();
        };
        send(&mut farm, &client, "S", &[2, 4, 5, 0xb4], &[]);
        let [syn_ack] = &farm.take(&client)[..] else {
            panic!("one SYN-ACK")
        };
        client.opened_by(syn_ack);
        send(&mut farm, &client, "A", &[], &[]);
        send(&mut farm, &client, "PA", &[], &get(None));
        let bound = farm.bound();
        farm.read(bound);
        farm.take(&client);
        farm.write(bound, RESPONSE);
        let head = String::from_utf8(payload(&farm.take(&client))).unwrap();
        let lines = head.lines();
        told.extend(
            lines.filter_map(|line| Some(line.strip_prefix("X-Server-Address: ")?.to_string())),
        );
    }
    assert_eq!(told, [on_c(1).to_string(), on_c(1).to_string()]);
}
