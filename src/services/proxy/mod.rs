//! The web proxy: requests come in, are sent on to the origin that they name, and its answers come back.
//!
//! RFC 9110 section 7 (routing), RFC 9112 section 9 (connections). One session carries both sides, so that backpressure is
//! nothing but two bounded queues, and the end of one side is a fact that the other sees.
//!
//! ```text
//!            ┌──────────────── the connection to this origin is still there ────────────────┐
//!            │                                                                              ▼
//! Idle ──▶ Head ──another origin──▶ Resolving ──allowed──▶ Connecting ──request head sent──▶ Exchanging ──▶ Idle
//!   ▲        │                        ▲   │                    │                              │   │
//!   │        │                        │   │                    └──CONNECT──▶ Tunnel ──▶ end   │   │
//!   │        │                        └───┼── the kept connection was dead: once more ────────┘   │
//!   └────────┴──── an answer of our own ──┴───────────────────────────────────────────────────────┘
//! ```
//!
//! Rules:
//! 1. The head of a request stays at the front of `down.rx` until it was sent for good: what must be sent again is read
//!    again, and nothing is kept elsewhere. A request without body that may be repeated stays until the first byte of its
//!    answer, where it went out on a connection that had been used before.
//! 2. Bodies are validated and passed on as they come, never collected. A chunked one keeps its chunks, unless the client
//!    speaks HTTP/1.0; one that lasts until the origin closes gets chunks, unless the client speaks HTTP/1.0.
//! 3. Nobody is connected to whose address is refused, however it was written, and a name is refused as a whole. The
//!    configured upstream of a gateway is exempt.
//! 4. What was broken off is never made to look complete: once a byte of an answer went out, a failure closes the connection.
//! 5. Room for an answer of our own is asked for before a head is read, so that such an answer never waits.
//!
//! The files in reading order: this one, `route` (where a request goes), `heads` (what is written).
//!
//! Deliberately not here: keeping answers, `Upgrade`, TLS to origins, authentication, and parking connections of clients that
//! have left.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::buffer::{PAGE_BYTES, Pool, RecvBuf, SendQueue, pour};
use crate::config::{Cache, ConnectPorts, ProxyConfig};
use crate::dns::{AddressPolicy, Failure, Refused};
use crate::http::body::{BodyDecoder, BodyError, CHUNK_END, ChunkHead, LAST_CHUNK};
use crate::http::head::{BodyLength, HEADERS_MAX, HeadScanner, Limits, Parsed, RequestHead};
use crate::http::{Method, Status as Code, Version};
use crate::service::{Error, Finish, Io, Link, Peer, Phase, Service, Status};

mod heads;
mod route;
#[cfg(test)]
mod tests;

use heads::{ANSWER_BYTES_MAX, Answer, Manner, Persistence};
use route::{Form, Origin, Refusal, Route};

/// What the framing of one chunk takes at most: 16 digits and two line ends.
const CHUNK_FRAMING_BYTES_MAX: usize = 20;

/// The answer that opens a tunnel.
const TUNNEL_OPEN: &[u8] = b"HTTP/1.1 200 Connection established\r\n\r\n";

/// The proxy service.
pub struct Proxy {
    rules: Rules,
    /// The head that is being written, kept for its memory only.
    scratch: Vec<u8>,
}

/// What the configuration says, ready for use.
struct Rules {
    policy: AddressPolicy,
    connect_ports: ConnectPorts,
    /// The one origin of a gateway.
    gateway: Option<Origin>,
    /// By which we know that a request was here before.
    pseudonym: String,
    request_limits: Limits,
    response_limits: Limits,
    connect_timeout: Duration,
    upstream_timeout: Duration,
    idle_timeout: Duration,
    head_timeout: Duration,
}

/// One client, and the origin that it is connected to.
pub struct Conn {
    state: State,
    /// Of the head that is being read: first a request's, then its response's.
    scanner: HeadScanner,
    /// Whose connection `io.up` is, or is about to be.
    origin: Origin,
}

