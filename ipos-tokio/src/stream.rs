//! A connection.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use ipos_engine::socket::{Connection, Socket};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::task::coop;

/// A connection of a client. Dropped, it closes as tokio's `TcpStream` does.
#[derive(Debug)]
pub struct Stream {
    socket: Socket,
}

impl From<Socket> for Stream {
    fn from(socket: Socket) -> Stream {
        Stream { socket }
    }
}

impl Stream {
    /// The client.
    pub fn peer_addr(&self) -> SocketAddr {
        self.socket.peer_addr()
    }

    /// The address that the client connected to: of the server that it reached first.
    pub fn local_addr(&self) -> SocketAddr {
        self.socket.local_addr()
    }

    /// What request handlers may hold: by it the connection moves to another server.
    pub fn connection(&self) -> &Connection {
        self.socket.connection()
    }

    /// RST in place of an orderly close.
    pub fn abort(self) {
        self.socket.abort();
    }

    /// One of tokio's co-operative turns: a task with a busy connection lets others run.
    fn turn<T>(
        &self,
        context: &mut Context<'_>,
        poll: impl FnOnce(&Socket, &mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        let turn = ready!(coop::poll_proceed(context));
        let result = poll(&self.socket, context);
        if result.is_ready() {
            turn.made_progress();
        }
        result
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let read = self.turn(context, |socket, context| {
            socket.poll_read(context, buffer.initialize_unfilled())
        });
        read.map_ok(|read| buffer.advance(read))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.turn(context, |socket, context| {
            socket.poll_write(context, buffer)
        })
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffers: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.turn(context, |socket, context| {
            socket.poll_write_vectored(context, buffers)
        })
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Nothing waits here: the engine sends what was written as soon as it may.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The client sees the end of the stream behind what was written.
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.socket.shutdown();
        Poll::Ready(Ok(()))
    }
}
