//! The service manager that started this process, as `man 3 sd_notify` has it: where it listens,
//! and how often it wants to hear of us.
//!
//! Rules:
//! - Nothing waits: the socket does not block, and what it does not take now is not sent.
//! - The address is used anew for each message, since a manager that was restarted listens there
//!   with another socket.
//! - Children are told none of it: see `children`.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use rustix::io::{Errno, retry_on_intr};
use rustix::net::{self, AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType};
use rustix::process::getpid;
use rustix::time::{ClockId, clock_gettime};

use crate::sys::News;

/// The variables of a service manager, which concern this process alone.
pub(super) const VARIABLES: [&str; 6] = [
    "NOTIFY_SOCKET",
    "WATCHDOG_USEC",
    "WATCHDOG_PID",
    "LISTEN_PID",
    "LISTEN_FDS",
    "LISTEN_FDNAMES",
];

/// Whom the process tells how it is; nobody by default.
#[derive(Default)]
pub(super) struct Supervisor {
    /// Our socket, and the manager's address.
    manager: Option<(OwnedFd, SocketAddrUnix)>,
    watchdog: Option<Duration>,
    /// It was logged that it cannot be told.
    is_failure_known: bool,
}

impl Supervisor {
    /// The one of the environment. What is wrong with that is logged, and nobody is told then: the
    /// manager finds out by itself.
    pub(super) fn of_environment() -> Self {
        let variable = |name: &str| env::var_os(name).filter(|value| !value.is_empty());
        Self::of(&variable)
    }

    fn of(variable: &dyn Fn(&str) -> Option<OsString>) -> Self {
        let Some(place) = variable("NOTIFY_SOCKET") else {
            return Self::default();
        };
        let socket = || {
            let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
            net::socket_with(AddressFamily::UNIX, SocketType::DGRAM, flags, None)
                .map_err(|error| error.to_string())
        };
        match address(&place).and_then(|address| Ok((socket()?, address))) {
            Ok(manager) => Self {
                manager: Some(manager),
                watchdog: watchdog(variable),
                is_failure_known: false,
            },
            Err(wrong) => {
                log::warn!("NOTIFY_SOCKET is {place:?}: {wrong}; the service manager is not told");
                Self::default()
            }
        }
    }

    /// Within what time the manager wants to hear that the loop turns, if it does.
    pub(super) fn watchdog(&self) -> Option<Duration> {
        self.watchdog
    }

    /// Tells it; whether it need not be told again.
    pub(super) fn tell(&mut self, news: &News) -> bool {
        let Some((socket, address)) = &self.manager else {
            return true;
        };
        let now = clock_gettime(ClockId::Monotonic);
        let usec = now.tv_sec as u64 * 1_000_000 + now.tv_nsec as u64 / 1000;
        let text = news.text(usec);
        let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
        match retry_on_intr(|| net::sendto(socket, text.as_bytes(), flags, address)) {
            Ok(_) => {
                self.is_failure_known = false;
                true
            }
            Err(Errno::AGAIN | Errno::NOBUFS) => false,
            Err(error) => {
                if !std::mem::replace(&mut self.is_failure_known, true) {
                    log::warn!("the service manager cannot be told: {error}");
                }
                false
            }
        }
    }
}

/// The address in `NOTIFY_SOCKET`: a path, or `@` and a name without a file (`man 7 unix`,
/// "abstract").
fn address(place: &OsStr) -> Result<SocketAddrUnix, String> {
    let bytes = place.as_bytes();
    let address = match bytes {
        [b'/', ..] => SocketAddrUnix::new(bytes),
        [b'@', name @ ..] if !name.is_empty() => SocketAddrUnix::new_abstract_name(name),
        _ => return Err("expected an absolute path or @NAME".to_owned()),
    };
    address.map_err(|error| error.to_string())
}

