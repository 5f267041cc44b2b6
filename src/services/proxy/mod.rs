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
//! 2. Bodies are validated and passed on as they come, never collected. A chunked one keeps its
//!    chunks, framed anew and without extensions, unless the client speaks HTTP/1.0; one that lasts
//!    until the origin closes gets chunks, unless the client speaks HTTP/1.0.
//! 3. Nobody is connected to whose address is refused, however it was written, and a name is refused as a whole. Nor is
//!    this machine by its public address, which shows once the connection is made: it trusts itself. The configured
//!    upstream of a gateway is exempt, and what `allow_destinations` holds. Then still, requests do not go around:
//!    `Via` tells one that was here before, the address of its sender one that came out of a tunnel of this service.
//! 4. What was broken off is never made to look complete: once a byte of an answer went out, a failure closes the connection.
//! 5. Room for an answer of our own is asked for before a head is read, so that such an answer never waits.
//!
//! The files in reading order: this one, `route` (where a request goes), `exchange` (request and response under way),
//! `heads` (what is written), `tunnel`.
//!
//! Deliberately not here: keeping answers, `Upgrade`, TLS to origins, authentication, and parking connections of clients that
//! have left.

use std::collections::HashSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::buffer::{PAGE_BYTES, SendQueue};
use crate::config::{Cache, Ports, ProxyConfig};
use crate::dns::{AddressPolicy, Failure, Refused};
use crate::ending::{Error, Phase};
use crate::gate::{Address, Seats};
use crate::http::body::{BodyDecoder, BodyError};
use crate::http::head::{BodyLength, HEADERS_MAX, HeadScanner, Limits, Parsed, RequestHead};
use crate::http::{Method, Status as Code, Version};
use crate::service::{Cx, Ends, Io, Link, Peer, Service};

mod exchange;
mod heads;
mod route;
#[cfg(test)]
mod tests;
mod tunnel;

use exchange::{Exchange, is_reusable};
use heads::{ANSWER_BYTES_MAX, Answer, Persistence};
use route::{Form, Origin, Refusal, Route};
use tunnel::{TUNNEL_OPEN, Tunnel};

/// The proxy service.
pub struct Proxy {
    rules: Rules,
    addresses: Seats,
    /// Our ends of the tunnels that are open.
    tunnels: HashSet<SocketAddr, foldhash::fast::RandomState>,
    /// The head that is being written, kept for its memory only.
    scratch: Vec<u8>,
}

/// What the configuration says, ready for use.
struct Rules {
    /// Names of ours, under which pages in the address-bar form are answered.
    hosts: Vec<String>,
    policy: AddressPolicy,
    connect_ports: Ports,
    forward_ports: Ports,
    /// The one origin of a gateway.
    gateway: Option<Origin>,
    /// By which we know that a request was here before.
    pseudonym: String,
    request_limits: Limits,
    response_limits: Limits,
    connect_timeout: Duration,
    upstream_timeout: Duration,
    idle_timeout: Duration,
    body_rate_min: Option<NonZeroU32>,
    response_timeout: Duration,
    head_timeout: Duration,
}

/// One client, and the origin that it is connected to.
pub struct Conn {
    state: State,
    /// Of the head that is being read: first a request's, then its response's.
    scanner: HeadScanner,
    /// Whose connection `io.up` is, or is about to be.
    origin: Origin,
    /// Where this connection is counted.
    address: Option<Address>,
    /// Where it came from.
    peer: Option<SocketAddr>,
}

