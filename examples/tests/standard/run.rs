//! Runs the cases against the servers, and reports.

use std::any::Any;
use std::fmt::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use comfy_table::Table;
use comfy_table::presets::UTF8_FULL_CONDENSED;

use crate::bed::{Bed, Kind};
use crate::cases::{Case, Scope};
use crate::cx::{Cx, NOT_MIGRATED};
use crate::wire::lock;

/// Cases at a time against one server: most of the time they wait.
const AT_ONCE: usize = 12;
/// Runs of a case whose request was not migrated.
const RUNS: usize = 3;
/// The servers, in the order of the table's columns.
const KINDS: [(Kind, &str); 3] = [
    (Kind::Local, "ours"),
    (Kind::Migrated, "ours, migrated"),
    (Kind::Kernel, "Linux kernel"),
];

/// What became of a case.
#[derive(Debug)]
pub enum Result {
    /// As the standard says.
    Passed,
    /// The kernel departs from it, for these reasons.
    Differs(Vec<&'static str>),
    /// It is not as the standard says; what passed.
    Failed(String, String),
    /// Not a case for this server.
    NotRun,
}

impl Result {
    pub fn is_failure(&self) -> bool {
        matches!(self, Result::Failed(..))
    }

    fn cell(&self) -> &'static str {
        match self {
            Result::Passed => "ok",
            Result::Differs(_) => "differs",
            Result::Failed(..) => "FAILED",
            Result::NotRun => "-",
        }
    }
}

/// Runs all `cases` against all servers: the results by server.
pub fn run(cases: &[Case]) -> Vec<Vec<Result>> {
    thread::scope(|scope| {
        let beds = KINDS.map(|(kind, _)| scope.spawn(move || against(kind, cases)));
        beds.map(|bed| bed.join().expect("cases' panics are caught"))
            .into()
    })
}

/// All cases against one server.
fn against(kind: Kind, cases: &[Case]) -> Vec<Result> {
    let bed = match Bed::start(kind) {
        Ok(bed) => bed,
        Err(error) => {
            return cases
                .iter()
                .map(|_| Result::Failed(error.clone(), String::new()))
                .collect();
        }
    };
    let results: Vec<_> = cases.iter().map(|_| Mutex::new(Result::NotRun)).collect();
    let runs = |case: &Case| match case.scope {
        Scope::Everywhere | Scope::Alone => true,
        Scope::Unmigrated => kind != Kind::Migrated,
        Scope::OursAlone => kind != Kind::Kernel,
    };
    let alone = |number: &usize| matches!(cases[*number].scope, Scope::Alone | Scope::OursAlone);
    let one = |number: usize| {
        if runs(&cases[number]) {
            *lock(&results[number]) = attempt(&bed, &cases[number]);
        }
    };
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    match cases.get(number) {
                        None => break,
                        Some(_) if alone(&number) => {}
                        Some(_) => one(number),
                    }
                }
            });
        }
    });
    (0..cases.len()).filter(alone).for_each(one);
    let mut results: Vec<_> = results
        .into_iter()
        .map(|result| {
            result
                .into_inner()
                .expect("no case panics with the lock held")
        })
        .collect();
    // A device that has failed fails them all.
    if let Err(error) = bed.stop() {
        results.fill_with(|| Result::Failed(error.clone(), String::new()));
    }
    results
}

fn attempt(bed: &Bed, case: &Case) -> Result {
    let mut failure = (String::new(), String::new());
    for _ in 0..RUNS {
        let cx = Cx::new(bed);
        let outcome = catch_unwind(AssertUnwindSafe(|| (case.run)(&cx)));
        let outcome =
            outcome.unwrap_or_else(|panic| Err(format!("the case panicked: {}", text(&*panic))));
        match cx.finish(outcome) {
            (Ok(()), differences) if differences.is_empty() => return Result::Passed,
            (Ok(()), differences) => return Result::Differs(differences),
            (Err(error), _) => failure = (error, cx.trace()),
        }
        if !failure.0.ends_with(NOT_MIGRATED) {
            break;
        }
    }
    Result::Failed(failure.0, failure.1)
}

fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no message")
}

/// The table, and behind it what is to be said about single cases.
pub fn report(cases: &[Case], results: &[Vec<Result>]) -> String {
    let mut table = Table::new();
    table.load_style(UTF8_FULL_CONDENSED);
    table.set_header(["case"].into_iter().chain(KINDS.map(|(_, name)| name)));
    let mut notes = String::new();
    for (number, case) in cases.iter().enumerate() {
        let row = || results.iter().map(|results| &results[number]);
        table.add_row([case.name].into_iter().chain(row().map(Result::cell)));
        for (result, (_, name)) in row().zip(KINDS) {
            // Writing to a string does not fail.
            let _ = match result {
                Result::Passed | Result::NotRun => Ok(()),
                Result::Differs(reasons) => reasons.iter().try_for_each(|reason| {
                    writeln!(notes, "{}: kernel differs: {reason}", case.name)
                }),
                Result::Failed(error, trace) => {
                    writeln!(notes, "\n{}: {name}: FAILED: {error}\n{trace}\n", case.name)
                }
            };
        }
    }
    let failed = results
        .iter()
        .flatten()
        .filter(|result| result.is_failure())
        .count();
    format!("{table}\n{} cases, {failed} failures\n{notes}", cases.len())
}
