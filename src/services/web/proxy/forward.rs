//! A request on its way: from its head to the last byte of the answer, or to the reason why there
//! is none.
//!
//! ```text
//!          ┌──────────────── a connection to this origin was kept ─────────────────┐
//!          │                                                                       ▼
//! Idle ──▶ Begun ──none was kept──▶ Resolving ──allowed──▶ Connecting ──head sent──▶ Exchanging ──▶ Idle
//!                                     ▲                         │                     │
//!                                     │                         └──CONNECT──▶ Tunnel ◀─101──┤
//!                                     └── the kept connection was dead: once more ────┘
//! ```
//!
//! Where a [`parent`] opens tunnels, Asking (for one) and, for https, Securing (TLS in it)
//! stand behind Connecting, to which TLS with the parent belongs. A gateway's request begins again
//! with another upstream where one fails: see `upstreams`.
//!
//! A long file, since all states of a request stand in it.
//!
//! Each state may end in a refusal, which the connection answers. Between two requests the machine
//! stays with its connection and keeps its memory; the connection to the origin does not.

use std::io;
use std::net::SocketAddr;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::answer;
use super::errand::Errand;
use super::exchange::{Exchange, Onward, Sent, answer_kept};
use super::opening::opening;
use super::parent::{self, Asking};
use super::reading::{Read, Reading};
use super::request::Request;
use super::route::{Form, Origin, Route};
use super::step::{self, Outcome};
use super::tunnel::Tunnel;
use super::upstreams::Attempts;
use super::{Proxy, Rules};
use crate::cache::store::{FetchId, StoreId};
use crate::dns::Failure;
use crate::ending::Error;
use crate::http::caching::status::{Because, CacheStatus, Handled};
use crate::http::date::unix_s;
use crate::http::head::RequestHead;
use crate::http::negotiate::ErrorFormat;
use crate::http::persistence::Persistence;
use crate::http::proxy_status::ProxyError;
use crate::http::range::ByteRange;
use crate::http::{Status, Version};
use crate::metrics::Became;
use crate::service::origins::{Through, Trouble, Way};
use crate::service::{Cx, Io, LinkState};
use crate::services::web::Place;
use crate::services::web::access_log::{Answerer, Entry};
use crate::services::web::reply::{Answered, Detail, Refusal, Reply};

mod reach;

type Step = step::Step<State>;

/// A request on its way, or what is left of the last one.
#[derive(Default)]
pub(in crate::services::web) struct Forward {
    /// The site of the proxy that sends it on.
    pub(in crate::services::web) place: Place,
    request: Request,
    /// Whose connection `io.up` is, or is about to be.
    origin: Origin,
    /// By which way it is reached: whose connections it may share.
    way: Way,
    /// To which upstreams of a gateway it was sent.
    attempts: Attempts,
    /// The head as the origin is to see it, until its answer has begun.
    pub(super) head: Vec<u8>,
    /// What the cache wants of it.
    pub(super) errand: Option<Errand>,
    state: State,
    /// When the first byte of the request came, if anybody asked.
    began: Option<Instant>,
    /// What the log is to tell of it.
    logged: Option<Box<Entry>>,
    /// What this server answered in the origin's stead.
    refused: Option<Answered>,
}

#[derive(Default)]
enum State {
    /// There is no request.
    #[default]
    Idle,
    /// The head is written.
    Begun { until: Instant },
    /// The addresses of the origin are awaited.
    Resolving { until: Instant },
    /// The connection to the origin is being made.
    Connecting { until: Instant },
    /// The parent was asked for a tunnel to the origin.
    Asking(Asking),
    /// TLS begins in that tunnel.
    Securing { until: Instant },
    /// The request is under way.
    Exchanging(Exchange),
    /// Somebody else's response is read as it comes.
    Reading(Following),
    /// What was kept is the answer, all of which is queued.
    Kept(Answered),
    /// Bytes go both ways.
    Tunnel(Tunnel),
}

/// A response that somebody else asked for.
struct Following {
    reading: Reading,
    answered: Answered,
    end_is_framing: bool,
    until: Instant,
}

impl Forward {
    /// Takes up a request.
    pub(super) fn begin(
        &mut self,
        head: &RequestHead<'_>,
        persistence: Persistence,
        place: Place,
        route: &Route<'_>,
        now: Instant,
        rules: &Rules,
    ) {
        self.place = place;
        self.request = Request::new(head, persistence, route.form);
        self.origin.set(route);
        self.attempts = Attempts::default();
        // That of a gateway is known when its upstream is.
        if route.form != Form::Gateway {
            self.set_way(rules);
        }
        self.head.clear();
        (self.began, self.logged) = (None, None);
        self.refused = None;
        self.state = State::Begun { until: now };
    }

