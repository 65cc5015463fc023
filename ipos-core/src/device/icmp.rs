//! ICMP: echo, and errors, in and out.

use core::net::SocketAddrV4;

use etherparse::{IpNumber, Ipv4HeaderSlice};
use ipos_proto::{ENCAPSULATION_LEN, ETHERNET_LEN, MacAddr, SeqNum, internet_checksum};

use super::forward::pass_on;
use super::{Device, Via};
use crate::build;
use crate::counters::DropReason;
use crate::event::Verdict;
use crate::flow::Flow;
use crate::flow_table::Record;
use crate::packet::Ipv4Packet;
use crate::time::{Duration, Instant};

/// RFC 792: bytes of every message that is served.
const HEADER: usize = 8;
const ECHO_REQUEST: (u8, u8) = (8, 0);
/// Destination unreachable, fragmentation needed and DF set.
const TOO_BIG: (u8, u8) = (3, 4);
/// RFC 1191 §5: a router that tells no MTU is taken for one with the least plateau that is honoured.
const SILENT_ROUTER: u16 = 552;
/// RFC 792: bytes of what a packet carries that an error about it repeats.
const ORIGINAL: usize = 8;
/// Between two errors that are sent.
const ERROR_INTERVAL: Duration = Duration::from_millis(10);
/// Destination unreachable, time exceeded, parameter problem.
const ERRORS: [u8; 3] = [3, 11, 12];
/// Destination unreachable: nobody listens on this port.
pub(super) const PORT_UNREACHABLE: (u8, u8) = (3, 3);

/// What an ICMP error is about.
#[derive(Clone, Copy, Debug)]
struct About {
    flow: Flow,
    /// Fragmentation is needed (RFC 1191): the path's MTU, and the segment that was too big.
    too_big: Option<(SeqNum, u16)>,
}

/// The message in an ICMP packet, its checksum verified.
fn verified<'a>(packet: &Ipv4Packet<'a>) -> Result<&'a [u8], DropReason> {
    let message = packet.payload();
    if message.len() < HEADER {
        return Err(DropReason::Malformed);
    }
    if internet_checksum(message) != 0 {
        return Err(DropReason::TransportChecksum);
    }
    Ok(message)
}

/// RFC 792: the packet that an error is about is in the message.
fn about(message: &[u8]) -> Result<About, DropReason> {
    let told = u16::from_be_bytes([message[6], message[7]]);
    let original =
        Ipv4HeaderSlice::from_slice(&message[HEADER..]).map_err(|_| DropReason::Malformed)?;
    let transport = &message[HEADER + original.slice().len()..];
    let [s0, s1, d0, d1, q0, q1, q2, q3, ..] = *transport else {
        return Err(DropReason::Malformed);
    };
    let ours = SocketAddrV4::new(original.source_addr(), u16::from_be_bytes([s0, s1]));
    let client = SocketAddrV4::new(original.destination_addr(), u16::from_be_bytes([d0, d1]));
    let seq = SeqNum::new(u32::from_be_bytes([q0, q1, q2, q3]));
    let mtu = if told == 0 { SILENT_ROUTER } else { told };
    let fragmentation_needed = (message[0], message[1]) == TOO_BIG;
    match original.protocol() {
        IpNumber::TCP => Ok(About {
            flow: Flow::tcp(client, ours),
            too_big: fragmentation_needed.then_some((seq, mtu)),
        }),
        IpNumber::UDP => Ok(About {
            flow: Flow::udp(client, ours),
            too_big: None,
        }),
        _ => Err(DropReason::Protocol),
    }
}

impl Device {
    pub(super) fn control_message(
        &mut self,
        now: Instant,
        via: Via,
        packet: &Ipv4Packet<'_>,
    ) -> Result<Verdict, DropReason> {
        let message = verified(packet)?;
        match (message[0], message[1]) {
            ECHO_REQUEST => self.echo(now, via, packet),
            (kind, _) if ERRORS.contains(&kind) => self.error(now, None, packet),
            _ => Err(DropReason::Protocol),
        }
    }

