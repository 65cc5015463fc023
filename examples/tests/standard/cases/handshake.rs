//! Opening a connection (RFC 9293 §3.5, §3.10.7.2, §3.10.7.4).

use std::time::Duration;

use super::{Case, everywhere, patiently, unmigrated};
use crate::conn::{Conn, Offer};
use crate::cx::{BRIEF, Cx, Outcome, SOON, ensure};
use crate::segment::{ACK, FIN, PSH, RST, SYN, Segment, URG};

pub const CASES: &[Case] = &[
    everywhere("three-way handshake", three_way),
    everywhere("request in the handshake's ACK", request_in_ack),
    unmigrated("repeated SYN: same initial sequence number", repeated_syn),
    unmigrated("SYN-ACK repeated with back-off", syn_ack_back_off),
    everywhere("SYN with data", syn_with_data),
    everywhere("SYN and FIN", syn_and_fin),
    everywhere("SYN and RST", syn_and_rst),
    unmigrated("no flags, Xmas flags to a listener", odd_flags),
    unmigrated("SYN-ACK, ACK to a listener: RST", ack_to_listener),
    unmigrated("initial sequence numbers (RFC 6528)", initial_numbers),
    everywhere("wrong ACK in SYN-RECEIVED: RST", wrong_ack),
    unmigrated("RST in SYN-RECEIVED", rst_in_syn_received),
    everywhere(
        "half-open connection recovers (RFC 9293 figure 9)",
        half_open,
    ),
];

fn three_way(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::ALL, "e")?;
    conn.alive()?;
    conn.fin();
    conn.wait_acknowledged()?;
    ensure!(
        session.end(SOON)?.is_ok(),
        "the application's session failed"
    );
    conn.read_to_end(0).map(drop)
}

/// The request is the third segment: the server has seen no ACK before it.
fn request_in_ack(cx: &Cx<'_>) -> Outcome {
    let mut conn = cx.conn(Offer::ALL);
    let syn = conn.syn();
    conn.send(&syn);
    conn.answer_syn()?;
    cx.start(&mut conn, "e")?;
    conn.alive()
}

fn repeated_syn(cx: &Cx<'_>) -> Outcome {
    let mut conn = cx.conn(Offer::ALL);
    let syn = conn.syn();
    conn.send(&syn);
    let first = conn.answer_syn()?;
    conn.send(&syn);
    let second = conn.expect("second SYN-ACK", |seen| seen.flags == SYN | ACK)?;
    ensure!(
        first.seq == second.seq && first.ack == second.ack,
        "the second SYN-ACK has other numbers"
    );
    conn.acknowledge();
    cx.start(&mut conn, "e")?;
    conn.alive()
}

/// RFC 6298 §5.5: each pause is longer than the one before.
fn syn_ack_back_off(cx: &Cx<'_>) -> Outcome {
    patiently(|| syn_ack_backs_off(cx))
}

fn syn_ack_backs_off(cx: &Cx<'_>) -> Outcome {
    let mut conn = cx.conn(Offer::ALL);
    let syn = conn.syn();
    conn.send(&syn);
    let mut last = conn.answer_syn()?;
    let mut pauses = Vec::new();
    for _ in 0..2 {
        let again = conn.expect("repeated SYN-ACK", |seen| seen.flags == SYN | ACK)?;
        ensure!(
            again.ack == last.ack && again.options.mss == last.options.mss,
            "the repeated SYN-ACK is another one"
        );
        pauses.push(again.at - last.at);
        last = again;
    }
    ensure!(
        pauses[0] > Duration::from_millis(400),
        "the SYN-ACK is repeated after {:?}",
        pauses[0]
    );
    ensure!(
        pauses[1] > pauses[0].mul_f64(1.3),
        "the pauses are {pauses:?}"
    );
    conn.acknowledge();
    cx.start(&mut conn, "e")?;
    conn.alive()
}

/// RFC 9293 §3.10.7.2: data in a SYN is kept, or comes again; it is never delivered twice.
fn syn_with_data(cx: &Cx<'_>) -> Outcome {
    let mut conn = cx.conn(Offer::ALL);
    let session = cx.bed.registry.session();
    let request = session.request("e");
    let turn = cx.turn()?;
    let syn = conn.syn().payload(&request);
    conn.send(&syn);
    let syn_ack = conn.expect("SYN-ACK", |seen| seen.flags == SYN | ACK)?;
    conn.nxt = conn.iss.wrapping_add(1);
    let taken = syn_ack.ack.wrapping_sub(conn.nxt) as usize;
    ensure!(
        taken == 0 || taken == request.len(),
        "the SYN-ACK acknowledges {taken} bytes"
    );
    conn.acknowledge();
    conn.data(&request);
    turn.settle(&session)?;
    conn.wait_acknowledged()?;
    conn.alive()
}

/// Whatever the server makes of `strange`, a proper connection from the same port opens afterwards.
pub(super) fn opens_after(cx: &Cx<'_>, strange: impl FnOnce(&mut Conn<'_>) -> Outcome) -> Outcome {
    let mut conn = cx.conn(Offer::ALL);
    strange(&mut conn)?;
    let port = conn.port;
    let mut conn = conn.renew(port);
    conn.connect()?;
    cx.start(&mut conn, "e")?;
    conn.alive()
}

/// Nobody opens and ends at once: what answers must not acknowledge the FIN, unless it is a RST.
fn syn_and_fin(cx: &Cx<'_>) -> Outcome {
    opens_after(cx, |conn| {
        let syn = conn.syn().flags(SYN | FIN);
        conn.send(&syn);
        let beyond = conn.iss.wrapping_add(2);
        conn.refuse(BRIEF, "acknowledgment of the FIN", |seen| {
            seen.ack == beyond && !seen.has(RST)
        })
    })
}

