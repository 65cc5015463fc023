//! Scripts against a stream of two vectors.

use super::*;
use crate::script::Connection;
use crate::stream::memory::Memory;

fn log() -> Log {
    let any = "10.0.0.1:1".parse().unwrap();
    let mut log = Log::default();
    log.on(
        Connection {
            client: any,
            server: any,
        },
        Instant::ZERO,
    );
    log
}

fn results(log: &Log) -> Vec<Result<String, ExchangeError>> {
    log.records()
        .iter()
        .map(|record| record.exchange.result.clone())
        .collect()
}

fn answer(server: &str, len: u64, seed: u64) -> Vec<u8> {
    let mut bytes =
        format!("HTTP/1.1 200 OK\r\nX-Server: {server}\r\nContent-Length: {len}\r\n\r\n")
            .into_bytes();
    let head = bytes.len();
    bytes.resize(head + len as usize, 0);
    pattern::fill(seed, 0, &mut bytes[head..]);
    bytes
}

#[test]
fn two_right_answers_then_the_end() {
    let mut http = Http::new([Request::name(), Request::download(3000, 9)]);
    let (mut stream, mut log) = (
        Memory {
            room: usize::MAX,
            ..Memory::default()
        },
        log(),
    );
    assert_eq!(http.poll(Instant::ZERO, &mut stream, &mut log), Next::Wait);
    assert_eq!(
        stream.output,
        b"GET / HTTP/1.1\r\nHost: farm.example\r\n\r\n"
    );
    stream.input = b"HTTP/1.1 200 OK\r\nX-Server: s2\r\nContent-Length: 3\r\n\r\ns2\n".to_vec();
    assert_eq!(
        http.poll(Instant::from_millis(2), &mut stream, &mut log),
        Next::Wait
    );
    assert_eq!(results(&log), [Ok("s2".into())]);
    assert!(stream.output.ends_with(b"\r\nConnection: close\r\n\r\n"));
    stream.input = answer("s3", 3000, 9);
    assert_eq!(
        http.poll(Instant::from_millis(3), &mut stream, &mut log),
        Next::Wait,
        "the server is to close"
    );
    stream.ended = true;
    assert_eq!(
        http.poll(Instant::from_millis(9), &mut stream, &mut log),
        Next::Close
    );
    assert_eq!(results(&log), [Ok("s2".into()), Ok("s3".into())]);
    assert_eq!(
        log.records()[1].exchange.latency(),
        Duration::from_millis(1)
    );
}

#[test]
fn wrong_answers_are_told_apart() {
    let result = |input: Vec<u8>, ended: bool| {
        let mut http = Http::new([Request::download(3000, 9), Request::name()]).client_closes();
        let (mut stream, mut log) = (
            Memory {
                input,
                ended,
                room: usize::MAX,
                ..Memory::default()
            },
            log(),
        );
        assert_eq!(http.poll(Instant::ZERO, &mut stream, &mut log), Next::Abort);
        assert_eq!(results(&log)[1..], [Err(ExchangeError::NotTried)]);
        results(&log).swap_remove(0).unwrap_err()
    };
    assert_eq!(
        result(answer("s1", 2999, 9), false),
        ExchangeError::Length {
            expected: 3000,
            actual: 2999
        }
    );
    assert_eq!(
        result(answer("s1", 3000, 8), false),
        ExchangeError::Bytes { offset: 0 }
    );
    assert_eq!(
        result(answer("s1", 3000, 9)[..2000].to_vec(), true),
        ExchangeError::Closed
    );
    assert_eq!(result(Vec::new(), true), ExchangeError::Closed);
    assert_eq!(
        result(
            b"HTTP/1.1 404 Not Found\r\nX-Server: s1\r\n\r\n".to_vec(),
            false
        ),
        ExchangeError::Status(404)
    );
    assert_eq!(
        result(
            b"HTTP/1.1 200 OK\r\nContent-Length: 3000\r\n\r\n".to_vec(),
            false
        ),
        ExchangeError::Malformed
    );
    assert_eq!(
        result(b"nonsense".to_vec(), false),
        ExchangeError::Malformed
    );
    let mut flipped = answer("s1", 3000, 9);
    let last = flipped.len() - 1;
    flipped[last] ^= 0x80;
    assert_eq!(
        result(flipped, false),
        ExchangeError::Bytes { offset: 2999 }
    );
}

#[test]
fn bytes_behind_the_last_answer_are_an_error() {
    let mut http = Http::new([Request::download(10, 9)]);
    let (mut stream, mut log) = (
        Memory {
            room: usize::MAX,
            ..Memory::default()
        },
        log(),
    );
    stream.input = answer("s1", 10, 9);
    stream.input.push(0);
    assert_eq!(http.poll(Instant::ZERO, &mut stream, &mut log), Next::Abort);
    assert_eq!(
        results(&log),
        [Err(ExchangeError::Length {
            expected: 10,
            actual: 11
        })]
    );
}

#[test]
fn uploads_in_pieces_with_a_half_close() {
    let pause = Duration::from_millis(5);
    let mut http = Http::new([Request::upload(100, 4).in_pieces(60, pause)]).half_close();
    let (mut stream, mut log) = (
        Memory {
            room: usize::MAX,
            ..Memory::default()
        },
        log(),
    );
    let mut now = Instant::ZERO;
    let mut pieces = 1;
    while let Next::Until(at) = http.poll(now, &mut stream, &mut log) {
        assert_eq!(stream.output.len(), 60 * pieces);
        assert_eq!(at, now + pause);
        assert!(!stream.shut);
        (now, pieces) = (at, pieces + 1);
    }
    assert!(pieces > 2 && stream.shut);
    let body = stream.output.len() - 100;
    assert_eq!(
        pattern::first_difference(4, 0, &stream.output[body..]),
        None
    );
    let text = format!("100 {:016x}\n", pattern::digest(4, 100));
    stream.input = format!(
        "HTTP/1.1 200 OK\r\nX-Server: s1\r\nContent-Length: {}\r\n\r\n{text}",
        text.len()
    )
    .into_bytes();
    stream.ended = true;
    assert_eq!(http.poll(now, &mut stream, &mut log), Next::Close);
    assert_eq!(results(&log), [Ok("s1".into())]);
}

#[test]
fn failures_count_every_request() {
    let mut http = Http::new([Request::name(), Request::name()]);
    let mut log = log();
    http.failed(Instant::ZERO, ExchangeError::Refused, &mut log);
    assert_eq!(
        results(&log),
        [Err(ExchangeError::Refused), Err(ExchangeError::Refused)]
    );
}
