//! What comes last: a flood of SYNs (RFC 4987), and whether everything is gone in the end.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::{Duration, Instant};

use etherparse::EtherType;

use super::{Case, Scope};
use crate::app::Session;
use crate::conn::{Conn, Offer};
use crate::cx::{BRIEF, Cx, Outcome, SOON, Turn, ensure};
use crate::segment::{SYN, Segment};
use crate::wire::frame;

pub const CASES: &[Case] = &[
    Case {
        name: "3000 SYNs of nobody, then a client",
        scope: Scope::Alone,
        run: flood,
    },
    Case {
        name: "no flow is left in any table",
        scope: Scope::OursAlone,
        run: nothing_left,
    },
];

/// More than TIME-WAIT lasts here, and a SYN-ACK is repeated.
const LEAVING: Duration = Duration::from_secs(40);

/// SYNs from addresses of the LAN that nobody has.
const FLOOD: u16 = 3_000;

/// RFC 4987: the flood's half-open connections do not keep a client out, whose options count as ever.
fn flood(cx: &Cx<'_>) -> Outcome {
    // Its first request would be one more SYN later on.
    let turn = cx.turn()?;
    let spoofer = cx.bed.wire.host();
    for number in 0..FLOOD {
        // Few enough for the kernel's neighbour table.
        let address = Ipv4Addr::new(10, 77, 200, (number % 250) as u8 + 1);
        let from = SocketAddrV4::new(address, 1_024 + number);
        let syn = Segment {
            seq: u32::from(number) << 16,
            flags: SYN,
            window: 1_000,
            options: vec![2, 4, 5, 0xb4],
            ..Segment::default()
        };
        let packet = syn.packet(from, cx.bed.server);
        cx.bed.wire.send(&frame(
            cx.bed.hardware,
            spoofer.hardware,
            EtherType::IPV4,
            &packet,
        ));
    }
    let mut conn = cx.open(Offer::ALL)?;
    let options = &conn.syn_ack.as_ref().ok_or("no SYN-ACK")?.options;
    let kept = options.scale.is_some() && options.sack_permitted && options.timestamp.is_some();
    ensure!(
        kept,
        "options are lost although the client does timestamps: {options:?}"
    );
    conn.may_shrink = cx.is_kernel();
    // 10 << 7 bytes.
    conn.window = 10;
    let _session = insist(cx, turn, &mut conn, "s20000")?;
    conn.read_pattern_to_end(0, 20_000)?;
    let edge = if conn.shrunk {
        Err("the right edge of the window goes back".to_owned())
    } else {
        Ok(())
    };
    let why = "RFC 9293 §3.8.6: 'A TCP receiver SHOULD NOT shrink the window'; a cookie does not hold the window of its \
               SYN-ACK, and Linux goes on with another one";
    cx.differs(why, edge)?;
    drop(conn);

    let turn = cx.turn()?;
    let mut conn = cx.open(Offer::MSS)?;
    let _session = insist(cx, turn, &mut conn, "e")?;
    conn.alive()
}

/// Sends the request, and again until the application has it, as a client would.
fn insist(cx: &Cx<'_>, turn: Turn<'_>, conn: &mut Conn<'_>, steps: &str) -> Outcome<Session> {
    let session = cx.bed.registry.session();
    let start = conn.nxt;
    for _ in 0..SOON.as_secs() {
        conn.nxt = start;
        conn.data(&session.request(steps));
        if session.server(Duration::from_secs(1)).is_some() {
            turn.settle(&session)?;
            conn.wait_acknowledged()?;
            return Ok(session);
        }
    }
    Err(format!(
        "the client's request is not served within {SOON:?}"
    ))
}

/// All cases' connections have ended by now, or will in a short time.
fn nothing_left(cx: &Cx<'_>) -> Outcome {
    let end = Instant::now() + LEAVING;
    loop {
        // The devices show their tables now and then.
        std::thread::sleep(BRIEF);
        let left = cx.bed.flows();
        if left.is_empty() {
            return Ok(());
        }
        ensure!(
            Instant::now() < end,
            "still there after {LEAVING:?}: {left:?}"
        );
    }
}
