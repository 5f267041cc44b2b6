//! The kinds of listeners: what each can be told, and what it does when it is told nothing.
//!
//! A new kind is a struct with its defaults, a reader, a variant of [`Kind`] and a line in the
//! table of kinds. A new key is a field, its default, a line in the reader and one in the example.

use std::num::{NonZeroU32, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;

use super::value::{Fraction, Secret, Upstream};

/// Connections that one listener serves at once, unless it is told otherwise: 65,536.
pub const CONNECTIONS_MAX: usize = 65_536;

/// Bytes of a request's or a response's head, unless the listener is told otherwise: 16 KiB.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Datagrams a second from one source address, unless the listener is told otherwise: 10,000.
pub const SOURCE_RATE_MAX: NonZeroU32 = NonZeroU32::new(10_000).unwrap();

/// What a listener serves, with everything that this kind can be told.
#[derive(Debug, Clone, PartialEq)]
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

    /// Connections served at once; `None` for the kinds that have no connections.
    pub fn connections_max(&self) -> Option<usize> {
        match self {
            Kind::TcpEcho(config) => Some(config.connections_max),
            Kind::Hello(config) => Some(config.connections_max),
            Kind::Http(config) => Some(config.connections_max),
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
}

/// What an echo does to the bytes. Key `transform`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Transform {
    /// `"upper"`, the default: Unicode upper case; what is not UTF-8 comes back unchanged.
    #[default]
    Upper,
    /// `"none"`: the bytes come back as they were, as in RFC 862.
    None,
}

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

/// The keys of kind `udp-echo`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpEchoConfig {
    /// Key `transform`, default upper case.
    pub transform: Transform,
    /// Datagrams a second from one source address, loopback exempt; `None` for no limit.
    /// Key `source_rate_max` (0 for none), default [`SOURCE_RATE_MAX`].
    pub source_rate_max: Option<NonZeroU32>,
}

impl Default for UdpEchoConfig {
    fn default() -> UdpEchoConfig {
        UdpEchoConfig {
            transform: Transform::default(),
            source_rate_max: Some(SOURCE_RATE_MAX),
        }
    }
}

/// The keys of kind `udp-ping`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpPingConfig {
    /// Share of datagrams that get no answer. Key `loss`, default 4/11.
    pub loss: Fraction,
    /// Share of answers that are sent twice. Key `duplicate`, default 0.
    pub duplicate: Fraction,
    /// Share of answers that are held back until after the next one. Key `reorder`, default 0.
    pub reorder: Fraction,
    /// Share of answers in which one bit is flipped. Key `corrupt`, default 0.
    pub corrupt: Fraction,
    /// Time for which each answer is held back. Key `delay`, default 0.
    pub delay: Duration,
    /// The most that is added to `delay`, at random and uniformly. Key `jitter`, default 0.
    pub jitter: Duration,
    /// Seed of the random stream; `None` takes a new one at each start. Key `seed`, default none.
    pub seed: Option<u64>,
    /// Datagrams a second from one source address, loopback exempt; `None` for no limit.
    /// Key `source_rate_max` (0 for none), default [`SOURCE_RATE_MAX`].
    pub source_rate_max: Option<NonZeroU32>,
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
            seed: None,
            source_rate_max: Some(SOURCE_RATE_MAX),
        }
    }
}

/// The keys of kind `udp-heartbeat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UdpHeartbeatConfig {
    /// Silence after which a sender is late, and dead as well when there is no grace.
    /// Key `timeout`, default 3 s.
    pub timeout: Duration,
    /// Further silence for which a late sender is not yet dead. Key `grace`, default 0.
    pub grace: Duration,
    /// Senders remembered at once; when full, the longest silent one is forgotten.
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

/// Built-in routes of a web server beside its files. Key `routes`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Routes {
    /// `"none"`, the default: files only.
    #[default]
    None,
    /// `"probe"`: the routes for load and conformance tools; they win over files.
    Probe,
}

/// The keys of kind `http`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HttpConfig {
    /// The folder that is served; `None` serves the small embedded site. Key `root`, default none.
    pub root: Option<PathBuf>,
    /// Names of the files that stand for their folder, the first that exists wins.
    /// Key `index` (one name or a list), default `["index.html"]`.
    pub index: Vec<String>,
    /// Key `routes`, default none.
    pub routes: Routes,
    /// Silence between two requests after which a connection is closed.
    /// Key `idle_timeout`, default 60 s.
    pub idle_timeout: Duration,
    /// Time for a whole request head, from its first byte on; slow senders cannot refresh it.
    /// Key `head_timeout`, default 10 s.
    pub head_timeout: Duration,
    /// Silence within a request body after which it is given up. Not a key yet, 30 s.
    pub body_timeout: Duration,
    /// Time without any progress after which a client that does not take its answer is dropped.
    /// Key `write_timeout`, default 60 s.
    pub write_timeout: Duration,
    /// Bytes of a request head. Key `max_head_bytes`, default [`HEAD_BYTES_MAX`].
    pub head_bytes_max: usize,
    /// Bytes of a request body. Key `max_body_bytes`, default 1 MiB.
    pub body_bytes_max: u64,
    /// Requests after which a connection is closed; `None` for no limit.
    /// Key `max_requests_per_connection`, default none.
    pub requests_per_connection_max: Option<NonZeroU64>,
    /// Connections at once. Key `max_connections`, default [`CONNECTIONS_MAX`].
    pub connections_max: usize,
}

