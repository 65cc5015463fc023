//! The application on a server.

use std::ops::RangeInclusive;
use std::time::Duration;

use ipos_core::{Failure, Flow, Instant, ListenerId, Origin};
use rand_chacha::ChaCha8Rng;

use crate::http::{Gatherer, Message, Read, RequestHead, Wanted, parse_request};
use crate::pattern::Digest;
use crate::random::{self, Purpose, up_to};
use crate::stream::{Next, Stream};

/// An application: makes a [`Session`] for each connection that is bound to it.
pub trait Application: Send {
    /// A client's connection was bound to the application behind `listener`.
    fn accept(
        &mut self,
        now: Instant,
        listener: ListenerId,
        flow: Flow,
        origin: Origin,
    ) -> Box<dyn Session>;

    /// A client's datagram on a UDP listening socket: what to answer it with. Nothing, unless the application does UDP.
    fn datagram(
        &mut self,
        now: Instant,
        listener: ListenerId,
        flow: Flow,
        payload: &[u8],
    ) -> Option<Vec<u8>> {
        let _ = (now, listener, flow, payload);
        None
    }
}

/// One connection of an application.
pub trait Session: Send {
    /// Something may have come: bytes, the end of the client's stream, room, or the moment asked for.
    /// Reads until nothing is readable or the session cannot go on, then says what it wants.
    fn poll(&mut self, now: Instant, stream: &mut dyn Stream) -> Next;

    /// The connection is gone before the session ended it.
    fn failed(&mut self, now: Instant, failure: Failure) {
        let _ = (now, failure);
    }
}

/// A web server whose answers can be checked.
///
/// | request | answer |
/// |---|---|
/// | `GET /`, and any path that ends in `/` | the server's name and a line feed |
/// | `GET /bytes/N`, `GET /bytes/N?seed=S`, the same below another path | N bytes of [`pattern`](crate::pattern) S |
/// | `POST` with a body | `<count> <digest, 16 hex digits>` and a line feed |
///
/// Every answer carries `X-Server: <name>`. Keep-alive unless the client says `Connection: close`.
///
/// A datagram is answered with the server's name, a line feed, and the datagram.
pub struct Web {
    name: String,
    service: RangeInclusive<Duration>,
    rng: ChaCha8Rng,
    accepted: usize,
}

impl Web {
    /// A server that answers at once.
    pub fn new(name: impl Into<String>, seed: u64) -> Web {
        Web {
            name: name.into(),
            service: Duration::ZERO..=Duration::ZERO,
            rng: random::stream(seed, Purpose::Application, 0),
            accepted: 0,
        }
    }

    /// The answer to each request comes after a time that is uniform in `service`.
    pub fn with_service(mut self, service: RangeInclusive<Duration>) -> Web {
        self.service = service;
        self
    }
}

impl Application for Web {
    fn accept(&mut self, _: Instant, _: ListenerId, _: Flow, _: Origin) -> Box<dyn Session> {
        // A stream of its own for each connection: the order of polls does not matter.
        let mut rng = self.rng.clone();
        self.accepted += 1;
        rng.set_stream(rng.get_stream() + self.accepted as u64);
        Box::new(WebSession {
            name: self.name.clone(),
            service: self.service.clone(),
            rng,
            gatherer: Gatherer::default(),
            state: State::Head,
        })
    }

    fn datagram(&mut self, _: Instant, _: ListenerId, _: Flow, payload: &[u8]) -> Option<Vec<u8>> {
        Some([self.name.as_bytes(), b"\n", payload].concat())
    }
}

struct WebSession {
    name: String,
    service: RangeInclusive<Duration>,
    rng: ChaCha8Rng,
    gatherer: Gatherer,
    state: State,
}

enum State {
    /// Reading a head.
    Head,
    /// Reading a body: bytes so far.
    Body {
        head: RequestHead,
        count: u64,
        digest: Digest,
    },
    /// Working until then.
    Working {
        until: Instant,
        reply: Message,
        close: bool,
    },
    /// Writing.
    Replying { reply: Message, close: bool },
    /// The client has been told that its request is bad: what it still sends is dropped.
    Ending { until: Instant },
}

