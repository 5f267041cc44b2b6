//! What services over datagrams know of their senders, for sessions that ask.
//!
//! A session sees no other listener's service. So it asks the board, and waits; before the sessions
//! of the next turn have theirs, the reactor lets every such service tell what it knows, once for all
//! who asked, and wakes them. What was told is there until the next turn.

use std::rc::Rc;

use super::Id;
use super::datagram::Senders;

/// Senders that each service tells of at most.
pub const ROWS_MAX: usize = 1000;

/// The senders that one listener knows.
#[derive(Debug)]
pub struct Table {
    /// The listener's name.
    pub listener: String,
    /// Where it is bound.
    pub address: String,
    /// At most [`ROWS_MAX`] of them.
    pub senders: Senders,
}

/// Questions and answers.
#[derive(Debug, Default)]
pub struct Board {
    askers: Vec<Id>,
    tables: Option<Rc<[Table]>>,
}

impl Board {
    /// The tables if they are there; else the session is woken when they are.
    pub fn ask(&mut self, asker: Id) -> Option<Rc<[Table]>> {
        if self.tables.is_none() && !self.askers.contains(&asker) {
            self.askers.push(asker);
        }
        self.tables.clone()
    }

    /// Whether somebody waits.
    pub fn is_asked(&self) -> bool {
        !self.askers.is_empty()
    }

    /// Forgets what was told: it is of a turn that is over.
    pub(crate) fn clear(&mut self) {
        self.tables = None;
    }

    /// Tells all of it. Those who are to be woken.
    pub(crate) fn tell(&mut self, tables: Vec<Table>) -> Vec<Id> {
        self.tables = Some(tables.into());
        std::mem::take(&mut self.askers)
    }
}
