//! The host's figures, read from `/proc` on a thread of their own: a walk over all processes takes
//! milliseconds, and the loop must not wait for it.

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::mpsc::{
    Receiver, RecvTimeoutError, Sender, SyncSender, TrySendError, channel, sync_channel,
};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use ipos_core::Process;
use ipos_core::config::PROCESSES;
use mio::Waker;
use procfs::net::{TcpNetEntries, TcpState};
use procfs::process::{self, FDTarget};
use procfs::{
    CpuTime, Current, CurrentSI, FromReadSI, KernelStats, Meminfo, ProcError, ProcResult,
};

/// Figures that may wait for the loop. Full: the newest are lost, the next come soon.
const WAITING: usize = 4;

/// What the thread found.
#[derive(Debug)]
pub(crate) enum Figures {
    /// CPU in use (0 to 1) over the last interval, and memory that can still be had, in bytes.
    Host { cpu: f32, free_memory: u64 },
    /// The processes that listen on the applications' addresses.
    Processes(Vec<Process>),
}

/// An application to look for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Application {
    /// Where it listens; `None`: it is in this process.
    pub(crate) address: Option<SocketAddr>,
    /// The port that clients reach it at.
    pub(crate) port: u16,
}

/// How often each kind is read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Intervals {
    /// CPU and memory.
    pub(crate) host: Duration,
    /// Memory and CPU of known processes.
    pub(crate) processes: Duration,
    /// Which processes there are.
    pub(crate) discovery: Duration,
}

/// The thread; it ends when this is dropped.
pub(crate) struct Monitor {
    pub(crate) figures: Receiver<Figures>,
    applications: Arc<Mutex<Vec<Application>>>,
    end: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    /// Starts the thread in the caller's network namespace. `waker` is woken when figures wait.
    pub(crate) fn start(
        applications: Vec<Application>,
        intervals: Intervals,
        waker: Arc<Waker>,
    ) -> io::Result<Monitor> {
        let (sender, figures) = sync_channel(WAITING);
        let (end, ended) = channel();
        let applications = Arc::new(Mutex::new(applications));
        let reader = Reader {
            applications: Arc::clone(&applications),
            host: Host::default(),
            processes: Processes::default(),
            said: HashSet::new(),
        };
        let thread = Builder::new()
            .name("ipos-load".into())
            .spawn(move || reader.run(intervals, &ended, &Outlet { sender, waker }))?;
        Ok(Monitor {
            figures,
            applications,
            end: Some(end),
            thread: Some(thread),
        })
    }
}

impl Monitor {
    /// Looks for these from its next look on.
    pub(crate) fn look_for(&self, applications: Vec<Application>) {
        let held = self.applications.lock();
        *held.unwrap_or_else(PoisonError::into_inner) = applications;
    }
}

impl Drop for Monitor {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the thread that reads the host's figures panicked");
        }
    }
}

/// Where figures go.
struct Outlet {
    sender: SyncSender<Figures>,
    waker: Arc<Waker>,
}

impl Outlet {
    fn give(&self, figures: Figures) {
        match self.sender.try_send(figures) {
            Ok(()) => {
                if let Err(error) = self.waker.wake() {
                    tracing::debug!(%error, "cannot wake the engine");
                }
            }
            Err(TrySendError::Full(_) | TrySendError::Disconnected(_)) => {}
        }
    }
}

/// The thread's state.
struct Reader {
    applications: Arc<Mutex<Vec<Application>>>,
    host: Host,
    processes: Processes,
    /// What could not be read, and was said.
    said: HashSet<&'static str>,
}

