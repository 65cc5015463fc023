//! Runs a case and judges what came of it.

use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipos_core::{Failure, Instant, Port};
use ipos_sim::addresses::{self, ServerAddresses};
use ipos_sim::{Capture, ExchangeError, Farm, FarmBuilder, Impairments, Job, NodeId};

use crate::party::{ClientEnd, End, Ending, Report, ServerEnds, Shared, look};
use crate::plan::{PERSEVERING, Plan};
use crate::watch::Watch;

/// Frames and deadlines of one case: more are a storm.
const STEPS: u64 = 20_000_000;
/// smoltcp's TIME-WAIT: a server's FIN that is sent again after it is answered with RST.
const CLIENT_TIME_WAIT: Duration = Duration::from_secs(10);

/// So long a server keeps an endpoint whose client's packets do not come.
const INSTALLED: Duration = Duration::from_millis(1_900);

/// How a case ended that broke no rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Both streams arrived whole.
    Whole,
    /// One end reset the connection or let go of it, as planned.
    AsPlanned,
    /// The connection failed, and both ends have seen it.
    Failed,
    /// The client's TCP has thrown away what its application had not read yet.
    ClientForgot,
    /// The client's TCP has stopped although it owed something.
    ClientStopped,
}

/// What came of a case.
#[derive(Clone, Copy, Debug)]
pub struct Outcome {
    /// The verdict.
    pub verdict: Verdict,
    /// The connection was handed over to another server.
    pub migrated: bool,
    /// How long it took until both ends were done.
    pub took: Duration,
    /// Frames and deadlines.
    pub steps: u64,
}

/// Runs a case; captures go to `captures`. The error says which rules were broken.
pub fn run(plan: &Plan, captures: Option<&Path>) -> Result<Outcome, Vec<String>> {
    let mut case = Case::new(plan, captures);
    case.converse();
    case.settle();
    case.judge()
}

struct Case<'a> {
    plan: &'a Plan,
    farm: Farm,
    client: Shared,
    servers: ServerEnds,
    watch: Arc<Mutex<Watch>>,
    /// When both ends were done.
    done: Instant,
    steps: u64,
    /// What the client's TCP did wrong.
    fault: Option<Verdict>,
    /// The client lost patience although it owed something, and had said so.
    unheard: bool,
    violations: Vec<String>,
}

/// What happens to the LANs.
enum Turn {
    /// No impairments any more.
    Calm,
    /// The client is cut off.
    Unplug,
    /// The first server is cut off from the others.
    Part,
    /// Nobody is cut off on this port's LAN any more.
    Plug(Port),
}

