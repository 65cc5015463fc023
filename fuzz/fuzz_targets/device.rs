//! Two devices, a client that sends what it likes, a Port B that loses, repeats and changes frames, and hosts that do
//! anything with their endpoints, and move them: no panic, no table beyond its bound, no endless output.

#![no_main]

use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
use ipos_balance::PolicyKind;
use ipos_core::config::{Config, KeepAlive, Listen, PortA, PortB, SynchPort};
use ipos_core::{Device, Duration, EndpointId, Event, Flow, Instant, Port, Verdict};
use ipos_proto::{HEADER_LEN, MacAddr, Protocol, internet_checksum};
use libfuzzer_sys::arbitrary::{self, Arbitrary};
use libfuzzer_sys::fuzz_target;

#[derive(Arbitrary, Debug)]
enum Op {
    /// Any bytes into any port; `fix` puts a right address and EtherType in front.
    Raw {
        port: u8,
        fix: bool,
        bytes: Vec<u8>,
    },
    /// A segment near what the connection expects.
    Segment {
        client: u8,
        flags: u8,
        seq: i16,
        ack: i16,
        window: u16,
        options: Vec<u8>,
        payload: Vec<u8>,
    },
    /// What happens to the next frame on Port B.
    Fate {
        lose: bool,
        twice: bool,
        change: Option<(u8, u8)>,
    },
    /// The host reads, writes, closes.
    Host {
        which: u8,
        action: u8,
        len: u16,
    },
    Wait {
        ms: u16,
    },
    Leave {
        device: u8,
    },
    Drain {
        device: u8,
        draining: bool,
    },
    /// An operator moves a connection, or a UDP flow.
    Migrate {
        device: u8,
        client: u8,
        udp: bool,
        to: u8,
    },
    /// A client's datagram, and perhaps an answer.
    Datagram {
        client: u8,
        answer: Option<u16>,
        payload: Vec<u8>,
    },
}

const CLIENTS: usize = 3;

#[derive(Clone, Copy, Default)]
struct Client {
    seq: u32,
    ack: u32,
}

struct World {
    now: Instant,
    devices: [Device; 2],
    clients: [Client; CLIENTS],
    endpoints: Vec<(usize, EndpointId)>,
    fate: Option<(bool, bool, Option<(u8, u8)>)>,
}

fn server(at: usize) -> Ipv4Addr {
    Ipv4Addr::new(10, 77, 0, 11 + at as u8)
}

fn mac(port: usize, at: usize) -> MacAddr {
    MacAddr([2, 0, 0, 0, port as u8, at as u8])
}

fn device(at: usize) -> Device {
    let a = PortA::new(mac(0, at), vec![server(at)], 24);
    let b = PortB::new(mac(1, at), Ipv4Addr::new(10, 88, 0, 11 + at as u8));
    // Adverts are rare, so that time passes quickly.
    let synch = SynchPort::new(mac(2, at), Ipv4Addr::new(10, 99, 0, 11 + at as u8))
        .with_interval(Duration::from_secs(5));
    let mut config = Config::new(format!("s{at}"), a, b, synch);
    config.listen.push(Listen {
        address: SocketAddrV4::new(server(at), 80),
        protocol: Protocol::Tcp,
        service: "web".into(),
    });
    config.listen.push(Listen {
        address: SocketAddrV4::new(server(at), 53),
        protocol: Protocol::Udp,
        service: "dns".into(),
    });
    config.balance.policy = PolicyKind::RoundRobin;
    config.balance.per_request = true;
    config.limits.forward = 2;
    config.limits.datagrams = 2;
    config.limits.kept = 3000;
    config.limits.temporary = 2;
    config.limits.endpoints = 2;
    config.limits.early_packets = 2;
    config.limits.request = 2048;
    config.limits.buffers = 8192;
    config.limits.neighbours = 2;
    config.tcp.keep_alive = Some(KeepAlive {
        idle: Duration::from_secs(20),
        interval: Duration::from_secs(1),
        probes: 3,
    });
    Device::new(config, Instant::from_millis(5_000)).expect("the configuration holds")
}

/// A client's flow, and the server that it goes to.
fn flow(client: u8, udp: bool) -> (Flow, usize) {
    let at = usize::from(client / 16) % 2;
    let port = 4000 + u16::from(client) % CLIENTS as u16;
    let client = SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, 100), port);
    let flow = match udp {
        true => Flow::udp(client, SocketAddrV4::new(server(at), 53)),
        false => Flow::tcp(client, SocketAddrV4::new(server(at), 80)),
    };
    (flow, at)
}

