//! The receiving half: reassembly, the window, SACK blocks.

use arrayvec::ArrayVec;
use ipos_proto::SeqNum;

use super::ring::Ring;
use super::segment::{SACK_BLOCKS, SackBlock};
use super::window::{Window, WindowScale};

/// Blocks that may wait behind a gap. Full: a segment that would begin another one is dropped, and
/// comes again.
const BLOCKS: usize = 16;
/// Segments that a client has room for while nothing hurries to tell it of more.
const ROOM: u32 = 8;

/// What became of a segment's data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Accepted {
    /// New bytes are in order (or the end of the stream is).
    pub(crate) advanced: bool,
    /// The data lies behind a gap, or fills one (RFC 5681 §4.2: acknowledge at once).
    pub(crate) gap: bool,
    /// The client's FIN has been reached.
    pub(crate) finished: bool,
}

/// Receive sequence space (RFC 9293 §3.3.1) and buffer.
#[derive(Clone, Debug)]
pub(crate) struct Receive {
    /// Initial receive sequence number.
    pub(crate) irs: SeqNum,
    /// Next sequence number expected.
    pub(crate) nxt: SeqNum,
    /// The right edge announced; never moves left.
    pub(crate) adv: SeqNum,
    /// Bytes that may wait for the application.
    pub(crate) limit: u32,
    /// Sequence number of the client's FIN, once seen.
    fin: Option<SeqNum>,
    /// Unread bytes, and behind them those that wait behind a gap.
    ring: Ring,
    /// What waits behind gaps: ascending, apart from each other.
    blocks: ArrayVec<SackBlock, BLOCKS>,
    /// Where the latest segments lie that wait behind gaps, the last one first.
    recent: ArrayVec<SeqNum, SACK_BLOCKS>,
    /// Bytes that have come twice, to be reported once (RFC 2883).
    duplicate: Option<SackBlock>,
}

impl Receive {
    /// After the client's SYN.
    pub(crate) fn new(irs: SeqNum, limit: u32) -> Receive {
        Receive::resume(irs, irs + 1, irs + 1, limit, false)
    }

    /// From another server's values: everything before `nxt` was consumed there.
    pub(crate) fn resume(
        irs: SeqNum,
        nxt: SeqNum,
        adv: SeqNum,
        limit: u32,
        finished: bool,
    ) -> Receive {
        Receive {
            irs,
            nxt,
            adv,
            limit,
            fin: finished.then(|| nxt - 1),
            ring: Ring::default(),
            blocks: ArrayVec::new(),
            recent: ArrayVec::new(),
            duplicate: None,
        }
    }

    /// Bytes that may be announced now: up to the limit, and never less than announced before.
    pub(crate) fn window(&self) -> u32 {
        let free = self.limit.saturating_sub(self.ring.len() as u32);
        free.max(self.announced())
    }

    /// Bytes announced and not yet received.
    pub(crate) fn announced(&self) -> u32 {
        u32::try_from(self.adv.since(self.nxt)).unwrap_or(0)
    }

    /// The window field for a segment, and the edge that it announces (RFC 9293 §3.8.6.2.2: it moves in steps that are
    /// worth a segment).
    pub(crate) fn announce(&mut self, scale: WindowScale, mss: u32) -> Window {
        let announced = self.announced();
        let window = self.window();
        let step = mss.min(self.limit / 2);
        let wanted = if window - announced >= step {
            window
        } else {
            announced
        };
        let unit = scale.unit();
        // Rounding down must not take back what was announced.
        let mut field = wanted / unit;
        if field * unit < announced {
            field += 1;
        }
        let field = field.min(u32::from(u16::MAX));
        self.adv = self.adv.max(self.nxt + field * unit);
        Window::new(field as u16)
    }

    /// The application has read so much that the client should know (RFC 9293 §3.8.6.2.2), who may soon have to wait: while it has
    /// room for some segments, the next acknowledgment, or the answer, tells it.
    pub(crate) fn window_update_due(&self, mss: u32) -> bool {
        let gain = self.window() - self.announced();
        let step = mss.min(self.limit / 2);
        let worth = step.max((self.limit / 4).min(self.announced().max(2 * mss)));
        self.fin.is_none() && gain >= worth && self.announced() < ROOM * mss
    }

