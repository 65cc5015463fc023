//! A whole device over veth beside its backends alone, side by side in one run. Needs root.
//!
//! ```text
//! cargo bench -p ipos-engine --bench veth -- [--seconds 1] [--rounds 5] [--flows 1000] [--samples 500]
//! ```
//!
//! *Forward*: clients' packets of connections that another server has, from Port A to Port B, beside a port that gives back what it is sent.
//! *Hand-over*: from a 0x01 to its 0x03, beside a frame that is given back; medians of each round. Each figure is the best of the rounds, which go over all
//! backends in turn.

#[path = "../../ipos-core/tests/common/mod.rs"]
mod common;
#[path = "../../ipos-core/benches/device/flows.rs"]
mod flows;

use std::error::Error;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use clap::Parser;
use flows::{Template, forwarding, shuffled};
use ipos_backend::memory::{Cable, Plan, Side};
use ipos_backend::{Backend, Frame};
use ipos_backend_pnet::{PnetBackend, PnetOptions};
use ipos_backend_xdp::{Memory, MemoryOptions, Mode, XdpBackend, XdpOptions};
use ipos_core::{Config, Device, Port};
use ipos_engine::{Engine, Options, Ports, clock};
use ipos_lab::Pair;
use ipos_proto::MacAddr;

type Failure = Box<dyn Error + Send + Sync>;

/// A whole device over veth beside its backends alone.
#[derive(Clone, Copy, Debug, Parser)]
struct Arguments {
    /// How long each rate is measured.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// How often all measurements are taken.
    #[arg(long, default_value_t = 5)]
    rounds: usize,
    /// Connections in the forward table.
    #[arg(long, default_value_t = 1000)]
    flows: u32,
    /// Hand-overs, and frames that are given back, of each round.
    #[arg(long, default_value_t = 500)]
    samples: u32,
    /// What `cargo bench` says.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, Debug)]
enum Carrier {
    Pnet,
    Xdp(Mode),
}

const CARRIERS: [(&str, Carrier); 3] = [
    ("pnet", Carrier::Pnet),
    ("AF_XDP generic", Carrier::Xdp(Mode::Generic)),
    ("AF_XDP native", Carrier::Xdp(Mode::Native)),
];

/// Frames that wait at an AF_XDP port.
const RING: u32 = 4096;
/// Frames that the source sends at once.
const BURST: usize = 64;
/// How long a receiver waits before it looks at its orders again.
const WAIT: Duration = Duration::from_millis(10);

struct Bench {
    carrier: Carrier,
    memory: Memory,
    arguments: Arguments,
}

/// Frames a second, and medians.
#[derive(Clone, Copy)]
struct Row {
    echo: f64,
    forward: f64,
    round_trip: Duration,
    hand_over: Duration,
}

fn main() -> Result<(), Failure> {
    let arguments = Arguments::parse();
    let mut best = CARRIERS.map(|_| Row {
        echo: 0.0,
        forward: 0.0,
        round_trip: Duration::MAX,
        hand_over: Duration::MAX,
    });
    for _ in 0..arguments.rounds {
        for ((_, carrier), row) in CARRIERS.iter().zip(&mut best) {
            let bench = Bench {
                carrier: *carrier,
                memory: memory()?,
                arguments,
            };
            *row = Row {
                echo: row.echo.max(bench.echo()?),
                forward: row.forward.max(bench.forward()?),
                round_trip: row.round_trip.min(bench.round_trip()?),
                hand_over: row.hand_over.min(bench.hand_over()?),
            };
        }
    }
    println!(
        "{:<16}{:>10}{:>10}{:>14}{:>14}{:>14}{:>12}",
        "thousand/s, us", "echo", "forward", "forward/echo", "round trip", "hand-over", "beyond"
    );
    for ((name, _), row) in CARRIERS.iter().zip(&best) {
        let [trip, hand] = [row.round_trip, row.hand_over].map(|time| time.as_secs_f64() * 1e6);
        println!(
            "{name:<16}{:>10.0}{:>10.0}{:>14.2}{trip:>14.1}{hand:>14.1}{:>12.1}",
            row.echo / 1e3,
            row.forward / 1e3,
            row.forward / row.echo,
            hand - trip,
        );
    }
    Ok(())
}

/// Room for two ports.
fn memory() -> Result<Memory, Failure> {
    Ok(Memory::new(MemoryOptions {
        buffers: 2 * (2 * RING + 256),
        ..MemoryOptions::default()
    })?)
}

/// The configuration of a device whose ports' hardware addresses are those of pairs' ends. Nobody tells it of others for long.
fn changed(a: Side, b: Side) -> impl Fn(u8, &mut Config) {
    move |server, config| {
        let b = if server == 0 { b } else { b.other() };
        config.port_a.hardware = MacAddr(Pair::hardware_address(a));
        config.port_b.hardware = MacAddr(Pair::hardware_address(b));
        config.synch.silence = Duration::from_secs(3600);
    }
}

/// The device's time, which began in memory, is the clock's from now on.
fn catch_up(now: ipos_core::Instant) {
    while clock::now() < now {
        thread::sleep(Duration::from_millis(1));
    }
}

/// A port that nobody is at the other end of.
fn nowhere() -> Result<Box<dyn Backend>, Failure> {
    Ok(Box::new(Cable::new(Plan::default()).open(Side::Near)?))
}

fn engine(device: Device, a: Box<dyn Backend>, b: Box<dyn Backend>) -> Result<Engine, Failure> {
    let synch = nowhere()?;
    let ports = Ports {
        a,
        b,
        synch,
        c: None,
    };
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    Ok(Engine::new(
        device,
        ports,
        vec![nobody],
        Options::default(),
    )?)
}

impl Bench {
    /// The port under test.
    fn open(&self, pair: &Pair, side: Side) -> Result<Box<dyn Backend + Send>, Failure> {
        pair.at(side).run(|| -> Result<_, Failure> {
            let port: Box<dyn Backend + Send> = match self.carrier {
                Carrier::Pnet => {
                    Box::new(PnetBackend::open(Pair::INTERFACE, PnetOptions::default())?)
                }
                Carrier::Xdp(mode) => Box::new(xdp(&self.memory, mode)?),
            };
            Ok(port)
        })?
    }

