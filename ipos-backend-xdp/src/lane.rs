//! One queue of an interface: its four rings, and the buffers that go round in them (WO 00/30322, FIG. 10, 12, 13).
//!
//! ```text
//!                 +-- fill --> kernel -- rx --+                 +-- tx --> kernel -- completion --+
//!     pool --> spare                          lent to the sink, |                                 spare --> pool
//!                 ^---------- not taken ------+---- taken ------+ (another lane of the memory)
//! ```
//!
//! No system calls here: the lane is tested over rings in ordinary memory.

use std::any::Any;
use std::collections::VecDeque;
use std::ops::Range;

use ipos_backend::{Frame, Refused};

use crate::memory::Memory;
use crate::ring::{Consumer, Descriptor, Producer, RingMemory};
use crate::sys::buffers::Chunk;

/// Bytes of an Ethernet header: no frame is shorter.
const ETHERNET: usize = 14;
/// The frame goes on in the next descriptor (`XDP_PKT_CONTD`).
const CONTINUED: u32 = 1;
/// Buffers moved between a lane and the pool at once.
const BATCH: usize = 64;
/// Free buffers that a lane keeps at most, the one that is being built and those in a burst's hands among them.
pub(crate) const SPARE: u32 = 4 * BATCH as u32;

/// The four rings.
pub(crate) struct Rings<M> {
    pub(crate) fill: Producer<M, u64>,
    pub(crate) rx: Consumer<M, Descriptor>,
    pub(crate) tx: Producer<M, Descriptor>,
    pub(crate) completion: Consumer<M, u64>,
}

/// A queue's rings and buffers.
pub(crate) struct Lane<M> {
    memory: Memory,
    /// The kernel's queue in the memory's table of owners.
    queue: u32,
    rings: Rings<M>,
    /// Bytes of the largest frame: larger ones that are received are dropped.
    largest: usize,
    /// Frames that were taken from the rx ring to be shown, and are not lent yet.
    shown: VecDeque<Held>,
    /// Buffers in the fill ring, in the rx ring, and shown.
    inbound: u32,
    /// Buffers in the tx ring, and sent ones that are not completed.
    outbound: u32,
    /// Frames in the tx ring, as far as [`Self::progress`] knows; those that count as failed already come first.
    queued: u32,
    written_off: u32,
    /// Free buffers at hand.
    spare: Vec<Chunk>,
    /// The buffer that a frame is built in.
    building: Option<Chunk>,
    counts: Counts,
}

/// What a lane has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) received: u64,
    pub(crate) dropped: u64,
    pub(crate) transmitted: u64,
    pub(crate) failed: u64,
}

/// A received frame that the sink sees. Its buffer is back in the pool if nobody has taken it when it is dropped.
pub(crate) struct Lent {
    memory: Memory,
    held: Option<Held>,
}

/// A buffer with a frame in it.
struct Held {
    chunk: Chunk,
    /// Where the frame lies.
    part: Range<usize>,
}

impl Frame for Lent {
    fn bytes(&self) -> &[u8] {
        self.held.as_ref().map_or(&[], |held| {
            self.memory.buffers().bytes(&held.chunk, held.part.clone())
        })
    }

    fn owner(&mut self) -> Option<&mut dyn Any> {
        Some(self)
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        // Only after a panic of the sink.
        self.memory.put(self.held.take().map(|held| held.chunk));
    }
}

impl<M: RingMemory> Lane<M> {
    /// A lane over empty rings; `queue` is from [`Memory::reserve`], with [`Self::needs`] buffers.
    pub(crate) fn new(memory: Memory, queue: u32, rings: Rings<M>, largest: usize) -> Self {
        Self {
            memory,
            queue,
            rings,
            largest,
            shown: VecDeque::with_capacity(BATCH),
            inbound: 0,
            outbound: 0,
            queued: 0,
            written_off: 0,
            spare: Vec::with_capacity(SPARE as usize),
            building: None,
            counts: Counts::default(),
        }
    }

    /// Buffers that a lane with rings of so many entries never has more of.
    pub(crate) fn needs(rx: u32, tx: u32) -> u32 {
        rx.saturating_add(tx).saturating_add(SPARE)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts
    }

    /// Gives the kernel free buffers until it has a ring full of them (FIG. 13 step 341).
    pub(crate) fn refill(&mut self) {
        while self.inbound < self.rings.fill.size() {
            let Some(chunk) = self.free() else { break };
            if let Err(chunk) = self.give(chunk, |rings, address| rings.fill.push(address)) {
                self.spare.push(chunk);
                break;
            }
            self.inbound += 1;
        }
        self.rings.fill.publish();
    }

    /// The kernel sleeps until it is told of the buffers that it was given.
    pub(crate) fn fill_needs_wakeup(&self) -> bool {
        self.rings.fill.needs_wakeup()
    }

