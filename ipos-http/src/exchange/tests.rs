use alloc::format;
use alloc::string::String;

use super::*;
use crate::{HEAD_MAX, PIPELINE_MAX};

const GET: &str = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
const HEAD: &str = "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n";
const POST: &str = "POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello";
const OLD: &str = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nworld";
const EMPTY: &str = "HTTP/1.1 204 No Content\r\n\r\n";

/// Which side sends what.
enum Part<'a> {
    /// The client.
    C(&'a str),
    /// The application.
    A(&'a str),
}
use Part::{A, C};

/// What becomes of an exchange: at rest or not, or why it is opaque. The same however it is cut.
fn follow(parts: &[Part<'_>]) -> Result<bool, Opaque> {
    let [whole, bytes] = [usize::MAX, 1].map(|size| {
        let mut exchange = Exchange::new();
        for part in parts {
            match part {
                C(text) => (text.as_bytes().chunks(size)).for_each(|b| exchange.handle_request(b)),
                A(text) => (text.as_bytes().chunks(size)).for_each(|b| exchange.handle_response(b)),
            }
        }
        match exchange.opaque() {
            Some(why) => {
                assert!(!exchange.is_at_rest());
                Err(why)
            }
            None => Ok(exchange.is_at_rest()),
        }
    });
    assert_eq!(whole, bytes);
    whole
}

const AT_REST: Result<bool, Opaque> = Ok(true);
const UNDER_WAY: Result<bool, Opaque> = Ok(false);

#[test]
fn at_rest_behind_each_complete_answer_only() {
    assert_eq!(follow(&[]), UNDER_WAY);
    for end in 1..GET.len() {
        assert_eq!(follow(&[C(&GET[..end])]), UNDER_WAY);
        assert_eq!(follow(&[C(GET), A(OK), C(&GET[..end])]), UNDER_WAY);
    }
    for end in 0..OK.len() {
        assert_eq!(follow(&[C(GET), A(&OK[..end])]), UNDER_WAY);
        assert_eq!(follow(&[C(GET), A(OK), C(GET), A(&OK[..end])]), UNDER_WAY);
    }
    assert_eq!(follow(&[C(GET), A(OK)]), AT_REST);
    assert_eq!(follow(&[C(GET), A(OK), C(POST), A(EMPTY)]), AT_REST);
}

#[test]
fn bodies_of_requests() {
    assert_eq!(follow(&[C(POST), A(OK)]), AT_REST);
    let chunked =
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nT: x\r\n\r\n";
    assert_eq!(follow(&[C(chunked), A(OK)]), AT_REST);
    let old = "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n";
    assert_eq!(follow(&[C(old)]), Err(Opaque::Framing));
}

#[test]
fn bodies_of_answers() {
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    assert_eq!(follow(&[C(GET), A(chunked)]), AT_REST);
    assert_eq!(
        follow(&[C(GET), A(&chunked[..chunked.len() - 2])]),
        UNDER_WAY
    );
    let not_modified = "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(follow(&[C(GET), A(not_modified)]), AT_REST);
    let until_close = "HTTP/1.1 200 OK\r\n\r\n";
    assert_eq!(follow(&[C(GET), A(until_close)]), Err(Opaque::Closes));
    assert_eq!(follow(&[C(GET), A(EMPTY)]), AT_REST);
}

#[test]
fn an_answer_to_head_has_no_body() {
    let head = &OK[..OK.len() - 5];
    assert_eq!(follow(&[C(HEAD), A(head)]), AT_REST);
    assert_eq!(follow(&[C(HEAD), A(OK)]), Err(Opaque::Unsolicited));
    assert_eq!(follow(&[C(HEAD), C(GET), A(head), A(OK)]), AT_REST);
    assert_eq!(follow(&[C(GET), C(HEAD), A(OK), A(head)]), AT_REST);
    assert_eq!(follow(&[C(HEAD), A("HTTP/1.1 200 OK\r\n\r\n")]), AT_REST);
}

#[test]
fn several_requests_at_once() {
    let two = format!("{GET}{POST}");
    assert_eq!(follow(&[C(&two)]), UNDER_WAY);
    assert_eq!(follow(&[C(&two), A(OK)]), UNDER_WAY);
    assert_eq!(follow(&[C(&two), A(&format!("{OK}{EMPTY}"))]), AT_REST);
    // The first answer comes while the second request is on its way.
    let cut = GET.len() + 10;
    assert_eq!(follow(&[C(&two[..cut]), A(OK)]), UNDER_WAY);
    assert_eq!(
        follow(&[C(&two[..cut]), A(OK), C(&two[cut..]), A(OK)]),
        AT_REST
    );
    let most = GET.repeat(PIPELINE_MAX);
    assert_eq!(follow(&[C(&most), A(&OK.repeat(PIPELINE_MAX))]), AT_REST);
    assert_eq!(follow(&[C(&most), C(GET)]), Err(Opaque::Pipeline));
    assert_eq!(follow(&[C(&most), A(OK), C(GET)]), UNDER_WAY);
}

#[test]
fn interim_answers() {
    let post = "POST / HTTP/1.1\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
    let go_on = "HTTP/1.1 100 Continue\r\n\r\n";
    let hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n";
    assert_eq!(follow(&[C(post), A(go_on)]), UNDER_WAY);
    assert_eq!(follow(&[C(post), A(go_on), C("hello"), A(OK)]), AT_REST);
    assert_eq!(follow(&[C(GET), A(hints), A(hints), A(OK)]), AT_REST);
    assert_eq!(follow(&[C(GET), A(hints)]), UNDER_WAY);
    let with_body = "HTTP/1.1 103 Early Hints\r\nContent-Length: 5\r\n\r\n";
    assert_eq!(follow(&[C(GET), A(with_body)]), Err(Opaque::Framing));
    // Refused before the body: a client may leave it out.
    assert_eq!(follow(&[C(post), A(OK)]), Err(Opaque::Early));
    let two = [C(GET), C(post), A(OK), A(go_on), C("hello"), A(OK)];
    assert_eq!(follow(&two), AT_REST);
}

#[test]
fn other_protocols() {
    let connect = "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example\r\n\r\n";
    assert_eq!(follow(&[C(connect)]), Err(Opaque::Upgraded));
    let upgrade = "GET / HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
    let switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n";
    assert_eq!(follow(&[C(upgrade), A(switched)]), Err(Opaque::Upgraded));
    assert_eq!(follow(&[C(upgrade), A(OK)]), AT_REST);
    let http2 = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
    assert_eq!(follow(&[C(http2)]), Err(Opaque::Malformed));
    assert_eq!(follow(&[A("220 ready\r\n")]), Err(Opaque::Unsolicited));
    assert_eq!(
        follow(&[C("\u{16}\u{3}\u{1}\0\u{5}hello"), A("\u{16}")]),
        Err(Opaque::Unsolicited)
    );
    let ntlm = "GET / HTTP/1.1\r\nAuthorization: NTLM TlRM\r\n\r\n";
    assert_eq!(follow(&[C(ntlm)]), Err(Opaque::Authenticated));
}

#[test]
fn connections_that_end() {
    let close = "GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
    assert_eq!(follow(&[C(close)]), Err(Opaque::Closes));
    let last = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(follow(&[C(GET), A(last)]), Err(Opaque::Closes));
    assert_eq!(follow(&[C("GET / HTTP/1.0\r\n\r\n")]), Err(Opaque::Closes));
    let kept = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(follow(&[C(OLD), A(kept)]), AT_REST);
    assert_eq!(follow(&[C(OLD), A(OK)]), Err(Opaque::Closes));
    assert_eq!(follow(&[C(GET), A(kept)]), AT_REST);
}

#[test]
fn what_nobody_asked_for() {
    assert_eq!(
        follow(&[C(GET), A(OK), A("\r\n")]),
        Err(Opaque::Unsolicited)
    );
    assert_eq!(follow(&[A(OK)]), Err(Opaque::Unsolicited));
    let late = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(follow(&[C(GET), A(OK), A(late)]), Err(Opaque::Unsolicited));
    assert_eq!(
        follow(&[C(GET), A(&format!("{OK}!"))]),
        Err(Opaque::Unsolicited)
    );
}

#[test]
fn empty_lines_before_a_request() {
    let led = format!("\r\n\r\n{GET}");
    assert_eq!(follow(&[C(&led), A(OK)]), AT_REST);
    assert_eq!(follow(&[C(GET), A(OK), C("\r\n")]), UNDER_WAY);
    assert_eq!(follow(&[C(GET), A(OK), C(&led), A(OK)]), AT_REST);
}

#[test]
fn opaque_is_for_ever() {
    let parts = [C("what?\r\n\r\n"), C(GET), A(OK)];
    assert_eq!(follow(&parts), Err(Opaque::Malformed));
}

#[test]
fn heads_are_bounded() {
    let of = |first: &str, len: usize| {
        let fixed = format!("{first}\r\nContent-Length: 0\r\nA: \r\n\r\n").len();
        let filler: String = "x".repeat(len - fixed);
        format!("{first}\r\nContent-Length: 0\r\nA: {filler}\r\n\r\n")
    };
    let (request, response) = ("GET / HTTP/1.1", "HTTP/1.1 200 OK");
    let fits = [C(&of(request, HEAD_MAX)), A(&of(response, HEAD_MAX))];
    assert_eq!(follow(&fits), AT_REST);
    let long = of(request, HEAD_MAX + 1);
    assert_eq!(follow(&[C(&long)]), Err(Opaque::HeadTooLong));
    assert_eq!(follow(&[C(&long[..HEAD_MAX])]), UNDER_WAY);
    let long = of(response, HEAD_MAX + 1);
    assert_eq!(follow(&[C(GET), A(&long)]), Err(Opaque::HeadTooLong));
}

#[test]
fn memory_is_held_only_while_a_head_is_cut() {
    let mut exchange = Exchange::new();
    let held = |exchange: &Exchange| exchange.state.as_ref().unwrap().capacities();
    exchange.handle_request(GET.as_bytes());
    exchange.handle_response(OK.as_bytes());
    assert_eq!(held(&exchange), (0, 0));
    exchange.handle_request(&GET.as_bytes()[..9]);
    assert!((9..=HEAD_MAX).contains(&held(&exchange).0));
    exchange.handle_request(&GET.as_bytes()[9..]);
    exchange.handle_response(&OK.as_bytes()[..9]);
    assert!((9..=HEAD_MAX).contains(&held(&exchange).1));
    exchange.handle_response(&OK.as_bytes()[9..]);
    assert_eq!(held(&exchange), (0, 0));
    exchange.handle_request(&[b'x'; HEAD_MAX / 2 + 1]);
    exchange.handle_request(&[b'x'; HEAD_MAX / 2 - 1]);
    assert!((HEAD_MAX..2 * HEAD_MAX).contains(&held(&exchange).0));
}
