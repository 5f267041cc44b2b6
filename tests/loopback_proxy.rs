//! The proxy over the real kernel: clients and origins are threads with blocking sockets, or curl
//! and Python.

use std::fs;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use netlab_reactor::config::{Config, Overrides};
use netlab_reactor::reactor::Turn;
use netlab_reactor::serve;
use netlab_reactor::sys::Bind;
use netlab_reactor::sys::unix::Unix;

/// How long a test waits for what must come before it fails instead of hanging.
const PATIENCE: Duration = Duration::from_secs(20);

/// A proxy in a thread of its own.
struct Proxy {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Proxy {
    /// A proxy with these keys. `origin.test` is 127.0.0.1.
    fn start(keys: &str) -> Self {
        Self::with_resolver(keys, "")
    }

    /// One that may reach this machine.
    fn open() -> Self {
        Self::start("allow_destinations = [\"127.0.0.0/8\"]\nconnect_ports = []")
    }

    fn with_resolver(keys: &str, resolver: &str) -> Self {
        let cache = match keys.contains("cache = ") {
            true => "",
            false => "cache = \"off\"",
        };
        let text = format!(
            "[resolver]\nhosts = \"hosts\"\n{resolver}\n[[listener]]\nkind = \"proxy\"\nbind = \"127.0.0.1:0\"\n{cache}\n{keys}\n"
        );
        let stop = Arc::new(AtomicBool::new(false));
        let (told, address) = mpsc::channel();
        let stopped = Arc::clone(&stop);
        let thread = thread::spawn(move || {
            let folder = tempfile::tempdir().expect("a folder");
            fs::write(folder.path().join("hosts"), "127.0.0.1 origin.test\n").expect("a file");
            let file = folder.path().join("proxy.toml");
            let config = Config::parse(&text, &file, &Overrides::default())
                .unwrap_or_else(|problems| panic!("{problems}"));
            let sys = Unix::new(false).expect("a poll");
            let (mut reactor, bound) = serve::open(sys, &config).expect("a listener");
            let Bind::Inet(address) = bound[0] else {
                panic!("a TCP address")
            };
            told.send(address).expect("somebody who waits");
            while !stopped.load(Ordering::SeqCst)
                && reactor.turn().expect("events") == Turn::Continue
            {}
        });
        Self {
            address: address.recv().expect("the proxy's address"),
            stop,
            thread: Some(thread),
        }
    }

    fn connect(&self) -> TcpStream {
        patient(TcpStream::connect(self.address).expect("a connection"))
    }

    /// Sends all of `request` and returns all that comes until the end.
    fn ask(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).expect("room");
        stream.shutdown(Shutdown::Write).expect("a half-close");
        text(&mut stream)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(self.address)); // ends its sleep
        let result = self.thread.take().expect("it runs").join();
        assert!(result.is_ok() || thread::panicking(), "the proxy panicked");
    }
}

fn patient(stream: TcpStream) -> TcpStream {
    stream.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    stream
}

fn text(stream: &mut impl Read) -> String {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("the end");
    String::from_utf8(bytes).expect("text")
}

/// An origin: `serve` is called with each connection and its number, in one thread, one after the
/// other.
fn origin(
    mut serve: impl FnMut(usize, BufReader<TcpStream>) -> io::Result<()> + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            // What a test thinks of a connection that broke shows in the client's answer.
            let _ = serve(number, BufReader::new(patient(stream)));
        }
    });
    address
}

/// Reads a head; empty at the end of the stream.
fn head(stream: &mut impl BufRead) -> io::Result<String> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") && stream.read_line(&mut head)? > 0 {}
    Ok(head)
}

fn length(head: &str) -> usize {
    let line = head
        .lines()
        .find_map(|line| line.strip_prefix("Content-Length: "));
    line.map_or(0, |value| value.parse().expect("a length"))
}

/// Reads a chunked body.
fn chunks(stream: &mut impl BufRead) -> io::Result<Vec<u8>> {
    let mut body = Vec::new();
    loop {
        let mut line = String::new();
        stream.read_line(&mut line)?;
        let size = usize::from_str_radix(line.trim_end(), 16).map_err(io::Error::other)?;
        let start = body.len();
        body.resize(start + size + 2, 0);
        stream.read_exact(&mut body[start..])?;
        body.truncate(start + size);
        if size == 0 {
            return Ok(body);
        }
    }
}

