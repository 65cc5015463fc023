use alloc::vec;
use alloc::vec::Vec;

use super::*;
use crate::tls::records::FRAGMENT_MAX;
use crate::tls::tests::{extension, records, with_header, with_u16};

const CHANGE_CIPHER_SPEC: &[u8] = &[20, 3, 3, 0, 1, 1];
const CERTIFICATE: u8 = 11;

fn server_hello(version: u8, session_id: &[u8], extensions: &[Vec<u8>]) -> Vec<u8> {
    let mut body = [
        &[3, version],
        &[7; 32][..],
        &[session_id.len() as u8],
        session_id,
    ]
    .concat();
    body.extend([0xC0, 0x2F, 0]);
    if !extensions.is_empty() {
        body.extend(with_u16(&extensions.concat()));
    }
    with_header(SERVER_HELLO, &body)
}

fn ticket(ticket: &[u8]) -> Vec<u8> {
    with_header(
        NEW_SESSION_TICKET,
        &[vec![0, 0, 1, 0], with_u16(ticket)].concat(),
    )
}

/// What is told, and whether the flight is over; the same in pieces of every length.
#[track_caller]
fn told(bytes: &[u8]) -> (Vec<Vec<u8>>, bool) {
    let of = |piece: usize| {
        let mut flight = ServerFlight::new();
        let mut told = Vec::new();
        for piece in bytes.chunks(piece) {
            flight.handle(piece, |id| told.push(id.to_vec()));
        }
        (told, flight.is_over())
    };
    let whole = of(usize::MAX);
    for piece in (1..bytes.len()).take(100) {
        assert_eq!(of(piece), whole, "{piece}");
    }
    whole
}

#[track_caller]
fn assert_told(bytes: &[u8], ids: &[&[u8]], over: bool) {
    let (told, is_over) = told(bytes);
    assert_eq!(told, ids);
    assert_eq!(is_over, over);
}

#[test]
fn session_ids() {
    let renegotiation = extension(0xFF01, &[0]);
    for version in 0..=3 {
        let hello = records(&server_hello(version, b"id", &[]), FRAGMENT_MAX);
        assert_told(&hello, &[b"id"], false);
        assert_told(&[&hello, CHANGE_CIPHER_SPEC].concat(), &[b"id"], true);
    }
    let hello = server_hello(3, &[9; 32], &[renegotiation.clone(), extension(35, &[])]);
    assert_told(&records(&hello, FRAGMENT_MAX), &[&[9; 32]], false);
    let none = server_hello(3, b"", &[renegotiation]);
    assert_told(&records(&none, FRAGMENT_MAX), &[], false);
}

#[test]
fn tls_1_3_only_repeats_what_the_client_has_sent() {
    for selected in [[3, 4], [0x7F, 28], [3, 5]] {
        let extensions = [extension(35, &[]), extension(43, &selected)];
        let hello = records(&server_hello(3, b"id", &extensions), FRAGMENT_MAX);
        assert_told(&hello, &[], true);
        let ticket = records(&ticket(b"ticket"), FRAGMENT_MAX);
        assert_told(&[hello, ticket].concat(), &[], true);
    }
}

#[test]
fn tickets() {
    let certificate = with_header(CERTIFICATE, &[1; 3000]);
    let request = with_header(0, &[]);
    for len in [1, 5, 100, FRAGMENT_MAX] {
        let flight = |id: &[u8], given: &[u8]| {
            let hello = server_hello(3, id, &[extension(35, &[])]);
            let messages = [&request, &hello, &certificate, &ticket(given)[..]].concat();
            let flight = records(&messages, len);
            match flight.len() < REQUEST_MAX {
                true => flight,
                // In records of a few bytes it is too long with a certificate.
                false => records(&[hello, ticket(given)].concat(), len),
            }
        };
        assert_told(&flight(b"", b"ticket"), &[b"ticket"], true);
        assert_told(&flight(b"id", b"ticket"), &[b"id", b"ticket"], true);
        assert_told(&flight(b"id", b""), &[b"id"], true);
        let mut short = flight(b"id", b"ticket");
        short.pop();
        assert_told(&short, &[b"id"], false);
    }
}

