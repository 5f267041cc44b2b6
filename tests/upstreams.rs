//! A gateway before two origins, each a process of its own, one of which is killed and comes back.

#[path = "common/mod.rs"]
mod common;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use common::{Program, connect, expect_soon};
use rustix::process::Signal;

/// An origin whose page `/who` says which one it is.
fn origin(name: &str, at: SocketAddr) -> Program {
    let config = format!("[[listener]]\nkind = 'http'\nbind = '{at}'\nroot = 'site'\n");
    Program::start_beside(&config, &[("site/who", name.as_bytes())])
}

fn anywhere() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn gateway(upstreams: [SocketAddr; 2], keys: &str) -> Program {
    Program::start(&config(&upstreams, keys, "200ms"))
}

fn config(upstreams: &[SocketAddr], keys: &str, fail_timeout: &str) -> String {
    let upstream = |at: &SocketAddr| {
        format!("[[listener.upstream]]\nurl = 'http://{at}'\nfail_timeout = '{fail_timeout}'\n")
    };
    let upstreams: String = upstreams.iter().map(upstream).collect();
    format!(
        "[[listener]]\nkind = 'proxy'\nbind = '127.0.0.1:0'\ncache = 'off'\naccess_log = 'log'\n\
         log_format = 'json'\n{keys}\n{upstreams}\
         [[listener]]\nkind = 'admin'\nbind = '127.0.0.1:0'\n"
    )
}

/// The answers of each origin, and what was no answer of either.
#[derive(Default)]
struct Answers {
    of: [AtomicUsize; 2],
    wrong: AtomicUsize,
}

impl Answers {
    fn count(&self, place: usize) -> usize {
        self.of[place].load(Ordering::SeqCst)
    }

    /// Waits until so many more came from this origin.
    fn expect_more(&self, place: usize, count: usize) {
        let before = self.count(place);
        expect_soon(
            || self.count(place) >= before + count,
            || format!("origin {place} answers nothing"),
        );
    }
}

/// A client that asks without end, on one connection as long as that lasts.
fn ask(gateway: SocketAddr, answers: &Answers, is_over: &AtomicBool) {
    let mut stream = None;
    while !is_over.load(Ordering::SeqCst) {
        let stream = stream.get_or_insert_with(|| BufReader::new(connect(gateway)));
        let counter = match who(stream) {
            Some(answer) if answer == "a" => &answers.of[0],
            Some(answer) if answer == "b" => &answers.of[1],
            _ => &answers.wrong,
        };
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

/// The body of the answer to one request.
fn who(stream: &mut BufReader<std::net::TcpStream>) -> Option<String> {
    let request = b"GET /who HTTP/1.1\r\nHost: gateway\r\n\r\n";
    stream.get_mut().write_all(request).ok()?;
    let (mut length, mut line) = (0, String::new());
    while line != "\r\n" {
        line.clear();
        stream.read_line(&mut line).ok()?;
        if let Some(value) = line.strip_prefix("Content-Length: ") {
            length = value.trim().parse().ok()?;
        }
    }
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    String::from_utf8(body).ok()
}

/// The metrics of a gateway.
fn metrics(gateway: &Program) -> String {
    let mut stream = gateway.connect("admin");
    let request = "GET /metrics HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("room");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("text");
    text
}

/// The value of a metric of an upstream; empty before the end of the gateway's first turn.
fn metric(gateway: &Program, name: &str, upstream: SocketAddr) -> String {
    let (text, label) = (
        metrics(gateway),
        format!("upstream=\"http://{upstream}\"}} "),
    );
    let is_it = |line: &&str| line.starts_with(name) && line.contains(&label);
    let line = text.lines().find(is_it).unwrap_or_default();
    line.rsplit(' ').next().unwrap_or_default().to_owned()
}

/// Waits until a gauge of an upstream has this value.
fn expect_metric(gateway: &Program, name: &str, upstream: SocketAddr, value: &str) {
    expect_soon(
        || metric(gateway, name, upstream) == value,
        || format!("{name} of {upstream} is not {value}: {}", metrics(gateway)),
    );
}

#[test]
fn no_client_sees_that_an_origin_was_killed_and_it_gets_requests_again_once_it_is_back() {
    let (mut a, b) = (origin("a", anywhere()), origin("b", anywhere()));
    let at = [a.address("http"), b.address("http")];
    let mut gateway = gateway(at, "");
    let proxy = gateway.address("proxy");
    let (answers, is_over) = (Answers::default(), AtomicBool::new(false));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| ask(proxy, &answers, &is_over));
        }
        for place in [0, 1] {
            answers.expect_more(place, 100);
        }
        a.child.kill().expect("it runs");
        a.child.wait().expect("it ends");
        answers.expect_more(1, 500);
        let while_down = answers.count(0);
        answers.expect_more(1, 100);
        assert_eq!(answers.count(0), while_down);
        let _back = origin("a", at[0]);
        answers.expect_more(0, 100);
        answers.expect_more(1, 100);
        is_over.store(true, Ordering::SeqCst);
    });
    assert_eq!(answers.wrong.load(Ordering::SeqCst), 0);
    gateway.wait_log(&format!(
        "upstream http://{} gets no requests for 200ms",
        at[0]
    ));
    gateway.wait_log(&format!("upstream http://{} is back", at[0]));
    for (upstream, name) in [(at[0], "a"), (at[1], "b")] {
        assert_ne!(
            metric(&gateway, "netlab_upstream_requests_total", upstream),
            "0",
            "{name}"
        );
        expect_soon(
            || {
                std::fs::read_to_string(gateway.path("log"))
                    .is_ok_and(|log| log.contains(&upstream.to_string()))
            },
            || format!("no line names {upstream}"),
        );
    }
    assert_ne!(metric(&gateway, "netlab_upstream_fails_total", at[0]), "0");
    assert_eq!(metric(&gateway, "netlab_upstream_fails_total", at[1]), "0");
}