/// An origin that answers each request with its head and body, as many connections at once as come.
fn mirror() -> SocketAddr {
    origin(|_, stream| {
        thread::spawn(|| reflect(stream));
        Ok(())
    })
}

fn reflect(mut stream: BufReader<TcpStream>) -> io::Result<()> {
    loop {
        let head = head(&mut stream)?;
        if head.is_empty() {
            return Ok(());
        }
        if head.contains("Expect: 100-continue") {
            stream
                .get_mut()
                .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
        }
        let body = match head.contains("Transfer-Encoding: chunked") {
            true => chunks(&mut stream)?,
            false => {
                let mut body = vec![0; length(&head)];
                stream.read_exact(&mut body)?;
                body
            }
        };
        let total = head.len() + body.len();
        let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {total}\r\n\r\n{head}");
        stream.get_mut().write_all(answer.as_bytes())?;
        stream.get_mut().write_all(&body)?;
    }
}

#[test]
fn both_forms_by_name_and_by_address() {
    let (proxy, origin) = (Proxy::open(), mirror());
    let port = origin.port();
    for target in [
        format!("http://origin.test:{port}/a?b"),
        format!("http://127.0.0.1:{port}/a?b"),
        format!("http://2130706433:{port}/a?b"),
        format!("/origin.test:{port}/a?b"),
        format!("/localhost:{port}/a?b"),
    ] {
        let answer = proxy.ask(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\r\nVia: 1.1 netlab-reactor ("), "{answer}");
        assert!(
            answer.contains("\r\n\r\nGET /a?b HTTP/1.1\r\nHost: "),
            "{answer}"
        );
    }
}

#[test]
fn a_gateway_sends_everything_to_its_upstream() {
    let origin = mirror();
    let proxy = Proxy::start(&format!("upstream = \"http://{origin}\""));
    let answer = proxy.ask("GET /a HTTP/1.0\r\n\r\n");
    assert!(
        answer.contains(&format!("\r\n\r\nGET /a HTTP/1.1\r\nHost: {origin}\r\n")),
        "{answer}"
    );
}

#[test]
fn one_byte_a_segment_makes_no_difference() {
    let (proxy, origin) = (Proxy::open(), mirror());
    let mut stream = proxy.connect();
    stream.set_nodelay(true).expect("an option");
    let request = format!(
        "POST http://{origin}/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    );
    for byte in request.as_bytes() {
        stream.write_all(&[*byte]).expect("room");
    }
    stream.shutdown(Shutdown::Write).expect("a half-close");
    assert!(text(&mut stream).ends_with("\r\n\r\nabcde"));
}

#[test]
fn pipelined_requests_share_one_connection_to_the_origin() {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let origin = origin(move |number, mut stream| {
        counted.store(number + 1, Ordering::SeqCst);
        loop {
            let head = head(&mut stream)?;
            let Some(path) = head.split(' ').nth(1) else {
                return Ok(());
            };
            let answer = format!(
                "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n{path}",
                path.len()
            );
            stream.get_mut().write_all(answer.as_bytes())?;
        }
    });
    let proxy = Proxy::open();
    let requests: String = (0..200)
        .map(|i| format!("GET http://{origin}/{i:03} HTTP/1.1\r\nHost: x\r\n\r\n"))
        .collect();
    let answers = proxy.ask(&requests);
    let got: Vec<&str> = answers
        .split("HTTP/1.1 200 OK")
        .skip(1)
        .map(|answer| answer.rsplit("\r\n\r\n").next().expect("a body"))
        .collect();
    let expected: Vec<String> = (0..200).map(|i| format!("/{i:03}")).collect();
    assert_eq!(got, expected);
    assert_eq!(connections.load(Ordering::SeqCst), 1);
}

/// An origin that answers each request with the number of its connection, and says when one ended.
fn numbered(ended: mpsc::Sender<usize>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for (number, stream) in listener.incoming().flatten().enumerate() {
            let ended = ended.clone();
            thread::spawn(move || {
                let mut stream = BufReader::new(patient(stream));
                while head(&mut stream).is_ok_and(|head| !head.is_empty()) {
                    let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}");
                    let _ = stream.get_mut().write_all(answer.as_bytes());
                }
                let _ = ended.send(number);
            });
        }
    });
    address
}

