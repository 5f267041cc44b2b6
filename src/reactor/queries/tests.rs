//! Queries over the sockets of this machine, and what name servers may make of them.

use std::net::{IpAddr, Ipv4Addr};
use std::task::Poll;
use std::time::Duration;

use simple_dns::rdata::{A, RData};
use simple_dns::{CLASS, Packet, PacketFlag, QTYPE, ResourceRecord, TYPE};

use super::*;
use crate::dns::{self, Failure, Hosts};
use crate::sys::unix::Unix;
use crate::sys::{Bind, Event};

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
        batch.message_mut(0).0
    }

    /// What the queries' sockets have to say, once.
    fn turn(&mut self) {
        self.events.clear();
        let wait = Some(Duration::from_millis(10));
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
        for _ in 0..1000 {
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

/// A connection to a name server: what came on it, and what is still to be sent.
struct Connection {
    stream: <Unix as Sys>::Stream,
    received: Vec<u8>,
    unsent: Vec<u8>,
}

/// A name server on this machine that cuts every answer by datagram short.
struct Server {
    datagrams: <Unix as Sys>::Datagram,
    listener: <Unix as Sys>::Listener,
    connections: Vec<Connection>,
    /// Bytes that it sends at a time.
    piece: usize,
    /// It closes connections for sending once it has sent an answer.
    closes: bool,
    batch: Batch,
}

impl Server {
    fn new(sys: &mut Unix) -> (Self, SocketAddr) {
        // The port of the one socket may be taken for the other.
        let (datagrams, listener, at) = (0..100)
            .find_map(|_| {
                let (datagrams, at) = socket(sys);
                match sys.listen(&Bind::Inet(at), 8, false, Token::Listener(0).pack()) {
                    Ok((listener, _)) => Some((datagrams, listener, at)),
                    Err(_) => {
                        sys.close_datagram(datagrams);
                        None
                    }
                }
            })
            .expect("a free port");
        let server = Self {
            datagrams,
            listener,
            connections: Vec::new(),
            piece: usize::MAX,
            closes: false,
            batch: Batch::new(),
        };
        (server, at)
    }

    /// Answers datagrams, takes connections, and sends a piece of `answer` on each.
    fn serve(&mut self, sys: &mut Unix, answer: impl Fn(&[u8]) -> Vec<u8>) {
        if let Ok(count) = sys.recv_batch(&self.datagrams, &mut self.batch) {
            let mut out = Outbox::default();
            for i in 0..count {
                let (from, query) = self.batch.message_mut(i);
                out.send(from, &reply(query, PacketFlag::TRUNCATION, None));
            }
            let unsent = sys.send_batch(&self.datagrams, &self.batch, &out);
            assert_eq!(unsent.replies, 0);
        }
        while let Ok((stream, _)) = sys.accept(&self.listener) {
            self.connections.push(Connection {
                stream,
                received: Vec::new(),
                unsent: Vec::new(),
            });
        }
        for connection in &mut self.connections {
            let mut bytes = [0; 512];
            if let Ok(count) = sys.recv(&connection.stream, &mut bytes) {
                connection.received.extend_from_slice(&bytes[..count]);
            }
            let answered = match stream_message(&connection.received) {
                Framed::Whole(query) => {
                    connection.unsent = answer(query);
                    connection.received.clear();
                    true
                }
                _ => false,
            };
            let piece = connection.unsent.len().min(self.piece);
            let piece: Vec<u8> = connection.unsent.drain(..piece).collect();
            if !piece.is_empty() {
                // A client that has had enough closes before it took all.
                let _ = sys.send(&connection.stream, &piece, false);
            }
            if answered && self.closes {
                sys.shutdown(&connection.stream).expect("it is open");
            }
        }
    }
}

/// An answer to a query: to the one for IPv4, with that address.
fn reply(query: &[u8], flags: PacketFlag, address: Option<Ipv4Addr>) -> Vec<u8> {
    let query = Packet::parse(query).expect("a query");
    let question = query.questions[0].clone();
    let mut reply = Packet::new_reply(query.id());
    reply.set_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_AVAILABLE | flags);
    if let Some(address) = address
        && question.qtype == QTYPE::TYPE(TYPE::A)
    {
        let address = RData::A(A::from(address));
        let record = ResourceRecord::new(question.qname.clone(), CLASS::IN, 60, address);
        reply.answers.push(record);
    }
    reply.questions.push(question);
    reply.build_bytes_vec().expect("an answer")
}

const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);

