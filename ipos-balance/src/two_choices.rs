//! The power of two choices.

use alloc::vec::Vec;

use rand_core::Rng;

use crate::draw::{below, part_at};
use crate::load::{Farm, weight};
use crate::{Candidate, Policy, Request};

/// Two different servers are drawn, and the one with fewer connections by weight is chosen; of
/// equals, the one that was drawn first.
///
/// The second choice brings nearly all of what looking at everybody would (M. Mitzenmacher, "The
/// Power of Two Choices in Randomized Load Balancing", IEEE TPDS 12(10), 2001), and old figures
/// make no herd: however few connections a server seems to have, it is one of the two in `2 / n` of
/// the selections only.
///
/// Servers are drawn in proportion to their weights. A server that is ready to `r < 1` takes part
/// in `r` of the selections, and counts `CN + (1 - r) · w · M` connections
/// (see [readiness](crate#readiness)).
///
/// ```
/// use ipos_balance::{Candidate, Policy, TwoChoices};
///
/// let mut out = [0.0; 3];
/// let candidates = [(1, 10), (2, 20), (3, 30)]
///     .map(|(server, connections)| Candidate::new(server, connections));
/// TwoChoices.probabilities(&candidates, &mut out);
/// // The pairs: 1 and 2, 1 and 3, 2 and 3.
/// assert_eq!(out.map(|p| (p * 3.0).round()), [2.0, 1.0, 0.0]);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct TwoChoices;

impl Policy for TwoChoices {
    fn name(&self) -> &'static str {
        "p2c"
    }

    fn probabilities(&self, candidates: &[Candidate], out: &mut [f64]) {
        out.iter_mut().zip(candidates).for_each(|(p, _)| *p = 0.0);
        let Some(farm) = Farm::new(candidates) else {
            return;
        };
        for (bar, probability) in farm.bars() {
            let of = |(index, c)| (farm.load(c), weight(c), index);
            let mut passing: Vec<_> = farm.passing(bar).map(of).collect();
            passing.sort_unstable_by(|(a, ..), (b, ..)| b.total_cmp(a));
            let weights = passing.iter().map(|(_, weight, _)| weight).sum::<u64>();
            // Those with more connections: that one of them is drawn second, or first and this one second.
            let (mut second, mut first) = (0, 0.0);
            for equals in passing.chunk_by(|(a, ..), (b, ..)| a == b) {
                second += equals.iter().map(|(_, weight, _)| weight).sum::<u64>();
                for (_, weight, index) in equals {
                    let wins = match weights - weight {
                        0 => 1.0,
                        others => {
                            let drawn = *weight as f64 / weights as f64;
                            drawn * ((second - weight) as f64 / others as f64 + first)
                        }
                    };
                    if let Some(p) = out.get_mut(*index) {
                        *p += probability * wins;
                    }
                }
                let parts = equals.iter().filter(|(_, weight, _)| *weight < weights);
                first += parts
                    .map(|(_, weight, _)| *weight as f64 / (weights - weight) as f64)
                    .sum::<f64>();
            }
        }
    }

    fn select(
        &mut self,
        _request: Request,
        candidates: &[Candidate],
        rng: &mut dyn Rng,
    ) -> Option<usize> {
        let farm = Farm::new(candidates)?;
        let bar = farm.draw_bar(rng);
        let weights = farm.passing(bar).map(|(_, c)| weight(c));
        let sum = weights.clone().sum();
        let one = part_at(below(rng, sum), weights.clone())?;
        let (first, candidate) = farm.passing(bar).nth(one)?;
        // The second draw is among the others: the first one's part is gone.
        let rest = weights
            .enumerate()
            .map(|(at, weight)| if at == one { 0 } else { weight });
        let left = sum - weight(candidate);
        let Some(two) = part_at(below(rng, left), rest) else {
            return Some(first);
        };
        let (second, other) = farm.passing(bar).nth(two)?;
        let fewer = farm.load(other) < farm.load(candidate);
        Some(if fewer { second } else { first })
    }
}
