//! Draining: how far it has come, and its end.

use std::time::Duration;

use ipos_core::{Device, Instant};

/// A drain that has begun.
pub(crate) struct Drain {
    since: Instant,
    /// What is left then is reset.
    pub(crate) deadline: Option<Instant>,
    /// Connections at its begin.
    connections: u32,
    /// [`Counters::migrated_out`](ipos_core::Counters) at its begin.
    migrated_out: u64,
    /// Connections that were left when the log was last told.
    told: u32,
    /// When no connection was left for the first time.
    ended: Option<Instant>,
    /// What was left at the deadline was reset.
    over: bool,
}

/// How far draining has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DrainStatus {
    /// How long it has been under way, or took.
    pub elapsed: Duration,
    /// Connections that were served here when it began.
    pub began_with: u32,
    /// Connections that have moved to other servers since.
    pub moved: u64,
    /// Connections that are served here now. At 0 the server is drained.
    pub left: u32,
    /// Connections that other servers serve and whose packets come through here: their clients know no other address. While
    /// there are any, the device is not to be ended.
    pub forwarded: usize,
    /// How long those that are left may stay; `None`: as long as they like.
    pub deadline: Option<Duration>,
}

impl Drain {
    /// The device begins to drain.
    pub(crate) fn begin(device: &Device, now: Instant, deadline: Option<Instant>) -> Drain {
        let connections = device.connections();
        tracing::info!(connections, "draining begins");
        Drain {
            since: now,
            deadline,
            connections,
            migrated_out: device.counters().migrated_out,
            told: connections,
            ended: None,
            over: false,
        }
    }

    pub(crate) fn status(&self, device: &Device, now: Instant) -> DrainStatus {
        let moved = device.counters().migrated_out;
        let left = device.connections();
        let end = self.ended.filter(|_| left == 0).unwrap_or(now);
        DrainStatus {
            elapsed: end.saturating_since(self.since),
            began_with: self.connections,
            moved: moved.saturating_sub(self.migrated_out),
            left,
            forwarded: device.forwarded(),
            deadline: (self.deadline).map(|deadline| deadline.saturating_since(now)),
        }
    }

    /// Tells the log; whether what is left shall be reset now.
    pub(crate) fn look(&mut self, device: &Device, now: Instant) -> bool {
        let DrainStatus {
            elapsed,
            moved,
            left,
            forwarded,
            ..
        } = self.status(device, now);
        if left == 0 && self.ended.is_none() {
            tracing::info!(
                moved,
                forwarded,
                ?elapsed,
                "drained: nothing is served here"
            );
        } else if left != self.told {
            tracing::info!(left, moved, forwarded, "draining");
        }
        if left == 0 {
            self.ended.get_or_insert(now);
        }
        self.told = left;
        let over = self.deadline.is_some_and(|deadline| deadline <= now);
        let overdue = over && left > 0;
        if overdue && !std::mem::replace(&mut self.over, true) {
            tracing::warn!(
                left,
                "the drain's deadline has passed: what is left is reset"
            );
        }
        overdue
    }
}