enum State {
    /// No byte of a request is here.
    Idle { until: Instant },
    /// Some bytes of a head are here.
    Head { until: Instant },
    /// The addresses of the origin are awaited.
    Resolving { request: Request, until: Instant },
    /// The connection to the origin is being made.
    Connecting { request: Request, until: Instant },
    /// The request is under way.
    Exchanging(Exchange),
    /// Bytes go both ways.
    Tunnel(Tunnel),
}

/// What must be known of a request while it is answered.
#[derive(Clone, Copy)]
struct Request {
    form: Form,
    version: Version,
    /// The bytes of its head at the front of `down.rx`; 0 once they were consumed.
    head_bytes: usize,
    body: BodyLength,
    /// It is a HEAD: its answer has no body.
    is_head: bool,
    /// It may be sent again when nobody knows whether it arrived.
    repeatable: bool,
    keep_alive: bool,
    /// The client waits for the origin's word before it sends the body.
    expects_continue: bool,
}

/// A request on its way and its answer on the way back.
struct Exchange {
    request: Request,
    upload: BodyDecoder,
    download: Download,
    /// When bytes last moved.
    moved: Instant,
    until: Instant,
    backlog: Backlog,
}

enum Download {
    /// The final response has not begun.
    Awaited,
    /// Its head was passed on.
    Passing {
        body: BodyDecoder,
        coding: Coding,
        /// The origin's connection can take another request.
        reusable: bool,
        /// The client's connection ends with this answer.
        ends: bool,
    },
}

/// What becomes of the framing of a body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coding {
    /// It is passed on.
    Kept,
    /// Chunks are undone: the end of the connection is the end of the body.
    Undone,
    /// Chunks are made.
    Made,
}

struct Tunnel {
    until: Instant,
    backlog: Backlog,
}

/// What waited to be sent to the origin at the last look, in bytes: less of it now means that the origin takes it.
#[derive(Default)]
struct Backlog(usize);

/// What came of looking at a state.
enum Step {
    /// Nothing more can be done now.
    Wait,
    Go(State),
    End,
}

impl Proxy {
    /// A service as configured. `id` tells it from other proxies on the way of a request.
    pub fn new(config: &ProxyConfig, id: u32) -> Self {
        if config.cache != Cache::Off {
            log::info!("proxy: responses are not kept yet, each request goes to its origin");
        }
        let limits = Limits {
            head_bytes_max: config.head_bytes_max,
            ..Limits::default()
        };
        let gateway = config.upstream.as_ref();
        Self {
            rules: Rules {
                policy: AddressPolicy::new(config.allow_destinations.iter().copied()),
                connect_ports: config.connect_ports.clone(),
                gateway: gateway.map(|upstream| Origin::new(&upstream.host, upstream.port)),
                pseudonym: format!("netlab-reactor ({id:08x})"),
                request_limits: limits,
                response_limits: Limits {
                    headers_max: HEADERS_MAX,
                    ..limits
                },
                connect_timeout: config.connect_timeout,
                upstream_timeout: config.upstream_timeout,
                idle_timeout: config.idle_timeout,
                head_timeout: config.head_timeout,
            },
            scratch: Vec::new(),
        }
    }

    /// Between two requests: the origin's connection is kept as long as nothing is heard of it.
    fn idle(&self, until: &mut Instant, io: &mut Io<'_>) -> Result<Step, Error> {
        if io.drained {
            *until = io.now + self.rules.idle_timeout;
        }
        if !is_reusable(io.up) {
            io.disconnect();
        }
        // Some clients end a body with one line end too many.
        while io.down.rx.bytes().starts_with(b"\r\n") {
            io.down.rx.consume(2);
        }
        if !io.down.rx.is_empty() {
            return Ok(Step::Go(State::Head {
                until: io.now + self.rules.head_timeout,
            }));
        }
        if io.down.eof || io.draining {
            return Ok(Step::End);
        }
        if io.now >= *until && io.down.tx.is_empty() {
            return Err(Error::TimedOut(Phase::Idle));
        }
        Ok(Step::Wait)
    }

