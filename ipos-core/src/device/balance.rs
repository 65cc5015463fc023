//! The balance thread (FIG. 9A): frames from Port A, and from Port C.

use etherparse::{ArpOperation, ArpPacketSlice, IpNumber, TcpSlice};
use ipos_proto::{ETHERNET_LEN, Epoch, MacAddr, SeqNum};

use super::forward::pass_on;
use super::{Device, Via};
use crate::build::{self, Link};
use crate::config::{Listen, Unmatched};
use crate::counters::DropReason;
use crate::event::{Failure, Port, Verdict};
use crate::flow::Flow;
use crate::flow_table::Record;
use crate::handover::{Aside, BEYOND, Forwarding, Kept, Opening, Pending, Tombstone};
use crate::neighbour::Hop;
use crate::packet::{ARP, IPV4, Ipv4Packet};
use crate::tcp::{
    Endpoint, Open, Options, Outgoing, Replay, Segment, State, Window, reset_for, timestamp_clock,
};
use crate::time::Instant;

impl Device {
    /// FIG. 9A.
    pub(super) fn balance(
        &mut self,
        now: Instant,
        port: Port,
        frame: &[u8],
    ) -> Result<Verdict, DropReason> {
        if port == Port::C && self.config.port_c.is_none() {
            return Err(DropReason::NotOurs);
        }
        let (ethernet, rest) = self.link(frame, self.config.to_clients(port).hardware)?;
        let via = Via {
            port,
            hardware: ethernet.source,
        };
        match ethernet.ethertype {
            IPV4 => self.balance_packet(now, frame, via, rest),
            ARP => self.resolve(now, port, rest),
            _ => Err(DropReason::EtherType),
        }
    }

    fn balance_packet(
        &mut self,
        now: Instant,
        frame: &[u8],
        via: Via,
        bytes: &[u8],
    ) -> Result<Verdict, DropReason> {
        let packet = Ipv4Packet::read(bytes)?;
        let own = &self.config.to_clients(via.port).addresses;
        if !own.contains(&packet.destination()) {
            return Err(DropReason::NotOurs);
        }
        let source = packet.source();
        let nobody = source.is_unspecified() || source.is_broadcast() || source.is_multicast();
        if nobody || self.config.is_own(source) {
            return Err(DropReason::Source);
        }
        match packet.protocol() {
            IpNumber::TCP => self.balance_segment(now, frame, via, &packet),
            IpNumber::UDP => self.balance_datagram(now, via, &packet),
            IpNumber::ICMP => self.control_message(now, via, &packet),
            _ => Err(DropReason::Protocol),
        }
    }

    fn balance_segment(
        &mut self,
        now: Instant,
        frame: &[u8],
        via: Via,
        packet: &Ipv4Packet<'_>,
    ) -> Result<Verdict, DropReason> {
        let slice = packet.tcp()?;
        let flow = packet.tcp_flow(&slice);
        let Some(key) = self.flows.find_next(&flow) else {
            return self.open(now, via, &flow, packet, &Segment::read(&slice), None);
        };
        if slice.syn() && self.leads_nowhere(key, &slice) {
            // Nobody else ends it.
            self.flows.remove(key);
            return self.open(now, via, &flow, packet, &Segment::read(&slice), None);
        }
        match self.flows.get_mut(key) {
            Some((_, Record::Forward(forwarding))) => {
                if packet.bytes().len() > self.config.port_b.room() {
                    return self.say_too_big(now, via, packet);
                }
                forwarding.passes(now, &slice);
                note_opening(forwarding, now, via, frame, packet, &slice);
                self.counters.forwarded += 1;
                Ok(pass_on(forwarding.headers, ETHERNET_LEN, packet))
            }
            Some((_, Record::Pending(_))) => {
                self.gather(now, key, Some(via), packet, &Segment::read(&slice))
            }
            Some((_, Record::ForwardConnect(installed))) if installed.home => {
                if installed.owner.is_none() {
                    if packet.bytes().len() > self.config.port_b.room() {
                        return self.say_too_big(now, via, packet);
                    }
                    if let Some(back) = &mut installed.back {
                        note_opening(back, now, via, frame, packet, &slice);
                    }
                    return self.pass_back(now, key, ETHERNET_LEN, packet, &slice);
                }
                let endpoint = installed.endpoint;
                self.local_segment(now, via, (key, endpoint), packet, &Segment::read(&slice))
            }
            Some((_, &mut Record::Local(endpoint))) => {
                self.local_segment(now, via, (key, endpoint), packet, &Segment::read(&slice))
            }
            // Its packets come through Port B; its address is another server's.
            Some((_, Record::ForwardConnect(_) | Record::Datagrams(_))) | None => {
                Err(DropReason::NotOurs)
            }
            // It came home, and has ended.
            Some((_, &mut Record::Tombstone(tombstone))) => {
                let segment = Segment::read(&slice);
                self.open(now, via, &flow, packet, &segment, Some(tombstone))
            }
        }
    }