impl World {
    fn handle(&mut self, at: usize, port: Port, frame: &[u8]) {
        let verdict = self.devices[at].handle_frame(self.now, port, frame);
        if let Verdict::Forward(forward) = verdict {
            let frame = [&forward.headers, &frame[forward.payload]].concat();
            self.carry(at, forward.port, frame);
        }
    }

    /// From one device's Port B or Synch Port to the other's.
    fn carry(&mut self, from: usize, port: Port, mut frame: Vec<u8>) {
        let mut times = 1;
        if port == Port::B
            && let Some((lose, twice, change)) = self.fate.take()
        {
            times = if lose { 0 } else { 1 + usize::from(twice) };
            if let Some((offset, value)) = change
                && let Some(byte) = frame.get_mut(14 + usize::from(offset))
            {
                *byte = value;
                if usize::from(offset) < HEADER_LEN {
                    frame[28..30].fill(0);
                    let checksum = internet_checksum(&frame[14..30]);
                    frame[28..30].copy_from_slice(&checksum.to_be_bytes());
                }
            }
        }
        for _ in 0..times {
            self.handle(1 - from, port, &frame);
        }
    }

    fn settle(&mut self) {
        let mut buf = [0; 1514];
        for turn in 0.. {
            assert!(turn < 10_000, "devices answer each other without end");
            let mut moved = false;
            for at in 0..2 {
                while let Some(event) = self.devices[at].poll_event() {
                    match event {
                        Event::Bound { endpoint, .. } => self.endpoints.push((at, endpoint)),
                        Event::Failed(id, _) | Event::Left { endpoint: id, .. } => {
                            self.endpoints.retain(|e| *e != (at, id))
                        }
                        _ => {}
                    }
                }
                for port in Port::ALL {
                    while let Some(len) = self.devices[at].poll_transmit(self.now, port, &mut buf) {
                        moved = true;
                        if port == Port::A {
                            self.see(at, &buf[..len]);
                        } else {
                            self.carry(at, port, buf[..len].to_vec());
                        }
                    }
                }
                for table in self.devices[at].tables() {
                    // A full buffer pool still gives every endpoint a little.
                    assert!(
                        table.len <= table.bound || table.name == "buffer-bytes",
                        "{table:?}"
                    );
                }
            }
            if !moved {
                return;
            }
        }
    }

    /// The client looks at what it is sent, and answers ARP.
    fn see(&mut self, from: usize, frame: &[u8]) {
        let packet = SlicedPacket::from_ethernet(frame).expect("a device sends whole frames");
        if let Some(TransportSlice::Tcp(tcp)) = packet.transport {
            if let Some(client) = self
                .clients
                .get_mut(usize::from(tcp.destination_port()) % 16)
            {
                let len = tcp.payload().len() as u32 + u32::from(tcp.syn()) + u32::from(tcp.fin());
                client.ack = tcp.sequence_number().wrapping_add(len);
            }
        } else if let Some(etherparse::NetSlice::Arp(arp)) = packet.net {
            let Ok(arp) = arp.to_packet().try_eth_ipv4() else {
                return;
            };
            let mut reply = frame[..42].to_vec();
            reply[..6].copy_from_slice(&arp.sender_mac);
            reply[6..12].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
            reply[21] = 2;
            reply[22..28].copy_from_slice(&[2, 9, 9, 9, 9, 9]);
            reply[28..32].copy_from_slice(&arp.target_ipv4);
            reply[38..42].copy_from_slice(&arp.sender_ipv4);
            self.handle(from, Port::A, &reply);
        }
    }

