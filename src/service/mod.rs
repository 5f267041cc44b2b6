//! The contract between the reactor and a protocol. Read this file first.
//!
//! A protocol is a [`Service`]: a factory of per-connection states and one method,
//! [`Service::advance`], that takes a state as far as the facts allow. The reactor calls it after
//! any fact changed: bytes arrived, the peer finished, room was freed, an answer came, a deadline
//! passed. Five rules make that enough:
//!
//! 1. **`advance` is idempotent.** It looks at the facts in [`Io`], does everything they allow, and
//!    returns. Called again with nothing new, it changes nothing. It never waits and never asks
//!    *which* fact changed.
//! 2. **Input is consumed only when its output has room.** Ask [`SendQueue::has_room`], and return
//!    if there is none: the reactor calls again once there is. That is the whole of backpressure.
//! 3. **Every state has a deadline**, derived from the state by [`Service::deadline`]. When it has
//!    passed, `advance` is called with `now` at or beyond it and must leave the state with a later
//!    one, close, or fail. It is in force while nothing waits to be sent to the client; a client
//!    that does not take what waits is cut by the reactor's own write time-out. An origin that
//!    takes nothing is the protocol's to give up: it can still answer the client.
//! 4. **What takes time is asked for until it is there**: [`Io::resolve`] and [`Io::connect`]
//!    return [`Poll::Pending`] until they return [`Poll::Ready`]; a protocol reads downwards, each
//!    step `let Poll::Ready(x) = io.resolve(name) else { return Ok(()) }`.
//! 5. **What is done is charged**: each step of a protocol (a request, a file, a piece of a body)
//!    says what it costs ([`work`]), and none is begun once [`Work::is_spent`]. `advance` returns
//!    then, whatever still waits, and is called again in the next turn, behind the others.
//!
//! A protocol never sees a socket, a descriptor, an interest set or a clock, so it can be tested in
//! memory, fuzzed and simulated. How a session ends:
//!
//! ```text
//! io.down.finish()   no more from us on that side; what the peer sends is still read
//! io.close()         send what is queued, shut down, read and drop what still comes (bounded), close
//! io.close_as(why)   the same, counted as a time-out or a refusal
//! Err(error)         drop the session now; one log line, one counter; a reset where an end would make a message whole
//! ```
//!
//! Not here: datagrams ([`datagram`]), how a session ends ([`crate::ending`]), how bytes reach the
//! buffers (`reactor::session`) or what the kernel is asked ([`crate::sys`]).

pub mod datagram;
pub mod origins;
pub mod work;

use std::any::Any;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::task::Poll;
use std::time::{Duration, Instant, SystemTime};

use crate::buffer::{Pool, RecvBuf, SendQueue};
use crate::cache::compressed::Compressed;
use crate::cache::store::{Hands, Store, StoreId, Stores};
use crate::disk::Disk;
use crate::dns::{Addresses, Failure, Resolver};
use crate::ending::{Ending, Error};
use crate::hooks::{Call, Hooks};
use crate::inside::Inside;
use crate::inside::roster::Roster;
use crate::jobs::pending::Asker;
use crate::jobs::{Asking, Jobs, Kind};
use crate::metrics::{Beside, Counted, Of, StreamMetrics};
use crate::pipe::{Inlet, Piped};
use datagram::KnownSenders;
use origins::{Idle, Opening, TlsTo, Trouble, Way};
use work::Work;

pub use crate::waiter::{Id, Waiter};

/// A protocol over a byte stream.
pub trait Service {
    /// The state of one connection.
    type Conn;

    /// The client speaks first: a connection is accepted when its first bytes are there, and they
    /// are read at once. One that stays silent is accepted about a second later.
    const CLIENT_FIRST: bool = false;

    /// It may have something to do before it has a session: it is told of the end of its first turn.
    const BEGINS_ALONE: bool = false;

    /// What its listener counts beside the bytes: nothing counted yet.
    fn counts() -> Of {
        Of::Streams(StreamMetrics::default())
    }

    /// A connection was accepted: its first state. `advance` follows at once, so a greeting is for
    /// that.
    fn accept(&mut self, peer: &Peer, now: Instant) -> Self::Conn;

