//! Bytes that go from a client to a file unread: the kernel moves them into a pipe, and a job from
//! there to the disk. A copy less for each byte than by a page of ours.
//!
//! ```text
//! socket ──splice──▶ pipe: `Inlet::came` ──taken by the protocol──▶ a job ──splice──▶ file
//! ```
//!
//! The rules:
//! 1. What came before is consumed first, and nothing more is received until the protocol has taken
//!    what came by a pipe: so the order of the bytes is kept.
//! 2. It pays for many bytes only. While few wait in the socket, they are received as ever.
//! 3. A pipe comes back when its job has ended ([`Jobs::poll_pipe`](crate::jobs::Jobs::poll_pipe)).
//!    There are so many and no more, as for `relay`: who gets none receives as ever, and so does a
//!    side that speaks TLS.

use std::io;

use super::context::Context;
use super::half::Half;
use super::relay::{self, Filled};
use super::transfer::Budget;
use crate::pipe::Piped;
use crate::sys::Sys;

/// Bytes that are worth a job of their own.
const WORTH_BYTES: u64 = 64 * 1024;

/// Whether what arrives may go into a pipe.
pub(super) fn is_on<S: Sys>(half: &Half<S>) -> bool {
    let link = &half.link;
    let wanted = link.inlet.as_ref().is_some_and(|inlet| inlet.wanted > 0);
    wanted && half.tls.is_none() && link.rx.is_empty()
}

/// Moves what arrived into a pipe, if it is much.
///
/// # Errors
/// The connection broke.
pub(super) fn fill<S: Sys>(
    half: &mut Half<S>,
    cx: &mut Context<S>,
    budget: &mut Budget,
) -> Result<Filled, io::ErrorKind> {
    let (Some(stream), Some(inlet)) = (&half.stream, &half.link.inlet) else {
        return Ok(Filled::NoPipe);
    };
    let wanted = inlet.wanted;
    if (cx.sys.waiting(stream) as u64) < wanted.min(WORTH_BYTES) {
        return Ok(Filled::NoPipe);
    }
    let Some(pipe) = cx.pipes.lend(&mut cx.sys) else {
        return Ok(Filled::NoPipe);
    };
    let bytes_max = usize::try_from(wanted).unwrap_or(usize::MAX);
    let filled = relay::splice_in(half, &pipe, bytes_max, &mut cx.sys, budget);
    match (filled, &mut half.link.inlet) {
        (Ok(Filled::Some(bytes)), Some(inlet)) => {
            inlet.wanted -= bytes as u64;
            inlet.came = Some(Piped { pipe, bytes });
        }
        (Ok(Filled::NoPipe), inlet) => {
            *inlet = None; // a socket of a kind that the kernel does not splice
            cx.pipes.take_back(pipe, true, &mut cx.sys);
        }
        _ => cx.pipes.take_back(pipe, true, &mut cx.sys),
    }
    filled
}
