//! Selection by content: what is read of a request, and the order of the rules.

#[path = "../common/mod.rs"]
mod common;
mod kinds;
mod reference;

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use common::talk::*;
use common::{Client, Farm, Pass};
use ipos_content::{SslRow, UrlRow};
use ipos_core::config::{Config, Content, Listen, Session};
use ipos_core::{ListenerId, Load};
use ipos_proto::Protocol;

const IMAGE: &[u8] = b"GET /img/a?b=/c HTTP/1.1\r\nHost: www.example\r\nCookie: a=b\r\n\r\n";

fn url(host: Option<&str>, path: Option<&str>, servers: &[&str]) -> UrlRow<String> {
    UrlRow {
        host: host.map(str::to_string),
        path: path.map(str::to_string),
        servers: servers.iter().map(|name| name.to_string()).collect(),
    }
}

fn ssl(sni: &str, servers: &[&str]) -> SslRow<String> {
    SslRow {
        sni: sni.into(),
        servers: servers.iter().map(|name| name.to_string()).collect(),
    }
}

/// Where no rule says something else, the server keeps what reaches it.
fn keep(config: &mut Config) {
    config.balance.activity_threshold.connections = u32::MAX;
}

/// Four servers; a request of no rule stays with the first one, which clients reach.
fn farm() -> Farm {
    farm_with(|_| {})
}

fn farm_with(change: impl Fn(&mut Config)) -> Farm {
    Farm::with(4, |_, config| {
        keep(config);
        config.content = Content {
            url_map: vec![
                url(None, Some("/img"), &["s2"]),
                url(None, Some("/both"), &["s2", "s3"]),
                url(None, Some("/nowhere"), &["s9"]),
                url(Some("shop.example"), None, &["s3"]),
                url(Some("shop.example"), Some("/cart/"), &["s4"]),
            ],
            ssl_map: vec![
                ssl("shop.example", &["s3"]),
                ssl("*.img.example", &["s2", "s4"]),
            ],
            ..Content::default()
        };
        change(config);
    })
}

/// A client sends this, one segment after the other, from a port of its own.
fn ask<'a>(farm: &mut Farm, segments: impl IntoIterator<Item = &'a [u8]>) -> Client {
    let port = 1_000 + farm.devices[0].counters().frames as u16;
    let mut client = farm.connect(0, port);
    tell(farm, &mut client, segments);
    client
}

fn tell<'a>(farm: &mut Farm, client: &mut Client, segments: impl IntoIterator<Item = &'a [u8]>) {
    for segment in segments {
        farm.send(client, "PA", segment);
        client.seq += segment.len() as u32;
    }
}

/// Who serves it; `None`: nobody yet.
fn server(farm: &mut Farm, client: &Client) -> Option<usize> {
    match alive(farm, client)[..] {
        [] => None,
        [(at, _)] => Some(at),
        ref more => panic!("several servers: {more:?}"),
    }
}

/// Who serves this request, in one segment, and that it gets all of it.
fn server_for(farm: &mut Farm, request: &[u8]) -> usize {
    let client = ask(farm, [request]);
    assert_received(farm, &client, request)
}

/// The same at another port than 80.
fn ask_at<'a>(farm: &mut Farm, port: u16, segments: impl IntoIterator<Item = &'a [u8]>) -> Client {
    let number = farm.devices[0].counters().frames as u16;
    let mut client = Client::new(0, 1_000 + number, 7);
    client.server.set_port(port);
    farm.send(&client, "S", &[]);
    let syn_ack = farm.take(&client);
    client.opened_by(&syn_ack[0]);
    tell(farm, &mut client, segments);
    client
}

/// The same at another port than 80.
fn server_at(farm: &mut Farm, port: u16, request: &[u8]) -> usize {
    let client = ask_at(farm, port, [request]);
    assert_received(farm, &client, request)
}

