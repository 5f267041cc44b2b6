//! Work as a budget: how much one call may do before the others get their turn.
//!
//! Bytes alone do not bound a turn: a pipeline of 60-byte requests, each of which looks for a file
//! that is not there, moves little and takes long. So whoever does something says what it costs,
//! and stops when its share is spent. The rules:
//!
//! 1. What is charged is an estimate in nanoseconds, from the table below, and no clock is asked: a
//!    read of it for each request would cost more than it tells, and what a turn does is then the
//!    same in every run, on the simulated kernel too. The estimates are right within a factor of
//!    two on the machine of `loadtest/results.md`; a slower one has longer turns in proportion.
//!    What turns really take is in `/metrics` (`netlab_turn_seconds`).
//! 2. A step is charged when it is done, and none is begun once [`Work::is_spent`]. So however
//!    small a share is, one step is made, and a share is exceeded by one step at most. Steps are
//!    short: what is long is cut into pieces.
//! 3. Whose share is spent is called again in the next turn, behind all that came meanwhile. The
//!    reactor sees to that; a protocol has only to return.

use std::time::Duration;

/// One request read and answered from memory.
pub const REQUEST_NS: u32 = 300;
/// One byte of a head.
pub const HEAD_BYTE_NS: u32 = 1;
/// One answer that is written for its request alone: an error, a redirect, a preflight.
pub const WRITTEN_NS: u32 = 600;
/// One name looked for on the disk, found or not, where the kernel remembers it.
pub const LOOKUP_NS: u32 = 1_000;
/// One file opened and read, and the answer that is made of it.
pub const MADE_NS: u32 = 8_000;
/// One part of an answer with several ranges.
pub const RANGE_NS: u32 = 300;
/// One byte of a page about the process.
pub const PAGE_BYTE_NS: u32 = 3;
/// One record of what the loop did, written as text.
pub const RECORD_NS: u32 = 500;
/// What the operating system says about the process.
pub const PROCESS_NS: u32 = 30_000;
/// One name looked at for a listing, or one row written.
pub const ROW_NS: u32 = 2_000;
/// One step of an archive: a name found and packed, or a piece read.
pub const PACKED_NS: u32 = 10_000;
/// One piece of a body taken apart: a chunk, or all that came of a body with a length.
pub const PIECE_NS: u32 = 50;
/// One file begun or finished by an upload, with the system calls that it takes.
pub const FILE_NS: u32 = 15_000;
/// One character upper-cased on its own, outside of ASCII.
pub const CHARACTER_NS: u32 = 35;
/// So many bytes of ASCII upper-cased in a nanosecond.
pub const ASCII_BYTES_PER_NS: usize = 16;
/// One datagram received and answered.
pub const DATAGRAM_NS: u32 = 1_500;
/// One more datagram of a run that the kernel received as one.
pub const RUN_DATAGRAM_NS: u32 = 150;
/// One signature of a datagram checked (HMAC-SHA-256).
pub const SIGNATURE_NS: u32 = 700;
/// One connection accepted.
pub const ACCEPT_NS: u32 = 5_000;
/// One system call that moves bytes of a stream.
pub const CALL_NS: u32 = 2_500;
/// So many bytes moved between a socket and memory, or a file, in a microsecond.
pub const BYTES_PER_US: usize = 10_000;
/// So many bytes encrypted or decrypted in a microsecond.
pub const TLS_BYTES_PER_US: usize = 3_000;

/// So many bytes hashed by SHA-256 in a microsecond, by a processor that has instructions for it.
pub const HASHED_BYTES_PER_US: usize = 1_200;

/// The least share, however many there are: less would go into beginning and ending.
const SHARE_NS_MIN: u32 = 50_000;

/// What may still be done.
#[derive(Clone, Copy, Debug)]
pub struct Work {
    share_ns: u32,
    done_ns: u32,
}

impl Work {
    /// A share of so much.
    pub fn new(share: Duration) -> Self {
        Self::of_ns(u32::try_from(share.as_nanos()).unwrap_or(u32::MAX))
    }

