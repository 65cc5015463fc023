//! What every backend must do with bursts.

use super::*;
use crate::Burst;
use crate::burst::{Cut, complete};

/// Where the TCP header of a [`segment`] begins.
const TRANSPORT: usize = HEADER + 20;

/// A TCP segment with `len` bytes of data, its frame, and the sum of its pseudo header where the checksum will be.
fn segment(from: &impl Backend, to: &impl Backend, len: usize) -> Vec<u8> {
    let address = |port: &dyn Backend| port.capabilities().hardware_address;
    let length = |headers: usize| ((len + headers) as u16).to_be_bytes();
    let mut frame = [address(to), address(from)].concat();
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend(length(40));
    frame.extend([0, 0, 0x40, 0, 64, 6, 0, 0, 10, 77, 0, 11, 10, 77, 0, 1]);
    complete(&mut frame[HEADER..], 0, 10);
    frame.extend([0, 80, 0x9c, 0x40, 0xff, 0xff, 0xff, 0, 0, 0, 0, 1]);
    frame.extend([0x50, 0x19, 0x20, 0]);
    let sum = ipos_proto::Checksum::default()
        .with(&frame[26..34])
        .with(&[0, 6])
        .with(&length(20))
        .sum();
    frame.extend(sum.to_be_bytes());
    frame.extend([0, 0]);
    frame.extend((0..len).map(|i| (i * 31 + len) as u8));
    frame
}

/// Bursts leave as segments that fit the MTU, whole, in order, with right checksums, between frames that are none; a port that cuts none takes none.
pub fn bursts_are_cut<B: Bed>(bed: &B) {
    let (mut near, mut far) = both(bed);
    if !near.cuts_bursts() {
        let buffer = near.burst_buffer().expect("the queue has room");
        buffer[..60].fill(0);
        let failed = near.statistics().transmit_failed;
        near.commit_burst(60, burst(1));
        assert_eq!(near.statistics().transmit_failed, failed + 1);
        return;
    }
    // One segment, without data too; some, the last of them full or not; as many as a burst holds.
    for (len, size) in [
        (0, 1448),
        (1, 1448),
        (1448, 1448),
        (1449, 1448),
        (4000, 1000),
        (4100, 1000),
        (65_000, 1446),
    ] {
        let frames = short(&near, &far, 2);
        let whole = segment(&near, &far, len);
        queue(&mut near, &frames[0]);
        let buffer = near.burst_buffer().expect("the queue has room");
        assert!(buffer.len() >= 65_535);
        buffer[..whole.len()].copy_from_slice(&whole);
        near.commit_burst(whole.len(), burst(size));
        queue(&mut near, &frames[1]);
        near.flush().unwrap();
        let mut expected = vec![frames[0].clone()];
        let mut cut = Cut::new(&whole, burst(size)).expect("a burst");
        let mut one = vec![0; 1514];
        while let Some(len) = cut.next(&whole, &mut one) {
            expected.push(one[..len].to_vec());
        }
        expected.push(frames[1].clone());
        let got = receive(&mut far, expected.len());
        for (got, expected) in got.iter().zip(&expected) {
            // A medium may pad what is short.
            assert!(
                got.starts_with(expected) && got.len() <= expected.len().max(60),
                "{len} in {size}: {got:x?}"
            );
        }
    }
}

fn burst(segment: u16) -> Burst {
    Burst {
        transport: TRANSPORT as u16,
        segment,
    }
}

/// A burst that was not built in a buffer, is longer than it, or is none, is not sent, and counted.
pub fn a_burst_needs_a_buffer(bed: &impl Bed) {
    let (mut near, mut far) = both(bed);
    let whole = segment(&near, &far, 3000);
    let failed = near.statistics().transmit_failed;
    near.commit_burst(whole.len(), burst(1000));
    assert!(near.burst_buffer().is_some());
    near.commit_burst(usize::MAX, burst(1000));
    if near.cuts_bursts() {
        for wrong in [
            burst(0),
            Burst {
                transport: 50,
                ..burst(1000)
            },
        ] {
            let buffer = near.burst_buffer().expect("the queue has room");
            buffer[..whole.len()].copy_from_slice(&whole);
            near.commit_burst(whole.len(), wrong);
        }
    }
    let wrong = if near.cuts_bursts() { 4 } else { 2 };
    assert_eq!(near.statistics().transmit_failed, failed + wrong);
    let frames = short(&near, &far, 1);
    send(&mut near, &frames);
    assert_eq!(receive(&mut far, 1), frames);
}