/// How long a client with a bad request may go on sending.
const ENDING: Duration = Duration::from_secs(5);

impl Session for WebSession {
    fn poll(&mut self, now: Instant, stream: &mut dyn Stream) -> Next {
        loop {
            match &mut self.state {
                State::Head => match self.gatherer.read(stream, parse_request) {
                    Read::Wait => {
                        stream.set_quiet(self.gatherer.is_empty());
                        return Next::Wait;
                    }
                    Read::Ended => return Next::Close,
                    Read::Head(head) => {
                        self.state = State::Body {
                            head,
                            count: 0,
                            digest: Digest::default(),
                        }
                    }
                    Read::Malformed => {
                        let reply = self.reply("400 Bad Request", true, 0, 0, "");
                        self.state = State::Replying { reply, close: true };
                    }
                },
                State::Body {
                    head,
                    count,
                    digest,
                } => {
                    if *count < head.body {
                        let bytes = stream.readable();
                        let take = (head.body - *count).min(bytes.len() as u64) as usize;
                        if take == 0 {
                            return if stream.is_finished() {
                                Next::Abort
                            } else {
                                Next::Wait
                            };
                        }
                        digest.update(&bytes[..take]);
                        *count += take as u64;
                        stream.consume(take);
                        continue;
                    }
                    let (close, wanted) = (head.close, head.wanted.clone());
                    let digest = format!("{count} {:016x}\n", digest.finish());
                    let reply = self.answer(&wanted, close, &digest);
                    let until = now + self.service_time();
                    self.state = State::Working {
                        until,
                        reply,
                        close,
                    };
                }
                State::Working { until, .. } if now < *until => return Next::Until(*until),
                State::Working { .. } => {
                    if let State::Working { reply, close, .. } =
                        std::mem::replace(&mut self.state, State::Head)
                    {
                        self.state = State::Replying { reply, close };
                    }
                }
                State::Replying { reply, close } => {
                    if !reply.pump(stream, u64::MAX) {
                        return Next::Wait;
                    }
                    if *close && !stream.readable().is_empty() {
                        // Closing now would reset the connection (RFC 2525 §2.17), and the answer be lost.
                        stream.shutdown();
                        self.state = State::Ending {
                            until: now + ENDING,
                        };
                    } else if *close {
                        return Next::Close;
                    } else {
                        self.state = State::Head;
                    }
                }
                State::Ending { until } => {
                    let rubbish = stream.readable().len();
                    if rubbish == 0 {
                        let over = now >= *until || stream.is_finished();
                        return if over {
                            Next::Close
                        } else {
                            Next::Until(*until)
                        };
                    }
                    stream.consume(rubbish);
                }
            }
        }
    }
}

impl WebSession {
    fn service_time(&mut self) -> Duration {
        let (least, most) = (*self.service.start(), *self.service.end());
        least + up_to(&mut self.rng, most.saturating_sub(least))
    }

    fn answer(&self, wanted: &Wanted, close: bool, digest: &str) -> Message {
        match wanted {
            Wanted::Name => self.reply("200 OK", close, 0, 0, &format!("{}\n", self.name)),
            Wanted::Bytes { len, seed } => self.reply("200 OK", close, *seed, *len, ""),
            Wanted::Digest => self.reply("200 OK", close, 0, 0, digest),
            Wanted::Missing => self.reply("404 Not Found", close, 0, 0, ""),
            Wanted::Unsupported => self.reply("501 Not Implemented", close, 0, 0, ""),
        }
    }

    /// A response whose body is `text`, then `len` pattern bytes of `seed`.
    fn reply(&self, status: &str, close: bool, seed: u64, len: u64, text: &str) -> Message {
        let head = format!(
            "HTTP/1.1 {status}\r\nX-Server: {}\r\nContent-Length: {}\r\n{}\r\n{text}",
            self.name,
            len + text.len() as u64,
            if close { "Connection: close\r\n" } else { "" },
        );
        Message::new(head.into_bytes(), seed, len)
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddrV4};

