//! Whether the values of a configuration file do.

use std::collections::HashSet;
use std::fmt::Display;
use std::net::{IpAddr, Ipv4Addr};

use ipos_balance::PolicyKind;
use ipos_core::config::Limits;

use crate::backend::Sizes;

use super::sections::{
    AdminSection, BalanceSection, EngineSection, HealthSection, LimitsSection, ListenSection,
    PortASection, PortBSection, Sections, SynchSection, Waiting,
};
use super::{Applications, Fault};

/// Longest name of a server or a service, in bytes: that of a Synch record.
const NAME: usize = ipos_proto::synch::NAME_MAX;
/// Longest name of an interface, in bytes (`IFNAMSIZ`, less the final zero).
const INTERFACE: usize = 15;
/// Most addresses of Port A, and of Port C: those that a Synch record has room for.
const ADDRESSES: usize = ipos_proto::synch::PORT_A_MAX;
/// EtherTypes that mean something else on a LAN: IPv4, ARP, VLAN tag, IPv6, provider's VLAN tag.
const TAKEN: [u16; 5] = [0x0800, 0x0806, 0x8100, 0x86DD, 0x88A8];
/// Buffers of 2 kB that AF_XDP ports may have: up to 2 GB.
const BUFFERS: std::ops::RangeInclusive<u32> = 384..=1 << 20;
/// Bounds of the high-priority interval, and of that of health checks, in milliseconds.
const INTERVAL: std::ops::RangeInclusive<u64> = 1..=60_000;
/// The longest deadline, in milliseconds: a week.
const DEADLINE: u64 = 7 * 24 * 3600 * 1000;
/// How long a loop, or a driver, may look for work before it sleeps, in microseconds: a second.
const LONGEST_LINGER: u64 = 1_000_000;
/// The longest slow start, in seconds: a day.
const SLOW_START: u64 = 24 * 3600;

pub(super) type Checked = Result<(), Fault>;

/// Checks everything; the first fault, in the order of the file's sections.
pub(super) fn check(sections: &Sections, applications: Applications) -> Checked {
    let Sections {
        name,
        stack,
        port_a: a,
        port_b: b,
        port_c,
        synch,
        balance,
        listen,
        limits,
        ..
    } = sections;
    let Sections {
        health,
        admin,
        engine,
        ..
    } = sections;
    check_name("name", name)?;
    check_xdp(sections.xdp)?;
    check_engine(engine)?;
    choice("stack", stack.as_deref(), "user", &["linux"])?;
    let c = port_c.as_ref().map(|section| &section.port);
    check_clients("port_a", a)?;
    check_port_b(b)?;
    if let Some(c) = c {
        check_clients("port_c", c)?;
    }
    check_synch(synch)?;
    check_apart(a, b, synch, c)?;
    check_balance(balance)?;
    let addresses: Vec<_> = [Some(a), c].into_iter().flatten().collect();
    check_listen(listen, &addresses, applications)?;
    check_health(health)?;
    sections.content().check()?;
    check_limits(limits)?;
    admin
        .as_ref()
        .map_or(Ok(()), |admin| check_admin(admin, &addresses))
}

/// The policy of a name; none: the default.
pub(super) fn policy(name: Option<&str>) -> Result<PolicyKind, Fault> {
    let key = "balance.policy";
    match name {
        None => Ok(PolicyKind::default()),
        Some(name) => name.parse().map_err(|error| Fault::new(key, error)),
    }
}

