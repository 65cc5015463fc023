//! CUBIC (RFC 9438).

use super::congestion::{Congestion, initial_window};
use crate::time::{Duration, Instant};

/// RFC 9438 §4.6.
const BETA: f64 = 0.7;
/// RFC 9438 §5, in segments/s³.
const C: f64 = 0.4;
/// RFC 9438 §4.3: the Reno-friendly window's slope.
const ALPHA: f64 = 3.0 * (1.0 - BETA) / (1.0 + BETA);

/// RFC 9438. Sizes inside are in segments.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cubic {
    mss: u32,
    cwnd: f64,
    ssthresh: f64,
    w_max: f64,
    /// The window of a Reno flow that started with this epoch.
    w_est: f64,
    /// When the epoch began; none before the first congestion avoidance, or after a loss.
    epoch: Option<Instant>,
    /// Seconds from the epoch's start to the plateau.
    k: f64,
}

impl Cubic {
    pub(crate) fn new(mss: u16) -> Cubic {
        let mss = u32::from(mss);
        let cwnd = f64::from(initial_window(mss)) / f64::from(mss);
        Cubic {
            mss,
            cwnd,
            ssthresh: f64::INFINITY,
            w_max: 0.0,
            w_est: 0.0,
            epoch: None,
            k: 0.0,
        }
    }

    fn bytes(&self, segments: f64) -> u32 {
        // `as` saturates.
        (segments * f64::from(self.mss)) as u32
    }

    /// RFC 9438 §4.6 and §4.7: the window at a congestion event is remembered, a little less of it where it was smaller than the one
    /// before.
    fn reduce(&mut self, in_flight: u32) {
        let window = f64::from(in_flight) / f64::from(self.mss);
        let window = window.min(self.cwnd);
        self.w_max = if window < self.w_max {
            window * (1.0 + BETA) / 2.0
        } else {
            window
        };
        self.ssthresh = (window * BETA).max(2.0);
        self.epoch = None;
    }

    /// RFC 9438 §4.2 to §4.5.
    fn avoid(&mut self, now: Instant, acked: f64, srtt: Duration) {
        let start = *self.epoch.get_or_insert_with(|| {
            self.w_est = self.cwnd;
            self.k = if self.cwnd < self.w_max {
                libm::cbrt((self.w_max - self.cwnd) / C)
            } else {
                0.0
            };
            self.w_max = self.w_max.max(self.cwnd);
            now
        });
        let t = now.saturating_since(start).as_secs_f64() + srtt.as_secs_f64() - self.k;
        let target = (C * t * t * t + self.w_max).clamp(self.cwnd, 1.5 * self.cwnd);
        let alpha = if self.w_est < self.w_max { ALPHA } else { 1.0 };
        self.w_est += alpha * acked / self.cwnd;
        self.cwnd += (target - self.cwnd) / self.cwnd * acked;
        self.cwnd = self.cwnd.max(self.w_est);
    }
}

impl Congestion for Cubic {
    fn window(&self) -> u32 {
        self.bytes(self.cwnd).max(self.mss)
    }

    fn threshold(&self) -> u32 {
        if self.ssthresh.is_finite() {
            self.bytes(self.ssthresh)
        } else {
            u32::MAX
        }
    }

    fn on_ack(&mut self, now: Instant, acked: u32, srtt: Duration) {
        let acked = f64::from(acked) / f64::from(self.mss);
        if self.cwnd < self.ssthresh {
            self.cwnd += acked;
        } else {
            self.avoid(now, acked, srtt);
        }
    }

    fn on_loss(&mut self, in_flight: u32) {
        self.reduce(in_flight);
        self.cwnd = self.ssthresh;
    }

    fn on_timeout(&mut self, in_flight: u32) {
        self.reduce(in_flight);
        self.cwnd = 1.0;
    }

    fn on_idle(&mut self) {
        let initial = f64::from(initial_window(self.mss)) / f64::from(self.mss);
        self.cwnd = self.cwnd.min(initial);
        self.epoch = None;
    }

    fn restore(&mut self, cwnd: u32, ssthresh: u32) {
        self.cwnd = f64::from(cwnd) / f64::from(self.mss);
        self.ssthresh = if ssthresh == u32::MAX {
            f64::INFINITY
        } else {
            f64::from(ssthresh) / f64::from(self.mss)
        };
        self.epoch = None;
    }

    fn set_mss(&mut self, mss: u16) {
        let ratio = f64::from(self.mss) / f64::from(mss.max(1));
        self.mss = u32::from(mss.max(1));
        self.cwnd *= ratio;
        self.ssthresh *= ratio;
        self.w_max *= ratio;
        self.epoch = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SRTT: Duration = Duration::from_millis(100);

    #[test]
    fn returns_to_the_old_window_after_k_and_stays_a_while() {
        let mut cubic = Cubic::new(1000);
        cubic.restore(100_000, 50_000);
        cubic.on_loss(100_000);
        assert_eq!((cubic.window(), cubic.threshold()), (70_000, 70_000));
        // K = cbrt(30 / 0.4) = 4.2 s.
        let mut now = Instant::from_millis(1000);
        let mut at_plateau = 0;
        while now < Instant::from_millis(5_200) {
            now += SRTT;
            let window = cubic.window();
            cubic.on_ack(now, window, SRTT);
            at_plateau = cubic.window();
        }
        assert!((97_000..=101_000).contains(&at_plateau), "{at_plateau}");
    }

    #[test]
    fn is_never_slower_than_reno() {
        let mut cubic = Cubic::new(1000);
        cubic.restore(10_000, 5_000);
        cubic.on_loss(10_000);
        let rtt = Duration::from_millis(1);
        let mut now = Instant::from_millis(0);
        for _ in 0..100 {
            now += rtt;
            let window = cubic.window();
            cubic.on_ack(now, window, rtt);
        }
        // 100 round trips of a Reno flow with alpha 0.53 from 7 segments.
        assert!(cubic.window() > 7_000 + 50 * 1000, "{}", cubic.window());
    }

    #[test]
    fn slow_start_counts_every_byte() {
        let mut cubic = Cubic::new(1000);
        cubic.on_ack(Instant::ZERO, 10_000, SRTT);
        assert_eq!(cubic.window(), 20_000);
        cubic.on_timeout(20_000);
        assert_eq!((cubic.window(), cubic.threshold()), (1000, 14_000));
    }
}
