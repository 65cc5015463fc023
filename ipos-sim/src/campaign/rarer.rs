//! Draws what happens to some farms only, each kind from numbers of its own.

use std::collections::BTreeSet;
use std::time::Duration;

use ipos_core::config::Limits;
use ipos_core::{FarmKey, Port};

use super::dice::Dice;
use super::draw::{ACTIVE, START, talk};
use super::kind::Kind;
use super::plan::{Act, AskerPlan, Machine, Plan, Reuse};

/// The longest time that two servers do not hear each other.
const LONGEST: Duration = Duration::from_secs(6);
/// How long a client waits where servers may be apart for so long.
const PATIENCE: Duration = Duration::from_secs(40);

/// Draws one kind.
type Draw = fn(&mut Plan, &mut Dice);

impl Plan {
    /// Everything of these kinds but those `without`.
    pub(super) fn draw_rarer(&mut self, without: &BTreeSet<Kind>) {
        let draws: [(Kind, u64, Draw); 7] = [
            (Kind::Udp, 35, Plan::draw_askers),
            (Kind::Reuse, 35, Plan::draw_reuse),
            (Kind::Leave, 20, Plan::draw_leaves),
            (Kind::LongPartition, 15, Plan::draw_long_partitions),
            (Kind::SmallLimits, 30, Plan::draw_small_limits),
            (Kind::FarmKey, 30, Plan::draw_farm_key),
            (Kind::SharedPorts, 33, Plan::draw_shared_ports),
        ];
        for ((kind, percent, draw), stream) in draws.into_iter().zip(2..) {
            let dice = &mut Dice::new(self.seed, stream);
            if dice.chance(percent) && !without.contains(&kind) {
                draw(self, dice);
            }
        }
    }

    fn draw_farm_key(&mut self, dice: &mut Dice) {
        let mut key = [0; FarmKey::LEN];
        key[..8].copy_from_slice(&dice.number().to_be_bytes());
        self.farm_key = Some(FarmKey::new(key));
    }

    fn draw_askers(&mut self, dice: &mut Dice) {
        self.limits.udp_idle = dice.millis(&[300, 2_000, 10_000]);
        for _ in 0..dice.uniform(1..=3) {
            let (ports, servers) = (dice.uniform(1..=2), dice.uniform(1..=2));
            let servers: Vec<usize> = (0..servers).map(|_| dice.below(self.servers)).collect();
            let mut at = dice.time(ACTIVE);
            let questions = (0..dice.magnitude(1..=60)).map(|_| {
                at += dice.micros(0..=1_000_000);
                let port = 4_000 + dice.uniform(1..=ports) as u16;
                let server = servers[dice.below(servers.len())];
                (at, port, server, dice.magnitude(0..=1_400) as usize)
            });
            self.askers.push(AskerPlan {
                questions: questions.collect(),
                interval: dice.millis(&[50, 400, 400]),
            });
        }
    }

    fn draw_reuse(&mut self, dice: &mut Dice) {
        for client in &mut self.clients {
            if !dice.chance(60) {
                continue;
            }
            let more = dice.uniform(0..=6);
            client
                .talks
                .extend((0..more).map(|_| talk(dice, self.servers)));
            client.talks.sort_by_key(|talk| talk.begin);
            if dice.chance(70) {
                let server = dice.below(self.servers);
                client
                    .talks
                    .iter_mut()
                    .for_each(|talk| talk.server = server);
            }
            client.reuse = Some(Reuse {
                ports: client.concurrency as u16 + u16::from(dice.chance(30)),
                rest: dice.millis(&[0, 0, 1, 100, 1_000]),
            });
            if dice.chance(60) {
                client.tcp.time_wait = Some(dice.millis(&[0, 0, 10, 1_000]));
            }
        }
    }

