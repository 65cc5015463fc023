//! A farm of a campaign: everything that happens, from its seed.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use ipos_balance::PolicyKind;
use ipos_core::Port;
use ipos_core::config::{CongestionControl, KeepAlive, Limits, Tcp};

use super::dice::Dice;
use crate::client::ClientTcp;
use crate::impair::Impairments;
use crate::server::PORTS;

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
    /// Its connections, in the order in which they begin.
    pub talks: Vec<Talk>,
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

/// A kind of thing that happens to farms, to leave it out of a campaign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Frames that are lost.
    Loss,
    /// Frames that come twice.
    Duplication,
    /// Frames that are overtaken.
    Reordering,
    /// Bits that are inverted.
    Corruption,
    /// Machines that do not hear each other.
    Partition,
    /// Servers that crash.
    Crash,
    /// Servers that drain.
    Drain,
    /// Bound connections that are told to move.
    Move,
    /// Requests that are selected for one by one.
    PerRequest,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 9] = [
        Kind::Loss,
        Kind::Duplication,
        Kind::Reordering,
        Kind::Corruption,
        Kind::Partition,
        Kind::Crash,
        Kind::Drain,
        Kind::Move,
        Kind::PerRequest,
    ];

    /// The kind's name.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::Loss => "loss",
            Kind::Duplication => "duplication",
            Kind::Reordering => "reordering",
            Kind::Corruption => "corruption",
            Kind::Partition => "partition",
            Kind::Crash => "crash",
            Kind::Drain => "drain",
            Kind::Move => "move",
            Kind::PerRequest => "per-request",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// There is no kind of this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("nothing is called \"{name}\": choose among {}", Kind::ALL.map(Kind::name).join(", "))]
pub struct UnknownKind {
    /// The name that was given.
    pub name: String,
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(name: &str) -> Result<Kind, UnknownKind> {
        let known = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| UnknownKind { name: name.into() })
    }
}

/// Adverts in a row that are never all lost: a server that is silent for so many of them is dead.
const ADVERTS: u32 = 40;
/// Loss of an impaired LAN at the most, and the other probabilities too.
const MOST: f64 = 0.3;
/// When the last connections and faults begin.
const ACTIVE: Duration = Duration::from_millis(2_500);
/// The longest time that a LAN is impaired in one go.
const IMPAIRED: Duration = Duration::from_millis(1_500);
/// How long a client waits for all responses on a connection: what was lost until the calm is made up for long before.
pub(crate) const PATIENCE: Duration = Duration::from_secs(40);

impl Plan {
    /// The farm of this seed.
    pub fn draw(seed: u64) -> Plan {
        let dice = &mut Dice::new(seed, 1);
        let high = Duration::from_millis(dice.one_of(&[50, 100, 100, 200]));
        let policy = dice.one_of(&PolicyKind::ALL);
        let mut plan = Plan {
            seed,
            servers: dice.one_of(&[2, 2, 3, 3, 3, 4, 4, 5, 6, 8]),
            policy,
            per_request: false,
            high,
            latency: [(); 3].map(|()| Duration::from_micros(dice.magnitude(10..=5_000))),
            limits: limits(dice, high),
            tcp: tcp(dice),
            service: dice.one_of(&[0, 0, 1, 20, 200]).millis(),
            clients: Vec::new(),
            acts: Vec::new(),
            calm: Duration::ZERO,
        };
        let clients = dice.uniform(1..=4);
        plan.clients = (0..clients).map(|_| client(dice, plan.servers)).collect();
        plan.draw_impairments(dice);
        plan.draw_partitions(dice);
        plan.draw_crashes(dice);
        plan.draw_moves(dice);
        plan.draw_cookies(dice);
        plan.acts.sort_by_key(|(at, _)| *at);
        let last = plan.acts.last().map_or(Duration::ZERO, |(at, _)| *at);
        plan.calm = last.max(plan.calm);
        plan
    }

