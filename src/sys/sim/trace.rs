//! What happened, line by line, for whoever has to understand a failing seed.
//!
//! Off by default: a line costs an allocation, and a sweep runs thousands of seeds.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

/// Lines that are kept; the oldest go first.
const LINES_MAX: usize = 20_000;

/// The log of one simulation.
#[derive(Debug, Default)]
pub struct Trace {
    lines: Option<VecDeque<String>>,
    dropped: u64,
}

impl Trace {
    /// Begins to keep lines.
    pub fn start(&mut self) {
        self.lines = Some(VecDeque::new());
    }

    /// Adds what `line` gives, if lines are kept.
    pub(super) fn note(&mut self, at: Duration, line: impl FnOnce() -> String) {
        let Some(lines) = &mut self.lines else { return };
        if lines.len() == LINES_MAX {
            lines.pop_front();
            self.dropped += 1;
        }
        lines.push_back(format!("{:>14.6} {}", at.as_secs_f64(), line()));
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.dropped > 0 {
            writeln!(f, "({} earlier lines are gone)", self.dropped)?;
        }
        for line in self.lines.iter().flatten() {
            writeln!(f, "{line}")?;
        }
        Ok(())
    }
}
