//! What moving bytes between a socket and its buffers has in common, in either direction and with
//! or without TLS: what is known of the socket's readiness, how much one pump may move, and what
//! came of a call.

use std::io;
use std::time::Instant;

use crate::ending::Error;
use crate::inside::ring::{Call, CameTo};
use crate::service::work;
use crate::sys::Sys;

/// What is known of a socket's readiness. Set by events, cleared by fill and flush, and nowhere
/// else.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Ready {
    /// Bytes, or the end of the stream, may be there.
    pub(super) readable: bool,
    /// There may be room.
    pub(super) writable: bool,
    /// The end of the stream or a broken connection was told, and no further edge may come for it:
    /// a short read is no proof that nothing more is there.
    pub(super) closing: bool,
}

impl Ready {
    /// An event's part: readiness is only ever added here.
    pub(super) fn note(&mut self, readable: bool, writable: bool, read_closed: bool) {
        self.readable |= readable | read_closed;
        self.writable |= writable;
        self.closing |= read_closed;
    }
}

/// What a pump may still move, and what it moved: more than it might, by up to one system call.
/// What moving them cost is charged to the session's share of work.
pub(super) struct Budget {
    pub(super) left: usize,
    pub(super) moved: u64,
    cost_ns: u32,
    /// `None` unless somebody looks at the session.
    pub(super) calls: Option<Box<Calls>>,
}

/// The system calls of a pump whose session somebody looks at.
pub(super) struct Calls {
    /// The moment of all of them, where no clock is asked for them.
    pub(super) untimed: Option<Instant>,
    /// When each ended, and what it was.
    pub(super) made: Vec<(Instant, Noted)>,
}

/// A system call, and what it came to.
pub(super) struct Noted {
    pub(super) call: Call,
    pub(super) came_to: CameTo,
    pub(super) bytes: u32,
    pub(super) took_ns: u32,
}

impl Calls {
    #[cold]
    fn note<S: Sys>(
        &mut self,
        began: Instant,
        (call, came_to, bytes): (Call, CameTo, usize),
        sys: &S,
    ) {
        let now = self.untimed.unwrap_or_else(|| sys.now());
        let took = now.saturating_duration_since(began).as_nanos();
        let noted = Noted {
            call,
            came_to,
            bytes: u32::try_from(bytes).unwrap_or(u32::MAX),
            took_ns: u32::try_from(took).unwrap_or(u32::MAX),
        };
        self.made.push((now, noted));
    }
}

impl Budget {
    pub(super) fn new(bytes: usize) -> Self {
        Self {
            left: bytes,
            moved: 0,
            cost_ns: 0,
            calls: None,
        }
    }

    /// A system call is about to be made: when, if anybody looks.
    #[inline]
    pub(super) fn call_begins<S: Sys>(&self, sys: &S) -> Option<Instant> {
        let calls = self.calls.as_ref()?;
        Some(calls.untimed.unwrap_or_else(|| sys.now()))
    }

    /// It was made.
    #[inline]
    pub(super) fn call_ended<S: Sys>(
        &mut self,
        began: Option<Instant>,
        came_to: (Call, CameTo, usize),
        sys: &S,
    ) {
        if let (Some(began), Some(calls)) = (began, &mut self.calls) {
            calls.note(began, came_to, sys);
        }
    }

    pub(super) fn is_spent(&self) -> bool {
        self.left == 0
    }

    /// One system call moved so many bytes; as records if TLS is spoken.
    pub(super) fn spend(&mut self, bytes: usize, is_tls: bool) {
        self.left = self.left.saturating_sub(bytes);
        self.moved += bytes as u64;
        // Each by its constant, or the processor would have to divide for every call.
        let ns = match is_tls {
            true => bytes as u64 * 1_000 / work::TLS_BYTES_PER_US as u64,
            false => bytes as u64 * 1_000 / work::BYTES_PER_US as u64,
        };
        let ns = u32::try_from(ns).unwrap_or(u32::MAX);
        self.cost_ns = self
            .cost_ns
            .saturating_add(ns)
            .saturating_add(work::CALL_NS);
    }

    /// What the calls cost since this was asked last.
    pub(super) fn take_cost(&mut self) -> u32 {
        std::mem::take(&mut self.cost_ns)
    }
}

/// What one call moved.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moved {
    /// Bytes.
    pub(super) count: usize,
    /// As many as it could: the socket may have more, or room for more.
    pub(super) is_full: bool,
}

/// What came of an attempt to send.
pub(super) enum Sent {
    /// Nothing waits to be sent.
    Nothing,
    /// Some of it was sent.
    Some(Moved),
    /// The socket has no room.
    Blocked,
}

impl Sent {
    /// From what a system call said. `is_full` tells whether so many bytes are as many as it could.
    pub(super) fn of(
        result: io::Result<usize>,
        is_full: impl FnOnce(usize) -> bool,
    ) -> Result<Self, Error> {
        match result {
            Ok(count) => Ok(Sent::Some(Moved {
                count,
                is_full: is_full(count),
            })),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Sent::Blocked),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(Sent::Some(Moved {
                count: 0,
                is_full: true,
            })),
            Err(error) => Err(Error::Reset(error.kind())),
        }
    }
}

/// What a flush came to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Progress {
    /// No byte left.
    None,
    /// Some did.
    Sent,
    /// Some did, and the protocol was refused room before.
    FreedForRefused,
}
