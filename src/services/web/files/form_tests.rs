//! The rules of compression on the way, over the whole service.

use std::fs;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

use super::tests::{Answer, Site, bench_of, site};
use crate::cache::compressed;
use crate::http::negotiate::Coding;
use crate::jobs::pending::Asker;
use crate::service::{Id, Waiter};

const GZIP: &str = "Accept-Encoding: gzip\r\n";

/// Words of which compression makes about a third.
fn text(len: usize) -> String {
    let words = (0_u32..).map(|i| format!("word {:x}\n", i.wrapping_mul(2_654_435_761)));
    words
        .flat_map(String::into_bytes)
        .take(len)
        .map(char::from)
        .collect()
}

fn decoded(answer: &Answer) -> String {
    let (mut text, mut body) = (Vec::new(), &answer.body[..]);
    match answer.header("content-encoding") {
        Some("br") => brotli::Decompressor::new(body, 4096).read_to_end(&mut text),
        Some("zstd") => zstd::stream::copy_decode(body, &mut text).map(|()| 0),
        Some("gzip") => flate2::read::GzDecoder::new(body).read_to_end(&mut text),
        None => body.read_to_end(&mut text),
        other => panic!("{other:?}"),
    }
    .expect("a whole coding");
    String::from_utf8(text).expect("text")
}

fn coding(answer: &Answer) -> Option<&str> {
    answer.header("content-encoding")
}

#[test]
fn a_client_gets_the_coding_that_it_likes_best() {
    // One is compressed at once, one takes a piece in each of several turns.
    for len in [3000, 100_000] {
        let text = text(len);
        let mut s = site(&[("a.txt", &text)], "compress = true");
        let mut tags = Vec::new();
        for (accepted, expected) in [
            ("gzip, deflate, br, zstd", Some("zstd")),
            ("gzip, br", Some("br")),
            ("gzip;q=1.0, br;q=0.5", Some("gzip")),
            ("deflate", None),
        ] {
            let accepted = format!("Accept-Encoding: {accepted}\r\n");
            let answer = s.get("/a.txt", &accepted);
            assert_eq!((answer.status, coding(&answer)), (200, expected));
            assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
            assert_eq!(answer.header("accept-ranges"), Some("bytes"));
            assert!(decoded(&answer) == text, "{accepted}, {len} bytes");
            assert!(expected.is_none() || answer.body.len() < len / 2);
            let tag = answer.header("etag").expect("a tag").to_owned();
            assert!(!tag.starts_with("W/") && !tags.contains(&tag), "{tag}");
            tags.push(tag);
            let head = s.ask("HEAD", "/a.txt", &format!("Host: h\r\n{accepted}"));
            assert_eq!(head.headers, answer.headers, "{accepted}");
        }
        assert_eq!(s.bench.compressed.counters().made, 3, "each is made once");
        let counted = s.bench.metrics.listeners[0].of.web().expect("a web server");
        assert_eq!(counted.compressed, 3, "a HEAD brings no body");
        let saved = counted.compressed_bytes_saved as usize;
        assert!((len..3 * len).contains(&saved), "{saved} of 3 times {len}");
    }
}

#[test]
fn what_is_not_worth_it_is_sent_as_it_is() {
    let (short, long) = (text(999), text(20_001));
    let mut s = site(
        &[
            ("short.txt", &short),
            ("long.txt", &long),
            ("a.png", &long[1..]),
            ("a.bin", &long[1..]),
            ("a.mesh", &long[1..]),
            ("a.md", &long[1..]),
            ("a.css", &long[1..]),
        ],
        "compress = true\nmin_compress_bytes = 1000\nmax_compress_bytes = 20000\n\
         compress_types = ['model/mesh']\n\
         cache_control = [{ match = '*.css', value = 'max-age=9, No-Transform' }]",
    );
    for (target, is_coded) in [
        ("/short.txt", false),
        ("/long.txt", false),
        ("/a.png", false),
        ("/a.bin", false),
        ("/a.mesh", true),
        ("/a.md", true),
        ("/a.css", false),
    ] {
        let answer = s.get(target, GZIP);
        let vary = is_coded.then_some("Accept-Encoding");
        assert_eq!(answer.header("vary"), vary, "{target}");
        assert_eq!(coding(&answer), is_coded.then_some("gzip"), "{target}");
        assert_eq!(s.get(target, "").header("vary"), vary, "{target}");
    }
    let mut off = site(&[("a.txt", &long)], "");
    let answer = off.get("/a.txt", GZIP);
    assert_eq!((coding(&answer), answer.header("vary")), (None, None));
}

