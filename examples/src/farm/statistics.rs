//! Percentiles and departures.

use serde::Serialize;

use super::ServerOutcome;

/// So many standard deviations between share and expected share are worth a remark.
const REMARKABLE: f64 = 4.0;

/// Two percentiles by nearest rank; `None` where there was nothing to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Percentiles {
    /// The median.
    pub p50: Option<u64>,
    /// All but one in a hundred are at most this.
    pub p99: Option<u64>,
}

impl Percentiles {
    /// Those of `values`.
    pub fn of(mut values: Vec<u64>) -> Percentiles {
        values.sort_unstable();
        let rank = |percent: usize| {
            let rank = (values.len() * percent).div_ceil(100);
            values.get(rank.checked_sub(1)?).copied()
        };
        Percentiles {
            p50: rank(50),
            p99: rank(99),
        }
    }
}

/// `part / whole`, 0 of nothing.
pub(super) fn ratio(part: f64, whole: f64) -> f64 {
    if whole > 0.0 { part / whole } else { 0.0 }
}

/// A remark for each server that served remarkably more, or less, than predicted. For a
/// policy that draws by the predicted probabilities, the binomial distribution bounds the variance.
pub(super) fn departures(servers: &[ServerOutcome]) -> Vec<String> {
    let all = servers.iter().map(|server| server.served).sum::<usize>() as f64;
    let remarkable = servers.iter().filter(|server| {
        let p = server.expected_share;
        let deviation = (all * p * (1.0 - p)).max(0.0).sqrt();
        // Half a request is rounding.
        (server.served as f64 - all * p).abs() > (REMARKABLE * deviation).max(0.5)
    });
    remarkable
        .map(|server| {
            let ServerOutcome { name, share, expected_share, .. } = server;
            format!("{name} served a share of {share:.3} where {expected_share:.3} was expected: more than {REMARKABLE} standard deviations apart")
        })
        .collect()
}
