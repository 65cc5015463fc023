//! Applications that speak HTTP, and a client that keeps its connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::Duration;

use super::address;
use super::client::{Client, take};

/// What clients ask.
pub const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
/// Bytes of an answer's body: several segments.
const BODY: usize = 5_000;
/// Requests that the client makes at most until something happens that it waits for.
pub const MANY: usize = 10_000;

/// What the application of this name answers.
pub fn answer(name: u8) -> Vec<u8> {
    let mut answer = format!("HTTP/1.1 200 OK\r\nServer: {name}\r\nContent-Length: {BODY}\r\n\r\n");
    answer.push_str(&String::from(char::from(b'0' + name)).repeat(BODY));
    answer.into_bytes()
}

/// How a connection to an application ended: requests that it answered, and the error, if any.
pub type End = (usize, Option<ErrorKind>);

/// Answers requests until the client closes, or until the application is told to.
fn serve(mut stream: TcpStream, name: u8, close: &AtomicBool) -> End {
    stream
        .set_read_timeout(Some(Duration::from_millis(1)))
        .unwrap();
    let (mut answered, mut got, mut bytes) = (0, Vec::new(), [0; 4096]);
    while !close.load(Ordering::Relaxed) || !got.is_empty() {
        match stream.read(&mut bytes) {
            Ok(0) => break,
            Ok(read) => got.extend_from_slice(&bytes[..read]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => {}
            Err(error) => return (answered, Some(error.kind())),
        }
        if got == REQUEST {
            stream.write_all(&answer(name)).unwrap();
            answered += 1;
            got.clear();
        }
    }
    (answered, None)
}

/// An application that answers with its name. While `close` is set, it closes connections that are idle.
pub fn http(name: u8, close: Arc<AtomicBool>) -> (SocketAddr, Receiver<End>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (ended, ends): (Sender<End>, _) = channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, ended, close) = (stream.unwrap(), ended.clone(), Arc::clone(&close));
            // Nobody may want to know.
            thread::spawn(move || ended.send(serve(stream, name, &close)).ok());
        }
    });
    (address, ends)
}

/// Sends one request; the name of the server that has answered all of it.
pub fn request(client: &mut Client) -> u8 {
    client.send(REQUEST);
    let mut received = Vec::new();
    client.until("answer", |socket| {
        assert!(socket.may_recv(), "closed after {} bytes", received.len());
        take(socket, &mut received);
        (received.len() >= answer(1).len()).then_some(())
    });
    let name = [1, 2].into_iter().find(|&name| received == answer(name));
    name.expect("the whole answer of one server")
}

/// Opens a connection to server 1.
pub fn open(client: &mut Client) {
    client.connect(address(1));
    client.until("open", |socket| socket.may_send().then_some(()));
}
