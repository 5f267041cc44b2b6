//! Record and replay over the real program: whatever it served, its record makes the same program do
//! the same once more, with nothing of its world left.
//!
//! `RECORD_EXCHANGES=10000 RECORD_RUNS=100 cargo test --test record -- many` is the long form.

#[path = "common/mod.rs"]
mod common;

use std::fs;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;
use std::time::Duration;

use common::{Program, command, connect, temp_dir};
use rustix::process::{Pid, Signal, kill_process};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use socket2::SockRef;

/// Exchanges in a run of a plain `cargo test`, and runs.
const EXCHANGES: usize = 1500;
const RUNS: usize = 2;
/// Clients at once.
const CLIENTS: usize = 8;

const CONFIG: &str = r#"
drain_timeout = "500ms"

[[listener]]
kind = "http"
bind = "127.0.0.1:0"
root = "site"
listing = true
access_log = "access.log"

[[listener]]
kind = "http"
name = "secure"
bind = "127.0.0.1:0"
root = "site"
tls = { cert = "all.pem", key = "all.pem" }

[[listener]]
kind = "proxy"
bind = "127.0.0.1:0"
cache_dir = "cache"
allow_destinations = ["127.0.0.0/8"]
connect_ports = []

[[listener]]
kind = "upload"
bind = "127.0.0.1:0"
dir = "uploads"
handshake = "none"

[[listener]]
kind = "tcp-echo"
bind = "127.0.0.1:0"

[[listener]]
kind = "udp-ping"
bind = "127.0.0.1:0"
loss = 0.1
delay = "1ms"

[[listener]]
kind = "udp-heartbeat"
bind = "127.0.0.1:0"
timeout = "200ms"

[[listener]]
kind = "admin"
bind = "127.0.0.1:0"
"#;

fn number(name: &str, default: usize) -> usize {
    let given = std::env::var(name).ok();
    given.map_or(default, |text| text.parse().expect("a number"))
}

fn large() -> Vec<u8> {
    (0..300_000_u32).map(|i| (i % 251) as u8).collect()
}

/// A certificate for `localhost`, and its key, both in PEM.
fn certificate() -> (String, String) {
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    (own.cert.pem(), own.signing_key.serialize_pem())
}

