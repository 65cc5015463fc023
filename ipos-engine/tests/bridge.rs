//! The bridge between endpoints and applications: one server, one client, an application on the kernel's TCP.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use ipos_core::Device;
use ipos_engine::{Application, Engine, Options, clock};
use support::client::{Client, State};
use support::cord::cord;
use support::{Server, address, config, engine, pattern, ports};

/// A server behind a client; the ends of Port B and the Synch Port are held open.
fn farm(application: SocketAddr) -> (Server, Client, [UnixDatagram; 2]) {
    let ((a, far_a), (b, far_b), (synch, far_synch)) = (cord(), cord(), cord());
    let server = Server::start(config(1), [a, b, synch], application);
    (server, Client::new(vec![far_a]), [far_b, far_synch])
}

/// An application that serves one connection.
fn application<T: Send + 'static>(
    serve: impl FnOnce(TcpStream) -> T + Send + 'static,
) -> (SocketAddr, JoinHandle<T>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (
        address,
        thread::spawn(move || serve(listener.accept().unwrap().0)),
    )
}

#[test]
fn bytes_and_half_closes_pass_both_ways() {
    let (app, served) = application(|mut stream| {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        stream.write_all(&pattern(100_000)).unwrap();
        request
    });
    let (server, mut client, _ends) = farm(app);
    client.connect(address(1));
    client.send(b"a request that ends with the client's side");
    client.close();
    assert_eq!(client.receive_all(), pattern(100_000));
    assert_eq!(
        client.join(served),
        b"a request that ends with the client's side"
    );
    let (statistics, counters) = server.stop();
    assert_eq!((counters.local, statistics.refused), (1, 0));
}

#[test]
fn an_application_is_told_who_its_client_is() {
    let (app, served) = application(|mut stream| {
        // Before the client has said anything.
        let mut header = [0; 28];
        stream.read_exact(&mut header).unwrap();
        stream.write_all(b"welcome").unwrap();
        let mut request = Vec::new();
        stream.read_to_end(&mut request).unwrap();
        (header, request)
    });
    let ((a, far_a), (b, _far_b), (synch, _far_synch)) = (cord(), cord(), cord());
    let _server = Server::start_with(move || {
        let mut config = config(1);
        config.limits.request_deadline = Duration::from_millis(10);
        let ports = ports(&config, [a, b, synch], |_| {});
        let device = Device::new(config, clock::now()).unwrap();
        let application = Application::Proxied(app);
        Engine::new(device, ports, vec![application], Options::default()).unwrap()
    });
    let mut client = Client::new(vec![far_a]);
    client.connect(address(1));
    client.until("welcome", |socket| (socket.recv_queue() == 7).then_some(()));
    client.send(&pattern(100_000));
    client.close();
    let (header, request) = client.join(served);
    assert_eq!(header[..16], *b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c");
    assert_eq!(header[16..24], [10, 77, 0, 200, 10, 77, 0, 1]);
    assert_eq!(header[26..], [0, 80]);
    assert_eq!(request, pattern(100_000));
}

#[test]
fn the_application_may_close_first() {
    let (app, served) = application(|mut stream| {
        let mut head = [0; 5];
        stream.read_exact(&mut head).unwrap();
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        rest
    });
    let (_server, mut client, _ends) = farm(app);
    client.connect(address(1));
    client.send(b"hello");
    assert_eq!(client.receive_all(), b"bye");
    client.send(b"more");
    client.close();
    assert_eq!(client.join(served), b"more");
    client.until("end", |socket| {
        matches!(socket.state(), State::Closed | State::TimeWait).then_some(())
    });
}

#[test]
fn a_client_that_leaves_its_half_open_is_not_kept() {
    let (app, served) = application(|mut stream| {
        let mut head = [0; 5];
        stream.read_exact(&mut head).unwrap();
        stream.write_all(b"bye").unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        stream.read_to_end(&mut Vec::new())
    });
    let ((a, far_a), (b, _far_b), (synch, _far_synch)) = (cord(), cord(), cord());
    let options = Options {
        half_close: Duration::from_millis(10),
        ..Options::default()
    };
    let _server = Server::start_with(move || engine(config(1), [a, b, synch], app, options));
    let mut client = Client::new(vec![far_a]);
    client.connect(address(1));
    client.send(b"hello");
    assert_eq!(client.receive_all(), b"bye");
    assert_eq!(client.join(served).unwrap(), 0);
}

#[test]
fn a_slow_application_closes_the_client_s_window() {
    let size = 8 * 1024 * 1024;
    let (app, served) = application(move |mut stream| {
        let mut all = Vec::new();
        // Reads nothing until the client cannot send any more.
        thread::sleep(Duration::from_millis(300));
        stream.read_to_end(&mut all).unwrap();
        all
    });
    let (server, mut client, _ends) = farm(app);
    client.connect(address(1));
    client.send(&pattern(size));
    client.close();
    assert_eq!(client.join(served), pattern(size));
    assert_eq!(
        server.stop().1.dropped(ipos_core::DropReason::RequestFull),
        0
    );
}

#[test]
fn a_slow_client_stops_the_application() {
    let size = 8 * 1024 * 1024;
    let (app, served) = application(move |mut stream| {
        let mut head = [0; 1];
        stream.read_exact(&mut head).unwrap();
        // The endpoint, two socket buffers: all are full long before 8 MiB.
        stream.set_nonblocking(true).unwrap();
        let body = pattern(size);
        let mut written = 0;
        let mut blocked = 0;
        while written < size {
            match stream.write(&body[written..]) {
                Ok(taken) => written += taken,
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    blocked += 1;
                    thread::sleep(Duration::from_millis(1));
                }
                Err(error) => panic!("{error}"),
            }
        }
        blocked
    });
    let (_server, mut client, _ends) = farm(app);
    client.connect(address(1));
    client.send(b"?");
    thread::sleep(Duration::from_millis(200));
    assert_eq!(client.receive_all(), pattern(size));
    assert!(client.join(served) > 0, "the application was never stopped");
}

