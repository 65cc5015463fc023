//! What an application and a client's script see of a connection.

use ipos_core::{Endpoint, Instant};

/// A connection's two byte streams, without blocking.
///
/// It is an [`Endpoint`] of a device on a server, and a socket of an independent TCP on a client.
pub trait Stream {
    /// In-order bytes that wait. May be less than all: consume and ask again. Empty: nothing now.
    fn readable(&mut self) -> &[u8];

    /// The first `n` readable bytes have been taken.
    fn consume(&mut self, n: usize);

    /// The peer has closed its direction, and every byte before that was consumed.
    fn is_finished(&mut self) -> bool;

    /// Takes as much of `data` as there is room for, and says how much. After it took less than all,
    /// the caller is polled again when there is room.
    fn write(&mut self, data: &[u8]) -> usize;

    /// No more writes: the peer sees the end after what was written. Reading goes on (half close).
    fn shutdown(&mut self);

    /// The application is between two requests, so that another instance of it could go on ([`Endpoint::set_quiet`]).
    /// Nothing for a client.
    fn set_quiet(&mut self, quiet: bool) {
        let _ = quiet;
    }
}

/// What an application or a script wants after a poll.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// To be polled when bytes, the end of the peer's stream, or room came.
    Wait,
    /// The same, and at this moment at the latest.
    Until(Instant),
    /// The connection is to be closed in order, after what was written. The conversation is over.
    Close,
    /// The connection is to be reset. The conversation is over.
    Abort,
}

impl Stream for Endpoint<'_> {
    fn readable(&mut self) -> &[u8] {
        Endpoint::readable(self)
    }

    fn consume(&mut self, n: usize) {
        Endpoint::consume(self, n);
    }

    fn is_finished(&mut self) -> bool {
        Endpoint::is_finished(self)
    }

    fn write(&mut self, data: &[u8]) -> usize {
        Endpoint::write(self, data)
    }

    fn shutdown(&mut self) {
        Endpoint::shutdown(self);
    }

    fn set_quiet(&mut self, quiet: bool) {
        Endpoint::set_quiet(self, quiet);
    }
}

/// A stream of two vectors, to test conversations without a network.
#[cfg(test)]
pub(crate) mod memory {
    use super::Stream;

    #[derive(Default)]
    pub(crate) struct Memory {
        pub(crate) input: Vec<u8>,
        pub(crate) ended: bool,
        pub(crate) output: Vec<u8>,
        /// Bytes that the next writes take, together.
        pub(crate) room: usize,
        pub(crate) shut: bool,
    }

    impl Stream for Memory {
        fn readable(&mut self) -> &[u8] {
            // A ring buffer's front part: never all at once.
            &self.input[..self.input.len().min(1000)]
        }

        fn consume(&mut self, n: usize) {
            self.input.drain(..n);
        }

        fn is_finished(&mut self) -> bool {
            self.ended && self.input.is_empty()
        }

        fn write(&mut self, data: &[u8]) -> usize {
            let taken = data.len().min(self.room);
            self.room -= taken;
            self.output.extend_from_slice(&data[..taken]);
            taken
        }

        fn shutdown(&mut self) {
            self.shut = true;
        }
    }
}
