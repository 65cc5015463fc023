//! The same rule for UDP: the datagrams of a flow are answered by one server.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::time::Duration;

use ipos_core::{Flow, Instant};
use smoltcp::wire::{IpProtocol, Ipv4Packet, UdpPacket};

use super::FLOWS;

/// What the servers do with the datagrams of each flow.
///
/// * The first server sends them to one other server until that one releases the flow, or may be taken for dead, or no
///   datagram has come for so long that the forward record is gone; it does not answer itself meanwhile. What it has
///   answered before that may come later, when it has waited for an ARP reply.
/// * Another server answers only once it was sent a datagram of the flow by a 0x02.
#[derive(Default)]
pub(super) struct DatagramFlows {
    /// How long a forward record lives without a datagram.
    pub(super) idle: Duration,
    flows: BTreeMap<Flow, Datagrams>,
}

#[derive(Default)]
struct Datagrams {
    /// Servers that have taken the flow, and have not lost or released it since.
    takers: BTreeSet<usize>,
    /// Where the first server sends them, and when it did so last.
    forwarded: Option<(usize, Instant)>,
    /// When the first datagram came that the first server has not sent to another one.
    unsent: Option<Instant>,
    /// Until then answers of the first server's own may come.
    late_until: Instant,
    /// Servers that were sent some.
    holders: BTreeSet<usize>,
}

/// Two offers that nobody answers take 124 ms: a datagram that waits longer was for the first server itself.
const OFFERED: Duration = Duration::from_millis(200);
/// An answer waits no longer for an ARP reply.
const HELD: Duration = Duration::from_secs(5);

/// The two ends of a UDP packet, source first.
pub(super) fn ends(packet: &[u8]) -> Option<(SocketAddrV4, SocketAddrV4)> {
    let packet = Ipv4Packet::new_checked(packet).ok()?;
    if packet.next_header() != IpProtocol::Udp {
        return None;
    }
    let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
    Some((
        SocketAddrV4::new(packet.src_addr(), datagram.src_port()),
        SocketAddrV4::new(packet.dst_addr(), datagram.dst_port()),
    ))
}

impl DatagramFlows {
    fn flow(&mut self, flow: Flow) -> &mut Datagrams {
        if self.flows.len() >= FLOWS && !self.flows.contains_key(&flow) {
            self.flows.pop_first();
        }
        self.flows.entry(flow).or_default()
    }

    /// The first server sends a 0x02. The server that has the flow, if that is another one.
    pub(super) fn forwards(&mut self, now: Instant, flow: Flow, to: usize) -> Option<usize> {
        let idle = self.idle;
        let known = self.flow(flow);
        let owner = known.forwarded.filter(|(_, last)| *last + idle > now);
        // One that has crashed since is none.
        known.forwarded = known.takers.contains(&to).then_some((to, now));
        if known
            .unsent
            .take()
            .is_some_and(|since| since + OFFERED < now)
        {
            known.late_until = now + HELD;
        }
        owner.map(|(owner, _)| owner).filter(|owner| *owner != to)
    }

    /// A client's datagram comes to the first server.
    pub(super) fn comes(&mut self, now: Instant, flow: Flow) {
        let known = self.flow(flow);
        if known.forwarded.is_none() {
            known.unsent.get_or_insert(now);
        }
    }

    /// A server answers an offer of the first one.
    pub(super) fn takes(&mut self, server: usize, client: SocketAddrV4, endpoint: SocketAddrV4) {
        self.flow(Flow::udp(client, endpoint)).takers.insert(server);
    }

    /// A 0x02 comes to a server.
    pub(super) fn reach(&mut self, flow: Flow, server: usize) {
        self.flow(flow).holders.insert(server);
    }

    /// The RELEASE of a server comes to the first one of a client's flows to this port.
    pub(super) fn released(&mut self, from: usize, client: SocketAddrV4, endpoint: SocketAddrV4) {
        if let Some(known) = self.flows.get_mut(&Flow::udp(client, endpoint)) {
            known.forwarded.take_if(|(owner, _)| *owner == from);
            known.takers.remove(&from);
        }
    }

    /// A server answers a client: whether it may, and else whose the flow is.
    pub(super) fn answers(
        &mut self,
        now: Instant,
        flow: &Flow,
        server: usize,
        is_first: bool,
    ) -> Result<(), Option<usize>> {
        let idle = self.idle;
        let known = self.flows.get(flow);
        let owner = known.and_then(|known| known.forwarded);
        let owner = owner.filter(|(_, last)| *last + idle > now);
        let owner = owner.map(|(owner, _)| owner);
        let may = if is_first {
            owner.is_none() || known.is_some_and(|known| now < known.late_until)
        } else {
            known.is_some_and(|known| known.holders.contains(&server))
        };
        if may { Ok(()) } else { Err(owner) }
    }

    /// The first server may have given up the owner; `of_first`: whether a flow is the first server's.
    pub(super) fn given_up(&mut self, owner: usize, of_first: impl Fn(&Flow) -> bool) {
        for (_, known) in self.flows.iter_mut().filter(|(flow, _)| of_first(flow)) {
            known.forwarded.take_if(|(known, _)| *known == owner);
        }
    }

    /// A server has lost its state.
    pub(super) fn crashed(&mut self, server: usize, is_first: impl Fn(&Flow) -> bool) {
        for (flow, known) in &mut self.flows {
            known.holders.remove(&server);
            known.takers.remove(&server);
            known
                .forwarded
                .take_if(|(owner, _)| *owner == server || is_first(flow));
        }
    }
}
