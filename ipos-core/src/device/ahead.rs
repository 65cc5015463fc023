//! Looking ahead over a burst: rows of a large table come from main memory, and many of them come in the time of one.

use ipos_proto::{ENCAPSULATION_LEN, ETHERNET_LEN};

use super::Device;
use crate::event::Port;
use crate::flow::Flow;

/// Fewer rows stay in the processor's caches by themselves: looking ahead would cost more than it saves.
const FEW: usize = 8192;

impl Device {
    /// Whether looking ahead gains anything now: while few flows are in the tables it does not.
    pub fn looks_ahead(&self) -> bool {
        self.flows.len() >= FEW
    }

    /// Notes a frame that [`Device::handle_frame`] will be called with soon. [`Device::look_ahead`] after the last one of a burst
    /// brings near what the tables have of all of them. Only speed depends on these calls; frames of any kind may be
    /// noted, and need not come.
    pub fn expect_frame(&mut self, port: Port, frame: &[u8]) {
        if !self.looks_ahead() {
            return;
        }
        let at = match port {
            Port::A | Port::C => ETHERNET_LEN,
            Port::B => ENCAPSULATION_LEN,
            Port::Synch => return,
        };
        let Some(flow) = frame.get(at..).and_then(Flow::named_by) else {
            return;
        };
        self.ahead.push(flow);
        if self.ahead.is_full() {
            self.look_ahead();
        }
    }

    /// Brings near what the tables have of the frames that [`Device::expect_frame`] was told of.
    pub fn look_ahead(&mut self) {
        // What a full burst has found at its last frame is not to be forgotten.
        if !self.ahead.is_empty() {
            self.flows.look_ahead(&self.ahead);
            self.ahead.clear();
        }
    }
}
