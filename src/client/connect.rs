//! From a name to a connection: resolving within a time-out, then racing IPv6 and IPv4 (RFC 8305).
//!
//! Rules:
//! - Addresses are tried in the order of the resolver, families alternating (RFC 8305, section 4).
//!   The next attempt starts when the one before failed, or after [`ATTEMPT_DELAY`]; the first to
//!   succeed wins, the others are dropped.
//! - `getaddrinfo` and `connect` cannot be interrupted, so each runs on a thread of its own that is
//!   left behind at the time-out; the process is about to end then.
//! - UDP has nothing to race: the first address is used until the network says that nobody is
//!   there.

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, ToSocketAddrs, UdpSocket};
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::{Failure, Timeouts};
use crate::wire::idn;

/// How long one connection attempt has a head start on the next (RFC 8305, section 5).
pub const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Which addresses may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Family {
    /// All of them.
    #[default]
    Any,
    /// IPv4 only.
    V4,
    /// IPv6 only.
    V6,
}

/// Where to connect to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A name or address, without brackets, and a port.
    Net {
        /// The name or address.
        host: String,
        /// The port.
        port: u16,
    },
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Net { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Net { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl Target {
    /// A host as typed, brackets around an IPv6 address allowed, and a port.
    pub fn new(host: &str, port: u16) -> Self {
        let bare = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'))
            .unwrap_or(host);
        Self::Net {
            host: bare.to_owned(),
            port,
        }
    }

    /// Reads the leading arguments `HOST PORT` or `unix:PATH`, and answers what follows them.
    ///
    /// # Errors
    /// No port behind a host, or one that is no number from 1 to 65535.
    pub fn from_arguments<'a>(
        host: &str,
        rest: &'a [String],
    ) -> Result<(Self, &'a [String]), Failure> {
        if let Some(path) = host.strip_prefix("unix:") {
            return Ok((Self::Unix(path.into()), rest));
        }
        match rest.split_first() {
            Some((port, rest)) => Ok((Self::new(host, parse_port(port)?), rest)),
            None => Err(Failure::usage(format!(
                "expected a port behind the host {host:?}"
            ))),
        }
    }

    /// Reads `HOST:PORT`, `[ADDRESS]:PORT` or `unix:PATH`.
    ///
    /// # Errors
    /// Anything else.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        if let Some(path) = text.strip_prefix("unix:") {
            return Ok(Self::Unix(path.into()));
        }
        match text.rsplit_once(':') {
            Some((host, port)) if !host.is_empty() => Ok(Self::new(host, parse_port(port)?)),
            _ => Err(Failure::usage(format!("{text:?} is not HOST:PORT"))),
        }
    }

    /// Host and port as protocols carry them: the name in ASCII, an address without its zone, which
    /// means something on this machine only (RFC 6874, section 4).
    pub fn authority(&self) -> String {
        let Self::Net { host, port } = self else {
            return "localhost".to_owned();
        };
        let bare = host.split_once('%').map_or(&host[..], |(host, _zone)| host);
        let ascii = idn::to_ascii(bare).unwrap_or(bare.into());
        Self::new(&ascii, *port).to_string()
    }

    /// The name or address that the user gave, to be shown.
    pub fn host(&self) -> String {
        match self {
            Self::Net { host, .. } => host.clone(),
            Self::Unix(path) => path.display().to_string(),
        }
    }
}

fn parse_port(text: &str) -> Result<u16, Failure> {
    match text.parse() {
        Ok(port @ 1..) => Ok(port),
        _ => Err(Failure::usage(format!(
            "{text:?} is not a port: expected a number from 1 to 65535"
        ))),
    }
}

/// A connected stream.
#[derive(Debug)]
pub enum Connected {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
}

/// What connecting took.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ConnectTimes {
    /// Resolving the name.
    pub resolve: Duration,
    /// Connecting, the race included.
    pub connect: Duration,
}

