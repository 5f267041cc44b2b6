//! The test bench of the services: one connection in memory, a clock that is set by hand, and a
//! real disk; no sockets.
//!
//! `peer_sends`, `expect`, `peer_closes`, `expect_closed`: a test reads like the dialogue that it
//! checks. Every step also checks the contract: a second `advance` with nothing new changes
//! nothing, and the deadline lies ahead while nothing waits to be sent. The client takes all that
//! is sent to it, unless `peer_takes_only` says otherwise.
//!
//! A long file, since it stands for the whole loop.

use std::io;
use std::time::{Duration, Instant, SystemTime};

use crate::buffer::{Front, Pool};
use crate::cache::compressed::Compressed;
use crate::cache::store::{Hands, Stores};
use crate::dns::{self, Hosts, Resolver};
use crate::ending::{Ending, Error};
use crate::hooks::Hooks;
use crate::inside::Inside;
use crate::inside::roster::Roster;
use crate::jobs::pending::Asker;
use crate::jobs::{Done, Job, Jobs};
use crate::limits::DiskLimits;
use crate::metrics::{Counted, ListenerMetrics, Metrics};
use crate::service::datagram::KnownSenders;
use crate::service::origins::{Idle, IdleLimits, Opening};
use crate::service::work::Work;
use crate::service::{
    Asked, Cx, Ends, Finish, Id, Io, Link, LinkState, Peer, Relayed, Service, Side, Waiter, unix_ms,
};
use crate::sys::unix;

/// What a send queue holds on the bench unless a test says otherwise, in bytes.
const SEND_BYTES_MAX: u32 = 512 * 1024;

/// A service that wants to be called so soon is called at once.
const SOON: Duration = Duration::from_millis(100);

/// The session of the connection.
const ID: Id = Id {
    index: 0,
    generation: 0,
};

/// One connection of a service.
pub struct Bench<T: Service> {
    pub service: T,
    conn: Option<T::Conn>,
    pub down: Link,
    pub up: Link,
    pub pool: Pool,
    pub disk: unix::Files,
    pub jobs: Jobs<Waiter>,
    /// Commands that the service wants run.
    pub hooks: Hooks,
    pub resolver: Resolver<Id>,
    pub stores: Stores,
    pub compressed: Compressed<Id>,
    /// The connections to origins that nobody uses.
    pub idle: Idle,
    /// Their links, by place.
    kept: Vec<Link>,
    pub metrics: Metrics,
    pub inside: Inside,
    /// Sessions that the service woke.
    pub woken: Vec<Id>,
    pub senders: Roster<KnownSenders>,
    /// What one call, and the end of a turn, may do.
    pub share: Duration,
    pub work: Work,
    peer: Peer,
    /// The service has more to do at the end of the turn.
    turn_end: bool,
    /// The disk does nothing until it is told to.
    pub disk_rests: bool,
    pub now: Instant,
    pub wall: SystemTime,
    pub draining: bool,
    /// Bytes of the answer that were not expected yet.
    sent: Vec<u8>,
    /// Bytes that the client still takes.
    window: usize,
    /// Output waited for the client when the session last parked; since then it drained.
    waited: bool,
    drained: bool,
    /// The addresses that a connection was asked for.
    pub connect: Option<Vec<std::net::SocketAddr>>,
    /// What was to be said first on the last of them.
    pub opening: Opening,
    /// With whom TLS was to begin on a connection that had been made before.
    pub secured: Option<String>,
    /// Where the connection to the origin leads.
    pub leads: Option<Ends>,
    closed: bool,
    /// Why the session was closed.
    pub ending: Ending,
    /// How the session was dropped.
    pub failed: Option<Error>,
}

/// A session that a test does not look at now.
pub struct Aside<C> {
    conn: Option<C>,
    down: Link,
    up: Link,
    sent: Vec<u8>,
    window: usize,
    connect: Option<Vec<std::net::SocketAddr>>,
    closed: bool,
    failed: Option<Error>,
}

impl<C> Default for Aside<C> {
    fn default() -> Self {
        Self {
            conn: None,
            down: Link::new(LinkState::Closed, SEND_BYTES_MAX),
            up: Link::new(LinkState::Closed, SEND_BYTES_MAX),
            sent: Vec::new(),
            window: usize::MAX,
            connect: None,
            closed: false,
            failed: None,
        }
    }
}

