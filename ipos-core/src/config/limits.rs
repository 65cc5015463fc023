//! Bounds and deadlines.

use crate::time::Duration;

/// Bounds of all tables, and deadlines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Records in the temporary table. Three quarters full: SYNs are answered with cookies; the rest is for
    /// clients that answer them.
    pub temporary: usize,
    /// Established connections: local and forward-connect together, without those in TIME-WAIT. Full: new connections are refused.
    pub endpoints: usize,
    /// Connections in TIME-WAIT. Full: the oldest ends.
    pub time_wait: usize,
    /// Ended connections of other servers that late frames must not bring back, and endpoints whose packets never came, which may
    /// be brought back; clients that were turned away, and, while SYN cookies are out, what has ended here. Full: the one whose time
    /// ends first makes room.
    pub tombstones: usize,
    /// How long those of other servers are remembered; the others 10 s at most.
    pub tombstone: Duration,
    /// Records in the forward table. Full: requests are served here.
    pub forward: usize,
    /// Known servers. Full: messages of unknown ones are dropped.
    pub servers: usize,
    /// Neighbours (ARP). Full: the longest unused is replaced.
    pub neighbours: usize,
    /// Bytes that the buffers of all endpoints hold together. Full: each endpoint gets
    /// [`Limits::LEAST_BUFFER`] and no more.
    pub buffers: usize,
    /// Frames waiting to be transmitted that are not built from endpoints. Full: new ones are dropped.
    pub outbox: usize,
    /// Bytes of one request that are taken in before its server is settled; its packets may take twice as many.
    pub request: usize,
    /// Bytes of packets that are kept for all requests whose server is not settled, or does not have them yet. Full: a request that
    /// nothing is kept of yet is served here; of others packets are dropped, and sent again by their clients.
    pub kept: usize,
    /// How long a request may take to be complete.
    pub request_deadline: Duration,
    /// Packets (0x02) of a flow kept while its endpoint (0x01) has not come. Full: dropped.
    pub early_packets: usize,
    /// How long they are kept.
    pub early_deadline: Duration,
    /// How long an installed endpoint waits for its first packet.
    pub install_deadline: Duration,
    /// How long a forward record lives without a packet.
    pub forward_idle: Duration,
    /// How long a UDP flow lives without a datagram, either way.
    pub udp_idle: Duration,
    /// Rows of the cookie map. Full: the one that expires first makes room.
    pub sessions: usize,
    /// Datagrams that wait for the host. Full: dropped.
    pub datagrams: usize,
    /// A server that gives no sign of life on the Synch Port and on Port B for so long is dead: its connections are reset. At
    /// once when it comes back with a later incarnation. `None`: never, they end by themselves.
    pub owner_lost: Option<Duration>,
}

impl Limits {
    /// Bytes that an endpoint's buffer may hold when all buffers together are full: every connection still moves.
    pub const LEAST_BUFFER: usize = 4_096;

    /// How long kept packets are replayed: at least as long as the endpoint that they are for waits for them.
    pub(crate) fn replay(&self) -> Duration {
        self.tombstone.max(self.install_deadline)
    }
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            temporary: 16_384,
            endpoints: 65_536,
            time_wait: 65_536,
            tombstones: 65_536,
            tombstone: Duration::from_secs(60),
            forward: 1_048_576,
            servers: 256,
            neighbours: 4_096,
            buffers: 1 << 30,
            outbox: 1_024,
            request: 16 * 1024,
            kept: 64 << 20,
            request_deadline: Duration::from_secs(3),
            early_packets: 8,
            early_deadline: Duration::from_millis(100),
            install_deadline: Duration::from_secs(2),
            forward_idle: Duration::from_secs(3600),
            udp_idle: Duration::from_secs(60),
            datagrams: 4_096,
            sessions: 262_144,
            owner_lost: Some(Duration::from_secs(3)),
        }
    }
}
