//! The Lua dissector, as tshark runs it: it must see what `dissect` sees.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use ipos_core::Port;
use ipos_proto::{ETHERTYPE, FrameType, Header, MacAddr, Protocol};
use pcap_file::pcap::{PcapPacket, PcapWriter};
use serde_json::Value;
use tempfile::TempDir;

use crate::common::skipped;
use crate::{capture, dissected};

const DISSECTOR: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../wireshark/ipos.lua");

/// Fields of one frame by their names, each with its values in order.
type Fields = BTreeMap<String, Vec<String>>;

fn is_installed() -> bool {
    let found = Command::new("tshark").arg("--version").output();
    if found.is_err() {
        skipped("wireshark", "there is no tshark: apt-get install tshark");
    }
    found.is_ok()
}

/// What tshark sees in each frame of a capture.
fn seen_by_tshark(path: &Path) -> Vec<Fields> {
    let output = Command::new("tshark")
        .arg("-X")
        .arg(format!("lua_script:{DISSECTOR}"))
        .args(["-T", "json", "--no-duplicate-keys", "-r"])
        .arg(path)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && !told.contains("Lua"), "{told}");
    let frames: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let fields = |frame: &Value| {
        let mut fields = Fields::new();
        flatten(&frame["_source"]["layers"], &mut fields);
        fields
    };
    frames.iter().map(fields).collect()
}

/// tshark nests fields under the texts of their trees.
fn flatten(value: &Value, fields: &mut Fields) {
    let Value::Object(object) = value else {
        return;
    };
    for (name, value) in object {
        let values = match value {
            Value::Array(values) => &values[..],
            one => std::slice::from_ref(one),
        };
        for value in values {
            match value {
                Value::String(text) => fields.entry(name.clone()).or_default().push(text.clone()),
                other => flatten(other, fields),
            }
        }
    }
}

/// What `dissect` sees in each frame, by the names that the Lua dissector has for it.
fn seen_by_dissect(path: &Path) -> Vec<Fields> {
    let said = dissected(&["--json", path.to_str().unwrap()]);
    let frames = said.lines().map(|line| serde_json::from_str(line).unwrap());
    frames.map(|frame: Value| expected(&frame)).collect()
}

fn expected(frame: &Value) -> Fields {
    let mut fields = Fields::new();
    let mut layer = |name: &str, prefix: &str| put(&mut fields, &frame[name], prefix);
    layer("ethernet", "ipos_b.ethernet");
    layer("header", "ipos_b");
    layer("connection_information", "ipos_b");
    layer("control_block", "ipos_b.control_block");
    layer("trailer", "ipos_b.trailer");
    layer("named_server", "ipos_b.named_server");
    layer("synch", "ipos_synch.header");
    for record in frame["synch"]["records"].as_array().into_iter().flatten() {
        let name = record["record"].as_str().unwrap().to_lowercase();
        put(&mut fields, record, &format!("ipos_synch.{name}"));
    }
    if frame["synch"].is_object() {
        // Those are Wireshark's own there.
        fields.retain(|name, _| name.starts_with("ipos_synch"));
    }
    if let Some(number) = frame["packet"]["sequence_number"].as_u64() {
        fields.insert("tcp.seq_raw".into(), vec![number.to_string()]);
    }
    fields
}

/// The fields of a layer, but for what only says what a number means.
fn put(fields: &mut Fields, layer: &Value, prefix: &str) {
    for (name, value) in layer.as_object().into_iter().flatten() {
        let meaning = name.ends_with("_name") || name == "records" || name == "record";
        let values = match value {
            Value::Array(values) if !meaning => values.clone(),
            Value::Null => continue,
            one => vec![one.clone()],
        };
        if meaning {
            continue;
        }
        let values = values.iter().map(|value| match value {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        fields
            .entry(format!("{prefix}.{name}"))
            .or_default()
            .extend(values);
    }
}

/// Numbers in any notation, bytes with or without colons, names of what has two values.
fn same(expected: &str, actual: &str) -> bool {
    let number = |text: &str| match text.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    };
    let code = match expected {
        "set" | "process" => "1",
        "removed" | "object" => "2",
        other => other,
    };
    let numbers = number(code).zip(number(actual));
    numbers.is_some_and(|(a, b)| a == b) || expected.replace(':', "") == actual.replace(':', "")
}

fn compare(path: &Path, least: usize) {
    let (expected, actual) = (seen_by_dissect(path), seen_by_tshark(path));
    assert_eq!(expected.len(), actual.len());
    assert!(expected.len() >= least, "{} frames", expected.len());
    for (at, (expected, actual)) in expected.iter().zip(&actual).enumerate() {
        assert!(expected.len() > 3, "{expected:?}");
        for (name, values) in expected {
            let seen = actual.get(name).cloned().unwrap_or_default();
            let alike =
                values.len() == seen.len() && values.iter().zip(&seen).all(|(a, b)| same(a, b));
            assert!(
                alike,
                "frame {at}: {name}: {values:?}, tshark sees {seen:?}\n{actual:#?}"
            );
        }
        let complaints: Vec<_> = actual
            .keys()
            .filter(|name| name.contains("malformed"))
            .collect();
        assert!(complaints.is_empty(), "frame {at}: {complaints:?}");
    }
}

#[test]
fn both_see_the_same_in_a_farm() {
    if !is_installed() {
        return;
    }
    let directory = TempDir::new().unwrap();
    compare(&capture(directory.path(), Port::B), 50);
    compare(&capture(directory.path(), Port::Synch), 10);
}

fn write(path: &Path, frames: &[Vec<u8>]) {
    let mut writer = PcapWriter::new(Vec::new()).unwrap();
    for frame in frames {
        let packet = PcapPacket::new(Default::default(), frame.len() as u32, frame);
        writer.write_packet(&packet).unwrap();
    }
    std::fs::write(path, writer.into_writer()).unwrap();
}

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex
        .bytes()
        .filter(|digit| !digit.is_ascii_whitespace())
        .collect();
    let (pairs, rest) = digits.as_chunks::<2>();
    assert!(rest.is_empty());
    let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).unwrap(), 16).unwrap();
    pairs.iter().map(byte).collect()
}

