//! The ipOS device for one real server.
//!
//! ```text
//! cargo run --release --example inic -- --config inic.toml [--check]
//! ```

use std::process::ExitCode;

use clap::Parser;
use ipos_examples::config::FileConfig;
use ipos_examples::{program, server};

/// The ipOS device for one real server: answers clients on Port A, moves their connections to the
/// server that should have them, and serves those that come here from the application on this host.
#[derive(Debug, Parser)]
#[command(name = "inic", version)]
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
    match program::configured::<Arguments, _, _>(FileConfig::read) {
        Ok((_, file)) => {
            let applications = file.applications();
            server::serve(file, applications, |_| {})
        }
        Err(status) => status,
    }
}
