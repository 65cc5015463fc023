//! What Linux says of an interface (RTM_GETLINK), and why one cannot be opened: for backends.
//!
//! `/sys/class/net` would say it too, but of the network namespace that `/sys` was mounted in,
//! and `getifaddrs`, pnet's source, does not tell the MTU. Netlink tells all, of the calling thread's namespace.

use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};

/// Longest interface name: `IFNAMSIZ` without its final zero.
const LONGEST_NAME: usize = 15;

/// An Ethernet interface that is up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Interface {
    /// The kernel's number for it in its network namespace.
    pub index: u32,
    /// Its hardware address.
    pub hardware_address: [u8; 6],
    /// Largest IP packet, in bytes.
    pub mtu: u16,
}

impl Interface {
    /// Asks for `interface` of the calling thread's network namespace.
    ///
    /// # Errors
    /// [`OpenError`]: no such interface, not Ethernet, down, or the kernel does not answer.
    pub fn query(interface: &str) -> Result<Self, OpenError> {
        let named = || interface.to_owned();
        let not_found = || OpenError::NotFound { interface: named() };
        if interface.is_empty() || interface.len() > LONGEST_NAME {
            return Err(not_found());
        }
        let message = request(interface).map_err(|error| match error.raw_os_error() {
            Some(libc::ENODEV) => not_found(),
            _ => OpenError::system(
                interface,
                "read the properties",
                "the right to ask over netlink",
                error,
            ),
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

/// Why a port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// This network namespace has no interface of that name.
    #[error(
        "there is no interface {interface} in this network namespace: `ip link` lists those there are"
    )]
    NotFound {
        /// The name that was asked for.
        interface: String,
    },
    /// Something other than Ethernet: the loopback interface, a tunnel.
    #[error("interface {interface} does not carry Ethernet frames: name an Ethernet interface")]
    NotEthernet {
        /// The interface's name.
        interface: String,
    },
    /// The interface is there, but not up.
    #[error("interface {interface} is down: bring it up with `ip link set {interface} up`")]
    Down {
        /// The interface's name.
        interface: String,
    },
    /// The process may not do what the backend does.
    #[error("opening interface {interface} needs {needs}")]
    Privilege {
        /// The interface's name.
        interface: String,
        /// What is needed, and how to get it.
        needs: &'static str,
    },
    /// The system refused for another reason.
    #[error("cannot {action} for interface {interface}: {source}")]
    System {
        /// The interface's name.
        interface: String,
        /// What was tried.
        action: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

impl OpenError {
    /// The error for a system call that failed: every step of opening maps it the same way. `needs` says what privilege the
    /// backend needs, and how to get it.
    pub fn system(
        interface: &str,
        action: &'static str,
        needs: &'static str,
        source: io::Error,
    ) -> Self {
        let interface = interface.to_owned();
        match source.kind() {
            io::ErrorKind::PermissionDenied => Self::Privilege { interface, needs },
            _ => Self::System {
                interface,
                action,
                source,
            },
        }
    }
}

/// Whether `error` says that an interface is down (ENETDOWN) or no longer there (ENXIO, ENODEV).
#[must_use]
pub fn is_lost(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENETDOWN | libc::ENXIO | libc::ENODEV)
    )
}

/// `error` with the interface's name in its text; one that [`is_lost`] becomes [`io::ErrorKind::NetworkDown`].
#[must_use]
pub fn name_error(interface: &str, error: &io::Error) -> io::Error {
    if is_lost(error) {
        let text = format!("interface {interface} is down or gone");
        io::Error::new(io::ErrorKind::NetworkDown, text)
    } else {
        io::Error::new(error.kind(), format!("interface {interface}: {error}"))
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
