//! What may wait for a disk, as jobs: asked for until the answer is there.
//!
//! ```text
//! asked ──▶ Waiting ──its disk has room──▶ Started ──the disk answered──▶ Done ──taken, or nobody wants it──▶ gone
//! ```
//!
//! The loop waits for no disk: what cannot be answered from memory is described by a value, carried
//! to the engine by the reactor (`reactor::disk`), and told back as a fact. This machine is pure:
//! it makes no call, and knows those who wait as ids only.
//!
//! The rules:
//! 1. A [`Query`] changes nothing. Equal queries that are under way are one job, whoever asks, and
//!    an asker who comes again ([`Jobs::ask`]) gets the same answer until it is
//!    [settled](Jobs::settle): so a protocol that decides by several answers asks for all of them
//!    anew each time it is called, from the first on, and reads like one that never waits. A
//!    [`Query::Sync`] is shared only until it starts: what is changed later needs another one.
//! 2. A [`Command`] has one asker, who holds a [`Ticket`] for it and [takes](Jobs::take) its result
//!    once.
//! 3. At most [`DiskLimits::jobs_max`] jobs are started at once, and at most
//!    [`DiskLimits::jobs_per_disk_max`] of one disk, so that a dead one does not use up all; the
//!    disks take turns, and so do those who wait for the same one, whoever asks for much. At most [`DiskLimits::waiting_per_disk_max`] wait for each; what is asked
//!    beyond that fails at once with [`io::ErrorKind::ResourceBusy`].
//! 4. A job whose askers have all gone is dropped if it has not started. If it has, it runs to its
//!    end, and what it made is undone: a new file is removed.
//! 5. Memory that a job reads to or writes from belongs to the job, and comes back with the result;
//!    a pipe goes back to the reactor ([`Jobs::poll_pipe`]).
//!
//! Deliberately not here: what is answered at once, without a job ([`crate::disk::Disk`]), and how
//! long somebody waits: that is the deadline of their state.

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::io;
use std::num::NonZeroU32;
use std::task::Poll;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::buffer::PageSlice;
use crate::disk::DiskId;
use crate::limits::DiskLimits;
use crate::pipe::Piped;
use crate::shares::InTurn;
pub use asking::Asking;
use job::Lent;
pub use job::{Command, Done, Job, Kind, Query, ends_within_a_line, wrong};
pub use partial::TakenFile;
pub use store::{Care, NewContents, NewFile, Stored, Taken, is_taken};

mod asking;
mod job;
mod partial;
pub mod pending;
mod store;

/// What was counted of the jobs of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Jobs that came to their end.
    pub finished: u64,
    /// Of those, how many failed.
    pub failed: u64,
    /// Jobs that were not taken, because too many waited for their disk.
    pub refused: u64,
    /// The time that they waited before they were started, in all.
    pub waited: Duration,
    /// The time from their start to their end, in all.
    pub took: Duration,
}

/// Names a job to the engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct JobId(pub u64);

/// A claim to the result of one job.
#[derive(Debug, PartialEq, Eq)]
pub struct Ticket(NonZeroU32);

impl Ticket {
    /// The place of the claim.
    fn claim(&self) -> usize {
        self.0.get() as usize - 1
    }
}

/// What a job came to, and the memory that it owned.
#[derive(Debug)]
pub struct Finished {
    /// What it came to.
    pub result: io::Result<Done>,
    /// The page that it was given.
    pub page: Option<PageSlice>,
}

/// One asker's claim.
struct Claim<W> {
    entry: usize,
    waiter: W,
    /// It was made by [`Jobs::ask`], which gives the same answer again.
    repeats: bool,
}

/// A job and how far it is.
struct Entry<W> {
    id: JobId,
    disk: DiskId,
    kind: Kind,
    /// In whose line it waits.
    line: Line<W>,
    /// Claims to it.
    claims: Vec<usize>,
    /// What finds it for others, while it can be shared.
    query: Option<Query>,
    since: Instant,
    stage: Stage,
}

enum Stage {
    Waiting(Job),
    Started,
    Done(Finished),
}

