//! The web server: files of a folder, or of a small embedded site, over HTTP/1.1 and 1.0.
//!
//! ```text
//!          ┌──────────────────── answered, connection kept ◀──────────────┐
//!          ▼                                                              │
//! Idle ──bytes──▶ Head ──whole──▶ answered ──body to come──▶ Body ──whole─┘
//!  │               │                  └── not kept ──▶ closed    │
//!  └──late──┐      ├──malformed──▶ 4xx, closed                   └──late or malformed──▶ 4xx unless answered, closed
//!           ▼      └──late──▶ 408, closed
//!        closed                                    Refused ──▶ 503 or 429, closed
//! ```
//!
//! The rules:
//! 1. All requests that have arrived are answered in one pass, in order, into one queue: pipelined ones cost one send.
//! 2. A head has an absolute time-out: who sends it a byte at a time is not waited for longer. A body must come at a rate.
//! 3. A request body that nobody asked for is read and dropped within `max_body_bytes`; beyond it the connection is closed.
//! 4. The steady state allocates nothing: answers are made once for each file and copied from there.
//! 5. Who is not served is told why, unless that could be taken for the answer to another request: between requests, and
//!    once a request was answered, the connection just closes.
//!
//! [`sites`] tells what is served where and answers every error. [`files`] answers with what stands in a folder, with
//! [`listing`] where it has no index; [`pages`] has the embedded site, [`answer`] what is no file; [`auth`] judges passwords,
//! [`admission`] counts connections, and [`access_log`] has a line for each answer. RFC 9110, RFC 9112.

mod access_log;
mod admission;
mod answer;
mod auth;
mod files;
#[cfg(test)]
mod files_tests;
mod listing;
mod pages;
mod sites;

use std::net::IpAddr;
use std::path::PathBuf;
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use super::prolonged;
use crate::config::{self, HttpConfig, Routes};
use crate::disk::Disk;
use crate::ending::{Ending, Error, Phase};
use crate::http::body::BodyDecoder;
use crate::http::head::{BodyLength, HeadError, HeadScanner, Limits, Parsed, RequestHead};
use crate::http::target::Target;
use crate::http::{Method, Status, Version, trim_ows};
use crate::metrics::Limit;
use crate::service::{Cx, Io, Link, Peer, Service};
use access_log::{AccessLog, Line};
use admission::{Admission, Place};
use answer::{Answered, Answers, Refusal};
use files::Progress;
use pages::Pages;
use sites::{Content, Site, Sites};

/// What an answer may need at once in the send queue besides a small file's bytes.
const ANSWER_BYTES: usize = 2 * 1024;

/// The web server.
pub struct Http {
    config: HttpConfig,
    limits: Limits,
    sites: Sites,
    answers: Answers,
    log: Option<Box<AccessLog>>,
    admission: Admission,
}

/// One connection.
pub struct Conn {
    state: State,
    /// How far a head that comes in pieces was searched; most come whole, and an idle connection has none.
    scanner: Option<Box<HeadScanner>>,
    requests: u64,
    /// For the log.
    peer: Option<IpAddr>,
    /// `None` for a client that is refused.
    place: Option<Place>,
}

enum State {
    /// Nothing of the next request has come.
    Idle { until: Instant },
    /// Some of its head has.
    Head { until: Instant },
    /// The request was answered, or waits for its body to be answered.
    Body(Box<RequestBody>),
    /// There is no place for this client.
    Refused {
        refusal: &'static Refusal,
        until: Instant,
    },
}

/// A request body that is being received.
struct RequestBody {
    decoder: BodyDecoder,
    until: Instant,
    /// Bytes that may still come, framing included.
    left: u64,
    /// The probe's `POST /`: the body is sent back when it is whole.
    echo: Option<Echo>,
}

struct Echo {
    bytes: Vec<u8>,
    connection: Connection,
}

