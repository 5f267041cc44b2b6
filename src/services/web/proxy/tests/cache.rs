//! Dialogues with a proxy that keeps responses, in a folder of its own.

use std::time::Duration;

use tempfile::TempDir;

use super::{answered, asked};
use crate::cache::store::{Settings, StoreId, Stores};
use crate::config::{Cache, CacheLimits, Parent, ProxyConfig};
use crate::http::caching;
use crate::services::bench::Bench;
use crate::services::web::{Given, Web};
use crate::sys::unix;

mod broken;

const A: &str = "http://origin.example/a";

/// A bench, and the folder that is removed with it.
struct Lab {
    bench: Bench<Web>,
    store: StoreId,
    _folder: TempDir,
}

fn lab() -> Lab {
    lab_by(None)
}

/// The same, whose origins are reached by a parent or not.
fn lab_by(parent: Option<Parent>) -> Lab {
    lab_of(parent, |_| {})
}

/// The same with other limits.
fn lab_of(parent: Option<Parent>, alter: impl FnOnce(&mut CacheLimits)) -> Lab {
    lab_with(alter, |config| config.parent = parent)
}

/// The same with other settings.
fn lab_with(alter: impl FnOnce(&mut CacheLimits), configure: impl FnOnce(&mut ProxyConfig)) -> Lab {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("cache");
    let mut limits = CacheLimits {
        small_bytes_max: 4096,
        ..CacheLimits::default()
    };
    alter(&mut limits);
    let mut stores = Stores::default();
    let settings = Settings {
        dir: dir.clone(),
        bytes_max: 1 << 30,
        objects_max: 1000,
        object_bytes_max: 100_000,
        memory_bytes_max: 1 << 20,
        small_bytes_max: 4096,
        await_timeout: Duration::from_secs(5),
        pass_time: Duration::from_secs(120),
        rules: caching::RuleBook::default(),
        open_files_max: 64,
        boot: 1,
    };
    let mut disk = unix::Files::default();
    let store = stores.open(settings, &mut disk);
    let given = Given {
        id: 0xfeed,
        stores: &[(dir.clone(), store)],
        ..Given::default()
    };
    let mut config = ProxyConfig::new(Cache::On {
        dir,
        bytes_max: 1 << 30,
        limits,
        rules: caching::RuleBook::default(),
        purge_from: Vec::new(),
    });
    configure(&mut config);
    let service = Web::proxy(&config, &given, &mut disk).expect("nothing to open");
    let mut bench = Bench::new(service);
    bench.stores = stores;
    Lab {
        bench,
        store,
        _folder: folder,
    }
}

#[test]
fn what_came_by_a_parent_is_kept_as_ever_and_without_our_credentials() {
    let mut lab = lab_by(Some(super::parent::parent("")));
    let asked = lab.asks(&get(A, "Accept: */*\r\n"));
    assert!(
        asked.starts_with("GET http://origin.example/a HTTP/1.1\r\n"),
        "{asked}"
    );
    assert!(asked.contains("\r\nProxy-Authorization: Basic "), "{asked}");
    lab.bench.origin_sends(
        found(
            "Cache-Control: max-age=60\r\nETag: \"1\"\r\nVary: Accept, Proxy-Authorization\r\n",
            "kept",
        )
        .as_bytes(),
    );
    assert!(answered(&mut lab.bench).ends_with("\r\n\r\nkept"));
    assert!(
        lab.hits(&get(A, "Accept: */*\r\n"))
            .ends_with("\r\n\r\nkept")
    );
    for file in files_below(lab._folder.path()) {
        let bytes = std::fs::read(&file).expect("a file");
        let held = String::from_utf8_lossy(&bytes);
        assert!(!held.contains("Basic "), "{held}");
    }
    lab.later(70);
    let asked = lab.asks(&get(A, "Accept: */*\r\n"));
    assert!(
        asked.starts_with("GET http://origin.example/a HTTP/1.1\r\n"),
        "{asked}"
    );
    assert!(asked.contains("\r\nIf-None-Match: \"1\"\r\n"), "{asked}");
    assert!(asked.contains("\r\nProxy-Authorization: Basic "), "{asked}");
}

fn files_below(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| match path.is_dir() {
            true => files_below(&path),
            false => vec![path],
        })
        .collect()
}

fn get(url: &str, fields: &str) -> String {
    format!("GET {url} HTTP/1.1\r\nHost: x\r\n{fields}\r\n")
}

