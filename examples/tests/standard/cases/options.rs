//! Options (RFC 9293 §3.2, §3.7.1; RFC 7323 §2; RFC 2018 §2).

use super::handshake::opens_after;
use super::{Case, everywhere, unmigrated};
use crate::conn::{Offer, sack};
use crate::cx::{BRIEF, Cx, Outcome, SOON, ensure};
use crate::segment::{ACK, PSH, SYN, repair_tcp};

pub const CASES: &[Case] = &[
    everywhere("options as offered", as_offered),
    everywhere("no MSS offered: 536", default_mss),
    everywhere("the client's MSS", small_mss),
    everywhere("window scale applied", scale_applied),
    everywhere("window scale above 14 is 14", scale_above_14),
    everywhere("unknown options are skipped", unknown),
    unmigrated("nothing behind the end of the list", end_of_list),
    unmigrated("malformed options in a SYN", malformed_in_syn),
    everywhere("malformed options in data", malformed_in_data),
    everywhere("reserved and ECN bits are ignored", reserved_bits),
    everywhere("SACK blocks of what was never sent", bogus_sack),
];

fn as_offered(cx: &Cx<'_>) -> Outcome {
    let scale = Offer {
        scale: Some(2),
        ..Offer::NONE
    };
    let mixed = Offer {
        scale: Some(0),
        sack: true,
        ..Offer::TIMESTAMPS
    };
    for offer in [
        Offer::NONE,
        Offer::MSS,
        scale,
        Offer::SACK,
        Offer::TIMESTAMPS,
        mixed,
        Offer::ALL,
    ] {
        let mut conn = cx.conn(offer);
        let syn = conn.syn();
        conn.send(&syn);
        // That nothing comes which was not offered is looked at for every connection.
        let options = conn.answer_syn()?.options;
        ensure!(options.mss.is_some(), "{offer:?}: no MSS in the SYN-ACK");
        ensure!(
            options.scale.is_some() == offer.scale.is_some(),
            "{offer:?}: window scale {:?}",
            options.scale
        );
        ensure!(
            options.scale.is_none_or(|scale| scale <= 14),
            "window scale {:?}",
            options.scale
        );
        ensure!(
            options.sack_permitted == offer.sack,
            "{offer:?}: SACK is not permitted"
        );
        ensure!(
            options.timestamp.is_some() == offer.timestamps,
            "{offer:?}: no timestamps"
        );
        if let Some((_, echo)) = options.timestamp {
            let value = syn.options[syn.options.len() - 8..][..4]
                .try_into()
                .expect("four bytes");
            ensure!(
                echo == u32::from_be_bytes(value),
                "TSecr is not the SYN's TSval"
            );
        }
        conn.acknowledge();
        cx.start(&mut conn, "e")?;
        conn.alive()?;
    }
    Ok(())
}

/// That no segment is above the client's MSS is looked at for every connection.
fn default_mss(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::NONE, "w,s20000")?;
    session.signal();
    conn.read_pattern_to_end(0, 20_000)?;
    ensure!(conn.largest <= 536, "{} bytes", conn.largest);
    Ok(())
}

fn small_mss(cx: &Cx<'_>) -> Outcome {
    for mss in [64, 300, 700, 1_000, 9_000, u16::MAX] {
        for offer in [Offer::MSS, Offer::ALL] {
            let (mut conn, session) = cx.session(
                Offer {
                    mss: Some(mss),
                    ..offer
                },
                "w,s5000",
            )?;
            session.signal();
            conn.read_pattern_to_end(0, 5_000)?;
        }
    }
    Ok(())
}

/// 10 in the window field are 1280 bytes.
fn scale_applied(cx: &Cx<'_>) -> Outcome {
    let mut conn = cx.open(Offer::ALL)?;
    conn.window = 10;
    let session = cx.start(&mut conn, "w,s5000")?;
    session.signal();
    let came: usize = conn
        .drain(BRIEF)
        .iter()
        .map(|seen| seen.payload.len())
        .sum();
    ensure!(came > 10, "{came} bytes were sent into a window of 10 << 7");
    conn.window = 100;
    conn.acknowledge();
    conn.read_pattern_to_end(0, 5_000)
}

/// RFC 7323 §2.3. The client's window stays one, which is 16 kB: more than that would be seen.
fn scale_above_14(cx: &Cx<'_>) -> Outcome {
    let mut conn = cx.open(Offer {
        scale: Some(15),
        ..Offer::ALL
    })?;
    conn.window = 1;
    let session = cx.start(&mut conn, "w,s300000")?;
    session.signal();
    // The congestion window grows beyond 32 kB.
    conn.read_pattern(0, 200_000)?;
    conn.drain(BRIEF);
    conn.window = 10;
    conn.acknowledge();
    conn.read_pattern_to_end(200_000, 100_000)
}

