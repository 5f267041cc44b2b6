//! Streams: how they come to be, over TCP and Unix sockets.
//!
//! Options are set once on the listening socket: Linux copies `TCP_NODELAY`, `TCP_NOTSENT_LOWAT`
//! and `SO_OOBINLINE` to the sockets it accepts (checked by a test below), which saves a system
//! call for each connection.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use rustix::fs::{self, FileType, Mode, OFlags};
use rustix::io::{Errno, retry_on_intr};
use rustix::net::{self, AddressFamily, SocketFlags, SocketType, sockopt};
use socket2::SockRef;

use super::files::lock_exclusive;
use crate::service::Peer;
use crate::sys::{Bind, UNTRUSTED_BYTES};

/// A listening socket; a Unix one takes its path with it when it is closed.
pub struct Listener {
    pub(super) socket: OwnedFd,
    _path: Option<SocketPath>,
}

impl Listener {
    /// Binds a socket and listens on it; the address that it got.
    pub(super) fn open(bind: &Bind, backlog: i32, client_first: bool) -> io::Result<(Self, Bind)> {
        let (socket, path) = match bind {
            Bind::Inet(address) => {
                let (socket, address) = socket_at(*address, SocketType::STREAM)?;
                sockopt::set_socket_reuseaddr(&socket, true)?;
                prepare(&socket, client_first)?;
                net::bind(&socket, &address)?;
                (socket, None)
            }
            Bind::Unix(path) => {
                let (socket, path) = bind_unix(path)?;
                (socket, Some(path))
            }
        };
        net::listen(&socket, backlog)?;
        let bound = match &path {
            Some(bound) => Bind::Unix(bound.path.clone()),
            None => Bind::Inet(local_address(&socket)?),
        };
        let listener = Listener {
            socket,
            _path: path,
        };
        Ok((listener, bound))
    }

    /// A socket that was given, which listens already, or that socket and why it cannot be used. Its
    /// backlog and its path are the giver's.
    pub(super) fn given(
        socket: OwnedFd,
        bound: &Bind,
        client_first: bool,
    ) -> Result<Self, (OwnedFd, io::Error)> {
        let prepared = match bound {
            Bind::Inet(_) => prepare(&socket, client_first),
            Bind::Unix(_) => Ok(()),
        };
        match prepared {
            Ok(()) => Ok(Self {
                socket,
                _path: None,
            }),
            Err(error) => Err((socket, error)),
        }
    }

    /// The next connection.
    pub(super) fn accept(&self) -> io::Result<(OwnedFd, Peer)> {
        let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
        let accepted = retry_on_intr(|| net::acceptfrom_with(&self.socket, flags));
        let (stream, address) = accepted?;
        let peer = address
            .and_then(|a| SocketAddr::try_from(a).ok())
            .map_or(Peer::Unix, |a| Peer::Inet(canonical(a)));
        Ok((stream, peer))
    }
}

/// Sets what each connection that a TCP socket accepts is to have.
fn prepare(socket: &OwnedFd, client_first: bool) -> io::Result<()> {
    sockopt::set_tcp_nodelay(socket, true)?;
    SockRef::from(socket).set_tcp_notsent_lowat(UNTRUSTED_BYTES)?;
    // Urgent data is data. A read stops short at its mark all the same: see `Event::read_closed`.
    sockopt::set_socket_oobinline(socket, true)?;
    match client_first {
        true => defer_accept(socket),
        false => Ok(()),
    }
}

