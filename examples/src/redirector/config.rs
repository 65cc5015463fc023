//! The configuration file: TOML, unknown keys are errors, and every error is one line that names the file and the key.

use std::collections::HashSet;
use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hickory_proto::rr::Name;
use hyper::StatusCode;
use ipos_balance::{PolicyKind, SlowStart};
use ipos_core::FarmKey;
use ipos_proto::synch::NAME_MAX;
use serde::Deserialize;
use serde::de::{Deserializer, Error};

use crate::{key_file, wording};

/// Longest name of an interface, in bytes (`IFNAMSIZ`, less the final zero).
const INTERFACE: usize = 15;
/// Longest host name, in bytes (RFC 1035 §2.3.4).
const HOST: usize = 253;

/// What is wrong with a configuration file: one line.
#[derive(Debug, thiserror::Error)]
#[error("{}: {key}{}{what}{}", file.display(), if key.is_empty() { "" } else { ": " }, At(*line))]
pub struct FileError {
    file: PathBuf,
    /// As in `group[1].host`; empty where it is the file as a whole.
    key: String,
    what: String,
    line: Option<usize>,
}

struct At(Option<usize>);

impl Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |line| write!(f, " (line {line})"))
    }
}

impl FileError {
    /// An error of the file at `path`, at `key`.
    pub fn new(path: &Path, key: impl Into<String>, what: impl Display) -> FileError {
        FileError {
            file: path.to_owned(),
            key: key.into(),
            what: what.to_string(),
            line: None,
        }
    }
}

/// Reads and validates the file at `path`.
///
/// # Errors
/// The file cannot be read, is not TOML, has an unknown key, lacks one, or a value does not do.
pub fn read(path: &Path) -> Result<Settings, FileError> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| FileError::new(path, "", format_args!("cannot be read: {error}")))?;
    parse(path, &text)
}

/// Validates the text of a file; `path` is for errors.
///
/// # Errors
/// As [`read`], but for reading.
pub fn parse(path: &Path, text: &str) -> Result<Settings, FileError> {
    let wrong = |key: String, error: &toml::de::Error| {
        let span = error.span().filter(|span| !span.is_empty());
        let before = span.and_then(|span| text.get(..span.start));
        FileError {
            file: path.to_owned(),
            key: if key == "." { String::new() } else { key },
            what: wording::of(error),
            line: before.map(|before| before.matches('\n').count() + 1),
        }
    };
    let document = toml::Deserializer::parse(text).map_err(|error| wrong(String::new(), &error))?;
    let file: File = serde_path_to_error::deserialize(document)
        .map_err(|error| wrong(error.path().to_string(), error.inner()))?;
    file.settings(path)
        .map_err(|(key, what)| FileError::new(path, key, what))
}

/// A valid configuration.
#[derive(Clone, Debug)]
pub struct Settings {
    pub(super) interface: String,
    pub(super) port: u16,
    /// High-priority interval of the farm's reports.
    pub(super) interval: Duration,
    pub(super) http: Vec<Http>,
    pub(super) groups: Vec<Group>,
    pub(super) dns: Option<Dns>,
    pub(super) slow_start: SlowStart,
    /// `None`: the operating system's.
    pub(super) seed: Option<u64>,
    /// Servers that are known. Full: messages of others are dropped.
    pub(super) servers: usize,
    /// Connections for HTTP, and as many for DNS. Full: further clients wait in the kernel's queue.
    pub(super) connections: usize,
    /// A client is silent for so long at most.
    pub(super) silent: Duration,
    /// A connection takes new requests for so long.
    pub(super) lifetime: Duration,
    /// What reports are authenticated with at first.
    pub(super) farm_key: Option<FarmKey>,
}

impl Settings {
    /// A server that is silent for so long is not chosen.
    pub(super) fn silence(&self) -> Duration {
        self.interval.saturating_mul(5)
    }
}

/// A listening socket for HTTP.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Http {
    #[serde(deserialize_with = "address")]
    pub(super) listen: SocketAddr,
    #[serde(default, deserialize_with = "status")]
    pub(super) status: Option<StatusCode>,
}

/// Whom clients are sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) service: String,
    pub(super) policy: PolicyKind,
}

/// An application group (FIG. 2D).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Group {
    /// In lower case, without final dot; `None`: all other hosts.
    pub(super) host: Option<String>,
    pub(super) target: Target,
}

/// The name server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Dns {
    pub(super) listen: SocketAddr,
    /// Seconds.
    pub(super) ttl: u32,
    /// Addresses in an answer at most.
    pub(super) answers: usize,
    pub(super) nameserver: Option<Name>,
    pub(super) zones: Vec<Zone>,
}

