//! A request on its way: from its head to the last byte of the answer, or to the reason why there
//! is none.
//!
//! ```text
//!          ┌───────────── the connection to this origin is still there ─────────────┐
//!          │                                                                        ▼
//! Idle ──▶ Begun ──another origin──▶ Resolving ──allowed──▶ Connecting ──head sent──▶ Exchanging ──▶ Idle
//!                                     ▲                         │                     │
//!                                     │                         └──CONNECT──▶ Tunnel ◀─101──┤
//!                                     └── the kept connection was dead: once more ────┘
//! ```
//!
//! Each state may end in a refusal, which the connection answers. Between two requests the machine
//! stays with its connection: it remembers whose connection `io.up` is, and keeps its memory.

use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::Instant;

use super::exchange::{Exchange, Onward};
use super::request::Request;
use super::route::{Form, Origin, Route};
use super::step::{self, Outcome};
use super::tunnel::{TUNNEL_OPEN, Tunnel};
use super::{Proxy, canonical};
use crate::dns::Failure;
use crate::ending::Error;
use crate::http::Status;
use crate::http::head::RequestHead;
use crate::http::negotiate::ErrorFormat;
use crate::http::persistence::Persistence;
use crate::http::proxy_status::ProxyError;
use crate::service::{Ends, Io, Peer};
use crate::services::web::Place;
use crate::services::web::access_log::{Answerer, Entry};
use crate::services::web::reply::Answered;
use crate::wire::proxy_protocol::{self, Version};

type Step = step::Step<State>;

/// A request on its way, or what is left of the last one.
#[derive(Default)]
pub(in crate::services::web) struct Forward {
    /// The site of the proxy that sends it on.
    pub(in crate::services::web) place: Place,
    request: Request,
    /// Whose connection `io.up` is, or is about to be.
    origin: Origin,
    /// The head as the origin is to see it, until its answer has begun.
    pub(super) head: Vec<u8>,
    state: State,
    logged: Option<Box<Logged>>,
    /// What this server answered in the origin's stead.
    refused: Option<Answered>,
}

/// What the log is to tell of a request.
pub(in crate::services::web) struct Logged {
    pub(in crate::services::web) entry: Entry,
    /// When its first byte came.
    pub(in crate::services::web) began: Instant,
}

#[derive(Default)]
enum State {
    /// There is no request.
    #[default]
    Idle,
    /// The head is written. `reuses`: the connection to this origin is still there.
    Begun { reuses: bool, until: Instant },
    /// The addresses of the origin are awaited.
    Resolving { until: Instant },
    /// The connection to the origin is being made.
    Connecting { until: Instant },
    /// The request is under way.
    Exchanging(Exchange),
    /// Bytes go both ways.
    Tunnel(Tunnel),
}

impl Forward {
    /// Takes up a request. `is_reusable`: the last connection to an origin can take another
    /// request.
    pub(super) fn begin(
        &mut self,
        head: &RequestHead<'_>,
        persistence: Persistence,
        place: Place,
        route: &Route<'_>,
        is_reusable: bool,
        now: Instant,
    ) {
        let is_the_same = is_reusable && self.place == place && self.origin.is(route);
        self.place = place;
        self.request = Request::new(head, persistence, route.form);
        self.origin.set(route);
        self.head.clear();
        self.logged = None;
        self.refused = None;
        self.state = State::Begun {
            reuses: is_the_same && route.form != Form::Tunnel,
            until: now,
        };
    }

    /// The log is to tell of the request.
    pub(in crate::services::web) fn begin_log(&mut self, entry: Entry, began: Instant) {
        self.logged = Some(Box::new(Logged { entry, began }));
    }

    /// Takes the request as far as the facts allow.
    ///
    /// # Errors
    /// Why the session is to be dropped at once.
    pub(in crate::services::web) fn advance(
        &mut self,
        proxy: &mut Proxy,
        io: &mut Io<'_>,
    ) -> Result<Outcome, Error> {
        loop {
            let step = match &mut self.state {
                State::Idle => Step::done(self.request.keep_alive),
                State::Begun { reuses, .. } => {
                    let reuses = *reuses;
                    self.set_out(reuses, proxy, io)
                }
                State::Resolving { until } => {
                    let until = *until;
                    self.resolve(until, proxy, io)
                }
                State::Connecting { until } => {
                    let until = *until;
                    self.connect(until, proxy, io)
                }
                State::Exchanging(exchange) => {
                    match exchange.advance(&self.request, &self.origin, proxy, io)? {
                        step::Step::Go(Onward::Again) => State::resolving(proxy, io.cx.now),
                        step::Step::Go(Onward::Switched) => {
                            State::tunnel(Status::SWITCHING_PROTOCOLS, None, proxy, io)
                        }
                        step::Step::Rest(outcome) => Step::Rest(outcome),
                    }
                }
                State::Tunnel(tunnel) => Step::Rest(tunnel.advance(io)?),
            };
            match step {
                Step::Go(next) => self.state = next,
                Step::Rest(outcome) => return Ok(outcome),
            }
        }
    }

