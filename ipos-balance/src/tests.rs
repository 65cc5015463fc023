//! Tests of the policies against the seed's example, the equations and many draws.

use alloc::string::ToString;
use alloc::vec;
use alloc::vec::Vec;
use core::convert::Infallible;

use proptest::collection::vec as vec_of;
use proptest::prelude::*;
use rand_chacha::ChaCha8Rng;
use rand_core::{SeedableRng, TryRng};

use crate::*;

/// FIG. 7.
const SEED: [u32; 3] = [27, 30, 33];

fn candidates(connections: &[u32]) -> Vec<Candidate> {
    let of = |(server, connections): (u32, &u32)| Candidate {
        server,
        connections: *connections,
        weight: 1,
    };
    (1..).zip(connections).map(of).collect()
}

fn probabilities(policy: &dyn Policy, connections: &[u32]) -> Vec<f64> {
    let mut out = vec![f64::NAN; connections.len()];
    policy.probabilities(&candidates(connections), &mut out);
    out
}

/// A generator whose numbers in [0, 1) are all this one.
struct Always(f64);

impl TryRng for Always {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        Ok((self.0 * 2f64.powi(32)) as u32)
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        Ok((self.0 * 2f64.powi(64)) as u64)
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        bytes.fill((self.0 * 256.0) as u8);
        Ok(())
    }
}

fn chosen_at(random: f64, connections: &[u32]) -> Option<usize> {
    InverseConnections.select(&candidates(connections), &mut Always(random))
}

#[test]
fn the_example_of_the_seed() {
    let rounded: Vec<_> = probabilities(&InverseConnections, &SEED)
        .iter()
        .map(|p| (p * 100.0).round() / 100.0)
        .collect();
    assert_eq!(rounded, [0.37, 0.33, 0.30]);
    // "less than 0.37 … greater than 0.37 yet less than 0.7 … greater than 0.7"
    for (random, server) in [
        (0.0, 0),
        (0.36, 0),
        (0.375, 1),
        (0.69, 1),
        (0.705, 2),
        (0.9999, 2),
    ] {
        assert_eq!(chosen_at(random, &SEED), Some(server), "{random}");
    }
}

#[test]
fn servers_without_connections_share_everything() {
    assert_eq!(
        probabilities(&InverseConnections, &[0, 5, 0, 1]),
        [0.5, 0.0, 0.5, 0.0]
    );
    assert_eq!(probabilities(&InverseConnections, &[0]), [1.0]);
    assert_eq!(chosen_at(0.49, &[0, 5, 0, 1]), Some(0));
    assert_eq!(chosen_at(0.51, &[0, 5, 0, 1]), Some(2));
    assert_eq!(chosen_at(0.999_999, &[5, 0, 1]), Some(1));
}

#[test]
fn the_largest_counts_and_numbers_choose_somebody() {
    let just_below_1 = 1.0 - f64::EPSILON / 2.0;
    for connections in [&[u32::MAX; 7][..], &[1, u32::MAX], &[u32::MAX, 1, 0], &SEED] {
        let last = connections
            .iter()
            .rposition(|count| *count == 0 || !connections.contains(&0));
        assert_eq!(chosen_at(just_below_1, connections), last);
    }
}

#[test]
fn nobody_to_choose() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for kind in PolicyKind::ALL {
        assert_eq!(kind.build().select(&[], &mut rng), None);
        kind.build().probabilities(&[], &mut []);
    }
}

/// Pearson's chi-square of `draws` seeded choices against the probabilities.
fn chi_square(policy: &mut dyn Policy, connections: &[u32], draws: u32) -> f64 {
    let candidates = candidates(connections);
    let mut rng = ChaCha8Rng::seed_from_u64(20_150_804);
    let mut seen = vec![0u32; candidates.len()];
    for _ in 0..draws {
        seen[policy.select(&candidates, &mut rng).unwrap()] += 1;
    }
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
fn draws_have_the_probabilities_of_the_equations() {
    // 99.9th percentiles of chi-square with 2, 3 and 4 degrees of freedom.
    let cases: [(&[u32], f64); 4] = [
        (&SEED, 13.82),
        (&[1, 10, 100, 1000], 16.27),
        (&[0, 3, 0, 0], 13.82),
        (&[4, 4, 4, 4, 4], 18.47),
    ];
    for (connections, bound) in cases {
        let statistic = chi_square(&mut InverseConnections, connections, 100_000);
        assert!(
            statistic < bound,
            "{connections:?}: {statistic} is not below {bound}"
        );
    }
}

#[test]
fn draws_are_told_from_equal_shares() {
    // The bound above can fail: the same draws against equal shares.
    struct Equal(InverseConnections);
    impl Policy for Equal {
        fn name(&self) -> &'static str {
            "equal"
        }
        fn probabilities(&self, candidates: &[Candidate], out: &mut [f64]) {
            out.fill(1.0 / candidates.len() as f64);
        }
        fn select(&mut self, candidates: &[Candidate], rng: &mut dyn Rng) -> Option<usize> {
            self.0.select(candidates, rng)
        }
    }
    assert!(chi_square(&mut Equal(InverseConnections), &SEED, 100_000) > 13.82);
}

