//! The rule that a connection has one owner.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, SocketAddrV4};

use ipos_core::{Flow, Instant};
use ipos_proto::{ConnectionInfo, ETHERTYPE, Ethernet, Frame, Header, MacAddr, Message};
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
/// * A server may transmit on LAN A for a flow once it got the client's SYN; or a 0x02 of the flow from a server whose
///   0x01 it has answered with 0x03: its first one makes it the owner, be it the first server again.
/// * It may not any more once it has itself sent a 0x02 of the flow.
/// * An offer counts once: its epoch is above that of every one that the server has become the owner by.
/// * After the owner's RELEASE nobody may transmit but RST.
/// * After a crash of the first server, the owner, or a server that the first one still takes for the owner, the flow is
///   free: nothing of it is checked.
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
    /// Server of each Port B address.
    by_address: BTreeMap<Ipv4Addr, usize>,
    /// Server of each node.
    nodes: BTreeMap<NodeId, usize>,
    flows: BTreeMap<Flow, Ownership>,
    /// Flows whose owner crashed.
    bereaved: BTreeSet<Flow>,
    violations: Vec<Violation>,
    count: u64,
}

#[derive(Default)]
struct Ownership {
    /// The client's initial sequence number: another one is another connection.
    isn: i32,
    /// The server that transmits; `None` from its first 0x02 on until the next one does.
    owner: Option<usize>,
    /// Servers that have the endpoint and were sent a packet of it.
    granted: BTreeSet<usize>,
    /// The last offer that has reached each server.
    offers: BTreeMap<usize, Offer>,
    /// The epoch of the offer by which each server became the owner last.
    epochs: BTreeMap<usize, u32>,
    /// Servers that have crashed since they answered an offer; their 0x03 may be under way.
    forgotten: BTreeSet<usize>,
    /// The server that the first one sends the client's packets to.
    forwarded_to: Option<usize>,
    /// The owner has released it.
    ended: bool,
}

/// A 0x01.
#[derive(Clone, Copy)]
struct Offer {
    giver: usize,
    epoch: u32,
    /// It was answered with 0x03.
    answered: bool,
}

impl Ownership {
    /// Whether the connection cannot go on without this server.
    fn needs(&self, server: usize) -> bool {
        let under_way = |offer: &Offer| offer.answered || offer.giver == server;
        let between = self.owner.is_none()
            && self.granted.is_empty()
            && (self.offers.get(&server).is_some_and(under_way)
                || self.offers.values().any(|offer| offer.giver == server));
        let owns = self.owner == Some(server) || self.granted.contains(&server);
        between || owns || self.forwarded_to == Some(server)
    }

    /// The server has lost its state.
    fn forget(&mut self, server: usize) {
        if self
            .offers
            .remove(&server)
            .is_some_and(|offer| offer.answered)
        {
            self.forgotten.insert(server);
        }
        // A new life begins with epochs of its own.
        self.epochs.remove(&server);
    }

    /// A server sends a 0x02 to another one. Whether that one has crashed in between.
    fn hands_on(&mut self, server: usize, to: Option<usize>) -> bool {
        if self.granted.remove(&server) || self.owner == Some(server) {
            self.owner = None;
            self.offers.remove(&server);
        }
        to.is_some_and(|to| self.forgotten.contains(&to))
    }
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
            by_address: servers
                .iter()
                .map(|&(server, _)| (of(server).b.1, server))
                .collect(),
            nodes: servers
                .iter()
                .map(|&(server, node)| (node, server))
                .collect(),
            flows: BTreeMap::new(),
            bereaved: BTreeSet::new(),
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

