//! Frames on Port B: the ipOS header and what its type says follows.

use core::net::SocketAddrV4;

use crate::bytes::{Reader, Writer};
use crate::header::{PROTOCOL_AT, TYPE_AT};
use crate::{
    CONTROL_BLOCK_LEN, ControlBlock, FrameType, HEADER_LEN, Header, Layer, Protocol, SOCKET_LEN,
    TAG_LEN, TRAILER_LEN, Trailer, WireError,
};

const IPV4_HEADER_LEN: usize = 20;

/// Connection information (FIG. 11C, 11D).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ConnectionInfo {
    /// 6 bytes (FIG. 11C).
    Udp {
        /// First server's address and port: those that the client sent to.
        first: SocketAddrV4,
    },
    /// 146 bytes (FIG. 11D).
    Tcp {
        /// First server's address and port: those that the client connected to.
        first: SocketAddrV4,
        /// The connection itself.
        control: ControlBlock,
    },
}

impl ConnectionInfo {
    /// First server's address and port.
    pub const fn first(&self) -> SocketAddrV4 {
        match self {
            Self::Udp { first } | Self::Tcp { first, .. } => *first,
        }
    }

    /// The protocol that the header of such a frame names.
    pub const fn protocol(&self) -> Protocol {
        match self {
            Self::Udp { .. } => Protocol::Udp,
            Self::Tcp { .. } => Protocol::Tcp,
        }
    }

    const fn wire_len(&self) -> usize {
        match self {
            Self::Udp { .. } => SOCKET_LEN,
            Self::Tcp { .. } => SOCKET_LEN + CONTROL_BLOCK_LEN,
        }
    }
}

/// What follows the ipOS header. Every type but 0x02 may have a trailer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Message<'a> {
    /// 0x01: install this endpoint.
    Endpoint {
        /// The endpoint.
        connection: ConnectionInfo,
        /// Trailer.
        trailer: Option<Trailer>,
    },
    /// 0x02: the client's IP packet, byte for byte, cut at its total length.
    Packet(&'a [u8]),
    /// 0x03: installed, or received this far.
    Acknowledgement {
        /// Trailer.
        trailer: Option<Trailer>,
    },
    /// 0x10: the connection has ended.
    Release {
        /// Trailer.
        trailer: Option<Trailer>,
    },
    /// 0x11: not installed.
    Refuse {
        /// Trailer; its flags give the reason.
        trailer: Option<Trailer>,
    },
    /// 0x12: please migrate this endpoint to `target`.
    Move {
        /// Port B address and application port.
        target: SocketAddrV4,
        /// Trailer.
        trailer: Option<Trailer>,
    },
    /// 0x13: forward to `target` from now on.
    Moved {
        /// Port B address and application port.
        target: SocketAddrV4,
        /// Trailer.
        trailer: Option<Trailer>,
    },
}

impl Message<'_> {
    /// The type that the header of such a frame names.
    pub const fn frame_type(&self) -> FrameType {
        match self {
            Self::Endpoint { .. } => FrameType::Endpoint,
            Self::Packet(_) => FrameType::Packet,
            Self::Acknowledgement { .. } => FrameType::Acknowledgement,
            Self::Release { .. } => FrameType::Release,
            Self::Refuse { .. } => FrameType::Refuse,
            Self::Move { .. } => FrameType::Move,
            Self::Moved { .. } => FrameType::Moved,
        }
    }

    /// The trailer, if there is one.
    pub const fn trailer(&self) -> Option<&Trailer> {
        match self {
            Self::Packet(_) => None,
            Self::Endpoint { trailer, .. }
            | Self::Acknowledgement { trailer }
            | Self::Release { trailer }
            | Self::Refuse { trailer }
            | Self::Move { trailer, .. }
            | Self::Moved { trailer, .. } => trailer.as_ref(),
        }
    }

    const fn body_len(&self) -> usize {
        match self {
            Self::Endpoint { connection, .. } => connection.wire_len(),
            Self::Packet(packet) => packet.len(),
            Self::Acknowledgement { .. } | Self::Release { .. } | Self::Refuse { .. } => 0,
            Self::Move { .. } | Self::Moved { .. } => SOCKET_LEN,
        }
    }
}

