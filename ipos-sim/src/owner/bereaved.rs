//! Connections that cannot go on: nothing of them is checked any more.

use ipos_core::{Flow, Instant};

use super::hearing::Sign;
use super::ownership::Ownership;
use super::{FLOWS, OneOwner};

impl OneOwner {
    /// The connection cannot go on: nothing of it is checked any more.
    pub(super) fn bereave(&mut self, now: Instant, flow: Flow) {
        self.free(flow);
        if self.bereaved.len() < FLOWS || self.bereaved.contains_key(&flow) {
            self.bereaved.entry(flow).or_default().push(now);
        }
    }

    /// Nothing of the connection is checked any more. One whose SYN has come may begin.
    pub(super) fn free(&mut self, flow: Flow) {
        let Some(known) = self.flows.remove(&flow) else {
            return;
        };
        if self.freed.len() < FLOWS || self.freed.contains_key(&flow) {
            self.freed.entry(flow).or_default().push(known.isn);
        }
        if let Some(isn) = known.next {
            let owner = self.first(&flow);
            let next = Ownership {
                isn,
                owner,
                ..Ownership::default()
            };
            self.flows.insert(flow, next);
        }
    }

    /// A sign of life comes to a server. Its connections that another server has are lost, perhaps, if that one was silent for
    /// too long before.
    pub(super) fn hears(&mut self, now: Instant, server: usize, from: usize, sign: Sign) {
        let Some(since) = self.hearing.hears(now, (server, from), sign) else {
            return;
        };
        let ours = |flow: &Flow| self.addresses.get(flow.endpoint.ip()) == Some(&server);
        self.datagrams.given_up(from, ours);
        // Or passes packets on to.
        let leads = |flow: &Flow, known: &Ownership| {
            ours(flow) && known.forwarded_to == Some(from)
                || known.passed_to.get(&server) == Some(&from)
        };
        let lost = self.flows.iter();
        let lost = lost.filter(|(flow, known)| leads(flow, known));
        let lost: Vec<Flow> = lost.map(|(flow, _)| *flow).collect();
        for flow in lost {
            self.bereave(since, flow);
        }
    }
}
