//! The access log: a line for each answer, in Combined Log Format or as JSON.
//!
//! The rules:
//! 1. A line is written when its answer is queued: the bytes are those of its body, whether or not
//!    the client takes them, and the seconds are those from the first byte of the request on.
//! 2. Lines are collected and leave together, by a job ([`crate::jobs`]) at the end of a turn: the
//!    first one at once, those that follow it closely after [`GATHER_TIME`] or when [`BATCH_BYTES`]
//!    are there, because a job costs more than many lines. One is under way at once, so that they
//!    arrive in their order. What cannot leave (the disk is slow
//!    or full, nobody reads the pipe) waits within [`WAITING_BYTES_MAX`]; beyond, lines are dropped
//!    and counted. A line that was cut by a full disk does not share its line with the next one,
//!    also after another start.
//! 3. No client can forge a line or hide in one: in Combined Log Format quotes, backslashes and all
//!    bytes but printable ASCII are written as `\xHH`; in JSON what cannot be seen is written as
//!    `\uHHHH`.
//!
//! Not here: rotation. Whoever moves the file away sends SIGUSR1 or SIGHUP, and it is made anew.

use std::fmt::Write;
use std::io;
use std::net::IpAddr;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use super::reply::Answered;
use crate::config::{self, LogFormat};
use crate::disk::{Disk, File};
use crate::http::Version;
use crate::http::date::{put_iso, put_log_time, unix_s};
use crate::http::head::RequestHead;
use crate::jobs::{self, Command, Done, Ticket};
use crate::lines::{Lines, Unwritten};
use crate::metrics::Counted;
use crate::service::{Cx, Waiter};
use crate::wire::text::put_json as put_json_text;

/// How long after others lines wait for more, while there are fewer than [`BATCH_BYTES`].
const GATHER_TIME: Duration = Duration::from_millis(10);
/// Bytes of lines that leave at the end of their turn.
const BATCH_BYTES: usize = 64 * 1024;
/// Bytes of lines that wait for a disk or a reader from one turn to the next.
const WAITING_BYTES_MAX: usize = 256 * 1024;
/// Bytes of lines in memory in any case. A turn may answer thousands of requests, and none of its
/// lines can leave before its end.
const MEMORY_BYTES_MAX: usize = 16 << 20;

/// The log of a listener.
pub(super) struct AccessLog {
    place: config::AccessLog,
    format: LogFormat,
    file: File,
    lines: Lines,
    /// What is being done to the file.
    job: Option<Job>,
    /// It was moved away, and is to be opened anew.
    moved: bool,
    /// Lines may leave, as far as is known.
    due: bool,
    /// Until when they wait for more.
    gathers_until: Option<Instant>,
    /// Bytes of lines that could not leave at the end of the last turn.
    left_bytes: usize,
    /// The last write failed: said once, until one succeeds.
    failing: bool,
}

/// What is being done to the file of a log.
enum Job {
    Append(Ticket),
    Open(Ticket),
}

/// One answer.
pub(super) struct Line<'a> {
    /// `None` for the user of a Unix socket.
    pub(super) peer: Option<IpAddr>,
    /// `None` where no request could be read.
    pub(super) request: Option<Request<'a>>,
    /// Of a request that was to be sent on: where to, and how it was answered.
    pub(super) origin: Option<(&'a str, Answerer)>,
    /// The proxy by which the origin was reached.
    pub(super) parent: Option<&'a str>,
    pub(super) answered: Answered,
    pub(super) took: Duration,
    pub(super) wall: SystemTime,
}

/// Who answered a request that was to be sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answerer {
    /// Its origin, whose response was passed on.
    Origin,
    /// Its origin, through a tunnel, to which the client sent so many bytes.
    Tunnel { up_bytes: u64 },
    /// What was kept of its response, or is being kept of one that somebody else asked for.
    Cache,
    /// This server: the origin could not be asked, or gave no response that could be passed on.
    Here,
}

