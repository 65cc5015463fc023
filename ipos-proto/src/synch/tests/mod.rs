//! Tests of Synch messages: the vectors of the module's text, and every rule that one can break.

mod properties;

use alloc::string::{String, ToString};
use core::net::{Ipv4Addr, SocketAddrV4};

use super::*;
use crate::tests::unhex;
use crate::{MacAddr, Protocol};

const HIGH: &str = "
    69704f53 01010001 00000005 00000009 00010032
    01000018 0000001b 04d20000 0000000040000000 000000003b9aca00
    02000012 0a58000b 020000000b01 01 02 0a4d000b 7331";
const MEDIUM: &str = "
    69704f53 01020000 00000005 0000000a 00010060
    0300000b 0a4d000b 0050 01 03 776562
    04000011 000004d2 0a4d000b 0050 00 05 6e67696e78
    05000018 0000000000000007 0a58000b 0000000000000008 0a58000c
    0600000d 01 03 02 00 0000ea60 c0ffee 7332
    0600000b 02 03 00 00 00000000 c0ffee";
const LOW: &str = "
    69704f53 01030000 00000005 0000000b 0001003c
    07000014 01 00 0032 00000000000004d2 0000000004000000
    07000014 02 00 0001 0000000000000007 0000000000001000
    08000008 73686f702d312e32";
const LEAVE: &str = "69704f53 01048000 00000005 0000000c 00010000 000102030405060708090a0b0c0d0e0f";

const WEB: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 11), 80);
const PORT_B_1: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 11);
const PORT_B_2: Ipv4Addr = Ipv4Addr::new(10, 88, 0, 12);

fn writer(kind: SynchKind, flags: SynchFlags, sequence: u32) -> SynchWriter {
    SynchWriter::new(kind, flags, 5, sequence, SYNCH_DATAGRAM_MAX)
}

