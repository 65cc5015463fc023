use std::convert::Infallible;
use std::io;
use std::os::fd::BorrowedFd;
use std::path::Path;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use http_body_util::{BodyExt, Full};
use hyper::body::Bytes;
use hyper::{Request, StatusCode};
use ipos_backend::{Backend, Capabilities, Frame, Statistics};
use ipos_core::{Device, DropReason};
use ipos_engine::{Control, Engine, Options, Ports, Stop, clock};
use prometheus_parse::{Scrape, Value as Sample};
use serde_json::Value;

use super::answer::answer;
use super::snapshot::ROWS_MAX;
use super::tables::NAMES;
use crate::config::{FileConfig, Interfaces, Start};

const FILE: &str = r#"
name = "s1"
[port_a]
interface = "a0"
addresses = ["10.77.0.11"]
prefix = 24
[port_b]
interface = "b0"
address = "10.88.0.11"
[synch]
interface = "c0"
address = "10.99.0.11"
[[listen]]
address = "10.77.0.11:80"
app = "127.0.0.1:1"
[[url_map]]
host = "a.example"
servers = ["s2"]
[[url_map]]
host = "b.example"
servers = ["s3"]
"#;

/// A port that nobody is behind.
struct Nobody(Vec<u8>);

impl Backend for Nobody {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            hardware_address: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            burst: 1,
        }
    }

    fn receive(&mut self, _: usize, _: &mut dyn FnMut(&mut dyn Frame)) -> io::Result<usize> {
        Ok(0)
    }

    fn buffer(&mut self) -> Option<&mut [u8]> {
        Some(&mut self.0)
    }

    fn commit(&mut self, _: usize) {}

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }

    fn wait(&mut self, _: Option<Duration>) -> io::Result<()> {
        Ok(())
    }

    fn readiness(&self) -> Option<BorrowedFd<'_>> {
        None
    }

    fn statistics(&self) -> Statistics {
        Statistics::default()
    }
}

/// A device that runs.
struct Running {
    control: Control,
    stop: Stop,
    thread: Option<JoinHandle<()>>,
}

impl Running {
    fn start() -> Running {
        let (started, start) = channel();
        let run = move || {
            let port = || Box::new(Nobody(vec![0; 1600]));
            let ports = Ports {
                a: port(),
                b: port(),
                synch: port(),
                c: None,
            };
            let interfaces = Interfaces {
                a: ports.a.capabilities(),
                b: ports.b.capabilities(),
                synch: ports.synch.capabilities(),
                c: None,
            };
            let file = FileConfig::parse(Path::new("inic.toml"), FILE).unwrap();
            let config = file.device(interfaces, Start::default()).unwrap();
            let device = Device::new(config, clock::now()).unwrap();
            let applications = file.applications();
            let mut engine = Engine::new(device, ports, applications, Options::default()).unwrap();
            let handles = (engine.control(), engine.stop_handle());
            started.send(handles).unwrap();
            engine.run().unwrap();
        };
        let thread = Some(thread::spawn(run));
        let (control, stop) = start.recv().unwrap();
        Running {
            control,
            stop,
            thread,
        }
    }

    fn end(&mut self) {
        self.stop.stop();
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }

    /// A request with these header fields and this body; status and body of its answer.
    fn say(
        &self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> (StatusCode, String) {
        let mut request = Request::builder().method(method).uri(target);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let body = Full::<Bytes>::new(body.into()).map_err(|never: Infallible| never);
        let request = request.body(body).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async {
            let answer = answer(&self.control, true, request).await;
            let status = answer.status();
            let body = answer.into_body().collect().await.unwrap().to_bytes();
            (status, String::from_utf8(body.to_vec()).unwrap())
        })
    }

    fn get(&self, target: &str) -> String {
        let (status, body) = self.say("GET", target, &[], "");
        assert_eq!(status, StatusCode::OK, "{target}: {body}");
        body
    }

    fn json(&self, target: &str) -> Value {
        serde_json::from_str(&self.get(target)).unwrap()
    }

    fn post(&self, target: &str, body: &str) -> (StatusCode, Value) {
        let (status, body) = self.say("POST", target, &[], body.to_owned());
        (status, serde_json::from_str(&body).unwrap())
    }

    /// A request that is refused: the reason.
    fn refused(&self, method: &str, target: &str, body: &str, expected: u16) -> String {
        let (status, body) = self.say(method, target, &[], body.to_owned());
        assert_eq!(status, expected, "{method} {target}: {body}");
        let told: Value = serde_json::from_str(&body).unwrap();
        told["error"].as_str().unwrap().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.end();
    }
}

