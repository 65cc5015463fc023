//! The ports of a device.

use alloc::vec::Vec;
use core::net::Ipv4Addr;

use ipos_proto::MacAddr;

use crate::time::Duration;

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

    /// Port B with an MTU of 1500 bytes and EtherType 0x0007.
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