    use super::*;
    use crate::pattern;
    use crate::stream::memory::Memory;

    fn session(service: Duration) -> Box<dyn Session> {
        let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 80);
        let mut web = Web::new("s1", 1).with_service(service..=service);
        web.accept(
            Instant::ZERO,
            ListenerId(0),
            Flow::tcp(any, any),
            Origin::Local,
        )
    }

    fn memory(input: &[u8]) -> Memory {
        Memory {
            input: input.to_vec(),
            room: usize::MAX,
            ..Memory::default()
        }
    }

    #[test]
    fn keep_alive_then_close() {
        let mut stream = memory(
            b"GET / HTTP/1.1\r\n\r\nGET /bytes/9?seed=2 HTTP/1.1\r\nConnection: close\r\n\r\n",
        );
        assert_eq!(
            session(Duration::ZERO).poll(Instant::ZERO, &mut stream),
            Next::Close
        );
        let mut right = b"HTTP/1.1 200 OK\r\nX-Server: s1\r\nContent-Length: 3\r\n\r\ns1\n\
            HTTP/1.1 200 OK\r\nX-Server: s1\r\nContent-Length: 9\r\nConnection: close\r\n\r\n123456789"
            .to_vec();
        let body = right.len() - 9;
        pattern::fill(2, 0, &mut right[body..]);
        assert_eq!(stream.output, right);
    }

    #[test]
    fn datagrams_come_back() {
        let any = SocketAddrV4::new(Ipv4Addr::LOCALHOST, 7);
        let flow = Flow::udp(any, any);
        let answer = Web::new("s3", 1).datagram(Instant::ZERO, ListenerId(1), flow, b"ping");
        assert_eq!(answer.as_deref(), Some(&b"s3\nping"[..]));
    }

    #[test]
    fn uploads_are_digested() {
        let mut input = b"POST /in HTTP/1.1\r\nContent-Length: 5000\r\n\r\n".to_vec();
        let head = input.len();
        input.resize(head + 5000, 0);
        pattern::fill(8, 0, &mut input[head..]);
        let mut stream = memory(&input);
        assert_eq!(
            session(Duration::ZERO).poll(Instant::ZERO, &mut stream),
            Next::Wait
        );
        let right = format!("\r\n\r\n5000 {:016x}\n", pattern::digest(8, 5000));
        assert!(stream.output.ends_with(right.as_bytes()));
    }

    #[test]
    fn an_answer_takes_its_time_and_waits_for_room() {
        let mut stream = Memory {
            room: 10,
            ..memory(b"GET /bytes/100 HTTP/1.1\r\n\r\n")
        };
        let mut session = session(Duration::from_millis(3));
        let until = Instant::from_millis(3);
        assert_eq!(session.poll(Instant::ZERO, &mut stream), Next::Until(until));
        assert_eq!(
            session.poll(Instant::from_millis(1), &mut stream),
            Next::Until(until)
        );
        assert_eq!(session.poll(until, &mut stream), Next::Wait);
        assert_eq!(stream.output.len(), 10);
        stream.room = usize::MAX;
        stream.ended = true;
        assert_eq!(session.poll(until, &mut stream), Next::Close);
        assert!(stream.output.len() > 100);
    }

    #[test]
    fn bad_requests_are_answered_before_the_close() {
        let mut stream = memory(b"\x01\x02rubbish");
        let mut session = session(Duration::ZERO);
        assert!(matches!(
            session.poll(Instant::ZERO, &mut stream),
            Next::Until(_)
        ));
        assert!(stream.output.starts_with(b"HTTP/1.1 400 "));
        assert!(stream.shut && stream.input.is_empty());
        stream.ended = true;
        assert_eq!(session.poll(Instant::ZERO, &mut stream), Next::Close);
    }

    #[test]
    fn a_body_cut_short_is_not_answered() {
        let mut stream = Memory {
            ended: true,
            ..memory(b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nbod")
        };
        assert_eq!(
            session(Duration::ZERO).poll(Instant::ZERO, &mut stream),
            Next::Abort
        );
        assert!(stream.output.is_empty());
    }
}
