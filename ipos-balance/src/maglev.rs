//! Consistent hashing with Maglev's table.

use alloc::vec;
use alloc::vec::Vec;
use core::num::NonZeroU16;

use rand_core::Rng;

use crate::draw::{part_at, scale};
use crate::load::{readiest, write_shares};
use crate::{Candidate, Policy, Request};

/// The same key goes to the same server, whichever server is asked, and stays there when others
/// come and go.
///
/// A table has a prime number of entries. Each server has its own order of them
/// (`offset + i · skip`), and the servers take in turn the next free entry of their order,
/// a server of half the weight in every second round (D. E. Eisenbud et al., "Maglev: A
/// Fast and Reliable Software Network Load Balancer", NSDI '16, §3.4). So every server has its exact
/// part of the keys, and when one of n servers goes, hardly more than its own 1/n of the keys move.
///
/// Tables depend on the candidates' numbers and weights alone, and are kept: eight of them, for
/// as many services; another set replaces the one that was not used for longest. Only that takes
/// time (a few milliseconds), and memory (128 kB each). Candidates in another order count as another set,
/// with the same result.
///
/// Readiness does not change a table. Of the keys of a server that is ready to `r < 1`, `r` stay
/// (always the same ones, and more when it becomes readier), the others look up another entry. Leave
/// a server in the set with [`Readiness::NONE`](crate::Readiness::NONE) to pass over it for one request.
///
/// The hash is fixed, as all servers must agree: whoever can choose keys can choose a server.
///
/// ```
/// use ipos_balance::{Candidate, Maglev, Policy, Request};
/// # use rand_core::SeedableRng;
/// # let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(0);
///
/// let mut candidates = [1, 2, 3].map(|server| Candidate::new(server, 0));
/// let (mut here, mut there) = (Maglev::default(), Maglev::default());
/// let index = here.select(Request { key: 7 }, &candidates, &mut rng).unwrap();
/// let server = candidates[index].server;
/// candidates.reverse();
/// let index = there.select(Request { key: 7 }, &candidates, &mut rng).unwrap();
/// assert_eq!(candidates[index].server, server);
/// ```
#[derive(Debug, Clone, Default)]
pub struct Maglev {
    /// The one that was used last comes first.
    tables: Vec<Table>,
}

/// Tables that are kept.
const TABLES: usize = 8;
/// Entries of a table: a prime, and "more than 100 × N" for farms of up to 650 servers.
const ENTRIES: u64 = 65_537;
/// How many entries a key looks up before it is drawn by weight: with half of the farm not
/// ready, 1 of 256 keys.
const TRIES: u64 = 8;

#[derive(Debug, Clone)]
struct Table {
    /// Numbers and weights, in the order of the candidates.
    set: Vec<(u32, NonZeroU16)>,
    /// Indexes into the set. Servers after the 65 535th of a set have no entries.
    entries: Vec<u16>,
}

impl Maglev {
    /// The table for these candidates.
    fn table(&mut self, candidates: &[Candidate]) -> Option<&Table> {
        let fits = |table: &Table| table.set.iter().copied().eq(candidates.iter().map(member));
        let at = self.tables.iter().position(fits).unwrap_or_else(|| {
            self.tables.truncate(TABLES - 1);
            self.tables.push(Table::new(candidates));
            self.tables.len() - 1
        });
        self.tables.get_mut(..=at)?.rotate_right(1);
        self.tables.first()
    }
}

impl Policy for Maglev {
    fn name(&self) -> &'static str {
        "maglev"
    }

    /// The shares of all keys, to 1/65537.
    fn probabilities(&self, candidates: &[Candidate], out: &mut [f64]) {
        write_shares(candidates, out, Candidate::capacity);
    }

    fn select(
        &mut self,
        request: Request,
        candidates: &[Candidate],
        _rng: &mut dyn Rng,
    ) -> Option<usize> {
        let readiest = readiest(candidates)?;
        let table = self.table(candidates)?;
        let mut hash = mix(request.key);
        for _ in 0..TRIES {
            let index = usize::from(*table.entries.get((hash % ENTRIES) as usize)?);
            let candidate = candidates.get(index)?;
            // Another hash than the one that has led here: all keys of an entry are not alike.
            let random = mix(hash ^ u64::from(candidate.server));
            if scale(random, readiest) < candidate.readiness.parts() {
                return Some(index);
            }
            hash = mix(hash);
        }
        let sum = candidates.iter().map(Candidate::capacity).sum();
        part_at(scale(hash, sum), candidates.iter().map(Candidate::capacity))
    }
}

impl Table {
    fn new(candidates: &[Candidate]) -> Table {
        const FREE: u16 = u16::MAX;
        let set: Vec<_> = candidates.iter().map(member).collect();
        let heaviest = set.iter().map(|(_, weight)| weight.get()).max();
        let heaviest = u32::from(heaviest.unwrap_or(1));
        let mut takers: Vec<_> = (0..FREE)
            .zip(&set)
            .map(|(index, (server, weight))| Taker::new(index, *server, *weight))
            .collect();
        takers.sort_unstable_by_key(|taker| taker.server);
        let mut entries = vec![FREE; ENTRIES as usize];
        let mut free = if takers.is_empty() { 0 } else { entries.len() };
        while free > 0 {
            // The heaviest one takes an entry in each round.
            for taker in &mut takers {
                taker.turns += taker.weight;
                if taker.turns < heaviest || free == 0 {
                    continue;
                }
                taker.turns -= heaviest;
                // The order runs through all entries, as their number is a prime: there is a free one.
                let next = taker.order().find(|at| entries.get(*at) == Some(&FREE));
                if let Some(entry) = next.and_then(|at| entries.get_mut(at)) {
                    *entry = taker.index;
                    free -= 1;
                }
            }
        }
        Table { set, entries }
    }
}

/// A server while a table is built.
struct Taker {
    index: u16,
    server: u32,
    weight: u32,
    /// Weight that it has not used yet.
    turns: u32,
    /// The next entry of its order.
    at: u64,
    skip: u64,
}

impl Taker {
    fn new(index: u16, server: u32, weight: NonZeroU16) -> Taker {
        let hash = mix(u64::from(server));
        Taker {
            index,
            server,
            weight: u32::from(weight.get()),
            turns: 0,
            at: hash % ENTRIES,
            skip: mix(hash) % (ENTRIES - 1) + 1,
        }
    }

    /// The entries from the next one on, each once.
    fn order(&mut self) -> impl Iterator<Item = usize> {
        (0..ENTRIES).map(|_| {
            let at = self.at;
            let next = at + self.skip;
            self.at = if next < ENTRIES { next } else { next - ENTRIES };
            at as usize
        })
    }
}

fn member(candidate: &Candidate) -> (u32, NonZeroU16) {
    (candidate.server, candidate.weight)
}

/// One step of SplitMix64 (Steele, Lea, Flood, "Fast Splittable Pseudorandom Number Generators",
/// OOPSLA '14): a bijection, the same on every server.
pub(crate) fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// What tests look at.
#[cfg(test)]
impl Maglev {
    pub(crate) fn entries_of_each(&mut self, candidates: &[Candidate]) -> Vec<usize> {
        let mut each = vec![0; candidates.len()];
        for index in self.table(candidates).iter().flat_map(|t| &t.entries) {
            each[usize::from(*index)] += 1;
        }
        each
    }

    pub(crate) fn kept_sets(&self) -> Vec<usize> {
        self.tables.iter().map(|table| table.set.len()).collect()
    }
}
