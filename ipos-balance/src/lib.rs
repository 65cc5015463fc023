//! How ipOS chooses the server that gets a client's request (FIG. 7, equations 1 and 2).
//!
//! ```text
//!   candidates ──►  Policy::select  ──►  one of them
//!   (live, not draining,   ▲
//!    the right service)    └── randomness, passed in
//! ```
//!
//! Cookies, maps and the activity threshold come before a policy; whoever asks it gives only
//! servers that may be chosen. A policy reads no clock and no global generator: the same calls
//! with the same seed choose the same servers.
//!
//! ```
//! use ipos_balance::{Candidate, PolicyKind};
//! use rand_chacha::ChaCha8Rng;
//! use rand_core::SeedableRng;
//!
//! // FIG. 7: three servers with 27, 30 and 33 connections.
//! let candidates = [(1, 27), (2, 30), (3, 33)]
//!     .map(|(server, connections)| Candidate { server, connections, weight: 1 });
//!
//! let mut policy = "inverse-connections".parse::<PolicyKind>()?.build();
//! let mut shares = [0.0; 3];
//! policy.probabilities(&candidates, &mut shares);
//! assert_eq!(shares.map(|p| (p * 100.0).round()), [37.0, 33.0, 30.0]);
//!
//! let mut rng = ChaCha8Rng::seed_from_u64(42);
//! let chosen = policy.select(&candidates, &mut rng);
//! assert!(chosen.is_some_and(|index| index < candidates.len()));
//! assert_eq!(policy.select(&[], &mut rng), None);
//! # Ok::<(), ipos_balance::UnknownPolicy>(())
//! ```

#![no_std]
#![forbid(unsafe_code)]

extern crate alloc;

mod inverse;
mod kind;
mod round_robin;

use rand_core::Rng;

pub use inverse::InverseConnections;
pub use kind::{PolicyKind, UnknownPolicy};
pub use round_robin::RoundRobin;

/// A server that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Candidate {
    /// The caller's own number for the server; candidates of one call have different ones.
    pub server: u32,
    /// Connections that the server has: its last advert, and what was sent to it since.
    pub connections: u32,
    /// Capacity of the server relative to the others. Neither [`InverseConnections`] nor
    /// [`RoundRobin`] looks at it.
    pub weight: u32,
}

/// A way to choose among candidates.
///
/// ```
/// use ipos_balance::{Candidate, Policy};
/// use rand_core::Rng;
///
/// /// Always the first.
/// struct First;
///
/// impl Policy for First {
///     fn name(&self) -> &'static str {
///         "first"
///     }
///
///     fn probabilities(&self, candidates: &[Candidate], out: &mut [f64]) {
///         for (index, (_, p)) in candidates.iter().zip(out).enumerate() {
///             *p = if index == 0 { 1.0 } else { 0.0 };
///         }
///     }
///
///     fn select(&mut self, candidates: &[Candidate], _rng: &mut dyn Rng) -> Option<usize> {
///         (!candidates.is_empty()).then_some(0)
///     }
/// }
/// # let _: Box<dyn Policy> = Box::new(First);
/// ```
pub trait Policy: Send {
    /// The name that selects the policy in a configuration.
    fn name(&self) -> &'static str;

    /// The probability of each candidate, or its share of many choices, written to the same
    /// place of `out`; they sum to 1 unless there are no candidates. `out` is as long as
    /// `candidates`: places beyond the shorter of the two are not touched.
    fn probabilities(&self, candidates: &[Candidate], out: &mut [f64]);

    /// The index of the chosen candidate; `None` only if there are none. Does not allocate.
    fn select(&mut self, candidates: &[Candidate], rng: &mut dyn Rng) -> Option<usize>;

    /// The server that was chosen last did not take the connection.
    fn refused(&mut self, server: u32) {
        let _ = server;
    }
}

#[cfg(test)]
mod tests;
