//! How a client takes what waits to be sent to it: what it took since we wait, whether that is
//! enough, and whether the kernel may hold more for it.
//!
//! ```text
//! Nothing waits ──the session parks with output──▶ it is waited for ──all was sent──▶ nothing waits: `drained` is news
//!                                                   └── each write time-out: recounted; too little ──▶ the session ends
//! ```
//!
//! How much the kernel may hold for a client goes by how fast it takes, not by what it once took:
//!
//! ```text
//! 128 KiB ⇄ 512 KiB ⇄ 2 MiB ⇄ as much as the kernel sees fit
//!    ──▶ one step, when twice as much as may be held was taken within TRUST_TIME
//!    ◀── one step, when less than a quarter as much was taken in more than that
//! ```
//!
//! A client that took next to nothing for a write time-out, or of whose pace nothing is known since
//! twice that time, begins anew. So a client may fill the kernel's memory only with what it takes
//! within seconds at its own pace, and not by reading fast for a moment and slowly from then on.
//!
//! A pure machine: the session tells it what was sent and what the kernel still holds.

use std::time::{Duration, Instant};

use crate::sys::UNTRUSTED_BYTES;

/// The time in which a client must take twice of what the kernel may hold for it before that may be
/// more: at 64 kB/s, the kernel holds 128 KiB and the client is served as well as it can be. It is
/// not a key, since `min_write_rate` holds for every client.
const TRUST_TIME: Duration = Duration::from_secs(4);
/// Steps of trust, each four times the one before: more of them would let the kernel wake the loop
/// more often for a large file. At the last, the kernel may hold as much as it sees fit (4 MiB by
/// default, `tcp_wmem`).
const TRUST_MAX: u8 = 3;

/// How one client takes what is sent to it.
#[derive(Debug, Default)]
pub(super) struct Taking {
    /// Since when it is waited for; `None` while nothing waits.
    waiting: Option<Count>,
    /// Since when it is counted how fast it takes; `None` before it was first waited for.
    paced: Option<Instant>,
    /// From how many bytes sent on: the low half, since a step is taken before more are sent.
    paced_sent: u32,
    /// Steps up from [`UNTRUSTED_BYTES`] to what the kernel may hold for it.
    trust: u8,
    /// All that waited for it has left, and the protocol was not told yet.
    drained: bool,
}

