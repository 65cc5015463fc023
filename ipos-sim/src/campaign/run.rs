//! Runs a farm of a campaign.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ipos_core::{Device, EndpointId, Flow, Instant, Port, TableSize};

use super::build::{asker, builder};
use super::counts::Counts;
use super::judge::{self, Facts, Outage, Parted};
use super::plan::{Act, Machine, Mover, PORTS, Plan};
use crate::addresses::ServerAddresses;
use crate::asker::Asker;
use crate::builder::{FarmBuilder, FarmError};
use crate::farm::Farm;
use crate::network::NodeId;
use crate::ports::TWO_MSL;
use crate::watch::Watch;

/// Frames and deadlines of one farm: more are a storm.
const STEPS: u64 = 3_000_000;
/// Different broken rules that are told of one farm; further ones are counted.
const TOLD: usize = 16;
/// Bytes of a segment without data, with its IP header, at the most.
const BARE: usize = 100;
/// The tables are looked at so often while they empty.
const LOOK: Duration = Duration::from_millis(500);

/// What came of a farm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// What happened.
    pub counts: Counts,
    /// Rules that were broken.
    pub broken: Vec<String>,
    /// How often one was, those that are not told or told already included.
    pub breaches: u64,
    /// Frames and deadlines.
    pub steps: u64,
    /// How long it took, in the farm's time.
    pub took: Duration,
}

impl Report {
    pub(super) fn new() -> Report {
        Report {
            counts: Counts {
                farms: 1,
                ..Counts::default()
            },
            broken: Vec::new(),
            breaches: 0,
            steps: 0,
            took: Duration::ZERO,
        }
    }

    /// Notes a broken rule.
    pub(super) fn breach(&mut self, what: impl Into<String>) {
        self.breaches += 1;
        let what = what.into();
        if self.broken.len() < TOLD && !self.broken.contains(&what) {
            self.broken.push(what);
        }
    }
}

/// Runs the farm of a plan; `prepare` may add observers to it.
///
/// # Errors
/// A server refuses the plan's configuration.
pub fn run(
    plan: &Plan,
    prepare: impl FnOnce(FarmBuilder) -> FarmBuilder,
) -> Result<Report, FarmError> {
    let watch = Arc::new(Mutex::new(Watch::new(Port::A.into())));
    let mut farm = prepare(builder(plan).observer(watch.clone())).build()?;
    let askers = plan.askers.iter().enumerate().map(|(index, planned)| {
        let asker = Arc::new(Mutex::new(asker(plan, index, planned)));
        farm.add_guest(asker.clone(), &[Port::A]);
        asker
    });
    let mut run = Run {
        plan,
        askers: askers.collect(),
        facts: Facts::new(plan.servers),
        nodes: (0..plan.servers)
            .filter_map(|server| farm.server_node(server))
            .collect(),
        farm,
        report: Report::new(),
    };
    run.work()?;
    run.settle();
    let Run {
        farm,
        askers,
        facts,
        mut report,
        ..
    } = run;
    let watch = watch.lock().unwrap_or_else(PoisonError::into_inner);
    judge::judge(plan, &farm, &watch, &facts, &mut report);
    for asker in &askers {
        let asker = asker.lock().unwrap_or_else(PoisonError::into_inner);
        judge::judge_datagrams(plan, &asker, &facts, &mut report);
    }
    judge::judge_segments(&watch, &mut report);
    report.took = farm.now().saturating_since(Instant::ZERO);
    Ok(report)
}

struct Run<'a> {
    plan: &'a Plan,
    farm: Farm,
    /// The servers' nodes.
    nodes: Vec<NodeId>,
    askers: Vec<Arc<Mutex<Asker>>>,
    facts: Facts,
    report: Report,
}