/// A second service, at port 81.
fn other_port(config: &mut Config) {
    let mut address = config.listen[0].address;
    address.set_port(81);
    config.listen.push(Listen {
        address,
        protocol: Protocol::Tcp,
        service: "other".into(),
    });
}

/// The one server that has the connection has these bytes of it.
#[track_caller]
fn assert_received(farm: &mut Farm, client: &Client, bytes: &[u8]) -> usize {
    let at = server(farm, client).expect("the request is served at once");
    let bound = farm.bound();
    assert_eq!(bound.0, at);
    assert_eq!(farm.read(bound), bytes);
    at
}

fn kill(farm: &mut Farm, at: usize) {
    farm.dead[at] = true;
    farm.run(ms(700));
}

fn drain(farm: &mut Farm, at: usize, draining: bool) {
    let now = farm.now;
    farm.devices[at].drain(now, draining);
    farm.pump();
}

#[test]
fn however_a_request_is_cut_it_gets_the_same_server_byte_for_byte() {
    let mut farm = farm();
    for len in 1..=IMAGE.len() {
        let client = ask(&mut farm, IMAGE.chunks(len));
        assert_eq!(assert_received(&mut farm, &client, IMAGE), 1, "{len}");
    }
    // The second part overtakes the first one.
    for at in 1..IMAGE.len() {
        let (first, second) = IMAGE.split_at(at);
        let mut client = ask(&mut farm, []);
        let mut later = client.clone();
        later.seq += at as u32;
        farm.send(&later, "PA", second);
        assert_eq!(server(&mut farm, &client), None);
        tell(&mut farm, &mut client, [first]);
        assert_eq!(assert_received(&mut farm, &client, IMAGE), 1, "{at}");
    }
}

#[test]
fn the_packets_of_a_cut_request_arrive_unchanged() {
    let mut farm = farm();
    let mut client = ask(&mut farm, []);
    farm.lan_b.clear();
    let mut sent = vec![];
    for segment in IMAGE.chunks(11) {
        sent.push(client.frame("PA", &[], segment)[14..].to_vec());
        tell(&mut farm, &mut client, [segment]);
    }
    assert_eq!(farm.packets(), sent);
}

#[test]
fn a_longer_head_in_one_byte_segments_is_read() {
    let mut farm = farm();
    let head = format!(
        "GET /img/ HTTP/1.1\r\nCookie: {}\r\n\r\n",
        "c".repeat(1_500)
    );
    let client = ask(&mut farm, head.as_bytes().chunks(1));
    // Or decided upon at once, where its packets are too many; never held up.
    assert!(server(&mut farm, &client).is_some(), "held up");
}

#[test]
fn what_requests_ask_for() {
    let mut farm = farm();
    for (request, at) in [
        ("GET /img HTTP/1.0\r\n\r\n", 1),
        ("GET /imgs HTTP/1.0\r\n\r\n", 0),
        ("\r\n\r\nGET /img/x HTTP/1.1\nHost: a\n\n", 1),
        ("GET / HTTP/1.1\r\nHost: SHOP.example.:80\r\n\r\n", 2),
        ("GET /cart HTTP/1.1\r\nHost: shop.example\r\n\r\n", 2),
        ("GET /cart/ HTTP/1.1\r\nHost: shop.example\r\n\r\n", 3),
        ("GET /img HTTP/1.1\r\nHost: shop.example\r\n\r\n", 2),
        ("GET http://shop.example/ HTTP/1.1\r\nHost: a\r\n\r\n", 2),
        ("GET / HTTP/1.1\r\nHost: shop.example\r\nHost: a\r\n\r\n", 0),
        ("OPTIONS * HTTP/1.1\r\nHost: shop.example\r\n\r\n", 2),
        ("POST /img HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc", 1),
        // Only the first one counts.
        ("GET /img HTTP/1.1\r\n\r\nGET /cart HTTP/1.1\r\n\r\n", 1),
        // What others may read in another way is passed on as it is.
        (
            "POST /img HTTP/1.1\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nG",
            1,
        ),
        ("GET /img HTTP/1.1\r\nA: b\r\n c\r\n\r\n", 0),
        ("GET /nowhere HTTP/1.1\r\n\r\n", 0),
    ] {
        assert_eq!(server_for(&mut farm, request.as_bytes()), at, "{request}");
    }
}

