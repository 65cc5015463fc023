//! Bound connections that move again: home, to a third server, on drain, for a request, and what becomes of those whose
//! server dies.

mod common;

use common::{Client, Farm, Pass, lose, mac, port_a};
use ipos_core::{Duration, EndpointId, Event, Flow, MigrateError, Port};
use ipos_proto::{Ethernet, Frame, FrameType, Message};

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn flow(client: &Client) -> Flow {
    let address = std::net::SocketAddrV4::new(common::CLIENT, client.port);
    Flow::tcp(address, client.server)
}

/// One request and its response, acknowledged; the application is at rest then.
fn exchange(farm: &mut Farm, client: &mut Client) -> (usize, EndpointId) {
    farm.send(client, "PA", REQUEST);
    client.seq += REQUEST.len() as u32;
    farm.run(ms(5));
    let bound = farm.bound();
    answer(farm, client, bound);
    bound
}

fn answer(farm: &mut Farm, client: &mut Client, bound: (usize, EndpointId)) {
    assert_eq!(farm.read(bound), REQUEST);
    farm.write(bound, RESPONSE);
    let sent = farm.take(client);
    let got: Vec<u8> = sent.iter().flat_map(|s| s.payload.clone()).collect();
    assert_eq!(got, RESPONSE);
    assert_eq!(sent[0].hardware, mac(0xa, bound.0 as u8));
    assert_eq!(sent[0].source, client.server);
    assert_eq!(sent[0].header.sequence_number, client.ack.raw());
    client.ack += RESPONSE.len() as u32;
    farm.send(client, "A", &[]);
    farm.devices[bound.0]
        .endpoint(farm.now, bound.1)
        .unwrap()
        .set_quiet(true);
    farm.run(ms(150));
    farm.take(client);
}

/// A connection to the first server that has moved to the second one, at rest.
fn moved(farm: &mut Farm) -> (Client, (usize, EndpointId)) {
    let mut other = farm.connect(0, 4000);
    farm.send(&other, "PA", REQUEST);
    assert_eq!(farm.bound().0, 0);
    other.seq += REQUEST.len() as u32;
    farm.send(&other, "R", &[]);
    let (at, id) = farm.bound();
    if let Some(endpoint) = farm.devices[at].endpoint(farm.now, id) {
        endpoint.close();
    }
    let mut client = farm.connect(0, 4001);
    let bound = exchange(farm, &mut client);
    assert_eq!(bound.0, 1);
    farm.lan_b.clear();
    (client, bound)
}

fn migrate(farm: &mut Farm, at: usize, client: &Client, to: &str) {
    let now = farm.now;
    farm.devices[at].migrate(now, &flow(client), to).unwrap();
    farm.run(ms(300));
}

fn tables(farm: &Farm, at: usize) -> [usize; 5] {
    [
        "temporary",
        "local",
        "forward-connect",
        "forward",
        "tombstones",
    ]
    .map(|t| farm.table(at, t))
}

fn left(farm: &Farm) -> Vec<(usize, EndpointId)> {
    let left = farm.events.iter().filter_map(|(at, event)| match event {
        Event::Left { endpoint, .. } => Some((*at, *endpoint)),
        _ => None,
    });
    left.collect()
}

#[test]
fn a_connection_comes_home() {
    let mut farm = Farm::pair();
    let (mut client, bound) = moved(&mut farm);
    migrate(&mut farm, 1, &client, "s1");
    assert_eq!(
        farm.types(),
        [1, 3, 2, 3],
        "no request: the client's last word is said again"
    );
    assert_eq!(left(&farm), [bound]);
    assert!(farm.devices[1].endpoint(farm.now, bound.1).is_none());
    assert_eq!(tables(&farm, 0), [0, 1, 0, 0, 0]);
    assert_eq!(farm.take(&client).len(), 0, "the client notices nothing");
    farm.lan_b.clear();
    assert_eq!(exchange(&mut farm, &mut client).0, 0);
    assert_eq!(farm.types(), [0u8; 0], "Port A alone");
    let ended = farm.bound();
    farm.send(&client, "FA", &[]);
    farm.close(ended);
    client.seq += 1;
    client.ack += 1;
    farm.send(&client, "A", &[]);
    farm.run(ms(121_000));
    assert_eq!((tables(&farm, 0), tables(&farm, 1)), ([0; 5], [0; 5]));
}

