// Nothing is cancelled: who is reminded looks whether it is still so. The heap holds a reminder for
// each move; the reactor's wheel pushes none while an earlier one is there.

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
    reminders: BinaryHeap<Reverse<(Instant, Id)>>,
    /// What holds; a reminder that says otherwise is old.
    deadlines: HashMap<Id, Instant>,
}

impl Timers {
    /// A connection has this deadline from now on.
    pub(crate) fn set(&mut self, id: Id, at: Instant) {
        self.deadlines.insert(id, at);
        self.reminders.push(Reverse((at, id)));
    }

    /// A connection has ended.
    pub(crate) fn end(&mut self, id: Id) {
        self.deadlines.remove(&id);
    }

    /// Whose deadline has passed; they have none any more.
    pub(crate) fn expired(&mut self, now: Instant) -> Vec<Id> {
        let mut due = Vec::new();
        while let Some(Reverse((at, id))) = self.reminders.peek().copied().filter(|r| r.0.0 <= now)
        {
            self.reminders.pop();
            if self.deadlines.get(&id) == Some(&at) {
                self.deadlines.remove(&id);
                due.push(id);
            }
        }
        due
    }

    /// When to look again.
    pub(crate) fn next(&self) -> Option<Instant> {
        self.reminders.peek().map(|Reverse((at, _))| *at)
    }
}
