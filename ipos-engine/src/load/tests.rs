use std::net::{Ipv4Addr, TcpListener};

use super::*;

#[test]
fn share_of_busy_ticks() {
    assert_eq!(share((10, 100), (35, 150)), 0.5);
    assert_eq!(share((10, 100), (10, 100)), 0.0);
    assert_eq!(share((10, 100), (30, 110)), 1.0);
    assert_eq!(share((10, 100), (9, 90)), 0.0);
}

#[test]
fn free_bandwidth_is_what_the_busier_direction_leaves() {
    let mut bandwidth = Bandwidth::new(1_000_000);
    assert_eq!(
        bandwidth.free(ipos_core::Instant::from_millis(0), [0, 0]),
        1_000_000
    );
    assert_eq!(
        bandwidth.free(ipos_core::Instant::from_millis(100), [1000, 2500]),
        800_000
    );
    assert_eq!(
        bandwidth.free(ipos_core::Instant::from_millis(200), [1_001_000, 2500]),
        0
    );
}

#[test]
fn figures_of_this_host() {
    let mut host = Host::default();
    assert!(host.read().unwrap().is_none());
    let Some(Figures::Host { cpu, free_memory }) = host.read().unwrap() else {
        panic!("no figures")
    };
    assert!((0.0..=1.0).contains(&cpu));
    assert!(free_memory > 0);
}

#[test]
fn finds_the_process_that_listens() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let mut processes = Processes::default();
    let application = Application {
        address: Some(address),
        port: 80,
    };
    processes.discover(&[application]).unwrap();
    let rows = processes.read(Instant::now());
    let row = rows
        .iter()
        .find(|row| row.pid == std::process::id())
        .unwrap();
    assert_eq!(row.port, 80);
    assert!(row.memory > 0);
    drop(listener);
    processes.discover(&[application]).unwrap();
    assert!(processes.read(Instant::now()).is_empty());
}

#[test]
fn an_application_in_this_process_is_this_process() {
    let mut processes = Processes::default();
    let application = Application {
        address: None,
        port: 80,
    };
    processes.discover(&[application]).unwrap();
    let rows = processes.read(Instant::now());
    let rows: Vec<_> = rows.iter().map(|row| (row.pid, row.port)).collect();
    assert_eq!(rows, [(std::process::id(), 80)]);
}

#[test]
fn wildcard_listeners_serve_every_address() {
    let application = SocketAddr::from((Ipv4Addr::LOCALHOST, 8080));
    assert!(serves("0.0.0.0:8080".parse().unwrap(), application));
    assert!(serves("[::]:8080".parse().unwrap(), application));
    assert!(!serves("127.0.0.2:8080".parse().unwrap(), application));
    assert!(!serves("127.0.0.1:8081".parse().unwrap(), application));
}
