//! What is in flight: every segment that was sent and is not acknowledged, and when it was sent (RFC 8985 §5.2).

use alloc::collections::VecDeque;

use ipos_proto::SeqNum;

use crate::time::Instant;

/// Segments in flight at most. Full: nothing new is sent until some are acknowledged.
const BOUND: usize = 4096;

/// A segment in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) start: SeqNum,
    pub(crate) end: SeqNum,
    /// When it was last sent.
    pub(crate) at: Instant,
    /// It was sent more than once.
    pub(crate) again: bool,
    /// The client has it (RFC 2018).
    pub(crate) sacked: bool,
    /// It counts as lost, and was not sent again since.
    pub(crate) lost: bool,
}

impl Sent {
    /// Sequence numbers that it occupies.
    pub(crate) fn len(&self) -> u32 {
        self.end.since(self.start).max(0) as u32
    }

    /// RFC 8985 §5.1: later sent, or in the same instant and with a higher end.
    fn is_after(&self, at: Instant, end: SeqNum) -> bool {
        self.at > at || (self.at == at && self.end.gt(end))
    }
}

/// The segments in flight, in sequence order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Flight {
    queue: VecDeque<Sent>,
    sacked: u32,
    sacked_segments: u32,
    lost: u32,
    /// Segments that were sent again and are still in flight.
    again: u32,
}

/// What RACK found (RFC 8985 §6.2, step 5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Losses {
    /// Segments were newly marked.
    pub(crate) any: bool,
    /// When the next one counts as lost, if nothing comes before.
    pub(crate) next: Option<Instant>,
}

impl Flight {
    pub(crate) fn is_full(&self) -> bool {
        self.queue.len() >= BOUND
    }

    pub(crate) fn segments(&self) -> usize {
        self.queue.len()
    }

    /// Bytes that the client has behind a gap.
    pub(crate) fn sacked(&self) -> u32 {
        self.sacked
    }

    /// Segments that the client has behind a gap.
    pub(crate) fn sacked_segments(&self) -> u32 {
        self.sacked_segments
    }

    /// Bytes that count as lost and were not sent again.
    pub(crate) fn lost(&self) -> u32 {
        self.lost
    }

    /// Segments are in flight that were sent more than once.
    pub(crate) fn any_again(&self) -> bool {
        self.again > 0
    }

    /// Adds a segment behind all others.
    pub(crate) fn push(&mut self, start: SeqNum, end: SeqNum, at: Instant) {
        self.queue.push_back(Sent {
            start,
            end,
            at,
            again: false,
            sacked: false,
            lost: false,
        });
    }

    /// Takes out what `una` acknowledges, telling `delivered` of every segment that was not known to have arrived.
    pub(crate) fn acknowledge(&mut self, una: SeqNum, mut delivered: impl FnMut(&Sent)) {
        while let Some(front) = self.queue.front_mut() {
            if front.start.ge(una) {
                return;
            }
            if front.end.gt(una) {
                // A part of it: the client was told of a smaller segment, or has no room for all.
                let part = una.since(front.start) as u32;
                front.start = una;
                self.sacked -= if front.sacked { part } else { 0 };
                self.lost -= if front.lost { part } else { 0 };
                return;
            }
            let sent = *front;
            self.queue.pop_front();
            self.forget(&sent);
            if !sent.sacked {
                delivered(&sent);
            }
        }
    }

    fn forget(&mut self, sent: &Sent) {
        if sent.sacked {
            self.sacked -= sent.len();
            self.sacked_segments -= 1;
        }
        if sent.lost {
            self.lost -= sent.len();
        }
        self.again -= u32::from(sent.again);
    }

    /// Marks what a block covers, telling `delivered` of every segment that is new.
    pub(crate) fn sack(&mut self, left: SeqNum, right: SeqNum, mut delivered: impl FnMut(&Sent)) {
        let from = self.queue.partition_point(|sent| sent.start.lt(left));
        for sent in self.queue.range_mut(from..) {
            if sent.end.gt(right) {
                break;
            }
            if sent.sacked {
                continue;
            }
            sent.sacked = true;
            self.sacked += sent.len();
            self.sacked_segments += 1;
            if sent.lost {
                sent.lost = false;
                self.lost -= sent.len();
            }
            delivered(sent);
        }
    }

