//! Smooth weighted round robin.

use alloc::vec::Vec;

use rand_core::Rng;

use crate::load::write_shares;
use crate::{Candidate, Policy, Request};

/// Servers in turn, each as often as its weight says, and never one of them many times on end.
///
/// Each selection adds its weight to every server's credit; the server with the most credit is
/// chosen (of equals, the one with the lowest number) and pays the sum of all weights. With
/// weights 5, 1 and 1 the order is a a b a c a a. This is what nginx does since 1.3.1, and HAProxy's
/// `roundrobin` keeps the same promise: whoever writes weights of 3 and 1 expects three of each
/// four requests there, and not three of four on average, as draws would give.
///
/// A server that is ready to `r < 1` has the weight `w · r`.
///
/// Credit is kept of servers that are no candidates for a while: those of another service, or
/// those left out once. Full (1024 servers, or twice the candidates if that is more), all of it is
/// forgotten. Only a server without credit makes `select` allocate.
///
/// ```
/// use core::num::NonZeroU16;
/// use ipos_balance::{Candidate, Policy, Request, Weighted};
/// # use rand_core::SeedableRng;
/// # let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
///
/// let weights = [5, 1, 1].map(|weight| NonZeroU16::new(weight).unwrap());
/// let candidates: Vec<_> = (0..)
///     .zip(weights)
///     .map(|(server, weight)| Candidate { weight, ..Candidate::new(server, 0) })
///     .collect();
/// let mut policy = Weighted::default();
/// let order: String = (0..7)
///     .filter_map(|_| policy.select(Request::default(), &candidates, &mut rng))
///     .map(|index| ["a", "b", "c"][index])
///     .collect();
/// assert_eq!(order, "aabacaa");
/// ```
#[derive(Debug, Clone, Default)]
pub struct Weighted {
    /// By the servers' numbers.
    credits: Vec<(u32, i64)>,
}

/// Servers whose credit is kept at least.
const KEPT: usize = 1024;

impl Weighted {
    fn credit(&mut self, server: u32) -> Option<&mut i64> {
        let at = self
            .credits
            .binary_search_by_key(&server, |(server, _)| *server)
            .unwrap_or_else(|at| {
                self.credits.insert(at, (server, 0));
                at
            });
        self.credits.get_mut(at).map(|(_, credit)| credit)
    }
}

impl Policy for Weighted {
    fn name(&self) -> &'static str {
        "weighted"
    }

    fn probabilities(&self, candidates: &[Candidate], out: &mut [f64]) {
        write_shares(candidates, out, Candidate::capacity);
    }

    fn select(
        &mut self,
        _request: Request,
        candidates: &[Candidate],
        _rng: &mut dyn Rng,
    ) -> Option<usize> {
        if self.credits.len() >= KEPT.max(2 * candidates.len()) {
            self.credits.clear();
        }
        let mut sum = 0i64;
        let mut best: Option<(usize, &Candidate, i64)> = None;
        for (index, candidate) in candidates.iter().enumerate().filter(|(_, c)| c.is_ready()) {
            // At most 2^32: the sum of any number of candidates that fits in memory is far from overflow.
            let weight = candidate.capacity().cast_signed();
            sum = sum.saturating_add(weight);
            let credit = self.credit(candidate.server)?;
            *credit = credit.saturating_add(weight);
            let better = best.is_none_or(|(_, other, most)| {
                *credit > most || *credit == most && candidate.server < other.server
            });
            if better {
                best = Some((index, candidate, *credit));
            }
        }
        let (index, chosen, _) = best?;
        if let Some(credit) = self.credit(chosen.server) {
            *credit = credit.saturating_sub(sum);
        }
        Some(index)
    }
}

#[cfg(test)]
impl Weighted {
    pub(crate) fn kept(&self) -> usize {
        self.credits.len()
    }
}
