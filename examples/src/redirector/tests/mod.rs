//! Tests of the redirector: what it hears, and what it says then.

mod answer;
mod config;
mod redirect;
mod reload;
mod servers;
mod sockets;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use ipos_core::Instant;
use ipos_proto::synch::{
    AddressList, Identity, Listen, Record, State as Load, SynchFlags, SynchKind, SynchWriter,
};
use ipos_proto::{MacAddr, Protocol};

use super::State;
use super::config::{Settings, parse};

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7));

fn settings(text: &str) -> Settings {
    parse(Path::new("redirector.toml"), text).unwrap()
}

/// Whatever answers here begins at 100 s.
fn at(ms: u64) -> Instant {
    Instant::from_millis(100_000 + ms)
}

/// A server that speaks on the Synch LAN.
struct Voice {
    number: u8,
    incarnation: u32,
    sequence: u32,
    flags: SynchFlags,
    /// Port and service of its listening sockets, TCP.
    listen: Vec<(u16, &'static str)>,
    /// Room in a datagram, bytes.
    room: usize,
}

impl Voice {
    /// Server `s<number>` at 10.77.0.<number>, on the Synch LAN 10.99.0.<number>, that offers `web` on port 80.
    fn new(number: u8) -> Voice {
        Voice {
            number,
            incarnation: 1,
            sequence: 0,
            flags: SynchFlags::empty(),
            listen: vec![(80, "web")],
            room: 1_472,
        }
    }

    fn synch(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 99, 0, self.number)
    }

    fn port_a(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, self.number)
    }

    fn report(&mut self, kind: SynchKind, records: &[Record<'_>]) -> Vec<Vec<u8>> {
        self.sequence = self.sequence.wrapping_add(1);
        let (incarnation, sequence) = (self.incarnation, self.sequence);
        let mut writer = SynchWriter::new(kind, self.flags, incarnation, sequence, self.room);
        for record in records {
            writer.push(record).unwrap();
        }
        writer.finish()
    }

    fn high(&mut self, connections: u32) -> Vec<u8> {
        let name = format!("s{}", self.number);
        let load = Record::State(Load {
            connections,
            ..Load::default()
        });
        let identity = Record::Identity(Identity {
            name: &name,
            port_b: Ipv4Addr::new(10, 88, 0, self.number),
            hardware: MacAddr([2, 0, 0, 0, 0, self.number]),
            port_a: AddressList::new(&[self.port_a()]).unwrap(),
        });
        self.report(SynchKind::High, &[load, identity]).remove(0)
    }

    fn medium(&mut self) -> Vec<Vec<u8>> {
        let ip = self.port_a();
        let records: Vec<_> = self
            .listen
            .iter()
            .map(|(port, service)| {
                Record::Listen(Listen {
                    address: std::net::SocketAddrV4::new(ip, *port),
                    protocol: Protocol::Tcp,
                    service,
                })
            })
            .collect();
        self.report(SynchKind::Medium, &records)
    }

    fn leave(&mut self) -> Vec<u8> {
        self.report(SynchKind::Leave, &[]).remove(0)
    }

    /// Says all that there is to say.
    fn speak(&mut self, state: &mut State, now: Instant, connections: u32) {
        let high = self.high(connections);
        state.servers.hear(now, self.synch(), &high).unwrap();
        for part in self.medium() {
            state.servers.hear(now, self.synch(), &part).unwrap();
        }
    }
}

/// The state of a redirector with this configuration that has heard these servers, at `at(0)`.
fn heard(text: &str, voices: &mut [Voice]) -> State {
    let mut state = State::new(at(0), &settings(text), 1);
    for voice in voices {
        voice.speak(&mut state, at(0), 0);
    }
    state
}

/// How long a server is silent at most.
const SILENCE: Duration = Duration::from_millis(500);
