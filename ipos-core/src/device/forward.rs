//! The forward thread (FIG. 9B): frames from Port B.

use core::net::SocketAddrV4;

use ipos_proto::{
    CONTROL_BLOCK_LEN, ConnectionInfo, Epoch, Frame, HEADER_LEN, Header, Layer, MacAddr, Message,
    Protocol, Trailer, TrailerFlags,
};

use super::Device;
use super::icmp::too_big;
use crate::config::Listen;
use crate::counters::DropReason;
use crate::event::{Origin, Verdict};
use crate::flow::Flow;
use crate::flow_table::Record;
use crate::handover::{Installed, Target};
use crate::packet::Ipv4Packet;
use crate::tcp::{Endpoint, Segment};
use crate::time::Instant;

/// In a 0x01: the port that the client connected to.
const FIRST_PORT_AT: usize = HEADER_LEN + 4;
/// In a 0x01 for TCP: the trailer.
const TRAILER_AT: usize = HEADER_LEN + 6 + CONTROL_BLOCK_LEN;

impl Device {
    /// FIG. 9B.
    pub(super) fn forward(&mut self, now: Instant, frame: &[u8]) -> Result<Verdict, DropReason> {
        let (ethernet, rest) = self.link(frame, self.config.port_b.hardware)?;
        if ethernet.ethertype != self.config.port_b.ethertype {
            return Err(DropReason::EtherType);
        }
        let (header, _) = Header::parse(rest).map_err(|_| DropReason::Encapsulation)?;
        if header.destination != self.config.port_b.address {
            return Err(DropReason::NotOurs);
        }
        let hardware = ethernet.source;
        let message = match Frame::parse(rest) {
            Ok(frame) => frame.message,
            Err(error) => {
                if error.layer() == Layer::ControlBlock {
                    self.refuse_unreadable(hardware, &header, rest)?;
                }
                return Err(DropReason::Encapsulation);
            }
        };
        match message {
            Message::Endpoint {
                connection,
                trailer,
            } => {
                let from = self.sender(hardware, &header)?;
                self.install(now, &header, from, connection, trailer)
            }
            Message::Packet(packet) => self.owned_packet(now, hardware, packet),
            Message::Acknowledgement { trailer } => {
                let key = self.find_first(&header, hardware)?;
                self.acknowledged(now, key, trailer)
            }
            Message::Release { trailer } => {
                let key = self.find_first(&header, hardware)?;
                self.released(now, key, trailer)
            }
            Message::Refuse { trailer } => {
                let key = self.find_first(&header, hardware)?;
                self.refused(now, key, trailer)
            }
            Message::Move { .. } | Message::Moved { .. } => Err(DropReason::Unsupported),
        }
    }

    /// The member of the farm that sent a frame.
    fn sender(&self, hardware: MacAddr, header: &Header) -> Result<Target, DropReason> {
        let member = self
            .members
            .by_hardware(hardware)
            .filter(|member| !member.left);
        let member = member.ok_or(DropReason::Stranger)?;
        Ok(Target {
            address: member.port_b,
            hardware,
            port: header.port,
        })
    }

    /// The flow that a frame back to the first server speaks of: it names the client and the port that the client
    /// connected to; the address is the one of this server's whose flow concerns the sender. A connection goes on when
    /// its servers do not hear each other on the Synch LAN, so that the record alone vouches for the sender.
    fn find_first(&self, header: &Header, hardware: MacAddr) -> Result<u32, DropReason> {
        let endpoint = |address| SocketAddrV4::new(address, header.port);
        let flow = |address| Flow {
            client: header.client,
            endpoint: endpoint(address),
            protocol: header.protocol,
        };
        let addresses = self.config.port_a.addresses.iter();
        let mut found = addresses.filter_map(|&address| self.flows.find(&flow(address)));
        let fits = |key: &u32| {
            self.flows
                .get(*key)
                .is_some_and(|(_, record)| record.concerns(hardware))
        };
        found
            .find(fits)
            .ok_or(match self.members.by_hardware(hardware) {
                Some(_) => DropReason::Stale,
                None => DropReason::Stranger,
            })
    }

