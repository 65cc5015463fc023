//! Applications in the engine's process: one server, one client, and an application on a thread that polls its sockets.

mod support;

use std::future::{Future, poll_fn};
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, JoinHandle, Thread};
use std::time::Duration;

use ipos_core::Device;
use ipos_engine::socket::{Backlog, Connection, Ended, Listener, Socket, SocketLimits, listen};
use ipos_engine::{Engine, EngineError, Options, clock};
use ipos_proto::Protocol;
use support::client::{Client, State, take};
use support::cord::cord;
use support::{Server, address, config, pattern, ports, round_robin};

/// Wakes a thread.
struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

/// Blocks until `poll` is ready.
fn wait<T>(mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>) -> T {
    let waker = Waker::from(Arc::new(Unpark(thread::current())));
    loop {
        match poll(&mut Context::from_waker(&waker)) {
            Poll::Ready(value) => return value,
            Poll::Pending => thread::park(),
        }
    }
}

fn accept(listener: &Listener) -> Socket {
    wait(|context| listener.poll_accept(context)).unwrap()
}

fn read(socket: &Socket, buffer: &mut [u8]) -> io::Result<usize> {
    wait(|context| socket.poll_read(context, buffer))
}

fn read_exact(socket: &Socket, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    let mut at = 0;
    while at < len {
        let read = read(socket, &mut bytes[at..]).unwrap();
        assert!(read > 0, "end after {at} of {len} bytes");
        at += read;
    }
    bytes
}

fn read_to_end(socket: &Socket) -> Vec<u8> {
    let (mut all, mut bytes) = (Vec::new(), vec![0; 65_536]);
    loop {
        match read(socket, &mut bytes).unwrap() {
            0 => return all,
            read => all.extend_from_slice(&bytes[..read]),
        }
    }
}

fn write(socket: &Socket, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let taken = wait(|context| socket.poll_write(context, bytes)).unwrap();
        bytes = &bytes[taken..];
    }
}

fn ended(error: &io::Error) -> Ended {
    let inner = error.get_ref().expect("an inner error");
    inner.downcast_ref::<Ended>().expect("why it ended").clone()
}

/// A server with this application.
fn start(
    number: u8,
    change: impl FnOnce(&mut ipos_core::Config),
    ends: [UnixDatagram; 3],
    backlog: Backlog,
    options: Options,
) -> Server {
    let mut config = config(number);
    change(&mut config);
    Server::start_with(move || {
        let ports = ports(&config, ends, |_| {});
        let device = Device::new(config, clock::now()).unwrap();
        Engine::new(device, ports, vec![backlog], options).unwrap()
    })
}

/// A server behind a client, and its application on a thread.
fn farm<T: Send + 'static>(
    limits: SocketLimits,
    serve: impl FnOnce(Listener) -> T + Send + 'static,
) -> (Server, Client, JoinHandle<T>, [UnixDatagram; 2]) {
    let ((a, far_a), (b, far_b), (synch, far_synch)) = (cord(), cord(), cord());
    let (listener, backlog) = listen(limits);
    let server = start(1, |_| {}, [a, b, synch], backlog, Options::default());
    let served = thread::spawn(move || serve(listener));
    (server, Client::new(vec![far_a]), served, [far_b, far_synch])
}

/// The same, with default limits and an application of one connection.
fn one<T: Send + 'static>(
    serve: impl FnOnce(Socket) -> T + Send + 'static,
) -> (Server, Client, JoinHandle<T>, [UnixDatagram; 2]) {
    farm(SocketLimits::default(), |listener| serve(accept(&listener)))
}

/// A connection that is open.
fn open(client: &mut Client) {
    client.connect(address(1));
    client.until("open", |socket| socket.may_send().then_some(()));
}

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

// ---- moves ----

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