#[test]
fn below_all_thresholds_that_are_set_a_server_keeps_what_no_rule_is_for() {
    let load = |cpu| Load {
        cpu,
        ..Load::default()
    };
    // Of CPU and connections: those that are set, this server's figures, whether it keeps everything.
    for (cpu, connections, used, keeps) in [
        (0.5, 0, 0.4, true),
        (0.5, 0, 0.5, false),
        (0.5, 100, 0.4, true),
        (0.5, 100, 0.6, false),
        (0.5, 2, 0.4, false),
        (0.0, 100, 1.0, true),
        (0.0, 2, 0.0, false),
        (0.0, 0, 0.0, false),
    ] {
        let mut farm = farm_with(|config| {
            let threshold = &mut config.balance.activity_threshold;
            (threshold.cpu, threshold.connections) = (cpu, connections);
        });
        farm.devices[0].handle_load(load(used));
        let served = (0..8).map(|_| server_for(&mut farm, REQUEST));
        let served: BTreeSet<usize> = served.collect();
        let expected = if keeps { 1 } else { 4 };
        assert_eq!(served.len(), expected, "{cpu} {connections} {used}");
        assert_eq!(server_for(&mut farm, IMAGE), 1, "a rule comes first");
    }
}

#[test]
fn several_servers_of_a_row_share_by_the_policy() {
    let mut farm = farm();
    let count = |farm: &mut Farm| {
        let served = (0..10).map(|_| server_for(farm, b"GET /both HTTP/1.1\r\n\r\n"));
        served.fold([0; 4], |mut count, at| {
            count[at] += 1;
            count
        })
    };
    assert_eq!(count(&mut farm), [0, 5, 5, 0]);
    drain(&mut farm, 1, true);
    assert_eq!(count(&mut farm), [0, 0, 10, 0]);
    drain(&mut farm, 1, false);
    kill(&mut farm, 2);
    assert_eq!(count(&mut farm), [0, 10, 0, 0]);
    kill(&mut farm, 1);
    assert_eq!(count(&mut farm), [10, 0, 0, 0]);
}

#[test]
fn a_server_that_takes_nothing_is_passed_over_for_the_next_rule() {
    type Fault = fn(&mut Farm);
    let faults: [(&str, Fault); 4] = [
        ("dead", |farm| kill(farm, 1)),
        ("draining", |farm| drain(farm, 1, true)),
        ("left", |farm| {
            farm.devices[1].leave();
            farm.pump();
        }),
        ("its application is gone", |farm| {
            let now = farm.now;
            farm.devices[1].set_available(now, ListenerId(0), false);
            farm.run(ms(5));
        }),
    ];
    for (name, fault) in faults {
        let mut farm = farm();
        assert_eq!(server_for(&mut farm, IMAGE), 1);
        fault(&mut farm);
        assert_eq!(server_for(&mut farm, IMAGE), 0, "{name}");
        let counters = farm.devices[0].counters();
        assert_eq!(counters.refused + counters.unavailable, 1, "{name}");
    }
    // It has died, and nobody knows yet.
    let mut farm = farm();
    farm.dead[1] = true;
    let client = ask(&mut farm, IMAGE.chunks(20));
    assert_eq!(server(&mut farm, &client), None, "it is asked first");
    farm.run(ms(100));
    assert_eq!(assert_received(&mut farm, &client, IMAGE), 0);
    let counters = farm.devices[0].counters();
    assert_eq!((counters.unanswered, counters.unavailable), (1, 0));
}

