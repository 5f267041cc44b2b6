//! Compressed forms of contents: each made once, a piece in each turn, and kept in memory.
//!
//! ```text
//!          ask              last piece
//! Unasked ────▶ in the line ──────────▶ Made ──evicted, its version discarded──▶ Unasked
//!                    │
//!                    ├──hardly smaller────▶ Worthless
//!                    └──could not be made──▶ Unasked
//! ```
//!
//! The rules:
//! 1. Compression of all contents together takes [`TURN_BYTES`] of work in a turn, counted in bytes
//!    and first come, first served: 0.1 to 0.4 milliseconds for what people write, and about one
//!    for the hardest input. Bytes are counted and not time, so a run can be repeated.
//! 2. The line is bounded by [`LINE_BYTES_MAX`]. What would make it longer is not begun: whoever
//!    asks for it sends the content as it is, and the next who asks may begin it.
//! 3. Those who ask for a form that is in the line wait and are woken: a link that is slow enough
//!    for compression to matter makes up for that wait many times over. A content that is longer
//!    than the line may be is waited for by nobody, and its form is there for those who come later.
//! 4. What cannot be read from memory is read by a job. Meanwhile those behind it in the line are
//!    at work, [`AT_WORK_MAX`] together; one whose disk does not answer leaves the line.
//! 5. Forms are bounded together with those that are kept no more and still being sent. CLOCK
//!    decides which goes, as in [`super::files`].
//! 6. A form belongs to one version of one content, whose owner holds the [`Form`] and discards it
//!    with the version. What is asked for by an old one is not there.
//!
//! Not here: which contents are compressed, for whom, and how a coding is written
//! ([`crate::http::compress`]).

use std::collections::VecDeque;
use std::hash::Hash;
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::Duration;

use slab::Slab;

use crate::http::negotiate::Coding;
use crate::jobs::pending::Asker;
pub use job::Source;
use job::{Input, Job};

/// The bytes that are compressed at a time; see [`Encoder::push`](crate::http::compress::Encoder::push).
const PIECE_BYTES: usize = 16 * 1024;
/// What the beginning of a form costs: about as much as so many bytes, for the tables of its
/// encoder.
const BEGINNING_BYTES: usize = 4 * 1024;
/// Work in one turn.
const TURN_BYTES: usize = BEGINNING_BYTES + PIECE_BYTES;
/// Work that is waited for: some hundred turns, or thirty milliseconds.
const LINE_BYTES_MAX: u64 = 2 << 20;
/// How many wait for one form; more get the content as it is.
const WAITERS_MAX: usize = 1024;
/// Contents at work at once: the first is, and those behind it while it waits for its disk.
const AT_WORK_MAX: usize = 8;
/// Bytes that are read by one job, where the disk has to be waited for.
const JOB_BYTES: usize = 256 * 1024;
/// How long a content waits for an answer of its disk. Those who wait for the form get the content
/// as it is by then, and its place is for others, who may have a disk that answers.
const DISK_WAIT_MAX: Duration = Duration::from_secs(2);
/// What a form takes in memory besides its bytes, about.
const ENTRY_BYTES: usize = 128;

/// What the owner of a version knows of its form in one coding.
#[derive(Debug, Default)]
pub enum Form {
    /// Nothing, or that it was not made.
    #[default]
    Unasked,
    /// It was begun, and may have been evicted since.
    Asked(FormId),
    /// It is hardly smaller than the content, or larger than all that may be kept.
    Worthless,
}

/// Which form: a place that is used again, and the number that tells one user from the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormId {
    slot: usize,
    generation: u64,
}

/// An answer to [`Compressed::ask`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The form.
    Made(Rc<[u8]>),
    /// It is being made: whoever asked is woken, and asks again.
    Later,
    /// There is none for this request.
    Plain,
}