/// From where on it is counted what the client takes.
#[derive(Clone, Copy, Debug)]
struct Count {
    since: Instant,
    /// Bytes that had left our queue by then, as [`Link::sent`](crate::service::Link::sent) counts
    /// them, without those that the kernel still held for it.
    taken: i64,
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
        let taken = sent.cast_signed() - unsent.cast_signed();
        let last = self.waiting.replace(Count { since: now, taken });
        // Answers that follow one another are one stream.
        if self.is_pace_old(now, TRUST_TIME) {
            self.pace(now, sent);
        }
        let more = last.map_or(0, |last| taken - last.taken);
        u64::try_from(more).unwrap_or(0)
    }

    /// A flush sent something, `sent` bytes in all by now. How many bytes the kernel may hold from
    /// now on, if that is news.
    pub(super) fn flushed(&mut self, now: Instant, sent: u64, has_output: bool) -> Option<u32> {
        self.waiting?;
        let step = self.step(now, sent);
        if !has_output {
            self.waiting = None;
            self.drained = true;
        }
        step
    }

    /// By how fast the client takes: more may be held for it, or less.
    fn step(&mut self, now: Instant, sent: u64) -> Option<u32> {
        let in_time = !self.is_pace_old(now, TRUST_TIME);
        let taken = (sent as u32).wrapping_sub(self.paced_sent);
        let held = held_bytes(self.trust);
        let (is_fast, is_slow) = (taken >= 2 * held, taken < held / 4);
        if in_time && !is_fast {
            return None;
        }
        self.pace(now, sent);
        self.trust(match (in_time, is_slow) {
            (true, _) => (self.trust + 1).min(TRUST_MAX),
            (false, true) => self.trust.saturating_sub(1),
            (false, false) => self.trust,
        })
    }

    /// Counts how fast the client takes from here on.
    fn pace(&mut self, now: Instant, sent: u64) {
        self.paced = Some(now);
        self.paced_sent = sent as u32;
    }

    /// Before something is sent: for a client to which nothing was sent for long, the kernel may
    /// hold little. How many bytes, if that is news.
    pub(super) fn begins_anew(&mut self, now: Instant) -> Option<u32> {
        if self.trust == 0 || self.waiting.is_some() {
            return None;
        }
        match self.is_pace_old(now, 2 * TRUST_TIME) {
            true => self.trust(0),
            false => None,
        }
    }

    /// Whether nothing is known of the client's pace since so long.
    fn is_pace_old(&self, now: Instant, age: Duration) -> bool {
        self.paced
            .is_none_or(|paced| now.saturating_duration_since(paced) > age)
    }

    /// The client took so many bytes in a whole write time-out. How many the kernel may hold from
    /// now on, if that is news.
    pub(super) fn took(&mut self, taken: u64) -> Option<u32> {
        match taken < UNTRUSTED_BYTES.into() {
            true => self.trust(0),
            false => None,
        }
    }

    fn trust(&mut self, trust: u8) -> Option<u32> {
        let before = std::mem::replace(&mut self.trust, trust);
        (before != trust).then_some(match trust {
            TRUST_MAX => u32::MAX,
            _ => held_bytes(trust),
        })
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

/// Bytes that the kernel may hold at a step of trust; at the last, by what it is judged.
fn held_bytes(trust: u8) -> u32 {
    UNTRUSTED_BYTES << (2 * trust)
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

    const KIB: u64 = 1024;

    /// A client for which output waits since `start`, and of whom nothing was sent yet.
    fn waited_for(start: Instant) -> Taking {
        let mut taking = Taking::default();
        taking.recount(start, 0, 0);
        taking
    }

    #[test]
    fn the_kernel_may_hold_more_for_a_client_that_takes_fast() {
        let start = Instant::now();
        let mut taking = Taking::default();
        let not_waited_for = taking.flushed(start, 9000 * KIB, true);
        assert_eq!(not_waited_for, None);
        let mut taking = waited_for(start);
        let news: Vec<(u64, u32)> = (0..20_000)
            .filter_map(|kib| Some((kib, taking.flushed(start, kib * KIB, true)?)))
            .collect();
        let expected = [
            (256, 512 << 10),
            (256 + 1024, 2 << 20),
            (256 + 1024 + 4096, u32::MAX),
        ];
        assert_eq!(news, expected);
    }

    #[test]
    fn answers_that_follow_one_another_count_together() {
        let (start, mut taking, mut sent) = (Instant::now(), Taking::default(), 0);
        for _ in 0..20 {
            taking.recount(start, sent + 100 * KIB, 0);
            sent += 300 * KIB;
            let _ = taking.flushed(start, sent, false);
        }
        assert_eq!(taking.trust, TRUST_MAX);
    }

    #[test]
    fn a_client_that_takes_slowly_never_gets_there() {
        let start = Instant::now();
        let mut taking = waited_for(start);
        for second in 0..3600 {
            let now = start + Duration::from_secs(second);
            assert_eq!(taking.flushed(now, second * 60_000, true), None);
        }
    }

    #[test]
    fn who_takes_fast_and_then_slowly_is_trusted_less_and_less() {
        let start = Instant::now();
        let mut taking = waited_for(start);
        let fast = 8000 * KIB;
        for kib in 0..8000 {
            let _ = taking.flushed(start, kib * KIB, true);
        }
        assert_eq!(taking.trust, TRUST_MAX);
        let news: Vec<u32> = (0..100)
            .filter_map(|second| {
                let now = start + Duration::from_secs(second);
                taking.flushed(now, fast + second * 300, true)
            })
            .collect();
        assert_eq!(news, [2 << 20, 512 << 10, 128 << 10]);
    }

    #[test]
    fn who_takes_next_to_nothing_or_got_nothing_for_long_begins_anew() {
        let start = Instant::now();
        let trusted = || {
            let mut taking = waited_for(start);
            assert_eq!(taking.flushed(start, 256 * KIB, true), Some(512 << 10));
            taking
        };
        assert_eq!(trusted().took(20_000), Some(UNTRUSTED_BYTES));
        assert_eq!(trusted().took(UNTRUSTED_BYTES.into()), None);
        assert_eq!(waited_for(start).took(0), None, "it is so already");
        let mut taking = trusted();
        let soon = start + TRUST_TIME;
        let later = start + TRUST_TIME * 3;
        assert_eq!(taking.begins_anew(later), None, "it is waited for");
        assert_eq!(taking.flushed(soon, 400 * KIB, false), None);
        assert_eq!(taking.begins_anew(start + 2 * TRUST_TIME), None);
        assert_eq!(taking.begins_anew(later), Some(UNTRUSTED_BYTES));
        assert_eq!(taking.begins_anew(later), None);
    }

    #[test]
    fn a_drained_queue_is_told_once() {
        let (mut taking, now) = (Taking::default(), Instant::now());
        taking.flushed(now, 5, false);
        assert!(!taking.is_drained(), "nothing waited");
        taking.recount(now, 5, 0);
        taking.flushed(now, 6, true);
        assert!(!taking.is_drained());
        taking.flushed(now, 7, false);
        assert!(taking.is_drained() && !taking.is_waited_for());
        assert!(taking.take_drained() && !taking.take_drained());
    }
}
