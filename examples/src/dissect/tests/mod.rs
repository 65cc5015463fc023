//! Tests of the program as a whole: arguments in, status and both outputs out.

mod captures;

use std::io::{self, Write};

use etherparse::PacketBuilder;
use ipos_proto::synch::{Listen, Record, SYNCH_DATAGRAM_MAX, SynchFlags, SynchKind, SynchWriter};
use ipos_proto::{
    ETHERTYPE, Ethernet, FrameType, HEADER_LEN, Header, MacAddr, Protocol, Trailer, TrailerFlags,
};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;

// Vectors of the wire formats.
const ACKNOWLEDGEMENT: &str = "020000000b01020000000b020007c00002019c400a58000b005003019409";
const ACKNOWLEDGEMENT_TRAILER: &str = "020000000b01020000000b020007c00002019c400a58000b0050030194090114000100000007010203040000000500000009";
const ENDPOINT_UDP: &str =
    "020000000b02020000000b010007cb00710914e90a58000c00350102a3710a4d000b0035";
const ENDPOINT_TCP: &str = "\
    020000000b02020000000b010007c00002019c400a58000c0050010196080a4d000b005001020007000000010707\
    000005a405a4112233441122334511223345112233450000fb00a0000001112233450000fb0000003868ffffffff\
    11223344a0000000a00000010000ffffa0010000a000000100000352000001a900030d4000000316000003e80000\
    0003000050000000000000000002000000000000000000000000000000000000000000000000";

/// Status, standard output and standard error of a run.
fn dissect(args: &[&str]) -> (u8, String, String) {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let args = ["dissect"].iter().chain(args);
    let status = run(args, &mut out, &mut err);
    (
        status,
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
    )
}

/// The one JSON object of a run with `--hex`.
#[track_caller]
fn of_hex(hex: &str) -> Value {
    let (status, out, err) = dissect(&["--json", "--hex", hex]);
    assert_eq!((status, err.as_str()), (0, ""));
    assert_eq!(out.lines().count(), 1);
    serde_json::from_str(&out).unwrap()
}

/// The one line about bad input of a run.
#[track_caller]
fn refusal(args: &[&str]) -> String {
    let (status, out, err) = dissect(args);
    assert_eq!(
        (status, out.as_str(), err.lines().count()),
        (2, "", 1),
        "{err}"
    );
    err.trim_end().to_string()
}

#[test]
fn every_field_of_a_tcp_endpoint() {
    let expected = json!({
        "frame": 1,
        "taken_as": "Ethernet frame",
        "ethernet": {
            "destination": "02:00:00:00:0b:02", "source": "02:00:00:00:0b:01", "type": 7,
        },
        "header": {
            "client_address": "192.0.2.1", "client_port": 40000, "destination": "10.88.0.12",
            "port": 80, "type": 1, "type_name": "connection endpoint", "protocol": 1,
            "protocol_name": "tcp", "checksum": 0x9608,
        },
        "connection_information": {
            "first_server_address": "10.77.0.11", "first_server_port": 80,
        },
        "control_block": of_hex(ENDPOINT_TCP)["control_block"],
    });
    assert_eq!(of_hex(ENDPOINT_TCP), expected);

    let block = &expected["control_block"];
    let text = [
        ("state_name", "ESTABLISHED"),
        ("flags_name", "window scale, sack permitted, timestamps"),
        ("timer_name", "none"),
    ];
    let numbers = [
        ("version", 1),
        ("state", 2),
        ("flags", 7),
        ("epoch", 1),
        ("snd_wscale", 7),
        ("rcv_wscale", 7),
        ("dupacks", 0),
        ("rxtshift", 0),
        ("snd_mss", 1444),
        ("rcv_mss", 1444),
        ("iss", 0x1122_3344),
        ("snd_una", 0x1122_3345),
        ("snd_nxt", 0x1122_3345),
        ("snd_max", 0x1122_3345),
        ("snd_wnd", 64256),
        ("snd_wl1", 0xa000_0001),
        ("snd_wl2", 0x1122_3345),
        ("max_sndwnd", 64256),
        ("cwnd", 14440),
        ("ssthresh", 0xffff_ffff),
        ("recover", 0x1122_3344),
        ("irs", 0xa000_0000),
        ("rcv_nxt", 0xa000_0001),
        ("rcv_wnd", 65535),
        ("rcv_adv", 0xa001_0000u32),
        ("last_ack_sent", 0xa000_0001),
        ("srtt", 850),
        ("rttvar", 425),
        ("rto", 200_000),
        ("rtt_min", 790),
        ("ts_recent", 1000),
        ("ts_recent_age", 3),
        ("tsval", 0x5000),
        ("timer", 0),
        ("timer_left", 0),
        ("idle", 2),
        ("rcv_up", 0),
        ("oob_flags", 0),
        ("oob_byte", 0),
    ];
    for (name, value) in text {
        assert_eq!(block[name], value, "{name}");
    }
    for (name, value) in numbers {
        assert_eq!(block[name], value, "{name}");
    }
    assert_eq!(block.as_object().unwrap().len(), text.len() + numbers.len());
}