    /// The same without what is of these kinds.
    pub fn without(mut self, kinds: &BTreeSet<Kind>) -> Plan {
        let has = |kind| !kinds.contains(&kind);
        self.per_request &= has(Kind::PerRequest);
        self.acts.retain_mut(|(_, act)| match act {
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
            Act::Part(..) | Act::Heal(..) => has(Kind::Partition),
            Act::Kill(_) | Act::Restart(_) => has(Kind::Crash),
            Act::Drain(..) => has(Kind::Drain),
            Act::Move { .. } => has(Kind::Move),
        });
        self
    }

    /// Requests of all clients together.
    pub fn requests(&self) -> usize {
        let talks = self.clients.iter().flat_map(|client| &client.talks);
        talks.map(|talk| talk.requests.len()).sum()
    }

    /// How long the longest partition may last: shorter than the servers' patience with each other.
    fn partition(high: Duration) -> Duration {
        high * ADVERTS / 2
    }

    fn draw_impairments(&mut self, dice: &mut Dice) {
        for (port, latency) in PORTS.into_iter().zip(self.latency) {
            for _ in 0..dice.one_of(&[0, 0, 1, 1, 2]) {
                let from = dice.time(ACTIVE);
                let to = from + dice.time(IMPAIRED);
                let impairments = impairments(dice, latency);
                self.acts.push((from, Act::Impair(port, impairments)));
                self.acts
                    .push((to, Act::Impair(port, Impairments::default())));
                // Where two times overlap, the end of the first is the end of both, so the calm is behind both.
                self.calm = self.calm.max(to);
            }
        }
    }

    fn draw_partitions(&mut self, dice: &mut Dice) {
        if !dice.chance(30) {
            return;
        }
        for _ in 0..dice.uniform(1..=3) {
            let from = dice.time(ACTIVE);
            let longest = Plan::partition(self.high).as_micros() as u64;
            let to = from + Duration::from_micros(dice.magnitude(1_000..=longest));
            let one = dice.below(self.servers);
            let other = (one + 1 + dice.below(self.servers - 1)) % self.servers;
            let (one, other) = (Machine::Server(one), Machine::Server(other));
            let port = dice.one_of(&[Port::A, Port::B, Port::B, Port::Synch]);
            let other = match port {
                Port::A => Machine::Client(dice.below(self.clients.len())),
                Port::B | Port::Synch => other,
            };
            self.acts.push((from, Act::Part(port, one, other)));
            self.acts.push((to, Act::Heal(port, one, other)));
        }
    }

    fn draw_crashes(&mut self, dice: &mut Dice) {
        if !dice.chance(25) {
            return;
        }
        for _ in 0..dice.one_of(&[1, 1, 1, 2, 3]) {
            let server = dice.below(self.servers);
            let at = dice.time(ACTIVE);
            self.acts.push((at, Act::Kill(server)));
            if dice.chance(80) {
                let down = Duration::from_micros(dice.magnitude(100..=3_000_000));
                self.acts.push((at + down, Act::Restart(server)));
            }
        }
    }

    /// SYNs are answered with cookies where the temporary table is nearly full. Where the client's first segment does not
    /// come through, its second one is none of a connection, and reset (RFC 4987 §3.6): so nothing happens to LAN A then, and
    /// first requests are of one segment.
    fn draw_cookies(&mut self, dice: &mut Dice) {
        let on_a = |act: &Act| matches!(act, Act::Impair(Port::A, _) | Act::Part(Port::A, ..));
        if self.acts.iter().any(|(_, act)| on_a(act)) || !dice.chance(60) {
            return;
        }
        self.limits.temporary = dice.one_of(&[1, 1, 2, 4]);
        let talks = self.clients.iter_mut().flat_map(|client| &mut client.talks);
        for talk in talks {
            if talk.ending == Ending::HalfClose {
                talk.ending = Ending::Server;
            }
            if let Some(first) = talk.requests.first_mut() {
                (first.padding, first.pieces) = (0, None);
                if let What::Upload(_) = first.what {
                    first.what = What::Name;
                }
            }
        }
    }

