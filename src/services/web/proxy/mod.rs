//! The web proxy: requests are sent on to the origin that they name, and its answers come back.
//!
//! RFC 9110 section 7 (routing), RFC 9112 section 9 (connections). One session carries both sides,
//! so that backpressure is nothing but two bounded queues, and the end of one side is a fact that
//! the other sees.
//!
//! Rules:
//! 1. The head of a request is written once as its origin is to see it, and kept until the answer
//!    has begun. A request without body that may be repeated is sent once more if it went out on a
//!    connection that had been used before, and that connection ended without a byte of an answer.
//! 2. Bodies are validated and passed on as they come, never collected. A chunked one gets chunks
//!    of our own, unless the client speaks HTTP/1.0; so does one that lasts until the origin
//!    closes.
//! 3. Nobody is connected to an address that is refused, however it was written, and a name is
//!    refused as a whole. The configured upstream of a gateway is exempt.
//! 4. A connection on which an exchange ended clean is anybody's who asks this site for the same
//!    origin next ([`Way`]).
//! 5. What was broken off is never made to look complete: once a byte of an answer went out, a
//!    failure closes the connection.
//!
//! The files in reading order: this one, `route` (where a request goes), `forward` (a request on
//! its way; `forward/reach` to a connection), `upstreams`, `balance` and `check` (to which of a
//! gateway's), `parent` (another proxy between), `opening`, `request` (what must be known of it), `step`
//! (what comes of a look at it), `exchange` (request and response under way), `passing` (their bodies),
//! `heads` (what is written), `upgrade`, `tunnel`; `errand` (what
//! the cache makes of it), `answer` (what is kept), `purge`
//! (what is no longer), `filling` and `reading` (what is being kept).
//!
//! Deliberately not here: what may be kept ([`caching`](crate::http::caching)), and
//! where ([`store`](crate::cache::store)).

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::{ClientConfig, RootCertStore};

use super::reply::{Refusal, Reply};
use super::{Given, Place};
use crate::config::{self, HttpConfig, Ports, ProxyConfig};
use crate::dns::{AddressPolicy, Refused};
use crate::gate::Ranges;
use crate::http::Status;
use crate::http::forwarded::Fields;
use crate::http::head::{BodyLength, HEADERS_MAX, Limits, RequestHead};
use crate::http::host_pattern::HostPattern;
use crate::service::origins::{Through, Way};
use crate::service::{Cx, Ends, Id, Peer};
use crate::wire::proxy_protocol::Version;
use crate::wire::trust;

mod answer;
mod balance;
mod check;
mod errand;
mod exchange;
mod filling;
mod forward;
mod heads;
mod opening;
mod parent;
mod passing;
mod purge;
mod reading;
mod request;
mod route;
mod step;
#[cfg(test)]
mod tests;
mod tunnel;
mod upgrade;
mod upstreams;

pub(super) use check::Check;
use errand::{Cache, Plan};
pub(super) use forward::Forward;
use heads::RequestManner;
use parent::Parent;
use route::{Form, Origin, Route};
pub(super) use step::Outcome;
pub(super) use upstreams::LearnedOfUpstreams;
use upstreams::Upstreams;

/// The origins that requests are sent on to.
pub(super) struct Proxy {
    rules: Rules,
    /// Those of a gateway.
    upstreams: Option<Upstreams>,
    /// Our ends of the tunnels that are open.
    tunnels: HashSet<SocketAddr, foldhash::fast::RandomState>,
    /// The head that is being written, kept for its memory only.
    scratch: Vec<u8>,
    /// What is kept of responses, if anything is.
    cache: Option<Cache>,
    /// Requests of the cache's own, which are to begin.
    #[allow(clippy::vec_box)] // each goes on in its box
    alone: Vec<Box<Forward>>,
}

/// What became of a request at first sight.
pub(super) enum Begun {
    /// It is answered.
    Answered,
    /// The session is woken when more is known of what is kept for it.
    Later,
    /// It is on its way.
    Forward(Box<Forward>),
}

