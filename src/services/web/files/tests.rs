//! The rules of the file server, over the whole service: what a folder and a configuration come to
//! on the wire.

use std::cell::Cell;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::config::{Config, Kind, Overrides};
use crate::ending::{Ending, Phase};
use crate::http::body::BodyDecoder;
use crate::http::head::BodyLength;
use crate::metrics::{Limit, WebMetrics};
use crate::services::bench::Bench;
use crate::services::web::{Given, Web};

/// A folder, a server for it, and a connection.
pub(in crate::services::web) struct Site {
    pub(in crate::services::web) folder: tempfile::TempDir,
    pub(in crate::services::web) bench: Bench<Web>,
}

/// An answer taken apart.
#[derive(Debug)]
pub(in crate::services::web) struct Answer {
    pub(in crate::services::web) status: u16,
    pub(in crate::services::web) headers: HashMap<String, String>,
    pub(in crate::services::web) body: Vec<u8>,
}

impl Answer {
    pub(in crate::services::web) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }

    pub(in crate::services::web) fn text(&self) -> &str {
        str::from_utf8(&self.body).expect("text")
    }
}

/// A site with these files (`NAME/` is a folder) and these lines of configuration, where `ROOT` is
/// its folder.
pub(in crate::services::web) fn site(files: &[(&str, &str)], lines: &str) -> Site {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        let path = folder.path().join(name);
        if name.ends_with('/') {
            fs::create_dir_all(path).expect("a folder");
        } else {
            fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
            fs::write(path, text).expect("a file");
        }
    }
    let bench = bench(folder.path(), lines);
    Site { folder, bench }
}

pub(in crate::services::web) fn bench(root: &Path, lines: &str) -> Bench<Web> {
    let lines = lines.replace("ROOT", root.to_str().expect("UTF-8"));
    let root = match lines.contains("root =") {
        true => String::new(),
        false => format!("root = {root:?}\n"),
    };
    let text = format!("[[listener]]\nkind = 'http'\n{root}{lines}\n");
    bench_of(&text, Path::new("x.toml"))
}

thread_local! {
    /// Whether the folders of the test at hand are on a disk that nothing is answered from at once.
    static ALL_ARE_SLOW: Cell<bool> = const { Cell::new(false) };
}

/// What holds on a disk that answers from memory holds on one that has to be waited for.
#[test]
fn a_slow_disk_shows_in_nothing_but_time() {
    ALL_ARE_SLOW.set(true);
    a_compressed_neighbour_is_sent_to_who_wants_it();
    a_neighbour_that_is_older_or_new_or_gone_is_noticed();
    ranges_are_parts_of_what_would_be_sent();
    a_file_that_changes_is_served_anew_within_a_second();
    no_answer_has_the_head_of_one_version_and_the_body_of_another();
    two_versions_of_one_length_and_one_time_are_two();
    a_path_leads_below_the_root_or_nowhere();
    a_folder_without_its_slash_is_redirected_with_the_query();
    errors_have_pages_of_their_own();
    every_error_has_its_page_whatever_the_request_was();
    routes_without_files_have_pages_of_errors_in_a_folder_of_their_own();
    a_site_has_its_own_error_pages_and_what_is_no_request_the_listeners();
    a_page_that_reads_the_path_itself_answers_for_what_is_missing();
    a_listing_is_a_page_that_sorts_without_scripts();
    what_is_neither_file_nor_folder_is_not_there();
    how_a_session_ends_is_counted_by_its_cause();
    each_answer_has_a_line_in_the_log();
}

/// A connection to the web server of a configuration.
pub(in crate::services::web) fn bench_of(text: &str, file: &Path) -> Bench<Web> {
    let config = Config::parse(text, file, &Overrides::default())
        .unwrap_or_else(|problems| panic!("{problems}"));
    let Kind::Http(http) = &config.listeners[0].kind else {
        panic!("not http")
    };
    let all_are_slow = ALL_ARE_SLOW.get();
    let mut disk = crate::sys::unix::Files { all_are_slow };
    let service = Web::files(http, &Given::default(), &mut disk).expect("the root");
    let mut bench = Bench::new(service);
    bench.wall = SystemTime::now() + Duration::from_secs(10); // the files have settled
    bench
}

impl Site {
    pub(in crate::services::web) fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// An answer to a GET with these header lines.
    pub(in crate::services::web) fn get(&mut self, target: &str, headers: &str) -> Answer {
        self.ask("GET", target, &format!("Host: h\r\n{headers}"))
    }

    pub(in crate::services::web) fn ask(
        &mut self,
        method: &str,
        target: &str,
        headers: &str,
    ) -> Answer {
        let request = format!("{method} {target} HTTP/1.1\r\n{headers}\r\n");
        self.bench.peer_sends(request.as_bytes());
        self.answer(&request)
    }

    /// What came in answer to `request`.
    pub(in crate::services::web) fn answer(&mut self, request: &str) -> Answer {
        let bytes = self.bench.received();
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
        let end = end.unwrap_or_else(|| panic!("no answer to {request:?}"));
        let head = str::from_utf8(&bytes[..end]).expect("a head in ASCII");
        let mut lines = head.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.get(9..12))
            .expect("a status");
        let mut headers = HashMap::new();
        for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
            let name = name.to_ascii_lowercase();
            let more = match headers.remove(&name) {
                Some(before) if name == "vary" => format!("{before}, {value}"),
                Some(_) => panic!("{name} stands twice in {head}"),
                None => value.to_owned(),
            };
            headers.insert(name, more);
        }
        let mut body = bytes[end + 4..].to_vec();
        if headers.contains_key("transfer-encoding") && !request.starts_with("HEAD") {
            body = unchunked(&body);
            headers.insert("content-length".to_owned(), body.len().to_string());
        }
        if !request.starts_with("HEAD") && !["204", "304"].contains(&status) {
            assert_eq!(
                headers.get("content-length").and_then(|n| n.parse().ok()),
                Some(body.len()),
                "{head}"
            );
        }
        Answer {
            status: status.parse().expect("a number"),
            headers,
            body,
        }
    }
}

/// The payload of a chunked body, which is whole.
fn unchunked(mut bytes: &[u8]) -> Vec<u8> {
    let mut decoder = BodyDecoder::new(BodyLength::Chunked);
    let mut payload = Vec::new();
    while !decoder.is_done() {
        let step = decoder.step(bytes).expect("chunks");
        payload.extend_from_slice(&bytes[step.framing..step.consumed()]);
        bytes = &bytes[step.consumed()..];
        assert!(step.done || step.consumed() > 0, "the body is cut short");
    }
    assert!(bytes.is_empty(), "more than the body");
    payload
}

/// Sets when a file last changed, in seconds from now.
fn touch(path: &Path, seconds: i64) {
    let now = SystemTime::now();
    let span = Duration::from_secs(seconds.unsigned_abs());
    let moment = if seconds < 0 { now - span } else { now + span };
    let file = fs::File::options().write(true).open(path).expect("a file");
    file.set_modified(moment).expect("a time");
}