/// The vector is this report of one datagram, both ways.
#[track_caller]
fn check(vector: &str, mut writer: SynchWriter, records: &[Record<'_>]) {
    let bytes = unhex(vector);
    for record in records {
        writer.push(record).unwrap();
    }
    assert_eq!(writer.finish(), [bytes.as_slice()]);
    let message = SynchMessage::parse(&bytes).unwrap();
    assert!(message.records().eq(records.iter().copied()));
    assert_eq!(message.message_len(), bytes.len());
    assert_eq!(message.tag(), None);
}

#[test]
fn high() {
    let state = State {
        connections: 27,
        cpu: 1234,
        free_memory: 1 << 30,
        free_bandwidth: 1_000_000_000,
    };
    let identity = Identity {
        name: "s1",
        port_b: PORT_B_1,
        hardware: MacAddr([2, 0, 0, 0, 0x0b, 1]),
        port_a: AddressList::new(&[*WEB.ip()]).unwrap(),
    };
    let writer = writer(SynchKind::High, SynchFlags::DRAINING, 9);
    check(
        HIGH,
        writer,
        &[Record::State(state), Record::Identity(identity)],
    );
}

#[test]
fn medium() {
    let shadow = Some(Shadow {
        id: 8,
        address: PORT_B_2,
    });
    let session = &[0xc0, 0xff, 0xee];
    let records = [
        Record::Listen(Listen {
            address: WEB,
            protocol: Protocol::Tcp,
            service: "web",
        }),
        Record::Process(Process {
            pid: 1234,
            address: WEB,
            name: "nginx",
        }),
        Record::Object(Object {
            id: 7,
            address: PORT_B_1,
            shadow,
        }),
        Record::Cookie(Cookie {
            session,
            server: "s2",
            lifetime_ms: 60_000,
        }),
        Record::CookieRemoved(session),
    ];
    check(
        MEDIUM,
        writer(SynchKind::Medium, SynchFlags::default(), 10),
        &records,
    );
}

#[test]
fn low() {
    let process = Performance {
        subject: Subject::Process(1234),
        cpu: 50,
        memory: 64 << 20,
    };
    let object = Performance {
        subject: Subject::Object(7),
        cpu: 1,
        memory: 4096,
    };
    let records = [
        Record::Performance(process),
        Record::Performance(object),
        Record::Stored("shop-1.2"),
    ];
    check(
        LOW,
        writer(SynchKind::Low, SynchFlags::default(), 11),
        &records,
    );
}

#[test]
fn leave() {
    let bytes = unhex(LEAVE);
    let message = SynchMessage::parse(&bytes).unwrap();
    assert_eq!(message.records().count(), 0);
    let tag = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
    assert_eq!((message.tag(), message.message_len()), (Some(tag), 36));
    let padded = [&bytes[..], b"padding"].concat();
    assert_eq!(message.split_tag(&padded), Some((&bytes[..20], &tag)));
    assert_eq!(message.split_tag(&bytes[..35]), None);
    // The writer leaves the tag to the holder of the key.
    let written = writer(SynchKind::Leave, SynchFlags::TAGGED, 12).finish();
    assert_eq!(written, [[&bytes[..20], &[0; 16]].concat()]);
    assert!(SynchMessage::parse(&bytes[..35]).is_err());
}

#[test]
fn the_vectors_are_those_of_the_text() {
    let text: String = include_str!("../mod.rs")
        .replace("//!", "")
        .split_whitespace()
        .collect();
    for vector in [HIGH, MEDIUM, LOW, LEAVE] {
        let vector: String = vector.split_whitespace().collect();
        assert!(text.contains(&vector), "{vector}");
    }
}

#[test]
fn unknown_records_are_skipped() {
    let mut bytes = unhex(LOW);
    let first_record = SYNCH_HEADER_LEN;
    for unknown in [0, 9, 0xff] {
        bytes[first_record] = unknown;
        assert_eq!(SynchMessage::parse(&bytes).unwrap().records().count(), 2);
    }
}

/// What `vector` is refused for, once the bytes at `offset` are these.
#[track_caller]
fn refused(vector: &str, offset: usize, bytes: &[u8], reason: &str) {
    let mut message = unhex(vector);
    message[offset..offset + bytes.len()].copy_from_slice(bytes);
    assert_eq!(
        SynchMessage::parse(&message).unwrap_err().to_string(),
        reason
    );
}

#[test]
fn headers_that_do_not_hold_are_refused() {
    let magic = "Synch header, byte 0: magic must be \"ipOS\" (0x69704f53), is 0 (0x0)";
    refused(LOW, 0, &[0; 4], magic);
    refused(
        LOW,
        4,
        &[2],
        "Synch header, byte 4: version must be 1, is 2 (0x2)",
    );
    refused(
        LOW,
        5,
        &[5],
        "Synch header, byte 5: kind must be 1 to 4, is 5 (0x5)",
    );
    let parts = "Synch header, byte 17: parts must be 1 to 255, and 1 for high and leave, is ";
    refused(LOW, 17, &[0], &[parts, "0 (0x0)"].concat());
    refused(HIGH, 17, &[2], &[parts, "2 (0x2)"].concat());
    refused(LEAVE, 17, &[2], &[parts, "2 (0x2)"].concat());
    let part = "Synch header, byte 16: part must be below the number of parts, is 1 (0x1)";
    refused(LOW, 16, &[1], part);
    let leave = "Synch header, byte 18: records length must be 0 for leave, is 1 (0x1)";
    refused(LEAVE, 19, &[1], leave);
    refused(
        LOW,
        19,
        &[0x3d],
        "Synch header, byte 0: 81 bytes required, 80 there",
    );
    // With a tag announced, the tag is missing.
    refused(
        LOW,
        6,
        &[0x80],
        "Synch header, byte 0: 96 bytes required, 80 there",
    );
}

#[test]
fn records_that_do_not_hold_are_refused() {
    let refused = |vector, offset, bytes: &[u8], reason: &str| {
        refused(
            vector,
            offset,
            bytes,
            &["Synch record, byte ", reason].concat(),
        );
    };
    // STATE: header at 20, value at 24.
    refused(HIGH, 22, &[1, 0], "20: 260 bytes required, 50 there");
    let length = "22: record length must be what the fields of its type add up to, is 25 (0x19)";
    refused(HIGH, 23, &[25], length);
    refused(HIGH, 23, &[23], "24: 24 bytes required, 23 there");
    refused(
        HIGH,
        28,
        &[0xff],
        "28: CPU must be at most 10000, is 65490 (0xffd2)",
    );
    // IDENTITY: value at 52.
    let addresses = "62: number of Port A addresses must be at most 16, is 17 (0x11)";
    refused(HIGH, 62, &[17], addresses);
    refused(
        HIGH,
        63,
        &[0],
        "63: name length must be 1 to 63, is 0 (0x0)",
    );
    refused(HIGH, 63, &[6], "52: 22 bytes required, 18 there");
    // LISTEN: value at 24.
    refused(
        MEDIUM,
        30,
        &[3],
        "30: protocol must be 1 (TCP) or 2 (UDP), is 3 (0x3)",
    );
    refused(
        MEDIUM,
        33,
        &[0xff],
        "33: service name must be UTF-8, is 255 (0xff)",
    );
    // COOKIE: value at 88, and at 105 the one that removes.
    refused(
        MEDIUM,
        88,
        &[3],
        "88: action must be 1 (set) or 2 (removed), is 3 (0x3)",
    );
    refused(
        MEDIUM,
        106,
        &[0],
        "106: session id length must be 1 to 64, is 0 (0x0)",
    );
    refused(
        MEDIUM,
        107,
        &[1],
        "107: server name length must be 0 when removed, is 1 (0x1)",
    );
    refused(
        MEDIUM,
        112,
        &[1],
        "109: lifetime must be 0 when removed, is 1 (0x1)",
    );
    // PERFORMANCE: value at 24.
    refused(
        LOW,
        24,
        &[3],
        "24: subject must be 1 (process) or 2 (object), is 3 (0x3)",
    );
    refused(
        LOW,
        26,
        &[0x27, 0x11],
        "26: CPU must be at most 10000, is 10001 (0x2711)",
    );
    let pid = "28: process id must be at most 4294967295, is 4294968530 (0x1000004d2)";
    refused(LOW, 31, &[1], pid);
}

#[test]
fn the_writer_refuses_what_is_out_of_bounds() {
    let push = |record: Record<'_>| {
        let mut writer = writer(SynchKind::Medium, SynchFlags::default(), 1);
        writer.push(&record).map_err(|error| error.to_string())
    };
    let long = "x".repeat(PACKAGE_MAX + 1);
    let (name, session) = (&long[..NAME_MAX + 1], &long.as_bytes()[..SESSION_MAX + 1]);
    let listen = Listen {
        address: WEB,
        protocol: Protocol::Udp,
        service: name,
    };
    let process = Process {
        pid: 1,
        address: WEB,
        name,
    };
    let cookie = Cookie {
        session: &session[1..],
        server: name,
        lifetime_ms: 1,
    };
    let state = State {
        cpu: CPU_FULL + 1,
        ..State::default()
    };
    for (record, reason) in [
        (
            Record::Listen(listen),
            "11: service length must be at most 63, is 64 (0x40)",
        ),
        (
            Record::Process(process),
            "15: name length must be at most 63, is 64 (0x40)",
        ),
        (
            Record::Cookie(cookie),
            "6: name length must be 1 to 63, is 64 (0x40)",
        ),
        (
            Record::CookieRemoved(session),
            "5: session id length must be 1 to 64, is 65 (0x41)",
        ),
        (
            Record::State(state),
            "8: CPU must be at most 10000, is 10001 (0x2711)",
        ),
        (
            Record::Stored(""),
            "4: package name length must be 1 to 255, is 0 (0x0)",
        ),
        (
            Record::Stored(&long),
            "4: package name length must be 1 to 255, is 256 (0x100)",
        ),
    ] {
        assert_eq!(push(record), Err(["Synch record, byte ", reason].concat()));
    }
    assert_eq!(push(Record::Stored(&long[1..])), Ok(()));
}

