//! The memory of a device's ports, and its free pool (WO 00/30322, FIG. 10, FIG. 11 step 302).

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::sys::buffers::{Buffers, Chunk};

/// Sizes of a [`Memory`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryOptions {
    /// Bytes of one buffer: a power of two from 2,048 to the page size. The kernel keeps 256 of them for itself in front of
    /// every received frame; that is where the headers of a forwarded frame find room.
    pub buffer_size: u32,
    /// How many buffers. A port of one queue needs twice its ring and 256 more; ports that find too few do not open.
    pub buffers: u32,
}

impl Default for MemoryOptions {
    /// 17,408 buffers of 2 kB, which is 34 MB: enough for four ports of one queue with the default rings.
    fn default() -> Self {
        Self {
            buffer_size: 2048,
            buffers: 17_408,
        }
    }
}

/// Buffers for frames, in memory that the kernel and this process share. Clones are the same memory.
///
/// Ports of one memory pass a forwarded frame on by passing its buffer on. A buffer is, at any time, in the free pool, or one port
/// has it, or the kernel has it for one port's queue; each port's share is bounded when it is opened, so no
/// port can leave another one without buffers.
#[derive(Clone)]
pub struct Memory(Arc<Shared>);

struct Shared {
    buffers: Buffers,
    pool: Mutex<Pool>,
}

struct Pool {
    free: Vec<Chunk>,
    /// Buffers that no port may claim for itself.
    unreserved: u32,
    /// Number of the next queue.
    next: u32,
}

impl Memory {
    /// Takes the memory from the system.
    ///
    /// # Errors
    /// Sizes that cannot be ([`io::ErrorKind::InvalidInput`]), or there is not so much memory.
    pub fn new(options: MemoryOptions) -> io::Result<Self> {
        let MemoryOptions {
            buffer_size,
            buffers,
        } = options;
        if !buffer_size.is_power_of_two() || !(2048..=65_536).contains(&buffer_size) {
            let text =
                format!("buffers of {buffer_size} bytes: a power of two from 2048 is needed");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        Self::of(buffers, buffer_size)
    }

    /// So many buffers of a size.
    pub(crate) fn of(count: u32, size: u32) -> io::Result<Self> {
        let (buffers, free) = Buffers::new(count, size)?;
        let pool = Pool {
            free,
            unreserved: count,
            next: 1,
        };
        Ok(Self(Arc::new(Shared {
            buffers,
            pool: Mutex::new(pool),
        })))
    }

    pub(crate) fn buffers(&self) -> &Buffers {
        &self.0.buffers
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Sets `count` buffers aside for a queue and gives it its number; the number that there are if those are too few.
    pub(crate) fn reserve(&self, count: u32) -> Result<u32, u32> {
        let mut pool = self.pool();
        let left = pool.unreserved;
        let next = pool.next.checked_add(1).ok_or(0u32)?;
        pool.unreserved = left.checked_sub(count).ok_or(left)?;
        Ok(std::mem::replace(&mut pool.next, next))
    }

    /// Takes back what [`Self::reserve`] set aside.
    pub(crate) fn unreserve(&self, count: u32) {
        self.pool().unreserved += count;
    }

    /// Moves up to `count` buffers from the pool to `to`.
    pub(crate) fn take(&self, to: &mut Vec<Chunk>, count: usize) {
        let mut pool = self.pool();
        let start = pool.free.len().saturating_sub(count);
        to.extend(pool.free.drain(start..));
    }

    /// Puts buffers back.
    pub(crate) fn put(&self, chunks: impl IntoIterator<Item = Chunk>) {
        self.pool().free.extend(chunks);
    }

    /// How many buffers are in the pool.
    #[must_use]
    pub fn free(&self) -> usize {
        self.pool().free.len()
    }

    /// The pool is whole between any two statements, so a panic elsewhere leaves nothing half done.
    fn pool(&self) -> MutexGuard<'_, Pool> {
        self.0.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (_, bytes) = self.buffers().area();
        f.debug_struct("Memory")
            .field("bytes", &bytes)
            .field("buffer_size", &self.buffers().size())
            .field("free", &self.free())
            .finish()
    }
}
