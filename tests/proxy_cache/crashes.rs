//! Killed with SIGKILL and started again ten times, while clients ask for thirty thousand mixed
//! resources: no client ever takes a wrong, old, mixed or torn body for a good one, and the store
//! answers again after each start.
//!
//! A response says by its `Content` field which bytes it must have; those belong to the resource,
//! its version and its variant.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::common::{Program, temp_dir};
use crate::http::{CONTENT_BYTES_MAX, Client, Request, Response, content, hash, mixed, origin};
use crate::{STORES, proxy_keys};

const REQUESTS: usize = 30_000;
const CRASHES: usize = 10;
const CLIENTS: usize = 16;
/// How long a version of a resource that changes is the current one.
const VERSION: Duration = Duration::from_millis(700);
/// Added to the time for which a version may be served: ages are whole seconds, and machines busy.
const SLACK: Duration = Duration::from_secs(5);

/// How resources of a kind may be kept.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    /// For an hour, and it never changes.
    Kept,
    /// For a second.
    Brief,
    /// If the origin is asked each time.
    Validated,
    /// For an hour, by the field `Variant` of the request.
    Varied,
    /// Not at all; it has the request's `Nonce` in it.
    Never,
}

impl Kind {
    const ALL: [Self; 5] = [
        Self::Kept,
        Self::Brief,
        Self::Validated,
        Self::Varied,
        Self::Never,
    ];

    /// Its name in a path, how many resources there are of it, and the fields of a response.
    fn facts(self) -> (&'static str, u64, &'static str) {
        match self {
            Self::Kept => ("kept", 300, "Cache-Control: max-age=3600"),
            Self::Brief => ("brief", 40, "Cache-Control: max-age=1"),
            Self::Validated => ("validated", 40, "Cache-Control: no-cache"),
            Self::Varied => ("varied", 40, "Cache-Control: max-age=3600\r\nVary: Variant"),
            Self::Never => ("never", 40, "Cache-Control: no-store"),
        }
    }

    /// Whether it has versions, and for how long one that is no longer current may be served.
    fn versions(self) -> Option<Duration> {
        match self {
            Self::Brief => Some(SLACK + Duration::from_secs(1)),
            Self::Validated => Some(SLACK),
            _ => None,
        }
    }
}

/// A resource's length: mostly short, and now and then two MiB.
fn length(kind: Kind, number: u64) -> usize {
    let draw = hash(&format!("{kind:?} {number}"));
    let most = match draw % 16 {
        0 => 1,
        1..=9 => 4 << 10,
        10..=13 => 64 << 10,
        14 => 256 << 10,
        _ => CONTENT_BYTES_MAX,
    };
    (draw >> 8) as usize % most
}

fn version(since: Instant) -> u128 {
    since.elapsed().as_millis() / VERSION.as_millis()
}

// ---- the origin

fn answer(started: Instant, request: &Request, stream: &mut TcpStream) -> io::Result<bool> {
    let mut words = request.head.target()[1..].split('/');
    let (name, number) = (
        words.next().expect("a kind"),
        words.next().expect("a number"),
    );
    let kind = Kind::ALL.into_iter().find(|kind| kind.facts().0 == name);
    let (kind, number) = (kind.expect("a kind"), number.parse().expect("a number"));
    let mark = match kind {
        Kind::Kept => "0".to_owned(),
        Kind::Brief | Kind::Validated => version(started).to_string(),
        Kind::Varied => request.head.field("variant").unwrap_or("none").to_owned(),
        Kind::Never => format!(
            "{}+{}",
            request.head.field("nonce").expect("a nonce"),
            request.body.len()
        ),
    };
    let date = httpdate::fmt_http_date(SystemTime::now());
    let fields = format!("Date: {date}\r\nETag: \"{mark}\"\r\n{}", kind.facts().2);
    if request.head.field("if-none-match") == Some(&*format!("\"{mark}\"")) {
        write!(stream, "HTTP/1.1 304 Not Modified\r\n{fields}\r\n\r\n")?;
        return Ok(true);
    }
    let length = length(kind, number);
    let id = format!("{name}/{number}/{mark}/{length}");
    let whole = content(&id, length);
    let range = range(request.head.field("range"), length);
    let (status, body) = match range {
        Some((from, to)) => ("206 Partial Content", &whole[from..to]),
        None => ("200 OK", whole),
    };
    let mut head = format!("HTTP/1.1 {status}\r\n{fields}\r\nContent: {id}\r\n");
    if let Some((from, to)) = range {
        head += &format!("Content-Range: bytes {from}-{}/{length}\r\n", to - 1);
    }
    send(
        stream,
        head,
        body,
        if range.is_some() { 0 } else { number % 3 },
    )
}

