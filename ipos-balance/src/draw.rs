//! Uniform numbers.

use rand_core::Rng;

/// In [0, 1): the 53 bits that an `f64` holds exactly.
pub(crate) fn uniform(rng: &mut dyn Rng) -> f64 {
    const BITS: u32 = 53;
    (rng.next_u64() >> (u64::BITS - BITS)) as f64 / (1u64 << BITS) as f64
}

/// In 0..`bound`; 0 where the bound is 0.
pub(crate) fn below(rng: &mut dyn Rng, bound: u64) -> u64 {
    scale(rng.next_u64(), bound)
}

/// A uniform `u64`, brought to 0..`bound` (Lemire 2019, without the rejection: all bounds here
/// are below 2^48, which leaves a bias below 2^-16 of a number's own probability).
pub(crate) fn scale(random: u64, bound: u64) -> u64 {
    ((u128::from(random) * u128::from(bound)) >> u64::BITS) as u64
}

/// True in `part` of `whole` cases; what is certain costs no number.
pub(crate) fn chance(rng: &mut dyn Rng, part: u64, whole: u64) -> bool {
    part > 0 && (part >= whole || below(rng, whole) < part)
}

/// The index of the part that `at` falls into, where the parts lie one behind the other.
pub(crate) fn part_at(mut at: u64, parts: impl IntoIterator<Item = u64>) -> Option<usize> {
    parts.into_iter().position(|part| {
        let here = at < part;
        at = at.saturating_sub(part);
        here
    })
}
