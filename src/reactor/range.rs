//! The file range at the front of a send queue: whether it may be sent at once, and how it is read
//! where that would wait for a disk.
//!
//! ```text
//! at the front ──in memory, and as promised──▶ sent
//!  ▲ ▲    └──else──▶ a job has its beginning read into memory: it is looked for there again
//!  │ └────────────────────┘└──in vain, or others must be asked──▶ a job reads its beginning
//!  └────── the rest of it ◀── those bytes stand in the queue, in its place ◀──┘
//! ```
//!
//! No protocol knows of it: what it queued as a file goes out as one, or as pages.

use std::task::Poll;
use std::time::Instant;

use crate::buffer::{Pool, SendQueue};
use crate::disk::WARM_BYTES;
use crate::ending::Error;
use crate::jobs::{Command, Done, Finished, Jobs, Query, Ticket};
use crate::service::{Id, Waiter};
use crate::sys::{PlantedBug, Sys};

/// Of a range, so much is looked for in memory, sent by one call, or read by one job.
pub(super) const RANGE_BYTES_MAX: u64 = 512 * 1024;

/// How the range at the front stands.
#[derive(Debug, Default)]
pub(super) struct FileRange {
    /// The job that reads its beginning.
    read: Option<Ticket>,
    /// Nothing of it was sent since it was read into memory, or is to be.
    is_warmed: bool,
}

impl FileRange {
    /// Whether what is at the front may be sent now. A range that had to wait must still be of the
    /// version that its answer's head promised; what goes out in the turn that queued it is not
    /// looked at: its protocol has looked.
    #[inline]
    pub(super) fn may_be_sent<S: Sys>(
        &self,
        queue: &SendQueue,
        sys: &mut S,
        now: Instant,
    ) -> Result<bool, Error> {
        let Some((file, offset, len, _)) = queue.front_file() else {
            return Ok(true);
        };
        if self.waits() {
            return Ok(false);
        }
        let is_kept = match queue.promised() {
            Some(_) if sys.planted(PlantedBug::PromiseForgotten) => Some(true),
            Some(promised) => sys.disk().keeps_now(file, promised),
            None => Some(true),
        };
        match is_kept {
            Some(false) => return Err(Error::Changed),
            Some(true) => {
                let len = len.min(RANGE_BYTES_MAX);
                if sys.disk().is_in_memory(file, offset, len, now) {
                    return Ok(true);
                }
            }
            None => {}
        }
        Ok(false)
    }

    /// Whether the front waits for the disk.
    pub(super) fn waits(&self) -> bool {
        self.read.is_some()
    }

    /// Some of it was sent.
    pub(super) fn was_sent(&mut self) {
        self.is_warmed = false;
    }

    /// Has its beginning read, unless it is; `is_checked`: only if it is of the version that was
    /// promised.
    pub(super) fn ask(
        &mut self,
        queue: &SendQueue,
        (id, now): (Id, Instant),
        is_checked: bool,
        jobs: &mut Jobs<Waiter>,
        pool: &mut Pool,
    ) -> Result<(), Error> {
        let (None, Some((file, offset, len, version))) = (&self.read, queue.front_file()) else {
            return Ok(());
        };
        if !file.is_slow() && !self.is_warmed {
            self.is_warmed = true;
            // The same pieces for whoever sends the file: they are read once.
            let end = ((offset / WARM_BYTES + 1) * WARM_BYTES).min(offset + len);
            let (file, len) = (file.clone(), end - offset);
            let warm = Query::Warm { file, offset, len };
            let ticket = jobs.start(Waiter::Sending(id), warm, now);
            self.read = Some(ticket.map_err(|refused| failed(refused.result))?);
            return Ok(());
        }
        self.is_warmed = false;
        let fill = Command::Fill {
            file: file.clone(),
            offset,
            len: len.min(RANGE_BYTES_MAX) as usize,
            page: pool.take_slice(),
            version: version.filter(|_| is_checked).cloned(),
        };
        match jobs.start(Waiter::Sending(id), fill, now) {
            Ok(ticket) => {
                self.read = Some(ticket);
                Ok(())
            }
            Err(refused) => {
                let Finished { result, page } = *refused;
                if let Some(page) = page {
                    pool.give_slice(page);
                }
                Err(failed(result))
            }
        }
    }

    /// Puts what was read into the queue.
    pub(super) fn take(
        &mut self,
        queue: &mut SendQueue,
        jobs: &mut Jobs<Waiter>,
        pool: &mut Pool,
    ) -> Result<(), Error> {
        let Some(ticket) = &self.read else {
            return Ok(());
        };
        let Poll::Ready(Finished { result, page }) = jobs.take(ticket) else {
            return Ok(());
        };
        self.read = None;
        match (result, page) {
            // It is there, or read once more for what is wrong with it.
            (_, None) => Ok(()),
            (Ok(Done::Count(count)), Some(page)) if count > 0 => {
                queue.front_was_read(page, pool);
                Ok(())
            }
            (result, Some(page)) => {
                pool.give_slice(page);
                // A file that ends before its range does is shorter than was promised.
                Err(failed(result))
            }
        }
    }
}

/// Why a range cannot be sent.
fn failed(result: std::io::Result<Done>) -> Error {
    match result {
        Ok(_) => Error::Changed,
        Err(error) if error.kind() == std::io::ErrorKind::StaleNetworkFileHandle => Error::Changed,
        Err(error) => Error::Disk("a file that is being sent".to_owned(), error),
    }
}
