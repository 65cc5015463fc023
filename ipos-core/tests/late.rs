//! Frames of earlier connections, lives and moves that arrive late; cuts of LAN B at the worst moment; wishes, bounds and
//! neighbours at their edges. Where a test has a control, that one leaves out the fault.

mod common;

use common::{Client, Farm, Pass, lose, mac};
use ipos_core::{Duration, EndpointId, Event, Flow, Port};
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
fn answer(farm: &mut Farm, client: &mut Client, bound: (usize, EndpointId), rest: u64) {
    assert_eq!(farm.read(bound), REQUEST);
    farm.write(bound, RESPONSE);
    farm.take(client);
    client.ack += RESPONSE.len() as u32;
    farm.send(client, "A", &[]);
    farm.devices[bound.0]
        .endpoint(farm.now, bound.1)
        .unwrap()
        .set_quiet(true);
    farm.run(ms(rest));
    farm.take(client);
}
fn exchange(farm: &mut Farm, client: &mut Client, rest: u64) -> (usize, EndpointId) {
    farm.send(client, "PA", REQUEST);
    client.seq += REQUEST.len() as u32;
    farm.run(ms(5));
    let bound = farm.bound();
    answer(farm, client, bound, rest);
    bound
}
/// The first server's turn is used up: the next request goes to the second one.
fn skip_turn(farm: &mut Farm, port: u16) {
    let other = farm.connect(0, port + 20_000);
    farm.send(&other, "PA", REQUEST);
    if farm.bound().0 != 0 {
        return skip_turn(farm, port + 1);
    }
    farm.send(&other, "R", &[]);
    farm.run(ms(5));
}
fn moved(farm: &mut Farm, port: u16) -> (Client, (usize, EndpointId)) {
    skip_turn(farm, port - 1);
    let mut client = farm.connect(0, port);
    let bound = exchange(farm, &mut client, 150);
    assert_eq!(bound.0, 1);
    (client, bound)
}
fn kind(frame: &[u8]) -> FrameType {
    let (_, rest) = Ethernet::parse(frame).unwrap();
    Frame::parse(rest).unwrap().message.frame_type()
}
fn frames(farm: &Farm, from: usize, wanted: FrameType) -> Vec<Vec<u8>> {
    let of = farm
        .lan_b
        .iter()
        .filter(|(at, f)| *at == from && kind(f) == wanted);
    of.map(|(_, f)| f.clone()).collect()
}
/// The client, after its first connection ended by RST, opens another one from the same port, that goes to s2 as well.
fn again(farm: &mut Farm, old: &Client) -> (Client, (usize, EndpointId)) {
    farm.run(ms(5));
    skip_turn(farm, old.port + 100);
    let mut new = farm.connect(0, old.port);
    let bound = exchange(farm, &mut new, 150);
    (new, bound)
}
fn works(farm: &mut Farm, client: &mut Client, bound: (usize, EndpointId)) {
    farm.take(client);
    farm.events.clear();
    farm.send(client, "PA", REQUEST);
    client.seq += REQUEST.len() as u32;
    farm.run(ms(300));
    let sent = farm.take(client);
    assert!(sent.iter().all(|s| !s.header.rst), "reset: {sent:?}");
    assert!(
        farm.devices[bound.0].endpoint(farm.now, bound.1).is_some(),
        "gone: {:?}",
        farm.events
    );
    assert_eq!(farm.read(bound), REQUEST);
}

#[test]
fn old_release_repeated() {
    old_release_repeated_(true)
}
#[test]
fn old_release_repeated_control() {
    old_release_repeated_(false)
}
fn old_release_repeated_(late: bool) {
    let mut farm = Farm::pair();
    let (old, _) = moved(&mut farm, 4001);
    farm.send(&old, "R", &[]);
    let release = frames(&farm, 1, FrameType::Release).remove(0);
    let (mut new, bound) = again(&mut farm, &old);
    assert_eq!(bound.0, 1);
    if late {
        farm.deliver(0, Port::B, &release);
    }
    works(&mut farm, &mut new, bound);
}

