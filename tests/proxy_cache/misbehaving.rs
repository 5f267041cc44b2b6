//! Origins that misbehave: a client is told or sees that its answer is broken, nothing of it is
//! kept (for want of a tag, under which it could be completed), nobody else notices, and nothing stays behind.

use std::collections::HashMap;
use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::common::{PATIENCE, expect_soon};
use crate::http::{Client, Head, get, origin};
use crate::proxy;

/// What a client may make of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Seen {
    /// A whole response of this status.
    Whole(u16),
    /// The connection ended before the response did.
    Cut,
}
use Seen::{Cut, Whole};

/// The proxy's own answer to a broken head, and to one that does not come.
const BROKEN: &[Seen] = &[Whole(502)];
const LATE: &[Seen] = &[Whole(504)];

type Answer = fn(&mut TcpStream) -> io::Result<()>;

/// An answer and what becomes of it. All say that they may be kept for an hour.
struct Case {
    name: &'static str,
    answer: Answer,
    seen: &'static [Seen],
}

const fn case(name: &'static str, answer: Answer, seen: &'static [Seen]) -> Case {
    Case { name, answer, seen }
}

/// `head` with what lets a cache keep it; `\n` ends a line.
fn say(stream: &mut TcpStream, head: &str, body: &[u8]) -> io::Result<()> {
    let (line, fields) = head.split_once('\n').unwrap_or((head, ""));
    let fields = fields.replace('\n', "\r\n");
    write!(
        stream,
        "{line}\r\nCache-Control: max-age=3600\r\n{fields}\r\n\r\n"
    )?;
    stream.write_all(body)
}

/// The end of the connection will be a reset.
fn reset(stream: &TcpStream) -> io::Result<()> {
    thread::sleep(Duration::from_millis(50)); // what was said arrives first
    SockRef::from(stream).set_linger(Some(Duration::ZERO))
}