enum State {
    /// The client's address has as many connections as it may.
    Refused { until: Instant },
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
                hosts: config.hosts.clone(),
                policy: AddressPolicy::new(config.allow_destinations.iter().copied()),
                connect_ports: config.connect_ports.clone(),
                forward_ports: config.forward_ports.clone(),
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
                body_rate_min: config.body_rate_min,
                response_timeout: config.response_timeout,
                head_timeout: config.head_timeout,
            },
            addresses: Seats::new(config.stream.connections_per_address_max),
            tunnels: HashSet::default(),
            scratch: Vec::new(),
        }
    }

    /// Between two requests: the origin's connection is kept as long as nothing is heard of it.
    fn idle(&self, until: &mut Instant, io: &mut Io<'_>) -> Result<Step, Error> {
        if io.drained {
            *until = io.cx.now + self.rules.idle_timeout;
        }
        if !is_reusable(io.up) {
            io.disconnect();
        }
        // Some clients end a body with one line end too many.
        while io.down.rx.bytes().starts_with(b"\r\n") {
            io.down.rx.consume(2);
        }
        // Half of such a line end is no beginning of a head either.
        if !matches!(io.down.rx.bytes(), b"" | b"\r") {
            return Ok(Step::Go(State::Head {
                until: io.cx.now + self.rules.head_timeout,
            }));
        }
        if io.down.eof || io.cx.draining {
            return Ok(Step::End);
        }
        if io.cx.now >= *until && io.down.tx.is_empty() {
            return Err(Error::TimedOut(Phase::Idle));
        }
        Ok(Step::Wait)
    }

    fn head(
        &mut self,
        until: Instant,
        scanner: &mut HeadScanner,
        origin: &mut Origin,
        peer: Option<SocketAddr>,
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
            Ok(Parsed::Partial) if io.cx.now >= until && io.down.tx.is_empty() => {
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
            Ok(route)
                if route.form == Form::Tunnel
                    && peer.is_some_and(|p| self.tunnels.contains(&p)) =>
            {
                let text = "a tunnel through this proxy leads to this proxy";
                self.answer(None, Code::LOOP_DETECTED, text, io)
            }
            Ok(route) => {
                let request = Request::new(&head, route.form, head_bytes);
                if is_reusable(io.up) && origin.is(&route) && route.form != Form::Tunnel {
                    self.scratch.clear();
                    heads::put_request(&mut self.scratch, &head, &route, &self.rules.pseudonym);
                    return self.send(request, request.repeatable, io);
                }
                origin.set(&route);
                io.disconnect();
                self.resolve_next(request, io.cx.now)
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
            Poll::Pending if request.is_cut_short(io.down) => return self.cut_short(io),
            Poll::Pending if io.cx.now < until => return Step::Wait,
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
            until: io.cx.now + self.rules.connect_timeout,
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
            Poll::Pending if request.is_cut_short(io.down) => return self.cut_short(io),
            Poll::Pending if io.cx.now < until => return Step::Wait,
            Poll::Pending => Err(io::ErrorKind::TimedOut),
            Poll::Ready(result) => result,
        };
        let ends = io.up.ends.take();
        match result {
            Ok(())
                if ends
                    .as_ref()
                    .is_some_and(|ends| !self.rules.may_lead_here(ends)) =>
            {
                let text = format!(
                    "{}: it is this machine, which is refused here",
                    origin.authority
                );
                self.answer(Some(request), Code::FORBIDDEN, &text, io)
            }
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
                io.down.tx.put(TUNNEL_OPEN, io.cx.pool);
                (io.down.end_is_framing, io.up.end_is_framing) = (true, true);
                let local = ends.map(|ends| canonical(ends.local));
                self.tunnels.extend(local);
                let tunnel = Tunnel::new(self.rules.idle_timeout, local, io.cx.now);
                Step::Go(State::Tunnel(tunnel))
            }
            Ok(()) => {
                let (bytes, limits) = (io.down.rx.bytes(), &self.rules.request_limits);
                // These very bytes were a head with a route when it was read first.
                let Ok(Parsed::Complete(head, _)) = HeadScanner::default().request(bytes, limits)
                else {
                    return self.answer(None, Code::BAD_GATEWAY, "the request was lost", io);
                };
                let Ok(route) = Route::find(&head, &self.rules) else {
                    return self.answer(None, Code::BAD_GATEWAY, "the request was lost", io);
                };
                self.scratch.clear();
                heads::put_request(&mut self.scratch, &head, &route, &self.rules.pseudonym);
                self.send(request, false, io)
            }
        }
    }

    /// Sends the head that was written to `scratch`. `held`: it stays in `down.rx`, to be sent again if need be.
    fn send(&mut self, mut request: Request, held: bool, io: &mut Io<'_>) -> Step {
        io.up.tx.put(&self.scratch, io.cx.pool);
        if !held {
            io.down.rx.consume(std::mem::take(&mut request.head_bytes));
        }
        let exchange = Exchange::new(request, io.cx.now, &self.rules);
        Step::Go(State::Exchanging(exchange))
    }

    fn idle_next(&self, now: Instant) -> Step {
        Step::Go(State::Idle {
            until: now + self.rules.idle_timeout,
        })
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

    /// The client ended before its request was whole: nobody is asked for what could not be sent on.
    fn cut_short(&mut self, io: &mut Io<'_>) -> Step {
        self.answer(None, Code::BAD_REQUEST, BodyError::Truncated.text(), io)
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
            request.keep_alive && request.body == BodyLength::None && !io.cx.draining
        });
        let answer = Answer {
            status,
            text,
            location,
            without_body: request.is_some_and(|request| request.is_head),
            persistence: request.map_or(Persistence::Ends, |request| request.persistence(stays)),
        };
        self.scratch.clear();
        answer.put(&mut self.scratch, io.cx.wall);
        io.down.tx.put(&self.scratch, io.cx.pool);
        match request {
            Some(request) if stays => {
                io.down.rx.consume(request.head_bytes);
                self.idle_next(io.cx.now)
            }
            _ => Step::End,
        }
    }
}

