//! Who is where on the farm's LANs.

use std::net::{Ipv4Addr, SocketAddrV4};

use ipos_proto::MacAddr;

/// Servers that LAN A has addresses for: 10.77.0.11 to 10.77.0.99.
pub const MAX_SERVERS: usize = 89;
/// Client hosts that LAN A has addresses for: 10.77.0.100 to 10.77.0.254.
pub const MAX_CLIENTS: usize = 155;
/// Length of LAN A's prefix.
pub const PREFIX: u8 = 24;
/// The port that clients connect to.
pub const HTTP: u16 = 80;
/// The port that clients send datagrams to, where there is such a service.
pub const ECHO: u16 = 7;

/// One server's names and addresses. The first server is number 0: `s1`, 10.77.0.11.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerAddresses {
    /// Its name.
    pub name: String,
    /// Port A: clients.
    pub a: (MacAddr, Ipv4Addr),
    /// Port B: other servers.
    pub b: (MacAddr, Ipv4Addr),
    /// Synch Port.
    pub synch: (MacAddr, Ipv4Addr),
    /// Port C, for those that have one.
    pub c: (MacAddr, Ipv4Addr),
}

impl ServerAddresses {
    /// Those of server `index`, of at most [`MAX_SERVERS`].
    pub fn of(index: usize) -> ServerAddresses {
        let index = index.min(MAX_SERVERS - 1) as u8;
        let port = |lan: u8, network: u8| {
            (
                MacAddr([2, 0, 0, 0, lan, index + 1]),
                Ipv4Addr::new(10, network, 0, 11 + index),
            )
        };
        ServerAddresses {
            name: format!("s{}", index + 1),
            a: port(0x0a, 77),
            b: port(0x0b, 88),
            synch: port(0x0c, 99),
            c: port(0x0d, 66),
        }
    }

    /// What clients connect to.
    pub fn http(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.a.1, HTTP)
    }

    /// What clients send datagrams to.
    pub fn echo(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.a.1, ECHO)
    }
}

/// Hardware address and address of client host `index`, of at most [`MAX_CLIENTS`].
pub fn client(index: usize) -> (MacAddr, Ipv4Addr) {
    let last = 100 + index.min(MAX_CLIENTS - 1) as u8;
    (
        MacAddr([2, 0, 10, 77, 0, last]),
        Ipv4Addr::new(10, 77, 0, last),
    )
}
