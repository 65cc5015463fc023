//! What may come of a farm, and what may not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;
use std::time::Duration;

use ipos_core::{Instant, Port};

use super::plan::{Machine, PORTS, Plan};
use super::run::Report;
use crate::addresses::ServerAddresses;
use crate::asker::{Answer, Asker};
use crate::farm::Farm;
use crate::owner::Violation;
use crate::script::{Connection, ExchangeError, Record};
use crate::watch::{Conversation, Watch};

/// A time in which a server was down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outage {
    pub(super) server: usize,
    pub(super) from: Instant,
    /// It did not come back where this is `None`.
    pub(super) to: Option<Instant>,
    /// It had said that it leaves.
    pub(super) left: bool,
}

/// A time in which two machines did not hear each other on a LAN.
#[derive(Clone, Copy, Debug)]
pub(super) struct Parted {
    pub(super) port: Port,
    pub(super) pair: [Machine; 2],
    pub(super) from: Instant,
    pub(super) to: Option<Instant>,
}

/// What has happened to a farm that excuses failures.
pub(super) struct Facts {
    pub(super) outages: Vec<Outage>,
    pub(super) parted: Vec<Parted>,
    /// Servers that have said that they leave, and report nothing from then on.
    pub(super) quiet: Vec<(usize, Instant)>,
    /// When each server had no place for further connections.
    full: Vec<Vec<(Instant, Option<Instant>)>>,
}

impl Facts {
    pub(super) fn new(servers: usize) -> Facts {
        Facts {
            outages: Vec::new(),
            parted: Vec::new(),
            quiet: Vec::new(),
            full: vec![Vec::new(); servers],
        }
    }

    pub(super) fn note_full(&mut self, now: Instant, server: usize, full: bool) {
        let Some(times) = self.full.get_mut(server) else {
            return;
        };
        match times.last_mut() {
            Some((_, to @ None)) if !full => *to = Some(now),
            Some((_, None)) => {}
            _ if full => times.push((now, None)),
            _ => {}
        }
    }

    fn was_full(&self, server: usize, span: (Instant, Instant)) -> bool {
        let mut times = self.full.get(server).into_iter().flatten();
        times.any(|&(from, to)| overlap(from, to, span))
    }

    /// The first outage of a server in this time.
    fn outage(&self, server: usize, span: (Instant, Instant)) -> Option<&Outage> {
        let mut outages = self.outages.iter();
        outages.find(|outage| outage.server == server && overlap(outage.from, outage.to, span))
    }

    /// Whether a server is down then.
    fn is_one_down(&self, at: Instant) -> bool {
        let mut outages = self.outages.iter();
        outages.any(|outage| overlap(outage.from, outage.to, (at, at)))
    }

    /// Whether two servers could not speak to each other for so long on LAN B, or one of them has begun a life in which it had not
    /// heard of the other one.
    fn was_parted(&self, least: Duration, span: (Instant, Instant)) -> bool {
        let on_b = self.parted.iter().filter(|parted| parted.port == Port::B);
        let parted = on_b.map(|parted| (parted.from, parted.to));
        parted
            .chain(self.strangers())
            .any(|(from, to)| to.is_none_or(|to| from + least <= to) && overlap(from, to, span))
    }

    /// The times in which a server's life did not know another server: that one was not to be heard on the Synch LAN, or is quiet.
    fn strangers(&self) -> impl Iterator<Item = (Instant, Option<Instant>)> {
        let begun = || self.outages.iter().filter_map(|o| Some((o.server, o.to?)));
        let parted = self.parted.iter().filter(|p| p.port == Port::Synch);
        let parted = parted.flat_map(move |&Parted { pair, from, to, .. }| {
            let of_pair = move |server| pair.contains(&Machine::Server(server));
            let begun = begun().filter(move |(server, _)| of_pair(*server));
            begun.map(move |(_, up)| (up, from, to))
        });
        let quiet = self.quiet.iter().flat_map(move |&(server, from)| {
            let mut outages = self.outages.iter();
            let stopped = outages.find(|o| o.server == server && o.from >= from);
            let others = begun().filter(move |(other, _)| *other != server);
            others.map(move |(_, up)| (up, from, stopped.map(|o| o.from)))
        });
        let within = |&(up, from, to): &_| overlap(from, to, (up, up));
        parted
            .chain(quiet)
            .filter(within)
            .map(|(up, _, to)| (up, to))
    }
}

/// Whether a time, which may have no end, has something in common with another one.
fn overlap(from: Instant, to: Option<Instant>, span: (Instant, Instant)) -> bool {
    from <= span.1 && to.is_none_or(|to| to >= span.0)
}

