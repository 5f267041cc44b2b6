//! The kinds of listeners: what each can be told, and what it does when it is told nothing.
//!
//! A new kind is a struct with its defaults, a reader, a variant of [`Kind`] and a line in the
//! table of kinds. A new key is a field, its default, a line in the reader and one in the example.
//!
//! Each struct stands before its defaults and its reader. A reader may be run on an empty table to
//! learn which keys its kind has, so it has no effect but to report problems; the files that it
//! reads are named by keys.

use std::fs;
use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroU64};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ipnet::IpNet;

use super::files::{FilesConfig, SiteConfig};
use super::section::{Section, integer, path, string};
use super::tls::TlsFiles;
use super::value::{Fraction, Upstream};
use crate::buffer::{LARGE_PAGE_BYTES, PAGE_BYTES};
use crate::wire::challenge::{Handshake, Secret};
use crate::wire::login::UserInfo;

/// Connections that one listener serves at once, unless it is told otherwise: 65,536.
pub const CONNECTIONS_MAX: usize = 65_536;

/// Clients beyond `max_connections` that a web server tells so at a time; those beyond these wait in the kernel's queue.
const REFUSALS_MAX: usize = 256;

/// Bytes of a request's or a response's head, unless the listener is told otherwise: 16 KiB.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Datagrams a second from one source address, unless the listener is told otherwise: 10,000.
pub const SOURCE_RATE_MAX: NonZeroU32 = NonZeroU32::new(10_000).unwrap();

/// The lowest source port whose datagrams are answered, unless the listener is told otherwise: 1,024. Below it stand the
/// services that may answer whatever reaches them, such as echo (7), chargen (19) and DNS (53); clients have ports above it.
pub const SOURCE_PORT_MIN: u16 = 1024;

/// What a listener serves, with everything that this kind can be told.
#[derive(Debug, Clone, PartialEq)]
#[allow(clippy::large_enum_variant)] // there are a handful in a process
pub enum Kind {
    /// `tcp-echo`: what is sent comes back in upper case.
    TcpEcho(TcpEchoConfig),
    /// `udp-echo`: each datagram comes back in upper case.
    UdpEcho(UdpEchoConfig),
    /// `udp-ping`: each datagram comes back, but for a share that is lost on purpose.
    UdpPing(UdpPingConfig),
    /// `udp-heartbeat`: tells which senders are alive.
    UdpHeartbeat(UdpHeartbeatConfig),
    /// `hello`: numbered greetings, each after a reply and a pause.
    Hello(HelloConfig),
    /// `http`: a web server.
    Http(HttpConfig),
    /// `proxy`: a web proxy or a gateway to one origin.
    Proxy(ProxyConfig),
    /// `upload`: receives files.
    Upload(UploadConfig),
    /// `admin`: health and metrics.
    Admin(AdminConfig),
}

impl Kind {
    /// The name as it stands after `kind =` and in the `listening` line.
    pub fn name(&self) -> &'static str {
        match self {
            Kind::TcpEcho(_) => "tcp-echo",
            Kind::UdpEcho(_) => "udp-echo",
            Kind::UdpPing(_) => "udp-ping",
            Kind::UdpHeartbeat(_) => "udp-heartbeat",
            Kind::Hello(_) => "hello",
            Kind::Http(_) => "http",
            Kind::Proxy(_) => "proxy",
            Kind::Upload(_) => "upload",
            Kind::Admin(_) => "admin",
        }
    }

    /// Connections open at once; `None` for the kinds that have no connections. A web server has some more than it serves,
    /// to be able to refuse them with an answer.
    pub fn connections_max(&self) -> Option<usize> {
        match self {
            Kind::TcpEcho(config) => Some(config.connections_max),
            Kind::Hello(config) => Some(config.connections_max),
            Kind::Http(config) => Some(config.connections_max.saturating_add(REFUSALS_MAX)),
            Kind::Proxy(config) => Some(config.connections_max),
            Kind::Upload(config) => Some(config.connections_max),
            Kind::Admin(config) => Some(config.connections_max),
            Kind::UdpEcho(_) | Kind::UdpPing(_) | Kind::UdpHeartbeat(_) => None,
        }
    }

    /// Datagrams a second from one source address, loopback exempt; `None` for no limit and for
    /// the kinds that have connections.
    pub fn source_rate_max(&self) -> Option<NonZeroU32> {
        match self {
            Kind::UdpEcho(config) => config.source_rate_max,
            Kind::UdpPing(config) => config.source_rate_max,
            Kind::UdpHeartbeat(config) => config.source_rate_max,
            _ => None,
        }
    }

    /// The lowest source port whose datagrams are answered; `None` for the kinds that answer no datagrams.
    pub fn source_port_min(&self) -> Option<u16> {
        match self {
            Kind::UdpEcho(config) => Some(config.source_port_min),
            Kind::UdpPing(config) => Some(config.source_port_min),
            _ => None,
        }
    }
}

