//! Two lanes of one memory, and a kernel of ours behind their rings.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::ring::tests::Heap;

const RING: u32 = 8;
const SIZE: u32 = 2048;
const HEADROOM: u64 = 256;
/// Most steps of one case; Miri is some thousand times slower.
const STEPS: usize = if cfg!(miri) { 20 } else { 300 };

/// The kernel's sides of a lane's rings.
struct Kernel {
    fill: Consumer<Arc<Heap>, u64>,
    rx: Producer<Arc<Heap>, Descriptor>,
    tx: Consumer<Arc<Heap>, Descriptor>,
    completion: Producer<Arc<Heap>, u64>,
    /// Sent, not completed.
    sending: Vec<u64>,
}

type TestLane = Lane<Arc<Heap>>;

fn lane(memory: &Memory) -> (TestLane, Kernel) {
    let entries = RING as usize;
    let (fill, completion) = (Heap::new::<u64>(entries, 0), Heap::new::<u64>(entries, 0));
    let rx = Heap::new::<Descriptor>(entries, 0);
    let tx = Heap::new::<Descriptor>(entries, 0);
    let kernel = Kernel {
        fill: Consumer::new(Arc::clone(&fill)),
        rx: Producer::new(Arc::clone(&rx)),
        tx: Consumer::new(Arc::clone(&tx)),
        completion: Producer::new(Arc::clone(&completion)),
        sending: Vec::new(),
    };
    let rings = Rings {
        fill: Producer::new(fill),
        rx: Consumer::new(rx),
        tx: Producer::new(tx),
        completion: Consumer::new(completion),
    };
    let queue = memory.reserve(TestLane::needs(RING, RING)).unwrap();
    let mut lane = Lane::new(memory.clone(), queue, rings, 1514);
    lane.refill();
    (lane, kernel)
}

fn two_lanes() -> (Memory, [(TestLane, Kernel); 2], usize) {
    let count = 2 * TestLane::needs(RING, RING);
    let memory = Memory::of(count, SIZE).unwrap();
    let lanes = [lane(&memory), lane(&memory)];
    (memory, lanes, count as usize)
}

impl Kernel {
    /// A frame of `len` bytes comes in; whether there was a buffer for it.
    fn arrive(&mut self, len: u32, options: u32) -> bool {
        let Some(address) = self.fill.pop() else {
            return false;
        };
        self.fill.release();
        self.descriptor(address + HEADROOM, len, options);
        true
    }

    fn descriptor(&mut self, address: u64, len: u32, options: u32) {
        let descriptor = Descriptor {
            address,
            len,
            options,
        };
        if self.rx.push(descriptor) {
            self.rx.publish();
        }
    }

    /// Takes a frame to send, if there is a place for its completion.
    fn send(&mut self) -> Option<Descriptor> {
        if self.completion.pending() + self.sending.len() as u32 >= RING {
            return None;
        }
        let descriptor = self.tx.pop()?;
        self.tx.release();
        self.sending.push(descriptor.address);
        Some(descriptor)
    }

    fn complete(&mut self) {
        if let Some(address) = self.sending.pop() {
            assert!(
                self.completion.push(address),
                "there is room for what was sent"
            );
            self.completion.publish();
        }
    }
}

impl TestLane {
    /// Buffers that it, or the kernel for it, has.
    fn has(&self) -> usize {
        let building = usize::from(self.building.is_some());
        self.spare.len() + building + (self.inbound + self.outbound) as usize
    }
}

/// The lane `at`, and the other one.
fn pair(lanes: &mut [(TestLane, Kernel); 2], at: usize) -> (&mut TestLane, &mut TestLane) {
    let [(one, _), (two, _)] = lanes;
    if at == 0 { (one, two) } else { (two, one) }
}

#[test]
fn a_frame_is_forwarded_in_its_buffer_with_headers_in_front() {
    let (memory, mut lanes, _) = two_lanes();
    lanes[0].1.arrive(100, 0);
    let (from, to) = pair(&mut lanes, 0);
    let mut taken = 0;
    from.receive(1, &mut |frame| {
        assert_eq!(frame.bytes().len(), 100);
        assert_eq!(
            to.forward(frame, &[7; 30], &(14..101)),
            Some(Err(Refused::Oversize))
        );
        assert_eq!(
            to.forward(frame, &[7; 271], &(14..100)),
            None,
            "no room in front: to be copied"
        );
        assert_eq!(frame.bytes().len(), 100, "still lent");
        assert_eq!(to.forward(frame, &[7; 30], &(14..100)), Some(Ok(())));
        assert!(frame.bytes().is_empty(), "taken");
        assert_eq!(to.forward(frame, &[7; 30], &(0..0)), None);
        taken += 1;
    });
    assert_eq!(taken, 1);
    assert!(to.publish());
    let sent = lanes[1].1.send().unwrap();
    assert_eq!(sent.len, 30 + 86);
    assert_eq!(sent.address % u64::from(SIZE), HEADROOM + 14 - 30);
    let (lane, _) = &mut lanes[1];
    let (chunk, place) = memory
        .buffers()
        .claim(sent.address, lane.queue)
        .expect("the kernel has it for that queue");
    let headers = memory.buffers().bytes(&chunk, place..place + 31);
    assert_eq!(headers, [&[7; 30][..], &[0]].concat());
}

