//! Loss recovery: RACK-TLP (RFC 8985) where the client does SACK, NewReno (RFC 6582) where it does not.

use ipos_proto::SeqNum;

use super::congestion::Controller;
use super::flight::Sent;
use super::rtt::Rtt;
use super::segment::SackBlock;
use crate::time::{Duration, Instant, micros};

/// RFC 6582, RFC 8985 §6.2: so many duplicates mean a loss whatever the clock says.
pub(crate) const DUPACK_THRESHOLD: u32 = 3;
/// RFC 8985 §6.2, step 4: recoveries for which a widened reordering window stays.
const REORDERING_PERSISTS: u8 = 16;
/// Least time until a probe: below it the host's own scheduling looks like a loss.
const MIN_PROBE: Duration = Duration::from_millis(2);

/// How the connection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Nothing is known to be lost.
    Open,
    /// Fast recovery, until `recover` is acknowledged.
    Fast,
    /// After a retransmission timeout, until `recover` is acknowledged.
    Timeout,
}

/// What to go back to when a recovery turns out to have been for nothing. It stays when the recovery is over: the
/// reports of what was sent again come behind the acknowledgment that ends it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Undo {
    /// The congestion controller before (RFC 9438 §4.9).
    before: Controller,
    /// What was acknowledged then: duplicates in front of it are not of this recovery.
    from: SeqNum,
    /// Segments sent again that the client has not reported as duplicates (RFC 2883).
    needed: u32,
    /// When the first was sent again.
    first: Option<Instant>,
}

impl Undo {
    /// Before a recovery, `una` being the oldest byte not acknowledged.
    pub(crate) fn new(before: Controller, una: SeqNum) -> Undo {
        Undo {
            before,
            from: una,
            needed: 0,
            first: None,
        }
    }

    /// A segment was sent again because it was taken for lost.
    pub(crate) fn sent_again(&mut self, now: Instant) {
        self.needed = self.needed.saturating_add(1);
        self.first.get_or_insert(now);
    }
}

/// How far behind the acknowledgments a duplicate may be reported, in bytes.
const UNDO_REACH: i32 = 1 << 30;

/// A tail loss probe under way (RFC 8985 §7).
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    pub(crate) end: SeqNum,
    /// It repeats a segment, so that its acknowledgment may hide a loss.
    pub(crate) again: bool,
}

/// Recovery state of one connection.
#[derive(Clone, Debug)]
pub(crate) struct Recovery {
    pub(crate) phase: Phase,
    /// What was sent when the phase began.
    pub(crate) recover: SeqNum,
    /// Duplicate acknowledgments without SACK.
    pub(crate) dupacks: u32,
    pub(crate) probe: Option<Probe>,
    pub(crate) undo: Option<Undo>,
    /// RACK: when the latest segment that has arrived was sent, its end, and its round trip in µs.
    latest: Instant,
    end: SeqNum,
    rtt: u32,
    /// The highest that has arrived.
    highest: SeqNum,
    /// Segments were seen to overtake each other.
    reordering: bool,
    /// Steps of a quarter round trip that the reordering window has.
    steps: u8,
    persists: u8,
    /// The end of the round in which the window was last widened.
    widened: SeqNum,
}

impl Recovery {
    pub(crate) fn new(nxt: SeqNum) -> Recovery {
        Recovery {
            phase: Phase::Open,
            recover: nxt,
            dupacks: 0,
            probe: None,
            undo: None,
            latest: Instant::ZERO,
            end: nxt,
            rtt: 0,
            highest: nxt,
            reordering: false,
            steps: 1,
            persists: 0,
            widened: nxt,
        }
    }

    /// RFC 8985 §6.2, steps 2 and 3: a segment has arrived.
    pub(crate) fn delivered(&mut self, now: Instant, sent: &Sent, rtt: &Rtt) {
        let took = now.saturating_since(sent.at);
        // The acknowledgment may be of the first sending.
        let ambiguous = sent.again && micros(took) < u64::from(rtt.min);
        if !ambiguous
            && (sent.at > self.latest || (sent.at == self.latest && sent.end.gt(self.end)))
        {
            self.latest = sent.at;
            self.end = sent.end;
            self.rtt = u32::try_from(micros(took)).unwrap_or(u32::MAX);
        }
        if sent.end.gt(self.highest) {
            self.highest = sent.end;
        } else if !sent.again {
            self.reordering = true;
        }
    }