/// The part that a `Range` asks for, if it is one of a content of this length.
fn range(field: Option<&str>, length: usize) -> Option<(usize, usize)> {
    let (from, last) = field?.strip_prefix("bytes=")?.split_once('-')?;
    let from: usize = from.parse().ok()?;
    let to = last
        .parse::<usize>()
        .map_or(length, |last| last + 1)
        .min(length);
    (from < to).then_some((from, to))
}

/// In one of three framings; whether the connection stays.
fn send(stream: &mut TcpStream, head: String, body: &[u8], framing: u64) -> io::Result<bool> {
    let mut bytes = head.into_bytes();
    match framing {
        0 => {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes());
            bytes.extend_from_slice(body);
        }
        1 => {
            bytes.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in body.chunks(30_000) {
                bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\n\r\n");
        }
        _ => {
            bytes.extend_from_slice(b"Connection: close\r\n\r\n");
            bytes.extend_from_slice(body);
        }
    }
    stream.write_all(&bytes)?;
    Ok(framing < 2)
}

// ---- the clients

/// What clients know of the proxy: where it is, or that it is not, and how often it was started.
#[derive(Default)]
struct Whereabouts {
    now: Mutex<(usize, Option<SocketAddr>)>,
    changed: Condvar,
}

impl Whereabouts {
    fn tell(&self, start: usize, address: Option<SocketAddr>) {
        *self.now.lock().expect("no panic") = (start, address);
        self.changed.notify_all();
    }

    /// Waits until there is one.
    fn wait(&self) -> (usize, SocketAddr) {
        let now = self.now.lock().expect("no panic");
        let now = self.changed.wait_while(now, |now| now.1.is_none());
        let (start, address) = *now.expect("no panic");
        (start, address.expect("it was waited for"))
    }

    fn is_still(&self, start: usize, address: SocketAddr) -> bool {
        *self.now.lock().expect("no panic") == (start, Some(address))
    }
}

#[derive(Default)]
struct Shared {
    proxy: Whereabouts,
    next: AtomicUsize,
    answered: AtomicUsize,
    /// Answers from the store, by how often the proxy had been started.
    hits: [AtomicUsize; CRASHES + 1],
    /// Requests that ended without an answer as the proxy was killed.
    cut: AtomicUsize,
}

/// What is asked for.
struct Ask {
    kind: Kind,
    number: u64,
    /// The variant or the nonce.
    mark: String,
    range: Option<(usize, usize)>,
    posts: bool,
}

impl Ask {
    fn draw(request: usize) -> Self {
        let draw = mixed(request as u64);
        let kind = match draw % 16 {
            0..=7 => Kind::Kept,
            8 | 9 => Kind::Brief,
            10 | 11 => Kind::Validated,
            12 | 13 => Kind::Varied,
            _ => Kind::Never,
        };
        let number = (draw >> 8) % kind.facts().1;
        let mark = match kind {
            Kind::Varied => format!("v{}", (draw >> 40) % 3),
            _ => request.to_string(),
        };
        let length = length(kind, number);
        let ranged = (draw >> 48).is_multiple_of(6) && length > 10 && kind != Kind::Never;
        let from = (draw >> 16) as usize % length.max(1);
        Self {
            kind,
            number,
            mark,
            range: ranged.then(|| (from, (from + 1 + (draw >> 20) as usize % 5000).min(length))),
            posts: kind == Kind::Never && (draw >> 52).is_multiple_of(3),
        }
    }

    fn head(&self, origin: SocketAddr) -> (String, Vec<u8>) {
        let method = if self.posts { "POST" } else { "GET" };
        let (name, number) = (self.kind.facts().0, self.number);
        let mut head = format!(
            "{method} http://{origin}/{name}/{number} HTTP/1.1\nHost: {origin}\nVariant: {0}\nNonce: {0}",
            self.mark
        );
        if let Some((from, to)) = self.range {
            head += &format!("\nRange: bytes={from}-{}", to - 1);
        }
        let body = if self.posts {
            vec![b'x'; 5000]
        } else {
            Vec::new()
        };
        if self.posts {
            head += "\nContent-Length: 5000";
        }
        (head, body)
    }

