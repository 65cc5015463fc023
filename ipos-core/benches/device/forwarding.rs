//! A client's packet of a connection that another server has, with a thousand and with a million of them.

use std::hint::black_box;
use std::net::SocketAddrV4;

use criterion::{Criterion, Throughput};
use etherparse::{ArpOperation, Ipv4HeaderSlice, PacketBuilder, TcpSlice};
use hashbrown::HashMap;
use ipos_core::{Device, Instant, ListenerId, Port, Verdict};
use ipos_proto::{
    ETHERNET_LEN, Ethernet, Frame, Header, MacAddr, Message, SeqNum, Trailer, TrailerFlags,
};

use crate::common::{CLIENT, CLIENT_MAC, Farm, arp_frame, config, mac, port_a};

/// Ports that each client uses.
const PORTS: u32 = 32;
/// Sequence number of the SYNs.
const SEQ: u32 = 100;
/// Where the source address, the source port and the window stand in a frame.
const SOURCE: usize = ETHERNET_LEN + 12;
const SOURCE_PORT: usize = ETHERNET_LEN + 20;
const WINDOW: usize = ETHERNET_LEN + 34;

/// A frame whose flow can be changed and whose checksums stay right: the halves of the source address always have the same
/// sum, and so have source port and window.
struct Template(Vec<u8>);

impl Template {
    /// A SYN, or a segment behind it with this ACK.
    fn new(ack: Option<u32>, payload: &[u8]) -> Template {
        // 100.0.155.0, from port 1000: what one half gets the other one loses.
        let builder = PacketBuilder::ethernet2(CLIENT_MAC.0, mac(0xa, 0).0)
            .ipv4([100, 0, 155, 0], port_a(0).octets(), 64)
            .tcp(1000, 80, SEQ + u32::from(ack.is_some()), 64_000);
        let builder = match ack {
            Some(ack) => builder.ack(ack),
            None => builder.syn(),
        };
        let mut frame = Vec::new();
        builder.write(&mut frame, payload).expect("a short frame");
        Template(frame)
    }

    /// The frame for flow `number`.
    fn frame(&mut self, number: u32) -> &[u8] {
        let (client, port) = ((number / PORTS) as u16, (number % PORTS) as u16);
        let frame = &mut self.0;
        let mut put = |at: usize, value: u16| {
            frame[at..at + 2].copy_from_slice(&value.to_be_bytes());
        };
        let shift = |from: u16, by: u16| {
            // Ones' complement: 0xffff is 0.
            let sum = u32::from(from) + u32::from(by);
            (sum % 0xffff) as u16
        };
        put(SOURCE, shift(0x6400, client));
        put(SOURCE + 2, shift(0x9b00, 0xffff - client));
        put(SOURCE_PORT, 1000 + port);
        put(WINDOW, 64_000 - port);
        frame
    }
}

/// A device that has forwarded so many connections to another server, whose part is played here.
fn forwarding(flows: u32) -> (Device, Instant) {
    let mut farm = Farm::with(2, |_, config| {
        // All clients are behind a router.
        config.port_a.gateway = Some(CLIENT);
        config.limits.forward = 2_000_000;
    });
    let asked = arp_frame(ArpOperation::REQUEST, MacAddr::BROADCAST, CLIENT, port_a(0));
    farm.deliver(0, Port::A, &asked);
    farm.pump();
    let now = farm.now;
    let mut device = farm.devices.swap_remove(0);
    // All requests go to the other server.
    device.set_available(now, ListenerId(0), false);
    let mut buf = [0; 1514];
    let mut syn = Template::new(None, &[]);
    for flow in 0..flows {
        device.handle_frame(now, Port::A, syn.frame(flow));
        let len = device.poll_transmit(now, Port::A, &mut buf);
        let syn_ack = TcpSlice::from_slice(&buf[34..len.expect("a SYN-ACK")]);
        let ack = syn_ack.expect("a segment").sequence_number() + 1;
        device.handle_frame(now, Port::A, Template::new(Some(ack), b"x").frame(flow));
        while device.poll_transmit(now, Port::A, &mut buf).is_some() {}
        let len = device.poll_transmit(now, Port::B, &mut buf);
        let installed = acknowledgement(&buf[..len.expect("a 0x01")], flow);
        device.handle_frame(now, Port::B, &installed);
        while device.poll_transmit(now, Port::B, &mut buf).is_some() {}
        while device.poll_event().is_some() {}
    }
    let tables = device.tables().into_iter();
    let mut forward = tables.filter(|table| table.name == "forward");
    let forward = forward.next().map(|table| table.len);
    assert_eq!(forward, Some(flows as usize));
    (device, now)
}

