//! Exchanges that are made of known messages, cut and interleaved at random: what is at rest is known from the
//! messages' lengths.

use std::ops::Range;

use ipos_http::{Exchange, PIPELINE_MAX};
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

/// A body as it is sent, with the fields that describe it.
#[derive(Clone, Debug)]
struct Framed {
    fields: String,
    bytes: Vec<u8>,
}

/// A request, and the answers to it.
#[derive(Clone, Debug)]
struct Message {
    head: String,
    body: Vec<u8>,
    /// Each with whether it may come before the request's body.
    interim: Vec<String>,
    answer: Vec<u8>,
}

fn data() -> impl Strategy<Value = Vec<u8>> {
    let protocol = [
        &b"HTTP/1.1 200 OK\r\n\r\n"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"0\r\n\r\n",
    ];
    prop_oneof![
        vec(any::<u8>(), 0..40),
        // What looks like the protocol itself.
        select(protocol.to_vec()).prop_map(<[u8]>::to_vec),
    ]
}

fn with_length() -> impl Strategy<Value = Framed> {
    (data(), select(&["Content-Length", "content-length"])).prop_map(|(bytes, name)| Framed {
        fields: format!("{name}: {}\r\n", bytes.len()),
        bytes,
    })
}

fn chunked() -> impl Strategy<Value = Framed> {
    let extension = select(&["", ";a", ";a=b;c=\"d e\"", " ;x"]);
    let chunks = vec((data(), extension, any::<bool>()), 0..4);
    let trailers = vec(
        select(&["Digest: x\r\n", "Server-Timing: a;dur=1\r\n"]),
        0..3,
    );
    (chunks, extension_of_last(), trailers).prop_map(|(chunks, last, trailers)| {
        let mut bytes = Vec::new();
        for (data, extension, upper) in chunks.iter().filter(|(data, ..)| !data.is_empty()) {
            let size = match upper {
                true => format!("{:X}", data.len()),
                false => format!("0{:x}", data.len()),
            };
            bytes.extend_from_slice(format!("{size}{extension}\r\n").as_bytes());
            bytes.extend_from_slice(data);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(format!("{last}\r\n{}\r\n", trailers.concat()).as_bytes());
        Framed {
            fields: "Transfer-Encoding: chunked\r\n".into(),
            bytes,
        }
    })
}

fn extension_of_last() -> impl Strategy<Value = &'static str> {
    select(&["0", "000", "0;end"])
}

/// Fields that mean nothing here.
fn other_fields() -> impl Strategy<Value = String> {
    let fields = [
        "Host: a.example\r\n",
        "Connection: keep-alive\r\n",
        "X-Connection: close\r\n",
        "Cookie: a=b; c=d\r\n",
        "Upgrade: h2c\r\n",
        "Empty:\r\n",
    ];
    vec(select(fields.to_vec()), 0..4).prop_map(|fields| fields.concat())
}

/// The last answer to a request that was made with HEAD or not.
fn answer(head: bool) -> impl Strategy<Value = Vec<u8>> {
    let framed = prop_oneof![with_length(), chunked()];
    let status = select(&[
        "200 OK",
        "404 Not Found",
        "204 No Content",
        "304 Not Modified",
    ]);
    (framed, status, other_fields()).prop_map(move |(framed, status, fields)| {
        let bodyless = head || status.starts_with("304");
        let framing = match status {
            "204 No Content" => "",
            _ => &framed.fields,
        };
        let mut bytes = format!("HTTP/1.1 {status}\r\n{fields}{framing}\r\n").into_bytes();
        if !bodyless && !framing.is_empty() {
            bytes.extend_from_slice(&framed.bytes);
        }
        bytes
    })
}

fn message() -> impl Strategy<Value = Message> {
    let none = Just(Framed {
        fields: String::new(),
        bytes: Vec::new(),
    });
    let body = prop_oneof![none, with_length(), chunked()];
    let empty_line = select(&["", "", "\r\n"]);
    let method = select(&["GET", "POST", "HEAD", "OPTIONS"]);
    (empty_line, method, other_fields(), body, 0..3_usize).prop_flat_map(
        |(before, method, fields, body, interim)| {
            let interim: Vec<_> = [
                "HTTP/1.1 100 Continue\r\n\r\n",
                "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
            ]
            .into_iter()
            .take(interim)
            .map(String::from)
            .collect();
            let message = Message {
                head: format!(
                    "{before}{method} /a HTTP/1.1\r\n{fields}{}\r\n",
                    body.fields
                ),
                body: body.bytes,
                interim,
                answer: Vec::new(),
            };
            answer(method == "HEAD").prop_map(move |answer| Message {
                answer,
                ..message.clone()
            })
        },
    )
}

/// One direction's bytes, and how far they have passed.
#[derive(Debug, Default)]
struct Side {
    bytes: Vec<u8>,
    passed: usize,
    /// Where the messages of the side end, the answers that are not the last left out.
    ends: Vec<usize>,
}