#[test]
fn a_client_s_reset_reaches_the_application() {
    let (app, served) = application(|mut stream| {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).unwrap();
        stream.write_all(b"!").unwrap();
        stream.read_exact(&mut byte).unwrap_err().kind()
    });
    let (_server, mut client, _ends) = farm(app);
    client.connect(address(1));
    client.send(b"?");
    client.until("answer", |socket| socket.can_recv().then_some(()));
    client.abort();
    client.until("reset", |socket| {
        (socket.state() == State::Closed).then_some(())
    });
    assert_eq!(client.join(served), ErrorKind::ConnectionReset);
}

#[test]
fn an_application_s_reset_reaches_the_client() {
    let (app, served) = application(|mut stream| {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).unwrap();
        socket2::SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    });
    let (_server, mut client, _ends) = farm(app);
    client.connect(address(1));
    client.send(b"?");
    client.until("reset", |socket| {
        (socket.state() == State::Closed).then_some(())
    });
    client.join(served);
}

#[test]
fn an_application_that_is_not_there_resets_the_client() {
    // A port that was free a moment ago.
    let app = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .unwrap()
        .local_addr()
        .unwrap();
    let (server, mut client, _ends) = farm(app);
    for _ in 0..2 {
        client.connect(address(1));
        client.until("open", |socket| socket.may_send().then_some(()));
        client.send(b"?");
        client.until("reset", |socket| {
            (socket.state() == State::Closed).then_some(())
        });
    }
    assert_eq!(server.stop().0.refused, 2);
}

#[test]
fn stopping_resets_what_is_open() {
    let (app, served) = application(|mut stream| {
        let mut byte = [0; 1];
        stream.read_exact(&mut byte).unwrap();
        stream.write_all(b"!").unwrap();
        stream.read_exact(&mut byte).unwrap_err().kind()
    });
    let (server, mut client, [_, synch]) = farm(app);
    client.connect(address(1));
    client.send(b"?");
    client.until("answer", |socket| socket.can_recv().then_some(()));
    let (statistics, _) = server.stop();
    assert_eq!(statistics.bridges, 0);
    client.until("reset", |socket| {
        (socket.state() == State::Closed).then_some(())
    });
    assert_eq!(client.join(served), ErrorKind::ConnectionReset);
    // The server has said who it is, and at last that it leaves.
    let frames = std::iter::from_fn(|| {
        let mut frame = [0; 1514];
        synch.recv(&mut frame).ok().map(|len| frame[..len].to_vec())
    });
    assert!(frames.count() >= 2);
}