/// Port A, or Port C.
fn check_clients(section: &str, port: &PortASection) -> Checked {
    let key = |field: &str| format!("{section}.{field}");
    check_interface(&key("interface"), &port.interface)?;
    ensure(
        (1..=ADDRESSES).contains(&port.addresses.len()),
        key("addresses"),
        format_args!("1 to {ADDRESSES} addresses are needed"),
    )?;
    let mut seen = HashSet::new();
    for (index, &address) in port.addresses.iter().enumerate() {
        let key = key(&format!("addresses[{index}]"));
        check_host(&key, address)?;
        ensure(
            seen.insert(address),
            &key,
            format_args!("{address} is given twice"),
        )?;
    }
    ensure(
        (1..=32).contains(&port.prefix),
        key("prefix"),
        format_args!("{} is not a prefix length: 1 to 32", port.prefix),
    )?;
    let Some(gateway) = port.gateway else {
        return Ok(());
    };
    let (key, addresses) = (key("gateway"), key("addresses"));
    check_host(&key, gateway)?;
    ensure(
        !seen.contains(&gateway),
        &key,
        format_args!("{gateway} is one of {addresses}"),
    )?;
    let mask = u32::MAX << (32 - u32::from(port.prefix));
    let on_link = port
        .addresses
        .iter()
        .any(|&address| u32::from(address) & mask == u32::from(gateway) & mask);
    ensure(
        on_link,
        &key,
        format_args!(
            "{gateway} is not in the /{} network of any of {addresses}",
            port.prefix
        ),
    )
}

fn check_engine(engine: &EngineSection) -> Checked {
    let key = "engine.busy_poll_us";
    let time = engine.busy_poll_us;
    ensure(
        time == 0 || engine.mode == Waiting::Sleep,
        key,
        "mode `busy` never sleeps anyway",
    )?;
    ensure(
        time <= LONGEST_LINGER,
        key,
        format_args!("{time}: 0..={LONGEST_LINGER} are possible"),
    )
}

fn check_xdp(sizes: Sizes) -> Checked {
    ensure(
        sizes.ring.is_power_of_two() && (64..=32_768).contains(&sizes.ring),
        "xdp.ring",
        format_args!("{}: a power of two from 64 to 32768 is needed", sizes.ring),
    )?;
    ensure(
        BUFFERS.contains(&sizes.buffers),
        "xdp.buffers",
        format_args!("{}: {BUFFERS:?} are possible", sizes.buffers),
    )?;
    let time = u64::from(sizes.busy_poll_us);
    ensure(
        time <= LONGEST_LINGER,
        "xdp.busy_poll_us",
        format_args!("{time}: 0..={LONGEST_LINGER} are possible"),
    )
}

fn check_port_b(b: &PortBSection) -> Checked {
    check_interface("port_b.interface", &b.interface)?;
    check_host("port_b.address", b.address)?;
    let Some(ethertype) = b.ethertype else {
        return Ok(());
    };
    let free = ethertype > 0 && !TAKEN.contains(&ethertype);
    ensure(
        free,
        "port_b.ethertype",
        format_args!("{ethertype:#06x} means another protocol: 0x0007, or 0x88b5, will do"),
    )
}

fn check_synch(synch: &SynchSection) -> Checked {
    check_interface("synch.interface", &synch.interface)?;
    check_host("synch.address", synch.address)?;
    ensure(
        synch.port != Some(0),
        "synch.port",
        "0 is not a port: 1 to 65535",
    )?;
    let in_range = synch
        .interval_ms
        .is_none_or(|interval| INTERVAL.contains(&interval));
    ensure(
        in_range,
        "synch.interval_ms",
        format_args!("{} to {} ms are possible", INTERVAL.start(), INTERVAL.end()),
    )
}

/// Each port has an interface and addresses of its own.
fn check_apart<'a>(
    a: &'a PortASection,
    b: &'a PortBSection,
    synch: &'a SynchSection,
    c: Option<&'a PortASection>,
) -> Checked {
    let mut interfaces = vec![
        ("port_a.interface".into(), &a.interface),
        ("port_b.interface".into(), &b.interface),
        ("synch.interface".into(), &synch.interface),
    ];
    interfaces.extend(c.map(|c| ("port_c.interface".into(), &c.interface)));
    check_different(&interfaces)?;
    let numbered = |section: &'static str, port: &'a PortASection| {
        let addresses = port.addresses.iter().enumerate();
        addresses.map(move |(index, address)| (format!("{section}.addresses[{index}]"), address))
    };
    let mut addresses: Vec<_> = numbered("port_a", a).collect();
    addresses.push(("port_b.address".into(), &b.address));
    addresses.push(("synch.address".into(), &synch.address));
    addresses.extend(c.into_iter().flat_map(|c| numbered("port_c", c)));
    check_different(&addresses)
}

