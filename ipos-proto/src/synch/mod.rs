//! Synch messages: what servers tell each other about themselves (FIG. 6, 9C).
//!
//! A message is the payload of one UDP datagram to the Synch LAN's broadcast address. Numbers
//! are in network byte order, names in UTF-8. A **report** is one message, or, for medium and
//! low priority, as many as its records need; all have the same sequence number.
//!
//! # Header: 20 bytes
//!
//! | off | size | field |
//! |---|---|---|
//! | 0 | 4 | magic: `ipOS` |
//! | 4 | 1 | version = 1 |
//! | 5 | 1 | kind: 1 high, 2 medium, 3 low priority, 4 leave |
//! | 6 | 2 | flags: 0x0001 draining, 0x8000 tagged; others zero, ignored |
//! | 8 | 4 | incarnation of the sender: grows with every start |
//! | 12 | 4 | sequence number of the report: grows with every report of that incarnation |
//! | 16 | 1 | part, from 0 |
//! | 17 | 1 | parts of the report, 1 to 255; 1 for high and leave |
//! | 18 | 2 | records length, bytes; 0 for leave |
//!
//! Then the records, then, with flag 0x8000, a tag of 16 bytes: HMAC-SHA-256, truncated, with the
//! farm key, over everything from the magic to the byte before the tag. What follows is ignored.
//!
//! A receiver replaces the set of records that it has of a sender and priority when all
//! parts of a report are there in order, and ignores a report whose (incarnation, sequence
//! number) is not above that of the last one.
//!
//! # Records
//!
//! | off | size | field |
//! |---|---|---|
//! | 0 | 1 | type |
//! | 1 | 1 | zero, ignored |
//! | 2 | 2 | length of the value, bytes |
//! | 4 | length | value |
//!
//! Records follow each other without padding. One of an unknown type is skipped; one of a known
//! type has exactly the length that its fields add up to.
//!
//! | type | record | in | value: field (size) |
//! |---|---|---|---|
//! | 1 | STATE | high | connections (4), CPU in 1/10000 (2), zero (2), free memory in bytes (8), free bandwidth in bit/s (8) |
//! | 2 | IDENTITY | high, medium | Port B address (4), Port B hardware address (6), number of Port A addresses, at most 16 (1), name length, 1 to 63 (1), Port A addresses (4 each), name |
//! | 3 | LISTEN | medium | address (4), port (2), protocol: 1 TCP, 2 UDP (1), service length, 0 to 63 (1), service name |
//! | 4 | PROCESS | medium | process id (4), address (4), port (2), zero (1), name length, 0 to 63 (1), name |
//! | 5 | OBJECT | medium | object id (8), address (4), shadow's object id (8), shadow's address (4); the last two all zero without a shadow |
//! | 6 | COOKIE | medium | action: 1 set, 2 removed (1), session id length, 1 to 64 (1), server name length, 1 to 63, 0 when removed (1), zero (1), lifetime in ms, 0 when removed (4), session id, server name |
//! | 7 | PERFORMANCE | low | subject: 1 process, 2 object (1), zero (1), CPU in 1/10000 (2), process or object id (8), memory in bytes (8) |
//! | 8 | STORED | low | name of a package that the sender stores, 1 to 255 bytes |
//!
//! COOKIE records are changes of the shared map, not a set to replace; applying one twice does no
//! harm.
//!
//! # Test vectors
//!
//! ```text
//! high, draining, incarnation 5, sequence number 9: STATE with 27 connections, CPU 12.34 %,
//! 1 GiB and 1 Gbit/s free; IDENTITY of s1, Port B 10.88.0.11 at 02:00:00:00:0b:01, Port A 10.77.0.11
//! 69704f53 01010001 00000005 00000009 00010032
//! 01000018 0000001b 04d20000 0000000040000000 000000003b9aca00
//! 02000012 0a58000b 020000000b01 01 02 0a4d000b 7331
//! medium, incarnation 5, sequence number 10: LISTEN 10.77.0.11:80 TCP "web";
//! PROCESS 1234 at 10.77.0.11:80 "nginx"; OBJECT 7 on 10.88.0.11 with shadow 8 on 10.88.0.12;
//! COOKIE c0ffee -> s2 for 60 s; COOKIE c0ffee removed
//! 69704f53 01020000 00000005 0000000a 00010060
//! 0300000b 0a4d000b 0050 01 03 776562
//! 04000011 000004d2 0a4d000b 0050 00 05 6e67696e78
//! 05000018 0000000000000007 0a58000b 0000000000000008 0a58000c
//! 0600000d 01 03 02 00 0000ea60 c0ffee 7332
//! 0600000b 02 03 00 00 00000000 c0ffee
//! low, incarnation 5, sequence number 11: PERFORMANCE of process 1234, 0.5 % and 64 MiB, of object 7,
//! 0.01 % and 4096 bytes; STORED "shop-1.2"
//! 69704f53 01030000 00000005 0000000b 0001003c
//! 07000014 01 00 0032 00000000000004d2 0000000004000000
//! 07000014 02 00 0001 0000000000000007 0000000000001000
//! 08000008 73686f702d312e32
//! leave, tagged, incarnation 5, sequence number 12
//! 69704f53 01048000 00000005 0000000c 00010000 000102030405060708090a0b0c0d0e0f
//! ```

