//! A whole farm in one process and virtual time.
//!
//! ```text
//!    smoltcp clients        LAN A          Device + Application   (server 1)
//!    scripts: HTTP   <--> switch  <-->     Device + Application   (server 2)  <--> LAN B, Synch LAN
//!    checked to the         |              Device + Application   (server 3)       switches
//!    last byte         impairments                                            impairments
//! ```
//!
//! The servers run [`ipos_core::Device`]s; the clients are not ours: they run smoltcp's TCP. Between them are
//! learning switches that lose, duplicate, reorder, corrupt and delay frames, or keep machines
//! apart, as they are told. Observers see every frame: a [`Capture`] writes it to a pcap file, [`OneOwner`] checks that
//! a connection never has two owners, a [`Watch`] that what they send reads as from one. A [`campaign`] is about many small
//! farms that meet everything.
//!
//! Nothing reads a clock, an environment or a global generator: one seed gives one run, bit for bit.
//!
//! # A farm of three
//!
//! ```
//! use ipos_sim::{Farm, Impairments};
//!
//! let rough = Impairments { loss: 0.01, reordering: 0.01, duplication: 0.01, ..Impairments::default() };
//! let mut farm = Farm::builder().servers(3).requests(60).impairments(rough).seed(42).build()?;
//! let outcome = farm.run();
//!
//! assert_eq!((outcome.requests, outcome.errors, outcome.violations), (60, 0, 0));
//! let migrated: u64 = outcome.servers.iter().map(|server| server.migrated_in).sum();
//! assert!(migrated > 0);
//! println!("{outcome}");
//! # Ok::<(), ipos_sim::FarmError>(())
//! ```
//!
//! # Your own policy
//!
//! ```
//! use ipos_balance::rand_core::Rng;
//! use ipos_balance::{Candidate, Policy, Readiness, Request};
//!
//! /// The first server that is ready.
//! struct First;
//!
//! fn first(candidates: &[Candidate]) -> Option<usize> {
//!     candidates.iter().position(|candidate| candidate.readiness > Readiness::NONE)
//! }
//!
//! impl Policy for First {
//!     fn name(&self) -> &'static str {
//!         "first"
//!     }
//!
//!     fn probabilities(&self, candidates: &[Candidate], out: &mut [f64]) {
//!         for (index, place) in out.iter_mut().enumerate() {
//!             *place = if first(candidates) == Some(index) { 1.0 } else { 0.0 };
//!         }
//!     }
//!
//!     fn select(&mut self, _: Request, candidates: &[Candidate], _: &mut dyn Rng) -> Option<usize> {
//!         first(candidates)
//!     }
//! }
//!
//! let mut farm = ipos_sim::Farm::builder().own_policy(|_| Box::new(First)).build()?;
//! println!("{}", farm.run());
//! # Ok::<(), ipos_sim::FarmError>(())
//! ```
//!
//! # Your own application, your own clients
//!
//! Implement [`Application`] for the servers and [`Script`] for the clients; both talk over a [`Stream`]. Or leave the
//! farm aside and put [`Node`]s of your own into a [`Network`].

#![forbid(unsafe_code)]

pub mod addresses;
mod app;
mod asker;
mod builder;
pub mod campaign;
mod capture;
mod client;
mod farm;
mod frame;
mod http;
mod impair;
mod jar;
mod lan;
mod neighbours;
mod network;
mod observe;
mod outcome;
mod owner;
pub mod pattern;
mod ports;
mod random;
mod requests;
mod script;
mod server;
mod stream;
mod watch;
pub mod wire;

pub use app::{Application, Session, Web};
pub use asker::{Answer, Asker, AskerConfig, Question};
pub use builder::{FarmBuilder, FarmError};
pub use capture::Capture;
pub use client::{Client, ClientConfig, ClientTcp, Job, Workload};
pub use farm::Farm;
pub use frame::{MIN_FRAME, Outbox};
pub use impair::{ImpairmentError, ImpairmentStatistics, Impairments};
pub use jar::Jar;
pub use lan::{Lan, LanConfig, LanStatistics};
pub use network::{LanId, Network, Node, NodeId};
pub use observe::{Observer, Sighting};
pub use outcome::{Outcome, Quantiles, ServerOutcome};
pub use owner::{OneOwner, Violation};
pub use requests::{Http, Request};
pub use script::{Connection, Exchange, ExchangeError, Log, Record, Script};
pub use server::{Journal, LoadModel, Server, default_load};
pub use stream::{Next, Stream};
pub use watch::{Conversation, Watch};