/// What happened so far; every number only grows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Forms made.
    pub made: u64,
    /// Forms that were not worth keeping.
    pub worthless: u64,
    /// How often a form was asked for and not begun for want of room.
    pub refused: u64,
    /// Forms begun that came to nothing: the content changed or could not be read, its version was
    /// discarded, or there was no room.
    pub lost: u64,
    /// Forms thrown out for want of room.
    pub evicted: u64,
}

struct Entry<W> {
    generation: u64,
    uses: Uses,
    state: State<W>,
}

/// How often a form was asked for. Those that it was made for do not tell that anybody else will.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Uses {
    None,
    /// Or none since the hand passed.
    One,
    More,
}

enum State<W> {
    /// It is in the line.
    Making {
        waiters: Vec<W>,
        waiters_max: usize,
    },
    Made(Rc<[u8]>),
    Worthless,
    /// It came to nothing.
    Lost,
}

/// Compressed forms. `W` names whoever waits: a small id that may be stale by the time it is woken.
pub struct Compressed<W> {
    entries: Slab<Entry<W>>,
    /// What is being made, first come, first served; the first that waits for no disk is at work.
    line: VecDeque<Job>,
    /// What was asked of the disk for those that left the line.
    unwanted: Vec<Input>,
    /// What the line costs.
    line_bytes: u64,
    /// Work that this turn still has time for.
    turn_bytes: usize,
    woken: VecDeque<W>,
    bytes_max: usize,
    /// Bytes of the entries that are not in the line.
    kept_bytes: usize,
    /// Bodies that are kept no more, while somebody still sends them.
    leaving: Vec<Weak<[u8]>>,
    leaving_bytes: usize,
    hand: usize,
    generation: u64,
    piece: Box<[u8]>,
    counters: Counters,
}

impl<W: Copy + PartialEq> Compressed<W> {
    /// For forms of at most `bytes_max` bytes.
    pub fn new(bytes_max: usize) -> Self {
        Self {
            entries: Slab::new(),
            line: VecDeque::new(),
            unwanted: Vec::new(),
            line_bytes: 0,
            turn_bytes: TURN_BYTES,
            woken: VecDeque::new(),
            bytes_max,
            kept_bytes: 0,
            leaving: Vec::new(),
            leaving_bytes: 0,
            hand: 0,
            generation: 0,
            piece: vec![0; PIECE_BYTES].into(),
            counters: Counters::default(),
        }
    }

