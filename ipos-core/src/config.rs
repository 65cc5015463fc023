//! What a device is told when it is made.

mod content;

use alloc::borrow::Cow;
use alloc::string::String;
use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};
use core::num::NonZeroU16;

use ipos_balance::{PolicyKind, SlowStart};
use ipos_proto::{MacAddr, Protocol};

use crate::event::Port;
use crate::key::FarmKey;
use crate::time::Duration;

pub use content::{Content, Session};

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
    /// Seed of the device's generator.
    pub seed: u64,
    /// Key of the initial sequence numbers (RFC 6528).
    pub isn_key: [u8; 16],
    /// Grows with every start of this server, so that a message of an earlier life is recognised.
    pub incarnation: u32,
    /// What Port B and Synch are authenticated with. `None`: whoever can send on these LANs is trusted.
    pub farm_key: Option<FarmKey>,
}

/// Port A, or what is like it on Port C.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortA {
    /// The interface's hardware address.
    pub hardware: MacAddr,
    /// The addresses that the device answers for. At least one.
    pub addresses: Vec<Ipv4Addr>,
    /// Length of the LAN's prefix, in bits.
    pub prefix: u8,
    /// Where packets for other networks go.
    pub gateway: Option<Ipv4Addr>,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
}

/// Port C (FIG. 3): a second port to clients, with a LAN and a gateway of its own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortC {
    /// Its interface, the addresses that the device answers for there, its LAN.
    pub port: PortA,
    /// All that clients get leaves by this port, whichever they sent to (FIG. 2C). Otherwise a packet leaves by the port on
    /// whose LAN its own source address is (FIG. 2B); by Port A where that is on neither.
    pub responses: bool,
}

/// Port B.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortB {
    /// The interface's hardware address.
    pub hardware: MacAddr,
    /// The device's Port B address.
    pub address: Ipv4Addr,
    /// EtherType of the encapsulation.
    pub ethertype: u16,
    /// Largest packet after the Ethernet header, in bytes.
    pub mtu: u16,
}

/// Synch Port (FIG. 6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SynchPort {
    /// The interface's hardware address.
    pub hardware: MacAddr,
    /// The device's Synch address, by which other servers know it.
    pub address: Ipv4Addr,
    /// UDP port of the messages.
    pub port: u16,
    /// Interval of the high priority.
    pub high: Duration,
    /// Interval of the medium priority.
    pub medium: Duration,
    /// Interval of the low priority.
    pub low: Duration,
    /// A server that is silent for so long is not selected.
    pub silence: Duration,
    /// A server that is silent for so long is forgotten.
    pub forget: Duration,
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
    /// Ended connections of other servers that late frames must not bring back. Full: a further one leaves no trace.
    pub tombstones: usize,
    /// How long they are remembered.
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
    /// Bytes of packets that are kept for all requests whose server is not settled, or does not have them yet. Full: dropped, and
    /// sent again by their clients.
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

/// The TCP endpoint's parameters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tcp {
    /// The MSS announced: leaves room for the encapsulation on Port B.
    pub mss: u16,
    /// Shift of the windows we announce, where the client offers scaling.
    pub window_scale: u8,
    /// Bound of an endpoint's receive buffer, in bytes.
    pub receive_buffer: usize,
    /// Bound of an endpoint's send buffer, in bytes.
    pub send_buffer: usize,
    /// Delay of a delayed acknowledgement.
    pub delayed_ack: Duration,
    /// Least retransmission timeout.
    pub min_rto: Duration,
    /// Greatest retransmission timeout.
    pub max_rto: Duration,
    /// Retransmissions of one segment before the connection fails.
    pub retries: u8,
    /// Retransmissions of a SYN-ACK before the endpoint is dropped.
    pub syn_retries: u8,
    /// How long TIME-WAIT lasts (2 MSL).
    pub time_wait: Duration,
    /// How long FIN-WAIT-2 lasts once the application has closed.
    pub fin_wait_2: Duration,
    /// The congestion controller.
    pub congestion: CongestionControl,
    /// Keep-alive probes to silent clients (RFC 9293 §3.8.4); by default after two hours, as hosts do.
    pub keep_alive: Option<KeepAlive>,
    /// A connection that has been silent for so long is reset; never by default.
    pub idle: Option<Duration>,
}

