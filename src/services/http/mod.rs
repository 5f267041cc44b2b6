//! The web server: files of a folder, or of a small embedded site, over HTTP/1.1 and 1.0.
//!
//! ```text
//!          ┌──────────────────── answered, connection kept ◀──────────────┐
//!          ▼                                                              │
//! Idle ──bytes──▶ Head ──whole──▶ answered ──body to come──▶ Body ──whole─┘
//!                  │                  └── not kept ──▶ closed
//!                  └──malformed──▶ 4xx, closed
//! ```
//!
//! The rules:
//! 1. All requests that have arrived are answered in one pass, in order, into one queue: pipelined ones cost one send.
//! 2. A head has an absolute time-out: who sends it a byte at a time is not waited for longer.
//! 3. A request body that nobody asked for is read and dropped within `max_body_bytes`; beyond it the connection is closed.
//! 4. The steady state allocates nothing: answers are made once for each file and copied from there.
//!
//! [`answer`] writes what is not a file, [`files`] what is, [`site`] is the embedded site. RFC 9110, RFC 9112.

mod answer;
mod files;
mod site;

use std::path::PathBuf;
use std::time::Instant;

use crate::config::{HttpConfig, Routes};
use crate::http::body::BodyDecoder;
use crate::http::head::{BodyLength, HeadScanner, Limits, Parsed, RequestHead};
use crate::http::{Method, Status, Version};
use crate::service::{Disk, Error, Io, Link, Peer, Phase, Service};
use answer::Answers;
use files::Files;
use site::Site;

/// What an answer may need at once in the send queue besides a small file's bytes.
const ANSWER_BYTES: usize = 2 * 1024;

/// The web server.
pub struct Http {
    config: HttpConfig,
    limits: Limits,
    content: Content,
    answers: Answers,
}

/// What is served.
enum Content {
    Files(Files),
    Site(Site),
}

/// One connection.
pub struct Conn {
    state: State,
    scanner: HeadScanner,
    requests: u64,
}

enum State {
    /// Nothing of the next request has come.
    Idle { until: Instant },
    /// Some of its head has.
    Head { until: Instant },
    /// The request was answered, or waits for its body to be answered.
    Body {
        idle_until: Instant,
        body: Box<RequestBody>,
    },
}

