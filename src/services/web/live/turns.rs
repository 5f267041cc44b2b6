//! The last turns of the loop, each as a whole: looked at for a moment, and told then.
//!
//! ```text
//! Watching ──turns enough, or long enough──▶ Telling ──all written──▶ Resting ──later──▶ Watching
//! ```
//!
//! Under load a moment has hundreds of turns, and only in that moment the ring is on; a loop that
//! has little to do is watched nearly all the time. So what it costs is bounded whatever the loop does:
//! the ring for a few thousandths of a second, and the text of so many records.

use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};

use super::{Source, counted, names};
use crate::inside::replayed::Replayed;
use crate::inside::ring::{Record, Ring, What};
use crate::inside::roster::Row;
use crate::inside::words::{self, Kinds};
use crate::service::{Cx, work};

/// How long it is watched at least, and at most.
const GLANCE: Duration = Duration::from_millis(2);
const SECOND_GLANCE: Duration = Duration::from_millis(8);
const WATCH: Duration = Duration::from_secs(1);
/// How long nobody looks then.
const REST: Duration = Duration::from_millis(900);
/// Records that are told at once.
const RECORDS_MAX: usize = 512;
/// Turns that are told, if nothing is said, and at most.
pub(in crate::services::web) const TURNS: usize = 32;
pub(in crate::services::web) const TURNS_MAX: usize = 256;

enum Stage {
    /// The ring is read from this place on; so often it was looked at.
    Watching {
        from: u64,
        since: Instant,
        looks: u32,
    },
    /// So many records are written.
    Telling {
        records: Vec<Record>,
        written: usize,
        kinds: Kinds,
    },
    Resting,
}

/// The last turns.
pub(in crate::services::web) struct Turns {
    wanted: usize,
    /// They are told again and again, as events.
    repeats: bool,
    is_told: bool,
    stage: Stage,
    /// Counts those who listen.
    _place: Option<Rc<()>>,
}

impl Turns {
    /// So many of them: as events to one of those whom `place` counts, or once.
    pub(in crate::services::web) fn new(
        wanted: usize,
        place: Option<Rc<()>>,
        cx: &mut Cx<'_>,
    ) -> Self {
        Self {
            wanted,
            repeats: place.is_some(),
            is_told: false,
            stage: watch(cx),
            _place: place,
        }
    }

    /// Those of a record that are asked for, once: turns as they are numbered there, so many at most.
    pub(in crate::services::web) fn of_record(
        which: Which,
        wanted: usize,
        rows: &[Row],
        cx: &Cx<'_>,
    ) -> Self {
        let mut kinds = Kinds::default();
        for row in rows {
            if let Some(listener) = counted(cx).listeners.get(row.listener) {
                kinds.learn(row.id.generation, listener.kind);
            }
        }
        let places = cx
            .inside
            .replayed
            .as_ref()
            .map(|replayed| which.of(replayed, wanted));
        let (_, records) = cx.inside.ring.since(0);
        let places = places.unwrap_or_default();
        let records = records.skip(places.start).take(places.len());
        Self {
            wanted,
            repeats: false,
            is_told: false,
            stage: Stage::Telling {
                records: records.copied().collect(),
                written: 0,
                kinds,
            },
            _place: None,
        }
    }

    /// Writes some of the records, as far as the share of work goes. Whether that is all.
    fn tell(&mut self, cx: &mut Cx<'_>, text: &mut String) -> bool {
        let Stage::Telling {
            records,
            written,
            kinds,
        } = &mut self.stage
        else {
            return true;
        };
        let most = cx.work.steps(work::RECORD_NS);
        if most == 0 {
            return false;
        }
        if *written == 0 {
            text.push_str(if self.repeats {
                "event: turns\ndata: ["
            } else {
                "["
            });
        }
        let names = names(cx);
        let some = &records[*written..];
        let some = &some[..some.len().min(most)];
        for record in some {
            let is_turn = matches!(record.what, What::Turn { .. });
            text.push_str(match (is_turn, *written) {
                (_, 0) => "[",
                (true, _) => "],[",
                (false, _) => ",",
            });
            words::put_object(record, names, kinds, text);
            *written += 1;
        }
        let is_all = *written == records.len();
        let count = some.len();
        cx.work.charge_each(count, work::RECORD_NS);
        if is_all {
            text.push_str(if *written > 0 { "]]" } else { "]" });
            text.push_str(if self.repeats { "\n\n" } else { "\n" });
            self.stage = Stage::Resting;
            self.is_told = true;
        }
        is_all
    }
}

/// Turns of a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::services::web) enum Which {
    /// From this one on.
    From(u64),
    /// Those before this one.
    Before(u64),
}