#[test]
fn to_a_third_server_and_no_chain_stays() {
    let mut farm = Farm::round_robin(3);
    let (mut client, _) = moved(&mut farm);
    migrate(&mut farm, 1, &client, "s3");
    assert_eq!(farm.types(), [1, 3, 2, 0x13, 3, 3]);
    farm.lan_b.clear();
    assert_eq!(exchange(&mut farm, &mut client).0, 2);
    let senders: Vec<usize> = farm.lan_b.iter().map(|(from, _)| *from).collect();
    assert_eq!(senders, [0, 0], "the first server sends to the third");
    // And from there on, and home at last.
    migrate(&mut farm, 2, &client, "s2");
    assert_eq!(exchange(&mut farm, &mut client).0, 1);
    migrate(&mut farm, 1, &client, "s1");
    assert_eq!(exchange(&mut farm, &mut client).0, 0);
    farm.send(&client, "R", &[]);
    farm.run(ms(121_000));
    for at in 0..3 {
        assert_eq!(tables(&farm, at), [0; 5], "server {at}");
    }
}

#[test]
fn back_and_forth_fifty_times_in_one_connection() {
    let mut farm = Farm::round_robin(3);
    let (mut client, bound) = moved(&mut farm);
    let mut at = bound.0;
    for turn in 0..50 {
        let to = (at + 1 + turn % 2) % 3;
        migrate(&mut farm, at, &client, &format!("s{}", to + 1));
        assert_eq!(exchange(&mut farm, &mut client).0, to, "turn {turn}");
        at = to;
    }
    assert_eq!(left(&farm).len(), 50);
}

#[test]
fn whatever_frames_of_a_move_are_lost_it_is_made_once_or_not_at_all() {
    let types = [
        FrameType::Endpoint,
        FrameType::Acknowledgement,
        FrameType::Packet,
        FrameType::Moved,
    ];
    for lost in types {
        for n in [1, 3, 100] {
            if lost == FrameType::Packet && n == 100 {
                // Without packets there is no connection.
                continue;
            }
            let mut farm = Farm::round_robin(3);
            let (mut client, _) = moved(&mut farm);
            lose(&mut farm, lost, n);
            migrate(&mut farm, 1, &client, "s3");
            farm.run(ms(1000));
            let (at, _) = exchange_somewhere(&mut farm, &mut client);
            assert!(at == 1 || at == 2, "{lost:?} lost {n} times");
            farm.run(ms(2500));
            let owners = (0..3).filter(|at| farm.table(*at, "forward-connect") == 1);
            assert_eq!(owners.count(), 1, "{lost:?} lost {n} times");
        }
    }
}

/// The endpoint that was last bound may not be the owner's.
fn exchange_somewhere(farm: &mut Farm, client: &mut Client) -> (usize, EndpointId) {
    farm.send(client, "PA", REQUEST);
    client.seq += REQUEST.len() as u32;
    farm.run(ms(1000));
    let bound: Vec<(usize, EndpointId)> = farm
        .events
        .iter()
        .filter_map(|(at, event)| match event {
            Event::Bound { endpoint, .. } => Some((*at, *endpoint)),
            _ => None,
        })
        .collect();
    let now = farm.now;
    let reads = |farm: &mut Farm, (at, id): (usize, EndpointId)| {
        farm.devices[at]
            .endpoint(now, id)
            .is_some_and(|e| !e.readable().is_empty())
    };
    let with: Vec<_> = bound.into_iter().filter(|b| reads(farm, *b)).collect();
    let [bound] = with[..] else {
        panic!("one server has the request: {with:?}")
    };
    answer(farm, client, bound);
    bound
}

