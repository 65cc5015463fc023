//! Applications in the engine's process: one server, one client, and an application on a thread that polls its sockets.

mod support;

use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use ipos_core::Device;
use ipos_engine::socket::{Ended, SocketLimits, listen};
use ipos_engine::{Engine, EngineError, Options, clock};
use ipos_proto::Protocol;
use support::client::{Client, State, take};
use support::cord::cord;
use support::sockets::*;
use support::{address, config, pattern, ports};

#[test]
fn bytes_and_half_closes_pass_both_ways() {
    let (server, mut client, served, _ends) = one(|socket| {
        let request = read_to_end(&socket);
        write(&socket, &pattern(300_000));
        socket.shutdown();
        let after = wait(|context| socket.poll_write(context, b"!"));
        assert_eq!(after.unwrap_err().kind(), ErrorKind::BrokenPipe);
        (request, socket.peer_addr(), socket.local_addr())
    });
    client.connect(address(1));
    client.send(&pattern(200_000));
    client.close();
    assert_eq!(client.receive_all(), pattern(300_000));
    let (request, peer, local) = client.join(served);
    assert_eq!(request, pattern(200_000));
    assert_eq!(
        (peer.ip().to_string(), local),
        ("10.77.0.200".into(), address(1).into())
    );
    let (statistics, counters) = server.stop();
    assert_eq!(
        (counters.local, statistics.refused, statistics.sockets),
        (1, 0, 0)
    );
}

#[test]
fn the_application_may_close_first() {
    let (_server, mut client, served, _ends) = one(|socket| {
        read_exact(&socket, 5);
        write(&socket, b"bye");
        socket.shutdown();
        read_to_end(&socket)
    });
    open(&mut client);
    client.send(b"hello");
    assert_eq!(client.receive_all(), b"bye");
    client.send(&pattern(100_000));
    client.close();
    assert_eq!(client.join(served), pattern(100_000));
    client.until("end", |socket| {
        matches!(socket.state(), State::Closed | State::TimeWait).then_some(())
    });
}

#[test]
fn a_dropped_socket_still_says_what_was_written() {
    let (_server, mut client, served, _ends) = one(|socket| {
        read_exact(&socket, 5);
        write(&socket, &pattern(1_000_000));
    });
    open(&mut client);
    client.send(b"hello");
    assert_eq!(client.receive_all(), pattern(1_000_000));
    client.join(served);
    let state = client.until("state", |socket| Some(socket.state()));
    assert_eq!(state, State::CloseWait, "FIN, not RST");
    client.close();
    client.until("end", |socket| {
        (socket.state() == State::Closed).then_some(())
    });
}

#[test]
fn a_socket_dropped_with_unread_bytes_resets() {
    let (_server, mut client, served, _ends) = one(|socket| {
        read_exact(&socket, 1);
    });
    open(&mut client);
    client.send(b"hello");
    client.join(served);
    client.until("reset", |socket| {
        (socket.state() == State::Closed).then_some(())
    });
}

#[test]
fn an_aborted_socket_resets() {
    let (_server, mut client, served, _ends) = one(|socket| {
        read_exact(&socket, 5);
        socket.abort();
    });
    open(&mut client);
    client.send(b"hello");
    client.join(served);
    client.until("reset", |socket| {
        (socket.state() == State::Closed).then_some(())
    });
}

#[test]
fn a_client_s_reset_comes_after_what_it_said() {
    let (_server, mut client, served, _ends) = one(|socket| {
        read_exact(&socket, 1);
        write(&socket, b"!");
        thread::sleep(Duration::from_millis(100));
        let rest = read_exact(&socket, 4);
        let error = read(&socket, &mut [0]).unwrap_err();
        let written = wait(|context| socket.poll_write(context, b"?")).unwrap_err();
        assert_eq!(written.kind(), error.kind());
        (rest, error)
    });
    open(&mut client);
    client.send(b"12345");
    client.until("answer", |socket| socket.can_recv().then_some(()));
    client.abort();
    client.until("reset", |socket| {
        (socket.state() == State::Closed).then_some(())
    });
    let (rest, error) = client.join(served);
    assert_eq!(
        (&rest[..], error.kind(), ended(&error)),
        (&b"2345"[..], ErrorKind::ConnectionReset, Ended::Reset)
    );
}

