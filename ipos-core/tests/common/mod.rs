//! Devices joined by perfect wires, and a client that speaks raw segments.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod talk;

use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{ArpEthIpv4Packet, ArpOperation, PacketBuilder, SlicedPacket, TransportSlice};
use ipos_core::config::{Config, Listen, PortA, PortB, SynchPort};
use ipos_core::{Device, Duration, EndpointId, Event, Instant, Port, Verdict};
use ipos_proto::{Ethernet, Frame, FrameType, MacAddr, Protocol, SeqNum};

pub const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 100);
pub const CLIENT_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 0x64]);
/// The router of a LAN that the client is not on; it has the client's hardware address there.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 78, 0, 1);

pub fn port_a(server: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 11 + server)
}

/// A second address of the server's Port A, where it has one.
pub fn another_port_a(server: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 111 + server)
}

pub fn mac(port: u8, server: u8) -> MacAddr {
    MacAddr([2, 0, 0, 0, port, server])
}

pub fn config(server: u8) -> Config {
    let a = PortA::new(mac(0xa, server), vec![port_a(server)], 24);
    let b = PortB::new(mac(0xb, server), Ipv4Addr::new(10, 88, 0, 11 + server));
    let synch = SynchPort::new(mac(0xc, server), Ipv4Addr::new(10, 99, 0, 11 + server));
    let mut config = Config::new(format!("s{}", server + 1), a, b, synch);
    config.listen.push(Listen {
        address: SocketAddrV4::new(port_a(server), 80),
        protocol: Protocol::Tcp,
        service: "web".into(),
    });
    config.isn_key = *b"a key for tests.";
    config.seed = u64::from(server);
    config
}

/// What a test does with a frame on LAN B before it is delivered.
pub type Tap = Box<dyn FnMut(&Frame<'_>) -> Pass>;

/// A tap's decision.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pass {
    Deliver,
    Lose,
    Twice,
}

/// One connection of the raw client.
#[derive(Clone, Debug)]
pub struct Client {
    pub port: u16,
    pub server: SocketAddrV4,
    pub seq: SeqNum,
    pub ack: SeqNum,
}

/// A segment that a server sent to the client.
#[derive(Clone, Debug)]
pub struct Sent {
    pub hardware: MacAddr,
    pub source: SocketAddrV4,
    pub port: u16,
    pub header: etherparse::TcpHeader,
    pub payload: Vec<u8>,
}

pub struct Farm {
    pub now: Instant,
    pub devices: Vec<Device>,
    pub events: Vec<(usize, Event)>,
    pub sent: Vec<Sent>,
    /// UDP datagrams to clients: hardware address and address they come from, client's port, payload.
    pub datagrams: Vec<(MacAddr, SocketAddrV4, u16, Vec<u8>)>,
    /// Addresses to clients that devices have asked for, and who did.
    pub asked_for: Vec<(usize, Ipv4Addr)>,
    /// Every frame on LAN B, and who sent it.
    pub lan_b: Vec<(usize, Vec<u8>)>,
    pub tap: Tap,
    pub dead: Vec<bool>,
    /// The sender and the receiver between which the Synch LAN loses everything.
    pub synch_lost: Option<(usize, usize)>,
    /// Whether the Synch LAN loses everything.
    pub synch_cut: bool,
}

