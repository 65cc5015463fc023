//! ARP, ICMP, foreign addresses, many connections (RFC 826, RFC 792, RFC 1122, RFC 1191, RFC 4987).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use etherparse::{EtherType, Ethernet2Slice, IpNumber, Ipv4HeaderSlice};

use super::reassembly::letters;
use super::{Case, Scope, everywhere, unmigrated};
use crate::bed::PORT;
use crate::conn::{Conn, Offer};
use crate::cx::{BRIEF, Cx, Outcome, SOON, ensure};
use crate::segment::{ACK, SYN, Segment, checksum, ip_packet};
use crate::wire::{Host, frame};

pub const CASES: &[Case] = &[
    unmigrated("ARP", arp),
    unmigrated("ICMP echo", icmp_echo),
    unmigrated("addresses of others: nothing", not_owned),
    everywhere("fragmentation needed: smaller segments", too_big),
    everywhere("fragmentation needed for what is not in flight", too_big_forged),
    everywhere("fragmentation needed with an absurd MTU", too_big_absurd),
    everywhere("20 connections at once, interleaved", interleaved),
    Case { name: "3000 SYNs of nobody, then a client", scope: Scope::Alone, run: flood },
];

fn arp(cx: &Cx<'_>) -> Outcome {
    let host = cx.bed.wire.host();
    let server = *cx.bed.server.ip();
    host.ask(server);
    let reply = host.arp_reply(SOON).ok_or("no ARP reply")?;
    ensure!(reply.sender_mac == cx.bed.senders[0], "the reply tells {:02x?}", reply.sender_mac);
    let right = reply.sender_ipv4 == server.octets() && reply.target_mac == host.hardware && reply.target_ipv4 == host.address.octets();
    ensure!(right, "the reply is {reply:?}");
    for other in [Ipv4Addr::new(10, 77, 0, 99), Ipv4Addr::new(10, 88, 0, 11), Ipv4Addr::LOCALHOST, Ipv4Addr::UNSPECIFIED] {
        host.ask(other);
        ensure!(host.arp_reply(BRIEF).is_none(), "a reply for {other}");
    }
    Ok(())
}

