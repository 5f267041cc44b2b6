//! How long something took, counted in buckets: sixteen to a doubling, so that what is told of one
//! is off by a sixteenth at most, or by three microseconds.
//!
//! ```text
//! 0 ─ 3.125 µs ─ 6.25 ─ … ─ 50 ─ 53.125 ─ … ─ 100 ─ 106.25 ─ … ─ 6.5536 s ─ longer
//! ```

use std::time::Duration;

/// The width of the first buckets: sixteen of them are the first bound that is shown.
const UNIT_NS: u64 = 3125;
/// Buckets to a doubling.
const STEPS: usize = 16;
/// Doublings: the last bound is 50 us times two so many times.
const DOUBLINGS: usize = 17;
/// All buckets but the last, which has what is longer.
const BOUNDED: usize = STEPS * (DOUBLINGS + 1);

/// Spans of time, by length.
#[derive(Debug, Clone)]
pub struct Histogram {
    /// Those of each bucket alone; the last are beyond all bounds.
    counts: [u64; BOUNDED + 1],
    sum_ns: u64,
}

/// A span of time, and where it is counted.
#[derive(Clone, Copy, Debug)]
pub struct Span {
    ns: u64,
    place: usize,
}

impl From<Duration> for Span {
    #[inline]
    fn from(span: Duration) -> Self {
        let ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        Self {
            ns,
            place: place(ns),
        }
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: [0; BOUNDED + 1],
            sum_ns: 0,
        }
    }
}

/// The bucket of a span: each has its upper bound and not its lower one.
#[inline]
fn place(ns: u64) -> usize {
    let units = ns.saturating_sub(1) / UNIT_NS;
    let doublings = (units | 1).ilog2().saturating_sub(STEPS.ilog2());
    let place = STEPS * doublings as usize + (units >> doublings) as usize;
    place.min(BOUNDED)
}

/// The upper bound of a bucket.
fn bound_ns(place: usize) -> u64 {
    let doublings = (place / STEPS).saturating_sub(1);
    let step = place - STEPS * doublings;
    ((step as u64 + 1) << doublings) * UNIT_NS
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / 1e9
}

impl Histogram {
    /// Counts so many of one length.
    #[inline]
    pub fn record(&mut self, span: Span, count: u32) {
        self.counts[span.place] += u64::from(count);
        self.sum_ns = (span.ns.saturating_mul(count.into())).saturating_add(self.sum_ns);
    }

    /// Bounds in seconds, each twice the one before, and how many were not longer.
    pub fn buckets(&self) -> impl Iterator<Item = (f64, u64)> {
        let mut sum = 0;
        let doublings = self.counts[..BOUNDED].chunks(STEPS).enumerate();
        doublings.map(move |(doubling, counts)| {
            sum += counts.iter().sum::<u64>();
            (seconds(bound_ns(STEPS * (doubling + 1) - 1)), sum)
        })
    }

    /// The buckets that are not empty: their upper bounds in seconds, and how many are in each
    /// alone. Of those beyond all bounds it is the last bound.
    pub fn filled(&self) -> impl Iterator<Item = (f64, u64)> {
        let counts = self.counts.iter().enumerate();
        let filled = counts.filter(|(_, count)| **count > 0);
        filled.map(|(place, count)| (seconds(bound_ns(place.min(BOUNDED - 1))), *count))
    }

    /// The shortest bound in seconds within which so large a part of all are, from 0 to 1; `None`
    /// if there were none.
    pub fn quantile_s(&self, part: f64) -> Option<f64> {
        let rank = (self.count() as f64 * part).ceil() as u64;
        let mut sum = 0;
        let within = self.filled().find(|(_, count)| {
            sum += count;
            sum >= rank
        });
        within.map(|(bound, _)| bound)
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together, in seconds.
    pub fn sum_s(&self) -> f64 {
        seconds(self.sum_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn each_bucket_has_those_up_to_its_bound() {
        let mut histogram = Histogram::default();
        for us in [0, 50, 51, 100, 101, 350, 999_999, 6_553_600, 6_553_601] {
            histogram.record(Duration::from_micros(us).into(), 1);
        }
        let buckets: Vec<(f64, u64)> = histogram.buckets().collect();
        assert_eq!(
            buckets[..4],
            [(0.000_05, 2), (0.000_1, 4), (0.000_2, 5), (0.000_4, 6)]
        );
        assert_eq!(buckets.last(), Some(&(6.5536, 8)));
        assert_eq!(histogram.count(), 9);
        assert!((histogram.sum_s() - 14.107_852).abs() < 1e-9);
    }

    #[test]
    fn a_quantile_is_the_bound_that_so_many_keep() {
        let mut histogram = Histogram::default();
        assert_eq!(histogram.quantile_s(0.5), None);
        for (us, count) in [(10, 50), (190, 40), (5000, 9), (60_000_000, 1)] {
            histogram.record(Duration::from_micros(us).into(), count);
        }
        let quantiles = [0.0, 0.5, 0.51, 0.9, 0.99, 1.0].map(|part| histogram.quantile_s(part));
        let expected = [
            0.000_012_5,
            0.000_012_5,
            0.000_193_75,
            0.000_193_75,
            0.005,
            6.5536,
        ];
        assert_eq!(quantiles, expected.map(Some));
    }

    proptest! {
        #[test]
        fn a_span_is_told_to_a_sixteenth(ns in 1u64..6_553_600_000) {
            let bound = bound_ns(place(ns));
            prop_assert!(bound >= ns && bound - ns < UNIT_NS.max(ns / 16 + 1), "{ns} in {bound}");
            prop_assert!(place(bound) == place(ns) && place(bound + 1) == place(ns) + 1);
        }
    }
}