impl Farm {
    pub fn new(configs: Vec<Config>) -> Farm {
        let now = Instant::from_millis(1000);
        let dead = vec![false; configs.len()];
        let devices = configs
            .into_iter()
            .map(|c| Device::new(c, now).unwrap())
            .collect();
        let tap = Box::new(|_: &Frame<'_>| Pass::Deliver);
        Farm {
            now,
            devices,
            events: vec![],
            sent: vec![],
            datagrams: vec![],
            asked_for: vec![],
            lan_b: vec![],
            tap,
            dead,
            synch_lost: None,
            synch_cut: false,
        }
    }

    /// Two servers that take turns, and know of each other.
    pub fn pair() -> Farm {
        Farm::round_robin(2)
    }

    pub fn round_robin(servers: u8) -> Farm {
        Farm::with(servers, |_, _| {})
    }

    pub fn with(servers: u8, change: impl Fn(u8, &mut Config)) -> Farm {
        let configs = (0..servers).map(|server| {
            let mut config = config(server);
            config.balance.policy = ipos_balance::PolicyKind::RoundRobin;
            change(server, &mut config);
            config
        });
        let mut farm = Farm::new(configs.collect());
        farm.run(Duration::from_millis(300));
        farm
    }

    /// Lets `duration` pass in the steps that the devices ask for.
    pub fn run(&mut self, duration: Duration) {
        let end = self.now + duration;
        self.pump();
        loop {
            let alive = self
                .devices
                .iter()
                .zip(&self.dead)
                .filter(|(_, dead)| !**dead);
            let next = alive.filter_map(|(device, _)| device.poll_timeout()).min();
            let Some(next) = next.filter(|next| *next <= end) else {
                break;
            };
            self.now = self.now.max(next);
            for (device, _) in self
                .devices
                .iter_mut()
                .zip(&self.dead)
                .filter(|(_, dead)| !**dead)
            {
                device.handle_timeout(self.now);
            }
            self.pump();
        }
        self.now = end;
    }

    /// Delivers until nothing moves.
    pub fn pump(&mut self) {
        let mut moved = true;
        while moved {
            moved = false;
            for at in 0..self.devices.len() {
                while let Some(event) = self.devices[at].poll_event() {
                    self.events.push((at, event));
                }
                for port in Port::ALL {
                    let mut buf = [0; 1514];
                    while let Some(len) = self.devices[at].poll_transmit(self.now, port, &mut buf) {
                        if !self.dead[at] {
                            self.carry(at, port, &buf[..len]);
                            moved = true;
                        }
                    }
                }
            }
        }
    }

    fn carry(&mut self, from: usize, port: Port, frame: &[u8]) {
        if port == Port::A || port == Port::C {
            return self.take_client_frame(from, port, frame);
        }
        let mut times = 1;
        if port == Port::B {
            self.lan_b.push((from, frame.to_vec()));
            let (_, rest) = Ethernet::parse(frame).unwrap();
            times = match (self.tap)(&Frame::parse(rest).unwrap()) {
                Pass::Deliver => 1,
                Pass::Lose => 0,
                Pass::Twice => 2,
            };
        }
        for _ in 0..times {
            for to in (0..self.devices.len()).filter(|to| *to != from) {
                if port == Port::Synch && (self.synch_cut || self.synch_lost == Some((from, to))) {
                    continue;
                }
                self.deliver(to, port, frame);
            }
        }
    }

    pub fn deliver(&mut self, to: usize, port: Port, frame: &[u8]) -> Verdict {
        if self.dead[to] {
            return Verdict::Consumed;
        }
        let verdict = self.devices[to].handle_frame(self.now, port, frame);
        if let Verdict::Forward(forward) = &verdict {
            let encapsulated = [&forward.headers, &frame[forward.payload.clone()]].concat();
            self.carry(to, forward.port, &encapsulated);
        }
        verdict
    }

    fn take_client_frame(&mut self, from: usize, port: Port, frame: &[u8]) {
        let packet = SlicedPacket::from_ethernet(frame).unwrap();
        let source = MacAddr(
            packet
                .link
                .as_ref()
                .unwrap()
                .to_header()
                .unwrap()
                .ethernet2()
                .unwrap()
                .source,
        );
        match (packet.net, packet.transport) {
            (Some(etherparse::NetSlice::Arp(arp)), _) => {
                let arp = arp.to_packet().try_eth_ipv4().unwrap();
                let target = arp.target_ipv4_addr();
                if arp.operation == ArpOperation::REQUEST && [CLIENT, GATEWAY].contains(&target) {
                    self.asked_for.push((from, target));
                    let reply =
                        arp_frame(ArpOperation::REPLY, source, target, arp.sender_ipv4_addr());
                    self.deliver(from, port, &reply);
                }
            }
            (Some(etherparse::NetSlice::Ipv4(ip)), Some(TransportSlice::Tcp(tcp))) => {
                let header = ip.header();
                let sum = tcp
                    .calc_checksum_ipv4(header.source(), header.destination())
                    .unwrap();
                assert_eq!(sum, tcp.checksum(), "every segment's checksum is right");
                assert_eq!(
                    header.to_header().calc_header_checksum(),
                    header.header_checksum()
                );
                self.sent.push(Sent {
                    hardware: source,
                    source: SocketAddrV4::new(header.source_addr(), tcp.source_port()),
                    port: tcp.destination_port(),
                    header: tcp.to_header(),
                    payload: tcp.payload().to_vec(),
                });
            }
            (Some(etherparse::NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) => {
                let header = ip.header();
                let sum = udp.to_header().calc_checksum_ipv4_raw(
                    header.source(),
                    header.destination(),
                    udp.payload(),
                );
                assert_eq!(sum.unwrap(), udp.checksum());
                let from = SocketAddrV4::new(header.source_addr(), udp.source_port());
                let payload = udp.payload().to_vec();
                self.datagrams
                    .push((source, from, udp.destination_port(), payload));
            }
            _ => {}
        }
    }

    /// Segments for a client's port that came since the last call.
    pub fn take(&mut self, client: &Client) -> Vec<Sent> {
        self.pump();
        let (mine, others) = self
            .sent
            .drain(..)
            .partition(|sent| sent.port == client.port);
        self.sent = others;
        mine
    }

    /// Sends a segment with its own ACK number, and delivers what it causes.
    pub fn send(&mut self, client: &Client, flags: &str, payload: &[u8]) -> Verdict {
        self.send_with(client, flags, &[], payload)
    }

    pub fn send_with(
        &mut self,
        client: &Client,
        flags: &str,
        options: &[u8],
        payload: &[u8],
    ) -> Verdict {
        let frame = client.frame(flags, options, payload);
        let verdict = self.inject(client, &frame);
        self.pump();
        verdict
    }

    pub fn inject(&mut self, client: &Client, frame: &[u8]) -> Verdict {
        self.deliver(client.at().into(), Port::A, frame)
    }

    /// A connection in ESTABLISHED on both sides.
    pub fn connect(&mut self, server: u8, port: u16) -> Client {
        self.connect_from(server, port, isn(port))
    }

    /// The same; the client begins with this sequence number.
    pub fn connect_from(&mut self, server: u8, port: u16, isn: u32) -> Client {
        self.open(Client::new(server, port, isn))
    }

    /// The same, with a client that has sent nothing yet.
    pub fn open(&mut self, mut client: Client) -> Client {
        // MSS 1460, SACK permitted, window scale 7.
        self.send_with(&client, "S", &[2, 4, 5, 0xb4, 4, 2, 1, 3, 3, 7, 0, 0], &[]);
        let mut sent = self.take(&client);
        // An earlier connection of the port may end with a RST.
        sent.retain(|sent| !sent.header.rst);
        let [syn_ack] = &sent[..] else {
            panic!("one SYN-ACK, not {sent:?}")
        };
        client.opened_by(syn_ack);
        self.send(&client, "A", &[]);
        client
    }

    /// The endpoint that was last bound, and where.
    pub fn bound(&mut self) -> (usize, EndpointId) {
        self.pump();
        let bound = self
            .events
            .iter()
            .rev()
            .find_map(|(at, event)| match event {
                Event::Bound { endpoint, .. } => Some((*at, *endpoint)),
                _ => None,
            });
        bound.expect("an endpoint was bound")
    }

    pub fn read(&mut self, (at, id): (usize, EndpointId)) -> Vec<u8> {
        let mut all = vec![];
        let mut endpoint = self.devices[at]
            .endpoint(self.now, id)
            .expect("the endpoint lives");
        while !endpoint.readable().is_empty() {
            let piece = endpoint.readable().to_vec();
            endpoint.consume(piece.len());
            all.extend(piece);
        }
        all
    }

    pub fn write(&mut self, (at, id): (usize, EndpointId), data: &[u8]) -> usize {
        let taken = self.devices[at]
            .endpoint(self.now, id)
            .expect("the endpoint lives")
            .write(data);
        self.pump();
        taken
    }

    pub fn close(&mut self, (at, id): (usize, EndpointId)) {
        self.devices[at]
            .endpoint(self.now, id)
            .expect("the endpoint lives")
            .close();
        self.pump();
    }

    /// Frames of LAN B by their type, in order.
    pub fn types(&self) -> Vec<u8> {
        let frames = self.lan_b.iter();
        frames.map(|(_, frame)| talk::kind(frame) as u8).collect()
    }

    /// The client's packets that went over LAN B.
    pub fn packets(&self) -> Vec<Vec<u8>> {
        let frames = self.lan_b.iter();
        let frames = frames.filter(|(_, frame)| talk::kind(frame) == FrameType::Packet);
        // Behind the Ethernet and ipOS headers.
        frames.map(|(_, frame)| frame[14 + 16..].to_vec()).collect()
    }

    /// The lengths of a server's tables of connections: temporary, local, forward-connect, forward, tombstones.
    pub fn connections(&self, at: usize) -> [usize; 5] {
        let names = [
            "temporary",
            "local",
            "forward-connect",
            "forward",
            "tombstones",
        ];
        names.map(|name| self.table(at, name))
    }

    pub fn table(&self, at: usize, name: &str) -> usize {
        self.devices[at]
            .tables()
            .into_iter()
            .find(|table| table.name == name)
            .unwrap()
            .len
    }
}

/// The sequence number with which the client's connections begin, if a test does not care.
pub fn isn(port: u16) -> u32 {
    u32::from(port).wrapping_mul(1_000_003)
}

impl Client {
    /// A client that has sent nothing yet.
    pub fn new(server: u8, port: u16, isn: u32) -> Client {
        Client {
            port,
            server: SocketAddrV4::new(port_a(server), 80),
            seq: SeqNum::new(isn),
            ack: SeqNum::new(0),
        }
    }

    /// The server that it connects to.
    fn at(&self) -> u8 {
        let [.., last] = self.server.ip().octets();
        (last - 11) % 100
    }

    /// Takes the SYN-ACK that answers its SYN.
    pub fn opened_by(&mut self, syn_ack: &Sent) {
        assert!(syn_ack.header.syn && syn_ack.header.ack, "{syn_ack:?}");
        self.seq += 1;
        assert_eq!(syn_ack.header.acknowledgment_number, self.seq.raw());
        self.ack = SeqNum::new(syn_ack.header.sequence_number) + 1;
    }

    /// A frame with these flags (S, A, F, R, P), raw option bytes and payload.
    pub fn frame(&self, flags: &str, options: &[u8], payload: &[u8]) -> Vec<u8> {
        let server = *self.server.ip();
        let to = mac(0xa, self.at());
        let mut tcp = PacketBuilder::ethernet2(CLIENT_MAC.0, to.0)
            .ipv4(CLIENT.octets(), server.octets(), 64)
            .tcp(self.port, self.server.port(), self.seq.raw(), 64_240)
            .options_raw(options)
            .unwrap();
        for flag in flags.chars() {
            tcp = match flag {
                'S' => tcp.syn(),
                'A' => tcp.ack(self.ack.raw()),
                'F' => tcp.fin(),
                'R' => tcp.rst(),
                'P' => tcp.psh(),
                other => panic!("no flag {other}"),
            };
        }
        let mut frame = vec![];
        tcp.write(&mut frame, payload).unwrap();
        frame
    }
}

pub fn arp_frame(
    operation: ArpOperation,
    to: MacAddr,
    sender: Ipv4Addr,
    target: Ipv4Addr,
) -> Vec<u8> {
    let arp = ArpEthIpv4Packet {
        operation,
        sender_mac: CLIENT_MAC.0,
        sender_ipv4: sender.octets(),
        target_mac: [0; 6],
        target_ipv4: target.octets(),
    };
    let ethernet = Ethernet {
        destination: to,
        source: CLIENT_MAC,
        ethertype: 0x0806,
    };
    [&ethernet.to_bytes()[..], &arp.to_bytes()].concat()
}