    fn head(
        &mut self,
        until: Instant,
        scanner: &mut HeadScanner,
        origin: &mut Origin,
        io: &mut Io<'_>,
    ) -> Step {
        if !io.down.tx.has_room(ANSWER_BYTES_MAX) {
            return Step::Wait;
        }
        let bytes = io.down.rx.bytes();
        let (head, head_bytes) = match scanner.request(bytes, &self.rules.request_limits) {
            Ok(Parsed::Complete(head, head_bytes)) => (head, head_bytes),
            Ok(Parsed::Partial) if io.down.eof => {
                return self.answer(None, Code::BAD_REQUEST, "the request ended early", io);
            }
            Ok(Parsed::Partial) if !io.down.rx.has_space() => {
                let text = "head too large: expected fewer or shorter headers";
                return self.answer(None, Code::REQUEST_HEADER_FIELDS_TOO_LARGE, text, io);
            }
            Ok(Parsed::Partial) if io.now >= until && io.down.tx.is_empty() => {
                let text = "the head of the request took too long";
                return self.answer(None, Code::REQUEST_TIMEOUT, text, io);
            }
            Ok(Parsed::Partial) => return Step::Wait,
            Err(error) => return self.answer(None, error.status(), error.text(), io),
        };
        match Route::find(&head, &self.rules) {
            Err(refusal) => {
                let request = Request::new(&head, Form::Forward, head_bytes);
                self.refuse(request, &refusal, io)
            }
            Ok(route) if route.form == Form::Tunnel && head.body != BodyLength::None => {
                let text =
                    "CONNECT has no body: expected neither Content-Length nor Transfer-Encoding";
                self.answer(None, Code::BAD_REQUEST, text, io)
            }
            Ok(route) => {
                let request = Request::new(&head, route.form, head_bytes);
                let kept = io.up.status == Status::Open && is_reusable(io.up);
                if kept && origin.is(&route) && route.form != Form::Tunnel {
                    self.scratch.clear();
                    heads::put_request(&mut self.scratch, &head, &route, &self.rules.pseudonym);
                    return self.send(request, request.repeatable, io);
                }
                origin.set(&route);
                io.disconnect();
                self.resolve_next(request, io.now)
            }
        }
    }

    fn resolve_next(&self, request: Request, now: Instant) -> Step {
        Step::Go(State::Resolving {
            request,
            until: now + self.rules.upstream_timeout,
        })
    }

    fn resolve(
        &mut self,
        request: Request,
        until: Instant,
        origin: &Origin,
        io: &mut Io<'_>,
    ) -> Step {
        let addresses = match io.resolve(origin.host()) {
            Poll::Pending if io.now < until => return Step::Wait,
            Poll::Pending => Err(Failure::Timeout),
            Poll::Ready(answer) => answer,
        };
        let addresses = match addresses {
            Ok(addresses) => addresses,
            Err(failure) => {
                let status = match failure {
                    Failure::BadName => Code::BAD_REQUEST,
                    Failure::Timeout => Code::GATEWAY_TIMEOUT,
                    Failure::Busy => Code::SERVICE_UNAVAILABLE,
                    _ => Code::BAD_GATEWAY,
                };
                let text = format!("{}: {failure}", origin.host());
                return self.answer(Some(request), status, &text, io);
            }
        };
        let addresses = match self.rules.allowed(origin.host(), &addresses) {
            Ok(allowed) => allowed,
            Err(refused) => {
                let text = format!("{}: {refused}, which is refused here", origin.host());
                return self.answer(Some(request), Code::FORBIDDEN, &text, io);
            }
        };
        let addresses: Vec<SocketAddr> = addresses
            .into_iter()
            .map(|address| SocketAddr::new(address, origin.port))
            .collect();
        // The answer comes with the next call: nothing is made before this one is over.
        let _ = io.connect(&addresses, self.rules.connect_timeout);
        Step::Go(State::Connecting {
            request,
            until: io.now + self.rules.connect_timeout,
        })
    }

