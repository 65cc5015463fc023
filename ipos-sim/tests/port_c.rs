//! Port C: a second LAN of clients, and responses that leave by another port than requests come in by.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::sync::{Arc, Mutex};

use ipos_balance::PolicyKind;
use ipos_core::config::{Config, Listen, PortA, PortC};
use ipos_core::{Instant, Port};
use ipos_proto::{ETHERNET_LEN, Ethernet, MacAddr};
use ipos_sim::addresses::{HTTP, PREFIX, ServerAddresses, client};
use ipos_sim::{
    Farm, FarmBuilder, Http, Impairments, Job, LanId, Node, Observer, Outbox, Request, Sighting,
};
use std::time::Duration;

const IPV4: u16 = 0x0800;
const ARP: u16 = 0x0806;
const SERVERS: usize = 3;
const ROUTER: (MacAddr, Ipv4Addr) = (
    MacAddr([2, 0, 0, 0, 0xd, 0xfe]),
    Ipv4Addr::new(10, 66, 0, 1),
);

/// Gives a server a Port C.
fn add_port_c(index: usize, config: &mut Config, responses: bool) {
    let (hardware, address) = ServerAddresses::of(index).c;
    let gateway = responses.then_some(ROUTER.1);
    config.port_c = Some(PortC {
        port: PortA {
            gateway,
            ..PortA::new(hardware, vec![address], PREFIX)
        },
        responses,
    });
}

fn farm(responses: bool) -> FarmBuilder {
    Farm::builder()
        .servers(SERVERS)
        .policy(PolicyKind::RoundRobin)
        .concurrency(2)
        .configure(move |index, config| {
            add_port_c(index, config, responses);
            if !responses {
                let second = Listen {
                    address: SocketAddrV4::new(ServerAddresses::of(index).c.1, HTTP),
                    ..config.listen[0].clone()
                };
                config.listen.push(second);
            }
        })
}

/// Who has sent TCP on which LAN.
#[derive(Default)]
struct Senders {
    lans: Vec<(LanId, MacAddr)>,
}

impl Observer for Senders {
    fn sent(&mut self, sighting: &Sighting<'_>) {
        let Ok((ethernet, packet)) = Ethernet::parse(sighting.frame) else {
            return;
        };
        let seen = (sighting.lan, ethernet.source);
        // The protocol of an IPv4 header: TCP.
        if ethernet.ethertype == IPV4 && packet.get(9) == Some(&6) && !self.lans.contains(&seen) {
            self.lans.push(seen);
        }
    }
}

#[test]
fn clients_of_two_lans_are_served_by_all() {
    let rough = Impairments {
        loss: 0.02,
        duplication: 0.02,
        reordering: 0.02,
        hold_back: Duration::from_millis(2),
        ..Impairments::default()
    };
    let mut farm = farm(false)
        .clients(6)
        // Half of the clients are on LAN C. The check of owners knows LAN A alone.
        .check_owner(false)
        .impairments(rough)
        .configure_client(|index, config| {
            if index % 2 == 1 {
                let [.., host] = config.address.octets();
                config.lan = Port::C;
                config.address = Ipv4Addr::new(10, 66, 0, host);
            }
        })
        .workload(|client| {
            Box::new((0..20).map(move |number| {
                let server = ServerAddresses::of(number % SERVERS);
                let address = if client % 2 == 1 {
                    server.c.1
                } else {
                    server.a.1
                };
                let script = Http::new([
                    Request::name(),
                    Request::download(30_000, number as u64),
                    Request::upload(5_000, number as u64),
                ]);
                Job {
                    not_before: Instant::from_millis(1_500),
                    ..Job::new(SocketAddrV4::new(address, HTTP), script)
                }
            }))
        })
        .build()
        .unwrap();
    let outcome = farm.run();
    let wrong = farm.records().find(|r| r.exchange.result.is_err());
    assert_eq!((outcome.errors, wrong), (0, None));
    for client in 0..6 {
        let log = farm.client(client).unwrap().log();
        assert_eq!(log.records().len(), 60);
        for server in ["s1", "s2", "s3"] {
            let by = |r: &&ipos_sim::Record| r.exchange.result.as_deref() == Ok(server);
            let served = log.records().iter().filter(by).count();
            assert!(served > 0, "client {client} was never served by {server}");
        }
    }
}

/// A router between LAN C and LAN A (FIG. 2C: router A), for packets from servers to clients.
struct Router;

impl Node for Router {
    fn handle_frame(&mut self, _: Instant, port: usize, frame: &[u8], out: &mut Outbox) {
        let Ok((ethernet, packet)) = Ethernet::parse(frame) else {
            return;
        };
        match ethernet.ethertype {
            ARP if port == 0 => {
                let arp = etherparse::ArpPacketSlice::from_slice(packet).unwrap();
                let arp = arp.to_packet().try_eth_ipv4().unwrap();
                if arp.target_ipv4_addr() == ROUTER.1 {
                    let reply = etherparse::ArpEthIpv4Packet {
                        operation: etherparse::ArpOperation::REPLY,
                        sender_mac: ROUTER.0.0,
                        sender_ipv4: ROUTER.1.octets(),
                        target_mac: arp.sender_mac,
                        target_ipv4: arp.sender_ipv4,
                    };
                    let head = Ethernet {
                        destination: ethernet.source,
                        source: ROUTER.0,
                        ethertype: ARP,
                    };
                    out.send(0, &head.to_bytes(), &reply.to_bytes());
                }
            }
            IPV4 if port == 0 && ethernet.destination == ROUTER.0 => {
                let [.., host] = packet[16..20] else { return };
                let (hardware, address) = client(usize::from(host) - 100);
                assert_eq!(address.octets(), packet[16..20]);
                let head = Ethernet {
                    destination: hardware,
                    source: ROUTER.0,
                    ethertype: IPV4,
                };
                out.send(1, &head.to_bytes(), &frame[ETHERNET_LEN..]);
            }
            _ => {}
        }
    }

    fn handle_timeout(&mut self, _: Instant, _: &mut Outbox) {}

    fn poll_timeout(&self) -> Option<Instant> {
        None
    }
}

#[test]
fn responses_leave_by_port_c() {
    let senders = Arc::new(Mutex::new(Senders::default()));
    let mut farm = farm(true)
        .requests(120)
        .check_owner(false)
        .observer(senders.clone())
        .build()
        .unwrap();
    farm.add_guest(Router, &[Port::C, Port::A]);
    let outcome = farm.run();
    let wrong = farm.records().find(|r| r.exchange.result.is_err());
    assert_eq!((outcome.errors, wrong), (0, None));
    let moved: u64 = outcome.servers.iter().map(|s| s.migrated_in).sum();
    assert!(moved > 20, "{moved} connections moved");
    let senders = senders.lock().unwrap();
    for server in (0..SERVERS).map(ServerAddresses::of) {
        let sent = |port: Port, hardware| senders.lans.contains(&(port.into(), hardware));
        assert!(
            sent(Port::C, server.c.0),
            "{} answers by Port C",
            server.name
        );
        assert!(
            !sent(Port::A, server.a.0),
            "{} is silent on Port A",
            server.name
        );
    }
}
