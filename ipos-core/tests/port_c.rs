//! LANs of clients: Port C, what leaves by it, and that everything about one connection agrees (FIG. 2B, 2C); servers on
//! different LANs A.

mod common;

use std::net::{Ipv4Addr, SocketAddrV4};

use common::talk::*;
use common::{CLIENT, CLIENT_MAC, Client, Farm, GATEWAY, isn, mac, port_a};
use etherparse::PacketBuilder;
use ipos_balance::PolicyKind;
use ipos_core::config::{Config, Listen, PortA, PortC};
use ipos_core::{Event, Flow, Port};
use ipos_proto::{Ethernet, MacAddr, Protocol};

const SYN: &[u8] = &[2, 4, 5, 0xb4];

fn port_c(server: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 66, 0, 11 + server)
}

/// The client is on the link of both LANs.
fn add(server: u8, config: &mut Config, responses: bool) {
    let port = PortA::new(mac(0xd, server), vec![port_c(server)], 0);
    config.port_c = Some(PortC { port, responses });
}

fn responses(server: u8, config: &mut Config) {
    add(server, config, true);
    config.listen.push(Listen {
        address: SocketAddrV4::new(port_a(server), 53),
        protocol: Protocol::Udp,
        service: "dns".into(),
    });
}

/// Frames that a device sends by each of the ports to clients.
fn sent(farm: &mut Farm, at: usize) -> [Vec<Vec<u8>>; 2] {
    let now = farm.now;
    [Port::A, Port::C].map(|port| {
        let mut buf = [0; 1514];
        let device = &mut farm.devices[at];
        std::iter::from_fn(|| {
            let len = device.poll_transmit(now, port, &mut buf)?;
            Some(buf[..len].to_vec())
        })
        .collect()
    })
}

#[test]
fn tcp_answers_leave_by_port_c_moved_or_not_and_with_a_syn_cookie() {
    let mut farm = Farm::with(2, |server, config| {
        responses(server, config);
        config.limits.temporary = 4;
    });
    let mut answers = vec![];
    for port in 4_000..4_002 {
        let client = Client::new(0, port, isn(port));
        answers.push(asked_by(&mut farm, Port::A, client));
    }
    assert_eq!(answers, [(0, mac(0xd, 0)), (1, mac(0xd, 1))]);
    // Nobody goes on with these: the next one gets a cookie.
    for port in 5_000..5_003 {
        farm.send_with(&Client::new(0, port, isn(port)), "S", SYN, &[]);
    }
    let cookies = |farm: &Farm| {
        let counters = farm.devices[0].counters();
        (counters.cookies_sent, counters.cookies_accepted)
    };
    assert_eq!(cookies(&farm), (0, 0));
    let client = Client::new(0, 6_000, isn(6_000));
    let (at, hardware) = asked_by(&mut farm, Port::A, client);
    assert_eq!(hardware, mac(0xd, at as u8));
    assert_eq!(cookies(&farm), (1, 1));
}

/// The second server is not on LAN C: it answers by its only port, with the address that the client has connected to.
#[test]
fn a_server_without_port_c_answers_a_client_of_one_that_has_it() {
    let mut farm = Farm::with(2, |server, config| {
        config.balance.policy = PolicyKind::RoundRobin;
        if server == 0 {
            add(server, config, false);
            let address = SocketAddrV4::new(port_c(server), 80);
            let listen = config.listen[0].clone();
            config.listen.push(Listen { address, ..listen });
        }
    });
    let mut answers = vec![];
    for port in 4_000..4_002 {
        let mut client = Client::new(0, port, isn(port));
        client.server = SocketAddrV4::new(port_c(0), 80);
        answers.push(asked_by(&mut farm, Port::C, client));
    }
    assert_eq!(answers, [(0, mac(0xd, 0)), (1, mac(0xa, 1))]);
}

