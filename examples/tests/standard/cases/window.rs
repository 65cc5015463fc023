//! Windows of either side (RFC 9293 §3.8.6).

use std::time::Duration;

use super::reassembly::letters;
use super::{Case, everywhere, patiently};
use crate::conn::{Conn, Offer};
use crate::cx::{BRIEF, Cx, Outcome, SOON, ensure};
use crate::segment::{ACK, PSH};

pub const CASES: &[Case] = &[
    everywhere("windows of 1 and 100 bytes", tiny),
    everywhere("a window that grows", growing),
    everywhere("zero window: probes, then reopening", zero),
    everywhere("the window of an older ACK does not count", older_ack),
    everywhere("the last segment has PSH", push),
    everywhere("window closed on data in flight", closed_in_flight),
    everywhere("our window closes, is probed, and reopens", server_zero),
];

/// The most that an application and what is before it may hold.
const MOST: usize = 64 << 20;

/// That no byte is beyond the window is looked at for every connection.
fn tiny(cx: &Cx<'_>) -> Outcome {
    for (window, n) in [(1, 6), (100, 1_000)] {
        let mut conn = cx.conn(Offer::MSS);
        conn.window = window;
        conn.connect()?;
        let session = cx.start(&mut conn, &format!("w,s{n}"))?;
        session.signal();
        conn.read_pattern_to_end(0, n)
            .map_err(|error| format!("window {window}: {error}"))?;
    }
    Ok(())
}

fn growing(cx: &Cx<'_>) -> Outcome {
    let mut conn = cx.conn(Offer::SACK);
    conn.window = 10;
    conn.connect()?;
    let session = cx.start(&mut conn, "w,s100000")?;
    session.signal();
    let mut read = 0;
    for window in [10, 100, 537, 1_459, 2_000, 10_000, u16::MAX] {
        conn.window = window;
        conn.acknowledge();
        let n = 2 * usize::from(window).min(20_000);
        conn.read_pattern(read, n)
            .map_err(|error| format!("window {window}: {error}"))?;
        read += n;
    }
    conn.read_pattern_to_end(read, 100_000 - read)
}

/// RFC 9293 §3.8.6.1: probes at growing intervals, for as long as they are answered.
fn zero(cx: &Cx<'_>) -> Outcome {
    [Offer::MSS, Offer::ALL]
        .into_iter()
        .try_for_each(|offer| patiently(|| probes(cx, offer)))
}

fn probes(cx: &Cx<'_>, offer: Offer) -> Outcome {
    let mut conn = cx.open(offer)?;
    conn.window = 0;
    let session = cx.start(&mut conn, "w,s3000")?;
    conn.drain(BRIEF);
    session.signal();
    let rcv = conn.rcv;
    let mut pauses = Vec::new();
    let mut last = None;
    for _ in 0..4 {
        let probe = conn.expect("probe", |seen| {
            seen.seq == rcv.wrapping_sub(1) || seen.has_data()
        })?;
        conn.acknowledge();
        pauses.extend(last.map(|last| probe.at - last));
        last = Some(probe.at);
    }
    ensure!(
        pauses[0] > Duration::from_millis(100),
        "probes after {pauses:?}"
    );
    ensure!(
        pauses[2] > pauses[0].mul_f64(1.5),
        "probes after {pauses:?}"
    );
    conn.window = u16::MAX;
    conn.acknowledge();
    conn.read_pattern_to_end(0, 3_000)
}

/// RFC 9293 §3.10.7.4: SND.WL1 and SND.WL2 tell which segment set the window last.
fn older_ack(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::MSS, "w,s5000,w,s5000")?;
    session.signal();
    conn.read_pattern(0, 5_000)?;
    let older = conn
        .segment()
        .acknowledging(conn.rcv.wrapping_sub(1_000))
        .window(0);
    conn.send(&older);
    conn.drain(BRIEF);
    session.signal();
    let rcv = conn.rcv;
    conn.expect("data", |seen| seen.seq == rcv && seen.payload.len() > 1)?;
    conn.read_pattern_to_end(0, 5_000)
}

