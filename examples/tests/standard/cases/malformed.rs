//! Packets that are broken, and rare ones that are not (RFC 9293 §3.1; RFC 1122 §3.2.1, §3.3.2).

use super::handshake::opens_after;
use super::{Case, everywhere, unmigrated};
use crate::conn::{Conn, Offer};
use crate::cx::{BRIEF, Cx, Outcome};
use crate::segment::{ACK, PSH, repair_ip, repair_tcp};

pub const CASES: &[Case] = &[
    everywhere("data offset 0, 4, 15", data_offset),
    everywhere("wrong TCP checksum", tcp_checksum),
    everywhere("wrong IP checksum", ip_checksum),
    everywhere("IP lengths that do not fit", ip_lengths),
    everywhere("packets cut short", cut_short),
    unmigrated("broken SYNs", broken_syn),
    everywhere("padding behind the packet", padding),
    everywhere("IP options", ip_options),
    everywhere("40 bytes of TCP options", full_options),
    everywhere("fragments: dropped or reassembled", fragments),
];

/// What is wrong with a packet, and how it comes to be.
pub(super) type Break<'a> = (&'a str, &'a dyn Fn(&mut Vec<u8>));

/// The place of the TCP header in a packet without IP options.
const TCP: usize = 20;

/// The next data in its place, as a packet.
fn packet(conn: &Conn<'_>, payload: &[u8]) -> Vec<u8> {
    conn.segment()
        .flags(ACK | PSH)
        .payload(payload)
        .packet(conn.from(), conn.to)
}

/// Sends the next data in packets that are broken: it is not taken, nothing comes back, and the connection works on.
fn broken(cx: &Cx<'_>, breaks: &[Break<'_>]) -> Outcome {
    let (mut conn, _session) = cx.session(Offer::MSS, "e")?;
    conn.alive()?;
    conn.drain(BRIEF);
    for (what, break_it) in breaks {
        let mut packet = packet(&conn, b"broken data");
        break_it(&mut packet);
        conn.send_packet(what, &packet);
        conn.refuse(BRIEF / 2, &format!("an answer to {what}"), |_| true)?;
        conn.alive()
            .map_err(|error| format!("after {what}: {error}"))?;
        conn.drain(BRIEF / 5);
    }
    Ok(())
}

/// Sends the next data in a packet that is rare, but right: it is taken.
fn rare(conn: &mut Conn<'_>, what: &str, packet: &[u8], payload: &[u8]) -> Outcome {
    conn.send_packet(what, packet);
    conn.nxt = conn.nxt.wrapping_add(payload.len() as u32);
    conn.read_echo(payload)
        .map_err(|error| format!("{what}: {error}"))
}

fn offset(words: u8) -> impl Fn(&mut Vec<u8>) {
    move |packet| {
        packet[TCP + 12] = words << 4;
        repair_tcp(packet);
    }
}

fn data_offset(cx: &Cx<'_>) -> Outcome {
    broken(
        cx,
        &[
            ("data offset 0", &offset(0)),
            ("data offset 1", &offset(1)),
            ("data offset 4", &offset(4)),
            ("data offset 8, beyond the segment", &offset(8)),
            ("data offset 15, beyond the segment", &offset(15)),
        ],
    )
}

fn tcp_checksum(cx: &Cx<'_>) -> Outcome {
    broken(
        cx,
        &[
            ("a TCP checksum with a wrong bit", &|packet| {
                packet[TCP + 17] ^= 1
            }),
            ("TCP checksum 0", &|packet| {
                packet[TCP + 16..TCP + 18].fill(0)
            }),
            ("data with a wrong bit", &|packet| packet[TCP + 20] ^= 0x80),
            ("a sequence number with a wrong bit", &|packet| {
                packet[TCP + 7] ^= 4
            }),
            // The pseudo header's part of the sum.
            ("another source address", &|packet| {
                packet[15] ^= 1;
                repair_ip(packet, 5);
            }),
        ],
    )
}

fn ip_checksum(cx: &Cx<'_>) -> Outcome {
    broken(
        cx,
        &[
            ("an IP checksum with a wrong bit", &|packet| {
                packet[10] ^= 0x10
            }),
            ("IP checksum 0", &|packet| packet[10..12].fill(0)),
            ("a time to live with a wrong bit", &|packet| packet[8] ^= 1),
        ],
    )
}

fn total_length(change: impl Fn(u16) -> u16) -> impl Fn(&mut Vec<u8>) {
    move |packet| {
        let len = change(packet.len() as u16);
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        repair_ip(packet, 5);
    }
}

fn header_length(words: u8) -> impl Fn(&mut Vec<u8>) {
    move |packet| {
        packet[0] = 0x40 | words;
        repair_ip(packet, usize::from(words).clamp(5, 12));
    }
}

