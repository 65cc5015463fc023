//! A snapshot as Prometheus text.

use std::fmt::Display;

use ipos_core::{DropReason, Histogram};
use prometheus::proto::{self, LabelPair, Metric, MetricFamily, MetricType};
use prometheus::{TEXT_FORMAT, TextEncoder};

use super::snapshot::Snapshot;
use super::tables::{port_name, protocol_name};

/// The text's media type.
pub(super) const TYPE: &str = TEXT_FORMAT;

/// What the device's counters count, by their names.
const COUNTERS: [(&str, &str); 15] = [
    ("frames", "Frames received."),
    ("forwarded", "Client packets forwarded as 0x02."),
    (
        "local",
        "Connections bound to an application here without migration.",
    ),
    ("migrated-out", "Connections migrated to another server."),
    ("migrated-in", "Connections migrated to this server."),
    (
        "never-owned",
        "Endpoints installed whose client's packets never came.",
    ),
    ("offers-repeated", "0x01 frames sent again."),
    ("refused", "Hand-overs refused by the other server."),
    (
        "unanswered",
        "Hand-overs that the other server did not answer.",
    ),
    (
        "unavailable",
        "Selections where the servers that are named could not be asked.",
    ),
    (
        "owners-lost",
        "Connections given up because the server that had them died.",
    ),
    ("resets", "RST segments of no endpoint."),
    ("cookies-sent", "SYNs answered with a cookie."),
    ("cookies-accepted", "Connections opened by a cookie."),
    (
        "outbox-dropped",
        "Frames dropped because an outbox was full.",
    ),
];

/// Families in the order of the text.
#[derive(Default)]
struct Families(Vec<MetricFamily>);

/// Samples of one family.
struct Family {
    family: MetricFamily,
}

impl Families {
    fn begin(&mut self, name: &str, help: &str, kind: MetricType) -> Family {
        let mut family = MetricFamily::default();
        family.set_name(format!("ipos_{name}"));
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        Family { family }
    }

    /// Ends a family. One without a sample is left out: its text could not be read.
    fn end(&mut self, family: Family) {
        if !family.family.get_metric().is_empty() {
            self.0.push(family.family);
        }
    }

    /// A family with the samples that `fill` adds.
    fn add(&mut self, name: &str, help: &str, kind: MetricType, fill: impl FnOnce(&mut Family)) {
        let mut family = self.begin(name, help, kind);
        fill(&mut family);
        self.end(family);
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) {
        self.add(name, help, MetricType::COUNTER, |f| {
            f.counter(&[], value as f64)
        });
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) {
        self.add(name, help, MetricType::GAUGE, |f| f.gauge(&[], value));
    }

    fn histogram(&mut self, name: &str, help: &str, histogram: &Histogram) {
        self.add(name, help, MetricType::HISTOGRAM, |f| {
            f.histogram(histogram)
        });
    }
}

impl Family {
    fn push(&mut self, labels: &[(&str, &dyn Display)], fill: impl FnOnce(&mut Metric)) {
        let labels = labels.iter().map(|(name, value)| {
            let mut label = LabelPair::default();
            label.set_name((*name).to_owned());
            label.set_value(value.to_string());
            label
        });
        let mut metric = Metric::from_label(labels.collect());
        fill(&mut metric);
        self.family.mut_metric().push(metric);
    }

    fn counter(&mut self, labels: &[(&str, &dyn Display)], value: f64) {
        let mut counter = proto::Counter::default();
        counter.set_value(value);
        self.push(labels, |metric| metric.set_counter(counter));
    }

    fn gauge(&mut self, labels: &[(&str, &dyn Display)], value: f64) {
        let mut gauge = proto::Gauge::default();
        gauge.set_value(value);
        self.push(labels, |metric| metric.set_gauge(gauge));
    }

