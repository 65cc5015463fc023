//! The trailer: epoch, progress and authenticity of a Port B frame.

use crate::bytes::{Reader, Writer};
use crate::{Epoch, Layer, SeqNum, TAG_LEN, TRAILER_LEN, TRAILER_TAGGED_LEN, WireError};

const VERSION: u8 = 1;
const LENGTH_AT: usize = 1;

bitflags::bitflags! {
    /// What a trailer says besides its numbers. Unknown bits are kept as they came.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
    pub struct TrailerFlags: u16 {
        /// `rcv_nxt` is valid.
        const RCV_NXT = 0x0001;
        /// 0x01: the sender has seen the 0x03 of this epoch. A receiver that has begun its life since does not install it.
        const ACKNOWLEDGED = 0x0002;
        /// REFUSE: a table is full.
        const FULL = 0x0100;
        /// REFUSE: no such application on this server.
        const NO_APPLICATION = 0x0200;
        /// REFUSE: the control block does not hold.
        const INVALID = 0x0400;
        /// REFUSE: the server takes nothing new.
        const DRAINING = 0x0800;
        const _ = !0;
    }
}

/// The trailer of a frame of any type but 0x02: 20 bytes, or 36 with a tag.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Trailer {
    /// Whether `rcv_nxt` is valid; in REFUSE the reason.
    pub flags: TrailerFlags,
    /// Ownership epoch that the frame speaks of.
    pub epoch: Epoch,
    /// `rcv_nxt` of the sender's endpoint; valid where the flag says so, see
    /// [`acknowledged`](Self::acknowledged).
    pub rcv_nxt: SeqNum,
    /// High half of the sender's counter: grows with every start of the sender.
    pub incarnation: u32,
    /// Low half of the sender's counter: grows with every frame.
    pub number: u32,
    /// HMAC-SHA-256, truncated, over everything from the ipOS header to the byte before the
    /// tag, where the farm has a key. It is the last 16 bytes of the frame: fill it in after
    /// [`Frame::emit`](crate::Frame::emit).
    pub tag: Option<[u8; TAG_LEN]>,
}

impl Trailer {
    /// `rcv_nxt` of the sender's endpoint, where it is valid.
    pub fn acknowledged(&self) -> Option<SeqNum> {
        self.flags
            .contains(TrailerFlags::RCV_NXT)
            .then_some(self.rcv_nxt)
    }

    /// Length on the wire: 20 bytes, or 36 with a tag.
    pub const fn wire_len(&self) -> usize {
        if self.tag.is_some() {
            TRAILER_TAGGED_LEN
        } else {
            TRAILER_LEN
        }
    }

    /// Reads what follows the body of a frame: nothing, padding (a version of 0), or a trailer
    /// and padding after it.
    ///
    /// # Errors
    ///
    /// An unknown version, a length that is neither 20 nor 36, or fewer bytes than that.
    pub fn parse(bytes: &[u8]) -> Result<Option<Self>, WireError> {
        let [version, ..] = *bytes else {
            return Ok(None);
        };
        if version == 0 {
            return Ok(None);
        }
        let mut reader = Reader::new(bytes, Layer::Trailer, TRAILER_LEN)?;
        let [version, length] = reader.array()?;
        if version != VERSION {
            return Err(WireError::value(
                Layer::Trailer,
                0,
                "version",
                "1, or 0 for none",
                version,
            ));
        }
        let tagged = match usize::from(length) {
            TRAILER_LEN => false,
            TRAILER_TAGGED_LEN => true,
            _ => {
                let known = "20 or 36";
                return Err(WireError::value(
                    Layer::Trailer,
                    LENGTH_AT,
                    "length",
                    known,
                    length,
                ));
            }
        };
        Ok(Some(Self {
            flags: TrailerFlags::from_bits_retain(reader.u16()?),
            epoch: Epoch::new(reader.u32()?),
            rcv_nxt: reader.seq()?,
            incarnation: reader.u32()?,
            number: reader.u32()?,
            tag: if tagged { Some(reader.array()?) } else { None },
        }))
    }

    pub(crate) fn write(&self, writer: &mut Writer<'_>) {
        let Self {
            flags,
            epoch,
            rcv_nxt,
            incarnation,
            number,
            tag,
        } = self;
        // 20 or 36 fits in a byte.
        writer
            .u8(VERSION)
            .u8(self.wire_len() as u8)
            .u16(flags.bits())
            .u32(epoch.raw());
        writer.seq(*rcv_nxt).u32(*incarnation).u32(*number);
        if let Some(tag) = tag {
            writer.put(tag);
        }
    }
}
