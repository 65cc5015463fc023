//! A redirector device (FIG. 2A): sends each client to a server of the farm.
//!
//! ```text
//! cargo run --release --example redirector -- --config redirector.toml [--check]
//! ```

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
    #[command(flatten)]
    configured: program::Configured,
}

impl From<Arguments> for program::Configured {
    fn from(arguments: Arguments) -> program::Configured {
        arguments.configured
    }
}

fn main() -> ExitCode {
    let (path, settings) = match program::configured::<Arguments, _, _>(config::read) {
        Ok(configured) => configured,
        Err(status) => return status,
    };
    let opened = match open(&path, settings) {
        Ok(opened) => opened,
        Err(error) => return program::fail(error, program::BAD_INPUT),
    };
    match serve(opened) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => program::fail(error, 1),
    }
}

/// Runs until SIGINT or SIGTERM; at each SIGHUP it reads its farm key again.
fn serve(opened: Open) -> Result<(), Box<dyn std::error::Error>> {
    let seed = getrandom::u64()
        .map_err(|error| format!("no random numbers from the operating system: {error}"))?;
    let (end, ended) = oneshot::channel();
    // Nobody waits for it once the listeners have ended.
    program::on_interrupt(move || end.send(()).unwrap_or_default())
        .map_err(|error| format!("cannot catch signals: {error}"))?;
    run(opened, seed, ended, |reloader| {
        program::on_hangup(move || reloader.reload())?;
        tracing::info!("redirector up");
        Ok(())
    })?;
    tracing::info!("redirector down");
    Ok(())
}
