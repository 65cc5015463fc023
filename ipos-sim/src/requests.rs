//! A client's HTTP/1.1 requests.

use std::collections::VecDeque;
use std::time::Duration;

use ipos_core::Instant;

use crate::http::{Gatherer, Message, Read, ResponseHead, parse_response};
use crate::jar::Jar;
use crate::pattern;
use crate::script::{Exchange, ExchangeError, Log, Script};
use crate::stream::{Next, Stream};

/// One request to a [`Web`](crate::Web) application, and what must come back.
#[derive(Clone, Debug)]
pub struct Request {
    method: &'static str,
    host: String,
    target: String,
    fields: String,
    seed: u64,
    upload: u64,
    expect: Expect,
    pieces: Option<(u64, Duration)>,
    pause: Duration,
}

/// The right body of a response.
#[derive(Clone, Debug)]
enum Expect {
    /// The name that `X-Server` says too.
    Name,
    /// So many pattern bytes.
    Pattern(u64),
    /// Count and digest of what was uploaded.
    Digest,
}

impl Request {
    /// `GET /`: the server's name.
    pub fn name() -> Request {
        Request::new("GET", "/".into(), Expect::Name)
    }

    /// `GET /bytes/<len>?seed=<seed>`: pattern bytes.
    pub fn download(len: u64, seed: u64) -> Request {
        let target = format!("/bytes/{len}?seed={seed}");
        Request {
            seed,
            ..Request::new("GET", target, Expect::Pattern(len))
        }
    }

    /// `POST /` of `len` pattern bytes.
    pub fn upload(len: u64, seed: u64) -> Request {
        Request {
            seed,
            upload: len,
            ..Request::new("POST", "/".into(), Expect::Digest)
        }
    }

    fn new(method: &'static str, target: String, expect: Expect) -> Request {
        Request {
            method,
            host: "farm.example".into(),
            target,
            fields: String::new(),
            seed: 0,
            upload: 0,
            expect,
            pieces: None,
            pause: Duration::ZERO,
        }
    }

    /// Of this host; `farm.example` otherwise.
    pub fn of_host(mut self, host: &str) -> Request {
        self.host = host.into();
        self
    }

    /// The same below this path: `/img` makes `/img/` of `/`.
    pub fn below(mut self, path: &str) -> Request {
        self.target.insert_str(0, path);
        self
    }

    /// Adds a header field.
    pub fn with_field(mut self, name: &str, value: &str) -> Request {
        self.fields += &format!("{name}: {value}\r\n");
        self
    }

    /// Written `piece` bytes at a time, with a pause after each piece.
    pub fn in_pieces(mut self, piece: u64, pause: Duration) -> Request {
        self.pieces = Some((piece.max(1), pause));
        self
    }

    /// Begun so long after the response before it, or after the connection was open.
    pub fn after(mut self, pause: Duration) -> Request {
        self.pause = pause;
        self
    }

    fn message(&self, last: bool, cookies: &str) -> Message {
        let length = match self.method {
            "POST" => format!("Content-Length: {}\r\n", self.upload),
            _ => String::new(),
        };
        let close = if last { "Connection: close\r\n" } else { "" };
        let Request {
            method,
            host,
            target,
            fields,
            ..
        } = self;
        let head = format!(
            "{method} {target} HTTP/1.1\r\nHost: {host}\r\n{cookies}{fields}{length}{close}\r\n"
        );
        Message::new(head.into_bytes(), self.seed, self.upload)
    }
}

/// The script of one connection: requests one after the other, each response checked to the last byte.
///
/// The last request says `Connection: close`, and the script waits for the server to close, unless
/// it is told otherwise.
pub struct Http {
    waiting: VecDeque<Request>,
    client_closes: bool,
    half_close: bool,
    opened: bool,
    jar: Option<Jar>,
    gatherer: Gatherer,
    state: State,
}

enum State {
    /// Before the next request.
    Between,
    /// Writing; the next piece not before then.
    Writing {
        current: Current,
        message: Message,
        not_before: Instant,
    },
    /// Reading the head.
    Head(Current),
    /// Reading the body: bytes so far.
    Body {
        current: Current,
        head: ResponseHead,
        count: u64,
    },
    /// The last response is whole, the server is to close.
    Ending {
        current: Current,
        finished: Instant,
        server: String,
    },
}

/// The request under way.
struct Current {
    request: Request,
    started: Instant,
    sent: u64,
    /// The body that must come.
    right: Right,
}

/// A body.
enum Right {
    Text(Vec<u8>),
    Pattern { seed: u64, len: u64 },
}

