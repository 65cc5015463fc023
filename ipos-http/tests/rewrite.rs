//! What a rewriter passes is known from the messages: all that the application has sent, and one line in the head of
//! each answer that is to be added to.

mod common;

use common::{Message, Timeline, message, noise, steps};
use ipos_http::{ResponseRewriter, SetCookie};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// The lines of the requests' numbers. Requests with the cookie `c` are answered without one.
#[derive(Debug, Default)]
struct Rewritten {
    rewriter: ResponseRewriter<Option<usize>>,
    asked: usize,
    out: Vec<u8>,
}

fn line(number: usize) -> String {
    format!("Set-Cookie: n={number}")
}

impl Rewritten {
    fn handle(&mut self, from_client: bool, bytes: &[u8]) {
        if from_client {
            self.rewriter.handle_request(bytes, |request| {
                self.asked += 1;
                request.cookie("c").is_none().then_some(self.asked)
            });
        } else {
            let insert = |_: &_, note: Option<usize>, head: &mut ipos_http::HeadEnd<'_>| {
                if let Some(number) = note {
                    let cookie = SetCookie::builder("n", &number.to_string()).build();
                    head.set_cookie(&cookie.unwrap());
                }
            };
            self.rewriter.handle_response(bytes, &mut self.out, insert);
        }
    }

    /// The output of the application's end.
    fn finish(mut self) -> Vec<u8> {
        self.rewriter.finish(&mut self.out);
        self.out
    }
}

/// The head of an answer with a line before its empty line.
fn with_line(head: &str, line: &str) -> String {
    let end = if head.ends_with("\r\n") { "\r\n" } else { "\n" };
    let fields = head.strip_suffix(end).unwrap();
    format!("{fields}{line}{end}{end}")
}

/// What is to come out for the messages of a connection that stays open.
fn expected(messages: &[Message]) -> Vec<u8> {
    let mut expected = Vec::new();
    for (at, message) in messages.iter().enumerate() {
        expected.extend(message.interim.concat().into_bytes());
        let head = &message.answer.head;
        let has_cookie = message.head.contains("c=d");
        let head = match has_cookie {
            true => head.clone(),
            false => with_line(head, &line(at + 1)),
        };
        expected.extend(head.into_bytes());
        expected.extend(&message.answer.body);
    }
    expected
}

/// The last that is said on a connection.
#[derive(Clone, Copy, Debug)]
struct Last {
    request: &'static str,
    /// The head that is added to, if any; bare bytes otherwise.
    head: &'static str,
    rest: &'static [u8],
}

const GET: &str = "GET / HTTP/1.1\r\n\r\n";
const CLOSE: &str = "GET / HTTP/1.1\r\nConnection: close\r\n\r\n";
const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

