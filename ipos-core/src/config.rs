//! What a device is told when it is made.

mod content;
mod limits;
mod ports;
mod tcp;
mod validate;

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::num::NonZeroU16;

use ipos_balance::{PolicyKind, SlowStart};
use ipos_proto::Protocol;

use crate::event::Port;
use crate::key::FarmKey;

pub use content::{Content, Session};
pub use limits::Limits;
pub use ports::{PortA, PortB, PortC, SynchPort};
pub use tcp::{CongestionControl, KeepAlive, Tcp};

/// A device's whole configuration. [`Config::new`] gives the defaults; every field may be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// The server's name, unique in the farm.
    pub name: String,
    /// Port A: clients.
    pub port_a: PortA,
    /// Port B: other servers.
    pub port_b: PortB,
    /// Synch Port: state.
    pub synch: SynchPort,
    /// Port C: clients on a second LAN.
    pub port_c: Option<PortC>,
    /// The listening sockets.
    pub listen: Vec<Listen>,
    /// How servers are selected.
    pub balance: Balance,
    /// What the content of requests says of their servers.
    pub content: Content,
    /// Every table's bound, and the deadlines.
    pub limits: Limits,
    /// The TCP endpoint's parameters: the same on every server of a farm.
    pub tcp: Tcp,
    /// What becomes of a segment that belongs to no flow.
    pub unmatched: Unmatched,
    /// Seed of the device's generator and of its flow table's hash: random, and nobody else's, but in tests.
    pub seed: u64,
    /// Key of the initial sequence numbers (RFC 6528).
    pub isn_key: [u8; 16],
    /// Grows with every start of this server, so that a message of an earlier life is recognised.
    pub incarnation: u32,
    /// What Port B and Synch are authenticated with. `None`: whoever can send on these LANs is trusted.
    pub farm_key: Option<FarmKey>,
}

/// A listening socket.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listen {
    /// What clients connect to.
    pub address: SocketAddrV4,
    /// TCP or UDP.
    pub protocol: Protocol,
    /// Servers offer the same service under one name.
    pub service: String,
}

/// Selection (FIG. 7).
#[derive(Clone, Debug, PartialEq)]
pub struct Balance {
    /// The policy.
    pub policy: PolicyKind,
    /// Below it the server keeps every request.
    pub activity_threshold: Threshold,
    /// Later requests of a connection are selected for, too: it moves again, at the quiet points that its application tells.
    pub per_request: bool,
    /// How long a server that comes (back) into the farm takes until it gets its whole part.
    pub slow_start: SlowStart,
    /// Weights of servers by name; 1 for the others.
    pub weights: Vec<(String, NonZeroU16)>,
}

/// An activity threshold: below *all* set values the server keeps requests.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Threshold {
    /// Established connections; 0 = not set.
    pub connections: u32,
    /// CPU in use, 0 to 1; 0 = not set.
    pub cpu: f32,
}

/// What becomes of a TCP segment that belongs to no flow and opens none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Unmatched {
    /// Answer RST, as a host would.
    #[default]
    Reset,
    /// Drop silently.
    Drop,
}

/// IPv4 and TCP headers without options, in bytes.
const IP_TCP: u16 = 40;
/// Rows of the application information table. Full: the others are not told.
pub const PROCESSES: usize = 64;

/// A configuration that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct ConfigError {
    /// The field at fault, as the configuration file names it.
    pub field: &'static str,
    /// What is wrong with it, and what would be right.
    pub problem: Cow<'static, str>,
}

impl Config {
    /// A configuration with every optional value at its default.
    pub fn new(name: impl Into<String>, port_a: PortA, port_b: PortB, synch: SynchPort) -> Config {
        let room = port_b
            .mtu
            .saturating_sub(ipos_proto::HEADER_LEN as u16)
            .min(port_a.mtu);
        Config {
            name: name.into(),
            port_a,
            port_b,
            synch,
            port_c: None,
            listen: Vec::new(),
            balance: Balance {
                policy: PolicyKind::InverseConnections,
                activity_threshold: Threshold::default(),
                per_request: false,
                slow_start: SlowStart::default(),
                weights: Vec::new(),
            },
            content: Content::default(),
            limits: Limits::default(),
            tcp: Tcp {
                mss: room.saturating_sub(IP_TCP),
                ..Tcp::default()
            },
            unmatched: Unmatched::default(),
            seed: 0,
            isn_key: [0; 16],
            incarnation: 1,
            farm_key: None,
        }
    }
}

impl Config {
    /// The port to clients of this name.
    pub(crate) fn to_clients(&self, port: Port) -> &PortA {
        match &self.port_c {
            Some(port_c) if port == Port::C => &port_c.port,
            _ => &self.port_a,
        }
    }

    /// All addresses that the device answers for: Port A's, then Port C's.
    pub(crate) fn client_addresses(&self) -> impl Iterator<Item = Ipv4Addr> + '_ {
        let port_c = self.port_c.iter().flat_map(|port_c| &port_c.port.addresses);
        self.port_a.addresses.iter().chain(port_c).copied()
    }

    /// Whether the device answers for an address.
    pub(crate) fn is_own(&self, address: Ipv4Addr) -> bool {
        self.client_addresses().any(|own| own == address)
    }

    /// The port by which packets to clients leave that come from `source`, an address of this server or of another one.
    pub(crate) fn leaves_by(&self, source: Ipv4Addr) -> Port {
        match &self.port_c {
            Some(PortC {
                responses: true, ..
            }) => Port::C,
            _ => self.lan_of(source),
        }
    }

    /// The port on whose LAN an address is, of this server or of another one; Port A where it is on neither.
    pub(crate) fn lan_of(&self, address: Ipv4Addr) -> Port {
        match &self.port_c {
            Some(PortC { port, .. })
                if port.is_on_link(address) && !self.port_a.is_on_link(address) =>
            {
                Port::C
            }
            _ => Port::A,
        }
    }
}
