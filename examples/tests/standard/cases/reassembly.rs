//! Data in any order (RFC 9293 §3.4, §3.8.6; RFC 2018; RFC 2883; RFC 6093).

use super::{Case, everywhere};
use crate::app::Session;
use crate::conn::{Conn, Offer};
use crate::cx::{BRIEF, Cx, Outcome, SOON, ensure};
use crate::segment::{ACK, FIN, PSH, Segment, URG};

pub const CASES: &[Case] = &[
    everywhere("data in order, reversed, repeated", orders),
    everywhere("overlapping segments", overlaps),
    everywhere("segments of one byte", single_bytes),
    everywhere("more gaps than any server keeps", many_gaps),
    everywhere("acknowledged data is not overwritten", not_overwritten),
    everywhere("FIN before the data in front of it", early_fin),
    everywhere("urgent data stays in the stream (RFC 6093)", urgent),
    everywhere("sequence numbers that wrap", wrap),
];

/// Bytes to be sent: none like its neighbours.
pub(super) fn letters(n: usize) -> Vec<u8> {
    (0..n)
        .map(|at| b'a'.wrapping_add((at % 251) as u8) ^ (at / 251) as u8)
        .collect()
}

/// A part of `data`, whose first byte stands at sequence number `base`.
pub(super) fn part(conn: &Conn<'_>, base: u32, data: &[u8], (from, to): (usize, usize)) -> Segment {
    conn.segment()
        .flags(ACK | PSH)
        .seq(base.wrapping_add(from as u32))
        .payload(&data[from..to])
}

/// Sends `parts` of a stream of letters in this order: it must arrive whole and once.
fn deliver(cx: &Cx<'_>, parts: &[(usize, usize)]) -> Outcome {
    let data = letters(parts.iter().map(|part| part.1).max().unwrap_or(0));
    for offer in [Offer::MSS, Offer::ALL] {
        let (mut conn, session) = cx.session(offer, "R")?;
        let base = conn.nxt;
        for range in parts {
            let segment = part(&conn, base, &data, *range);
            conn.send(&segment);
        }
        finish(&mut conn, &session, &data)
            .map_err(|error| format!("{offer:?}, {parts:?}: {error}"))?;
    }
    Ok(())
}

/// All of `data` is acknowledged, and the application gets it, and then the end.
pub(super) fn finish(conn: &mut Conn<'_>, session: &Session, data: &[u8]) -> Outcome {
    conn.nxt = conn.nxt.wrapping_add(data.len() as u32);
    conn.wait_acknowledged()?;
    conn.fin();
    conn.wait_acknowledged()?;
    ensure!(
        session.end(SOON)?.is_ok(),
        "the application's session failed"
    );
    let received = session.received(data.len(), SOON)?;
    ensure!(
        received == data,
        "the application got {} bytes that differ from the {} sent",
        received.len(),
        data.len()
    );
    Ok(())
}

fn orders(cx: &Cx<'_>) -> Outcome {
    let parts: Vec<_> = (0..10)
        .map(|number| (number * 500, number * 500 + 500))
        .collect();
    let reversed: Vec<_> = parts.iter().rev().copied().collect();
    let twice: Vec<_> = parts.iter().flat_map(|part| [*part, *part]).collect();
    let there_and_back = [reversed.clone(), parts.clone(), reversed.clone()].concat();
    let swapped: Vec<_> = parts
        .chunks(2)
        .flat_map(|pair| [pair[1], pair[0]])
        .collect();
    [parts, reversed, twice, there_and_back, swapped]
        .iter()
        .try_for_each(|parts| deliver(cx, parts))
}

fn overlaps(cx: &Cx<'_>) -> Outcome {
    let shapes: [&[(usize, usize)]; 9] = [
        // With what was delivered: from its middle on; within it; from its start on.
        &[(0, 600), (400, 1_000)],
        &[(0, 1_000), (200, 400), (1_000, 1_200)],
        &[(0, 500), (0, 1_000), (500, 1_000)],
        // With a block behind a gap: within it; around it; its left; its right side.
        &[(500, 1_000), (600, 900), (0, 500)],
        &[(500, 1_000), (400, 1_100), (0, 450)],
        &[(500, 1_000), (0, 700)],
        &[(500, 1_000), (800, 1_200), (300, 600), (0, 300)],
        // Around a block, in order; over two blocks and the gap between them.
        &[(500, 1_000), (0, 1_400)],
        &[
            (500, 700),
            (900, 1_100),
            (600, 1_000),
            (1_300, 1_400),
            (0, 1_400),
        ],
    ];
    shapes.iter().try_for_each(|parts| deliver(cx, parts))
}