    /// Whether a server crashed that the flow's connection needed: its owner, one that took part in a hand-over under way,
    /// or one that the first server still took for the owner. The first 65 536 such flows are remembered.
    pub fn is_bereaved(&self, flow: &Flow) -> bool {
        self.bereaved.contains(flow)
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
        if !here || !segment.syn() || segment.ack() || !is_intact(packet) {
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
    fn sends_on_b(&mut self, server: usize, to: Option<usize>, frame: &Frame<'_>) {
        let Header { client, port, .. } = frame.header;
        match frame.message {
            Message::Packet(packet) => {
                let Some(flow) = flow_of(packet) else { return };
                let Some(known) = self.flows.get_mut(&flow) else {
                    return;
                };
                let first = self.addresses.get(flow.endpoint.ip()) == Some(&server);
                if first && known.owner == Some(server) {
                    known.forwarded_to = to;
                }
                if known.hands_on(server, to) {
                    self.bereave(flow);
                }
            }
            Message::Acknowledgement { trailer } => {
                for (_, known) in flows_of(&mut self.flows, client, port) {
                    if let Some(offer) = known.offers.get_mut(&server)
                        && Some(offer.giver) == to
                        && trailer.is_none_or(|trailer| trailer.epoch.raw() == offer.epoch)
                    {
                        offer.answered = true;
                        known.forgotten.remove(&server);
                    }
                }
            }
            Message::Release { .. } => {
                for (_, known) in flows_of(&mut self.flows, client, port) {
                    // It may have been the owner without a word to the client.
                    known.ended |= known.owner == Some(server) || known.granted.remove(&server);
                }
            }
            _ => {}
        }
    }

    /// A frame on Port B arrives at a server.
    fn reaches_b(&mut self, server: usize, from: usize, frame: &Frame<'_>) {
        let Header { client, port, .. } = frame.header;
        match frame.message {
            Message::Endpoint {
                connection: ConnectionInfo::Tcp { first, control },
                ..
            } => {
                let Some(known) = self.flows.get_mut(&Flow::tcp(client, first)) else {
                    return;
                };
                let epoch = control.epoch.raw();
                let last = known.offers.get(&server).map(|offer| offer.epoch);
                let last = last.max(known.epochs.get(&server).copied());
                if last.is_none_or(|last| epoch > last) {
                    let offer = Offer {
                        giver: from,
                        epoch,
                        answered: false,
                    };
                    known.offers.insert(server, offer);
                }
            }
            Message::Packet(packet) => {
                let flow = flow_of(packet).filter(|_| is_intact(packet));
                let Some(known) = flow.and_then(|flow| self.flows.get_mut(&flow)) else {
                    return;
                };
                let answered = |offer: &&mut Offer| offer.answered && offer.giver == from;
                if known.owner != Some(server)
                    && let Some(&mut Offer { epoch, .. }) =
                        known.offers.get_mut(&server).filter(answered)
                    && known.epochs.get(&server).is_none_or(|last| epoch > *last)
                {
                    known.epochs.insert(server, epoch);
                    known.granted.insert(server);
                }
            }
            Message::Moved { target, .. } => {
                let owner = self.by_address.get(target.ip()).copied();
                let OneOwner {
                    flows, addresses, ..
                } = self;
                for (flow, known) in flows_of(flows, client, port) {
                    if addresses.get(flow.endpoint.ip()) == Some(&server) {
                        known.forwarded_to = owner;
                    }
                }
            }
            _ => {}
        }
    }

    /// The connection cannot go on: nothing of it is checked any more.
    fn bereave(&mut self, flow: Flow) {
        self.flows.remove(&flow);
        if self.bereaved.len() < FLOWS {
            self.bereaved.insert(flow);
        }
    }
}

/// The flow of a client's packet.
fn flow_of(packet: &[u8]) -> Option<Flow> {
    let (_, client, endpoint) = segment(packet)?;
    Some(Flow::tcp(client, endpoint))
}

/// Whether the checksums of a TCP packet hold: a device drops others.
fn is_intact(packet: &[u8]) -> bool {
    let Ok(packet) = Ipv4Packet::new_checked(packet) else {
        return false;
    };
    let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
    packet.verify_checksum()
        && TcpPacket::new_checked(packet.payload())
            .is_ok_and(|segment| segment.verify_checksum(&source, &destination))
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
            let to = self.port_b.get(&ethernet.destination).copied();
            self.sends_on_b(server, to, &frame);
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
            && let Some(&from) = self.port_b.get(&ethernet.source)
            && let Ok(frame) = Frame::parse(rest)
        {
            self.reaches_b(server, from, &frame);
        }
    }

    fn crashed(&mut self, _: Instant, node: NodeId) {
        let Some(&server) = self.nodes.get(&node) else {
            return;
        };
        let lost: Vec<Flow> = self
            .flows
            .iter()
            .filter(|(_, known)| known.needs(server))
            .map(|(flow, _)| *flow)
            .collect();
        for flow in lost {
            self.bereave(flow);
        }
        self.flows
            .retain(|flow, _| self.addresses.get(flow.endpoint.ip()) != Some(&server));
        for known in self.flows.values_mut() {
            known.forget(server);
        }
    }
}

#[cfg(test)]
mod tests;
