//! Kind `proxy`: a web proxy, or a gateway to one origin.

use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::{HttpConfig, Kind, Row, Transport, Upstreams, read_hosts};
use crate::config::section::{Section, integer, string};
use crate::config::{Authorities, Parent};
use crate::http::caching::refresh::Pattern;
use crate::http::caching::{Ignore, RuleBook, Rules};
use crate::http::host_pattern::HostPattern;
use crate::wire::proxy_protocol::Version;

/// The ports of origins that may be reached. Keys `connect_ports` and `forward_ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// `[]`: every port.
    Any,
    /// 80, 443 and those from 1024 on. Below stand mail, shells and the like, to which a request
    /// may be made to look like one of their own.
    Web,
    /// These only; never empty.
    Only(Vec<u16>),
}

impl Ports {
    /// Whether this port may be reached.
    pub fn allow(&self, port: u16) -> bool {
        match self {
            Ports::Any => true,
            Ports::Web => matches!(port, 80 | 443 | 1024..),
            Ports::Only(ports) => ports.contains(&port),
        }
    }
}

/// Whether and where a proxy keeps responses, and for how long. Keys `cache` and `cache_…`,
/// `refresh`, `purge_from`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cache {
    /// `cache = "off"`: everything is fetched anew.
    Off,
    /// `cache = "on"`, the default.
    On {
        /// The folder of the objects. Key `cache_dir`, default `netlab-reactor/cache` in the
        /// platform's folder for caches.
        dir: PathBuf,
        /// Bytes kept on disk. Key `cache_max_bytes`, default 1 GiB.
        bytes_max: u64,
        /// Its other limits.
        limits: CacheLimits,
        /// What is decided about responses. Keys `cache_heuristic_percent`, default 10,
        /// `cache_heuristic_max`, default 1 day, `cache_lifetime_max`, default 1 year, and
        /// `cache_stale_if_unreachable`, default 1 day; otherwise for some URLs by `refresh`, a list
        /// of tables `[[listener.refresh]]`, default none.
        rules: RuleBook,
        /// Who may have what is kept forgotten, by `PURGE`. Key `purge_from`, default nobody.
        purge_from: Vec<IpNet>,
    },
}

/// What a cache holds beside its bytes on disk, and how long requests wait for each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheLimits {
    /// Responses. Key `cache_max_objects`, default 1,000,000.
    pub objects_max: usize,
    /// Bytes of one response. Key `cache_max_object_bytes`, default 1 GiB.
    pub object_bytes_max: u64,
    /// Bytes of responses in memory. Key `cache_max_memory_bytes`, default 64 MiB.
    pub memory_bytes_max: u64,
    /// Files of large responses that are open. Key `cache_max_open_files`, default 1024.
    pub open_files_max: usize,
    /// A response of at most so many bytes is kept in memory as a whole. Key
    /// `cache_max_small_bytes`, default 128 KiB.
    pub small_bytes_max: u64,
    /// How long a request waits for the head of a response that another one asked for. Key
    /// `cache_wait_timeout`, default 5 s.
    pub wait_timeout: Duration,
    /// A response of which no more than so many bytes are missing is fetched to its end although
    /// its client has gone. Key `cache_finish_within`, default 1 MiB.
    pub finish_bytes: u64,
}

impl Default for CacheLimits {
    fn default() -> Self {
        Self {
            objects_max: 1_000_000,
            object_bytes_max: 1 << 30,
            memory_bytes_max: 64 << 20,
            open_files_max: 1024,
            small_bytes_max: 128 << 10,
            wait_timeout: Duration::from_secs(5),
            finish_bytes: 1 << 20,
        }
    }
}

impl CacheLimits {
    fn read(section: &mut Section<'_>) -> Self {
        let mut limits = Self::default();
        section.count(
            "cache_max_objects",
            1..=100_000_000,
            &mut limits.objects_max,
        );
        let most = i64::MAX as u64;
        let bytes = &mut limits.object_bytes_max;
        section.size("cache_max_object_bytes", 1..=most, bytes);
        section.size(
            "cache_max_memory_bytes",
            0..=most,
            &mut limits.memory_bytes_max,
        );
        section.count(
            "cache_max_open_files",
            0..=1_000_000,
            &mut limits.open_files_max,
        );
        section.size(
            "cache_max_small_bytes",
            0..=16 << 20,
            &mut limits.small_bytes_max,
        );
        section.timeout("cache_wait_timeout", &mut limits.wait_timeout);
        section.size("cache_finish_within", 0..=most, &mut limits.finish_bytes);
        limits
    }
}