/// Resolves and connects.
///
/// # Errors
/// The name is unknown, no address answers, or either takes too long; the message names all
/// addresses.
pub fn connect(
    target: &Target,
    family: Family,
    timeouts: &Timeouts,
) -> Result<(Connected, ConnectTimes), Failure> {
    let started = Instant::now();
    let (host, port) = match target {
        Target::Net { host, port } => (host, *port),
        Target::Unix(path) => {
            let stream = UnixStream::connect(path).map_err(|error| {
                Failure::unavailable(format!("{target}: cannot connect: {error}"))
            })?;
            return Ok((Connected::Unix(stream), ConnectTimes::default()));
        }
    };
    let addresses = resolve(host, port, family, timeouts)?;
    let resolve = started.elapsed();
    let stream = race(target, &interleaved(addresses), timeouts)?;
    // Requests are small and complete: waiting to fill segments would only add delay. Failing to
    // say so is no harm.
    let _ = stream.set_nodelay(true);
    Ok((
        Connected::Tcp(stream),
        ConnectTimes {
            resolve,
            connect: started.elapsed() - resolve,
        },
    ))
}

/// The addresses of a name, in the resolver's order; at least one.
///
/// # Errors
/// The name is unknown, has no address of the family, or the resolver takes too long.
pub fn resolve(
    host: &str,
    port: u16,
    family: Family,
    timeouts: &Timeouts,
) -> Result<Vec<SocketAddr>, Failure> {
    // An address needs no resolver, and no thread for it.
    if let Ok(address) = host.parse::<IpAddr>() {
        return of_family(host, vec![SocketAddr::from((address, port))], family);
    }
    let name = idn::to_ascii(host).map_err(Failure::usage)?;
    let (answer, answered) = mpsc::channel();
    let question = (name.into_owned(), port);
    thread::spawn(move || answer.send(question.to_socket_addrs().map(Vec::from_iter)));
    let wait = timeouts
        .step_until()
        .saturating_duration_since(Instant::now());
    let addresses = match answered.recv_timeout(wait) {
        Ok(Ok(addresses)) => addresses,
        Ok(Err(error)) => {
            return Err(Failure::unavailable(format!(
                "{host}: cannot resolve the name: {error}"
            )));
        }
        Err(_) => return Err(timeouts.timed_out("resolving the name", &host)),
    };
    of_family(host, addresses, family)
}

/// The addresses that may be used.
fn of_family(
    host: &str,
    addresses: Vec<SocketAddr>,
    family: Family,
) -> Result<Vec<SocketAddr>, Failure> {
    let fits = |address: &SocketAddr| match family {
        Family::Any => true,
        Family::V4 => address.is_ipv4(),
        Family::V6 => address.is_ipv6(),
    };
    let addresses: Vec<_> = addresses.into_iter().filter(fits).collect();
    if addresses.is_empty() {
        return Err(Failure::unavailable(format!(
            "{host}: the name has no address of the wanted family"
        )));
    }
    Ok(addresses)
}

/// Families alternate, beginning with that of the first address (RFC 8305, section 4).
fn interleaved(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (mut first, mut second): (Vec<_>, Vec<_>) = addresses
        .into_iter()
        .partition(|address| address.is_ipv6() == first_is_v6);
    first.reverse();
    second.reverse();
    let mut order = Vec::with_capacity(first.len() + second.len());
    while !first.is_empty() || !second.is_empty() {
        order.extend(first.pop());
        order.extend(second.pop());
    }
    order
}

