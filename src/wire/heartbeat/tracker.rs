//! What one sender is taken to be, and what was counted of it.
//!
//! ```text
//!             silence of late_after      silence of dead_after
//!        Up ─────────────────────▶ Late ──────────────────────▶ Dead
//!   new ▶ ▲ ◀─────────── back ──────┘   ──────── down ────────▶  │
//!         └──────────────────────── back ────────────────────────┘
//! ```
//!
//! Rules:
//! - [`Tracker`] has no clock: it is driven by the `now` that is handed in, and
//!   [`Tracker::deadline`] says when it next changes by itself. [`Tracker::advance`] is harmless at
//!   any other time.
//! - How long a sender may be silent is the same for all, or follows its own interval: what it says
//!   (`every=`), or what is learnt of it.
//! - Any heartbeat is a sign of life, but after `down` only one that goes on in the sequence or
//!   begins it again; and where heartbeats are signed, none that may have been recorded and sent
//!   again: no duplicate, and none that is too old to tell.
//! - Any sender can claim any number: what one of them can add to a sum over all is bounded by
//!   [`LOST_MAX`], so that the losses of the others still show in it.

use std::fmt;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::Beat;
use super::clock::{Clock, Differences};
use super::sequence::{Place, Sequence};

/// [`Counts::lost`] counts no further. The sum over two million senders is still exact in the
/// floating point numbers that metrics are read as.
pub const LOST_MAX: u64 = u32::MAX as u64;

/// Steps from which an interval is learnt before it counts.
const SAMPLES_MIN: u8 = 4;

/// How senders are judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Silence after which a sender is late whose interval does not count or is not known.
    pub timeout: Duration,
    /// Further silence after which a late sender is dead. Where it is 0, nobody is ever just late.
    pub grace: Duration,
    /// So many of its own intervals make a sender late; `None`: `timeout` does.
    pub missed_max: Option<NonZeroU32>,
    /// The bounds of that, whatever the interval is.
    pub timeout_min: Duration,
    /// See `timeout_min`.
    pub timeout_max: Duration,
    /// A change of the time difference that is no jitter any more.
    pub clock_step: Duration,
    /// Heartbeats are signed.
    pub is_signed: bool,
}

impl Rules {
    /// Those of a plain monitor, with these times.
    pub fn new(timeout: Duration, grace: Duration) -> Self {
        Self {
            timeout,
            grace,
            missed_max: None,
            timeout_min: Duration::from_millis(100),
            timeout_max: Duration::from_secs(3600),
            clock_step: Duration::from_secs(1),
            is_signed: false,
        }
    }

    /// Silence after which a sender with this interval is late.
    fn late_after(&self, interval: Option<Duration>) -> Duration {
        match (self.missed_max, interval) {
            (Some(missed), Some(interval)) => interval
                .saturating_mul(missed.get())
                .clamp(self.timeout_min, self.timeout_max.max(self.timeout_min)),
            _ => self.timeout,
        }
    }
}

/// What a sender is taken to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Heard of within `late_after`.
    Up,
    /// Silent for `late_after`.
    Late,
    /// Silent for `dead_after`.
    Dead,
}

impl State {
    /// All of them, in the order of their numbers.
    pub const ALL: [State; 3] = [State::Up, State::Late, State::Dead];

    /// The word for the counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Late => "late",
            Self::Dead => "dead",
        }
    }
}

/// A change that is worth a line in the log; displayed as `new`, `late`, `dead` or `back`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Change {
    /// The first heartbeat of this sender.
    New,
    /// It is late.
    Late,
    /// It is dead.
    Dead,
    /// It was late or dead, and a heartbeat came.
    Back,
}

impl Change {
    /// All of them, in the order of their numbers.
    pub const ALL: [Change; 4] = [Change::New, Change::Late, Change::Dead, Change::Back];