impl Cache {
    /// What is decided about responses.
    #[must_use]
    pub fn rules(&self) -> RuleBook {
        match self {
            Cache::Off => RuleBook::default(),
            Cache::On { rules, .. } => rules.clone(),
        }
    }

    /// Reads the keys of the cache.
    pub(super) fn read(section: &mut Section<'_>) -> Cache {
        let (mut on, mut bytes_max) = (true, CACHE_BYTES_MAX);
        section.choice("cache", &[("on", true), ("off", false)], &mut on);
        let dir = section
            .path("cache_dir")
            .unwrap_or_else(|| section.folders.cache.clone());
        section.size("cache_max_bytes", 1..=i64::MAX as u64, &mut bytes_max);
        let limits = CacheLimits::read(section);
        let rules = read_rules(section);
        let purge_from = section.ranges("purge_from").unwrap_or_default();
        match on {
            true => Cache::On {
                dir,
                bytes_max,
                limits,
                rules,
                purge_from,
            },
            false => Cache::Off,
        }
    }
}

/// Reads what is decided about responses.
fn read_rules(section: &mut Section<'_>) -> RuleBook {
    let mut rules = Rules::default();
    let mut percent = rules.heuristic_percent as usize;
    section.count("cache_heuristic_percent", 0..=100, &mut percent);
    rules.heuristic_percent = percent as u32;
    read_seconds(section, "cache_heuristic_max", &mut rules.heuristic_max_s);
    read_seconds(section, "cache_lifetime_max", &mut rules.lifetime_max_s);
    let unreachable_s = &mut rules.stale_if_unreachable_s;
    read_seconds(section, "cache_stale_if_unreachable", unreachable_s);
    let patterns = section.tables("refresh", |section| read_refresh(section, rules));
    RuleBook::new(rules, patterns)
}

/// Reads one entry of `refresh`: what it says otherwise than `rules`.
fn read_refresh(section: &mut Section<'_>, mut rules: Rules) -> Option<(Pattern, Rules)> {
    let expected = "a pattern such as \"*.css\", \"/assets/**\" or \"http://host/**\"";
    let pattern = section.parsed("match", expected, |value| match string(value)? {
        "" => Err("is empty".to_owned()),
        text => Ok(Pattern::new(text)),
    });
    if !section.has("match") {
        let span = section.span("match");
        let what = format!("an entry of `refresh` without `match`; expected {expected}");
        section.problem(span, what);
    }
    read_seconds(section, "minimum", &mut rules.lifetime_min_s);
    read_seconds(section, "maximum", &mut rules.lifetime_max_s);
    if rules.lifetime_min_s > rules.lifetime_max_s {
        let what = "`minimum` is more than `maximum`, or than `cache_lifetime_max`".to_owned();
        section.problem(section.span("minimum"), what);
    }
    let names: Vec<String> = Ignore::NAMES
        .iter()
        .map(|name| format!("{name:?}"))
        .collect();
    let expected = format!("one of {}", names.join(", "));
    let ignored = section.list("ignore", &expected, |value| {
        let (name, mut ignore) = (string(value)?, Ignore::default());
        let is_known = ignore.add(name);
        is_known
            .then(|| name.to_owned())
            .ok_or_else(|| format!("is {name:?}"))
    });
    for name in ignored.unwrap_or_default() {
        rules.ignore.add(&name);
    }
    Some((pattern?, rules))
}

/// A span of time in whole seconds.
fn read_seconds(section: &mut Section<'_>, key: &'static str, seconds: &mut u32) {
    let mut span = Duration::from_secs(u64::from(*seconds));
    section.duration(key, &mut span);
    // Spans are bounded by ten years.
    *seconds = u32::try_from(span.as_secs()).unwrap_or(u32::MAX);
}

