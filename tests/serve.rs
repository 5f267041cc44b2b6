//! The process as a whole: how it starts, how it ends, and what it survives.

mod common;

use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::{UnixListener, UnixStream};
use std::thread;
use std::time::{Duration, Instant};

use common::{Program, connect, expect_soon, run, temp_dir};
use rustix::net::SendFlags;
use rustix::process::Signal;

/// The kinds that speak over streams, with a configuration that lets a test use each.
const STREAMS: [&str; 7] = [
    "tcp-echo",
    "frame-echo",
    "hello",
    "http",
    "upload",
    "proxy",
    "admin",
];
/// Those that speak over datagrams.
const DATAGRAMS: [&str; 3] = ["udp-echo", "udp-ping", "udp-heartbeat"];

/// A listener of every kind, on free ports.
fn every_kind() -> String {
    let mut config = String::from("[limits]\nlinger_timeout = \"200ms\"\n");
    for kind in STREAMS.iter().chain(&DATAGRAMS) {
        config += &format!("[[listener]]\nkind = \"{kind}\"\nbind = \"127.0.0.1:0\"\n");
        config += match *kind {
            "upload" => "dir = \"uploads\"\nhandshake = \"none\"\n",
            "udp-ping" => "loss = 0.0\n",
            "proxy" => "cache_dir = \"cache\"\n",
            _ => "",
        };
    }
    config
}

const ECHO: &str = "[[listener]]\nkind = \"tcp-echo\"\nbind = \"127.0.0.1:0\"\n";

/// Sends bytes and reads an answer of the given length.
fn exchange(stream: &mut TcpStream, send: &[u8], answer: usize) -> Vec<u8> {
    stream.write_all(send).expect("a connection");
    let mut bytes = vec![0; answer];
    stream.read_exact(&mut bytes).expect("an answer");
    bytes
}

/// Reads to the end of the stream.
fn rest(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).expect("an answer");
    bytes
}

/// One GET on a connection of its own: the status and the whole answer.
fn get(server: &Program, kind: &str, target: &str) -> (u16, String) {
    let mut stream = server.connect(kind);
    let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a connection");
    let answer = String::from_utf8_lossy(&rest(&mut stream)).into_owned();
    let status = answer.get(9..12).and_then(|text| text.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status in {answer:?}"));
    (status, answer)
}

/// What a metric says, over all its labels.
fn metric(server: &Program, name: &str) -> f64 {
    let (status, answer) = get(server, "admin", "/metrics");
    assert_eq!(status, 200);
    let samples = answer.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = rest
            .starts_with(['{', ' '])
            .then(|| rest.rsplit(' ').next())??;
        value.parse::<f64>().ok()
    });
    let values: Vec<f64> = samples.collect();
    assert!(!values.is_empty(), "no {name} in {answer}");
    values.iter().sum()
}

// ---- the start

#[test]
fn each_listener_is_announced_with_its_real_port() {
    let server = Program::start(&every_kind());
    let kinds: Vec<&str> = server.listening().iter().map(|(k, _)| &**k).collect();
    assert_eq!(kinds, [&STREAMS[..], &DATAGRAMS[..]].concat());
    for kind in kinds {
        assert_ne!(server.address(kind).port(), 0);
    }
    for kind in STREAMS {
        server.connect(kind);
    }
    server.stop();
}

#[test]
fn frames_that_were_glued_and_cut_come_back_one_by_one_and_a_wrong_length_is_logged() {
    let listener = |limit: &str| {
        format!(
            "[[listener]]\nkind = \"frame-echo\"\nbind = \"127.0.0.1:0\"\nmax_frame_bytes = {limit}\n"
        )
    };
    let mut server = Program::start(&listener("\"64KiB\""));
    let mut stream = server.connect("frame-echo");
    let glued = b"\x05\0\0\0first\x06\0\0\0seco";
    let first = exchange(&mut stream, glued, 9);
    assert_eq!(first, b"\x05\0\0\0FIRST");
    let second = exchange(&mut stream, b"nd", 10);
    assert_eq!(second, b"\x06\0\0\0SECOND");
    // Longer than a page, and longer still in upper case.
    let long = "stra\u{df}e ".repeat(8_000);
    let question = [&(long.len() as i32).to_le_bytes()[..], long.as_bytes()].concat();
    let upper = long.to_uppercase();
    let answer = [&(upper.len() as i32).to_le_bytes()[..], upper.as_bytes()].concat();
    let back = exchange(&mut stream, &question, answer.len());
    assert!(back == answer, "a long frame came back wrong");

    for (length, told) in [
        (
            -1,
            "frame length -1 is negative (0 to 65536 bytes are accepted)",
        ),
        (
            65_537,
            "frame length 65537 is above the limit of 65536 bytes",
        ),
    ] {
        let mut stream = server.connect("frame-echo");
        let input = [&b"\x01\0\0\0a"[..], &i32::to_le_bytes(length)].concat();
        stream.write_all(&input).expect("a connection");
        assert_eq!(rest(&mut stream), b"\x01\0\0\0A");
        server.wait_log(told);
    }

    // A connection keeps the limit that it began with.
    fs::write(server.path("netlab.toml"), listener("3")).expect("a file");
    server.signal(Signal::HUP);
    server.wait_log("configured anew");
    assert_eq!(
        exchange(&mut stream, b"\x05\0\0\0first", 9),
        b"\x05\0\0\0FIRST"
    );
    let mut stream = server.connect("frame-echo");
    stream.write_all(b"\x05\0\0\0first").expect("a connection");
    assert_eq!(rest(&mut stream), b"");
    server.wait_log("frame length 5 is above the limit of 3 bytes");
    server.stop();
}

