//! Memory from mmap(2): anonymous, or a socket's ring.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::ptr::{self, NonNull};
use std::slice;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::net::xdp::{XdpRingFlags, XdpRingOffset};

use crate::ring::{Entry, RingMemory};

/// Pages of this process, given back when dropped. Nothing but this value's users knows their address.
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: the pages belong to no thread; what is done with them is up to those who hold the pointer.
unsafe impl Send for Mapping {}
// SAFETY: as above: a shared reference gives the address and the length only.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Zeroed pages of our own, `len` bytes rounded up to whole ones.
    pub(crate) fn anonymous(len: usize) -> io::Result<Self> {
        Self::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0)
    }

    fn map(len: usize, flags: libc::c_int, file: RawFd, offset: libc::off_t) -> io::Result<Self> {
        let access = libc::PROT_READ | libc::PROT_WRITE;
        // SAFETY: without an address and MAP_FIXED the kernel finds a free place: no memory in use is touched.
        let base = unsafe { libc::mmap(ptr::null_mut(), len, access, flags, file, offset) };
        match NonNull::new(base.cast::<u8>()) {
            Some(base) if base.as_ptr().cast() != libc::MAP_FAILED => Ok(Self { base, len }),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Its first byte; page-aligned.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Its length in bytes.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the pages were mapped by `map` with this length, and references into them borrow this value.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}

/// A ring of an AF_XDP socket.
pub(crate) struct RingMapping {
    mapping: Mapping,
    producer: usize,
    consumer: usize,
    flags: Option<usize>,
    /// Where the entries begin, and words of 64 bits that they take.
    words: (usize, usize),
}

impl RingMapping {
    /// Maps the ring of `socket` at `page`, which has so many entries and whose parts lie where `offsets` says.
    pub(crate) fn new<E: Entry>(
        socket: BorrowedFd<'_>,
        page: u64,
        offsets: &XdpRingOffset,
        entries: u32,
    ) -> io::Result<Self> {
        let unusable = || io::Error::other("the kernel describes a ring that cannot be");
        let offset = |value: u64, align: usize| {
            let value = usize::try_from(value).ok()?;
            value.is_multiple_of(align).then_some(value)
        };
        let count = entries as usize * E::WORDS;
        let start = offset(offsets.desc, 8).ok_or_else(unusable)?;
        let len = start.checked_add(count * size_of::<u64>());
        let len = len.ok_or_else(unusable)?;
        let index = |value| {
            let at = offset(value, 4).ok_or_else(unusable)?;
            // The indices come before the entries.
            match start.checked_sub(4) {
                Some(last) if at <= last => Ok(at),
                _ => Err(unusable()),
            }
        };
        let page = libc::off_t::try_from(page).map_err(|_| unusable())?;
        let shared = libc::MAP_SHARED | libc::MAP_POPULATE;
        Ok(Self {
            producer: index(offsets.producer)?,
            consumer: index(offsets.consumer)?,
            flags: offsets.flags.map(index).transpose()?,
            words: (start, count),
            mapping: Mapping::map(len, shared, socket.as_raw_fd(), page)?,
        })
    }

    fn index(&self, at: usize) -> &AtomicU32 {
        // SAFETY: `new` has checked that the offset is aligned and lies within the mapping, which lives as long as
        // `self`. The kernel writes there too, with atomic operations.
        unsafe { self.mapping.base.add(at).cast().as_ref() }
    }
}

impl RingMemory for RingMapping {
    fn producer(&self) -> &AtomicU32 {
        self.index(self.producer)
    }

    fn consumer(&self) -> &AtomicU32 {
        self.index(self.consumer)
    }

    fn needs_wakeup(&self) -> bool {
        // Without flags the kernel always has to be woken.
        self.flags.is_none_or(|at| {
            let flags = XdpRingFlags::from_bits_retain(self.index(at).load(Ordering::Relaxed));
            flags.contains(XdpRingFlags::XDP_RING_NEED_WAKEUP)
        })
    }

    fn words(&self) -> &[AtomicU64] {
        let (start, count) = self.words;
        // SAFETY: `new` has mapped `start` and `count` words, aligned; the mapping lives as long as `self`. The kernel
        // and this process access the words as whole numbers, and the indices say whose turn it is.
        unsafe { slice::from_raw_parts(self.mapping.base.add(start).cast().as_ptr(), count) }
    }
}