/// Bytes that a proxy's cache keeps on disk, unless it is told otherwise: 1 GiB.
pub const CACHE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// The keys of kind `proxy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyConfig {
    /// Names under which pages in the address-bar form are answered, beside addresses and
    /// `localhost`. Key `hosts`, default none.
    pub hosts: Vec<String>,
    /// Address ranges that may be reached although they are loopback, private, link-local, of this
    /// machine or otherwise refused. Key `allow_destinations`, default none.
    pub allow_destinations: Vec<IpNet>,
    /// Address ranges that may not be reached, whatever `allow_destinations` says. Key
    /// `deny_destinations`, default none.
    pub deny_destinations: Vec<IpNet>,
    /// The only hosts that may be asked for; `None` for all. Key `allow_hosts`, a list of patterns
    /// that is not empty, default none.
    pub allow_hosts: Option<Vec<HostPattern>>,
    /// Hosts that may not be asked for, whatever `allow_hosts` says. Key `deny_hosts`, default none.
    pub deny_hosts: Vec<HostPattern>,
    /// Ports that CONNECT may reach. Key `connect_ports`, default port 443 only.
    pub connect_ports: Ports,
    /// Ports that requests with a URI and those in the address-bar form may reach. Key
    /// `forward_ports`, default [`Ports::Web`].
    pub forward_ports: Ports,
    /// The one origin of a gateway, or the upstreams that are it together; `None` for a forward
    /// proxy. Key `upstream`, default none.
    pub upstream: Option<Upstreams>,
    /// Another proxy, by which origins are reached; `None` for directly. Keys `parent`, `parent_…` and
    /// `no_proxy`.
    pub parent: Option<Parent>,
    /// Who may vouch for https origins; `None` for the authorities that the system trusts. Key
    /// `ca_file`, default none.
    pub ca_file: Option<Authorities>,
    /// The version of the PROXY protocol by which the origin of a gateway is told of the client, at
    /// the beginning of each connection, which no other client shares. Key `send_proxy`: `"off"`, the
    /// default, `"v1"` or `"v2"`.
    pub send_proxy: Option<Version>,
    /// Time for reaching an origin, over all of its addresses, TLS included. Key `connect_timeout`,
    /// default 5 s.
    pub connect_timeout: Duration,
    /// Silence of an origin, or its refusal to take our bytes, after which it is given up.
    /// Key `upstream_timeout`, default 60 s.
    pub upstream_timeout: Duration,
    /// Time from the end of a request to the head of its final response, whatever interim responses
    /// come meanwhile. Key `response_timeout`, default 5 min.
    pub response_timeout: Duration,
    /// Silence in both directions of a tunnel, whether by CONNECT or by `Upgrade`, after which it is
    /// closed. Key `tunnel_idle_timeout`, default 5 min.
    pub tunnel_idle_timeout: Duration,
    /// What is kept, default on.
    pub cache: Cache,
    /// What every kind that speaks HTTP has. `idle_timeout` is also for silence within a request
    /// body; bodies that are sent on are not bounded by
    /// `max_body_bytes`.
    pub http: HttpConfig,
}

impl ProxyConfig {
    /// The line of this kind in the table.
    pub(super) const ROW: Row = Row {
        name: "proxy",
        transport: Transport::Stream,
        port: 8888,
        attempt: "curl --proxy http://{address} http://www.example.com/",
        read: |section| Kind::Proxy(ProxyConfig::read(section)),
    };

    /// Whether it may have to ask https origins, or a parent over TLS, that the system's authorities
    /// vouch for.
    pub fn needs_authorities(&self) -> bool {
        let asks_parent = self.parent.as_ref().is_some_and(|parent| parent.tls);
        let asks_origins = self.upstream.as_ref().is_none_or(Upstreams::tls);
        self.ca_file.is_none() && (asks_parent || asks_origins)
    }

