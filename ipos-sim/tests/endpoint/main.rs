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

mod dice;
mod party;
mod plan;
mod run;
mod watch;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use plan::Plan;
use run::{Outcome, Verdict, run};

/// Cases of a campaign, where nothing else is said.
const CASES: u64 = 10_000;
/// Broken cases that are shown.
const SHOWN: usize = 20;

fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{name}={text} is not a number")))
}

/// Runs a case; a panic is a broken rule.
fn try_case(plan: &Plan, captures: Option<&Path>) -> Result<Outcome, Vec<String>> {
    catch_unwind(AssertUnwindSafe(|| run(plan, captures))).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| text.to_string()));
        Err(vec![format!("panic: {}", text.unwrap_or_default())])
    })
}

/// One case, looked at closely.
fn replay(case: u64) {
    let plan = Plan::draw(case);
    println!("{plan:#?}");
    let outcome = try_case(&plan, Some(Path::new(env!("CARGO_TARGET_TMPDIR"))));
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
    let mut verdicts: BTreeMap<String, u64> = BTreeMap::new();
    let (mut migrated, mut slowest, mut longest) = (0, (Duration::ZERO, 0), (0, 0));
    let mut broken = Vec::new();
    for (case, result) in results {
        match result {
            Ok(outcome) => {
                *verdicts.entry(format!("{:?}", outcome.verdict)).or_default() += 1;
                migrated += u64::from(outcome.migrated);
                slowest = slowest.max((outcome.took, case));
                longest = longest.max((outcome.steps, case));
            }
            Err(violations) => broken.push((case, violations)),
        }
    }
    println!("{cases} cases from {first}: {verdicts:?}, {migrated} migrated, slowest {slowest:?}, most steps {longest:?}");
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
    let whole = verdicts.get(&format!("{:?}", Verdict::Whole)).copied().unwrap_or_default();
    assert!(whole * 10 >= cases * 8 && migrated * 10 >= cases * 3 || cases < 1_000);
}