/// What the answer's `Connection` says, and what happens after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Connection {
    /// HTTP/1.1's default: nothing is said.
    Keep,
    /// An HTTP/1.0 client asked for it.
    KeepSaid,
    /// This answer is the last.
    Close,
}

impl Connection {
    fn header(self) -> &'static [u8] {
        match self {
            Connection::Keep => b"",
            Connection::KeepSaid => b"Connection: keep-alive\r\n",
            Connection::Close => b"Connection: close\r\n",
        }
    }
}

impl Http {
    /// A server as configured. `listeners`: what the embedded site says is listening where.
    ///
    /// # Errors
    /// The root cannot be opened.
    pub fn new(
        config: &HttpConfig,
        listeners: &[(String, String)],
        disk: &mut dyn Disk,
    ) -> Result<Self, (PathBuf, std::io::Error)> {
        let limits = crate::cache::files::Limits {
            files_max: config.open_files_max,
            bytes_max: config.memory_bytes_max,
        };
        let mut sites = Vec::new();
        for site in &config.sites {
            let (host, root) = (site.host.clone(), Some(&site.root));
            sites.push(Site::open(
                host,
                &site.prefix,
                root,
                &site.files,
                limits,
                disk,
            )?);
        }
        let root = config.root.as_ref();
        let mut rest = Site::open(None, "", root, &config.files, limits, disk)?;
        if root.is_none() && sites.is_empty() {
            rest.content = Content::Pages(Pages::new(listeners));
        }
        let sites = Sites::new(sites, rest);
        let log = config.access_log.as_ref().map(|place| {
            let log = AccessLog::open(place, config.log_format, disk);
            log.map(Box::new).map_err(|error| match place {
                config::AccessLog::Path(path) => (path.clone(), error),
                config::AccessLog::StandardError => (PathBuf::from("standard error"), error),
            })
        });
        let log = log.transpose()?;
        Ok(Self {
            limits: Limits {
                head_bytes_max: config.head_bytes_max,
                target_bytes_max: config.target_bytes_max,
                ..Limits::default()
            },
            admission: Admission::new(config),
            config: config.clone(),
            sites,
            answers: Answers::default(),
            log,
        })
    }

