use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use ipos_balance::{PolicyKind, SlowStart};
use ipos_core::config::{Limits, Threshold};

use super::*;

mod engine;

/// The contract's example, without what this version does not support.
pub(super) const GOOD: &str = r#"
name    = "s1"
backend = "pnet"
stack   = "user"

[port_a]
interface = "a0"
addresses = ["10.77.0.11"]
prefix    = 24
gateway   = "10.77.0.1"

[port_b]
interface = "b0"
address   = "10.88.0.11"
ethertype = 0x88b5

[synch]
interface = "c0"
address   = "10.99.0.11"
port      = 7008
interval_ms = 50

[balance]
policy = "round-robin"
activity_threshold = { connections = 3, cpu = 0.5 }
seed = 42

[[listen]]
address = "10.77.0.11:80"
app     = "127.0.0.1:8080"

[[listen]]
address = "10.77.0.11:81"
app     = "[::1]:8081"
protocol = "tcp"
service = "web"

[limits]
forward = 1000
request_deadline_ms = 1500
"#;

pub(super) fn parse(text: &str) -> Result<FileConfig, FileError> {
    FileConfig::parse(Path::new("inic.toml"), text)
}

pub(super) fn interfaces() -> Interfaces {
    let port = |last, mtu| Capabilities {
        hardware_address: [2, 0, 0, 0, 0, last],
        mtu,
        burst: 64,
    };
    Interfaces {
        a: port(1, 1500),
        b: port(2, 9000),
        synch: port(3, 1500),
        c: Some(port(4, 1500)),
    }
}

pub(super) fn start() -> Start {
    Start {
        seed: 7,
        isn_key: [9; 16],
        session_key: [8; 32],
        incarnation: 1_800_000_000,
    }
}

#[test]
fn every_supported_key_reaches_the_device() {
    let file = parse(GOOD).unwrap();
    let config = file.device(interfaces(), start()).unwrap();
    assert_eq!(config.name, "s1");
    assert_eq!(config.port_a.addresses, [Ipv4Addr::new(10, 77, 0, 11)]);
    assert_eq!(config.port_a.gateway, Some(Ipv4Addr::new(10, 77, 0, 1)));
    assert_eq!((config.port_a.prefix, config.port_a.mtu), (24, 1500));
    assert_eq!((config.port_b.ethertype, config.port_b.mtu), (0x88b5, 9000));
    assert_eq!(config.port_b.address, Ipv4Addr::new(10, 88, 0, 11));
    assert_eq!(config.synch.port, 7008);
    assert_eq!(
        (config.synch.high, config.synch.silence),
        (Duration::from_millis(50), Duration::from_millis(250))
    );
    assert_eq!(config.balance.policy, PolicyKind::RoundRobin);
    assert_eq!(
        config.balance.activity_threshold,
        Threshold {
            connections: 3,
            cpu: 0.5
        }
    );
    assert_eq!(config.seed, 42);
    assert_eq!(config.listen[0].service, "tcp/80");
    assert_eq!(config.listen[1].service, "web");
    assert_eq!(
        (config.limits.forward, config.limits.request_deadline),
        (1000, Duration::from_millis(1500))
    );
    assert_eq!(config.limits.temporary, Limits::default().temporary);
    assert_eq!(
        (config.isn_key, config.incarnation),
        ([9; 16], 1_800_000_000)
    );
    assert_eq!(
        file.applications()
            .iter()
            .map(Application::address)
            .collect::<Vec<_>>(),
        [
            Some("127.0.0.1:8080".parse().unwrap()),
            Some("[::1]:8081".parse().unwrap())
        ]
    );
    assert_eq!(file.interfaces(), ["a0", "b0", "c0"]);
}

