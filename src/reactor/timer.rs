//! A lazy hashed timer wheel.
//!
//! Deadlines are derived from states, so they move with every message; almost none of them ever passes. The wheel
//! therefore knows no cancel: an entry is a *reminder to look* at a session no later than its tick. When the reminder
//! comes, the reactor asks the session for its deadline of now and either acts on it or leaves a new reminder. A busy
//! connection with an idle time-out of 60 s costs one entry a minute, however many requests it carries.
//!
//! Slot `tick % SLOTS` holds the entries of that tick and of those a whole number of turns later. A bitmap of the slots
//! in use finds the next one without visiting the empty ones.

use std::time::{Duration, Instant};

/// Slots of the wheel: with a tick of a millisecond, a turn takes four seconds.
const SLOTS: usize = 4096;
const WORDS: usize = SLOTS / 64;

/// Moments as whole milliseconds since the wheel was made.
pub(crate) type Tick = u64;

/// The wheel. `T` says whom to remind.
pub(crate) struct Timers<T> {
    slots: Vec<Vec<(Tick, T)>>,
    used: [u64; WORDS],
    start: Instant,
    /// The next tick to be looked at.
    next: Tick,
    len: usize,
}

impl<T> Timers<T> {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            used: [0; WORDS],
            start,
            next: 0,
            len: 0,
        }
    }

    /// The first tick at which `moment` has passed.
    pub(crate) fn tick(&self, moment: Instant) -> Tick {
        let since = moment.saturating_duration_since(self.start);
        u64::try_from(since.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
    }

    /// Leaves a reminder for `tick`; one in the past is due at once.
    pub(crate) fn remind(&mut self, tick: Tick, whom: T) {
        let tick = tick.max(self.next);
        let slot = tick as usize % SLOTS;
        self.slots[slot].push((tick, whom));
        self.used[slot / 64] |= 1 << (slot % 64);
        self.len += 1;
    }

    /// Moves the reminders that are due at `now` to `due`.
    pub(crate) fn expire(&mut self, now: Instant, due: &mut Vec<T>) {
        let reached = now.saturating_duration_since(self.start).as_millis() as Tick;
        if reached < self.next {
            return;
        }
        // After a long sleep every slot is visited once, not once for each turn slept through.
        let from = self.next;
        self.next = reached + 1;
        let mut tick = from;
        while tick <= reached && tick - from < SLOTS as u64 {
            let slot = tick as usize % SLOTS;
            if self.used[slot / 64] >> (slot % 64) == 0 {
                tick += 64 - (slot as u64 % 64);
                continue;
            }
            self.expire_slot(slot, reached, due);
            tick += 1;
        }
    }

    fn expire_slot(&mut self, slot: usize, reached: Tick, due: &mut Vec<T>) {
        let entries = &mut self.slots[slot];
        let mut i = 0;
        while i < entries.len() {
            if entries[i].0 <= reached {
                due.push(entries.swap_remove(i).1);
                self.len -= 1;
            } else {
                i += 1;
            }
        }
        if entries.is_empty() {
            self.used[slot / 64] &= !(1 << (slot % 64));
        }
    }

    /// How long the loop may sleep: until the next slot that holds anything. It may be a turn of the wheel early for an
    /// entry that lies further ahead, which costs one idle turn of the loop in four seconds.
    pub(crate) fn sleep(&self, now: Instant) -> Option<Duration> {
        if self.len == 0 {
            return None;
        }
        let first = self.next as usize % SLOTS;
        let ahead = (0..=WORDS).find_map(|i| {
            let word = (first / 64 + i) % WORDS;
            let mut bits = self.used[word];
            if i == 0 {
                bits &= u64::MAX << (first % 64);
            }
            let slot = word * 64 + bits.trailing_zeros() as usize;
            (bits != 0).then(|| (slot + SLOTS - first) % SLOTS)
        });
        let tick = self.next + ahead.unwrap_or(0) as u64;
        let moment = self.start + Duration::from_millis(tick);
        Some(moment.saturating_duration_since(now))
    }

    /// Reminders that wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_empty_wheel_lets_the_loop_sleep_for_ever() {
        let start = Instant::now();
        let timers: Timers<u32> = Timers::new(start);
        assert_eq!(timers.sleep(start), None);
    }

    #[test]
    fn a_reminder_beyond_one_turn_comes_in_its_own() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        timers.remind(timers.tick(start + Duration::from_secs(10)), 'a');
        let (mut now, mut turns, mut due) = (start, 0, Vec::new());
        while due.is_empty() {
            now += timers.sleep(now).expect("one reminder waits");
            timers.expire(now, &mut due);
            turns += 1;
        }
        assert_eq!(now - start, Duration::from_secs(10));
        assert_eq!(turns, 3, "one for each turn of the wheel");
    }

    proptest! {
        #[test]
        fn each_comes_once_and_neither_early_nor_late(
            delays in proptest::collection::vec(0u64..20_000_000, 1..60),
            steps in proptest::collection::vec(1u64..3_000_000, 1..60),
        ) {
            let start = Instant::now();
            let (mut timers, mut now, mut due) = (Timers::new(start), start, Vec::new());
            for &delay in &delays {
                let moment = start + Duration::from_micros(delay);
                timers.remind(timers.tick(moment), moment);
            }
            let mut seen = 0;
            for step in steps {
                now += Duration::from_micros(step);
                timers.expire(now, &mut due);
                for moment in due.drain(..) {
                    prop_assert!(moment <= now, "early");
                    seen += 1;
                }
                // A tick ends a millisecond after it began: nothing older may wait.
                let late = delays.iter().filter(|&&d| start + Duration::from_micros(d + 1000) <= now).count();
                prop_assert!(seen >= late, "late: {seen} of {late}");
            }
            while let Some(sleep) = timers.sleep(now) {
                now += sleep;
                timers.expire(now, &mut due);
                seen += due.drain(..).count();
            }
            prop_assert_eq!(seen, delays.len());
        }
    }
}
