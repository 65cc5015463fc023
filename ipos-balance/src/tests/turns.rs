//! Round robin, plain and weighted.

use super::*;

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
        let of = |server: &u32| Candidate::new(*server, 0);
        let candidates: Vec<_> = servers.iter().map(of).collect();
        policy
            .select(Request::default(), &candidates, &mut rng)
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

/// The servers of `turns` selections.
fn order(policy: &mut dyn Policy, candidates: &[Candidate], turns: usize) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let turn = |_| policy.select(Request::default(), candidates, &mut rng);
    let chosen = (0..turns).filter_map(turn);
    chosen.map(|index| candidates[index].server).collect()
}

#[test]
fn the_order_of_nginx() {
    let candidates = [weighted(1, 9, 5), weighted(2, 0, 1), weighted(3, 0, 1)];
    let mut policy = Weighted::default();
    for _ in 0..3 {
        assert_eq!(order(&mut policy, &candidates, 7), [1, 1, 2, 1, 3, 1, 1]);
    }
}

#[test]
fn services_take_turns_of_their_own() {
    let one = [weighted(1, 0, 3), weighted(2, 0, 1)];
    let two = [weighted(3, 0, 1), weighted(4, 0, 3)];
    let mut policy = Weighted::default();
    let mut chosen = Vec::new();
    for _ in 0..8 {
        chosen.extend(order(&mut policy, &one, 1));
        chosen.extend(order(&mut policy, &two, 1));
    }
    let times = |server| chosen.iter().filter(|chosen| **chosen == server).count();
    assert_eq!([1, 2, 3, 4].map(times), [6, 2, 2, 6]);
}

#[test]
fn credits_are_bounded() {
    let mut policy = Weighted::default();
    let mut most = 0;
    for server in 0..10_000 {
        let candidates = [Candidate::new(server, 0), Candidate::new(server + 1, 0)];
        assert_eq!(order(&mut policy, &candidates, 1).len(), 1);
        most = most.max(policy.kept());
    }
    assert!((1024..=1026).contains(&most), "{most}");
    let many: Vec<_> = (0..3000).map(|server| Candidate::new(server, 0)).collect();
    let turns = order(&mut policy, &many, 6000);
    assert!(turns.iter().copied().eq((0..3000).chain(0..3000)));
}

proptest! {
    #[test]
    fn weighted_is_exact_in_each_round(weights in vec_of(1u16..20, 1..12)) {
        let candidates: Vec<_> =
            (0..).zip(&weights).map(|(server, weight)| weighted(server, 0, *weight)).collect();
        let sum: usize = weights.iter().map(|weight| usize::from(*weight)).sum();
        let mut policy = Weighted::default();
        for _ in 0..2 {
            let round = order(&mut policy, &candidates, sum);
            for (server, weight) in (0..).zip(&weights) {
                let times = round.iter().filter(|chosen| **chosen == server).count();
                prop_assert_eq!(times, usize::from(*weight));
            }
        }
    }

    #[test]
    fn round_robin_serves_everybody_once_a_round(connections in vec_of(0u32..5, 1..20)) {
        let candidates = candidates(&connections);
        let (mut policy, mut rng) = (RoundRobin::default(), ChaCha8Rng::seed_from_u64(1));
        let round: Vec<_> =
            candidates.iter().map(|_| policy.select(Request::default(), &candidates, &mut rng)).collect();
        prop_assert!(round.into_iter().eq((0..candidates.len()).map(Some)));
    }
}
