//! Decodes ipOS frames and Synch messages, from a capture or from hexadecimal.
//!
//! ```text
//! cargo run --release --example dissect -- capture.pcap [--ethertype 0x0007] [--json]
//! cargo run --release --example dissect -- --hex 020000… [--json]
//! tcpdump -i b0 -U -w - | cargo run --release --example dissect -- - [--handovers | --json]
//! ```

use std::io;
use std::process::{ExitCode, exit};
use std::thread;
use std::time::Duration;

use ipos_examples::{dissect, program};

/// How long after SIGINT the end of a capture may come.
const TAIL: Duration = Duration::from_millis(500);

fn main() -> ExitCode {
    program::init_logging("warn");
    // The same ^C ends who writes the capture, in a pipe: what is on its way is still read. Every frame is written in one piece, so
    // the program may end between any two.
    let end = || {
        thread::sleep(TAIL);
        exit(0);
    };
    if let Err(error) = program::on_interrupt(end) {
        tracing::warn!(%error, "signals are not caught");
    }
    dissect::run(
        std::env::args_os(),
        &mut io::stdout().lock(),
        &mut io::stderr().lock(),
    )
    .into()
}
