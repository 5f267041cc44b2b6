//! Answers from a record what a kernel answered, and looks whether it is asked the same.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;
use std::time::{Duration, Instant};

use super::answers::{Answer, Clocks};
use super::call::Call;
use super::file::{BadRecord, BlockKind, Reader, Start};
use super::jobs::take_finished;
use super::wire::{Broken, In, Out, Wire, take_bytes};
use crate::jobs::{Done, Job, JobId};

/// Why there is no next answer.
#[derive(Debug)]
pub enum Over {
    /// The process ended: what it had counted.
    Ended(String),
    /// The recording ended before the process did.
    Stopped {
        /// Turns that are whole.
        turns: u64,
        /// Why.
        why: String,
    },
    /// The loop asks for something else than it did.
    Diverged {
        /// In which turn, the first one being 1.
        turn: u64,
        /// What was asked then.
        then: String,
        /// What is asked now.
        now: String,
    },
    /// The record cannot be read further.
    Bad {
        /// In which turn.
        turn: u64,
        /// Why.
        why: BadRecord,
    },
}

impl fmt::Display for Over {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Over::Ended(_) => f.write_str("the process ended"),
            Over::Stopped { turns, why } => {
                write!(f, "the recording ended after {turns} turns: {why}")
            }
            Over::Diverged { turn, then, now } => write!(
                f,
                "turn {turn} diverges: then it asked {then}, now it asks {now}"
            ),
            Over::Bad { turn, why } => write!(f, "in turn {turn}: {why}"),
        }
    }
}

impl std::error::Error for Over {}

/// What was replayed so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Played {
    /// Turns that began.
    pub turns: u64,
    /// Calls that were answered.
    pub calls: u64,
    /// Bytes that were sent on streams, as they were then.
    pub sent_bytes: u64,
    /// Bytes that came on streams.
    pub received_bytes: u64,
}

/// Long enough that a moment before the beginning of a record is one.
const BEFORE: Duration = Duration::from_secs(365 * 24 * 3600);

/// Answers from a record.
pub(super) struct Player {
    reader: Reader,
    from: In,
    /// Where the block began that is being read.
    block_at: u64,
    last: Clocks,
    asked: Out,
    begun: BTreeMap<JobId, Job>,
    pub(super) played: Played,
    pub(super) over: Option<Over>,
    heads_only: bool,
}

impl Player {
    pub(super) fn begin(
        from: Box<dyn Read + Send>,
        epoch: Instant,
    ) -> Result<(Self, Start), BadRecord> {
        let (reader, start) = Reader::begin(from)?;
        let base = epoch + BEFORE;
        let player = Self {
            block_at: reader.at(),
            reader,
            from: In::new(Vec::new(), base),
            last: Clocks {
                now: base,
                wall: start.wall,
            },
            asked: Out::new(base),
            begun: BTreeMap::new(),
            played: Played::default(),
            over: None,
            heads_only: start.heads_only,
        };
        Ok((player, start))
    }

    /// Whether of what is given away only the length is compared.
    pub(super) fn has_heads_only(&self) -> bool {
        self.heads_only
    }

    /// Reads on, if all of a block was answered. Whether there is more.
    fn has_more(&mut self) -> bool {
        while self.over.is_none() && self.from.rest().is_empty() {
            self.block_at = self.reader.at();
            match self.reader.next() {
                Ok((BlockKind::Calls, payload)) => {
                    self.from.bytes = payload;
                    self.from.at = 0;
                }
                Ok((kind, payload)) => self.last_block(kind, payload),
                Err(why) => self.bad(why),
            }
        }
        self.over.is_none()
    }

    fn last_block(&mut self, kind: BlockKind, payload: Vec<u8>) {
        let mut from = In::new(payload, self.from.base);
        let text = String::take(&mut from);
        self.over = Some(match (kind, text, self.reader.is_at_end()) {
            (_, _, false) => Over::Bad {
                turn: self.played.turns,
                why: self
                    .reader
                    .damaged(self.block_at, Broken("nothing behind the last block")),
            },
            (BlockKind::Ended, Ok(counted), _) => Over::Ended(counted),
            (BlockKind::Stopped, Ok(why), _) => Over::Stopped {
                turns: self.played.turns,
                why,
            },
            _ => Over::Bad {
                turn: self.played.turns,
                why: self
                    .reader
                    .damaged(self.block_at, Broken("a block of calls")),
            },
        });
    }