impl Reader {
    fn run(mut self, intervals: Intervals, ended: &Receiver<()>, outlet: &Outlet) {
        let start = Instant::now();
        let mut processes_due = start;
        let mut discovery_due = start;
        // The kernel walks all of its sockets for a look: where nobody listens, looks become rarer.
        let mut patience = intervals.processes;
        loop {
            let figures = self.host.read();
            if let Some(figures) = self.judge("the host's CPU and memory", figures).flatten() {
                outlet.give(figures);
            }
            let now = Instant::now();
            if now >= processes_due {
                processes_due = now + intervals.processes;
                if now >= discovery_due {
                    let held = self.applications.lock();
                    let applications = held.unwrap_or_else(PoisonError::into_inner).clone();
                    let found = self.processes.discover(&applications);
                    self.judge("the processes behind the applications' addresses", found);
                    if self.processes.known.is_empty() {
                        discovery_due = now + patience;
                        patience = patience.saturating_mul(2).min(intervals.discovery);
                    } else {
                        discovery_due = now + intervals.discovery;
                        patience = intervals.processes;
                    }
                }
                outlet.give(Figures::Processes(self.processes.read(now)));
            }
            match ended.recv_timeout(intervals.host) {
                Err(RecvTimeoutError::Timeout) => {}
                Ok(()) | Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Says once what cannot be read; the last values then stay.
    fn judge<T>(&mut self, what: &'static str, result: ProcResult<T>) -> Option<T> {
        match result {
            Ok(value) => {
                self.said.remove(what);
                Some(value)
            }
            Err(error) => {
                if self.said.insert(what) {
                    tracing::warn!(%error, "cannot read {what}; the last values stay");
                }
                None
            }
        }
    }
}

/// CPU and memory of the whole host.
#[derive(Default)]
struct Host {
    /// Ticks at the last reading: busy, all.
    ticks: Option<(u64, u64)>,
}

impl Host {
    /// `None` at the first reading: CPU use needs two.
    fn read(&mut self) -> ProcResult<Option<Figures>> {
        let ticks = ticks(&KernelStats::current()?.total);
        let memory = Meminfo::current()?;
        let free_memory = memory.mem_available.unwrap_or(memory.mem_free);
        let last = self.ticks.replace(ticks);
        Ok(last.map(|last| Figures::Host {
            cpu: share(last, ticks),
            free_memory,
        }))
    }
}

/// Busy and all ticks of a line of `/proc/stat`. Guest time is in user time already.
fn ticks(time: &CpuTime) -> (u64, u64) {
    let idle = time.idle + time.iowait.unwrap_or(0);
    let busy = time.user
        + time.nice
        + time.system
        + [time.irq, time.softirq, time.steal]
            .iter()
            .flatten()
            .sum::<u64>();
    (busy, busy + idle)
}

/// The busy share between two readings, 0 to 1.
fn share((busy0, all0): (u64, u64), (busy1, all1): (u64, u64)) -> f32 {
    // The kernel's idle count may go back a little.
    let all = all1.saturating_sub(all0);
    let busy = busy1.saturating_sub(busy0).min(all);
    if all == 0 {
        0.0
    } else {
        busy as f32 / all as f32
    }
}

/// The processes that listen on the applications' addresses.
#[derive(Default)]
struct Processes {
    /// Process id to the port that clients reach it at.
    known: HashMap<i32, u16>,
    /// Ticks of each process at the last reading.
    ticks: HashMap<i32, u64>,
    read: Option<Instant>,
}

impl Processes {
    /// Looks for them: listening sockets' inodes, then the processes that hold these.
    fn discover(&mut self, applications: &[Application]) -> ProcResult<()> {
        let listening = listening(applications)?;
        self.known.clear();
        if let Some(own) = applications.iter().find(|a| a.address.is_none()) {
            let pid = i32::try_from(std::process::id()).unwrap_or(i32::MAX);
            self.known.insert(pid, own.port);
        }
        if listening.is_empty() {
            return Ok(());
        }
        for process in process::all_processes()?.flatten() {
            // Processes end while we look, and those of others may not be looked into.
            let Ok(descriptors) = process.fd() else {
                continue;
            };
            let port = descriptors
                .flatten()
                .find_map(|descriptor| match descriptor.target {
                    FDTarget::Socket(inode) => listening.get(&inode).copied(),
                    _ => None,
                });
            if let Some(port) = port {
                self.known.insert(process.pid, port);
            }
            if self.known.len() == PROCESSES {
                tracing::debug!(
                    "more than {PROCESSES} processes listen on the applications' addresses; the first are told"
                );
                break;
            }
        }
        Ok(())
    }

    /// Memory and CPU of the known ones.
    fn read(&mut self, now: Instant) -> Vec<Process> {
        let elapsed = self
            .read
            .replace(now)
            .map_or(0.0, |last| now.duration_since(last).as_secs_f32());
        let page = procfs::page_size();
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        let per_second = procfs::ticks_per_second() as f32 * processors as f32;
        let mut seen = HashMap::new();
        let mut rows = Vec::new();
        for (&pid, &port) in &self.known {
            let Ok(stat) = process::Process::new(pid).and_then(|process| process.stat()) else {
                continue;
            };
            let ticks = stat.utime + stat.stime;
            seen.insert(pid, ticks);
            let cpu = match self.ticks.get(&pid) {
                Some(&last) if elapsed > 0.0 => {
                    (ticks.saturating_sub(last) as f32 / per_second / elapsed).min(1.0)
                }
                _ => 0.0,
            };
            rows.push(Process {
                pid: pid.unsigned_abs(),
                name: stat.comm,
                port,
                memory: stat.rss.saturating_mul(page),
                cpu,
            });
        }
        self.ticks = seen;
        rows.sort_unstable_by_key(|row| row.pid);
        rows
    }
}

/// Inodes of the sockets that listen for `applications`, with the clients' ports.
fn listening(applications: &[Application]) -> ProcResult<HashMap<u64, u16>> {
    let mut found = HashMap::new();
    // Of this thread: in a farm on one host, threads are in namespaces of their own.
    for table in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
        let entries = match TcpNetEntries::from_file(table, procfs::current_system_info()) {
            Ok(entries) => entries.0,
            // A kernel without IPv6.
            Err(ProcError::NotFound(_)) => continue,
            Err(error) => return Err(error),
        };
        for entry in entries {
            if entry.state != TcpState::Listen {
                continue;
            }
            let served = applications.iter().find(|application| {
                (application.address).is_some_and(|address| serves(entry.local_address, address))
            });
            if let Some(application) = served {
                found.insert(entry.inode, application.port);
            }
        }
    }
    Ok(found)
}

/// Whether a socket bound to `local` takes connections to `application`.
fn serves(local: SocketAddr, application: SocketAddr) -> bool {
    local.port() == application.port()
        && (local.ip() == application.ip()
            || match local.ip() {
                IpAddr::V4(ip) => ip.is_unspecified() && application.is_ipv4(),
                IpAddr::V6(ip) => ip.is_unspecified(),
            })
}

/// The speed of an interface in bits per second, where the kernel knows it.
pub(crate) fn link_speed(interface: &str) -> Option<u64> {
    let megabits: u64 = std::fs::read_to_string(format!("/sys/class/net/{interface}/speed"))
        .ok()?
        .trim()
        .parse()
        .ok()?;
    (megabits > 0).then(|| megabits.saturating_mul(1_000_000))
}

/// Bytes that a port moved, as free bandwidth.
#[derive(Debug)]
pub(crate) struct Bandwidth {
    speed: u64,
    last: Option<(ipos_core::Instant, [u64; 2])>,
}

impl Bandwidth {
    /// A full-duplex link of `speed` bits per second.
    pub(crate) fn new(speed: u64) -> Bandwidth {
        Bandwidth { speed, last: None }
    }

    /// What is left of the busier direction since the last call, in bits per second, when `bytes` in all were moved.
    pub(crate) fn free(&mut self, now: ipos_core::Instant, bytes: [u64; 2]) -> u64 {
        let Some((then, before)) = self.last.replace((now, bytes)) else {
            return self.speed;
        };
        let micros = now.saturating_since(then).as_micros().max(1);
        let moved = bytes
            .iter()
            .zip(before)
            .map(|(bytes, before)| bytes.saturating_sub(before))
            .max()
            .unwrap_or(0);
        let rate = u128::from(moved) * 8 * 1_000_000 / micros;
        self.speed
            .saturating_sub(u64::try_from(rate).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests;
