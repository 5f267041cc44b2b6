//! A lazy hashed timer wheel.
//!
//! Deadlines are derived from states, so they move with every message; almost none of them ever
//! passes. The wheel therefore knows no cancel: an entry is a *reminder to look* at a session no
//! later than its tick. When the reminder comes, the reactor asks the session for its deadline of
//! now and either acts on it or leaves a new reminder. A busy connection with an idle time-out of
//! 60 s costs one entry a minute, however many requests it carries.
//!
//! Invariant: of each session one reminder is *live*; [`Reminders`] knows its tick. A deadline that
//! moves closer leaves a new live one, and the old one waits, to be live again when the deadline
//! has moved away. Any other that comes is dropped and leaves no new one: entries cannot multiply.
//!
//! Those of sessions that ended wait for their tick like the others. Before they are many more than
//! the living could have, they are swept out ([`Timers::is_cluttered`]): a connection that lasted a
//! moment must not take up memory for as long as it might have idled.
//!
//! Slot `tick % SLOTS` holds the entries of that tick and of those a whole number of turns later. A
//! bitmap of the slots in use finds the next one without visiting the empty ones.

use std::time::{Duration, Instant};

/// Slots of the wheel: with a tick of a millisecond, a turn takes four seconds.
const SLOTS: usize = 4096;
const WORDS: usize = SLOTS / 64;

/// Reminders for each living session above which the wheel is swept: twice those that one has.
const REMINDERS_PER_SESSION_MAX: usize = 4;
/// Reminders that are never swept: a sweep looks at every slot.
const UNSWEPT: usize = SLOTS;

/// Moments as whole milliseconds since the wheel was made.
pub(crate) type Tick = u64;

/// The wheel. `T` says whom to remind.
pub(crate) struct Timers<T> {
    slots: Vec<Vec<(Tick, T)>>,
    used: [u64; WORDS],
    start: Instant,
    /// The next tick to be looked at.
    next: Tick,
    /// The tick of the next slot that holds anything, not before `next`; `Tick::MAX` for none.
    first: Tick,
    len: usize,
}

impl<T> Timers<T> {
    pub(crate) fn new(start: Instant) -> Self {
        Self {
            slots: (0..SLOTS).map(|_| Vec::new()).collect(),
            used: [0; WORDS],
            start,
            next: 0,
            first: Tick::MAX,
            len: 0,
        }
    }

    /// The first tick at which `moment` has passed.
    pub(crate) fn tick(&self, moment: Instant) -> Tick {
        let since = moment.saturating_duration_since(self.start);
        since.as_secs() * 1000 + u64::from(since.subsec_nanos().div_ceil(1_000_000))
    }

    /// Leaves a reminder for `tick`; one in the past is due at once. The tick at which it comes.
    pub(crate) fn remind(&mut self, tick: Tick, whom: T) -> Tick {
        let tick = tick.max(self.next);
        let slot = tick as usize % SLOTS;
        self.slots[slot].push((tick, whom));
        self.used[slot / 64] |= 1 << (slot % 64);
        self.len += 1;
        self.first = self.first.min(tick);
        tick
    }

    /// Moves the reminders that are due at `now` to `due`, with their ticks.
    pub(crate) fn expire(&mut self, now: Instant, due: &mut Vec<(Tick, T)>) {
        let since = now.saturating_duration_since(self.start);
        let reached = since.as_secs() * 1000 + u64::from(since.subsec_millis());
        if reached < self.first {
            return;
        }
        // After a long sleep every slot is visited once, not once for each turn slept through.
        for tick in self.first..=reached.min(self.first + SLOTS as u64 - 1) {
            let slot = tick as usize % SLOTS;
            if self.used[slot / 64] >> (slot % 64) & 1 == 1 {
                self.expire_slot(slot, reached, due);
            }
        }
        self.next = reached + 1;
        self.first = self.next_used();
    }

    /// The tick of the next slot that holds anything. It may be a turn of the wheel early for an
    /// entry that lies further ahead, which costs one idle turn of the loop in four seconds.
    fn next_used(&self) -> Tick {
        if self.len == 0 {
            return Tick::MAX;
        }
        let from = self.next as usize % SLOTS;
        let ahead = (0..=WORDS).find_map(|i| {
            let word = (from / 64 + i) % WORDS;
            let mask = if i == 0 {
                u64::MAX << (from % 64)
            } else {
                u64::MAX
            };
            let bits = self.used[word] & mask;
            let slot = word * 64 + bits.trailing_zeros() as usize;
            (bits != 0).then(|| (slot + SLOTS - from) % SLOTS)
        });
        self.next + ahead.unwrap_or(0) as u64
    }

    fn expire_slot(&mut self, slot: usize, reached: Tick, due: &mut Vec<(Tick, T)>) {
        let entries = &mut self.slots[slot];
        let mut i = 0;
        while i < entries.len() {
            if entries[i].0 <= reached {
                due.push(entries.swap_remove(i));
                self.len -= 1;
            } else {
                i += 1;
            }
        }
        if entries.is_empty() {
            self.used[slot / 64] &= !(1 << (slot % 64));
        }
    }

    /// Whether there are so many reminders that most of them must be those of sessions that ended,
    /// when so many live.
    pub(crate) fn is_cluttered(&self, living: usize) -> bool {
        self.len > UNSWEPT + living * REMINDERS_PER_SESSION_MAX
    }

    /// Takes out the reminders that nobody waits for any more.
    pub(crate) fn sweep(&mut self, is_awaited: impl Fn(Tick, &T) -> bool) {
        self.len = 0;
        for (slot, entries) in self.slots.iter_mut().enumerate() {
            entries.retain(|(tick, whom)| is_awaited(*tick, whom));
            self.len += entries.len();
            if entries.is_empty() {
                *entries = Vec::new();
                self.used[slot / 64] &= !(1 << (slot % 64));
            }
        }
        self.first = self.next_used();
    }