/// Attempts one address after the other, each with a head start; the first connection wins.
fn race(
    target: &Target,
    addresses: &[SocketAddr],
    timeouts: &Timeouts,
) -> Result<TcpStream, Failure> {
    let until = timeouts.step_until();
    let (answer, answers) = mpsc::channel::<(SocketAddr, io::Result<TcpStream>)>();
    let mut waiting = addresses.iter();
    let mut under_way = 0;
    let mut errors = Vec::new();
    loop {
        if let Some(&address) = waiting.next() {
            let answer = answer.clone();
            let left = until
                .saturating_duration_since(Instant::now())
                .max(Duration::from_millis(1));
            thread::spawn(move || {
                answer.send((address, TcpStream::connect_timeout(&address, left)))
            });
            under_way += 1;
        }
        let left = until.saturating_duration_since(Instant::now());
        let pause = if waiting.len() > 0 {
            left.min(ATTEMPT_DELAY)
        } else {
            left
        };
        match answers.recv_timeout(pause) {
            Ok((_, Ok(stream))) => return Ok(stream),
            Ok((address, Err(error))) => {
                under_way -= 1;
                errors.push(format!("{address}: {}", reason(&error)));
                if under_way == 0 && waiting.len() == 0 {
                    return Err(connect_failure(target, &errors));
                }
            }
            Err(RecvTimeoutError::Timeout) if Instant::now() < until => {}
            Err(_) if errors.is_empty() => return Err(timeouts.timed_out("connecting", target)),
            Err(_) => {
                errors.push("the other addresses timed out".to_owned());
                return Err(connect_failure(target, &errors));
            }
        }
    }
}

/// One error per address; the address only where it says more than the target does.
fn connect_failure(target: &Target, errors: &[String]) -> Failure {
    let all = errors.join("; ");
    let prefix = format!("{target}: ");
    Failure::unavailable(format!(
        "{target}: cannot connect: {}",
        all.strip_prefix(&prefix).unwrap_or(&all)
    ))
}

/// The system's words for an error, without the number that follows them.
pub fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_lowercase(),
        None => text,
    }
}

/// A datagram socket that talks to one target.
///
/// Where the name has several addresses, the next one is tried when the network says that nobody is
/// at the one before, and no answer ever came: the latest datagram is sent again, to the next. What
/// says nothing cannot be told from loss, so silence changes nothing.
#[derive(Debug)]
pub struct Datagrams {
    socket: DatagramSocket,
    /// Addresses that were not tried, the next one last.
    others: Vec<SocketAddr>,
    latest: Vec<u8>,
}

/// What carries the datagrams.
#[derive(Debug)]
pub enum DatagramSocket {
    /// Over UDP.
    Udp(UdpSocket),
    /// Over a Unix socket, bound to a name of the kernel's choosing so that answers find it.
    Unix(UnixDatagram),
}

impl Datagrams {
    /// Resolves, binds a free port and connects it, so that only the target's datagrams and errors
    /// arrive.
    ///
    /// # Errors
    /// The name is unknown, or no address can be sent to.
    pub fn open(target: &Target, family: Family, timeouts: &Timeouts) -> Result<Self, Failure> {
        let (host, port) = match target {
            Target::Net { host, port } => (host, *port),
            Target::Unix(path) => {
                let socket = unix_datagram(path).map_err(|error| {
                    Failure::unavailable(format!("{target}: cannot connect: {}", reason(&error)))
                })?;
                return Ok(Self {
                    socket: DatagramSocket::Unix(socket),
                    others: Vec::new(),
                    latest: Vec::new(),
                });
            }
        };
        Self::to_first_of(interleaved(resolve(host, port, family, timeouts)?))
            .map_err(|errors| connect_failure(target, &errors))
    }

    /// The port of this end; `None` on a Unix socket.
    pub fn local_port(&self) -> Option<u16> {
        match &self.socket {
            DatagramSocket::Udp(socket) => socket.local_addr().ok().map(|local| local.port()),
            DatagramSocket::Unix(_) => None,
        }
    }

    /// Connects to the first address that can be sent to; the ones after it stay in reserve.
    fn to_first_of(mut others: Vec<SocketAddr>) -> Result<Self, Vec<String>> {
        others.reverse();
        let mut errors = Vec::new();
        while let Some(address) = others.pop() {
            match connected_udp(address) {
                Ok(socket) => {
                    return Ok(Self {
                        socket: DatagramSocket::Udp(socket),
                        others,
                        latest: Vec::new(),
                    });
                }
                Err(error) => errors.push(format!("{address}: {}", reason(&error))),
            }
        }
        Err(errors)
    }

