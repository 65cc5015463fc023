//! Which policies make no herd of servers that choose by the same old figures.

#[path = "../examples/herd/simulation.rs"]
mod simulation;

use ipos_balance::PolicyKind::{self, InverseConnections, LeastConnections, TwoChoices};
use simulation::{Burst, Counting, Outcome};

/// 20 seeded bursts.
fn bursts(burst: Burst, kind: PolicyKind, counting: Counting) -> Vec<Outcome> {
    (0..20)
        .map(|seed| burst.run(kind, counting, seed))
        .collect()
}

fn all(outcomes: &[Outcome], holds: impl Fn(&Outcome) -> bool) -> bool {
    outcomes.iter().all(holds)
}

#[test]
fn inverse_connections_and_p2c_make_no_herd() {
    for kind in [InverseConnections, TwoChoices] {
        let bursts = bursts(Burst::Even, kind, Counting::OwnHandOvers);
        // Equal draws would have a peak of about 1.2.
        assert!(all(&bursts, |o| o.spread < 1.15 && o.peak < 2.0), "{kind}");
    }
    // The least of old figures does: these bounds can fail.
    let herd = bursts(Burst::Even, LeastConnections, Counting::Adverts);
    assert!(all(&herd, |o| o.peak > 2.5));
    assert!(herd.iter().map(|o| o.spread).sum::<f64>() / 20.0 > 1.2);
}

#[test]
fn a_server_that_is_back_draws_no_herd() {
    for kind in PolicyKind::ALL {
        let back = bursts(Burst::SlowStart, kind, Counting::OwnHandOvers);
        // The least of all remains what everybody sees, but not all go there.
        let bound = if kind == LeastConnections { 5.0 } else { 2.0 };
        assert!(all(&back, |o| o.peak < bound), "{kind}");
    }
    for (kind, least) in [(LeastConnections, 6.0), (InverseConnections, 3.0)] {
        let back = bursts(Burst::Back, kind, Counting::OwnHandOvers);
        assert!(all(&back, |o| o.peak > least), "{kind}");
    }
}
