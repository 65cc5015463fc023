//! A herd: servers that choose by the same old figures choose the same server.
//!
//! ```text
//! cargo run -p ipos-balance --example herd
//! ```
//!
//! Eight servers, each of which also is the one that clients reach. Each tells the others its
//! connections every 100 ms. In between they choose for a burst of requests.

mod simulation;

use std::process::ExitCode;

use comfy_table::Table;
use ipos_balance::PolicyKind;
use simulation::{Burst, Counting};

/// What `--help` says.
const HELP: &str = "\
What each policy makes of a burst of requests, when servers choose by each other's reports, which are up to 100 ms old.
Usage: herd";
/// What the farm is like before.
const BURST_KINDS: [Burst; 3] = [Burst::Even, Burst::Back, Burst::SlowStart];
/// Bursts that a figure is the mean of.
const BURSTS: u64 = 50;

fn main() -> ExitCode {
    match std::env::args().nth(1).as_deref() {
        None => {}
        Some("-h" | "--help") => {
            println!("{HELP}");
            return ExitCode::SUCCESS;
        }
        Some(unexpected) => {
            eprintln!("herd: {unexpected}: there are no arguments (--help tells more)");
            return ExitCode::from(2);
        }
    }
    let mut table = Table::new();
    let mut header = vec!["policy", "own hand-overs"];
    header.extend(BURST_KINDS.iter().flat_map(|burst| match burst {
        Burst::Even => ["all alike:\nspread", "\npeak"],
        Burst::Back => ["one is back:\nspread", "\npeak"],
        Burst::SlowStart => ["with slow start:\nspread", "\npeak"],
    }));
    table.set_header(header);
    let plain = (PolicyKind::LeastConnections, Counting::Adverts);
    let counting = PolicyKind::ALL.map(|kind| (kind, Counting::OwnHandOvers));
    for (kind, counting) in [plain].into_iter().chain(counting) {
        let counted = match counting {
            Counting::Adverts => "not counted",
            Counting::OwnHandOvers => "counted",
        };
        let mut row = vec![kind.to_string(), counted.to_owned()];
        for burst in BURST_KINDS {
            let outcomes = (0..BURSTS).map(|seed| burst.run(kind, counting, seed));
            let (spread, peak) = outcomes.fold((0.0, 0.0), |(spread, peak), outcome| {
                (spread + outcome.spread, peak + outcome.peak)
            });
            row.extend([spread, peak].map(|sum| format!("{:.2}", sum / BURSTS as f64)));
        }
        table.add_row(row);
    }
    println!("{table}");
    println!(
        "{} requests within {} ms; the most of one server divided by the mean of all: connections at the end\n\
         (spread), requests within one interval of adverts (peak). Means of {BURSTS} bursts.",
        simulation::REQUESTS,
        simulation::LENGTH.as_millis()
    );
    ExitCode::SUCCESS
}
