//! The pipes of a reactor: lent to the sides of sessions while something goes through them
//! (`relay`), so many and no more.

use crate::sys::Sys;

/// Pipes that are kept for the next who needs one.
const KEPT_MAX: usize = 16;

/// The pipes of a reactor.
pub(crate) struct Pipes<P> {
    kept: Vec<P>,
    /// Those that sessions have.
    lent: usize,
    lent_max: usize,
}

impl<P> Pipes<P> {
    pub(super) fn new(lent_max: usize) -> Self {
        Self {
            kept: Vec::new(),
            lent: 0,
            lent_max,
        }
    }

    /// Another number for those that are lent from now on.
    pub(super) fn set_max(&mut self, lent_max: usize) {
        self.lent_max = lent_max;
    }

    pub(super) fn lend<S: Sys<Pipe = P>>(&mut self, sys: &mut S) -> Option<P> {
        if self.lent >= self.lent_max {
            return None;
        }
        let pipe = self.kept.pop().or_else(|| sys.pipe().ok())?;
        self.lent += 1;
        Some(pipe)
    }

    /// Takes a pipe back. `is_empty`: nothing is in it.
    pub(super) fn take_back<S: Sys<Pipe = P>>(&mut self, pipe: P, is_empty: bool, sys: &mut S) {
        self.lent -= 1;
        match is_empty && self.kept.len() < KEPT_MAX {
            true => self.kept.push(pipe),
            false => sys.close_pipe(pipe),
        }
    }

    /// Closes those that nobody has.
    pub(super) fn let_go<S: Sys<Pipe = P>>(&mut self, sys: &mut S) {
        for pipe in self.kept.drain(..) {
            sys.close_pipe(pipe);
        }
    }
}
