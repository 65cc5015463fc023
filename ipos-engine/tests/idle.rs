//! What an engine costs that has nothing to do. In a process of its own, whose processor time is the engine's.

mod support;

use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ipos_engine::Options;
use procfs::process::Process;
use support::cord::cord;
use support::{config, engine};

/// Processor time of this process, all its threads.
fn spent() -> Duration {
    let stat = Process::myself().unwrap().stat().unwrap();
    Duration::from_secs(stat.utime + stat.stime) / procfs::ticks_per_second() as u32
}

#[test]
fn an_idle_engine_needs_hardly_any_processor_time() {
    let ((a, _far_a), (b, _far_b), (synch, far_synch)) = (cord(), cord(), cord());
    let nobody = SocketAddr::from((Ipv4Addr::LOCALHOST, 9));
    let mut engine = engine(config(1), [a, b, synch], nobody, Options::default());
    let (start, before) = (Instant::now(), spent());
    let (mut adverts, mut frame) = (0, [0; 1514]);
    while start.elapsed() < Duration::from_secs(5) {
        engine.step(None).unwrap();
        while far_synch.recv(&mut frame).is_ok() {
            adverts += 1;
        }
    }
    let share = (spent() - before).as_secs_f64() / start.elapsed().as_secs_f64();
    println!("{:.2} % of a processor, {adverts} adverts", share * 100.0);
    assert!(adverts > 10, "{adverts}");
    // About 1 %; a busy machine may need more.
    assert!(share < 0.05, "{share}");
}
