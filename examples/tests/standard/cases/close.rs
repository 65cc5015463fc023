//! Closing, from either side and both (RFC 9293 §3.6, §3.10.7.4).

use super::reassembly::letters;
use super::{Case, everywhere, gone, patiently, unmigrated};
use crate::app::Session;
use crate::conn::{Conn, Offer};
use crate::cx::{BRIEF, Cx, Outcome, SOON, ensure};
use crate::segment::{ACK, FIN, PSH, SYN, after};

pub const CASES: &[Case] = &[
    unmigrated("FIN before any request", without_request),
    everywhere("request with FIN", request_with_fin),
    everywhere("FIN with data", fin_with_data),
    everywhere("half close: 100 kB after the client's FIN", half_close),
    everywhere("the server closes first", server_first),
    everywhere("data in FIN-WAIT-1 and FIN-WAIT-2", data_in_fin_wait),
    everywhere("simultaneous close", simultaneous),
    everywhere("FIN repeated in TIME-WAIT: ACK", repeated_fin),
    everywhere("FIN repeated in CLOSE-WAIT: ACK", fin_in_close_wait),
    everywhere("data behind the client's FIN is not taken", behind_fin),
    everywhere(
        "new SYN in TIME-WAIT: a new connection",
        new_syn_in_time_wait,
    ),
    everywhere("old SYN in TIME-WAIT: ACK", old_syn_in_time_wait),
    everywhere("the server's FIN is repeated (LAST-ACK)", last_ack),
    everywhere("after LAST-ACK the connection is gone", gone_after_last_ack),
];

/// The client has nothing to ask for: the server ends too.
fn without_request(cx: &Cx<'_>) -> Outcome {
    let mut conn = cx.open(Offer::ALL)?;
    conn.fin();
    conn.read_to_end(0)?;
    conn.wait_acknowledged()?;
    gone(&mut conn)
}

fn request_with_fin(cx: &Cx<'_>) -> Outcome {
    let mut conn = cx.open(Offer::ALL)?;
    let session = cx.bed.registry.session();
    let turn = cx.turn()?;
    let segment = conn
        .segment()
        .flags(PSH | FIN | ACK)
        .payload(&session.request("R,s5000"));
    conn.send(&segment);
    conn.nxt = conn.nxt.wrapping_add(segment.len());
    turn.settle(&session)?;
    conn.wait_acknowledged()?;
    conn.read_pattern_to_end(0, 5_000)?;
    ensure!(
        session.end(SOON)?.is_ok(),
        "the application's session failed"
    );
    gone(&mut conn)
}

fn fin_with_data(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::ALL, "R")?;
    let data = letters(1_000);
    let segment = conn.segment().flags(PSH | FIN | ACK).payload(&data);
    conn.send(&segment);
    conn.nxt = conn.nxt.wrapping_add(segment.len());
    conn.wait_acknowledged()?;
    ensure!(
        session.end(SOON)?.is_ok(),
        "the application's session failed"
    );
    ensure!(
        session.received(1_000, SOON)? == data,
        "the application got other bytes"
    );
    conn.read_to_end(0)?;
    gone(&mut conn)
}

fn half_close(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::ALL, "R,s100000")?;
    conn.fin();
    conn.read_pattern_to_end(0, 100_000)?;
    conn.wait_acknowledged()?;
    ensure!(
        session.end(SOON)?.is_ok(),
        "the application's session failed"
    );
    gone(&mut conn)
}

/// A connection that the server has closed, whose FIN we have seen and not acknowledged.
fn closed_by_server<'a>(cx: &'a Cx<'_>, offer: Offer, steps: &str) -> Outcome<(Conn<'a>, Session)> {
    let (mut conn, session) = cx.session(offer, steps)?;
    session.signal();
    let rcv = conn.rcv;
    conn.expect("FIN", |seen| {
        seen.flags & !PSH == FIN | ACK && seen.seq == rcv
    })?;
    Ok((conn, session))
}

/// The server is in TIME-WAIT.
fn in_time_wait<'a>(cx: &'a Cx<'_>, offer: Offer) -> Outcome<Conn<'a>> {
    let (mut conn, _session) = closed_by_server(cx, offer, "w,c")?;
    conn.advance();
    conn.acknowledge();
    conn.fin();
    conn.wait_acknowledged()?;
    Ok(conn)
}

fn server_first(cx: &Cx<'_>) -> Outcome {
    in_time_wait(cx, Offer::ALL)?;
    in_time_wait(cx, Offer::MSS).map(drop)
}

fn data_in_fin_wait(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = closed_by_server(cx, Offer::ALL, "w,h,R")?;
    let data = letters(10_000);
    // The FIN is not acknowledged yet, then it is.
    conn.data(&data[..5_000]);
    conn.wait_acknowledged()?;
    conn.advance();
    conn.acknowledge();
    conn.data(&data[5_000..]);
    conn.wait_acknowledged()?;
    conn.fin();
    conn.wait_acknowledged()?;
    ensure!(
        session.end(SOON)?.is_ok(),
        "the application's session failed"
    );
    ensure!(
        session.received(10_000, SOON)? == data,
        "the application got other bytes"
    );
    Ok(())
}

