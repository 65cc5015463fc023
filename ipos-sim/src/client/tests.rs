//! The test bed itself: smoltcp on both sides, no device.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex};

use ipos_core::{Flow, ListenerId, Origin, Port};
use ipos_proto::MacAddr;
use smoltcp::iface::SocketHandle;

use super::*;
use crate::app::{Application, Session, Web};
use crate::capture::Capture;
use crate::impair::Impairments;
use crate::lan::LanConfig;
use crate::network::{LanId, Network, NodeId};
use crate::requests::{Http, Request};
use crate::stream::Next;
use crate::wire::Socket;

const FRAME: usize = 1514;
const SERVER: (MacAddr, Ipv4Addr) = (MacAddr([2, 0, 0, 0, 0, 1]), Ipv4Addr::new(10, 77, 0, 11));

/// A web server over smoltcp.
struct Peer {
    interface: Interface,
    web: Web,
    nobody: SocketSet<'static>,
    connections: BTreeMap<SocketAddrV4, Served>,
    refuse: bool,
    due: Option<Instant>,
}

struct Served {
    sockets: SocketSet<'static>,
    handle: SocketHandle,
    session: Option<Box<dyn Session>>,
    wake: Option<Instant>,
}

impl Peer {
    fn new() -> Peer {
        let mut out = Outbox::new(0);
        let mut wire = Wire::new(Instant::ZERO, None, &mut out, FRAME);
        let config = Config::new(EthernetAddress(SERVER.0.0).into());
        let mut interface = Interface::new(config, &mut wire, moment(Instant::ZERO));
        interface.update_ip_addrs(|list| list.push(IpCidr::new(SERVER.1.into(), 24)).unwrap());
        Peer {
            interface,
            web: Web::new("peer", 1),
            nobody: SocketSet::new(Vec::new()),
            connections: BTreeMap::new(),
            refuse: false,
            due: None,
        }
    }

    fn listen(&mut self, client: SocketAddrV4) {
        let buffer = || tcp::SocketBuffer::new(vec![0; 65536]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_congestion_control(tcp::CongestionControl::Reno);
        socket.listen(80).unwrap();
        let mut sockets = SocketSet::new(Vec::new());
        let handle = sockets.add(socket);
        let flow = Flow::tcp(client, SocketAddrV4::new(SERVER.1, 80));
        let session = Some(
            self.web
                .accept(Instant::ZERO, ListenerId(0), flow, Origin::Local),
        );
        self.connections.insert(
            client,
            Served {
                sockets,
                handle,
                session,
                wake: None,
            },
        );
    }

    fn drive(&mut self, now: Instant, client: SocketAddrV4, out: &mut Outbox) {
        let served = self.connections.get_mut(&client).unwrap();
        let socket = served.sockets.get_mut::<tcp::Socket>(served.handle);
        if let Some(session) = &mut served.session
            && socket.may_send()
        {
            served.wake = None;
            let next = session.poll(now, &mut Socket(socket));
            match next {
                Next::Until(at) => served.wake = Some(at),
                Next::Wait => {}
                Next::Close => socket.close(),
                Next::Abort => socket.abort(),
            }
            if matches!(next, Next::Close | Next::Abort) {
                served.session = None;
            }
        }
        let mut wire = Wire::new(now, None, out, FRAME);
        let sockets = &mut served.sockets;
        while self.interface.poll_egress(moment(now), &mut wire, sockets) != PollResult::None {}
    }
}

fn client_of(frame: &[u8]) -> Option<SocketAddrV4> {
    let packet = Ipv4Packet::new_checked(frame.get(14..)?).ok()?;
    let segment = TcpPacket::new_checked(packet.payload()).ok()?;
    Some(SocketAddrV4::new(packet.src_addr(), segment.src_port()))
}

impl Node for Peer {
    fn handle_frame(&mut self, now: Instant, _: usize, frame: &[u8], out: &mut Outbox) {
        let client = (frame[12..14] == [8, 0])
            .then(|| client_of(frame))
            .flatten();
        if let Some(client) = client.filter(|client| !self.connections.contains_key(client))
            && !self.refuse
        {
            self.listen(client);
        }
        let sockets = match client.and_then(|client| self.connections.get_mut(&client)) {
            Some(served) => &mut served.sockets,
            None => &mut self.nobody,
        };
        let mut wire = Wire::new(now, Some(frame), out, FRAME);
        self.interface
            .poll_ingress_single(moment(now), &mut wire, sockets);
        self.drive_all(now, out);
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        self.drive_all(now, out);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.due
    }
}

impl Peer {
    fn drive_all(&mut self, now: Instant, out: &mut Outbox) {
        self.due = None;
        for client in self.connections.keys().copied().collect::<Vec<_>>() {
            self.drive(now, client, out);
            let served = &self.connections[&client];
            let next = self
                .interface
                .poll_at(moment(now), &served.sockets)
                .map(instant);
            self.due = self.due.into_iter().chain(next).chain(served.wake).min();
        }
    }
}

enum Machine {
    Peer(Box<Peer>),
    Client(Box<Client>),
}

impl Node for Machine {
    fn handle_frame(&mut self, now: Instant, port: usize, frame: &[u8], out: &mut Outbox) {
        match self {
            Machine::Peer(peer) => peer.handle_frame(now, port, frame, out),
            Machine::Client(client) => client.handle_frame(now, port, frame, out),
        }
    }