impl Which {
    fn of(self, replayed: &Replayed, wanted: usize) -> Range<usize> {
        match self {
            Which::From(turn) => replayed.from(turn, wanted, RECORDS_MAX),
            Which::Before(turn) => replayed.before(turn, wanted, RECORDS_MAX),
        }
    }
}

/// The ring is on, from now on.
fn watch(cx: &mut Cx<'_>) -> Stage {
    Stage::Watching {
        from: cx.inside.ring.begin_reading(),
        since: cx.now,
        looks: 0,
    }
}

/// The newest turns that have ended, so many at most and no more of them than are told at once; or
/// the end of the last one, if that alone is more. And how many they are.
fn newest(ring: &Ring, from: u64, wanted: usize) -> (Vec<Record>, usize) {
    let (mut found, mut whole, mut turns) = (Vec::new(), 0, 0);
    let ended = |record: &&Record| matches!(record.what, What::TurnEnded { .. });
    let backwards = ring.since(from).1.rev();
    for record in backwards.skip_while(|record| !ended(record)) {
        if turns == wanted || found.len() == RECORDS_MAX {
            break;
        }
        found.push(*record);
        if matches!(record.what, What::Turn { .. }) {
            (whole, turns) = (found.len(), turns + 1);
        }
    }
    if whole > 0 {
        found.truncate(whole);
    }
    found.reverse();
    (found, turns)
}

impl Source for Turns {
    fn look(&mut self, cx: &mut Cx<'_>, text: &mut String) -> bool {
        match self.stage {
            Stage::Watching {
                from,
                since,
                ref mut looks,
            } => {
                *looks += 1;
                let watched = cx.now.saturating_duration_since(since);
                let (records, turns) = newest(&cx.inside.ring, from, self.wanted);
                if watched < WATCH && turns < self.wanted {
                    return true;
                }
                cx.inside.ring.end_reading();
                self.stage = Stage::Telling {
                    records,
                    written: 0,
                    kinds: Kinds::default(),
                };
                self.tell(cx, text)
            }
            Stage::Telling { .. } => self.tell(cx, text),
            Stage::Resting => {
                if self.repeats {
                    self.stage = watch(cx);
                }
                true
            }
        }
    }

    fn end(&mut self, _cx: &mut Cx<'_>, text: &mut String) {
        if !self.repeats && !self.is_told {
            text.push_str("[]\n");
        }
    }

    fn ended(&mut self, cx: &mut Cx<'_>) {
        if matches!(self.stage, Stage::Watching { .. }) {
            cx.inside.ring.end_reading();
        }
    }

    fn pause(&self) -> Duration {
        match self.stage {
            // Looking makes turns, too.
            Stage::Watching { looks: 0, .. } => GLANCE,
            Stage::Watching { looks: 1, .. } => SECOND_GLANCE,
            Stage::Watching { .. } => WATCH - GLANCE - SECOND_GLANCE,
            Stage::Telling { .. } => Duration::ZERO,
            Stage::Resting => REST,
        }
    }

    fn is_over(&self) -> bool {
        self.is_told && !self.repeats
    }

    fn bytes_held(&self) -> usize {
        match &self.stage {
            Stage::Telling { records, .. } => records.capacity() * size_of::<Record>(),
            _ => 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::inside::ring::{LOOP, Part};

    fn ring(turns: &[usize]) -> Ring {
        let (mut ring, now) = (Ring::default(), Instant::now());
        ring.set(1 << 20, true);
        for (events, parts) in turns.iter().enumerate() {
            let events = events as u32;
            ring.push(now, LOOP, What::Turn { events });
            for _ in 0..*parts {
                ring.push(now, LOOP, What::Part(Part::Run));
            }
            ring.push(now, LOOP, What::TurnEnded { runnable: 0 });
        }
        ring.push(now, LOOP, What::Turn { events: 99 }); // which goes on
        ring
    }

    #[test]
    fn the_newest_whole_turns_are_told() {
        let first = |records: &[Record]| records.first().map(|record| record.what);
        let (records, turns) = newest(&ring(&[1, 1, 1]), 0, 2);
        assert_eq!((records.len(), turns), (6, 2));
        assert_eq!(first(&records), Some(What::Turn { events: 1 }));
        let (records, turns) = newest(&ring(&[1]), 0, 9);
        assert_eq!((records.len(), turns), (3, 1));
        assert_eq!(newest(&ring(&[]), 0, 9).1, 0);
    }

    #[test]
    fn no_more_is_told_than_at_once() {
        let (records, turns) = newest(&ring(&[RECORDS_MAX / 2, RECORDS_MAX / 2]), 0, 9);
        assert_eq!((records.len(), turns), (RECORDS_MAX / 2 + 2, 1));
        let (records, turns) = newest(&ring(&[2 * RECORDS_MAX]), 0, 9);
        assert_eq!((records.len(), turns), (RECORDS_MAX, 0), "its end");
    }
}
