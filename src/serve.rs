//! From a configuration to a running reactor: opens every listener, says so, and turns until told
//! to end.
//!
//! From one configuration to the next: [`mod@reload`]. For whom a socket is that a service manager
//! gave: `given`. Who the process is, and what it may reach: `confine`. How the process is run as a
//! service: [`mod@unit`]. One that serves, turn by turn: `server`; the same on a record:
//! [`mod@replay`]; on a simulated kernel: [`mod@simulate`].

mod confine;
mod descriptors;
mod given;
mod reload;
pub mod replay;
mod server;
pub mod simulate;
pub mod unit;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::RootCertStore;

use crate::cache::store::{self, StoreId};
use crate::config::{
    self, AccessConfig, Cache, Config, Kind, ListenerConfig, Nameservers, Problems, ProxyConfig,
    ResolverConfig, SiteConfig, SiteContent, Weight,
};
use crate::dns::{self, Hosts, Resolver, Sources};
use crate::gate::{Access, GateOptions, Ranges};
use crate::http::plain;
use crate::reactor::{DatagramOptions, ListenerOptions, PlainAnswer, Reactor, TlsOptions};
use crate::service::Service;
use crate::service::datagram::DatagramService;
use crate::services::{
    frame_echo::FrameEcho,
    hello::Hello,
    tcp_echo::TcpEcho,
    udp_echo::UdpEcho,
    udp_heartbeat::UdpHeartbeat,
    udp_ping::UdpPing,
    upload::Upload,
    web::{Given, Web},
};
use crate::surroundings::{Kept, Surroundings};
use crate::sys::record::{self, Taped};
use crate::sys::unix::{Given as GivenSockets, Unix, raise_descriptor_limit};
use crate::sys::{Bind, DatagramTuning, Sys};

pub use reload::reload;
pub use server::{Server, Source};

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
    /// A socket that a service manager gave is not one for us.
    Given(String),
    /// The process cannot be who it is to be, or be kept to its files.
    Confined(String),
    /// The system refused something that every listener needs.
    System(io::Error),
    /// What happens cannot be recorded.
    Record(io::Error),
}

impl fmt::Display for ServeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ServeError::Listener { name, bind, error } => {
                write!(f, "listener {name}: {bind}: {error}")
            }
            ServeError::Given(why) | ServeError::Confined(why) => why.fmt(f),
            ServeError::System(error) => error.fmt(f),
            ServeError::Record(error) => write!(f, "the record: {error}"),
        }
    }
}

impl std::error::Error for ServeError {}

/// Serves until SIGTERM or SIGINT. Standard output has a line for each address of a listener, then
/// `ready`. At SIGHUP the configuration is read again; if that fails, all stays as it was.
///
/// # Errors
/// The first listener that could not be opened; nothing is served then.
pub fn serve(config: Config, source: Source) -> Result<(), ServeError> {
    let (sys, descriptors) = kernel(&config)?;
    let mut server = Server::open(sys, config, source, descriptors)?;
    server.confine()?;
    server.announce()?;
    server.begin();
    server.run()
}

/// What is wanted of a record.
#[derive(Clone, Copy, Debug)]
pub struct Recording {
    /// Bytes at which it ends, while the server goes on.
    pub bytes_max: u64,
    /// Without the bytes that are only passed on.
    pub heads_only: bool,
}

/// The same, while what the kernel answers is written down to `to`. `notes`: what the configuration
/// was made of.
///
/// # Errors
/// As there, and those of `write(2)`.
pub fn serve_recorded(
    config: Config,
    source: Source,
    notes: Kept,
    to: impl io::Write + Send + 'static,
    recording: Recording,
) -> Result<(), ServeError> {
    let (sys, descriptors) = kernel(&config)?;
    let options = record::Options {
        start: record::Start {
            config: source.file.clone(),
            bind: source.overrides.bind,
            root: source.overrides.root.clone(),
            kept: notes,
            descriptors,
            heads_only: recording.heads_only,
            ..record::Start::new(sys.wall())
        },
        bytes_max: recording.bytes_max,
        waits: false,
    };
    let sys = Taped::record(sys, to, &options).map_err(ServeError::Record)?;
    let mut server = Server::open(sys, config, source, descriptors)?;
    server.confine()?;
    server.announce()?;
    server.begin();
    let ended = server.run();
    let counted = server.counted();
    let written = server.sys_mut().end(&counted);
    ended.and(written.map_err(ServeError::Record))
}

