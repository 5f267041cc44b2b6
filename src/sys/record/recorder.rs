//! Writes a record while a kernel is asked.

use std::io::{self, Write};
use std::time::{Duration, Instant};

use super::call::Call;
use super::file::{BLOCK_BYTES, BlockKind, Sink, Start};
use super::leaving::Leaving;
use super::wire::{Out, Wire};
use crate::unread::Unread;

/// Where a record goes, and how much of it there may be.
pub struct Options {
    /// What stands at its beginning.
    pub start: Start,
    /// Bytes at which the recording ends, while the loop goes on.
    pub bytes_max: u64,
    /// Each turn is written at its end, and the loop waits for that, instead of going on without a
    /// record where the disk is slow.
    pub waits: bool,
}

/// What a process that is killed loses of its record, at most, while it sleeps.
const HELD_TIME_MAX: Duration = Duration::from_secs(1);

/// Writes down what is asked and answered, as long as it may.
pub(super) struct Recorder {
    out: Out,
    /// `None` once it is over.
    sink: Option<Sink>,
    bytes: u64,
    bytes_max: u64,
    handed_at: Instant,
    pub(super) turns: u64,
    waits: bool,
    /// Why a block was lost: the recording ends with those before it.
    lost: Option<&'static str>,
    /// What is left out, where something is.
    leaving: Option<Box<Leaving>>,
}

impl Recorder {
    pub(super) fn begin(
        to: impl Write + Send + 'static,
        options: &Options,
        now: Instant,
    ) -> io::Result<Self> {
        Ok(Self {
            out: Out::new(now),
            sink: Some(Sink::begin(to, &options.start, options.waits)?),
            bytes: 0,
            bytes_max: options.bytes_max,
            handed_at: now,
            turns: 0,
            waits: options.waits,
            lost: None,
            leaving: options.start.heads_only.then(Box::default),
        })
    }

    /// Nothing is recorded.
    pub(super) fn none(now: Instant) -> Self {
        Self {
            out: Out::new(now),
            sink: None,
            bytes: 0,
            bytes_max: 0,
            handed_at: now,
            turns: 0,
            waits: false,
            lost: None,
            leaving: None,
        }
    }

    pub(super) fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    /// Writes a call, and its answer.
    pub(super) fn enter(&mut self, call: &Call, answer: impl FnOnce(&mut Out)) {
        if self.sink.is_none() || self.lost.is_some() {
            return;
        }
        call.put(&mut self.out);
        answer(&mut self.out);
        // Before the first turn there is no thread but the loop's, and within one it is not known yet
        // what is left out.
        let is_early = self.turns == 0 || self.leaving.is_some();
        if !is_early && self.out.bytes.len() >= BLOCK_BYTES {
            self.hand_over();
        }
    }

    /// The turn ends, and the loop sleeps for some time or does not.
    pub(super) fn turn_ends(&mut self, now: impl FnOnce() -> Instant, sleeps: bool) {
        self.turns += 1;
        if self.sink.is_none() {
            return;
        }
        if sleeps && !self.out.bytes.is_empty() {
            let now = now();
            if now.saturating_duration_since(self.handed_at) >= HELD_TIME_MAX {
                self.handed_at = now;
                self.hand_over();
            }
        }
        if self.waits && !self.out.bytes.is_empty() {
            self.hand_over();
        }
        if self.leaving.is_some() {
            if self.out.bytes.len() >= BLOCK_BYTES {
                self.hand_over();
            }
            self.let_go(false);
        }
        let is_full = self.bytes + self.out.bytes.len() as u64 >= self.bytes_max;
        if is_full {
            self.hand_over();
        }
        let full = is_full.then_some("it has as many bytes as it may");
        if let Some(why) = self.lost.or(full) {
            log::warn!("the recording ends after {} turns: {why}", self.turns);
            let _ = self.finish(BlockKind::Stopped, why, self.waits); // the thread told the log
        }
    }

    /// Hands the calls over to be written, unless the recording is over.
    fn hand_over(&mut self) {
        let Some(sink) = self.sink.as_mut().filter(|_| self.lost.is_none()) else {
            return;
        };
        let next = Vec::with_capacity(BLOCK_BYTES + BLOCK_BYTES / 4);
        let payload = std::mem::replace(&mut self.out.bytes, next);
        self.bytes += payload.len() as u64;
        if let Some(leaving) = &mut self.leaving {
            leaving.hold(payload);
        } else if let Err(why) = sink.put(payload) {
            self.lost = Some(why);
        }
    }

    /// Hands over the blocks in which everything is decided, or all.
    fn let_go(&mut self, all: bool) {
        let (Some(leaving), Some(sink)) = (&mut self.leaving, &mut self.sink) else {
            return;
        };
        while self.lost.is_none()
            && let Some(block) = leaving.next(all)
        {
            self.lost = sink.put(block).err();
        }
    }

    /// Whether bytes that are passed on unread are left out, and of what leaves only lengths are told.
    pub(super) fn has_heads_only(&self) -> bool {
        self.leaving.is_some()
    }

    /// The last `count` bytes that were written down came by a stream.
    pub(super) fn came(&mut self, stream: u32, count: usize) {
        if let Some(leaving) = &mut self.leaving {
            leaving.came(stream, count, &mut self.out.bytes);
        }
    }

    /// They are still in its socket.
    pub(super) fn peeked(&mut self, stream: u32, count: usize) {
        if let Some(leaving) = &mut self.leaving {
            leaving.peeked(stream, count, &self.out.bytes);
        }
    }

    /// What of the bytes that came by a stream nobody looks at, and how many wait.
    pub(super) fn unread(&mut self, stream: u32, unread: &Unread, waits: usize) {
        if let Some(leaving) = &mut self.leaving {
            leaving.decide(stream, unread, waits, &mut self.out.bytes);
        }
    }

    /// A stream is closed.
    pub(super) fn closed(&mut self, stream: u32) {
        if let Some(leaving) = &mut self.leaving {
            leaving.closed(stream);
        }
    }

    /// The process ends; `counted` is what it counted.
    ///
    /// # Errors
    /// Those of `write(2)`.
    pub(super) fn end(&mut self, counted: &str) -> io::Result<()> {
        self.hand_over();
        match self.lost {
            None => self.finish(BlockKind::Ended, counted, true),
            Some(why) => self.finish(BlockKind::Stopped, why, true),
        }
    }

    /// The recording ends before its process does.
    ///
    /// # Errors
    /// Those of `write(2)`.
    pub(super) fn stop(&mut self, why: &str) -> io::Result<()> {
        self.hand_over();
        self.finish(BlockKind::Stopped, why, true)
    }

    fn finish(&mut self, kind: BlockKind, text: &str, waits: bool) -> io::Result<()> {
        self.let_go(true);
        self.leaving = None;
        let Some(sink) = self.sink.take() else {
            return Ok(());
        };
        let mut out = Out::new(self.out.base);
        text.to_owned().put(&mut out);
        sink.end(kind, out.bytes, waits)
    }
}