/// Begins to connect.
pub(super) fn connect(to: SocketAddr) -> io::Result<OwnedFd> {
    let stream = inet_socket(to, SocketType::STREAM)?;
    sockopt::set_tcp_nodelay(&stream, true)?;
    match net::connect(&stream, &to) {
        // Interrupted, it goes on by itself (`man 2 connect` of POSIX, EINTR).
        Ok(()) | Err(Errno::INPROGRESS | Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    Ok(stream)
}

/// A socket to be bound at `address`, and where to bind it. The unspecified address of IPv6 is
/// every address of the machine: the socket takes IPv4 as well (`man 7 ipv6`, `IPV6_V6ONLY`), and
/// where there is no IPv6, it is that of IPv4.
pub(super) fn socket_at(
    address: SocketAddr,
    kind: SocketType,
) -> io::Result<(OwnedFd, SocketAddr)> {
    with_ipv4_instead(address, |address| {
        let socket = inet_socket(address, kind)?;
        if address.ip() == Ipv6Addr::UNSPECIFIED {
            sockopt::set_ipv6_v6only(&socket, false)?;
        }
        Ok(socket)
    })
}

fn with_ipv4_instead<T>(
    address: SocketAddr,
    open: impl Fn(SocketAddr) -> io::Result<T>,
) -> io::Result<(T, SocketAddr)> {
    match open(address) {
        Err(error)
            if address.ip() == Ipv6Addr::UNSPECIFIED
                && error.raw_os_error() == Some(libc::EAFNOSUPPORT) =>
        {
            let address = (Ipv4Addr::UNSPECIFIED, address.port()).into();
            Ok((open(address)?, address))
        }
        result => Ok((result?, address)),
    }
}

/// An address as its user writes it: a socket of both families has the IPv4 addresses of its peers
/// within IPv6 (RFC 4291 section 2.5.5.2).
pub(super) fn canonical(address: SocketAddr) -> SocketAddr {
    match address.ip().to_canonical() {
        IpAddr::V4(ip) => (ip, address.port()).into(),
        IpAddr::V6(_) => address,
    }
}

pub(super) fn inet_socket(address: SocketAddr, kind: SocketType) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    Ok(net::socket_with(
        family,
        kind,
        SocketFlags::NONBLOCK | SocketFlags::CLOEXEC,
        None,
    )?)
}

pub(super) fn local_address(socket: &OwnedFd) -> io::Result<SocketAddr> {
    inet_address(Some(net::getsockname(socket)?))
}

pub(super) fn inet_address(address: Option<net::SocketAddrAny>) -> io::Result<SocketAddr> {
    let address = address.and_then(|address| SocketAddr::try_from(address).ok());
    address.ok_or_else(|| io::Error::other("not an internet address"))
}

/// The path of a Unix socket that is bound. It goes with the socket, unless somebody else's stands
/// there by then.
struct SocketPath {
    path: PathBuf,
    identity: (u64, u64),
    _lock: PathLock,
}

/// The right to bind to a path: the lock on the file `PATH.lock`, held as long as the path. A probe
/// alone cannot tell a dead process's socket from one that is bound and about to listen: both
/// refuse a connection.
struct PathLock {
    path: PathBuf,
    _file: OwnedFd,
}

/// Binds a Unix socket; one that a dead process left behind is taken over, a live one's and any
/// other file is not.
fn bind_unix(path: &Path) -> io::Result<(OwnedFd, SocketPath)> {
    let lock = PathLock::take(path)?;
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let socket = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
    let address = net::SocketAddrUnix::new(path)?;
    match retry_on_intr(|| net::bind(&socket, &address)) {
        Err(Errno::ADDRINUSE) => {
            let found = FileType::from_raw_mode(lstat(path)?.st_mode);
            if found != FileType::Socket {
                let what = "something that is not a socket stands there; it is left as it is";
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, what));
            }
            let probe = net::socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
            if retry_on_intr(|| net::connect(&probe, &address)) != Err(Errno::CONNREFUSED) {
                return Err(Errno::ADDRINUSE.into());
            }
            retry_on_intr(|| fs::unlink(path))?;
            retry_on_intr(|| net::bind(&socket, &address))?;
        }
        result => result?,
    }
    let path = SocketPath {
        path: path.to_owned(),
        identity: identity(&lstat(path)?),
        _lock: lock,
    };
    Ok((socket, path))
}

fn lstat(path: &Path) -> rustix::io::Result<fs::Stat> {
    retry_on_intr(|| fs::lstat(path))
}

fn identity(stat: &fs::Stat) -> (u64, u64) {
    (stat.st_dev, stat.st_ino)
}

impl Drop for SocketPath {
    fn drop(&mut self) {
        if lstat(&self.path).is_ok_and(|found| identity(&found) == self.identity) {
            let _ = retry_on_intr(|| fs::unlink(&self.path)); // one that stays is taken over by the next start
        }
    }
}

impl PathLock {
    fn take(path: &Path) -> io::Result<Self> {
        let mut path = path.as_os_str().to_owned();
        path.push(".lock");
        let path = PathBuf::from(path);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        loop {
            let file = retry_on_intr(|| fs::open(&path, flags, Mode::RUSR | Mode::WUSR))?;
            if !lock_exclusive(&file)? {
                return Err(Errno::ADDRINUSE.into());
            }
            // Whoever held it may have removed it after we opened it: then it locks nobody else
            // out.
            let locked = identity(&retry_on_intr(|| fs::fstat(&file))?);
            if lstat(&path).is_ok_and(|found| identity(&found) == locked) {
                return Ok(Self { path, _file: file });
            }
        }
    }
}

