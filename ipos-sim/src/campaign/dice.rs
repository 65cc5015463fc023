//! What a farm, or a case of a test, is drawn with.

use std::ops::RangeInclusive;
use std::time::Duration;

use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::client::ClientTcp;

/// Draws of one case: the same number, the same draws.
#[derive(Clone, Debug)]
pub struct Dice(ChaCha8Rng);

impl Dice {
    /// Stream `stream` of case `case`: streams do not disturb each other.
    pub fn new(case: u64, stream: u64) -> Dice {
        let mut rng = ChaCha8Rng::seed_from_u64(case);
        rng.set_stream(stream);
        Dice(rng)
    }

    /// Any number.
    pub fn number(&mut self) -> u64 {
        self.0.next_u64()
    }

    /// Uniform in `range`.
    pub fn uniform(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (least, most) = range.into_inner();
        let places = u128::from(most.saturating_sub(least)) + 1;
        least + ((u128::from(self.0.next_u64()) * places) >> 64) as u64
    }

    /// Uniform in magnitude: as often between 10 and 100 as between 1000 and 10 000.
    pub fn magnitude(&mut self, range: RangeInclusive<u64>) -> u64 {
        let (least, most) = (
            (*range.start() as f64 + 1.0).ln(),
            (*range.end() as f64 + 1.0).ln(),
        );
        let drawn = (least + self.unit() * (most - least)).exp() - 1.0;
        (drawn.round() as u64).clamp(*range.start(), *range.end().max(range.start()))
    }

    /// True in `percent` of a hundred draws.
    pub fn chance(&mut self, percent: u64) -> bool {
        self.uniform(0..=99) < percent
    }

    /// One of these.
    pub fn one_of<T: Copy, const N: usize>(&mut self, choices: &[T; N]) -> T {
        const { assert!(N > 0) };
        choices[self.uniform(0..=N as u64 - 1) as usize]
    }

    /// One of these, in milliseconds.
    pub fn millis<const N: usize>(&mut self, choices: &[u64; N]) -> Duration {
        Duration::from_millis(self.one_of(choices))
    }

    /// As often between 10 and 100 µs as between 1 and 10 ms.
    pub fn micros(&mut self, range: RangeInclusive<u64>) -> Duration {
        Duration::from_micros(self.magnitude(range))
    }

    /// How a client's TCP behaves.
    pub fn client_tcp(&mut self) -> ClientTcp {
        ClientTcp {
            timestamps: self.chance(50),
            window_scale: self.chance(80),
            sack: self.chance(70),
            mss: self.chance(90),
            nagle: self.chance(60),
            ack_delay: self.chance(80).then(|| self.millis(&[10, 40, 200])),
            congestion_control: self.chance(70),
            time_wait: None,
        }
    }

    /// An index below `count`; 0 for none.
    pub fn below(&mut self, count: usize) -> usize {
        self.uniform(0..=(count as u64).saturating_sub(1)) as usize
    }

    /// A probability up to `most`.
    pub fn probability(&mut self, most: f64) -> f64 {
        self.unit() * most
    }

    /// Uniform up to `most`.
    pub fn time(&mut self, most: Duration) -> Duration {
        Duration::from_micros(self.uniform(0..=most.as_micros() as u64))
    }

    fn unit(&mut self) -> f64 {
        self.uniform(0..=(1 << 53) - 1) as f64 / (1u64 << 53) as f64
    }
}
