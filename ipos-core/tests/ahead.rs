//! Looking ahead over bursts: it changes nothing but the time that a burst takes.

mod common;

use common::{CLIENT, CLIENT_MAC, Farm, arp_frame, config, mac, port_a};
use etherparse::{ArpOperation, PacketBuilder};
use ipos_core::{Device, Instant, Port};
use ipos_proto::MacAddr;
use proptest::prelude::*;

/// As many flows as make looking ahead worth its while, and some more.
const FLOWS: u32 = 10_000;

/// A device with so many half-open connections.
fn crowded() -> (Device, Instant) {
    let mut farm = Farm::with(1, |_, config| {
        config.port_a.gateway = Some(CLIENT);
        config.limits.temporary = 20_000;
        config.limits.endpoints = 20_000;
    });
    let asked = arp_frame(ArpOperation::REQUEST, MacAddr::BROADCAST, CLIENT, port_a(0));
    farm.deliver(0, Port::A, &asked);
    farm.pump();
    let now = farm.now;
    let mut device = farm.devices.swap_remove(0);
    for number in 0..FLOWS {
        device.handle_frame(now, Port::A, &syn(number));
    }
    (device, now)
}

/// Opens a connection of its own.
fn syn(number: u32) -> Vec<u8> {
    let [_, a, b, _] = number.to_be_bytes();
    let client = [100, 64, a, b];
    let builder = PacketBuilder::ethernet2(CLIENT_MAC.0, mac(0xa, 0).0)
        .ipv4(client, port_a(0).octets(), 64)
        .tcp(1000 + (number % 256) as u16, 80, number, 64_000)
        .syn();
    let mut frame = Vec::new();
    builder.write(&mut frame, &[]).unwrap();
    frame
}

fn frame() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        (0..2 * FLOWS).prop_map(syn),
        (0..FLOWS, 0usize..54).prop_map(|(number, len)| syn(number)[..len].to_vec()),
        (0..FLOWS, 0usize..54, any::<u8>()).prop_map(|(number, at, byte)| {
            let mut frame = syn(number);
            frame[at] = byte;
            frame
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn only_the_time_differs(
        bursts in prop::collection::vec(prop::collection::vec(frame(), 0..150), 0..8),
    ) {
        let ((mut plain, now), (mut ahead, _)) = (crowded(), crowded());
        prop_assert!(ahead.looks_ahead());
        let mut out = [[0; 1514]; 2];
        for burst in bursts {
            for port in [Port::A, Port::B, Port::Synch] {
                burst.iter().for_each(|frame| ahead.expect_frame(port, frame));
            }
            ahead.look_ahead();
            for frame in burst {
                let verdict = plain.handle_frame(now, Port::A, &frame);
                prop_assert_eq!(ahead.handle_frame(now, Port::A, &frame), verdict);
            }
            loop {
                let [one, two] = &mut out;
                let len = plain.poll_transmit(now, Port::A, one);
                prop_assert_eq!(ahead.poll_transmit(now, Port::A, two), len);
                let Some(len) = len else { break };
                prop_assert_eq!(&one[..len], &two[..len]);
            }
        }
        prop_assert_eq!(ahead.counters(), plain.counters());
    }
}

#[test]
fn a_small_table_is_near_anyway() {
    let device = Device::new(config(0), Instant::ZERO).unwrap();
    assert!(!device.looks_ahead());
}