    fn connect(
        &mut self,
        request: Request,
        until: Instant,
        origin: &Origin,
        io: &mut Io<'_>,
    ) -> Step {
        let result = match io.connect(&[], self.rules.connect_timeout) {
            Poll::Pending if io.now < until => return Step::Wait,
            Poll::Pending => Err(io::ErrorKind::TimedOut),
            Poll::Ready(result) => result,
        };
        match result {
            Err(kind) => {
                let status = match kind {
                    io::ErrorKind::TimedOut => Code::GATEWAY_TIMEOUT,
                    _ => Code::BAD_GATEWAY,
                };
                let text = format!("{}: no connection: {kind}", origin.authority);
                self.answer(Some(request), status, &text, io)
            }
            Ok(()) if request.form == Form::Tunnel => {
                io.down.rx.consume(request.head_bytes);
                io.down.tx.put(TUNNEL_OPEN, io.pool);
                Step::Go(State::Tunnel(Tunnel {
                    until: io.now + self.rules.idle_timeout,
                    backlog: Backlog::default(),
                }))
            }
            Ok(()) => {
                let (bytes, limits) = (io.down.rx.bytes(), &self.rules.request_limits);
                // Invariant: these very bytes were a head with a route when it was read first.
                if let Ok(Parsed::Complete(head, _)) = HeadScanner::default().request(bytes, limits)
                    && let Ok(route) = Route::find(&head, &self.rules)
                {
                    self.scratch.clear();
                    heads::put_request(&mut self.scratch, &head, &route, &self.rules.pseudonym);
                }
                self.send(request, false, io)
            }
        }
    }

    /// Sends the head that was written to `scratch`. `held`: it stays in `down.rx`, to be sent again if need be.
    fn send(&mut self, mut request: Request, held: bool, io: &mut Io<'_>) -> Step {
        io.up.tx.put(&self.scratch, io.pool);
        if !held {
            io.down.rx.consume(std::mem::take(&mut request.head_bytes));
        }
        let mut exchange = Exchange {
            request,
            upload: BodyDecoder::new(request.body),
            download: Download::Awaited,
            moved: io.now,
            until: io.now,
            backlog: Backlog::default(),
        };
        exchange.progress(io.now, &self.rules);
        Step::Go(State::Exchanging(exchange))
    }

    fn exchange(
        &mut self,
        exchange: &mut Exchange,
        scanner: &mut HeadScanner,
        origin: &Origin,
        io: &mut Io<'_>,
    ) -> Result<Step, Error> {
        if exchange.backlog.shrank(&io.up.tx) || io.drained {
            exchange.progress(io.now, &self.rules);
        }
        if let Some(step) = self.upload(exchange, io) {
            return Ok(step);
        }
        if matches!(exchange.download, Download::Awaited)
            && let Some(step) = self.await_response(exchange, scanner, origin, io)
        {
            return Ok(step);
        }
        if let Some(step) = self.download(exchange, origin, io)? {
            return Ok(step);
        }
        if io.now >= exchange.until && io.down.tx.is_empty() {
            return Ok(self.exchange_expired(exchange, origin, io));
        }
        exchange.backlog.watch(&mut io.up.tx);
        Ok(Step::Wait)
    }

    /// Passes on what there is of the request's body.
    fn upload(&mut self, exchange: &mut Exchange, io: &mut Io<'_>) -> Option<Step> {
        if exchange.upload.is_done() || io.up.status != Status::Open {
            return None;
        }
        let awaited = matches!(exchange.download, Download::Awaited);
        let (rx, tx) = (&mut io.down.rx, &mut io.up.tx);
        let text = match pass(&mut exchange.upload, Coding::Kept, rx, tx, io.pool) {
            Ok(0) if io.down.is_drained() && awaited => BodyError::Truncated.text(),
            Ok(0) => return None,
            Ok(_) => {
                exchange.progress(io.now, &self.rules);
                return None;
            }
            Err(error) => error.text(),
        };
        Some(match awaited {
            true => self.answer(None, Code::BAD_REQUEST, text, io),
            false => Step::End,
        })
    }