    fn of_ns(share_ns: u32) -> Self {
        Self {
            share_ns,
            done_ns: 0,
        }
    }

    /// Something was done that takes so long.
    #[inline]
    pub fn charge(&mut self, ns: u32) {
        self.done_ns = self.done_ns.saturating_add(ns);
    }

    /// The same for several of a kind.
    #[inline]
    pub fn charge_each(&mut self, count: usize, ns: u32) {
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        self.charge(count.saturating_mul(ns));
    }

    /// Whether nothing more may be begun.
    #[inline]
    pub fn is_spent(&self) -> bool {
        self.done_ns >= self.share_ns
    }

    /// What was charged so far, in nanoseconds.
    #[inline]
    pub fn done_ns(&self) -> u32 {
        self.done_ns
    }

    /// How many steps of this cost may still be made: one at least, unless it is spent.
    pub fn steps(&self, ns: u32) -> usize {
        (self.share_ns.saturating_sub(self.done_ns)).div_ceil(ns.max(1)) as usize
    }
}

/// The work of a whole turn, from which everybody gets a share.
#[derive(Clone, Copy, Debug)]
pub struct TurnWork {
    left_ns: u32,
    share_ns_max: u32,
}

impl TurnWork {
    /// A turn of `all`, of which nobody gets more than `one`.
    pub fn new(all: Duration, one: Duration) -> Self {
        let ns = |span: Duration| u32::try_from(span.as_nanos()).unwrap_or(u32::MAX);
        Self {
            left_ns: ns(all),
            share_ns_max: ns(one),
        }
    }

    /// The share of the next one of `waiting` that still wait: what is left is theirs in equal
    /// parts, so that what some do not need is for those behind them.
    #[inline]
    pub fn share(&self, waiting: usize) -> Work {
        let waiting = u32::try_from(waiting.max(1)).unwrap_or(u32::MAX);
        let is_enough = self.left_ns / 2 >= waiting.saturating_mul(self.share_ns_max / 2);
        Work::of_ns(match is_enough {
            true => self.share_ns_max,
            false => (self.left_ns / waiting)
                .max(SHARE_NS_MIN)
                .min(self.share_ns_max),
        })
    }

    /// Takes what somebody did.
    #[inline]
    pub fn take(&mut self, work: &Work) {
        self.left_ns = self.left_ns.saturating_sub(work.done_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: Duration = Duration::from_micros(1);

    #[test]
    fn one_step_is_made_however_small_the_share_and_none_beyond_it() {
        let mut work = Work::new(Duration::from_nanos(1));
        assert!(!work.is_spent());
        work.charge(REQUEST_NS);
        assert!(work.is_spent());
        assert_eq!(work.done_ns(), REQUEST_NS);
        assert_eq!(Work::new(10 * US).steps(3_000), 4);
        work.charge_each(usize::MAX, u32::MAX);
        assert_eq!((work.done_ns(), work.steps(1)), (u32::MAX, 0));
    }

    #[test]
    fn what_is_left_of_a_turn_is_shared_by_those_who_wait() {
        let mut turn = TurnWork::new(8_000 * US, 1_000 * US);
        let steps = |turn: &TurnWork, waiting| turn.share(waiting).steps(1_000);
        assert_eq!(steps(&turn, 0), 1_000);
        assert_eq!(steps(&turn, 8), 1_000);
        assert_eq!(steps(&turn, 20), 400);
        let mut used = turn.share(20);
        used.charge(20_000);
        turn.take(&used);
        assert_eq!(steps(&turn, 19), 420);
        // Nobody gets next to nothing.
        assert_eq!(steps(&turn, 100_000), 50);
    }

    #[test]
    fn nobody_gets_more_than_one_may() {
        let turn = TurnWork::new(8_000 * US, 10 * US);
        assert_eq!(turn.share(100_000).steps(1_000), 10);
    }
}
