//! The TCP endpoint against smoltcp clients.
//!
//! For any loss, reordering, duplication and corruption up to 20 %, any segmentation and any interleaving of reads and
//! writes: both streams arrive whole and in order, or the connection fails and both ends see it; and an
//! endpoint that is handed over to another server goes on so.
//!
//! ```text
//! cargo test -p ipos-sim --test endpoint                                   10 000 cases
//! IPOS_CASES=100000 cargo test --release -p ipos-sim --test endpoint       more
//! IPOS_CASE=1234 cargo test -p ipos-sim --test endpoint -- --nocapture     one, with captures of both LANs
//! ```

mod judge;
mod party;
mod plan;
mod run;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ipos_core::config::CongestionControl;
use ipos_sim::Impairments;

use judge::Verdict;
use party::Ending;
use plan::{PERSEVERING, Plan};
use run::{Outcome, run};

/// Cases of a campaign, where nothing else is said.
const CASES: u64 = 10_000;
/// Broken cases that are shown.
const SHOWN: usize = 20;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name}={text} is not a number")),
    )
}

/// Runs a case; a panic is a broken rule.
fn try_case(plan: &Plan, captures: Option<&Path>) -> Result<Outcome, Vec<String>> {
    catch_unwind(AssertUnwindSafe(|| run(plan, captures))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        Err(vec![format!("panic: {}", text.unwrap_or_default())])
    })
}

/// Where captures go.
fn captures() -> &'static Path {
    Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// One case, looked at closely.
fn replay(case: u64) {
    let plan = Plan::draw(case);
    println!("{plan:#?}");
    let outcome = try_case(&plan, Some(captures()));
    println!("{outcome:#?}");
    assert!(outcome.is_ok(), "case {case}");
}

#[test]
fn campaign() {
    if let Some(case) = number("IPOS_CASE") {
        return replay(case);
    }
    let first = number("IPOS_FIRST").unwrap_or(0);
    let cases = number("IPOS_CASES").unwrap_or(CASES);
    let next = AtomicU64::new(first);
    let results = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    let case = next.fetch_add(1, Ordering::Relaxed);
                    if case >= first + cases {
                        return;
                    }
                    let result = try_case(&Plan::draw(case), None);
                    results.lock().unwrap().push((case, result));
                }
            });
        }
    });
    let mut results = results.into_inner().unwrap();
    results.sort_by_key(|(case, _)| *case);
    let mut verdicts: BTreeMap<Verdict, Vec<u64>> = BTreeMap::new();
    let (mut migrated, mut slowest, mut longest) = (0, (Duration::ZERO, 0), (0, 0));
    let mut broken = Vec::new();
    for (case, result) in results {
        match result {
            Ok(outcome) => {
                verdicts.entry(outcome.verdict).or_default().push(case);
                migrated += u64::from(outcome.migrated);
                slowest = slowest.max((outcome.took, case));
                longest = longest.max((outcome.steps, case));
            }
            Err(violations) => broken.push((case, violations)),
        }
    }
    println!(
        "{cases} cases from {first}, {migrated} migrated, slowest {slowest:?}, most steps {longest:?}"
    );
    for (verdict, of) in &verdicts {
        println!(
            "    {verdict:?}: {}, such as {:?}",
            of.len(),
            &of[..of.len().min(5)]
        );
    }
    for (case, violations) in broken.iter().take(SHOWN) {
        println!("case {case}: {violations:#?}");
    }
    let numbers: Vec<u64> = broken.iter().map(|(case, _)| *case).collect();
    assert!(
        broken.is_empty(),
        "{} cases broke a rule: {numbers:?}; look at one with\n    IPOS_CASE={} cargo test -p ipos-sim --test endpoint -- --nocapture",
        broken.len(),
        numbers[0],
    );
    // What the campaign is for has happened.
    let share = |verdicts_of: &[Verdict]| {
        let of = |verdict| verdicts.get(verdict).map_or(0, Vec::len);
        100 * verdicts_of.iter().map(of).sum::<usize>() as u64 / cases.max(1)
    };
    if cases >= 1_000 {
        assert!(share(&[Verdict::Whole]) >= 80);
        assert!(share(&[Verdict::ClientForgot, Verdict::ClientStopped]) <= 4);
        assert!(100 * migrated / cases >= 25);
    }
}