#[test]
fn a_file_that_hardly_becomes_smaller_varies_all_the_same() {
    let mut state = 1_u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    let noise: Vec<u8> = std::iter::repeat_with(&mut noise).take(5000).collect();
    let mut s = site(&[], "compress = true");
    fs::write(s.path("a.txt"), noise).expect("a file");
    for _ in 0..2 {
        let answer = s.get("/a.txt", GZIP);
        assert_eq!((coding(&answer), answer.body.len()), (None, 5000));
        assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
    }
    assert_eq!(s.bench.compressed.counters().worthless, 1);
}

#[test]
fn conditions_and_ranges_are_about_the_coded_form() {
    let text = text(50_000);
    let mut s = site(&[("a.txt", &text)], "compress = true");
    let whole = s.get("/a.txt", GZIP);
    let plain = s.get("/a.txt", "");
    let tag = |answer: &Answer| answer.header("etag").expect("a tag").to_owned();
    let (coded_tag, plain_tag) = (tag(&whole), tag(&plain));
    let mut ask = |lines: String| s.get("/a.txt", &format!("{GZIP}{lines}"));
    let unchanged = ask(format!("If-None-Match: {coded_tag}\r\n"));
    assert_eq!(unchanged.status, 304);
    assert_eq!(unchanged.header("vary"), Some("Accept-Encoding"));
    assert_eq!(unchanged.header("etag"), Some(&*coded_tag));
    assert_eq!(ask(format!("If-None-Match: {plain_tag}\r\n")).status, 200);
    assert_eq!(ask(format!("If-Match: {plain_tag}\r\n")).status, 412);
    let modified = whole.header("last-modified").expect("a date");
    assert_eq!(
        ask(format!("If-Modified-Since: {modified}\r\n")).status,
        304
    );

    let len = whole.body.len();
    let part = ask(format!("Range: bytes=10-19\r\nIf-Range: {coded_tag}\r\n"));
    assert_eq!((part.status, &part.body[..]), (206, &whole.body[10..20]));
    assert_eq!(coding(&part), Some("gzip"));
    let range = format!("bytes 10-19/{len}");
    assert_eq!(part.header("content-range"), Some(&*range));
    let rest = ask("Range: bytes=100-\r\n".to_owned());
    assert_eq!((rest.status, &rest.body[..]), (206, &whole.body[100..]));
    let other = ask(format!("Range: bytes=10-19\r\nIf-Range: {plain_tag}\r\n"));
    assert_eq!((other.status, other.body.len()), (200, len));
    let parts = ask("Range: bytes=0-3,9000-9004\r\n".to_owned());
    assert_eq!((parts.status, coding(&parts)), (206, Some("gzip")));
    let has = |wanted: &[u8]| parts.body.windows(wanted.len()).any(|part| part == wanted);
    assert!(has(&whole.body[..4]) && has(&whole.body[9000..9005]));
    assert_eq!(ask(format!("Range: bytes={len}-\r\n")).status, 416);
}

