//! Files, as a protocol asks for them: answered from memory where that can be done, and else by a
//! job whose end wakes whoever asked. The same question is asked again until it is answered, and
//! gives the same answer until [`Jobs::settle`].
//!
//! It is right for a protocol that decides by a few answers and forgets them with its request.
//! For many questions, or answers that are large, see [`super::pending`].

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
            return answer.map(|done| done.and_then(Done::into_file));
        }
        if let Some(answer) = self.disk.open_now(root, path) {
            return Poll::Ready(answer);
        }
        let (root, path) = (root.clone(), path.to_owned());
        self.ask(Query::Open { root, path })
            .map(|done| done.and_then(Done::into_file))
    }

    /// What is known of the file that a path leads to, as [`Disk::look`] tells it.
    pub fn look(&mut self, root: &File, path: &Path) -> Poll<io::Result<Metadata>> {
        let is_it = |query: &Query| matches!(query, Query::Look { root: r, path: p } if r == root && p == path);
        if let Some(answer) = self.jobs.answer(self.waiter, is_it) {
            return answer.map(|done| done.and_then(Done::into_metadata));
        }
        if let Some(answer) = self.disk.look_now(root, path) {
            return Poll::Ready(answer);
        }
        let (root, path) = (root.clone(), path.to_owned());
        self.ask(Query::Look { root, path })
            .map(|done| done.and_then(Done::into_metadata))
    }

    /// What is known of an open file.
    #[inline]
    pub fn metadata(&mut self, file: &File) -> Poll<io::Result<Metadata>> {
        let is_it = |query: &Query| matches!(query, Query::Metadata { file: f } if f == file);
        if let Some(answer) = self.jobs.answer(self.waiter, is_it) {
            return answer.map(|done| done.and_then(Done::into_metadata));
        }
        if let Some(answer) = self.disk.metadata_now(file) {
            return Poll::Ready(answer);
        }
        let file = file.clone();
        self.ask(Query::Metadata { file })
            .map(|done| done.and_then(Done::into_metadata))
    }

    /// The version of an open file that `was` tells of.
    pub fn version(&mut self, file: &File, was: &Metadata) -> Poll<io::Result<Version>> {
        let is_it = |query: &Query| matches!(query, Query::Version { file: f, was: w } if f == file && w == was);
        if let Some(answer) = self.jobs.answer(self.waiter, is_it) {
            return answer.map(|done| done.and_then(Done::into_version));
        }
        if let Some(answer) = self.disk.version_now(file, was) {
            return Poll::Ready(answer);
        }
        let (file, was) = (file.clone(), *was);
        self.ask(Query::Version { file, was })
            .map(|done| done.and_then(Done::into_version))
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
            return answer.map(|done| done.and_then(Done::into_contents));
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
        self.ask(query)
            .map(|done| done.and_then(Done::into_contents))
    }

    /// The first `len` bytes of a file, or what it has of them.
    pub fn read(&mut self, file: &File, len: usize) -> Poll<io::Result<Arc<[u8]>>> {
        let offset = 0;
        let is_it = |query: &Query| matches!(query, Query::Read { file: f, len: l, .. } if f == file && *l == len);
        if let Some(answer) = self.jobs.answer(self.waiter, is_it) {
            return answer.map(|done| done.and_then(Done::into_bytes));
        }
        let mut read = vec![0; len];
        if let Some(answer) = self.disk.read_now(file, offset, &mut read) {
            return Poll::Ready(answer.map(|count| Arc::from(&read[..count])));
        }
        let file = file.clone();
        self.ask(Query::Read { file, offset, len })
            .map(|done| done.and_then(Done::into_bytes))
    }

    /// Bytes that may still be written to the disk that holds `root`.
    pub fn free_bytes(&mut self, root: &File) -> Poll<io::Result<u64>> {
        let root = root.clone();
        self.ask(Query::Free { root })
            .map(|done| done.and_then(Done::into_count))
    }

    fn ask(&mut self, query: Query) -> Poll<io::Result<Done>> {
        self.jobs.ask(self.waiter, query, self.now)
    }
}
