//! Frames out: Ethernet, ARP, IPv4, ICMP, UDP and TCP headers around a payload.

use alloc::vec::Vec;
use core::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{ArpEthIpv4Packet, ArpOperation, IpNumber, Ipv4Header, TcpHeader, UdpHeader};
use ipos_proto::{Checksum, ETHERNET_LEN, Ethernet, MacAddr};

use crate::event::Burst;
use crate::flow::Flow;
use crate::packet::{ARP, IPV4};
use crate::tcp::{Flags, Outgoing};

/// RFC 1700's recommended default.
const TTL: u8 = 64;

/// The Ethernet header from one port to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Link {
    pub(crate) source: MacAddr,
    pub(crate) destination: MacAddr,
}

impl Link {
    /// For a packet that is sent in no Ethernet frame of its own.
    pub(crate) const NONE: Link = Link {
        source: MacAddr([0; 6]),
        destination: MacAddr([0; 6]),
    };

    fn header(self, ethertype: u16) -> [u8; ETHERNET_LEN] {
        Ethernet {
            destination: self.destination,
            source: self.source,
            ethertype,
        }
        .to_bytes()
    }
}

/// Writes the parts one behind the other; `None` where `out` is too short.
fn assemble<const N: usize>(out: &mut [u8], parts: [&[u8]; N]) -> Option<usize> {
    let mut at = 0;
    for part in parts {
        out.get_mut(at..at + part.len())?.copy_from_slice(part);
        at += part.len();
    }
    Some(at)
}

/// An IPv4 header; `None` where the payload is too long for one packet.
fn ipv4(
    source: Ipv4Addr,
    destination: Ipv4Addr,
    protocol: IpNumber,
    payload: usize,
) -> Option<Ipv4Header> {
    let payload = u16::try_from(payload).ok()?;
    let mut header = Ipv4Header::new(
        payload,
        TTL,
        protocol,
        source.octets(),
        destination.octets(),
    )
    .ok()?;
    header.header_checksum = header.calc_header_checksum();
    Some(header)
}

/// What a TCP header's checksum field holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    /// The checksum.
    Whole,
    /// The sum of the pseudo header alone: the port completes it.
    PseudoHeader,
}

/// A segment of `flow` towards its client, its payload written by `payload`.
pub(crate) fn tcp(
    out: &mut [u8],
    link: Link,
    flow: &Flow,
    segment: &Outgoing,
    sum: Sum,
    payload: impl FnOnce(&mut [u8]) -> usize,
) -> Option<usize> {
    let Outgoing {
        seq,
        ack,
        flags,
        window,
        options,
        payload: (_, payload_len),
        burst: _,
    } = segment;
    let Flags {
        syn,
        ack: has_ack,
        fin,
        rst,
        psh,
    } = *flags;
    let mut header = TcpHeader::new(
        flow.endpoint.port(),
        flow.client.port(),
        seq.raw(),
        window.raw(),
    );
    header.acknowledgment_number = ack.raw();
    (header.syn, header.ack, header.fin, header.rst, header.psh) = (syn, has_ack, fin, rst, psh);
    header.set_options_raw(options.to_wire().as_slice()).ok()?;
    let (source, destination) = (flow.endpoint.ip(), flow.client.ip());
    let ip = ipv4(
        *source,
        *destination,
        IpNumber::TCP,
        header.header_len() + payload_len,
    )?;
    let headers = ETHERNET_LEN + ip.header_len() + header.header_len();
    let len = headers + payload_len;
    let body = out.get_mut(headers..len)?;
    if payload(body) != *payload_len {
        return None;
    }
    let length = u16::try_from(header.header_len() + payload_len).ok()?;
    let pseudo = Checksum::default()
        .with(&ip.source)
        .with(&ip.destination)
        .with(&[0, IpNumber::TCP.0])
        .with(&length.to_be_bytes());
    header.checksum = match sum {
        Sum::Whole => pseudo.with(&header.to_bytes()).with(body).finish(),
        Sum::PseudoHeader => pseudo.sum(),
    };
    assemble(
        out,
        [&link.header(IPV4), &ip.to_bytes(), &header.to_bytes()],
    )?;
    Some(len)
}