    /// An error that the first server has passed on.
    pub(super) fn owned_error(
        &mut self,
        now: Instant,
        hardware: MacAddr,
        packet: &Ipv4Packet<'_>,
    ) -> Result<Verdict, DropReason> {
        if !ERRORS.contains(&verified(packet)?[0]) {
            return Err(DropReason::Protocol);
        }
        self.error(now, Some(hardware), packet)
    }

    /// Goes to the server that holds the flow. There, only the path's MTU is believed: all else passes (RFC 1122
    /// §4.2.3.9, RFC 5927 §6).
    fn error(
        &mut self,
        now: Instant,
        passed_on_by: Option<MacAddr>,
        packet: &Ipv4Packet<'_>,
    ) -> Result<Verdict, DropReason> {
        let About { flow, too_big } = about(verified(packet)?)?;
        let key = self.flows.find(&flow).ok_or(DropReason::Unmatched)?;
        let (_, record) = self.flows.get_mut(key).ok_or(DropReason::Unmatched)?;
        if passed_on_by.is_some_and(|hardware| !record.concerns(hardware)) {
            return Err(DropReason::Stranger);
        }
        if let Record::Forward(forwarding) = record {
            if passed_on_by == Some(forwarding.to().hardware) {
                // It would come back.
                return Err(DropReason::Stale);
            }
            let at = passed_on_by.map_or(ETHERNET_LEN, |_| ENCAPSULATION_LEN);
            forwarding.used = now;
            self.counters.forwarded += 1;
            return Ok(pass_on(forwarding.headers, at, packet));
        }
        let endpoint = record.endpoint().ok_or(DropReason::Protocol)?;
        let (seq, mtu) = too_big.ok_or(DropReason::Protocol)?;
        let mut believed = false;
        self.with_endpoint(now, endpoint, |slot, _| {
            believed = slot.tcp.packet_too_big(seq, mtu)
        });
        if believed {
            Ok(Verdict::Consumed)
        } else {
            Err(DropReason::Stale)
        }
    }

    /// RFC 1191 §4: a packet that Port B does not take with its encapsulation. That it was not sent is counted.
    pub(super) fn say_too_big(
        &mut self,
        now: Instant,
        via: Via,
        packet: &Ipv4Packet<'_>,
    ) -> Result<Verdict, DropReason> {
        let mtu = u16::try_from(self.config.port_b.room()).unwrap_or(u16::MAX);
        self.answer_with_error(now, via, packet, TOO_BIG, mtu);
        Err(DropReason::TooBig)
    }

    /// An ICMP error about a client's packet, unless there was one just before (RFC 1812 §4.3.2.8).
    pub(super) fn answer_with_error(
        &mut self,
        now: Instant,
        via: Via,
        packet: &Ipv4Packet<'_>,
        (kind, code): (u8, u8),
        mtu: u16,
    ) {
        if now.saturating_since(self.me.error_at) < ERROR_INTERVAL {
            return;
        }
        self.me.error_at = now;
        let [high, low] = mtu.to_be_bytes();
        let told = packet.bytes().len() - packet.payload().len() + ORIGINAL;
        let original = packet.bytes().get(..told).unwrap_or(packet.bytes());
        let mut message = [&[kind, code, 0, 0, 0, 0, high, low], original].concat();
        let checksum = internet_checksum(&message);
        message[2..4].copy_from_slice(&checksum.to_be_bytes());
        let (own, client) = (packet.destination(), packet.source());
        self.answer(now, via, (own, client), |link| {
            build::icmp(link, own, client, &message)
        });
    }

    /// RFC 1122 §3.2.2.6.
    fn echo(
        &mut self,
        now: Instant,
        via: Via,
        packet: &Ipv4Packet<'_>,
    ) -> Result<Verdict, DropReason> {
        let mut reply = packet.payload().to_vec();
        // Echo reply.
        reply[0] = 0;
        reply[2..4].copy_from_slice(&[0, 0]);
        let checksum = internet_checksum(&reply);
        reply[2..4].copy_from_slice(&checksum.to_be_bytes());
        let (own, client) = (packet.destination(), packet.source());
        self.answer(now, via, (own, client), |link| {
            build::icmp(link, own, client, &reply)
        })
        .map(|()| Verdict::Consumed)
        .ok_or(DropReason::TooBig)
    }
}
