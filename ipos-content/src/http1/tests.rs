use alloc::format;
use alloc::string::String;
use alloc::vec::Vec;

use super::*;
use crate::{Inspector, Kinds, REQUEST_MAX, Reading};

fn inspect<T>(bytes: &[u8], read: impl FnOnce(Reading<'_>) -> T) -> T {
    read(Inspector::new(Kinds::HTTP1, REQUEST_MAX).inspect(bytes))
}

/// Host and path of a head.
fn named(head: &str) -> (Option<String>, String) {
    inspect(head.as_bytes(), |reading| {
        let Reading::Request(request) = reading else {
            panic!("{reading:?} {head:?}");
        };
        let host = request.host.map(|host| host.as_str().into());
        (host, String::from_utf8(request.path.into()).unwrap())
    })
}

fn host_of(fields: &str) -> Option<String> {
    named(&format!("GET / HTTP/1.1\r\n{fields}\r\n")).0
}

fn cookie_of(fields: &str) -> Option<Vec<u8>> {
    let head = format!("GET / HTTP/1.1\r\n{fields}\r\n");
    inspect(head.as_bytes(), |reading| match reading {
        Reading::Request(request) => request.cookie("IPOSSESSION").map(Vec::from),
        other => panic!("{other:?}"),
    })
}

#[track_caller]
fn assert_reads(bytes: impl AsRef<[u8]>, expected: &Reading<'_>) {
    let bytes = bytes.as_ref();
    inspect(bytes, |reading| {
        assert_eq!(&reading, expected, "{:?}", String::from_utf8_lossy(bytes));
    });
}

#[test]
fn hosts() {
    for (fields, host) in [
        ("Host: a.example\r\n", Some("a.example")),
        ("hOST:A.example.:80 \r\n", Some("a.example")),
        ("Host: [2001:DB8::1]:80\r\n", Some("[2001:db8::1]")),
        ("X-Host: a\r\n", None),
        ("Host:\r\n", None),
        ("Host: a, b\r\n", None),
        ("Host: a\r\nHost: a\r\n", None),
        ("Host: a\r\nhost: b\r\n", None),
    ] {
        assert_eq!(host_of(fields).as_deref(), host, "{fields:?}");
    }
}

#[test]
fn an_authority_in_the_target_counts() {
    for (head, host, path) in [
        (
            "GET http://A.example:81/b?c HTTP/1.1\r\nHost: x\r\n\r\n",
            Some("a.example"),
            "/b",
        ),
        ("GET http://a HTTP/1.0\r\n\r\n", Some("a"), "/"),
        ("GET http://u@a/ HTTP/1.1\r\nHost: x\r\n\r\n", None, "/"),
        ("GET http:///b HTTP/1.1\r\nHost: x\r\n\r\n", None, "/b"),
        (
            "GET http://a/ HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
            None,
            "/",
        ),
        ("CONNECT a:443 HTTP/1.1\r\nHost: x\r\n\r\n", Some("a"), ""),
        ("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", Some("x"), ""),
    ] {
        assert_eq!(
            named(head),
            (host.map(String::from), path.into()),
            "{head:?}"
        );
    }
}

#[test]
fn cookies() {
    for (fields, value) in [
        ("Cookie: IPOSSESSION=7\r\n", Some("7")),
        ("cookie:  a=b;IPOSSESSION=\"7 8\" ; c=d\r\n", Some("7 8")),
        (
            "Cookie: a=b\r\nX: y\r\nCookie: IPOSSESSION=7; IPOSSESSION=8\r\nCookie: IPOSSESSION=9\r\n",
            Some("7"),
        ),
        ("Cookie: IPOSSESSION=\r\n", Some("")),
        (
            "Cookie: IPOSSESSION; =IPOSSESSION; xIPOSSESSION=7; ;;\r\n",
            None,
        ),
        ("Cookie:\r\n", None),
        ("Set-Cookie: IPOSSESSION=7\r\n", None),
        ("", None),
    ] {
        assert_eq!(
            cookie_of(fields).as_deref(),
            value.map(str::as_bytes),
            "{fields:?}"
        );
    }
}

#[test]
fn line_ends() {
    for head in [
        "GET /a HTTP/1.1\nHost: a\n\n",
        "\r\nGET /a HTTP/1.1\r\nHost: a\r\n\r\n",
        "\n\r\n\nGET /a HTTP/1.0\r\nHost: a\n\r\n",
    ] {
        assert_eq!(named(head), (Some("a".into()), "/a".into()), "{head:?}");
    }
}

#[test]
fn what_follows_the_head_is_not_looked_at() {
    for rest in [
        "GET /b HTTP/1.1\r\nHost: b\r\n\r\n",
        "\r\n",
        "\0",
        "3\r\nabc\r\n0\r\n\r\n",
    ] {
        let head = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(
            named(&format!("{head}{rest}")),
            (Some("a".into()), "/a".into())
        );
    }
}

#[test]
fn more_is_needed() {
    let head = "\r\n\nGET /a?b HTTP/1.1\r\nHost: a\r\nCookie: a=b\r\n\r\n";
    for end in 0..head.len() {
        assert_reads(&head[..end], &Reading::More);
    }
}

#[test]
fn other_protocols_are_told_at_once() {
    for start in [
        "SSH-2.0-OpenSSH_9.6\r",
        "*1\r",
        "EHLO a.example\r\n",
        "GET /\r\n",
        "GET / HTTP/2.0\r\n",
        "GET / HTTP/1.1 \r\n",
        "GET / /a HTTP/1.1\r\n",
        "\0",
        "\r\r",
        "{\"a\"",
        "PRI * HTTP/2.0\r\n",
    ] {
        assert_reads(start, &Reading::Unknown);
    }
    assert_reads("A".repeat(METHOD_MAX), &Reading::More);
    assert_reads("A".repeat(METHOD_MAX + 1), &Reading::Unknown);
    assert_reads(
        "A".repeat(METHOD_MAX + 1) + " / HTTP/1.1\r\n\r\n",
        &Reading::Unknown,
    );
}

#[test]
fn malformed_heads() {
    for head in [
        "GET / HTTP/1.1\r\nHost: a\r\n folded\r\n\r\n",
        "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\r\n\n",
        "GET a HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_reads(head, &Reading::Unknown);
    }
    let fields = |count| format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(count));
    assert_eq!(named(&fields(FIELDS_MAX)), (None, "/".into()));
    assert_reads(fields(FIELDS_MAX + 1), &Reading::Unknown);
}

#[test]
fn heads_up_to_the_limit() {
    let head = |len: usize| {
        let start = "GET / HTTP/1.1\r\nA: ";
        format!("{start}{}\r\n\r\n", "x".repeat(len - start.len() - 4))
    };
    assert_eq!(named(&head(REQUEST_MAX)), (None, "/".into()));
    assert_reads(head(REQUEST_MAX + 1), &Reading::Unknown);
    assert_reads(&head(REQUEST_MAX)[..REQUEST_MAX - 1], &Reading::More);
    assert_reads(
        String::from("GET /") + &"x".repeat(REQUEST_MAX),
        &Reading::Unknown,
    );
}