    /// Passes on interim responses and the head of the final one.
    fn await_response(
        &mut self,
        exchange: &mut Exchange,
        scanner: &mut HeadScanner,
        origin: &Origin,
        io: &mut Io<'_>,
    ) -> Option<Step> {
        while matches!(exchange.download, Download::Awaited) {
            if io.up.rx.is_empty() {
                return io.up.eof.then(|| self.silent_end(exchange, origin, io));
            }
            let request = &mut exchange.request;
            io.down.rx.consume(std::mem::take(&mut request.head_bytes));
            let method = match request.is_head {
                true => Method::Head,
                false => Method::Get,
            };
            let bytes = io.up.rx.bytes();
            let bad = match scanner.response(bytes, &self.rules.response_limits, method) {
                Ok(Parsed::Complete(head, head_bytes)) if head.status.is_interim() => {
                    if head.status.code() != 101 {
                        // HTTP/1.0 has no interim responses.
                        self.scratch.clear();
                        if request.version == Version::Http11 {
                            heads::put_interim(&mut self.scratch, &head);
                        }
                        if !io.down.tx.has_room(self.scratch.len()) {
                            return None;
                        }
                        io.down.tx.put(&self.scratch, io.pool);
                        io.up.rx.consume(head_bytes);
                        request.expects_continue = false;
                        exchange.progress(io.now, &self.rules);
                        continue;
                    }
                    "it switched protocols unasked"
                }
                Ok(Parsed::Complete(head, head_bytes)) => {
                    let coding = match (head.body, request.version) {
                        (BodyLength::Chunked, Version::Http10) => Coding::Undone,
                        (BodyLength::UntilClose, Version::Http11) => Coding::Made,
                        _ => Coding::Kept,
                    };
                    let until_close = request.version == Version::Http10
                        && matches!(head.body, BodyLength::Chunked | BodyLength::UntilClose);
                    // An origin that answers before it has the whole request may never read the rest.
                    let early = !exchange.upload.is_done();
                    let ends = !request.keep_alive || until_close || early || io.draining;
                    let manner = Manner {
                        chunked: request.version == Version::Http11
                            && matches!(head.body, BodyLength::Chunked | BodyLength::UntilClose),
                        persistence: request.persistence(!ends),
                        address_bar: (request.form == Form::AddressBar).then_some(origin),
                    };
                    self.scratch.clear();
                    heads::put_response(&mut self.scratch, &head, manner, &self.rules.pseudonym);
                    if !io.down.tx.has_room(self.scratch.len()) {
                        return None;
                    }
                    exchange.download = Download::Passing {
                        body: BodyDecoder::new(head.body),
                        coding,
                        reusable: head.keep_alive,
                        ends,
                    };
                    io.down.tx.put(&self.scratch, io.pool);
                    io.up.rx.consume(head_bytes);
                    exchange.progress(io.now, &self.rules);
                    continue;
                }
                Ok(Parsed::Partial) if io.up.eof => "it ended within the head",
                Ok(Parsed::Partial) if !io.up.rx.has_space() => "its head is too large",
                Ok(Parsed::Partial) => return None,
                Err(error) => error.text(),
            };
            let text = format!("{}: bad response: {bad}", origin.authority);
            return Some(self.answer_exchange(exchange, Code::BAD_GATEWAY, &text, io));
        }
        None
    }

    /// The origin ended before it said anything.
    fn silent_end(&mut self, exchange: &Exchange, origin: &Origin, io: &mut Io<'_>) -> Step {
        let request = exchange.request;
        if request.head_bytes > 0 {
            io.disconnect();
            return self.resolve_next(request, io.now);
        }
        let text = match io.up.status {
            Status::Failed(kind) => format!("{}: {kind}", origin.authority),
            _ => format!("{}: it closed without an answer", origin.authority),
        };
        self.answer_exchange(exchange, Code::BAD_GATEWAY, &text, io)
    }