    /// Takes the state as far as the facts in `io` allow. See the module's rules.
    ///
    /// # Errors
    /// Why the session is to be dropped at once.
    fn advance(&mut self, conn: &mut Self::Conn, io: &mut Io<'_>) -> Result<(), Error>;

    /// Until when this state may last.
    fn deadline(&self, conn: &Self::Conn) -> Instant;

    /// What this state is called: as in the picture of the protocol's module.
    fn state(&self, conn: &Self::Conn) -> &'static str;

    /// The session is over, for whatever reason: what must be undone is undone here.
    fn ended(&mut self, _conn: Self::Conn, _cx: &mut Cx<'_>) {}

    /// The state of a session that is to begin without a client: what it sees of one is closed.
    /// Asked, until there is none, after a call in which [`Io::begin_alone`] was called, and after
    /// [`Service::turn_ended`].
    fn alone(&mut self, _now: Instant) -> Option<Self::Conn> {
        None
    }

    /// The client of this connection is gone. Whether the session goes on without it, for what
    /// others wait for: it is told of its end by itself then.
    fn outlives_client(&mut self, _conn: &mut Self::Conn, _cx: &mut Cx<'_>) -> bool {
        false
    }

    /// The end of a turn in which one of its sessions called [`Io::at_turn_end`], a job for a
    /// service came to its end, or [`Service::turn_deadline`] passed, and of the first turn of one that
    /// [begins alone](Service::BEGINS_ALONE): what is better done once for all sessions, what takes
    /// more than one turn, and what is done without any. Whether there is more to do: then it is called again at the end of the
    /// next turn, which comes at once.
    fn turn_ended(&mut self, _cx: &mut Cx<'_>) -> bool {
        false
    }

    /// When [`Service::turn_ended`] is to be called though nothing happened; looked at after each
    /// such call. What was kept for a while is thrown away then.
    fn turn_deadline(&self) -> Option<Instant> {
        None
    }

    /// Whether it has something to do of its own, such as a job, [`Waiter::Service`]: then it stays
    /// until that is done, also when it has no session and gets none any more.
    fn is_busy(&self) -> bool {
        false
    }

    /// Files that are written to were moved away: open them again, under the same paths.
    fn reopen(&mut self, _cx: &mut Cx<'_>) {}

    /// What it has learned that the service should know which takes its place at a listener; nothing
    /// for most. Whoever makes the other one of its kind knows the type.
    fn bequeath(&self) -> Option<Box<dyn Any>> {
        None
    }

    /// It takes the place of a service that has learned this ([`Service::bequeath`]), and is new.
    fn inherit(&mut self, _learned: Box<dyn Any>) {}
}

/// Which half of a session: towards the client that came to us, or the server that we went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Towards the client.
    Down,
    /// Towards the origin server; only a proxy has one.
    Up,
}

/// One direction pair of a session: what arrived, what is to be sent, and how the socket stands.
#[derive(Debug)]
pub struct Link {
    /// What arrived and was not consumed.
    pub rx: RecvBuf,
    /// What is to be sent.
    pub tx: SendQueue,
    /// The peer sent its last byte; what is in `rx` is the rest.
    pub eof: bool,
    /// Whether our last byte was queued, and sent.
    pub finish: Finish,
    /// How the socket stands.
    pub status: LinkState,
    /// What arrives goes to the other side unread, if that side relays as well: see [`Io::relay`].
    pub relays: bool,
    /// The end of our stream is the only sign that the body is whole: a session that is dropped
    /// resets the connection instead.
    pub end_is_framing: bool,
    /// Bytes that left for the peer, as records where TLS is spoken: how fast it takes what is
    /// sent.
    pub sent: u64,
    /// What comes and nobody is to look at.
    pub inlet: Option<Box<Inlet>>,
}

impl Link {
    /// A link with a send queue of `send_bytes_max` bytes in memory.
    pub fn new(status: LinkState, send_bytes_max: u32) -> Self {
        Self {
            rx: RecvBuf::default(),
            tx: SendQueue::new(send_bytes_max),
            eof: false,
            finish: Finish::Open,
            status,
            relays: false,
            end_is_framing: false,
            sent: 0,
            inlet: None,
        }
    }

    /// The next so many bytes may come by a pipe ([`Link::take_piped`]); else they come to `rx`. What
    /// came by one is ahead of what does not, and is to be taken, or the session to end.
    ///
    /// `held`: they stay in the socket until this is called anew. Its buffer is enough as long as what
    /// came before is on its way; to receive more would cost a copy, or one more pipe.
    pub fn want_piped(&mut self, bytes: u64, held: bool) {
        let came = self.take_piped();
        if bytes > 0 || came.is_some() {
            let inlet = self.inlet.get_or_insert_default();
            (inlet.wanted, inlet.came, inlet.held) = (bytes, came, held);
        } else {
            self.inlet = None;
        }
    }

    /// What came by a pipe.
    pub fn take_piped(&mut self) -> Option<Piped> {
        self.inlet.as_mut()?.came.take()
    }

    /// Bytes that came by a pipe and were not taken.
    pub fn piped_bytes(&self) -> usize {
        let came = self.inlet.as_ref().and_then(|inlet| inlet.came.as_ref());
        came.map_or(0, |piped| piped.bytes)
    }

    /// Bytes that came and were not consumed.
    pub fn arrived(&self) -> usize {
        self.rx.len() + self.piped_bytes()
    }

    /// Whether more may be received.
    pub fn has_space(&self) -> bool {
        let is_held = self.inlet.as_ref().is_some_and(|inlet| inlet.held);
        self.piped_bytes() == 0 && self.rx.has_space() && !is_held
    }

    /// No more will be put into `tx`: the peer is to see the end of our stream after what is
    /// queued.
    pub fn finish(&mut self) {
        if self.finish == Finish::Open {
            self.finish = Finish::Wanted;
        }
    }

    /// Whether an origin's connection can take another request: it is open, and nothing was heard
    /// of it since the last.
    pub fn is_reusable(&self) -> bool {
        let is_open = self.status == LinkState::Open && self.finish == Finish::Open;
        is_open && !self.eof && self.rx.is_empty() && self.tx.is_empty()
    }

    /// Whether nothing more will arrive: the end was seen and everything before it consumed.
    pub fn is_drained(&self) -> bool {
        self.eof && self.arrived() == 0
    }
}

/// Bytes that went from one side of a session to the other unread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Relayed {
    /// From the origin to the client.
    pub down: u64,
    /// From the client to the origin.
    pub up: u64,
}

/// The addresses of both ends of a connection that we made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ends {
    /// Ours.
    pub local: SocketAddr,
    /// The one that was connected to.
    pub peer: SocketAddr,
}

