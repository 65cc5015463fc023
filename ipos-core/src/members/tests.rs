use ipos_proto::synch::{SynchFlags, SynchKind};

use super::*;

/// Whether trailers of these numbers count, in this order.
fn taken<const N: usize>(signed: bool, numbers: [u32; N]) -> [bool; N] {
    let mut counter = Counter::default();
    numbers.map(|number| counter.take(number, signed))
}

/// Late ones count within the window, each once.
#[test]
fn a_window_of_128() {
    for signed in [false, true] {
        let numbers = [200, 73, 72, 73, 200, 201, 73, 74, 74];
        let counts = [true, true, false, false, false, true, false, true, false];
        assert_eq!(taken(signed, numbers), counts);
    }
}

/// What is far ahead counts at once where a tag vouches for it. Old ones that agree with each other do not count again: without a
/// key they may be of a server whose one number was broken.
#[test]
fn far_numbers() {
    let numbers = [1, 200_000, 1, 2, 200_001];
    assert_eq!(taken(true, numbers), [true, true, false, false, true]);
    let numbers = [200_000, 1, 2];
    assert_eq!(taken(false, numbers), [true, false, true]);
}

/// The number runs over after 2^32 frames.
#[test]
fn numbers_run_over() {
    for signed in [false, true] {
        let numbers = [u32::MAX - 1, 1, u32::MAX, u32::MAX, 0];
        assert_eq!(taken(signed, numbers), [true, true, true, false, true]);
    }
}

/// So do those of reports; and what was said last by a server that is forgotten meanwhile counts on.
#[test]
fn reports_run_over() {
    const SYNCH: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 11);
    let report = |kind, sequence| SynchHeader {
        kind,
        flags: SynchFlags::empty(),
        incarnation: 1,
        sequence,
        part: 0,
        parts: 1,
        records_len: 0,
    };
    let mut members = Members::new(2);
    let member = members.add(Instant::ZERO, SYNCH, 1).unwrap();
    let mut takes = |kind, sequence| member.take_sequence(&report(kind, sequence));
    for sequence in [3_000_000_000, u32::MAX, 0, 1] {
        assert!(takes(SynchKind::High, sequence), "{sequence}");
        assert!(!takes(SynchKind::High, sequence), "{sequence}");
    }
    assert!(!takes(SynchKind::High, u32::MAX));
    assert!(takes(SynchKind::Medium, 2), "each priority has its own");
    assert!(!takes(SynchKind::Leave, 2) && takes(SynchKind::Leave, 3));
}
