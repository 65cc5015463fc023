//! One endpoint and its application's socket: the two directions.

use std::collections::VecDeque;
use std::sync::Arc;
use std::task::Waker;

use ipos_core::{Device, Endpoint, EndpointId, Instant, ListenerId};
use ipos_http::Exchange;

use crate::bridge::TURN;
use crate::socket::{Pipe, Shared, Wish};

/// One endpoint and its application's socket.
pub(super) struct Joint {
    pub(super) endpoint: EndpointId,
    pub(super) listener: ListenerId,
    pub(super) shared: Arc<Shared>,
    /// Bytes that lie in the socket already and in the endpoint still: until it is accepted the connection may go to another
    /// server with them.
    lent: usize,
    /// The client's end of stream was passed on.
    client_done: bool,
    /// The application's was.
    application_done: bool,
    /// What the two have said to each other.
    exchange: Exchange,
    /// When something last passed.
    pub(super) last: Instant,
    pub(super) queued: bool,
}

/// How far a connection came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Progress {
    /// Nothing to do until somebody tells.
    Waiting,
    /// The allowance is used up, not the work.
    More,
    /// Both directions are finished, or the application has closed.
    Finished,
    /// The client gets RST.
    Failed,
    /// The application has closed between two requests, and the next one is there.
    Stale,
}

impl Joint {
    pub(super) fn new(
        endpoint: EndpointId,
        listener: ListenerId,
        shared: Arc<Shared>,
        now: Instant,
    ) -> Joint {
        Joint {
            endpoint,
            listener,
            shared,
            lent: 0,
            client_done: false,
            application_done: false,
            exchange: Exchange::new(),
            last: now,
            queued: false,
        }
    }

    /// Another socket takes the place of one that the application has closed between two requests.
    pub(super) fn renew(&mut self) {
        self.shared.end(None);
        self.shared = Arc::new(self.shared.again());
        self.exchange = Exchange::new();
    }

    /// Gives the memory of buffers back that were not used for a while. Whether the application has let go of the socket.
    pub(super) fn look_after(&self) -> bool {
        let mut pipe = self.shared.lock();
        if !std::mem::take(&mut pipe.busy) {
            let Pipe {
                inbound, outbound, ..
            } = &mut *pipe;
            for buffer in [inbound, outbound] {
                if buffer.is_empty() {
                    *buffer = VecDeque::new();
                }
            }
        }
        pipe.dropped
    }

    /// Moves what can be moved, both ways.
    pub(super) fn pump(
        &mut self,
        device: &mut Device,
        now: Instant,
        allowance: &mut usize,
    ) -> Progress {
        let Some(mut endpoint) = device.endpoint(now, self.endpoint) else {
            return Progress::Failed;
        };
        let shared = Arc::clone(&self.shared);
        let mut pipe = shared.lock();
        pipe.noticed = false;
        let before = (pipe.inbound.len(), pipe.outbound.len(), pipe.client_done);
        let progress = match pipe.accepted {
            true => self.exchange_bytes(&mut endpoint, &mut pipe, allowance),
            false => self.lend(&endpoint, &mut pipe),
        };
        if (pipe.inbound.len(), pipe.outbound.len(), pipe.client_done) != before {
            pipe.busy = true;
            self.last = now;
        }
        let heard = pipe.inbound.len() > before.0 || pipe.client_done != before.2;
        let reader = pipe.reader.take_if(|_| heard);
        // Half of it at least, or writers would wake for a few bytes.
        let room = pipe.outbound.len() <= shared.limits.send / 2;
        let writer = pipe.writer.take_if(|_| room);
        drop(pipe);
        [reader, writer].into_iter().flatten().for_each(Waker::wake);
        progress
    }

    /// What has come so far is there when the socket is accepted.
    fn lend(&mut self, endpoint: &Endpoint<'_>, pipe: &mut Pipe) -> Progress {
        let more = endpoint.readable().get(self.lent..).unwrap_or_default();
        let room = self.shared.limits.receive - pipe.inbound.len();
        let more = more.get(..room).unwrap_or(more);
        self.exchange.handle_request(more);
        pipe.inbound.extend(more);
        self.lent += more.len();
        Progress::Waiting
    }