#[test]
fn a_port_in_use_names_the_listener_the_address_and_the_reason() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let output = run(&format!(
        "[[listener]]\nkind = \"hello\"\nname = \"greeter\"\nbind = \"{address}\"\n"
    ));
    assert_eq!(output.status.code(), Some(69));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    let told = String::from_utf8_lossy(&output.stderr);
    for part in ["greeter", &address, "in use"] {
        assert!(told.contains(part), "{told}");
    }
    assert!(!told.contains("panicked"), "{told}");
}

#[test]
fn the_engine_for_the_disk_is_told_at_the_start_and_stays_until_a_restart() {
    let with = |disk: &str| format!("{ECHO}\n[disk]\n{disk}\n");
    let mut server = Program::start(&with("engine = \"threads\""));
    server.wait_log("disk engine: threads");
    let next = with("engine = \"inline\"\nmax_jobs = 3");
    fs::write(server.path("netlab.toml"), next).expect("a file");
    server.signal(Signal::HUP);
    server.wait_log("`engine` stays \"threads\"; \"inline\" needs a restart");
    server.wait_log("`max_jobs` stays 16; 3 needs a restart");
    server.stop();
}

#[test]
fn a_wrong_configuration_serves_nothing() {
    let output = run("[[listener]]\nkind = \"hello\"\nport = 9000\n");
    assert_eq!(output.status.code(), Some(78));
    assert_eq!(String::from_utf8_lossy(&output.stdout), "");
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(told.contains("netlab.toml:3:1: "), "{told}");
}

#[test]
fn a_unix_socket_comes_and_goes_with_the_server() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("echo.sock");
    let config = format!(
        "[[listener]]\nkind = \"tcp-echo\"\nbind = \"unix:{}\"\n",
        path.display()
    );
    let answered = || {
        let mut stream = UnixStream::connect(&path).expect("a connection");
        stream.write_all(b"over a path").expect("a connection");
        stream.shutdown(Shutdown::Write).expect("a connection");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert_eq!(answer, "OVER A PATH");
    };
    let server = Program::start(&config);
    assert_eq!(
        server.listening(),
        [("tcp-echo".into(), format!("unix:{}", path.display()))]
    );
    answered();
    // A second server must not take the path of a live one.
    let output = run(&config);
    assert_eq!(output.status.code(), Some(69));
    assert!(String::from_utf8_lossy(&output.stderr).contains("in use"));
    answered();
    server.stop();
    assert!(!path.exists(), "the path is left behind");
    // One that a killed server left behind is taken over.
    drop(UnixListener::bind(&path).expect("a path"));
    assert!(path.exists());
    let server = Program::start(&config);
    answered();
    server.stop();
}

/// Every family that this machine has, at a port that both have.
fn loopbacks(bound: SocketAddr) -> Vec<SocketAddr> {
    let all = ["127.0.0.1", "::1"]
        .map(|ip| SocketAddr::new(ip.parse().expect("an address"), bound.port()));
    let here = |address: &SocketAddr| address.is_ipv4() || bound.is_ipv6();
    all.into_iter().filter(here).collect()
}

#[test]
fn a_listener_is_reached_at_every_address_of_its_list_and_may_lose_and_gain_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("echo.sock");
    let unix = format!("unix:{}", path.display());
    let config = |streams: &str, more: &str| {
        format!(
            "[[listener]]\nkind = \"tcp-echo\"\nbind = [{streams}]\n\
             [[listener]]\nkind = \"udp-echo\"\nbind = [\"127.0.0.1:0\", \"*:0\"]\n{more}"
        )
    };
    let all = format!("\"127.0.0.1:0\", \"*:0\", {unix:?}");
    let mut server = Program::start(&config(&all, ""));
    let kinds: Vec<&str> = server.listening().iter().map(|(k, _)| &**k).collect();
    assert_eq!(
        kinds,
        ["tcp-echo", "tcp-echo", "tcp-echo", "udp-echo", "udp-echo"]
    );
    assert_eq!(server.listening()[2].1, unix);
    let bound =
        |index: usize| -> SocketAddr { server.listening()[index].1.parse().expect("an address") };
    let (one, every) = (bound(0), bound(1));
    for at in [vec![one], loopbacks(every)].concat() {
        assert_eq!(exchange(&mut connect(at), b"abc", 3), b"ABC", "{at}");
    }
    for at in [vec![bound(3)], loopbacks(bound(4))].concat() {
        let local = SocketAddr::new(at.ip(), 0);
        let socket = UdpSocket::bind(local).expect("a socket");
        socket.connect(at).expect("an address");
        let timeout = Some(common::PATIENCE);
        socket.set_read_timeout(timeout).expect("a time-out");
        socket.send(b"abc").expect("a socket");
        let mut answer = [0; 9];
        assert_eq!(socket.recv(&mut answer).expect("an answer"), 3, "{at}");
    }
    let mut session = UnixStream::connect(&path).expect("a connection");
    session.write_all(b"abc").expect("a connection");
    session.read_exact(&mut [0; 3]).expect("an answer");

    // The path goes, and another port comes; the rest and the session are what they were.
    let other = format!(
        "\"*:0\", \"127.0.0.1:{}\", \"127.0.0.1:0\"",
        common::free_port()
    );
    fs::write(server.path("netlab.toml"), config(&other, "")).expect("a file");
    server.signal(Signal::HUP);
    server.wait_log(&format!("tcp-echo at {unix}: closed"));
    let opened = server.wait_log("tcp-echo: listening on ");
    let (_, added) = opened.rsplit_once(' ').expect("an address");
    let added = added.parse().expect("an address");
    for at in [one, added, loopbacks(every)[0]] {
        assert_eq!(exchange(&mut connect(at), b"abc", 3), b"ABC", "{at}");
    }
    assert!(!path.exists());
    session.write_all(b"def").expect("a connection");
    let mut answer = [0; 3];
    session.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"DEF");
    server.stop();
}

// ---- another configuration

fn listener(kind: &str, name: &str, more: &str) -> String {
    format!("[[listener]]\nkind = \"{kind}\"\nname = \"{name}\"\nbind = \"127.0.0.1:0\"\n{more}\n")
}