    /// Until when the state may last.
    pub(in crate::services::web) fn deadline(&self) -> Instant {
        match &self.state {
            State::Idle => unreachable!("a request that is over waits for nothing"),
            State::Begun { until, .. } => *until,
            State::Resolving { until } | State::Connecting { until } => *until,
            State::Exchanging(exchange) => exchange.until,
            State::Tunnel(tunnel) => tunnel.until,
        }
    }

    /// The request is over, however it ended.
    pub(in crate::services::web) fn release(&mut self, proxy: &mut Proxy) {
        let state = std::mem::take(&mut self.state);
        if let State::Tunnel(Tunnel {
            local: Some(local), ..
        }) = state
        {
            proxy.tunnels.remove(&local);
        }
    }

    /// The first step: on the connection that is there, or to another origin.
    fn set_out(&mut self, reuses: bool, proxy: &Proxy, io: &mut Io<'_>) -> Step {
        if reuses && io.up.is_reusable() {
            return self.send(self.request.repeatable, proxy, io);
        }
        io.disconnect();
        State::resolving(proxy, io.cx.now)
    }

    fn resolve(&mut self, until: Instant, proxy: &Proxy, io: &mut Io<'_>) -> Step {
        let host = self.origin.host();
        let stays = self.request.stays(io);
        let addresses = match io.resolve(host) {
            Poll::Pending if self.request.is_cut_short(io.down) => {
                io.stop_resolving();
                return Step::cut_short();
            }
            Poll::Pending if io.cx.now < until => return Step::WAIT,
            Poll::Pending => {
                io.stop_resolving();
                Err(Failure::Timeout)
            }
            Poll::Ready(answer) => answer,
        };
        let addresses = match addresses {
            Ok(addresses) => addresses,
            Err(failure) => {
                let (status, error) = unresolved(failure);
                return Step::refused(status, error, &format!("{host}: {failure}"), stays);
            }
        };
        let addresses = match proxy.rules.allowed(host, &addresses) {
            Ok(allowed) => allowed,
            Err(refused) => {
                let text = format!("{host}: {refused}, which is refused here");
                let error = ProxyError::DestinationIpProhibited;
                return Step::refused(Status::FORBIDDEN, error, &text, stays);
            }
        };
        let port = self.origin.port;
        let addresses = addresses.into_iter();
        let addresses: Vec<SocketAddr> = addresses.map(|ip| SocketAddr::new(ip, port)).collect();
        // The answer comes with the next call: nothing is made before this one is over.
        let _ = io.connect(&addresses, proxy.rules.connect_timeout);
        Step::Go(State::Connecting {
            until: io.cx.now + proxy.rules.connect_timeout,
        })
    }

    fn connect(&mut self, until: Instant, proxy: &mut Proxy, io: &mut Io<'_>) -> Step {
        let result = match io.connect(&[], proxy.rules.connect_timeout) {
            Poll::Pending if self.request.is_cut_short(io.down) => return Step::cut_short(),
            Poll::Pending if io.cx.now < until => return Step::WAIT,
            Poll::Pending => Err(io::ErrorKind::TimedOut),
            Poll::Ready(result) => result,
        };
        let (authority, stays) = (&self.origin.authority, self.request.stays(io));
        if let Err(kind) = result {
            let (status, error) = unconnected(kind);
            let text = format!("{authority}: no connection: {kind}");
            return Step::refused(status, error, &text, stays);
        }
        let ends = io.up.ends.take();
        if let Some(ends) = &ends
            && !proxy.rules.may_lead_here(ends)
        {
            let text = format!("{authority}: it is this machine, which is refused here");
            let error = ProxyError::DestinationIpProhibited;
            return Step::refused(Status::FORBIDDEN, error, &text, stays);
        }
        if self.request.form != Form::Tunnel {
            introduce(proxy.rules.send_proxy, ends.as_deref(), io);
            return self.send(false, proxy, io);
        }
        io.down.tx.put(TUNNEL_OPEN, io.cx.pool);
        let local = ends.map(|ends| canonical(ends.local));
        proxy.tunnels.extend(local);
        State::tunnel(Status::OK, local, proxy, io)
    }