impl Answerer {
    fn name(self) -> &'static str {
        match self {
            Answerer::Origin => "origin",
            Answerer::Tunnel { .. } => "tunnel",
            Answerer::Cache => "cache",
            Answerer::Here => "here",
        }
    }
}

/// What a line tells of a request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Request<'a> {
    method: &'a str,
    target: &'a str,
    version: Version,
    host: Option<&'a [u8]>,
    referer: Option<&'a [u8]>,
    user_agent: Option<&'a [u8]>,
}

impl<'a> Request<'a> {
    pub(super) fn of(head: &RequestHead<'a>) -> Self {
        Self {
            method: head.method.as_str(),
            target: head.target_text,
            version: head.version,
            host: head.headers.first("host"),
            referer: head.headers.first("referer"),
            user_agent: head.headers.first("user-agent"),
        }
    }
}

/// The same for a request whose head is gone when its answer ends.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) peer: Option<IpAddr>,
    method: String,
    target: String,
    version: Version,
    host: Option<Vec<u8>>,
    referer: Option<Vec<u8>>,
    user_agent: Option<Vec<u8>>,
}

impl Entry {
    pub(super) fn of(head: &RequestHead<'_>, peer: Option<IpAddr>) -> Self {
        let Request {
            method,
            target,
            version,
            host,
            referer,
            user_agent,
        } = Request::of(head);
        Self {
            peer,
            method: method.to_owned(),
            target: target.to_owned(),
            version,
            host: host.map(<[u8]>::to_vec),
            referer: referer.map(<[u8]>::to_vec),
            user_agent: user_agent.map(<[u8]>::to_vec),
        }
    }

    pub(super) fn request(&self) -> Request<'_> {
        Request {
            method: &self.method,
            target: &self.target,
            version: self.version,
            host: self.host.as_deref(),
            referer: self.referer.as_deref(),
            user_agent: self.user_agent.as_deref(),
        }
    }
}

impl<'a> Line<'a> {
    /// Of what was answered here.
    pub(super) fn of(
        peer: Option<IpAddr>,
        request: Option<Request<'a>>,
        answered: Answered,
        took: Duration,
        wall: SystemTime,
    ) -> Self {
        Self {
            peer,
            request,
            origin: None,
            parent: None,
            answered,
            took,
            wall,
        }
    }
}

impl AccessLog {
    /// Opens the log.
    ///
    /// # Errors
    /// Those of `open(2)`.
    pub(super) fn open(
        place: &config::AccessLog,
        format: LogFormat,
        disk: &mut dyn Disk,
    ) -> io::Result<Self> {
        let file = open(place, disk)?;
        let mut lines = Lines::new();
        lines.reopened(jobs::ends_within_a_line(&file, disk));
        Ok(Self {
            place: place.clone(),
            format,
            file,
            lines,
            job: None,
            moved: false,
            due: true,
            gathers_until: None,
            left_bytes: 0,
            failing: false,
        })
    }

    /// Adds a line.
    pub(super) fn add(&mut self, line: &Line<'_>, counted: &mut Counted<'_>) {
        counted.log_line();
        let bytes_max = match self.left_bytes < WAITING_BYTES_MAX {
            true => MEMORY_BYTES_MAX,
            false => 0,
        };
        let has_room = self.lines.add(bytes_max, |out| match self.format {
            LogFormat::Combined => put_combined(out, line),
            LogFormat::Json => put_json(out, line),
        });
        if !has_room {
            counted.log_lines_dropped(1);
        }
        self.due = true;
    }

    /// Whether lines wait: the end of this turn is of interest, and what could not leave before is
    /// tried again.
    pub(super) fn is_waiting(&mut self) -> bool {
        let waits = self.lines.waiting_bytes() > 0;
        self.due |= waits;
        waits
    }

    /// Whether something is being done to the file, or lines are about to leave.
    pub(super) fn is_busy(&self) -> bool {
        self.job.is_some() || self.wakes_at().is_some()
    }