#[test]
fn acknowledgements_and_udp_endpoints() {
    let bare = of_hex(ACKNOWLEDGEMENT);
    assert_eq!(bare["header"]["type_name"], "acknowledgement");
    assert_eq!(bare.get("trailer"), None);
    let trailer = json!({
        "version": 1, "length": 20, "flags": 1, "flags_name": "rcv nxt", "epoch": 7,
        "rcv_nxt": 0x0102_0304, "incarnation": 5, "number": 9, "tag": null,
    });
    assert_eq!(of_hex(ACKNOWLEDGEMENT_TRAILER)["trailer"], trailer);
    let udp = of_hex(ENDPOINT_UDP);
    let first = json!({ "first_server_address": "10.77.0.11", "first_server_port": 53 });
    assert_eq!(udp["connection_information"], first);
    assert_eq!(
        (&udp["header"]["protocol"], udp.get("control_block")),
        (&json!(2), None)
    );
}

/// A frame of this type on Port B, the trailer with a tag.
fn on_port_b(frame_type: FrameType, body: &[u8], trailer: Option<Trailer>) -> Vec<u8> {
    let header = Header {
        client: "192.0.2.1:40000".parse().unwrap(),
        destination: "10.88.0.12".parse().unwrap(),
        port: 80,
        frame_type,
        protocol: Protocol::Tcp,
    };
    let (destination, source) = (MacAddr([2; 6]), MacAddr([4; 6]));
    let ethernet = Ethernet {
        destination,
        source,
        ethertype: ETHERTYPE,
    };
    let mut bytes = [&ethernet.to_bytes(), &header.to_bytes()[..], body].concat();
    if let Some(trailer) = trailer {
        let message = ipos_proto::Message::Acknowledgement {
            trailer: Some(trailer),
        };
        let frame_type = FrameType::Acknowledgement;
        let frame = ipos_proto::Frame {
            header: Header {
                frame_type,
                ..header
            },
            message,
        };
        let mut written = vec![0; frame.frame_len()];
        frame.emit(&mut written).unwrap();
        bytes.extend_from_slice(&written[HEADER_LEN..]);
    }
    bytes
}

/// A client's TCP segment.
fn segment() -> Vec<u8> {
    let mut out = Vec::new();
    let builder = PacketBuilder::ipv4([192, 0, 2, 1], [10, 77, 0, 11], 64)
        .tcp(40000, 80, 0xa000_0001, 1024)
        .psh()
        .ack(0x1122_3345);
    builder.write(&mut out, b"GET /").unwrap();
    out
}