/// What a bench shows its service; a macro, because the service itself stays free to be borrowed.
macro_rules! cx {
    ($bench:expr) => {
        Cx {
            now: $bench.now,
            wall: $bench.wall,
            turn: $bench.metrics.turns,
            draining: $bench.draining,
            pool: &mut $bench.pool,
            disk: &mut $bench.disk,
            jobs: &mut $bench.jobs,
            hooks: &mut $bench.hooks,
            resolver: &mut $bench.resolver,
            stores: &mut $bench.stores,
            compressed: &mut $bench.compressed,
            senders: &mut $bench.senders,
            woken: &mut $bench.woken,
            inside: &mut $bench.inside,
            work: &mut $bench.work,
            counted: Counted::new(&mut $bench.metrics, 0),
        }
    };
}

impl<T: Service> Bench<T> {
    /// A connection just accepted, after its first `advance`.
    pub fn new(service: T) -> Self {
        let peer = Peer::Inet(([192, 0, 2, 9], 40_000).into());
        let listener = ListenerMetrics::new("bench", "bench", String::new(), T::counts());
        let hosts = Hosts::parse("192.0.2.1 origin.example\n127.0.0.1 inside.example\n");
        let mut bench = Self {
            service,
            conn: None,
            down: Link::new(LinkState::Open, SEND_BYTES_MAX),
            up: Link::new(LinkState::Closed, SEND_BYTES_MAX),
            pool: Pool::new(64 << 20, 1 << 20),
            disk: unix::Files::default(),
            stores: Stores::default(),
            compressed: Compressed::new(1 << 20),
            jobs: Jobs::new(DiskLimits::default()),
            hooks: Hooks::default(),
            resolver: Resolver::new(dns::Config::default(), hosts, [7; 32]),
            idle: Idle::new(IdleLimits {
                per_origin_max: 2,
                max: 4,
                timeout: Duration::from_secs(60),
            }),
            kept: Vec::new(),
            metrics: Metrics {
                listeners: [(0, listener)].into_iter().collect(),
                ..Metrics::default()
            },
            inside: Inside::default(),
            woken: Vec::new(),
            senders: Roster::default(),
            share: Duration::MAX,
            work: Work::new(Duration::MAX),
            peer: peer.clone(),
            turn_end: false,
            disk_rests: false,
            now: Instant::now(),
            wall: SystemTime::UNIX_EPOCH + Duration::from_secs(1_792_000_000),
            draining: false,
            sent: Vec::new(),
            window: usize::MAX,
            waited: false,
            drained: false,
            connect: None,
            opening: Opening::default(),
            secured: None,
            leads: None,
            closed: false,
            ending: Ending::Done,
            failed: None,
        };
        bench.conn = Some(bench.service.accept(&peer, bench.now));
        bench.step();
        bench
    }

    /// Calls `advance` as the reactor does after a fact changed, taking what is sent: once, and
    /// again for the next turn that the service asked for, or for room that was refused before. One
    /// more call must change nothing.
    pub fn step(&mut self) {
        self.metrics.turns += 1;
        loop {
            let again = self.advance_once();
            let freed = self.collect();
            if self.is_over() {
                return;
            }
            if again {
                self.metrics.turns += 1; // the next one
            } else if !freed && !self.drained {
                break;
            }
        }
        let before = self.facts();
        let again = self.advance_once();
        self.collect();
        assert!(
            !again && !self.is_over(),
            "a second look asked for something"
        );
        assert_eq!(self.facts(), before, "a second look changed something");
        self.waited = !self.down.tx.is_empty();
        assert!(
            self.waited || self.deadline() > Some(self.now),
            "the deadline must lie ahead"
        );
    }

    /// Everything that a call of `advance` may change while the session goes on.
    fn facts(&self) -> ([usize; 5], LinkState, [Finish; 2], Option<Instant>) {
        let (down, up) = (&self.down, &self.up);
        let counts = [
            self.sent.len(),
            down.rx.len(),
            down.tx.memory_bytes(),
            up.rx.len(),
            up.tx.memory_bytes(),
        ];
        (counts, up.status, [down.finish, up.finish], self.deadline())
    }

