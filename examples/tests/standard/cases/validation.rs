//! Which segments are taken, and when they are acknowledged (RFC 9293 §3.10.7.4, §3.8.6.3; RFC 5961 §5; RFC 5681 §4.2).

use std::time::{Duration, Instant};

use super::reset::KERNEL_PAUSE;
use super::{Case, everywhere};
use crate::conn::{Conn, Offer};
use crate::cx::{BRIEF, Cx, Outcome, SOON, ensure};
use crate::segment::{ACK, FIN, PSH, URG};

pub const CASES: &[Case] = &[
    everywhere("ACK of what was never sent: ACK", ack_of_unsent),
    everywhere("ACK that is too old: ACK (RFC 5961)", too_old_ack),
    everywhere("data with a somewhat old ACK", old_ack),
    everywhere("segments without ACK are dropped", without_ack),
    everywhere("data before the window: ACK", before_window),
    everywhere("data behind the window: ACK", behind_window),
    everywhere("keep-alive probe answered", keep_alive),
    everywhere("delayed ACK within 500 ms", delayed_ack),
    everywhere("two full segments: ACK at once", second_segment),
    everywhere("a burst is acknowledged without a timer", burst),
];

/// A segment's data was not taken: what comes now stands in its place.
fn not_taken(conn: &mut Conn<'_>) -> Outcome {
    conn.drain(BRIEF / 5);
    conn.alive()
}

fn ack_of_unsent(cx: &Cx<'_>) -> Outcome {
    let (mut conn, _session) = cx.session(Offer::MSS, "e")?;
    conn.alive()?;
    conn.drain(BRIEF);
    for ahead in [1, 1_000, 1 << 20] {
        let segment = conn.segment().acknowledging(conn.rcv.wrapping_add(ahead));
        conn.send(&segment);
        let (nxt, rcv) = (conn.nxt, conn.rcv);
        let answer = conn.expect_within(5 * BRIEF, "ACK", |seen| {
            seen.is_bare_ack() && seen.ack == nxt && seen.seq == rcv
        });
        let why = "RFC 9293 §3.10.7.4: 'If the ACK acks something not yet sent (SEG.ACK > SND.NXT), then send an ACK'; \
                   Linux drops it silently in ESTABLISHED";
        cx.differs(why, answer)?;
        let segment = segment.flags(ACK | PSH).payload(b"with data");
        conn.send(&segment);
        not_taken(&mut conn)?;
    }
    Ok(())
}

/// RFC 5961 §5.2: older than the largest window that the client has announced.
fn too_old_ack(cx: &Cx<'_>) -> Outcome {
    let (mut conn, _session) = cx.session(Offer::MSS, "e")?;
    conn.alive()?;
    conn.drain(BRIEF);
    let old = conn.rcv.wrapping_sub(65_535 + 1_000);
    let segment = conn
        .segment()
        .acknowledging(old)
        .flags(ACK | PSH)
        .payload(b"injected");
    conn.send(&segment);
    conn.expect_ack("challenge ACK")?;
    not_taken(&mut conn)
}

/// RFC 5961 §5.2: within that window the ACK is a duplicate, and the data counts.
fn old_ack(cx: &Cx<'_>) -> Outcome {
    let (mut conn, _session) = cx.session(Offer::MSS, "e")?;
    conn.echo(&[7; 5_000])?;
    let segment = conn
        .segment()
        .acknowledging(conn.rcv.wrapping_sub(4_000))
        .flags(ACK | PSH)
        .payload(b"data");
    conn.send(&segment);
    conn.nxt = conn.nxt.wrapping_add(4);
    conn.read_echo(b"data")?;
    conn.alive()
}

/// RFC 9293 §3.10.7.4, fifth.
fn without_ack(cx: &Cx<'_>) -> Outcome {
    let (mut conn, _session) = cx.session(Offer::ALL, "e")?;
    conn.alive()?;
    for flags in [0, PSH, FIN, FIN | PSH | URG] {
        let segment = conn.segment().flags(flags).payload(b"no ACK");
        conn.send(&segment);
        conn.refuse(BRIEF, "RST or more", |seen| !seen.is_bare_ack())?;
    }
    not_taken(&mut conn)
}

