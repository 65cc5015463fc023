//! Reno (RFC 5681).

use super::congestion::{Congestion, initial_window};
use crate::time::{Duration, Instant};

/// RFC 5681 with the initial window of RFC 6928.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Reno {
    mss: u32,
    cwnd: u32,
    ssthresh: u32,
    /// Bytes acknowledged since the window last grew, in congestion avoidance.
    acked: u32,
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

    fn on_ack(&mut self, _: Instant, acked: u32, _: Duration) {
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

    fn on_timeout(&mut self, in_flight: u32) {
        self.ssthresh = self.half(in_flight);
        self.cwnd = self.mss;
        self.acked = 0;
    }

    fn on_idle(&mut self) {
        self.cwnd = self.cwnd.min(initial_window(self.mss));
    }

    fn restore(&mut self, cwnd: u32, ssthresh: u32) {
        self.cwnd = cwnd;
        self.ssthresh = ssthresh;
        self.acked = 0;
    }

    fn set_mss(&mut self, mss: u16) {
        self.mss = u32::from(mss.max(1));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(1);

    #[test]
    fn slow_start_then_one_segment_a_window() {
        let mut reno = Reno::new(1000);
        assert_eq!(reno.window(), 10_000);
        for _ in 0..5 {
            reno.on_ack(Instant::ZERO, 2000, RTT);
        }
        assert_eq!(reno.window(), 20_000);
        reno.on_loss(20_000);
        assert_eq!((reno.window(), reno.threshold()), (10_000, 10_000));
        for _ in 0..10 {
            reno.on_ack(Instant::ZERO, 1000, RTT);
        }
        assert_eq!(reno.window(), 11_000);
    }

    #[test]
    fn a_timeout_leaves_one_segment() {
        let mut reno = Reno::new(1000);
        reno.on_timeout(10_000);
        assert_eq!((reno.window(), reno.threshold()), (1000, 5000));
    }
}