#[test]
fn a_connection_that_one_client_is_done_with_is_used_by_the_next_until_it_is_too_old() {
    let (told, ended) = mpsc::channel();
    let origin = numbered(told);
    let keys = "allow_destinations = [\"127.0.0.0/8\"]";
    let proxy = Proxy::with_resolver(keys, "[limits]\nupstream_idle_timeout = '1s'");
    let request = format!("GET http://{origin}/ HTTP/1.1\r\nHost: x\r\n\r\n");
    for _ in 0..5 {
        assert!(proxy.ask(&request).ends_with("\r\n\r\n0"));
    }
    assert_eq!(ended.recv_timeout(PATIENCE), Ok(0), "it grew old");
    assert!(proxy.ask(&request).ends_with("\r\n\r\n1"));
}

#[test]
fn a_limit_of_idle_connections_closes_those_beyond() {
    let (told, ended) = mpsc::channel();
    let (one, other) = (numbered(told.clone()), numbered(told));
    let keys = "allow_destinations = [\"127.0.0.0/8\"]";
    let proxy = Proxy::with_resolver(keys, "[limits]\nmax_idle_upstreams = 1");
    let ask = |origin| {
        let request = format!("GET http://{origin}/ HTTP/1.1\r\nHost: x\r\n\r\n");
        proxy.ask(&request).chars().last()
    };
    assert_eq!((ask(one), ask(one)), (Some('0'), Some('0')));
    assert_eq!(ask(other), Some('0'));
    assert_eq!(
        ended.recv_timeout(PATIENCE),
        Ok(0),
        "the older one made room"
    );
    assert_eq!((ask(other), ask(one)), (Some('0'), Some('1')));
}

#[test]
fn a_kept_connection_that_the_origin_closes_is_replaced() {
    // The first connection ends on its second request, without an answer.
    let origin = origin(|number, mut stream| {
        loop {
            let head = head(&mut stream)?;
            if head.is_empty() || number == 0 && head.starts_with("GET /2") {
                return Ok(());
            }
            let answer = format!("HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n{number}");
            stream.get_mut().write_all(answer.as_bytes())?;
        }
    });
    let proxy = Proxy::open();
    let mut stream = BufReader::new(proxy.connect());
    for (path, connection) in [("1", b"0"), ("2", b"1"), ("3", b"1")] {
        let request = format!("GET http://{origin}/{path} HTTP/1.1\r\nHost: x\r\n\r\n");
        stream
            .get_mut()
            .write_all(request.as_bytes())
            .expect("room");
        assert!(
            head(&mut stream)
                .expect("a head")
                .starts_with("HTTP/1.1 200 OK")
        );
        let mut body = [0];
        stream.read_exact(&mut body).expect("a body");
        assert_eq!(&body, connection);
    }
}

#[test]
fn large_bodies_go_both_ways_at_once() {
    const BYTES: usize = 24 << 20;
    // An echo that answers while it reads.
    let origin = origin(|_, mut stream| {
        head(&mut stream)?;
        stream
            .get_mut()
            .write_all(format!("HTTP/1.1 200 OK\r\nContent-Length: {BYTES}\r\n\r\n").as_bytes())?;
        let mut page = vec![0; 64 * 1024];
        loop {
            match stream.read(&mut page)? {
                0 => return Ok(()),
                count => stream.get_mut().write_all(&page[..count])?,
            }
        }
    });
    let proxy = Proxy::open();
    let mut stream = proxy.connect();
    let mut sender = stream.try_clone().expect("a second handle");
    let writer = thread::spawn(move || {
        write!(
            sender,
            "PUT http://{origin}/ HTTP/1.1\r\nHost: x\r\nContent-Length: {BYTES}\r\n\r\n"
        )?;
        let body: Vec<u8> = (0..BYTES).map(|i| (i % 251) as u8).collect();
        sender.write_all(&body)
    });
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("the answer");
    writer.join().expect("no panic").expect("all was taken");
    let at = answer.len() - BYTES;
    assert!(answer[..at].ends_with(b"\r\n\r\n"));
    assert!(
        answer[at..]
            .iter()
            .enumerate()
            .all(|(i, &byte)| byte == (i % 251) as u8)
    );
}

