//! Content, sessions and policies in whole farms.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ipos_balance::{Candidate, LeastConnections, Policy, PolicyKind, SlowStart};
use ipos_content::UrlRow;
use ipos_core::config::Session as SessionConfig;
use ipos_core::{Config, Flow, Instant, ListenerId, Origin, Port};
use ipos_sim::addresses::ServerAddresses;
use ipos_sim::{
    Application, ExchangeError, Farm, FarmBuilder, Http, Impairments, Jar, Job, Log, Next, Request,
    Script, Session, Stream,
};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

const ROUGH: Impairments = Impairments {
    loss: 0.02,
    duplication: 0.02,
    reordering: 0.02,
    hold_back: Duration::from_millis(2),
    corruption: 0.0,
    delay: Duration::ZERO,
    jitter: Duration::ZERO,
};

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// `/img` is the second server's, `/cart` the third's and the fourth's; plain HTTP has sessions.
fn with_content(index: usize, config: &mut Config) {
    let row = |path: &str, servers: &[&str]| UrlRow {
        host: None,
        path: Some(path.into()),
        servers: servers.iter().map(|name| name.to_string()).collect(),
    };
    config.content.url_map = vec![row("/img", &["s2"]), row("/cart", &["s3", "s4"])];
    // Another one at each start.
    let mut key = [index as u8; 32];
    key[0] = config.incarnation as u8;
    config.content.session = Some(SessionConfig::new("IPOS", key));
}

fn farm() -> FarmBuilder {
    Farm::builder()
        .servers(4)
        .requests(0)
        .configure(with_content)
}

fn job(server: usize, script: impl Script + 'static) -> Job {
    Job {
        not_before: Instant::from_millis(1_500),
        ..Job::new(ServerAddresses::of(server).http(), script)
    }
}

/// Runs the clients, all of which get what they ask for.
#[track_caller]
fn run(farm: &mut Farm) {
    let outcome = farm.run();
    let mut records = farm.records();
    let wrong = records.find(|record| record.exchange.result.is_err());
    assert_eq!((outcome.errors, wrong), (0, None));
    assert_eq!(outcome.violations, 0, "{:?}", farm.violations());
}

/// Who answered a client, request by request.
fn answered(farm: &Farm, client: usize) -> Vec<String> {
    let records = farm.client(client).unwrap().log().records();
    let answered = records.iter().map(|record| record.exchange.result.clone());
    answered.map(|result| result.unwrap()).collect()
}

#[test]
fn maps_and_sessions_hold_across_impaired_lans() {
    let jars: Vec<Jar> = (0..9).map(|_| Jar::default()).collect();
    let mine = jars.clone();
    let mut farm = farm()
        .clients(9)
        .concurrency(1)
        .impairments(ROUGH)
        .workload(move |client| {
            let jar = mine[client].clone();
            Box::new((0..6).map(move |number| {
                let server = client + number;
                let seed = server as u64;
                let requests = [
                    Request::name(),
                    Request::download(3_000, seed).after(ms(150)),
                    Request::upload(2_000, seed).in_pieces(1_000, ms(3)),
                ];
                let script = match client % 3 {
                    0 => Http::new(requests).with_jar(jar.clone()),
                    1 => Http::new(requests.map(|r| r.below("/img").in_pieces(9, ms(1)))),
                    _ => Http::new([Request::name().below("/cart/x")]),
                };
                Job {
                    // The others have heard of the session.
                    pause: ms(50),
                    ..job(server % 4, script)
                }
            }))
        })
        .build()
        .unwrap();
    run(&mut farm);
    let mut carts = BTreeSet::new();
    for (client, jar) in jars.iter().enumerate() {
        let answered = answered(&farm, client);
        match client % 3 {
            0 => {
                assert_eq!(answered.len(), 18);
                assert!(answered.iter().all(|s| *s == answered[0]), "{answered:?}");
                assert_eq!(jar.times_set(), 1);
            }
            1 => assert!(answered.iter().all(|s| s == "s2"), "{answered:?}"),
            _ => carts.extend(answered),
        }
    }
    assert_eq!(carts, BTreeSet::from(["s3".into(), "s4".into()]));
    let ids: BTreeSet<_> = jars.iter().filter_map(|jar| jar.get("IPOS")).collect();
    assert_eq!(ids.len(), 3);
    for at in 0..4 {
        let device = farm.device(at).unwrap();
        let known = device.sessions(farm.now());
        let known: BTreeSet<_> = known.map(|(id, _, _)| id.to_vec()).collect();
        assert!(ids.iter().all(|id| known.contains(id.as_bytes())));
    }
}

