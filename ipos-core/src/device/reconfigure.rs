//! Another configuration for a device that runs.

use alloc::borrow::Cow;
use alloc::format;
use alloc::vec::Vec;

use super::{Device, session_rng};
use crate::config::{
    Balance, Config, ConfigError, Content, Limits, Listen, PortA, PortB, PortC, SynchPort,
};
use crate::content::Rules;
use crate::time::Duration;

/// Why a running device does not take a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReconfigureError {
    /// It does not hold.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// Something differs that stays for a device's life.
    #[error("{field}: needs a restart")]
    Restart {
        /// The field, as the configuration file names it.
        field: Cow<'static, str>,
    },
    /// A table would have less room than it has: what is in it would have to go.
    #[error("{field}: cannot shrink from {bound} while the device runs: that needs a restart")]
    Shrinks {
        /// The field, as the configuration file names it.
        field: Cow<'static, str>,
        /// Its present bound.
        bound: usize,
    },
}

impl ReconfigureError {
    /// The field at fault, as the configuration file names it.
    pub fn field(&self) -> &str {
        match self {
            ReconfigureError::Config(error) => error.field,
            ReconfigureError::Restart { field } | ReconfigureError::Shrinks { field, .. } => field,
        }
    }

    /// What is wrong with it.
    pub fn problem(&self) -> Cow<'static, str> {
        match self {
            ReconfigureError::Config(error) => error.problem.clone(),
            ReconfigureError::Restart { .. } => "needs a restart".into(),
            ReconfigureError::Shrinks { bound, .. } => {
                format!("cannot shrink from {bound} while the device runs: that needs a restart")
                    .into()
            }
        }
    }
}

/// What differs between two configurations; each name as the file has it.
#[derive(Default)]
struct Differences(Vec<&'static str>);

impl Differences {
    fn note<T: PartialEq>(&mut self, name: &'static str, old: &T, new: &T) {
        if old != new {
            self.0.push(name);
        }
    }
}

impl Device {
    /// Takes another configuration. All connections go on; what is selected from now on is selected by the new one. What
    /// has changed, as the configuration file names it.
    ///
    /// Selection ([`Balance`]), maps and sessions ([`Content`]), deadlines, [`Config::farm_key`] and [`Config::unmatched`] may change in any way,
    /// bounds of tables may grow. Deadlines of what is under way stay. Everything else is for a device's life.
    ///
    /// # Errors
    /// The first field that does not hold, or that may not change so; the device is as it was then.
    pub fn reconfigure(&mut self, config: Config) -> Result<Vec<&'static str>, ReconfigureError> {
        config.validate()?;
        // Validated above.
        let rules = Rules::new(&config.content).map_err(|error| ConfigError {
            field: error.map,
            problem: alloc::string::ToString::to_string(&error).into(),
        })?;
        let mut changed = Differences::default();
        let Config {
            name,
            port_a,
            port_b,
            synch,
            port_c,
            listen,
            balance,
            content,
            limits,
            tcp,
            unmatched,
            seed,
            isn_key,
            incarnation,
            farm_key,
        } = &config;
        let old = &self.config;
        stays("name", &old.name, name)?;
        same_clients(PORT_A, &old.port_a, port_a)?;
        same_port_b(&old.port_b, port_b)?;
        same_synch(&old.synch, synch)?;
        same_port_c(old.port_c.as_ref(), port_c.as_ref())?;
        same_listen(&old.listen, listen)?;
        stays("tcp", &old.tcp, tcp)?;
        stays("balance.seed", &old.seed, seed)?;
        stays("isn_key", &old.isn_key, isn_key)?;
        stays("incarnation", &old.incarnation, incarnation)?;
        compare_balance(&mut changed, &old.balance, balance);
        compare_content(&mut changed, &old.content, content);
        compare_limits(&mut changed, &old.limits, limits)?;
        changed.note("security.farm_key_file", &old.farm_key, farm_key);
        changed.note("unmatched", &old.unmatched, unmatched);

        if old.balance.policy != balance.policy {
            self.policy = balance.policy.build();
        }
        if let Some(session) = &content.session
            && session.key != self.session_key
        {
            // With the same key the generator goes on: it must not give the same ids again.
            self.session_rng = session_rng(&config, session.key);
            self.session_key = session.key;
        }
        if old.limits.owner_lost.is_none() && limits.owner_lost.is_some() {
            // Who has left and is gone was not given up.
            let members = self.members.iter_mut();
            members.for_each(|member| member.lost = false);
        }
        self.stack.set_bound(limits.buffers);
        self.members.set_bound(limits.servers);
        self.neighbours.set_bound(limits.neighbours);
        self.sessions.set_bound(limits.sessions);
        self.outbox.set_bound(limits.outbox);
        let (early, keep) = (limits.early_packets, limits.early_deadline);
        self.early.set_limits(early, keep);
        self.rules = rules;
        self.config = config;
        Ok(changed.0)
    }
}

