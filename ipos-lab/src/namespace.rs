//! A network namespace without a name.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
use std::panic::resume_unwind;
use std::path::PathBuf;
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, setns, unshare};

use crate::{LabError, privilege};

/// A network namespace of this process's own, with its loopback interface up.
///
/// This value's file descriptor, the threads and programs inside and their sockets hold it. When the last
/// is gone, killed or not, the kernel removes the namespace and every interface in it.
///
/// A thread is in one network namespace, and what it opens or starts belongs to that one: sockets
/// (which may then be used from anywhere), threads, programs.
///
/// ```no_run
/// use std::process::Command;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let namespace = ipos_lab::Namespace::new()?;
/// let listener = namespace.run(|| std::net::TcpListener::bind("127.0.0.1:80"))??;
/// let links = namespace.run(|| Command::new("ip").arg("link").output())??;
/// # drop((listener, links));
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Namespace {
    file: File,
}

impl Namespace {
    /// Makes a namespace.
    ///
    /// # Errors
    /// [`LabError::System`]: the process has no right to (see [`privilege`](crate::privilege)).
    pub fn new() -> Result<Self, LabError> {
        let file = in_thread(|| {
            unshare(CloneFlags::CLONE_NEWNET)?;
            File::open("/proc/thread-self/ns/net")
        })
        .and_then(|made| made)
        .map_err(LabError::system("make a network namespace"))?;
        let namespace = Self { file };
        namespace.set_up("lo")?;
        Ok(namespace)
    }

    /// Runs `work` inside, on a thread of its own, and waits for it. A panic of `work` goes on in the caller.
    ///
    /// # Errors
    /// [`LabError::System`]: no thread, or the namespace cannot be entered.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, LabError> {
        in_thread(|| self.enter().map(|()| work()))
            .and_then(|done| done)
            .map_err(LabError::system("run in a network namespace"))
    }

    /// Starts `work` inside, on a thread called `name`, which holds the namespace until it ends.
    ///
    /// # Errors
    /// [`LabError::System`]: no thread, or the namespace cannot be entered.
    pub fn spawn<T: Send + 'static>(
        &self,
        name: &str,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<JoinHandle<T>, LabError> {
        let name = name.to_owned();
        // A thread that is started inside is born inside.
        self.run(|| thread::Builder::new().name(name).spawn(work))?
            .map_err(LabError::system("start a thread"))
    }

    /// Where other processes find the namespace while this one lives: `nsenter --net=<path>`.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        let process = std::process::id();
        PathBuf::from(format!("/proc/{process}/fd/{}", self.file.as_raw_fd()))
    }

    /// The command line that runs `command` inside while this process lives: for root or the same user, in
    /// the shell that this process was started from.
    #[must_use]
    pub fn command_line(&self, command: &str) -> String {
        let process = std::process::id();
        let user = if privilege::is_in_own_user_namespace() {
            format!("--target {process} --user --preserve-credentials ")
        } else {
            String::new()
        };
        format!("nsenter {user}--net={} {command}", self.path().display())
    }

    /// Moves the calling thread inside.
    fn enter(&self) -> io::Result<()> {
        Ok(setns(&self.file, CloneFlags::CLONE_NEWNET)?)
    }
}

impl AsFd for Namespace {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// Runs `work` on a new thread, so that the caller stays in its namespace.
fn in_thread<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    thread::scope(|scope| {
        let thread = thread::Builder::new().spawn_scoped(scope, work)?;
        Ok(thread.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}