/// The answer to one more request of the client with this jar.
fn visit(farm: &mut Farm, server: usize, jar: &Jar) -> String {
    let script = Http::new([Request::name()]).with_jar(jar.clone());
    farm.push(0, job(server, script));
    run(farm);
    farm.run_for(ms(50));
    answered(farm, 0).pop().unwrap()
}

fn number(name: &str) -> usize {
    name[1..].parse::<usize>().unwrap() - 1
}

#[test]
fn a_session_outlives_its_server() {
    let mut farm = farm().build().unwrap();
    let jar = Jar::default();
    let first = visit(&mut farm, 0, &jar);
    let id = jar.get("IPOS").unwrap();
    farm.kill(number(&first));
    farm.run_for(ms(1_000));
    let alive: Vec<usize> = (0..4).filter(|at| *at != number(&first)).collect();
    let second = visit(&mut farm, alive[0], &jar);
    assert_ne!(second, first);
    for &at in &alive {
        assert_eq!(visit(&mut farm, at, &jar), second, "at s{}", at + 1);
    }
    // The first one starts again, and learns who has its session.
    farm.restart(number(&first)).unwrap();
    farm.run_for(ms(3_000));
    assert_eq!(visit(&mut farm, number(&first), &jar), second);
    assert_eq!((jar.get("IPOS"), jar.times_set()), (Some(id), 1));
    // The second one has to go, too: its clients go to others, and come back to them.
    farm.with_device(number(&second), |device, now| device.drain(now, true));
    let third = visit(&mut farm, number(&second), &jar);
    assert_ne!(third, second);
    for at in 0..4 {
        assert_eq!(visit(&mut farm, at, &jar), third);
    }
}

/// Says the same to everybody, whatever is asked.
struct Fixed(Arc<Vec<u8>>);

struct Saying {
    what: Arc<Vec<u8>>,
    heard: Vec<u8>,
    said: usize,
}

impl Application for Fixed {
    fn accept(&mut self, _: Instant, _: ListenerId, _: Flow, _: Origin) -> Box<dyn Session> {
        let what = self.0.clone();
        Box::new(Saying {
            what,
            heard: vec![],
            said: 0,
        })
    }
}

impl Session for Saying {
    fn poll(&mut self, now: Instant, stream: &mut dyn Stream) -> Next {
        let bytes = stream.readable().to_vec();
        stream.consume(bytes.len());
        self.heard.extend(bytes);
        if self.heard.len() < ASKED.len() {
            return Next::Wait;
        }
        // A little at a time.
        let rest = &self.what[self.said..];
        self.said += stream.write(&rest[..rest.len().min(777)]);
        match self.said == self.what.len() {
            true => Next::Close,
            false => Next::Until(now + ms(1)),
        }
    }
}

const ASKED: &[u8] = b"GET /1 HTTP/1.1\r\n\r\nHEAD /2 HTTP/1.1\r\n\r\nGET /3 HTTP/1.1\r\n\r\n";

/// Says what it is told to, and keeps what it hears.
struct Raw {
    left: &'static [u8],
    heard: Arc<Mutex<Vec<Vec<u8>>>>,
    own: Vec<u8>,
}

