//! What is said on Port B: by whom, and to whom.

use super::*;

impl OneOwner {
    /// A server sends on Port B.
    pub(super) fn sends_on_b(
        &mut self,
        now: Instant,
        server: usize,
        to: Option<usize>,
        frame: &Frame<'_>,
    ) {
        let Header {
            client,
            port,
            protocol,
            ..
        } = frame.header;
        match frame.message {
            Message::Packet(packet) if protocol == Protocol::Udp => {
                let (Some((client, endpoint)), Some(to)) = (datagrams::ends(packet), to) else {
                    return;
                };
                let flow = Flow::udp(client, endpoint);
                if self.first(&flow) != Some(server) {
                    return;
                }
                if let Some(owner) = self.datagrams.forwards(now, flow, to)
                    && self.hearing.lost_since(now, server, owner).is_none()
                {
                    self.violated(
                        now,
                        flow,
                        server,
                        Some(owner),
                        format!("0x02 to s{}", to + 1),
                    );
                }
            }
            Message::Acknowledgement { .. } if protocol == Protocol::Udp => {
                if let Some(to) = to {
                    let endpoint = SocketAddrV4::new(ServerAddresses::of(to).a.1, port);
                    self.datagrams.takes(server, client, endpoint);
                }
            }
            _ if protocol == Protocol::Udp => {}
            Message::Packet(packet) => {
                let Some((flow, seq)) = flow_of(packet) else {
                    return;
                };
                let first = self.first(&flow) == Some(server);
                let known = self.flows.get_mut(&flow);
                let Some(known) = known.filter(|known| known.begun && known.uses(seq)) else {
                    return;
                };
                if first && (known.owner == Some(server) || known.granted.contains(&server)) {
                    known.forwarded_to = to;
                    let offer = to.and_then(|to| known.offers.get(&to));
                    known.followed = known.followed.max(offer.map_or(0, |offer| offer.epoch));
                }
                if let Some(to) = to.filter(|_| !first) {
                    known.passed_to.insert(server, to);
                }
                if known.hands_on(server, to) {
                    self.bereave(now, flow);
                }
            }
            Message::Acknowledgement { trailer } => {
                let epoch = trailer.map(|trailer| trailer.epoch.raw());
                for (flow, known) in flows_of(&mut self.flows, client, port) {
                    let first = self.addresses.get(flow.endpoint.ip()) == Some(&server);
                    if let Some(told) = known.told.filter(|told| first && Some(told.owner) == to)
                        && epoch == Some(told.epoch)
                    {
                        known.forwarded_to = to;
                        known.followed = told.epoch;
                        known.told = None;
                    }
                    if let Some(offer) = known.offers.get_mut(&server)
                        && Some(offer.giver) == to
                        && trailer.is_none_or(|trailer| trailer.epoch.raw() == offer.epoch)
                    {
                        offer.answered = true;
                        known.forgotten.remove(&server);
                    }
                }
            }
            Message::Release {
                trailer: Some(trailer),
            } if answers_moved(&trailer) => {}
            Message::Release { trailer } => {
                // The first server is told: the address that the client connected to is its.
                let first = to.map(|to| SocketAddrV4::new(ServerAddresses::of(to).a.1, port));
                let known = first.and_then(|first| self.flows.get_mut(&Flow::tcp(client, first)));
                // Or one that has passed on another connection of the client's port.
                let at = trailer.and_then(|trailer| trailer.acknowledged());
                let known = known.filter(|known| at.is_none_or(|at| known.is_at(at)));
                let unknown = trailer.is_some_and(|trailer| trailer.epoch == Epoch::default());
                if let Some(known) = known {
                    let granted = known.granted.remove(&server);
                    if unknown && granted {
                        // The packet came too late: it had forgotten the endpoint, and may be offered it again.
                        known.epochs.remove(&server);
                    }
                    // It may have been the owner without a word to the client.
                    known.ended |= known.owner == Some(server) || granted && !unknown;
                }
            }
            _ => {}
        }
    }

