//! How a server takes what is offered to it: as a whole, and service by service.

use alloc::vec::Vec;

use ipos_balance::{Health, Readiness};
use ipos_proto::Protocol;

use crate::config::Listen;
use crate::time::Instant;

/// Where a server listens for a service: protocol and port.
pub(crate) type Service = (Protocol, u16);

/// What a server's answers to hand-overs say of it. That the application of one service is not there says nothing of its other
/// services; whatever else is the reason, all of them have it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Willingness {
    server: Health,
    /// Services whose application was not there lately. Bounded by the sockets that the server listens at.
    services: Vec<(Service, Health)>,
}

impl Willingness {
    /// A hand-over was refused for a reason of the server's, or was not answered.
    pub(crate) fn server_failed(&mut self, now: Instant) {
        self.server.failed(now.since_origin());
    }

    /// A hand-over was refused: the application is not there. `listen` is where the server listens now; a service that is not
    /// among these is not selected anyway.
    pub(crate) fn service_failed(&mut self, now: Instant, service: Service, listen: &[Listen]) {
        let now = now.since_origin();
        let listens = |at: Service| {
            let mut listen = listen.iter();
            listen.any(|l| (l.protocol, l.address.port()) == at)
        };
        self.services
            .retain(|(at, health)| listens(*at) && health.readiness(now) < Readiness::FULL);
        match self.services.iter_mut().find(|(at, _)| *at == service) {
            Some((_, health)) => health.failed(now),
            None if listens(service) => {
                let mut health = Health::default();
                health.failed(now);
                self.services.push((service, health));
            }
            None => {}
        }
    }

    /// A hand-over was taken.
    pub(crate) fn succeeded(&mut self, now: Instant, service: Service) {
        let now = now.since_origin();
        self.server.succeeded(now);
        if let Some((_, health)) = self.services.iter_mut().find(|(at, _)| *at == service) {
            health.succeeded(now);
        }
    }

    /// How ready the server is to take a connection of a service.
    pub(crate) fn readiness(&self, now: Instant, service: Service) -> Readiness {
        let now = now.since_origin();
        let mut services = self.services.iter();
        let of_service = services.find(|(at, _)| *at == service);
        let of_service = of_service.map_or(Readiness::FULL, |(_, health)| health.readiness(now));
        self.server.readiness(now).and(of_service)
    }
}

#[cfg(test)]
mod tests {
    use alloc::vec;
    use core::net::SocketAddrV4;

    use super::*;
    use crate::time::Duration;

    fn listen(ports: impl IntoIterator<Item = u16>) -> Vec<Listen> {
        let listen = ports.into_iter().map(|port| Listen {
            address: SocketAddrV4::new([10, 77, 0, 12].into(), port),
            protocol: Protocol::Tcp,
            service: "web".into(),
        });
        listen.collect()
    }

    const fn at(port: u16) -> Service {
        (Protocol::Tcp, port)
    }

    #[test]
    fn reasons_of_the_server_and_of_a_service_are_both_counted() {
        let (now, half) = (Instant::from_millis(10_000), Readiness::new(1, 2));
        let mut of = Willingness::default();
        of.service_failed(now, at(80), &listen([80, 81]));
        assert_eq!(of.readiness(now, at(80)), half);
        assert_eq!(of.readiness(now, at(81)), Readiness::FULL);
        assert_eq!(of.readiness(now, (Protocol::Udp, 80)), Readiness::FULL);
        of.server_failed(now);
        assert_eq!(of.readiness(now, at(80)), half.and(half));
        assert_eq!(of.readiness(now, at(81)), half);
        of.succeeded(now, at(81));
        assert_eq!(of.readiness(now, at(80)), half);
        of.succeeded(now, at(80));
        assert_eq!(of.readiness(now, at(80)), Readiness::FULL);
    }

    /// What has recovered is forgotten, and what the server listens for no longer.
    #[test]
    fn there_are_no_more_services_than_the_server_listens_for() {
        let mut now = Instant::from_millis(10_000);
        let mut of = Willingness::default();
        for port in 1..=100 {
            of.service_failed(now, at(port), &listen([port, port + 1]));
            assert!(of.services.len() <= 2);
        }
        of.service_failed(now, at(7), &listen([8]));
        assert_eq!(of.services, vec![]);
        let all = listen(1..=3);
        for port in 1..=3 {
            of.service_failed(now, at(port), &all);
        }
        assert_eq!(of.services.len(), 3);
        now += Duration::from_secs(1);
        of.service_failed(now, at(1), &all);
        assert_eq!(of.services.len(), 1);
    }
}
