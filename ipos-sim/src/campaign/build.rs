//! Makes the farm of a plan.

use std::sync::Arc;
use std::time::Duration;

use ipos_core::Instant;
use ipos_core::config::{Listen, Tcp};
use ipos_proto::Protocol;

use super::dice::Dice;
use super::plan::{Ask, AskerPlan, Ending, PORTS, Plan, Talk, What};
use crate::addresses::{self, ServerAddresses};
use crate::asker::{Asker, AskerConfig, Question};
use crate::builder::FarmBuilder;
use crate::client::{Job, Workload};
use crate::farm::Farm;
use crate::lan::LanConfig;
use crate::requests::{Http, Request};

/// Streams of a seed's numbers from this one on are for bodies.
const BODIES: u64 = 1 << 48;
/// Addresses of client hosts from this one on are for those that send datagrams.
const ASKERS: usize = 100;

/// The farm of a plan, which does nothing yet.
pub(super) fn builder(plan: &Plan) -> FarmBuilder {
    let plan = Arc::new(plan.clone());
    let (of_workload, of_clients, of_servers) = (plan.clone(), plan.clone(), plan.clone());
    let mut builder = Farm::builder()
        .seed(plan.seed)
        .servers(plan.servers)
        .policy(plan.policy)
        .clients(plan.clients.len())
        .service_time(Duration::ZERO..=plan.service)
        .workload(move |index| workload(of_workload.clone(), index))
        .configure_client(move |index, config| {
            if let Some(client) = of_clients.clients.get(index) {
                config.tcp = client.tcp.clone();
                config.mtu = client.mtu;
                config.concurrency = client.concurrency;
                config.ports_per_server = client.ports_per_server;
                if let Some(reuse) = client.reuse {
                    let first = *config.ports.start();
                    config.ports = first..=first + reuse.ports.saturating_sub(1);
                    config.rest = reuse.rest;
                }
            }
        })
        .configure(move |index, config| {
            if !of_servers.askers.is_empty() {
                config.listen.push(Listen {
                    address: ServerAddresses::of(index).echo(),
                    protocol: Protocol::Udp,
                    service: "echo".into(),
                });
            }
            config.synch = config.synch.clone().with_interval(of_servers.high);
            config.balance.per_request = of_servers.per_request;
            config.farm_key = of_servers.farm_key.clone();
            config.limits = of_servers.limits.clone();
            config.tcp = Tcp {
                mss: config.tcp.mss,
                ..of_servers.tcp.clone()
            };
        });
    for (port, latency) in PORTS.into_iter().zip(plan.latency) {
        let lan = LanConfig {
            latency,
            ..LanConfig::default()
        };
        builder = builder.lan(port, lan);
    }
    builder
}

/// The host that sends the datagrams of asker `index`.
pub(super) fn asker(plan: &Plan, index: usize, asker: &AskerPlan) -> Asker {
    let (hardware, address) = addresses::client(ASKERS + index);
    let questions = asker.questions.iter();
    let questions = questions.map(|&(at, port, server, len)| Question {
        at: Instant::ZERO + at,
        port,
        server: ServerAddresses::of(server).echo(),
        len,
    });
    Asker::new(AskerConfig {
        hardware,
        address,
        seed: plan.seed,
        questions: questions.collect(),
        interval: asker.interval,
        patience: plan.patience,
    })
}

/// The jobs of client `index`.
fn workload(plan: Arc<Plan>, index: usize) -> Workload {
    let jobs = (0..).map_while(move |number| {
        let talk = plan.clients.get(index)?.talks.get(number)?;
        // Every body is another one.
        let first = Dice::new(plan.seed, BODIES + ((index as u64) << 32 | number as u64)).number();
        Some(job(talk, first, plan.patience))
    });
    Box::new(jobs)
}

/// The connection's first body is the pattern `first`, the others those that follow.
fn job(talk: &Talk, first: u64, patience: Duration) -> Job {
    let requests = talk.requests.iter().zip(0..);
    let requests = requests.map(|(ask, number)| request(ask, first.wrapping_add(number)));
    let script = Http::new(requests);
    let script = match talk.ending {
        Ending::Server => script,
        Ending::Client => script.client_closes(),
        Ending::HalfClose => script.half_close(),
    };
    Job {
        not_before: Instant::ZERO + talk.begin,
        deadline: patience,
        receive_buffer: talk.receive_buffer,
        send_buffer: talk.send_buffer,
        ..Job::new(ServerAddresses::of(talk.server).http(), script)
    }
}

fn request(ask: &Ask, body: u64) -> Request {
    let mut request = match ask.what {
        What::Name => Request::name(),
        What::Download(len) => Request::download(len, body),
        What::Upload(len) => Request::upload(len, body),
    };
    if ask.padding > 0 {
        request = request.with_field("Cookie", &"c".repeat(ask.padding));
    }
    if let Some((piece, pause)) = ask.pieces {
        request = request.in_pieces(piece, pause);
    }
    request.after(ask.pause)
}
