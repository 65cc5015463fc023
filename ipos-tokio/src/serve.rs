//! `axum::serve` over a device's listening socket.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::ops::Deref;

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use ipos_engine::socket::Connection;

use crate::{Listener, Stream};

/// The connection of a request, for handlers: `ConnectInfo<Peer>` with
/// [`into_make_service_with_connect_info`](axum::Router::into_make_service_with_connect_info).
#[derive(Clone, Debug)]
pub struct Peer(pub Connection);

impl Deref for Peer {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl Connected<IncomingStream<'_, Listener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Listener>) -> Peer {
        Peer(stream.io().connection().clone())
    }
}

impl axum::serve::Listener for Listener {
    type Io = Stream;
    type Addr = SocketAddr;

    /// Once the engine has ended there is no connection to come, and this waits for ever: end such a server with its engine, as the
    /// [crate's example](crate) does.
    async fn accept(&mut self) -> (Stream, SocketAddr) {
        match Listener::accept(self).await {
            Ok(accepted) => accepted,
            Err(_) => pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Listener::local_addr(self)
    }
}
