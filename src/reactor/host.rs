//! A service together with the slab of its connections' states, behind one small erased trait: the
//! only dynamic dispatch between the loop and a protocol.

use std::any::Any;
use std::time::Instant;

use slab::Slab;

use crate::ending::Error;
use crate::service::{Cx, Io, Peer, Service};

/// What the reactor needs of a service, whatever the type of its connections. A connection is named
/// by its key.
pub(crate) trait Host {
    fn accept(&mut self, peer: &Peer, now: Instant) -> usize;
    fn advance(&mut self, conn: usize, io: &mut Io<'_>) -> Result<(), Error>;
    fn deadline(&self, conn: usize) -> Instant;
    fn state(&self, conn: usize) -> &'static str;
    fn ended(&mut self, conn: usize, cx: &mut Cx<'_>);
    /// The connection of a session that is to begin without a client; asked until there is none.
    fn alone(&mut self, now: Instant) -> Option<usize>;
    /// Whether a connection goes on although its client is gone.
    fn outlives_client(&mut self, conn: usize, cx: &mut Cx<'_>) -> bool;
    /// Does nothing unless a connection asked for it in this turn, it was not done at the end of
    /// the last one, there was none, or `all` services are told: a job, or a moment, that some service waits for.
    /// Whether it has more to do.
    fn turn_ended(&mut self, all: bool, cx: &mut Cx<'_>) -> bool;
    /// When that is to be called at the latest.
    fn turn_deadline(&self) -> Option<Instant>;
    /// Whether something of it is under way that no session waits for.
    fn is_busy(&self) -> bool;
    fn reopen(&mut self, cx: &mut Cx<'_>);
    fn bequeath(&self) -> Option<Box<dyn Any>>;
}

/// A service and its connections.
pub(crate) struct Hosted<T: Service> {
    service: T,
    conns: Slab<T::Conn>,
    /// A connection called [`Io::at_turn_end`] in this turn, or it is the first of a service that
    /// begins alone.
    turn_end: bool,
}

impl<T: Service> Hosted<T> {
    pub(crate) fn new(service: T) -> Self {
        Self {
            service,
            conns: Slab::new(),
            turn_end: T::BEGINS_ALONE,
        }
    }
}

impl<T: Service> Host for Hosted<T> {
    fn accept(&mut self, peer: &Peer, now: Instant) -> usize {
        self.conns.insert(self.service.accept(peer, now))
    }

    fn advance(&mut self, conn: usize, io: &mut Io<'_>) -> Result<(), Error> {
        let result = self.service.advance(&mut self.conns[conn], io);
        self.turn_end |= io.asked.turn_end;
        result
    }

    fn deadline(&self, conn: usize) -> Instant {
        self.service.deadline(&self.conns[conn])
    }

    fn state(&self, conn: usize) -> &'static str {
        self.service.state(&self.conns[conn])
    }

    fn ended(&mut self, conn: usize, cx: &mut Cx<'_>) {
        self.service.ended(self.conns.remove(conn), cx);
    }

    fn alone(&mut self, now: Instant) -> Option<usize> {
        let conn = self.service.alone(now)?;
        Some(self.conns.insert(conn))
    }

    fn outlives_client(&mut self, conn: usize, cx: &mut Cx<'_>) -> bool {
        self.service.outlives_client(&mut self.conns[conn], cx)
    }

    fn turn_ended(&mut self, all: bool, cx: &mut Cx<'_>) -> bool {
        self.turn_end = (self.turn_end | all) && self.service.turn_ended(cx);
        self.turn_end
    }

    fn turn_deadline(&self) -> Option<Instant> {
        self.service.turn_deadline()
    }

    fn is_busy(&self) -> bool {
        self.service.is_busy()
    }

    fn reopen(&mut self, cx: &mut Cx<'_>) {
        self.service.reopen(cx);
    }

    fn bequeath(&self) -> Option<Box<dyn Any>> {
        self.service.bequeath()
    }
}
