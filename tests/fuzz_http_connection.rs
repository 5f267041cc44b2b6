//! A whole connection of the web server as a list of operations, on the bench, which checks the
//! contract at every step: a second `advance` changes nothing, and the deadline lies ahead.
//!
//! 1. Any fragmentation gives the same bytes, and ends the connection or not; unless the process is
//!    about to end, when a connection may end between any two requests.
//! 2. So does a client that takes its answers a few bytes at a time, into a short queue.
//! 3. What comes is a series of whole answers, with nothing behind one that says `Connection:
//!    close`.
//! 4. Whatever happens, a client that then stays silent and takes everything sees the end.
//!
//! `FUZZ_SECONDS=600 cargo test --release --test fuzz_http_connection` goes on for ten minutes.

#[path = "fuzz/mod.rs"]
mod fuzz;

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;
use std::time::Duration;

use netlab_reactor::config::{HttpConfig, Routes};
use netlab_reactor::http::Method;
use netlab_reactor::http::head::{BodyLength, HeadScanner, Limits, Parsed};
use netlab_reactor::services::bench::Bench;
use netlab_reactor::services::web::{Given, Web};
use netlab_reactor::sys::unix;
use proptest::prelude::*;

use fuzz::{cut, fuzz};

/// What happens to a connection.
#[derive(Clone, Debug)]
enum Op {
    /// The client sends bytes.
    Send(Vec<u8>),
    /// Milliseconds pass.
    Later(u64),
    /// The client takes so many bytes more and then no others.
    Take(usize),
    /// The send queue holds so many bytes.
    Room(u32),
    /// The process is about to end.
    Drain,
    /// The client sends its end.
    End,
    /// The client sends bytes and its end, and the kernel tells of both at once.
    Last(Vec<u8>),
}

static SITE: LazyLock<PathBuf> = LazyLock::new(|| {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("fuzz-site");
    fs::create_dir_all(&folder).expect("a folder");
    fs::write(folder.join("hello.txt"), "hello, world\n").expect("a file");
    fs::write(folder.join("big.bin"), vec![b'b'; 20_000]).expect("a file");
    folder
});

fn bench() -> Bench<Web> {
    let config = HttpConfig {
        root: Some(SITE.clone()),
        routes: Routes::Probe,
        head_bytes_max: 2000,
        target_bytes_max: 200,
        body_bytes_max: 300,
        requests_per_connection_max: std::num::NonZeroU64::new(12),
        head_timeout: Duration::from_millis(1000),
        idle_timeout: Duration::from_millis(3000),
        body_timeout: Duration::from_millis(2000),
        ..HttpConfig::default()
    };
    let mut disk = unix::Files::default();
    Bench::new(Web::files(&config, &Given::default(), &mut disk).expect("a root"))
}

/// Requests and parts of such, without HEAD: its answers end where only who asked can know.
fn sends() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop::sample::select(vec![
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /hello.txt HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /big.bin HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /big.bin HTTP/1.1\r\nHost: h\r\nRange: bytes=5-10000\r\n\r\n",
        "GET /none HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        "PUT /x HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n",
        "PUT /x HTTP/1.1\r\nHost: h\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nHost: h\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n",
        "GET /echo HTTP/1.1\r\nHost: h\r\nCookie: a=b\r\nConnection: close\r\n\r\n",
        "5\r\nhello\r\n",
        "0\r\n\r\n",
        "abc",
        "\r\n",
        "GET /",
        " HTTP/1.1\r\n",
        "Host: h\r\n",
        "Content-Length: 400\r\n",
        "\n",
    ]);
    fuzz::bytes_of(piece)
}

fn ops(with_room: bool) -> impl Strategy<Value = Vec<Op>> {
    let room = u32::from(with_room);
    let op = prop_oneof![
        6 => sends().prop_map(Op::Send),
        2 => (1..1500u64).prop_map(Op::Later),
        3 * room => (0..6000usize).prop_map(Op::Take),
        room => (1..8000u32).prop_map(Op::Room),
        room => Just(Op::Drain),
        1 => Just(Op::End),
        1 => sends().prop_map(Op::Last),
    ];
    prop::collection::vec(op, 0..10)
}

/// What the client saw: all bytes, and whether the connection ended.
#[derive(PartialEq)]
struct Seen {
    bytes: Vec<u8>,
    over: bool,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} over: {}", self.bytes.escape_ascii(), self.over)
    }
}

