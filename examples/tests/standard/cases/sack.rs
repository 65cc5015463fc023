//! Gaps, and what is told about them (RFC 2018; RFC 2883; RFC 5681 §4.2).

use super::reassembly::{finish, letters, part};
use super::{Case, everywhere};
use crate::conn::{Conn, Offer};
use crate::cx::{BRIEF, Cx, Outcome, ensure};

pub const CASES: &[Case] = &[
    everywhere("gaps: ACK with SACK, latest block first", sack_blocks),
    everywhere("repeated data: DSACK (RFC 2883)", duplicate_sack),
    everywhere("gaps without SACK: duplicate ACKs", duplicate_acks),
    everywhere("data beyond the window is cut off", trimmed),
];

/// Sends a part; the answer must begin with these SACK blocks, and acknowledge this.
fn expect_sack(
    conn: &mut Conn<'_>,
    base: u32,
    range: (usize, usize),
    ack: u32,
    blocks: &[(u32, u32)],
) -> Outcome {
    let data = letters(range.1);
    let segment = part(conn, base, &data, range);
    conn.send(&segment);
    let seen = conn.expect(&format!("ACK for {range:?}"), |seen| seen.is_bare_ack())?;
    let came: Vec<_> = seen
        .options
        .sack
        .iter()
        .map(|(left, right)| (left.wrapping_sub(base), right.wrapping_sub(base)))
        .collect();
    let ack_came = seen.ack.wrapping_sub(base);
    ensure!(ack_came == ack, "ACK {ack_came} for {range:?}, not {ack}");
    ensure!(
        came == blocks,
        "SACK {came:?} for {range:?}, not {blocks:?}"
    );
    Ok(())
}

/// RFC 2018 §4: the first block is the one that has just come, the others follow as they were reported last.
fn sack_blocks(cx: &Cx<'_>) -> Outcome {
    for offer in [Offer::SACK, Offer::ALL] {
        let (mut conn, _session) = cx.session(offer, "R")?;
        conn.drain(BRIEF);
        let base = conn.nxt;
        expect_sack(&mut conn, base, (1_000, 2_000), 0, &[(1_000, 2_000)])?;
        expect_sack(
            &mut conn,
            base,
            (3_000, 4_000),
            0,
            &[(3_000, 4_000), (1_000, 2_000)],
        )?;
        expect_sack(
            &mut conn,
            base,
            (5_000, 6_000),
            0,
            &[(5_000, 6_000), (3_000, 4_000), (1_000, 2_000)],
        )?;
        expect_sack(
            &mut conn,
            base,
            (2_000, 3_000),
            0,
            &[(1_000, 4_000), (5_000, 6_000)],
        )?;
        expect_sack(
            &mut conn,
            base,
            (6_000, 6_500),
            0,
            &[(5_000, 6_500), (1_000, 4_000)],
        )?;
        expect_sack(&mut conn, base, (0, 1_000), 4_000, &[(5_000, 6_500)])?;
        expect_sack(&mut conn, base, (4_000, 5_000), 6_500, &[])?;
        conn.nxt = base.wrapping_add(6_500);
    }
    Ok(())
}

/// RFC 2883 §4: first what has come twice, then the block around it.
fn duplicate_sack(cx: &Cx<'_>) -> Outcome {
    for offer in [Offer::SACK, Offer::ALL] {
        let (mut conn, _session) = cx.session(offer, "R")?;
        conn.drain(BRIEF);
        let base = conn.nxt;
        expect_sack(&mut conn, base, (1_000, 2_000), 0, &[(1_000, 2_000)])?;
        expect_sack(
            &mut conn,
            base,
            (3_000, 4_000),
            0,
            &[(3_000, 4_000), (1_000, 2_000)],
        )?;
        expect_sack(
            &mut conn,
            base,
            (1_000, 1_500),
            0,
            &[(1_000, 1_500), (1_000, 2_000), (3_000, 4_000)],
        )?;
        expect_sack(&mut conn, base, (0, 1_000), 2_000, &[(3_000, 4_000)])?;
        expect_sack(
            &mut conn,
            base,
            (500, 1_500),
            2_000,
            &[(500, 1_500), (3_000, 4_000)],
        )?;
        expect_sack(&mut conn, base, (2_000, 3_000), 4_000, &[])?;
        expect_sack(&mut conn, base, (3_000, 4_000), 4_000, &[(3_000, 4_000)])?;
        conn.nxt = base.wrapping_add(4_000);
    }
    Ok(())
}

/// RFC 5681 §4.2: at once, for every segment behind a gap.
fn duplicate_acks(cx: &Cx<'_>) -> Outcome {
    let (mut conn, _session) = cx.session(Offer::MSS, "R")?;
    conn.drain(BRIEF);
    let base = conn.nxt;
    for number in 1..5 {
        expect_sack(
            &mut conn,
            base,
            (number * 1_000, number * 1_000 + 1_000),
            0,
            &[],
        )?;
    }
    expect_sack(&mut conn, base, (0, 1_000), 5_000, &[])?;
    conn.nxt = base.wrapping_add(5_000);
    Ok(())
}

/// RFC 9293 §3.10.7.4: what lies outside the window is not taken; what lies inside may be.
fn trimmed(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::SACK, "R")?;
    conn.drain(BRIEF);
    let (base, edge) = (conn.nxt, conn.edge);
    let window = edge.wrapping_sub(base) as usize;
    let data = letters(window + 500);
    let segment = part(&conn, base, &data, (window - 500, window + 500));
    conn.send(&segment);
    let ack = conn.expect("ACK", |seen| seen.is_bare_ack())?;
    ensure!(ack.ack == base, "data behind a gap is acknowledged");
    let taken = ack
        .options
        .sack
        .iter()
        .map(|(left, right)| (edge.wrapping_sub(*left), edge.wrapping_sub(*right)))
        .collect::<Vec<_>>();
    let within = if taken.iter().all(|block| *block == (500, 0)) {
        Ok(())
    } else {
        Err(format!("taken, counted from the edge: {taken:?}"))
    };
    let why = "RFC 9293 §3.10.7.4: segments are tailored 'by trimming off any portions that lie outside the window'; Linux \
               takes a segment whole that begins within its window";
    cx.differs(why, within)?;
    for piece in data.chunks(conn.mss()) {
        conn.data(piece);
        conn.wait_acknowledged()?;
    }
    conn.nxt = base;
    finish(&mut conn, &session, &data)
}
