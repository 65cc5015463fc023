//! Loss on the way to the client (RFC 6298, RFC 5681 §3.2, RFC 6582, RFC 6675).

use std::time::{Duration, Instant};

use super::{Case, everywhere};
use crate::app::Session;
use crate::conn::{Conn, Offer, sack};
use crate::cx::{BRIEF, Cx, Outcome, ensure};
use crate::segment::Seen;

pub const CASES: &[Case] = &[
    everywhere("retransmission with back-off, the same bytes", back_off),
    everywhere("back-off stays until there is a sample (Karn)", karn),
    everywhere("fast retransmit after 3 duplicate ACKs", fast_by_duplicates),
    everywhere("fast retransmit by SACK", fast_by_sack),
    everywhere("partial ACK: the next hole at once (RFC 6582)", partial_ack),
    everywhere("several holes by SACK (RFC 6675)", several_holes),
    everywhere("everything lost comes again", all_lost),
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
    (0..n).map(|_| conn.expect("data", |seen| seen.has_data() && seen.seq == rcv).map(|seen| seen.at)).collect()
}

fn pauses(times: &[Instant]) -> Vec<Duration> {
    times.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// That the bytes are the same is looked at for every connection.
fn back_off(cx: &Cx<'_>) -> Outcome {
    for offer in [Offer::MSS, Offer::TIMESTAMPS] {
        let (mut conn, session) = cx.session(offer, "w,s1000,e")?;
        session.signal();
        let pauses = pauses(&times(&mut conn, 5)?);
        ensure!(pauses[0] > Duration::from_millis(150), "retransmissions after {pauses:?}");
        let grows = pauses.windows(2).all(|pair| pair[1] > pair[0].mul_f64(1.3));
        ensure!(grows && pauses[3] > pauses[0].mul_f64(4.0), "retransmissions after {pauses:?}");
        conn.read_pattern(0, 1_000)?;
        conn.alive()?;
    }
    Ok(())
}

/// RFC 6298 §3, §5: an ACK of what was sent twice is no sample, so the timeout does not shrink.
fn karn(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::MSS, "w,s100,w,s100,e")?;
    session.signal();
    let first = pauses(&times(&mut conn, 3)?);
    conn.read_pattern(0, 100)?;
    session.signal();
    let second = pauses(&times(&mut conn, 2)?);
    ensure!(second[0] > first[0].mul_f64(1.5), "{first:?}, then {second:?}: the back-off is forgotten");
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
    ensure!(flight[0].seq == conn.rcv, "the data does not begin at the start");
    ensure!(flight.len() >= 7, "{} segments are a small first flight (RFC 6928)", flight.len());
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
    Err(format!("the retransmission waits for the timeout: it comes after {took:?}"))
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
            let again = conn.expect("retransmission", |seen| missing.contains(&seen.seq) && seen.has_data())?;
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
