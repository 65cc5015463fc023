//! Readiness, slow start, passive health.

use core::time::Duration;

use super::*;

const MILLIS: fn(u64) -> Duration = Duration::from_millis;

#[test]
fn parts_of_a_whole() {
    assert_eq!(Readiness::new(3, 2), Readiness::FULL);
    assert_eq!(Readiness::new(0, 0), Readiness::FULL);
    assert_eq!(Readiness::new(0, 1), Readiness::NONE);
    assert_eq!(
        Readiness::new(u64::MAX - 1, u64::MAX).as_f64(),
        65_535.0 / 65_536.0
    );
    assert_eq!(Readiness::default(), Readiness::FULL);
    // What is ready in both respects, however little, is.
    let least = Readiness::new(1, 65_536);
    assert_eq!(least.and(least), least);
}

#[test]
fn a_ramp() {
    let ramp = SlowStart {
        duration: MILLIS(1000),
    };
    let at = |millis| ramp.readiness(MILLIS(millis)).as_f64();
    assert_eq!(
        [0, 10, 250, 500, 1000, 5000].map(at),
        [1.0 / 64.0, 1.0 / 64.0, 0.25, 0.5, 1.0, 1.0]
    );
    assert_eq!(SlowStart::OFF.readiness(Duration::ZERO), Readiness::FULL);
    let endless = SlowStart {
        duration: Duration::MAX,
    };
    assert_eq!(endless.readiness(MILLIS(1000)), Readiness::LEAST);
    assert_eq!(endless.readiness(Duration::MAX), Readiness::FULL);
}

#[test]
fn failures_halve_down_to_the_least() {
    let mut health = Health::default();
    let mut at = |millis| {
        health.failed(MILLIS(millis));
        health.readiness(MILLIS(millis))
    };
    assert_eq!(at(0), Readiness::new(1, 2));
    assert_eq!(at(0), Readiness::new(1, 4));
    assert_eq!(at(500), Readiness::new(1, 8));
    for _ in 0..100 {
        assert!(at(600) >= Readiness::LEAST);
    }
    assert_eq!(at(600), Readiness::LEAST);
}

#[test]
fn time_and_successes_double() {
    let mut health = Health::default();
    (0..6).for_each(|_| health.failed(MILLIS(300)));
    let parts = |health: &Health, millis| 64.0 * health.readiness(MILLIS(millis)).as_f64();
    let times = [300, 1299, 1300, 2300, 5300, 6299, 6300, 1_000_000];
    assert_eq!(
        times.map(|at| parts(&health, at)),
        [1.0, 1.0, 2.0, 4.0, 32.0, 32.0, 64.0, 64.0]
    );
    // A success does not begin the step anew, and more than full is not possible.
    health.succeeded(MILLIS(1800));
    assert_eq!(
        [1800, 2299, 2300].map(|at| parts(&health, at)),
        [4.0, 4.0, 8.0]
    );
    (0..10).for_each(|_| health.succeeded(MILLIS(1900)));
    health.failed(MILLIS(1900));
    assert_eq!(parts(&health, 1900), 32.0);
    // Neither earlier nor very late moments do harm.
    health.failed(Duration::ZERO);
    assert_eq!(parts(&health, 1900), 16.0);
    health.failed(Duration::MAX);
    health.succeeded(Duration::MAX);
    assert_eq!(health.readiness(Duration::MAX), Readiness::FULL);
}

/// How much of all that comes falls to a server without connections, at each readiness.
fn share_of_empty(kind: PolicyKind, readiness: Readiness) -> f64 {
    let mut farm = vec![ready(0, 0, readiness)];
    farm.extend((1..8).map(|server| Candidate::new(server, 100)));
    shares(&*kind.build(), &farm)[0]
}

#[test]
fn a_server_that_is_back_does_not_draw_everything() {
    for kind in PolicyKind::ALL {
        let mut last = 0.0;
        for part in 1..=16 {
            let readiness = Readiness::new(part, 16);
            let share = share_of_empty(kind, readiness);
            assert!(share > last, "{kind}: {share} at {part}/16");
            if part <= 8 {
                assert!(share <= readiness.as_f64(), "{kind}: {share} at {part}/16");
            }
            last = share;
        }
    }
}

/// Connections are the more of a mean the readier a server is: where a policy
/// looks for the least, the count follows the ramp.
#[test]
fn the_count_follows_the_ramp() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for kind in [PolicyKind::LeastConnections, PolicyKind::TwoChoices] {
        let mut policy = kind.build();
        let mut farm: Vec<_> = (0..8).map(|server| Candidate::new(server, 100)).collect();
        farm[0] = ready(0, 0, Readiness::new(1, 2));
        for _ in 0..5000 {
            let chosen = policy.select(Request::default(), &farm, &mut rng).unwrap();
            farm[chosen].connections += 1;
        }
        let others = farm[1..].iter().map(|c| c.connections).sum::<u32>();
        let part = f64::from(7 * farm[0].connections) / f64::from(others);
        assert!((0.4..0.6).contains(&part), "{kind}: {part}");
    }
}

/// It refuses everything, so that its count stays 0, which looks best.
#[test]
fn a_server_that_refuses_is_tried_now_and_then() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    for kind in PolicyKind::ALL {
        let mut policy = kind.build();
        let mut health = Health::default();
        let mut farm: Vec<_> = (0..4).map(|server| Candidate::new(server, 100)).collect();
        farm[0].connections = 0;
        let mut tried = 0;
        // 100 requests in each of 100 seconds.
        for at in (0..100_000).step_by(10).map(MILLIS) {
            farm[0].readiness = health.readiness(at);
            let request = Request {
                key: rng.next_u64(),
            };
            if policy.select(request, &farm, &mut rng) == Some(0) {
                health.failed(at);
                tried += 1;
            }
        }
        assert!((50..500).contains(&tried), "{kind}: {tried} of 10000");
    }
}

proptest! {
    /// However few connections it has.
    #[test]
    fn who_is_half_ready_takes_half_at_most(
        others in vec_of(0u32..50, 1..8), connections in 0u32..50, part in 0u64..=64,
    ) {
        let readiness = Readiness::new(part, 64);
        let mut farm = candidates(&others);
        farm.push(ready(0, connections, readiness));
        for kind in PolicyKind::ALL.into_iter().filter(|k| *k != PolicyKind::InverseConnections) {
            let share = shares(&*kind.build(), &farm)[others.len()];
            prop_assert!(share <= readiness.as_f64() + 1e-12, "{kind}: {share} of {readiness:?}");
        }
    }
}