    /// A segment of a connection that is bound here, and was opened here.
    fn local_segment(
        &mut self,
        now: Instant,
        via: Via,
        (key, endpoint): (u32, u32),
        packet: &Ipv4Packet<'_>,
        segment: &Segment<'_>,
    ) -> Result<Verdict, DropReason> {
        self.acknowledge_first(now, endpoint, segment);
        if let Some(to) = self.server_for_request(now, key, endpoint, segment) {
            return self.move_with_request(now, key, to, packet, segment);
        }
        let outcome = self.stack.handle(now, &self.config.tcp, endpoint, segment);
        if outcome.reopen {
            let flow = self.flows.get(key).map(|(flow, _)| *flow);
            let slot = self.stack.get(endpoint);
            let former = slot.map(|slot| Tombstone::of(&slot.tcp, Epoch::default()));
            self.stack.fail(endpoint, Failure::Reset);
            self.discard(key);
            let flow = flow.ok_or(DropReason::Stale)?;
            return self.open(now, via, &flow, packet, segment, former);
        }
        self.settle(now, endpoint, outcome);
        Ok(Verdict::Consumed)
    }

    /// A segment of no flow: a SYN to a listening socket opens one, which begins behind what the client has acknowledged of
    /// a `former` one between the same ports (RFC 9293 §3.6.1).
    fn open(
        &mut self,
        now: Instant,
        via: Via,
        flow: &Flow,
        packet: &Ipv4Packet<'_>,
        segment: &Segment<'_>,
        former: Option<Tombstone>,
    ) -> Result<Verdict, DropReason> {
        let flags = segment.flags;
        let serves = |l: &Listen| l.address == flow.endpoint && l.protocol == flow.protocol;
        let listener = self.config.listen.iter().position(serves);
        let bound = self.config.limits.temporary;
        let full = self.flows.temporary() >= bound;
        // A part of the table is kept for clients that answer a cookie: a flood must not take it from them.
        let crowded = self.flows.temporary() >= bound - (bound / 4).max(1);
        if let Some(listener) = listener {
            if flags.syn && !flags.ack && !flags.rst && !flags.fin {
                if crowded {
                    self.answer_with_cookie(now, via, flow, segment);
                    return Err(DropReason::TableFull);
                }
                let (mut iss, timestamp_offset) = self.stack.initial_numbers(now, flow);
                if let Some(beyond) = former.map(|former| former.acknowledged + BEYOND)
                    && !iss.gt(beyond)
                {
                    iss = beyond;
                }
                let open = self.opening(
                    segment.seq,
                    iss,
                    timestamp_offset,
                    segment.window,
                    &segment.options,
                );
                let tcp = Endpoint::open(now, &self.config.tcp, open);
                let syn_tsval = segment.options.timestamp.map_or(0, |ts| ts.value);
                self.add_temporary(flow, listener, tcp, syn_tsval);
                return Ok(Verdict::Consumed);
            }
            if flags.ack
                && !flags.rst
                && !flags.syn
                && let Some(cookie) = self.cookies.check(now, flow, segment)
                // It brings back what has ended.
                && former.is_none_or(|former| former.irs != cookie.irs)
            {
                // Full: the client sends again what it has.
                if full {
                    return Err(DropReason::TableFull);
                }
                let (_, timestamp_offset) = self.stack.initial_numbers(now, flow);
                let open = self.opening(
                    cookie.irs,
                    cookie.iss,
                    timestamp_offset,
                    segment.window,
                    &cookie.options,
                );
                let tcp = Endpoint::open_by_cookie(now, &self.config.tcp, open);
                let key = self.add_temporary(flow, listener, tcp, cookie.syn_tsval);
                self.counters.cookies_accepted += 1;
                return self.gather(now, key, Some(via), packet, segment);
            }
        }
        // RFC 9293 §3.10.7.2: a listening socket ignores what neither opens nor acknowledges.
        // And a client whose first segment got lost while the table was full sends it again, unless it is reset for the others.
        // One that was turned away before it was sent anything is not such a client; more than its SYN's number would not tell:
        // cookies are near one another.
        let turned_away = former.is_some_and(|former| former.is_opened_by(segment.ack));
        let awaited = flags.ack && !turned_away && self.cookies.are_awaited(now);
        let ignored = listener.is_some() && !flags.syn && (!flags.ack || awaited);
        if self.config.unmatched == Unmatched::Reset
            && !ignored
            && let Some(reset) = reset_for(segment)
        {
            self.counters.resets += 1;
            self.answer_segment(now, via, flow, &reset);
        }
        Err(DropReason::Unmatched)
    }