/// Values by their keys: each but once.
fn check_different<T: PartialEq + Display>(values: &[(String, T)]) -> Checked {
    for (index, (key, value)) in values.iter().enumerate() {
        if let Some((other, _)) = values.iter().take(index).find(|(_, other)| other == value) {
            let what = format_args!("{value} is {other} too: each port needs its own");
            return Err(Fault::new(key, what));
        }
    }
    Ok(())
}

fn check_balance(balance: &BalanceSection) -> Checked {
    policy(balance.policy.as_deref())?;
    let cpu = balance.activity_threshold.cpu;
    ensure(
        (0.0..=1.0).contains(&cpu),
        "balance.activity_threshold.cpu",
        format_args!("{cpu} is not a share: 0.0 to 1.0"),
    )?;
    let slow_start = balance.slow_start_s.unwrap_or(0);
    ensure(
        slow_start <= SLOW_START,
        "balance.slow_start_s",
        format_args!("0 to {SLOW_START} s are possible"),
    )?;
    for (name, weight) in &balance.weights {
        let key = format!("balance.weights.{name}");
        check_name(&key, name)?;
        ensure(*weight > 0, key, "0 is not a weight: 1 to 65535")?;
    }
    Ok(())
}

fn check_health(health: &HealthSection) -> Checked {
    let in_range = health
        .interval_ms
        .is_none_or(|interval| interval == 0 || INTERVAL.contains(&interval));
    ensure(
        in_range,
        "health.interval_ms",
        format_args!(
            "{} to {} ms are possible, and 0 for no checks",
            INTERVAL.start(),
            INTERVAL.end()
        ),
    )
}

/// `ports`: those to clients.
fn check_admin(admin: &AdminSection, ports: &[&PortASection]) -> Checked {
    let (key, listen) = ("admin.listen", admin.listen());
    ensure(
        listen.port() != 0,
        key,
        "port 0 cannot be found by anybody: 1 to 65535",
    )?;
    ensure(
        !is_own(ports, listen.ip()),
        key,
        format_args!(
            "{} belongs to the device: give it an address of this host",
            listen.ip()
        ),
    )
}

/// Whether one of the ports to clients has this address.
fn is_own(ports: &[&PortASection], address: IpAddr) -> bool {
    let mut own = ports.iter().flat_map(|port| &port.addresses);
    own.any(|&own| address == own)
}

