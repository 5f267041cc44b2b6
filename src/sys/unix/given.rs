//! Sockets that a service manager opened and gave to this process (`man 3 sd_listen_fds`).
//!
//! ```text
//! of_environment ──▶ idle ⇄ lent to the listener at its address ──▶ closed, when nobody wants it
//! ```
//!
//! Rules:
//! - A socket is asked for by its address: who listens there gets it instead of binding.
//! - It is lent, and comes back when it is not listened on any more, so that it outlives a reload.
//! - Whoever gave it holds it as well, so that closing ours takes it out of no poll (`man 7 epoll`,
//!   question 6): it is taken out by hand.
//!
//! Not here: which listener is meant by a name (`serve::given`).

use std::borrow::Cow;
use std::env;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};

use mio::Poll;
use mio::unix::SourceFd;
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::net::{self, AddressFamily, SocketAddrUnix, SocketType, sockopt};
use rustix::process::getpid;

use super::datagrams;
use super::sockets::{Listener, inet_address};
use crate::sys::{Bind, GivenSocket};

/// The number of the first one (`SD_LISTEN_FDS_START`).
const FIRST: RawFd = 3;
/// More of them are taken for a mistake.
const COUNT_MAX: usize = 4096;

/// All that were given.
#[derive(Default)]
pub struct Given {
    all: Vec<Lent>,
}

struct Lent {
    socket: GivenSocket,
    /// `None` while a listener has it.
    idle: Option<OwnedFd>,
}

impl Given {
    /// Those of the environment; none if they are meant for another process. To be called before
    /// the process opens anything, once: whoever calls it again gets none.
    ///
    /// # Errors
    /// What is wrong with the variables or the sockets, and what was expected.
    pub fn of_environment() -> Result<Self, String> {
        static TAKEN: AtomicBool = AtomicBool::new(false);
        let variable = |name: &str| env::var_os(name).map(|v| v.to_string_lossy().into_owned());
        let told = told(&variable, getpid().as_raw_nonzero().get())?;
        if TAKEN.swap(true, Ordering::Relaxed) {
            return Ok(Self::default());
        }
        let take = |(place, name): (usize, Option<String>)| {
            let number = FIRST + place as RawFd;
            Ok((descriptor(number)?, name))
        };
        let all = told.into_iter().enumerate().map(take);
        Self::of(all.collect::<Result<_, String>>()?)
    }

    /// These sockets, with their names.
    ///
    /// # Errors
    /// One that no listener can use.
    pub fn of(sockets: Vec<(OwnedFd, Option<String>)>) -> Result<Self, String> {
        let mut all: Vec<Lent> = Vec::new();
        for (socket, name) in sockets {
            let number = socket.as_raw_fd();
            let (is_stream, bound) =
                examine(&socket).map_err(|wrong| format!("the given socket {number}: {wrong}"))?;
            let given = GivenSocket {
                number,
                name,
                is_own: false,
                is_stream,
                bound,
            };
            let is_same = |other: &&Lent| {
                (other.socket.is_stream, &other.socket.bound) == (is_stream, &given.bound)
            };
            if let Some(other) = all.iter().find(is_same) {
                let other = other.socket.number;
                return Err(format!(
                    "{given} has the address of {other}; expected one socket each"
                ));
            }
            let idle = Some(socket);
            all.push(Lent {
                socket: given,
                idle,
            });
        }
        Ok(Self { all })
    }

    /// Opens a socket for a listener before it asks for it, as another user than it will be; not
    /// where one was given already.
    ///
    /// # Errors
    /// Those of `bind(2)`.
    pub fn open(&mut self, at: Bind, is_stream: bool, backlog: i32) -> io::Result<()> {
        let is_it = |lent: &Lent| lent.socket.is_stream == is_stream && lent.socket.bound == at;
        let Bind::Inet(address) = at else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        if self.all.iter().any(is_it) {
            return Ok(());
        }
        let socket = match is_stream {
            true => Listener::open(&at, backlog, false)?.0.socket,
            false => datagrams::bind(address)?.0,
        };
        self.all.push(Lent {
            socket: GivenSocket {
                number: socket.as_raw_fd(),
                name: None,
                is_own: true,
                is_stream,
                bound: at,
            },
            idle: Some(socket),
        });
        Ok(())
    }

