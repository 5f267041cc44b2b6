//! What a running process tells of its loop: the list of sessions, and traces.

mod common;

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use common::{Program, expect_soon};
use netlab_reactor::http::basic::user_line;
use serde_json::Value;

const CONFIG: &str = "\
drain_timeout = \"500ms\"
[[listener]]
kind = \"admin\"
bind = \"127.0.0.1:0\"
[[listener]]
kind = \"hello\"
bind = \"127.0.0.1:0\"
[[listener]]
kind = \"tcp-echo\"
bind = \"127.0.0.1:0\"
[[listener]]
kind = \"http\"
bind = \"127.0.0.1:0\"
";

/// One GET on a connection of its own: the status, and the body without its chunks.
fn get(server: &Program, kind: &str, target: &str) -> (u16, String) {
    get_over(server.connect(kind), target)
}

fn get_over(mut stream: TcpStream, target: &str) -> (u16, String) {
    let request = format!("GET {target} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("a connection");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let status = answer[9..12].parse().expect("a status");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    (status, body.to_owned())
}

fn read(stream: &mut TcpStream, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).expect("an answer");
    bytes
}

fn sessions(server: &Program) -> Vec<Value> {
    let (status, body) = get(server, "admin", "/sessions.json");
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).expect("a list")
}

#[test]
fn every_session_is_listed_with_the_state_of_its_protocol() {
    let server = Program::start(CONFIG);
    let mut hello = server.connect("hello");
    assert_eq!(read(&mut hello, 6), b"hello0");
    let mut echo = server.connect("tcp-echo");
    echo.write_all(b"a").expect("a connection");
    assert_eq!(read(&mut echo, 1), b"A");
    let mut http = server.connect("http");
    http.write_all(b"GET / HTTP/1.1\r\nHo")
        .expect("a connection");
    thread::sleep(Duration::from_millis(100));
    let listed = sessions(&server);
    let state = |kind: &str, stream: &TcpStream| {
        let peer = stream.local_addr().expect("an address").to_string();
        let of_kind = |row: &&Value| row["kind"] == kind && row["peer"] == peer;
        let row = listed.iter().find(of_kind);
        let row = row.unwrap_or_else(|| panic!("no {kind} from {peer} in {listed:?}"));
        assert!(row["id"].as_u64().is_some() && row["listener"] == kind);
        assert_eq!(row["waits_for"], "protocol");
        let wait = row["deadline_ms"].as_u64().expect("a time");
        assert!(wait > 0 && wait < 3_600_000, "{row}");
        row["state"].as_str().expect("a name").to_owned()
    };
    assert_eq!(state("hello", &hello), "Awaiting");
    assert_eq!(state("tcp-echo", &echo), "Echoing");
    assert_eq!(state("http", &http), "Head");
    hello.write_all(b"byebye").expect("a connection");
    thread::sleep(Duration::from_millis(100));
    let again = sessions(&server);
    let pausing = again.iter().filter(|row| row["state"] == "Pausing");
    assert_eq!(pausing.count(), 1, "{again:?}");
    drop(http);
    server.stop();
}

/// More sessions than are listed in a turn.
#[test]
fn thousands_of_sessions_are_listed_each_once() {
    let server = Program::start(CONFIG);
    let mut streams = Vec::new();
    for _ in 0..1500 {
        let mut stream = server.connect("tcp-echo");
        stream.write_all(b"a").expect("a connection");
        read(&mut stream, 1);
        streams.push(stream);
    }
    let listed = sessions(&server);
    let mut peers: Vec<_> = listed
        .iter()
        .filter(|row| row["kind"] == "tcp-echo")
        .map(|row| row["peer"].as_str().expect("an address"))
        .collect();
    peers.sort_unstable();
    peers.dedup();
    assert_eq!(peers.len(), 1500);
    server.stop();
}

/// What a trace must be for those who show it: slices of a track lie within or beside each other,
/// and flows have both ends.
fn check_events(events: &[Value]) {
    let mut slices: HashMap<u64, Vec<(u64, u64)>> = HashMap::new();
    let mut flows: HashMap<u64, Vec<&str>> = HashMap::new();
    let nanos = |value: &Value| (value.as_f64().expect("a time") * 1000.0).round() as u64;
    for event in events {
        let track = event["tid"].as_u64().expect("a track");
        assert!(event["name"].as_str().is_some_and(|name| !name.is_empty()));
        match event["ph"].as_str().expect("a phase") {
            "X" => {
                let from = nanos(&event["ts"]);
                let slice = (from, from + nanos(&event["dur"]));
                slices.entry(track).or_default().push(slice);
            }
            "s" => flows
                .entry(event["id"].as_u64().expect("an id"))
                .or_default()
                .push("s"),
            "f" => flows
                .entry(event["id"].as_u64().expect("an id"))
                .or_default()
                .push("f"),
            "i" | "C" | "M" => {}
            other => panic!("an event of phase {other}"),
        }
    }
    assert!(!flows.is_empty() && flows.values().all(|ends| *ends == ["s", "f"]));
    for (track, mut slices) in slices {
        slices.sort_by_key(|&(from, to)| (from, std::cmp::Reverse(to)));
        let mut open: Vec<(u64, u64)> = Vec::new();
        for (from, to) in slices {
            while open.last().is_some_and(|&(_, end)| end <= from) {
                open.pop();
            }
            let within = open.last().is_none_or(|&(_, end)| to <= end);
            assert!(
                within,
                "track {track}: {from} to {to} reaches out of {open:?}"
            );
            open.push((from, to));
        }
    }
}

