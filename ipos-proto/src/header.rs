//! The ipOS header (FIG. 11B).

use core::fmt;
use core::net::{Ipv4Addr, SocketAddrV4};

use crate::bytes::Writer;
use crate::{HEADER_LEN, Layer, WireError, internet_checksum};

pub(crate) const TYPE_AT: usize = 12;
pub(crate) const PROTOCOL_AT: usize = 13;
const CHECKSUM_AT: usize = 14;

/// The protocol of a flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Protocol {
    /// TCP, 0x01.
    Tcp = 1,
    /// UDP, 0x02.
    Udp = 2,
}

impl Protocol {
    /// The protocol with this number in the header, if there is one.
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Tcp),
            2 => Some(Self::Udp),
            _ => None,
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// What a frame on Port B carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum FrameType {
    /// 0x01: a connection endpoint (FIG. 11E, 11F).
    Endpoint = 1,
    /// 0x02: a packet of a migrated connection (FIG. 11G, 11H).
    Packet = 2,
    /// 0x03: endpoint migration acknowledgement (FIG. 11I).
    Acknowledgement = 3,
    /// 0x10: the connection has ended, drop the forward record.
    Release = 0x10,
    /// 0x11: the endpoint was not installed, the sender of the 0x01 keeps it.
    Refuse = 0x11,
    /// 0x12: please migrate this endpoint to the named server.
    Move = 0x12,
    /// 0x13: the forward record must now point to the named server.
    Moved = 0x13,
}

impl FrameType {
    /// The type with this number in the header, if there is one.
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::Endpoint),
            2 => Some(Self::Packet),
            3 => Some(Self::Acknowledgement),
            0x10 => Some(Self::Release),
            0x11 => Some(Self::Refuse),
            0x12 => Some(Self::Move),
            0x13 => Some(Self::Moved),
            _ => None,
        }
    }
}

impl fmt::Display for FrameType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Endpoint => "connection endpoint",
            Self::Packet => "packet",
            Self::Acknowledgement => "acknowledgement",
            Self::Release => "RELEASE",
            Self::Refuse => "REFUSE",
            Self::Move => "MOVE",
            Self::Moved => "MOVED",
        })
    }
}

/// An ipOS header, 16 bytes. The checksum is not kept: [`parse`](Self::parse) verifies it and
/// [`to_bytes`](Self::to_bytes) computes it.
///
/// ```
/// use ipos_proto::{FrameType, Header, Protocol};
///
/// let header = Header {
///     client: "192.0.2.1:40000".parse().unwrap(),
///     destination: "10.88.0.12".parse().unwrap(),
///     port: 80,
///     frame_type: FrameType::Endpoint,
///     protocol: Protocol::Tcp,
/// };
/// let bytes = header.to_bytes();
/// assert_eq!(bytes[14..], [0x96, 0x08]);
/// assert_eq!(Header::parse(&bytes).unwrap().0, header);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Header {
    /// The client's address and port.
    pub client: SocketAddrV4,
    /// Port B address of the receiving device.
    pub destination: Ipv4Addr,
    /// Port of the application on the receiving server; in types 0x03 and 0x10–0x13 the port
    /// that the client connected to.
    pub port: u16,
    /// What follows.
    pub frame_type: FrameType,
    /// The protocol of the flow.
    pub protocol: Protocol,
}

impl Header {
    /// Reads and verifies the header; also gives what follows it, padding included.
    ///
    /// # Errors
    ///
    /// In this order: fewer than 16 bytes, a checksum that does not verify, an unknown type, an
    /// unknown protocol.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let Some((raw, rest)) = bytes.split_first_chunk::<HEADER_LEN>() else {
            return Err(WireError::length(Layer::Header, 0, HEADER_LEN, bytes.len()));
        };
        if internet_checksum(raw) != 0 {
            return Err(checksum_error(*raw));
        }
        let [
            a,
            b,
            c,
            d,
            p,
            q,
            e,
            f,
            g,
            h,
            r,
            s,
            frame_type,
            protocol,
            _,
            _,
        ] = *raw;
        let header = Self {
            client: SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), u16::from_be_bytes([p, q])),
            destination: Ipv4Addr::new(e, f, g, h),
            port: u16::from_be_bytes([r, s]),
            frame_type: FrameType::from_u8(frame_type).ok_or_else(|| {
                let known = "0x01, 0x02, 0x03 or 0x10 to 0x13";
                WireError::value(Layer::Header, TYPE_AT, "type", known, frame_type)
            })?,
            protocol: Protocol::from_u8(protocol).ok_or_else(|| {
                let known = "1 (TCP) or 2 (UDP)";
                WireError::value(Layer::Header, PROTOCOL_AT, "protocol", known, protocol)
            })?,
        };
        Ok((header, rest))
    }

    /// The header's bytes, with its checksum.
    pub fn to_bytes(&self) -> [u8; HEADER_LEN] {
        let mut out = [0; HEADER_LEN];
        Writer::new(&mut out)
            .socket(self.client)
            .ipv4(self.destination)
            .u16(self.port)
            .u8(self.frame_type as u8)
            .u8(self.protocol as u8);
        let checksum = internet_checksum(&out);
        out[CHECKSUM_AT..].copy_from_slice(&checksum.to_be_bytes());
        out
    }
}

#[cold]
fn checksum_error(mut raw: [u8; HEADER_LEN]) -> WireError {
    let actual = u16::from_be_bytes([raw[CHECKSUM_AT], raw[CHECKSUM_AT + 1]]);
    raw[CHECKSUM_AT..].fill(0);
    WireError::checksum(Layer::Header, CHECKSUM_AT, internet_checksum(&raw), actual)
}