    fn handle_timeout(&mut self, now: Instant, out: &mut Outbox) {
        match self {
            Machine::Peer(peer) => peer.handle_timeout(now, out),
            Machine::Client(client) => client.handle_timeout(now, out),
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        match self {
            Machine::Peer(peer) => peer.poll_timeout(),
            Machine::Client(client) => client.poll_timeout(),
        }
    }
}

/// One client and one peer on a LAN.
struct Bench {
    network: Network<Machine>,
    client: NodeId,
    pcap: Arc<Mutex<Capture<Vec<u8>>>>,
}

const LAN: LanId = LanId(0);

impl Bench {
    fn new(seed: u64, impairments: Impairments, refuse: bool) -> Bench {
        let mut network = Network::new(
            seed,
            &[LanConfig {
                impairments,
                ..LanConfig::default()
            }],
        );
        let pcap = Arc::new(Mutex::new(Capture::new(LAN, Vec::new()).unwrap()));
        network.observe(Box::new(pcap.clone()));
        network.add_node(
            Machine::Peer(Box::new(Peer {
                refuse,
                ..Peer::new()
            })),
            &[LAN],
        );
        let config = ClientConfig {
            lan: Port::A,
            hardware: MacAddr([2, 0, 0, 0, 0, 2]),
            address: Ipv4Addr::new(10, 77, 0, 100),
            prefix: 24,
            mtu: 1500,
            concurrency: 2,
            ports: ClientConfig::PORTS,
            rest: ClientConfig::REST,
            ports_per_server: false,
            tcp: ClientTcp {
                timestamps: true,
                ..ClientTcp::default()
            },
            seed,
        };
        let client = network.add_node(Machine::Client(Box::new(Client::new(config))), &[LAN]);
        Bench {
            network,
            client,
            pcap,
        }
    }

    /// Does the jobs, and gives every result.
    fn run(&mut self, jobs: Vec<Job>) -> Vec<Result<String, ExchangeError>> {
        self.network.with(self.client, |machine, now, out| {
            if let Machine::Client(client) = machine {
                client.set_workload(now, Box::new(jobs.into_iter()), out);
            }
        });
        while !self.client().is_done() {
            assert!(
                self.network.step(Instant::from_millis(3_600_000)).is_some(),
                "the client never ends"
            );
        }
        let records = self.client().log().records().iter();
        records
            .map(|record| record.exchange.result.clone())
            .collect()
    }

    fn client(&self) -> &Client {
        match self.network.node(self.client) {
            Some(Machine::Client(client)) => client,
            _ => panic!("the second node is the client"),
        }
    }