    fn histogram(&mut self, histogram: &Histogram) {
        let mut sum = 0;
        let bounds = Histogram::BOUNDS.iter().zip(histogram.counts());
        let buckets = bounds.map(|(&bound, &count)| {
            sum += count;
            let mut bucket = proto::Bucket::default();
            bucket.set_upper_bound(bound as f64 / 1e6);
            bucket.set_cumulative_count(sum);
            bucket
        });
        let mut sample = proto::Histogram::default();
        sample.set_bucket(buckets.collect());
        sample.set_sample_count(histogram.len());
        sample.set_sample_sum(histogram.sum().as_secs_f64());
        self.push(&[], |metric| metric.set_histogram(sample));
    }
}

fn flag(flag: bool) -> f64 {
    f64::from(u8::from(flag))
}

/// The whole text.
///
/// # Errors
/// A name that Prometheus does not take.
pub(super) fn text(snapshot: &Snapshot) -> Result<String, prometheus::Error> {
    let mut families = Families::default();
    let version = env!("CARGO_PKG_VERSION");
    families.add("info", "The device.", MetricType::GAUGE, |f| {
        f.gauge(&[("server", &snapshot.name), ("version", &version)], 1.0);
    });
    let uptime = snapshot.now.as_micros() as f64 / 1e6;
    families.gauge("uptime_seconds", "Since the program's start.", uptime);
    device(&mut families, snapshot);
    tables(&mut families, snapshot);
    ports(&mut families, snapshot);
    applications(&mut families, snapshot);
    servers(&mut families, snapshot);
    TextEncoder::new().encode_to_string(&families.0)
}

fn device(families: &mut Families, snapshot: &Snapshot) {
    let counters = &snapshot.counters;
    for (name, value) in counters.iter() {
        if let Some((_, help)) = COUNTERS.iter().find(|(counter, _)| *counter == name) {
            let name = format!("{}_total", name.replace('-', "_"));
            families.counter(&name, help, value);
        }
    }
    families.add(
        "dropped_frames_total",
        "Frames dropped, by the reason.",
        MetricType::COUNTER,
        |f| {
            for reason in DropReason::ALL {
                let dropped = counters.dropped(*reason);
                f.counter(&[("reason", &reason.name())], dropped as f64);
            }
        },
    );
    families.histogram(
        "handover_seconds",
        "From the first 0x01 to the 0x03, of connections that moved from here to another server.",
        &counters.handover,
    );
    families.histogram(
        "decision_seconds",
        "From the first bytes of a connection's first request to the selection of its server.",
        &counters.decision,
    );
    let draining = flag(snapshot.draining);
    families.gauge("draining", "Whether this server drains.", draining);
    let connections = snapshot.connections.into();
    families.gauge(
        "connections",
        "Connections that are served here.",
        connections,
    );
    families.gauge(
        "connections_bound",
        "Connections that may be served here.",
        snapshot.endpoints as f64,
    );
    let memory = [
        (
            "kept",
            "Packets that are kept for other servers.",
            snapshot.kept,
        ),
        ("buffered", "Endpoints' buffers.", snapshot.buffered),
    ];
    for (name, help, [bytes, bound]) in memory {
        families.gauge(&format!("{name}_bytes"), help, bytes as f64);
        let help = format!("{help} The bound.");
        families.gauge(&format!("{name}_bound_bytes"), &help, bound as f64);
    }
}

fn tables(families: &mut Families, snapshot: &Snapshot) {
    let tables = &snapshot.tables;
    families.add(
        "table_records",
        "Records of a table.",
        MetricType::GAUGE,
        |f| {
            tables
                .iter()
                .for_each(|table| f.gauge(&[("table", &table.name)], table.len as f64));
        },
    );
    families.add(
        "table_bound",
        "Records that a table may hold.",
        MetricType::GAUGE,
        |f| {
            tables
                .iter()
                .for_each(|table| f.gauge(&[("table", &table.name)], table.bound as f64));
        },
    );
}

