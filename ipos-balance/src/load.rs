//! What the policies that look at connections compare: connections by weight, and who is ready.

use rand_core::Rng;

use crate::Candidate;
use crate::draw::below;

/// The candidates of one selection, seen from the readiest of them.
pub(crate) struct Farm<'a> {
    candidates: &'a [Candidate],
    /// Of the readiest one; never 0.
    readiest: u64,
    /// Connections by weight of all, each as far as it is ready.
    mean: f64,
}

impl<'a> Farm<'a> {
    /// `None` if nobody is ready.
    pub(crate) fn new(candidates: &'a [Candidate]) -> Option<Self> {
        let readiest = readiest(candidates)?;
        let (mut connections, mut weight) = (0.0, 0.0);
        for candidate in candidates {
            let readiness = candidate.readiness.as_f64();
            connections += readiness * f64::from(candidate.connections);
            weight += readiness * f64::from(candidate.weight.get());
        }
        let mean = connections / weight;
        Some(Self {
            candidates,
            readiest,
            mean,
        })
    }

    /// From 0.0 to 1.0, in relation to the readiest one.
    pub(crate) fn readiness(&self, candidate: &Candidate) -> f64 {
        candidate.readiness.parts() as f64 / self.readiest as f64
    }

    /// Connections by weight. What a server is not ready for counts as if it had it: `1 - r` of
    /// the mean. Exactly `CN / w` where all are equally ready.
    pub(crate) fn load(&self, candidate: &Candidate) -> f64 {
        let weight = f64::from(candidate.weight.get());
        let missing = (1.0 - self.readiness(candidate)) * self.mean * weight;
        (f64::from(candidate.connections) + missing) / weight
    }

    /// A bar that the readiest one always passes, and another one in `r` of all cases. All
    /// equally ready: everybody passes, and no number is drawn.
    pub(crate) fn draw_bar(&self, rng: &mut dyn Rng) -> u64 {
        let equal = |c: &Candidate| c.readiness.parts() == self.readiest || !c.is_ready();
        if self.candidates.iter().all(equal) {
            return self.readiest;
        }
        1 + below(rng, self.readiest)
    }

    /// Those that pass a bar, with their indexes.
    pub(crate) fn passing(&self, bar: u64) -> impl Iterator<Item = (usize, &'a Candidate)> + Clone {
        let passes = move |(_, c): &(usize, &Candidate)| c.readiness.parts() >= bar;
        self.candidates.iter().enumerate().filter(passes)
    }

    /// Bars between which the same candidates pass, each the highest of its kind, with the
    /// probability of the kind.
    pub(crate) fn bars(&self) -> impl Iterator<Item = (u64, f64)> {
        let mut below = 0;
        core::iter::from_fn(move || {
            let parts = self.candidates.iter().map(|c| c.readiness.parts());
            let bar = parts.filter(|parts| *parts > below).min()?;
            let probability = (bar - below) as f64 / self.readiest as f64;
            below = bar;
            Some((bar, probability))
        })
    }
}

/// The readiness of the readiest candidate, in parts; `None` if nobody is ready.
pub(crate) fn readiest(candidates: &[Candidate]) -> Option<u64> {
    let most = candidates.iter().map(|c| c.readiness.parts()).max();
    most.filter(|most| *most > 0)
}

/// Writes each candidate's part of the sum of all `parts`; nothing is anybody's where that is 0.
pub(crate) fn write_shares(
    candidates: &[Candidate],
    out: &mut [f64],
    parts: impl Fn(&Candidate) -> u64,
) {
    let sum = candidates.iter().map(&parts).sum::<u64>().max(1);
    for (place, candidate) in out.iter_mut().zip(candidates) {
        *place = parts(candidate) as f64 / sum as f64;
    }
}

/// `w`, as a part of sums.
pub(crate) fn weight(candidate: &Candidate) -> u64 {
    u64::from(candidate.weight.get())
}
