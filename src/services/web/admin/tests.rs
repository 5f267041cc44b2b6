//! Dialogues on the bench.

use super::*;
use crate::disk::{DiskId, File, Handle};
use crate::ending::{Ending, Phase};
use crate::jobs::Query;
use crate::metrics::{Counted, Limit, ListenerMetrics};
use crate::service::datagram::DatagramService;
use crate::service::{Service, Waiter};
use crate::services::bench::Bench;
use crate::services::web::{Given, Web};
use crate::services::{tcp_echo::TcpEcho, udp_heartbeat::UdpHeartbeat};
use crate::sys::unix;
use proptest::prelude::*;
use std::collections::HashSet;
use std::io;
use std::time::Duration;

fn bench_with(config: &AdminConfig, started: SystemTime) -> Bench<Web> {
    let mut disk = unix::Files::default();
    let given = Given {
        started,
        ..Given::default()
    };
    Bench::new(Web::admin(config, &given, &mut disk).expect("nothing to open"))
}

fn bench() -> Bench<Web> {
    let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_791_999_000);
    let mut bench = bench_with(&AdminConfig::default(), started);
    bench.metrics.listeners = [
        ("echo", "tcp-echo", "127.0.0.1:12000", TcpEcho::counts()),
        ("a\"\\<b>", "tcp-echo", "unix:/x", TcpEcho::counts()),
        (
            "beats",
            "udp-heartbeat",
            "127.0.0.1:12001",
            UdpHeartbeat::counts(),
        ),
        ("http", "http", "127.0.0.1:6789", Web::counts()),
    ]
    .map(|(name, kind, at, of)| ListenerMetrics::new(name, kind, at.to_owned(), of))
    .into_iter()
    .enumerate()
    .collect();
    bench
}

fn request(method: &str, path: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes()
}

/// Status line, head and body of the only answer.
fn answer(bench: &mut Bench<Web>) -> (String, String, String) {
    let text = String::from_utf8(bench.received()).expect("UTF-8");
    let (head, body) = text.split_once("\r\n\r\n").expect("a head");
    let (status, head) = head.split_once("\r\n").expect("a status line");
    (status.to_owned(), head.to_owned(), body.to_owned())
}

fn get(bench: &mut Bench<Web>, path: &str) -> (String, String, String) {
    bench.peer_sends(&request("GET", path));
    answer(bench)
}

#[test]
fn health_follows_the_drain() {
    let mut bench = bench();
    assert_eq!(get(&mut bench, "/livez").2, "ok\n");
    assert_eq!(get(&mut bench, "/readyz").0, "HTTP/1.1 200 OK");
    bench.expect_open();
    (bench.draining, bench.metrics.draining) = (true, true);
    bench.step();
    bench.expect_open();
    let (status, head, body) = get(&mut bench, "/readyz?verbose");
    assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
    assert!(head.contains("Connection: close"), "{head}");
    assert_eq!(body, "draining\n");
    bench.expect_closed();
}

#[test]
fn other_pages_and_methods_are_told_what_there_is() {
    let mut bench = bench();
    let (status, _, body) = get(&mut bench, "/nothing");
    assert_eq!(status, "HTTP/1.1 404 Not Found");
    assert!(body.contains("/metrics"), "{body}");
    bench.peer_sends(&request("DELETE", "/metrics"));
    let (status, head, body) = answer(&mut bench);
    assert_eq!(status, "HTTP/1.1 405 Method Not Allowed");
    assert!(head.contains("Allow: GET, HEAD, OPTIONS"), "{head}");
    assert!(body.contains("other methods"), "{body}");
    bench.expect_open().peer_sends(b"nonsense\r\n\r\n");
    assert_eq!(answer(&mut bench).0, "HTTP/1.1 400 Bad Request");
    bench.expect_closed();
}

#[test]
fn pages_are_for_nobody_elses_names_and_pages() {
    for (path, lines, status) in [
        ("/livez", "Host: 192.0.2.1:9090", 200),
        ("/livez", "Host: metrics.lan", 200),
        ("/livez", "Host: rebound.example", 421),
        ("/metrics", "Host: rebound.example:9090", 421),
        ("/nothing", "Host: rebound.example", 421),
        (
            "/metrics",
            "Host: [::1]\r\nOrigin: http://evil.example",
            403,
        ),
        ("/", "Host: [::1]\r\nSec-Fetch-Site: same-site", 403),
        (
            "/",
            "Host: [::1]:1\r\nOrigin: http://[::1]:1\r\nSec-Fetch-Site: same-origin",
            200,
        ),
    ] {
        let config = AdminConfig {
            hosts: vec!["metrics.lan".to_owned()],
            ..AdminConfig::default()
        };
        let mut bench = bench_with(&config, SystemTime::UNIX_EPOCH);
        bench.peer_sends(format!("GET {path} HTTP/1.1\r\n{lines}\r\n\r\n").as_bytes());
        let (line, _, body) = answer(&mut bench);
        let expected = format!("HTTP/1.1 {status} ");
        assert!(line.starts_with(&expected), "{path} {lines}: {line} {body}");
        bench.expect_open();
    }
}

