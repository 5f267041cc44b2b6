//! The kinds of listeners: what each can be told, and what it does when it is told nothing.
//!
//! A new kind is a file with a struct, its defaults, its `ROW` and its reader; here the two lines
//! that name that file, a variant of [`Kind`], its arm in `Kind::parts` and a line in [`KINDS`]. A
//! new key is a field, its default, a line in the reader and one in the example.
//! What a listener can be told whatever it serves stands here, once: [`StreamConfig`] and
//! [`DatagramConfig`].
//!
//! Each struct stands before its defaults and its reader. A reader may be run on an empty table to
//! learn which keys its kind has, so it has no effect but to report problems; the files that it
//! reads are named by keys.

use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::time::Duration;

use ipnet::IpNet;

use super::section::{Section, string};
use super::tls::TlsConfig;
use super::value::Bind;
use crate::http::target::{Authority, Host};

mod admin;
mod frame_echo;
mod proxy;
mod small;
mod upload;
mod upstreams;
mod web;

pub use admin::*;
pub use frame_echo::*;
pub use proxy::*;
pub use small::*;
pub use upload::*;
pub use upstreams::*;
pub use web::*;

/// Connections that one listener serves at once, unless it is told otherwise: 65,536.
pub const CONNECTIONS_MAX: usize = 65_536;

/// Clients beyond `max_connections` that a web server tells so at a time; those beyond these wait
/// in the kernel's queue.
const REFUSALS_MAX: usize = 256;

/// Bytes of a request's or a response's head, unless the listener is told otherwise: 16 KiB.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Datagrams a second from one source address, unless the listener is told otherwise: 10,000.
pub const SOURCE_RATE_MAX: NonZeroU32 = NonZeroU32::new(10_000).unwrap();

/// The bounds of `max_connections`.
const CONNECTIONS: RangeInclusive<usize> = 1..=1 << 24;

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
    /// `frame-echo`: each frame comes back in upper case.
    FrameEcho(FrameEchoConfig),
    /// `admin`: health and metrics.
    Admin(AdminConfig),
}

impl Kind {
    /// Its line in the table, and the keys that all kinds over its transport have.
    fn parts(&self) -> (&'static Row, Keys<'_>) {
        use Keys::{Datagram, Stream};
        match self {
            Kind::TcpEcho(config) => (&TcpEchoConfig::ROW, Stream(&config.stream)),
            Kind::UdpEcho(config) => (&UdpEchoConfig::ROW, Datagram(&config.datagram)),
            Kind::UdpPing(config) => (&UdpPingConfig::ROW, Datagram(&config.datagram)),
            Kind::UdpHeartbeat(config) => (&UdpHeartbeatConfig::ROW, Datagram(&config.datagram)),
            Kind::Hello(config) => (&HelloConfig::ROW, Stream(&config.stream)),
            Kind::Http(config) => (&HttpConfig::ROW, Stream(&config.stream)),
            Kind::Proxy(config) => (&ProxyConfig::ROW, Stream(&config.http.stream)),
            Kind::Upload(config) => (&UploadConfig::ROW, Stream(&config.stream)),
            Kind::FrameEcho(config) => (&FrameEchoConfig::ROW, Stream(&config.stream)),
            Kind::Admin(config) => (&AdminConfig::ROW, Stream(&config.http.stream)),
        }
    }