    /// When lines leave that wait for more.
    pub(super) fn wakes_at(&self) -> Option<Instant> {
        let waits = self.job.is_none() && self.due && !self.lines.is_empty();
        self.gathers_until.filter(|_| waits)
    }

    /// The end of a turn: lets go what waits, if it can go now.
    pub(super) fn flush(&mut self, cx: &mut Cx<'_>) {
        self.take_result(cx);
        if self.job.is_none() && std::mem::take(&mut self.moved) {
            self.open_anew(cx);
        }
        if self.job.is_none()
            && self.due
            && !self.gathers(cx)
            && let Some(bytes) = self.lines.hand_out()
        {
            self.due = false;
            self.gathers_until = Some(cx.now + GATHER_TIME);
            let file = self.file.clone();
            let append = Command::Append { file, bytes };
            match cx.jobs.start(Waiter::Service, append, cx.now) {
                Ok(ticket) => self.job = Some(Job::Append(ticket)),
                // Too much waits for this disk already.
                Err(_) => self.appended(Err(io::ErrorKind::WouldBlock.into()), &mut cx.counted),
            }
        }
        self.left_bytes = self.lines.waiting_bytes();
    }

    /// Whether the lines wait for more.
    fn gathers(&self, cx: &Cx<'_>) -> bool {
        let few = self.lines.waiting_bytes() < BATCH_BYTES && !cx.draining;
        few && self.gathers_until.is_some_and(|until| cx.now < until)
    }

    /// Takes what a job came to.
    fn take_result(&mut self, cx: &mut Cx<'_>) {
        let Some(Job::Append(ticket) | Job::Open(ticket)) = &self.job else {
            return;
        };
        let Poll::Ready(finished) = cx.jobs.take(ticket) else {
            return;
        };
        match self.job.take() {
            Some(Job::Append(_)) => self.appended(finished.result, &mut cx.counted),
            _ => self.opened(finished.result),
        }
    }

    /// An append is over: what waits may leave, unless nobody reads the pipe.
    fn appended(&mut self, result: io::Result<Done>, counted: &mut Counted<'_>) {
        let result = result.and_then(|done| match done {
            Done::Count(count) => Ok(usize::try_from(count).unwrap_or(usize::MAX)),
            _ => Err(jobs::wrong()),
        });
        self.due = true;
        match self.lines.told(result) {
            Ok(()) => self.failing = false,
            Err(Unwritten { error, .. }) if error.kind() == io::ErrorKind::WouldBlock => {
                self.due = false;
            }
            Err(Unwritten { error, lines_lost }) => {
                if !std::mem::replace(&mut self.failing, true) {
                    log::error!("access log {:?}: {error}; lines are dropped", self.place);
                }
                counted.log_lines_dropped(lines_lost);
            }
        }
    }

    /// The file was moved away: it is opened anew, before any other line leaves. Where that fails,
    /// the old one stays.
    pub(super) fn reopen(&mut self, cx: &mut Cx<'_>) {
        self.moved = true;
        self.flush(cx);
    }

    fn open_anew(&mut self, cx: &mut Cx<'_>) {
        match &self.place {
            config::AccessLog::StandardError => {
                let opened = cx.disk.standard_error();
                self.opened(opened.map(|file| Done::Log(file, None)));
            }
            config::AccessLog::Path(path) => {
                let (path, before) = (path.clone(), self.file.clone());
                let open = Command::OpenLog { path, before };
                match cx.jobs.start(Waiter::Service, open, cx.now) {
                    Ok(ticket) => self.job = Some(Job::Open(ticket)),
                    Err(refused) => self.opened(refused.result),
                }
            }
        }
    }