/// RFC 9293 §3.10.7.4, first.
fn before_window(cx: &Cx<'_>) -> Outcome {
    let (mut conn, _session) = cx.session(Offer::ALL, "e")?;
    conn.echo(&[7; 1_000])?;
    conn.drain(BRIEF);
    for back in [1_000, 100, 1] {
        let segment = conn
            .segment()
            .seq(conn.nxt.wrapping_sub(back))
            .flags(ACK | PSH)
            .payload(&vec![7; back as usize]);
        conn.send(&segment);
        conn.expect_ack("ACK")?;
    }
    conn.alive()
}

fn behind_window(cx: &Cx<'_>) -> Outcome {
    let (mut conn, _session) = cx.session(Offer::SACK, "e")?;
    conn.drain(BRIEF);
    for (beyond, flags) in [(0, PSH), (1_000, PSH), (1 << 29, PSH), (1_000, FIN)] {
        let segment = conn
            .segment()
            .seq(conn.edge.wrapping_add(beyond))
            .flags(ACK | flags)
            .payload(b"beyond");
        conn.send(&segment);
        let answer = conn.expect_ack("ACK")?;
        ensure!(
            answer.options.sack.is_empty(),
            "data behind the window is taken: {}",
            conn.describe(&answer)
        );
    }
    conn.alive()
}

/// RFC 9293 §3.8.4: without data, or with one byte of garbage.
fn keep_alive(cx: &Cx<'_>) -> Outcome {
    for offer in [Offer::MSS, Offer::ALL] {
        let (mut conn, _session) = cx.session(offer, "e")?;
        conn.alive()?;
        conn.drain(BRIEF);
        for garbage in [&b""[..], b"?", b""] {
            let probe = conn
                .segment()
                .seq(conn.nxt.wrapping_sub(1))
                .payload(garbage);
            conn.send(&probe);
            conn.expect_ack("answer to the probe")?;
            std::thread::sleep(KERNEL_PAUSE);
        }
        conn.alive()?;
    }
    Ok(())
}

/// The shortest time from a sending to its ACK, of several: a busy machine makes single ones longer.
fn shortest_ack(conn: &mut Conn<'_>, data: &[u8]) -> Outcome<Duration> {
    let mut shortest = Duration::MAX;
    for _ in 0..10 {
        conn.data(data);
        let sent = Instant::now();
        let nxt = conn.nxt;
        let ack = conn.expect("ACK", |seen| seen.ack == nxt)?;
        shortest = shortest.min(ack.at.saturating_duration_since(sent));
    }
    Ok(shortest)
}

/// RFC 9293 §3.8.6.3: MUST-40.
fn delayed_ack(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::ALL, "R")?;
    let shortest = shortest_ack(&mut conn, b"one small segment")?;
    ensure!(
        shortest < Duration::from_millis(500),
        "the ACK takes {shortest:?}"
    );
    session.received(170, SOON).map(drop)
}

/// RFC 5681 §4.2: nobody waits for a timer then, whose delay would be 40 ms or more.
fn second_segment(cx: &Cx<'_>) -> Outcome {
    let (mut conn, _session) = cx.session(Offer::ALL, "R")?;
    let two = vec![7; 2 * conn.mss()];
    let shortest = shortest_ack(&mut conn, &two)?;
    ensure!(
        shortest < Duration::from_millis(30),
        "the ACK takes {shortest:?}"
    );
    Ok(())
}

/// RFC 5681 §4.2: "at least every second full-sized segment", of those that are taken one by one; a burst that is taken as a
/// whole, as hosts do that merge segments on receipt, is acknowledged as a whole. None waits for a timer.
fn burst(cx: &Cx<'_>) -> Outcome {
    let (mut conn, _session) = cx.session(Offer::ALL, "R")?;
    let many = vec![7; 40 * conn.mss()];
    let (head, rest) = many.split_at(many.len() / 2);
    let mut acks = Vec::new();
    for part in [head, rest] {
        conn.data(part);
        let end = Instant::now() + SOON;
        while acks.last() != Some(&conn.nxt) {
            let left = end.saturating_duration_since(Instant::now());
            acks.push(conn.expect_within(left, "ACK of the burst", |_| true)?.ack);
        }
    }
    acks.dedup();
    ensure!(acks.len() >= 2, "{} ACKs for 40 segments", acks.len());
    Ok(())
}
