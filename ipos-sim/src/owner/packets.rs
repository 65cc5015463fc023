//! What the packets of clients say.

use std::net::SocketAddrV4;

use ipos_core::Flow;
use smoltcp::wire::{IpProtocol, Ipv4Packet, TcpPacket};

/// The flow of a client's packet, and its sequence number.
pub(super) fn flow_of(packet: &[u8]) -> Option<(Flow, i32)> {
    let (segment, client, endpoint) = segment(packet)?;
    Some((Flow::tcp(client, endpoint), segment.seq_number().0))
}

/// Whether the checksums of a TCP packet hold: a device drops others.
pub(super) fn is_intact(packet: &[u8]) -> bool {
    let Ok(packet) = Ipv4Packet::new_checked(packet) else {
        return false;
    };
    let (source, destination) = (packet.src_addr().into(), packet.dst_addr().into());
    packet.verify_checksum()
        && TcpPacket::new_checked(packet.payload())
            .is_ok_and(|segment| segment.verify_checksum(&source, &destination))
}

/// The TCP segment in an IP packet, with source and destination.
pub(super) fn segment(packet: &[u8]) -> Option<(TcpPacket<&[u8]>, SocketAddrV4, SocketAddrV4)> {
    let packet = Ipv4Packet::new_checked(packet).ok()?;
    if packet.next_header() != IpProtocol::Tcp {
        return None;
    }
    let segment = TcpPacket::new_checked(packet.payload()).ok()?;
    let source = SocketAddrV4::new(packet.src_addr(), segment.src_port());
    let destination = SocketAddrV4::new(packet.dst_addr(), segment.dst_port());
    Some((segment, source, destination))
}
