//! Connections that cannot go on: nothing of them is checked any more.

use ipos_core::{Flow, Instant};

use super::hearing::Sign;
use super::ownership::Ownership;
use super::{FLOWS, OneOwner};

impl OneOwner {
    /// The connection cannot go on: nothing of it is checked any more.
    pub(super) fn bereave(&mut self, now: Instant, flow: Flow) {
        self.free(flow);
        self.note_loss(now, flow);
    }

    fn note_loss(&mut self, now: Instant, flow: Flow) {
        if self.bereaved.len() < FLOWS || self.bereaved.contains_key(&flow) {
            self.bereaved.entry(flow).or_default().push(now);
        }
    }

    /// The server that the connection was handed over to has let it lapse for want of a packet; it may be offered the endpoint again.
    pub(super) fn lapse(&mut self, flow: Flow, server: usize) {
        self.free(flow);
        if !self.flows.contains_key(&flow)
            && (self.lapsed.len() < FLOWS || self.lapsed.contains_key(&flow))
        {
            self.lapsed.insert(flow, server);
        }
    }

    /// These of the connections that have lapsed are not taken again.
    pub(super) fn lapsed_is_lost(&mut self, now: Instant, which: impl Fn(&Flow, usize) -> bool) {
        let lost = self
            .lapsed
            .extract_if(.., |flow, server| which(flow, *server));
        let lost: Vec<Flow> = lost.map(|(flow, _)| flow).collect();
        for flow in lost {
            self.note_loss(now, flow);
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
