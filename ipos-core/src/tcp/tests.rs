//! The endpoint as the sender of a download: against scripts, and over a path that loses and reorders.

mod burst;
mod path;
mod sender;

use path::{Path, download};

use crate::time::Duration;

/// A short path, whose client acknowledges what comes together with one segment.
const LAN: Path = Path {
    loss: 0.0,
    reorder: 0.0,
    delay: Duration::from_micros(100),
    hold: Duration::from_micros(500),
    spacing: Duration::from_micros(6),
    stretch: Duration::from_micros(30),
    seed: 0,
};
const BYTES: u64 = 20_000_000;

/// MB/s, and stalls, of a number of downloads.
fn downloads(path: Path) -> (f64, u32) {
    let (mut took, mut stalls) = (Duration::ZERO, 0);
    let seeds = 1..=8;
    let bytes = BYTES as f64 * seeds.clone().count() as f64;
    for seed in seeds {
        let download = download(Path { seed, ..path }, BYTES);
        took += download.took;
        stalls += download.stalls;
    }
    (bytes / took.as_secs_f64() / 1e6, stalls)
}

#[test]
fn reordering_alone_hardly_slows_a_download() {
    let path = Path {
        reorder: 0.01,
        stretch: Duration::ZERO,
        ..LAN
    };
    let (rate, stalls) = downloads(path);
    let (whole, _) = downloads(Path {
        reorder: 0.0,
        ..path
    });
    assert!(
        rate > whole * 0.8 && stalls == 0,
        "{rate} of {whole}, {stalls}"
    );
}

#[test]
fn a_lost_acknowledgment_is_not_waited_for() {
    let (rate, stalls) = downloads(Path { loss: 0.01, ..LAN });
    assert!(rate > 25.0 && stalls <= 16, "{rate}, {stalls}");
}

#[test]
fn loss_and_reordering_together_leave_a_goodput() {
    for (probability, least, most) in [(0.01, 35.0, 10), (0.03, 10.0, 40), (0.05, 4.0, 160)] {
        let path = Path {
            loss: probability,
            reorder: probability,
            ..LAN
        };
        let (rate, stalls) = downloads(path);
        assert!(
            rate > least && stalls <= most,
            "{probability}: {rate}, {stalls}"
        );
    }
}
