//! Making a connection to an origin: one address after the other, each with its share of the time.
//!
//! ```text
//! addresses ──next──▶ Connecting ──event, connected──▶ Open
//!     ▲                   │
//!     └──refused, or its share of the time is over    none left ──▶ Failed(last reason)
//! ```
//!
//! The addresses come in the order of RFC 8305 section 4 (families interleaved), so that a dead
//! family costs one share.

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// The addresses that were not tried yet and the time that is left for them.
#[derive(Debug)]
pub(crate) struct Attempts {
    rest: VecDeque<SocketAddr>,
    until: Instant,
    /// When the attempt under way gives way to the next.
    pub(crate) attempt_until: Instant,
    /// Why the last one failed.
    pub(crate) failure: io::ErrorKind,
}

impl Attempts {
    pub(crate) fn new(addresses: Vec<SocketAddr>, timeout: Duration, now: Instant) -> Self {
        let until = now + timeout;
        Self {
            rest: addresses.into(),
            until,
            attempt_until: until,
            failure: io::ErrorKind::AddrNotAvailable,
        }
    }

    /// The next address to try, which has an equal share of the time that is left.
    pub(crate) fn next(&mut self, now: Instant) -> Option<SocketAddr> {
        let left = self.until.saturating_duration_since(now);
        let share = left / u32::try_from(self.rest.len().max(1)).unwrap_or(u32::MAX);
        self.attempt_until = now + share;
        if left.is_zero() {
            return None;
        }
        self.rest.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_address_has_its_share_and_a_quick_failure_leaves_more_for_the_rest() {
        let now = Instant::now();
        let [a, b, c] = [1, 2, 3].map(|port| SocketAddr::from(([127, 0, 0, 1], port)));
        let mut attempts = Attempts::new(vec![a, b, c], Duration::from_secs(6), now);
        assert_eq!(attempts.next(now), Some(a));
        assert_eq!(attempts.attempt_until, now + Duration::from_secs(2));
        assert_eq!(attempts.next(now), Some(b), "refused at once");
        assert_eq!(attempts.attempt_until, now + Duration::from_secs(3));
        let later = now + Duration::from_secs(3);
        assert_eq!(attempts.next(later), Some(c));
        assert_eq!(attempts.attempt_until, now + Duration::from_secs(6));
        assert_eq!(attempts.next(now + Duration::from_secs(6)), None);
    }

    #[test]
    fn no_address_is_a_failure_at_once() {
        let now = Instant::now();
        assert_eq!(
            Attempts::new(Vec::new(), Duration::from_secs(1), now).next(now),
            None
        );
    }
}