#[test]
fn a_compressed_neighbour_is_sent_to_who_wants_it() {
    let mut s = site(
        &[
            ("a.html", "plain text"),
            ("a.html.gz", "gzipped!"),
            ("a.html.br", "brotli"),
            ("alone.css", "c"),
        ],
        "precompressed = true",
    );
    let plain = s.get("/a.html", "");
    assert_eq!((plain.status, plain.text()), (200, "plain text"));
    assert_eq!(plain.header("vary"), Some("Accept-Encoding"));
    assert_eq!(plain.header("content-encoding"), None);
    let gzip = s.get("/a.html", "Accept-Encoding: gzip, br;q=0.5\r\n");
    assert_eq!((gzip.status, gzip.text()), (200, "gzipped!"));
    assert_eq!(gzip.header("content-encoding"), Some("gzip"));
    assert_eq!(
        gzip.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(gzip.header("vary"), Some("Accept-Encoding"));
    assert_ne!(gzip.header("etag"), plain.header("etag"));
    let br = s.get("/a.html", "Accept-Encoding: gzip, deflate, br, zstd\r\n");
    assert_eq!(br.header("content-encoding"), Some("br"));
    // Identity refused and nothing else at hand that is wanted: the file as it is.
    let none = s.get("/a.html", "Accept-Encoding: zstd, identity;q=0\r\n");
    assert_eq!((none.status, none.header("content-encoding")), (200, None));
    // Conditions and ranges are about the coded form.
    let tag = gzip.header("etag").expect("a tag").to_owned();
    let asked = format!("Accept-Encoding: gzip\r\nIf-None-Match: {tag}\r\n");
    let unchanged = s.get("/a.html", &asked);
    assert_eq!(unchanged.status, 304);
    assert_eq!(unchanged.header("vary"), Some("Accept-Encoding"));
    let asked = format!("If-None-Match: {tag}\r\n");
    assert_eq!(s.get("/a.html", &asked).status, 200);
    let asked = format!("Accept-Encoding: gzip\r\nRange: bytes=1-3\r\nIf-Range: {tag}\r\n");
    let part = s.get("/a.html", &asked);
    assert_eq!((part.status, part.text()), (206, "zip"));
    assert_eq!(part.header("content-encoding"), Some("gzip"));
    assert_eq!(part.header("content-range"), Some("bytes 1-3/8"));
    // A file without neighbours does not vary, and one that is asked for by its own name is what it
    // is.
    assert_eq!(s.get("/alone.css", "").header("vary"), None);
    let own = s.get("/a.html.gz", "Accept-Encoding: br\r\n");
    assert_eq!(own.header("content-type"), Some("application/gzip"));
    assert_eq!(own.header("content-encoding"), None);
}

#[test]
fn a_neighbour_that_is_older_or_new_or_gone_is_noticed() {
    let mut s = site(&[("a", "plain"), ("a.gz", "gzip")], "precompressed = true");
    touch(&s.path("a"), -5);
    touch(&s.path("a.gz"), -10);
    let gzip = "Accept-Encoding: gzip, br\r\n";
    assert_eq!(s.get("/a", gzip).text(), "plain");
    touch(&s.path("a.gz"), -5);
    s.bench.later(Duration::from_secs(1));
    assert_eq!(s.get("/a", gzip).text(), "gzip");
    fs::write(s.path("a.br"), "brotli").expect("a file");
    s.bench.later(Duration::from_secs(1));
    assert_eq!(s.get("/a", gzip).text(), "brotli");
    fs::remove_file(s.path("a.br")).expect("removed");
    fs::remove_file(s.path("a.gz")).expect("removed");
    s.bench.later(Duration::from_secs(1));
    assert_eq!(s.get("/a", gzip).text(), "plain");
    let off = &mut site(&[("a", "plain"), ("a.gz", "gzip")], "");
    assert_eq!(off.get("/a", gzip).text(), "plain");
}

#[test]
fn a_copy_whose_time_was_cut_to_seconds_is_not_older() {
    let second = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let at = |path: std::path::PathBuf, nanoseconds| {
        let file = fs::File::options().write(true).open(path).expect("a file");
        let moment = second + Duration::from_nanos(nanoseconds);
        file.set_modified(moment).expect("a time");
    };
    for (plain, copy, text) in [
        (500, 0, "gzip"),
        (500, 500, "gzip"),
        (500, 400, "plain"),
        (1_000_000_500, 0, "plain"),
    ] {
        let mut s = site(&[("a", "plain"), ("a.gz", "gzip")], "precompressed = true");
        at(s.path("a"), plain);
        at(s.path("a.gz"), copy);
        let answer = s.get("/a", "Accept-Encoding: gzip\r\n");
        assert_eq!(answer.text(), text, "{plain} {copy}");
    }
}

#[test]
fn ranges_are_parts_of_what_would_be_sent() {
    let large: String = (0..3000).map(|number| format!("{number:05} ")).collect();
    let mut s = site(
        &[
            ("small", "0123456789"),
            ("large", &large),
            ("large.gz", "not really gzip"),
        ],
        "precompressed = true",
    );
    let whole = s.get("/large", "");
    let header = |name| whole.header(name).expect("a validator").to_owned();
    let (tag, modified) = (header("etag"), header("last-modified"));
    for (target, headers, status, range) in [
        (
            "/small",
            "Range: bytes=-0\r\n".to_owned(),
            416,
            Some("bytes */10"),
        ),
        (
            "/small",
            "Range: bytes=-3\r\n".to_owned(),
            206,
            Some("bytes 7-9/10"),
        ),
        (
            "/small",
            "Range: bytes=-0,1-1\r\n".to_owned(),
            206,
            Some("bytes 1-1/10"),
        ),
        (
            "/small",
            "Range: bytes=0-1,1-2,9-9\r\n".to_owned(),
            206,
            Some("bytes 0-9/10"),
        ),
        (
            "/large",
            format!("Range: bytes=5-\r\nIf-Range: {tag}\r\n"),
            206,
            Some("bytes 5-17999/18000"),
        ),
        (
            "/large",
            format!("Range: bytes=5-\r\nIf-Range: W/{tag}\r\n"),
            200,
            None,
        ),
        (
            "/large",
            format!("Range: bytes=5-\r\nIf-Range: {modified}\r\n"),
            206,
            Some("bytes 5-17999/18000"),
        ),
        (
            "/large",
            "Range: bytes=5-\r\nIf-Range: Sun, 06 Nov 1994 08:49:37 GMT\r\n".to_owned(),
            200,
            None,
        ),
        (
            "/large",
            "Range: bytes=99999-\r\nIf-Range: x\r\n".to_owned(),
            200,
            None,
        ),
        (
            "/large",
            format!("Range: bytes=99999-\r\nIf-None-Match: {tag}\r\n"),
            304,
            None,
        ),
        (
            "/large",
            "Range: bytes=4-9\r\nAccept-Encoding: gzip\r\n".to_owned(),
            206,
            Some("bytes 4-9/15"),
        ),
        (
            "/large",
            format!("Range: bytes=4-9\r\nAccept-Encoding: gzip\r\nIf-Range: {tag}\r\n"),
            200,
            None,
        ),
    ] {
        let answer = s.get(target, &headers);
        assert_eq!(
            (answer.status, answer.header("content-range")),
            (status, range),
            "{headers}"
        );
        let nosniff = (status != 304).then_some("nosniff");
        assert_eq!(
            answer.header("x-content-type-options"),
            nosniff,
            "{headers}"
        );
    }
    // Overlapping ranges are merged, so that no byte is sent twice; the others keep their order.
    let answer = s.get("/large", "Range: bytes=9000-9099,0-99,50-149,9050-9199\r\n");
    let kind = answer.header("content-type").expect("a type");
    let boundary = kind
        .strip_prefix("multipart/byteranges; boundary=")
        .expect("parts");
    let parts: Vec<&str> = answer.text().split(&format!("\r\n--{boundary}")).collect();
    assert_eq!((parts.len(), parts[0], parts[3]), (4, "", "--\r\n"));
    for (part, range, bytes) in [
        (parts[1], "9000-9199", 9000..9200),
        (parts[2], "0-149", 0..150),
    ] {
        let (head, body) = part.split_once("\r\n\r\n").expect("a part's head");
        assert!(
            head.contains(&format!("Content-Range: bytes {range}/18000")),
            "{head}"
        );
        assert_eq!(body, &large[bytes]);
    }
    // Too many are not worth their framing.
    let many = |count: usize| {
        let ranges: Vec<String> = (0..count).map(|n| format!("{0}-{0}", n * 200)).collect();
        format!("Range: bytes={}\r\n", ranges.join(","))
    };
    assert_eq!(s.get("/large", &many(32)).status, 206);
    assert_eq!(s.get("/large", &many(33)).status, 200);
}

#[test]
fn a_file_that_changes_is_served_anew_within_a_second() {
    let large = "x".repeat(100_000);
    let mut s = site(
        &[("small", "one"), ("large", &large), ("dir/b.html", "b")],
        "index = ['a.html', 'b.html']",
    );
    assert_eq!(s.get("/small", "").text(), "one");
    assert_eq!(s.get("/large", "").body.len(), 100_000);
    assert_eq!(s.get("/dir/", "").text(), "b");
    fs::write(s.path("small"), "other").expect("a write");
    fs::write(s.path("new"), "y".repeat(50_000)).expect("a write");
    fs::rename(s.path("new"), s.path("large")).expect("a rename");
    fs::write(s.path("dir/a.html"), "a").expect("a write");
    s.bench.later(Duration::from_secs(1));
    assert_eq!(s.get("/small", "").text(), "other");
    assert_eq!(s.get("/large", "").text(), "y".repeat(50_000));
    assert_eq!(
        s.get("/dir/", "").text(),
        "a",
        "an index that goes before the old one"
    );
    fs::remove_file(s.path("small")).expect("removed");
    s.bench.later(Duration::from_secs(1));
    assert_eq!(s.get("/small", "").status, 404);
}

#[test]
fn no_answer_has_the_head_of_one_version_and_the_body_of_another() {
    let text = |letter: &str| letter.repeat(100_000);
    let mut s = site(
        &[
            ("large", &text("a")),
            ("large.gz", &text("c")),
            ("404.html", &text("e")),
            ("replaced", &text("g")),
        ],
        "precompressed = true\nerror_pages = { 404 = '404.html' }",
    );
    let gzip = "Accept-Encoding: gzip\r\n";
    let is = |answer: &Answer, letter: &str| answer.body == text(letter).as_bytes();
    let first = s.get("/large", "");
    assert!(is(&s.get("/none", ""), "e") && is(&s.get("/replaced", ""), "g"));
    // Written anew under the same inode and with the same length, within the second for which an
    // answer is kept.
    for (name, letter) in [("large", "b"), ("large.gz", "d"), ("404.html", "f")] {
        fs::write(s.path(name), text(letter)).expect("a write");
        touch(&s.path(name), -100); // another time, however coarse the clock
    }
    fs::write(s.path("new"), text("h")).expect("a write");
    fs::rename(s.path("new"), s.path("replaced")).expect("a rename");
    s.bench.later(Duration::from_micros(1));
    let second = s.get("/large", "");
    assert!(is(&second, "b") && second.header("etag") != first.header("etag"));
    assert!(is(&s.get("/large", gzip), "d") && is(&s.get("/none", ""), "f"));
    assert!(is(&s.get("/replaced", ""), "h"), "its file lost its name");
    // A part of what there was is no part of what there is.
    fs::write(s.path("large"), "short").expect("a write");
    s.bench.later(Duration::from_micros(1));
    let tag = first.header("etag").expect("a tag");
    let range = format!("Range: bytes=0-9\r\nIf-Range: {tag}\r\n");
    let third = s.get("/large", &range);
    assert_eq!((third.status, third.text()), (200, "short"));
}

/// Sets when a file last changed, as builds with fixed times do: in seconds and nanoseconds since
/// 1970.
fn set_modified(path: &Path, seconds: i64, nanoseconds: u32) {
    let span = Duration::from_secs(seconds.unsigned_abs());
    let second = match seconds < 0 {
        true => SystemTime::UNIX_EPOCH - span,
        false => SystemTime::UNIX_EPOCH + span,
    };
    let file = fs::File::options().write(true).open(path).expect("a file");
    let moment = second + Duration::from_nanos(nanoseconds.into());
    file.set_modified(moment).expect("a time");
}

/// How the next version of a file comes about.
#[derive(Clone, Copy, Debug)]
enum Change {
    InPlace,
    RemovedAndMadeAnew,
    Renamed,
}

#[test]
fn two_versions_of_one_length_and_one_time_are_two() {
    let large = |letter: &str| letter.repeat(100_000);
    for (seconds, nanoseconds) in [
        (315_532_800, 0), // 1980
        (0, 0),
        (-1, 0),
        (-1, 999_999_999),
        (-315_619_200, 5),
        (1_000_000_000, 5),
    ] {
        for change in [Change::InPlace, Change::RemovedAndMadeAnew, Change::Renamed] {
            let what = format!("{seconds}.{nanoseconds:09} {change:?}");
            let mut s = site(
                &[
                    ("a", "AAAA"),
                    ("large", &large("A")),
                    ("a.gz", "CCCC"),
                    ("404.html", "EEEE"),
                    ("app", "GGGG"),
                    ("dir/index.html", "IIII"),
                ],
                "precompressed = true\nspa = 'app'\nerror_pages = { 404 = '404.html' }",
            );
            let names = ["a", "large", "a.gz", "404.html", "app", "dir/index.html"];
            for name in names {
                set_modified(&s.path(name), seconds, nanoseconds);
            }
            let gzip = "Accept-Encoding: gzip\r\n";
            let targets = [
                ("/a", "", "AAAA", "BBBB"),
                ("/large", "", &large("A"), &large("B")),
                ("/a", gzip, "CCCC", "DDDD"),
                ("/gone.js", "", "EEEE", "FFFF"),
                ("/users/7", "", "GGGG", "HHHH"),
                ("/dir/", "", "IIII", "JJJJ"),
            ];
            let mut tags = Vec::new();
            for (target, headers, text, _) in targets {
                let answer = s.get(target, headers);
                assert_eq!(answer.text(), text, "{what} {target}");
                let header = |name| answer.header(name).unwrap_or("\"none\"").to_owned();
                tags.push((header("etag"), header("last-modified")));
            }
            for name in names {
                let path = s.path(name);
                let text = fs::read_to_string(&path).expect("a file");
                let next = char::from(text.as_bytes()[0] + 1)
                    .to_string()
                    .repeat(text.len());
                match change {
                    Change::InPlace => fs::write(&path, next).expect("a write"),
                    Change::RemovedAndMadeAnew => {
                        fs::remove_file(&path).expect("removed");
                        fs::write(&path, next).expect("a file");
                    }
                    Change::Renamed => {
                        let new = s.path("new");
                        fs::write(&new, next).expect("a file");
                        set_modified(&new, seconds, nanoseconds);
                        fs::rename(new, &path).expect("a rename");
                    }
                }
                set_modified(&path, seconds, nanoseconds);
            }
            s.bench.later(Duration::from_secs(5));
            for ((target, headers, _, text), (tag, modified)) in targets.into_iter().zip(tags) {
                for condition in [
                    String::new(),
                    format!("If-None-Match: {tag}\r\n"),
                    format!("If-Modified-Since: {modified}\r\n"),
                    format!("Range: bytes=0-1\r\nIf-Range: {tag}\r\n"),
                    format!("Range: bytes=0-1\r\nIf-Range: {modified}\r\n"),
                ] {
                    let answer = s.get(target, &format!("{headers}{condition}"));
                    let is_found = target != "/gone.js";
                    assert_eq!(
                        answer.status,
                        if is_found { 200 } else { 404 },
                        "{condition}"
                    );
                    assert_eq!(answer.text(), text, "{what} {target} {condition}");
                    assert_ne!(answer.header("etag"), Some(&*tag), "{what} {target}");
                }
                if target != "/gone.js" {
                    let condition = format!("{headers}If-Match: {tag}\r\n");
                    assert_eq!(s.get(target, &condition).status, 412, "{what} {target}");
                }
            }
        }
    }
}

#[test]
fn a_time_that_was_set_is_shown_and_is_a_condition() {
    let mut s = site(&[("a", "abc")], "");
    for (seconds, text) in [
        (-315_619_200, "Fri, 01 Jan 1960 00:00:00 GMT"),
        (-1, "Wed, 31 Dec 1969 23:59:59 GMT"),
        (0, "Thu, 01 Jan 1970 00:00:00 GMT"),
        (315_532_800, "Tue, 01 Jan 1980 00:00:00 GMT"),
    ] {
        set_modified(&s.path("a"), seconds, 0);
        s.bench.later(Duration::from_secs(2));
        assert_eq!(s.get("/a", "").header("last-modified"), Some(text));
        for (condition, status) in [
            (format!("If-Modified-Since: {text}"), 304),
            (
                "If-Modified-Since: Thu, 01 Jan 1959 00:00:00 GMT".into(),
                200,
            ),
            (format!("If-Unmodified-Since: {text}"), 200),
            (
                "If-Unmodified-Since: Thu, 01 Jan 1959 00:00:00 GMT".into(),
                412,
            ),
            // Another version may have been given the same time: parts are not joined by it.
            (format!("Range: bytes=0-0\r\nIf-Range: {text}"), 200),
        ] {
            let answer = s.get("/a", &format!("{condition}\r\n"));
            assert_eq!(answer.status, status, "{condition}");
        }
    }
}

#[test]
fn no_file_was_modified_after_its_answer() {
    let large = "x".repeat(100_000);
    let mut s = site(&[("a", "abc"), ("large", &large)], "");
    for name in ["a", "large"] {
        touch(&s.path(name), 3600);
    }
    // Later the file's time has come, and then the clock is set back.
    for span in [0, 7, 4000, -4000] {
        let seconds = Duration::from_secs(i64::unsigned_abs(span));
        match span < 0 {
            true => s.bench.wall -= seconds,
            false => s.bench.wall += seconds,
        }
        for target in ["/a", "/large"] {
            for (headers, status) in [("", 200), ("Range: bytes=0-0\r\n", 206)] {
                let answer = s.get(target, headers);
                assert_eq!(answer.status, status);
                let time = |name| {
                    let text = answer.header(name).expect("a date");
                    crate::http::date::parse(text.as_bytes()).expect("a date")
                };
                let is_over = span == 4000;
                assert_eq!(time("last-modified") < time("date"), is_over, "{span}");
                assert!(time("last-modified") <= time("date"), "{span} {target}");
            }
        }
    }
    // What is to change yet is not what the client has.
    let date = s.get("/a", "").header("date").expect("a date").to_owned();
    let known = format!("If-Modified-Since: {date}\r\n");
    assert_eq!(s.get("/a", &known).status, 200);
}

#[test]
fn a_path_leads_below_the_root_or_nowhere() {
    let outer = tempfile::tempdir().expect("a folder");
    fs::write(outer.path().join("secret"), "secret").expect("a file");
    let mut s = site(
        &[
            ("a.html", "a"),
            ("dir/b c.html", "b"),
            ("dir/index.html", "index"),
            (".hidden", "h"),
            ("dir/.git/config", "h"),
            ("100%.txt", "percent"),
            ("empty/", ""),
        ],
        "",
    );
    symlink("a.html", s.path("inside")).expect("a link");
    symlink("../a.html", s.path("dir/up")).expect("a link");
    symlink(outer.path().join("secret"), s.path("outside")).expect("a link");
    symlink(outer.path(), s.path("folder")).expect("a link");
    symlink("../../../../../../etc/passwd", s.path("dots")).expect("a link");
    symlink("loop", s.path("loop")).expect("a link");
    symlink("/proc/self/root/etc/passwd", s.path("magic")).expect("a link");
    for (path, status) in [
        ("/a.html", 200),
        ("/%61.html", 200),
        ("//a.html", 200),
        ("/dir/b%20c.html", 200),
        ("/dir//b%20c.html", 200),
        ("/100%25.txt", 200),
        ("/inside", 200),
        ("/dir/up", 200),
        ("/dir/", 200),
        ("/dir", 301),
        ("/empty/", 403),
        // Dot segments, encoded or not, are resolved below the root.
        ("/./a.html", 200),
        ("/dir/../a.html", 200),
        ("/dir/%2e%2e/a.html", 200),
        ("/dir/.%2E/a.html", 200),
        ("/dir/./b%20c.html", 200),
        ("/none/../dir/x/../b%20c.html", 200),
        ("/dir/.git/../b%20c.html", 200),
        ("/dir/.", 200),
        ("/dir/x/..", 200),
        ("/./dir", 301),
        ("/dir/..", 403),
        ("/.", 403),
        // Out of the root, or to what is hidden.
        ("/outside", 404),
        ("/folder/secret", 404),
        ("/folder/", 404),
        ("/dots", 404),
        ("/loop", 404),
        ("/magic", 404),
        ("/.hidden", 404),
        ("/%2ehidden", 404),
        ("/dir/.git/config", 404),
        ("/dir/%2egit/config", 404),
        ("/.hidden/", 404),
        // No file of that name, or one that is no folder.
        ("/A.html", 404),
        ("/a.html/", 404),
        ("/a.html/x", 404),
        ("/%2561.html", 404),
        ("/%252e%252e/secret", 404),
        ("/...", 404),
        ("/a.html%20", 404),
        ("/%ef%bc%8e%ef%bc%8e/secret", 404),
        ("/..%5csecret", 404),
        ("/%0d%0aX:%20y", 404),
        ("/%ff", 404),
        ("/%c0%ae%c0%ae/secret", 404),
        ("/dir/../.hidden", 404),
        // What no client sends that means well.
        ("/..", 400),
        ("/../secret", 400),
        ("/../a.html", 400),
        ("/dir/../../secret", 400),
        ("/./../secret", 400),
        ("/%2e%2e/%2e%2e/etc/passwd", 400),
        ("/dir%2fb%20c.html", 400),
        ("/..%2fsecret", 400),
        ("/a.html%00", 400),
        ("/a.html%00.png", 400),
        ("/%", 400),
        ("/%4", 400),
        ("/%zz", 400),
    ] {
        let answer = s.get(path, "");
        assert_eq!(answer.status, status, "{path}");
        assert!(
            !answer.text().contains("secret") && !answer.text().contains("root:"),
            "{path}"
        );
        s.bench.expect_open();
    }
}

#[test]
fn a_folder_without_its_slash_is_redirected_with_the_query() {
    let files = [
        ("a b/index.html", "x"),
        ("evil.example/x/", ""),
        ("a:b/", ""),
    ];
    let mut s = site(&files, "");
    for (target, location) in [
        ("/a%20b", "/a%20b/"),
        ("/a%20b?x=1&y=%20", "/a%20b/?x=1&y=%20"),
        ("//a%20b", "/a%20b/"),
        ("/a%20b?", "/a%20b/?"),
        ("/a%20b?x=%0d%0aY:%20z", "/a%20b/?x=%0d%0aY:%20z"),
        ("/a:b", "/a:b/"),
        // Never to another host.
        ("//evil.example", "/evil.example/"),
        ("//evil.example/x", "/evil.example/x/"),
        ("///evil.example//x?//y", "/evil.example/x/?//y"),
        ("http://evil.example/evil.example", "/evil.example/"),
    ] {
        let answer = s.get(target, "");
        assert_eq!(answer.status, 301);
        assert_eq!(answer.header("location"), Some(location), "{target}");
    }
}

#[test]
fn errors_have_pages_of_their_own() {
    let mut s = site(
        &[("404.html", "<p>nothing here"), ("dir/", "")],
        "error_pages = { 404 = '/404.html', 403 = 'missing.html' }\nheaders = { X-Frame-Options = 'DENY' }",
    );
    let answer = s.get("/x", "");
    assert_eq!((answer.status, answer.text()), (404, "<p>nothing here"));
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(answer.header("etag"), None);
    assert_eq!(answer.header("x-frame-options"), Some("DENY"));
    let head = s.ask("HEAD", "/x", "Host: h\r\n");
    assert_eq!((head.status, head.body.len()), (404, 0));
    assert_eq!(head.header("content-length"), Some("15"));
    let answer = s.get("/dir/", "");
    assert_eq!(answer.status, 403, "its page is missing");
    assert!(answer.text().contains("403 Forbidden"));
    assert_eq!(
        s.get("/404.html", "").status,
        200,
        "it can also be asked for"
    );
    fs::write(s.path("404.html"), "gone").expect("a write");
    s.bench.later(Duration::from_secs(1));
    assert_eq!(s.get("/x", "").text(), "gone");
}

#[test]
fn every_error_has_its_page_whatever_the_request_was() {
    let codes = [
        400, 403, 404, 405, 408, 412, 413, 414, 416, 417, 421, 431, 501, 505,
    ];
    let names: Vec<String> = codes.iter().map(|code| format!("{code}.md")).collect();
    let texts: Vec<String> = codes.iter().map(|code| format!("page {code}")).collect();
    let mut files = vec![("a", "a"), ("dir/", "")];
    files.extend(
        names
            .iter()
            .map(String::as_str)
            .zip(texts.iter().map(String::as_str)),
    );
    let pages = codes.map(|code| format!("{code} = '{code}.md'")).join(", ");
    let lines = format!(
        "error_pages = {{ {pages} }}\nheaders = {{ X-Frame-Options = 'DENY' }}\nmedia_types = {{ md = 'text/markdown' }}"
    );
    let get =
        |target: &str, headers: &str| format!("GET {target} HTTP/1.1\r\nHost: h\r\n{headers}\r\n");
    for (code, request) in [
        (400, "nonsense\r\n\r\n".to_owned()),
        (400, get("/../a", "")),
        (400, get("/a", "Content-Length: x\r\n")),
        (403, get("/dir/", "")),
        (404, get("/none", "")),
        (404, get("/none", "").replace("GET", "HEAD")),
        (405, get("/a", "").replace("GET", "DELETE")),
        (408, "GET /a HTTP/1.1\r\nHos".to_owned()),
        (412, get("/a", "If-Match: \"x\"\r\n")),
        (412, get("/a", "If-Match: \"x\"\r\n").replace("GET", "HEAD")),
        (413, get("/a", "Content-Length: 1000000000\r\n")),
        (
            413,
            get(
                "/a",
                "Content-Length: 1000000000\r\nExpect: 100-continue\r\n",
            ),
        ),
        (414, get(&format!("/{}", "a".repeat(9000)), "")),
        (416, get("/a", "Range: bytes=7-\r\n")),
        (417, get("/a", "Expect: x\r\n")),
        (421, get("https://h/a", "")),
        (431, get("/a", &format!("X: {}\r\n", "a".repeat(17_000)))),
        (501, get("/a", "").replace("GET", "BREW")),
        (501, get("/a", "").replace("GET", &"M".repeat(9000))),
        (505, get("/a", "").replace("HTTP/1.1", "HTTP/2.0")),
    ] {
        let mut s = site(&files, &lines);
        s.bench.peer_sends(request.as_bytes());
        if code == 408 {
            s.bench.later(Duration::from_secs(10));
        }
        let answer = s.answer(&request);
        assert_eq!(answer.status, code, "{request}");
        let page = format!("page {code}");
        let is_head = request.starts_with("HEAD");
        assert_eq!(answer.text(), if is_head { "" } else { &page }, "{request}");
        assert_eq!(answer.header("content-length"), Some("8"));
        assert_eq!(answer.header("content-type"), Some("text/markdown"));
        assert_eq!(answer.header("x-frame-options"), Some("DENY"));
        let allow = (code == 405).then_some("GET, HEAD, OPTIONS");
        assert_eq!(answer.header("allow"), allow, "{request}");
        let range = (code == 416).then_some("bytes */1");
        assert_eq!(answer.header("content-range"), range, "{request}");
        assert_eq!(answer.header("etag"), None, "it is not what was asked for");
    }
}

#[test]
fn routes_without_files_have_pages_of_errors_in_a_folder_of_their_own() {
    let files = [("errors/502", "no origin"), ("errors/404", "no page")];
    let mut s = site(
        &files,
        "error_root = 'ROOT/errors'\nerror_pages = { 404 = '404' }\n\
         [[listener.route]]\nprefix = '/api/'\nupstream = 'http://127.0.0.1:1'\n\
         error_root = 'ROOT/errors'\nerror_pages = { 502 = '502' }\n\
         [[listener.route]]\nprefix = '/admin/'\nadmin = true\n\
         error_root = 'ROOT/errors'\nerror_pages = { 404 = '404' }",
    );
    for target in ["/admin/nothing", "/nothing", "/errors"] {
        let answer = s.ask("GET", target, "Host: localhost\r\n");
        assert_eq!((answer.status, answer.text()), (404, "no page"), "{target}");
    }
    s.bench
        .peer_sends(b"GET /api/x HTTP/1.1\r\nHost: h\r\n\r\n");
    s.bench.origin_fails(io::ErrorKind::ConnectionRefused);
    let answer = s.answer("/api/x");
    assert_eq!((answer.status, answer.text()), (502, "no origin"));
}

#[test]
fn a_site_has_its_own_error_pages_and_what_is_no_request_the_listeners() {
    let mut s = site(
        &[
            ("main/405", "main 405"),
            ("main/400", "main 400"),
            ("x/405", "x 405"),
        ],
        "root = 'ROOT/main'\nerror_pages = { 400 = '400', 405 = '405' }\n\
         site = [{ prefix = '/x/', root = 'ROOT/x', error_pages = { 405 = '405' } }]",
    );
    assert_eq!(s.ask("PUT", "/a", "Host: h\r\n").text(), "main 405");
    assert_eq!(s.ask("PUT", "/x/a", "Host: h\r\n").text(), "x 405");
    assert_eq!(s.ask("GET", "/x/../../", "Host: h\r\n").text(), "main 400");
    assert_eq!(s.ask("GET", "/a b", "Host: h\r\n").text(), "main 400");
    // Without a root there is nowhere to take one from.
    let mut s = site(&[], "site = [{ prefix = '/x/', root = 'ROOT' }]");
    assert!(
        s.ask("PUT", "/a", "Host: h\r\n")
            .text()
            .contains("<h1>405 ")
    );
}

#[test]
fn cache_control_headers_and_types_are_as_configured() {
    let mut s = site(
        &[
            ("a.css", "a"),
            ("img/b.png", "b"),
            ("c.txt", "c"),
            ("d.md", "d"),
            ("img/e.md", "e"),
        ],
        "cache_control = [{ match = '*.css', value = 'max-age=3600' }, { match = 'img/**', value = 'no-store' }]\n\
         headers = { Referrer-Policy = 'no-referrer', Vary = 'Origin' }\n\
         media_types = { md = 'text/plain', '.CSS' = 'text/x-css' }",
    );
    for (path, cache_control, kind) in [
        ("/a.css", Some("max-age=3600"), "text/x-css"),
        ("/img/b.png", Some("no-store"), "image/png"),
        ("/c.txt", None, "text/plain; charset=utf-8"),
        ("/img/e.md", Some("no-store"), "text/plain"),
    ] {
        let answer = s.get(path, "");
        assert_eq!(answer.header("cache-control"), cache_control, "{path}");
        assert_eq!(answer.header("content-type"), Some(kind), "{path}");
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        // The same with 304 and 206.
        let tag = answer.header("etag").expect("a tag").to_owned();
        for headers in [
            format!("If-None-Match: {tag}\r\n"),
            "Range: bytes=0-0\r\n".to_owned(),
        ] {
            let answer = s.get(path, &headers);
            assert!([304, 206].contains(&answer.status));
            assert_eq!(answer.header("cache-control"), cache_control, "{path}");
            assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        }
    }
}

#[test]
fn a_page_that_reads_the_path_itself_answers_for_what_is_missing() {
    let mut s = site(
        &[("index.html", "app"), ("real.txt", "real"), ("dir/x", "")],
        "spa = 'index.html'",
    );
    for (path, headers, status) in [
        ("/real.txt", "", 200),
        ("/users/7", "", 200),
        ("/users/7/", "", 200),
        ("/john.doe", "Accept: text/html,*/*;q=0.8\r\n", 200),
        ("/gone.js", "", 404),
        ("/gone.js", "Accept: */*\r\n", 404),
        ("/.hidden", "Accept: text/html\r\n", 404),
        ("/../x", "", 400),
        ("/dir/", "", 403),
    ] {
        let answer = s.get(path, headers);
        assert_eq!(answer.status, status, "{path} {headers}");
        let text = if path == "/real.txt" { "real" } else { "app" };
        assert!(status != 200 || answer.text() == text, "{path}");
    }
}

#[test]
fn sites_are_told_apart_by_host_and_path() {
    let mut s = site(
        &[
            ("main/index.html", "main"),
            ("main/x/index.html", "not this one"),
            ("x/index.html", "x"),
            ("x/sub/a", "x sub a"),
            ("deep/a", "deep a"),
            ("other/index.html", "other"),
        ],
        "root = 'ROOT/main'\nsite = [{ prefix = '/x/', root = 'ROOT/x' }, { prefix = '/x/deep/', root = 'ROOT/deep' }, \
         { host = 'Other.Example', root = 'ROOT/other' }]",
    );
    for (host, path, status, text) in [
        ("h", "/", 200, "main"),
        ("h", "/x/", 200, "x"),
        ("h", "/%78/", 200, "x"),
        ("h", "//x//sub/a", 200, "x sub a"),
        ("h", "/x/deep/a", 200, "deep a"),
        ("h", "/xy/", 404, ""),
        ("h", "/x/../", 200, "main"),
        ("h", "/none/../x/", 200, "x"),
        ("h", "/./x/sub/%2e%2e/deep/a", 200, "deep a"),
        ("h", "/x/../../", 400, ""),
        ("other.example", "/", 200, "other"),
        ("OTHER.EXAMPLE.:8080", "/", 200, "other"),
        ("other.example", "/x/", 404, ""),
        ("another.example", "/", 200, "main"),
        ("h", "http://other.example/", 200, "other"),
        ("other.example", "http://h/", 200, "main"),
    ] {
        let answer = s.ask("GET", path, &format!("Host: {host}\r\n"));
        assert_eq!(answer.status, status, "{host} {path}");
        assert!(
            status != 200 || answer.text() == text,
            "{host} {path}: {}",
            answer.text()
        );
    }
    let answer = s.get("/x?q", "");
    assert_eq!(answer.header("location"), Some("/x/?q"));
    let answer = s.get("/x/sub", "");
    assert_eq!(answer.header("location"), Some("/x/sub/"));
}

#[test]
fn without_a_root_of_its_own_a_listener_has_its_sites_alone() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("a"), "a").expect("a file");
    let lines = "site = [{ host = 'a.example', root = 'ROOT' }]";
    let bench = bench(folder.path(), lines);
    let mut s = Site { folder, bench };
    assert_eq!(s.ask("GET", "/a", "Host: a.example\r\n").status, 200);
    assert_eq!(s.ask("GET", "/a", "Host: b.example\r\n").status, 404);
    assert_eq!(
        s.ask("GET", "/", "Host: b.example\r\n").status,
        404,
        "nor the embedded site"
    );
}