#[test]
fn an_origin_that_refuses_a_body_is_heard() {
    let origin = origin(|_, mut stream| {
        head(&mut stream)?;
        let stream = stream.get_mut();
        stream.write_all(
            b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno",
        )
        // Dropped with input unread: the kernel sends a reset behind the answer.
    });
    let proxy = Proxy::open();
    let mut stream = proxy.connect();
    let head =
        format!("POST http://{origin}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9000000\r\n\r\n");
    stream.write_all(head.as_bytes()).expect("room");
    stream.write_all(&[b'x'; 100_000]).expect("room");
    let answer = text(&mut stream);
    assert!(
        answer.starts_with("HTTP/1.1 413 ") && answer.ends_with("no"),
        "{answer}"
    );
}

#[test]
fn a_tunnel_passes_half_closes_on() {
    let origin = origin(|_, mut stream| {
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        write!(stream.get_mut(), "heard {said}")
    });
    let proxy = Proxy::open();
    let answer = proxy.ask(&format!(
        "CONNECT {origin} HTTP/1.1\r\nHost: {origin}\r\n\r\nearly"
    ));
    assert_eq!(
        answer,
        "HTTP/1.1 200 Connection established\r\n\r\nheard early"
    );
}

#[test]
fn a_tunnel_passes_the_origins_half_close_on() {
    let (told, heard) = mpsc::channel();
    let origin = origin(move |_, mut stream| {
        stream.get_mut().write_all(b"greeting")?;
        stream.get_mut().shutdown(Shutdown::Write)?;
        let mut said = String::new();
        stream.read_to_string(&mut said)?;
        told.send(said).map_err(io::Error::other)
    });
    let proxy = Proxy::open();
    let mut stream = proxy.connect();
    write!(stream, "CONNECT {origin} HTTP/1.1\r\nHost: x\r\n\r\n").expect("room");
    assert!(text(&mut stream).ends_with("\r\n\r\ngreeting"));
    stream.write_all(b"the rest").expect("room");
    drop(stream);
    assert_eq!(heard.recv_timeout(PATIENCE).as_deref(), Ok("the rest"));
}

#[test]
fn tunnels_do_not_nest() {
    let (proxy, origin) = (Proxy::open(), mirror());
    let to = |address: SocketAddr| format!("CONNECT {address} HTTP/1.1\r\nHost: x\r\n\r\n");
    for inner in [proxy.address, origin] {
        let answer = proxy.ask(&(to(proxy.address) + &to(inner)));
        let established = "HTTP/1.1 200 Connection established\r\n\r\n";
        let rest = answer.strip_prefix(established);
        let refused = rest.is_some_and(|rest| rest.starts_with("HTTP/1.1 508 Loop Detected\r\n"));
        assert!(refused, "{answer}");
    }
}

#[test]
fn a_tunnel_carries_much() {
    const BYTES: usize = 16 << 20;
    let origin = origin(|_, mut stream| {
        let mut page = vec![0; 100_000];
        loop {
            match stream.read(&mut page)? {
                0 => return Ok(()),
                count => stream.get_mut().write_all(&page[..count])?,
            }
        }
    });
    let proxy = Proxy::open();
    let mut stream = proxy.connect();
    let mut sender = stream.try_clone().expect("a second handle");
    let writer = thread::spawn(move || {
        write!(sender, "CONNECT {origin} HTTP/1.1\r\nHost: x\r\n\r\n")?;
        sender.write_all(&vec![b'x'; BYTES])?;
        sender.shutdown(Shutdown::Write)
    });
    let answer = text(&mut stream);
    writer.join().expect("no panic").expect("all was taken");
    assert_eq!(
        answer.split_once("\r\n\r\n").map(|(_, echo)| echo.len()),
        Some(BYTES)
    );
}

/// An origin that switches protocols and then gives back what it gets.
fn web_socket() -> SocketAddr {
    origin(|_, mut stream| {
        let head = head(&mut stream)?;
        assert!(head.contains("\r\nUpgrade: websocket\r\n"), "{head}");
        let answer = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
                      Upgrade: websocket\r\n\r\n";
        stream.get_mut().write_all(answer.as_bytes())?;
        let mut page = vec![0; 100_000];
        loop {
            match stream.read(&mut page)? {
                0 => return Ok(()),
                count => stream.get_mut().write_all(&page[..count])?,
            }
        }
    })
}