fn ports(families: &mut Families, snapshot: &Snapshot) {
    type Figure = fn(&ipos_backend::Statistics) -> u64;
    let figures: [(&str, &str, Figure); 4] = [
        ("received", "Frames that came in.", |port| port.received),
        ("transmitted", "Frames that went out.", |port| {
            port.transmitted
        }),
        ("receive_dropped", "Frames lost on receive.", |port| {
            port.receive_dropped
        }),
        (
            "transmit_failed",
            "Frames that the interface refused.",
            |port| port.transmit_failed,
        ),
    ];
    for (name, help, figure) in figures {
        let name = format!("port_{name}_frames_total");
        families.add(&name, help, MetricType::COUNTER, |f| {
            for (port, statistics, _) in &snapshot.ports {
                f.counter(&[("port", &port_name(*port))], figure(statistics) as f64);
            }
        });
    }
    let engine = &snapshot.engine;
    families.add(
        "forward_lost_total",
        "Packets for another server that were lost at its port, by the reason.",
        MetricType::COUNTER,
        |f| {
            f.counter(&[("reason", &"full")], engine.forward_full as f64);
            f.counter(&[("reason", &"oversize")], engine.forward_oversize as f64);
        },
    );
}

fn applications(families: &mut Families, snapshot: &Snapshot) {
    let engine = &snapshot.engine;
    families.counter(
        "application_refused_total",
        "Endpoints that were reset because their application could not be reached.",
        engine.refused,
    );
    families.counter(
        "datagrams_lost_total",
        "Datagrams that found no application, or were too long for their client.",
        engine.datagrams_lost,
    );
    let bridges = engine.bridges as f64;
    families.gauge(
        "bridges",
        "Endpoints that are joined to an application.",
        bridges,
    );
    families.add(
        "application_up",
        "Whether an application answers.",
        MetricType::GAUGE,
        |f| {
            for row in &snapshot.listening {
                let app = row.app.map(|app| app.to_string()).unwrap_or_default();
                let labels: [(&str, &dyn Display); 3] = [
                    ("listen", &row.listen.address),
                    ("protocol", &protocol_name(row.listen.protocol)),
                    ("app", &app),
                ];
                f.gauge(&labels, flag(row.answers));
            }
        },
    );
}

fn servers(families: &mut Families, snapshot: &Snapshot) {
    type Figure = fn(&ipos_core::ServerState) -> f64;
    let figures: [(&str, &str, MetricType, Figure); 8] = [
        ("up", "Whether a server is alive.", MetricType::GAUGE, |s| {
            flag(s.alive)
        }),
        (
            "draining",
            "Whether a server drains.",
            MetricType::GAUGE,
            |s| flag(s.draining),
        ),
        (
            "connections",
            "Connections of a server.",
            MetricType::GAUGE,
            |s| s.connections.into(),
        ),
        (
            "cpu_ratio",
            "CPU in use at a server.",
            MetricType::GAUGE,
            |s| s.load.cpu.into(),
        ),
        (
            "free_memory_bytes",
            "Free memory of a server.",
            MetricType::GAUGE,
            |s| s.load.free_memory as f64,
        ),
        (
            "free_bandwidth_bits",
            "Free bandwidth of a server, a second.",
            MetricType::GAUGE,
            |s| s.load.free_bandwidth as f64,
        ),
        (
            "selected_total",
            "Requests for which this device selected a server.",
            MetricType::COUNTER,
            |s| s.selected as f64,
        ),
        (
            "expected_total",
            "Sum of the probabilities that the policy gave to a server.",
            MetricType::COUNTER,
            |s| s.expected,
        ),
    ];
    for (name, help, kind, figure) in figures {
        families.add(&format!("server_{name}"), help, kind, |f| {
            for server in &snapshot.servers {
                // Names come from other hosts, and may be alike.
                let labels: [(&str, &dyn Display); 2] =
                    [("server", &server.name), ("synch", &server.synch)];
                match kind {
                    MetricType::COUNTER => f.counter(&labels, figure(server)),
                    _ => f.gauge(&labels, figure(server)),
                }
            }
        });
    }
}