/// An ICMP message of this type and code.
fn icmp(kind: (u8, u8), rest: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let mut message = [&[kind.0, kind.1, 0, 0], &rest[..], payload].concat();
    let sum = checksum(&[&message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

/// The next ICMP message for `host`.
fn next_icmp(host: &Host, within: Duration) -> Option<Vec<u8>> {
    loop {
        let (_, frame) = host.next(within)?;
        let ethernet = Ethernet2Slice::from_slice_without_fcs(&frame).ok()?;
        if ethernet.ether_type() != EtherType::IPV4 {
            continue;
        }
        let ip = Ipv4HeaderSlice::from_slice(ethernet.payload_slice()).ok()?;
        if ip.protocol() == IpNumber::ICMP {
            let packet = ethernet.payload_slice().get(..usize::from(ip.total_len()))?;
            return packet.get(ip.slice().len()..).map(<[u8]>::to_vec);
        }
    }
}

/// RFC 792; RFC 1122 §3.2.2.6: the data comes back as it is.
fn icmp_echo(cx: &Cx<'_>) -> Outcome {
    let host = cx.bed.wire.host();
    for len in [0, 1, 56, 1_472] {
        let (data, id) = (letters(len), [0x12, 0x34, 0, len as u8]);
        let request = icmp((8, 0), id, &data);
        host.send(cx.bed.hardware, &ip_packet(host.socket(0), cx.bed.server, IpNumber::ICMP, &request));
        let reply = next_icmp(&host, SOON).ok_or_else(|| format!("no reply to {len} bytes"))?;
        ensure!(reply == icmp((0, 0), id, &data), "the reply to {len} bytes is another one");
    }
    let mut broken = icmp((8, 0), [0; 4], b"data");
    broken[3] ^= 1;
    host.send(cx.bed.hardware, &ip_packet(host.socket(0), cx.bed.server, IpNumber::ICMP, &broken));
    ensure!(next_icmp(&host, BRIEF).is_none(), "a reply to a request with a wrong checksum");
    Ok(())
}

/// RFC 1122 §3.2.1.3, §4.2.3.10: packets for others, and SYNs to or from everybody, are dropped silently.
fn not_owned(cx: &Cx<'_>) -> Outcome {
    let others = [Ipv4Addr::new(10, 77, 0, 99), Ipv4Addr::new(10, 88, 0, 11), Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST, Ipv4Addr::new(10, 77, 255, 255), Ipv4Addr::new(224, 0, 0, 1)];
    for other in others {
        let mut conn = cx.conn(Offer::ALL);
        conn.to = SocketAddrV4::new(other, PORT);
        for segment in [conn.syn(), Segment { flags: ACK, ..Segment::default() }] {
            conn.send(&segment);
        }
        conn.refuse(BRIEF / 2, &format!("an answer for {other}"), |_| true)?;
    }
    let from = [*cx.bed.server.ip(), Ipv4Addr::LOCALHOST, Ipv4Addr::BROADCAST, Ipv4Addr::UNSPECIFIED, Ipv4Addr::new(224, 0, 0, 1)];
    let mut conn = cx.conn(Offer::ALL);
    for source in from {
        // Where they are answered, the answers go elsewhere; what counts is that the server goes on.
        let syn = conn.syn().packet(SocketAddrV4::new(source, PORT), cx.bed.server);
        conn.send_packet(&format!("a SYN from {source}"), &syn);
    }
    conn.connect()?;
    cx.start(&mut conn, "e")?;
    conn.alive()
}

/// Tells the server that a packet with data at `seq` was too big for an MTU of `mtu`.
fn tell_too_big(cx: &Cx<'_>, conn: &mut Conn<'_>, seq: u32, mtu: u16) {
    let segment = Segment { seq, ack: conn.nxt, flags: ACK, window: 1000, ..Segment::default() };
    let original = segment.payload(&[0; 1400]).packet(cx.bed.server, conn.from());
    let [high, low] = mtu.to_be_bytes();
    let message = icmp((3, 4), [0, 0, high, low], &original[..28]);
    let router = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 254), 0);
    let packet = ip_packet(router, cx.bed.server, IpNumber::ICMP, &message);
    conn.send_packet(&format!("fragmentation needed, MTU {mtu}"), &packet);
}

/// A connection with data in flight; then `tell` about it; then the rest, of which the largest segment is returned.
fn largest_after(cx: &Cx<'_>, offer: Offer, tell: impl FnOnce(&mut Conn<'_>)) -> Outcome<usize> {
    let (mut conn, session) = cx.session(offer, "w,s60000")?;
    session.signal();
    conn.expect("data", |seen| seen.has_data())?;
    conn.drain(BRIEF / 5);
    ensure!(conn.largest > 1_400, "segments of {} bytes at first", conn.largest);
    tell(&mut conn);
    conn.drain(BRIEF / 5);
    conn.largest = 0;
    conn.read_pattern_to_end(0, 60_000)?;
    Ok(conn.largest)
}

/// RFC 1191 §3.
fn too_big(cx: &Cx<'_>) -> Outcome {
    for offer in [Offer::MSS, Offer::ALL] {
        let largest = largest_after(cx, offer, |conn| tell_too_big(cx, conn, conn.rcv, 1_000))?;
        ensure!(largest <= 960, "segments of {largest} bytes for an MTU of 1000");
        ensure!(largest > 500, "segments of {largest} bytes for an MTU of 1000");
    }
    Ok(())
}

/// RFC 5927 §4.1: an attacker does not know what is in flight.
fn too_big_forged(cx: &Cx<'_>) -> Outcome {
    let largest = largest_after(cx, Offer::ALL, |conn| {
        for offset in [-1, -100_000, 1 << 20, 1 << 30] {
            tell_too_big(cx, conn, conn.rcv.wrapping_add_signed(offset), 1_000);
        }
    })?;
    ensure!(largest > 1_400, "segments of {largest} bytes: what a stranger says is believed");
    Ok(())
}

