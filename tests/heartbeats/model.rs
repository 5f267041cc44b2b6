//! What a monitor has to say of its senders, written down once more from the rules of the README, over
//! the whole history of each sender: slow, and with nothing in common with the monitor but those
//! rules. Times are microseconds.

use std::collections::BTreeSet;

const SECOND: i64 = 1_000_000;
/// Numbers that far below the highest are too old to tell.
const WINDOW: u64 = 128;
const GAP_MAX: u64 = 1 << 20;
const DELAY_MAX: i64 = 120 * SECOND;

#[derive(Clone, Copy)]
pub(crate) struct Rules {
    pub(crate) timeout: i64,
    pub(crate) grace: i64,
    /// So many intervals instead of the time-out.
    pub(crate) missed_beats: Option<i64>,
    pub(crate) timeout_min: i64,
    pub(crate) clock_step: i64,
}

/// A heartbeat, as it was sent and when it came.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Beat {
    pub(crate) number: u64,
    pub(crate) time: i64,
    pub(crate) is_down: bool,
    pub(crate) came: i64,
}

/// What is expected of one sender.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    pub(crate) lost: u64,
    pub(crate) duplicates: u64,
    pub(crate) reordered: u64,
    pub(crate) restarts: u64,
    pub(crate) clock_steps: u64,
    pub(crate) downs: u64,
}

/// All that came of one sender.
pub(crate) struct History {
    rules: Rules,
    /// Since it began: what came in the order of the numbers.
    in_order: Vec<Beat>,
    numbers: BTreeSet<u64>,
    /// From one of those to the next, for each number between them; also before it began again.
    intervals: Vec<f64>,
    /// What was found before it began again.
    before: Verdict,
    /// Of those since: how many were duplicates, came late, and came late of those thought lost.
    duplicates: u64,
    reordered: u64,
    found: u64,
    downs: u64,
    /// Each sign of life, and the time-out that was in force from then on; a down beat is an end.
    signs: Vec<Sign>,
    jitter: f64,
    last: Beat,
}

struct Sign {
    at: i64,
    late_after: i64,
    is_end: bool,
}

impl History {
    pub(crate) fn new(rules: Rules, first: Beat) -> Self {
        let mut history = Self {
            rules,
            in_order: vec![first],
            numbers: BTreeSet::from([first.number]),
            intervals: Vec::new(),
            before: Verdict::default(),
            duplicates: 0,
            reordered: 0,
            found: 0,
            downs: 0,
            signs: Vec::new(),
            jitter: 0.0,
            last: first,
        };
        history.sign(first.came, false);
        history
    }

    fn highest(&self) -> Beat {
        *self.in_order.last().expect("the first, at least")
    }

    /// How often its clock was set since it began, and the number at which it seems to have been put
    /// back last, if nothing has refuted that.
    fn clock(&self) -> (u64, Option<u64>) {
        let difference = |beat: &Beat| beat.came - beat.time;
        let step = self.rules.clock_step;
        let mut usual = difference(&self.in_order[0]);
        let (mut steps, mut suspect, mut put_back) = (0, None::<Beat>, None);
        for pair in self.in_order.windows(2) {
            let (before, beat) = (&pair[0], &pair[1]);
            let now = difference(beat);
            if (now - usual).abs() <= step {
                (usual, suspect, put_back) = (now, None, None);
                continue;
            }
            let confirms = suspect.is_some_and(|suspect| {
                let is_same = 4 * (now - difference(&suspect)).abs() <= step;
                is_same && 2 * (beat.came - before.came) >= beat.time - before.time
            });
            if confirms {
                (usual, suspect) = (now, None);
                steps += 1;
            } else {
                suspect = Some(*beat);
                put_back = (now > usual).then_some(beat.number);
            }
        }
        (steps, put_back)
    }

    /// The time between two heartbeats, as a mean in which each new one counts an eighth. That a
    /// sender began again does not change it.
    fn interval(&self) -> Option<i64> {
        let (first, rest) = self.intervals.split_first()?;
        let mean = rest
            .iter()
            .fold(*first, |mean, each| mean * 0.875 + each * 0.125);
        (self.intervals.len() >= 4).then_some(mean as i64)
    }

    fn began_again(&self, beat: &Beat) -> bool {
        let highest = self.highest();
        if beat.number > highest.number {
            return beat.number - highest.number > GAP_MAX;
        }
        if beat.time > highest.time {
            let is_missing =
                highest.number - beat.number < WINDOW && !self.numbers.contains(&beat.number);
            let is_before_step = self.clock().1.is_some_and(|at| beat.number < at);
            return !(is_missing && is_before_step);
        }
        highest.time - beat.time > DELAY_MAX + (beat.came - highest.came)
    }

