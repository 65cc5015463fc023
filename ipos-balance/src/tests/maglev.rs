//! Consistent hashing: balance, agreement, disruption.

use super::*;

const KEYS: u64 = 20_000;

fn farm(servers: u32) -> Vec<Candidate> {
    // Numbers as a device has them: addresses.
    let number = |server| 0x0a63_0000 + server;
    (1..=servers)
        .map(|server| Candidate::new(number(server), 0))
        .collect()
}

/// The server of each key.
fn chosen(policy: &mut Maglev, candidates: &[Candidate]) -> Vec<u32> {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let select = |key| policy.select(Request { key }, candidates, &mut rng);
    let chosen = (0..KEYS).filter_map(select);
    chosen.map(|index| candidates[index].server).collect()
}

#[test]
fn entries_are_shared_by_weight() {
    let mut policy = Maglev::default();
    for servers in [1, 2, 3, 16, 128] {
        let entries = policy.entries_of_each(&farm(servers));
        let (least, most) = (entries.iter().min().unwrap(), entries.iter().max().unwrap());
        assert_eq!(entries.iter().sum::<usize>(), 65_537);
        assert!(most - least <= 1, "{servers}: {entries:?}");
    }
    let candidates = [weighted(1, 0, 1), weighted(2, 0, 2), weighted(3, 0, 7)];
    for (entries, weight) in policy
        .entries_of_each(&candidates)
        .iter()
        .zip([1.0, 2.0, 7.0])
    {
        assert!((*entries as f64 - weight * 6553.7).abs() < 3.0, "{entries}");
    }
    let heavy = [weighted(1, 0, 1), weighted(2, 0, u16::MAX)];
    assert_eq!(policy.entries_of_each(&heavy), [1, 65_536]);
}

#[test]
fn one_of_n_gone_moves_about_its_own_keys() {
    for servers in [3, 8, 16, 64] {
        let mut policy = Maglev::default();
        let all = farm(servers);
        let before = chosen(&mut policy, &all);
        for gone in [0, all.len() / 2, all.len() - 1] {
            let mut left = all.clone();
            let gone = left.remove(gone).server;
            let after = chosen(&mut policy, &left);
            assert!(!after.contains(&gone));
            let pairs = || before.iter().zip(&after);
            let own = before.iter().filter(|server| **server == gone).count() as f64;
            let others = pairs().filter(|(b, a)| **b != gone && a != b).count() as f64;
            let keys = KEYS as f64;
            assert!(
                (own / keys * f64::from(servers) - 1.0).abs() < 0.25,
                "{own} of {servers}"
            );
            assert!(
                others < 0.5 * own,
                "{servers} servers: {others} beside {own}"
            );
        }
    }
}

#[test]
fn a_server_that_is_passed_over_moves_its_own_keys_only() {
    let mut policy = Maglev::default();
    let mut candidates = farm(8);
    let before = chosen(&mut policy, &candidates);
    for readiness in [Readiness::new(3, 4), Readiness::new(1, 4), Readiness::NONE] {
        candidates[5].readiness = readiness;
        let after = chosen(&mut policy, &candidates);
        let five = candidates[5].server;
        let moved = before
            .iter()
            .zip(&after)
            .filter(|(before, after)| before != after);
        assert!(moved.clone().all(|(before, _)| *before == five));
        let (own, moved) = (before.iter().filter(|s| **s == five).count(), moved.count());
        let left = 1.0 - moved as f64 / own as f64;
        assert!(
            (left - readiness.as_f64()).abs() < 0.05,
            "{left} at {readiness:?}"
        );
    }
    assert_eq!(policy.kept_sets().len(), 1);
}

#[test]
fn keys_come_back_as_a_server_becomes_readier() {
    let mut policy = Maglev::default();
    let mut candidates = farm(4);
    let mut at = |parts| {
        candidates[1].readiness = Readiness::new(parts, 8);
        chosen(&mut policy, &candidates)
    };
    let mut earlier = at(0);
    let server = farm(4)[1].server;
    for parts in 1..=8 {
        let now = at(parts);
        let lost = |(earlier, now): (&u32, &u32)| *earlier == server && *now != server;
        assert!(!earlier.iter().zip(&now).any(lost), "{parts}");
        earlier = now;
    }
}

#[test]
fn the_oldest_table_is_replaced() {
    let mut policy = Maglev::default();
    for servers in 1..20 {
        chosen(&mut policy, &farm(servers));
        assert_eq!(policy.kept_sets().len(), servers.min(8) as usize);
    }
    // 12 to 19 are kept; the one that is used comes first.
    assert_eq!(
        chosen(&mut policy, &farm(12)),
        chosen(&mut Maglev::default(), &farm(12))
    );
    let sizes = policy.kept_sets();
    assert_eq!(sizes, [12, 19, 18, 17, 16, 15, 14, 13]);
}

/// All servers of a farm must agree, whatever version each runs: these choices never change.
#[test]
fn the_hash_stays_as_it_is() {
    let mut policy = Maglev::default();
    let chosen = chosen(&mut policy, &farm(5));
    let low: Vec<_> = chosen.iter().take(12).map(|server| server & 0xff).collect();
    assert_eq!(low, [1, 1, 3, 4, 4, 2, 4, 2, 1, 3, 4, 3]);
    // SplitMix64 with the seeds 0 and 1234567.
    assert_eq!(crate::maglev::mix(0), 0xe220_a839_7b1d_cdaf);
    assert_eq!(crate::maglev::mix(1_234_567), 6_457_827_717_110_365_317);
}

#[test]
fn more_servers_than_entries() {
    let many = farm(70_000);
    let mut policy = Maglev::default();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for key in 0..1000 {
        let index = policy.select(Request { key }, &many, &mut rng).unwrap();
        assert!(index < 65_535);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn the_order_of_candidates_does_not_matter(
        numbers in proptest::collection::hash_set(0u32.., 1..20),
        turn in 0usize..20,
        keys in vec_of(0u64.., 20),
    ) {
        let one: Vec<_> =
            numbers.iter().map(|server| weighted(*server, 0, 1 + (server % 3) as u16)).collect();
        let mut other = one.clone();
        other.rotate_left(turn % one.len());
        let (mut here, mut there) = (Maglev::default(), Maglev::default());
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for key in keys {
            let request = Request { key };
            let a = here.select(request, &one, &mut rng).unwrap();
            let b = there.select(request, &other, &mut rng).unwrap();
            prop_assert_eq!(one[a].server, other[b].server);
        }
    }
}