#[test]
fn a_slow_application_closes_the_client_s_window() {
    let size = 8 * 1024 * 1024;
    let limits = SocketLimits {
        receive: 10_000,
        ..SocketLimits::default()
    };
    let read_so_far = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&read_so_far);
    let (_server, mut client, served, _ends) = farm(limits, move |listener| {
        let socket = accept(&listener);
        thread::sleep(Duration::from_millis(300));
        let (mut all, mut bytes) = (Vec::new(), [0; 7_001]);
        loop {
            let read = read(&socket, &mut bytes).unwrap();
            counter.fetch_add(read, Ordering::Relaxed);
            all.extend_from_slice(&bytes[..read]);
            if read == 0 {
                return all;
            }
        }
    });
    client.connect(address(1));
    let (bytes, mut sent, mut ahead) = (pattern(size), 0, 0);
    client.until("send", |socket| {
        if socket.can_send() {
            sent += socket.send_slice(&bytes[sent..]).unwrap();
        }
        ahead = ahead.max(sent - read_so_far.load(Ordering::Relaxed));
        (sent == size).then_some(())
    });
    client.close();
    assert_eq!(client.join(served), bytes);
    // And what was read, but not counted yet.
    let buffers = limits.receive + server_buffers().0 + 64 * 1024 + 7_001;
    assert!(
        ahead <= buffers,
        "{ahead} bytes were under way, all buffers hold {buffers}"
    );
}

/// What an endpoint's buffers hold: received, to be sent.
fn server_buffers() -> (usize, usize) {
    let tcp = config(1).tcp;
    (tcp.receive_buffer, tcp.send_buffer)
}

#[test]
fn a_slow_client_stops_the_application() {
    let size = 100 * 1024 * 1024;
    let received = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&received);
    let (_server, mut client, served, _ends) = one(move |socket| {
        read_exact(&socket, 1);
        let block = pattern(1 << 20);
        let (mut written, mut ahead) = (0, 0);
        while written < size {
            let from = written % block.len();
            written += wait(|context| socket.poll_write(context, &block[from..])).unwrap();
            ahead = ahead.max(written - counter.load(Ordering::Relaxed));
        }
        ahead
    });
    open(&mut client);
    client.send(b"?");
    thread::sleep(Duration::from_millis(200));
    let block = pattern(1 << 20);
    let (mut at, mut bytes) = (0, Vec::new());
    client.until("all", |socket| {
        bytes.clear();
        take(socket, &mut bytes);
        for &byte in &bytes {
            assert_eq!(byte, block[at % block.len()], "byte {at}");
            at += 1;
        }
        received.store(at, Ordering::Relaxed);
        (at == size).then_some(())
    });
    let ahead = client.join(served);
    let buffers = SocketLimits::default().send + server_buffers().1 + 2 * 64 * 1024;
    assert!(
        ahead <= buffers,
        "{ahead} bytes were under way, all buffers hold {buffers}"
    );
}

#[test]
fn stopping_ends_everything() {
    let (server, mut client, served, _ends) = farm(SocketLimits::default(), |listener| {
        let socket = accept(&listener);
        read_exact(&socket, 1);
        write(&socket, b"!");
        let error = read(&socket, &mut [0]).unwrap_err();
        (
            error,
            wait(|context| listener.poll_accept(context)).unwrap_err(),
        )
    });
    open(&mut client);
    client.send(b"?");
    client.until("answer", |socket| socket.can_recv().then_some(()));
    assert_eq!(server.stop().0.sockets, 0);
    client.until("reset", |socket| {
        (socket.state() == State::Closed).then_some(())
    });
    for error in <[_; 2]>::from(client.join(served)) {
        assert_eq!(
            (error.kind(), ended(&error)),
            (ErrorKind::NetworkDown, Ended::Stopped)
        );
    }
}