/// The kernel, and how many descriptors it gives, if there is a limit.
pub(crate) fn kernel(config: &Config) -> Result<(Unix, Option<u64>), ServeError> {
    let given = GivenSockets::of_environment().map_err(ServeError::Given)?; // before anything is opened
    let descriptors = raise_descriptor_limit().unwrap_or_else(|error| {
        log::warn!("the limit of descriptors stays as it is: {error}");
        None
    });
    let mut placed = config.clone();
    if let Some(left) = given::place(&mut placed, &given.sockets()).pop() {
        return Err(ServeError::Given(left.why));
    }
    let given = confine::assume_user(&placed, given)?;
    let sys = Unix::with_engine(true, &config.limits.disk).map_err(ServeError::System)?;
    let sys = sys.supervised().with_given(given);
    log::info!("disk engine: {}", sys.engine().word());
    Ok((sys, descriptors))
}

/// A reactor with every listener of the configuration, and what each of their addresses came to.
///
/// # Errors
/// The first listener that could not be opened.
pub fn open<S: Sys>(mut sys: S, config: &Config) -> Result<(Reactor<S>, Vec<Bind>), ServeError> {
    let mut seed = [0; 32];
    sys.disk().entropy(&mut seed);
    let sources = name_sources(&config.resolver);
    let (settings, hosts) = read_names(&sources, &mut sys).map_err(ServeError::System)?;
    let resolver = Resolver::new(settings, hosts, seed);
    let mut reactor = Reactor::new(sys, config.limits, resolver);
    reactor.watch_name_files(sources);
    let mut bound = Vec::new();
    for listener in &config.listeners {
        let own = bound.len();
        for bind in &listener.bind {
            let (beside, all) = (bound.get(own), &config.listeners);
            let opened = open_address(&mut reactor, listener, beside, &address(bind), all);
            bound.push(opened.map_err(|error| refused(listener, bind, error))?);
        }
    }
    Ok((reactor, bound))
}

/// Where the resolver's settings come from.
fn name_sources(config: &ResolverConfig) -> Sources {
    let mut settings = config.settings.clone();
    let resolv_conf = match &config.nameservers {
        Nameservers::System(path) => Some(path.clone()),
        Nameservers::Listed(servers) => {
            settings.nameservers.clone_from(servers);
            None
        }
    };
    let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
    Sources {
        resolv_conf,
        hosts: config.hosts.clone(),
        settings,
        attempts: config.attempts.map(count),
        attempt_timeout: config.query_timeout,
        reread_interval: config.reread_interval,
    }
}

/// What the resolver is told; a file that is not there says nothing.
///
/// # Errors
/// A file that cannot be read; the text names it.
fn read_names(sources: &Sources, sys: &mut impl Sys) -> io::Result<(dns::Config, Hosts)> {
    let mut read = None;
    sys.surroundings(&mut |around| read = Some(read_names_in(sources, around)));
    read.unwrap_or_else(|| Err(io::ErrorKind::NotFound.into()))
}

fn read_names_in(sources: &Sources, around: &Surroundings) -> io::Result<(dns::Config, Hosts)> {
    let text = |path: &Path| match around.file(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => {
            let named = format!("{}: {error}", path.display());
            Err(io::Error::new(error.kind(), named))
        }
    };
    let resolv_conf = match &sources.resolv_conf {
        Some(path) => text(path)?,
        None => String::new(),
    };
    let hosts = Hosts::parse(&text(&sources.hosts)?);
    let config = sources.config(&resolv_conf, |name| around.interface(name));
    Ok((config, hosts))
}

fn refused(listener: &ListenerConfig, bind: &config::Bind, error: io::Error) -> ServeError {
    let error = match error.kind() {
        io::ErrorKind::PermissionDenied if confine::is_low(bind) => io::Error::new(
            error.kind(),
            format!(
                "{error}: ports below 1024 are for root, and with `user` are opened at the start only"
            ),
        ),
        _ => error,
    };
    ServeError::Listener {
        name: listener.name.clone(),
        bind: bind.to_string(),
        error,
    }
}