#[test]
fn a_trace_shows_the_turns_and_the_states_of_each_session() {
    let server = Program::start(CONFIG);
    let mut echo = server.connect("tcp-echo");
    let mut hello = server.connect("hello");
    let events = thread::scope(|scope| {
        let admin = server.connect("admin");
        let trace = scope.spawn(|| get_over(admin, "/trace?seconds=1"));
        thread::sleep(Duration::from_millis(200));
        for _ in 0..100 {
            echo.write_all(b"a").expect("a connection");
            read(&mut echo, 1);
        }
        read(&mut hello, 6);
        hello.write_all(b"byebye").expect("a connection");
        assert_eq!(get(&server, "http", "/HelloWorld.html").0, 200);
        assert_eq!(get(&server, "http", "/missing").0, 404);
        let (status, body) = trace.join().expect("a trace");
        assert_eq!(status, 200);
        let trace: Value = serde_json::from_str(&body).expect("JSON");
        trace["traceEvents"].as_array().expect("events").clone()
    });
    check_events(&events);
    let count = |name: &str| events.iter().filter(|event| event["name"] == name).count();
    assert!(count("turn") >= 100 && count("run") == count("turn"));
    assert!(
        count("Awaiting") > 0 && count("Pausing") > 0,
        "the states of hello"
    );
    let statuses: Vec<_> = events
        .iter()
        .filter(|event| event["name"] == "answered")
        .map(|event| event["args"]["status"].as_u64().expect("a status"))
        .collect();
    assert!(statuses.contains(&200) && statuses.contains(&404));
    assert!(count("ended: done") >= 2);
    let named = |event: &&Value| event["ph"] == "M";
    let names = events
        .iter()
        .filter(named)
        .map(|event| &event["args"]["name"]);
    let names: Vec<_> = names.map(|name| name.as_str().expect("a name")).collect();
    assert!(names.contains(&"loop"));
    assert!(
        names.iter().any(|name| name.starts_with("http #")),
        "{names:?}"
    );
    server.stop();
}

#[test]
fn the_client_writes_a_trace_as_lines_or_to_a_file() {
    let server = Program::start(CONFIG);
    let admin = format!("http://{}", server.address("admin"));
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_netlab-reactor"));
        command.args(["trace", "--admin", &admin]).args(arguments);
        command.output().expect("a client")
    };
    let mut hello = server.connect("hello");
    thread::scope(|scope| {
        let lines = scope.spawn(|| run(&["--text", "--seconds", "1"]));
        thread::sleep(Duration::from_millis(300));
        read(&mut hello, 6);
        hello.write_all(b"byebye").expect("a connection");
        let ended = lines.join().expect("a client");
        assert!(ended.status.success(), "{ended:?}");
        let text = String::from_utf8(ended.stdout).expect("text");
        for line in [
            "is woken: event",
            "6 bytes come from the client",
            "Awaiting becomes Pausing: 6 bytes consumed, 0 queued",
            "parks: waits for protocol, at most",
        ] {
            assert!(text.contains(line), "no {line:?} in\n{text}");
        }
    });
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("loop.json");
    let ended = run(&["--seconds", "1", "-o", file.to_str().expect("UTF-8")]);
    assert!(
        ended.status.success() && ended.stdout.is_empty(),
        "{ended:?}"
    );
    let trace = std::fs::read_to_string(&file).expect("a file");
    let trace: Value = serde_json::from_str(&trace).expect("JSON");
    check_events(trace["traceEvents"].as_array().expect("events"));
    let ended = run(&["--seconds", "601"]);
    assert_eq!(ended.status.code(), Some(77), "{ended:?}");
    let told = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(told.contains("expected a number from 1 to 600"), "{told}");
    server.stop();
}

/// Who has said all still gets the answer, to its end.
#[test]
fn a_client_that_has_ended_its_side_gets_the_whole_trace() {
    let server = Program::start(CONFIG);
    let mut stream = server.connect("admin");
    let request = "GET /trace?seconds=1 HTTP/1.0\r\nHost: localhost\r\n\r\n";
    stream.write_all(request.as_bytes()).expect("a connection");
    stream.shutdown(Shutdown::Write).expect("a connection");
    let began = Instant::now();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    assert!(began.elapsed() >= Duration::from_secs(1));
    let (_, body) = answer.split_once("\r\n\r\n").expect("a head");
    let trace: Value = serde_json::from_str(body).expect("JSON");
    check_events(trace["traceEvents"].as_array().expect("events"));
    server.stop();
}

