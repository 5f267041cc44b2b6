//! From a configuration to a running reactor: opens every listener, says so, and turns until told to end.

use std::fmt;
use std::io::{self, Write};
use std::path::PathBuf;

use crate::config::{self, Config, Kind, ListenerConfig};
use crate::dns::Resolver;
use crate::reactor::tls::TlsSource;
use crate::reactor::{DatagramOptions, Limits, ListenerOptions, Reactor, Turn, resolver_settings};
use crate::service::Service;
use crate::service::datagram::DatagramService;
use crate::services::{
    admin::Admin, hello::Hello, http::Http, proxy::Proxy, tcp_echo::TcpEcho, udp_echo::UdpEcho,
    udp_heartbeat::UdpHeartbeat, udp_ping::UdpPing, upload::Upload,
};
use crate::sys::unix::{Unix, raise_descriptor_limit};
use crate::sys::{Bind, Sys};

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

/// Serves until SIGTERM or SIGINT. Standard output has a line for each listener, then `ready`. At SIGHUP `load` reads the
/// configuration again; if that fails, all stays as it was.
///
/// # Errors
/// The first listener that could not be opened; nothing is served then.
pub fn serve<E: fmt::Display>(
    mut config: Config,
    load: impl Fn() -> Result<Config, E>,
) -> Result<(), ServeError> {
    match raise_descriptor_limit() {
        Ok(limit) => log::debug!("descriptors: {limit:?}"),
        Err(error) => log::warn!("the limit of descriptors stays as it is: {error}"),
    }
    let sys = Unix::new(true).map_err(ServeError::System)?;
    let (mut reactor, bound) = open(sys, &config)?;
    announce(&config, &bound).map_err(ServeError::System)?;
    loop {
        match reactor.turn().map_err(ServeError::System)? {
            Turn::Continue => {}
            Turn::Reload => match load() {
                Ok(next) => config = reload(&mut reactor, &config, next),
                Err(error) => log::error!("the configuration stays as it was: {error}"),
            },
            Turn::Stop => return Ok(()),
        }
    }
}

/// A reactor with every listener of the configuration, and the addresses that they got.
///
/// # Errors
/// The first listener that could not be opened.
pub fn open<S: Sys>(mut sys: S, config: &Config) -> Result<(Reactor<S>, Vec<Bind>), ServeError> {
    let mut seed = [0; 32];
    sys.entropy(&mut seed);
    let (settings, hosts) = resolver_settings(&config.resolver).map_err(ServeError::System)?;
    let resolver = Resolver::new(settings, hosts, seed);
    let mut reactor = Reactor::new(sys, limits(config), resolver);
    let mut bound = Vec::new();
    let all = table(config);
    for listener in &config.listeners {
        let opened = serve_listener(&mut reactor, listener, How::Open, &all);
        bound.push(opened.map_err(|error| refused(listener, error))?);
    }
    Ok((reactor, bound))
}

fn refused(listener: &ListenerConfig, error: io::Error) -> ServeError {
    ServeError::Listener {
        name: listener.name.clone(),
        bind: listener.bind.to_string(),
        error,
    }
}

/// Kind and address of each listener, for the page that shows them.
fn table(config: &Config) -> Vec<(String, String)> {
    let row = |l: &ListenerConfig| (l.kind.name().to_owned(), l.bind.to_string());
    config.listeners.iter().map(row).collect()
}

/// Goes over from one configuration to another: closes the listeners that are gone, opens the new ones, and serves the
/// next connections of those that changed as they now are. A session keeps the configuration that it began with. A listener
/// that cannot be as it should stays as it was, and the log says why. What is now in force.
pub fn reload<S: Sys>(reactor: &mut Reactor<S>, old: &Config, mut next: Config) -> Config {
    reactor.set_limits(limits(&next));
    match resolver_settings(&next.resolver) {
        Ok((settings, hosts)) => reactor.set_resolver(settings, hosts),
        Err(error) => log::error!("resolver: it stays as it was: {error}"),
    }
    let is_the_same = |a: &ListenerConfig, b: &ListenerConfig| {
        (&a.name, &a.bind, a.kind.name()) == (&b.name, &b.bind, b.kind.name())
    };
    for was in &old.listeners {
        if !next.listeners.iter().any(|l| is_the_same(l, was)) {
            reactor.unlisten(&was.name);
            log::info!("{}: closed", was.name);
        }
    }
    let all = table(&next);
    let table_changed = table(old) != all;
    let mut in_force = Vec::new();
    for listener in std::mem::take(&mut next.listeners) {
        let was = old.listeners.iter().find(|l| l.name == listener.name);
        let kept = was.filter(|was| is_the_same(was, &listener));
        // The page of a web server without files shows them all.
        let shows_them = table_changed && matches!(listener.kind, Kind::Http(_));
        if kept == Some(&listener) && !shows_them {
            in_force.push(listener);
            continue;
        }
        let how = match kept {
            Some(_) => How::Replace,
            None => How::Open,
        };
        match serve_listener(reactor, &listener, how, &all) {
            Ok(bound) => {
                match how {
                    How::Open => log::info!("{}: listening on {bound}", listener.name),
                    How::Replace => log::info!("{}: configured anew", listener.name),
                }
                in_force.push(listener);
            }
            Err(error) => {
                log::error!("{}", refused(&listener, error));
                // Where it was to move to another address, the old one is closed already.
                let back = was.filter(|was| {
                    kept.is_some() || serve_listener(reactor, was, How::Open, &all).is_ok()
                });
                in_force.extend(back.cloned());
            }
        }
    }
    next.listeners = in_force;
    next
}

