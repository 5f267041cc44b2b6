//! The tries under way: each is one query with an id of its own, meant for a socket of its own.
//!
//! The rule: a try is told to the caller twice, once to be sent, once to be forgotten, and its id is
//! never used again, so that a late answer to it finds nobody.
//!
//! Deliberately not here: what is asked when, and what an answer comes to ([`super::resolver`]).

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::message::{self, Family};

/// Names one try of one question; never used twice by one resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueryId(pub(super) u64);

/// How a query travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram from a fresh socket.
    Udp,
    /// A fresh connection, to which the bytes are written once it is open.
    Tcp,
}

/// A query to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The name of this try, for [`Resolver::receive`](super::Resolver::receive) and
    /// [`Resolver::failed`](super::Resolver::failed).
    pub query: QueryId,
    /// The server to send it to.
    pub to: SocketAddr,
    /// How to send it.
    pub transport: Transport,
    /// What to send: for TCP with its two octets of length in front.
    pub bytes: Vec<u8>,
}

/// What is to be tried: handed on from try to try.
#[derive(Debug, Clone)]
pub(super) struct Attempt {
    /// The name whose lookup it is for, as it was asked for.
    pub(super) key: Rc<str>,
    /// The absolute name asked for.
    pub(super) name: Rc<str>,
    pub(super) family: Family,
    /// The index of the server.
    pub(super) server: usize,
    /// Servers tried before this one, repetitions included.
    pub(super) tries: u32,
    pub(super) edns: bool,
    pub(super) transport: Transport,
    /// What a truncated answer held: better than nothing if TCP brings no more.
    pub(super) partial: Option<(Vec<IpAddr>, Duration)>,
}

/// One try under way.
#[derive(Debug)]
pub(super) struct Try {
    pub(super) attempt: Attempt,
    pub(super) to: SocketAddr,
    pub(super) sent: Vec<u8>,
    pub(super) deadline: Instant,
}

/// All tries under way, with what the caller was not told yet.
#[derive(Debug)]
pub(super) struct Tries {
    seed: [u8; 32],
    next: u64,
    open: BTreeMap<QueryId, Try>,
    deadlines: BTreeSet<(Instant, QueryId)>,
    outbox: VecDeque<Transmit>,
    finished: VecDeque<QueryId>,
}

impl Tries {
    /// No tries. The ids on the wire are drawn from `seed`.
    pub(super) fn new(seed: [u8; 32]) -> Self {
        Tries {
            seed,
            next: 0,
            open: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            outbox: VecDeque::new(),
            finished: VecDeque::new(),
        }
    }

    /// Begins a try, which is to be sent to `to` and to end at `deadline`.
    pub(super) fn begin(&mut self, attempt: Attempt, to: SocketAddr, deadline: Instant) -> QueryId {
        let id = QueryId(self.next);
        self.next += 1;
        let message_id = message_id(&self.seed, id);
        let sent = message::query(message_id, &attempt.name, attempt.family, attempt.edns);
        let bytes = match attempt.transport {
            Transport::Udp => sent.clone(),
            // Invariant: a query is a few hundred bytes at most.
            Transport::Tcp => [&(sent.len() as u16).to_be_bytes()[..], &sent].concat(),
        };
        self.outbox.push_back(Transmit {
            query: id,
            to,
            transport: attempt.transport,
            bytes,
        });
        self.deadlines.insert((deadline, id));
        self.open.insert(
            id,
            Try {
                attempt,
                to,
                sent,
                deadline,
            },
        );
        id
    }

    /// A try that is under way.
    pub(super) fn find(&self, id: QueryId) -> Option<&Try> {
        self.open.get(&id)
    }

    /// Takes a try off the lists; its socket may be closed.
    pub(super) fn end(&mut self, id: QueryId) -> Option<Try> {
        let ended = self.open.remove(&id)?;
        self.deadlines.remove(&(ended.deadline, id));
        self.finished.push_back(id);
        Some(ended)
    }

    /// Lets a try end at `until` if it would end later.
    pub(super) fn shorten(&mut self, id: QueryId, until: Instant) {
        if let Some(open) = self.open.get_mut(&id)
            && open.deadline > until
        {
            self.deadlines.remove(&(open.deadline, id));
            self.deadlines.insert((until, id));
            open.deadline = until;
        }
    }

    /// When the first try ends.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// A try whose time is up.
    pub(super) fn due(&self, now: Instant) -> Option<QueryId> {
        let (deadline, id) = self.deadlines.first()?;
        (*deadline <= now).then_some(*id)
    }

    /// The next query to be sent. One may have ended before it was fetched.
    pub(super) fn poll_transmit(&mut self) -> Option<Transmit> {
        while let Some(transmit) = self.outbox.pop_front() {
            if self.open.contains_key(&transmit.query) {
                return Some(transmit);
            }
        }
        None
    }

    /// The next query whose socket may be closed.
    pub(super) fn poll_finished(&mut self) -> Option<QueryId> {
        self.finished.pop_front()
    }

    /// Tries under way.
    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        assert_eq!(self.open.len(), self.deadlines.len());
        self.open.len()
    }
}

/// The id on the wire: 16 bits of a keyed hash of the query's number.
fn message_id(seed: &[u8; 32], id: QueryId) -> u16 {
    let hash = Sha256::new()
        .chain_update(seed)
        .chain_update(id.0.to_be_bytes())
        .finalize();
    u16::from_be_bytes([hash[0], hash[1]])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_depend_on_the_seed_alone() {
        let ids = |seed| {
            let ids = (0..8).map(QueryId).map(|id| message_id(&[seed; 32], id));
            ids.collect::<Vec<_>>()
        };
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1), ids(2));
        assert!(ids(1).windows(2).all(|pair| pair[0] != pair[1]));
    }
}
