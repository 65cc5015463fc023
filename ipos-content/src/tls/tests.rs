use alloc::string::ToString;
use alloc::vec;
use core::slice;

use super::records::{FRAGMENT_MAX, MESSAGE_HEADER};
use super::*;
use crate::{Inspector, Kinds, REQUEST_MAX, Reading};

pub(super) fn with_u16(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u16).to_be_bytes()[..], bytes].concat()
}

pub(super) fn extension(kind: u16, data: &[u8]) -> Vec<u8> {
    [&kind.to_be_bytes()[..], &with_u16(data)].concat()
}

fn names(names: &[(u8, &str)]) -> Vec<u8> {
    let names = names
        .iter()
        .map(|(kind, name)| [&[*kind], &*with_u16(name.as_bytes())].concat());
    extension(0, &with_u16(&names.collect::<Vec<_>>().concat()))
}

/// A message with its header.
fn message(session_id: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
    let extensions = with_u16(&extensions.concat());
    let session_id = [&[session_id.len() as u8], session_id].concat();
    let body = [
        &[3, 3],
        &[7; 32][..],
        &session_id,
        &[0, 4, 0x0A, 0x0A, 0x13, 1, 1, 0],
        &extensions,
    ]
    .concat();
    with_header(CLIENT_HELLO, &body)
}

pub(super) fn with_header(kind: u8, body: &[u8]) -> Vec<u8> {
    [&[kind], &(body.len() as u32).to_be_bytes()[1..], body].concat()
}

pub(super) fn records(message: &[u8], len: usize) -> Vec<u8> {
    let records = message
        .chunks(len)
        .map(|part| [&[HANDSHAKE, 3, 1][..], &with_u16(part)].concat());
    records.collect::<Vec<_>>().concat()
}