impl Script for Raw {
    fn poll(&mut self, _: Instant, stream: &mut dyn Stream, _: &mut Log) -> Next {
        let taken = stream.write(self.left);
        self.left = &self.left[taken..];
        loop {
            let bytes = stream.readable().to_vec();
            if bytes.is_empty() {
                break;
            }
            stream.consume(bytes.len());
            self.own.extend(bytes);
        }
        if stream.is_finished() {
            self.heard
                .lock()
                .unwrap()
                .push(std::mem::take(&mut self.own));
            return Next::Close;
        }
        Next::Wait
    }

    fn failed(&mut self, _: Instant, error: ExchangeError, _: &mut Log) {
        panic!("{error}");
    }
}

#[test]
fn answers_without_their_cookies_are_the_applications_bytes_under_loss() {
    let line_ends = [b'\r', b'\n'].repeat(20_000);
    let said = [
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 40000\r\n\r\n",
        &line_ends[..],
        b"HTTP/1.1 200 OK\r\nSet-Cookie: a=b\r\nContent-Length: 40000\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9C40\r\n",
        &line_ends,
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    let said = Arc::new(said);
    let heard = Arc::new(Mutex::new(vec![]));
    let (fixed, own) = (said.clone(), heard.clone());
    let lossy = Impairments {
        loss: 0.05,
        ..ROUGH
    };
    let mut farm = farm()
        .clients(4)
        .impairments(lossy)
        .application(move |_| Box::new(Fixed(fixed.clone())))
        .workload(move |client| {
            let own = own.clone();
            Box::new((0..5).map(move |_| {
                let (heard, own) = (own.clone(), vec![]);
                let left = ASKED;
                job(client, Raw { left, heard, own })
            }))
        })
        .build()
        .unwrap();
    assert_eq!(farm.run().violations, 0);
    let heard = heard.lock().unwrap();
    assert_eq!(heard.len(), 20);
    let mut ids = BTreeSet::new();
    for bytes in heard.iter() {
        let text = std::str::from_utf8(bytes).unwrap();
        let mut parts = text.split("Set-Cookie: IPOS=");
        let mut rest = parts.next().unwrap().to_string();
        let mut of_connection = BTreeSet::new();
        let mut times = 0;
        for part in parts {
            let (line, behind) = part.split_once("\r\n").unwrap();
            of_connection.insert(line[..32].to_string());
            rest += behind;
            times += 1;
        }
        assert_eq!((times, of_connection.len()), (3, 1));
        assert!(rest.as_bytes() == said.as_slice(), "byte for byte");
        ids.extend(of_connection);
    }
    assert_eq!(ids.len(), 20);
}

// ---- policies ----

const INGRESS: usize = 8;
/// Connections of each server before a burst, and requests of the burst.
const BEFORE: usize = 50;
const BURST: usize = 1_600;
/// From a burst's first request to its last.
const LENGTH: Duration = ms(300);

/// The most of one server, divided by the mean of all: 1 is even.
fn spread(counts: &[u32]) -> f64 {
    let most = counts.iter().max().copied().unwrap_or_default();
    f64::from(most) * counts.len() as f64 / f64::from(counts.iter().sum::<u32>())
}

/// Eight servers that clients reach alike get a burst; connections stay.
fn burst(policy: PolicyKind, seed: u64) -> f64 {
    let begin = Instant::from_millis(4_000);
    let mut farm = Farm::builder()
        .servers(INGRESS)
        .clients(16)
        .concurrency(BEFORE * INGRESS + BURST)
        .policy(policy)
        .seed(seed)
        .service_time(Duration::from_secs(60)..=Duration::from_secs(60))
        .check_owner(false)
        .workload(move |client| {
            let before = (client..BEFORE * INGRESS).step_by(16).map(|number| {
                let at = Instant::from_millis(1_500) + ms(5) * number as u32;
                (number, at)
            });
            let burst = (client..BURST).step_by(16).map(move |number| {
                let at = begin + LENGTH * number as u32 / BURST as u32;
                // Not the same client at the same server each time.
                (number / 16 + client, at)
            });
            Box::new(before.chain(burst).map(|(number, not_before)| Job {
                not_before,
                deadline: Duration::from_secs(600),
                ..job(number % INGRESS, Http::new([Request::name()]))
            }))
        })
        .build()
        .unwrap();
    farm.run_until(begin + LENGTH + ms(150));
    let counts = (0..INGRESS).map(|at| farm.device(at).unwrap().connections());
    let counts: Vec<u32> = counts.collect();
    assert_eq!(
        counts.iter().sum::<u32>() as usize,
        BEFORE * INGRESS + BURST
    );
    spread(&counts)
}

/// The same burst where each server goes by the others' last adverts alone, and takes the one with the fewest
/// connections.
fn burst_by_adverts(seed: u64) -> f64 {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut connections = [BEFORE as u32; INGRESS];
    let mut told = connections;
    let mut adverts = 0;
    for number in 0..BURST {
        let now = LENGTH * number as u32 / BURST as u32;
        while ms(100) * adverts / INGRESS as u32 <= now {
            let teller = adverts as usize % INGRESS;
            told[teller] = connections[teller];
            adverts += 1;
        }
        let me = (rng.next_u64() % INGRESS as u64) as usize;
        let candidate = |at: usize| {
            let known = if at == me { connections[at] } else { told[at] };
            Candidate::new(at as u32, known)
        };
        let candidates: Vec<_> = (0..INGRESS).map(candidate).collect();
        let request = ipos_balance::Request { key: 0 };
        let chosen = LeastConnections.select(request, &candidates, &mut rng);
        connections[chosen.unwrap()] += 1;
    }
    spread(&connections)
}

#[test]
fn a_burst_at_eight_servers_makes_no_herd() {
    let seeds = 1..=3;
    let mean = |of: &dyn Fn(u64) -> f64| seeds.clone().map(of).sum::<f64>() / 3.0;
    let herd = mean(&burst_by_adverts);
    let counting = mean(&|seed| burst(PolicyKind::LeastConnections, seed));
    println!("least-connections by adverts alone: {herd:.2}, counting its own: {counting:.2}");
    assert!(counting < herd);
    for policy in [PolicyKind::InverseConnections, PolicyKind::TwoChoices] {
        let spread = mean(&|seed| burst(policy, seed));
        println!("{policy}: {spread:.2}");
        assert!(spread < 1.25, "{policy}: {spread}");
        assert!(
            spread - 1.0 < (herd - 1.0) / 2.0,
            "{policy}: {spread}, {herd}"
        );
    }
}

/// The part of all requests, in these times, that a server got that was away from 3 s to 5 s.
fn parts_of_a_returned_server(slow_start: SlowStart) -> [f64; 2] {
    let mut farm = Farm::builder()
        .servers(4)
        .clients(6)
        .concurrency(400)
        .policy(PolicyKind::LeastConnections)
        .service_time(ms(2_500)..=ms(3_500))
        .configure(move |_, config| config.balance.slow_start = slow_start)
        .workload(|client| {
            Box::new((0..200_u32).map(move |number| Job {
                not_before: Instant::from_millis(1_500) + ms(90) * number,
                // The one that goes away is not reached.
                ..job((client + number as usize) % 3, Http::new([Request::name()]))
            }))
        })
        .build()
        .unwrap();
    farm.run_until(Instant::from_millis(3_000));
    farm.kill(3);
    farm.run_until(Instant::from_millis(5_000));
    farm.restart(3).unwrap();
    farm.run();
    let part = |from: u64, to: u64| {
        let within =
            |at: Instant| at >= Instant::from_millis(from) && at < Instant::from_millis(to);
        let mut count = BTreeMap::<bool, f64>::new();
        for record in farm.records().filter(|r| within(r.exchange.started)) {
            let is_it = record.exchange.result.as_deref() == Ok("s4");
            *count.entry(is_it).or_default() += 1.0;
        }
        let get = |is_it| count.get(&is_it).copied().unwrap_or_default();
        get(true) / (get(true) + get(false))
    };
    [part(5_200, 5_800), part(17_000, 19_000)]
}

#[test]
fn a_server_that_comes_back_gets_its_part_slowly() {
    let [at_once, _] = parts_of_a_returned_server(SlowStart::OFF);
    let [slowly, later] = parts_of_a_returned_server(SlowStart::default());
    println!("without slow start {at_once:.2}, with it {slowly:.2}, later {later:.2}");
    assert!(at_once > 0.5, "it draws more than its part: {at_once}");
    assert!(slowly < 0.25 / 2.0, "less than half of its part: {slowly}");
    assert!((0.2..0.3).contains(&later), "its part: {later}");
}

/// Hand-overs that were refused or not answered, of those that round robin would have tried.
fn failed_part(change: impl FnOnce(&mut Farm), full: bool) -> f64 {
    let requests = 300;
    let mut farm = Farm::builder()
        .servers(3)
        .policy(PolicyKind::RoundRobin)
        .configure(move |at, config| {
            if at == 2 && full {
                // One connection that does not end takes the only place.
                config.limits.endpoints = 1;
                config.balance.activity_threshold.connections = 1;
            }
        })
        .workload(move |client| {
            Box::new((client..requests).step_by(8).map(move |number| Job {
                not_before: Instant::from_millis(2_000) + ms(20) * number as u32,
                ..job(number % 2, Http::new([Request::name()]))
            }))
        })
        .build()
        .unwrap();
    change(&mut farm);
    farm.run_until_done(Instant::from_millis(30_000));
    assert_eq!(farm.outcome().violations, 0, "{:?}", farm.violations());
    let mut served = farm.records().map(|record| &record.exchange.result);
    assert!(
        served.all(|server| server.is_ok()),
        "clients notice nothing"
    );
    let counters = [0, 1].map(|at| farm.device(at).unwrap().counters().clone());
    let failed = counters.map(|c| c.refused + c.unanswered);
    failed.iter().sum::<u64>() as f64 / (requests as f64 / 3.0)
}

#[test]
fn a_server_that_takes_no_hand_overs_is_tried_less() {
    let deaf = failed_part(
        |farm| {
            let nodes = [0, 1, 2].map(|at| farm.server_node(at).unwrap());
            let lan = farm.lan_mut(Port::B).unwrap();
            lan.partition(nodes[0], nodes[2]);
            lan.partition(nodes[1], nodes[2]);
        },
        false,
    );
    let refusing = failed_part(
        |farm| {
            let waits = Http::new([Request::name().after(Duration::from_secs(20))]);
            farm.push(0, job(2, waits));
        },
        true,
    );
    println!("of its turns: deaf {deaf:.2}, refusing {refusing:.2}");
    for part in [deaf, refusing] {
        assert!(part > 0.0, "it is tried now and then");
        assert!(part < 0.4, "{part}");
    }
}

#[test]
fn a_server_without_its_application_gets_nothing_until_it_is_back() {
    let mut farm = Farm::builder()
        .policy(PolicyKind::RoundRobin)
        .workload(|client| {
            Box::new((client..240).step_by(8).map(move |number| Job {
                not_before: Instant::from_millis(1_500) + ms(10) * number as u32,
                ..job(number % 3, Http::new([Request::name()]))
            }))
        })
        .build()
        .unwrap();
    let set = |farm: &mut Farm, at_ms: u64, available| {
        farm.run_until(Instant::from_millis(at_ms));
        farm.with_device(1, |device, now| {
            device.set_available(now, ListenerId(0), available);
        });
    };
    set(&mut farm, 2_200, false);
    set(&mut farm, 3_000, true);
    run(&mut farm);
    let of = |from: u64, to: u64| {
        let within =
            |at: Instant| at >= Instant::from_millis(from) && at < Instant::from_millis(to);
        let records = farm.records().filter(|r| within(r.exchange.started));
        records
            .filter(|r| r.exchange.result.as_deref() == Ok("s2"))
            .count()
    };
    assert!(of(1_500, 2_150) > 10);
    assert_eq!(of(2_250, 2_950), 0);
    assert!(of(3_050, 4_000) > 10);
}