impl Drop for PathLock {
    fn drop(&mut self) {
        let _ = retry_on_intr(|| fs::unlink(&self.path)); // still locked: the fields are dropped after this
    }
}

/// `SIOCOUTQ`: bytes in the send queue that were not acknowledged (`man 7 tcp`); of a Unix socket,
/// what was not read.
#[allow(unsafe_code)]
pub(super) fn unsent(stream: &OwnedFd) -> u64 {
    let mut bytes: libc::c_int = 0;
    // SAFETY: `TIOCOUTQ`, which is `SIOCOUTQ`, writes one `int` behind the pointer, which is valid
    // for the call.
    let result = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    match result {
        0 => u64::try_from(bytes).unwrap_or(0),
        _ => 0,
    }
}

/// `TCP_DEFER_ACCEPT` (`man 7 tcp`), with the least time there is: one retransmission of the
/// handshake's second segment.
#[allow(unsafe_code)]
fn defer_accept(listener: &OwnedFd) -> io::Result<()> {
    let seconds: libc::c_int = 1;
    // SAFETY: the option's value is one `int`, which is valid for the call.
    let result = unsafe {
        libc::setsockopt(
            listener.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_DEFER_ACCEPT,
            (&raw const seconds).cast(),
            size_of_val(&seconds) as libc::socklen_t,
        )
    };
    match result {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Sys;
    use crate::sys::unix::Unix;
    use std::io::Write as _;
    use std::time::Duration;

    #[test]
    fn a_connection_to_an_address_of_our_own_comes_from_that_address() {
        for ip in ["127.0.0.1", "::1"] {
            let mut sys = Unix::new(false).expect("a poll");
            let bind = Bind::Inet((ip.parse::<IpAddr>().expect("an address"), 0).into());
            let Ok((_listener, Bind::Inet(address))) = sys.listen(&bind, 1, false, 0) else {
                assert_eq!(ip, "::1", "not every machine has IPv6");
                continue;
            };
            let stream = sys.connect(address, 1).expect("a socket");
            let mut events = Vec::new();
            let ends = loop {
                if let Some(ends) = sys.connected(&stream).expect("a connection") {
                    break ends;
                }
                sys.poll(&mut events, None).expect("events");
            };
            assert_eq!(ends.peer, address);
            assert!(ends.are_one_machine(), "{ends:?}");
            assert_ne!(ends.local.port(), address.port());
        }
    }

    #[test]
    fn the_unspecified_address_is_every_address_of_the_machine_and_peers_have_their_own() {
        let mut sys = Unix::new(false).expect("a poll");
        let every = Bind::Inet((Ipv6Addr::UNSPECIFIED, 0).into());
        let (listener, bound) = sys.listen(&every, 2, false, 0).expect("a listener");
        let Bind::Inet(bound) = bound else {
            panic!("an address was asked for");
        };
        for ip in ["127.0.0.1", "::1"] {
            let ip: IpAddr = ip.parse().expect("an address");
            if ip.is_ipv6() && bound.is_ipv4() {
                continue; // not every machine has IPv6
            }
            let client = std::net::TcpStream::connect((ip, bound.port())).expect("a connection");
            let (_, peer) = sys.accept(&listener).expect("the connection");
            let own = client.local_addr().expect("an address");
            assert_eq!((peer, own.ip()), (Peer::Inet(own), ip));
        }
    }

    #[test]
    fn without_ipv6_every_address_is_every_address_of_ipv4() {
        let without = |address: SocketAddr| match address {
            SocketAddr::V4(_) => Ok(()),
            SocketAddr::V6(_) => Err(io::Error::from_raw_os_error(libc::EAFNOSUPPORT)),
        };
        let got = |text: &str| with_ipv4_instead(text.parse().expect("an address"), without);
        let (_, address) = got("[::]:80").expect("a socket");
        assert_eq!(address.to_string(), "0.0.0.0:80");
        got("[::1]:80").expect_err("that address is not there");
    }

    #[test]
    fn accepted_sockets_have_the_options_of_the_listening_one() {
        let mut sys = Unix::new(false).expect("a poll");
        let bind = Bind::Inet(([127, 0, 0, 1], 0).into());
        let (listener, bound) = sys.listen(&bind, 1, false, 0).expect("a listener");
        let Bind::Inet(address) = bound else {
            panic!("an address was asked for");
        };
        let _client = std::net::TcpStream::connect(address).expect("a connection");
        let (stream, _) = sys.accept(&listener).expect("the connection");
        assert!(sockopt::tcp_nodelay(&stream).expect("an option"));
        assert!(sockopt::socket_oobinline(&stream).expect("an option"));
        let unsent = || {
            SockRef::from(&stream)
                .tcp_notsent_lowat()
                .expect("an option")
        };
        assert_eq!(unsent(), UNTRUSTED_BYTES);
        sys.hold_at_most(&stream, u32::MAX);
        assert_eq!(unsent(), u32::MAX);
    }

    #[test]
    fn a_client_that_speaks_first_is_accepted_with_its_first_bytes_and_a_silent_one_later() {
        let mut sys = Unix::new(false).expect("a poll");
        let bind = Bind::Inet(([127, 0, 0, 1], 0).into());
        let (listener, bound) = sys.listen(&bind, 2, true, 0).expect("a listener");
        let Bind::Inet(address) = bound else {
            panic!("an address was asked for");
        };
        let _silent = std::net::TcpStream::connect(address).expect("a connection");
        let mut client = std::net::TcpStream::connect(address).expect("a connection");
        client.write_all(b"first").expect("a write");
        let mut accepted = || {
            let mut events = Vec::new();
            loop {
                match sys.accept(&listener) {
                    Ok((_, Peer::Inet(peer))) => break peer,
                    Ok((_, Peer::Unix)) => panic!("an internet address was asked for"),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
                sys.poll(&mut events, Some(Duration::from_secs(60)))
                    .expect("a poll");
            }
        };
        let spoke = client.local_addr().expect("an address");
        assert_eq!(accepted(), spoke, "the silent one came first");
        assert_ne!(accepted(), spoke);
    }

    #[test]
    fn a_listening_socket_that_was_shut_down_fails_for_ever_and_its_address_is_free_once_it_is_closed()
     {
        let mut sys = Unix::new(false).expect("a poll");
        let bind = Bind::Inet(([127, 0, 0, 1], 0).into());
        let (listener, bound) = sys.listen(&bind, 2, true, 0).expect("a listener");
        let Bind::Inet(address) = bound else {
            panic!("an address was asked for");
        };
        let _waiting = std::net::TcpStream::connect(address).expect("a connection");
        // As an administrator's `ss --kill` leaves it.
        net::shutdown(&listener.socket, net::Shutdown::Read).expect("a socket");
        for _ in 0..100 {
            let error = sys.accept(&listener).map(|_| ()).expect_err("it is broken");
            assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
        }
        sys.unlisten(listener);
        let (listener, again) = sys.listen(&bound, 2, false, 0).expect("a listener");
        assert_eq!(again, bound);
        let _client = std::net::TcpStream::connect(address).expect("a connection");
        sys.accept(&listener).expect("the connection");
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).expect("a folder");
        entries
            .map(|entry| entry.expect("an entry").file_name())
            .map(|name| name.to_string_lossy().into_owned())
            .collect()
    }

    #[test]
    fn a_file_that_is_no_socket_is_not_bound_over() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("site.conf");
        std::fs::write(&path, "precious").expect("a file");
        let mut sys = Unix::new(false).expect("a poll");
        let listened = sys.listen(&Bind::Unix(path.clone()), 1, false, 0);
        let error = listened.map(|_| ()).expect_err("no listener");
        assert!(error.to_string().contains("not a socket"), "{error}");
        assert_eq!(std::fs::read_to_string(path).expect("a file"), "precious");
        assert_eq!(names(dir.path()), ["site.conf"], "no lock is left behind");
    }

    #[test]
    fn a_socket_that_is_bound_and_does_not_listen_yet_is_not_taken_over() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("socket");
        let first = bind_unix(&path).expect("a socket");
        let error = bind_unix(&path).map(|_| ()).expect_err("it is taken");
        assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
        drop(first);
        drop(bind_unix(&path).expect("it is free"));
        assert!(names(dir.path()).is_empty());
    }

    #[test]
    fn the_end_of_a_listener_leaves_the_socket_of_another_process_alone() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("socket");
        let mut sys = Unix::new(false).expect("a poll");
        let (listener, _) = sys
            .listen(&Bind::Unix(path.clone()), 1, false, 0)
            .expect("a listener");
        std::fs::remove_file(&path).expect("it is there");
        let other = std::os::unix::net::UnixListener::bind(&path).expect("a listener");
        sys.unlisten(listener);
        assert_eq!(names(dir.path()), ["socket"]);
        drop(other);
    }
}