    /// The word for the log and for the counters.
    pub fn name(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Late => "late",
            Self::Dead => "dead",
            Self::Back => "back",
        }
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What was counted for one sender since it was first heard of.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Counts {
    /// Heartbeats received, duplicates included.
    pub received: u64,
    /// Sequence numbers that were skipped and did not come since, up to [`LOST_MAX`].
    pub lost: u64,
    /// Heartbeats that came a second time.
    pub duplicates: u64,
    /// Heartbeats that came after a later one.
    pub reordered: u64,
    /// How often the sender began again, with a lower number or a far higher one.
    pub restarts: u64,
    /// How often its clock was set while it ran.
    pub clock_steps: u64,
    /// How often it said that it ends.
    pub downs: u64,
}

/// What is known about one sender.
#[derive(Debug, Clone, PartialEq)]
pub struct Tracker {
    state: State,
    /// It said so itself.
    is_down: bool,
    first_heard_at: Instant,
    heard_at: Instant,
    numbers: Sequence,
    clock: Clock,
    counts: Counts,
    interval: Interval,
}

/// The time between two heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Interval {
    /// As the sender says.
    told: Option<Duration>,
    /// As it was, smoothed like the round trip of RFC 6298.
    learnt: Duration,
    samples: u8,
}

impl Interval {
    fn learn(&mut self, sample: Duration) {
        self.learnt = match self.samples {
            0 => sample,
            _ => self.learnt - self.learnt / 8 + sample / 8,
        };
        self.samples = self.samples.saturating_add(1);
    }

    fn known(&self) -> Option<Duration> {
        let learnt = (self.samples >= SAMPLES_MIN).then_some(self.learnt);
        self.told.or(learnt)
    }
}

impl Tracker {
    /// Begins with the first heartbeat of a sender, which is [`Change::New`]. `now` and `wall` are
    /// the same moment: the latter since the epoch, to be compared with TIME.
    pub fn new(first: &Beat<'_>, now: Instant, wall: Duration) -> Self {
        Self {
            state: State::Up,
            is_down: false,
            first_heard_at: now,
            heard_at: now,
            numbers: Sequence::new(first.stamp.sequence),
            clock: Clock::new(first.stamp, now, wall),
            counts: Counts {
                received: 1,
                ..Counts::default()
            },
            interval: Interval {
                told: first.interval,
                ..Interval::default()
            },
        }
    }

    /// Takes in one more heartbeat. Call [`Tracker::advance`] with the same `now` first, or a
    /// silence that just ended may go unreported.
    pub fn heard(
        &mut self,
        rules: &Rules,
        beat: &Beat<'_>,
        now: Instant,
        wall: Duration,
    ) -> Option<Change> {
        let stamp = beat.stamp;
        let is_too_old = self.numbers.is_too_old(stamp.sequence);
        let began_again = self
            .clock
            .began_again(stamp, &self.numbers, now, rules.is_signed);
        let place = self.numbers.take(stamp.sequence, began_again);
        self.counts.received += 1;
        let mut is_anew = false;
        match place {
            Place::Next(step) => {
                self.counts.lost = (self.counts.lost + step - 1).min(LOST_MAX);
                let passed = now.saturating_duration_since(self.clock.highest_heard_at());
                self.interval
                    .learn(passed / u32::try_from(step).unwrap_or(u32::MAX));
                is_anew = self.clock.in_order(stamp, now, rules.clock_step);
                self.counts.clock_steps += u64::from(is_anew);
            }
            Place::Restart => {
                self.counts.restarts += 1;
                self.clock.restart(stamp, now);
            }
            Place::Reordered(was_lost) => {
                self.counts.reordered += 1;
                self.counts.lost = self.counts.lost.saturating_sub(was_lost.into());
            }
            Place::Duplicate => self.counts.duplicates += 1,
        }
        if place != Place::Duplicate {
            self.clock.came(stamp, now, wall, rules.clock_step, is_anew);
        }
        let goes_on = matches!(place, Place::Next(_) | Place::Restart);
        if goes_on {
            self.interval.told = beat.interval.or(self.interval.told);
        }
        let may_be_recorded = place == Place::Duplicate || (is_too_old && !goes_on);
        match (goes_on && beat.is_down, self.is_down && !goes_on) {
            (true, _) => {
                self.counts.downs += 1;
                self.heard_at = now;
                self.is_down = true;
                self.turn(State::Dead, Change::Dead)
            }
            (_, true) => None,
            _ if rules.is_signed && may_be_recorded => None,
            _ => {
                self.heard_at = now;
                self.is_down = false;
                self.turn(State::Up, Change::Back)
            }
        }
    }