/// One frame on Port B, from the ipOS header on.
///
/// ```
/// use ipos_proto::{Frame, FrameType, Header, Message, Protocol};
///
/// let frame = Frame {
///     header: Header {
///         client: "192.0.2.1:40000".parse().unwrap(),
///         destination: "10.88.0.11".parse().unwrap(),
///         port: 80,
///         frame_type: FrameType::Acknowledgement,
///         protocol: Protocol::Tcp,
///     },
///     message: Message::Acknowledgement { trailer: None },
/// };
/// let mut bytes = [0; 46]; // a short frame is padded
/// assert_eq!(frame.emit(&mut bytes), Ok(16));
/// assert_eq!(Frame::parse(&bytes), Ok(frame));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Frame<'a> {
    /// The header.
    pub header: Header,
    /// What follows it.
    pub message: Message<'a>,
}

impl<'a> Frame<'a> {
    /// Reads a frame from the ipOS header on. Padding after it is not looked at: a short frame
    /// is padded on the wire.
    ///
    /// # Errors
    ///
    /// What [`Header::parse`], [`ControlBlock::parse`] and [`Trailer::parse`] refuse; a body that
    /// is cut short; in 0x02 a packet that is not IPv4, or whose total length is below 20 or
    /// beyond what is there.
    ///
    /// An error in [`Layer::ControlBlock`] means that header and length do hold: the receiver of
    /// such a 0x01 answers REFUSE.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let (header, body) = Header::parse(bytes)?;
        let message = parse_message(&header, body).map_err(|error| error.offset_by(HEADER_LEN))?;
        Ok(Self { header, message })
    }

    /// Length in bytes from the ipOS header to the end of the trailer, without padding. A tag is
    /// the last 16 of them.
    pub fn frame_len(&self) -> usize {
        let trailer = self.message.trailer().map_or(0, Trailer::wire_len);
        HEADER_LEN + self.message.body_len() + trailer
    }

    /// Writes header, body and trailer to the start of `out`; gives the number of bytes written,
    /// which is [`frame_len`](Self::frame_len). A control block is written as it is.
    ///
    /// # Errors
    ///
    /// `out` is too short; or the frame contradicts itself: a header whose type or protocol is
    /// not that of the message, or a 0x02 whose packet is not one IPv4 packet of exactly its
    /// total length.
    pub fn emit(&self, out: &mut [u8]) -> Result<usize, WireError> {
        self.agree()?;
        let len = self.frame_len();
        let room = out.len();
        let out = out
            .get_mut(..len)
            .ok_or(WireError::space(Layer::Header, len, room))?;
        let mut writer = Writer::new(out);
        writer.put(&self.header.to_bytes());
        match &self.message {
            Message::Endpoint {
                connection: ConnectionInfo::Udp { first },
                ..
            } => {
                writer.socket(*first);
            }
            Message::Endpoint {
                connection: ConnectionInfo::Tcp { first, control },
                ..
            } => {
                writer.socket(*first).put(&control.to_bytes());
            }
            Message::Packet(packet) => {
                writer.put(packet);
            }
            Message::Acknowledgement { .. } | Message::Release { .. } | Message::Refuse { .. } => {}
            Message::Move { target, .. } | Message::Moved { target, .. } => {
                writer.socket(*target);
            }
        }
        if let Some(trailer) = self.message.trailer() {
            trailer.write(&mut writer);
        }
        Ok(len)
    }

    /// Whether header and message say the same.
    fn agree(&self) -> Result<(), WireError> {
        if self.header.frame_type != self.message.frame_type() {
            let actual = self.header.frame_type as u8;
            return Err(WireError::value(
                Layer::Header,
                TYPE_AT,
                "type",
                "that of the message",
                actual,
            ));
        }
        match &self.message {
            Message::Endpoint { connection, .. }
                if connection.protocol() != self.header.protocol =>
            {
                let actual = self.header.protocol as u8;
                let required = "that of the connection";
                Err(WireError::value(
                    Layer::Header,
                    PROTOCOL_AT,
                    "protocol",
                    required,
                    actual,
                ))
            }
            Message::Packet(packet) => {
                let cut = cut_packet(packet).map_err(|error| error.offset_by(HEADER_LEN))?;
                if cut.len() == packet.len() {
                    return Ok(());
                }
                let (at, actual) = (HEADER_LEN + 2, cut.len() as u64);
                let required = "the length of the packet given";
                Err(WireError::value(
                    Layer::Packet,
                    at,
                    "total length",
                    required,
                    actual,
                ))
            }
            _ => Ok(()),
        }
    }
}