#[test]
fn metrics_are_prometheus_text() {
    let running = Running::start();
    let text = running.get("/metrics");
    let lines = text.lines().map(|line| Ok(line.to_owned()));
    let scrape = Scrape::parse(lines).unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#')).count();
    let with = |name: &str, label: &str, value: &str| {
        let mut samples = scrape.samples.iter();
        let found =
            samples.find(|sample| sample.metric == name && sample.labels.get(label) == Some(value));
        found.unwrap_or_else(|| panic!("{name} {label}={value}: {text}"))
    };
    for reason in DropReason::ALL {
        let sample = with("ipos_dropped_frames_total", "reason", reason.name());
        assert!(matches!(sample.value, Sample::Counter(_)), "{sample:?}");
    }
    for name in NAMES {
        with("ipos_table_records", "table", name);
        let bound = with("ipos_table_bound", "table", name);
        assert!(matches!(bound.value, Sample::Gauge(bound) if bound > 0.0 || name == "ssl-map"));
    }
    for name in ["ipos_handover_seconds", "ipos_decision_seconds"] {
        let mut samples = scrape.samples.iter();
        let histogram = samples.find(|sample| sample.metric == name).unwrap();
        let Sample::Histogram(buckets) = &histogram.value else {
            panic!("{histogram:?}");
        };
        assert!(buckets.last().unwrap().less_than.is_infinite());
    }
    // Each is told what it is, and each sample is of its own.
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        let family = ["_bucket", "_sum", "_count"]
            .iter()
            .find_map(|suffix| name.strip_suffix(suffix))
            .unwrap_or(name);
        for what in ["HELP", "TYPE"] {
            let begin = format!("# {what} {family} ");
            let described = text.lines().filter(|line| line.starts_with(&begin));
            assert_eq!(described.count(), 1, "{begin}");
        }
    }
    let mut names: Vec<_> = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(name, _)| name)
        .collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), samples);
}

/// A counter without a text would be left out.
#[test]
fn every_counter_is_told() {
    let running = Running::start();
    let text = running.get("/metrics");
    let told = running.json("/tables");
    for name in told["counters"].as_object().unwrap().keys() {
        let reason = DropReason::ALL.iter().any(|reason| reason.name() == name);
        let sample = match reason {
            true => format!("ipos_dropped_frames_total{{reason=\"{name}\"}} "),
            false => format!("ipos_{}_total ", name.replace('-', "_")),
        };
        assert!(text.contains(&format!("\n{sample}")), "{sample}");
    }
}

#[test]
fn tables_say_how_full_they_are() {
    let running = Running::start();
    let told = running.json("/tables");
    assert_eq!(told["server"], "s1");
    let tables = told["tables"].as_array().unwrap();
    let names: Vec<_> = tables.iter().map(|table| table["name"].as_str()).collect();
    assert_eq!(names, NAMES.map(Some));
    for table in tables {
        let (size, bound) = (&table["size"], &table["bound"]);
        assert!(size.as_u64() <= bound.as_u64(), "{table}");
        assert!(table["rows"].is_array());
    }
    let table = |name| &tables[NAMES.iter().position(|known| *known == name).unwrap()];
    let listening = &table("listening-sockets")["rows"][0];
    assert_eq!(listening["address"], "10.77.0.11:80");
    assert_eq!(listening["app"], "127.0.0.1:1");
    assert_eq!(table("server-state")["rows"][0]["self"], true);
    assert_eq!(table("url-map")["rows"][0]["servers"][0], "s2");
    let others = running.json("/tables?table=forward");
    let at = NAMES.iter().position(|name| *name == "url-map").unwrap();
    assert_eq!(others["tables"][at]["rows"], Value::Array(vec![]));
    for (target, named) in [
        ("/tables?rows=1001", "rows: "),
        ("/tables?rows=-1", "rows: "),
        ("/tables?from=x", "from: "),
        ("/tables?table=forwards", "table: "),
        ("/tables?row=1", "row: "),
        ("/metrics?rows=1", "/metrics"),
    ] {
        let error = running.refused("GET", target, "", 400);
        assert!(error.starts_with(named), "{target}: {error}");
    }
    running.get(&format!("/tables?rows={ROWS_MAX}&from=5&table=forward"));
    let mut from = Value::from(0);
    for (server, next) in [("s2", Value::from(1)), ("s3", Value::Null)] {
        let page = running.json(&format!("/tables?table=url-map&rows=1&from={from}"));
        let page = &page["tables"][at];
        assert_eq!(page["rows"][0]["servers"][0], server);
        from = page["next"].clone();
        assert_eq!(from, next);
    }
}