/// The world of a run: where everything is, and how to speak TLS.
struct World {
    http: SocketAddr,
    secure: SocketAddr,
    proxy: SocketAddr,
    upload: SocketAddr,
    echo: SocketAddr,
    ping: SocketAddr,
    heartbeat: SocketAddr,
    admin: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl World {
    fn of(program: &Program, cert: &str) -> Self {
        let mut roots = RootCertStore::empty();
        let pem = <rustls_pki_types::CertificateDer<'_> as rustls_pki_types::pem::PemObject>::pem_slice_iter(cert.as_bytes());
        for one in pem {
            roots.add(one.expect("a certificate")).expect("a root");
        }
        let tls = ClientConfig::builder().with_root_certificates(roots);
        let web = program.addresses("http");
        Self {
            http: web[0],
            secure: web[1],
            proxy: program.address("proxy"),
            upload: program.address("upload"),
            echo: program.address("tcp-echo"),
            ping: program.address("udp-ping"),
            heartbeat: program.address("udp-heartbeat"),
            admin: program.address("admin"),
            tls: Arc::new(tls.with_no_client_auth()),
        }
    }

    /// One exchange of a kind that its number says. What a drain or a fault cuts is nobody's concern:
    /// what counts is that all of it happens again.
    fn exchange(&self, client: usize, number: usize) -> std::io::Result<()> {
        let path = ["/small", "/large", "/none", "/"][number % 4];
        match number % 12 {
            0 => self.kept_alive(path),
            1 => self.get(self.http, &request(path, "close")),
            2 | 3 => {
                let at = self.http;
                self.get(self.proxy, &request(&format!("http://{at}{path}"), "close"))
            }
            4 => self.tunnel(),
            5 => self.send_file(client, number, false),
            6 => self.send_file(client, number, true),
            7 => self.echo(number),
            8 => self.datagrams(number),
            9 => self.get_secure(path),
            10 => self.reset(),
            _ => self.slow(),
        }
    }

    fn get(&self, to: SocketAddr, request: &str) -> std::io::Result<()> {
        let mut stream = connect(to);
        stream.write_all(request.as_bytes())?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    }

    fn kept_alive(&self, path: &str) -> std::io::Result<()> {
        let mut stream = connect(self.http);
        for _ in 0..3 {
            stream.write_all(request(path, "keep-alive").as_bytes())?;
            let mut some = [0; 100];
            stream.read_exact(&mut some)?;
        }
        stream.shutdown(Shutdown::Write)?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    }

    fn tunnel(&self) -> std::io::Result<()> {
        let mut stream = connect(self.proxy);
        let at = self.echo;
        write!(stream, "CONNECT {at} HTTP/1.1\r\nHost: {at}\r\n\r\n")?;
        let mut head = [0; 12];
        stream.read_exact(&mut head)?;
        stream.write_all(&large()[..50_000])?;
        stream.shutdown(Shutdown::Write)?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    }

    fn send_file(&self, client: usize, number: usize, ack: bool) -> std::io::Result<()> {
        let mut stream = connect(self.upload);
        let bytes = &large()[..number * 97 % 100_000];
        let ack = if ack { ", \"ack\": true" } else { "" };
        let header = format!(
            "{{\"filename\": \"f{client}-{number}\", \"filesize\": {}{ack}}}",
            bytes.len()
        );
        stream.write_all(&(header.len() as i32).to_le_bytes())?;
        stream.write_all(header.as_bytes())?;
        stream.write_all(bytes)?;
        stream.shutdown(Shutdown::Write)?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    }

    fn echo(&self, number: usize) -> std::io::Result<()> {
        let mut stream = connect(self.echo);
        stream.write_all(&"straße ".repeat(number % 1000).into_bytes())?;
        stream.shutdown(Shutdown::Write)?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    }

    fn datagrams(&self, number: usize) -> std::io::Result<()> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(20)))?;
        for _ in 0..5 {
            socket.send_to(format!("Ping {number} 1.5").as_bytes(), self.ping)?;
            socket.send_to(format!("Heartbeat {number} 1.5").as_bytes(), self.heartbeat)?;
        }
        let _ = socket.recv(&mut [0; 100]); // it may be lost
        Ok(())
    }

    fn get_secure(&self, path: &str) -> std::io::Result<()> {
        let name = ServerName::try_from("localhost").expect("a name");
        let session = ClientConnection::new(Arc::clone(&self.tls), name).expect("TLS");
        let mut stream = StreamOwned::new(session, connect(self.secure));
        stream.write_all(request(path, "close").as_bytes())?;
        stream.read_to_end(&mut Vec::new()).map(drop)
    }

    /// A client that breaks the connection within an answer.
    fn reset(&self) -> std::io::Result<()> {
        let mut stream = connect(self.http);
        stream.write_all(request("/large", "close").as_bytes())?;
        stream.read_exact(&mut [0; 10])?;
        SockRef::from(&stream).set_linger(Some(Duration::ZERO))
    }

    /// A client that takes its time.
    fn slow(&self) -> std::io::Result<()> {
        let mut stream: TcpStream = connect(self.proxy);
        let target = format!("http://{}/large", self.http);
        let request = request(&target, "close");
        let (one, other) = request.split_at(30);
        for part in [one, other] {
            stream.write_all(part.as_bytes())?;
            std::thread::yield_now();
        }
        let mut some = [0; 40_000];
        while stream.read(&mut some)? > 0 {
            std::thread::yield_now();
        }
        Ok(())
    }
}

fn request(target: &str, connection: &str) -> String {
    format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: {connection}\r\n\r\n")
}

