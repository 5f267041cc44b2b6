//! One lookup under way: who waits for which name, and how far its two questions are.

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use super::message::Family;
use super::outcome::{Nothing, Outcome};
use super::tries::QueryId;
use crate::shares::{Client, Shares};

/// A lookup under way.
#[derive(Debug)]
pub(super) struct Lookup<W> {
    /// Who waits, and for which client.
    pub(super) waiters: BTreeMap<W, Client>,
    pub(super) clients: Shares,
    /// The client in whose share it is: one of those that wait, or that waited last.
    pub(super) client: Client,
    /// The names still to be tried, the present one first.
    pub(super) candidates: VecDeque<String>,
    /// When to give up.
    pub(super) until: Instant,
    /// From when on addresses that have expired are given meanwhile: then nobody waits.
    pub(super) stale_at: Instant,
    /// When to give up the present candidate.
    pub(super) candidate_until: Instant,
    pub(super) v4: Question,
    pub(super) v6: Question,
    /// Why the earlier candidates have no address; `None` before the first one is through.
    pub(super) nothing: Option<Nothing>,
}

/// How far one of a lookup's two questions is.
#[derive(Debug)]
pub(super) enum Question {
    /// About to be asked.
    Due,
    /// The try under way.
    Asking(QueryId),
    Settled(Outcome),
}

impl Question {
    /// The try under way, if there is one.
    fn asking(&self) -> Option<QueryId> {
        match self {
            Question::Asking(id) => Some(*id),
            Question::Due | Question::Settled(_) => None,
        }
    }
}

impl<W: Copy + Ord> Lookup<W> {
    /// A lookup of these names, in the share of `client`, that nobody waits for yet.
    pub(super) fn new(
        candidates: Vec<String>,
        client: Client,
        stale_at: Instant,
        until: Instant,
    ) -> Self {
        Lookup {
            waiters: BTreeMap::new(),
            clients: Shares::default(),
            client,
            candidates: candidates.into(),
            until,
            stale_at,
            candidate_until: until,
            v4: Question::Due,
            v6: Question::Due,
            nothing: None,
        }
    }

    /// The question for one family.
    pub(super) fn question_mut(&mut self, family: Family) -> &mut Question {
        match family {
            Family::V4 => &mut self.v4,
            Family::V6 => &mut self.v6,
        }
    }

    /// Those who wait, who do so no longer.
    pub(super) fn take_waiters(&mut self) -> impl Iterator<Item = W> + use<W> {
        self.clients = Shares::default();
        std::mem::take(&mut self.waiters).into_keys()
    }

    /// The tries under way.
    pub(super) fn tries(&self) -> impl Iterator<Item = QueryId> + use<W> {
        let tries = [self.v4.asking(), self.v6.asking()];
        tries.into_iter().flatten()
    }
}