/// `ann` with `tulip`, 5,000 rounds, so more than a turn does:
/// `hashlib.pbkdf2_hmac("sha256", b"tulip", b"0123456789abcdef", 5000)` of Python.
const USERS: &str =
    "ann:$pbkdf2-sha256$5000$MDEyMzQ1Njc4OWFiY2RlZg$JCaLNzh8NKhL5aWJRMNAgUjO4ICyX9vBHmzdU1ulrPc\n";

/// A site with a file of users in the folder above the root.
fn with_users(lines: &str) -> Site {
    let mut s = site(&[("site/a", "a"), ("site/401.html", "who?")], "");
    fs::write(s.path("users"), USERS).expect("a file");
    let lines =
        format!("root = 'ROOT/site'\nauth = {{ realm = 'the lab', file = 'ROOT/users' }}\n{lines}");
    s.bench = bench(s.folder.path(), &lines);
    s
}

#[test]
fn who_has_no_password_sees_nothing() {
    let mut s = with_users("error_pages = { 401 = '401.html' }");
    let right = "Authorization: Basic YW5uOnR1bGlw\r\n";
    let wrong = "Authorization: Basic YW5uOlR1bGlw\r\n";
    let nobody = "Authorization: Basic Ym9iOnR1bGlw\r\n";
    for headers in [
        "",
        wrong,
        nobody,
        "Authorization: Bearer x\r\n",
        "Authorization: Basic !\r\n",
        &format!("{right}{right}"),
    ] {
        let answer = s.get("/a", headers);
        assert_eq!((answer.status, answer.text()), (401, "who?"), "{headers}");
        let challenge = Some("Basic realm=\"the lab\", charset=\"UTF-8\"");
        assert_eq!(answer.header("www-authenticate"), challenge);
    }
    let before = s.bench.metrics.turns;
    let answer = s.get("/a", right);
    assert_eq!((answer.status, answer.text()), (200, "a"));
    let turns = s.bench.metrics.turns - before;
    assert!(
        (5..=6).contains(&turns),
        "{turns} turns of a thousand rounds"
    );
    let before = s.bench.now;
    assert_eq!(s.get("/a", right).status, 200);
    assert_eq!(s.bench.now, before, "it is remembered");
    assert_eq!(s.get("/missing", right).status, 404);
    assert_eq!(s.get("/missing", "").status, 401, "nor what there is not");
    s.bench.later(Duration::from_secs(30));
    assert_eq!(s.get("/a", wrong).status, 401);
}