    /// Takes a segment's data, `seq` being that of its first byte.
    pub(crate) fn accept(&mut self, seq: SeqNum, payload: &[u8], fin: bool) -> Accepted {
        let before = self.nxt;
        let had_gap = !self.blocks.is_empty();
        let end = seq + payload.len() as u32;
        let edge = self.fin.unwrap_or_else(|| self.adv.max(self.nxt));
        if fin && self.fin.is_none() && end.le(edge) {
            self.fin = Some(end);
        }
        let from = seq.max(self.nxt);
        let to = end.min(edge);
        self.note_duplicate(seq, end);
        let mut gap = had_gap;
        if from.lt(to) {
            let data = &payload[from.since(seq) as usize..to.since(seq) as usize];
            gap |= from != self.nxt;
            self.store(from, to, data);
        }
        if self.fin == Some(self.nxt) && !self.finished() {
            self.nxt += 1;
        }
        Accepted {
            advanced: self.nxt != before,
            gap,
            finished: self.finished(),
        }
    }

    /// Notes a segment's bytes that are here already.
    pub(crate) fn note_duplicate(&mut self, seq: SeqNum, end: SeqNum) {
        let block = self.blocks.iter().find(|b| b.0.le(seq) && end.le(b.1));
        if seq.lt(end) && (seq.lt(self.nxt) || block.is_some()) {
            let right = if block.is_some() {
                end
            } else {
                end.min(self.nxt)
            };
            self.duplicate = Some((seq, right));
        }
    }

    fn store(&mut self, from: SeqNum, to: SeqNum, data: &[u8]) {
        let offset = self.ring.len() + from.since(self.nxt) as usize;
        if from == self.nxt {
            self.ring.write_at(offset, data);
            self.advance(to);
            while let Some(&(left, right)) = self.blocks.first() {
                if self.nxt.lt(left) {
                    break;
                }
                if self.nxt.lt(right) {
                    self.advance(right);
                }
                self.blocks.remove(0);
            }
        } else if self.insert(from, to) {
            self.ring.write_at(offset, data);
            self.recent.truncate(SACK_BLOCKS - 1);
            self.recent.insert(0, from);
        }
    }

    fn advance(&mut self, to: SeqNum) {
        self.ring.extend(to.since(self.nxt) as usize);
        self.nxt = to;
    }

    /// Adds a block, joined with those that it touches; `false` when there is no room.
    fn insert(&mut self, mut left: SeqNum, mut right: SeqNum) -> bool {
        let first = self
            .blocks
            .iter()
            .position(|b| left.le(b.1))
            .unwrap_or(self.blocks.len());
        let mut last = first;
        while let Some(&(l, r)) = self.blocks.get(last) {
            if right.lt(l) {
                break;
            }
            left = left.min(l);
            right = right.max(r);
            last += 1;
        }
        if first == last {
            return self.blocks.try_insert(first, (left, right)).is_ok();
        }
        self.blocks[first] = (left, right);
        self.blocks.drain(first + 1..last);
        true
    }

    /// SACK blocks to report: bytes that came twice (RFC 2883 §4), then the blocks in the order in which they last
    /// grew, the latest first (RFC 2018 §4).
    pub(crate) fn sack(&self) -> ArrayVec<SackBlock, SACK_BLOCKS> {
        let mut report: ArrayVec<SackBlock, SACK_BLOCKS> = self.duplicate.into_iter().collect();
        let holds = |seq: &SeqNum| self.blocks.iter().find(|b| b.0.le(*seq) && seq.lt(b.1));
        for block in self.recent.iter().filter_map(holds).chain(&self.blocks) {
            let told = report.iter().skip(usize::from(self.duplicate.is_some()));
            if !told.clone().any(|b| b == block) && report.try_push(*block).is_err() {
                break;
            }
        }
        report
    }

    /// The blocks were reported: a duplicate is told once.
    pub(crate) fn reported(&mut self) {
        self.duplicate = None;
    }

    /// Unread bytes that lie in one piece.
    pub(crate) fn readable(&self) -> &[u8] {
        self.ring.front()
    }

    /// Copies what stands `offset` bytes behind the first unread byte; how many bytes there were.
    pub(crate) fn read_at(&self, offset: usize, out: &mut [u8]) -> usize {
        self.ring.read_at(offset, out)
    }

    /// Bytes wait behind a gap.
    pub(crate) fn has_gap(&self) -> bool {
        !self.blocks.is_empty()
    }

    /// Unread bytes.
    pub(crate) fn unread(&self) -> usize {
        self.ring.len()
    }

    /// Nothing waits, in order or behind a gap.
    pub(crate) fn is_empty(&self) -> bool {
        self.ring.is_empty() && self.blocks.is_empty()
    }

