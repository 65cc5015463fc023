//! Test vectors, and every rule that a frame can break.

use alloc::string::ToString;
use core::net::{Ipv4Addr, SocketAddrV4};

use super::{emitted, unhex};
use crate::*;

const HEADER_ENDPOINT: &str = "c00002019c400a58000c005001019608";
const HEADER_PACKET: &str = "cb00710914e90a58000d00350202a270";
const ACKNOWLEDGEMENT: &str = "020000000b01020000000b020007c00002019c400a58000b005003019409";
const ACKNOWLEDGEMENT_TRAILER: &str = "020000000b01020000000b020007c00002019c400a58000b0050030194090114000100000007010203040000000500000009";
const ENDPOINT_UDP: &str =
    "020000000b02020000000b010007cb00710914e90a58000c00350102a3710a4d000b0035";
const ENDPOINT_TCP: &str = "
    020000000b02020000000b010007c00002019c400a58000c0050010196080a4d000b005001020007000000010707
    000005a405a4112233441122334511223345112233450000fb00a0000001112233450000fb0000003868ffffffff
    11223344a0000000a00000010000ffffa0010000a000000100000352000001a900030d4000000316000003e80000
    0003000050000000000000000002000000000000000000000000000000000000000000000000";

const SERVER_1: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 11);
const SERVER_2: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 12);
const CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 40000);
const UDP_CLIENT: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(203, 0, 113, 9), 5353);

fn header(client: SocketAddrV4, destination: Ipv4Addr, port: u16, frame_type: FrameType) -> Header {
    let protocol = if client == CLIENT {
        Protocol::Tcp
    } else {
        Protocol::Udp
    };
    Header {
        client,
        destination,
        port,
        frame_type,
        protocol,
    }
}

/// The connection of the 0x01 TCP vector.
fn control() -> ControlBlock {
    let (next, received) = (SeqNum::new(0x1122_3345), SeqNum::new(0xa000_0001));
    ControlBlock {
        state: TcpState::Established,
        flags: ControlFlags::WINDOW_SCALE | ControlFlags::SACK_PERMITTED | ControlFlags::TIMESTAMPS,
        epoch: Epoch::new(1),
        snd_wscale: 7,
        rcv_wscale: 7,
        dupacks: 0,
        rxtshift: 0,
        snd_mss: 1444,
        rcv_mss: 1444,
        iss: SeqNum::new(0x1122_3344),
        snd_una: next,
        snd_nxt: next,
        snd_max: next,
        snd_wnd: 64256,
        snd_wl1: received,
        snd_wl2: next,
        max_sndwnd: 64256,
        cwnd: 14440,
        ssthresh: u32::MAX,
        recover: SeqNum::new(0x1122_3344),
        irs: SeqNum::new(0xa000_0000),
        rcv_nxt: received,
        rcv_wnd: 65535,
        rcv_adv: received + 65535,
        last_ack_sent: received,
        srtt: 850,
        rttvar: 425,
        rto: 200_000,
        rtt_min: 790,
        ts_recent: 1000,
        ts_recent_age: 3,
        tsval: 0x5000,
        timer: Timer::None,
        timer_left: 0,
        idle: 2,
        rcv_up: SeqNum::new(0),
        oob_flags: 0,
        oob_byte: 0,
    }
}

/// The vector is `frame` after an Ethernet header from `source` to `destination`, both ways.
#[track_caller]
fn check(vector: &str, destination: u8, source: u8, frame: Frame<'_>) {
    let bytes = unhex(vector);
    let (ethernet, rest) = Ethernet::parse(&bytes).unwrap();
    let station = |number| MacAddr([2, 0, 0, 0, 0x0b, number]);
    let expected = Ethernet {
        destination: station(destination),
        source: station(source),
        ethertype: ETHERTYPE,
    };
    assert_eq!(ethernet, expected);
    assert_eq!(ethernet.to_bytes(), bytes[..ETHERNET_LEN]);
    assert_eq!(Frame::parse(rest), Ok(frame));
    assert_eq!(emitted(&frame), rest);
}

