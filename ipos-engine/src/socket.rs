//! Sockets of applications that live in the device's own process (FIG. 13): listen, accept, read, write, shut down, close.
//!
//! ```text
//!   application's threads                              the engine's thread
//!   Listener::poll_accept  <-- connections that wait --<
//!   Socket::poll_read      <-- bytes of the client  ---<  endpoint (the device's TCP) <==> client
//!   Socket::poll_write     >-- bytes for the client --->
//! ```
//!
//! Nothing blocks: what cannot go on keeps the caller's [`Waker`](std::task::Waker), and any runtime may drive it; the crate
//! `ipos-tokio` does with tokio's traits. Between the threads lie two bounded buffers for each connection, so that back-pressure
//! passes both ways: what the application does not read stays in the endpoint, whose window closes; what the client does not
//! take fills the buffer, and writes wait.
//!
//! A connection may move to another server while it rests between two requests. Here the socket then ends with
//! [`Ended::Moved`]; there the listener accepts it as a new connection, and the next request is the first thing that is read.
//! HTTP/1.x is followed by the engine; an application of another protocol tells by [`Connection::rest`] when it is at rest.

mod listener;
mod pipe;

use std::fmt;
use std::io::{self, ErrorKind, IoSlice};
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use ipos_core::{Flow, MigrateError, Origin};

pub use listener::{Backlog, Listener};
pub(crate) use pipe::{Notices, Pipe, Shared, Wish};

/// Bounds of one listening socket and of each of its connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketLimits {
    /// Bytes of the client that wait for the application, besides those in the endpoint. Full: the window closes.
    pub receive: usize,
    /// Bytes of the application that wait for the endpoint. Full: writes wait.
    pub send: usize,
    /// Connections that wait to be accepted. Full: they are offered to other servers until there is room, and reset in the
    /// end ([`Options::patience`](crate::Options::patience)).
    pub backlog: usize,
}

impl Default for SocketLimits {
    /// 64 KiB, 64 KiB, 1024.
    fn default() -> SocketLimits {
        SocketLimits {
            receive: 64 * 1024,
            send: 64 * 1024,
            backlog: 1024,
        }
    }
}

/// A listening socket: the application's side, and the one for [`Engine::new`](crate::Engine::new).
pub fn listen(limits: SocketLimits) -> (Listener, Backlog) {
    listener::listen(limits)
}

/// Why a connection is over before both sides have closed it. It comes as the inner error of an [`io::Error`]:
///
/// ```
/// use ipos_engine::socket::Ended;
///
/// fn server(error: &std::io::Error) -> Option<&str> {
///     match error.get_ref()?.downcast_ref()? {
///         Ended::Moved { to } => Some(to),
///         _ => None,
///     }
/// }
///
/// let error = std::io::Error::from(Ended::Moved { to: "s2".to_owned() });
/// assert_eq!(error.kind(), std::io::ErrorKind::ConnectionAborted);
/// assert_eq!(server(&error), Some("s2"));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Ended {
    /// The client has sent RST: [`ErrorKind::ConnectionReset`].
    #[error("the client has reset the connection")]
    Reset,
    /// The client does not answer: [`ErrorKind::TimedOut`].
    #[error("the client does not answer")]
    TimedOut,
    /// The connection lives, and belongs to another server: [`ErrorKind::ConnectionAborted`].
    #[error("the connection has moved to server {to}")]
    Moved {
        /// The server's name.
        to: String,
    },
    /// The engine has ended, or the deadline of its drain has passed: [`ErrorKind::NetworkDown`].
    #[error("the device has stopped")]
    Stopped,
}

impl From<Ended> for io::Error {
    fn from(ended: Ended) -> io::Error {
        let kind = match ended {
            Ended::Reset => ErrorKind::ConnectionReset,
            Ended::TimedOut => ErrorKind::TimedOut,
            Ended::Moved { .. } => ErrorKind::ConnectionAborted,
            Ended::Stopped => ErrorKind::NetworkDown,
        };
        io::Error::new(kind, ended)
    }
}

