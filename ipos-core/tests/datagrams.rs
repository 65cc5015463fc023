//! UDP flows (FIG. 11C, 11F, 11H).

mod common;

use std::net::SocketAddrV4;

use common::talk::{heal, icmp_error, lose, ms};
use common::{CLIENT, CLIENT_MAC, Farm, Pass, arp_frame, mac, port_a};
use etherparse::icmpv4::DestUnreachableHeader;
use etherparse::{ArpOperation, PacketBuilder};
use ipos_core::config::{Config, Listen};
use ipos_core::{DatagramError, DropReason, Event, Flow, Port, Verdict};
use ipos_proto::{Ethernet, FrameType, Protocol};

fn dns(server: u8, config: &mut Config) {
    config.listen.push(Listen {
        address: SocketAddrV4::new(port_a(server), 53),
        protocol: Protocol::Udp,
        service: "dns".into(),
    });
}

fn farm(servers: u8) -> Farm {
    Farm::with(servers, dns)
}

fn flow(server: u8, port: u16) -> Flow {
    Flow::udp(
        SocketAddrV4::new(CLIENT, port),
        SocketAddrV4::new(port_a(server), 53),
    )
}

fn frame(flow: &Flow, payload: &[u8]) -> Vec<u8> {
    let to = mac(0xa, flow.endpoint.ip().octets()[3] - 11);
    let mut frame = vec![];
    PacketBuilder::ethernet2(CLIENT_MAC.0, to.0)
        .ipv4(flow.client.ip().octets(), flow.endpoint.ip().octets(), 64)
        .udp(flow.client.port(), flow.endpoint.port())
        .write(&mut frame, payload)
        .unwrap();
    frame
}

fn send(farm: &mut Farm, flow: &Flow, payload: &[u8]) -> Verdict {
    let at = usize::from(flow.endpoint.ip().octets()[3] - 11);
    let verdict = farm.deliver(at, Port::A, &frame(flow, payload));
    farm.pump();
    verdict
}

/// Datagrams that applications have got since the last call, and where.
fn received(farm: &mut Farm) -> Vec<(usize, Flow, Vec<u8>)> {
    let events = std::mem::take(&mut farm.events);
    let datagram = |(at, event)| match event {
        Event::Datagram { flow, payload, .. } => Some((at, flow, payload)),
        _ => None,
    };
    events.into_iter().filter_map(datagram).collect()
}

/// A flow to the first server whose datagrams the second one has.
fn migrated(farm: &mut Farm) -> Flow {
    send(farm, &flow(0, 4000), b"stays");
    assert_eq!(received(farm)[0].0, 0);
    farm.lan_b.clear();
    flow(0, 4001)
}

#[test]
fn a_flow_is_served_where_its_client_has_sent_it() {
    let mut farm = farm(1);
    let flow = flow(0, 4000);
    send(&mut farm, &flow, b"question");
    assert_eq!(received(&mut farm), [(0, flow, b"question".to_vec())]);
    let now = farm.now;
    farm.devices[0]
        .send_datagram(now, &flow, b"answer")
        .unwrap();
    farm.pump();
    let answer = (mac(0xa, 0), flow.endpoint, 4000, b"answer".to_vec());
    assert_eq!(farm.datagrams, [answer]);
    assert_eq!(
        farm.devices[0].send_datagram(now, &flow, &[0; 1473]),
        Err(DatagramError::TooLong)
    );
    assert_eq!(farm.table(0, "local"), 1);
    farm.run(ms(59_000));
    send(&mut farm, &flow, b"again");
    farm.run(ms(59_000));
    assert_eq!(farm.table(0, "local"), 1);
    farm.run(ms(1100));
    assert!(farm.events.contains(&(0, Event::DatagramsEnded(flow))));
    assert_eq!(farm.table(0, "local"), 0);
    let now = farm.now;
    assert_eq!(
        farm.devices[0].send_datagram(now, &flow, b"late"),
        Err(DatagramError::UnknownFlow)
    );
}