mod codec;
mod record;
mod writer;

use core::fmt;

pub use record::{
    AddressList, CPU_FULL, Cookie, Identity, Listen, NAME_MAX, Object, PACKAGE_MAX, PORT_A_MAX,
    Performance, Process, Record, SESSION_MAX, Shadow, State, Subject,
};
pub use writer::{SYNCH_DATAGRAM_MAX, SynchWriter};

use crate::bytes::{Reader, Writer};
use crate::{Layer, WireError};

/// First bytes of every Synch message.
pub const SYNCH_MAGIC: [u8; 4] = *b"ipOS";
/// Bytes of a Synch header.
pub const SYNCH_HEADER_LEN: usize = 20;
/// Bytes of the tag of a tagged message.
pub const SYNCH_TAG_LEN: usize = crate::TAG_LEN;

const VERSION: u8 = 1;
const VERSION_AT: usize = 4;
const KIND_AT: usize = 5;
const PART_AT: usize = 16;
const PARTS_AT: usize = 17;
const RECORDS_LEN_AT: usize = 18;

/// The priority of a report, each with its own interval; or the sender's leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum SynchKind {
    /// Connections, CPU, free memory, free bandwidth.
    High = 1,
    /// Listening sockets, processes, objects and their shadows, cookie map changes.
    Medium = 2,
    /// Process and object performance, what the server stores.
    Low = 3,
    /// The sender leaves the farm.
    Leave = 4,
}

impl SynchKind {
    /// The kind with this number in the header, if there is one.
    pub const fn from_u8(value: u8) -> Option<Self> {
        match value {
            1 => Some(Self::High),
            2 => Some(Self::Medium),
            3 => Some(Self::Low),
            4 => Some(Self::Leave),
            _ => None,
        }
    }

    /// Datagrams that a report of this kind may take.
    pub const fn parts_max(self) -> u8 {
        match self {
            Self::High | Self::Leave => 1,
            Self::Medium | Self::Low => u8::MAX,
        }
    }
}

impl fmt::Display for SynchKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
            Self::Leave => "leave",
        })
    }
}

bitflags::bitflags! {
    /// What a sender says of itself in every message. Unknown bits are kept as they came.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct SynchFlags: u16 {
        /// The sender takes no new connections.
        const DRAINING = 0x0001;
        /// A tag follows the records.
        const TAGGED = 0x8000;
        const _ = !0;
    }
}

/// The header of a Synch message, 20 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SynchHeader {
    /// Priority of the report.
    pub kind: SynchKind,
    /// Flags.
    pub flags: SynchFlags,
    /// Grows with every start of the sender.
    pub incarnation: u32,
    /// Grows with every report of that incarnation.
    pub sequence: u32,
    /// This part of the report, from 0.
    pub part: u8,
    /// Parts of the report.
    pub parts: u8,
    /// Length of the records in this part, bytes.
    pub records_len: u16,
}