    /// The name as it stands after `kind =` and in the `listening` line.
    pub fn name(&self) -> &'static str {
        self.parts().0.name
    }

    /// The keys of a kind over streams.
    pub fn stream(&self) -> Option<&StreamConfig> {
        match self.parts().1 {
            Keys::Stream(keys) => Some(keys),
            Keys::Datagram(_) => None,
        }
    }

    /// The same, to be changed.
    pub fn stream_mut(&mut self) -> Option<&mut StreamConfig> {
        match self {
            Kind::TcpEcho(config) => Some(&mut config.stream),
            Kind::Hello(config) => Some(&mut config.stream),
            Kind::Http(config) => Some(&mut config.stream),
            Kind::Proxy(config) => Some(&mut config.http.stream),
            Kind::Upload(config) => Some(&mut config.stream),
            Kind::FrameEcho(config) => Some(&mut config.stream),
            Kind::Admin(config) => Some(&mut config.http.stream),
            Kind::UdpEcho(_) | Kind::UdpPing(_) | Kind::UdpHeartbeat(_) => None,
        }
    }

    /// What TLS needs, where it is spoken.
    pub fn tls(&self) -> Option<&TlsConfig> {
        self.stream()?.tls.as_ref()
    }

    /// Whether it is spoken in HTTP.
    pub fn is_http(&self) -> bool {
        matches!(self, Kind::Http(_) | Kind::Proxy(_) | Kind::Admin(_))
    }

    /// The keys of a kind over datagrams.
    pub fn datagram(&self) -> Option<&DatagramConfig> {
        match self.parts().1 {
            Keys::Datagram(keys) => Some(keys),
            Keys::Stream(_) => None,
        }
    }

    /// A command that shows a listener of this kind at work, if there is one for such an address.
    pub fn attempt(&self, bind: &Bind) -> Option<String> {
        let text = self.parts().0.attempt;
        match bind {
            Bind::Tcp(address) | Bind::Udp(address) => {
                let at = format!("{} {}", address.ip(), address.port());
                let text = text.replace("{at}", &at);
                Some(text.replace("{address}", &address.to_string()))
            }
            Bind::Unix(_) if text.contains("{address}") => None,
            Bind::Unix(_) => Some(text.replace("{at}", &bind.to_string())),
        }
    }

    /// Connections open at once; `None` for the kinds that have no connections. A web server has
    /// some more than it serves, to be able to refuse them with an answer.
    pub fn connections_max(&self) -> Option<usize> {
        let served = self.stream()?.connections_max;
        Some(match self.is_http() {
            true => served.saturating_add(REFUSALS_MAX),
            false => served,
        })
    }

    /// The lowest source port whose datagrams are answered; `None` for the kinds that answer no
    /// datagrams.
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

/// The keys that all kinds over a transport have.
enum Keys<'a> {
    Stream(&'a StreamConfig),
    Datagram(&'a DatagramConfig),
}

/// A line in the table of kinds.
pub(super) struct Row {
    /// The name after `kind =`.
    pub(super) name: &'static str,
    /// What the kind is spoken over.
    pub(super) transport: Transport,
    /// The port on the loopback address where nothing else is configured.
    pub(super) port: u16,
    /// A command that shows a listener at work. `{at}` stands for where it is as the clients want
    /// it, `{address}` for its address and port as URLs have them.
    attempt: &'static str,
    /// Reads the keys of this kind.
    pub(super) read: fn(&mut Section<'_>) -> Kind,
}

/// The table of kinds, in the order in which they start where nothing is configured.
pub(super) static KINDS: &[Row] = &[
    TcpEchoConfig::ROW,
    UdpEchoConfig::ROW,
    UdpPingConfig::ROW,
    UdpHeartbeatConfig::ROW,
    HelloConfig::ROW,
    HttpConfig::ROW,
    ProxyConfig::ROW,
    UploadConfig::ROW,
    FrameEchoConfig::ROW,
    AdminConfig::ROW,
];

/// Which peers may reach a listener. Who comes over a Unix socket has no address: there the
/// permissions of the file say who may.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AccessConfig {
    /// The only ones that may; `None` for all. Key `allow`, a list of address ranges that is not
    /// empty, default none.
    pub allow: Option<Vec<IpNet>>,
    /// Those that may not, whatever `allow` says. Key `deny`, a list of address ranges, default
    /// empty.
    pub deny: Vec<IpNet>,
}

impl AccessConfig {
    /// Reads these keys.
    fn read(&mut self, section: &mut Section<'_>) {
        self.allow = section.ranges("allow");
        if self.allow.as_ref().is_some_and(Vec::is_empty) {
            let what = "`allow` is empty, so that nobody may come; expected an address range \
                        such as \"192.0.2.0/24\" (leave it out to allow all)";
            section.problem(section.span("allow"), what.to_owned());
        }
        self.deny = section.ranges("deny").unwrap_or_default();
    }
}

/// What every kind over streams can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamConfig {
    /// Connections at once. Key `max_connections`, default [`CONNECTIONS_MAX`]; of an admin
    /// listener 256.
    pub connections_max: usize,
    /// Who may connect; others are closed at once.
    pub access: AccessConfig,
    /// Connections at once from one IPv4 address or one IPv6 /64; those beyond are closed at once,
    /// or answered by a web server. `None` for no limit, as behind a proxy all clients have one
    /// address. Key `max_connections_per_address` (0 for none), default none.
    pub connections_per_address_max: Option<NonZeroU32>,
    /// Connections a second from one IPv4 address or one IPv6 /64, loopback exempt; those beyond
    /// are closed at once. `None` for no limit. Key `max_accept_rate` (0 for none), default none.
    pub accept_rate_max: Option<NonZeroU32>,
    /// Connections that one which was silent may make at a stroke before that rate holds. Key
    /// `max_accept_burst`, default those of one second.
    pub accept_burst_max: Option<NonZeroU32>,
    /// The proxies and load balancers before this listener that are believed in what they say of
    /// their clients. Key `trusted_proxies`, a list of address ranges, default empty.
    pub trusted_proxies: Vec<IpNet>,
    /// They begin each connection with a header of the PROXY protocol, of version 1 or 2; others do
    /// not. Key `accept_proxy`, default false.
    pub accept_proxy: bool,
    /// Time for that header. Key `proxy_header_timeout`, default 3 s.
    pub proxy_header_timeout: Duration,
    /// The certificates, where TLS is spoken. Key `tls`, default none.
    pub tls: Option<TlsConfig>,
}