/// `ports`: those to clients.
fn check_listen(
    listen: &[ListenSection],
    ports: &[&PortASection],
    applications: Applications,
) -> Checked {
    let is_own = |address: IpAddr| is_own(ports, address);
    ensure(
        !listen.is_empty(),
        "listen",
        "at least one listening socket is needed",
    )?;
    let own = match ports.len() {
        1 => "port_a.addresses",
        _ => "port_a.addresses or port_c.addresses",
    };
    let mut seen = HashSet::new();
    for (index, entry) in listen.iter().enumerate() {
        let key = |field: &str| format!("listen[{index}].{field}");
        let address = entry.address;
        let protocol = entry.protocol.as_deref().unwrap_or("tcp");
        ensure(
            ["tcp", "udp"].contains(&protocol),
            key("protocol"),
            format_args!("unknown value `{protocol}`: `tcp` and `udp` are possible"),
        )?;
        ensure(
            protocol == "tcp" || !entry.proxy_protocol,
            key("proxy_protocol"),
            "is for `tcp` alone",
        )?;
        ensure(
            is_own((*address.ip()).into()),
            key("address"),
            format_args!("{} is not one of {own}", address.ip()),
        )?;
        ensure(
            address.port() != 0,
            key("address"),
            "port 0 cannot be listened on: 1 to 65535",
        )?;
        ensure(
            seen.insert((protocol, address)),
            key("address"),
            format_args!("{address} is given twice"),
        )?;
        if let Some(service) = &entry.service {
            check_name(&key("service"), service)?;
        }
        let app = match (applications, entry.app) {
            (Applications::Behind, Some(app)) => app,
            (Applications::Behind, None) => return Err(Fault::new(key("app"), "is missing")),
            (Applications::InProcess, Some(_)) => {
                let what = "the application is in this program: take the line out";
                return Err(Fault::new(key("app"), what));
            }
            (Applications::InProcess, None) => {
                let what = "the application is in this program, which serves `tcp`";
                ensure(protocol == "tcp", key("protocol"), what)?;
                let what = "the application is in this program, which knows its clients";
                ensure(!entry.proxy_protocol, key("proxy_protocol"), what)?;
                continue;
            }
        };
        ensure(
            app.port() != 0,
            key("app"),
            "port 0 cannot be connected to: 1 to 65535",
        )?;
        ensure(
            !app.ip().is_unspecified() && !app.ip().is_multicast(),
            key("app"),
            format_args!("{} is not a host's address", app.ip()),
        )?;
        ensure(
            !is_own(app.ip()),
            key("app"),
            format_args!(
                "{} belongs to the device: give the application a loopback address",
                app.ip()
            ),
        )?;
    }
    Ok(())
}

fn check_limits(section: &LimitsSection) -> Checked {
    let mut limits = Limits::default();
    for (key, value, _) in section.bounds(&mut limits) {
        ensure(
            value != Some(0),
            format!("limits.{key}"),
            "must be at least 1",
        )?;
    }
    let owner_lost = section.owner_lost_ms.filter(|value| *value != 0);
    let owner_lost = ("owner_lost_ms", owner_lost);
    let deadlines = section.deadlines(&mut limits);
    let deadlines = deadlines.into_iter().map(|(key, value, _)| (key, value));
    for (key, value) in deadlines.chain([owner_lost]) {
        let in_range = value.is_none_or(|value| (1..=DEADLINE).contains(&value));
        ensure(
            in_range,
            format!("limits.{key}"),
            format_args!("1 to {DEADLINE} ms are possible"),
        )?;
    }
    Ok(())
}

pub(super) fn check_name(key: &str, name: &str) -> Checked {
    ensure(
        (1..=NAME).contains(&name.len()),
        key,
        format_args!("{} bytes: 1 to {NAME} are possible", name.len()),
    )?;
    ensure(
        !name.contains(char::is_control),
        key,
        "has a control character",
    )
}

fn check_interface(key: &str, name: &str) -> Checked {
    ensure(
        (1..=INTERFACE).contains(&name.len()),
        key,
        format_args!("`{name}` is not an interface's name: 1 to {INTERFACE} bytes"),
    )
}

fn check_host(key: &str, address: Ipv4Addr) -> Checked {
    let host = !address.is_unspecified()
        && !address.is_loopback()
        && !address.is_multicast()
        && !address.is_broadcast();
    ensure(
        host,
        key,
        format_args!("{address} is not the address of one host on a LAN"),
    )
}

/// One value is possible, others will be.
fn choice(key: &str, value: Option<&str>, now: &str, later: &[&str]) -> Checked {
    match value {
        None => Ok(()),
        Some(value) if value == now => Ok(()),
        Some(value) if later.contains(&value) => Err(Fault::new(
            key,
            format_args!("`{value}` is not supported yet: `{now}` is possible"),
        )),
        Some(value) => Err(Fault::new(
            key,
            format_args!("unknown value `{value}`: `{now}` is possible"),
        )),
    }
}

pub(super) fn ensure(holds: bool, key: impl Into<String>, what: impl Display) -> Checked {
    if holds {
        Ok(())
    } else {
        Err(Fault::new(key, what))
    }
}
