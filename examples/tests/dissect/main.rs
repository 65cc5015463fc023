//! `dissect` and the Wireshark dissector, on captures of farms in virtual time.

#![allow(missing_docs, reason = "a test")]

#[allow(dead_code, reason = "not all of it is needed")]
#[path = "../common/mod.rs"]
mod common;
mod wireshark;

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use ipos_core::Port;
use ipos_examples::dissect;
use ipos_sim::{Capture, Farm};
use tempfile::TempDir;

/// A capture of Port B or of the Synch Port, of a farm that has served some requests.
fn capture(directory: &Path, port: Port) -> PathBuf {
    let capture = Capture::new(port.into(), Vec::new()).unwrap();
    let capture = Arc::new(Mutex::new(capture));
    let farm = Farm::builder().requests(20).observer(capture.clone());
    let outcome = farm.build().unwrap().run();
    assert_eq!((outcome.errors, outcome.violations), (0, 0));
    let bytes = capture.lock().unwrap().finish().unwrap().unwrap();
    let path = directory.join(format!("{port:?}.pcap"));
    std::fs::write(&path, bytes).unwrap();
    path
}

/// What `dissect` writes with these arguments.
fn dissected(arguments: &[&str]) -> String {
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let status = dissect::run(["dissect"].iter().chain(arguments), &mut out, &mut err);
    assert_eq!(status, 0, "{}", String::from_utf8_lossy(&err));
    String::from_utf8(out).unwrap()
}

/// The lines of the first connection, without its number.
fn first_sequence(said: &str) -> Vec<String> {
    let lines = said.lines().filter_map(|line| line.strip_prefix("#1 "));
    lines.map(|line| line.trim().to_owned()).collect()
}

#[test]
fn a_hand_over_is_a_readable_sequence() {
    let directory = TempDir::new().unwrap();
    let path = capture(directory.path(), Port::B);
    let said = dissected(&["--handovers", path.to_str().unwrap()]);
    let lines = first_sequence(&said);
    let [heading, endpoint, installed, request, received, ..] = &lines[..] else {
        panic!("{said}");
    };
    assert!(heading.starts_with("tcp 10.77.0.1"), "{heading}");
    assert!(heading.contains(" > 10.77.0.1"), "{heading}");
    let begins = [
        (
            endpoint,
            "+0.000 ms  10.88.0.1",
            "0x01 connection endpoint: epoch 1, ESTABLISHED, received up to 0, sent up to 0",
        ),
        (installed, "+0.0", "0x03 acknowledgement: epoch 1"),
        (request, "+0.0", "0x02 packet: PSH ACK, 7"),
        (
            received,
            "+0.0",
            "0x03 acknowledgement: epoch 1, received up to 7",
        ),
    ];
    for (line, begin, what) in begins {
        assert!(line.starts_with(begin) && line.contains(what), "{line}");
    }
    // The other way round.
    let way = |line: &str| {
        let mut words = line
            .split_whitespace()
            .filter(|word| word.starts_with("10.88.0."));
        [words.next(), words.next()].map(|word| word.unwrap().to_owned())
    };
    let [from, to] = way(endpoint);
    assert_eq!(way(installed), [to.clone(), from.clone()]);
    assert_eq!(way(request), [from, to]);
    // Together, and each connection once.
    let numbers: Vec<_> = said
        .lines()
        .filter_map(|line| line.split(' ').next())
        .collect();
    let changes = numbers.windows(2).filter(|pair| pair[0] != pair[1]).count();
    let headings = said.lines().filter(|line| line.contains(" tcp ")).count();
    assert!(headings > 5, "{said}");
    assert_eq!(changes + 1, headings, "{said}");
}

/// What `tcpdump -U -w -` has written is told before it writes more.
#[test]
fn standard_input_is_followed() {
    let directory = TempDir::new().unwrap();
    let path = capture(directory.path(), Port::B);
    let bytes = std::fs::read(&path).unwrap();
    for mode in ["--handovers", "--json"] {
        let mut running = Command::new(common::example("dissect"))
            .args(["-", mode])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = running.stdin.take().unwrap();
        let mut lines = BufReader::new(running.stdout.take().unwrap()).lines();
        // The file's header; each record's, in the byte order of the writer, says how long it is.
        let (header, mut rest) = bytes.split_at(24);
        input.write_all(header).unwrap();
        for _ in 0..3 {
            let length = rest[8..12].try_into().unwrap();
            let length = match header[0] {
                0xa1 => u32::from_be_bytes(length),
                _ => u32::from_le_bytes(length),
            };
            let (record, others) = rest.split_at(16 + length as usize);
            rest = others;
            input.write_all(record).unwrap();
            input.flush().unwrap();
            let line = lines.next().unwrap().unwrap();
            assert!(
                line.starts_with('#') || line.starts_with("{\"frame\":"),
                "{line}"
            );
            if mode == "--handovers" {
                // The heading, then what the frame says.
                let line = lines.next().unwrap().unwrap();
                assert!(line.contains("0x0"), "{line}");
            }
        }
        drop(input);
        let output = running.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0));
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(
            told,
            "dissect: 3 frames: 3 ipOS, 0 Synch, 0 of these malformed; 0 others skipped\n"
        );
    }
}

#[test]
fn standard_input_that_is_no_capture() {
    let mut running = Command::new(common::example("dissect"))
        .arg("-")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    running
        .stdin
        .take()
        .unwrap()
        .write_all(b"no capture at all, but long enough")
        .unwrap();
    let output = running.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.starts_with("dissect: standard input: neither pcap nor pcapng"),
        "{told}"
    );
    assert_eq!(told.lines().count(), 1);
}
