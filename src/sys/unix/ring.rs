//! Jobs done by io_uring (`man 7 io_uring`): the kernel is told of operations through a ring of
//! memory that it shares with us, works through them on threads of its own, and answers in another
//! ring, whose descriptor the poll watches.
//!
//! ```text
//! start ──▶ waiting ──a place is free──▶ with the kernel ──its answer──▶ done ──▶ finished
//!              ▲                                            │
//!              └──────────────── another step ──────────────┤
//!                                                           └── no operation for it ──▶ helpers
//! ```
//!
//! The rules:
//! 1. A [`Flight`] is a job with all memory that the kernel may touch for it. While the kernel has
//!    it, nobody else does: the one pointer to it travels in the ring and comes back with the
//!    answer. What is never answered, as when the program ends, is never freed.
//! 2. Operations are handed over in [`Ring::finished`], by one call for all that were begun since.
//! 3. Each is marked to be done by the kernel's workers (`IOSQE_ASYNC`). Without that the kernel
//!    first tries it on the thread that hands it over, and "without waiting" is not kept there: an
//!    `openat2` of a name in memory asks the server of a FUSE file system, and a read from a disk
//!    may have to wait for a place in the queue of its device.
//! 4. What the kernel has no operation for (names, free space, versions, logs) goes to helper
//!    threads; so does a file on another file system than its root, of which `fstatfs` must tell.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsRawFd;
use std::ptr;

use io_uring::{IoUring, Probe, opcode};
use mio::unix::SourceFd;
use mio::{Interest, Poll, Token};

use super::flight::{Flight, Next};
use super::threads::{Completed, Threads};
use crate::jobs::{Job, JobId};

/// Operations that the rings hold at least.
const ENTRIES_MIN: u32 = 64;
/// What the kernel must be able to do.
const OPERATIONS: [u8; 8] = [
    opcode::OpenAt2::CODE,
    opcode::Statx::CODE,
    opcode::Read::CODE,
    opcode::Write::CODE,
    opcode::Splice::CODE,
    opcode::Fsync::CODE,
    opcode::RenameAt::CODE,
    opcode::UnlinkAt::CODE,
];

/// The rings, and the jobs that are on their way through them.
pub(super) struct Ring {
    ring: IoUring,
    /// Jobs that the kernel has, and how many it may have: so many answers it has room for.
    flying: usize,
    flying_max: usize,
    /// The kernel has not taken all that was put into its queue.
    held_up: bool,
    waiting: VecDeque<Box<Flight>>,
    done: VecDeque<Completed>,
    helpers: Threads,
}

/// Rings whose answers are told by `poll` under `token`. `workers_max`: how many operations the
/// kernel may do at once.
///
/// # Errors
/// Those of `io_uring_setup(2)`; this kernel lacks one of the operations.
pub(super) fn open(workers_max: usize, poll: &Poll, token: Token) -> io::Result<IoUring> {
    let workers = u32::try_from(workers_max).unwrap_or(u32::MAX);
    let entries = workers.clamp(ENTRIES_MIN, 1 << 12).next_power_of_two();
    let mut ring = IoUring::new(entries)?;
    let mut probe = Probe::new();
    ring.submitter().register_probe(&mut probe)?;
    if let Some(code) = OPERATIONS.iter().find(|code| !probe.is_supported(**code)) {
        let text = format!("it lacks operation {code}");
        return Err(io::Error::new(io::ErrorKind::Unsupported, text));
    }
    try_out(&mut ring)?;
    // For files, and for the rest; an older kernel has bounds of its own.
    let bounds = &mut [workers, workers];
    let _ = ring.submitter().register_iowq_max_workers(bounds);
    let mut descriptor = SourceFd(&ring.as_raw_fd());
    poll.registry()
        .register(&mut descriptor, token, Interest::READABLE)?;
    Ok(ring)
}

impl Ring {
    /// Rings that were just opened, and helpers for what they cannot do.
    pub(super) fn new(ring: IoUring, helpers: Threads) -> Self {
        Self {
            flying_max: ring.params().sq_entries() as usize,
            ring,
            flying: 0,
            held_up: false,
            waiting: VecDeque::new(),
            done: VecDeque::new(),
            helpers,
        }
    }

    /// Begins a job; it is handed over by [`Ring::finished`].
    pub(super) fn start(&mut self, id: JobId, job: Job) {
        self.go_on(Flight::plan(id, job));
    }

    /// A job that was done. Hands over what is to be.
    pub(super) fn finished(&mut self) -> Option<Completed> {
        loop {
            if let Some(completed) = self.done.pop_front() {
                return Some(completed);
            }
            self.hand_over();
            if !self.take_answers() {
                return self.helpers.finished();
            }
        }
    }

    /// Whether the kernel has not taken what was to be handed over.
    pub(super) fn is_held_up(&self) -> bool {
        self.held_up
    }

    fn go_on(&mut self, next: Next) {
        match next {
            Next::Fly(flight) => self.waiting.push_back(flight),
            Next::Done(completed) => self.done.push_back(completed),
            Next::Help(task) => self.helpers.start(task),
        }
    }

    #[allow(unsafe_code)]
    fn hand_over(&mut self) {
        while self.flying < self.flying_max
            && let Some(flight) = self.waiting.pop_front()
        {
            let flight = Box::into_raw(flight);
            // SAFETY: it was a box just now, and nothing else refers to it.
            let entry = unsafe { &mut *flight }.entry();
            let entry = entry.user_data(flight.expose_provenance() as u64);
            // SAFETY: whatever `entry` points to is owned by the flight, or by the files of its
            // job. Nobody touches the flight until the kernel has answered, when `take_answers`
            // makes a box of it again; if it never answers, it is never freed.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            // Invariant: the queue has as many places as the kernel may have jobs.
            pushed.expect("a place in the queue");
            self.flying += 1;
        }
        self.held_up = false;
        while !self.held_up && !self.ring.submission().is_empty() {
            match self.ring.submit() {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(1..) => {}
                // It has no memory for them now, and is asked again by and by.
                Ok(0) | Err(_) => self.held_up = true,
            }
        }
    }

    /// Takes the kernel's answers; whether there were any.
    #[allow(unsafe_code)]
    fn take_answers(&mut self) -> bool {
        let mut any = false;
        loop {
            let Some(answer) = self.ring.completion().next() else {
                return any;
            };
            let flight = ptr::with_exposed_provenance_mut(answer.user_data() as usize);
            // SAFETY: `hand_over` made this pointer of a box and gave it to the kernel, which
            // answers each operation once (none of ours is of those that answer more often) and
            // does not touch its memory after that.
            let flight: Box<Flight> = unsafe { Box::from_raw(flight) };
            self.flying -= 1;
            any = true;
            self.go_on(flight.land(answer.result()));
        }
    }
}

/// Whether the kernel takes operations: a sandbox may allow the set-up alone.
#[allow(unsafe_code)]
fn try_out(ring: &mut IoUring) -> io::Result<()> {
    // SAFETY: this operation has no memory.
    let pushed = unsafe { ring.submission().push(&opcode::Nop::new().build()) };
    // Invariant: the queue is new.
    pushed.expect("a place in the queue");
    ring.submit_and_wait(1)?;
    ring.completion().next();
    Ok(())
}
