//! The admin listener: is the process alive, is it ready, what has it counted. It goes on answering
//! while the process drains, because that is when somebody wants to know.
//!
//! ```text
//! Idle ──a byte──▶ Head ──whole──▶ answered ──keep-alive──▶ Idle
//!   └── the client's end, or `idle_timeout`        └── otherwise ──▶ closed
//! ```
//!
//! HTTP/1.1 (RFC 9112), GET and HEAD only, and nothing for pages of other sites ([`same_site`]). A
//! request with a body is answered and the connection closed: nothing here takes one. What is
//! answered is `pages`, pure functions of what was counted: `exposition`, `status` and `index`,
//! each over the table of metrics ([`crate::metrics::METRICS`]).

mod exposition;
mod index;
mod pages;
mod process;
mod status;

use std::time::{Duration, Instant, SystemTime};

use crate::config::AdminConfig;
use crate::ending::{Error, Phase};
use crate::http::head::{
    self, BodyLength, HeadScanner, Limits, Parsed, RequestHead, put_head_end, put_header,
    put_header_number, put_status_line,
};
use crate::http::{Method, Status, Version, same_site};
use crate::service::{Cx, Io, Peer, Service};
use pages::Page;

/// Room asked for before a request is answered: the largest page of a process with a hundred
/// listeners is about as long.
const ANSWER_BYTES: usize = 128 * 1024;

/// The admin service.
pub struct Admin {
    hosts: Vec<String>,
    idle_timeout: Duration,
    head_timeout: Duration,
    limits: Limits,
    started: SystemTime,
}

/// One connection: which part of a request it waits for.
pub enum Conn {
    /// The first byte of the next one.
    Idle {
        /// Until when.
        until: Instant,
    },
    /// The rest of a head.
    Head {
        /// How far it was searched.
        scanner: HeadScanner,
        /// Until when, counted from its first byte.
        until: Instant,
    },
}

/// How an answer is sent: what its request said about it.
struct Manner {
    has_body: bool,
    keep_alive: bool,
    version: Version,
}

impl Admin {
    /// A service as configured, in a process that began to serve at `started`.
    pub fn new(config: &AdminConfig, started: SystemTime) -> Self {
        Self {
            hosts: config.hosts.clone(),
            idle_timeout: config.idle_timeout,
            head_timeout: config.head_timeout,
            limits: Limits {
                head_bytes_max: config.head_bytes_max,
                ..Limits::default()
            },
            started,
        }
    }

    fn answer(&self, request: &RequestHead<'_>, cx: &mut Cx<'_>) -> Page {
        if let Err(foreign) = same_site::check(request, &self.hosts) {
            return Page::text(foreign.status(), format!("{}\n", foreign.text()));
        }
        if !matches!(request.method, Method::Get | Method::Head) {
            let text = format!("{} is not for here: expected GET or HEAD\n", request.method);
            let status = match request.method {
                Method::Other(_) => Status::NOT_IMPLEMENTED,
                _ => Status::METHOD_NOT_ALLOWED,
            };
            return Page::text(status, text);
        }
        let path = request.target.path().unwrap_or_default();
        pages::answer(path, &pages::view(cx, self.started))
    }
}

impl Page {
    fn put(&self, manner: &Manner, io: &mut Io<'_>) {
        let mut bytes = Vec::with_capacity(256 + self.body.len());
        put_status_line(&mut bytes, self.status);
        put_header(&mut bytes, "Date", httpdate::fmt_http_date(io.cx.wall));
        put_header(&mut bytes, "Content-Type", self.content_type);
        put_header_number(&mut bytes, "Content-Length", self.body.len() as u64);
        put_header(&mut bytes, "Cache-Control", "no-store");
        if self.status == Status::METHOD_NOT_ALLOWED {
            put_header(&mut bytes, "Allow", "GET, HEAD");
        }
        match (manner.keep_alive, manner.version) {
            (false, _) => put_header(&mut bytes, "Connection", "close"),
            (true, Version::Http10) => put_header(&mut bytes, "Connection", "keep-alive"),
            (true, Version::Http11) => {}
        }
        put_head_end(&mut bytes);
        if manner.has_body {
            bytes.extend_from_slice(self.body.as_bytes());
        }
        io.down.tx.put(&bytes, io.cx.pool);
    }
}

impl Service for Admin {
    type Conn = Conn;
    const CLIENT_FIRST: bool = true;

    fn accept(&mut self, _peer: &Peer, now: Instant) -> Conn {
        Conn::Idle {
            until: now + self.idle_timeout,
        }
    }