    /// Frames that a port gives back.
    fn echo(&self) -> Result<f64, Failure> {
        let pair = Pair::new()?;
        let mut port = self.open(&pair, Side::Far)?;
        let addresses = [
            Pair::hardware_address(Side::Near),
            Pair::hardware_address(Side::Far),
        ]
        .concat();
        let mut kept: Vec<Vec<u8>> = Vec::new();
        self.under_load(&pair, || {
            give_back(&mut *port, &addresses, &mut kept)?;
            Ok(port.statistics().transmitted)
        })
    }

    /// Packets that a device passes on.
    fn forward(&self) -> Result<f64, Failure> {
        let (entry, exit) = (Pair::new()?, Pair::new()?);
        let (device, now) = forwarding(self.arguments.flows, changed(Side::Far, Side::Near));
        catch_up(now);
        let (a, b) = (self.open(&entry, Side::Far)?, self.open(&exit, Side::Near)?);
        let mut engine = engine(device, a, b)?;
        self.under_load(&entry, || {
            engine.step(Some(WAIT))?;
            Ok(engine.port_statistics(Port::B).transmitted)
        })
    }

    /// Runs `work`, which counts, while clients' packets are sent into a pair's near end, and what comes back is taken.
    fn under_load(
        &self,
        pair: &Pair,
        mut work: impl FnMut() -> Result<u64, Failure>,
    ) -> Result<f64, Failure> {
        let time = Duration::try_from_secs_f64(self.arguments.seconds)?;
        let memory = memory()?;
        let source = pair.at(Side::Near);
        let mut source = source.run(|| xdp(&memory, Mode::Generic))??;
        let mut next = shuffled(self.arguments.flows);
        let to = MacAddr(Pair::hardware_address(Side::Far));
        let mut packet = Template::new(to, Some(1), &[]);
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let feeding = scope.spawn(|| -> Result<(), Failure> {
                while !stop.load(Ordering::Relaxed) {
                    for _ in 0..BURST {
                        // Full: the flush makes room.
                        let _ = source.transmit(packet.frame(next()), &[]);
                    }
                    source.flush()?;
                    source.receive(4 * BURST, &mut |_| {})?;
                }
                Ok(())
            });
            let mut measure = || -> Result<f64, Failure> {
                let warm = Instant::now();
                while warm.elapsed() < time / 10 {
                    work()?;
                }
                let (before, start) = (work()?, Instant::now());
                let mut after = before;
                while start.elapsed() < time {
                    after = work()?;
                }
                Ok((after - before) as f64 / start.elapsed().as_secs_f64())
            };
            let measured = measure();
            stop.store(true, Ordering::Relaxed);
            feeding.join().map_err(|_| "the source panicked")??;
            measured
        })
    }

    /// The median time until a frame is given back.
    fn round_trip(&self) -> Result<Duration, Failure> {
        let pair = Pair::new()?;
        let mut near = self.open(&pair, Side::Near)?;
        let mut far = self.open(&pair, Side::Far)?;
        let addresses = [
            Pair::hardware_address(Side::Near),
            Pair::hardware_address(Side::Far),
        ]
        .concat();
        let mut frame = [&addresses[6..], &addresses[..6], &[0x88, 0xb5]].concat();
        // As long as a 0x01 with its trailer.
        frame.resize(200, 0);
        self.beside(
            || -> Result<_, Failure> {
                let mut kept = Vec::new();
                Ok(move || give_back(&mut *far, &addresses, &mut kept))
            },
            |samples| median(samples, |_| ask(&mut *near, &frame, |_| {})),
        )
    }

    /// The median time from a 0x01 to its 0x03, which another device answers.
    fn hand_over(&self) -> Result<Duration, Failure> {
        let pair = Pair::new()?;
        let mut near = self.open(&pair, Side::Near)?;
        let far = self.open(&pair, Side::Far)?;
        let (mut giver, other) = flows::pair(changed(Side::Near, Side::Near));
        catch_up(giver.now);
        self.beside(
            || {
                let mut engine = engine(other, nowhere()?, far)?;
                Ok(move || Ok(engine.step(Some(WAIT))?))
            },
            |samples| {
                median(samples, |number| {
                    let offer = giver.offer(number);
                    ask(&mut *near, &offer, |answer| giver.answered(answer))
                })
            },
        )
    }

    /// Measures while a thread of its own does the work that `make` makes.
    fn beside<W: FnMut() -> Result<(), Failure>>(
        &self,
        make: impl FnOnce() -> Result<W, Failure> + Send,
        measure: impl FnOnce(u32) -> Result<Duration, Failure>,
    ) -> Result<Duration, Failure> {
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            let other = scope.spawn(|| -> Result<(), Failure> {
                let mut work = make()?;
                while !stop.load(Ordering::Relaxed) {
                    work()?;
                }
                Ok(())
            });
            let measured = measure(self.arguments.samples);
            stop.store(true, Ordering::Relaxed);
            other.join().map_err(|_| "the other end panicked")??;
            measured
        })
    }
}

