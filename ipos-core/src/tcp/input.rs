//! Segments and timeouts in (RFC 9293 §3.10.7, RFC 5961, RFC 7323 §5).

use ipos_proto::SeqNum;

use super::endpoint::{AckDue, Endpoint};
use super::recovery::{DUPACK_THRESHOLD, Phase, Recovery, Undo, is_duplicate_report};
use super::segment::{Flags, Options, Outgoing, Segment, Timestamp};
use super::state::State;
use super::timers::Timer;
use crate::config::{KeepAlive, Tcp};
use crate::event::Failure;
use crate::time::{Duration, Instant};

/// RFC 7323 §5.5: after so long TS.Recent says nothing.
const TS_RECENT_VALID: Duration = Duration::from_secs(24 * 24 * 3600);
/// RFC 6298 §5.7, in µs.
const RTO_AFTER_LOST_SYN: u32 = 3_000_000;
/// RFC 6298 §2.1.
const FIRST_TIMEOUT: Duration = Duration::from_secs(1);
/// How far a TSecr may be ahead of our clock to be believed, in ms: what a migration can take.
const CLOCK_AHEAD: i32 = 60_000;

/// What a segment did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// The segment's data or FIN was taken in, or had been.
    pub(crate) accepted: bool,
    /// New bytes, or the end of the stream, may be read.
    pub(crate) readable: bool,
    /// Room to write came back.
    pub(crate) writable: bool,
    /// The connection is gone.
    pub(crate) failed: Option<Failure>,
    /// A SYN that opens a new connection in place of one in TIME-WAIT (RFC 9293 §3.10.7.4).
    pub(crate) reopen: bool,
    /// The segment must be answered with RST (it belongs to no connection of this kind).
    pub(crate) refuse: bool,
}

/// The RST that answers `segment` when no connection takes it (RFC 9293 §3.10.7.1); none for a RST.
pub(crate) fn reset_for(segment: &Segment<'_>) -> Option<Outgoing> {
    if segment.flags.rst {
        return None;
    }
    let (seq, ack, flags) = if segment.flags.ack {
        (segment.ack, SeqNum::default(), Flags::RST)
    } else {
        (
            SeqNum::default(),
            segment.seq + segment.len(),
            Flags::RST_ACK,
        )
    };
    Some(Outgoing {
        seq,
        ack,
        flags,
        window: 0,
        options: Options::default(),
        payload: (0, 0),
    })
}

impl Endpoint {
    /// A segment of this connection, its checksum verified.
    pub(crate) fn handle(&mut self, now: Instant, tcp: &Tcp, segment: &Segment<'_>) -> Outcome {
        let mut outcome = Outcome::default();
        if self.state == State::Closed || self.reset {
            return outcome;
        }
        if self.is_duplicate_syn(segment) {
            self.syn_ack = true;
            return outcome;
        }
        if self.state == State::TimeWait
            && segment.flags.syn
            && !segment.flags.rst
            && segment.seq.gt(self.rx.nxt)
        {
            outcome.reopen = true;
            return outcome;
        }
        if !self.is_acceptable(now, segment) {
            if !segment.flags.rst {
                if segment.payload.is_empty() {
                    self.challenge(now);
                } else {
                    self.rx
                        .note_duplicate(segment.seq, segment.seq + segment.payload.len() as u32);
                    self.ack_due = AckDue::Now;
                }
                if self.state == State::TimeWait {
                    self.enter_time_wait(now, tcp);
                }
            }
            return outcome;
        }
        if segment.flags.rst {
            // RFC 5961 §3.2: only the exact number resets.
            if segment.seq == self.rx.nxt {
                self.state = State::Closed;
                outcome.failed = Some(Failure::Reset);
            } else {
                self.challenge(now);
            }
            return outcome;
        }
        if segment.flags.syn {
            // RFC 5961 §4.2.
            self.challenge(now);
            return outcome;
        }
        if !segment.flags.ack || !self.take_ack(now, tcp, segment, &mut outcome) {
            return outcome;
        }
        self.heard = now;
        self.keep_alives = 0;
        self.take_timestamp(now, segment);
        self.take_data(now, tcp, segment, &mut outcome);
        outcome
    }

    /// RFC 9293 §3.10.7.4 first, in SYN-RECEIVED: the client has not seen our SYN-ACK.
    fn is_duplicate_syn(&self, segment: &Segment<'_>) -> bool {
        let Flags { syn, ack, rst, .. } = segment.flags;
        self.state == State::SynReceived && syn && !ack && !rst && segment.seq == self.rx.irs
    }