#[test]
fn defaults() {
    let text = GOOD
        .replace("seed = 42\n", "")
        .replace("port      = 7008\ninterval_ms = 50\n", "");
    let text = text
        .replace("policy = \"round-robin\"\n", "")
        .replace("ethertype = 0x88b5\n", "");
    let config = parse(&text).unwrap().device(interfaces(), start()).unwrap();
    assert_eq!(config.seed, 7);
    assert_eq!(config.synch.port, 7007);
    assert_eq!(config.synch.silence, Duration::from_millis(500));
    assert_eq!(config.balance.policy, PolicyKind::InverseConnections);
    assert!(!config.balance.per_request);
    assert_eq!(config.balance.slow_start, SlowStart::default());
    assert_eq!(config.content.session.map(|session| session.cookie), None);
    assert_eq!(config.port_b.ethertype, ipos_proto::ETHERTYPE);
}

#[test]
fn weights_slow_start_and_health() {
    let text = GOOD.replace(
        "seed = 42",
        "weights = { s1 = 3, s4 = 2 }\nslow_start_s = 0\n[health]\ninterval_ms = 250",
    );
    let file = parse(&text).unwrap();
    assert_eq!(file.health(), Some(Duration::from_millis(250)));
    let balance = file.device(interfaces(), start()).unwrap().balance;
    let weights = balance.weights.iter();
    let weights: Vec<_> = weights
        .map(|(name, weight)| (name.as_str(), weight.get()))
        .collect();
    assert_eq!(weights, [("s1", 3), ("s4", 2)]);
    assert_eq!(balance.slow_start, SlowStart::OFF);
    let off = GOOD.replace("[limits]", "[health]\ninterval_ms = 0\n[limits]");
    assert_eq!(parse(&off).unwrap().health(), None);
    let default = parse(GOOD).unwrap();
    assert_eq!(default.health(), Some(Duration::from_secs(1)));
}

#[test]
fn all_policies() {
    for name in [
        "inverse-connections",
        "round-robin",
        "least-connections",
        "p2c",
        "weighted",
        "maglev",
    ] {
        let file = parse(&GOOD.replace("round-robin", name)).unwrap();
        let config = file.device(interfaces(), start()).unwrap();
        assert_eq!(config.balance.policy.name(), name);
    }
}

#[test]
fn later_requests_and_udp() {
    let text = GOOD.replace("seed = 42", "per_request = true").replace(
        "protocol = \"tcp\"\nservice = \"web\"",
        "protocol = \"udp\"",
    );
    let config = parse(&text).unwrap().device(interfaces(), start()).unwrap();
    assert!(config.balance.per_request);
    let listen = &config.listen[1];
    assert_eq!(listen.protocol, ipos_proto::Protocol::Udp);
    assert_eq!(listen.service, "udp/81");
}

/// The message for `GOOD` with `from` replaced by `to`.
pub(super) fn error(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "{from}");
    let message = parse(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
    assert_eq!(message.lines().count(), 1, "{message}");
    message
}

