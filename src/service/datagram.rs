//! The contract between the reactor and a protocol over datagrams.

use std::net::SocketAddr;
use std::time::{Instant, SystemTime};

use super::work::Work;
use crate::hooks::Call;
use crate::metrics::{DatagramMetrics, ListenerMetrics, Of};

/// The longest datagram that a socket carries, in bytes: the largest UDP payload over IPv6 (RFC 768
/// with RFC 8200's payload length). IPv4 allows 20 bytes less.
pub const DATAGRAM_BYTES_MAX: usize = 65_527;

/// A protocol over datagrams: one state for the whole socket.
pub trait DatagramService {
    /// What its listener counts beside the bytes: nothing counted yet.
    fn counts() -> Of
    where
        Self: Sized,
    {
        Of::Datagrams(DatagramMetrics::default())
    }

    /// A datagram arrived: `io.payload` may be changed in place and sent back from there.
    fn receive(&mut self, io: &mut DatagramIo<'_>);

    /// The deadline passed: answer what was delayed, declare dead who was silent. What `work` does
    /// not allow now is done in the next turn, as long as the deadline has still passed then.
    fn advance(
        &mut self,
        _out: &mut Outbox,
        _now: Instant,
        _metrics: &mut ListenerMetrics,
        _work: &mut Work,
    ) {
    }

    /// When `advance` is to be called, if ever.
    fn deadline(&self) -> Option<Instant> {
        None
    }
}

/// One datagram and the ways to answer it.
pub struct DatagramIo<'a> {
    /// The moment of this turn.
    pub now: Instant,
    /// The same by the wall clock.
    pub wall: SystemTime,
    /// Who sent it.
    pub from: SocketAddr,
    /// Its bytes; changed in place and sent back by [`DatagramIo::echo`] without a copy.
    pub payload: &'a mut [u8],
    /// Where answers go.
    pub out: &'a mut Outbox,
    /// What is counted of this listener.
    pub metrics: &'a mut ListenerMetrics,
    /// What may still be done in this turn: what is done beyond [`work::DATAGRAM_NS`] is charged.
    ///
    /// [`work::DATAGRAM_NS`]: super::work::DATAGRAM_NS
    pub work: &'a mut Work,
    pub(crate) slot: usize,
}

impl DatagramIo<'_> {
    /// Answers with the payload as it now stands.
    pub fn echo(&mut self) {
        self.out.replies.push(Reply {
            to: self.from,
            bytes: ReplyBytes::Slot(self.slot, self.payload.len()),
        });
    }

    /// Answers with other bytes.
    pub fn reply(&mut self, bytes: &[u8]) {
        self.out.send(self.from, bytes);
    }
}

/// Datagrams to be sent with the next batch, and commands to be run.
#[derive(Debug, Default)]
pub struct Outbox {
    pub(crate) replies: Vec<Reply>,
    pub(crate) arena: Vec<u8>,
    /// Commands that are to be run.
    pub(crate) calls: Vec<Call>,
}

/// One datagram to be sent.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) to: SocketAddr,
    pub(crate) bytes: ReplyBytes,
}

/// Where its bytes stand.
#[derive(Debug)]
pub(crate) enum ReplyBytes {
    /// In the slot that it arrived in.
    Slot(usize, usize),
    /// In the outbox's arena: offset and length.
    Arena(usize, usize),
}

impl Outbox {
    /// Sends a copy of `bytes`.
    pub fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        let start = self.arena.len();
        self.arena.extend_from_slice(bytes);
        self.replies.push(Reply {
            to,
            bytes: ReplyBytes::Arena(start, bytes.len()),
        });
    }

    /// Runs a command because of what happened. Nobody waits for it.
    pub fn run(&mut self, call: Call) {
        self.calls.push(call);
    }

    /// Forgets the datagrams, keeping the memory.
    pub(crate) fn clear(&mut self) {
        self.replies.clear();
        self.arena.clear();
    }
}
