//! The rule that a connection has one owner.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use ipos_core::{Flow, Instant};
use ipos_proto::{ETHERTYPE, Ethernet, Frame, MacAddr, Message};
use smoltcp::wire::{IpProtocol, Ipv4Packet, TcpPacket};

use crate::addresses::ServerAddresses;
use crate::network::{LanId, NodeId};
use crate::observe::{Observer, Sighting};

const IPV4: u16 = 0x0800;
/// Flows that are followed. Full: the one with the lowest client address is no more, so it is not checked.
const FLOWS: usize = 65_536;
/// Violations that are kept; further ones are counted.
const VIOLATIONS: usize = 64;

/// Checks, from the frames alone, that at most one server transmits on a connection at a time, and that
/// another one does so only after a hand-over.
///
/// * A server may transmit on LAN A for a flow once it got the client's SYN, or a 0x02 of the flow that
///   was sent to it after it answered a 0x01 with 0x03.
/// * It may not any more once it has itself sent a 0x02 of the flow.
/// * A server that the connection comes home to may transmit after its 0x03.
/// * After the owner's RELEASE nobody may transmit but RST.
/// * After a crash of the first server or the owner the flow is free: nothing of it is checked.
pub struct OneOwner {
    lan_a: LanId,
    lan_b: LanId,
    ethertype: u16,
    /// Server of each Port A hardware address.
    port_a: BTreeMap<MacAddr, usize>,
    /// Server of each Port A address.
    addresses: BTreeMap<Ipv4Addr, usize>,
    /// Server of each Port B hardware address.
    port_b: BTreeMap<MacAddr, usize>,
    /// Server of each node.
    nodes: BTreeMap<NodeId, usize>,
    flows: BTreeMap<Flow, Ownership>,
    violations: Vec<Violation>,
    count: u64,
}

#[derive(Default)]
struct Ownership {
    /// The client's initial sequence number: another one is another connection.
    isn: i32,
    /// The server that transmits.
    owner: Option<usize>,
    /// Servers that have the endpoint and were sent a packet of it.
    granted: BTreeSet<usize>,
    /// Servers that got a 0x01.
    offered: BTreeSet<usize>,
    /// Servers that have answered it with 0x03.
    installed: BTreeSet<usize>,
    /// The owner has released it.
    ended: bool,
}

/// A server transmitted on a connection that was not its own, or had ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub now: Instant,
    /// The connection.
    pub flow: Flow,
    /// The server's number, from 0.
    pub server: usize,
    /// Whose it was, if anybody's.
    pub owner: Option<usize>,
    /// TCP flags, sequence number and payload length of the segment.
    pub segment: String,
}

impl OneOwner {
    /// For servers 0, 1, .. that are `nodes` of the network, in this order.
    pub fn new(lan_a: LanId, lan_b: LanId, nodes: impl IntoIterator<Item = NodeId>) -> OneOwner {
        let servers: Vec<(usize, NodeId)> = nodes.into_iter().enumerate().collect();
        let of = |index| ServerAddresses::of(index);
        OneOwner {
            lan_a,
            lan_b,
            ethertype: ETHERTYPE,
            port_a: servers
                .iter()
                .map(|&(server, _)| (of(server).a.0, server))
                .collect(),
            addresses: servers
                .iter()
                .map(|&(server, _)| (of(server).a.1, server))
                .collect(),
            port_b: servers
                .iter()
                .map(|&(server, _)| (of(server).b.0, server))
                .collect(),
            nodes: servers
                .iter()
                .map(|&(server, node)| (node, server))
                .collect(),
            flows: BTreeMap::new(),
            violations: Vec::new(),
            count: 0,
        }
    }

    /// The farm's Ethernet type on Port B, where it is not the seed's.
    pub fn with_ethertype(mut self, ethertype: u16) -> OneOwner {
        self.ethertype = ethertype;
        self
    }

    /// The first violations.
    pub fn violations(&self) -> &[Violation] {
        &self.violations
    }

    /// How many violations there were.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// A server sends to a client.
    fn server_sends(&mut self, now: Instant, server: usize, packet: &[u8]) {
        let Some((segment, source, destination)) = segment(packet) else {
            return;
        };
        let flow = Flow::tcp(destination, source);
        let Some(ownership) = self.flows.get_mut(&flow) else {
            return;
        };
        if ownership.ended && segment.rst() {
            return;
        }
        if !ownership.ended && ownership.owner == Some(server) {
            return;
        }
        if !ownership.ended && ownership.granted.remove(&server) {
            ownership.owner = Some(server);
            return;
        }
        self.count += 1;
        if self.violations.len() < VIOLATIONS {
            let owner = ownership.owner;
            self.violations.push(Violation {
                now,
                flow,
                server,
                owner,
                segment: segment.to_string(),
            });
        }
    }

    /// A client's segment arrives at a server. A SYN begins a connection, even if it is a late copy.
    fn client_reaches(&mut self, server: usize, packet: &[u8]) {
        let Some((segment, client, endpoint)) = segment(packet) else {
            return;
        };
        let here = self.addresses.get(endpoint.ip()) == Some(&server);
        let (source, destination) = ((*client.ip()).into(), (*endpoint.ip()).into());
        if !here
            || !segment.syn()
            || segment.ack()
            || !segment.verify_checksum(&source, &destination)
        {
            return;
        }
        let isn = segment.seq_number().0;
        let flow = Flow::tcp(client, endpoint);
        if self
            .flows
            .get(&flow)
            .is_none_or(|known| known.ended || known.isn != isn)
        {
            if self.flows.len() >= FLOWS {
                self.flows.pop_first();
            }
            self.flows.insert(
                flow,
                Ownership {
                    isn,
                    owner: Some(server),
                    ..Ownership::default()
                },
            );
        }
    }

