//! Ranges: of what is kept, of parts that are kept and completed, and of what still comes.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::common::{PATIENCE, Program, temp_dir};
use crate::http::{Client, Request, Response, content, origin};
use crate::{proxy, proxy_keys};

/// One that is in memory, one that is sent from its file, and one that is copied from file to file.
const LENGTHS: [usize; 3] = [4_000, 100_000, 1_000_000];

/// An origin that knows ranges, and what it was asked for.
struct Origin {
    address: SocketAddr,
    seen: Arc<Mutex<Vec<String>>>,
    /// Which version of everything it has.
    version: Arc<AtomicUsize>,
}

impl Origin {
    fn start() -> Self {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let version = Arc::new(AtomicUsize::new(1));
        let address = origin({
            let (seen, version) = (Arc::clone(&seen), Arc::clone(&version));
            move |request, stream| {
                let fields = ["range", "if-range", "if-none-match"];
                let fields = fields.map(|name| request.head.field(name).unwrap_or("-"));
                seen.lock().expect("no panic").push(fields.join(" "));
                answer(request, version.load(Ordering::SeqCst), stream)
            }
        });
        Self {
            address,
            seen,
            version,
        }
    }

    /// `Range`, `If-Range` and `If-None-Match` of each request since the last look.
    fn seen(&self) -> Vec<String> {
        std::mem::take(&mut *self.seen.lock().expect("no panic"))
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }
}

/// The body that has this many bytes in its path: `name-LENGTH`, where `stale-…` is so at once and
/// `odd-…` comes with another tag each time, whatever `If-Range` says. `breaks-…` breaks off: all of
/// it after a third, by its end, and what is behind that third after another one, by a reset.
fn answer(request: &Request, version: usize, stream: &mut TcpStream) -> io::Result<bool> {
    static TAGS: AtomicUsize = AtomicUsize::new(0);
    let path = request.head.target();
    let length: usize = path
        .rsplit('-')
        .next()
        .and_then(|it| it.parse().ok())
        .expect("a length");
    let body = content(&version.to_string(), length);
    let tag = match path.starts_with("/odd") {
        true => format!("\"odd{}\"", TAGS.fetch_add(1, Ordering::SeqCst)),
        false => format!("\"v{version}\""),
    };
    let age = if path.starts_with("/stale") { 0 } else { 3600 };
    let fields = format!("Cache-Control: max-age={age}\r\nETag: {tag}\r\n");
    if request.head.field("if-none-match") == Some(&tag) {
        write!(stream, "HTTP/1.1 304 Not Modified\r\n{fields}\r\n")?;
        return Ok(true);
    }
    let applies = path.starts_with("/odd")
        || request
            .head
            .field("if-range")
            .is_none_or(|wanted| wanted == tag);
    let range = request.head.field("range").filter(|_| applies);
    let Some((first, last)) = range.and_then(|it| it.strip_prefix("bytes=")?.split_once('-'))
    else {
        write!(
            stream,
            "HTTP/1.1 200 OK\r\n{fields}Content-Length: {length}\r\n\r\n"
        )?;
        if path.starts_with("/breaks") {
            stream.write_all(&body[..length / 3])?;
            return Ok(false);
        }
        stream.write_all(body)?;
        return Ok(true);
    };
    let first: usize = first.parse().expect("a position");
    let end = last
        .parse()
        .map_or(length, |last: usize| length.min(last + 1));
    let head = format!("HTTP/1.1 206 Partial Content\r\n{fields}Content-Range: bytes");
    let part = &body[first..end];
    write!(
        stream,
        "{head} {first}-{}/{length}\r\nContent-Length: {}\r\n\r\n",
        end - 1,
        part.len()
    )?;
    if path.starts_with("/breaks") && first == length / 3 {
        stream.write_all(&part[..length / 3])?;
        std::thread::sleep(Duration::from_millis(50)); // it arrives ahead of the reset
        SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?;
        return Ok(false);
    }
    stream.write_all(part)?;
    Ok(true)
}

fn ask(proxy: SocketAddr, method: &str, url: &str, fields: &str) -> Response {
    let mut client = Client::connect(proxy).expect("a connection");
    let head = format!("{method} {url} HTTP/1.1\nHost: origin\nConnection: close{fields}");
    client.send(&head, b"").expect("sent");
    client.receive(method).expect("an answer")
}

/// The bytes `first` to `end` of version `version`, with 206.
fn expect_range(response: &Response, version: &str, (first, end, length): (usize, usize, usize)) {
    assert_eq!(response.head.status(), 206, "{:?}", response.head);
    let range = format!("bytes {first}-{}/{length}", end - 1);
    assert_eq!(response.head.field("content-range"), Some(&*range));
    assert!(
        response.body == content(version, length)[first..end],
        "{:?}",
        response.head
    );
}

