//! Inverse connection count.

use rand_core::Rng;

use crate::{Candidate, Policy};

/// The probability of a server is inversely proportional to its connections:
/// `p_i = k / CN_i` with `k = 1 / Σ 1/CN_j` (equations 1 and 2).
///
/// Servers without connections share the whole probability equally, which is the limit of the
/// equations.
///
/// ```
/// use ipos_balance::{Candidate, InverseConnections, Policy};
///
/// let shares = |connections: [u32; 3]| {
///     let candidates =
///         connections.map(|connections| Candidate { server: connections, connections, weight: 1 });
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
        for (place, p) in out.iter_mut().zip(shares(candidates)) {
            *place = p;
        }
    }

    fn select(&mut self, candidates: &[Candidate], rng: &mut dyn Rng) -> Option<usize> {
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

/// Equations 1 and 2.
fn shares(candidates: &[Candidate]) -> impl Iterator<Item = f64> {
    let idle = candidates
        .iter()
        .filter(|candidate| candidate.connections == 0)
        .count();
    let k = 1.0
        / candidates
            .iter()
            .map(|candidate| 1.0 / count(candidate))
            .sum::<f64>();
    candidates
        .iter()
        .map(move |candidate| match (idle, candidate.connections) {
            // Rounding may take the only candidate's beyond 1.
            (0, _) => (k / count(candidate)).min(1.0),
            (_, 0) => 1.0 / idle as f64,
            (_, _) => 0.0,
        })
}

/// `CN`.
fn count(candidate: &Candidate) -> f64 {
    f64::from(candidate.connections)
}

/// A uniform number in [0, 1): the 53 bits that an `f64` holds exactly.
fn uniform(rng: &mut dyn Rng) -> f64 {
    const BITS: u32 = 53;
    (rng.next_u64() >> (u64::BITS - BITS)) as f64 / (1u64 << BITS) as f64
}