/// A configuration that is served.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The configuration.
    pub config: Config,
    /// What each address of its listeners came to, in their order: by it the reactor knows a
    /// listener.
    pub bound: Vec<Bind>,
}

impl InForce {
    /// What the service manager shows.
    fn status(&self) -> String {
        match self.bound.len() {
            1 => "listening on 1 address".to_owned(),
            count => format!("listening on {count} addresses"),
        }
    }
}

/// Logs what is wrong with a configuration that is used all the same.
fn tell(remarks: &Problems) {
    for problem in &remarks.0 {
        match problem.weight {
            Weight::Warning => log::warn!("{problem}"),
            Weight::BadFile | Weight::Wrong => log::error!("{problem}"),
        }
    }
}

/// Opens an address of a listener, `beside` one that is open, if there is one; the address that it
/// got. Streams of all addresses have one service. Datagrams have one for each: an answer leaves by
/// the socket that was asked.
fn open_address<S: Sys>(
    reactor: &mut Reactor<S>,
    listener: &ListenerConfig,
    beside: Option<&Bind>,
    at: &Bind,
    all: &[ListenerConfig],
) -> io::Result<Bind> {
    match beside {
        Some(beside) if listener.kind.stream().is_some() => reactor.listen_beside(beside, at),
        _ => serve_listener(reactor, listener, How::Open(at), all),
    }
}

/// TLS of a listener, if it is to speak it.
fn tls_options(listener: &ListenerConfig) -> io::Result<Option<TlsOptions>> {
    let Some(tls) = listener.kind.tls() else {
        return Ok(None);
    };
    let certificates = tls.by_name().map_err(io::Error::other)?;
    let (protocols, plain): (&[&[u8]], _) = match listener.kind.is_http() {
        true => (&[b"http/1.1"], Some(plain::answer as PlainAnswer)),
        false => (&[], None),
    };
    let config = certificates.server(protocols).map_err(io::Error::other)?;
    let config = Arc::new(config);
    Ok(Some(TlsOptions { config, plain }))
}