/// Congestion controllers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum CongestionControl {
    /// RFC 9438.
    #[default]
    Cubic,
    /// RFC 5681.
    Reno,
}

/// Keep-alive (RFC 1122 §4.2.3.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeepAlive {
    /// Silence before the first probe.
    pub idle: Duration,
    /// Between two probes.
    pub interval: Duration,
    /// Probes without an answer after which the connection has failed.
    pub probes: u8,
}

/// IPv4 and TCP headers without options, in bytes.
const IP_TCP: u16 = 40;
/// Least MSS that leaves a connection usable.
const MIN_MSS: u16 = 536;
/// Rows of the application information table. Full: the others are not told.
pub(crate) const PROCESSES: usize = 1_024;

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
    /// Whether the device can be made of it.
    ///
    /// # Errors
    /// The first field that does not hold.
    pub fn validate(&self) -> Result<(), ConfigError> {
        use ipos_proto::synch::{NAME_MAX, PORT_A_MAX};
        let (port_a, limits, tcp) = (&self.port_a, &self.limits, &self.tcp);
        let port_c = self.port_c.as_ref().map(|port_c| &port_c.port);
        let fits_port_b = |mss: u16| {
            mss.saturating_add(IP_TCP + ipos_proto::HEADER_LEN as u16) <= self.port_b.mtu
        };
        let rules = [
            (
                (1..=NAME_MAX).contains(&self.name.len()),
                "name",
                "must have 1 to 63 bytes",
            ),
            (
                (1..=PORT_A_MAX).contains(&port_a.addresses.len()),
                "port_a.addresses",
                "must be 1 to 16 addresses",
            ),
            (port_a.prefix <= 32, "port_a.prefix", "must be 0 to 32"),
            (
                port_c.is_none_or(|port| !port.addresses.is_empty()),
                "port_c.addresses",
                "must be at least 1 address",
            ),
            (
                self.client_addresses().count() <= PORT_A_MAX,
                "port_c.addresses",
                "must be 16 at most together with port_a.addresses",
            ),
            (
                port_c.is_none_or(|port| {
                    let mut addresses = port.addresses.iter();
                    !addresses.any(|address| port_a.addresses.contains(address))
                }),
                "port_c.addresses",
                "must not be among port_a.addresses",
            ),
            (
                port_c.is_none_or(|port| port.prefix <= 32),
                "port_c.prefix",
                "must be 0 to 32",
            ),
            (
                port_c.is_none_or(|port| tcp.mss.saturating_add(IP_TCP) <= port.mtu),
                "port_c.mtu",
                "must not be below what Port A and Port B have room for",
            ),
            (
                !self.port_b.address.is_unspecified(),
                "port_b.address",
                "must be an address of LAN B",
            ),
            (
                self.port_b.ethertype != crate::packet::IPV4,
                "port_b.ethertype",
                "must not be IPv4's",
            ),
            (
                self.port_b.ethertype != crate::packet::ARP,
                "port_b.ethertype",
                "must not be ARP's",
            ),
            (
                !self.synch.address.is_unspecified(),
                "synch.address",
                "must be an address of the Synch LAN",
            ),
            (
                !self.synch.high.is_zero(),
                "synch.interval_ms",
                "must be at least 1",
            ),
            (
                self.listen.iter().all(|l| l.service.len() <= NAME_MAX),
                "listen.service",
                "must have 63 bytes at most",
            ),
            (
                self.listen.iter().all(|l| self.is_own(*l.address.ip())),
                "listen.address",
                "must be one of port_a.addresses or port_c.addresses",
            ),
            (
                self.listen.iter().enumerate().all(|(i, l)| {
                    self.listen[..i]
                        .iter()
                        .all(|m| (m.address, m.protocol) != (l.address, l.protocol))
                }),
                "listen.address",
                "must not be given twice",
            ),
            (
                tcp.mss >= MIN_MSS,
                "mtu",
                "of Port A and Port B must leave room for segments of 536 bytes",
            ),
            (
                fits_port_b(tcp.mss),
                "tcp.mss",
                "must leave 56 bytes of Port B's MTU",
            ),
            (
                tcp.window_scale <= crate::tcp::WindowScale::MAX,
                "tcp.window_scale",
                "must be 0 to 14",
            ),
            (
                tcp.receive_buffer
                    .checked_shr(tcp.window_scale.into())
                    .unwrap_or(0)
                    >= crate::stack::LEAST_UNITS,
                "tcp.window_scale",
                "must leave the receive buffer at least four units",
            ),
            (
                (1024..=1 << 30).contains(&tcp.receive_buffer),
                "tcp.receive_buffer",
                "must be 1 kB to 1 GB",
            ),
            (
                (1024..=1 << 30).contains(&tcp.send_buffer),
                "tcp.send_buffer",
                "must be 1 kB to 1 GB",
            ),
            (
                (1024..=1 << 30).contains(&limits.request),
                "limits.request",
                "must be 1 kB to 1 GB",
            ),
            (
                limits.temporary > 0,
                "limits.temporary",
                "must be at least 1",
            ),
            (
                limits.endpoints > 0,
                "limits.endpoints",
                "must be at least 1",
            ),
            (
                limits.early_packets > 0,
                "limits.early_packets",
                "must be at least 1",
            ),
        ];
        match rules.into_iter().find(|(holds, _, _)| !holds) {
            Some((_, field, problem)) => Err(ConfigError {
                field,
                problem: problem.into(),
            }),
            None => self.content.validate(),
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

impl PortA {
    /// Whether an address is on the port's LAN itself.
    pub(crate) fn is_on_link(&self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX
            .checked_shl(32 - u32::from(self.prefix.min(32)))
            .unwrap_or(0);
        self.addresses
            .first()
            .is_some_and(|own| (u32::from(*own) ^ u32::from(address)) & mask == 0)
    }

    /// A port with an MTU of 1500 bytes and no gateway.
    pub fn new(hardware: MacAddr, addresses: Vec<Ipv4Addr>, prefix: u8) -> PortA {
        PortA {
            hardware,
            addresses,
            prefix,
            gateway: None,
            mtu: 1500,
        }
    }
}

impl PortB {
    /// Bytes that a client's packet may have to be forwarded.
    pub(crate) fn room(&self) -> usize {
        usize::from(self.mtu).saturating_sub(ipos_proto::HEADER_LEN)
    }

    /// Port B with an MTU of 1500 bytes and the seed's EtherType.
    pub fn new(hardware: MacAddr, address: Ipv4Addr) -> PortB {
        PortB {
            hardware,
            address,
            ethertype: ipos_proto::ETHERTYPE,
            mtu: 1500,
        }
    }
}

impl SynchPort {
    /// The Synch Port with UDP port 7007 and the default intervals.
    pub fn new(hardware: MacAddr, address: Ipv4Addr) -> SynchPort {
        SynchPort {
            hardware,
            address,
            port: 7007,
            high: Duration::from_millis(100),
            medium: Duration::from_secs(1),
            low: Duration::from_secs(10),
            silence: Duration::from_millis(500),
            forget: Duration::from_secs(30),
        }
    }

    /// Sets the high-priority interval, and the silence time to five of it.
    pub fn with_interval(mut self, high: Duration) -> SynchPort {
        self.high = high;
        self.silence = high.saturating_mul(5);
        self
    }
}

impl Limits {
    /// Bytes that an endpoint's buffer may hold when all buffers together are full: every connection still moves.
    pub const LEAST_BUFFER: usize = 4_096;
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

impl Default for Tcp {
    fn default() -> Tcp {
        Tcp {
            mss: 1444,
            window_scale: 7,
            receive_buffer: 256 * 1024,
            send_buffer: 512 * 1024,
            delayed_ack: Duration::from_millis(40),
            min_rto: Duration::from_millis(200),
            max_rto: Duration::from_secs(60),
            retries: 12,
            syn_retries: 5,
            time_wait: Duration::from_secs(60),
            fin_wait_2: Duration::from_secs(60),
            congestion: CongestionControl::default(),
            keep_alive: Some(KeepAlive {
                idle: Duration::from_secs(7200),
                interval: Duration::from_secs(75),
                probes: 9,
            }),
            idle: None,
        }
    }
}