#[test]
fn the_status_is_told_once_a_second_to_whoever_listens() {
    let server = Program::start(CONFIG);
    let mut listening = server.connect("admin");
    listening
        .write_all(b"GET /events HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .expect("a connection");
    let mut echo = server.connect("tcp-echo");
    echo.write_all(b"a").expect("a connection");
    read(&mut echo, 1);
    let mut text = String::new();
    let mut lines = BufReader::new(listening).lines();
    while text.matches("\n\n").count() < 4 {
        text += &lines.next().expect("more").expect("a line");
        text.push('\n');
    }
    assert!(text.contains("Content-Type: text/event-stream"), "{text}");
    let (_, events) = text.split_once("\n\n").expect("a head");
    let statuses: Vec<Value> = events
        .trim_end()
        .split("\n\n")
        .map(|event| {
            let data = event.strip_prefix("event: status\ndata: ").expect("one");
            serde_json::from_str(data).expect("JSON")
        })
        .collect();
    let sessions = |status: &Value| -> u64 {
        let listeners = status["listeners"].as_array().expect("a list").iter();
        listeners
            .map(|one| one["sessions"].as_u64().unwrap_or(0))
            .sum()
    };
    assert_eq!(sessions(&statuses[1]), 2, "the echo's, and this one");
    let gap = statuses[2]["uptime"].as_f64().expect("a time")
        - statuses[1]["uptime"].as_f64().expect("a time");
    assert!(gap > 0.9, "{gap}");
    server.stop();
}

/// What `/metrics` has of a request's time: how many of a class, and the sum.
fn latency(metrics: &str, kind: &str, class: &str) -> (u64, f64) {
    let of = |part: &str| {
        let sample = format!("netlab_request_seconds_{part}{{listener=\"{kind}\"");
        let is_it = |line: &&str| line.starts_with(&sample) && line.contains(class);
        let line = metrics.lines().find(is_it);
        line.and_then(|line| line.rsplit_once(' '))
            .map(|(_, value)| value.to_owned())
    };
    let number = of("count").map_or(0, |count| count.parse().expect("a number"));
    let sum = of("sum").map_or(0.0, |sum| sum.parse().expect("a number"));
    (number, sum)
}

#[test]
fn how_long_requests_took_is_told_by_listener_and_class() {
    let config = format!("{CONFIG}[[listener]]\nkind = \"udp-echo\"\nbind = \"127.0.0.1:0\"\n");
    let server = Program::start(&config);
    for (target, status) in [("/HelloWorld.html", 200), ("/missing", 404), ("/", 200)] {
        assert_eq!(get(&server, "http", target).0, status);
    }
    let mut slow = server.connect("http");
    slow.write_all(b"GET / HT").expect("a connection");
    thread::sleep(Duration::from_millis(200));
    slow.write_all(b"TP/1.0\r\nHost: localhost\r\n\r\n")
        .expect("a connection");
    read(&mut slow, 20);
    let mut echo = server.connect("tcp-echo");
    for _ in 0..5 {
        echo.write_all(b"a").expect("a connection");
        read(&mut echo, 1);
    }
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
    socket
        .send_to(b"a", server.address("udp-echo"))
        .expect("sent");
    socket.recv(&mut [0; 9]).expect("an answer");
    let (_, metrics) = get(&server, "admin", "/metrics");
    let (count, sum) = latency(&metrics, "http", "2xx");
    assert!(
        count == 3 && sum > 0.2,
        "{count} in {sum} s: one came slowly"
    );
    assert_eq!(latency(&metrics, "http", "4xx").0, 1);
    assert_eq!(latency(&metrics, "tcp-echo", "all").0, 5);
    assert_eq!(latency(&metrics, "udp-echo", "all").0, 1);
    assert_eq!(latency(&metrics, "hello", "").0, 0, "it is asked nothing");
    let (_, body) = get(&server, "admin", "/status.json");
    let status: Value = serde_json::from_str(&body).expect("JSON");
    let listeners = status["listeners"].as_array().expect("a list");
    let http = listeners
        .iter()
        .find(|one| one["name"] == "http")
        .expect("it");
    let times = &http["requests"]["2xx"];
    let second = |key: &str| times[key].as_f64().expect("a time");
    assert_eq!(times["count"], 3);
    assert!(
        second("p50") < 0.2 && second("p50") <= second("p90"),
        "{times}"
    );
    assert!(second("p99") > 0.2 && second("p99") < 5.0, "{times}");
    server.stop();
}

/// The events of a stream, each as its name and its data, until one is the last.
fn events(stream: TcpStream, is_last: impl Fn(&str, &Value) -> bool) -> Vec<(String, Value)> {
    let mut lines = BufReader::new(stream).lines();
    let mut line = || lines.next().expect("more").expect("a line");
    let mut events = Vec::new();
    while !line().is_empty() {} // the head
    loop {
        let text = line();
        let Some(name) = text.strip_prefix("event: ") else {
            continue;
        };
        let data = line();
        let data = data.strip_prefix("data: ").expect("data");
        let data = serde_json::from_str(data).expect("JSON");
        let is_end = is_last(name, &data);
        events.push((name.to_owned(), data));
        if is_end {
            return events;
        }
    }
}

#[test]
fn what_a_session_does_is_told_to_whoever_listens_to_it() {
    let server = Program::start(CONFIG);
    let mut echo = server.connect("tcp-echo");
    echo.write_all(b"a").expect("a connection");
    read(&mut echo, 1);
    let listed = sessions(&server);
    let row = listed
        .iter()
        .find(|row| row["kind"] == "tcp-echo")
        .expect("it");
    let number = row["id"].as_u64().expect("a number");
    let mut listening = server.connect("admin");
    let request = format!("GET /events?session={number} HTTP/1.0\r\nHost: localhost\r\n\r\n");
    listening
        .write_all(request.as_bytes())
        .expect("a connection");
    let told = thread::scope(|scope| {
        let told = scope.spawn(|| events(listening, |name, _| name == "end"));
        thread::sleep(Duration::from_millis(300));
        let mut other = server.connect("tcp-echo");
        for stream in [&mut other, &mut echo] {
            stream.write_all(b"tulip").expect("a connection");
            read(stream, 5);
        }
        drop(echo);
        told.join().expect("events")
    });
    assert_eq!(
        (told[0].0.as_str(), &told[0].1["state"]),
        ("session", &"Echoing".into())
    );
    let records: Vec<&Value> = told
        .iter()
        .filter(|(name, _)| name == "records")
        .flat_map(|(_, data)| data.as_array().expect("records"))
        .collect();
    assert!(
        records.iter().all(|record| record["id"] == number),
        "{records:?}"
    );
    let whats: Vec<&str> = records
        .iter()
        .filter_map(|record| record["what"].as_str())
        .collect();
    for what in [
        "woken", "pumped", "called", "filled", "advanced", "flushed", "parked", "ended",
    ] {
        assert!(whats.contains(&what), "{what}: {whats:?}");
    }
    let received = records
        .iter()
        .find(|record| record["call"] == "recv")
        .expect("a call");
    assert_eq!(received["bytes"], 5);
    assert_eq!(received["place"], "src/reactor/half.rs fill");
    for (path, status) in [
        (format!("/sessions/{number}.json"), 404),
        (format!("/events?session={number}"), 404),
        ("/events?session=x".to_owned(), 400),
        ("/events?turns=0".to_owned(), 400),
        ("/turns.json?last=1000".to_owned(), 400),
        ("/turns.json?first=1".to_owned(), 400),
    ] {
        let (told, body) = get(&server, "admin", &path);
        assert_eq!(told, status, "{path}: {body}");
    }
    server.stop();
}

#[test]
fn a_session_is_told_of_with_what_the_ring_has_of_it() {
    let server = Program::start(&format!("{CONFIG}[trace]\nalways = true\n"));
    let mut echo = server.connect("tcp-echo");
    echo.write_all(b"tulip").expect("a connection");
    read(&mut echo, 5);
    let listed = sessions(&server);
    let row = listed
        .iter()
        .find(|row| row["kind"] == "tcp-echo")
        .expect("it");
    let (status, body) = get(&server, "admin", &format!("/sessions/{}.json", row["id"]));
    assert_eq!(status, 200, "{body}");
    let told: Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!((&told["peer"], &told["kind"]), (&row["peer"], &row["kind"]));
    let records = told["records"].as_array().expect("records");
    assert_eq!(records[0]["what"], "began");
    assert!(
        records
            .iter()
            .any(|record| record["text"] == "5 bytes come from the client")
    );
    server.stop();
}

#[test]
fn the_last_turns_are_told_whole() {
    let server = Program::start(CONFIG);
    let mut echo = server.connect("tcp-echo");
    let turns = thread::scope(|scope| {
        let admin = server.connect("admin");
        let told = scope.spawn(|| get_over(admin, "/turns.json?last=5"));
        for _ in 0..50 {
            echo.write_all(b"a").expect("a connection");
            read(&mut echo, 1);
            thread::sleep(Duration::from_millis(5));
        }
        let (status, body) = told.join().expect("turns");
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<Value>(&body).expect("JSON")
    });
    let turns = turns.as_array().expect("turns");
    assert_eq!(turns.len(), 5);
    for turn in turns {
        let records = turn.as_array().expect("records");
        assert_eq!(records[0]["what"], "turn", "{turn}");
        assert_eq!(records[records.len() - 1]["what"], "turn_ended", "{turn}");
        let parts: Vec<_> = records
            .iter()
            .filter_map(|record| record["part"].as_str())
            .collect();
        assert!(parts.contains(&"note") && parts.contains(&"run"), "{turn}");
        let times: Vec<_> = records.iter().map(|record| record["at"].as_u64()).collect();
        assert!(times.is_sorted(), "{turn}");
    }
    let mut listening = server.connect("admin");
    listening
        .write_all(b"GET /events?turns=2 HTTP/1.0\r\nHost: localhost\r\n\r\n")
        .expect("a connection");
    let told = events(listening, |name, data| {
        name == "turns" && data.as_array().is_some_and(|turns| turns.len() == 2)
    });
    assert!(told.iter().all(|(name, _)| name == "turns"));
    server.stop();
}

#[test]
fn the_dashboard_has_all_it_needs_and_asks_nobody_else() {
    let server = Program::start(CONFIG);
    for (path, content_type) in [
        ("/", "text/html; charset=utf-8"),
        ("/dashboard.css", "text/css"),
        ("/dashboard.js", "text/javascript"),
        ("/inspect.js", "text/javascript"),
    ] {
        let mut stream = server.connect("admin");
        let request = format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a connection");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        assert!(answer.starts_with("HTTP/1.1 200"), "{path}: {answer}");
        assert!(
            answer.contains(&format!("Content-Type: {content_type}")),
            "{path}"
        );
        assert!(
            answer.contains("Content-Security-Policy: default-src 'none'"),
            "{path}"
        );
        let elsewhere = answer.replace("http://www.w3.org/2000/svg", "");
        let (_, body) = elsewhere.split_once("\r\n\r\n").expect("a head");
        assert!(
            !body.contains("http://") && !body.contains("https://"),
            "{path}"
        );
    }
    server.stop();
}

/// A reader that takes nothing holds up nobody, and the process ends while it is traced.
#[test]
fn a_reader_that_takes_nothing_holds_up_nobody() {
    let server = Program::start(&format!("{CONFIG}[trace]\nring_bytes = \"64KiB\"\n"));
    let mut slow = server.connect("admin");
    slow.write_all(b"GET /trace?seconds=600&format=text HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .expect("a connection");
    let mut echo = server.connect("tcp-echo");
    for _ in 0..20_000 {
        echo.write_all(b"a").expect("a connection");
        read(&mut echo, 1);
    }
    let listed = sessions(&server);
    assert!(
        listed.iter().any(|row| row["state"] == "Live"),
        "{listed:?}"
    );
    let mut text = vec![0; 16 << 20];
    let mut taken = 0;
    let missing = loop {
        taken += slow.read(&mut text[taken..]).expect("a trace");
        if String::from_utf8_lossy(&text[..taken]).contains("records are missing here)") {
            break true;
        }
    };
    assert!(missing);
    server.stop();
}

/// Those who look are so many, and for so long.
#[test]
fn who_looks_is_limited() {
    let limits = "[trace]\nmax_readers = 1\nmax_time = \"20s\"\nmax_listeners = 1\n";
    let server = Program::start(&format!("{CONFIG}{limits}"));
    let ask = |target: &str| {
        let mut client = server.connect("admin");
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.write_all(request.as_bytes()).expect("a connection");
        let mut answer = vec![0; 4096];
        let count = client.read(&mut answer).expect("an answer");
        answer.truncate(count);
        (client, String::from_utf8(answer).expect("UTF-8"))
    };
    let (_, refused) = ask("/trace?seconds=21");
    assert!(refused.starts_with("HTTP/1.1 400 "), "{refused}");
    assert!(refused.contains("from 1 to 20"), "{refused}");
    let (reader, answer) = ask("/trace?seconds=20");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    let (listener, answer) = ask("/events");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    for (target, key) in [("/trace", "`max_readers`"), ("/events", "`max_listeners`")] {
        let (_, refused) = ask(target);
        assert!(refused.starts_with("HTTP/1.1 503 "), "{refused}");
        assert!(refused.contains(key), "{refused}");
    }
    drop((reader, listener));
    expect_soon(
        || ask("/events").1.starts_with("HTTP/1.1 200 "),
        || "there is room again".to_owned(),
    );
    server.stop();
}

/// Lets those stop who work until it is set, however a scope ends.
struct StopsAtEnd<'a>(&'a AtomicBool);

impl Drop for StopsAtEnd<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Asks again and again, over one connection: a web server for what is there and what is not, an
/// echo for the same.
fn load(mut stream: TcpStream, stop: &AtomicBool) {
    let mut answer = [0; 4096];
    for target in ["/", "/HelloWorld.html", "/missing"].into_iter().cycle() {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.write_all(request.as_bytes()).expect("a connection");
        assert!(stream.read(&mut answer).expect("an answer") > 0);
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
#[ignore = "needs chromium, chromedriver and python3"]
fn the_dashboard_is_for_those_with_a_password_where_it_has_one() {
    let locked = CONFIG.replacen(
        "kind = \"admin\"\n",
        "kind = \"admin\"\nauth = { realm = \"admin\", file = \"users\" }\ntoken = \"s3cret\"\n",
        1,
    );
    let users = user_line("ann", b"tulip", &[7; 16], 1000) + "\n";
    let server = Program::start_beside(&locked, &[("users", users.as_bytes())]);
    let arguments = ["--as", "ann", "tulip"];
    let seen = common::python("dashboard.py", server.address("admin"), &arguments);
    let seen: Value = serde_json::from_str(&seen).expect("JSON");
    assert_eq!(seen["live"], true, "{seen}");
    let challenges = [
        "Basic realm=\"admin\", charset=\"UTF-8\"",
        "Bearer realm=\"admin\"",
    ];
    assert_eq!(
        seen["refused"],
        serde_json::json!([401, challenges]),
        "{seen}"
    );
    server.stop();
}

/// What a browser has seen of the dashboard of this listener, while clients of others ask for much.
fn browsed(server: &Program, kind: &str, flags: &[&str]) -> Value {
    let stop = AtomicBool::new(false);
    let seen = thread::scope(|scope| {
        for kind in ["http", "tcp-echo"] {
            let (stream, stop) = (server.connect(kind), &stop);
            scope.spawn(move || load(stream, stop));
        }
        let _stops = StopsAtEnd(&stop);
        look(server.address(kind), flags)
    });
    serde_json::from_str(&seen).expect("JSON")
}

/// By a browser, with pictures where somebody wants to look at them.
fn look(address: SocketAddr, flags: &[&str]) -> String {
    let pictures = std::env::var("NETLAB_TEST_PICTURES").ok();
    let folder = pictures.as_deref().filter(|_| !flags.contains(&"--below"));
    let arguments: Vec<&str> = flags.iter().copied().chain(folder).collect();
    common::python("dashboard.py", address, &arguments)
}

#[test]
#[ignore = "needs chromium, chromedriver and python3"]
fn the_dashboard_moves_in_a_browser() {
    let server = Program::start(CONFIG);
    let mut hellos = Vec::new();
    for _ in 0..5 {
        let mut hello = server.connect("hello");
        read(&mut hello, 6);
        hellos.push(hello);
    }
    let seen = browsed(&server, "admin", &[]);
    let hello = &seen["listeners"]["hello"];
    assert_eq!(
        (&hello[0], &hello[3]),
        (&"hello".into(), &"5".into()),
        "{seen}"
    );
    assert!(
        seen["listeners"]["admin"][7].as_str() != Some("0"),
        "it is sent itself: {seen}"
    );
    assert!(
        seen["facts"].as_u64() > Some(8) && seen["turns"].as_u64() > Some(8),
        "{seen}"
    );
    let found = seen["found"].as_array().expect("states");
    assert!(
        found.len() == 5 && found.iter().all(|state| state == "Awaiting"),
        "{seen}"
    );
    for key in ["reaches_filter", "reaches_column", "reaches_trace"] {
        assert_eq!(seen[key], true, "{key}: {seen}");
    }
    assert_eq!(seen["sorted"], "ascending", "{seen}");
    assert_eq!(seen["focus_after_trace"], "trace", "{seen}");
    let turns = &seen["inspector"];
    for key in ["reaches", "first", "second", "stays"] {
        assert_eq!(turns[key], true, "{key}: {turns}");
    }
    assert_eq!(turns["pauses"], "Watch the turns", "{turns}");
    assert_eq!(
        (&turns["steps"], &turns["ring"]),
        (&1.into(), &8.into()),
        "{turns}"
    );
    assert!(turns["bars"].as_u64() >= Some(2), "its parts: {turns}");
    let summary = turns["summary"].as_str().expect("a text");
    assert!(summary.contains(" events, "), "{turns}");
    let figures = &seen["figures"];
    assert_eq!(
        (&figures["moved"], &figures["agrees"]),
        (&true.into(), &true.into()),
        "{figures}"
    );
    assert!(figures["answers"].as_u64() >= Some(3), "{figures}");
    assert!(
        figures["p99"]
            .as_str()
            .is_some_and(|told| told.ends_with('s')),
        "{figures}"
    );
    let timeline = &seen["timeline"];
    assert_eq!(timeline["reaches"], true, "{timeline}");
    assert_eq!(timeline["title"], timeline["focus"], "{timeline}");
    let told = |key: &str| timeline[key].as_str().expect("a text");
    assert!(told("title").contains(": http, 127.0.0.1:"), "{timeline}");
    assert!(
        told("standing").contains("waits for protocol, at most"),
        "{timeline}"
    );
    assert!(told("serves").contains("request: GET /"), "{timeline}");
    let steps = timeline["steps"].as_array().expect("steps");
    for (words, place) in [
        ("recv: ", "src/reactor/half.rs fill"),
        ("stays Idle: ", "src/services/web/mod.rs advance"),
        ("is woken: event", "src/reactor/mod.rs note"),
    ] {
        let is_it = |step: &&Value| {
            let is_told = step[0].as_str().is_some_and(|text| text.starts_with(words));
            is_told && step[1] == place
        };
        assert!(steps.iter().any(|step| is_it(&step)), "{words}: {timeline}");
    }
    assert_eq!(seen["closes"], true, "{seen}");
    assert_ne!(seen["dark"][0], seen["dark"][1], "{seen}");
    let width = |place: usize| seen["width"][place].as_u64().expect("a width");
    assert!(
        width(0) <= width(1),
        "it is wider than a narrow screen: {seen}"
    );
    let complaints = seen["complaints"].as_array().expect("a list");
    let of_page = |line: &&Value| {
        !line
            .as_str()
            .is_some_and(|line| line.contains("favicon.ico"))
    };
    assert_eq!(complaints.iter().filter(of_page).count(), 0, "{seen}");
    server.stop();
}

#[test]
#[ignore = "needs chromium, chromedriver and python3"]
fn the_dashboard_works_below_the_prefix_of_a_route() {
    let route = "kind = \"http\"\nroute = [{ prefix = \"/inside/\", admin = true }]\n";
    let server = Program::start(&CONFIG.replacen("kind = \"http\"\n", route, 1));
    let seen = browsed(&server, "http", &["--below", "/inside"]);
    assert_eq!(seen["beside"], serde_json::json!([]), "{seen}");
    assert!(seen["asked"].as_u64() > Some(8), "{seen}");
    let (turns, figures) = (&seen["inspector"], &seen["figures"]);
    let all = [
        &turns["first"],
        &turns["second"],
        &figures["moved"],
        &figures["agrees"],
    ];
    assert!(all.iter().all(|seen| **seen == true), "{seen}");
    let title = seen["timeline"].as_str().expect("a text");
    assert!(title.contains(": tcp-echo, 127.0.0.1:"), "{seen}");
    server.stop();
}

/// A simulation is recorded; the record, and what it told.
fn simulated(flags: &[&str]) -> (tempfile::TempDir, PathBuf) {
    simulated_by(&[&["--seed", "3", "--clients", "2"], flags].concat())
}

fn simulated_by(flags: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let folder = common::temp_dir();
    let record = folder.path().join("run.rec");
    let mut simulate = common::command(&["simulate", "--record"]);
    simulate.arg(&record).args(flags);
    simulate.output().expect("the program runs");
    (folder, record)
}

fn show(record: &Path, flags: &[&str]) -> Program {
    let arguments = [&["replay", "--serve", "--at", "127.0.0.1:0"], flags].concat();
    let mut command = common::command(&arguments);
    command.arg(record);
    Program::start_command(command, common::temp_dir())
}

/// The numbers that the page has of its turns: the first, and the one behind the last.
fn numbers(page: &str) -> (usize, usize) {
    let number = |key: &str| {
        let (_, rest) = page.split_once(&format!("{key}=\"")).expect(key);
        let (digits, _) = rest.split_once('"').expect(key);
        digits.parse().expect("a number")
    };
    (number("data-first"), number("data-end"))
}

#[test]
fn a_record_is_shown_in_the_dashboard_turn_by_turn() {
    let (_folder, record) = simulated(&[]);
    let shown = show(&record, &[]);
    let (_, page) = get(&shown, "admin", "/");
    for told in ["a simulation (simulate --seed 3", "exact to its end"] {
        assert!(page.contains(told), "{told}: {page}");
    }
    let (first, end) = numbers(&page);
    assert!(first == 1 && end > 100, "{first} to {end}");
    let turns = |query: &str| -> Vec<Value> {
        let (status, body) = get(&shown, "admin", &format!("/turns.json?{query}"));
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).expect("turns")
    };
    // All of them, each once, in both directions.
    let mut forth = Vec::new();
    while forth.len() < end - 1 {
        let some = turns(&format!("from={}", 1 + forth.len()));
        assert!(!some.is_empty());
        forth.extend(some);
    }
    let mut back: Vec<Value> = Vec::new();
    while back.len() < end - 1 {
        let some = turns(&format!("before={}", end - back.len()));
        assert!(!some.is_empty());
        back.splice(0..0, some);
    }
    assert_eq!(forth.len(), end - 1);
    assert!(forth == back, "the same turns");
    let records: Vec<&Value> = forth
        .iter()
        .flat_map(|turn| turn.as_array().expect("records"))
        .collect();
    assert!(forth.iter().all(|turn| turn[0]["what"] == "turn"));
    assert_eq!(turns("last=1"), [forth[forth.len() - 1].clone()]);
    assert_eq!(turns(&format!("from={end}")).len(), 0);
    assert_eq!(get(&shown, "admin", "/turns.json?from=x").0, 400);
    // Every session that there was, with what was done for it.
    let listed = sessions(&shown);
    let began = records.iter().filter(|record| record["what"] == "began");
    assert_eq!(listed.len(), began.count());
    let id = listed[0]["id"].as_u64().expect("a number");
    let (status, one) = get(&shown, "admin", &format!("/sessions/{id}.json"));
    assert_eq!(status, 200, "{one}");
    let one: Value = serde_json::from_str(&one).expect("JSON");
    let whats: Vec<&Value> = one["records"]
        .as_array()
        .expect("records")
        .iter()
        .map(|r| &r["what"])
        .collect();
    assert!(
        whats[0] == "began" && whats[whats.len() - 1] == "ended",
        "{whats:?}"
    );
    let (_, events) = get(&shown, "admin", &format!("/events?session={id}"));
    assert!(
        events.contains("\"what\":\"began\"") && events.contains("event: end\n"),
        "{events}"
    );
    let (_, told) = get(&shown, "admin", "/trace?seconds=1&format=text");
    let count = told.matches("turn begins").count();
    assert_eq!(count, end - 1, "all of it is a trace");
    // What was counted then is told of, not what is now.
    let (_, metrics) = get(&shown, "admin", "/metrics");
    assert!(
        metrics.contains("listener=\"upload\"") && !metrics.contains("listener=\"replay\""),
        "{metrics}"
    );
    shown.stop();
}

#[test]
fn what_a_recorded_process_counted_is_told_and_stays_as_it_is() {
    let (_folder, record) = simulated(&[]);
    let shown = show(&record, &[]);
    let (_, metrics) = get(&shown, "admin", "/metrics");
    let (_, status) = get(&shown, "admin", "/status.json");
    let told: Value = serde_json::from_str(&status).expect("JSON");
    let uptime = told["uptime"].as_f64().expect("seconds");
    assert!((1.0..600.0).contains(&uptime), "simulated: {uptime}");
    let began = metrics
        .lines()
        .find_map(|line| line.strip_prefix("netlab_start_time_seconds "));
    let began: f64 = began.expect("a metric").parse().expect("a number");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let ago = now.expect("a time").as_secs_f64() - began;
    assert!(ago.abs() > 1e6, "it is the simulated clock: {began}");
    let jobs = metrics
        .lines()
        .filter(|line| line.starts_with("netlab_disk_jobs_total{"));
    assert!(jobs.clone().any(|line| !line.ends_with(" 0")), "{metrics}");
    for of_this_process in ["netlab_cpu_seconds", "netlab_resident_memory_bytes"] {
        assert!(!metrics.contains(of_this_process), "{metrics}");
    }
    assert_eq!(get(&shown, "admin", "/metrics").1, metrics);
    assert_eq!(get(&shown, "admin", "/status.json").1, status);
    let (code, stores) = get(&shown, "admin", "/cache.json");
    assert_eq!(code, 404, "{stores}");
    shown.stop();
}

#[test]
fn a_record_that_a_panic_ended_is_shown_to_its_last_turn() {
    let flags = ["--seed", "2", "--planted", "job-wake-lost"];
    let (_folder, record) = simulated_by(&flags);
    let shown = show(&record, &[]);
    let (_, page) = get(&shown, "admin", "/");
    // A build that ends at once has no time to say why in the record.
    let why = ["a panic: a job is done and nobody was told", "it is cut"];
    assert!(why.iter().any(|why| page.contains(why)), "{page}");
    assert!(page.contains(&format!(" {} turns, ", numbers(&page).1 - 1)));
    let (_, last) = get(&shown, "admin", "/turns.json?last=1");
    let last: Vec<Vec<Value>> = serde_json::from_str(&last).expect("turns");
    let begun = last[0].iter().find(|record| record["what"] == "job_begun");
    let begun = begun.unwrap_or_else(|| panic!("{last:?}"));
    assert_eq!(begun["text"], "the disk is asked to store");
    let id = &begun["id"];
    let waiting = sessions(&shown).into_iter().find(|row| row["id"] == *id);
    let waiting = waiting.unwrap_or_else(|| panic!("no session {id}"));
    assert_eq!(
        (&waiting["listener"], &waiting["state"]),
        (&"upload".into(), &"Storing".into())
    );
    let (_, one) = get(&shown, "admin", &format!("/sessions/{id}.json"));
    assert!(one.contains("Small becomes Storing"), "{one}");
    shown.stop();
}

#[test]
fn a_record_is_shown_up_to_a_turn_and_a_damaged_one_up_to_where_it_is_damaged() {
    let (folder, record) = simulated(&["--planted", "half-close-drops"]);
    let shown = show(&record, &["--until", "40"]);
    let (_, page) = get(&shown, "admin", "/");
    assert_eq!(numbers(&page), (1, 41));
    assert!(page.contains("exact up to here"), "{page}");
    let living = sessions(&shown);
    assert!(
        living.iter().any(|row| row["state"] != "ended"),
        "{living:?}"
    );
    shown.stop();
    let shown = show(&record, &["--ring-bytes", "4KiB"]);
    let (first, end) = numbers(&get(&shown, "admin", "/").1);
    assert!(first > 1 && end > first, "the newest: {first} to {end}");
    assert_eq!(get(&shown, "admin", "/turns.json?from=1").0, 200);
    shown.stop();
    let bytes = std::fs::read(&record).expect("a record");
    let cut = folder.path().join("cut.rec");
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).expect("a file");
    let shown = show(&cut, &[]);
    let (_, page) = get(&shown, "admin", "/");
    let last = numbers(&page).1 - 1;
    let told = format!(" {last} turns, it stops where it should not: in turn ");
    assert!(page.contains(&told), "{page}");
    assert!(numbers(&page).1 > 20, "{page}");
    shown.stop();
}

#[test]
#[ignore = "needs chromium, chromedriver and python3"]
fn a_record_is_shown_in_a_browser() {
    let (_folder, record) = simulated(&[]);
    let shown = show(&record, &[]);
    let seen = look(shown.address("admin"), &["--record"]);
    let seen: Value = serde_json::from_str(&seen).expect("JSON");
    let told = |key: &str| seen[key].as_str().expect("a text");
    assert!(told("about").contains("a simulation"), "{seen}");
    assert!(seen["last"].as_u64() > Some(100), "{seen}");
    assert!(told("summary").contains(" events, "), "{seen}");
    assert_eq!(
        seen["watch"], true,
        "there is nothing to be watched: {seen}"
    );
    assert!(told("standing").starts_with("ends: "), "{seen}");
    assert_eq!(seen["held"], true, "{seen}");
    let rate = |place: usize| seen["rate"][place].as_f64().expect("a rate");
    assert!(rate(1) > 1.0 && (rate(0) - rate(1)).abs() <= 0.5, "{seen}");
    assert!(seen["bars"].as_u64() > Some(0), "{seen}");
    let width = |place: usize| seen["width"][place].as_u64().expect("a width");
    assert!(width(0) <= width(1), "{seen}");
    assert_eq!(seen["complaints"], serde_json::json!([]), "{seen}");
    shown.stop();
}
