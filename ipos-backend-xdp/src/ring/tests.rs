//! Rings in ordinary memory, with both sides ours. `RUSTFLAGS="--cfg loom" cargo test -p ipos-backend-xdp --lib` tries all orders.

use std::sync::Arc;

use super::*;

/// A ring without a kernel.
pub(crate) struct Heap {
    producer: AtomicU32,
    consumer: AtomicU32,
    words: Vec<AtomicU64>,
}

impl Heap {
    /// So many entries; both indices begin at `start`.
    pub(crate) fn new<E: Entry>(entries: usize, start: u32) -> Arc<Self> {
        Arc::new(Self {
            producer: AtomicU32::new(start),
            consumer: AtomicU32::new(start),
            words: (0..entries * E::WORDS).map(|_| AtomicU64::new(0)).collect(),
        })
    }
}

impl RingMemory for Arc<Heap> {
    fn producer(&self) -> &AtomicU32 {
        &self.producer
    }

    fn consumer(&self) -> &AtomicU32 {
        &self.consumer
    }

    fn needs_wakeup(&self) -> bool {
        false
    }

    fn words(&self) -> &[AtomicU64] {
        &self.words
    }
}

#[cfg(loom)]
mod every_order {
    use loom::thread;

    use super::*;

    /// Three entries through two places: whatever the order, the consumer reads what the producer wrote.
    #[test]
    fn entries_arrive_whole_and_in_order() {
        loom::model(|| {
            let heap = Heap::new::<Descriptor>(2, u32::MAX);
            let entry = |n: u32| Descriptor {
                address: u64::from(n) << 12,
                len: n,
                options: !n,
            };
            let mut producer = Producer::new(Arc::clone(&heap));
            let mut consumer = Consumer::<_, Descriptor>::new(heap);
            let sender = thread::spawn(move || {
                for n in 1..=3 {
                    while !producer.push(entry(n)) {
                        thread::yield_now();
                    }
                    producer.publish();
                }
            });
            for n in 1..=3 {
                let got = loop {
                    if let Some(got) = consumer.pop() {
                        break got;
                    }
                    thread::yield_now();
                };
                assert_eq!(got, entry(n));
                consumer.release();
            }
            sender.join().unwrap();
        });
    }
}

#[cfg(not(loom))]
mod one_order {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_full_ring_takes_nothing_until_places_are_released() {
        let heap = Heap::new::<u64>(4, u32::MAX - 1);
        let mut producer = Producer::new(Arc::clone(&heap));
        let mut consumer = Consumer::<_, u64>::new(heap);
        assert!((0..4).all(|n| producer.push(n)));
        assert!(!producer.push(4));
        assert_eq!(consumer.pop(), None, "not published");
        producer.publish();
        assert_eq!(consumer.pop(), Some(0));
        assert!(!producer.push(4), "read, not released");
        consumer.release();
        assert!(producer.push(4));
        assert!(!producer.push(5));
    }

    #[test]
    fn indices_out_of_bounds_are_not_believed() {
        let heap = Heap::new::<u64>(4, 7);
        let mut producer = Producer::new(Arc::clone(&heap));
        let mut consumer = Consumer::<_, u64>::new(Arc::clone(&heap));
        heap.producer.store(1000, Ordering::Relaxed);
        assert_eq!(std::iter::from_fn(|| consumer.pop()).take(100).count(), 100);
        heap.consumer.store(1000, Ordering::Relaxed);
        assert_eq!(producer.pending(), 4);
        assert!(!producer.push(1));
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Push,
        Publish,
        Pop,
        Release,
        Retract,
    }

    proptest! {
        #[test]
        fn a_ring_is_a_bounded_queue(
            start in any::<u32>(),
            steps in prop::collection::vec(prop::sample::select(vec![Step::Push, Step::Push, Step::Publish, Step::Pop, Step::Release, Step::Retract]), 0..200),
        ) {
            let heap = Heap::new::<u64>(8, start);
            let mut producer = Producer::new(Arc::clone(&heap));
            let mut consumer = Consumer::<_, u64>::new(heap);
            // Written; published and not read; read and not released.
            let (mut written, mut published, mut held) = (VecDeque::new(), VecDeque::new(), 0);
            for (n, step) in steps.into_iter().enumerate() {
                let n = n as u64;
                match step {
                    Step::Push => {
                        let room = written.len() + published.len() + held < 8;
                        prop_assert_eq!(producer.push(n), room);
                        if room {
                            written.push_back(n);
                        }
                    }
                    Step::Publish => {
                        producer.publish();
                        published.append(&mut written);
                    }
                    Step::Pop => {
                        let popped = consumer.pop();
                        prop_assert_eq!(popped, published.pop_front());
                        held += usize::from(popped.is_some());
                    }
                    Step::Release => {
                        consumer.release();
                        held = 0;
                    }
                    // Only while the other side has not seen what is taken back.
                    Step::Retract if held == 0 && consumer.produced == consumer.next => {
                        let newest = written.pop_back().or_else(|| published.pop_back());
                        prop_assert_eq!(producer.retract(), newest);
                        if newest.is_some() {
                            published.append(&mut written);
                        }
                    }
                    Step::Retract => {}
                }
                let waiting = (written.len() + published.len() + held) as u32;
                prop_assert_eq!(producer.pending(), waiting);
            }
        }
    }
}
