//! Laws of every protocol over streams, whatever it says: tested through the real reactor on a
//! simulated kernel that behaves, so that a broken law is the protocol's fault or the reactor's.
//!
//! 1. Any fragmentation of the input gives the same output.
//! 2. Calling `advance` again when nothing changed changes nothing.
//! 3. One byte of room in the send queue gives the same output as much room.
//! 4. A silent peer always ends.
//! 5. No bytes make it panic, or leave anything behind.
//! 6. A peer that ends anywhere within a message ends the conversation at once, with the same
//!    output whether its end was seen with the last bytes or after them (`laws/halves.rs`).
//! 7. No call of `advance` does more than its share of work and one step beyond it, whatever waits
//!    in its buffer, and however small the shares are, the output is the same (`laws/shares.rs`).
//!
//! A new protocol is one more [`Subject`] in [`subjects`], and one more in each of the other files.

use std::net::{Ipv4Addr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::{Duration, Instant, SystemTime};

use netlab_reactor::config::{
    AdminConfig, Cache, FilesConfig, FrameEchoConfig, HelloConfig, HttpConfig, Ports, ProxyConfig,
    Routes, SecretSource, TcpEchoConfig, Transform, UploadConfig,
};
use netlab_reactor::dns::{self, Hosts, Resolver};
use netlab_reactor::ending::Error;
use netlab_reactor::gate::GateOptions;
use netlab_reactor::http::body::BodyDecoder;
use netlab_reactor::http::head::BodyLength;
use netlab_reactor::limits::Limits;
use netlab_reactor::metrics::Of;
use netlab_reactor::reactor::{ListenerOptions, Reactor, Turn};
use netlab_reactor::service::{Cx, Io, Peer, Service};
use netlab_reactor::services::frame_echo::FrameEcho;
use netlab_reactor::services::hello::Hello;
use netlab_reactor::services::tcp_echo::TcpEcho;
use netlab_reactor::services::upload::Upload;
use netlab_reactor::services::web::{Given, Web};
use netlab_reactor::sys::sim::actor::{Actor, Hands, Received};
use netlab_reactor::sys::sim::{End, Sim, Stage};
use netlab_reactor::sys::{Bind, Signal};
use netlab_reactor::wire::argon2id::{Cost, Hash};
use netlab_reactor::wire::challenge::{CHALLENGE_BYTES, Handshake, Secret};
use netlab_reactor::wire::frame;
use netlab_reactor::wire::user_file::UserInfo;
use proptest::prelude::*;

#[path = "laws/halves.rs"]
mod halves;
#[allow(dead_code)] // no origin speaks TLS here
#[path = "simulation/secure.rs"]
mod secure;
#[path = "laws/shares.rs"]
mod shares;
#[allow(dead_code)] // the browser is not needed here
#[path = "simulation/web.rs"]
mod web;

const AT: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 7777);
const ORIGIN: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 80);
/// No time-out of a protocol is longer, nor are all of one conversation together.
const SILENCE_MAX: Duration = Duration::from_secs(20 * 60);

// Two things are no output: how a body without a length is cut into chunks on its way through the
// proxy, and what a session that is dropped for an error still had to say. The dialogues have
// neither.

/// How a conversation is held.
#[derive(Clone, Copy)]
struct Conditions {
    /// Bytes that a send queue holds.
    send_bytes_max: u32,
    /// `advance` is called again after each call.
    spurious: bool,
    /// When the client ends its stream.
    finish: Finish,
    /// The longest time on the wire. With none, what is sent at one moment is seen at one moment.
    latency_max: Duration,
    /// What one call may do.
    turn_work: Duration,
    /// The most that one step takes of what arrived, where each call may make one step only.
    step_bytes_max: usize,
}

const EASY: Conditions = Conditions {
    send_bytes_max: 512 * 1024,
    spurious: false,
    finish: Finish::WithTheLast,
    latency_max: Duration::from_micros(10),
    turn_work: Duration::from_secs(1),
    step_bytes_max: usize::MAX,
};

/// When a peer ends its stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Finish {
    /// Together with its last bytes.
    WithTheLast,
    /// After everything before was dealt with.
    Later,
    Never,
}

