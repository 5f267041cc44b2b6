//! A list that is made when somebody asks for it, if need be a piece in a turn: of the sessions that
//! there are, for one ([`Row`]).
//!
//! ```text
//! nobody asks ──asked──▶ being made, a piece in each turn ──all were looked at──▶ made ──taken──▶ nobody asks
//! ```
//!
//! Who asks while it is being made gets the same list. A session that begins or ends meanwhile may
//! or may not be in it.

use std::mem;
use std::rc::Rc;
use std::task::Poll;

use super::ring::Waits;
use crate::waiter::Id;

/// One session.
#[derive(Clone, Debug)]
pub struct Row {
    /// Which one.
    pub id: Id,
    /// The place of its listener in the metrics.
    pub listener: usize,
    /// Who is at the other end: an address and port, or what else there is.
    pub peer: Box<str>,
    /// The state of its protocol, or of its end.
    pub state: &'static str,
    /// What it waits for.
    pub waits: Waits,
    /// For how many milliseconds at most.
    pub deadline_ms: u64,
    /// Bytes that arrived and were not consumed.
    pub received: usize,
    /// Bytes that wait to be sent, of files too.
    pub queued: u64,
    /// Whether there is a connection to an origin, or one is being made.
    pub has_origin: bool,
}

/// The list, and who wants it.
#[derive(Debug)]
pub struct Roster<T> {
    waiters: Vec<Id>,
    rows: Vec<T>,
    /// Where the making goes on; `None` while nobody asks.
    place: Option<usize>,
    made: Option<Rc<[T]>>,
    /// It is what it is, whoever asks.
    is_fixed: bool,
}

impl<T> Default for Roster<T> {
    fn default() -> Self {
        Self {
            waiters: Vec::new(),
            rows: Vec::new(),
            place: None,
            made: None,
            is_fixed: false,
        }
    }
}

impl<T> Roster<T> {
    /// The list; a session that asks for it is woken when it is there, and asks again.
    pub fn ask(&mut self, asking: Id) -> Poll<Rc<[T]>> {
        if let Some(made) = &self.made {
            return Poll::Ready(Rc::clone(made));
        }
        if !self.waiters.contains(&asking) {
            self.waiters.push(asking);
        }
        self.place.get_or_insert(0);
        Poll::Pending
    }

    /// From now on it is these.
    pub fn fix(&mut self, rows: Vec<T>) {
        self.made = Some(rows.into());
        self.is_fixed = true;
    }

    /// What it is, if it is fixed.
    pub fn fixed(&self) -> Option<Rc<[T]>> {
        self.made.clone().filter(|_| self.is_fixed)
    }

    /// Where it is to go on, if it is being made.
    pub fn place(&self) -> Option<usize> {
        self.place
    }

    /// Some more of it; `next`: where it goes on, `None` if that was all. Then those who wait are
    /// pushed to `woken`.
    pub fn add(
        &mut self,
        rows: impl IntoIterator<Item = T>,
        next: Option<usize>,
        woken: &mut Vec<Id>,
    ) {
        self.rows.extend(rows);
        self.place = next;
        if next.is_none() {
            self.made = Some(mem::take(&mut self.rows).into());
            woken.append(&mut self.waiters);
        }
    }

    /// The turn is over in which those who waited could take it: from now on it would be old.
    pub fn expire(&mut self) {
        if !self.is_fixed {
            self.made = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(index: u32) -> Id {
        Id {
            index,
            generation: 1,
        }
    }

    fn row(index: u32) -> Row {
        Row {
            id: id(index),
            listener: 0,
            peer: "unix".into(),
            state: "Idle",
            waits: Waits::Protocol,
            deadline_ms: 0,
            received: 0,
            queued: 0,
            has_origin: false,
        }
    }

    #[test]
    fn it_is_made_once_for_all_who_ask_and_anew_for_those_who_come_later() {
        let (mut roster, mut woken) = (Roster::default(), Vec::new());
        assert_eq!(roster.place(), None);
        for asking in [1, 2, 1] {
            assert!(roster.ask(id(asking)).is_pending());
        }
        assert_eq!(roster.place(), Some(0));
        roster.add([row(1), row(2)], Some(2), &mut woken);
        assert!(woken.is_empty() && roster.ask(id(3)).is_pending());
        roster.add([row(4)], None, &mut woken);
        assert_eq!(woken, [id(1), id(2), id(3)]);
        let Poll::Ready(rows) = roster.ask(id(1)) else {
            panic!("it is made");
        };
        let listed: Vec<u32> = rows.iter().map(|row| row.id.index).collect();
        assert_eq!(listed, [1, 2, 4]);
        roster.expire();
        assert!(roster.ask(id(1)).is_pending());
        assert_eq!(roster.place(), Some(0));
    }
}
