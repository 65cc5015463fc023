//! Selection (FIG. 7, equations 1 and 2).

use core::net::Ipv4Addr;

use ipos_balance::{Candidate, Readiness, Request};

use super::Device;
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
    ) -> Choice {
        if !self.me.draining && self.is_below_threshold() {
            self.me.selected += 1;
            self.me.expected += 1.0;
            return Choice::Local;
        }
        self.gather_candidates(now, listener, but);
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
        let mut add = |server: u32, connections: u32, readiness, target: Option<Target>| {
            self.candidates.push(Candidate {
                readiness,
                ..Candidate::new(server, connections)
            });
            self.targets.push(target);
        };
        let mut me = Some((mine, connections));
        for member in self.members.iter() {
            let server = u32::from(member.synch);
            if let Some((mine, connections)) = me.filter(|(mine, _)| *mine < server) {
                add(mine, connections, Readiness::FULL, None);
                me = None;
            }
            if !member.is_alive(now, silence) || member.draining {
                continue;
            }
            // Still one of the set: other keys are not to move because one offer has failed.
            let readiness = match but.contains(&member.port_b) {
                true => Readiness::NONE,
                false => Readiness::FULL,
            };
            if let Some(port) = member.serves(wanted) {
                let target = Target {
                    address: member.port_b,
                    hardware: member.hardware,
                    port,
                };
                add(
                    server,
                    member.connections.saturating_add(member.sent),
                    readiness,
                    Some(target),
                );
            }
        }
        if let Some((mine, connections)) = me {
            add(mine, connections, Readiness::FULL, None);
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
