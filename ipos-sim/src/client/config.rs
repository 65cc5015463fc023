//! What a client host is, and how its TCP behaves.

use std::net::Ipv4Addr;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipos_core::Port;
use ipos_proto::MacAddr;

use crate::ports::{RANGE, TWO_MSL};

/// What a client host is told when it is made.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// The port of servers that its LAN is at: [`Port::A`], or [`Port::C`].
    pub lan: Port,
    /// Its hardware address.
    pub hardware: MacAddr,
    /// Its address there.
    pub address: Ipv4Addr,
    /// Length of the LAN's prefix, in bits.
    pub prefix: u8,
    /// Largest IP packet, in bytes.
    pub mtu: u16,
    /// Jobs that it does at a time.
    pub concurrency: usize,
    /// The ports that it connects from, each only once while there are others.
    pub ports: RangeInclusive<u16>,
    /// How long a port rests after its connection; 2 MSL by the book.
    pub rest: Duration,
    /// Every server has these ports for itself, as with a kernel that tells connections by both ends: the same port may be in
    /// use with several servers at once.
    pub ports_per_server: bool,
    /// How its TCP behaves.
    pub tcp: ClientTcp,
    /// Seed of its generator.
    pub seed: u64,
}

/// What a client's TCP offers in its SYNs, and how it sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTcp {
    /// Offers timestamps (RFC 7323).
    pub timestamps: bool,
    /// Offers window scale (RFC 7323).
    pub window_scale: bool,
    /// Offers SACK (RFC 2018).
    pub sack: bool,
    /// Announces its MSS, which follows from [`ClientConfig::mtu`]; 536 bytes count otherwise.
    pub mss: bool,
    /// Waits with small segments while data is outstanding (Nagle's algorithm, RFC 1122 §4.2.3.4).
    pub nagle: bool,
    /// How long an acknowledgment may be delayed; none is where this is `None`.
    pub ack_delay: Option<Duration>,
    /// Keeps to a congestion window (Reno).
    pub congestion_control: bool,
    /// How long it stays in TIME-WAIT at the most: a client that needs the port again does not wait for 2 MSL (RFC 6191).
    /// `None`: for smoltcp's 10 s.
    pub time_wait: Option<Duration>,
}

impl ClientConfig {
    /// Every port from 1024 on.
    pub const PORTS: RangeInclusive<u16> = RANGE;
    /// 2 MSL, no less than the servers' TIME-WAIT.
    pub const REST: Duration = TWO_MSL;
}

impl Default for ClientTcp {
    /// Everything but timestamps; acknowledgments are delayed by 10 ms.
    fn default() -> ClientTcp {
        ClientTcp {
            timestamps: false,
            window_scale: true,
            sack: true,
            mss: true,
            nagle: true,
            ack_delay: Some(Duration::from_millis(10)),
            congestion_control: true,
            time_wait: None,
        }
    }
}

impl ClientTcp {
    /// The kinds of the options that smoltcp always offers and that are not to be offered.
    pub(super) fn unoffered(&self) -> Vec<u8> {
        [(2, self.mss), (3, self.window_scale), (4, self.sack)]
            .into_iter()
            .filter(|(_, offered)| !offered)
            .map(|(kind, _)| kind)
            .collect()
    }
}