/// What a kind is spoken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Transport {
    /// TCP, or a Unix stream socket.
    Stream,
    /// UDP.
    Datagram,
}

/// A line in the table of kinds.
pub(super) struct Row {
    /// The name after `kind =`.
    pub(super) name: &'static str,
    /// What the kind is spoken over.
    pub(super) transport: Transport,
    /// The port on the loopback address where nothing else is configured.
    pub(super) port: u16,
    /// Reads the keys of this kind.
    pub(super) read: fn(&mut Section<'_>) -> Kind,
}

/// The table of kinds, in the order in which they start where nothing is configured.
pub(super) const KINDS: [Row; 9] = {
    use Transport::{Datagram, Stream};
    const fn row(
        name: &'static str,
        transport: Transport,
        port: u16,
        read: fn(&mut Section<'_>) -> Kind,
    ) -> Row {
        Row {
            name,
            transport,
            port,
            read,
        }
    }
    [
        row("tcp-echo", Stream, 12000, |section| {
            Kind::TcpEcho(TcpEchoConfig::read(section))
        }),
        row("udp-echo", Datagram, 12002, |section| {
            Kind::UdpEcho(UdpEchoConfig::read(section))
        }),
        row("udp-ping", Datagram, 12000, |section| {
            Kind::UdpPing(UdpPingConfig::read(section))
        }),
        row("udp-heartbeat", Datagram, 12001, |section| {
            Kind::UdpHeartbeat(UdpHeartbeatConfig::read(section))
        }),
        row("hello", Stream, 9000, |section| {
            Kind::Hello(HelloConfig::read(section))
        }),
        row("http", Stream, 6789, |section| {
            Kind::Http(HttpConfig::read(section))
        }),
        row("proxy", Stream, 8888, |section| {
            Kind::Proxy(ProxyConfig::read(section))
        }),
        row("upload", Stream, 9001, |section| {
            Kind::Upload(UploadConfig::read(section))
        }),
        row("admin", Stream, 9090, |section| {
            Kind::Admin(AdminConfig::read(section))
        }),
    ]
};

/// The bounds of `max_connections`.
const CONNECTIONS: RangeInclusive<usize> = 1..=1 << 24;

/// The bounds of a web server's `max_head_bytes`: it moves a head that fills a page to a large one.
const LARGE_HEAD_BYTES: RangeInclusive<usize> = 256..=LARGE_PAGE_BYTES;

/// The bounds of `max_head_bytes`: a page is what a receive buffer holds in one piece.
const HEAD_BYTES: RangeInclusive<usize> = 256..=PAGE_BYTES;

/// What an echo does to the bytes. Key `transform`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transform {
    /// `"upper"`, the default: Unicode upper case; what is not UTF-8 comes back unchanged.
    #[default]
    Upper,
    /// `"none"`: the bytes come back as they were, as in RFC 862.
    None,
}

/// The words of `transform`.
const TRANSFORMS: [(&str, Transform); 2] = [("upper", Transform::Upper), ("none", Transform::None)];

/// The keys of kind `tcp-echo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TcpEchoConfig {
    /// Key `transform`, default upper case.
    pub transform: Transform,
    /// Silence, or refusal to take our bytes, after which a connection is closed.
    /// Key `idle_timeout`, default 5 min.
    pub idle_timeout: Duration,
    /// Connections at once. Key `max_connections`, default [`CONNECTIONS_MAX`].
    pub connections_max: usize,
}

impl Default for TcpEchoConfig {
    fn default() -> TcpEchoConfig {
        TcpEchoConfig {
            transform: Transform::default(),
            idle_timeout: Duration::from_secs(5 * 60),
            connections_max: CONNECTIONS_MAX,
        }
    }
}

