//! Round-trip times as people and programs want them: extremes, mean, deviation, percentiles,
//! jitter.
//!
//! Times go into an HDR histogram of microseconds up to an hour, three digits kept, so memory does
//! not grow with the run.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

/// Collects round-trip times.
#[derive(Debug, Clone)]
pub struct RoundTrips {
    nanos: Histogram<u64>,
    /// Of the same times in milliseconds: sum, and sum of squares.
    sum: f64,
    squares: f64,
    last: Option<f64>,
    steps: f64,
    min: f64,
    max: f64,
}

/// The longest time that is told apart from longer ones: an hour.
const LONGEST_NANOS: u64 = 3_600_000_000_000;

/// What was collected, in milliseconds; all 0 when nothing was.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Default)]
pub struct Summary {
    /// How many round trips.
    pub count: u64,
    /// The shortest.
    pub min_ms: f64,
    /// The mean.
    pub avg_ms: f64,
    /// The longest.
    pub max_ms: f64,
    /// The standard deviation, as ping(8) computes it.
    pub mdev_ms: f64,
    /// Half took no longer.
    pub p50_ms: f64,
    /// 90 % took no longer.
    pub p90_ms: f64,
    /// 99 % took no longer.
    pub p99_ms: f64,
    /// 99.9 % took no longer.
    pub p999_ms: f64,
    /// The mean difference between one round trip and the next.
    pub jitter_ms: f64,
}

impl RoundTrips {
    /// Nothing collected yet.
    pub fn new() -> Self {
        // Invariant: 1 to an hour with 3 digits are bounds that the histogram supports.
        let nanos = Histogram::new_with_bounds(1, LONGEST_NANOS, 3).expect("fixed bounds");
        Self {
            nanos,
            sum: 0.0,
            squares: 0.0,
            last: None,
            steps: 0.0,
            min: f64::INFINITY,
            max: 0.0,
        }
    }

    /// Takes in one round trip.
    pub fn record(&mut self, rtt: Duration) {
        let nanos = u64::try_from(rtt.as_nanos()).unwrap_or(LONGEST_NANOS);
        self.nanos.saturating_record(nanos.max(1));
        let millis = rtt.as_secs_f64() * 1e3;
        self.sum += millis;
        self.squares += millis * millis;
        self.min = self.min.min(millis);
        self.max = self.max.max(millis);
        if let Some(last) = self.last.replace(millis) {
            self.steps += (millis - last).abs();
        }
    }

    /// Adds what another one collected; the jitter becomes that within each.
    pub fn merge(&mut self, other: &Self) {
        // Invariant: all have the same bounds, so each value of one fits into the other.
        self.nanos.add(&other.nanos).expect("same bounds");
        self.sum += other.sum;
        self.squares += other.squares;
        self.steps += other.steps;
        self.min = self.min.min(other.min);
        self.max = self.max.max(other.max);
    }

    /// What was collected so far.
    pub fn summary(&self) -> Summary {
        let count = self.nanos.len();
        if count == 0 {
            return Summary::default();
        }
        let percentile = |share: f64| self.nanos.value_at_percentile(share) as f64 / 1e6;
        let mean = self.sum / count as f64;
        Summary {
            count,
            min_ms: self.min,
            avg_ms: mean,
            max_ms: self.max,
            mdev_ms: (self.squares / count as f64 - mean * mean).max(0.0).sqrt(),
            p50_ms: percentile(50.0),
            p90_ms: percentile(90.0),
            p99_ms: percentile(99.0),
            p999_ms: percentile(99.9),
            jitter_ms: if count > 1 {
                self.steps / (count - 1) as f64
            } else {
                0.0
            },
        }
    }
}

impl Default for RoundTrips {
    fn default() -> Self {
        Self::new()
    }
}

impl Summary {
    /// Two lines for a person, in milliseconds, as ping(8) writes them and with percentiles.
    pub fn lines(&self) -> [String; 2] {
        let Self {
            min_ms,
            avg_ms,
            max_ms,
            mdev_ms,
            p50_ms,
            p90_ms,
            p99_ms,
            jitter_ms,
            ..
        } = self;
        [
            format!("rtt min/avg/max/mdev = {min_ms:.3}/{avg_ms:.3}/{max_ms:.3}/{mdev_ms:.3} ms"),
            format!(
                "rtt p50/p90/p99 = {p50_ms:.3}/{p90_ms:.3}/{p99_ms:.3} ms, jitter {jitter_ms:.3} ms"
            ),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times_give_known_figures() {
        let mut trips = RoundTrips::new();
        for millis in [2, 4, 4, 4, 5, 5, 7, 9] {
            trips.record(Duration::from_millis(millis));
        }
        let summary = trips.summary();
        assert_eq!(
            (summary.count, summary.min_ms, summary.max_ms),
            (8, 2.0, 9.0)
        );
        assert!((summary.avg_ms - 5.0).abs() < 1e-9 && (summary.mdev_ms - 2.0).abs() < 1e-9);
        assert!((summary.p50_ms - 4.0).abs() < 0.01 && (summary.p99_ms - 9.0).abs() < 0.01);
        assert!((summary.jitter_ms - 1.0).abs() < 1e-9);
        assert_eq!(
            summary.lines()[0],
            "rtt min/avg/max/mdev = 2.000/5.000/9.000/2.000 ms"
        );
    }

    #[test]
    fn nothing_is_all_zero_and_absurd_times_do_not_panic() {
        assert_eq!(RoundTrips::new().summary(), Summary::default());
        let mut trips = RoundTrips::new();
        trips.record(Duration::ZERO);
        trips.record(Duration::MAX);
        assert_eq!(trips.summary().count, 2);
    }
}