/// A connection of a client.
///
/// Dropped, it closes as a host's socket does: what was written still goes out, then FIN; bytes of the client that were not read
/// are answered with RST in place of all that.
pub struct Socket {
    connection: Connection,
}

impl Socket {
    fn new(shared: Arc<Shared>) -> Socket {
        shared.accept();
        Socket {
            connection: Connection { shared },
        }
    }

    /// The client.
    pub fn peer_addr(&self) -> SocketAddr {
        self.connection.peer_addr()
    }

    /// The address that the client connected to: of the server that it reached first.
    pub fn local_addr(&self) -> SocketAddr {
        self.connection.local_addr()
    }

    /// What request handlers may hold.
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Reads into `buffer`; 0: the client has closed its side. One task reads at a time: the last one is woken.
    ///
    /// # Errors
    /// [`Ended`], once everything that had come was read.
    pub fn poll_read(
        &self,
        context: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.shared().read(context.waker(), buffer)
    }

    /// Takes as much of `buffer` as there is room for. One task writes at a time: the last one is woken.
    ///
    /// # Errors
    /// [`Ended`]; [`ErrorKind::BrokenPipe`] after [`Socket::shutdown`].
    pub fn poll_write(&self, context: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(context, &[IoSlice::new(buffer)])
    }

    /// As [`Socket::poll_write`], of several buffers.
    ///
    /// # Errors
    /// As [`Socket::poll_write`].
    pub fn poll_write_vectored(
        &self,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.shared().write(context.waker(), buffers)
    }

    /// No more writes: the client sees the end of the stream behind what was written. Reading goes on.
    pub fn shutdown(&self) {
        self.shared().shut();
    }

    /// RST in place of an orderly close.
    pub fn abort(self) {
        self.shared().abort();
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.connection.shared
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.shared().close();
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Socket").field(&self.shared().flow).finish()
    }
}

/// Refers to a connection, without keeping it open: who the client is, and the wish that it moves.
#[derive(Clone)]
pub struct Connection {
    shared: Arc<Shared>,
}

impl Connection {
    /// The connection's flow.
    pub fn flow(&self) -> Flow {
        self.shared.flow
    }

    /// How it came to this server.
    pub fn origin(&self) -> Origin {
        self.shared.origin
    }

    /// The client.
    pub fn peer_addr(&self) -> SocketAddr {
        self.shared.flow.client.into()
    }

    /// The address that the client connected to: of the server that it reached first.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.flow.endpoint.into()
    }

    /// The connection shall move to the server named `server` at its next quiet point: every request is answered, the client has
    /// acknowledged the answers, and nothing of the next request was read. Then the socket ends with [`Ended::Moved`]. A server
    /// that is not there, or does not take it, leaves it here ([`Connection::refusal`]). A later wish takes the place of this one.
    pub fn move_to(&self, server: &str) {
        self.shared.wish(Wish::To(server.to_owned()));
    }

    /// As [`Connection::move_to`], to one of `servers`, such as those of a request's type: the balancing policy selects among those
    /// that live. Where that is this server the connection stays.
    pub fn move_to_any<S: AsRef<str>>(&self, servers: &[S]) {
        let servers = servers.iter().map(|server| server.as_ref().to_owned());
        self.shared.wish(Wish::Among(servers.collect()));
    }

    /// As [`Connection::move_to`], to the server that selection finds for the next request.
    pub fn move_on(&self) {
        self.shared.wish(Wish::Any);
    }

    /// Why the last wish found no server.
    pub fn refusal(&self) -> Option<MigrateError> {
        self.shared.lock().refusal
    }

    /// For protocols other than HTTP/1.x: everything that was read is answered, and a fresh instance of the application on another
    /// server could go on with the client's next byte. It holds until that comes, or something is written; it is ignored while
    /// something waits to be read.
    pub fn rest(&self) {
        self.shared.rest();
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Connection")
            .field(&self.shared.flow)
            .finish()
    }
}
