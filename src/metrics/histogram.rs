//! How long something took, counted in buckets.

use std::time::Duration;

/// Upper bounds of the buckets, in nanoseconds, and as they are shown, in seconds: three to a power
/// of ten, from 100 us to 1 s. What is longer is in none of them.
const BOUNDS: [(u64, &str); 13] = [
    (100_000, "0.0001"),
    (200_000, "0.0002"),
    (500_000, "0.0005"),
    (1_000_000, "0.001"),
    (2_000_000, "0.002"),
    (5_000_000, "0.005"),
    (10_000_000, "0.01"),
    (20_000_000, "0.02"),
    (50_000_000, "0.05"),
    (100_000_000, "0.1"),
    (200_000_000, "0.2"),
    (500_000_000, "0.5"),
    (1_000_000_000, "1"),
];

/// Spans of time, by length.
#[derive(Debug, Default, Clone)]
pub struct Histogram {
    /// Those of each bucket alone; the last are beyond all bounds.
    counts: [u64; BOUNDS.len() + 1],
    sum: Duration,
}

impl Histogram {
    /// Counts one.
    #[inline]
    pub fn record(&mut self, span: Duration) {
        let ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        // Most are short: the first comparison is the only one.
        let place = BOUNDS.iter().position(|(bound, _)| ns <= *bound);
        self.counts[place.unwrap_or(BOUNDS.len())] += 1;
        self.sum += span;
    }

    /// Each bound in seconds, and how many were not longer.
    pub fn buckets(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let sums = self.counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        });
        let bounds = BOUNDS.iter().map(|(_, shown)| *shown);
        bounds.zip(sums)
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// All of them together, in seconds.
    pub fn sum_s(&self) -> f64 {
        self.sum.as_secs_f64()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bucket_has_those_up_to_its_bound() {
        let mut histogram = Histogram::default();
        for us in [0, 100, 101, 450, 999_999, 1_000_000, 1_000_001] {
            histogram.record(Duration::from_micros(us));
        }
        let buckets: Vec<(&str, u64)> = histogram.buckets().collect();
        assert_eq!(buckets[..3], [("0.0001", 2), ("0.0002", 3), ("0.0005", 4)]);
        assert_eq!(buckets[12], ("1", 6));
        assert_eq!(histogram.count(), 7);
        assert!((histogram.sum_s() - 3.000_651).abs() < 1e-9);
    }
}
