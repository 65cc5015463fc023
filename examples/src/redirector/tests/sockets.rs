//! The redirector on loopback: what clients of every kind get.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::JoinHandle;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::RecordType;
use tokio::sync::oneshot;

use super::super::serve::{Open, open, run};
use super::*;

const SETTINGS: &str = r#"
[synch]
interface = "lo"
interval_ms = 60000

[[http]]
listen = "127.0.0.1:80"

[[group]]
service = "web"

[dns]
listen = "127.0.0.1:53"

[[dns.name]]
name = "www.firstsite.com"
service = "web"
"#;

/// Nothing of a test takes so long unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);

/// A redirector on a thread of its own; it ends when this is dropped.
struct Site {
    http: SocketAddr,
    dns: SocketAddr,
    end: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<std::io::Result<()>>>,
}

/// A port that is free for TCP and UDP.
fn free() -> SocketAddr {
    let mut tries = (0..100).map(|_| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        UdpSocket::bind(address).map(|_| address)
    });
    tries.find_map(Result::ok).expect("one of 100 is free")
}

impl Site {
    /// With one live server, `s11`.
    fn start(limits: &str) -> Site {
        // Another test may have taken a port since it was found free.
        let opened = (0..10).find_map(|_| {
            let [http, dns, synch] = [free(), free(), free()];
            let mut settings = settings(&format!("{SETTINGS}\n{limits}"));
            settings.http[0].listen = http;
            settings.dns.as_mut().unwrap().listen = dns;
            settings.port = synch.port();
            let opened = open(Path::new("test"), settings).ok()?;
            Some((http, dns, synch, opened))
        });
        let (http, dns, synch, opened): (_, _, _, Open) = opened.expect("one of ten opens");
        let (end, ended) = oneshot::channel();
        let thread = std::thread::spawn(move || run(opened, 1, ended, |_| Ok(())));
        let mut voice = Voice::new(11);
        let speaker = UdpSocket::bind("127.0.0.1:0").unwrap();
        for message in [voice.high(0), voice.medium().remove(0)] {
            speaker.send_to(&message, synch).unwrap();
        }
        let site = Site {
            http,
            dns,
            end: Some(end),
            thread: Some(thread),
        };
        let begun = std::time::Instant::now();
        let answer = || site.exchange("GET / HTTP/1.0\r\n\r\n");
        while answer().starts_with("HTTP/1.0 503") {
            assert!(begun.elapsed() < PATIENCE, "the server was not heard");
        }
        site
    }

    fn connect(&self, address: SocketAddr) -> TcpStream {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Sends all of it, and reads until the end.
    fn exchange(&self, request: &str) -> String {
        let mut stream = self.connect(self.http);
        // It may have been refused before its end.
        let _refused = stream.write_all(request.as_bytes());
        let _gone = stream.shutdown(Shutdown::Write);
        rest(&mut stream)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        drop(self.end.take());
        let ended = self.thread.take().map(JoinHandle::join);
        if !std::thread::panicking() {
            assert!(matches!(ended, Some(Ok(Ok(())))), "{ended:?}");
        }
    }
}

/// What comes until the end; a reset is one.
fn rest(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut buffer = [0; 4_096];
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => all.extend(&buffer[..length]),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => break,
            Err(error) => panic!("{error}"),
        }
    }
    String::from_utf8(all).unwrap()
}

/// Reads one answer with its body.
fn one(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    let mut byte = [0];
    while !all.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        all.push(byte[0]);
    }
    let head = String::from_utf8(all).unwrap();
    let length = head
        .lines()
        .find_map(|line| line.strip_prefix("content-length: "));
    let mut body = vec![0; length.map_or(0, |length| length.parse().unwrap())];
    stream.read_exact(&mut body).unwrap();
    head
}

const TO: &str = "location: http://10.77.0.11/x?y\r\n";