/// Who asked for a job first, `None` for one that is left to the disk, and whether it changes
/// something: what a service writes does not wait behind what it reads for many.
type Line<W> = (Option<W>, bool);

/// The jobs of one disk.
struct Queue<W> {
    started: usize,
    /// Their entries, a line for each who asked.
    waiting: InTurn<usize, Line<W>>,
    waiting_count: usize,
    /// It stands in the round of disks whose jobs may start.
    listed: bool,
}

impl<W> Default for Queue<W> {
    fn default() -> Self {
        Self {
            started: 0,
            waiting: InTurn::default(),
            waiting_count: 0,
            listed: false,
        }
    }
}

/// All jobs; `W` names those who wait.
pub struct Jobs<W> {
    limits: DiskLimits,
    entries: Slab<Entry<W>>,
    claims: Slab<Claim<W>>,
    shared: HashMap<Query, usize>,
    /// Everybody's claims.
    claimed: HashMap<W, Vec<usize>>,
    by_id: HashMap<JobId, usize>,
    queues: HashMap<DiskId, Queue<W>>,
    /// Disks with a job that may start, the next one first.
    round: VecDeque<DiskId>,
    started: usize,
    last_id: u64,
    woken: Vec<W>,
    pages: Vec<PageSlice>,
    pipes: Vec<Piped>,
    counts: [Counts; Kind::ALL.len()],
}

impl<W: Copy + Ord + Hash> Jobs<W> {
    /// No jobs.
    pub fn new(limits: DiskLimits) -> Self {
        Self {
            limits,
            entries: Slab::new(),
            claims: Slab::new(),
            shared: HashMap::new(),
            claimed: HashMap::new(),
            by_id: HashMap::new(),
            queues: HashMap::new(),
            round: VecDeque::new(),
            started: 0,
            last_id: 0,
            woken: Vec::new(),
            pages: Vec::new(),
            pipes: Vec::new(),
            counts: [Counts::default(); Kind::ALL.len()],
        }
    }

    /// Other limits, for what is started from now on.
    pub fn set_limits(&mut self, limits: DiskLimits) {
        self.limits = limits;
    }

    /// The answer to a query, which stays until `waiter` is [settled](Jobs::settle); while there is
    /// none, `waiter` is woken once there is.
    pub fn ask(&mut self, waiter: W, query: Query, now: Instant) -> Poll<io::Result<Done>> {
        if let Some(answer) = self.answer(waiter, |known| *known == query) {
            return answer;
        }
        match self.begin(waiter, query.into(), true, now) {
            Ok(_) => Poll::Pending,
            Err(refused) => Poll::Ready(refused.result),
        }
    }

    /// The answer to a query that `waiter` asked already; `None` if it did not.
    #[inline]
    pub fn answer(
        &self,
        waiter: W,
        is_it: impl Fn(&Query) -> bool,
    ) -> Option<Poll<io::Result<Done>>> {
        if self.claimed.is_empty() {
            return None;
        }
        let claims = self.claimed.get(&waiter)?.iter();
        let claims = claims.map(|&claim| &self.claims[claim]);
        let asked = claims.filter(|claim| claim.repeats);
        let entry = asked
            .map(|claim| &self.entries[claim.entry])
            .find(|entry| entry.query.as_ref().is_some_and(&is_it))?;
        Some(match &entry.stage {
            Stage::Done(finished) => Poll::Ready(copy(&finished.result)),
            Stage::Waiting(_) | Stage::Started => Poll::Pending,
        })
    }

    /// Asks for a job whose result is taken once. `waiter` is woken when it is there.
    ///
    /// # Errors
    /// Too many jobs wait for this disk: what was asked for comes back, refused.
    pub fn start(
        &mut self,
        waiter: W,
        job: impl Into<Job>,
        now: Instant,
    ) -> Result<Ticket, Box<Finished>> {
        let claim = self.begin(waiter, job.into(), false, now)?;
        // Invariant: far fewer claims than 2^32 fit into memory, and the number is not zero.
        let number = u32::try_from(claim + 1).ok().and_then(NonZeroU32::new);
        Ok(Ticket(number.expect("a number of a claim")))
    }