#[test]
fn a_password_covers_all_that_a_listener_answers() {
    let right = "Authorization: Basic YW5uOnR1bGlw\r\n";
    let without_root = |lines: &str| {
        let mut s = with_users("");
        let auth = "auth = { realm = 'the lab', file = 'ROOT/users' }";
        s.bench = bench(s.folder.path(), &format!("{auth}\n{lines}"));
        s
    };
    for mut s in [
        with_users("routes = 'probe'"),
        without_root("routes = 'probe'\nsite = [{ prefix = '/x/', root = 'ROOT/site' }]"),
    ] {
        for (method, target) in [
            ("GET", "/"),
            ("HEAD", "/"),
            ("POST", "/"),
            ("GET", "/echo"),
            ("POST", "/echo"),
            ("GET", "/cookie"),
            ("OPTIONS", "/"),
            ("OPTIONS", "/a"),
            ("OPTIONS", "*"),
            ("DELETE", "/"),
            ("PUT", "/a"),
            ("GET", "/none"),
            ("BREW", "/a"),
        ] {
            let answer = s.ask(method, target, "Host: h\r\n");
            assert_eq!(answer.status, 401, "{method} {target}");
            assert!(answer.header("www-authenticate").is_some());
            let answer = s.ask(method, target, &format!("Host: h\r\n{right}"));
            assert_ne!(answer.status, 401, "{method} {target}");
        }
    }
    // A body is neither waited for nor sent back.
    let mut s = with_users("routes = 'probe'");
    let body = "Host: h\r\nContent-Length: 4\r\n";
    assert_eq!(s.ask("POST", "/", &format!("{body}\r\nabcd")).status, 401);
}

