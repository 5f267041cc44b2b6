//! Which address of an origin is tried when: RFC 8305 section 5 ("Happy Eyeballs").
//!
//! ```text
//! addresses ──the first at once, each further one a delay after the last──▶ attempts under way
//!     ▲                                                                        │
//!     └──────────────────── one failed: the next at once ──────────────────────┤
//!                                                                              ▼
//!                                  the first that is made wins      none left, or the time is over:
//!                                                                   the last reason
//! ```
//!
//! The addresses come in the order of section 4, families interleaved ([`crate::dns`]), so that a
//! family that leads nowhere costs one delay. Pure: who has the sockets is [`super::upstream`].

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The addresses that were not tried yet, and the time for them.
#[derive(Debug)]
pub(super) struct Race {
    rest: VecDeque<SocketAddr>,
    until: Instant,
    delay: Duration,
    /// When the next one is to be tried.
    next_at: Instant,
    /// Why the last attempt failed.
    failure: io::ErrorKind,
}

impl Race {
    /// A race that begins now. `timeout`: for all addresses together. `delay`: the start that an
    /// attempt has on the next one.
    pub(super) fn new(
        addresses: Vec<SocketAddr>,
        timeout: Duration,
        delay: Duration,
        now: Instant,
    ) -> Self {
        Self {
            rest: addresses.into(),
            until: now + timeout,
            delay,
            next_at: now,
            failure: io::ErrorKind::AddrNotAvailable,
        }
    }

    /// The next address, if it is to be tried now.
    pub(super) fn next(&mut self, now: Instant) -> Option<SocketAddr> {
        if now < self.next_at || now >= self.until {
            return None;
        }
        self.next_at = now + self.delay;
        self.rest.pop_front()
    }

    /// An attempt failed: the next one does not wait any longer.
    pub(super) fn failed(&mut self, kind: io::ErrorKind, now: Instant) {
        self.failure = kind;
        self.next_at = self.next_at.min(now);
    }

    /// Why no connection can be made any more, with so many attempts under way.
    pub(super) fn failure(&self, under_way: usize, now: Instant) -> Option<io::ErrorKind> {
        match self.rest.is_empty() && under_way == 0 {
            true => Some(self.failure),
            false => (now >= self.until).then_some(io::ErrorKind::TimedOut),
        }
    }

    /// When the time is over.
    pub(super) fn until(&self) -> Instant {
        self.until
    }

    /// When it is to be looked at again, whatever happens.
    pub(super) fn deadline(&self) -> Instant {
        match self.rest.is_empty() {
            true => self.until,
            false => self.next_at.min(self.until),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(250);
    const TIMEOUT: Duration = Duration::from_secs(5);

    fn race(now: Instant) -> (Race, [SocketAddr; 3]) {
        let addresses = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        (Race::new(addresses.into(), TIMEOUT, DELAY, now), addresses)
    }

    #[test]
    fn each_attempt_has_a_start_on_the_next_one() {
        let now = Instant::now();
        let (mut race, [a, b, c]) = race(now);
        assert_eq!((race.next(now), race.next(now)), (Some(a), None));
        assert_eq!(race.deadline(), now + DELAY);
        assert_eq!(race.next(now + DELAY), Some(b));
        assert_eq!(race.next(now + DELAY * 3 / 2), None);
        assert_eq!(race.next(now + DELAY * 2), Some(c));
        assert_eq!(race.deadline(), now + TIMEOUT, "all are under way");
        assert_eq!(race.failure(3, now + TIMEOUT / 2), None);
        let over = Some(io::ErrorKind::TimedOut);
        assert_eq!(race.failure(3, now + TIMEOUT), over);
    }

    #[test]
    fn a_failure_starts_the_next_at_once_and_the_last_reason_is_told() {
        let now = Instant::now();
        let (mut race, [a, b, c]) = race(now);
        assert_eq!(race.next(now), Some(a));
        race.failed(io::ErrorKind::ConnectionRefused, now);
        assert_eq!(race.next(now), Some(b));
        let later = now + DELAY / 2;
        race.failed(io::ErrorKind::HostUnreachable, later);
        assert_eq!(race.failure(0, later), None, "one is left");
        assert_eq!((race.next(later), race.next(later)), (Some(c), None));
        assert_eq!(race.failure(1, later), None);
        race.failed(io::ErrorKind::ConnectionRefused, later);
        let refused = Some(io::ErrorKind::ConnectionRefused);
        assert_eq!(race.failure(0, later), refused);
    }

    #[test]
    fn nothing_is_begun_when_the_time_is_over_or_there_is_no_address() {
        let now = Instant::now();
        let (mut late, _) = race(now);
        assert_eq!(late.next(now + TIMEOUT), None);
        let mut none = Race::new(Vec::new(), TIMEOUT, DELAY, now);
        assert_eq!(none.next(now), None);
        let nowhere = Some(io::ErrorKind::AddrNotAvailable);
        assert_eq!(none.failure(0, now), nowhere);
    }
}
