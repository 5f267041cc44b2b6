//! What is there of a file that its client goes on with: read back by jobs, piece by piece, and
//! hashed, before the client is told from where on to send.
//!
//! Two pieces are on their way at most, and no more is hashed in a turn than there is work for: a
//! prefix of many gigabytes takes many turns and stops nobody. Each piece has the time that the disk
//! has for a job.

use std::collections::VecDeque;
use std::io;
use std::task::Poll;
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use super::announced::Partial;
use crate::buffer::PageSlice;
use crate::jobs::{Command, Done, Ticket, wrong};
use crate::service::{Cx, Waiter, work};

/// Pieces that are read at once.
const READS_MAX: usize = 2;
/// Bytes that are hashed in one step.
pub(super) const HASHED_AT_ONCE: usize = 64 * 1024;

/// A prefix that is being read.
pub(super) struct ReadBack {
    pub(super) partial: Partial,
    /// Bytes of it.
    len: u64,
    digest: Sha256,
    asked: u64,
    hashed: u64,
    reads: VecDeque<Read>,
    /// A piece that was read, and how much of it is hashed.
    page: Option<(PageSlice, usize)>,
}

struct Read {
    ticket: Ticket,
    len: usize,
    since: Instant,
}

impl ReadBack {
    pub(super) fn new(partial: Partial, len: u64) -> Self {
        Self {
            partial,
            len,
            digest: Sha256::new(),
            asked: 0,
            hashed: 0,
            reads: VecDeque::new(),
            page: None,
        }
    }

    /// The digest of the whole prefix, once it is read. An error where it cannot be, or is shorter
    /// than it was.
    pub(super) fn poll(&mut self, waiter: Waiter, cx: &mut Cx<'_>) -> Poll<io::Result<Sha256>> {
        loop {
            if let Err(error) = self.read(waiter, cx) {
                return Poll::Ready(Err(error));
            }
            if self.hashed == self.len {
                return Poll::Ready(Ok(self.digest.clone()));
            }
            let Some((page, done)) = &mut self.page else {
                return Poll::Pending;
            };
            if cx.work.is_spent() {
                return Poll::Pending; // it is called again in the next turn
            }
            let bytes = &page.bytes()[*done..];
            let piece = &bytes[..bytes.len().min(HASHED_AT_ONCE)];
            self.digest.update(piece);
            cx.work.charge(hash_ns(piece.len()));
            *done += piece.len();
            self.hashed += piece.len() as u64;
            if *done == page.len()
                && let Some((page, _)) = self.page.take()
            {
                cx.pool.give_slice(page);
            }
        }
    }

    /// Asks for the next pieces, and takes the first one if it is there and none is being hashed.
    fn read(&mut self, waiter: Waiter, cx: &mut Cx<'_>) -> io::Result<()> {
        while self.reads.len() < READS_MAX && self.asked < self.len {
            let mut page = cx.pool.take_slice();
            let left = usize::try_from(self.len - self.asked).unwrap_or(usize::MAX);
            let len = page.space_of(left).len();
            let fill = Command::Fill {
                file: self.partial.file.clone(),
                offset: self.asked,
                len,
                page,
                version: None,
            };
            match cx.jobs.start(waiter, fill, cx.now) {
                Ok(ticket) => {
                    let since = cx.now;
                    self.reads.push_back(Read { ticket, len, since });
                    self.asked += len as u64;
                }
                Err(mut refused) => {
                    if let Some(page) = refused.page.take() {
                        cx.pool.give_slice(page);
                    }
                    refused.result?;
                }
            }
        }
        if self.page.is_none()
            && let Some(read) = self.reads.front()
            && let Poll::Ready(finished) = cx.jobs.take(&read.ticket)
        {
            let len = read.len;
            self.reads.pop_front();
            let page = finished.page.ok_or_else(wrong)?;
            let is_whole = match finished.result {
                Ok(Done::Count(count)) => Ok(count == len as u64),
                Ok(_) => Err(wrong()),
                Err(error) => Err(error),
            };
            match is_whole {
                Ok(true) => self.page = Some((page, 0)),
                is_whole => {
                    cx.pool.give_slice(page);
                    is_whole?;
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
            }
        }
        Ok(())
    }

    /// Since when the oldest piece has been asked for.
    pub(super) fn since(&self) -> Option<Instant> {
        self.reads.front().map(|read| read.since)
    }

    /// It is given up: the file, and how many bytes it has. Pieces that are being read find nobody.
    pub(super) fn give_up(self, cx: &mut Cx<'_>) -> (Partial, u64) {
        if let Some((page, _)) = self.page {
            cx.pool.give_slice(page);
        }
        for read in self.reads {
            cx.jobs.cancel(read.ticket);
        }
        (self.partial, self.len)
    }
}

/// What it costs to hash so many bytes.
pub(super) fn hash_ns(bytes: usize) -> u32 {
    u32::try_from(bytes * 1000 / work::HASHED_BYTES_PER_US).unwrap_or(u32::MAX)
}
