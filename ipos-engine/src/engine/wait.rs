//! Waiting for something to do.

use std::time::Duration;

use mio::Token;

use super::{Engine, HOUSEKEEPING, WAKER};
use crate::clock;
use crate::error::EngineError;

/// How long to wait before a full transmit queue, or a backend without a descriptor, is tried again.
pub(super) const RETRY: Duration = Duration::from_millis(1);

impl Engine {
    /// Sleeps, unless work is left, until a descriptor is ready or a deadline has come. The operating
    /// system waits whole milliseconds: a deadline may be up to one late.
    pub(super) fn wait(&mut self, limit: Option<Duration>) -> Result<(), EngineError> {
        let lingers = self.lingers();
        let timeout = if lingers || self.has_work() {
            Some(Duration::ZERO)
        } else {
            self.sleep(limit)
        };
        match self.poll.poll(&mut self.events, timeout) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => {
                return Err(EngineError::Poll(error));
            }
            _ => {}
        }
        for port in &mut self.ports {
            // A driver that works within this process's calls only has frames when it is asked for them.
            port.ready |= port.polled || lingers;
        }
        for event in &self.events {
            match event.token() {
                WAKER => {}
                Token(token) => match self.ports.get_mut(token) {
                    Some(port) => port.ready = true,
                    None if self.health.handle_ready(event.token()) => {}
                    None if self.datagrams.handle_ready(event.token()) => {}
                    None => self.host.handle_ready(event),
                },
            }
        }
        Ok(())
    }

    /// Whether something may come too soon for a sleep.
    fn lingers(&mut self) -> bool {
        if self.linger.is_zero() {
            return false;
        }
        let now = clock::now();
        if !self.events.is_empty() || self.has_work() {
            self.worked = now;
        }
        now.saturating_since(self.worked) < self.linger
    }

    fn has_work(&self) -> bool {
        self.more
            || self.host.has_work()
            || self.sockets.has_work()
            || self.datagrams.has_work()
            || self.ports.iter().any(|port| port.ready)
    }

    /// The time to the next deadline.
    fn sleep(&self, limit: Option<Duration>) -> Option<Duration> {
        let now = clock::now();
        let deadlines = [
            self.device.poll_timeout(),
            self.health.deadline(),
            self.host.deadline(),
            self.sockets.deadline(),
        ];
        let deadline = deadlines.into_iter().flatten().min();
        let deadline = deadline.map(|deadline| deadline.saturating_since(now));
        let retry = self
            .ports
            .iter()
            .any(|port| port.polled || port.blocked)
            .then_some(RETRY);
        let housekeeping = (self.host.len() + self.sockets.len() > 0)
            .then(|| (self.housekeeping + HOUSEKEEPING).saturating_since(now));
        [limit, deadline, retry, housekeeping]
            .into_iter()
            .flatten()
            .min()
    }
}
