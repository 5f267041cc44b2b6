//! The admin listener: is the process alive, is it ready, what has it counted. It goes on answering while the process
//! drains, because that is when somebody wants to know.
//!
//! ```text
//! Idle ──a byte──▶ Head ──whole──▶ answered ──keep-alive──▶ Idle
//!   └── the client's end, or `idle_timeout`        └── otherwise ──▶ closed
//! ```
//!
//! HTTP/1.1 (RFC 9112), GET and HEAD only, and nothing for pages of other sites ([`same_site`]). A request with a body is answered and the connection closed: nothing here takes
//! one. The pages are pure functions from the counters to text: see [`View`].

use std::fmt::Write as _;
use std::time::{Duration, Instant, SystemTime};

use serde_json::json;

use crate::config::AdminConfig;
use crate::disk::Disk;
use crate::dns::Counters;
use crate::ending::{Error, Phase};
use crate::http::head::{
    self, BodyLength, HeadScanner, Limits, Parsed, RequestHead, put_head_end, put_header,
    put_header_number, put_status_line,
};
use crate::http::{Method, Status, Version, same_site};
use crate::metrics::{Bar, Limit, ListenerMetrics, Metrics};
use crate::service::{Io, Peer, Service};

/// Room asked for before a request is answered; the largest page of a process with a hundred listeners is about as long.
const ANSWER_BYTES: usize = 128 * 1024;

/// Every page, for those who asked for another.
const PAGES: &str = "/, /livez, /readyz, /metrics, /status.json";

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

/// What is answered to one request.
struct Answer {
    status: Status,
    content_type: &'static str,
    body: String,
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

    fn answer(&self, request: &RequestHead<'_>, view: &View<'_>) -> Answer {
        if let Err(foreign) = same_site::check(request, &self.hosts) {
            return Answer::text(foreign.status(), format!("{}\n", foreign.text()));
        }
        if !matches!(request.method, Method::Get | Method::Head) {
            let text = format!("{} is not for here: expected GET or HEAD\n", request.method);
            let status = match request.method {
                Method::Other(_) => Status::NOT_IMPLEMENTED,
                _ => Status::METHOD_NOT_ALLOWED,
            };
            return Answer::text(status, text);
        }
        match request.target.path().unwrap_or_default() {
            "/" => Answer {
                content_type: "text/html; charset=utf-8",
                ..Answer::text(Status::OK, view.index())
            },
            "/livez" => Answer::text(Status::OK, "ok\n".to_owned()),
            "/readyz" if view.metrics.draining => {
                Answer::text(Status::SERVICE_UNAVAILABLE, "draining\n".to_owned())
            }
            "/readyz" => match view.down() {
                down if down.is_empty() => Answer::text(Status::OK, "ready\n".to_owned()),
                down => Answer::text(Status::SERVICE_UNAVAILABLE, down),
            },
            "/metrics" => Answer {
                content_type: "text/plain; version=0.0.4; charset=utf-8",
                ..Answer::text(Status::OK, view.prometheus())
            },
            "/status.json" => Answer {
                content_type: "application/json",
                ..Answer::text(Status::OK, view.json())
            },
            _ => Answer::text(
                Status::NOT_FOUND,
                format!("there is no such page: expected one of {PAGES}\n"),
            ),
        }
    }
}

