//! A client's local ports.

use std::collections::VecDeque;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipos_core::Instant;

/// The ports that a client connects from.
pub(crate) const RANGE: RangeInclusive<u16> = 1024..=65535;
/// How long a port rests after its connection: 2 MSL, no less than the servers' TIME-WAIT.
pub(crate) const TWO_MSL: Duration = Duration::from_secs(120);

/// Gives a new port for every connection. A port is used again only when no other is left and
/// it has rested.
pub(crate) struct Ports {
    fresh: RangeInclusive<u16>,
    rest: Duration,
    /// In the order in which they come free.
    resting: VecDeque<(Instant, u16)>,
}

impl Ports {
    /// Ports of `range`, each of which rests for so long after a connection.
    pub(crate) fn new(range: RangeInclusive<u16>, rest: Duration) -> Ports {
        Ports {
            fresh: range,
            rest,
            resting: VecDeque::new(),
        }
    }

    /// A port, or when there may be one (`None`: not before one is released).
    pub(crate) fn take(&mut self, now: Instant) -> Result<u16, Option<Instant>> {
        if let Some(port) = self.fresh.next() {
            return Ok(port);
        }
        match self.resting.front() {
            Some(&(free, port)) if free <= now => {
                self.resting.pop_front();
                Ok(port)
            }
            rests => Err(rests.map(|(free, _)| *free)),
        }
    }

    /// The connection from `port` is over.
    pub(crate) fn release(&mut self, now: Instant, port: u16) {
        self.resting.push_back((now + self.rest, port));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ports_are_new_until_they_have_rested() {
        let mut ports = Ports::new(RANGE, TWO_MSL);
        let now = Instant::from_millis(5);
        let all: BTreeSet<u16> = RANGE.map(|_| ports.take(now).unwrap()).collect();
        assert_eq!(all.len(), RANGE.len());
        assert_eq!(ports.take(now), Err(None));
        ports.release(now, 2000);
        assert_eq!(ports.take(now), Err(Some(now + TWO_MSL)));
        assert_eq!(ports.take(now + TWO_MSL), Ok(2000));
        assert_eq!(ports.take(now + TWO_MSL), Err(None));
    }
}
