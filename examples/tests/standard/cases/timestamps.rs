//! Timestamps (RFC 7323 §3 to §5).

use std::io::ErrorKind;
use std::time::{Duration, Instant};

use super::{Case, everywhere};
use crate::conn::{Conn, Offer, timestamp};
use crate::cx::{BRIEF, Cx, Outcome, SOON, ensure};
use crate::segment::{ACK, PSH, RST, Segment};

pub const CASES: &[Case] = &[
    everywhere("TSecr is the TSval that counts", echo),
    everywhere("old TSval: dropped, ACK (PAWS)", paws),
    everywhere("RST with an old TSval counts", paws_not_for_rst),
    everywhere("timestamps that wrap", wrap),
    everywhere("segment without timestamps: dropped", missing),
    everywhere("TSval follows the time, on both servers", clock),
];

/// A segment with this TSval.
fn stamped(conn: &Conn<'_>, value: u32) -> Segment {
    let options = [&[1, 1], &timestamp(value, conn.recent)[..]].concat();
    conn.segment().flags(ACK | PSH).options(&options)
}

/// RFC 7323 §4.3: that of the last segment that moved the left edge of the window.
fn echo(cx: &Cx<'_>) -> Outcome {
    let (mut conn, _session) = cx.session(Offer::TIMESTAMPS, "R")?;
    conn.drain(BRIEF);
    let (base, now) = (conn.nxt, conn.tsval());
    let steps = [
        // What is sent, with which TSval; what is acknowledged, and which TSecr that has.
        (0, now + 10_000, 500, now + 10_000),
        (1_000, now + 10_500, 500, now + 10_000),
        (2_000, now + 10_600, 500, now + 10_000),
        (500, now + 10_700, 1_500, now + 10_700),
        (1_500, now + 10_800, 2_500, now + 10_800),
    ];
    for (offset, value, ack, echo) in steps {
        let segment = stamped(&conn, value)
            .seq(base.wrapping_add(offset))
            .payload(&[7; 500]);
        conn.send(&segment);
        let seen = conn.expect("ACK", |seen| seen.is_bare_ack())?;
        let came = seen
            .options
            .timestamp
            .map(|(_, echo)| echo.wrapping_sub(now));
        ensure!(
            seen.ack.wrapping_sub(base) == ack,
            "ACK {} for data at {offset}",
            seen.ack.wrapping_sub(base)
        );
        ensure!(
            came == Some(echo - now),
            "TSecr {came:?} for data at {offset}, not {}",
            echo - now
        );
    }
    conn.nxt = base.wrapping_add(2_500);
    Ok(())
}

/// RFC 7323 §5.3, R1.
fn paws(cx: &Cx<'_>) -> Outcome {
    let (mut conn, _session) = cx.session(Offer::ALL, "e")?;
    conn.alive()?;
    conn.drain(BRIEF);
    for back in [5_000, 500_000] {
        let segment = stamped(&conn, conn.tsval() - back).payload(b"from another life");
        conn.send(&segment);
        conn.expect_ack("ACK")?;
        conn.alive()?;
    }
    // From before the wrap of the clock.
    let segment = stamped(&conn, conn.tsval().wrapping_sub(1 << 30)).payload(b"much older");
    conn.send(&segment);
    conn.expect_ack("ACK")?;
    conn.alive()
}

/// RFC 7323 §5.3, R1: "and if the RST bit is not set".
fn paws_not_for_rst(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::ALL, "R")?;
    let reset = stamped(&conn, conn.tsval() - 5_000).flags(RST);
    conn.send(&reset);
    let end = session.end(SOON)?;
    ensure!(
        end == Err(ErrorKind::ConnectionReset),
        "the application's session ended with {end:?}"
    );
    Ok(())
}

/// RFC 7323 §5.2: TSvals are compared modulo 2^32.
fn wrap(cx: &Cx<'_>) -> Outcome {
    for clock in [u32::MAX - 300, (1 << 31) - 300, 0] {
        let mut conn = cx.conn(Offer::ALL);
        conn.clock = clock;
        conn.connect()?;
        cx.start(&mut conn, "e")?;
        for _ in 0..3 {
            conn.alive()?;
            std::thread::sleep(BRIEF);
        }
        conn.alive()?;
    }
    Ok(())
}

/// RFC 7323 §3.2.
fn missing(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::ALL, "R")?;
    conn.drain(BRIEF);
    let segment = conn
        .segment()
        .flags(ACK | PSH)
        .options(&[])
        .payload(b"data");
    conn.send(&segment);
    let end = conn.nxt.wrapping_add(4);
    let quiet = conn.refuse(BRIEF, "an ACK", |seen| seen.ack == end);
    let why = "RFC 7323 §3.2: 'If a non-<RST> segment is received without a TSopt, a TCP SHOULD silently drop the \
               segment'; Linux takes it";
    cx.differs(why, quiet)?;
    // "MUST NOT abort a TCP connection because any segment lacks an expected TSopt."
    conn.data(b"data");
    conn.wait_acknowledged()?;
    ensure!(
        session.received(4, SOON)? == b"data",
        "the application got other bytes"
    );
    Ok(())
}

/// RFC 7323 §5.4: a tick is 1 ms to 1 s long. That TSval never goes back is looked at for every connection.
fn clock(cx: &Cx<'_>) -> Outcome {
    let mut conn = cx.conn(Offer::ALL);
    let syn = conn.syn();
    conn.send(&syn);
    let first = conn
        .answer_syn()?
        .options
        .timestamp
        .map_or(0, |(value, _)| value);
    let start = Instant::now();
    conn.acknowledge();
    let session = cx.start(&mut conn, "w,s200000,e")?;
    session.signal();
    conn.read_pattern(0, 200_000)?;
    std::thread::sleep(Duration::from_secs(3));
    conn.alive()?;
    let took = start.elapsed().as_millis() as u32;
    let ticks = conn.recent.wrapping_sub(first);
    ensure!(
        (2..=took + took / 2 + 100).contains(&ticks),
        "{ticks} ticks in {took} ms"
    );
    let servers = if cx.is_migrated() { 2 } else { 1 };
    ensure!(
        conn.senders.len() == servers,
        "the segments come from {} servers",
        conn.senders.len()
    );
    Ok(())
}