impl SynchHeader {
    /// Whether it comes after the report with this sequence number, of the same incarnation; any does where there was none. Numbers
    /// run over (RFC 1982).
    ///
    /// ```
    /// use ipos_proto::synch::{SynchFlags, SynchHeader, SynchKind};
    ///
    /// let header = SynchHeader {
    ///     kind: SynchKind::High,
    ///     flags: SynchFlags::empty(),
    ///     incarnation: 1,
    ///     sequence: 2,
    ///     part: 0,
    ///     parts: 1,
    ///     records_len: 0,
    /// };
    /// assert!([None, Some(1), Some(u32::MAX)].iter().all(|&last| header.is_newer_than(last)));
    /// assert!(!header.is_newer_than(Some(2)) && !header.is_newer_than(Some(3)));
    /// ```
    #[must_use]
    pub fn is_newer_than(&self, last: Option<u32>) -> bool {
        last.is_none_or(|last| self.sequence.wrapping_sub(last) as i32 > 0)
    }

    /// Reads the header; also gives what follows it.
    ///
    /// # Errors
    ///
    /// Fewer than 20 bytes, wrong magic, unknown version or kind, a part that is not among the
    /// parts, a high or leave message in several parts, a leave message with records.
    pub fn parse(bytes: &[u8]) -> Result<(Self, &[u8]), WireError> {
        let mut reader = Reader::new(bytes, Layer::SynchHeader, SYNCH_HEADER_LEN)?;
        let magic: [u8; 4] = reader.array()?;
        if magic != SYNCH_MAGIC {
            return Err(invalid(
                0,
                "magic",
                "\"ipOS\" (0x69704f53)",
                u32::from_be_bytes(magic),
            ));
        }
        let version = reader.u8()?;
        if version != VERSION {
            return Err(invalid(VERSION_AT, "version", "1", version));
        }
        let kind = reader.u8()?;
        let kind =
            SynchKind::from_u8(kind).ok_or_else(|| invalid(KIND_AT, "kind", "1 to 4", kind))?;
        let header = Self {
            kind,
            flags: SynchFlags::from_bits_retain(reader.u16()?),
            incarnation: reader.u32()?,
            sequence: reader.u32()?,
            part: reader.u8()?,
            parts: reader.u8()?,
            records_len: reader.u16()?,
        };
        header.validate()?;
        Ok((header, reader.rest()))
    }

    fn validate(&self) -> Result<(), WireError> {
        let Self {
            kind,
            part,
            parts,
            records_len,
            ..
        } = *self;
        if parts == 0 || parts > kind.parts_max() {
            let required = "1 to 255, and 1 for high and leave";
            return Err(invalid(PARTS_AT, "parts", required, parts));
        }
        if part >= parts {
            return Err(invalid(PART_AT, "part", "below the number of parts", part));
        }
        if kind == SynchKind::Leave && records_len != 0 {
            return Err(invalid(
                RECORDS_LEN_AT,
                "records length",
                "0 for leave",
                records_len,
            ));
        }
        Ok(())
    }

    /// The header's bytes, as it is.
    pub fn to_bytes(&self) -> [u8; SYNCH_HEADER_LEN] {
        let Self {
            kind,
            flags,
            incarnation,
            sequence,
            part,
            parts,
            records_len,
        } = *self;
        let mut out = [0; SYNCH_HEADER_LEN];
        Writer::new(&mut out)
            .put(&SYNCH_MAGIC)
            .u8(VERSION)
            .u8(kind as u8)
            .u16(flags.bits())
            .u32(incarnation)
            .u32(sequence)
            .u8(part)
            .u8(parts)
            .u16(records_len);
        out
    }
}

