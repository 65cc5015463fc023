//! Campaigns: many small farms, each drawn from a seed, that meet everything a network and its servers can do.
//!
//! ```text
//!   seed -> Plan -> Farm -> Report
//!           servers, clients, requests      rules that were broken
//!           and what happens to them        and what happened: Counts
//! ```
//!
//! # What happens to a farm
//!
//! Each LAN loses, duplicates, reorders and corrupts up to 30 % of its frames for a part of the time; machines do not hear each
//! other on a LAN for a while, some for longer than the servers wait for each other; servers crash, or say goodbye and stop,
//! and come back in another incarnation; clients use their ports again while the servers remember the last connection; tables
//! have a few places; some farms have a key. Besides connections there are UDP flows. Corruption keeps to what a
//! checksum covers, see [`Impairments::corruption`](crate::Impairments::corruption): without a farm key nothing vouches for the
//! control block of a 0x01 or for a trailer, so an inverted bit there is not a fault that a device could find.
//! At the end nothing is impaired any more, and connections have the time to end.
//!
//! # What must hold
//!
//! * At every frame: one server transmits on a connection at a time, and one answers the datagrams of a flow
//!   ([`OneOwner`](crate::OneOwner)).
//! * No client can tell how often its connection was handed over ([`Watch`](crate::Watch)).
//! * At every step: no table is above its bound.
//! * Every client reads every byte once and in order, or sees that its connection failed. It fails only when
//!   - its first server or its owner crashed, or had left and stopped; where
//!     [`Limits::owner_lost`](ipos_core::config::Limits::owner_lost) is `None`, also the owner of an earlier connection from the
//!     same port: nobody tells the first server, where it has not heard it leave;
//!   - its first server has not heard its owner for `owner_lost`, neither on the Synch LAN nor on LAN B;
//!   - it was reset before the first answer by a first server that had as many connections as it may;
//!   - two servers did not hear each other on LAN B for as long as an endpoint that was handed over is offered again, and its
//!     packets are passed on ([`Limits::tombstone`](ipos_core::config::Limits::tombstone)), less half of it, and a second at the
//!     most, for repetitions that are lost; or one of them has begun a life in which it had not heard of the other one for so long,
//!     which was not to be heard on the Synch LAN, or had said that it leaves: its owner cannot tell the first server;
//!   - its client, which has used the port before without TIME-WAIT, takes a RST for its own that the former connection or late segments
//!     of it have got (smoltcp believes it anywhere in its window).
//!
//!   That the client or a server gives up for another reason is a breach: the times are
//!   such that whatever was lost is sent again long before.
//! * Every datagram that comes to a client answers what it has asked there; a question that is asked again and again is answered
//!   in the end, unless its first server is down or full then, or sends it to a server that is down for good and that nobody
//!   gives up.
//! * When all is over every table of every server is empty, no buffer holds a byte, and no application has a session.
//!
//! One seed gives one run, bit for bit.
//!
//! ```
//! use std::collections::BTreeSet;
//! use ipos_sim::campaign::{Plan, Summary, run};
//!
//! let report = run(&Plan::draw(1), |builder| builder)?;
//! assert!(report.broken.is_empty(), "{report:#?}");
//!
//! let summary = Summary::of(0..20, 2, &BTreeSet::new(), |_| {});
//! assert!(summary.broken.is_empty());
//! println!("{}", summary.counts);
//! # Ok::<(), ipos_sim::FarmError>(())
//! ```

mod build;
mod counts;
mod dice;
mod draw;
mod judge;
mod kind;
mod plan;
mod rarer;
mod run;
mod summary;

pub use counts::Counts;
pub use dice::Dice;
pub use judge::{left_behind, misfits};
pub use kind::{Kind, UnknownKind};
pub use plan::{Act, Ask, AskerPlan, ClientPlan, Ending, Machine, Mover, Plan, Reuse, Talk, What};
pub use run::{Report, run};
pub use summary::Summary;