/// A head, with the fields and the length of a body.
fn found(fields: &str, body: &str) -> String {
    let len = body.len();
    format!("HTTP/1.1 200 OK\r\n{fields}Content-Length: {len}\r\n\r\n{body}")
}

impl Lab {
    /// The client asks; what the origin is asked for it.
    fn asks(&mut self, request: &str) -> String {
        self.bench.peer_sends(request.as_bytes());
        if self.bench.connect.take().is_some() {
            self.bench.origin_accepts();
        }
        asked(&mut self.bench)
    }

    /// The client asks and the origin answers: what the client got.
    fn fetches(&mut self, request: &str, answer: &str) -> String {
        let sent = self.asks(request);
        assert!(!sent.is_empty(), "the origin is not asked");
        self.bench.origin_sends(answer.as_bytes());
        answered(&mut self.bench)
    }

    /// The client asks and is answered without the origin.
    fn hits(&mut self, request: &str) -> String {
        assert_eq!(self.asks(request), "", "the origin is asked");
        answered(&mut self.bench)
    }

    /// Time passes; a client whose connection was idle for too long comes again.
    fn later(&mut self, seconds: u64) {
        self.bench.later(Duration::from_secs(seconds));
        if self.bench.is_over() {
            let _ended = self.bench.another();
        }
    }

    fn assert_nothing_is_left(&mut self) {
        assert_eq!(self.bench.stores.at(self.store).left_over(), None);
    }
}

fn status_of(answer: &str) -> &str {
    let line = answer
        .split("\r\n")
        .find_map(|line| line.strip_prefix("Cache-Status: "));
    line.and_then(|line| line.split_once("; "))
        .map_or("", |(_, rest)| rest)
}

