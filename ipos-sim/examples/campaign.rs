//! A campaign of random farms in virtual time: faults on every LAN, crashes, and what must hold all the same.
//!
//! ```text
//! cargo run --release -p ipos-sim --example campaign -- --farms 10000 --seed 0
//! cargo run --release -p ipos-sim --example campaign -- --seed 1234 --farms 1 --replay --pcap farm.pcap
//! ```

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use clap::Parser;
use comfy_table::Table;
use indicatif::{ProgressBar, ProgressStyle};
use ipos_core::Port;
use ipos_sim::Capture;
use ipos_sim::campaign::{Kind, Plan, Summary, run};
use serde_json::json;

/// Runs random farms in virtual time, and says which broke a rule.
#[derive(Parser)]
struct Options {
    /// Farms to run.
    #[arg(long, default_value_t = 10_000)]
    farms: u64,
    /// Seed of the first one; the others follow.
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Farms at a time [default: one per processor].
    #[arg(long)]
    jobs: Option<usize>,
    /// What to leave out: loss, duplication, reordering, corruption, partition, crash, drain, move, per-request, udp, reuse,
    /// leave, long-partition, small-limits, farm-key, shared-ports.
    #[arg(long, value_delimiter = ',', value_name = "KIND")]
    without: Vec<Kind>,
    /// Print what happened as JSON.
    #[arg(long)]
    json: bool,
    /// Run the farm with this seed alone, and print its plan and what came of it.
    #[arg(long)]
    replay: bool,
    /// With --replay: write the frames of each LAN to FILE, its name extended by -a, -b or -synch.
    #[arg(long, value_name = "FILE", requires = "replay")]
    pcap: Option<PathBuf>,
}

/// The capture of one LAN, and where it goes.
type Recording = (PathBuf, Arc<Mutex<Capture<BufWriter<File>>>>);

fn main() -> ExitCode {
    let options = Options::parse();
    let without: BTreeSet<Kind> = options.without.iter().copied().collect();
    let whole = if options.replay {
        replay(&options, &without)
    } else {
        Ok(campaign(&options, &without))
    };
    match whole {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(problem) => {
            eprintln!("campaign: {problem}");
            ExitCode::from(2)
        }
    }
}

/// Many farms. Whether all rules held.
fn campaign(options: &Options, without: &BTreeSet<Kind>) -> bool {
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    let seeds = options.seed..options.seed.saturating_add(options.farms);
    let progress = ProgressBar::new(options.farms);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} farms, {eta} left") {
        progress.set_style(style);
    }
    let jobs = options.jobs.unwrap_or(processors);
    let summary = Summary::of(seeds, jobs, without, |_| progress.inc(1));
    progress.finish_and_clear();
    if options.json {
        print_json(&summary);
    } else {
        print_table(&summary);
    }
    if let Some((seed, _)) = summary.broken.first_key_value() {
        let left_out: String = without
            .iter()
            .map(|kind| format!(" --without {kind}"))
            .collect();
        eprintln!(
            "look at one with: cargo run --release -p ipos-sim --example campaign -- \
             --seed {seed} --farms 1 --replay --pcap farm.pcap{left_out}"
        );
    }
    summary.broken.is_empty()
}

fn print_table(summary: &Summary) {
    let mut table = Table::new();
    table.set_header(["what", "count"]);
    for (name, count) in summary.counts.iter() {
        table.add_row([name.to_string(), count.to_string()]);
    }
    table.add_row([
        "farms that broke a rule".to_string(),
        summary.breached.to_string(),
    ]);
    println!("{table}");
    let (steps, longest) = summary.longest;
    let (time, slowest) = summary.slowest;
    println!(
        "most frames and deadlines: {steps} (seed {longest}); most virtual time: {time:?} (seed {slowest})"
    );
    for (seed, broken) in &summary.broken {
        println!("seed {seed}:");
        for rule in broken {
            println!("    {rule}");
        }
    }
}

fn print_json(summary: &Summary) {
    let counts: serde_json::Map<String, serde_json::Value> = summary
        .counts
        .iter()
        .map(|(name, count)| (name.to_string(), count.into()))
        .collect();
    let broken = summary.broken.iter();
    let broken: Vec<_> = broken
        .map(|(seed, rules)| json!({ "seed": seed, "rules": rules }))
        .collect();
    println!(
        "{}",
        json!({ "counts": counts, "breached": summary.breached, "broken": broken })
    );
}

/// One farm, looked at closely. Whether all rules held.
fn replay(options: &Options, without: &BTreeSet<Kind>) -> Result<bool, String> {
    let plan = Plan::draw(options.seed).without(without);
    println!("{plan:#?}");
    let mut recordings = Vec::new();
    if let Some(path) = &options.pcap {
        for (port, name) in [(Port::A, "a"), (Port::B, "b"), (Port::Synch, "synch")] {
            recordings.push(record(path, port, name)?);
        }
    }
    let report = run(&plan, |builder| {
        recordings.iter().fold(builder, |builder, (_, capture)| {
            builder.observer(capture.clone())
        })
    });
    for (path, capture) in &recordings {
        let mut capture = capture.lock().unwrap_or_else(PoisonError::into_inner);
        let writer = capture
            .finish()
            .map_err(|e| format!("{}: {e}", path.display()))?;
        if let Some(writer) = writer {
            let end: Result<_, io::Error> =
                writer.into_inner().map_err(io::IntoInnerError::into_error);
            end.map_err(|e| format!("{}: {e}", path.display()))?;
        }
        println!("{}", path.display());
    }
    let report = report.map_err(|error| error.to_string())?;
    println!("{report:#?}");
    Ok(report.broken.is_empty())
}

fn record(path: &Path, port: Port, name: &str) -> Result<Recording, String> {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let extension = path
        .extension()
        .map_or("pcap".into(), |e| e.to_string_lossy());
    let path = path.with_file_name(format!("{stem}-{name}.{extension}"));
    let file = File::create(&path).map_err(|e| format!("{}: {e}", path.display()))?;
    let capture = Capture::new(port.into(), BufWriter::new(file));
    let capture = capture.map_err(|e| format!("{}: {e}", path.display()))?;
    Ok((path, Arc::new(Mutex::new(capture))))
}