    fn opened(&mut self, result: io::Result<Done>) {
        let opened = result.and_then(|done| match done {
            Done::Log(file, ends_within_a_line) => Ok((file, ends_within_a_line)),
            _ => Err(jobs::wrong()),
        });
        self.due = true;
        match opened {
            Ok((file, ends_within_a_line)) => {
                self.lines.reopened(ends_within_a_line);
                self.file = file;
            }
            Err(error) => log::error!("access log {:?}: {error}; the old one stays", self.place),
        }
    }
}

fn open(place: &config::AccessLog, disk: &mut dyn Disk) -> io::Result<File> {
    match place {
        config::AccessLog::StandardError => disk.standard_error(),
        config::AccessLog::Path(path) => disk.open_log(path),
    }
}

// Writing to a String does not fail, so what `write!` returns below is dropped.

/// `HOST - - [TIME] "METHOD TARGET VERSION" STATUS BYTES "REFERER" "AGENT"`, and of a request that
/// was to be sent on `"ORIGIN" ANSWERER`, and behind a tunnel the bytes that its client sent.
fn put_combined(out: &mut String, line: &Line<'_>) {
    match line.peer {
        Some(address) => _ = write!(out, "{address} - - ["),
        None => out.push_str("- - - ["),
    }
    put_log_time(out, unix_s(line.wall));
    out.push_str("] \"");
    match line.request {
        None => out.push('-'),
        Some(request) => {
            put_quoted(out, request.method.as_bytes());
            out.push(' ');
            put_quoted(out, request.target.as_bytes());
            out.push(' ');
            out.push_str(request.version.as_str());
        }
    }
    let Answered { status, body_bytes } = line.answered;
    let _ = write!(out, "\" {} {body_bytes}", status.code());
    let [referer, user_agent] = match line.request {
        Some(request) => [request.referer, request.user_agent],
        None => [None, None],
    };
    for value in [referer, user_agent] {
        out.push_str(" \"");
        match value {
            None | Some(b"") => out.push('-'),
            Some(value) => put_quoted(out, value),
        }
        out.push('"');
    }
    if let Some((origin, answerer)) = line.origin {
        out.push_str(" \"");
        put_quoted(out, origin.as_bytes());
        let _ = write!(out, "\" {}", answerer.name());
        if let Answerer::Tunnel { up_bytes } = answerer {
            let _ = write!(out, " {up_bytes}");
        }
        if let Some(parent) = line.parent {
            out.push_str(" via \"");
            put_quoted(out, parent.as_bytes());
            out.push('"');
        }
    }
    out.push('\n');
}

fn put_quoted(out: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        match byte {
            b'"' | b'\\' => _ = write!(out, "\\x{byte:02X}"),
            b' '..=b'~' => out.push(char::from(byte)),
            byte => _ = write!(out, "\\x{byte:02X}"),
        }
    }
}

/// An object on a line; what is not known is left out.
fn put_json(out: &mut String, line: &Line<'_>) {
    out.push_str("{\"time\":\"");
    put_iso(out, unix_s(line.wall));
    out.push('"');
    if let Some(address) = line.peer {
        let _ = write!(out, ",\"remote\":\"{address}\"");
    }
    if let Some(request) = line.request {
        put_member(out, "method", request.method.as_bytes());
        put_member(out, "target", request.target.as_bytes());
        put_member(out, "version", request.version.as_str().as_bytes());
    }
    let Answered { status, body_bytes } = line.answered;
    let (status, seconds) = (status.code(), line.took.as_secs_f64());
    let _ = write!(
        out,
        ",\"status\":{status},\"bytes\":{body_bytes},\"seconds\":{seconds:.6}"
    );
    if let Some(request) = line.request {
        for (key, value) in [
            ("host", request.host),
            ("referer", request.referer),
            ("user_agent", request.user_agent),
        ] {
            if let Some(value) = value {
                put_member(out, key, value);
            }
        }
    }
    if let Some((origin, answerer)) = line.origin {
        put_member(out, "origin", origin.as_bytes());
        put_member(out, "answered_by", answerer.name().as_bytes());
        if let Answerer::Tunnel { up_bytes } = answerer {
            let _ = write!(out, ",\"bytes_up\":{up_bytes}");
        }
        if let Some(parent) = line.parent {
            put_member(out, "parent", parent.as_bytes());
        }
    }
    out.push_str("}\n");
}

