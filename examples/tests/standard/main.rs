//! The standard, tested black-box: a client that builds every segment itself, against a device, against
//! a connection migrated between two devices, and against the Linux kernel, over real veth links.
//!
//! ```text
//!   cases --> Conn (raw segments) --> Wire ==veth, bridge==> device --> application
//!                                          ==veth, bridge==> device == Port B ==> device --> application
//!                                          ==veth, bridge==> the kernel's TCP --> application
//! ```
//!
//! What a case expects is the standard's; where the kernel departs from it, the case says why. Runs of single cases:
//! `cargo test -p ipos-examples --test standard -- PAWS FIN`.

mod app;
mod bed;
mod cases;
mod conn;
mod cx;
mod run;
mod segment;
mod wire;

use std::process::ExitCode;

fn main() -> ExitCode {
    let (options, wanted): (Vec<String>, Vec<String>) = std::env::args()
        .skip(1)
        .partition(|argument| argument.starts_with('-'));
    let cases: Vec<_> = cases::all()
        .filter(|case| wanted.is_empty() || wanted.iter().any(|part| case.name.contains(part)))
        .collect();
    if options.iter().any(|option| option == "--list") {
        cases
            .iter()
            .for_each(|case| println!("{}: test", case.name));
        return ExitCode::SUCCESS;
    }
    if cases.is_empty() {
        // Other tests of the package may have been asked for.
        println!(
            "running 0 cases: none has {} in its name",
            wanted.join(" or ")
        );
        return ExitCode::SUCCESS;
    }
    if !ipos_lab::available("standard") {
        return ExitCode::SUCCESS;
    }
    let results = run::run(&cases);
    print!("{}", run::report(&cases, &results));
    if results.iter().flatten().any(run::Result::is_failure) {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}