fn parse_message<'a>(header: &Header, body: &'a [u8]) -> Result<Message<'a>, WireError> {
    Ok(match header.frame_type {
        FrameType::Endpoint => {
            let (connection, rest) = parse_connection(header.protocol, body)?;
            let trailer = parse_trailer(body.len() - rest.len(), rest)?;
            Message::Endpoint {
                connection,
                trailer,
            }
        }
        FrameType::Packet => Message::Packet(cut_packet(body)?),
        FrameType::Acknowledgement => Message::Acknowledgement {
            trailer: parse_trailer(0, body)?,
        },
        FrameType::Release => Message::Release {
            trailer: parse_trailer(0, body)?,
        },
        FrameType::Refuse => Message::Refuse {
            trailer: parse_trailer(0, body)?,
        },
        FrameType::Move => {
            let (target, trailer) = parse_target(body)?;
            Message::Move { target, trailer }
        }
        FrameType::Moved => {
            let (target, trailer) = parse_target(body)?;
            Message::Moved { target, trailer }
        }
    })
}

fn parse_connection(protocol: Protocol, body: &[u8]) -> Result<(ConnectionInfo, &[u8]), WireError> {
    let required = match protocol {
        Protocol::Udp => SOCKET_LEN,
        Protocol::Tcp => SOCKET_LEN + CONTROL_BLOCK_LEN,
    };
    let mut reader = Reader::new(body, Layer::ConnectionInfo, required)?;
    let first = reader.socket()?;
    let connection = match protocol {
        Protocol::Udp => ConnectionInfo::Udp { first },
        Protocol::Tcp => {
            let control = ControlBlock::parse(reader.take(CONTROL_BLOCK_LEN)?)
                .map_err(|error| error.offset_by(SOCKET_LEN))?;
            ConnectionInfo::Tcp { first, control }
        }
    };
    Ok((connection, reader.rest()))
}

fn parse_target(body: &[u8]) -> Result<(SocketAddrV4, Option<Trailer>), WireError> {
    let mut reader = Reader::new(body, Layer::Target, SOCKET_LEN)?;
    Ok((reader.socket()?, parse_trailer(SOCKET_LEN, reader.rest())?))
}

fn parse_trailer(at: usize, bytes: &[u8]) -> Result<Option<Trailer>, WireError> {
    Trailer::parse(bytes).map_err(|error| error.offset_by(at))
}

/// What the tag of a frame covers, from the ipOS header on, and the tag; `None`: it has none, as 0x02 always. `header` is that of
/// the frame that `bytes` begin with. A control block that does not hold does no harm to it.
pub fn split_tag<'a>(header: &Header, bytes: &'a [u8]) -> Option<(&'a [u8], &'a [u8; TAG_LEN])> {
    let body = match (header.frame_type, header.protocol) {
        (FrameType::Packet, _) => return None,
        (FrameType::Endpoint, Protocol::Tcp) => SOCKET_LEN + CONTROL_BLOCK_LEN,
        (FrameType::Endpoint, Protocol::Udp) | (FrameType::Move | FrameType::Moved, _) => {
            SOCKET_LEN
        }
        (FrameType::Acknowledgement | FrameType::Release | FrameType::Refuse, _) => 0,
    };
    let (before, trailer) = bytes.split_at_checked(HEADER_LEN + body)?;
    Trailer::parse(trailer).ok()??.tag?;
    let (signed, rest) = bytes.split_at_checked(before.len() + TRAILER_LEN)?;
    Some((signed, rest.first_chunk()?))
}

/// The IPv4 packet at the start of `bytes`, without what follows it.
fn cut_packet(bytes: &[u8]) -> Result<&[u8], WireError> {
    let mut reader = Reader::new(bytes, Layer::Packet, IPV4_HEADER_LEN)?;
    let [version, _tos] = reader.array()?;
    if version >> 4 != 4 {
        let actual = version >> 4;
        return Err(WireError::value(
            Layer::Packet,
            0,
            "IP version",
            "4",
            actual,
        ));
    }
    let total = reader.u16()?;
    if usize::from(total) < IPV4_HEADER_LEN {
        return Err(WireError::value(
            Layer::Packet,
            2,
            "total length",
            "at least 20",
            total,
        ));
    }
    let (required, actual) = (usize::from(total), bytes.len());
    bytes
        .get(..required)
        .ok_or(WireError::length(Layer::Packet, 0, required, actual))
}
