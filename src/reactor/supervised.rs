//! The loop as its service manager sees it: told of each change of state, and, where it wants a
//! sign of life, at half of the time that it allows.
//!
//! ```text
//! a deadline of the loop ──▶ Alive ──▶ the next one, half of the time later
//! a change of state ───────▶ told; not taken? ──▶ RETRY later again, until the next change
//! ```
//!
//! The sign comes from the loop itself and from nowhere else: a loop that stands still gives none.
//!
//! Not here: how it is sent ([`Sys::tell`]), and what the states are called
//! ([`News`]).

use std::time::{Duration, Instant};

use crate::sys::{News, Sys};

/// How long a change of state waits that the manager's socket did not take.
const RETRY: Duration = Duration::from_millis(100);

/// What the manager was told, and when it is told next.
#[derive(Debug)]
pub(super) struct Supervised {
    /// Between two signs of life, if any are wanted.
    interval: Option<Duration>,
    next_sign: Option<Instant>,
    /// What it does not know yet, and when it is told again.
    untold: Option<(News, Instant)>,
}

impl Supervised {
    /// From now on, for a manager that waits at most `watchdog`.
    pub(super) fn new(watchdog: Option<Duration>, now: Instant) -> Self {
        let interval = watchdog.map(|allowed| (allowed / 2).max(Duration::from_micros(1)));
        Self {
            interval,
            next_sign: interval.map(|interval| now + interval),
            untold: None,
        }
    }

    /// When there is something to be told.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let again = self.untold.as_ref().map(|(_, again)| *again);
        [self.next_sign, again].into_iter().flatten().min()
    }

    /// Tells of a change of state.
    pub(super) fn tell(&mut self, news: News, sys: &mut impl Sys, now: Instant) {
        let is_told = sys.tell(&news);
        self.untold = (!is_told).then(|| (news, now + RETRY));
    }

    /// Tells what is due. A sign that is not taken is not repeated: the next one comes in time, or
    /// the manager was right to give up.
    pub(super) fn expire(&mut self, sys: &mut impl Sys, now: Instant) {
        if let Some((news, _)) = self.untold.take_if(|(_, again)| *again <= now) {
            self.tell(news, sys, now);
        }
        if let (Some(interval), Some(next)) = (self.interval, self.next_sign)
            && next <= now
        {
            sys.tell(&News::Alive);
            self.next_sign = Some(now + interval);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::sim::Sim;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn signs_of_life_come_at_half_the_time_and_only_then() {
        let (mut sim, start) = (Sim::new(1), Instant::now());
        let mut supervised = Supervised::new(Some(10 * SECOND), start);
        assert_eq!(supervised.deadline(), Some(start + 5 * SECOND));
        supervised.expire(&mut sim, start + 4 * SECOND);
        assert_eq!(sim.supervisor().told, []);
        supervised.expire(&mut sim, start + 6 * SECOND);
        supervised.expire(&mut sim, start + 6 * SECOND);
        assert_eq!(sim.supervisor().told, [News::Alive]);
        assert_eq!(supervised.deadline(), Some(start + 11 * SECOND));
    }

    #[test]
    fn without_a_watchdog_there_is_no_deadline() {
        let (mut sim, start) = (Sim::new(1), Instant::now());
        let mut supervised = Supervised::new(None, start);
        supervised.tell(News::Reloading, &mut sim, start);
        supervised.expire(&mut sim, start + 3600 * SECOND);
        assert_eq!(supervised.deadline(), None);
        assert_eq!(sim.supervisor().told, [News::Reloading]);
    }

    #[test]
    fn a_change_that_was_not_taken_is_told_again_unless_another_one_came() {
        let (mut sim, start) = (Sim::new(1), Instant::now());
        let ready = || News::Ready("x".to_owned());
        let mut supervised = Supervised::new(None, start);
        sim.supervisor().is_deaf = true;
        supervised.tell(News::Reloading, &mut sim, start);
        supervised.tell(ready(), &mut sim, start);
        assert_eq!(supervised.deadline(), Some(start + RETRY));
        supervised.expire(&mut sim, start + RETRY);
        assert_eq!(supervised.deadline(), Some(start + 2 * RETRY));
        sim.supervisor().is_deaf = false;
        supervised.expire(&mut sim, start + 2 * RETRY);
        assert_eq!(supervised.deadline(), None);
        assert_eq!(sim.supervisor().told, [ready()]);
    }
}
