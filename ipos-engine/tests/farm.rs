//! Two servers and a client: connections move, and their packets are forwarded.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::client::{Client, take};
use support::cord::{cord, pass};
use support::{Server, address, pattern, round_robin};

/// An application that echoes what it gets, behind its name.
fn echo(name: u8) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            thread::spawn(move || {
                stream.write_all(&[name]).unwrap();
                let mut bytes = vec![0; 65_536];
                while let Ok(read @ 1..) = stream.read(&mut bytes) {
                    stream.write_all(&bytes[..read]).unwrap();
                }
            });
        }
    });
    address
}

#[test]
fn what_port_b_does_not_take_is_lost_and_comes_again() {
    let ((a1, far1), (a2, far2)) = (cord(), cord());
    let ((b1, near), (b2, far)) = (cord(), cord());
    let (synch1, synch2) = cord();
    let open = Arc::new(AtomicBool::new(true));
    pass(near, far, Arc::clone(&open));
    let s1 = Server::start(round_robin(1), [a1, b1, synch1], echo(1));
    let _s2 = Server::start(round_robin(2), [a2, b2, synch2], echo(2));
    let mut client = Client::new(vec![far1, far2]);
    // A connection that has moved.
    let mut received = Vec::new();
    while received != [2] {
        received.clear();
        client.connect(address(1));
        client.until("open", |socket| socket.may_send().then_some(()));
        client.send(b"?");
        client.until("name", |socket| {
            take(socket, &mut received);
            (received.len() == 2).then_some(())
        });
        assert_eq!(received.pop(), Some(b'?'));
    }
    open.store(false, Ordering::Relaxed);
    let bytes = pattern(200_000);
    let (mut sent, start) = (0, Instant::now());
    client.until("echo", |socket| {
        if socket.can_send() {
            sent += socket.send_slice(&bytes[sent..]).unwrap();
        }
        if start.elapsed() > Duration::from_millis(100) {
            open.store(true, Ordering::Relaxed);
        }
        take(socket, &mut received);
        (received.len() == 1 + bytes.len()).then_some(())
    });
    assert_eq!(received[1..], bytes);
    s1.stop();
}

#[test]
fn half_of_the_connections_move_and_lose_nothing() {
    let ((a1, far1), (a2, far2)) = (cord(), cord());
    let ((b1, b2), (synch1, synch2)) = (cord(), cord());
    let s1 = Server::start(round_robin(1), [a1, b1, synch1], echo(1));
    let s2 = Server::start(round_robin(2), [a2, b2, synch2], echo(2));
    let mut client = Client::new(vec![far1, far2]);
    // Small requests until the servers know each other and one of them has moved, then large ones.
    let mut request = |size: usize| {
        let bytes = pattern(size);
        client.connect(address(1));
        let (mut sent, mut received) = (0, Vec::new());
        client.until("echo", |socket| {
            if socket.can_send() {
                sent += socket.send_slice(&bytes[sent..]).unwrap();
                if sent == size {
                    socket.close();
                }
            }
            take(socket, &mut received);
            (received.len() > size).then_some(())
        });
        assert_eq!(received[1..], bytes);
        received[0]
    };
    let moved = (0..10_000).any(|_| request(10) == 2);
    assert!(moved, "no connection ever moved");
    let answered: Vec<_> = (0..6).map(|_| request(300_000)).collect();
    assert_eq!(
        answered.iter().filter(|&&server| server == 2).count(),
        3,
        "{answered:?}"
    );
    let ((statistics, counters), (_, other)) = (s1.stop(), s2.stop());
    assert_eq!(counters.migrated_out, other.migrated_in);
    assert!(counters.forwarded > 3 * 300_000 / 1500);
    assert_eq!(statistics.forward_oversize, 0);
}
