//! The resolver's sockets: one for each query, so that an answer must guess the port as well as the
//! id (RFC 5452). Each is connected: the kernel drops what others than the server send, and tells
//! when nobody listens there.
//!
//! The resolver is a pure machine ([`crate::dns`]); this carries its messages. A query over TCP,
//! after a truncated answer, is written whole and read until one length-prefixed message is there
//! (RFC 7766): no byte beyond that, and none of one that announces too much. The time that all of
//! it may take is the resolver's to say, and no byte that comes prolongs it.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use slab::Slab;

use super::token::Token;
use crate::dns::{Framed, QueryId, Resolver, Transmit, Transport, stream_message};
use crate::service::Id;
use crate::service::datagram::Outbox;
use crate::sys::{Batch, Sys};

/// What a query over TCP receives at a time.
const STREAM_READ_BYTES: usize = 4096;

/// A socket and the query it was opened for.
struct Query<S: Sys> {
    id: QueryId,
    to: SocketAddr,
    way: Way<S>,
    /// An event came and was not looked at yet.
    pending: bool,
}

enum Way<S: Sys> {
    Udp(S::Datagram),
    Tcp {
        stream: S::Stream,
        connected: bool,
        unsent: Vec<u8>,
        received: Vec<u8>,
    },
}

impl<S: Sys> Way<S> {
    fn close(self, sys: &mut S) {
        match self {
            Way::Udp(socket) => sys.close_datagram(socket),
            Way::Tcp { stream, .. } => sys.close(stream),
        }
    }
}

/// All queries under way.
pub(crate) struct Queries<S: Sys> {
    open: Slab<Query<S>>,
    slots: BTreeMap<QueryId, usize>,
    /// Slots with an event that was not looked at yet, each once.
    ready: Vec<usize>,
    batch: Batch,
    out: Outbox,
}

impl<S: Sys> Default for Queries<S> {
    fn default() -> Self {
        Self {
            open: Slab::new(),
            slots: BTreeMap::new(),
            ready: Vec::new(),
            batch: Batch::new(),
            out: Outbox::default(),
        }
    }
}

impl<S: Sys> Queries<S> {
    /// Sockets that are open.
    pub(crate) fn sockets(&self) -> usize {
        self.open.len()
    }

    /// An event for the query in this slot; a stale one finds nobody, or wakes another for nothing.
    pub(crate) fn ready(&mut self, slot: usize) {
        if let Some(query) = self.open.get_mut(slot)
            && !query.pending
        {
            query.pending = true;
            self.ready.push(slot);
        }
    }

    /// Carries what came to the resolver, lets it act on its deadlines, and carries what it wants
    /// to send.
    pub(crate) fn serve(&mut self, sys: &mut S, resolver: &mut Resolver<Id>, now: Instant) {
        while let Some(slot) = self.ready.pop() {
            // A query that was closed since is not there, or another one that is not ready.
            if self.open.get(slot).is_some_and(|query| query.pending) {
                self.receive(slot, sys, resolver, now);
            }
        }
        if resolver.deadline().is_some_and(|deadline| deadline <= now) {
            resolver.advance(now);
        }
        while let Some(transmit) = resolver.poll_transmit() {
            let query = transmit.query;
            if let Err(error) = self.open(transmit, sys) {
                log::debug!("resolver: {error}");
                resolver.failed(query, now);
            }
        }
        while let Some(query) = resolver.poll_finished() {
            if let Some(slot) = self.slots.remove(&query) {
                self.open.remove(slot).way.close(sys);
            }
        }
    }

    /// Closes every socket: the process ends.
    pub(crate) fn close(&mut self, sys: &mut S) {
        self.slots.clear();
        for query in self.open.drain() {
            query.way.close(sys);
        }
    }

    fn open(&mut self, transmit: Transmit, sys: &mut S) -> io::Result<()> {
        let Transmit {
            query: id,
            to,
            transport,
            bytes,
        } = transmit;
        let entry = self.open.vacant_entry();
        let token = Token::Resolver(entry.key() as u32).pack();
        let way = match transport {
            Transport::Tcp => {
                let stream = sys.connect(to, token)?;
                Way::Tcp {
                    stream,
                    connected: false,
                    unsent: bytes,
                    received: Vec::new(),
                }
            }
            Transport::Udp => {
                let socket = sys.connect_datagram(to, token)?;
                self.out.clear();
                self.out.send(to, &bytes);
                if sys.send_batch(&socket, &self.batch, &self.out).replies > 0 {
                    sys.close_datagram(socket);
                    return Err(io::ErrorKind::NetworkUnreachable.into());
                }
                Way::Udp(socket)
            }
        };
        self.slots.insert(id, entry.key());
        entry.insert(Query {
            id,
            to,
            way,
            pending: false,
        });
        Ok(())
    }

    fn receive(&mut self, slot: usize, sys: &mut S, resolver: &mut Resolver<Id>, now: Instant) {
        let Query {
            id,
            to,
            way,
            pending,
        } = &mut self.open[slot];
        *pending = false;
        match way {
            Way::Udp(socket) => match sys.recv_batch(socket, &mut self.batch) {
                Ok(received) => {
                    for i in 0..received {
                        let (from, bytes) = self.batch.message_mut(i);
                        resolver.receive(*id, from, bytes, now);
                    }
                    // No answer in a whole batch: somebody floods this socket. The next one has
                    // another port.
                    if received == Batch::SLOTS {
                        resolver.failed(*id, now);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // ICMP says that nobody listens there, or that no way leads there.
                Err(_) => resolver.failed(*id, now),
            },
            Way::Tcp {
                stream,
                connected,
                unsent,
                received,
            } => {
                if exchange(sys, stream, connected, unsent, received).is_err() {
                    return resolver.failed(*id, now);
                }
                if let Framed::Whole(message) = stream_message(received) {
                    resolver.receive(*id, *to, message, now);
                }
            }
        }
    }
}

/// Sends the rest of a query over TCP and receives what there is of its answer.
fn exchange<S: Sys>(
    sys: &mut S,
    stream: &S::Stream,
    connected: &mut bool,
    unsent: &mut Vec<u8>,
    received: &mut Vec<u8>,
) -> io::Result<()> {
    if !*connected {
        *connected = sys.connected(stream)?.is_some();
        if !*connected {
            return Ok(());
        }
    }
    while !unsent.is_empty() {
        match sys.send(stream, unsent, false) {
            Ok(count) => drop(unsent.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut page = [0; STREAM_READ_BYTES];
    loop {
        let missing = match stream_message(received) {
            Framed::Partial(missing) => missing.min(STREAM_READ_BYTES),
            Framed::Whole(_) => return Ok(()),
            Framed::TooLong => return Err(io::ErrorKind::InvalidData.into()),
        };
        match sys.recv(stream, &mut page[..missing]) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => received.extend_from_slice(&page[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests;
