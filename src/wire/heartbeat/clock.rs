//! What the TIMEs of one sender say: how long its heartbeats take, how evenly they come, whether its
//! clock was set, and whether it began again.
//!
//! The *difference* of a heartbeat is its moment of arrival less its TIME. Both clocks' errors are
//! in it, so it means little by itself; its changes mean a lot. To see them, arrival is taken by the
//! monotonic clock: that this machine's own clock is set does not show.
//!
//! Rules:
//! - A difference that is more than `clock_step` away from that of the heartbeat before, in the
//!   order of the numbers, is suspect: the heartbeat took long, or the sender's clock was set. It
//!   was set if the next one has about the same difference, to a quarter of `clock_step`, and did
//!   not come on the heels of it: half the time between the two TIMEs later, at least. (Heartbeats
//!   that a network held back and lets go come together.) The one-way differences begin anew then.
//! - Jitter is that of RFC 3550, section 6.4.1, over all heartbeats but duplicates in the order in
//!   which they came; a change that is suspect is none of it.
//! - A number that is not above the highest is that of a sender that began again if its TIME is
//!   later than the highest one's. But where the sender's clock was put back (or is suspected to
//!   be) at some number, an earlier one that has not come yet is only late.
//! - So it is if its TIME is earlier than any network explains: [`DELAY_MAX`], and the time that
//!   passed since the highest came. That is a sender whose clock begins anew, too. Where heartbeats
//!   are signed it is one that somebody recorded, and changes nothing.

use std::time::{Duration, Instant};

use super::DELAY_MAX;
use super::sequence::Sequence;
use crate::wire::stamp::Stamp;

/// One-way time differences: this machine's time of arrival less the sender's TIME, in seconds,
/// since the sender was first heard of or a clock was set. Both clocks' errors are in it, so it may
/// be negative; its changes mean more than its size.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Differences {
    /// The smallest.
    pub min: f64,
    /// The mean.
    pub mean: f64,
    /// The latest.
    pub last: f64,
    /// Of how many heartbeats.
    pub count: u64,
}

impl Differences {
    fn new(first: f64) -> Self {
        Self {
            min: first,
            mean: first,
            last: first,
            count: 1,
        }
    }

    fn add(&mut self, last: f64) {
        self.count += 1;
        self.min = self.min.min(last);
        self.mean += (last - self.mean) / self.count as f64;
        self.last = last;
    }
}

/// What the TIMEs said so far.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Clock {
    /// What arrivals are counted from.
    start: Instant,
    /// TIME of the highest number, and when it came.
    highest_sent_at: Duration,
    highest_heard_at: Instant,
    /// The difference that the next one is compared with, in seconds from `start`.
    difference: f64,
    /// The last one if it was suspect.
    suspect: Option<f64>,
    /// The number at which the clock was put back, as far as one may say.
    put_back_at: Option<u64>,
    /// Of the heartbeat that came last.
    last_difference: f64,
    jitter: f64,
    one_way: Differences,
    /// What the wall clock was ahead of the monotonic one when the last one came.
    wall_ahead: f64,
}

impl Clock {
    pub(super) fn new(first: Stamp, now: Instant, wall: Duration) -> Self {
        let difference = -first.sent_at.as_secs_f64();
        Self {
            start: now,
            highest_sent_at: first.sent_at,
            highest_heard_at: now,
            difference,
            suspect: None,
            put_back_at: None,
            last_difference: difference,
            jitter: 0.0,
            one_way: Differences::new(wall.as_secs_f64() - first.sent_at.as_secs_f64()),
            wall_ahead: wall.as_secs_f64(),
        }
    }

    pub(super) fn jitter(&self) -> f64 {
        self.jitter
    }

    pub(super) fn one_way(&self) -> Differences {
        self.one_way
    }

    /// When the highest number came.
    pub(super) fn highest_heard_at(&self) -> Instant {
        self.highest_heard_at
    }

    fn since_start(&self, now: Instant) -> f64 {
        now.saturating_duration_since(self.start).as_secs_f64()
    }

    /// Whether a heartbeat whose number is not above the highest is that of a sender that began
    /// again.
    pub(super) fn began_again(
        &self,
        stamp: Stamp,
        numbers: &Sequence,
        now: Instant,
        is_signed: bool,
    ) -> bool {
        if stamp.sent_at > self.highest_sent_at {
            let was_before = self.put_back_at.is_some_and(|at| stamp.sequence < at);
            return !(was_before && numbers.misses(stamp.sequence));
        }
        let passed = now.saturating_duration_since(self.highest_heard_at);
        !is_signed && self.highest_sent_at - stamp.sent_at > DELAY_MAX + passed
    }

    /// The next in the order of the numbers. Whether it shows that the sender's clock was set.
    pub(super) fn in_order(&mut self, stamp: Stamp, now: Instant, clock_step: Duration) -> bool {
        let difference = self.since_start(now) - stamp.sent_at.as_secs_f64();
        let clock_step = clock_step.as_secs_f64();
        let is_within = |other: f64, span: f64| (difference - other).abs() <= span;
        let passed = now.saturating_duration_since(self.highest_heard_at);
        let is_at_heels = 2 * passed < stamp.sent_at.saturating_sub(self.highest_sent_at);
        (self.highest_sent_at, self.highest_heard_at) = (stamp.sent_at, now);
        if is_within(self.difference, clock_step) {
            (self.difference, self.suspect, self.put_back_at) = (difference, None, None);
            return false;
        }
        let is_confirmed = |suspect| is_within(suspect, clock_step / 4.0) && !is_at_heels;
        if self.suspect.take().is_some_and(is_confirmed) {
            self.difference = difference;
            return true;
        }
        self.suspect = Some(difference);
        self.put_back_at = (difference > self.difference).then_some(stamp.sequence);
        false
    }

    /// The sender began again.
    pub(super) fn restart(&mut self, stamp: Stamp, now: Instant) {
        self.difference = self.since_start(now) - stamp.sent_at.as_secs_f64();
        (self.highest_sent_at, self.highest_heard_at) = (stamp.sent_at, now);
        (self.suspect, self.put_back_at) = (None, None);
    }

    /// One that came, in whatever order. `is_anew`: one-way differences begin with it.
    pub(super) fn came(
        &mut self,
        stamp: Stamp,
        now: Instant,
        wall: Duration,
        clock_step: Duration,
        is_anew: bool,
    ) {
        let (since_start, wall) = (self.since_start(now), wall.as_secs_f64());
        let difference = since_start - stamp.sent_at.as_secs_f64();
        let change = (difference - self.last_difference).abs();
        self.last_difference = difference;
        if change <= clock_step.as_secs_f64() {
            self.jitter += (change - self.jitter) / 16.0;
        }
        let wall_ahead = wall - since_start;
        let was_set = (wall_ahead - self.wall_ahead).abs() > clock_step.as_secs_f64();
        self.wall_ahead = wall_ahead;
        let one_way = wall - stamp.sent_at.as_secs_f64();
        match was_set || is_anew {
            true => self.one_way = Differences::new(one_way),
            false => self.one_way.add(one_way),
        }
    }
}
