//! How another thread tells an engine to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::Waker;

/// Tells one engine to stop; any number of clones, from any thread.
#[derive(Clone, Debug)]
pub struct Stop {
    stopped: Arc<AtomicBool>,
    waker: Arc<Waker>,
}

impl Stop {
    pub(crate) fn new(waker: Arc<Waker>) -> Stop {
        Stop {
            stopped: Arc::new(AtomicBool::new(false)),
            waker,
        }
    }

    /// The engine leaves the farm and [`Engine::run`](crate::Engine::run) returns. Calling it again changes nothing.
    pub fn stop(&self) {
        self.stopped.store(true, Ordering::Release);
        if let Err(error) = self.waker.wake() {
            // The loop still sees the flag at its next deadline, one Synch interval away at most.
            tracing::debug!(%error, "cannot wake the engine");
        }
    }

    /// Whether [`Stop::stop`] was called.
    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Acquire)
    }
}