#[test]
fn errors_name_file_key_and_line() {
    for (from, to, message) in [
        (
            "name    = \"s1\"",
            "name    = \"\"",
            "inic.toml: name: 0 bytes: 1 to 63 are possible (line 2)",
        ),
        (
            "10.77.0.11\"]",
            "10.77.0.300\"]",
            "inic.toml: port_a.addresses[0]: invalid IPv4 address syntax: four numbers, as in `10.77.0.11` (line 8)",
        ),
        (
            "[\"10.77.0.11\"]",
            "\"10.77.0.11\"",
            "inic.toml: port_a.addresses: invalid type: string \"10.77.0.11\", expected a sequence: a list: `[\"…\", \"…\"]` (line 8)",
        ),
        (
            "seed = 42",
            "[url_map]\npath = \"/\"",
            "inic.toml: url_map: invalid type: map, expected a sequence: there may be several: double brackets, as in `[[listen]]` (line 26)",
        ),
        (
            "[\"10.77.0.11\"]",
            "[]",
            "inic.toml: port_a.addresses: 1 to 16 addresses are needed (line 8)",
        ),
        (
            "prefix    = 24",
            "prefix    = 33",
            "inic.toml: port_a.prefix: 33 is not a prefix length: 1 to 32 (line 9)",
        ),
        (
            "10.77.0.1\"",
            "10.78.0.1\"",
            "inic.toml: port_a.gateway: 10.78.0.1 is not in the /24 network of any of port_a.addresses (line 10)",
        ),
        (
            "0x88b5",
            "0x0800",
            "inic.toml: port_b.ethertype: 0x0800 means another protocol: 0x0007, or 0x88b5, will do (line 15)",
        ),
        (
            "10.88.0.11",
            "224.0.0.1",
            "inic.toml: port_b.address: 224.0.0.1 is not the address of one host on a LAN (line 14)",
        ),
        (
            "interval_ms = 50",
            "interval_ms = 0",
            "inic.toml: synch.interval_ms: 1 to 60000 ms are possible (line 21)",
        ),
        (
            "cpu = 0.5",
            "cpu = 1.5",
            "inic.toml: balance.activity_threshold.cpu: 1.5 is not a share: 0.0 to 1.0 (line 25)",
        ),
        (
            "10.77.0.11:81",
            "10.77.0.11:80",
            "inic.toml: listen[1].address: 10.77.0.11:80 is given twice (line 33)",
        ),
        (
            "10.77.0.11:81",
            "10.77.0.12:81",
            "inic.toml: listen[1].address: 10.77.0.12 is not one of port_a.addresses (line 33)",
        ),
        (
            "127.0.0.1:8080",
            "10.77.0.11:8080",
            "inic.toml: listen[0].app: 10.77.0.11 belongs to the device: give the application a loopback address (line 30)",
        ),
        (
            "127.0.0.1:8080",
            "localhost:8080",
            "inic.toml: listen[0].app: invalid socket address syntax: an address and a port, as in `127.0.0.1:8080` (line 30)",
        ),
        (
            "seed = 42",
            "weights = { s1 = 0 }",
            "inic.toml: balance.weights.s1: 0 is not a weight: 1 to 65535 (line 26)",
        ),
        (
            "seed = 42",
            "slow_start_s = 100000",
            "inic.toml: balance.slow_start_s: 0 to 86400 s are possible (line 26)",
        ),
        (
            "[limits]",
            "[health]\ninterval_ms = 60001\n[limits]",
            "inic.toml: health.interval_ms: 1 to 60000 ms are possible, and 0 for no checks (line 39)",
        ),
        (
            "forward = 1000",
            "forward = 0",
            "inic.toml: limits.forward: must be at least 1 (line 39)",
        ),
        (
            "_ms = 1500",
            "_ms = 0",
            "inic.toml: limits.request_deadline_ms: 1 to 604800000 ms are possible (line 40)",
        ),
    ] {
        assert_eq!(error(from, to), message);
    }
}

#[test]
fn unknown_and_missing_keys() {
    let message = error("\"round-robin\"", "\"fair\"");
    assert!(
        message.starts_with("inic.toml: balance.policy: policy \"fair\" is not available"),
        "{message}"
    );
    assert!(message.ends_with("(line 24)"), "{message}");
    let message = error("prefix    = 24", "prefixx   = 24");
    assert!(
        message.starts_with("inic.toml: port_a.prefixx: unknown field `prefixx`, expected one of"),
        "{message}"
    );
    assert!(message.ends_with("(line 9)"), "{message}");
    let message = error("prefix    = 24\n", "");
    assert_eq!(message, "inic.toml: port_a.prefix: is missing (line 6)");
    let message = error("app     = \"[::1]:8081\"\n", "");
    assert_eq!(message, "inic.toml: listen[1].app: is missing (line 32)");
    let message = error("[limits]", "[limit]");
    assert!(
        message.starts_with("inic.toml: limit: unknown field `limit`"),
        "{message}"
    );
    let message = error("[synch]", "[synch");
    assert!(
        message.starts_with("inic.toml: ") && message.ends_with("(line 17)"),
        "{message}"
    );
}