    /// Asks for a job whose result nobody needs.
    ///
    /// # Errors
    /// As those of [`Jobs::start`].
    pub fn leave(&mut self, job: impl Into<Job>, now: Instant) -> Result<(), Box<Finished>> {
        self.enqueue(None, job.into(), now).map(|_| ())
    }

    /// Another one waits for this job from now on, and is woken when it is done.
    pub fn hand_over(&mut self, ticket: &Ticket, to: W) {
        let from = std::mem::replace(&mut self.claims[ticket.claim()].waiter, to);
        self.unlist(from, ticket.claim());
        self.claimed.entry(to).or_default().push(ticket.claim());
    }

    /// Whether the result of a job is there.
    pub fn is_done(&self, ticket: &Ticket) -> bool {
        let entry = self.claims[ticket.claim()].entry;
        matches!(self.entries[entry].stage, Stage::Done(_))
    }

    /// The result of a job, once it is there.
    pub fn take(&mut self, ticket: &Ticket) -> Poll<Finished> {
        let claim = ticket.claim();
        let entry = self.claims[claim].entry;
        let Stage::Done(finished) = &mut self.entries[entry].stage else {
            return Poll::Pending;
        };
        let result = copy(&finished.result);
        let page = finished.page.take();
        self.give_up(claim);
        Poll::Ready(Finished { result, page })
    }

    /// Nobody wants the result of a job any more.
    #[allow(clippy::needless_pass_by_value)] // by value, so that it is not cancelled twice
    pub fn cancel(&mut self, ticket: Ticket) {
        self.give_up(ticket.claim());
    }

    /// `waiter` needs no answer to what it asked any more: its request is over.
    #[inline]
    pub fn settle(&mut self, waiter: W) {
        if self.claimed.is_empty() {
            return;
        }
        self.drop_claims(waiter, |claim| claim.repeats);
    }

    /// `waiter` waits for nothing any more: it is gone.
    pub fn forget(&mut self, waiter: W) {
        if self.claimed.is_empty() {
            return;
        }
        self.drop_claims(waiter, |_| true);
    }

    /// The next job to be carried to the engine.
    pub fn poll_start(&mut self, now: Instant) -> Option<(JobId, Job)> {
        while self.started < self.limits.jobs_max {
            let disk = self.round.pop_front()?;
            let Some(queue) = self.queues.get_mut(&disk) else {
                continue;
            };
            queue.listed = false;
            if queue.started >= self.limits.jobs_per_disk_max {
                continue; // it is listed again when one of its jobs has come to its end
            }
            let Some((_, key)) = queue.waiting.pop() else {
                continue;
            };
            queue.waiting_count -= 1;
            queue.started += 1;
            self.started += 1;
            self.list(disk);
            let entry = &mut self.entries[key];
            let waited = now.saturating_duration_since(entry.since);
            self.counts[entry.kind as usize].waited += waited;
            entry.since = now;
            if let Some(sync @ (Query::Sync { .. } | Query::SyncNames { .. })) = &entry.query {
                self.shared.remove(sync);
            }
            if let Stage::Waiting(job) = std::mem::replace(&mut entry.stage, Stage::Started) {
                return Some((entry.id, job));
            }
            debug_assert!(false, "a job in a queue was not waiting");
        }
        None
    }

    /// The engine has done a job; it comes back with what it owned.
    pub fn finished(&mut self, id: JobId, job: Job, result: io::Result<Done>, now: Instant) {
        let Some(&key) = self.by_id.get(&id) else {
            debug_assert!(false, "a job that nobody started");
            return;
        };
        let entry = &mut self.entries[key];
        let counts = &mut self.counts[entry.kind as usize];
        counts.finished += 1;
        counts.failed += u64::from(result.is_err());
        counts.took += now.saturating_duration_since(entry.since);
        let disk = entry.disk;
        self.started -= 1;
        if let Some(queue) = self.queues.get_mut(&disk) {
            queue.started -= 1;
            if queue.started == 0 && queue.waiting.is_empty() {
                self.queues.remove(&disk);
            }
        }
        self.list(disk);
        if self.entries[key].claims.is_empty() {
            self.undo(&job, &result, now);
            let page = self.take_back(job);
            self.pages.extend(page);
            self.remove(key);
            return;
        }
        let page = self.take_back(job);
        let entry = &mut self.entries[key];
        if let Some(query) = &entry.query
            && self.shared.get(query) == Some(&key)
        {
            self.shared.remove(query);
        }
        entry.stage = Stage::Done(Finished { result, page });
        let waiters = entry.claims.iter().map(|&claim| self.claims[claim].waiter);
        self.woken.extend(waiters);
    }