/// So much earlier a partition may end and still be too long: what is repeated is lost too.
const MARGIN: Duration = Duration::from_secs(1);
/// A question that nobody has answered in the end was asked all this time.
const LAST: Duration = Duration::from_secs(5);
/// Tables that are empty once all connections are over.
const EMPTY_AT_LAST: [&str; 7] = [
    "temporary",
    "local",
    "forward-connect",
    "forward",
    "tombstones",
    "early-packets",
    "outbox",
];

/// Whether nothing is left of any connection on any server.
pub(super) fn is_over(farm: &Farm) -> bool {
    left_behind(farm).next().is_none()
}

/// What is left of connections on the servers: nothing, once all are over.
pub fn left_behind(farm: &Farm) -> impl Iterator<Item = String> {
    let servers = (0..farm.servers()).filter_map(|index| Some((index, farm.server(index)?)));
    servers.flat_map(|(index, server)| {
        let device = server.device();
        let tables = device.tables().into_iter();
        let full = tables.filter(|table| table.len > 0 && EMPTY_AT_LAST.contains(&table.name));
        let rest = [
            ("bytes buffered", device.buffered()),
            ("sessions of the application", server.sessions().len()),
        ];
        let rest = rest.into_iter().filter(|(_, count)| *count > 0);
        let (flows, _) = device.flows(0, usize::MAX, |_, _| true);
        let flows = flows.iter().map(|row| {
            let (name, state, flow) = (row.table, row.state, row.flow);
            format!("s{}: {name} has {flow}, {state}", index + 1)
        });
        full.map(|table| (table.name, table.len))
            .chain(rest)
            .map(|(name, count)| format!("s{}: {count} {name} are left", index + 1))
            .chain(flows)
            .collect::<Vec<_>>()
    })
}

/// Looks at everything that came of a farm.
pub(super) fn judge(plan: &Plan, farm: &Farm, watch: &Watch, facts: &Facts, report: &mut Report) {
    for what in left_behind(farm) {
        report.breach(what);
    }
    let mut told = BTreeSet::new();
    for violation in farm.violations() {
        let Violation {
            now,
            flow,
            server,
            owner,
            segment,
        } = violation;
        if told.insert((flow, server)) {
            let (client, server) = (flow.client, server + 1);
            let owner = owner.map_or("nobody".into(), |owner| format!("s{}", owner + 1));
            report.breach(format!(
                "at {now:?}: s{server} transmits to {client}, the owner is {owner}: {segment}"
            ));
        }
    }
    judge_connections(plan, farm, watch, facts, report);
    count(plan, farm, report);
}

/// No client can tell how often its connection was handed over.
pub(super) fn judge_segments(watch: &Watch, report: &mut Report) {
    for (client, talk) in watch.conversations() {
        for violation in talk.violations() {
            report.breach(format!("{client} {violation}"));
        }
    }
}

/// Every datagram that comes is right; and every question is answered at last, unless its server was down, or full, or is
/// never told that the one it sends them to is.
pub(super) fn judge_datagrams(plan: &Plan, asker: &Asker, facts: &Facts, report: &mut Report) {
    for what in asker.wrong() {
        report.breach(what);
    }
    report.counts.turns += asker.turns();
    for (asked, answer) in asker.answers() {
        report.counts.questions += 1;
        match answer {
            Some(Answer::At(_)) => report.counts.answered += 1,
            Some(Answer::Never(at)) => {
                let first = first(facts.full.len(), asked.server);
                // Tables come free, and dead owners are found out, long before.
                let last = (at - LAST, at);
                let excused = first.is_some_and(|first| {
                    let dead = plan.limits.owner_lost.is_none() && facts.is_one_down(at);
                    dead || facts.outage(first, last).is_some() || facts.was_full(first, last)
                });
                if !excused {
                    let (client, server) = (asker.address(), asked.server);
                    let (port, asked) = (asked.port, asked.at);
                    report.breach(format!(
                        "{client}:{port} to {server}, asked at {asked:?}: no answer until {at:?}"
                    ));
                }
            }
            None => report.breach(format!("{asked:?} has no end")),
        }
    }
}

/// The server with this address.
fn first(servers: usize, address: SocketAddrV4) -> Option<usize> {
    (0..servers).find(|&index| ServerAddresses::of(index).a.1 == *address.ip())
}

fn judge_connections(plan: &Plan, farm: &Farm, watch: &Watch, facts: &Facts, report: &mut Report) {
    // Between two ports there is one connection after the other.
    let mut connections: BTreeMap<(Connection, Instant), Vec<&Record>> = BTreeMap::new();
    let mut exchanges = 0;
    for record in farm.records() {
        exchanges += 1;
        connections
            .entry((record.connection, record.opened))
            .or_default()
            .push(record);
    }
    if exchanges != plan.requests() {
        report.breach(format!(
            "{exchanges} of {} requests have an end",
            plan.requests()
        ));
    }
    let ends: BTreeSet<Connection> = connections.keys().map(|(ends, _)| *ends).collect();
    let ports: BTreeSet<SocketAddrV4> = ends.iter().map(|ends| ends.client).collect();
    report.counts.reused += (connections.len() - ends.len()) as u64;
    report.counts.shared += (ends.len() - ports.len()) as u64;
    report.counts.connections += connections.len() as u64;
    report.counts.requests += exchanges as u64;
    for ((_, opened), records) in &connections {
        let failed = records.iter().enumerate().find_map(|(number, record)| {
            let error = record.exchange.result.as_ref().err()?;
            let span = (*opened, record.exchange.finished);
            Some((record.connection, error, number, span))
        });
        match failed {
            None => report.counts.whole += 1,
            Some(failure) => judge_failure(plan, farm, watch, facts, failure, report),
        }
    }
}

