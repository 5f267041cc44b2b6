//! Files, as a protocol asks for them: answered from memory where that can be done, and else by a
//! job whose end wakes whoever asked. The same question is asked again until it is answered, and
//! gives the same answer until [`Jobs::settle`].
//!
//! What was answered from memory is not remembered: whoever asks again opens the file again, and
//! goes on with what was asked of the same version of it.
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
use crate::disk::{Contents, Disk, File, Metadata};

/// Files, for one who may have to wait for them.
pub struct Asking<'a, W> {
    /// What is answered at once.
    pub disk: &'a mut dyn Disk,
    jobs: &'a mut Jobs<W>,
    waiter: W,
    now: Instant,
}

impl<'a, W: Copy + Ord + Hash> Asking<'a, W> {
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
        self.answer(
            is_it,
            |disk| disk.open_now(root, path),
            || Query::Open {
                root: root.clone(),
                path: path.to_owned(),
            },
            Done::into_file,
        )
    }

    /// What is known of the file that a path leads to, as [`Disk::look`] tells it.
    pub fn look(&mut self, root: &File, path: &Path) -> Poll<io::Result<Metadata>> {
        let is_it = |query: &Query| matches!(query, Query::Look { root: r, path: p } if r == root && p == path);
        self.answer(
            is_it,
            |disk| disk.look_now(root, path),
            || Query::Look {
                root: root.clone(),
                path: path.to_owned(),
            },
            Done::into_metadata,
        )
    }

    /// What is known of an open file.
    pub fn metadata(&mut self, file: &File) -> Poll<io::Result<Metadata>> {
        self.answer(
            |query| matches!(query, Query::Metadata { file: f } if f == file),
            |disk| disk.metadata_now(file),
            || Query::Metadata { file: file.clone() },
            Done::into_metadata,
        )
    }

    /// What an answer has of an open file, as [`Disk::contents`] gives it. Whoever asks again may
    /// have opened the file again: what was read of the same version of it is the answer.
    pub fn contents(
        &mut self,
        file: &File,
        was: &Metadata,
        small_bytes_max: u64,
    ) -> Poll<io::Result<(Contents, Metadata)>> {
        let is_it = |query: &Query| matches!(query, Query::Contents { was: w, .. } if w == was);
        self.answer(
            is_it,
            |disk| disk.contents_now(file, was, small_bytes_max),
            || Query::Contents {
                file: file.clone(),
                was: *was,
                small_bytes_max,
            },
            Done::into_contents,
        )
    }

    /// At most `len` bytes from `offset` of a file that was this when it was opened, fewer only at
    /// its end. As for [`Asking::contents`], it may be opened again.
    pub fn read(
        &mut self,
        (file, was): (&File, &Metadata),
        offset: u64,
        len: usize,
    ) -> Poll<io::Result<Arc<[u8]>>> {
        let is_it = |query: &Query| matches!(query, Query::Read { was: Some(w), offset: o, len: l, .. } if w == was && (*o, *l) == (offset, len));
        self.answer(
            is_it,
            |disk| {
                let mut bytes = vec![0; len];
                let read = disk.read_now(file, offset, &mut bytes)?;
                Some(read.map(|count| Arc::from(&bytes[..count])))
            },
            || Query::Read {
                file: file.clone(),
                was: Some(*was),
                offset,
                len,
            },
            Done::into_bytes,
        )
    }

    /// The CRC-32 of all bytes of a file from `offset` on.
    pub fn checksum(&mut self, root: &File, path: &Path, offset: u64) -> Poll<io::Result<u64>> {
        let is_it = |query: &Query| matches!(query, Query::Checksum { root: r, path: p, offset: o } if r == root && p == path && *o == offset);
        self.answer(
            is_it,
            |_| None,
            || Query::Checksum {
                root: root.clone(),
                path: path.to_owned(),
                offset,
            },
            Done::into_count,
        )
    }

    /// Bytes that may still be written to the disk that holds `root`.
    pub fn free_bytes(&mut self, root: &File) -> Poll<io::Result<u64>> {
        self.answer(
            |query| matches!(query, Query::Free { root: r } if r == root),
            |_| None,
            || Query::Free { root: root.clone() },
            Done::into_count,
        )
    }

    /// What was answered before, or what can be answered from memory, or else a job.
    #[inline]
    fn answer<T>(
        &mut self,
        is_it: impl Fn(&Query) -> bool,
        from_memory: impl FnOnce(&mut dyn Disk) -> Option<io::Result<T>>,
        query: impl FnOnce() -> Query,
        convert: fn(Done) -> io::Result<T>,
    ) -> Poll<io::Result<T>> {
        if let Some(answer) = self.jobs.answer(self.waiter, is_it) {
            return answer.map(|done| done.and_then(convert));
        }
        if let Some(answer) = from_memory(self.disk) {
            return Poll::Ready(answer);
        }
        let answer = self.jobs.ask(self.waiter, query(), self.now);
        answer.map(|done| done.and_then(convert))
    }
}
