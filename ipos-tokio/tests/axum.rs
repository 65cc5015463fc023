//! axum and plain tokio tasks over devices: one or two servers, and a client on smoltcp's TCP.
#![cfg(feature = "axum")]

#[path = "../../ipos-engine/tests/support/mod.rs"]
mod support;

use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use axum::Router;
use axum::extract::{ConnectInfo, Path};
use axum::routing::{get, post};
use ipos_core::{Config, Device};
use ipos_engine::socket::{Ended, SocketLimits};
use ipos_engine::{Engine, Options, clock};
use ipos_tokio::{Listener, Peer, Stream, listen};
use support::client::{Client, State, take};
use support::cord::cord;
use support::{Server, address, config, pattern, ports};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};

/// A server whose application is in this process.
fn start(config: Config, ends: [UnixDatagram; 3]) -> (Server, Listener) {
    let (listener, backlog) = listen(SocketLimits::default());
    let server = Server::start_with(move || {
        let ports = ports(&config, ends, |_| {});
        let device = Device::new(config, clock::now()).unwrap();
        Engine::new(device, ports, vec![backlog], Options::default()).unwrap()
    });
    (server, listener)
}

/// One server and its client; Port B and the Synch Port lead nowhere.
fn alone() -> (Server, Listener, Client) {
    let ((a, far_a), (b, _), (synch, _)) = (cord(), cord(), cord());
    let (server, listener) = start(config(1), [a, b, synch]);
    (server, listener, Client::new(vec![far_a]))
}

fn open(client: &mut Client) {
    client.connect(address(1));
    client.until("open", |socket| socket.may_send().then_some(()));
}

