//! How a client takes what waits to be sent to it: what it took since we wait, whether that is
//! enough, and whether the kernel may hold more for it.
//!
//! ```text
//! Nothing waits ──the session parks with output──▶ it is waited for ──all was sent──▶ nothing waits: `drained` is news
//!                                                   └── each write time-out: recounted; too little ──▶ the session ends
//! ```
//!
//! A pure machine: the session tells it what was sent and what the kernel still holds.

use std::time::{Duration, Instant};

/// After a client that was waited for took this many bytes, the kernel may hold more for it. Twice
/// what the kernel holds for a client without trust (`UNTRUSTED_BYTES_MAX` in `sys/unix`), so half
/// of it has really left. It is not a key, since `min_write_rate` holds for such a client too.
pub(super) const TRUSTED_BYTES: u64 = 256 * 1024;

/// How one client takes what is sent to it.
#[derive(Debug, Default)]
pub(super) struct Taking {
    /// Since when it is waited for; `None` while nothing waits.
    waiting: Option<Count>,
    trusted: bool,
    /// All that waited for it has left, and the protocol was not told yet.
    drained: bool,
}

/// From where on it is counted what the client takes.
#[derive(Clone, Copy, Debug)]
struct Count {
    since: Instant,
    /// Bytes that had left our queue by then, as [`Link::sent`](crate::service::Link::sent) counts
    /// them.
    sent: u64,
    /// Bytes that the kernel still held for it then.
    unsent: u64,
}

impl Taking {
    /// Whether something waits for the client.
    pub(super) fn is_waited_for(&self) -> bool {
        self.waiting.is_some()
    }

    /// When the client must have taken enough; `None` while nothing waits.
    pub(super) fn until(&self, write_timeout: Duration) -> Option<Instant> {
        self.waiting.map(|count| count.since + write_timeout)
    }

    /// Counts from here on, with `sent` bytes sent in all and `unsent` held by the kernel. How many
    /// bytes the client took since the last count: those that left our queue, and what the kernel's
    /// holds less. The kernel's queue counts, because it tells of room only when a third of it is
    /// free, which at a slow client's pace may take minutes.
    pub(super) fn recount(&mut self, now: Instant, sent: u64, unsent: u64) -> u64 {
        let last = self.waiting.replace(Count {
            since: now,
            sent,
            unsent,
        });
        last.map_or(0, |last| {
            (sent - last.sent + last.unsent).saturating_sub(unsent)
        })
    }

    /// A flush sent something, `sent` bytes in all by now. Whether the client has just earned
    /// trust.
    pub(super) fn flushed(&mut self, sent: u64, has_output: bool) -> bool {
        let Some(count) = self.waiting else {
            return false;
        };
        let earned = !self.trusted && sent - count.sent >= TRUSTED_BYTES;
        self.trusted |= earned;
        if !has_output {
            self.waiting = None;
            self.drained = true;
        }
        earned
    }

    /// Whether the protocol is to be told that all that waited has left.
    pub(super) fn is_drained(&self) -> bool {
        self.drained
    }

    /// The same, told now.
    pub(super) fn take_drained(&mut self) -> bool {
        std::mem::take(&mut self.drained)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_left_our_queue_and_what_left_the_kernels_count_as_taken() {
        let (mut taking, start) = (Taking::default(), Instant::now());
        assert_eq!(taking.until(Duration::from_secs(10)), None);
        assert_eq!(taking.recount(start, 1000, 500), 0, "it begins here");
        assert!(taking.is_waited_for());
        let second = start + Duration::from_secs(1);
        assert_eq!(taking.recount(second, 1300, 450), 350);
        assert_eq!(
            taking.recount(second, 1300, 600),
            0,
            "the kernel took more in"
        );
        assert_eq!(
            taking.until(Duration::from_secs(10)),
            Some(second + Duration::from_secs(10))
        );
    }

    #[test]
    fn trust_is_earned_once_by_bytes_taken_while_they_were_waited_for() {
        let mut taking = Taking::default();
        assert!(!taking.flushed(10 * TRUSTED_BYTES, true), "nobody waited");
        taking.recount(Instant::now(), 7, 0);
        assert!(!taking.flushed(7 + TRUSTED_BYTES - 1, true));
        assert!(taking.flushed(7 + TRUSTED_BYTES, true));
        assert!(!taking.flushed(7 + 2 * TRUSTED_BYTES, true), "only once");
    }

    #[test]
    fn a_drained_queue_is_told_once() {
        let mut taking = Taking::default();
        assert!(
            !taking.flushed(5, false) && !taking.is_drained(),
            "nothing waited"
        );
        taking.recount(Instant::now(), 5, 0);
        taking.flushed(6, true);
        assert!(!taking.is_drained());
        taking.flushed(7, false);
        assert!(taking.is_drained() && !taking.is_waited_for());
        assert!(taking.take_drained() && !taking.take_drained());
    }
}