/// What the configuration says, ready for use.
struct Rules {
    /// Names of ours, under which pages in the address-bar form are answered.
    hosts: Vec<String>,
    policy: AddressPolicy,
    allow_hosts: Option<Vec<HostPattern>>,
    deny_hosts: Vec<HostPattern>,
    connect_ports: Ports,
    forward_ports: Ports,
    /// The one origin of a gateway, as which all its upstreams are known.
    gateway: Option<Origin>,
    /// How that one is told of the client at the beginning of a connection.
    send_proxy: Option<Version>,
    /// Another proxy, by which origins are reached.
    parent: Option<Parent>,
    /// How https origins are spoken to; `None` if nobody can vouch for them.
    tls: Option<Arc<ClientConfig>>,
    /// By which we know that a request was here before.
    pseudonym: String,
    /// The line of an answer that tells that it went through here.
    via: Vec<u8>,
    /// In which fields the origin is told of the client, and who is believed in what it says in
    /// them.
    forwarded: Fields,
    trusted: Ranges,
    scheme: &'static str,
    response_limits: Limits,
    connect_timeout: Duration,
    upstream_timeout: Duration,
    idle_timeout: Duration,
    tunnel_idle_timeout: Duration,
    body_rate_min: Option<NonZeroU32>,
    response_timeout: Duration,
    /// A response of which no more than so many bytes are missing is kept although its client has
    /// gone.
    finish_bytes: u64,
    /// Who may purge what is kept.
    purgers: Ranges,
}

/// Who sends a request, and what is left of the last one that the same connection sent on.
pub(super) struct Sender<'a> {
    pub(super) peer: &'a Peer,
    /// The same, or its client, if it is a proxy that is trusted.
    pub(super) client: &'a Peer,
    pub(super) kept: &'a mut Option<Box<Forward>>,
}

impl Proxy {
    /// As configured, on a listener with these limits.
    pub(super) fn new(config: &ProxyConfig, http: &HttpConfig, given: &Given<'_>) -> Self {
        let pseudonym = format!("netlab-reactor ({:08x})", given.id);
        let store = given.store(config);
        let gateway = config.upstream.as_ref();
        let upstreams = gateway.map(Upstreams::new);
        Self {
            rules: Rules {
                hosts: config.hosts.clone(),
                policy: AddressPolicy::new(config.allow_destinations.iter().copied())
                    .denying(config.deny_destinations.iter().copied()),
                allow_hosts: config.allow_hosts.clone(),
                deny_hosts: config.deny_hosts.clone(),
                connect_ports: config.connect_ports.clone(),
                forward_ports: config.forward_ports.clone(),
                gateway: upstreams.as_ref().map(Upstreams::identity),
                send_proxy: config.send_proxy,
                parent: config.parent.as_ref().map(Parent::new),
                tls: tls(config, given),
                via: format!("Via: 1.1 {pseudonym}\r\n").into_bytes(),
                pseudonym,
                forwarded: http.forwarded.unwrap_or(match gateway {
                    Some(_) => Fields::default(),
                    None => Fields::Off,
                }),
                trusted: http.stream.trusted_proxies.iter().copied().collect(),
                scheme: match http.stream.tls {
                    Some(_) => "https",
                    None => "http",
                },
                response_limits: Limits {
                    head_bytes_max: http.head_bytes_max,
                    headers_max: HEADERS_MAX,
                    ..Limits::default()
                },
                connect_timeout: config.connect_timeout,
                upstream_timeout: config.upstream_timeout,
                idle_timeout: http.idle_timeout,
                tunnel_idle_timeout: config.tunnel_idle_timeout,
                body_rate_min: http.body_rate_min,
                response_timeout: config.response_timeout,
                finish_bytes: match &config.cache {
                    config::Cache::On { limits, .. } => limits.finish_bytes,
                    config::Cache::Off => 0,
                },
                purgers: match &config.cache {
                    config::Cache::On { purge_from, .. } => purge_from.iter().copied().collect(),
                    config::Cache::Off => Ranges::default(),
                },
            },
            upstreams,
            tunnels: HashSet::default(),
            scratch: Vec::new(),
            cache: store.map(|store| Cache::new(store, config.cache.rules())),
            alone: Vec::new(),
        }
    }

    /// The parent by which a request went on, if one stands between.
    pub(super) fn parent_of(&self, forward: &Forward) -> Option<&str> {
        let parent = self.rules.parent_by(forward.way());
        parent.map(|parent| parent.name.as_str())
    }