#[test]
fn packets_moves_and_tags() {
    let packet = of_hex(&describe::hex(&on_port_b(
        FrameType::Packet,
        &segment(),
        None,
    )));
    let expected = json!({
        "source": "192.0.2.1", "destination": "10.77.0.11", "total_length": 45, "ttl": 64,
        "protocol": 6, "source_port": 40000, "destination_port": 80,
        "sequence_number": 0xa000_0001u32, "acknowledgment_number": 0x1122_3345, "flags": 0x18,
        "flags_name": "psh, ack", "window": 1024, "payload_length": 5,
    });
    assert_eq!(packet["packet"], expected);

    let target = [10, 88, 0, 13, 0, 80];
    let moved = of_hex(&describe::hex(&on_port_b(FrameType::Moved, &target, None)));
    assert_eq!(
        moved["named_server"],
        json!({ "port_b_address": "10.88.0.13", "port": 80 })
    );

    let flags = TrailerFlags::FULL | TrailerFlags::DRAINING;
    let trailer = Trailer {
        flags,
        tag: Some([0xab; 16]),
        ..Trailer::default()
    };
    let refuse = of_hex(&describe::hex(&on_port_b(
        FrameType::Refuse,
        &[],
        Some(trailer),
    )));
    assert_eq!(refuse["trailer"]["flags_name"], "full, draining");
    assert_eq!(refuse["trailer"]["tag"], "ab".repeat(16));
}

#[test]
fn a_malformed_frame_says_layer_offset_and_reason() {
    let error = |hex: &str| of_hex(hex)["error"].clone();
    let flipped = ENDPOINT_TCP.replacen("9608", "9609", 1);
    let checksum = "checksum must be 0x9608, is 0x9609";
    let expected = json!({ "layer": "ipOS header", "offset": 28, "reason": checksum });
    assert_eq!(error(&flipped), expected);

    // Version of the control block, after 14 + 16 + 6 bytes; the layers before it are shown.
    let version = ENDPOINT_TCP.replacen("01020007", "02020007", 1);
    let reason = "version must be 1, is 2 (0x2)";
    let expected = json!({ "layer": "control block", "offset": 36, "reason": reason });
    assert_eq!(error(&version), expected);
    assert_eq!(of_hex(&version)["header"]["port"], 80);

    let cut = &ACKNOWLEDGEMENT_TRAILER[..ACKNOWLEDGEMENT_TRAILER.len() - 2];
    let reason = "20 bytes required, 19 there";
    assert_eq!(
        error(cut),
        json!({ "layer": "trailer", "offset": 30, "reason": reason })
    );

    let mut inner = segment();
    inner[0] = 0x44;
    let inner = error(&describe::hex(&on_port_b(FrameType::Packet, &inner, None)));
    assert_eq!(
        (&inner["layer"], &inner["offset"]),
        (&json!("encapsulated packet"), &json!(30))
    );

    let (status, out, _) = dissect(&["--hex", &flipped]);
    assert_eq!(status, 0);
    assert!(out.starts_with("frame 1: ipOS malformed\n"), "{out}");
}

#[test]
fn bytes_are_taken_for_what_they_are() {
    let taken = |hex: &str| of_hex(hex)["taken_as"].as_str().unwrap().to_string();
    assert_eq!(taken(ENDPOINT_TCP), "Ethernet frame");
    let bare = &ENDPOINT_TCP[28..];
    assert_eq!(taken(bare), "bytes from the ipOS header on");
    assert_eq!(
        of_hex(bare)["control_block"],
        of_hex(ENDPOINT_TCP)["control_block"]
    );
    // Damaged, and still looking like one.
    assert_eq!(
        taken(&bare.replacen("9608", "9609", 1)),
        "bytes from the ipOS header on"
    );
    assert_eq!(taken(&describe::hex(&synch_message())), "Synch message");
    assert_eq!(taken(&describe::hex(&synch_frame())), "Ethernet frame");

    let other = of_hex(&"00".repeat(60));
    let reason = "type must be 0x0007, is 0x0000; and neither an ipOS header nor a Synch message \
                  is here either";
    let expected = json!({ "layer": "Ethernet header", "offset": 12, "reason": reason });
    assert_eq!(other["error"], expected);
    assert_eq!(of_hex("c0ffee")["error"]["layer"], "Ethernet header");
}