/// Does what the list says, with each send cut by `seed` if there is one.
fn run(ops: &[Op], seed: Option<u64>) -> Seen {
    let mut bench = bench();
    let (mut bytes, mut unsent, mut ended) = (Vec::new(), Vec::new(), false);
    for op in ops {
        match op {
            Op::Send(more) if !ended => unsent.extend_from_slice(more),
            Op::Later(milliseconds) => {
                bench.later(Duration::from_millis(*milliseconds));
            }
            Op::Take(count) => {
                bench.peer_takes_only(*count);
            }
            Op::Room(count) => bench.down.tx.set_memory_bytes_max(*count),
            Op::Drain => {
                bench.draining = true;
                bench.later(Duration::ZERO);
            }
            Op::End => ended = true,
            Op::Last(more) if !ended => {
                ended = true;
                if seed.is_none() && unsent.is_empty() && !bench.is_over() {
                    bench.peer_sends_and_closes(more);
                } else {
                    unsent.extend_from_slice(more);
                }
            }
            Op::Send(_) | Op::Last(_) => {}
        }
        offer(&mut bench, &mut unsent, seed);
        if ended && unsent.is_empty() && !bench.down.eof && !bench.is_over() {
            bench.peer_closes();
        }
        bytes.extend(bench.received());
        if bench.is_over() {
            break;
        }
    }
    // Whatever stands, a client that now takes everything gets it.
    while !bench.is_over() {
        bench.peer_takes_only(usize::MAX);
        let before = unsent.len();
        offer(&mut bench, &mut unsent, seed);
        if unsent.is_empty() && ended && !bench.down.eof && !bench.is_over() {
            bench.peer_closes();
        }
        if unsent.len() == before {
            break;
        }
    }
    bench.peer_takes_only(usize::MAX);
    bytes.extend(bench.received());
    let seen = Seen {
        bytes,
        over: bench.is_over(),
    };
    // A silent client is not waited for without end.
    for _ in 0..4 {
        if !bench.is_over() {
            bench.later(Duration::from_secs(3));
        }
    }
    assert!(bench.is_over(), "a silent client holds the connection");
    assert!(bench.failed.is_none(), "dropped: {:?}", bench.failed);
    seen
}

fn offer(bench: &mut Bench<Web>, unsent: &mut Vec<u8>, seed: Option<u64>) {
    let ends = seed.map_or_else(|| vec![unsent.len()], |seed| cut(unsent.len(), seed));
    let mut at = 0;
    for end in ends {
        let taken = bench.peer_offers(&unsent[at..end]);
        at += taken;
        if at < end {
            break;
        }
    }
    unsent.drain(..at);
    if bench.is_over() {
        unsent.clear();
    }
}

/// The answers are whole, and none follows a last one.
fn check_answers(seen: &Seen) {
    let mut rest = seen.bytes.as_slice();
    let limits = Limits {
        head_bytes_max: 1 << 20,
        ..Limits::default()
    };
    let mut last = false;
    while !rest.is_empty() {
        assert!(
            !last,
            "something follows the last answer: {}",
            rest.escape_ascii()
        );
        let parsed = HeadScanner::default().response(rest, &limits, Method::Get);
        let Ok(Parsed::Complete(head, consumed)) = parsed else {
            panic!("{parsed:?}: {}", rest.escape_ascii());
        };
        last = !head.keep_alive && head.status.code() != 100
            || head
                .headers
                .list("connection")
                .any(|option| option == b"close");
        let body = match head.body {
            BodyLength::None => 0,
            BodyLength::Length(length) => usize::try_from(length).expect("a length"),
            other => panic!("{other:?}"),
        };
        rest = rest.get(consumed + body..).expect("a whole body");
    }
    assert!(
        !last || seen.over,
        "the last answer was sent, and the connection goes on"
    );
}

#[test]
fn any_fragmentation_gives_the_same_answers() {
    let input = (ops(false), any::<u64>());
    fuzz("fragmentation", &input, |(ops, seed)| {
        let whole = run(&ops, None);
        check_answers(&whole);
        assert_eq!(run(&ops, Some(0)), whole, "byte by byte");
        assert_eq!(run(&ops, Some(seed)), whole, "cut at random");
    });
}

#[test]
fn any_room_gives_the_same_answers() {
    let input = (ops(true), any::<u64>());
    fuzz("room", &input, |(ops, seed)| {
        check_answers(&run(&ops, Some(seed)));
        // Without time and without a drain, it does not matter when the client takes what.
        let timeless: Vec<Op> = ops
            .into_iter()
            .filter(|op| !matches!(op, Op::Later(_) | Op::Drain))
            .collect();
        let sends: Vec<Op> = timeless
            .iter()
            .filter(|op| matches!(op, Op::Send(_) | Op::Last(_) | Op::End))
            .cloned()
            .collect();
        assert_eq!(run(&timeless, Some(seed)), run(&sends, None));
    });
}