    fn turn(&mut self, state: State, change: Change) -> Option<Change> {
        let before = std::mem::replace(&mut self.state, state);
        (before != state).then_some(change)
    }

    /// Lets time pass until `now`. One call makes one step at most: call it until it answers
    /// `None`, and a sender that went from up to dead unobserved is reported late, then dead.
    pub fn advance(&mut self, rules: &Rules, now: Instant) -> Option<Change> {
        let silence = now.saturating_duration_since(self.heard_at);
        let late_after = self.late_after(rules);
        match self.state {
            State::Up if silence >= late_after && !rules.grace.is_zero() => {
                self.turn(State::Late, Change::Late)
            }
            State::Up | State::Late if silence >= late_after + rules.grace => {
                self.turn(State::Dead, Change::Dead)
            }
            _ => None,
        }
    }

    fn late_after(&self, rules: &Rules) -> Duration {
        rules.late_after(self.interval.known())
    }

    /// When [`Tracker::advance`] next has something to say; `None` for a dead sender, which only a
    /// heartbeat changes.
    pub fn deadline(&self, rules: &Rules) -> Option<Instant> {
        let late_after = self.late_after(rules);
        match self.state {
            State::Up => Some(self.heard_at + late_after),
            State::Late => Some(self.heard_at + late_after + rules.grace),
            State::Dead => None,
        }
    }

    /// What the sender is taken to be now.
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether it said that it ends, and was not heard of since.
    pub fn is_down(&self) -> bool {
        self.is_down
    }

    /// When it was first heard of.
    pub fn first_heard_at(&self) -> Instant {
        self.first_heard_at
    }

    /// When it last gave a sign of life.
    pub fn heard_at(&self) -> Instant {
        self.heard_at
    }

    /// The highest number since it began.
    pub fn highest(&self) -> u64 {
        self.numbers.highest()
    }

    /// The time between two heartbeats, where it is known.
    pub fn interval(&self) -> Option<Duration> {
        self.interval.known()
    }

    /// What was counted so far.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The one-way time differences so far.
    pub fn differences(&self) -> Differences {
        self.clock.one_way()
    }

    /// How unevenly its heartbeats come (RFC 3550, section 6.4.1), in seconds.
    pub fn jitter(&self) -> f64 {
        self.clock.jitter()
    }
}

#[cfg(test)]
mod tests {
    use super::super::GAP_MAX;
    use super::*;
    use crate::wire::stamp::Stamp;
    use proptest::prelude::*;

    fn rules() -> Rules {
        Rules::new(Duration::from_secs(2), Duration::from_secs(1))
    }

    fn stamp(sequence: u64, sent_s: u64) -> Stamp {
        Stamp {
            sequence,
            sent_at: Duration::from_secs(sent_s),
        }
    }