    /// Passes on what there is of the response's body, and ends the exchange with it.
    fn download(
        &mut self,
        exchange: &mut Exchange,
        origin: &Origin,
        io: &mut Io<'_>,
    ) -> Result<Option<Step>, Error> {
        let Download::Passing {
            body,
            coding,
            reusable,
            ends,
        } = &mut exchange.download
        else {
            return Ok(None);
        };
        let (coding, reusable, ends) = (*coding, *reusable, *ends);
        let (rx, tx) = (&mut io.up.rx, &mut io.down.tx);
        let mut result = pass(body, coding, rx, tx, io.pool);
        if !body.is_done() && io.up.is_drained() {
            result = match (result, body.end_of_stream(), io.up.status) {
                (Ok(count), Ok(()), Status::Open) => {
                    if coding == Coding::Made {
                        io.down.tx.put(LAST_CHUNK, io.pool);
                    }
                    Ok(count)
                }
                (Err(error), ..) | (_, Err(error), _) => Err(error),
                (Ok(_), Ok(()), _) => Err(BodyError::Truncated),
            };
        }
        let complete = body.is_done();
        match result {
            Err(error) => {
                log::debug!("proxy: {}: response cut: {error}", origin.authority);
                // Where only the end of the connection ends the body, an orderly end would make it look whole.
                let ended_by_close = exchange.request.version == Version::Http10
                    && (coding == Coding::Undone || *body == BodyDecoder::Done);
                match ended_by_close {
                    true => Err(Error::Protocol(format!("{}: {error}", origin.authority))),
                    false => Ok(Some(Step::End)),
                }
            }
            Ok(_) if complete => {
                let whole = exchange.upload.is_done();
                if !(reusable && whole && is_reusable(io.up)) {
                    io.disconnect();
                }
                Ok(Some(match ends || !whole || io.draining {
                    true => Step::End,
                    false => self.idle_next(io.now),
                }))
            }
            Ok(count) => {
                if count > 0 {
                    exchange.progress(io.now, &self.rules);
                }
                Ok(None)
            }
        }
    }

    /// The time is up: whose fault is it?
    fn exchange_expired(
        &mut self,
        exchange: &mut Exchange,
        origin: &Origin,
        io: &mut Io<'_>,
    ) -> Step {
        let awaited = matches!(exchange.download, Download::Awaited);
        let client_is_silent = awaited
            && !exchange.upload.is_done()
            && !exchange.request.expects_continue
            && io.up.tx.is_empty();
        let limit = match client_is_silent {
            true => self.rules.idle_timeout,
            false => self.rules.upstream_timeout,
        };
        exchange.until = exchange.moved + limit;
        if io.now < exchange.until {
            return Step::Wait;
        }
        match (awaited, client_is_silent) {
            (true, true) => {
                let text = "the body of the request took too long";
                self.answer(None, Code::REQUEST_TIMEOUT, text, io)
            }
            (true, false) => {
                let text = format!("{}: it did not answer in time", origin.authority);
                self.answer_exchange(exchange, Code::GATEWAY_TIMEOUT, &text, io)
            }
            (false, _) => {
                log::debug!("proxy: {}: silent within its response", origin.authority);
                Step::End
            }
        }
    }

    fn tunnel(&self, tunnel: &mut Tunnel, io: &mut Io<'_>) -> Result<Step, Error> {
        let broken = io.up.status != Status::Open;
        let taken = tunnel.backlog.shrank(&io.up.tx);
        let mut moved = pour(&mut io.up.rx, &mut io.down.tx, usize::MAX, io.pool);
        if !broken {
            moved += pour(&mut io.down.rx, &mut io.up.tx, usize::MAX, io.pool);
        }
        if io.up.is_drained() {
            io.down.finish();
        }
        if io.down.is_drained() {
            io.up.finish();
        }
        // Not before the last bytes have left for the origin: `close` would drop them.
        let done = io.down.is_drained() && io.up.tx.has_room(usize::MAX / 2);
        if io.up.is_drained() && (broken || done) {
            return Ok(Step::End);
        }
        tunnel.backlog.watch(&mut io.up.tx);
        if moved > 0 || taken || io.drained {
            tunnel.until = io.now + self.rules.idle_timeout;
        } else if io.now >= tunnel.until && io.down.tx.is_empty() {
            return Err(Error::TimedOut(Phase::Idle));
        }
        Ok(Step::Wait)
    }

    fn idle_next(&self, now: Instant) -> Step {
        Step::Go(State::Idle {
            until: now + self.rules.idle_timeout,
        })
    }

