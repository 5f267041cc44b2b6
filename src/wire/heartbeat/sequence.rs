//! The numbers of one sender's heartbeats: which were skipped, came twice, or late.
//!
//! Loss is counted by gaps; a number from a gap that comes after all was reordered, not lost. What
//! is a sender that began again is decided by its clock as well, see [`super::clock`].

/// How many sequence numbers below the highest are remembered, to tell a duplicate from a late
/// arrival.
pub const WINDOW: u64 = 128;

/// The widest step between two numbers that is taken for a loss: at a hundred a second, three hours
/// of it. Beyond it the sender began again.
pub const GAP_MAX: u64 = 1 << 20;

/// What a number is beside those that came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// The highest so far, so many above the one before.
    Next(u64),
    /// The first of a sender that began again.
    Restart,
    /// It was skipped, or sent before the first one that came, and came after a later one. One that
    /// is too old to tell is taken for one. Whether it had been counted as lost.
    Reordered(bool),
    /// It came before.
    Duplicate,
}

/// The numbers that came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sequence {
    /// The first since the sender began.
    first: u64,
    highest: u64,
    /// Bit N: the number `highest - N` came.
    window: u128,
}

impl Sequence {
    pub(super) fn new(first: u64) -> Self {
        Self {
            first,
            highest: first,
            window: 1,
        }
    }

    pub(super) fn highest(&self) -> u64 {
        self.highest
    }

    /// Whether the number is remembered as one that has not come.
    pub(super) fn misses(&self, number: u64) -> bool {
        let age = self.highest.checked_sub(number);
        age.is_some_and(|age| age < WINDOW && self.window & (1 << age) == 0)
    }

    /// Whether it is too far below the highest to be remembered.
    pub(super) fn is_too_old(&self, number: u64) -> bool {
        self.highest
            .checked_sub(number)
            .is_some_and(|age| age >= WINDOW)
    }

    /// Enters a number. `began_again`: if it is not above the highest, the sender began again.
    pub(super) fn take(&mut self, number: u64, began_again: bool) -> Place {
        match number.checked_sub(self.highest) {
            Some(step @ 1..=GAP_MAX) => {
                let kept = if step < WINDOW {
                    self.window << step
                } else {
                    0
                };
                (self.highest, self.window) = (number, kept | 1);
                Place::Next(step)
            }
            Some(1..) => self.restart(number),
            _ if began_again => self.restart(number),
            _ => {
                let age = self.highest - number;
                let bit = if age < WINDOW { 1 << age } else { 0 };
                if self.window & bit != 0 {
                    return Place::Duplicate;
                }
                self.window |= bit;
                Place::Reordered(number > self.first)
            }
        }
    }

    /// Forgets which numbers came: the sender counts from another one now.
    fn restart(&mut self, number: u64) -> Place {
        *self = Self::new(number);
        Place::Restart
    }
}