impl Default for HttpConfig {
    fn default() -> HttpConfig {
        HttpConfig {
            root: None,
            index: vec!["index.html".to_owned()],
            routes: Routes::default(),
            idle_timeout: Duration::from_secs(60),
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(60),
            head_bytes_max: HEAD_BYTES_MAX,
            body_bytes_max: 1024 * 1024,
            requests_per_connection_max: None,
            connections_max: CONNECTIONS_MAX,
        }
    }
}

/// The ports that CONNECT may reach. Key `connect_ports`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConnectPorts {
    /// `[]`: every port.
    Any,
    /// These only; never empty.
    Only(Vec<u16>),
}

impl ConnectPorts {
    /// Whether CONNECT may reach this port.
    pub fn allow(&self, port: u16) -> bool {
        match self {
            ConnectPorts::Any => true,
            ConnectPorts::Only(ports) => ports.contains(&port),
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

/// Bytes that a proxy's cache keeps on disk, unless it is told otherwise: 1 GiB.
pub const CACHE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// The keys of kind `proxy`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyConfig {
    /// Address ranges that may be reached although they are loopback, private, link-local or
    /// otherwise refused. Key `allow_destinations`, default none.
    pub allow_destinations: Vec<IpNet>,
    /// Key `connect_ports`, default port 443 only.
    pub connect_ports: ConnectPorts,
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
    /// Time for a whole request head, from its first byte on. Key `head_timeout`, default 10 s.
    pub head_timeout: Duration,
    /// Bytes of a request head or a response head. Key `max_head_bytes`, default
    /// [`HEAD_BYTES_MAX`].
    pub head_bytes_max: usize,
    /// Keys `cache`, `cache_dir` and `cache_max_bytes`, default on.
    pub cache: Cache,
    /// Connections at once. Key `max_connections`, default [`CONNECTIONS_MAX`].
    pub connections_max: usize,
}

impl ProxyConfig {
    /// The defaults, with the given cache.
    pub fn new(cache: Cache) -> ProxyConfig {
        ProxyConfig {
            allow_destinations: Vec::new(),
            connect_ports: ConnectPorts::Only(vec![443]),
            upstream: None,
            connect_timeout: Duration::from_secs(5),
            upstream_timeout: Duration::from_secs(60),
            idle_timeout: Duration::from_secs(60),
            head_timeout: Duration::from_secs(10),
            head_bytes_max: HEAD_BYTES_MAX,
            cache,
            connections_max: CONNECTIONS_MAX,
        }
    }
}

/// How an upload client proves that it knows the secret. Keys `handshake`, `secret`, `secret_file`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadHandshake {
    /// `"none"`: the client starts with its first file.
    None,
    /// Every other: we send 32 random bytes, the client answers with a digest of them.
    Challenge {
        /// Which digest.
        digest: ChallengeDigest,
        /// What both sides know.
        secret: SecretSource,
    },
}

/// The digest that answers a challenge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ChallengeDigest {
    /// `"sha1"`: 40 bytes, the lower-case hex of SHA-1(secret, random).
    Sha1,
    /// `"hmac-md5"`, the default: 16 raw bytes.
    #[default]
    HmacMd5,
    /// `"hmac-sha1"`: 20 raw bytes.
    HmacSha1,
    /// `"hmac-sha256"`: 32 raw bytes.
    HmacSha256,
}

impl ChallengeDigest {
    /// The word that selects it after `handshake =` and after the client's `--handshake`.
    pub fn name(self) -> &'static str {
        match self {
            ChallengeDigest::Sha1 => "sha1",
            ChallengeDigest::HmacMd5 => "hmac-md5",
            ChallengeDigest::HmacSha1 => "hmac-sha1",
            ChallengeDigest::HmacSha256 => "hmac-sha256",
        }
    }
}

/// Where the secret of an upload listener comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SecretSource {
    /// From `secret` or `secret_file`.
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

/// The file of the users who may log in, read when the configuration was. Key `login`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoginFile {
    /// Where it stands.
    pub path: PathBuf,
    /// What it holds, a line `user|hash` each.
    pub text: Secret,
}

/// The keys of kind `upload`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UploadConfig {
    /// The folder for the files. Key `dir`, default `uploads`.
    pub dir: PathBuf,
    /// Keys `handshake`, `secret` and `secret_file`, default HMAC-MD5, for which a secret is needed.
    pub handshake: UploadHandshake,
    /// The users of the login after the handshake; `None` for no login. Key `login`, default none.
    pub login: Option<LoginFile>,
    /// Key `overwrite`, default versions.
    pub overwrite: Overwrite,
    /// Bytes of one file. Key `max_file_bytes`, default 4 GiB.
    pub file_bytes_max: u64,
    /// Bytes of a file's JSON header, and of the login object. Key `max_header_bytes`,
    /// default 64 KiB.
    pub header_bytes_max: usize,
    /// Time for the handshake and the login together. Key `handshake_timeout`, default 10 s.
    pub handshake_timeout: Duration,
    /// Silence of a client between and within files. Key `idle_timeout`, default 60 s.
    pub idle_timeout: Duration,
    /// Connections at once. Key `max_connections`, default [`CONNECTIONS_MAX`].
    pub connections_max: usize,
}

impl UploadConfig {
    /// The defaults, with the given handshake.
    pub fn new(handshake: UploadHandshake) -> UploadConfig {
        UploadConfig {
            dir: PathBuf::from("uploads"),
            handshake,
            login: None,
            overwrite: Overwrite::default(),
            file_bytes_max: 4 * 1024 * 1024 * 1024,
            header_bytes_max: 64 * 1024,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            connections_max: CONNECTIONS_MAX,
        }
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