    /// The defaults, with the given cache.
    pub fn new(cache: Cache) -> ProxyConfig {
        ProxyConfig {
            hosts: Vec::new(),
            allow_destinations: Vec::new(),
            deny_destinations: Vec::new(),
            allow_hosts: None,
            deny_hosts: Vec::new(),
            connect_ports: Ports::Only(vec![443]),
            forward_ports: Ports::Web,
            upstream: None,
            parent: None,
            ca_file: None,
            send_proxy: None,
            connect_timeout: Duration::from_secs(5),
            upstream_timeout: Duration::from_secs(60),
            response_timeout: Duration::from_secs(5 * 60),
            tunnel_idle_timeout: Duration::from_secs(5 * 60),
            cache,
            http: HttpConfig::default(),
        }
    }

    /// Reads the keys of this kind.
    pub(super) fn read(section: &mut Section<'_>) -> ProxyConfig {
        let mut config = ProxyConfig::new(Cache::read(section));
        config.http.read_common(section);
        config.http.files.read_errors(section);
        config.hosts = read_hosts(section);
        let allowed = section.ranges("allow_destinations");
        config.allow_destinations = allowed.unwrap_or_default();
        let denied = section.ranges("deny_destinations");
        config.deny_destinations = denied.unwrap_or_default();
        config.allow_hosts = read_patterns(section, "allow_hosts");
        if config.allow_hosts.as_ref().is_some_and(Vec::is_empty) {
            let what = "`allow_hosts` is empty, so that nothing may be asked for; expected a pattern \
                        such as \"*.example.com\" (leave it out to allow all)";
            section.problem(section.span("allow_hosts"), what.to_owned());
        }
        config.deny_hosts = read_patterns(section, "deny_hosts").unwrap_or_default();
        read_ports(section, "connect_ports", &mut config.connect_ports);
        read_ports(section, "forward_ports", &mut config.forward_ports);
        config.read_origin(section);
        config
    }

    /// Reads a route of a web listener that leads to another server.
    pub(in crate::config) fn read_route(section: &mut Section<'_>) -> ProxyConfig {
        let mut config = ProxyConfig::new(Cache::read(section));
        config.http.files.read_errors(section);
        config.read_origin(section);
        config
    }

    /// Reads the keys of the way to an origin.
    fn read_origin(&mut self, section: &mut Section<'_>) {
        self.upstream = Upstreams::read(section);
        self.ca_file = Authorities::read(section);
        self.parent = Parent::read(section);
        let versions = [
            ("off", None),
            ("v1", Some(Version::V1)),
            ("v2", Some(Version::V2)),
        ];
        section.choice("send_proxy", &versions, &mut self.send_proxy);
        if self.send_proxy.is_some() && self.upstream.is_none() {
            let what = "`send_proxy` is for the origin of a gateway; expected `upstream` beside it";
            section.problem(section.span("send_proxy"), what.to_owned());
        }
        if self.send_proxy.is_some() && self.parent.is_some() {
            let what = "`send_proxy` tells the other end of a connection of the client, and with `parent` \
                        that is the parent; expected one of the two";
            section.problem(section.span("send_proxy"), what.to_owned());
        }
        section.timeout("connect_timeout", &mut self.connect_timeout);
        section.timeout("upstream_timeout", &mut self.upstream_timeout);
        section.timeout("response_timeout", &mut self.response_timeout);
        section.timeout("tunnel_idle_timeout", &mut self.tunnel_idle_timeout);
    }
}

/// Reads a list of patterns for hosts, if there is one.
fn read_patterns(section: &mut Section<'_>, key: &'static str) -> Option<Vec<HostPattern>> {
    let expected = "a host such as \"example.com\", or all below one: \"*.example.com\"";
    section.list(key, expected, |value| {
        let text = string(value)?;
        HostPattern::parse(text).ok_or_else(|| format!("is {text:?}"))
    })
}

/// Reads a list of ports, if there is one.
fn read_ports(section: &mut Section<'_>, key: &'static str, field: &mut Ports) {
    let ports = section.list(key, "a port from 1 to 65535", |value| {
        match integer(value)? {
            port @ 1..=65535 => Ok(port as u16),
            port => Err(format!("is {port}")),
        }
    });
    match ports {
        None => {}
        Some(ports) if ports.is_empty() => *field = Ports::Any,
        Some(ports) => *field = Ports::Only(ports),
    }
}