/// A failure is seen as one by the client, and only where a server died that the connection needed, or could be taken for
/// dead, or had no place for it, or where servers did not hear each other for too long.
fn judge_failure(
    plan: &Plan,
    farm: &Farm,
    watch: &Watch,
    facts: &Facts,
    (connection, error, number, span): (Connection, &ExchangeError, usize, (Instant, Instant)),
    report: &mut Report,
) {
    let visible = matches!(
        error,
        ExchangeError::Refused | ExchangeError::Reset | ExchangeError::TimedOut
    );
    let first = first(farm.servers(), connection.server);
    let outage = first.and_then(|first| facts.outage(first, span));
    let bereavements = farm.bereavements(&connection);
    // What is left of a former connection keeps later ones out until its owner is given up.
    let before = |lost: Duration| span.0.as_micros().saturating_sub(lost.as_micros() as u64);
    let since = plan.limits.owner_lost.map_or(0, before);
    let since = Instant::from_micros(since);
    let bereaved = bereavements
        .iter()
        .find(|at| (since..=span.1).contains(*at));
    let death = bereaved.and_then(|at| facts.outages.iter().find(|outage| outage.from == *at));
    let reset = matches!(error, ExchangeError::Refused | ExchangeError::Reset);
    let full = first.is_some_and(|first| facts.was_full(first, span));
    // The giver offers the endpoint again, and passes packets on, for so long.
    let patience = plan.limits.tombstone;
    let patience = patience - (patience / 2).min(MARGIN);
    let mut talks = watch
        .between(connection.client, connection.server)
        .iter()
        .filter_map(Conversation::late_reset);
    let late_reset = talks.any(|at| (span.0..=span.1).contains(&at));
    let counts = &mut report.counts;
    let excuse = match (outage, bereaved) {
        _ if !visible => None,
        (Some(Outage { left: false, .. }), _) => Some(&mut counts.first_crashed),
        (None, Some(_)) if death.is_none() => Some(&mut counts.given_up),
        (None, Some(_)) if death.is_some_and(|death| !death.left) => {
            Some(&mut counts.owner_crashed)
        }
        (Some(_), _) | (_, Some(_)) => Some(&mut counts.left),
        // A new connection only: one that has an application keeps it.
        _ if reset && full && number == 0 => Some(&mut counts.rejected),
        _ if reset && late_reset => Some(&mut counts.late_reset),
        _ if facts.was_parted(patience, span) => Some(&mut counts.parted),
        _ => None,
    };
    if let Some(count) = excuse {
        *count += 1;
    } else {
        let (opened, at) = span;
        report.breach(format!(
            "{} to {}, opened at {opened:?}: {error} at {at:?}",
            connection.client, connection.server
        ));
    }
}

/// LANs on which a frame was too long or too short, or found no room.
pub fn misfits(farm: &Farm) -> impl Iterator<Item = String> {
    let seen = PORTS
        .into_iter()
        .filter_map(|port| Some((port, farm.lan(port)?.statistics())));
    let wrong = seen.filter(|(_, seen)| seen.oversized + seen.undersized + seen.overflowed > 0);
    wrong.map(|(port, seen)| format!("LAN of port {port:?}: {seen:?}"))
}

fn count(plan: &Plan, farm: &Farm, report: &mut Report) {
    let counts = &mut report.counts;
    counts.servers += plan.servers as u64;
    for server in farm.outcome().servers {
        counts.local += server.local;
        counts.migrated += server.migrated_out;
        counts.moved += server.moved;
        counts.came_home += server.came_home;
    }
    for device in (0..farm.servers()).filter_map(|index| farm.device(index)) {
        counts.cookies += device.counters().cookies_accepted;
    }
    for port in PORTS {
        let Some(seen) = farm.lan(port).map(|lan| lan.statistics()) else {
            continue;
        };
        let counts = &mut report.counts;
        counts.frames += seen.frames;
        counts.lost += seen.impairments.lost + seen.partitioned;
        counts.duplicated += seen.impairments.duplicated;
        counts.reordered += seen.impairments.reordered;
        counts.corrupted += seen.impairments.corrupted;
    }
    for what in misfits(farm) {
        report.breach(what);
    }
}
