//! What one connection's application and the engine share.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, IoSlice, Read};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Poll, Waker};

use ipos_core::{Flow, MigrateError, Origin};

use super::{Ended, SocketLimits};

/// Which connections the engine shall look at: each at most once until it has.
#[derive(Debug)]
pub(crate) struct Notices {
    keys: Mutex<Vec<usize>>,
    waker: Arc<mio::Waker>,
}

impl Notices {
    /// None yet; the first of a turn calls `waker`.
    pub(crate) fn new(waker: Arc<mio::Waker>) -> Notices {
        Notices {
            keys: Mutex::default(),
            waker,
        }
    }

    /// The engine shall look at `key`.
    pub(crate) fn tell(&self, key: usize) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        keys.push(key);
        let first = keys.len() == 1;
        drop(keys);
        if first && let Err(error) = self.waker.wake() {
            tracing::error!(%error, "cannot wake the engine");
        }
    }

    /// Takes all of them, in exchange for an empty list.
    pub(crate) fn take(&self, told: &mut Vec<usize>) {
        let mut keys = self.keys.lock().unwrap_or_else(PoisonError::into_inner);
        std::mem::swap(&mut *keys, told);
    }
}

/// Where a connection shall move.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Any,
    To(String),
    Among(Vec<String>),
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) flow: Flow,
    pub(crate) origin: Origin,
    pub(crate) limits: SocketLimits,
    key: usize,
    notices: Arc<Notices>,
    pipe: Mutex<Pipe>,
}

/// The two directions of a connection, and how far each side is with it.
#[derive(Debug, Default)]
pub(crate) struct Pipe {
    /// From the client.
    pub(crate) inbound: VecDeque<u8>,
    /// To the client.
    pub(crate) outbound: VecDeque<u8>,
    /// Nothing follows `inbound`.
    pub(crate) client_done: bool,
    /// Nothing follows `outbound`.
    pub(crate) shut: bool,
    /// The application has let go of the socket.
    pub(crate) dropped: bool,
    /// And wants RST.
    pub(crate) aborted: bool,
    /// The application has the socket.
    pub(crate) accepted: bool,
    /// The application says that it is between two requests.
    pub(crate) rest: bool,
    /// Why it is over.
    pub(crate) ended: Option<Ended>,
    /// The engine does not look at it any more.
    pub(crate) over: bool,
    pub(crate) wish: Option<Wish>,
    pub(crate) refusal: Option<MigrateError>,
    /// The engine wants to know when no more than this waits to be read.
    pub(crate) tell_unread: Option<usize>,
    /// The engine was told to look.
    pub(crate) noticed: bool,
    /// Bytes have passed since this was last looked at.
    pub(crate) busy: bool,
    pub(crate) reader: Option<Waker>,
    pub(crate) writer: Option<Waker>,
}

impl Shared {
    pub(crate) fn new(
        flow: Flow,
        origin: Origin,
        limits: SocketLimits,
        key: usize,
        notices: Arc<Notices>,
    ) -> Shared {
        Shared {
            flow,
            origin,
            limits,
            key,
            notices,
            pipe: Mutex::default(),
        }
    }

    /// Another socket for the same connection.
    pub(crate) fn again(&self) -> Shared {
        let notices = Arc::clone(&self.notices);
        Shared::new(self.flow, self.origin, self.limits, self.key, notices)
    }

    /// By which the engine knows it.
    pub(crate) fn key(&self) -> usize {
        self.key
    }

    /// What a thread that panicked has left is whole: no call into foreign code happens under the lock.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Pipe> {
        self.pipe.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the pipe, and lets the engine look at it.
    fn tell(&self, change: impl FnOnce(&mut Pipe)) {
        let mut pipe = self.lock();
        change(&mut pipe);
        self.notify(pipe);
    }

    fn notify(&self, mut pipe: MutexGuard<'_, Pipe>) {
        let known = pipe.over || std::mem::replace(&mut pipe.noticed, true);
        drop(pipe);
        if !known {
            self.notices.tell(self.key);
        }
    }

    pub(super) fn accept(&self) {
        self.tell(|pipe| pipe.accepted = true);
    }

    pub(super) fn shut(&self) {
        self.tell(|pipe| pipe.shut = true);
    }

    pub(super) fn abort(&self) {
        self.lock().aborted = true;
    }

    pub(super) fn close(&self) {
        self.tell(|pipe| {
            pipe.dropped = true;
            pipe.reader = None;
            pipe.writer = None;
        });
    }

    pub(super) fn wish(&self, wish: Wish) {
        self.tell(|pipe| {
            pipe.wish = Some(wish);
            pipe.refusal = None;
        });
    }

    pub(super) fn rest(&self) {
        self.tell(|pipe| pipe.rest = pipe.inbound.is_empty());
    }

    /// It is over: nothing more comes from the engine.
    pub(crate) fn end(&self, ended: Option<Ended>) {
        let mut pipe = self.lock();
        pipe.over = true;
        if ended.is_some() {
            pipe.ended = ended;
            pipe.outbound = VecDeque::new();
        }
        let wakers = [pipe.reader.take(), pipe.writer.take()];
        drop(pipe);
        wakers.into_iter().flatten().for_each(Waker::wake);
    }

    pub(super) fn read(&self, waker: &Waker, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut pipe = self.lock();
        if pipe.inbound.is_empty() && !buffer.is_empty() {
            if let Some(ended) = &pipe.ended {
                return Poll::Ready(Err(ended.clone().into()));
            }
            if pipe.client_done {
                return Poll::Ready(Ok(0));
            }
            keep(&mut pipe.reader, waker);
            return Poll::Pending;
        }
        let mut read = 0;
        // The queue lies in two parts at most.
        for _ in 0..2 {
            let rest = buffer.get_mut(read..).unwrap_or_default();
            read += pipe.inbound.read(rest)?;
        }
        if pipe
            .tell_unread
            .is_some_and(|most| pipe.inbound.len() <= most)
        {
            pipe.tell_unread = None;
            self.notify(pipe);
        }
        Poll::Ready(Ok(read))
    }

    pub(super) fn write(&self, waker: &Waker, buffers: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let mut pipe = self.lock();
        if let Some(ended) = &pipe.ended {
            return Poll::Ready(Err(ended.clone().into()));
        }
        if pipe.shut {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        let before = pipe.outbound.len();
        let room = self.limits.send.saturating_sub(before);
        if room == 0 && buffers.iter().any(|buffer| !buffer.is_empty()) {
            keep(&mut pipe.writer, waker);
            return Poll::Pending;
        }
        for buffer in buffers {
            let left = room - (pipe.outbound.len() - before);
            let some = buffer.get(..left).unwrap_or(buffer);
            pipe.outbound.extend(some);
        }
        let written = pipe.outbound.len() - before;
        if written > 0 {
            pipe.rest = false;
            pipe.busy = true;
        }
        // Where something waited the engine knows already.
        if before == 0 && written > 0 {
            self.notify(pipe);
        }
        Poll::Ready(Ok(written))
    }
}

fn keep(place: &mut Option<Waker>, waker: &Waker) {
    match place {
        Some(kept) => kept.clone_from(waker),
        None => *place = Some(waker.clone()),
    }
}
