//! How many frames a second the backends move over veth, side by side in one run. Needs root.
//!
//! ```text
//! cargo run --release -p ipos-backend-xdp --example rates -- [--seconds 1] [--rounds 5] [--len 64] [--ring 4096]
//! ```
//!
//! Each figure is the best of the rounds, which go over all backends in turn, so that a machine's moods hit all of them. *Receive* and
//! *forward* are fed by a thread of their own that sends through an AF_XDP port as fast as it can; *echo* gives back what it is sent.

use std::error::Error;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use ipos_backend::memory::Side;
use ipos_backend::{Backend, Frame};
use ipos_backend_pnet::{PnetBackend, PnetOptions};
use ipos_backend_xdp::{Memory, MemoryOptions, Mode, XdpBackend, XdpOptions};
use ipos_lab::Pair;

type Failure = Box<dyn Error + Send + Sync>;

/// How many frames a second the backends move over veth.
#[derive(Clone, Copy, Debug, Parser)]
struct Arguments {
    /// How long each measurement takes.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// How often all measurements are taken.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Bytes of a frame, 60 to 1,484.
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u16).range(60..=1484))]
    len: u16,
    /// Frames that wait at an AF_XDP port: about as many short ones as a raw socket's buffer holds.
    #[arg(long, default_value_t = 4096)]
    ring: u32,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Carrier {
    Pnet,
    Xdp(Mode),
}

const CARRIERS: [(&str, Carrier); 3] = [
    ("pnet", Carrier::Pnet),
    ("AF_XDP generic", Carrier::Xdp(Mode::Generic)),
    ("AF_XDP native", Carrier::Xdp(Mode::Native)),
];
const MEASURES: [(&str, Measure); 4] = [
    ("receive", receive),
    ("transmit", transmit),
    ("echo", echo),
    ("forward", forward),
];
/// Of two links, what a measurement needs, and how long it takes; frames a second.
type Measure = fn(&Bench) -> Result<f64, Failure>;

struct Bench {
    carrier: Carrier,
    memory: Memory,
    entry: Pair,
    exit: Pair,
    time: Duration,
    len: usize,
    ring: u32,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let mut best = [[0f64; MEASURES.len()]; CARRIERS.len()];
    for _ in 0..arguments.rounds {
        for ((_, carrier), row) in CARRIERS.iter().zip(&mut best) {
            for ((_, measure), best) in MEASURES.iter().zip(row) {
                let bench = Bench {
                    carrier: *carrier,
                    memory: memory(arguments.ring)?,
                    entry: Pair::new()?,
                    exit: Pair::new()?,
                    time: Duration::try_from_secs_f64(arguments.seconds)?,
                    len: arguments.len.into(),
                    ring: arguments.ring,
                };
                *best = best.max(measure(&bench)?);
            }
        }
    }
    print!("{:<16}", "thousand/s");
    MEASURES.iter().for_each(|(name, _)| print!("{name:>10}"));
    println!("{:>16}", "forward/echo");
    for ((name, _), row) in CARRIERS.iter().zip(&best) {
        print!("{name:<16}");
        row.iter().for_each(|rate| print!("{:>10.0}", rate / 1e3));
        println!("{:>16.2}", row[3] / row[2]);
    }
    Ok(())
}

/// Room for two ports.
fn memory(ring: u32) -> Result<Memory, Failure> {
    let options = MemoryOptions {
        buffers: 2 * (2 * ring + 256),
        ..MemoryOptions::default()
    };
    Ok(Memory::new(options)?)
}

impl Bench {
    /// The port under test.
    fn open(&self, pair: &Pair, side: Side) -> Result<Box<dyn Backend + Send>, Failure> {
        pair.at(side).run(|| -> Result<_, Failure> {
            let port: Box<dyn Backend + Send> = match self.carrier {
                Carrier::Pnet => {
                    Box::new(PnetBackend::open(Pair::INTERFACE, PnetOptions::default())?)
                }
                Carrier::Xdp(mode) => Box::new(self.xdp(mode)?),
            };
            Ok(port)
        })?
    }

    fn xdp(&self, mode: Mode) -> Result<XdpBackend, Failure> {
        let options = XdpOptions {
            mode,
            ring: self.ring,
            ..XdpOptions::default()
        };
        Ok(XdpBackend::open(Pair::INTERFACE, &self.memory, &options)?)
    }

