//! Interfaces of a namespace: made and changed over rtnetlink.

use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsFd, AsRawFd};
use std::thread;
use std::time::{Duration, Instant};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::address::{AddressAttribute, AddressMessage};
use netlink_packet_route::link::{
    AfSpecInet6, AfSpecUnspec, BridgePortState, BridgeStpState, In6AddrGenMode, InfoBridge,
    InfoBridgePort, InfoData, InfoKind, InfoPortData, InfoVeth, LinkAttribute, LinkFlags, LinkInfo,
    LinkMessage, State,
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;

use crate::{LabError, Namespace, netlink};

/// How long [`Namespace::wait_ready`] waits: links of one machine need milliseconds.
const READY: Duration = Duration::from_secs(10);

/// One end of a veth pair.
#[derive(Clone, Copy, Debug)]
pub struct End<'a> {
    /// The namespace that the end is in.
    pub namespace: &'a Namespace,
    /// The interface's name there, 15 bytes at most.
    pub name: &'a str,
    /// Its hardware address; `None`: the kernel takes one at random.
    pub hardware_address: Option<[u8; 6]>,
}

impl End<'_> {
    fn attributes(&self, mtu: u16) -> Vec<LinkAttribute> {
        let address = self.hardware_address.map(Vec::from);
        let mut attributes = vec![
            LinkAttribute::IfName(self.name.to_owned()),
            LinkAttribute::Mtu(mtu.into()),
        ];
        attributes.extend(address.map(LinkAttribute::Address));
        attributes
    }
}

/// Makes a veth pair: what goes in at one end comes out at the other. Both ends are down, silent and
/// without offloads ([`Namespace::silence`], [`Namespace::switch_offloads_off`]).
///
/// # Errors
/// [`LabError::System`]: a name is taken, too long or empty; an MTU that the kernel refuses.
pub fn connect(near: End<'_>, far: End<'_>, mtu: u16) -> Result<(), LabError> {
    let mut peer = LinkMessage::default();
    peer.attributes = far.attributes(mtu);
    let place = LinkAttribute::NetNsFd(far.namespace.as_fd().as_raw_fd());
    peer.attributes.push(place);
    let mut attributes = near.attributes(mtu);
    attributes.push(LinkAttribute::LinkInfo(vec![
        LinkInfo::Kind(InfoKind::Veth),
        LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
    ]));
    let action = format!("make the veth pair {} - {}", near.name, far.name);
    near.namespace.create(attributes, action)?;
    for end in [near, far] {
        end.namespace.silence(end.name)?;
        end.namespace.switch_offloads_off(end.name)?;
    }
    Ok(())
}