#[test]
fn a_report_is_bounded_and_stays_as_it_was_when_full() {
    let package = Record::Stored("12345678");
    let room = |limit, kind| SynchWriter::new(kind, SynchFlags::TAGGED, 5, 1, limit);
    // Header 20, tag 16, record 12.
    let mut low = room(48, SynchKind::Low);
    for part in 1..=255 {
        assert_eq!(low.push(&package), Ok(()));
        assert_eq!(low.parts(), part);
    }
    let full = "Synch header, byte 0: room for 256 required to write it, 255 given";
    assert_eq!(low.push(&package).unwrap_err().to_string(), full);
    let datagrams = low.finish();
    assert_eq!(datagrams.len(), 255);
    assert!(datagrams.iter().all(|datagram| datagram.len() == 48));
    assert_eq!(
        SynchMessage::parse(&datagrams[254]).unwrap().header().part,
        254
    );

    let mut high = room(48, SynchKind::High);
    assert_eq!(high.push(&package), Ok(()));
    assert!(high.push(&package).is_err());
    assert_eq!(high.parts(), 1);

    let tight = "Synch record, byte 0: room for 12 required to write it, 11 given";
    let error = room(47, SynchKind::Low).push(&package).unwrap_err();
    assert_eq!(error.to_string(), tight);
    let leave = "Synch record, byte 0: room for 12 required to write it, 0 given";
    let error = room(48, SynchKind::Leave).push(&package).unwrap_err();
    assert_eq!(error.to_string(), leave);
}

#[test]
fn an_empty_report_is_one_datagram() {
    let datagrams = writer(SynchKind::Medium, SynchFlags::default(), 1).finish();
    assert_eq!(datagrams.len(), 1);
    assert_eq!(
        SynchMessage::parse(&datagrams[0])
            .unwrap()
            .records()
            .count(),
        0
    );
}