impl<'a> Case<'a> {
    fn new(plan: &'a Plan, captures: Option<&Path>) -> Case<'a> {
        let servers = ServerEnds::new(plan.case, &plan.server);
        let (end, client) = ClientEnd::new(plan.case, &plan.client);
        let address = addresses::client(0).1;
        let watch = Watch::new(Port::A.into(), address, NodeId(plan.servers));
        let watch = Arc::new(Mutex::new(watch));
        let mut builder = builder(plan, &servers).observer(watch.clone());
        for (port, name) in [(Port::A, "lan-a"), (Port::B, "lan-b")] {
            if let Some(folder) = captures {
                let path = folder.join(format!("endpoint-{}-{name}.pcap", plan.case));
                let file = BufWriter::new(File::create(&path).expect("the test's folder takes files"));
                let capture = Capture::new(port.into(), file).expect("the file takes bytes");
                builder = builder.observer(capture);
                println!("{}", path.display());
            }
        }
        let mut farm = builder.build().expect("plans hold");
        let job = Job {
            // The servers know each other by then.
            not_before: Instant::from_millis(1),
            deadline: plan.patience(),
            receive_buffer: plan.receive_buffer,
            send_buffer: plan.send_buffer,
            ..Job::new(ServerAddresses::of(0).http(), end)
        };
        farm.push(0, job);
        Case {
            plan,
            farm,
            client,
            servers,
            watch,
            done: Instant::ZERO,
            steps: 0,
            fault: None,
            unheard: false,
            violations: Vec::new(),
        }
    }

    /// Until both ends are done.
    fn converse(&mut self) {
        let mut turns: Vec<(Duration, Turn)> = vec![(self.plan.calm, Turn::Calm)];
        if let Some((begin, time)) = self.plan.unplugged {
            turns.push((begin, Turn::Unplug));
            turns.extend(time.map(|time| (begin + time, Turn::Plug(Port::A))));
        }
        if let Some((begin, time)) = self.plan.parted {
            turns.push((begin, Turn::Part));
            turns.push((begin + time, Turn::Plug(Port::B)));
        }
        turns.sort_by_key(|(at, _)| *at);
        for (at, turn) in turns {
            if self.run_until(Instant::ZERO + at) {
                return;
            }
            self.turn(&turn);
        }
        let keep_alive = self.plan.keep_alive();
        let limit = keep_alive.idle + u32::from(keep_alive.probes) * keep_alive.interval;
        // The server's last word may have come long before it begins to ask.
        if !self.run_until(Instant::ZERO + 3 * limit) && self.steps < STEPS {
            self.violations.push("an end does not see that the connection is over".into());
        }
    }

    fn turn(&mut self, turn: &Turn) {
        let client = NodeId(self.plan.servers);
        match turn {
            Turn::Calm => {
                for port in [Port::A, Port::B] {
                    if let Some(lan) = self.farm.lan_mut(port) {
                        lan.set_impairments(Impairments::default());
                    }
                }
            }
            Turn::Unplug => {
                for server in 0..self.plan.servers {
                    if let Some(lan) = self.farm.lan_mut(Port::A) {
                        lan.partition(client, NodeId(server));
                    }
                }
            }
            Turn::Part => {
                for server in 1..self.plan.servers {
                    if let Some(lan) = self.farm.lan_mut(Port::B) {
                        lan.partition(NodeId(0), NodeId(server));
                    }
                }
            }
            Turn::Plug(port) => {
                if let Some(lan) = self.farm.lan_mut(*port) {
                    lan.heal_all();
                }
            }
        }
    }

    /// Runs to `limit`, or until both ends are done; whether they are.
    fn run_until(&mut self, limit: Instant) -> bool {
        loop {
            if self.both_done() {
                return true;
            }
            if self.steps >= STEPS {
                self.violations.push("the frames do not come to an end".into());
                return true;
            }
            if !self.farm.step(limit) {
                return false;
            }
            self.steps += 1;
        }
    }

    fn both_done(&mut self) -> bool {
        let client = self.farm.client(0).is_some_and(|client| client.is_done());
        if !client {
            return false;
        }
        if self.done == Instant::ZERO {
            self.look_at_client();
        }
        let sessions = |server| self.farm.server(server).map_or(0, |server| server.sessions().len());
        self.done = self.farm.now();
        (0..self.plan.servers).all(|server| sessions(server) == 0)
    }

    /// The client is done: whose fault is it where it lost patience?
    fn look_at_client(&mut self) {
        let report = look(&self.client);
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        self.fault = match report.ended {
            Some((at, End::ClientFailed(ExchangeError::TimedOut))) => {
                let owes = watch.client_owes(report.sent, report.closed_behind.is_some());
                self.unheard = owes && !watch.client_is_silent(at);
                (owes && !self.unheard).then_some(Verdict::ClientStopped)
            }
            Some((_, End::ClientFailed(ExchangeError::Reset))) => {
                watch.client_had_everything().then_some(Verdict::ClientForgot)
            }
            _ => None,
        };
    }

    /// Until nothing of the connection may be left: TIME-WAIT, tombstones and idle records have run out.
    fn settle(&mut self) {
        if self.steps >= STEPS {
            return;
        }
        let keep_alive = self.plan.keep_alive();
        self.farm.run_for(3 * keep_alive.idle);
        for server in 0..self.plan.servers {
            let Some(device) = self.farm.device(server) else { continue };
            let flows = ["temporary", "local", "forward-connect", "forward", "tombstones", "early-packets", "outbox"];
            for table in device.tables() {
                if flows.contains(&table.name) && table.len > 0 {
                    self.violations.push(format!("s{}: {} in table {}", server + 1, table.len, table.name));
                }
            }
            if device.buffered() > 0 {
                self.violations.push(format!("s{}: {} bytes in buffers", server + 1, device.buffered()));
            }
            if device.counters().outbox_dropped > 0 {
                self.violations.push(format!("s{}: an outbox was full", server + 1));
            }
        }
        let sockets = self.farm.client(0).map_or(0, |client| client.sockets());
        if sockets > 0 {
            self.violations.push("the client's socket is still there".into());
        }
        for port in [Port::A, Port::B] {
            let seen = self.farm.lan(port).map(|lan| lan.statistics()).unwrap_or_default();
            if seen.oversized + seen.overflowed > 0 {
                self.violations.push(format!("LAN of port {port:?}: {seen:?}"));
            }
        }
    }

    fn judge(mut self) -> Result<Outcome, Vec<String>> {
        for violation in self.farm.violations() {
            self.violations.push(format!("{violation:?}"));
        }
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        self.violations.extend(watch.violations().iter().cloned());
        let client = look(&self.client);
        let mut ends: Vec<_> = self.servers.bound().iter().map(|bound| (bound.origin, look(&bound.report))).collect();
        let last = ends.pop_if(|(_, report)| !is_never_owned(report));
        if ends.iter().any(|(_, report)| !is_given_up(report)) {
            self.violations.push("more than one application had the connection".into());
        }
        ends.extend(last.clone());
        let server = last.map(|(_, report)| report);
        if let Some((at, End::ServerFailed(Failure::TimedOut))) = server.as_ref().and_then(|server| server.ended.as_ref()) {
            let owes = watch.client_owes(client.sent, client.closed_behind.is_some());
            if owes && watch.client_is_silent(*at) {
                self.fault = Some(Verdict::ClientStopped);
            }
        }
        if self.unheard && !matches!(self.plan.unplugged, Some((_, None))) {
            self.violations.push("the client speaks, and nobody answers".into());
        }
        let verdict = judge(self.plan, &client, server.as_ref(), self.fault, &mut self.violations);
        if self.violations.is_empty() {
            Ok(Outcome {
                verdict,
                migrated: ends.iter().any(|(origin, _)| *origin != ipos_core::Origin::Local),
                took: self.done.saturating_since(Instant::ZERO),
                steps: self.steps,
            })
        } else {
            self.violations.push(format!("client: {client:?}"));
            self.violations.push(format!("server: {ends:?}"));
            Err(self.violations)
        }
    }
}

fn builder(plan: &Plan, servers: &ServerEnds) -> FarmBuilder {
    let (tcp, keep_alive, patience) = (plan.tcp.clone(), plan.keep_alive(), plan.patience());
    let (request, deadline) = (plan.request, plan.request_deadline);
    let (client_tcp, client_mtu) = (plan.client_tcp.clone(), plan.client_mtu);
    let servers = servers.clone();
    Farm::builder()
        .seed(plan.case)
        .servers(plan.servers)
        .clients(1)
        .requests(0)
        .lan(Port::A, plan.lan_a)
        .lan(Port::B, plan.lan_b)
        .application(move |_| Box::new(servers.clone()))
        .configure_client(move |_, config| {
            config.tcp = client_tcp.clone();
            config.mtu = client_mtu;
        })
        .configure(move |_, config| {
            config.tcp = tcp.clone();
            config.tcp.keep_alive = Some(keep_alive);
            config.limits.request = request;
            config.limits.request_deadline = deadline;
            config.limits.forward_idle = 2 * patience;
            // The servers have nothing new to tell each other.
            config.synch.high = Duration::from_secs(300);
            config.synch.medium = Duration::from_secs(3_000);
            config.synch.low = Duration::from_secs(3_000);
            config.synch.silence = Duration::from_secs(1_000_000);
            config.synch.forget = Duration::from_secs(2_000_000);
        })
}

/// Its client never came.
fn is_never_owned(report: &Report) -> bool {
    matches!(report.ended, Some((_, End::ServerFailed(Failure::NeverOwned)))) && report.received == 0
}

/// An offer that was not answered in time leaves an application whose client never comes; it may have left before.
fn is_given_up(report: &Report) -> bool {
    let left = matches!(report.ended, Some((_, End::Aborted | End::Closed)));
    is_never_owned(report) || (left && report.received == 0)
}

/// The rules for both ends.
fn judge(plan: &Plan, client: &Report, server: Option<&Report>, fault: Option<Verdict>, violations: &mut Vec<String>) -> Verdict {
    let nobody = Report::default();
    let bound = server.is_some();
    let server = server.unwrap_or(&nobody);
    for (name, one, other) in [("client", client, server), ("server", server, client)] {
        if let Some(wrong) = &one.wrong {
            violations.push(format!("{name}: {wrong}"));
        }
        if one.received > other.sent {
            violations.push(format!("{name}: has read {} of {} bytes", one.received, other.sent));
        }
        // A FIN says that every byte has come: the other end must have closed just there.
        if one.saw_end && other.closed_behind != Some(one.received) {
            violations.push(format!("{name}: the stream ended after {} bytes", one.received));
        }
    }
    let (Some((client_at, client_end)), Some(server_end)) = (&client.ended, server.ended.as_ref().map(|(_, end)| end)) else {
        if bound || client.ended.is_none() {
            violations.push("an end is not done".into());
        }
        return unbound(plan, client, fault, violations);
    };
    if let Some(fault) = fault && !matches!(server_end, End::Aborted) {
        return fault;
    }
    let let_go = matches!(plan.server.ending, Ending::LetGo(_));
    match (client_end, server_end) {
        (End::Closed, End::Closed) if server.received == client.sent => Verdict::Whole,
        (End::Closed, End::Closed) if let_go => Verdict::AsPlanned,
        (End::Aborted, End::Closed | End::ServerFailed(_)) if client.wrong.is_none() => Verdict::AsPlanned,
        (End::Closed | End::ClientFailed(_), End::Aborted) if server.wrong.is_none() => Verdict::AsPlanned,
        // Both have planned it.
        (End::Aborted, End::Aborted) => Verdict::AsPlanned,
        (End::ClientFailed(_), End::Closed) if let_go => Verdict::AsPlanned,
        // The client had everything, and had said that it has: its TIME-WAIT ended before our FIN was known to have come.
        (End::Closed, End::ServerFailed(Failure::Reset)) if server.ended.as_ref().is_some_and(|(at, _)| *at >= *client_at + CLIENT_TIME_WAIT) => {
            Verdict::Failed
        }
        (_, _) if may_fail(plan) => Verdict::Failed,
        (client_end, server_end) => {
            violations.push(format!("the connection failed: {client_end:?}, {server_end:?}"));
            Verdict::Failed
        }
    }
}

/// No application was given the connection.
fn unbound(plan: &Plan, client: &Report, fault: Option<Verdict>, violations: &mut Vec<String>) -> Verdict {
    if let Some(fault) = fault {
        return fault;
    }
    // LAN B was out while the connection was between two servers.
    let between = plan.parted.is_some_and(|(_, time)| time >= INSTALLED);
    match &client.ended {
        Some((_, End::Aborted)) => Verdict::AsPlanned,
        Some((_, End::ClientFailed(ExchangeError::Reset))) if between => Verdict::Failed,
        _ if may_fail(plan) => Verdict::Failed,
        _ => {
            violations.push("no application was given the connection".into());
            Verdict::Failed
        }
    }
}

/// The client was cut off for good, or more was lost than so few repetitions can make up for.
fn may_fail(plan: &Plan) -> bool {
    let lossy = plan.calm > Duration::ZERO || plan.unplugged.is_some() || plan.parted.is_some();
    matches!(plan.unplugged, Some((_, None))) || (lossy && plan.tcp.retries < PERSEVERING)
}