#[test]
fn a_web_socket_carries_every_byte_and_the_log_counts_them() {
    const BYTES: usize = 12_000_000;
    let origin = web_socket();
    let folder = tempfile::tempdir().expect("a folder");
    let log = folder.path().join("log");
    let keys = format!("upstream = \"http://{origin}\"\naccess_log = {log:?}");
    for without_pipes in [false, true] {
        let pipes = if without_pipes {
            "[limits]\nmax_pipes = 0"
        } else {
            ""
        };
        let proxy = Proxy::with_resolver(&keys, pipes);
        let mut stream = proxy.connect();
        let mut sender = stream.try_clone().expect("a second handle");
        let sent: Vec<u8> = (0..BYTES).map(|at| (at * 7 / 3) as u8).collect();
        let bytes = sent.clone();
        let writer = thread::spawn(move || {
            write!(
                sender,
                "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            )?;
            sender.write_all(&bytes)?;
            sender.shutdown(Shutdown::Write)
        });
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).expect("the end");
        writer.join().expect("no panic").expect("all was taken");
        let echo = &answer[answer.len() - BYTES..];
        assert!(echo == sent, "another echo");
        // The line is written once the tunnel has ended.
        let lines = usize::from(without_pipes) + 1;
        let logged = || fs::read_to_string(&log).unwrap_or_default();
        let began = Instant::now();
        while logged().lines().count() < lines && began.elapsed() < PATIENCE {
            thread::yield_now();
        }
        let line = logged();
        let expected = format!("tunnel {BYTES}\n");
        assert!(line.ends_with(&expected), "{line}");
        let counted = line.matches(&format!("\" 101 {BYTES} ")).count();
        assert_eq!(counted, lines, "{line}");
    }
}

#[test]
fn a_load_balancer_tells_of_its_clients() {
    let origin = mirror();
    let proxy = Proxy::start(&format!(
        "upstream = \"http://{origin}\"\naccept_proxy = true\ntrusted_proxies = [\"127.0.0.1\"]\n\
         proxy_header_timeout = \"300ms\"\ndeny = [\"198.51.100.66\"]"
    ));
    let get = "GET / HTTP/1.0\r\n\r\n";
    let from = |client: &str| format!("PROXY TCP4 {client} 192.0.2.1 4711 80\r\n");
    let mut stream = proxy.connect();
    let header = from("198.51.100.7");
    for piece in [&header[..9], &header[9..], get] {
        stream.write_all(piece.as_bytes()).expect("room");
    }
    let answer = text(&mut stream);
    assert!(
        answer.contains("\r\nX-Forwarded-For: 198.51.100.7\r\n"),
        "{answer}"
    );
    let v2 = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0GET / HTTP/1.0\r\n\r\n";
    let mut stream = proxy.connect();
    stream.write_all(v2).expect("room");
    let answer = text(&mut stream);
    assert!(
        answer.contains("\r\nX-Forwarded-For: 127.0.0.1\r\n"),
        "{answer}"
    );
    for refused in [
        get.to_owned(),
        from("198.51.100.66") + get,
        from("x") + get,
        "PROXY ".to_owned(),
    ] {
        let mut stream = proxy.connect();
        stream.write_all(refused.as_bytes()).expect("room");
        let mut answer = Vec::new();
        // A reset is an end as well.
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"", "{refused}");
    }
}

