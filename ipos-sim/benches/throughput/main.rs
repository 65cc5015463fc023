//! What bulk transfers cost: a client's smoltcp with a device's TCP, beside the same client with another smoltcp. Both run over the same
//! perfect network in virtual time, so what is measured is work, not waiting.
//!
//! ```text
//! cargo bench -p ipos-sim
//! ```
//!
//! The two lines of a group are to be compared with each other; each holds the network and the client's TCP too.

mod peer;

use std::time::Duration;

use criterion::{
    BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main,
    measurement::WallTime,
};
use ipos_core::{Flow, Instant, ListenerId, Origin, Port};
use ipos_sim::addresses::ServerAddresses;
use ipos_sim::{Application, ExchangeError, Farm, Job, Log, Next, Script, Session, Stream};

use peer::Peer;

/// Bytes of a transfer.
const BYTES: usize = 20_000_000;
/// Buffers of both sides, in bytes.
const BUFFER: usize = 256 * 1024;
/// Bytes written at once.
const PIECE: usize = 16 * 1024;

/// Which way the bytes go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// To the client.
    Download,
    /// From the client.
    Upload,
}

/// One end of a transfer.
pub struct End {
    /// Bytes to be written.
    left: usize,
    /// It begins when something has come.
    waits: bool,
    shut: bool,
}

impl End {
    /// The client's end: it says a word first, as the server is selected for it.
    fn client(way: Way) -> End {
        let left = match way {
            Way::Download => 1,
            Way::Upload => BYTES,
        };
        End {
            left,
            waits: false,
            shut: false,
        }
    }

    /// The server's end.
    fn server(way: Way) -> End {
        let left = match way {
            Way::Download => BYTES,
            Way::Upload => 1,
        };
        End {
            left,
            waits: true,
            shut: false,
        }
    }

    /// Goes on as far as it can; whether both directions are done.
    fn go_on(&mut self, stream: &mut dyn Stream) -> bool {
        loop {
            let bytes = stream.readable().len();
            if bytes == 0 {
                break;
            }
            stream.consume(bytes);
            self.waits = false;
        }
        while self.left > 0 && !self.waits {
            let piece = &[7; PIECE][..self.left.min(PIECE)];
            let taken = stream.write(piece);
            self.left -= taken;
            if taken < piece.len() {
                return false;
            }
        }
        if self.left == 0 && !self.shut {
            stream.shutdown();
            self.shut = true;
        }
        self.shut && stream.is_finished()
    }

    fn poll(&mut self, stream: &mut dyn Stream) -> Next {
        if self.go_on(stream) {
            Next::Close
        } else {
            Next::Wait
        }
    }
}

impl Script for End {
    fn poll(&mut self, _: Instant, stream: &mut dyn Stream, _: &mut Log) -> Next {
        End::poll(self, stream)
    }

    fn failed(&mut self, _: Instant, error: ExchangeError, _: &mut Log) {
        panic!("the transfer failed: {error}");
    }
}

impl Session for End {
    fn poll(&mut self, _: Instant, stream: &mut dyn Stream) -> Next {
        End::poll(self, stream)
    }
}

struct Bulk(Way);

impl Application for Bulk {
    fn accept(&mut self, _: Instant, _: ListenerId, _: Flow, _: Origin) -> Box<dyn Session> {
        Box::new(End::server(self.0))
    }
}

/// A device and a smoltcp peer, and a client that is told to talk to one of them.
fn farm(way: Way, peer: bool) -> Farm {
    let mut farm = Farm::builder()
        .servers(1)
        .clients(1)
        .requests(0)
        .check_owner(false)
        .application(move |_| Box::new(Bulk(way)))
        .configure(|_, config| {
            config.tcp.send_buffer = BUFFER;
            config.tcp.receive_buffer = BUFFER;
        })
        .build()
        .expect("a farm of one server holds");
    farm.add_guest(Peer::new(End::server(way)), &[Port::A]);
    let server = if peer {
        peer::address()
    } else {
        ServerAddresses::of(0).http()
    };
    let job = Job {
        deadline: Duration::from_secs(3_600),
        ..Job::new(server, End::client(way)).with_buffers(BUFFER)
    };
    farm.push(0, job);
    farm
}

fn transfer(group: &mut BenchmarkGroup<'_, WallTime>, name: &str, way: Way, peer: bool) {
    group.bench_function(name, |b| {
        b.iter_batched(
            || farm(way, peer),
            |mut farm| {
                farm.run();
                let lan = farm.lan(Port::A).expect("LAN A is there").statistics();
                assert!(lan.bytes as usize > BYTES, "all bytes went over LAN A");
                farm
            },
            BatchSize::PerIteration,
        );
    });
}

fn throughput(c: &mut Criterion) {
    for (name, way) in [("download", Way::Download), ("upload", Way::Upload)] {
        let mut group = c.benchmark_group(name);
        group.throughput(Throughput::Bytes(BYTES as u64));
        group.sample_size(20);
        transfer(&mut group, "device", way, false);
        transfer(&mut group, "smoltcp", way, true);
        group.finish();
    }
}

criterion_group!(benches, throughput);
criterion_main!(benches);