    fn beat(sequence: u64, sent_s: u64) -> Beat<'static> {
        Beat::new(stamp(sequence, sent_s))
    }

    /// Feeds (sequence, TIME in seconds), each heard when sent or as soon as the one before, and
    /// answers what was counted.
    fn counted(beats: &[(u64, u64)]) -> Counts {
        let start = Instant::now();
        let (sequence, mut latest) = beats[0];
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut tracker = Tracker::new(&beat(sequence, latest), at(latest), Duration::ZERO);
        for &(sequence, sent_s) in &beats[1..] {
            latest = latest.max(sent_s);
            let beat = beat(sequence, sent_s);
            tracker.heard(&rules(), &beat, at(latest), Duration::ZERO);
        }
        tracker.counts()
    }

    #[test]
    fn silence_makes_late_then_dead_and_a_heartbeat_brings_it_back() {
        let start = Instant::now();
        let after = |seconds: u64| start + Duration::from_secs(seconds);
        let mut tracker = Tracker::new(&beat(1, 0), start, Duration::ZERO);
        assert_eq!(tracker.advance(&rules(), after(1)), None);
        assert_eq!(tracker.deadline(&rules()), Some(after(2)));
        assert_eq!(tracker.advance(&rules(), after(2)), Some(Change::Late));
        assert_eq!(tracker.advance(&rules(), after(2)), None);
        assert_eq!(tracker.deadline(&rules()), Some(after(3)));
        assert_eq!(tracker.advance(&rules(), after(9)), Some(Change::Dead));
        assert_eq!(
            (
                tracker.deadline(&rules()),
                tracker.advance(&rules(), after(99))
            ),
            (None, None)
        );
        assert_eq!(
            tracker.heard(&rules(), &beat(2, 9), after(100), Duration::ZERO),
            Some(Change::Back)
        );
        assert_eq!(
            tracker.heard(&rules(), &beat(3, 9), after(101), Duration::ZERO),
            None
        );
        assert_eq!(tracker.advance(&rules(), after(200)), Some(Change::Late));
        assert_eq!(tracker.advance(&rules(), after(200)), Some(Change::Dead));
    }

    #[test]
    fn without_room_between_them_nobody_is_late() {
        let start = Instant::now();
        let rules = Rules::new(Duration::from_secs(3), Duration::ZERO);
        let mut tracker = Tracker::new(&beat(1, 0), start, Duration::ZERO);
        assert_eq!(
            tracker.deadline(&rules),
            Some(start + Duration::from_secs(3))
        );
        assert_eq!(
            tracker.advance(&rules, start + Duration::from_secs(3)),
            Some(Change::Dead)
        );
    }

    #[test]
    fn gaps_duplicates_reordering_and_restarts() {
        let none = Counts {
            received: 3,
            ..Counts::default()
        };
        assert_eq!(counted(&[(1, 1), (2, 2), (3, 3)]), none);
        assert_eq!(
            counted(&[(1, 1), (4, 4), (5, 5)]),
            Counts { lost: 2, ..none }
        );
        assert_eq!(
            counted(&[(1, 1), (3, 3), (2, 2)]),
            Counts {
                reordered: 1,
                ..none
            }
        );
        assert_eq!(
            counted(&[(1, 1), (2, 2), (1, 1)]),
            Counts {
                duplicates: 1,
                ..none
            }
        );
        assert_eq!(
            counted(&[(1, 1), (2, 2), (2, 2)]),
            Counts {
                duplicates: 1,
                ..none
            }
        );
        // What was sent before the first that came was not counted as lost.
        assert_eq!(
            counted(&[(5, 5), (8, 8), (4, 4)]),
            Counts {
                lost: 2,
                reordered: 1,
                ..none
            }
        );
        assert_eq!(
            counted(&[(7, 1), (8, 2), (1, 3)]),
            Counts {
                restarts: 1,
                ..none
            }
        );
        assert_eq!(
            counted(&[(1, 1), (500, 60), (2, 2)]),
            Counts {
                reordered: 1,
                lost: 497,
                ..none
            }
        );
    }

    #[test]
    fn a_wide_jump_is_a_restart_and_losses_stop_at_a_bound() {
        let counts = |received, lost, restarts| Counts {
            received,
            lost,
            restarts,
            ..Counts::default()
        };
        assert_eq!(
            counted(&[(1, 1), (1 + GAP_MAX, 2)]),
            counts(2, GAP_MAX - 1, 0)
        );
        for far in [2 + GAP_MAX, 1 << 32, 1 << 63, u64::MAX] {
            // What comes next is counted from there, or from where the sender goes back to.
            let beats = [(1, 1), (far, 0), (far.saturating_add(2), 0), (2, 3), (4, 4)];
            let lost = 1 + u64::from(far < u64::MAX);
            let duplicates = u64::from(far == u64::MAX);
            let expected = Counts {
                duplicates,
                ..counts(5, lost, 2)
            };
            assert_eq!(counted(&beats), expected, "{far}");
        }
        let wide: Vec<_> = (0..5000).map(|i| (i * GAP_MAX, i)).collect();
        assert_eq!(counted(&wide), counts(5000, LOST_MAX, 0));
    }

    /// Hears (sequence, TIME, arrival), in milliseconds.
    fn heard(rules: &Rules, beats: &[(u64, u64, u64)]) -> Tracker {
        let start = Instant::now();
        let ms = Duration::from_millis;
        let at = |i: usize| {
            let (sequence, sent_ms, heard_ms) = beats[i];
            let sent_at = ms(sent_ms);
            let beat = Beat::new(Stamp { sequence, sent_at });
            (beat, start + ms(heard_ms), ms(1_000_000 + heard_ms))
        };
        let (first, now, wall) = at(0);
        let mut tracker = Tracker::new(&first, now, wall);
        for i in 1..beats.len() {
            let (beat, now, wall) = at(i);
            tracker.heard(rules, &beat, now, wall);
        }
        tracker
    }

    #[test]
    fn time_differences_and_jitter() {
        let beats = [
            (1, 1_000_000, 5),
            (2, 1_001_000, 1021),
            (3, 1_002_000, 2005),
        ];
        let tracker = heard(&rules(), &beats);
        let differences = tracker.differences();
        let is_near = |value: f64, expected: f64| (value - expected).abs() < 1e-6;
        assert!(is_near(differences.min, 0.005), "{differences:?}");
        assert!(is_near(differences.mean, 0.031 / 3.0), "{differences:?}");
        assert!(is_near(differences.last, 0.005) && differences.count == 3);
        // RFC 3550: J += (|D| - J) / 16, with |D| of 16 ms twice.
        assert!(is_near(tracker.jitter(), 0.001 + (0.016 - 0.001) / 16.0));
    }

    #[test]
    fn a_clock_that_was_set_is_told_from_a_heartbeat_that_took_long() {
        let steady = |from: u64| (from..from + 5).map(|i| (i, 1000 * i, 1000 * i));
        let steps = |beats: &[(u64, u64, u64)]| {
            let counts = heard(&rules(), beats).counts();
            assert_eq!((counts.restarts, counts.lost), (0, 0));
            counts.clock_steps
        };
        // Ahead by a minute, and back by one.
        for shift in [60_000_i64, -60_000] {
            let shifted =
                (105..110_u64).map(|i| (i, (1000 * i).saturating_add_signed(shift), 1000 * i));
            let beats: Vec<_> = steady(100).chain(shifted).collect();
            assert_eq!(steps(&beats), 1, "{shift}");
        }
        let late = [
            (105, 105_000, 108_000),
            (106, 106_000, 108_000),
            (107, 107_000, 108_000),
        ];
        let beats: Vec<_> = steady(100).chain(late).collect();
        assert_eq!(steps(&beats), 0);
        // Held back for three seconds and let go together, a tenth of a second apart.
        let held = (1..=30).map(|i| (104 + i, 104_000 + 100 * i, 107_100));
        let beats: Vec<_> = steady(100).chain(held).collect();
        assert_eq!(steps(&beats), 0);
    }

    #[test]
    fn what_is_late_from_before_a_clock_was_put_back_is_no_restart() {
        let beats = [
            (1, 500_000, 1000),
            (2, 501_000, 2000),
            (4, 403_000, 4000), // put back by 100 s
            (3, 502_000, 4001), // sent before that
            (5, 404_000, 5000),
        ];
        let counts = heard(&rules(), &beats).counts();
        assert_eq!((counts.restarts, counts.reordered, counts.lost), (0, 1, 0));
        assert_eq!(counts.clock_steps, 1);
    }

    #[test]
    fn a_sender_whose_clock_begins_anew_began_again_unless_it_signs() {
        let beats = [
            (50, 900_000, 0),
            (51, 901_000, 1000),
            (1, 0, 9000),
            (2, 1000, 10_000),
        ];
        let counts = heard(&rules(), &beats).counts();
        assert_eq!((counts.restarts, counts.reordered, counts.lost), (1, 0, 0));
        let signed = Rules {
            is_signed: true,
            ..rules()
        };
        assert_eq!(heard(&signed, &beats).counts().restarts, 0);
    }

    #[test]
    fn patience_follows_the_interval_that_is_told_or_learnt() {
        let rules = Rules {
            missed_max: NonZeroU32::new(3),
            timeout_min: Duration::from_millis(400),
            ..rules()
        };
        let late_after = |tracker: &Tracker| tracker.late_after(&rules);
        let every =
            |ms: u64, count: u64| -> Vec<_> { (1..=count).map(|i| (i, i * ms, i * ms)).collect() };
        assert_eq!(late_after(&heard(&rules, &every(200, 4))), rules.timeout);
        assert_eq!(
            late_after(&heard(&rules, &every(200, 5))),
            Duration::from_millis(600)
        );
        assert_eq!(late_after(&heard(&rules, &every(50, 5))), rules.timeout_min);
        // Lost ones do not make it longer.
        let some: Vec<_> = every(200, 20)
            .into_iter()
            .filter(|b| b.0 % 3 != 0)
            .collect();
        let learnt = late_after(&heard(&rules, &some));
        assert!(learnt.abs_diff(Duration::from_millis(600)) < Duration::from_micros(1));
        let told = Beat {
            interval: Some(Duration::from_secs(7200)),
            ..beat(1, 1)
        };
        let tracker = Tracker::new(&told, Instant::now(), Duration::ZERO);
        assert_eq!(late_after(&tracker), rules.timeout_max);
    }

    #[test]
    fn who_says_that_it_ends_is_dead_until_it_goes_on() {
        let (start, zero) = (Instant::now(), Duration::ZERO);
        let mut tracker = Tracker::new(&beat(1, 1), start, zero);
        let down = Beat {
            is_down: true,
            ..beat(3, 3)
        };
        let mut hears = |beat: Beat<'_>| tracker.heard(&rules(), &beat, start, zero);
        assert_eq!(hears(down), Some(Change::Dead));
        // What was under way, or comes twice, is no sign of life.
        assert_eq!([hears(beat(2, 2)), hears(down)], [None, None]);
        assert_eq!(hears(beat(4, 4)), Some(Change::Back));
        assert_eq!(hears(down), None);
        assert_eq!((tracker.state(), tracker.counts().downs), (State::Up, 1));
    }

    #[test]
    fn what_may_have_been_recorded_keeps_nobody_alive_who_signs() {
        let (start, zero) = (Instant::now(), Duration::ZERO);
        for is_signed in [false, true] {
            let rules = Rules {
                is_signed,
                ..rules()
            };
            let mut tracker = Tracker::new(&beat(1, 1), start, zero);
            tracker.heard(&rules, &beat(500, 60), start, zero);
            let later = start + Duration::from_secs(100);
            while tracker.advance(&rules, later).is_some() {}
            let back = (!is_signed).then_some(Change::Back);
            for old in [beat(500, 60), beat(2, 2)] {
                let mut tracker = tracker.clone();
                assert_eq!(tracker.heard(&rules, &old, later, zero), back);
            }
            let missing = tracker.heard(&rules, &beat(499, 59), later, zero);
            assert_eq!(missing, Some(Change::Back));
        }
    }

    proptest! {
        /// Numbers 0..n with some dropped, in an order with swaps, some doubled: the books balance.
        #[test]
        fn every_number_is_accounted_for(kept in proptest::collection::vec(0_u8..4, 2..100)) {
            let mut beats = Vec::new();
            let mut dropped = 0;
            for (sequence, fate) in kept.iter().enumerate() {
                let beat = (sequence as u64, sequence as u64);
                match fate {
                    0 if sequence > 0 && sequence + 1 < kept.len() => dropped += 1,
                    1 => beats.extend([beat, beat]),
                    _ => beats.push(beat),
                }
            }
            let inner = beats.len() - 1;
            for index in (2..inner).step_by(3) {
                beats.swap(index - 1, index);
            }
            let counts = counted(&beats);
            prop_assert_eq!(counts.lost, dropped);
            prop_assert_eq!(counts.received, beats.len() as u64);
            prop_assert_eq!(counts.restarts, 0);
            prop_assert_eq!(counts.received - counts.duplicates + counts.lost, kept.len() as u64);
        }
    }
}
