//! Connections that wait to be accepted.

use std::collections::VecDeque;
use std::fmt;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, SocketAddrV4};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use super::pipe::{Notices, Shared};
use super::{Ended, Socket, SocketLimits};

/// Tasks that wait at one listening socket.
const WAKERS: usize = 256;

pub(super) fn listen(limits: SocketLimits) -> (Listener, Backlog) {
    let limits = SocketLimits {
        receive: limits.receive.max(1),
        send: limits.send.max(1),
        backlog: limits.backlog.max(1),
    };
    let door = Arc::new(Door {
        limits,
        queue: Mutex::default(),
    });
    let listener = Listener {
        open: Arc::new(Open {
            door: Arc::clone(&door),
        }),
    };
    (listener, Backlog { door })
}

/// What the two sides share.
struct Door {
    limits: SocketLimits,
    queue: Mutex<Queue>,
}

#[derive(Default)]
struct Queue {
    waiting: VecDeque<Arc<Shared>>,
    /// Tasks that accept.
    wakers: Vec<Waker>,
    /// No listener is left.
    closed: bool,
    /// The engine has ended.
    stopped: bool,
    address: Option<SocketAddrV4>,
    notices: Option<Arc<Notices>>,
}

impl Door {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The application's side of a listening socket. Clones accept from one queue: all tasks that wait are woken, one gets the
/// connection.
///
/// When the last clone is dropped, the server is not selected for the service any more, and connections that nobody has accepted
/// go to other servers.
#[derive(Clone)]
pub struct Listener {
    open: Arc<Open>,
}

/// Closes the queue when the last listener is gone.
struct Open {
    door: Arc<Door>,
}

impl Listener {
    /// The next connection.
    ///
    /// # Errors
    /// [`Ended::Stopped`]: the engine has ended.
    pub fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<Socket>> {
        let mut queue = self.open.door.lock();
        if let Some(shared) = queue.waiting.pop_front() {
            drop(queue);
            return Poll::Ready(Ok(Socket::new(shared)));
        }
        if queue.stopped {
            return Poll::Ready(Err(Ended::Stopped.into()));
        }
        let waker = context.waker();
        if queue.wakers.iter().any(|known| known.will_wake(waker)) {
            return Poll::Pending;
        }
        // Some may be of tasks that do not wait any more: those that do come again.
        let crowd = match queue.wakers.len() < WAKERS {
            true => Vec::new(),
            false => std::mem::take(&mut queue.wakers),
        };
        queue.wakers.push(waker.clone());
        drop(queue);
        crowd.into_iter().for_each(Waker::wake);
        Poll::Pending
    }

    /// The listening socket's address, as the device's configuration has it.
    ///
    /// # Errors
    /// [`ErrorKind::NotConnected`]: it was not given to an engine yet.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        let address = self.open.door.lock().address;
        let not_yet = || io::Error::new(ErrorKind::NotConnected, "no engine has it yet");
        address.map(SocketAddr::from).ok_or_else(not_yet)
    }
}

impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let address = self.open.door.lock().address;
        f.debug_struct("Listener")
            .field("address", &address)
            .finish_non_exhaustive()
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut queue = self.door.lock();
        queue.closed = true;
        let notices = queue.notices.clone();
        drop(queue);
        if let Some(notices) = notices {
            notices.tell(Backlog::GONE);
        }
    }
}

/// The engine's side of a listening socket.
pub struct Backlog {
    door: Arc<Door>,
}

impl Backlog {
    /// By this key the engine is told that a listener has gone.
    pub(crate) const GONE: usize = usize::MAX;

    /// The engine has it, for the listening socket at `address`.
    pub(crate) fn begin(&self, address: SocketAddrV4, notices: &Arc<Notices>) {
        let mut queue = self.door.lock();
        queue.address = Some(address);
        queue.notices = Some(Arc::clone(notices));
    }

    pub(crate) fn limits(&self) -> SocketLimits {
        self.door.limits
    }

    /// No listener is left.
    pub(crate) fn is_closed(&self) -> bool {
        self.door.lock().closed
    }

    /// A connection waits to be accepted; `false`: there is no room, or nobody.
    pub(crate) fn push(&self, shared: Arc<Shared>) -> bool {
        let mut queue = self.door.lock();
        if queue.closed || queue.waiting.len() >= self.door.limits.backlog {
            return false;
        }
        queue.waiting.push_back(shared);
        let wakers = std::mem::take(&mut queue.wakers);
        drop(queue);
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    /// Takes back what nobody has accepted, once nobody can.
    pub(crate) fn forsaken(&self) -> VecDeque<Arc<Shared>> {
        let mut queue = self.door.lock();
        match queue.closed {
            true => std::mem::take(&mut queue.waiting),
            false => VecDeque::new(),
        }
    }
}

impl fmt::Debug for Backlog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Backlog").finish_non_exhaustive()
    }
}

impl Drop for Backlog {
    fn drop(&mut self) {
        let mut queue = self.door.lock();
        queue.stopped = true;
        let wakers = std::mem::take(&mut queue.wakers);
        drop(queue);
        wakers.into_iter().for_each(Waker::wake);
    }
}
