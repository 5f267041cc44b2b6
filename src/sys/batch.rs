//! Room for datagrams that are received together, and how they lie in it.
//!
//! One slot takes what one message of the kernel holds: a datagram, or a *run* of them, which one
//! source sent and the kernel did not take apart (`UDP_GRO`): all are of one length but the last,
//! which may be shorter. An empty datagram is a message of its own. What the kernel cut because the
//! slot was too short is marked: only the last datagram of a run can be.

use std::net::SocketAddr;
use std::ops::Range;

use crate::service::datagram::{DATAGRAM_BYTES_MAX, Outbox, Place, Reply};

/// Replies that were dropped because the socket did not take them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unsent {
    /// How many.
    pub replies: usize,
    /// The bytes that they hold together.
    pub bytes: usize,
}

impl Unsent {
    pub(crate) fn add(&mut self, more: &Unsent) {
        self.replies += more.replies;
        self.bytes += more.bytes;
    }
}

/// What one slot holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Who sent it.
    pub from: SocketAddr,
    /// Bytes of all of its datagrams.
    pub len: usize,
    /// Bytes of each datagram but the last; at least 1.
    pub segment_bytes: usize,
    /// The last datagram was longer than the room that was left for it (`MSG_TRUNC`).
    pub is_cut: bool,
}

impl Received {
    /// How many datagrams: at least one, which may be empty.
    pub fn datagrams(&self) -> usize {
        self.len.div_ceil(self.segment_bytes).max(1)
    }

    /// Where in the slot a datagram stands.
    pub fn datagram(&self, number: usize) -> Range<usize> {
        let start = (number * self.segment_bytes).min(self.len);
        start..(start + self.segment_bytes).min(self.len)
    }
}

/// Room for one batch of received datagrams.
pub struct Batch {
    memory: Vec<u8>,
    slot_bytes: usize,
    received: Vec<Received>,
}

impl Batch {
    /// Slots in a batch.
    pub const SLOTS: usize = 64;
    /// Between the end of one slot and the next. Slots at multiples of 64 KiB would all compete for
    /// the same sets of the processor's caches.
    const GAP: usize = 201;

    /// Room for [`Batch::SLOTS`] messages of any length; memory is touched only as far as they are
    /// long.
    pub fn new() -> Self {
        Self::of_slots(DATAGRAM_BYTES_MAX)
    }

    /// The same with slots of so many bytes: longer messages are cut.
    pub fn of_slots(slot_bytes: usize) -> Self {
        Self {
            memory: vec![0; Self::SLOTS * (slot_bytes + Self::GAP)],
            slot_bytes,
            received: Vec::with_capacity(Self::SLOTS),
        }
    }

    fn start(&self, slot: usize) -> usize {
        slot * (self.slot_bytes + Self::GAP)
    }

    /// Where its memory begins, and how long a slot is: the same for as long as it lives.
    pub(crate) fn place(&self) -> (*const u8, usize) {
        (self.memory.as_ptr(), self.slot_bytes)
    }

    /// The whole of one slot.
    pub fn slot_mut(&mut self, slot: usize) -> &mut [u8] {
        let start = self.start(slot);
        &mut self.memory[start..][..self.slot_bytes]
    }

    /// The bytes of a reply: where they arrived, or in the outbox.
    pub(crate) fn reply_bytes<'a>(&'a self, out: &'a Outbox, reply: &Reply) -> &'a [u8] {
        match reply.place {
            Place::Batch(offset) => &self.memory[offset..][..reply.len],
            Place::Arena(offset) => &out.arena[offset..][..reply.len],
        }
    }

    /// Forgets what was received.
    pub fn clear(&mut self) {
        self.received.clear();
    }

    /// The next slot holds one datagram.
    pub fn received(&mut self, from: SocketAddr, len: usize) {
        self.received_run(Received {
            from,
            len,
            segment_bytes: len.max(1),
            is_cut: false,
        });
    }

    /// The next slot holds this.
    pub fn received_run(&mut self, message: Received) {
        debug_assert!(message.segment_bytes > 0 && message.len <= self.slot_bytes);
        self.received.push(message);
    }

    /// How many slots hold something.
    pub fn len(&self) -> usize {
        self.received.len()
    }

    /// Whether none does.
    pub fn is_empty(&self) -> bool {
        self.received.is_empty()
    }

    /// What a slot holds, if anything.
    #[inline]
    pub fn message(&self, slot: usize) -> Option<Received> {
        self.received.get(slot).copied()
    }

    /// Who sent what a slot holds, and its bytes.
    pub fn message_mut(&mut self, slot: usize) -> (SocketAddr, &mut [u8]) {
        let Received { from, len, .. } = self.received[slot];
        let start = self.start(slot);
        (from, &mut self.memory[start..][..len])
    }

    /// Bytes of a slot, and where they stand for a [`Reply`].
    #[inline]
    pub(crate) fn part_mut(&mut self, slot: usize, range: Range<usize>) -> (usize, &mut [u8]) {
        let offset = self.start(slot) + range.start;
        (offset, &mut self.memory[offset..][..range.len()])
    }
}

impl Default for Batch {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However long a run and its datagrams are, their ranges are the run, each once and in order.
        #[test]
        fn a_run_is_taken_apart_without_rest(len in 0_usize..70_000, segment_bytes in 1_usize..2_000) {
            let from = ([192, 0, 2, 1], 1).into();
            let run = Received { from, len, segment_bytes, is_cut: false };
            let mut end = 0;
            for number in 0..run.datagrams() {
                let range = run.datagram(number);
                prop_assert_eq!(range.start, end);
                let is_last = number + 1 == run.datagrams();
                prop_assert!(is_last || range.len() == segment_bytes);
                prop_assert!(!range.is_empty() || len == 0);
                end = range.end;
            }
            prop_assert_eq!(end, len);
        }
    }
}