#[test]
fn another_ethertype() {
    let hex = ACKNOWLEDGEMENT.replacen("0007", "88b5", 1);
    assert_eq!(of_hex(&hex)["error"]["layer"], "Ethernet header");
    for ethertype in ["0x88B5", "34997"] {
        let (status, out, _) = dissect(&["--json", "--ethertype", ethertype, "--hex", &hex]);
        assert_eq!(status, 0);
        assert!(!out.contains("error"), "{out}");
    }
}

/// As on a trunk.
#[test]
fn vlan_tags() {
    let (addresses, rest) = ACKNOWLEDGEMENT.split_at(24);
    for tags in ["8100000a", "88a800148100000a"] {
        let frame = of_hex(&format!("{addresses}{tags}{rest}"));
        assert_eq!(frame["header"], of_hex(ACKNOWLEDGEMENT)["header"]);
        assert_eq!(frame["ethernet"]["type"], 7);
    }
    let cut = of_hex(&format!("{addresses}8100"));
    assert_eq!(cut["error"]["layer"], "Ethernet header");
}

fn synch_message() -> Vec<u8> {
    let flags = SynchFlags::DRAINING;
    let mut writer = SynchWriter::new(SynchKind::Medium, flags, 5, 10, SYNCH_DATAGRAM_MAX);
    let address = "10.77.0.11:80".parse().unwrap();
    let listen = Listen {
        address,
        protocol: Protocol::Tcp,
        service: "web",
    };
    writer.push(&Record::Listen(listen)).unwrap();
    writer.push(&Record::Stored("shop-1.2")).unwrap();
    writer.finish().swap_remove(0)
}

fn synch_frame() -> Vec<u8> {
    let mut out = Vec::new();
    PacketBuilder::ethernet2([4; 6], [0xff; 6])
        .ipv4([10, 99, 0, 11], [10, 99, 0, 255], 1)
        .udp(7007, 7007)
        .write(&mut out, &synch_message())
        .unwrap();
    out
}

#[test]
fn synch_messages() {
    let frame = of_hex(&describe::hex(&synch_frame()));
    assert_eq!(
        frame["ip"],
        json!({ "source": "10.99.0.11", "destination": "10.99.0.255" })
    );
    assert_eq!(frame["udp"]["destination_port"], 7007);
    let synch = &frame["synch"];
    assert_eq!(
        (&synch["kind_name"], &synch["flags_name"]),
        (&json!("medium"), &json!("draining"))
    );
    assert_eq!(
        (&synch["sequence_number"], &synch["parts"]),
        (&json!(10), &json!(1))
    );
    let listen = json!({
        "record": "LISTEN", "address": "10.77.0.11", "port": 80, "protocol": 1,
        "protocol_name": "tcp", "service": "web",
    });
    let stored = json!({ "record": "STORED", "package": "shop-1.2" });
    assert_eq!(synch["records"], json!([listen, stored]));

    // The protocol of the LISTEN record: 14 + 20 + 8 bytes, 20 of the Synch header, 4 + 6.
    let mut damaged = synch_frame();
    damaged[72] = 9;
    let reason = "protocol must be 1 (TCP) or 2 (UDP), is 9 (0x9)";
    let expected = json!({ "layer": "Synch record", "offset": 72, "reason": reason });
    assert_eq!(of_hex(&describe::hex(&damaged))["error"], expected);
}

