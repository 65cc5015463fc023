//! What a client does.

use std::net::SocketAddrV4;
use std::time::Duration;

use ipos_core::Instant;

use crate::script::Script;

/// One connection to be made, and what to do with it.
pub struct Job {
    /// Where to connect to.
    pub server: SocketAddrV4,
    /// What to do.
    pub script: Box<dyn Script>,
    /// It does not begin earlier.
    pub not_before: Instant,
    /// Nor earlier than so long after the client was free for it.
    pub pause: Duration,
    /// The client aborts it when it takes longer.
    pub deadline: Duration,
    /// Size of the socket's receive buffer, in bytes.
    pub receive_buffer: usize,
    /// Size of the socket's send buffer, in bytes.
    pub send_buffer: usize,
}

impl Job {
    /// A job that begins as soon as the client is free for it, may take 60 s, and has buffers of 32 KiB.
    pub fn new(server: SocketAddrV4, script: impl Script + 'static) -> Job {
        Job {
            server,
            script: Box::new(script),
            not_before: Instant::ZERO,
            pause: Duration::ZERO,
            deadline: Duration::from_secs(60),
            receive_buffer: 32 * 1024,
            send_buffer: 32 * 1024,
        }
    }

    /// Sets both buffers' size, in bytes.
    pub fn with_buffers(mut self, size: usize) -> Job {
        self.receive_buffer = size;
        self.send_buffer = size;
        self
    }
}

/// A client's jobs, in order.
pub type Workload = Box<dyn Iterator<Item = Job> + Send>;
