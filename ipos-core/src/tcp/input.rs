//! Segments in (RFC 9293 §3.10.7, RFC 5961, RFC 7323 §5).

use ipos_proto::SeqNum;

use super::endpoint::{AckDue, Endpoint};
use super::segment::{Flags, Options, Outgoing, Segment, Timestamp};
use super::state::State;
use super::timers::Timer;
use super::window::{Window, WindowScale};
use crate::config::Tcp;
use crate::event::Failure;
use crate::time::{Duration, Instant};

/// RFC 7323 §5.5: after so long TS.Recent says nothing.
const TS_RECENT_VALID: Duration = Duration::from_secs(24 * 24 * 3600);
/// RFC 6298 §5.7, in µs.
const RTO_AFTER_LOST_SYN: u32 = 3_000_000;
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
        window: Window::default(),
        options: Options::default(),
        payload: (0, 0),
        burst: None,
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
        if self.timestamps.is_some() && segment.options.timestamp.is_none() && !segment.flags.rst {
            // RFC 7323 §3.2: dropped silently.
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
                // Where both streams are whole nobody loses anything (RFC 9293 §3.10.7.4).
                let whole = match self.state {
                    State::TimeWait => true,
                    State::Closing | State::LastAck => self.tx.drained(),
                    _ => false,
                };
                if !whole {
                    outcome.failed = Some(Failure::Reset);
                }
                self.state = State::Closed;
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
        self.arm_quiet(now);
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
        let window = segment
            .window
            .bytes(self.scale.map_or(WindowScale::NONE, |scale| scale.send));
        self.follow_clock(now, segment);
        if ack.ge(self.tx.una) {
            let advances = ack.gt(self.tx.una);
            self.take_delivery(now, tcp, segment, window, outcome);
            self.take_window(now, segment, window, advances);
        }
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

    /// RFC 9293 §3.10.7.4: the window, unless the segment is older than the one that set it.
    fn take_window(&mut self, now: Instant, segment: &Segment<'_>, window: u32, advances: bool) {
        // A new acknowledgment is never of an older window, even where a retransmission brings it.
        let newer = advances
            || self.tx.wl1.lt(segment.seq)
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

    /// RFC 7323 §4.3 (2): TS.Recent follows segments that begin at or before the last acknowledgment. One that says nothing new makes
    /// it no younger: the last word that moves along with a connection has been said long ago. An old one is replaced by any.
    fn take_timestamp(&mut self, now: Instant, segment: &Segment<'_>) {
        if let (Some(ours), Some(theirs)) = (&mut self.timestamps, segment.options.timestamp)
            && segment.seq.le(self.last_ack_sent)
            && (is_before(ours.recent, theirs.value)
                || now.saturating_since(ours.recent_at) >= TS_RECENT_VALID)
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
}

/// `a` is an earlier timestamp than `b` (RFC 7323 §5.3: unsigned 32-bit, modular).
pub(super) fn is_before(a: u32, b: u32) -> bool {
    (a.wrapping_sub(b) as i32) < 0
}