fn single_bytes(cx: &Cx<'_>) -> Outcome {
    let parts: Vec<_> = (0..300).map(|at| (at, at + 1)).collect();
    // Every seventh, and so on round; what a server could not keep comes again.
    let mixed: Vec<_> = (0..300)
        .map(|number| number * 7 % 300)
        .map(|at| (at, at + 1))
        .chain(parts.clone())
        .collect();
    [parts, mixed]
        .iter()
        .try_for_each(|parts| deliver(cx, parts))
}

fn many_gaps(cx: &Cx<'_>) -> Outcome {
    let odd = (0..40).map(|number| (number * 200 + 100, number * 200 + 200));
    let all = (0..80).map(|number| (number * 100, number * 100 + 100));
    deliver(cx, &odd.chain(all).collect::<Vec<_>>())
}

/// What comes again may be damaged: the application has the first copy already.
fn not_overwritten(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::ALL, "w,R")?;
    let (base, data) = (conn.nxt, letters(600));
    conn.data(&data[..500]);
    conn.wait_acknowledged()?;
    let garbage = [&[0; 500], &data[500..]].concat();
    let segment = part(&conn, base, &garbage, (0, 600));
    conn.send(&segment);
    conn.nxt = base;
    session.signal();
    finish(&mut conn, &session, &data)
}

/// The stream has not ended before its last byte is there.
fn early_fin(cx: &Cx<'_>) -> Outcome {
    for with_data in [false, true] {
        let (mut conn, session) = cx.session(Offer::ALL, "R")?;
        conn.drain(BRIEF);
        let (base, data) = (conn.nxt, letters(1_000));
        let from = if with_data { 500 } else { 1_000 };
        let fin = part(&conn, base, &data, (from, 1_000)).flags(FIN | ACK);
        conn.send(&fin);
        let ack = conn.expect("ACK", |seen| seen.is_bare_ack())?;
        ensure!(ack.ack == base, "a FIN behind a gap is acknowledged");
        ensure!(
            session.end(BRIEF).is_err(),
            "the application sees the end too early"
        );
        let rest = part(&conn, base, &data, (0, from));
        conn.send(&rest);
        conn.nxt = base.wrapping_add(1_001);
        conn.wait_acknowledged()?;
        ensure!(
            session.end(SOON)?.is_ok(),
            "the application's session failed"
        );
        ensure!(
            session.received(1_000, SOON)? == data,
            "the application got other bytes"
        );
    }
    Ok(())
}

/// RFC 6093 §3.1: the pointer tells where, the bytes are data like all others.
fn urgent(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::ALL, "R")?;
    let data = letters(600);
    for (number, pointer) in [1, 50, 100, 101, 30_000, 0].into_iter().enumerate() {
        let mut segment = conn
            .segment()
            .flags(URG | PSH | ACK)
            .payload(&data[number * 100..][..100]);
        segment.urgent = pointer;
        conn.send(&segment);
        conn.nxt = conn.nxt.wrapping_add(100);
        conn.wait_acknowledged()?;
    }
    conn.nxt = conn.nxt.wrapping_sub(600);
    finish(&mut conn, &session, &data)
}

/// The client's numbers wrap within the handshake, the request, and data in any order.
fn wrap(cx: &Cx<'_>) -> Outcome {
    let data = letters(5_000);
    for iss in [
        u32::MAX,
        u32::MAX - 1,
        u32::MAX - 20,
        u32::MAX - 2_000,
        0x7fff_ffff,
        0x7fff_f000,
    ] {
        let conn = cx.conn(Offer::ALL);
        let port = conn.port;
        let mut conn = conn.renew_from(port, Some(iss));
        conn.connect()?;
        let session = cx.start(&mut conn, "R")?;
        let base = conn.nxt;
        for from in (0..5_000).step_by(500).rev() {
            let segment = part(&conn, base, &data, (from, from + 500));
            conn.send(&segment);
        }
        finish(&mut conn, &session, &data).map_err(|error| format!("from {iss:#x}: {error}"))?;
    }
    Ok(())
}