    /// Answers the request at the front of what arrived. Whether there was a whole one, and room for its answer.
    fn answer_next(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> bool {
        if !io.down.tx.has_room(ANSWER_BYTES) {
            return false;
        }
        let Link { rx, tx, .. } = &mut *io.down;
        let mut out = answer::Out { tx, cx: &mut io.cx };
        let mut fresh = HeadScanner::default();
        let scanner = conn.scanner.as_deref_mut().unwrap_or(&mut fresh);
        let (head, head_bytes) = match scanner.request(rx.bytes(), &self.limits) {
            Ok(Parsed::Complete(head, bytes)) => {
                conn.scanner = None;
                (head, bytes)
            }
            Ok(Parsed::Partial) => {
                if conn.scanner.is_none() && !rx.is_empty() {
                    conn.scanner = Some(Box::new(fresh));
                }
                // A line end too many behind the last request is no beginning of the next (RFC 9112 section 2.2).
                let begun = rx.bytes().iter().any(|byte| !b"\r\n".contains(byte));
                if begun && matches!(conn.state, State::Idle { .. }) {
                    let until = out.cx.now + self.config.head_timeout;
                    conn.state = State::Head { until };
                }
                if !rx.has_space() && !rx.enlarge(out.cx.pool) {
                    self.refuse_last(HeadError::HeadTooLarge.into(), Ending::Refused, io);
                }
                return false;
            }
            Err(error) => {
                self.refuse_last(error.into(), Ending::Refused, io);
                return false;
            }
        };
        let last = out.cx.draining
            || !head.keep_alive
            || self
                .config
                .requests_per_connection_max
                .is_some_and(|max| conn.requests + 1 >= max.get())
            || head.method == Method::Connect;
        let connection = match (last, head.version) {
            (true, _) => Connection::Close,
            (false, Version::Http10) => Connection::KeepSaid,
            (false, Version::Http11) => Connection::Keep,
        };
        let next = self.respond(&head, connection, &mut out);
        if !matches!(next, Next::Later) {
            conn.requests += 1;
            if let Some(log) = &mut self.log {
                self.answers.refused = false;
                let line = line(
                    Some(&head),
                    self.answers.answered,
                    conn,
                    &self.config,
                    out.cx.now,
                    out.cx.wall,
                );
                log.add(&line, out.cx.disk, &mut out.cx.counted);
            }
        }
        if matches!(next, Next::Later) {
            // The request stays where it is, and is read again then.
            if matches!(conn.state, State::Idle { .. }) {
                conn.state = State::Head {
                    until: io.cx.now + self.config.head_timeout,
                };
            }
            io.again();
            return false;
        }
        let (length, more) = (head.body, head.keep_alive);
        rx.consume(head_bytes);
        let echo = match next {
            Next::Done if connection == Connection::Close => {
                match length {
                    BodyLength::None if !more => io.close_at_once(),
                    _ => io.close(), // what still comes is read and dropped as the session lingers
                }
                return false;
            }
            Next::Done if length == BodyLength::None => {
                conn.state = State::Idle {
                    until: io.cx.now + self.config.idle_timeout,
                };
                return true;
            }
            Next::Done | Next::Later => None,
            Next::Close(ending) => {
                io.close_as(ending);
                return false;
            }
            Next::Echo => Some(Echo {
                bytes: Vec::new(),
                connection,
            }),
        };
        conn.state = State::Body(Box::new(RequestBody {
            decoder: BodyDecoder::new(length),
            until: io.cx.now + self.config.body_timeout,
            left: self.config.body_bytes_max,
            echo,
        }));
        true
    }

    /// A line for an answer to what was no request, and whatever the lines need at the end of the turn.
    fn log_refusal(&mut self, conn: &Conn, io: &mut Io<'_>) {
        let Some(log) = &mut self.log else { return };
        if std::mem::take(&mut self.answers.refused) {
            let (answered, config) = (self.answers.answered, &self.config);
            let line = line(None, answered, conn, config, io.cx.now, io.cx.wall);
            log.add(&line, io.cx.disk, &mut io.cx.counted);
        }
        if log.is_waiting() {
            io.at_turn_end();
        }
    }

    /// When no more requests can be answered now: is this the end?
    fn end(&mut self, conn: &Conn, io: &mut Io<'_>) {
        if io.asked.close || io.down.tx.was_refused() {
            return; // it is one already, or there are requests to answer once there is room
        }
        let late = io.cx.now >= self.deadline(conn) && io.down.tx.is_empty();
        let needless = io.cx.draining && matches!(conn.state, State::Idle { .. });
        if !(io.down.eof || late || needless) {
            return;
        }
        let (phase, awaited) = match &conn.state {
            State::Idle { .. } | State::Refused { .. } => (Phase::Idle, false),
            State::Head { .. } => (Phase::Head, true),
            State::Body(body) => (Phase::Body, body.echo.is_some()),
        };
        let timed_out = Ending::TimedOut(phase);
        match (awaited, io.down.eof) {
            (true, true) => self.refuse_last(CUT_SHORT, Ending::Refused, io),
            (true, false) => self.refuse_last(LATE, timed_out, io),
            (false, false) if late => io.close_as(timed_out),
            (false, _) => io.close(),
        }
    }

    /// Answers what is not, or no longer, a request that could be answered, and closes.
    fn refuse_last(&mut self, refusal: Refusal, ending: Ending, io: &mut Io<'_>) {
        let (site, answers) = (self.sites.find(None), &mut self.answers);
        let (method, connection) = (Method::Get, Connection::Close);
        let mut out = answer::Out::of(io);
        site.refuse(refusal, method, connection, answers, &mut out);
        io.close_as(ending);
    }

    /// Answers one request, or says what must come before its answer.
    fn respond(
        &mut self,
        head: &RequestHead<'_>,
        connection: Connection,
        out: &mut answer::Out<'_, '_>,
    ) -> Next {
        let unusual = head.body != BodyLength::None || head.expect_unknown;
        let objection = match unusual || !matches!(head.target, Target::Origin { .. }) {
            true => self.objection(head),
            false => None,
        };
        // A client that waits for `100 Continue` and gets another answer may or may not send its body then: only a new
        // connection is unambiguous (RFC 9110 section 10.1.1).
        let last = head.expect_continue || objection.is_some();
        let ending = match objection {
            Some(_) => Ending::Refused,
            None => Ending::Done,
        };
        let connection = if last { Connection::Close } else { connection };
        let result = match objection {
            Some(refusal) => Err(refusal),
            None => self.serve(head, connection, out),
        };
        let next = result.unwrap_or_else(|refusal| {
            let (site, answers) = (self.sites.find(Some(head)), &mut self.answers);
            site.refuse(refusal, head.method, connection, answers, out);
            Next::Done
        });
        match next {
            Next::Done if last => Next::Close(ending),
            next => next,
        }
    }

    /// Answers a request against which there is no objection, unless what it is about refuses it.
    fn serve(
        &mut self,
        head: &RequestHead<'_>,
        connection: Connection,
        out: &mut answer::Out<'_, '_>,
    ) -> Result<Next, Refusal> {
        let (site, answers) = (self.sites.find(Some(head)), &mut self.answers);
        // Before anything else: whatever the site has, and whether it has it, is for those who may see it.
        match site.admit(head, out) {
            Poll::Ready(result) => result?,
            Poll::Pending => return Ok(Next::Later),
        }
        if self.config.routes == Routes::Probe
            && let Some(result) = probe(head, connection, answers, out)
        {
            return result;
        }
        match head.method {
            Method::Get | Method::Head => {
                return match site.respond(head, connection, answers, out)? {
                    Progress::Answered => Ok(Next::Done),
                    Progress::Later => Ok(Next::Later),
                };
            }
            Method::Options => answers.options(connection, answer::ALLOW, out),
            Method::Other(_) => return Err(UNKNOWN_METHOD),
            _ => return Err(Refusal::method(answer::ALLOW)),
        }
        Ok(Next::Done)
    }

    /// What is wrong with a request that is well-formed, whatever it asks for.
    #[cold]
    fn objection(&self, head: &RequestHead<'_>) -> Option<Refusal> {
        if matches!(head.body, BodyLength::Length(length) if length > self.config.body_bytes_max) {
            return Some(BODY_TOO_LARGE);
        }
        if head.expect_unknown {
            let text = "this server meets no expectation but 100-continue";
            return Some(Refusal::new(Status::EXPECTATION_FAILED, text));
        }
        // Whoever speaks to the origin of an `https` resource must do so over TLS (RFC 9110 section 7.4).
        if let Target::Absolute { scheme, .. } = head.target
            && !scheme.eq_ignore_ascii_case("http")
            && !(scheme.eq_ignore_ascii_case("https") && self.config.stream.tls.is_some())
        {
            let text = "this listener has no resources of this scheme";
            return Some(Refusal::new(Status::MISDIRECTED_REQUEST, text));
        }
        None
    }

    /// Receives a body. Whether it is whole.
    fn receive_body(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> bool {
        let State::Body(body) = &mut conn.state else {
            return true;
        };
        loop {
            let bytes = io.down.rx.bytes();
            let step = match body.decoder.step(bytes) {
                Ok(step) => step,
                Err(error) => {
                    // Where the request was answered already, a second answer would be taken for another request's.
                    match body.echo.is_some() {
                        true => {
                            let refusal = Refusal::new(Status::BAD_REQUEST, error.text());
                            self.refuse_last(refusal, Ending::Refused, io);
                        }
                        false => io.close_as(Ending::Refused),
                    }
                    return false;
                }
            };
            let consumed = step.consumed();
            if let Some(echo) = &mut body.echo {
                echo.bytes.extend_from_slice(&bytes[step.framing..consumed]);
            }
            io.down.rx.consume(consumed);
            let (rate_min, most) = (self.config.body_rate_min, self.config.body_timeout);
            body.until = prolonged(body.until, consumed, rate_min, io.cx.now, most);
            let Some(left) = body.left.checked_sub(consumed as u64) else {
                match body.echo.is_some() {
                    true => self.refuse_last(BODY_TOO_LARGE, Ending::Refused, io),
                    false => {
                        io.cx.counted.refused(Limit::Body);
                        io.close_as(Ending::Refused);
                    }
                }
                return false;
            };
            body.left = left;
            if step.done {
                break;
            }
            if consumed == 0 {
                return false;
            }
        }
        let echo = body.echo.take();
        conn.state = State::Idle {
            until: io.cx.now + self.config.idle_timeout,
        };
        if let Some(Echo { bytes, connection }) = echo {
            self.answers.plain(
                Status::OK,
                &bytes,
                Method::Post,
                connection,
                &mut answer::Out::of(io),
            );
            if connection == Connection::Close {
                io.close();
                return false;
            }
        }
        true
    }
}

const CUT_SHORT: Refusal =
    Refusal::new(Status::BAD_REQUEST, "the request ended before it was whole");
const LATE: Refusal = Refusal::new(
    Status::REQUEST_TIMEOUT,
    "the request took longer to arrive than this server waits",
);
const BODY_TOO_LARGE: Refusal = Refusal::beyond(
    Limit::Body,
    Status::CONTENT_TOO_LARGE,
    "the body is longer than this server takes",
);
const UNKNOWN_METHOD: Refusal =
    Refusal::new(Status::NOT_IMPLEMENTED, "this server knows no such method");

impl From<HeadError> for Refusal {
    fn from(error: HeadError) -> Self {
        let limit = match error.status() {
            Status::URI_TOO_LONG => Some(Limit::Target),
            Status::REQUEST_HEADER_FIELDS_TOO_LARGE => Some(Limit::Head),
            _ => None,
        };
        Self {
            limit,
            ..Self::new(error.status(), error.text())
        }
    }
}

/// The routes that load and conformance tools expect; `None` for any other.
fn probe(
    head: &RequestHead<'_>,
    connection: Connection,
    answers: &mut Answers,
    out: &mut answer::Out<'_, '_>,
) -> Option<Result<Next, Refusal>> {
    let method = head.method;
    let allow = match head.target.path()? {
        "/" | "/echo" => "GET, HEAD, POST, OPTIONS",
        "/cookie" => answer::ALLOW,
        _ => return None,
    };
    match (head.target.path()?, method) {
        ("/", Method::Get | Method::Head) => {
            answers.plain(Status::OK, b"OK", method, connection, out);
        }
        ("/", Method::Post) if head.body == BodyLength::None => {
            answers.plain(Status::OK, b"", method, connection, out);
        }
        ("/", Method::Post) => {
            if head.expect_continue {
                out.put(b"HTTP/1.1 100 Continue\r\n\r\n");
            }
            answers.answered = Answered {
                status: Status::OK,
                body_bytes: match head.body {
                    BodyLength::Length(length) => length,
                    _ => 0,
                },
            };
            return Some(Ok(Next::Echo));
        }
        ("/echo", Method::Get | Method::Head | Method::Post) => {
            let (target, version) = (head.target_text, head.version.as_str());
            let mut text = format!("{method} {target} {version}\r\n").into_bytes();
            for (name, value) in head.headers.iter() {
                text.extend_from_slice(name.as_bytes());
                text.extend_from_slice(b": ");
                text.extend_from_slice(value);
                text.extend_from_slice(b"\r\n");
            }
            answers.plain(Status::OK, &text, method, connection, out);
        }
        ("/cookie", Method::Get | Method::Head) => {
            let mut text = Vec::new();
            for pair in head
                .headers
                .all("cookie")
                .flat_map(|value| value.split(|&byte| byte == b';'))
            {
                put_cookie(&mut text, pair);
            }
            answers.plain(Status::OK, &text, method, connection, out);
        }
        (_, Method::Options) => answers.options(connection, allow, out),
        (_, Method::Other(_)) => return Some(Err(UNKNOWN_METHOD)),
        _ => return Some(Err(Refusal::method(allow))),
    }
    Some(Ok(Next::Done))
}

/// What the log says of an answer.
fn line<'a>(
    head: Option<&'a RequestHead<'a>>,
    answered: Answered,
    conn: &Conn,
    config: &HttpConfig,
    now: Instant,
    wall: SystemTime,
) -> Line<'a> {
    let took = match conn.state {
        State::Head { until } => (now + config.head_timeout).saturating_duration_since(until),
        _ => Duration::ZERO,
    };
    Line {
        peer: conn.peer,
        head,
        answered,
        took,
        wall,
    }
}

