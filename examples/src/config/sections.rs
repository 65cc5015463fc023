//! The file's sections, as serde reads them.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use ipos_backend::Capabilities;
use ipos_balance::{PolicyKind, SlowStart};
use ipos_core::config::{Balance, Limits, Listen, PortA, SynchPort, Threshold};
use ipos_proto::{MacAddr, Protocol};
use serde::Deserialize;

use crate::backend::{Carrier, Sizes};

use super::content::{ContentSections, SessionSection, SslMapSection, SslSection, UrlMapSection};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Sections {
    pub(super) name: String,
    #[serde(default)]
    pub(super) backend: Carrier,
    #[serde(default)]
    pub(super) xdp: Sizes,
    #[serde(default)]
    pub(super) engine: EngineSection,
    pub(super) stack: Option<String>,
    pub(super) port_a: PortASection,
    pub(super) port_b: PortBSection,
    pub(super) port_c: Option<PortCSection>,
    pub(super) synch: SynchSection,
    #[serde(default)]
    pub(super) balance: BalanceSection,
    pub(super) listen: Vec<ListenSection>,
    #[serde(default)]
    pub(super) limits: LimitsSection,
    #[serde(default)]
    pub(super) health: HealthSection,
    #[serde(default)]
    pub(super) url_map: Vec<UrlMapSection>,
    #[serde(default)]
    pub(super) ssl_map: Vec<SslMapSection>,
    #[serde(default)]
    pub(super) ssl: SslSection,
    pub(super) session: Option<SessionSection>,
    pub(super) security: Option<SecuritySection>,
    pub(super) admin: Option<AdminSection>,
}

impl Sections {
    pub(super) fn stack(&self) -> &str {
        self.stack.as_deref().unwrap_or("user")
    }

