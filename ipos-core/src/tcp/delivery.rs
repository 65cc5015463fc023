//! What acknowledgments say has arrived, and what is lost (RFC 5681, RFC 6675, RFC 8985).

use ipos_proto::SeqNum;

use super::endpoint::Endpoint;
use super::input::Outcome;
use super::recovery::{DUPACK_THRESHOLD, Phase, Recovery, Undo, is_duplicate_report};
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
        let mut sample = None;
        let (recovery, rtt) = (&mut self.recovery, &self.rtt);
        self.tx.flight.acknowledge(ack, |sent| {
            recovery.delivered(now, sent, rtt);
            // Karn: one that was sent again tells nothing (RFC 6298 §3).
            if !sent.again {
                sample.get_or_insert(now.saturating_since(sent.at));
            }
        });
        let acked = if advances {
            self.take_new_ack(now, tcp, ack, outcome)
        } else {
            0
        };
        let duplicates = self.take_sack(now, segment);
        if advances && sample.is_none() {
            sample = self.echoed_round_trip(now, segment);
        }
        if let Some(sample) = sample {
            self.rtt.sample(sample, tcp.min_rto, tcp.max_rto);
        }
        self.take_probe_answer(ack, duplicates, in_flight);
        let was_open = self.recovery.phase == Phase::Open;
        if !was_open && ack.ge(self.recovery.recover) {
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
        if acked > 0
            && in_use
            && self.recovery.phase != Phase::Fast
            && was_open | (self.recovery.phase == Phase::Timeout)
        {
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

    /// RFC 2018, RFC 2883: what has arrived behind a gap; whether bytes have come twice.
    fn take_sack(&mut self, now: Instant, segment: &Segment<'_>) -> bool {
        if !self.sack || segment.options.sack.is_empty() {
            return false;
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
        let duplicates = is_duplicate_report(&segment.options.sack, ack);
        if duplicates {
            self.recovery.duplicate_reported(ack, self.tx.nxt);
            self.undo_if_needless();
        }
        duplicates
    }

    /// Every segment that was sent again had arrived the first time (RFC 3708).
    fn undo_if_needless(&mut self) {
        if let Some(Undo {
            cwnd,
            ssthresh,
            needed: 0,
            any: true,
        }) = self.recovery.undo
        {
            let cwnd = cwnd.max(self.congestion.get().window());
            self.congestion.get_mut().restore(cwnd, ssthresh);
            self.tx.flight.keep_all();
            self.recovery.finish();
        }
    }

    /// RFC 7323 §4.1: a round trip by the echoed timestamp, for segments that were sent more than once.
    fn echoed_round_trip(&self, now: Instant, segment: &Segment<'_>) -> Option<Duration> {
        let (ours, theirs) = self.timestamps.zip(segment.options.timestamp)?;
        let ms = i32::try_from(ours.value(now).wrapping_sub(theirs.echo)).ok()?;
        let took = Duration::from_millis(u64::try_from(ms).ok()?.max(1));
        // Longer than a first timeout: it is not a round trip, but a loss on the way back.
        (took <= FIRST_TIMEOUT).then_some(took)
    }

    /// RFC 8985 §7.4: a probe that repeated a segment may have hidden a loss.
    fn take_probe_answer(&mut self, ack: SeqNum, duplicates: bool, in_flight: u32) {
        if let Some(probe) = self.recovery.probe
            && ack.ge(probe.end)
        {
            self.recovery.probe = None;
            if probe.again && !duplicates {
                self.congestion.get_mut().on_loss(in_flight);
            }
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
        let congestion = self.congestion.get_mut();
        let undo = Undo {
            cwnd: congestion.window(),
            ssthresh: congestion.threshold(),
            needed: 0,
            any: false,
        };
        congestion.on_loss(in_flight);
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

    /// RFC 8985 §7.2.
    pub(super) fn arm_probe(&mut self, now: Instant, tcp: &Tcp) {
        let flight = &self.tx.flight;
        let wanted = self.sack
            && self.recovery.phase == Phase::Open
            && flight.sacked_segments() == 0
            && self.recovery.probe.is_none()
            && self.state.is_synchronized();
        if wanted {
            let after = Recovery::probe_timeout(&self.rtt, flight.segments(), tcp.min_rto);
            self.timers.set(Timer::Probe, now + after);
        } else {
            self.timers.stop(Timer::Probe);
        }
    }
}