#[test]
fn a_password_covers_the_embedded_site() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("users"), USERS).expect("a file");
    let text = "[[listener]]\nkind = 'http'\nauth = { file = 'users' }";
    let file = folder.path().join("x.toml");
    let mut s = Site {
        bench: bench_of(text, &file),
        folder,
    };
    let right = "Authorization: Basic YW5uOnR1bGlw\r\n";
    assert_eq!(s.get("/", "").status, 401);
    assert_eq!(s.get("/HelloWorld.html", "").status, 401);
    assert_eq!(s.get("/HelloWorld.html", right).status, 200);
}

#[test]
fn a_request_that_waits_for_its_password_keeps_its_place() {
    let mut s = with_users("");
    let one = "GET /a HTTP/1.1\r\nHost: h\r\nAuthorization: Basic YW5uOnR1bGlw\r\n\r\n";
    let two = "GET /none HTTP/1.1\r\nHost: h\r\n\r\n";
    s.bench.peer_sends(format!("{one}{two}").as_bytes());
    s.bench.peer_closes();
    let text = String::from_utf8(s.bench.received()).expect("text");
    let first = text.find("HTTP/1.1 200 OK").expect("the first answer");
    let second = text
        .find("HTTP/1.1 401 Unauthorized")
        .expect("the second answer");
    assert!(first < second, "{text}");
    s.bench.expect_closed();
}