fn stays<T: PartialEq>(field: &'static str, old: &T, new: &T) -> Result<(), ReconfigureError> {
    if old == new {
        Ok(())
    } else {
        let field = field.into();
        Err(ReconfigureError::Restart { field })
    }
}

/// Keys of a port to clients: interface, addresses, prefix, gateway.
type ClientKeys = [&'static str; 4];
const PORT_A: ClientKeys = [
    "port_a.interface",
    "port_a.addresses",
    "port_a.prefix",
    "port_a.gateway",
];
const PORT_C: ClientKeys = [
    "port_c.interface",
    "port_c.addresses",
    "port_c.prefix",
    "port_c.gateway",
];

fn same_clients(keys: ClientKeys, old: &PortA, new: &PortA) -> Result<(), ReconfigureError> {
    let [on_interface, on_addresses, on_prefix, on_gateway] = keys;
    let PortA {
        hardware,
        addresses,
        prefix,
        gateway,
        mtu,
    } = new;
    stays(on_interface, &old.hardware, hardware)?;
    stays(on_interface, &old.mtu, mtu)?;
    stays(on_addresses, &old.addresses, addresses)?;
    stays(on_prefix, &old.prefix, prefix)?;
    stays(on_gateway, &old.gateway, gateway)
}

fn same_port_c(old: Option<&PortC>, new: Option<&PortC>) -> Result<(), ReconfigureError> {
    let (Some(old), Some(new)) = (old, new) else {
        return stays("port_c", &old.is_some(), &new.is_some());
    };
    let PortC { port, responses } = new;
    same_clients(PORT_C, &old.port, port)?;
    stays("port_c.responses", &old.responses, responses)
}

fn same_port_b(old: &PortB, new: &PortB) -> Result<(), ReconfigureError> {
    let PortB {
        hardware,
        address,
        ethertype,
        mtu,
    } = new;
    stays("port_b.interface", &old.hardware, hardware)?;
    stays("port_b.interface", &old.mtu, mtu)?;
    stays("port_b.address", &old.address, address)?;
    stays("port_b.ethertype", &old.ethertype, ethertype)
}

fn same_synch(old: &SynchPort, new: &SynchPort) -> Result<(), ReconfigureError> {
    let SynchPort {
        hardware,
        address,
        port,
        high,
        medium,
        low,
        silence,
        forget,
    } = new;
    stays("synch.interface", &old.hardware, hardware)?;
    stays("synch.address", &old.address, address)?;
    stays("synch.port", &old.port, port)?;
    let (was, is) = ((old.high, old.medium, old.low), (*high, *medium, *low));
    stays("synch.interval_ms", &was, &is)?;
    let (was, is) = ((old.silence, old.forget), (*silence, *forget));
    stays("synch.interval_ms", &was, &is)
}

/// Listening sockets are known by their places, and other servers have been told of them.
fn same_listen(old: &[Listen], new: &[Listen]) -> Result<(), ReconfigureError> {
    let restart = |field: Cow<'static, str>| Err(ReconfigureError::Restart { field });
    for (at, (old, new)) in old.iter().zip(new).enumerate() {
        let Listen {
            address,
            protocol,
            service,
        } = new;
        let field = match () {
            () if old.address != *address => "address",
            () if old.protocol != *protocol => "protocol",
            () if old.service != *service => "service",
            () => continue,
        };
        return restart(format!("listen[{at}].{field}").into());
    }
    match old.len() == new.len() {
        true => Ok(()),
        false => restart("listen".into()),
    }
}

fn compare_balance(changed: &mut Differences, old: &Balance, new: &Balance) {
    let Balance {
        policy,
        activity_threshold,
        per_request,
        slow_start,
        weights,
    } = new;
    changed.note("balance.policy", &old.policy, policy);
    let threshold = "balance.activity_threshold";
    changed.note(threshold, &old.activity_threshold, activity_threshold);
    changed.note("balance.per_request", &old.per_request, per_request);
    changed.note("balance.slow_start_s", &old.slow_start, slow_start);
    changed.note("balance.weights", &old.weights, weights);
}

fn compare_content(changed: &mut Differences, old: &Content, new: &Content) {
    let Content {
        url_map,
        ssl_map,
        ssl_affinity,
        session,
    } = new;
    changed.note("url_map", &old.url_map, url_map);
    changed.note("ssl_map", &old.ssl_map, ssl_map);
    changed.note("ssl.affinity", &old.ssl_affinity, ssl_affinity);
    changed.note("session", &old.session, session);
}

/// Bounds may grow, deadlines may change.
fn compare_limits(
    changed: &mut Differences,
    old: &Limits,
    new: &Limits,
) -> Result<(), ReconfigureError> {
    for ((field, was), (_, is)) in bounds(old).into_iter().zip(bounds(new)) {
        if is < was {
            let (field, bound) = (field.into(), was);
            return Err(ReconfigureError::Shrinks { field, bound });
        }
        changed.note(field, &was, &is);
    }
    for ((field, was), (_, is)) in deadlines(old).into_iter().zip(deadlines(new)) {
        changed.note(field, &was, &is);
    }
    Ok(())
}

fn bounds(limits: &Limits) -> [(&'static str, usize); 14] {
    let Limits {
        temporary,
        endpoints,
        time_wait,
        tombstones,
        forward,
        servers,
        neighbours,
        buffers,
        outbox,
        request,
        kept,
        early_packets,
        sessions,
        datagrams,
        // The deadlines.
        tombstone: _,
        request_deadline: _,
        early_deadline: _,
        install_deadline: _,
        forward_idle: _,
        udp_idle: _,
        owner_lost: _,
    } = *limits;
    [
        ("limits.temporary", temporary),
        ("limits.endpoints", endpoints),
        ("limits.time_wait", time_wait),
        ("limits.tombstones", tombstones),
        ("limits.forward", forward),
        ("limits.servers", servers),
        ("limits.neighbours", neighbours),
        ("limits.buffers", buffers),
        ("limits.outbox", outbox),
        ("limits.request", request),
        ("limits.kept", kept),
        ("limits.early_packets", early_packets),
        ("limits.sessions", sessions),
        ("limits.datagrams", datagrams),
    ]
}

fn deadlines(limits: &Limits) -> [(&'static str, Option<Duration>); 7] {
    [
        ("limits.tombstone_ms", Some(limits.tombstone)),
        ("limits.request_deadline_ms", Some(limits.request_deadline)),
        ("limits.early_deadline_ms", Some(limits.early_deadline)),
        ("limits.install_deadline_ms", Some(limits.install_deadline)),
        ("limits.forward_idle_ms", Some(limits.forward_idle)),
        ("limits.udp_idle_ms", Some(limits.udp_idle)),
        ("limits.owner_lost_ms", limits.owner_lost),
    ]
}