/// A connection whose client's frames come in by `port` of the first server: who serves its request, and which port answers.
fn asked_by(farm: &mut Farm, port: Port, mut client: Client) -> (usize, MacAddr) {
    let MacAddr(to) = match port {
        Port::C => mac(0xd, 0),
        _ => mac(0xa, 0),
    };
    let send = |farm: &mut Farm, client: &Client, flags, options: &[u8], payload: &[u8]| {
        let mut frame = client.frame(flags, options, payload);
        frame[..to.len()].copy_from_slice(&to);
        farm.deliver(0, port, &frame);
        farm.pump();
    };
    send(farm, &client, "S", SYN, &[]);
    let [syn_ack] = &farm.take(&client)[..] else {
        panic!("one SYN-ACK")
    };
    let by = syn_ack.hardware;
    client.opened_by(syn_ack);
    send(farm, &client, "A", &[], &[]);
    send(farm, &client, "PA", &[], REQUEST);
    let bound = farm.bound();
    assert_eq!(farm.read(bound), REQUEST);
    farm.take(&client);
    farm.write(bound, RESPONSE);
    let answer = farm.take(&client);
    assert_eq!(payload(&answer), RESPONSE);
    assert!(answer.iter().all(|sent| sent.source == client.server));
    let hardware = answer[0].hardware;
    assert!(bound.0 > 0 || hardware == by, "one port for all");
    (bound.0, hardware)
}

#[test]
fn datagrams_and_echoes_leave_by_port_c() {
    let mut farm = Farm::with(2, responses);
    let endpoint = SocketAddrV4::new(port_a(0), 53);
    for (port, at) in [(4_000, 0), (4_001, 1)] {
        let flow = Flow::udp(SocketAddrV4::new(CLIENT, port), endpoint);
        let mut frame = vec![];
        PacketBuilder::ethernet2(CLIENT_MAC.0, mac(0xa, 0).0)
            .ipv4(CLIENT.octets(), endpoint.ip().octets(), 64)
            .udp(port, 53)
            .write(&mut frame, b"question")
            .unwrap();
        farm.deliver(0, Port::A, &frame);
        farm.pump();
        let got = farm.events.iter().rev();
        let mut got = got.filter(|(_, event)| matches!(event, Event::Datagram { .. }));
        assert_eq!(got.next().map(|(at, _)| *at), Some(at));
        let now = farm.now;
        farm.devices[at]
            .send_datagram(now, &flow, b"answer")
            .unwrap();
        farm.pump();
        let answer = (mac(0xd, at as u8), endpoint, port, b"answer".to_vec());
        assert_eq!(farm.datagrams.pop(), Some(answer));
    }
    let mut ping = vec![];
    PacketBuilder::ethernet2(CLIENT_MAC.0, mac(0xa, 0).0)
        .ipv4(CLIENT.octets(), port_a(0).octets(), 64)
        .icmpv4_echo_request(1, 2)
        .write(&mut ping, b"data")
        .unwrap();
    farm.deliver(0, Port::A, &ping);
    let [by_a, by_c] = sent(&mut farm, 0);
    assert_eq!((by_a.len(), by_c.len()), (0, 1));
    let (ethernet, packet) = Ethernet::parse(&by_c[0]).unwrap();
    assert_eq!(
        (ethernet.source, ethernet.destination),
        (mac(0xd, 0), CLIENT_MAC)
    );
    assert_eq!(packet[12..16], port_a(0).octets());
}

/// The second server is on another LAN of clients, behind another router: what has moved to it leaves by that router, with the
/// first server's address.
#[test]
fn a_connection_moves_to_a_server_on_another_lan_a() {
    let mut farm = Farm::with(2, |server, config| {
        if server == 1 {
            let address = Ipv4Addr::new(10, 78, 0, 12);
            config.port_a.addresses = vec![address];
            config.port_a.gateway = Some(GATEWAY);
            config.listen[0].address.set_ip(address);
        }
    });
    let (mut client, bound) = moved(&mut farm, 4001);
    assert_eq!(bound.0, 1);
    assert!(
        farm.asked_for.contains(&(1, GATEWAY)),
        "{:?}",
        farm.asked_for
    );
    assert!(!farm.asked_for.contains(&(1, CLIENT)));
    // And home again.
    migrate(&mut farm, 1, &client, "s1", 300);
    assert_eq!(exchange(&mut farm, &mut client, 150).0, 0);
}
