//! What rewriting answers costs, beside following them only and beside copying them.
//!
//! ```text
//! cargo bench -p ipos-http --bench rewrite
//! ```

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use ipos_http::{Exchange, ResponseRewriter, SameSite, SetCookie};

/// Bytes that an application hands over at once.
const PIECE: usize = 16 * 1024;
const REQUEST: &[u8] = b"GET /a/path?with=query HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 \
    (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: text/html,application/xhtml+xml\r\n\
    Accept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br\r\nConnection: keep-alive\r\n\
    Cookie: theme=dark; visits=17\r\n\r\n";

/// An answer of a keep-alive connection.
fn answer(len: usize) -> Vec<u8> {
    let head = format!(
        "HTTP/1.1 200 OK\r\nServer: nginx\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
        Content-Type: text/html\r\nContent-Length: {len}\r\nConnection: keep-alive\r\nETag: \"x\"\r\n\r\n"
    );
    [head.into_bytes(), vec![b'x'; len]].concat()
}

/// One request and its answer, over and over.
fn exchanges(c: &mut Criterion, name: &str, len: usize) {
    let answer = answer(len);
    let cookie = SetCookie::builder("IPOSSESSION", "0123456789abcdef0123456789abcdef")
        .path("/")
        .same_site(SameSite::Lax)
        .http_only()
        .build()
        .expect("a cookie that is well-formed");
    let mut group = c.benchmark_group(name);
    group.throughput(Throughput::Bytes(answer.len() as u64));
    let mut out = Vec::with_capacity(2 * answer.len());
    group.bench_function("copy", |b| {
        b.iter(|| {
            out.clear();
            for piece in black_box(&answer).chunks(PIECE) {
                out.extend_from_slice(piece);
            }
            black_box(out.len())
        })
    });
    let mut exchange = Exchange::new();
    group.bench_function("Exchange", |b| {
        b.iter(|| {
            exchange.handle_request(black_box(REQUEST));
            for piece in black_box(&answer).chunks(PIECE) {
                exchange.handle_response(piece);
            }
        })
    });
    assert!(exchange.is_at_rest());
    let mut rewriter = ResponseRewriter::new();
    group.bench_function("ResponseRewriter", |b| {
        b.iter(|| {
            out.clear();
            rewriter.handle_request(black_box(REQUEST), |request| {
                request.cookie("IPOSSESSION").is_some()
            });
            for piece in black_box(&answer).chunks(PIECE) {
                rewriter.handle_response(piece, &mut out, |_, has_session, head| {
                    if !has_session {
                        head.set_cookie(&cookie);
                    }
                });
            }
            black_box(out.len())
        })
    });
    assert!(rewriter.is_at_rest());
    group.finish();
}

fn sizes(c: &mut Criterion) {
    exchanges(c, "answers of 1 kB", 1000);
    exchanges(c, "answers of 100 kB", 100_000);
}

criterion_group!(benches, sizes);
criterion_main!(benches);
