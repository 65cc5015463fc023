//! A farm of axum servers, each with its device: open its pages in a browser, and see which server answers while connections move
//! between them. On this machine, in one process; or one server a process, on real interfaces, by a file as `inic`'s without `app`.
//!
//! ```text
//! cargo run --release --example axum_farm -- [--fabric auto|netns|process] [--servers N] [--listen ADDRESS]
//!     [--visits N] [--json]
//! cargo run --release --example axum_farm -- --config FILE
//! ```

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, ValueEnum};
use ipos_examples::axum_farm::visitor::{self, Visits};
use ipos_examples::axum_farm::{self, AxumFarm, Fabric, Plan};
use ipos_examples::config::FileConfig;
use ipos_examples::farm::{FarmError, Interrupt};
use ipos_examples::program;

/// Runs a farm of axum servers on this machine until it is interrupted, or until visits are made; or one server of a farm.
#[derive(Debug, Parser)]
#[command(name = "axum_farm", version)]
struct Arguments {
    /// What the network is made of: `netns`, network namespaces and the kernel's TCP; `process`, socket pairs and smoltcp's
    /// TCP; `auto`, `netns` where that is permitted.
    #[arg(long, value_enum, default_value_t = Choice::Auto)]
    fabric: Choice,
    /// Servers of the farm.
    #[arg(long, value_name = "N", default_value_t = 3)]
    servers: usize,
    /// Where this host's browsers reach the first server; the others have the next ports.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Make so many requests, one of five of which asks for its connection to move, say who has answered, and end.
    #[arg(long, value_name = "N")]
    visits: Option<usize>,
    /// Run one server on this host's interfaces, by this file: `inic`'s, with no `app` in its `[[listen]]`.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["fabric", "servers", "listen", "visits"])]
    config: Option<PathBuf>,
    /// Print one JSON object about the visits on standard output.
    #[arg(long, requires = "visits")]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Choice {
    Auto,
    Netns,
    Process,
}

fn main() -> ExitCode {
    let arguments: Arguments = match program::arguments() {
        Ok(arguments) => arguments,
        Err(status) => return status,
    };
    if let Some(path) = &arguments.config {
        program::init_logging("info");
        return match FileConfig::read_in_process(path) {
            Ok(file) => axum_farm::serve(file),
            Err(error) => program::fail(error, program::BAD_INPUT),
        };
    }
    // Before there is a second thread: the way into a user namespace may be needed.
    let fabric = match choose(arguments.fabric) {
        Ok(fabric) => fabric,
        Err(reason) => return program::fail(reason, program::BAD_INPUT),
    };
    program::init_logging("warn");
    let interrupt = Interrupt::default();
    let asked = interrupt.clone();
    if let Err(error) = program::on_interrupt(move || asked.set()) {
        return program::fail(format_args!("cannot catch signals: {error}"), 1);
    }
    match run(&arguments, fabric, &interrupt) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error @ FarmError::Input(_)) => program::fail(error, program::BAD_INPUT),
        Err(error) => program::fail(error, 1),
    }
}

fn choose(choice: Choice) -> Result<Fabric, String> {
    match choice {
        Choice::Process => Ok(Fabric::Process),
        Choice::Netns => match program::laboratory() {
            Ok(()) => Ok(Fabric::Netns),
            Err(reason) => Err(format!("--fabric netns: {reason}")),
        },
        Choice::Auto => match program::laboratory() {
            Ok(()) => {
                eprintln!("fabric: netns");
                Ok(Fabric::Netns)
            }
            Err(reason) => {
                eprintln!("fabric: process ({reason})");
                Ok(Fabric::Process)
            }
        },
    }
}

/// Whether nothing went wrong.
fn run(arguments: &Arguments, fabric: Fabric, interrupt: &Interrupt) -> Result<bool, FarmError> {
    let farm = AxumFarm::start(&Plan {
        fabric,
        servers: arguments.servers,
        listen: arguments.listen,
    })?;
    let visits = match arguments.visits {
        Some(visits) => {
            let visits = visitor::run(farm.doors(), visits, interrupt)?;
            print(arguments, &visits);
            Some(visits)
        }
        None => {
            hint(&farm);
            interrupt.wait();
            None
        }
    };
    farm.stop()?;
    Ok(visits.is_none_or(|visits| visits.errors.is_empty()))
}

fn hint(farm: &AxumFarm) {
    eprintln!(
        "the farm is up until this program is interrupted; each address leads to one server:"
    );
    for door in farm.doors() {
        eprintln!("  http://{door}/");
    }
    if let [first, ..] = farm.doors() {
        eprintln!("one connection, answered by two servers:");
        eprintln!(
            "  curl --rate 4/s http://{first}/go/s2 http://{first}/visit http://{first}/go/s1 http://{first}/visit"
        );
    }
}

fn print(arguments: &Arguments, visits: &Visits) {
    if arguments.json {
        match serde_json::to_string(visits) {
            Ok(json) => println!("{json}"),
            Err(error) => eprintln!("the report cannot be written: {error}"),
        }
    } else {
        for (server, count) in &visits.answered {
            println!("{server} has answered {count} requests");
        }
        println!(
            "connections have changed their server {} times",
            visits.moves
        );
    }
    for error in &visits.errors {
        eprintln!("a connection failed: {error}");
    }
}
