//! How jobs are done, behind two doors: `start` gives one away, `finished` gives it back with what
//! it came to. Three engines stand there ([`DiskEngine`]):
//!
//! - `ring`: io_uring. The kernel is told of a job through memory that it shares with us, and does
//!   it on threads of its own; what it has no operation for goes to helpers.
//! - `threads`: helper threads, each of which makes one call.
//! - inline: the call is made at once, by the loop, which waits for it.

use std::collections::VecDeque;
use std::io;
use std::time::Duration;

use io_uring::IoUring;
use mio::{Poll, Token};

use super::Files;
use super::ring::{self, Ring};
use super::threads::{Completed, Task, Threads};
use crate::jobs::{Job, JobId};
use crate::limits::{DiskEngine, DiskLimits};

/// The engine of one poll.
pub(super) struct Engine {
    way: Way,
    /// The poll told that something was done, and not all of it was taken yet.
    pub(super) told: bool,
}

enum Way {
    Inline(VecDeque<Completed>),
    Threads(Threads),
    Ring(Box<Ring>),
}

impl Engine {
    /// An engine whose completions are told by `poll` under `token`.
    ///
    /// # Errors
    /// Those of `eventfd(2)`; where io_uring is asked for, why there is none.
    pub(super) fn new(limits: &DiskLimits, poll: &Poll, token: Token) -> io::Result<Self> {
        let open = || ring::open(limits.jobs_max, poll, token);
        Self::with(open, limits, poll, token)
    }

    /// The same with rings that `open` opens.
    fn with(
        open: impl FnOnce() -> io::Result<IoUring>,
        limits: &DiskLimits,
        poll: &Poll,
        token: Token,
    ) -> io::Result<Self> {
        // Called once: a poll has one waker at most.
        let threads = || Threads::new(limits.jobs_max, poll, token);
        let way = match limits.engine {
            DiskEngine::Inline => Way::Inline(VecDeque::new()),
            DiskEngine::Threads => Way::Threads(threads()?),
            engine => match (open().map_err(|error| refused(&error)), engine) {
                (Ok(ring), _) => Way::Ring(Box::new(Ring::new(ring, threads()?))),
                (Err(error), DiskEngine::IoUring) => return Err(error),
                (Err(error), _) => {
                    log::info!("{error}");
                    Way::Threads(threads()?)
                }
            },
        };
        Ok(Self { way, told: false })
    }

    /// Which one it is.
    pub(super) fn kind(&self) -> DiskEngine {
        match self.way {
            Way::Inline(_) => DiskEngine::Inline,
            Way::Threads(_) => DiskEngine::Threads,
            Way::Ring(_) => DiskEngine::IoUring,
        }
    }

    /// Begins a job, at the latest when [`Engine::finished`] is called next.
    pub(super) fn start(&mut self, id: JobId, mut job: Job) {
        match &mut self.way {
            Way::Inline(done) => {
                let result = job.perform(&mut Files::default());
                done.push_back((id, job, result));
                self.told = true;
            }
            Way::Threads(threads) => {
                let opened = None;
                threads.start(Task { id, job, opened });
            }
            Way::Ring(ring) => {
                ring.start(id, job);
                self.told = true;
            }
        }
    }

    /// A job that was done.
    pub(super) fn finished(&mut self) -> Option<Completed> {
        if !self.told {
            return None; // looking takes a lock, and this is asked every turn
        }
        let completed = match &mut self.way {
            Way::Inline(done) => done.pop_front(),
            Way::Threads(threads) => threads.finished(),
            Way::Ring(ring) => ring.finished(),
        };
        self.told = completed.is_some();
        completed
    }

    /// For how long the poll may wait, as far as the engine knows.
    pub(super) fn patience(&mut self, timeout: Option<Duration>) -> Option<Duration> {
        match &self.way {
            Way::Ring(ring) if ring.is_held_up() => {
                self.told = true;
                Some(timeout.map_or(RETRY_PAUSE, |timeout| timeout.min(RETRY_PAUSE)))
            }
            _ => timeout,
        }
    }
}

/// Until jobs are handed over again that the kernel did not take for want of memory.
const RETRY_PAUSE: Duration = Duration::from_millis(10);

fn refused(error: &io::Error) -> io::Error {
    let text = format!("disk engine \"io_uring\": the kernel refuses it: {error}");
    io::Error::new(error.kind(), text)
}

#[cfg(test)]
mod tests;