/// A name that the name server answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Zone {
    pub(super) name: Name,
    pub(super) target: Target,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    synch: SynchSection,
    #[serde(default)]
    http: Vec<Http>,
    #[serde(default)]
    group: Vec<GroupSection>,
    dns: Option<DnsSection>,
    #[serde(default)]
    balance: BalanceSection,
    #[serde(default)]
    limits: LimitsSection,
    security: Option<SecuritySection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecuritySection {
    farm_key_file: PathBuf,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SynchSection {
    #[serde(deserialize_with = "interface")]
    interface: String,
    #[serde(default = "synch_port", deserialize_with = "within::<_, _, 1, 65_535>")]
    port: u16,
    #[serde(default = "interval", deserialize_with = "within::<_, _, 1, 60_000>")]
    interval_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct GroupSection {
    #[serde(default, deserialize_with = "host")]
    host: Option<String>,
    #[serde(deserialize_with = "service")]
    service: String,
    #[serde(default = "round_robin", deserialize_with = "policy")]
    policy: PolicyKind,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DnsSection {
    #[serde(deserialize_with = "one_address")]
    listen: SocketAddr,
    // Its greatest value is RFC 2181's (§8).
    #[serde(default = "ttl", deserialize_with = "within::<_, _, 0, 2_147_483_647>")]
    ttl: u32,
    #[serde(default = "answers", deserialize_with = "within::<_, _, 1, 64>")]
    answers: usize,
    #[serde(default, deserialize_with = "optional_domain")]
    nameserver: Option<Name>,
    #[serde(default)]
    name: Vec<ZoneSection>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ZoneSection {
    #[serde(deserialize_with = "domain")]
    name: Name,
    #[serde(deserialize_with = "service")]
    service: String,
    #[serde(default = "round_robin", deserialize_with = "policy")]
    policy: PolicyKind,
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct BalanceSection {
    #[serde(deserialize_with = "within::<_, _, 0, 3_600_000>")]
    slow_start_ms: u64,
    seed: Option<u64>,
}

impl Default for BalanceSection {
    fn default() -> BalanceSection {
        BalanceSection {
            slow_start_ms: 10_000,
            seed: None,
        }
    }
}

#[derive(Deserialize)]
#[serde(default, deny_unknown_fields)]
struct LimitsSection {
    #[serde(deserialize_with = "within::<_, _, 1, 65_536>")]
    servers: usize,
    #[serde(deserialize_with = "within::<_, _, 1, 1_000_000>")]
    connections: usize,
    #[serde(deserialize_with = "within::<_, _, 1, 3_600_000>")]
    silent_ms: u64,
    #[serde(deserialize_with = "within::<_, _, 1, 3_600_000>")]
    lifetime_ms: u64,
}

impl Default for LimitsSection {
    fn default() -> LimitsSection {
        LimitsSection {
            servers: 256,
            connections: 1_024,
            silent_ms: 10_000,
            lifetime_ms: 60_000,
        }
    }
}

const fn synch_port() -> u16 {
    7007
}

const fn interval() -> u64 {
    100
}

const fn ttl() -> u32 {
    5
}

const fn answers() -> usize {
    8
}

const fn round_robin() -> PolicyKind {
    PolicyKind::RoundRobin
}

impl File {
    /// What one value alone does not show; the key at fault, and why.
    fn settings(self, path: &Path) -> Result<Settings, (String, String)> {
        let File {
            synch,
            http,
            group,
            dns,
            balance,
            limits,
            security,
        } = self;
        let fault = |key: &str, what: &str| Err((key.to_owned(), what.to_owned()));
        match (http.is_empty(), group.is_empty(), &dns) {
            (true, _, None) => return fault("http", "neither [[http]] nor [dns]: nobody can ask"),
            (false, true, _) => return fault("group", "[[http]] needs at least one group"),
            (true, false, _) => return fault("group", "is of no use without [[http]]"),
            (_, _, Some(dns)) if dns.name.is_empty() => {
                return fault("dns.name", "at least one name is needed");
            }
            _ => {}
        }
        distinct("http", "listen", http.iter().map(|http| Some(http.listen)))?;
        distinct("group", "host", group.iter().map(|g| g.host.as_deref()))?;
        let names = dns.iter().flat_map(|dns| &dns.name);
        distinct("dns.name", "name", names.map(|zone| Some(&zone.name)))?;
        let farm_key = security.map(|security| key_file::read(path, &security.farm_key_file));
        let farm_key = farm_key.transpose();
        let farm_key =
            farm_key.map_err(|error| ("security.farm_key_file".into(), error.to_string()))?;
        let groups = group.into_iter().map(|group| Group {
            host: group.host,
            target: Target {
                service: group.service,
                policy: group.policy,
            },
        });
        Ok(Settings {
            interface: synch.interface,
            port: synch.port,
            interval: Duration::from_millis(synch.interval_ms),
            http,
            groups: groups.collect(),
            dns: dns.map(DnsSection::settings),
            slow_start: SlowStart {
                duration: Duration::from_millis(balance.slow_start_ms),
            },
            seed: balance.seed,
            servers: limits.servers,
            connections: limits.connections,
            silent: Duration::from_millis(limits.silent_ms),
            lifetime: Duration::from_millis(limits.lifetime_ms),
            farm_key,
        })
    }
}

impl DnsSection {
    fn settings(self) -> Dns {
        let zones = self.name.into_iter().map(|zone| Zone {
            name: zone.name,
            target: Target {
                service: zone.service,
                policy: zone.policy,
            },
        });
        Dns {
            listen: self.listen,
            ttl: self.ttl,
            answers: self.answers,
            nameserver: self.nameserver,
            zones: zones.collect(),
        }
    }
}

/// Whether no value is there twice; the default group has none.
fn distinct<T: Eq + std::hash::Hash + Display>(
    section: &str,
    field: &str,
    values: impl Iterator<Item = Option<T>>,
) -> Result<(), (String, String)> {
    let mut seen = HashSet::new();
    for (index, value) in values.enumerate() {
        let what = match &value {
            Some(value) => format!("{value} is given twice"),
            None => "two entries are without: one is for all others".to_owned(),
        };
        if !seen.insert(value) {
            return Err((format!("{section}[{index}].{field}"), what));
        }
    }
    Ok(())
}

fn address<'de, D: Deserializer<'de>>(source: D) -> Result<SocketAddr, D::Error> {
    let address = SocketAddr::deserialize(source)?;
    match address.port() {
        0 => Err(D::Error::custom("port 0 cannot be listened on: 1 to 65535")),
        _ => Ok(address),
    }
}

/// A datagram must be answered from the address that it was sent to.
fn one_address<'de, D: Deserializer<'de>>(source: D) -> Result<SocketAddr, D::Error> {
    let address = address(source)?;
    if address.ip().is_unspecified() {
        let what = format_args!("{} is no address of this host", address.ip());
        return Err(D::Error::custom(what));
    }
    Ok(address)
}

fn status<'de, D: Deserializer<'de>>(source: D) -> Result<Option<StatusCode>, D::Error> {
    match u16::deserialize(source)? {
        302 => Ok(Some(StatusCode::FOUND)),
        307 => Ok(Some(StatusCode::TEMPORARY_REDIRECT)),
        other => Err(D::Error::custom(format_args!(
            "{other} is not possible: 302 or 307"
        ))),
    }
}

fn policy<'de, D: Deserializer<'de>>(source: D) -> Result<PolicyKind, D::Error> {
    String::deserialize(source)?
        .parse()
        .map_err(D::Error::custom)
}

fn interface<'de, D: Deserializer<'de>>(source: D) -> Result<String, D::Error> {
    short(source, INTERFACE)
}

fn service<'de, D: Deserializer<'de>>(source: D) -> Result<String, D::Error> {
    short(source, NAME_MAX)
}

fn short<'de, D: Deserializer<'de>>(source: D, most: usize) -> Result<String, D::Error> {
    let name = String::deserialize(source)?;
    if !(1..=most).contains(&name.len()) || name.contains(char::is_control) {
        let what = format_args!("{name:?} is not a name of 1 to {most} bytes");
        return Err(D::Error::custom(what));
    }
    Ok(name)
}

fn host<'de, D: Deserializer<'de>>(source: D) -> Result<Option<String>, D::Error> {
    let given = String::deserialize(source)?;
    let host = given.strip_suffix('.').unwrap_or(&given);
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._".contains(c);
    if !(1..=HOST).contains(&host.len()) || !host.chars().all(allowed) {
        let what = format_args!("{given:?} is not a host name, without port");
        return Err(D::Error::custom(what));
    }
    Ok(Some(host.to_ascii_lowercase()))
}

fn domain<'de, D: Deserializer<'de>>(source: D) -> Result<Name, D::Error> {
    let given = String::deserialize(source)?;
    let wrong =
        |why: &dyn Display| D::Error::custom(format_args!("{given:?} is not a domain name: {why}"));
    let mut name = Name::from_ascii(&given).map_err(|error| wrong(&error))?;
    name.set_fqdn(true);
    if name.is_root() {
        return Err(wrong(&"a label is needed"));
    }
    Ok(name.to_lowercase())
}

fn optional_domain<'de, D: Deserializer<'de>>(source: D) -> Result<Option<Name>, D::Error> {
    domain(source).map(Some)
}

fn within<'de, D, T, const LEAST: u64, const MOST: u64>(source: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: TryFrom<u64>,
{
    let value = i64::deserialize(source)?;
    let fits = u64::try_from(value)
        .ok()
        .filter(|value| (LEAST..=MOST).contains(value));
    fits.and_then(|value| T::try_from(value).ok())
        .ok_or_else(|| D::Error::custom(format_args!("{value} is not possible: {LEAST} to {MOST}")))
}
