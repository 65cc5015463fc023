//! Heads that are cut anywhere.

use alloc::vec::Vec;
use core::mem;

use crate::Opaque;

/// Longest head, the empty line behind it included, in bytes.
pub const HEAD_MAX: usize = 16 * 1024;

/// Finds the end of a head and gathers what came before it.
///
/// Every byte is looked at once. A head that comes in one piece is not copied.
#[derive(Debug, Default)]
pub struct HeadGatherer {
    kept: Vec<u8>,
    /// A byte that is no line end has come: empty lines before it are not the head's end (RFC 9112 §2.2).
    begun: bool,
    /// The current line has such a byte.
    in_line: bool,
}

impl HeadGatherer {
    /// Whether no byte of a head has come.
    pub fn is_empty(&self) -> bool {
        self.kept.is_empty()
    }

    /// The bytes of a head that has not come whole.
    pub fn held(&self) -> &[u8] {
        &self.kept
    }

    /// Takes `bytes` up to the end of the head; `None` while that has not come. Otherwise what `parse` makes of
    /// the whole head, and the bytes behind it.
    ///
    /// # Errors
    /// A head of more than [`HEAD_MAX`] bytes: none of `bytes` is taken, what came before is still held. And the
    /// errors of `parse`.
    pub fn gather<'a, T>(
        &mut self,
        bytes: &'a [u8],
        parse: impl FnOnce(&[u8]) -> Result<T, Opaque>,
    ) -> Result<Option<(T, &'a [u8])>, Opaque> {
        let end = self.find_end(bytes);
        let (new, rest) = end
            .and_then(|end| bytes.split_at_checked(end))
            .unwrap_or((bytes, &[]));
        if new.len() > HEAD_MAX.saturating_sub(self.kept.len()) {
            return Err(Opaque::HeadTooLong);
        }
        if end.is_none() {
            self.kept.extend_from_slice(new);
            return Ok(None);
        }
        let HeadGatherer { mut kept, .. } = mem::take(self);
        let parsed = if kept.is_empty() {
            parse(new)
        } else {
            kept.extend_from_slice(new);
            parse(&kept)
        };
        parsed.map(|parsed| Some((parsed, rest)))
    }

    /// Where the head ends in `bytes`, which follow those seen before: behind the first empty line.
    fn find_end(&mut self, bytes: &[u8]) -> Option<usize> {
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'\n' if self.begun && !self.in_line => return Some(at + 1),
                b'\n' => self.in_line = false,
                b'\r' => {}
                _ => {
                    self.begun = true;
                    self.in_line = true;
                }
            }
        }
        None
    }

    #[cfg(test)]
    pub(crate) fn capacity(&self) -> usize {
        self.kept.capacity()
    }
}
