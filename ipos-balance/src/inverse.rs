//! Inverse connection count.

use rand_core::Rng;

use crate::draw::uniform;
use crate::load::Farm;
use crate::{Candidate, Policy, Request};

/// The probability of a server is inversely proportional to its connections:
/// `p_i = k / CN_i` with `k = 1 / Σ 1/CN_j` (equations 1 and 2).
///
/// Servers without connections share the whole probability, which is the limit of the
/// equations.
///
/// Where weights differ, `CN / w` takes the place of `CN`. A server that is ready to `r < 1`
/// counts `(CN + (1 - r) · w · M) / (w · r)`, with the mean `M` of all (see
/// [readiness](crate#readiness)); servers without connections share in proportion to `w · r`.
///
/// ```
/// use ipos_balance::{Candidate, InverseConnections, Policy};
///
/// let shares = |connections: [u32; 3]| {
///     let candidates = connections.map(|connections| Candidate::new(connections, connections));
///     let mut out = [0.0; 3];
///     InverseConnections.probabilities(&candidates, &mut out);
///     out
/// };
/// assert_eq!(shares([2, 1, 2]), [0.25, 0.5, 0.25]);
/// assert_eq!(shares([0, 7, 0]), [0.5, 0.0, 0.5]);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct InverseConnections;

impl Policy for InverseConnections {
    fn name(&self) -> &'static str {
        "inverse-connections"
    }

    fn probabilities(&self, candidates: &[Candidate], out: &mut [f64]) {
        out.iter_mut().zip(candidates).for_each(|(p, _)| *p = 0.0);
        for (place, p) in out.iter_mut().zip(shares(candidates)) {
            *place = p;
        }
    }

    fn select(
        &mut self,
        _request: Request,
        candidates: &[Candidate],
        rng: &mut dyn Rng,
    ) -> Option<usize> {
        let random = uniform(rng);
        let mut cumulated = 0.0;
        let mut chosen = None;
        for (index, p) in shares(candidates).enumerate() {
            if p > 0.0 {
                // The last one that has a probability, should the sum stay below `random` by rounding.
                chosen = Some(index);
            }
            cumulated += p;
            if random < cumulated {
                break;
            }
        }
        chosen
    }
}

/// Equations 1 and 2; nothing if nobody is ready.
fn shares(candidates: &[Candidate]) -> impl Iterator<Item = f64> {
    Farm::new(candidates).into_iter().flat_map(|farm| {
        let idle = move |farm: &Farm<'_>, c: &Candidate| c.is_ready() && farm.load(c) == 0.0;
        let of_idle: u64 = candidates
            .iter()
            .filter(|c| idle(&farm, c))
            .map(Candidate::capacity)
            .sum();
        let k = 1.0
            / candidates
                .iter()
                .filter(|c| c.is_ready())
                .map(|c| 1.0 / count(&farm, c))
                .sum::<f64>();
        candidates.iter().map(move |candidate| {
            if !candidate.is_ready() {
                0.0
            } else if idle(&farm, candidate) {
                candidate.capacity() as f64 / of_idle as f64
            } else if of_idle > 0 {
                0.0
            } else {
                // Rounding may take the only candidate's beyond 1.
                (k / count(&farm, candidate)).min(1.0)
            }
        })
    })
}

/// What stands for `CN`.
fn count(farm: &Farm<'_>, candidate: &Candidate) -> f64 {
    farm.load(candidate) / farm.readiness(candidate)
}
