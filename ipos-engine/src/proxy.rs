//! The PROXY protocol, version 2: the first bytes of a bridge's connection tell the application who its client is.

use std::io;
use std::net::SocketAddr;

use ipos_core::Flow;
use ppp::v2::{Builder, Command, Protocol, Version};

/// What comes before the client's bytes: the client, and the address that it connected to.
///
/// # Errors
/// The header cannot be built.
pub(crate) fn header(flow: &Flow) -> io::Result<Vec<u8>> {
    let addresses: (SocketAddr, SocketAddr) = (flow.client.into(), flow.endpoint.into());
    Builder::with_addresses(Version::Two | Command::Proxy, Protocol::Stream, addresses).build()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The header as the specification has it: signature, PROXY of version 2, TCP over IPv4, 12 bytes of addresses and ports.
    #[test]
    fn tcp_over_ipv4() {
        let client = "192.0.2.1:40000".parse().unwrap();
        let flow = Flow::tcp(client, "10.77.0.11:80".parse().unwrap());
        let mut wanted = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
        wanted.extend([192, 0, 2, 1, 10, 77, 0, 11, 0x9c, 0x40, 0, 80]);
        assert_eq!(header(&flow).unwrap(), wanted);
    }
}
