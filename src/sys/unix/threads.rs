//! Helper threads: each takes one job by value, makes its call, and hands it back with the result.
//!
//! ```text
//! start ──▶ queue ──▶ a helper: the call ──▶ done ──▶ the poll wakes ──▶ finished
//! ```
//!
//! The loop's thread stays the only one that knows anything of sessions, buffers or time; what
//! crosses is a [`Job`], and a byte in an eventfd that ends the poll. Helpers are started as they
//! are needed, and stay.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

use mio::{Poll, Token, Waker};

use super::Files;
use super::files::opened_for;
use crate::jobs::{Done, Job, JobId};

/// A job that was done, and what it came to.
pub(super) type Completed = (JobId, Job, io::Result<Done>);

/// The helpers of one poll.
pub(super) struct Threads {
    shared: Arc<Shared>,
    started: usize,
    started_max: usize,
}

/// A job for a helper.
pub(super) struct Task {
    pub(super) id: JobId,
    pub(super) job: Job,
    /// What was opened for it already: all that is left is to look what that is.
    pub(super) opened: Option<OwnedFd>,
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
    tasks: VecDeque<Task>,
    /// Helpers that wait for one.
    idle: usize,
    /// The loop has ended.
    closed: bool,
}

impl Threads {
    /// At most so many helpers, whose completions are told by `poll` under `token`.
    ///
    /// # Errors
    /// Those of `eventfd(2)`.
    pub(super) fn new(started_max: usize, poll: &Poll, token: Token) -> io::Result<Self> {
        let shared = Shared {
            todo: Mutex::default(),
            wanted: Condvar::new(),
            done: Mutex::default(),
            waker: Waker::new(poll.registry(), token)?,
        };
        Ok(Self {
            shared: Arc::new(shared),
            started: 0,
            started_max,
        })
    }

    /// Begins a job.
    pub(super) fn start(&mut self, task: Task) {
        let mut todo = lock(&self.shared.todo);
        todo.tasks.push_back(task);
        let is_short = todo.tasks.len() > todo.idle;
        drop(todo);
        if is_short && self.started < self.started_max && help(&self.shared) {
            self.started += 1;
        }
        self.shared.wanted.notify_one();
    }

    /// A job that was done. Looking takes a lock.
    pub(super) fn finished(&mut self) -> Option<Completed> {
        lock(&self.shared.done).pop_front()
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        lock(&self.shared.todo).closed = true;
        // They are not waited for: one of them may wait for a disk that never answers.
        self.shared.wanted.notify_all();
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
        if let Some(task) = todo.tasks.pop_front() {
            drop(todo);
            let completed = task.perform();
            let mut done = lock(&shared.done);
            let is_first = done.is_empty();
            done.push_back(completed);
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

impl Task {
    fn perform(mut self) -> Completed {
        let result = match self.opened {
            Some(fd) => opened_for(&self.job, fd),
            None => self.job.perform(&mut Files::default()),
        };
        (self.id, self.job, result)
    }
}

/// What a panic in a helper leaves behind is whole: no lock is held while a job is done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
