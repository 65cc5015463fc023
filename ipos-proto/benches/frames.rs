//! What it costs to read a frame of Port B, beside reading the headers of the packet in it.
//!
//! ```text
//! cargo bench -p ipos-proto
//! ```

use std::hint::black_box;
use std::net::{Ipv4Addr, SocketAddrV4};

use criterion::{Criterion, criterion_group, criterion_main};
use etherparse::{Ipv4HeaderSlice, PacketBuilder, TcpHeaderSlice};
use ipos_proto::{ETHERNET_LEN, Ethernet, Frame, FrameType, Header, MacAddr, Message, Protocol};

/// A client's packet with 64 bytes of payload.
fn packet() -> Vec<u8> {
    let builder = PacketBuilder::ipv4([192, 0, 2, 1], [10, 77, 0, 11], 64);
    let mut packet = Vec::new();
    let written = builder
        .tcp(40_000, 80, 1, 64_240)
        .write(&mut packet, &[7; 64]);
    written.expect("a short packet");
    packet
}

fn read(c: &mut Criterion) {
    let packet = packet();
    let header = Header {
        client: SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 40_000),
        destination: Ipv4Addr::new(10, 88, 0, 12),
        port: 80,
        frame_type: FrameType::Packet,
        protocol: Protocol::Tcp,
    };
    let message = Message::Packet(&packet);
    let frame = Frame { header, message };
    let mut bytes = vec![0; ETHERNET_LEN + frame.frame_len()];
    let ethernet = Ethernet {
        destination: MacAddr([2; 6]),
        source: MacAddr([4; 6]),
        ethertype: ipos_proto::ETHERTYPE,
    };
    bytes[..ETHERNET_LEN].copy_from_slice(&ethernet.to_bytes());
    let emitted = frame.emit(&mut bytes[ETHERNET_LEN..]);
    emitted.expect("room for the frame");

    let mut group = c.benchmark_group("read");
    group.bench_function("ipOS header, verified", |b| {
        b.iter(|| Header::parse(black_box(&bytes[ETHERNET_LEN..])));
    });
    group.bench_function("Ethernet and ipOS headers, verified", |b| {
        b.iter(|| {
            let (ethernet, rest) = Ethernet::parse(black_box(&bytes)).expect("it was built so");
            (ethernet, Header::parse(rest).expect("it was built so"))
        });
    });
    group.bench_function(
        "reference: IPv4 and TCP headers by etherparse, not verified",
        |b| {
            b.iter(|| {
                let ip = Ipv4HeaderSlice::from_slice(black_box(&packet)).expect("it was built so");
                let tcp = TcpHeaderSlice::from_slice(&packet[20..]).expect("it was built so");
                (ip.source(), tcp.source_port())
            });
        },
    );
    group.finish();
}

criterion_group!(benches, read);
criterion_main!(benches);