/// What a listener's service is given.
#[derive(Clone, Copy)]
enum How<'a> {
    /// A socket of its own, bound here.
    Open(&'a Bind),
    /// The sockets of the listener before it, which is bound here: all of them, or the one for
    /// datagrams.
    Replace(&'a Bind),
}

fn address(bind: &config::Bind) -> Bind {
    match bind {
        config::Bind::Tcp(address) | config::Bind::Udp(address) => Bind::Inet(*address),
        config::Bind::Unix(path) => Bind::Unix(path.clone()),
    }
}

/// The table of kinds: what serves each.
fn serve_listener<S: Sys>(
    reactor: &mut Reactor<S>,
    listener: &ListenerConfig,
    how: How<'_>,
    all: &[ListenerConfig],
) -> io::Result<Bind> {
    match &listener.kind {
        Kind::TcpEcho(config) => stream(reactor, listener, how, TcpEcho::new(config)),
        Kind::FrameEcho(config) => stream(reactor, listener, how, FrameEcho::new(config)),
        Kind::Hello(config) => stream(reactor, listener, how, Hello::new(config)),
        Kind::UdpEcho(config) => datagram(reactor, listener, how, UdpEcho::new(config)),
        Kind::UdpHeartbeat(config) => datagram(reactor, listener, how, UdpHeartbeat::new(config)),
        Kind::UdpPing(config) => {
            let mut seed = [0; 8];
            reactor.sys_mut().disk().entropy(&mut seed);
            datagram(
                reactor,
                listener,
                how,
                UdpPing::new(config, u64::from_ne_bytes(seed)),
            )
        }
        Kind::Http(config) => {
            let stores = open_stores(reactor, &listener.kind);
            let authorities = authorities(&listener.kind, reactor.sys_mut());
            let given = Given {
                stores: &stores,
                ..given(all, authorities.as_ref(), reactor.sys_mut())
            };
            let service = Web::files(config, &given, reactor.sys_mut().disk()).map_err(named)?;
            stream(reactor, listener, how, service)
        }
        Kind::Admin(config) => {
            let authorities = authorities(&listener.kind, reactor.sys_mut());
            let given = given(all, authorities.as_ref(), reactor.sys_mut());
            let service = Web::admin(config, &given, reactor.sys_mut().disk()).map_err(named)?;
            stream(reactor, listener, how, service)
        }
        Kind::Upload(config) => {
            let service = Upload::new(config, reactor.sys_mut().disk())?;
            stream(reactor, listener, how, service)
        }
        Kind::Proxy(config) => {
            let stores = open_stores(reactor, &listener.kind);
            let authorities = authorities(&listener.kind, reactor.sys_mut());
            let given = Given {
                stores: &stores,
                ..given(all, authorities.as_ref(), reactor.sys_mut())
            };
            let service = Web::proxy(config, &given, reactor.sys_mut().disk()).map_err(named)?;
            stream(reactor, listener, how, service)
        }
    }
}

/// Whom the system trusts to vouch for origins, if the listener may have to know.
fn authorities(kind: &Kind, sys: &mut impl Sys) -> Option<Arc<RootCertStore>> {
    let (sites, own) = match kind {
        Kind::Http(http) => (&http.sites, false),
        Kind::Proxy(proxy) => (&proxy.http.sites, proxy.needs_authorities()),
        _ => return None,
    };
    let asks = |site: &SiteConfig| match &site.content {
        SiteContent::Upstream(proxy) => proxy.needs_authorities(),
        _ => false,
    };
    (own || sites.iter().any(asks)).then(|| sys.authorities())
}

/// What a web server is told of the process.
fn given<'a>(
    listeners: &'a [ListenerConfig],
    authorities: Option<&'a Arc<RootCertStore>>,
    sys: &mut impl Sys,
) -> Given<'a> {
    let mut id = [0; 4];
    sys.disk().entropy(&mut id);
    Given {
        listeners,
        authorities,
        id: u32::from_ne_bytes(id),
        started: sys.wall(),
        stores: &[],
    }
}

/// Opens the folders in which a listener keeps responses.
fn open_stores<S: Sys>(reactor: &mut Reactor<S>, kind: &Kind) -> Vec<(PathBuf, StoreId)> {
    let (own, http) = match kind {
        Kind::Proxy(config) => (Some(config), &config.http),
        Kind::Http(config) => (None, config),
        _ => return Vec::new(),
    };
    let routes = http.sites.iter().filter_map(|site| match &site.content {
        SiteContent::Upstream(proxy) => Some(&**proxy),
        _ => None,
    });
    let boot = boot(reactor.sys_mut());
    let settings = |config: &ProxyConfig| match &config.cache {
        Cache::Off => None,
        Cache::On {
            dir,
            bytes_max,
            limits,
            rules,
            ..
        } => Some(store::Settings {
            dir: dir.clone(),
            bytes_max: *bytes_max,
            objects_max: limits.objects_max,
            object_bytes_max: limits.object_bytes_max,
            memory_bytes_max: usize::try_from(limits.memory_bytes_max).unwrap_or(usize::MAX),
            open_files_max: limits.open_files_max,
            small_bytes_max: usize::try_from(limits.small_bytes_max).unwrap_or(usize::MAX),
            await_timeout: limits.wait_timeout,
            pass_time: PASS_TIME,
            rules: rules.clone(),
            boot,
        }),
    };
    let settings = own.into_iter().chain(routes).filter_map(settings);
    let open = |settings: store::Settings| (settings.dir.clone(), reactor.open_store(settings));
    settings.map(open).collect()
}

/// How long it is remembered that a response could not be kept.
const PASS_TIME: Duration = Duration::from_secs(120);

/// Which start of the system this is (`man 5 proc`, `/proc/sys/kernel/random/boot_id`); 0 where that
/// cannot be known.
fn boot(sys: &mut impl Sys) -> u128 {
    let (path, mut text) = (Path::new("/proc/sys/kernel/random/boot_id"), Vec::new());
    sys.surroundings(&mut |around| text = around.file(path).unwrap_or_default());
    let digits = String::from_utf8_lossy(&text).trim().replace('-', "");
    u128::from_str_radix(&digits, 16).unwrap_or(0)
}

