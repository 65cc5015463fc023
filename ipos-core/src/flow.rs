//! Flows: what every flow table is keyed by (FIG. 12).

use core::fmt;
use core::net::SocketAddrV4;
use ipos_proto::Protocol;

/// One client's conversation with one endpoint address.
///
/// FIG. 12 keys the forward table by the client's address and port alone; a client may use one source port
/// towards several destinations, so the whole flow is the key of all flow tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Flow {
    /// The client's address and port.
    pub client: SocketAddrV4,
    /// The address and port that the client sent to: those of the first server.
    pub endpoint: SocketAddrV4,
    /// TCP or UDP.
    pub protocol: Protocol,
}

impl Flow {
    /// A TCP flow.
    pub const fn tcp(client: SocketAddrV4, endpoint: SocketAddrV4) -> Flow {
        Flow {
            client,
            endpoint,
            protocol: Protocol::Tcp,
        }
    }
}

impl Flow {
    /// A UDP flow.
    pub const fn udp(client: SocketAddrV4, endpoint: SocketAddrV4) -> Flow {
        Flow {
            client,
            endpoint,
            protocol: Protocol::Udp,
        }
    }

    /// The same conversation, as its client's host sees it.
    pub(crate) const fn reversed(self) -> Flow {
        Flow {
            client: self.endpoint,
            endpoint: self.client,
            protocol: self.protocol,
        }
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let protocol = match self.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
        };
        write!(f, "{protocol} {} > {}", self.client, self.endpoint)
    }
}