/// The FINs cross: each end acknowledges the other's (CLOSING), and the server waits.
fn simultaneous(cx: &Cx<'_>) -> Outcome {
    for offer in [Offer::MSS, Offer::ALL] {
        let (mut conn, _session) = closed_by_server(cx, offer, "w,c")?;
        conn.fin();
        conn.wait_acknowledged()?;
        conn.advance();
        conn.acknowledge();
        conn.drain(BRIEF);
        repeat_fin(&mut conn)?;
    }
    Ok(())
}

fn repeat_fin(conn: &mut Conn<'_>) -> Outcome {
    let fin = conn
        .segment()
        .flags(FIN | ACK)
        .seq(conn.nxt.wrapping_sub(1));
    conn.send(&fin);
    conn.expect_ack("ACK of the repeated FIN").map(drop)
}

fn repeated_fin(cx: &Cx<'_>) -> Outcome {
    for offer in [Offer::MSS, Offer::ALL] {
        let mut conn = in_time_wait(cx, offer)?;
        conn.drain(BRIEF);
        repeat_fin(&mut conn)?;
    }
    Ok(())
}

fn fin_in_close_wait(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::ALL, "R,w,s1000")?;
    conn.fin();
    conn.wait_acknowledged()?;
    conn.drain(BRIEF);
    repeat_fin(&mut conn)?;
    session.signal();
    conn.read_pattern_to_end(0, 1_000)
}

/// RFC 9293 §3.10.7.4, seventh: "This should not occur".
fn behind_fin(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::ALL, "R,w,s1000")?;
    conn.data(b"all of it");
    conn.fin();
    conn.wait_acknowledged()?;
    let nxt = conn.nxt;
    conn.data(b"more");
    conn.nxt = nxt;
    conn.refuse(BRIEF, "ACK of it", |seen| after(seen.ack, nxt))?;
    session.signal();
    conn.read_pattern_to_end(0, 1_000)?;
    ensure!(
        session.end(SOON)?.is_ok(),
        "the application's session failed"
    );
    ensure!(
        session.received(9, SOON)? == b"all of it",
        "the application got other bytes"
    );
    Ok(())
}

/// RFC 9293 §3.10.7.4, fourth, TIME-WAIT; RFC 6191: a greater number, or a later TSval.
fn new_syn_in_time_wait(cx: &Cx<'_>) -> Outcome {
    for offer in [Offer::MSS, Offer::ALL] {
        let conn = in_time_wait(cx, offer)?;
        let (port, iss) = (conn.port, conn.nxt.wrapping_add(100_000));
        // Its TSval is later by a millisecond at least.
        std::thread::sleep(BRIEF / 10);
        let mut conn = conn.renew_from(port, Some(iss));
        conn.connect()?;
        cx.start(&mut conn, "e")?;
        conn.alive()?;
    }
    Ok(())
}

fn old_syn_in_time_wait(cx: &Cx<'_>) -> Outcome {
    let mut conn = in_time_wait(cx, Offer::MSS)?;
    conn.drain(BRIEF);
    let syn = conn.syn().seq(conn.nxt.wrapping_sub(100_000));
    conn.send(&syn);
    let (nxt, rcv) = (conn.nxt, conn.rcv);
    let answer = conn.expect("answer", |_| true)?;
    ensure!(!answer.has(SYN), "an old SYN opens a connection");
    ensure!(
        answer.is_bare_ack() && answer.ack == nxt && answer.seq == rcv,
        "the answer is {}",
        conn.describe(&answer)
    );
    Ok(())
}

fn last_ack(cx: &Cx<'_>) -> Outcome {
    patiently(|| fin_backs_off(cx))
}

fn fin_backs_off(cx: &Cx<'_>) -> Outcome {
    let (mut conn, _session) = cx.session(Offer::MSS, "R")?;
    conn.fin();
    let rcv = conn.rcv;
    let mut times = Vec::new();
    for _ in 0..3 {
        let fin = conn.expect("FIN", |seen| seen.has(FIN))?;
        ensure!(
            fin.seq == rcv,
            "the FIN's number is off by {}",
            fin.seq.wrapping_sub(rcv).cast_signed()
        );
        times.push(fin.at);
    }
    let (first, second) = (times[1] - times[0], times[2] - times[1]);
    ensure!(
        second > first.mul_f64(1.3),
        "the FIN is repeated after {first:?} and {second:?}"
    );
    conn.advance();
    // The ACK of the FIN ends it; the next segment finds nothing.
    conn.acknowledge();
    gone(&mut conn)
}

fn gone_after_last_ack(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::ALL, "R")?;
    conn.fin();
    conn.read_to_end(0)?;
    ensure!(
        session.end(SOON)?.is_ok(),
        "the application's session failed"
    );
    gone(&mut conn)?;
    // The port is free for another connection, whatever its number.
    let (port, iss) = (conn.port, conn.iss.wrapping_sub(1 << 30));
    let mut conn = conn.renew_from(port, Some(iss));
    conn.connect()?;
    cx.start(&mut conn, "e")?;
    conn.alive()
}