    /// Whether everything goes to one configured origin.
    pub(super) fn is_gateway(&self) -> bool {
        self.rules.gateway.is_some()
    }

    /// Finds the way of a request: it is answered with what is kept, or written as its origin is to
    /// see it. `place`: that of this proxy among the sites. `takes_authorization`: the request's
    /// `Authorization` was for this server and ends here.
    ///
    /// # Errors
    /// The answer to a request that goes nowhere.
    pub(super) fn begin(
        &mut self,
        head: &RequestHead<'_>,
        place: Place,
        takes_authorization: bool,
        sender: &mut Sender<'_>,
        reply: &mut Reply<'_, '_>,
    ) -> Result<Begun, Refusal> {
        let route = Route::find(head, &self.rules)?;
        if route.form == Form::Tunnel {
            self.may_tunnel(head, sender.peer)?;
        }
        if let Some(cache) = &mut self.cache
            && purge::is_asked(head)
        {
            let may = |client| self.rules.purgers.contains(client);
            let may = sender.client.ip().is_some_and(may);
            return purge::purge(may, cache, head, &route, reply);
        }
        let plan = match &mut self.cache {
            Some(cache) if route.form != Form::Tunnel => {
                Some(cache.plan(head, &route, &self.rules.via, reply)?)
            }
            _ => None,
        };
        let hidden = takes_authorization.then_some("authorization");
        let manner = RequestManner {
            is_for_others: self.cache.is_some(),
            ..self.rules.request_manner(hidden, sender.peer.ip())
        };
        let (persistence, now) = (reply.persistence, reply.cx.now);
        let (errand, follow) = match plan {
            Some(Plan::Answered(None)) => return Ok(Begun::Answered),
            Some(Plan::Answered(Some(errand))) => {
                let mut forward = Box::<Forward>::default();
                forward.begin(head, persistence, place, &route, now, &self.rules);
                forward.errand = Some(errand);
                heads::put_request(&mut forward.head, head, &route, &manner);
                self.alone.push(forward);
                return Ok(Begun::Answered);
            }
            Some(Plan::Later) => return Ok(Begun::Later),
            Some(Plan::Ask(errand)) => (Some(errand), None),
            Some(Plan::Follow(follow)) => (None, Some(follow)),
            None => (None, None),
        };
        let mut forward = sender.kept.take().unwrap_or_default();
        forward.begin(head, persistence, place, &route, now, &self.rules);
        forward.errand = errand;
        match follow {
            Some(follow) => forward.follow(follow, &self.rules, &mut self.scratch, reply),
            None => heads::put_request(&mut forward.head, head, &route, &manner),
        }
        Ok(Begun::Forward(forward))
    }

    /// A session no longer waits for a purge or for somebody else's response, if it did.
    pub(super) fn forget(&mut self, session: Id, cx: &mut Cx<'_>) {
        if let Some(cache) = &self.cache {
            let store = cx.stores.at(cache.store);
            store.forget_purge(session);
            store.forget_hopeful(session);
        }
    }

    /// Whether there is a request of the cache's own that is to begin.
    pub(super) fn wants_alone(&self) -> bool {
        !self.alone.is_empty()
    }

    /// That request.
    pub(super) fn take_alone(&mut self) -> Option<Box<Forward>> {
        self.alone.pop()
    }

    /// The upstreams of a gateway, as they are counted, and whether each gets requests.
    pub(super) fn upstreams_served(&self) -> impl Iterator<Item = (&str, bool)> {
        self.upstreams.iter().flat_map(Upstreams::served)
    }

    /// What is known of the upstreams of a gateway.
    pub(super) fn learned(&self) -> Option<LearnedOfUpstreams> {
        self.upstreams.as_ref().map(Upstreams::learned)
    }

    /// It takes the place of a gateway that knew this of its upstreams.
    pub(super) fn inherit(&mut self, learned: &LearnedOfUpstreams) {
        if let Some(upstreams) = &mut self.upstreams {
            upstreams.inherit(learned);
        }
    }

    /// A check of an upstream that is to begin; `place` is that of this proxy among the sites.
    pub(super) fn take_check(&mut self, place: Place, now: Instant) -> Option<Check> {
        self.upstreams.as_mut()?.take_check(place, now)
    }