#[test]
fn checks_find_out_by_themselves_that_an_origin_is_down_and_that_it_is_back() {
    let (mut a, b) = (origin("a", anywhere()), origin("b", anywhere()));
    let at = [a.address("http"), b.address("http")];
    let keys = "check = { path = '/who', every = '50ms', timeout = '50ms', fall = 2 }";
    let mut gateway = gateway(at, keys);
    expect_metric(&gateway, "netlab_upstream_up", at[0], "1");
    a.child.kill().expect("it runs");
    a.child.wait().expect("it ends");
    gateway.wait_log(&format!(
        "upstream http://{} is down, and gets no requests",
        at[0]
    ));
    expect_metric(&gateway, "netlab_upstream_up", at[0], "0");
    let mut stream = BufReader::new(gateway.connect("proxy"));
    for _ in 0..4 {
        assert_eq!(who(&mut stream).as_deref(), Some("b"));
    }
    assert_eq!(
        metric(&gateway, "netlab_upstream_requests_total", at[0]),
        "0"
    );
    let _back = origin("a", at[0]);
    gateway.wait_log(&format!("upstream http://{} is back", at[0]));
    expect_metric(&gateway, "netlab_upstream_up", at[0], "1");
    expect_soon(
        || {
            let mut stream = BufReader::new(gateway.connect("proxy"));
            who(&mut stream).as_deref() == Some("a")
        },
        || "it gets no requests".to_owned(),
    );
    drop(stream);
    gateway.stop();
}

/// Another configuration, from now on.
fn reload(gateway: &mut Program, config: &str) {
    std::fs::write(gateway.path("netlab.toml"), config).expect("a file");
    gateway.signal(Signal::HUP);
    gateway.wait_log("configured anew");
}

#[test]
fn what_is_known_of_an_upstream_is_known_after_a_reload() {
    let (mut a, b) = (origin("a", anywhere()), origin("b", anywhere()));
    let at = [a.address("http"), b.address("http")];
    let mut gateway = Program::start(&config(&at, "", "1h"));
    let answers = |gateway: &Program| {
        let mut stream = BufReader::new(gateway.connect("proxy"));
        let answers: Vec<_> = (0..4).map(|_| who(&mut stream)).collect();
        answers
    };
    a.child.kill().expect("it runs");
    a.child.wait().expect("it ends");
    let of_b = vec![Some("b".to_owned()); 4];
    assert_eq!(answers(&gateway), of_b);
    gateway.wait_log(&format!("upstream http://{} gets no requests", at[0]));
    let asked = "netlab_upstream_requests_total";
    // What was asked within its first turn is not counted.
    let before = metric(&gateway, asked, at[0]);
    // It is there again, but nobody has asked it since: it is still out, in another place, too.
    let a = origin("a", at[0]);
    for (turn, order) in [[at[0], at[1]], [at[1], at[0]]].iter().enumerate() {
        let keys = format!("max_head_bytes = {}", 20_000 + turn);
        reload(&mut gateway, &config(order, &keys, "1h"));
        assert_eq!(answers(&gateway), of_b);
        expect_metric(&gateway, "netlab_upstream_up", at[0], "0");
        expect_metric(&gateway, "netlab_upstream_up", at[1], "1");
        assert_eq!(metric(&gateway, asked, at[0]), before);
    }
    // One that was not there in between is new.
    reload(&mut gateway, &config(&at[1..], "", "1h"));
    assert_eq!(answers(&gateway), of_b);
    reload(&mut gateway, &config(&at, "", "1h"));
    let both = answers(&gateway);
    assert_eq!(both.iter().flatten().filter(|name| *name == "a").count(), 2);
    expect_metric(&gateway, "netlab_upstream_up", at[0], "1");
    a.stop();
    gateway.stop();
}

#[test]
fn what_checks_said_is_known_after_a_reload_while_they_ask_the_same() {
    let (a, b) = (origin("a", anywhere()), origin("b", anywhere()));
    let at = [a.address("http"), b.address("http")];
    let check = |path: &str, rise: u32| {
        format!("check = {{ path = '{path}', every = '1h', timeout = '1s', rise = {rise} }}")
    };
    let mut gateway = Program::start(&config(&at, &check("/none", 2), "1h"));
    for upstream in at {
        expect_metric(&gateway, "netlab_upstream_up", upstream, "0");
    }
    reload(&mut gateway, &config(&at, &check("/none", 3), "1h"));
    for upstream in at {
        expect_metric(&gateway, "netlab_upstream_up", upstream, "0");
    }
    assert!(who(&mut BufReader::new(gateway.connect("proxy"))).is_none_or(|text| text != "a"));
    reload(&mut gateway, &config(&at, &check("/who", 3), "1h"));
    for upstream in at {
        expect_metric(&gateway, "netlab_upstream_up", upstream, "1");
    }
    gateway.stop();
}