    fn pcap(&self) -> Vec<u8> {
        self.pcap.lock().unwrap().finish().unwrap().unwrap()
    }
}

fn job(requests: impl IntoIterator<Item = Request>) -> Job {
    Job::new(SocketAddrV4::new(SERVER.1, 80), Http::new(requests))
}

const ROUGH: Impairments = Impairments {
    loss: 0.02,
    duplication: 0.02,
    reordering: 0.02,
    hold_back: Duration::from_millis(1),
    corruption: 0.02,
    delay: Duration::from_millis(1),
    jitter: Duration::from_micros(100),
};

#[test]
fn a_download_across_an_impaired_lan_arrives_whole() {
    let mut bench = Bench::new(3, ROUGH, false);
    let results = bench.run(vec![
        job([Request::download(1_000_000, 5)]).with_buffers(65536),
    ]);
    assert_eq!(results, [Ok("peer".into())]);
    let seen = bench.network.lan(LAN).unwrap().statistics().impairments;
    assert!(seen.lost > 0 && seen.duplicated > 0 && seen.reordered > 0 && seen.corrupted > 0);
}

#[test]
fn an_upload_across_an_impaired_lan_arrives_whole() {
    let mut bench = Bench::new(3, ROUGH, false);
    let job = job([
        Request::upload(300_000, 5),
        Request::name(),
        Request::upload(10, 6),
    ]);
    assert_eq!(bench.run(vec![job]), vec![Ok("peer".into()); 3]);
}

#[test]
fn one_seed_one_run() {
    let run = |seed| {
        let mut bench = Bench::new(seed, ROUGH, false);
        let jobs = (0..20)
            .map(|number| job([Request::download(5_000, number)]))
            .collect();
        assert_eq!(bench.run(jobs), vec![Ok("peer".into()); 20]);
        bench.pcap()
    };
    let pcap = run(1);
    assert!(pcap.len() > 20 * 5_000);
    assert_eq!(pcap, run(1), "the same to the last bit");
    assert_ne!(pcap, run(2));
}

#[test]
fn every_connection_has_a_port_of_its_own() {
    let mut bench = Bench::new(1, Impairments::default(), false);
    bench.run((0..50).map(|_| job([Request::name()])).collect());
    let records = bench.client().log().records();
    let ports: BTreeSet<u16> = records
        .iter()
        .map(|record| record.connection.client.port())
        .collect();
    assert_eq!(ports.len(), 50);
}

#[test]
fn a_client_that_closes_first_stays_in_time_wait() {
    let mut bench = Bench::new(1, Impairments::default(), false);
    let script = Http::new([Request::name(), Request::name()]).client_closes();
    let results = bench.run(vec![Job::new(SocketAddrV4::new(SERVER.1, 80), script)]);
    assert_eq!(results, vec![Ok("peer".into()); 2]);
    bench
        .network
        .run_until(bench.network.now() + Duration::from_secs(9));
    assert_eq!(bench.client().sockets(), 1);
    bench
        .network
        .run_until(bench.network.now() + Duration::from_secs(2));
    assert_eq!(bench.client().sockets(), 0);
}

#[test]
fn nobody_listens() {
    let mut bench = Bench::new(1, Impairments::default(), true);
    assert_eq!(
        bench.run(vec![job([Request::name()])]),
        [Err(ExchangeError::Refused)]
    );
}

#[test]
fn nobody_is_there() {
    let mut bench = Bench::new(1, Impairments::default(), false);
    let script = || Http::new([Request::name()]);
    let jobs = vec![
        Job::new(
            SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 12), 80),
            script(),
        ),
        Job {
            deadline: Duration::from_secs(9),
            ..Job::new(SocketAddrV4::new(SERVER.1, 0), script())
        },
    ];
    let results = bench.run(jobs);
    assert!(
        results.contains(&Err(ExchangeError::TimedOut)),
        "no ARP reply"
    );
    assert!(results.contains(&Err(ExchangeError::Refused)), "port 0");
    assert_eq!(bench.network.now(), Instant::from_millis(60_000));
}

#[test]
fn a_partition_that_heals_is_survived_one_that_does_not_is_not() {
    let peer = NodeId(0);
    for heal in [true, false] {
        let mut bench = Bench::new(1, Impairments::default(), false);
        bench
            .network
            .lan_mut(LAN)
            .unwrap()
            .partition(peer, bench.client);
        bench.network.with(bench.client, |machine, now, out| {
            if let Machine::Client(client) = machine {
                client.push(now, job([Request::name()]), out);
            }
        });
        bench.network.run_until(Instant::from_millis(20_000));
        if heal {
            bench.network.lan_mut(LAN).unwrap().heal_all();
        }
        let right = if heal {
            Ok("peer".into())
        } else {
            Err(ExchangeError::TimedOut)
        };
        assert_eq!(bench.run(Vec::new()), [right]);
    }
}

#[test]
fn requests_in_pieces_and_half_closes_are_served() {
    let mut bench = Bench::new(1, Impairments::default(), false);
    let slow = Request::upload(3_000, 7).in_pieces(400, Duration::from_millis(30));
    let script = Http::new([slow]).half_close();
    let results = bench.run(vec![Job::new(SocketAddrV4::new(SERVER.1, 80), script)]);
    assert_eq!(results, [Ok("peer".into())]);
    assert!(bench.network.now() >= Instant::from_millis(200));
    let sent = bench.client().log().records()[0].exchange.sent;
    assert!(sent > 3_000);
}
