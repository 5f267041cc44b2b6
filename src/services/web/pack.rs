//! An answer that is made while it is sent: a folder as an archive.

use std::time::{Duration, Instant};

use super::access_log::{AccessLog, Entry, Line};
use super::files::archive::{Archive, Packed};
use super::reply::Answered;
use crate::ending::Error;
use crate::http::Status;
use crate::http::persistence::Persistence;
use crate::service::{Cx, Io};

/// An archive that is being sent.
pub(super) struct Pack {
    archive: Box<Archive>,
    persistence: Persistence,
    until: Instant,
    /// When the request's first byte came.
    began: Instant,
    /// What the log is to tell.
    logged: Option<Entry>,
}

impl Pack {
    /// Bytes that it holds outside of pages.
    pub(super) fn bytes_held(&self) -> usize {
        self.archive.bytes_held()
    }

    /// After its head was queued.
    pub(super) fn new(
        archive: Box<Archive>,
        persistence: Persistence,
        until: Instant,
        (began, logged): (Instant, Option<Entry>),
    ) -> Self {
        Self {
            archive,
            persistence,
            until,
            began,
            logged,
        }
    }

    /// Queues more of it. Whether that was all. While something waits in the queue, the reactor
    /// sees to it that the client takes it; in between, there is always more to do, or the disk has
    /// to answer within `timeout`.
    ///
    /// # Errors
    /// It ends short.
    pub(super) fn advance(&mut self, timeout: Duration, io: &mut Io<'_>) -> Result<bool, Error> {
        let packed = self.archive.advance(&mut io.down.tx, io.id, &mut io.cx)?;
        let since = match packed {
            Packed::Waits(since) => since,
            Packed::Done | Packed::Full | Packed::Later => io.cx.now,
        };
        self.until = since + timeout;
        if self.until <= io.cx.now {
            return Err(self.archive.give_up());
        }
        if packed == Packed::Later {
            io.again();
        }
        Ok(packed == Packed::Done)
    }

    pub(super) fn deadline(&self) -> Instant {
        self.until
    }

    pub(super) fn began(&self) -> Instant {
        self.began
    }

    /// Whether the connection goes on behind it.
    pub(super) fn stays(&self) -> bool {
        self.persistence != Persistence::Ends
    }

    /// Writes its line, when all of it is queued or nothing follows.
    pub(super) fn log(&self, log: Option<&mut AccessLog>, cx: &mut Cx<'_>) {
        let (Some(log), Some(entry)) = (log, &self.logged) else {
            return;
        };
        let line = Line {
            peer: entry.peer,
            request: Some(entry.request()),
            origin: None,
            parent: None,
            answered: Answered {
                status: Status::OK,
                body_bytes: self.archive.bytes(),
            },
            took: cx.now.saturating_duration_since(self.began),
            wall: cx.wall,
        };
        log.add(&line, &mut cx.counted);
    }
}
