//! Least connections.

use rand_core::Rng;

use crate::draw::chance;
use crate::load::{Farm, weight};
use crate::{Candidate, Policy, Request};

/// The server with the fewest connections by weight: the least `CN / w`. Among equals it is drawn
/// at random, in proportion to their weights.
///
/// Servers that choose by the same adverts choose the same server until the next ones: use
/// [`TwoChoices`](crate::TwoChoices) where many do.
///
/// A server that is ready to `r < 1` takes part in `r` of the selections, and counts
/// `CN + (1 - r) · w · M` connections (see [readiness](crate#readiness)).
///
/// ```
/// use ipos_balance::{Candidate, LeastConnections, Policy};
///
/// let mut out = [0.0; 4];
/// let candidates = [(1, 7), (2, 5), (3, 5), (4, 6)]
///     .map(|(server, connections)| Candidate::new(server, connections));
/// LeastConnections.probabilities(&candidates, &mut out);
/// assert_eq!(out, [0.0, 0.5, 0.5, 0.0]);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct LeastConnections;

impl Policy for LeastConnections {
    fn name(&self) -> &'static str {
        "least-connections"
    }

    fn probabilities(&self, candidates: &[Candidate], out: &mut [f64]) {
        out.iter_mut().zip(candidates).for_each(|(p, _)| *p = 0.0);
        let Some(farm) = Farm::new(candidates) else {
            return;
        };
        for (bar, probability) in farm.bars() {
            let loads = farm.passing(bar).map(|(_, c)| farm.load(c));
            let least = loads.fold(f64::INFINITY, f64::min);
            let equals = farm.passing(bar).filter(|(_, c)| farm.load(c) == least);
            let weights = equals.clone().map(|(_, c)| weight(c)).sum::<u64>();
            for (index, candidate) in equals {
                if let Some(p) = out.get_mut(index) {
                    *p += probability * weight(candidate) as f64 / weights as f64;
                }
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
        let mut least = f64::INFINITY;
        let mut weights = 0;
        let mut chosen = None;
        for (index, candidate) in farm.passing(bar) {
            let load = farm.load(candidate);
            if load < least {
                (least, weights) = (load, 0);
            } else if load > least {
                continue;
            }
            // Each of the equals so far stays in proportion to its weight.
            weights += weight(candidate);
            if chance(rng, weight(candidate), weights) {
                chosen = Some(index);
            }
        }
        chosen
    }
}
