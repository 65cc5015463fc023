//! The receiver's side of a hand-over (FIG. 10C): 0x01 in, 0x03 or REFUSE out.

use core::net::SocketAddrV4;

use alloc::boxed::Box;
use ipos_proto::{
    CONTROL_BLOCK_LEN, ConnectionInfo, ControlBlock, Epoch, HEADER_LEN, Header, MacAddr, Message,
    SeqNum, Trailer, TrailerFlags,
};

use super::Device;
use crate::config::Listen;
use crate::counters::DropReason;
use crate::event::{Failure, Origin, Verdict};
use crate::flow::Flow;
use crate::flow_table::Record;
use crate::handover::{Installed, Target, Tombstone};
use crate::tcp::Endpoint;
use crate::time::Instant;

/// In a 0x01: the port that the client connected to.
const FIRST_PORT_AT: usize = HEADER_LEN + 4;
/// In a 0x01 for TCP: the trailer.
const TRAILER_AT: usize = HEADER_LEN + 6 + CONTROL_BLOCK_LEN;

/// What the flow tables say of an offered endpoint.
enum Place {
    /// Nothing is in its way.
    Free,
    /// The flow was given away from here before.
    Back(u32),
    /// The same offer was installed already.
    Installed(u32),
    /// This server has another connection between the same ports.
    Taken,
    /// It was installed here once, and is not any more: it has ended, or another connection has taken its place.
    Forgotten,
}

impl Device {
    /// 0x01: builds the endpoint, binds it, answers 0x03. Repeated, it is only answered again.
    pub(super) fn install(
        &mut self,
        now: Instant,
        header: &Header,
        giver: Target,
        connection: ConnectionInfo,
        trailer: Option<Trailer>,
    ) -> Result<Verdict, DropReason> {
        let (first, control) = match connection {
            ConnectionInfo::Tcp { first, control } => (first, control),
            ConnectionInfo::Udp { first } => {
                let flow = Flow::udp(header.client, first);
                let epoch = trailer.map_or(Epoch::default(), |trailer| trailer.epoch);
                return self.install_datagrams(now, header, giver, &flow, epoch);
            }
        };
        let flow = Flow::tcp(header.client, first);
        let acknowledged = |t: Trailer| t.flags.contains(TrailerFlags::ACKNOWLEDGED);
        let again = trailer.is_some_and(acknowledged);
        let place = self.place_for(now, &flow, giver, &control, again)?;
        if let Place::Installed(key) = place {
            self.acknowledge(key, giver, None);
            return Ok(Verdict::Consumed);
        }
        match place {
            Place::Taken => return self.refuse(giver, &flow, TrailerFlags::FULL, control.epoch),
            Place::Forgotten => {
                return self.refuse(giver, &flow, TrailerFlags::INVALID, control.epoch);
            }
            Place::Free | Place::Back(_) | Place::Installed(_) => {}
        }
        let home = self.config.is_own(*first.ip());
        let at_first = self.members.by_port_a(*first.ip()).map(|member| Target {
            address: member.port_b,
            hardware: member.hardware,
            port: first.port(),
        });
        let at_first = at_first.unwrap_or(giver);
        let listener = self.listener_for(at_first, &flow, header.port, home);
        // What was taken once is taken again.
        let available = |at: &usize| again || !self.me.unavailable.contains(at);
        let Some(listener) = listener.filter(available) else {
            return self.refuse(giver, &flow, TrailerFlags::NO_APPLICATION, control.epoch);
        };
        if self.me.left || (self.me.draining && !home && !again) {
            return self.refuse(giver, &flow, TrailerFlags::DRAINING, control.epoch);
        }
        if self.established() >= self.config.limits.endpoints {
            self.counters.drop(DropReason::TableFull);
            return self.refuse(giver, &flow, TrailerFlags::FULL, control.epoch);
        }
        let received = trailer.as_ref().and_then(Trailer::acknowledged);
        let Some(tcp) = Endpoint::import(now, &self.config.tcp, &control, received) else {
            self.counters.drop(DropReason::Encapsulation);
            return self.refuse(giver, &flow, TrailerFlags::INVALID, control.epoch);
        };
        let endpoint = self.insert_endpoint(tcp, flow, true);
        if let Some(slot) = self.stack.get_mut(endpoint) {
            slot.epoch = control.epoch;
        }
        let told = trailer.filter(|_| at_first.hardware == giver.hardware);
        let installed = Box::new(Installed {
            endpoint,
            first: at_first,
            incarnation: told.map_or(0, |trailer| trailer.incarnation),
            giver,
            epoch: control.epoch,
            owner: None,
            moved: None,
            newest: None,
            cover: received,
            last_word: (received == Some(control.rcv_nxt))
                .then_some((control.rcv_nxt, control.snd_nxt)),
            home,
            back: None,
        });
        let key = match place {
            Place::Back(key) => {
                self.install_over(key, installed);
                key
            }
            _ => self.flows.insert(flow, Record::ForwardConnect(installed)),
        };
        self.place(endpoint, key);
        let deadline = now + self.config.limits.install_deadline;
        self.flows.schedule(key, Some(deadline));
        self.bind(endpoint, listener, Origin::Migrated(giver.address));
        self.acknowledge(key, giver, None);
        for packet in self.early.take(&flow, giver.hardware) {
            // What is wrong with it was counted.
            if let Err(reason) = self.owned_packet(now, giver.hardware, &packet) {
                self.counters.drop(reason);
            }
        }
        Ok(Verdict::Consumed)
    }