/// Asks for what is kept, or will be when its file has got its name.
fn ask_kept(proxy: SocketAddr, url: &str, fields: &str) -> Response {
    let (fields, began) = (
        format!("{fields}\nCache-Control: only-if-cached"),
        Instant::now(),
    );
    loop {
        let response = ask(proxy, "GET", url, &fields);
        if response.head.status() != 504 || began.elapsed() > PATIENCE {
            return response;
        }
    }
}

fn range(first: usize, end: usize) -> String {
    format!("\nRange: bytes={first}-{}", end - 1)
}

#[test]
fn a_part_answers_what_lies_within_it_and_nothing_else() {
    let origin = Origin::start();
    let program = proxy("");
    let proxy = program.address("proxy");
    for length in LENGTHS {
        let (url, tenth) = (origin.url(&format!("part-{length}")), length / 10);
        let (first, end) = (tenth, 8 * tenth);
        let miss = ask(proxy, "GET", &url, &range(first, end));
        expect_range(&miss, "1", (first, end, length));
        assert_eq!(origin.seen(), [format!("bytes={first}-{} - -", end - 1)]);
        ask_kept(proxy, &url, &range(first, end));
        for (first, end) in [(first, end), (first + 7, first + 9), (end - 1, end)] {
            let hit = ask(proxy, "GET", &url, &range(first, end));
            assert!(hit.head.is_hit(), "{length}: {:?}", hit.head);
            expect_range(&hit, "1", (first, end, length));
        }
        let same = format!("{}\nIf-Range: \"v1\"", range(first, end));
        expect_range(&ask(proxy, "GET", &url, &same), "1", (first, end, length));
        let known = ask(proxy, "GET", &url, "\nIf-None-Match: \"v1\"");
        assert_eq!(known.head.status(), 304);
        assert_eq!(origin.seen(), [] as [String; 0]);
        // A part is no whole: neither to HEAD, nor to a range that ends behind it.
        let head = ask(proxy, "HEAD", &url, "");
        assert_eq!(head.head.status(), 200);
        let only = format!("{}\nCache-Control: only-if-cached", range(first, end + 1));
        assert_eq!(ask(proxy, "GET", &url, &only).head.status(), 504);
        assert_eq!(origin.seen().len(), 1);
        let other = format!("{}\nIf-Range: \"v0\"", range(first, end));
        let whole = ask(proxy, "GET", &url, &other);
        assert!(whole.head.status() == 200 && whole.body == content("1", length));
        // The whole has taken its place: a range of all that there is.
        origin.seen();
        let hit = ask_kept(proxy, &url, &range(0, length));
        expect_range(&hit, "1", (0, length, length));
        assert_eq!(origin.seen(), [] as [String; 0], "{length}");
    }
    program.stop();
}

#[test]
fn a_part_is_completed_at_both_ends_and_survives_a_restart() {
    let origin = Origin::start();
    let cache = temp_dir();
    let keys = proxy_keys(cache.path().to_str().expect("UTF-8"));
    for length in LENGTHS {
        let program = Program::start(&keys);
        let proxy = program.address("proxy");
        let (url, tenth) = (origin.url(&format!("grows-{length}")), length / 10);
        let ask_range = |proxy, (first, end): (usize, usize)| {
            let response = ask(proxy, "GET", &url, &range(first, end));
            expect_range(&response, "1", (first, end, length));
        };
        for (first, end) in [(4, 6), (5, 8), (2, 5)] {
            ask_range(proxy, (first * tenth, end * tenth));
            ask_kept(proxy, &url, &range(first * tenth, end * tenth));
        }
        let asked = |first, end: usize| format!("bytes={first}-{} \"v1\" -", end - 1);
        let seen = origin.seen();
        assert_eq!(
            seen[1..],
            [asked(6 * tenth, 8 * tenth), asked(2 * tenth, 4 * tenth)]
        );
        let kept = ask_kept(proxy, &url, &range(2 * tenth, 8 * tenth));
        expect_range(&kept, "1", (2 * tenth, 8 * tenth, length));
        program.stop();

        let program = Program::start(&keys);
        let proxy = program.address("proxy");
        ask_range(proxy, (2 * tenth, 8 * tenth));
        assert_eq!(
            origin.seen(),
            [] as [String; 0],
            "{length}: it is known after a restart"
        );
        ask_range(proxy, (0, 3 * tenth));
        assert_eq!(origin.seen(), [asked(0, 2 * tenth)]);
        ask_kept(proxy, &url, &range(0, 8 * tenth));
        // All that is missing is the end: it is asked for, and the whole is kept.
        let whole = ask(proxy, "GET", &url, "");
        assert_eq!(whole.head.status(), 200, "{:?}", whole.head);
        assert_eq!(whole.head.field("content-range"), None);
        assert!(whole.body == content("1", length));
        assert_eq!(origin.seen(), [asked(8 * tenth, length)]);
        let hit = ask_kept(proxy, &url, "");
        assert!(
            hit.head.is_hit() && hit.body == content("1", length),
            "{:?}",
            hit.head
        );
        program.stop();

        let program = Program::start(&keys);
        let hit = ask(program.address("proxy"), "GET", &url, "");
        assert!(
            hit.head.is_hit() && hit.body == content("1", length),
            "{:?}",
            hit.head
        );
        assert_eq!(origin.seen(), [] as [String; 0]);
        program.stop();
    }
}

