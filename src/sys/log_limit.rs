//! How much of one cause the log tells: what a stranger can bring about with each request must not
//! become a line each, or a flood of requests fills the disk with lines.
//!
//! One cause is one place in the source that logs, at one level. The first lines of a second are
//! told ([`lines_max`]), the others counted, and when the second is over one line tells how many
//! they were. Debug and trace lines are all told: somebody asked for them.
//!
//! [`Limited`] stands in front of the logger proper. What waits to be told is told with a later
//! line, or by [`log::Log::flush`], which the loop calls at the end of a turn
//! ([`super::error_log`]).

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, Log, Metadata, Record};

use crate::logging;

/// For how long lines are counted together.
const SPAN: Duration = Duration::from_secs(1);

/// Whether lines were counted that the log does not tell of yet; to know it must cost nothing.
static ARE_COUNTED: AtomicBool = AtomicBool::new(false);

/// Lines of one cause that are told in [`SPAN`]; `None` for all.
fn lines_max(level: Level) -> Option<u32> {
    match level {
        // Something is wrong: one tells of it, twenty tell of several things.
        Level::Error | Level::Warn => Some(20),
        // Something happened: a login refused, a file stored.
        Level::Info => Some(200),
        Level::Debug | Level::Trace => None,
    }
}

/// A logger of which each cause gets a limited number of lines.
#[derive(Debug)]
pub struct Limited<L> {
    logger: L,
    causes: Mutex<Causes>,
}

impl<L: Log> Limited<L> {
    /// The limit in front of a logger.
    pub fn new(logger: L) -> Self {
        Self {
            logger,
            causes: Mutex::default(),
        }
    }

    fn tell(&self, untold: Vec<Untold>) {
        for Untold {
            level,
            target,
            count,
            like,
        } in untold
        {
            let text = format_args!("{count} more lines like: {like}");
            let mut record = Record::builder();
            record.level(level).target(&target);
            // Who wrote the first of them is not who made all of them.
            logging::about_nobody(|| self.logger.log(&record.args(text).build()));
        }
    }
}

impl<L: Log> Log for Limited<L> {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.logger.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        let Some(max) = lines_max(record.level()) else {
            return self.logger.log(record);
        };
        if !self.enabled(record.metadata()) {
            return;
        }
        let now = Instant::now();
        let (is_told, untold) = {
            let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
            let untold = causes.take_due(now);
            (causes.tells(record, max, now), untold)
        };
        self.tell(untold);
        if is_told {
            self.logger.log(record);
        }
    }

    fn flush(&self) {
        if ARE_COUNTED.load(Ordering::Relaxed) {
            let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
            let untold = causes.take_due(Instant::now());
            drop(causes);
            self.tell(untold);
        }
    }
}

/// Tells what is due, if anything is.
#[inline]
pub(super) fn flush() {
    if ARE_COUNTED.load(Ordering::Relaxed) {
        log::logger().flush();
    }
}

/// A place in the source, and a level.
type Cause = (Option<&'static str>, Option<u32>, Level);

/// What was logged lately; there are as many entries as places that log.
#[derive(Debug, Default)]
struct Causes {
    all: HashMap<Cause, Counted, foldhash::fast::RandomState>,
    /// The causes of which lines were counted and not told.
    untold: Vec<Cause>,
}

#[derive(Debug)]
struct Counted {
    /// When the second began.
    began: Instant,
    told: u32,
    untold: u64,
    target: String,
    /// The first line of those that were not told.
    like: String,
}

/// Lines that are to be told of.
#[derive(Debug, PartialEq, Eq)]
struct Untold {
    level: Level,
    target: String,
    count: u64,
    like: String,
}

impl Causes {
    /// A line. Whether it is told.
    fn tells(&mut self, record: &Record<'_>, max: u32, now: Instant) -> bool {
        let cause = (record.file_static(), record.line(), record.level());
        let counted = self.all.entry(cause).or_insert_with(|| Counted {
            began: now,
            told: 0,
            untold: 0,
            target: record.target().to_owned(),
            like: String::new(),
        });
        if now >= counted.began + SPAN {
            (counted.began, counted.told) = (now, 0);
        }
        if counted.told < max {
            counted.told += 1;
            return true;
        }
        if counted.untold == 0 {
            counted.like = record.args().to_string();
            self.untold.push(cause);
            ARE_COUNTED.store(true, Ordering::Relaxed);
        }
        counted.untold += 1;
        false
    }

    /// What is to be told of lines whose second is over.
    fn take_due(&mut self, now: Instant) -> Vec<Untold> {
        if self.untold.is_empty() {
            return Vec::new();
        }
        let mut due = Vec::new();
        let all = &mut self.all;
        self.untold.retain(|cause| {
            // Invariant: what was counted has an entry.
            let counted = all.get_mut(cause).expect("a cause that was counted");
            let is_over = now >= counted.began + SPAN;
            if is_over {
                due.push(Untold {
                    level: cause.2,
                    target: counted.target.clone(),
                    count: std::mem::take(&mut counted.untold),
                    like: std::mem::take(&mut counted.like),
                });
            }
            !is_over
        });
        ARE_COUNTED.store(!self.untold.is_empty(), Ordering::Relaxed);
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Logs a line of the cause that stands at this line of a file. Whether it is told.
    fn tells(causes: &mut Causes, line: u32, text: &str, now: Instant) -> bool {
        let mut record = Record::builder();
        let record = record.level(Level::Warn).target("here");
        let record = record.file_static(Some("a.rs")).line(Some(line));
        causes.tells(&record.args(format_args!("{text}")).build(), 2, now)
    }

    #[test]
    fn of_many_lines_of_one_cause_the_first_of_each_second_are_told_and_the_rest_are_counted() {
        let (mut causes, start) = (Causes::default(), Instant::now());
        let at = |ms| start + Duration::from_millis(ms);
        let told = (0..1000).filter(|ms| tells(&mut causes, 1, &format!("{ms}"), at(*ms)));
        assert_eq!(told.count(), 2);
        assert!(tells(&mut causes, 2, "another cause", at(500)));
        assert_eq!(causes.take_due(at(999)), []);
        let untold = Untold {
            level: Level::Warn,
            target: "here".to_owned(),
            count: 998,
            like: "2".to_owned(),
        };
        assert_eq!(causes.take_due(at(1000)), [untold]);
        assert_eq!(causes.take_due(at(9000)), []);
        assert!(tells(&mut causes, 1, "later", at(1001)));
    }

    #[test]
    fn what_tells_of_the_program_itself_has_no_limit() {
        assert_eq!(lines_max(Level::Debug), None);
        assert!(lines_max(Level::Error) <= lines_max(Level::Info));
    }
}
