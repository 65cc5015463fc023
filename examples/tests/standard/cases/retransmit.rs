//! Loss on the way to the client (RFC 6298, RFC 5681 §3.2, RFC 6582, RFC 6675).

use std::time::{Duration, Instant};

use super::{Case, everywhere, patiently};
use crate::app::Session;
use crate::conn::{Conn, Offer, sack, timestamp};
use crate::cx::{BRIEF, Cx, Outcome, ensure};
use crate::segment::{FIN, Seen, after};

pub const CASES: &[Case] = &[
    everywhere("retransmission with back-off, the same bytes", back_off),
    everywhere("back-off stays until there is a sample (Karn)", karn),
    everywhere("fast retransmit after 3 duplicate ACKs", fast_by_duplicates),
    everywhere("fast retransmit by SACK", fast_by_sack),
    everywhere("partial ACK: the next hole at once (RFC 6582)", partial_ack),
    everywhere("several holes by SACK (RFC 6675)", several_holes),
    everywhere("everything lost comes again", all_lost),
    everywhere("every tenth segment lost, 500 kB", losses),
    everywhere("ACKs and SACK blocks within segments", within_segments),
    everywhere("TSecr that nobody sent", strange_echo),
    everywhere("SACK is taken back (RFC 2018 §8)", taken_back),
];

/// The client's round trip in the handshake: the retransmission timeout becomes three times that.
const ROUND_TRIP: Duration = Duration::from_millis(500);
/// Before the timeout has come, counted from the first segment in flight.
const BEFORE_TIMEOUT: Duration = Duration::from_millis(1_300);
/// Tries of what a busy machine can hold up beyond the timeout.
const TRIES: usize = 4;

/// The times at which the segment at the client's next number comes: `n` of them.
fn times(conn: &mut Conn<'_>, n: usize) -> Outcome<Vec<Instant>> {
    let rcv = conn.rcv;
    (0..n)
        .map(|_| {
            conn.expect("data", |seen| seen.has_data() && seen.seq == rcv)
                .map(|seen| seen.at)
        })
        .collect()
}

fn pauses(times: &[Instant]) -> Vec<Duration> {
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// That the bytes are the same is looked at for every connection.
fn back_off(cx: &Cx<'_>) -> Outcome {
    [Offer::MSS, Offer::TIMESTAMPS]
        .into_iter()
        .try_for_each(|offer| patiently(|| backs_off(cx, offer)))
}

fn backs_off(cx: &Cx<'_>, offer: Offer) -> Outcome {
    let (mut conn, session) = cx.session(offer, "w,s1000,e")?;
    session.signal();
    let pauses = pauses(&times(&mut conn, 5)?);
    ensure!(
        pauses[0] > Duration::from_millis(150),
        "retransmissions after {pauses:?}"
    );
    let grows = pauses.windows(2).all(|pair| pair[1] > pair[0].mul_f64(1.3));
    ensure!(
        grows && pauses[3] > pauses[0].mul_f64(4.0),
        "retransmissions after {pauses:?}"
    );
    conn.read_pattern(0, 1_000)?;
    conn.alive()
}

/// RFC 6298 §3, §5: an ACK of what was sent twice is no sample, so the timeout does not shrink.
fn karn(cx: &Cx<'_>) -> Outcome {
    patiently(|| back_off_stays(cx))
}

fn back_off_stays(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::MSS, "w,s100,w,s100,e")?;
    session.signal();
    let first = pauses(&times(&mut conn, 3)?);
    conn.read_pattern(0, 100)?;
    session.signal();
    let second = pauses(&times(&mut conn, 2)?);
    ensure!(
        second[0] > first[0].mul_f64(1.5),
        "{first:?}, then {second:?}: the back-off is forgotten"
    );
    conn.read_pattern(0, 100)?;
    conn.alive()
}

/// A connection with a long round trip, and what its application's data first brings: several segments from `conn.rcv` on,
/// none of them acknowledged.
fn flight<'a>(cx: &'a Cx<'_>, offer: Offer) -> Outcome<(Conn<'a>, Session, Vec<Seen>)> {
    let mut conn = cx.conn(offer);
    let syn = conn.syn();
    conn.send(&syn);
    conn.answer_syn()?;
    std::thread::sleep(ROUND_TRIP);
    conn.acknowledge();
    let session = cx.start(&mut conn, "w,s30000")?;
    // The ACK that later ones are duplicates of.
    conn.acknowledge();
    session.signal();
    let mut flight = vec![conn.expect("data", |seen| seen.has_data())?];
    flight.extend(conn.drain(BRIEF / 5).into_iter().filter(Seen::has_data));
    ensure!(
        flight[0].seq == conn.rcv,
        "the data does not begin at the start"
    );
    ensure!(
        flight.len() >= 7,
        "{} segments are a small first flight (RFC 6928)",
        flight.len()
    );
    Ok((conn, session, flight))
}

