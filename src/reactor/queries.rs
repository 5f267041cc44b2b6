//! The resolver's sockets: one for each query, so that an answer must guess the port as well as the
//! id (RFC 5452). Each is connected: the kernel drops what others than the server send, and tells
//! when nobody listens there.
//!
//! The resolver is a pure machine ([`crate::dns`]); this carries its messages. A query over TCP,
//! after a truncated answer, is written whole and read until one length-prefixed message is there
//! (RFC 7766).

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::time::Instant;

use slab::Slab;

use super::token::Token;
use crate::dns::{QueryId, Resolver, Transmit, Transport, stream_message};
use crate::service::Id;
use crate::service::datagram::Outbox;
use crate::sys::{Batch, Sys};

/// The longest message of DNS over TCP, with its length.
const STREAM_MESSAGE_BYTES_MAX: usize = 2 + u16::MAX as usize;
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
                        let (from, bytes) = self.batch.datagram_mut(i);
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
                match exchange(sys, stream, connected, unsent, received) {
                    Ok(()) => {}
                    Err(_) => return resolver.failed(*id, now),
                }
                if let Some(message) = stream_message(received) {
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
    while stream_message(received).is_none() {
        let mut page = [0; STREAM_READ_BYTES];
        match sys.recv(stream, &mut page) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(count) => received.extend_from_slice(&page[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
        if received.len() > STREAM_MESSAGE_BYTES_MAX + STREAM_READ_BYTES {
            return Err(io::ErrorKind::InvalidData.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::{self, Failure, Hosts};
    use crate::sys::Event;
    use crate::sys::unix::Unix;
    use std::task::Poll;
    use std::time::Duration;

    const WAITER: Id = Id {
        index: 0,
        generation: 0,
    };

    /// A resolver that asks one server on this machine, with a clock that stands still.
    struct Bench {
        sys: Unix,
        queries: Queries<Unix>,
        resolver: Resolver<Id>,
        now: Instant,
        events: Vec<Event>,
    }

    impl Bench {
        fn new(sys: Unix, server: SocketAddr) -> Self {
            let config = dns::Config {
                nameservers: vec![server],
                ..dns::Config::default()
            };
            let now = sys.now();
            Self {
                sys,
                queries: Queries::default(),
                resolver: Resolver::new(config, Hosts::parse(""), [7; 32]),
                now,
                events: Vec::new(),
            }
        }

        fn lookup(&mut self) -> Poll<Result<dns::Addresses, Failure>> {
            self.resolver.lookup("name.example", WAITER, None, self.now)
        }

        /// Begins a look-up; where the first of its two questions came to `server` from.
        fn asks(&mut self, server: &<Unix as Sys>::Datagram, batch: &mut Batch) -> SocketAddr {
            assert_eq!(self.lookup(), Poll::Pending);
            self.turn();
            assert_eq!(self.sys.recv_batch(server, batch).ok(), Some(2));
            batch.datagram_mut(0).0
        }

        /// What the queries' sockets have to say, once.
        fn turn(&mut self) {
            self.events.clear();
            let wait = Some(Duration::from_millis(100));
            self.sys.poll(&mut self.events, wait).expect("events");
            for event in &self.events {
                if let Some(Token::Resolver(slot)) = Token::unpack(event.token) {
                    self.queries.ready(slot as usize);
                }
            }
            self.queries
                .serve(&mut self.sys, &mut self.resolver, self.now);
        }

        fn turn_until(&mut self, done: impl Fn(&mut Self) -> bool) {
            for _ in 0..100 {
                if done(self) {
                    return;
                }
                self.turn();
            }
            panic!("it did not come to pass");
        }
    }

    /// A socket at a port of its own.
    fn socket(sys: &mut Unix) -> (<Unix as Sys>::Datagram, SocketAddr) {
        let free = SocketAddr::from(([127, 0, 0, 1], 0));
        sys.bind_datagram(free, Token::Datagram(0).pack())
            .expect("a socket")
    }

    #[test]
    fn a_server_that_is_not_there_costs_no_time() {
        let mut sys = Unix::new(false).expect("a poll");
        let (socket, server) = socket(&mut sys);
        sys.close_datagram(socket);
        let mut bench = Bench::new(sys, server);
        assert_eq!(bench.lookup(), Poll::Pending);
        bench.turn_until(|bench| bench.lookup() == Poll::Ready(Err(Failure::Unreachable)));
        assert_eq!(bench.queries.sockets(), 0);
    }

    #[test]
    fn only_the_server_is_heard() {
        let mut sys = Unix::new(false).expect("a poll");
        let (server, at) = socket(&mut sys);
        let (other, _) = socket(&mut sys);
        let mut bench = Bench::new(sys, at);
        let (mut batch, mut out) = (Batch::new(), Outbox::default());
        let query = bench.asks(&server, &mut batch);
        out.send(query, b"a lie of somebody else");
        assert_eq!(bench.sys.send_batch(&other, &batch, &out).replies, 0);
        bench.turn();
        assert_eq!(bench.resolver.counters().lies, 0);
        assert_eq!(bench.sys.send_batch(&server, &batch, &out).replies, 0);
        bench.turn_until(|bench| bench.resolver.counters().lies == 1);
    }

    #[test]
    fn a_flooded_query_is_given_up_for_another() {
        let mut sys = Unix::new(false).expect("a poll");
        let (server, at) = socket(&mut sys);
        let mut bench = Bench::new(sys, at);
        let (mut batch, mut out) = (Batch::new(), Outbox::default());
        let query = bench.asks(&server, &mut batch);
        for _ in 0..2 * Batch::SLOTS {
            out.send(query, b"a lie");
        }
        assert_eq!(bench.sys.send_batch(&server, &batch, &out).replies, 0);
        bench.turn_until(|bench| bench.resolver.counters().queries == 3);
        assert_eq!(bench.resolver.counters().lies, Batch::SLOTS as u64);
        assert_eq!(bench.queries.sockets(), 2);
    }
}
