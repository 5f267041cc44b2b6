//! The files of a folder, one after the other, for as long as that takes: names by jobs, what is
//! known of each from memory where that can be, and else by a job. A walk does a bounded piece in a
//! turn, and one job at a time.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;

use crate::disk::{File, Metadata};
use crate::jobs::pending::{Names, Pending};
use crate::service::{Cx, Waiter, work};

/// A walk through one folder, by its service.
pub(super) struct Walk {
    folder: File,
    /// Names that were not looked at yet.
    names: VecDeque<PathBuf>,
    /// The place of the names behind those; `None` at the end.
    next: Option<u64>,
    asked: Option<Asked>,
}

enum Asked {
    Names(Pending<Names>),
    Look(PathBuf, Pending<Metadata>),
}

/// What a walk comes to.
pub(super) enum Found {
    /// A name, and what it stands for.
    Entry(PathBuf, Metadata),
    /// The disk is asked: the service is told.
    Later,
    /// There is more to do than this turn has time for.
    More,
    /// That was all.
    End,
    /// The folder cannot be read.
    Failed(io::Error),
}

impl Walk {
    pub(super) fn new(folder: File) -> Self {
        Self {
            folder,
            names: VecDeque::new(),
            next: Some(0),
            asked: None,
        }
    }

    /// The next file. A name that is gone before it is looked at is passed over.
    pub(super) fn next(&mut self, cx: &mut Cx<'_>) -> Found {
        loop {
            let asked = match self.asked.take() {
                Some(asked) => asked,
                None if cx.work.is_spent() => return Found::More,
                None => match self.ask(cx) {
                    Some(asked) => asked,
                    None => return Found::End,
                },
            };
            match asked {
                Asked::Names(pending) => match pending.take(cx.jobs) {
                    Err(pending) => {
                        self.asked = Some(Asked::Names(pending));
                        return Found::Later;
                    }
                    Ok(Err(error)) => return Found::Failed(error),
                    Ok(Ok((names, next))) => {
                        self.names.extend(names.iter().cloned());
                        self.next = next;
                    }
                },
                Asked::Look(name, pending) => match pending.take(cx.jobs) {
                    Err(pending) => {
                        self.asked = Some(Asked::Look(name, pending));
                        return Found::Later;
                    }
                    Ok(Ok(metadata)) => return Found::Entry(name, metadata),
                    Ok(Err(_)) => {}
                },
            }
        }
    }

    /// Asks for what comes next.
    fn ask(&mut self, cx: &mut Cx<'_>) -> Option<Asked> {
        cx.work.charge(work::LOOKUP_NS);
        let mut asker = cx.asker(Waiter::Service);
        match self.names.pop_front() {
            Some(name) => {
                let pending = asker.look(&self.folder, &name);
                Some(Asked::Look(name, pending))
            }
            None => {
                let from = self.next?;
                Some(Asked::Names(asker.names(&self.folder, from)))
            }
        }
    }

    /// It is given up.
    pub(super) fn cancel(&mut self, cx: &mut Cx<'_>) {
        match self.asked.take() {
            Some(Asked::Names(pending)) => pending.cancel(cx.jobs),
            Some(Asked::Look(_, pending)) => pending.cancel(cx.jobs),
            None => {}
        }
    }
}
