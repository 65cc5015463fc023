//! An endpoint's timers.

use crate::time::Instant;

/// The timers that an endpoint runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Timer {
    /// RFC 6298.
    Retransmission,
    /// RFC 8985 §6.3: a segment will count as lost.
    Reordering,
    /// RFC 8985 §7: a tail loss probe is due.
    Probe,
    /// RFC 9293 §3.8.6.1: the client's window is closed.
    Persist,
    /// RFC 9293 §3.8.6.3.
    DelayedAck,
    /// RFC 9293 §3.8.4, and the idle timeout.
    KeepAlive,
    /// TIME-WAIT, or FIN-WAIT-2 without an application.
    Close,
    /// Empty buffers give their memory back.
    Quiet,
}

impl Timer {
    const ALL: [Timer; 8] = [
        Timer::Retransmission,
        Timer::Reordering,
        Timer::Probe,
        Timer::Persist,
        Timer::DelayedAck,
        Timer::KeepAlive,
        Timer::Close,
        Timer::Quiet,
    ];
}

/// Deadlines, one a timer.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timers([Option<Instant>; Timer::ALL.len()]);

impl Timers {
    pub(crate) fn set(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    pub(crate) fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    pub(crate) fn get(&self, timer: Timer) -> Option<Instant> {
        self.0[timer as usize]
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }

    /// Stops and returns a timer whose deadline has passed.
    pub(crate) fn expired(&mut self, now: Instant) -> Option<Timer> {
        let timer = Timer::ALL
            .into_iter()
            .find(|&t| self.get(t).is_some_and(|at| at <= now))?;
        self.stop(timer);
        Some(timer)
    }
}