/// Types and records that farms rarely say, as the crate's documentation has them.
#[test]
fn both_see_the_same_in_rare_frames() {
    if !is_installed() {
        return;
    }
    let trailer = bytes("0124080100000007010203040000000500000009000102030405060708090a0b0c0d0e0f");
    let on_port_b = |frame_type, body: &[u8]| {
        let header = Header {
            client: "192.0.2.1:40000".parse().unwrap(),
            destination: "10.88.0.12".parse().unwrap(),
            port: 80,
            frame_type,
            protocol: Protocol::Tcp,
        };
        let ethernet = ipos_proto::Ethernet {
            destination: MacAddr([2, 0, 0, 0, 0, 1]),
            source: MacAddr([2, 0, 0, 0, 0, 2]),
            ethertype: ETHERTYPE,
        };
        [&ethernet.to_bytes(), &header.to_bytes()[..], body, &trailer].concat()
    };
    let target = [10, 88, 0, 13, 0, 80];
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("rare.pcap");
    let mut frames = vec![
        on_port_b(FrameType::Refuse, &[]),
        on_port_b(FrameType::Release, &[]),
        on_port_b(FrameType::Move, &target),
        on_port_b(FrameType::Moved, &target),
        bytes("020000000b02020000000b010007cb00710914e90a58000c00350102a3710a4d000b0035"),
    ];
    let messages = [
        "69704f53 01020000 00000005 0000000a 00010060 0300000b 0a4d000b 0050 01 03 776562
         04000011 000004d2 0a4d000b 0050 00 05 6e67696e78 05000018 0000000000000007 0a58000b 0000000000000008 0a58000c
         0600000d 01 03 02 00 0000ea60 c0ffee 7332 0600000b 02 03 00 00 00000000 c0ffee",
        "69704f53 01030000 00000005 0000000b 0001003c 07000014 01 00 0032 00000000000004d2 0000000004000000
         07000014 02 00 0001 0000000000000007 0000000000001000 08000008 73686f702d312e32",
        "69704f53 01048000 00000005 0000000c 00010000 000102030405060708090a0b0c0d0e0f",
    ];
    for message in messages {
        let mut frame = Vec::new();
        etherparse::PacketBuilder::ethernet2([2, 0, 0, 0, 0, 3], [0xff; 6])
            .ipv4([10, 99, 0, 11], [10, 99, 0, 255], 1)
            .udp(7007, 7007)
            .write(&mut frame, &bytes(message))
            .unwrap();
        frames.push(frame);
    }
    // As they pass on a trunk: with one VLAN tag, or two.
    for tags in ["8100000a", "88a80014 8100000a"] {
        let tagged = |frame: &Vec<u8>| [&frame[..12], &bytes(tags), &frame[12..]].concat();
        let tagged: Vec<_> = frames.iter().take(messages.len() + 5).map(tagged).collect();
        frames.extend(tagged);
    }
    write(&path, &frames);
    // A removed cookie has no lifetime to `dissect`; on the wire it is zero.
    let mut expected = seen_by_dissect(&path);
    for fields in &mut expected {
        fields.remove("ipos_synch.cookie.lifetime");
        fields.remove("ipos_synch.header.tag");
    }
    assert_eq!(expected.len(), frames.len());
    let actual = seen_by_tshark(&path);
    for (at, (expected, actual)) in expected.iter().zip(&actual).enumerate() {
        for (name, values) in expected {
            let seen = actual.get(name).cloned().unwrap_or_default();
            let alike =
                values.len() == seen.len() && values.iter().zip(&seen).all(|(a, b)| same(a, b));
            assert!(
                alike,
                "frame {at}: {name}: {values:?}, tshark sees {seen:?}"
            );
        }
    }
}

/// Damaged headers are nobody's, and what is cut is said to be.
#[test]
fn damage_is_told() {
    if !is_installed() {
        return;
    }
    let directory = TempDir::new().unwrap();
    let path = directory.path().join("damaged.pcap");
    let endpoint =
        bytes("020000000b02020000000b010007c00002019c400a58000c0050010196080a4d000b0050");
    let mut damaged = endpoint.clone();
    damaged[20] ^= 1;
    write(&path, &[endpoint, damaged]);
    let [cut, damaged] = &seen_by_tshark(&path)[..] else {
        panic!("two frames");
    };
    assert_eq!(cut["ipos_b.client_port"], ["40000"]);
    assert!(
        cut.keys().any(|name| name.contains("ipos_b.malformed")),
        "{cut:#?}"
    );
    assert!(!damaged.contains_key("ipos_b.client_port"), "{damaged:#?}");
}
