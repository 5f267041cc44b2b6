//! Between the jobs and the engine that does them: the twin of `queries`.
//!
//! [`crate::jobs`] is a pure machine; this carries what it wants done to the kernel, and what was
//! done back to it.

use super::context::Context;
use crate::inside::ring::{LOOP, Part, StateName, What};
use crate::jobs::JobId;
use crate::service::Waiter;
use crate::sys::Sys;

/// Takes back what was done, its pipes, and the memory of what was done for nobody.
pub(super) fn finish<S: Sys>(cx: &mut Context<S>) {
    let mut is_first = true;
    while let Some((id, job, result)) = cx.sys.finished() {
        if std::mem::take(&mut is_first) {
            cx.note_part(Part::Jobs);
        }
        let is_failed = result.is_err();
        note(id, |kind| What::JobDone { kind, is_failed }, cx);
        cx.jobs.finished(id, job, result, cx.now);
    }
    take_back(cx);
}

/// Takes back what jobs were lent and nobody waits for.
pub(super) fn take_back<S: Sys>(cx: &mut Context<S>) {
    while let Some(page) = cx.jobs.poll_page() {
        cx.pool.give_slice(page);
    }
    while let Some(piped) = cx.jobs.poll_pipe() {
        cx.pipes.take_back_piped(piped, &mut cx.sys);
    }
}

/// Starts as many jobs as may be under way; whether there were any.
pub(super) fn start<S: Sys>(cx: &mut Context<S>) -> bool {
    let mut any = false;
    while let Some((id, job)) = cx.jobs.poll_start(cx.now) {
        note(id, What::JobBegun, cx);
        cx.sys.start(id, job);
        any = true;
    }
    any
}

/// Writes what became of a job, if anybody looks, for each session that it is for.
fn note<S: Sys>(id: JobId, what: impl Fn(StateName) -> What, cx: &mut Context<S>) {
    if !cx.inside.ring.is_on() {
        return;
    }
    let now = match cx.inside.ring.is_kept() {
        true => cx.sys.now(),
        false => cx.now,
    };
    let Some((kind, claims)) = cx.jobs.claims_to(id) else {
        return;
    };
    let kind = cx.inside.ring.number(kind.name());
    for waiter in claims {
        let whose = match waiter {
            Waiter::Session(id) | Waiter::Sending(id) => id,
            _ => LOOP,
        };
        cx.inside.ring.push(now, whose, what(kind));
    }
}