#[test]
fn an_application_that_is_gone_takes_its_server_out_for_its_port_only() {
    let mut farm = farm_with(other_port);
    // Twice, so that nothing is left of the first time.
    for _ in 0..2 {
        for available in [false, true] {
            let now = farm.now;
            farm.devices[1].set_available(now, ListenerId(0), available);
            farm.run(ms(5));
            for port in [80, 81] {
                let expected = usize::from(available || port == 81);
                assert_eq!(server_at(&mut farm, port, IMAGE), expected);
            }
        }
    }
}

/// No Synch message tells of it: only what the server answers to hand-overs does.
#[test]
fn hand_overs_that_an_application_is_missing_for_are_held_against_its_port_only() {
    let mut farm = farm_with(other_port);
    farm.synch_lost = Some((1, 0));
    let now = farm.now;
    farm.devices[1].set_available(now, ListenerId(0), false);
    const BOTH: &[u8] = b"GET /both HTTP/1.1\r\n\r\n";
    let refused = |farm: &Farm| farm.devices[0].counters().refused;
    for _ in 0..16 {
        assert_eq!(server_at(&mut farm, 80, BOTH), 2);
    }
    assert!((1..8).contains(&refused(&farm)), "it is tried less");
    let before = refused(&farm);
    let served = (0..16).filter(|_| server_at(&mut farm, 81, BOTH) == 1);
    assert_eq!(served.count(), 8, "the other port takes its turns");
    assert_eq!(refused(&farm), before);
    // And what the other port takes does not vouch for this one.
    for _ in 0..8 {
        assert_eq!(server_at(&mut farm, 80, BOTH), 2);
    }
    assert!(refused(&farm) <= before + 1);
}

/// A server that does not answer is tried less for all its ports.
#[test]
fn hand_overs_that_are_not_answered_are_held_against_the_server() {
    let mut farm = farm_with(other_port);
    farm.synch_lost = Some((1, 0));
    farm.tap = Box::new(|frame| match frame.header.destination.octets()[3] {
        12 => Pass::Lose,
        _ => Pass::Deliver,
    });
    let unanswered = |farm: &Farm| farm.devices[0].counters().unanswered;
    let both: &[u8] = b"GET /both HTTP/1.1\r\n\r\n";
    let mut ask = |port: u16| {
        let client = ask_at(&mut farm, port, [both]);
        farm.run(ms(80));
        assert_eq!(assert_received(&mut farm, &client, both), 2);
        unanswered(&farm)
    };
    let failed = (0..4).map(|_| ask(80)).last();
    assert!(failed >= Some(2));
    let failed_then = (0..4).map(|_| ask(81)).last();
    assert!(failed_then <= failed.map(|failed| failed + 1));
}

/// The server that clients reach has lost its own application.
#[test]
fn who_has_no_application_asks_others_to_serve() {
    let mut farm = Farm::with(3, |_, config| keep(config));
    let now = farm.now;
    farm.devices[0].set_available(now, ListenerId(0), false);
    for _ in 0..6 {
        assert_ne!(server_for(&mut farm, REQUEST), 0);
    }
}

#[test]
fn a_head_beyond_the_limit_is_left_to_the_policy_at_once() {
    let mut farm = farm();
    let mut request = b"GET /img HTTP/1.1\r\nCookie: ".to_vec();
    request.resize(16 * 1024, b'c');
    request.extend_from_slice(b"\r\n\r\nabc");
    let (within, behind) = request.split_at(16 * 1024);
    let mut client = ask(&mut farm, within.chunks(1_000));
    assert_eq!(server(&mut farm, &client), Some(0));
    tell(&mut farm, &mut client, [behind]);
    assert_received(&mut farm, &client, &request);
    // One that just fits is read.
    let end = 16 * 1024 - 4;
    let fits = [&request[..end], b"\r\n\r\n"].concat();
    let client = ask(&mut farm, fits.chunks(1_000));
    assert_eq!(assert_received(&mut farm, &client, &fits), 1);
}

