//! Selection (FIG. 7, equations 1 and 2).

use core::net::Ipv4Addr;
use core::num::NonZeroU16;

use ipos_balance::{Candidate, Readiness, Request};

use super::Device;
use crate::config::Balance;
use crate::content::{Servers, Wanted};
use crate::handover::Target;
use crate::time::Instant;

/// Which server a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Choice {
    /// This one.
    Local,
    /// Another one.
    Server(Target),
}

impl Device {
    /// Threshold, then policy, among the live servers of the listener's service; `but` those that were asked
    /// already. The key is the client's address: whichever server it reaches, the same one is chosen by hash.
    pub(super) fn select(
        &mut self,
        now: Instant,
        client: Ipv4Addr,
        listener: usize,
        but: &[Ipv4Addr],
        wanted: &Wanted,
    ) -> Choice {
        if let Some(choice) = self.select_wanted(now, client, listener, but, wanted, false) {
            return choice;
        }
        let available = !self.me.unavailable.contains(&listener);
        if !self.me.draining && available && self.is_below_threshold() {
            self.me.selected += 1;
            self.me.expected += 1.0;
            return Choice::Local;
        }
        self.gather_candidates(now, listener, but);
        self.choose(client)
    }

    /// One of those that the maps name, if any lives; this server if it is one of them, and shall `stay`.
    pub(super) fn select_wanted(
        &mut self,
        now: Instant,
        client: Ipv4Addr,
        listener: usize,
        but: &[Ipv4Addr],
        wanted: &Wanted,
        stay: bool,
    ) -> Option<Choice> {
        for (rule, servers) in wanted.lists().enumerate() {
            self.gather_candidates(now, listener, but);
            self.keep_only(servers);
            if self
                .candidates
                .iter()
                .any(|c| c.readiness > Readiness::NONE)
            {
                let mut here = self.targets.iter().zip(&self.candidates);
                if stay && here.any(|(to, c)| to.is_none() && c.readiness > Readiness::NONE) {
                    return Some(Choice::Local);
                }
                return Some(self.choose(client));
            }
            // Who has not taken this very request is counted as such.
            self.counters.unavailable += u64::from(rule == 0 && but.is_empty());
        }
        None
    }

    /// The policy among the candidates.
    fn choose(&mut self, client: Ipv4Addr) -> Choice {
        self.chances.clear();
        self.chances.resize(self.candidates.len(), 0.0);
        self.policy
            .probabilities(&self.candidates, &mut self.chances);
        let request = Request {
            key: u32::from(client).into(),
        };
        let picked = self.policy.select(request, &self.candidates, &mut self.rng);
        for (at, (target, chance)) in self.targets.iter().zip(&self.chances).enumerate() {
            let (selected, expected) = match target {
                None => (&mut self.me.selected, &mut self.me.expected),
                Some(target) => match self.members.by_port_b_mut(target.address) {
                    Some(member) => (&mut member.selected, &mut member.expected),
                    None => continue,
                },
            };
            *selected += u64::from(picked == Some(at));
            *expected += chance;
        }
        match picked.and_then(|at| self.targets.get(at)) {
            Some(&Some(target)) => Choice::Server(target),
            Some(None) | None => Choice::Local,
        }
    }

    /// Of the candidates, those that a map names.
    fn keep_only(&mut self, servers: &Servers) {
        let Device {
            candidates,
            targets,
            members,
            config,
            me,
            ..
        } = self;
        let named = |target: &Option<Target>| {
            let name = match target {
                None if me.draining => return false,
                None => &config.name,
                Some(target) => match members.by_port_b(target.address) {
                    Some(member) => &member.name,
                    None => return false,
                },
            };
            servers.iter().any(|server| **server == **name)
        };
        let mut keep = targets.iter().map(named);
        candidates.retain(|_| keep.next().unwrap_or(false));
        targets.retain(|target| named(target));
    }

    /// Below all thresholds that are set the server keeps every request.
    fn is_below_threshold(&self) -> bool {
        let threshold = self.config.balance.activity_threshold;
        let connections = threshold.connections == 0 || self.connections() < threshold.connections;
        let cpu = threshold.cpu <= 0.0 || self.me.load.cpu < threshold.cpu;
        (threshold.connections > 0 || threshold.cpu > 0.0) && connections && cpu
    }

    fn gather_candidates(&mut self, now: Instant, listener: usize, but: &[Ipv4Addr]) {
        self.candidates.clear();
        self.targets.clear();
        let Some(wanted) = self.config.listen.get(listener) else {
            return;
        };
        let silence = self.config.synch.silence;
        let mine = u32::from(self.config.synch.address);
        // Ordered by Synch address, this server in its place: policies see the same order on all servers.
        let connections = self.connections();
        let Balance {
            slow_start,
            weights,
            ..
        } = &self.config.balance;
        let weight = |name: &str| {
            let of = weights.iter().find(|(server, _)| server == name);
            of.map_or(NonZeroU16::MIN, |(_, weight)| *weight)
        };
        // From its return on, and by how it has taken what was offered.
        let since = |up: Option<Instant>| {
            up.map_or(Readiness::FULL, |up| {
                slow_start.readiness(now.saturating_since(up))
            })
        };
        let mut add = |candidate: Candidate, target: Option<Target>| {
            self.candidates.push(candidate);
            self.targets.push(target);
        };
        let mut me = Some(Candidate {
            weight: weight(&self.config.name),
            readiness: match self.me.unavailable.contains(&listener) {
                true => Readiness::NONE,
                false => since(self.me.up),
            },
            ..Candidate::new(mine, connections)
        });
        for member in self.members.iter() {
            let server = u32::from(member.synch);
            if let Some(mine) = me.take_if(|me| me.server < server) {
                add(mine, None);
            }
            if !member.is_alive(now, silence) || member.draining {
                continue;
            }
            if let Some(port) = member.serves(wanted) {
                let service = (wanted.protocol, port);
                // Still one of the set: other keys are not to move because one offer has failed.
                let readiness = match but.contains(&member.port_b) {
                    true => Readiness::NONE,
                    false => since(member.since).and(member.willingness.readiness(now, service)),
                };
                let target = Target {
                    address: member.port_b,
                    hardware: member.hardware,
                    port,
                };
                let connections = member.connections.saturating_add(member.sent);
                let candidate = Candidate {
                    weight: weight(&member.name),
                    readiness,
                    ..Candidate::new(server, connections)
                };
                add(candidate, Some(target));
            }
        }
        if let Some(mine) = me {
            add(mine, None);
        }
        // Draining: this server only where there is no other.
        let ready = |c: &Candidate| c.readiness > Readiness::NONE;
        let mut others = self.targets.iter().zip(&self.candidates);
        if self.me.draining && others.any(|(target, c)| target.is_some() && ready(c)) {
            let mine = self.targets.iter().position(Option::is_none);
            mine.into_iter().for_each(|at| {
                self.targets.remove(at);
                self.candidates.remove(at);
            });
        }
    }
}
