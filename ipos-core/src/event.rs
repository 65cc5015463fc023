//! What a device tells its host, and what becomes of a frame.

use alloc::string::String;
use alloc::vec::Vec;
use core::net::Ipv4Addr;
use core::ops::Range;

use ipos_proto::ENCAPSULATION_LEN;

use crate::counters::DropReason;
use crate::flow::Flow;
use crate::time::Duration;

/// A port of the device (FIG. 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Port {
    /// Clients.
    A,
    /// The other servers.
    B,
    /// State.
    Synch,
    /// Clients, on a second LAN (FIG. 2B, 2C). Not every device has it.
    C,
}

impl Port {
    /// All ports.
    pub const ALL: [Port; 4] = [Port::A, Port::B, Port::Synch, Port::C];
}

/// What became of a frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The device took what it needs; answers, if any, wait in [`Device::poll_transmit`](crate::Device::poll_transmit).
    Consumed,
    /// The frame's packet goes on, unmodified, to another server.
    Forward(Forward),
    /// Dropped and counted.
    Drop(DropReason),
}

/// A packet to be sent to another server: `headers`, then `payload` of the frame it came in
/// (FIG. 9A: "output through Port B").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forward {
    /// The port to send it through.
    pub port: Port,
    /// The new Ethernet and ipOS headers.
    pub headers: [u8; ENCAPSULATION_LEN],
    /// The part of the received frame that follows them: the client's IP packet.
    pub payload: Range<usize>,
}

/// A frame that the device has built ([`Device::poll_burst`](crate::Device::poll_burst)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transmit {
    /// Its length.
    pub len: usize,
    /// It is a TCP frame that the port finishes; `None`: it is ready.
    pub burst: Option<Burst>,
}

/// What the port does with a TCP frame: its data leaves in segments, each with a right checksum. The frame's checksum field
/// holds the sum of its pseudo header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Burst {
    /// Where the TCP header begins, in bytes from the frame's start.
    pub transport: u16,
    /// Bytes of data that each segment carries, but the last, which may carry less; not 0.
    pub segment: u16,
}

/// Refers to an endpoint of one device. Never reused for another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EndpointId {
    pub(crate) index: u32,
    pub(crate) generation: u32,
}

/// Refers to a listening socket: its place in [`Config::listen`](crate::Config::listen).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerId(pub usize);

/// How an endpoint came to this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The client connected here.
    Local,
    /// It was migrated here by the server with this Port B address.
    Migrated(Ipv4Addr),
}

/// Why an endpoint is gone before its application closed it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// The client sent RST.
    Reset,
    /// Retransmissions were not answered.
    TimedOut,
    /// The endpoint was installed but its client's packets never came.
    NeverOwned,
    /// This server has ended it ([`Device::end_connections`](crate::Device::end_connections)).
    Ended,
}

/// What the host must know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An endpoint is bound to the application behind `listener` (FIG. 10A, 10C): connect it.
    Bound {
        /// The endpoint.
        endpoint: EndpointId,
        /// The listening socket it belongs to.
        listener: ListenerId,
        /// Its flow.
        flow: Flow,
        /// Where it comes from.
        origin: Origin,
    },
    /// There is something to read: bytes, or the end of the client's stream.
    Readable(EndpointId),
    /// There is room to write again.
    Writable(EndpointId),
    /// The endpoint is gone: its id is invalid from now on.
    Failed(EndpointId, Failure),
    /// An endpoint of this server now belongs to another one.
    Migrated {
        /// Its flow.
        flow: Flow,
        /// The name of the server that has it.
        to: String,
        /// From the first 0x01 to the 0x03.
        took: Duration,
    },
    /// A bound endpoint now belongs to another server: its id is invalid from now on, and the application lets go of it
    /// without a word.
    Left {
        /// The endpoint.
        endpoint: EndpointId,
        /// The name of the server that has it.
        to: String,
    },
    /// A client's datagram, for the application behind `listener`. Answer with
    /// [`Device::send_datagram`](crate::Device::send_datagram).
    Datagram {
        /// Its flow; the first one of a flow begins it.
        flow: Flow,
        /// The listening socket it belongs to.
        listener: ListenerId,
        /// What it carries.
        payload: Vec<u8>,
    },
    /// Nothing has passed on this UDP flow for so long: it is over.
    DatagramsEnded(Flow),
    /// A server joined the farm, or came back.
    ServerUp(String),
    /// A server left, or fell silent.
    ServerDown(String),
}