    /// Finds the way to its origin: straight, or by the parent.
    fn set_way(&mut self, rules: &Rules) {
        let (origin, parent) = (&self.origin, rules.parent.as_ref());
        let through = parent.map_or(Through::Nobody, |parent| {
            parent.leads(self.request.form, origin)
        });
        let (host, port, tls) = match parent {
            Some(parent) if through == Through::Parent => (&*parent.host, parent.port, parent.tls),
            _ => (origin.host(), origin.port, origin.tls),
        };
        if !self.way.leads_to(host, port, tls, self.place) || self.way.through != through {
            self.way = Way::new(host, port, tls, self.place).through(through);
        }
    }

    /// Bytes that it holds of the request.
    pub(in crate::services::web) fn bytes_held(&self) -> usize {
        self.head.capacity()
    }

    /// It answers a request whose first byte came then, and of which the log is to tell that.
    pub(in crate::services::web) fn answers(&mut self, began: Instant, logged: Option<Entry>) {
        self.began = Some(began);
        self.logged = logged.map(Box::new);
    }

    /// When the first byte of the request came: now, if nobody asked.
    pub(in crate::services::web) fn began(&self, now: Instant) -> Instant {
        self.began.unwrap_or(now)
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
                State::Begun { .. } => self.set_out(proxy, io),
                State::Resolving { until } => {
                    let until = *until;
                    self.resolve(until, proxy, io)
                }
                State::Connecting { until } => {
                    let until = *until;
                    self.connect(until, proxy, io)
                }
                State::Asking(_) => self.ask(proxy, io),
                State::Securing { until } => {
                    let until = *until;
                    match self.made(until, proxy, io) {
                        Some(step) => step,
                        None => self.send(false, proxy, io),
                    }
                }
                State::Reading(following) => {
                    let timeout = proxy.rules.upstream_timeout;
                    Step::Rest(following.advance(&self.request, timeout, io)?)
                }
                State::Kept(_) => Step::done(self.request.stays(io)),
                State::Exchanging(_) => self.exchange(proxy, io)?,
                State::Tunnel(tunnel) => Step::Rest(tunnel.advance(io)?),
            };
            match step {
                Step::Go(State::Tunnel(tunnel)) => {
                    let became = Became::of(tunnel.answered().0.status.code());
                    io.cx.counted.answered(became, self.began(io.cx.now));
                    self.state = State::Tunnel(tunnel);
                }
                Step::Go(next) => self.state = next,
                Step::Rest(Outcome::Refused { refusal, .. })
                    if self.asks_another(&refusal, proxy, io) => {}
                Step::Rest(Outcome::Refused { .. }) if self.is_answered_stale(proxy, io) => {}
                Step::Rest(Outcome::Refused {
                    mut refusal,
                    stays,
                    ending,
                }) => {
                    let parent = proxy.rules.parent_by(&self.way);
                    refusal.next_hop = parent.map(|parent| parent.name.clone());
                    return Ok(Outcome::Refused {
                        refusal,
                        stays,
                        ending,
                    });
                }
                Step::Rest(outcome) => return Ok(outcome),
            }
        }
    }

    /// Goes on with the exchange; the upstream of a gateway is judged by the head of its answer.
    fn exchange(&mut self, proxy: &mut Proxy, io: &mut Io<'_>) -> Result<Step, Error> {
        let State::Exchanging(exchange) = &mut self.state else {
            return Ok(Step::WAIT);
        };
        let upstreams = proxy.upstreams.as_ref();
        let sent = Sent {
            request: &self.request,
            origin: &self.origin,
            way: &self.way,
            head: &self.head,
            has_another: self.request.repeatable
                && self.attempts.is_awaited()
                && upstreams.is_some_and(|all| all.may_go_on(&self.attempts)),
            errand: self.errand.as_mut(),
        };
        let onward = exchange.advance(sent, proxy, io);
        if let (Some(status), Some(upstreams)) = (exchange.heard, &mut proxy.upstreams) {
            upstreams.answered(&mut self.attempts, status, &mut io.cx);
        }
        Ok(match onward? {
            step::Step::Go(Onward::Again) => {
                self.attempts.begin_again();
                State::resolving(proxy, io.cx.now)
            }
            step::Step::Go(Onward::Another) => Step::Go(State::Begun { until: io.cx.now }),
            step::Step::Go(Onward::Switched) => {
                State::tunnel(Status::SWITCHING_PROTOCOLS, None, proxy, io)
            }
            step::Step::Rest(outcome) => Step::Rest(outcome),
        })
    }

    /// Whether the request begins again with another upstream, since the one that it was sent to
    /// failed: it was not sent yet, or may be repeated.
    fn asks_another(&mut self, refusal: &Refusal, proxy: &mut Proxy, io: &mut Io<'_>) -> bool {
        let (Some(upstreams), Detail::Proxied(error)) = (&mut proxy.upstreams, &refusal.detail)
        else {
            return false;
        };
        if !self.attempts.is_awaited() || !error.is_of_origin() {
            return false;
        }
        upstreams.failed(&mut self.attempts, &refusal.text, &mut io.cx);
        let is_unsent = !matches!(self.state, State::Exchanging(_));
        let may_be_sent = is_unsent || self.request.repeatable;
        if !may_be_sent || !upstreams.may_go_on(&self.attempts) {
            return false;
        }
        io.disconnect();
        self.state = State::Begun { until: io.cx.now };
        true
    }

    /// Chooses the upstream of a gateway's request, unless that is done; the answer where there is
    /// none that may be asked.
    fn choose(&mut self, proxy: &mut Proxy, io: &mut Io<'_>) -> Option<Step> {
        let upstreams = proxy.upstreams.as_mut()?;
        if self.attempts.is_awaited() {
            return None;
        }
        let chosen = upstreams.choose(&mut self.attempts, self.place, &mut io.cx);
        let Some((origin, way)) = chosen else {
            let text = format!("{}: every upstream is down", self.origin.authority);
            let error = ProxyError::DestinationUnavailable;
            let (status, stays) = (Status::SERVICE_UNAVAILABLE, self.request.stays(io));
            return Some(Step::refused(status, error, &text, stays));
        };
        self.origin.set_to(origin);
        match proxy.rules.parent {
            None => self.way = way,
            Some(_) => self.set_way(&proxy.rules),
        }
        None
    }

    /// Until when the state may last.
    pub(in crate::services::web) fn deadline(&self) -> Instant {
        match &self.state {
            State::Idle => unreachable!("a request that is over waits for nothing"),
            State::Begun { until }
            | State::Resolving { until }
            | State::Connecting { until }
            | State::Securing { until } => *until,
            State::Asking(asking) => asking.until,
            State::Exchanging(exchange) => exchange.until,
            State::Reading(following) => following.until,
            State::Kept(_) => unreachable!("all of it is queued"),
            State::Tunnel(tunnel) => tunnel.until,
        }
    }

    /// The request is over, however it ended.
    pub(in crate::services::web) fn release(&mut self, proxy: &mut Proxy, cx: &mut Cx<'_>) {
        match std::mem::take(&mut self.state) {
            State::Tunnel(Tunnel {
                local: Some(local), ..
            }) => {
                proxy.tunnels.remove(&local);
            }
            State::Exchanging(exchange) => exchange.release(cx),
            State::Reading(following) => following.reading.leave(cx),
            _ => {}
        }
        if let Some(mut errand) = self.errand.take() {
            errand.count(cx);
            errand.give_up(cx);
        }
    }

    /// Whether the request goes on when its client is gone.
    pub(in crate::services::web) fn outlives_client(&self, cx: &mut Cx<'_>) -> bool {
        let errand = self.errand.as_ref();
        match &self.state {
            State::Begun { .. }
            | State::Resolving { .. }
            | State::Connecting { .. }
            | State::Asking(_)
            | State::Securing { .. } => errand.is_some_and(|errand| errand.is_wanted(cx)),
            State::Exchanging(exchange) => exchange.outlives_client(errand, cx),
            State::Idle | State::Reading(_) | State::Kept(_) | State::Tunnel(_) => false,
        }
    }

    /// Sends the head of a response that somebody else asked for, and follows it.
    pub(super) fn follow(
        &mut self,
        (store, fetch, range): (StoreId, FetchId, Option<ByteRange>),
        rules: &Rules,
        scratch: &mut Vec<u8>,
        reply: &mut Reply<'_, '_>,
    ) {
        let (kept, _) = reply.cx.store(store);
        kept.follow(fetch);
        let Some(object) = kept.object(fetch).cloned() else {
            return;
        };
        let is_open = object.expected.is_none();
        let is_chunked = is_open && self.request.version == Version::Http11;
        let end_is_framing = is_open && !is_chunked;
        let ends = end_is_framing || !self.request.keep_alive;
        let origin = self.origin.clone();
        let manner = answer::Manner {
            persistence: Persistence::new(!ends, self.request.version),
            address_bar: (self.request.form == Form::AddressBar).then_some(&origin),
            via: &rules.via,
            status: CacheStatus {
                collapsed: true,
                ..CacheStatus::new(Handled::Forwarded(Because::Miss))
            },
            now_s: unix_s(reply.cx.wall),
        };
        let total = object.expected;
        let of = range.map(|range| (range, total));
        let status = answer::put_head(&object, of, is_chunked, manner, scratch);
        reply.put(scratch);
        let reading = Reading::new((store, fetch), is_chunked);
        self.state = State::Reading(Following {
            reading: match range {
                Some(range) => reading.only((range.start, range.end)),
                None => reading,
            },
            answered: Answered {
                status,
                body_bytes: 0,
            },
            end_is_framing,
            until: reply.cx.now + rules.upstream_timeout,
        });
    }

    /// Whether what was kept is sent in the place of a refusal, though it is stale: its origin could
    /// not be asked.
    fn is_answered_stale(&mut self, proxy: &mut Proxy, io: &mut Io<'_>) -> bool {
        let (Some(errand), Some(cache)) = (&mut self.errand, &proxy.cache) else {
            return false;
        };
        let Some(kept) = errand.failed(cache, &mut io.cx) else {
            return false;
        };
        io.disconnect();
        let address_bar = (self.request.form == Form::AddressBar).then_some(&self.origin);
        let stays = self.request.stays(io);
        let told = (
            None,
            Persistence::new(stays, self.request.version),
            address_bar,
        );
        let sent = Sent {
            request: &self.request,
            origin: &self.origin,
            way: &self.way,
            head: &self.head,
            has_another: false,
            errand: Some(errand),
        };
        let memory = (&proxy.rules, &mut proxy.scratch);
        if io.down.status != LinkState::Open {
            return false;
        }
        let answered = answer_kept(&kept, &sent, told, memory, (io.down, &mut io.cx));
        self.state = State::Kept(answered);
        true
    }

    /// The first step: on a connection that was kept, if there is one, else on one of its own.
    fn set_out(&mut self, proxy: &mut Proxy, io: &mut Io<'_>) -> Step {
        if let Some(refused) = self.choose(proxy, io) {
            return refused;
        }
        if self.way.through != Through::Nobody {
            let host = self.origin.host();
            let known = io.cx.resolver.known(host);
            if let Err(why) = parent::may_ask(host, known, &proxy.rules) {
                return self.refuse(why, io);
            }
        }
        while self.request.form != Form::Tunnel && proxy.rules.shares_connections() {
            match io.reuse(&self.way) {
                Poll::Pending => return Step::WAIT,
                Poll::Ready(false) => break,
                Poll::Ready(true) if io.up.is_reusable() => {
                    return self.send(self.request.repeatable, proxy, io);
                }
                Poll::Ready(true) => io.disconnect(), // it ended meanwhile
            }
        }
        State::resolving(proxy, io.cx.now)
    }

    fn resolve(&mut self, until: Instant, proxy: &Proxy, io: &mut Io<'_>) -> Step {
        let parent = proxy.rules.parent_by(&self.way);
        let (role, host, port) = match parent {
            Some(parent) => ("parent ", &*parent.host, parent.port),
            None => ("", self.origin.host(), self.origin.port),
        };
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
                let text = format!("{role}{host}: {failure}");
                return Step::refused(status, error, &text, stays);
            }
        };
        let allowed = match parent {
            Some(_) => Ok(addresses.to_vec()),
            None => proxy.rules.allowed(host, &addresses),
        };
        let addresses = match allowed {
            Ok(allowed) => allowed,
            Err(refused) => {
                let text = format!("{host}: {refused}, which is refused here");
                let error = ProxyError::DestinationIpProhibited;
                return Step::refused(Status::FORBIDDEN, error, &text, stays);
            }
        };
        let addresses = addresses.into_iter();
        let addresses: Vec<SocketAddr> = addresses.map(|ip| SocketAddr::new(ip, port)).collect();
        let opening = match opening(&self.origin, parent, &proxy.rules, io) {
            Ok(opening) => opening,
            Err((error, text)) => return Step::refused(Status::BAD_GATEWAY, error, &text, stays),
        };
        // The answer comes with the next call: nothing is made before this one is over.
        let _ = io.connect_with(&addresses, proxy.rules.connect_timeout, opening);
        Step::Go(State::Connecting {
            until: io.cx.now + proxy.rules.connect_timeout,
        })
    }

    fn refuse(&self, (status, error, text): parent::Refused, io: &Io<'_>) -> Step {
        Step::refused(status, error, &text, self.request.stays(io))
    }

    /// Sends the head. `may_repeat`: if the connection ends without a byte of an answer, it is sent
    /// once more.
    fn send(&mut self, may_repeat: bool, proxy: &mut Proxy, io: &mut Io<'_>) -> Step {
        let errand = self.errand.as_ref();
        proxy.scratch.clear();
        let is_changed =
            errand.is_some_and(|errand| errand.put_request(&mut proxy.scratch, &self.head));
        let head = if is_changed {
            &proxy.scratch
        } else {
            &self.head
        };
        match (&proxy.rules.parent, self.way.through) {
            (Some(parent), Through::Parent) => {
                parent.put_request(&mut io.up.tx, head, &self.origin, io.cx.pool);
            }
            _ => io.up.tx.put(head, io.cx.pool),
        }
        let exchange = Exchange::new(&self.request, may_repeat, io.cx.now, &proxy.rules);
        Step::Go(State::Exchanging(exchange))
    }

    /// Whose request it is, as it was named.
    pub(in crate::services::web) fn authority(&self) -> &str {
        &self.origin.authority
    }

    /// By which way it is sent on.
    pub(super) fn way(&self) -> &Way {
        &self.way
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
    /// What its state is called.
    pub(in crate::services::web) fn state(&self) -> &'static str {
        match self.state {
            State::Idle => "Forward: Idle",
            State::Begun { .. } => "Forward: Begun",
            State::Resolving { .. } => "Forward: Resolving",
            State::Connecting { .. } => "Forward: Connecting",
            State::Asking(_) => "Forward: Asking",
            State::Securing { .. } => "Forward: Securing",
            State::Exchanging(_) => "Forward: Exchanging",
            State::Reading(_) => "Forward: Reading",
            State::Kept(_) => "Forward: Kept",
            State::Tunnel(_) => "Forward: Tunnel",
        }
    }

    pub(in crate::services::web) fn error_format(&self) -> ErrorFormat {
        self.request.format
    }

    /// What was answered in the origin's stead.
    pub(in crate::services::web) fn refused(&mut self, answered: Option<Answered>) {
        self.refused = answered;
    }

    pub(in crate::services::web) fn logged(&self) -> Option<&Entry> {
        self.logged.as_deref()
    }

    /// What the client got, and from whom.
    pub(in crate::services::web) fn answered(&self) -> Option<(Answered, Answerer)> {
        if let Some(answered) = self.refused {
            return Some((answered, Answerer::Here));
        }
        match &self.state {
            State::Exchanging(exchange) => exchange.answered(),
            State::Reading(following) => Some((following.answered, Answerer::Cache)),
            State::Kept(answered) => Some((*answered, Answerer::Cache)),
            State::Tunnel(tunnel) => Some(tunnel.answered()),
            _ => None,
        }
    }
}

