//! Policies by name.

use alloc::boxed::Box;
use alloc::string::String;
use core::fmt;
use core::str::FromStr;

use crate::{
    InverseConnections, LeastConnections, Maglev, Policy, RoundRobin, TwoChoices, Weighted,
};

/// A policy that a configuration can name.
///
/// ```
/// use ipos_balance::PolicyKind;
///
/// assert_eq!("round-robin".parse(), Ok(PolicyKind::RoundRobin));
/// assert_eq!(PolicyKind::default().to_string(), "inverse-connections");
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
#[non_exhaustive]
pub enum PolicyKind {
    /// [`InverseConnections`].
    #[default]
    InverseConnections,
    /// [`RoundRobin`].
    RoundRobin,
    /// [`LeastConnections`].
    LeastConnections,
    /// [`TwoChoices`].
    TwoChoices,
    /// [`Weighted`].
    Weighted,
    /// [`Maglev`].
    Maglev,
}

impl PolicyKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::InverseConnections,
        Self::RoundRobin,
        Self::LeastConnections,
        Self::TwoChoices,
        Self::Weighted,
        Self::Maglev,
    ];

    /// The name in a configuration.
    pub const fn name(self) -> &'static str {
        match self {
            Self::InverseConnections => "inverse-connections",
            Self::RoundRobin => "round-robin",
            Self::LeastConnections => "least-connections",
            Self::TwoChoices => "p2c",
            Self::Weighted => "weighted",
            Self::Maglev => "maglev",
        }
    }

    /// A new policy of this kind.
    pub fn build(self) -> Box<dyn Policy> {
        match self {
            Self::InverseConnections => Box::new(InverseConnections),
            Self::RoundRobin => Box::new(RoundRobin::default()),
            Self::LeastConnections => Box::new(LeastConnections),
            Self::TwoChoices => Box::new(TwoChoices),
            Self::Weighted => Box::new(Weighted::default()),
            Self::Maglev => Box::new(Maglev::default()),
        }
    }
}

impl fmt::Display for PolicyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for PolicyKind {
    type Err = UnknownPolicy;

    fn from_str(name: &str) -> Result<Self, UnknownPolicy> {
        let known = Self::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| UnknownPolicy { name: name.into() })
    }
}

/// There is no policy of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "policy \"{name}\" is not available: choose \"inverse-connections\", \"round-robin\", \
     \"least-connections\", \"p2c\", \"weighted\" or \"maglev\""
)]
pub struct UnknownPolicy {
    /// The name that was given.
    pub name: String,
}
