//! One connection of a client.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use ipos_core::Instant;
use smoltcp::iface::{SocketHandle, SocketSet};
use smoltcp::socket::tcp;

use super::Job;
use crate::ports::TWO_MSL;
use crate::script::{Connection, ExchangeError, Log};
use crate::stream::{Next, Stream};
use crate::wire::Socket;

/// The local port of a connection, and its server.
pub(super) type Ends = (u16, SocketAddrV4);

/// A connection.
pub(super) struct Talk {
    pub(super) sockets: SocketSet<'static>,
    pub(super) handle: SocketHandle,
    pub(super) job: Option<Job>,
    pub(super) server: SocketAddrV4,
    pub(super) phase: Phase,
    pub(super) opened: Instant,
    /// When its client loses patience.
    pub(super) deadline: Instant,
    /// When the script wants to be polled.
    pub(super) wake: Option<Instant>,
    /// Its entry in [`Client::due`].
    pub(super) due: Option<Instant>,
    /// Since when it is in TIME-WAIT.
    pub(super) waits: Option<Instant>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// Waiting for an ARP reply, until the next request.
    Resolving(Instant),
    /// SYN sent.
    Opening,
    /// The script goes on.
    Open,
    /// The script is over.
    Closing,
}

impl Talk {
    pub(super) fn connection(&self, client: Ipv4Addr, port: u16) -> Connection {
        Connection {
            client: SocketAddrV4::new(client, port),
            server: self.server,
        }
    }

    /// Whether it has been in TIME-WAIT for as long as it may.
    pub(super) fn has_waited(&mut self, now: Instant, most: Option<Duration>) -> bool {
        let socket = self.sockets.get::<tcp::Socket>(self.handle);
        if socket.state() != tcp::State::TimeWait {
            return false;
        }
        let since = *self.waits.get_or_insert(now);
        most.is_some_and(|most| since + most <= now)
    }

    /// Ends the script, if it goes on.
    pub(super) fn fail(&mut self, now: Instant, error: ExchangeError, log: &mut Log) {
        if let Some(mut job) = self.job.take() {
            job.script.failed(now, error, log);
        }
    }

    /// Polls the script.
    pub(super) fn converse(&mut self, now: Instant, log: &mut Log) {
        let socket = self.sockets.get_mut::<tcp::Socket>(self.handle);
        match (self.phase, socket.state()) {
            (Phase::Opening, tcp::State::Closed) => {
                self.fail(now, ExchangeError::Refused, log);
                self.phase = Phase::Closing;
                return;
            }
            (Phase::Opening, tcp::State::SynSent) | (Phase::Resolving(_) | Phase::Closing, _) => {
                return;
            }
            (Phase::Opening | Phase::Open, _) => self.phase = Phase::Open,
        }
        let Some(job) = &mut self.job else { return };
        let next = job.script.poll(now, &mut Socket(socket), log);
        self.wake = None;
        match next {
            Next::Close => socket.close(),
            Next::Abort => socket.abort(),
            Next::Wait | Next::Until(_) => {
                // The script has seen what there was, and does not know that nothing will come or go any more.
                let over = Socket(&mut *socket).readable().is_empty();
                if socket.state() == tcp::State::Closed && over {
                    self.fail(now, ExchangeError::Reset, log);
                    self.phase = Phase::Closing;
                } else if let Next::Until(at) = next {
                    self.wake = Some(at);
                }
                return;
            }
        }
        self.phase = Phase::Closing;
        self.deadline = self.deadline.max(now + TWO_MSL);
        self.job = None;
    }
}