/// RFC 9293 §3.10.7.2: first check for a RST, which is ignored.
fn syn_and_rst(cx: &Cx<'_>) -> Outcome {
    opens_after(cx, |conn| {
        let syn = conn.syn().flags(SYN | RST);
        conn.send(&syn);
        conn.refuse(BRIEF, "an answer", |_| true)
    })
}

/// RFC 9293 §3.10.7.2, fourth: dropped.
fn odd_flags(cx: &Cx<'_>) -> Outcome {
    for (name, flags) in [
        ("no flags", 0),
        ("FIN", FIN),
        ("Xmas flags", FIN | PSH | URG),
    ] {
        opens_after(cx, |conn| {
            let segment = Segment {
                seq: conn.iss,
                flags,
                window: 1000,
                ..Segment::default()
            };
            conn.send(&segment);
            conn.refuse(BRIEF, &format!("an answer to {name}"), |_| true)
        })?;
    }
    Ok(())
}

/// RFC 9293 §3.10.7.2, second: `<SEQ=SEG.ACK><CTL=RST>`.
fn ack_to_listener(cx: &Cx<'_>) -> Outcome {
    for flags in [ACK, SYN | ACK, FIN | ACK, PSH | ACK] {
        opens_after(cx, |conn| {
            let payload = if flags & PSH == 0 {
                Vec::new()
            } else {
                b"data".to_vec()
            };
            let segment = Segment {
                seq: conn.iss,
                ack: 0x1234_5678,
                flags,
                window: 1000,
                payload,
                ..Segment::default()
            };
            conn.send(&segment);
            let reset = conn.expect("RST", |seen| seen.has(RST))?;
            ensure!(
                reset.flags == RST && reset.seq == 0x1234_5678,
                "the RST is {}",
                conn.describe(&reset)
            );
            Ok(())
        })?;
    }
    Ok(())
}

/// Different ports get numbers that do not follow from each other; the same one gets greater ones.
fn initial_numbers(cx: &Cx<'_>) -> Outcome {
    let mut conn = cx.conn(Offer::MSS);
    let first_port = conn.port;
    let mut numbers = Vec::new();
    for port in first_port..first_port + 8 {
        conn = conn.renew(port);
        numbers.push(conn.connect()?.seq);
    }
    let steps: Vec<_> = numbers
        .windows(2)
        .map(|pair| pair[1].wrapping_sub(pair[0]))
        .collect();
    // 8 connections of one port would be opened within a second: 250 000 ticks of 4 µs, 16 million of 64 ns.
    ensure!(
        steps
            .iter()
            .any(|step| step.cast_signed().unsigned_abs() > 1 << 26),
        "the numbers of different ports differ by {steps:?}"
    );
    conn = conn.renew(first_port);
    let again = conn.connect()?.seq;
    let grown = again.wrapping_sub(numbers[0]);
    ensure!(
        grown > 0 && grown < 1 << 31,
        "the same port's number grows by {}",
        grown.cast_signed()
    );
    Ok(())
}

/// RFC 9293 §3.10.7.4, fifth: `<SEQ=SEG.ACK><CTL=RST>`, and the endpoint stays.
fn wrong_ack(cx: &Cx<'_>) -> Outcome {
    let mut conn = cx.conn(Offer::ALL);
    let syn = conn.syn();
    conn.send(&syn);
    conn.answer_syn()?;
    for wrong in [
        conn.irs,
        conn.irs.wrapping_add(2),
        conn.irs.wrapping_add(1 << 30),
    ] {
        let segment = conn.segment().acknowledging(wrong);
        conn.send(&segment);
        let reset = conn.expect("RST", |seen| seen.has(RST))?;
        ensure!(reset.seq == wrong, "the RST is {}", conn.describe(&reset));
    }
    conn.acknowledge();
    cx.start(&mut conn, "e")?;
    conn.alive()
}

/// RFC 9293 §3.10.7.4, second: back to LISTEN.
fn rst_in_syn_received(cx: &Cx<'_>) -> Outcome {
    let mut conn = cx.conn(Offer::ALL);
    let syn = conn.syn();
    conn.send(&syn);
    conn.answer_syn()?;
    let reset = Segment {
        seq: conn.nxt,
        flags: RST,
        ..Segment::default()
    };
    conn.send(&reset);
    conn.refuse(BRIEF, "an answer to the RST", |seen| !seen.has(SYN))?;
    conn.acknowledge();
    let rcv = conn.rcv;
    conn.expect("RST that answers the ACK", |seen| {
        seen.has(RST) && seen.seq == rcv
    })?;
    Ok(())
}

/// The client has crashed and opens from the same port: SYN, ACK of the old connection, RST, SYN.
fn half_open(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::MSS, "R")?;
    let rcv = conn.rcv;
    let stranger = conn.iss.wrapping_sub(1 << 28);
    let syn = conn.syn().seq(stranger);
    conn.send(&syn);
    let ack = conn.expect_ack("ACK of the old connection")?;
    ensure!(ack.seq == rcv, "the ACK has another sequence number");
    let reset = Segment {
        seq: ack.ack,
        flags: RST,
        ..Segment::default()
    };
    conn.send(&reset);
    ensure!(session.end(SOON)?.is_err(), "the old session ended well");
    let port = conn.port;
    let mut conn = conn.renew_from(port, Some(stranger));
    conn.connect()?;
    cx.start(&mut conn, "e")?;
    conn.alive()
}