/// RFC 9293 §3.1: MUST-6.
fn unknown(cx: &Cx<'_>) -> Outcome {
    const UNKNOWN: [u8; 8] = [253, 6, 1, 2, 3, 4, 99, 2];
    let mut conn = cx.conn(Offer::ALL);
    let mut syn = conn.syn();
    syn.options = [&UNKNOWN, &syn.options[..]].concat();
    conn.send(&syn);
    let options = conn.answer_syn()?.options;
    let all = options.scale.is_some() && options.sack_permitted && options.timestamp.is_some();
    ensure!(
        all,
        "options behind an unknown one are not answered: {options:?}"
    );
    conn.acknowledge();
    cx.start(&mut conn, "e")?;
    let mut segment = conn.segment().flags(ACK | PSH).payload(b"data");
    segment.options = [&UNKNOWN, &segment.options[..]].concat();
    conn.send(&segment);
    conn.nxt = conn.nxt.wrapping_add(4);
    conn.read_echo(b"data")
}

/// RFC 9293 §3.2, End of Option List: what stands behind it counts for nothing.
fn end_of_list(cx: &Cx<'_>) -> Outcome {
    let mut conn = cx.conn(Offer::MSS);
    let syn = conn.syn().options(&[2, 4, 5, 0xb4, 0, 3, 3, 7, 4, 2, 1, 1]);
    conn.send(&syn);
    conn.answer_syn()?;
    conn.acknowledge();
    cx.start(&mut conn, "e")?;
    conn.alive()
}

const MALFORMED: [&[u8]; 12] = [
    // Length 0, 1, and beyond the header.
    &[99, 0, 0, 0],
    &[99, 1, 1, 1],
    &[1, 1, 99, 40],
    // Without a length.
    &[1, 1, 1, 99],
    &[1, 1, 1, 2],
    // Known ones with a wrong length.
    &[2, 0, 5, 0xb4],
    &[2, 3, 5, 1],
    &[2, 40, 5, 0xb4],
    &[3, 4, 7, 0],
    &[4, 3, 1, 0],
    &[8, 9, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0],
    &[5, 9, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0],
];

/// RFC 9293 §3.1, MUST-7: illegal lengths are survived. What they tell is not believed.
fn malformed_in_syn(cx: &Cx<'_>) -> Outcome {
    for options in MALFORMED {
        opens_after(cx, |conn| {
            let offer = std::mem::replace(&mut conn.offer, Offer::NONE);
            let syn = conn.syn().options(options);
            conn.send(&syn);
            // Any answer is right that does not go on with an option of these.
            conn.refuse(BRIEF, "another SYN-ACK", |seen| {
                seen.has(SYN) && seen.ack != syn.seq.wrapping_add(1)
            })?;
            conn.offer = offer;
            Ok(())
        })?;
    }
    Ok(())
}

/// The data may be taken or not; sent again without them it is there once.
fn malformed_in_data(cx: &Cx<'_>) -> Outcome {
    let (mut conn, _session) = cx.session(Offer::SACK, "e")?;
    for (number, options) in MALFORMED.iter().enumerate() {
        let data = format!("data {number}").into_bytes();
        let segment = conn
            .segment()
            .flags(ACK | PSH)
            .payload(&data)
            .options(options);
        conn.send(&segment);
        conn.drain(BRIEF / 5);
        conn.echo(&data)?;
    }
    conn.alive()
}

/// RFC 9293 §3.1: reserved bits "must be ignored in received segments"; ECN was not agreed on.
fn reserved_bits(cx: &Cx<'_>) -> Outcome {
    let mut conn = cx.conn(Offer::ALL);
    let mut syn = conn.syn().packet(conn.from(), conn.to);
    syn[32] |= 0x0e;
    repair_tcp(&mut syn);
    conn.send_packet("SYN with reserved bits", &syn);
    conn.answer_syn()?;
    conn.acknowledge();
    cx.start(&mut conn, "e")?;
    for (high, low) in [(0x0e, 0), (1, 0), (0, 0xc0), (0x0f, 0xc0)] {
        let mut packet = conn
            .segment()
            .flags(ACK | PSH)
            .payload(b"data")
            .packet(conn.from(), conn.to);
        packet[32] |= high;
        packet[33] |= low;
        repair_tcp(&mut packet);
        conn.send_packet("data with reserved bits", &packet);
        conn.nxt = conn.nxt.wrapping_add(4);
        conn.read_echo(b"data")?;
    }
    Ok(())
}

/// RFC 2018 §5.1: only what the server has sent can be acknowledged; everything else must come again.
fn bogus_sack(cx: &Cx<'_>) -> Outcome {
    let (mut conn, session) = cx.session(Offer::SACK, "w,s20000")?;
    session.signal();
    conn.expect("data", |seen| seen.has_data())?;
    conn.drain(BRIEF / 5);
    let una = conn.rcv;
    let at = |offset: i32| una.wrapping_add_signed(offset);
    for block in [
        (at(1), at(1 << 20)),
        (at(100_000), at(200_000)),
        (at(3_000), at(1_000)),
        (at(-5_000), at(-3_000)),
        (at(-5_000), at(1 << 20)),
        (at(1_000), at(1_000)),
        (at(i32::MAX), at(i32::MIN)),
    ] {
        let segment = conn.segment().options(&sack(&[block]));
        conn.send(&segment);
    }
    conn.drain(BRIEF / 5);
    conn.forget();
    conn.read_pattern_to_end(0, 20_000)?;
    ensure!(
        session.end(SOON)?.is_ok(),
        "the application's session failed"
    );
    Ok(())
}
