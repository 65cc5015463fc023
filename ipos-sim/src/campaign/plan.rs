//! A farm of a campaign: everything that happens, from its seed.

use std::collections::BTreeSet;
use std::time::Duration;

use ipos_balance::PolicyKind;
use ipos_core::config::{Limits, Tcp};
use ipos_core::{FarmKey, Port};

use super::kind::Kind;
use crate::client::ClientTcp;
use crate::impair::Impairments;

/// The LANs of its farms.
pub(super) const PORTS: [Port; 3] = [Port::A, Port::B, Port::Synch];

/// Everything about one farm.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Its seed.
    pub seed: u64,
    /// Servers, 2 to 8.
    pub servers: usize,
    /// How they are selected.
    pub policy: PolicyKind,
    /// Whether later requests of a connection are selected for.
    pub per_request: bool,
    /// What the servers recognise each other by.
    pub farm_key: Option<FarmKey>,
    /// Interval of the adverts of high priority.
    pub high: Duration,
    /// Latency of LANs A, B and Synch.
    pub latency: [Duration; 3],
    /// The servers' tables and deadlines.
    pub limits: Limits,
    /// The servers' TCP.
    pub tcp: Tcp,
    /// The longest time that the application takes for an answer.
    pub service: Duration,
    /// The client hosts.
    pub clients: Vec<ClientPlan>,
    /// How long a client waits for all responses on a connection: what was lost until the calm is made up for long before.
    pub patience: Duration,
    /// The hosts that send datagrams.
    pub askers: Vec<AskerPlan>,
    /// What happens to the farm, in order.
    pub acts: Vec<(Duration, Act)>,
    /// From then on nothing is impaired or apart.
    pub calm: Duration,
}

/// A client host.
#[derive(Clone, Debug)]
pub struct ClientPlan {
    /// How its TCP behaves.
    pub tcp: ClientTcp,
    /// Its largest IP packet, in bytes.
    pub mtu: u16,
    /// Connections that it has at a time.
    pub concurrency: usize,
    /// Few ports, so that it uses them again.
    pub reuse: Option<Reuse>,
    /// Each server has its ports for itself: the same one is in use with several of them at once.
    pub ports_per_server: bool,
    /// Its connections, in the order in which they begin.
    pub talks: Vec<Talk>,
}

/// How a client uses its ports again.
#[derive(Clone, Copy, Debug)]
pub struct Reuse {
    /// Ports that it has.
    pub ports: u16,
    /// How long each rests after a connection.
    pub rest: Duration,
}

/// A host that sends datagrams.
#[derive(Clone, Debug)]
pub struct AskerPlan {
    /// When, from which of its ports, to which server, and how many bytes.
    pub questions: Vec<(Duration, u16, usize, usize)>,
    /// It asks again after so long.
    pub interval: Duration,
}

/// A connection.
#[derive(Clone, Debug)]
pub struct Talk {
    /// It begins no earlier.
    pub begin: Duration,
    /// The server that the client connects to.
    pub server: usize,
    /// The requests, one after the other.
    pub requests: Vec<Ask>,
    /// How it ends.
    pub ending: Ending,
    /// Size of the client's receive buffer, in bytes.
    pub receive_buffer: usize,
    /// Size of the client's send buffer, in bytes.
    pub send_buffer: usize,
}

/// A request.
#[derive(Clone, Debug)]
pub struct Ask {
    /// What it asks for.
    pub what: What,
    /// Bytes that its head is longer by.
    pub padding: usize,
    /// Bytes written at a time, and the pause after each piece.
    pub pieces: Option<(u64, Duration)>,
    /// The client's pause before it.
    pub pause: Duration,
}

/// What a request asks for.
#[derive(Clone, Copy, Debug)]
pub enum What {
    /// The server's name.
    Name,
    /// So many bytes.
    Download(u64),
    /// Count and digest of so many bytes that are sent.
    Upload(u64),
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The last request asks the server to close.
    Server,
    /// The client closes after the last response.
    Client,
    /// The client closes its direction behind the last request.
    HalfClose,
}

/// Something that happens to the farm.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Act {
    /// From now on this happens to frames on the LAN of the ports.
    Impair(Port, Impairments),
    /// Two machines do not hear each other on the LAN of the ports.
    Part(Port, Machine, Machine),
    /// They do again.
    Heal(Port, Machine, Machine),
    /// A server loses its state; what comes to it vanishes.
    Kill(usize),
    /// It comes back, with empty tables.
    Restart(usize),
    /// A server says that it leaves; its connections go on.
    Leave(usize),
    /// A server that has left stops.
    Stop(usize),
    /// A server begins or ends draining.
    Drain(usize, bool),
    /// A bound connection shall move.
    Move {
        /// Which one of those that there are then: the number wraps around.
        pick: usize,
        /// To this server; `None`: to the one that selection finds.
        to: Option<usize>,
        /// Who says so.
        by: Mover,
    },
}

/// Who tells a connection to move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mover {
    /// An operator, at its owner.
    AtOwner,
    /// An operator, at the server that the client connected to.
    AtFirst,
    /// Its application.
    Application,
}

/// A machine of the farm, by its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// A server.
    Server(usize),
    /// A client host.
    Client(usize),
}

impl Plan {
    /// The same without what is of these kinds.
    pub fn without(self, kinds: &BTreeSet<Kind>) -> Plan {
        let mut plan = Plan::drawn(self.seed, kinds);
        let has = |kind| !kinds.contains(&kind);
        plan.per_request &= has(Kind::PerRequest);
        plan.acts.retain_mut(|(_, act)| match act {
            Act::Impair(_, impairments) => {
                let off = |value: &mut f64, kind| {
                    if !has(kind) {
                        *value = 0.0;
                    }
                };
                off(&mut impairments.loss, Kind::Loss);
                off(&mut impairments.duplication, Kind::Duplication);
                off(&mut impairments.reordering, Kind::Reordering);
                off(&mut impairments.corruption, Kind::Corruption);
                true
            }
            Act::Part(..) | Act::Heal(..) | Act::Kill(_) | Act::Restart(_) => true,
            Act::Leave(_) | Act::Stop(_) => true,
            Act::Drain(..) => has(Kind::Drain),
            Act::Move { .. } => has(Kind::Move),
        });
        plan
    }

    /// Requests of all clients together.
    pub fn requests(&self) -> usize {
        let talks = self.clients.iter().flat_map(|client| &client.talks);
        talks.map(|talk| talk.requests.len()).sum()
    }
}