/// How much data a TCP frame of `frame` bytes holds, whatever its options are.
pub(crate) fn longest_tcp_payload(frame: usize) -> usize {
    let packet = frame.saturating_sub(ETHERNET_LEN).min(u16::MAX.into());
    packet.saturating_sub(Ipv4Header::MIN_LEN + TcpHeader::MAX_LEN)
}

/// What the port does with a segment that was built with [`Sum::PseudoHeader`]; `None`: it has more data than a packet holds.
pub(crate) fn burst(segment: &Outgoing) -> Option<Burst> {
    let (_, len) = segment.payload;
    let alone = u16::try_from(len).ok()?.max(1);
    Some(Burst {
        transport: (ETHERNET_LEN + Ipv4Header::MIN_LEN) as u16,
        segment: segment.burst.unwrap_or(alone),
    })
}

/// A segment without payload as a frame of its own.
pub(crate) fn bare_tcp(link: Link, flow: &Flow, segment: &Outgoing) -> Option<Vec<u8>> {
    let mut frame = alloc::vec![0; ETHERNET_LEN + Ipv4Header::MIN_LEN + TcpHeader::MAX_LEN];
    let len = tcp(&mut frame, link, flow, segment, Sum::Whole, |_| 0)?;
    frame.truncate(len);
    Some(frame)
}

/// A segment with this payload as an IP packet of its own; `None`: it fits in none.
pub(crate) fn tcp_packet(flow: &Flow, segment: &Outgoing, payload: &[u8]) -> Option<Vec<u8>> {
    let headers = ETHERNET_LEN + Ipv4Header::MIN_LEN + TcpHeader::MAX_LEN;
    let mut frame = alloc::vec![0; headers + payload.len()];
    let copy = |out: &mut [u8]| {
        out.copy_from_slice(payload);
        out.len()
    };
    let len = tcp(&mut frame, Link::NONE, flow, segment, Sum::Whole, copy)?;
    frame.truncate(len);
    frame.drain(..ETHERNET_LEN);
    Some(frame)
}

/// A UDP datagram as a frame of its own.
pub(crate) fn udp(
    link: Link,
    source: SocketAddrV4,
    destination: SocketAddrV4,
    payload: &[u8],
) -> Option<Vec<u8>> {
    let ip = ipv4(
        *source.ip(),
        *destination.ip(),
        IpNumber::UDP,
        UdpHeader::LEN + payload.len(),
    )?;
    let header =
        UdpHeader::with_ipv4_checksum(source.port(), destination.port(), &ip, payload).ok()?;
    let mut frame = alloc::vec![0; ETHERNET_LEN + ip.header_len() + UdpHeader::LEN + payload.len()];
    assemble(
        &mut frame,
        [
            &link.header(IPV4),
            &ip.to_bytes(),
            &header.to_bytes(),
            payload,
        ],
    )?;
    Some(frame)
}

/// An IPv4 packet with an ICMP message, given whole.
pub(crate) fn icmp(
    link: Link,
    source: Ipv4Addr,
    destination: Ipv4Addr,
    message: &[u8],
) -> Option<Vec<u8>> {
    let ip = ipv4(source, destination, IpNumber::ICMP, message.len())?;
    let mut frame = alloc::vec![0; ETHERNET_LEN + ip.header_len() + message.len()];
    assemble(&mut frame, [&link.header(IPV4), &ip.to_bytes(), message])?;
    Some(frame)
}

/// An ARP packet (RFC 826).
pub(crate) fn arp(
    link: Link,
    operation: ArpOperation,
    sender: Ipv4Addr,
    target: (MacAddr, Ipv4Addr),
) -> Vec<u8> {
    let packet = ArpEthIpv4Packet {
        operation,
        sender_mac: link.source.0,
        sender_ipv4: sender.octets(),
        target_mac: target.0.0,
        target_ipv4: target.1.octets(),
    };
    [&link.header(ARP)[..], &packet.to_bytes()].concat()
}
