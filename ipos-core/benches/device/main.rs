//! What a segment, a forwarded packet and a hand-over cost in one device, beside what reading the headers alone costs.
//!
//! ```text
//! cargo bench -p ipos-core
//! ```

#[path = "../../tests/common/mod.rs"]
mod common;
mod flows;
mod forwarding;

use std::hint::black_box;

use common::{Client, Farm, config};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use etherparse::{Ipv4HeaderSlice, TcpSlice};
use ipos_core::{Device, EndpointId, FarmKey, Instant, Port, Verdict};

const SEGMENT: usize = 1444;

/// A client's connection to a single server, bound to its application.
fn local() -> (Farm, Client, EndpointId) {
    let mut farm = Farm::new(vec![config(0)]);
    let mut client = farm.connect(0, 4000);
    farm.send(&client, "PA", b"x");
    client.seq += 1;
    let bound = farm.bound();
    farm.read(bound);
    farm.take(&client);
    (farm, client, bound.1)
}

fn drain(device: &mut Device, now: Instant, buf: &mut [u8]) -> usize {
    let mut bytes = 0;
    while let Some(len) = device.poll_transmit(now, Port::A, buf) {
        bytes += len;
    }
    bytes
}

/// Two full segments in, read by the application, one acknowledgment out.
fn receive(c: &mut Criterion) {
    let mut group = c.benchmark_group("segment-in-ack-out");
    group.throughput(Throughput::Bytes(2 * SEGMENT as u64));
    let (mut farm, mut client, id) = local();
    let device = &mut farm.devices[0];
    let (now, mut buf) = (farm.now, [0; 1514]);
    group.bench_function("device", |b| {
        b.iter_batched_ref(
            || {
                let pair = [0, 1].map(|i| {
                    let next = Client {
                        seq: client.seq + i * SEGMENT as u32,
                        ..client.clone()
                    };
                    next.frame("PA", &[], &[7; SEGMENT])
                });
                client.seq += 2 * SEGMENT as u32;
                pair
            },
            |pair| {
                for frame in pair.iter() {
                    assert_eq!(device.handle_frame(now, Port::A, frame), Verdict::Consumed);
                    while device.poll_event().is_some() {}
                    let mut endpoint = device.endpoint(now, id).expect("the endpoint lives");
                    while !endpoint.readable().is_empty() {
                        let len = black_box(endpoint.readable()).len();
                        endpoint.consume(len);
                    }
                }
                assert!(drain(device, now, &mut buf) > 0);
            },
            // One at a time: the segments must come in order.
            BatchSize::PerIteration,
        );
    });
    let frame = client.frame("PA", &[], &[7; SEGMENT]);
    group.bench_function(
        "floor: headers read and checksum verified by etherparse",
        |b| {
            b.iter(|| {
                for _ in 0..2 {
                    let ip = Ipv4HeaderSlice::from_slice(black_box(&frame[14..]))
                        .expect("an IPv4 header");
                    let tcp = TcpSlice::from_slice(&frame[34..]).expect("a TCP segment");
                    let sum = tcp
                        .calc_checksum_ipv4(ip.source(), ip.destination())
                        .expect("a short segment");
                    assert_eq!(sum, tcp.checksum());
                }
            });
        },
    );
    group.finish();
}

/// Ten segments written by the application, sent, and acknowledged.
fn send(c: &mut Criterion) {
    const SEGMENTS: usize = 10;
    let mut group = c.benchmark_group("bulk-send");
    group.throughput(Throughput::Elements(SEGMENTS as u64));
    let (mut farm, mut client, id) = local();
    let device = &mut farm.devices[0];
    let (now, mut buf) = (farm.now, [0; 1514]);
    let data = [7; SEGMENTS * SEGMENT];
    group.bench_function("ten segments", |b| {
        b.iter(|| {
            let mut endpoint = device.endpoint(now, id).expect("the endpoint lives");
            assert_eq!(endpoint.write(&data), data.len());
            assert_eq!(drain(device, now, &mut buf), SEGMENTS * (54 + SEGMENT));
            client.ack += data.len() as u32;
            let ack = client.frame("A", &[], &[]);
            assert_eq!(device.handle_frame(now, Port::A, &ack), Verdict::Consumed);
            while device.poll_event().is_some() {}
        });
    });
    group.bench_function("floor: copied and checksums made", |b| {
        b.iter(|| {
            for chunk in data.chunks(SEGMENT) {
                buf[54..54 + SEGMENT].copy_from_slice(black_box(chunk));
                let header = etherparse::TcpHeader::new(80, 4000, 1, 1);
                let sum = header.calc_checksum_ipv4_raw(
                    [10, 0, 0, 1],
                    [10, 0, 0, 2],
                    &buf[54..54 + SEGMENT],
                );
                black_box(sum.expect("a short segment"));
            }
        });
    });
    group.finish();
}

/// SYN to 0x02: the whole life of a connection on its first server, and its beginning on the second.
fn hand_over(c: &mut Criterion) {
    let mut group = c.benchmark_group("hand-over");
    group.throughput(Throughput::Elements(1));
    let served = |farm: &mut Farm, port: u16| {
        let client = farm.connect(0, port);
        farm.send(&client, "PA", b"GET / HTTP/1.0\r\n\r\n");
        farm.lan_b.clear();
        farm.sent.clear();
        farm.events.clear();
    };
    let pair = |keyed: bool| {
        Farm::with(2, |_, config| {
            config.farm_key = keyed.then(|| FarmKey::new([7; FarmKey::LEN]));
        })
    };
    // A request on an open connection, answered: by the server that was asked, and by the one that it was moved to.
    for (name, moves, keyed) in [
        ("request to first response byte, migrated", true, false),
        (
            "request to first response byte, migrated, farm key",
            true,
            true,
        ),
        ("request to first response byte, local", false, false),
    ] {
        group.bench_function(name, |b| {
            let open = || {
                let mut farm = if moves {
                    pair(keyed)
                } else {
                    Farm::new(vec![config(0)])
                };
                if moves {
                    served(&mut farm, 1000);
                }
                let client = farm.connect(0, 1001);
                (farm, client)
            };
            let answered = |(mut farm, client): (Farm, Client)| {
                farm.send(&client, "PA", b"GET / HTTP/1.0\r\n\r\n");
                let bound = farm.bound();
                farm.write(bound, b"HTTP/1.0 200 OK\r\n\r\n");
                assert_eq!(farm.take(&client).len(), 1);
                farm
            };
            // As few farms at a time as the caches hold.
            b.iter_batched(open, answered, BatchSize::NumIterations(16));
        });
    }
    for (name, server, keyed) in [
        ("handshake and request, migrated", 1, false),
        ("handshake and request, migrated, farm key", 1, true),
        ("handshake and request, local", 0, false),
    ] {
        group.bench_function(name, |b| {
            let mut farm = if server == 1 {
                pair(keyed)
            } else {
                Farm::new(vec![config(0)])
            };
            let mut port = 1000;
            b.iter(|| {
                if port > 60_000 {
                    farm = if server == 1 {
                        pair(keyed)
                    } else {
                        Farm::new(vec![config(0)])
                    };
                    port = 1000;
                }
                if server == 1 {
                    // Servers take turns: one stays, one goes.
                    served(&mut farm, port);
                    port += 1;
                }
                served(&mut farm, port);
                port += 1;
            });
        });
    }
    group.finish();
}

criterion_group!(benches, receive, send, forwarding::forward, hand_over);
criterion_main!(benches);
