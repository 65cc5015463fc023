//! Buffers that the kernel and this process own by turns (WO 00/30322, FIG. 10: address, length, ownership).

use std::io;
use std::ops::Range;
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::mapping::Mapping;

/// Owner of a buffer: this process; it has the [`Chunk`].
const OURS: u32 = 0;

/// A buffer that this process owns: whoever has the chunk may read and write the buffer, and nobody else.
///
/// Chunks come from [`Buffers`] alone, one for each buffer, and cannot be copied. One that is dropped is lost until its
/// buffers are.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// The [`Buffers`] that it is of.
    memory: u64,
    index: u32,
}

/// A number of buffers of one size, and who owns each.
pub(crate) struct Buffers {
    /// No two are alike in one process.
    id: u64,
    mapping: Mapping,
    size: usize,
    /// [`OURS`], or the number of the kernel's queue that has the buffer.
    owners: Box<[AtomicU32]>,
}

impl Buffers {
    /// So many buffers of `size` bytes each, zeroed, and their chunks.
    pub(crate) fn new(count: u32, size: u32) -> io::Result<(Self, Vec<Chunk>)> {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let len = (count as usize).checked_mul(size as usize);
        let len = len.ok_or(io::ErrorKind::OutOfMemory)?;
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        let buffers = Self {
            id,
            mapping: Mapping::anonymous(len)?,
            size: size as usize,
            owners: (0..count).map(|_| AtomicU32::new(OURS)).collect(),
        };
        let chunks = (0..count).map(|index| Chunk { memory: id, index });
        Ok((buffers, chunks.collect()))
    }

    /// Where they lie: address and length in bytes, for the kernel.
    pub(crate) fn area(&self) -> (u64, u64) {
        let base = self.mapping.base().as_ptr().expose_provenance() as u64;
        (base, self.mapping.len() as u64)
    }

    /// Bytes of one buffer.
    pub(crate) fn size(&self) -> usize {
        self.size
    }

    /// Whether `chunk` is one of these.
    pub(crate) fn has(&self, chunk: &Chunk) -> bool {
        chunk.memory == self.id
    }

    /// A part of a buffer; empty if it is not within the buffer, or the buffer is another memory's.
    pub(crate) fn bytes<'a>(&'a self, chunk: &'a Chunk, part: Range<usize>) -> &'a [u8] {
        let Some(start) = self.locate(chunk, &part) else {
            return &[];
        };
        // SAFETY: `locate` has checked the bounds; the mapping lives as long as `self`. Who borrows the only chunk of the buffer
        // keeps every other access away: `bytes_mut` needs it exclusively, `give` by value, and the kernel
        // has no buffer whose chunk exists (`claim`).
        unsafe { slice::from_raw_parts(self.mapping.base().add(start).as_ptr(), part.len()) }
    }

    /// A part of a buffer to write; empty as in [`Self::bytes`].
    #[allow(clippy::mut_from_ref)] // It comes from the chunk, which is borrowed exclusively.
    pub(crate) fn bytes_mut<'a>(
        &'a self,
        chunk: &'a mut Chunk,
        part: Range<usize>,
    ) -> &'a mut [u8] {
        let Some(start) = self.locate(chunk, &part) else {
            return &mut [];
        };
        // SAFETY: as in `bytes`, and the chunk is borrowed exclusively.
        unsafe { slice::from_raw_parts_mut(self.mapping.base().add(start).as_ptr(), part.len()) }
    }

    /// Where a part of a buffer begins, counted from the mapping's start.
    fn locate(&self, chunk: &Chunk, part: &Range<usize>) -> Option<usize> {
        let within = self.has(chunk) && part.start <= part.end && part.end <= self.size;
        within.then(|| chunk.index as usize * self.size + part.start)
    }

    /// Hands a buffer to the kernel's queue number `queue`, which is not 0; the kernel's address of it. A chunk of other buffers
    /// is given back.
    pub(crate) fn give(&self, chunk: Chunk, queue: u32) -> Result<u64, Chunk> {
        match self.owners.get(chunk.index as usize) {
            Some(owner) if self.has(&chunk) && queue != OURS => {
                owner.store(queue, Ordering::Release);
                Ok(u64::from(chunk.index) * self.size as u64)
            }
            _ => Err(chunk),
        }
    }

    /// Takes the buffer back in which `address` lies, and the place of `address` in it. `None` if the queue does not have that
    /// buffer: nobody gets a second chunk of it, whatever a ring says.
    pub(crate) fn claim(&self, address: u64, queue: u32) -> Option<(Chunk, usize)> {
        let address = usize::try_from(address).ok()?;
        let (index, place) = (address / self.size, address % self.size);
        let owner = self.owners.get(index)?;
        let index = u32::try_from(index).ok()?;
        let order = (Ordering::Acquire, Ordering::Relaxed);
        let is_theirs = queue != OURS;
        let taken = is_theirs
            && owner
                .compare_exchange(queue, OURS, order.0, order.1)
                .is_ok();
        let memory = self.id;
        taken.then_some((Chunk { memory, index }, place))
    }

    /// Takes every buffer back that a queue has. To be called when the kernel has let go of the queue.
    pub(crate) fn claim_all(&self, queue: u32) -> Vec<Chunk> {
        let all = 0..self.owners.len() as u64;
        all.filter_map(|index| self.claim(index * self.size as u64, queue))
            .map(|(chunk, _)| chunk)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_has_one_owner() {
        let (buffers, mut chunks) = Buffers::new(2, 64).unwrap();
        let (other, mut others) = Buffers::new(2, 64).unwrap();
        let mut chunk = chunks.remove(1);
        buffers.bytes_mut(&mut chunk, 3..6).copy_from_slice(b"abc");
        assert_eq!(buffers.bytes(&chunk, 2..7), b"\0abc\0");
        assert!(buffers.bytes(&chunk, 60..65).is_empty());
        assert!(other.bytes(&chunk, 0..4).is_empty(), "of another memory");
        let stranger = buffers.give(others.remove(0), 7).unwrap_err();
        assert!(other.has(&stranger));
        assert_eq!(buffers.claim(64, 7), None, "ours already");
        assert_eq!(buffers.give(chunk, 7), Ok(64));
        assert_eq!(buffers.claim(64, 8), None, "another queue's");
        let (chunk, place) = buffers.claim(67, 7).unwrap();
        assert_eq!(place, 3);
        assert_eq!(buffers.bytes(&chunk, place..6), b"abc");
        assert_eq!(buffers.claim(67, 7), None, "not twice");
        assert_eq!(buffers.claim(128, 7), None, "beyond the end");
        assert_eq!(buffers.claim(u64::MAX, 7), None);
        buffers.give(chunk, 7).unwrap();
        assert_eq!(buffers.claim_all(7).len(), 1);
        assert!(buffers.claim_all(7).is_empty());
    }
}
