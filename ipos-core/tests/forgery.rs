//! Frames of LAN B that are harmed, forged or from strangers, and what a device can tell.

mod common;

use common::talk::*;
use common::{CLIENT, Farm, mac};
use etherparse::icmpv4::DestUnreachableHeader;
use ipos_core::{DropReason, Port, Verdict};
use ipos_proto::{ConnectionInfo, Ethernet, Frame, FrameType, Header, Message, Protocol};

/// Where the control block stands in a 0x01: behind the Ethernet and ipOS headers and the first server's address.
const CONTROL_BLOCK: usize = 14 + 16 + 6;
const STATE: usize = CONTROL_BLOCK + 1;

/// The offer of a connection, and the farm that it is under way in: nobody has heard it.
fn offered() -> (Farm, common::Client, Vec<u8>) {
    let mut farm = Farm::pair();
    let client = about_to_move(&mut farm);
    lose(&mut farm, FrameType::Endpoint, usize::MAX);
    farm.send(&client, "PA", REQUEST);
    let offer = farm.lan_b[0].1.clone();
    (farm, client, offer)
}

/// The offer has what the SYN and the SYN-ACK agreed on.
#[test]
fn the_control_block_carries_what_the_syn_ack_said() {
    let (_, client, offer) = offered();
    let (_, rest) = Ethernet::parse(&offer).unwrap();
    let frame = Frame::parse(rest).unwrap();
    let Message::Endpoint {
        connection: ConnectionInfo::Tcp { first, control },
        trailer,
    } = frame.message
    else {
        panic!("{frame:?}")
    };
    assert_eq!(first, client.server);
    assert_eq!((control.rcv_nxt, control.snd_una), (client.seq, client.ack));
    assert_eq!((control.snd_wscale, control.rcv_wscale), (7, 7));
    assert_eq!((control.snd_mss, control.rcv_mss), (1444, 1444));
    assert_eq!(trailer.unwrap().epoch.raw(), 1);
    assert_eq!(control.epoch.raw(), 1);
}

/// An offer whose control block does not hold is refused, and binds nothing.
#[test]
fn a_control_block_that_does_not_hold_is_refused() {
    let (_, _, mut offer) = offered();
    let mut other = Farm::pair();
    offer[STATE] = 99;
    other.deliver(1, Port::B, &offer);
    other.pump();
    assert_eq!(other.types(), [0x11]);
    assert_eq!(other.table(1, "forward-connect"), 0);
}

/// The first server understands why its offer was not taken, and serves the client.
#[test]
fn a_refusal_of_an_unreadable_offer_fits_the_offer() {
    let (mut farm, _, mut offer) = offered();
    offer[STATE] = 99;
    farm.deliver(1, Port::B, &offer);
    farm.pump();
    assert_eq!(farm.devices[0].counters().refused, 1);
    assert_eq!(farm.bound().0, 0);
}

/// 0x01 from a hardware address that is no server's, with a wrong header checksum, or cut off: dropped and counted.
#[test]
fn strangers_and_forgeries_are_dropped() {
    let (_, _, offer) = offered();
    let mut other = Farm::pair();
    let mut stranger = offer.clone();
    stranger[6..12].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
    other.deliver(1, Port::B, &stranger);
    let mut corrupt = offer.clone();
    corrupt[20] ^= 1;
    other.deliver(1, Port::B, &corrupt);
    other.deliver(1, Port::B, &offer[..40]);
    let counters = other.devices[1].counters();
    assert_eq!(counters.dropped(DropReason::Stranger), 1);
    assert_eq!(counters.dropped(DropReason::Encapsulation), 2);
    assert_eq!(other.table(1, "forward-connect"), 0);
}