impl TcpEchoConfig {
    /// Reads the keys of this kind.
    fn read(section: &mut Section<'_>) -> TcpEchoConfig {
        let mut config = TcpEchoConfig::default();
        section.choice("transform", &TRANSFORMS, &mut config.transform);
        section.timeout("idle_timeout", &mut config.idle_timeout);
        section.count("max_connections", CONNECTIONS, &mut config.connections_max);
        config
    }
}

/// The keys of kind `udp-echo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpEchoConfig {
    /// Key `transform`, default upper case.
    pub transform: Transform,
    /// Datagrams a second from one source address, loopback exempt; `None` for no limit.
    /// Key `source_rate_max` (0 for none), default [`SOURCE_RATE_MAX`].
    pub source_rate_max: Option<NonZeroU32>,
    /// The lowest source port whose datagrams are answered. Key `source_port_min` (0 for any), default
    /// [`SOURCE_PORT_MIN`].
    pub source_port_min: u16,
}

impl Default for UdpEchoConfig {
    fn default() -> UdpEchoConfig {
        UdpEchoConfig {
            transform: Transform::default(),
            source_rate_max: Some(SOURCE_RATE_MAX),
            source_port_min: SOURCE_PORT_MIN,
        }
    }
}

impl UdpEchoConfig {
    /// Reads the keys of this kind.
    fn read(section: &mut Section<'_>) -> UdpEchoConfig {
        let mut config = UdpEchoConfig::default();
        section.choice("transform", &TRANSFORMS, &mut config.transform);
        section.rate("source_rate_max", &mut config.source_rate_max);
        read_source_port_min(section, &mut config.source_port_min);
        config
    }
}

/// The keys of kind `udp-ping`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpPingConfig {
    /// Share of datagrams that get no answer. Key `loss`, default 4/11.
    pub loss: Fraction,
    /// Share of answers that are sent twice. Key `duplicate`, default 0.
    pub duplicate: Fraction,
    /// Share of answers that are held back, so that the next one overtakes them if it comes within `reorder_hold`.
    /// Key `reorder`, default 0.
    pub reorder: Fraction,
    /// Share of answers in which one bit is flipped. Key `corrupt`, default 0.
    pub corrupt: Fraction,
    /// Time for which each answer is held back. Key `delay`, default 0.
    pub delay: Duration,
    /// The most that is added to `delay`, at random and uniformly. Key `jitter`, default 0.
    pub jitter: Duration,
    /// What is added to `delay` for those that `reorder` holds back. Key `reorder_hold`, default 20 ms.
    pub reorder_hold: Duration,
    /// Memory that answers which are held back may take; those beyond are dropped, as by a router whose queue is full.
    /// Key `max_delayed_bytes`, default 16 MiB.
    pub delayed_bytes_max: usize,
    /// Seed of the random stream; `None` takes a new one at each start. Key `seed`, default none.
    pub seed: Option<u64>,
    /// Datagrams a second from one source address, loopback exempt; `None` for no limit.
    /// Key `source_rate_max` (0 for none), default [`SOURCE_RATE_MAX`].
    pub source_rate_max: Option<NonZeroU32>,
    /// The lowest source port whose datagrams are answered. Key `source_port_min` (0 for any), default
    /// [`SOURCE_PORT_MIN`].
    pub source_port_min: u16,
}

impl Default for UdpPingConfig {
    fn default() -> UdpPingConfig {
        const LOSS: Fraction = Fraction::new(4, 11).unwrap();
        UdpPingConfig {
            loss: LOSS,
            duplicate: Fraction::ZERO,
            reorder: Fraction::ZERO,
            corrupt: Fraction::ZERO,
            delay: Duration::ZERO,
            jitter: Duration::ZERO,
            reorder_hold: Duration::from_millis(20),
            delayed_bytes_max: 16 * 1024 * 1024,
            seed: None,
            source_rate_max: Some(SOURCE_RATE_MAX),
            source_port_min: SOURCE_PORT_MIN,
        }
    }
}