    /// What there is, lent or not.
    pub fn sockets(&self) -> Vec<GivenSocket> {
        self.all.iter().map(|lent| lent.socket.clone()).collect()
    }

    /// The one at this address, if it was given and nobody has it. One that does not listen any
    /// more, as it was shut down from outside, is given up.
    pub(super) fn lend(&mut self, is_stream: bool, bound: &Bind) -> Option<OwnedFd> {
        let is_it = |lent: &Lent| {
            let socket = &lent.socket;
            lent.idle.is_some() && socket.is_stream == is_stream && socket.bound == *bound
        };
        let place = self.all.iter().position(is_it)?;
        let socket = self.all[place].idle.take()?;
        if is_stream && sockopt::socket_acceptconn(&socket) != Ok(true) {
            log::warn!("{} does not listen any more", self.all[place].socket);
            self.all.remove(place);
            return None;
        }
        Some(socket)
    }

    /// Takes a socket back that was lent; any other one is closed.
    pub(super) fn take_back(&mut self, socket: OwnedFd, poll: &Poll) {
        let number = socket.as_raw_fd();
        let is_it = |lent: &&mut Lent| lent.idle.is_none() && lent.socket.number == number;
        if let Some(lent) = self.all.iter_mut().find(is_it) {
            // Not registered: then there is nothing to take out.
            let _ = poll.registry().deregister(&mut SourceFd(&number));
            lent.idle = Some(socket);
        }
    }

    /// Closes one that nobody listens on; whether it was there.
    pub fn close(&mut self, number: i32) -> bool {
        let before = self.all.len();
        self.all
            .retain(|lent| lent.socket.number != number || lent.idle.is_none());
        self.all.len() < before
    }
}

/// The names of the sockets that the variables tell of, in the order of their numbers.
fn told(
    variable: &dyn Fn(&str) -> Option<String>,
    process: i32,
) -> Result<Vec<Option<String>>, String> {
    let (Some(count), Some(pid)) = (variable("LISTEN_FDS"), variable("LISTEN_PID")) else {
        return Ok(Vec::new());
    };
    let pid_number: i32 = pid
        .parse()
        .map_err(|_| format!("LISTEN_PID is {pid:?}; expected the number of a process"))?;
    if pid_number != process {
        log::info!("LISTEN_FDS is for process {pid}, not for this one: not used");
        return Ok(Vec::new());
    }
    let parsed = count.parse().ok().filter(|count| *count <= COUNT_MAX);
    let Some(count) = parsed else {
        return Err(format!(
            "LISTEN_FDS is {count:?}; expected an integer from 0 to {COUNT_MAX}"
        ));
    };
    let names = match variable("LISTEN_FDNAMES") {
        None => vec![None; count],
        Some(_) if count == 0 => Vec::new(),
        Some(names) => {
            let name = |name: &str| (!name.is_empty()).then(|| name.to_owned());
            names.split(':').map(name).collect()
        }
    };
    match names.len() == count {
        true => Ok(names),
        false => Err(format!(
            "LISTEN_FDNAMES has {} names for the {count} sockets of LISTEN_FDS; expected one each",
            names.len()
        )),
    }
}

/// A descriptor that was given, ours from now on: commands that are run do not get it.
#[allow(unsafe_code)]
fn descriptor(number: RawFd) -> Result<OwnedFd, String> {
    // SAFETY: the descriptor is open, since its flags can be read, and nobody else in this process
    // has it: the manager says that it is for us, nothing was opened before (the caller's duty),
    // and each number is asked for once.
    let socket = unsafe {
        match libc::fcntl(number, libc::F_GETFD) {
            -1 => return Err(format!("descriptor {number} of LISTEN_FDS is not open")),
            _ => OwnedFd::from_raw_fd(number),
        }
    };
    fcntl_setfd(&socket, FdFlags::CLOEXEC)
        .map_err(|error| format!("descriptor {number} of LISTEN_FDS: {error}"))?;
    Ok(socket)
}

