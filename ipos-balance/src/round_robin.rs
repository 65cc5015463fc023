//! Round robin.

use rand_core::Rng;

use crate::{Candidate, Policy};

/// Servers in turn, in the order of their numbers. When candidates come and go the turn goes on
/// after the server that was chosen last.
///
/// ```
/// use ipos_balance::{Candidate, Policy, RoundRobin};
/// # use rand_core::SeedableRng;
/// # let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
///
/// let all = [1, 2, 3].map(|server| Candidate { server, connections: 0, weight: 1 });
/// let mut policy = RoundRobin::default();
/// assert_eq!(policy.select(&all, &mut rng), Some(0));
/// // Server 2 is gone for one turn.
/// assert_eq!(policy.select(&[all[0], all[2]], &mut rng), Some(1));
/// assert_eq!(policy.select(&all, &mut rng), Some(0));
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
        for (place, _) in out.iter_mut().zip(candidates) {
            *place = 1.0 / candidates.len() as f64;
        }
    }

    fn select(&mut self, candidates: &[Candidate], _rng: &mut dyn Rng) -> Option<usize> {
        let turn = |(_, candidate): &(usize, &Candidate)| {
            // Servers up to the last one come after all others.
            (
                self.last.is_some_and(|last| candidate.server <= last),
                candidate.server,
            )
        };
        let (index, chosen) = candidates.iter().enumerate().min_by_key(turn)?;
        self.last = Some(chosen.server);
        Some(index)
    }
}