    /// Where the endpoint goes, if it may be installed; what is older makes room. What was installed here once is installed
    /// `again` only where its packets are known never to have come: else it may have been this server's, and its client served.
    /// And a connection comes home only to a server that has something of it: what an earlier life gave away is over.
    fn place_for(
        &mut self,
        now: Instant,
        flow: &Flow,
        giver: Target,
        control: &ControlBlock,
        again: bool,
    ) -> Result<Place, DropReason> {
        let must_be_known = again || self.config.is_own(*flow.endpoint.ip());
        let free = match must_be_known {
            true => Place::Forgotten,
            false => Place::Free,
        };
        let Some(key) = self.flows.find(flow) else {
            return Ok(free);
        };
        match self.flows.get(key) {
            Some((_, Record::Tombstone(tombstone))) => {
                let same = tombstone.is_of(control);
                if same && (tombstone.owned || control.epoch < tombstone.epoch) {
                    return Err(DropReason::Stale);
                }
                if must_be_known && !(same && control.epoch == tombstone.epoch) {
                    return Ok(Place::Forgotten);
                }
                self.discard(key);
                Ok(Place::Free)
            }
            Some((_, Record::Forward(forwarding))) => {
                let same = control.irs == forwarding.irs;
                let unused =
                    now.saturating_since(forwarding.used) >= self.config.limits.early_deadline;
                if !same && unused && forwarding.first().is_some() {
                    // An earlier connection between the same ports, which this server has passed on.
                    if !again {
                        self.discard(key);
                    }
                    return Ok(free);
                }
                if !same || control.epoch <= forwarding.epoch {
                    return Err(DropReason::Stale);
                }
                Ok(Place::Back(key))
            }
            Some((_, Record::ForwardConnect(installed))) => {
                let (endpoint, epoch) = (installed.endpoint, installed.epoch);
                let owner = installed.owner.is_some();
                let same = self
                    .stack
                    .get(endpoint)
                    .is_some_and(|slot| slot.tcp.iss() == control.iss);
                if same && control.epoch == epoch && installed.giver == giver {
                    return Ok(Place::Installed(key));
                }
                if same && (control.epoch <= epoch || owner) {
                    return Err(DropReason::Stale);
                }
                if owner {
                    // What may be an earlier connection's frame ends no connection that is alive.
                    return Ok(Place::Taken);
                }
                if again {
                    return Ok(Place::Forgotten);
                }
                // An offer that was given up, or an earlier connection between the same ports.
                Ok(if self.uninstall(key) {
                    Place::Back(key)
                } else {
                    Place::Free
                })
            }
            _ => Err(DropReason::Stale),
        }
    }

    /// The client's packets have not come in time: the endpoint goes, and may come again.
    pub(super) fn give_up(&mut self, now: Instant, key: u32) {
        self.counters.never_owned += 1;
        let Some((_, Record::ForwardConnect(installed))) = self.flows.get(key) else {
            return;
        };
        if installed.back.is_some() {
            self.uninstall(key);
            return self.reset_if_dead(now, key);
        }
        let (endpoint, epoch) = (installed.endpoint, installed.epoch);
        let Some(slot) = self.stack.get(endpoint) else {
            return self.discard(key);
        };
        let tombstone = Tombstone {
            owned: false,
            ..Tombstone::of(&slot.tcp, epoch)
        };
        self.stack.fail(endpoint, Failure::NeverOwned);
        self.stack.remove(endpoint);
        self.bury(now, key, tombstone);
    }