#[test]
fn old_offer_repeated() {
    old_offer_repeated_(true)
}
#[test]
fn old_offer_repeated_control() {
    old_offer_repeated_(false)
}
fn old_offer_repeated_(late: bool) {
    let mut farm = Farm::pair();
    let (old, _) = moved(&mut farm, 4001);
    let offer = frames(&farm, 0, FrameType::Endpoint).remove(0);
    farm.send(&old, "R", &[]);
    let (mut new, bound) = again(&mut farm, &old);
    assert_eq!(bound.0, 1);
    if late {
        farm.deliver(1, Port::B, &offer);
    }
    farm.pump();
    works(&mut farm, &mut new, bound);
}

#[test]
fn old_moved_repeated() {
    old_moved_repeated_(true)
}
#[test]
fn old_moved_repeated_control() {
    old_moved_repeated_(false)
}
fn old_moved_repeated_(late: bool) {
    let mut farm = Farm::round_robin(3);
    let (mut old, _) = moved(&mut farm, 4001);
    let now = farm.now;
    farm.devices[1].migrate(now, &flow(&old), "s3").unwrap();
    farm.run(ms(300));
    let moved_frame = frames(&farm, 2, FrameType::Moved).remove(0);
    assert_eq!(exchange(&mut farm, &mut old, 150).0, 2);
    farm.send(&old, "R", &[]);
    // s2 keeps its record of the old connection for a minute.
    farm.run(ms(61_000));
    let mut new = farm.connect(0, old.port);
    let mut bound = exchange(&mut farm, &mut new, 150);
    for _ in 0..3 {
        if bound.0 == 1 {
            break;
        }
        farm.send(&new, "R", &[]);
        farm.run(ms(61_000));
        new = farm.connect(0, old.port);
        bound = exchange(&mut farm, &mut new, 150);
    }
    assert_eq!(bound.0, 1);
    if late {
        farm.deliver(0, Port::B, &moved_frame);
    }
    farm.pump();
    farm.send(&new, "PA", REQUEST);
    farm.run(ms(200));
    let sent = farm.take(&new);
    println!("first try: {} segments", sent.len());
    farm.send(&new, "PA", REQUEST);
    farm.run(ms(200));
    let sent = farm.take(&new);
    assert!(sent.iter().all(|s| !s.header.rst), "reset {sent:?}");
    assert_eq!(farm.read(bound), REQUEST);
}

#[test]
fn old_acknowledgement_repeated() {
    old_acknowledgement_repeated_(true)
}
#[test]
fn old_acknowledgement_repeated_control() {
    old_acknowledgement_repeated_(false)
}
fn old_acknowledgement_repeated_(late: bool) {
    let mut farm = Farm::pair();
    let (old, _) = moved(&mut farm, 4001);
    let ack = frames(&farm, 1, FrameType::Acknowledgement).remove(0);
    farm.send(&old, "R", &[]);
    farm.run(ms(5));
    skip_turn(&mut farm, 4100);
    let mut new = farm.connect(0, old.port);
    lose(&mut farm, FrameType::Endpoint, 2);
    farm.send(&new, "PA", REQUEST);
    if late {
        farm.deliver(0, Port::B, &ack);
    }
    farm.run(ms(500));
    farm.tap = Box::new(|_| Pass::Deliver);
    farm.take(&new);
    // The client sends it again.
    farm.send(&new, "PA", REQUEST);
    let sent = farm.take(&new);
    assert!(sent.iter().all(|s| !s.header.rst), "reset: {sent:?}");
    new.seq += REQUEST.len() as u32;
    let bound = farm.bound();
    assert_eq!(farm.read(bound), REQUEST);
}

/// Everything from the giver is lost for longer than the install deadline.
#[test]
fn partition_while_coming_home() {
    cut_while_coming_home(2200)
}
#[test]
fn partition_while_coming_home_control() {
    cut_while_coming_home(1500)
}
fn cut_while_coming_home(lost: u64) {
    let mut farm = Farm::pair();
    let (mut client, _) = moved(&mut farm, 4001);
    lose(&mut farm, FrameType::Packet, usize::MAX);
    let now = farm.now;
    farm.devices[1].migrate(now, &flow(&client), "s1").unwrap();
    farm.run(ms(lost));
    farm.tap = Box::new(|_| Pass::Deliver);
    farm.run(ms(1000));
    for _ in 0..5 {
        farm.send(&client, "PA", REQUEST);
        farm.run(ms(2000));
    }
    let sent = farm.take(&client);
    for at in 0..2 {
        println!("server {at}: {:?}", farm.devices[at].tables());
    }
    client.seq += REQUEST.len() as u32;
    assert!(
        !sent.is_empty(),
        "nobody answers: neither an acknowledgment nor a RST in 10 s"
    );
}

