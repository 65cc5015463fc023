//! Which server a client is sent to.

use std::net::IpAddr;

use ipos_balance::{Policy, Request};
use ipos_core::Instant;
use rand_core::Rng;

use super::config::Target;
use super::servers::{Servers, Wanted};
use ipos_proto::Protocol;

/// A service and the policy among its servers.
pub(super) struct Choice {
    service: String,
    policy: Box<dyn Policy>,
}

impl Choice {
    pub(super) fn new(target: &Target) -> Choice {
        Choice {
            service: target.service.clone(),
            policy: target.policy.build(),
        }
    }

    /// What is wanted of a server.
    pub(super) fn wanted(&self, protocol: Option<Protocol>) -> Wanted<'_> {
        Wanted {
            service: &self.service,
            protocol,
        }
    }

    /// The places of all servers that may be chosen: the chosen one first, the others after it, in the order of their Synch
    /// addresses, those before it last. Empty: none lives.
    pub(super) fn choose(
        &mut self,
        now: Instant,
        client: IpAddr,
        protocol: Option<Protocol>,
        servers: &mut Servers,
        rng: &mut dyn Rng,
    ) -> Vec<usize> {
        let (mut places, candidates): (Vec<_>, Vec<_>) = servers
            .candidates(now, self.wanted(protocol))
            .into_iter()
            .unzip();
        let request = Request { key: key(client) };
        let Some(chosen) = self.policy.select(request, &candidates, rng) else {
            return Vec::new();
        };
        let chosen = chosen.min(places.len());
        places.rotate_left(chosen);
        if let Some(first) = places.first() {
            servers.sent(*first);
        }
        places
    }
}

/// What is the same for all requests of one client: an IPv6 host has the addresses of a whole /64.
fn key(client: IpAddr) -> u64 {
    match client.to_canonical() {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => (u128::from(address) >> 64) as u64,
    }
}