/// One request; the body of its answer, which must be a success.
fn request(client: &mut Client, head: &str, body: &[u8]) -> Vec<u8> {
    let head = format!(
        "{head} HTTP/1.1\r\nHost: farm\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    client.send(head.as_bytes());
    client.send(body);
    let mut received = Vec::new();
    client.until("answer", |socket| {
        assert!(socket.may_recv(), "closed after {} bytes", received.len());
        take(socket, &mut received);
        let text = String::from_utf8_lossy(&received);
        let (head, _) = text.split_once("\r\n\r\n")?;
        let (body, head) = (head.len() + 4, head.to_ascii_lowercase());
        assert!(head.starts_with("http/1.1 200"), "{head}");
        let (_, length) = head.split_once("content-length: ")?;
        let length: usize = length.lines().next()?.parse().unwrap();
        (received.len() == body + length).then(|| received[body..].to_vec())
    })
}

fn serve(runtime: &Runtime, listener: Listener, router: Router) {
    let service = router.into_make_service_with_connect_info::<Peer>();
    runtime.spawn(async { axum::serve(listener, service).await });
}

#[test]
fn axum_serves_requests_of_one_connection() {
    let (server, listener, mut client) = alone();
    let runtime = Runtime::new().unwrap();
    let who = |ConnectInfo(peer): ConnectInfo<Peer>| async move {
        format!("{} at {}", peer.peer_addr().ip(), peer.local_addr())
    };
    let router = Router::new()
        .route("/", get(who))
        .route(
            "/bytes/{n}",
            get(|Path(n): Path<usize>| async move { pattern(n) }),
        )
        .route(
            "/length",
            post(|body: String| async move { body.len().to_string() }),
        );
    serve(&runtime, listener, router);
    open(&mut client);
    assert_eq!(
        request(&mut client, "GET /", b""),
        b"10.77.0.200 at 10.77.0.1:80"
    );
    assert_eq!(
        request(&mut client, "GET /bytes/3000000", b""),
        pattern(3_000_000)
    );
    assert_eq!(
        request(&mut client, "POST /length", &[b'x'; 1_000_000]),
        b"1000000"
    );
    assert_eq!(server.stop().1.local, 1);
}

#[test]
fn many_connections_come_and_go() {
    let (server, listener, mut client) = alone();
    let runtime = Runtime::new().unwrap();
    serve(
        &runtime,
        listener,
        Router::new().route("/", get(|| async { "hello" })),
    );
    for _ in 0..300 {
        open(&mut client);
        assert_eq!(request(&mut client, "GET /", b""), b"hello");
        client.close();
        client.receive_all();
    }
    let (statistics, counters) = server.stop();
    assert_eq!((statistics.refused, counters.local), (0, 300));
}

#[test]
fn a_handler_moves_its_connection_and_the_client_notices_nothing() {
    let ((a1, far1), (a2, far2)) = (cord(), cord());
    let ((b1, b2), (synch1, synch2)) = (cord(), cord());
    let runtime = Runtime::new().unwrap();
    let servers = [(1, [a1, b1, synch1]), (2, [a2, b2, synch2])].map(|(number, ends)| {
        let mut config = config(number);
        // Whoever is reached keeps what nobody moves.
        config.balance.activity_threshold.connections = 100;
        let (server, listener) = start(config, ends);
        let name = move || async move { format!("s{number}") };
        let go = move |Path(to): Path<String>, ConnectInfo(peer): ConnectInfo<Peer>| async move {
            peer.move_to_any(&[to]);
            format!("s{number}")
        };
        let router = Router::new()
            .route("/", get(name))
            .route("/go/{to}", get(go));
        serve(&runtime, listener, router);
        server
    });
    let mut client = Client::new(vec![far1, far2]);
    open(&mut client);
    for (from, to) in [("s1", "s2"), ("s2", "s1"), ("s1", "s2")] {
        let mut asked = 0;
        // The servers may not know each other yet, and a connection that has just come stays for a while.
        while request(&mut client, "GET /", b"") == from.as_bytes() {
            request(&mut client, &format!("GET /go/{to}"), b"");
            std::thread::sleep(Duration::from_millis(20));
            asked += 1;
            assert!(asked < 1000, "it never moves to {to}");
        }
        assert_eq!(request(&mut client, "GET /", b""), to.as_bytes());
    }
    let [s1, s2] = servers.map(|server| server.stop().1);
    assert_eq!((s1.migrated_out, s1.migrated_in), (2, 1));
    assert_eq!((s2.migrated_out, s2.migrated_in), (1, 2));
}

#[test]
fn both_directions_at_once() {
    let size = 20_000_000;
    let (_server, listener, mut client) = alone();
    let runtime = Runtime::new().unwrap();
    let echo = runtime.spawn(async move {
        let (mut stream, client) = listener.accept().await.unwrap();
        assert_eq!(client, stream.peer_addr());
        let (mut reader, mut writer) = tokio::io::split(&mut stream);
        let copied = tokio::io::copy(&mut reader, &mut writer).await.unwrap();
        writer.shutdown().await.unwrap();
        copied
    });
    open(&mut client);
    let (bytes, mut sent, mut received) = (pattern(size), 0, Vec::new());
    client.until("echo", |socket| {
        if sent < size && socket.can_send() {
            sent += socket.send_slice(&bytes[sent..]).unwrap();
            if sent == size {
                socket.close();
            }
        }
        take(socket, &mut received);
        (received.len() == size).then_some(())
    });
    assert!(received == bytes);
    assert_eq!(client.receive_all(), b"");
    assert_eq!(runtime.block_on(echo).unwrap(), size as u64);
}

#[test]
fn a_graceful_end_answers_what_was_asked() {
    let (_server, listener, mut client) = alone();
    let runtime = Runtime::new().unwrap();
    let (end, ended) = oneshot::channel::<()>();
    let (asked, mut is_asked) = mpsc::channel(1);
    let slow = move || async move {
        asked.send(()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        "answered"
    };
    let service = Router::new().route("/", get(slow)).into_make_service();
    let end_of_server = async { ended.await.unwrap_or_default() };
    let serving = runtime.spawn(async {
        let serve = axum::serve(listener, service);
        serve.with_graceful_shutdown(end_of_server).await
    });
    runtime.spawn(async move {
        is_asked.recv().await.unwrap();
        end.send(()).unwrap();
    });
    open(&mut client);
    assert_eq!(request(&mut client, "GET /", b""), b"answered");
    assert_eq!(client.receive_all(), b"");
    client.close();
    client.until("end", |socket| {
        (socket.state() == State::Closed).then_some(())
    });
    runtime.block_on(serving).unwrap().unwrap();
}

#[test]
fn the_end_of_the_engine_is_an_error() {
    let (server, listener, mut client) = alone();
    let runtime = Runtime::new().unwrap();
    let (up, is_up) = oneshot::channel();
    let served = runtime.spawn(async move {
        let (mut stream, _): (Stream, _) = listener.accept().await.unwrap();
        up.send(()).unwrap();
        let error = stream.read_to_end(&mut Vec::new()).await.unwrap_err();
        (error, listener.accept().await.unwrap_err())
    });
    open(&mut client);
    client.send(b"?");
    client.until("acknowledgment", |socket| {
        (socket.send_queue() == 0).then_some(())
    });
    runtime.block_on(is_up).unwrap();
    server.stop();
    let (read, accepted) = runtime.block_on(served).unwrap();
    for error in [read, accepted] {
        let why = error
            .get_ref()
            .and_then(|inner| inner.downcast_ref::<Ended>());
        assert_eq!(why, Some(&Ended::Stopped));
    }
}
