//! The cases.

mod close;
mod flood;
mod handover;
mod handshake;
mod icmp;
mod malformed;
mod network;
mod options;
mod reassembly;
mod reset;
mod retransmit;
mod sack;
mod timestamps;
mod validation;
mod window;

use crate::conn::Conn;
use crate::cx::{BRIEF, Cx, Outcome};
use crate::segment::RST;

/// Where a case runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Against every server.
    Everywhere,
    /// Not on migrated connections: the case ends before a request, or has none.
    Unmigrated,
    /// Against every server, while no other case runs there.
    Alone,
    /// As [`Scope::Alone`], not against the kernel.
    OursAlone,
}

/// One case.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub scope: Scope,
    pub run: fn(&Cx<'_>) -> Outcome,
}

const fn everywhere(name: &'static str, run: fn(&Cx<'_>) -> Outcome) -> Case {
    Case {
        name,
        scope: Scope::Everywhere,
        run,
    }
}

const fn unmigrated(name: &'static str, run: fn(&Cx<'_>) -> Outcome) -> Case {
    Case {
        name,
        scope: Scope::Unmigrated,
        run,
    }
}

/// The connection is closed at the server: a segment finds nothing.
fn gone(conn: &mut Conn<'_>) -> Outcome {
    // A server that it had moved to tells the first one.
    std::thread::sleep(BRIEF);
    conn.acknowledge();
    let rcv = conn.rcv;
    conn.expect("RST: the connection is gone", |seen| {
        seen.flags == RST && seen.seq == rcv
    })
    .map(drop)
}

/// What depends on time succeeds once in a few tries, also on a machine that is busy.
fn patiently(mut attempt: impl FnMut() -> Outcome) -> Outcome {
    attempt().or_else(|_| attempt()).or_else(|_| attempt())
}

/// All of them.
pub fn all() -> impl Iterator<Item = Case> {
    [
        handshake::CASES,
        options::CASES,
        reset::CASES,
        validation::CASES,
        reassembly::CASES,
        sack::CASES,
        handover::CASES,
        close::CASES,
        window::CASES,
        retransmit::CASES,
        timestamps::CASES,
        malformed::CASES,
        network::CASES,
        icmp::CASES,
        flood::CASES,
    ]
    .into_iter()
    .flatten()
    .copied()
}
