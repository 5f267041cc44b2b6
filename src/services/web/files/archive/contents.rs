//! A file that was found, on its way into the archive: opened, and read if it is small.
//!
//! ```text
//! Opening ──small──▶ Reading ──┐
//!    └─────large──▶ Sampling ──┴──▶ Checking ──as it was──▶ File
//!                      ▲  ▲             │
//!                      │  └─ changed ───┤    (small again: Reading)
//!                      └── too often ───┘
//! ```
//!
//! What changed while it was read would be packed as two versions, so it is read again; what does
//! so again and again is held to a version, as a large file is.

use std::hash::Hash;
use std::path::PathBuf;
use std::sync::Arc;

use super::walk::is_passed_over;
use super::{PIECE_BYTES, Stopped};
use crate::disk::{File, FileKind, Metadata, Version};
use crate::jobs::pending::{Asker, Pending};

/// How often a small file that changes while it is read is read again.
const READS_MAX: usize = 3;

/// What is packed of a file.
pub(super) enum Contents {
    Small(Arc<[u8]>),
    /// It is read when it is sent, and has to be this version then.
    Large(Version),
}

/// What came of a file.
pub(super) enum Opened {
    File(File, Contents, Metadata),
    /// It may not be read, or is not there any more.
    LeftOut,
    /// It is no file any more.
    Nothing,
}

/// A file that is being opened and read.
pub(super) struct Opening {
    pub(super) path: PathBuf,
    reads: usize,
    stage: Stage,
}

enum Stage {
    Opening(Pending<(File, Metadata)>),
    Reading(File, Metadata, Pending<Arc<[u8]>>),
    Sampling(File, Metadata, Pending<Version>),
    Checking(File, Metadata, Option<Contents>, Pending<Metadata>),
}

impl Opening {
    pub(super) fn new(path: PathBuf, opened: Pending<(File, Metadata)>) -> Self {
        Self {
            path,
            reads: 0,
            stage: Stage::Opening(opened),
        }
    }

    /// Goes on as far as the disk allows: what came of it, or how far it is.
    pub(super) fn take<W: Copy + Eq + Hash>(
        self,
        asker: &mut Asker<'_, W>,
    ) -> Result<Result<Opened, Stopped>, Box<Self>> {
        let Self {
            path,
            mut reads,
            mut stage,
        } = self;
        let failed = |error| Ok(Err(Stopped::disk(&path, error)));
        loop {
            let step = match stage {
                Stage::Opening(opened) => match opened.take(asker.jobs) {
                    Ok(Ok((_, metadata))) if metadata.kind != FileKind::Regular => {
                        return Ok(Ok(Opened::Nothing));
                    }
                    Ok(Ok((file, metadata))) => Ok(Stage::begin(file, metadata, reads, asker)),
                    Ok(Err(error)) if is_passed_over(&error) => return Ok(Ok(Opened::LeftOut)),
                    Ok(Err(error)) => return failed(error),
                    Err(opened) => Err(Stage::Opening(opened)),
                },
                Stage::Reading(file, was, read) => match read.take(asker.jobs) {
                    Ok(Ok(bytes)) => {
                        let is_whole = bytes.len() as u64 == was.len;
                        let contents = is_whole.then_some(Contents::Small(bytes));
                        let now = asker.metadata(&file);
                        Ok(Stage::Checking(file, was, contents, now))
                    }
                    Ok(Err(error)) => return failed(error),
                    Err(read) => Err(Stage::Reading(file, was, read)),
                },
                Stage::Sampling(file, was, version) => match version.take(asker.jobs) {
                    Ok(Ok(version)) if reads == READS_MAX => {
                        return Ok(Ok(Opened::File(file, Contents::Large(version), was)));
                    }
                    Ok(Err(error)) if reads == READS_MAX => return failed(error),
                    Ok(version) => {
                        let contents = version.ok().map(Contents::Large);
                        let now = asker.metadata(&file);
                        Ok(Stage::Checking(file, was, contents, now))
                    }
                    Err(version) => Err(Stage::Sampling(file, was, version)),
                },
                Stage::Checking(file, was, contents, now) => match (now.take(asker.jobs), contents)
                {
                    (Ok(Err(error)), _) => return failed(error),
                    (Ok(Ok(now)), Some(contents)) if now == was => {
                        return Ok(Ok(Opened::File(file, contents, was)));
                    }
                    (Ok(Ok(now)), _) => {
                        reads += 1;
                        Ok(Stage::begin(file, now, reads, asker))
                    }
                    (Err(now), contents) => Err(Stage::Checking(file, was, contents, now)),
                },
            };
            match step {
                Ok(next) => stage = next,
                Err(stage) => return Err(Box::new(Self { path, reads, stage })),
            }
        }
    }
}

impl Stage {
    fn begin<W: Copy + Eq + Hash>(
        file: File,
        was: Metadata,
        reads: usize,
        asker: &mut Asker<'_, W>,
    ) -> Self {
        if was.len > PIECE_BYTES as u64 || reads == READS_MAX {
            let version = asker.version(&file, &was);
            return Self::Sampling(file, was, version);
        }
        let read = asker.read(&file, 0, was.len as usize);
        Self::Reading(file, was, read)
    }
}