#[test]
fn the_first_server_asks_the_owner_to_move() {
    let mut farm = Farm::round_robin(3);
    let (mut client, _) = moved(&mut farm);
    migrate(&mut farm, 0, &client, "s3");
    assert_eq!(farm.types()[0], 0x12);
    assert_eq!(exchange(&mut farm, &mut client).0, 2);
    migrate(&mut farm, 0, &client, "s1");
    assert_eq!(exchange(&mut farm, &mut client).0, 0);
    let now = farm.now;
    let none = Flow::tcp("10.1.1.1:1".parse().unwrap(), client.server);
    assert_eq!(
        farm.devices[0].migrate(now, &none, "s2"),
        Err(MigrateError::UnknownFlow)
    );
    let known = flow(&client);
    assert_eq!(
        farm.devices[0].migrate(now, &known, "s9"),
        Err(MigrateError::UnknownServer)
    );
}

/// MOVE or its answer is lost: it is repeated, and the connection moves once.
#[test]
fn a_lost_command_is_repeated() {
    for lost in [FrameType::Move, FrameType::Acknowledgement] {
        let mut farm = Farm::round_robin(3);
        let (mut client, _) = moved(&mut farm);
        lose(&mut farm, lost, 2);
        migrate(&mut farm, 0, &client, "s3");
        farm.run(ms(200));
        assert_eq!(exchange(&mut farm, &mut client).0, 2, "{lost:?}");
        let asked = farm.types().iter().filter(|t| **t == 0x12).count();
        assert!((2..=3).contains(&asked), "{lost:?}: asked {asked} times");
    }
}

#[test]
fn only_a_quiet_application_loses_its_connection() {
    let mut farm = Farm::round_robin(2);
    let (mut client, bound) = moved(&mut farm);
    farm.send(&client, "PA", REQUEST);
    client.seq += REQUEST.len() as u32;
    let now = farm.now;
    farm.devices[1].migrate(now, &flow(&client), "s1").unwrap();
    farm.run(ms(500));
    assert_eq!(left(&farm), [], "a request waits");
    assert_eq!(farm.read(bound), REQUEST);
    farm.run(ms(500));
    assert_eq!(left(&farm), [], "it is not answered");
    farm.write(bound, RESPONSE);
    farm.devices[1]
        .endpoint(farm.now, bound.1)
        .unwrap()
        .set_quiet(true);
    farm.run(ms(500));
    assert_eq!(left(&farm), [], "the answer is not acknowledged");
    farm.take(&client);
    client.ack += RESPONSE.len() as u32;
    farm.send(&client, "A", &[]);
    farm.run(ms(50));
    assert_eq!(left(&farm), [bound]);
}

#[test]
fn an_offered_endpoint_takes_no_bytes_until_it_stays() {
    let mut farm = Farm::round_robin(2);
    let (mut client, bound) = moved(&mut farm);
    lose(&mut farm, FrameType::Endpoint, 100);
    let now = farm.now;
    farm.devices[1].migrate(now, &flow(&client), "s1").unwrap();
    farm.pump();
    let mut endpoint = farm.devices[1].endpoint(now, bound.1).unwrap();
    assert_eq!((endpoint.writable(), endpoint.write(b"push")), (0, 0));
    // What comes meanwhile may be for the other server.
    farm.send(&client, "PA", b"next");
    client.seq += 4;
    let endpoint = farm.devices[1].endpoint(farm.now, bound.1).unwrap();
    assert!(endpoint.readable().is_empty());
    farm.events.clear();
    farm.run(ms(500));
    for told in [Event::Writable(bound.1), Event::Readable(bound.1)] {
        assert!(farm.events.contains(&(1, told)), "{:?}", farm.events);
    }
    assert_eq!(farm.read(bound), b"next");
    farm.take(&client);
    assert_eq!(farm.write(bound, b"push"), 4);
    assert_eq!(farm.take(&client)[0].payload, b"push");
    // Closed while it is offered, it stays, too.
    client.ack += 4;
    farm.send(&client, "A", &[]);
    farm.dead[0] = true;
    let now = farm.now;
    let mut endpoint = farm.devices[1].endpoint(now, bound.1).unwrap();
    endpoint.set_quiet(true);
    endpoint.migrate(Some("s1")).unwrap();
    farm.pump();
    farm.close(bound);
    assert!(farm.take(&client)[0].header.fin);
}

