//! Randomness: one seed, independent streams.

use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// What a stream of random numbers is for: streams of one seed do not disturb each other.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    Lan = 1,
    Client = 2,
    Application = 3,
    Device = 4,
    IsnKey = 5,
}

/// Stream `index` of `purpose`.
pub(crate) fn stream(seed: u64, purpose: Purpose, index: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream((purpose as u64) << 48 | index as u64);
    rng
}

/// True with probability `probability`. Nothing is drawn for 0.
pub(crate) fn chance(rng: &mut ChaCha8Rng, probability: f64) -> bool {
    // The 53 bits that an f64 holds exactly.
    probability > 0.0 && ((rng.next_u64() >> 11) as f64) < probability * (1u64 << 53) as f64
}

/// Uniform in `0..bound`; 0 for a bound of 0.
pub(crate) fn below(rng: &mut ChaCha8Rng, bound: u64) -> u64 {
    ((u128::from(rng.next_u64()) * u128::from(bound)) >> 64) as u64
}

/// Uniform in `0..=longest`, in microseconds.
pub(crate) fn up_to(rng: &mut ChaCha8Rng, longest: Duration) -> Duration {
    if longest.is_zero() {
        return Duration::ZERO;
    }
    let micros = u64::try_from(longest.as_micros()).unwrap_or(u64::MAX - 1);
    Duration::from_micros(below(rng, micros.saturating_add(1)))
}