fn xdp(memory: &Memory, mode: Mode) -> Result<XdpBackend, Failure> {
    let options = XdpOptions {
        mode,
        ring: RING,
        ..XdpOptions::default()
    };
    Ok(XdpBackend::open(Pair::INTERFACE, memory, &options)?)
}

/// Gives a burst back, from and to these addresses; waits where there is none, as a device does that has nothing else to do.
fn give_back(
    port: &mut dyn Backend,
    addresses: &[u8],
    kept: &mut Vec<Vec<u8>>,
) -> Result<(), Failure> {
    let mut count = 0;
    let taken = port.receive(BURST, &mut |frame: &mut dyn Frame| {
        if kept.len() == count {
            kept.push(Vec::new());
        }
        kept[count].clear();
        kept[count].extend_from_slice(&frame.bytes()[addresses.len()..]);
        count += 1;
    })?;
    for frame in &kept[..count] {
        // Full: lost, as a device's would be.
        let _ = port.transmit(addresses, frame);
    }
    port.flush()?;
    if taken < BURST {
        port.wait(Some(WAIT))?;
    }
    Ok(())
}

/// The time from sending `frame` until something comes back.
fn ask(
    port: &mut dyn Backend,
    frame: &[u8],
    mut answered: impl FnMut(&[u8]),
) -> Result<Duration, Failure> {
    let start = Instant::now();
    port.transmit(frame, &[]).map_err(|_| "no room to send")?;
    port.flush()?;
    while port.receive(BURST, &mut |frame| answered(frame.bytes()))? == 0 {
        if start.elapsed() > Duration::from_secs(1) {
            return Err("no answer".into());
        }
        port.wait(Some(WAIT))?;
    }
    Ok(start.elapsed())
}

fn median(
    samples: u32,
    mut sample: impl FnMut(u32) -> Result<Duration, Failure>,
) -> Result<Duration, Failure> {
    let times: Result<Vec<_>, _> = (0..samples).map(&mut sample).collect();
    let mut times = times?;
    times.sort_unstable();
    times
        .get(times.len() / 2)
        .copied()
        .ok_or("no samples".into())
}
