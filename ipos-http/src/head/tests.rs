use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::*;

/// A request's head with these fields.
fn request(fields: &[&str]) -> Result<RequestHead, Opaque> {
    RequestHead::parse(head("GET / HTTP/1.1", fields).as_bytes())
}

fn head(first: &str, fields: &[&str]) -> String {
    let lines: Vec<_> = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("{first}\r\n{}\r\n", lines.concat())
}

fn framing_of(fields: &[&str]) -> Framing {
    request(fields).unwrap().framing
}

#[test]
fn framing_fields() {
    assert_eq!(framing_of(&[]), Framing::Absent);
    assert_eq!(framing_of(&["content-LENGTH:  17 "]), Framing::Length(17));
    assert_eq!(
        framing_of(&["Content-Length: 18446744073709551615"]),
        Framing::Length(u64::MAX)
    );
    assert_eq!(
        framing_of(&["Transfer-encoding: Chunked"]),
        Framing::Chunked
    );
}

#[test]
fn framing_in_doubt() {
    for fields in [
        &["Content-Length: 5", "Transfer-Encoding: chunked"][..],
        &["Content-Length: 5", "Content-Length: 5"],
        &["Content-Length: 5, 5"],
        &["Content-Length: +5"],
        &["Content-Length: -5"],
        &["Content-Length: 0x5"],
        &["Content-Length: 5 5"],
        &["Content-Length:"],
        &["Content-Length: 18446744073709551616"],
        &["Content-Length: \u{665}"],
        &["Transfer-Encoding: gzip, chunked"],
        &["Transfer-Encoding: chunked, chunked"],
        &["Transfer-Encoding: chunked", "Transfer-Encoding: chunked"],
        &["Transfer-Encoding: identity"],
        &["Transfer-Encoding:"],
    ] {
        assert_eq!(framing_of(fields), Framing::Doubtful, "{fields:?}");
    }
}

#[test]
fn connection_options() {
    for (fields, close, keep_alive) in [
        (&[][..], false, false),
        (&["Connection: close"], true, false),
        (&["connection: Keep-Alive"], false, true),
        (&["Connection: upgrade,CLOSE , keep-alive"], true, true),
        (
            &["Connection: keep-alive", "Connection: x, close"],
            true,
            true,
        ),
        (&["Connection: closed"], false, false),
        (&["X-Connection: close"], false, false),
    ] {
        let connection = request(fields).unwrap().connection;
        assert_eq!(connection, Connection { close, keep_alive }, "{fields:?}");
    }
}

#[test]
fn methods() {
    let parse = |method| {
        let head = head(&format!("{method} /a HTTP/1.1"), &[]);
        RequestHead::parse(head.as_bytes()).map(|head| head.method)
    };
    assert_eq!(parse("GET"), Ok(Method::Other));
    assert_eq!(parse("PROPFIND"), Ok(Method::Other));
    assert_eq!(parse("HEAD"), Ok(Method::Head));
    assert_eq!(parse("CONNECT"), Ok(Method::Connect));
    for doubtful in ["head", "Head", "connect"] {
        assert_eq!(parse(doubtful), Err(Opaque::Malformed));
    }
}

#[test]
fn credentials_of_the_connection() {
    for (field, bound) in [
        ("Authorization: Negotiate YII=", true),
        ("authorization: ntlm TlRM", true),
        ("Proxy-Authorization: NTLM TlRM", true),
        ("Authorization: Basic TlRM", false),
        ("Authorization: Bearer negotiate", false),
        ("Authorization:", false),
    ] {
        assert_eq!(
            request(&[field]).unwrap().authenticates_connection,
            bound,
            "{field}"
        );
    }
}

#[test]
fn who_lets_the_connection_go_on() {
    let request = |version: &str, field: &str| {
        let head = head(&format!("GET / HTTP/{version}"), &[field]);
        RequestHead::parse(head.as_bytes()).unwrap().persists()
    };
    assert!(request("1.1", "Host: x"));
    assert!(!request("1.1", "Connection: close"));
    assert!(!request("1.0", "Host: x"));
    assert!(request("1.0", "Connection: keep-alive"));
    let response = |version: &str, field: &str, asked| {
        let head = head(&format!("HTTP/{version} 200 OK"), &[field]);
        ResponseHead::parse(head.as_bytes())
            .unwrap()
            .persists(asked)
    };
    assert!(response("1.1", "Server: x", Version::Http11));
    assert!(!response("1.1", "Connection: close", Version::Http11));
    assert!(!response("1.1", "Server: x", Version::Http10));
    assert!(response("1.1", "Connection: keep-alive", Version::Http10));
    assert!(!response("1.0", "Server: x", Version::Http11));
    assert!(response("1.0", "Connection: keep-alive", Version::Http11));
    assert!(!response(
        "1.0",
        "Connection: keep-alive, close",
        Version::Http10
    ));
}

#[test]
fn what_is_no_head() {
    for head in [
        "GET /\r\n\r\n",
        "GET / HTTP/2.0\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\n",
        "GET / HTTP/1.1\r\nNo colon\r\n\r\n",
        "GET / HTTP/1.1\r\nSpace : x\r\n\r\n",
        "GET / HTTP/1.1\r\nA: x\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nA: \0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\n\r\n",
        "GET / HTTP/1.1\r\nA: x\r\n",
        "\u{16}\u{3}\u{1}",
        "",
    ] {
        assert_eq!(
            RequestHead::parse(head.as_bytes()),
            Err(Opaque::Malformed),
            "{head:?}"
        );
    }
    for head in [
        "HTTP/1.1 20 OK\r\n\r\n",
        "HTTP/1.1 abc OK\r\n\r\n",
        "HTTP/1.2 200 OK\r\n\r\n",
        "220 smtp.example ESMTP\r\n\r\n",
    ] {
        assert_eq!(
            ResponseHead::parse(head.as_bytes()),
            Err(Opaque::Malformed),
            "{head:?}"
        );
    }
    let many = alloc::vec!["A: x"; FIELDS_MAX + 1];
    assert_eq!(
        request(&many[1..]).map(|head| head.framing),
        Ok(Framing::Absent)
    );
    assert_eq!(request(&many), Err(Opaque::HeadTooLong));
}

#[test]
fn cookies_are_sent_below_their_path() {
    let below = |target: &str, path| {
        let head = format!("GET {target} HTTP/1.1\r\nHost: a\r\n\r\n");
        Request::read(head.as_bytes(), |request| request.is_below(path)).unwrap()
    };
    for (target, path, expected) in [
        ("/", "/", true),
        ("/app", "/app", true),
        ("/app/x?y=/z", "/app", true),
        ("/app/x", "/app/", true),
        ("/app?x", "/app", true),
        ("/application", "/app", false),
        ("/other", "/app", false),
        ("http://a/app/x", "/app", true),
        ("http://a", "/", true),
        ("/x://a/app", "/app", false),
    ] {
        assert_eq!(below(target, path), expected, "{target} below {path}");
    }
}
