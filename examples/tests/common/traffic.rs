//! What captures prove.

#![allow(dead_code, reason = "no test needs all of it")]

use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{IpNumber, Ipv4HeaderSlice, TcpHeaderSlice};
use ipos_proto::{ETHERTYPE, Ethernet, Frame, MacAddr, Message};

/// A TCP segment that was seen on LAN A.
pub struct Segment {
    pub from: MacAddr,
    pub source: SocketAddrV4,
    pub destination: SocketAddrV4,
    pub payload: usize,
    /// The whole IP packet.
    pub packet: Vec<u8>,
}

/// The TCP segments among the frames of LAN A.
pub fn segments(frames: &[Vec<u8>]) -> Vec<Segment> {
    frames.iter().filter_map(|frame| segment(frame)).collect()
}

fn segment(frame: &[u8]) -> Option<Segment> {
    let (ethernet, rest) = Ethernet::parse(frame).ok()?;
    if ethernet.ethertype != 0x0800 {
        return None;
    }
    let ip = Ipv4HeaderSlice::from_slice(rest).ok()?;
    if ip.protocol() != IpNumber::TCP {
        return None;
    }
    let packet = rest.get(..usize::from(ip.total_len()))?;
    let transport = packet.get(ip.slice().len()..)?;
    let tcp = TcpHeaderSlice::from_slice(transport).ok()?;
    Some(Segment {
        from: ethernet.source,
        source: SocketAddrV4::new(ip.source_addr(), tcp.source_port()),
        destination: SocketAddrV4::new(ip.destination_addr(), tcp.destination_port()),
        payload: transport.len() - tcp.slice().len(),
        packet: packet.to_vec(),
    })
}

/// A client's packet that went from server to server.
pub struct Forwarded {
    pub from: MacAddr,
    pub to: MacAddr,
    /// Port B address of the receiver.
    pub destination: Ipv4Addr,
    pub packet: Vec<u8>,
}

/// The packets (0x02) of `client` among the frames of LAN B.
pub fn forwarded(frames: &[Vec<u8>], client: SocketAddrV4) -> Vec<Forwarded> {
    frames
        .iter()
        .filter_map(|frame| {
            let (ethernet, rest) = Ethernet::parse(frame).ok()?;
            assert_eq!(ethernet.ethertype, ETHERTYPE, "LAN B carries nothing else");
            let frame = Frame::parse(rest).expect("every frame on LAN B can be read");
            let Message::Packet(packet) = frame.message else {
                return None;
            };
            (frame.header.client == client).then(|| Forwarded {
                from: ethernet.source,
                to: ethernet.destination,
                destination: frame.header.destination,
                packet: packet.to_vec(),
            })
        })
        .collect()
}
