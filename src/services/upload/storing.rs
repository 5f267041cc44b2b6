//! Whole files that get their names: several by one job, in their order.
//!
//! Once a job was asked for, it stores its files or removes them, whoever is there to hear of it. Those
//! for which there were no descriptors come back and are asked for again ([`super::store`], rule 4).

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use super::announced::{Announced, Partial};
use super::refusal::Refusal;
use super::store::{Store, exists, in_the_way, refused};
use crate::jobs::{self, Care, Command, Done, NewContents, NewFile, Query, Stored, Ticket};
use crate::service::{Cx, Io, Waiter};
use crate::wire::upload::SafeName;

/// Files that are being stored.
pub(super) struct Storing {
    /// Those that are not stored yet, in their order.
    pub(super) files: Vec<Announced>,
    pub(super) since: Instant,
    /// Partial files that were made before.
    partials: Vec<PathBuf>,
    attempt: Attempt,
    syncs: bool,
}

enum Attempt {
    /// A job stores them.
    Job(Ticket),
    /// There were no descriptors: when they are asked for again.
    Retry { at: Instant, files: Vec<NewFile> },
}

/// What became of files.
pub(super) struct Outcome {
    /// The names of those that were stored, in their order.
    pub(super) names: Vec<SafeName>,
    /// Why the one behind those was not. Nothing is left of it.
    pub(super) failed: Option<Refusal>,
    /// Whether nothing more is to come: those that are left were not stored.
    pub(super) is_over: bool,
}

impl Storing {
    /// When it is tried again, if there were no descriptors for it.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        match self.attempt {
            Attempt::Job(_) => None,
            Attempt::Retry { at, .. } => Some(at),
        }
    }
}

impl Store {
    /// The same, of files that are being stored.
    pub(super) fn storing_until(&self, storing: &Storing) -> Instant {
        storing.retry_at().unwrap_or(self.until(storing.since))
    }

    /// A file whose bytes are all here.
    pub(super) fn new_file(&mut self, announced: &Announced, bytes: Box<[u8]>) -> NewFile {
        NewFile {
            partial: self.next_partial(),
            contents: NewContents::Bytes(bytes),
            name: announced.name.name().clone(),
            folder: announced.folder(),
        }
    }

    /// One whose bytes were all written.
    pub(super) fn written_file(partial: &Partial) -> NewFile {
        NewFile {
            partial: partial.path.clone(),
            contents: NewContents::Written(partial.file.clone()),
            name: partial.announced.name.name().clone(),
            folder: partial.announced.folder(),
        }
    }

    /// Stores files whose bytes are all here, in their order.
    pub(super) fn store(
        &mut self,
        whole: &mut Vec<(Announced, Box<[u8]>)>,
        io: &mut Io<'_>,
    ) -> Result<Storing, Refusal> {
        let mut files = Vec::with_capacity(whole.len());
        let mut new = Vec::with_capacity(whole.len());
        for (announced, bytes) in whole.drain(..) {
            new.push(self.new_file(&announced, bytes));
            files.push(announced);
        }
        self.start(files, new, false, Waiter::Session(io.id), &mut io.cx)
    }

    /// Stores a file whose bytes were all written.
    pub(super) fn keep(&mut self, whole: &Partial, io: &mut Io<'_>) -> Result<Storing, Refusal> {
        let (announced, new) = (whole.announced.clone(), Self::written_file(whole));
        let waiter = Waiter::Session(io.id);
        self.start(vec![announced], vec![new], false, waiter, &mut io.cx)
    }

    /// Stores files, and has their bytes on the disk before they get their names if it `syncs`.
    pub(super) fn start(
        &mut self,
        files: Vec<Announced>,
        new: Vec<NewFile>,
        syncs: bool,
        waiter: Waiter,
        cx: &mut Cx<'_>,
    ) -> Result<Storing, Refusal> {
        let is_written = |new: &&NewFile| matches!(new.contents, NewContents::Written(_));
        let made = new.iter().filter(is_written);
        let partials: Vec<PathBuf> = made.map(|new| new.partial.clone()).collect();
        match self.ask(new, syncs, waiter, cx) {
            Ok(ticket) => Ok(Storing {
                files,
                since: cx.now,
                partials,
                attempt: Attempt::Job(ticket),
                syncs,
            }),
            Err(error) => {
                self.remove_unkept(&partials, cx);
                Err(Refusal::disk(&files[0].name, error))
            }
        }
    }

    fn ask(
        &self,
        files: Vec<NewFile>,
        syncs: bool,
        waiter: Waiter,
        cx: &mut Cx<'_>,
    ) -> io::Result<Ticket> {
        let store = Command::Store {
            root: self.folder.clone(),
            files,
            taken: self.taken,
            care: Care {
                syncs,
                counts: self.room.is_limited(),
            },
        };
        cx.jobs.start(waiter, store, cx.now).map_err(refused)
    }

