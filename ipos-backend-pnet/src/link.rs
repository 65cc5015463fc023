//! What the kernel says of an interface (RTM_GETLINK).
//!
//! `/sys/class/net` would say it too, but of the network namespace that `/sys` was mounted in,
//! and `getifaddrs`, pnet's source, does not tell the MTU. Netlink tells all, of the calling thread's namespace.

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

use crate::OpenError;

/// Longest interface name: `IFNAMSIZ` without its final zero.
const LONGEST_NAME: usize = 15;

/// An Ethernet interface that is up.
pub(crate) struct Link {
    pub index: u32,
    pub hardware_address: [u8; 6],
    /// Largest IP packet, in bytes.
    pub mtu: u16,
}

impl Link {
    /// Asks for `interface`.
    pub fn query(interface: &str) -> Result<Self, OpenError> {
        let named = || interface.to_owned();
        let not_found = || OpenError::NotFound { interface: named() };
        if interface.is_empty() || interface.len() > LONGEST_NAME {
            return Err(not_found());
        }
        let message = request(interface).map_err(|error| match error.raw_os_error() {
            Some(libc::ENODEV) => not_found(),
            _ => OpenError::system(interface, "read the properties", error),
        })?;

        if message.header.link_layer_type != LinkLayerType::Ether {
            return Err(OpenError::NotEthernet { interface: named() });
        }
        if !message.header.flags.contains(LinkFlags::Up) {
            return Err(OpenError::Down { interface: named() });
        }
        let hardware_address = message.attributes.iter().find_map(|a| match a {
            LinkAttribute::Address(bytes) => <[u8; 6]>::try_from(bytes.as_slice()).ok(),
            _ => None,
        });
        let mtu = message.attributes.iter().find_map(|a| match a {
            // An interface may claim more, but no IPv4 packet is longer than its 16-bit length field.
            LinkAttribute::Mtu(mtu) => Some(u16::try_from(*mtu).unwrap_or(u16::MAX)),
            _ => None,
        });
        let (Some(hardware_address), Some(mtu)) = (hardware_address, mtu) else {
            return Err(OpenError::NotEthernet { interface: named() });
        };
        Ok(Self {
            index: message.header.index,
            hardware_address,
            mtu,
        })
    }
}

/// One RTM_GETLINK by name and its answer.
fn request(interface: &str) -> io::Result<LinkMessage> {
    let mut link = LinkMessage::default();
    link.attributes
        .push(LinkAttribute::IfName(interface.to_owned()));
    let mut message = NetlinkMessage::new(
        NetlinkHeader::default(),
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::GetLink(link)),
    );
    message.header.flags = NLM_F_REQUEST;
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);

    let socket = Socket::new(NETLINK_ROUTE)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&bytes, 0)?;
    let (bytes, _) = socket.recv_from_full()?;
    match NetlinkMessage::deserialize(&bytes)
        .map_err(io::Error::other)?
        .payload
    {
        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => Ok(link),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        _ => Err(io::Error::other("unexpected answer to RTM_GETLINK")),
    }
}