fn body_of(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[test]
fn a_miss_is_kept_and_the_next_is_a_hit() {
    let mut lab = lab();
    let first = lab.fetches(
        &get(A, ""),
        &found("Cache-Control: max-age=60\r\n", "hello"),
    );
    assert!(
        first.contains("Cache-Status: netlab-reactor; fwd=uri-miss; fwd-status=200; stored\r\n")
    );
    assert_eq!(body_of(&first), "hello");
    lab.later(10);
    let second = lab.hits(&get(A, ""));
    assert!(second.contains("\r\nAge: 10\r\n"), "{second}");
    assert_eq!(
        (status_of(&second), body_of(&second)),
        ("hit; ttl=50", "hello")
    );
    let head = lab.hits("HEAD http://origin.example/a HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(head.contains("Content-Length: 5\r\n") && body_of(&head).is_empty());
    let part = lab.hits(&get(A, "Range: bytes=1-2\r\n"));
    assert!(part.starts_with("HTTP/1.1 206 "));
    assert_eq!(body_of(&part), "el");
    lab.bench.expect_open();
    lab.assert_nothing_is_left();
}

#[test]
fn a_large_and_a_chunked_response_are_kept_whole() {
    for (is_chunked, len) in [(false, 50_000), (true, 50_000), (true, 100)] {
        let mut lab = lab();
        let body: String = (0..len)
            .map(|at| char::from(b'a' + (at % 26) as u8))
            .collect();
        let answer = match is_chunked {
            false => found("Cache-Control: max-age=60\r\n", &body),
            true => {
                let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n";
                format!("{head}\r\n{len:x}\r\n{body}\r\n0\r\n\r\n")
            }
        };
        let first = lab.fetches(&get(A, ""), &answer);
        match is_chunked {
            true => {
                assert!(first.contains("Transfer-Encoding: chunked\r\n"));
                assert!(first.ends_with("0\r\n\r\n"));
            }
            false => assert_eq!(body_of(&first), body),
        }
        let second = lab.hits(&get(A, ""));
        assert!(second.contains(&format!("Content-Length: {len}\r\n")));
        assert_eq!(body_of(&second), body);
        lab.bench.expect_open();
        lab.assert_nothing_is_left();
    }
}

#[test]
fn what_is_too_large_to_be_kept_is_passed_on_whole() {
    let mut lab = lab();
    let body = "0123456789".repeat(25_000);
    let len = body.len();
    let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n";
    let got = lab.fetches(
        &get(A, ""),
        &format!("{head}{len:x}\r\n{body}\r\n0\r\n\r\n"),
    );
    let mut rest = body_of(&got);
    let mut all = String::new();
    while let Some((size, behind)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).expect("a size");
        all += &behind[..size];
        rest = behind[size..]
            .strip_prefix("\r\n")
            .expect("the end of a chunk");
    }
    assert!(all == body, "{} of {len} bytes", all.len());
    lab.bench.expect_open();
    lab.assert_nothing_is_left();
    assert!(!lab.asks(&get(A, "")).is_empty(), "it was not kept");
}

#[test]
fn what_is_stale_is_asked_about_and_a_304_makes_it_fresh() {
    let mut lab = lab();
    lab.fetches(
        &get(A, ""),
        &found("Cache-Control: max-age=60\r\nETag: \"1\"\r\n", "hello"),
    );
    lab.later(70);
    let sent = lab.asks(&get(A, ""));
    assert!(sent.contains("If-None-Match: \"1\"\r\n"), "{sent}");
    lab.bench.origin_sends(
        b"HTTP/1.1 304 Not Modified\r\nCache-Control: max-age=100\r\nETag: \"1\"\r\n\r\n",
    );
    let got = answered(&mut lab.bench);
    assert_eq!(
        (status_of(&got), body_of(&got)),
        ("fwd=stale; fwd-status=304", "hello")
    );
    lab.later(80);
    assert_eq!(status_of(&lab.hits(&get(A, ""))), "hit; ttl=20");
    lab.later(80);
    let renewed = lab.fetches(
        &get(A, ""),
        &found("Cache-Control: max-age=60\r\n", "world"),
    );
    assert_eq!(body_of(&renewed), "world");
    assert_eq!(body_of(&lab.hits(&get(A, ""))), "world");
    lab.assert_nothing_is_left();
}

#[test]
fn what_is_stale_is_sent_while_a_session_without_a_client_renews_it() {
    let mut lab = lab();
    let fields = "Cache-Control: max-age=60, stale-while-revalidate=60\r\n";
    lab.fetches(&get(A, ""), &found(fields, "hello"));
    lab.later(70);
    assert_eq!(body_of(&lab.hits(&get(A, ""))), "hello");
    let mut client = lab.bench.alone().expect("a session without a client");
    lab.bench.origin_accepts();
    let sent = asked(&mut lab.bench);
    assert!(sent.starts_with("GET /a HTTP/1.1\r\n"), "{sent}");
    lab.bench.switch(&mut client);
    assert_eq!(
        body_of(&lab.hits(&get(A, ""))),
        "hello",
        "it is asked for once"
    );
    assert!(lab.bench.alone().is_none());
    lab.bench.switch(&mut client);
    lab.bench.origin_sends(found(fields, "world").as_bytes());
    assert!(lab.bench.is_over(), "it ends with its request");
    lab.bench.switch(&mut client);
    assert_eq!(body_of(&lab.hits(&get(A, ""))), "world");
    lab.assert_nothing_is_left();
}

#[test]
fn what_is_stale_is_sent_where_the_origin_fails() {
    let mut lab = lab();
    let fields = "Cache-Control: max-age=60, stale-if-error=600\r\n";
    lab.fetches(&get(A, ""), &found(fields, "hello"));
    lab.later(70);
    let got = lab.fetches(
        &get(A, ""),
        "HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy",
    );
    assert!(got.starts_with("HTTP/1.1 200 "));
    assert_eq!(body_of(&got), "hello");
    lab.later(70);
    lab.bench.peer_sends(get(A, "").as_bytes());
    lab.bench
        .origin_fails(std::io::ErrorKind::ConnectionRefused);
    let got = answered(&mut lab.bench);
    assert_eq!(body_of(&got), "hello", "{got}");
    lab.bench.expect_open();
    lab.later(700);
    lab.bench.peer_sends(get(A, "").as_bytes());
    lab.bench
        .origin_fails(std::io::ErrorKind::ConnectionRefused);
    assert!(answered(&mut lab.bench).starts_with("HTTP/1.1 502 "));
    lab.assert_nothing_is_left();
}

#[test]
fn who_wants_only_what_is_kept_is_told_that_there_is_nothing() {
    let mut lab = lab();
    let request = get(A, "Cache-Control: only-if-cached\r\n");
    assert!(lab.hits(&request).starts_with("HTTP/1.1 504 "));
    lab.fetches(
        &get(A, ""),
        &found("Cache-Control: max-age=60\r\n", "hello"),
    );
    assert_eq!(body_of(&lab.hits(&request)), "hello");
}

#[test]
fn a_post_invalidates_what_is_kept_if_it_succeeds() {
    let mut lab = lab();
    lab.fetches(
        &get(A, ""),
        &found("Cache-Control: max-age=60\r\n", "hello"),
    );
    let post = "POST http://origin.example/a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\n1";
    lab.fetches(post, "HTTP/1.1 500 Broken\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(body_of(&lab.hits(&get(A, ""))), "hello");
    lab.fetches(post, "HTTP/1.1 204 No Content\r\n\r\n");
    let got = lab.fetches(
        &get(A, ""),
        &found("Cache-Control: max-age=60\r\n", "world"),
    );
    assert_eq!(body_of(&got), "world");
    lab.assert_nothing_is_left();
}

#[test]
fn a_response_that_varies_is_for_requests_like_its_own() {
    let mut lab = lab();
    let fields = "Cache-Control: max-age=60\r\nVary: Accept-Language\r\n";
    let (de, fr) = ("Accept-Language: de\r\n", "Accept-Language: fr\r\n");
    lab.fetches(&get(A, de), &found(fields, "hallo"));
    let got = lab.fetches(&get(A, fr), &found(fields, "salut"));
    assert!(status_of(&got).starts_with("fwd=vary-miss"), "{got}");
    assert_eq!(body_of(&lab.hits(&get(A, de))), "hallo");
    assert_eq!(body_of(&lab.hits(&get(A, fr))), "salut");
}

#[test]
fn a_page_of_the_address_bar_comes_from_what_is_kept_with_its_sandbox() {
    let mut lab = lab();
    lab.fetches(
        &get(A, ""),
        &found("Cache-Control: max-age=60\r\n", "hello"),
    );
    let got = lab.hits("GET /origin.example/a HTTP/1.1\r\nHost: localhost\r\n\r\n");
    assert!(got.contains(super::SANDBOX), "{got}");
    assert_eq!(body_of(&got), "hello");
    let plain = lab.hits(&get(A, ""));
    assert!(!plain.contains("Content-Security-Policy"));
}

#[test]
fn a_client_of_http_1_0_gets_no_chunks() {
    let mut lab = lab();
    let head = "HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n";
    let old = "GET http://origin.example/a HTTP/1.0\r\n\r\n";
    let got = lab.fetches(old, &format!("{head}\r\n5\r\nhello\r\n0\r\n\r\n"));
    assert!(!got.contains("Transfer-Encoding"), "{got}");
    assert_eq!(body_of(&got), "hello");
    lab.bench.expect_closed();
    let _ended = lab.bench.another();
    let got = lab.hits(old);
    assert!(got.contains("Content-Length: 5\r\n"), "{got}");
    assert_eq!(body_of(&got), "hello");
    lab.assert_nothing_is_left();
}

#[test]
fn who_comes_while_it_is_fetched_follows() {
    let mut lab = lab();
    lab.asks(&get(A, ""));
    let mut first = lab.bench.another();
    assert_eq!(lab.asks(&get(A, "")), "", "it is asked for once");
    lab.bench.switch(&mut first);
    lab.bench.origin_sends(
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\nhello",
    );
    lab.bench.switch(&mut first);
    let got = answered(&mut lab.bench);
    assert!(status_of(&got).ends_with("collapsed"), "{got}");
    assert_eq!(body_of(&got), "hello");
    lab.bench.switch(&mut first);
    lab.bench.origin_sends(b"world");
    assert_eq!(body_of(&answered(&mut lab.bench)), "helloworld");
    lab.bench.switch(&mut first);
    assert_eq!(answered(&mut lab.bench), "world");
    lab.bench.expect_open();
    assert_eq!(body_of(&lab.hits(&get(A, ""))), "helloworld");
    lab.assert_nothing_is_left();
}

#[test]
fn a_leader_that_loses_its_client_goes_on_for_those_who_follow_and_for_no_one_else() {
    for follows in [true, false] {
        let mut lab = lab();
        let body = "x".repeat(9000);
        let answer = found("Cache-Control: max-age=60\r\n", &body);
        lab.asks(&get(A, ""));
        let mut first = lab.bench.another();
        if follows {
            assert_eq!(lab.asks(&get(A, "")), "");
        }
        lab.bench.switch(&mut first);
        assert_eq!(lab.bench.loses_client(), follows);
        if !follows {
            assert_eq!(lab.bench.stores.at(lab.store).left_over(), None);
            continue;
        }
        lab.bench.origin_sends(answer.as_bytes());
        assert!(lab.bench.is_over(), "it ends with its request");
        lab.bench.switch(&mut first);
        assert_eq!(body_of(&answered(&mut lab.bench)), body);
        assert_eq!(body_of(&lab.hits(&get(A, ""))), body);
        lab.assert_nothing_is_left();
    }
}

/// Who comes, when the leader has lost its client and the head is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Waits {
    /// Somebody who waited, and has not looked yet.
    Still,
    /// Nobody: who waited has gone.
    Gone,
    /// Nobody: who waited has been told of the head, and asks for itself.
    ForAnother,
}

#[test]
fn who_waited_for_a_head_and_has_not_looked_yet_reads_it_as_far_as_its_leader_knows() {
    for waits in [Waits::Still, Waits::Gone, Waits::ForAnother] {
        let mut lab = lab_of(None, |limits| limits.finish_bytes = 0);
        let body = "x".repeat(9000);
        let answer = found("Cache-Control: max-age=60\r\nVary: Accept\r\n", &body);
        let (head, rest) = answer.split_at(answer.len() - 4000);
        lab.asks(&get(A, ""));
        let mut first = lab.bench.another();
        let fields = match waits {
            Waits::ForAnother => "Accept: image/*\r\n",
            Waits::Still | Waits::Gone => "",
        };
        assert_eq!(lab.asks(&get(A, fields)), "");
        lab.bench.switch(&mut first);
        assert!(lab.bench.loses_client(), "somebody waits");
        if waits == Waits::Gone {
            lab.bench.switch(&mut first);
            lab.bench.breaks();
            lab.bench.switch(&mut first);
        }
        lab.bench.origin_sends(head.as_bytes());
        assert_eq!(lab.bench.is_over(), waits == Waits::Gone, "{waits:?}");
        if waits == Waits::Gone {
            lab.assert_nothing_is_left();
            continue;
        }
        lab.bench.switch(&mut first);
        let asks_itself = lab.bench.connect.take().is_some();
        assert_eq!(asks_itself, waits == Waits::ForAnother);
        if asks_itself {
            lab.bench.origin_accepts();
        }
        lab.bench.switch(&mut first);
        lab.bench.origin_sends(rest.as_bytes());
        assert!(lab.bench.is_over(), "it is done, or nobody wants it");
        lab.bench.switch(&mut first);
        if waits == Waits::Still {
            while lab.bench.disk_does(1) {}
            assert_eq!(body_of(&answered(&mut lab.bench)), body);
            assert_eq!(body_of(&lab.hits(&get(A, ""))), body);
        } else {
            assert!(asked(&mut lab.bench).contains("\r\nAccept: image/*\r\n"));
            lab.bench
                .origin_sends(found("Cache-Control: no-store\r\n", "png").as_bytes());
            assert_eq!(body_of(&answered(&mut lab.bench)), "png");
            assert!(!lab.asks(&get(A, "")).is_empty(), "it was given up");
            lab.bench.breaks();
        }
        lab.assert_nothing_is_left();
    }
}

/// What followed it was ended in good order, although its end is all that would tell.
#[test]
fn a_follower_of_http_1_0_sees_that_its_response_was_cut() {
    let mut lab = lab();
    lab.asks(&get(A, ""));
    let mut first = lab.bench.another();
    lab.asks("GET http://origin.example/a HTTP/1.0\r\n\r\n");
    lab.bench.switch(&mut first);
    lab.bench.origin_sends(
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
    );
    lab.bench.switch(&mut first);
    assert_eq!(body_of(&answered(&mut lab.bench)), "hello");
    assert!(lab.bench.down.end_is_framing);
    lab.bench.switch(&mut first);
    lab.bench.origin_closes();
    lab.bench.switch(&mut first);
    assert!(lab.bench.failed.is_some(), "it ended in good order");
    lab.assert_nothing_is_left();
}

#[test]
fn what_breaks_off_is_not_kept() {
    let mut lab = lab();
    lab.asks(&get(A, ""));
    lab.bench.origin_sends(
        b"HTTP/1.1 200 OK\r\nCache-Control: max-age=60\r\nContent-Length: 10\r\n\r\nhello",
    );
    lab.bench.origin_closes();
    assert_eq!(body_of(&answered(&mut lab.bench)), "hello");
    lab.bench.expect_closed();
    lab.assert_nothing_is_left();
    let _ended = lab.bench.another();
    assert!(!lab.asks(&get(A, "")).is_empty(), "it is asked for again");
}
