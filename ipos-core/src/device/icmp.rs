//! ICMP on Port A: echo, and what routers say about packets that are too big.

use core::net::SocketAddrV4;

use etherparse::{IpNumber, Ipv4HeaderSlice};
use ipos_proto::{ETHERNET_LEN, Ethernet, SeqNum, internet_checksum};

use super::Device;
use super::forward::pass_on;
use crate::build::{self, Link};
use crate::counters::DropReason;
use crate::event::{Port, Verdict};
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
/// RFC 1812 §4.3.2.8: errors are limited.
const TOO_BIG_INTERVAL: Duration = Duration::from_millis(10);

/// "Fragmentation needed" about a segment of ours.
#[derive(Clone, Copy, Debug)]
pub(super) struct TooBig {
    pub(super) flow: Flow,
    seq: SeqNum,
    mtu: u16,
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

/// RFC 1191 §4: the segment that an error is about is in the message.
pub(super) fn too_big(packet: &Ipv4Packet<'_>) -> Result<TooBig, DropReason> {
    let message = verified(packet)?;
    if (message[0], message[1]) != TOO_BIG {
        return Err(DropReason::Protocol);
    }
    let told = u16::from_be_bytes([message[6], message[7]]);
    let original =
        Ipv4HeaderSlice::from_slice(&message[HEADER..]).map_err(|_| DropReason::Malformed)?;
    let segment = &message[HEADER + original.slice().len()..];
    let [s0, s1, d0, d1, q0, q1, q2, q3, ..] = *segment else {
        return Err(DropReason::Malformed);
    };
    if original.protocol() != IpNumber::TCP {
        return Err(DropReason::Protocol);
    }
    let ours = SocketAddrV4::new(original.source_addr(), u16::from_be_bytes([s0, s1]));
    let client = SocketAddrV4::new(original.destination_addr(), u16::from_be_bytes([d0, d1]));
    Ok(TooBig {
        flow: Flow::tcp(client, ours),
        seq: SeqNum::new(u32::from_be_bytes([q0, q1, q2, q3])),
        mtu: if told == 0 { SILENT_ROUTER } else { told },
    })
}

impl Device {
    pub(super) fn control_message(
        &mut self,
        now: Instant,
        ethernet: &Ethernet,
        packet: &Ipv4Packet<'_>,
    ) -> Result<Verdict, DropReason> {
        let message = verified(packet)?;
        match (message[0], message[1]) {
            ECHO_REQUEST => self.echo(ethernet, packet),
            TOO_BIG => self.too_big_from_router(now, packet),
            _ => Err(DropReason::Protocol),
        }
    }

    /// Goes to the server that holds the flow.
    fn too_big_from_router(
        &mut self,
        now: Instant,
        packet: &Ipv4Packet<'_>,
    ) -> Result<Verdict, DropReason> {
        let about = too_big(packet)?;
        let key = self.flows.find(&about.flow).ok_or(DropReason::Unmatched)?;
        if let Some((_, Record::Forward(forwarding))) = self.flows.get_mut(key) {
            forwarding.used = now;
            self.counters.forwarded += 1;
            return Ok(pass_on(forwarding.headers, ETHERNET_LEN, packet));
        }
        self.shrink(now, key, &about)
    }

    /// Segments of the flow are smaller from now on (RFC 1191), if it has sent what the error is about.
    pub(super) fn shrink(
        &mut self,
        now: Instant,
        key: u32,
        about: &TooBig,
    ) -> Result<Verdict, DropReason> {
        let endpoint = self
            .flows
            .get(key)
            .and_then(|(_, record)| record.endpoint())
            .ok_or(DropReason::Unmatched)?;
        let mut believed = false;
        self.with_endpoint(now, endpoint, |slot, _| {
            believed = slot.tcp.packet_too_big(about.seq, about.mtu)
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
        ethernet: &Ethernet,
        packet: &Ipv4Packet<'_>,
    ) -> Result<Verdict, DropReason> {
        if now.saturating_since(self.me.too_big_at) >= TOO_BIG_INTERVAL {
            self.me.too_big_at = now;
            let mtu = u16::try_from(self.config.port_b.room()).unwrap_or(u16::MAX);
            let [high, low] = mtu.to_be_bytes();
            let mut message = alloc::vec![TOO_BIG.0, TOO_BIG.1, 0, 0, 0, 0, high, low];
            let told = packet.bytes().len() - packet.payload().len() + ORIGINAL;
            message.extend_from_slice(packet.bytes().get(..told).unwrap_or(packet.bytes()));
            let checksum = internet_checksum(&message);
            message[2..4].copy_from_slice(&checksum.to_be_bytes());
            let link = Link {
                source: self.config.port_a.hardware,
                destination: ethernet.source,
            };
            let frame = build::icmp(link, packet.destination(), packet.source(), &message);
            if let Some(frame) = frame {
                self.outbox.push(Port::A, frame);
            }
        }
        Err(DropReason::TooBig)
    }

    /// RFC 1122 §3.2.2.6.
    fn echo(
        &mut self,
        ethernet: &Ethernet,
        packet: &Ipv4Packet<'_>,
    ) -> Result<Verdict, DropReason> {
        let mut reply = packet.payload().to_vec();
        // Echo reply.
        reply[0] = 0;
        reply[2..4].copy_from_slice(&[0, 0]);
        let checksum = internet_checksum(&reply);
        reply[2..4].copy_from_slice(&checksum.to_be_bytes());
        let link = Link {
            source: self.config.port_a.hardware,
            destination: ethernet.source,
        };
        match build::icmp(link, packet.destination(), packet.source(), &reply) {
            Some(frame) if frame.len() <= usize::from(self.config.port_a.mtu) + ETHERNET_LEN => {
                self.outbox.push(Port::A, frame);
                Ok(Verdict::Consumed)
            }
            _ => Err(DropReason::TooBig),
        }
    }
}
