//! What happens to many connections or datagrams, told by the log now and then.

use std::time::{Duration, Instant};

/// How often the log tells of it.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// What the log does not tell of yet.
#[derive(Debug, Default)]
pub(crate) struct Untold {
    count: u64,
    told_at: Option<Instant>,
}

impl Untold {
    /// Counts one. How many the log is to tell of now: it tells at most once in [`TOLD_EVERY`], or
    /// a flood of connections or datagrams would be one of lines.
    #[must_use]
    pub(crate) fn count(&mut self, now: Instant) -> Option<u64> {
        self.add(1, now)
    }

    /// The same for several.
    #[must_use]
    pub(crate) fn add(&mut self, count: u64, now: Instant) -> Option<u64> {
        self.count += count;
        if self.told_at.is_some_and(|at| now < at + TOLD_EVERY) {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_once_a_second_of_all_connections_that_were_closed_unserved() {
        let (mut shed, start) = (Untold::default(), Instant::now());
        let told: Vec<u64> = (0..3000)
            .filter_map(|ms| shed.count(start + Duration::from_millis(ms)))
            .collect();
        assert_eq!(told, [1, 1000, 1000]);
    }
}
