use ipos_proto::internet_checksum;
use proptest::prelude::*;

use super::*;

/// A frame with `data` as one TCP segment, FIN and PSH set, and options of `options` times 4 bytes.
fn burst(data: &[u8], options: usize, segment: u16) -> (Vec<u8>, Burst) {
    let header = 20 + options * 4;
    let total = 20 + header + data.len();
    let mut frame = vec![2; 12];
    frame.extend([8, 0, 0x45, 0]);
    frame.extend((total as u16).to_be_bytes());
    frame.extend([0xff, 0xff, 0x40, 0, 64, TCP, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2]);
    frame.extend([0, 80, 0x9c, 0x40, 0xff, 0xff, 0xff, 0x00, 1, 2, 3, 4]);
    frame.extend([(header as u8 / 4) << 4, 0x19, 0x20, 0, 0, 0, 0, 0]);
    frame.extend(vec![1; options * 4]);
    frame.extend(data);
    let transport = 34;
    (frame, Burst { transport, segment })
}

/// The TCP checksum verifies, as does the header's.
fn verifies(frame: &[u8]) -> bool {
    let length = (frame.len() - 34) as u16;
    let pseudo = [&frame[26..34], &[0, TCP], &length.to_be_bytes()].concat();
    internet_checksum(&frame[14..34]) == 0
        && internet_checksum(&[&pseudo[..], &frame[34..]].concat()) == 0
}

proptest! {
    /// The segments are the burst: its bytes in order, numbers that go on, right checksums, FIN and PSH at the end.
    #[test]
    fn segments_are_the_burst(data in proptest::collection::vec(any::<u8>(), 0..5000), options in 0usize..=10, segment in 1u16..2000) {
        let (frame, burst) = burst(&data, options, segment);
        let headers = 54 + options * 4;
        let mut cut = Cut::new(&frame, burst).unwrap();
        let (mut got, mut count, mut out) = (Vec::<u8>::new(), 0u16, vec![0; 5200]);
        while let Some(len) = cut.next(&frame, &mut out) {
            let one = &out[..len];
            prop_assert!(verifies(one));
            prop_assert_eq!(&one[..16], &frame[..16]);
            prop_assert_eq!(u16::from_be_bytes([one[18], one[19]]), 0xffffu16.wrapping_add(count));
            let seq = u32::from_be_bytes([one[38], one[39], one[40], one[41]]);
            prop_assert_eq!(seq, 0xffff_ff00u32.wrapping_add(got.len() as u32));
            prop_assert!(len - headers <= usize::from(segment));
            got.extend(&one[headers..]);
            count += 1;
            let ends = got.len() == data.len();
            prop_assert_eq!(one[47], if ends { 0x19 } else { 0x10 });
            prop_assert!(ends || len - headers == usize::from(segment));
        }
        prop_assert_eq!(got, data.clone());
        prop_assert_eq!(usize::from(count), data.len().div_ceil(segment.into()).max(1));
    }

    #[test]
    fn any_bytes_are_cut_or_not(mut frame in proptest::collection::vec(any::<u8>(), 0..200), like in any::<bool>(), transport: u16, segment: u16) {
        if like {
            for (byte, &ours) in frame.iter_mut().zip(&burst(&[], 0, 1).0[..16]) {
                *byte = ours;
            }
        }
        let transport = if like { 34 } else { transport };
        let mut out = [0; 200];
        if let Some(mut cut) = Cut::new(&frame, Burst { transport, segment }) {
            while cut.next(&frame, &mut out).is_some() {}
        }
        complete(&mut frame, transport.into(), segment.into());
    }

    /// A sum of the pseudo header in the checksum's place is completed to the checksum of all.
    #[test]
    fn a_checksum_is_completed(data in proptest::collection::vec(any::<u8>(), 0..3000)) {
        let (mut frame, _) = burst(&data, 0, 1);
        let length = (frame.len() - 34) as u16;
        let sum = Checksum::default().with(&frame[26..34]).with(&[0, TCP]).with(&length.to_be_bytes()).sum();
        frame[50..52].copy_from_slice(&sum.to_be_bytes());
        let header = internet_checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&header.to_be_bytes());
        prop_assert!(complete(&mut frame, 34, CHECKSUM));
        prop_assert!(verifies(&frame));
    }
}

#[test]
fn what_is_no_tcp_packet_is_not_cut() {
    let (frame, burst) = burst(&[7; 100], 0, 10);
    assert!(Cut::new(&frame, burst).is_some());
    // EtherType, version, header length, total length, protocol, TCP's header length.
    for (at, wrong) in [
        (13, 6),
        (14, 0x65),
        (14, 0x44),
        (16, 0x40),
        (23, 17),
        (46, 0x40),
    ] {
        let mut frame = frame.clone();
        frame[at] = wrong;
        assert!(Cut::new(&frame, burst).is_none(), "{at}");
    }
    for burst in [
        Burst {
            segment: 0,
            ..burst
        },
        Burst {
            transport: 38,
            ..burst
        },
    ] {
        assert!(Cut::new(&frame, burst).is_none(), "{burst:?}");
    }
    assert!(Cut::new(&frame[..100], burst).is_none());
}