impl Ends {
    /// Whether the peer is this very machine: a system that connects to an address of its own does
    /// so from that address.
    pub fn are_one_machine(&self) -> bool {
        self.local.ip().to_canonical() == self.peer.ip().to_canonical()
    }
}

/// How far the end of our stream is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finish {
    /// More may be sent.
    Open,
    /// The socket is shut down for writing once the queue is empty.
    Wanted,
    /// It is.
    Sent,
}

/// How the socket of a side stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkState {
    /// There is none.
    Closed,
    /// A connection is being made.
    Connecting,
    /// It carries bytes.
    Open,
    /// It could not be made or it broke. `rx` holds what came before.
    Failed(io::ErrorKind),
}

/// What all sessions share during a turn, and where what they do is counted.
pub struct Cx<'a> {
    /// The moment of this turn.
    pub now: Instant,
    /// The same by the wall clock, for dates and file names only.
    pub wall: SystemTime,
    /// The number of this turn: work that is shared by many sessions is done once in each.
    pub turn: u64,
    /// The process is about to end: finish what is under way, begin nothing new.
    pub draining: bool,
    /// Where pages come from.
    pub pool: &'a mut Pool,
    /// Files and entropy.
    pub disk: &'a mut dyn Disk,
    /// What waits for the disk.
    pub jobs: &'a mut Jobs<Waiter>,
    /// Commands that are to be run; asked through [`Cx::run`].
    pub hooks: &'a mut Hooks,
    /// Names to addresses; asked through [`Io::resolve`].
    pub resolver: &'a mut Resolver<Id>,
    /// Responses that proxies keep. A session that has to wait for one is woken.
    pub stores: &'a mut Stores,
    /// Compressed forms of contents. A session that has to wait for one is woken.
    pub compressed: &'a mut Compressed<Id>,
    /// What services over datagrams know of their senders.
    pub senders: &'a mut Roster<KnownSenders>,
    /// Sessions that are to be called again, since what they waited for is there.
    pub woken: &'a mut Vec<Id>,
    /// What can be seen of the loop.
    pub inside: &'a mut Inside,
    /// What may still be done in this turn.
    pub work: &'a mut Work,
    /// What is counted, as that of the session's listener.
    pub counted: Counted<'a>,
}

