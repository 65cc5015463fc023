use alloc::format;
use alloc::string::{String, ToString};

use super::*;
use crate::{HEAD_MAX, PIPELINE_MAX};

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n";
const CLOSE: &str = "GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nworld";

/// Which side sends what; `*` stands where a cookie is to come.
enum Part<'a> {
    /// The client.
    C(&'a str),
    /// The application.
    A(&'a str),
}
use Part::{A, C};

fn cookie() -> SetCookie {
    SetCookie::builder("s", "1").build().unwrap()
}

/// A rewriter that always adds, and what it has passed.
struct Adding {
    rewriter: ResponseRewriter<()>,
    out: Vec<u8>,
}

impl Adding {
    fn new() -> Adding {
        Adding {
            rewriter: ResponseRewriter::new(),
            out: Vec::new(),
        }
    }

    fn client(&mut self, bytes: &str) {
        self.rewriter.handle_request(bytes.as_bytes(), |_| ());
    }

    fn application(&mut self, bytes: &str) {
        let cookie = cookie();
        let insert = |_: &_, (), head: &mut HeadEnd<'_>| head.set_cookie(&cookie);
        self.rewriter
            .handle_response(bytes.as_bytes(), &mut self.out, insert);
    }

    fn finish(mut self) -> String {
        self.rewriter.finish(&mut self.out);
        String::from_utf8(self.out).unwrap()
    }
}

/// Whether cookies come exactly where they are to, however the bytes are cut.
fn check(parts: &[Part<'_>]) {
    for size in [usize::MAX, 1, 7] {
        let mut adding = Adding::new();
        let mut expected = String::new();
        for part in parts {
            let (C(text) | A(text)) = part;
            let plain = text.replace('*', "");
            let pieces = plain.as_bytes().chunks(size);
            for piece in pieces.map(|piece| str::from_utf8(piece).unwrap()) {
                match part {
                    C(_) => adding.client(piece),
                    A(_) => adding.application(piece),
                }
            }
            if let A(text) = part {
                let marked = text
                    .replace("*\r\n", "Set-Cookie: s=1\r\n\r\n")
                    .replace("*\n", "Set-Cookie: s=1\n\n");
                expected.push_str(&marked);
            }
        }
        assert_eq!(adding.finish(), expected, "{size}");
    }
}

#[test]
fn each_kind_of_answer() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n*\r\nworld",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n*\r\n5\r\nworld\r\n0\r\nA: b\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n*\r\n",
        "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n*\r\n",
        "HTTP/1.1 404 \r\nContent-Length: 0\r\n*\r\n",
        "HTTP/1.1 302 Found\r\nLocation: /a\r\nContent-Length: 0\r\n*\r\n",
        "HTTP/1.1 500\r\nContent-Length: 0\r\n*\r\n",
        "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n*\r\nworld",
        "\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n*\r\n",
    ] {
        // Every answer of a connection that is kept open.
        check(&[C(GET), A(answer), C(GET), A(answer)]);
    }
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n*\r\n";
    check(&[
        C(HEAD),
        A(head),
        C(GET),
        A(&format!("{head}world")),
        C(HEAD),
        A(head),
    ]);
}

#[test]
fn the_line_comes_last() {
    check(&[
        C(GET),
        A("HTTP/1.1 200 OK\r\nSet-Cookie: s=0\r\nContent-Length: 0\r\n*\r\n"),
    ]);
    check(&[C(GET), A("HTTP/1.1 204 No Content\r\n*\r\n")]);
}

#[test]
fn line_ends_are_those_of_the_head() {
    check(&[
        C(GET),
        A("HTTP/1.1 200 OK\nContent-Length: 5\n*\nworld"),
        C(GET),
        A("HTTP/1.1 204 \n*\n"),
    ]);
    check(&[C(GET), A("HTTP/1.1 200 OK\r\nContent-Length: 0\n*\r\n")]);
    check(&[C(GET), A("HTTP/1.1 200 OK\nContent-Length: 0\r\n*\n")]);
}

#[test]
fn interim_answers_are_left_alone() {
    let post = "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n*\r\n";
    check(&[
        C(post),
        A(go_on),
        C("hello"),
        A(hints),
        A(answer),
        C(GET),
        A(answer),
    ]);
    check(&[C(GET), A(&format!("{hints}{hints}{answer}"))]);
    // Its framing is in doubt: what follows may be its body.
    check(&[
        C(GET),
        A("HTTP/1.1 103 \r\nContent-Length: 5\r\n\r\n"),
        A(OK),
    ]);
}

