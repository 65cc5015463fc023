//! What happens around the request, while a server is chosen and the connection moves.

use std::time::Duration;

use super::reassembly::{letters, part};
use super::reset::KERNEL_PAUSE;
use super::{Case, everywhere, unmigrated};
use crate::app::Session;
use crate::conn::{Conn, Offer};
use crate::cx::{BRIEF, Cx, Outcome, SOON, ensure};
use crate::segment::{ACK, FIN, PSH, RST};

pub const CASES: &[Case] = &[
    everywhere(
        "request in pieces: reversed, overlapping, single bytes",
        in_pieces,
    ),
    everywhere("request with gaps for a second", slow_pieces),
    everywhere(
        "request in pieces, one of them repeated 100 times",
        repeated_pieces,
    ),
    everywhere("request repeated at once", repeated),
    everywhere("12 kB right behind the request", data_behind),
    everywhere(
        "12 kB and FIN right behind the request",
        data_and_fin_behind,
    ),
    everywhere("RST right behind the request", reset_behind),
    everywhere("SYN repeated behind the request: challenge ACK", syn_behind),
    unmigrated("request 4 s after the handshake", late),
];

/// A connection and what it will ask for.
fn prepared<'a>(cx: &'a Cx<'_>, steps: &str) -> Outcome<(Conn<'a>, Session, Vec<u8>)> {
    let conn = cx.open(Offer::ALL)?;
    let session = cx.bed.registry.session();
    let request = session.request(steps);
    Ok((conn, session, request))
}

/// What a device gathers before it knows the server arrives there whole and once.
fn in_pieces(cx: &Cx<'_>) -> Outcome {
    for (step, overlap) in [(10, 0), (10, 5), (1, 0), (3, 2)] {
        for reversed in [false, true] {
            let (mut conn, session, request) = prepared(cx, "e")?;
            let starts = (0..request.len()).step_by(step);
            let mut parts: Vec<_> = starts
                .map(|from| (from, request.len().min(from + step + overlap)))
                .collect();
            if reversed {
                parts.reverse();
                // What a server could not keep comes again.
                parts.extend(parts.clone());
                parts.extend(parts.clone().iter().rev());
            }
            let turn = cx.turn()?;
            let base = conn.nxt;
            for range in parts {
                let segment = part(&conn, base, &request, range);
                conn.send(&segment);
            }
            turn.settle(&session)?;
            conn.nxt = base.wrapping_add(request.len() as u32);
            conn.wait_acknowledged()?;
            conn.alive()?;
        }
    }
    Ok(())
}

/// The head comes late, behind what follows it.
fn slow_pieces(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session, request) = prepared(cx, "e")?;
    let base = conn.nxt;
    let turn = cx.turn()?;
    for range in [(20, request.len()), (10, 20), (0, 10)] {
        let segment = part(&conn, base, &request, range);
        conn.send(&segment);
        std::thread::sleep(2 * BRIEF);
    }
    turn.settle(&session)?;
    conn.nxt = base.wrapping_add(request.len() as u32);
    conn.wait_acknowledged()?;
    conn.alive()
}

/// What the first server has acknowledged stays acknowledged, while the second one gets the pieces in the client's order.
fn repeated_pieces(cx: &Cx<'_>) -> Outcome {
    for _ in 0..5 {
        let (mut conn, session, request) = prepared(cx, "e")?;
        let base = conn.nxt;
        let mut ranges: Vec<_> = (0..request.len())
            .step_by(5)
            .map(|from| (from, request.len().min(from + 5)))
            .collect();
        ranges.reverse();
        let turn = cx.turn()?;
        for range in ranges.iter().chain(std::iter::repeat_n(&(0, 5), 100)) {
            let segment = part(&conn, base, &request, *range);
            conn.send(&segment);
        }
        turn.settle(&session)?;
        conn.nxt = base.wrapping_add(request.len() as u32);
        conn.wait_acknowledged()?;
        conn.alive()?;
        conn.drain(BRIEF / 5);
    }
    Ok(())
}

