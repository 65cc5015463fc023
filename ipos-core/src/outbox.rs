//! Frames that wait for a port, other than those built from endpoints.

use alloc::collections::VecDeque;
use alloc::vec::Vec;

use crate::event::{Port, Transmit};

/// One bounded queue a port. Full: the new frame is dropped; what it carries is sent again or lost as
/// on any network.
#[derive(Debug)]
pub(crate) struct Outbox {
    queues: [VecDeque<Vec<u8>>; Port::ALL.len()],
    bound: usize,
    /// Frames dropped.
    pub(crate) dropped: u64,
}

impl Outbox {
    pub(crate) fn new(bound: usize) -> Outbox {
        Outbox {
            queues: Default::default(),
            bound,
            dropped: 0,
        }
    }

    pub(crate) fn push(&mut self, port: Port, frame: Vec<u8>) {
        let queue = &mut self.queues[port as usize];
        if queue.len() < self.bound {
            queue.push_back(frame);
        } else {
            self.dropped += 1;
        }
    }

    /// Copies the next frame for `port` to `out`. A frame that does not fit is dropped.
    pub(crate) fn pop(&mut self, port: Port, out: &mut [u8]) -> Option<Transmit> {
        while let Some(frame) = self.queues[port as usize].pop_front() {
            if let Some(room) = out.get_mut(..frame.len()) {
                room.copy_from_slice(&frame);
                let len = frame.len();
                return Some(Transmit { len, burst: None });
            }
            self.dropped += 1;
        }
        None
    }

    /// Frames that there is room for.
    pub(crate) fn room(&self, port: Port) -> usize {
        self.bound.saturating_sub(self.queues[port as usize].len())
    }

    /// Half of the room for a port is taken.
    pub(crate) fn is_half_full(&self, port: Port) -> bool {
        2 * self.queues[port as usize].len() > self.bound
    }

    pub(crate) fn set_bound(&mut self, bound: usize) {
        self.bound = bound;
    }

    /// Frames that wait for a port.
    pub(crate) fn waiting(&self, port: Port) -> usize {
        self.queues[port as usize].len()
    }

    pub(crate) fn len(&self) -> usize {
        self.queues.iter().map(VecDeque::len).sum()
    }
}