/// RFC 1191 §3: an MTU below 68 is impossible; RFC 5927 §7.1: a host need not go that far down.
fn too_big_absurd(cx: &Cx<'_>) -> Outcome {
    for mtu in [0, 1, 40, 68, 1_500, 9_000] {
        let largest = largest_after(cx, Offer::ALL, |conn| tell_too_big(cx, conn, conn.rcv, mtu))?;
        ensure!(largest > 400, "segments of {largest} bytes for an MTU of {mtu}");
    }
    Ok(())
}

fn interleaved(cx: &Cx<'_>) -> Outcome {
    let mut all = Vec::new();
    for number in 0..20u8 {
        let (conn, session) = cx.session(Offer::ALL, "e")?;
        let data: Vec<_> = letters(20_000).into_iter().map(|byte| byte ^ number).collect();
        all.push((conn, session, data));
    }
    for at in (0..20_000).step_by(1_000) {
        for (conn, _, data) in &mut all {
            conn.data(&data[at..at + 1_000]);
        }
    }
    for (conn, _, data) in &mut all {
        conn.read_echo(data)?;
    }
    Ok(())
}

/// SYNs from addresses of the LAN that nobody has.
const FLOOD: u16 = 3_000;

/// RFC 4987: the flood's half-open connections do not keep a client out, whose options count as ever.
fn flood(cx: &Cx<'_>) -> Outcome {
    // Its first request would be one more SYN later on.
    let turn = cx.turn()?;
    let spoofer = cx.bed.wire.host();
    for number in 0..FLOOD {
        // Few enough for the kernel's neighbour table.
        let address = Ipv4Addr::new(10, 77, 200, (number % 250) as u8 + 1);
        let from = SocketAddrV4::new(address, 1_024 + number);
        let syn = Segment { seq: u32::from(number) << 16, flags: SYN, window: 1_000, options: vec![2, 4, 5, 0xb4], ..Segment::default() };
        let packet = syn.packet(from, cx.bed.server);
        cx.bed.wire.send(&frame(cx.bed.hardware, spoofer.hardware, EtherType::IPV4, &packet));
    }
    let mut conn = cx.open(Offer::ALL)?;
    let options = &conn.syn_ack.as_ref().ok_or("no SYN-ACK")?.options;
    let kept = options.scale.is_some() && options.sack_permitted && options.timestamp.is_some();
    ensure!(kept, "options are lost although the client does timestamps: {options:?}");
    conn.may_shrink = cx.is_kernel();
    // 10 << 7 bytes.
    conn.window = 10;
    let session = cx.bed.registry.session();
    insist(&mut conn, &session.request("s20000"), || session.server(Duration::from_secs(1)).is_some())?;
    turn.settle(&session)?;
    conn.wait_acknowledged()?;
    conn.read_pattern_to_end(0, 20_000)?;
    let edge = if conn.shrunk { Err("the right edge of the window goes back".to_owned()) } else { Ok(()) };
    let why = "RFC 9293 §3.8.6: 'A TCP receiver SHOULD NOT shrink the window'; a cookie does not hold the window of its \
               SYN-ACK, and Linux goes on with another one";
    cx.differs(why, edge)?;
    drop(conn);

    let turn = cx.turn()?;
    let mut conn = cx.open(Offer::MSS)?;
    let session = cx.bed.registry.session();
    insist(&mut conn, &session.request("e"), || session.server(Duration::from_secs(1)).is_some())?;
    turn.settle(&session)?;
    conn.wait_acknowledged()?;
    conn.alive()
}

/// Sends data, and again until it is `done`, as a client would.
fn insist(conn: &mut Conn<'_>, data: &[u8], mut done: impl FnMut() -> bool) -> Outcome {
    let start = conn.nxt;
    for _ in 0..SOON.as_secs() {
        conn.nxt = start;
        conn.data(data);
        if done() {
            return Ok(());
        }
    }
    Err(format!("the client's request is not served within {SOON:?}"))
}