    /// Has the names in a folder on the disk, and those of it and of the folders on the way to it.
    /// Those that were given before this was asked for are, once it is done.
    pub(super) fn sync(
        &self,
        folder: PathBuf,
        waiter: Waiter,
        cx: &mut Cx<'_>,
    ) -> io::Result<Ticket> {
        let sync = Query::SyncNames {
            root: self.folder.clone(),
            folder,
        };
        cx.jobs.start(waiter, sync, cx.now).map_err(refused)
    }

    /// Asks again for files for which there were no descriptors, once it is time.
    pub(super) fn retry(
        &self,
        storing: &mut Storing,
        waiter: Waiter,
        cx: &mut Cx<'_>,
    ) -> Result<(), Refusal> {
        if let Attempt::Retry { at, files } = &mut storing.attempt
            && *at <= cx.now
        {
            let asked = self.ask(std::mem::take(files), storing.syncs, waiter, cx);
            let failed = |error| Refusal::disk(&storing.files[0].name, error);
            storing.attempt = Attempt::Job(asked.map_err(failed)?);
        }
        Ok(())
    }

    /// What became of files, once something is known: how many were stored, under which names, and
    /// why the next one was not. Nothing is left of that one, unless it is
    /// [tried again](Storing::retry_at).
    pub(super) fn stored(&mut self, storing: &mut Storing, cx: &mut Cx<'_>) -> Poll<Outcome> {
        let Attempt::Job(ticket) = &storing.attempt else {
            return Poll::Pending;
        };
        let Poll::Ready(finished) = cx.jobs.take(ticket) else {
            return Poll::Pending;
        };
        let mut stored = match finished.result {
            Ok(Done::Stored(stored)) => stored,
            result => {
                // It was not even tried.
                self.remove_unkept(&storing.partials, cx);
                let error = result.err().unwrap_or_else(jobs::wrong);
                return Poll::Ready(Outcome {
                    names: Vec::new(),
                    failed: Some(Refusal::disk(&storing.files[0].name, error)),
                    is_over: true,
                });
            }
        };
        // Invariant: a command has one asker, so nobody else has its result.
        let rest = Arc::get_mut(&mut stored).map(|stored| std::mem::take(&mut stored.rest));
        let rest = rest.unwrap_or_default();
        let names = stored.names.clone();
        let bytes = storing.files[..names.len()].iter();
        let bytes = bytes.map(|file| file.size_bytes).sum();
        // All are of one connection.
        let folder = &storing.files[0].owner.folder;
        self.room.stored(folder, bytes, stored.replaced_bytes);
        let (failed, is_over) = self.failed(storing, &stored, rest, cx);
        Poll::Ready(Outcome {
            names,
            failed,
            is_over,
        })
    }

    /// Why the first file that was not stored was not, if it is not tried again; and whether nothing
    /// more is to come. `rest`: those that came back.
    fn failed(
        &mut self,
        storing: &mut Storing,
        stored: &Stored,
        rest: Vec<NewFile>,
        cx: &mut Cx<'_>,
    ) -> (Option<Refusal>, bool) {
        let Some(error) = &stored.failed else {
            return (None, true);
        };
        let left = storing.files.len() - stored.names.len();
        if rest.len() == left
            && let Some(at) = self.retry_at(error, storing.since, cx)
        {
            storing.attempt = Attempt::Retry { at, files: rest };
            return (None, false);
        }
        if error.kind() == io::ErrorKind::StorageFull {
            self.room.is_full();
        }
        let name = &storing.files[stored.names.len()].name;
        let refusal = match error.kind() {
            io::ErrorKind::AlreadyExists => exists(name),
            io::ErrorKind::NotADirectory => in_the_way(name),
            _ => Refusal::disk(name, jobs::copied(error)),
        };
        // Who gets an answer for each file has those behind stored, too; others sent in vain.
        let goes_on = storing.syncs && !rest.is_empty() && rest.len() == left - 1;
        if goes_on {
            let at = cx.now;
            storing.attempt = Attempt::Retry { at, files: rest };
        } else {
            let made = rest.iter().filter(|file| file.is_made());
            let made: Vec<PathBuf> = made.map(|file| file.partial.clone()).collect();
            self.remove_unkept(&made, cx);
        }
        (Some(refusal), !goes_on)
    }

    /// The session that waits for the end of this has ended: the service waits instead, for a job
    /// always, because nothing else calls it so soon.
    pub(super) fn hand_over(&self, storing: &mut Storing, cx: &mut Cx<'_>) -> Result<(), Refusal> {
        match &mut storing.attempt {
            Attempt::Job(ticket) => cx.jobs.hand_over(ticket, Waiter::Service),
            Attempt::Retry { at, .. } => *at = cx.now,
        }
        self.retry(storing, Waiter::Service, cx)
    }
}