    /// The application has taken `n` bytes.
    pub(crate) fn consume(&mut self, n: usize) {
        self.ring.consume(n, !self.blocks.is_empty());
    }

    /// Gives back what memory is not in use; `idle`: nothing is.
    pub(crate) fn release_memory(&mut self, idle: bool) {
        if self.blocks.is_empty() {
            self.ring.look(idle);
        }
    }

    /// Every byte before the client's FIN, and the FIN, has come.
    pub(crate) fn finished(&self) -> bool {
        self.fin.is_some_and(|fin| fin.lt(self.nxt))
    }

    /// Bytes of memory held by the buffer.
    pub(crate) fn memory(&self) -> usize {
        self.ring.capacity()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn read_all(rx: &mut Receive) -> Vec<u8> {
        let mut all = vec![];
        while !rx.readable().is_empty() {
            let piece = rx.readable().to_vec();
            rx.consume(piece.len());
            all.extend(piece);
        }
        all
    }

    #[test]
    fn the_latest_block_is_reported_first() {
        let mut rx = Receive::new(SeqNum::new(99), 10_000);
        rx.announce(WindowScale::NONE, 1000);
        let s = SeqNum::new;
        rx.accept(s(200), &[0; 50], false);
        rx.accept(s(400), &[0; 50], false);
        rx.accept(s(300), &[0; 50], false);
        assert_eq!(
            &rx.sack()[..],
            &[(s(300), s(350)), (s(400), s(450)), (s(200), s(250))]
        );
        rx.accept(s(250), &[0; 50], false);
        assert_eq!(&rx.sack()[..], &[(s(200), s(350)), (s(400), s(450))]);
        let accepted = rx.accept(s(100), &[0; 100], false);
        assert_eq!(
            accepted,
            Accepted {
                advanced: true,
                gap: true,
                finished: false
            }
        );
        assert_eq!(rx.nxt, s(350));
    }

    #[test]
    fn bytes_beyond_the_announced_edge_are_cut() {
        let mut rx = Receive::new(SeqNum::new(0), 100);
        assert_eq!(rx.announce(WindowScale::NONE, 50).raw(), 100);
        rx.accept(SeqNum::new(1), &[7; 150], true);
        assert_eq!((rx.unread(), rx.finished()), (100, false));
        assert_eq!(rx.announce(WindowScale::NONE, 50).raw(), 0);
    }

    #[test]
    fn a_client_hears_of_the_window_before_it_has_to_wait() {
        let mut rx = Receive::new(SeqNum::new(0), 10_000);
        rx.announce(WindowScale::NONE, 100);
        rx.limit = 100_000;
        let mut due = vec![];
        while rx.announced() > 0 && due.last() != Some(&true) {
            rx.accept(rx.nxt, &[1; 100], false);
            rx.consume(100);
            due.push(rx.window_update_due(100));
        }
        assert_eq!(rx.announced(), 700, "while there is room for some segments");
    }

    #[test]
    fn the_announced_edge_never_moves_left() {
        let mut rx = Receive::new(SeqNum::new(0), 1000);
        let mut edge = SeqNum::new(1);
        for shift in [7, 3, 7, 0, 7] {
            rx.announce(WindowScale::new(shift), 100);
            assert!(rx.adv.ge(edge));
            edge = rx.adv;
            rx.accept(rx.nxt, &[1; 93], false);
        }
    }

    proptest! {
        /// Any order, overlap and repetition of a stream's pieces gives the stream once.
        #[test]
        fn reassembles(
            irs in any::<u32>(),
            len in 1usize..6000,
            pieces in proptest::collection::vec((0usize..6000, 1usize..1500), 0..40),
            reads in any::<u64>(),
        ) {
            let data: Vec<u8> = (0..len).map(|i| (i * 7 + i / 251) as u8).collect();
            let start = SeqNum::new(irs) + 1;
            let mut rx = Receive::new(SeqNum::new(irs), 1 << 16);
            let mut got = vec![];
            let whole = (0..len).step_by(1000).map(|at| (at, 1000));
            for (i, (at, n)) in pieces.into_iter().chain(whole).enumerate() {
                rx.announce(WindowScale::NONE, 1000);
                let at = at.min(len);
                let to = (at + n).min(len);
                rx.accept(start + at as u32, &data[at..to], to == len);
                if reads >> (i % 64) & 1 == 1 {
                    got.extend(read_all(&mut rx));
                }
            }
            got.extend(read_all(&mut rx));
            prop_assert!(rx.finished());
            prop_assert_eq!(got, data);
        }
    }
}