#[test]
fn a_listing_is_a_page_that_sorts_without_scripts() {
    let mut s = site(
        &[
            ("dir/b.txt", "12345"),
            ("dir/A.txt", "1"),
            ("dir/zz/", ""),
            ("dir/.hidden", ""),
            ("dir/<b>&\"'.txt", "123"),
            ("dir/a:b", ""),
            ("empty/", ""),
        ],
        "listing = true\nheaders = { X-Frame-Options = 'DENY' }",
    );
    symlink("/etc/passwd", s.path("dir/outside")).expect("a link");
    symlink("../empty", s.path("dir/linked")).expect("a link");
    touch(&s.path("dir/A.txt"), -1000);
    let names = |answer: &Answer| -> Vec<String> {
        let hrefs = answer.text().split("<td><a href=\"").skip(1);
        hrefs
            .filter_map(|rest| Some(rest.split_once('"')?.0.to_owned()))
            .collect()
    };
    let page = s.get("/dir/", "Accept: text/html\r\n");
    assert_eq!(page.status, 200);
    assert_eq!(
        page.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert_eq!(page.header("vary"), Some("Accept"));
    assert_eq!(page.header("x-frame-options"), Some("DENY"));
    let by_name = [
        "../",
        "./linked/",
        "./zz/",
        "./%3Cb%3E%26%22%27.txt",
        "./A.txt",
        "./a:b",
        "./b.txt",
    ];
    assert_eq!(names(&page), by_name);
    let text = page.text();
    assert!(
        text.contains(">&lt;b&gt;&amp;&quot;&#39;.txt</a>") && !text.contains("<b>"),
        "{text}"
    );
    assert!(
        text.contains("<form><p>2 folders, 4 files, 9 B; download all: <button name=\"archive\" value=\"tar\">"),
        "{text}"
    );
    assert!(
        text.contains("href=\"?sort=name&amp;order=desc\"")
            && text.contains("prefers-color-scheme:dark")
    );
    assert!(!text.contains("<script") && !text.contains("outside") && !text.contains("hidden"));
    let by_size = s.get("/dir/?sort=size&order=desc", "");
    let order = [
        "../",
        "./zz/",
        "./linked/",
        "./b.txt",
        "./%3Cb%3E%26%22%27.txt",
        "./A.txt",
        "./a:b",
    ];
    assert_eq!(names(&by_size), order);
    assert!(by_size.text().contains("?sort=size&amp;order=asc"));
    assert_eq!(names(&s.get("/dir/?sort=date", ""))[3], "./A.txt");
    // The root has no parent.
    assert_eq!(names(&s.get("/", "")), ["./dir/", "./empty/"]);
    // HEAD is the same without the body; the folder without its slash is redirected.
    let head = s.ask("HEAD", "/dir/", "Host: h\r\n");
    assert_eq!(head.header("content-length"), page.header("content-length"));
    assert!(head.body.is_empty());
    assert_eq!(
        s.get("/dir?sort=size", "").header("location"),
        Some("/dir/?sort=size")
    );
    // Every link leads to what it says.
    for name in &by_name[1..] {
        let answer = s.get(&format!("/dir/{}", &name[2..]), "");
        assert_eq!(answer.status, 200, "{name}");
    }
    assert_eq!(
        site(&[("a", "")], "").get("/", "").status,
        403,
        "it is off by default"
    );
}

#[test]
fn no_name_breaks_a_listing() {
    let mut s = site(&[("<i>\"'&/x", "")], "listing = true");
    let folder = s.path("<i>\"'&");
    let shown = [
        "<script>alert(1)<",
        "\"quoted\"",
        "it's",
        "&amp;",
        "a?b#c",
        "100%25",
        "javascript:x",
        "日本",
    ];
    for name in shown {
        fs::write(folder.join(name), name).expect("a file");
    }
    // Line ends and other controls, backslashes, bytes that are not UTF-8, and what turns the
    // direction.
    let escaped: [(&[u8], &str); 9] = [
        (b"new\nline", "new\\nline"),
        (b"return\r", "return\\r"),
        (b"tab\t", "tab\\t"),
        (b"esc\x1b[1m", "esc\\u{1b}[1m"),
        (b"del\x7f", "del\\u{7f}"),
        (b"back\\slash", "back\\slash"),
        (b"\xff\xfe", "\\xff\\xfe"),
        (b"caf\xe9", "caf\\xe9"),
        ("gnp\u{202e}.exe".as_bytes(), "gnp\\u{202e}.exe"),
    ];
    for (name, _) in escaped {
        fs::write(folder.join(OsStr::from_bytes(name)), name).expect("a file");
    }
    let target = "/%3Ci%3E%22%27&/";
    let page = s.get(target, "Accept: text/html\r\n");
    let text = page.text();
    assert!(
        text.contains("<title>Index of /&lt;i&gt;&quot;&#39;&amp;/</title>"),
        "{text}"
    );
    assert!(!text.contains("<script") && !text.contains("<i>"), "{text}");
    for (_, escape) in escaped {
        assert!(
            text.contains(&format!("\">{escape}</a>")),
            "{escape}: {text}"
        );
    }
    let mut links = 0;
    let mut bodies = Vec::new();
    for line in text
        .lines()
        .filter(|line| line.starts_with("<tr><td><a href=\"./"))
    {
        let (href, rest) = line["<tr><td><a href=\"./".len()..]
            .split_once("\">")
            .expect("a link");
        assert!(
            href.bytes()
                .all(|byte| byte.is_ascii_graphic() && !b"<>\"'&".contains(&byte)),
            "{href}"
        );
        let (name, _) = rest.split_once("</a>").expect("a name");
        assert!(!name.contains(['<', '>', '"', '\'']), "{name}");
        let answer = s.get(&format!("{target}{href}"), "");
        assert_eq!(answer.status, 200, "{href}");
        bodies.push(answer.body);
        links += 1;
    }
    assert_eq!(links, shown.len() + escaped.len() + 1, "{text}");
    for (name, _) in escaped {
        assert!(bodies.iter().any(|body| body == name), "{name:?}");
    }
    let json = s.get(&format!("{target}?format=json"), "");
    let value: serde_json::Value = serde_json::from_str(json.text()).expect("JSON");
    let entries = value["entries"].as_array().expect("a list");
    let names: Vec<&str> = entries
        .iter()
        .filter_map(|entry| entry["name"].as_str())
        .collect();
    assert!(
        names.len() == links && shown.iter().all(|name| names.contains(name)),
        "{names:?}"
    );
    assert!(names.contains(&"new\nline") && names.contains(&"caf\u{fffd}"));
    for entry in entries {
        let href = entry["href"].as_str().expect("a link");
        let answer = s.get(&format!("{target}{}", &href[2..]), "");
        assert_eq!(answer.status, 200, "{href}");
    }
}

#[test]
fn a_folder_of_any_name_is_listed_and_led_to() {
    let mut s = site(
        &[],
        "listing = true\nindex = ['none']\nprecompressed = true",
    );
    let names = [
        &b"new\nline"[..],
        b"back\\slash",
        b"\xff\xfe",
        b"a\tb",
        b"\xc3\xbc",
    ];
    for name in names {
        let folder = s.folder.path().join(OsStr::from_bytes(name));
        fs::create_dir(&folder).expect("a folder");
        fs::write(folder.join(OsStr::from_bytes(name)), "text").expect("a file");
        let mut copy = name.to_vec();
        copy.extend_from_slice(b".gz");
        fs::write(folder.join(OsStr::from_bytes(&copy)), "gzip").expect("a file");
        let encoded = crate::http::path::encode(name).to_string();
        let answer = s.get(&format!("/{encoded}"), "");
        assert_eq!(answer.header("location"), Some(&*format!("/{encoded}/")));
        let page = s.get(&format!("/{encoded}/"), "");
        assert_eq!(page.status, 200, "{encoded}");
        let link = format!("<a href=\"./{encoded}\">");
        assert!(page.text().contains(&link), "{}", page.text());
        assert!(
            page.text().contains("<a href=\"../\">/</a>"),
            "{}",
            page.text()
        );
        let file = format!("/{encoded}/{encoded}");
        assert_eq!(s.get(&file, "").text(), "text");
        assert_eq!(s.get(&file, "Accept-Encoding: gzip\r\n").text(), "gzip");
    }
}

#[test]
fn what_is_neither_file_nor_folder_is_not_there() {
    use std::os::unix::net::UnixListener;
    let mut s = site(
        &[("dir/b.html", "b"), ("only/x", ""), ("a", "plain")],
        "listing = true\nprecompressed = true\nindex = ['a.html', 'b.html']\nerror_pages = { 404 = 'page' }",
    );
    let mut sockets = Vec::new();
    for name in ["socket", "dir/a.html", "a.gz", "page"] {
        sockets.push(UnixListener::bind(s.path(name)).expect("a socket"));
    }
    for name in ["pipe", "only/a.html", "a.br"] {
        let path = s.path(name);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RWXU,
            0,
        )
        .expect("a pipe");
    }
    for target in [
        "/socket",
        "/pipe",
        "/socket/",
        "/page",
        "/only/a.html",
        "/a.gz",
    ] {
        assert_eq!(s.get(target, "").status, 404, "{target}");
    }
    assert_eq!(s.get("/dir/", "").text(), "b");
    assert!(s.get("/only/", "").text().contains("\"./x\""));
    for _ in 0..2 {
        let answer = s.get("/a", "Accept-Encoding: gzip, br\r\n");
        assert_eq!((answer.status, answer.text()), (200, "plain"));
        s.bench.later(Duration::from_secs(1));
    }
    let listing = s.get("/", "");
    let text = listing.text();
    assert!(!text.contains("socket") && !text.contains("pipe") && !text.contains("page"));
    assert!(text.contains("\"./a\""), "{text}");
}

