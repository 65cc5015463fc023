//! A byte queue that grows with use, and gives its memory back when it is empty and quiet.

use alloc::boxed::Box;
use alloc::vec;

/// Smallest allocation, in bytes.
const MIN_CAPACITY: usize = 2048;
/// Bytes that a queue in use keeps, needed or not.
const KEPT_CAPACITY: usize = 64 * 1024;

/// A bounded ring of bytes.
///
/// Bytes may be written beyond the end ([`Ring::write_at`]) before those in front of them have
/// come; they count once [`Ring::extend`] says so.
#[derive(Clone, Debug, Default)]
pub(crate) struct Ring {
    storage: Box<[u8]>,
    len: usize,
    /// Where the front lies: a buffer has 2^30 bytes at most.
    start: u32,
    /// Most bytes in the queue since the last [`Ring::look`].
    most: u32,
}

impl Ring {
    /// Bytes in the queue.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Bytes of memory held.
    pub(crate) fn capacity(&self) -> usize {
        self.storage.len()
    }

    /// The queue's front part that lies in one piece.
    pub(crate) fn front(&self) -> &[u8] {
        let end = self.storage.len().min(self.start() + self.len);
        &self.storage[self.start()..end]
    }

    /// Appends `data`.
    pub(crate) fn push(&mut self, data: &[u8]) {
        self.write_at(self.len, data);
        self.len += data.len();
        self.most = self.most.max(self.len as u32);
    }

    /// Writes `data` so that it begins `offset` bytes behind the queue's front; the queue's
    /// length stays.
    pub(crate) fn write_at(&mut self, offset: usize, data: &[u8]) {
        if data.is_empty() {
            return;
        }
        self.reserve(offset + data.len());
        let capacity = self.storage.len();
        let at = (self.start() + offset) % capacity;
        let first = data.len().min(capacity - at);
        self.storage[at..at + first].copy_from_slice(&data[..first]);
        self.storage[..data.len() - first].copy_from_slice(&data[first..]);
    }

    /// Counts `n` bytes in that were written behind the end.
    pub(crate) fn extend(&mut self, n: usize) {
        self.len = (self.len + n).min(self.storage.len());
        self.most = self.most.max(self.len as u32);
    }

    /// Copies what stands `offset` bytes behind the front to `out`; how many bytes there were.
    pub(crate) fn read_at(&self, offset: usize, out: &mut [u8]) -> usize {
        let n = out.len().min(self.len.saturating_sub(offset));
        if n == 0 {
            return 0;
        }
        let capacity = self.storage.len();
        let at = (self.start() + offset) % capacity;
        let first = n.min(capacity - at);
        out[..first].copy_from_slice(&self.storage[at..at + first]);
        out[first..n].copy_from_slice(&self.storage[..n - first]);
        n
    }

    /// Removes `n` bytes from the front; `keep` says that bytes written behind the end still count on
    /// their place.
    pub(crate) fn consume(&mut self, n: usize, keep: bool) {
        let n = n.min(self.len);
        self.len -= n;
        if self.len == 0 && !keep {
            self.start = 0;
        } else if !self.storage.is_empty() {
            self.start = ((self.start() + n) % self.storage.len()) as u32;
        }
    }

    /// From time to time: an empty queue, behind which nothing was written, gives back its memory when it is not in use (`idle`), or has
    /// more than it needed since the last look.
    pub(crate) fn look(&mut self, idle: bool) {
        let needed = (self.most as usize).next_power_of_two().max(KEPT_CAPACITY);
        if self.len == 0 && (idle || self.storage.len() > needed) {
            *self = Ring::default();
        }
        self.most = self.len as u32;
    }

    fn start(&self) -> usize {
        self.start as usize
    }

    fn reserve(&mut self, need: usize) {
        if need <= self.storage.len() {
            return;
        }
        let mut grown = vec![0; need.next_power_of_two().max(MIN_CAPACITY)].into_boxed_slice();
        let capacity = self.storage.len();
        let first = capacity - self.start();
        grown[..first].copy_from_slice(&self.storage[self.start()..]);
        grown[first..capacity].copy_from_slice(&self.storage[..self.start()]);
        self.storage = grown;
        self.start = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::VecDeque;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Op {
        Push(Vec<u8>),
        Consume(usize),
        Read(usize, usize),
        Look(bool),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            proptest::collection::vec(any::<u8>(), 0..3000).prop_map(Op::Push),
            (0usize..4000).prop_map(Op::Consume),
            (0usize..4000, 0usize..4000).prop_map(|(at, n)| Op::Read(at, n)),
            any::<bool>().prop_map(Op::Look),
        ]
    }

    proptest! {
        #[test]
        fn behaves_like_a_deque(ops in proptest::collection::vec(op(), 0..60)) {
            let mut ring = Ring::default();
            let mut model: VecDeque<u8> = VecDeque::new();
            for op in ops {
                match op {
                    Op::Push(data) => {
                        ring.push(&data);
                        model.extend(&data);
                    }
                    Op::Consume(n) => {
                        ring.consume(n, false);
                        model.drain(..n.min(model.len()));
                    }
                    Op::Read(at, n) => {
                        let mut out = vec![0; n];
                        let got = ring.read_at(at, &mut out);
                        let want: Vec<u8> = model.iter().skip(at).take(n).copied().collect();
                        prop_assert_eq!(&out[..got], &want[..]);
                    }
                    Op::Look(idle) => {
                        ring.look(idle);
                        prop_assert!(!(idle && model.is_empty() && ring.capacity() > 0));
                    }
                }
                prop_assert_eq!(ring.len(), model.len());
                let front = ring.front();
                prop_assert!(front.iter().eq(model.iter().take(front.len())));
                prop_assert_eq!(front.is_empty(), model.is_empty());
            }
        }

        #[test]
        fn memory_that_is_not_needed_goes_at_the_second_look(large in KEPT_CAPACITY + 1..1_000_000, small in 1usize..KEPT_CAPACITY) {
            let mut ring = Ring::default();
            let use_of = |ring: &mut Ring, n| {
                ring.push(&vec![0; n]);
                ring.consume(n, false);
            };
            use_of(&mut ring, large);
            ring.look(false);
            prop_assert!(ring.capacity() >= large);
            use_of(&mut ring, small);
            ring.look(false);
            prop_assert_eq!(ring.capacity(), 0);
        }

        #[test]
        fn early_bytes_keep_their_place(split in 1usize..5000, total in 2usize..6000, taken in 0usize..5000) {
            let data: Vec<u8> = (0..total).map(|i| i as u8).collect();
            let split = split.min(total - 1);
            let mut ring = Ring::default();
            ring.push(&data[..1]);
            ring.write_at(split, &data[split..]);
            let taken = taken.min(1);
            ring.consume(taken, true);
            ring.write_at(1 - taken, &data[1..split]);
            ring.extend(total - 1);
            let mut out = vec![0; total - taken];
            prop_assert_eq!(ring.read_at(0, &mut out), total - taken);
            prop_assert_eq!(&out[..], &data[taken..]);
        }
    }
}