#[test]
fn a_changed_file_has_another_form_and_the_former_is_thrown_away() {
    let mut s = site(&[("a.txt", &text(30_000))], "compress = true");
    let before = s.get("/a.txt", GZIP);
    let kept = s.bench.compressed.bytes();
    fs::write(s.path("a.txt"), text(30_000).replace("word", "WORD")).expect("a write");
    s.bench.later(Duration::from_secs(1));
    let after = s.get("/a.txt", GZIP);
    assert!(decoded(&after).starts_with("WORD"));
    assert_ne!(before.header("etag"), after.header("etag"));
    let now = s.bench.compressed.bytes();
    assert!(now < kept + kept / 2, "{kept} to {now} bytes");
    fs::remove_file(s.path("a.txt")).expect("removed");
    s.bench.later(Duration::from_secs(1));
    assert_eq!(s.get("/a.txt", GZIP).status, 404);
    assert_eq!(s.bench.compressed.bytes(), 0);
}

#[test]
fn a_neighbour_goes_before_a_form_that_is_liked_as_well() {
    let text = text(5000);
    let mut s = site(
        &[("a.txt", &text), ("a.txt.gz", "neighbour")],
        "compress = true\nprecompressed = true",
    );
    for (accepted, expected) in [
        ("gzip, br", "gzip"),
        ("gzip", "gzip"),
        ("gzip;q=0.9, br", "br"),
        ("zstd", "zstd"),
    ] {
        let answer = s.get("/a.txt", &format!("Accept-Encoding: {accepted}\r\n"));
        assert_eq!(coding(&answer), Some(expected), "{accepted}");
        assert_eq!(
            answer.body == b"neighbour",
            expected == "gzip",
            "{accepted}"
        );
    }
}

/// Puts so much into the line that nothing is begun behind it.
fn fill_the_line(s: &mut Site) {
    let bench = &mut s.bench;
    let nobody = Id {
        index: 9,
        generation: 9,
    };
    let source = || compressed::Source::Bytes(vec![b'a'; 4 << 20].into());
    let mut form = compressed::Form::Unasked;
    let asker = &mut Asker {
        disk: &mut bench.disk,
        jobs: &mut bench.jobs,
        waiter: Waiter::Service,
        now: bench.now,
    };
    let answer = bench
        .compressed
        .ask(&mut form, Coding::Br, source, nobody, asker);
    assert_eq!(answer, compressed::Answer::Plain);
}

#[test]
fn where_the_line_is_long_the_file_is_sent_as_it_is() {
    let text = text(100_000);
    let mut s = site(&[("a.txt", &text)], "compress = true");
    fill_the_line(&mut s);
    let answer = s.get("/a.txt", GZIP);
    assert_eq!((coding(&answer), answer.body.len()), (None, 100_000));
    assert_eq!(answer.header("vary"), Some("Accept-Encoding"));
    // The bench turns until there is no more work, so now there is room.
    assert_eq!(coding(&s.get("/a.txt", GZIP)), Some("gzip"));
}

#[test]
fn pipelined_requests_are_answered_in_their_order_whatever_waits() {
    let text = text(100_000);
    let mut s = site(&[("a.txt", &text), ("b.png", "b")], "compress = true");
    let first = format!("GET /a.txt HTTP/1.1\r\nHost: h\r\n{GZIP}\r\n");
    let second = "GET /b.png HTTP/1.1\r\nHost: h\r\n\r\n";
    s.bench
        .peer_sends(format!("{first}{second}{first}").as_bytes());
    let bytes = s.bench.received();
    let heads: Vec<usize> = bytes
        .windows(8)
        .enumerate()
        .filter_map(|(at, eight)| (eight == b"HTTP/1.1").then_some(at))
        .collect();
    assert_eq!(heads.len(), 3);
    let is_coded = |from: usize, to: usize| {
        let wanted = b"Content-Encoding: gzip";
        bytes[from..to]
            .windows(wanted.len())
            .any(|part| part == wanted)
    };
    assert!(is_coded(heads[0], heads[1]) && is_coded(heads[2], bytes.len()));
    assert!(!is_coded(heads[1], heads[2]));
}

