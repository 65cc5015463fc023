//! Slow start.

use core::time::Duration;

use crate::Readiness;

/// How a server that has come (back) gets its part again: in proportion to the time since then.
///
/// Without it the server would draw everything, because it has no connections yet. A farm that
/// starts as a whole is not slowed: readiness counts in relation to the readiest candidate.
///
/// ```
/// use core::time::Duration;
/// use ipos_balance::{Readiness, SlowStart};
///
/// let ramp = SlowStart::default();
/// assert_eq!(ramp.readiness(Duration::ZERO), Readiness::LEAST);
/// assert_eq!(ramp.readiness(Duration::from_secs(5)), Readiness::new(1, 2));
/// assert_eq!(ramp.readiness(Duration::from_secs(10)), Readiness::FULL);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlowStart {
    /// From coming back to being fully ready; zero: at once.
    pub duration: Duration,
}

impl SlowStart {
    /// Everybody is fully ready at once.
    pub const OFF: Self = Self {
        duration: Duration::ZERO,
    };

    /// The readiness of a server that came (back) `elapsed` ago: `elapsed / duration`, from
    /// [`Readiness::LEAST`] to [`Readiness::FULL`].
    pub fn readiness(&self, elapsed: Duration) -> Readiness {
        let nanos = |duration: Duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        // Beyond 584 years both saturate, and 1 is right for what is as long as that.
        Readiness::new(nanos(elapsed), nanos(self.duration)).max(Readiness::LEAST)
    }
}

/// 10 s.
impl Default for SlowStart {
    fn default() -> Self {
        Self {
            duration: Duration::from_secs(10),
        }
    }
}