impl UdpPingConfig {
    /// Reads the keys of this kind.
    fn read(section: &mut Section<'_>) -> UdpPingConfig {
        let mut config = UdpPingConfig::default();
        section.share("loss", &mut config.loss);
        section.share("duplicate", &mut config.duplicate);
        section.share("reorder", &mut config.reorder);
        section.share("corrupt", &mut config.corrupt);
        section.duration("delay", &mut config.delay);
        section.duration("jitter", &mut config.jitter);
        section.timeout("reorder_hold", &mut config.reorder_hold);
        let delayed = &mut config.delayed_bytes_max;
        section.memory_size("max_delayed_bytes", 0..=1 << 40, delayed);
        section.number("seed", &mut config.seed);
        section.rate("source_rate_max", &mut config.source_rate_max);
        read_source_port_min(section, &mut config.source_port_min);
        config
    }
}

/// Reads `source_port_min`.
fn read_source_port_min(section: &mut Section<'_>, field: &mut u16) {
    let mut port = usize::from(*field);
    section.count("source_port_min", 0..=usize::from(u16::MAX), &mut port);
    // Invariant: both the default and the bounds came from a u16.
    *field = u16::try_from(port).expect("bounded by a u16");
}

/// The keys of kind `udp-heartbeat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpHeartbeatConfig {
    /// Silence after which a sender is late, and dead as well when there is no grace.
    /// Key `timeout`, default 3 s.
    pub timeout: Duration,
    /// Further silence for which a late sender is not yet dead. Key `grace`, default 0.
    pub grace: Duration,
    /// Senders remembered at once; when full, the longest dead one is forgotten, and while
    /// nobody is dead, newcomers are dropped.
    /// Key `max_senders`, default 65,536.
    pub senders_max: usize,
    /// Datagrams a second from one source address, loopback exempt; `None` for no limit.
    /// Key `source_rate_max` (0 for none), default [`SOURCE_RATE_MAX`].
    pub source_rate_max: Option<NonZeroU32>,
}

impl Default for UdpHeartbeatConfig {
    fn default() -> UdpHeartbeatConfig {
        UdpHeartbeatConfig {
            timeout: Duration::from_secs(3),
            grace: Duration::ZERO,
            senders_max: 65_536,
            source_rate_max: Some(SOURCE_RATE_MAX),
        }
    }
}

impl UdpHeartbeatConfig {
    /// Reads the keys of this kind.
    fn read(section: &mut Section<'_>) -> UdpHeartbeatConfig {
        let mut config = UdpHeartbeatConfig::default();
        section.timeout("timeout", &mut config.timeout);
        section.duration("grace", &mut config.grace);
        section.count("max_senders", 1..=1 << 24, &mut config.senders_max);
        section.rate("source_rate_max", &mut config.source_rate_max);
        config
    }
}

/// The keys of kind `hello`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HelloConfig {
    /// Messages sent to each client, `hello0` to `hello<count - 1>`. Key `count`, default 200.
    pub count: NonZeroU32,
    /// Pause between a reply and the next message. Key `interval`, default 500 ms.
    pub interval: Duration,
    /// Time for which a reply is awaited before the connection is closed.
    /// Key `idle_timeout`, default 60 s.
    pub idle_timeout: Duration,
    /// Connections at once. Key `max_connections`, default [`CONNECTIONS_MAX`].
    pub connections_max: usize,
}

impl Default for HelloConfig {
    fn default() -> HelloConfig {
        const COUNT: NonZeroU32 = NonZeroU32::new(200).unwrap();
        HelloConfig {
            count: COUNT,
            interval: Duration::from_millis(500),
            idle_timeout: Duration::from_secs(60),
            connections_max: CONNECTIONS_MAX,
        }
    }
}

impl HelloConfig {
    /// Reads the keys of this kind.
    fn read(section: &mut Section<'_>) -> HelloConfig {
        let mut config = HelloConfig::default();
        section.positive("count", &mut config.count);
        section.duration("interval", &mut config.interval);
        section.timeout("idle_timeout", &mut config.idle_timeout);
        section.count("max_connections", CONNECTIONS, &mut config.connections_max);
        config
    }
}

/// Built-in routes of a web server beside its files. Key `routes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Routes {
    /// `"none"`, the default: files only.
    #[default]
    None,
    /// `"probe"`: the routes for load and conformance tools; they win over files.
    Probe,
}

/// Where a line for each request goes. Key `access_log`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AccessLog {
    /// `"-"`: standard error.
    StandardError,
    /// A path: appended to that file, which is opened anew on SIGHUP and SIGUSR1.
    Path(PathBuf),
}