    /// Sends one datagram.
    ///
    /// # Errors
    /// The system's, among them a refusal that an earlier datagram met.
    pub fn send(&mut self, datagram: &[u8]) -> io::Result<usize> {
        if !self.others.is_empty() {
            self.latest = datagram.to_vec();
        }
        match self.send_once(datagram) {
            Err(error) if self.falls_back(&error) => Ok(datagram.len()),
            sent => sent,
        }
    }

    fn send_once(&self, datagram: &[u8]) -> io::Result<usize> {
        match &self.socket {
            DatagramSocket::Udp(socket) => socket.send(datagram),
            DatagramSocket::Unix(socket) => socket.send(datagram),
        }
    }

    /// After a refusal: whether the latest datagram is on its way to another address now.
    fn falls_back(&mut self, error: &io::Error) -> bool {
        while error.kind() == io::ErrorKind::ConnectionRefused
            && let Some(address) = self.others.pop()
        {
            if let Ok(socket) = connected_udp(address) {
                self.socket = DatagramSocket::Udp(socket);
                return self.send_once(&self.latest).is_ok();
            }
        }
        false
    }

    /// Receives one datagram within `wait`; `None` when none came, or a signal did, or another
    /// address is tried.
    ///
    /// # Errors
    /// The system's, among them a refusal that an earlier datagram met.
    pub fn receive(&mut self, buffer: &mut [u8], wait: Duration) -> io::Result<Option<usize>> {
        // A time-out of nothing would mean for ever.
        let wait = Some(wait.max(Duration::from_micros(1)));
        let received = match &self.socket {
            DatagramSocket::Udp(socket) => socket
                .set_read_timeout(wait)
                .and_then(|()| socket.recv(buffer)),
            DatagramSocket::Unix(socket) => socket
                .set_read_timeout(wait)
                .and_then(|()| socket.recv(buffer)),
        };
        match received {
            Ok(bytes) => {
                self.others.clear();
                Ok(Some(bytes))
            }
            Err(error) if is_pause(&error) || self.falls_back(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Whether there are addresses in reserve.
    pub fn has_others(&self) -> bool {
        !self.others.is_empty()
    }

    /// The socket as it is, for a caller that cares for itself from here on.
    pub fn into_socket(self) -> DatagramSocket {
        self.socket
    }
}

fn connected_udp(address: SocketAddr) -> io::Result<UdpSocket> {
    let any = match address {
        SocketAddr::V4(_) => SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)),
        SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)),
    };
    let socket = UdpSocket::bind(any)?;
    socket.connect(address)?;
    Ok(socket)
}

/// Whether a call ended because time ran out or a signal came, not because something is wrong.
pub fn is_pause(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted
    )
}

