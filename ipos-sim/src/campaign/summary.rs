//! Many farms at once.

use std::any::Any;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::counts::Counts;
use super::kind::Kind;
use super::plan::Plan;
use super::run::{Report, run};

/// Farms whose broken rules are kept; further ones are counted.
const KEPT: usize = 100;

/// What came of a campaign.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    /// What happened on all farms together.
    pub counts: Counts,
    /// Farms that broke a rule.
    pub breached: u64,
    /// The rules that were broken, by seed; of the farms with the lowest seeds.
    pub broken: BTreeMap<u64, Vec<String>>,
    /// The most frames and deadlines of a farm, and its seed.
    pub longest: (u64, u64),
    /// The most time of a farm, in its own time, and its seed.
    pub slowest: (Duration, u64),
}

impl Summary {
    /// Runs the farms with these seeds, without faults of the kinds `without`, on `jobs` threads. `done` is called after
    /// each farm with its seed.
    pub fn of(
        seeds: Range<u64>,
        jobs: usize,
        without: &BTreeSet<Kind>,
        done: impl Fn(u64) + Sync,
    ) -> Summary {
        let next = AtomicU64::new(seeds.start);
        let whole = Mutex::new(Summary::default());
        std::thread::scope(|scope| {
            for _ in 0..jobs.max(1) {
                scope.spawn(|| {
                    let mut part = Summary::default();
                    loop {
                        let seed = next.fetch_add(1, Ordering::Relaxed);
                        if !seeds.contains(&seed) {
                            break;
                        }
                        part.take(seed, attempt(&Plan::draw(seed).without(without)));
                        done(seed);
                    }
                    whole
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .add(part);
                });
            }
        });
        whole.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&mut self, seed: u64, report: Report) {
        self.add(Summary {
            counts: report.counts,
            breached: u64::from(report.breaches > 0),
            broken: match report.breaches {
                0 => BTreeMap::new(),
                _ => BTreeMap::from([(seed, report.broken)]),
            },
            longest: (report.steps, seed),
            slowest: (report.took, seed),
        });
    }

    fn add(&mut self, mut other: Summary) {
        self.counts.add(&other.counts);
        self.breached += other.breached;
        self.broken.append(&mut other.broken);
        while self.broken.len() > KEPT {
            self.broken.pop_last();
        }
        self.longest = self.longest.max(other.longest);
        self.slowest = self.slowest.max(other.slowest);
    }
}

/// Runs a farm; a panic, or a plan that does not hold, is a broken rule.
fn attempt(plan: &Plan) -> Report {
    let result = catch_unwind(AssertUnwindSafe(|| run(plan, |builder| builder)));
    let what = match result {
        Ok(Ok(report)) => return report,
        Ok(Err(error)) => format!("the plan does not hold: {error}"),
        Err(panic) => format!("panic: {}", message(&*panic)),
    };
    let mut report = Report::new();
    report.breach(what);
    report
}

fn message(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("not a text")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_do_not_matter() {
        let of = |jobs| Summary::of(0..8, jobs, &BTreeSet::new(), |_| {});
        let one = of(1);
        assert_eq!(one.counts.farms, 8);
        assert_eq!(one, of(3));
    }

    #[test]
    fn the_lowest_seeds_are_kept() {
        let mut summary = Summary::default();
        for seed in (0..300).rev() {
            let mut report = Report::new();
            report.breach("x");
            summary.take(seed, report);
        }
        assert_eq!(summary.breached, 300);
        assert_eq!(summary.broken.len(), KEPT);
        assert_eq!(
            summary.broken.last_key_value().map(|(seed, _)| *seed),
            Some(99)
        );
    }

    #[test]
    fn a_panic_is_told() {
        let panic = catch_unwind(|| std::panic::resume_unwind(Box::new("so".to_string())));
        assert_eq!(message(&*panic.unwrap_err()), "so");
    }
}
