//! The access log: a line for each answer, in Combined Log Format or as JSON.
//!
//! The rules:
//! 1. A line is written when its answer is queued: the bytes are those of its body, whether or not
//!    the client takes them, and the seconds are those from the first byte of the request on.
//! 2. Lines are collected and leave together, at the end of a turn or when [`BATCH_BYTES`] are
//!    full. What cannot leave (the disk is full, nobody reads the pipe) waits within
//!    [`WAITING_BYTES_MAX`]; beyond, lines are dropped and counted. A line that was cut by a full
//!    disk does not share its line with the next one, also after another start.
//! 3. No client can forge a line or hide in one: in Combined Log Format quotes, backslashes and all
//!    bytes but printable ASCII are written as `\xHH`; in JSON what cannot be seen is written as
//!    `\uHHHH`.
//!
//! Not here: rotation. Whoever moves the file away sends SIGUSR1 or SIGHUP, and it is made anew.

use std::fmt::Write;
use std::io;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use super::reply::Answered;
use crate::config::{self, LogFormat};
use crate::disk::{Disk, File, FileKind};
use crate::http::Version;
use crate::http::date::{put_iso, put_log_time, unix_s};
use crate::http::head::RequestHead;
use crate::lines::{Lines, Unwritten};
use crate::metrics::Counted;
use crate::wire::text::put_json as put_json_text;

/// Bytes of lines that are written before the turn ends.
const BATCH_BYTES: usize = 64 * 1024;
/// Bytes of lines that wait for a disk or a reader.
const WAITING_BYTES_MAX: usize = 256 * 1024;

/// The log of a listener.
pub(super) struct AccessLog {
    place: config::AccessLog,
    format: LogFormat,
    file: File,
    lines: Lines,
    /// The last write failed: said once, until one succeeds.
    failing: bool,
}

/// One answer.
pub(super) struct Line<'a> {
    /// `None` for the user of a Unix socket.
    pub(super) peer: Option<IpAddr>,
    /// `None` where no request could be read.
    pub(super) request: Option<Request<'a>>,
    /// Of a request that was to be sent on: where to, and how it was answered.
    pub(super) origin: Option<(&'a str, Answerer)>,
    pub(super) answered: Answered,
    pub(super) took: Duration,
    pub(super) wall: SystemTime,
}

/// Who answered a request that was to be sent on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answerer {
    /// Its origin, whose response was passed on.
    Origin,
    /// Its origin, through a tunnel.
    Tunnel,
    /// This server: the origin could not be asked, or gave no response that could be passed on.
    Here,
}

impl Answerer {
    fn name(self) -> &'static str {
        match self {
            Answerer::Origin => "origin",
            Answerer::Tunnel => "tunnel",
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
        lines.reopened(ends_within_a_line(&file, disk));
        Ok(Self {
            place: place.clone(),
            format,
            file,
            lines,
            failing: false,
        })
    }

    /// Adds a line.
    pub(super) fn add(&mut self, line: &Line<'_>, disk: &mut dyn Disk, counted: &mut Counted<'_>) {
        let before = self.lines.len();
        counted.log_line();
        let has_room = self.lines.add(WAITING_BYTES_MAX, |out| match self.format {
            LogFormat::Combined => put_combined(out, line),
            LogFormat::Json => put_json(out, line),
        });
        if !has_room {
            counted.log_lines_dropped(1);
        }
        if self.lines.len() >= BATCH_BYTES && before < BATCH_BYTES {
            self.flush(disk, counted);
        }
    }

    /// Whether lines wait to be written.
    pub(super) fn is_waiting(&self) -> bool {
        !self.lines.is_empty()
    }

    /// Writes what waits, as far as it can be written now.
    pub(super) fn flush(&mut self, disk: &mut dyn Disk, counted: &mut Counted<'_>) {
        match self.lines.flush(|rest| disk.append(&self.file, rest)) {
            Ok(()) => self.failing = false,
            Err(Unwritten { error, .. }) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(Unwritten { error, lines_lost }) => {
                if !std::mem::replace(&mut self.failing, true) {
                    log::error!("access log {:?}: {error}; lines are dropped", self.place);
                }
                counted.log_lines_dropped(lines_lost);
            }
        }
    }

    /// Opens the file anew; where that fails, the old one stays.
    pub(super) fn reopen(&mut self, disk: &mut dyn Disk) {
        match open(&self.place, disk) {
            Ok(file) => {
                self.lines.reopened(ends_within_a_line(&file, disk));
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

/// Whether a log ends with half a line, such as one that a full disk cut before an earlier process
/// ended; `None` where that cannot be known, as of a pipe.
fn ends_within_a_line(file: &File, disk: &mut dyn Disk) -> Option<bool> {
    let metadata = disk.metadata(file).ok()?;
    let (FileKind::Regular, mut last) = (metadata.kind, [b'\n']) else {
        return None;
    };
    if let Some(offset) = metadata.len.checked_sub(1) {
        disk.read_at(file, offset, &mut last).ok()?;
    }
    Some(last != [b'\n'])
}

// Writing to a String does not fail, so what `write!` returns below is dropped.

/// `HOST - - [TIME] "METHOD TARGET VERSION" STATUS BYTES "REFERER" "AGENT"`, and of a request that
/// was to be sent on `"ORIGIN" ANSWERER`.
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
    use crate::http::Status;
    use crate::http::head::{HeadScanner, Limits, Parsed};
    use crate::metrics::{ListenerMetrics, Metrics, Of, WebMetrics};
    use crate::sys::unix;

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

    #[test]
    fn half_a_line_of_an_earlier_process_is_ended_first() {
        let dir = tempfile::tempdir().expect("a folder");
        let mut disk = unix::Files::default();
        let mut metrics = Metrics::default();
        let of = Of::Web(WebMetrics::default());
        let http =
            metrics
                .listeners
                .insert(ListenerMetrics::new("http", "http", String::new(), of));
        for (before, expected) in [
            ("", ""),
            ("whole\n", "whole\n"),
            ("192.0.2.1 - - [06/N", "192.0.2.1 - - [06/N\n"),
        ] {
            let path = dir.path().join("log");
            std::fs::write(&path, before).expect("a file");
            let place = config::AccessLog::Path(path.clone());
            let line = Line {
                peer: None,
                request: None,
                origin: None,
                answered: Answered {
                    status: Status::BAD_REQUEST,
                    body_bytes: 0,
                },
                took: Duration::ZERO,
                wall: SystemTime::UNIX_EPOCH,
            };
            let told = "- - - [01/Jan/1970:00:00:00 +0000] \"-\" 400 0 \"-\" \"-\"\n";
            let mut log = AccessLog::open(&place, LogFormat::Combined, &mut disk).expect("a log");
            log.add(&line, &mut disk, &mut Counted::new(&mut metrics, http));
            log.flush(&mut disk, &mut Counted::new(&mut metrics, http));
            // And the same for one that is put there while the process runs.
            std::fs::remove_file(&path).expect("a file");
            std::fs::write(dir.path().join("other"), before).expect("a file");
            std::fs::rename(dir.path().join("other"), &path).expect("a file");
            log.reopen(&mut disk);
            log.add(&line, &mut disk, &mut Counted::new(&mut metrics, http));
            log.flush(&mut disk, &mut Counted::new(&mut metrics, http));
            let text = std::fs::read_to_string(&path).expect("a file");
            assert_eq!(text, format!("{expected}{told}"));
        }
        let counted = metrics.listeners[http].of.web().expect("a web server");
        assert_eq!((counted.log_lines, counted.log_lines_dropped), (6, 0));
    }
}