#[test]
fn a_request_with_a_body_is_answered_and_its_body_dropped() {
    let mut bench = bench();
    bench.peer_sends(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n");
    assert_eq!(answer(&mut bench).0, "HTTP/1.1 405 Method Not Allowed");
    bench.peer_sends(b"123456789").expect(b"");
    assert_eq!(get(&mut bench, "/livez").2, "ok\n");
}

#[test]
fn head_is_get_without_the_body() {
    let mut bench = bench();
    let (_, get_head, body) = get(&mut bench, "/livez");
    bench.peer_sends(&request("HEAD", "/livez"));
    let (_, head, nothing) = answer(&mut bench);
    assert_eq!(head, get_head);
    assert!(head.contains(&format!("Content-Length: {}", body.len())));
    assert_eq!(nothing, "");
}

#[test]
fn metrics_are_in_the_text_format() {
    let mut bench = bench();
    bench.metrics.turns = 7;
    for us in [90, 1_500, 1_500] {
        let span = Duration::from_micros(us);
        bench.metrics.turn_lengths.record(span.into(), 1);
    }
    for _ in 0..3 {
        let echo = &mut bench.metrics.listeners[0];
        echo.accepted();
        echo.ended(Ending::TimedOut(Phase::Body), &Ok(()));
    }
    let mut http = Counted::new(&mut bench.metrics, 3);
    http.refused(Limit::ConnectionsPerAddress);
    http.log_lines_dropped(5);
    let (_, head, body) = get(&mut bench, "/metrics");
    assert!(
        head.contains("Content-Type: text/plain; version=0.0.4"),
        "{head}"
    );
    let mut families = HashSet::new();
    let mut samples = HashSet::new();
    let mut family = "";
    for line in body.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            let (name, _) = help.split_once(' ').expect("a text");
            assert!(families.insert(name), "{name} twice");
            family = name;
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').expect("a type");
            assert_eq!(name, family);
            assert_eq!(kind == "counter", name.ends_with("_total"), "{line}");
        } else {
            let (sample, value) = line.rsplit_once(' ').expect("a value");
            let name = sample.split('{').next().expect("a name");
            let of_histogram = ["_bucket", "_sum", "_count"];
            let is_part = |part: &&str| name.strip_suffix(*part) == Some(family);
            let is_it = name == family || of_histogram.iter().any(is_part);
            assert!(is_it, "{name} stands under {family}");
            assert!(name.starts_with("netlab_"), "{line}");
            assert!(value.parse::<f64>().is_ok(), "{line}");
            assert!(samples.insert(sample), "{sample} twice");
        }
    }
    for line in [
        "netlab_turns_total 8",
        "# TYPE netlab_turn_seconds histogram",
        "netlab_turn_seconds_bucket{le=\"0.0001\"} 1",
        "netlab_turn_seconds_bucket{le=\"0.0016\"} 3",
        "netlab_turn_seconds_bucket{le=\"+Inf\"} 3",
        "netlab_turn_seconds_sum 0.00309",
        "netlab_turn_seconds_count 3",
        "netlab_start_time_seconds 1791999000",
        "netlab_timeouts_total{listener=\"echo\",kind=\"tcp-echo\",address=\"127.0.0.1:12000\",phase=\"body\"} 3",
        "netlab_refusals_total{listener=\"http\",kind=\"http\",address=\"127.0.0.1:6789\",limit=\"connections_per_address\"} 1",
        "netlab_access_log_dropped_total{listener=\"http\",kind=\"http\",address=\"127.0.0.1:6789\"} 5",
        "netlab_sessions{listener=\"a\\\"\\\\<b>\",kind=\"tcp-echo\",address=\"unix:/x\"} 0",
        "netlab_heartbeat_senders{listener=\"beats\",kind=\"udp-heartbeat\",address=\"127.0.0.1:12001\",state=\"late\"} 0",
    ] {
        assert!(
            body.lines().any(|l| l == line),
            "{line} is missing:\n{body}"
        );
    }
    assert!(families.contains("netlab_resident_memory_bytes"));
}

#[test]
fn jobs_for_the_disk_are_told_by_kind() {
    let mut bench = bench();
    let root = File::new(Handle::Simulated(1), DiskId(1), true);
    let mut ask = |path: &str| {
        let (root, path) = (root.clone(), path.into());
        let asked = bench
            .jobs
            .ask(Waiter::Service, Query::Open { root, path }, bench.now);
        assert!(asked.is_pending());
    };
    ask("a");
    ask("b");
    let later = bench.now + Duration::from_millis(500);
    let (id, job) = bench.jobs.poll_start(later).expect("a job");
    let missing = Err(io::ErrorKind::NotFound.into());
    let end = later + Duration::from_secs(2);
    bench.jobs.finished(id, job, missing, end);
    let (_, _, body) = get(&mut bench, "/metrics");
    for line in [
        "netlab_disk_jobs_total{kind=\"open\"} 1",
        "netlab_disk_jobs_failed_total{kind=\"open\"} 1",
        "netlab_disk_jobs_total{kind=\"read\"} 0",
        "netlab_disk_wait_seconds_total{kind=\"open\"} 0.5",
        "netlab_disk_job_seconds_total{kind=\"open\"} 2",
        "netlab_disk_jobs_waiting 1",
        "netlab_disk_jobs_under_way 0",
    ] {
        let is_there = body.lines().any(|told| told == line);
        assert!(is_there, "{line} is missing:\n{body}");
    }
    let (_, _, body) = get(&mut bench, "/status.json");
    let status: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(
        status["disk"]["finished"]["open"], 2,
        "the bench did the other one"
    );
    assert_eq!(status["disk"]["waiting"], 0);
    let (_, _, body) = get(&mut bench, "/");
    assert!(body.contains("disk.job_seconds<td>open 2\n"), "{body}");
}

