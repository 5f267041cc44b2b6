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
use crate::disk::{Disk, File, Metadata, Version};

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

impl<W: Copy + Eq + Hash> Asker<'_, W> {
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

    /// What is known of an open file.
    pub fn metadata(&mut self, file: &File) -> Pending<Metadata> {
        if let Some(answer) = self.disk.metadata_now(file) {
            return Pending::Ready(answer);
        }
        let file = file.clone();
        self.ask(Query::Metadata { file }, Done::into_metadata)
    }

    /// The version of an open file that `was` tells of.
    pub fn version(&mut self, file: &File, was: &Metadata) -> Pending<Version> {
        if let Some(answer) = self.disk.version_now(file, was) {
            return Pending::Ready(answer);
        }
        let (file, was) = (file.clone(), *was);
        self.ask(Query::Version { file, was }, Done::into_version)
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
        if let Some(answer) = self.read_now(file, offset, len) {
            return Pending::Ready(answer);
        }
        let (file, len) = (file.clone(), ahead);
        self.ask(Query::Read { file, offset, len }, Done::into_bytes)
    }

    fn read_now(&mut self, file: &File, offset: u64, len: usize) -> Option<io::Result<Arc<[u8]>>> {
        let (mut bytes, mut count) = (vec![0; len], 0);
        while count < len {
            let at = offset + count as u64;
            match self.disk.read_now(file, at, &mut bytes[count..])? {
                Ok(0) => break,
                Ok(more) => count += more,
                Err(error) => return Some(Err(error)),
            }
        }
        bytes.truncate(count);
        Some(Ok(bytes.into()))
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
    pub fn take<W: Copy + Eq + Hash>(self, jobs: &mut Jobs<W>) -> Result<io::Result<T>, Self> {
        match self {
            Self::Ready(answer) => Ok(answer),
            Self::Job(ticket, convert) => match jobs.take(&ticket) {
                Poll::Ready(finished) => Ok(finished.result.and_then(convert)),
                Poll::Pending => Err(Self::Job(ticket, convert)),
            },
        }
    }

    /// The answer is not wanted any more.
    pub fn cancel<W: Copy + Eq + Hash>(self, jobs: &mut Jobs<W>) {
        if let Self::Job(ticket, _) = self {
            jobs.cancel(ticket);
        }
    }

    /// Whether the answer is there.
    pub fn is_there<W: Copy + Eq + Hash>(&self, jobs: &Jobs<W>) -> bool {
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

/// Whether an open file still keeps a version ([`Disk::keeps`]), found out step by step.
#[must_use]
#[derive(Debug)]
pub enum KeepCheck {
    /// What it is now.
    Looking(Pending<Metadata>),
    /// Only its bytes can tell.
    Sampling(Pending<Version>),
}

impl KeepCheck {
    /// Begins to find it out.
    pub fn new<W: Copy + Eq + Hash>(file: &File, asker: &mut Asker<'_, W>) -> Self {
        Self::Looking(asker.metadata(file))
    }

    /// Goes on as far as it can: whether it does, or how far it is.
    pub fn take<W: Copy + Eq + Hash>(
        mut self,
        file: &File,
        version: &Version,
        asker: &mut Asker<'_, W>,
    ) -> Result<bool, Self> {
        loop {
            self = match self {
                Self::Looking(now) => match now.take(asker.jobs).map_err(Self::Looking)? {
                    Err(_) => return Ok(false),
                    Ok(now) => match version.is_kept(&now) {
                        Some(is_kept) => return Ok(is_kept),
                        None => {
                            let len = version.len;
                            let of_that_length = Metadata { len, ..now };
                            Self::Sampling(asker.version(file, &of_that_length))
                        }
                    },
                },
                Self::Sampling(now) => {
                    let now = now.take(asker.jobs).map_err(Self::Sampling)?;
                    return Ok(now.is_ok_and(|now| now.sample == version.sample));
                }
            };
        }
    }
}
