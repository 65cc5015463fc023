//! A client's packet of a connection that another server has, with a thousand and with a million of them.

use std::hint::black_box;
use std::net::SocketAddrV4;

use arrayvec::ArrayVec;
use criterion::{Criterion, Throughput};
use etherparse::{Ipv4HeaderSlice, TcpSlice};
use hashbrown::HashMap;
use ipos_core::{Port, Verdict};
use ipos_proto::ETHERNET_LEN;

use crate::common::mac;
use crate::flows::{Template, forwarding, shuffled};

/// Frames that come at once.
const BURST: usize = 64;

/// Classify, look up, encapsulate: each time another flow. One by one, and in bursts that are looked ahead over.
pub fn forward(c: &mut Criterion) {
    let mut group = c.benchmark_group("forward");
    for flows in [1_000, 1_000_000] {
        let (mut device, now) = forwarding(flows, |_, _| {});
        let mut next = shuffled(flows);
        let mut burst: [Template; BURST] =
            std::array::from_fn(|_| Template::new(mac(0xa, 0), Some(1), &[7; 64]));
        let mut out = [0; 1514];
        let rows = (0..flows).map(|number| (key(burst[0].frame(number)), [0; 30]));
        let table: HashMap<_, _, foldhash::fast::FixedState> = rows.collect();
        for size in [1, BURST] {
            group.throughput(Throughput::Elements(size as u64));
            let burst = &mut burst[..size];
            group.bench_function(format!("{flows} flows, bursts of {size}"), |b| {
                b.iter(|| {
                    for template in burst.iter_mut() {
                        let frame = template.frame(next());
                        if size > 1 {
                            device.expect_frame(Port::A, frame);
                        }
                    }
                    device.look_ahead();
                    for Template(frame) in burst.iter() {
                        let Verdict::Forward(forward) = device.handle_frame(now, Port::A, frame)
                        else {
                            panic!("forwarded")
                        };
                        encapsulate(&mut out, &forward.headers, &frame[forward.payload]);
                    }
                });
            });
            let name = format!(
                "floor: headers and checksums by etherparse, {flows} rows of a hashbrown table, bursts of {size}"
            );
            group.bench_function(name, |b| {
                b.iter(|| {
                    let keys = burst.iter_mut().map(|template| key(template.frame(next())));
                    let keys: ArrayVec<_, BURST> = keys.collect();
                    let found = keys.iter().map(|key| table.get(key).expect("a row"));
                    let found: ArrayVec<_, BURST> = found.collect();
                    for (Template(frame), headers) in burst.iter().zip(found) {
                        encapsulate(&mut out, headers, &frame[ETHERNET_LEN..]);
                    }
                });
            });
        }
    }
    group.finish();
}

/// The frame that goes on.
fn encapsulate(out: &mut [u8], headers: &[u8], payload: &[u8]) {
    out[..headers.len()].copy_from_slice(headers);
    out[headers.len()..][..payload.len()].copy_from_slice(payload);
    black_box(out);
}

/// A packet's flow, its checksums verified.
fn key(frame: &[u8]) -> (SocketAddrV4, SocketAddrV4) {
    let ip = Ipv4HeaderSlice::from_slice(&frame[ETHERNET_LEN..]).expect("an IPv4 header");
    assert_eq!(ip.to_header().calc_header_checksum(), ip.header_checksum());
    let tcp = TcpSlice::from_slice(&frame[34..]).expect("a TCP segment");
    let sum = tcp.calc_checksum_ipv4(ip.source(), ip.destination());
    assert_eq!(sum, Ok(tcp.checksum()));
    (
        SocketAddrV4::new(ip.source_addr(), tcp.source_port()),
        SocketAddrV4::new(ip.destination_addr(), tcp.destination_port()),
    )
}