/// How a line of the access log looks. Key `log_format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// `"combined"`, the default: Combined Log Format.
    #[default]
    Combined,
    /// `"json"`: an object on a line.
    Json,
}

/// The keys of kind `http`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// The folder that is served; `None` serves the small embedded site. Key `root`, default none.
    pub root: Option<PathBuf>,
    /// How it is served.
    pub files: FilesConfig,
    /// Other folders, for some hosts or paths. Key `site`, a list of tables `[[listener.site]]`, default none.
    pub sites: Vec<SiteConfig>,
    /// Where a line for each request goes. Key `access_log`, default nowhere.
    pub access_log: Option<AccessLog>,
    /// Key `log_format`, default combined.
    pub log_format: LogFormat,
    /// Key `routes`, default none.
    pub routes: Routes,
    /// Silence between two requests after which a connection is closed.
    /// Key `idle_timeout`, default 60 s.
    pub idle_timeout: Duration,
    /// Time for a whole request head, from its first byte on; slow senders cannot refresh it.
    /// Key `head_timeout`, default 10 s.
    pub head_timeout: Duration,
    /// Silence within a request body after which it is given up. Key `body_timeout`, default 30 s.
    pub body_timeout: Duration,
    /// Bytes a second that a request body must bring: each byte buys its share of a second, and `body_timeout` is the most
    /// that can be in hand, so that a drip does not last for ever. `None` for no minimum. Key `min_body_rate` (0 for none),
    /// default 240.
    pub body_rate_min: Option<NonZeroU32>,
    /// Bytes of a request head. Key `max_head_bytes`, default [`HEAD_BYTES_MAX`].
    pub head_bytes_max: usize,
    /// Bytes of a request target. Key `max_target_bytes`, default 8,000.
    pub target_bytes_max: usize,
    /// Bytes of a request body. Key `max_body_bytes`, default 1 MiB.
    pub body_bytes_max: u64,
    /// Requests after which a connection is closed; `None` for no limit.
    /// Key `max_requests_per_connection`, default none.
    pub requests_per_connection_max: Option<NonZeroU64>,
    /// Files that are kept open for the next request, for each root. Key `max_open_files`, default
    /// 1,024.
    pub open_files_max: usize,
    /// Bytes of answers that are kept in memory, for each root. Key `max_memory_bytes`, default 64 MiB.
    pub memory_bytes_max: usize,
    /// What TLS needs, for `https`. Key `tls`, default none.
    pub tls: Option<TlsFiles>,
    /// Connections at once; those beyond are answered 503. Key `max_connections`, default [`CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// Connections at once from one IPv4 address or one IPv6 /64; those beyond are answered 429. `None` for no limit, as
    /// behind a proxy all clients have one address. Key `max_connections_per_address` (0 for none), default none.
    pub connections_per_address_max: Option<NonZeroU32>,
}

impl Default for HttpConfig {
    fn default() -> HttpConfig {
        HttpConfig {
            root: None,
            files: FilesConfig::default(),
            sites: Vec::new(),
            access_log: None,
            log_format: LogFormat::default(),
            routes: Routes::default(),
            idle_timeout: Duration::from_secs(60),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            body_rate_min: NonZeroU32::new(240),
            head_bytes_max: HEAD_BYTES_MAX,
            target_bytes_max: 8000,
            body_bytes_max: 1024 * 1024,
            requests_per_connection_max: None,
            open_files_max: 1024,
            memory_bytes_max: 64 * 1024 * 1024,
            tls: None,
            connections_max: CONNECTIONS_MAX,
            connections_per_address_max: None,
        }
    }
}

