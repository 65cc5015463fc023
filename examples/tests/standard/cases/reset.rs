//! RST: sent for what belongs to no connection, and received (RFC 9293 §3.5.2, §3.10.7; RFC 5961).

use std::io::ErrorKind;
use std::net::SocketAddrV4;
use std::time::Duration;

use super::{Case, everywhere, gone, unmigrated};
use crate::bed::CLOSED_PORT;
use crate::conn::{Conn, Offer};
use crate::cx::{BRIEF, Cx, Outcome, SOON, ensure};
use crate::segment::{ACK, FIN, PSH, RST, SYN, Segment, URG};

pub const CASES: &[Case] = &[
    unmigrated("to a closed port without ACK: RST, ACK", closed_without_ack),
    unmigrated("to a closed port with ACK: RST", closed_with_ack),
    unmigrated("RST to a closed port: nothing", closed_with_rst),
    everywhere("RST with the exact number", exact),
    everywhere("RST in the window: challenge ACK (RFC 5961)", in_window),
    everywhere("RST outside the window: nothing", out_of_window),
    everywhere(
        "100 RSTs in the window: few challenge ACKs",
        challenge_limit,
    ),
    everywhere("SYN on a connection: challenge ACK (RFC 5961)", syn),
    everywhere("close with unread data: RST", close_with_unread),
    everywhere("the application aborts: RST", abort),
    everywhere("data after the application's close: RST", data_after_close),
];

/// The kernel answers so many milliseconds apart (`net.ipv4.tcp_invalid_ratelimit`).
pub(super) const KERNEL_PAUSE: Duration = Duration::from_millis(600);

fn to_closed_port<'a>(cx: &'a Cx<'_>) -> Conn<'a> {
    let mut conn = cx.conn(Offer::NONE);
    conn.to = SocketAddrV4::new(*conn.to.ip(), CLOSED_PORT);
    conn
}

/// RFC 9293 §3.10.7.1: `<SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>`.
fn closed_without_ack(cx: &Cx<'_>) -> Outcome {
    let mut conn = to_closed_port(cx);
    for flags in [SYN, SYN | PSH, SYN | FIN, 0, FIN, FIN | PSH | URG] {
        for payload in [&b""[..], b"ten bytes!"] {
            let segment = Segment {
                seq: conn.iss,
                flags,
                window: 1000,
                payload: payload.to_vec(),
                ..Segment::default()
            };
            conn.send(&segment);
            let reset = conn.expect("RST", |seen| seen.has(RST))?;
            let right = reset.flags == RST | ACK
                && reset.seq == 0
                && reset.ack == segment.seq.wrapping_add(segment.len());
            ensure!(
                right,
                "flags {flags:#x}, {} bytes: {}",
                payload.len(),
                conn.describe(&reset)
            );
        }
    }
    Ok(())
}

/// RFC 9293 §3.10.7.1: `<SEQ=SEG.ACK><CTL=RST>`.
fn closed_with_ack(cx: &Cx<'_>) -> Outcome {
    let mut conn = to_closed_port(cx);
    for flags in [ACK, SYN | ACK, FIN | ACK, PSH | ACK] {
        for ack in [0, 1, 0x8000_0000, u32::MAX] {
            let segment = Segment {
                seq: conn.iss,
                ack,
                flags,
                window: 1000,
                ..Segment::default()
            };
            conn.send(&segment);
            let reset = conn.expect("RST", |seen| seen.has(RST))?;
            ensure!(
                reset.flags == RST && reset.seq == ack,
                "flags {flags:#x}: {}",
                conn.describe(&reset)
            );
        }
    }
    Ok(())
}

fn closed_with_rst(cx: &Cx<'_>) -> Outcome {
    let mut conn = to_closed_port(cx);
    for flags in [RST, RST | ACK, RST | SYN, RST | FIN] {
        let segment = Segment {
            seq: conn.iss,
            flags,
            ..Segment::default()
        };
        conn.send(&segment);
    }
    conn.refuse(BRIEF, "an answer", |_| true)
}

/// The connection ends at once, for the application too; what comes later finds none.
fn exact(cx: &Cx<'_>) -> Outcome {
    for (offer, flags, payload) in [
        (Offer::MSS, RST, &b""[..]),
        (Offer::ALL, RST | ACK, b""),
        (Offer::ALL, RST | ACK, b"why"),
    ] {
        let (mut conn, session) = cx.session(offer, "R")?;
        let reset = conn.segment().flags(flags).payload(payload);
        conn.send(&reset);
        let end = session.end(SOON)?;
        ensure!(
            end == Err(ErrorKind::ConnectionReset),
            "the application's session ended with {end:?}"
        );
        gone(&mut conn)?;
    }
    Ok(())
}