#[test]
fn sighup_opens_closes_and_changes_listeners_and_sessions_keep_what_they_began_with() {
    let admin = listener("admin", "admin", "");
    let [upper, echo] = [("upper"), ("none")]
        .map(|transform| listener("tcp-echo", "echo", &format!("transform = \"{transform}\"")));
    let [lossless, lossy] =
        [("0.0"), ("1.0")].map(|loss| listener("udp-ping", "ping", &format!("loss = {loss}")));
    let doomed = listener("tcp-echo", "doomed", "");
    let datagrams = listener("udp-echo", "datagrams", "");
    let mut server = Program::start(&[&*admin, &upper, &lossless, &doomed, &datagrams].concat());
    let configure = |server: &Program, text: &str| {
        fs::write(server.path("netlab.toml"), text).expect("a file");
        server.signal(Signal::HUP);
    };
    let [at, doomed_at] = server.addresses("tcp-echo")[..] else {
        panic!("two were configured");
    };
    let connect = |at| TcpStream::connect(at).expect("a connection");
    let (mut before, mut orphan) = (connect(at), connect(doomed_at));
    assert_eq!(exchange(&mut before, b"abc", 3), b"ABC");
    assert_eq!(exchange(&mut orphan, b"abc", 3), b"ABC");
    let (pings, gone) = (server.datagrams("udp-ping"), server.datagrams("udp-echo"));
    let mut answer = [0; 3];
    pings.send(b"abc").expect("a socket");
    assert_eq!(pings.recv(&mut answer).expect("an answer"), 3);

    // What is wrong changes nothing.
    configure(
        &server,
        &(admin.clone() + "[[listener]]\nkind = \"hello\"\nport = 1\n"),
    );
    let told = server.wait_log("stays as it was");
    assert!(told.contains("netlab.toml:"), "{told}");
    assert_eq!(exchange(&mut connect(at), b"abc", 3), b"ABC");

    let added = listener("hello", "added", "");
    let taken = format!("[[listener]]\nkind = \"hello\"\nname = \"taken\"\nbind = \"{at}\"\n");
    configure(&server, &[&*admin, &echo, &lossy, &added, &taken].concat());
    let datagrams_at = server.address("udp-echo");
    for closed in [
        format!("doomed at {doomed_at}: closed"),
        format!("datagrams at {datagrams_at}: closed"),
    ] {
        server.wait_log(&closed);
    }
    server.wait_log(&format!("echo at {at}: configured anew"));
    let opened = server.wait_log("added: listening on ");
    let refused = server.wait_log("listener taken");
    assert!(refused.contains("in use"), "{refused}");
    let (_, added_at) = opened.rsplit_once(' ').expect("an address");
    let mut hello = connect(added_at.parse().expect("an address"));
    assert_eq!(exchange(&mut hello, b"", 6), b"hello0");
    assert_eq!(exchange(&mut connect(at), b"abc", 3), b"abc");
    assert_eq!(exchange(&mut before, b"abc", 3), b"ABC");
    assert_eq!(exchange(&mut orphan, b"abc", 3), b"ABC");
    assert!(TcpStream::connect(doomed_at).is_err());
    gone.send(b"abc").expect("a socket");
    let error = gone.recv(&mut answer).expect_err("nobody");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    pings.send(b"abc").expect("a socket");
    pings
        .set_read_timeout(Some(Duration::from_millis(200)))
        .expect("an option");
    pings.recv(&mut answer).expect_err("all are lost now");

    // And back, while those sessions are there still.
    configure(&server, &[&*admin, &upper, &lossless, &doomed].concat());
    server.wait_log("doomed: listening on ");
    assert_eq!(exchange(&mut connect(at), b"abc", 3), b"ABC");
    assert_eq!(exchange(&mut orphan, b"abc", 3), b"ABC");
    let sessions = || metric(&server, "netlab_sessions");
    expect_soon(|| sessions() == 4.0, || format!("{} sessions", sessions()));
    drop((before, orphan, hello));
    expect_soon(|| sessions() == 1.0, || format!("{} sessions", sessions()));
    server.stop();
}

#[test]
fn a_file_that_lost_its_listeners_changes_nothing_at_sighup() {
    let config = [
        listener("admin", "admin", ""),
        listener("tcp-echo", "echo", ""),
    ]
    .concat();
    let mut server = Program::start(&config);
    let mut client = server.connect("tcp-echo");
    let sockets = || metric(&server, "netlab_sockets");
    assert_eq!(exchange(&mut client, b"abc", 3), b"ABC");
    let before = sockets();
    for text in [
        "",
        "# all of it is commented out\n",
        "drain_timeout = \"1s\"\n",
    ] {
        fs::write(server.path("netlab.toml"), text).expect("a file");
        server.signal(Signal::HUP);
        let told = server.wait_log("stays as it was");
        assert!(told.contains("netlab.toml:"), "{told}");
        assert!(
            told.contains("expected at least one table [[listener]]"),
            "{told}"
        );
        assert_eq!(exchange(&mut client, b"abc", 3), b"ABC");
        assert_eq!(exchange(&mut server.connect("tcp-echo"), b"abc", 3), b"ABC");
    }
    let sockets = || metric(&server, "netlab_sockets");
    expect_soon(|| sockets() == before, || format!("{} sockets", sockets()));
    fs::write(server.path("netlab.toml"), config).expect("a file");
    server.signal(Signal::HUP);
    assert_eq!(exchange(&mut client, b"abc", 3), b"ABC");
    server.stop();
}

/// What a listener has: how it is named in the file, which of the places it is at, and what it
/// serves.
type Row = (&'static str, usize, &'static str);