/// A protocol and a dialogue with it: what the client says, whatever it hears.
struct Subject {
    name: &'static str,
    input: Vec<u8>,
    /// Opens its listener.
    open: fn(&mut Reactor<Sim>, Conditions),
    /// What the fragments of one message may not change does not hold for every protocol: a reply
    /// to `hello` is whatever arrives at a time.
    cuts: bool,
}

#[expect(clippy::semicolon_if_nothing_returned)] // closures of one call
fn subjects() -> Vec<Subject> {
    let echo = "Gr\u{fc}\u{df}e aus Stra\u{df}burg, \u{149}ot \u{1f600} "
        .repeat(40)
        .into_bytes();
    let http = b"GET /a.txt HTTP/1.1\r\nHost: x\r\n\r\nGET /none HTTP/1.1\r\nHost: x\r\n\r\n\
        GET /more.zip HTTP/1.1\r\nHost: x\r\n\r\nGET /more.tar HTTP/1.1\r\nHost: x\r\n\r\n\
        HEAD /big.bin HTTP/1.1\r\nHost: x\r\n\r\nGET /big.bin HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let login = br#"{"operate": "login", "user": "ada", "passwd": "pw"}"#;
    let proxy = format!(
        "GET http://{ORIGIN}/5000/length/3 HTTP/1.1\r\nHost: x\r\n\r\n\
         POST http://{ORIGIN}/0/chunked/1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n\
         GET http://10.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n\
         GET /{ORIGIN}/300/chunked/4 HTTP/1.1\r\nHost: localhost\r\n\r\n"
    );
    let admin =
        b"GET /livez HTTP/1.1\r\nHost: [::1]\r\n\r\nGET /nowhere HTTP/1.1\r\nHost: [::1]\r\n\r\n";
    let upload = [
        &login[..],
        &file("a", 3000),
        &file("b/../c", 0),
        &file("d", 40_000),
    ]
    .concat();
    let answered = [
        &login[..],
        &file_with("a", 3000, r#""ack": true"#),
        &file_with(
            "wrong",
            40,
            &format!(r#""ack": true, "sha256": "{}""#, "0".repeat(64)),
        ),
        &file_with("large", 40_000, r#""ack": true"#),
        &file("plain", 20_000),
        &file_with("a", 0, r#""ack": true"#),
        &file_with("..", 10, r#""ack": true"#),
    ]
    .concat();
    vec![
        Subject::new("tcp-echo", &echo, |r, c| listen(r, c, |_| upper())),
        Subject::new("tcp-echo as it is", &echo, |r, c| {
            listen(r, c, |_| as_it_is())
        }),
        Subject::new("frame-echo", &frames(), |r, c| {
            listen(r, c, |_| frame_echo())
        }),
        Subject {
            cuts: false,
            ..Subject::new("hello", b"b", |r, c| listen(r, c, |_| hello()))
        },
        Subject::new("http", http, |r, c| {
            listen(r, c, |sim| http_service(sim, Routes::None))
        }),
        Subject::new("upload", &upload, |r, c| {
            listen(r, c, |sim| upload_service(sim, Handshake::None, true))
        }),
        Subject::new("upload with answers", &answered, |r, c| {
            listen(r, c, |sim| upload_service(sim, Handshake::None, true))
        }),
        Subject::new("upload with argon2id", &upload, |r, c| {
            listen(r, c, upload_with_argon2id)
        }),
        Subject::new("proxy", proxy.as_bytes(), |r, c| {
            listen(r, c, proxy_service)
        }),
        Subject::new("admin", admin, |r, c| listen(r, c, admin_service)),
    ]
}

impl Subject {
    fn new(name: &'static str, input: &[u8], open: fn(&mut Reactor<Sim>, Conditions)) -> Self {
        Self {
            name,
            input: input.to_vec(),
            open,
            cuts: true,
        }
    }
}

fn upper() -> TcpEcho {
    echo_service(Transform::Upper)
}

fn as_it_is() -> TcpEcho {
    echo_service(Transform::None)
}

fn admin_service(sim: &mut Sim) -> Web {
    Web::admin(&AdminConfig::default(), &Given::default(), sim).expect("nothing to open")
}

fn echo_service(transform: Transform) -> TcpEcho {
    TcpEcho::new(&TcpEchoConfig {
        transform,
        ..TcpEchoConfig::default()
    })
}

fn frame_echo() -> FrameEcho {
    FrameEcho::new(&FrameEchoConfig::default())
}

/// Frames of nothing, of ASCII, of letters that grow, and of more than a page; then a length that is
/// none.
fn frames() -> Vec<u8> {
    let long = "Gr\u{fc}\u{df}e ".repeat(4_000);
    let mut out = Vec::new();
    for payload in ["", "abc", "stra\u{df}e \u{149}ot", &long, "z"] {
        frame::encode(payload.as_bytes(), &mut out).expect("it has a length");
    }
    out.extend((-1i32).to_le_bytes());
    out
}

fn hello() -> Hello {
    let count = NonZeroU32::new(3).expect("more than none");
    Hello::new(&HelloConfig {
        count,
        ..HelloConfig::default()
    })
}

fn http_service(sim: &mut Sim, routes: Routes) -> Web {
    let big: Vec<u8> = (0..50_000u32).map(|i| (i % 251) as u8).collect();
    sim.volume()
        .put("/www/a.txt", b"a small file\n", SystemTime::UNIX_EPOCH);
    sim.volume()
        .put("/www/big.bin", &big, SystemTime::UNIX_EPOCH);
    for (name, bytes) in [("a", &b"small"[..]), ("b/big", &big), ("c", b"")] {
        let path = format!("/www/more/{name}");
        sim.volume().put(path, bytes, SystemTime::UNIX_EPOCH);
    }
    let config = HttpConfig {
        root: Some(PathBuf::from("/www")),
        files: FilesConfig {
            listing: true,
            ..FilesConfig::default()
        },
        routes,
        ..HttpConfig::default()
    };
    Web::files(&config, &Given::default(), sim).expect("a folder")
}

fn upload_service(sim: &mut Sim, handshake: Handshake, login: bool) -> Upload {
    let line = UserInfo::line("ada", &Secret::from("pw"));
    let mut config = UploadConfig::new(handshake, SecretSource::Given(secret()));
    config.dir = PathBuf::from("/up");
    config.login = login.then(|| UserInfo::parse(&line).expect("one line"));
    Upload::new(&config, sim).expect("a folder")
}

/// The same, whose user's password is checked by a job.
fn upload_with_argon2id(sim: &mut Sim) -> Upload {
    let cost = Cost {
        memory_kib: 8,
        passes: 1,
        lanes: 1,
    };
    let line = UserInfo::line_with("ada", &Hash::of(b"pw", [7; 16], cost));
    let mut config = UploadConfig::new(Handshake::None, SecretSource::Given(secret()));
    config.dir = PathBuf::from("/up");
    config.login = Some(UserInfo::parse(&line).expect("one line"));
    Upload::new(&config, sim).expect("a folder")
}

fn file(name: &str, len: usize) -> Vec<u8> {
    file_with(name, len, r#""is": "plain""#)
}

/// A file with another key in its header.
fn file_with(name: &str, len: usize, key: &str) -> Vec<u8> {
    let header = format!(r#"{{"filename": "{name}", "filesize": {len}, {key}}}"#);
    let body = (0..len).map(|i| (i * 7 % 253) as u8);
    (header.len() as i32)
        .to_le_bytes()
        .into_iter()
        .chain(header.into_bytes())
        .chain(body)
        .collect()
}

fn proxy_service(sim: &mut Sim) -> Web {
    let mut config = ProxyConfig::new(Cache::Off);
    config.allow_destinations = vec!["198.18.0.0/15".parse().expect("a range")];
    Web::proxy(&config, &Given::default(), sim).expect("nothing to open")
}

/// Opens the one listener of a conversation.
fn listen<T: Service + 'static>(
    reactor: &mut Reactor<Sim>,
    conditions: Conditions,
    make: impl Fn(&mut Sim) -> T,
) {
    let options = ListenerOptions {
        name: "subject".to_owned(),
        kind: "subject",
        connections_max: 10,
        descriptors: 1,
        serves_while_draining: false,
        gate: GateOptions::default(),
        tls: None,
    };
    let service = make(reactor.sys_mut());
    let service = Repeating {
        service,
        conditions,
    };
    reactor
        .listen(&Bind::Inet(AT), options, service)
        .expect("a free address");
}

/// A protocol that is asked again when nothing changed, and must not notice; and that is watched
/// for what it does at once.
struct Repeating<T> {
    service: T,
    conditions: Conditions,
}

impl<T: Service> Service for Repeating<T> {
    type Conn = T::Conn;
    const CLIENT_FIRST: bool = T::CLIENT_FIRST;

    fn counts() -> Of {
        T::counts()
    }

    fn accept(&mut self, peer: &Peer, now: Instant) -> T::Conn {
        self.service.accept(peer, now)
    }

    fn advance(&mut self, conn: &mut T::Conn, io: &mut Io<'_>) -> Result<(), Error> {
        let waited = [io.down.rx.len(), io.up.rx.len()];
        self.service.advance(conn, io)?;
        shares::check(io, waited, self.conditions);
        let facts = |io: &Io<'_>| {
            let (down, up) = (&io.down, &io.up);
            [
                down.rx.len(),
                up.rx.len(),
                down.tx.memory_bytes(),
                up.tx.memory_bytes(),
            ]
        };
        let ends = |io: &Io<'_>| [io.down.finish, io.up.finish];
        let finished = ends(io);
        let (before, until) = (facts(io), self.service.deadline(conn));
        if self.conditions.spurious && io.asked.is_empty() && !io.cx.work.is_spent() {
            self.service.advance(conn, io)?;
            assert_eq!(facts(io), before, "a second look changed something");
            assert_eq!(ends(io), finished, "a second look ended a stream");
            assert!(io.asked.is_empty(), "a second look asked for something");
            assert_eq!(
                self.service.deadline(conn),
                until,
                "a second look moved the deadline"
            );
        }
        Ok(())
    }

    fn state(&self, conn: &Self::Conn) -> &'static str {
        self.service.state(conn)
    }

    fn deadline(&self, conn: &T::Conn) -> Instant {
        self.service.deadline(conn)
    }

    fn ended(&mut self, conn: T::Conn, cx: &mut Cx<'_>) {
        self.service.ended(conn, cx);
    }

    fn turn_ended(&mut self, cx: &mut Cx<'_>) -> bool {
        self.service.turn_ended(cx)
    }

    fn turn_deadline(&self) -> Option<Instant> {
        self.service.turn_deadline()
    }

    fn reopen(&mut self, cx: &mut Cx<'_>) {
        self.service.reopen(cx);
    }
}

/// What a peer sends: each piece on its own, and then perhaps the end.
struct Speech {
    pieces: Vec<Vec<u8>>,
    finish: Finish,
    sent: usize,
    next_at: Duration,
}

/// From one piece to the next: longer than anything is under way.
const GAP: Duration = Duration::from_micros(100);

impl Speech {
    fn new(pieces: Vec<Vec<u8>>, finish: Finish) -> Self {
        Self {
            pieces,
            finish,
            sent: 0,
            next_at: Duration::ZERO,
        }
    }

    /// Sends what is due now. Whether that was all, the end included.
    fn go_on(&mut self, end: End, hands: &mut Hands<'_>) -> bool {
        if hands.now() >= self.next_at && self.sent < self.pieces.len() {
            let piece = &mut self.pieces[self.sent];
            let sent = hands.send(end, piece);
            piece.drain(..sent);
            if piece.is_empty() {
                self.sent += 1;
            }
            self.next_at = hands.now() + GAP;
            hands.wake_in(GAP);
        }
        let ends = match self.finish {
            Finish::WithTheLast => true,
            Finish::Later => hands.now() >= self.next_at,
            Finish::Never => false,
        };
        let over = ends && self.sent == self.pieces.len();
        if over {
            hands.finish(end);
        }
        over
    }
}

/// A client that sends each piece on its own.
struct Cutter {
    speech: Speech,
    /// The first bytes of the speech are replaced by the right answer to the challenge.
    handshake: Handshake,
    end: Option<End>,
    received: Vec<u8>,
    over: Option<(Duration, bool)>,
}

impl Cutter {
    fn new(pieces: Vec<Vec<u8>>, finish: Finish) -> Self {
        Self {
            speech: Speech::new(pieces, finish),
            handshake: Handshake::None,
            end: None,
            received: Vec::new(),
            over: None,
        }
    }

    /// Puts the right answer in its place. Whether the client may speak.
    fn answer_challenge(&mut self) -> bool {
        if self.handshake == Handshake::None {
            return true;
        }
        let Some(challenge) = self.received.first_chunk::<CHALLENGE_BYTES>() else {
            return false;
        };
        let answer = self.handshake.answer(&secret(), challenge);
        let places = self.speech.pieces.iter_mut().flatten();
        for (place, byte) in places.zip(answer) {
            *place = byte;
        }
        self.handshake = Handshake::None;
        true
    }
}

impl Actor for Cutter {
    fn act(&mut self, hands: &mut Hands<'_>) {
        if self.is_done() {
            return;
        }
        let Some(end) = self.end else {
            self.end = Some(hands.connect(&Bind::Inet(AT)));
            return;
        };
        if hands.stage(end) != Stage::Open {
            return;
        }
        loop {
            let received = hands.receive(end, 100_000);
            match received {
                Received::Bytes(bytes) => self.received.extend(bytes),
                Received::Nothing => break,
                Received::End | Received::Broken => {
                    self.over = Some((hands.now(), received == Received::Broken));
                    return hands.close(end);
                }
            }
        }
        if self.answer_challenge() {
            self.speech.go_on(end, hands);
        }
    }

    fn is_done(&self) -> bool {
        self.over.is_some()
    }

    fn verdict(&self) -> Result<(), String> {
        Ok(())
    }
}

fn secret() -> Secret {
    Secret::from("tiger")
}

/// What a conversation came to.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    /// What the client received.
    received: Vec<u8>,
    over_at: Duration,
    /// The connection was reset.
    broken: bool,
}

/// Holds one conversation with an origin that answers as it should.
fn converse(subject: &Subject, pieces: Vec<Vec<u8>>, conditions: Conditions) -> Outcome {
    let client = Cutter::new(pieces, conditions.finish);
    let origin = web::WebOrigin::new(SocketAddr::from((ORIGIN, 80)));
    hold(subject.name, subject.open, client, origin, conditions)
}

fn limits(conditions: Conditions) -> Limits {
    Limits {
        sessions_max: 10,
        sessions_reserved: 0,
        accept_batch: 10,
        backlog: 10,
        turn_bytes: 1 << 20,
        turn_work: conditions.turn_work,
        turn_work_max: conditions.turn_work,
        send_queue_bytes_max: conditions.send_bytes_max as usize,
        pool_bytes_max: 0,
        linger_bytes_max: 1 << 20,
        write_rate_min: None,
        ..Limits::default()
    }
}

/// Holds one conversation.
fn hold(
    name: &str,
    open: impl FnOnce(&mut Reactor<Sim>, Conditions),
    client: Cutter,
    origin: impl Actor,
    conditions: Conditions,
) -> Outcome {
    let mut sim = Sim::new(1);
    sim.shape_network(conditions.latency_max, 1 << 20);
    let resolver = Resolver::new(dns::Config::default(), Hosts::parse(""), [7; 32]);
    let mut reactor = Reactor::new(sim, limits(conditions), resolver);
    open(&mut reactor, conditions);
    let sim = reactor.sys_mut();
    sim.enter(origin, Duration::ZERO);
    let client = sim.enter(client, Duration::ZERO);
    let mut told = false;
    while reactor.turn().expect("it goes on") == Turn::Continue {
        let sim = reactor.sys_mut();
        if sim.actors_are_done() && !told {
            told = true;
            sim.send_signal(Signal::Terminate, Duration::ZERO);
        }
    }
    let gauges = reactor.metrics().gauges;
    assert_eq!(
        (gauges.sessions, gauges.sockets, gauges.pages_held),
        (0, 0, 0),
        "{name}: something is left"
    );
    let mut sim = reactor.into_sys();
    assert!(sim.left_open().is_empty(), "{name}: {:?}", sim.left_open());
    assert!(
        sim.volume().open_files().is_empty(),
        "{name}: files are open"
    );
    let client = sim.actor::<Cutter>(client).expect("the client");
    let (over_at, broken) = client.over.expect("it was over");
    Outcome {
        received: without_dates(&client.received),
        over_at,
        broken,
    }
}

/// The time of day is the one thing that a slower conversation changes.
fn without_dates(received: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for line in received.split_inclusive(|&byte| byte == b'\n') {
        out.extend_from_slice(if line.starts_with(b"Date: ") {
            b"Date\r\n"
        } else {
            line
        });
    }
    out
}

/// Cuts `input` at these places, given in 1/65536 of its length.
fn cut(input: &[u8], places: &[u16]) -> Vec<Vec<u8>> {
    let mut at: Vec<usize> = places
        .iter()
        .map(|&place| place as usize * input.len() / 65_536)
        .collect();
    at.extend([0, input.len()]);
    at.sort_unstable();
    at.windows(2)
        .map(|pair| input[pair[0]..pair[1]].to_vec())
        .filter(|piece| !piece.is_empty())
        .collect()
}

fn whole(subject: &Subject) -> Vec<u8> {
    converse(subject, vec![subject.input.clone()], EASY).received
}

#[test]
fn one_byte_at_a_time_gives_the_same_output() {
    for subject in subjects().iter().filter(|subject| subject.cuts) {
        let bytes = subject.input.iter().map(|&byte| vec![byte]).collect();
        let bytes = converse(subject, bytes, EASY).received;
        assert!(bytes == whole(subject), "{}", subject.name);
    }
}

#[test]
fn one_byte_of_room_gives_the_same_output() {
    for subject in subjects() {
        let tight = Conditions {
            send_bytes_max: 1,
            ..EASY
        };
        let tight = converse(&subject, vec![subject.input.clone()], tight).received;
        assert!(tight == whole(&subject), "{}", subject.name);
    }
}

#[test]
fn every_dialogue_says_something() {
    // The other laws would hold of a server that does nothing.
    for subject in subjects() {
        assert!(!whole(&subject).is_empty(), "{}", subject.name);
    }
}

#[test]
fn a_last_request_that_came_in_two_parts_with_the_end_is_answered_once() {
    // The second part arrives with the end of the stream, which is no reason to complain of a
    // request that was answered.
    for last in [
        "GET /a.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        "GET /a.txt FTP/1.1\r\n\r\n",
    ] {
        let subject = Subject::new("http", last.as_bytes(), |r, c| {
            listen(r, c, |sim| http_service(sim, Routes::None));
        });
        let parted = converse(&subject, cut(&subject.input, &[20_000]), EASY).received;
        assert!(
            parted == whole(&subject),
            "{}",
            String::from_utf8_lossy(&parted)
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_fragmentation_gives_the_same_output(places in proptest::collection::vec(any::<u16>(), 0..20)) {
        for subject in subjects().iter().filter(|subject| subject.cuts) {
            let cut = converse(subject, cut(&subject.input, &places), EASY).received;
            prop_assert!(cut == whole(subject), "{}", subject.name);
        }
    }

    #[test]
    fn a_spurious_advance_changes_nothing(places in proptest::collection::vec(any::<u16>(), 0..20), tight: bool) {
        for subject in subjects().iter().filter(|subject| subject.cuts) {
            let send_bytes_max = if tight { 1 } else { EASY.send_bytes_max };
            let again = Conditions { spurious: true, send_bytes_max, ..EASY };
            let again = converse(subject, cut(&subject.input, &places), again).received;
            prop_assert!(again == whole(subject), "{}", subject.name);
        }
    }

    #[test]
    fn a_silent_peer_always_ends(stop in any::<u16>()) {
        for subject in subjects() {
            let input = &subject.input[..stop as usize * subject.input.len() / 65_536];
            let silent = Conditions { finish: Finish::Never, ..EASY };
            let over_at = converse(&subject, vec![input.to_vec()], silent).over_at;
            prop_assert!(over_at < SILENCE_MAX, "{} took {over_at:?}", subject.name);
        }
    }

    #[test]
    fn no_bytes_make_it_panic(
        junk: Vec<u8>,
        at in any::<u16>(),
        flips in proptest::collection::vec((any::<u16>(), any::<u8>()), 0..5),
    ) {
        for subject in subjects() {
            // Pure noise, noise within a dialogue, and a dialogue with a few bytes changed.
            let (before, after) = subject.input.split_at(at as usize * subject.input.len() / 65_536);
            let mut changed = subject.input.clone();
            for &(place, byte) in &flips {
                let place = place as usize * changed.len() / 65_536;
                changed[place] ^= byte;
            }
            for input in [junk.clone(), [before, &junk, after].concat(), changed] {
                converse(&subject, vec![input], EASY);
            }
        }
    }
}