#[test]
fn the_deadline_of_a_drain_ends_what_is_left() {
    let (server, mut client, served, _ends) = one(|socket| {
        read_exact(&socket, 1);
        write(&socket, b"!");
        read(&socket, &mut [0]).unwrap_err()
    });
    open(&mut client);
    client.send(b"?");
    client.until("answer", |socket| socket.can_recv().then_some(()));
    server.ask(|operator| operator.drain(Some(Duration::from_millis(1))));
    client.until("reset", |socket| {
        (socket.state() == State::Closed).then_some(())
    });
    assert_eq!(ended(&client.join(served)), Ended::Stopped);
}

#[test]
fn what_finds_no_room_waits() {
    let limits = SocketLimits {
        backlog: 1,
        ..SocketLimits::default()
    };
    let (go, told) = std::sync::mpsc::channel::<()>();
    let (server, mut client, served, _ends) = farm(limits, move |listener| {
        told.recv().unwrap();
        // Those that nobody waits for any more, and one that does.
        let mut byte = [0];
        loop {
            let socket = accept(&listener);
            if matches!(read(&socket, &mut byte), Ok(1)) && byte == *b"3" {
                write(&socket, b"3");
                return read(&socket, &mut [0]).unwrap();
            }
        }
    });
    for request in [b"1", b"2", b"3"] {
        open(&mut client);
        client.send(request);
    }
    go.send(()).unwrap();
    let mut received = Vec::new();
    client.until("answer", |socket| {
        take(socket, &mut received);
        (received == b"3").then_some(())
    });
    client.close();
    assert_eq!(client.join(served), 0);
    assert_eq!(server.stop().0.refused, 0);
}

#[test]
fn without_a_listener_connections_are_reset() {
    let ((a, far_a), (b, _far_b), (synch, _far_synch)) = (cord(), cord(), cord());
    let (listener, backlog) = listen(SocketLimits::default());
    let options = Options {
        patience: Duration::from_millis(100),
        ..Options::default()
    };
    let server = start(1, |_| {}, [a, b, synch], backlog, options);
    let mut client = Client::new(vec![far_a]);
    // One that waits to be accepted, and one that comes later.
    open(&mut client);
    client.send(b"?");
    drop(listener);
    client.until("reset", |socket| {
        (socket.state() == State::Closed).then_some(())
    });
    open(&mut client);
    client.send(b"?");
    client.until("reset", |socket| {
        (socket.state() == State::Closed).then_some(())
    });
    assert_eq!(server.stop().0.refused, 2);
}

#[test]
fn a_udp_listening_socket_needs_an_address() {
    let ((a, _far_a), (b, _far_b), (synch, _far_synch)) = (cord(), cord(), cord());
    let mut config = config(1);
    config.listen[0].protocol = Protocol::Udp;
    let ports = ports(&config, [a, b, synch], |_| {});
    let device = Device::new(config, clock::now()).unwrap();
    let (_listener, backlog) = listen(SocketLimits::default());
    let error = Engine::new(device, ports, vec![backlog], Options::default());
    assert!(matches!(error.err(), Some(EngineError::Datagrams(at)) if at == address(1)));
}

#[test]
fn a_clone_that_accepts_gets_what_the_other_has_left() {
    let (server, mut client, served, _ends) = farm(SocketLimits::default(), |listener| {
        let other = listener.clone();
        drop(listener);
        let address = other.local_addr();
        let socket = accept(&other);
        write(&socket, &read_exact(&socket, 1));
        read(&socket, &mut [0]).unwrap();
        address
    });
    open(&mut client);
    client.send(b"?");
    let mut received = Vec::new();
    client.until("answer", |socket| {
        take(socket, &mut received);
        (received == b"?").then_some(())
    });
    client.close();
    assert_eq!(client.join(served).unwrap(), address(1).into());
    drop(server);
}

#[test]
fn a_backlog_without_an_engine_is_the_end() {
    let (listener, backlog) = listen(SocketLimits::default());
    assert_eq!(
        listener.local_addr().unwrap_err().kind(),
        ErrorKind::NotConnected
    );
    let accepting = thread::spawn(move || {
        let mut accept = std::pin::pin!(poll_fn(|context| listener.poll_accept(context)));
        wait(|context| accept.as_mut().poll(context)).unwrap_err()
    });
    drop(backlog);
    assert_eq!(ended(&accepting.join().unwrap()), Ended::Stopped);
}