impl Following {
    fn advance(
        &mut self,
        request: &Request,
        timeout: Duration,
        io: &mut Io<'_>,
    ) -> Result<Outcome, Error> {
        io.down.end_is_framing = self.end_is_framing;
        let before = self.answered.body_bytes;
        let read = self.reading.advance(&mut self.answered.body_bytes, io);
        let moved = self.answered.body_bytes > before || io.drained;
        if moved || !io.down.tx.is_empty() {
            self.until = io.cx.now + timeout;
        }
        let is_late = io.cx.now >= self.until;
        match read {
            Read::Done => Ok(Outcome::Done {
                stays: !self.end_is_framing && request.stays(io),
            }),
            Read::Wait if !is_late => Ok(Outcome::Wait),
            Read::Wait | Read::Broken if self.end_is_framing => {
                Err(Error::Protocol("the response was cut".into()))
            }
            Read::Wait | Read::Broken => Ok(Outcome::Done { stays: false }),
        }
    }
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
fn unconnected(kind: io::ErrorKind, trouble: Option<&Trouble>) -> (Status, ProxyError) {
    let in_tls = trouble.map(|trouble| match trouble.is_certificate {
        true => ProxyError::TlsCertificateError,
        false => ProxyError::TlsProtocolError,
    });
    match (kind, in_tls) {
        (io::ErrorKind::TimedOut, _) => (Status::GATEWAY_TIMEOUT, ProxyError::ConnectionTimeout),
        (_, Some(error)) => (Status::BAD_GATEWAY, error),
        (io::ErrorKind::ConnectionRefused, _) => {
            (Status::BAD_GATEWAY, ProxyError::ConnectionRefused)
        }
        (io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted, _) => {
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
