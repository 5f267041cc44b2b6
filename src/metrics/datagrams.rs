//! What listeners over datagrams count.

use crate::wire::heartbeat::Counts;

/// A listener over datagrams.
#[derive(Debug, Default, Clone)]
pub struct DatagramMetrics {
    /// Datagrams received.
    pub received: u64,
    /// Datagrams sent in answer.
    pub sent: u64,
    /// Datagrams and answers that were dropped, in the order of [`Cause::ALL`].
    pub dropped: [u64; Cause::ALL.len()],
    /// Answers that are held back now.
    pub waiting: u64,
    /// What the kernel dropped because the socket's buffer was full, as far as it was asked for it.
    pub kernel_drops: u64,
}

/// A simulated bad network.
#[derive(Debug, Default, Clone)]
pub struct PingMetrics {
    /// Its datagrams; what was lost on purpose is among those dropped.
    pub datagrams: DatagramMetrics,
    /// Answers to which something else was done on purpose, in the order of [`Impairment::ALL`].
    pub impaired: [u64; Impairment::ALL.len()],
}

/// What may be done to an answer on purpose, beside losing it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Impairment {
    /// There is one more of it.
    Duplicated,
    /// It is held back so that others overtake it.
    Reordered,
    /// One bit of it is flipped.
    Corrupted,
    /// It waits, for whatever reason.
    Delayed,
}

impl Impairment {
    /// All of them, in the order of their numbers.
    pub const ALL: [Impairment; 4] = [
        Impairment::Duplicated,
        Impairment::Reordered,
        Impairment::Corrupted,
        Impairment::Delayed,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Impairment::Duplicated => "duplicated",
            Impairment::Reordered => "reordered",
            Impairment::Corrupted => "corrupted",
            Impairment::Delayed => "delayed",
        }
    }
}

/// Why a datagram or an answer was dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// Its source is denied, or not among those that are allowed.
    Deny,
    /// Its source sent more than `source_rate_max`.
    Rate,
    /// What sent it may answer the answer.
    Loop,
    /// On purpose, to simulate loss.
    Loss,
    /// It was not what the service expects.
    Malformed,
    /// The socket did not take the answer, or its service was replaced while it waited.
    Unsent,
    /// A table or queue was full.
    Full,
    /// The kernel cut it: it was longer than any datagram may be.
    Truncated,
    /// On purpose, in a simulated burst of losses.
    Burst,
    /// On purpose: the queue of a simulated line was full.
    Queue,
    /// It is not signed, or not with the secret.
    Unsigned,
}

impl Cause {
    /// All of them, in the order of their numbers.
    pub const ALL: [Cause; 11] = [
        Cause::Deny,
        Cause::Rate,
        Cause::Loop,
        Cause::Loss,
        Cause::Malformed,
        Cause::Unsent,
        Cause::Full,
        Cause::Truncated,
        Cause::Burst,
        Cause::Queue,
        Cause::Unsigned,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Cause::Deny => "deny",
            Cause::Rate => "rate",
            Cause::Loop => "loop",
            Cause::Loss => "loss",
            Cause::Malformed => "malformed",
            Cause::Unsent => "unsent",
            Cause::Full => "full",
            Cause::Truncated => "truncated",
            Cause::Burst => "burst",
            Cause::Queue => "queue",
            Cause::Unsigned => "unsigned",
        }
    }
}

/// What a monitor of heartbeats knows of all its senders together.
#[derive(Debug, Default, Clone)]
pub struct HeartbeatMetrics {
    /// Its datagrams.
    pub datagrams: DatagramMetrics,
    /// Senders by what they are taken to be, in the order of
    /// [`State`](crate::wire::heartbeat::State): up, late, dead.
    pub senders: [u64; 3],
    /// Changes told, in the order of [`Change`](crate::wire::heartbeat::Change): new, late, dead,
    /// back.
    pub changes: [u64; 4],
    /// Sequence numbers that were skipped and did not come since; it shrinks when one comes after
    /// all.
    pub lost: u64,
    /// Heartbeats that came a second time.
    pub duplicates: u64,
    /// Heartbeats that came after a later one.
    pub reordered: u64,
    /// How often a sender began again, with a lower number or a far higher one.
    pub restarts: u64,
    /// How often a sender's clock was set while it ran.
    pub clock_steps: u64,
    /// How often a sender said that it ends.
    pub downs: u64,
    /// Senders that made room for others in a full table.
    pub evicted: u64,
    /// Heartbeats that were taken for some: what was received and not dropped.
    pub accepted: u64,
}

impl HeartbeatMetrics {
    /// Adds what one heartbeat changed in the counts of its sender. Those are bounded, so the sums
    /// do not overflow, and what one sender adds can be taken off again.
    pub fn count(&mut self, before: Counts, after: Counts) {
        self.lost = self.lost + after.lost - before.lost;
        self.duplicates += after.duplicates - before.duplicates;
        self.reordered += after.reordered - before.reordered;
        self.restarts += after.restarts - before.restarts;
        self.clock_steps += after.clock_steps - before.clock_steps;
        self.downs += after.downs - before.downs;
    }
}