    /// Answers in the origin's stead, while the request is under way.
    fn answer_exchange(
        &mut self,
        exchange: &Exchange,
        status: Code,
        text: &str,
        io: &mut Io<'_>,
    ) -> Step {
        let request = Request {
            body: match exchange.upload.is_done() {
                true => BodyLength::None,
                false => BodyLength::Chunked,
            },
            ..exchange.request
        };
        self.answer(Some(request), status, text, io)
    }

    /// Answers in the origin's stead. Without a request, nothing that follows could be trusted: the connection ends.
    fn answer(
        &mut self,
        request: Option<Request>,
        status: Code,
        text: &str,
        io: &mut Io<'_>,
    ) -> Step {
        log::debug!("proxy: {status}: {text}");
        self.put_answer(request, status, text, None, io)
    }

    fn refuse(&mut self, request: Request, refusal: &Refusal, io: &mut Io<'_>) -> Step {
        let location = refusal.location.as_deref();
        self.put_answer(Some(request), refusal.status, &refusal.text, location, io)
    }

    fn put_answer(
        &mut self,
        request: Option<Request>,
        status: Code,
        text: &str,
        location: Option<&str>,
        io: &mut Io<'_>,
    ) -> Step {
        io.disconnect();
        let stays = request.is_some_and(|request| {
            request.keep_alive && request.body == BodyLength::None && !io.draining
        });
        let answer = Answer {
            status,
            text,
            location,
            without_body: request.is_some_and(|request| request.is_head),
            persistence: request.map_or(Persistence::Ends, |request| request.persistence(stays)),
        };
        self.scratch.clear();
        answer.put(&mut self.scratch, io.wall);
        io.down.tx.put(&self.scratch, io.pool);
        match request {
            Some(request) if stays => {
                io.down.rx.consume(request.head_bytes);
                self.idle_next(io.now)
            }
            _ => Step::End,
        }
    }
}

impl Rules {
    /// The addresses of `host` that may be connected to: all of them or none. Only `localhost`, whose addresses nobody
    /// outside can choose (RFC 6761 section 6.3), may lose some: who allows 127.0.0.1 means it although there is ::1.
    fn allowed(&self, host: &str, addresses: &[IpAddr]) -> Result<Vec<IpAddr>, Refused> {
        if self.gateway.is_some() {
            return Ok(addresses.to_vec());
        }
        let Err(refused) = self.policy.check_all(addresses) else {
            return Ok(addresses.to_vec());
        };
        let name = host.strip_suffix('.').unwrap_or(host);
        let last = name.rsplit('.').next().unwrap_or_default();
        let mut allowed = addresses.to_vec();
        allowed.retain(|&address| self.policy.check(address).is_ok());
        match last.eq_ignore_ascii_case("localhost") && !allowed.is_empty() {
            true => Ok(allowed),
            false => Err(refused),
        }
    }
}

impl Request {
    fn new(head: &RequestHead<'_>, form: Form, head_bytes: usize) -> Self {
        // RFC 9112 section 9.3: an old proxy between the client and us may pass on a `keep-alive` that it does not understand.
        let proxied_1_0 = head.version == Version::Http10 && form != Form::Gateway;
        Self {
            form,
            version: head.version,
            head_bytes,
            body: head.body,
            is_head: head.method == Method::Head,
            repeatable: head.method.is_idempotent() && head.body == BodyLength::None,
            keep_alive: head.keep_alive && !proxied_1_0,
            expects_continue: head.expect_continue,
        }
    }

    fn persistence(&self, stays: bool) -> Persistence {
        match (stays, self.version) {
            (true, Version::Http11) => Persistence::Stays,
            (true, Version::Http10) => Persistence::StaysTold,
            (false, _) => Persistence::Ends,
        }
    }
}

impl Exchange {
    /// Bytes moved: the time begins anew, and ends when the first of those whom we may wait for has been silent too long.
    fn progress(&mut self, now: Instant, rules: &Rules) {
        self.moved = now;
        self.until = now
            + match self.upload.is_done() {
                true => rules.upstream_timeout,
                false => rules.upstream_timeout.min(rules.idle_timeout),
            };
    }
}

