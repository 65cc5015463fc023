//! The forward thread (FIG. 9B): frames from Port B.

use etherparse::{IpNumber, TcpSlice};
use ipos_proto::{
    ENCAPSULATION_LEN, Frame, FrameType, Header, Layer, MacAddr, Message, SeqNum, Trailer,
    split_tag,
};

use super::Device;
use crate::counters::DropReason;
use crate::event::{Forward, Port, Verdict};
use crate::flow::Flow;
use crate::flow_table::Record;
use crate::handover::{Bound, Retry, Target};
use crate::packet::Ipv4Packet;
use crate::tcp::Segment;
use crate::time::Instant;
use crate::told::Said;

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
        self.authenticate(hardware, &header, rest)?;
        let message = match Frame::parse(rest) {
            Ok(frame) => frame.message,
            Err(error) => {
                if error.layer() == Layer::ControlBlock {
                    self.refuse_unreadable(hardware, &header, rest)?;
                }
                return Err(DropReason::Encapsulation);
            }
        };
        self.vouch(now, hardware, message.trailer())?;
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
                match self.find_told(&header, hardware, trailer.as_ref()) {
                    Ok(key) => self.acknowledged(now, key, hardware, trailer),
                    // Nobody waits for it: what it answers was said twice.
                    Err(DropReason::Stale) => Ok(Verdict::Consumed),
                    Err(reason) => Err(reason),
                }
            }
            Message::Release { trailer } => {
                let key = self.find_told(&header, hardware, trailer.as_ref())?;
                self.released(now, key, hardware, trailer)
            }
            Message::Refuse { trailer } => {
                let key = self.find_told(&header, hardware, trailer.as_ref())?;
                self.refused(now, key, hardware, trailer)
            }
            Message::Move { target, .. } => self.asked_to_move(now, &header, hardware, target),
            Message::Moved { target, trailer } => {
                self.moved(&header, hardware, target, trailer.as_ref())
            }
        }
    }

    /// With a farm key every frame but 0x02 has a right tag, and a sender that is known: its counter stands with it.
    fn authenticate(
        &self,
        hardware: MacAddr,
        header: &Header,
        bytes: &[u8],
    ) -> Result<(), DropReason> {
        if header.frame_type == FrameType::Packet {
            return Ok(());
        }
        let tagged = split_tag(header, bytes);
        let Some(key) = &self.config.farm_key else {
            return tagged.map_or(Ok(()), |_| Err(DropReason::NoKey));
        };
        // Before the tag is looked at: a stranger's costs nothing.
        let known = self.members.by_hardware(hardware);
        known.ok_or(DropReason::Stranger)?;
        let (signed, tag) = tagged.ok_or(DropReason::NoTag)?;
        match key.verify(signed, tag) {
            true => Ok(()),
            false => Err(DropReason::Tag),
        }
    }

    /// What comes from a known server shows that it lives; what an earlier life of it has sent is late, and what has come
    /// before is of an earlier connection perhaps.
    fn vouch(
        &mut self,
        now: Instant,
        hardware: MacAddr,
        trailer: Option<&Trailer>,
    ) -> Result<(), DropReason> {
        if let Some(member) = self.members.by_hardware_mut(hardware) {
            let signed = self.config.farm_key.is_some();
            if trailer.is_some_and(|trailer| !member.takes(trailer, signed)) {
                return Err(match signed {
                    true => DropReason::Replayed,
                    false => DropReason::Stale,
                });
            }
            member.heard_on_b = now;
        }
        Ok(())
    }

    /// The member of the farm that sent a frame.
    pub(super) fn sender(&self, hardware: MacAddr, header: &Header) -> Result<Target, DropReason> {
        let member = self.members.by_hardware(hardware);
        let member = member.ok_or(DropReason::Stranger)?;
        Ok(Target {
            address: member.port_b,
            hardware,
            port: header.port,
        })
    }

    /// The flow that an answer or a note speaks of.
    pub(super) fn find_told(
        &self,
        header: &Header,
        hardware: MacAddr,
        trailer: Option<&Trailer>,
    ) -> Result<u32, DropReason> {
        let said = Said {
            frame_type: header.frame_type,
            trailer,
            hardware,
            sender: self.members.by_hardware(hardware),
            alone: self.config.client_addresses().count() == 1,
        };
        let Header {
            client,
            port,
            protocol,
            ..
        } = *header;
        let (mut best, mut several, mut repeated) = (None, false, false);
        for (key, flow, record) in self.flows.of_port(client, port, protocol) {
            repeated |= said.may_repeat(flow, record);
            let Some(fit) = said.fits(flow, record) else {
                continue;
            };
            let known = best.map(|(best, _)| best);
            several = known == Some(fit) || several && known > Some(fit);
            best = best.max(Some((fit, key)));
        }
        let Some((_, key)) = best else {
            return Err(match said.sender {
                Some(_) => DropReason::Stale,
                None => DropReason::Stranger,
            });
        };
        // What may have been said of another connection gives none away: the offer is repeated, or served here.
        let offered = matches!(self.flows.get(key), Some((_, Record::Pending(_))));
        let given = offered && header.frame_type == FrameType::Acknowledgement && repeated;
        match several || given {
            true => Err(DropReason::Ambiguous),
            false => Ok(key),
        }
    }

    /// 0x02: the client's packet, for the endpoint that was migrated here.
    pub(super) fn owned_packet(
        &mut self,
        now: Instant,
        hardware: MacAddr,
        bytes: &[u8],
    ) -> Result<Verdict, DropReason> {
        let packet = Ipv4Packet::read(bytes)?;
        match packet.protocol() {
            IpNumber::TCP => {}
            IpNumber::UDP => return self.owned_datagram(now, hardware, &packet),
            IpNumber::ICMP => return self.owned_error(now, hardware, &packet),
            _ => return Err(DropReason::Protocol),
        }
        // The client's checksum is the only thing that vouches for what Port B has carried.
        let slice = packet.tcp()?;
        let flow = packet.tcp_flow(&slice);
        let Some(key) = self.flows.find_next(&flow) else {
            return self.keep_early(now, &flow, hardware, &packet);
        };
        match self.flows.get_mut(key) {
            Some((_, Record::ForwardConnect(installed))) => {
                if !installed.comes_from(hardware) {
                    return Err(DropReason::Stranger);
                }
                let endpoint = installed.endpoint;
                if installed.owner.is_none() {
                    if installed.giver.hardware != hardware {
                        // Only the giver knows that its offer was taken.
                        return self.pass_back(now, key, ENCAPSULATION_LEN, &packet, &slice);
                    }
                    if !self.begins(endpoint, &Segment::read(&slice)) {
                        // Of an earlier connection, or of the endpoint's former life here.
                        return Err(DropReason::Stale);
                    }
                    self.own(now, key, endpoint);
                }
                self.owned_segment(now, key, hardware, &packet, &Segment::read(&slice))
            }
            Some((_, Record::Pending(pending))) => {
                let ours = |bound: &Bound| match bound {
                    Bound::Installed(installed) => installed.comes_from(hardware),
                    Bound::Local => false,
                };
                if !pending.bound.as_ref().is_some_and(ours) {
                    return Err(DropReason::Stale);
                }
                self.gather(now, key, None, &packet, &Segment::read(&slice))
            }
            Some((_, Record::Forward(forwarding))) => {
                // It was given away since: the first server's record has not followed yet.
                if forwarding.to().hardware == hardware || !forwarding.concerns(hardware) {
                    return Err(DropReason::Stale);
                }
                // It may not be of this connection any more, and be answered as such.
                forwarding.passes(now, &slice);
                if !slice.ack() {
                    forwarding.seq = SeqNum::new(slice.sequence_number());
                }
                self.counters.forwarded += 1;
                Ok(pass_on(forwarding.headers, ENCAPSULATION_LEN, &packet))
            }
            Some((_, &mut Record::Tombstone(tombstone))) if !tombstone.owned => {
                // Its 0x01 may come again.
                self.keep_early(now, &flow, hardware, &packet)
            }
            Some((_, &mut Record::Tombstone(tombstone))) => {
                // The RELEASE was lost.
                let at = SeqNum::new(slice.sequence_number());
                self.disown(&flow, hardware, tombstone.epoch, Some(at));
                Err(DropReason::Stale)
            }
            Some((_, Record::Local(_) | Record::Datagrams(_))) | None => Err(DropReason::Stale),
        }
    }

    /// Whether a segment may be the first of what its giver replays: nothing of that lies before what the endpoint has.
    fn begins(&self, endpoint: u32, segment: &Segment<'_>) -> bool {
        self.stack.get(endpoint).is_some_and(|slot| {
            let (next, una) = (slot.tcp.rcv_nxt(), slot.tcp.snd_una());
            // A long response goes round the numbers: how far behind the acknowledgment may lie is no half circle.
            let sent = una.raw().wrapping_sub(slot.tcp.iss().raw());
            let behind = una.raw().wrapping_sub(segment.ack.raw());
            segment.seq.ge(next)
                && segment.seq.le(slot.tcp.rcv_adv().max(next))
                && segment.ack.le(una)
                && behind <= sent.wrapping_sub(1)
        })
    }

    /// A packet that has overtaken its 0x01.
    pub(super) fn keep_early(
        &mut self,
        now: Instant,
        flow: &Flow,
        hardware: MacAddr,
        packet: &Ipv4Packet<'_>,
    ) -> Result<Verdict, DropReason> {
        if self.members.by_hardware(hardware).is_none() {
            return Err(DropReason::Stranger);
        }
        if self.early.push(now, *flow, hardware, packet.bytes()) {
            Ok(Verdict::Consumed)
        } else {
            Err(DropReason::NoEndpoint)
        }
    }

    /// The first packet after the 0x03: from here on this server answers the client.
    fn own(&mut self, now: Instant, key: u32, endpoint: u32) {
        let Some((flow, _)) = self.flows.get(key) else {
            return;
        };
        // It may have become known since the endpoint was installed.
        let first = self.members.by_port_a(*flow.endpoint.ip());
        let first = first.map(|first| first.hardware);
        let moved = self.flows.update(key, |record| {
            let Record::ForwardConnect(installed) = record else {
                return None;
            };
            installed.owner = Some(now);
            installed.back = None;
            let led_elsewhere = !installed.home && first != Some(installed.giver.hardware);
            installed.moved = led_elsewhere.then(|| Retry::new(now));
            installed.moved
        });
        let moved = moved.flatten();
        self.counters.migrated_in += 1;
        self.flows.schedule(key, moved.map(|retry| retry.due));
        if moved.is_some() {
            self.send_moved(key);
        }
        self.stack.unmute(endpoint);
    }

    /// A packet for an endpoint that is installed but not this server's, by the record that the flow had before.
    pub(super) fn pass_back(
        &mut self,
        now: Instant,
        key: u32,
        at: usize,
        packet: &Ipv4Packet<'_>,
        segment: &TcpSlice<'_>,
    ) -> Result<Verdict, DropReason> {
        let Some((_, Record::ForwardConnect(installed))) = self.flows.get_mut(key) else {
            return Err(DropReason::Stale);
        };
        let back = installed.back.as_mut().ok_or(DropReason::Stale)?;
        back.passes(now, segment);
        self.counters.forwarded += 1;
        Ok(pass_on(back.headers, at, packet))
    }

    /// A segment of a connection that was migrated here.
    fn owned_segment(
        &mut self,
        now: Instant,
        key: u32,
        hardware: MacAddr,
        packet: &Ipv4Packet<'_>,
        segment: &Segment<'_>,
    ) -> Result<Verdict, DropReason> {
        let Some(endpoint) = self
            .flows
            .get(key)
            .and_then(|(_, record)| record.endpoint())
        else {
            return Err(DropReason::Stale);
        };
        self.acknowledge_first(now, endpoint, segment);
        if let Some(to) = self.server_for_request(now, key, endpoint, segment) {
            return self.move_with_request(now, key, to, packet, segment);
        }
        let before = self.rcv_nxt(endpoint);
        let outcome = self.stack.handle(now, &self.config.tcp, endpoint, segment);
        if outcome.reopen {
            // The first server will open the new connection when its forward record is gone.
            self.release(now, key);
            return Ok(Verdict::Consumed);
        }
        self.confirm_received(key, endpoint, hardware, before, segment);
        self.settle(now, endpoint, outcome);
        Ok(Verdict::Consumed)
    }

    /// 0x03 with `rcv_nxt`: when the bytes that the giver has acknowledged are here, and whenever it sends them again.
    fn confirm_received(
        &mut self,
        key: u32,
        endpoint: u32,
        hardware: MacAddr,
        before: SeqNum,
        segment: &Segment<'_>,
    ) {
        let received = self.rcv_nxt(endpoint);
        let Some((_, Record::ForwardConnect(installed))) = self.flows.get_mut(key) else {
            return;
        };
        let covered = installed.cover.is_some_and(|cover| received.ge(cover));
        if covered {
            installed.cover = None;
        }
        let giver = installed.giver;
        // Bare acknowledgments come all the time: only the last word that stood for a request is a repetition.
        let last_word =
            giver.hardware == hardware && installed.last_word == Some((segment.seq, segment.ack));
        let repeated = (segment.seq + segment.len()).le(before) && (segment.len() > 0 || last_word);
        if covered || repeated {
            self.acknowledge(key, giver, Some(received));
        }
    }

    /// The connection is over: the endpoint goes, and the first server is told.
    pub(super) fn release(&mut self, now: Instant, key: u32) {
        let Some((_, Record::ForwardConnect(installed))) = self.flows.get(key) else {
            return;
        };
        let endpoint = installed.endpoint;
        self.stack.fail(endpoint, crate::event::Failure::Reset);
        self.with_endpoint(now, endpoint, |slot, _| slot.tcp.abort());
    }
}

/// A packet that lies `at` in its frame, to another server.
pub(super) fn pass_on(
    headers: [u8; ENCAPSULATION_LEN],
    at: usize,
    packet: &Ipv4Packet<'_>,
) -> Verdict {
    Verdict::Forward(Forward {
        port: Port::B,
        headers,
        payload: at..at + packet.bytes().len(),
    })
}
