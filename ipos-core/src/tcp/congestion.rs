//! Congestion control (RFC 5681).

use core::fmt;

/// A congestion controller. All sizes in bytes.
pub(crate) trait Congestion: fmt::Debug {
    /// The congestion window.
    fn window(&self) -> u32;
    /// The slow-start threshold; `u32::MAX` = none yet.
    fn threshold(&self) -> u32;
    /// `acked` new bytes were acknowledged outside recovery.
    fn on_ack(&mut self, acked: u32);
    /// A segment is lost, by duplicate acknowledgments; `in_flight` bytes were outstanding.
    fn on_loss(&mut self, in_flight: u32);
    /// Recovery is over.
    fn on_recovered(&mut self);
    /// The retransmission timer fired.
    fn on_timeout(&mut self, in_flight: u32);
    /// The connection was idle longer than a retransmission timeout (RFC 5681 §4.1).
    fn on_idle(&mut self);
}

/// RFC 5681 with the initial window of RFC 6928.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reno {
    mss: u32,
    cwnd: u32,
    ssthresh: u32,
    /// Bytes acknowledged since the window last grew, in congestion avoidance.
    acked: u32,
}

/// RFC 6928: ten segments.
pub(crate) fn initial_window(mss: u32) -> u32 {
    (10 * mss).min(14_600.max(2 * mss))
}

impl Reno {
    pub(crate) fn new(mss: u16) -> Reno {
        let mss = u32::from(mss);
        Reno {
            mss,
            cwnd: initial_window(mss),
            ssthresh: u32::MAX,
            acked: 0,
        }
    }

    /// Goes on from another server's values; the window is never beyond `bound`.
    pub(crate) fn resume(mss: u16, cwnd: u32, ssthresh: u32, bound: u32) -> Reno {
        let mss = u32::from(mss);
        Reno {
            mss,
            cwnd: cwnd.clamp(mss, bound.max(mss)),
            ssthresh: ssthresh.max(2 * mss),
            acked: 0,
        }
    }

    /// RFC 5681 equation 4.
    fn half(&self, in_flight: u32) -> u32 {
        (in_flight / 2).max(2 * self.mss)
    }
}

impl Congestion for Reno {
    fn window(&self) -> u32 {
        self.cwnd
    }

    fn threshold(&self) -> u32 {
        self.ssthresh
    }

    fn on_ack(&mut self, acked: u32) {
        if self.cwnd < self.ssthresh {
            // RFC 5681 equation 2, with L = 2 for delayed acknowledgments (RFC 3465).
            self.cwnd = self.cwnd.saturating_add(acked.min(2 * self.mss));
        } else {
            self.acked = self.acked.saturating_add(acked);
            if self.acked >= self.cwnd {
                self.acked -= self.cwnd;
                self.cwnd = self.cwnd.saturating_add(self.mss);
            }
        }
    }

    fn on_loss(&mut self, in_flight: u32) {
        self.ssthresh = self.half(in_flight);
        self.cwnd = self.ssthresh;
        self.acked = 0;
    }

    fn on_recovered(&mut self) {
        self.cwnd = self.ssthresh;
    }

    fn on_timeout(&mut self, in_flight: u32) {
        self.ssthresh = self.half(in_flight);
        self.cwnd = self.mss;
        self.acked = 0;
    }

    fn on_idle(&mut self) {
        self.cwnd = self.cwnd.min(initial_window(self.mss));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slow_start_then_one_segment_a_window() {
        let mut reno = Reno::new(1000);
        assert_eq!(reno.window(), 10_000);
        for _ in 0..5 {
            reno.on_ack(2000);
        }
        assert_eq!(reno.window(), 20_000);
        reno.on_loss(20_000);
        assert_eq!((reno.window(), reno.threshold()), (10_000, 10_000));
        for _ in 0..10 {
            reno.on_ack(1000);
        }
        assert_eq!(reno.window(), 11_000);
    }

    #[test]
    fn a_timeout_leaves_one_segment() {
        let mut reno = Reno::new(1000);
        reno.on_timeout(10_000);
        assert_eq!((reno.window(), reno.threshold()), (1000, 5000));
    }

    #[test]
    fn resumed_values_are_bounded() {
        let reno = Reno::resume(1000, u32::MAX, 0, 512 * 1024);
        assert_eq!((reno.window(), reno.threshold()), (512 * 1024, 2000));
    }
}