    /// Sends the head. `may_repeat`: if the connection ends without a byte of an answer, it is sent
    /// once more.
    fn send(&mut self, may_repeat: bool, proxy: &Proxy, io: &mut Io<'_>) -> Step {
        io.up.tx.put(&self.head, io.cx.pool);
        let exchange = Exchange::new(&self.request, may_repeat, io.cx.now, &proxy.rules);
        Step::Go(State::Exchanging(exchange))
    }

    /// Whose request it is, as it was named.
    pub(in crate::services::web) fn authority(&self) -> &str {
        &self.origin.authority
    }

    /// The request is a HEAD.
    pub(in crate::services::web) fn is_head(&self) -> bool {
        self.request.is_head
    }

    /// What an answer of our own says of the client's connection.
    pub(in crate::services::web) fn persistence(&self, stays: bool) -> Persistence {
        Persistence::new(stays, self.request.version)
    }

    /// In which form the client wants to be told of an error.
    pub(in crate::services::web) fn error_format(&self) -> ErrorFormat {
        self.request.format
    }

    /// What was answered in the origin's stead.
    pub(in crate::services::web) fn refused(&mut self, answered: Option<Answered>) {
        self.refused = answered;
    }

    pub(in crate::services::web) fn logged(&self) -> Option<&Logged> {
        self.logged.as_deref()
    }

    /// What the client got, and from whom.
    pub(in crate::services::web) fn answered(&self) -> Option<(Answered, Answerer)> {
        if let Some(answered) = self.refused {
            return Some((answered, Answerer::Here));
        }
        match &self.state {
            State::Exchanging(exchange) => Some((exchange.answered?, Answerer::Origin)),
            State::Tunnel(tunnel) => Some(tunnel.answered()),
            _ => None,
        }
    }
}

/// Tells the origin at the beginning of a connection who the client is. Where the client connected to
/// is not known here: the origin's own address stands for that.
fn introduce(version: Option<Version>, ends: Option<&Ends>, io: &mut Io<'_>) {
    let (Some(version), Some(ends)) = (version, ends) else {
        return;
    };
    let client = match io.peer {
        Peer::Inet(address) => Some(*address),
        Peer::Unix => None,
    };
    let mut header = Vec::new();
    proxy_protocol::put(&mut header, version, client, ends.peer);
    io.up.tx.put(&header, io.cx.pool);
}

/// How a request is answered whose origin's name has no address.
fn unresolved(failure: Failure) -> (Status, ProxyError) {
    match failure {
        Failure::BadName => (Status::BAD_REQUEST, ProxyError::HttpRequestError),
        Failure::Timeout => (Status::GATEWAY_TIMEOUT, ProxyError::DnsTimeout),
        Failure::Busy => (Status::SERVICE_UNAVAILABLE, ProxyError::ProxyInternalError),
        Failure::NoNameserver => (Status::BAD_GATEWAY, ProxyError::ProxyConfigurationError),
        Failure::NotFound => (Status::BAD_GATEWAY, ProxyError::NoSuchName),
        _ => (Status::BAD_GATEWAY, ProxyError::DnsError),
    }
}

/// How a request is answered whose origin takes no connection.
fn unconnected(kind: io::ErrorKind) -> (Status, ProxyError) {
    match kind {
        io::ErrorKind::TimedOut => (Status::GATEWAY_TIMEOUT, ProxyError::ConnectionTimeout),
        io::ErrorKind::ConnectionRefused => (Status::BAD_GATEWAY, ProxyError::ConnectionRefused),
        io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
            (Status::BAD_GATEWAY, ProxyError::ConnectionTerminated)
        }
        _ => (Status::BAD_GATEWAY, ProxyError::DestinationIpUnroutable),
    }
}

impl State {
    /// The origin is to be asked for.
    fn resolving(proxy: &Proxy, now: Instant) -> Step {
        Step::Go(Self::Resolving {
            until: now + proxy.rules.upstream_timeout,
        })
    }

    /// Bytes go both ways from here on, behind an answer with this status.
    fn tunnel(status: Status, local: Option<SocketAddr>, proxy: &Proxy, io: &mut Io<'_>) -> Step {
        (io.down.end_is_framing, io.up.end_is_framing) = (true, true);
        io.relay();
        let idle_timeout = proxy.rules.tunnel_idle_timeout;
        Step::Go(Self::Tunnel(Tunnel::new(
            status,
            idle_timeout,
            local,
            io.cx.now,
        )))
    }
}