impl HttpConfig {
    /// Reads the keys of this kind.
    fn read(section: &mut Section<'_>) -> HttpConfig {
        let root = section.path("root");
        let mut config = HttpConfig {
            root,
            ..HttpConfig::default()
        };
        config.files = FilesConfig::read(section);
        config.sites = section.tables("site", SiteConfig::read);
        let base = section.folders.base.as_path();
        let expected = r#"a path, or "-" for standard error"#;
        config.access_log = section.parsed("access_log", expected, |value| match string(value)? {
            "-" => Ok(AccessLog::StandardError),
            text => path(base, text).map(AccessLog::Path),
        });
        let formats = [("combined", LogFormat::Combined), ("json", LogFormat::Json)];
        section.choice("log_format", &formats, &mut config.log_format);
        let routes = [("none", Routes::None), ("probe", Routes::Probe)];
        section.choice("routes", &routes, &mut config.routes);
        section.timeout("idle_timeout", &mut config.idle_timeout);
        section.timeout("head_timeout", &mut config.head_timeout);
        section.timeout("body_timeout", &mut config.body_timeout);
        section.rate("min_body_rate", &mut config.body_rate_min);
        let head = &mut config.head_bytes_max;
        section.memory_size("max_head_bytes", LARGE_HEAD_BYTES, head);
        let target = &mut config.target_bytes_max;
        section.memory_size("max_target_bytes", 1..=LARGE_PAGE_BYTES, target);
        section.size(
            "max_body_bytes",
            0..=i64::MAX as u64,
            &mut config.body_bytes_max,
        );
        let requests = &mut config.requests_per_connection_max;
        section.limit("max_requests_per_connection", requests);
        section.count("max_open_files", 0..=1_000_000, &mut config.open_files_max);
        section.memory_size(
            "max_memory_bytes",
            0..=1 << 40,
            &mut config.memory_bytes_max,
        );
        match section.has("tls") {
            true => config.tls = TlsFiles::read(section),
            false => section.known.push("tls"),
        }
        section.count("max_connections", CONNECTIONS, &mut config.connections_max);
        let per_address = &mut config.connections_per_address_max;
        section.rate("max_connections_per_address", per_address);
        config
    }
}

/// The ports of origins that may be reached. Keys `connect_ports` and `forward_ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ports {
    /// `[]`: every port.
    Any,
    /// 80, 443 and those from 1024 on. Below stand mail, shells and the like, to which a request may be made to look like one
    /// of their own.
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
    fn read(section: &mut Section<'_>) -> Cache {
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
    /// Address ranges that may be reached although they are loopback, private, link-local or
    /// otherwise refused. Key `allow_destinations`, default none.
    pub allow_destinations: Vec<IpNet>,
    /// Ports that CONNECT may reach. Key `connect_ports`, default port 443 only.
    pub connect_ports: Ports,
    /// Ports that requests with a URI and those in the address-bar form may reach. Key `forward_ports`, default
    /// [`Ports::Web`].
    pub forward_ports: Ports,
    /// The one origin of a gateway; `None` for a forward proxy. Key `upstream`, default none.
    pub upstream: Option<Upstream>,
    /// Time for reaching an origin, over all of its addresses. Key `connect_timeout`, default 5 s.
    pub connect_timeout: Duration,
    /// Silence of an origin, or its refusal to take our bytes, after which it is given up.
    /// Key `upstream_timeout`, default 60 s.
    pub upstream_timeout: Duration,
    /// Silence between two requests, within a request body or in both directions of a tunnel, or
    /// refusal to take the answer, after which a client is dropped. Key `idle_timeout`, default 60 s.
    pub idle_timeout: Duration,
    /// Bytes a second that a request body must bring while the origin takes it: each byte buys its share of a second, and
    /// `idle_timeout` is the most that can be in hand. `None` for no minimum. Key `min_body_rate` (0 for none), default 240.
    pub body_rate_min: Option<NonZeroU32>,
    /// Time from the end of a request to the head of its final response, whatever interim responses come meanwhile. Key
    /// `response_timeout`, default 5 min.
    pub response_timeout: Duration,
    /// Time for a whole request head, from its first byte on. Key `head_timeout`, default 10 s.
    pub head_timeout: Duration,
    /// Bytes of a request head or a response head. Key `max_head_bytes`, default
    /// [`HEAD_BYTES_MAX`].
    pub head_bytes_max: usize,
    /// Keys `cache`, `cache_dir` and `cache_max_bytes`, default on.
    pub cache: Cache,
    /// Connections at once. Key `max_connections`, default [`CONNECTIONS_MAX`].
    pub connections_max: usize,
    /// Connections at once from one IPv4 address or IPv6 /64; who has more is answered with 429. `None` for no limit. Key
    /// `max_connections_per_address` (0 for none), default none.
    pub connections_per_address_max: Option<NonZeroU32>,
}

impl ProxyConfig {
    /// The defaults, with the given cache.
    pub fn new(cache: Cache) -> ProxyConfig {
        ProxyConfig {
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
            connections_max: CONNECTIONS_MAX,
            connections_per_address_max: None,
        }
    }

