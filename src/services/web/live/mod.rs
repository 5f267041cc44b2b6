//! An answer that goes on for a while: what happens, as it happens.
//!
//! ```text
//! Looking ──every `Source::pause`, as far as there is room──▶ Looking ──its time is over──▶ ended
//! ```
//!
//! In reading order: this file (how it is sent), [`watch`] (what is asked for, and where it comes
//! from), [`turns`] (the last turns, as a whole). How it is written: [`crate::inside::trace`], and
//! [`crate::inside::words`] for a record in words.
//!
//! A client that takes it slowly is told how much it missed: nothing waits for it, and no more than
//! a send queue is held for it.

mod turns;
mod watch;

use std::time::{Duration, Instant};

use super::reply::Reply;
use crate::http::body::LAST_CHUNK;
use crate::http::head::{BodyLength, RequestHead, put_head_end, put_header};
use crate::http::persistence::Persistence;
use crate::http::{Method, Status, Version};
pub(super) use crate::inside::words::{Kinds, Names, put_object};
use crate::metrics::Metrics;
use crate::service::{Cx, Io};
pub(super) use turns::{TURNS, TURNS_MAX, Turns, Which};
pub(super) use watch::{begin, may_read, query};

/// What was counted by the process that is told of: this one, or that of a record.
pub(super) fn counted<'a>(cx: &'a Cx<'_>) -> &'a Metrics {
    match &cx.inside.replayed {
        Some(replayed) => &replayed.books.metrics,
        None => cx.counted.all(),
    }
}

/// By what its records are told.
pub(super) fn names<'a>(cx: &'a Cx<'_>) -> Names<'a> {
    Names {
        ring: &cx.inside.ring,
        listeners: &counted(cx).listeners,
    }
}

/// Where it comes from.
pub(super) trait Source {
    /// Writes what happened since the last look, as far as the share of work goes. Whether that is
    /// all.
    fn look(&mut self, cx: &mut Cx<'_>, text: &mut String) -> bool;

    /// Writes the end.
    fn end(&mut self, cx: &mut Cx<'_>, text: &mut String);

    /// Nobody looks any more.
    fn ended(&mut self, cx: &mut Cx<'_>);

    /// How long it is until the next look.
    fn pause(&self) -> Duration;

    /// There is nothing more to be told.
    fn is_over(&self) -> bool {
        false
    }

    /// Bytes that it holds.
    fn bytes_held(&self) -> usize {
        0
    }
}

/// One such answer.
pub(super) struct Live {
    source: Box<dyn Source>,
    /// The chunked coding is spoken; else the end of the connection ends the body.
    is_chunked: bool,
    persistence: Persistence,
    next: Instant,
    until: Instant,
    /// What is written and does not yet wait to be sent.
    text: String,
}

impl Live {
    /// After [its head](begin_head) was queued; `text` follows first.
    pub(super) fn new(
        source: Box<dyn Source>,
        text: String,
        head: &RequestHead<'_>,
        until: Instant,
        reply: &Reply<'_, '_>,
    ) -> Box<Self> {
        Box::new(Self {
            source,
            is_chunked: is_chunked(head),
            persistence: reply.persistence,
            next: reply.cx.now,
            until,
            text,
        })
    }

    /// Queues more of it. Whether that was all.
    pub(super) fn advance(&mut self, io: &mut Io<'_>) -> bool {
        let is_over = io.cx.now >= self.until || io.cx.draining || self.source.is_over();
        if io.cx.now < self.next && !is_over {
            return false;
        }
        if !io.down.tx.is_empty_or_wakes() {
            // Its client is slow: what comes meanwhile waits in the ring, or is missed.
            return false;
        }
        let has_all = self.source.look(&mut io.cx, &mut self.text);
        self.next = match has_all {
            true => io.cx.now + self.source.pause(),
            false => io.cx.now,
        };
        let is_done = (is_over || self.source.is_over()) && has_all;
        if is_done {
            self.source.end(&mut io.cx, &mut self.text);
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
        self.text.capacity() + self.source.bytes_held()
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
        self.source.ended(cx);
    }
}

fn is_chunked(head: &RequestHead<'_>) -> bool {
    head.version == Version::Http11
}

/// Queues the head of such an answer. Whether a body follows.
pub(super) fn begin_head(
    head: &RequestHead<'_>,
    content_type: &str,
    reply: &mut Reply<'_, '_>,
) -> bool {
    let is_get = head.method == Method::Get;
    // A body that comes with the request would be read only when the answer has ended.
    if is_get && (!is_chunked(head) || head.body != BodyLength::None) {
        reply.persistence = Persistence::Ends;
    }
    let answer = reply.begin(Status::OK);
    put_header(answer, "Content-Type", content_type);
    put_header(answer, "Cache-Control", "no-store");
    put_header(answer, "X-Content-Type-Options", "nosniff");
    if is_chunked(head) {
        put_header(answer, "Transfer-Encoding", "chunked");
    }
    put_head_end(answer);
    reply.send(0);
    is_get
}