/// The answer to a client is cut.
fn ask_cut(proxy: SocketAddr, url: &str) {
    let mut client = Client::connect(proxy).expect("a connection");
    let head = format!("GET {url} HTTP/1.1\nHost: origin\nConnection: close");
    client.send(&head, b"").expect("sent");
    let answer = client.receive("GET");
    assert!(
        answer.is_err(),
        "it looks whole: {:?}",
        answer.unwrap().head
    );
}

#[test]
fn what_breaks_off_is_kept_as_a_part_and_grows_to_the_whole_over_restarts() {
    let origin = Origin::start();
    let cache = temp_dir();
    let keys = proxy_keys(cache.path().to_str().expect("UTF-8"));
    for length in LENGTHS {
        let (url, third) = (origin.url(&format!("breaks-{length}")), length / 3);
        for thirds in [1, 2] {
            let program = Program::start(&keys);
            let proxy = program.address("proxy");
            ask_cut(proxy, &url);
            let kept = ask_kept(proxy, &url, &range(thirds * third - 9, thirds * third));
            expect_range(&kept, "1", (thirds * third - 9, thirds * third, length));
            assert!(kept.head.is_hit(), "{:?}", kept.head);
            program.stop();
        }
        let program = Program::start(&keys);
        let proxy = program.address("proxy");
        let whole = ask(proxy, "GET", &url, "");
        assert_eq!(whole.head.status(), 200, "{:?}", whole.head);
        assert!(whole.body == content("1", length));
        let asked = |first| format!("bytes={first}-{} \"v1\" -", length - 1);
        let all = ["- - -".to_owned(), asked(third), asked(2 * third)];
        assert_eq!(origin.seen(), all, "{length}");
        let hit = ask_kept(proxy, &url, "");
        assert!(hit.head.is_hit() && hit.body == content("1", length));
        program.stop();
    }
}

#[test]
fn what_has_changed_at_its_origin_is_not_joined() {
    let origin = Origin::start();
    let program = proxy("");
    let proxy = program.address("proxy");
    for (turn, length) in LENGTHS.into_iter().enumerate() {
        let (old, new) = (turn + 1, turn + 2);
        let (url, half) = (origin.url(&format!("changes-{length}")), length / 2);
        ask(proxy, "GET", &url, &range(0, half));
        ask_kept(proxy, &url, &range(0, half));
        origin.version.store(new, Ordering::SeqCst);
        let whole = ask(proxy, "GET", &url, "");
        assert!(whole.head.status() == 200 && whole.body == content(&new.to_string(), length));
        let seen = origin.seen();
        assert_eq!(seen[1], format!("bytes={half}-{} \"v{old}\" -", length - 1));

        // A stale part: the same range of what it has become.
        let url = origin.url(&format!("stale-{length}"));
        let first = ask(proxy, "GET", &url, &range(9, half));
        expect_range(&first, &new.to_string(), (9, half, length));
        let stale = format!("{}\nCache-Control: max-stale", range(9, half));
        ask_kept(proxy, &url, &stale);
        let again = ask(proxy, "GET", &url, &range(10, half));
        expect_range(&again, &new.to_string(), (10, half, length));
        let seen = origin.seen();
        assert_eq!(
            seen[1],
            format!("bytes=10-{} - \"v{new}\"", half - 1),
            "validated"
        );

        // An origin that answers with a part of something else: asked once more, as it came.
        let url = origin.url(&format!("odd-{length}"));
        ask(proxy, "GET", &url, &range(0, half));
        ask_kept(proxy, &url, &range(0, half));
        let whole = ask(proxy, "GET", &url, "");
        assert!(whole.head.status() == 200 && whole.body == content(&new.to_string(), length));
        let seen = origin.seen();
        assert_eq!(seen.len(), 3, "{seen:?}");
        assert_eq!(seen[2], "- - -");
    }
    program.stop();
}

