//! Time that passes only when the simulated kernel says so: [`super::Sim`] jumps to the next thing
//! that is due.

use std::time::{Duration, Instant, SystemTime};

/// What the wall clock shows when a simulation begins: a fixed moment in October 2026.
const WALL_START: Duration = Duration::from_secs(1_792_000_000);

/// The two clocks of a simulation, which never disagree.
#[derive(Clone, Debug)]
pub struct Clock {
    /// An `Instant` cannot be made from nothing. This one is only ever added to, so what it was
    /// does not matter.
    start: Instant,
    /// How long the simulation lasts by now.
    elapsed: Duration,
}

impl Clock {
    pub(super) fn new() -> Self {
        Self {
            start: Instant::now(),
            elapsed: Duration::ZERO,
        }
    }

    /// How long the simulation lasts by now.
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The same as the reactor sees it.
    pub fn now(&self) -> Instant {
        self.start + self.elapsed
    }

    /// The same by the wall clock.
    pub fn wall(&self) -> SystemTime {
        SystemTime::UNIX_EPOCH + WALL_START + self.elapsed
    }

    /// Time never goes back: a moment that has passed changes nothing.
    pub(super) fn advance_to(&mut self, moment: Duration) {
        self.elapsed = self.elapsed.max(moment);
    }
}