#[test]
fn an_absent_section_is_named() {
    let sections: Vec<_> = GOOD.trim().split("\n\n").collect();
    for absent in ["port_a", "port_b", "synch", "listen"] {
        let header = format!("[{absent}]");
        let rest = sections.iter().filter(|text| !text.contains(&header));
        let rest: Vec<_> = rest.copied().collect();
        let message = parse(&rest.join("\n\n")).unwrap_err().to_string();
        assert_eq!(message, format!("inic.toml: {absent}: is missing"));
    }
    assert_eq!(
        error("name    = \"s1\"\n", ""),
        "inic.toml: name: is missing"
    );
    assert_eq!(
        parse("").unwrap_err().to_string(),
        "inic.toml: name: is missing"
    );
}

#[test]
fn ports_have_interfaces_and_addresses_of_their_own() {
    for (from, to, message) in [
        (
            "\"b0\"",
            "\"a0\"",
            "port_b.interface: a0 is port_a.interface too: each port needs its own (line 13)",
        ),
        (
            "\"c0\"",
            "\"a0\"",
            "synch.interface: a0 is port_a.interface too: each port needs its own (line 18)",
        ),
        (
            "\"c0\"",
            "\"b0\"",
            "synch.interface: b0 is port_b.interface too: each port needs its own (line 18)",
        ),
        (
            "10.88.0.11",
            "10.77.0.11",
            "port_b.address: 10.77.0.11 is port_a.addresses[0] too: each port needs its own (line 14)",
        ),
        (
            "10.99.0.11",
            "10.77.0.11",
            "synch.address: 10.77.0.11 is port_a.addresses[0] too: each port needs its own (line 19)",
        ),
        (
            "10.99.0.11",
            "10.88.0.11",
            "synch.address: 10.88.0.11 is port_b.address too: each port needs its own (line 19)",
        ),
    ] {
        assert_eq!(error(from, to), format!("inic.toml: {message}"));
    }
}

const PORT_C: &str = r#"
[port_c]
interface = "d0"
addresses = ["10.66.0.11"]
prefix = 24
gateway = "10.66.0.1"
responses = true
[limits]"#;

#[test]
fn port_c_is_like_port_a() {
    let text = GOOD.replace("[limits]", PORT_C);
    let file = parse(&text).unwrap();
    assert_eq!((file.interface_c(), file.way_out()), (Some("d0"), "d0"));
    assert_eq!(file.addresses().len(), 2);
    let port_c = file.device(interfaces(), start()).unwrap().port_c.unwrap();
    assert_eq!(port_c.port.addresses, [Ipv4Addr::new(10, 66, 0, 11)]);
    assert_eq!(port_c.port.gateway, Some(Ipv4Addr::new(10, 66, 0, 1)));
    assert_eq!(port_c.port.hardware.0, [2, 0, 0, 0, 0, 4]);
    assert!(port_c.responses);
    for (from, to, message) in [
        (
            "\"d0\"",
            "\"a0\"",
            "port_c.interface: a0 is port_a.interface too: each port needs its own (line 40)",
        ),
        (
            "[\"10.66.0.11\"]",
            "[\"10.77.0.11\"]",
            "port_c.gateway: 10.66.0.1 is not in the /24 network of any of port_c.addresses (line 43)",
        ),
        (
            "[\"10.66.0.11\"]",
            "[]",
            "port_c.addresses: 1 to 16 addresses are needed (line 41)",
        ),
        (
            "responses = true",
            "response = true",
            "port_c.response: unknown field `response`, expected one of `interface`, `addresses`, `prefix`, `gateway`, \
             `responses` (line 44)",
        ),
    ] {
        let error = parse(&text.replace(from, to)).unwrap_err();
        assert_eq!(error.to_string(), format!("inic.toml: {message}"));
    }
    let mut small = interfaces();
    small.c = small.c.map(|port| Capabilities { mtu: 1400, ..port });
    let error = file.device(small, start()).unwrap_err().to_string();
    assert!(
        error.starts_with("inic.toml: port_c.interface: its MTU must not be below"),
        "{error}"
    );
}