    /// A client that comes to a few servers at once, from the same ports.
    fn draw_shared_ports(&mut self, dice: &mut Dice) {
        for client in &mut self.clients {
            if dice.chance(20) {
                continue;
            }
            client.ports_per_server = true;
            client.concurrency = dice.uniform(2..=4) as usize;
            let more = dice.uniform(0..=6);
            client
                .talks
                .extend((0..more).map(|_| talk(dice, self.servers)));
            // A few come together.
            let together = dice.time(ACTIVE);
            for talk in &mut client.talks {
                talk.server = dice.below(self.servers.min(3));
                if dice.chance(30) {
                    talk.begin = together;
                }
            }
            client.talks.sort_by_key(|talk| talk.begin);
            if dice.chance(40) {
                client.reuse = Some(Reuse {
                    ports: dice.uniform(1..=2) as u16,
                    rest: dice.millis(&[0, 0, 1, 100, 1_000]),
                });
            }
        }
    }

    fn draw_leaves(&mut self, dice: &mut Dice) {
        for _ in 0..dice.uniform(1..=2) {
            let server = dice.below(self.servers);
            let mut at = dice.time(ACTIVE);
            if dice.chance(50) {
                self.acts.push((at, Act::Drain(server, true)));
                at += dice.micros(0..=1_000_000);
            }
            self.acts.push((at, Act::Leave(server)));
            at += dice.micros(0..=3_000_000);
            self.acts.push((at, Act::Stop(server)));
            if dice.chance(60) {
                at += dice.micros(100..=3_000_000).max(START);
                self.acts.push((at, Act::Restart(server)));
            }
        }
    }

    /// Longer than the default deadlines, which the others are shorter than.
    fn draw_long_partitions(&mut self, dice: &mut Dice) {
        let default = Limits::default();
        self.patience = PATIENCE;
        self.limits.forward_idle = PATIENCE + Duration::from_secs(5);
        self.limits.install_deadline = default.install_deadline;
        self.limits.tombstone = dice.one_of(&[self.limits.tombstone, default.tombstone]);
        if dice.chance(60) {
            self.limits.owner_lost = default.owner_lost;
        }
        for _ in 0..dice.uniform(1..=2) {
            let from = dice.time(ACTIVE);
            let to = from + dice.time(LONGEST);
            let (one, other) = self.two_servers(dice);
            let ports: &[Port] = dice.one_of(&[
                &[Port::B],
                &[Port::B],
                &[Port::Synch],
                &[Port::B, Port::Synch],
            ]);
            for &port in ports {
                self.acts.push((from, Act::Part(port, one, other)));
                self.acts.push((to, Act::Heal(port, one, other)));
            }
        }
    }

    /// Two servers that are not the same.
    pub(super) fn two_servers(&self, dice: &mut Dice) -> (Machine, Machine) {
        let one = dice.below(self.servers);
        let other = (one + 1 + dice.below(self.servers - 1)) % self.servers;
        (Machine::Server(one), Machine::Server(other))
    }

    fn draw_small_limits(&mut self, dice: &mut Dice) {
        fn some<const N: usize>(dice: &mut Dice, limit: &mut usize, choices: &[usize; N]) {
            let choice = dice.one_of(choices);
            if dice.chance(30) {
                *limit = choice;
            }
        }
        let limits = &mut self.limits;
        some(dice, &mut limits.endpoints, &[1, 2, 3, 6]);
        some(dice, &mut limits.temporary, &[1, 2, 4]);
        some(dice, &mut limits.time_wait, &[0, 1, 2]);
        some(dice, &mut limits.forward, &[0, 1, 2, 4]);
        // A packet at the least: a datagram is kept until its server is settled.
        some(dice, &mut limits.kept, &[1_600, 4_096]);
        some(dice, &mut limits.early_packets, &[1, 2]);
        some(dice, &mut limits.buffers, &[0, 8_192, 65_536]);
        some(dice, &mut limits.neighbours, &[1, 2]);
        some(dice, &mut limits.outbox, &[4, 8]);
        some(dice, &mut limits.datagrams, &[1]);
        if dice.chance(30) {
            limits.tombstone = dice.millis(&[200, 1_000]);
        }
    }
}
