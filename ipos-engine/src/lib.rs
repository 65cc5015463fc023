//! Runs ipOS devices: joins a device to its ports' backends and to the applications of its host.
//!
//! ```text
//!            Port A     Port B    Synch Port
//!               |          |           |          backends (ipos-backend)
//!            +--v----------v-----------v--+
//!            |           Engine           |       one thread: waits, receives in bursts, forwards,
//!            |  clock    Device    load   |       transmits, keeps the deadlines
//!            +--------------^-------------+
//!                           |                     bridge: one kernel connection for each endpoint
//!              applications on this host
//! ```
//!
//! Applications are programs on loopback addresses, or tasks of the same process with its [`socket`]s.
//!
//! The device decides, and reads no clock and no socket; the engine does all of that and decides nothing.
//! A second thread reads the host's figures from `/proc`.
//!
//! ```
//! use ipos_core::{Config, Device};
//! use ipos_engine::{Engine, Options, Ports, clock};
//!
//! /// Serves the configuration's only listening socket until `stopper` says stop.
//! fn serve(config: Config, ports: Ports, stopper: impl FnOnce(ipos_engine::Stop)) -> Result<(), Box<dyn std::error::Error>> {
//!     let device = Device::new(config, clock::now())?;
//!     let application: std::net::SocketAddr = "127.0.0.1:8080".parse()?;
//!     let mut engine = Engine::new(device, ports, vec![application], Options::default())?;
//!     stopper(engine.stop_handle()); // to the thread that waits for signals
//!     Ok(engine.run()?)
//! }
//! ```

#![forbid(unsafe_code)]

mod application;
mod bridge;
pub mod clock;
mod connect;
mod control;
mod cpu;
mod datagrams;
mod drain;
mod engine;
mod error;
mod health;
mod load;
mod options;
mod port;
mod proxy;
pub mod socket;
mod sockets;
mod stop;

pub use application::Application;
pub use control::{Control, ControlError, Operator, Reload};
pub use cpu::cpus;
pub use drain::DrainStatus;
pub use engine::{Engine, Observer};
pub use error::EngineError;
pub use options::{Options, Statistics};
pub use port::Ports;
pub use stop::Stop;
