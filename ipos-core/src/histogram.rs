//! Durations, counted in fixed buckets.

use crate::time::Duration;

/// A histogram of durations. To count one takes no memory and no time to speak of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: [u64; Histogram::BOUNDS.len() + 1],
    sum: Duration,
}

impl Histogram {
    /// The buckets' upper bounds, in µs, each included. What takes longer is in a bucket of its own.
    pub const BOUNDS: [u64; 17] = [
        20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000, 20_000, 50_000, 100_000, 200_000,
        500_000, 1_000_000, 2_000_000, 5_000_000,
    ];

    /// Counts one.
    pub(crate) fn count(&mut self, took: Duration) {
        let micros = took.as_micros();
        let bucket = Histogram::BOUNDS.partition_point(|&bound| u128::from(bound) < micros);
        self.counts[bucket] += 1;
        self.sum = self.sum.saturating_add(took);
    }

    /// How many there are of each bucket alone, the one without a bound last.
    pub fn counts(&self) -> &[u64; Histogram::BOUNDS.len() + 1] {
        &self.counts
    }

    /// How many there are of all buckets.
    pub fn len(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Whether none was counted.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them together.
    pub fn sum(&self) -> Duration {
        self.sum
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_belongs_to_its_bucket() {
        let mut histogram = Histogram::default();
        assert!(histogram.is_empty());
        for micros in [0, 20, 21, 5_000_000, 5_000_001] {
            histogram.count(Duration::from_micros(micros));
        }
        let counts = histogram.counts();
        assert_eq!((counts[0], counts[1]), (2, 1));
        assert_eq!(counts[Histogram::BOUNDS.len() - 1..], [1, 1]);
        assert_eq!(histogram.len(), 5);
        assert_eq!(histogram.sum(), Duration::from_micros(10_000_042));
    }

    #[test]
    fn bounds_grow() {
        assert!(Histogram::BOUNDS.is_sorted_by(|a, b| a < b));
    }
}