fn repeated(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session, request) = prepared(cx, "e")?;
    let base = conn.nxt;
    let turn = cx.turn()?;
    for _ in 0..5 {
        conn.nxt = base;
        conn.data(&request);
    }
    turn.settle(&session)?;
    conn.wait_acknowledged()?;
    conn.nxt = base;
    conn.data(&request);
    conn.alive()
}

/// Within the window of the SYN-ACK.
fn send_behind(conn: &mut Conn<'_>, request: &[u8]) -> Outcome<Vec<u8>> {
    let data = letters(12_000);
    let room = conn.edge.wrapping_sub(conn.nxt) as usize;
    ensure!(
        room >= request.len() + data.len(),
        "a first window of {room} bytes is small"
    );
    conn.data(&[request, &data].concat());
    Ok(data)
}

fn data_behind(cx: &Cx<'_>) -> Outcome {
    for _ in 0..5 {
        let (mut conn, session, request) = prepared(cx, "e")?;
        let turn = cx.turn()?;
        let data = send_behind(&mut conn, &request)?;
        turn.settle(&session)?;
        conn.read_echo(&data)?;
        conn.alive()?;
    }
    Ok(())
}

fn data_and_fin_behind(cx: &Cx<'_>) -> Outcome {
    for _ in 0..5 {
        let (mut conn, session, request) = prepared(cx, "R,s10000")?;
        let turn = cx.turn()?;
        let data = send_behind(&mut conn, &request)?;
        conn.fin();
        turn.settle(&session)?;
        conn.read_pattern_to_end(0, 10_000)?;
        conn.wait_acknowledged()?;
        ensure!(
            session.end(SOON)?.is_ok(),
            "the application's session failed"
        );
        ensure!(
            session.received(data.len(), SOON)? == data,
            "the application got other bytes"
        );
    }
    Ok(())
}

/// The client gives up: nothing is left that would be in the way of its next connection.
fn reset_behind(cx: &Cx<'_>) -> Outcome {
    for pause in [Duration::ZERO, Duration::from_millis(1), BRIEF / 10] {
        let (mut conn, session, request) = prepared(cx, "R")?;
        let turn = cx.turn()?;
        conn.data(&request);
        std::thread::sleep(pause);
        let reset = conn.segment().flags(RST);
        conn.send(&reset);
        if session.server(BRIEF).is_some() {
            turn.settle(&session)?;
            ensure!(
                session.end(SOON)?.is_err(),
                "the application's session ended well"
            );
        } else {
            drop(turn);
        }
        let (port, iss) = (conn.port, conn.nxt.wrapping_add(1 << 20));
        let mut conn = conn.renew_from(port, Some(iss));
        conn.connect()?;
        cx.start(&mut conn, "e")?;
        conn.alive()?;
    }
    Ok(())
}

/// A late copy of the first SYN meets a connection that has moved.
fn syn_behind(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session, request) = prepared(cx, "e")?;
    let syn = conn.syn();
    let turn = cx.turn()?;
    conn.data(&request);
    conn.send(&syn);
    conn.send(&syn);
    turn.settle(&session)?;
    conn.wait_acknowledged()?;
    std::thread::sleep(KERNEL_PAUSE);
    conn.drain(BRIEF);
    conn.send(&syn);
    conn.expect_ack("challenge ACK")?;
    conn.alive()
}

/// A client that connects in advance is served when it asks.
fn late(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session, request) = prepared(cx, "e")?;
    std::thread::sleep(Duration::from_secs(4));
    let quiet = conn.drain(BRIEF);
    ensure!(
        quiet.iter().all(|seen| !seen.has(FIN) && !seen.has(RST)),
        "the connection is ended"
    );
    conn.data(&request);
    session
        .server(SOON)
        .ok_or("the application did not get the request")?;
    conn.wait_acknowledged()?;
    let segment = conn.segment().flags(ACK | PSH).payload(b"data");
    conn.send(&segment);
    conn.nxt = conn.nxt.wrapping_add(4);
    conn.read_echo(b"data")
}