#[test]
fn a_draining_server_gets_rid_of_its_connections() {
    let mut farm = Farm::round_robin(3);
    let (mut client, _) = moved(&mut farm);
    let mut local = farm.connect(1, 5000);
    exchange(&mut farm, &mut local);
    let now = farm.now;
    farm.devices[1].drain(now, true);
    farm.run(ms(500));
    assert!(
        farm.devices[0]
            .servers(farm.now)
            .iter()
            .any(|s| s.name == "s2" && s.draining)
    );
    assert_eq!(farm.devices[1].connections(), 0);
    for (client, port) in [(&mut client, 4001), (&mut local, 5000)] {
        assert_eq!(client.port, port);
        assert_ne!(exchange_somewhere(&mut farm, client).0, 1);
    }
    // Its own clients are served elsewhere.
    for port in 6000..6006 {
        let mut new = farm.connect(1, port);
        assert_ne!(exchange_somewhere(&mut farm, &mut new).0, 1);
    }
    let now = farm.now;
    farm.devices[1].drain(now, false);
    farm.run(ms(500));
    let mut at = vec![];
    for port in 7000..7006 {
        let mut new = farm.connect(1, port);
        at.push(exchange_somewhere(&mut farm, &mut new).0);
    }
    assert!(at.contains(&1), "{at:?}");
}

#[test]
fn each_request_of_a_connection_is_selected_for() {
    let mut farm = Farm::with(3, |_, config| config.balance.per_request = true);
    let mut client = farm.connect(0, 4000);
    let mut servers = vec![];
    for _ in 0..9 {
        servers.push(exchange_somewhere(&mut farm, &mut client).0);
    }
    for at in 0..3 {
        assert!(servers.contains(&at), "{servers:?}");
    }
}

/// A request in three segments that moves its connection: the first byte decides, all of it arrives, once.
#[test]
fn a_request_in_pieces_moves_its_connection_whole() {
    let mut farm = Farm::with(2, |_, config| config.balance.per_request = true);
    let (mut client, bound) = moved(&mut farm);
    // Round robin: the owner's own turn comes first.
    let mut at = bound.0;
    for _ in 0..4 {
        lose(&mut farm, FrameType::Acknowledgement, 2);
        for piece in REQUEST.chunks(10) {
            farm.send(&client, "A", piece);
            client.seq += piece.len() as u32;
            farm.run(ms(1));
        }
        farm.run(ms(100));
        let now = farm.now;
        let owner = farm
            .events
            .iter()
            .filter_map(|(at, e)| match e {
                Event::Bound { endpoint, .. } => Some((*at, *endpoint)),
                _ => None,
            })
            .rfind(|(at, id)| farm.devices[*at].endpoint(now, *id).is_some());
        let owner = owner.unwrap();
        at = owner.0;
        answer(&mut farm, &mut client, owner);
    }
    assert!(at < 2);
    assert!(!left(&farm).is_empty());
}