    fn bad(&mut self, why: BadRecord) {
        let turn = self.played.turns;
        self.over.get_or_insert(Over::Bad { turn, why });
    }

    fn broken(&mut self, broken: Broken) {
        self.bad(self.reader.damaged(self.block_at, broken));
    }

    fn diverges(&mut self, then: String, now: String) {
        let turn = self.played.turns;
        self.over.get_or_insert(Over::Diverged { turn, then, now });
    }

    /// Whether this is what was asked for next.
    fn is_asked(&mut self, call: &Call) -> bool {
        let is_there = self.has_more();
        if let Call::Poll { .. } = call
            && !matches!(self.over, Some(Over::Stopped { .. }))
        {
            self.played.turns += 1;
        }
        if !is_there {
            if matches!(self.over, Some(Over::Ended(_))) {
                let then = "nothing more".to_owned();
                self.over = None;
                self.diverges(then, format!("{call:?}"));
            }
            return false;
        }
        self.asked.bytes.clear();
        call.put(&mut self.asked);
        if self.from.rest().starts_with(&self.asked.bytes) {
            self.from.at += self.asked.bytes.len();
            self.played.calls += 1;
            return true;
        }
        match Call::take(&mut self.from) {
            Ok(then) => self.diverges(format!("{then:?}"), format!("{call:?}")),
            Err(broken) => self.broken(broken),
        }
        false
    }

    /// The answer to a call.
    pub(super) fn answer<A: Answer>(&mut self, call: &Call) -> A {
        if !self.is_asked(call) {
            return A::nothing(self.last);
        }
        A::take(&mut self.from).unwrap_or_else(|broken| {
            self.broken(broken);
            A::nothing(self.last)
        })
    }

    /// Looks whether what is sent or written is what it was; `what` says what that is.
    pub(super) fn check(&mut self, what: &str, hash: u64) {
        if self.over.is_some() {
            return;
        }
        match u64::take(&mut self.from) {
            Ok(then) if then == hash => {}
            Ok(then) => {
                let with = |hash| format!("{what} with the hash {hash:016x}");
                self.diverges(with(then), with(hash));
            }
            Err(broken) => self.broken(broken),
        }
    }

    /// The bytes that came with the last answer, which has so many.
    pub(super) fn bytes(&mut self, into: &mut [u8]) {
        if self.over.is_some() {
            return;
        }
        match take_bytes(&mut self.from) {
            Ok(bytes) if bytes.len() == into.len() => into.copy_from_slice(bytes),
            Ok(_) => self.broken(Broken("as many bytes as were told")),
            Err(broken) => self.broken(broken),
        }
    }

    /// What else came with the last answer.
    pub(super) fn more<T: Wire>(&mut self) -> Option<T> {
        if self.over.is_some() {
            return None;
        }
        let taken = T::take(&mut self.from);
        taken.map_err(|broken| self.broken(broken)).ok()
    }

    /// The clocks, as they were told last.
    pub(super) fn tell(&mut self, last: impl FnOnce(&mut Clocks)) {
        last(&mut self.last);
    }

    /// A job was begun.
    pub(super) fn begin_job(&mut self, id: JobId, job: Job) {
        self.begun.insert(id, job);
    }

    /// A job that was done.
    pub(super) fn finished(&mut self) -> Option<(JobId, Job, std::io::Result<Done>)> {
        if !self.is_asked(&Call::Finished {}) {
            return None;
        }
        let taken = take_finished(&mut self.from, &mut self.begun);
        taken.unwrap_or_else(|broken| {
            self.broken(broken);
            None
        })
    }

    /// Nothing more is asked: whether that was so then.
    pub(super) fn end(&mut self) {
        if self.has_more() {
            let then = Call::take(&mut self.from);
            let then = then.map_or_else(|_| "something".to_owned(), |then| format!("{then:?}"));
            self.diverges(then, "nothing more".to_owned());
        }
    }
}
