//! A file of which not every byte came yet: pages go from the connection to the disk, whole, and
//! come back with the results.
//!
//! The rules:
//! 1. One page is being written while the next is received, or [`SLOW_WRITES_MAX`] where each write
//!    waits for somebody else. Two threads that write to one file of a local disk would only wait
//!    for each other, spinning; and what is kept for later has no gaps. What comes meanwhile waits
//!    in the page of the connection, and when that is full, in the client's socket.
//! 2. A page goes to the disk when it is full, when the file ends in it, or when it holds
//!    [`WRITE_BYTES_MIN`]: a small piece would cost more to hand over than to write.
//!    What the kernel moved into a pipe, which is much, goes from there to the disk: only bytes that
//!    nobody hashes come so.
//! 3. Bytes behind the end of the file stay where they are.
//! 4. What a client asked an answer for is hashed before it is given away, as much in a turn as
//!    there is work for, and the disk is told to begin with each [`WRITE_BACK_BYTES`]: so the sync at
//!    the end has little left to wait for. It is never more than [`UNWRITTEN_BYTES_MAX`] behind.

use std::task::Poll;
use std::time::Instant;

use sha2::{Digest as _, Sha256};

use super::announced::{Announced, Partial};
use super::refusal::Refusal;
use super::resuming::{HASHED_AT_ONCE, hash_ns};
use super::store::refused;
use crate::jobs::{Command, Ticket};
use crate::service::{Cx, Io, Waiter};

/// Pages of one file that are written at once, on a disk that asks others.
const SLOW_WRITES_MAX: usize = 2;
/// Bytes that are worth a job although more may come into their page.
const WRITE_BYTES_MIN: usize = 64 * 1024;
/// Bytes after which the disk is told to begin to write.
const WRITE_BACK_BYTES: u64 = 8 * 1024 * 1024;
/// Bytes that were given to the system and that the disk was not made to begin with, beyond which no
/// more are taken.
const UNWRITTEN_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// A file that is being received.
pub(super) struct Incoming {
    pub(super) partial: Partial,
    /// Bytes that came, those of earlier connections included.
    pub(super) arrived_bytes: u64,
    /// Bytes that were given to jobs.
    given_bytes: u64,
    writes: Vec<Write>,
    /// Since when nothing more can be received, because of the disk.
    pub(super) blocked: Option<Instant>,
    /// For a client that asked for an answer.
    hashing: Option<Hashing>,
}

/// A page that is being written.
struct Write {
    ticket: Ticket,
    since: Instant,
}

/// What is done beside, for who gets an answer.
struct Hashing {
    digest: Sha256,
    /// Bytes at the front of what waits that are hashed already.
    ahead: usize,
    /// Up to where the disk was told to begin to write, and from where on the time before.
    begun: u64,
    begun_before: u64,
    telling: Option<Write>,
}

impl Incoming {
    /// The file, of which `offset` bytes are there; `digest` is of those.
    pub(super) fn new(partial: Partial, offset: u64, digest: Option<Sha256>) -> Self {
        Self {
            partial,
            arrived_bytes: offset,
            given_bytes: offset,
            writes: Vec::new(),
            blocked: None,
            hashing: digest.map(|digest| Hashing {
                digest,
                ahead: 0,
                begun: offset,
                begun_before: offset,
                telling: None,
            }),
        }
    }

    /// What was announced of it.
    pub(super) fn announced(&self) -> &Announced {
        &self.partial.announced
    }

    /// Gives what came to the disk, and takes back what it has written; how many bytes more came.
    pub(super) fn write(&mut self, io: &mut Io<'_>) -> Result<usize, Refusal> {
        self.written(io)?;
        if self.hashing.is_none() {
            // Of what is here only: what comes by a pipe is not among what comes to `rx`.
            let by_pipe = io.down.piped_bytes() as u64;
            let here = io.down.rx.len() as u64;
            let of_it = self.left().saturating_sub(by_pipe).min(here);
            io.down.rx.pass_unread(of_it);
        }
        self.hash(io);
        while self.may_write() && self.is_worth_a_job(io) {
            self.give(io)?;
            self.hash(io);
        }
        self.write_back(io)?;
        let waits = self.left().min(io.down.arrived() as u64);
        if self.hashing.is_none() {
            let is_held = waits == 0 && !self.may_write();
            io.down.want_piped(self.left() - waits, is_held);
        }
        let more = self.given_bytes + waits - self.arrived_bytes;
        self.arrived_bytes += more;
        let is_blocked = !self.may_write() && !io.down.has_space();
        self.blocked = (is_blocked && !self.has_arrived()).then_some(io.cx.now);
        Ok(more as usize)
    }

