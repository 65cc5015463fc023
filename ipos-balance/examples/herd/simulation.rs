//! Servers that choose by each other's adverts. `tests/herd.rs` uses it too.

use std::time::Duration;

use ipos_balance::{Candidate, Policy, PolicyKind, Readiness, Request, SlowStart};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Servers of the farm.
const SERVERS: usize = 8;
/// From one advert of a server to its next one.
const INTERVAL: Duration = Duration::from_millis(100);
/// Requests of a burst.
pub const REQUESTS: u32 = 2000;
/// From the first request to the last.
pub const LENGTH: Duration = Duration::from_millis(500);
/// Connections of each server before the burst.
const BEFORE: u32 = 100;

/// What a server knows of the others between two adverts.
#[derive(Clone, Copy)]
pub enum Counting {
    /// What they have told.
    Adverts,
    /// That, and what it has handed over to them since.
    OwnHandOvers,
}

/// What the burst meets.
#[derive(Clone, Copy)]
pub enum Burst {
    /// All servers have as many connections.
    Even,
    /// One has just come back: it has none.
    Back,
    /// The same, with slow start.
    SlowStart,
}

impl Burst {
    /// One burst.
    pub fn run(self, kind: PolicyKind, counting: Counting, seed: u64) -> Outcome {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut connections = [BEFORE; SERVERS];
        if !matches!(self, Self::Even) {
            connections[0] = 0;
        }
        let mut views: Vec<_> = (0..SERVERS)
            .map(|me| View::new(me, kind, connections))
            .collect();
        let (mut adverts, mut peak) = (0, 0.0_f64);
        let mut before = connections;
        for request in 0..REQUESTS {
            let now = LENGTH * request / REQUESTS;
            // The servers' adverts come one after the other, evenly within the interval.
            while INTERVAL * adverts / SERVERS as u32 <= now {
                let teller = adverts as usize % SERVERS;
                if teller == 0 && adverts > 0 {
                    let taken: Vec<_> =
                        before.iter().zip(connections).map(|(b, c)| c - b).collect();
                    peak = peak.max(uneven(&taken));
                    before = connections;
                }
                views.iter_mut().for_each(|view| {
                    view.hear(teller, connections[teller]);
                });
                adverts += 1;
            }
            let readiness = match self {
                Self::SlowStart => SlowStart::default().readiness(now),
                Self::Even | Self::Back => Readiness::FULL,
            };
            let reached = (rng.next_u64() % SERVERS as u64) as usize;
            let view = &mut views[reached];
            let chosen = view.choose(connections[reached], readiness, counting, &mut rng);
            connections[chosen] += 1;
        }
        let spread = uneven(&connections);
        Outcome { spread, peak }
    }
}

/// How uneven a burst was, as the most of one server divided by the mean of all: from 1, evenly, to 8,
/// everything at one server.
#[derive(Clone, Copy)]
pub struct Outcome {
    /// Connections after the burst.
    pub spread: f64,
    /// Requests taken from one advert of the first server to its next one, where that was most uneven.
    pub peak: f64,
}

fn uneven(counts: &[u32]) -> f64 {
    let most = counts.iter().max().copied().unwrap_or(0);
    f64::from(most) * counts.len() as f64 / f64::from(counts.iter().sum::<u32>())
}

/// The farm as one server sees it.
struct View {
    me: usize,
    policy: Box<dyn Policy>,
    told: [u32; SERVERS],
    /// Handed over since then.
    sent: [u32; SERVERS],
}

impl View {
    fn new(me: usize, kind: PolicyKind, told: [u32; SERVERS]) -> View {
        View {
            me,
            policy: kind.build(),
            told,
            sent: [0; SERVERS],
        }
    }

    fn hear(&mut self, teller: usize, connections: u32) {
        self.told[teller] = connections;
        self.sent[teller] = 0;
    }

    /// `mine`: it knows its own connections as they are; `readiness`: that of the first server.
    fn choose(
        &mut self,
        mine: u32,
        readiness: Readiness,
        counting: Counting,
        rng: &mut ChaCha8Rng,
    ) -> usize {
        let candidates: Vec<_> = (0..SERVERS)
            .map(|server| Candidate {
                readiness: if server == 0 {
                    readiness
                } else {
                    Readiness::FULL
                },
                ..Candidate::new(
                    server as u32,
                    match counting {
                        _ if server == self.me => mine,
                        Counting::Adverts => self.told[server],
                        Counting::OwnHandOvers => self.told[server] + self.sent[server],
                    },
                )
            })
            .collect();
        let key = rng.next_u64();
        let chosen = self.policy.select(Request { key }, &candidates, rng);
        let chosen = chosen.expect("everybody is ready, if only a little");
        self.sent[chosen] += 1;
        chosen
    }
}
