//! A cable that loses, reorders and repeats: everything that arrives on one interface leaves by the other, except what chance takes.
//!
//! ```text
//! cargo run --release --example relay -- --between r0 r1 --loss 0.01 --reorder 0.01 --seed 1
//! ```

use std::collections::VecDeque;
use std::os::fd::AsFd;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use clap::Parser;
use ipos_backend::Backend;
use ipos_backend_pnet::{Frames, PnetBackend, PnetOptions};
use ipos_examples::program;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

/// Carries frames between two interfaces, both ways, and loses, delays or repeats some of them.
#[derive(Debug, Parser)]
#[command(name = "relay", allow_negative_numbers = true, version)]
struct Arguments {
    /// The two interfaces.
    #[arg(long, num_args = 2, value_names = ["ONE", "OTHER"], required = true)]
    between: Vec<String>,
    /// Probability that a frame is lost.
    #[arg(long, default_value_t = 0.0, value_parser = probability)]
    loss: f64,
    /// Probability that a frame is held back, so that later ones overtake it.
    #[arg(long, default_value_t = 0.0, value_parser = probability)]
    reorder: f64,
    /// Probability that a frame that is not lost comes twice.
    #[arg(long, default_value_t = 0.0, value_parser = probability)]
    duplicate: f64,
    /// How long a frame is held back, in µs.
    #[arg(long, default_value_t = 500)]
    hold_back: u64,
    /// Seed of the generator.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn probability(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(p) if (0.0..=1.0).contains(&p) => Ok(p),
        _ => Err("must be between 0 and 1".into()),
    }
}

/// Frames held back in one direction at most. Full: the next one is not held back.
const HELD: usize = 1_024;
/// Frames taken in one turn of one direction.
const BURST: usize = 64;

/// One direction.
struct Direction {
    held: VecDeque<(Instant, Vec<u8>)>,
    rng: ChaCha8Rng,
    lost: u64,
    late: u64,
    twice: u64,
    passed: u64,
    /// The outgoing queue was full: lost as on any cable.
    full: u64,
}

impl Direction {
    fn new(seed: u64) -> Direction {
        let rng = ChaCha8Rng::seed_from_u64(seed);
        Direction {
            held: VecDeque::new(),
            rng,
            lost: 0,
            late: 0,
            twice: 0,
            passed: 0,
            full: 0,
        }
    }

    fn chance(&mut self, probability: f64) -> bool {
        f64::from(self.rng.next_u32()) < probability * f64::from(u32::MAX)
    }

    fn send(&mut self, to: &mut PnetBackend, frame: &[u8]) {
        match to.buffer().and_then(|buffer| buffer.get_mut(..frame.len())) {
            Some(room) => {
                room.copy_from_slice(frame);
                to.commit(frame.len());
                self.passed += 1;
            }
            None => self.full += 1,
        }
    }

    /// Carries a burst; whether there may be more.
    fn carry(
        &mut self,
        arguments: &Arguments,
        from: &mut PnetBackend,
        to: &mut PnetBackend,
    ) -> std::io::Result<bool> {
        let now = Instant::now();
        let taken = from.receive(BURST, &mut |frame| {
            let frame = frame.bytes();
            if self.chance(arguments.loss) {
                self.lost += 1;
                return;
            }
            if self.chance(arguments.duplicate) {
                self.twice += 1;
                self.send(to, frame);
            }
            if self.chance(arguments.reorder) && self.held.len() < HELD {
                self.late += 1;
                let until = now + Duration::from_micros(arguments.hold_back);
                self.held.push_back((until, frame.to_vec()));
            } else {
                self.send(to, frame);
            }
        })?;
        while let Some((_, frame)) = self.held.pop_front_if(|(until, _)| *until <= now) {
            self.send(to, &frame);
        }
        to.flush()?;
        Ok(taken == BURST)
    }
}

fn main() -> ExitCode {
    let arguments: Arguments = match program::arguments() {
        Ok(arguments) => arguments,
        Err(status) => return status,
    };
    program::init_logging("info");
    let options = PnetOptions {
        frames: Frames::Arriving,
        receive_buffer: 16 << 20,
    };
    let open = |name: &String| PnetBackend::open(name, options);
    let (one, other) = match (open(&arguments.between[0]), open(&arguments.between[1])) {
        (Ok(one), Ok(other)) => (one, other),
        (Err(error), _) | (_, Err(error)) => return program::fail(error, program::BAD_INPUT),
    };
    match run(&arguments, one, other) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => program::fail(error, 1),
    }
}

fn run(arguments: &Arguments, mut one: PnetBackend, mut other: PnetBackend) -> std::io::Result<()> {
    let end = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&end);
    program::on_interrupt(move || told.store(true, Ordering::Relaxed))?;
    let mut there = Direction::new(arguments.seed);
    let mut back = Direction::new(arguments.seed ^ 1);
    while !end.load(Ordering::Relaxed) {
        let more = there.carry(arguments, &mut one, &mut other)?;
        if back.carry(arguments, &mut other, &mut one)? || more {
            continue;
        }
        let held = there.held.front().into_iter().chain(back.held.front());
        // Whole milliseconds are all that poll knows; a held frame is looked after at once.
        let timeout = if held.count() > 0 {
            PollTimeout::ZERO
        } else {
            PollTimeout::from(100u16)
        };
        let ports = [&one, &other].map(|port| port.readiness());
        let mut wanted: Vec<PollFd<'_>> = ports
            .iter()
            .flatten()
            .map(|fd| PollFd::new(fd.as_fd(), PollFlags::POLLIN))
            .collect();
        match poll(&mut wanted, timeout) {
            Ok(_) | Err(nix::errno::Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
    for (name, way) in [("there", &there), ("back", &back)] {
        let Direction {
            lost,
            late,
            twice,
            passed,
            full,
            ..
        } = way;
        eprintln!(
            "{name}: {passed} passed, {lost} lost, {late} late, {twice} twice, {full} for want of room"
        );
    }
    Ok(())
}
