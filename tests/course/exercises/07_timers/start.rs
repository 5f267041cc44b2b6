// Exercise 7, timers: each connection has one deadline, which moves all the time; a connection that
// ends leaves its slot to another one. `expired` tells whose deadline has passed, each once; `next` is
// a moment at which it is worth looking, never later than the first deadline.
//
// Look at: `src/reactor/timer.rs`, its rules, and `expire` in `src/reactor/mod.rs`.
//
// What is given forgets nothing: a deadline that was moved is told of at its old time as well, and
// one of a connection that ended hits the next one in its slot.
//
// Run: cargo test --test course --features exercises e07

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::Instant;

/// A connection: its slot, and which of the slot's users it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Id {
    pub(crate) slot: usize,
    pub(crate) generation: u64,
}

#[derive(Default)]
pub(crate) struct Timers {
    all: BinaryHeap<Reverse<(Instant, usize)>>,
    users: HashMap<usize, Id>,
}

impl Timers {
    /// A connection has this deadline from now on.
    pub(crate) fn set(&mut self, id: Id, at: Instant) {
        self.users.insert(id.slot, id);
        self.all.push(Reverse((at, id.slot)));
    }

    /// A connection has ended.
    pub(crate) fn end(&mut self, id: Id) {
        self.users.remove(&id.slot);
    }

    /// Whose deadline has passed; they have none any more.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<Id> {
        let mut due = Vec::new();
        while let Some(Reverse((_, slot))) = self.all.peek().copied().filter(|e| e.0.0 <= now) {
            self.all.pop();
            due.extend(self.users.get(&slot));
        }
        due
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.all.peek().map(|Reverse((at, _))| *at)
    }
}
