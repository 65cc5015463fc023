//! The rings that the kernel and a socket share: one producer, one consumer, a power of two of entries
//! (`Documentation/networking/af_xdp.rst`).
//!
//! ```text
//!     fill:        free buffers  ------>  kernel            rx:          kernel  ------>  received frames
//!     completion:  kernel  ------>  sent buffers            tx:  frames to send  ------>  kernel
//! ```
//!
//! The producer writes entries and then its index (release); the consumer reads the index (acquire), then the
//! entries, then writes its own index (release), which frees their places. The other side's index is believed within
//! the ring's size only.

use std::marker::PhantomData;

use crate::atomic::{AtomicU32, AtomicU64, Ordering};

/// The memory of one ring.
pub(crate) trait RingMemory {
    /// Index of the next entry that the producer writes.
    fn producer(&self) -> &AtomicU32;
    /// Index of the next entry that the consumer reads.
    fn consumer(&self) -> &AtomicU32;
    /// The kernel sleeps: a system call has to wake it (`XDP_RING_NEED_WAKEUP`).
    fn needs_wakeup(&self) -> bool;
    /// All entries, [`Entry::WORDS`] words each; a power of two of entries.
    fn words(&self) -> &[AtomicU64];
}

/// What a ring carries.
pub(crate) trait Entry: Copy {
    /// Words of 64 bits that it takes.
    const WORDS: usize;
    /// Writes it.
    fn store(self, words: &[AtomicU64]);
    /// Reads it.
    fn load(words: &[AtomicU64]) -> Self;
}

/// The address of a buffer: fill and completion rings.
impl Entry for u64 {
    const WORDS: usize = 1;

    fn store(self, words: &[AtomicU64]) {
        if let [word] = words {
            word.store(self, Ordering::Relaxed);
        }
    }

    fn load(words: &[AtomicU64]) -> Self {
        match words {
            [word] => word.load(Ordering::Relaxed),
            _ => u64::MAX,
        }
    }
}

/// A frame in a buffer: `struct xdp_desc` of rx and tx rings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// Where the frame begins, counted from the start of the memory.
    pub(crate) address: u64,
    /// Its length in bytes.
    pub(crate) len: u32,
    /// Flags: 1 says that the frame goes on in the next descriptor.
    pub(crate) options: u32,
}

impl Entry for Descriptor {
    const WORDS: usize = 2;

    fn store(self, words: &[AtomicU64]) {
        if let [address, rest] = words {
            let [a, b, c, d] = self.len.to_ne_bytes();
            let [e, f, g, h] = self.options.to_ne_bytes();
            address.store(self.address, Ordering::Relaxed);
            rest.store(
                u64::from_ne_bytes([a, b, c, d, e, f, g, h]),
                Ordering::Relaxed,
            );
        }
    }

    fn load(words: &[AtomicU64]) -> Self {
        let [address, rest] = words else {
            return Self {
                address: u64::MAX,
                len: 0,
                options: 0,
            };
        };
        let [a, b, c, d, e, f, g, h] = rest.load(Ordering::Relaxed).to_ne_bytes();
        Self {
            address: address.load(Ordering::Relaxed),
            len: u32::from_ne_bytes([a, b, c, d]),
            options: u32::from_ne_bytes([e, f, g, h]),
        }
    }
}

/// Entries of a ring with so much memory.
fn size_of<E: Entry>(memory: &impl RingMemory) -> u32 {
    let entries = memory.words().len() / E::WORDS;
    debug_assert!(entries.is_power_of_two());
    u32::try_from(entries).unwrap_or(0)
}

/// The words of the entry with this index; none if the ring is empty by construction.
fn place<E: Entry>(memory: &impl RingMemory, size: u32, index: u32) -> &[AtomicU64] {
    let start = (index & size.wrapping_sub(1)) as usize * E::WORDS;
    memory
        .words()
        .get(start..start + E::WORDS)
        .unwrap_or_default()
}

/// This process's side of a fill or tx ring.
pub(crate) struct Producer<M, E> {
    memory: M,
    size: u32,
    /// Index of the next entry to write.
    next: u32,
    /// The consumer's index when it was last looked at.
    consumed: u32,
    entries: PhantomData<E>,
}

impl<M: RingMemory, E: Entry> Producer<M, E> {
    pub(crate) fn new(memory: M) -> Self {
        let next = memory.producer().load(Ordering::Relaxed);
        Self {
            size: size_of::<E>(&memory),
            consumed: next,
            next,
            memory,
            entries: PhantomData,
        }
    }

    /// Entries that the ring holds at most.
    pub(crate) fn size(&self) -> u32 {
        self.size
    }

    /// Entries written that the other side has not taken yet, published or not.
    pub(crate) fn pending(&mut self) -> u32 {
        self.consumed = self.memory.consumer().load(Ordering::Acquire);
        self.next.wrapping_sub(self.consumed).min(self.size)
    }

    /// Writes `entry`, which the other side sees after [`Self::publish`]; whether there was room.
    #[must_use]
    pub(crate) fn push(&mut self, entry: E) -> bool {
        if self.next.wrapping_sub(self.consumed) >= self.size && self.pending() >= self.size {
            return false;
        }
        entry.store(place::<E>(&self.memory, self.size, self.next));
        self.next = self.next.wrapping_add(1);
        true
    }

    /// Entries written that the other side does not see yet.
    pub(crate) fn unpublished(&self) -> u32 {
        let published = self.memory.producer().load(Ordering::Relaxed);
        self.next.wrapping_sub(published)
    }

    /// Shows the other side all entries written.
    pub(crate) fn publish(&mut self) {
        self.memory.producer().store(self.next, Ordering::Release);
    }

    /// Takes the newest entry back that the other side has not taken. To be called only while the other side takes none, and
    /// has not looked at this side's index since it took the last one: it may remember what it saw.
    pub(crate) fn retract(&mut self) -> Option<E> {
        if self.pending() == 0 {
            return None;
        }
        self.next = self.next.wrapping_sub(1);
        self.publish();
        Some(E::load(place::<E>(&self.memory, self.size, self.next)))
    }

    /// The kernel has to be woken for what was published.
    pub(crate) fn needs_wakeup(&self) -> bool {
        self.memory.needs_wakeup()
    }
}

/// This process's side of an rx or completion ring.
pub(crate) struct Consumer<M, E> {
    memory: M,
    size: u32,
    /// Index of the next entry to read.
    next: u32,
    /// The producer's index when it was last looked at.
    produced: u32,
    entries: PhantomData<E>,
}

impl<M: RingMemory, E: Entry> Consumer<M, E> {
    pub(crate) fn new(memory: M) -> Self {
        let next = memory.consumer().load(Ordering::Relaxed);
        Self {
            size: size_of::<E>(&memory),
            produced: next,
            next,
            memory,
            entries: PhantomData,
        }
    }

    /// The next entry. Its place stays taken until [`Self::release`].
    pub(crate) fn pop(&mut self) -> Option<E> {
        if self.next == self.produced {
            let produced = self.memory.producer().load(Ordering::Acquire);
            let waiting = produced.wrapping_sub(self.next).min(self.size);
            self.produced = self.next.wrapping_add(waiting);
            if waiting == 0 {
                return None;
            }
        }
        let entry = E::load(place::<E>(&self.memory, self.size, self.next));
        self.next = self.next.wrapping_add(1);
        Some(entry)
    }

    /// Frees the places of all entries read.
    pub(crate) fn release(&mut self) {
        self.memory.consumer().store(self.next, Ordering::Release);
    }
}

#[cfg(test)]
pub(crate) mod tests;
