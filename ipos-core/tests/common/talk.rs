//! What the clients and the applications of the tests say, and what happens to their servers and wires meanwhile.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::net::SocketAddrV4;
use std::rc::Rc;

use etherparse::PacketBuilder;
use etherparse::icmpv4::DestUnreachableHeader;
use ipos_core::{Device, Duration, EndpointId, Event, Flow};
use ipos_proto::{Ethernet, Frame, FrameType, Message};

use super::{CLIENT, CLIENT_MAC, Client, Farm, Pass, Sent, config, mac, port_a};

pub const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
pub const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi";

/// An endpoint that is bound to an application, and its server.
pub type Bound = (usize, EndpointId);

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// Runs a test for every case; a test that fails has printed its case last.
pub fn each<T: Debug>(cases: impl IntoIterator<Item = T>, test: impl Fn(T)) {
    for case in cases {
        println!("case: {case:?}");
        test(case);
    }
}

/// Runs a test without the fault that it is about, then with it.
pub fn without_and_with(fault: impl Fn(bool)) {
    each([false, true], fault);
}

pub fn flow(client: &Client) -> Flow {
    Flow::tcp(SocketAddrV4::new(CLIENT, client.port), client.server)
}

/// The client's request, in one segment.
pub fn request(farm: &mut Farm, client: &mut Client) {
    farm.send(client, "PA", REQUEST);
    client.seq += REQUEST.len() as u32;
}

/// The application reads a request and answers it under the first server's address; it is at rest for `rest` ms then.
pub fn answer(farm: &mut Farm, client: &mut Client, bound: Bound, rest: u64) {
    assert_eq!(farm.read(bound), REQUEST);
    farm.take(client);
    farm.write(bound, RESPONSE);
    let sent = farm.take(client);
    assert_eq!(payload(&sent), RESPONSE);
    assert_eq!(sent[0].hardware, mac(0xa, bound.0 as u8));
    assert_eq!(sent[0].source, client.server);
    assert_eq!(sent[0].header.sequence_number, client.ack.raw());
    client.ack += RESPONSE.len() as u32;
    farm.send(client, "A", &[]);
    at_rest(farm, bound);
    farm.run(ms(rest));
    farm.take(client);
}

/// A request and its response; the application is at rest for `rest` ms then.
pub fn exchange(farm: &mut Farm, client: &mut Client, rest: u64) -> Bound {
    request(farm, client);
    farm.run(ms(5));
    let bound = farm.bound();
    answer(farm, client, bound, rest);
    bound
}

/// A request and its response by whatever server has the connection, when frames may be lost on the way.
pub fn exchange_somewhere(farm: &mut Farm, client: &mut Client) -> Bound {
    request(farm, client);
    farm.run(ms(1000));
    let mut with = alive(farm, client);
    let now = farm.now;
    with.retain(|(at, id)| {
        let endpoint = farm.devices[*at].endpoint(now, *id);
        endpoint.is_some_and(|e| !e.readable().is_empty())
    });
    let [bound] = with[..] else {
        panic!("one server has the request: {with:?}")
    };
    answer(farm, client, bound, 150);
    bound
}

/// A server alone.
pub fn alone() -> Farm {
    Farm::new(vec![config(0)])
}

/// A connection to the first server, which serves it; the application has read "ping".
pub fn asked(farm: &mut Farm) -> (Client, Bound) {
    let mut client = farm.connect(0, 4000);
    farm.send(&client, "PA", b"ping");
    client.seq += 4;
    let bound = farm.bound();
    assert_eq!((bound.0, farm.read(bound)), (0, b"ping".to_vec()));
    farm.take(&client);
    (client, bound)
}

/// The application waits for the next request.
pub fn at_rest(farm: &mut Farm, (at, id): Bound) {
    let endpoint = farm.devices[at].endpoint(farm.now, id);
    endpoint.expect("the endpoint lives").set_quiet(true);
}

/// Another client uses up the first server's turn: the next request goes to the second server.
pub fn skip_turn(farm: &mut Farm, port: u16) {
    for port in port + 20_000.. {
        let mut other = farm.connect(0, port);
        request(farm, &mut other);
        let served = farm.bound().0;
        farm.send(&other, "R", &[]);
        farm.run(ms(5));
        if served == 0 {
            return;
        }
    }
}

/// A connection to the first server whose request will be for the second one.
pub fn about_to_move(farm: &mut Farm) -> Client {
    skip_turn(farm, 4000);
    farm.lan_b.clear();
    farm.connect(0, 4001)
}

/// A connection to the first server that has moved to the second one, at rest.
pub fn moved(farm: &mut Farm, port: u16) -> (Client, Bound) {
    skip_turn(farm, port - 1);
    let mut client = farm.connect(0, port);
    let bound = exchange(farm, &mut client, 150);
    assert_eq!(bound.0, 1);
    (client, bound)
}

/// The client opens another connection from the port of an old one, to the first server, with a sequence number of its own choice.
pub fn connect_at(farm: &mut Farm, old: &Client, isn: u32) -> Client {
    farm.connect_from(0, old.port, isn)
}

/// The same; it moves to the second server as well, and is at rest.
pub fn again(farm: &mut Farm, old: &Client, isn: u32) -> (Client, Bound) {
    farm.run(ms(5));
    skip_turn(farm, old.port + 100);
    let mut new = connect_at(farm, old, isn);
    let bound = exchange(farm, &mut new, 150);
    assert_eq!(bound.0, 1, "the new connection is the second server's");
    (new, bound)
}

/// The operator of a server moves a connection; `rest` ms pass, and `lan_b` has what is said meanwhile.
pub fn migrate(farm: &mut Farm, at: usize, client: &Client, to: &str, rest: u64) {
    farm.lan_b.clear();
    let now = farm.now;
    farm.devices[at].migrate(now, &flow(client), to).unwrap();
    farm.run(ms(rest));
}