#[test]
fn icmp_errors_do_not_go_in_circles() {
    let mut farm = Farm::pair();
    let (client, _) = moved(&mut farm, 4001);
    lose(&mut farm, FrameType::Packet, usize::MAX);
    let now = farm.now;
    farm.devices[1].migrate(now, &flow(&client), "s1").unwrap();
    farm.run(ms(2200));
    let mut n = 0;
    farm.tap = Box::new(move |frame| {
        if let Message::Packet(p) = frame.message
            && p[9] == 1
        {
            n += 1;
            assert!(n < 50, "an ICMP error goes round and round");
        }
        Pass::Deliver
    });
    // Host unreachable, about a segment of the connection.
    let mut original = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
    original.extend(client.server.ip().octets());
    original.extend(common::CLIENT.octets());
    original.extend(80u16.to_be_bytes());
    original.extend(client.port.to_be_bytes());
    original.extend([0; 4]);
    let mut icmp = vec![3, 1, 0, 0, 0, 0, 0, 0];
    icmp.extend(&original);
    let sum = ipos_proto::internet_checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = vec![];
    frame.extend(mac(0xa, 0).0);
    frame.extend(common::CLIENT_MAC.0);
    frame.extend([8, 0]);
    let mut ip = vec![0x45, 0];
    ip.extend(((20 + icmp.len()) as u16).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 1, 0, 0]);
    ip.extend(common::CLIENT.octets());
    ip.extend(client.server.ip().octets());
    let sum = ipos_proto::internet_checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    frame.extend(ip);
    frame.extend(icmp);
    let verdict = farm.inject(&client, &frame);
    println!("{verdict:?}");
}

#[test]
fn nudge_of_the_first_server_is_not_repeated_for_ever() {
    let mut farm = Farm::pair();
    let mut client = farm.connect(0, 4001);
    assert_eq!(exchange(&mut farm, &mut client, 150).0, 0);
    // The 0x03 that covers is lost, once.
    let mut n = 0;
    farm.tap = Box::new(move |frame| {
        if frame.message.frame_type() == FrameType::Acknowledgement {
            n += 1;
            if n == 2 {
                return Pass::Lose;
            }
        }
        Pass::Deliver
    });
    let now = farm.now;
    farm.devices[0].migrate(now, &flow(&client), "s2").unwrap();
    farm.run(ms(1000));
    assert_eq!(exchange(&mut farm, &mut client, 150).0, 1);
    farm.lan_b.clear();
    farm.run(ms(20_000));
    let packets = frames(&farm, 0, FrameType::Packet).len();
    assert!(
        packets < 3,
        "{packets} repetitions in 20 s; kept {}",
        farm.devices[0].kept()
    );
}

#[test]
fn a_wish_within_the_first_100_ms_is_honoured() {
    let mut farm = Farm::round_robin(3);
    skip_turn(&mut farm, 4000);
    let mut client = farm.connect(0, 4001);
    let bound = exchange(&mut farm, &mut client, 1);
    assert_eq!(bound.0, 1);
    let now = farm.now;
    farm.devices[1].migrate(now, &flow(&client), "s3").unwrap();
    farm.run(ms(30_000));
    assert_eq!(
        farm.table(2, "forward-connect"),
        1,
        "idle for 30 s, and still here"
    );
}

