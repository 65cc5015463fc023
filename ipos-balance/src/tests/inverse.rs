//! Inverse connection count, against FIG. 7's example and the equations.

use core::convert::Infallible;

use rand_core::TryRng;

use super::*;

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
    InverseConnections.select(
        Request::default(),
        &candidates(connections),
        &mut Always(random),
    )
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
        fn select(
            &mut self,
            request: Request,
            candidates: &[Candidate],
            rng: &mut dyn Rng,
        ) -> Option<usize> {
            self.0.select(request, candidates, rng)
        }
    }
    assert!(chi_square(&mut Equal(InverseConnections), &SEED, 100_000) > 13.82);
}

#[test]
fn the_same_seed_gives_the_same_choices() {
    let run = |seed| -> Vec<_> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        (0..100)
            .map(|_| InverseConnections.select(Request::default(), &candidates(&SEED), &mut rng))
            .collect()
    };
    assert_eq!(run(42), run(42));
    assert_ne!(run(42), run(43));
}

/// Rounding takes 1 / (1 / 49) * (1 / 49) beyond 1.
#[test]
fn a_single_candidate_is_certain() {
    for connections in 0..1000 {
        let p = probabilities(&InverseConnections, &[connections]);
        assert!(
            (0.0..=1.0).contains(&p[0]) && p[0] > 0.999_999,
            "{connections}: {p:?}"
        );
    }
}

#[test]
fn weights_divide_connections() {
    let candidates = [weighted(1, 30, 3), weighted(2, 10, 1), weighted(3, 10, 2)];
    let shares = shares(&InverseConnections, &candidates);
    for (p, expected) in shares.iter().zip([0.25, 0.25, 0.5]) {
        assert!((p - expected).abs() < 1e-12, "{shares:?}");
    }
    let idle = [weighted(1, 0, 3), weighted(2, 9, 9), weighted(3, 0, 1)];
    assert_eq!(super::shares(&InverseConnections, &idle), [0.75, 0.0, 0.25]);
}

proptest! {
    #[test]
    fn probabilities_are_those_of_the_equations(connections in vec_of(1u32.., 1..20)) {
        let k = 1.0 / connections.iter().map(|cn| 1.0 / f64::from(*cn)).sum::<f64>();
        for (p, cn) in probabilities(&InverseConnections, &connections).iter().zip(&connections) {
            prop_assert!((*p - k / f64::from(*cn)).abs() < 1e-12);
        }
    }
}
