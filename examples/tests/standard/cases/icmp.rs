//! ICMP: echo, and what routers and strangers say about connections (RFC 792; RFC 1122; RFC 1191; RFC 5927).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use etherparse::{EtherType, Ethernet2Slice, IpNumber, Ipv4HeaderSlice};

use super::reassembly::letters;
use super::{Case, everywhere, unmigrated};
use crate::conn::{Conn, Offer};
use crate::cx::{BRIEF, Cx, Outcome, SOON, ensure};
use crate::segment::{ACK, Segment, checksum, ip_packet};
use crate::wire::Host;

pub const CASES: &[Case] = &[
    unmigrated("ICMP echo", icmp_echo),
    everywhere("fragmentation needed: smaller segments", too_big),
    everywhere(
        "fragmentation needed for what is not in flight",
        too_big_forged,
    ),
    everywhere("fragmentation needed with an absurd MTU", too_big_absurd),
    everywhere("other ICMP errors end no connection", soft_errors),
    everywhere("ICMP errors cut short", cut_short),
];

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
            let packet = ethernet
                .payload_slice()
                .get(..usize::from(ip.total_len()))?;
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
        host.send(
            cx.bed.hardware,
            &ip_packet(host.socket(0), cx.bed.server, IpNumber::ICMP, &request),
        );
        let reply = next_icmp(&host, SOON).ok_or_else(|| format!("no reply to {len} bytes"))?;
        ensure!(
            reply == icmp((0, 0), id, &data),
            "the reply to {len} bytes is another one"
        );
    }
    let mut broken = icmp((8, 0), [0; 4], b"data");
    broken[3] ^= 1;
    host.send(
        cx.bed.hardware,
        &ip_packet(host.socket(0), cx.bed.server, IpNumber::ICMP, &broken),
    );
    ensure!(
        next_icmp(&host, BRIEF).is_none(),
        "a reply to a request with a wrong checksum"
    );
    Ok(())
}

/// The beginning of a packet of the server with data at `seq`, as ICMP errors return it.
fn original(cx: &Cx<'_>, conn: &Conn<'_>, seq: u32) -> Vec<u8> {
    let segment = Segment {
        seq,
        ack: conn.nxt,
        flags: ACK,
        window: 1_000,
        ..Segment::default()
    };
    let mut packet = segment
        .payload(&[0; 1_400])
        .packet(cx.bed.server, conn.from());
    packet.truncate(28);
    packet
}

/// Sends an ICMP message from a router.
fn tell(cx: &Cx<'_>, conn: &mut Conn<'_>, what: &str, message: &[u8]) {
    let router = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 254), 0);
    conn.send_packet(
        what,
        &ip_packet(router, cx.bed.server, IpNumber::ICMP, message),
    );
}

/// Tells the server that a packet with data at `seq` was too big for an MTU of `mtu`.
fn tell_too_big(cx: &Cx<'_>, conn: &mut Conn<'_>, seq: u32, mtu: u16) {
    let [high, low] = mtu.to_be_bytes();
    let message = icmp((3, 4), [0, 0, high, low], &original(cx, conn, seq));
    tell(
        cx,
        conn,
        &format!("fragmentation needed, MTU {mtu}"),
        &message,
    );
}

/// A connection with data in flight; then `inform` about it; then the rest, of which the largest segment is returned.
fn largest_after(cx: &Cx<'_>, offer: Offer, inform: impl FnOnce(&mut Conn<'_>)) -> Outcome<usize> {
    let (mut conn, session) = cx.session(offer, "w,s60000")?;
    session.signal();
    conn.expect("data", |seen| seen.has_data())?;
    conn.drain(BRIEF / 5);
    ensure!(
        conn.largest > 1_400,
        "segments of {} bytes at first",
        conn.largest
    );
    inform(&mut conn);
    conn.drain(BRIEF / 5);
    conn.largest = 0;
    conn.read_pattern_to_end(0, 60_000)?;
    Ok(conn.largest)
}

/// RFC 1191 §3.
fn too_big(cx: &Cx<'_>) -> Outcome {
    for offer in [Offer::MSS, Offer::ALL] {
        let largest = largest_after(cx, offer, |conn| tell_too_big(cx, conn, conn.rcv, 1_000))?;
        ensure!(
            largest <= 960,
            "segments of {largest} bytes for an MTU of 1000"
        );
        ensure!(
            largest > 500,
            "segments of {largest} bytes for an MTU of 1000"
        );
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
    ensure!(
        largest > 1_400,
        "segments of {largest} bytes: what a stranger says is believed"
    );
    Ok(())
}

/// RFC 1191 §3: an MTU below 68 is impossible; RFC 5927 §7.1: a host need not go that far down.
fn too_big_absurd(cx: &Cx<'_>) -> Outcome {
    for mtu in [0, 1, 40, 68, 1_500, 9_000] {
        let largest = largest_after(cx, Offer::ALL, |conn| tell_too_big(cx, conn, conn.rcv, mtu))?;
        ensure!(
            largest > 400,
            "segments of {largest} bytes for an MTU of {mtu}"
        );
    }
    Ok(())
}

/// RFC 5927 §5.2: errors that once ended connections are as soft as all others: anybody can send them.
fn soft_errors(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::ALL, "w,s60000")?;
    session.signal();
    conn.expect("data", |seen| seen.has_data())?;
    conn.drain(BRIEF / 5);
    for (kind, code) in [
        (3, 0),
        (3, 1),
        (3, 2),
        (3, 3),
        (3, 13),
        (4, 0),
        (5, 1),
        (11, 0),
        (12, 0),
        (99, 99),
    ] {
        let message = icmp((kind, code), [0; 4], &original(cx, &conn, conn.rcv));
        tell(cx, &mut conn, &format!("ICMP {kind}/{code}"), &message);
    }
    conn.read_pattern_to_end(0, 60_000)
}

fn cut_short(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::ALL, "w,s60000")?;
    session.signal();
    conn.expect("data", |seen| seen.has_data())?;
    conn.drain(BRIEF / 5);
    let whole = original(cx, &conn, conn.rcv);
    for len in 0..whole.len() {
        let message = icmp((3, 4), [0, 0, 3, 0xe8], &whole[..len]);
        tell(cx, &mut conn, &format!("{len} bytes of an error"), &message);
    }
    for len in 0..8 {
        let mut message = icmp((3, 4), [0, 0, 3, 0xe8], b"")[..len].to_vec();
        if len >= 4 {
            message[2..4].fill(0);
            let sum = checksum(&[&message]);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
        }
        tell(cx, &mut conn, &format!("{len} bytes of ICMP"), &message);
    }
    conn.drain(BRIEF / 5);
    conn.largest = 0;
    conn.read_pattern_to_end(0, 60_000)?;
    ensure!(
        conn.largest > 1_400,
        "segments of {} bytes: half a packet is believed",
        conn.largest
    );
    Ok(())
}