    /// Reads the keys of this kind.
    fn read(section: &mut Section<'_>) -> ProxyConfig {
        let mut config = ProxyConfig::new(Cache::read(section));
        let ranges = r#"an address range such as "127.0.0.0/8" or "::1""#;
        let allowed = section.list("allow_destinations", ranges, |value| {
            let text = string(value)?;
            let address = || text.parse::<IpAddr>().ok().map(IpNet::from);
            let range = text.parse::<IpNet>().ok().or_else(address);
            range
                .map(|range| range.trunc())
                .ok_or_else(|| format!("is {text:?}"))
        });
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
        section.count("max_connections", CONNECTIONS, &mut config.connections_max);
        let per_address = &mut config.connections_per_address_max;
        section.rate("max_connections_per_address", per_address);
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

/// Reads the handshake and its secret, and refuses the one without the other.
fn read_handshake(section: &mut Section<'_>) -> (Handshake, SecretSource) {
    let problems_before = section.findings.len();
    let mut handshake = Handshake::default();
    let words = Handshake::ALL.map(|handshake| (handshake.name(), handshake));
    section.choice("handshake", &words, &mut handshake);
    let written = section.parsed("secret", "a text that is not empty", |value| {
        not_empty(Secret::from(string(value)?))
    });
    let base = section.folders.base.as_path();
    let filed = section.parsed("secret_file", "a file that holds the secret", |value| {
        let bytes = read_file(&path(base, string(value)?)?)?;
        not_empty(Secret::from_file_text(bytes))
    });
    if written.is_some() && filed.is_some() {
        let span = section.span("secret_file");
        let what = "`secret_file` is given beside `secret`; expected one of the two";
        section.problem(span, what.to_owned());
    }
    let secret = written.or(filed);
    if handshake.needs_secret() && secret.is_none() && section.findings.len() == problems_before {
        let span = section.span("handshake");
        let name = handshake.name();
        section.problem(span, format!("handshake {name:?} has no secret; expected `secret`, `secret_file` or `handshake = \"none\"`"));
    }
    (handshake, SecretSource::Given(secret.unwrap_or_default()))
}

/// A secret that is one.
fn not_empty(secret: Secret) -> Result<Secret, String> {
    if secret.is_empty() {
        Err("is empty".to_owned())
    } else {
        Ok(secret)
    }
}

/// What a file holds that a key names.
fn read_file(path: &Path) -> Result<Vec<u8>, String> {
    fs::read(path).map_err(|error| format!("names {}: {error}", path.display()))
}

/// Where the secret of an upload listener comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// From `secret` or `secret_file`; empty where neither was given.
    Given(Secret),
    /// Made at random for this run because there is no configuration; the start prints how to use
    /// it. It is printable ASCII.
    Random(Secret),
}

impl SecretSource {
    /// The secret, wherever it came from.
    pub fn secret(&self) -> &Secret {
        match self {
            SecretSource::Given(secret) | SecretSource::Random(secret) => secret,
        }
    }
}

/// What happens to a file whose name is taken. Key `overwrite`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Overwrite {
    /// `"refuse"`: the later one is refused.
    Refuse,
    /// `"replace"`: the later one takes the name.
    Replace,
    /// `"version"`, the default: the later ones become `STEM.1.EXT`, `STEM.2.EXT` and so on.
    #[default]
    Version,
}

/// The keys of kind `upload`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadConfig {
    /// The folder for the files. Key `dir`, default `uploads`.
    pub dir: PathBuf,
    /// How a client proves that it knows the secret. Key `handshake`, default HMAC-MD5.
    pub handshake: Handshake,
    /// What both sides know; empty only where the handshake needs none. Keys `secret` and
    /// `secret_file`.
    pub secret: SecretSource,
    /// The users of the login after the handshake; `None` for no login. Key `login`, which names
    /// the file that was read with the configuration; default none.
    pub login: Option<UserInfo>,
    /// Key `overwrite`, default versions.
    pub overwrite: Overwrite,
    /// Bytes of one file. Key `max_file_bytes`, default 4 GiB.
    pub file_bytes_max: u64,
    /// Bytes of the JSON header of one file. Key `max_header_bytes`,
    /// default 64 KiB.
    pub header_bytes_max: usize,
    /// Files that one connection may store in one turn before the others get theirs; each takes about a tenth of a
    /// millisecond. Key `files_per_turn`, default 16.
    pub files_per_turn_max: usize,
    /// Time for the handshake and the login together, and for the whole header of a file from its
    /// first byte on. Key `handshake_timeout`, default 10 s.
    pub handshake_timeout: Duration,
    /// Silence of a client between and within files. Key `idle_timeout`, default 60 s.
    pub idle_timeout: Duration,
    /// Bytes a second that a file must bring: each byte buys its share of a second, and `idle_timeout` is the most that can
    /// be in hand. `None` for no minimum. Key `min_body_rate` (0 for none), default 240.
    pub body_rate_min: Option<NonZeroU32>,
    /// Connections at once. Key `max_connections`, default [`CONNECTIONS_MAX`].
    pub connections_max: usize,
}