#[test]
fn what_goes_wrong_is_told() {
    let open = Proxy::open();
    let nobody = {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        listener.local_addr().expect("an address")
    };
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let answer = open.ask(&get(&format!("http://{nobody}/")));
    assert!(
        answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"),
        "{answer}"
    );
    assert!(answer.contains("connection refused"), "{answer}");
    let answer = open.ask(&format!("CONNECT {nobody} HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert!(
        answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"),
        "{answer}"
    );

    let closed = Proxy::start("upstream_timeout = \"200ms\"");
    let answer = closed.ask(&get(&format!("http://{nobody}/")));
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");
    assert!(
        answer.contains("127.0.0.1 is a loopback address"),
        "{answer}"
    );
    let answer = closed.ask(&get("/origin.test/"));
    assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{answer}");

    // Accepted by the kernel, and never answered.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let silent = silent.local_addr().map(|address| (address, silent));
    let (address, _listener) = silent.expect("an address");
    let impatient =
        Proxy::start("upstream_timeout = \"200ms\"\nallow_destinations = [\"127.0.0.1\"]");
    let answer = impatient.ask(&get(&format!("http://{address}/")));
    assert!(
        answer.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"),
        "{answer}"
    );
}

#[test]
fn where_only_what_is_kept_is_wanted_and_nothing_is_nobody_is_asked() {
    let proxy =
        Proxy::start("upstream = \"http://127.0.0.1:9\"\ncache = \"on\"\ncache_dir = \"kept\"");
    let answer = proxy.ask("GET / HTTP/1.1\r\nHost: x\r\nCache-Control: only-if-cached\r\n\r\n");
    assert!(
        answer.starts_with("HTTP/1.1 504 Gateway Timeout\r\n"),
        "{answer}"
    );
    let why = "\r\nProxy-Status: netlab-reactor; error=proxy_internal_response; details=";
    assert!(answer.contains(why), "{answer}");
}

#[test]
fn a_request_that_comes_back_is_refused() {
    let proxy = Proxy::open();
    let port = proxy.address.port();
    let target = format!("/localhost:{port}/localhost:{port}/origin.test/");
    let answer = proxy.ask(&format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
    assert!(
        answer.starts_with("HTTP/1.1 508 Loop Detected\r\n"),
        "{answer}"
    );
}

#[test]
fn a_cut_answer_is_cut_for_the_client_as_well() {
    let origin = origin(|_, mut stream| {
        head(&mut stream)?;
        stream
            .get_mut()
            .write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nabc")
    });
    let answer = Proxy::open().ask(&format!("GET http://{origin}/ HTTP/1.1\r\nHost: x\r\n\r\n"));
    assert!(answer.ends_with("\r\n\r\n9\r\nabc"), "{answer}");
}

/// A name server with one name: `there.test` is 127.0.0.1, and nothing else exists.
fn name_server() -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    thread::spawn(move || {
        let mut query = [0; 1500];
        while let Ok((count, from)) = socket.recv_from(&mut query) {
            let query = &query[..count];
            let name_len = query[12..].iter().position(|&b| b == 0).expect("a name") + 1;
            let question = &query[12..12 + name_len + 4];
            let known = question.starts_with(b"\x05there\x04test\0");
            let is_a = question[name_len..][..2] == [0, 1];
            let mut answer = query[..2].to_vec();
            answer.extend([0x81, if known { 0x80 } else { 0x83 }]);
            answer.extend([0, 1, 0, u8::from(known && is_a), 0, 0, 0, 0]);
            answer.extend(question);
            if known && is_a {
                answer.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 127, 0, 0, 1]);
            }
            socket.send_to(&answer, from).expect("an answer");
        }
    });
    address
}

#[test]
fn names_are_asked_for_inside_the_loop() {
    let (names, origin) = (name_server(), mirror());
    let proxy = Proxy::with_resolver(
        "allow_destinations = [\"127.0.0.0/8\"]",
        &format!("nameservers = [\"{names}\"]"),
    );
    let get = |host: &str| format!("GET http://{host}/ HTTP/1.1\r\nHost: x\r\n\r\n");
    let answer = proxy.ask(&get(&format!("there.test:{}", origin.port())));
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    let answer = proxy.ask(&get("missing.test"));
    assert!(
        answer.starts_with("HTTP/1.1 502 Bad Gateway\r\n"),
        "{answer}"
    );
    assert!(answer.contains("missing.test: no such host"), "{answer}");
}