/// `WATCHDOG_USEC`, if it is meant for us (`man 3 sd_watchdog_enabled`).
fn watchdog(variable: &dyn Fn(&str) -> Option<OsString>) -> Option<Duration> {
    let number = |name: &str| {
        let value = variable(name)?;
        let number = value.to_str().and_then(|text| text.parse::<u64>().ok());
        if number.is_none() {
            log::warn!("{name} is {value:?}; expected an integer from 0 on");
        }
        number
    };
    let usec = number("WATCHDOG_USEC").filter(|usec| *usec > 0)?;
    let is_ours = match variable("WATCHDOG_PID") {
        None => true,
        Some(_) => number("WATCHDOG_PID") == u64::try_from(getpid().as_raw_nonzero().get()).ok(),
    };
    is_ours.then(|| Duration::from_micros(usec))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::os::linux::net::SocketAddrExt;
    use std::os::unix::net::{SocketAddr, UnixDatagram};

    fn supervisor(variables: &[(&str, &str)]) -> Supervisor {
        let all: BTreeMap<&str, &str> = variables.iter().copied().collect();
        Supervisor::of(&|name| all.get(name).map(OsString::from))
    }

    fn received(socket: &UnixDatagram) -> String {
        let mut bytes = [0; 200];
        let count = socket.recv(&mut bytes).expect("a message");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    }

    #[test]
    fn a_manager_at_a_path_or_at_an_abstract_name_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let at_path = UnixDatagram::bind(&path).expect("a socket");
        let name = format!("netlab-test-{}", getpid().as_raw_nonzero());
        let address = SocketAddr::from_abstract_name(&name).expect("a name");
        let at_name = UnixDatagram::bind_addr(&address).expect("a socket");
        let places = [
            (path.to_str().expect("UTF-8").to_owned(), at_path),
            (format!("@{name}"), at_name),
        ];
        for (place, socket) in places {
            let mut supervisor = supervisor(&[("NOTIFY_SOCKET", &place)]);
            assert!(supervisor.tell(&News::Alive));
            assert_eq!(received(&socket), "WATCHDOG=1");
            assert!(supervisor.tell(&News::Reloading));
            let text = received(&socket);
            let usec = text.lines().find_map(|l| l.strip_prefix("MONOTONIC_USEC="));
            assert!(usec.expect("it is there").parse::<u64>().expect("a number") > 0);
        }
    }

    #[test]
    fn a_full_socket_is_skipped_and_one_that_is_gone_is_no_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("notify");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        let mut supervisor = supervisor(&[("NOTIFY_SOCKET", path.to_str().expect("UTF-8"))]);
        let told = (0..100_000).take_while(|_| supervisor.tell(&News::Alive));
        let told = told.count();
        assert!((1..100_000).contains(&told), "{told} were taken");
        received(&socket);
        assert!(supervisor.tell(&News::Alive), "there is room again");
        drop(socket);
        assert!(!supervisor.tell(&News::Alive));
        std::fs::remove_file(&path).expect("a file");
        let socket = UnixDatagram::bind(&path).expect("a socket");
        assert!(supervisor.tell(&News::Alive), "another one listens there");
        assert_eq!(received(&socket), "WATCHDOG=1");
    }

    #[test]
    fn without_a_manager_all_is_told_already() {
        for place in ["", "relative", "@", "vsock:2:1"] {
            let mut nobody = match place {
                "" => supervisor(&[("WATCHDOG_USEC", "1000000")]),
                place => supervisor(&[("NOTIFY_SOCKET", place), ("WATCHDOG_USEC", "1000000")]),
            };
            assert!(nobody.tell(&News::Alive), "{place}");
            assert_eq!(nobody.watchdog(), None, "{place}");
        }
    }

    #[test]
    fn a_watchdog_is_that_of_this_process() {
        let ours = getpid().as_raw_nonzero().to_string();
        let cases = [
            (&[("WATCHDOG_USEC", "3000000")][..], Some(3)),
            (&[("WATCHDOG_USEC", "0")][..], None),
            (&[("WATCHDOG_USEC", "soon")][..], None),
            (
                &[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", &ours)][..],
                Some(3),
            ),
            (
                &[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "1")][..],
                None,
            ),
            (
                &[("WATCHDOG_USEC", "3000000"), ("WATCHDOG_PID", "x")][..],
                None,
            ),
        ];
        for (variables, seconds) in cases {
            let mut all = vec![("NOTIFY_SOCKET", "/run/nobody")];
            all.extend(variables);
            let expected = seconds.map(Duration::from_secs);
            assert_eq!(supervisor(&all).watchdog(), expected, "{variables:?}");
        }
    }
}
