//! ICMP errors about connections that have moved, and the ones that a device sends itself.

mod common;

use common::talk::*;
use common::{CLIENT, Farm, Pass, port_a};
use etherparse::icmpv4::DestUnreachableHeader;
use ipos_core::{DropReason, Port, Verdict};
use ipos_proto::{FrameType, Message};

/// A router says that packets are too big: what is in flight goes in smaller segments; what is not in flight changes nothing.
#[test]
fn a_router_makes_segments_smaller_only_for_what_is_in_flight() {
    let mut farm = alone();
    let (client, bound) = asked(&mut farm);
    farm.write(bound, &[7; 4000]);
    let sent = farm.take(&client);
    assert_eq!(sent.iter().map(|s| s.payload.len()).max(), Some(1444));
    let too_big = DestUnreachableHeader::FragmentationNeeded { next_hop_mtu: 1000 };
    let error = |seq| icmp_error(too_big.clone(), &segment_to(&client, seq));
    let stale = farm.inject(&client, &error(client.ack.raw() - 5));
    assert_eq!(stale, Verdict::Drop(DropReason::Stale));
    assert!(farm.take(&client).is_empty());
    let fresh = farm.inject(&client, &error(client.ack.raw()));
    assert_eq!(fresh, Verdict::Consumed);
    let sent = farm.take(&client);
    assert!(
        !sent.is_empty() && sent.iter().all(|s| s.payload.len() <= 960),
        "{sent:?}"
    );
    assert_eq!(sent[0].header.sequence_number, client.ack.raw());
}

/// A connection comes home and its packets are lost, so that its servers do not agree on who has it: an error about it does
/// not go round between them.
#[test]
fn icmp_errors_do_not_go_in_circles() {
    let mut farm = Farm::pair();
    let (client, _) = moved(&mut farm, 4001);
    lose(&mut farm, FrameType::Packet, usize::MAX);
    migrate(&mut farm, 1, &client, "s1", 2200);
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
    let error = icmp_error(DestUnreachableHeader::Host, &segment_to(&client, 0));
    farm.inject(&client, &error);
    farm.pump();
}

/// A client's packet that does not fit into a frame of Port B is answered with the size that does.
#[test]
fn a_packet_that_port_b_does_not_take_is_answered_with_the_size_that_it_takes() {
    let mut farm = Farm::pair();
    let (client, _) = moved(&mut farm, 4001);
    let frame = client.frame("PA", &[], &[7; 1460]);
    let verdict = farm.inject(&client, &frame);
    assert_eq!(verdict, Verdict::Drop(DropReason::TooBig));
    let mut buf = [0; 1514];
    let now = farm.now;
    let device = &mut farm.devices[0];
    let len = device.poll_transmit(now, Port::A, &mut buf).unwrap();
    let ip = &buf[14..len];
    assert_eq!(ip[12..16], port_a(0).octets());
    assert_eq!(ip[16..20], CLIENT.octets());
    let icmp = &ip[20..];
    assert_eq!((icmp[0], icmp[1]), (3, 4));
    assert_eq!(icmp[6..8], 1484u16.to_be_bytes());
    assert_eq!(
        icmp[8..],
        frame[14..14 + 28],
        "the packet's header and eight bytes"
    );
}

/// The same while the owner offers the connection to the first server, which passes packets back: no frame is too long.
#[test]
fn a_packet_that_is_passed_back_fits_into_port_b() {
    let mut farm = Farm::pair();
    let (client, _) = moved(&mut farm, 4001);
    lose(&mut farm, FrameType::Acknowledgement, usize::MAX);
    migrate(&mut farm, 1, &client, "s1", 0);
    let frame = client.frame("PA", &[], &[7; 1460]);
    farm.lan_b.clear();
    let verdict = farm.inject(&client, &frame);
    let longest = farm.lan_b.iter().map(|(_, f)| f.len()).max().unwrap_or(0);
    assert!(longest <= 1514, "{longest} bytes on Port B: {verdict:?}");
}
