//! Draws a farm from its seed.

use std::collections::BTreeSet;
use std::time::Duration;

use ipos_balance::PolicyKind;
use ipos_core::Port;
use ipos_core::config::{CongestionControl, KeepAlive, Limits, Tcp};

use super::dice::Dice;
use super::kind::Kind;
use super::plan::{Act, Ask, ClientPlan, Ending, Machine, Mover, PORTS, Plan, Talk, What};
use crate::impair::Impairments;

/// Adverts in a row that are never all lost: a server that is silent for so many of them is dead.
const ADVERTS: u32 = 40;
/// Loss of an impaired LAN at the most, and the other probabilities too.
const MOST: f64 = 0.3;
/// When the last connections and faults begin.
pub(super) const ACTIVE: Duration = Duration::from_millis(2_500);
/// A server takes so long to start: longer than a frame for its last life may be under way.
pub(super) const START: Duration = Duration::from_millis(100);
/// The longest time that a LAN is impaired in one go.
const IMPAIRED: Duration = Duration::from_millis(1_500);
/// How long a client waits for all responses on a connection, where servers are not apart for long.
const PATIENCE: Duration = Duration::from_secs(20);

impl Plan {
    /// The farm of this seed.
    pub fn draw(seed: u64) -> Plan {
        Plan::drawn(seed, &BTreeSet::new())
    }

    /// The same without some of the kinds that have a stream of numbers of their own; the others stay as they are.
    pub(super) fn drawn(seed: u64, without: &BTreeSet<Kind>) -> Plan {
        let dice = &mut Dice::new(seed, 1);
        let high = Duration::from_millis(dice.one_of(&[50, 100, 100, 200]));
        let policy = dice.one_of(&PolicyKind::ALL);
        let mut plan = Plan {
            seed,
            servers: dice.one_of(&[2, 2, 3, 3, 3, 4, 4, 5, 6, 8]),
            policy,
            per_request: false,
            farm_key: None,
            high,
            latency: [(); 3].map(|()| dice.micros(10..=5_000)),
            limits: limits(dice, high),
            tcp: tcp(dice),
            service: dice.millis(&[0, 0, 1, 20, 200]),
            clients: Vec::new(),
            patience: PATIENCE,
            askers: Vec::new(),
            acts: Vec::new(),
            calm: Duration::ZERO,
        };
        let clients = dice.uniform(1..=4);
        plan.clients = (0..clients).map(|_| client(dice, plan.servers)).collect();
        plan.draw_impairments(dice);
        for (kind, draw) in [
            (
                Kind::Partition,
                Plan::draw_partitions as fn(&mut Plan, &mut Dice),
            ),
            (Kind::Crash, Plan::draw_crashes),
        ] {
            let before = plan.acts.len();
            draw(&mut plan, dice);
            if without.contains(&kind) {
                plan.acts.truncate(before);
            }
        }
        plan.draw_moves(dice);
        if dice.chance(20) {
            // Nearly full, it answers with cookies.
            plan.limits.temporary = dice.one_of(&[1, 2, 4]);
        }
        plan.draw_rarer(without);
        plan.acts.sort_by_key(|(at, _)| *at);
        let last = plan.acts.last().map_or(Duration::ZERO, |(at, _)| *at);
        plan.calm = last.max(plan.calm);
        plan
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
            let to = from + dice.micros(1_000..=longest);
            let (one, other) = self.two_servers(dice);
            let port = dice.one_of(&[Port::A, Port::B, Port::B, Port::Synch]);
            let other = match port {
                Port::A => Machine::Client(dice.below(self.clients.len())),
                Port::B | Port::Synch | Port::C => other,
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
                let down = dice.micros(100..=3_000_000).max(START);
                self.acts.push((at + down, Act::Restart(server)));
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
        request_deadline: dice.millis(&[50, 500, 3_000]),
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
        delayed_ack: dice.millis(&[0, 10, 40, 200]),
        min_rto: dice.millis(&[50, 200, 200]),
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
        tcp: dice.client_tcp(),
        mtu: if dice.chance(20) {
            dice.uniform(576..=1_500) as u16
        } else {
            1_500
        },
        concurrency: dice.uniform(1..=3) as usize,
        reuse: None,
        ports_per_server: false,
        talks,
    }
}

pub(super) fn talk(dice: &mut Dice, servers: usize) -> Talk {
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
        dice.micros(0..=most)
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
            assert!(!plan.per_request && plan.askers.is_empty() && plan.farm_key.is_none());
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