/// An IPv4 address that is written in IPv6 as the IPv4 address that it is.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Rules {
    /// Whether a connection may have these ends, as far as they show that it leads to this machine.
    fn may_lead_here(&self, ends: &Ends) -> bool {
        let is_exempt = self.gateway.is_some() || self.policy.allows(ends.peer.ip());
        is_exempt || !ends.are_one_machine()
    }

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

    /// Whether the client ended within the body of this request, all of which waits behind its head.
    fn is_cut_short(&self, down: &Link) -> bool {
        if !down.eof {
            return false;
        }
        let mut body = BodyDecoder::new(self.body);
        let mut rest = &down.rx.bytes()[self.head_bytes..];
        loop {
            match body.step(rest) {
                Ok(step) if step.done => return false,
                Ok(step) if step.consumed() == 0 => return true,
                Ok(step) => rest = &rest[step.consumed()..],
                Err(_) => return false, // the client is told what is wrong when the body is sent on
            }
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

impl Backlog {
    /// Whether the origin took some of what waited at the last look.
    fn shrank(&self, tx: &SendQueue) -> bool {
        tx.memory_bytes() < self.0
    }

    /// Takes that look. More than a page is watched as it goes. Less than that goes at once or not at all, and is not worth
    /// another call.
    fn watch(&mut self, tx: &mut SendQueue) {
        self.0 = match tx.memory_bytes() {
            bytes if bytes > PAGE_BYTES && !tx.is_empty_or_wakes() => bytes,
            _ => 0,
        };
    }
}

impl Service for Proxy {
    type Conn = Conn;
    const CLIENT_FIRST: bool = true;

    fn accept(&mut self, peer: &Peer, now: Instant) -> Conn {
        let until = now + self.rules.idle_timeout;
        let (state, address) = match self.addresses.enter(peer) {
            Ok(address) => (State::Idle { until }, address),
            Err(()) => (State::Refused { until }, None),
        };
        Conn {
            state,
            scanner: HeadScanner::default(),
            origin: Origin::default(),
            address,
            peer: match peer {
                Peer::Inet(address) => Some(canonical(*address)),
                Peer::Unix => None,
            },
        }
    }

    fn advance(&mut self, conn: &mut Conn, io: &mut Io<'_>) -> Result<(), Error> {
        let Conn {
            state,
            scanner,
            origin,
            peer,
            ..
        } = conn;
        loop {
            let step = match state {
                State::Refused { .. } => {
                    let text = "too many connections from this address";
                    self.answer(None, Code::TOO_MANY_REQUESTS, text, io)
                }
                State::Idle { until } => {
                    *scanner = HeadScanner::default();
                    self.idle(until, io)?
                }
                State::Head { until } => self.head(*until, scanner, origin, *peer, io),
                State::Resolving { request, until } => self.resolve(*request, *until, origin, io),
                State::Connecting { request, until } => self.connect(*request, *until, origin, io),
                State::Exchanging(exchange) => self.exchange(exchange, scanner, origin, io)?,
                State::Tunnel(tunnel) => tunnel.advance(io)?,
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
            State::Refused { until }
            | State::Idle { until }
            | State::Head { until }
            | State::Resolving { until, .. }
            | State::Connecting { until, .. } => *until,
            State::Exchanging(exchange) => exchange.until,
            State::Tunnel(tunnel) => tunnel.until,
        }
    }

    fn ended(&mut self, conn: Conn, _cx: &mut Cx<'_>) {
        if let Some(address) = conn.address {
            self.addresses.leave(address);
        }
        if let State::Tunnel(Tunnel {
            local: Some(local), ..
        }) = conn.state
        {
            self.tunnels.remove(&local);
        }
    }
}