#[test]
fn a_range_is_served_from_what_still_comes_unless_it_is_far_ahead() {
    const LENGTH: usize = 3 << 20;
    let (asked, gate) = (
        Arc::new(AtomicUsize::new(0)),
        Arc::new((Mutex::new(false), Condvar::new())),
    );
    let origin = origin({
        let (asked, gate) = (Arc::clone(&asked), Arc::clone(&gate));
        move |request, stream| {
            asked.fetch_add(1, Ordering::SeqCst);
            let body = content("1", LENGTH);
            let fields = "Cache-Control: max-age=60\r\nETag: \"v1\"";
            if request.head.field("range").is_some() {
                let (first, last) = (LENGTH - 10, LENGTH - 1);
                write!(
                    stream,
                    "HTTP/1.1 206 Partial Content\r\n{fields}\r\nContent-Length: 10\r\n\
                     Content-Range: bytes {first}-{last}/{LENGTH}\r\n\r\n"
                )?;
                stream.write_all(&body[first..])?;
                return Ok(true);
            }
            write!(
                stream,
                "HTTP/1.1 200 OK\r\n{fields}\r\nContent-Length: {LENGTH}\r\n\r\n"
            )?;
            stream.write_all(&body[..LENGTH / 4])?;
            let (is_open, opened) = &*gate;
            let mut is_open = is_open.lock().expect("no panic");
            while !*is_open {
                is_open = opened.wait(is_open).expect("no panic");
            }
            stream.write_all(&body[LENGTH / 4..])?;
            Ok(true)
        }
    });
    let program = proxy("");
    let (proxy, url) = (program.address("proxy"), format!("http://{origin}/growing"));
    let mut leader = Client::connect(proxy).expect("a connection");
    let head = format!("GET {url} HTTP/1.1\nHost: origin");
    leader.send(&head, b"").expect("sent");
    while asked.load(Ordering::SeqCst) == 0 {
        std::thread::yield_now();
    }
    // The far end does not wait for what lies between, and needs a head that says how long all is.
    let far = ask(proxy, "GET", &url, &range(LENGTH - 10, LENGTH));
    expect_range(&far, "1", (LENGTH - 10, LENGTH, LENGTH));
    let (first, end) = (1000, LENGTH / 4);
    let near = ask(proxy, "GET", &url, &range(first, end));
    expect_range(&near, "1", (first, end, LENGTH));
    assert_eq!(
        asked.load(Ordering::SeqCst),
        2,
        "only the far end was asked for"
    );
    *gate.0.lock().expect("no panic") = true;
    gate.1.notify_all();
    let whole = leader.receive("GET").expect("all of it");
    assert!(whole.body == content("1", LENGTH));
    let hit = ask_kept(proxy, &url, &range(5, LENGTH));
    assert!(hit.head.is_hit());
    expect_range(&hit, "1", (5, LENGTH, LENGTH));
    program.stop();
}

#[test]
fn conditions_and_several_ranges_are_answered_from_memory_and_from_files() {
    let origin = Origin::start();
    let program = proxy("");
    let proxy = program.address("proxy");
    for length in LENGTHS {
        let url = origin.url(&format!("whole-{length}"));
        let body = content("1", length);
        assert!(ask(proxy, "GET", &url, "").body == body);
        ask_kept(proxy, &url, "");
        origin.seen();
        for (fields, status) in [
            ("\nIf-None-Match: \"v1\"", 304),
            ("\nIf-None-Match: \"v0\"", 200),
            ("\nRange: bytes=5-9\nIf-Range: \"v0\"", 200),
            ("\nRange: bytes=99999999-", 416),
        ] {
            let response = ask(proxy, "GET", &url, fields);
            assert_eq!(response.head.status(), status, "{length} {fields}");
            assert!(status != 200 || response.body == body);
        }
        expect_range(
            &ask(proxy, "GET", &url, "\nRange: bytes=-7"),
            "1",
            (length - 7, length, length),
        );
        let several = ask(proxy, "GET", &url, "\nRange: bytes=0-99,2000-2999");
        assert_eq!(several.head.status(), 206);
        let holds = |part: &[u8]| several.body.windows(part.len()).any(|it| it == part);
        assert!(holds(&body[..100]) && holds(&body[2000..3000]) && !holds(&body[90..110]));
        assert_eq!(origin.seen(), [] as [String; 0]);
    }
    program.stop();
}