    /// The listening socket for a connection that its client opened at `first` of server `from`: that of the same
    /// service, where the sender has told which it is, and else of the same port.
    fn listener_for(&self, from: Target, first: SocketAddrV4, port: u16) -> Option<usize> {
        let told = self.members.by_port_b(from.address).and_then(|member| {
            let listen = member.listen.iter();
            listen
                .clone()
                .find(|l| l.address == first && l.protocol == Protocol::Tcp)
                .map(|l| &l.service)
        });
        let serves = |l: &Listen| l.protocol == Protocol::Tcp && l.address.port() == port;
        let same = |l: &Listen| told.is_none_or(|service| *service == l.service);
        self.config.listen.iter().position(|l| serves(l) && same(l))
    }

    /// 0x01 (FIG. 10C): builds the endpoint, binds it, answers 0x03. Repeated, it is only answered again.
    fn install(
        &mut self,
        now: Instant,
        header: &Header,
        from: Target,
        connection: ConnectionInfo,
        trailer: Option<Trailer>,
    ) -> Result<Verdict, DropReason> {
        let ConnectionInfo::Tcp { first, control } = connection else {
            return Err(DropReason::Unsupported);
        };
        let flow = Flow {
            client: header.client,
            endpoint: first,
            protocol: Protocol::Tcp,
        };
        if let Some(key) = self.flows.find(&flow) {
            match self.flows.get(key) {
                Some((_, Record::Tombstone(tombstone))) => {
                    if tombstone.iss == control.iss {
                        return Err(DropReason::Stale);
                    }
                    // Another connection between the same ports.
                    self.discard(key);
                }
                Some((_, Record::ForwardConnect(installed))) => {
                    let same = self
                        .stack
                        .get(installed.endpoint)
                        .is_some_and(|s| s.tcp.iss() == control.iss);
                    let (epoch, owner) = (installed.epoch, installed.owner);
                    if same && control.epoch == epoch {
                        self.acknowledge(key, None);
                        return Ok(Verdict::Consumed);
                    }
                    if same && (control.epoch < epoch || owner) {
                        return Err(DropReason::Stale);
                    }
                    // An offer that was given up, or an earlier connection between the same ports.
                    let endpoint = installed.endpoint;
                    self.stack.fail(endpoint, crate::event::Failure::NeverOwned);
                    self.discard(key);
                }
                _ => return Err(DropReason::Stale),
            }
        }
        let Some(listener) = self.listener_for(from, first, header.port) else {
            self.refuse(
                from,
                header.client,
                first.port(),
                TrailerFlags::NO_APPLICATION,
                control.epoch,
            );
            return Ok(Verdict::Consumed);
        };
        if self.me.left {
            self.refuse(
                from,
                header.client,
                first.port(),
                TrailerFlags::DRAINING,
                control.epoch,
            );
            return Ok(Verdict::Consumed);
        }
        if self.established() >= self.config.limits.endpoints {
            self.refuse(
                from,
                header.client,
                first.port(),
                TrailerFlags::FULL,
                control.epoch,
            );
            return Err(DropReason::TableFull);
        }
        let received = trailer.as_ref().and_then(Trailer::acknowledged);
        let Some(tcp) = Endpoint::import(now, &self.config.tcp, &control, received) else {
            self.refuse(
                from,
                header.client,
                first.port(),
                TrailerFlags::INVALID,
                control.epoch,
            );
            return Err(DropReason::Encapsulation);
        };
        let endpoint = self.stack.insert(tcp, flow, true);
        let installed = Installed {
            endpoint,
            from,
            epoch: control.epoch,
            owner: false,
            cover: received,
        };
        let key = self
            .flows
            .insert(flow, Record::ForwardConnect(installed.into()));
        self.place(endpoint, key);
        self.flows
            .schedule(key, Some(now + self.config.limits.install_deadline));
        self.bind(endpoint, listener, Origin::Migrated(from.address));
        self.acknowledge(key, None);
        for packet in self.early.take(&flow, from.hardware) {
            // What is wrong with it was counted.
            if let Err(reason) = self.owned_packet(now, from.hardware, &packet) {
                self.counters.drop(reason);
            }
        }
        Ok(Verdict::Consumed)
    }