impl Default for StreamConfig {
    fn default() -> StreamConfig {
        StreamConfig {
            connections_max: CONNECTIONS_MAX,
            access: AccessConfig::default(),
            connections_per_address_max: None,
            accept_rate_max: None,
            accept_burst_max: None,
            trusted_proxies: Vec::new(),
            accept_proxy: false,
            proxy_header_timeout: Duration::from_secs(3),
            tls: None,
        }
    }
}

impl StreamConfig {
    /// Reads these keys.
    fn read(&mut self, section: &mut Section<'_>) {
        section.count("max_connections", CONNECTIONS, &mut self.connections_max);
        self.access.read(section);
        let per_address = &mut self.connections_per_address_max;
        section.rate("max_connections_per_address", per_address);
        section.rate("max_accept_rate", &mut self.accept_rate_max);
        let mut burst = 0;
        section.count("max_accept_burst", 1..=1_000_000, &mut burst);
        self.accept_burst_max = u32::try_from(burst).ok().and_then(NonZeroU32::new);
        if self.accept_burst_max.is_some() && self.accept_rate_max.is_none() {
            let what = "`max_accept_burst` without a rate; expected `max_accept_rate` beside it";
            section.problem(section.span("max_accept_burst"), what.to_owned());
        }
        self.trusted_proxies = section.ranges("trusted_proxies").unwrap_or_default();
        section.flag("accept_proxy", &mut self.accept_proxy);
        section.timeout("proxy_header_timeout", &mut self.proxy_header_timeout);
        if self.accept_proxy && self.trusted_proxies.is_empty() {
            let what = "`accept_proxy` without `trusted_proxies`, so that nobody is believed; expected \
                        the addresses of the proxies beside it";
            section.problem(section.span("accept_proxy"), what.to_owned());
        }
        self.tls = TlsConfig::read(section);
    }
}

/// What every kind over datagrams can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DatagramConfig {
    /// Whose datagrams are served; others are dropped.
    pub access: AccessConfig,
    /// Datagrams a second from one source address, loopback exempt; `None` for no limit. Key
    /// `source_rate_max` (0 for none), default [`SOURCE_RATE_MAX`].
    pub source_rate_max: Option<NonZeroU32>,
}

impl Default for DatagramConfig {
    fn default() -> DatagramConfig {
        DatagramConfig {
            access: AccessConfig::default(),
            source_rate_max: Some(SOURCE_RATE_MAX),
        }
    }
}

impl DatagramConfig {
    /// Reads these keys.
    fn read(&mut self, section: &mut Section<'_>) {
        self.access.read(section);
        section.rate("source_rate_max", &mut self.source_rate_max);
    }
}

/// Reads `hosts`.
fn read_hosts(section: &mut Section<'_>) -> Vec<String> {
    let expected = "the name of a host, without a port";
    let hosts = section.list("hosts", expected, |value| {
        let text = string(value)?;
        let host = text.strip_suffix('.').unwrap_or(text);
        match Authority::parse(host) {
            Some(Authority {
                host: Host::Name(name),
                port: None,
            }) if name == host => Ok(host.to_ascii_lowercase()),
            _ => Err(format!("is {text:?}")),
        }
    });
    hosts.unwrap_or_default()
}