    /// Forgets an endpoint that is not this server's. Whether the flow has its forward record again.
    pub(super) fn uninstall(&mut self, key: u32) -> bool {
        let uninstalled = self.flows.update(key, |record| match record {
            Record::ForwardConnect(installed) => Some((installed.endpoint, installed.back.take())),
            _ => None,
        });
        let Some((endpoint, back)) = uninstalled.flatten() else {
            return false;
        };
        self.stack.fail(endpoint, Failure::NeverOwned);
        let Some(forwarding) = back else {
            self.discard(key);
            return false;
        };
        self.flows.replace(key, Record::Forward(*forwarding));
        self.stack.remove(endpoint);
        self.schedule_forward(key);
        true
    }

    /// The flow keeps its forward record until this server is the owner.
    fn install_over(&mut self, key: u32, installed: Box<Installed>) {
        let former = self.flows.replace(key, Record::ForwardConnect(installed));
        self.flows.update(key, |record| {
            if let (Some(Record::Forward(former)), Record::ForwardConnect(installed)) =
                (former, record)
            {
                installed.back = Some(Box::new(former));
            }
        });
    }

    /// The listening socket for a connection that its client opened at `first`: that of the same service, where the
    /// first server has told which it is, and else of the same port. With several, the one on the LAN that the client came by.
    pub(super) fn listener_for(
        &self,
        at_first: Target,
        flow: &Flow,
        port: u16,
        home: bool,
    ) -> Option<usize> {
        let listen = &self.config.listen;
        let opened = |l: &Listen| l.protocol == flow.protocol && l.address == flow.endpoint;
        if home {
            return listen.iter().position(opened);
        }
        let told = self.members.by_port_b(at_first.address).and_then(|member| {
            let mut listen = member.listen.iter();
            listen.find(|l| opened(l)).map(|l| &l.service)
        });
        let serves = |l: &Listen| l.protocol == flow.protocol && l.address.port() == port;
        let same = |l: &Listen| told.is_none_or(|service| *service == l.service);
        let wanted = |l: &Listen| serves(l) && same(l);
        let lan = self.config.lan_of(*flow.endpoint.ip());
        let near = |l: &Listen| wanted(l) && self.config.lan_of(*l.address.ip()) == lan;
        let near = listen.iter().position(near);
        near.or_else(|| listen.iter().position(wanted))
    }

    /// 0x03.
    pub(super) fn acknowledge(&mut self, key: u32, to: Target, rcv_nxt: Option<SeqNum>) {
        let Some((flow, Record::ForwardConnect(installed))) = self.flows.get(key) else {
            return;
        };
        let (flow, epoch) = (*flow, installed.epoch);
        self.acknowledge_epoch(to, &flow, epoch, rcv_nxt);
    }

    /// 0x03 for whatever has this epoch.
    pub(super) fn acknowledge_epoch(
        &mut self,
        to: Target,
        flow: &Flow,
        epoch: Epoch,
        rcv_nxt: Option<SeqNum>,
    ) {
        let trailer = Some(self.trailer(epoch, rcv_nxt));
        let message = Message::Acknowledgement { trailer };
        self.send(to, flow, message);
    }

    /// 0x11.
    pub(super) fn refuse(
        &mut self,
        to: Target,
        flow: &Flow,
        reason: TrailerFlags,
        epoch: Epoch,
    ) -> Result<Verdict, DropReason> {
        let mut trailer = self.trailer(epoch, None);
        trailer.flags |= reason;
        let trailer = Some(trailer);
        let message = Message::Refuse { trailer };
        self.send(to, flow, message);
        Ok(Verdict::Consumed)
    }

    /// 0x11 for a 0x01 whose control block does not hold: what lies around it is read by its place.
    pub(super) fn refuse_unreadable(
        &mut self,
        hardware: MacAddr,
        header: &Header,
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        let from = self.sender(hardware, header)?;
        let first_port = bytes
            .get(FIRST_PORT_AT..)
            .and_then(|port| port.first_chunk());
        let trailer = bytes
            .get(TRAILER_AT..)
            .and_then(|bytes| Trailer::parse(bytes).ok().flatten());
        if let Some(&port) = first_port {
            let epoch = trailer.map_or(Epoch::default(), |trailer| trailer.epoch);
            let first = SocketAddrV4::new(from.address, u16::from_be_bytes(port));
            let flow = Flow::tcp(header.client, first);
            self.refuse(from, &flow, TrailerFlags::INVALID, epoch)?;
        }
        Ok(())
    }
}