/// Whether connections come to it, and where it is bound. It does not block from now on, for its
/// other holders neither.
fn examine(socket: &OwnedFd) -> Result<(bool, Bind), String> {
    let text = |error: Errno| error.to_string();
    let expected = "expected a listening TCP or Unix stream socket, or a UDP socket";
    let kind = match sockopt::socket_type(socket) {
        Err(Errno::NOTSOCK) => return Err(format!("it is not a socket; {expected}")),
        kind => kind.map_err(text)?,
    };
    let family = sockopt::socket_domain(socket).map_err(text)?;
    let is_stream = match (kind, family) {
        (SocketType::STREAM, _) => true,
        (SocketType::DGRAM, AddressFamily::INET | AddressFamily::INET6) => false,
        _ => return Err(format!("it is of another type; {expected}")),
    };
    if is_stream && !sockopt::socket_acceptconn(socket).map_err(text)? {
        let what = "it does not listen (a connection, as with Accept=yes?)";
        return Err(format!("{what}; {expected}"));
    }
    let address = net::getsockname(socket).map_err(text)?;
    let bound = match family {
        AddressFamily::UNIX => {
            let address = SocketAddrUnix::try_from(address).map_err(text)?;
            let path = address.path().map(Cow::into_owned);
            let path = path.and_then(|path| path.into_string().ok());
            let Some(path) = path.filter(|path| !path.is_empty()) else {
                return Err("it has no path of UTF-8; expected one".to_owned());
            };
            Bind::Unix(PathBuf::from(path))
        }
        AddressFamily::INET | AddressFamily::INET6 => {
            Bind::Inet(inet_address(Some(address)).map_err(|error| error.to_string())?)
        }
        _ => return Err(format!("it is of another family; {expected}")),
    };
    let flags = fcntl_getfl(socket).map_err(text)?;
    fcntl_setfl(socket, flags | OFlags::NONBLOCK).map_err(text)?;
    Ok((is_stream, bound))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::unix::Unix;
    use crate::sys::{Event, Sys};
    use std::collections::BTreeMap;
    use std::io::{ErrorKind, Write};
    use std::net::{TcpListener, TcpStream, UdpSocket};
    use std::os::unix::net::UnixListener;
    use std::time::Duration;

    fn told_by(variables: &[(&str, &str)]) -> Result<Vec<Option<String>>, String> {
        let all: BTreeMap<&str, &str> = variables.iter().copied().collect();
        told(&|name| all.get(name).map(|&value| value.to_owned()), 7)
    }

    #[test]
    fn the_variables_tell_how_many_and_their_names() {
        let (pid, fds, names) = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES");
        assert_eq!(told_by(&[]), Ok(vec![]));
        assert_eq!(told_by(&[(fds, "2")]), Ok(vec![]));
        assert_eq!(told_by(&[(pid, "8"), (fds, "2")]), Ok(vec![]));
        assert_eq!(told_by(&[(pid, "7"), (fds, "2")]), Ok(vec![None, None]));
        let named = |of: &str| told_by(&[(pid, "7"), (fds, "2"), (names, of)]);
        assert_eq!(named("a:"), Ok(vec![Some("a".to_owned()), None]));
        let wrong = named("a:b:c").expect_err("three names");
        assert!(wrong.contains("3 names for the 2 sockets"), "{wrong}");
        for (count, process) in [("x", "7"), ("-1", "7"), ("5000", "7"), ("1", "me")] {
            let wrong = told_by(&[(pid, process), (fds, count)]).expect_err("no number");
            assert!(wrong.contains("expected"), "{wrong}");
        }
    }

    fn given(socket: impl Into<OwnedFd>, name: &str) -> Result<Given, String> {
        Given::of(vec![(socket.into(), Some(name.to_owned()))])
    }

    #[test]
    fn what_no_listener_can_use_is_refused_with_its_number() {
        let file = std::fs::File::open("/dev/null").expect("it is there");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let connection = TcpStream::connect(listener.local_addr().expect("an address"));
        let (pair, _other) = std::os::unix::net::UnixDatagram::pair().expect("a pair");
        let all: [(OwnedFd, &str); 3] = [
            (file.into(), "not a socket"),
            (connection.expect("a connection").into(), "does not listen"),
            (pair.into(), "another type"),
        ];
        for (socket, why) in all {
            let number = socket.as_raw_fd();
            let wrong = given(socket, "x").err().expect("it is refused");
            assert!(
                wrong.starts_with(&format!("the given socket {number}: ")),
                "{wrong}"
            );
            assert!(wrong.contains(why) && wrong.contains("expected"), "{wrong}");
        }
        let twice = vec![
            (listener.try_clone().expect("another").into(), None),
            (listener.into(), None),
        ];
        let wrong = Given::of(twice).err().expect("it is refused");
        assert!(wrong.contains("expected one socket each"), "{wrong}");
    }

    #[test]
    fn who_listens_at_its_address_has_it_and_it_outlives_that() {
        let outside = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let address = outside.local_addr().expect("an address");
        let bind = Bind::Inet(address);
        let ours = outside.try_clone().expect("another");
        let mut sys = Unix::new(false)
            .expect("a poll")
            .with_given(given(ours, "web").expect("it is one"));
        let mut events: Vec<Event> = Vec::new();
        for round in 1..=3 {
            let (listener, bound) = sys.listen(&bind, 10, true, 5).expect("it has one");
            assert_eq!(bound, bind);
            assert_eq!(sys.given().sockets().len(), 1);
            let mut client = TcpStream::connect(address).expect("a connection");
            client.write_all(b"x").expect("a connection");
            sys.poll(&mut events, Some(Duration::from_secs(5)))
                .expect("events");
            assert!(events.iter().any(|event| event.token == 5), "round {round}");
            events.clear();
            sys.accept(&listener).expect("a connection");
            let would_block = sys.accept(&listener).expect_err("there is one only");
            assert_eq!(would_block.kind(), ErrorKind::WouldBlock);
            sys.unlisten(listener);
            // It listens outside, and tells us nothing any more.
            let mut waiting = TcpStream::connect(address).expect("a connection");
            waiting.write_all(b"x").expect("a connection");
            sys.poll(&mut events, Some(Duration::from_millis(50)))
                .expect("no events");
            assert_eq!(events, []);
            outside.accept().expect("it waited");
        }
        let number = sys.given().sockets()[0].number;
        assert!(sys.given().close(number) && !sys.given().close(number));
        let error = sys
            .listen(&bind, 10, true, 5)
            .err()
            .expect("it is bound outside");
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
    }

    #[test]
    fn sockets_for_datagrams_and_at_paths_are_lent_as_well() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("web.sock");
        let unix = UnixListener::bind(&path).expect("a socket");
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let address = udp.local_addr().expect("an address");
        let all = Given::of(vec![(unix.into(), None), (udp.into(), None)]);
        let mut sys = Unix::new(false)
            .expect("a poll")
            .with_given(all.expect("two"));
        for _ in 0..2 {
            let (listener, bound) = sys
                .listen(&Bind::Unix(path.clone()), 10, false, 1)
                .expect("it has one");
            assert_eq!(bound, Bind::Unix(path.clone()));
            let (socket, bound) = sys.bind_datagram(address, 2).expect("it has one");
            assert_eq!(bound, address);
            sys.unlisten(listener);
            assert!(path.exists(), "the path is not ours");
            sys.close_datagram(socket);
        }
    }

    #[test]
    fn one_that_was_shut_down_is_given_up() {
        let outside = TcpListener::bind("127.0.0.1:0").expect("a socket");
        let bind = Bind::Inet(outside.local_addr().expect("an address"));
        let ours = outside.try_clone().expect("another");
        let mut given = given(ours, "web").expect("it is one");
        net::shutdown(&outside, net::Shutdown::Both).expect("a socket");
        assert!(given.lend(true, &bind).is_none());
        assert_eq!(given.sockets(), []);
    }
}