#[test]
fn a_head_that_does_not_end_is_left_to_the_policy_at_the_deadline() {
    let mut farm = farm();
    let (start, rest) = IMAGE.split_at(30);
    let mut client = ask(&mut farm, start.chunks(7));
    farm.run(ms(2_900));
    assert_eq!(server(&mut farm, &client), None);
    farm.run(ms(200));
    assert_eq!(server(&mut farm, &client), Some(0));
    tell(&mut farm, &mut client, [rest]);
    assert_received(&mut farm, &client, IMAGE);
    // The policy may find another one, which gets what there is.
    let mut farm = farm_with(|config| config.balance.activity_threshold.connections = 0);
    let mut served = BTreeSet::new();
    for _ in 0..4 {
        let mut client = ask(&mut farm, start.chunks(7));
        farm.run(ms(3_100));
        tell(&mut farm, &mut client, [rest]);
        served.insert(assert_received(&mut farm, &client, IMAGE));
    }
    assert_eq!(served, BTreeSet::from([0, 1, 2, 3]));
}

#[test]
fn a_client_that_closes_within_its_head_is_not_held_up() {
    each(["PA", "FPA"], |flags| {
        let mut farm = farm();
        let mut client = ask(&mut farm, []);
        farm.send(&client, flags, &IMAGE[..30]);
        client.seq += 30;
        if flags == "PA" {
            farm.send(&client, "FA", &[]);
        }
        assert_eq!(assert_received(&mut farm, &client, &IMAGE[..30]), 0);
        let (at, id) = farm.bound();
        let now = farm.now;
        assert!(farm.devices[at].endpoint(now, id).unwrap().is_finished());
    });
}

#[test]
fn what_is_neither_http_nor_tls_is_not_held_up() {
    let mut farm = farm();
    for start in [
        &b"\0"[..],
        b"\x80\x2e\x01\x03\x01",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"EHLO mail.example\r\n",
        b"{\"jsonrpc\"",
        b"\x16\xff\xff\xff\xff",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ] {
        let client = ask(&mut farm, [start]);
        assert_eq!(server(&mut farm, &client), Some(0), "{start:?}");
    }
    // Without maps nothing is read, and nothing is waited for.
    let mut farm = Farm::with(2, |_, config| keep(config));
    let client = ask(&mut farm, [&b"G"[..]]);
    assert_eq!(server(&mut farm, &client), Some(0));
}

#[test]
fn a_server_that_speaks_first_waits_for_the_deadline_and_no_longer() {
    let mut farm = farm();
    let client = ask(&mut farm, []);
    farm.run(ms(3_000));
    assert_eq!(server(&mut farm, &client), Some(0));
    let bound = farm.bound();
    farm.take(&client);
    assert_eq!(farm.write(bound, b"220 ready\r\n"), 11);
    assert_eq!(payload(&farm.take(&client)), b"220 ready\r\n");
}

#[test]
fn a_later_request_goes_where_the_map_says_and_stays_where_it_says_nothing() {
    let mut farm = farm();
    let mut client = ask(&mut farm, [REQUEST]);
    let mut bound = farm.bound();
    answer(&mut farm, &mut client, bound, 150);
    let cart = b"GET /cart/ HTTP/1.1\r\nHost: shop.example\r\n\r\n";
    for (request, at) in [
        (REQUEST, 0),
        (IMAGE, 1),
        (REQUEST, 1),
        (cart, 3),
        (IMAGE, 1),
    ] {
        farm.lan_b.clear();
        let packet = client.frame("PA", &[], request)[14..].to_vec();
        tell(&mut farm, &mut client, [request]);
        farm.run(ms(10));
        assert_eq!(server(&mut farm, &client), Some(at));
        if bound.0 != at {
            assert!(farm.packets().contains(&packet));
            bound = farm.bound();
        }
        assert_eq!(farm.read(bound), request);
        farm.write(bound, RESPONSE);
        client.ack += RESPONSE.len() as u32;
        farm.send(&client, "A", &[]);
        at_rest(&mut farm, bound);
        farm.run(ms(150));
        no_reset(&farm.take(&client));
    }
}