#[test]
fn an_outbox_of_one_does_not_stop_reaping() {
    let mut farm = Farm::with(2, |_, c| c.limits.outbox = 1);
    // A restart of s2 is heard.
    let mut config = farm.devices[1].config().clone();
    config.incarnation += 1;
    farm.devices[1] = ipos_core::Device::new(config, farm.now).unwrap();
    for _ in 0..10 {
        farm.now += ms(50);
        let now = farm.now;
        farm.devices[1].handle_timeout(now);
        farm.pump();
        for _ in 0..100 {
            farm.devices[0].handle_timeout(now);
            farm.pump();
        }
    }
    let next = farm.devices[0].poll_timeout().unwrap();
    assert!(
        next > farm.now,
        "due at {next:?} for ever, now {:?}",
        farm.now
    );
}

/// A server that has restarted takes a connection before the first server has heard of its new life.
#[test]
fn moved_to_a_new_life() {
    let mut farm = Farm::round_robin(3);
    let (mut client, _) = moved(&mut farm, 4001);
    let mut config = farm.devices[2].config().clone();
    config.incarnation += 1;
    farm.devices[2] = ipos_core::Device::new(config, farm.now).unwrap();
    // The reports of the new life reach s2 only, for 500 ms.
    farm.synch_lost = Some((2, 0));
    farm.run(ms(300));
    let now = farm.now;
    farm.devices[1].migrate(now, &flow(&client), "s3").unwrap();
    farm.run(ms(100));
    let bound = exchange(&mut farm, &mut client, 20);
    assert_eq!(bound.0, 2);
    farm.synch_lost = None;
    farm.run(ms(300));
    works(&mut farm, &mut client, bound);
}

/// A server owns a connection and restarts; the first server, which has not heard of it, goes on repeating the request.
#[test]
fn replay_to_a_new_life() {
    let mut farm = Farm::pair();
    skip_turn(&mut farm, 4000);
    let client = farm.connect(0, 4001);
    farm.tap = Box::new(|frame| match &frame.message {
        Message::Acknowledgement { trailer: Some(t) } if t.acknowledged().is_some() => Pass::Lose,
        _ => Pass::Deliver,
    });
    farm.send(&client, "PA", REQUEST);
    farm.run(ms(1));
    assert_eq!(farm.bound().0, 1);
    let mut config = farm.devices[1].config().clone();
    config.incarnation += 1;
    farm.devices[1] = ipos_core::Device::new(config, farm.now).unwrap();
    farm.synch_lost = Some((1, 0));
    farm.run(ms(300));
    assert_eq!(farm.table(1, "forward-connect"), 0, "two lives own it");
    farm.synch_lost = None;
    farm.run(ms(300));
    let sent = farm.take(&client);
    assert!(sent.iter().any(|s| s.header.rst), "{sent:?}");
}

/// An owner that has restarted says itself that it knows nothing of the connection, when the Synch LAN does not.
#[test]
fn a_new_life_disowns_what_it_does_not_know() {
    let mut farm = Farm::pair();
    let (mut client, _) = moved(&mut farm, 4001);
    let mut config = farm.devices[1].config().clone();
    config.incarnation += 1;
    farm.devices[1] = ipos_core::Device::new(config, farm.now).unwrap();
    farm.synch_lost = Some((1, 0));
    farm.run(ms(150));
    farm.send(&client, "PA", REQUEST);
    client.seq += REQUEST.len() as u32;
    farm.run(ms(150));
    let sent = farm.take(&client);
    assert!(sent.iter().any(|s| s.header.rst), "{sent:?}");
    assert_eq!(farm.table(0, "forward"), 0);
}

/// A frame whose trailer was broken on its way, so that it is of a life to come.
#[test]
fn a_broken_trailer_ends_no_life() {
    let mut farm = Farm::pair();
    let (mut client, bound) = moved(&mut farm, 4001);
    let told = frames(&farm, 1, FrameType::Acknowledgement);
    let mut frame = told.last().unwrap().clone();
    let incarnation = frame.len() - 8;
    frame[incarnation] ^= 0x80;
    farm.deliver(0, Port::B, &frame);
    works(&mut farm, &mut client, bound);
    let (mut next, bound) = moved(&mut farm, 4101);
    works(&mut farm, &mut next, bound);
}

