//! How much each source may do in a second.
//!
//! Each source has a bucket that holds a burst and is filled at a rate. What is kept of it is the
//! moment at which it is full again (the "theoretical arrival time" of ITU-T I.371's GCRA): every
//! event puts that off by one interval, and one that would put it off beyond a whole burst is too
//! many.
//!
//! The table is bounded. When it is full, the sources whose buckets are full again are forgotten,
//! at most once in [`SWEEP_EVERY`]; where there is still no place, all sources that are not in it
//! share one bucket. So forged addresses can neither fill the memory nor take the sources seen
//! before out of it.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// The least time between two looks through a full table.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// The buckets of all sources.
#[derive(Debug)]
pub struct Rates<K> {
    /// `None` for no limit.
    limit: Option<Limit>,
    /// Sources that have a bucket of their own.
    sources_max: usize,
    full_at: HashMap<K, Instant, foldhash::fast::RandomState>,
    /// That of the others.
    others_full_at: Option<Instant>,
    swept_at: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Limit {
    /// From one event to the next at the rate.
    interval: Duration,
    /// How far in advance a bucket may be emptied: a burst, but for the event that is asked about.
    ahead_max: Duration,
}

impl<K: Hash + Eq> Rates<K> {
    /// `rate_max`: events a second, `None` for no limit; `burst_max`: those at a stroke, `None` for
    /// the events of a second.
    pub fn new(
        rate_max: Option<NonZeroU32>,
        burst_max: Option<NonZeroU32>,
        sources_max: usize,
    ) -> Self {
        let limit = rate_max.map(|rate| {
            let interval = Duration::from_secs(1) / rate.get();
            let ahead_max = interval * (burst_max.unwrap_or(rate).get() - 1);
            Limit {
                interval,
                ahead_max,
            }
        });
        Self {
            limit,
            sources_max,
            full_at: HashMap::default(),
            others_full_at: None,
            swept_at: None,
        }
    }

    /// One event of a source. Whether that is one too many; then it does not count.
    #[inline]
    pub fn exceeded(&mut self, source: K, now: Instant) -> bool {
        match self.limit {
            None => false,
            Some(limit) => self.exceeds(limit, source, now),
        }
    }

    fn exceeds(&mut self, limit: Limit, source: K, now: Instant) -> bool {
        let is_full = self.full_at.len() >= self.sources_max;
        if is_full && !self.full_at.contains_key(&source) {
            if self.swept_at.is_none_or(|at| now >= at + SWEEP_EVERY) {
                self.swept_at = Some(now);
                self.full_at.retain(|_, full_at| *full_at > now);
            }
            if self.full_at.len() >= self.sources_max {
                return limit.exceeded(self.others_full_at.get_or_insert(now), now);
            }
        }
        limit.exceeded(self.full_at.entry(source).or_insert(now), now)
    }
}

impl Limit {
    fn exceeded(self, full_at: &mut Instant, now: Instant) -> bool {
        let from = (*full_at).max(now);
        if from > now + self.ahead_max {
            return true;
        }
        *full_at = from + self.interval;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn rates(rate: u32, burst: u32, sources: usize) -> Rates<u32> {
        Rates::new(NonZeroU32::new(rate), NonZeroU32::new(burst), sources)
    }

    /// How many of `count` events at one moment are not too many.
    fn taken(rates: &mut Rates<u32>, source: u32, now: Instant, count: usize) -> usize {
        (0..count).filter(|_| !rates.exceeded(source, now)).count()
    }

    #[test]
    fn a_source_has_its_burst_and_then_its_rate_whatever_others_do() {
        let (mut rates, now) = (rates(10, 3, 16), Instant::now());
        assert_eq!(taken(&mut rates, 1, now, 9), 3);
        assert_eq!(taken(&mut rates, 2, now, 9), 3);
        let ms = |ms| now + Duration::from_millis(ms);
        assert_eq!(taken(&mut rates, 1, ms(99), 9), 0);
        assert_eq!(taken(&mut rates, 1, ms(100), 9), 1);
        assert_eq!(taken(&mut rates, 1, ms(350), 9), 2);
        assert_eq!(taken(&mut rates, 1, ms(100_000), 9), 3);
        // Those that were too many did not count.
        let at_rate: usize = (0..100).map(|i| taken(&mut rates, 3, ms(i * 50), 5)).sum();
        assert_eq!(at_rate, 3 + 49);
    }

    #[test]
    fn a_burst_is_a_second_unless_it_is_given() {
        for rate in [1, 2, 3, 7, 10_000] {
            let (mut rates, now) = (rates(rate, 0, 16), Instant::now());
            for second in 0..3 {
                let now = now + 2 * second * SECOND;
                assert_eq!(taken(&mut rates, 1, now, 20_000), rate as usize);
            }
        }
    }

    #[test]
    fn without_a_limit_nobody_is_kept() {
        let mut rates = rates(0, 5, 16);
        assert_eq!(taken(&mut rates, 1, Instant::now(), 1000), 1000);
        assert!(rates.full_at.is_empty());
    }

    #[test]
    fn a_full_table_counts_newcomers_together_and_keeps_those_in_it() {
        const SOURCES_MAX: usize = 1000;
        let (mut rates, now) = (rates(1, 1, SOURCES_MAX), Instant::now());
        for source in 0..SOURCES_MAX as u32 {
            assert_eq!(taken(&mut rates, source, now, 1), 1);
        }
        assert_eq!(taken(&mut rates, 5000, now, 1), 1);
        assert_eq!(taken(&mut rates, 5001, now, 1), 0, "newcomers share one");
        assert_eq!(taken(&mut rates, 0, now, 1), 0, "the first has its own");
        assert_eq!(rates.full_at.len(), SOURCES_MAX);
    }

    #[test]
    fn a_full_table_forgets_who_has_been_silent() {
        let (mut rates, now) = (rates(1, 5, 3), Instant::now());
        for source in 1..=3 {
            assert_eq!(taken(&mut rates, source, now, 9), 5);
        }
        // All are empty now; in 5 s they are full again, and newcomers have buckets of their own.
        assert_eq!(taken(&mut rates, 4, now + 4 * SECOND, 9), 5);
        assert!(!rates.full_at.contains_key(&4));
        assert_eq!(taken(&mut rates, 4, now + 6 * SECOND, 9), 5);
        assert_eq!(taken(&mut rates, 5, now + 6 * SECOND, 9), 5);
        assert!(rates.full_at.contains_key(&4) && rates.full_at.contains_key(&5));
    }

    #[test]
    fn the_highest_limits_are_limits() {
        let (mut rates, now) = (rates(u32::MAX, u32::MAX, 1), Instant::now());
        assert_eq!(taken(&mut rates, 1, now, 1000), 1000);
        let mut slow = Rates::new(NonZeroU32::new(1), NonZeroU32::new(u32::MAX), 1);
        assert!(!slow.exceeded(1, now));
    }
}
