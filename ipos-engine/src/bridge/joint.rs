//! One endpoint and its application's socket: the two directions.

use std::io::{ErrorKind, Read, Write};
use std::net::Shutdown;

use ipos_core::{Device, Endpoint, EndpointId, Instant, ListenerId};
use ipos_http::Exchange;
use mio::net::TcpStream;

use crate::connect;

/// Bytes that one bridge moves in one direction before the next bridge's turn.
pub(crate) const TURN: usize = 64 * 1024;

/// One endpoint and its application's socket.
pub(super) struct Bridge {
    pub(super) endpoint: EndpointId,
    pub(super) listener: ListenerId,
    /// `None`: none could be made, and the bridge is parked.
    pub(super) socket: Option<TcpStream>,
    pub(super) connected: bool,
    /// What the application is told before the client's bytes, and how much of it was.
    header: Vec<u8>,
    told: usize,
    /// Since when the application refuses it: another server takes the endpoint, or the application comes back.
    pub(super) parked: Option<Instant>,
    /// Edges that came and have not met [`ErrorKind::WouldBlock`] since.
    readable: bool,
    writable: bool,
    /// The client's FIN was passed on.
    client_done: bool,
    /// The application's end of stream was passed on.
    pub(super) application_done: bool,
    /// The socket has told of an error that was not looked at.
    error: bool,
    /// What the two have said to each other: where it is at rest, the endpoint may move.
    exchange: Exchange,
    /// When bytes last came from the client, the application closed, or the connect began.
    pub(super) last: Instant,
    pub(super) queued: bool,
}

/// How far a bridge came.
#[derive(Debug)]
pub(super) enum Progress {
    /// Nothing to do until an edge or an event comes.
    Waiting,
    /// The allowance is used up, not the work.
    More,
    /// Both directions are finished.
    Finished,
    /// The application, or the endpoint, failed.
    Failed,
    /// The application could not be reached.
    Refused(std::io::Error),
    /// The application has closed between two requests, and the next one is there.
    Stale,
}

impl Bridge {
    /// No connect has begun.
    pub(super) fn new(endpoint: EndpointId, listener: ListenerId, now: Instant) -> Bridge {
        Bridge {
            endpoint,
            listener,
            socket: None,
            connected: false,
            header: Vec::new(),
            told: 0,
            parked: None,
            readable: false,
            writable: false,
            client_done: false,
            application_done: false,
            error: false,
            exchange: Exchange::new(),
            last: now,
            queued: false,
        }
    }

    /// A connect has begun: the first one, or another one, in the place of one that the application has closed between two
    /// requests, or refused.
    pub(super) fn renew(&mut self, socket: TcpStream, header: Vec<u8>, now: Instant) {
        self.socket = Some(socket);
        self.connected = false;
        self.header = header;
        self.last = now;
        self.told = 0;
        self.parked = None;
        self.readable = false;
        self.writable = false;
        self.error = false;
        self.exchange = Exchange::new();
    }

    /// An edge of the socket.
    pub(super) fn ready(&mut self, event: &mio::event::Event) {
        self.readable |= event.is_readable() || event.is_read_closed() || event.is_error();
        self.writable |= event.is_writable() || event.is_write_closed() || event.is_error();
        self.error |= event.is_error();
    }

    /// Moves what can be moved, both ways.
    pub(super) fn pump(
        &mut self,
        device: &mut Device,
        now: Instant,
        scratch: &mut [u8],
        allowance: &mut usize,
    ) -> Progress {
        if self.parked.is_some() {
            return Progress::Waiting;
        }
        if !self.connected {
            if let Some(progress) = self.connection() {
                return progress;
            }
            self.connected = true;
            if let Some(Err(error)) = self.socket.as_ref().map(|s| s.set_nodelay(true)) {
                tracing::debug!(%error, "TCP_NODELAY");
            }
        }
        if let Some(progress) = self.introduce() {
            return progress;
        }
        let Some(mut endpoint) = device.endpoint(now, self.endpoint) else {
            return Progress::Failed;
        };
        if self.may_be_offered(&endpoint) {
            endpoint.want_writable();
            return Progress::Waiting;
        }
        if self.is_stale(&endpoint) {
            return Progress::Stale;
        }
        let up = self.feed_application(&mut endpoint, now, allowance);
        let down = match up {
            Progress::Failed => Progress::Failed,
            _ => self.feed_client(&mut endpoint, now, scratch, allowance),
        };
        // Nothing is read any more that would bring it to light: the application has gone, and the client still sends.
        if self.application_done && std::mem::take(&mut self.error) && self.is_broken() {
            return Progress::Failed;
        }
        endpoint.set_quiet(self.is_quiet(&endpoint));
        match (up, down) {
            (Progress::Failed, _) | (_, Progress::Failed) => Progress::Failed,
            (Progress::More, _) | (_, Progress::More) => Progress::More,
            _ if self.client_done && self.application_done => Progress::Finished,
            _ => Progress::Waiting,
        }
    }