    /// The client has taken back what it had reported (RFC 2018 §8).
    pub(crate) fn renege(&mut self) {
        for sent in &mut self.queue {
            sent.sacked = false;
        }
        self.sacked = 0;
        self.sacked_segments = 0;
    }

    /// The first segment was reported, yet not acknowledged.
    pub(crate) fn is_reneged(&self) -> bool {
        self.queue.front().is_some_and(|sent| sent.sacked)
    }

    /// Marks the first segment lost, unless it was sent again already; whether it was marked.
    pub(crate) fn lose_first(&mut self) -> bool {
        match self.queue.front_mut() {
            Some(first) if !first.lost && !first.sacked => {
                first.lost = true;
                self.lost += first.len();
                true
            }
            _ => false,
        }
    }

    /// Everything that the client is not known to have is lost (RFC 6298 §5.4).
    pub(crate) fn lose_all(&mut self) {
        for sent in &mut self.queue {
            if !sent.sacked && !sent.lost {
                sent.lost = true;
                self.lost += sent.len();
            }
        }
    }

    /// Nothing is lost after all.
    pub(crate) fn keep_all(&mut self) {
        for sent in &mut self.queue {
            sent.lost = false;
        }
        self.lost = 0;
    }

    /// RFC 8985 §6.2, step 5: a segment is lost when one sent later has arrived, and `wait` has passed since it was sent.
    pub(crate) fn detect(
        &mut self,
        now: Instant,
        latest: Instant,
        end: SeqNum,
        wait: crate::time::Duration,
    ) -> Losses {
        let mut losses = Losses::default();
        // In order and each sent once: nothing in flight is older than what has arrived.
        if self.sacked == 0 && self.again == 0 {
            return losses;
        }
        for sent in self
            .queue
            .iter_mut()
            .filter(|sent| !sent.sacked && !sent.lost)
        {
            if sent.is_after(latest, end) {
                continue;
            }
            let due = sent.at + wait;
            if due <= now {
                sent.lost = true;
                self.lost += sent.len();
                losses.any = true;
            } else {
                losses.next = Some(losses.next.map_or(due, |next| next.max(due)));
            }
        }
        losses
    }

    /// The first segment that counts as lost.
    pub(crate) fn first_lost(&self) -> Option<Sent> {
        if self.lost == 0 {
            return None;
        }
        self.queue.iter().find(|sent| sent.lost).copied()
    }

    /// The first segment that the client is not known to have.
    pub(crate) fn first_missing(&self) -> Option<Sent> {
        self.queue.iter().find(|sent| !sent.sacked).copied()
    }

    /// The last one.
    pub(crate) fn last_missing(&self) -> Option<Sent> {
        self.queue.iter().rev().find(|sent| !sent.sacked).copied()
    }

    /// The segment that begins at `start` was sent again, its first `len` bytes at least. What lies behind them becomes a
    /// segment of its own.
    pub(crate) fn sent_again(&mut self, start: SeqNum, len: u32, now: Instant) {
        let index = self.queue.partition_point(|sent| sent.start.lt(start));
        let Some(sent) = self.queue.get_mut(index) else {
            return;
        };
        let end = start + len;
        let rest = sent.end.gt(end).then_some(Sent {
            start: end,
            ..*sent
        });
        if sent.lost {
            sent.lost = false;
            self.lost -= sent.len() - rest.map_or(0, |rest| rest.len());
        }
        if !sent.again {
            sent.again = true;
            self.again += 1;
        }
        sent.at = now;
        if let Some(rest) = rest {
            sent.end = end;
            self.again += u32::from(rest.again);
            self.queue.insert(index + 1, rest);
        }
    }

    /// Gives the memory back while nothing is in flight.
    pub(crate) fn release(&mut self) {
        if self.queue.is_empty() {
            self.queue = VecDeque::new();
        }
    }

