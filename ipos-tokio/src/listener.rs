//! The listening socket.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};

use ipos_engine::socket;

use crate::Stream;

/// Accepts the connections of a device's listening socket. Clones share them.
#[derive(Clone, Debug)]
pub struct Listener {
    inner: socket::Listener,
}

impl From<socket::Listener> for Listener {
    fn from(inner: socket::Listener) -> Listener {
        Listener { inner }
    }
}

impl Listener {
    /// The next connection, and its client's address. Cancel safe: a connection is taken only when it is returned.
    ///
    /// # Errors
    /// [`Ended::Stopped`](socket::Ended::Stopped): the engine has ended.
    pub async fn accept(&self) -> io::Result<(Stream, SocketAddr)> {
        poll_fn(|context| self.poll_accept(context)).await
    }

    /// As [`Listener::accept`].
    ///
    /// # Errors
    /// As [`Listener::accept`].
    pub fn poll_accept(&self, context: &mut Context<'_>) -> Poll<io::Result<(Stream, SocketAddr)>> {
        self.inner.poll_accept(context).map_ok(|socket| {
            let client = socket.peer_addr();
            (socket.into(), client)
        })
    }

    /// The listening socket's address, as the device's configuration has it.
    ///
    /// # Errors
    /// It was not given to an engine yet.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.inner.local_addr()
    }
}