#[test]
fn reopen_tells_the_host() {
    let mut farm = Farm::pair();
    let mut client = farm.connect(0, 4001);
    let bound = exchange(&mut farm, &mut client, 150);
    assert_eq!(bound.0, 0);
    let now = farm.now;
    farm.devices[0].endpoint(now, bound.1).unwrap().shutdown();
    farm.pump();
    client.ack += 1;
    farm.send(&client, "FA", &[]);
    client.seq += 1;
    assert!(farm.devices[0].endpoint(now, bound.1).is_some());
    farm.events.clear();
    let mut syn = client.clone();
    syn.seq += 100_000;
    farm.send_with(&syn, "S", &[2, 4, 5, 0xb4], &[]);
    let alive = farm.devices[0].endpoint(now, bound.1).is_some();
    let told = farm
        .events
        .iter()
        .any(|(_, e)| matches!(e, Event::Failed(id, _) if *id == bound.1));
    assert!(
        alive || told,
        "the endpoint is gone, and its host was told nothing: {:?}",
        farm.events
    );
}

/// A connection to s3 that is now at s1, at rest.
fn from_s3_to_s1(farm: &mut Farm) -> Client {
    let mut two = farm.connect(2, 4001);
    farm.send(&two, "PA", REQUEST);
    two.seq += REQUEST.len() as u32;
    farm.run(ms(5));
    let bound = farm.bound();
    answer(farm, &mut two, bound, 150);
    if bound.0 != 0 {
        let now = farm.now;
        farm.devices[bound.0]
            .migrate(now, &flow(&two), "s1")
            .unwrap();
        farm.run(ms(300));
    }
    let bound = farm.bound();
    assert_eq!(bound.0, 0);
    farm.devices[0]
        .endpoint(farm.now, bound.1)
        .unwrap()
        .set_quiet(true);
    two
}

/// The same client port towards two servers; both connections end up at s2; one came there through s1.
#[test]
fn move_with_two_connections_of_one_port() {
    let mut farm = Farm::round_robin(3);
    let two = from_s3_to_s1(&mut farm);
    let now = farm.now;
    farm.devices[0].migrate(now, &flow(&two), "s2").unwrap();
    // s1's record of `two` is forgotten after a minute without packets.
    farm.run(ms(62_000));
    assert_eq!(
        (farm.table(0, "forward"), farm.table(1, "forward-connect")),
        (0, 1)
    );
    let mut one = farm.connect(0, 4001);
    let mut bound = exchange(&mut farm, &mut one, 150);
    if bound.0 == 0 {
        let now = farm.now;
        farm.devices[0].migrate(now, &flow(&one), "s2").unwrap();
        farm.run(ms(300));
        bound = farm.bound();
    }
    assert_eq!(
        (
            farm.table(0, "forward"),
            farm.table(1, "forward-connect"),
            bound.0
        ),
        (1, 2, 1)
    );
    let now = farm.now;
    farm.lan_b.clear();
    farm.devices[0].migrate(now, &flow(&one), "s3").unwrap();
    farm.pump();
    println!("{:x?} forward {}", farm.types(), farm.table(0, "forward"));
    farm.run(ms(50));
    farm.send(&one, "PA", REQUEST);
    one.seq += REQUEST.len() as u32;
    farm.run(ms(100));
    let sent = farm.take(&one);
    assert!(sent.iter().all(|s| !s.header.rst), "reset: {sent:?}");
}

/// An unrelated forward record of the same client port makes every 0x03 ambiguous.
fn unrelated(unrelated: bool) {
    let mut farm = Farm::round_robin(3);
    if unrelated {
        moved(&mut farm, 4001);
    }
    let two = from_s3_to_s1(&mut farm);
    farm.lan_b.clear();
    let now = farm.now;
    farm.devices[0].migrate(now, &flow(&two), "s3").unwrap();
    farm.run(ms(300));
    assert_eq!(farm.types(), [1, 3, 2, 3]);
}
#[test]
fn unrelated_forward_record() {
    unrelated(true)
}
#[test]
fn unrelated_forward_record_control() {
    unrelated(false)
}