    /// Another bound; it holds for the next form that is made.
    pub fn set_bytes_max(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// What was counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Bytes of all forms, as far as they are known to be in memory.
    pub fn bytes(&self) -> usize {
        self.kept_bytes + self.leaving_bytes
    }

    /// The form of a content in a coding. `form` is what its owner knows of it; `source` is asked
    /// for the content if the form has to be made. A short content is compressed at once if this
    /// turn still has time for it.
    pub fn ask<V: Copy + Ord + Hash>(
        &mut self,
        form: &mut Form,
        coding: Coding,
        source: impl FnOnce() -> Source,
        waiter: W,
        asker: &mut Asker<'_, V>,
    ) -> Answer {
        if let Some(answer) = self.look(form, waiter) {
            return answer;
        }
        *form = self.begin(coding, source());
        self.advance(asker);
        self.look(form, waiter).unwrap_or(Answer::Plain)
    }

    /// Throws a form away, because its version is no more.
    pub fn discard(&mut self, form: &Form) {
        let Some(slot) = self.slot(form) else { return };
        if let Some(place) = self.line.iter().position(|job| job.slot == slot) {
            self.leave_line(place, State::Lost);
        }
        self.remove(slot);
    }

    /// Ends a turn: does the work that it still had time for, and frees what was sent. `asker`: who
    /// is woken, to call this again, when the disk has answered.
    pub fn work<V: Copy + Ord + Hash>(&mut self, asker: &mut Asker<'_, V>) {
        self.advance(asker);
        for input in self.unwanted.drain(..) {
            input.cancel(asker.jobs);
        }
        self.turn_bytes = TURN_BYTES;
        if !self.leaving.is_empty() {
            self.sweep();
        }
    }

    /// Whether the next turn has work, whatever the disk does.
    pub fn has_work(&self) -> bool {
        let mut begun = self.line.iter().take(AT_WORK_MAX);
        begun.any(|job| job.input.asked_since().is_none()) || !self.unwanted.is_empty()
    }

    /// Contents in the line.
    pub fn waiting(&self) -> usize {
        self.line.len()
    }

    /// The next of those whose form is made, or never will be.
    pub fn poll_woken(&mut self) -> Option<W> {
        self.woken.pop_front()
    }

    fn slot(&self, form: &Form) -> Option<usize> {
        let Form::Asked(id) = form else { return None };
        let entry = self.entries.get(id.slot)?;
        (entry.generation == id.generation).then_some(id.slot)
    }

    /// The answer that there is; `None` where the form is to be made.
    fn look(&mut self, form: &mut Form, waiter: W) -> Option<Answer> {
        if matches!(form, Form::Worthless) {
            return Some(Answer::Plain);
        }
        let slot = self.slot(form)?;
        let entry = &mut self.entries[slot];
        *form = match &mut entry.state {
            State::Made(body) => {
                entry.uses = match entry.uses {
                    Uses::None => Uses::One,
                    Uses::One | Uses::More => Uses::More,
                };
                return Some(Answer::Made(Rc::clone(body)));
            }
            State::Making { waiters, .. } if waiters.contains(&waiter) => {
                return Some(Answer::Later);
            }
            State::Making {
                waiters,
                waiters_max,
            } => {
                if waiters.len() >= *waiters_max {
                    return Some(Answer::Plain);
                }
                waiters.push(waiter);
                return Some(Answer::Later);
            }
            State::Worthless => Form::Worthless,
            State::Lost => Form::Unasked,
        };
        self.remove(slot);
        Some(Answer::Plain)
    }

    /// Puts a content into the line, if there is room.
    fn begin(&mut self, coding: Coding, source: Source) -> Form {
        let len = source.len();
        let line_bytes = self.line_bytes + cost(len);
        let is_long = line_bytes > LINE_BYTES_MAX;
        if is_long && !self.line.is_empty() || self.leaving_bytes >= self.bytes_max {
            self.counters.refused += 1;
            return Form::Unasked;
        }
        self.line_bytes = line_bytes;
        self.generation += 1;
        let id = FormId {
            slot: self.entries.vacant_key(),
            generation: self.generation,
        };
        self.entries.insert(Entry {
            generation: id.generation,
            uses: Uses::None,
            state: State::Making {
                waiters: Vec::new(),
                waiters_max: if is_long { 0 } else { WAITERS_MAX },
            },
        });
        self.line.push_back(Job {
            slot: id.slot,
            source,
            coding,
            len,
            offset: 0,
            encoder: None,
            input: Input::Nothing,
        });
        Form::Asked(id)
    }

    /// Takes the line on as far as this turn has time. A content that waits for its disk is passed
    /// by; after [`DISK_WAIT_MAX`] it leaves the line.
    fn advance<V: Copy + Ord + Hash>(&mut self, asker: &mut Asker<'_, V>) {
        let mut place = 0;
        while place < AT_WORK_MAX
            && let Some(job) = self.line.get_mut(place)
        {
            if let Some(since) = job.input.asked_since()
                && !job.input.is_there(asker.jobs)
            {
                match asker.now.saturating_duration_since(since) < DISK_WAIT_MAX {
                    true => place += 1,
                    false => self.leave_line(place, State::Lost),
                }
                continue;
            }
            let Some(left) = self.turn_bytes.checked_sub(job.next_cost()) else {
                return;
            };
            match job.step(&mut self.piece, asker) {
                Poll::Pending => {}
                Poll::Ready(Ok(None)) => self.turn_bytes = left,
                Poll::Ready(Ok(Some(coded))) => {
                    let len = job.len;
                    let state = self.judge(len, coded);
                    self.leave_line(place, state);
                }
                Poll::Ready(Err(error)) => {
                    log::debug!("a content could not be compressed: {error}");
                    self.turn_bytes = left;
                    self.leave_line(place, State::Lost);
                }
            }
        }
    }

    /// What becomes of a content of `len` bytes, now that it is coded.
    fn judge(&mut self, len: u64, coded: Vec<u8>) -> State<W> {
        let bytes = coded.len() + ENTRY_BYTES;
        if coded.len() as u64 > len - len / 8 || bytes > self.bytes_max {
            return State::Worthless;
        }
        if !self.make_room(bytes) {
            return State::Lost;
        }
        self.counters.made += 1;
        State::Made(coded.into())
    }

    /// Takes a content out of the line, and wakes those who wait for it.
    fn leave_line(&mut self, place: usize, state: State<W>) {
        let Some(job) = self.line.remove(place) else {
            return;
        };
        self.line_bytes -= cost(job.len);
        if job.input.asked_since().is_some() {
            self.unwanted.push(job.input);
        }
        match state {
            State::Worthless => self.counters.worthless += 1,
            State::Lost => self.counters.lost += 1,
            State::Made(_) | State::Making { .. } => {}
        }
        let entry = &mut self.entries[job.slot];
        if let State::Making { waiters, .. } = std::mem::replace(&mut entry.state, state) {
            self.woken.extend(waiters);
        }
        self.kept_bytes += entry.bytes();
    }

    /// Whether `bytes` more can be kept, once what is used least was thrown out.
    fn make_room(&mut self, bytes: usize) -> bool {
        self.sweep();
        while self.bytes() + bytes > self.bytes_max {
            if !self.evict() {
                return false;
            }
        }
        true
    }

    /// Moves the hand to the first form that was not used again since its last visit, and drops
    /// that. Whether there was one.
    fn evict(&mut self) -> bool {
        let places = self.entries.capacity().max(1);
        // Two rounds: the first may only clear flags.
        for _ in 0..2 * places {
            let slot = self.hand % places;
            self.hand = slot + 1;
            match self.entries.get_mut(slot) {
                None => {}
                Some(entry) if matches!(entry.state, State::Making { .. }) => {}
                Some(entry) if entry.uses == Uses::More => entry.uses = Uses::One,
                Some(_) => {
                    self.counters.evicted += 1;
                    self.remove(slot);
                    return true;
                }
            }
        }
        false
    }

    /// Drops what is not in the line; a body that is being sent counts on.
    fn remove(&mut self, slot: usize) {
        let entry = self.entries.remove(slot);
        self.kept_bytes -= entry.bytes();
        if let State::Made(body) = entry.state
            && Rc::strong_count(&body) > 1
        {
            self.leaving_bytes += body.len();
            self.leaving.push(Rc::downgrade(&body));
        }
    }

    /// Forgets the bodies that were sent.
    fn sweep(&mut self) {
        self.leaving.retain(|body| body.strong_count() > 0);
        let alive = self.leaving.iter().filter_map(Weak::upgrade);
        self.leaving_bytes = alive.map(|body| body.len()).sum();
    }
}

impl<W> Entry<W> {
    /// What it takes in memory beside the line.
    fn bytes(&self) -> usize {
        match &self.state {
            State::Made(body) => body.len() + ENTRY_BYTES,
            State::Making { .. } | State::Worthless | State::Lost => ENTRY_BYTES,
        }
    }
}

/// What the form of a content of `len` bytes costs.
fn cost(len: u64) -> u64 {
    BEGINNING_BYTES as u64 + len
}

mod job;
#[cfg(test)]
mod tests;