impl Answer {
    fn text(status: Status, body: String) -> Self {
        Self {
            status,
            content_type: "text/plain; charset=utf-8",
            body,
        }
    }

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
                    let (answer, manner, consumed) =
                        match scanner.request(io.down.rx.bytes(), &self.limits) {
                            Ok(Parsed::Partial) if io.down.eof => {
                                let text = "the stream ended within a request head\n".to_owned();
                                let answer = Answer::text(Status::BAD_REQUEST, text);
                                (answer, Manner::LAST, io.down.rx.len())
                            }
                            Ok(Parsed::Partial) if io.cx.now >= *until && io.down.tx.is_empty() => {
                                return Err(Error::TimedOut(Phase::Head));
                            }
                            Ok(Parsed::Partial) => return Ok(()),
                            Ok(Parsed::Complete(request, consumed)) => {
                                let view = View {
                                    metrics: io.cx.counted.all(),
                                    resolver: io.cx.resolver.counters(),
                                    lookups: io.cx.resolver.lookups_under_way(),
                                    cached_names: io.cx.resolver.cached(),
                                    started: self.started,
                                    wall: io.cx.wall,
                                    process: Process::read(io.cx.disk),
                                };
                                let manner = Manner {
                                    has_body: request.method != Method::Head,
                                    keep_alive: request.keep_alive
                                        && request.body == BodyLength::None
                                        && !io.cx.draining,
                                    version: request.version,
                                };
                                (self.answer(&request, &view), manner, consumed)
                            }
                            Err(error) => (refusal(error), Manner::LAST, io.down.rx.len()),
                        };
                    answer.put(&manner, io);
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

fn refusal(error: head::HeadError) -> Answer {
    Answer::text(error.status(), format!("{error}\n"))
}

/// What the operating system says about this process; `None` where it does not say.
#[derive(Clone, Copy, Default)]
struct Process {
    resident_bytes: Option<u64>,
    cpu_s: Option<f64>,
}

impl Process {
    /// Reads `/proc/self` (`man 5 proc`): memory only, no disk is waited for.
    fn read(disk: &mut dyn Disk) -> Self {
        let mut text = |name: &str| {
            let folder = disk.open_folder("/proc/self".as_ref()).ok()?;
            let file = disk.open(&folder, name.as_ref()).ok()?;
            let mut bytes = [0; 4096];
            let count = disk.read_at(&file, 0, &mut bytes).ok()?;
            Some(String::from_utf8_lossy(&bytes[..count]).into_owned())
        };
        let resident_bytes = text("status").and_then(|status| {
            let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:"))?;
            let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
            Some(kib * 1024)
        });
        let cpu_s = text("stat").and_then(|stat| {
            // The second field is the program's name in brackets and may hold blanks; user and system time are the 14th and
            // 15th, in ticks of which the kernel's interface has a hundred to the second.
            let (_, fields) = stat.rsplit_once(')')?;
            let mut ticks = fields.split_ascii_whitespace().skip(11);
            let user: u64 = ticks.next()?.parse().ok()?;
            let system: u64 = ticks.next()?.parse().ok()?;
            Some((user + system) as f64 / 100.0)
        });
        Self {
            resident_bytes,
            cpu_s,
        }
    }
}

/// Everything that a page can show.
struct View<'a> {
    metrics: &'a Metrics,
    resolver: Counters,
    lookups: usize,
    cached_names: usize,
    started: SystemTime,
    wall: SystemTime,
    process: Process,
}

fn is_datagram(listener: &ListenerMetrics) -> bool {
    listener.kind.starts_with("udp-")
}

