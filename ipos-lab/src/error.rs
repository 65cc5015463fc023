//! What can go wrong in a laboratory.

use std::io;

/// Why a laboratory, or a part of it, could not be built or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LabError {
    /// The system refused.
    #[error("cannot {action}: {source}")]
    System {
        /// What was tried, with the name of the interface or file.
        action: String,
        /// What the system said.
        source: io::Error,
    },
    /// A link that did not come up.
    #[error("interface {interface} did not come up within {seconds} s: is its other end up?")]
    NotReady {
        /// The interface.
        interface: String,
        /// How long was waited.
        seconds: u64,
    },
    /// A plan that no laboratory can follow.
    #[error("{0}")]
    Plan(String),
    /// [`enter_user_namespace`](crate::enter_user_namespace) in a process with several threads.
    #[error(
        "a process enters a user namespace while it has one thread only: call this first in main"
    )]
    Threads,
    /// The port for a capture could not be opened.
    #[error(transparent)]
    Open(#[from] ipos_backend_pnet::OpenError),
    /// A capture file could not be written or read.
    #[error("capture file {path}: {source}")]
    Capture {
        /// The file.
        path: String,
        /// What went wrong.
        source: io::Error,
    },
}

impl LabError {
    /// A function that wraps a system's error with what was tried.
    pub(crate) fn system(action: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let action = action.into();
        move |source| Self::System { action, source }
    }
}
