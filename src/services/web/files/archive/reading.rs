//! A file that is read a piece at a time: for a zip, which has to know its sum.

use std::ops::Range;
use std::path::PathBuf;
use std::sync::Arc;

use super::zip::Open;
use super::{JOB_BYTES, PIECE_BYTES, Stopped};
use crate::disk::{File, Version};
use crate::jobs::pending::{Asker, Pending};
use crate::service::Waiter;

/// A file that is read a piece at a time.
pub(super) struct Reading {
    pub(super) path: PathBuf,
    pub(super) file: File,
    pub(super) version: Version,
    pub(super) open: Open,
    pub(super) offset: u64,
    /// The turn in which it was last seen to be that version.
    pub(super) seen: u64,
    pub(super) input: Input,
}

/// What is there of the next bytes of a file.
pub(super) enum Input {
    Nothing,
    Asked(Pending<Arc<[u8]>>),
    /// They are queued if the file is still the version.
    Checking(Arc<[u8]>, Pending<bool>),
    /// They are queued from a place on.
    Read(Arc<[u8]>, usize),
}

/// A place among some bytes.
type Piece = (Arc<[u8]>, Range<usize>);

impl Reading {
    /// The next piece, once it is there.
    pub(super) fn piece(
        &mut self,
        turn: u64,
        asker: &mut Asker<'_, Waiter>,
    ) -> Result<Option<Piece>, Stopped> {
        let left = self.version.len - self.offset;
        loop {
            self.input = match std::mem::replace(&mut self.input, Input::Nothing) {
                Input::Nothing => {
                    let [len, ahead] = [PIECE_BYTES, JOB_BYTES].map(|len| left.min(len as u64));
                    let (len, ahead) = (len as usize, ahead as usize);
                    Input::Asked(asker.read_ahead(&self.file, self.offset, len, ahead))
                }
                Input::Asked(asked) => match asked.take(asker.jobs) {
                    Err(asked) => {
                        self.input = Input::Asked(asked);
                        return Ok(None);
                    }
                    Ok(bytes) => {
                        let bytes = bytes.map_err(|error| Stopped::disk(&self.path, error))?;
                        if bytes.is_empty() && left > 0 {
                            return Err(Stopped::Changed(self.path.clone()));
                        }
                        // Once a turn, so that no bytes of another version follow for long; and
                        // when all of it was read.
                        let is_due = bytes.len() as u64 == left || self.seen != turn;
                        self.seen = turn;
                        match is_due {
                            true => Input::Checking(bytes, asker.keeps(&self.file, &self.version)),
                            false => Input::Read(bytes, 0),
                        }
                    }
                },
                Input::Checking(bytes, is_kept) => match is_kept.take(asker.jobs) {
                    Err(is_kept) => {
                        self.input = Input::Checking(bytes, is_kept);
                        return Ok(None);
                    }
                    Ok(Ok(true)) => Input::Read(bytes, 0),
                    Ok(_) => return Err(Stopped::Changed(self.path.clone())),
                },
                Input::Read(bytes, at) => {
                    let piece = at..bytes.len().min(at + PIECE_BYTES);
                    self.input = Input::Read(Arc::clone(&bytes), at);
                    return Ok(Some((bytes, piece)));
                }
            };
        }
    }

    /// So many bytes of it were queued.
    pub(super) fn passed(&mut self, count: usize) {
        self.offset += count as u64;
        if let Input::Read(bytes, at) = &mut self.input {
            *at += count;
            if *at == bytes.len() {
                self.input = Input::Nothing;
            }
        }
    }
}
