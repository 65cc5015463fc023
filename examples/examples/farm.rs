//! A whole ipOS farm on this machine: servers, three LANs, and clients that are not our own TCP.
//!
//! ```text
//! cargo run --release --example farm -- [--fabric auto|sim|netns] [--servers N] [--requests N]
//!     [--policy NAME] [--seed N] [--loss P --reorder P --duplicate P] [--json] [--hold] [--backend pnet|xdp]
//! ```

use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use ipos_balance::PolicyKind;
use ipos_examples::backend::Carrier;
use ipos_examples::farm::netns::Netns;
use ipos_examples::farm::{FarmError, Impairments, Interrupt, Outcome, Picture, Plan, sim, table};
use ipos_examples::program;

/// Reasons of errors that are printed.
const REASONS: usize = 5;

/// Runs a whole ipOS farm on this machine, sends requests to it, and says which server answered how many.
#[derive(Debug, Parser)]
#[command(name = "farm", allow_negative_numbers = true, version)]
struct Arguments {
    /// What the network is made of: `netns`, network namespaces and the kernel's TCP as client; `sim`, one process in
    /// virtual time; `auto`, `netns` where that is permitted.
    #[arg(long, value_enum, default_value_t = Fabric::Auto)]
    fabric: Fabric,
    /// Servers of the farm.
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=ipos_lab::MOST_SERVERS as u64))]
    servers: u64,
    /// Requests in all.
    #[arg(long, value_name = "N", default_value_t = 300, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    requests: u64,
    /// Requests under way at once.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u64).range(1..=1024))]
    concurrency: u64,
    /// How servers are selected: inverse-connections, round-robin, least-connections, p2c, weighted or maglev.
    #[arg(long, value_name = "NAME", default_value_t)]
    policy: PolicyKind,
    /// Seed of every generator; without it, one is drawn.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Probability that a frame on LAN A or B is lost (sim).
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    loss: f64,
    /// Probability that a frame on LAN A or B is overtaken (sim).
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    reorder: f64,
    /// Probability that a frame on LAN A or B comes twice (sim).
    #[arg(long, value_name = "P", default_value_t = 0.0, value_parser = probability)]
    duplicate: f64,
    /// Print one JSON object on standard output in place of the table.
    #[arg(long)]
    json: bool,
    /// Keep the farm up until interrupted, and print how to reach it (netns).
    #[arg(long)]
    hold: bool,
    /// What carries frames (netns).
    #[arg(long, value_enum, default_value_t = Carrier::Pnet)]
    backend: Carrier,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Fabric {
    Auto,
    Sim,
    Netns,
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=1.0).contains(&value) => Ok(value),
        _ => Err("a probability is between 0 and 1".to_owned()),
    }
}

fn main() -> ExitCode {
    let arguments: Arguments = match program::arguments() {
        Ok(arguments) => arguments,
        Err(status) => return status,
    };
    // Before there is a second thread: the way into a user namespace may be needed.
    let netns = match choose(&arguments) {
        Ok(netns) => netns,
        Err(error) => return program::fail(error, program::BAD_INPUT),
    };
    program::init_logging("warn");
    let interrupt = Interrupt::default();
    let asked = interrupt.clone();
    if let Err(error) = program::on_interrupt(move || asked.set()) {
        return program::fail(format_args!("cannot catch signals: {error}"), 1);
    }
    let ran = plan(&arguments).and_then(|plan| match netns {
        true => run_netns(&arguments, &plan, &interrupt),
        false => run_sim(&arguments, &plan, &interrupt),
    });
    match ran {
        Ok(_) if interrupt.is_set() => ExitCode::SUCCESS,
        Ok(0) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error @ FarmError::Input(_)) => program::fail(error, program::BAD_INPUT),
        Err(error) => program::fail(error, 1),
    }
}