#[test]
fn text_for_people() {
    let (_, out, _) = dissect(&["--hex", ACKNOWLEDGEMENT_TRAILER]);
    let expected = "\
frame 1: ipOS acknowledgement
  taken_as: Ethernet frame
  ethernet
    destination: 02:00:00:00:0b:01
    source: 02:00:00:00:0b:02
    type: 0x0007
  header
    client_address: 192.0.2.1
    client_port: 40000
    destination: 10.88.0.11
    port: 80
    type: 0x0003 (acknowledgement)
    protocol: 1 (tcp)
    checksum: 0x9409
  trailer
    version: 1
    length: 20 bytes
    flags: 0x0001 (rcv nxt)
    epoch: 7
    rcv_nxt: 16909060
    incarnation: 5
    number: 9

";
    assert_eq!(out, expected);
    let (_, out, _) = dissect(&["--hex", &describe::hex(&synch_message())]);
    assert!(
        out.contains(
            "\n    LISTEN; address: 10.77.0.11; port: 80; protocol: 1 (tcp); service: web\n"
        ),
        "{out}"
    );
}

/// An ARP request: of no interest.
fn noise() -> Vec<u8> {
    [&[0xff; 12][..], &[0x08, 0x06], &[0; 46]].concat()
}

/// ipOS, something else, Synch, malformed ipOS.
fn mixture() -> [Vec<u8>; 4] {
    let mut malformed = on_port_b(FrameType::Release, &[], None);
    malformed[20] ^= 1;
    [
        parse_hex(ENDPOINT_TCP).unwrap(),
        noise(),
        synch_frame(),
        malformed,
    ]
}

#[test]
fn bad_arguments() {
    let hex = |text: &str| refusal(&["--hex", text]);
    let digit = "dissect: --hex: character 3, 'x', is not a hexadecimal digit";
    assert_eq!(hex("00x0"), digit);
    assert_eq!(
        hex("000"),
        "dissect: --hex: 3 hexadecimal digits are not whole bytes"
    );
    assert_eq!(hex(" "), "dissect: --hex: no hexadecimal digits");
    assert!(refusal(&[]).contains("give a capture file, or --hex"));
    assert!(refusal(&["--colour"]).contains("'--colour'"));
    assert!(refusal(&["x.pcap", "--hex", "00"]).contains("--hex"));
    for ethertype in ["0x10000", "seven", ""] {
        assert!(refusal(&["--ethertype", ethertype, "--hex", "00"]).contains("--ethertype"));
    }
}

#[test]
fn hex_is_read_as_people_write_it() {
    let bytes = Ok(vec![0x02, 0xab, 0xcd]);
    for text in ["02abcd", "0x02ABCD", " 02 ab\n cd ", "02:ab:cd"] {
        assert_eq!(parse_hex(text), bytes, "{text}");
    }
}

#[test]
fn help_goes_to_standard_output() {
    let (status, out, err) = dissect(&["--help"]);
    assert_eq!((status, err.as_str()), (0, ""));
    for option in ["--hex", "--ethertype", "--json", "pcapng"] {
        assert!(out.contains(option), "{option}");
    }
}

/// An output that fails.
struct Failing(io::ErrorKind);

impl Write for Failing {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        Err(self.0.into())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[test]
fn an_output_that_nobody_reads_is_no_error() {
    let args = ["dissect", "--hex", ACKNOWLEDGEMENT];
    let mut err = Vec::new();
    assert_eq!(
        run(args, &mut Failing(io::ErrorKind::BrokenPipe), &mut err),
        0
    );
    assert!(err.is_empty());
    assert_eq!(
        run(args, &mut Failing(io::ErrorKind::StorageFull), &mut err),
        1
    );
    assert!(
        String::from_utf8(err)
            .unwrap()
            .starts_with("dissect: standard output: ")
    );
}

proptest! {
    #[test]
    fn any_bytes_are_described(bytes in proptest::collection::vec(any::<u8>(), 1..250)) {
        let hex = describe::hex(&bytes);
        prop_assert_eq!(dissect(&["--hex", &hex]).0, 0);
        let _ = of_hex(&hex);
    }

    #[test]
    fn a_damaged_frame_is_described(which in 0usize..4, at: prop::sample::Index, flip in 1u8..) {
        let mut bytes = mixture()[which].clone();
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let _ = of_hex(&describe::hex(&bytes));
    }
}
