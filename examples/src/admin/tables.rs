//! A snapshot as JSON.

use std::time::Duration;

use ipos_core::{EarlyRow, FLOW_TABLES, FlowRow, NeighbourRow, Port, Process, ServerState};
use ipos_engine::DrainStatus;
use ipos_proto::Protocol;
use serde_json::{Value, json};

use super::snapshot::{Listening, MapRow, Session, Snapshot};

/// The tables' names.
pub(super) const NAMES: [&str; 16] = [
    FLOW_TABLES[0],
    FLOW_TABLES[1],
    FLOW_TABLES[2],
    FLOW_TABLES[3],
    FLOW_TABLES[4],
    "time-wait",
    "listening-sockets",
    "server-state",
    "application-information",
    "neighbours",
    "cookie-map",
    "early-packets",
    "datagrams",
    "outbox",
    "url-map",
    "ssl-map",
];

/// All tables, with what they count.
pub(super) fn tables(snapshot: &Snapshot) -> Value {
    let tables = snapshot.tables.iter();
    let tables: Vec<_> = tables
        .map(|size| table(snapshot, size.name, size.len, size.bound))
        .collect();
    let counters = snapshot.counters.iter();
    let counters: serde_json::Map<_, _> = counters
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect();
    json!({
        "server": snapshot.name,
        "uptime_ms": snapshot.now.as_millis(),
        "drain": drain(snapshot.drain),
        "connections": snapshot.connections,
        "tables": tables,
        "counters": counters,
    })
}

fn table(snapshot: &Snapshot, name: &'static str, len: usize, bound: usize) -> Value {
    let mut table = json!({
        "name": name,
        "size": len,
        "bound": bound,
        "rows": rows(snapshot, name),
    });
    let next = snapshot.next.iter().find(|(of, _)| *of == name);
    if let Some((_, next)) = next {
        table["next"] = (*next).into();
    }
    table
}

fn rows(snapshot: &Snapshot, table: &str) -> Vec<Value> {
    let Snapshot {
        processes,
        neighbours,
        sessions,
        early,
        ..
    } = snapshot;
    match table {
        "listening-sockets" => snapshot.listening.iter().map(listening).collect(),
        "server-state" => snapshot.servers.iter().map(server).collect(),
        "application-information" => processes.iter().map(process).collect(),
        "neighbours" => neighbours.iter().map(neighbour).collect(),
        "cookie-map" => sessions.iter().map(session).collect(),
        "early-packets" => early.iter().map(early_packet).collect(),
        "outbox" => {
            let ports = snapshot.ports.iter();
            ports
                .map(|(port, _, frames)| json!({ "port": port_name(*port), "frames": frames }))
                .collect()
        }
        "url-map" => snapshot.url_map.iter().map(url_row).collect(),
        "ssl-map" => snapshot.ssl_map.iter().map(ssl_row).collect(),
        _ => {
            let flows = snapshot.flows.iter().filter(|row| row.table == table);
            flows.map(flow).collect()
        }
    }
}

/// A port in labels and reports.
pub(super) fn port_name(port: Port) -> &'static str {
    match port {
        Port::A => "a",
        Port::B => "b",
        Port::Synch => "synch",
        Port::C => "c",
    }
}

/// A protocol in labels and reports.
pub(super) fn protocol_name(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Tcp => "tcp",
        Protocol::Udp => "udp",
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn flow(row: &FlowRow) -> Value {
    let FlowRow {
        table: _,
        flow,
        state,
        server,
        name,
        listener,
        epoch,
    } = row;
    json!({
        "flow": flow.to_string(),
        "state": state,
        "server": name,
        "port_b": server,
        "listen": listener.map(|listener| listener.0),
        "epoch": epoch.raw(),
    })
}

fn listening(row: &Listening) -> Value {
    let Listening {
        listen,
        app,
        answers,
    } = row;
    json!({
        "address": listen.address,
        "protocol": protocol_name(listen.protocol),
        "service": listen.service,
        "app": app,
        "answers": answers,
    })
}

fn server(row: &ServerState) -> Value {
    let ServerState {
        name,
        synch,
        port_b,
        connections,
        load,
        alive,
        draining,
        is_self,
        silent_for,
        selected,
        expected,
    } = row;
    json!({
        "name": name,
        "synch": synch,
        "port_b": port_b,
        "self": is_self,
        "alive": alive,
        "draining": draining,
        "connections": connections,
        "cpu": load.cpu,
        "free_memory": load.free_memory,
        "free_bandwidth": load.free_bandwidth,
        "silent_ms": millis(*silent_for),
        "selected": selected,
        "expected": expected,
    })
}

fn process(row: &Process) -> Value {
    let Process {
        pid,
        name,
        port,
        memory,
        cpu,
    } = row;
    json!({ "pid": pid, "name": name, "port": port, "memory": memory, "cpu": cpu })
}

fn neighbour(row: &NeighbourRow) -> Value {
    let NeighbourRow {
        port,
        address,
        hardware,
    } = row;
    json!({
        "port": port_name(*port),
        "address": address,
        "hardware": hardware.map(|hardware| hardware.to_string()),
    })
}

fn session(row: &Session) -> Value {
    let Session { id, server, left } = row;
    // Ids of sessions are text, those of TLS sessions begin with text.
    let id = id.escape_ascii().to_string();
    json!({ "session": id, "server": server, "left_ms": millis(*left) })
}

fn early_packet(row: &EarlyRow) -> Value {
    let EarlyRow { flow, from, len } = row;
    json!({ "flow": flow.to_string(), "from": from.to_string(), "bytes": len })
}

fn url_row(row: &MapRow) -> Value {
    let [host, path] = &row.key;
    json!({ "host": host, "path": path, "servers": row.servers })
}

fn ssl_row(row: &MapRow) -> Value {
    let [sni, _] = &row.key;
    json!({ "sni": sni, "servers": row.servers })
}

/// Whether the device is well.
pub(super) fn health(snapshot: &Snapshot) -> Value {
    let answering = snapshot.listening.iter().all(|row| row.answers);
    let status = match (snapshot.draining, answering) {
        (true, _) => "draining",
        (false, true) => "ok",
        (false, false) => "application does not answer",
    };
    let alive = snapshot.servers.iter().filter(|server| server.alive);
    json!({
        "status": status,
        "server": snapshot.name,
        "servers_alive": alive.count(),
        "connections": snapshot.connections,
        "applications": snapshot.listening.iter().map(listening).collect::<Vec<_>>(),
    })
}

/// How far a drain has come.
pub(super) fn drain(status: Option<DrainStatus>) -> Value {
    let Some(status) = status else {
        return json!({ "draining": false });
    };
    let DrainStatus {
        elapsed,
        began_with,
        moved,
        left,
        forwarded,
        deadline,
    } = status;
    json!({
        "draining": true,
        "drained": left == 0,
        "elapsed_ms": millis(elapsed),
        "began_with": began_with,
        "moved": moved,
        "left": left,
        "forwarded": forwarded,
        "deadline_ms": deadline.map(millis),
    })
}