/// A request body that is being received.
struct RequestBody {
    decoder: BodyDecoder,
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
        let content = match &config.root {
            Some(root) => {
                let folder = disk
                    .open_folder(root)
                    .map_err(|error| (root.clone(), error))?;
                Content::Files(Files::new(folder, config))
            }
            None => Content::Site(Site::new(listeners)),
        };
        Ok(Self {
            limits: Limits {
                head_bytes_max: config.head_bytes_max,
                ..Limits::default()
            },
            config: config.clone(),
            content,
            answers: Answers::default(),
        })
    }

    /// Answers the request at the front of what arrived. Whether there was a whole one, and room for its answer.
    fn answer_next(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> bool {
        if !io.down.tx.has_room(ANSWER_BYTES) {
            return false;
        }
        let Link { rx, tx, .. } = &mut *io.down;
        let mut out = answer::Out {
            tx,
            pool: io.pool,
            wall: io.wall,
            now: io.now,
            disk: io.disk,
        };
        let (head, head_bytes) = match conn.scanner.request(rx.bytes(), &self.limits) {
            Ok(Parsed::Complete(head, bytes)) => (head, bytes),
            Ok(Parsed::Partial) => {
                if matches!(conn.state, State::Idle { .. }) && !rx.is_empty() {
                    conn.state = State::Head {
                        until: io.now + self.config.head_timeout,
                    };
                }
                return false;
            }
            Err(error) => {
                self.answers.refuse(error.status(), error.text(), &mut out);
                io.close();
                return false;
            }
        };
        conn.requests += 1;
        let last = io.draining
            || !head.keep_alive
            || self
                .config
                .requests_per_connection_max
                .is_some_and(|max| conn.requests >= max.get())
            || head.method == Method::Connect;
        let connection = match (last, head.version) {
            (true, _) => Connection::Close,
            (false, Version::Http10) => Connection::KeepSaid,
            (false, Version::Http11) => Connection::Keep,
        };
        let next = self.respond(&head, connection, &mut out);
        let body = match next {
            Next::Done if head.body == BodyLength::None => None,
            Next::Done => Some(None),
            Next::Close => {
                rx.consume(head_bytes);
                io.close();
                return false;
            }
            Next::Echo => Some(Some(Echo {
                bytes: Vec::new(),
                connection,
            })),
        };
        let length = head.body;
        rx.consume(head_bytes);
        match body {
            None if connection == Connection::Close => {
                io.close();
                return false;
            }
            None => {
                conn.state = State::Idle {
                    until: io.now + self.config.idle_timeout,
                }
            }
            Some(echo) => {
                let body = RequestBody {
                    decoder: BodyDecoder::new(length),
                    left: self.config.body_bytes_max,
                    echo,
                };
                let body = Box::new(body);
                conn.state = State::Body {
                    idle_until: io.now + self.config.body_timeout,
                    body,
                };
            }
        }
        true
    }

    /// When no more requests can be answered now: is this the end?
    fn end(&mut self, conn: &Conn, io: &mut Io<'_>) -> Result<(), Error> {
        if io.down.tx.was_refused() {
            return Ok(()); // there are requests to answer once there is room
        }
        let idle = matches!(conn.state, State::Idle { .. });
        let late = io.now >= self.deadline(conn) && io.down.tx.is_empty();
        if io.down.eof || idle && (io.draining || late) {
            io.close();
            return Ok(());
        }
        match conn.state {
            State::Head { .. } if late => {
                let text = "the request took longer to arrive than this server waits";
                self.answers
                    .refuse(Status::REQUEST_TIMEOUT, text, &mut answer::Out::of(io));
                io.close();
                Ok(())
            }
            State::Body { .. } if late => Err(Error::TimedOut(Phase::Body)),
            _ => Ok(()),
        }
    }

    /// Answers one request, or says what must come before its answer.
    fn respond(
        &mut self,
        head: &RequestHead<'_>,
        connection: Connection,
        out: &mut answer::Out<'_>,
    ) -> Next {
        let too_large =
            matches!(head.body, BodyLength::Length(length) if length > self.config.body_bytes_max);
        if too_large {
            let text = "the body is longer than this server takes";
            self.answers.refuse(Status::CONTENT_TOO_LARGE, text, out);
            return Next::Close;
        }
        if self.config.routes == Routes::Probe
            && let Some(next) = self.probe(head, connection, out)
        {
            return next;
        }
        // A client that waits for `100 Continue` gets the answer instead, and may or may not send its body then: only a
        // new connection is unambiguous (RFC 9110 section 10.1.1).
        let (connection, done) = match head.expect_continue {
            true => (Connection::Close, Next::Close),
            false => (connection, Next::Done),
        };
        match head.method {
            Method::Get | Method::Head => match &mut self.content {
                Content::Files(files) => files.respond(head, connection, &mut self.answers, out),
                Content::Site(site) => site.respond(head, connection, &mut self.answers, out),
            },
            Method::Options => self.answers.options(connection, out),
            Method::Post
            | Method::Put
            | Method::Delete
            | Method::Patch
            | Method::Trace
            | Method::Connect => {
                self.answers
                    .method_not_allowed(head.method, connection, answer::ALLOW, out);
            }
            Method::Other(_) => {
                let text = "this server knows no such method";
                self.answers
                    .text(Status::NOT_IMPLEMENTED, text, head.method, connection, out);
            }
        }
        done
    }

    /// The routes that load and conformance tools expect.
    fn probe(
        &mut self,
        head: &RequestHead<'_>,
        connection: Connection,
        out: &mut answer::Out<'_>,
    ) -> Option<Next> {
        match (head.target.path()?, head.method) {
            ("/", Method::Get | Method::Head) => {
                self.answers
                    .plain(Status::OK, b"OK", head.method, connection, out);
            }
            ("/", Method::Post) => {
                if head.body == BodyLength::None {
                    self.answers
                        .plain(Status::OK, b"", head.method, connection, out);
                    return Some(Next::Done);
                }
                if head.expect_continue {
                    out.tx.put(b"HTTP/1.1 100 Continue\r\n\r\n", out.pool);
                }
                return Some(Next::Echo);
            }
            ("/", method) => {
                self.answers.method_not_allowed(
                    method,
                    connection,
                    "GET, HEAD, POST, OPTIONS",
                    out,
                );
            }
            ("/echo", Method::Get | Method::Head | Method::Post) => {
                let mut text = format!(
                    "{} {} {}\r\n",
                    head.method.as_str(),
                    head.target_text,
                    head.version.as_str()
                )
                .into_bytes();
                for (name, value) in head.headers.iter() {
                    text.extend_from_slice(name.as_bytes());
                    text.extend_from_slice(b": ");
                    text.extend_from_slice(value);
                    text.extend_from_slice(b"\r\n");
                }
                self.answers
                    .plain(Status::OK, &text, head.method, connection, out);
            }
            ("/cookie", Method::Get | Method::Head) => {
                let mut text = Vec::new();
                for pair in head
                    .headers
                    .all("cookie")
                    .flat_map(|value| value.split(|&byte| byte == b';'))
                {
                    text.extend_from_slice(crate::http::trim_ows(pair));
                    text.push(b'\n');
                }
                self.answers
                    .plain(Status::OK, &text, head.method, connection, out);
            }
            ("/echo" | "/cookie", method) => {
                self.answers
                    .method_not_allowed(method, connection, answer::ALLOW, out);
            }
            _ => return None,
        }
        Some(Next::Done)
    }

    /// Receives a body. Whether it is whole.
    fn receive_body(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> bool {
        let State::Body { idle_until, body } = &mut conn.state else {
            return true;
        };
        loop {
            let bytes = io.down.rx.bytes();
            let step = match body.decoder.step(bytes) {
                Ok(step) => step,
                Err(error) => {
                    // Where the request was answered already, a second answer would be taken for another request's.
                    if body.echo.is_some() {
                        let mut out = answer::Out::of(io);
                        self.answers
                            .refuse(Status::BAD_REQUEST, error.text(), &mut out);
                    }
                    io.close();
                    return false;
                }
            };
            let consumed = step.consumed();
            if let Some(echo) = &mut body.echo {
                echo.bytes.extend_from_slice(&bytes[step.framing..consumed]);
            }
            io.down.rx.consume(consumed);
            if consumed > 0 {
                *idle_until = io.now + self.config.body_timeout;
            }
            let Some(left) = body.left.checked_sub(consumed as u64) else {
                if body.echo.is_some() {
                    let text = "the body is longer than this server takes";
                    self.answers
                        .refuse(Status::CONTENT_TOO_LARGE, text, &mut answer::Out::of(io));
                }
                io.close();
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
            until: io.now + self.config.idle_timeout,
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

/// What follows an answer.
enum Next {
    /// The answer is queued; a body, if there is one, is read and dropped.
    Done,
    /// The answer is queued and the last.
    Close,
    /// The answer is the body itself, once it is whole.
    Echo,
}

impl Service for Http {
    type Conn = Conn;

    fn accept(&mut self, _peer: &Peer, now: Instant) -> Conn {
        Conn {
            state: State::Idle {
                until: now + self.config.head_timeout,
            },
            scanner: HeadScanner::default(),
            requests: 0,
        }
    }

    fn advance(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        if io.drained
            && let State::Idle { until } = &mut conn.state
        {
            *until = io.now + self.config.idle_timeout;
        }
        loop {
            let more = match conn.state {
                State::Idle { .. } | State::Head { .. } => self.answer_next(conn, io),
                State::Body { .. } => self.receive_body(conn, io),
            };
            if !more {
                break;
            }
        }
        self.end(conn, io)
    }

    fn deadline(&self, conn: &Conn) -> Instant {
        match &conn.state {
            State::Idle { until } | State::Head { until } => *until,
            State::Body { idle_until, .. } => *idle_until,
        }
    }
}