#[test]
fn a_method_is_unknown_or_not_for_this_resource() {
    let long = ["M".repeat(60), "M".repeat(9000), "M".repeat(20_000)];
    let unknown = ["BREW", "get", "PROPFIND", &long[0], &long[1], &long[2]];
    for (lines, target, allow) in [
        ("", "/a", "GET, HEAD, OPTIONS"),
        ("", "/none", "GET, HEAD, OPTIONS"),
        ("routes = 'probe'", "/", "GET, HEAD, POST, OPTIONS"),
        ("routes = 'probe'", "/cookie", "GET, HEAD, OPTIONS"),
        ("routes = 'probe'", "/a", "GET, HEAD, OPTIONS"),
    ] {
        for method in unknown {
            let mut s = site(&[("a", "a")], lines);
            let answer = s.ask(method, target, "Host: h\r\n");
            assert_eq!(answer.status, 501, "{method:.9} {target}");
            assert_eq!(answer.header("allow"), None, "{method:.9} {target}");
        }
        for method in ["PUT", "DELETE", "PATCH", "TRACE"] {
            let answer = site(&[("a", "a")], lines).ask(method, target, "Host: h\r\n");
            assert_eq!(answer.status, 405, "{method} {target}");
            assert_eq!(answer.header("allow"), Some(allow), "{method} {target}");
        }
    }
}

#[test]
fn bytes_that_no_uri_has_are_refused_whatever_is_served() {
    let targets = [
        "/\u{fc}",
        "/a?\u{65e5}",
        "/a<b",
        "/a>b",
        "/a\"b",
        "/a\\b",
        "/a^b",
        "/a`b",
        "/a{b",
        "/a|b",
        "/a}b",
        "/?a|b",
        "http://h/a|b",
    ];
    let text = "[[listener]]\nkind = 'http'";
    let embedded = || Site {
        folder: tempfile::tempdir().expect("a folder"),
        bench: bench_of(text, Path::new("x.toml")),
    };
    for target in targets {
        for mut s in [
            site(&[("a", "")], ""),
            site(&[], "routes = 'probe'"),
            embedded(),
        ] {
            let answer = s.get(target, "");
            assert_eq!(answer.status, 400, "{target}");
            assert_eq!(answer.header("connection"), Some("close"), "{target}");
        }
    }
    let mut raw = embedded();
    raw.bench
        .peer_sends(b"GET /\xff HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(raw.answer("GET").status, 400);
    for (target, status) in [
        ("/", 200),
        ("/.", 200),
        ("/index.html", 200),
        ("/HelloWorld.html", 200),
        ("//HelloWorld.html", 200),
        ("/./HelloWorld.html", 200),
        ("/x/../HelloWorld.html?a=[1]&b=%7c", 200),
        ("/%48elloWorld.html", 200),
        ("/HelloWorld.html/", 404),
        ("/x/..", 200),
        ("/..", 400),
        ("/../HelloWorld.html", 400),
        ("/HelloWorld.html%00", 400),
        ("/%zz", 400),
    ] {
        assert_eq!(embedded().get(target, "").status, status, "{target}");
    }
}

#[test]
fn a_listing_is_json_for_who_prefers_it() {
    let mut s = site(
        &[("dir/b.txt", "12345"), ("dir/a\"b/", "")],
        "listing = true",
    );
    for (target, accept) in [
        ("/dir/", "Accept: application/json\r\n"),
        ("/dir/?format=json", "Accept: text/html\r\n"),
    ] {
        let answer = s.get(target, accept);
        assert_eq!(answer.header("content-type"), Some("application/json"));
        let value: serde_json::Value = serde_json::from_str(answer.text()).expect("JSON");
        assert_eq!(value["path"], "/dir/");
        assert_eq!(value["more"], false);
        assert_eq!(value["entries"][0]["name"], "a\"b");
        assert_eq!(value["entries"][0]["kind"], "folder");
        assert_eq!(value["entries"][1]["kind"], "file");
        assert_eq!(value["entries"][1]["size"], 5);
        let modified = value["entries"][1]["modified"].as_str().expect("a time");
        assert!(
            modified.starts_with("20") && modified.ends_with('Z'),
            "{modified}"
        );
    }
    let answer = s.get("/dir/?format=html", "Accept: application/json\r\n");
    assert_eq!(
        answer.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    let mut empty = site(&[("dir/", "")], "listing = true");
    let answer = empty.get("/dir/?format=json", "");
    let value: serde_json::Value = serde_json::from_str(answer.text()).expect("JSON");
    assert_eq!(value["entries"].as_array().map(Vec::len), Some(0));
}

#[test]
fn a_listing_is_sent_again_only_if_it_changed() {
    let mut s = site(&[("dir/a", "1")], "listing = true");
    let first = s.get("/dir/", "");
    let tag = first.header("etag").expect("a tag").to_owned();
    let known = format!("If-None-Match: {tag}\r\n");
    let again = s.get("/dir/", &known);
    assert_eq!((again.status, again.body.len()), (304, 0));
    for name in ["etag", "cache-control", "vary"] {
        assert_eq!(again.header(name), first.header(name), "{name}");
    }
    assert_eq!(s.get("/dir/?format=json", &known).status, 200);
    assert_eq!(s.get("/dir/", "If-Match: \"x\"\r\n").status, 412);
    fs::write(s.path("dir/a"), "22").expect("a file");
    s.bench.later(Duration::from_secs(1));
    let changed = s.get("/dir/", &known);
    assert_eq!(changed.status, 200);
    assert_ne!(changed.header("etag"), Some(&*tag));
}

#[test]
fn a_large_folder_is_listed_a_bounded_piece_a_turn() {
    let mut s = site(&[], "listing = true\nmax_listing_entries = 2000");
    for i in 0..2500 {
        fs::write(s.path(&format!("file-{i:05}.txt")), "").expect("a file");
    }
    let before = s.bench.metrics.turns;
    let answer = s.get("/?format=json", "");
    let turns = s.bench.metrics.turns - before;
    assert!(
        (6..20).contains(&turns),
        "{turns} turns for 2,000 entries, looked at and written"
    );
    let value: serde_json::Value = serde_json::from_str(answer.text()).expect("JSON");
    assert_eq!(value["entries"].as_array().map(Vec::len), Some(2000));
    assert_eq!(value["more"], true);
    // Who asks within a second shares it; later it is made anew.
    let before = s.bench.now;
    assert_eq!(s.get("/?format=json", "").body, answer.body);
    assert_eq!(s.bench.now, before);
    fs::remove_file(s.path("file-00000.txt")).expect("removed");
    for i in 1000..2500 {
        fs::remove_file(s.path(&format!("file-{i:05}.txt"))).expect("removed");
    }
    s.bench.later(Duration::from_secs(1));
    let answer = s.get("/?format=json", "");
    let value: serde_json::Value = serde_json::from_str(answer.text()).expect("JSON");
    assert_eq!(value["entries"].as_array().map(Vec::len), Some(999));
    assert_eq!(value["more"], false);
}

pub(in crate::services::web) fn counted(site: &Site) -> &WebMetrics {
    let listener = &site.bench.metrics.listeners[0];
    listener.of.web().expect("a web server")
}

#[test]
fn how_a_session_ends_is_counted_by_its_cause() {
    let probe = |head: &str| format!("POST / HTTP/1.1\r\nHost: h\r\n{head}\r\n");
    let get = |head: &str| format!("GET /a HTTP/1.1\r\nHost: h\r\n{head}\r\n");
    let (late, refused) = (Ending::TimedOut, Ending::Refused);
    let wait = Duration::from_secs(60);
    let now = Duration::ZERO;
    let chunks = "2\r\nab\r\n".repeat(30);
    for (request, span, answers, ending, limit) in [
        (String::new(), wait, "", late(Phase::Idle), None),
        (get(""), wait, "200", late(Phase::Idle), None),
        ("GET /a HT".to_owned(), wait, "408", late(Phase::Head), None),
        (
            probe("Content-Length: 9\r\n"),
            wait,
            "408",
            late(Phase::Body),
            None,
        ),
        (
            get("Content-Length: 9\r\n"),
            wait,
            "200",
            late(Phase::Body),
            None,
        ),
        (get("Connection: close\r\n"), now, "200", Ending::Done, None),
        (
            get("Expect: 100-continue\r\nContent-Length: 9\r\n"),
            now,
            "200",
            Ending::Done,
            None,
        ),
        ("nonsense\r\n\r\n".to_owned(), now, "400", refused, None),
        (
            get(&format!("X: {}\r\n", "a".repeat(17_000))),
            now,
            "431",
            refused,
            Some(Limit::Head),
        ),
        (
            get(&"X: y\r\n".repeat(101)),
            now,
            "431",
            refused,
            Some(Limit::Head),
        ),
        (
            get("").replace("/a", &format!("/{}", "a".repeat(9000))),
            now,
            "414",
            refused,
            Some(Limit::Target),
        ),
        (
            get("Content-Length: 101\r\n"),
            now,
            "413",
            refused,
            Some(Limit::Body),
        ),
        (
            probe("Transfer-Encoding: chunked\r\n") + &chunks,
            now,
            "413",
            refused,
            Some(Limit::Body),
        ),
        (
            get("Transfer-Encoding: chunked\r\n") + &chunks,
            now,
            "200",
            refused,
            Some(Limit::Body),
        ),
    ] {
        let mut s = site(&[("a", "a")], "routes = 'probe'\nmax_body_bytes = 100");
        s.bench.peer_sends(request.as_bytes());
        if span > now {
            s.bench.expect_open().later(span);
        }
        let received = String::from_utf8(s.bench.received()).expect("text");
        let statuses: Vec<&str> = received
            .split("HTTP/1.1 ")
            .skip(1)
            .map(|rest| &rest[..3])
            .collect();
        assert_eq!(statuses.join(" "), answers, "{request}");
        s.bench.expect_closed();
        assert_eq!(s.bench.ending, ending, "{request}");
        let counted = counted(&s).refused;
        let expected = Limit::ALL.map(|one| u64::from(limit == Some(one)));
        assert_eq!(counted, expected, "{request}");
    }
    // A client that leaves in the middle of a request broke the protocol, one that leaves between
    // two did not.
    for (request, ending) in [("GET /a HT", refused), ("", Ending::Done)] {
        let mut s = site(&[("a", "a")], "");
        s.bench.peer_sends(request.as_bytes()).peer_closes();
        assert_eq!(s.bench.ending, ending, "{request}");
    }
}

#[test]
fn listings_beyond_the_share_of_a_client_are_refused_and_counted() {
    let names: Vec<String> = (0..20).map(|number| format!("{number}/")).collect();
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), "")).collect();
    let mut s = site(&files, "listing = true");
    for name in &names {
        let answer = s.get(&format!("/{name}"), "");
        assert_eq!(answer.status, 200, "what is done makes room");
    }
    s.bench.later(Duration::from_secs(1));
    s.bench.disk_rests = true;
    let mut waiting = Vec::new();
    for name in &names[..4] {
        let request = format!("GET /{name} HTTP/1.1\r\nHost: h\r\n\r\n");
        s.bench.peer_sends(request.as_bytes()).expect(b"");
        waiting.push(s.bench.next_client());
    }
    let answer = s.get("/4/", "");
    assert_eq!(
        (answer.status, answer.header("retry-after")),
        (503, Some("1"))
    );
    s.bench.expect_open();
    assert_eq!(counted(&s).refused[Limit::Listings as usize], 1);
    // Those who waited have gone, and with them what was at work for them.
    for conn in waiting {
        s.bench.ends(conn);
    }
    s.bench.disk_rests = false;
    assert_eq!(s.get("/4/", "").status, 200);
    assert!(s.bench.jobs.is_idle());
}

