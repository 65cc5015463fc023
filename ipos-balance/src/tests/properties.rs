//! What holds for every policy.

use super::*;

fn readiness() -> impl Strategy<Value = Readiness> {
    prop_oneof![
        4 => Just(Readiness::FULL),
        1 => Just(Readiness::NONE),
        1 => Just(Readiness::LEAST),
        2 => (1u64..8).prop_map(|part| Readiness::new(part, 8)),
        1 => (0u64..65_536).prop_map(|part| Readiness::new(part, 65_536)),
    ]
}

/// Any candidates, one of them ready.
fn some_ready() -> impl Strategy<Value = Vec<Candidate>> {
    let connections = prop_oneof![0u32..5, 0u32..100, 0u32..];
    let weight = prop_oneof![Just(1u16), 1u16..10, 1u16..];
    vec_of((connections, weight, readiness()), 1..20)
        .prop_map(|all| {
            let of = |(server, (connections, weight, readiness))| Candidate {
                readiness,
                ..weighted(server, connections, weight)
            };
            (0..).zip(all).map(of).collect::<Vec<_>>()
        })
        .prop_filter("nobody is ready", |all| {
            all.iter().any(|c| c.readiness > Readiness::NONE)
        })
}

proptest! {
    #[test]
    fn probabilities_sum_to_1(candidates in some_ready()) {
        for kind in PolicyKind::ALL {
            let all = shares(&*kind.build(), &candidates);
            prop_assert!(all.iter().all(|p| (0.0..=1.000_000_000_001).contains(p)), "{kind} {all:?}");
            prop_assert!((all.iter().sum::<f64>() - 1.0).abs() < 1e-9, "{kind} {all:?}");
        }
    }

    #[test]
    fn only_who_has_a_probability_is_chosen(candidates in some_ready(), seed: u64) {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let request = Request { key: rng.next_u64() };
        // Each table of Maglev takes its time.
        for kind in PolicyKind::ALL.into_iter().filter(|kind| *kind != PolicyKind::Maglev) {
            let mut policy = kind.build();
            let shares = shares(&*policy, &candidates);
            for _ in 0..20 {
                let chosen = policy.select(request, &candidates, &mut rng).unwrap();
                prop_assert!(shares[chosen] > 0.0, "{kind}: {chosen} of {shares:?}");
            }
        }
    }

    #[test]
    fn equally_ready_is_ready(connections in vec_of(0u32..50, 1..20), part in 1u64..8, seed: u64) {
        let full = candidates(&connections);
        let readiness = Readiness::new(part, 8);
        let some: Vec<_> = full.iter().map(|c| Candidate { readiness, ..*c }).collect();
        for kind in PolicyKind::ALL.into_iter().filter(|kind| *kind != PolicyKind::Maglev) {
            let (mut one, mut other) = (kind.build(), kind.build());
            prop_assert_eq!(shares(&*one, &full), shares(&*other, &some));
            let [mut here, mut there] = [seed; 2].map(ChaCha8Rng::seed_from_u64);
            let request = Request::default();
            for _ in 0..5 {
                prop_assert_eq!(
                    one.select(request, &full, &mut here),
                    other.select(request, &some, &mut there)
                );
            }
            prop_assert_eq!(here.next_u64(), there.next_u64());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// More than 7 standard deviations of 20 000 draws.
    #[test]
    fn frequencies_are_the_probabilities(candidates in some_ready()) {
        const DRAWS: u32 = 20_000;
        for kind in PolicyKind::ALL {
            let mut policy = kind.build();
            let seen = seen(&mut *policy, &candidates, DRAWS);
            for (seen, p) in seen.iter().zip(shares(&*policy, &candidates)) {
                let frequency = f64::from(*seen) / f64::from(DRAWS);
                prop_assert!((frequency - p).abs() < 0.026, "{kind}: {frequency} instead of {p}");
                prop_assert!(*seen == 0 || p > 0.0, "{kind}");
            }
        }
    }
}
