//! Every byte format of ipOS: frames between servers (Port B) and state messages (Synch Port).
//!
//! ```text
//!  Port B   | Ethernet 14 | ipOS header 16 | connection information 6 or 146 | trailer 0, 20, 36 |
//!           |             |                | or the client's IP packet                           |
//!
//!  Synch    | Ethernet | IPv4 | UDP | Synch header 20 | records ...            | tag 0 or 16       |
//! ```
//!
//! The formats are those of US 9,100,409, FIG. 11A to 11I, with what these leave open decided. Reading is
//! strict and whole: what [`Frame::parse`] and [`synch::SynchMessage::parse`] accept needs no
//! further check of lengths or values, what they do not accept gives a [`WireError`] that names
//! layer, offset, required and actual. Nothing panics on any input, nothing allocates but
//! [`synch::SynchWriter`], and there is no `unsafe`.
//!
//! ```
//! use ipos_proto::{Ethernet, ETHERTYPE, Frame, Message};
//!
//! // A 0x03 frame with a trailer, as captured on Port B.
//! let captured = [
//!     0x02, 0x00, 0x00, 0x00, 0x0b, 0x01, 0x02, 0x00, 0x00, 0x00, 0x0b, 0x02, 0x00, 0x07,
//!     0xc0, 0x00, 0x02, 0x01, 0x9c, 0x40, 0x0a, 0x58, 0x00, 0x0b, 0x00, 0x50, 0x03, 0x01,
//!     0x94, 0x09, 0x01, 0x14, 0x00, 0x01, 0x00, 0x00, 0x00, 0x07, 0x01, 0x02, 0x03, 0x04,
//!     0x00, 0x00, 0x00, 0x05, 0x00, 0x00, 0x00, 0x09,
//! ];
//! let (ethernet, rest) = Ethernet::parse(&captured)?;
//! assert_eq!(ethernet.ethertype, ETHERTYPE);
//! let frame = Frame::parse(rest)?;
//! assert_eq!(frame.header.client.to_string(), "192.0.2.1:40000");
//! let Message::Acknowledgement { trailer: Some(trailer) } = frame.message else { panic!() };
//! assert_eq!(trailer.epoch.raw(), 7);
//! # Ok::<(), ipos_proto::WireError>(())
//! ```

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod bytes;
mod checksum;
mod control_block;
mod error;
mod ethernet;
mod frame;
mod header;
mod seq;
pub mod synch;
mod trailer;

pub use checksum::{Checksum, internet_checksum};
pub use control_block::{ControlBlock, ControlFlags, TcpState, Timer};
pub use error::{Layer, WireError, WireErrorKind};
pub use ethernet::{Ethernet, MacAddr};
pub use frame::{ConnectionInfo, Frame, Message, split_tag};
pub use header::{FrameType, Header, Protocol};
pub use seq::{Epoch, SeqNum};
pub use trailer::{Trailer, TrailerFlags};

/// The Ethernet type of Port B frames (FIG. 11A).
///
/// It is below 0x0600, so 802.3 reads it as a length and some equipment drops it:
/// [`ETHERTYPE_EXPERIMENTAL`] is the alternative for a farm that has such equipment.
pub const ETHERTYPE: u16 = 0x0007;
/// The IEEE local experimental Ethernet type.
pub const ETHERTYPE_EXPERIMENTAL: u16 = 0x88B5;

/// Bytes of an Ethernet header (FIG. 11A).
pub const ETHERNET_LEN: usize = 14;
/// Bytes of an ipOS header (FIG. 11B).
pub const HEADER_LEN: usize = 16;
/// Bytes that encapsulation on Port B adds to a client's IP packet.
pub const ENCAPSULATION_LEN: usize = ETHERNET_LEN + HEADER_LEN;
/// Bytes of a control block (FIG. 11D).
pub const CONTROL_BLOCK_LEN: usize = 140;
/// Bytes of a trailer without a tag.
pub const TRAILER_LEN: usize = 20;
/// Bytes of a trailer with a tag.
pub const TRAILER_TAGGED_LEN: usize = 36;

/// Bytes of the tag that ends a tagged trailer or Synch message.
pub const TAG_LEN: usize = 16;

/// Bytes of an IPv4 address and port.
const SOCKET_LEN: usize = 6;

#[cfg(test)]
mod tests;
