//! The protocol of steps 6 and 7: no socket, no clock, nothing that waits.

use std::time::{Duration, Instant};

/// Bytes that may wait in each direction.
pub(crate) const BYTES_MAX: usize = 64 * 1024;

/// What a protocol sees of its client.
#[derive(Default)]
pub(crate) struct Link {
    /// What came and was not consumed: the loop reads while there is room.
    pub(crate) received: Vec<u8>,
    /// The client has sent its last byte.
    pub(crate) ended: bool,
    /// What is to be sent.
    pub(crate) to_send: Vec<u8>,
    /// The protocol is done: what is to be sent is sent, then it is over.
    pub(crate) closed: bool,
}

/// A protocol.
pub(crate) trait Protocol {
    /// Does what the facts allow. Called again with the same facts, it does nothing.
    fn advance(&mut self, link: &mut Link, now: Instant);
    /// Until when it wants to be called, whatever happens.
    fn deadline(&self) -> Instant;
}

/// The echo in upper case.
pub(crate) struct Upper {
    idle: Duration,
    until: Instant,
}

impl Upper {
    /// For a client that comes now, and may be silent for `idle`.
    pub(crate) fn new(idle: Duration, now: Instant) -> Self {
        let until = now + idle;
        Self { idle, until }
    }
}

impl Protocol for Upper {
    fn advance(&mut self, link: &mut Link, now: Instant) {
        // Input is consumed only as far as its output has room: that is all of backpressure.
        let count = link.received.len().min(BYTES_MAX - link.to_send.len());
        if count > 0 {
            let piece = link.received.drain(..count);
            link.to_send
                .extend(piece.map(|byte| byte.to_ascii_uppercase()));
            self.until = now + self.idle;
        }
        if now >= self.until {
            link.to_send.clear(); // it does not take it
        }
        link.closed |= now >= self.until || (link.ended && link.received.is_empty());
    }

    fn deadline(&self) -> Instant {
        self.until
    }
}