#[test]
fn clients_of_a_dead_owner_are_told() {
    for restarts in [false, true] {
        let mut farm = Farm::pair();
        let (client, _) = moved(&mut farm);
        farm.dead[1] = true;
        if restarts {
            let mut config = farm.devices[1].config().clone();
            config.incarnation += 1;
            farm.devices[1] = ipos_core::Device::new(config, farm.now).unwrap();
            farm.dead[1] = false;
            farm.run(ms(150));
        } else {
            farm.run(ms(2900));
            assert_eq!(farm.take(&client).len(), 0, "not for certain yet");
            farm.run(ms(400));
        }
        let sent = farm.take(&client);
        let [reset] = &sent[..] else {
            panic!("{sent:?}")
        };
        assert!(reset.header.rst);
        assert_eq!(
            reset.header.sequence_number,
            client.ack.raw(),
            "believed (RFC 5961)"
        );
        assert_eq!(reset.hardware, mac(0xa, 0));
        assert_eq!(tables(&farm, 0), [0; 5]);
        assert_eq!(farm.devices[0].counters().owners_lost, 1);
        // New ones go elsewhere, or to the new life.
        let mut new = farm.connect(0, 4500);
        exchange_somewhere(&mut farm, &mut new);
    }
}

#[test]
fn a_server_that_lives_on_port_b_keeps_its_connections() {
    let mut farm = Farm::pair();
    let (mut client, _) = moved(&mut farm);
    // The Synch LAN is cut: what the servers say there is dropped.
    for _ in 0..100 {
        let end = farm.now + ms(100);
        while farm.now < end {
            let next = farm
                .devices
                .iter()
                .filter_map(|d| d.poll_timeout())
                .min()
                .unwrap();
            farm.now = farm.now.max(next).min(end);
            let now = farm.now;
            for device in &mut farm.devices {
                device.handle_timeout(now);
                let mut buf = [0; 1514];
                while device.poll_transmit(now, Port::Synch, &mut buf).is_some() {}
            }
            farm.pump();
        }
    }
    assert!(
        farm.devices[0]
            .servers(farm.now)
            .iter()
            .any(|s| !s.is_self && !s.alive)
    );
    assert_eq!(farm.take(&client).len(), 0);
    farm.lan_b.clear();
    farm.send(&client, "PA", REQUEST);
    client.seq += REQUEST.len() as u32;
    let bound = farm.bound();
    assert_eq!(bound.0, 1);
    answer(&mut farm, &mut client, bound);
}

#[test]
fn frames_of_an_earlier_life_are_stale() {
    let mut farm = Farm::pair();
    let other = farm.connect(0, 4000);
    farm.send(&other, "PA", REQUEST);
    let client = farm.connect(0, 4001);
    farm.tap = Box::new(|frame| match frame.message {
        Message::Acknowledgement { .. } => Pass::Lose,
        _ => Pass::Deliver,
    });
    farm.send(&client, "PA", REQUEST);
    let acknowledgement = farm.lan_b.iter().find(|(from, frame)| {
        let (_, rest) = Ethernet::parse(frame).unwrap();
        *from == 1 && Frame::parse(rest).unwrap().message.frame_type() == FrameType::Acknowledgement
    });
    let (_, frame) = acknowledgement.unwrap().clone();
    let mut config = farm.devices[1].config().clone();
    config.incarnation += 1;
    farm.devices[1] = ipos_core::Device::new(config, farm.now).unwrap();
    farm.pump();
    farm.devices[1].handle_timeout(farm.now);
    farm.pump();
    assert_eq!(farm.table(0, "temporary"), 1, "the offer is out");
    farm.deliver(0, Port::B, &frame);
    assert_eq!(
        farm.table(0, "temporary"),
        1,
        "the server that has said so is no more"
    );
}

