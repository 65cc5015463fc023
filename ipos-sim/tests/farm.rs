//! Whole farms with real devices.

use ipos_sim::Farm;

#[test]
fn three_hundred_requests() {
    let mut farm = Farm::builder().build().unwrap();
    let done = farm.run_until_done(ipos_core::Instant::from_millis(120_000));
    println!("{done} {}", farm.outcome());
    for record in farm.records().filter(|r| r.exchange.result.is_err()).take(5) {
        println!("{record:?}");
    }
    for v in farm.violations().iter().take(10) { println!("{v:?}"); }
    for i in 0..3 {
        let d = farm.device(i).unwrap();
        println!("{:?}", d.counters().iter().filter(|c| c.1 > 0).collect::<Vec<_>>());
        println!("{:?}", d.tables());
        println!("{:?}", farm.server(i).unwrap().journal().failures.len());
    }
    println!("now {:?}", farm.now());
}