/// What follows an answer.
enum Next {
    /// The answer is queued; a body, if there is one, is read and dropped.
    Done,
    /// The answer is queued and the last.
    Close(Ending),
    /// The answer is the body itself, once it is whole.
    Echo,
    /// There is no answer yet: the request is to be answered in the next turn.
    Later,
}

impl Service for Http {
    type Conn = Conn;
    const CLIENT_FIRST: bool = true;

    fn accept(&mut self, peer: &Peer, now: Instant) -> Conn {
        let until = now + self.config.head_timeout;
        let (state, place) = match self.admission.admit(peer) {
            Ok(place) => (State::Idle { until }, Some(place)),
            Err(refusal) => (State::Refused { refusal, until }, None),
        };
        Conn {
            state,
            scanner: None,
            requests: 0,
            peer: match peer {
                Peer::Inet(address) => Some(address.ip().to_canonical()),
                Peer::Unix => None,
            },
            place,
        }
    }

    fn advance(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        if io.drained
            && let State::Idle { until } = &mut conn.state
        {
            *until = io.cx.now + self.config.idle_timeout;
        }
        loop {
            let more = match conn.state {
                State::Idle { .. } | State::Head { .. } => self.answer_next(conn, io),
                State::Body(_) => self.receive_body(conn, io),
                State::Refused { refusal, .. } => {
                    self.refuse_last(*refusal, Ending::Refused, io);
                    false
                }
            };
            if !more {
                break;
            }
        }
        // While a request is being answered, this cannot be the end.
        if !io.is_again() {
            self.end(conn, io);
        }
        if self.log.is_some() {
            self.log_refusal(conn, io);
        }
        Ok(())
    }