    /// One call, and the end of its turn; whether the service wants another turn.
    fn advance_once(&mut self) -> bool {
        let Some(conn) = &mut self.conn else {
            return false;
        };
        let mut asked = Asked::default();
        self.work = Work::new(self.share);
        let mut io = Io {
            drained: std::mem::take(&mut self.drained),
            down: &mut self.down,
            up: &mut self.up,
            relayed: Relayed::default(),
            cx: cx!(self),
            ends: self.leads,
            trouble: None,
            id: ID,
            peer: &self.peer,
            service: 0,
            idle: &mut self.idle,
            asked: &mut asked,
        };
        let result = self.service.advance(conn, &mut io);
        if asked.disconnect {
            self.up = Link::new(LinkState::Closed, SEND_BYTES_MAX);
        }
        let is_reused = self.hand_over(&mut asked);
        if let Some(connect) = asked.connect {
            (self.connect, self.opening) = (Some(connect.addresses), connect.opening);
            self.up.status = LinkState::Connecting;
        }
        if let Some((to, _)) = asked.secure {
            self.secured = Some(to.name.to_str().into_owned());
        }
        if asked.close {
            self.closed = true;
            self.ending = asked.ending;
        }
        let goes_on_alone = result.is_err() && self.goes_on_alone();
        if let Err(error) = result
            && !goes_on_alone
        {
            self.failed = Some(error);
        }
        if (self.closed || self.failed.is_some())
            && let Some(conn) = self.conn.take()
        {
            self.service.ended(conn, &mut cx!(self));
            self.jobs.forget(Waiter::Session(ID));
            self.finish();
        }
        let is_spent = self.work.is_spent();
        self.end_turn(asked.turn_end);
        let is_woken = !std::mem::take(&mut self.woken).is_empty() | self.work();
        asked.again
            || goes_on_alone
            || is_reused
            || is_spent
            || is_woken
            || self.turn_end
            || self.compressed.has_work()
    }

    /// The end of the turn, which the session asked to be told of or not.
    fn end_turn(&mut self, asked: bool) {
        self.work = Work::new(self.share);
        let is_told = asked | self.turn_end;
        self.turn_end = is_told && self.service.turn_ended(&mut cx!(self));
        if let Some(at) = self.service.turn_deadline()
            && at <= self.now + SOON
        {
            // Time does not pass here by itself: the moment has come.
            let now = std::mem::replace(&mut self.now, at);
            self.turn_end |= self.service.turn_ended(&mut cx!(self));
            self.now = now;
        }
        let asker = &mut Asker {
            disk: &mut self.disk,
            jobs: &mut self.jobs,
            waiter: Waiter::Service,
            now: self.now,
        };
        self.compressed.work(asker);
        while let Some(id) = self.compressed.poll_woken() {
            self.woken.push(id);
        }
    }

    /// The connection to the origin changes hands. Whether the session got one that was idle.
    fn hand_over(&mut self, asked: &mut Asked) -> bool {
        if let Some(way) = asked.keep.take() {
            self.up.status = LinkState::Open;
            let closed = Link::new(LinkState::Closed, SEND_BYTES_MAX);
            let place = self.kept.len() as u32;
            self.kept.push(std::mem::replace(&mut self.up, closed));
            self.idle.put(0, way, place, self.now);
        }
        if let Some(place) = asked.reuse {
            let closed = Link::new(LinkState::Closed, SEND_BYTES_MAX);
            self.up = std::mem::replace(&mut self.kept[place as usize], closed);
        }
        asked.reuse.is_some()
    }

    /// Something is heard of the connection that was kept last, and that nobody uses: it is closed.
    fn kept_dies(&mut self) -> bool {
        let last = (0..self.kept.len() as u32).rev();
        let is_unused = self.up.status == LinkState::Closed;
        is_unused && last.into_iter().any(|place| self.idle.remove(place))
    }

    /// What is left to be done when a session has ended.
    fn finish(&mut self) {
        self.work();
        while std::mem::take(&mut self.turn_end) {
            self.turn_end = self.service.turn_ended(&mut cx!(self));
            self.work();
        }
    }