#[test]
fn headers() {
    let endpoint = header(CLIENT, SERVER_2, 80, FrameType::Endpoint);
    let packet = header(
        UDP_CLIENT,
        Ipv4Addr::new(10, 88, 0, 13),
        53,
        FrameType::Packet,
    );
    for (vector, header) in [(HEADER_ENDPOINT, endpoint), (HEADER_PACKET, packet)] {
        let bytes = unhex(vector);
        assert_eq!(Header::parse(&bytes), Ok((header, &[][..])));
        assert_eq!(header.to_bytes(), *bytes);
    }
}

#[test]
fn acknowledgement() {
    let header = header(CLIENT, SERVER_1, 80, FrameType::Acknowledgement);
    let message = Message::Acknowledgement { trailer: None };
    check(ACKNOWLEDGEMENT, 1, 2, Frame { header, message });
}

#[test]
fn acknowledgement_with_trailer() {
    let header = header(CLIENT, SERVER_1, 80, FrameType::Acknowledgement);
    let trailer = Trailer {
        flags: TrailerFlags::RCV_NXT,
        epoch: Epoch::new(7),
        rcv_nxt: SeqNum::new(0x0102_0304),
        incarnation: 5,
        number: 9,
        tag: None,
    };
    assert_eq!(trailer.acknowledged(), Some(SeqNum::new(0x0102_0304)));
    let message = Message::Acknowledgement {
        trailer: Some(trailer),
    };
    check(ACKNOWLEDGEMENT_TRAILER, 1, 2, Frame { header, message });
}

#[test]
fn endpoint_udp() {
    let header = header(UDP_CLIENT, SERVER_2, 53, FrameType::Endpoint);
    let first = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 11), 53);
    let message = Message::Endpoint {
        connection: ConnectionInfo::Udp { first },
        trailer: None,
    };
    check(ENDPOINT_UDP, 2, 1, Frame { header, message });
    assert_eq!(unhex(ENDPOINT_UDP).len(), 36);
}

#[test]
fn endpoint_tcp() {
    let header = header(CLIENT, SERVER_2, 80, FrameType::Endpoint);
    let first = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 11), 80);
    let connection = ConnectionInfo::Tcp {
        first,
        control: control(),
    };
    check(
        ENDPOINT_TCP,
        2,
        1,
        Frame {
            header,
            message: Message::Endpoint {
                connection,
                trailer: None,
            },
        },
    );
    assert_eq!(unhex(ENDPOINT_TCP).len(), 176);
    assert_eq!(control().validate(), Ok(()));
}

#[test]
fn lengths_are_those_of_the_figures() {
    assert_eq!((ETHERNET_LEN, HEADER_LEN, ENCAPSULATION_LEN), (14, 16, 30));
    assert_eq!(control().to_bytes().len(), 140);
}

/// What the field at `offset` of the vector's control block is refused for, once it is `bytes`.
#[track_caller]
fn refused(offset: usize, bytes: &[u8], reason: &str) {
    let mut block = control().to_bytes();
    block[offset..offset + bytes.len()].copy_from_slice(bytes);
    let error = ControlBlock::parse(&block).unwrap_err();
    assert_eq!(error.to_string(), reason);

    let mut frame = unhex(ENDPOINT_TCP).split_off(ETHERNET_LEN);
    frame[HEADER_LEN + 6..].copy_from_slice(&block);
    assert_eq!(Frame::parse(&frame), Err(error.offset_by(HEADER_LEN + 6)));
}