    fn advance(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        loop {
            match conn {
                Conn::Idle { until } => {
                    if io.drained {
                        *until = io.cx.now + self.idle_timeout;
                    }
                    if io.down.rx.is_empty() {
                        if io.down.eof {
                            io.close();
                        } else if io.cx.now >= *until && io.down.tx.is_empty() {
                            return Err(Error::TimedOut(Phase::Idle));
                        }
                        return Ok(());
                    }
                    *conn = Conn::Head {
                        scanner: HeadScanner::default(),
                        until: io.cx.now + self.head_timeout,
                    };
                }
                Conn::Head { scanner, until } => {
                    if !io.down.tx.has_room(ANSWER_BYTES) {
                        return Ok(());
                    }
                    let (page, manner, consumed) =
                        match scanner.request(io.down.rx.bytes(), &self.limits) {
                            Ok(Parsed::Partial) if io.down.eof => {
                                let text = "the stream ended within a request head\n";
                                let page = Page::text(Status::BAD_REQUEST, text);
                                (page, Manner::LAST, io.down.rx.len())
                            }
                            Ok(Parsed::Partial) if io.cx.now >= *until && io.down.tx.is_empty() => {
                                return Err(Error::TimedOut(Phase::Head));
                            }
                            Ok(Parsed::Partial) => return Ok(()),
                            Ok(Parsed::Complete(request, consumed)) => {
                                let manner = Manner {
                                    has_body: request.method != Method::Head,
                                    keep_alive: request.keep_alive
                                        && request.body == BodyLength::None
                                        && !io.cx.draining,
                                    version: request.version,
                                };
                                (self.answer(&request, &mut io.cx), manner, consumed)
                            }
                            Err(error) => (refusal(error), Manner::LAST, io.down.rx.len()),
                        };
                    page.put(&manner, io);
                    io.down.rx.consume(consumed);
                    *conn = Conn::Idle {
                        until: io.cx.now + self.idle_timeout,
                    };
                    if !manner.keep_alive {
                        io.close();
                        return Ok(());
                    }
                }
            }
        }
    }

    fn deadline(&self, conn: &Conn) -> Instant {
        match conn {
            Conn::Idle { until } | Conn::Head { until, .. } => *until,
        }
    }
}

impl Manner {
    /// After a head that could not be read.
    const LAST: Self = Self {
        has_body: true,
        keep_alive: false,
        version: Version::Http11,
    };
}

fn refusal(error: head::HeadError) -> Page {
    Page::text(error.status(), format!("{error}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ending::Ending;
    use crate::metrics::{Counted, Limit, ListenerMetrics};
    use crate::service::datagram::DatagramService;
    use crate::services::bench::Bench;
    use crate::services::{http::Http, tcp_echo::TcpEcho, udp_heartbeat::UdpHeartbeat};
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn bench() -> Bench<Admin> {
        let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_791_999_000);
        let mut bench = Bench::new(Admin::new(&AdminConfig::default(), started));
        bench.metrics.listeners = [
            ("echo", "tcp-echo", "127.0.0.1:12000", TcpEcho::counts()),
            ("a\"\\<b>", "tcp-echo", "unix:/x", TcpEcho::counts()),
            (
                "beats",
                "udp-heartbeat",
                "127.0.0.1:12001",
                UdpHeartbeat::counts(),
            ),
            ("http", "http", "127.0.0.1:6789", Http::counts()),
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
    fn answer(bench: &mut Bench<Admin>) -> (String, String, String) {
        let text = String::from_utf8(bench.received()).expect("UTF-8");
        let (head, body) = text.split_once("\r\n\r\n").expect("a head");
        let (status, head) = head.split_once("\r\n").expect("a status line");
        (status.to_owned(), head.to_owned(), body.to_owned())
    }

    fn get(bench: &mut Bench<Admin>, path: &str) -> (String, String, String) {
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
        assert!(head.contains("Allow: GET, HEAD"), "{head}");
        assert!(body.contains("DELETE"), "{body}");
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
            let mut bench = Bench::new(Admin::new(&config, SystemTime::UNIX_EPOCH));
            bench.peer_sends(format!("GET {path} HTTP/1.1\r\n{lines}\r\n\r\n").as_bytes());
            let (line, _, body) = answer(&mut bench);
            let expected = format!("HTTP/1.1 {status} ");
            assert!(line.starts_with(&expected), "{path} {lines}: {line} {body}");
            bench.expect_open();
        }
    }

    #[test]
    fn a_request_with_a_body_is_the_last() {
        let mut bench = bench();
        bench.peer_sends(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n");
        assert_eq!(answer(&mut bench).0, "HTTP/1.1 405 Method Not Allowed");
        bench.expect_closed();
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
                assert_eq!(name, family);
                assert!(name.starts_with("netlab_"), "{line}");
                assert!(value.parse::<f64>().is_ok(), "{line}");
                assert!(samples.insert(sample), "{sample} twice");
            }
        }
        for line in [
            "netlab_turns_total 7",
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
        assert_eq!(status["uptime"], 1000.0);
        let (_, _, body) = get(&mut bench, "/");
        assert!(body.contains("<td>a&quot;\\&lt;b>"), "{body}");
    }

    #[test]
    fn a_dawdling_head_and_an_idle_connection_are_dropped() {
        let seconds = Duration::from_secs;
        let mut slow = bench();
        slow.peer_sends(b"GET").later(seconds(6)).peer_sends(b" ");
        slow.later(seconds(4));
        assert!(matches!(slow.failed, Some(Error::TimedOut(Phase::Head))));
        let mut idle = bench();
        idle.later(seconds(59)).peer_sends(&request("GET", "/"));
        idle.received();
        idle.later(seconds(59)).expect_open().later(seconds(1));
        assert!(matches!(idle.failed, Some(Error::TimedOut(Phase::Idle))));
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
}