/// The answer over TCP as it should be.
fn good(query: &[u8]) -> Vec<u8> {
    reply(query, PacketFlag::empty(), Some(ADDRESS))
}

fn framed(message: &[u8]) -> Vec<u8> {
    let length = u16::try_from(message.len()).expect("a message");
    [&length.to_be_bytes()[..], message].concat()
}

/// What becomes of a name whose server is asked over TCP, once for each family, and answers like
/// that: `piece` bytes at a time.
fn over_tcp(
    piece: usize,
    closes: bool,
    answer: impl Fn(&[u8]) -> Vec<u8>,
) -> Result<Vec<IpAddr>, Failure> {
    let mut sys = Unix::new(false).expect("a poll");
    let (mut server, at) = Server::new(&mut sys);
    (server.piece, server.closes) = (piece, closes);
    let mut bench = Bench::new(sys, at);
    let config = dns::Config {
        nameservers: vec![at],
        attempts: 1,
        ..dns::Config::default()
    };
    bench.resolver = Resolver::new(config, Hosts::parse(""), [7; 32]);
    for _ in 0..400 {
        if let Poll::Ready(answer) = bench.lookup() {
            assert_eq!(bench.queries.sockets(), 0, "each is closed");
            assert_eq!(bench.resolver.counters().tcp_queries, 2);
            return answer.map(|addresses| addresses.to_vec());
        }
        bench.turn();
        server.serve(&mut bench.sys, &answer);
        if bench.resolver.counters().tcp_queries == 2 {
            bench.now += dns::Config::ATTEMPT_TIMEOUT / 200;
        }
    }
    panic!("the look-up does not end");
}

#[test]
fn a_truncated_answer_is_fetched_over_tcp() {
    let whole = over_tcp(usize::MAX, false, |query| framed(&good(query)));
    assert_eq!(whole, Ok(vec![ADDRESS.into()]));
}

#[test]
fn what_follows_an_answer_over_tcp_is_not_looked_at() {
    let more = |query: &[u8]| [&framed(&good(query))[..], b"\xff\xffand more"].concat();
    assert_eq!(over_tcp(usize::MAX, false, more), Ok(vec![ADDRESS.into()]));
}

#[test]
fn an_answer_over_tcp_may_come_in_pieces() {
    let answer = over_tcp(1, false, |query| framed(&good(query)));
    assert_eq!(answer, Ok(vec![ADDRESS.into()]));
}

#[test]
fn a_server_that_sends_byte_after_byte_has_no_more_time_than_others() {
    let slow = |_: &[u8]| framed(&[0; 1000]);
    assert_eq!(over_tcp(1, false, slow), Err(Failure::Truncated));
}

#[test]
fn what_was_not_asked_for_over_tcp_is_not_believed() {
    type Spoil = fn(&[u8]) -> Vec<u8>;
    let spoils: [(&str, Spoil); 5] = [
        ("another id", |query| {
            let mut answer = good(query);
            answer[1] ^= 1;
            framed(&answer)
        }),
        ("another question", |query| {
            let mut answer = good(query);
            answer[13] ^= 1;
            framed(&answer)
        }),
        ("nothing", |_| framed(b"")),
        ("noise", |_| framed(&[0xff; 600])),
        ("too long", |query| {
            let length = dns::STREAM_MESSAGE_BYTES_MAX as u16 + 1;
            [&length.to_be_bytes()[..], &good(query)].concat()
        }),
    ];
    for (what, spoil) in spoils {
        let answer = over_tcp(usize::MAX, false, spoil);
        assert_eq!(answer, Err(Failure::Truncated), "{what}");
    }
}

#[test]
fn a_server_that_closes_early_has_not_answered() {
    for bytes in [0, 1, 2, 20] {
        let answer = over_tcp(usize::MAX, true, |query| {
            framed(&good(query))[..bytes].to_vec()
        });
        assert_eq!(answer, Err(Failure::Truncated), "after {bytes} bytes");
    }
}