fn ip_lengths(cx: &Cx<'_>) -> Outcome {
    broken(
        cx,
        &[
            ("total length 0", &total_length(|_| 0)),
            ("total length 19", &total_length(|_| 19)),
            ("total length without TCP", &total_length(|_| 20)),
            ("total length within the TCP header", &total_length(|_| 30)),
            ("total length one less", &total_length(|len| len - 1)),
            ("total length one more", &total_length(|len| len + 1)),
            ("total length 65535", &total_length(|_| u16::MAX)),
            ("header length 0", &header_length(0)),
            ("header length 4", &header_length(4)),
            ("header length 15", &header_length(15)),
            ("version 5", &|packet| {
                packet[0] = 0x55;
                repair_ip(packet, 5);
            }),
        ],
    )
}

fn cut_short(cx: &Cx<'_>) -> Outcome {
    broken(
        cx,
        &[
            ("one byte of a packet", &|packet| packet.truncate(1)),
            ("19 bytes of a packet", &|packet| packet.truncate(19)),
            ("the IP header alone", &|packet| packet.truncate(20)),
            ("half of the TCP header", &|packet| packet.truncate(30)),
            ("all but the last byte", &|packet| {
                packet.truncate(packet.len() - 1)
            }),
        ],
    )
}

fn broken_syn(cx: &Cx<'_>) -> Outcome {
    let breaks: [Break<'_>; 4] = [
        ("a SYN with a wrong checksum", &|packet| {
            packet[TCP + 17] ^= 1
        }),
        ("a SYN with a wrong IP checksum", &|packet| packet[10] ^= 1),
        ("a SYN with data offset 4", &offset(4)),
        ("a SYN with data offset 15", &offset(15)),
    ];
    for (what, break_it) in breaks {
        opens_after(cx, |conn| {
            let mut packet = conn.syn().packet(conn.from(), conn.to);
            break_it(&mut packet);
            conn.send_packet(what, &packet);
            conn.refuse(BRIEF, &format!("an answer to {what}"), |_| true)
        })?;
    }
    Ok(())
}

/// RFC 894: what follows the packet in its frame is none of IP's business.
fn padding(cx: &Cx<'_>) -> Outcome {
    let (mut conn, _session) = cx.session(Offer::ALL, "e")?;
    for byte in [0, 0xff] {
        let mut packet = packet(&conn, b"short");
        packet.extend([byte; 20]);
        rare(
            &mut conn,
            "a packet with padding behind it",
            &packet,
            b"short",
        )?;
    }
    Ok(())
}

/// RFC 1122 §3.2.1.8: they are let through, or ignored.
fn ip_options(cx: &Cx<'_>) -> Outcome {
    let (mut conn, _session) = cx.session(Offer::ALL, "e")?;
    // No operation; end of list; router alert; the longest list.
    let options: [&[u8]; 4] = [&[1, 1, 1, 1], &[1, 0, 0, 0], &[148, 4, 0, 0], &[1; 40]];
    for options in options {
        let mut packet = packet(&conn, b"with options");
        packet.splice(TCP..TCP, options.iter().copied());
        let words = 5 + options.len() / 4;
        packet[0] = 0x40 | words as u8;
        let len = packet.len() as u16;
        packet[2..4].copy_from_slice(&len.to_be_bytes());
        repair_ip(&mut packet, words);
        rare(
            &mut conn,
            &format!("a packet with IP options {options:?}"),
            &packet,
            b"with options",
        )?;
    }
    Ok(())
}

fn full_options(cx: &Cx<'_>) -> Outcome {
    let (mut conn, _session) = cx.session(Offer::ALL, "e")?;
    let mut segment = conn.segment().flags(ACK | PSH).payload(b"data");
    let padding = vec![1; 40 - segment.options.len()];
    segment.options = [padding, segment.options].concat();
    let packet = segment.packet(conn.from(), conn.to);
    rare(&mut conn, "a segment with data offset 15", &packet, b"data")
}

/// Whatever becomes of fragments: their data is there once after it was sent whole again.
fn fragments(cx: &Cx<'_>) -> Outcome {
    let (mut conn, _session) = cx.session(Offer::ALL, "e")?;
    let data = super::reassembly::letters(800);
    for (number, reversed) in [(1u16, false), (2, true)] {
        let whole = packet(&conn, &data);
        let mut parts: Vec<_> = whole[TCP..].chunks(400).enumerate().collect();
        let last = parts.len() - 1;
        if reversed {
            parts.reverse();
        }
        for (place, part) in parts {
            let mut fragment = [&whole[..TCP], part].concat();
            let len = fragment.len() as u16;
            let more = if place < last { 0x2000 } else { 0 };
            let position = more | (place * 400 / 8) as u16;
            fragment[2..4].copy_from_slice(&len.to_be_bytes());
            fragment[4..6].copy_from_slice(&number.to_be_bytes());
            fragment[6..8].copy_from_slice(&position.to_be_bytes());
            repair_ip(&mut fragment, 5);
            conn.send_packet("a fragment", &fragment);
        }
        conn.drain(BRIEF);
        conn.echo(&data)?;
    }
    conn.alive()
}