#[test]
fn another_memorys_frame_is_copied() {
    let (_one, mut lanes, _) = two_lanes();
    let (_other, mut others, _) = two_lanes();
    others[0].1.arrive(100, 0);
    let mut seen = 0;
    others[0].0.receive(1, &mut |frame| {
        assert_eq!(lanes[0].0.forward(frame, &[1; 30], &(14..100)), None);
        let mut plain = frame.bytes();
        assert_eq!(lanes[0].0.forward(&mut plain, &[], &(0..100)), None);
        seen += 1;
    });
    assert_eq!(seen, 1);
}

#[test]
fn descriptors_that_cannot_be_lend_nothing() {
    let (_, mut lanes, _) = two_lanes();
    let (lane, kernel) = &mut lanes[0];
    // Parts of a larger frame, too large, without a header, beyond the buffer's end.
    for (len, options) in [(100, 1), (1515, 0), (13, 0), (u32::MAX, 0)] {
        kernel.arrive(len, options);
    }
    // A buffer that the kernel does not have, a place that is none.
    kernel.descriptor(u64::from(SIZE) * 200, 100, 0);
    kernel.descriptor(u64::MAX, 100, 0);
    let mut lent = 0;
    assert_eq!(lane.receive(64, &mut |_| lent += 1), 6);
    assert_eq!(lent, 0);
    assert_eq!(lane.counts().dropped, 6);
    kernel.arrive(60, 0);
    assert_eq!(lane.receive(64, &mut |_| lent += 1), 1);
    assert_eq!(lent, 1);
}

#[test]
fn a_frame_is_not_lost_with_a_sink_that_panics() {
    let (memory, mut lanes, _) = two_lanes();
    lanes[0].1.arrive(100, 0);
    let free = memory.free();
    let lane = &mut lanes[0].0;
    let panicking = std::panic::AssertUnwindSafe(|| lane.receive(1, &mut |_| panic!("the sink")));
    assert!(std::panic::catch_unwind(panicking).is_err());
    assert_eq!(memory.free(), free + 1);
}

#[derive(Clone, Debug)]
enum Step {
    Arrive(u32),
    /// Lends so many frames; those whose bit is set are forwarded.
    Receive(usize, u8),
    /// Shows so many frames.
    Peek(usize),
    Build,
    /// A buffer is lent and not used.
    Buffer,
    Flush,
    Send,
    Complete,
    /// The interface is down when the kernel is told of the frames.
    Fail,
    /// The kernel completes what is no buffer.
    Lie(u64),
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let step = prop_oneof![
        4 => (0u32..2000).prop_map(Step::Arrive),
        4 => (0usize..12, any::<u8>()).prop_map(|(n, bits)| Step::Receive(n, bits)),
        2 => (0usize..12).prop_map(Step::Peek),
        2 => Just(Step::Build),
        1 => Just(Step::Buffer),
        2 => Just(Step::Flush),
        4 => Just(Step::Send),
        4 => Just(Step::Complete),
        1 => Just(Step::Fail),
        1 => any::<u64>().prop_map(Step::Lie),
    ];
    prop::collection::vec((0usize..2, step), 0..STEPS)
}

proptest! {
    /// Whatever the two lanes, their caller and the kernel do, no buffer is lost or doubled, and no lane takes another's share.
    #[test]
    fn buffers_are_conserved(steps in steps()) {
        let (memory, mut lanes, count) = two_lanes();
        for (at, step) in steps {
            match step {
                Step::Arrive(len) => {
                    prop_assert!(lanes[at].1.arrive(len, 0) || lanes[at].0.inbound == RING, "the fill ring is full");
                }
                Step::Receive(budget, bits) => {
                    let (from, to) = pair(&mut lanes, at);
                    let mut number = 0;
                    let taken = from.receive(budget, &mut |frame| {
                        if bits >> (number % 8) & 1 == 1 {
                            let all = 14..frame.bytes().len();
                            let _ = to.forward(frame, &[1; 30], &all);
                        }
                        number += 1;
                    });
                    prop_assert!(taken <= budget);
                    prop_assert_eq!(from.inbound, RING, "its share is always there");
                }
                Step::Peek(budget) => {
                    let shown = lanes[at].0.peek(budget, &mut |_| {});
                    prop_assert!(shown <= budget);
                }
                Step::Build => {
                    if lanes[at].0.buffer().is_some() {
                        lanes[at].0.commit(60);
                    }
                }
                Step::Buffer => drop(lanes[at].0.buffer().is_some()),
                Step::Flush => {
                    lanes[at].0.publish();
                    lanes[at].0.progress();
                }
                Step::Send => drop(lanes[at].1.send()),
                Step::Complete => lanes[at].1.complete(),
                Step::Fail => {
                    lanes[at].0.progress();
                    let fresh = lanes[at].0.publish();
                    lanes[at].0.fail(fresh);
                    prop_assert!(!fresh || lanes[at].0.queued() == 0);
                }
                Step::Lie(address) => {
                    let kernel = &mut lanes[at].1;
                    if kernel.completion.pending() + (kernel.sending.len() as u32) < RING {
                        let beyond = address.max(count as u64 * u64::from(SIZE));
                        prop_assert!(kernel.completion.push(beyond));
                    }
                }
            }
            let has: Vec<_> = lanes.iter().map(|(lane, _)| lane.has()).collect();
            prop_assert_eq!(memory.free() + has.iter().sum::<usize>(), count);
            prop_assert!(has.iter().all(|&has| has <= count / 2), "{:?}", has);
            for (lane, _) in &lanes {
                prop_assert!(lane.outbound <= RING && lane.queued <= lane.outbound);
            }
        }
        for (lane, _) in lanes {
            lane.close(true);
        }
        prop_assert_eq!(memory.free(), count);
    }
}
