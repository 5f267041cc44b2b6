//! The contract between the reactor and a protocol over datagrams.

use std::fmt;
use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime};

use super::work::Work;
use crate::hooks::Call;
use crate::metrics::{DatagramMetrics, ListenerMetrics, Of};
use crate::wire::heartbeat::{Counts, Differences, State};

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

    /// Datagrams that were taken in and neither answered nor dropped yet.
    fn waiting(&self) -> usize {
        0
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

    /// What is known of at most `most` senders, where a service knows senders.
    fn senders(&self, _now: Instant, _most: usize) -> Option<Senders> {
        None
    }

    /// When `advance` is to be called, if ever.
    fn deadline(&self) -> Option<Instant> {
        None
    }
}

/// Senders that each service tells of at most.
pub const SENDERS_MAX: usize = 1000;

/// The senders that one listener knows.
#[derive(Debug)]
pub struct KnownSenders {
    /// The listener's name.
    pub listener: String,
    /// Where it is bound.
    pub address: String,
    /// At most [`SENDERS_MAX`] of them.
    pub senders: Senders,
}

impl KnownSenders {
    /// Tells the log of them.
    pub(crate) fn log(&self) {
        let Self {
            listener,
            address,
            senders,
        } = self;
        let (shown, omitted) = (senders.rows.len(), senders.omitted);
        log::info!("{listener} at {address}: {} senders", shown + omitted);
        for sender in &senders.rows {
            log::info!("heartbeat sender {sender}");
        }
        if omitted > 0 {
            log::info!("{listener} at {address}: {omitted} more senders");
        }
    }
}

/// Senders that a service knows, and how many more there are.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Senders {
    /// Those that are told of.
    pub rows: Vec<Sender>,
    /// How many are not.
    pub omitted: usize,
}

/// What a service knows of one sender of heartbeats.
#[derive(Debug, Clone, PartialEq)]
pub struct Sender {
    /// Where its datagrams come from.
    pub address: SocketAddr,
    /// Its name for itself, as far as it is kept.
    pub identity: Option<String>,
    /// What it is taken to be.
    pub state: State,
    /// It said that it ends.
    pub is_down: bool,
    /// Since it last gave a sign of life.
    pub silent_for: Duration,
    /// Since it was first heard of.
    pub known_for: Duration,
    /// Its highest number since it began.
    pub sequence: u64,
    /// What was counted of it.
    pub counts: Counts,
    /// The time between two heartbeats, where it is known.
    pub interval: Option<Duration>,
    /// What this machine's clock is ahead of TIME when a heartbeat comes.
    pub differences: Differences,
    /// How unevenly its heartbeats come (RFC 3550, section 6.4.1), in seconds.
    pub jitter_s: f64,
}

impl fmt::Display for Sender {
    /// As the log shows it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (counts, differences) = (&self.counts, &self.differences);
        write!(f, "{} {}", self.address, self.state.name())?;
        if let Some(identity) = &self.identity {
            write!(f, " {identity:?}")?;
        }
        if self.is_down {
            f.write_str(" (down)")?;
        }
        write!(
            f,
            ", silent for {:.1} s, number {}, {} received, {} lost, {} duplicate, {} reordered, \
             {} restarts, {} clock steps, difference {:.6} s, jitter {:.6} s",
            self.silent_for.as_secs_f64(),
            self.sequence,
            counts.received,
            counts.lost,
            counts.duplicates,
            counts.reordered,
            counts.restarts,
            counts.clock_steps,
            differences.last,
            self.jitter_s,
        )
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
    /// Where in its batch the payload stands.
    pub(crate) offset: usize,
}

impl DatagramIo<'_> {
    /// Answers with the payload as it now stands.
    #[inline]
    pub fn echo(&mut self) {
        let (place, len) = (Place::Batch(self.offset), self.payload.len());
        self.out.put(self.from, place, len);
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

/// A datagram to be sent, or a run of them to one peer that lie one after the other: all of one
/// length but the last, which may be shorter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) to: SocketAddr,
    pub(crate) place: Place,
    /// Bytes of all.
    pub(crate) len: usize,
    /// Bytes of each but the last; 0 for one that is empty.
    pub(crate) segment_bytes: usize,
    /// None of them is shorter, so that more may follow.
    pub(crate) is_open: bool,
}

/// Where the bytes of replies begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the memory of the batch in which they arrived.
    Batch(usize),
    /// In the outbox's arena.
    Arena(usize),
}

impl Place {
    /// Where what has so many bytes before it begins.
    #[inline]
    fn after(self, bytes: usize) -> Self {
        match self {
            Place::Batch(offset) => Place::Batch(offset + bytes),
            Place::Arena(offset) => Place::Arena(offset + bytes),
        }
    }
}

impl Reply {
    /// How many datagrams.
    pub(crate) fn datagrams(&self) -> usize {
        match self.segment_bytes {
            0 => 1,
            segment_bytes => self.len.div_ceil(segment_bytes),
        }
    }
}

impl Outbox {
    /// Sends a copy of `bytes`.
    pub fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        let place = Place::Arena(self.arena.len());
        self.arena.extend_from_slice(bytes);
        self.put(to, place, bytes.len());
    }

    /// Sends what stands there; what goes on where the last reply to the same peer ends becomes a
    /// part of it.
    #[inline]
    fn put(&mut self, to: SocketAddr, place: Place, len: usize) {
        if let Some(last) = self.replies.last_mut()
            && last.place.after(last.len) == place
            && last.is_open
            && (1..=last.segment_bytes).contains(&len)
            && last.to == to
        {
            last.len += len;
            last.is_open = len == last.segment_bytes;
            return;
        }
        self.replies.push(Reply {
            to,
            place,
            len,
            segment_bytes: len,
            is_open: true,
        });
    }

    /// Runs a command because of what happened. Nobody waits for it.
    pub fn run(&mut self, call: Call) {
        self.calls.push(call);
    }

    /// Whether nothing is to be sent.
    pub fn is_empty(&self) -> bool {
        self.replies.is_empty()
    }

    /// How many datagrams are to be sent, and the bytes that they hold together.
    pub fn sum(&self) -> (usize, usize) {
        let add =
            |(datagrams, bytes), reply: &Reply| (datagrams + reply.datagrams(), bytes + reply.len);
        self.replies.iter().fold((0, 0), add)
    }

    /// Forgets the datagrams, keeping the memory.
    pub fn clear(&mut self) {
        self.replies.clear();
        self.arena.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_one_after_the_other_for_one_peer_is_one_reply() {
        let [one, other] = [1, 2].map(|port| SocketAddr::from(([192, 0, 2, 1], port)));
        let mut out = Outbox::default();
        for bytes in [&b"four"[..], b"more", b"end", b"four"] {
            out.send(one, bytes);
        }
        out.send(other, b"four");
        out.send(other, b"");
        out.send(other, b"");
        let runs: Vec<_> = out.replies.iter().map(|r| (r.len, r.datagrams())).collect();
        assert_eq!(runs, [(11, 3), (4, 1), (4, 1), (0, 1), (0, 1)]);
        assert_eq!(out.sum(), (7, 19));
    }
}