    /// The kernel has to be told of the frames that wait to be sent.
    pub(crate) fn tx_needs_wakeup(&self) -> bool {
        self.rings.tx.needs_wakeup()
    }

    /// Shows up to `budget` received frames, a batch at most, which are lent later.
    pub(crate) fn peek(&mut self, budget: usize, sink: &mut dyn FnMut(&[u8])) -> usize {
        let budget = budget.min(BATCH);
        let mut any = false;
        while self.shown.len() < budget {
            let Some(descriptor) = self.rings.rx.pop() else {
                break;
            };
            any = true;
            match self.hold(descriptor) {
                Some(held) => self.shown.push_back(held),
                None => self.drop_received(),
            }
        }
        if any {
            self.rings.rx.release();
            self.refill();
        }
        let shown = self.shown.iter().take(budget);
        let buffers = self.memory.buffers();
        shown
            .map(|held| sink(buffers.bytes(&held.chunk, held.part.clone())))
            .count()
    }

    /// A frame is none that the port may lend.
    fn drop_received(&mut self) {
        self.inbound = self.inbound.saturating_sub(1);
        self.counts.dropped += 1;
    }

    /// Lends up to `budget` received frames (FIG. 13 steps 344 to 347); how many came.
    pub(crate) fn receive(&mut self, budget: usize, sink: &mut dyn FnMut(&mut dyn Frame)) -> usize {
        let mut lent = Lent {
            memory: self.memory.clone(),
            held: None,
        };
        let mut taken = 0;
        while taken < budget {
            let held = match self.shown.pop_front() {
                Some(held) => Some(held),
                None => match self.rings.rx.pop() {
                    Some(descriptor) => self.hold(descriptor),
                    None => break,
                },
            };
            taken += 1;
            let Some(held) = held else {
                self.drop_received();
                continue;
            };
            self.inbound = self.inbound.saturating_sub(1);
            self.counts.received += 1;
            lent.held = Some(held);
            sink(&mut lent);
            if let Some(held) = lent.held.take() {
                self.keep(held.chunk);
            }
        }
        if taken > 0 {
            self.rings.rx.release();
            self.refill();
        }
        taken
    }

    /// The frame that a descriptor tells of, unless it is none that the port may lend.
    fn hold(&mut self, descriptor: Descriptor) -> Option<Held> {
        let Descriptor {
            address,
            len,
            options,
        } = descriptor;
        let (chunk, start) = self.memory.buffers().claim(address, self.queue)?;
        let len = len as usize;
        let fits = (ETHERNET..=self.largest).contains(&len)
            && len <= self.memory.buffers().size().saturating_sub(start);
        if !fits || options & CONTINUED != 0 {
            self.keep(chunk);
            return None;
        }
        let part = start..start + len;
        Some(Held { chunk, part })
    }

    /// The buffer for the next frame (FIG. 12 step 321).
    pub(crate) fn buffer(&mut self) -> Option<&mut [u8]> {
        if self.building.is_none() {
            self.building = self.room().then(|| self.free()).flatten();
        }
        let buffers = self.memory.buffers();
        let all = 0..self.largest;
        self.building
            .as_mut()
            .map(|chunk| buffers.bytes_mut(chunk, all))
    }

    /// Queues the first `len` bytes of the buffer, if there is one and it has as many.
    pub(crate) fn commit(&mut self, len: usize) {
        let fits = (ETHERNET..=self.largest).contains(&len);
        match self.building.take() {
            Some(chunk) if fits => {
                if let Err(chunk) = self.queue(chunk, 0..len) {
                    self.keep(chunk);
                    self.counts.failed += 1;
                }
            }
            chunk => {
                self.building = chunk;
                self.counts.failed += 1;
            }
        }
    }

    /// Queues a frame that another lane of the same memory lends, without a copy: `headers` are written in front of its part `payload`.
    /// `None`: it has to be copied.
    pub(crate) fn forward(
        &mut self,
        frame: &mut dyn Frame,
        headers: &[u8],
        payload: &Range<usize>,
    ) -> Option<Result<(), Refused>> {
        let lent = frame.owner()?.downcast_mut::<Lent>()?;
        if !lent.memory.is(&self.memory) {
            return None;
        }
        let held = lent.held.as_ref()?;
        let end = held.part.start.checked_add(payload.end)?;
        let start = held.part.start.checked_add(payload.start)?;
        let start = start.checked_sub(headers.len())?;
        if payload.start > payload.end
            || end > held.part.end
            || !(ETHERNET..=self.largest).contains(&(end - start))
        {
            return Some(Err(Refused::Oversize));
        }
        if !self.room() {
            return Some(Err(Refused::Full));
        }
        let mut held = lent.held.take()?;
        let buffers = self.memory.buffers();
        buffers
            .bytes_mut(&mut held.chunk, start..start + headers.len())
            .copy_from_slice(headers);
        Some(self.queue(held.chunk, start..end).map_err(|chunk| {
            let part = held.part;
            lent.held = Some(Held { chunk, part });
            Refused::Full
        }))
    }