/// 0x01 that is harmed in its header, which has a checksum, is no 0x01; the fifth one arrives.
#[test]
fn an_offer_that_is_corrupted_four_times() {
    let (mut farm, client, _) = offered();
    let mut seen = 0;
    while seen < 4 {
        let offers = frames(&farm, 0, FrameType::Endpoint);
        for (at, mut harmed) in offers.into_iter().enumerate().take(4).skip(seen) {
            harmed[14 + at * 3] ^= 0x10;
            let verdict = farm.deliver(1, Port::B, &harmed);
            assert!(matches!(verdict, Verdict::Drop(_)), "{verdict:?}");
            seen += 1;
        }
        farm.run(ms(1));
    }
    heal(&mut farm);
    let bound = owner(&mut farm, &client);
    assert_eq!((bound.0, farm.read(bound)), (1, REQUEST.to_vec()));
    assert_eq!(farm.devices[0].counters().offers_repeated, 4);
}

/// One bit of the control block is flipped in a field that is checked: REFUSE, and the first server serves the client. The
/// other fields may hold any value: without a farm key nothing vouches for them.
#[test]
fn a_control_block_that_is_harmed_where_it_is_checked() {
    let (_, _, offer) = offered();
    // The bit that takes a sequence number back by the most.
    let back = |at: usize| {
        let at = CONTROL_BLOCK + at;
        let number = u32::from_be_bytes(offer[at..at + 4].try_into().unwrap());
        1 << (number << 1 >> 1).ilog2()
    };
    let byte = |at: usize, bit: u32| (at, bit << 24);
    let harms = [
        ("version", byte(0, 0x10)),
        ("state", byte(1, 0x10)),
        ("snd_wscale", byte(8, 0x10)),
        ("rcv_wscale", byte(9, 0x80)),
        ("snd_nxt", (24, back(24))),
        ("snd_max", (28, back(28))),
        ("rcv_adv", (72, back(72))),
        ("timer", byte(108, 0x08)),
    ];
    each(harms, |(_, (at, bit))| {
        let (mut farm, _, mut offer) = offered();
        heal(&mut farm);
        farm.lan_b.clear();
        for (at, bits) in (CONTROL_BLOCK + at..).zip(bit.to_be_bytes()) {
            offer[at] ^= bits;
        }
        farm.deliver(1, Port::B, &offer);
        farm.pump();
        assert_eq!(farm.types(), [FrameType::Refuse as u8]);
        assert_eq!(farm.devices[0].counters().refused, 1);
        let bound = farm.bound();
        assert_eq!((bound.0, farm.read(bound)), (0, REQUEST.to_vec()));
    });
}

/// A 0x03 of the second server comes again with another incarnation or number in its trailer, greater than any: later
/// connections move to it all the same.
#[test]
fn one_forged_trailer_does_not_silence_a_server() {
    // The incarnation stands at 12 in the trailer, the number at 16.
    let forgeries = [None, Some((12, 0x80)), Some((16, 0x70))];
    each(forgeries, |forgery| {
        let mut farm = Farm::pair();
        moved(&mut farm, 4001);
        if let Some((offset, value)) = forgery {
            let mut forged = frames(&farm, 1, FrameType::Acknowledgement).remove(0);
            forged[14 + 16 + offset] = value;
            farm.deliver(0, Port::B, &forged);
        }
        let (mut next, bound) = moved(&mut farm, 4200);
        works(&mut farm, &mut next, bound);
    });
}

/// The trailer was broken on its way, so that the frame is of a life to come: neither the connection nor the next one notices.
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

/// 0x02 with an ICMP error about a connection that has moved, from a host of LAN B that is no server: dropped.
#[test]
fn an_icmp_error_from_a_stranger() {
    let mut farm = Farm::pair();
    let (client, _) = moved(&mut farm, 4001);
    let error = icmp_error(DestUnreachableHeader::Host, &segment_to(&client, 0));
    let header = Header {
        client: std::net::SocketAddrV4::new(CLIENT, client.port),
        destination: farm.devices[0].config().port_b.address,
        port: client.server.port(),
        frame_type: FrameType::Packet,
        protocol: Protocol::Tcp,
    };
    let ethernet = Ethernet {
        destination: mac(0xb, 0),
        source: mac(0xb, 99),
        ethertype: 7,
    };
    let ip = &error[14..];
    let frame = [&ethernet.to_bytes()[..], &header.to_bytes(), ip].concat();
    let verdict = farm.deliver(0, Port::B, &frame);
    assert_eq!(verdict, Verdict::Drop(DropReason::Stranger));
}
