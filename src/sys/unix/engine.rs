//! How jobs are done: by helper threads, each of which takes one job by value, makes its call, and
//! hands it back with the result. The loop's thread stays the only one that knows anything of
//! sessions, buffers or time; what crosses is a [`Job`], and a byte in an eventfd that ends the
//! poll.
//!
//! ```text
//! start ──▶ queue ──▶ a helper: the call ──▶ done ──▶ the poll wakes ──▶ finished
//! ```
//!
//! Helpers are started as they are needed, and stay. [`DiskEngine::Inline`] has none: the call is
//! made at once, by the loop, which waits for it.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use mio::{Poll, Token, Waker};

use super::Files;
use crate::jobs::{Done, Job, JobId};
use crate::limits::DiskEngine;

/// A job that was done, and what it came to.
pub(super) type Completed = (JobId, Job, io::Result<Done>);

/// The engine of one poll.
pub(super) struct Engine {
    way: Way,
    /// The poll told that something was done, and not all of it was taken yet.
    pub(super) told: bool,
}

enum Way {
    Inline(VecDeque<Completed>),
    Threads {
        shared: Arc<Shared>,
        started: usize,
        started_max: usize,
    },
}

/// What the loop and its helpers share.
struct Shared {
    todo: Mutex<Todo>,
    wanted: Condvar,
    done: Mutex<VecDeque<Completed>>,
    waker: Waker,
}

#[derive(Default)]
struct Todo {
    jobs: VecDeque<(JobId, Job)>,
    /// Helpers that wait for one.
    idle: usize,
    /// The loop has ended.
    closed: bool,
}

impl Engine {
    /// An engine whose completions are told by `poll` under `token`.
    ///
    /// # Errors
    /// Those of `eventfd(2)`.
    pub(super) fn new(
        kind: DiskEngine,
        threads: usize,
        poll: &Poll,
        token: Token,
    ) -> io::Result<Self> {
        let way = match kind {
            DiskEngine::Inline => Way::Inline(VecDeque::new()),
            DiskEngine::Threads => Way::Threads {
                shared: Arc::new(Shared {
                    todo: Mutex::default(),
                    wanted: Condvar::new(),
                    done: Mutex::default(),
                    waker: Waker::new(poll.registry(), token)?,
                }),
                started: 0,
                started_max: threads,
            },
        };
        Ok(Self { way, told: false })
    }

    /// Begins a job.
    pub(super) fn start(&mut self, id: JobId, mut job: Job) {
        match &mut self.way {
            Way::Inline(done) => {
                let result = job.perform(&mut Files::default());
                done.push_back((id, job, result));
                self.told = true;
            }
            Way::Threads {
                shared,
                started,
                started_max,
            } => {
                let mut todo = lock(&shared.todo);
                todo.jobs.push_back((id, job));
                let is_short = todo.jobs.len() > todo.idle;
                drop(todo);
                if is_short && *started < *started_max && help(shared) {
                    *started += 1;
                }
                shared.wanted.notify_one();
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
            Way::Threads { shared, .. } => lock(&shared.done).pop_front(),
        };
        self.told = completed.is_some();
        completed
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if let Way::Threads { shared, .. } = &self.way {
            lock(&shared.todo).closed = true;
            // They are not waited for: one of them may wait for a disk that never answers.
            shared.wanted.notify_all();
        }
    }
}

/// Starts a helper; whether that worked.
fn help(shared: &Arc<Shared>) -> bool {
    let shared = Arc::clone(shared);
    let helper = thread::Builder::new().name("disk".to_owned());
    match helper.spawn(move || work(&shared)) {
        Ok(_) => true,
        Err(error) => {
            // Those that run do the work, if there are any.
            log::error!("a helper thread for the disk cannot be started: {error}");
            false
        }
    }
}

/// What a helper does until the loop has ended.
fn work(shared: &Shared) {
    let mut todo = lock(&shared.todo);
    loop {
        if let Some((id, mut job)) = todo.jobs.pop_front() {
            drop(todo);
            let result = job.perform(&mut Files::default());
            let mut done = lock(&shared.done);
            let is_first = done.is_empty();
            done.push_back((id, job, result));
            drop(done);
            // The loop takes all that is there once it was told.
            if is_first && let Err(error) = shared.waker.wake() {
                log::error!("the loop cannot be told that a job is done: {error}");
            }
            todo = lock(&shared.todo);
        } else if todo.closed {
            return;
        } else {
            todo.idle += 1;
            todo = shared
                .wanted
                .wait(todo)
                .unwrap_or_else(PoisonError::into_inner);
            todo.idle -= 1;
        }
    }
}

/// What a panic in a helper leaves behind is whole: no lock is held while a job is done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