    /// Puts a frame in the tx ring (FIG. 12 step 323); the buffer again if there is no room.
    fn queue(&mut self, chunk: Chunk, part: Range<usize>) -> Result<(), Chunk> {
        let len = part.len() as u32;
        self.give(chunk, |rings, address| {
            rings.tx.push(Descriptor {
                address: address + part.start as u64,
                len,
                options: 0,
            })
        })?;
        self.outbound += 1;
        self.queued += 1;
        Ok(())
    }

    /// Gives a buffer to the kernel through one of the rings; the buffer again if the ring is full.
    fn give(
        &mut self,
        chunk: Chunk,
        push: impl FnOnce(&mut Rings<M>, u64) -> bool,
    ) -> Result<(), Chunk> {
        let address = self.memory.buffers().give(chunk, self.queue)?;
        if push(&mut self.rings, address) {
            return Ok(());
        }
        match self.memory.buffers().claim(address, self.queue) {
            Some((chunk, _)) => Err(chunk),
            // It was given a moment ago.
            None => Ok(()),
        }
    }

    /// Whether another frame may be queued beside the one that is being built: the tx ring and, for what was in it, the completion ring
    /// have room.
    fn room(&mut self) -> bool {
        let building = u32::from(self.building.is_some());
        if self.outbound + building >= self.rings.tx.size() {
            self.progress();
        }
        self.outbound + building < self.rings.tx.size()
    }

    /// Shows the kernel what is queued (FIG. 12 step 324). Whether it has not looked at any of it yet: then all may be taken back
    /// ([`Self::fail`]).
    pub(crate) fn publish(&mut self) -> bool {
        let fresh = self.rings.tx.unpublished() == self.queued;
        self.rings.tx.publish();
        fresh
    }

    /// Sees what the kernel has sent, and takes the buffers back (FIG. 12 steps 325, 326); how many frames it took since.
    pub(crate) fn progress(&mut self) -> u32 {
        let pending = self.rings.tx.pending();
        let taken = self.queued.saturating_sub(pending);
        self.queued -= taken;
        let written_off = taken.min(self.written_off);
        self.written_off -= written_off;
        self.counts.transmitted += u64::from(taken - written_off);
        let mut any = false;
        while let Some(address) = self.rings.completion.pop() {
            any = true;
            if let Some((chunk, _)) = self.memory.buffers().claim(address, self.queue) {
                self.outbound = self.outbound.saturating_sub(1);
                self.keep(chunk);
            }
        }
        if any {
            self.rings.completion.release();
        }
        taken
    }

    /// Frames that the kernel has not taken yet.
    pub(crate) fn queued(&self) -> u32 {
        self.queued
    }

    /// The kernel took a frame and did not send it: one of those that [`Self::progress`] has counted as transmitted.
    pub(crate) fn refuse(&mut self) {
        self.counts.transmitted = self.counts.transmitted.saturating_sub(1);
        self.counts.failed += 1;
    }

    /// Counts all queued frames as failed. With `retract` they are also taken out of the ring, which is right only while the kernel
    /// has not looked at them; otherwise the kernel sends them when it can.
    pub(crate) fn fail(&mut self, retract: bool) {
        self.counts.failed += u64::from(self.queued - self.written_off.min(self.queued));
        if !retract {
            self.written_off = self.queued;
            return;
        }
        while let Some(descriptor) = self.rings.tx.retract() {
            self.queued = self.queued.saturating_sub(1);
            let claimed = self.memory.buffers().claim(descriptor.address, self.queue);
            if let Some((chunk, _)) = claimed {
                self.outbound = self.outbound.saturating_sub(1);
                self.keep(chunk);
            }
        }
        self.written_off = 0;
    }

    /// A free buffer, from the pool if none is at hand.
    fn free(&mut self) -> Option<Chunk> {
        if self.spare.is_empty() {
            self.memory.take(&mut self.spare, BATCH);
        }
        self.spare.pop()
    }

    /// Keeps a free buffer at hand; a batch goes back to the pool when they become many.
    fn keep(&mut self, chunk: Chunk) {
        self.spare.push(chunk);
        if self.spare.len() >= 3 * BATCH {
            self.memory.put(self.spare.drain(2 * BATCH..));
        }
    }

    /// Ends the lane: the buffers at hand go back to the pool, and with `let_go` those that the kernel had too. That is
    /// right only if it does not write to them once the socket is closed, of which the rings are the last part.
    pub(crate) fn close(self, let_go: bool) {
        let Self {
            memory,
            queue,
            rings,
            spare,
            building,
            shown,
            ..
        } = self;
        drop(rings);
        let shown = shown.into_iter().map(|held| held.chunk);
        memory.put(spare.into_iter().chain(building).chain(shown));
        if let_go {
            memory.put(memory.buffers().claim_all(queue));
        }
    }
}

#[cfg(test)]
mod tests;