    pub(crate) fn hear(&mut self, beat: Beat) {
        let highest = self.highest();
        let mut goes_on = true;
        let mut is_duplicate = false;
        if self.began_again(&beat) {
            self.before = Verdict {
                restarts: self.before.restarts + 1,
                ..self.verdict()
            };
            self.before.downs = 0;
            (self.in_order, self.numbers) = (vec![beat], BTreeSet::from([beat.number]));
            (self.duplicates, self.reordered, self.found) = (0, 0, 0);
        } else if beat.number > highest.number {
            let steps = (beat.number - highest.number) as f64;
            self.intervals
                .push((beat.came - highest.came) as f64 / steps);
            self.in_order.push(beat);
            self.numbers.insert(beat.number);
        } else {
            goes_on = false;
            let is_too_old = highest.number - beat.number >= WINDOW;
            is_duplicate = !is_too_old && self.numbers.contains(&beat.number);
            if is_duplicate {
                self.duplicates += 1;
            } else {
                self.reordered += 1;
                self.found += u64::from(beat.number > self.in_order[0].number);
                self.numbers.insert(beat.number);
            }
        }
        if !is_duplicate {
            let change = (beat.came - self.last.came) - (beat.time - self.last.time);
            if change.abs() <= self.rules.clock_step {
                self.jitter += (change.abs() as f64 - self.jitter) / 16.0;
            }
            self.last = beat;
        }
        let is_down = self.signs.last().is_some_and(|sign| sign.is_end);
        if goes_on && beat.is_down {
            self.downs += 1;
            self.sign(beat.came, true);
        } else if goes_on || !is_down {
            self.sign(beat.came, false);
        }
    }

    fn sign(&mut self, at: i64, is_end: bool) {
        let late_after = match (self.rules.missed_beats, self.interval()) {
            (Some(missed), Some(interval)) => (missed * interval).max(self.rules.timeout_min),
            _ => self.rules.timeout,
        };
        self.signs.push(Sign {
            at,
            late_after,
            is_end,
        });
    }

    pub(crate) fn verdict(&self) -> Verdict {
        let skipped: u64 = self
            .in_order
            .windows(2)
            .map(|pair| pair[1].number - pair[0].number - 1)
            .sum();
        Verdict {
            lost: self.before.lost + skipped - self.found.min(self.before.lost + skipped),
            duplicates: self.before.duplicates + self.duplicates,
            reordered: self.before.reordered + self.reordered,
            restarts: self.before.restarts,
            clock_steps: self.before.clock_steps + self.clock().0,
            downs: self.downs,
        }
    }

    /// In seconds.
    pub(crate) fn jitter(&self) -> f64 {
        self.jitter / SECOND as f64
    }

    /// `up`, `late` or `dead`.
    pub(crate) fn state(&self, now: i64) -> &'static str {
        let sign = self.signs.last().expect("the first, at least");
        self.after(sign, now - sign.at)
    }

    fn after(&self, sign: &Sign, silence: i64) -> &'static str {
        match silence {
            _ if sign.is_end => "dead",
            silence if silence >= sign.late_after + self.rules.grace => "dead",
            silence if silence >= sign.late_after => "late",
            _ => "up",
        }
    }

    /// How often it became late, dead and back until now.
    pub(crate) fn changes(&self, now: i64) -> [u64; 3] {
        let mut changes = [0; 3];
        let mut was_dead = false;
        for (i, sign) in self.signs.iter().enumerate() {
            let next = self.signs.get(i + 1);
            changes[2] += u64::from(i > 0 && !sign.is_end && self.was_silent(i));
            changes[1] += u64::from(sign.is_end && !was_dead);
            let silence = next.map_or(now, |next| next.at) - sign.at;
            let became = self.after(sign, silence);
            if !sign.is_end {
                let grace = self.rules.grace > 0;
                changes[0] += u64::from(grace && became != "up");
                changes[1] += u64::from(became == "dead");
            }
            was_dead = became == "dead";
        }
        changes
    }

    /// Whether it was late or dead when this sign came.
    fn was_silent(&self, sign: usize) -> bool {
        let before = &self.signs[sign - 1];
        self.after(before, self.signs[sign].at - before.at) != "up"
    }

    /// How near the silence is to a moment at which something changes.
    pub(crate) fn margin(&self, now: i64) -> i64 {
        let sign = self.signs.last().expect("the first, at least");
        let silence = now - sign.at;
        let late = (silence - sign.late_after).abs();
        let dead = (silence - sign.late_after - self.rules.grace).abs();
        if sign.is_end {
            i64::MAX
        } else {
            late.min(dead)
        }
    }
}