/// `attempt` gives the time from the first segment to the last retransmission that is waited for: before the timeout, at
/// least once.
fn in_time(mut attempt: impl FnMut() -> Outcome<Duration>) -> Outcome {
    let mut took = Vec::new();
    for _ in 0..TRIES {
        took.push(attempt()?);
        if took.last() < Some(&BEFORE_TIMEOUT) {
            return Ok(());
        }
    }
    Err(format!(
        "the retransmission waits for the timeout: it comes after {took:?}"
    ))
}

/// The retransmission of `lost`, and how long after the first segment it comes.
fn retransmission(conn: &mut Conn<'_>, first: &Seen, lost: u32) -> Outcome<Duration> {
    let again = conn.expect("retransmission", |seen| seen.has_data() && seen.seq == lost)?;
    Ok(again.at - first.at)
}

/// Acknowledges everything, and reads the rest.
fn read_rest(conn: &mut Conn<'_>) -> Outcome {
    conn.advance();
    conn.acknowledge();
    conn.read_pattern_to_end(0, 30_000)
}

fn fast_by_duplicates(cx: &Cx<'_>) -> Outcome {
    in_time(|| {
        let (mut conn, _session, flight) = flight(cx, Offer::MSS)?;
        (0..3).for_each(|_| conn.acknowledge());
        let took = retransmission(&mut conn, &flight[0], flight[0].seq)?;
        read_rest(&mut conn)?;
        Ok(took)
    })
}

fn acknowledge_selectively(conn: &mut Conn<'_>, blocks: &[(u32, u32)]) {
    let mut segment = conn.segment();
    segment.options.extend(sack(blocks));
    conn.send(&segment);
}

fn fast_by_sack(cx: &Cx<'_>) -> Outcome {
    for offer in [Offer::SACK, Offer::ALL] {
        in_time(|| {
            let (mut conn, _session, flight) = flight(cx, offer)?;
            for last in &flight[1..4] {
                acknowledge_selectively(&mut conn, &[(flight[1].seq, last.data_end())]);
            }
            let took = retransmission(&mut conn, &flight[0], flight[0].seq)?;
            read_rest(&mut conn)?;
            Ok(took)
        })?;
    }
    Ok(())
}

/// The first and the third segment are lost.
fn partial_ack(cx: &Cx<'_>) -> Outcome {
    in_time(|| {
        let (mut conn, _session, flight) = flight(cx, Offer::MSS)?;
        (0..flight.len() - 2).for_each(|_| conn.acknowledge());
        retransmission(&mut conn, &flight[0], flight[0].seq)?;
        conn.rcv = flight[2].seq;
        conn.acknowledge();
        let took = retransmission(&mut conn, &flight[0], flight[2].seq)?;
        read_rest(&mut conn)?;
        Ok(took)
    })
}

/// The first, the third and the fifth segment are lost.
fn several_holes(cx: &Cx<'_>) -> Outcome {
    in_time(|| {
        let (mut conn, _session, flight) = flight(cx, Offer::SACK)?;
        let block = |from: usize, to: usize| (flight[from].seq, flight[to].data_end());
        acknowledge_selectively(&mut conn, &[block(1, 1)]);
        acknowledge_selectively(&mut conn, &[block(3, 3), block(1, 1)]);
        for last in 5..flight.len() {
            acknowledge_selectively(&mut conn, &[block(5, last), block(3, 3), block(1, 1)]);
        }
        let mut missing = vec![flight[0].seq, flight[2].seq, flight[4].seq];
        let mut took = Duration::ZERO;
        while !missing.is_empty() {
            let again = conn.expect("retransmission", |seen| {
                missing.contains(&seen.seq) && seen.has_data()
            })?;
            missing.retain(|seq| *seq != again.seq);
            took = again.at - flight[0].at;
        }
        read_rest(&mut conn)?;
        Ok(took)
    })
}