/// Configurations one after the other, by their listeners. Between two of them nothing changes, or
/// one is removed, added, in another place of the file, at another address, or serves what another
/// one served.
fn succession([one, two, three]: [&'static str; 3]) -> Vec<Vec<Row>> {
    vec![
        vec![(one, 0, "a"), (two, 1, "b")],
        vec![(one, 0, "a"), (two, 1, "b")],
        vec![(one, 0, "a")],
        vec![(one, 0, "a"), (two, 1, "b")],
        vec![(two, 1, "b"), (one, 0, "a")],
        vec![(one, 0, "b"), (two, 1, "a")],
        vec![(two, 1, "a"), (one, 0, "b")],
        vec![(two, 1, "a")],
        vec![(three, 2, "b"), (two, 1, "a")],
        vec![(two, 1, "b"), (one, 0, "a"), (three, 2, "b")],
        vec![(one, 2, "a"), (three, 0, "b")],
        vec![(one, 0, "b"), (three, 2, "a")],
        vec![(three, 2, "a"), (two, 1, "b")],
    ]
}

#[test]
fn a_monitor_of_heartbeats_that_was_replaced_counts_only_whom_it_knows() {
    let config = |timeout: &str| {
        listener("admin", "admin", "")
            + &listener(
                "udp-heartbeat",
                "beats",
                &format!("timeout = \"{timeout}\""),
            )
    };
    let mut server = Program::start(&config("1h"));
    let expect_senders = |server: &Program, count: f64| {
        let senders = || metric(server, "netlab_heartbeat_senders");
        expect_soon(|| senders() == count, || format!("{} senders", senders()));
    };
    let (one, other) = (
        server.datagrams("udp-heartbeat"),
        server.datagrams("udp-heartbeat"),
    );
    for socket in [&one, &other] {
        socket.send(b"Heartbeat 1 1.0").expect("a socket");
    }
    expect_senders(&server, 2.0);
    fs::write(server.path("netlab.toml"), config("2h")).expect("a file");
    server.signal(Signal::HUP);
    server.wait_log("configured anew");
    assert_eq!(metric(&server, "netlab_heartbeat_senders"), 0.0);
    one.send(b"Heartbeat 2 2.0").expect("a socket");
    expect_senders(&server, 1.0);
    server.stop();
}

/// Goes through a succession of configurations by SIGHUP. Each place serves what the last one says,
/// or nothing.
fn expect_succession(
    names: [&'static str; 3],
    places: [&str; 3],
    listener: impl Fn(&str, &str) -> String,
    served: impl Fn(&str) -> Option<String>,
) {
    let text = |rows: &[Row], step: usize| {
        let mut text = String::from("[[listener]]\nkind = \"admin\"\nbind = \"127.0.0.1:0\"\n");
        for (name, place, what) in rows {
            text += &listener(places[*place], what);
            if !name.is_empty() {
                text += &format!("name = {name:?}\n");
            }
        }
        // The last one: when it listens, the others are as they will be.
        text + &self::listener("hello", &format!("step {step}"), "")
    };
    let steps = succession(names);
    let mut server =
        Program::start_beside(&text(&steps[0], 0), &[("a/who", b"a"), ("b/who", b"b")]);
    for (step, rows) in steps.iter().enumerate() {
        if step > 0 {
            fs::write(server.path("netlab.toml"), text(rows, step)).expect("a file");
            server.signal(Signal::HUP);
            server.wait_log(&format!("step {step}: listening on "));
        }
        let expected = [0, 1, 2].map(|place| {
            let row = rows.iter().find(|(_, at, _)| *at == place);
            row.map(|(_, _, what)| (*what).to_owned())
        });
        let found = places.map(&served);
        assert_eq!(found, expected, "{names:?}, step {step}: {}", server.log());
        let (_, metrics) = get(&server, "admin", "/metrics");
        let counted = metrics
            .lines()
            .filter(|line| line.starts_with("netlab_received_bytes_total{"));
        assert_eq!(counted.count(), rows.len() + 2, "{metrics}");
    }
    let log = server.log();
    assert!(!log.contains("ERROR"), "{log}");
    server.stop();
}

const NAMINGS: [[&str; 3]; 3] = [["", "", ""], ["one", "two", "three"], ["", "two", ""]];

/// What a web server serves at `/who`.
fn who(mut stream: impl Read + Write) -> String {
    let request = b"GET /who HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(request).expect("a connection");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer.rsplit('\n').next().unwrap_or_default().to_owned()
}

#[test]
fn sighup_tells_tcp_listeners_of_one_kind_apart() {
    for names in NAMINGS {
        // One of them differs from another by the host alone.
        let (port, other) = (common::free_port(), common::free_port());
        let places = [
            format!("127.0.0.1:{port}"),
            format!("127.0.0.2:{port}"),
            format!("127.0.0.1:{other}"),
        ];
        expect_succession(
            names,
            places.each_ref().map(String::as_str),
            |place, what| {
                format!("[[listener]]\nkind = \"http\"\nbind = {place:?}\nroot = {what:?}\n")
            },
            |place| TcpStream::connect(place).ok().map(who),
        );
    }
}

#[test]
fn sighup_tells_unix_listeners_of_one_kind_apart() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = |name| folder.path().join(name).display().to_string();
    let places = [path("x"), path("y"), path("z")];
    for names in NAMINGS {
        expect_succession(
            names,
            places.each_ref().map(String::as_str),
            |place, what| {
                format!("[[listener]]\nkind = \"http\"\nbind = \"unix:{place}\"\nroot = {what:?}\n")
            },
            |place| UnixStream::connect(place).ok().map(who),
        );
    }
}

#[test]
fn sighup_tells_udp_listeners_of_one_kind_apart() {
    for names in NAMINGS {
        let sockets = [(); 3].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a socket"));
        let places = sockets.map(|socket| socket.local_addr().expect("an address").to_string());
        expect_succession(
            names,
            places.each_ref().map(String::as_str),
            |place, what| {
                let transform = if what == "a" { "none" } else { "upper" };
                format!(
                    "[[listener]]\nkind = \"udp-echo\"\nbind = {place:?}\ntransform = {transform:?}\n"
                )
            },
            |place| {
                let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
                socket.connect(place).expect("an address");
                socket.send(b"a").expect("a socket");
                let mut answer = [0; 1];
                match socket.recv(&mut answer) {
                    Ok(_) if answer == *b"a" => Some("a".to_owned()),
                    Ok(_) => Some("b".to_owned()),
                    Err(_) => None, // nobody is there (ICMP)
                }
            },
        );
    }
}

#[test]
fn a_listener_that_cannot_move_stays_where_it_was() {
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken_at = taken.local_addr().expect("an address");
    let config = |bind: &str| {
        format!(
            "{}{}",
            listener("admin", "admin", ""),
            format_args!("[[listener]]\nkind = \"tcp-echo\"\nbind = {bind:?}\n")
        )
    };
    let mut server = Program::start(&config("127.0.0.1:0"));
    let at = server.address("tcp-echo");
    let mut before = server.connect("tcp-echo");
    assert_eq!(exchange(&mut before, b"abc", 3), b"ABC");
    fs::write(server.path("netlab.toml"), config(&taken_at.to_string())).expect("a file");
    server.signal(Signal::HUP);
    server.wait_log(&format!("tcp-echo at {at}: closed"));
    let told = server.wait_log("listener tcp-echo: ");
    assert!(
        told.contains(&taken_at.to_string()) && told.contains("in use"),
        "{told}"
    );
    server.wait_log(&format!("tcp-echo: listening on {at}"));
    assert_eq!(exchange(&mut server.connect("tcp-echo"), b"abc", 3), b"ABC");
    assert_eq!(exchange(&mut before, b"abc", 3), b"ABC");
    // Once the port is free the same file does it.
    drop(taken);
    server.signal(Signal::HUP);
    server.wait_log(&format!("tcp-echo: listening on {taken_at}"));
    let mut moved = TcpStream::connect(taken_at).expect("a connection");
    assert_eq!(exchange(&mut moved, b"abc", 3), b"ABC");
    assert!(TcpStream::connect(at).is_err());
    server.stop();
}

#[test]
fn an_upload_under_way_survives_another_configuration() {
    let upload = |more| {
        listener(
            "upload",
            "upload",
            &format!("dir = \"files\"\nhandshake = \"none\"\n{more}"),
        )
    };
    let mut server = Program::start(&upload(""));
    let mut client = server.connect("upload");
    let body = vec![b'x'; 100_000];
    let header = b"{\"filename\": \"a\", \"filesize\": 100000}";
    let length = (header.len() as i32).to_le_bytes();
    let begun = [&length[..], header, &body[..60_000]].concat();
    client.write_all(&begun).expect("a connection");
    let partials = || fs::read_dir(server.path("files/.partial")).map_or(0, Iterator::count);
    expect_soon(|| partials() == 1, || "no partial file".into());
    fs::write(server.path("netlab.toml"), upload("overwrite = \"refuse\"")).expect("a file");
    server.signal(Signal::HUP);
    server.wait_log(": configured anew");
    client.write_all(&body[60_000..]).expect("a connection");
    let stored = || fs::read(server.path("files/a")).is_ok_and(|bytes| bytes == body);
    expect_soon(stored, || "it is lost".into());
    server.stop();
}

// ---- the end

/// A client whose answer can never be finished: it sends and does not read, until the server stops
/// taking.
fn stuck_client(server: &Program) -> TcpStream {
    let mut stream = server.connect("tcp-echo");
    stream.set_nonblocking(true).expect("an option");
    // Nothing tells from outside that the server's buffers and the kernel's are full, but that no
    // byte has been taken for a while.
    let (mut sent, mut taken) = (0, Instant::now());
    while taken.elapsed() < Duration::from_millis(300) {
        match stream.write(&[b'x'; 64 * 1024]) {
            Ok(count) => {
                sent += count;
                taken = Instant::now();
                assert!(sent < 1 << 30, "the server takes without end");
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
    stream.set_nonblocking(false).expect("an option");
    stream
}

#[test]
fn sigterm_and_sigint_close_what_is_idle_and_exit_with_0() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut server = Program::start(ECHO);
        let mut idle = server.connect("tcp-echo");
        assert_eq!(exchange(&mut idle, b"abc", 3), b"ABC");
        server.signal(signal);
        assert_eq!(rest(&mut idle), b"");
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[test]
fn what_is_under_way_at_sigterm_is_finished_and_nothing_new_begins() {
    let folder = tempfile::tempdir().expect("a folder");
    let bytes = 100 << 20;
    let file = fs::File::create(folder.path().join("large")).expect("a file");
    file.set_len(bytes).expect("a disk with holes");
    let mut server = Program::start(&format!(
        "drain_timeout = \"60s\"\n[[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\nroot = {0:?}\n\
         [[listener]]\nkind = \"upload\"\nbind = \"127.0.0.1:0\"\ndir = {0:?}\nhandshake = \"none\"\n",
        folder.path()
    ));
    let address = server.address("http");
    let mut download = server.connect("http");
    let request = b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n";
    let head = exchange(&mut download, request, 12);
    assert_eq!(head, b"HTTP/1.1 200");
    let mut upload = server.connect("upload");
    let header = br#"{"filename": "sent", "filesize": 3000000}"#;
    let length = i32::try_from(header.len()).expect("a small header");
    upload.write_all(&length.to_le_bytes()).expect("room");
    upload.write_all(header).expect("room");
    upload.write_all(&[b'u'; 1_000_000]).expect("room");
    let begun = || {
        let partial = fs::read_dir(folder.path().join(".partial"));
        partial.is_ok_and(|mut entries| entries.next().is_some())
    };
    expect_soon(begun, || "the upload does not begin".into());
    server.signal(Signal::TERM);
    let refused = || TcpStream::connect(address).is_err();
    expect_soon(refused, || "it still accepts".into());
    let body = rest(&mut download);
    let blank = body.windows(4).position(|w| w == b"\r\n\r\n");
    let head_bytes = blank.expect("the end of the head") + 4;
    assert_eq!((body.len() - head_bytes) as u64, bytes);
    upload.write_all(&[b'u'; 2_000_000]).expect("room");
    drop(upload);
    assert_eq!(server.wait().code(), Some(0));
    let sent = fs::read(folder.path().join("sent")).expect("the file under its name");
    assert_eq!(sent, [b'u'; 3_000_000]);
}

/// A connection on which one request was answered, and a second one may follow.
fn kept_connection(server: &Program) -> TcpStream {
    let mut stream = server.connect("http");
    let head = exchange(&mut stream, KEPT, 12);
    assert_eq!(head, b"HTTP/1.1 200");
    let mut gathered = Vec::new();
    while !gathered.ends_with(b"</html>\n") {
        gathered.extend_from_slice(&exchange(&mut stream, b"", 1));
    }
    stream
}

const KEPT: &[u8] = b"GET /HelloWorld.html HTTP/1.1\r\nHost: x\r\n\r\n";

#[test]
fn a_request_on_a_kept_connection_is_answered_though_the_drain_began_before_it_came_or_was_seen() {
    let mut server = Program::start("[[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\n");
    let mut kept: Vec<TcpStream> = (0..4).map(|_| kept_connection(&server)).collect();
    // Sent while the process stands still: it finds request and signal at once.
    server.hold_still();
    for stream in &mut kept[..2] {
        stream.write_all(KEPT).expect("room");
    }
    server.signal(Signal::TERM);
    server.signal(Signal::CONT);
    server.wait_log("draining");
    // Sent when the drain had begun.
    for stream in &mut kept[2..] {
        stream.write_all(KEPT).expect("room");
    }
    for stream in &mut kept {
        let answer = String::from_utf8(rest(stream)).expect("text");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
        assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        assert!(answer.ends_with("</html>\n"), "{answer}");
    }
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_kept_connection_is_closed_by_the_drain_once_it_is_idle_for_long_enough() {
    let config = "drain_timeout = \"1h\"\n[[listener]]\nkind = \"http\"\nbind = \"127.0.0.1:0\"\n";
    for (grace, pause) in [("0s", 0), ("100ms", 0), ("100ms", 150), ("24h", 0)] {
        let mut server = Program::start(&format!("{config}drain_idle_grace = \"{grace}\"\n"));
        let mut kept = kept_connection(&server);
        thread::sleep(Duration::from_millis(pause));
        server.signal(Signal::TERM);
        server.wait_log("draining");
        if grace == "24h" {
            // It stays for as long as any other does, and its next request is its last.
            thread::sleep(Duration::from_millis(300));
            kept.write_all(KEPT).expect("room");
            let answer = String::from_utf8(rest(&mut kept)).expect("text");
            assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
        } else {
            assert_eq!(rest(&mut kept), b"", "{grace}");
        }
        assert_eq!(server.wait().code(), Some(0));
    }
}

#[test]
fn what_takes_longer_than_the_drain_is_cut() {
    let mut server = Program::start(&format!("drain_timeout = \"300ms\"\n{ECHO}"));
    let _stuck = stuck_client(&server);
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn what_is_still_to_be_done_on_a_disk_is_done_before_the_end() {
    let web = listener("http", "http", "root = \".\"\naccess_log = \"log\"\n");
    let upload = listener(
        "upload",
        "upload",
        "dir = \"files\"\nhandshake = \"none\"\n",
    );
    let mut server = Program::start(&format!("drain_timeout = \"100ms\"\n{web}{upload}"));
    let mut client = server.connect("upload");
    let header = b"{\"filename\": \"a\", \"filesize\": 1000000}";
    let length = (header.len() as i32).to_le_bytes();
    let begun = [&length[..], header, &[b'x'; 500_000]].concat();
    client.write_all(&begun).expect("a connection");
    let folder = server.path("files/.partial");
    let partials = || fs::read_dir(&folder).map_or(0, Iterator::count);
    expect_soon(|| partials() == 1, || "no partial file".into());
    // Lines that follow others closely wait for more.
    for number in 0..20 {
        assert_eq!(get(&server, "http", &format!("/none-{number}")).0, 404);
    }
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
    assert_eq!(partials(), 0, "the session was cut, and its file stays");
    let log = fs::read_to_string(server.path("log")).expect("the log");
    let lines: Vec<&str> = log.lines().collect();
    assert_eq!(lines.len(), 20, "{log}");
    for (number, line) in lines.iter().enumerate() {
        assert!(
            line.contains(&format!("\"GET /none-{number} HTTP/1.1\" 404")),
            "{line}"
        );
    }
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let mut server = Program::start(&format!("drain_timeout = \"24h\"\n{ECHO}"));
    let _stuck = stuck_client(&server);
    let address = server.address("tcp-echo");
    server.signal(Signal::TERM);
    let refused = || TcpStream::connect(address).is_err();
    expect_soon(refused, || "it still accepts".into());
    assert!(
        server.child.try_wait().expect("a child").is_none(),
        "it did not wait for the client"
    );
    server.signal(Signal::TERM);
    assert_eq!(server.wait().code(), Some(0));
}

// ---- what it survives

#[test]
fn sighup_reads_the_hosts_file_again() {
    // Nobody serves names at port 1, which is told at once.
    let server = Program::start(
        "[resolver]\nnameservers = [\"127.0.0.1:1\"]\nhosts = \"hosts\"\nreread_interval = \"0s\"\n\
         [[listener]]\nkind = \"proxy\"\nbind = \"127.0.0.1:0\"\ncache_dir = \"cache\"\n",
    );
    let status = || get(&server, "proxy", "http://inside.test/").0;
    assert_ne!(status(), 403);
    // The proxy refuses an address like this one, so it knows the name.
    fs::write(server.path("hosts"), "127.0.0.1 inside.test\n").expect("a file");
    server.signal(Signal::HUP);
    expect_soon(|| status() == 403, || "the name is not known".to_owned());
    server.stop();
}

#[test]
fn a_hosts_file_that_changed_is_read_again_by_itself() {
    for engine in ["auto", "threads", "inline"] {
        let server = Program::start(&format!(
            "[disk]\nengine = \"{engine}\"\n\
             [resolver]\nnameservers = [\"127.0.0.1:1\"]\nhosts = \"hosts\"\nreread_interval = \"10ms\"\n\
             [[listener]]\nkind = \"proxy\"\nbind = \"127.0.0.1:0\"\ncache = \"off\"\n",
        ));
        let status = || get(&server, "proxy", "http://inside.test/").0;
        assert_ne!(status(), 403);
        // The proxy refuses an address like this one, so it knows the name.
        fs::write(server.path("hosts"), "127.0.0.1 inside.test\n").expect("a file");
        expect_soon(|| status() == 403, || format!("{engine}: it is not known"));
        fs::remove_file(server.path("hosts")).expect("it is there");
        fs::write(server.path("hosts"), "127.0.0.1 other.test\n").expect("a file");
        expect_soon(
            || status() != 403,
            || format!("{engine}: it is known still"),
        );
        server.stop();
    }
}

#[test]
fn a_full_server_serves_its_listeners_in_turn_and_tells_how_it_is() {
    let admin = "[[listener]]\nkind = \"admin\"\nbind = \"127.0.0.1:0\"\n";
    let server = Program::start(&format!("[limits]\nmax_sessions = 2\n{ECHO}{ECHO}{admin}"));
    let addresses = server.addresses("tcp-echo");
    let ask = |index: usize| {
        let mut stream = connect(addresses[index]);
        stream.write_all(b"a").expect("a connection");
        stream
    };
    let mut served = [ask(0), ask(0)];
    for stream in &mut served {
        stream.read_exact(&mut [0]).expect("an answer");
    }
    let waiting = [ask(0), ask(0), ask(0)];
    let mut other = ask(1);
    assert_eq!(get(&server, "admin", "/livez").0, 200);
    drop(served);
    other
        .read_exact(&mut [0])
        .expect("the second listener has its turn");
    drop((waiting, other));
    server.stop();
}

#[test]
fn urgent_data_is_data() {
    let server = Program::start(ECHO);
    let mut stream = server.connect("tcp-echo");
    assert_eq!(exchange(&mut stream, b"a", 1), b"A");
    server.hold_still(); // all of it is there when it reads
    stream.write_all(b"abc").expect("a connection");
    rustix::net::send(&stream, b"d", SendFlags::OOB).expect("a connection");
    stream.write_all(b"ef").expect("a connection");
    server.signal(Signal::CONT);
    let mut answer = [0; 6];
    stream.read_exact(&mut answer).expect("an answer");
    assert_eq!(&answer, b"ABCDEF");
    drop(stream);
    server.stop();
}

#[test]
fn a_log_that_nobody_reads_holds_up_nothing() {
    let config = format!("{ECHO}[[listener]]\nkind = \"admin\"\nbind = \"127.0.0.1:0\"\n");
    let mut server = Program::start_unread(&config);
    // A pipe holds 64 KiB; each connection is several lines.
    for _ in 0..1000 {
        let mut stream = server.connect("tcp-echo");
        assert_eq!(exchange(&mut stream, b"a", 1), b"A");
    }
    assert!(metric(&server, "netlab_log_dropped_total") > 0.0);
    server.terminate();
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn there_are_no_more_sessions_than_descriptors_for_them_and_those_beyond_wait() {
    let mut server = Program::start_with_descriptors(ECHO, 24);
    server.wait_log("at most 12 sessions at once");
    let mut clients: Vec<TcpStream> = (0..20).map(|_| server.connect("tcp-echo")).collect();
    // Each is served as soon as there is a place for it.
    for mut client in clients.drain(..) {
        assert_eq!(exchange(&mut client, b"x", 1), b"X");
    }
    server.stop();
}

#[test]
fn a_session_that_may_open_a_file_takes_two_places() {
    let dir = temp_dir();
    let others = format!(
        "[[listener]]\nkind = 'upload'\nbind = '127.0.0.1:0'\nhandshake = 'none'\ndir = {:?}\n\
         [[listener]]\nkind = 'admin'\nbind = '127.0.0.1:0'\n",
        dir.path()
    );
    let limits = "[limits]\nkept_sessions = 0\n";
    let mut server = Program::start_with_descriptors(&format!("{limits}{ECHO}{others}"), 64);
    server.wait_log("at most 32 sessions at once, 16 if each takes 2 descriptors");
    // A file is begun on each connection that is served: a head, and half of its byte.
    let begin = || {
        let mut client = server.connect("upload");
        let head = br#"{"filename": "a", "filesize": 2}"#;
        client
            .write_all(&(head.len() as i32).to_le_bytes())
            .expect("a connection");
        client.write_all(head).expect("a connection");
        client.write_all(b"x").expect("a connection");
        client
    };
    let uploads: Vec<TcpStream> = (0..20).map(|_| begin()).collect();
    let told = || get(&server, "admin", "/metrics").1;
    let is_full = |line: &str| {
        line.starts_with("netlab_sessions{listener=\"upload\"") && line.ends_with(" 16")
    };
    expect_soon(
        || told().lines().any(is_full),
        || format!("16 uploads at once: {}", told()),
    );
    let mut echo = server.connect("tcp-echo");
    echo.write_all(b"x").expect("a connection");
    drop(uploads);
    echo.read_exact(&mut [0]).expect("a place");
    let mut clients: Vec<TcpStream> = (0..31).map(|_| server.connect("tcp-echo")).collect();
    for client in &mut clients {
        assert_eq!(exchange(client, b"x", 1), b"X", "an echo takes one");
    }
    server.stop();
}

#[test]
fn without_descriptors_clients_are_turned_away_and_service_goes_on() {
    let all_for_sessions = format!("[limits]\nreserved_descriptors = 0\n{ECHO}");
    let server = Program::start_with_descriptors(&all_for_sessions, 24);
    let before = server.descriptors();
    let mut clients: Vec<TcpStream> = (0..40).map(|_| server.connect("tcp-echo")).collect();
    // Each is either served or closed; none is left waiting.
    let mut served = 0;
    for client in &mut clients {
        let mut byte = [0];
        match client.write_all(b"x").and_then(|()| client.read(&mut byte)) {
            Ok(1) => served += 1,
            Ok(_) => {}
            Err(error) => assert!(
                matches!(
                    error.kind(),
                    ErrorKind::ConnectionReset | ErrorKind::BrokenPipe
                ),
                "{error}"
            ),
        }
    }
    assert!((1..40).contains(&served), "{served} of 40 were served");
    drop(clients);
    server.expect_descriptors(before);
    for _ in 0..served {
        assert_eq!(
            exchange(&mut server.connect("tcp-echo"), b"again", 5),
            b"AGAIN"
        );
    }
    server.stop();
}

/// Sends `connections` lots of noise to each stream listener and `datagrams` to each datagram
/// listener, then uses them.
fn noise(connections: usize, datagrams: usize) {
    let mut server = Program::start(&every_kind());
    let before = server.descriptors();
    let mut random = Random(0x5eed);
    for kind in STREAMS {
        for _ in 0..connections {
            let mut stream = server.connect(kind);
            let count = random.below(4096);
            let mut bytes = random.bytes(count);
            // Some begin as the protocol would, so that more than the first byte is looked at.
            let beginning: &[u8] = match (kind, random.below(3)) {
                ("http" | "proxy" | "admin", 0) => b"GET / HTTP/1.1\r\nHost: ",
                ("http" | "proxy" | "admin", 1) => {
                    b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
                }
                ("upload", 0) => b"\x1e\0\0\0{\"filename\":\"x\",\"filesize\":9}",
                ("upload", 1) => b"\x02\0\0\0{}",
                ("frame-echo", 0) => b"\x02\0\0\0xy\0\x08\0\0",
                ("frame-echo", 1) => b"\xff\xff\x0f\0",
                _ => b"",
            };
            bytes.splice(0..0, beginning.iter().copied());
            // The server may have had enough before all is written.
            let _ = stream.write_all(&bytes);
            match random.below(3) {
                0 => drop(stream.shutdown(Shutdown::Write)),
                1 => drop(stream.set_nonblocking(true).and_then(|()| {
                    let mut some = [0; 512];
                    stream.read(&mut some)
                })),
                _ => {} // closed with the answer unread: a reset
            }
        }
    }
    for kind in DATAGRAMS {
        let socket = server.datagrams(kind);
        socket.set_nonblocking(true).expect("an option");
        let mut answer = [0; 2048];
        for _ in 0..datagrams {
            let count = random.below(1400);
            let mut bytes = random.bytes(count.min(64));
            bytes.resize(count, b'7');
            if random.below(4) == 0 {
                bytes.splice(0..0, *b"Heartbeat 1 ");
            }
            // What does not fit into a buffer is lost, as datagrams may be.
            let _ = socket.send(&bytes);
            let _ = socket.recv(&mut answer);
        }
    }

    // Nothing is left of it, but for the session that asks: no descriptor, no session, no page.
    server.expect_descriptors(before);
    expect_soon(
        || metric(&server, "netlab_sessions") <= 1.0 && metric(&server, "netlab_pages") <= 2.0,
        || {
            let [sessions, pages] = ["netlab_sessions", "netlab_pages"].map(|n| metric(&server, n));
            format!("{sessions} sessions and {pages} pages are left")
        },
    );
    // And all listeners serve.
    let (sentence, answer) = ("grüße".as_bytes(), "GRÜSSE".as_bytes());
    let mut echo = server.connect("tcp-echo");
    assert_eq!(exchange(&mut echo, sentence, answer.len()), answer);
    assert_eq!(exchange(&mut server.connect("hello"), b"", 6), b"hello0");
    assert_eq!(get(&server, "http", "/HelloWorld.html").0, 200);
    assert_eq!(get(&server, "admin", "/readyz").0, 200);
    // Loopback is refused, which needs no network to be seen.
    let refused = format!("http://{}/", server.address("http"));
    assert_eq!(get(&server, "proxy", &refused).0, 403);
    let mut upload = server.connect("upload");
    upload
        .write_all(b"\x23\0\0\0{\"filename\":\"after\", \"filesize\": 2}ok")
        .expect("a connection");
    drop(upload);
    let file = server.path("uploads").join("after");
    expect_soon(
        || fs::read(&file).is_ok_and(|bytes| bytes == b"ok"),
        || "the upload did not arrive".into(),
    );
    for kind in ["udp-echo", "udp-ping"] {
        let socket = server.datagrams(kind);
        socket.send(b"ping 1").expect("a socket");
        let mut answer = [0; 64];
        let count = socket.recv(&mut answer).expect("an answer");
        assert_eq!(&answer[..count], b"PING 1");
    }
    drop(echo);
    let log = server.log();
    assert!(!log.contains("panicked"), "{log}");
    server.stop();
}

#[test]
fn noise_harms_nobody() {
    noise(40, 2_000);
}

#[test]
#[ignore = "takes a minute"]
fn ten_thousand_connections_and_a_million_datagrams_of_noise_harm_nobody() {
    noise(10_000 / STREAMS.len(), 1_000_000 / DATAGRAMS.len());
}

/// Numbers that look random and are the same in each run.
struct Random(u64);

impl Random {
    /// The next number (xorshift64*).
    fn number(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    /// A number below a bound.
    fn below(&mut self, bound: usize) -> usize {
        (self.number() >> 11) as usize % bound
    }

    /// Bytes of any values.
    fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| (self.number() >> 56) as u8).collect()
    }
}