/// What a listener's service is given.
#[derive(Clone, Copy)]
enum How {
    /// A socket of its own.
    Open,
    /// The socket of the one before it.
    Replace,
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
        datagram_batches_max: limits.datagram_batches_max,
        rate_sources_max: limits.rate_sources_max,
        linger_timeout: limits.linger_timeout,
        linger_bytes_max: limits.linger_bytes_max,
        drain_timeout: config.drain_timeout,
    }
}

/// The table of kinds: what serves each.
fn serve_listener<S: Sys>(
    reactor: &mut Reactor<S>,
    listener: &ListenerConfig,
    how: How,
    all: &[(String, String)],
) -> io::Result<Bind> {
    match &listener.kind {
        Kind::TcpEcho(config) => stream(reactor, listener, how, TcpEcho::new(config)),
        Kind::Hello(config) => stream(reactor, listener, how, Hello::new(config)),
        Kind::UdpEcho(config) => datagram(reactor, listener, how, UdpEcho::new(config)),
        Kind::UdpHeartbeat(config) => datagram(reactor, listener, how, UdpHeartbeat::new(config)),
        Kind::UdpPing(config) => {
            let mut seed = [0; 8];
            reactor.sys_mut().entropy(&mut seed);
            datagram(
                reactor,
                listener,
                how,
                UdpPing::new(config, u64::from_ne_bytes(seed)),
            )
        }
        Kind::Http(config) => {
            let service = Http::new(config, all, reactor.sys_mut()).map_err(named)?;
            stream(reactor, listener, how, service)
        }
        Kind::Admin(config) => {
            let started = reactor.sys_mut().wall();
            stream(reactor, listener, how, Admin::new(config, started))
        }
        Kind::Upload(config) => {
            let service = Upload::new(config, reactor.sys_mut())?;
            stream(reactor, listener, how, service)
        }
        Kind::Proxy(config) => {
            let mut id = [0; 4];
            reactor.sys_mut().entropy(&mut id);
            stream(
                reactor,
                listener,
                how,
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
    how: How,
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
    let tls = files.map(TlsSource::load).transpose();
    let tls = tls.map_err(io::Error::other)?;
    let options = ListenerOptions {
        name: listener.name.clone(),
        kind: listener.kind.name(),
        connections_max: listener.kind.connections_max().unwrap_or(usize::MAX),
        serves_while_draining: matches!(listener.kind, Kind::Admin(_)),
        tls,
    };
    match how {
        How::Open => reactor.listen(&bind, options, service),
        How::Replace => {
            reactor.replace(options, service);
            Ok(bind)
        }
    }
}

fn datagram<S: Sys, T: DatagramService + 'static>(
    reactor: &mut Reactor<S>,
    listener: &ListenerConfig,
    how: How,
    service: T,
) -> io::Result<Bind> {
    let address = match &listener.bind {
        config::Bind::Tcp(address) | config::Bind::Udp(address) => *address,
        config::Bind::Unix(_) => return Err(io::ErrorKind::Unsupported.into()),
    };
    let options = DatagramOptions {
        name: listener.name.clone(),
        kind: listener.kind.name(),
        source_rate_max: listener
            .kind
            .source_rate_max()
            .map_or(0, std::num::NonZeroU32::get),
        source_port_min: listener.kind.source_port_min(),
    };
    match how {
        How::Open => reactor
            .bind_datagram(address, &options, service)
            .map(Bind::Inet),
        How::Replace => {
            reactor.replace_datagram(&options, service);
            Ok(Bind::Inet(address))
        }
    }
}