fn replay(record: &Path, flags: &[&str]) -> Output {
    let mut command = command(&["replay"]);
    let output = command.arg(record).args(flags).current_dir("/").output();
    output.expect("the program runs")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Serves so many exchanges under load, with a reload in their middle and a drain before all are
/// done; its record, with nothing left of the rest, and the key that is not to be in it.
fn served(exchanges: usize, record: &Path) -> String {
    served_beside(exchanges, record, &[], |_| {})
}

/// The same with more flags, and with what is done beside it.
fn served_beside(
    exchanges: usize,
    record: &Path,
    flags: &[&str],
    beside: impl FnOnce(&World) + Send,
) -> String {
    let (cert, key) = certificate();
    let files: [(&str, &[u8]); 3] = [
        ("site/small", b"small\n"),
        ("site/large", &large()),
        ("all.pem", &[key.as_bytes(), cert.as_bytes()].concat()),
    ];
    let flags = [&["-qq"], flags].concat();
    let mut program = Program::start_recorded(CONFIG, &files, &flags);
    let world = World::of(&program, &cert);
    let each = exchanges / CLIENTS;
    let process = Pid::from_raw(program.child.id().cast_signed()).expect("a process");
    std::thread::scope(|scope| {
        scope.spawn(|| beside(&world));
        for client in 0..CLIENTS {
            let (world, process) = (&world, process);
            scope.spawn(move || {
                for number in 0..each {
                    if client == 0 && number == each / 2 {
                        kill_process(process, Signal::HUP).expect("it lives");
                    }
                    // Nothing depends on how it went.
                    let _ = world.exchange(client, number * CLIENTS + client);
                }
            });
        }
    });
    // Somebody is being served, somebody looks, and somebody says nothing, when it is to end.
    let mut under_way = connect(world.echo);
    under_way.write_all(b"abc").expect("room");
    let _ = world.get(world.admin, &request("/trace?seconds=1", "close"));
    let _idle = connect(world.http);
    program.terminate();
    assert!(program.wait().success());
    let written = program.path("run.rec");
    let mode = fs::metadata(&written)
        .expect("a record")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600, "it holds what clients sent");
    fs::copy(&written, record).expect("a copy");
    key
}

fn is_exact(record: &Path) {
    let output = replay(record, &["--check"]);
    let told = text(&output.stdout) + &text(&output.stderr);
    assert!(
        output.status.success() && told.starts_with("exact: "),
        "{told}"
    );
}

