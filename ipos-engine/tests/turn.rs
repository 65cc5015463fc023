//! The loop: when it sleeps, what it refuses, and ports without a descriptor.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use ipos_core::{Device, DropReason, Port};
use ipos_engine::{Engine, EngineError, Options, clock};
use support::client::Client;
use support::cord::cord;
use support::{Server, address, config, engine, hardware, ports};

fn nobody() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 9))
}

#[test]
fn an_idle_engine_sleeps() {
    let ((a, _far_a), (b, _far_b), (synch, far_synch)) = (cord(), cord(), cord());
    let mut engine = engine(config(1), [a, b, synch], nobody(), Options::default());
    let (mut steps, mut adverts, mut frame) = (0, 0, [0; 1514]);
    while adverts < 5 {
        engine.step(None).unwrap();
        steps += 1;
        while far_synch.recv(&mut frame).is_ok() {
            adverts += 1;
        }
    }
    // Each advert, each reading of the host's figures, and each deadline that came up to a millisecond early are a few steps.
    assert!(steps < 20 * adverts, "{steps} steps for {adverts} adverts");
}

/// Steps of an engine that nobody sends anything to, in a tenth of a second.
fn steps(linger: Duration) -> u32 {
    let ((a, _far_a), (b, _far_b), (synch, _far_synch)) = (cord(), cord(), cord());
    let options = Options {
        linger,
        ..Options::default()
    };
    let mut engine = engine(config(1), [a, b, synch], nobody(), options);
    let (start, mut steps) = (Instant::now(), 0);
    while start.elapsed() < Duration::from_millis(100) {
        engine.step(Some(Duration::from_millis(10))).unwrap();
        steps += 1;
    }
    steps
}

#[test]
fn an_engine_lingers_as_long_as_it_is_told() {
    let asleep = steps(Duration::ZERO);
    let awake = steps(Duration::MAX);
    assert!(awake > 10 * asleep, "{awake} steps, asleep {asleep}");
}

#[test]
fn an_engine_runs_on_a_processor_that_there_is() {
    let ((a, _far_a), (b, _far_b), (synch, _far_synch)) = (cord(), cord(), cord());
    let options = Options {
        cpu: Some(usize::MAX),
        ..Options::default()
    };
    let mut engine = engine(config(1), [a, b, synch], nobody(), options);
    let error = engine.run().unwrap_err().to_string();
    assert!(error.starts_with("cannot run on processor "), "{error}");
}

#[test]
fn a_step_ends_at_its_limit_and_a_run_when_it_is_told() {
    let ((a, _far_a), (b, _far_b), (synch, _far_synch)) = (cord(), cord(), cord());
    let mut engine = engine(config(1), [a, b, synch], nobody(), Options::default());
    engine.step(Some(Duration::ZERO)).unwrap();
    let stop = engine.stop_handle();
    assert!(!stop.is_stopped());
    let other = stop.clone();
    let thread = thread::spawn(move || other.stop());
    engine.run().unwrap();
    assert!(stop.is_stopped());
    thread.join().unwrap();
    assert!(engine.port_statistics(Port::Synch).transmitted >= 1);
}

#[test]
fn ports_without_a_descriptor_are_asked() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let app = listener.local_addr().unwrap();
    let served = thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        let mut head = [0; 5];
        stream.read_exact(&mut head).unwrap();
        stream.write_all(b"bye").unwrap();
    });
    let ((a, far_a), (b, _far_b), (synch, _far_synch)) = (cord(), cord(), cord());
    let _server = Server::start_with(move || {
        let config = config(1);
        let ports = ports(&config, [a, b, synch], |cord| cord.descriptor = false);
        let device = Device::new(config, clock::now()).unwrap();
        Engine::new(device, ports, vec![app], Options::default()).unwrap()
    });
    let mut client = Client::new(vec![far_a]);
    client.connect(address(1));
    client.send(b"hello");
    assert_eq!(client.receive_all(), b"bye");
    client.join(served);
}

/// A TCP segment from the client to server 1, with a wrong checksum.
fn corrupt() -> Vec<u8> {
    let mut ip = vec![
        0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0, 10, 77, 0, 200, 10, 77, 0, 1,
    ];
    let checksum = ipos_proto::internet_checksum(&ip);
    ip[10..12].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = [hardware(0xa, 1), hardware(0xa, 0)].concat();
    frame.extend_from_slice(&[0x08, 0x00]);
    frame.extend_from_slice(&ip);
    // Ports 40000 and 80, SYN, and a checksum that nobody computed.
    frame.extend_from_slice(&[
        0x9c, 0x40, 0, 80, 0, 0, 0, 1, 0, 0, 0, 0, 0x50, 2, 0xff, 0xff, 0xba, 0xad, 0, 0,
    ]);
    frame
}

/// Gathers a log.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn many_bad_checksums_give_one_advice() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt()
        .with_writer(move || writer.clone())
        .finish();
    let ((a, far_a), (b, _far_b), (synch, _far_synch)) = (cord(), cord(), cord());
    let mut engine = engine(config(1), [a, b, synch], nobody(), Options::default());
    tracing::subscriber::with_default(subscriber, || {
        let lost = |engine: &Engine| {
            engine
                .device()
                .counters()
                .dropped(DropReason::TransportChecksum)
        };
        let said = || String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        while lost(&engine) < 19 {
            far_a.send(&corrupt()).unwrap();
            engine.step(None).unwrap();
        }
        assert!(!said().contains("ethtool"));
        while !said().contains("ethtool -K") {
            let _full = far_a.send(&corrupt());
            engine.step(None).unwrap();
        }
        assert_eq!(
            said().matches("ethtool -K <its interface> tx off").count(),
            1
        );
    });
}

#[test]
fn what_does_not_fit_is_refused() {
    let make = |applications: usize, mtu: u16| {
        let ((a, _), (b, _), (synch, _)) = (cord(), cord(), cord());
        let config = config(1);
        let ports = ports(&config, [a, b, synch], |cord| cord.mtu = mtu);
        let device = Device::new(config, clock::now()).unwrap();
        Engine::new(
            device,
            ports,
            vec![nobody(); applications],
            Options::default(),
        )
        .err()
    };
    assert!(make(1, 1500).is_none());
    let error = make(2, 1500).unwrap();
    assert!(
        matches!(
            error,
            EngineError::Applications {
                listeners: 1,
                applications: 2
            }
        ),
        "{error}"
    );
    let error = make(1, 1400).unwrap();
    assert_eq!(
        error.to_string(),
        "Port A: the device is configured for an MTU of 1500, the interface carries 1400"
    );
}
