//! What this process may do, and how it gets the right to build a laboratory.

use std::fs;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use ipos_backend_pnet::{PnetBackend, PnetOptions};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use nix::unistd::{Gid, Uid};

use crate::{End, LabError, Namespace, connect};

/// Milliseconds that a thread may take to leave after it was joined, on a busy machine.
const LEAVING: u32 = 100;

/// Whether [`enter_user_namespace`] has been called: the one fact about a process that its parts cannot
/// see otherwise, and that command lines for other processes depend on.
static ENTERED: AtomicBool = AtomicBool::new(false);

pub(crate) fn is_in_own_user_namespace() -> bool {
    ENTERED.load(Ordering::Relaxed)
}

/// How this process can have a laboratory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    /// It can as it is: it makes network namespaces, changes their links and opens raw sockets there
    /// (`CAP_SYS_ADMIN`, `CAP_NET_ADMIN`, `CAP_NET_RAW`).
    Direct,
    /// It can after [`enter_user_namespace`], as far as the kernel's settings tell.
    UserNamespace,
}

/// Why this process can have no laboratory.
#[derive(Debug, thiserror::Error)]
#[error(
    "no network laboratory: {direct}; no unprivileged user namespace either: {user}. Run as root, or {fix}"
)]
pub struct Unavailable {
    direct: LabError,
    user: String,
    fix: String,
}

/// Settings that keep unprivileged users out of user namespaces: file, name, forbidding value, permitting value.
const SETTINGS: [(&str, &str, &str, &str); 3] = [
    (
        "/proc/sys/user/max_user_namespaces",
        "user.max_user_namespaces",
        "0",
        "10000",
    ),
    (
        "/proc/sys/kernel/unprivileged_userns_clone",
        "kernel.unprivileged_userns_clone",
        "0",
        "1",
    ),
    (
        "/proc/sys/kernel/apparmor_restrict_unprivileged_userns",
        "kernel.apparmor_restrict_unprivileged_userns",
        "1",
        "0",
    ),
];

/// Finds out how this process can have a laboratory: by building the smallest one, else by the
/// kernel's settings for unprivileged user namespaces.
///
/// # Errors
/// [`Unavailable`]: what is missing and how to get it.
pub fn privilege() -> Result<Privilege, Unavailable> {
    let Err(direct) = try_direct() else {
        return Ok(Privilege::Direct);
    };
    for (file, name, forbidding, permitting) in SETTINGS {
        // A file that is not there is a restriction that this kernel does not have.
        let value = fs::read_to_string(file).unwrap_or_default();
        if value.trim() == forbidding {
            return Err(Unavailable {
                direct,
                user: format!("{name} is {forbidding}"),
                fix: format!("sysctl -w {name}={permitting}"),
            });
        }
    }
    Ok(Privilege::UserNamespace)
}

/// Two namespaces, a veth pair, a raw socket.
fn try_direct() -> Result<(), LabError> {
    let (near, far) = (Namespace::new()?, Namespace::new()?);
    let end = |namespace, name| End {
        namespace,
        name,
        hardware_address: None,
    };
    connect(end(&near, "a"), end(&far, "b"), 1500)?;
    near.set_up("a")?;
    near.run(|| PnetBackend::open("a", PnetOptions::default()))??;
    Ok(())
}

/// Makes the process root of a new user namespace, in which it can have a laboratory; outside, it
/// stays the user that it was, and it keeps its network.
///
/// To be called first in `main`: the kernel refuses a process with several threads.
///
/// # Errors
/// [`LabError::Threads`]; [`LabError::System`]: the kernel permits no user namespaces.
pub fn enter_user_namespace() -> Result<(), LabError> {
    let (user, group) = (Uid::effective(), Gid::effective());
    let mut made = unshare(CloneFlags::CLONE_NEWUSER);
    // A thread that was joined may be on its way out still.
    for _ in 0..LEAVING {
        if made != Err(Errno::EINVAL) {
            break;
        }
        thread::sleep(Duration::from_millis(1));
        made = unshare(CloneFlags::CLONE_NEWUSER);
    }
    made.map_err(|error| match error {
        Errno::EINVAL => LabError::Threads,
        error => LabError::system("make a user namespace")(error.into()),
    })?;
    // Groups can be mapped without privilege only after setgroups(2) is given up.
    for (file, text) in [
        ("/proc/self/setgroups", "deny".to_owned()),
        ("/proc/self/uid_map", format!("0 {user} 1")),
        ("/proc/self/gid_map", format!("0 {group} 1")),
    ] {
        fs::write(file, text).map_err(LabError::system(format!("write {file}")))?;
    }
    ENTERED.store(true, Ordering::Relaxed);
    Ok(())
}

/// For tests: whether this process can have a laboratory as it is. If not, says on standard
/// error that `test` is skipped and why, past the capture of the test harness.
#[must_use]
pub fn available(test: &str) -> bool {
    let reason = match privilege() {
        Ok(Privilege::Direct) => return true,
        Ok(Privilege::UserNamespace) => {
            "no CAP_SYS_ADMIN, CAP_NET_ADMIN and CAP_NET_RAW: run as root or under `unshare -Urn`"
                .to_owned()
        }
        Err(unavailable) => unavailable.to_string(),
    };
    // Without standard error there is nobody to tell.
    let _ = writeln!(io::stderr(), "{test}: skipped: {reason}");
    false
}