impl Namespace {
    /// Makes a bridge that passes every frame at once and as it is, silent and up: no spanning tree, no
    /// multicast snooping, and, where `/proc/sys` can be written, no netfilter, which
    /// drops malformed IPv4 packets and cuts the padding off short ones.
    ///
    /// # Errors
    /// [`LabError::System`]: the name is taken, too long or empty.
    pub fn add_bridge(&self, bridge: &str, mtu: u16) -> Result<(), LabError> {
        let attributes = vec![
            LinkAttribute::IfName(bridge.to_owned()),
            LinkAttribute::Mtu(mtu.into()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Bridge),
                LinkInfo::Data(InfoData::Bridge(vec![
                    InfoBridge::StpState(BridgeStpState::Disabled),
                    InfoBridge::MulticastSnooping(false),
                ])),
            ]),
        ];
        self.create(attributes, format!("make the bridge {bridge}"))?;
        self.keep_netfilter_off()?;
        self.silence(bridge)?;
        self.set_up(bridge)
    }

    /// Takes the namespace's bridges out of netfilter's hands.
    fn keep_netfilter_off(&self) -> Result<(), LabError> {
        for protocol in ["ip", "ip6", "arp"] {
            let file = format!("/proc/sys/net/bridge/bridge-nf-call-{protocol}tables");
            use io::ErrorKind::{NotFound, PermissionDenied, ReadOnlyFilesystem};
            match self.run(|| fs::write(&file, "0"))? {
                // Without br_netfilter there is nothing to switch off; a container may forbid it.
                Err(error)
                    if matches!(
                        error.kind(),
                        NotFound | PermissionDenied | ReadOnlyFilesystem
                    ) => {}
                result => result.map_err(LabError::system(format!("write {file}")))?,
            }
        }
        Ok(())
    }

    /// Makes `interface` a port of `bridge`.
    ///
    /// # Errors
    /// [`LabError::System`]: one of them does not exist, or cannot be used so.
    pub fn attach(&self, interface: &str, bridge: &str) -> Result<(), LabError> {
        let action = format!("attach interface {interface} to bridge {bridge}");
        let index = self.link(bridge)?.header.index;
        let attributes = vec![LinkAttribute::Controller(index)];
        self.change(interface, attributes, action)
    }

    /// Gives `interface` an address for the kernel's own stack.
    ///
    /// # Errors
    /// [`LabError::System`]: no such interface, an address that is there already, a prefix above 32.
    pub fn add_address(
        &self,
        interface: &str,
        address: Ipv4Addr,
        prefix: u8,
    ) -> Result<(), LabError> {
        let action = format!("give interface {interface} the address {address}/{prefix}");
        let mut message = AddressMessage::default();
        message.header.family = AddressFamily::Inet;
        message.header.prefix_len = prefix;
        message.header.index = self.link(interface)?.header.index;
        message.attributes = vec![
            AddressAttribute::Local(address.into()),
            AddressAttribute::Address(address.into()),
        ];
        let message = RouteNetlinkMessage::NewAddress(message);
        self.route(message, NLM_F_CREATE | NLM_F_EXCL, action)
            .map(drop)
    }

    /// Brings `interface` up.
    ///
    /// # Errors
    /// [`LabError::System`]: no such interface.
    pub fn set_up(&self, interface: &str) -> Result<(), LabError> {
        self.set_flag(interface, LinkFlags::Up, "up")
    }

    /// Takes `interface` down.
    ///
    /// # Errors
    /// [`LabError::System`]: no such interface.
    pub fn set_down(&self, interface: &str) -> Result<(), LabError> {
        self.set_flag(interface, LinkFlags::empty(), "down")
    }

    /// Sets the largest IP packet of `interface`, in bytes.
    ///
    /// # Errors
    /// [`LabError::System`]: no such interface, or an MTU that it cannot have.
    pub fn set_mtu(&self, interface: &str, mtu: u16) -> Result<(), LabError> {
        let action = format!("set the MTU of interface {interface} to {mtu}");
        self.change(interface, vec![LinkAttribute::Mtu(mtu.into())], action)
    }

    /// Removes `interface`, and with it the other end of a veth pair.
    ///
    /// # Errors
    /// [`LabError::System`]: no such interface.
    pub fn remove(&self, interface: &str) -> Result<(), LabError> {
        let message = RouteNetlinkMessage::DelLink(named(interface));
        let action = format!("remove interface {interface}");
        self.route(message, 0, action).map(drop)
    }

    /// Keeps the kernel from taking an IPv6 address on `interface` by itself, and so from sending
    /// neighbour and router solicitations through it. This works without write access to
    /// `/proc/sys`, which an unprivileged user namespace lacks.
    ///
    /// # Errors
    /// [`LabError::System`]: no such interface.
    pub fn silence(&self, interface: &str) -> Result<(), LabError> {
        let none = AfSpecUnspec::Inet6(vec![AfSpecInet6::AddrGenMode(In6AddrGenMode::None)]);
        let action = format!("silence interface {interface}");
        let attributes = vec![LinkAttribute::AfSpecUnspec(vec![none])];
        match self.change(interface, attributes, action) {
            // A kernel without IPv6 is silent as it is.
            Err(LabError::System { source, .. })
                if source.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
            {
                Ok(())
            }
            result => result,
        }
    }

    /// Waits until frames pass through `interface`: its state is up, and its bridge, if it
    /// is the port of one, forwards.
    ///
    /// # Errors
    /// [`LabError::NotReady`] after 10 s; [`LabError::System`]: no such interface.
    pub fn wait_ready(&self, interface: &str) -> Result<(), LabError> {
        let start = Instant::now();
        while !is_ready(&self.link(interface)?) {
            if start.elapsed() > READY {
                return Err(LabError::NotReady {
                    interface: interface.to_owned(),
                    seconds: READY.as_secs(),
                });
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// What the kernel says of `interface`.
    fn link(&self, interface: &str) -> Result<LinkMessage, LabError> {
        let action = format!("look up interface {interface}");
        let missing = LabError::system(action.clone());
        let message = RouteNetlinkMessage::GetLink(named(interface));
        let answers = self.route(message, 0, action)?;
        let link = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(link),
            _ => None,
        });
        link.ok_or_else(|| missing(io::ErrorKind::InvalidData.into()))
    }

    fn set_flag(&self, interface: &str, up: LinkFlags, word: &str) -> Result<(), LabError> {
        let mut message = named(interface);
        message.header.flags = up;
        message.header.change_mask = LinkFlags::Up;
        let action = format!("bring interface {interface} {word}");
        self.route(RouteNetlinkMessage::SetLink(message), 0, action)
            .map(drop)
    }

    fn create(&self, attributes: Vec<LinkAttribute>, action: String) -> Result<(), LabError> {
        let mut message = LinkMessage::default();
        message.attributes = attributes;
        let message = RouteNetlinkMessage::NewLink(message);
        self.route(message, NLM_F_CREATE | NLM_F_EXCL, action)
            .map(drop)
    }

    fn change(
        &self,
        interface: &str,
        attributes: Vec<LinkAttribute>,
        action: String,
    ) -> Result<(), LabError> {
        let mut message = named(interface);
        message.attributes.extend(attributes);
        self.route(RouteNetlinkMessage::SetLink(message), 0, action)
            .map(drop)
    }

    /// One question to rtnetlink inside; `action` says in an error what it was for.
    fn route(
        &self,
        message: RouteNetlinkMessage,
        flags: u16,
        action: String,
    ) -> Result<Vec<RouteNetlinkMessage>, LabError> {
        self.run(|| netlink::request(NETLINK_ROUTE, message, flags))?
            .map_err(LabError::system(action))
    }
}

/// A message about the interface of that name.
fn named(interface: &str) -> LinkMessage {
    let mut message = LinkMessage::default();
    let name = LinkAttribute::IfName(interface.to_owned());
    message.attributes.push(name);
    message
}

fn is_ready(link: &LinkMessage) -> bool {
    let up = link
        .attributes
        .contains(&LinkAttribute::OperState(State::Up));
    let port_state = link
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            LinkAttribute::LinkInfo(infos) => Some(infos),
            _ => None,
        })
        .flatten()
        .filter_map(|info| match info {
            LinkInfo::PortData(InfoPortData::BridgePort(port)) => Some(port),
            _ => None,
        })
        .flatten()
        .find_map(|port| match port {
            InfoBridgePort::State(state) => Some(*state),
            _ => None,
        });
    up && port_state.is_none_or(|state| state == BridgePortState::Forwarding)
}