impl Right {
    fn len(&self) -> u64 {
        match self {
            Right::Text(text) => text.len() as u64,
            Right::Pattern { len, .. } => *len,
        }
    }

    /// The first wrong byte of `bytes`, which stand at `at` of the body and do not go beyond its end.
    fn first_difference(&self, at: u64, bytes: &[u8]) -> Option<usize> {
        match self {
            Right::Text(text) => {
                let text = text.get(at as usize..).unwrap_or_default();
                (0..bytes.len()).find(|&place| text.get(place) != bytes.get(place))
            }
            Right::Pattern { seed, .. } => pattern::first_difference(*seed, at, bytes),
        }
    }
}

impl Http {
    /// These requests, one after the other on one connection.
    pub fn new(requests: impl IntoIterator<Item = Request>) -> Http {
        Http {
            waiting: requests.into_iter().collect(),
            client_closes: false,
            half_close: false,
            opened: false,
            jar: None,
            gatherer: Gatherer::default(),
            state: State::Between,
        }
    }

    /// Cookies go with the requests, and those of the answers are kept.
    pub fn with_jar(mut self, jar: Jar) -> Http {
        self.jar = Some(jar);
        self
    }

    /// The client closes after the last response, and does not ask the server to.
    pub fn client_closes(mut self) -> Http {
        self.client_closes = true;
        self
    }

    /// The client closes its direction as soon as the last request is written, and then reads the response.
    pub fn half_close(mut self) -> Http {
        self.half_close = true;
        self
    }

    /// The next request, if there is one.
    fn begin(&mut self, now: Instant, log: &Log) -> Option<State> {
        let request = self.waiting.pop_front()?;
        let cookies = self.jar.as_ref().map(Jar::field).unwrap_or_default();
        let last = self.waiting.is_empty() && !self.client_closes;
        let message = request.message(last, &cookies);
        let started = if self.opened { now } else { log.opened() };
        self.opened = true;
        let not_before = now + request.pause;
        let current = Current {
            request,
            started,
            sent: 0,
            right: Right::Text(Vec::new()),
        };
        Some(State::Writing {
            current,
            message,
            not_before,
        })
    }

    /// Writes what there is room for, one piece at a time.
    fn write(
        &self,
        now: Instant,
        stream: &mut dyn Stream,
        mut current: Current,
        mut message: Message,
        not_before: Instant,
    ) -> Step {
        if now < not_before {
            return Step::Rest(
                State::Writing {
                    current,
                    message,
                    not_before,
                },
                Next::Until(not_before),
            );
        }
        let (piece, pause) = current.request.pieces.unwrap_or((u64::MAX, Duration::ZERO));
        let room = message.pump(stream, piece);
        current.sent = message.written();
        if message.is_written() {
            if self.half_close && self.waiting.is_empty() {
                stream.shutdown();
            }
            Step::On(State::Head(current))
        } else if room {
            Step::On(State::Writing {
                current,
                message,
                not_before: now + pause,
            })
        } else {
            Step::Rest(
                State::Writing {
                    current,
                    message,
                    not_before: now,
                },
                Next::Wait,
            )
        }
    }

    fn read_head(&mut self, stream: &mut dyn Stream, mut current: Current) -> Step {
        match self.gatherer.read(stream, parse_response) {
            Read::Wait => Step::Rest(State::Head(current), Next::Wait),
            Read::Ended => Step::Wrong(current, ExchangeError::Closed),
            Read::Malformed => Step::Wrong(current, ExchangeError::Malformed),
            Read::Head(head) => {
                if let Some(jar) = &self.jar {
                    jar.take(&head.cookies);
                }
                match current.check(&head) {
                    Ok(()) => Step::On(State::Body {
                        current,
                        head,
                        count: 0,
                    }),
                    Err(error) => Step::Wrong(current, error),
                }
            }
        }
    }

    fn read_body(
        &self,
        now: Instant,
        stream: &mut dyn Stream,
        current: Current,
        head: ResponseHead,
        mut count: u64,
        log: &mut Log,
    ) -> Step {
        while count < current.right.len() {
            let bytes = stream.readable();
            let take = bytes.len().min((current.right.len() - count) as usize);
            if take == 0 {
                return match stream.is_finished() {
                    true => Step::Wrong(current, ExchangeError::Closed),
                    false => Step::Rest(
                        State::Body {
                            current,
                            head,
                            count,
                        },
                        Next::Wait,
                    ),
                };
            }
            if let Some(at) = current.right.first_difference(count, &bytes[..take]) {
                return Step::Wrong(
                    current,
                    ExchangeError::Bytes {
                        offset: count + at as u64,
                    },
                );
            }
            stream.consume(take);
            count += take as u64;
        }
        let server = head.server.unwrap_or_default();
        if self.waiting.is_empty() && !self.client_closes {
            return Step::On(State::Ending {
                current,
                finished: now,
                server,
            });
        }
        current.report(now, Ok(server), log);
        Step::On(State::Between)
    }