    fn apply(&mut self, op: Op) {
        match op {
            Op::Raw {
                port,
                fix,
                mut bytes,
            } => {
                let (at, port) = (usize::from(port & 1), usize::from(port / 2) % 3);
                if fix && bytes.len() >= 14 {
                    bytes[..6].copy_from_slice(&mac(port, at).0);
                    bytes[6..12].copy_from_slice(&mac(port, 1 - at).0);
                    bytes[12..14].copy_from_slice(&if port == 1 { [0, 7] } else { [8, 0] });
                }
                self.handle(at, Port::ALL[port], &bytes);
            }
            Op::Segment {
                client,
                flags,
                seq,
                ack,
                window,
                mut options,
                payload,
            } => {
                let index = usize::from(client) % CLIENTS;
                let at = usize::from(client / 16) % 2;
                let state = &mut self.clients[index];
                options.truncate(40);
                let payload = &payload[..payload.len().min(1400)];
                let number = state.seq.wrapping_add(seq as u32);
                let Ok(mut tcp) = PacketBuilder::ethernet2([2, 9, 9, 9, 9, 9], mac(0, at).0)
                    .ipv4([10, 77, 0, 100], server(at).octets(), 64)
                    .tcp(4000 + index as u16, 80, number, window)
                    .options_raw(&options)
                else {
                    return;
                };
                for (bit, set) in [(1, 'S'), (2, 'A'), (4, 'F'), (8, 'R'), (16, 'P')] {
                    if flags & bit != 0 {
                        tcp = match set {
                            'S' => tcp.syn(),
                            'A' => tcp.ack(state.ack.wrapping_add(ack as u32)),
                            'F' => tcp.fin(),
                            'R' => tcp.rst(),
                            _ => tcp.psh(),
                        };
                    }
                }
                let len = payload.len() as u32 + u32::from(flags & 1) + u32::from(flags >> 2 & 1);
                state.seq = number.wrapping_add(len);
                let mut frame = Vec::new();
                if tcp.write(&mut frame, payload).is_ok() {
                    self.handle(at, Port::A, &frame);
                }
            }
            Op::Fate {
                lose,
                twice,
                change,
            } => self.fate = Some((lose, twice, change)),
            Op::Host { which, action, len } => {
                if self.endpoints.is_empty() {
                    return;
                }
                let place = usize::from(which) % self.endpoints.len();
                let (at, id) = self.endpoints[place];
                let Some(mut endpoint) = self.devices[at].endpoint(self.now, id) else {
                    return;
                };
                match action % 7 {
                    0 => endpoint.consume(usize::from(len)),
                    1 => {
                        endpoint.write(&vec![7; usize::from(len)]);
                    }
                    2 => endpoint.shutdown(),
                    5 => endpoint.set_quiet(len & 1 == 0),
                    6 => {
                        // Refused where that server is not known yet.
                        let _ = endpoint.migrate(Some(if at == 0 { "s1" } else { "s0" }));
                    }
                    3 => {
                        endpoint.close();
                        self.endpoints.remove(place);
                    }
                    _ => {
                        endpoint.abort();
                        self.endpoints.remove(place);
                    }
                }
            }
            Op::Wait { ms } => {
                let end = self.now + Duration::from_millis(ms.into());
                for _ in 0..1000 {
                    let next = self.devices.iter().filter_map(Device::poll_timeout).min();
                    let Some(next) = next.filter(|next| *next <= end) else {
                        break;
                    };
                    self.now = self.now.max(next);
                    for device in &mut self.devices {
                        device.handle_timeout(self.now);
                    }
                    self.settle();
                }
                self.now = end;
            }
            Op::Leave { device } => self.devices[usize::from(device & 1)].leave(),
            Op::Drain { device, draining } => {
                self.devices[usize::from(device & 1)].drain(self.now, draining);
            }
            Op::Migrate {
                device,
                client,
                udp,
                to,
            } => {
                let (flow, _) = flow(client, udp);
                let to = ["s0", "s1", "s9"][usize::from(to) % 3];
                let device = &mut self.devices[usize::from(device & 1)];
                // Refused where there is nothing to move.
                let _ = device.migrate(self.now, &flow, to);
            }
            Op::Datagram {
                client,
                answer,
                payload,
            } => {
                let (flow, at) = flow(client, true);
                let payload = &payload[..payload.len().min(1400)];
                let mut frame = Vec::new();
                let written = PacketBuilder::ethernet2([2, 9, 9, 9, 9, 9], mac(0, at).0)
                    .ipv4(flow.client.ip().octets(), flow.endpoint.ip().octets(), 64)
                    .udp(flow.client.port(), 53)
                    .write(&mut frame, payload);
                if written.is_ok() {
                    self.handle(at, Port::A, &frame);
                }
                self.settle();
                for device in &mut self.devices {
                    if let Some(len) = answer {
                        // Refused by the one that has not the flow, and where it is too long.
                        let _ = device.send_datagram(self.now, &flow, &vec![7; usize::from(len)]);
                    }
                }
            }
        }
        self.settle();
    }
}

fuzz_target!(|ops: Vec<Op>| {
    let mut world = World {
        now: Instant::from_millis(5_000),
        devices: [device(0), device(1)],
        clients: Default::default(),
        endpoints: Vec::new(),
        fate: None,
    };
    world.apply(Op::Wait { ms: 150 });
    for op in ops.into_iter().take(64) {
        world.apply(op);
    }
});