#[test]
fn the_same_seed_gives_the_same_choices() {
    let run = |seed| -> Vec<_> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..100)
            .map(|_| InverseConnections.select(&candidates(&SEED), &mut rng))
            .collect()
    };
    assert_eq!(run(42), run(42));
    assert_ne!(run(42), run(43));
}

#[test]
fn round_robin_takes_turns() {
    assert_eq!(chi_square(&mut RoundRobin::default(), &SEED, 99_999), 0.0);
    assert_eq!(
        probabilities(&RoundRobin::default(), &[9, 9, 9, 9]),
        [0.25; 4]
    );
}

#[test]
fn round_robin_goes_on_after_the_last_one() {
    let mut policy = RoundRobin::default();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let mut next = |servers: &[u32]| {
        let of = |server: &u32| Candidate {
            server: *server,
            connections: 0,
            weight: 1,
        };
        let candidates: Vec<_> = servers.iter().map(of).collect();
        policy
            .select(&candidates, &mut rng)
            .map(|index| servers[index])
    };
    // The order of the candidates is not that of their numbers.
    assert_eq!(next(&[30, 10, 20]), Some(10));
    assert_eq!(next(&[30, 10, 20]), Some(20));
    // The last one goes, others come: before and after it.
    assert_eq!(next(&[30, 10, 15]), Some(30));
    assert_eq!(next(&[30, 10, 5]), Some(5));
    assert_eq!(next(&[5]), Some(5));
    assert_eq!(next(&[]), None);
    assert_eq!(next(&[30, 10, 5]), Some(10));
}

#[test]
fn names() {
    for kind in PolicyKind::ALL {
        assert_eq!(kind.to_string().parse(), Ok(kind));
        assert_eq!(kind.build().name(), kind.name());
    }
    for name in ["maglev", "least-connections", "", "Round-Robin"] {
        let error = name.parse::<PolicyKind>().unwrap_err();
        let expected = "is not available: choose \"inverse-connections\" or \"round-robin\" \
             (\"least-connections\", \"p2c\", \"weighted\" and \"maglev\" are not supported yet)";
        assert_eq!(
            error.to_string(),
            ["policy \"", name, "\" ", expected].concat()
        );
        for kind in PolicyKind::ALL {
            assert!(error.to_string().contains(kind.name()));
        }
    }
}

/// Rounding takes 1 / (1 / 49) * (1 / 49) beyond 1.
#[test]
fn a_single_candidate_is_certain() {
    for connections in 0..1000 {
        let candidates = [Candidate {
            server: 1,
            connections,
            weight: 1,
        }];
        let mut p = [0.0];
        InverseConnections.probabilities(&candidates, &mut p);
        assert!(
            (0.0..=1.0).contains(&p[0]) && p[0] > 0.999_999,
            "{connections}: {p:?}"
        );
    }
}

proptest! {
    #[test]
    fn probabilities_are_those_of_the_equations(connections in vec_of(1u32.., 1..20)) {
        let k = 1.0 / connections.iter().map(|cn| 1.0 / f64::from(*cn)).sum::<f64>();
        for (p, cn) in probabilities(&InverseConnections, &connections).iter().zip(&connections) {
            prop_assert!((*p - k / f64::from(*cn)).abs() < 1e-12);
        }
    }

    #[test]
    fn probabilities_sum_to_1(connections in vec_of(0u32..50, 1..20)) {
        for kind in PolicyKind::ALL {
            let all = probabilities(&*kind.build(), &connections);
            prop_assert!(all.iter().all(|p| (0.0..=1.0).contains(p)));
            prop_assert!((all.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }
    }

    #[test]
    fn only_what_has_a_probability_is_chosen(connections in vec_of(0u32..5, 1..20), seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        for kind in PolicyKind::ALL {
            let mut policy = kind.build();
            let shares = probabilities(&*policy, &connections);
            let chosen = policy.select(&candidates(&connections), &mut rng).unwrap();
            prop_assert!(shares[chosen] > 0.0);
        }
    }

    #[test]
    fn round_robin_serves_everybody_once_a_round(connections in vec_of(0u32..5, 1..20)) {
        let candidates = candidates(&connections);
        let (mut policy, mut rng) = (RoundRobin::default(), ChaCha8Rng::seed_from_u64(1));
        let round: Vec<_> =
            candidates.iter().map(|_| policy.select(&candidates, &mut rng)).collect();
        prop_assert!(round.into_iter().eq((0..candidates.len()).map(Some)));
    }
}
