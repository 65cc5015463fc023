//! Deadlines of an endpoint that have passed.

use super::endpoint::{AckDue, Endpoint};
use super::input::Outcome;
use super::recovery::{Phase, Undo};
use super::state::State;
use super::timers::Timer;
use crate::config::{KeepAlive, Tcp};
use crate::event::Failure;
use crate::time::{Duration, Instant};

/// Buffers that hold nothing keep their memory while the client was heard of so lately.
const QUIET: Duration = Duration::from_secs(1);

impl Endpoint {
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
                    // In a recovery the timeout stays the last resort: a probe that is not answered must not put it off.
                    if self.tail_probe && self.recovery.phase == Phase::Open {
                        self.arm_retransmission(now, tcp);
                    }
                }
                Timer::Quiet => self.quiet_timeout(now),
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
        if self.tx.wnd > 0 {
            self.tx.small = true;
            return;
        }
        if self.released {
            self.retries = self.retries.saturating_add(1);
            if self.retries > tcp.retries {
                return self.fail(outcome);
            }
        }
        self.ask = true;
        self.rtt.back_off();
    }

    /// While buffers hold memory, they are looked at from time to time.
    pub(super) fn arm_quiet(&mut self, now: Instant) {
        if self.memory() > 0 && self.timers.get(Timer::Quiet).is_none() {
            self.timers.set(Timer::Quiet, now + QUIET);
        }
    }

    fn quiet_timeout(&mut self, now: Instant) {
        let idle = now.saturating_since(self.heard) >= QUIET;
        self.rx.release_memory(idle);
        self.tx.release_memory(idle);
        self.arm_quiet(now);
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
            // What a recovery under way has sent again counts on.
            let undo = match self.recovery.phase {
                Phase::Open => Some(Undo::new(self.congestion, self.tx.una)),
                Phase::Fast | Phase::Timeout => self.recovery.undo,
            };
            if self.retries == 0 {
                self.congestion.get_mut().on_timeout(self.tx.in_flight());
            }
            if self.tx.flight.is_reneged() {
                self.tx.flight.renege();
            }
            self.timers.stop(Timer::Probe);
            self.tx.flight.lose_all();
            self.recovery.dupacks = 0;
            self.recovery.begin(Phase::Timeout, self.tx.nxt, undo);
            self.force = true;
        }
        self.retries += 1;
        self.rtt.back_off();
    }
}
