//! Between the commands that are to be run and the kernel: the twin of `disk`.
//!
//! [`crate::hooks`] is a pure machine; this carries what it wants run to the kernel, and what became
//! of it back.

use super::context::Context;
use crate::sys::Sys;

/// Takes back those that ended, kills those that took too long, and begins as many as may run.
pub(super) fn serve<S: Sys>(cx: &mut Context<S>) {
    if cx.hooks.is_idle() {
        return;
    }
    loop {
        while let Some((id, end)) = cx.sys.exited() {
            cx.hooks.exited(id, &end, cx.now);
        }
        while let Some(id) = cx.hooks.poll_kill(cx.now) {
            cx.sys.kill(id);
        }
        // One that could not be begun has ended already, which no event tells of: so the kernel is
        // asked again after the last of them.
        let Some((id, program)) = cx.hooks.poll_start(cx.now) else {
            return;
        };
        cx.sys.spawn(id, program);
    }
}
