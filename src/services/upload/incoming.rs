//! A file of which not every byte came yet: pages go from the connection to the disk, whole, and
//! come back with the results.
//!
//! The rules:
//! 1. One page is being written while the next is received, or [`SLOW_WRITES_MAX`] where each write
//!    waits for somebody else. Two threads that write to one file of a local disk would only wait
//!    for each other, spinning. What comes meanwhile waits in the page of the
//!    connection, and when that is full, in the client's socket.
//! 2. A page goes to the disk when it is full, when the file ends in it, or when it holds
//!    [`WRITE_BYTES_MIN`]: a small piece would cost more to hand over than to write.
//! 3. Bytes behind the end of the file stay where they are.

use std::task::Poll;
use std::time::Instant;

use super::store::{Partial, refusal};
use crate::ending::Error;
use crate::jobs::{Command, Ticket};
use crate::service::{Io, Waiter};

/// Pages of one file that are written at once, on a disk that asks others.
const SLOW_WRITES_MAX: usize = 2;
/// Bytes that are worth a job although more may come into their page.
const WRITE_BYTES_MIN: usize = 64 * 1024;

/// A file that is being received.
pub(super) struct Incoming {
    pub(super) partial: Partial,
    /// Bytes that came.
    pub(super) arrived_bytes: u64,
    /// Bytes that were given to jobs.
    given_bytes: u64,
    writes: Vec<Write>,
    /// Since when nothing more can be received, because of the disk.
    pub(super) blocked: Option<Instant>,
}

/// A page that is being written.
struct Write {
    ticket: Ticket,
    since: Instant,
}

impl Incoming {
    pub(super) fn new(partial: Partial) -> Self {
        Self {
            partial,
            arrived_bytes: 0,
            given_bytes: 0,
            writes: Vec::new(),
            blocked: None,
        }
    }

    /// Gives what came to the disk, and takes back what it has written; how many bytes more came.
    pub(super) fn write(&mut self, io: &mut Io<'_>) -> Result<usize, Error> {
        self.written(io)?;
        while self.writes.len() < self.writes_max() && self.is_worth_a_job(io) {
            self.give(io)?;
        }
        let waits = self.left().min(io.down.rx.len() as u64);
        let more = self.given_bytes + waits - self.arrived_bytes;
        self.arrived_bytes += more;
        let is_blocked = self.writes.len() >= self.writes_max() && !io.down.rx.has_space();
        self.blocked = (is_blocked && !self.has_arrived()).then_some(io.cx.now);
        Ok(more as usize)
    }

    /// Takes back the pages that were written.
    fn written(&mut self, io: &mut Io<'_>) -> Result<(), Error> {
        let mut index = 0;
        while let Some(write) = self.writes.get(index) {
            let Poll::Ready(written) = io.cx.jobs.take(&write.ticket) else {
                index += 1;
                continue;
            };
            self.writes.remove(index);
            if let Some(page) = written.page {
                io.cx.pool.give_slice(page);
            }
            let name = &self.partial.announced.name;
            written
                .result
                .map_err(|error| Error::Disk(name.to_string(), error))?;
        }
        Ok(())
    }

    fn is_worth_a_job(&self, io: &Io<'_>) -> bool {
        let rx = &io.down.rx;
        let is_enough = rx.len() >= WRITE_BYTES_MIN || !rx.has_space();
        let is_end = rx.len() as u64 >= self.left();
        !rx.is_empty() && self.left() > 0 && (is_enough || is_end)
    }

    fn give(&mut self, io: &mut Io<'_>) -> Result<(), Error> {
        let count = usize::try_from(self.left()).unwrap_or(usize::MAX);
        let Some(page) = io.down.rx.take_front(count, io.cx.pool) else {
            return Ok(());
        };
        let count = page.len() as u64;
        let write = Command::Write {
            file: self.partial.file.clone(),
            offset: self.given_bytes,
            page,
        };
        let since = io.cx.now;
        match io.cx.jobs.start(Waiter::Session(io.id), write, since) {
            Ok(ticket) => {
                self.given_bytes += count;
                self.writes.push(Write { ticket, since });
                Ok(())
            }
            Err(mut refused) => {
                if let Some(page) = refused.page.take() {
                    io.cx.pool.give_slice(page);
                }
                let name = self.partial.announced.name.to_string();
                Err(Error::Disk(name, refusal(refused)))
            }
        }
    }

    fn writes_max(&self) -> usize {
        match self.partial.file.is_slow() {
            true => SLOW_WRITES_MAX,
            false => 1,
        }
    }

    /// Bytes of the file that were not given to the disk yet.
    fn left(&self) -> u64 {
        self.partial.announced.size_bytes - self.given_bytes
    }

    /// Whether every byte came.
    fn has_arrived(&self) -> bool {
        self.arrived_bytes == self.partial.announced.size_bytes
    }

    /// Whether nothing of the client's is waited for.
    pub(super) fn waits_for_disk(&self) -> bool {
        self.has_arrived() || self.blocked.is_some()
    }

    /// Whether every byte was written.
    pub(super) fn is_whole(&self) -> bool {
        self.left() == 0 && self.writes.is_empty()
    }

    /// Since when the oldest page has been written, if there is one.
    pub(super) fn writing_since(&self) -> Option<Instant> {
        self.writes.first().map(|write| write.since)
    }
}
