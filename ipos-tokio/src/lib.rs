//! tokio over the in-process sockets of an ipOS device ([`ipos_engine::socket`]): what is written for tokio's `TcpListener` and
//! `TcpStream`, hyper and axum among it, serves the clients of a farm from the device's own process.
//!
//! ```text
//!   axum, hyper, your protocol
//!   AsyncRead + AsyncWrite          tokio's threads
//!   ── Listener, Stream ─────────────────────────────
//!   Engine: device, ports           its own thread
//! ```
//!
//! ```
//! use ipos_core::{Config, Device};
//! use ipos_engine::{Engine, Options, Ports, clock};
//! # #[cfg(feature = "axum")]
//! use axum::{Router, extract::ConnectInfo, routing::get};
//! # #[cfg(feature = "axum")]
//! use ipos_tokio::{Peer, SocketLimits};
//!
//! type Error = Box<dyn std::error::Error + Send + Sync>;
//!
//! # #[cfg(feature = "axum")]
//! /// Serves the configuration's only listening socket.
//! async fn serve(config: Config, ports: impl FnOnce() -> Ports + Send + 'static) -> Result<(), Error> {
//!     let (listener, backlog) = ipos_tokio::listen(SocketLimits::default());
//!     let device = tokio::task::spawn_blocking(move || -> Result<(), Error> {
//!         let device = Device::new(config, clock::now())?;
//!         Ok(Engine::new(device, ports(), vec![backlog], Options::default())?.run()?)
//!     });
//!     let images = get(|ConnectInfo(peer): ConnectInfo<Peer>| async move {
//!         // Later requests of this connection are served where the images are.
//!         peer.move_to_any(&["s2", "s3"]);
//!         "an image"
//!     });
//!     let router = Router::new().route("/img", images);
//!     let server = axum::serve(listener, router.into_make_service_with_connect_info::<Peer>());
//!     // A device that has ended brings no connection any more.
//!     tokio::select! {
//!         ended = device => ended?,
//!         served = server.into_future() => Ok(served?),
//!     }
//! }
//! ```
//!
//! A connection that has moved to another server ends with [`Ended::Moved`], an
//! [`io::Error`](std::io::Error) of the kind `ConnectionAborted`; there it is accepted as a new one. hyper takes it for a connection
//! that is over, which it is: nothing of it was left unanswered.

#![forbid(unsafe_code)]

mod listener;
mod stream;

#[cfg(feature = "axum")]
mod serve;

use ipos_engine::socket;

pub use ipos_engine::socket::{Backlog, Ended, SocketLimits};
pub use listener::Listener;
#[cfg(feature = "axum")]
pub use serve::Peer;
pub use stream::Stream;

/// A listening socket: the application's side, and the one for [`Engine::new`](ipos_engine::Engine::new).
pub fn listen(limits: SocketLimits) -> (Listener, Backlog) {
    let (listener, backlog) = socket::listen(limits);
    (listener.into(), backlog)
}
