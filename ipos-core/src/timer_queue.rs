//! Deadlines of many things, the earliest first.

use alloc::collections::BTreeSet;

use crate::time::Instant;

/// An ordered set of deadlines, one at most for each key. The owner of a key keeps the deadline it has
/// here beside it, so that it can be found again.
#[derive(Debug, Default)]
pub(crate) struct TimerQueue(BTreeSet<(Instant, u32)>);

impl TimerQueue {
    /// Moves `key`'s deadline from `scheduled` to `at`.
    pub(crate) fn schedule(
        &mut self,
        key: u32,
        scheduled: &mut Option<Instant>,
        at: Option<Instant>,
    ) {
        if *scheduled == at {
            return;
        }
        if let Some(old) = scheduled.take() {
            self.0.remove(&(old, key));
        }
        if let Some(at) = at {
            self.0.insert((at, key));
            *scheduled = Some(at);
        }
    }

    /// As [`TimerQueue::schedule`], but a deadline that moves later stays where it is: its owner looks again when it
    /// comes. Spares two tree operations for each segment of a busy connection.
    pub(crate) fn schedule_lazily(
        &mut self,
        key: u32,
        scheduled: &mut Option<Instant>,
        at: Option<Instant>,
    ) {
        match (*scheduled, at) {
            (Some(old), Some(at)) if old <= at => {}
            (Some(_), None) => {}
            _ => self.schedule(key, scheduled, at),
        }
    }

    /// The earliest deadline.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Whose it is.
    pub(crate) fn first(&self) -> Option<u32> {
        self.0.first().map(|(_, key)| *key)
    }

    /// Takes a key out whose deadline has passed. Its owner forgets the deadline.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<u32> {
        if self.next()? > now {
            return None;
        }
        self.0.pop_first().map(|(_, key)| key)
    }
}
