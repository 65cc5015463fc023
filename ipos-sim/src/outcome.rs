//! What came of a run.

use std::fmt;
use std::time::Duration;

/// What came of a run, so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// Exchanges that clients have finished, right or wrong.
    pub requests: u64,
    /// Exchanges that went wrong.
    pub errors: u64,
    /// From the beginning of an exchange (for the first one on a connection: of the connection) to the last byte
    /// of the response; of those that went right.
    pub latency: Quantiles,
    /// From the first 0x01 to the 0x03.
    pub migration: Quantiles,
    /// Times that a server transmitted on a connection that was not its own.
    pub violations: u64,
    /// Every server.
    pub servers: Vec<ServerOutcome>,
}

/// What one server did, over all its lives.
#[derive(Clone, Debug, PartialEq)]
pub struct ServerOutcome {
    /// Its name.
    pub name: String,
    /// Exchanges that clients say it has answered right.
    pub served: u64,
    /// Connections bound to its application that were not migrated.
    pub local: u64,
    /// Connections migrated to another server.
    pub migrated_out: u64,
    /// Connections migrated to it.
    pub migrated_in: u64,
    /// Those migrated to another server after they were bound to its application.
    pub moved: u64,
    /// Those migrated to it that had begun here.
    pub came_home: u64,
    /// Its part of all selections, by all devices.
    pub share: f64,
    /// The part that the policies' probabilities predict.
    pub expected_share: f64,
    /// Selections by all devices, which the shares are parts of.
    pub selections: u64,
}

/// Median and 99th percentile (nearest rank); zero if there are no values.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Quantiles {
    /// Median.
    pub p50: Duration,
    /// 99th percentile.
    pub p99: Duration,
}

impl Quantiles {
    /// Of these values.
    pub fn of(mut values: Vec<Duration>) -> Quantiles {
        values.sort_unstable();
        let rank = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100).saturating_sub(1);
            values.get(rank).copied().unwrap_or_default()
        };
        Quantiles {
            p50: rank(50),
            p99: rank(99),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Outcome {
            requests,
            errors,
            latency,
            migration,
            violations,
            servers,
        } = self;
        writeln!(
            f,
            "{requests} requests, {errors} errors, {violations} violations"
        )?;
        writeln!(f, "latency p50 {:?} p99 {:?}", latency.p50, latency.p99)?;
        writeln!(
            f,
            "migration p50 {:?} p99 {:?}",
            migration.p50, migration.p99
        )?;
        for server in servers {
            let ServerOutcome {
                name,
                served,
                local,
                migrated_out,
                migrated_in,
                share,
                expected_share,
                ..
            } = server;
            writeln!(
                f,
                "{name}: served {served}, local {local}, migrated out {migrated_out}, in {migrated_in}, \
                 share {share:.3} of expected {expected_share:.3}"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_by_nearest_rank() {
        let ms = Duration::from_millis;
        assert_eq!(
            Quantiles::of((1..=200).rev().map(ms).collect()),
            Quantiles {
                p50: ms(100),
                p99: ms(198)
            }
        );
        assert_eq!(
            Quantiles::of(vec![ms(7)]),
            Quantiles {
                p50: ms(7),
                p99: ms(7)
            }
        );
        assert_eq!(Quantiles::of(Vec::new()), Quantiles::default());
    }
}
