//! How ipOS chooses the server that gets a client's request (US 9,100,409, FIG. 7, equations 1 and 2).
//!
//! ```text
//!   candidates ──►  Policy::select  ──►  one of them
//!   (live, not draining,   ▲   ▲
//!    the right service)    │   └── randomness, passed in
//!                          └────── the request's key
//! ```
//!
//! Cookies, maps and the activity threshold come before a policy; whoever asks it gives only
//! servers that may be chosen. A policy reads no clock and no global generator: the same calls
//! with the same seed choose the same servers.
//!
//! | name | chooses | by |
//! |---|---|---|
//! | `inverse-connections` | [`InverseConnections`] | `p_i = k / CN_i` |
//! | `round-robin` | [`RoundRobin`] | turns |
//! | `least-connections` | [`LeastConnections`] | the least `CN / w` |
//! | `p2c` | [`TwoChoices`] | the lesser `CN / w` of two that are drawn |
//! | `weighted` | [`Weighted`] | turns, as often as `w` says |
//! | `maglev` | [`Maglev`] | the request's key |
//!
//! ```
//! use ipos_balance::{Candidate, PolicyKind, Request};
//! use ipos_balance::rand_core::SeedableRng;
//! use rand_chacha::ChaCha8Rng; // 0.10, as `rand_core`
//!
//! // FIG. 7: three servers with 27, 30 and 33 connections.
//! let candidates = [(1, 27), (2, 30), (3, 33)]
//!     .map(|(server, connections)| Candidate::new(server, connections));
//!
//! let mut policy = "inverse-connections".parse::<PolicyKind>()?.build();
//! let mut shares = [0.0; 3];
//! policy.probabilities(&candidates, &mut shares);
//! assert_eq!(shares.map(|p| (p * 100.0).round()), [37.0, 33.0, 30.0]);
//!
//! let mut rng = ChaCha8Rng::seed_from_u64(42);
//! let chosen = policy.select(Request::default(), &candidates, &mut rng);
//! assert!(chosen.is_some_and(|index| index < candidates.len()));
//! assert_eq!(policy.select(Request::default(), &[], &mut rng), None);
//! # Ok::<(), ipos_balance::UnknownPolicy>(())
//! ```
//!
//! # Readiness
//!
//! A server that has just come (back), or that refuses hand-overs, must not draw everything because it
//! has no connections. So each candidate has a [`Readiness`], which [`SlowStart`] and [`Health`]
//! give; [`Readiness::and`] joins them. It counts in relation to the readiest candidate: `r`, from 0 to 1.
//!
//! * Policies that look at connections count `CN + (1 - r) · w · M`: a server has, as far as it
//!   is not ready, the mean's connections already. `M = Σ r_j · CN_j / Σ r_j · w_j`.
//! * With `r`, a server also takes only that part of what would fall to it. Counting alone would not do:
//!   one that refuses everything keeps its count, and would remain the least.
//!
//! With `r = 1` for all, the equations hold exactly, and the same numbers are drawn as without readiness.
//!
//! ```
//! use core::time::Duration;
//! use ipos_balance::{Candidate, Health, InverseConnections, Policy, SlowStart};
//!
//! let (now, returned) = (Duration::from_secs(103), Duration::from_secs(100));
//! let health = Health::default();
//! let readiness = SlowStart::default().readiness(now - returned).and(health.readiness(now));
//! let candidates = [
//!     Candidate::new(1, 100),
//!     Candidate::new(2, 100),
//!     Candidate { readiness, ..Candidate::new(3, 0) },
//! ];
//! let mut shares = [0.0; 3];
//! InverseConnections.probabilities(&candidates, &mut shares);
//! // Without slow start it would be everything.
//! assert!(0.15 < shares[2] && shares[2] < 0.25);
//! ```

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod draw;
mod health;
mod inverse;
mod kind;
mod least;
mod load;
mod maglev;
mod readiness;
mod round_robin;
mod slow_start;
mod two_choices;
mod weighted;

use core::num::NonZeroU16;

/// The version whose generators policies draw from.
pub use rand_core;
use rand_core::Rng;

pub use health::Health;
pub use inverse::InverseConnections;
pub use kind::{PolicyKind, UnknownPolicy};
pub use least::LeastConnections;
pub use maglev::Maglev;
pub use readiness::Readiness;
pub use round_robin::RoundRobin;
pub use slow_start::SlowStart;
pub use two_choices::TwoChoices;
pub use weighted::Weighted;

/// A server that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// The caller's own number for the server; candidates of one call have different ones.
    /// All servers of a farm use the same numbers, where [`Maglev`] is to choose alike.
    pub server: u32,
    /// Connections that the server has: its last advert, and what was sent to it since.
    pub connections: u32,
    /// Capacity of the server relative to the others.
    pub weight: NonZeroU16,
    /// How ready it is; a server that is not ready at all is not chosen.
    pub readiness: Readiness,
}

impl Candidate {
    /// A server of weight 1 that is fully ready.
    pub const fn new(server: u32, connections: u32) -> Self {
        Self {
            server,
            connections,
            weight: NonZeroU16::MIN,
            readiness: Readiness::FULL,
        }
    }

    const fn is_ready(&self) -> bool {
        self.readiness.parts() > 0
    }

    /// `w · r`, in 1/65536: at most 2^32.
    const fn capacity(&self) -> u64 {
        self.weight.get() as u64 * self.readiness.parts()
    }
}

/// What a server is chosen for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Request {
    /// Requests with the same key are to go to the same server, where the policy is
    /// [`Maglev`]; no other one looks at it. It need not be hashed: the client's address, for example.
    pub key: u64,
}

/// A way to choose among candidates.
///
/// ```
/// use ipos_balance::rand_core::Rng;
/// use ipos_balance::{Candidate, Policy, Readiness, Request};
///
/// /// Always the first that is ready.
/// struct First;
///
/// fn first(candidates: &[Candidate]) -> Option<usize> {
///     candidates.iter().position(|candidate| candidate.readiness > Readiness::NONE)
/// }
///
/// impl Policy for First {
///     fn name(&self) -> &'static str {
///         "first"
///     }
///
///     fn probabilities(&self, candidates: &[Candidate], out: &mut [f64]) {
///         for (index, (_, p)) in candidates.iter().zip(out).enumerate() {
///             *p = if first(candidates) == Some(index) { 1.0 } else { 0.0 };
///         }
///     }
///
///     fn select(&mut self, _: Request, candidates: &[Candidate], _: &mut dyn Rng) -> Option<usize> {
///         first(candidates)
///     }
/// }
/// # let _: Box<dyn Policy> = Box::new(First);
/// ```
pub trait Policy: Send {
    /// The name that selects the policy in a configuration.
    fn name(&self) -> &'static str;

    /// The probability of each candidate, or its share of many choices, written to the same
    /// place of `out`; they sum to 1 unless nobody is ready. `out` is as long as
    /// `candidates`: places beyond the shorter of the two are not touched. May allocate.
    fn probabilities(&self, candidates: &[Candidate], out: &mut [f64]);

    /// The index of the chosen candidate; `None` only if nobody is ready. Does not allocate,
    /// except where a policy says so.
    fn select(
        &mut self,
        request: Request,
        candidates: &[Candidate],
        rng: &mut dyn Rng,
    ) -> Option<usize>;
}

#[cfg(test)]
mod tests;
