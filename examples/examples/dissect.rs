//! Decodes ipOS frames and Synch messages, from a capture or from hexadecimal.
//!
//! ```text
//! cargo run --release --example dissect -- capture.pcap [--ethertype 0x0007] [--json]
//! cargo run --release --example dissect -- --hex 020000… [--json]
//! tcpdump -i b0 -U -w - | cargo run --release --example dissect -- - [--handovers | --json]
//! ```

use std::io;
use std::process::ExitCode;

use ipos_examples::{dissect, program};

fn main() -> ExitCode {
    program::init_logging("warn");
    // Every frame is written in one piece, so the program may end between any two.
    if let Err(error) = program::on_interrupt(|| std::process::exit(0)) {
        tracing::warn!(%error, "signals are not caught");
    }
    dissect::run(
        std::env::args_os(),
        &mut io::stdout().lock(),
        &mut io::stderr().lock(),
    )
    .into()
}