    fn turn_ended(&mut self, cx: &mut Cx<'_>) {
        if let Some(log) = &mut self.log {
            log.flush(cx.disk, &mut cx.counted);
        }
    }

    fn reopen(&mut self, cx: &mut Cx<'_>) {
        if let Some(log) = &mut self.log {
            log.reopen(cx.disk);
        }
    }

    fn deadline(&self, conn: &Conn) -> Instant {
        match &conn.state {
            State::Idle { until } | State::Head { until } | State::Refused { until, .. } => *until,
            State::Body(body) => body.until,
        }
    }

    fn ended(&mut self, conn: Conn, _cx: &mut Cx<'_>) {
        if let Some(place) = conn.place {
            self.admission.leave(place);
        }
    }
}

/// A cookie as a line `name=value` (RFC 6265 section 4.2.1); what has no name is left out.
fn put_cookie(text: &mut Vec<u8>, pair: &[u8]) {
    let Some(equals) = pair.iter().position(|&byte| byte == b'=') else {
        return;
    };
    let (name, value) = (trim_ows(&pair[..equals]), trim_ows(&pair[equals + 1..]));
    if !name.is_empty() {
        text.extend_from_slice(name);
        text.push(b'=');
        text.extend_from_slice(value);
        text.push(b'\n');
    }
}
