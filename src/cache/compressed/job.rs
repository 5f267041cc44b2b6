//! A content in the line: what has to be read of it, and how far it is coded.
//!
//! ```text
//! read, from memory or by a job ──▶ coded, piece by piece ──the last──▶ looked at again ──as it was──▶ the form
//! ```

use std::hash::Hash;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::Instant;

use super::{BEGINNING_BYTES, JOB_BYTES, PIECE_BYTES};
use crate::disk::{Contents, File, Metadata, Version};
use crate::http::compress::Encoder;
use crate::http::negotiate::Coding;
use crate::jobs::Jobs;
use crate::jobs::pending::{Asker, Pending};

/// A content that is to be compressed.
#[derive(Clone, Debug)]
pub enum Source {
    /// A file that is read as it is compressed. If it is not this version at the end, no form comes
    /// of it.
    File {
        /// The file.
        file: File,
        /// What it was when the version was noted.
        was: Metadata,
        /// The version.
        version: Arc<Version>,
    },
    /// What is in memory.
    Bytes(Rc<[u8]>),
}

impl Source {
    pub(super) fn len(&self) -> u64 {
        match self {
            Source::File { was, .. } => was.len,
            Source::Bytes(bytes) => bytes.len() as u64,
        }
    }
}

/// A content in the line.
pub(super) struct Job {
    pub(super) slot: usize,
    pub(super) source: Source,
    pub(super) coding: Coding,
    pub(super) len: u64,
    /// Where the bytes begin that were not coded yet.
    pub(super) offset: u64,
    /// There is one once the job was at work.
    pub(super) encoder: Option<Encoder>,
    pub(super) input: Input,
}

/// What a content in the line has of its disk, or waits for since a moment.
pub(super) enum Input {
    Nothing,
    Reading(Instant, Pending<Arc<[u8]>>),
    /// Bytes that were read ahead, from a place on.
    Read(Arc<[u8]>, usize),
    /// All of it was coded: of what version it is now.
    Checking(Instant, Pending<(Contents, Metadata)>),
}

impl Job {
    fn piece_bytes(&self) -> usize {
        // Invariant: at most the length of a piece, which is a usize.
        (self.len - self.offset).min(PIECE_BYTES as u64) as usize
    }

    /// What the next step costs; never more than a turn has time for.
    pub(super) fn next_cost(&self) -> usize {
        match &self.encoder {
            None => BEGINNING_BYTES + self.piece_bytes(),
            Some(_) => self.piece_bytes(),
        }
    }

    /// Goes on by a piece, or finds out whether all that was read is of one version; the whole form
    /// with that.
    pub(super) fn step<V: Copy + Ord + Hash>(
        &mut self,
        piece: &mut [u8],
        asker: &mut Asker<'_, V>,
    ) -> Poll<io::Result<Option<Vec<u8>>>> {
        if self.encoder.is_none() || self.offset < self.len {
            return self.code(piece, asker).map_ok(|()| None);
        }
        let Poll::Ready(is_unchanged) = self.check(asker)? else {
            return Poll::Pending;
        };
        match self.encoder.take() {
            Some(encoder) if is_unchanged => Poll::Ready(encoder.finish().map(Some)),
            _ => Poll::Ready(Err(io::Error::other("it changed meanwhile"))),
        }
    }

    /// Codes the next piece, as far as it is there.
    fn code<V: Copy + Ord + Hash>(
        &mut self,
        piece: &mut [u8],
        asker: &mut Asker<'_, V>,
    ) -> Poll<io::Result<()>> {
        let wanted = self.piece_bytes();
        self.input = match std::mem::replace(&mut self.input, Input::Nothing) {
            Input::Reading(since, asked) => match asked.take(asker.jobs) {
                Ok(bytes) => Input::Read(bytes?, 0),
                Err(asked) => {
                    self.input = Input::Reading(since, asked);
                    return Poll::Pending;
                }
            },
            input => input,
        };
        let bytes = match (&self.source, &self.input) {
            (Source::Bytes(bytes), _) => &bytes[self.offset as usize..][..wanted],
            (Source::File { .. }, Input::Read(bytes, at)) => {
                let rest = &bytes[*at..];
                &rest[..rest.len().min(wanted)]
            }
            (Source::File { file, .. }, _) => {
                let piece = &mut piece[..wanted];
                match asker.disk.read_now(file, self.offset, piece) {
                    Some(count) => &piece[..count?],
                    None => {
                        // Invariant: at most that of a job, which is a usize.
                        let len = (self.len - self.offset).min(JOB_BYTES as u64) as usize;
                        let asked = asker.read(file, self.offset, len);
                        self.input = Input::Reading(asker.now, asked);
                        return Poll::Pending;
                    }
                }
            }
        };
        if bytes.is_empty() && wanted > 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        let mut encoder = match self.encoder.take() {
            Some(encoder) => encoder,
            None => Encoder::new(self.coding, self.len)?,
        };
        encoder.push(bytes)?;
        let count = bytes.len();
        self.encoder = Some(encoder);
        self.offset += count as u64;
        if let Input::Read(bytes, at) = &mut self.input {
            *at += count;
            if *at == bytes.len() {
                self.input = Input::Nothing;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Whether all that was read is of one version. Its times do not tell if it changed twice
    /// within a tick of their clock; the bytes that a version remembers do.
    fn check<V: Copy + Ord + Hash>(&mut self, asker: &mut Asker<'_, V>) -> Poll<io::Result<bool>> {
        let Source::File { file, was, version } = &self.source else {
            return Poll::Ready(Ok(true));
        };
        let (since, asked) = match std::mem::replace(&mut self.input, Input::Nothing) {
            Input::Checking(since, asked) => (since, asked),
            _ => (asker.now, asker.contents(file, was, 0)),
        };
        match asked.take(asker.jobs) {
            Ok(now) => Poll::Ready(now.map(|(contents, now)| {
                now == *was && matches!(contents, Contents::Large(now) if now == **version)
            })),
            Err(asked) => {
                self.input = Input::Checking(since, asked);
                Poll::Pending
            }
        }
    }
}

impl Input {
    /// Since when the disk owes an answer that takes a job.
    pub(super) fn asked_since(&self) -> Option<Instant> {
        match self {
            Self::Reading(since, asked) => asked.is_job().then_some(*since),
            Self::Checking(since, asked) => asked.is_job().then_some(*since),
            Self::Nothing | Self::Read(..) => None,
        }
    }

    /// Whether the answer is there, or none was asked for.
    pub(super) fn is_there<V: Copy + Ord + Hash>(&self, jobs: &Jobs<V>) -> bool {
        match self {
            Self::Reading(_, asked) => asked.is_there(jobs),
            Self::Checking(_, asked) => asked.is_there(jobs),
            Self::Nothing | Self::Read(..) => true,
        }
    }

    pub(super) fn cancel<V: Copy + Ord + Hash>(self, jobs: &mut Jobs<V>) {
        match self {
            Self::Reading(_, asked) => asked.cancel(jobs),
            Self::Checking(_, asked) => asked.cancel(jobs),
            Self::Nothing | Self::Read(..) => {}
        }
    }
}
