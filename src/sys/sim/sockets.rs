//! What a simulated socket is made of: ends, what is on its way to them, edges, listeners.
//!
//! What they do is in [`super::net`].

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::ids::{Edges, End, Owner};
use crate::sys::Bind;

/// How far a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// It is being made.
    Opening,
    /// It carries bytes.
    Open,
    /// It could not be made.
    Failed(io::ErrorKind),
}

#[derive(Debug)]
pub(super) enum Segment {
    Bytes(Vec<u8>),
    End,
    Break,
}

/// One end, with what is on its way to it.
#[derive(Debug)]
pub(super) struct Half {
    pub(super) owner: Owner,
    pub(super) address: SocketAddr,
    /// Where the opener wants to be connected to.
    pub(super) to: Option<Bind>,
    /// What the process registered it with.
    pub(super) token: Option<u64>,
    /// Edges that were not told yet.
    pub(super) edges: Edges,
    /// It stands in the list of those that have some.
    pub(super) listed: bool,
    pub(super) flight: VecDeque<(Duration, Segment)>,
    pub(super) arrived: VecDeque<u8>,
    /// Bytes in flight and arrived.
    pub(super) used: usize,
    pub(super) capacity: usize,
    pub(super) eof: bool,
    pub(super) error: Option<io::ErrorKind>,
    /// Its owner sent the end of its stream.
    pub(super) finished: bool,
    pub(super) closed: bool,
    /// A write was short: freed room is worth an edge.
    pub(super) wants_room: bool,
    pub(super) stage: Stage,
    /// It will not be let in.
    pub(super) refused: bool,
    /// The process opened it, as a client of somebody else's.
    pub(super) opened_by_process: bool,
    /// The simulation did it: the connection broke, or was never to be served.
    pub(super) excused: bool,
}

/// A listening socket.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) bind: Bind,
    pub(super) owner: Owner,
    pub(super) token: u64,
    pub(super) queue: VecDeque<End>,
    pub(super) backlog: usize,
    /// Nothing is accepted any more.
    pub(super) broken: bool,
    pub(super) open: bool,
    pub(super) listed: bool,
}

impl Half {
    pub(super) fn new(
        owner: Owner,
        address: SocketAddr,
        to: Option<Bind>,
        capacity: usize,
    ) -> Self {
        Self {
            owner,
            address,
            to,
            token: None,
            edges: Edges::default(),
            listed: false,
            flight: VecDeque::new(),
            arrived: VecDeque::new(),
            used: 0,
            capacity,
            eof: false,
            error: None,
            finished: false,
            closed: false,
            wants_room: false,
            stage: Stage::Opening,
            refused: false,
            opened_by_process: owner == Owner::Process,
            excused: false,
        }
    }

    /// Bytes that could be read.
    pub(super) fn arrived(&self) -> usize {
        self.arrived.len()
    }

    /// The next write is to be taken as short: an edge must follow.
    pub(super) fn want_room(&mut self) {
        self.wants_room = true;
    }
}

impl Segment {
    pub(super) fn name(&self) -> String {
        match self {
            Segment::Bytes(bytes) => format!("{} bytes", bytes.len()),
            Segment::End => "the end".to_owned(),
            Segment::Break => "a break".to_owned(),
        }
    }
}

impl Listener {
    /// Whether a connection to `to` is for it.
    pub(super) fn accepts(&self, to: &Bind) -> bool {
        match (&self.bind, to) {
            (Bind::Inet(own), Bind::Inet(to)) => has(*own, *to),
            (own, to) => own == to,
        }
    }

    /// Whether no other one can be bound there.
    pub(super) fn is_in_the_way_of(&self, bind: &Bind) -> bool {
        match (&self.bind, bind) {
            (Bind::Inet(own), Bind::Inet(other)) => has(*own, *other) || has(*other, *own),
            (own, other) => own == other,
        }
    }
}

/// Whether what is sent to `to` reaches a socket bound to `own`: the unspecified address of IPv6
/// has every address of its port, that of IPv4 has those of IPv4.
pub(super) fn has(own: SocketAddr, to: SocketAddr) -> bool {
    let every = own.ip().is_unspecified() && (own.is_ipv6() || to.is_ipv4());
    own == to || (every && own.port() == to.port())
}

/// Datagrams of a run at most, and their bytes: less than a slot holds.
const RUN_MAX: usize = 8;
const RUN_BYTES_MAX: usize = 65_000;

/// A datagram socket.
#[derive(Debug)]
pub(super) struct DatagramSocket {
    pub(super) owner: Owner,
    pub(super) address: SocketAddr,
    pub(super) token: u64,
    /// The only one that it hears.
    pub(super) peer: Option<SocketAddr>,
    /// Nobody was where it sent something.
    pub(super) refused: bool,
    /// Nothing is received any more.
    pub(super) broken: bool,
    pub(super) queue: VecDeque<(SocketAddr, Vec<u8>)>,
    /// Those that did not fit into it.
    pub(super) drops: u32,
    /// Those of one source may be received as one run.
    pub(super) receives_runs: bool,
    pub(super) open: bool,
    pub(super) listed: bool,
}

impl DatagramSocket {
    /// How many of those that wait next may be received as one run, as `UDP_GRO` has it: one
    /// source, none empty, one length but for the last, which may be shorter.
    pub(super) fn run(&self) -> usize {
        let Some((from, first)) = self.queue.front().filter(|(_, first)| !first.is_empty()) else {
            return self.queue.len().min(1);
        };
        let goes_on = |(other, bytes): &&(SocketAddr, Vec<u8>)| {
            other == from && (1..=first.len()).contains(&bytes.len())
        };
        let (mut count, mut sum) = (0, 0);
        for (_, bytes) in self.queue.iter().take_while(goes_on).take(RUN_MAX) {
            sum += bytes.len();
            if count > 0 && sum > RUN_BYTES_MAX {
                break;
            }
            count += 1;
            if bytes.len() < first.len() {
                break;
            }
        }
        count
    }
}
