//! What reading a client's first bytes costs, beside the parsers alone on the same bytes.
//!
//! ```text
//! cargo bench -p ipos-content
//! ```

use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use ipos_content::{HostName, Inspector, Kinds, REQUEST_MAX, Reading, UrlMap, UrlRow};
use tls_parser::{
    TlsMessage, TlsMessageHandshake, parse_tls_client_hello_extensions, parse_tls_plaintext,
};

const GET: &[u8] = b"GET /a/path/to/some.html?with=query HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 \
    (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\nAccept: text/html,application/xhtml+xml,\
    application/xml;q=0.9,*/*;q=0.8\r\nAccept-Language: en-US,en;q=0.5\r\nAccept-Encoding: gzip, deflate, br, zstd\r\n\
    Connection: keep-alive\r\nCookie: theme=dark; IPOSSESSION=0123456789abcdef\r\nUpgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\nSec-Fetch-Mode: navigate\r\nSec-Fetch-Site: none\r\n\r\n";
const HTTP2: &[u8] = include_bytes!("../tests/clients/curl-h2.bin");
/// Where the field block begins: behind the preface, SETTINGS, WINDOW_UPDATE, and the header of HEADERS.
const HTTP2_BLOCK: usize = 24 + 27 + 13 + 9;
const HELLOS: [&[u8]; 2] = [
    include_bytes!("../tests/clients/curl.bin"),
    include_bytes!("../tests/clients/rustls.bin"),
];

/// Reads in pieces of `piece` bytes.
fn inspect(bytes: &[u8], piece: usize) -> bool {
    let mut inspector = Inspector::new(Kinds::all(), REQUEST_MAX);
    let mut ends = (piece..bytes.len()).step_by(piece).chain([bytes.len()]);
    ends.any(|end| {
        matches!(
            inspector.inspect(&black_box(bytes)[..end]),
            Reading::Request(_) | Reading::Tls(_)
        )
    })
}

fn http1(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("GET, {} B", GET.len()));
    group.bench_function("httparse", |b| {
        b.iter(|| {
            let mut fields = [httparse::EMPTY_HEADER; 128];
            let mut request = httparse::Request::new(&mut fields);
            let is_whole = request.parse(black_box(GET)).unwrap().is_complete();
            black_box(request.headers.len());
            assert!(is_whole);
        })
    });
    for piece in [GET.len(), 100, 1] {
        group.bench_function(BenchmarkId::new("in pieces of", piece), |b| {
            b.iter(|| assert!(inspect(GET, piece)))
        });
    }
    group.finish();
}

fn http2(c: &mut Criterion) {
    let mut group = c.benchmark_group(format!("HTTP/2, {} B", HTTP2.len()));
    let block = &HTTP2[HTTP2_BLOCK..];
    // The field block alone.
    group.bench_function("loona-hpack", |b| {
        b.iter(|| assert!(loona_hpack::Decoder::new().decode(black_box(block)).is_ok()))
    });
    group.bench_function("whole", |b| b.iter(|| assert!(inspect(HTTP2, HTTP2.len()))));
    group.finish();
}

fn tls(c: &mut Criterion) {
    for hello in HELLOS {
        let mut group = c.benchmark_group(format!("ClientHello, {} B", hello.len()));
        group.bench_function("tls-parser", |b| {
            b.iter(|| {
                let (_, record) = parse_tls_plaintext(black_box(hello)).unwrap();
                let TlsMessage::Handshake(TlsMessageHandshake::ClientHello(hello)) = &record.msg[0]
                else {
                    panic!();
                };
                let extensions = parse_tls_client_hello_extensions(hello.ext.unwrap());
                assert!(!extensions.unwrap().1.is_empty());
            })
        });
        for piece in [hello.len(), 100, 1] {
            group.bench_function(BenchmarkId::new("in pieces of", piece), |b| {
                b.iter(|| assert!(inspect(hello, piece)))
            });
        }
        group.finish();
    }
}

fn map(c: &mut Criterion) {
    let row = |number: usize| UrlRow {
        host: Some(format!("www{}.example", number / 100)),
        path: Some(format!("/{}/{number}", number % 7)),
        servers: vec![number],
    };
    let map = UrlMap::new((0..10_000).map(row)).unwrap();
    let host = HostName::new(b"www42.example").unwrap();
    c.bench_function("URL map of 10000 rows", |b| {
        b.iter(|| {
            let servers = map.get(black_box(Some(&host)), black_box(b"/5/4247/a/b"));
            assert_eq!(servers, Some(&[4247][..]));
        })
    });
}

criterion_group!(benches, http1, http2, tls, map);
criterion_main!(benches);