#[test]
fn a_later_request_for_several_servers_stays_with_the_one_of_them_that_has_it() {
    let mut farm = farm();
    let request = b"GET /both HTTP/1.1\r\n\r\n";
    let mut client = ask(&mut farm, [&request[..]]);
    let bound = farm.bound();
    for _ in 0..4 {
        assert_eq!(server(&mut farm, &client), Some(bound.0));
        assert_eq!(farm.read(bound), request);
        farm.write(bound, RESPONSE);
        client.ack += RESPONSE.len() as u32;
        farm.send(&client, "A", &[]);
        at_rest(&mut farm, bound);
        farm.run(ms(150));
        tell(&mut farm, &mut client, [&request[..]]);
        farm.run(ms(10));
    }
}

/// A later request is for two servers, one of which takes nothing: the other one gets it, and nobody else.
#[test]
fn a_later_request_that_one_of_its_servers_does_not_take_goes_to_the_other() {
    each(["10.88.0.12", "10.88.0.13"], |deaf| {
        let deaf: Ipv4Addr = deaf.parse().unwrap();
        let taker = if deaf.octets()[3] == 12 { 2 } else { 1 };
        for _ in 0..2 {
            let mut farm = farm();
            let request = b"GET /both HTTP/1.1\r\n\r\n";
            // The policy begins with either of them.
            server_for(&mut farm, request);
            let mut client = ask(&mut farm, [REQUEST]);
            let bound = farm.bound();
            answer(&mut farm, &mut client, bound, 150);
            farm.tap = Box::new(move |frame| match frame.header.destination == deaf {
                true => Pass::Lose,
                false => Pass::Deliver,
            });
            tell(&mut farm, &mut client, [&request[..]]);
            farm.run(ms(200));
            assert_eq!(assert_received(&mut farm, &client, request), taker);
        }
    });
}

/// A session that the server has begun with a request that was its own.
fn session(farm: &mut Farm, at: usize) -> String {
    let port = 1_000 + farm.devices[0].counters().frames as u16;
    let mut client = farm.connect(at as u8, port);
    // No row is for it.
    tell(
        farm,
        &mut client,
        [&b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n"[..]],
    );
    let bound = farm.bound();
    assert_eq!(bound.0, at);
    farm.read(bound);
    farm.take(&client);
    farm.write(bound, RESPONSE);
    let head = String::from_utf8(payload(&farm.take(&client))).unwrap();
    farm.send(&client, "RA", &[]);
    // The others hear of it.
    farm.run(ms(5));
    let (_, value) = head.split_once("Set-Cookie: id=").expect("a cookie");
    value[..32].into()
}

fn with_sessions(config: &mut Config) {
    let key = [config.seed as u8 + 1; 32];
    config.content.session = Some(Session {
        // Of requests without a path, too.
        path: None,
        ..Session::new("id", key)
    });
}

#[test]
fn the_cookie_comes_before_the_url_map_and_that_before_the_policy() {
    let mut farm = farm_with(with_sessions);
    let id = session(&mut farm, 3);
    let image = |cookie: &str| format!("GET /img HTTP/1.1\r\nCookie: x=y; id={cookie}\r\n\r\n");
    let found = |farm: &mut Farm, cookie: &str| server_for(farm, image(cookie).as_bytes());
    assert_eq!(found(&mut farm, &id), 3);
    // Neither another case nor an unknown one.
    assert_eq!(found(&mut farm, &"0".repeat(32)), 1);
    assert_eq!(found(&mut farm, "x"), 1);
    drain(&mut farm, 3, true);
    assert_eq!(found(&mut farm, &id), 1);
    kill(&mut farm, 1);
    let id = session(&mut farm, 2);
    assert_eq!(found(&mut farm, &id), 2);
    kill(&mut farm, 2);
    assert_eq!(found(&mut farm, &id), 0);
}