    /// Somebody whose job was done.
    pub fn poll_woken(&mut self) -> Option<W> {
        self.woken.pop()
    }

    /// A page that a job gave back after its asker had gone.
    pub fn poll_page(&mut self) -> Option<PageSlice> {
        self.pages.pop()
    }

    /// A pipe that a job was given, and what the job left in it.
    pub fn poll_pipe(&mut self) -> Option<Piped> {
        self.pipes.pop()
    }

    /// Jobs that wait to be started, and jobs that are started.
    pub fn under_way(&self) -> (usize, usize) {
        let waiting = self.queues.values().map(|queue| queue.waiting_count).sum();
        (waiting, self.started)
    }

    /// Whether nobody waits, and nothing is under way.
    pub fn is_idle(&self) -> bool {
        self.entries.is_empty()
    }

    /// Everybody who has a claim to a job.
    pub fn waiters(&self) -> impl Iterator<Item = W> {
        self.claimed.keys().copied()
    }

    /// Whether anything is being changed, or is to be.
    pub fn has_commands(&self) -> bool {
        let mut entries = self.entries.iter();
        entries.any(|(_, entry)| entry.query.is_none() && !matches!(entry.stage, Stage::Done(_)))
    }

    /// Whether a job may start now.
    pub fn has_work(&self) -> bool {
        !self.round.is_empty() && self.started < self.limits.jobs_max
    }

    /// What was counted of the jobs of this kind.
    pub fn counts(&self, kind: Kind) -> Counts {
        self.counts[kind as usize]
    }

    /// Makes a claim to a job: to one under way, if it is a query that others have asked.
    fn begin(
        &mut self,
        waiter: W,
        job: Job,
        repeats: bool,
        now: Instant,
    ) -> Result<usize, Box<Finished>> {
        let known = match &job {
            Job::Query(query) => self.shared.get(query).copied(),
            Job::Command(_) => None,
        };
        let key = match known {
            Some(key) => key,
            None => self.enqueue(Some(waiter), job, now)?,
        };
        let claim = self.claims.insert(Claim {
            entry: key,
            waiter,
            repeats,
        });
        self.entries[key].claims.push(claim);
        self.claimed.entry(waiter).or_default().push(claim);
        Ok(claim)
    }

    fn enqueue(
        &mut self,
        waiter: Option<W>,
        job: Job,
        now: Instant,
    ) -> Result<usize, Box<Finished>> {
        let (disk, kind) = (job.disk(), job.kind());
        let queue = self.queues.entry(disk).or_default();
        if queue.waiting_count >= self.limits.waiting_per_disk_max {
            self.counts[kind as usize].refused += 1;
            let result = Err(io::ErrorKind::ResourceBusy.into());
            let page = self.take_back(job);
            return Err(Box::new(Finished { result, page }));
        }
        self.last_id += 1;
        let id = JobId(self.last_id);
        let query = match &job {
            Job::Query(query) => Some(query.clone()),
            Job::Command(_) => None,
        };
        let line = (waiter, query.is_none());
        let key = self.entries.insert(Entry {
            id,
            disk,
            kind,
            line,
            claims: Vec::new(),
            query: query.clone(),
            since: now,
            stage: Stage::Waiting(job),
        });
        if let Some(query) = query {
            self.shared.insert(query, key);
        }
        self.by_id.insert(id, key);
        queue.waiting.push(line, key);
        queue.waiting_count += 1;
        self.list(disk);
        Ok(key)
    }

    /// Puts a disk into the round, if one of its jobs may start.
    fn list(&mut self, disk: DiskId) {
        if let Some(queue) = self.queues.get_mut(&disk)
            && !queue.listed
            && !queue.waiting.is_empty()
            && queue.started < self.limits.jobs_per_disk_max
        {
            queue.listed = true;
            self.round.push_back(disk);
        }
    }