fn invalid(
    offset: usize,
    field: &'static str,
    required: &'static str,
    actual: impl Into<u64>,
) -> WireError {
    WireError::value(Layer::SynchHeader, offset, field, required, actual)
}

/// A Synch message that has been read and found right in every length and value.
///
/// ```
/// use ipos_proto::synch::{Listen, Record, SYNCH_DATAGRAM_MAX, SynchFlags, SynchKind};
/// use ipos_proto::synch::{SynchMessage, SynchWriter};
/// use ipos_proto::Protocol;
///
/// let web = Record::Listen(Listen {
///     address: "10.77.0.11:80".parse().unwrap(),
///     protocol: Protocol::Tcp,
///     service: "web",
/// });
/// let flags = SynchFlags::default();
/// let mut writer = SynchWriter::new(SynchKind::Medium, flags, 5, 9, SYNCH_DATAGRAM_MAX);
/// writer.push(&web)?;
/// let datagrams = writer.finish();
/// assert_eq!(datagrams.len(), 1);
///
/// let message = SynchMessage::parse(&datagrams[0])?;
/// assert_eq!((message.header().incarnation, message.header().sequence), (5, 9));
/// assert!(message.records().eq([web]));
/// # Ok::<(), ipos_proto::WireError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SynchMessage<'a> {
    header: SynchHeader,
    records: &'a [u8],
    tag: Option<[u8; SYNCH_TAG_LEN]>,
}

impl<'a> SynchMessage<'a> {
    /// Reads a message and every record in it. Bytes after it are not looked at.
    ///
    /// # Errors
    ///
    /// What [`SynchHeader::parse`] refuses; fewer bytes than the records and the tag need; a record
    /// that is cut short, or, of a known type, does not hold.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, WireError> {
        let (header, body) = SynchHeader::parse(bytes)?;
        let records_len = usize::from(header.records_len);
        let tagged = header.flags.contains(SynchFlags::TAGGED);
        let required = SYNCH_HEADER_LEN + records_len + if tagged { SYNCH_TAG_LEN } else { 0 };
        let cut = || WireError::length(Layer::SynchHeader, 0, required, bytes.len());
        let (records, rest) = body.split_at_checked(records_len).ok_or_else(cut)?;
        let tag = if tagged {
            Some(*rest.first_chunk().ok_or_else(cut)?)
        } else {
            None
        };

        let mut left = records;
        while !left.is_empty() {
            let at = SYNCH_HEADER_LEN + records.len() - left.len();
            (_, left) = Record::parse(left).map_err(|error| error.offset_by(at))?;
        }
        Ok(Self {
            header,
            records,
            tag,
        })
    }

    /// The header.
    pub const fn header(&self) -> &SynchHeader {
        &self.header
    }

    /// The tag of a tagged message. It covers all bytes before it; whether it is right is for
    /// the holder of the farm key to say.
    pub const fn tag(&self) -> Option<[u8; SYNCH_TAG_LEN]> {
        self.tag
    }

    /// What the tag covers, and the tag; `None`: the message has none. `bytes` are those that it was read from.
    pub fn split_tag<'b>(&self, bytes: &'b [u8]) -> Option<(&'b [u8], &'b [u8; SYNCH_TAG_LEN])> {
        self.tag?;
        bytes.get(..self.message_len())?.split_last_chunk()
    }

    /// Length of the message in bytes, tag included. A tag is the last 16 of them.
    pub const fn message_len(&self) -> usize {
        let tag = if self.tag.is_some() { SYNCH_TAG_LEN } else { 0 };
        SYNCH_HEADER_LEN + self.records.len() + tag
    }

    /// The records of known types, in order.
    pub fn records(&self) -> impl Iterator<Item = Record<'a>> + use<'a> {
        let mut left = self.records;
        core::iter::from_fn(move || {
            while !left.is_empty() {
                // Every record was read once in `parse`.
                let (record, rest) = Record::parse(left).ok()?;
                left = rest;
                if record.is_some() {
                    return record;
                }
            }
            None
        })
    }
}

#[cfg(test)]
mod tests;