    /// A server sends on Port B.
    fn sends_on_b(&mut self, server: usize, frame: &Frame<'_>) {
        match frame.message {
            Message::Packet(packet) => {
                if let Some(ownership) = self.flow_of(packet)
                    && (ownership.owner == Some(server) || ownership.granted.remove(&server))
                {
                    ownership.owner = None;
                }
            }
            Message::Acknowledgement { .. } => {
                let OneOwner {
                    flows, addresses, ..
                } = self;
                for (flow, ownership) in flows_of(flows, frame.header.client, frame.header.port) {
                    if ownership.offered.contains(&server) && ownership.owner != Some(server) {
                        ownership.installed.insert(server);
                        if addresses.get(flow.endpoint.ip()) == Some(&server) {
                            ownership.granted.insert(server);
                        }
                    }
                }
            }
            Message::Release { .. } => {
                for (_, ownership) in
                    flows_of(&mut self.flows, frame.header.client, frame.header.port)
                {
                    // It may have been the owner without a word to the client.
                    ownership.ended |=
                        ownership.owner == Some(server) || ownership.granted.remove(&server);
                }
            }
            _ => {}
        }
    }

    /// A frame on Port B arrives at a server.
    fn reaches_b(&mut self, server: usize, frame: &Frame<'_>) {
        match frame.message {
            Message::Endpoint { connection, .. } => {
                if let Some(known) = self
                    .flows
                    .get_mut(&Flow::tcp(frame.header.client, connection.first()))
                {
                    known.offered.insert(server);
                }
            }
            Message::Packet(packet) => {
                if let Some(known) = self.flow_of(packet)
                    && known.owner != Some(server)
                    && known.installed.contains(&server)
                {
                    known.granted.insert(server);
                }
            }
            _ => {}
        }
    }

    /// The flow of a client's packet.
    fn flow_of(&mut self, packet: &[u8]) -> Option<&mut Ownership> {
        let (_, client, endpoint) = segment(packet)?;
        self.flows.get_mut(&Flow::tcp(client, endpoint))
    }
}

/// The TCP segment in an IP packet, with source and destination.
fn segment(packet: &[u8]) -> Option<(TcpPacket<&[u8]>, SocketAddrV4, SocketAddrV4)> {
    let packet = Ipv4Packet::new_checked(packet).ok()?;
    if packet.next_header() != IpProtocol::Tcp {
        return None;
    }
    let segment = TcpPacket::new_checked(packet.payload()).ok()?;
    let source = SocketAddrV4::new(packet.src_addr(), segment.src_port());
    let destination = SocketAddrV4::new(packet.dst_addr(), segment.dst_port());
    Some((segment, source, destination))
}

/// The flows of a client's address and port to a port of any server.
fn flows_of(
    flows: &mut BTreeMap<Flow, Ownership>,
    client: SocketAddrV4,
    port: u16,
) -> impl Iterator<Item = (&Flow, &mut Ownership)> {
    let end = |address: Ipv4Addr, port| Flow::tcp(client, SocketAddrV4::new(address, port));
    let all = end(Ipv4Addr::UNSPECIFIED, 0)..=end(Ipv4Addr::BROADCAST, u16::MAX);
    flows
        .range_mut(all)
        .filter(move |(flow, _)| flow.endpoint.port() == port)
}

impl Observer for OneOwner {
    fn sent(&mut self, sighting: &Sighting<'_>) {
        let Ok((ethernet, rest)) = Ethernet::parse(sighting.frame) else {
            return;
        };
        if sighting.lan == self.lan_a && ethernet.ethertype == IPV4 {
            if let Some(&server) = self.port_a.get(&ethernet.source) {
                self.server_sends(sighting.now, server, rest);
            }
        } else if sighting.lan == self.lan_b
            && ethernet.ethertype == self.ethertype
            && let Some(&server) = self.port_b.get(&ethernet.source)
            && let Ok(frame) = Frame::parse(rest)
        {
            self.sends_on_b(server, &frame);
        }
    }

    fn delivered(&mut self, sighting: &Sighting<'_>) {
        let Ok((ethernet, rest)) = Ethernet::parse(sighting.frame) else {
            return;
        };
        let Some(&server) = self.nodes.get(&sighting.node) else {
            return;
        };
        if sighting.lan == self.lan_a && ethernet.ethertype == IPV4 {
            self.client_reaches(server, rest);
        } else if sighting.lan == self.lan_b
            && ethernet.ethertype == self.ethertype
            && self.port_b.get(&ethernet.destination) == Some(&server)
            && let Ok(frame) = Frame::parse(rest)
        {
            self.reaches_b(server, &frame);
        }
    }

    fn crashed(&mut self, _: Instant, node: NodeId) {
        let Some(&server) = self.nodes.get(&node) else {
            return;
        };
        self.flows.retain(|flow, known| {
            known.owner.is_some_and(|owner| owner != server)
                && self.addresses.get(flow.endpoint.ip()) != Some(&server)
        });
        for known in self.flows.values_mut() {
            for servers in [&mut known.granted, &mut known.offered, &mut known.installed] {
                servers.remove(&server);
            }
        }
    }
}

#[cfg(test)]
mod tests;