#[test]
fn many_exchanges_of_every_kind_are_replayed_to_the_byte() {
    let folder = temp_dir();
    for run in 0..number("RECORD_RUNS", RUNS) {
        let record = folder.path().join(format!("{run}.rec"));
        let key = served(number("RECORD_EXCHANGES", EXCHANGES), &record);
        is_exact(&record);
        // What is only looked at is the same as well.
        let output = replay(&record, &["--session", "5", "--text"]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let told = text(&output.stdout);
        assert!(told.contains("#5") && told.contains("exact: "), "{told}");
        let bytes = fs::read(&record).expect("a record");
        for line in key.lines().filter(|line| !line.contains("PRIVATE KEY")) {
            let is_in_it = memchr::memmem::find(&bytes, line.as_bytes()).is_some();
            assert!(!is_in_it, "a private key is in the record");
        }
        fs::remove_file(record).expect("a file");
    }
}

/// What no record of heads only may hold, long enough for several reads.
fn payload(of: &str) -> Vec<u8> {
    format!("payload of {of}, which is nobody's business\r\n")
        .repeat(9000)
        .into_bytes()
}

/// An origin outside of the program whose answers have bodies of every framing, for so many requests.
fn origin(requests: usize) -> (SocketAddr, std::thread::JoinHandle<()>) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    let serves = std::thread::spawn(move || {
        for number in 0..requests {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut gathered = Vec::new();
            let mut some = [0; 4096];
            while memchr::memmem::find(&gathered, b"\r\n\r\n").is_none() {
                let count = stream.read(&mut some).expect("a request");
                gathered.extend_from_slice(&some[..count]);
            }
            let body = payload("an answer");
            let mut answer = b"HTTP/1.1 200 OK\r\nX-Answer: its head\r\n".to_vec();
            let keeps = ["no-store", "max-age=60"][number % 2];
            write!(answer, "Cache-Control: {keeps}\r\n").expect("memory");
            match number % 3 {
                0 => write!(answer, "Content-Length: {}\r\n\r\n", body.len()).expect("memory"),
                1 => answer.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n"),
                _ => answer.extend_from_slice(b"Connection: close\r\n\r\n"),
            }
            if number % 3 == 1 {
                for chunk in body.chunks(3000) {
                    write!(answer, "{:x}\r\n", chunk.len()).expect("memory");
                    answer.extend_from_slice(chunk);
                    answer.extend_from_slice(b"\r\n");
                }
                answer.extend_from_slice(b"0\r\n\r\n");
            } else {
                answer.extend_from_slice(&body);
            }
            // A client that leaves early is part of it.
            let _ = stream.write_all(&answer);
            let _ = stream.shutdown(Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    });
    (address, serves)
}

/// Bodies on every way through the program.
fn pass_payloads(world: &World, origin: SocketAddr, requests: usize) {
    let post = |target: &str, connection: &str| {
        let body = payload(&format!("a request to {target}"));
        let mut request = format!(
            "POST {target} HTTP/1.1\r\nHost: localhost\r\nX-Request: its head\r\n\
             Connection: {connection}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(&body);
        request
    };
    let ask = |at: SocketAddr, request: &[u8]| {
        let mut stream = connect(at);
        let mut sends = stream.try_clone().expect("a descriptor");
        let request = request.to_vec();
        // Both at once, or an answer that nobody reads would keep the request from going on.
        let sender = std::thread::spawn(move || drop(sends.write_all(&request)));
        let _ = stream.read_to_end(&mut Vec::new());
        sender.join().expect("no panic");
    };
    for number in 0..requests {
        let path = format!("http://{origin}/{number}");
        match number % 2 {
            0 => ask(world.proxy, &post(&path, "close")),
            _ => ask(world.proxy, request(&path, "close").as_bytes()),
        }
    }
    // Refused, and dropped.
    for (at, path) in [(world.http, "/small"), (world.admin, "/log")] {
        ask(at, &post(path, "close"));
    }
    let name = ServerName::try_from("localhost").expect("a name");
    let session = ClientConnection::new(Arc::clone(&world.tls), name).expect("TLS");
    let mut secure = StreamOwned::new(session, connect(world.secure));
    let _ = secure.write_all(&post("/secure", "close"));
    let _ = secure.read_to_end(&mut Vec::new());
    // In chunks, whose heads matter.
    let mut chunked =
        b"POST /small HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    for chunk in payload("a chunk").chunks(2000) {
        write!(chunked, "{:x}\r\n", chunk.len()).expect("memory");
        chunked.extend_from_slice(chunk);
        chunked.extend_from_slice(b"\r\n");
    }
    chunked.extend_from_slice(b"0\r\n\r\n");
    chunked.extend_from_slice(request("/small", "close").as_bytes());
    ask(world.http, &chunked);
    // One behind the other: much of a large one goes through a pipe, and the next header does not.
    let mut stream = connect(world.upload);
    for (number, size) in [100, 300_000, 20_000, 400_000, 70].into_iter().enumerate() {
        let header = format!("{{\"filename\": \"plain{number}\", \"filesize\": {size}}}");
        let length = i32::try_from(header.len()).expect("short").to_le_bytes();
        let _ = stream.write_all(&[&length, header.as_bytes()].concat());
        let _ = stream.write_all(&payload("a file")[..size]);
    }
    let _ = stream.shutdown(Shutdown::Write);
    let _ = stream.read_to_end(&mut Vec::new());
}

#[test]
fn of_heads_only_a_record_has_no_payload_and_is_replayed_exactly() {
    let folder = temp_dir();
    let record = folder.path().join("heads.rec");
    let exchanges = number("RECORD_EXCHANGES", 400);
    let (origin, serves) = origin(12);
    served_beside(exchanges, &record, &["--record-heads-only"], |world| {
        pass_payloads(world, origin, 12);
    });
    serves.join().expect("no panic");
    let output = replay(&record, &["--check"]);
    let told = text(&output.stdout) + &text(&output.stderr);
    assert!(told.starts_with("exact: "), "{told}");
    assert!(told.contains("(heads only: "), "{told}");
    let bytes = fs::read(&record).expect("a record");
    let holds = |what: &str| memchr::memmem::find(&bytes, what.as_bytes()).is_some();
    assert!(holds("X-Request: its head") && holds("X-Answer: its head"));
    assert!(holds("Cache-Control: max-age=60") && holds("\"filename\": \"plain4\""));
    for of in ["an answer", "a request", "a chunk", "a file"] {
        let payload = format!("payload of {of}");
        let found = memchr::memmem::find(&bytes, payload.as_bytes());
        let around = found.map(|at| text(&bytes[at.saturating_sub(300)..at + 100]));
        assert_eq!(around, None, "{payload}");
    }
}

#[test]
fn a_trace_is_made_of_a_record() {
    let folder = temp_dir();
    let (record, trace) = (folder.path().join("r.rec"), folder.path().join("t.json"));
    served(100, &record);
    let output = replay(&record, &["--trace", trace.to_str().expect("text")]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    let trace = fs::read_to_string(trace).expect("a trace");
    let trace: serde_json::Value = serde_json::from_str(&trace).expect("JSON");
    let events = trace["traceEvents"].as_array().expect("events");
    let is_named = |name: &str| events.iter().any(|event| event["name"] == name);
    assert!(is_named("turn") && is_named("answered") && is_named("Echoing"));
    let output = replay(&record, &["--until", "20"]);
    let told = text(&output.stdout);
    assert!(told.starts_with("exact up to here: 20 turns"), "{told}");
}

#[test]
fn at_its_bound_a_recording_ends_and_the_server_goes_on() {
    let config = "[sandbox]\nlandlock = 'auto'\n\
                  [[listener]]\nkind = 'tcp-echo'\nbind = '127.0.0.1:0'\n";
    let mut program = Program::start_recorded(config, &[], &["--record-bytes", "100KiB"]);
    let mut stream = program.connect("tcp-echo");
    let piece = vec![b'a'; 10_000];
    for _ in 0..30 {
        stream.write_all(&piece).expect("room");
        stream
            .read_exact(&mut vec![0; piece.len()])
            .expect("an echo");
    }
    program.wait_log("the recording ends after");
    let record = program.path("run.rec");
    let folder = temp_dir();
    let copy = folder.path().join("copy.rec");
    program.terminate();
    assert!(program.wait().success());
    let log = program.log();
    let is_in_the_way = log.contains("other threads run already");
    assert!(
        !is_in_the_way,
        "a process that records is kept to its files, too: {log}"
    );
    fs::copy(record, &copy).expect("a copy");
    let output = replay(&copy, &["--check"]);
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}{}", text(&output.stderr));
    assert!(told.starts_with("exact as far as it goes: "), "{told}");
    assert!(told.contains("it has as many bytes as it may"), "{told}");
}

#[test]
fn what_is_no_record_is_refused_with_its_name() {
    let folder = temp_dir();
    let file = folder.path().join("x.rec");
    fs::write(&file, "something else, of some length").expect("a file");
    let output = replay(&file, &["--check"]);
    assert_eq!(output.status.code(), Some(65));
    let told = text(&output.stderr);
    assert!(told.contains("x.rec: it is no record; expected"), "{told}");
    let record = folder.path().join("r.rec");
    served(40, &record);
    let whole = fs::read(&record).expect("a record");
    fs::write(&file, &whole[..whole.len() - 1]).expect("a file");
    let output = replay(&file, &["--check"]);
    assert_eq!(output.status.code(), Some(1));
    let told = text(&output.stderr);
    assert!(told.contains("it is cut in block"), "{told}");
}

/// Other answers than those that were given, in blocks whose checksums fit: the loop may be told
/// anything, and says where it went another way.
#[test]
fn a_record_that_was_tampered_with_makes_no_panic() {
    let folder = temp_dir();
    let (record, file) = (folder.path().join("r.rec"), folder.path().join("x.rec"));
    served(60, &record);
    let whole = fs::read(&record).expect("a record");
    let (head, mut rest) = whole.split_at(16);
    let mut blocks = Vec::new();
    while let [kind, l0, l1, l2, l3, _, _, _, _, behind @ ..] = rest {
        let len = u32::from_le_bytes([*l0, *l1, *l2, *l3]) as usize;
        blocks.push((*kind, behind[..len].to_vec()));
        rest = &behind[len..];
    }
    let mut diverged = 0;
    for number in 0..40_usize {
        let mut other = blocks.clone();
        let calls: Vec<usize> = (1..blocks.len() - 1).collect();
        let payload = &mut other[calls[number % calls.len()]].1;
        let at = number.wrapping_mul(0x9e37_79b9_7f4a_7c15) % payload.len();
        payload[at] ^= 1 << (number % 8);
        let mut bytes = head.to_vec();
        for (place, (kind, payload)) in other.iter().enumerate() {
            let mut crc = crc32fast::Hasher::new();
            crc.update(&(place as u64).to_le_bytes());
            crc.update(&[*kind]);
            crc.update(payload);
            bytes.push(*kind);
            bytes.extend_from_slice(&(payload.len() as u32).to_le_bytes());
            bytes.extend_from_slice(&crc.finalize().to_le_bytes());
            bytes.extend_from_slice(payload);
        }
        fs::write(&file, bytes).expect("a file");
        let output = replay(&file, &["--check"]);
        let told = text(&output.stderr);
        let code = output.status.code();
        assert!(matches!(code, Some(0 | 1)), "byte {at}: {code:?} {told}");
        diverged += usize::from(code == Some(1));
    }
    assert!(diverged > 20, "{diverged} of 40 are told");
}

/// The commands and the output that the README shows.
#[test]
fn a_planted_bug_is_seen_step_by_step_as_the_readme_shows() {
    let readme = include_str!("../README.md");
    let section = readme
        .split("## Record and replay")
        .nth(1)
        .expect("a section");
    let shown = section.split("```console\n").nth(2).expect("a dialogue");
    let shown = shown.split("```").next().expect("its end");
    let mut commands = shown.split("\n$ ");
    let folder = temp_dir();
    let mut seen = String::new();
    for command_and_output in commands.by_ref() {
        let line = command_and_output.trim_start_matches("$ ").lines().next();
        let line = line.expect("a command");
        let words: Vec<&str> = line.split_whitespace().collect();
        assert_eq!(words[0], "netlab-reactor", "{line}");
        let mut program = command(&words[1..]);
        program.current_dir(folder.path());
        let typed: Vec<&str> = command_and_output
            .lines()
            .filter_map(|line| {
                line.split_once("> ")
                    .filter(|(turn, _)| turn.starts_with("turn"))
            })
            .map(|(_, typed)| typed)
            .collect();
        program.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = program.spawn().expect("the program runs");
        let mut input = child.stdin.take().expect("a pipe");
        for line in &typed {
            writeln!(input, "{line}").expect("it reads");
        }
        drop(input);
        let output = child.wait_with_output().expect("it ends");
        seen += &text(&output.stdout);
    }
    let without_typed = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.starts_with("$ "));
        let bare = lines.flat_map(|line| match line.split_once("> ") {
            Some((turn, rest)) if turn.starts_with("turn ") => vec![turn, rest],
            _ => vec![line],
        });
        bare.map(|line| line.trim().to_owned()).collect()
    };
    let typed = ["run 1 ended", "sessions", "quit"];
    let shown: Vec<String> = without_typed(shown)
        .into_iter()
        .filter(|line| !typed.contains(&&**line) && !line.is_empty())
        .collect();
    let seen: Vec<String> = without_typed(&seen)
        .into_iter()
        .filter(|line| !line.is_empty())
        .collect();
    assert_eq!(shown, seen);
}

