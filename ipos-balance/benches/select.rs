//! What a selection costs, beside a plain search for the least.
//!
//! ```text
//! cargo bench -p ipos-balance
//! ```

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ipos_balance::{Candidate, Maglev, Policy, PolicyKind, Readiness, Request};
use rand_chacha::ChaCha8Rng;
use rand_core::SeedableRng;

fn farm(servers: u32) -> Vec<Candidate> {
    (0..servers)
        .map(|server| Candidate::new(server, 20 + server * 7919 % 31))
        .collect()
}

/// The best that can be expected of a policy that looks at everybody.
fn scan(candidates: &[Candidate]) -> Option<usize> {
    let least = candidates
        .iter()
        .enumerate()
        .min_by_key(|(_, c)| c.connections)?;
    Some(least.0)
}

fn policies(c: &mut Criterion, name: &str, change: fn(&mut Candidate)) {
    let mut group = c.benchmark_group(name);
    for servers in [3, 16, 128] {
        let mut candidates = farm(servers);
        candidates.first_mut().into_iter().for_each(change);
        let candidates = &*candidates;
        group.bench_function(BenchmarkId::new("linear scan", servers), |b| {
            b.iter(|| scan(black_box(candidates)));
        });
        for kind in PolicyKind::ALL {
            let mut policy = kind.build();
            let mut rng = ChaCha8Rng::seed_from_u64(1);
            let mut key = 0;
            group.bench_function(BenchmarkId::new(kind.name(), servers), |b| {
                b.iter(|| {
                    key += 1;
                    policy.select(Request { key }, black_box(candidates), &mut rng)
                });
            });
        }
    }
    group.finish();
}

fn select(c: &mut Criterion) {
    policies(c, "select", |_| ());
    policies(c, "select, one half ready", |candidate| {
        candidate.readiness = Readiness::new(1, 2);
    });
}

fn probabilities(c: &mut Criterion) {
    let mut group = c.benchmark_group("probabilities");
    for servers in [3, 16, 128] {
        let candidates = farm(servers);
        let mut out = vec![0.0; candidates.len()];
        for kind in PolicyKind::ALL {
            let policy = kind.build();
            group.bench_function(BenchmarkId::new(kind.name(), servers), |b| {
                b.iter(|| policy.probabilities(black_box(&candidates), &mut out));
            });
        }
    }
    group.finish();
}

/// What a change of the set costs Maglev.
fn table(c: &mut Criterion) {
    let mut group = c.benchmark_group("maglev table");
    for servers in [3, 16, 128] {
        let candidates = farm(servers);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        group.bench_function(BenchmarkId::from_parameter(servers), |b| {
            b.iter(|| Maglev::default().select(Request::default(), &candidates, &mut rng));
        });
    }
    group.finish();
}

criterion_group!(benches, select, probabilities, table);
criterion_main!(benches);