    /// PAWS (RFC 7323 §5.3) and the sequence number test (RFC 9293 §3.10.7.4).
    fn is_acceptable(&self, now: Instant, segment: &Segment<'_>) -> bool {
        if let (Some(ours), Some(theirs)) = (self.timestamps, segment.options.timestamp)
            && !segment.flags.rst
            && is_before(theirs.value, ours.recent)
            && now.saturating_since(ours.recent_at) < TS_RECENT_VALID
            && self.replayed.is_none_or(|until| segment.seq.ge(until))
        {
            return false;
        }
        let nxt = self.rx.nxt;
        let window = self.rx.announced();
        let in_window = |seq: SeqNum| seq.ge(nxt) && seq.lt(nxt + window);
        match (segment.len(), window) {
            // The right edge itself counts: a client that has filled the window acknowledges from there.
            (0, _) => in_window(segment.seq) || segment.seq == nxt + window,
            // With a closed window the ACK and the RST still count (RFC 9293 §3.10.7.4).
            (_, 0) => segment.seq == nxt,
            (len, _) => in_window(segment.seq) || in_window(segment.seq + (len - 1)),
        }
    }

    /// The ACK part of a segment; `false` ends its processing.
    fn take_ack(
        &mut self,
        now: Instant,
        tcp: &Tcp,
        segment: &Segment<'_>,
        outcome: &mut Outcome,
    ) -> bool {
        let ack = segment.ack;
        if self.state == State::SynReceived {
            if ack != self.tx.nxt || self.tx.una == self.tx.nxt {
                outcome.refuse = true;
                return false;
            }
            self.established(segment, tcp);
        }
        // RFC 5961 §5.2.
        if ack.gt(self.tx.nxt) || ack.lt(self.tx.una - self.tx.max_wnd) {
            self.challenge(now);
            return false;
        }
        let window = u32::from(segment.window) << self.scale.map_or(0, |scale| scale.send);
        self.follow_clock(now, segment);
        if ack.ge(self.tx.una) {
            self.take_delivery(now, tcp, segment, window, outcome);
        }
        self.take_window(now, segment, window);
        true
    }

    fn established(&mut self, segment: &Segment<'_>, tcp: &Tcp) {
        self.state = State::Established;
        self.syn_ack = false;
        self.tx.wl1 = segment.seq - 1;
        self.arm_keep_alive(tcp);
        if self.retries > 0 {
            // RFC 6298 §5.7, RFC 5681 §3.1: the path has lost our SYN-ACK.
            self.rtt.rto = self.rtt.rto.max(RTO_AFTER_LOST_SYN);
            self.rtt.shift = 0;
            self.congestion
                .get_mut()
                .restore(u32::from(self.snd_mss), u32::MAX);
        }
    }

    /// Our clock must not be behind a TSval that this connection has already sent from another server.
    fn follow_clock(&mut self, now: Instant, segment: &Segment<'_>) {
        if let (Some(ours), Some(Timestamp { echo, .. })) =
            (&mut self.timestamps, segment.options.timestamp)
        {
            let ahead = echo.wrapping_sub(ours.value(now)) as i32;
            if (1..CLOCK_AHEAD).contains(&ahead) {
                ours.offset = ours.offset.wrapping_add(ahead as u32);
            }
        }
    }

