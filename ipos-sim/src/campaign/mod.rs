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
//! other on a LAN for a while; servers crash, and come back in another incarnation. Corruption keeps to what a
//! checksum covers, see [`Impairments::corruption`](crate::Impairments::corruption): without a farm key nothing vouches for the
//! control block of a 0x01 or for a trailer, so an inverted bit there is not a fault that a device could find.
//! At the end nothing is impaired any more, and connections have the time to end.
//!
//! # What must hold
//!
//! * At every frame: one server transmits on a connection at a time ([`OneOwner`](crate::OneOwner)).
//! * No client can tell how often its connection was handed over ([`Watch`](crate::Watch)).
//! * At every step: no table is above its bound.
//! * Every client reads every byte once and in order, or sees that its connection failed; and this only when its first
//!   server or its owner crashed. That the client or a server gives up for another reason is a breach: the times are
//!   such that whatever was lost is sent again long before.
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
mod run;
mod summary;

pub use counts::Counts;
pub use dice::Dice;
pub use kind::{Kind, UnknownKind};
pub use plan::{Act, Ask, ClientPlan, Ending, Machine, Mover, Plan, Talk, What};
pub use run::{Report, run};
pub use summary::Summary;