    /// Does the jobs that were asked for, and those that follow from them; whether the session was
    /// woken by one.
    fn work(&mut self) -> bool {
        let mut is_woken = self.tell();
        while !self.disk_rests
            && let Some((id, mut job)) = self.jobs.poll_start(self.now)
        {
            let result = job.perform(&mut self.disk);
            self.jobs.finished(id, job, result, self.now);
            is_woken |= self.tell();
        }
        is_woken
    }

    /// Tells those who waited for jobs that these are done; whether the session did.
    fn tell(&mut self) -> bool {
        let mut is_woken = false;
        while let Some(waiter) = self.jobs.poll_woken() {
            match waiter {
                Waiter::Service => self.turn_end = true,
                Waiter::NameFiles => {}
                Waiter::Session(_) | Waiter::Sending(_) => is_woken = true,
                Waiter::Store { store, task } => {
                    let mut hands = Hands {
                        disk: &mut self.disk,
                        jobs: &mut self.jobs,
                        pool: &mut self.pool,
                        woken: &mut self.woken,
                        now: self.now,
                        wall_ms: unix_ms(self.wall),
                    };
                    self.stores.job_done(store, task, &mut hands);
                    is_woken |= !self.woken.is_empty();
                }
            }
        }
        while let Some(page) = self.jobs.poll_page() {
            self.pool.give_slice(page);
        }
        is_woken
    }

    /// The disk does what it was asked to before, and then rests again: the first jobs, at most so
    /// many. Whether there were any.
    pub fn disk_does(&mut self, count: usize) -> bool {
        self.disk_does_by(count, |job, disk| job.perform(disk))
    }

    /// The same, each job done by `perform`.
    pub fn disk_does_by(
        &mut self,
        count: usize,
        mut perform: impl FnMut(&mut Job, &mut unix::Files) -> io::Result<Done>,
    ) -> bool {
        let mut jobs = Vec::new();
        while jobs.len() < count
            && let Some(job) = self.jobs.poll_start(self.now)
        {
            jobs.push(job);
        }
        let any = !jobs.is_empty();
        for (id, mut job) in jobs {
            let result = perform(&mut job, &mut self.disk);
            self.jobs.finished(id, job, result, self.now);
        }
        match self.conn {
            Some(_) => self.step(),
            None => self.finish(),
        }
        any
    }

    /// The moment has come that the service named for the end of a turn.
    pub fn turn_ends(&mut self) {
        self.turn_end = true;
        self.finish();
    }

    /// The client is gone, and the session with it.
    pub fn breaks(&mut self) -> &mut Self {
        if let Some(conn) = self.conn.take() {
            self.failed = Some(Error::Reset(io::ErrorKind::ConnectionReset));
            self.service.ended(conn, &mut cx!(self));
            self.jobs.forget(Waiter::Session(ID));
            self.down.rx.clear();
            self.down.rx.release(&mut self.pool);
            self.finish();
        }
        self
    }

    /// Another client comes, while this one takes nothing any more: its connection, which may end
    /// later.
    ///
    /// # Panics
    /// If it has ended.
    pub fn next_client(&mut self) -> T::Conn {
        let stays = self.conn.take().expect("a connection");
        self.down.tx.clear(&mut self.pool);
        self.down = Link::new(LinkState::Open, SEND_BYTES_MAX);
        self.sent.clear();
        (self.window, self.waited, self.drained) = (usize::MAX, false, false);
        self.conn = Some(self.service.accept(&self.peer, self.now));
        self.step();
        stays
    }

    /// Another client comes, while this one stays as it is: what it has, for [`Bench::switch`].
    pub fn another(&mut self) -> Aside<T::Conn> {
        let conn = self.service.accept(&self.peer, self.now);
        let mut aside = Aside {
            conn: Some(conn),
            down: Link::new(LinkState::Open, SEND_BYTES_MAX),
            ..Aside::default()
        };
        self.switch(&mut aside);
        aside
    }

    /// The session without a client that the service asked for begins, if it did.
    pub fn alone(&mut self) -> Option<Aside<T::Conn>> {
        let conn = self.service.alone(self.now)?;
        let mut aside = Aside {
            conn: Some(conn),
            ..Aside::default()
        };
        aside.down.eof = true;
        self.switch(&mut aside);
        Some(aside)
    }

