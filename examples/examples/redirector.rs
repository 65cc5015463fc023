//! A redirector device (FIG. 2A): sends each client to a server of the farm.
//!
//! ```text
//! cargo run --release --example redirector -- --config redirector.toml [--check]
//! ```

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use ipos_examples::program;
use ipos_examples::redirector::{Open, config, open, run};
use tokio::sync::oneshot;

/// A redirector device: hears on the Synch LAN which servers live, and tells each client which one to connect to, by HTTP
/// redirect or DNS answer.
#[derive(Debug, Parser)]
#[command(name = "redirector", version)]
struct Arguments {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only validate the file.
    #[arg(long)]
    check: bool,
}

fn main() -> ExitCode {
    let arguments: Arguments = match program::arguments() {
        Ok(arguments) => arguments,
        Err(status) => return status,
    };
    program::init_logging("info");
    let settings = match config::read(&arguments.config) {
        Ok(settings) => settings,
        Err(error) => return program::fail(error, program::BAD_INPUT),
    };
    if arguments.check {
        println!("{}: ok", arguments.config.display());
        return ExitCode::SUCCESS;
    }
    program::raise_descriptor_limit();
    let opened = match open(&arguments.config, settings) {
        Ok(opened) => opened,
        Err(error) => return program::fail(error, program::BAD_INPUT),
    };
    match serve(opened) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => program::fail(error, 1),
    }
}

/// Runs until SIGINT or SIGTERM.
fn serve(opened: Open) -> Result<(), Box<dyn std::error::Error>> {
    let seed = getrandom::u64()
        .map_err(|error| format!("no random numbers from the operating system: {error}"))?;
    let (end, ended) = oneshot::channel();
    // Nobody waits for it once the listeners have ended.
    program::on_interrupt(move || end.send(()).unwrap_or_default())
        .map_err(|error| format!("cannot catch signals: {error}"))?;
    tracing::info!("redirector up");
    run(opened, seed, ended)?;
    tracing::info!("redirector down");
    Ok(())
}