    /// That the response is one to this, from then on.
    fn check(&self, response: &Response, started: Instant, asked: Instant) {
        let told = response.head.field("content");
        let told = told.unwrap_or_else(|| panic!("no content: {:?}", response.head));
        let words: Vec<&str> = told.split('/').collect();
        let [name, number, mark, length] = words[..] else {
            panic!("a strange content: {told}");
        };
        assert_eq!(name, self.kind.facts().0, "{told}");
        assert_eq!(number, self.number.to_string(), "{told}");
        match self.kind {
            Kind::Varied => assert_eq!(mark, self.mark, "the variant"),
            Kind::Never => {
                let body_bytes = if self.posts { 5000 } else { 0 };
                assert_eq!(
                    mark,
                    format!("{}+{body_bytes}", self.mark),
                    "the request's own"
                );
            }
            _ => {}
        }
        if let Some(grace) = self.kind.versions() {
            let version: u32 = mark.parse().expect("a version");
            let ended = started + VERSION * (version + 1);
            assert!(ended + grace > asked, "{told} is old");
        }
        let whole = content(told, length.parse().expect("a length"));
        let expected = match (response.head.status(), self.range) {
            (200, _) => whole,
            (206, Some((from, to))) => &whole[from..to],
            _ => panic!("{:?} for {:?}", response.head, self.range),
        };
        let same = expected == response.body;
        assert!(same, "the body is not that of {told}: {:?}", response.head);
    }
}

/// One client: request after request on a connection, which is made anew when it breaks.
fn fetch_all(shared: &Shared, origin: SocketAddr, started: Instant) {
    let mut kept: Option<(usize, Client)> = None;
    loop {
        let number = shared.next.fetch_add(1, Ordering::SeqCst);
        if number >= REQUESTS {
            return;
        }
        let ask = Ask::draw(number);
        let (start, response, asked) = loop {
            let (start, address) = shared.proxy.wait();
            let asked = Instant::now();
            let client = kept.take().filter(|(its, _)| *its == start);
            match exchange(client.map(|(_, client)| client), address, &ask, origin) {
                Ok((client, response)) => {
                    kept = client.map(|client| (start, client));
                    break (start, response, asked);
                }
                // Nothing but the end of the process excuses it.
                Err(error) => assert!(
                    gone(&shared.proxy, start, address),
                    "{number}, a {:?}: {error}",
                    ask.kind
                ),
            }
            shared.cut.fetch_add(1, Ordering::SeqCst);
        };
        ask.check(&response, started, asked);
        if response.head.is_hit() {
            assert_ne!(ask.kind, Kind::Never, "{:?}", response.head);
            shared.hits[start].fetch_add(1, Ordering::SeqCst);
        }
        shared.answered.fetch_add(1, Ordering::SeqCst);
    }
}

/// Whether the proxy of this start was killed. Who kills it says so before.
fn gone(proxy: &Whereabouts, start: usize, address: SocketAddr) -> bool {
    !proxy.is_still(start, address)
}

fn exchange(
    client: Option<Client>,
    proxy: SocketAddr,
    ask: &Ask,
    origin: SocketAddr,
) -> io::Result<(Option<Client>, Response)> {
    let mut client = match client {
        Some(client) => client,
        None => Client::connect(proxy)?,
    };
    let (head, body) = ask.head(origin);
    client.send(&head, &body)?;
    let response = client.receive(if ask.posts { "POST" } else { "GET" })?;
    let persists = Client::persists(&response);
    Ok((persists.then_some(client), response))
}

#[test]
#[ignore = "takes a minute"]
fn no_body_is_wrong_however_often_it_is_killed() {
    let started = Instant::now();
    let origin = origin(move |request, stream| answer(started, request, stream));
    let cache = temp_dir();
    let keys = proxy_keys(cache.path().to_str().expect("UTF-8"));
    let shared = Arc::new(Shared::default());
    let mut program = Program::start(&keys);
    shared.proxy.tell(0, Some(program.address("proxy")));
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| {
            let shared = Arc::clone(&shared);
            thread::spawn(move || fetch_all(&shared, origin, started))
        })
        .collect();
    for crash in 1..=CRASHES {
        let until = REQUESTS * crash / (CRASHES + 1);
        while shared.answered.load(Ordering::SeqCst) < until {
            let lost = clients.iter().any(thread::JoinHandle::is_finished);
            assert!(!lost, "a client gave up; its message is above");
            thread::sleep(Duration::from_millis(1));
        }
        shared.proxy.tell(crash, None);
        program.child.kill().expect("it runs");
        program.wait();
        program = Program::start(&keys);
        shared.proxy.tell(crash, Some(program.address("proxy")));
    }
    for client in clients {
        client.join().expect("every answer was right");
    }
    assert_eq!(shared.answered.load(Ordering::SeqCst), REQUESTS);
    let hits: Vec<usize> = shared
        .hits
        .iter()
        .map(|hits| hits.load(Ordering::SeqCst))
        .collect();
    let cut = shared.cut.load(Ordering::SeqCst);
    assert!(cut >= CRASHES, "it was killed while it was busy: {cut}");
    if STORES {
        assert!(hits.iter().all(|hits| *hits > 100), "{hits:?}");
    }
    program.stop();
}
