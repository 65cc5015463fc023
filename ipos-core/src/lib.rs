//! The ipOS device: everything that decides, and nothing that touches a clock, a socket or a thread. The figures are those of
//! US 9,100,409.
//!
//! ```text
//!            Port A                     Port B                     Synch Port
//!               |                          |                           |
//!        balance thread             forward thread            synchronization thread
//!          (FIG. 9A)                  (FIG. 9B)                    (FIG. 9C)
//!               |                          |                           |
//!    temporary, local, forward      forward-connect              server state        (FIG. 12)
//!               |                          |
//!               +------ protocol stack thread (FIG. 8, own TCP) ------+
//!                                          |
//!                               the host: Event, Endpoint
//! ```
//!
//! A [`Device`] is driven by calls alone: the same calls with the same seed give the same frames. What it
//! is told comes through `handle_*` ([`Device::handle_frame`], [`Device::handle_timeout`], ..); what it wants comes
//! through `poll_*` ([`Device::poll_transmit`], [`Device::poll_event`], [`Device::poll_timeout`]).
//!
//! ```
//! use ipos_core::config::{Config, Listen, PortA, PortB, SynchPort};
//! use ipos_core::{Device, Instant, Port};
//! use ipos_proto::{MacAddr, Protocol};
//!
//! let port_a = PortA::new(MacAddr([2, 0, 0, 0, 0, 0xa]), vec!["10.77.0.11".parse().unwrap()], 24);
//! let port_b = PortB::new(MacAddr([2, 0, 0, 0, 0, 0xb]), "10.88.0.11".parse().unwrap());
//! let synch = SynchPort::new(MacAddr([2, 0, 0, 0, 0, 0xc]), "10.99.0.11".parse().unwrap());
//! let mut config = Config::new("s1", port_a, port_b, synch);
//! config.listen.push(Listen {
//!     address: "10.77.0.11:80".parse().unwrap(),
//!     protocol: Protocol::Tcp,
//!     service: "web".into(),
//! });
//! let mut device = Device::new(config, Instant::ZERO)?;
//!
//! // The first thing that a device says: who it is, on the Synch Port.
//! let mut frame = [0; 1514];
//! device.handle_timeout(Instant::ZERO);
//! assert!(device.poll_transmit(Instant::ZERO, Port::Synch, &mut frame).is_some());
//! assert!(device.poll_timeout() > Some(Instant::ZERO));
//! # Ok::<(), ipos_core::ConfigError>(())
//! ```
#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod build;
pub mod config;
mod content;
mod cookie;
mod counters;
mod device;
mod early;
mod event;
mod flow;
mod flow_table;
mod handover;
mod histogram;
mod inspect;
mod key;
mod members;
mod neighbour;
mod outbox;
mod packet;
mod sessions;
mod speech;
mod stack;
mod tcp;
mod time;
mod timer_queue;
mod told;

pub use config::{Config, ConfigError};
pub use counters::{Counters, DropReason};
pub use device::{DatagramError, Device, Endpoint, MigrateError, ReconfigureError};
pub use event::{
    Burst, EndpointId, Event, Failure, Forward, ListenerId, Origin, Port, Transmit, Verdict,
};
pub use flow::{Flow, FlowError};
pub use flow_table::TABLES as FLOW_TABLES;
pub use histogram::Histogram;
pub use inspect::{EarlyRow, FlowRow, Load, NeighbourRow, Process, ServerState, TableSize};
pub use key::{FarmKey, FarmKeyError};
pub use time::{Duration, Instant};