/// Runs a case that is not drawn, and must end well; otherwise once more, with captures.
fn whole(plan: &Plan) -> Outcome {
    match run(plan, None) {
        Ok(outcome) if outcome.verdict == Verdict::Whole => outcome,
        bad => {
            let _ = run(plan, Some(captures()));
            panic!("{plan:#?}\n{bad:#?}");
        }
    }
}

/// Congestion controllers, timestamps and SACK: what changes how a segment is sent again.
fn kinds() -> impl Iterator<Item = Plan> {
    (0..8).map(|bits| {
        let mut plan = Plan::quiet(bits);
        if bits & 1 == 1 {
            plan.tcp.congestion = CongestionControl::Reno;
        }
        plan.client_tcp.timestamps = bits & 2 == 2;
        plan.client_tcp.sack = bits & 4 == 4;
        plan.servers = 1 + bits as usize % 3;
        // smoltcp does not answer a probe that comes when it must ask for the server's hardware address again.
        plan.tcp.retries = PERSEVERING;
        plan
    })
}

fn lossy() -> Impairments {
    Impairments {
        loss: 0.2,
        ..Impairments::default()
    }
}

/// A client that does not read for two hours: its window is closed, and stays no reason to fail.
#[test]
fn a_window_that_is_closed_for_hours() {
    for mut plan in kinds() {
        plan.client.total = 100;
        plan.client.deaf = Duration::from_secs(7_200);
        plan.server.total = 150_000;
        plan.receive_buffer = 5_000;
        plan.lan_a.impairments = lossy();
        plan.calm = Duration::from_secs(7_300);
        let outcome = whole(&plan);
        assert!(outcome.took > plan.client.deaf);
    }
}

/// The same with an application that does not read.
#[test]
fn an_application_that_is_deaf_for_hours() {
    for mut plan in kinds() {
        plan.client.total = 150_000;
        plan.server.deaf = Duration::from_secs(7_200);
        plan.tcp.receive_buffer = 5_000;
        plan.lan_a.impairments = lossy();
        plan.calm = Duration::from_secs(7_300);
        let outcome = whole(&plan);
        assert!(outcome.took > plan.server.deaf);
    }
}

/// Both read one byte at a time.
#[test]
fn reads_of_one_byte() {
    for mut plan in kinds() {
        for party in [&mut plan.client, &mut plan.server] {
            party.total = 20_000;
            party.read = 1;
            party.read_pause = (Duration::from_micros(20), 100);
        }
        plan.receive_buffer = 3_000;
        plan.tcp.receive_buffer = 3_000;
        plan.tcp.window_scale = 0;
        whole(&plan);
    }
}

/// A client with room for one byte.
#[test]
fn a_window_of_one() {
    for mut plan in kinds() {
        plan.receive_buffer = 1;
        plan.client.total = 10;
        plan.server.total = 500;
        whole(&plan);
        plan.client.read_pause = (Duration::from_millis(300), 50);
        plan.lan_a.impairments = lossy();
        plan.calm = Duration::from_secs(60);
        plan.server.total = 100;
        whole(&plan);
    }
}

/// Streams of nothing, closed by either side first.
#[test]
fn empty_streams() {
    for mut plan in kinds() {
        whole(&plan);
        plan.client.ending = Ending::AfterPeer;
        plan.server.ending = Ending::After(Duration::ZERO);
        whole(&plan);
        plan.server.total = 30_000;
        whole(&plan);
    }
}

/// A client that reads slowly and writes fast, over LANs that mix everything up: segments that bring an old window with a
/// new acknowledgment, or the other way round.
#[test]
fn windows_that_close_while_both_talk() {
    let rough = Impairments {
        loss: 0.05,
        duplication: 0.05,
        reordering: 0.1,
        ..Impairments::default()
    };
    for seed in 0..40 {
        for mut plan in kinds() {
            plan.case += 8 * seed;
            plan.client_mtu = 200;
            plan.client.total = 40_000;
            plan.client.read = 20;
            plan.client.read_pause = (Duration::from_millis(2), 50);
            plan.server.total = 8_000;
            plan.receive_buffer = 1_500;
            plan.lan_a.impairments = rough;
            plan.lan_b.impairments = rough;
            plan.calm = Duration::from_secs(60);
            whole(&plan);
        }
    }
}