#[test]
fn a_migrated_flow_is_answered_by_the_second_server_under_the_first_ones_address() {
    let mut farm = farm(2);
    let flow = migrated(&mut farm);
    send(&mut farm, &flow, b"question");
    assert_eq!(farm.types(), [1, 3, 2]);
    assert_eq!(
        farm.lan_b[0].1.len(),
        14 + 16 + 6 + 20,
        "FIG. 11F, and a trailer"
    );
    assert_eq!(
        farm.packets(),
        [&frame(&flow, b"question")[14..]],
        "byte for byte"
    );
    assert_eq!(received(&mut farm), [(1, flow, b"question".to_vec())]);
    let now = farm.now;
    farm.devices[1]
        .send_datagram(now, &flow, b"answer")
        .unwrap();
    farm.pump();
    let answer = (mac(0xa, 1), flow.endpoint, 4001, b"answer".to_vec());
    assert_eq!(farm.datagrams, [answer]);
    assert_eq!(
        farm.devices[0].migrate(now, &flow, "s1"),
        Err(ipos_core::MigrateError::Datagrams)
    );
    send(&mut farm, &flow, b"more");
    assert_eq!(received(&mut farm), [(1, flow, b"more".to_vec())]);
    assert_eq!(
        (farm.table(0, "forward"), farm.table(1, "forward-connect")),
        (1, 1)
    );
    farm.run(ms(61_000));
    assert_eq!(farm.types().last(), Some(&0x10));
    assert_eq!(
        (farm.table(0, "forward"), farm.table(1, "forward-connect")),
        (0, 0)
    );
}

#[test]
fn flows_that_are_ended_are_told_of() {
    let mut farm = farm(2);
    let moved = migrated(&mut farm);
    send(&mut farm, &moved, b"question");
    let local = flow(0, 4000);
    let now = farm.now;
    for (at, flow) in [(0, local), (1, moved)] {
        farm.devices[at].end_connections(now);
        assert_eq!(farm.devices[at].connections(), 0);
        farm.pump();
        assert!(farm.events.contains(&(at, Event::DatagramsEnded(flow))));
    }
    assert_eq!(farm.types().last(), Some(&0x10));
    assert_eq!(farm.table(0, "forward"), 0);
}

#[test]
fn datagrams_wait_for_the_answer_to_their_offer() {
    let mut farm = farm(2);
    let flow = migrated(&mut farm);
    let mut lost = 0;
    farm.tap = Box::new(move |frame| {
        lost += 1;
        let offer = frame.message.frame_type() == FrameType::Endpoint;
        if offer && lost <= 2 {
            Pass::Lose
        } else {
            Pass::Twice
        }
    });
    for payload in [b"1", b"2", b"3"] {
        send(&mut farm, &flow, payload);
    }
    assert_eq!(received(&mut farm), []);
    farm.run(ms(20));
    let payloads: Vec<u8> = received(&mut farm)
        .into_iter()
        .flat_map(|(_, _, p)| p)
        .collect();
    assert_eq!(payloads, b"112233", "in order; UDP may come twice");
}

#[test]
fn without_an_answer_the_first_server_serves_the_flow() {
    for refuses in [true, false] {
        let mut farm = farm(2);
        let flow = migrated(&mut farm);
        lose(&mut farm, FrameType::Acknowledgement, usize::MAX);
        if refuses {
            farm.devices[1].leave();
        }
        send(&mut farm, &flow, b"question");
        farm.run(ms(100));
        assert_eq!(received(&mut farm), [(0, flow, b"question".to_vec())]);
        let now = farm.now;
        assert!(farm.devices[1].send_datagram(now, &flow, b"mine?").is_err());
        farm.run(ms(60_100));
        assert_eq!(farm.table(1, "forward-connect"), 0);
    }
}

#[test]
fn a_flow_outlives_what_its_servers_have_forgotten() {
    let mut farm = farm(2);
    let flow = migrated(&mut farm);
    send(&mut farm, &flow, b"question");
    received(&mut farm);
    // The owner's flow ends unnoticed by the first server.
    lose(&mut farm, FrameType::Release, usize::MAX);
    farm.run(ms(61_000));
    assert_eq!(
        (farm.table(0, "forward"), farm.table(1, "forward-connect")),
        (1, 0)
    );
    heal(&mut farm);
    send(&mut farm, &flow, b"lost");
    farm.run(ms(200));
    assert_eq!(
        farm.table(0, "forward"),
        0,
        "it was told that nobody has the flow"
    );
    send(&mut farm, &flow, b"again");
    farm.run(ms(200));
    let got = received(&mut farm);
    assert_eq!(got.len(), 1);
    assert_eq!(got[0].2, b"again");
}

