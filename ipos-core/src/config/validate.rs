//! What a configuration must hold.

use super::{Config, ConfigError, IP_TCP};

/// Least MSS that leaves a connection usable.
const MIN_MSS: u16 = 536;

impl Config {
    /// Whether the device can be made of it.
    ///
    /// # Errors
    /// The first field that does not hold.
    pub fn validate(&self) -> Result<(), ConfigError> {
        use ipos_proto::synch::{NAME_MAX, PORT_A_MAX};
        let (port_a, limits, tcp) = (&self.port_a, &self.limits, &self.tcp);
        let port_c = self.port_c.as_ref().map(|port_c| &port_c.port);
        let fits_port_b = |mss: u16| {
            mss.saturating_add(IP_TCP + ipos_proto::HEADER_LEN as u16) <= self.port_b.mtu
        };
        let rules = [
            (
                (1..=NAME_MAX).contains(&self.name.len()),
                "name",
                "must have 1 to 63 bytes",
            ),
            (
                (1..=PORT_A_MAX).contains(&port_a.addresses.len()),
                "port_a.addresses",
                "must be 1 to 16 addresses",
            ),
            (port_a.prefix <= 32, "port_a.prefix", "must be 0 to 32"),
            (
                port_c.is_none_or(|port| !port.addresses.is_empty()),
                "port_c.addresses",
                "must be at least 1 address",
            ),
            (
                self.client_addresses().count() <= PORT_A_MAX,
                "port_c.addresses",
                "must be 16 at most together with port_a.addresses",
            ),
            (
                port_c.is_none_or(|port| {
                    let mut addresses = port.addresses.iter();
                    !addresses.any(|address| port_a.addresses.contains(address))
                }),
                "port_c.addresses",
                "must not be among port_a.addresses",
            ),
            (
                port_c.is_none_or(|port| port.prefix <= 32),
                "port_c.prefix",
                "must be 0 to 32",
            ),
            (
                port_c.is_none_or(|port| tcp.mss.saturating_add(IP_TCP) <= port.mtu),
                "port_c.mtu",
                "must not be below what Port A and Port B have room for",
            ),
            (
                !self.port_b.address.is_unspecified(),
                "port_b.address",
                "must be an address of LAN B",
            ),
            (
                self.port_b.ethertype != crate::packet::IPV4,
                "port_b.ethertype",
                "must not be IPv4's",
            ),
            (
                self.port_b.ethertype != crate::packet::ARP,
                "port_b.ethertype",
                "must not be ARP's",
            ),
            (
                !self.synch.address.is_unspecified(),
                "synch.address",
                "must be an address of the Synch LAN",
            ),
            (
                !self.synch.high.is_zero(),
                "synch.interval_ms",
                "must be at least 1",
            ),
            (
                self.listen.iter().all(|l| l.service.len() <= NAME_MAX),
                "listen.service",
                "must have 63 bytes at most",
            ),
            (
                self.listen.iter().all(|l| self.is_own(*l.address.ip())),
                "listen.address",
                "must be one of port_a.addresses or port_c.addresses",
            ),
            (
                self.listen.iter().enumerate().all(|(i, l)| {
                    self.listen[..i]
                        .iter()
                        .all(|m| (m.address, m.protocol) != (l.address, l.protocol))
                }),
                "listen.address",
                "must not be given twice",
            ),
            (
                tcp.mss >= MIN_MSS,
                "mtu",
                "of Port A and Port B must leave room for segments of 536 bytes",
            ),
            (
                fits_port_b(tcp.mss),
                "tcp.mss",
                "must leave 56 bytes of Port B's MTU",
            ),
            (
                tcp.window_scale <= crate::tcp::WindowScale::MAX,
                "tcp.window_scale",
                "must be 0 to 14",
            ),
            (
                tcp.receive_buffer
                    .checked_shr(tcp.window_scale.into())
                    .unwrap_or(0)
                    >= crate::stack::LEAST_UNITS,
                "tcp.window_scale",
                "must leave the receive buffer at least four units",
            ),
            (
                (1024..=1 << 21).contains(&tcp.receive_buffer),
                "tcp.receive_buffer",
                "must be 1 kB to 2 MB",
            ),
            (
                (1024..=1 << 30).contains(&tcp.send_buffer),
                "tcp.send_buffer",
                "must be 1 kB to 1 GB",
            ),
            (
                (1024..=1 << 30).contains(&limits.request),
                "limits.request",
                "must be 1 kB to 1 GB",
            ),
            (
                limits.temporary > 0,
                "limits.temporary",
                "must be at least 1",
            ),
            (
                limits.endpoints > 0,
                "limits.endpoints",
                "must be at least 1",
            ),
            (
                limits.early_packets > 0,
                "limits.early_packets",
                "must be at least 1",
            ),
        ];
        match rules.into_iter().find(|(holds, _, _)| !holds) {
            Some((_, field, problem)) => Err(ConfigError {
                field,
                problem: problem.into(),
            }),
            None => self.content.validate(),
        }
    }
}