impl Side {
    fn add(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// Up to `len` bytes more, but none from `limit` on.
    fn pass(&mut self, len: usize, limit: usize) -> Range<usize> {
        let start = self.passed;
        self.passed = (start + len).min(limit).max(start);
        start..self.passed
    }

    /// Whole messages that have passed.
    fn whole(&self) -> usize {
        self.ends.partition_point(|&end| end <= self.passed)
    }

    /// Bytes behind those.
    fn partial(&self) -> usize {
        let whole = self.whole();
        self.passed - whole.checked_sub(1).map_or(0, |last| self.ends[last])
    }
}

/// Both sides of an exchange, and up to where the application may answer once so much of the requests has passed.
#[derive(Debug, Default)]
struct Timeline {
    client: Side,
    application: Side,
    /// Requests' bytes that must have passed, and the answers' bytes that may then.
    causes: Vec<(usize, usize)>,
}

impl Timeline {
    fn new(messages: &[Message]) -> Timeline {
        let mut timeline = Timeline::default();
        let Timeline {
            client,
            application,
            causes,
        } = &mut timeline;
        for message in messages {
            client.add(message.head.as_bytes());
            for interim in &message.interim {
                application.add(interim.as_bytes());
                causes.push((client.bytes.len(), application.bytes.len()));
            }
            client.add(&message.body);
            application.add(&message.answer);
            causes.push((client.bytes.len(), application.bytes.len()));
            client.ends.push(client.bytes.len());
            application.ends.push(application.bytes.len());
        }
        timeline
    }

    /// How far the application may be.
    fn limit(&self) -> usize {
        let caused = self
            .causes
            .iter()
            .take_while(|(cause, _)| *cause <= self.client.passed);
        caused.last().map_or(0, |(_, limit)| *limit)
    }

    /// How far the client may be: it does not ask more at once than is followed.
    fn client_limit(&self) -> usize {
        let most = self.application.whole() + PIPELINE_MAX;
        let end = most
            .checked_sub(1)
            .and_then(|last| self.client.ends.get(last));
        end.copied().unwrap_or(self.client.bytes.len())
    }

    fn is_at_rest(&self) -> bool {
        let answered = self.application.whole();
        answered > 0
            && answered == self.client.whole()
            && self.client.partial() == 0
            && self.application.partial() == 0
    }

    fn is_over(&self) -> bool {
        self.client.passed == self.client.bytes.len()
            && self.application.passed == self.application.bytes.len()
    }

    /// Passes some of one side's bytes.
    fn step(&mut self, exchange: &mut Exchange, from_client: bool, len: usize) {
        if from_client {
            let range = self.client.pass(len, self.client_limit());
            exchange.handle_request(&self.client.bytes[range]);
        } else {
            let range = self.application.pass(len, self.limit());
            exchange.handle_response(&self.application.bytes[range]);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn at_rest_exactly_behind_each_complete_answer(
        messages in vec(message(), 1..50),
        steps in vec((any::<bool>(), prop_oneof![Just(1_usize), 1..20_usize, 1..2000_usize]), 1..50),
    ) {
        let mut timeline = Timeline::new(&messages);
        let mut exchange = Exchange::new();
        prop_assert!(!exchange.is_at_rest());
        let both = [(true, usize::MAX / 2), (false, usize::MAX / 2)];
        // Some steps are random; then both sides are let go on, so that all ends.
        let mut steps = steps.iter().cycle().take(1000).chain(both.iter().cycle());
        while !timeline.is_over() {
            let &(from_client, len) = steps.next().unwrap();
            timeline.step(&mut exchange, from_client, len);
            prop_assert_eq!(exchange.opaque(), None, "{:?}", timeline);
            prop_assert_eq!(exchange.is_at_rest(), timeline.is_at_rest(), "{:?}", timeline);
        }
        prop_assert!(exchange.is_at_rest());
    }

    #[test]
    fn any_bytes_are_the_same_however_cut(
        pieces in vec((any::<bool>(), noise()), 0..12),
    ) {
        let [mut whole, mut cut] = [Exchange::new(), Exchange::new()];
        for (from_client, bytes) in &pieces {
            let handle = match from_client {
                true => Exchange::handle_request,
                false => Exchange::handle_response,
            };
            handle(&mut whole, bytes);
            bytes.chunks(1).for_each(|byte| handle(&mut cut, byte));
            prop_assert_eq!(whole.is_at_rest(), cut.is_at_rest());
            prop_assert_eq!(whole.opaque(), cut.opaque());
            prop_assert!(!(whole.is_at_rest() && whole.opaque().is_some()));
        }
    }
}

/// Bytes that are now and then near to HTTP.
fn noise() -> impl Strategy<Value = Vec<u8>> {
    let parts = [
        &b"GET / HTTP/1.1\r\n"[..],
        b"HEAD / HTTP/1.0\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 100 Continue\r\n",
        b"Content-Length: 3\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Connection: keep-alive\r\n",
        b"3\r\nabc\r\n",
        b"0\r\n",
        b"\r\n",
        b"\n",
        b"abc",
    ];
    let part = prop_oneof![
        5 => select(parts.to_vec()).prop_map(<[u8]>::to_vec),
        1 => vec(any::<u8>(), 0..6),
    ];
    vec(part, 0..8).prop_map(|parts| parts.concat())
}
