//! One moment of a device, copied on the engine's thread.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use ipos_backend::Statistics as PortStatistics;
use ipos_core::config::Listen;
use ipos_core::{
    Counters, Device, EarlyRow, FLOW_TABLES, FlowRow, Instant, ListenerId, NeighbourRow, Port,
    Process, ServerState, TableSize,
};
use ipos_engine::{DrainStatus, Operator, Statistics};

/// Rows of each table that are shown unless more are asked for.
pub(super) const ROWS: usize = 100;
/// Rows of each table that may be asked for.
pub(super) const ROWS_MAX: usize = 1_000;
/// Places of the flow tables that one request looks at: a large farm's tables are walked in pieces.
const PLACES: usize = 16_384;

/// Which rows are wanted.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    /// So many of each table at most.
    pub(super) rows: usize,
    /// Of this table only.
    pub(super) table: Option<String>,
    /// From here on: where `next` of an earlier answer leads to.
    pub(super) from: usize,
}

impl Wanted {
    /// Sizes and counters.
    pub(super) const NO_ROWS: Wanted = Wanted {
        rows: 0,
        table: None,
        from: 0,
    };

    fn wants(&self, table: &str) -> bool {
        self.rows > 0 && self.table.as_deref().is_none_or(|only| only == table)
    }

    /// Rows of this table that are wanted; in `next`, where to go on.
    fn of<T>(
        &self,
        table: &'static str,
        rows: impl Iterator<Item = T>,
        next: &mut Vec<(&'static str, usize)>,
    ) -> Vec<T> {
        if !self.wants(table) {
            return Vec::new();
        }
        // One of several tables begins with its first row.
        let from = self.table.as_ref().map_or(0, |_| self.from);
        let mut rows = rows.skip(from);
        let taken: Vec<T> = rows.by_ref().take(self.rows).collect();
        if rows.next().is_some() {
            next.push((table, from.saturating_add(taken.len())));
        }
        taken
    }
}

/// A row of the cookie map.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) id: Vec<u8>,
    pub(super) server: String,
    pub(super) left: Duration,
}

/// A listening socket, with its application.
#[derive(Debug)]
pub(super) struct Listening {
    pub(super) listen: Listen,
    /// `None`: in this process.
    pub(super) app: Option<SocketAddr>,
    pub(super) answers: bool,
}

/// A row of the URL map or the SSL map.
#[derive(Debug)]
pub(super) struct MapRow {
    /// Host or server name, and path.
    pub(super) key: [Option<String>; 2],
    pub(super) servers: Vec<String>,
}

