//! Round robin.

use rand_core::Rng;

use crate::draw::chance;
use crate::load::{readiest, write_shares};
use crate::{Candidate, Policy, Request};

/// Servers in turn, in the order of their numbers. When candidates come and go the turn goes on
/// after the server that was chosen last.
///
/// Weights do not count: [`Weighted`](crate::Weighted) is the policy for them. A server that is
/// ready to `r < 1` takes `r` of its turns, drawn at random, and passes on the others.
///
/// ```
/// use ipos_balance::{Candidate, Policy, Request, RoundRobin};
/// # use rand_core::SeedableRng;
/// # let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
///
/// let all = [1, 2, 3].map(|server| Candidate::new(server, 0));
/// let (mut policy, request) = (RoundRobin::default(), Request::default());
/// assert_eq!(policy.select(request, &all, &mut rng), Some(0));
/// // Server 2 is gone for one turn.
/// assert_eq!(policy.select(request, &[all[0], all[2]], &mut rng), Some(1));
/// assert_eq!(policy.select(request, &all, &mut rng), Some(0));
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct RoundRobin {
    last: Option<u32>,
}

impl Policy for RoundRobin {
    fn name(&self) -> &'static str {
        "round-robin"
    }

    fn probabilities(&self, candidates: &[Candidate], out: &mut [f64]) {
        write_shares(candidates, out, |candidate| candidate.readiness.parts());
    }

    fn select(
        &mut self,
        _request: Request,
        candidates: &[Candidate],
        rng: &mut dyn Rng,
    ) -> Option<usize> {
        let readiest = readiest(candidates)?;
        let turn = |(_, candidate): &(usize, &Candidate)| {
            // Servers up to the last one come after all others.
            (
                self.last.is_some_and(|last| candidate.server <= last),
                candidate.server,
            )
        };
        // The readiest one takes each of its turns, so that there always is somebody.
        let takes = |(_, candidate): &(usize, &Candidate)| {
            chance(rng, candidate.readiness.parts(), readiest)
        };
        let (index, chosen) = candidates
            .iter()
            .enumerate()
            .filter(takes)
            .min_by_key(turn)?;
        self.last = Some(chosen.server);
        Some(index)
    }
}