    fn exchange_bytes(
        &mut self,
        endpoint: &mut Endpoint<'_>,
        pipe: &mut Pipe,
        allowance: &mut usize,
    ) -> Progress {
        if pipe.aborted && pipe.dropped {
            return Progress::Failed;
        }
        match std::mem::take(&mut self.lent) {
            0 => {}
            lent => endpoint.consume(lent),
        }
        if let Some(wish) = pipe.wish.take() {
            pipe.refusal = move_endpoint(endpoint, &wish).err();
        }
        let at_rest = self.is_at_rest(pipe);
        if at_rest && !self.application_done && endpoint.writable() == 0 {
            // Perhaps it is on offer to another server: the next request goes with it.
            endpoint.want_writable();
            return Progress::Waiting;
        }
        if pipe.dropped {
            if !pipe.inbound.is_empty() {
                return Progress::Failed;
            }
            if at_rest && pipe.outbound.is_empty() && !endpoint.readable().is_empty() {
                return Progress::Stale;
            }
        }
        let mut more = false;
        if !pipe.dropped {
            more |= self.feed_application(endpoint, pipe, allowance);
        }
        more |= self.feed_client(endpoint, pipe, allowance);
        let at_rest = self.is_at_rest(pipe);
        let open = !self.client_done && !pipe.shut && !pipe.dropped;
        let drained = pipe.inbound.is_empty() && pipe.outbound.is_empty();
        endpoint.set_quiet(open && drained && at_rest && endpoint.readable().is_empty());
        pipe.tell_unread = match (endpoint.readable().is_empty(), at_rest) {
            (false, _) => Some(self.shared.limits.receive / 2),
            (true, true) if !pipe.inbound.is_empty() => Some(0),
            (true, _) => None,
        };
        match pipe.outbound.is_empty() {
            true if pipe.dropped => Progress::Finished,
            true if self.client_done && self.application_done => Progress::Finished,
            _ if more => Progress::More,
            _ => Progress::Waiting,
        }
    }

    /// Whether a fresh instance of the application could go on.
    fn is_at_rest(&self, pipe: &Pipe) -> bool {
        self.exchange.is_at_rest() || pipe.rest
    }

    /// Bytes, then the end of the stream, from the client to the application; whether the allowance ended it.
    fn feed_application(
        &mut self,
        endpoint: &mut Endpoint<'_>,
        pipe: &mut Pipe,
        allowance: &mut usize,
    ) -> bool {
        let mut turn = TURN.min(*allowance);
        while !self.client_done {
            let bytes = endpoint.readable();
            if bytes.is_empty() {
                self.client_done = endpoint.is_finished();
                pipe.client_done = self.client_done;
                break;
            }
            let room = self
                .shared
                .limits
                .receive
                .saturating_sub(pipe.inbound.len());
            if room == 0 {
                break;
            }
            if turn == 0 {
                return true;
            }
            let taken = bytes.len().min(room).min(turn);
            let bytes = bytes.get(..taken).unwrap_or_default();
            self.exchange.handle_request(bytes);
            pipe.inbound.extend(bytes);
            pipe.rest = false;
            endpoint.consume(taken);
            turn -= taken;
            *allowance -= taken;
        }
        false
    }

    /// Bytes, then the end of the stream, from the application to the client; whether the allowance ended it.
    fn feed_client(
        &mut self,
        endpoint: &mut Endpoint<'_>,
        pipe: &mut Pipe,
        allowance: &mut usize,
    ) -> bool {
        let mut turn = TURN.min(*allowance);
        loop {
            let (bytes, _) = pipe.outbound.as_slices();
            if bytes.is_empty() {
                break;
            }
            let room = endpoint.writable();
            if room == 0 {
                endpoint.want_writable();
                return false;
            }
            if turn == 0 {
                return true;
            }
            let some = bytes.get(..room.min(turn)).unwrap_or(bytes);
            let taken = endpoint.write(some);
            if taken == 0 {
                return false;
            }
            self.exchange
                .handle_response(some.get(..taken).unwrap_or(some));
            pipe.outbound.drain(..taken);
            turn -= taken;
            *allowance -= taken;
        }
        if pipe.shut && !std::mem::replace(&mut self.application_done, true) {
            endpoint.shutdown();
        }
        false
    }
}

/// Asks the device to move the endpoint at its next quiet point.
fn move_endpoint(endpoint: &mut Endpoint<'_>, wish: &Wish) -> Result<(), ipos_core::MigrateError> {
    match wish {
        Wish::Any => endpoint.migrate(None),
        Wish::To(server) => endpoint.migrate(Some(server)),
        Wish::Among(servers) => {
            let servers: Vec<&str> = servers.iter().map(String::as_str).collect();
            endpoint.migrate_among(&servers)
        }
    }
}
