//! What real clients send: `openssl s_client` 3.0 and `curl` 7.88 with OpenSSL, rustls 0.23 with a post-quantum key
//! share. The resumed connections were TLS 1.2 and TLS 1.3 with `openssl s_server`.

use ipos_content::{Hello, Inspector, Kinds, REQUEST_MAX, Reading, Request};

const OPENSSL: &[u8] = include_bytes!("clients/openssl.bin");
const NO_SNI: &[u8] = include_bytes!("clients/openssl-no-sni.bin");
/// In two records.
const RECORDS: &[u8] = include_bytes!("clients/openssl-records.bin");
const TICKET: &[u8] = include_bytes!("clients/openssl-resumed-tls1_2.bin");
const PSK: &[u8] = include_bytes!("clients/openssl-resumed-tls1_3.bin");
const CURL: &[u8] = include_bytes!("clients/curl.bin");
const RUSTLS: &[u8] = include_bytes!("clients/rustls.bin");
const HTTP1: &[u8] = include_bytes!("clients/curl-h1.bin");
const HTTP2: &[u8] = include_bytes!("clients/curl-h2.bin");

/// Reads at once, and in pieces of every length; the same must come of it.
fn reading<T>(bytes: &[u8], read: impl Fn(Reading<'_>) -> T) -> T {
    for piece in 1..bytes.len() {
        let mut inspector = Inspector::new(Kinds::all(), REQUEST_MAX);
        let ends = (piece..bytes.len()).step_by(piece).chain([bytes.len()]);
        let mut ends = ends.map(|end| &bytes[..end]);
        let last = ends.find(|start| inspector.inspect(start) != Reading::More);
        let whole = &mut Inspector::new(Kinds::all(), REQUEST_MAX);
        assert_eq!(
            inspector.inspect(last.unwrap()),
            whole.inspect(bytes),
            "{piece}"
        );
    }
    read(Inspector::new(Kinds::all(), REQUEST_MAX).inspect(bytes))
}

fn hello<T>(bytes: &[u8], read: impl Fn(Hello<'_>) -> T) -> T {
    reading(bytes, |reading| match reading {
        Reading::Tls(hello) => read(hello),
        other => panic!("{other:?}"),
    })
}

fn request<T>(bytes: &[u8], read: impl Fn(Request<'_>) -> T) -> T {
    reading(bytes, |reading| match reading {
        Reading::Request(request) => read(request),
        other => panic!("{other:?}"),
    })
}

fn server_name(bytes: &[u8]) -> Option<String> {
    hello(bytes, |hello| {
        hello.server_name.map(|name| name.to_string())
    })
}

#[test]
fn server_names() {
    for (bytes, name) in [
        (OPENSSL, Some("shop.example")),
        (NO_SNI, None),
        (RECORDS, Some("shop.example")),
        (TICKET, Some("shop.example")),
        (PSK, Some("shop.example")),
        (CURL, Some("shop.example")),
        (RUSTLS, Some("shop.example.com")),
    ] {
        assert_eq!(server_name(bytes).as_deref(), name);
    }
}

#[test]
fn application_protocols() {
    assert!(hello(OPENSSL, |hello| hello.alpn.is_empty()));
    assert_eq!(hello(RECORDS, |hello| hello.alpn.len()), 40);
    for bytes in [CURL, RUSTLS] {
        hello(bytes, |hello| {
            assert_eq!(hello.alpn, [&b"h2"[..], b"http/1.1"])
        });
    }
}

#[test]
fn what_a_returning_client_gives_back() {
    // As `openssl sess_id` shows the tickets. A first connection: TLS 1.3 with random bytes, TLS 1.2 without any.
    hello(OPENSSL, |hello| {
        assert_eq!(
            (hello.psk_identity, hello.ticket, hello.session_id.len()),
            (None, None, 32)
        );
        assert!(hello.offers_tls1_3);
        assert_eq!(hello.affinity(), None);
    });
    assert_eq!(
        hello(NO_SNI, |hello| hello.affinity().map(<[u8]>::len)),
        None
    );
    hello(TICKET, |hello| {
        assert!(
            hello
                .ticket
                .is_some_and(|ticket| ticket.starts_with(b"\xC1\x26\xA5\x5C\x62\x0A\xD4\x46"))
        );
        assert_eq!(hello.affinity(), hello.ticket);
    });
    hello(PSK, |hello| {
        assert!(
            hello
                .psk_identity
                .is_some_and(|id| id.starts_with(b"\x16\xE6\x1A\x6C\x34\x87\x18\x9E"))
        );
        assert_eq!(hello.affinity(), hello.psk_identity);
    });
}

#[test]
fn requests() {
    for bytes in [HTTP1, HTTP2] {
        request(bytes, |request| {
            assert_eq!(
                request.host.as_ref().map(|host| host.as_str()),
                Some("shop.example")
            );
            assert_eq!(request.path, b"/img/logo.png");
            assert_eq!(
                request.cookie("IPOSSESSION"),
                Some(&b"0123456789abcdef"[..])
            );
            assert_eq!(request.cookie("a"), Some(&b"1"[..]));
            assert_eq!(request.cookie("b"), None);
        });
    }
}