#[test]
fn what_ends_a_flight() {
    let hello = server_hello(3, b"id", &[]);
    let good = records(&hello, FRAGMENT_MAX);
    let late = records(&ticket(b"ticket"), FRAGMENT_MAX);
    for end in [
        CHANGE_CIPHER_SPEC,
        // An alert, application data, a heartbeat, another protocol, an empty fragment, one that is too long.
        &[21, 3, 3, 0, 2, 1, 0],
        &[23, 3, 3, 0, 1, 0],
        &[24, 3, 3, 0, 1, 0],
        b"HTTP/1.1 400 ",
        &[22, 3, 3, 0, 0],
        &[22, 3, 3, 0x40, 1],
        &[22, 2, 3, 0, 1],
        // A second ServerHello.
        &good,
    ] {
        assert_told(&[&good, end].concat(), &[b"id"], true);
        assert_told(&[&good, end, &late].concat(), &[b"id"], true);
        // Within a message.
        let cut = records(&ticket(b"ticket")[..9], FRAGMENT_MAX);
        assert_told(&[&good, &cut, end, &late].concat(), &[b"id"], true);
        if end != good {
            assert_told(&[end, &good].concat(), &[], true);
        }
    }
    assert_told(&[], &[], false);
    assert_told(&late, &[], true);
}

#[test]
fn malformed_messages() {
    let altered = |mut message: Vec<u8>, at: usize, byte: u8| {
        message[at] = byte;
        records(&message, FRAGMENT_MAX)
    };
    let hello = || server_hello(3, b"id", &[extension(35, &[])]);
    for bytes in [
        // Another version, a session id that is too long, extensions that are cut or do not end.
        altered(hello(), 4, 2),
        altered(hello(), 5, 4),
        altered(hello(), 38, 33),
        altered(hello(), 38, 32),
        altered(hello(), 45, 9),
        altered(hello(), 49, 9),
    ] {
        assert_told(&bytes, &[], true);
    }
    let short = with_header(NEW_SESSION_TICKET, &[0; 3]);
    for bytes in [
        altered(ticket(b"ticket"), 9, 5),
        altered(ticket(b"ticket"), 9, 7),
        records(&short, FRAGMENT_MAX),
    ] {
        let hello = records(&hello(), FRAGMENT_MAX);
        assert_told(&[hello, bytes].concat(), &[b"id"], true);
    }
}

#[test]
fn flights_are_bounded() {
    let start = records(&server_hello(3, b"id", &[]), FRAGMENT_MAX);
    let header = with_header(CERTIFICATE, &[]).len() + 5;
    let end = records(&ticket(b"ticket"), FRAGMENT_MAX);
    let fits = REQUEST_MAX - start.len() - header - end.len();
    for (len, ids) in [(fits, &[&b"id"[..], b"ticket"][..]), (fits + 1, &[b"id"])] {
        let certificate = records(&with_header(CERTIFICATE, &vec![0; len]), FRAGMENT_MAX);
        assert_told(&[&start, &certificate, &end[..]].concat(), ids, true);
    }
    // It is over as soon as a message says that it is too long.
    let long = records(&[CERTIFICATE, 0, 0x40, 0], FRAGMENT_MAX);
    assert_told(&[&start, &long[..]].concat(), &[b"id"], true);
    // Neither small messages nor the kept one go on for ever.
    let many = records(&with_header(0, &[]).repeat(1000), FRAGMENT_MAX);
    assert_told(&many.repeat(5), &[], true);
}

#[test]
fn only_what_is_told_is_kept() {
    let hello = records(&server_hello(3, b"id", &[]), FRAGMENT_MAX);
    let certificate = records(&with_header(CERTIFICATE, &[0; 8000]), 1000);
    let mut flight = ServerFlight::new();
    flight.handle(&hello, |_| {});
    let kept = |flight: &ServerFlight| flight.records.as_ref().map(Records::capacity);
    let before = kept(&flight);
    assert!(before.is_some_and(|bytes| bytes < 200));
    for bytes in certificate.chunks(700) {
        flight.handle(bytes, |_| {});
        assert_eq!(kept(&flight), before);
    }
    flight.handle(CHANGE_CIPHER_SPEC, |_| {});
    assert_eq!(kept(&flight), None);
}