fn all_lost(cx: &Cx<'_>) -> Outcome {
    for offer in [Offer::MSS, Offer::ALL] {
        let (mut conn, _session, _) = flight(cx, offer)?;
        conn.forget();
        conn.read_pattern_to_end(0, 30_000)?;
    }
    Ok(())
}

/// Segments are lost on the first of their ways to the client.
fn losses(cx: &Cx<'_>) -> Outcome {
    for offer in [Offer::MSS, Offer::SACK, Offer::ALL] {
        let (mut conn, session) = cx.session(offer, "w,s500000")?;
        session.signal();
        let (mut number, mut highest) = (0, conn.rcv);
        while !conn.finished {
            let seen = conn.expect("data or FIN", |seen| seen.has_data() || seen.has(FIN))?;
            number += 1;
            let first = !after(highest, seen.seq);
            if first {
                highest = seen.data_end();
            }
            if number % 10 == 0 && seen.has_data() && first {
                conn.lose(&seen);
                continue;
            }
            answer(&mut conn, seen.seq);
        }
        conn.read_pattern_to_end(0, 500_000)?;
    }
    Ok(())
}

/// Acknowledges what has come, with SACK where that was agreed on; the data at `latest` came last.
fn answer(conn: &mut Conn<'_>, latest: u32) {
    conn.advance();
    let blocks = conn.blocks(latest);
    if conn.offer.sack && !blocks.is_empty() {
        acknowledge_selectively(conn, &blocks);
    } else {
        conn.acknowledge();
    }
}

/// What lies between ACKs and blocks is missing, wherever the server's segments begin and end.
fn within_segments(cx: &Cx<'_>) -> Outcome {
    for offer in [Offer::SACK, Offer::ALL] {
        let (mut conn, _session, flight) = flight(cx, offer)?;
        // 700 bytes of the first one have come; of the third and the fifth one their middle; the fourth one not.
        conn.lose_range(
            flight[0].seq.wrapping_add(700),
            flight[0].payload.len() - 700,
        );
        for segment in [&flight[2], &flight[4]] {
            conn.lose_range(segment.seq, 100);
            conn.lose_range(segment.data_end().wrapping_sub(100), 100);
        }
        conn.lose(&flight[3]);
        answer(&mut conn, flight[1].seq);
        answer(&mut conn, flight[2].seq.wrapping_add(100));
        answer(&mut conn, flight[5].seq);
        answer(&mut conn, flight[6].seq);
        while !conn.finished {
            let seen = conn.expect("data or FIN", |seen| seen.has_data() || seen.has(FIN))?;
            answer(&mut conn, seen.seq);
        }
        conn.read_pattern_to_end(0, 30_000)?;
    }
    Ok(())
}

/// RFC 7323 §4: echoes of times that never were do not make the timeout absurd.
fn strange_echo(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::TIMESTAMPS, "w,s50000,w,s1000,e")?;
    session.signal();
    let goal = conn.rcv.wrapping_add(50_000);
    for ahead in [0, 1, 1 << 20, 1 << 31, u32::MAX - 100_000]
        .into_iter()
        .cycle()
    {
        conn.advance();
        let mut segment = conn.segment();
        let echo = if ahead == 0 {
            0
        } else {
            conn.recent.wrapping_add(ahead)
        };
        segment.options = [&[1, 1], &timestamp(conn.tsval(), echo)[..]].concat();
        conn.send(&segment);
        if conn.rcv == goal {
            break;
        }
        conn.expect("data", |seen| seen.has_data())?;
    }
    conn.read_pattern(0, 50_000)?;
    session.signal();
    times(&mut conn, 2).map_err(|error| format!("no retransmission: {error}"))?;
    conn.read_pattern(0, 1_000)?;
    conn.alive()
}

/// RFC 2018 §8: SACK is advice. What was reported must still be there when the client has dropped it.
fn taken_back(cx: &Cx<'_>) -> Outcome {
    let (mut conn, _session, flight) = flight(cx, Offer::SACK)?;
    let last = flight.len() - 1;
    for last in 1..=last {
        acknowledge_selectively(&mut conn, &[(flight[1].seq, flight[last].data_end())]);
    }
    retransmission(&mut conn, &flight[0], flight[0].seq)?;
    conn.rcv = flight[1].seq;
    conn.forget();
    conn.acknowledge();
    conn.read_pattern_to_end(0, 30_000)
}
