//! Handshake messages in plain records (RFC 8446 §5.1, RFC 5246 §6.2.1), whichever side sends them.

use alloc::vec::Vec;

use arrayvec::ArrayVec;

use crate::Unreadable;

/// First byte of a record with a handshake message.
pub(crate) const HANDSHAKE: u8 = 22;
/// Bytes of a record's header.
const RECORD_HEADER: usize = 5;
/// Bytes of a handshake message's header.
pub(super) const MESSAGE_HEADER: usize = 4;
/// Longest fragment in a plain record.
pub(super) const FRAGMENT_MAX: usize = 1 << 14;

/// Gathers one message after the other. Messages span records, several may be in one, and each byte is looked at once.
#[derive(Debug)]
pub(super) struct Records {
    /// Which messages are kept; of others, the header only.
    wanted: &'static [u8],
    /// Bytes that were taken.
    taken: usize,
    /// The header of the next record, as far as it has come.
    header: ArrayVec<u8, RECORD_HEADER>,
    /// What is left of the current record.
    left: usize,
    /// The message with its header, as far as it has come.
    message: Vec<u8>,
    /// Bytes of the message that were not kept.
    skipped: usize,
}

impl Records {
    pub(super) fn new(wanted: &'static [u8]) -> Records {
        Records {
            wanted,
            taken: 0,
            header: ArrayVec::new(),
            left: 0,
            message: Vec::new(),
            skipped: 0,
        }
    }

    /// How many bytes were taken.
    pub(super) fn taken(&self) -> usize {
        self.taken
    }

    /// The kind of the current message, as soon as it is known.
    pub(super) fn kind(&self) -> Option<u8> {
        self.message.first().copied()
    }

    /// The current message without its header; empty where it is not wanted.
    pub(super) fn body(&self) -> &[u8] {
        self.message.get(MESSAGE_HEADER..).unwrap_or_default()
    }

    /// Takes bytes from the front of `bytes` until the current message is whole, then none; whether it is.
    ///
    /// # Errors
    /// A record that is not a plain one with handshake messages, or a message that does not end within `limit` bytes
    /// of the stream.
    pub(super) fn advance(&mut self, bytes: &mut &[u8], limit: usize) -> Result<bool, Unreadable> {
        loop {
            let missing = self.missing();
            if missing > limit.saturating_sub(self.taken) {
                return Err(Unreadable);
            }
            if missing == 0 {
                return Ok(true);
            }
            if bytes.is_empty() {
                return Ok(false);
            }
            match self.left {
                0 => self.take_header(bytes)?,
                left => self.take_fragment(bytes, left.min(missing)),
            }
        }
    }

    /// Goes on to the next message.
    pub(super) fn next(&mut self) {
        self.message.clear();
        self.skipped = 0;
    }

    /// Bytes that the message needs: those of its header, then those of its body.
    fn missing(&self) -> usize {
        let whole = match *self.message {
            [_, l2, l1, l0, ..] => MESSAGE_HEADER + u32::from_be_bytes([0, l2, l1, l0]) as usize,
            _ => MESSAGE_HEADER,
        };
        whole.saturating_sub(self.message.len() + self.skipped)
    }

    fn take_header(&mut self, bytes: &mut &[u8]) -> Result<(), Unreadable> {
        let new = self.take(bytes, self.header.remaining_capacity());
        self.header
            .try_extend_from_slice(new)
            .map_err(|_| Unreadable)?;
        if let Some(header) = self.header.first_chunk() {
            self.left = fragment_len(*header)?;
            self.header.clear();
        }
        Ok(())
    }

    fn take_fragment(&mut self, bytes: &mut &[u8], len: usize) {
        let new = self.take(bytes, len);
        self.left -= new.len();
        let is_header = self.message.len() < MESSAGE_HEADER;
        if is_header || self.kind().is_some_and(|kind| self.wanted.contains(&kind)) {
            self.message.extend_from_slice(new);
        } else {
            self.skipped += new.len();
        }
    }

    #[cfg(test)]
    pub(super) fn capacity(&self) -> usize {
        self.message.capacity()
    }

    /// At most `len` bytes from the front.
    fn take<'a>(&mut self, bytes: &mut &'a [u8], len: usize) -> &'a [u8] {
        let (front, rest) = bytes.split_at_checked(len).unwrap_or((bytes, &[]));
        *bytes = rest;
        self.taken += front.len();
        front
    }
}

/// The length that a record's header gives. All versions begin with 3; a fragment of a handshake message is never
/// empty.
fn fragment_len(header: [u8; RECORD_HEADER]) -> Result<usize, Unreadable> {
    let [kind, major, _minor, high, low] = header;
    let len = usize::from(u16::from_be_bytes([high, low]));
    match kind == HANDSHAKE && major == 3 && (1..=FRAGMENT_MAX).contains(&len) {
        true => Ok(len),
        false => Err(Unreadable),
    }
}