    fn draw_moves(&mut self, dice: &mut Dice) {
        self.per_request = dice.chance(40);
        if dice.chance(30) {
            for _ in 0..dice.uniform(1..=3) {
                let server = dice.below(self.servers);
                let from = dice.time(ACTIVE);
                self.acts.push((from, Act::Drain(server, true)));
                if dice.chance(70) {
                    let to = from + dice.time(ACTIVE);
                    self.acts.push((to, Act::Drain(server, false)));
                }
            }
        }
        if dice.chance(50) {
            for _ in 0..dice.magnitude(1..=60) {
                let act = Act::Move {
                    pick: dice.below(1_000),
                    to: dice.chance(80).then(|| dice.below(self.servers)),
                    by: dice.one_of(&[Mover::AtOwner, Mover::AtFirst, Mover::Application]),
                };
                self.acts.push((dice.time(ACTIVE), act));
            }
        }
    }
}

fn limits(dice: &mut Dice, high: Duration) -> Limits {
    Limits {
        kept: dice.one_of(&[8_192, 1 << 20, 1 << 20, 1 << 20]),
        forward: dice.one_of(&[1, 4, 1_000, 1_000, 1_000, 1_000]),
        request: dice.magnitude(1_024..=32_768) as usize,
        request_deadline: dice.one_of(&[50, 500, 3_000]).millis(),
        early_packets: dice.one_of(&[1, 8, 8, 8]),
        outbox: dice.one_of(&[16, 1_024, 1_024, 1_024]),
        // A partition does not last so long, and then there are four tries a second.
        install_deadline: Plan::partition(high) + Duration::from_secs(4),
        // No live connection is silent for so long.
        forward_idle: PATIENCE + Duration::from_secs(5),
        tombstone: Duration::from_secs(5),
        owner_lost: dice.chance(85).then_some(high * ADVERTS),
        ..Limits::default()
    }
}

fn tcp(dice: &mut Dice) -> Tcp {
    let receive_buffer = dice.one_of(&[4_096, 16_384, 65_536, 262_144]);
    Tcp {
        receive_buffer,
        window_scale: if receive_buffer > 65_535 {
            7
        } else {
            dice.uniform(0..=3) as u8
        },
        send_buffer: dice.magnitude(2_048..=262_144) as usize,
        delayed_ack: dice.one_of(&[0, 10, 40, 200]).millis(),
        min_rto: dice.one_of(&[50, 200, 200]).millis(),
        max_rto: Duration::from_secs(2),
        // Together with `max_rto` longer than anything is impaired.
        retries: 15,
        syn_retries: 10,
        time_wait: Duration::from_secs(1),
        fin_wait_2: Duration::from_secs(5),
        congestion: dice.one_of(&[CongestionControl::Cubic, CongestionControl::Reno]),
        // A server that nobody speaks to any more, because the first server crashed, sees it.
        keep_alive: Some(KeepAlive {
            idle: Duration::from_secs(10),
            interval: Duration::from_secs(1),
            probes: 8,
        }),
        ..Tcp::default()
    }
}

fn client(dice: &mut Dice, servers: usize) -> ClientPlan {
    let count = dice.uniform(1..=4);
    let mut talks: Vec<Talk> = (0..count).map(|_| talk(dice, servers)).collect();
    talks.sort_by_key(|talk| talk.begin);
    ClientPlan {
        tcp: ClientTcp {
            timestamps: dice.chance(50),
            window_scale: dice.chance(80),
            sack: dice.chance(70),
            mss: dice.chance(90),
            nagle: dice.chance(60),
            ack_delay: dice
                .chance(80)
                .then(|| dice.one_of(&[10, 40, 200]).millis()),
            congestion_control: dice.chance(70),
        },
        mtu: if dice.chance(20) {
            dice.uniform(576..=1_500) as u16
        } else {
            1_500
        },
        concurrency: dice.uniform(1..=3) as usize,
        talks,
    }
}

