//! From a configuration to a running reactor: opens every listener, says so, and turns until told to end.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::config::{self, Config, Kind, ListenerConfig, Nameservers, ResolverConfig};
use crate::dns::{self, Hosts, ResolvConf, Resolver};
use crate::reactor::tls::TlsSource;
use crate::reactor::{Limits, ListenerOptions, Reactor};
use crate::service::{DatagramService, Id, Service};
use crate::services::{
    admin::Admin, hello::Hello, http::Http, proxy::Proxy, tcp_echo::TcpEcho, udp_echo::UdpEcho,
    udp_heartbeat::UdpHeartbeat, udp_ping::UdpPing, upload::Upload,
};
use crate::sys::unix::{Unix, raise_descriptor_limit};
use crate::sys::{self, Bind, Sys};

/// Why the program could not serve.
#[derive(Debug)]
pub enum ServeError {
    /// A listener could not be opened.
    Listener {
        /// The listener's name.
        name: String,
        /// Where it was to be bound.
        bind: String,
        /// Why not.
        error: io::Error,
    },
    /// The system refused something that every listener needs.
    System(io::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Listener { name, bind, error } => {
                write!(f, "listener {name}: {bind}: {error}")
            }
            ServeError::System(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for ServeError {}

/// Serves until SIGTERM or SIGINT. Standard output has a line for each listener, then `ready`.
///
/// # Errors
/// The first listener that could not be opened; nothing is served then.
pub fn serve(config: &Config) -> Result<(), ServeError> {
    match raise_descriptor_limit() {
        Ok(limit) => log::debug!("descriptors: {limit:?}"),
        Err(error) => log::warn!("the limit of descriptors stays as it is: {error}"),
    }
    let sys = Unix::new(true).map_err(ServeError::System)?;
    let (mut reactor, bound) = open(sys, config)?;
    announce(config, &bound).map_err(ServeError::System)?;
    reactor.run().map_err(ServeError::System)
}

/// A reactor with every listener of the configuration, and the addresses that they got.
///
/// # Errors
/// The first listener that could not be opened.
pub fn open<S: Sys>(mut sys: S, config: &Config) -> Result<(Reactor<S>, Vec<Bind>), ServeError> {
    let mut seed = [0; 32];
    sys.entropy(&mut seed);
    let resolver = resolver(&config.resolver, seed).map_err(ServeError::System)?;
    let mut reactor = Reactor::new(sys, limits(config), resolver);
    let mut bound = Vec::new();
    let all: Vec<_> = config
        .listeners
        .iter()
        .map(|l| (l.kind.name().to_owned(), l.bind.to_string()))
        .collect();
    for listener in &config.listeners {
        bound.push(
            open_listener(&mut reactor, listener, &all).map_err(|error| ServeError::Listener {
                name: listener.name.clone(),
                bind: listener.bind.to_string(),
                error,
            })?,
        );
    }
    Ok((reactor, bound))
}

fn announce(config: &Config, bound: &[Bind]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (listener, bind) in config.listeners.iter().zip(bound) {
        writeln!(out, "listening {} {bind}", listener.kind.name())?;
    }
    writeln!(out, "ready")?;
    out.flush()
}

fn limits(config: &Config) -> Limits {
    let limits = &config.limits;
    Limits {
        sessions_max: limits.sessions_max,
        sessions_reserved: limits.sessions_reserved,
        accepts_per_turn_max: limits.accept_batch,
        backlog: i32::try_from(limits.backlog).unwrap_or(i32::MAX),
        pump_bytes_max: limits.turn_bytes,
        send_bytes_max: u32::try_from(limits.send_queue_bytes_max).unwrap_or(u32::MAX),
        large_page_bytes_max: limits.large_page_bytes_max,
        page_bytes_max: limits.page_bytes_max,
        kept_page_bytes_max: limits.pool_bytes_max,
        write_timeout: limits.write_timeout,
        write_rate_min: limits.write_rate_min.map_or(0, std::num::NonZeroU32::get),
        rate_sources_max: limits.rate_sources_max,
        linger_timeout: limits.linger_timeout,
        linger_bytes_max: limits.linger_bytes_max,
        drain_timeout: config.drain_timeout,
    }
}

fn resolver(config: &ResolverConfig, seed: [u8; 32]) -> io::Result<Resolver<Id>> {
    let text = |path| match sys::read_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        result => result.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    };
    let mut settings = dns::Config {
        attempts: u32::try_from(config.attempts).unwrap_or(u32::MAX),
        attempt_timeout: config.query_timeout,
        lookups_max: config.lookups_max,
        cache_entries_max: config.cached_names_max,
        ttl_max: config.cached_time_max,
        ..dns::Config::default()
    };
    match &config.nameservers {
        Nameservers::System(path) => {
            ResolvConf::parse(&text(path)?, sys::interface_index).apply(&mut settings);
        }
        Nameservers::Listed(servers) => settings.nameservers.clone_from(servers),
    }
    Ok(Resolver::new(
        settings,
        Hosts::parse(&text(&config.hosts)?),
        seed,
    ))
}

/// The table of kinds: what serves each.
fn open_listener<S: Sys>(
    reactor: &mut Reactor<S>,
    listener: &ListenerConfig,
    all: &[(String, String)],
) -> io::Result<Bind> {
    match &listener.kind {
        Kind::TcpEcho(config) => stream(reactor, listener, TcpEcho::new(config)),
        Kind::Hello(config) => stream(reactor, listener, Hello::new(config)),
        Kind::UdpEcho(config) => datagram(reactor, listener, UdpEcho::new(config)),
        Kind::UdpHeartbeat(config) => datagram(reactor, listener, UdpHeartbeat::new(config)),
        Kind::UdpPing(config) => {
            let mut seed = [0; 8];
            reactor.sys_mut().entropy(&mut seed);
            datagram(
                reactor,
                listener,
                UdpPing::new(config, u64::from_ne_bytes(seed)),
            )
        }
        Kind::Http(config) => {
            let service = Http::new(config, all, reactor.sys_mut()).map_err(named)?;
            stream(reactor, listener, service)
        }
        Kind::Admin(config) => {
            let started = reactor.sys_mut().wall();
            stream(reactor, listener, Admin::new(config, started))
        }
        Kind::Upload(config) => {
            let service = Upload::new(config, reactor.sys_mut())?;
            stream(reactor, listener, service)
        }
        Kind::Proxy(config) => {
            let mut id = [0; 4];
            reactor.sys_mut().entropy(&mut id);
            stream(
                reactor,
                listener,
                Proxy::new(config, u32::from_ne_bytes(id)),
            )
        }
    }
}

fn named((path, error): (PathBuf, io::Error)) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn stream<S: Sys, T: Service + 'static>(
    reactor: &mut Reactor<S>,
    listener: &ListenerConfig,
    service: T,
) -> io::Result<Bind> {
    let bind = match &listener.bind {
        config::Bind::Tcp(address) | config::Bind::Udp(address) => Bind::Inet(*address),
        config::Bind::Unix(path) => Bind::Unix(path.clone()),
    };
    let files = match &listener.kind {
        Kind::Http(http) => http.tls.as_ref(),
        _ => None,
    };
    let tls = match files {
        Some(files) => Some(TlsSource::load(&files.cert, &files.key).map_err(io::Error::other)?),
        None => None,
    };
    let options = ListenerOptions {
        name: listener.name.clone(),
        kind: listener.kind.name(),
        connections_max: listener.kind.connections_max().unwrap_or(usize::MAX),
        serves_while_draining: matches!(listener.kind, Kind::Admin(_)),
        tls,
    };
    reactor.listen(&bind, options, service)
}

fn datagram<S: Sys, T: DatagramService + 'static>(
    reactor: &mut Reactor<S>,
    listener: &ListenerConfig,
    service: T,
) -> io::Result<Bind> {
    let address = match &listener.bind {
        config::Bind::Tcp(address) | config::Bind::Udp(address) => *address,
        config::Bind::Unix(_) => return Err(io::ErrorKind::Unsupported.into()),
    };
    let rate = listener
        .kind
        .source_rate_max()
        .map_or(0, std::num::NonZeroU32::get);
    let kind = listener.kind.name();
    reactor
        .bind_datagram(address, &listener.name, kind, rate, service)
        .map(Bind::Inet)
}