#[test]
fn several_requests_at_once() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n*\r\nworld";
    let head = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n*\r\n";
    let three = [GET, HEAD, GET].concat();
    check(&[C(&three), A(&[answer, head, answer].concat())]);
    let most = GET.repeat(PIPELINE_MAX);
    check(&[C(&most), A(&answer.repeat(PIPELINE_MAX)), C(GET), A(answer)]);
    // The answer to the request that is one too many is not known for what it is.
    check(&[C(&most), C(GET), A(&answer.repeat(PIPELINE_MAX)), A(OK)]);
}

#[test]
fn the_last_answer_of_a_connection() {
    let until_close = "HTTP/1.1 200 OK\r\n*\r\nHTTP/1.1 200 OK\r\n\r\n";
    check(&[C(GET), A(until_close), A(OK)]);
    check(&[C(CLOSE), A(until_close)]);
    check(&[
        C(CLOSE),
        A("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n*\r\nworld"),
        A(OK),
    ]);
    check(&[
        C("GET / HTTP/1.0\r\n\r\n"),
        A("HTTP/1.0 200 OK\r\n*\r\nworld"),
        A(OK),
    ]);
    check(&[
        C("GET / HTTP/1.0\r\n\r\n"),
        A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n*\r\n"),
        A(OK),
    ]);
    let closing = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n*\r\n";
    check(&[C(GET), C(GET), A(closing), A(OK)]);
    // Nothing is asked behind a request that closes.
    check(&[
        C(GET),
        C(CLOSE),
        C("what?\r\n\r\n"),
        A("HTTP/1.1 204 \r\n*\r\n"),
        A(closing),
        A(OK),
    ]);
}

#[test]
fn never_at_rest_is_not_lost() {
    let ntlm = "GET / HTTP/1.1\r\nAuthorization: NTLM TlRM\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n*\r\nworld";
    check(&[C(ntlm), A(answer), C(GET), A(answer)]);
    let mut adding = Adding::new();
    adding.client(ntlm);
    assert_eq!(adding.rewriter.opaque(), Some(Opaque::Authenticated));
    adding.application(OK);
    assert!(!adding.rewriter.is_at_rest());
    let mut adding = Adding::new();
    adding.client(GET);
    adding.application(OK);
    assert!(adding.rewriter.is_at_rest());
}

#[test]
fn a_head_is_added_to_where_its_body_is_in_doubt() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n*\r\nworld!",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n*\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n*\r\nworld",
        "HTTP/1.1 204 No Content\r\nContent-Length: 5\r\n*\r\nworld",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n*\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n*\r\n5\r\nworld!!0\r\n\r\n",
    ] {
        check(&[C(GET), C(GET), A(answer), A(OK)]);
    }
}

#[test]
fn requests_in_doubt_are_answered() {
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n*\r\nworld";
    let refusal = "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n";
    check(&[C(GET), C("what?\r\n\r\n"), A(answer), A(refusal)]);
    let doubtful = "POST / HTTP/1.1\r\nTransfer-Encoding: gzip\r\n\r\n";
    check(&[C(doubtful), C(GET), A(answer), A(OK)]);
    let chunked = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nworld";
    check(&[C(chunked), C(GET), A(answer), A(OK)]);
    let early = "POST / HTTP/1.1\r\nContent-Length: 50\r\n\r\nhello";
    check(&[C(early), A(answer), C(GET), A(OK)]);
    // The client may have left the rest out: what looks like it is not a request's end for certain.
    let rest = "x".repeat(45);
    check(&[C(early), A(answer), C(&rest), C(GET), A(OK)]);
}

#[test]
fn nothing_is_asked_behind_a_request_that_closes() {
    let mut rewriter = ResponseRewriter::new();
    let mut asked = 0;
    for request in [GET, CLOSE, GET] {
        rewriter.handle_request(request.as_bytes(), |_| asked += 1);
    }
    assert_eq!(asked, 2);
}

#[test]
fn other_protocols() {
    let upgrade = "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n*\r\nworld";
    check(&[C(upgrade), A(switched), C(GET), A(OK)]);
    check(&[C(upgrade), A(answer), C(GET), A(answer)]);
    let connect = "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n";
    check(&[C(connect), A("HTTP/1.1 200 OK\r\n\r\n"), C(GET), A(OK)]);
    check(&[
        C(connect),
        A("HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n*\r\nworld"),
        A(OK),
    ]);
}