/// Bytes with pauses, until nobody reads any more.
fn drip(stream: &mut TcpStream, bytes: impl Iterator<Item = u8>) -> io::Result<()> {
    for byte in bytes {
        stream.write_all(&[byte])?;
        thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

const OK: &str = "HTTP/1.1 200 OK";
const CHUNKED: &str = "HTTP/1.1 200 OK\nTransfer-Encoding: chunked";
const SIZED: &str = "HTTP/1.1 200 OK\nContent-Length: 10";

const HEADS: &[Case] = &[
    case("nothing", |_| Ok(()), BROKEN),
    case("a reset", |stream| reset(stream), BROKEN),
    case(
        "half a head",
        |stream| stream.write_all(b"HTTP/1.1 200 OK\r\nCache-Con"),
        BROKEN,
    ),
    case(
        "half a head and a reset",
        |stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nCache-Con")?;
            reset(stream)
        },
        BROKEN,
    ),
    case(
        "no HTTP",
        |stream| stream.write_all(b"220 mail.test ESMTP\r\n\r\n"),
        BROKEN,
    ),
    case(
        "HTTP/2",
        |stream| stream.write_all(b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x64\r\n\r\n"),
        BROKEN,
    ),
    case(
        "no status",
        |stream| say(stream, "HTTP/1.1 OK", b""),
        BROKEN,
    ),
    case(
        "a status of four digits",
        |stream| say(stream, "HTTP/1.1 2000 OK", b""),
        BROKEN,
    ),
    case(
        "a field without a colon",
        |stream| say(stream, &format!("{SIZED}\nbroken"), &[b'x'; 10]),
        BROKEN,
    ),
    case(
        "a NUL in a field",
        |stream| say(stream, &format!("{SIZED}\nX: a\0b"), &[b'x'; 10]),
        BROKEN,
    ),
    case(
        "an endless head",
        |stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\n")?;
            while stream
                .write_all(b"X-More: and more and more and more and more\r\n")
                .is_ok()
            {}
            Ok(())
        },
        BROKEN,
    ),
    case(
        "an endless line",
        |stream| {
            stream.write_all(b"HTTP/1.1 200 OK\r\nX-More: ")?;
            while stream.write_all(&[b'x'; 1000]).is_ok() {}
            Ok(())
        },
        BROKEN,
    ),
    case(
        "a storm of 1xx",
        |stream| {
            let interim = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n";
            while stream.write_all(interim).is_ok() {}
            Ok(())
        },
        LATE,
    ),
    case(
        "a drip of 1xx",
        |stream| {
            loop {
                stream.write_all(b"HTTP/1.1 102 Processing\r\n\r\n")?;
                thread::sleep(Duration::from_millis(100));
            }
        },
        LATE,
    ),
    case(
        "a protocol that nobody asked for",
        |stream| {
            say(
                stream,
                "HTTP/1.1 101 Switching Protocols\nConnection: upgrade\nUpgrade: x",
                b"",
            )
        },
        BROKEN,
    ),
    case(
        "a slow head",
        |stream| {
            drip(
                stream,
                b"HTTP/1.1 200 OK\r\nX: "
                    .iter()
                    .copied()
                    .chain(std::iter::repeat(b'x')),
            )
        },
        LATE,
    ),
    case(
        "silence",
        |stream| {
            stream.set_read_timeout(Some(PATIENCE))?;
            io::Read::read(stream, &mut [0]).map(drop)
        },
        LATE,
    ),
];

const FRAMES: &[Case] = &[
    case(
        "two lengths",
        |stream| say(stream, &format!("{SIZED}\nContent-Length: 5"), &[b'x'; 10]),
        BROKEN,
    ),
    case(
        "a negative length",
        |stream| say(stream, "HTTP/1.1 200 OK\nContent-Length: -1", b""),
        BROKEN,
    ),
    case(
        "a length beyond 64 bits",
        |stream| {
            say(
                stream,
                "HTTP/1.1 200 OK\nContent-Length: 18446744073709551626",
                &[b'x'; 10],
            )
        },
        BROKEN,
    ),
    case(
        "a length in words",
        |stream| say(stream, "HTTP/1.1 200 OK\nContent-Length: ten", &[b'x'; 10]),
        BROKEN,
    ),
    case(
        "a length and chunks",
        |stream| {
            say(
                stream,
                &format!("{SIZED}\nTransfer-Encoding: chunked"),
                b"a\r\nxxxxxxxxxx\r\n0\r\n\r\n",
            )
        },
        BROKEN,
    ),
    case(
        "a coding that nobody knows",
        |stream| {
            say(
                stream,
                "HTTP/1.1 200 OK\nTransfer-Encoding: x, chunked",
                b"0\r\n\r\n",
            )
        },
        BROKEN,
    ),
    case(
        "a short body",
        |stream| say(stream, SIZED, &[b'x'; 9]),
        &[Cut],
    ),
    case(
        "a short body and a reset",
        |stream| {
            say(stream, SIZED, &[b'x'; 9])?;
            reset(stream)
        },
        &[Cut],
    ),
    case(
        "a body without a length and a reset",
        |stream| {
            say(
                stream,
                "HTTP/1.1 200 OK\nConnection: close",
                &[b'x'; 10_000],
            )?;
            reset(stream)
        },
        &[Cut],
    ),
    case(
        "chunks without an end",
        |stream| say(stream, CHUNKED, b"5\r\nxxxxx\r\n"),
        &[Cut],
    ),
    case(
        "half a chunk",
        |stream| say(stream, CHUNKED, b"a\r\nxxxxx"),
        &[Cut],
    ),
    case(
        "a chunk that is longer than it says",
        |stream| say(stream, CHUNKED, b"5\r\nxxxxxx\r\n0\r\n\r\n"),
        &[Cut],
    ),
    case(
        "a chunk of no number",
        |stream| say(stream, CHUNKED, b"5\r\nxxxxx\r\nzz\r\n"),
        &[Cut],
    ),
    case(
        "a negative chunk",
        |stream| say(stream, CHUNKED, b"5\r\nxxxxx\r\n-5\r\nxxxxx\r\n0\r\n\r\n"),
        &[Cut],
    ),
    case(
        "a chunk beyond 64 bits",
        |stream| {
            say(
                stream,
                CHUNKED,
                b"5\r\nxxxxx\r\n10000000000000001\r\nx\r\n0\r\n\r\n",
            )
        },
        &[Cut],
    ),
    case(
        "an endless chunk extension",
        |stream| {
            say(stream, CHUNKED, b"5;")?;
            while stream.write_all(&[b'x'; 1000]).is_ok() {}
            Ok(())
        },
        &[Cut],
    ),
    case(
        "endless trailers",
        |stream| {
            say(stream, CHUNKED, b"5\r\nxxxxx\r\n0\r\n")?;
            while stream
                .write_all(b"X-More: and more and more and more and more\r\n")
                .is_ok()
            {}
            Ok(())
        },
        &[Cut],
    ),
    case(
        "a body that stalls",
        |stream| {
            say(stream, SIZED, b"x")?;
            io::Read::read(stream, &mut [0]).map(drop)
        },
        &[Cut],
    ),
];

const MEANINGS: &[Case] = &[
    case(
        "a 304 that nobody asked for",
        |stream| say(stream, "HTTP/1.1 304 Not Modified\nETag: \"x\"", b""),
        &[Whole(304), Whole(502)],
    ),
    case(
        "a part that nobody asked for",
        |stream| {
            say(
                stream,
                "HTTP/1.1 206 Partial Content\nContent-Range: bytes 3-7/100\nContent-Length: 5",
                b"xxxxx",
            )
        },
        &[Whole(206), Whole(502)],
    ),
    case(
        "a part of no range",
        |stream| {
            say(
                stream,
                "HTTP/1.1 206 Partial Content\nContent-Length: 5",
                b"xxxxx",
            )
        },
        &[Whole(206), Whole(502)],
    ),
    case(
        "a part of a wrong range",
        |stream| {
            say(
                stream,
                "HTTP/1.1 206 Partial Content\nContent-Range: bytes 7-3/5\nContent-Length: 5",
                b"xxxxx",
            )
        },
        &[Whole(206), Whole(502)],
    ),
    case(
        "a 416 that nobody asked for",
        |stream| {
            say(
                stream,
                "HTTP/1.1 416 Range Not Satisfiable\nContent-Length: 0",
                b"",
            )
        },
        &[Whole(416)],
    ),
];

/// All of these are right, or the client gets what it can use; the next answer on the connection
/// has to be the next one's. They may be kept.
const HARMLESS: &[Case] = &[
    // RFC 9112 section 5.1: a proxy removes it.
    case(
        "a blank before the colon",
        |stream| say(stream, "HTTP/1.1 200 OK\nContent-Length : 10", &[b'x'; 10]),
        &[Whole(200)],
    ),
    case(
        "more than the length",
        |stream| {
            say(
                stream,
                SIZED,
                b"xxxxxxxxxxHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
            )
        },
        &[Whole(200)],
    ),
    case(
        "an answer too many",
        |stream| {
            say(stream, SIZED, b"xxxxxxxxxx")?;
            say(stream, "HTTP/1.1 200 OK\nContent-Length: 4", b"evil")
        },
        &[Whole(200)],
    ),
    case(
        "a 204 with a body",
        |stream| {
            say(
                stream,
                "HTTP/1.1 204 No Content",
                b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil",
            )
        },
        &[Whole(204)],
    ),
    case(
        "a slow body",
        |stream| {
            say(stream, SIZED, b"")?;
            drip(stream, std::iter::repeat_n(b'x', 10))
        },
        &[Whole(200)],
    ),
    case(
        "a few 1xx",
        |stream| {
            for _ in 0..5 {
                stream.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n")?;
            }
            say(stream, SIZED, b"xxxxxxxxxx")
        },
        &[Whole(200)],
    ),
];

fn seen_by(proxy: SocketAddr, target: &str) -> (Seen, Option<Head>) {
    match get(proxy, target) {
        Ok(response) => (Whole(response.head.status()), Some(response.head)),
        Err(_) => (Cut, None),
    }
}

fn all() -> impl Iterator<Item = (&'static Case, bool)> {
    let never = [HEADS, FRAMES, MEANINGS].into_iter().flatten();
    let never = never.map(|case| (case, false));
    never.chain(HARMLESS.iter().map(|case| (case, true)))
}

/// An origin that answers `/NUMBER` as the case of that number, and `/good` well; it counts both.
fn misbehaving_origin(counts: Arc<Mutex<HashMap<String, usize>>>) -> SocketAddr {
    origin(move |request, stream| {
        let path = request.head.target()[1..].to_owned();
        *counts
            .lock()
            .expect("no panic")
            .entry(path.clone())
            .or_default() += 1;
        if path == "good" {
            let head = format!("{OK}\r\nCache-Control: no-store\r\nContent-Length: 4\r\n\r\ngood");
            stream.write_all(head.as_bytes())?;
            return Ok(true);
        }
        let number: usize = path.parse().expect("a number");
        let (case, harmless) = all().nth(number).expect("a case");
        (case.answer)(stream)?;
        Ok(harmless)
    })
}

/// Another client, of the same origin: whether each of its answers was right and soon.
fn notice_nothing(proxy: SocketAddr, target: &str, stop: &AtomicBool) {
    let mut client = Client::connect(proxy).expect("a connection");
    let host = target.split('/').nth(2).expect("a host");
    while !stop.load(Ordering::SeqCst) {
        let began = Instant::now();
        let head = format!("GET {target} HTTP/1.1\nHost: {host}");
        client.send(&head, b"").expect("a connection that stays");
        let response = client.receive("GET").expect("an answer");
        assert_eq!(response.body, b"good", "{:?}", response.head);
        assert!(
            began.elapsed() < Duration::from_secs(5),
            "it waited for others"
        );
        if !Client::persists(&response) {
            client = Client::connect(proxy).expect("a connection");
        }
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn nothing_of_a_broken_answer_is_kept_and_nobody_else_notices() {
    let counts = Arc::new(Mutex::new(HashMap::new()));
    let origin = misbehaving_origin(Arc::clone(&counts));
    let mut program = proxy("response_timeout = \"1s\"\nupstream_timeout = \"700ms\"");
    let proxy = program.address("proxy");
    let good = format!("http://{origin}/good");
    let _ = get(proxy, &good);
    let before = program.descriptors();
    let count = |path: &str| {
        counts
            .lock()
            .expect("no panic")
            .get(path)
            .copied()
            .unwrap_or(0)
    };
    let stop = AtomicBool::new(false);
    let mut wrong = Vec::new();
    let mut unharmed = Ok(());
    thread::scope(|scope| {
        let other = scope.spawn(|| notice_nothing(proxy, &good, &stop));
        for (number, (case, harmless)) in all().enumerate() {
            let target = format!("http://{origin}/{number}");
            for round in 1..=2 {
                let asked = count(&number.to_string());
                let (seen, head) = seen_by(proxy, &target);
                if !case.seen.contains(&seen) {
                    wrong.push(format!(
                        "{}, round {round}: {seen:?}, not {:?}",
                        case.name, case.seen
                    ));
                }
                let is_hit = head.is_some_and(|head| head.is_hit());
                if !harmless && (is_hit || count(&number.to_string()) == asked) {
                    wrong.push(format!("{} was kept", case.name));
                }
                // Whoever is next at this origin, perhaps on the same connection.
                let next = get(proxy, &good).map(|response| response.body);
                if !matches!(&next, Ok(body) if body == b"good") {
                    wrong.push(format!("{}: then {next:?}", case.name));
                }
            }
        }
        stop.store(true, Ordering::SeqCst);
        unharmed = other.join();
    });
    let ended = program.child.try_wait().expect("a child");
    assert!(ended.is_none(), "{ended:?}: {}", program.log());
    assert!(wrong.is_empty(), "{wrong:#?}");
    unharmed.expect("another client noticed nothing");
    // The other client's connection has gone as well; those to the origin may be kept for others.
    expect_soon(
        || program.descriptors() <= before + 2,
        || format!("{} descriptors, {before} before", program.descriptors()),
    );
    program.stop();
}