#[test]
fn a_request_that_is_answered_otherwise_waits_for_no_listing_any_more() {
    let mut s = site(&[("a", "abc")], "listing = true");
    s.get("/?format=json", ""); // that there is no index is known from now on
    s.bench.disk_rests = true;
    let request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    s.bench.peer_sends(request.as_bytes()).expect(b"");
    assert!(!s.bench.jobs.is_idle());
    fs::write(s.path("index.html"), "hello").expect("a file");
    s.bench.later(Duration::from_secs(1));
    assert_eq!(s.answer(request).text(), "hello");
    assert!(s.bench.jobs.is_idle());
}

#[test]
fn a_disk_that_does_not_answer_ends_what_waits_for_it() {
    let mut s = site(&[("folder/a", "abc")], "listing = true");
    s.get("/folder/?format=json", ""); // that there is no index is known from now on
    s.bench.disk_rests = true;
    for (target, answer) in [("/folder/?tar", "HTTP/1.1 200"), ("/folder/", "")] {
        let request = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
        s.bench.peer_sends(request.as_bytes());
        assert!(s.bench.received().starts_with(answer.as_bytes()));
        s.bench.later(Duration::from_secs(29)).expect_open();
        s.bench.later(Duration::from_secs(1));
        assert!(s.bench.is_over(), "{target}");
        assert!(s.bench.jobs.is_idle(), "{target}");
        s.bench = bench(s.folder.path(), "listing = true");
        s.bench.disk_rests = true;
    }
}

#[test]
fn each_answer_has_a_line_in_the_log() {
    let mut s = site(&[("site/a", "abc")], "");
    s.bench = bench(
        s.folder.path(),
        "root = 'ROOT/site'\naccess_log = 'ROOT/log'",
    );
    s.get("/a", "User-Agent: x\"y\r\n");
    s.ask("HEAD", "/a", "Host: h\r\n");
    s.get("/none", "");
    s.get("/a", "Range: bytes=1-\r\n");
    let log = fs::read_to_string(s.path("log")).expect("the log");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 4, "{log}");
    for (line, end) in lines.iter().zip([
        "\"GET /a HTTP/1.1\" 200 3 \"-\" \"x\\x22y\"",
        "\"HEAD /a HTTP/1.1\" 200 0 \"-\" \"-\"",
        "\"GET /none HTTP/1.1\" 404 ",
        "\"GET /a HTTP/1.1\" 206 2 \"-\" \"-\"",
    ]) {
        assert!(
            line.starts_with("192.0.2.9 - - [") && line.contains(end),
            "{line}"
        );
    }
    // Moved away, it is made anew when the process is told so.
    fs::rename(s.path("log"), s.path("log.1")).expect("a rename");
    s.get("/a", "");
    assert_eq!(
        fs::read_to_string(s.path("log.1"))
            .expect("a log")
            .lines()
            .count(),
        5
    );
    s.bench.reopen();
    s.bench.peer_sends(b"\0nonsense\r\n\r\n");
    assert_eq!(
        fs::read_to_string(s.path("log.1"))
            .expect("a log")
            .lines()
            .count(),
        5
    );
    let log = fs::read_to_string(s.path("log")).expect("the log");
    assert!(log.contains("\"-\" 400 "), "{log}");
    assert_eq!(counted(&s).log_lines, 6);
    assert_eq!(counted(&s).log_lines_dropped, 0);
    assert_eq!(
        fs::metadata(s.path("log")).expect("the log").mode() & 0o007,
        0,
        "not for all to read"
    );
}

#[test]
fn what_cannot_be_logged_is_counted() {
    let folder = tempfile::tempdir().expect("a folder");
    fs::write(folder.path().join("a"), "abc").expect("a file");
    let bench = bench(
        folder.path(),
        "access_log = '/dev/full'\nlog_format = 'json'",
    );
    let mut s = Site { folder, bench };
    assert_eq!(s.get("/a", "").status, 200);
    assert_eq!(s.get("/a", "").status, 200);
    assert_eq!(counted(&s).log_lines, 2);
    assert_eq!(counted(&s).log_lines_dropped, 2);
}
