//! Runs a case.

use std::collections::VecDeque;
use std::fs::File;
use std::io::BufWriter;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipos_core::{Instant, Origin, Port};
use ipos_sim::addresses::ServerAddresses;
use ipos_sim::campaign::{left_behind, misfits};
use ipos_sim::{Capture, Farm, FarmBuilder, Impairments, Job, NodeId, Watch};

use crate::judge::{Judge, Verdict};
use crate::party::{ClientEnd, Report, ServerEnds, Shared, look};
use crate::plan::Plan;

/// Frames and deadlines of one case: more are a storm.
const STEPS: u64 = 20_000_000;
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
    if captures.is_some() {
        println!("{:#?}", case.client);
        println!("{:#?}", case.servers.bound());
        println!("{:#?}", case.watch);
        for device in (0..plan.servers).filter_map(|server| case.farm.device(server)) {
            println!("{:#?}", device.counters());
        }
    }
    case.judge()
}

struct Case<'a> {
    plan: &'a Plan,
    farm: Farm,
    client: Shared,
    servers: ServerEnds,
    watch: Arc<Mutex<Watch>>,
    /// What will happen to the LANs, and when.
    turns: VecDeque<(Instant, Turn)>,
    /// When both ends were done.
    done: Instant,
    steps: u64,
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
        let watch = Arc::new(Mutex::new(Watch::new(Port::A.into())));
        let mut builder = builder(plan, &servers).observer(watch.clone());
        for (port, name) in [(Port::A, "lan-a"), (Port::B, "lan-b")] {
            if let Some(folder) = captures {
                let path = folder.join(format!("endpoint-{}-{name}.pcap", plan.case));
                let file =
                    BufWriter::new(File::create(&path).expect("the test's folder takes files"));
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
            turns: turns(plan),
            done: Instant::ZERO,
            steps: 0,
            violations: Vec::new(),
        }
    }

    /// Until both ends are done.
    fn converse(&mut self) {
        while let Some((at, _)) = self.turns.front() {
            let at = *at;
            if self.run_until(at) {
                return;
            }
            self.take_turn();
        }
        let keep_alive = self.plan.keep_alive();
        let limit = keep_alive.idle + u32::from(keep_alive.probes) * keep_alive.interval;
        // The server's last word may have come long before it begins to ask.
        if !self.run_until(Instant::ZERO + 3 * limit) && self.steps < STEPS {
            self.violations
                .push("an end does not see that the connection is over".into());
        }
    }

    /// The next thing happens to the LANs.
    fn take_turn(&mut self) {
        let client = NodeId(self.plan.servers);
        let Some((_, turn)) = self.turns.pop_front() else {
            return;
        };
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
                if let Some(lan) = self.farm.lan_mut(port) {
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
                self.violations
                    .push("the frames do not come to an end".into());
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
        let sessions = |server| {
            self.farm
                .server(server)
                .map_or(0, |server| server.sessions().len())
        };
        self.done = self.farm.now();
        (0..self.plan.servers).all(|server| sessions(server) == 0)
    }

    /// Until nothing of the connection may be left: TIME-WAIT, tombstones and idle records have run out.
    fn settle(&mut self) {
        if self.steps >= STEPS {
            return;
        }
        while let Some((at, _)) = self.turns.front() {
            self.farm.run_until(*at);
            self.take_turn();
        }
        let syn_acks = u32::from(self.plan.tcp.syn_retries + 1) * self.plan.tcp.max_rto;
        self.farm
            .run_for(3 * self.plan.keep_alive().idle + syn_acks);
        self.violations.extend(left_behind(&self.farm));
        self.violations.extend(misfits(&self.farm));
        for server in 0..self.plan.servers {
            let Some(device) = self.farm.device(server) else {
                continue;
            };
            if device.counters().outbox_dropped > 0 {
                self.violations
                    .push(format!("s{}: an outbox was full", server + 1));
            }
        }
        let sockets = self.farm.client(0).map_or(0, |client| client.sockets());
        if sockets > 0 {
            self.violations
                .push("the client's socket is still there".into());
        }
    }

    fn judge(mut self) -> Result<Outcome, Vec<String>> {
        for violation in self.farm.violations() {
            self.violations.push(format!("{violation:?}"));
        }
        let watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        // There is one connection.
        let talk = watch.conversations().next().map(|(_, talk)| talk);
        let seen = talk.map_or(&[][..], |talk| talk.violations());
        self.violations.extend(seen.iter().cloned());
        let client = look(&self.client);
        let bound = self.servers.bound();
        let ends: Vec<Report> = bound.iter().map(|bound| look(&bound.report)).collect();
        let (verdict, server) = Judge {
            plan: self.plan,
            talk,
            client: &client,
            violations: &mut self.violations,
        }
        .judge(&ends);
        if self.violations.is_empty() {
            Ok(Outcome {
                verdict,
                migrated: server.is_some_and(|at| bound[at].origin != Origin::Local),
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

fn turns(plan: &Plan) -> VecDeque<(Instant, Turn)> {
    let mut turns = vec![(plan.calm, Turn::Calm)];
    if let Some((begin, time)) = plan.unplugged {
        turns.push((begin, Turn::Unplug));
        turns.extend(time.map(|time| (begin + time, Turn::Plug(Port::A))));
    }
    if let Some((begin, time)) = plan.parted {
        turns.push((begin, Turn::Part));
        turns.push((begin + time, Turn::Plug(Port::B)));
    }
    turns.sort_by_key(|(at, _)| *at);
    let moment = |(at, turn)| (Instant::ZERO + at, turn);
    turns.into_iter().map(moment).collect()
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