    /// What requests are selected by.
    pub(super) fn content(&self) -> ContentSections<'_> {
        ContentSections {
            url_map: &self.url_map,
            ssl_map: &self.ssl_map,
            ssl: &self.ssl,
            session: self.session.as_ref(),
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PortASection {
    pub(super) interface: String,
    pub(super) addresses: Vec<Ipv4Addr>,
    pub(super) prefix: u8,
    pub(super) gateway: Option<Ipv4Addr>,
}

impl PortASection {
    pub(super) fn port(&self, interface: Capabilities) -> PortA {
        let hardware = MacAddr(interface.hardware_address);
        PortA {
            gateway: self.gateway,
            mtu: interface.mtu,
            ..PortA::new(hardware, self.addresses.clone(), self.prefix)
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PortBSection {
    pub(super) interface: String,
    pub(super) address: Ipv4Addr,
    pub(super) ethertype: Option<u16>,
}

/// Port A's keys, and its own.
#[derive(Debug, Deserialize)]
#[serde(from = "PortCKeys")]
pub(super) struct PortCSection {
    pub(super) port: PortASection,
    pub(super) responses: bool,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct PortCKeys {
    interface: String,
    addresses: Vec<Ipv4Addr>,
    prefix: u8,
    gateway: Option<Ipv4Addr>,
    #[serde(default)]
    responses: bool,
}

impl From<PortCKeys> for PortCSection {
    fn from(keys: PortCKeys) -> PortCSection {
        let PortCKeys {
            interface,
            addresses,
            prefix,
            gateway,
            responses,
        } = keys;
        PortCSection {
            port: PortASection {
                interface,
                addresses,
                prefix,
                gateway,
            },
            responses,
        }
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SynchSection {
    pub(super) interface: String,
    pub(super) address: Ipv4Addr,
    pub(super) port: Option<u16>,
    pub(super) interval_ms: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BalanceSection {
    pub(super) policy: Option<String>,
    #[serde(default)]
    pub(super) activity_threshold: ThresholdSection,
    pub(super) seed: Option<u64>,
    #[serde(default)]
    pub(super) per_request: bool,
    /// 0: none.
    pub(super) slow_start_s: Option<u64>,
    /// By the servers' names.
    #[serde(default)]
    pub(super) weights: BTreeMap<String, u16>,
}

impl BalanceSection {
    /// The device's, with this policy. Weights of 0 were refused before.
    pub(super) fn balance(&self, policy: PolicyKind) -> Balance {
        let ThresholdSection { connections, cpu } = self.activity_threshold;
        let slow_start = self.slow_start_s.map(|seconds| SlowStart {
            duration: Duration::from_secs(seconds),
        });
        let weights = self.weights.iter();
        let weights =
            weights.filter_map(|(name, weight)| Some((name.clone(), NonZeroU16::new(*weight)?)));
        Balance {
            policy,
            activity_threshold: Threshold { connections, cpu },
            per_request: self.per_request,
            slow_start: slow_start.unwrap_or_default(),
            weights: weights.collect(),
        }
    }
}

/// How applications are looked after.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HealthSection {
    /// 0: not at all.
    pub(super) interval_ms: Option<u64>,
}

impl HealthSection {
    /// How often the engine asks the applications.
    pub(super) fn interval(&self) -> Option<Duration> {
        let interval = self.interval_ms.unwrap_or(1000);
        (interval > 0).then(|| Duration::from_millis(interval))
    }
}

/// How the loop waits, and where it runs.
#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EngineSection {
    #[serde(default)]
    pub(super) mode: Waiting,
    pub(super) cpu: Option<usize>,
    /// How long a loop that sleeps looks for work before it does.
    #[serde(default)]
    pub(super) busy_poll_us: u64,
}

/// What a loop does that has nothing to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Waiting {
    #[default]
    Sleep,
    Busy,
}

impl EngineSection {
    /// How long the loop looks for work before it sleeps.
    pub(super) fn linger(&self) -> Duration {
        match self.mode {
            Waiting::Busy => Duration::MAX,
            Waiting::Sleep => Duration::from_micros(self.busy_poll_us),
        }
    }
}

/// What servers recognise each other by.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SecuritySection {
    pub(super) farm_key_file: PathBuf,
}

/// The admin address.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AdminSection {
    pub(super) listen: Option<SocketAddr>,
}

impl AdminSection {
    /// Of this host alone, unless the file says otherwise.
    pub(super) fn listen(&self) -> SocketAddr {
        self.listen
            .unwrap_or_else(|| (Ipv4Addr::LOCALHOST, 9180).into())
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ThresholdSection {
    #[serde(default)]
    pub(super) connections: u32,
    #[serde(default)]
    pub(super) cpu: f32,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenSection {
    pub(super) address: SocketAddrV4,
    /// `None`: it is in this process.
    pub(super) app: Option<SocketAddr>,
    pub(super) protocol: Option<String>,
    pub(super) service: Option<String>,
    #[serde(default)]
    pub(super) proxy_protocol: bool,
}

/// The fields of [`Limits`]; durations in milliseconds.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsSection {
    pub(super) temporary: Option<usize>,
    pub(super) endpoints: Option<usize>,
    pub(super) forward: Option<usize>,
    pub(super) servers: Option<usize>,
    pub(super) neighbours: Option<usize>,
    pub(super) time_wait: Option<usize>,
    pub(super) tombstones: Option<usize>,
    pub(super) buffers: Option<usize>,
    pub(super) outbox: Option<usize>,
    pub(super) request: Option<usize>,
    pub(super) request_deadline_ms: Option<u64>,
    pub(super) early_packets: Option<usize>,
    pub(super) early_deadline_ms: Option<u64>,
    pub(super) install_deadline_ms: Option<u64>,
    pub(super) forward_idle_ms: Option<u64>,
    pub(super) tombstone_ms: Option<u64>,
    pub(super) kept: Option<usize>,
    pub(super) datagrams: Option<usize>,
    pub(super) sessions: Option<usize>,
    pub(super) udp_idle_ms: Option<u64>,
    /// 0: never.
    pub(super) owner_lost_ms: Option<u64>,
}

impl LimitsSection {
    /// The bounds, by their keys.
    pub(super) fn bounds<'a>(
        &self,
        limits: &'a mut Limits,
    ) -> [(&'static str, Option<usize>, &'a mut usize); 14] {
        [
            ("temporary", self.temporary, &mut limits.temporary),
            ("endpoints", self.endpoints, &mut limits.endpoints),
            ("forward", self.forward, &mut limits.forward),
            ("servers", self.servers, &mut limits.servers),
            ("neighbours", self.neighbours, &mut limits.neighbours),
            ("time_wait", self.time_wait, &mut limits.time_wait),
            ("tombstones", self.tombstones, &mut limits.tombstones),
            ("buffers", self.buffers, &mut limits.buffers),
            ("outbox", self.outbox, &mut limits.outbox),
            ("request", self.request, &mut limits.request),
            ("kept", self.kept, &mut limits.kept),
            ("datagrams", self.datagrams, &mut limits.datagrams),
            ("sessions", self.sessions, &mut limits.sessions),
            (
                "early_packets",
                self.early_packets,
                &mut limits.early_packets,
            ),
        ]
    }

    /// The deadlines, by their keys.
    pub(super) fn deadlines<'a>(
        &self,
        limits: &'a mut Limits,
    ) -> [(&'static str, Option<u64>, &'a mut Duration); 6] {
        [
            (
                "request_deadline_ms",
                self.request_deadline_ms,
                &mut limits.request_deadline,
            ),
            (
                "early_deadline_ms",
                self.early_deadline_ms,
                &mut limits.early_deadline,
            ),
            (
                "install_deadline_ms",
                self.install_deadline_ms,
                &mut limits.install_deadline,
            ),
            (
                "forward_idle_ms",
                self.forward_idle_ms,
                &mut limits.forward_idle,
            ),
            ("tombstone_ms", self.tombstone_ms, &mut limits.tombstone),
            ("udp_idle_ms", self.udp_idle_ms, &mut limits.udp_idle),
        ]
    }

    /// The defaults, with what the file sets.
    pub(super) fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        for (_, value, field) in self.bounds(&mut limits) {
            *field = value.unwrap_or(*field);
        }
        for (_, value, field) in self.deadlines(&mut limits) {
            *field = value.map_or(*field, Duration::from_millis);
        }
        if let Some(lost) = self.owner_lost_ms {
            limits.owner_lost = (lost > 0).then(|| Duration::from_millis(lost));
        }
        limits
    }
}

impl ListenSection {
    /// A service without a name has that of its protocol and port.
    pub(super) fn listen(&self) -> Listen {
        let (name, protocol) = match self.protocol.as_deref() {
            Some("udp") => ("udp", Protocol::Udp),
            _ => ("tcp", Protocol::Tcp),
        };
        let service = self.service.clone();
        Listen {
            address: self.address,
            protocol,
            service: service.unwrap_or_else(|| format!("{name}/{}", self.address.port())),
        }
    }
}

pub(super) fn synch_port(section: &SynchSection, interface: Capabilities) -> SynchPort {
    let mut port = SynchPort::new(MacAddr(interface.hardware_address), section.address);
    port.port = section.port.unwrap_or(port.port);
    match section.interval_ms {
        Some(interval) => port.with_interval(Duration::from_millis(interval)),
        None => port,
    }
}