impl Run<'_> {
    /// Everything that is planned, until the clients are done.
    fn work(&mut self) -> Result<(), FarmError> {
        for (at, act) in &self.plan.acts {
            self.advance(Instant::ZERO + *at);
            self.act(*act)?;
        }
        self.calm();
        // Each job has a deadline, and so many come one after the other at the most.
        let jobs = self.plan.clients.iter().map(|client| {
            // A port is free at last when the client has given up sending its FIN.
            let closing = client
                .reuse
                .map_or(Duration::ZERO, |reuse| reuse.rest + TWO_MSL);
            (self.plan.patience + closing) * (1 + client.talks.len() as u32)
        });
        let limit = self.farm.now() + jobs.max().unwrap_or_default();
        while self.is_busy() && self.step(limit) {}
        if self.is_busy() {
            self.report.breach("clients are not done");
        }
        Ok(())
    }

    fn is_busy(&self) -> bool {
        let asks = |asker: &Arc<Mutex<Asker>>| {
            let asker = asker.lock().unwrap_or_else(PoisonError::into_inner);
            !asker.is_done()
        };
        self.farm.is_busy() || self.askers.iter().any(asks)
    }

    /// Until every table is empty, or should be.
    fn settle(&mut self) {
        let limit = self.farm.now() + self.longest();
        while self.farm.now() < limit && !judge::is_over(&self.farm) {
            self.advance(self.farm.now() + LOOK);
        }
    }

    /// How long something of an ended connection can stay on a server.
    fn longest(&self) -> Duration {
        let Plan { limits, tcp, .. } = self.plan;
        let probing = tcp.keep_alive.map_or(Duration::ZERO, |keep_alive| {
            keep_alive.idle + keep_alive.interval * u32::from(keep_alive.probes + 1)
        });
        let retransmitting = tcp.max_rto * u32::from(tcp.retries + 2);
        let closing = tcp.time_wait + tcp.fin_wait_2 + limits.request_deadline;
        // A client that has lost its FIN (smoltcp does not always repeat it) gives up, which the owner sees; then the
        // owner's end, the forward record, and what is left behind.
        TWO_MSL
            + probing
            + retransmitting
            + closing
            + limits.install_deadline
            + limits.forward_idle
            + limits.udp_idle
            + limits.tombstone
            + Duration::from_secs(5)
    }

    /// Runs to `moment`.
    fn advance(&mut self, moment: Instant) {
        while self.step(moment) {}
    }

    /// Does the next thing, and checks the tables of the server that it happened to.
    fn step(&mut self, limit: Instant) -> bool {
        if self.report.steps >= STEPS {
            return false;
        }
        let Some(node) = self.farm.step_node(limit) else {
            return false;
        };
        self.report.steps += 1;
        if self.report.steps == STEPS {
            self.report.breach("a storm: too many frames and deadlines");
        }
        if let Some(server) = self.nodes.iter().position(|known| *known == node)
            && let Some(device) = self.farm.device(server)
        {
            let limits = &self.plan.limits;
            let tables = device.tables();
            let kept = TableSize {
                name: "kept",
                len: device.kept(),
                // Where nothing was kept a bare segment stands for it.
                bound: limits.kept + BARE * tables.iter().map(|table| table.len).sum::<usize>(),
            };
            for TableSize { name, len, bound } in tables.into_iter().chain([kept]) {
                if len > bound {
                    let what = format!("s{}: {len} of {bound} in table {name}", server + 1);
                    self.report.breach(what);
                }
            }
            let full = device.connections() as usize >= limits.endpoints;
            self.facts.note_full(self.farm.now(), server, full);
        }
        true
    }

    fn act(&mut self, act: Act) -> Result<(), FarmError> {
        let counts = &mut self.report.counts;
        match act {
            Act::Impair(port, impairments) => {
                if let Some(lan) = self.farm.lan_mut(port) {
                    lan.set_impairments(impairments);
                }
            }
            Act::Part(port, one, other) => {
                counts.partitions += 1;
                self.part(port, one, other, true);
            }
            Act::Heal(port, one, other) => self.part(port, one, other, false),
            Act::Kill(server) => {
                if self.farm.server(server).is_some() {
                    counts.kills += 1;
                    self.stop(server, false);
                }
            }
            Act::Leave(server) => {
                let leave = |device: &mut Device, _| device.leave();
                if self.farm.with_device(server, leave).is_some() {
                    counts.leaves += 1;
                    self.facts.quiet.push((server, self.farm.now()));
                }
            }
            Act::Stop(server) => self.stop(server, true),
            Act::Restart(server) => {
                if self.farm.server(server).is_none() {
                    counts.restarts += 1;
                    self.farm.restart(server)?;
                    let to = self.farm.now();
                    let open =
                        |outage: &&mut Outage| outage.server == server && outage.to.is_none();
                    if let Some(outage) = self.facts.outages.iter_mut().find(open) {
                        outage.to = Some(to);
                    }
                }
            }
            Act::Drain(server, draining) => {
                let drain = |device: &mut Device, now| device.drain(now, draining);
                let done = self.farm.with_device(server, drain);
                counts.drains += u64::from(draining && done.is_some());
            }
            Act::Move { pick, to, by } => self.order(pick, to, by),
        }
        Ok(())
    }

    fn stop(&mut self, server: usize, left: bool) {
        let from = self.farm.now();
        if self.farm.server(server).is_some() {
            self.farm.kill(server);
            self.facts.note_full(from, server, false);
            self.facts.outages.push(Outage {
                server,
                from,
                to: None,
                left,
            });
        }
    }

    /// Tells one of the connections that applications have now to move.
    fn order(&mut self, pick: usize, to: Option<usize>, by: Mover) {
        let servers = (0..self.plan.servers).filter_map(|at| Some((at, self.farm.server(at)?)));
        let bound: Vec<(usize, EndpointId, Flow)> = servers
            .flat_map(|(at, server)| server.endpoints().map(move |(id, flow)| (at, id, flow)))
            .collect();
        let Some(&(owner, id, flow)) = bound.get(pick % bound.len().max(1)) else {
            return;
        };
        let first = (0..self.plan.servers)
            .find(|&at| ServerAddresses::of(at).http() == flow.endpoint)
            .unwrap_or(owner);
        let to = to.map(|to| ServerAddresses::of(to).name);
        let accepted = match (by, to) {
            (Mover::Application, to) | (Mover::AtOwner | Mover::AtFirst, to @ None) => {
                self.farm.with_device(owner, |device, now| {
                    let endpoint = device.endpoint(now, id);
                    endpoint.is_some_and(|mut endpoint| endpoint.migrate(to.as_deref()).is_ok())
                })
            }
            (Mover::AtOwner | Mover::AtFirst, Some(to)) => {
                let at = if by == Mover::AtFirst { first } else { owner };
                self.farm
                    .with_device(at, |device, now| device.migrate(now, &flow, &to).is_ok())
            }
        };
        self.report.counts.commands += u64::from(accepted == Some(true));
    }

    fn part(&mut self, port: Port, one: Machine, other: Machine, apart: bool) {
        let now = self.farm.now();
        let parted = &mut self.facts.parted;
        let same = |known: &&mut Parted| {
            let pair = known.pair.contains(&one) && known.pair.contains(&other);
            known.to.is_none() && known.port == port && pair
        };
        match (parted.iter_mut().find(same), apart) {
            (Some(known), false) => known.to = Some(now),
            (None, true) => parted.push(Parted {
                port,
                pair: [one, other],
                from: now,
                to: None,
            }),
            _ => {}
        }
        let node = |machine| match machine {
            Machine::Server(server) => self.farm.server_node(server),
            Machine::Client(client) => self.farm.client_node(client),
        };
        let (Some(one), Some(other)) = (node(one), node(other)) else {
            return;
        };
        if let Some(lan) = self.farm.lan_mut(port) {
            if apart {
                lan.partition(one, other);
            } else {
                lan.heal(one, other);
            }
        }
    }

    /// From now on nothing is impaired, and nobody apart.
    fn calm(&mut self) {
        let now = self.farm.now();
        for parted in &mut self.facts.parted {
            parted.to.get_or_insert(now);
        }
        for port in PORTS {
            if let Some(lan) = self.farm.lan_mut(port) {
                lan.set_impairments(Default::default());
                lan.heal_all();
            }
        }
    }
}