/// Binds to an abstract name, of which the kernel has no file to leave behind.
fn unix_datagram(path: &std::path::Path) -> io::Result<UnixDatagram> {
    use std::os::linux::net::SocketAddrExt as _;
    let name = format!(
        "netlab-reactor-{}-{:?}",
        std::process::id(),
        thread::current().id()
    );
    let socket =
        UnixDatagram::bind_addr(&std::os::unix::net::SocketAddr::from_abstract_name(name)?)?;
    socket.connect(path)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    fn timeouts(millis: u64) -> Timeouts {
        Timeouts {
            timeout: Duration::from_millis(millis),
            until: None,
        }
    }

    #[test]
    fn targets() {
        let strings = |words: &[&str]| {
            words
                .iter()
                .map(|&word| word.to_owned())
                .collect::<Vec<_>>()
        };
        let words = strings(&["80", "a", "b"]);
        let (target, rest) = Target::from_arguments("[::1]", &words).unwrap();
        assert_eq!(
            (target.to_string().as_str(), rest),
            ("[::1]:80", &words[1..])
        );
        let (target, rest) = Target::from_arguments("unix:/run/x", &words).unwrap();
        assert_eq!(
            (target.to_string().as_str(), rest),
            ("unix:/run/x", &words[..])
        );
        for words in [
            strings(&[]),
            strings(&["0"]),
            strings(&["x"]),
            strings(&["65536"]),
        ] {
            assert!(Target::from_arguments("h", &words).is_err(), "{words:?}");
        }
        assert_eq!(Target::parse("[::1]:25").unwrap(), Target::new("::1", 25));
        assert!(Target::parse("host").is_err() && Target::parse(":25").is_err());
    }

    #[test]
    fn what_servers_see_of_a_target() {
        for (host, authority) in [
            ("a.test", "a.test:81"),
            ("[::1]", "[::1]:81"),
            ("fe80::5%lo", "[fe80::5]:81"),
            ("Bücher.example", "xn--bcher-kva.example:81"),
        ] {
            assert_eq!(Target::new(host, 81).authority(), authority);
        }
    }

    #[test]
    fn families_alternate() {
        let address = |text: &str| text.parse::<SocketAddr>().unwrap();
        let (a, b, c, d) = (
            address("[::1]:1"),
            address("[::2]:1"),
            address("1.1.1.1:1"),
            address("2.2.2.2:1"),
        );
        assert_eq!(interleaved(vec![a, b, c, d]), [a, c, b, d]);
        assert_eq!(interleaved(vec![c, a, b]), [c, a, b]);
    }

    #[test]
    fn a_dead_family_does_not_keep_the_other_from_winning() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let dead = SocketAddr::from((Ipv6Addr::LOCALHOST, port));
        let live = listener.local_addr().unwrap();
        let target = Target::new("localhost", port);
        let stream = race(&target, &[dead, live], &timeouts(5000)).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), live);
    }

    #[test]
    fn datagrams_go_to_the_next_address_when_nobody_is_at_the_first() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        let live = server.local_addr().unwrap();
        let dead = SocketAddr::from((Ipv6Addr::LOCALHOST, live.port()));
        let mut datagrams = Datagrams::to_first_of(vec![dead, live]).unwrap();
        datagrams.send(b"one").unwrap();
        let mut buffer = [0; 10];
        // The refusal of the first address arrives here.
        assert_eq!(
            datagrams
                .receive(&mut buffer, Duration::from_secs(5))
                .unwrap(),
            None
        );
        let (bytes, peer) = server.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..bytes], b"one");
        server.send_to(b"back", peer).unwrap();
        assert_eq!(
            datagrams
                .receive(&mut buffer, Duration::from_secs(5))
                .unwrap(),
            Some(4)
        );
        assert!(!datagrams.has_others());
    }

    #[test]
    fn a_refusal_names_the_address_once() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let failure = connect(
            &Target::new("127.0.0.1", address.port()),
            Family::Any,
            &timeouts(5000),
        )
        .unwrap_err();
        assert_eq!(
            failure.message,
            format!("{address}: cannot connect: connection refused")
        );
    }

    #[test]
    fn a_name_that_cannot_be_one_is_not_looked_up() {
        let target = Target::new("a\u{202e}b", 1);
        let failure = connect(&target, Family::Any, &timeouts(5000)).unwrap_err();
        assert_eq!(failure.exit, crate::client::Exit::Usage);
        assert!(failure.message.contains("is not a host name"), "{failure}");
    }

    #[test]
    fn an_unknown_name_is_said_to_be_one() {
        let failure = connect(
            &Target::new("no.such.name.invalid", 1),
            Family::Any,
            &timeouts(5000),
        )
        .unwrap_err();
        assert!(
            failure.message.starts_with("no.such.name.invalid: "),
            "{failure}"
        );
    }
}
