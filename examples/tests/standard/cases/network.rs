//! ARP, foreign addresses, many connections (RFC 826, RFC 1122).

use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::EtherType;

use super::malformed::Break;
use super::reassembly::letters;
use super::{Case, everywhere, unmigrated};
use crate::bed::PORT;
use crate::conn::Offer;
use crate::cx::{BRIEF, Cx, Outcome, SOON, ensure};
use crate::segment::{ACK, Segment};
use crate::wire::frame;

pub const CASES: &[Case] = &[
    unmigrated("ARP", arp),
    unmigrated("broken ARP", broken_arp),
    unmigrated("addresses of others: nothing", not_owned),
    everywhere("20 connections at once, interleaved", interleaved),
];

fn arp(cx: &Cx<'_>) -> Outcome {
    let host = cx.bed.wire.host();
    let server = *cx.bed.server.ip();
    host.ask(server);
    let reply = host.arp_reply(SOON).ok_or("no ARP reply")?;
    ensure!(
        reply.sender_mac == cx.bed.senders[0],
        "the reply tells {:02x?}",
        reply.sender_mac
    );
    let right = reply.sender_ipv4 == server.octets()
        && reply.target_mac == host.hardware
        && reply.target_ipv4 == host.address.octets();
    ensure!(right, "the reply is {reply:?}");
    for other in [
        Ipv4Addr::new(10, 77, 0, 99),
        Ipv4Addr::new(10, 88, 0, 11),
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::UNSPECIFIED,
    ] {
        host.ask(other);
        ensure!(host.arp_reply(BRIEF).is_none(), "a reply for {other}");
    }
    Ok(())
}

/// RFC 826: what cannot be read, or claims to come from the server itself, changes nothing.
fn broken_arp(cx: &Cx<'_>) -> Outcome {
    let host = cx.bed.wire.host();
    let server = *cx.bed.server.ip();
    let question = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut packet = vec![0, 1, 8, 0, 6, 4, 0, 1];
        packet.extend(host.hardware);
        packet.extend(host.address.octets());
        packet.extend([0; 6]);
        packet.extend(server.octets());
        change(&mut packet);
        cx.bed
            .wire
            .send(&frame([0xff; 6], host.hardware, EtherType::ARP, &packet));
    };
    let changes: [Break<'_>; 7] = [
        ("cut to 7 bytes", &|packet| packet.truncate(7)),
        ("cut to 27 bytes", &|packet| packet.truncate(27)),
        ("another hardware", &|packet| packet[1] = 99),
        ("another protocol", &|packet| packet[2] = 0x86),
        ("hardware addresses of 255 bytes", &|packet| packet[4] = 255),
        ("protocol addresses of 16 bytes", &|packet| packet[5] = 16),
        ("operation 99", &|packet| packet[7] = 99),
    ];
    for (what, change) in changes {
        question(change);
        ensure!(
            host.arp_reply(BRIEF / 2).is_none(),
            "a reply to a question with {what}"
        );
    }
    question(&|packet| packet[14..18].copy_from_slice(&server.octets()));
    question(&|_| {});
    host.arp_reply(SOON).ok_or("no reply to a right question")?;
    let mut conn = cx.open(Offer::ALL)?;
    cx.start(&mut conn, "e")?;
    conn.alive()
}

/// RFC 1122 §3.2.1.3, §4.2.3.10: packets for others, and SYNs to or from everybody, are dropped silently.
fn not_owned(cx: &Cx<'_>) -> Outcome {
    let others = [
        Ipv4Addr::new(10, 77, 0, 99),
        Ipv4Addr::new(10, 88, 0, 11),
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::new(10, 77, 255, 255),
        Ipv4Addr::new(224, 0, 0, 1),
    ];
    for other in others {
        let mut conn = cx.conn(Offer::ALL);
        conn.to = SocketAddrV4::new(other, PORT);
        for segment in [
            conn.syn(),
            Segment {
                flags: ACK,
                ..Segment::default()
            },
        ] {
            conn.send(&segment);
        }
        conn.refuse(BRIEF / 2, &format!("an answer for {other}"), |_| true)?;
    }
    let from = [
        *cx.bed.server.ip(),
        Ipv4Addr::LOCALHOST,
        Ipv4Addr::BROADCAST,
        Ipv4Addr::UNSPECIFIED,
        Ipv4Addr::new(224, 0, 0, 1),
    ];
    let mut conn = cx.conn(Offer::ALL);
    for source in from {
        // Where they are answered, the answers go elsewhere; what counts is that the server goes on.
        let syn = conn
            .syn()
            .packet(SocketAddrV4::new(source, PORT), cx.bed.server);
        conn.send_packet(&format!("a SYN from {source}"), &syn);
    }
    conn.connect()?;
    cx.start(&mut conn, "e")?;
    conn.alive()
}

fn interleaved(cx: &Cx<'_>) -> Outcome {
    let mut all = Vec::new();
    for number in 0..20u8 {
        let (conn, session) = cx.session(Offer::ALL, "e")?;
        let data: Vec<_> = letters(20_000)
            .into_iter()
            .map(|byte| byte ^ number)
            .collect();
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