    /// When that is to be asked for again.
    pub(super) fn check_due(&self) -> Option<Instant> {
        self.upstreams.as_ref()?.check_due()
    }

    /// A check is over, whatever came of it.
    pub(super) fn check_ended(&mut self, check: &Check) {
        if let Some(upstreams) = &mut self.upstreams {
            upstreams.check_ended(check.upstream);
        }
    }

    fn may_tunnel(&self, head: &RequestHead<'_>, peer: &Peer) -> Result<(), Refusal> {
        if head.body != BodyLength::None {
            let text = "CONNECT has no body: expected neither Content-Length nor Transfer-Encoding";
            return Err(Refusal::new(Status::BAD_REQUEST, text));
        }
        match peer {
            Peer::Inet(peer) if self.tunnels.contains(&canonical(*peer)) => {
                let text = "a tunnel through this proxy leads to this proxy";
                Err(Refusal::new(Status::LOOP_DETECTED, text))
            }
            _ => Ok(()),
        }
    }
}

/// How the https origins of a proxy are spoken to: whom to trust as them.
fn tls(config: &ProxyConfig, given: &Given<'_>) -> Option<Arc<ClientConfig>> {
    let (authorities, listed) = match &config.ca_file {
        Some(file) => {
            let (roots, listed): (RootCertStore, _) = trust::authorities(&file.pem).ok()?;
            (Arc::new(roots), listed)
        }
        None => (Arc::clone(given.authorities?), Vec::new()),
    };
    let mut tls = trust::client(authorities, listed).ok()?;
    tls.alpn_protocols = vec![b"http/1.1".to_vec()];
    Some(Arc::new(tls))
}

/// An IPv4 address that is written in IPv6 as the IPv4 address that it is.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

impl Rules {
    /// How a request that came from `peer` is written.
    fn request_manner<'a>(
        &'a self,
        hidden: Option<&'static str>,
        peer: Option<IpAddr>,
    ) -> RequestManner<'a> {
        RequestManner {
            hidden,
            pseudonym: &self.pseudonym,
            forwarded: self.forwarded,
            is_trusted: peer.is_some_and(|peer| self.trusted.contains(peer)),
            peer,
            scheme: self.scheme,
            is_for_others: false,
        }
    }

    /// The parent that stands between, by this way.
    fn parent_by(&self, way: &Way) -> Option<&Parent> {
        match way.through {
            Through::Nobody => None,
            Through::Parent | Through::Tunnel => self.parent.as_ref(),
        }
    }

    /// Whether a connection may carry the requests of another client: not where its origin was told
    /// at its beginning whose it is.
    fn shares_connections(&self) -> bool {
        self.send_proxy.is_none()
    }

    /// Whether this host may be asked for, whatever its addresses are.
    fn may_ask_for(&self, host: &str) -> bool {
        let fits = |patterns: &[HostPattern]| patterns.iter().any(|pattern| pattern.fits(host));
        let is_allowed = self.allow_hosts.as_deref().is_none_or(fits);
        is_allowed && !fits(&self.deny_hosts)
    }

    /// Why a host that is an address as it stands will be refused: who floods with such costs no more
    /// than it must. All others are judged [by their addresses](Rules::allowed).
    fn refuses_address(&self, host: &str) -> Option<Refused> {
        let is_literal = host.starts_with(|first: char| first.is_ascii_digit() || first == '[');
        if !is_literal || self.parent.is_some() {
            return None;
        }
        let address = host.trim_start_matches('[').trim_end_matches(']');
        self.policy.check(address.parse().ok()?).err()
    }

    /// Whether a connection may have these ends, as far as they show that it leads to this machine.
    fn may_lead_here(&self, ends: &Ends, way: &Way) -> bool {
        let is_chosen = self.gateway.is_some() || way.through != Through::Nobody;
        let is_exempt = is_chosen || self.policy.allows(ends.peer.ip());
        is_exempt || !ends.are_one_machine()
    }

    /// The addresses of `host` that may be connected to: all of them or none. Only `localhost`,
    /// whose addresses nobody outside can choose (RFC 6761 section 6.3), may lose some: who allows
    /// 127.0.0.1 means it although there is ::1.
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
