//! The table of senders, by address and port, bounded.
//!
//! The rules:
//! 1. Every sender is in exactly one of two ordered sets: `due` by the moment when it may change by
//!    silence, or `dead` by when it was last heard of. A heartbeat does not move it in `due`: the
//!    moment is looked at when it comes, and the sender entered again with its real one. So a
//!    sender costs one step in the set for each `timeout`, however often it beats.
//! 2. A sender is *fresh* until it is established: [`ESTABLISHED_BEATS`] heartbeats, over at least
//!    `timeout`. In a full table a newcomer takes the place of the fresh one that is silent longest,
//!    else of whoever is dead longest; while all are established and alive it is dropped. So forged
//!    addresses push out one another, and nobody who is known.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::metrics::HeartbeatMetrics;
use crate::service::datagram::{Sender, Senders};
use crate::wire::heartbeat::{Beat, Change, Rules, State, Tracker};

/// Heartbeats of a sender that is established.
pub(super) const ESTABLISHED_BEATS: u64 = 3;
/// Bytes of a sender's name for itself that are kept.
const IDENTITY_BYTES_MAX: usize = 64;

/// All senders.
pub(super) struct Table {
    rules: Rules,
    senders_max: usize,
    entries: HashMap<SocketAddr, Entry>,
    pub(super) due: BTreeSet<(Instant, SocketAddr)>,
    pub(super) dead: BTreeSet<(Instant, SocketAddr)>,
    fresh: BTreeSet<(Instant, SocketAddr)>,
}

struct Entry {
    tracker: Tracker,
    identity: Option<Box<str>>,
    place: Place,
    /// Where it is among the fresh ones; `None` once it is established.
    fresh_at: Option<Instant>,
}

/// Which set a sender is in, and under which moment.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Due(Instant),
    Dead(Instant),
}

impl Place {
    fn of(tracker: &Tracker, rules: &Rules) -> Self {
        match tracker.deadline(rules) {
            Some(moment) => Place::Due(moment),
            None => Place::Dead(tracker.heard_at()),
        }
    }
}

impl Table {
    /// An empty one, for so many senders.
    pub(super) fn new(rules: Rules, senders_max: usize) -> Self {
        Self {
            rules,
            senders_max,
            entries: HashMap::new(),
            due: BTreeSet::new(),
            dead: BTreeSet::new(),
            fresh: BTreeSet::new(),
        }
    }

    /// How many senders are known.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }

    /// A heartbeat. What changed by it, and by the silence before it, is pushed to `changes`.
    /// Whether there was room for its sender.
    pub(super) fn hear(
        &mut self,
        from: SocketAddr,
        beat: &Beat<'_>,
        (now, wall): (Instant, Duration),
        metrics: &mut HeartbeatMetrics,
        changes: &mut Vec<Change>,
    ) -> bool {
        if self.observe(from, Some((beat, wall)), now, metrics, changes) {
            return true;
        }
        if beat.is_down {
            metrics.downs += 1; // of somebody who is not waited for
            return true;
        }
        if !self.make_room(metrics) {
            return false;
        }
        let tracker = Tracker::new(beat, now, wall);
        let place = Place::of(&tracker, &self.rules);
        self.put(place, from);
        self.fresh.insert((now, from));
        let entry = Entry {
            tracker,
            identity: beat.identity.map(identity),
            place,
            fresh_at: Some(now),
        };
        self.entries.insert(from, entry);
        metrics.senders[State::Up as usize] += 1;
        changes.push(Change::New);
        true
    }

    /// The next sender that changes by silence until `now`; what changed is pushed to `changes`.
    pub(super) fn pass(
        &mut self,
        now: Instant,
        metrics: &mut HeartbeatMetrics,
        changes: &mut Vec<Change>,
    ) -> Option<SocketAddr> {
        let (_, from) = *self.due.first().filter(|(moment, _)| *moment <= now)?;
        self.observe(from, None, now, metrics, changes);
        Some(from)
    }

