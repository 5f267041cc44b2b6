//! The sockets towards origins: whose each is.
//!
//! A session makes a connection, gives it back when an exchange ended clean, and another one may go
//! on with it. It is registered with the poll once, under a token of its own
//! ([`Token::Upstream`]), so that nothing is asked of the kernel when it changes hands:
//!
//! ```text
//! connect ──▶ held by a session ──keep──▶ held by nobody ──claim──▶ held by a session
//!                    │                          │
//!                    └──────────close───────────┴──an event, or surplus──▶ gone
//! ```
//!
//! Which of those that nobody holds is given to whom, and which go, says
//! [`Idle`](crate::service::origins::Idle).

use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use slab::Slab;

use super::attempts::Attempts;
use super::half::Half;
use super::token::Token;
use crate::buffer::Pool;
use crate::service::Id;
use crate::service::origins::{Idle, IdleLimits, Way};
use crate::sys::Sys;

/// The side of a session towards an origin.
pub(super) struct Upstream<S: Sys> {
    pub(super) half: Half<S>,
    /// The place of its socket; `None` for a side whose connection could not be made.
    pub(super) place: Option<u32>,
    /// What is left to try, while the connection is being made.
    pub(super) attempts: Option<Attempts>,
}

impl<S: Sys> Upstream<S> {
    /// One whose connection could not be made.
    pub(super) fn failed(kind: io::ErrorKind, send_bytes_max: u32) -> Box<Self> {
        Box::new(Self {
            half: Half::failed(kind, send_bytes_max),
            place: None,
            attempts: None,
        })
    }
}

/// Who has a socket.
pub(super) enum Holder<S: Sys> {
    /// This session.
    Session(Id),
    /// Nobody: it waits for the next who asks.
    Nobody(Box<Upstream<S>>),
}

struct Slot<S: Sys> {
    generation: u32,
    holder: Holder<S>,
}

/// All of them.
pub(crate) struct Upstreams<S: Sys> {
    slots: Slab<Slot<S>>,
    generation: u32,
    /// Those that nobody holds.
    pub(super) idle: Idle,
}

impl<S: Sys> Upstreams<S> {
    pub(super) fn new(limits: IdleLimits) -> Self {
        Self {
            slots: Slab::new(),
            generation: 0,
            idle: Idle::new(limits),
        }
    }

    /// Sockets that are open.
    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Begins a connection for a session; its place.
    ///
    /// # Errors
    /// Those of `connect(2)`.
    pub(super) fn connect(
        &mut self,
        to: SocketAddr,
        session: Id,
        sys: &mut S,
    ) -> io::Result<(u32, S::Stream)> {
        self.generation = self.generation.wrapping_add(1);
        let (generation, entry) = (self.generation, self.slots.vacant_entry());
        let index = entry.key() as u32;
        let token = Token::Upstream(Id { index, generation });
        let stream = sys.connect(to, token.pack())?;
        entry.insert(Slot {
            generation,
            holder: Holder::Session(session),
        });
        Ok((index, stream))
    }

    /// Who has the socket of this token; `None` if it is gone.
    pub(super) fn holder(&mut self, id: Id) -> Option<&mut Holder<S>> {
        let slot = self.slots.get_mut(id.index as usize)?;
        (slot.generation == id.generation).then_some(&mut slot.holder)
    }

    /// A session gives a connection back, on which nothing is under way.
    pub(super) fn keep(&mut self, upstream: Box<Upstream<S>>, to: (u32, Way), now: Instant) {
        // Invariant: what carries bytes has a place.
        let place = upstream.place.expect("the place of a connection");
        self.slots[place as usize].holder = Holder::Nobody(upstream);
        let (service, way) = to;
        self.idle.put(service, way, place, now);
    }

    /// A session gets the connection in `place`, which was taken out of those that are idle.
    ///
    /// # Panics
    /// If it is somebody's.
    pub(super) fn claim(&mut self, place: u32, session: Id) -> Box<Upstream<S>> {
        let holder = &mut self.slots[place as usize].holder;
        match std::mem::replace(holder, Holder::Session(session)) {
            Holder::Nobody(upstream) => upstream,
            Holder::Session(other) => panic!("a connection of session {other:?} was idle"),
        }
    }

    /// The socket in `place` was closed, or is about to be.
    pub(super) fn release(&mut self, place: u32) {
        self.slots.remove(place as usize);
    }

    /// Closes what has been idle for too long, or was too much.
    pub(super) fn close_surplus(&mut self, now: Instant, sys: &mut S, pool: &mut Pool) {
        self.idle.expire(now);
        while let Some(place) = self.idle.poll_surplus() {
            if let Holder::Nobody(mut upstream) = self.slots.remove(place as usize).holder {
                upstream.half.close(false, sys, pool);
            }
        }
    }

    /// The origin said something on a connection that nobody uses, or ended it: it cannot be used
    /// any more.
    pub(super) fn died(&mut self, place: u32, sys: &mut S, pool: &mut Pool) {
        if self.idle.remove(place)
            && let Holder::Nobody(mut upstream) = self.slots.remove(place as usize).holder
        {
            upstream.half.close(false, sys, pool);
        }
    }
}