impl Cx<'_> {
    /// What the parts of the process counted by themselves.
    pub fn beside(&self) -> Beside {
        Beside {
            resolver: self.resolver.counters(),
            lookups: self.resolver.lookups_under_way(),
            cached_names: self.resolver.cached(),
            compressed: self.compressed.counters(),
            compressed_bytes: self.compressed.bytes(),
            stores: self.stores.sums(),
            jobs: Kind::ALL.map(|kind| self.jobs.counts(kind)),
            jobs_under_way: self.jobs.under_way(),
            hooks: self.hooks.counts(),
            hooks_under_way: self.hooks.under_way(),
        }
    }

    /// Runs a command because of what happened. Nobody waits for it.
    pub fn run(&mut self, call: Call) {
        let (listener, name) = self.counted.listener();
        self.hooks.ask(listener, name, call, self.now);
    }

    /// Files, for one who may have to wait for them.
    #[inline]
    pub fn files(&mut self, waiter: Waiter) -> Asking<'_, Waiter> {
        Asking::new(&mut *self.disk, &mut *self.jobs, waiter, self.now)
    }

    /// A store, and what it asks of the loop.
    pub fn store(&mut self, id: StoreId) -> (&mut Store, Hands<'_>) {
        let hands = Hands {
            disk: &mut *self.disk,
            jobs: &mut *self.jobs,
            pool: &mut *self.pool,
            woken: &mut *self.woken,
            now: self.now,
            wall_ms: unix_ms(self.wall),
        };
        (self.stores.at(id), hands)
    }

    /// The disk, for a waiter that holds the answers until they are there.
    pub fn asker(&mut self, waiter: Waiter) -> Asker<'_, Waiter> {
        Asker {
            disk: &mut *self.disk,
            jobs: &mut *self.jobs,
            waiter,
            now: self.now,
        }
    }
}

/// Unix time in milliseconds.
pub fn unix_ms(wall: SystemTime) -> u64 {
    let since = wall.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_millis()).unwrap_or(u64::MAX)
}

/// What one session may see and ask during one call of [`Service::advance`]. The fields are public
/// so that several can be borrowed at once: `io.down.tx.put(bytes, io.cx.pool)`.
pub struct Io<'a> {
    /// What was queued for the client when the session last parked has all been sent since: an idle
    /// time begins now.
    pub drained: bool,
    /// Towards the client.
    pub down: &'a mut Link,
    /// Towards the origin.
    pub up: &'a mut Link,
    /// Where the connection to the origin leads, once it is made.
    pub ends: Option<Ends>,
    /// What is wrong with the TLS of an origin whose connection failed.
    pub trouble: Option<&'a Trouble>,
    /// What went unread from one side to the other since [`Io::relay`].
    pub relayed: Relayed,
    /// Which session this is.
    pub id: Id,
    /// Who is at the client's end.
    pub peer: &'a Peer,
    /// Which service's it is: those of one share what is idle.
    pub service: u32,
    /// The connections to origins that nobody uses; asked through [`Io::reuse`].
    pub idle: &'a mut Idle,
    /// What it shares with the others.
    pub cx: Cx<'a>,
    /// What was asked of the reactor; started after the call.
    pub asked: &'a mut Asked,
}