#[test]
fn nobody_listens() {
    let mut farm = farm(1);
    let flow = Flow::udp(
        SocketAddrV4::new(CLIENT, 4000),
        SocketAddrV4::new(port_a(0), 54),
    );
    let at = frame(&flow, b"question");
    assert_eq!(
        farm.deliver(0, Port::A, &at),
        Verdict::Drop(DropReason::Unmatched)
    );
    let mut buf = [0; 1514];
    let now = farm.now;
    let len = farm.devices[0]
        .poll_transmit(now, Port::A, &mut buf)
        .unwrap();
    let icmp = &buf[34..len];
    assert_eq!((icmp[0], icmp[1]), (3, 3), "port unreachable");
    assert_eq!(icmp[8..], at[14..14 + 28]);
}

#[test]
fn the_host_is_not_flooded() {
    let mut farm = Farm::with(1, |server, config| {
        dns(server, config);
        config.limits.datagrams = 10;
    });
    let flow = flow(0, 4000);
    let verdicts: Vec<Verdict> = (0..12)
        .map(|_| farm.deliver(0, Port::A, &frame(&flow, b"question")))
        .collect();
    assert_eq!(verdicts[9], Verdict::Consumed);
    assert_eq!(verdicts[10], Verdict::Drop(DropReason::HostBusy));
    farm.pump();
    assert_eq!(received(&mut farm).len(), 10);
    assert_eq!(send(&mut farm, &flow, b"question"), Verdict::Consumed);
}

#[test]
fn an_error_about_a_moved_flow_reaches_its_owner() {
    let mut farm = farm(2);
    let flow = migrated(&mut farm);
    send(&mut farm, &flow, b"question");
    let now = farm.now;
    farm.devices[1]
        .send_datagram(now, &flow, b"answer")
        .unwrap();
    farm.pump();
    farm.lan_b.clear();
    // The client's host: nobody there any more. 28 bytes of the answer are in the message.
    let mut original = vec![];
    PacketBuilder::ipv4(flow.endpoint.ip().octets(), CLIENT.octets(), 64)
        .udp(53, 4001)
        .write(&mut original, b"answer")
        .unwrap();
    let packet = icmp_error(DestUnreachableHeader::Port, &original);
    let verdict = farm.deliver(0, Port::A, &packet);
    assert!(matches!(verdict, Verdict::Forward(_)), "{verdict:?}");
    let (_, rest) = Ethernet::parse(&farm.lan_b[0].1).unwrap();
    assert_eq!(rest[16..], packet[14..]);
    assert_eq!(
        farm.devices[1].counters().dropped(DropReason::Protocol),
        1,
        "a soft error"
    );
}

/// LAN B loses a datagram, and the client sends another one a little, or much, later: that one arrives, once.
#[test]
fn a_lost_datagram_costs_no_other() {
    for pause in [1000, 5000] {
        let mut farm = farm(2);
        let flow = migrated(&mut farm);
        lose(&mut farm, FrameType::Packet, 1);
        send(&mut farm, &flow, b"lost");
        farm.run(ms(pause));
        assert_eq!(received(&mut farm), []);
        send(&mut farm, &flow, b"again");
        farm.run(ms(1000));
        assert_eq!(received(&mut farm), [(1, flow, b"again".to_vec())]);
    }
}

/// A client of UDP alone is asked for its hardware address again from time to time: it may change.
#[test]
fn a_stale_neighbour_is_asked_for_again() {
    let mut farm = farm(1);
    let flow = flow(0, 5353);
    let mut asked = 0;
    for n in 0..40 {
        farm.deliver(0, Port::A, &frame(&flow, b"question"));
        let now = farm.now;
        farm.devices[0]
            .send_datagram(now, &flow, b"answer")
            .unwrap();
        let mut buf = [0; 1514];
        while farm.devices[0]
            .poll_transmit(now, Port::A, &mut buf)
            .is_some()
        {
            // ARP.
            if buf[12..14] == [8, 6] {
                asked += usize::from(n > 0);
                let reply = arp_frame(ArpOperation::REPLY, mac(0xa, 0), CLIENT, port_a(0));
                farm.deliver(0, Port::A, &reply);
            }
        }
        farm.run(ms(30_000));
    }
    assert!(asked > 0, "in 20 minutes the address was never confirmed");
}