/// As r7, but the endpoint came without a request, so that no timer of its own looks again.
#[test]
fn a_wish_for_an_endpoint_that_has_just_come() {
    let mut farm = Farm::round_robin(3);
    let (client, _) = moved(&mut farm, 4001);
    let now = farm.now;
    farm.devices[1].migrate(now, &flow(&client), "s3").unwrap();
    farm.run(ms(20));
    let bound = farm.bound();
    assert_eq!(bound.0, 2);
    let now = farm.now;
    farm.devices[2]
        .endpoint(now, bound.1)
        .unwrap()
        .set_quiet(true);
    farm.devices[2].migrate(now, &flow(&client), "s2").unwrap();
    farm.run(ms(600_000));
    assert_eq!(
        farm.table(1, "forward-connect"),
        1,
        "idle for ten minutes, and it has not moved"
    );
}

/// While s2's offer to come home is open, its client's large packets go to s2 by `pass_back`.
#[test]
fn pass_back_of_a_packet_too_big_for_port_b() {
    let mut farm = Farm::pair();
    let (client, _) = moved(&mut farm, 4001);
    lose(&mut farm, FrameType::Acknowledgement, usize::MAX);
    let now = farm.now;
    farm.devices[1].migrate(now, &flow(&client), "s1").unwrap();
    farm.pump();
    let frame = client.frame("PA", &[], &[7; 1460]);
    farm.lan_b.clear();
    let verdict = farm.inject(&client, &frame);
    let longest = farm.lan_b.iter().map(|(_, f)| f.len()).max().unwrap_or(0);
    assert!(longest <= 1514, "{longest} bytes on Port B: {verdict:?}");
}

/// Dead owners are to be reset after a minute; members are forgotten after half of it.
#[test]
fn owners_are_not_forgotten_before_they_are_lost() {
    let mut farm = Farm::with(2, |_, c| c.limits.owner_lost = Some(ms(60_000)));
    let (client, _) = moved(&mut farm, 4001);
    farm.dead[1] = true;
    farm.run(ms(120_000));
    let sent = farm.take(&client);
    assert!(
        sent.iter().any(|s| s.header.rst),
        "never told; forward {}",
        farm.table(0, "forward")
    );
}

/// A 0x02 of the old connection arrives between the new one's 0x01 and (lost) 0x03.
#[test]
fn old_packet_makes_no_owner() {
    old_packet_makes_no_owner_(true)
}
#[test]
fn old_packet_makes_no_owner_control() {
    old_packet_makes_no_owner_(false)
}
fn old_packet_makes_no_owner_(late: bool) {
    let mut farm = Farm::pair();
    let (old, _) = moved(&mut farm, 4001);
    let packet = frames(&farm, 0, FrameType::Packet).remove(0);
    farm.send(&old, "R", &[]);
    farm.run(ms(5));
    skip_turn(&mut farm, 4100);
    let new = farm.connect(0, old.port);
    lose(&mut farm, FrameType::Acknowledgement, usize::MAX);
    farm.send(&new, "PA", REQUEST);
    if late {
        farm.deliver(1, Port::B, &packet);
    }
    farm.run(ms(3000));
    let owners: Vec<usize> = (0..2)
        .filter(|at| farm.table(*at, "local") + farm.table(*at, "forward-connect") > 0)
        .collect();
    let speakers: std::collections::BTreeSet<_> =
        farm.take(&new).iter().map(|s| s.hardware.0).collect();
    assert!(
        owners.len() < 2,
        "two owners {owners:?}; who spoke: {speakers:?}"
    );
}

/// UDP only: the client's hardware address changes.
#[test]
fn udp_asks_for_a_stale_neighbour_again() {
    let mut farm = Farm::with(1, |_, c| {
        let mut l = c.listen[0].clone();
        l.protocol = ipos_proto::Protocol::Udp;
        c.listen.push(l);
    });
    let server = std::net::SocketAddrV4::new(common::port_a(0), 80);
    let mut asked = 0;
    for n in 0..40u64 {
        let b = etherparse::PacketBuilder::ethernet2(common::CLIENT_MAC.0, mac(0xa, 0).0)
            .ipv4(common::CLIENT.octets(), server.ip().octets(), 64)
            .udp(5353, 80);
        let mut frame = vec![];
        b.write(&mut frame, b"q").unwrap();
        farm.deliver(0, Port::A, &frame);
        let f = Flow::udp(std::net::SocketAddrV4::new(common::CLIENT, 5353), server);
        let now = farm.now;
        farm.devices[0].send_datagram(now, &f, b"a").unwrap();
        let mut buf = [0; 1514];
        while let Some(len) = farm.devices[0].poll_transmit(now, Port::A, &mut buf) {
            if buf[12..14] == [8, 6] {
                asked += usize::from(n > 0);
                let reply = common::arp_frame(
                    etherparse::ArpOperation::REPLY,
                    mac(0xa, 0),
                    common::CLIENT,
                    common::port_a(0),
                );
                farm.deliver(0, Port::A, &reply);
            }
            let _ = len;
        }
        farm.run(ms(30_000));
    }
    assert!(asked > 0, "in 20 minutes the address was never confirmed");
}