impl Io<'_> {
    /// Ends the session in good order: what is queued is sent, the stream is shut down, and what
    /// the peer still sends is read and dropped within bounds, so that no reset overtakes the last
    /// answer.
    pub fn close(&mut self) {
        self.asked.close = true;
    }

    /// The same for a session that is not done: how it is counted.
    pub fn close_as(&mut self, ending: Ending) {
        self.asked.close = true;
        self.asked.ending = ending;
    }

    /// There is more to do than this turn has time for, for a reason of the protocol's own:
    /// `advance` is called again in the next one, behind all others. That a share of work is spent
    /// is seen by the reactor.
    pub fn again(&mut self) {
        self.asked.again = true;
    }

    /// Whether [`Io::again`] was called.
    pub fn is_again(&self) -> bool {
        self.asked.again
    }

    /// A session is to begin that has no client: [`Service::alone`].
    pub fn begin_alone(&mut self) {
        self.asked.alone = true;
    }

    /// [`Service::turn_ended`] is to be called at the end of this turn.
    pub fn at_turn_end(&mut self) {
        self.asked.turn_end = true;
    }

    /// As [`Io::close`], for a peer that said it will send nothing more and whose every byte was
    /// read: no end is waited for, which saves two system calls. Where that turns out to be wrong,
    /// it is an ordinary close.
    pub fn close_at_once(&mut self) {
        self.asked.close = true;
        self.asked.at_once = true;
    }

    /// The addresses of `name`; asked again until it answers, or until [`Io::stop_resolving`].
    pub fn resolve(&mut self, name: &str) -> Poll<Result<Addresses, Failure>> {
        let (resolver, client) = (&mut self.cx.resolver, self.peer.network());
        resolver.lookup(name, self.id, client, self.cx.now)
    }

    /// A name that was asked for is no longer waited for. Where nobody else does, its look-up ends.
    pub fn stop_resolving(&mut self) {
        self.cx.resolver.forget(self.id);
    }

    /// A connection that was kept for `way`: whether there is one. If so, it is the session's from
    /// the next call on, or at once where the session kept it in this one. Asked when `up` is
    /// `Closed`, and again until it answers; it may have ended meanwhile ([`Link::is_reusable`]).
    pub fn reuse(&mut self, way: &Way) -> Poll<bool> {
        if self.asked.keep.as_ref() == Some(way) {
            self.asked.keep = None;
            self.up.status = LinkState::Open;
        }
        if self.up.status == LinkState::Open {
            return Poll::Ready(true);
        }
        if self.asked.reuse.is_none() {
            self.asked.reuse = self.idle.take(self.service, way, self.cx.now);
        }
        match self.asked.reuse {
            Some(_) => Poll::Pending,
            None => Poll::Ready(false),
        }
    }

    /// An exchange with the origin ended clean: its connection is kept for whoever asks for `way`
    /// next, unless something is heard of it. `io.up` is `Closed` at once.
    pub fn keep(&mut self, way: &Way) {
        if self.up.is_reusable() {
            self.asked.keep = Some(way.clone());
            self.up.status = LinkState::Closed;
        } else {
            self.disconnect();
        }
    }

    /// A connection to the first of `addresses` that takes one; asked again until it answers, after
    /// `timeout` at the latest. Several may be tried at once (RFC 8305).
    pub fn connect(
        &mut self,
        addresses: &[SocketAddr],
        timeout: Duration,
    ) -> Poll<Result<(), io::ErrorKind>> {
        self.connect_with(addresses, timeout, Opening::default())
    }

    /// The same for an origin that is told of its client, or that TLS is spoken with: that is part
    /// of it, and within `timeout`. What is wrong with the TLS stands in [`Io::trouble`].
    pub fn connect_with(
        &mut self,
        addresses: &[SocketAddr],
        timeout: Duration,
        opening: Opening,
    ) -> Poll<Result<(), io::ErrorKind>> {
        match self.up.status {
            LinkState::Open => Poll::Ready(Ok(())),
            LinkState::Failed(kind) => Poll::Ready(Err(kind)),
            LinkState::Connecting => Poll::Pending,
            LinkState::Closed => {
                if self.asked.connect.is_none() {
                    self.asked.connect = Some(Connect {
                        addresses: addresses.to_vec(),
                        timeout,
                        opening,
                    });
                }
                Poll::Pending
            }
        }
    }

    /// TLS begins on a connection that is open and has carried bytes in plain text, as to a proxy that
    /// opened a tunnel. Whether it is there tells [`Io::connect`], as of a connection that is made,
    /// after `timeout` at the latest. None of the bytes before may be left ([`Link::is_reusable`]).
    pub fn secure(&mut self, to: TlsTo, timeout: Duration) {
        debug_assert!(self.up.is_reusable(), "plain bytes ahead of TLS");
        self.asked.secure = Some((to, timeout));
        self.up.status = LinkState::Connecting;
    }

    /// From now on what arrives on either side may go to the other unread, until the connection to
    /// the origin ends. The kernel moves it where it can, and [`Io::relayed`] tells how much; all
    /// else arrives as before, and is the protocol's to pass on. The end of a stream is told once
    /// everything before it is on its way.
    pub fn relay(&mut self) {
        (self.down.relays, self.up.relays) = (true, true);
    }

    /// Drops the connection to the origin, made or being made, with all that was received and
    /// queued. `io.up` is `Closed` at once, so that another connection may be asked for.
    pub fn disconnect(&mut self) {
        if self.up.status != LinkState::Closed {
            self.asked.disconnect = true;
            self.up.rx.clear();
            self.up.rx.release(self.cx.pool);
            self.up.tx.clear(self.cx.pool);
            self.up.eof = false;
            self.up.finish = Finish::Open;
            self.up.status = LinkState::Closed;
            (self.down.relays, self.up.relays) = (false, false);
        }
    }
}