#[test]
fn what_is_not_http_passes() {
    check(&[A("220 ready\r\n\r\n"), C(GET), A(OK)]);
    check(&[A(OK), C(GET), A(OK)]);
    check(&[C("\u{16}\u{3}\u{1}\0\u{5}hello"), A("\u{16}\u{3}\n\n")]);
    check(&[C(GET), A("220 ready\r\n\r\n"), A(OK)]);
    check(&[
        C(GET),
        A("HTTP/1.1 200 OK\r\nA: x\r\n folded\r\n\r\n"),
        A(OK),
    ]);
    check(&[C(GET), A("HTTP/1.1 200 OK\r\nno colon\r\n\r\n"), A(OK)]);
    check(&[
        C(GET),
        A("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n*\r\nmore"),
        C(GET),
        A(OK),
    ]);
}

#[test]
fn ends_within_a_head() {
    for end in 0..OK.len() {
        let answer = &OK[..end];
        match OK.find("\r\n\r\n").is_some_and(|head| end >= head + 4) {
            true => check(&[C(GET), A(&answer.replacen("\r\n\r\n", "\r\n*\r\n", 1))]),
            false => check(&[C(GET), A(answer)]),
        }
    }
    let mut adding = Adding::new();
    adding.client(GET);
    adding.application("HTTP/1.1 200 OK\r\n");
    adding.rewriter.finish(&mut adding.out);
    // Nothing is held twice, and all that comes late passes.
    adding.application(OK);
    assert_eq!(adding.finish(), format!("HTTP/1.1 200 OK\r\n{OK}"));
}

#[test]
fn only_heads_are_held_back() {
    let mut adding = Adding::new();
    adding.client(GET);
    let (head, body) = OK.split_at(OK.len() - 5);
    for byte in head[..head.len() - 1].chars() {
        adding.application(&byte.to_string());
        assert!(adding.out.is_empty());
    }
    adding.application("\n");
    let mut passed = head.len() + cookie().line().len() + 2;
    assert_eq!(adding.out.len(), passed);
    for byte in body.chars() {
        adding.application(&byte.to_string());
        passed += 1;
        assert_eq!(adding.out.len(), passed);
    }
}

#[test]
fn heads_are_bounded() {
    let fixed = "HTTP/1.1 204 OK\r\nA: \r\n\r\n".len();
    let head = |len: usize, mark: &str| {
        format!(
            "HTTP/1.1 204 OK\r\nA: {}\r\n{mark}\r\n",
            "x".repeat(len - fixed)
        )
    };
    check(&[C(GET), A(&head(HEAD_MAX, "*"))]);
    check(&[C(GET), A(&head(HEAD_MAX + 1, "")), C(GET), A(OK)]);
    let mut adding = Adding::new();
    adding.client(GET);
    let long = head(HEAD_MAX + 1, "");
    adding.application(&long[..HEAD_MAX]);
    assert!(adding.out.is_empty());
    adding.application(&long[HEAD_MAX..]);
    assert_eq!(adding.out, long.as_bytes());
    assert_eq!(adding.rewriter.opaque(), Some(Opaque::HeadTooLong));
}

#[test]
fn nothing_is_kept_while_a_body_passes() {
    for head in [
        "HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n",
        "HTTP/1.1 200 OK\r\n\r\n",
    ] {
        let mut adding = Adding::new();
        adding.client(GET);
        adding.application(head);
        adding.out = Vec::with_capacity(1000);
        for _ in 0..100 {
            adding.out.clear();
            adding.application(&"x".repeat(1000));
            assert_eq!(adding.out.len(), 1000);
            assert_eq!(adding.out.capacity(), 1000);
            assert_eq!(adding.rewriter.follower.capacities(), (0, 0));
        }
    }
}