    /// Until when the loop may sleep: the next slot that holds anything.
    pub(crate) fn next(&self) -> Option<Instant> {
        (self.len > 0).then(|| self.start + Duration::from_millis(self.first))
    }

    /// Reminders that wait.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

/// The reminders of one session that the wheel holds, by their ticks; `Tick::MAX` for none.
#[derive(Debug)]
pub(crate) struct Reminders {
    /// The live one.
    live: Tick,
    /// One beyond it, which was live before the deadline moved closer.
    later: Tick,
}

impl Reminders {
    pub(crate) const NONE: Self = Self {
        live: Tick::MAX,
        later: Tick::MAX,
    };

    /// Sees to it that a reminder comes to `whom` no later than `deadline`.
    pub(crate) fn arm<T>(&mut self, deadline: Instant, whom: T, timers: &mut Timers<T>) {
        let tick = timers.tick(deadline);
        if self.live <= tick {
            return;
        }
        if self.live == Tick::MAX && self.later <= tick {
            (self.live, self.later) = (self.later, Tick::MAX);
            return;
        }
        if self.live != Tick::MAX {
            self.later = self.live;
        }
        self.live = timers.remind(tick, whom);
    }

    /// Whether a reminder of that tick is one of them.
    pub(crate) fn hold(&self, tick: Tick) -> bool {
        tick == self.live || tick == self.later
    }

    /// The reminder of that tick came. Whether it was the live one.
    pub(crate) fn came(&mut self, tick: Tick) -> bool {
        let was_live = tick == self.live;
        if was_live {
            self.live = Tick::MAX;
        } else if tick == self.later {
            self.later = Tick::MAX;
        }
        was_live
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// How long the loop sleeps.
    fn sleep<T>(timers: &Timers<T>, now: Instant) -> Option<Duration> {
        Some(timers.next()?.saturating_duration_since(now))
    }

    #[test]
    fn an_empty_wheel_lets_the_loop_sleep_for_ever() {
        let start = Instant::now();
        let timers: Timers<u32> = Timers::new(start);
        assert_eq!(sleep(&timers, start), None);
    }

    #[test]
    fn a_reminder_beyond_one_turn_comes_in_its_own() {
        let start = Instant::now();
        let mut timers = Timers::new(start);
        timers.remind(timers.tick(start + Duration::from_secs(10)), 'a');
        let (mut now, mut turns, mut due) = (start, 0, Vec::new());
        while due.is_empty() {
            now += sleep(&timers, now).expect("one reminder waits");
            timers.expire(now, &mut due);
            turns += 1;
        }
        assert_eq!(now - start, Duration::from_secs(10));
        assert!(
            turns <= 3,
            "{turns}: at most one for each turn of the wheel"
        );
    }

    #[test]
    fn deadlines_that_come_and_go_do_not_multiply_the_reminders() {
        // A session whose deadline is near, then far, then near again, as between the messages of a
        // hello stream.
        let (near, far) = (Duration::from_millis(100), Duration::from_secs(60));
        let start = Instant::now();
        let (mut timers, mut reminders) = (Timers::new(start), Reminders::NONE);
        let (mut now, mut due, mut passed) = (start, Vec::new(), 0);
        for i in 0..5000 {
            reminders.arm(now + far, (), &mut timers);
            let deadline = now + near;
            reminders.arm(deadline, (), &mut timers);
            while now < deadline {
                now += sleep(&timers, now).expect("a reminder waits");
                timers.expire(now, &mut due);
                for (tick, ()) in due.drain(..) {
                    if reminders.came(tick) {
                        assert!(now < deadline + Duration::from_millis(2), "late");
                        reminders.arm(deadline, (), &mut timers);
                        passed += u32::from(now >= deadline);
                    }
                }
            }
            assert!(timers.len() <= 3, "{} after {i} deadlines", timers.len());
        }
        assert_eq!(passed, 5000);
    }

    #[test]
    fn sessions_that_end_at_once_leave_no_more_reminders_than_the_living_could_have() {
        let start = Instant::now();
        let (mut timers, mut due) = (Timers::new(start), Vec::new());
        let mut stays = Reminders::NONE;
        stays.arm(start + Duration::from_secs(30), 0, &mut timers);
        for id in 1..100_000 {
            let mut reminders = Reminders::NONE;
            let deadline = start + Duration::from_secs(60);
            reminders.arm(deadline, id, &mut timers);
            if timers.is_cluttered(1) {
                timers.sweep(|tick, id| *id == 0 && stays.hold(tick));
                assert_eq!(timers.len(), 1);
            }
            assert!(timers.len() < 5000);
        }
        let sleep = sleep(&timers, start).expect("a reminder waits");
        assert!(sleep <= Duration::from_secs(30));
        timers.expire(start + Duration::from_secs(30), &mut due);
        assert_eq!(due.len(), 1, "the living one's came");
        assert!(stays.came(due[0].0));
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
                for (_, moment) in due.drain(..) {
                    prop_assert!(moment <= now, "early");
                    seen += 1;
                }
                // A tick ends a millisecond after it began: nothing older may wait.
                let late = delays.iter().filter(|&&d| start + Duration::from_micros(d + 1000) <= now).count();
                prop_assert!(seen >= late, "late: {seen} of {late}");
            }
            while let Some(sleep) = sleep(&timers, now) {
                now += sleep;
                timers.expire(now, &mut due);
                seen += due.drain(..).count();
            }
            prop_assert_eq!(seen, delays.len());
        }
    }
}