/// A connection that is asked for.
#[derive(Debug)]
pub(crate) struct Connect {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) timeout: Duration,
    pub(crate) opening: Opening,
}

/// What a call of `advance` asked of the reactor.
#[derive(Debug, Default)]
pub struct Asked {
    pub(crate) close: bool,
    pub(crate) ending: Ending,
    pub(crate) again: bool,
    pub(crate) turn_end: bool,
    pub(crate) alone: bool,
    pub(crate) at_once: bool,
    pub(crate) disconnect: bool,
    pub(crate) connect: Option<Connect>,
    /// TLS is to begin on the connection to the origin.
    pub(crate) secure: Option<(TlsTo, Duration)>,
    /// The connection to the origin is nobody's any more, and leads this way.
    pub(crate) keep: Option<Way>,
    /// The place of an idle connection that the session gets.
    pub(crate) reuse: Option<u32>,
}

impl Asked {
    /// Whether the connection to the origin changes hands.
    pub(crate) fn changes_origin(&self) -> bool {
        self.disconnect || self.keep.is_some() || self.reuse.is_some()
    }

    /// Whether the session is to end: what came is dropped.
    pub fn closes(&self) -> bool {
        self.close
    }

    /// Whether nothing was asked: the session goes on as it is.
    pub fn is_empty(&self) -> bool {
        let Self {
            connect,
            secure,
            keep,
            reuse,
            ..
        } = self;
        let is_as_before =
            connect.is_none() && secure.is_none() && keep.is_none() && reuse.is_none();
        is_as_before && !self.close && !self.again && !self.disconnect
    }
}

/// Who is at the other end.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Peer {
    /// A TCP address.
    Inet(SocketAddr),
    /// A Unix stream socket; its user has no address.
    Unix,
}

impl Peer {
    /// Its address, if it has one; an IPv4 address that is written in IPv6 as the IPv4 address that
    /// it is.
    pub fn ip(&self) -> Option<IpAddr> {
        match self {
            Peer::Inet(address) => Some(address.ip().to_canonical()),
            Peer::Unix => None,
        }
    }

    /// What stands for one client: its IPv4 address, or the first address of the /64 that one IPv6
    /// network has at its disposal.
    pub fn network(&self) -> Option<IpAddr> {
        Some(match self.ip()? {
            IpAddr::V4(ip) => ip.into(),
            IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).into(),
        })
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Inet(address) => address.fmt(f),
            Peer::Unix => f.write_str("unix"),
        }
    }
}