impl UploadConfig {
    /// The defaults, with the given handshake and its secret.
    pub fn new(handshake: Handshake, secret: SecretSource) -> UploadConfig {
        UploadConfig {
            dir: PathBuf::from("uploads"),
            handshake,
            secret,
            login: None,
            overwrite: Overwrite::default(),
            file_bytes_max: 4 * 1024 * 1024 * 1024,
            header_bytes_max: 64 * 1024,
            files_per_turn_max: 16,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            body_rate_min: NonZeroU32::new(240),
            connections_max: CONNECTIONS_MAX,
        }
    }

    /// Reads the keys of this kind.
    fn read(section: &mut Section<'_>) -> UploadConfig {
        let (handshake, secret) = read_handshake(section);
        let mut config = UploadConfig::new(handshake, secret);
        let dir = section.path("dir");
        config.dir = dir.unwrap_or_else(|| section.folders.base.join(&config.dir));
        let base = section.folders.base.as_path();
        config.login = section.parsed("login", "a file of lines `user|hash`", |value| {
            let path = path(base, string(value)?)?;
            let named = |why: String| format!("names {}: {why}", path.display());
            let text = String::from_utf8(read_file(&path)?)
                .map_err(|error| named(format!("not UTF-8: {error}")))?;
            UserInfo::parse(&text).map_err(|error| named(error.to_string()))
        });
        let overwrite = [
            ("refuse", Overwrite::Refuse),
            ("replace", Overwrite::Replace),
            ("version", Overwrite::Version),
        ];
        section.choice("overwrite", &overwrite, &mut config.overwrite);
        section.size(
            "max_file_bytes",
            0..=i64::MAX as u64,
            &mut config.file_bytes_max,
        );
        section.memory_size(
            "max_header_bytes",
            256..=1 << 20,
            &mut config.header_bytes_max,
        );
        section.count("files_per_turn", 1..=65_536, &mut config.files_per_turn_max);
        section.timeout("handshake_timeout", &mut config.handshake_timeout);
        section.timeout("idle_timeout", &mut config.idle_timeout);
        section.rate("min_body_rate", &mut config.body_rate_min);
        section.count("max_connections", CONNECTIONS, &mut config.connections_max);
        config
    }
}

/// The keys of kind `admin`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AdminConfig {
    /// Silence between two requests, or refusal to take the answer. Key `idle_timeout`,
    /// default 60 s.
    pub idle_timeout: Duration,
    /// Time for a whole request head. Key `head_timeout`, default 10 s.
    pub head_timeout: Duration,
    /// Bytes of a request head. Not a key, [`HEAD_BYTES_MAX`].
    pub head_bytes_max: usize,
    /// Connections at once. Key `max_connections`, default 256.
    pub connections_max: usize,
}

impl Default for AdminConfig {
    fn default() -> AdminConfig {
        AdminConfig {
            idle_timeout: Duration::from_secs(60),
            head_timeout: Duration::from_secs(10),
            head_bytes_max: HEAD_BYTES_MAX,
            connections_max: 256,
        }
    }
}

impl AdminConfig {
    /// Reads the keys of this kind.
    fn read(section: &mut Section<'_>) -> AdminConfig {
        let mut config = AdminConfig::default();
        section.timeout("idle_timeout", &mut config.idle_timeout);
        section.timeout("head_timeout", &mut config.head_timeout);
        section.count("max_connections", CONNECTIONS, &mut config.connections_max);
        config
    }
}