    /// 0x02: the client's packet, for the endpoint that was migrated here.
    fn owned_packet(
        &mut self,
        now: Instant,
        hardware: MacAddr,
        bytes: &[u8],
    ) -> Result<Verdict, DropReason> {
        let packet = Ipv4Packet::read(bytes)?;
        if packet.protocol() == etherparse::IpNumber::ICMP {
            let about = too_big(&packet)?;
            let key = self.flows.find(&about.flow).ok_or(DropReason::NoEndpoint)?;
            return self.shrink(now, key, &about);
        }
        if packet.protocol() != etherparse::IpNumber::TCP {
            return Err(DropReason::Protocol);
        }
        // The client's checksum is the only thing that vouches for what Port B has carried.
        let slice = packet.tcp()?;
        let flow = packet.tcp_flow(&slice);
        let Some(key) = self.flows.find(&flow) else {
            self.members
                .by_hardware(hardware)
                .ok_or(DropReason::Stranger)?;
            let kept = self.early.push(now, flow, hardware, packet.bytes());
            return if kept {
                Ok(Verdict::Consumed)
            } else {
                Err(DropReason::NoEndpoint)
            };
        };
        if let Some((_, Record::Tombstone(_))) = self.flows.get(key) {
            // The RELEASE was lost.
            self.disown(&flow, hardware);
        }
        let Some((_, Record::ForwardConnect(installed))) = self.flows.get_mut(key) else {
            return Err(DropReason::Stale);
        };
        if installed.from.hardware != hardware {
            return Err(DropReason::Stranger);
        }
        let endpoint = installed.endpoint;
        if !installed.owner {
            installed.owner = true;
            self.flows.schedule(key, None);
            self.counters.migrated_in += 1;
            self.with_endpoint(now, endpoint, |slot, _| slot.muted = false);
        }
        let segment = Segment::read(&slice);
        let before = self.rcv_nxt(endpoint);
        let outcome = self.stack.handle(now, &self.config.tcp, endpoint, &segment);
        if outcome.reopen {
            // The first server will open the new connection when its forward record is gone.
            self.release(now, key);
            return Ok(Verdict::Consumed);
        }
        self.confirm_received(key, endpoint, before, &segment);
        self.settle(now, endpoint, outcome);
        Ok(Verdict::Consumed)
    }

    /// 0x03 with `rcv_nxt`: when the bytes that the first server has acknowledged are here, and whenever it
    /// sends them again.
    fn confirm_received(
        &mut self,
        key: u32,
        endpoint: u32,
        before: ipos_proto::SeqNum,
        segment: &Segment<'_>,
    ) {
        let Some((_, Record::ForwardConnect(installed))) = self.flows.get_mut(key) else {
            return;
        };
        let received = self
            .stack
            .get(endpoint)
            .map(|slot| slot.tcp.rcv_nxt())
            .unwrap_or_default();
        let covered = installed.cover.is_some_and(|cover| received.ge(cover));
        if covered {
            installed.cover = None;
        }
        let repeated = !segment.payload.is_empty() && (segment.seq + segment.len()).le(before);
        if covered || repeated {
            self.acknowledge(key, Some(received));
        }
    }

    /// 0x03.
    fn acknowledge(&mut self, key: u32, rcv_nxt: Option<ipos_proto::SeqNum>) {
        let Some((flow, Record::ForwardConnect(installed))) = self.flows.get(key) else {
            return;
        };
        let (flow, from, epoch) = (*flow, installed.from, installed.epoch);
        let trailer = Some(self.trailer(epoch, rcv_nxt));
        self.send(
            from,
            flow.client,
            flow.endpoint.port(),
            flow.protocol,
            Message::Acknowledgement { trailer },
        );
    }

    /// The connection is over: the endpoint goes, and the first server is told.
    fn release(&mut self, now: Instant, key: u32) {
        let Some((_, Record::ForwardConnect(installed))) = self.flows.get(key) else {
            return;
        };
        let endpoint = installed.endpoint;
        self.stack.fail(endpoint, crate::event::Failure::Reset);
        self.with_endpoint(now, endpoint, |slot, _| slot.tcp.abort());
    }

    /// 0x11 for a 0x01 whose control block does not hold: what lies around it is read by its place.
    fn refuse_unreadable(
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
            let port = u16::from_be_bytes(port);
            self.refuse(from, header.client, port, TrailerFlags::INVALID, epoch);
        }
        Ok(())
    }

    /// 0x11.
    fn refuse(
        &mut self,
        to: Target,
        client: SocketAddrV4,
        first_port: u16,
        reason: TrailerFlags,
        epoch: Epoch,
    ) {
        let mut trailer = self.trailer(epoch, None);
        trailer.flags |= reason;
        let message = Message::Refuse {
            trailer: Some(trailer),
        };
        self.send(to, client, first_port, Protocol::Tcp, message);
    }
}
