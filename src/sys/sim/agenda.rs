//! What is to happen, and when: the queue that drives a simulation.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::SocketAddr;
use std::time::Duration;

use super::ids::{ActorId, Ear, Edges, End};
use crate::hooks::HookId;
use crate::jobs::JobId;
use crate::sys::Signal;

/// One thing that is to happen.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Happening {
    /// Something in flight reaches this end of a connection.
    Deliver(End),
    /// A connection that was asked for reaches its listener, for the nth time.
    Arrive(End, u32),
    /// A connection breaks.
    Break(End),
    /// An actor wanted to be called.
    Wake(ActorId),
    /// An edge that was held back is told.
    Tell(Ear, Edges),
    /// A datagram reaches its socket.
    Datagram {
        to: SocketAddr,
        from: SocketAddr,
        bytes: Vec<u8>,
    },
    /// A job for the disk comes to its end.
    JobDone(JobId),
    /// A command comes to its end, or cannot be run.
    Exited(HookId),
    /// The process is sent a signal.
    Signal(Signal),
}

/// Everything that is to happen, the earliest first; things of one moment in the order in which
/// they were added.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Reverse<(Duration, u64, Happening)>>,
    added: u64,
}

impl Agenda {
    pub(super) fn add(&mut self, at: Duration, what: Happening) {
        self.added += 1;
        self.heap.push(Reverse((at, self.added, what)));
    }

    /// When the next thing happens.
    pub(super) fn next_at(&self) -> Option<Duration> {
        self.heap.peek().map(|Reverse((at, _, _))| *at)
    }

    /// What is due by now.
    pub(super) fn pop(&mut self, now: Duration) -> Option<Happening> {
        if self.next_at()? > now {
            return None;
        }
        self.heap.pop().map(|Reverse((_, _, what))| what)
    }
}
