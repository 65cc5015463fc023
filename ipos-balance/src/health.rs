//! Passive health.

use core::time::Duration;

use crate::Readiness;

/// What a server's answers to hand-overs say of it: one that refuses, or does not answer, is
/// tried less.
///
/// Each failure halves the readiness, down to [`Readiness::LEAST`]. Each success, and each
/// [`STEP`](Self::STEP) after the last failure, doubles it, up to [`Readiness::FULL`].
///
/// `now` is the time since an origin that the caller chooses. An earlier one than before counts
/// as no time at all.
///
/// ```
/// use core::time::Duration;
/// use ipos_balance::{Health, Readiness};
///
/// let second = Duration::from_secs;
/// let mut health = Health::default();
/// health.failed(second(10));
/// health.failed(second(10));
/// assert_eq!(health.readiness(second(10)), Readiness::new(1, 4));
/// health.succeeded(second(10));
/// assert_eq!(health.readiness(second(10)), Readiness::new(1, 2));
/// assert_eq!(health.readiness(second(11)), Readiness::FULL);
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Health {
    /// How often the readiness is halved.
    halvings: u32,
    /// Since when; whole steps have been taken into account up to here.
    since: Duration,
}

impl Health {
    /// The time after which the readiness doubles by itself.
    pub const STEP: Duration = Duration::from_secs(1);

    /// A hand-over was refused, or was not answered.
    pub fn failed(&mut self, now: Duration) {
        let most = Readiness::FULL.parts() / Readiness::LEAST.parts();
        self.halvings = (self.halvings_at(now) + 1).min(most.ilog2());
        self.since = self.since.max(now);
    }

    /// A hand-over was taken.
    pub fn succeeded(&mut self, now: Duration) {
        let left = self.halvings_at(now);
        // The step that is under way goes on.
        let counted = Self::STEP * (self.halvings - left);
        self.since = self.since.saturating_add(counted);
        self.halvings = left.saturating_sub(1);
    }

    /// How ready the server is.
    pub fn readiness(&self, now: Duration) -> Readiness {
        Readiness::FULL.halved(self.halvings_at(now))
    }

    fn halvings_at(&self, now: Duration) -> u32 {
        let steps = now.saturating_sub(self.since).as_secs() / Self::STEP.as_secs();
        self.halvings
            .saturating_sub(u32::try_from(steps).unwrap_or(u32::MAX))
    }
}