#[test]
fn what_only_the_device_knows() {
    let message = error("forward = 1000", "request = 1000");
    assert_eq!(
        message,
        "inic.toml: limits.request: must be 1 kB to 1 GB (line 39)"
    );
    let file = parse(GOOD).unwrap();
    let (mut small_a, mut small_b) = (interfaces(), interfaces());
    small_a.a.mtu = 500;
    small_b.b.mtu = 510;
    for (interfaces, message) in [
        (
            small_a,
            "inic.toml: port_a.interface: `a0` has an MTU of 500 bytes: that of Port A and Port B must leave room for \
             segments of 536 bytes (line 7)",
        ),
        (
            small_b,
            "inic.toml: port_b.interface: `b0` has an MTU of 510 bytes: that of Port A and Port B must leave room for \
             segments of 536 bytes (line 13)",
        ),
    ] {
        let error = file.device(interfaces, start()).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn the_admin_address() {
    let admin = |section: &str| {
        let file = parse(&GOOD.replace("[limits]", &format!("{section}\n[limits]")));
        file.unwrap().admin().map(|listen| listen.to_string())
    };
    assert_eq!(admin(""), None);
    assert_eq!(admin("[admin]").as_deref(), Some("127.0.0.1:9180"));
    let given = admin("[admin]\nlisten = \"[::1]:80\"");
    assert_eq!(given.as_deref(), Some("[::1]:80"));
    for (listen, what) in [
        (
            "127.0.0.1:0",
            "port 0 cannot be found by anybody: 1 to 65535",
        ),
        (
            "10.77.0.11:9180",
            "10.77.0.11 belongs to the device: give it an address of this host",
        ),
    ] {
        let message = error(
            "[limits]",
            &format!("[admin]\nlisten = \"{listen}\"\n[limits]"),
        );
        assert_eq!(
            message,
            format!("inic.toml: admin.listen: {what} (line 39)")
        );
    }
}

#[test]
fn the_farm_key_reaches_the_device() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("farm.key");
    fs::write(&key, "07".repeat(32)).unwrap();
    let text = format!("{GOOD}\n[security]\nfarm_key_file = \"farm.key\"\n");
    let path = directory.path().join("inic.toml");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let error = FileConfig::parse(&path, &text).unwrap_err().to_string();
    let line = text.lines().count();
    let place = directory.path().display();
    let open = format!(
        "{place}/inic.toml: security.farm_key_file: `{place}/farm.key` is not its owner's alone (mode 0644): \
         `chmod 600 {place}/farm.key` (line {line})"
    );
    assert_eq!(error, open);
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();
    let file = FileConfig::parse(&path, &text).unwrap();
    let config = file.device(interfaces(), start()).unwrap();
    assert_eq!(config.farm_key, Some(FarmKey::new([7; 32])));
}

#[test]
fn what_later_versions_have() {
    let message = error("\"user\"", "\"linux\"");
    assert!(
        message.starts_with(
            "inic.toml: stack: `linux` is not supported yet: `user` is possible (line "
        ),
        "{message}"
    );
}

#[test]
fn applications_may_be_told_of_their_clients() {
    let told = GOOD.replace("\"web\"", "\"web\"\nproxy_protocol = true");
    let applications = parse(&told).unwrap().applications();
    assert!(matches!(applications[0], Application::Address(_)));
    assert!(matches!(applications[1], Application::Proxied(_)));
    let datagrams = "\"udp\"\nproxy_protocol = true";
    assert_eq!(
        error("\"tcp\"", datagrams),
        "inic.toml: listen[1].proxy_protocol: is for `tcp` alone (line 36)"
    );
}

#[test]
fn protocols_are_tcp_and_udp() {
    assert_eq!(
        error("\"tcp\"", "\"sctp\""),
        "inic.toml: listen[1].protocol: unknown value `sctp`: `tcp` and `udp` are possible (line 35)"
    );
}

#[test]
fn a_file_that_is_not_there() {
    let message = FileConfig::read(Path::new("/nonexistent/inic.toml"))
        .unwrap_err()
        .to_string();
    assert!(
        message.starts_with("/nonexistent/inic.toml: cannot be read: "),
        "{message}"
    );
}
