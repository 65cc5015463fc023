//! What acknowledgments say has arrived, and what is lost (RFC 5681, RFC 6675, RFC 8985).

use ipos_proto::SeqNum;

use super::congestion::Controller;
use super::endpoint::Endpoint;
use super::input::{Outcome, is_before};
use super::recovery::{DUPACK_THRESHOLD, Phase, Recovery, Undo, duplicate_report};
use super::segment::Segment;
use super::state::State;
use super::timers::Timer;
use crate::config::Tcp;
use crate::time::{Duration, Instant};

/// RFC 6298 §2.1.
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);

impl Endpoint {
    /// What the client says has arrived.
    pub(super) fn take_delivery(
        &mut self,
        now: Instant,
        tcp: &Tcp,
        segment: &Segment<'_>,
        window: u32,
        outcome: &mut Outcome,
    ) {
        let ack = segment.ack;
        let advances = ack.gt(self.tx.una);
        let in_flight = self.tx.in_flight();
        // A window that is not used does not grow (RFC 7661 §4.1).
        let in_use = self.pipe().saturating_mul(2) >= self.congestion.get().window();
        let (mut first, mut again) = (None, false);
        let (recovery, rtt) = (&mut self.recovery, &self.rtt);
        self.tx.flight.acknowledge(ack, |sent| {
            recovery.delivered(now, sent, rtt);
            again |= sent.again;
            first.get_or_insert(now.saturating_since(sent.at));
        });
        // Karn (RFC 6298 §3): what was sent again may have brought about the acknowledgment of all.
        let mut sample = first.filter(|_| !again);
        let acked = if advances {
            self.take_new_ack(now, tcp, ack, outcome)
        } else {
            0
        };
        self.take_sack(now, segment);
        if advances && sample.is_none() {
            sample = self.echoed_round_trip(now, segment);
        }
        if let Some(sample) = sample {
            self.rtt.sample(sample, tcp.min_rto, tcp.max_rto);
        }
        self.take_probe_answer(segment, advances, in_flight);
        if advances {
            self.undo_if_delayed(segment);
        }
        let was_fast = self.recovery.phase == Phase::Fast;
        if self.recovery.phase != Phase::Open && ack.ge(self.recovery.recover) {
            self.recovery.finish();
        }
        self.recovery.advance(ack);
        if self.sack {
            self.detect_losses(now);
        } else {
            let duplicate = !advances && segment.len() == 0 && window == self.tx.wnd;
            self.count_duplicates(advances, duplicate, acked);
        }
        self.take_losses(in_flight);
        if acked > 0 && in_use && !was_fast && self.recovery.phase != Phase::Fast {
            let srtt = Duration::from_micros(self.rtt.srtt.into());
            self.congestion.get_mut().on_ack(now, acked, srtt);
        }
        self.arm_after_ack(now, tcp, advances);
    }

    /// Data that is acknowledged for good; how many bytes.
    fn take_new_ack(&mut self, now: Instant, tcp: &Tcp, ack: SeqNum, outcome: &mut Outcome) -> u32 {
        let (acked, fin_acknowledged) = self.tx.acknowledge(ack);
        self.retries = 0;
        outcome.writable = acked > 0 && self.writable() > 0;
        if fin_acknowledged {
            self.state = self.state.on_fin_acknowledged();
            match self.state {
                State::TimeWait => self.enter_time_wait(now, tcp),
                State::FinWait2 if self.released => {
                    self.timers.set(Timer::Close, now + tcp.fin_wait_2)
                }
                _ => {}
            }
        }
        acked
    }

    /// RFC 2018, RFC 2883: what has arrived behind a gap, and what has come twice.
    fn take_sack(&mut self, now: Instant, segment: &Segment<'_>) {
        if !self.sack || segment.options.sack.is_empty() {
            return;
        }
        let ack = segment.ack;
        let (recovery, rtt) = (&mut self.recovery, &self.rtt);
        for &(left, right) in &segment.options.sack {
            if left.lt(right) && right.gt(ack) && right.le(self.tx.nxt) {
                self.tx.flight.sack(left.max(ack), right, |sent| {
                    recovery.delivered(now, sent, rtt)
                });
            }
        }
        let Some(end) = duplicate_report(&segment.options.sack, ack) else {
            return;
        };
        match self.recovery.probe {
            // RFC 8985 §7.4.2, case 1: nothing was lost.
            Some(probe) if probe.again && probe.end == end => self.recovery.probe = None,
            _ => {
                self.recovery.duplicate_reported(end, ack, self.tx.nxt);
                if let Some(before) = self.recovery.needless() {
                    self.undo(before);
                }
            }
        }
    }

    /// RFC 3522: the acknowledgment of all that was sent again echoes an earlier time than when the first was, so
    /// nothing was lost, but late.
    fn undo_if_delayed(&mut self, segment: &Segment<'_>) {
        if let Some((ours, theirs)) = self.timestamps.zip(segment.options.timestamp)
            && let Some((first, before)) = self.recovery.first_again()
            && self.recovery.phase != Phase::Open
            && !self.tx.flight.any_again()
            && is_before(theirs.echo, ours.value(first))
        {
            self.undo(before);
        }
    }

