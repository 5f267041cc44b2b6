//! An answer that goes on for a while: what the loop does, as it does it.
//!
//! ```text
//! Looking ──every LOOK_PAUSE, as far as there is room──▶ Looking ──its time is over──▶ ended
//! ```
//!
//! In reading order: this file (how it is sent), [`watch`] (what is asked for, and where it comes
//! from), [`trace`] (how it is written).
//!
//! A client that takes it slowly is told how much it missed: nothing waits for it, and no more than
//! a send queue is held for it.

mod trace;
mod watch;

use std::time::{Duration, Instant};

use crate::http::body::LAST_CHUNK;
use crate::http::persistence::Persistence;
use crate::service::{Cx, Io};
use watch::Watch;
pub(super) use watch::begin;

/// How often it looks for news.
const LOOK_PAUSE: Duration = Duration::from_millis(50);

/// One such answer.
pub(super) struct Live {
    watch: Watch,
    /// The chunked coding is spoken; else the end of the connection ends the body.
    is_chunked: bool,
    persistence: Persistence,
    next: Instant,
    until: Instant,
    /// What is written and does not yet wait to be sent.
    text: String,
}

impl Live {
    /// After its head was queued; `text` follows first.
    fn new(
        watch: Watch,
        text: String,
        is_chunked: bool,
        persistence: Persistence,
        (now, until): (Instant, Instant),
    ) -> Self {
        Self {
            watch,
            is_chunked,
            persistence,
            next: now,
            until,
            text,
        }
    }

    /// Queues more of it. Whether that was all.
    pub(super) fn advance(&mut self, io: &mut Io<'_>) -> bool {
        let is_over = io.cx.now >= self.until || io.cx.draining;
        if io.cx.now < self.next && !is_over {
            return false;
        }
        if !io.down.tx.is_empty_or_wakes() {
            // Its client is slow: what comes meanwhile waits in the ring, or is missed.
            return false;
        }
        self.next = io.cx.now + LOOK_PAUSE;
        let has_all = self.watch.look(&mut io.cx, &mut self.text);
        let is_done = is_over && has_all;
        if is_done {
            self.watch.end(&mut io.cx, &mut self.text);
        }
        self.send(io);
        if !has_all {
            io.again();
        }
        if is_done && self.is_chunked {
            io.down.tx.put(LAST_CHUNK, io.cx.pool);
        }
        is_done
    }

    fn send(&mut self, io: &mut Io<'_>) {
        if self.text.is_empty() {
            return;
        }
        let (tx, pool) = (&mut io.down.tx, &mut *io.cx.pool);
        if self.is_chunked {
            tx.put(format!("{:x}\r\n", self.text.len()).as_bytes(), pool);
        }
        tx.put(self.text.as_bytes(), pool);
        if self.is_chunked {
            tx.put(b"\r\n", pool);
        }
        self.text.clear();
    }

    pub(super) fn deadline(&self) -> Instant {
        self.next.min(self.until)
    }

    /// Bytes that it holds outside of pages.
    pub(super) fn bytes_held(&self) -> usize {
        self.text.capacity()
    }

    /// Whether the end of the connection is that of the body.
    pub(super) fn ends_with_connection(&self) -> bool {
        !self.is_chunked
    }

    /// Whether the connection goes on behind it.
    pub(super) fn stays(&self) -> bool {
        self.is_chunked && self.persistence != Persistence::Ends
    }

    /// Nobody looks any more.
    pub(super) fn ended(&mut self, cx: &mut Cx<'_>) {
        self.watch.ended(cx);
    }
}
