//! Applications in the engine's process that ask for their connections to move.

mod support;

use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use ipos_core::Device;
use ipos_engine::socket::{Connection, Ended, Socket, SocketLimits, listen};
use ipos_engine::{Engine, Options, clock};
use support::client::{Client, State, take};
use support::cord::cord;
use support::sockets::*;
use support::{Server, address, config, ports, round_robin};

/// Two servers that know each other, with applications that accept on a thread each and send every socket with their number.
struct Pair {
    client: Client,
    _servers: [Server; 2],
}

fn pair(serve: impl Fn(u8, Socket) + Send + Clone + 'static) -> Pair {
    let ((a1, far1), (a2, far2)) = (cord(), cord());
    let ((b1, b2), (synch1, synch2)) = (cord(), cord());
    let servers = [(1, [a1, b1, synch1]), (2, [a2, b2, synch2])].map(|(number, ends)| {
        let (listener, backlog) = listen(SocketLimits::default());
        let balance = |config: &mut ipos_core::Config| {
            // Whoever is reached keeps what nobody moves.
            config.balance.activity_threshold.connections = 100;
        };
        let serve = serve.clone();
        thread::spawn(move || {
            while let Ok(socket) = wait(|context| listener.poll_accept(context)) {
                let serve = serve.clone();
                thread::spawn(move || serve(number, socket));
            }
        });
        start(number, balance, ends, backlog, Options::default())
    });
    Pair {
        client: Client::new(vec![far1, far2]),
        _servers: servers,
    }
}

/// Repeats `request` until another server than the first answers; the answers.
fn until_moved(client: &mut Client, request: &[u8], len: usize) -> Vec<u8> {
    let mut before = None;
    for _ in 0..10_000 {
        client.send(request);
        let mut received = Vec::new();
        client.until("answer", |socket| {
            assert!(socket.may_recv(), "closed");
            take(socket, &mut received);
            (received.len() >= len).then_some(())
        });
        if before.is_some_and(|before| before != received) {
            return received;
        }
        before = Some(received);
        // The servers may not know each other yet, and a connection that has just come stays a while.
        thread::sleep(Duration::from_millis(5));
    }
    panic!("it never moves");
}

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

fn answer(number: u8) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{number}\n").into_bytes()
}

fn other(number: u8) -> String {
    format!("s{}", 3 - number)
}

#[test]
fn a_handler_moves_its_connection() {
    let (tell, told) = std::sync::mpsc::channel();
    let mut pair = pair(move |number, socket| {
        let connection: Connection = socket.connection().clone();
        let mut request = vec![0; REQUEST.len()];
        let mut first = true;
        loop {
            let mut at = 0;
            while at < request.len() {
                match read(&socket, &mut request[at..]) {
                    Ok(0) => return tell.send((number, first, None)).unwrap(),
                    Ok(read) => at += read,
                    Err(error) => return tell.send((number, first, Some(ended(&error)))).unwrap(),
                }
            }
            assert_eq!(request, REQUEST);
            // Before the answer: it moves behind it.
            match number {
                1 => connection.move_to(&other(number)),
                _ => connection.move_to_any(&["nobody".to_owned(), other(number)]),
            }
            write(&socket, &answer(number));
            first = false;
        }
    });
    let client = &mut pair.client;
    open(client);
    // There, and home.
    assert_eq!(until_moved(client, REQUEST, answer(1).len()), answer(2));
    assert_eq!(until_moved(client, REQUEST, answer(1).len()), answer(1));
    for (number, to) in [(1, "s2"), (2, "s1")] {
        let ended = told.recv().unwrap();
        assert_eq!(ended, (number, false, Some(Ended::Moved { to: to.into() })));
    }
    client.close();
    client.receive_all();
}

#[test]
fn an_application_that_is_not_http_tells_when_it_rests() {
    let mut pair = pair(|number, socket| {
        let connection = socket.connection().clone();
        let mut line = [0; 2];
        // The first byte of the pair, then the other one: at rest only between the pairs.
        while read(&socket, &mut line[..1]).is_ok_and(|read| read == 1) {
            connection.move_to(&other(number));
            read_exact(&socket, 1);
            write(&socket, &[b'0' + number]);
            connection.rest();
        }
    });
    open(&mut pair.client);
    assert_eq!(until_moved(&mut pair.client, b"?\n", 1), b"2");
    assert_eq!(until_moved(&mut pair.client, b"?\n", 1), b"1");
}

