use alloc::format;
use alloc::string::String;

use loona_hpack::Encoder;

use super::*;
use crate::{Inspector, Kinds, REQUEST_MAX, Reading};

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let len = (payload.len() as u32).to_be_bytes();
    [&len[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let fields = fields
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()));
    Encoder::new().encode(fields)
}

/// The preface, an empty SETTINGS, and these.
fn connection(frames: &[Vec<u8>]) -> Vec<u8> {
    [PREFACE, &frame(SETTINGS, 0, 0, &[]), &frames.concat()].concat()
}

fn inspect<T>(bytes: &[u8], read: impl FnOnce(Reading<'_>) -> T) -> T {
    read(Inspector::new(Kinds::all(), REQUEST_MAX).inspect(bytes))
}

/// Host, path and the cookie `b`.
fn named(bytes: &[u8]) -> (Option<String>, String, Option<Vec<u8>>) {
    inspect(bytes, |reading| {
        let Reading::Request(request) = reading else {
            panic!("{reading:?}");
        };
        let host = request.host.as_ref().map(|host| host.as_str().into());
        let path = String::from_utf8(request.path.into()).unwrap();
        (host, path, request.cookie("b").map(Vec::from))
    })
}

#[track_caller]
fn assert_reads(bytes: &[u8], expected: &Reading<'_>) {
    inspect(bytes, |reading| assert_eq!(&reading, expected));
}

/// A request with these fields, in one HEADERS.
fn request(fields: &[(&str, &str)]) -> Vec<u8> {
    connection(&[frame(HEADERS, END_HEADERS, 1, &block(fields))])
}

const GET: &[(&str, &str)] = &[
    (":method", "GET"),
    (":scheme", "http"),
    (":path", "/a?b"),
    (":authority", "A.example:80"),
    ("cookie", "a=1"),
    ("cookie", "b=2; c=3"),
];

fn get() -> (Option<String>, String, Option<Vec<u8>>) {
    (Some("a.example".into()), "/a".into(), Some(b"2".into()))
}

#[test]
fn a_request() {
    assert_eq!(named(&request(GET)), get());
}

#[test]
fn more_is_needed() {
    let whole = request(GET);
    for end in 0..whole.len() {
        assert_reads(&whole[..end], &Reading::More);
    }
}

#[test]
fn headers_with_flags_and_continuations() {
    let block = block(GET);
    let (start, rest) = block.split_at(7);
    let (middle, end) = rest.split_at(1);
    let padded = [&[3], &[0x80, 0, 0, 0, 16][..], &block, &[0; 3]].concat();
    for frames in [
        [frame(HEADERS, END_HEADERS | PRIORITY | PADDED, 1, &padded)].as_slice(),
        &[
            frame(HEADERS, END_HEADERS, 5, &block),
            frame(DATA, 0, 5, b"x"),
        ],
        &[frame(HEADERS, END_HEADERS, 1 << 31 | 1, &block)],
        &[
            frame(HEADERS, 0, 1, start),
            frame(CONTINUATION, 0, 1, middle),
            frame(CONTINUATION, 0, 1, &[]),
            frame(CONTINUATION, END_HEADERS, 1, end),
        ],
        &[
            // WINDOW_UPDATE, PRIORITY, PING, and one that is reserved.
            frame(8, 0, 0, &[0, 0, 255, 0]),
            frame(2, 0, 3, &[0; 5]),
            frame(6, 0, 0, &[0; 8]),
            frame(0xBA, 0xFF, 0, b"grease"),
            frame(SETTINGS, 0, 0, &[0; 6]),
            frame(HEADERS, END_HEADERS, 1, &block),
        ],
    ] {
        assert_eq!(named(&connection(frames)), get());
    }
}

#[test]
fn hosts() {
    let host_of = |fields: &[(&str, &str)]| {
        let fields = [&[(":method", "GET"), (":path", "/")], fields].concat();
        named(&request(&fields)).0
    };
    for (fields, host) in [
        (&[(":authority", "a")][..], Some("a")),
        (&[("host", "a")], Some("a")),
        (&[(":authority", "a"), ("host", "A:80")], Some("a")),
        (&[(":authority", "a"), ("host", "b")], None),
        (&[(":authority", "a"), ("host", "a"), ("host", "a")], None),
        (&[(":authority", ""), ("host", "a")], None),
        (&[("host", "a"), ("host", "a")], None),
        (&[], None),
    ] {
        assert_eq!(host_of(fields).as_deref(), host, "{fields:?}");
    }
}

#[test]
fn requests_without_a_path() {
    let connect = request(&[(":method", "CONNECT"), (":authority", "a:443")]);
    assert_eq!(named(&connect), (Some("a".into()), "".into(), None));
    let options = request(&[(":method", "OPTIONS"), (":path", "*")]);
    assert_eq!(named(&options), (None, "".into(), None));
}

#[test]
fn what_is_no_request() {
    let block = block(GET);
    let headers = frame(HEADERS, END_HEADERS, 1, &block);
    let first = |frame: &[u8]| [PREFACE, frame].concat();
    for bytes in [
        // Something else than SETTINGS first.
        first(&headers),
        first(&frame(6, 0, 0, &[0; 8])),
        connection(&[frame(DATA, 0, 1, b"x"), headers.clone()]),
        connection(&[frame(CONTINUATION, END_HEADERS, 1, &block)]),
        connection(&[frame(HEADERS, END_HEADERS, 2, &block)]),
        connection(&[frame(HEADERS, END_HEADERS, 0, &block)]),
        connection(&[
            frame(HEADERS, 0, 1, &block),
            frame(CONTINUATION, END_HEADERS, 3, &[]),
        ]),
        connection(&[frame(HEADERS, 0, 1, &block), frame(6, 0, 0, &[0; 8])]),
        // More padding than there is, no length of the padding, no priority.
        connection(&[frame(HEADERS, END_HEADERS | PADDED, 1, &[3, 0, 0])]),
        connection(&[frame(HEADERS, END_HEADERS | PADDED, 1, &[])]),
        connection(&[frame(HEADERS, END_HEADERS | PRIORITY, 1, &[0; 4])]),
        // Not HPACK.
        connection(&[frame(HEADERS, END_HEADERS, 1, &[0x80])]),
        request(&[]),
        request(&[(":method", "GET"), (":authority", "a")]),
        request(&[(":path", "/"), (":authority", "a")]),
        request(&[(":method", "GET"), (":path", "a")]),
        request(&[(":method", "GET"), (":path", "/"), (":path", "/")]),
        request(&[
            (":method", "GET"),
            (":path", "/"),
            (":authority", "a"),
            (":authority", "a"),
        ]),
    ] {
        assert_reads(&bytes, &Reading::Unknown);
    }
}

#[test]
fn what_cannot_come_to_an_end_is_not_waited_for() {
    let start = |len: usize| {
        let header = frame(HEADERS, END_HEADERS, 1, &[]);
        connection(&[[&(len as u32).to_be_bytes()[1..], &header[3..]].concat()])
    };
    let fits = REQUEST_MAX - start(0).len();
    assert_reads(&start(fits), &Reading::More);
    assert_reads(&start(fits + 1), &Reading::Unknown);
    assert_reads(&start(PAYLOAD_MAX + 1), &Reading::Unknown);
}

#[test]
fn without_http2_it_is_a_malformed_head() {
    let mut inspector = Inspector::new(Kinds::HTTP1, REQUEST_MAX);
    assert_eq!(inspector.inspect(&PREFACE[..10]), Reading::More);
    assert_eq!(inspector.inspect(PREFACE), Reading::Unknown);
    let mut inspector = Inspector::new(Kinds::HTTP2, REQUEST_MAX);
    assert_eq!(inspector.inspect(&PREFACE[..10]), Reading::More);
    let other = format!("PRI * HTTP/1.1\r\n\r\n{}", "x".repeat(9));
    assert_eq!(inspector.inspect(other.as_bytes()), Reading::Unknown);
    // As HTTP/1.1 it is a request whose target has an unknown form, unless it is the asterisk.
    assert_eq!(named(other.as_bytes()), (None, "".into(), None));
}