/// The 0x03 that answers a 0x01, and covers the request.
fn acknowledgement(offer: &[u8], number: u32) -> Vec<u8> {
    let (ethernet, rest) = Ethernet::parse(offer).expect("a frame");
    let Frame { header, message } = Frame::parse(rest).expect("a frame of ours");
    let trailer = Trailer {
        flags: TrailerFlags::RCV_NXT,
        epoch: message.trailer().expect("a trailer").epoch,
        rcv_nxt: SeqNum::new(SEQ + 2),
        incarnation: 1,
        // Later than what it has said so far.
        number: 1_000 + number,
        tag: None,
    };
    let message = Message::Acknowledgement {
        trailer: Some(trailer),
    };
    let header = Header {
        destination: config(0).port_b.address,
        port: 80,
        frame_type: message.frame_type(),
        ..header
    };
    let answer = Frame { header, message };
    let mut bytes = vec![0; ETHERNET_LEN + answer.frame_len()];
    let back = Ethernet {
        destination: ethernet.source,
        source: ethernet.destination,
        ..ethernet
    };
    bytes[..ETHERNET_LEN].copy_from_slice(&back.to_bytes());
    let emitted = answer.emit(&mut bytes[ETHERNET_LEN..]);
    emitted.expect("room for the frame");
    bytes
}

/// Numbers below `flows` in no order.
fn shuffled(flows: u32) -> impl FnMut() -> u32 {
    let mut state = 1u64;
    move || {
        // Knuth's MMIX generator.
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (((state >> 32) * u64::from(flows)) >> 32) as u32
    }
}

/// Classify, look up, encapsulate: each time another flow.
pub fn forward(c: &mut Criterion) {
    let mut group = c.benchmark_group("forward");
    group.throughput(Throughput::Elements(1));
    for flows in [1_000, 1_000_000] {
        let (mut device, now) = forwarding(flows);
        let (mut template, mut next) = (Template::new(Some(1), &[7; 64]), shuffled(flows));
        let mut out = [0; 1514];
        group.bench_function(format!("{flows} flows"), |b| {
            b.iter(|| {
                let frame = template.frame(next());
                let Verdict::Forward(forward) = device.handle_frame(now, Port::A, frame) else {
                    panic!("forwarded")
                };
                let payload = &frame[forward.payload];
                out[..forward.headers.len()].copy_from_slice(&forward.headers);
                out[forward.headers.len()..][..payload.len()].copy_from_slice(payload);
                black_box(&mut out);
            });
        });
        let rows = (0..flows).map(|number| (key(template.frame(number)), [0; 30]));
        let table: HashMap<_, _, foldhash::fast::FixedState> = rows.collect();
        let name = format!(
            "floor: headers and checksums by etherparse, {flows} rows of a hashbrown table"
        );
        group.bench_function(name, |b| {
            b.iter(|| {
                let frame = template.frame(next());
                let headers = table.get(&key(frame)).expect("a row");
                let payload = &frame[ETHERNET_LEN..];
                out[..headers.len()].copy_from_slice(headers);
                out[headers.len()..][..payload.len()].copy_from_slice(payload);
                black_box(&mut out);
            });
        });
    }
    group.finish();
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
