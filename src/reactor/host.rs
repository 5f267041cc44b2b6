//! A service together with the slab of its connections' states, behind one small erased trait: the only dynamic dispatch
//! between the loop and a protocol.

use std::time::Instant;

use slab::Slab;

use crate::disk::Disk;
use crate::ending::Error;
use crate::metrics::Metrics;
use crate::service::{Io, Peer, Service};

/// What the reactor needs of a service, whatever the type of its connections. A connection is named by its key.
pub(crate) trait Host {
    fn accept(&mut self, peer: &Peer, now: Instant) -> usize;
    fn advance(&mut self, conn: usize, io: &mut Io<'_>) -> Result<(), Error>;
    fn deadline(&self, conn: usize) -> Instant;
    fn ended(&mut self, conn: usize, disk: &mut dyn Disk, now: Instant);
    fn turn_ended(&mut self, disk: &mut dyn Disk, metrics: &mut Metrics);
    fn reopen(&mut self, disk: &mut dyn Disk);
}

/// A service and its connections.
pub(crate) struct Hosted<T: Service> {
    service: T,
    conns: Slab<T::Conn>,
}

impl<T: Service> Hosted<T> {
    pub(crate) fn new(service: T) -> Self {
        Self {
            service,
            conns: Slab::new(),
        }
    }
}

impl<T: Service> Host for Hosted<T> {
    fn accept(&mut self, peer: &Peer, now: Instant) -> usize {
        self.conns.insert(self.service.accept(peer, now))
    }

    fn advance(&mut self, conn: usize, io: &mut Io<'_>) -> Result<(), Error> {
        self.service.advance(&mut self.conns[conn], io)
    }

    fn deadline(&self, conn: usize) -> Instant {
        self.service.deadline(&self.conns[conn])
    }

    fn ended(&mut self, conn: usize, disk: &mut dyn Disk, now: Instant) {
        self.service.ended(self.conns.remove(conn), disk, now);
    }

    fn turn_ended(&mut self, disk: &mut dyn Disk, metrics: &mut Metrics) {
        self.service.turn_ended(disk, metrics);
    }

    fn reopen(&mut self, disk: &mut dyn Disk) {
        self.service.reopen(disk);
    }
}
