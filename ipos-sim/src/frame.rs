//! Frames under way, in buffers that are used again.

use std::fmt;

/// Buffers kept for later frames; more than that are freed.
const SPARE: usize = 4096;

/// The least length of an Ethernet frame without FCS: shorter ones are padded with zeros.
pub const MIN_FRAME: usize = 60;

/// One Ethernet frame, without FCS.
pub(crate) struct Frame {
    buffer: Box<[u8]>,
    len: usize,
}

impl Frame {
    /// The frame's bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.buffer[..self.len]
    }

    /// Pads with zeros to [`MIN_FRAME`], as an interface does.
    pub(crate) fn pad(&mut self) {
        if self.len < MIN_FRAME && self.buffer.len() >= MIN_FRAME {
            self.buffer[self.len..MIN_FRAME].fill(0);
            self.len = MIN_FRAME;
        }
    }

    /// Inverts bit `bit`, counted from the frame's first byte.
    pub(crate) fn flip(&mut self, bit: usize) {
        if let Some(byte) = self.buffer[..self.len].get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
    }
}

impl fmt::Debug for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Frame").field(&self.bytes()).finish()
    }
}

/// Where a node puts the frames that it sends, each for one of its ports.
///
/// The [`Network`](crate::Network) takes them out after every call of the node.
pub struct Outbox {
    capacity: usize,
    spare: Vec<Box<[u8]>>,
    frames: Vec<(usize, Frame)>,
}

impl Outbox {
    /// An outbox whose frames have at most `capacity` bytes.
    pub fn new(capacity: usize) -> Outbox {
        Outbox {
            capacity: capacity.max(MIN_FRAME),
            spare: Vec::new(),
            frames: Vec::new(),
        }
    }

    /// Builds one frame for the sender's port number `port` in place: `fill` gets a buffer of the
    /// outbox's capacity (with old bytes in it) and says how many it has filled, or `None` for no frame.
    /// Whether there was one.
    pub fn build(&mut self, port: usize, fill: impl FnOnce(&mut [u8]) -> Option<usize>) -> bool {
        let mut buffer = self.buffer();
        match fill(&mut buffer) {
            Some(len) => {
                let len = len.min(buffer.len());
                self.frames.push((port, Frame { buffer, len }));
                true
            }
            None => {
                self.recycle(buffer);
                false
            }
        }
    }

    /// Sends `head` followed by `tail` through port number `port`. What exceeds the capacity is not sent
    /// at all; whether it was sent.
    pub fn send(&mut self, port: usize, head: &[u8], tail: &[u8]) -> bool {
        self.build(port, |buffer| {
            let len = head.len() + tail.len();
            let room = buffer.get_mut(..len)?;
            room[..head.len()].copy_from_slice(head);
            room[head.len()..].copy_from_slice(tail);
            Some(len)
        })
    }

    /// The frames that wait, in the order in which they were built.
    pub fn waiting(&self) -> impl Iterator<Item = (usize, &[u8])> {
        self.frames
            .iter()
            .map(|(port, frame)| (*port, frame.bytes()))
    }

    /// Drops the frames that wait.
    pub fn clear(&mut self) {
        for (_, frame) in self.take() {
            self.free(frame);
        }
    }

    pub(crate) fn take(&mut self) -> Vec<(usize, Frame)> {
        std::mem::take(&mut self.frames)
    }

    /// Gives back the emptied vector of [`Outbox::take`], so that its memory is used again.
    pub(crate) fn put_back(&mut self, emptied: Vec<(usize, Frame)>) {
        if self.frames.is_empty() {
            self.frames = emptied;
        }
    }

    pub(crate) fn copy(&mut self, frame: &Frame) -> Frame {
        let mut buffer = self.buffer();
        buffer[..frame.len].copy_from_slice(frame.bytes());
        Frame {
            buffer,
            len: frame.len,
        }
    }

    pub(crate) fn free(&mut self, frame: Frame) {
        self.recycle(frame.buffer);
    }

    fn buffer(&mut self) -> Box<[u8]> {
        self.spare
            .pop()
            .unwrap_or_else(|| vec![0; self.capacity].into())
    }

    fn recycle(&mut self, buffer: Box<[u8]>) {
        if self.spare.len() < SPARE {
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_keep_their_order_and_are_padded() {
        let mut out = Outbox::new(1600);
        assert!(out.send(1, b"head", b"tail"));
        assert!(!out.build(0, |_| None));
        assert!(
            !out.send(0, &[0; 1000], &[0; 1000]),
            "longer than the capacity"
        );
        assert!(out.build(0, |buffer| {
            buffer.fill(9);
            Some(2)
        }));
        assert_eq!(
            out.waiting().collect::<Vec<_>>(),
            [(1, &b"headtail"[..]), (0, &[9, 9][..])]
        );

        let mut frames = out.take();
        let (_, mut frame) = frames.pop().unwrap();
        frame.pad();
        assert_eq!(frame.bytes()[..3], [9, 9, 0]);
        assert_eq!(frame.bytes().len(), MIN_FRAME);
        assert!(
            frame.bytes()[2..].iter().all(|&byte| byte == 0),
            "old bytes do not leak"
        );
        frame.flip(9);
        assert_eq!(frame.bytes()[1], 9 ^ 2);
        frame.flip(100_000);
    }
}
