//! Engines on threads, joined by socket pairs, and a client on smoltcp's TCP.
#![allow(dead_code, reason = "each test program uses its part")]

pub mod client;
pub mod cord;
pub mod http;
pub mod sockets;

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::os::unix::net::UnixDatagram;
use std::sync::mpsc::channel;
use std::thread::{self, JoinHandle};

use ipos_balance::PolicyKind;
use ipos_core::config::{Config, Limits, Listen, PortA, PortB, SynchPort};
use ipos_core::{Counters, Device};
use ipos_engine::{Control, Engine, Operator, Options, Ports, Statistics, Stop, clock};
use ipos_proto::{MacAddr, Protocol};

use cord::Cord;

/// The port that clients connect to.
pub const PORT: u16 = 80;

/// Hardware address of a port: 0xa, 0xb, 0xc, of a server.
pub fn hardware(port: u8, server: u8) -> [u8; 6] {
    [2, 0, 0, 0, port, server]
}

/// What clients of a server connect to.
pub fn address(server: u8) -> SocketAddrV4 {
    SocketAddrV4::new(Ipv4Addr::new(10, 77, 0, server), PORT)
}

/// The configuration of a server.
pub fn config(server: u8) -> Config {
    let mut config = Config::new(
        format!("s{server}"),
        PortA::new(
            MacAddr(hardware(0xa, server)),
            vec![*address(server).ip()],
            24,
        ),
        PortB::new(
            MacAddr(hardware(0xb, server)),
            Ipv4Addr::new(10, 88, 0, server),
        ),
        SynchPort::new(
            MacAddr(hardware(0xc, server)),
            Ipv4Addr::new(10, 99, 0, server),
        ),
    );
    let listen = Listen {
        address: address(server),
        protocol: Protocol::Tcp,
        service: "web".into(),
    };
    config.listen.push(listen);
    config.limits = Limits {
        endpoints: 8,
        ..Limits::default()
    };
    config
}

/// The same, with requests dealt out in turn.
pub fn round_robin(server: u8) -> Config {
    let mut config = config(server);
    config.balance.policy = PolicyKind::RoundRobin;
    config
}

/// An engine on the near ends of three cords.
pub fn engine(
    config: Config,
    ends: [UnixDatagram; 3],
    application: SocketAddr,
    options: Options,
) -> Engine {
    let ports = ports(&config, ends, |_| {});
    let device = Device::new(config, clock::now()).unwrap();
    Engine::new(device, ports, vec![application], options).unwrap()
}

/// Three cords, changed by `change`.
pub fn ports(
    config: &Config,
    [a, b, synch]: [UnixDatagram; 3],
    change: impl Fn(&mut Cord),
) -> Ports {
    let port = |end, MacAddr(hardware)| {
        let mut cord = Cord::new(end, hardware);
        change(&mut cord);
        Box::new(cord)
    };
    Ports {
        a: port(a, config.port_a.hardware),
        b: port(b, config.port_b.hardware),
        synch: port(synch, config.synch.hardware),
        c: None,
    }
}

/// An engine that runs on a thread of its own.
pub struct Server {
    stop: Stop,
    control: Control,
    thread: Option<JoinHandle<(Statistics, Counters)>>,
}

impl Server {
    /// Starts an engine on the near ends of three cords.
    pub fn start(config: Config, ends: [UnixDatagram; 3], application: SocketAddr) -> Server {
        Server::start_with(move || engine(config, ends, application, Options::default()))
    }

    /// Starts the engine that `make` makes.
    pub fn start_with(make: impl FnOnce() -> Engine + Send + 'static) -> Server {
        let (started, start) = channel();
        let thread = thread::spawn(move || {
            let mut engine = make();
            let handles = (engine.stop_handle(), engine.control());
            started.send(handles).unwrap();
            engine.run().unwrap();
            (engine.statistics(), engine.device().counters())
        });
        let (stop, control) = start.recv().unwrap();
        Server {
            stop,
            control,
            thread: Some(thread),
        }
    }

    /// Runs `command` on the engine's thread; what it gave.
    pub fn ask<T: Send + 'static>(
        &self,
        command: impl FnOnce(&mut Operator<'_>) -> T + Send + 'static,
    ) -> T {
        let (answer, answered) = channel();
        let run = move |operator: &mut Operator<'_>| answer.send(command(operator)).unwrap();
        self.control.run(run).unwrap();
        answered.recv().unwrap()
    }

    pub fn control(&self) -> Control {
        self.control.clone()
    }

    /// Stops the engine; what it did.
    pub fn stop(mut self) -> (Statistics, Counters) {
        self.stop.stop();
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

/// `n` bytes that look different everywhere.
pub fn pattern(n: usize) -> Vec<u8> {
    (0..n).map(|i| (i * 31 + i / 251) as u8).collect()
}
