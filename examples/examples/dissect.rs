//! Looks at frames: see `--help`, and [`ipos_examples::dissect`] for what it does.

use std::io;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use signal_hook::consts::{SIGINT, SIGTERM};
use tracing_subscriber::EnvFilter;

fn main() -> ExitCode {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::from_default_env())
        .with_writer(io::stderr)
        .init();
    // Every frame is written in one piece, so the program may end between any two.
    for signal in [SIGINT, SIGTERM] {
        let always = Arc::new(AtomicBool::new(true));
        if let Err(error) = signal_hook::flag::register_conditional_shutdown(signal, 0, always) {
            tracing::warn!(signal, %error, "the signal will not end the program cleanly");
        }
    }
    let (mut out, mut err) = (io::stdout().lock(), io::stderr().lock());
    ipos_examples::dissect::run(std::env::args_os(), &mut out, &mut err).into()
}