    /// Whether a fresh instance of the application could go on: all is answered, and nothing waits on either side.
    fn is_quiet(&self, endpoint: &Endpoint<'_>) -> bool {
        let open = !self.client_done && !self.application_done;
        let drained = !self.readable && endpoint.readable().is_empty();
        open && drained && self.exchange.is_at_rest()
    }

    /// Whether the endpoint may be on offer to another server: then nothing is told to the application, for the next
    /// request goes with the endpoint.
    fn may_be_offered(&self, endpoint: &Endpoint<'_>) -> bool {
        !self.application_done && self.exchange.is_at_rest() && endpoint.writable() == 0
    }

    /// Whether the next request has come, and the application has let go of the connection before it. So it is when
    /// its keep-alive time ends while the endpoint is offered to another server: the request waited here.
    fn is_stale(&self, endpoint: &Endpoint<'_>) -> bool {
        self.readable
            && !self.application_done
            && self.exchange.is_at_rest()
            && !endpoint.readable().is_empty()
            && self
                .socket
                .as_ref()
                .is_some_and(|s| match s.peek(&mut [0]) {
                    Ok(waiting) => waiting == 0,
                    Err(error) => error.kind() == ErrorKind::ConnectionReset,
                })
    }

    fn is_broken(&self) -> bool {
        let error = self.socket.as_ref().map(TcpStream::take_error);
        !matches!(error, Some(Ok(None)))
    }

    /// Asks what became of the connect: `None` when the connection is made.
    fn connection(&self) -> Option<Progress> {
        let socket = self.socket.as_ref().filter(|_| self.writable);
        match socket.and_then(connect::outcome) {
            None => Some(Progress::Waiting),
            Some(Ok(())) => None,
            Some(Err(error)) => Some(Progress::Refused(error)),
        }
    }

    /// Tells the application who its client is: `None` when it knows.
    fn introduce(&mut self) -> Option<Progress> {
        let Some(socket) = &mut self.socket else {
            return Some(Progress::Waiting);
        };
        while let Some(rest) = self.header.get(self.told..).filter(|rest| !rest.is_empty()) {
            if !self.writable {
                return Some(Progress::Waiting);
            }
            match socket.write(rest) {
                Ok(taken) => self.told += taken,
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.writable = false,
                    ErrorKind::Interrupted => {}
                    _ => return Some(Progress::Failed),
                },
            }
        }
        None
    }

    /// Bytes, then FIN, from the client to the application.
    fn feed_application(
        &mut self,
        endpoint: &mut Endpoint<'_>,
        now: Instant,
        allowance: &mut usize,
    ) -> Progress {
        let Some(socket) = &mut self.socket else {
            return Progress::Waiting;
        };
        let mut turn = TURN.min(*allowance);
        while !self.client_done {
            let bytes = endpoint.readable();
            if bytes.is_empty() {
                if endpoint.is_finished() {
                    if !self.application_done {
                        // Fails where the application has gone already; reading then tells.
                        let _gone = socket.shutdown(Shutdown::Write);
                    }
                    self.client_done = true;
                }
                break;
            }
            if !self.writable {
                break;
            }
            if turn == 0 {
                return Progress::More;
            }
            let some = bytes.get(..turn).unwrap_or(bytes);
            match socket.write(some) {
                Ok(taken) => {
                    self.exchange
                        .handle_request(some.get(..taken).unwrap_or(some));
                    endpoint.consume(taken);
                    self.last = now;
                    turn -= taken;
                    *allowance -= taken;
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.writable = false,
                    ErrorKind::Interrupted => {}
                    _ => return Progress::Failed,
                },
            }
        }
        Progress::Waiting
    }

    /// Bytes, then FIN, from the application to the client. Never more is read than the endpoint takes.
    fn feed_client(
        &mut self,
        endpoint: &mut Endpoint<'_>,
        now: Instant,
        scratch: &mut [u8],
        allowance: &mut usize,
    ) -> Progress {
        let Some(socket) = &mut self.socket else {
            return Progress::Waiting;
        };
        let mut turn = TURN.min(*allowance);
        while self.readable && !self.application_done {
            let room = endpoint.writable();
            if room == 0 {
                endpoint.want_writable();
                break;
            }
            if turn == 0 {
                return Progress::More;
            }
            let space = room.min(turn).min(scratch.len());
            let Some(scratch) = scratch.get_mut(..space) else {
                return Progress::Failed;
            };
            match socket.read(scratch) {
                Ok(0) => {
                    self.application_done = true;
                    self.last = now;
                    endpoint.shutdown();
                }
                Ok(read) => {
                    let bytes = scratch.get(..read).unwrap_or_default();
                    if endpoint.write(bytes) < read {
                        return Progress::Failed;
                    }
                    self.exchange.handle_response(bytes);
                    turn -= read;
                    *allowance -= read;
                }
                Err(error) => match error.kind() {
                    ErrorKind::WouldBlock => self.readable = false,
                    ErrorKind::Interrupted => {}
                    _ => return Progress::Failed,
                },
            }
        }
        Progress::Waiting
    }
}
