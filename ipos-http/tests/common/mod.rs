//! Exchanges that are made of known messages, cut and interleaved at random.

use std::ops::Range;

use ipos_http::PIPELINE_MAX;
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
pub struct Message {
    pub head: String,
    pub body: Vec<u8>,
    /// Each with whether it may come before the request's body.
    pub interim: Vec<String>,
    pub answer: Answer,
}

/// The last answer to a request.
#[derive(Clone, Debug)]
pub struct Answer {
    pub head: String,
    pub body: Vec<u8>,
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

/// A head with its line ends as they should be, or as they are accepted.
fn head(text: String, bare: bool) -> String {
    match bare {
        true => text.replace("\r\n", "\n"),
        false => text,
    }
}

/// What is the same for a request and its last answer.
#[derive(Clone, Copy, Debug)]
struct Kind {
    method: &'static str,
    /// HTTP/1.0, whose connections go on only where both sides say so, and which has no chunks.
    old: bool,
}

impl Kind {
    fn version(self) -> &'static str {
        match self.old {
            true => "HTTP/1.0",
            false => "HTTP/1.1",
        }
    }

    fn fields(self) -> &'static str {
        match self.old {
            true => "Connection: keep-alive\r\n",
            false => "",
        }
    }

    fn framed(self) -> BoxedStrategy<Framed> {
        match self.old {
            true => with_length().boxed(),
            false => prop_oneof![with_length(), chunked()].boxed(),
        }
    }
}

fn answer(kind: Kind) -> impl Strategy<Value = Answer> {
    let status = select(&[
        "200 OK",
        "404 Not Found",
        "204 No Content",
        "304 Not Modified",
    ]);
    let parts = (kind.framed(), status, other_fields(), any::<bool>());
    parts.prop_map(move |(framed, status, fields, bare)| {
        let bodyless = kind.method == "HEAD" || status.starts_with("304");
        let framing = match status {
            "204 No Content" => "",
            _ => &framed.fields,
        };
        let (version, more) = (kind.version(), kind.fields());
        let text = format!("{version} {status}\r\n{fields}{more}{framing}\r\n");
        let has_body = !bodyless && !framing.is_empty();
        Answer {
            head: head(text, bare),
            body: if has_body { framed.bytes } else { Vec::new() },
        }
    })
}

pub fn message() -> impl Strategy<Value = Message> {
    let method = select(&["GET", "POST", "HEAD", "OPTIONS"]);
    let kind = (method, any::<bool>()).prop_map(|(method, old)| Kind { method, old });
    kind.prop_flat_map(|kind| {
        let none = Just(Framed {
            fields: String::new(),
            bytes: Vec::new(),
        });
        let body = prop_oneof![none, kind.framed()];
        let empty_line = select(&["", "", "\r\n"]);
        let rest = (0..3_usize, any::<bool>(), answer(kind));
        (empty_line, other_fields(), body, rest).prop_map(
            move |(before, fields, body, (interim_count, bare, answer))| {
                let interim = [
                    "HTTP/1.1 100 Continue\r\n\r\n",
                    "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
                ];
                let (version, more) = (kind.version(), kind.fields());
                let fields = format!("{fields}{more}{}", body.fields);
                let text = format!("{before}{} /a {version}\r\n{fields}\r\n", kind.method);
                Message {
                    head: head(text, bare),
                    body: body.bytes,
                    interim: interim.map(String::from)[..interim_count].to_vec(),
                    answer,
                }
            },
        )
    })
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
pub struct Timeline {
    client: Side,
    application: Side,
    /// Requests' bytes that must have passed, and the answers' bytes that may then.
    causes: Vec<(usize, usize)>,
}

impl Timeline {
    pub fn new(messages: &[Message]) -> Timeline {
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
            application.add(message.answer.head.as_bytes());
            application.add(&message.answer.body);
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

    pub fn is_at_rest(&self) -> bool {
        let answered = self.application.whole();
        answered > 0
            && answered == self.client.whole()
            && self.client.partial() == 0
            && self.application.partial() == 0
    }

    pub fn is_over(&self) -> bool {
        self.client.passed == self.client.bytes.len()
            && self.application.passed == self.application.bytes.len()
    }

    /// Some of one side's bytes, which pass.
    pub fn step(&mut self, from_client: bool, len: usize) -> &[u8] {
        if from_client {
            let range = self.client.pass(len, self.client_limit());
            &self.client.bytes[range]
        } else {
            let range = self.application.pass(len, self.limit());
            &self.application.bytes[range]
        }
    }
}

/// Who sends next, and how many bytes at most. Behind some steps at random both sides are let go on, so that all ends.
pub fn steps() -> impl Strategy<Value = Vec<(bool, usize)>> {
    let len = prop_oneof![Just(1_usize), 1..20_usize, 1..2000_usize];
    vec((any::<bool>(), len), 1..50).prop_map(|steps| {
        let mut steps = steps.repeat(1000_usize.div_ceil(steps.len()));
        steps.extend([(true, usize::MAX / 2), (false, usize::MAX / 2)].repeat(100));
        steps
    })
}

/// Bytes that are now and then near to HTTP.
pub fn noise() -> impl Strategy<Value = Vec<u8>> {
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