/// Whether network namespaces are used; enters a user namespace where that is needed for them.
fn choose(arguments: &Arguments) -> Result<bool, FarmError> {
    let xdp = arguments.backend == Carrier::Xdp;
    let impaired = impairments(arguments).any();
    match arguments.fabric {
        Fabric::Netns if impaired => {
            Err(FarmError::Input("--loss, --reorder and --duplicate need --fabric sim: this kernel's LANs harm no frames".to_owned()))
        }
        Fabric::Netns => program::laboratory().map(|()| true).map_err(|reason| FarmError::Input(format!("--fabric netns: {reason}"))),
        Fabric::Sim if xdp => Err(FarmError::Input("--backend xdp needs --fabric netns: a simulated farm has no interfaces".to_owned())),
        Fabric::Sim => Ok(false),
        Fabric::Auto if impaired && xdp => Err(FarmError::Input(
            "--loss, --reorder and --duplicate need --fabric sim, which --backend xdp cannot use".to_owned(),
        )),
        Fabric::Auto if impaired => {
            eprintln!("fabric: sim, for --loss, --reorder and --duplicate");
            Ok(false)
        }
        Fabric::Auto => match program::laboratory() {
            Ok(()) => {
                eprintln!("fabric: netns");
                Ok(true)
            }
            Err(reason) if xdp => Err(FarmError::Input(format!("--backend xdp: {reason}"))),
            Err(reason) => {
                eprintln!("fabric: sim ({reason})");
                Ok(false)
            }
        },
    }
}

fn impairments(arguments: &Arguments) -> Impairments {
    let &Arguments {
        loss,
        reorder,
        duplicate,
        ..
    } = arguments;
    Impairments {
        loss,
        reorder,
        duplicate,
    }
}

fn plan(arguments: &Arguments) -> Result<Plan, FarmError> {
    let drawn = || getrandom::u32().map(u64::from);
    let seed = arguments.seed.map_or_else(drawn, Ok);
    let fits = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
    Ok(Plan {
        servers: fits(arguments.servers),
        requests: fits(arguments.requests),
        concurrency: fits(arguments.concurrency),
        policy: arguments.policy,
        seed: seed.map_err(|error| FarmError::Failed {
            part: "seed".to_owned(),
            what: error.to_string(),
        })?,
        impairments: impairments(arguments),
        carrier: arguments.backend,
    })
}

/// The farm in network namespaces; how many requests failed.
fn run_netns(
    arguments: &Arguments,
    plan: &Plan,
    interrupt: &Interrupt,
) -> Result<usize, FarmError> {
    let picture = Picture::new(plan.requests);
    picture.say("building the farm");
    let mut farm = Netns::start(plan, interrupt)?;
    let exchanges = farm.drive(plan, interrupt, &picture)?;
    picture.clear();
    let outcome = farm.outcome(plan, &exchanges)?;
    print(arguments, &outcome)?;
    if arguments.hold && !interrupt.is_set() {
        eprintln!("the farm stays up until this program is interrupted; from another terminal:");
        for hint in farm.hints() {
            eprintln!("  {hint}");
        }
        farm.hold(interrupt, &picture);
        picture.clear();
    }
    farm.stop()?;
    Ok(outcome.errors)
}

/// The farm in the simulator; how many requests failed.
fn run_sim(arguments: &Arguments, plan: &Plan, interrupt: &Interrupt) -> Result<usize, FarmError> {
    if arguments.hold {
        return Err(FarmError::Input(
            "--hold needs the fabric netns: a simulated farm cannot be reached".to_owned(),
        ));
    }
    let picture = Picture::new(plan.requests);
    let outcome = sim::run(plan, interrupt, &picture)?;
    picture.clear();
    print(arguments, &outcome)?;
    Ok(outcome.errors)
}

/// The outcome on standard output, the first reasons of errors on standard error.
fn print(arguments: &Arguments, outcome: &Outcome) -> Result<(), FarmError> {
    if arguments.json {
        let json = serde_json::to_string(outcome);
        println!(
            "{}",
            json.map_err(|error| FarmError::Failed {
                part: "report".to_owned(),
                what: error.to_string()
            })?
        );
    } else {
        print!("{}", table(outcome));
    }
    for (reason, count) in outcome.reasons.iter().take(REASONS) {
        eprintln!("{count} requests failed: {reason}");
    }
    if outcome.reasons.len() > REASONS {
        eprintln!("and for {} other reasons", outcome.reasons.len() - REASONS);
    }
    Ok(())
}