#[test]
fn a_packet_that_port_b_does_not_take_is_answered_with_the_size_that_it_takes() {
    let mut farm = Farm::pair();
    let (client, _) = moved(&mut farm);
    let frame = client.frame("PA", &[], &[7; 1460]);
    let verdict = farm.inject(&client, &frame);
    assert_eq!(
        verdict,
        ipos_core::Verdict::Drop(ipos_core::DropReason::TooBig)
    );
    let mut buf = [0; 1514];
    let now = farm.now;
    let len = farm.devices[0]
        .poll_transmit(now, Port::A, &mut buf)
        .unwrap();
    let ip = &buf[14..len];
    assert_eq!(ip[12..16], port_a(0).octets());
    let icmp = &ip[20..];
    assert_eq!(
        (icmp[0], icmp[1], &icmp[6..8]),
        (3, 4, &1484u16.to_be_bytes()[..])
    );
    assert_eq!(
        icmp[8..],
        frame[14..14 + 28],
        "the packet's header and eight bytes"
    );
}

/// What lies behind a gap was received and not consumed: nobody else has it.
#[test]
fn a_connection_with_a_gap_does_not_move() {
    let mut farm = Farm::with(2, |_, config| config.balance.per_request = true);
    let (mut client, bound) = moved(&mut farm);
    for _ in 0..2 {
        let behind = Client {
            seq: client.seq + 10,
            ..client.clone()
        };
        farm.send(&behind, "PA", &REQUEST[10..]);
        farm.devices[1]
            .endpoint(farm.now, bound.1)
            .unwrap()
            .set_quiet(true);
        let now = farm.now;
        farm.devices[1].migrate(now, &flow(&client), "s1").unwrap();
        farm.run(ms(100));
        assert_eq!(left(&farm), []);
        farm.send(&client, "PA", &REQUEST[..10]);
        client.seq += REQUEST.len() as u32;
        farm.run(ms(100));
        assert_eq!(left(&farm), []);
        assert_eq!(farm.read(bound), REQUEST);
        farm.take(&client);
    }
}

/// What the giver repeats arrives late: after the connection has come home, and ended.
#[test]
fn late_frames_bring_no_ended_connection_back() {
    let mut farm = Farm::pair();
    let (mut client, _) = moved(&mut farm);
    migrate(&mut farm, 1, &client, "s1");
    let frames: Vec<Vec<u8>> = farm.lan_b.iter().map(|(_, frame)| frame.clone()).collect();
    exchange(&mut farm, &mut client);
    let (at, id) = farm.bound();
    farm.send(&client, "R", &[]);
    farm.events.clear();
    assert!(farm.devices[at].endpoint(farm.now, id).is_none());
    assert_eq!(tables(&farm, 0), [0, 0, 0, 0, 1]);
    for frame in &frames {
        farm.deliver(0, Port::B, frame);
    }
    farm.pump();
    assert_eq!(tables(&farm, 0), [0, 0, 0, 0, 1]);
    assert_eq!(farm.events, []);
    // Its client opens another one between the same ports.
    let mut again = farm.connect(0, client.port);
    assert_eq!(tables(&farm, 0), [1, 0, 0, 0, 0]);
    exchange_somewhere(&mut farm, &mut again);
}

/// The first server has an offer that was given up, when it is told where the connection went instead.
#[test]
fn a_forward_record_follows_past_an_offer_that_was_given_up() {
    let mut farm = Farm::round_robin(3);
    let (mut client, _) = moved(&mut farm);
    lose(&mut farm, FrameType::Acknowledgement, 100);
    let now = farm.now;
    farm.devices[1].migrate(now, &flow(&client), "s1").unwrap();
    farm.run(ms(150));
    assert_eq!(left(&farm), [], "given up");
    farm.tap = Box::new(|_| Pass::Deliver);
    farm.lan_b.clear();
    farm.devices[1]
        .migrate(farm.now, &flow(&client), "s3")
        .unwrap();
    farm.run(ms(50));
    assert_eq!(tables(&farm, 0), [0, 0, 0, 1, 0], "it leads to the third");
    farm.run(ms(3000));
    farm.lan_b.clear();
    farm.send(&client, "PA", REQUEST);
    client.seq += REQUEST.len() as u32;
    assert_eq!(farm.lan_b.len(), 1, "directly");
    let bound = farm.bound();
    assert_eq!(farm.read((2, bound.1)), REQUEST);
}
