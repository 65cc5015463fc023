//! What can be left out of a campaign.

use std::fmt;
use std::str::FromStr;

/// A kind of thing that happens to farms, to leave it out of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Frames that are lost.
    Loss,
    /// Frames that come twice.
    Duplication,
    /// Frames that are overtaken.
    Reordering,
    /// Bits that are inverted.
    Corruption,
    /// Machines that do not hear each other.
    Partition,
    /// Servers that crash.
    Crash,
    /// Servers that drain.
    Drain,
    /// Bound connections that are told to move.
    Move,
    /// Requests that are selected for one by one.
    PerRequest,
    /// Clients that send datagrams.
    Udp,
    /// Clients that use a port again soon after a connection from it.
    Reuse,
    /// Servers that say goodbye before they stop.
    Leave,
    /// Servers that do not hear each other for longer than they wait for each other.
    LongPartition,
    /// Tables with a few places.
    SmallLimits,
    /// Farms with a key.
    FarmKey,
    /// Clients that use a port with several servers at once.
    SharedPorts,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 16] = [
        Kind::Loss,
        Kind::Duplication,
        Kind::Reordering,
        Kind::Corruption,
        Kind::Partition,
        Kind::Crash,
        Kind::Drain,
        Kind::Move,
        Kind::PerRequest,
        Kind::Udp,
        Kind::Reuse,
        Kind::Leave,
        Kind::LongPartition,
        Kind::SmallLimits,
        Kind::FarmKey,
        Kind::SharedPorts,
    ];

    /// The kind's name.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Loss => "loss",
            Kind::Duplication => "duplication",
            Kind::Reordering => "reordering",
            Kind::Corruption => "corruption",
            Kind::Partition => "partition",
            Kind::Crash => "crash",
            Kind::Drain => "drain",
            Kind::Move => "move",
            Kind::PerRequest => "per-request",
            Kind::Udp => "udp",
            Kind::Reuse => "reuse",
            Kind::Leave => "leave",
            Kind::LongPartition => "long-partition",
            Kind::SmallLimits => "small-limits",
            Kind::FarmKey => "farm-key",
            Kind::SharedPorts => "shared-ports",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// There is no kind of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing is called \"{name}\": choose among {}", Kind::ALL.map(Kind::name).join(", "))]
pub struct UnknownKind {
    /// The name that was given.
    pub name: String,
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Kind, UnknownKind> {
        let known = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| UnknownKind { name: name.into() })
    }
}