fn talk(dice: &mut Dice, servers: usize) -> Talk {
    let requests = dice.one_of(&[1, 1, 2, 3, 5, 8]);
    let mut buffer = || dice.magnitude(2_048..=65_536) as usize;
    let (receive_buffer, send_buffer) = (buffer(), buffer());
    Talk {
        begin: dice.time(ACTIVE),
        server: dice.below(servers),
        requests: (0..requests).map(|_| ask(dice)).collect(),
        ending: dice.one_of(&[
            Ending::Server,
            Ending::Server,
            Ending::Client,
            Ending::HalfClose,
        ]),
        receive_buffer,
        send_buffer,
    }
}

fn ask(dice: &mut Dice) -> Ask {
    let what = match dice.uniform(0..=9) {
        0..=1 => What::Name,
        2..=7 => What::Download(dice.magnitude(0..=200_000)),
        _ => What::Upload(dice.magnitude(0..=50_000)),
    };
    let pause = |dice: &mut Dice, most| {
        let most = dice.one_of(&[0, 0, most]);
        Duration::from_micros(dice.magnitude(0..=most))
    };
    let pieces = dice.chance(25).then(|| {
        // A few dozen pieces at the most.
        let least = if let What::Upload(bytes) = what {
            bytes / 32 + 16
        } else {
            16
        };
        (dice.magnitude(least..=least + 4_000), pause(dice, 50_000))
    });
    Ask {
        what,
        padding: if dice.chance(20) {
            dice.magnitude(1..=6_000) as usize
        } else {
            0
        },
        pieces,
        pause: pause(dice, 1_000_000),
    }
}

/// Something between nothing at all and nearly everything.
fn impairments(dice: &mut Dice, latency: Duration) -> Impairments {
    let most = dice.one_of(&[0.01, 0.05, MOST, MOST]);
    let mut rate = |percent| {
        if dice.chance(percent) {
            dice.probability(most)
        } else {
            0.0
        }
    };
    let (loss, duplication) = (rate(80), rate(50));
    let (reordering, corruption) = (rate(50), rate(40));
    Impairments {
        loss,
        duplication,
        reordering,
        corruption,
        hold_back: dice.time((10 * latency).min(Duration::from_millis(50))),
        jitter: dice.time(latency),
        ..Impairments::default()
    }
}

/// So that a table reads as one.
trait Millis {
    fn millis(self) -> Duration;
}

impl Millis for u64 {
    fn millis(self) -> Duration {
        Duration::from_millis(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_seed_one_plan() {
        let text = |seed| format!("{:?}", Plan::draw(seed));
        assert_eq!(text(5), text(5));
        assert_ne!(text(5), text(6));
    }

    #[test]
    fn plans_hold() {
        for seed in 0..2_000 {
            let plan = Plan::draw(seed);
            assert!((2..=8).contains(&plan.servers));
            assert!(plan.requests() > 0);
            assert!(plan.acts.is_sorted_by_key(|(at, _)| *at));
            for (at, act) in &plan.acts {
                assert!(*at <= plan.calm);
                if let Act::Impair(_, impairments) = act {
                    assert!(impairments.validate().is_ok() && impairments.loss <= MOST);
                }
            }
        }
    }

    #[test]
    fn kinds_can_be_left_out() {
        let all: BTreeSet<Kind> = Kind::ALL.into();
        for seed in 0..100 {
            let plan = Plan::draw(seed).without(&all);
            assert!(!plan.per_request);
            for (_, act) in plan.acts {
                let Act::Impair(_, impairments) = act else {
                    panic!("{act:?}");
                };
                let Impairments {
                    loss,
                    duplication,
                    reordering,
                    corruption,
                    ..
                } = impairments;
                assert_eq!(loss + duplication + reordering + corruption, 0.0);
            }
        }
        assert_eq!("crash".parse(), Ok(Kind::Crash));
        let unknown = "fire".parse::<Kind>().unwrap_err();
        assert!(
            unknown.to_string().contains("partition, crash, drain"),
            "{unknown}"
        );
    }
}
