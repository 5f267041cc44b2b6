//! Bytes that go from one side of a session to the other unread: the kernel moves them, through a
//! pipe, and no page of ours is touched.
//!
//! ```text
//! from ──splice──▶ pipe ──splice──▶ to        what is in the pipe stands in the queue of `to`
//! ```
//!
//! The rules:
//! 1. A pipe is filled only while nothing waits for its reader. So what was queued before goes
//!    first, and that a call would block says that the socket is empty, not that the pipe is full.
//! 2. A session has a pipe only while something is in it: one that parks gives it back. There are so
//!    many and no more; who gets none copies, as without a relay. So does a side that speaks TLS.
//! 3. What is in a pipe when its session ends goes with it.

use std::io;

use super::context::Context;
use super::half::Half;
use super::transfer::Budget;
use crate::inside::ring::{Call, CameTo};
use crate::pipe::Pipe;
use crate::service::{Finish, LinkState};
use crate::sys::Sys;

/// Bytes that one call moves into a pipe at most: as many as one holds.
const BYTES_MAX: usize = 1 << 20;
/// What came of an attempt to fill a pipe.
#[derive(Clone, Copy)]
pub(super) enum Filled {
    /// So many bytes came.
    Some(usize),
    /// The stream is at its end.
    End,
    /// Nothing more is there, or may be moved in this turn.
    Nothing,
    /// There is no pipe for it.
    NoPipe,
}

/// Whether what arrives at `from` goes to `to` unread.
pub(super) fn is_on<S: Sys>(from: &Half<S>, to: &Half<S>) -> bool {
    let both = from.link.relays && to.link.relays;
    let is_plain = from.tls.is_none() && to.tls.is_none();
    let is_open = to.link.status == LinkState::Open && to.link.finish == Finish::Open;
    both && is_plain && is_open && from.link.rx.is_empty()
}

/// Whether `from` is left alone until `to` has taken what waits for it.
pub(super) fn is_held_up<S: Sys>(from: &Half<S>, to: &Half<S>) -> bool {
    is_on(from, to) && !to.link.tx.is_empty()
}

/// Moves what arrived at `from` into the pipe that leads to `to`.
///
/// # Errors
/// The connection of `from` broke.
pub(super) fn fill<S: Sys>(
    from: &mut Half<S>,
    to: &mut Half<S>,
    cx: &mut Context<S>,
    budget: &mut Budget,
) -> Result<Filled, io::ErrorKind> {
    // A call for no bytes would tell the end of the stream.
    if budget.is_spent() {
        return Ok(Filled::Nothing);
    }
    if to.pipe.is_none() {
        to.pipe = cx.pipes.lend(&mut cx.sys);
    }
    let Some(pipe) = &to.pipe else {
        return Ok(Filled::NoPipe);
    };
    let filled = splice_in(from, pipe, usize::MAX, &mut cx.sys, budget)?;
    match filled {
        Filled::Some(count) => to.link.tx.put_piped(count, &mut cx.pool),
        // A socket of a kind that the kernel does not splice.
        Filled::NoPipe => from.link.relays = false,
        Filled::End | Filled::Nothing => {}
    }
    Ok(filled)
}

/// Moves what arrived at a side into an empty pipe; `NoPipe` if the kernel cannot.
///
/// # Errors
/// The connection broke.
pub(super) fn splice_in<S: Sys>(
    from: &mut Half<S>,
    pipe: &Pipe,
    bytes_max: usize,
    sys: &mut S,
    budget: &mut Budget,
) -> Result<Filled, io::ErrorKind> {
    let Some(stream) = &from.stream else {
        return Ok(Filled::NoPipe);
    };
    let bytes_max = bytes_max.min(budget.left).min(BYTES_MAX);
    loop {
        let began = budget.call_begins(sys);
        let moved = sys.splice_in(stream, pipe, bytes_max);
        let came_to = match &moved {
            Ok(count) => (Call::SpliceIn, CameTo::Done, *count),
            Err(error) => (Call::SpliceIn, CameTo::of(error), 0),
        };
        budget.call_ended(began, came_to, sys);
        match moved {
            Ok(0) => {
                from.link.eof = true;
                from.ready.readable = false;
                return Ok(Filled::End);
            }
            Ok(count) => {
                budget.spend(count, false);
                return Ok(Filled::Some(count));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                from.ready.readable = false;
                return Ok(Filled::Nothing);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => return Ok(Filled::NoPipe),
            Err(error) => return Err(error.kind()),
        }
    }
}
