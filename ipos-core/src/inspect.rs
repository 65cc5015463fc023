//! What a device is told of its host, and what it shows of itself.

use alloc::string::String;
use core::net::Ipv4Addr;

use ipos_proto::{Epoch, MacAddr};

use crate::event::{ListenerId, Port};
use crate::flow::Flow;
use crate::time::Duration;

/// Figures of the host, for the high-priority advert (FIG. 6).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// CPU in use, of all processors: 0 to 1.
    pub cpu: f32,
    /// Free memory, in bytes.
    pub free_memory: u64,
    /// Free bandwidth, in bits per second.
    pub free_bandwidth: u64,
}

/// One process of the host: a row of the application information table (FIG. 12).
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Its name, at most 63 bytes of which are told to the farm.
    pub name: String,
    /// The port that clients reach it at.
    pub port: u16,
    /// Memory, in bytes.
    pub memory: u64,
    /// CPU in use, of all processors: 0 to 1.
    pub cpu: f32,
}

/// A row of the server state table (FIG. 12), this server's own included.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerState {
    /// The server's name; empty until it has told it.
    pub name: String,
    /// Its Synch address.
    pub synch: Ipv4Addr,
    /// Its Port B address; unspecified until it has told it.
    pub port_b: Ipv4Addr,
    /// Established connections: CN of equation 1, with those sent to it since its last advert.
    pub connections: u32,
    /// Its host's figures.
    pub load: Load,
    /// Heard within the silence time, or this server itself.
    pub alive: bool,
    /// It takes nothing new.
    pub draining: bool,
    /// This server.
    pub is_self: bool,
    /// Since its last message.
    pub silent_for: Duration,
    /// Requests for which this device selected it.
    pub selected: u64,
    /// Sum, over all selections of this device, of the probability that the policy gave to it.
    pub expected: f64,
}

/// How full a table is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSize {
    /// The table's name (FIG. 12).
    pub name: &'static str,
    /// Its records.
    pub len: usize,
    /// How many it may hold.
    pub bound: usize,
}

/// A row of a flow table (FIG. 12).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FlowRow {
    /// The table's name, as in [`TableSize`].
    pub table: &'static str,
    /// The table's key.
    pub flow: Flow,
    /// What the flow is doing here: the endpoint's TCP state (RFC 9293 §3.3.2), or a word.
    pub state: &'static str,
    /// The other server: the one that it is offered or forwarded to, or that its packets come from. Its Port B address.
    pub server: Option<Ipv4Addr>,
    /// That server's name, while it is known.
    pub name: Option<String>,
    /// The listening socket, where the flow has an endpoint here.
    pub listener: Option<ListenerId>,
    /// Of its last hand-over; 0: none.
    pub epoch: Epoch,
}

/// A row of the neighbour table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NeighbourRow {
    /// The port that its LAN is at.
    pub port: Port,
    /// Its address there.
    pub address: Ipv4Addr,
    /// Its hardware address; `None`: it is asked for.
    pub hardware: Option<MacAddr>,
}

/// A packet that waits for its endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EarlyRow {
    /// Its flow.
    pub flow: Flow,
    /// The hardware address of the Port B that it came from.
    pub from: MacAddr,
    /// Bytes of it.
    pub len: usize,
}
