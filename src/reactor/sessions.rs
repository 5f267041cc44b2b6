//! The sessions, and which of them are to be pumped: the run queue.
//!
//! [`Sessions::wake`] is the only way into the queue. A session stands in it at most once, behind
//! those that came before it. Those that spent their budget of a turn stand behind those that came
//! until the next one: see [`Sessions::queue_spent`].

use std::collections::VecDeque;

use slab::Slab;

use super::session::Session;
use super::timer::Tick;
use crate::inside::ring::Why;
use crate::service::Id;
use crate::sys::Sys;

/// All sessions.
pub(super) struct Sessions<S: Sys> {
    all: Slab<Session<S>>,
    generation: u32,
    runnable: VecDeque<Id>,
    /// Those that spent their budget in this turn.
    spent: VecDeque<Id>,
}

impl<S: Sys> Sessions<S> {
    pub(super) fn new() -> Self {
        Self {
            all: Slab::new(),
            generation: 0,
            runnable: VecDeque::new(),
            spent: VecDeque::new(),
        }
    }

    /// Open sessions.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Sessions in the run queue.
    pub(super) fn runnable(&self) -> usize {
        self.runnable.len() + self.spent.len()
    }

    /// Queues those that spent their budget of the last turn behind all that came since: who asks
    /// for little waits for one turn at most, and not for two. How many are to be pumped now.
    pub(super) fn queue_spent(&mut self) -> usize {
        if !self.spent.is_empty() {
            self.runnable.append(&mut self.spent);
        }
        self.runnable.len()
    }

    /// Adds a session, which is to be woken.
    pub(super) fn insert(&mut self, make: impl FnOnce(Id) -> Session<S>) -> Id {
        self.generation = self.generation.wrapping_add(1);
        let entry = self.all.vacant_entry();
        let id = Id {
            index: entry.key() as u32,
            generation: self.generation,
        };
        entry.insert(make(id));
        id
    }

    /// The session of this id; `None` if it has ended.
    pub(super) fn live(&mut self, id: Id) -> Option<&mut Session<S>> {
        self.all
            .get_mut(id.index as usize)
            .filter(|session| session.id == id)
    }

    /// Whether the session of this id goes on and waits for the reminder of this tick.
    pub(super) fn holds_reminder(&self, id: Id, tick: Tick) -> bool {
        let session = self.all.get(id.index as usize);
        session.is_some_and(|session| session.id == id && session.reminders.hold(tick))
    }

    /// Whether the session of this id goes on.
    pub(super) fn is_live(&self, id: Id) -> bool {
        let session = self.all.get(id.index as usize);
        session.is_some_and(|session| session.id == id)
    }

    /// The session that has the place of this id by now, whether or not it is the one that was
    /// meant.
    pub(super) fn successor(&self, id: Id) -> Option<Id> {
        self.all.get(id.index as usize).map(|session| session.id)
    }

    /// Queues a session, unless it is. An id whose session has ended wakes nobody. Whether it was
    /// queued by this.
    pub(super) fn wake(&mut self, id: Id, why: Why) -> bool {
        let Some(session) = self
            .all
            .get_mut(id.index as usize)
            .filter(|session| session.id == id)
        else {
            return false;
        };
        let is_fact = match why {
            Why::Accepted | Why::Deadline | Why::Name | Why::Disk | Why::Work | Why::Drain => true,
            // Those that spent their budget know themselves whether a fact is left.
            Why::Event | Why::Budget => false,
        };
        if is_fact {
            session.wake();
        }
        if session.queued {
            return false;
        }
        session.queued = true;
        match why {
            Why::Budget => self.spent.push_back(id),
            _ => self.runnable.push_back(id),
        }
        true
    }

    /// The next session to pump, which is not queued any more.
    pub(super) fn next(&mut self) -> Option<Id> {
        loop {
            let id = self.runnable.pop_front()?;
            if let Some(session) = self.live(id) {
                session.queued = false;
                return Some(id);
            }
        }
    }

    /// Takes a session out.
    pub(super) fn remove(&mut self, id: Id) -> Session<S> {
        self.all.remove(id.index as usize)
    }

    /// Those in some places from one on, and the place behind them; `None` at the end.
    pub(super) fn some(
        &self,
        from: usize,
        count: usize,
    ) -> (impl Iterator<Item = &Session<S>>, Option<usize>) {
        let end = self.all.capacity().min(from.saturating_add(count));
        let some = (from..end).filter_map(|place| self.all.get(place));
        (some, Some(end).filter(|end| *end < self.all.capacity()))
    }

    /// The ids of all.
    pub(super) fn ids(&self) -> Vec<Id> {
        self.all.iter().map(|(_, session)| session.id).collect()
    }
}
