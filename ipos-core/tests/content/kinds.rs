//! What is not HTTP/1.x: TLS, and HTTP/2 with prior knowledge.

use super::common::talk::*;
use super::{ask, assert_received, farm, farm_with, server, server_for, tell};

/// A ClientHello as long as one with a post-quantum key share, in records of this length.
fn client_hello(name: Option<&str>, session: &[u8], record: usize) -> Vec<u8> {
    let with_len = |data: &[u8]| [&(data.len() as u16).to_be_bytes()[..], data].concat();
    let extension = |kind: u16, data: &[u8]| [&kind.to_be_bytes()[..], &with_len(data)].concat();
    let sni = |name: &str| {
        let entry = [&[0][..], &with_len(name.as_bytes())].concat();
        extension(0, &with_len(&entry))
    };
    let key_share = extension(51, &with_len(&[0x11; 1_220]));
    let extensions = [
        extension(0x1a1a, &[]),
        key_share,
        name.map(sni).unwrap_or_default(),
    ];
    let body = [
        &[3, 3][..],
        &[7; 32],
        &[session.len() as u8],
        session,
        &with_len(&[0x1a, 0x1a, 0x13, 1]),
        &[1, 0],
        &with_len(&extensions.concat()),
    ]
    .concat();
    let message = [&[1][..], &(body.len() as u32).to_be_bytes()[1..], &body].concat();
    let records = message.chunks(record);
    let records = records.map(|part| [&[22, 3, 1][..], &with_len(part)].concat());
    records.collect::<Vec<_>>().concat()
}

#[test]
fn a_client_hello_in_many_segments_and_records_is_selected_by_its_name() {
    let mut farm = farm();
    for (name, servers) in [
        (Some("Shop.Example"), &[2][..]),
        (Some("a.img.example"), &[1, 3]),
        (Some("img.example"), &[0]),
        (Some("other.example"), &[0]),
        (None, &[0]),
    ] {
        for record in [1 << 14, 700] {
            let hello = client_hello(name, &[9; 32], record);
            for segment in [1_400, 517, 100] {
                let client = ask(&mut farm, hello.chunks(segment));
                let at = assert_received(&mut farm, &client, &hello);
                assert!(servers.contains(&at), "{name:?}: {at}");
            }
        }
    }
}

#[test]
fn a_client_that_resumes_a_session_comes_before_the_ssl_map() {
    let mut farm = farm_with(|config| config.content.ssl_affinity = true);
    // In records as clients send them.
    let hello = |session: &[u8]| client_hello(Some("a.img.example"), session, 1 << 14);
    let client = ask(&mut farm, [&client_hello(None, &[], 1 << 14)[..]]);
    let bound = farm.bound();
    assert_eq!(bound.0, 0);
    let session = [5; 32];
    assert!([1, 3].contains(&server_for(&mut farm, &hello(&session))));
    // TLS 1.2: the server tells the session's id.
    let server_hello = [
        &[22, 3, 3, 0, 74, 2, 0, 0, 70, 3, 3][..],
        &[8; 32],
        &[32],
        &session,
        &[0xc0, 0x2f, 0],
    ]
    .concat();
    farm.read(bound);
    farm.take(&client);
    farm.write(bound, &server_hello);
    assert_eq!(payload(&farm.take(&client)), server_hello, "unchanged");
    farm.run(ms(5));
    for _ in 0..3 {
        assert_eq!(server_for(&mut farm, &hello(&session)), 0);
    }
    assert!([1, 3].contains(&server_for(&mut farm, &hello(&[6; 32]))));
}

/// What a client with prior knowledge of HTTP/2 begins with.
fn http2(authority: &str, path: &str) -> Vec<u8> {
    let frame = |kind: u8, flags: u8, stream: u8, payload: &[u8]| {
        let head = [0, 0, payload.len() as u8, kind, flags, 0, 0, 0, stream];
        [&head, payload].concat()
    };
    // GET, http; literals with the names of :authority and :path (RFC 7541 Appendix A).
    let text = |name: u8, value: &str| [&[name, value.len() as u8], value.as_bytes()].concat();
    let block = [&[0x82, 0x86][..], &text(0x41, authority), &text(0x04, path)].concat();
    [
        &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..],
        &frame(4, 0, 0, &[0, 3, 0, 0, 0, 100]),
        &frame(8, 0, 0, &[0, 1, 0, 0]),
        &frame(1, 5, 1, &block),
    ]
    .concat()
}

#[test]
fn http2_with_prior_knowledge_is_selected_by_its_first_request() {
    let mut farm = farm();
    for (authority, path, at) in [
        ("shop.example", "/", 2),
        ("shop.example:80", "/cart/x", 3),
        ("a", "/img/x?y", 1),
        ("a", "/", 0),
    ] {
        let bytes = http2(authority, path);
        for len in [1, 9, 24, bytes.len()] {
            let client = ask(&mut farm, bytes.chunks(len));
            let found = assert_received(&mut farm, &client, &bytes);
            assert_eq!(found, at, "{authority} {path} {len}");
        }
    }
}

/// Clients that wait for the server's SETTINGS before they ask, as gRPC's do, are not held up for what cannot come.
#[test]
fn an_http2_client_that_waits_for_settings_is_served_soon() {
    let mut farm = farm();
    let bytes = http2("shop.example", "/");
    let settings = 24 + 9 + 6;
    let window_update = settings + 9 + 4;
    for len in [settings, window_update] {
        let (start, rest) = bytes.split_at(len);
        let mut client = ask(&mut farm, [start]);
        farm.run(ms(50));
        assert_eq!(server(&mut farm, &client), None, "a request may follow");
        let mut late = ask(&mut farm, [start]);
        farm.run(ms(50));
        assert_eq!(server(&mut farm, &client), Some(0));
        tell(&mut farm, &mut client, [rest]);
        assert_received(&mut farm, &client, &bytes);
        tell(&mut farm, &mut late, [rest]);
        assert_eq!(assert_received(&mut farm, &late, &bytes), 2);
    }
    // Within a frame the rest of it is to come.
    let client = ask(&mut farm, [&bytes[..window_update + 3]]);
    farm.run(ms(1_000));
    assert_eq!(server(&mut farm, &client), None);
}