/// RFC 9293 §3.9.1.2, MUST-60.
fn push(cx: &Cx<'_>) -> Outcome {
    for n in [1, 1_000, 5_000] {
        let (mut conn, session) = cx.session(Offer::ALL, &format!("w,s{n},w"))?;
        session.signal();
        let end = conn.rcv.wrapping_add(n);
        let last = conn.expect("last segment", |seen| seen.data_end() == end)?;
        ensure!(
            last.has(PSH),
            "the last segment of {n} bytes is {}",
            conn.describe(&last)
        );
    }
    Ok(())
}

/// The client takes its window back to what has arrived: it is probed, and nothing is lost.
fn closed_in_flight(cx: &Cx<'_>) -> Outcome {
    let mut conn = cx.open(Offer::ALL)?;
    conn.window = 100;
    let session = cx.start(&mut conn, "w,s100000")?;
    session.signal();
    conn.read_pattern(0, 5_000)?;
    conn.drain(BRIEF);
    conn.advance();
    let came = conn.offset(conn.rcv);
    conn.window = 0;
    conn.acknowledge();
    for _ in 0..2 {
        conn.expect("probe", |_| true)?;
        conn.acknowledge();
    }
    conn.advance();
    ensure!(
        conn.offset(conn.rcv) == came,
        "data came into a closed window"
    );
    conn.window = u16::MAX;
    conn.acknowledge();
    conn.read_pattern_to_end(5_000, 95_000)
}

/// Sends letters until the window is closed; how many.
fn fill(conn: &mut Conn<'_>) -> Outcome<usize> {
    let mut sent = 0;
    let piece = letters(conn.mss());
    while sent < MOST {
        let room = conn.edge.wrapping_sub(conn.nxt) as usize;
        if room == 0 {
            conn.wait_acknowledged()?;
            conn.drain(BRIEF);
            if conn.edge == conn.nxt {
                return Ok(sent);
            }
            continue;
        }
        for _ in 0..16 {
            let room = conn.edge.wrapping_sub(conn.nxt) as usize;
            let segment = conn
                .segment()
                .flags(ACK | PSH)
                .payload(&piece[..room.min(piece.len())]);
            if segment.payload.is_empty() {
                break;
            }
            conn.send(&segment);
            conn.nxt = conn.nxt.wrapping_add(segment.len());
            sent += segment.payload.len();
        }
        conn.wait_acknowledged()?;
    }
    Err(format!(
        "the window is still open after {sent} bytes that nobody reads"
    ))
}

/// RFC 9293 §3.8.6.1: a closed window is told to who probes, and its opening without being asked.
fn server_zero(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::ALL, "w,R")?;
    let sent = fill(&mut conn)?;
    let (edge, rcv) = (conn.nxt, conn.rcv);
    let probes = [
        conn.segment().payload(b"?").flags(ACK | PSH),
        conn.segment().seq(edge.wrapping_sub(1)),
    ];
    for probe in probes {
        conn.send(&probe);
        let answer = conn.expect("answer to the probe", |seen| {
            seen.is_bare_ack() && seen.seq == rcv
        })?;
        ensure!(
            answer.ack == edge && answer.window == 0,
            "the answer is {}",
            conn.describe(&answer)
        );
        std::thread::sleep(super::reset::KERNEL_PAUSE);
    }
    session.signal();
    let mss = conn.mss() as u16;
    conn.expect("opening of the window", |seen| {
        seen.ack == edge && seen.window > 0
    })?;
    let open = conn.edge.wrapping_sub(edge);
    ensure!(open >= u32::from(mss), "the window opens by {open} bytes");
    let more = letters(20_000);
    for piece in more.chunks(conn.mss()) {
        conn.data(piece);
        conn.wait_acknowledged()?;
    }
    conn.fin();
    conn.wait_acknowledged()?;
    ensure!(
        session.end(SOON)?.is_ok(),
        "the application's session failed"
    );
    let received = session.received(sent + more.len(), SOON)?;
    ensure!(
        received.len() == sent + more.len(),
        "the application got {} bytes of {}",
        received.len(),
        sent + more.len()
    );
    ensure!(received.ends_with(&more), "the application got other bytes");
    Ok(())
}
