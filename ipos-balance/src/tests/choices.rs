//! Least connections and the power of two choices.

use super::*;

/// 99.9th percentile of chi-square with 4 degrees of freedom.
const PERCENTILE: f64 = 18.47;

#[test]
fn the_least_by_weight() {
    let candidates = [
        weighted(1, 9, 1),
        weighted(2, 16, 2),
        weighted(3, 24, 3),
        weighted(4, 25, 3),
    ];
    // 8 by weight, twice: drawn by weight.
    assert_eq!(shares(&LeastConnections, &candidates), [0.0, 0.4, 0.6, 0.0]);
    let idle = [weighted(1, 0, 3), weighted(2, 1, 60_000), weighted(3, 0, 1)];
    assert_eq!(shares(&LeastConnections, &idle), [0.75, 0.0, 0.25]);
}

#[test]
fn draws_have_their_probabilities() {
    for connections in [[3, 3, 3, 3, 3], [5, 1, 1, 1, 2], [1, 2, 3, 4, 5]] {
        for policy in [&mut LeastConnections as &mut dyn Policy, &mut TwoChoices] {
            let statistic = chi_square(policy, &connections, 100_000);
            let name = policy.name();
            assert!(
                statistic < PERCENTILE,
                "{name} {connections:?}: {statistic}"
            );
        }
    }
}

/// With n servers and no equals, the one with the i-th fewest connections wins against n - i
/// others: 2(n - i) / n(n - 1).
#[test]
fn two_choices_are_all_pairs() {
    let connections = [40, 10, 50, 20, 30];
    for (p, wins) in probabilities(&TwoChoices, &connections)
        .iter()
        .zip([1, 4, 0, 3, 2])
    {
        assert!((p - f64::from(2 * wins) / 20.0).abs() < 1e-12);
    }
    // The one with most connections is never chosen, even by the largest numbers.
    assert_eq!(
        seen(&mut TwoChoices, &candidates(&connections), 10_000)[2],
        0
    );
}

#[test]
fn both_choices_are_drawn_by_weight() {
    // The heavy one is nearly always one of the two, and loses then.
    let candidates = [weighted(1, 2, 1), weighted(2, 1000, 98), weighted(3, 1, 1)];
    let p = shares(&TwoChoices, &candidates);
    let lost_first = 2.0 * (0.01 * 0.01 / 0.99);
    assert!((p[1] - 0.0).abs() < 1e-12, "{p:?}");
    assert!((p[2] - p[0] - lost_first).abs() < 1e-12, "{p:?}");
    assert_eq!(probabilities(&TwoChoices, &[7]), [1.0]);
}