fn named((path, error): (PathBuf, io::Error)) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

fn stream<S: Sys, T: Service + 'static>(
    reactor: &mut Reactor<S>,
    listener: &ListenerConfig,
    how: How<'_>,
    service: T,
) -> io::Result<Bind> {
    let options = ListenerOptions {
        name: listener.name.clone(),
        kind: listener.kind.name(),
        connections_max: listener.kind.connections_max().unwrap_or(usize::MAX),
        descriptors: descriptors::of_session(&listener.kind),
        serves_while_draining: matches!(listener.kind, Kind::Admin(_)),
        gate: gate(&listener.kind),
        tls: tls_options(listener)?,
    };
    match how {
        How::Open(at) => reactor.listen(at, options, service),
        How::Replace(bound) => {
            reactor.replace(bound, options, service);
            Ok(bound.clone())
        }
    }
}

/// What a listener over streams asks of its peers.
fn gate(kind: &Kind) -> GateOptions {
    let Some(keys) = kind.stream() else {
        return GateOptions::default();
    };
    let per_address = keys.connections_per_address_max;
    GateOptions {
        access: access(&keys.access),
        // Web servers answer those beyond.
        connections_per_address_max: per_address.filter(|_| !kind.is_http()),
        accept_rate_max: keys.accept_rate_max,
        accept_burst_max: keys.accept_burst_max,
        introduced_by: match keys.accept_proxy {
            true => keys.trusted_proxies.iter().copied().collect(),
            false => Ranges::default(),
        },
        introduction_timeout: keys.proxy_header_timeout,
    }
}

fn access(keys: &AccessConfig) -> Access {
    let ranges = |ranges: &Vec<_>| ranges.iter().copied().collect();
    Access::new(keys.allow.as_ref().map(ranges), ranges(&keys.deny))
}

fn datagram<S: Sys, T: DatagramService + 'static>(
    reactor: &mut Reactor<S>,
    listener: &ListenerConfig,
    how: How<'_>,
    service: T,
) -> io::Result<Bind> {
    let (How::Open(Bind::Inet(address)) | How::Replace(Bind::Inet(address))) = how else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let Some(keys) = listener.kind.datagram() else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let options = DatagramOptions {
        name: listener.name.clone(),
        kind: listener.kind.name(),
        access: access(&keys.access),
        source_rate_max: keys.source_rate_max,
        source_port_min: listener.kind.source_port_min(),
        tuning: DatagramTuning {
            recv_buffer_bytes: keys.recv_buffer_bytes,
            send_buffer_bytes: keys.send_buffer_bytes,
            receive_runs: keys.receive_runs,
        },
    };
    match how {
        How::Open(_) => reactor
            .bind_datagram(*address, &options, service)
            .map(Bind::Inet),
        How::Replace(_) => {
            reactor.replace_datagram(*address, &options, service);
            Ok(Bind::Inet(*address))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_names_that_are_not_there_say_nothing_and_others_have_to_be_readable() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("resolv.conf");
        let mut config = ResolverConfig {
            nameservers: Nameservers::System(path.clone()),
            hosts: folder.path().join("none"),
            ..ResolverConfig::default()
        };
        let around = Surroundings::live();
        let told = |config: &ResolverConfig| read_names_in(&name_sources(config), &around);
        let (settings, hosts) = told(&config).expect("settings");
        assert_eq!(settings.attempts, dns::Config::ATTEMPTS);
        assert_eq!(hosts, Hosts::default());
        let text = "nameserver 192.0.2.1\noptions attempts:3\n";
        std::fs::write(&path, text).expect("a file");
        assert_eq!(told(&config).expect("settings").0.attempts, 3);
        config.attempts = Some(1);
        assert_eq!(told(&config).expect("settings").0.attempts, 1);
        config.hosts = folder.path().to_owned();
        let error = told(&config).expect_err("a folder is no file").to_string();
        let named = config.hosts.to_str().expect("a name");
        assert!(error.contains(named), "{error}");
    }
}