#[test]
fn what_was_noted_comes_with_the_answer() {
    let mut rewriter = ResponseRewriter::new();
    let requests = "GET / HTTP/1.1\r\nCookie: s=a\r\n\r\nHEAD / HTTP/1.1\r\n\r\n\
        GET / HTTP/1.1\r\nCookie: t=x\r\nCookie: u=x; s=c\r\n\r\n";
    let mut heads = Vec::new();
    rewriter.handle_request(requests.as_bytes(), |request| {
        heads.push(request.head().method);
        request.cookie("s").map(<[u8]>::to_vec)
    });
    assert_eq!(
        heads,
        [
            crate::Method::Other,
            crate::Method::Head,
            crate::Method::Other
        ]
    );
    let answers = "HTTP/1.1 103 \r\n\r\nHTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n\
        HTTP/1.1 404 \r\nContent-Length: 9\r\n\r\nHTTP/1.1 204 \r\n\r\n";
    let (mut noted, mut out) = (Vec::new(), Vec::new());
    rewriter.handle_response(answers.as_bytes(), &mut out, |head, note, _| {
        noted.push((head.status, note));
    });
    assert_eq!(out, answers.as_bytes());
    let expected = [
        (200, Some(b"a".to_vec())),
        (404, None),
        (204, Some(b"c".to_vec())),
    ];
    assert_eq!(noted, expected);
}

#[test]
fn several_lines() {
    let mut rewriter = ResponseRewriter::new();
    rewriter.handle_request(GET.as_bytes(), |_| ());
    let mut out = Vec::new();
    rewriter.handle_response(b"HTTP/1.1 204 \r\n\r\n", &mut out, |_, (), head| {
        head.set_cookie(&cookie());
        head.set_cookie(&SetCookie::builder("t", "2").build().unwrap());
    });
    assert_eq!(
        out,
        b"HTTP/1.1 204 \r\nSet-Cookie: s=1\r\nSet-Cookie: t=2\r\n\r\n"
    );
}

/// What becomes of one field; the answer's head is untouched where it is refused.
#[track_caller]
fn check_field(name: &str, value: &str, expected: Result<(), FieldError>) {
    for end in ["\r\n", "\n"] {
        let answer = format!("HTTP/1.1 204 {end}A: b{end}{end}");
        let mut rewriter = ResponseRewriter::new();
        rewriter.handle_request(GET.as_bytes(), |_| ());
        let mut out = Vec::new();
        rewriter.handle_response(answer.as_bytes(), &mut out, |_, (), head| {
            assert_eq!(head.field(name, value), expected, "{name:?} {value:?}");
        });
        let line = match expected {
            Ok(()) => format!("{name}: {value}{end}"),
            Err(_) => String::new(),
        };
        let expected = format!("HTTP/1.1 204 {end}A: b{end}{line}{end}");
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }
}

#[test]
fn other_fields() {
    for (name, value) in [
        ("IPOS-Server", "10.77.0.3:80"),
        ("!#$%&'*+-.^_`|~09azAZ", "a"),
        ("a", ""),
        ("a", "b c\td"),
        ("a", "!\"#$%&'()*+,-./09:;<=>?@AZ[\\]^_`az{|}~"),
        ("Set-Cookie", "s=1; Path=/"),
        ("Content-Lengths", "5"),
    ] {
        check_field(name, value, Ok(()));
    }
}

#[test]
fn fields_that_are_not_added() {
    for name in [
        "", "a b", "a:", " a", "a ", "a\r\n", "a\n", "a\0", "\u{e9}", "a\t", "(a)", "\"a\"",
    ] {
        check_field(name, "b", Err(FieldError::Name));
    }
    for value in [
        "b\r\nc: d",
        "b\nc",
        "b\rc",
        "\r\n",
        "\r\n c",
        "\0",
        "\u{1b}",
        "\u{7f}",
        "\u{e9}",
        " b",
        "b ",
        "\tb",
        "b\t",
        " ",
    ] {
        check_field("a", value, Err(FieldError::Value));
    }
    for name in ["connection", "Content-Length", "TRANSFER-ENCODING"] {
        check_field(name, "5", Err(FieldError::Framing));
    }
}

#[test]
fn fields_and_cookies() {
    let mut rewriter = ResponseRewriter::new();
    rewriter.handle_request(GET.as_bytes(), |_| ());
    let mut out = Vec::new();
    rewriter.handle_response(b"HTTP/1.1 204 \r\n\r\n", &mut out, |_, (), head| {
        assert_eq!(head.field("a", "b"), Ok(()));
        assert_eq!(head.field("a", "\n"), Err(FieldError::Value));
        head.set_cookie(&cookie());
        assert_eq!(head.field("c", "d"), Ok(()));
    });
    assert_eq!(
        out,
        b"HTTP/1.1 204 \r\na: b\r\nSet-Cookie: s=1\r\nc: d\r\n\r\n"
    );
}
