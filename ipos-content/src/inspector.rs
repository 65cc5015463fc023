//! What the bytes are, and whether they are enough.

use bitflags::bitflags;

use crate::http1::Head;
use crate::http2::{Frames, PREFACE};
use crate::tls::{HANDSHAKE, HelloGatherer};
use crate::{Hello, Request};

/// Most bytes that are looked at by default: the same as for every head of HTTP/1.x.
pub const REQUEST_MAX: usize = ipos_http::HEAD_MAX;

bitflags! {
    /// What is looked for. Anything else is unknown at once, so that nothing is waited for in vain.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    pub struct Kinds: u8 {
        /// HTTP/1.0 and HTTP/1.1.
        const HTTP1 = 1;
        /// HTTP/2 with prior knowledge (RFC 9113 §3.3).
        const HTTP2 = 1 << 1;
        /// A TLS ClientHello.
        const TLS = 1 << 2;
    }
}

/// Reads what a client sends first on one connection.
///
/// It keeps how far it has come, and is called with all bytes since the connection's first, whenever there are more.
/// Each byte is looked at once until the reading is whole. How the bytes were cut makes no difference to it, nor do
/// those behind the head, and it never changes again. Other bytes than before give a wrong reading, and no panic.
#[derive(Debug)]
pub struct Inspector {
    kinds: Kinds,
    limit: usize,
    state: State,
}

/// What the client's first bytes are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reading<'a> {
    /// It cannot be told yet.
    More,
    /// An HTTP request.
    Request(Request<'a>),
    /// A TLS ClientHello.
    Tls(Hello<'a>),
    /// Something else, malformed, or more than the limit: nothing can be selected by.
    Unknown,
}

/// What was sent cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

#[derive(Debug)]
enum State {
    /// Several kinds may begin like this.
    Start,
    Http1(Head),
    Http2(Frames),
    Tls(HelloGatherer),
    Unknown,
}

impl Inspector {
    /// Looks for these kinds in the first `limit` bytes ([`REQUEST_MAX`]).
    pub fn new(kinds: Kinds, limit: usize) -> Inspector {
        Inspector {
            kinds,
            limit,
            state: State::Start,
        }
    }

    /// Reads `bytes`: all that the client has sent, those of earlier calls first.
    pub fn inspect<'a>(&'a mut self, bytes: &'a [u8]) -> Reading<'a> {
        let bytes = bytes.get(..self.limit).unwrap_or(bytes);
        if let State::Start = self.state {
            self.state = self.begin(bytes);
        }
        let whole = match &mut self.state {
            State::Start => Ok(false),
            State::Http1(head) => head.advance(bytes),
            State::Http2(frames) => frames.advance(bytes, self.limit),
            State::Tls(hello) => hello.advance(bytes, self.limit),
            State::Unknown => Err(Unreadable),
        };
        match whole {
            Ok(true) => self.state.read(bytes).unwrap_or(Reading::Unknown),
            Ok(false) if bytes.len() < self.limit => Reading::More,
            _ => {
                self.state = State::Unknown;
                Reading::Unknown
            }
        }
    }

    /// Whether, after [`Reading::More`], the client may have said all that it says before it hears from the server: one that
    /// speaks HTTP/2 with prior knowledge may wait for SETTINGS before its first request.
    pub fn may_wait_for_server(&self) -> bool {
        matches!(&self.state, State::Http2(frames) if frames.is_paused())
    }

    /// What begins with `bytes`. No method of HTTP begins with a record's first byte.
    fn begin(&self, bytes: &[u8]) -> State {
        let http2 = self.kinds.contains(Kinds::HTTP2);
        match bytes {
            [] => State::Start,
            [HANDSHAKE, ..] if self.kinds.contains(Kinds::TLS) => State::Tls(HelloGatherer::new()),
            _ if http2 && bytes.starts_with(PREFACE) => State::Http2(Frames::new()),
            _ if http2 && PREFACE.starts_with(bytes) => State::Start,
            _ if self.kinds.contains(Kinds::HTTP1) => State::Http1(Head::default()),
            _ => State::Unknown,
        }
    }
}

impl State {
    /// Reads what is whole.
    fn read<'a>(&'a self, bytes: &'a [u8]) -> Result<Reading<'a>, Unreadable> {
        match self {
            State::Http1(head) => head.read(bytes).map(Reading::Request),
            State::Http2(frames) => frames.read().map(Reading::Request),
            State::Tls(hello) => hello.read().map(Reading::Tls),
            State::Start | State::Unknown => Err(Unreadable),
        }
    }
}