    /// Takes back the pages that were written.
    fn written(&mut self, io: &mut Io<'_>) -> Result<(), Refusal> {
        let name = &self.partial.announced.name;
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
            written.result.map_err(|error| Refusal::disk(name, error))?;
        }
        if let Some(hashing) = &mut self.hashing
            && let Some(telling) = &hashing.telling
            && let Poll::Ready(told) = io.cx.jobs.take(&telling.ticket)
        {
            hashing.telling = None;
            told.result.map_err(|error| Refusal::disk(name, error))?;
        }
        Ok(())
    }

    /// Hashes what waits, as far as there is work left.
    fn hash(&mut self, io: &mut Io<'_>) {
        let left = usize::try_from(self.left()).unwrap_or(usize::MAX);
        let Some(hashing) = &mut self.hashing else {
            return;
        };
        let waits = &io.down.rx.bytes()[..io.down.rx.len().min(left)];
        while hashing.ahead < waits.len() && !io.cx.work.is_spent() {
            let rest = &waits[hashing.ahead..];
            let piece = &rest[..rest.len().min(HASHED_AT_ONCE)];
            hashing.digest.update(piece);
            hashing.ahead += piece.len();
            io.cx.work.charge(hash_ns(piece.len()));
        }
    }

    /// Bytes at the front of what waits that may be given away.
    fn ready(&self, io: &Io<'_>) -> usize {
        let waits = self.hashing.as_ref().map(|hashing| hashing.ahead);
        waits.unwrap_or(io.down.rx.len())
    }

    fn is_worth_a_job(&self, io: &Io<'_>) -> bool {
        let (rx, ready) = (&io.down.rx, self.ready(io));
        if io.down.piped_bytes() > 0 {
            return true;
        }
        // What came with the header is in the way of what may come by a pipe.
        let is_first = self.hashing.is_none() && self.given_bytes == 0;
        let is_enough = ready >= WRITE_BYTES_MIN || !rx.has_space() || is_first;
        let is_end = ready as u64 >= self.left();
        ready > 0 && self.left() > 0 && (is_enough || is_end)
    }

    fn give(&mut self, io: &mut Io<'_>) -> Result<(), Refusal> {
        let Some((write, count)) = self.next_write(io) else {
            return Ok(());
        };
        let since = io.cx.now;
        match io.cx.jobs.start(Waiter::Session(io.id), write, since) {
            Ok(ticket) => {
                self.given_bytes += count as u64;
                self.writes.push(Write { ticket, since });
                if let Some(hashing) = &mut self.hashing {
                    hashing.ahead -= count;
                }
                if let Some(promise) = &self.partial.announced.promise {
                    promise.wrote(count as u64);
                }
                Ok(())
            }
            Err(mut came_back) => {
                if let Some(page) = came_back.page.take() {
                    io.cx.pool.give_slice(page);
                }
                let name = &self.partial.announced.name;
                Err(Refusal::disk(name, refused(came_back)))
            }
        }
    }

    /// What is to be written next, and how many bytes that is.
    fn next_write(&self, io: &mut Io<'_>) -> Option<(Command, usize)> {
        let (file, offset) = (self.partial.file.clone(), self.given_bytes);
        if let Some(piped) = io.down.take_piped() {
            let count = piped.bytes;
            let write = Command::WritePiped {
                file,
                offset,
                piped,
            };
            return Some((write, count));
        }
        let count = usize::try_from(self.left()).unwrap_or(usize::MAX);
        let count = count.min(self.ready(io));
        let page = io.down.rx.take_front(count, io.cx.pool)?;
        let count = page.len();
        Some((Command::Write { file, offset, page }, count))
    }

    /// Tells the disk to begin with what was given, if that is worth it and it has begun with what
    /// it was told before.
    fn write_back(&mut self, io: &mut Io<'_>) -> Result<(), Refusal> {
        let Some(hashing) = &mut self.hashing else {
            return Ok(());
        };
        if hashing.telling.is_some() || self.given_bytes - hashing.begun < WRITE_BACK_BYTES {
            return Ok(());
        }
        let write_back = Command::WriteBack {
            file: self.partial.file.clone(),
            offset: hashing.begun_before,
            len: self.given_bytes - hashing.begun_before,
        };
        let since = io.cx.now;
        let ticket = io.cx.jobs.start(Waiter::Session(io.id), write_back, since);
        let ticket = ticket
            .map_err(|came_back| Refusal::disk(&self.partial.announced.name, refused(came_back)))?;
        hashing.begun_before = std::mem::replace(&mut hashing.begun, self.given_bytes);
        hashing.telling = Some(Write { ticket, since });
        Ok(())
    }

    fn may_write(&self) -> bool {
        let is_behind = self.hashing.as_ref().is_some_and(|hashing| {
            hashing.telling.is_some() && self.given_bytes - hashing.begun >= UNWRITTEN_BYTES_MAX
        });
        self.writes.len() < self.writes_max() && !is_behind
    }

    fn writes_max(&self) -> usize {
        match self.partial.file.is_slow() && self.partial.key.is_none() {
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

    /// Whether every byte was written, and the disk has begun with what it was told to.
    pub(super) fn is_whole(&self) -> bool {
        let is_telling = self.hashing.as_ref().is_some_and(|h| h.telling.is_some());
        self.left() == 0 && self.writes.is_empty() && !is_telling
    }

    /// Since when the oldest job has been under way, if there is one.
    pub(super) fn writing_since(&self) -> Option<Instant> {
        let telling = self.hashing.as_ref().and_then(|h| h.telling.as_ref());
        let under_way = self.writes.first().into_iter().chain(telling);
        under_way.map(|write| write.since).min()
    }

    /// The digest of the file, which is whole.
    pub(super) fn digest(&self) -> Option<[u8; 32]> {
        let digest = self.hashing.as_ref()?.digest.clone();
        Some(digest.finalize().into())
    }

    /// It is given up: the file, and how many bytes of it the disk has. What is being written is
    /// written, and finds nobody.
    pub(super) fn give_up(self, cx: &mut Cx<'_>) -> (Partial, u64) {
        let telling = self.hashing.and_then(|hashing| hashing.telling);
        for write in self.writes.into_iter().chain(telling) {
            cx.jobs.cancel(write.ticket);
        }
        (self.partial, self.given_bytes)
    }
}
