//! What every bundled program does at its start and its end.

use std::fmt::Display;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use ipos_lab::Privilege;
use nix::errno::Errno;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tracing_subscriber::EnvFilter;

/// Exit status for bad input: command line, file, interface.
pub const BAD_INPUT: u8 = 2;

/// Logs to standard error, at the level of `RUST_LOG`, or else at `level`.
pub fn init_logging(level: &str) {
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).unwrap_or_default();
    let (filter, wrong) = match wanted.parse() {
        Ok(filter) if !wanted.is_empty() => (filter, None),
        Ok(_) => (EnvFilter::new(level), None),
        Err(error) => (EnvFilter::new(level), Some(error)),
    };
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .init();
    if let Some(error) = wrong {
        tracing::warn!(
            "{}={wanted}: {error}; the level is {level}",
            EnvFilter::DEFAULT_ENV
        );
    }
}

/// The command line. What is wrong with it is told in one line.
///
/// # Errors
/// The exit status: that of success where help or the version was asked for.
pub fn arguments<T: clap::Parser>() -> Result<T, ExitCode> {
    T::try_parse().map_err(|error| {
        let text = error.to_string();
        if !error.use_stderr() {
            print!("{text}");
            return ExitCode::SUCCESS;
        }
        fail(in_one_line(&text), BAD_INPUT)
    })
}

/// Clap's first paragraph, and what it thinks was meant.
pub(crate) fn in_one_line(text: &str) -> String {
    let first = text.lines().take_while(|line| !line.is_empty());
    let mut what = first.map(str::trim).collect::<Vec<_>>().join(" ");
    let tips = text.lines().map(str::trim);
    for tip in tips.filter_map(|line| line.strip_prefix("tip: ")) {
        what = format!("{what}; {tip}");
    }
    format!("{what} (--help tells more)")
}

/// The command line of a program that has a configuration file.
#[derive(Clone, Debug, clap::Args)]
pub struct Configured {
    /// The configuration file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Only validate the file.
    #[arg(long)]
    check: bool,
}

/// How such a program starts: its command line, its log, its file, which `read` reads and judges.
///
/// # Errors
/// The exit status: that of success where only a good file was to be checked.
pub fn configured<A, T, E>(
    read: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<(PathBuf, T), ExitCode>
where
    A: clap::Parser + Into<Configured>,
    E: Display,
{
    let Configured { config, check } = arguments::<A>()?.into();
    init_logging("info");
    let settings = read(&config).map_err(|error| fail(error, BAD_INPUT))?;
    if check {
        println!("{}: ok", config.display());
        return Err(ExitCode::SUCCESS);
    }
    raise_descriptor_limit();
    Ok((config, settings))
}

/// One line on standard error, and the exit status for it.
pub fn fail(error: impl Display, status: u8) -> ExitCode {
    eprintln!("{error}");
    ExitCode::from(status)
}

/// Why an address, or an interface, cannot be had, and what to do.
#[must_use]
pub fn refused(at: impl Display, error: &io::Error) -> String {
    let instead = match error.kind() {
        io::ErrorKind::AddrInUse => {
            ": another program has it (`ss -tulpn` tells which): end that one, or choose another"
        }
        io::ErrorKind::AddrNotAvailable => {
            ": no interface of this host has it: `ip address` lists those there are"
        }
        io::ErrorKind::PermissionDenied => {
            ": ports below 1024 need root, or `setcap cap_net_bind_service+ep` for the program"
        }
        _ if error.raw_os_error() == Some(Errno::ENODEV as i32) => {
            ": there is no such interface: `ip link` lists those there are"
        }
        _ => "",
    };
    format!("{at}: {error}{instead}")
}

/// Gets the right to build a network laboratory; to be called before there is a second thread.
///
/// # Errors
/// Why there is none.
pub fn laboratory() -> Result<(), String> {
    let privilege = || ipos_lab::privilege().map_err(|unavailable| unavailable.to_string());
    if privilege()? == Privilege::Direct {
        return Ok(());
    }
    ipos_lab::enter_user_namespace().map_err(|error| error.to_string())?;
    match privilege()? {
        Privilege::Direct => Ok(()),
        Privilege::UserNamespace => {
            Err("a user namespace gives no network laboratory here".to_owned())
        }
    }
}

/// A signal that comes so soon after the first is the same: `timeout(1)` and terminals signal a whole group, and some twice.
const SAME_SIGNAL: Duration = Duration::from_secs(1);

/// Calls `end` on its own thread at the first SIGINT or SIGTERM; a later one ends the process at once.
///
/// # Errors
/// The signals cannot be caught, or there is no thread.
pub fn on_interrupt(end: impl FnOnce() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGINT, SIGTERM])?;
    let wait = move || {
        let mut arrivals = signals.forever();
        if arrivals.next().is_none() {
            return;
        }
        let first = Instant::now();
        end();
        if let Some(signal) = arrivals.find(|_| first.elapsed() > SAME_SIGNAL) {
            std::process::exit(128 + signal);
        }
    };
    thread::Builder::new()
        .name("signals".into())
        .spawn(wait)
        .map(drop)
}

/// Calls `reload` on its own thread at each SIGHUP. Those that come meanwhile are one.
///
/// # Errors
/// The signal cannot be caught, or there is no thread.
pub fn on_hangup(mut reload: impl FnMut() + Send + 'static) -> io::Result<()> {
    let mut signals = Signals::new([SIGHUP])?;
    let wait = move || signals.forever().for_each(|_| reload());
    thread::Builder::new()
        .name("reload".into())
        .spawn(wait)
        .map(drop)
}

/// Lets the process open as many descriptors as it may: each connection to an application is one.
pub fn raise_descriptor_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        tracing::warn!(%error, "the number of open connections stays limited by `ulimit -n`");
    }
}
