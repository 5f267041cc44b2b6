//! Files, as a protocol asks for them: answered from memory where that can be done, and else by a
//! job whose end wakes whoever asked. The same question is asked again until it is answered, and
//! gives the same answer until [`Jobs::settle`].

use std::hash::Hash;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use super::{Done, Jobs, Query};
use crate::disk::{Contents, Disk, File, Metadata, Version};

/// Files, for one who may have to wait for them.
pub struct Asking<'a, W> {
    /// What is answered at once.
    pub disk: &'a mut dyn Disk,
    jobs: &'a mut Jobs<W>,
    waiter: W,
    now: Instant,
}

impl<'a, W: Copy + Eq + Hash> Asking<'a, W> {
    /// Files, for `waiter`.
    pub fn new(disk: &'a mut dyn Disk, jobs: &'a mut Jobs<W>, waiter: W, now: Instant) -> Self {
        Self {
            disk,
            jobs,
            waiter,
            now,
        }
    }

    /// Opens a file or folder below `root`, as [`Disk::open`] does.
    pub fn open(&mut self, root: &File, path: &Path) -> Poll<io::Result<(File, Metadata)>> {
        let is_it = |query: &Query| matches!(query, Query::Open { root: r, path: p } if r == root && p == path);
        if let Some(answer) = self.jobs.answer(self.waiter, is_it) {
            return answer.map(|done| done.and_then(file));
        }
        if let Some(answer) = self.disk.open_now(root, path) {
            return Poll::Ready(answer);
        }
        let (root, path) = (root.clone(), path.to_owned());
        self.ask(Query::Open { root, path })
            .map(|done| done.and_then(file))
    }

    /// What is known of the file that a path leads to, as [`Disk::look`] tells it.
    pub fn look(&mut self, root: &File, path: &Path) -> Poll<io::Result<Metadata>> {
        let is_it = |query: &Query| matches!(query, Query::Look { root: r, path: p } if r == root && p == path);
        if let Some(answer) = self.jobs.answer(self.waiter, is_it) {
            return answer.map(|done| done.and_then(metadata));
        }
        if let Some(answer) = self.disk.look_now(root, path) {
            return Poll::Ready(answer);
        }
        let (root, path) = (root.clone(), path.to_owned());
        self.ask(Query::Look { root, path })
            .map(|done| done.and_then(metadata))
    }

    /// What is known of an open file.
    #[inline]
    pub fn metadata(&mut self, file: &File) -> Poll<io::Result<Metadata>> {
        let is_it = |query: &Query| matches!(query, Query::Metadata { file: f } if f == file);
        if let Some(answer) = self.jobs.answer(self.waiter, is_it) {
            return answer.map(|done| done.and_then(metadata));
        }
        if let Some(answer) = self.disk.metadata_now(file) {
            return Poll::Ready(answer);
        }
        let file = file.clone();
        self.ask(Query::Metadata { file })
            .map(|done| done.and_then(metadata))
    }

    /// The version of an open file that `was` tells of.
    pub fn version(&mut self, file: &File, was: &Metadata) -> Poll<io::Result<Version>> {
        let is_it = |query: &Query| matches!(query, Query::Version { file: f, was: w } if f == file && w == was);
        if let Some(answer) = self.jobs.answer(self.waiter, is_it) {
            return answer.map(|done| done.and_then(version));
        }
        if let Some(answer) = self.disk.version_now(file, was) {
            return Poll::Ready(answer);
        }
        let (file, was) = (file.clone(), *was);
        self.ask(Query::Version { file, was })
            .map(|done| done.and_then(version))
    }

    /// What an answer has of an open file, as [`Disk::contents`] gives it.
    pub fn contents(
        &mut self,
        file: &File,
        was: &Metadata,
        small_bytes_max: u64,
    ) -> Poll<io::Result<(Contents, Metadata)>> {
        let is_it = |query: &Query| matches!(query, Query::Contents { file: f, was: w, .. } if f == file && w == was);
        if let Some(answer) = self.jobs.answer(self.waiter, is_it) {
            return answer.map(|done| done.and_then(contents));
        }
        if let Some(answer) = self.disk.contents_now(file, was, small_bytes_max) {
            return Poll::Ready(answer);
        }
        let (file, was) = (file.clone(), *was);
        let query = Query::Contents {
            file,
            was,
            small_bytes_max,
        };
        self.ask(query).map(|done| done.and_then(contents))
    }

    /// The first `len` bytes of a file, or what it has of them.
    pub fn read(&mut self, file: &File, len: usize) -> Poll<io::Result<Arc<[u8]>>> {
        let offset = 0;
        let is_it = |query: &Query| matches!(query, Query::Read { file: f, len: l, .. } if f == file && *l == len);
        if let Some(answer) = self.jobs.answer(self.waiter, is_it) {
            return answer.map(|done| done.and_then(bytes));
        }
        let mut read = vec![0; len];
        if let Some(answer) = self.disk.read_now(file, offset, &mut read) {
            return Poll::Ready(answer.map(|count| Arc::from(&read[..count])));
        }
        let file = file.clone();
        self.ask(Query::Read { file, offset, len })
            .map(|done| done.and_then(bytes))
    }

    /// Bytes that may still be written to the disk that holds `root`.
    pub fn free_bytes(&mut self, root: &File) -> Poll<io::Result<u64>> {
        let root = root.clone();
        self.ask(Query::Free { root })
            .map(|done| done.and_then(count))
    }

    fn ask(&mut self, query: Query) -> Poll<io::Result<Done>> {
        self.jobs.ask(self.waiter, query, self.now)
    }
}

/// An engine that answers another question than the one it was asked is broken.
pub fn wrong() -> io::Error {
    io::Error::other("the disk answered another question")
}

fn file(done: Done) -> io::Result<(File, Metadata)> {
    match done {
        Done::File(file, metadata) => Ok((file, metadata)),
        _ => Err(wrong()),
    }
}

#[allow(clippy::needless_pass_by_value)] // as the others take it
fn metadata(done: Done) -> io::Result<Metadata> {
    match done {
        Done::Metadata(metadata) => Ok(metadata),
        _ => Err(wrong()),
    }
}

#[allow(clippy::needless_pass_by_value)]
fn version(done: Done) -> io::Result<Version> {
    match done {
        Done::Version(version) => Ok(version),
        _ => Err(wrong()),
    }
}

fn contents(done: Done) -> io::Result<(Contents, Metadata)> {
    match done {
        Done::Contents(contents, metadata) => Ok((contents, metadata)),
        _ => Err(wrong()),
    }
}

#[allow(clippy::needless_pass_by_value)]
fn count(done: Done) -> io::Result<u64> {
    match done {
        Done::Count(count) => Ok(count),
        _ => Err(wrong()),
    }
}

fn bytes(done: Done) -> io::Result<Arc<[u8]>> {
    match done {
        Done::Bytes(bytes) => Ok(bytes),
        _ => Err(wrong()),
    }
}
