//! The one error of this crate: which layer, at which byte, what was required, what was there.

use core::fmt;

/// Why bytes were not read or written.
///
/// The offset counts from the first byte given to the *outermost* `parse` (or `emit`), so it
/// can be looked up in a hex dump of that input as it stands.
///
/// ```
/// use ipos_proto::{Header, Layer, WireErrorKind};
///
/// let error = Header::parse(&[0; 10]).unwrap_err();
/// assert_eq!(error.layer(), Layer::Header);
/// assert_eq!(error.kind(), WireErrorKind::Length { required: 16, actual: 10 });
/// assert_eq!(error.to_string(), "ipOS header, byte 0: 16 bytes required, 10 there");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{layer}, byte {offset}: {kind}")]
pub struct WireError {
    layer: Layer,
    offset: usize,
    kind: WireErrorKind,
}

impl WireError {
    /// The layer that does not hold.
    pub const fn layer(&self) -> Layer {
        self.layer
    }

    /// Offset, in bytes, of the layer (too short) or of the field (wrong value), from the first
    /// byte given to the outermost `parse`.
    pub const fn offset(&self) -> usize {
        self.offset
    }

    /// What was required and what was there.
    pub const fn kind(&self) -> WireErrorKind {
        self.kind
    }

    /// The same error seen by a caller that had already read `base` bytes of its own.
    #[must_use]
    pub const fn offset_by(mut self, base: usize) -> Self {
        self.offset = self.offset.saturating_add(base);
        self
    }

    pub(crate) const fn length(
        layer: Layer,
        offset: usize,
        required: usize,
        actual: usize,
    ) -> Self {
        let kind = WireErrorKind::Length { required, actual };
        Self {
            layer,
            offset,
            kind,
        }
    }

    pub(crate) const fn space(layer: Layer, required: usize, actual: usize) -> Self {
        let kind = WireErrorKind::Space { required, actual };
        Self {
            layer,
            offset: 0,
            kind,
        }
    }

    pub(crate) const fn checksum(layer: Layer, offset: usize, required: u16, actual: u16) -> Self {
        let kind = WireErrorKind::Checksum { required, actual };
        Self {
            layer,
            offset,
            kind,
        }
    }

    pub(crate) fn value(
        layer: Layer,
        offset: usize,
        field: &'static str,
        required: &'static str,
        actual: impl Into<u64>,
    ) -> Self {
        let kind = WireErrorKind::Value {
            field,
            required,
            actual: actual.into(),
        };
        Self {
            layer,
            offset,
            kind,
        }
    }
}

/// What was required and what was there instead.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum WireErrorKind {
    /// The input ends inside the layer. Both in bytes, from the layer's first byte.
    #[error("{required} bytes required, {actual} there")]
    Length {
        /// Bytes that the layer needs.
        required: usize,
        /// Bytes that are there.
        actual: usize,
    },
    /// What is to be written does not fit where it is to go. Both in bytes, or in parts for a
    /// Synch report.
    #[error("room for {required} required to write it, {actual} given")]
    Space {
        /// Room that is needed.
        required: usize,
        /// Room that is there.
        actual: usize,
    },
    /// The checksum does not verify.
    #[error("checksum must be {required:#06x}, is {actual:#06x}")]
    Checksum {
        /// The checksum of the bytes that are there.
        required: u16,
        /// The checksum field.
        actual: u16,
    },
    /// A field has a value that it may not have.
    #[error("{field} must be {required}, is {actual} ({actual:#x})")]
    Value {
        /// The field's name as in the format's table.
        field: &'static str,
        /// The values that it may have, in words.
        required: &'static str,
        /// The value that is there.
        actual: u64,
    },
}

/// The part of a frame that an error speaks of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Layer {
    /// The 14 bytes of FIG. 11A.
    Ethernet,
    /// The 16 bytes of FIG. 11B.
    Header,
    /// First server's address and port, FIG. 11C and 11D.
    ConnectionInfo,
    /// The 140 bytes inside FIG. 11D.
    ControlBlock,
    /// The client's IP packet inside type 0x02.
    Packet,
    /// The server named by types 0x12 and 0x13.
    Target,
    /// The trailer, 20 or 36 bytes.
    Trailer,
    /// The header of a Synch message.
    SynchHeader,
    /// One record of a Synch message.
    SynchRecord,
}

impl fmt::Display for Layer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ethernet => "Ethernet header",
            Self::Header => "ipOS header",
            Self::ConnectionInfo => "connection information",
            Self::ControlBlock => "control block",
            Self::Packet => "encapsulated packet",
            Self::Target => "named server",
            Self::Trailer => "trailer",
            Self::SynchHeader => "Synch header",
            Self::SynchRecord => "Synch record",
        })
    }
}