#[test]
fn the_status_is_json_and_the_index_is_escaped() {
    let mut bench = bench();
    let (_, head, body) = get(&mut bench, "/status.json");
    assert!(head.contains("Content-Type: application/json"), "{head}");
    let status: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(status["listeners"][0]["timed_out"]["body"], 0);
    assert_eq!(status["listeners"][2]["senders"]["dead"], 0);
    assert_eq!(status["listeners"][3]["refused"]["connections"], 0);
    assert_eq!(status["listeners"][2]["heartbeats"]["changes"]["back"], 0);
    assert_eq!(status["page_bytes_kept"], 0);
    assert_eq!(status["turn_seconds"]["count"], 0);
    assert_eq!(status["turn_seconds"]["up_to"]["0.0016"], 0);
    assert_eq!(status["uptime"], 1000.0);
    let (_, _, body) = get(&mut bench, "/");
    assert!(body.contains("<td>a&quot;\\&lt;b&gt;"), "{body}");
}

#[test]
fn a_page_about_many_listeners_is_written_in_pieces_and_whole() {
    let page = |path: &str, share: Duration| {
        let mut bench = bench();
        for i in 0..500 {
            let (name, at) = (format!("echo{i}"), format!("127.0.0.1:{i}"));
            let of = TcpEcho::counts();
            let listener = ListenerMetrics::new(&name, "tcp-echo", at, of);
            bench.metrics.listeners.insert(listener);
        }
        bench.share = share;
        let (status, _, body) = get(&mut bench, path);
        assert_eq!(status, "HTTP/1.1 200 OK");
        // It is made anew for who asks later.
        assert_eq!(
            get(&mut bench, path).2.lines().count(),
            body.lines().count()
        );
        let of_process = |line: &&str| line.contains("echo");
        let of_listeners: Vec<String> =
            body.lines().filter(of_process).map(str::to_owned).collect();
        let turns = bench.metrics.turns;
        (of_listeners, turns)
    };
    for path in ["/metrics", "/"] {
        let (whole, at_once) = page(path, Duration::MAX);
        let (pieces, turns) = page(path, Duration::from_micros(50));
        assert!(whole.len() >= 500 && pieces == whole, "{path}");
        assert!(turns > at_once + 4, "{path}: {turns} turns");
    }
    let mut bench = bench();
    bench.share = Duration::from_nanos(1);
    let (_, _, body) = get(&mut bench, "/status.json");
    let status: serde_json::Value = serde_json::from_str(&body).expect("JSON");
    assert_eq!(status["listeners"].as_array().expect("a list").len(), 4);
}

#[test]
fn a_dawdling_head_and_an_idle_connection_are_dropped() {
    let seconds = Duration::from_secs;
    let mut slow = bench();
    slow.peer_sends(b"GET").later(seconds(6)).peer_sends(b" ");
    slow.later(seconds(4));
    assert_eq!(slow.ending, Ending::TimedOut(Phase::Head));
    let mut idle = bench();
    idle.later(seconds(9)).peer_sends(&request("GET", "/"));
    idle.received();
    idle.later(seconds(59)).expect_open().later(seconds(1));
    assert_eq!(idle.ending, Ending::TimedOut(Phase::Idle));
}

#[test]
fn no_cut_shows() {
    let all = [
        request("GET", "/livez"),
        request("HEAD", "/readyz"),
        request("GET", "/x"),
        b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_vec(),
    ]
    .concat();
    let outcome = |pieces: &[&[u8]]| {
        let mut bench = bench();
        pieces.iter().for_each(|piece| {
            bench.peer_sends(piece);
        });
        bench.expect_closed().received()
    };
    let expected = outcome(&[&all]);
    let bytes: Vec<&[u8]> = all.chunks(1).collect();
    assert_eq!(outcome(&bytes), expected);
    for cut in 1..all.len() {
        assert_eq!(
            outcome(&[&all[..cut], &all[cut..]]),
            expected,
            "cut at {cut}"
        );
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(pieces in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..80), 0..6)) {
        let mut bench = bench();
        for piece in pieces {
            bench.peer_sends(&piece);
        }
        bench.peer_closes();
        prop_assert!(bench.is_over());
    }
}