#[test]
fn requests_of_every_kind() {
    let site = Site::start("");
    let mut stream = site.connect(site.http);
    for _ in 0..3 {
        stream
            .write_all(b"GET /x?y HTTP/1.1\r\nHost: a\r\n\r\n")
            .unwrap();
        let answer = one(&mut stream);
        assert!(
            answer.starts_with("HTTP/1.1 302 Found\r\n") && answer.contains(TO),
            "{answer}"
        );
    }
    // A body, read and forgotten, then another request on the same connection.
    stream
        .write_all(b"POST /x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello")
        .unwrap();
    assert!(one(&mut stream).starts_with("HTTP/1.1 307 "));
    let chunked =
        "PUT /x?y HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    stream.write_all(chunked.as_bytes()).unwrap();
    assert!(one(&mut stream).starts_with("HTTP/1.1 307 "));
    stream
        .write_all(b"HEAD /x?y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    let head = rest(&mut stream);
    assert!(head.contains(TO) && head.ends_with("\r\n\r\n"), "{head}");

    let old = site.exchange("GET /x?y HTTP/1.0\r\n\r\n");
    assert!(
        old.starts_with("HTTP/1.0 302 ") && old.contains(TO),
        "{old}"
    );
    // Two at once.
    let two = "GET /x?y HTTP/1.1\r\nHost: a\r\n\r\nGET /x?y HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    assert_eq!(site.exchange(two).matches(TO).count(), 2);
}

#[test]
fn heads_that_are_too_long_or_make_no_sense() {
    let site = Site::start("");
    let long = format!(
        "GET / HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
        "x".repeat(17_000)
    );
    assert!(site.exchange(&long).starts_with("HTTP/1.1 431 "));
    let many = format!(
        "GET / HTTP/1.1\r\nHost: a\r\n{}\r\n",
        "X: y\r\n".repeat(500)
    );
    assert!(site.exchange(&many).starts_with("HTTP/1.1 431 "));
    assert!(
        site.exchange("\x16\x03\x01 nonsense\r\n\r\n")
            .starts_with("HTTP/1.1 400 ")
    );
    assert!(
        site.exchange("GET / HTTP/1.1\r\n\r\n")
            .starts_with("HTTP/1.1 400 ")
    );
}

/// A body that the client holds back until it is asked for is not asked for; one that is longer than anybody reads ends
/// the connection.
#[test]
fn bodies_that_nobody_waits_for() {
    let site = Site::start("");
    let mut stream = site.connect(site.http);
    let head = "PUT /x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999\r\n";
    stream
        .write_all(format!("{head}Expect: 100-continue\r\n\r\n").as_bytes())
        .unwrap();
    let answer = rest(&mut stream);
    assert!(
        answer.starts_with("HTTP/1.1 307 ") && answer.contains(TO),
        "{answer}"
    );
}

/// Neither one that says nothing, nor one that stops half-way, nor one that asks for ever keeps its place.
#[test]
fn slow_clients_are_let_go() {
    let site = Site::start("[limits]\nsilent_ms = 1000\nlifetime_ms = 3000\nconnections = 2");
    for start in ["", "GET /x?y HT", "GET / HTTP/1.1\r\nHost: a\r\nX"] {
        let mut stream = site.connect(site.http);
        stream.write_all(start.as_bytes()).unwrap();
        let last = rest(&mut stream);
        assert!(
            last.is_empty() || last.starts_with("HTTP/1.1 408 "),
            "{last}"
        );
    }
    let mut stream = site.connect(site.http);
    stream
        .write_all(b"POST /x?y HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nabc")
        .unwrap();
    let answer = rest(&mut stream);
    assert!(answer.starts_with("HTTP/1.1 307 "), "{answer}");
    // After its last answer the connection ends, however soon the next request would come.
    let mut stream = site.connect(site.http);
    while stream
        .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        .is_ok()
    {
        let mut byte = [0];
        if !matches!(stream.read(&mut byte), Ok(1)) {
            break;
        }
    }
}

/// More clients than places: the others wait, and are answered.
#[test]
fn connections_are_bounded() {
    let site = Site::start("[limits]\nsilent_ms = 500\nconnections = 2");
    let mut idle: Vec<_> = (0..4).map(|_| site.connect(site.http)).collect();
    let mut last = site.connect(site.http);
    last.write_all(b"GET /x?y HTTP/1.0\r\n\r\n").unwrap();
    assert!(rest(&mut last).contains(TO));
    for stream in &mut idle {
        rest(stream);
    }
    let mut idle: Vec<_> = (0..4).map(|_| site.connect(site.dns)).collect();
    let mut last = site.connect(site.dns);
    last.write_all(&framed(&query())).unwrap();
    let mut length = [0; 2];
    last.read_exact(&mut length).unwrap();
    for stream in &mut idle {
        assert_eq!(rest(stream), "");
    }
}

fn query() -> Vec<u8> {
    let mut message = Message::new(9, MessageType::Query, OpCode::Query);
    let name = "www.firstsite.com.".parse().unwrap();
    message.add_query(Query::query(name, RecordType::A));
    message.to_vec().unwrap()
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

#[test]
fn dns_over_both_transports() {
    let site = Site::start("");
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut buffer = [0; 512];
    for noise in [&b""[..], b"\0", &[0xff; 600]] {
        socket.send_to(noise, site.dns).unwrap();
    }
    socket.send_to(&query(), site.dns).unwrap();
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    assert_eq!(from, site.dns);
    let answer = Message::from_vec(&buffer[..length]).unwrap();
    assert_eq!((answer.metadata.id, answer.answers.len()), (9, 1));

    // Two queries in pieces on one connection; then something that is none.
    let mut stream = site.connect(site.dns);
    for piece in framed(&query()).repeat(2).chunks(7) {
        stream.write_all(piece).unwrap();
    }
    for _ in 0..2 {
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut answer = vec![0; u16::from_be_bytes(length).into()];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(Message::from_vec(&answer).unwrap().answers.len(), 1);
    }
    stream.write_all(&framed(b"nonsense")).unwrap();
    assert_eq!(rest(&mut stream), "");
}

/// What cannot be opened is told with its key.
#[test]
fn sockets_that_cannot_be_opened() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let refused = |change: &dyn Fn(&mut Settings)| {
        let mut settings = settings(SETTINGS);
        settings.port = free().port();
        settings.http[0].listen = free();
        settings.dns.as_mut().unwrap().listen = free();
        change(&mut settings);
        open(Path::new("f"), settings).unwrap_err().to_string()
    };
    let error = refused(&|settings| settings.http[0].listen = address);
    assert!(
        error.starts_with(&format!("f: http[0].listen: {address}: ")),
        "{error}"
    );
    let error = refused(&|settings| settings.dns.as_mut().unwrap().listen = address);
    assert!(
        error.starts_with(&format!("f: dns.listen: {address}: ")),
        "{error}"
    );
    let error = refused(&|settings| settings.interface = "nowhere0".into());
    assert!(
        error.starts_with("f: synch.interface: nowhere0: "),
        "{error}"
    );
}
