//! What may come of a farm, and what may not.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddrV4;

use ipos_core::Instant;

use super::plan::Plan;
use super::run::Report;
use crate::addresses::ServerAddresses;
use crate::farm::Farm;
use crate::owner::Violation;
use crate::script::{Connection, ExchangeError, Record};
use crate::server::PORTS;
use crate::watch::Watch;

/// A time in which a server was down.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outage {
    pub(super) server: usize,
    pub(super) from: Instant,
    /// It did not come back where this is `None`.
    pub(super) to: Option<Instant>,
}

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

/// What is left of connections.
fn left_behind(farm: &Farm) -> impl Iterator<Item = String> {
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
        full.map(|table| (table.name, table.len))
            .chain(rest)
            .map(move |(name, count)| format!("s{}: {count} {name} are left", index + 1))
            .collect::<Vec<_>>()
    })
}

/// Looks at everything that came of a farm.
pub(super) fn judge(plan: &Plan, farm: &Farm, outages: &[Outage], report: &mut Report) {
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
    judge_connections(plan, farm, outages, report);
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

fn judge_connections(plan: &Plan, farm: &Farm, outages: &[Outage], report: &mut Report) {
    let mut connections: BTreeMap<SocketAddrV4, Vec<&Record>> = BTreeMap::new();
    let mut exchanges = 0;
    for record in farm.records() {
        exchanges += 1;
        connections
            .entry(record.connection.client)
            .or_default()
            .push(record);
    }
    if exchanges != plan.requests() {
        report.breach(format!(
            "{exchanges} of {} requests have an end",
            plan.requests()
        ));
    }
    report.counts.connections += connections.len() as u64;
    report.counts.requests += exchanges as u64;
    for records in connections.values() {
        let failed = records.iter().find_map(|record| {
            let error = record.exchange.result.as_ref().err()?;
            Some((record.connection, error, record.exchange.finished))
        });
        match failed {
            None => report.counts.whole += 1,
            Some((connection, error, at)) => {
                let opened = records.first().map_or(at, |record| record.exchange.started);
                judge_failure(farm, outages, (connection, error, opened, at), report);
            }
        }
    }
}

/// A failure is seen as one by the client, and only where a server died that the connection needed.
fn judge_failure(
    farm: &Farm,
    outages: &[Outage],
    (connection, error, opened, at): (Connection, &ExchangeError, Instant, Instant),
    report: &mut Report,
) {
    let visible = matches!(
        error,
        ExchangeError::Refused | ExchangeError::Reset | ExchangeError::TimedOut
    );
    let first =
        (0..farm.servers()).find(|&index| ServerAddresses::of(index).http() == connection.server);
    let first_crashed = outages.iter().any(|outage| {
        let during = outage.from <= at && outage.to.is_none_or(|to| to >= opened);
        Some(outage.server) == first && during
    });
    if visible && first_crashed {
        report.counts.first_crashed += 1;
    } else if visible && farm.lost_its_owner(&connection) {
        report.counts.owner_crashed += 1;
    } else {
        report.breach(format!(
            "{} to {}, opened at {opened:?}: {error} at {at:?}",
            connection.client, connection.server
        ));
    }
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
        if seen.oversized + seen.undersized + seen.overflowed > 0 {
            report.breach(format!("LAN of port {port:?}: {seen:?}"));
        }
    }
}