/// How sessions end, and how many of a listener's did.
fn ended(listener: &ListenerMetrics) -> [(&'static str, u64); 5] {
    [
        ("ok", listener.ended_ok),
        ("refused", listener.ended_refused),
        ("reset", listener.ended_reset),
        ("disk", listener.ended_disk),
        ("timed_out", listener.timed_out.iter().sum()),
    ]
}

/// The limits at which a web server refuses, and how often it did.
fn refused(listener: &ListenerMetrics) -> impl Iterator<Item = (&'static str, u64)> {
    let count = |limit: Limit| (limit.name(), listener.refused[limit as usize]);
    Limit::ALL.into_iter().map(count)
}

/// Why datagrams are dropped, and how many of a listener's were.
fn dropped(listener: &ListenerMetrics) -> [(&'static str, u64); 7] {
    [
        ("deny", listener.dropped_deny),
        ("rate", listener.dropped_rate),
        ("loop", listener.dropped_loop),
        ("loss", listener.dropped_loss),
        ("malformed", listener.dropped_malformed),
        ("unsent", listener.dropped_unsent),
        ("full", listener.dropped_full),
    ]
}

/// The states of heartbeat senders, and the changes between them.
const SENDER_STATES: [&str; 3] = ["up", "late", "dead"];
const SENDER_CHANGES: [&str; 4] = ["new", "late", "dead", "back"];

impl View<'_> {
    fn start_time_s(&self) -> f64 {
        self.started
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64()
    }

    fn uptime(&self) -> Duration {
        self.wall.duration_since(self.started).unwrap_or_default()
    }

    /// A line for each listener whose socket failed and that has no other one yet.
    fn down(&self) -> String {
        let listeners = self.metrics.listeners.iter();
        let down = listeners.filter(|(_, listener)| listener.is_down);
        down.map(|(_, listener)| format!("down: {listener}\n"))
            .collect()
    }

    fn index(&self) -> String {
        let mut rows = String::new();
        for (_, listener) in &self.metrics.listeners {
            let count = if is_datagram(listener) {
                format!("{} datagrams", listener.datagrams_in)
            } else {
                format!("{} of {} sessions", listener.active, listener.accepted)
            };
            // Writing to a String cannot fail.
            let _ = writeln!(
                rows,
                "<tr><td>{}<td>{}<td>{}<td>{count}",
                escaped(&listener.name),
                listener.kind,
                escaped(&listener.address),
            );
        }
        format!(
            "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>netlab-reactor</title>\n\
             <h1>netlab-reactor {}</h1>\n<p>{} for {} s\n\
             <table>\n<tr><th>name<th>kind<th>address<th>served\n{rows}</table>\n\
             <p><a href=\"/livez\">/livez</a> <a href=\"/readyz\">/readyz</a> \
             <a href=\"/metrics\">/metrics</a> <a href=\"/status.json\">/status.json</a>\n</html>\n",
            env!("CARGO_PKG_VERSION"),
            if self.metrics.draining {
                "draining, up"
            } else {
                "up"
            },
            self.uptime().as_secs(),
        )
    }

    fn json(&self) -> String {
        let Metrics {
            listeners, gauges, ..
        } = self.metrics;
        let listener = |listener: &ListenerMetrics| {
            let mut value = json!({
                "name": listener.name,
                "kind": listener.kind,
                "address": listener.address,
                "up": !listener.is_down,
                "failures": listener.failures,
                "bytes_received": listener.bytes_in,
                "bytes_sent": listener.bytes_out,
            });
            let named = |pairs: &[(&'static str, u64)]| {
                let entry = |&(name, count): &(&str, u64)| (name.to_owned(), json!(count));
                pairs.iter().map(entry).collect::<serde_json::Map<_, _>>()
            };
            if is_datagram(listener) {
                value["datagrams_received"] = json!(listener.datagrams_in);
                value["datagrams_sent"] = json!(listener.datagrams_out);
                value["datagrams_dropped"] = named(&dropped(listener)).into();
            } else {
                value["sessions"] = json!(listener.active);
                value["accepted"] = json!(listener.accepted);
                value["ended"] = named(&ended(listener)).into();
                let phases: Vec<_> = Phase::ALL
                    .iter()
                    .map(|phase| (phase.name(), listener.timed_out[*phase as usize]))
                    .collect();
                value["timed_out"] = named(&phases).into();
                let barred = Bar::ALL.map(|bar| (bar.name(), listener.barred[bar as usize]));
                value["connections_refused"] = named(&barred).into();
            }
            if listener.kind == "http" {
                let refused: Vec<_> = refused(listener).collect();
                value["refused"] = named(&refused).into();
            }
            if listener.kind == "udp-heartbeat" {
                let heartbeat = &listener.heartbeat;
                let states: Vec<_> = SENDER_STATES.into_iter().zip(heartbeat.senders).collect();
                value["senders"] = named(&states).into();
                value["heartbeats"] = json!({
                    "lost": heartbeat.lost,
                    "duplicates": heartbeat.duplicates,
                    "reordered": heartbeat.reordered,
                    "restarts": heartbeat.restarts,
                });
            }
            value
        };
        let value = json!({
            "version": env!("CARGO_PKG_VERSION"),
            "start_time": self.start_time_s(),
            "uptime": self.uptime().as_secs_f64(),
            "draining": self.metrics.draining,
            "resident_memory_bytes": self.process.resident_bytes,
            "cpu_seconds": self.process.cpu_s,
            "turns": self.metrics.turns,
            "events": self.metrics.events,
            "sessions": gauges.sessions,
            "sockets": gauges.sockets,
            "timers": gauges.timers,
            "pages": gauges.pages_held,
            "page_bytes": gauges.page_bytes_held,
            "page_bytes_kept": gauges.page_bytes_kept,
            "files_stored": self.metrics.files_stored,
            "file_bytes_stored": self.metrics.file_bytes_stored,
            "listeners": listeners.iter().map(|(_, l)| listener(l)).collect::<Vec<_>>(),
        });
        let mut text = value.to_string();
        text.push('\n');
        text
    }

    /// The text format of Prometheus, version 0.0.4.
    fn prometheus(&self) -> String {
        let mut out = Exposition::default();
        let metrics = self.metrics;
        let gauges = &metrics.gauges;

        out.gauge("build_info", "Which program this is.");
        out.sample(&[("version", env!("CARGO_PKG_VERSION"))], 1);
        out.gauge(
            "start_time_seconds",
            "When the process began to serve, since the epoch.",
        );
        out.sample(&[], self.start_time_s());
        if let Some(cpu_s) = self.process.cpu_s {
            out.counter("cpu_seconds", "Processor time used, of user and system.");
            out.sample(&[], cpu_s);
        }
        if let Some(bytes) = self.process.resident_bytes {
            out.gauge("resident_memory_bytes", "Memory that the process occupies.");
            out.sample(&[], bytes);
        }
        out.gauge(
            "draining",
            "1 while the process finishes what is under way before it ends.",
        );
        out.sample(&[], u8::from(metrics.draining));

        out.counter("turns", "Turns of the loop.");
        out.sample(&[], metrics.turns);
        out.counter("events", "Readiness events that the kernel told.");
        out.sample(&[], metrics.events);
        out.counter("events_stale", "Events for sessions that had ended.");
        out.sample(&[], metrics.events_stale);
        out.counter("pumps", "Sessions taken from the run queue.");
        out.sample(&[], metrics.pumps);
        out.gauge("runnable", "Sessions that wait in the run queue.");
        out.sample(&[], gauges.runnable);
        out.gauge("timers", "Reminders in the timer wheel.");
        out.sample(&[], gauges.timers);
        out.counter("timers_fired", "Reminders that came due.");
        out.sample(&[], metrics.timers_fired);
        out.gauge("pages", "Buffer pages in use.");
        out.sample(&[], gauges.pages_held);
        out.gauge(
            "page_bytes",
            "Memory of buffer pages, in use and kept for later.",
        );
        out.sample(&[("state", "held")], gauges.page_bytes_held);
        out.sample(&[("state", "kept")], gauges.page_bytes_kept);
        out.gauge(
            "page_bytes_max",
            "Memory of buffer pages in use above which send queues take little.",
        );
        out.sample(&[], gauges.page_bytes_max);
        out.gauge(
            "sockets",
            "Sockets of sessions, listeners and the resolver.",
        );
        out.sample(&[], gauges.sockets);
        out.counter(
            "accepts_shed",
            "Connections closed unserved for want of descriptors.",
        );
        out.sample(&[], metrics.accepts_shed);
        out.counter("access_log_lines", "Lines of the access logs.");
        out.sample(&[], metrics.access_log_lines);
        out.counter(
            "access_log_dropped",
            "Lines of the access logs that could not be written.",
        );
        out.sample(&[], metrics.access_log_dropped);
        out.counter(
            "log_dropped",
            "Lines of the log dropped because nobody read standard error.",
        );
        out.sample(&[], metrics.log_dropped);
        out.counter("files_stored", "Files that were uploaded whole.");
        out.sample(&[], metrics.files_stored);
        out.counter(
            "file_stored_bytes",
            "Bytes of the files that were uploaded whole.",
        );
        out.sample(&[], metrics.file_bytes_stored);

        let listeners = || metrics.listeners.iter().map(|(_, listener)| listener);
        let streams = || listeners().filter(|l| !is_datagram(l));
        let datagrams = || listeners().filter(|l| is_datagram(l));
        out.gauge(
            "listener_up",
            "0 while a listener's socket failed and it has no other one.",
        );
        listeners().for_each(|l| out.of(l, &[], u64::from(!l.is_down)));
        out.counter(
            "listener_failures",
            "Times that a listener's socket failed.",
        );
        listeners().for_each(|l| out.of(l, &[], l.failures));
        out.gauge("sessions", "Sessions that are open.");
        streams().for_each(|l| out.of(l, &[], l.active));
        out.counter("sessions_accepted", "Connections accepted.");
        streams().for_each(|l| out.of(l, &[], l.accepted));
        out.counter("sessions_ended", "Sessions that ended, by reason.");
        for listener in streams() {
            for (reason, count) in ended(listener) {
                out.of(listener, &[("reason", reason)], count);
            }
        }
        out.counter(
            "timeouts",
            "Sessions that ended by a time-out, by what they waited for.",
        );
        for listener in streams() {
            for phase in Phase::ALL {
                let count = listener.timed_out[phase as usize];
                out.of(listener, &[("phase", phase.name())], count);
            }
        }
        out.counter(
            "connections_refused",
            "Connections closed before a service saw them, by cause.",
        );
        for listener in streams() {
            for bar in Bar::ALL {
                let count = listener.barred[bar as usize];
                out.of(listener, &[("cause", bar.name())], count);
            }
        }
        out.counter(
            "refusals",
            "Clients and requests refused by a web server, by the limit.",
        );
        for listener in streams().filter(|listener| listener.kind == "http") {
            for (limit, count) in refused(listener) {
                out.of(listener, &[("limit", limit)], count);
            }
        }
        out.counter("received_bytes", "Bytes received from clients.");
        listeners().for_each(|l| out.of(l, &[], l.bytes_in));
        out.counter("sent_bytes", "Bytes sent to clients.");
        listeners().for_each(|l| out.of(l, &[], l.bytes_out));
        out.counter("datagrams_received", "Datagrams received.");
        datagrams().for_each(|l| out.of(l, &[], l.datagrams_in));
        out.counter("datagrams_sent", "Datagrams sent in answer.");
        datagrams().for_each(|l| out.of(l, &[], l.datagrams_out));
        out.counter(
            "datagrams_dropped",
            "Datagrams and answers dropped, by cause.",
        );
        for listener in datagrams() {
            for (cause, count) in dropped(listener) {
                out.of(listener, &[("cause", cause)], count);
            }
        }
        self.heartbeats(&mut out);
        self.names(&mut out);
        out.text
    }

    fn heartbeats(&self, out: &mut Exposition) {
        let listeners: Vec<_> = self
            .metrics
            .listeners
            .iter()
            .map(|(_, listener)| listener)
            .filter(|l| l.kind == "udp-heartbeat")
            .collect();
        if listeners.is_empty() {
            return;
        }
        out.gauge(
            "heartbeat_senders",
            "Senders of heartbeats, by what they are taken to be.",
        );
        for listener in &listeners {
            for (state, count) in SENDER_STATES.into_iter().zip(listener.heartbeat.senders) {
                out.of(listener, &[("state", state)], count);
            }
        }
        out.counter(
            "heartbeat_changes",
            "Changes of senders, by what they became.",
        );
        for listener in &listeners {
            for (change, count) in SENDER_CHANGES.into_iter().zip(listener.heartbeat.changes) {
                out.of(listener, &[("change", change)], count);
            }
        }
        out.gauge(
            "heartbeat_lost",
            "Heartbeats skipped in a sequence that did not come since.",
        );
        listeners
            .iter()
            .for_each(|l| out.of(l, &[], l.heartbeat.lost));
        out.counter(
            "heartbeat_duplicates",
            "Heartbeats that came a second time.",
        );
        listeners
            .iter()
            .for_each(|l| out.of(l, &[], l.heartbeat.duplicates));
        out.counter(
            "heartbeat_reordered",
            "Heartbeats that came after a later one.",
        );
        listeners
            .iter()
            .for_each(|l| out.of(l, &[], l.heartbeat.reordered));
        out.counter(
            "heartbeat_restarts",
            "Senders that began again, with a lower number or a far higher one.",
        );
        listeners
            .iter()
            .for_each(|l| out.of(l, &[], l.heartbeat.restarts));
    }

    fn names(&self, out: &mut Exposition) {
        let counters = &self.resolver;
        for (name, help, count) in [
            (
                "resolver_hits",
                "Names answered from memory.",
                counters.hits,
            ),
            (
                "resolver_lookups",
                "Names that servers were asked for.",
                counters.lookups,
            ),
            (
                "resolver_queries",
                "Questions sent to name servers.",
                counters.queries,
            ),
            (
                "resolver_timeouts",
                "Questions that were not answered in time.",
                counters.timeouts,
            ),
            (
                "resolver_lies",
                "Answers to questions that were not asked.",
                counters.lies,
            ),
            (
                "resolver_refused",
                "Lookups refused because too many were under way.",
                counters.refused,
            ),
            (
                "resolver_evicted",
                "Remembered names that made room for others.",
                counters.evicted,
            ),
        ] {
            out.counter(name, help);
            out.sample(&[], count);
        }
        out.gauge("resolver_lookups_under_way", "Names being resolved.");
        out.sample(&[], self.lookups);
        out.gauge(
            "resolver_cached_names",
            "Names whose answers are remembered.",
        );
        out.sample(&[], self.cached_names);
    }
}

/// Text for HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('"', "&quot;")
}

/// Metrics as text: a family's HELP and TYPE, then its samples.
#[derive(Default)]
struct Exposition {
    text: String,
    /// The name of the family under way.
    name: String,
}

impl Exposition {
    fn gauge(&mut self, name: &str, help: &str) {
        self.family(format!("netlab_{name}"), "gauge", help);
    }

    fn counter(&mut self, name: &str, help: &str) {
        self.family(format!("netlab_{name}_total"), "counter", help);
    }

    fn family(&mut self, name: String, kind: &str, help: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {kind}");
        self.name = name;
    }

    /// A sample of one listener. Its name alone need not be unique; with kind and address it is.
    fn of(&mut self, listener: &ListenerMetrics, more: &[(&str, &str)], value: u64) {
        let mut labels = vec![
            ("listener", listener.name.as_str()),
            ("kind", listener.kind),
            ("address", listener.address.as_str()),
        ];
        labels.extend_from_slice(more);
        self.sample(&labels, value);
    }

    fn sample(&mut self, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        self.text.push_str(&self.name);
        for (index, (name, text)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            for character in text.chars() {
                match character {
                    '\\' => self.text.push_str("\\\\"),
                    '"' => self.text.push_str("\\\""),
                    '\n' => self.text.push_str("\\n"),
                    other => self.text.push(other),
                }
            }
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::services::bench::Bench;
    use proptest::prelude::*;
    use std::collections::HashSet;

    fn bench() -> Bench<Admin> {
        let started = SystemTime::UNIX_EPOCH + Duration::from_secs(1_791_999_000);
        let mut bench = Bench::new(Admin::new(&AdminConfig::default(), started));
        bench.metrics.listeners = [
            ("echo", "tcp-echo", "127.0.0.1:12000"),
            ("a\"\\<b>", "tcp-echo", "unix:/x"),
            ("udp-heartbeat", "udp-heartbeat", "127.0.0.1:12001"),
            ("http", "http", "127.0.0.1:6789"),
        ]
        .map(|(name, kind, address)| ListenerMetrics::new(name, kind, address.to_owned()))
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
    fn not_ready_while_a_listener_is_down_and_it_is_named() {
        let mut bench = bench();
        bench.metrics.listeners[0].went_down();
        bench.metrics.listeners[2].went_down();
        let (status, _, body) = get(&mut bench, "/readyz");
        assert_eq!(status, "HTTP/1.1 503 Service Unavailable");
        let down = "down: echo at 127.0.0.1:12000\ndown: udp-heartbeat at 127.0.0.1:12001\n";
        assert_eq!(body, down);
        assert_eq!(get(&mut bench, "/livez").0, "HTTP/1.1 200 OK");
        let (_, _, metrics) = get(&mut bench, "/metrics");
        let echo = "{listener=\"echo\",kind=\"tcp-echo\",address=\"127.0.0.1:12000\"}";
        for sample in [
            format!("netlab_listener_up{echo} 0\n"),
            format!("netlab_listener_failures_total{echo} 1\n"),
        ] {
            assert!(metrics.contains(&sample), "{metrics}");
        }
        bench.metrics.listeners[0].is_down = false;
        bench.metrics.listeners[2].is_down = false;
        assert_eq!(get(&mut bench, "/readyz").0, "HTTP/1.1 200 OK");
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
        bench.metrics.listeners[0].timed_out[Phase::Body as usize] = 3;
        bench.metrics.listeners[3].refused[Limit::ConnectionsPerAddress as usize] = 4;
        bench.metrics.access_log_dropped = 5;
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
            "netlab_turns_total 8",
            "netlab_start_time_seconds 1791999000",
            "netlab_timeouts_total{listener=\"echo\",kind=\"tcp-echo\",address=\"127.0.0.1:12000\",phase=\"body\"} 3",
            "netlab_refusals_total{listener=\"http\",kind=\"http\",address=\"127.0.0.1:6789\",limit=\"connections_per_address\"} 4",
            "netlab_access_log_dropped_total 5",
            "netlab_sessions{listener=\"a\\\"\\\\<b>\",kind=\"tcp-echo\",address=\"unix:/x\"} 0",
            "netlab_heartbeat_senders{listener=\"udp-heartbeat\",kind=\"udp-heartbeat\",address=\"127.0.0.1:12001\",state=\"late\"} 0",
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
            b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".to_vec(),
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