fn last() -> impl Strategy<Value = Last> {
    let of = |request, head, rest| Last {
        request,
        head,
        rest,
    };
    select(vec![
        of("", "", b""),
        of("", "", OK),
        of(GET, "HTTP/1.1 200 OK\r\n\r\n", OK),
        of(
            GET,
            "HTTP/1.1 200 OK\nConnection: close\nContent-Length: 2\n\n",
            b"ok",
        ),
        of(
            GET,
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n",
            OK,
        ),
        of(GET, "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", OK),
        of(
            GET,
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
            b"2\r\nok\r\nwhat",
        ),
        of(CLOSE, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", b"ok"),
        of(CLOSE, "HTTP/1.0 200 OK\r\n\r\n", OK),
        of("GET / HTTP/1.0\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\n", OK),
        of(
            "GET / HTTP/1.0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            OK,
        ),
        of(
            "GET / HTTP/1.1\r\nUpgrade: a\r\n\r\n",
            "",
            b"HTTP/1.1 101 \r\n\r\nHTTP/1.1 200 \r\n\r\n",
        ),
        of(
            "CONNECT a:1 HTTP/1.1\r\n\r\n",
            "",
            b"HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
        ),
        of(
            "CONNECT a:1 HTTP/1.1\r\n\r\n",
            "HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\n",
            b"no",
        ),
        of(
            "POST / HTTP/1.1\r\nContent-Length: 9\r\n\r\nearly",
            "HTTP/1.1 413 No\r\nContent-Length: 0\r\n\r\n",
            OK,
        ),
        of(
            "POST / HTTP/1.1\r\nTransfer-Encoding: a\r\n\r\n",
            "HTTP/1.1 501 No\r\nContent-Length: 0\r\n\r\n",
            OK,
        ),
        of(
            "what?\r\n\r\n",
            "",
            b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n",
        ),
        of(GET, "", b"HTTP/1.1 200 OK\r\nContent-Le"),
        of(GET, "", b"HTTP/1.1 200 OK\r\nA: folded\r\n here\r\n\r\n"),
        of(GET, "", b"220 ready\r\n\r\n"),
    ])
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn one_line_for_each_answer_that_is_to_have_one(
        messages in vec(message(), 0..50),
        steps in steps(),
        last in last(),
        cut in 1..40_usize,
    ) {
        let mut timeline = Timeline::new(&messages);
        let mut rewritten = Rewritten::default();
        for (from_client, len) in steps {
            rewritten.handle(from_client, timeline.step(from_client, len));
            prop_assert_eq!(rewritten.rewriter.opaque(), None, "{:?}", timeline);
            prop_assert_eq!(rewritten.rewriter.is_at_rest(), timeline.is_at_rest(), "{:?}", timeline);
        }
        prop_assert!(timeline.is_over());
        let mut expected = expected(&messages);
        prop_assert_eq!(&rewritten.out, &expected);

        let answer = [last.head.as_bytes(), last.rest].concat();
        last.request.as_bytes().chunks(cut).for_each(|bytes| rewritten.handle(true, bytes));
        answer.chunks(cut).for_each(|bytes| rewritten.handle(false, bytes));
        // Whatever follows, from either side, is passed as it is.
        rewritten.handle(true, GET.as_bytes());
        rewritten.handle(false, if last.rest == OK { OK } else { b"" });
        if !last.head.is_empty() {
            let number = messages.len() + 1;
            expected.extend(with_line(last.head, &line(number)).into_bytes());
        }
        expected.extend(last.rest);
        expected.extend(if last.rest == OK { OK } else { b"" });
        prop_assert_eq!(rewritten.finish(), expected);
    }

    #[test]
    fn any_bytes_pass_as_they_are(pieces in vec((any::<bool>(), noise()), 0..12), cut in 1..9_usize) {
        let [mut whole, mut pieces_of] = [Rewritten::default(), Rewritten::default()];
        let mut sent = Vec::new();
        for (from_client, bytes) in &pieces {
            whole.handle(*from_client, bytes);
            bytes.chunks(cut).for_each(|bytes| pieces_of.handle(*from_client, bytes));
            prop_assert_eq!(&whole.out, &pieces_of.out);
            if !from_client {
                sent.extend(bytes);
            }
        }
        let asked = whole.asked;
        let mut passed = whole.finish();
        prop_assert_eq!(&passed, &pieces_of.finish());
        for number in 1..=asked {
            passed = without(&passed, &line(number));
        }
        prop_assert_eq!(passed, sent);
    }
}

/// `bytes` without the first line that is `line`.
fn without(bytes: &[u8], line: &str) -> Vec<u8> {
    let ends = ["\r\n", "\n"].map(|end| format!("{line}{end}").into_bytes());
    let found = ends.iter().find_map(|line| {
        let at = bytes
            .windows(line.len())
            .position(|window| window == line)?;
        Some((at, at + line.len()))
    });
    let (start, end) = found.unwrap_or_default();
    [&bytes[..start], &bytes[end..]].concat()
}