/// All that answers are made of.
#[derive(Debug)]
pub(super) struct Snapshot {
    pub(super) name: String,
    pub(super) now: Instant,
    pub(super) draining: bool,
    pub(super) drain: Option<DrainStatus>,
    pub(super) connections: u32,
    /// Connections that may be served here.
    pub(super) endpoints: usize,
    pub(super) counters: Counters,
    pub(super) engine: Statistics,
    pub(super) ports: Vec<(Port, PortStatistics, usize)>,
    pub(super) kept: [usize; 2],
    pub(super) buffered: [usize; 2],
    /// All tables' sizes.
    pub(super) tables: Vec<TableSize>,
    /// All of them: there are few.
    pub(super) servers: Vec<ServerState>,
    /// All of them: there are few.
    pub(super) listening: Vec<Listening>,
    pub(super) flows: Vec<FlowRow>,
    /// Tables of which there is more, and where to go on.
    pub(super) next: Vec<(&'static str, usize)>,
    pub(super) processes: Vec<Process>,
    pub(super) neighbours: Vec<NeighbourRow>,
    pub(super) sessions: Vec<Session>,
    pub(super) early: Vec<EarlyRow>,
    pub(super) url_map: Vec<MapRow>,
    pub(super) ssl_map: Vec<MapRow>,
}

impl Snapshot {
    /// Copies what is wanted.
    pub(super) fn take(operator: &Operator<'_>, wanted: &Wanted) -> Snapshot {
        let (device, now) = (operator.device(), operator.now());
        let config = device.config();
        let apps: BTreeMap<_, _> = operator.applications().collect();
        let listening = config.listen.iter().enumerate();
        let listening = listening.map(|(at, listen)| Listening {
            listen: listen.clone(),
            app: apps.get(&ListenerId(at)).copied(),
            answers: device.is_available(ListenerId(at)),
        });
        let session = |(id, server, left): (&[u8], &str, Duration)| Session {
            id: id.to_vec(),
            server: server.to_owned(),
            left,
        };
        let url_map = config.content.url_map.iter().map(|row| MapRow {
            key: [row.host.clone(), row.path.clone()],
            servers: row.servers.clone(),
        });
        let ssl_map = config.content.ssl_map.iter().map(|row| MapRow {
            key: [Some(row.sni.clone()), None],
            servers: row.servers.clone(),
        });
        let is_there = |port: &Port| *port != Port::C || config.port_c.is_some();
        let port = |port| (port, operator.port_statistics(port), device.waiting(port));
        let (flows, mut next) = flows(operator, wanted);
        let processes = device.processes().iter().cloned();
        let sessions = wanted.of("cookie-map", device.sessions(now), &mut next);
        Snapshot {
            name: config.name.clone(),
            now,
            draining: device.is_draining(),
            drain: operator.drain_status(),
            connections: device.connections(),
            endpoints: config.limits.endpoints,
            counters: device.counters(),
            engine: operator.statistics(),
            ports: Port::ALL.into_iter().filter(is_there).map(port).collect(),
            kept: [device.kept(), config.limits.kept],
            buffered: [device.buffered(), config.limits.buffers],
            tables: sizes(device),
            servers: device.servers(now),
            listening: listening.collect(),
            flows,
            processes: wanted.of("application-information", processes, &mut next),
            neighbours: wanted.of("neighbours", device.neighbours(), &mut next),
            sessions: sessions.into_iter().map(session).collect(),
            early: wanted.of("early-packets", device.early_packets(), &mut next),
            url_map: wanted.of("url-map", url_map, &mut next),
            ssl_map: wanted.of("ssl-map", ssl_map, &mut next),
            next,
        }
    }
}

/// The device's tables, and those that its configuration file has made as long as they are.
fn sizes(device: &Device) -> Vec<TableSize> {
    let content = &device.config().content;
    let maps = [
        ("url-map", content.url_map.len()),
        ("ssl-map", content.ssl_map.len()),
    ];
    let maps = maps.map(|(name, len)| TableSize {
        name,
        len,
        bound: len,
    });
    device.tables().into_iter().chain(maps).collect()
}

/// Rows of the flow tables, and where those go on that have more.
fn flows(operator: &Operator<'_>, wanted: &Wanted) -> (Vec<FlowRow>, Vec<(&'static str, usize)>) {
    let device = operator.device();
    let mut left: Vec<_> = FLOW_TABLES
        .into_iter()
        .filter(|table| wanted.wants(table))
        .map(|table| (table, wanted.rows))
        .collect();
    if left.is_empty() {
        return Default::default();
    }
    let mut next: Vec<(&'static str, usize)> = Vec::new();
    let (rows, end) = device.flows(wanted.from, PLACES, |table, place| {
        let Some((_, left)) = left.iter_mut().find(|(of, _)| *of == table) else {
            return false;
        };
        if *left > 0 {
            *left -= 1;
            return true;
        }
        if !next.iter().any(|(of, _)| *of == table) {
            next.push((table, place));
        }
        false
    });
    // The walk has not come to the end.
    for (table, _) in left {
        if let Some(end) = end
            && !next.iter().any(|(of, _)| *of == table)
        {
            next.push((table, end));
        }
    }
    (rows, next)
}
