//! Connections to applications.

use std::io::{ErrorKind, Result};
use std::net::SocketAddr;

use mio::net::TcpStream;
use mio::{Interest, Registry, Token};

/// Begins to connect.
pub(crate) fn dial(address: SocketAddr, registry: &Registry, token: Token) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(address)?;
    registry.register(&mut socket, token, Interest::READABLE | Interest::WRITABLE)?;
    Ok(socket)
}

/// What became of a connect that has an edge; `None`: the edge was meant for an earlier socket with this token, and the
/// connect goes on.
pub(crate) fn outcome(socket: &TcpStream) -> Option<Result<()>> {
    match (socket.take_error(), socket.peer_addr()) {
        (Ok(None), Ok(_)) => Some(Ok(())),
        (Ok(None), Err(error)) if error.kind() == ErrorKind::NotConnected => None,
        (Ok(Some(error)), _) | (Err(error), _) | (Ok(None), Err(error)) => Some(Err(error)),
    }
}
