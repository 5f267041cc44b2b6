//! What everything in a simulation shares: time, chance, mishap and memory.

use std::time::Duration;

use super::clock::Clock;
use super::faults::{Fault, Faults};
use super::rng::Rng;
use super::trace::Trace;

/// What everything in a simulation shares: time, chance, mishap and memory.
#[derive(Debug)]
pub struct World {
    /// Time.
    pub clock: Clock,
    /// Chance.
    pub rng: Rng,
    /// Mishap.
    pub faults: Faults,
    /// Memory.
    pub trace: Trace,
}

impl World {
    /// How long the simulation lasts by now.
    pub(crate) fn now(&self) -> Duration {
        self.clock.elapsed()
    }

    /// Whether a fault happens now.
    pub(super) fn strikes(&mut self, fault: Fault) -> bool {
        let strikes = self.faults.strikes(fault, &mut self.rng);
        if strikes {
            self.note(|| format!("fault: {fault:?}"));
        }
        strikes
    }

    pub(super) fn note(&mut self, line: impl FnOnce() -> String) {
        let at = self.now();
        self.trace.note(at, line);
    }
}
