//! An answer of the disk that whoever asked holds until it is there: for those who ask many
//! questions side by side, or one after the other for a long time, so that nothing may be kept of
//! what was answered.
//!
//! ```text
//! asked ──from memory──▶ Ready ──taken──▶ gone
//!   └──by a job──▶ Job ──done, and taken──▶ gone
//! ```
//!
//! A [`Pending`] is taken or cancelled; one that is only dropped leaves its claim behind until its
//! waiter is forgotten.
//!
//! For a protocol that decides by a few answers, [`super::Asking`] is simpler.

use std::hash::Hash;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

pub use super::job::Names;
use super::{Done, Jobs, Query, Ticket};
use crate::disk::{Contents, Disk, File, Metadata, Version};

/// Whoever asks.
pub struct Asker<'a, W> {
    /// What is answered at once.
    pub disk: &'a mut dyn Disk,
    /// What is not.
    pub jobs: &'a mut Jobs<W>,
    /// Who is woken when an answer is there.
    pub waiter: W,
    /// The moment of this turn.
    pub now: Instant,
}

/// An answer that is there, or the claim to one.
#[must_use]
#[derive(Debug)]
pub enum Pending<T> {
    /// It is there.
    Ready(io::Result<T>),
    /// A job brings it; what it makes of the job's result.
    Job(Ticket, fn(Done) -> io::Result<T>),
}

impl<W: Copy + Ord + Hash> Asker<'_, W> {
    /// Opens a file or folder below `root`.
    pub fn open(&mut self, root: &File, path: &Path) -> Pending<(File, Metadata)> {
        if let Some(answer) = self.disk.open_now(root, path) {
            return Pending::Ready(answer);
        }
        let (root, path) = (root.clone(), path.to_owned());
        self.ask(Query::Open { root, path }, Done::into_file)
    }

    /// What is known of the file that a path leads to.
    pub fn look(&mut self, root: &File, path: &Path) -> Pending<Metadata> {
        if let Some(answer) = self.disk.look_now(root, path) {
            return Pending::Ready(answer);
        }
        let (root, path) = (root.clone(), path.to_owned());
        self.ask(Query::Look { root, path }, Done::into_metadata)
    }

    /// Whether an open file keeps a version, as [`Disk::keeps`] tells.
    pub fn keeps(&mut self, file: &File, version: &Version) -> Pending<bool> {
        if let Some(is_kept) = self.disk.keeps_now(file, version) {
            return Pending::Ready(Ok(is_kept));
        }
        let (file, version) = (file.clone(), *version);
        self.ask(Query::Keeps { file, version }, Done::into_kept)
    }

    /// What an answer has of an open file, as [`Disk::contents`] gives it.
    pub fn contents(
        &mut self,
        file: &File,
        was: &Metadata,
        small_bytes_max: u64,
    ) -> Pending<(Contents, Metadata)> {
        if let Some(answer) = self.disk.contents_now(file, was, small_bytes_max) {
            return Pending::Ready(answer);
        }
        let query = Query::Contents {
            file: file.clone(),
            was: *was,
            small_bytes_max,
        };
        self.ask(query, Done::into_contents)
    }

    /// At most `len` bytes from `offset`, fewer only at the end of the file.
    pub fn read(&mut self, file: &File, offset: u64, len: usize) -> Pending<Arc<[u8]>> {
        self.read_ahead(file, offset, len, len)
    }

    /// The same, or by a job at most `ahead` bytes, if the disk has to be waited for.
    pub fn read_ahead(
        &mut self,
        file: &File,
        offset: u64,
        len: usize,
        ahead: usize,
    ) -> Pending<Arc<[u8]>> {
        let mut bytes = vec![0; len];
        if let Some(answer) = self.disk.read_now(file, offset, &mut bytes) {
            return Pending::Ready(answer.map(|count| Arc::from(&bytes[..count])));
        }
        let (file, len) = (file.clone(), ahead);
        let was = None;
        let read = Query::Read {
            file,
            was,
            offset,
            len,
        };
        self.ask(read, Done::into_bytes)
    }

    /// Some names of a folder, from a place on. A folder cannot be asked whether its names are in
    /// memory, so this is always a job.
    pub fn names(&mut self, folder: &File, from: u64) -> Pending<Names> {
        let folder = folder.clone();
        self.ask(Query::Names { folder, from }, Done::into_names)
    }

    fn ask<T>(&mut self, query: Query, convert: fn(Done) -> io::Result<T>) -> Pending<T> {
        match self.jobs.start(self.waiter, query, self.now) {
            Ok(ticket) => Pending::Job(ticket, convert),
            Err(refused) => Pending::Ready(refused.result.and_then(convert)),
        }
    }
}

impl<T> Pending<T> {
    /// The answer, if it is there; else it is pending as before.
    pub fn take<W: Copy + Ord + Hash>(self, jobs: &mut Jobs<W>) -> Result<io::Result<T>, Self> {
        match self {
            Self::Ready(answer) => Ok(answer),
            Self::Job(ticket, convert) => match jobs.take(&ticket) {
                Poll::Ready(finished) => Ok(finished.result.and_then(convert)),
                Poll::Pending => Err(Self::Job(ticket, convert)),
            },
        }
    }

    /// The answer is not wanted any more.
    pub fn cancel<W: Copy + Ord + Hash>(self, jobs: &mut Jobs<W>) {
        if let Self::Job(ticket, _) = self {
            jobs.cancel(ticket);
        }
    }

    /// Whether the answer is there.
    pub fn is_there<W: Copy + Ord + Hash>(&self, jobs: &Jobs<W>) -> bool {
        match self {
            Self::Ready(_) => true,
            Self::Job(ticket, _) => jobs.is_done(ticket),
        }
    }

    /// Whether it takes a job.
    pub fn is_job(&self) -> bool {
        matches!(self, Self::Job(..))
    }
}