    /// What became of a known sender until `now`, and by the heartbeat that it sent, if it did.
    /// Whether it is known.
    fn observe(
        &mut self,
        from: SocketAddr,
        beat: Option<(&Beat<'_>, Duration)>,
        now: Instant,
        metrics: &mut HeartbeatMetrics,
        changes: &mut Vec<Change>,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(&from) else {
            return false;
        };
        let (tracker, rules) = (&mut entry.tracker, &self.rules);
        let before = tracker.state();
        while let Some(change) = tracker.advance(rules, now) {
            changes.push(change);
        }
        if let Some((beat, wall)) = beat {
            let counts = tracker.counts();
            changes.extend(tracker.heard(rules, beat, now, wall));
            metrics.count(counts, tracker.counts());
            if let Some(name) = beat.identity
                && entry.identity.as_deref() != Some(name)
            {
                entry.identity = Some(identity(name));
            }
            if let Some(fresh_at) = entry.fresh_at.take() {
                self.fresh.remove(&(fresh_at, from));
                if !is_established(tracker, rules, now) {
                    self.fresh.insert((now, from));
                    entry.fresh_at = Some(now);
                }
            }
        }
        if before != tracker.state() {
            metrics.senders[before as usize] -= 1;
            metrics.senders[tracker.state() as usize] += 1;
        }
        let (old, new) = (entry.place, Place::of(tracker, rules));
        let still_to_come = |armed: Instant, moment: Instant| now < armed && armed <= moment;
        if !matches!((old, new), (Place::Due(armed), Place::Due(moment)) if still_to_come(armed, moment))
        {
            entry.place = new;
            self.take(old, from);
            self.put(new, from);
        }
        true
    }

    /// Forgets a sender if the table is full. Whether there is room.
    fn make_room(&mut self, metrics: &mut HeartbeatMetrics) -> bool {
        if self.entries.len() < self.senders_max {
            return true;
        }
        let victim = self.fresh.first().or(self.dead.first());
        let Some((_, from)) = victim.copied() else {
            return false;
        };
        if let Some(entry) = self.entries.remove(&from) {
            self.take(entry.place, from);
            if let Some(fresh_at) = entry.fresh_at {
                self.fresh.remove(&(fresh_at, from));
            }
            metrics.senders[entry.tracker.state() as usize] -= 1;
            metrics.evicted += 1;
        }
        true
    }

    fn put(&mut self, place: Place, from: SocketAddr) {
        match place {
            Place::Due(moment) => self.due.insert((moment, from)),
            Place::Dead(moment) => self.dead.insert((moment, from)),
        };
    }

    fn take(&mut self, place: Place, from: SocketAddr) {
        match place {
            Place::Due(moment) => self.due.remove(&(moment, from)),
            Place::Dead(moment) => self.dead.remove(&(moment, from)),
        };
    }

    /// At most so many senders: those that are dead, the latest first, then those that are next to
    /// be late or dead.
    pub(super) fn senders(&self, now: Instant, most: usize) -> Senders {
        let of = |(_, address): &(Instant, SocketAddr)| {
            let entry = self.entries.get(address)?;
            Some(sender(*address, entry, now))
        };
        let in_order = self.dead.iter().rev().chain(&self.due);
        let rows: Vec<Sender> = in_order.take(most).filter_map(of).collect();
        Senders {
            omitted: self.entries.len() - rows.len(),
            rows,
        }
    }
}

/// As much of a name as is kept.
fn identity(name: &str) -> Box<str> {
    name[..name.floor_char_boundary(IDENTITY_BYTES_MAX)].into()
}

fn is_established(tracker: &Tracker, rules: &Rules, now: Instant) -> bool {
    let known_for = now.saturating_duration_since(tracker.first_heard_at());
    tracker.counts().received >= ESTABLISHED_BEATS && known_for >= rules.timeout
}

fn sender(address: SocketAddr, entry: &Entry, now: Instant) -> Sender {
    let tracker = &entry.tracker;
    Sender {
        address,
        identity: entry.identity.as_deref().map(str::to_owned),
        state: tracker.state(),
        is_down: tracker.is_down(),
        silent_for: now.saturating_duration_since(tracker.heard_at()),
        known_for: now.saturating_duration_since(tracker.first_heard_at()),
        sequence: tracker.highest(),
        counts: tracker.counts(),
        interval: tracker.interval(),
        differences: tracker.differences(),
        jitter_s: tracker.jitter(),
    }
}