/// A simulation that is ended from one moment to the next, as by a panic in a release build.
#[test]
fn a_simulation_that_was_ended_is_replayed_up_to_the_turn_before() {
    let folder = temp_dir();
    let path = |name: &str| folder.path().join(name);
    let simulate = |record: &Path| {
        let mut command = command(&["simulate", "--seed", "3", "--clients", "20", "--record"]);
        command.arg(record).stdout(Stdio::null());
        command
    };
    let output = simulate(&path("whole")).output().expect("the program runs");
    assert!(output.status.success(), "{}", text(&output.stderr));
    let whole = fs::read(path("whole")).expect("a record");
    // What it writes goes no further than somebody takes it: then it is killed.
    let pipe = path("pipe");
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let made = rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0);
    made.expect("a pipe");
    let mut child = simulate(&pipe).spawn().expect("the program runs");
    let mut cut = vec![0; whole.len() / 2];
    let mut taken = fs::File::open(&pipe).expect("a pipe");
    taken.read_exact(&mut cut).expect("half of a record");
    child.kill().expect("it lives");
    child.wait().expect("an end");
    assert!(whole.starts_with(&cut), "the same seed does the same");
    fs::write(path("cut"), &cut).expect("a file");
    let output = replay(&path("cut"), &["--check"]);
    let told = text(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{told}");
    let (_, place) = told.split_once("in turn ").expect("a place");
    let (turn, why) = place.split_once(": ").expect("a reason");
    assert!(why.starts_with("it is cut in block "), "{told}");
    let turns: u64 = turn.parse().expect("a number");
    assert!(turns > 100, "{told}");
    let output = replay(&path("cut"), &["--until", turn]);
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}");
    assert!(
        told.starts_with(&format!("exact up to here: {turn} turns")),
        "{told}"
    );
}
