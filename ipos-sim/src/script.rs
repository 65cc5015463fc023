//! What a client does with a connection.

use std::net::SocketAddrV4;
use std::time::Duration;

use ipos_core::Instant;
use thiserror::Error;

use crate::stream::{Next, Stream};

/// The behaviour of a client on one connection.
///
/// A script is polled when the connection is open, and then whenever something may have come: bytes,
/// the end of the server's stream, room, or the moment it asked for. It reports each
/// exchange, good or bad, to the [`Log`].
pub trait Script: Send {
    /// Goes on as far as it can, then says what it wants.
    fn poll(&mut self, now: Instant, stream: &mut dyn Stream, log: &mut Log) -> Next;

    /// The connection is over before the script was: whatever it still had to do has failed with `error`.
    fn failed(&mut self, now: Instant, error: ExchangeError, log: &mut Log);
}

/// One request and its response.
#[derive(Clone, Debug, PartialEq)]
pub struct Exchange {
    /// When the client began: for the first one on a connection, to open it.
    pub started: Instant,
    /// When the last byte of the response was there, or the failure.
    pub finished: Instant,
    /// Bytes written by the client.
    pub sent: u64,
    /// Bytes of the response's body.
    pub received: u64,
    /// The server that says it answered, or what went wrong.
    pub result: Result<String, ExchangeError>,
}

impl Exchange {
    /// How long it took.
    pub fn latency(&self) -> Duration {
        self.finished.saturating_since(self.started)
    }
}

/// Why an exchange failed.
#[derive(Clone, Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The server reset the connection before it was open.
    #[error("connection refused")]
    Refused,
    /// The server reset the connection.
    #[error("connection reset")]
    Reset,
    /// The client's deadline passed.
    #[error("deadline passed")]
    TimedOut,
    /// The server closed before the response was whole.
    #[error("closed before the response was whole")]
    Closed,
    /// An earlier exchange on the connection failed.
    #[error("not tried: an earlier exchange on the connection failed")]
    NotTried,
    /// The response's head cannot be read, or lacks the length or the server's name.
    #[error("malformed response head")]
    Malformed,
    /// Not 200.
    #[error("status {0}")]
    Status(u16),
    /// The response's length is not the one asked for.
    #[error("length {actual} instead of {expected}")]
    Length {
        /// Asked for.
        expected: u64,
        /// Announced by the response.
        actual: u64,
    },
    /// A byte of the body is not what the application produced.
    #[error("wrong byte at offset {offset} of the body")]
    Bytes {
        /// Its place in the body.
        offset: u64,
    },
}

/// Exchanges, with the connection on which each took place.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// When the connection was begun.
    opened: Instant,
    flow: Option<Connection>,
    records: Vec<Record>,
}

/// The two ends of a client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Connection {
    /// The client's address and port.
    pub client: SocketAddrV4,
    /// Where the client connected to.
    pub server: SocketAddrV4,
}

/// An exchange and where it took place.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The connection.
    pub connection: Connection,
    /// When it was begun: the client may use the port again.
    pub opened: Instant,
    /// The exchange.
    pub exchange: Exchange,
}

impl Log {
    /// When the connection at hand was begun.
    pub fn opened(&self) -> Instant {
        self.opened
    }

    /// Notes an exchange on the connection at hand.
    pub fn push(&mut self, exchange: Exchange) {
        if let Some(connection) = self.flow {
            self.records.push(Record {
                connection,
                opened: self.opened,
                exchange,
            });
        }
    }

    /// All exchanges so far.
    pub fn records(&self) -> &[Record] {
        &self.records
    }

    /// What follows belongs to `connection`.
    pub(crate) fn on(&mut self, connection: Connection, opened: Instant) -> &mut Log {
        self.flow = Some(connection);
        self.opened = opened;
        self
    }
}
