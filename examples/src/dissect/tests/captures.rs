//! Captures of both formats, whole, cut and damaged.

use std::borrow::Cow;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pcap_file::pcap::{PcapHeader, PcapPacket, PcapWriter};
use pcap_file::pcapng::PcapNgWriter;
use pcap_file::pcapng::blocks::enhanced_packet::EnhancedPacketBlock;
use pcap_file::pcapng::blocks::interface_description::{
    InterfaceDescriptionBlock, InterfaceDescriptionOption,
};
use pcap_file::pcapng::blocks::simple_packet::SimplePacketBlock;
use pcap_file::{DataLink, Endianness, TsResolution};
use proptest::prelude::*;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{
    ACKNOWLEDGEMENT, ENDPOINT_TCP, dissect, mixture, of_hex, parse_hex, refusal, synch_frame,
};

/// A directory for captures, and what is written there.
struct Captures(TempDir);

impl Captures {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

fn pcap(header: PcapHeader, frames: &[Vec<u8>]) -> Vec<u8> {
    let mut writer = PcapWriter::with_header(Vec::new(), header).unwrap();
    for frame in frames {
        let length = frame.len() as u32;
        let packet = PcapPacket::new(Duration::new(1_700_000_000, 5000), length, frame);
        writer.write_packet(&packet).unwrap();
    }
    writer.into_writer()
}

/// Status, JSON objects and standard error of a run over a capture.
fn of_capture(path: &Path) -> (u8, Vec<Value>, String) {
    let (status, out, err) = dissect(&["--json", path.to_str().unwrap()]);
    (
        status,
        out.lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect(),
        err,
    )
}

const SUMMARY: &str =
    "dissect: 4 frames: 2 ipOS, 1 Synch, 1 of these malformed; 1 others skipped\n";

#[test]
fn pcap_captures() {
    let captures = Captures::new();
    let micro = PcapHeader::default();
    let nano = PcapHeader {
        ts_resolution: TsResolution::NanoSecond,
        ..micro
    };
    let little = PcapHeader {
        endianness: Endianness::Little,
        ..micro
    };
    for (header, time) in [
        (micro, "1700000000.000005"),
        (nano, "1700000000.000005000"),
        (little, "1700000000.000005"),
    ] {
        let path = captures.write("farm.pcap", &pcap(header, &mixture()));
        let (status, frames, err) = of_capture(&path);
        assert_eq!((status, err.as_str()), (0, SUMMARY));
        let numbers: Vec<_> = frames
            .iter()
            .map(|frame| frame["frame"].as_u64().unwrap())
            .collect();
        assert_eq!(numbers, [1, 3, 4]);
        assert_eq!(
            frames[0]["control_block"],
            of_hex(ENDPOINT_TCP)["control_block"]
        );
        assert_eq!(
            (&frames[0]["time"], &frames[0]["length"]),
            (&json!(time), &json!(176))
        );
        assert_eq!(frames[1]["synch"]["records"].as_array().unwrap().len(), 2);
        assert_eq!(frames[2]["error"]["offset"], 28);
    }
}

#[test]
fn frames_that_the_capture_cut() {
    // As `tcpdump -s 60` writes them: the length beyond the snapshot length.
    let captures = Captures::new();
    let mut bytes = pcap(
        PcapHeader {
            snaplen: 60,
            ..PcapHeader::default()
        },
        &[],
    );
    for frame in [parse_hex(ENDPOINT_TCP).unwrap(), synch_frame()] {
        for word in [1_700_000_000, 0, 60, frame.len() as u32] {
            bytes.extend(word.to_be_bytes());
        }
        bytes.extend(&frame[..60]);
    }
    let (status, frames, _) = of_capture(&captures.write("cut.pcap", &bytes));
    assert_eq!((status, frames.len()), (0, 2));
    assert_eq!(
        (&frames[0]["length"], &frames[0]["captured"]),
        (&json!(176), &json!(60))
    );
    assert_eq!(frames[0]["error"]["reason"], "146 bytes required, 30 there");
    assert_eq!(frames[1]["error"]["layer"], "Synch header");
}

/// A section with an interface of this link type and time resolution.
fn pcapng(
    endianness: Endianness,
    linktype: DataLink,
    resolution: Option<u8>,
    frames: &[Vec<u8>],
) -> Vec<u8> {
    let mut writer = PcapNgWriter::with_endianness(Vec::new(), endianness).unwrap();
    let options = resolution
        .map(InterfaceDescriptionOption::IfTsResol)
        .into_iter()
        .collect();
    writer
        .write_pcapng_block(InterfaceDescriptionBlock {
            linktype,
            snaplen: 0,
            options,
        })
        .unwrap();
    for frame in frames {
        let block = EnhancedPacketBlock {
            interface_id: 0,
            // The library writes the nanoseconds as they are: these are the ticks.
            timestamp: Duration::from_nanos(1_700_000_000_000_005),
            original_len: frame.len() as u32,
            data: Cow::Borrowed(frame),
            options: Vec::new(),
        };
        writer.write_pcapng_block(block).unwrap();
    }
    writer.into_inner()
}

#[test]
fn pcapng_captures() {
    let captures = Captures::new();
    for (endianness, resolution, time) in [
        (Endianness::Little, None, "1700000000.000005"),
        (Endianness::Big, Some(9), "1700000.000000005"),
        (Endianness::Little, Some(0), "1700000000000005"),
        (Endianness::Big, Some(0x80 | 10), "1660156250000.004882812"),
    ] {
        let bytes = pcapng(endianness, DataLink::ETHERNET, resolution, &mixture());
        let (status, frames, err) = of_capture(&captures.write("farm.pcapng", &bytes));
        assert_eq!((status, err.as_str(), frames.len()), (0, SUMMARY, 3));
        assert_eq!(frames[0]["time"], time);
        assert_eq!(
            frames[0]["control_block"],
            of_hex(ENDPOINT_TCP)["control_block"]
        );
    }
    // A resolution that no number of 64 bits can count.
    let bytes = pcapng(Endianness::Big, DataLink::ETHERNET, Some(40), &mixture());
    let (status, frames, _) = of_capture(&captures.write("farm.pcapng", &bytes));
    assert_eq!((status, frames[0].get("time")), (0, None));
}

#[test]
fn simple_packets_and_other_links_of_pcapng() {
    let captures = Captures::new();
    let mut writer = PcapNgWriter::new(Vec::new()).unwrap();
    let linktype = DataLink::ETHERNET;
    let interface = InterfaceDescriptionBlock {
        linktype,
        snaplen: 64,
        options: Vec::new(),
    };
    writer.write_pcapng_block(interface).unwrap();
    let frame = parse_hex(ACKNOWLEDGEMENT).unwrap();
    let original_len = frame.len() as u32;
    let data = Cow::Borrowed(&frame[..]);
    writer
        .write_pcapng_block(SimplePacketBlock { original_len, data })
        .unwrap();
    let (status, frames, _) = of_capture(&captures.write("simple.pcapng", &writer.into_inner()));
    assert_eq!((status, &frames[0]["captured"]), (0, &json!(30)));
    assert_eq!(frames[0]["header"]["type"], 3);

    let bytes = pcapng(Endianness::Big, DataLink::RAW, None, &mixture());
    let (status, frames, err) = of_capture(&captures.write("raw.pcapng", &bytes));
    assert_eq!((status, frames.len()), (0, 0));
    assert!(err.contains("4 others skipped"), "{err}");
}

#[test]
fn captures_that_cannot_be_read() {
    let captures = Captures::new();
    let refused = |path: &Path, reason: &str| {
        let path = path.to_str().unwrap();
        assert_eq!(refusal(&[path]), format!("dissect: {path}: {reason}"));
    };
    let missing = captures.0.path().join("missing.pcap");
    refused(&missing, "No such file or directory (os error 2)");
    refused(
        &captures.write("empty", b""),
        "neither pcap nor pcapng: too short",
    );
    let magic = "neither pcap nor pcapng: Invalid field value: PcapHeader: wrong magic number";
    refused(
        &captures.write("text", b"no capture, but longer than a header"),
        magic,
    );
    let raw = pcap(
        PcapHeader {
            datalink: DataLink::RAW,
            ..PcapHeader::default()
        },
        &[],
    );
    refused(
        &captures.write("raw.pcap", &raw),
        "link type must be Ethernet, is RAW",
    );

    // What is whole is shown first.
    let bytes = pcap(PcapHeader::default(), &mixture());
    let path = captures.write("torn.pcap", &bytes[..bytes.len() - 1]);
    let (status, frames, err) = of_capture(&path);
    assert_eq!((status, frames.len()), (2, 2));
    let path = path.display();
    let reason = format!("dissect: {path}: frame 4 cannot be read: unexpected end of file\n");
    assert!(err.ends_with(&reason), "{err}");
}

proptest! {
    #[test]
    fn a_damaged_capture_is_no_panic(
        ng: bool,
        at: prop::sample::Index,
        flip in 1u8..,
        cut: prop::sample::Index,
    ) {
        let mut bytes = if ng {
            pcapng(Endianness::Big, DataLink::ETHERNET, Some(9), &mixture())
        } else {
            pcap(PcapHeader::default(), &mixture())
        };
        let at = at.index(bytes.len());
        bytes[at] ^= flip;
        let captures = Captures::new();
        let path = captures.write("damaged", &bytes);
        let (status, _, err) = of_capture(&path);
        prop_assert!(status == 0 || (status == 2 && !err.is_empty()));
        bytes.truncate(cut.index(bytes.len()));
        let (status, ..) = of_capture(&captures.write("cut", &bytes));
        prop_assert!(status == 0 || status == 2);
    }
}