    /// The other session is looked at from now on, and this one stays as it is.
    pub fn switch(&mut self, aside: &mut Aside<T::Conn>) {
        std::mem::swap(&mut self.conn, &mut aside.conn);
        std::mem::swap(&mut self.down, &mut aside.down);
        std::mem::swap(&mut self.up, &mut aside.up);
        std::mem::swap(&mut self.sent, &mut aside.sent);
        std::mem::swap(&mut self.window, &mut aside.window);
        std::mem::swap(&mut self.connect, &mut aside.connect);
        std::mem::swap(&mut self.closed, &mut aside.closed);
        std::mem::swap(&mut self.failed, &mut aside.failed);
        (self.waited, self.drained) = (false, false);
        if self.conn.is_some() {
            self.step();
        }
    }

    /// The client is gone. Whether the session goes on without it.
    pub fn loses_client(&mut self) -> bool {
        let goes_on = self.goes_on_alone();
        match goes_on {
            true => self.step(),
            false => _ = self.breaks(),
        }
        goes_on
    }

    /// Whether a session that failed its client, or lost it, goes on without it; as the reactor has
    /// it.
    fn goes_on_alone(&mut self) -> bool {
        let Some(conn) = &mut self.conn else {
            return false;
        };
        let has_client = self.down.status == LinkState::Open;
        if !has_client || !self.service.outlives_client(conn, &mut cx!(self)) {
            return false;
        }
        self.down.rx.clear();
        self.down.rx.release(&mut self.pool);
        self.down.tx.clear(&mut self.pool);
        self.down = Link::new(LinkState::Closed, SEND_BYTES_MAX);
        self.down.eof = true;
        true
    }

    /// Another connection of the same service has ended.
    pub fn ends(&mut self, conn: T::Conn) {
        self.service.ended(conn, &mut cx!(self));
    }

    /// Files that the service writes to were moved away.
    pub fn reopen(&mut self) {
        self.service.reopen(&mut cx!(self));
        self.work();
    }

    /// Takes what is queued for the client, files included, as far as it takes it. Whether somebody
    /// who was refused room has some now.
    fn collect(&mut self) -> bool {
        let before = self.sent.len();
        collect(
            &mut self.down,
            &mut self.disk,
            &mut self.pool,
            &mut self.sent,
            &mut self.window,
        );
        if self.waited && self.down.tx.is_empty() {
            self.waited = false;
            self.drained = true;
        }
        self.sent.len() > before && self.down.tx.take_refused()
    }

    /// From now on, the client takes so many bytes more, and no others until it is told again.
    pub fn peer_takes_only(&mut self, bytes: usize) -> &mut Self {
        self.window = bytes;
        self.collect();
        if self.conn.is_some() {
            self.step();
        }
        self
    }

    /// The client sends these bytes, in pages as the kernel would bring them.
    pub fn peer_sends(&mut self, mut bytes: &[u8]) -> &mut Self {
        while !bytes.is_empty() && self.conn.is_some() {
            let taken = self.down.rx.push(bytes, &mut self.pool);
            assert!(taken > 0, "the service does not read on");
            bytes = &bytes[taken..];
            self.step();
        }
        self
    }

    /// The client offers these bytes; how many the kernel and then the session took. Fewer than all
    /// while the service does not read on because the client does not take its answers.
    pub fn peer_offers(&mut self, bytes: &[u8]) -> usize {
        let mut offered = 0;
        while offered < bytes.len() && self.conn.is_some() {
            let taken = self.down.rx.push(&bytes[offered..], &mut self.pool);
            if taken == 0 {
                break;
            }
            offered += taken;
            self.step();
        }
        offered
    }

    /// The client sends these bytes, which fit a page, and its end, and the kernel tells of both at
    /// once.
    pub fn peer_sends_and_closes(&mut self, bytes: &[u8]) -> &mut Self {
        let taken = self.down.rx.push(bytes, &mut self.pool);
        assert_eq!(taken, bytes.len(), "more than the kernel brings at once");
        self.peer_closes()
    }

    /// The client sends its end.
    pub fn peer_closes(&mut self) -> &mut Self {
        self.down.eof = true;
        self.step();
        self
    }

