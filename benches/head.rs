//! Reading HTTP request heads: as scripts, load generators and browsers write them, alone,
//! pipelined, and in pieces.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use netlab_reactor::http::head::{HeadScanner, Limits, Parsed};

const CURL: &[u8] = b"GET /index.html HTTP/1.1\r\nHost: 127.0.0.1:6789\r\nUser-Agent: curl/8.5.0\r\nAccept: */*\r\n\r\n";
const WRK: &[u8] = b"GET /128 HTTP/1.1\r\nHost: 127.0.0.1:6789\r\n\r\n";
const BROWSER: &[u8] = b"GET /pages/index.html?from=start HTTP/1.1\r\n\
    Host: www.example.com\r\n\
    User-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0\r\n\
    Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8\r\n\
    Accept-Language: en-GB,en;q=0.7,de;q=0.3\r\n\
    Accept-Encoding: gzip, deflate, br, zstd\r\n\
    Connection: keep-alive\r\n\
    Cookie: session=0123456789abcdef0123456789abcdef; theme=dark; consent=none\r\n\
    Upgrade-Insecure-Requests: 1\r\n\
    Sec-Fetch-Dest: document\r\n\
    Sec-Fetch-Mode: navigate\r\n\
    Sec-Fetch-Site: same-origin\r\n\
    If-Modified-Since: Sun, 06 Nov 1994 08:49:37 GMT\r\n\
    If-None-Match: \"0123456789abcdef\"\r\n\
    Priority: u=0, i\r\n\r\n";

/// Reads all heads in `bytes`; how many.
fn read_all(mut bytes: &[u8], limits: &Limits) -> usize {
    let (mut scanner, mut heads) = (HeadScanner::default(), 0);
    while !bytes.is_empty() {
        match scanner.request(bytes, limits) {
            Ok(Parsed::Complete(head, consumed)) => {
                black_box(&head);
                bytes = &bytes[consumed..];
                heads += 1;
            }
            other => panic!("{other:?}"),
        }
    }
    heads
}

fn heads(c: &mut Criterion) {
    let limits = Limits::default();
    let mut group = c.benchmark_group("head");
    for (name, bytes) in [("wrk", WRK), ("curl", CURL), ("browser", BROWSER)] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |b| b.iter(|| read_all(black_box(bytes), &limits)));
    }
    let pipelined = WRK.repeat(16);
    group.throughput(Throughput::Elements(16));
    group.bench_function("pipelined 16", |b| {
        b.iter(|| read_all(black_box(&pipelined), &limits));
    });
    group.throughput(Throughput::Bytes(BROWSER.len() as u64));
    group.bench_function("browser, byte by byte", |b| {
        b.iter(|| {
            let mut scanner = HeadScanner::default();
            for end in 1..BROWSER.len() {
                let partial = scanner.request(black_box(&BROWSER[..end]), &limits);
                assert!(matches!(partial, Ok(Parsed::Partial)));
            }
            read_all(BROWSER, &limits)
        });
    });
    group.finish();
}

criterion_group!(benches, heads);
criterion_main!(benches);