/// Runs a command with this on its standard input; its standard output.
fn run(command: &mut Command, input: &[u8]) -> String {
    command
        .env_remove("http_proxy")
        .env_remove("no_proxy")
        .env_remove("NO_PROXY")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("it is installed");
    let mut stdin = child.stdin.take().expect("a pipe");
    let input = input.to_vec();
    let writer = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().expect("it ends");
    writer
        .join()
        .expect("no panic")
        .expect("it read everything");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn curl(proxy: &Proxy, arguments: &[&str], input: &[u8]) -> String {
    let mut command = Command::new("curl");
    command
        .args(["-sS", "--max-time", "20", "-x"])
        .arg(format!("http://{}", proxy.address))
        .args(arguments);
    run(&mut command, input)
}

#[test]
fn a_cut_that_only_a_reset_shows_is_a_reset() {
    let proxy = Proxy::open();
    let cut = origin(|_, mut stream| {
        head(&mut stream)?;
        let response = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
        stream.get_mut().write_all(response)
    });
    let mut client = proxy.connect();
    let request = format!("GET http://{cut}/ HTTP/1.0\r\n\r\n");
    client.write_all(request.as_bytes()).expect("room");
    let end = client.read_to_end(&mut Vec::new());
    assert_eq!(
        end.map_err(|e| e.kind()),
        Err(io::ErrorKind::ConnectionReset)
    );

    // A connection that is closed with input unread is reset by the kernel.
    let resets = origin(|_, stream| stream.get_ref().peek(&mut [0]).map(drop));
    let mut client = proxy.connect();
    let request = format!("CONNECT {resets} HTTP/1.1\r\nHost: {resets}\r\n\r\nx");
    client.write_all(request.as_bytes()).expect("room");
    let end = client.read_to_end(&mut Vec::new());
    assert_eq!(
        end.map_err(|e| e.kind()),
        Err(io::ErrorKind::ConnectionReset)
    );
}

#[test]
#[ignore = "needs curl"]
fn curl_fetches_uploads_and_tunnels() {
    let (proxy, origin) = (Proxy::open(), mirror());
    let url = format!("http://origin.test:{}/x", origin.port());
    assert!(curl(&proxy, &[&url], b"").starts_with("GET /x HTTP/1.1\r\n"));
    assert!(curl(&proxy, &["--http1.0", &url], b"").starts_with("GET /x HTTP/1.1\r\n"));
    assert!(curl(&proxy, &["-I", &url], b"").starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(curl(&proxy, &["-d", "a=b", &url], b"").ends_with("\r\n\r\na=b"));
    let body = vec![b'x'; 3 << 20];
    let answer = curl(&proxy, &["-T", "-", &url], &body);
    assert!(answer.contains("\r\nTransfer-Encoding: chunked\r\n"));
    assert_eq!(
        answer.split_once("\r\n\r\n").map(|(_, echo)| echo.len()),
        Some(body.len())
    );
    let tunnelled = curl(&proxy, &["--proxytunnel", &url], b"");
    assert!(tunnelled.starts_with("GET /x HTTP/1.1\r\n") && !tunnelled.contains("Via"));
    let twice = curl(&proxy, &[&url, &url], b"");
    assert_eq!(twice.matches("GET /x HTTP/1.1\r\n").count(), 2);
}

#[test]
#[ignore = "needs curl"]
fn curl_follows_redirects_in_the_address_bar() {
    let origin = origin(|_, mut stream| {
        let head = head(&mut stream)?;
        let answer = match head.starts_with("GET /old ") {
            true => {
                "HTTP/1.1 301 Moved\r\nLocation: /new\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            }
            false => "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nthe new page",
        };
        stream.get_mut().write_all(answer.as_bytes())
    });
    let proxy = Proxy::open();
    let mut command = Command::new("curl");
    command
        .args(["-sSL", "--max-time", "20"])
        .arg(format!("http://{}/{origin}/old", proxy.address));
    assert_eq!(run(&mut command, b""), "the new page");
}

#[test]
#[ignore = "needs python3"]
fn python_fetches_and_posts() {
    const SCRIPT: &str = r#"
import sys, urllib.request
proxy, url = sys.argv[1:]
opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": proxy}))
for data in (None, b"hello"):
    with opener.open(url, data=data, timeout=20) as answer:
        print(answer.status, answer.headers["Via"].split("(")[0], answer.read().decode())
"#;
    let (proxy, origin) = (Proxy::open(), mirror());
    let mut command = Command::new("python3");
    command
        .args(["-c", SCRIPT])
        .arg(format!("http://{}", proxy.address))
        .arg(format!("http://origin.test:{}/x", origin.port()));
    let printed = run(&mut command, b"");
    assert!(
        printed.starts_with("200 1.1 netlab-reactor  GET /x HTTP/1.1\r\n"),
        "{printed}"
    );
    assert!(
        printed.contains("200 1.1 netlab-reactor  POST /x HTTP/1.1\r\n"),
        "{printed}"
    );
    assert!(printed.trim_end().ends_with("hello"), "{printed}");
    assert!(!Path::new("cache").exists());
}