    /// Time passes.
    pub fn later(&mut self, span: Duration) -> &mut Self {
        self.now += span;
        self.wall += span;
        self.idle.expire(self.now);
        self.step();
        self
    }

    /// The connection that was asked for is made.
    pub fn origin_accepts(&mut self) -> &mut Self {
        assert_eq!(
            self.up.status,
            LinkState::Connecting,
            "no connection was asked for"
        );
        self.up.status = LinkState::Open;
        self.step();
        self
    }

    /// The connection that was asked for fails.
    pub fn origin_fails(&mut self, kind: io::ErrorKind) -> &mut Self {
        self.up.status = LinkState::Failed(kind);
        self.up.eof = true;
        self.step();
        self
    }

    /// What the origin received so far and was not asked for yet.
    pub fn origin_received(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        collect(
            &mut self.up,
            &mut self.disk,
            &mut self.pool,
            &mut bytes,
            &mut { usize::MAX },
        );
        self.step();
        bytes
    }

    /// The origin sends these bytes.
    pub fn origin_sends(&mut self, mut bytes: &[u8]) -> &mut Self {
        if self.kept_dies() {
            return self;
        }
        while !bytes.is_empty() && self.conn.is_some() {
            let taken = self.up.rx.push(bytes, &mut self.pool);
            assert!(taken > 0, "the service does not read on");
            bytes = &bytes[taken..];
            self.step();
        }
        self
    }

    /// The origin sends its end.
    pub fn origin_closes(&mut self) -> &mut Self {
        self.up.eof = !self.kept_dies();
        self.step();
        self
    }

    /// Everything that was sent to the client and not expected yet.
    pub fn received(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.sent)
    }

    /// The client received exactly this since the last look.
    pub fn expect(&mut self, bytes: &[u8]) -> &mut Self {
        let received = self.received();
        assert_eq!(
            String::from_utf8_lossy(&received),
            String::from_utf8_lossy(bytes),
            "what the client received, and what it should have"
        );
        self
    }

    /// The session ended in good order.
    pub fn expect_closed(&mut self) -> &mut Self {
        assert!(self.failed.is_none(), "dropped: {:?}", self.failed);
        assert!(self.closed, "the session goes on");
        self
    }

    /// The session goes on.
    pub fn expect_open(&mut self) -> &mut Self {
        assert!(
            self.failed.is_none() && !self.closed,
            "the session ended: {:?}",
            self.failed
        );
        self
    }

    /// Whether the session is over, either way.
    pub fn is_over(&self) -> bool {
        self.conn.is_none()
    }

    /// When the state ends by itself.
    pub fn deadline(&self) -> Option<Instant> {
        self.conn.as_ref().map(|conn| self.service.deadline(conn))
    }

    /// Which side has output that waits; for tests of backpressure.
    pub fn queued(&self, side: Side) -> usize {
        match side {
            Side::Down => self.down.tx.memory_bytes(),
            Side::Up => self.up.tx.memory_bytes(),
        }
    }
}

fn collect(
    link: &mut Link,
    disk: &mut unix::Files,
    pool: &mut Pool,
    into: &mut Vec<u8>,
    window: &mut usize,
) {
    use crate::disk::Disk;
    while *window > 0 {
        let before = into.len();
        match link.tx.front() {
            Front::Empty => return,
            Front::Piped(_) => unreachable!("the bench has no pipes"),
            Front::One(bytes, _) => into.extend_from_slice(&bytes[..bytes.len().min(*window)]),
            Front::Many(runs, count, _) => {
                for run in &runs[..count] {
                    let room = *window - (into.len() - before);
                    into.extend_from_slice(&run[..run.len().min(room)]);
                }
            }
            Front::File(file, offset, len) => {
                let len = usize::try_from(len).map_or(*window, |len| len.min(*window));
                let mut bytes = vec![0; len.min(1 << 20)];
                let count = disk
                    .read_at(file, offset, &mut bytes)
                    .expect("a readable file");
                assert!(count > 0, "the file is shorter than was promised");
                into.extend_from_slice(&bytes[..count]);
            }
        }
        let count = into.len() - before;
        link.tx.sent(count, pool);
        if *window != usize::MAX {
            *window -= count;
        }
    }
}
