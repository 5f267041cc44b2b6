//! The kernel of step 7: edge-triggered, and meaner than the real one.
//!
//! Everything is drawn from a seed: how bytes are cut, how many of them a call takes, who is next,
//! which events mean nothing. What a real kernel promises it keeps: an edge for each change, one
//! when there is room again after a call that would have blocked, bytes in order.

use std::io;

/// The far end of a connection, and what the network has of it.
#[derive(Default)]
pub(crate) struct Far {
    pub(crate) question: Vec<u8>,
    /// Bytes of it that have left.
    sent: usize,
    /// What has arrived here and was not read.
    arrived: Vec<u8>,
    end_arrived: bool,
    /// What was written here and has not left: 1,000 bytes at most.
    buffer: Vec<u8>,
    /// A write would have blocked: that there is room again will be told.
    told_full: bool,
    pub(crate) answer: Vec<u8>,
}

/// The kernel, and all that is beyond it.
pub(crate) struct Kernel {
    random: u64,
    pub(crate) all: Vec<Far>,
}

impl Kernel {
    pub(crate) fn new(seed: u64) -> Self {
        Self {
            random: 2 * seed + 1,
            all: Vec::new(),
        }
    }

    /// A client connects that will ask this.
    pub(crate) fn connect(&mut self, question: Vec<u8>) {
        self.all.push(Far {
            question,
            ..Far::default()
        });
    }

    /// A number below a bound (xorshift: Marsaglia 2003).
    pub(crate) fn below(&mut self, bound: usize) -> usize {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random % bound as u64) as usize
    }

    /// Something happens; the edges of it: who, readable, writable. None when all is still.
    pub(crate) fn poll(&mut self) -> Option<(usize, bool, bool)> {
        let first = self.below(self.all.len());
        let order = (0..self.all.len()).map(|place| (first + place) % self.all.len());
        for who in order.collect::<Vec<_>>() {
            let (spurious, piece, taken) = (self.below(16), self.below(700), self.below(900));
            let far = &mut self.all[who];
            if spurious == 0 && !far.end_arrived {
                return Some((who, false, true));
            }
            let is_slow = spurious % 4 > 0 && !far.end_arrived;
            if !far.buffer.is_empty() && !is_slow {
                let taken = far.buffer.drain(..(1 + taken).min(far.buffer.len()));
                far.answer.extend(taken);
                return Some((who, false, std::mem::take(&mut far.told_full)));
            }
            if !far.end_arrived {
                let to = (far.sent + piece).min(far.question.len());
                far.arrived.extend(&far.question[far.sent..to]);
                far.end_arrived = to == far.question.len();
                far.sent = to;
                return Some((who, true, false));
            }
        }
        None
    }

    pub(crate) fn read(&mut self, who: usize, into: &mut [u8]) -> io::Result<usize> {
        let count = 1 + self.below(into.len());
        let far = &mut self.all[who];
        let count = count.min(far.arrived.len());
        if count == 0 && !far.end_arrived {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        into[..count].copy_from_slice(&far.arrived[..count]);
        far.arrived.drain(..count);
        Ok(count)
    }

    pub(crate) fn write(&mut self, who: usize, bytes: &[u8]) -> io::Result<usize> {
        let count = (1 + self.below(500)).min(bytes.len());
        let far = &mut self.all[who];
        far.told_full = far.buffer.len() + count > 1000;
        if far.told_full {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        far.buffer.extend(&bytes[..count]);
        Ok(count)
    }
}