    /// What the client says has arrived.
    fn take_delivery(
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

    fn detect_losses(&mut self, now: Instant) {
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
    fn take_losses(&mut self, in_flight: u32) {
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

    /// RFC 9293 §3.10.7.4: the window, unless the segment is older than the one that set it.
    fn take_window(&mut self, now: Instant, segment: &Segment<'_>, window: u32) {
        let newer = self.tx.wl1.lt(segment.seq)
            || (self.tx.wl1 == segment.seq && self.tx.wl2.le(segment.ack));
        if !newer {
            return;
        }
        let opened = self.tx.wnd == 0 && window > 0;
        if window == 0 {
            // The client is there (RFC 9293 §3.8.6.1): its closed window is no failure.
            self.retries = 0;
        }
        self.tx.wnd = window;
        self.tx.max_wnd = self.tx.max_wnd.max(window);
        self.tx.wl1 = segment.seq;
        self.tx.wl2 = segment.ack;
        if opened {
            self.timers.stop(Timer::Persist);
            self.rtt.shift = 0;
            self.retries = 0;
            if self.tx.outstanding() && self.timers.get(Timer::Retransmission).is_some() {
                // What was sent into the closed window is lost.
                self.timers.set(
                    Timer::Retransmission,
                    now + Duration::from_micros(self.rtt.rto.into()),
                );
            }
        }
    }

    /// RFC 7323 §4.3 (2): TS.Recent follows segments that begin at or before the last acknowledgment.
    fn take_timestamp(&mut self, now: Instant, segment: &Segment<'_>) {
        if let (Some(ours), Some(theirs)) = (&mut self.timestamps, segment.options.timestamp)
            && segment.seq.le(self.last_ack_sent)
            && !is_before(theirs.value, ours.recent)
        {
            ours.recent = theirs.value;
            ours.recent_at = now;
        }
    }

    fn take_data(&mut self, now: Instant, tcp: &Tcp, segment: &Segment<'_>, outcome: &mut Outcome) {
        if segment.payload.is_empty() && !segment.flags.fin {
            return;
        }
        if !self.state.receives() {
            // A FIN sent again.
            self.ack_due = AckDue::Now;
            if self.state == State::TimeWait {
                self.enter_time_wait(now, tcp);
            }
            return;
        }
        if self.released
            && !segment.payload.is_empty()
            && (segment.seq + segment.payload.len() as u32).gt(self.rx.nxt)
        {
            // Nobody will read it (RFC 9293 §3.6.1).
            self.abort();
            return;
        }
        self.peer_segment = self.peer_segment.max(segment.payload.len() as u32);
        let accepted = self
            .rx
            .accept(segment.seq, segment.payload, segment.flags.fin);
        if self.replayed.is_some_and(|until| self.rx.nxt.ge(until)) {
            self.replayed = None;
        }
        outcome.accepted = true;
        outcome.readable = accepted.advanced;
        if accepted.finished {
            self.state = self.state.on_fin();
            if self.state == State::TimeWait {
                self.enter_time_wait(now, tcp);
            }
        }
        let owed = self.rx.nxt.since(self.last_ack_sent).max(0) as u32;
        if accepted.gap || accepted.finished || !accepted.advanced || owed > self.peer_segment {
            self.ack_due = AckDue::Now;
        } else if self.ack_due == AckDue::No {
            self.ack_due = AckDue::Delayed;
            self.timers.set(Timer::DelayedAck, now + tcp.delayed_ack);
        }
    }

    /// Serves every timer whose deadline has passed.
    pub(crate) fn handle_timeout(&mut self, now: Instant, tcp: &Tcp) -> Outcome {
        let mut outcome = Outcome::default();
        while let Some(timer) = self.timers.expired(now) {
            match timer {
                Timer::DelayedAck => self.ack_due = AckDue::Now,
                Timer::Close => self.state = State::Closed,
                Timer::Persist => self.persist_timeout(tcp, &mut outcome),
                Timer::Retransmission => self.retransmission_timeout(tcp, &mut outcome),
                Timer::Reordering => {
                    self.detect_losses(now);
                    self.take_losses(self.tx.in_flight());
                }
                Timer::Probe => {
                    self.tail_probe = self.tx.outstanding();
                    if self.tail_probe {
                        self.arm_retransmission(now, tcp);
                    }
                }
                Timer::KeepAlive => self.keep_alive_timeout(now, tcp, &mut outcome),
            }
        }
        outcome
    }

    fn fail(&mut self, outcome: &mut Outcome) {
        outcome.failed = Some(Failure::TimedOut);
        self.abort();
    }

    /// A closed window is probed for as long as the application waits; when it is gone, as often as a segment is
    /// retransmitted.
    fn persist_timeout(&mut self, tcp: &Tcp, outcome: &mut Outcome) {
        if self.released {
            self.retries = self.retries.saturating_add(1);
            if self.retries > tcp.retries {
                return self.fail(outcome);
            }
        }
        self.ask = true;
        self.rtt.back_off();
    }

    /// RFC 9293 §3.8.4; and the end of a connection that has been idle for too long.
    fn keep_alive_timeout(&mut self, now: Instant, tcp: &Tcp, outcome: &mut Outcome) {
        let idle = now.saturating_since(self.heard);
        if tcp.idle.is_some_and(|most| idle >= most) {
            return self.fail(outcome);
        }
        if let Some(KeepAlive {
            idle: after,
            interval,
            probes,
        }) = tcp.keep_alive
            && idle >= after
        {
            if self.keep_alives >= probes {
                return self.fail(outcome);
            }
            self.keep_alives += 1;
            // Data that is retransmitted asks as well.
            self.ask = !self.tx.outstanding();
            self.timers.set(Timer::KeepAlive, now + interval);
            return;
        }
        self.arm_keep_alive(tcp);
    }

    /// RFC 6298 §5.4 to §5.7.
    fn retransmission_timeout(&mut self, tcp: &Tcp, outcome: &mut Outcome) {
        if self.state == State::SynReceived {
            if self.retries >= tcp.syn_retries {
                outcome.failed = Some(Failure::TimedOut);
                self.state = State::Closed;
                return;
            }
            self.syn_ack = true;
        } else {
            if self.retries >= tcp.retries {
                return self.fail(outcome);
            }
            if self.retries == 0 {
                self.congestion.get_mut().on_timeout(self.tx.in_flight());
            }
            if self.tx.flight.is_reneged() {
                self.tx.flight.renege();
            }
            self.tx.flight.lose_all();
            self.recovery.dupacks = 0;
            self.recovery.begin(Phase::Timeout, self.tx.nxt, None);
            self.force = true;
        }
        self.retries += 1;
        self.rtt.back_off();
    }
}

/// `a` is an earlier timestamp than `b` (RFC 7323 §5.3: unsigned 32-bit, modular).
fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}