    /// A frame on Port B arrives at a server.
    pub(super) fn reaches_b(
        &mut self,
        now: Instant,
        server: usize,
        from: usize,
        frame: &Frame<'_>,
    ) {
        let Header {
            client,
            port,
            protocol,
            ..
        } = frame.header;
        match frame.message {
            Message::Packet(packet) if protocol == Protocol::Udp => {
                if let Some((client, endpoint)) = datagrams::ends(packet) {
                    self.datagrams.reach(Flow::udp(client, endpoint), server);
                }
            }
            Message::Release { .. } if protocol == Protocol::Udp => {
                let endpoint = SocketAddrV4::new(ServerAddresses::of(server).a.1, port);
                self.datagrams.released(from, client, endpoint);
            }
            _ if protocol == Protocol::Udp => {}
            Message::Endpoint {
                connection: ConnectionInfo::Tcp { first, control },
                ..
            } => {
                let known = self.flows.get_mut(&Flow::tcp(client, first));
                let same = |known: &&mut Ownership| known.isn == control.irs.raw() as i32;
                let Some(known) = known.filter(same) else {
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
                let of = flow_of(packet).filter(|_| is_intact(packet));
                let Some((flow, seq)) = of else { return };
                let known = self.flows.get_mut(&flow);
                let Some(known) = known.filter(|known| known.uses(seq)) else {
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
                    known.passed_to.remove(&server);
                }
            }
            Message::Release {
                trailer: Some(trailer),
            } if answers_moved(&trailer) => {}
            Message::Release { trailer } => {
                // Whoever it takes for the owner says that it has no such connection: it is over here. Not an earlier one, which
                // what it has received tells, or the SYN's number that it was sent.
                let at = trailer.and_then(|trailer| trailer.acknowledged());
                let meant = |known: &Ownership| {
                    at.is_none_or(|at| at.raw() as i32 != known.isn && known.is_at(at))
                };
                let flow = Flow::tcp(
                    client,
                    SocketAddrV4::new(ServerAddresses::of(server).a.1, port),
                );
                let believed = |known: &Ownership| {
                    known.forwarded_to == Some(from) && !known.ended && meant(known)
                };
                let known = self.flows.get_mut(&flow);
                let Some(known) = known.filter(|known| believed(known)) else {
                    return;
                };
                // It may have given up the server that it passed packets on to.
                let next = known.passed_to.get(&from);
                let lost = next.and_then(|&next| self.hearing.lost_since(now, from, next));
                let unknown = trailer.is_some_and(|trailer| trailer.epoch == Epoch::default());
                match lost {
                    Some(since) => self.bereave(since, flow),
                    // It was offered the endpoint, and had no packet in time: it may be offered it again. Packets that came too late
                    // gave it nothing.
                    None if unknown && known.owner.is_none() => known.lapsed = true,
                    None => self.free(flow),
                }
            }
            Message::Refuse { trailer } => {
                // It had answered, gave the endpoint up for want of a packet, and has no room for it now: nobody has the connection.
                let epoch = trailer.map_or(0, |trailer| trailer.epoch.raw());
                let refused = |offer: &Offer| {
                    offer.answered && offer.giver == server && [0, offer.epoch].contains(&epoch)
                };
                let refused = |known: &Ownership| {
                    known.is_nobodys() && known.offers.get(&from).is_some_and(refused)
                };
                let lost = flows_of(&mut self.flows, client, port);
                let lost = lost.filter(|(_, known)| refused(known));
                let lost: Vec<Flow> = lost.map(|(flow, _)| *flow).collect();
                lost.into_iter().for_each(|flow| self.bereave(now, flow));
            }
            Message::Moved { target, trailer } => {
                let owner = self.by_address.get(target.ip()).copied();
                let epoch = trailer.map(|trailer| trailer.epoch.raw());
                let told = owner.zip(epoch).map(|(owner, epoch)| Told { owner, epoch });
                for (flow, known) in flows_of(&mut self.flows, client, port) {
                    if self.addresses.get(flow.endpoint.ip()) == Some(&server) {
                        known.told = told.filter(|told| told.epoch > known.followed);
                    }
                }
            }
            _ => {}
        }
    }
}