    fn undo(&mut self, before: Controller) {
        self.congestion.go_back(before);
        self.tx.flight.keep_all();
        self.recovery.finish();
        self.recovery.undo = None;
    }

    /// RFC 7323 §4.1: a round trip by the echoed timestamp, for segments that were sent more than once.
    fn echoed_round_trip(&self, now: Instant, segment: &Segment<'_>) -> Option<Duration> {
        let (ours, theirs) = self.timestamps.zip(segment.options.timestamp)?;
        let ms = i32::try_from(ours.value(now).wrapping_sub(theirs.echo)).ok()?;
        let took = Duration::from_millis(u64::try_from(ms).ok()?.max(1));
        // Longer than a first timeout: it is not a round trip, but a loss on the way back.
        (took <= FIRST_TIMEOUT).then_some(took)
    }

    /// RFC 8985 §7.4.2: a probe that repeated a segment may have hidden a loss. While only the probe's own end is acknowledged,
    /// the report of a duplicate may still come.
    fn take_probe_answer(&mut self, segment: &Segment<'_>, advances: bool, in_flight: u32) {
        let Some(probe) = self.recovery.probe else {
            return;
        };
        let repaired = probe.again && segment.ack.gt(probe.end);
        let needless = segment.ack == probe.end
            && !advances
            && segment.len() == 0
            && segment.options.sack.is_empty();
        // A recovery has made the window smaller already.
        if repaired && self.recovery.phase == Phase::Open {
            self.congestion.get_mut().on_loss(in_flight);
        }
        if repaired || needless || (!probe.again && segment.ack.ge(probe.end)) {
            self.recovery.probe = None;
        }
    }

    pub(super) fn detect_losses(&mut self, now: Instant) {
        let flight = &mut self.tx.flight;
        let (latest, end, wait) = self.recovery.rack(&self.rtt, flight.sacked_segments());
        let losses = flight.detect(now, latest, end, wait);
        match losses.next {
            Some(next) => self.timers.set(Timer::Reordering, next),
            None => self.timers.stop(Timer::Reordering),
        }
    }

    /// RFC 6582, for clients without SACK.
    fn count_duplicates(&mut self, advances: bool, duplicate: bool, acked: u32) {
        match self.recovery.phase {
            Phase::Open if advances => self.recovery.dupacks = 0,
            Phase::Open if duplicate && self.tx.outstanding() => {
                self.recovery.dupacks += 1;
                if self.recovery.dupacks >= DUPACK_THRESHOLD
                    && self.tx.una.ge(self.recovery.recover)
                {
                    self.tx.flight.lose_first();
                }
            }
            Phase::Fast if advances => {
                // A partial acknowledgment: the next segment is lost too.
                self.tx.flight.lose_first();
                let segments = acked / u32::from(self.snd_mss);
                self.recovery.dupacks = self.recovery.dupacks.saturating_sub(segments);
                self.force = true;
            }
            Phase::Fast if duplicate => self.recovery.dupacks += 1,
            _ => {}
        }
    }

    /// Something is lost: recovery begins.
    pub(super) fn take_losses(&mut self, in_flight: u32) {
        if self.tx.flight.lost() == 0 || self.recovery.phase != Phase::Open {
            return;
        }
        let undo = Undo::new(self.congestion, self.tx.una);
        self.congestion.get_mut().on_loss(in_flight);
        self.recovery.begin(Phase::Fast, self.tx.nxt, Some(undo));
        self.force = true;
    }

    fn arm_after_ack(&mut self, now: Instant, tcp: &Tcp, advances: bool) {
        if self.state == State::TimeWait {
            return;
        }
        if !self.tx.outstanding() {
            for timer in [Timer::Retransmission, Timer::Reordering, Timer::Probe] {
                self.timers.stop(timer);
            }
            return;
        }
        if advances {
            self.arm_retransmission(now, tcp);
        }
        self.arm_probe(now, tcp);
    }

    /// RFC 8985 §7.2. In a recovery too, which the RFC leaves to the retransmission timer: with a few segments in flight one lost
    /// acknowledgment is often the last (RFC 9002 §6.2 probes then as well).
    pub(super) fn arm_probe(&mut self, now: Instant, tcp: &Tcp) {
        let flight = &self.tx.flight;
        let recovering = self.recovery.phase != Phase::Open && self.retries == 0;
        let tail = self.recovery.phase == Phase::Open
            && flight.sacked_segments() == 0
            // While only the end of an earlier one is acknowledged, its judgement is open, but it is not in flight.
            && self.recovery.probe.is_none_or(|probe| probe.end.le(self.tx.una));
        let wanted = self.sack && (tail || recovering) && self.state.is_synchronized();
        if wanted {
            let after = Recovery::probe_timeout(&self.rtt, flight.segments(), tcp.min_rto);
            self.timers.set(Timer::Probe, now + after);
        } else {
            self.timers.stop(Timer::Probe);
        }
    }
}
