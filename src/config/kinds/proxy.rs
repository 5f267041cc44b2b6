//! Kind `proxy`: a web proxy, or a gateway to one origin.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::{HEAD_BYTES_MAX, StreamConfig, read_hosts};
use crate::buffer::PAGE_BYTES;
use crate::config::section::{Section, integer, string};
use crate::config::value::Upstream;

/// The bounds of `max_head_bytes`: a page is what a receive buffer holds in one piece.
const HEAD_BYTES: RangeInclusive<usize> = 256..=PAGE_BYTES;

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

/// Whether and where a proxy keeps responses. Keys `cache`, `cache_dir` and `cache_max_bytes`.
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
    },
}

impl Cache {
    /// Reads the keys of the cache.
    pub(super) fn read(section: &mut Section<'_>) -> Cache {
        let (mut on, mut bytes_max) = (true, CACHE_BYTES_MAX);
        section.choice("cache", &[("on", true), ("off", false)], &mut on);
        let dir = section
            .path("cache_dir")
            .unwrap_or_else(|| section.folders.cache.clone());
        section.size("cache_max_bytes", 1..=i64::MAX as u64, &mut bytes_max);
        if on {
            Cache::On { dir, bytes_max }
        } else {
            Cache::Off
        }
    }
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
    /// Ports that CONNECT may reach. Key `connect_ports`, default port 443 only.
    pub connect_ports: Ports,
    /// Ports that requests with a URI and those in the address-bar form may reach. Key
    /// `forward_ports`, default [`Ports::Web`].
    pub forward_ports: Ports,
    /// The one origin of a gateway; `None` for a forward proxy. Key `upstream`, default none.
    pub upstream: Option<Upstream>,
    /// Time for reaching an origin, over all of its addresses. Key `connect_timeout`, default 5 s.
    pub connect_timeout: Duration,
    /// Silence of an origin, or its refusal to take our bytes, after which it is given up.
    /// Key `upstream_timeout`, default 60 s.
    pub upstream_timeout: Duration,
    /// Silence between two requests, within a request body or in both directions of a tunnel, or
    /// refusal to take the answer, after which a client is dropped. Key `idle_timeout`, default 60
    /// s.
    pub idle_timeout: Duration,
    /// Bytes a second that a request body must bring while the origin takes it: each byte buys its
    /// share of a second, and `idle_timeout` is the most that can be in hand. `None` for no
    /// minimum. Key `min_body_rate` (0 for none), default 240.
    pub body_rate_min: Option<NonZeroU32>,
    /// Time from the end of a request to the head of its final response, whatever interim responses
    /// come meanwhile. Key `response_timeout`, default 5 min.
    pub response_timeout: Duration,
    /// Time for a whole request head, from its first byte on. Key `head_timeout`, default 10 s.
    pub head_timeout: Duration,
    /// Bytes of a request head or a response head. Key `max_head_bytes`, default
    /// [`HEAD_BYTES_MAX`].
    pub head_bytes_max: usize,
    /// Keys `cache`, `cache_dir` and `cache_max_bytes`, default on.
    pub cache: Cache,
    /// What every kind over streams has; connections beyond `max_connections_per_address` are
    /// answered 429.
    pub stream: StreamConfig,
}

impl ProxyConfig {
    /// The defaults, with the given cache.
    pub fn new(cache: Cache) -> ProxyConfig {
        ProxyConfig {
            hosts: Vec::new(),
            allow_destinations: Vec::new(),
            connect_ports: Ports::Only(vec![443]),
            forward_ports: Ports::Web,
            upstream: None,
            connect_timeout: Duration::from_secs(5),
            upstream_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            body_rate_min: NonZeroU32::new(240),
            response_timeout: Duration::from_secs(5 * 60),
            head_timeout: Duration::from_secs(10),
            head_bytes_max: HEAD_BYTES_MAX,
            cache,
            stream: StreamConfig::default(),
        }
    }

    /// Reads the keys of this kind.
    pub(super) fn read(section: &mut Section<'_>) -> ProxyConfig {
        let mut config = ProxyConfig::new(Cache::read(section));
        config.hosts = read_hosts(section);
        let allowed = section.ranges("allow_destinations");
        config.allow_destinations = allowed.unwrap_or_default();
        read_ports(section, "connect_ports", &mut config.connect_ports);
        read_ports(section, "forward_ports", &mut config.forward_ports);
        let origin = r#"the address of an origin such as "http://127.0.0.1:8000""#;
        config.upstream = section.parsed("upstream", origin, |value| string(value)?.parse());
        section.timeout("connect_timeout", &mut config.connect_timeout);
        section.timeout("upstream_timeout", &mut config.upstream_timeout);
        section.timeout("idle_timeout", &mut config.idle_timeout);
        section.rate("min_body_rate", &mut config.body_rate_min);
        section.timeout("response_timeout", &mut config.response_timeout);
        section.timeout("head_timeout", &mut config.head_timeout);
        section.memory_size("max_head_bytes", HEAD_BYTES, &mut config.head_bytes_max);
        config.stream.read(section);
        config
    }
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
