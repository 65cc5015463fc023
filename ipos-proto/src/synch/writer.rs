//! Packs the records of one report into datagrams.

use alloc::vec::Vec;

use super::codec::RECORD_MAX;
use super::{Record, SYNCH_HEADER_LEN, SYNCH_TAG_LEN, SynchFlags, SynchHeader, SynchKind};
use crate::{Layer, WireError};

/// Longest Synch message that fits an Ethernet frame of 1500 bytes of payload, bytes.
pub const SYNCH_DATAGRAM_MAX: usize = 1472;

/// Writes one report. Records go into the last datagram while they fit, else into a new one; no
/// record is split. A report takes at most [`SynchKind::parts_max`] datagrams: beyond,
/// [`push`](Self::push) refuses.
#[derive(Debug, Clone)]
pub struct SynchWriter {
    header: SynchHeader,
    room: usize,
    records: Vec<Vec<u8>>,
}

impl SynchWriter {
    /// A report without records. `limit` is the longest datagram in bytes, header and tag
    /// included; with [`SynchFlags::TAGGED`] each has 16 zero bytes at its end for the tag.
    pub fn new(
        kind: SynchKind,
        flags: SynchFlags,
        incarnation: u32,
        sequence: u32,
        limit: usize,
    ) -> Self {
        let tag = if flags.contains(SynchFlags::TAGGED) {
            SYNCH_TAG_LEN
        } else {
            0
        };
        // The records length is 16 bits.
        let room = limit
            .saturating_sub(SYNCH_HEADER_LEN + tag)
            .min(usize::from(u16::MAX));
        let header = SynchHeader {
            kind,
            flags,
            incarnation,
            sequence,
            part: 0,
            parts: 1,
            records_len: 0,
        };
        Self {
            header,
            room,
            records: Vec::from([Vec::new()]),
        }
    }

    /// Adds a record.
    ///
    /// # Errors
    ///
    /// The record has a name, id or figure out of its bounds; or there is no room: leave has no
    /// records, the report has all the datagrams that it may have, or the record is longer than
    /// one. The report stays as it was.
    pub fn push(&mut self, record: &Record<'_>) -> Result<(), WireError> {
        let mut buffer = [0; RECORD_MAX];
        let len = record.emit(&mut buffer)?;
        let bytes = buffer.get(..len).unwrap_or_default();
        let room = if self.header.kind == SynchKind::Leave {
            0
        } else {
            self.room
        };
        if len > room {
            return Err(WireError::space(Layer::SynchRecord, len, room));
        }
        match self.records.last_mut() {
            Some(last) if last.len() + len <= room => last.extend_from_slice(bytes),
            _ => {
                let (parts, most) = (self.records.len(), self.header.kind.parts_max().into());
                if parts >= most {
                    return Err(WireError::space(Layer::SynchHeader, parts + 1, most));
                }
                self.records.push(bytes.to_vec());
            }
        }
        Ok(())
    }

    /// Datagrams that the report takes so far, at least 1.
    pub fn parts(&self) -> usize {
        self.records.len()
    }

    /// The datagrams, in order of their parts. A report without records is one datagram too.
    pub fn finish(self) -> Vec<Vec<u8>> {
        let Self {
            header, records, ..
        } = self;
        // At most 255 parts of at most 65535 bytes, see `new` and `push`.
        let parts = records.len() as u8;
        let tag: &[u8] = if header.flags.contains(SynchFlags::TAGGED) {
            &[0; SYNCH_TAG_LEN]
        } else {
            &[]
        };
        let datagram = |(part, records): (u8, Vec<u8>)| {
            let header = SynchHeader {
                part,
                parts,
                records_len: records.len() as u16,
                ..header
            };
            [&header.to_bytes(), records.as_slice(), tag].concat()
        };
        (0..parts).zip(records).map(datagram).collect()
    }
}