fn put_member(out: &mut String, key: &str, value: &[u8]) {
    let text = String::from_utf8_lossy(value);
    let _ = write!(out, ",\"{key}\":");
    put_json_text(out, &text);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::buffer::Pool;
    use crate::cache::compressed::Compressed;
    use crate::dns::{self, Hosts, Resolver};
    use crate::http::Status;
    use crate::http::head::{HeadScanner, Limits, Parsed};
    use crate::jobs::Jobs;
    use crate::limits::DiskLimits;
    use crate::metrics::{ListenerMetrics, Metrics, Of, WebMetrics};
    use crate::service::Id;
    use crate::service::work::Work;
    use crate::sys::unix;
    use std::path::{Path, PathBuf};

    fn line(request: &[u8], format: LogFormat) -> String {
        let mut scanner = HeadScanner::default();
        let parsed = scanner.request(request, &Limits::default());
        let head = match &parsed {
            Ok(Parsed::Complete(head, _)) => Some(head),
            _ => None,
        };
        let line = Line {
            peer: Some(IpAddr::from([192, 0, 2, 9])),
            request: head.map(Request::of),
            origin: None,
            parent: None,
            answered: Answered {
                status: Status::NOT_FOUND,
                body_bytes: 12,
            },
            took: Duration::from_micros(1500),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777),
        };
        let mut out = String::new();
        match format {
            LogFormat::Combined => put_combined(&mut out, &line),
            LogFormat::Json => put_json(&mut out, &line),
        }
        out
    }

    #[test]
    fn a_line_has_the_fields_of_its_format() {
        let request =
            b"GET /a?b HTTP/1.1\r\nHost: h\r\nReferer: http://x/\r\nUser-Agent: curl/8\r\n\r\n";
        assert_eq!(
            line(request, LogFormat::Combined),
            "192.0.2.9 - - [06/Nov/1994:08:49:37 +0000] \"GET /a?b HTTP/1.1\" 404 12 \"http://x/\" \"curl/8\"\n"
        );
        assert_eq!(
            line(request, LogFormat::Json),
            "{\"time\":\"1994-11-06T08:49:37Z\",\"remote\":\"192.0.2.9\",\"method\":\"GET\",\"target\":\"/a?b\",\
             \"version\":\"HTTP/1.1\",\"status\":404,\"bytes\":12,\"seconds\":0.001500,\"host\":\"h\",\
             \"referer\":\"http://x/\",\"user_agent\":\"curl/8\"}\n"
        );
        assert_eq!(
            line(b"\0", LogFormat::Combined),
            "192.0.2.9 - - [06/Nov/1994:08:49:37 +0000] \"-\" 404 12 \"-\" \"-\"\n"
        );
    }

    #[test]
    fn no_client_can_forge_a_line() {
        let request = b"GET /'%22 HTTP/1.1\r\nHost: h\r\nReferer: \"\\\xc3\xbc\r\nUser-Agent: a\" 200 0 \"-\"\tb\\\xff\r\n\r\n";
        let combined = line(request, LogFormat::Combined);
        assert!(
            combined.contains("\"GET /'%22 HTTP/1.1\" 404 12 \"\\x22\\x5C\\xC3\\xBC\""),
            "{combined}"
        );
        assert!(
            combined.ends_with(" \"a\\x22 200 0 \\x22-\\x22\\x09b\\x5C\\xFF\"\n"),
            "{combined}"
        );
        let json = line(request, LogFormat::Json);
        assert_eq!(json.lines().count(), 1);
        let parsed: serde_json::Value = serde_json::from_str(&json).expect("an object");
        assert_eq!(parsed["target"], "/'%22");
        assert_eq!(parsed["referer"], "\"\\\u{fc}");
        assert_eq!(parsed["user_agent"], "a\" 200 0 \"-\"\tb\\\u{fffd}");
        let hidden =
            "GET / HTTP/1.1\r\nHost: h\r\nUser-Agent: a\u{202e}b\u{2028}\u{feff}\u{9b}\r\n\r\n";
        let json = line(hidden.as_bytes(), LogFormat::Json);
        assert!(
            json.ends_with(",\"user_agent\":\"a\\u202eb\\u2028\\ufeff\\u009b\"}\n"),
            "{json}"
        );
    }

    /// What the log is shown, with a disk that does its jobs when it is told to.
    struct Fixture {
        folder: tempfile::TempDir,
        disk: unix::Files,
        jobs: Jobs<Waiter>,
        metrics: Metrics,
        pool: Pool,
        resolver: Resolver<Id>,
        compressed: Compressed<Id>,
        now: Instant,
    }

    impl Fixture {
        fn new() -> Self {
            let of = Of::Web(WebMetrics::default());
            let listener = ListenerMetrics::new("http", "http", String::new(), of);
            Self {
                folder: tempfile::tempdir().expect("a folder"),
                disk: unix::Files::default(),
                jobs: Jobs::new(DiskLimits::default()),
                metrics: Metrics {
                    listeners: [(0, listener)].into_iter().collect(),
                    ..Metrics::default()
                },
                pool: Pool::new(0, 0),
                resolver: Resolver::new(dns::Config::default(), Hosts::parse(""), [7; 32]),
                compressed: Compressed::new(0),
                now: Instant::now(),
            }
        }

        fn path(&self, name: &str) -> PathBuf {
            self.folder.path().join(name)
        }

        fn open(&mut self, name: &str) -> AccessLog {
            let place = config::AccessLog::Path(self.path(name));
            AccessLog::open(&place, LogFormat::Combined, &mut self.disk).expect("a log")
        }

        fn with<T>(&mut self, act: impl FnOnce(&mut Cx<'_>) -> T) -> T {
            act(&mut Cx {
                work: &mut Work::new(Duration::MAX),
                now: self.now,
                wall: SystemTime::UNIX_EPOCH,
                turn: 1,
                draining: false,
                pool: &mut self.pool,
                disk: &mut self.disk,
                jobs: &mut self.jobs,
                hooks: &mut crate::hooks::Hooks::default(),
                resolver: &mut self.resolver,
                stores: &mut crate::cache::store::Stores::default(),
                senders: &mut crate::inside::roster::Roster::default(),
                compressed: &mut self.compressed,
                inside: &mut crate::inside::Inside::default(),
                woken: &mut Vec::new(),
                counted: Counted::new(&mut self.metrics, 0),
            })
        }

        /// A turn in which answers of so many bytes each were sent.
        fn turn(&mut self, log: &mut AccessLog, answers: std::ops::Range<u64>) {
            self.with(|cx| {
                for body_bytes in answers {
                    let answered = Answered {
                        status: Status::BAD_REQUEST,
                        body_bytes,
                    };
                    let wall = SystemTime::UNIX_EPOCH;
                    let line = Line::of(None, None, answered, Duration::ZERO, wall);
                    log.add(&line, &mut cx.counted);
                }
                if log.is_waiting() {
                    log.flush(cx);
                }
            });
        }

        /// The disk does what was asked of it, and lines that wait for more leave; whether there
        /// was anything.
        fn disk_does(&mut self, log: &mut AccessLog) -> bool {
            let mut any = false;
            while let Some((id, mut job)) = self.jobs.poll_start(self.now) {
                let result = job.perform(&mut self.disk);
                self.jobs.finished(id, job, result, self.now);
                any = true;
            }
            while self.jobs.poll_woken().is_some() {}
            self.with(|cx| log.flush(cx));
            if let Some(at) = log.wakes_at() {
                self.now = at;
                self.with(|cx| log.flush(cx));
                any = true;
            }
            any
        }

        fn finish(&mut self, log: &mut AccessLog) {
            while self.disk_does(log) {}
            assert!(!log.is_busy() && self.jobs.is_idle());
        }

        /// Lines that were logged, and lines that were dropped.
        fn counted(&self) -> (u64, u64) {
            let counted = self.metrics.listeners[0].of.web().expect("a web server");
            (counted.log_lines, counted.log_lines_dropped)
        }
    }

    /// The lines of such answers.
    fn lines(answers: std::ops::Range<u64>) -> String {
        let line =
            |bytes| format!("- - - [01/Jan/1970:00:00:00 +0000] \"-\" 400 {bytes} \"-\" \"-\"\n");
        answers.map(line).collect()
    }

    fn read(path: &Path) -> String {
        std::fs::read_to_string(path).expect("a file")
    }

    #[test]
    fn half_a_line_of_an_earlier_process_is_ended_first() {
        for (before, expected) in [
            ("", ""),
            ("whole\n", "whole\n"),
            ("192.0.2.1 - - [06/N", "192.0.2.1 - - [06/N\n"),
        ] {
            let mut f = Fixture::new();
            let path = f.path("log");
            std::fs::write(&path, before).expect("a file");
            let mut log = f.open("log");
            f.turn(&mut log, 0..1);
            f.finish(&mut log);
            assert_eq!(read(&path), format!("{expected}{}", lines(0..1)));
            // And the same for one that is put there while the process runs.
            std::fs::remove_file(&path).expect("a file");
            std::fs::write(f.path("other"), before).expect("a file");
            std::fs::rename(f.path("other"), &path).expect("a file");
            f.with(|cx| log.reopen(cx));
            f.turn(&mut log, 1..2);
            f.finish(&mut log);
            assert_eq!(read(&path), format!("{expected}{}", lines(1..2)));
            assert_eq!(f.counted(), (2, 0));
        }
    }

    #[test]
    fn lines_gather_while_others_are_written_and_arrive_in_their_order() {
        let mut f = Fixture::new();
        let mut log = f.open("log");
        for turn in 0..10 {
            f.turn(&mut log, turn * 3..turn * 3 + 3);
            assert_eq!(f.jobs.under_way(), (1, 0), "one append at once");
        }
        assert!(f.disk_does(&mut log));
        assert_eq!(read(&f.path("log")), lines(0..3), "those of the first turn");
        assert_eq!(f.jobs.under_way(), (1, 0), "the others follow at once");
        f.finish(&mut log);
        assert_eq!(read(&f.path("log")), lines(0..30));
        assert_eq!(f.counted(), (30, 0));
    }

    #[test]
    fn lines_that_follow_others_closely_wait_for_more() {
        let mut f = Fixture::new();
        let mut log = f.open("log");
        let work = |f: &mut Fixture, log: &mut AccessLog| {
            while let Some((id, mut job)) = f.jobs.poll_start(f.now) {
                let result = job.perform(&mut f.disk);
                f.jobs.finished(id, job, result, f.now);
            }
            f.with(|cx| log.flush(cx));
        };
        f.turn(&mut log, 0..1);
        work(&mut f, &mut log);
        assert_eq!(read(&f.path("log")), lines(0..1), "at once");
        for line in 1..5 {
            f.turn(&mut log, line..line + 1);
            work(&mut f, &mut log);
        }
        assert_eq!(read(&f.path("log")), lines(0..1));
        assert_eq!(log.wakes_at(), Some(f.now + GATHER_TIME));
        assert!(log.is_busy(), "its service must not go now");
        f.now += GATHER_TIME;
        f.with(|cx| log.flush(cx));
        work(&mut f, &mut log);
        assert_eq!(read(&f.path("log")), lines(0..5));
        assert!(!log.is_busy());
        // Many do not wait, and none do at the end of the process.
        let most = 5 + (BATCH_BYTES / lines(1000..1001).len()) as u64 + 10;
        f.turn(&mut log, 5..most + 200);
        work(&mut f, &mut log);
        assert_eq!(read(&f.path("log")), lines(0..most + 200));
        f.turn(&mut log, 0..1);
        f.with(|cx| {
            cx.draining = true;
            log.flush(cx);
        });
        assert!(log.job.is_some());
    }

    #[test]
    fn lines_that_come_while_the_file_is_opened_anew_go_to_the_new_one() {
        let mut f = Fixture::new();
        let mut log = f.open("log");
        f.turn(&mut log, 0..1);
        f.turn(&mut log, 1..2);
        std::fs::rename(f.path("log"), f.path("log.1")).expect("a rename");
        f.with(|cx| log.reopen(cx)); // while the first is under way
        f.turn(&mut log, 2..3);
        f.disk_does(&mut log);
        assert_eq!(read(&f.path("log.1")), lines(0..1));
        f.turn(&mut log, 3..4);
        f.finish(&mut log);
        assert_eq!(read(&f.path("log.1")), lines(0..1));
        assert_eq!(read(&f.path("log")), lines(1..4));
        // Where it cannot be opened, the old one stays.
        std::fs::rename(f.path("log"), f.path("log.2")).expect("a rename");
        std::fs::create_dir(f.path("log")).expect("a folder");
        f.with(|cx| log.reopen(cx));
        f.turn(&mut log, 4..5);
        f.finish(&mut log);
        assert_eq!(read(&f.path("log.2")), lines(1..5));
        assert_eq!(f.counted(), (5, 0));
    }

    #[test]
    fn a_disk_that_does_not_answer_costs_lines_beyond_the_bound_and_no_more() {
        let mut f = Fixture::new();
        let mut log = f.open("log");
        // A turn may have more lines than may wait from one to the next.
        let most = (2 * WAITING_BYTES_MAX / lines(1000..1001).len()) as u64;
        f.turn(&mut log, 0..most);
        f.turn(&mut log, most..2 * most);
        assert_eq!(f.counted(), (2 * most, 0));
        for turn in 2..5 {
            f.turn(&mut log, turn * most..(turn + 1) * most);
        }
        assert_eq!(f.counted(), (5 * most, 3 * most));
        f.finish(&mut log);
        f.turn(&mut log, 5 * most..5 * most + 1);
        f.finish(&mut log);
        let last = lines(5 * most..5 * most + 1);
        assert_eq!(read(&f.path("log")), lines(0..2 * most) + &last);
        assert_eq!(f.counted(), (5 * most + 1, 3 * most));
    }

    #[test]
    fn a_pipe_that_nobody_reads_keeps_its_lines_and_makes_no_work() {
        let mut f = Fixture::new();
        rustix::fs::mkfifoat(rustix::fs::CWD, f.path("log"), 0o600.into()).expect("a pipe");
        let options = || std::fs::OpenOptions::new().read(true).write(true).clone();
        let mut reader = options().open(f.path("log")).expect("a pipe");
        let mut log = f.open("log");
        let most = 4000;
        f.turn(&mut log, 0..most);
        while f.disk_does(&mut log) {}
        assert!(!log.is_busy(), "it is not tried again by itself");
        // It is by the next who looks.
        f.turn(&mut log, 0..0);
        assert!(log.is_busy());
        while f.disk_does(&mut log) {}
        let (expected, mut text) = (lines(0..most), Vec::new());
        while text.len() < expected.len() {
            let mut part = vec![0; 1 << 16];
            let count = io::Read::read(&mut reader, &mut part).expect("bytes");
            text.extend_from_slice(&part[..count]);
            f.turn(&mut log, 0..0);
            while f.disk_does(&mut log) {}
        }
        assert!(text == expected.as_bytes());
        assert_eq!(f.counted(), (most, 0));
    }
}
