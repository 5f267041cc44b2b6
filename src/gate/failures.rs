//! Who gave wrong passwords of late: what is counted by the protocols that ask for some, and looked at
//! before another one is checked.
//!
//! The rule: who sent too many within [`FAILURES_FOR`] has no other one checked until it is over, right
//! or wrong. Who has no address is one of many, and not counted.
//!
//! Not here: what such a client is told.

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// For how long wrong passwords of a client are counted together.
pub const FAILURES_FOR: Duration = Duration::from_secs(60);
/// Of how many clients.
const FAILING_CLIENTS_MAX: usize = 65_536;

/// Wrong passwords of the clients that sent some of late.
#[derive(Debug)]
pub struct Failures {
    /// How many each sent since when.
    of: HashMap<IpAddr, (u32, Instant), foldhash::fast::RandomState>,
    /// `None` for no limit.
    most: Option<NonZeroU32>,
}

impl Failures {
    /// Nobody was wrong yet; each may be so often.
    pub fn new(most: Option<NonZeroU32>) -> Self {
        Self {
            of: HashMap::default(),
            most,
        }
    }

    /// Whether a client sent too many.
    pub fn are_too_many(&self, client: Option<IpAddr>, now: Instant) -> bool {
        let failures = client.and_then(|client| self.of.get(&client));
        let many = |(count, since): &(u32, Instant)| {
            let is_recent = now < *since + FAILURES_FOR;
            is_recent && self.most.is_some_and(|most| *count >= most.get())
        };
        failures.is_some_and(many)
    }

    /// A client sent one.
    pub fn add(&mut self, client: Option<IpAddr>, now: Instant) {
        let (Some(client), Some(_)) = (client, self.most) else {
            return;
        };
        let is_recent = |since: Instant| now < since + FAILURES_FOR;
        if self.of.len() >= FAILING_CLIENTS_MAX {
            self.of.retain(|_, (_, since)| is_recent(*since));
        }
        if self.of.len() >= FAILING_CLIENTS_MAX && !self.of.contains_key(&client) {
            return; // so many guess together that the line of checks is what slows them
        }
        let (count, since) = self.of.entry(client).or_insert((0, now));
        if !is_recent(*since) {
            (*count, *since) = (0, now);
        }
        *count += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(n: u8) -> Option<IpAddr> {
        Some([192, 0, 2, n].into())
    }

    #[test]
    fn who_was_wrong_too_often_has_nothing_checked_for_a_minute() {
        let (mut failures, now) = (Failures::new(NonZeroU32::new(3)), Instant::now());
        for n in 0..3 {
            assert!(!failures.are_too_many(client(1), now), "{n}");
            failures.add(client(1), now + Duration::from_secs(n));
        }
        let last = now + FAILURES_FOR - Duration::from_millis(1);
        assert!(failures.are_too_many(client(1), last));
        assert!(
            !failures.are_too_many(client(2), now),
            "others are not meant"
        );
        assert!(!failures.are_too_many(client(1), now + FAILURES_FOR));
        failures.add(client(1), now + FAILURES_FOR);
        assert!(!failures.are_too_many(client(1), now + FAILURES_FOR));
        for _ in 0..9 {
            failures.add(None, now);
        }
        assert!(
            !failures.are_too_many(None, now),
            "nobody answers for others"
        );
    }

    #[test]
    fn without_a_limit_nobody_is_counted() {
        let (mut failures, now) = (Failures::new(None), Instant::now());
        for _ in 0..1000 {
            failures.add(client(1), now);
        }
        assert!(!failures.are_too_many(client(1), now));
        assert!(failures.of.is_empty());
    }
}