#[test]
fn an_importer_refuses_what_does_not_hold() {
    refused(
        0,
        &[2],
        "control block, byte 0: version must be 1, is 2 (0x2)",
    );
    refused(
        1,
        &[0],
        "control block, byte 1: state must be 1 to 8, is 0 (0x0)",
    );
    refused(
        1,
        &[9],
        "control block, byte 1: state must be 1 to 8, is 9 (0x9)",
    );
    refused(
        8,
        &[15],
        "control block, byte 8: snd_wscale must be at most 14, is 15 (0xf)",
    );
    refused(
        9,
        &[15],
        "control block, byte 9: rcv_wscale must be at most 14, is 15 (0xf)",
    );
    refused(
        12,
        &[0, 63],
        "control block, byte 12: snd_mss must be at least 64, is 63 (0x3f)",
    );
    refused(
        14,
        &[0, 63],
        "control block, byte 14: rcv_mss must be at least 64, is 63 (0x3f)",
    );
    // snd_una past snd_nxt; snd_nxt past snd_max; rcv_nxt past rcv_adv.
    refused(
        20,
        &[0x11, 0x22, 0x33, 0x46],
        "control block, byte 24: snd_nxt must be at or after snd_una, is 287454021 (0x11223345)",
    );
    refused(
        24,
        &[0x11, 0x22, 0x33, 0x46],
        "control block, byte 28: snd_max must be at or after snd_nxt, is 287454021 (0x11223345)",
    );
    refused(
        64,
        &[0xa0, 0x01, 0x00, 0x01],
        "control block, byte 72: rcv_adv must be at or after rcv_nxt, is 2684420096 (0xa0010000)",
    );
    refused(
        108,
        &[5],
        "control block, byte 108: timer must be 0 to 4, is 5 (0x5)",
    );
}

#[test]
fn send_variables_that_go_round_the_circle_are_refused() {
    let una = control().snd_una;
    let block = ControlBlock {
        snd_nxt: una + 0x6000_0000,
        snd_max: una + 0xc000_0000,
        ..control()
    };
    let reason = "snd_max must be at or after snd_una";
    assert!(block.validate().unwrap_err().to_string().contains(reason));
}

#[test]
fn an_importer_accepts_the_limits_and_ignores_the_zeros() {
    let block = ControlBlock {
        snd_wscale: 14,
        rcv_wscale: 14,
        snd_mss: 64,
        rcv_mss: 64,
        ..control()
    };
    let mut bytes = block.to_bytes();
    bytes[109] = 0xff;
    bytes[122..].fill(0xff);
    assert_eq!(ControlBlock::parse(&bytes), Ok(block));
}

/// A header of this type for a body to follow.
fn header_bytes(frame_type: FrameType) -> alloc::vec::Vec<u8> {
    header(CLIENT, SERVER_2, 80, frame_type).to_bytes().to_vec()
}

#[test]
fn header_errors_come_in_order() {
    let reason = |bytes: &[u8]| Header::parse(bytes).unwrap_err().to_string();
    let mut bytes = unhex(HEADER_ENDPOINT);
    assert_eq!(
        reason(&bytes[..15]),
        "ipOS header, byte 0: 16 bytes required, 15 there"
    );
    bytes[12] = 9;
    let checksum = "ipOS header, byte 14: checksum must be 0x8e08, is 0x9608";
    assert_eq!(reason(&bytes), checksum);
    bytes[14] = 0x8e;
    let types = "ipOS header, byte 12: type must be 0x01, 0x02, 0x03 or 0x10 to 0x13, is 9 (0x9)";
    assert_eq!(reason(&bytes), types);
    bytes[12..16].copy_from_slice(&[1, 3, 0x96, 0x06]);
    let protocols = "ipOS header, byte 13: protocol must be 1 (TCP) or 2 (UDP), is 3 (0x3)";
    assert_eq!(reason(&bytes), protocols);
}

#[test]
fn an_encapsulated_packet_ends_at_its_total_length() {
    let mut bytes = header_bytes(FrameType::Packet);
    let mut packet = [0u8; 20];
    packet[..4].copy_from_slice(&[0x45, 0, 0, 20]);
    bytes.extend(packet);
    let reason = |bytes: &[u8]| Frame::parse(bytes).unwrap_err().to_string();

    let short = "encapsulated packet, byte 16: 20 bytes required, 19 there";
    assert_eq!(reason(&bytes[..35]), short);
    let frame = Frame::parse(&bytes).unwrap();
    assert_eq!(frame.message, Message::Packet(&packet));
    // What follows is padding, whatever its first byte: 0x02 has no trailer.
    let padded = [bytes.as_slice(), &[1, 20, 0, 0]].concat();
    assert_eq!(Frame::parse(&padded), Ok(frame));

    let mut wrong = bytes.clone();
    wrong[19] = 21;
    assert_eq!(
        reason(&wrong),
        "encapsulated packet, byte 16: 21 bytes required, 20 there"
    );
    wrong[19] = 19;
    let total = "encapsulated packet, byte 18: total length must be at least 20, is 19 (0x13)";
    assert_eq!(reason(&wrong), total);
    wrong[16] = 0x65;
    assert_eq!(
        reason(&wrong),
        "encapsulated packet, byte 16: IP version must be 4, is 6 (0x6)"
    );
}