#[test]
fn draining_begins_and_ends() {
    let running = Running::start();
    let health = running.json("/healthz");
    assert_eq!(
        (&health["status"], &health["server"]),
        (&"ok".into(), &"s1".into())
    );
    assert_eq!(running.json("/drain")["draining"], false);
    let (status, told) = running.post("/drain", "");
    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        (&told["draining"], &told["drained"]),
        (&true.into(), &true.into())
    );
    assert_eq!(told["deadline_ms"], Value::Null);
    let (_, told) = running.post("/drain", r#"{"deadline_s": 60}"#);
    assert!(told["deadline_ms"].as_u64().unwrap() <= 60_000);
    assert_eq!(running.json("/healthz")["status"], "draining");
    assert_eq!(running.json("/drain")["draining"], true);
    let (_, told) = running.post("/undrain", "");
    assert_eq!(told["draining"], false);
    assert_eq!(running.json("/healthz")["status"], "ok");
}

#[test]
fn what_is_not_understood_is_refused_and_changes_nothing() {
    let running = Running::start();
    let flow = r#""flow": "tcp 192.0.2.1:40000 > 10.77.0.11:80""#;
    let to = r#""to": "s2""#;
    for (target, body, expected, named) in [
        ("/migrate", "", 400, "EOF"),
        ("/migrate", "flow", 400, "expected"),
        (
            "/migrate",
            &format!("{{{flow}}}"),
            400,
            "missing field `to`",
        ),
        (
            "/migrate",
            &format!("{{{to}}}"),
            400,
            "missing field `flow`",
        ),
        (
            "/migrate",
            &format!("{{{flow}, {to}, \"at\": 1}}"),
            400,
            "unknown field",
        ),
        (
            "/migrate",
            r#"{"flow": "10.77.0.11:80", "to": "s2"}"#,
            400,
            "flow: ",
        ),
        ("/migrate", &format!("{{{flow}, {to}}}"), 404, "flow: "),
        ("/drain", "now", 400, "expected"),
        ("/drain", r#"{"deadline_s": -1}"#, 400, "invalid value"),
        ("/drain", r#"{"deadline_s": 604801}"#, 400, "deadline_s: "),
        ("/drain", r#"{"dead": 1}"#, 400, "unknown field"),
        ("/drain", &"x".repeat(5000), 413, "a body"),
        ("/nothing", "", 404, "there is no /nothing"),
        ("/tables", "", 405, "/tables takes GET"),
    ] {
        let error = running.refused("POST", target, body, expected);
        assert!(error.starts_with(named), "{target} {body}: {error}");
    }
    for (method, target) in [
        ("GET", "/migrate"),
        ("GET", "/undrain"),
        ("DELETE", "/drain"),
    ] {
        running.refused(method, target, "", 405);
    }
    let udp = r#"{"flow": "udp 192.0.2.1:40000 > 10.77.0.11:80", "to": "s2"}"#;
    running.refused("POST", "/migrate", udp, 409);
    // Another page's script, in a browser of somebody who may reach this address.
    let fields = [("Origin", "http://evil.example")];
    let (status, _) = running.say("POST", "/drain", &fields, "");
    assert_eq!(status, StatusCode::FORBIDDEN);
    assert_eq!(running.json("/drain")["draining"], false);
}

/// A page of elsewhere whose name leads to this host is told nothing.
#[test]
fn this_hosts_address_has_no_other_names() {
    let running = Running::start();
    let names = [
        "127.0.0.1:9180",
        "localhost",
        "LocalHost:9180",
        "[::1]:9180",
    ];
    let others = [
        "evil.example",
        "evil.example:9180",
        "127.0.0.1.evil.example",
        "",
        "[",
        "localhost.",
    ];
    for (hosts, expected) in [
        (&names[..], StatusCode::OK),
        (&others[..], StatusCode::FORBIDDEN),
    ] {
        for host in hosts {
            let (status, body) = running.say("GET", "/tables", &[("Host", host)], "");
            assert_eq!(status, expected, "{host}: {body}");
        }
    }
}

#[test]
fn a_device_that_has_ended_says_so() {
    let mut running = Running::start();
    running.end();
    for target in ["/healthz", "/metrics", "/tables"] {
        let error = running.refused("GET", target, "", 503);
        assert_eq!(error, "the device has ended");
    }
}