/// A server starts again with its old configuration.
pub fn restart(farm: &mut Farm, at: usize) {
    let mut config = farm.devices[at].config().clone();
    config.incarnation += 1;
    farm.devices[at] = Device::new(config, farm.now).unwrap();
    farm.dead[at] = false;
}

/// The endpoints of a connection that applications have now; two while a hand-over is under way.
pub fn alive(farm: &mut Farm, client: &Client) -> Vec<Bound> {
    farm.pump();
    let wanted = flow(client);
    let bound = farm.events.iter().filter_map(|(at, event)| match event {
        Event::Bound { endpoint, flow, .. } if *flow == wanted => Some((*at, *endpoint)),
        _ => None,
    });
    let bound: BTreeSet<Bound> = bound.collect();
    let now = farm.now;
    let lives = |(at, id): &Bound| farm.devices[*at].endpoint(now, *id).is_some();
    bound.into_iter().filter(lives).collect()
}

/// Who has the connection, once all is quiet; and that nobody else does.
pub fn owner(farm: &mut Farm, client: &Client) -> Bound {
    farm.run(ms(2500));
    let alive = alive(farm, client);
    let [owner] = alive[..] else {
        panic!("one owner: {alive:?}")
    };
    owner
}

/// Endpoints that have left for another server, and the servers that they left.
pub fn left(farm: &Farm) -> Vec<Bound> {
    let left = farm.events.iter().filter_map(|(at, event)| match event {
        Event::Left { endpoint, .. } => Some((*at, *endpoint)),
        _ => None,
    });
    left.collect()
}

/// How often a server has bound an endpoint.
pub fn times_bound(farm: &Farm, at: usize) -> usize {
    let bound =
        |(server, event): &&(usize, Event)| *server == at && matches!(event, Event::Bound { .. });
    farm.events.iter().filter(bound).count()
}

/// The next request of the connection comes to this endpoint.
pub fn works(farm: &mut Farm, client: &mut Client, bound: Bound) {
    farm.take(client);
    request(farm, client);
    farm.run(ms(300));
    no_reset(&farm.take(client));
    assert_eq!(farm.read(bound), REQUEST);
}

/// The client repeats its request twice a second; what it gets.
pub fn insist(farm: &mut Farm, client: &Client, times: u32) -> Vec<Sent> {
    let mut got = vec![];
    for _ in 0..times {
        farm.send(client, "PA", REQUEST);
        farm.run(ms(500));
        got.extend(farm.take(client));
    }
    got
}

pub fn no_reset(sent: &[Sent]) {
    assert!(sent.iter().all(|s| !s.header.rst), "reset: {sent:?}");
}

pub fn reset(sent: &[Sent]) {
    assert!(sent.iter().any(|s| s.header.rst), "no reset: {sent:?}");
}

/// What the segments carry, one after the other.
pub fn payload(sent: &[Sent]) -> Vec<u8> {
    sent.iter().flat_map(|s| s.payload.clone()).collect()
}

pub fn kind(frame: &[u8]) -> FrameType {
    let (_, rest) = Ethernet::parse(frame).unwrap();
    Frame::parse(rest).unwrap().message.frame_type()
}

/// What a server has said on LAN B with frames of one type.
pub fn frames(farm: &Farm, from: usize, wanted: FrameType) -> Vec<Vec<u8>> {
    let said = farm.lan_b.iter();
    let said = said.filter(|(at, frame)| *at == from && kind(frame) == wanted);
    said.map(|(_, frame)| frame.clone()).collect()
}

/// Loses every frame of a type, or the first `n`.
pub fn lose(farm: &mut Farm, lost: FrameType, n: usize) -> Rc<Cell<usize>> {
    let seen = Rc::new(Cell::new(0));
    let count = seen.clone();
    farm.tap = Box::new(move |frame| {
        if frame.message.frame_type() != lost {
            return Pass::Deliver;
        }
        count.set(count.get() + 1);
        if count.get() <= n {
            Pass::Lose
        } else {
            Pass::Deliver
        }
    });
    seen
}

/// Whether a frame tells that replayed packets have come.
pub fn covers(frame: &Frame<'_>) -> bool {
    matches!(&frame.message, Message::Acknowledgement { trailer: Some(t) } if t.acknowledged().is_some())
}

/// Loses every 0x03 that tells that replayed packets have come.
pub fn lose_covers(farm: &mut Farm) {
    farm.tap = Box::new(|frame| {
        if covers(frame) {
            Pass::Lose
        } else {
            Pass::Deliver
        }
    });
}

/// LAN B loses nothing any more.
pub fn heal(farm: &mut Farm) {
    farm.tap = Box::new(|_| Pass::Deliver);
}

/// A router's ICMP error about a packet that the first server's address has sent, for Port A of the first server.
pub fn icmp_error(kind: DestUnreachableHeader, about: &[u8]) -> Vec<u8> {
    let mut frame = vec![];
    PacketBuilder::ethernet2(CLIENT_MAC.0, mac(0xa, 0).0)
        .ipv4([192, 0, 2, 1], port_a(0).octets(), 64)
        .icmpv4(etherparse::Icmpv4Type::DestinationUnreachable(kind))
        .write(&mut frame, &about[..28])
        .unwrap();
    frame
}

/// A segment that the first server's address has sent to the client: what an ICMP error is about.
pub fn segment_to(client: &Client, seq: u32) -> Vec<u8> {
    let mut packet = vec![];
    PacketBuilder::ipv4(client.server.ip().octets(), CLIENT.octets(), 64)
        .tcp(client.server.port(), client.port, seq, 100)
        .write(&mut packet, &[])
        .unwrap();
    packet
}
