//! Tests of the policies against FIG. 7's example, the equations and many draws.

mod choices;
mod inverse;
mod maglev;
mod properties;
mod readiness;
mod turns;

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU16;

use proptest::collection::vec as vec_of;
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::*;

/// FIG. 7.
const SEED: [u32; 3] = [27, 30, 33];

fn candidates(connections: &[u32]) -> Vec<Candidate> {
    let of = |(server, connections): (u32, &u32)| Candidate::new(server, *connections);
    (1..).zip(connections).map(of).collect()
}

fn weighted(server: u32, connections: u32, weight: u16) -> Candidate {
    let weight = NonZeroU16::new(weight).unwrap();
    Candidate {
        weight,
        ..Candidate::new(server, connections)
    }
}

fn ready(server: u32, connections: u32, readiness: Readiness) -> Candidate {
    Candidate {
        readiness,
        ..Candidate::new(server, connections)
    }
}

fn shares(policy: &dyn Policy, candidates: &[Candidate]) -> Vec<f64> {
    let mut out = vec![f64::NAN; candidates.len()];
    policy.probabilities(candidates, &mut out);
    out
}

fn probabilities(policy: &dyn Policy, connections: &[u32]) -> Vec<f64> {
    shares(policy, &candidates(connections))
}

/// How often each candidate is chosen in `draws` seeded selections, each with another key.
fn seen(policy: &mut dyn Policy, candidates: &[Candidate], draws: u32) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(20_150_804);
    let mut seen = vec![0u32; candidates.len()];
    for key in 0..u64::from(draws) {
        seen[policy
            .select(Request { key }, candidates, &mut rng)
            .unwrap()] += 1;
    }
    seen
}

/// Pearson's chi-square of `draws` seeded choices against the probabilities.
fn chi_square(policy: &mut dyn Policy, connections: &[u32], draws: u32) -> f64 {
    let seen = seen(policy, &candidates(connections), draws);
    let expected = probabilities(policy, connections);
    let terms = seen
        .iter()
        .zip(expected)
        .map(|(seen, p)| match p * f64::from(draws) {
            0.0 if *seen == 0 => 0.0,
            expected => (f64::from(*seen) - expected).powi(2) / expected,
        });
    terms.sum()
}

#[test]
fn nobody_to_choose() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let nobody_ready = [1, 2].map(|server| ready(server, server, Readiness::NONE));
    for kind in PolicyKind::ALL {
        for candidates in [&[][..], &nobody_ready] {
            let request = Request::default();
            assert_eq!(kind.build().select(request, candidates, &mut rng), None);
            assert!(shares(&*kind.build(), candidates).iter().all(|p| *p == 0.0));
        }
    }
}

#[test]
fn names() {
    for kind in PolicyKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
        assert_eq!(kind.build().name(), kind.name());
    }
    for name in ["fair", "", "Round-Robin"] {
        let error = name.parse::<PolicyKind>().unwrap_err().to_string();
        let begin = ["policy \"", name, "\" is not available: choose \""].concat();
        assert!(error.starts_with(&begin), "{error}");
        for kind in PolicyKind::ALL {
            assert!(error.contains(&["\"", kind.name(), "\""].concat()));
        }
    }
}