#[test]
fn a_wish_that_nobody_can_grant_is_refused() {
    let (tell, told) = std::sync::mpsc::channel();
    let (_server, mut client, served, _ends) = one(move |socket| {
        let connection = socket.connection().clone();
        connection.move_to("nobody");
        for _ in 0..2 {
            read_exact(&socket, REQUEST.len());
            write(&socket, &answer(1));
        }
        tell.send(connection.refusal()).unwrap();
    });
    open(&mut client);
    let mut received = Vec::new();
    for _ in 0..2 {
        client.send(REQUEST);
        received.clear();
        client.until("answer", |socket| {
            take(socket, &mut received);
            (received == answer(1)).then_some(())
        });
    }
    client.join(served);
    assert_eq!(
        told.recv().unwrap(),
        Some(ipos_core::MigrateError::UnknownServer)
    );
}

#[test]
fn connections_of_a_server_whose_application_ended_go_to_the_other() {
    let ((a1, far1), (a2, far2)) = (cord(), cord());
    let ((b1, b2), (synch1, synch2)) = (cord(), cord());
    let (gone, backlog1) = listen(SocketLimits::default());
    let (listener, backlog2) = listen(SocketLimits::default());
    let s1 = start(
        1,
        |c| *c = round_robin(1),
        [a1, b1, synch1],
        backlog1,
        Options::default(),
    );
    let _s2 = start(
        2,
        |c| *c = round_robin(2),
        [a2, b2, synch2],
        backlog2,
        Options::default(),
    );
    drop(gone);
    thread::spawn(move || {
        while let Ok(socket) = wait(|context| listener.poll_accept(context)) {
            write(&socket, &read_exact(&socket, 1));
        }
    });
    let mut client = Client::new(vec![far1, far2]);
    for _ in 0..20 {
        open(&mut client);
        client.send(b"?");
        let mut received = Vec::new();
        client.until("answer", |socket| {
            assert_ne!(socket.state(), State::Closed, "reset");
            take(socket, &mut received);
            (received == b"?").then_some(())
        });
    }
    assert_eq!(s1.stop().0.refused, 0);
}

#[test]
fn a_request_that_meets_a_dropped_socket_gets_another() {
    let ((a, far_a), (b, _far_b), (synch, _far_synch)) = (cord(), cord(), cord());
    let (listener, backlog) = listen(SocketLimits::default());
    let config = config(1);
    let ports = ports(&config, [a, b, synch], |_| {});
    let device = Device::new(config, clock::now()).unwrap();
    let mut engine = Engine::new(device, ports, vec![backlog], Options::default()).unwrap();
    let mut client = Client::new(vec![far_a]);
    let mut step = move || engine.step(Some(Duration::from_millis(1))).unwrap();
    client.connect(address(1));
    let mut first = None;
    let mut context = Context::from_waker(Waker::noop());
    client.until("open", |socket| {
        step();
        socket.may_send().then_some(())
    });
    client.send(REQUEST);
    let mut received = Vec::new();
    client.until("answer", |socket| {
        step();
        if first.is_none()
            && let Poll::Ready(accepted) = listener.poll_accept(&mut context)
        {
            let accepted = accepted.unwrap();
            let mut request = vec![0; REQUEST.len()];
            let read = accepted.poll_read(&mut context, &mut request);
            assert!(matches!(read, Poll::Ready(Ok(read)) if read == REQUEST.len()));
            let written = accepted.poll_write(&mut context, &answer(1));
            assert!(matches!(written, Poll::Ready(Ok(_))));
            first = Some(accepted);
        }
        take(socket, &mut received);
        (received == answer(1)).then_some(())
    });
    // The application closes, and the next request comes, before the engine has looked at either.
    drop(first.take());
    client.send(REQUEST);
    let mut polls = 0;
    client.until("sent", |_| {
        polls += 1;
        (polls > 3).then_some(())
    });
    received.clear();
    client.until("second answer", |socket| {
        step();
        if let Poll::Ready(accepted) = listener.poll_accept(&mut context) {
            let accepted = accepted.unwrap();
            let written = accepted.poll_write(&mut context, &answer(2));
            assert!(matches!(written, Poll::Ready(Ok(_))));
            first = Some(accepted);
        }
        take(socket, &mut received);
        (received == answer(2)).then_some(())
    });
    assert_eq!(read_exact(first.as_ref().unwrap(), REQUEST.len()), REQUEST);
}
