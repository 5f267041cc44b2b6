//! The pipes of a reactor: lent to the sides of sessions while something goes through them
//! (`relay`, `inlet`), so many and no more.

use crate::pipe::{Pipe, Piped};
use crate::sys::{PlantedBug, Sys};

/// Pipes that are kept for the next who needs one.
const KEPT_MAX: usize = 64;

/// The pipes of a reactor.
pub(crate) struct Pipes {
    kept: Vec<Pipe>,
    /// Those that sessions have.
    lent: usize,
    lent_max: usize,
}

impl Pipes {
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

    pub(super) fn lend<S: Sys>(&mut self, sys: &mut S) -> Option<Pipe> {
        if self.lent >= self.lent_max {
            return None;
        }
        let pipe = self.kept.pop().or_else(|| sys.pipe().ok())?;
        self.lent += 1;
        Some(pipe)
    }

    /// Takes a pipe back. `is_empty`: nothing is in it.
    pub(super) fn take_back<S: Sys>(&mut self, pipe: Pipe, is_empty: bool, sys: &mut S) {
        self.lent -= 1;
        let is_empty = is_empty || sys.planted(PlantedBug::PipeLentFull);
        match is_empty && self.kept.len() < KEPT_MAX {
            true => self.kept.push(pipe),
            false => sys.close_pipe(pipe),
        }
    }

    /// The same, for one that something was in, and may be.
    pub(super) fn take_back_piped<S: Sys>(&mut self, piped: Piped, sys: &mut S) {
        self.take_back(piped.pipe, piped.bytes == 0, sys);
    }

    /// Closes those that nobody has.
    pub(super) fn let_go<S: Sys>(&mut self, sys: &mut S) {
        for pipe in self.kept.drain(..) {
            sys.close_pipe(pipe);
        }
    }
}