#[test]
fn a_trailer_is_there_or_padding_is() {
    let header = header_bytes(FrameType::Release);
    let parse = |rest: &[u8]| {
        let bytes = [header.as_slice(), rest].concat();
        match Frame::parse(&bytes) {
            Ok(Frame {
                message: Message::Release { trailer },
                ..
            }) => Ok(trailer),
            Ok(other) => panic!("{other:?}"),
            Err(error) => Err(error.to_string()),
        }
    };
    assert_eq!(parse(&[]), Ok(None));
    assert_eq!(parse(&[0]), Ok(None));
    assert_eq!(parse(&[0; 30]), Ok(None));
    let mut trailer = [0u8; 36];
    trailer[..2].copy_from_slice(&[1, 20]);
    assert_eq!(parse(&trailer), Ok(Some(Trailer::default())));
    assert_eq!(
        parse(&trailer[..1]),
        Err("trailer, byte 16: 20 bytes required, 1 there".into())
    );
    trailer[1] = 36;
    assert_eq!(
        parse(&trailer),
        Ok(Some(Trailer {
            tag: Some([0; 16]),
            ..Trailer::default()
        }))
    );
    assert_eq!(
        parse(&trailer[..35]),
        Err("trailer, byte 16: 36 bytes required, 35 there".into())
    );
    trailer[1] = 21;
    let length = "trailer, byte 17: length must be 20 or 36, is 21 (0x15)";
    assert_eq!(parse(&trailer), Err(length.into()));
    trailer[0] = 2;
    let version = "trailer, byte 16: version must be 1, or 0 for none, is 2 (0x2)";
    assert_eq!(parse(&trailer), Err(version.into()));
}

#[test]
fn a_frame_that_contradicts_itself_is_not_written() {
    let mut out = [0; 200];
    let mut reason = |frame: Frame<'_>| frame.emit(&mut out).unwrap_err().to_string();
    let release = Message::Release { trailer: None };
    let first = CLIENT;
    let udp = Message::Endpoint {
        connection: ConnectionInfo::Udp { first },
        trailer: None,
    };
    let header = |frame_type| header(CLIENT, SERVER_2, 80, frame_type);

    let other_type = Frame {
        header: header(FrameType::Refuse),
        message: release,
    };
    let types = "ipOS header, byte 12: type must be that of the message, is 17 (0x11)";
    assert_eq!(reason(other_type), types);
    let other_protocol = Frame {
        header: header(FrameType::Endpoint),
        message: udp,
    };
    let protocols = "ipOS header, byte 13: protocol must be that of the connection, is 1 (0x1)";
    assert_eq!(reason(other_protocol), protocols);

    let mut packet = [0u8; 24];
    packet[..4].copy_from_slice(&[0x45, 0, 0, 23]);
    let uncut = Frame {
        header: header(FrameType::Packet),
        message: Message::Packet(&packet),
    };
    let total = "total length must be the length of the packet given, is 23 (0x17)";
    assert_eq!(
        reason(uncut),
        ["encapsulated packet, byte 18: ", total].concat()
    );

    let right = Frame {
        header: header(FrameType::Release),
        message: release,
    };
    let space = right.emit(&mut [0; 15]).unwrap_err().to_string();
    assert_eq!(
        space,
        "ipOS header, byte 0: room for 16 required to write it, 15 given"
    );
}

#[test]
fn a_move_that_is_cut_short_is_refused() {
    let mut bytes = header_bytes(FrameType::Move);
    bytes.extend([10, 88, 0, 13, 0]);
    let error = Frame::parse(&bytes).unwrap_err();
    assert_eq!(
        error.to_string(),
        "named server, byte 16: 6 bytes required, 5 there"
    );
    assert_eq!((error.layer(), error.offset()), (Layer::Target, 16));
}