    /// Runs `work` for the time of a measurement while frames are sent into the entry's near end, and what comes back is
    /// taken; frames a second that `count` tells.
    fn under_load<P>(
        &self,
        mut port: P,
        mut work: impl FnMut(&mut P) -> Result<(), Failure>,
        count: impl Fn(&P) -> u64,
    ) -> Result<f64, Failure> {
        let memory = memory(1024)?;
        let open = || {
            let options = XdpOptions {
                mode: Mode::Generic,
                ..XdpOptions::default()
            };
            XdpBackend::open(Pair::INTERFACE, &memory, &options)
        };
        let mut source = self.entry.at(Side::Near).run(open)??;
        let frame = self.frame(Side::Far);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let feeding = scope.spawn(|| -> Result<(), Failure> {
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..64 {
                        // Full: the flush makes room.
                        let _ = source.transmit(&frame, &[]);
                    }
                    source.flush()?;
                    source.receive(256, &mut |_| {})?;
                }
                Ok(())
            });
            let measured = self.measure(&mut port, &mut work, &count);
            stop.store(true, Ordering::Relaxed);
            feeding.join().map_err(|_| "the source panicked")??;
            measured
        })
    }

    /// Frames a second, after a tenth of the time has passed.
    fn measure<P>(
        &self,
        port: &mut P,
        work: &mut impl FnMut(&mut P) -> Result<(), Failure>,
        count: &impl Fn(&P) -> u64,
    ) -> Result<f64, Failure> {
        let warm = Instant::now();
        while warm.elapsed() < self.time / 10 {
            work(port)?;
        }
        let (before, start) = (count(port), Instant::now());
        while start.elapsed() < self.time {
            work(port)?;
        }
        Ok((count(port) - before) as f64 / start.elapsed().as_secs_f64())
    }

    /// A frame of the type of Port B, to a side of a link.
    fn frame(&self, to: Side) -> Vec<u8> {
        let mut frame = [
            Pair::hardware_address(to),
            Pair::hardware_address(to.other()),
        ]
        .concat();
        frame.extend([0x88, 0xb5]);
        frame.resize(self.len, 0);
        frame
    }
}

/// Waits for frames, as a device does that has nothing else to do.
fn wait(port: &mut dyn Backend, taken: usize) -> Result<(), Failure> {
    if taken == 0 {
        port.wait(Some(Duration::from_millis(10)))?;
    }
    Ok(())
}

fn receive(bench: &Bench) -> Result<f64, Failure> {
    let port = bench.open(&bench.entry, Side::Far)?;
    let work = |port: &mut Box<dyn Backend + Send>| {
        let taken = port.receive(64, &mut |_| {})?;
        wait(&mut **port, taken)
    };
    bench.under_load(port, work, |port| port.statistics().received)
}

fn transmit(bench: &Bench) -> Result<f64, Failure> {
    let mut port = bench.open(&bench.exit, Side::Near)?;
    let frame = bench.frame(Side::Far);
    let mut work = |port: &mut Box<dyn Backend + Send>| {
        for _ in 0..64 {
            // Full: the flush makes room.
            let _ = port.transmit(&frame, &[]);
        }
        Ok(port.flush()?)
    };
    bench.measure(&mut port, &mut work, &|port| port.statistics().transmitted)
}

fn echo(bench: &Bench) -> Result<f64, Failure> {
    let port = bench.open(&bench.entry, Side::Far)?;
    let addresses = [
        Pair::hardware_address(Side::Near),
        Pair::hardware_address(Side::Far),
    ]
    .concat();
    let mut kept = Vec::with_capacity(64 * bench.len);
    let work = |port: &mut Box<dyn Backend + Send>| {
        kept.clear();
        let taken = port.receive(64, &mut |frame| {
            kept.extend_from_slice(&frame.bytes()[addresses.len()..]);
        })?;
        for frame in kept.chunks(bench.len - addresses.len()) {
            // Full: lost, as a device's would be.
            let _ = port.transmit(&addresses, frame);
        }
        port.flush()?;
        wait(&mut **port, taken)
    };
    bench.under_load(port, work, |port| port.statistics().transmitted)
}

fn forward(bench: &Bench) -> Result<f64, Failure> {
    let ports = [
        bench.open(&bench.entry, Side::Far)?,
        bench.open(&bench.exit, Side::Near)?,
    ];
    // As Port B's: an Ethernet header and 16 bytes.
    let mut headers = bench.frame(Side::Far);
    headers.truncate(30);
    let work = |[entry, exit]: &mut [Box<dyn Backend + Send>; 2]| {
        let taken = entry.receive(64, &mut |frame: &mut dyn Frame| {
            let payload = 14..frame.bytes().len();
            // Full: lost, as a device's would be.
            let _ = exit.forward(frame, &headers, payload);
        })?;
        exit.flush()?;
        wait(&mut **entry, taken)
    };
    bench.under_load(ports, work, |[_, exit]| exit.statistics().transmitted)
}
