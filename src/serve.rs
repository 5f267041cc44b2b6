//! From a configuration to a running reactor: opens every listener, says so, and turns until told to end.

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::config::{
    self, Config, Kind, ListenerConfig, Nameservers, Problems, ResolverConfig, TlsConfig, Weight,
};
use crate::dns::{self, Hosts, ResolvConf, Resolver};
use crate::http::plain;
use crate::reactor::{DatagramOptions, ListenerOptions, PlainAnswer, Reactor, TlsOptions, Turn};
use crate::service::Service;
use crate::service::datagram::DatagramService;
use crate::services::{
    hello::Hello,
    tcp_echo::TcpEcho,
    udp_echo::UdpEcho,
    udp_heartbeat::UdpHeartbeat,
    udp_ping::UdpPing,
    upload::Upload,
    web::{Given, Web},
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

/// Serves until SIGTERM or SIGINT. Standard output has a line for each listener, then `ready`. At SIGHUP `load` reads the
/// configuration again; if that fails, all stays as it was.
///
/// # Errors
/// The first listener that could not be opened; nothing is served then.
pub fn serve<E: fmt::Display>(
    config: Config,
    load: impl Fn() -> Result<Config, E>,
) -> Result<(), ServeError> {
    match raise_descriptor_limit() {
        Ok(limit) => log::debug!("descriptors: {limit:?}"),
        Err(error) => log::warn!("the limit of descriptors stays as it is: {error}"),
    }
    let sys = Unix::new(true).map_err(ServeError::System)?;
    tell(&config.remarks);
    let (mut reactor, bound) = open(sys, &config)?;
    announce(&config, &bound).map_err(ServeError::System)?;
    let mut in_force = InForce { config, bound };
    loop {
        match reactor.turn().map_err(ServeError::System)? {
            Turn::Continue => {}
            Turn::Reload => match load() {
                Ok(next) => in_force = reload(&mut reactor, in_force, next),
                Err(error) => {
                    for problem in error.to_string().lines() {
                        log::error!("the configuration stays as it was: {problem}");
                    }
                }
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
    let mut reactor = Reactor::new(sys, config.limits, resolver);
    let mut bound = Vec::new();
    for listener in &config.listeners {
        let how = How::Open(&address(&listener.bind));
        let opened = serve_listener(&mut reactor, listener, how, &config.listeners);
        bound.push(opened.map_err(|error| refused(listener, error))?);
    }
    Ok((reactor, bound))
}

/// What the resolver is told, by the configuration and by the files that it names; a file that is not there says nothing.
/// The keys go before the options of resolv.conf.
///
/// # Errors
/// A file that cannot be read; the text names it.
fn resolver_settings(config: &ResolverConfig) -> io::Result<(dns::Config, Hosts)> {
    let text = |path: &Path| match sys::read_file(path) {
        Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => {
            let named = format!("{}: {error}", path.display());
            Err(io::Error::new(error.kind(), named))
        }
    };
    let count = |count| u32::try_from(count).unwrap_or(u32::MAX);
    let mut settings = config.settings.clone();
    match &config.nameservers {
        Nameservers::System(path) => {
            ResolvConf::parse(&text(path)?, sys::interface_index).apply(&mut settings);
        }
        Nameservers::Listed(servers) => settings.nameservers.clone_from(servers),
    }
    settings.attempts = config.attempts.map_or(settings.attempts, count);
    settings.attempt_timeout = config.query_timeout.unwrap_or(settings.attempt_timeout);
    Ok((settings, Hosts::parse(&text(&config.hosts)?)))
}

fn refused(listener: &ListenerConfig, error: io::Error) -> ServeError {
    ServeError::Listener {
        name: listener.name.clone(),
        bind: listener.bind.to_string(),
        error,
    }
}

/// A listener, and the address that it got.
type Served = (ListenerConfig, Bind);

/// A configuration that is served.
#[derive(Clone, Debug)]
pub struct InForce {
    /// The configuration.
    pub config: Config,
    /// The addresses that its listeners got, in their order: by them the reactor knows a listener.
    pub bound: Vec<Bind>,
}

/// Goes over from one configuration to another: closes the listeners that are gone, opens the new ones, and serves the
/// next connections of those that changed as they now are. A session keeps the configuration that it began with. A listener
/// that cannot be as it should stays as it was, and the log says why. What is now in force.
pub fn reload<S: Sys>(reactor: &mut Reactor<S>, was: InForce, mut next: Config) -> InForce {
    tell(&next.remarks);
    reactor.set_limits(next.limits);
    match resolver_settings(&next.resolver) {
        Ok((settings, hosts)) => reactor.set_resolver(settings, hosts),
        Err(error) => log::error!("resolver: it stays as it was: {error}"),
    }
    let all = next.listeners.clone();
    let others_changed = !look_alike(&was.config.listeners, &all);
    let kept = kept(&was.config.listeners, &next.listeners);
    let old: Vec<Served> = was.config.listeners.into_iter().zip(was.bound).collect();
    let mut gone: Vec<&Served> = Vec::new();
    for (index, served) in old.iter().enumerate() {
        if !kept.contains(&Some(index)) {
            close(reactor, served);
            gone.push(served);
        }
    }
    let (mut in_force, mut new, mut refused) = (Vec::new(), Vec::new(), Vec::new());
    for (mut listener, kept) in next.listeners.drain(..).zip(kept) {
        if let Some(index) = kept
            && listener.keep(&old[index].0)
        {
            log::warn!("{}: an old certificate stays in use", listener.name);
        }
        // The page of a web server without files shows them all.
        let shows_them = matches!(&listener.kind, Kind::Http(http) if http.root.is_none());
        match kept.map(|index| &old[index]) {
            Some((before, bound)) if *before == listener && !(shows_them && others_changed) => {
                renew_certificates(reactor, &listener, bound);
                in_force.push((listener, bound.clone()));
            }
            Some(before) => in_force.push(replaced(reactor, before, listener, &all)),
            None => {
                new.push((listener.name.clone(), listener.kind.name()));
                match opened(reactor, &listener, &address(&listener.bind), &all) {
                    Some(bound) => in_force.push((listener, bound)),
                    None => refused.push(listener),
                }
            }
        }
    }
    for listener in refused {
        let like = |name: &str, kind| (name, kind) == (&*listener.name, listener.kind.name());
        let mut moved = gone.iter().filter(|(l, _)| like(&l.name, l.kind.name()));
        let news = new.iter().filter(|(name, kind)| like(name, kind)).count();
        // One of its name went and this one came: it was to move, and stays where it was.
        if let (Some((before, bound)), None, 1) = (moved.next(), moved.next(), news)
            && let Some(bound) = opened(reactor, before, bound, &all)
        {
            in_force.push((before.clone(), bound));
        }
    }
    let bound;
    (next.listeners, bound) = in_force.into_iter().unzip();
    InForce {
        config: next,
        bound,
    }
}

/// Which of the old listeners each of the next ones is. Of those at port 0 that nothing tells apart, the ones that are
/// configured alike are the same, then any.
fn kept(old: &[ListenerConfig], next: &[ListenerConfig]) -> Vec<Option<usize>> {
    let mut kept = vec![None; next.len()];
    let mut taken = vec![false; old.len()];
    let alike: [fn(&ListenerConfig, &ListenerConfig) -> bool; 2] =
        [|one, other| one == other, ListenerConfig::is];
    for are_alike in alike {
        for (listener, kept) in next.iter().zip(&mut kept) {
            let is_it = |i: &usize| !taken[*i] && are_alike(&old[*i], listener);
            if kept.is_none()
                && let Some(index) = (0..old.len()).find(is_it)
            {
                *kept = Some(index);
                taken[index] = true;
            }
        }
    }
    kept
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

/// Whether a page that shows them all shows the same, in whatever order.
fn look_alike(one: &[ListenerConfig], other: &[ListenerConfig]) -> bool {
    let shown = |listeners: &[ListenerConfig]| {
        let row = |l: &ListenerConfig| (l.kind.name(), l.bind.to_string());
        let mut rows: Vec<_> = listeners.iter().map(row).collect();
        rows.sort();
        rows
    };
    shown(one) == shown(other)
}

fn close<S: Sys>(reactor: &mut Reactor<S>, (listener, bound): &Served) {
    match (&listener.bind, bound) {
        (config::Bind::Udp(_), Bind::Inet(address)) => reactor.unbind_datagram(*address),
        _ => reactor.unlisten(bound),
    }
    log::info!("{} at {bound}: closed", listener.name);
}

/// Opens a listener at an address; the log says where, or why not.
fn opened<S: Sys>(
    reactor: &mut Reactor<S>,
    listener: &ListenerConfig,
    at: &Bind,
    all: &[ListenerConfig],
) -> Option<Bind> {
    match serve_listener(reactor, listener, How::Open(at), all) {
        Ok(bound) => {
            log::info!("{}: listening on {bound}", listener.name);
            Some(bound)
        }
        Err(error) => {
            log::error!("{}", refused(listener, error));
            None
        }
    }
}

/// Serves a listener as it is configured now; where that fails, as before.
fn replaced<S: Sys>(
    reactor: &mut Reactor<S>,
    (before, bound): &Served,
    listener: ListenerConfig,
    all: &[ListenerConfig],
) -> Served {
    match serve_listener(reactor, &listener, How::Replace(bound), all) {
        Ok(_) => {
            log::info!("{} at {bound}: configured anew", listener.name);
            (listener, bound.clone())
        }
        Err(error) => {
            log::error!("{}", refused(&listener, error));
            (before.clone(), bound.clone())
        }
    }
}

/// Lets a listener that is configured as before use what its certificate files hold now.
/// Connections that are open keep what they began with.
fn renew_certificates<S: Sys>(reactor: &mut Reactor<S>, listener: &ListenerConfig, bound: &Bind) {
    match listener.kind.tls().map(TlsConfig::by_name) {
        None => {}
        Some(Ok(certificates)) => {
            reactor.set_certificates(bound, Arc::new(certificates));
            log::info!("{} at {bound}: certificates read again", listener.name);
        }
        Some(Err(error)) => log::error!("{} at {bound}: {error}", listener.name),
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
    /// The socket of the one before it, which is bound here.
    Replace(&'a Bind),
}

fn address(bind: &config::Bind) -> Bind {
    match bind {
        config::Bind::Tcp(address) | config::Bind::Udp(address) => Bind::Inet(*address),
        config::Bind::Unix(path) => Bind::Unix(path.clone()),
    }
}

fn announce(config: &Config, bound: &[Bind]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    for (listener, bind) in config.listeners.iter().zip(bound) {
        writeln!(out, "listening {} {bind}", listener.kind.name())?;
    }
    writeln!(out, "ready")?;
    out.flush()
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
            let given = given(all, reactor.sys_mut());
            let service = Web::files(config, &given, reactor.sys_mut()).map_err(named)?;
            stream(reactor, listener, how, service)
        }
        Kind::Admin(config) => {
            let given = given(all, reactor.sys_mut());
            let service = Web::admin(config, &given, reactor.sys_mut()).map_err(named)?;
            stream(reactor, listener, how, service)
        }
        Kind::Upload(config) => {
            let service = Upload::new(config, reactor.sys_mut())?;
            stream(reactor, listener, how, service)
        }
        Kind::Proxy(config) => {
            let given = given(all, reactor.sys_mut());
            let service = Web::proxy(config, &given, reactor.sys_mut()).map_err(named)?;
            stream(reactor, listener, how, service)
        }
    }
}

/// What a web server is told of the process.
fn given<'a>(listeners: &'a [ListenerConfig], sys: &mut impl Sys) -> Given<'a> {
    let mut id = [0; 4];
    sys.entropy(&mut id);
    Given {
        listeners,
        id: u32::from_ne_bytes(id),
        started: sys.wall(),
    }
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
        serves_while_draining: matches!(listener.kind, Kind::Admin(_)),
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

fn datagram<S: Sys, T: DatagramService + 'static>(
    reactor: &mut Reactor<S>,
    listener: &ListenerConfig,
    how: How<'_>,
    service: T,
) -> io::Result<Bind> {
    let (How::Open(Bind::Inet(address)) | How::Replace(Bind::Inet(address))) = how else {
        return Err(io::ErrorKind::Unsupported.into());
    };
    let options = DatagramOptions {
        name: listener.name.clone(),
        kind: listener.kind.name(),
        source_rate_max: listener
            .kind
            .datagram()
            .and_then(|keys| keys.source_rate_max)
            .map_or(0, std::num::NonZeroU32::get),
        source_port_min: listener.kind.source_port_min(),
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
    use crate::config::Overrides;
    use crate::sys::sim::Sim;
    use crate::sys::sim::actor::{Actor, Hands};
    use crate::sys::sim::talker::{Ending, Script, Talker};
    use crate::sys::{Batch, Signal};
    use std::time::Duration;

    fn parse(text: &str) -> Config {
        Config::parse(text, Path::new("x.toml"), &Overrides::default()).expect("a configuration")
    }

    /// A listener that is served, and the configuration in force.
    struct Bench {
        reactor: Reactor<Sim>,
        in_force: Option<InForce>,
    }

    impl Bench {
        fn new(text: &str) -> Self {
            let config = parse(text);
            let (reactor, bound) = open(Sim::new(1), &config).expect("the listeners open");
            Self {
                reactor,
                in_force: Some(InForce { config, bound }),
            }
        }

        /// Where each idle time-out is served, in its order: by it a test tells listeners apart.
        fn served(&self) -> Vec<(u64, String)> {
            let InForce { config, bound } = self.in_force.as_ref().expect("it is there");
            let seconds = |listener: &ListenerConfig| match &listener.kind {
                Kind::TcpEcho(config) => config.idle_timeout.as_secs(),
                _ => 0,
            };
            let mut served: Vec<_> = config
                .listeners
                .iter()
                .zip(bound)
                .map(|(listener, bound)| (seconds(listener), bound.to_string()))
                .collect();
            served.sort();
            served
        }

        fn reload(&mut self, text: &str) -> Vec<(u64, String)> {
            let was = self.in_force.take().expect("it is there");
            self.in_force = Some(reload(&mut self.reactor, was, parse(text)));
            self.served()
        }
    }

    fn echo(bind: &str, seconds: u64) -> String {
        format!("[[listener]]\nkind = 'tcp-echo'\nbind = '{bind}'\nidle_timeout = '{seconds}s'\n")
    }

    #[test]
    fn listeners_at_port_0_that_nothing_tells_apart_keep_their_ports() {
        let any = |seconds: &[u64]| -> String {
            seconds.iter().map(|s| echo("127.0.0.1:0", *s)).collect()
        };
        let mut bench = Bench::new(&any(&[1, 2, 3]));
        let first = bench.served();
        let at = |seconds: u64| first[seconds as usize - 1].1.clone();
        assert_eq!(bench.reload(&any(&[3, 1, 2])), first);
        assert_eq!(bench.reload(&any(&[3, 2])), [(2, at(2)), (3, at(3))]);
        // The one that is configured otherwise takes the place that is left.
        assert_eq!(bench.reload(&any(&[4, 3])), [(3, at(3)), (4, at(2))]);
        let added = bench.reload(&any(&[5, 4, 3]));
        assert_eq!(added[..2], [(3, at(3)), (4, at(2))]);
        assert!(!first.contains(&added[2]));
    }

    #[test]
    fn two_listeners_may_change_places() {
        let named =
            |name: &str, at: &str, seconds| echo(at, seconds) + &format!("name = '{name}'\n");
        let (here, there) = ("127.0.0.1:7", "127.0.0.1:8");
        let served = |a: u64, b: u64| vec![(a, here.to_owned()), (b, there.to_owned())];
        let mut bench = Bench::new(&(named("a", here, 1) + &named("b", there, 2)));
        assert_eq!(bench.served(), served(1, 2));
        let mut swapped = bench.reload(&(named("a", there, 1) + &named("b", here, 2)));
        swapped.sort_by_key(|(_, at)| at.clone());
        assert_eq!(swapped, served(2, 1));
    }

    #[test]
    fn addresses_that_come_and_go_leave_no_counters_behind() {
        let datagrams =
            |port: u16| format!("[[listener]]\nkind = 'udp-echo'\nbind = '127.0.0.1:{port}'\n");
        let both = |port: u16| echo(&format!("127.0.0.1:{port}"), 1) + &datagrams(port);
        let mut bench = Bench::new(&both(1000));
        for port in 1001..1100 {
            bench.reload(&both(port));
            let listeners = &bench.reactor.metrics().listeners;
            let address = format!("127.0.0.1:{port}");
            assert_eq!(listeners.len(), 2);
            assert!(listeners.iter().all(|(_, l)| l.address == address));
            assert!(listeners.capacity() <= 8);
        }
    }

    #[test]
    fn keys_go_before_the_options_of_resolv_conf() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("resolv.conf");
        let mut config = ResolverConfig {
            nameservers: Nameservers::System(path.clone()),
            hosts: folder.path().join("none"),
            ..ResolverConfig::default()
        };
        let told = |config: &ResolverConfig| {
            let (settings, _) = resolver_settings(config).expect("settings");
            (settings.attempts, settings.attempt_timeout)
        };
        let own = (dns::Config::ATTEMPTS, dns::Config::ATTEMPT_TIMEOUT);
        assert_eq!(told(&config), own);
        let text = "nameserver 192.0.2.1\nnameserver 192.0.2.2\noptions attempts:3 timeout:5\n";
        std::fs::write(&path, text).expect("a file");
        assert_eq!(told(&config), (2 * 3, Duration::from_secs(5)));
        config.attempts = Some(1);
        config.query_timeout = Some(Duration::from_millis(200));
        assert_eq!(told(&config), (1, Duration::from_millis(200)));
        config.hosts = folder.path().to_owned();
        let error = resolver_settings(&config).expect_err("a folder is no file");
        assert!(
            error
                .to_string()
                .contains(config.hosts.to_str().expect("a name")),
            "{error}"
        );
    }

    /// Sends a flood at once.
    struct Flood(usize);

    impl Actor for Flood {
        fn act(&mut self, hands: &mut Hands<'_>) {
            let own = hands.bind(([127, 0, 0, 1], 0).into());
            let own = own.expect("a free port");
            for _ in 0..std::mem::take(&mut self.0) {
                hands.send_to(own, ([127, 0, 0, 1], 7).into(), b"x");
            }
        }

        fn is_done(&self) -> bool {
            self.0 == 0
        }

        fn verdict(&self) -> Result<(), String> {
            Ok(())
        }
    }

    #[test]
    fn a_flooded_socket_gives_way_after_some_batches() {
        let flood = "[[listener]]\nkind = 'udp-echo'\nbind = '127.0.0.1:7'\n\
                     [limits]\ndatagram_batches = 2\n";
        let mut bench = Bench::new(flood);
        let sim = bench.reactor.sys_mut();
        sim.shape_network(Duration::ZERO, 1 << 20);
        sim.enter(Flood(200), Duration::ZERO);
        let mut received = vec![0];
        while received.last() != Some(&200) {
            bench.reactor.turn().expect("a turn");
            received.push(
                bench.reactor.metrics().listeners[0]
                    .of
                    .datagrams()
                    .map_or(0, |datagrams| datagrams.received),
            );
        }
        received.dedup();
        assert_eq!(received, [0, 2 * Batch::SLOTS as u64, 200]);
    }

    #[test]
    fn told_to_read_again_and_to_end_at_once_it_ends() {
        let mut bench = Bench::new(&echo("127.0.0.1:7", 1));
        let to = Bind::Inet(([127, 0, 0, 1], 7).into());
        // A client that does not read, so that there is something left to wait for.
        bench.reactor.sys_mut().enter(
            Talker::new(Script {
                question: vec![b'x'; 10 << 20],
                ending: Ending::Stuffed(Duration::from_secs(60)),
                ..Script::new(&to)
            }),
            Duration::ZERO,
        );
        while bench.reactor.metrics().listeners[0].bytes_in < 1 << 16 {
            assert_eq!(bench.reactor.turn().expect("a turn"), Turn::Continue);
        }
        for signal in [Signal::Reload, Signal::Terminate] {
            bench.reactor.sys_mut().send_signal(signal, Duration::ZERO);
        }
        let mut turns = (0..100_000).map(|_| bench.reactor.turn().expect("a turn"));
        assert_eq!(turns.find(|turn| *turn != Turn::Continue), Some(Turn::Stop));
    }
}