impl Backlog {
    /// Whether the origin took some of what waited at the last look.
    fn shrank(&self, tx: &SendQueue) -> bool {
        tx.memory_bytes() < self.0
    }

    /// Takes that look. More than a page is watched as it goes: asked for more room than there will ever be, the queue tells
    /// whenever some of it was freed. Less than that goes at once or not at all, and is not worth another call.
    fn watch(&mut self, tx: &mut SendQueue) {
        self.0 = match tx.memory_bytes() {
            bytes if bytes > PAGE_BYTES && !tx.has_room(usize::MAX / 2) => bytes,
            _ => 0,
        };
    }
}

/// Whether nothing was heard of the origin's connection since its last exchange, so that it can take another request.
fn is_reusable(up: &Link) -> bool {
    let open = up.status == Status::Open && up.finish == Finish::Open;
    up.status == Status::Closed || open && !up.eof && up.rx.is_empty() && up.tx.is_empty()
}

/// Passes on what waits of a body, if there is room for all of it. How many bytes were taken.
fn pass(
    body: &mut BodyDecoder,
    coding: Coding,
    rx: &mut RecvBuf,
    tx: &mut SendQueue,
    pool: &mut Pool,
) -> Result<usize, BodyError> {
    let waiting = rx.len();
    if waiting == 0 || body.is_done() || !tx.has_room(waiting + CHUNK_FRAMING_BYTES_MAX) {
        return Ok(0);
    }
    match coding {
        Coding::Kept => {
            let mut valid = 0;
            while valid < waiting && !body.is_done() {
                valid += body.step(&rx.bytes()[valid..])?.consumed();
            }
            shift(rx, tx, valid, pool);
        }
        Coding::Undone => {
            while !rx.is_empty() && !body.is_done() {
                let step = body.step(rx.bytes())?;
                rx.consume(step.framing);
                shift(rx, tx, step.payload, pool);
            }
        }
        Coding::Made => {
            body.step(rx.bytes())?;
            tx.put(ChunkHead::new(waiting).as_bytes(), pool);
            shift(rx, tx, waiting, pool);
            tx.put(CHUNK_END, pool);
        }
    }
    Ok(waiting - rx.len())
}

/// Moves `count` bytes for which room was found before.
fn shift(rx: &mut RecvBuf, tx: &mut SendQueue, count: usize, pool: &mut Pool) {
    if pour(rx, tx, count, pool) < count {
        tx.put(&rx.bytes()[..count], pool);
        rx.consume(count);
    }
}

impl Service for Proxy {
    type Conn = Conn;

    fn accept(&mut self, _peer: &Peer, now: Instant) -> Conn {
        Conn {
            state: State::Idle {
                until: now + self.rules.idle_timeout,
            },
            scanner: HeadScanner::default(),
            origin: Origin::default(),
        }
    }

    fn advance(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        let Conn {
            state,
            scanner,
            origin,
        } = conn;
        loop {
            let step = match state {
                State::Idle { until } => {
                    *scanner = HeadScanner::default();
                    self.idle(until, io)?
                }
                State::Head { until } => self.head(*until, scanner, origin, io),
                State::Resolving { request, until } => self.resolve(*request, *until, origin, io),
                State::Connecting { request, until } => self.connect(*request, *until, origin, io),
                State::Exchanging(exchange) => self.exchange(exchange, scanner, origin, io)?,
                State::Tunnel(tunnel) => self.tunnel(tunnel, io)?,
            };
            match step {
                Step::Wait => return Ok(()),
                Step::Go(next) => *state = next,
                Step::End => {
                    io.close();
                    return Ok(());
                }
            }
        }
    }

    fn deadline(&self, conn: &Conn) -> Instant {
        match &conn.state {
            State::Idle { until }
            | State::Head { until }
            | State::Resolving { until, .. }
            | State::Connecting { until, .. } => *until,
            State::Exchanging(exchange) => exchange.until,
            State::Tunnel(tunnel) => tunnel.until,
        }
    }
}