    fn drop_claims(&mut self, waiter: W, which: impl Fn(&Claim<W>) -> bool) {
        let Some(mut claims) = self.claimed.remove(&waiter) else {
            return;
        };
        let claimed = &self.claims;
        let dropped: Vec<usize> = claims
            .extract_if(.., |claim| which(&claimed[*claim]))
            .collect();
        if !claims.is_empty() {
            self.claimed.insert(waiter, claims);
        }
        for claim in dropped {
            self.unclaim(claim);
        }
    }

    /// One claim less of its waiter.
    fn give_up(&mut self, claim: usize) {
        self.unlist(self.claims[claim].waiter, claim);
        self.unclaim(claim);
    }

    fn unlist(&mut self, waiter: W, claim: usize) {
        if let Some(claims) = self.claimed.get_mut(&waiter) {
            claims.retain(|known| *known != claim);
            if claims.is_empty() {
                self.claimed.remove(&waiter);
            }
        }
    }

    /// One claim less; with the last, the job is of no use to anybody.
    fn unclaim(&mut self, claim: usize) {
        let key = self.claims.remove(claim).entry;
        let entry = &mut self.entries[key];
        entry.claims.retain(|known| *known != claim);
        if !entry.claims.is_empty() || matches!(entry.stage, Stage::Started) {
            return;
        }
        let (disk, line) = (entry.disk, entry.line);
        if let Stage::Waiting(_) = entry.stage
            && let Some(queue) = self.queues.get_mut(&disk)
        {
            queue.waiting.retain_of(line, |known| *known != key);
            queue.waiting_count -= 1;
            if queue.started == 0 && queue.waiting.is_empty() {
                self.queues.remove(&disk);
            }
        }
        match self.remove(key).stage {
            Stage::Waiting(job) => {
                let page = self.take_back(job);
                self.pages.extend(page);
            }
            Stage::Done(finished) => self.pages.extend(finished.page),
            Stage::Started => {}
        }
    }

    /// What a job was lent goes back: its page to the caller.
    fn take_back(&mut self, job: Job) -> Option<PageSlice> {
        match job.into_lent()? {
            Lent::Page(page) => Some(page),
            Lent::Pipe(piped) => {
                self.pipes.push(piped);
                None
            }
        }
    }

    fn remove(&mut self, key: usize) -> Entry<W> {
        let entry = self.entries.remove(key);
        self.by_id.remove(&entry.id);
        if let Some(query) = &entry.query
            && self.shared.get(query) == Some(&key)
        {
            self.shared.remove(query);
        }
        entry
    }

    /// Undoes what was done for nobody: a file that was made is removed, and room that was reserved
    /// is given back.
    fn undo(&mut self, job: &Job, result: &io::Result<Done>, now: Instant) {
        let (Job::Command(command), Ok(done)) = (job, result) else {
            return;
        };
        let undo = match (command, done) {
            (Command::Create { root, path }, _) => Command::Remove {
                root: root.clone(),
                path: path.clone(),
            },
            (Command::Take { stays: true, .. }, Done::Taken(taken)) => Command::Leave {
                file: Some(taken.file.clone()),
            },
            (Command::Take { root, path, .. }, Done::Taken(taken)) => Command::Discard {
                root: root.clone(),
                path: path.clone(),
                file: Some(taken.file.clone()),
            },
            _ => return,
        };
        // Where too many wait, it stays behind, and the next start removes it.
        let _ = self.enqueue(None, undo.into(), now);
    }
}

/// A result for one more asker.
fn copy(result: &io::Result<Done>) -> io::Result<Done> {
    match result {
        Ok(done) => Ok(done.clone()),
        Err(error) => Err(copied(error)),
    }
}

/// An error for one more who is told.
pub fn copied(error: &io::Error) -> io::Error {
    match error.raw_os_error() {
        Some(code) => io::Error::from_raw_os_error(code),
        None => error.kind().into(),
    }
}

#[cfg(test)]
mod tests;
