//! Flows: what every flow table is keyed by (FIG. 12).

use core::fmt;
use core::hash::{Hash, Hasher};
use core::net::{Ipv4Addr, SocketAddrV4};
use core::str::FromStr;

use ipos_proto::Protocol;

/// One client's conversation with one endpoint address.
///
/// FIG. 12 keys the forward table by the client's address and port alone; a client may use one source port
/// towards several destinations, so the whole flow is the key of all flow tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
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

impl Flow {
    /// The flow that an IPv4 packet names, of which nothing is verified; `None` where it is neither TCP nor UDP, or too short.
    pub(crate) fn named_by(packet: &[u8]) -> Option<Flow> {
        let &[
            first,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            _,
            protocol,
            _,
            _,
            s0,
            s1,
            s2,
            s3,
            d0,
            d1,
            d2,
            d3,
        ] = packet.first_chunk()?;
        let behind = packet.get(usize::from(first & 0xf) * 4..)?;
        let &[p0, p1, q0, q1] = behind.first_chunk()?;
        let address = |octets: [u8; 4], port: [u8; 2]| {
            SocketAddrV4::new(Ipv4Addr::from(octets), u16::from_be_bytes(port))
        };
        Some(Flow {
            client: address([s0, s1, s2, s3], [p0, p1]),
            endpoint: address([d0, d1, d2, d3], [q0, q1]),
            protocol: match protocol {
                6 => Protocol::Tcp,
                17 => Protocol::Udp,
                _ => return None,
            },
        })
    }
}

impl Hash for Flow {
    /// As one number: a hasher takes that in one step. Without the endpoint's address: Port B names flows without it. A client
    /// makes as many flows with one hash as there are addresses that it reaches.
    fn hash<H: Hasher>(&self, state: &mut H) {
        let client = u128::from(self.client.ip().to_bits()) << 16 | u128::from(self.client.port());
        let protocol = u128::from(self.protocol == Protocol::Udp);
        let port = u128::from(self.endpoint.port());
        state.write_u128(protocol << 64 | client << 16 | port);
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

/// A text that is no flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "a flow is written as `tcp 192.0.2.1:40000 > 10.77.0.11:80`: protocol, client, and the address that it connected to"
)]
pub struct FlowError;

impl FromStr for Flow {
    type Err = FlowError;

    /// Reads a flow as [`Display`](fmt::Display) writes it. Without a protocol it is TCP; `->` is as good as `>`.
    fn from_str(text: &str) -> Result<Flow, FlowError> {
        let (left, endpoint) = text.split_once('>').ok_or(FlowError)?;
        let mut words = left.strip_suffix('-').unwrap_or(left).split_whitespace();
        let (first, second, rest) = (words.next(), words.next(), words.next());
        let (protocol, client) = match (first, second, rest) {
            (Some("tcp"), Some(client), None) | (Some(client), None, None) => {
                (Protocol::Tcp, client)
            }
            (Some("udp"), Some(client), None) => (Protocol::Udp, client),
            _ => return Err(FlowError),
        };
        let address = |text: &str| text.trim().parse::<SocketAddrV4>().map_err(|_| FlowError);
        Ok(Flow {
            client: address(client)?,
            endpoint: address(endpoint)?,
            protocol,
        })
    }
}

#[cfg(test)]
mod tests {
    use alloc::string::ToString;

    use super::*;

    #[test]
    fn a_packet_names_its_flow() {
        let [client, endpoint] = ["192.0.2.1:40000", "10.77.0.11:80"].map(|a| a.parse().unwrap());
        let mut packet = [0; 28];
        packet[12..20].copy_from_slice(&[192, 0, 2, 1, 10, 77, 0, 11]);
        for (first, at) in [(0x45, 20), (0x46, 24)] {
            packet[0] = first;
            packet[at..at + 4].copy_from_slice(&[0x9c, 0x40, 0, 80]);
            for (protocol, flow) in [
                (6, Some(Flow::tcp(client, endpoint))),
                (17, Some(Flow::udp(client, endpoint))),
                (1, None),
            ] {
                packet[9] = protocol;
                assert_eq!(Flow::named_by(&packet), flow);
                assert_eq!(Flow::named_by(&packet[..at + 3]), None);
            }
        }
    }

    #[test]
    fn what_is_written_can_be_read() {
        let [client, endpoint] = ["192.0.2.1:40000", "10.77.0.11:80"].map(|a| a.parse().unwrap());
        for flow in [Flow::tcp(client, endpoint), Flow::udp(client, endpoint)] {
            assert_eq!(flow.to_string().parse(), Ok(flow));
        }
        let flow = Flow::tcp(client, endpoint);
        for text in [
            "192.0.2.1:40000 > 10.77.0.11:80",
            "tcp 192.0.2.1:40000->10.77.0.11:80",
        ] {
            assert_eq!(text.parse(), Ok(flow), "{text}");
        }
        for text in [
            "",
            ">",
            "tcp > 10.77.0.11:80",
            "sctp 192.0.2.1:40000 > 10.77.0.11:80",
            "tcp 192.0.2.1 > 10.77.0.11:80",
            "tcp udp 192.0.2.1:1 > 10.77.0.11:80",
            "tcp 192.0.2.1:1 > 10.77.0.11:80 > 10.77.0.11:80",
        ] {
            assert_eq!(text.parse::<Flow>(), Err(FlowError), "{text}");
        }
    }
}
