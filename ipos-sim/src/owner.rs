//! The rule that a connection has one owner.

mod bereaved;
mod datagrams;
mod hearing;
mod ownership;
mod packets;
mod port_b;

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use ipos_core::config::Limits;
use ipos_core::{Flow, Instant};
use ipos_proto::{
    ConnectionInfo, ETHERTYPE, Epoch, Ethernet, Frame, Header, MacAddr, Message, Protocol, Trailer,
};
use smoltcp::wire::TcpPacket;

use self::datagrams::DatagramFlows;
use self::hearing::{Hearing, Sign};
use self::ownership::{Offer, Ownership, Told, USED};
use self::packets::{flow_of, is_intact, segment};
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
/// * After the owner's RELEASE nobody may transmit but RST, until the client connects from the same port again: the new
///   connection begins with the first server's SYN-ACK, which it may send when it is the owner or the former one has ended.
/// * After a crash of the first server, the owner, or a server that the first one still takes for the owner, the connection is
///   free: nothing of it is checked. The same where the first server has heard so little of the owner that it may take it for
///   dead, see [`OneOwner::with_limits`].
///
/// Of UDP flows, that one server answers: the first one, until it sends a datagram to another one, and then that one until
/// it releases the flow.
pub struct OneOwner {
    lan_a: LanId,
    lan_b: LanId,
    synch: Option<LanId>,
    ethertype: u16,
    /// Server of each Port A hardware address.
    port_a: BTreeMap<MacAddr, usize>,
    /// Server of each Port A address.
    addresses: BTreeMap<Ipv4Addr, usize>,
    /// Server of each Port B hardware address.
    port_b: BTreeMap<MacAddr, usize>,
    /// Server of each Port B address.
    by_address: BTreeMap<Ipv4Addr, usize>,
    /// Server of each Synch Port hardware address.
    port_synch: BTreeMap<MacAddr, usize>,
    /// Server of each node.
    nodes: BTreeMap<NodeId, usize>,
    flows: BTreeMap<Flow, Ownership>,
    datagrams: DatagramFlows,
    /// Flows whose owner crashed, and when.
    bereaved: BTreeMap<Flow, Vec<Instant>>,
    /// The client's initial sequence numbers on connections that are not checked any more.
    freed: BTreeMap<Flow, Vec<i32>>,
    hearing: Hearing,
    violations: Vec<Violation>,
    count: u64,
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
        let count = servers.len();
        OneOwner {
            lan_a,
            lan_b,
            synch: None,
            ethertype: ETHERTYPE,
            port_a: by(count, |server| server.a.0),
            addresses: by(count, |server| server.a.1),
            port_b: by(count, |server| server.b.0),
            by_address: by(count, |server| server.b.1),
            port_synch: by(count, |server| server.synch.0),
            nodes: servers
                .iter()
                .map(|&(server, node)| (node, server))
                .collect(),
            flows: BTreeMap::new(),
            datagrams: DatagramFlows::default(),
            bereaved: BTreeMap::new(),
            freed: BTreeMap::new(),
            hearing: Hearing::default(),
            violations: Vec::new(),
            count: 0,
        }
    }

    /// The farm's Ethernet type on Port B, where it is not 0x0007.
    pub fn with_ethertype(mut self, ethertype: u16) -> OneOwner {
        self.ethertype = ethertype;
        self
    }

    /// The servers' limits, and the LAN of their Synch Ports: a server that has not been heard there nor on LAN B for
    /// [`Limits::owner_lost`] may be taken for dead. Otherwise none ever is.
    pub fn with_limits(mut self, synch: LanId, limits: &Limits) -> OneOwner {
        self.synch = Some(synch);
        self.hearing.patience = limits.owner_lost;
        self.datagrams.idle = limits.forward_idle;
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

    /// When a server crashed that the flow's connection needed: its owner, one that took part in a hand-over under way,
    /// or one that the first server still took for the owner; or when the first server could take it for dead. Of the first
    /// 65 536 such flows.
    pub fn bereavements(&self, flow: &Flow) -> &[Instant] {
        self.bereaved.get(flow).map_or(&[], Vec::as_slice)
    }

    /// The server that a client connected to.
    fn first(&self, flow: &Flow) -> Option<usize> {
        self.addresses.get(flow.endpoint.ip()).copied()
    }

    /// A server sends to a client.
    fn server_sends(&mut self, now: Instant, server: usize, packet: &[u8]) {
        let Some((segment, source, destination)) = segment(packet) else {
            return self.server_answers(now, server, packet);
        };
        let flow = Flow::tcp(destination, source);
        let is_first = self.first(&flow) == Some(server);
        if self.is_of_freed(&flow, &segment) {
            let led_to = self.flows.get(&flow).and_then(|known| known.forwarded_to);
            if let Some(led) = led_to.filter(|_| is_first && segment.rst())
                && let Some(since) = self.hearing.lost_since(now, server, led)
            {
                self.bereave(since, flow);
            }
            return;
        }
        let known = self.flows.get(&flow);
        let led_to = known.and_then(|known| known.forwarded_to.filter(|_| is_first));
        let lost = led_to.and_then(|led| self.hearing.lost_since(now, server, led));
        let answered = segment.ack_number().0.wrapping_sub(1);
        let opens = segment.syn() && known.is_some_and(|known| known.next == Some(answered));
        if let Some(since) = lost.filter(|_| opens) {
            // The former connection was given up.
            self.bereave(since, flow);
        }
        let Some(ownership) = self.flows.get_mut(&flow) else {
            return;
        };
        let may = if is_first && segment.syn() {
            ownership.begins(server, answered)
        } else if ownership.ended {
            segment.rst()
        } else if ownership.granted.remove(&server) {
            ownership.owner = Some(server);
            ownership.lapsed = false;
            true
        } else if is_first && ownership.lapsed && segment.rst() {
            return self.free(flow);
        } else {
            ownership.owner == Some(server)
        };
        if may {
            return;
        }
        let owner = ownership.owner;
        if let Some(since) = lost {
            return self.bereave(since, flow);
        }
        self.violated(now, flow, server, owner, segment.to_string());
    }

    /// A server sends a datagram to a client.
    fn server_answers(&mut self, now: Instant, server: usize, packet: &[u8]) {
        let Some((endpoint, client)) = datagrams::ends(packet) else {
            return;
        };
        let flow = Flow::udp(client, endpoint);
        let is_first = self.first(&flow) == Some(server);
        let Err(owner) = self.datagrams.answers(now, &flow, server, is_first) else {
            return;
        };
        let lost = owner.and_then(|owner| self.hearing.lost_since(now, server, owner));
        if !is_first || lost.is_none() {
            self.violated(now, flow, server, owner, "datagram".into());
        }
    }

    fn violated(
        &mut self,
        now: Instant,
        flow: Flow,
        server: usize,
        owner: Option<usize>,
        segment: String,
    ) {
        self.count += 1;
        if self.violations.len() < VIOLATIONS {
            self.violations.push(Violation {
                now,
                flow,
                server,
                owner,
                segment,
            });
        }
    }

    /// Whether a segment is of a connection that is not checked any more; all RSTs are, where there was one.
    fn is_of_freed(&self, flow: &Flow, segment: &TcpPacket<&[u8]>) -> bool {
        let ack = segment.ack_number().0;
        let used = |isn: i32| Some(ack.wrapping_sub(isn)).filter(|used| (0..=USED).contains(used));
        // Initial sequence numbers may lie near one another: it is of the connection that began last before it.
        let known = self.flows.get(flow);
        let known = known.and_then(|known| {
            used(known.isn)
                .into_iter()
                .chain(known.next.and_then(used))
                .min()
        });
        self.freed.get(flow).is_some_and(|freed| {
            let freed = freed.iter().copied().filter_map(used).min();
            segment.rst() || freed.is_some_and(|freed| known.is_none_or(|known| freed <= known))
        })
    }

    /// A client's segment arrives at a server. A SYN begins a connection, even if it is a late copy.
    fn client_reaches(&mut self, now: Instant, server: usize, packet: &[u8]) {
        let Some((segment, client, endpoint)) = segment(packet) else {
            if let Some((client, endpoint)) = datagrams::ends(packet) {
                let flow = Flow::udp(client, endpoint);
                if self.first(&flow) == Some(server) {
                    self.datagrams.comes(now, flow);
                }
            }
            return;
        };
        let here = self.addresses.get(endpoint.ip()) == Some(&server);
        if !here || !segment.syn() || segment.ack() || !is_intact(packet) {
            return;
        }
        let isn = segment.seq_number().0;
        let flow = Flow::tcp(client, endpoint);
        if let Some(known) = self.flows.get_mut(&flow) {
            if known.isn != isn {
                known.next = Some(isn);
            }
            return;
        }
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

/// The numbers of so many servers, by one of their addresses.
fn by<K: Ord>(count: usize, key: impl Fn(ServerAddresses) -> K) -> BTreeMap<K, usize> {
    let servers = 0..count;
    servers
        .map(|server| (key(ServerAddresses::of(server)), server))
        .collect()
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
            self.sends_on_b(sighting.now, server, to, &frame);
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
            self.client_reaches(sighting.now, server, rest);
        } else if sighting.lan == self.lan_b
            && ethernet.ethertype == self.ethertype
            && self.port_b.get(&ethernet.destination) == Some(&server)
            && let Some(&from) = self.port_b.get(&ethernet.source)
            && let Ok(frame) = Frame::parse(rest)
        {
            let sign = Sign::of(&frame.message);
            self.hears(sighting.now, server, from, sign);
            self.reaches_b(sighting.now, server, from, &frame);
        } else if self.synch == Some(sighting.lan)
            && let Some(&from) = self.port_synch.get(&ethernet.source)
            && let Some(sign) = Sign::report(rest)
        {
            self.hears(sighting.now, server, from, sign);
        }
    }

    fn crashed(&mut self, now: Instant, node: NodeId) {
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
            self.bereave(now, flow);
        }
        let ours = |flow: &Flow| self.addresses.get(flow.endpoint.ip()) == Some(&server);
        self.datagrams.crashed(server, ours);
        self.hearing.forget(server);
        let opened: Vec<Flow> = self
            .flows
            .keys()
            .filter(|flow| ours(flow))
            .copied()
            .collect();
        for flow in opened {
            self.free(flow);
        }
        for known in self.flows.values_mut() {
            known.forget(server);
        }
    }
}

/// Whether a RELEASE answers MOVED: the first server knows nothing of the connection, which it never had in this life.
fn answers_moved(trailer: &Trailer) -> bool {
    trailer.acknowledged().is_none() && trailer.epoch != Epoch::default()
}

#[cfg(test)]
mod tests;
