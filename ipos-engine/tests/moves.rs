//! Connections that move between two requests: servers with applications that speak HTTP, and a client that keeps its
//! connection.

mod support;

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;
use std::thread;
use std::time::Duration;

use ipos_core::Config;
use ipos_engine::Options;
use support::client::{Client, take};
use support::cord::{cord, pass};
use support::http::{MANY, REQUEST, answer, http, open, request};
use support::{Server, address, config, engine, pattern, round_robin};

fn per_request(server: u8) -> Config {
    let mut config = round_robin(server);
    config.balance.per_request = true;
    config
}

#[test]
fn requests_of_one_connection_go_to_both_servers() {
    let ((a1, far1), (a2, far2)) = (cord(), cord());
    let ((b1, b2), (synch1, synch2)) = (cord(), cord());
    let never = Arc::new(AtomicBool::new(false));
    let (app1, ends1) = http(1, Arc::clone(&never));
    let (app2, ends2) = http(2, never);
    let s1 = Server::start(per_request(1), [a1, b1, synch1], app1);
    let s2 = Server::start(per_request(2), [a2, b2, synch2], app2);
    let mut client = Client::new(vec![far1, far2]);
    open(&mut client);
    let (mut requests, mut moves, mut before) = (0, 0, None);
    // There, home, and there again.
    while moves < 3 {
        let name = request(&mut client);
        moves += usize::from(before.is_some_and(|before| before != name));
        before = Some(name);
        requests += 1;
        assert!(requests < MANY, "no connection moves");
    }
    client.close();
    client.receive_all();
    // Each server had the connection twice, and let go of it in order.
    let mut answered = 0;
    for (ends, connections) in [(&ends1, 2), (&ends2, 2)] {
        for _ in 0..connections {
            let (count, error) = client.until("end of a connection", |_| ends.try_recv().ok());
            assert_eq!(error, None);
            answered += count;
        }
    }
    assert_eq!(answered, requests);
    for server in [s1, s2] {
        let (statistics, _) = server.stop();
        assert_eq!((statistics.refused, statistics.bridges), (0, 0));
    }
}

#[test]
fn what_is_not_http_stays() {
    let ((a1, far1), (a2, far2)) = (cord(), cord());
    let ((b1, b2), (synch1, synch2)) = (cord(), cord());
    // Each greets, and then repeats what it is told: moved, a connection would be greeted again.
    let [app1, app2] = [1_u8, 2].map(|name| {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let address = listener.local_addr().unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                stream.write_all(&[name]).unwrap();
                let mut line = [0; 2];
                thread::spawn(move || {
                    while stream.read_exact(&mut line).is_ok() {
                        stream.write_all(&line).unwrap();
                    }
                });
            }
        });
        address
    });
    let _s1 = Server::start(per_request(1), [a1, b1, synch1], app1);
    let _s2 = Server::start(per_request(2), [a2, b2, synch2], app2);
    let mut client = Client::new(vec![far1, far2]);
    let exchange = |client: &mut Client, len: usize| {
        client.send(b"?\n");
        let mut received = Vec::new();
        client.until("answer", |socket| {
            take(socket, &mut received);
            (received.len() >= len).then_some(())
        });
        received
    };
    // Until the servers know each other.
    for _ in 0..MANY {
        open(&mut client);
        if exchange(&mut client, 3) == *b"\x02?\n" {
            break;
        }
    }
    open(&mut client);
    let greeted = exchange(&mut client, 3);
    assert!(greeted == *b"\x01?\n" || greeted == *b"\x02?\n");
    for _ in 0..50 {
        thread::sleep(Duration::from_millis(5));
        assert_eq!(exchange(&mut client, 2), *b"?\n");
    }
}

#[test]
fn an_application_that_closes_while_its_connection_is_offered() {
    let ((a1, far1), (a2, far2)) = (cord(), cord());
    let ((b1, near), (b2, far)) = (cord(), cord());
    let (synch1, synch2) = cord();
    let port_b = Arc::new(AtomicBool::new(true));
    let offers = near.try_clone().unwrap();
    pass(near, far, Arc::clone(&port_b));
    let close = Arc::new(AtomicBool::new(false));
    let (app1, ends1) = http(1, Arc::clone(&close));
    let (app2, _ends2) = http(2, Arc::default());
    let s1 = Server::start(per_request(1), [a1, b1, synch1], app1);
    let _s2 = Server::start(per_request(2), [a2, b2, synch2], app2);
    let mut client = Client::new(vec![far1, far2]);
    let mut received = Vec::new();
    // Until the application has closed before the offer was over: as a rule, the first time.
    for _ in 0..MANY {
        port_b.store(true, Ordering::Relaxed);
        // The servers know each other, and it is server 1's turn.
        for _ in 0..MANY {
            open(&mut client);
            if request(&mut client) == 2 {
                break;
            }
        }
        open(&mut client);
        assert_eq!(request(&mut client), 1);
        while ends1.try_recv().is_ok() {}
        // The next one is server 2's, and cannot get there.
        port_b.store(false, Ordering::Relaxed);
        client.send(REQUEST);
        let mut frame = [0; 1514];
        client.until("offer", |_| {
            let len = offers.recv(&mut frame).ok()?;
            (frame.get(..len)?.get(26) == Some(&0x01)).then_some(())
        });
        close.store(true, Ordering::Relaxed);
        let ended = client.until("end of a connection", |_| ends1.try_recv().ok());
        close.store(false, Ordering::Relaxed);
        received.clear();
        client.until("answer", |socket| {
            assert!(socket.may_recv(), "closed after {} bytes", received.len());
            take(socket, &mut received);
            (received.len() == answer(1).len()).then_some(())
        });
        if ended == (1, None) {
            break;
        }
    }
    assert_eq!(received, answer(1));
    assert_eq!(request(&mut client), 1);
    let (statistics, counters) = s1.stop();
    assert!(counters.unanswered > 0);
    assert_eq!(statistics.refused, 0);
}

#[test]
fn a_request_that_meets_a_closed_connection_gets_another() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let app = listener.local_addr().unwrap();
    let (close, told) = channel::<()>();
    let first = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; REQUEST.len()];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(&answer(1)).unwrap();
        told.recv().unwrap();
        listener
    });
    let ((a, far_a), (b, _far_b), (synch, _far_synch)) = (cord(), cord(), cord());
    let mut engine = engine(config(1), [a, b, synch], app, Options::default());
    let mut client = Client::new(vec![far_a]);
    let mut step = move || engine.step(Some(Duration::from_millis(1))).unwrap();
    client.connect(address(1));
    client.until("open", |socket| {
        step();
        socket.may_send().then_some(())
    });
    client.send(REQUEST);
    let mut received = Vec::new();
    client.until("answer", |socket| {
        step();
        take(socket, &mut received);
        (received.len() == answer(1).len()).then_some(())
    });
    // The application closes, and the next request comes, before the engine has looked at either.
    close.send(()).unwrap();
    let listener = first.join().unwrap();
    client.send(REQUEST);
    let mut polls = 0;
    client.until("sent", |_| {
        polls += 1;
        (polls > 3).then_some(())
    });
    let second = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; REQUEST.len()];
        stream.read_exact(&mut request).unwrap();
        stream.write_all(&pattern(100)).unwrap();
        request
    });
    received.clear();
    client.until("second answer", |socket| {
        step();
        take(socket, &mut received);
        (received.len() == 100).then_some(())
    });
    assert_eq!(received, pattern(100));
    assert_eq!(second.join().unwrap(), REQUEST);
}