    /// Reports the exchange under way, and those that will not take place any more.
    fn give_up(
        &mut self,
        now: Instant,
        current: Option<Current>,
        error: ExchangeError,
        log: &mut Log,
    ) {
        let rest = match current {
            Some(current) => {
                current.report(now, Err(error), log);
                ExchangeError::NotTried
            }
            None => error,
        };
        for _ in self.waiting.drain(..) {
            log.push(Exchange {
                started: now,
                finished: now,
                sent: 0,
                received: 0,
                result: Err(rest.clone()),
            });
        }
    }
}

/// What comes of one state.
enum Step {
    /// Go on with this one.
    On(State),
    /// The exchange waits for the stream, or for a moment.
    Rest(State, Next),
    /// The exchange has failed.
    Wrong(Current, ExchangeError),
}

impl Current {
    /// Whether `head` is that of the right response; if it is, the right body is known from now on.
    fn check(&mut self, head: &ResponseHead) -> Result<(), ExchangeError> {
        let server = head.server.as_deref().ok_or(ExchangeError::Malformed)?;
        if head.status != 200 {
            return Err(ExchangeError::Status(head.status));
        }
        let Request {
            expect,
            seed,
            upload,
            ..
        } = &self.request;
        self.right = match expect {
            Expect::Name => Right::Text(format!("{server}\n").into_bytes()),
            Expect::Pattern(len) => Right::Pattern {
                seed: *seed,
                len: *len,
            },
            Expect::Digest => Right::Text(
                format!("{upload} {:016x}\n", pattern::digest(*seed, *upload)).into_bytes(),
            ),
        };
        let (expected, actual) = (
            self.right.len(),
            head.length.ok_or(ExchangeError::Malformed)?,
        );
        if actual == expected {
            Ok(())
        } else {
            Err(ExchangeError::Length { expected, actual })
        }
    }

    fn report(self, now: Instant, result: Result<String, ExchangeError>, log: &mut Log) {
        let received = if result.is_ok() { self.right.len() } else { 0 };
        log.push(Exchange {
            started: self.started,
            finished: now,
            sent: self.sent,
            received,
            result,
        });
    }
}

impl Script for Http {
    fn poll(&mut self, now: Instant, stream: &mut dyn Stream, log: &mut Log) -> Next {
        loop {
            let step = match std::mem::replace(&mut self.state, State::Between) {
                State::Between => match self.begin(now, log) {
                    Some(state) => Step::On(state),
                    None => return Next::Close,
                },
                State::Writing {
                    current,
                    message,
                    not_before,
                } => self.write(now, stream, current, message, not_before),
                State::Head(current) => self.read_head(stream, current),
                State::Body {
                    current,
                    head,
                    count,
                } => self.read_body(now, stream, current, head, count, log),
                State::Ending {
                    current,
                    finished,
                    server,
                } => {
                    let excess = stream.readable().len() as u64;
                    if excess > 0 {
                        let expected = current.right.len();
                        Step::Wrong(
                            current,
                            ExchangeError::Length {
                                expected,
                                actual: expected + excess,
                            },
                        )
                    } else if stream.is_finished() {
                        current.report(finished, Ok(server), log);
                        return Next::Close;
                    } else {
                        Step::Rest(
                            State::Ending {
                                current,
                                finished,
                                server,
                            },
                            Next::Wait,
                        )
                    }
                }
            };
            match step {
                Step::On(state) => self.state = state,
                Step::Rest(state, next) => {
                    self.state = state;
                    return next;
                }
                Step::Wrong(current, error) => {
                    self.give_up(now, Some(current), error, log);
                    return Next::Abort;
                }
            }
        }
    }

    fn failed(&mut self, now: Instant, error: ExchangeError, log: &mut Log) {
        let current = match std::mem::replace(&mut self.state, State::Between) {
            State::Between => None,
            State::Writing { current, .. }
            | State::Head(current)
            | State::Body { current, .. }
            | State::Ending { current, .. } => Some(current),
        };
        self.give_up(now, current, error, log);
    }
}

#[cfg(test)]
mod tests;