/// The packets of the first hand-over are lost for longer than the install deadline; nobody dies.
#[test]
fn partition_after_the_first_acknowledgement() {
    let mut farm = Farm::pair();
    skip_turn(&mut farm, 4000);
    let client = farm.connect(0, 4001);
    lose(&mut farm, FrameType::Packet, usize::MAX);
    farm.send(&client, "PA", REQUEST);
    for _ in 0..5 {
        farm.run(ms(440));
        farm.send(&client, "PA", REQUEST);
    }
    farm.tap = Box::new(|_| Pass::Deliver);
    farm.run(ms(1000));
    farm.send(&client, "PA", REQUEST);
    let sent = farm.take(&client);
    assert!(sent.iter().all(|s| !s.header.rst), "reset {sent:?}");
}

/// 0x02 with an ICMP error, from a host of LAN B that is no server.
#[test]
fn icmp_from_a_stranger() {
    let mut farm = Farm::pair();
    let (client, _) = moved(&mut farm, 4001);
    let frame = frames(&farm, 0, FrameType::Packet);
    let _ = frame;
    let mut original = vec![0x45, 0, 0, 40, 0, 0, 0, 0, 64, 6, 0, 0];
    original.extend(client.server.ip().octets());
    original.extend(common::CLIENT.octets());
    original.extend(80u16.to_be_bytes());
    original.extend(client.port.to_be_bytes());
    original.extend([0; 4]);
    let mut icmp = vec![3, 1, 0, 0, 0, 0, 0, 0];
    icmp.extend(&original);
    let sum = ipos_proto::internet_checksum(&icmp);
    icmp[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut ip = vec![0x45, 0];
    ip.extend(((20 + icmp.len()) as u16).to_be_bytes());
    ip.extend([0, 0, 0, 0, 64, 1, 0, 0]);
    ip.extend(common::CLIENT.octets());
    ip.extend(client.server.ip().octets());
    let sum = ipos_proto::internet_checksum(&ip);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());
    ip.extend(icmp);
    let header = ipos_proto::Header {
        client: std::net::SocketAddrV4::new(common::CLIENT, client.port),
        destination: farm.devices[0].config().port_b.address,
        port: 80,
        frame_type: FrameType::Packet,
        protocol: ipos_proto::Protocol::Tcp,
    };
    let ethernet = Ethernet {
        destination: mac(0xb, 0),
        source: mac(0xb, 99),
        ethertype: 7,
    };
    let frame = [&ethernet.to_bytes()[..], &header.to_bytes(), &ip].concat();
    let verdict = farm.deliver(0, Port::B, &frame);
    assert_eq!(
        verdict,
        ipos_core::Verdict::Drop(ipos_core::DropReason::Stranger)
    );
}

/// More kept packets than the outbox takes at once: each has its turn.
#[test]
fn a_small_outbox_lets_every_kept_packet_through() {
    let mut farm = Farm::with(2, |_, config| config.limits.outbox = 4);
    skip_turn(&mut farm, 4000);
    let client = farm.connect(0, 4001);
    let mut behind = client.clone();
    for piece in REQUEST.chunks(2).skip(1) {
        behind.seq += 2;
        farm.send(&behind, "PA", piece);
    }
    farm.send(&client, "PA", &REQUEST[..2]);
    farm.run(ms(3000));
    let bound = farm.bound();
    assert_eq!((bound.0, farm.read(bound)), (1, REQUEST.to_vec()));
}
