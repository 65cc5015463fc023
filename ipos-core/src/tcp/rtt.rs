//! The retransmission timeout (RFC 6298).

use crate::time::{Duration, micros};

/// Round-trip estimation, in µs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rtt {
    /// Smoothed round-trip time; 0 = no sample yet.
    pub(crate) srtt: u32,
    /// Its variation.
    pub(crate) rttvar: u32,
    /// Retransmission timeout before back-off.
    pub(crate) rto: u32,
    /// Least sample; 0 = none.
    pub(crate) min: u32,
    /// Back-off exponent (RFC 6298 §5.5).
    pub(crate) shift: u8,
}

/// RFC 6298 §2.1.
const INITIAL_RTO: u32 = 1_000_000;
/// The exponent beyond which the timeout is at its bound in any case.
const MAX_SHIFT: u8 = 16;

impl Rtt {
    pub(crate) fn new() -> Rtt {
        Rtt {
            srtt: 0,
            rttvar: 0,
            rto: INITIAL_RTO,
            min: 0,
            shift: 0,
        }
    }

    /// A sample of a segment that was sent once (Karn), or told apart by timestamps. RFC 6298 §2.2, §2.3.
    pub(crate) fn sample(&mut self, sample: Duration, min_rto: Duration, max_rto: Duration) {
        let r = u32::try_from(micros(sample))
            .unwrap_or(u32::MAX)
            .clamp(1, 1 << 30);
        if self.srtt == 0 {
            self.srtt = r;
            self.rttvar = r / 2;
        } else {
            self.rttvar =
                (3 * u64::from(self.rttvar) / 4 + u64::from(self.srtt.abs_diff(r)) / 4) as u32;
            self.srtt = ((7 * u64::from(self.srtt) + u64::from(r)) / 8).max(1) as u32;
        }
        self.min = if self.min == 0 { r } else { self.min.min(r) };
        let bound = |d: Duration| u32::try_from(micros(d)).unwrap_or(u32::MAX);
        // The variation's part is at least the least RTO, as hosts do: an RTO close to the RTT fires for nothing.
        let variation = (4 * u64::from(self.rttvar)).max(u64::from(bound(min_rto)));
        let rto = u64::from(self.srtt) + variation;
        self.rto = rto.min(u64::from(bound(max_rto))) as u32;
        self.shift = 0;
    }

    /// The timeout with back-off.
    pub(crate) fn timeout(&self, max_rto: Duration) -> Duration {
        let backed_off = u64::from(self.rto) << self.shift.min(MAX_SHIFT);
        Duration::from_micros(backed_off).min(max_rto)
    }

    /// RFC 6298 §5.5.
    pub(crate) fn back_off(&mut self) {
        self.shift = (self.shift + 1).min(MAX_SHIFT);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIN: Duration = Duration::from_millis(200);
    const MAX: Duration = Duration::from_secs(60);

    #[test]
    fn first_sample_sets_srtt_and_half_of_it_as_variation() {
        let mut rtt = Rtt::new();
        rtt.sample(Duration::from_millis(300), MIN, MAX);
        assert_eq!((rtt.srtt, rtt.rttvar, rtt.rto), (300_000, 150_000, 900_000));
    }

    #[test]
    fn timeout_doubles_up_to_its_bound_and_a_sample_ends_the_back_off() {
        let mut rtt = Rtt::new();
        rtt.back_off();
        rtt.back_off();
        assert_eq!(rtt.timeout(MAX), Duration::from_secs(4));
        for _ in 0..100 {
            rtt.back_off();
        }
        assert_eq!(rtt.timeout(MAX), MAX);
        rtt.sample(Duration::from_micros(50), MIN, MAX);
        assert_eq!(rtt.timeout(MAX), Duration::from_micros(200_050));
    }

    #[test]
    fn extreme_samples_do_not_overflow() {
        let mut rtt = Rtt::new();
        for sample in [Duration::ZERO, Duration::MAX, Duration::ZERO, Duration::MAX] {
            rtt.sample(sample, MIN, MAX);
            assert!(rtt.timeout(MAX) <= MAX && rtt.timeout(MAX) >= MIN);
        }
    }
}
