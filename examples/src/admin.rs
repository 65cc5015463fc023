//! The admin address of a device: what it counts and holds, and what an operator tells it.
//!
//! ```text
//!   curl, Prometheus, browser ──► serve ──► answer ──┬──► snapshot ──► tables    JSON
//!                                 (bounds)  (routes) │    (on the      metrics   Prometheus text
//!                                                    │     engine's
//!                                                    └──►  thread)
//! ```
//!
//! Answers are made on a thread of their own. The engine's thread only copies a bounded number of rows: `snapshot.rs` says how
//! many.

mod answer;
mod metrics;
mod serve;
mod snapshot;
mod tables;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread;

use ipos_engine::Control;

/// The admin address, open and not served yet.
#[derive(Debug)]
pub struct Admin {
    listener: TcpListener,
    address: SocketAddr,
}

impl Admin {
    /// Opens the address. One that other hosts can reach is warned of: whoever reaches it operates the device.
    ///
    /// # Errors
    /// The address is not this host's, or is taken.
    pub fn open(address: SocketAddr) -> io::Result<Admin> {
        let listener = TcpListener::bind(address)?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        if !address.ip().is_loopback() {
            tracing::warn!(
                "admin.listen: other hosts may reach {address}, and whoever does can drain this server and move its \
                 connections: 127.0.0.1 is for this host alone"
            );
        }
        Ok(Admin { listener, address })
    }

    /// Serves it on a thread of its own, until the process ends.
    ///
    /// # Errors
    /// There is no thread, or no runtime.
    pub fn start(self, control: Control) -> io::Result<()> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let Admin { listener, address } = self;
        let serve = move || match runtime.block_on(serve::listen(listener, control)) {
            Ok(()) => {}
            Err(error) => tracing::error!(%address, %error, "the admin address is not served"),
        };
        thread::Builder::new()
            .name("admin".into())
            .spawn(serve)
            .map(|_| tracing::info!("status page: http://{address}/"))
    }
}

#[cfg(test)]
mod tests;