    /// Bytes of memory held.
    pub(crate) fn memory(&self) -> usize {
        self.queue.capacity() * size_of::<Sent>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::Duration;
    use proptest::prelude::*;

    fn s(n: u32) -> SeqNum {
        SeqNum::new(n)
    }

    fn at(ms: u64) -> Instant {
        Instant::from_millis(ms)
    }

    fn ten() -> Flight {
        let mut flight = Flight::default();
        for i in 0..10 {
            flight.push(s(100 * i), s(100 * (i + 1)), at(u64::from(i)));
        }
        flight
    }

    #[test]
    fn a_segment_is_lost_when_a_later_one_arrives_and_the_reordering_window_is_over() {
        let mut flight = ten();
        let mut arrived = alloc::vec![];
        flight.sack(s(300), s(500), |sent| arrived.push(sent.start.raw()));
        assert_eq!(arrived, [300, 400]);
        let wait = Duration::from_millis(10);
        let losses = flight.detect(at(11), at(4), s(500), wait);
        assert_eq!(
            (losses.any, losses.next, flight.lost()),
            (true, Some(at(12)), 200)
        );
        assert_eq!(flight.first_lost().unwrap().start, s(0));
        flight.sent_again(s(0), 100, at(11));
        assert_eq!(
            (flight.lost(), flight.first_lost().unwrap().start),
            (100, s(100))
        );
    }

    #[test]
    fn a_shorter_retransmission_splits_the_segment() {
        let mut flight = ten();
        flight.lose_all();
        flight.sent_again(s(0), 60, at(50));
        assert_eq!((flight.segments(), flight.lost()), (11, 940));
        assert_eq!(
            flight.first_lost().map(|sent| (sent.start, sent.end)),
            Some((s(60), s(100)))
        );
        flight.acknowledge(s(80), |_| {});
        assert_eq!((flight.segments(), flight.lost()), (10, 920));
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push(u32),
        Ack(u32),
        Sack(u32, u32),
        LoseAll,
        LoseFirst,
        Again(u32),
        Renege,
        Detect(u64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (1u32..200).prop_map(Op::Push),
            (0u32..3000).prop_map(Op::Ack),
            (0u32..3000, 0u32..600).prop_map(|(l, n)| Op::Sack(l, l + n)),
            Just(Op::LoseAll),
            Just(Op::LoseFirst),
            (1u32..300).prop_map(Op::Again),
            Just(Op::Renege),
            (0u64..100).prop_map(Op::Detect),
        ]
    }

    proptest! {
        /// The sums always agree with the segments, which stay in order and without overlap.
        #[test]
        fn sums_agree(base in any::<u32>(), ops in proptest::collection::vec(op(), 0..80)) {
            let base = s(base);
            let mut flight = Flight::default();
            let (mut una, mut nxt) = (0u32, 0u32);
            for (i, op) in ops.into_iter().enumerate() {
                let now = at(i as u64);
                match op {
                    Op::Push(len) => {
                        flight.push(base + nxt, base + nxt + len, now);
                        nxt += len;
                    }
                    Op::Ack(to) => {
                        una = to.clamp(una, nxt);
                        flight.acknowledge(base + una, |_| {});
                    }
                    Op::Sack(left, right) => flight.sack(base + left, base + right, |_| {}),
                    Op::LoseAll => flight.lose_all(),
                    Op::LoseFirst => { flight.lose_first(); }
                    Op::Again(len) => if let Some(first) = flight.first_lost() {
                        flight.sent_again(first.start, len.min(first.len()), now);
                    },
                    Op::Renege => flight.renege(),
                    Op::Detect(latest) => { flight.detect(now, at(latest), base + nxt, Duration::ZERO); }
                }
                let sum = |keep: fn(&Sent) -> bool| flight.queue.iter().filter(|x| keep(x)).map(Sent::len).sum::<u32>();
                prop_assert_eq!(flight.sacked, sum(|x| x.sacked));
                prop_assert_eq!(flight.lost, sum(|x| x.lost));
                prop_assert_eq!(flight.sacked_segments as usize, flight.queue.iter().filter(|x| x.sacked).count());
                prop_assert_eq!(flight.again as usize, flight.queue.iter().filter(|x| x.again).count());
                let mut edge = una;
                for sent in &flight.queue {
                    prop_assert_eq!(sent.start, base + edge);
                    prop_assert!(sent.end.gt(sent.start) && !(sent.lost && sent.sacked));
                    edge += sent.len();
                }
                prop_assert_eq!(edge, nxt);
            }
        }
    }
}