/// RFC 5961 §3.2: anything but the exact number may be an attacker's guess.
fn in_window(cx: &Cx<'_>) -> Outcome {
    let (mut conn, _session) = cx.session(Offer::MSS, "e")?;
    conn.drain(BRIEF);
    for ahead in [1, 1_000, 10_000] {
        let reset = Segment {
            seq: conn.nxt.wrapping_add(ahead),
            flags: RST,
            ..Segment::default()
        };
        conn.send(&reset);
        conn.expect_ack("challenge ACK")?;
        std::thread::sleep(KERNEL_PAUSE);
    }
    conn.alive()
}

fn out_of_window(cx: &Cx<'_>) -> Outcome {
    let (mut conn, _session) = cx.session(Offer::MSS, "e")?;
    conn.drain(BRIEF);
    let beyond = conn
        .edge
        .wrapping_sub(conn.nxt)
        .wrapping_add(1_000)
        .cast_signed();
    for offset in [-1, -1_000, -100_000, beyond, i32::MAX, i32::MIN] {
        let reset = Segment {
            seq: conn.nxt.wrapping_add_signed(offset),
            flags: RST,
            ..Segment::default()
        };
        conn.send(&reset);
    }
    conn.refuse(BRIEF, "an answer", |_| true)?;
    conn.alive()
}

/// RFC 5961 §7: the answers are limited; its example is 10 in 5 seconds.
fn challenge_limit(cx: &Cx<'_>) -> Outcome {
    let (mut conn, _session) = cx.session(Offer::MSS, "e")?;
    conn.drain(BRIEF);
    for number in 0..100 {
        let reset = Segment {
            seq: conn.nxt.wrapping_add(10 + number),
            flags: RST,
            ..Segment::default()
        };
        conn.send(&reset);
    }
    let answers = conn.drain(BRIEF).len();
    ensure!((1..=20).contains(&answers), "{answers} answers to 100 RSTs");
    conn.alive()
}

/// RFC 5961 §4.2: whatever its sequence number.
fn syn(cx: &Cx<'_>) -> Outcome {
    for offer in [Offer::MSS, Offer::ALL] {
        let (mut conn, _session) = cx.session(offer, "e")?;
        conn.alive()?;
        conn.drain(BRIEF);
        for seq in [
            conn.nxt,
            conn.nxt.wrapping_add(100),
            conn.nxt.wrapping_sub(100_000),
            conn.iss,
        ] {
            // The last one as a SYN-ACK.
            let mut syn = conn.syn().seq(seq);
            if seq == conn.iss {
                syn = syn.flags(SYN | ACK).acknowledging(conn.rcv);
            }
            conn.send(&syn);
            let offset = seq.wrapping_sub(conn.nxt).cast_signed();
            conn.expect_ack(&format!("challenge ACK for a SYN at {offset}"))?;
            std::thread::sleep(KERNEL_PAUSE);
        }
        conn.alive()?;
    }
    Ok(())
}

/// A RST that a client believes has the number that it expects (RFC 5961 §3.2).
fn expect_reset(conn: &mut Conn<'_>) -> Outcome {
    let ended = conn.expect("RST or FIN", |seen| seen.has(RST) || seen.has(FIN))?;
    ensure!(ended.has(RST), "FIN in place of RST");
    conn.advance();
    let rcv = conn.rcv;
    ensure!(
        ended.seq == rcv,
        "the RST's number is off by {}",
        ended.seq.wrapping_sub(rcv).cast_signed()
    );
    gone(conn)
}

/// RFC 2525 §2.17, RFC 9293 §3.6.1.
fn close_with_unread(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::ALL, "w,c")?;
    conn.data(b"nobody will read this");
    conn.wait_acknowledged()?;
    // The bytes are where the application would read them.
    std::thread::sleep(BRIEF);
    session.signal();
    expect_reset(&mut conn)
}

fn abort(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::ALL, "w,x")?;
    session.signal();
    expect_reset(&mut conn)
}

/// RFC 9293 §3.6.1: nobody can read it any more.
fn data_after_close(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::ALL, "w,s1000,c")?;
    session.signal();
    conn.read_pattern_to_end(0, 1_000)?;
    ensure!(
        session.end(SOON)?.is_ok(),
        "the application's session failed"
    );
    conn.data(b"late");
    let rcv = conn.rcv;
    conn.expect("RST", |seen| seen.has(RST) && seen.seq == rcv)
        .map(drop)
}