    fn opening<'a>(
        &self,
        irs: SeqNum,
        iss: SeqNum,
        timestamp_offset: u32,
        window: Window,
        options: &'a Options,
    ) -> Open<'a> {
        let receive_limit = self.config.limits.request as u32;
        Open {
            irs,
            window,
            options,
            iss,
            timestamp_offset,
            receive_limit,
        }
    }

    fn add_temporary(
        &mut self,
        flow: &Flow,
        listener: usize,
        tcp: Endpoint,
        syn_tsval: u32,
    ) -> u32 {
        let irs = tcp.irs();
        let endpoint = self.insert_endpoint(tcp, *flow, false);
        let replay = Replay {
            rcv_nxt: irs + 1,
            // Replayed packets must pass PAWS.
            ts_recent: syn_tsval,
        };
        let mut pending = Pending::new(Some(endpoint), listener, replay);
        pending.inspector = self.rules.inspector();
        if let Some(tombstone) = self.flows.find(flow) {
            self.flows.remove(tombstone);
        }
        let key = self.flows.insert(*flow, Record::Pending(pending.into()));
        self.place(endpoint, key);
        self.stack.touch(endpoint);
        key
    }

    /// A SYN-ACK without a record of it (RFC 4987 §3.6).
    fn answer_with_cookie(&mut self, now: Instant, via: Via, flow: &Flow, syn: &Segment<'_>) {
        let (_, offset) = self.stack.initial_numbers(now, flow);
        let clock = timestamp_clock(now, offset);
        let (iss, moved) = self.cookies.make(now, flow, syn, clock);
        let open = self.opening(
            syn.seq,
            iss,
            offset.wrapping_add(moved),
            syn.window,
            &syn.options,
        );
        let mut tcp = Endpoint::open(now, &self.config.tcp, open);
        if syn.options.timestamp.is_none() {
            tcp.forgo_options();
        }
        if let Some(syn_ack) = tcp.poll(now, &self.config.tcp) {
            self.counters.cookies_sent += 1;
            self.answer_segment(now, via, flow, &syn_ack);
        }
    }

    /// A segment of a connection whose server is not settled: the stack takes it, and what it carries is kept, to be
    /// replayed to the server that will be selected.
    pub(super) fn gather(
        &mut self,
        now: Instant,
        key: u32,
        via: Option<Via>,
        packet: &Ipv4Packet<'_>,
        segment: &Segment<'_>,
    ) -> Result<Verdict, DropReason> {
        let Some((_, Record::Pending(pending))) = self.flows.get(key) else {
            return Err(DropReason::Stale);
        };
        let bound = pending.bound.is_some();
        let carries = !segment.payload.is_empty() || segment.flags.fin;
        let fits = !carries || self.may_keep(&pending.kept, packet);
        let begun = bound || pending.migration.is_some() || !pending.kept.is_empty();
        if !fits && begun {
            if pending.inspector.is_some() {
                // What there is must do.
                self.consider(now, key, true);
            }
            return Err(DropReason::RequestFull);
        }
        let endpoint = pending.endpoint.ok_or(DropReason::Stale)?;
        let opening = self
            .stack
            .get(endpoint)
            .is_some_and(|slot| slot.tcp.state() == State::SynReceived);
        let outcome = self.stack.handle(now, &self.config.tcp, endpoint, segment);
        if outcome.refuse {
            let via = via.ok_or(DropReason::Unmatched)?;
            return self.not_acceptable(now, via, (key, endpoint), packet, segment);
        }
        if carries && outcome.accepted && fits {
            self.keep(key, packet);
        }
        self.settle(now, endpoint, outcome);
        let Some(slot) = self.stack.get(endpoint) else {
            return Ok(Verdict::Consumed);
        };
        let requested = !slot.tcp.readable().is_empty();
        let ended = slot.tcp.has_finished();
        if opening && slot.tcp.state() != State::SynReceived {
            self.flows
                .schedule(key, Some(now + self.config.limits.request_deadline));
        }
        if bound {
            // Its server is asked for already.
        } else if requested && !fits {
            // There is no room to keep it for another server.
            self.serve_here(now, key);
        } else if requested {
            if let Some((_, Record::Pending(pending))) = self.flows.get_mut(key) {
                pending.asked.get_or_insert(now);
            }
            self.consider(now, key, ended);
        } else if ended {
            // The client asks for nothing: its application says what that gets.
            self.serve_here(now, key);
        }
        Ok(Verdict::Consumed)
    }

    /// An ACK that a SYN-ACK does not get (RFC 9293 §3.10.7.4). A client whose SYN has come twice may take an answer that was a
    /// cookie, when there was no room for a record.
    fn not_acceptable(
        &mut self,
        now: Instant,
        via: Via,
        (key, endpoint): (u32, u32),
        packet: &Ipv4Packet<'_>,
        segment: &Segment<'_>,
    ) -> Result<Verdict, DropReason> {
        let slot = self.stack.get(endpoint).ok_or(DropReason::Stale)?;
        let (flow, irs) = (slot.flow, slot.tcp.irs());
        let cookie = self.cookies.check(now, &flow, segment);
        if cookie.is_some_and(|cookie| cookie.irs == irs) {
            self.discard(key);
            return self.open(now, via, &flow, packet, segment, None);
        }
        // The segment that brings the cookie back may come later than this one.
        let later = self.cookies.are_awaited(now) && segment.seq.gt(irs + 1);
        if let Some(reset) = reset_for(segment).filter(|_| !later) {
            self.counters.resets += 1;
            self.answer_segment(now, via, &flow, &reset);
        }
        Err(DropReason::Unmatched)
    }

    /// Whether there is room for one more packet of a request.
    pub(super) fn may_keep(&self, kept: &Kept, packet: &Ipv4Packet<'_>) -> bool {
        let limits = &self.config.limits;
        let len = packet.bytes().len();
        // Headers of small segments may be as long as what they carry.
        kept.bytes() + len <= limits.request.saturating_mul(2)
            && self.flows.kept() + len <= limits.kept
    }

    /// Keeps a packet for the server that will be selected.
    pub(super) fn keep(&mut self, key: u32, packet: &Ipv4Packet<'_>) {
        self.flows.update(key, |record| {
            if let Record::Pending(pending) = record {
                pending.kept.push(packet.bytes());
            }
        });
    }

    /// A segment of no endpoint.
    fn answer_segment(&mut self, now: Instant, via: Via, flow: &Flow, segment: &Outgoing) {
        let addresses = (*flow.endpoint.ip(), *flow.client.ip());
        self.answer(now, via, addresses, |link| {
            build::bare_tcp(link, flow, segment)
        });
    }

    /// ARP (RFC 826): owned addresses are answered for, and who asks is likely to be answered next.
    fn resolve(&mut self, now: Instant, port: Port, bytes: &[u8]) -> Result<Verdict, DropReason> {
        let arp = ArpPacketSlice::from_slice(bytes).map_err(|_| DropReason::Malformed)?;
        let arp = arp
            .to_packet()
            .try_eth_ipv4()
            .map_err(|_| DropReason::Malformed)?;
        let (sender, target) = (arp.sender_ipv4_addr(), arp.target_ipv4_addr());
        let hardware = MacAddr(arp.sender_mac);
        let lan = self.config.to_clients(port);
        let (source, for_us) = (lan.hardware, lan.addresses.contains(&target));
        if self.config.is_own(sender) || hardware.is_multicast() {
            return Err(DropReason::NotOurs);
        }
        if lan.is_on_link(sender) && !sender.is_unspecified() {
            let hop = Hop {
                port,
                address: sender,
            };
            for index in self.neighbours.confirm(now, hop, hardware, for_us) {
                self.stack.touch(index);
            }
            for frame in self.neighbours.take_held(hop, hardware) {
                self.outbox.push(port, frame);
            }
        }
        if !for_us {
            return Err(DropReason::NotOurs);
        }
        if arp.operation == ArpOperation::REQUEST {
            let link = Link {
                source,
                destination: hardware,
            };
            self.outbox.push(
                port,
                build::arp(link, ArpOperation::REPLY, target, (hardware, sender)),
            );
        }
        Ok(Verdict::Consumed)
    }
}

/// The SYN of a client that uses its port again waits for the end of the connection that is there.
fn note_opening(
    forwarding: &mut Forwarding,
    now: Instant,
    via: Via,
    frame: &[u8],
    packet: &Ipv4Packet<'_>,
    segment: &TcpSlice<'_>,
) {
    if segment.payload().is_empty() && forwarding.is_followed_by(segment) {
        let opening = Aside::Opening(Opening {
            at: now,
            port: via.port,
            seq: SeqNum::new(segment.sequence_number()),
            frame: frame.get(..packet.range().end).unwrap_or_default().into(),
        });
        forwarding.aside = Some(opening.into());
    }
}
