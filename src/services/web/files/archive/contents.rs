//! A file that was found, on its way into the archive: opened, and read if it is small.
//!
//! ```text
//! Opening ──a file──▶ Reading ──all of it, or its version──▶ File
//! ```
//!
//! What changed while it was read would be packed as two versions: see [`Disk::contents`].
//!
//! [`Disk::contents`]: crate::disk::Disk::contents

use std::hash::Hash;
use std::path::PathBuf;

use super::walk::is_passed_over;
use super::{PIECE_BYTES, Stopped};
use crate::disk::{Contents, File, FileKind, Metadata};
use crate::jobs::pending::{Asker, Pending};

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
    stage: Stage,
}

enum Stage {
    Opening(Pending<(File, Metadata)>),
    Reading(File, Pending<(Contents, Metadata)>),
}

impl Opening {
    pub(super) fn new(path: PathBuf, opened: Pending<(File, Metadata)>) -> Self {
        let stage = Stage::Opening(opened);
        Self { path, stage }
    }

    /// Goes on as far as the disk allows: what came of it, or how far it is.
    #[allow(clippy::boxed_local)] // it comes as it is kept
    pub(super) fn take<W: Copy + Ord + Hash>(
        self: Box<Self>,
        asker: &mut Asker<'_, W>,
    ) -> Result<Result<Opened, Stopped>, Box<Self>> {
        let Self { path, mut stage } = *self;
        loop {
            stage = match stage {
                Stage::Opening(opened) => match opened.take(asker.jobs) {
                    Ok(Ok((_, metadata))) if metadata.kind != FileKind::Regular => {
                        return Ok(Ok(Opened::Nothing));
                    }
                    Ok(Ok((file, metadata))) => {
                        let read = asker.contents(&file, &metadata, PIECE_BYTES as u64);
                        Stage::Reading(file, read)
                    }
                    Ok(Err(error)) if is_passed_over(&error) => return Ok(Ok(Opened::LeftOut)),
                    Ok(Err(error)) => return Ok(Err(Stopped::disk(&path, error))),
                    Err(opened) => {
                        let stage = Stage::Opening(opened);
                        return Err(Box::new(Self { path, stage }));
                    }
                },
                Stage::Reading(file, read) => match read.take(asker.jobs) {
                    Ok(Ok((contents, was))) => return Ok(Ok(Opened::File(file, contents, was))),
                    Ok(Err(error)) => return Ok(Err(Stopped::disk(&path, error))),
                    Err(read) => {
                        let stage = Stage::Reading(file, read);
                        return Err(Box::new(Self { path, stage }));
                    }
                },
            };
        }
    }
}