fn inspect<T>(bytes: &[u8], read: impl FnOnce(Reading<'_>) -> T) -> T {
    read(Inspector::new(Kinds::all(), REQUEST_MAX).inspect(bytes))
}

fn hello<T>(message: &[u8], read: impl FnOnce(Hello<'_>) -> T) -> T {
    inspect(&records(message, FRAGMENT_MAX), |reading| match reading {
        Reading::Tls(hello) => read(hello),
        other => panic!("{other:?}"),
    })
}

#[track_caller]
fn assert_reads(bytes: &[u8], expected: &Reading<'_>) {
    inspect(bytes, |reading| assert_eq!(&reading, expected));
}

#[track_caller]
fn assert_unknown(extensions: &[Vec<u8>]) {
    assert_reads(
        &records(&message(&[], extensions), FRAGMENT_MAX),
        &Reading::Unknown,
    );
}

#[test]
fn server_names() {
    for (extensions, name) in [
        (&[names(&[(0, "Shop.Example")])][..], Some("shop.example")),
        (&[names(&[(0, "shop.example.")])], Some("shop.example")),
        (
            &[names(&[(1, "other"), (0, "shop.example")])],
            Some("shop.example"),
        ),
        (&[names(&[(0, "a"), (0, "b")])], None),
        (&[names(&[(0, "a b")])], None),
        (&[names(&[(0, "a:443")])], None),
        (&[names(&[])], None),
        (&[], None),
        // GREASE before and behind, an unknown extension, and ECH: the outer name is what is seen.
        (
            &[
                extension(0x0A0A, &[]),
                extension(0xFE0D, b"\0ech"),
                extension(0x1234, b"x"),
                names(&[(0, "a")]),
                extension(0xFAFA, &[0]),
            ],
            Some("a"),
        ),
        // Malformed where nothing is read.
        (&[extension(10, &[1]), names(&[(0, "a")])], Some("a")),
    ] {
        let found = hello(&message(&[], extensions), |hello| {
            hello.server_name.map(|name| name.to_string())
        });
        assert_eq!(found.as_deref(), name, "{extensions:?}");
    }
}

#[test]
fn affinity() {
    let psk = extension(
        41,
        &[
            with_u16(
                &[
                    with_u16(b"first"),
                    vec![0; 4],
                    with_u16(b"second"),
                    vec![0; 4],
                ]
                .concat(),
            ),
            with_u16(&[32; 33]),
        ]
        .concat(),
    );
    let ticket = extension(35, b"ticket");
    let empty = extension(35, &[]);
    for (session_id, extensions, affinity) in [
        (&[][..], &[][..], None),
        (b"id", &[], Some(&b"id"[..])),
        (b"id", slice::from_ref(&empty), Some(b"id")),
        (b"id", slice::from_ref(&ticket), Some(b"ticket")),
        (b"id", &[ticket.clone(), psk], Some(b"first")),
    ] {
        hello(&message(session_id, extensions), |hello| {
            assert_eq!(hello.affinity(), affinity);
            assert_eq!(hello.session_id, session_id);
        });
    }
}

#[test]
fn a_session_id_does_not_count_where_tls_1_3_is_offered() {
    let versions = |list: &[u8]| extension(43, &[&[list.len() as u8], list].concat());
    let new = versions(&[0x7A, 0x7A, 3, 4, 3, 3]);
    let old = versions(&[0x7A, 0x7A, 3, 3, 4, 3]);
    let ticket = extension(35, b"ticket");
    let empty = extension(35, &[]);
    let identity = [with_u16(b"first"), vec![0; 4]].concat();
    let psk = extension(41, &[with_u16(&identity), with_u16(&[32; 33])].concat());
    for (extensions, offers, affinity) in [
        (&[new.clone()][..], true, None),
        (&[new.clone(), empty], true, None),
        (&[new.clone(), ticket], true, Some(&b"ticket"[..])),
        (&[new, psk], true, Some(b"first")),
        (&[old], false, Some(b"id")),
    ] {
        hello(&message(b"id", extensions), |hello| {
            assert_eq!(hello.offers_tls1_3, offers, "{extensions:?}");
            assert_eq!(hello.affinity(), affinity, "{extensions:?}");
            assert_eq!(hello.session_id, b"id");
        });
    }
}

#[test]
fn all_that_is_read_at_once() {
    let identity = [with_u16(b"psk"), vec![0; 4]].concat();
    let extensions = [
        names(&[(0, "a")]),
        extension(16, &with_u16(b"\x02h2")),
        extension(35, b"ticket"),
        extension(43, &[2, 3, 4]),
        extension(41, &[with_u16(&identity), with_u16(&[32; 33])].concat()),
    ];
    let expected = Hello {
        server_name: HostName::new(b"a"),
        session_id: b"id",
        ticket: Some(b"ticket"),
        psk_identity: Some(b"psk"),
        offers_tls1_3: true,
        alpn: vec![b"h2"],
    };
    hello(&message(b"id", &extensions), |hello| {
        assert_eq!(hello, expected)
    });
}

#[test]
fn application_protocols() {
    let alpn = extension(16, &with_u16(b"\x02\x0A\x0A\x02h2\x08http/1.1"));
    hello(&message(&[], &[alpn]), |hello| {
        assert_eq!(hello.alpn, [&b"\x0A\x0A"[..], b"h2", b"http/1.1"])
    });
}

#[test]
fn malformed_extensions() {
    assert_unknown(&[names(&[(0, "a")]), names(&[(0, "a")])]);
    assert_unknown(&[extension(35, b"a"), extension(35, b"b")]);
    assert_unknown(&[extension(0, &[0, 9, 0])]);
    assert_unknown(&[extension(41, &[])]);
    assert_unknown(&[extension(41, &with_u16(&[0, 9, 1]))]);
    assert_unknown(&[extension(16, &[0, 3, 2])]);
    assert_unknown(&[extension(43, &[])]);
    assert_unknown(&[extension(43, &[4, 3, 4])]);
    assert_unknown(&[extension(43, &[3, 3, 4, 3])]);
    assert_unknown(&[extension(43, &[2, 3, 4]), extension(43, &[2, 3, 4])]);
    assert_unknown(&[vec![0, 0]]);
    assert_unknown(&[vec![0, 0, 0, 9, 0]]);
}

#[test]
fn a_message_in_many_records() {
    let message = message(
        b"id",
        &[names(&[(0, "shop.example")]), extension(21, &[0; 1500])],
    );
    let one = records(&message, FRAGMENT_MAX);
    let mut inspector = Inspector::new(Kinds::all(), REQUEST_MAX);
    let whole = inspector.inspect(&one);
    assert!(matches!(whole, Reading::Tls(_)));
    for len in 1..message.len() {
        let bytes = records(&message, len);
        assert!(bytes.len() < REQUEST_MAX);
        assert_reads(&bytes, &whole);
        assert_reads(&bytes[..bytes.len() - 1], &Reading::More);
        // Early data, or another message in the same record.
        assert_reads(&[&bytes[..], &[23, 3, 3, 0, 1, 0]].concat(), &whole);
    }
    let two = [&message[..], &message].concat();
    assert_reads(&records(&two, FRAGMENT_MAX), &whole);
}

#[test]
fn more_is_needed() {
    let bytes = records(&message(b"id", &[names(&[(0, "a")])]), 20);
    for end in 0..bytes.len() {
        assert_reads(&bytes[..end], &Reading::More);
    }
}

#[test]
fn what_is_no_client_hello() {
    let good = message(&[], &[names(&[(0, "a")])]);
    let altered = |at: usize, byte: u8| {
        let mut message = good.clone();
        message[at] = byte;
        records(&message, FRAGMENT_MAX)
    };
    let alert = [&records(&good[..9], 9)[..], &[21, 3, 1, 0, 2, 2, 0]].concat();
    for bytes in [
        // SSLv2, a ServerHello, a session id that is too long, no extensions where there should be.
        [0x80, 0x2E, 1, 0, 2].to_vec(),
        altered(0, 2),
        altered(MESSAGE_HEADER + 34, 33),
        altered(3, good[3] - 2),
        alert,
        // A header that is no TLS record's, an empty fragment, one that is too long.
        [HANDSHAKE, 2, 0, 0, 5].to_vec(),
        [HANDSHAKE, 3, 1, 0, 0].to_vec(),
        [HANDSHAKE, 3, 1, 0x40, 1].to_vec(),
        // Longer than the limit.
        [HANDSHAKE, 3, 1, 0x40, 0, CLIENT_HELLO, 0, 0x40, 0].to_vec(),
    ] {
        assert_reads(&bytes, &Reading::Unknown);
    }
    // Without extensions it is one of an old client.
    let mut old = good[..MESSAGE_HEADER + 35 + 8].to_vec();
    old[3] = 35 + 8;
    assert_eq!(hello(&old, |hello| hello.server_name), None);
}

#[test]
fn without_tls_nothing_is_waited_for() {
    let mut inspector = Inspector::new(Kinds::HTTP1 | Kinds::HTTP2, REQUEST_MAX);
    assert_eq!(inspector.inspect(&[HANDSHAKE]), Reading::Unknown);
    let mut inspector = Inspector::new(Kinds::TLS, REQUEST_MAX);
    assert_eq!(inspector.inspect(b"G"), Reading::Unknown);
}
