//! What following an exchange costs: heads, and bodies as the bridge hands them over.
//!
//! ```text
//! cargo bench -p ipos-http
//! ```

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ipos_http::Exchange;

/// Bytes that the bridge hands over at once.
const PIECE: usize = 64 * 1024;
const REQUEST: &[u8] = b"GET /a/path?with=query HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 \
    (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: text/html,application/xhtml+xml\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\n\
    Cookie: session=0123456789abcdef\r\n\r\n";
const RESPONSE: &[u8] = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
    Content-Type: text/html\r\nContent-Length: 13\r\nConnection: keep-alive\r\nETag: \"x\"\r\n\r\nHello, world!";

fn heads(c: &mut Criterion) {
    let mut exchange = Exchange::new();
    c.bench_function("a request and its answer", |b| {
        b.iter(|| {
            exchange.handle_request(black_box(REQUEST));
            exchange.handle_response(black_box(RESPONSE));
            assert!(exchange.is_at_rest());
        })
    });
}

/// An answer that goes on for ever, behind `head`, piece after piece.
fn body(c: &mut Criterion, name: &str, head: &str, piece: &[u8]) {
    let mut exchange = Exchange::new();
    exchange.handle_request(REQUEST);
    exchange.handle_response(head.as_bytes());
    let mut group = c.benchmark_group("body");
    group.throughput(Throughput::Bytes(piece.len() as u64));
    group.bench_function(name, |b| {
        b.iter(|| exchange.handle_response(black_box(piece)))
    });
    group.finish();
    assert_eq!(exchange.opaque(), None);
}

fn bodies(c: &mut Criterion) {
    let piece = [b'x'; PIECE];
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", u64::MAX);
    body(c, "Content-Length", &head, &piece);
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for size in [4096, 64] {
        let chunk = format!("{size:x}\r\n{}\r\n", "x".repeat(size));
        let piece = chunk.repeat(PIECE / chunk.len());
        body(c, &format!("chunks of {size}"), head, piece.as_bytes());
    }
}

criterion_group!(benches, heads, bodies);
criterion_main!(benches);