#[test]
fn what_is_not_kept_is_not_compressed() {
    let text = text(100_000);
    for bound in ["max_open_files = 0", "max_memory_bytes = 0"] {
        let mut s = site(&[("a.txt", &text)], &format!("compress = true\n{bound}"));
        let answer = s.get("/a.txt", GZIP);
        assert_eq!((answer.status, coding(&answer)), (200, None), "{bound}");
        assert_eq!(s.bench.compressed.counters().made, 0, "{bound}");
    }
}

#[test]
fn listings_are_compressed_like_files() {
    let names: Vec<String> = (0..300).map(|i| format!("dir/file {i}.txt")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (&**name, "x")).collect();
    let mut s = site(&files, "compress = true\nlisting = true");
    for (accept, len) in [("text/html", 20_000), ("application/json", 10_000)] {
        let accept = format!("Accept: {accept}\r\n");
        let plain = s.get("/dir/", &accept);
        let coded = s.get("/dir/", &format!("{accept}{GZIP}"));
        assert_eq!((coding(&plain), coding(&coded)), (None, Some("gzip")));
        assert!(plain.body.len() > len, "{} bytes", plain.body.len());
        assert!(decoded(&plain) == decoded(&coded));
        for answer in [&plain, &coded] {
            assert_eq!(answer.header("vary"), Some("Accept, Accept-Encoding"));
        }
        let tag = coded.header("etag").expect("a tag");
        assert_ne!(plain.header("etag"), Some(tag));
        let asked = format!("{accept}{GZIP}If-None-Match: {tag}\r\n");
        assert_eq!(s.get("/dir/", &asked).status, 304);
    }
    let before = s.bench.compressed.bytes();
    s.bench.later(Duration::from_secs(2));
    s.get("/dir/", "");
    assert!(
        before > 0 && s.bench.compressed.bytes() == 0,
        "they are gone with it"
    );
}

#[test]
fn embedded_pages_are_compressed_like_files() {
    let bench = bench_of(
        "[[listener]]\nkind = 'http'\ncompress = ['gzip']\nmin_compress_bytes = 100\n",
        Path::new("x.toml"),
    );
    let mut s = site(&[], "");
    s.bench = bench;
    for target in ["/", "/HelloWorld.html"] {
        let plain = s.get(target, "Accept-Encoding: br\r\n");
        let coded = s.get(target, GZIP);
        assert_eq!(coding(&plain), None, "{target}");
        for answer in [&plain, &coded] {
            assert_eq!(answer.header("vary"), Some("Accept-Encoding"), "{target}");
        }
        assert_eq!(decoded(&plain), decoded(&coded));
    }
    assert_eq!(coding(&s.get("/", GZIP)), Some("gzip"));
}

#[test]
fn each_site_has_its_own_say() {
    let text = text(5000);
    let mut s = site(
        &[("on/a.txt", &text), ("off/a.txt", &text), ("a.txt", &text)],
        "compress = ['br']\nsite = [{ prefix = '/on/', root = 'ROOT/on', compress = true },\
         { prefix = '/off/', root = 'ROOT/off' }]\nroot = 'ROOT'",
    );
    for (target, expected) in [
        ("/on/a.txt", Some("gzip")),
        ("/off/a.txt", None),
        ("/a.txt", None),
    ] {
        assert_eq!(coding(&s.get(target, GZIP)), expected, "{target}");
    }
    let br = s.get("/a.txt", "Accept-Encoding: br\r\n");
    assert_eq!(coding(&br), Some("br"));
}

#[test]
fn the_page_that_answers_for_missing_ones_is_compressed_and_error_pages_are_not() {
    let text = text(30_000);
    let mut s = site(
        &[("app.html", &text), ("404.html", &text)],
        "compress = true\nspa = 'app.html'\nerror_pages = { 404 = '404.html' }",
    );
    let page = s.get("/some/path", GZIP);
    assert_eq!((page.status, coding(&page)), (200, Some("gzip")));
    assert!(decoded(&page) == text);
    let error = s.get("/missing.css", GZIP);
    assert_eq!((error.status, coding(&error)), (404, None));
    assert!(decoded(&error) == text);
}