    /// Everything before `una` is settled. Marks that stayed behind would seem ahead after 2 GB.
    pub(crate) fn advance(&mut self, una: SeqNum) {
        self.recover = self.recover.max(una);
        self.widened = self.widened.max(una);
        self.undo = self.undo.filter(|undo| una.since(undo.from) < UNDO_REACH);
    }

    /// RFC 2883: the client has had bytes up to `end` twice. RFC 8985 §6.2, step 4: the window was too small.
    pub(crate) fn duplicate_reported(&mut self, end: SeqNum, una: SeqNum, nxt: SeqNum) {
        if una.ge(self.widened) {
            self.widened = nxt;
            self.steps = self.steps.saturating_add(1);
            self.persists = REORDERING_PERSISTS;
            self.reordering = true;
        }
        if let Some(undo) = &mut self.undo
            && end.gt(undo.from)
        {
            undo.needed = undo.needed.saturating_sub(1);
        }
    }

    /// Every segment that was sent again had arrived the first time (RFC 3708): what to go back to.
    pub(crate) fn needless(&self) -> Option<Controller> {
        let undo = self.undo?;
        (undo.needed == 0 && undo.first.is_some()).then_some(undo.before)
    }

    /// When the first segment of this recovery was sent again, and what to go back to (RFC 3522).
    pub(crate) fn first_again(&self) -> Option<(Instant, Controller)> {
        let undo = self.undo?;
        Some((undo.first?, undo.before))
    }

    /// RFC 8985 §6.2, step 4: how long after a round trip a segment may still come.
    fn reordering_window(&self, rtt: &Rtt, sacked_segments: u32) -> Duration {
        if !self.reordering && (self.phase != Phase::Open || sacked_segments >= DUPACK_THRESHOLD) {
            return Duration::ZERO;
        }
        let quarter = u64::from(rtt.min) / 4;
        Duration::from_micros((quarter * u64::from(self.steps)).min(u64::from(rtt.srtt)))
    }

    /// What `Flight::detect` needs.
    pub(crate) fn rack(&self, rtt: &Rtt, sacked_segments: u32) -> (Instant, SeqNum, Duration) {
        (
            self.latest,
            self.end,
            Duration::from_micros(self.rtt.into()) + self.reordering_window(rtt, sacked_segments),
        )
    }

    /// A phase begins.
    pub(crate) fn begin(&mut self, phase: Phase, recover: SeqNum, undo: Option<Undo>) {
        self.phase = phase;
        self.recover = recover;
        self.probe = None;
        self.undo = undo;
    }

    /// The phase is over.
    pub(crate) fn finish(&mut self) {
        if self.phase == Phase::Fast {
            self.persists = self.persists.saturating_sub(1);
            if self.persists == 0 {
                self.steps = 1;
            }
        }
        self.phase = Phase::Open;
        self.dupacks = 0;
    }

    /// RFC 8985 §7.2: when a probe should go out.
    pub(crate) fn probe_timeout(rtt: &Rtt, segments: usize, ack_delay: Duration) -> Duration {
        let twice = Duration::from_micros(2 * u64::from(rtt.srtt));
        let timeout = if rtt.srtt == 0 {
            Duration::from_secs(1)
        } else {
            twice.max(MIN_PROBE)
        };
        // A single segment's acknowledgment may be delayed.
        if segments == 1 {
            timeout + ack_delay
        } else {
            timeout
        }
    }
}

/// Where the bytes end that the first block reports to have come twice, if it does (RFC 2883 §4).
pub(crate) fn duplicate_report(blocks: &[SackBlock], ack: SeqNum) -> Option<SeqNum> {
    let duplicates = match blocks {
        [first, ..] if first.1.le(ack) => true,
        [first, second, ..] => first.0.ge(second.0) && first.1.le(second.1),
        _ => false,
    };
    blocks.first().filter(|_| duplicates).map(|block| block.1)
}
