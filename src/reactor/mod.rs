//! The loop: one thread, one poll, every socket of the process.
//!
//! [`Reactor::turn`] is the whole of it:
//!
//! ```text
//! poll       until an event or the next deadline; not at all while anything is runnable
//! note       each event only marks its socket and queues its session, once
//! jobs       wake those whose job for the disk was done
//! accept     a bounded batch from each listener; a socket that failed is opened again
//! datagrams  bounded batches from each datagram socket
//! timers     queue the sessions whose deadline passed
//! run        pump each queued session once, first come first served; then handshakes that wait
//! end        tell the services that asked for it that the turn ends
//! supervisor tell the service manager, if it is time
//! surplus    close connections to origins that nobody needed for too long
//! compress   a bounded piece of what is to be compressed
//! queries    send and receive what the resolver wants
//! jobs       carry the new ones to the engine
//! hooks      begin commands, and see which have ended
//! list       go on with the list of sessions, if somebody asked for it
//! ```
//!
//! Nothing but `poll` waits, and nothing acts on an event directly: an event is a hint that a fact
//! may have changed, and [`session::Session::pump`] finds out. So merged, repeated and stale events
//! are harmless.
//!
//! All phases of a turn stand in this file, which makes it a long one.
//!
//! The modules in reading order: `context`, `session` (fill, advance, flush), `half` (one side: the
//! two loops that cross the kernel), `transfer`, `range`, `relay`, `inlet`, `pipes`, `tls`, `handshakes`,
//! `taking`, `token`, `timer`, `host`, `introduction`, `untold`, `ear`, `listeners`, `kept`,
//! `upstream`, `race`, `datagram`, `queries`, `name_files`, `disk`, `supervised`.

mod context;
mod datagram;
mod disk;
mod eagerness;
mod ear;
mod half;
mod handshakes;
mod hooks;
mod host;
mod inlet;
mod introduction;
mod kept;
mod listeners;
mod name_files;
mod pipes;
mod queries;
mod race;
mod range;
mod relay;
mod session;
mod sessions;
mod supervised;
mod taking;
mod timer;
mod tls;
mod token;
mod transfer;
mod untold;
mod upstream;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use rustls::server::ResolvesServerCert;
use slab::Slab;

use crate::buffer::Pool;
use crate::cache::compressed::Compressed;
use crate::cache::store::{self, StoreId, Stores};
use crate::dns::{self, Hosts, Resolver, Sources};
use crate::ending::{Ending, Error, Phase};
use crate::gate::Admitted;
use crate::hooks::Hooks;
use crate::inside::Inside;
use crate::inside::replayed::{Books, Replayed};
use crate::inside::ring::{End, LOOP, Part, Record, Ring, What, Why};
use crate::inside::roster::{Roster, Row};
use crate::jobs::Jobs;
use crate::jobs::pending::Asker;
use crate::limits::Limits;
use crate::logging::{self, About};
use crate::metrics::{Gauges, Metrics};
use crate::service::datagram::{DatagramService, KnownSenders, SENDERS_MAX};
use crate::service::origins::IdleLimits;
use crate::service::work::{self, TurnWork, Work};
use crate::service::{Id, Link, LinkState, Peer, Service, Waiter};
use crate::sys::{Bind, Event, News, PlantedBug, Signal, Sys};
use context::{Context, SessionLimits};
pub use datagram::DatagramOptions;
use datagram::Datagrams;
use handshakes::Handshakes;
use host::{Host, Hosted};
pub use listeners::ListenerOptions;
use listeners::{Accepted, Left, Listeners, ServiceType};
use name_files::NameFiles;
use pipes::Pipes;
use queries::Queries;
use session::{Outcome, Provenance, Session};
use sessions::Sessions;
use supervised::Supervised;
use timer::{Tick, Timers};
pub use tls::{PlainAnswer, TlsOptions};
use token::Token;
use upstream::{Holder, Upstreams};

/// Sessions that are listed in a turn, for whoever asks what there are.
const ROWS_PER_TURN: usize = 1024;

/// Whether the loop goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// It does.
    Continue,
    /// It does, and the process was told to read its configuration again.
    Reload,
    /// The process was told to end, and everything under way is done or cut.
    Stop,
}

/// A service and its sessions: it stays as long as it has any, or a listener for more.
struct Serving {
    host: Box<dyn Host>,
    /// A place in the metrics: that of one of its listener's sockets.
    metrics: usize,
    sessions: usize,
    /// No listener brings it sessions any more.
    retired: bool,
}

/// How far the end of the process is.
#[derive(Clone, Copy, Debug)]
enum Life {
    Serving,
    Draining {
        until: Instant,
    },
    Over,
    /// No session is left; what is being changed on a disk may still be done.
    Ending {
        until: Instant,
    },
}

/// The reactor, over a real or a simulated kernel.
pub struct Reactor<S: Sys> {
    cx: Context<S>,
    limits: Limits,
    hosts: Slab<Serving>,
    listeners: Listeners<S>,
    datagrams: Datagrams<S>,
    queries: Queries<S>,
    name_files: NameFiles,
    supervised: Supervised,
    sessions: Sessions<S>,
    timers: Timers<Id>,
    /// What may still be done in this turn.
    turn_work: TurnWork,
    life: Life,
    /// The process was told to read its configuration again, and nobody else knows yet.
    reload_wanted: bool,
    // Kept between turns for their memory only.
    events: Vec<Event>,
    due: Vec<(Tick, Id)>,
}

/// What is told of a record that was replayed.
pub struct Shown {
    /// What the loop did, the sessions, and the rest.
    pub record: (Ring, Vec<Row>, Replayed),
    /// What services over datagrams knew of their senders.
    pub senders: Vec<KnownSenders>,
}

impl<S: Sys> Reactor<S> {
    /// A reactor without listeners.
    pub fn new(sys: S, limits: Limits, resolver: Resolver<Id>) -> Self {
        let (now, wall) = (sys.now(), sys.wall());
        let supervised = Supervised::new(sys.watchdog(), now);
        let mut inside = Inside::default();
        inside.set_limits(limits.inside);
        Self {
            cx: Context {
                sys,
                pool: Pool::new(limits.large_page_bytes_max, limits.pool_bytes_max)
                    .with_bytes_max(limits.page_bytes_max),
                pipes: Pipes::new(limits.pipes_max),
                jobs: Jobs::new(limits.disk),
                hooks: Hooks::new(limits.hooks),
                resolver,
                stores: Stores::default(),
                compressed: Compressed::new(limits.compressed_bytes_max),
                handshakes: Handshakes::new(limits.turn_handshake_time),
                senders: Roster::default(),
                upstreams: Upstreams::new(idle_limits(&limits)),
                metrics: Metrics::default(),
                limits: SessionLimits::of(&limits),
                now,
                wall,
                draining: false,
                turn_end: false,
                job_done: false,
                turn_end_at: None,
                inside,
                woken: Vec::new(),
                alone: false,
                work: Work::new(limits.turn_work),
                nowhere: Link::new(LinkState::Closed, 0),
            },
            limits,
            hosts: Slab::new(),
            listeners: Listeners::new(&limits),
            datagrams: Datagrams::new(),
            queries: Queries::default(),
            name_files: NameFiles::default(),
            supervised,
            sessions: Sessions::new(),
            timers: Timers::new(now),
            turn_work: TurnWork::new(limits.turn_work_max, limits.turn_work),
            life: Life::Serving,
            reload_wanted: false,
            events: Vec::new(),
            due: Vec::new(),
        }
    }

    /// Serves a protocol over streams on `bind`; the address that it got.
    ///
    /// # Errors
    /// Those of `bind(2)` and `listen(2)`.
    pub fn listen<T: Service + 'static>(
        &mut self,
        bind: &Bind,
        options: ListenerOptions,
        service: T,
    ) -> io::Result<Bind> {
        let limits = &self.limits;
        let host = |metrics| add_host(&mut self.hosts, service, metrics);
        let kind = ServiceType {
            client_first: T::CLIENT_FIRST,
            counts: T::counts,
        };
        self.cx.turn_end |= T::BEGINS_ALONE;
        self.listeners
            .open(bind, limits, kind, options, &mut self.cx, host)
    }

    /// Lets the listener at `beside` listen on `bind` as well; the address that it got.
    ///
    /// # Errors
    /// Those of `bind(2)` and `listen(2)`.
    ///
    /// # Panics
    /// If nothing listens at `beside`.
    pub fn listen_beside(&mut self, beside: &Bind, bind: &Bind) -> io::Result<Bind> {
        let backlog = self.limits.backlog;
        self.listeners
            .open_beside(beside, bind, backlog, &mut self.cx)
    }

    /// Serves the next connections of the listener at `bound`, at all its addresses, by another
    /// service of the same type, with other options; sessions stay with the service that they began
    /// with. Its name and kind are what they were.
    ///
    /// # Panics
    /// If nothing listens there.
    pub fn replace<T: Service + 'static>(
        &mut self,
        bound: &Bind,
        options: ListenerOptions,
        mut service: T,
    ) {
        let before = &self.hosts[self.listeners.host_of(bound)];
        if let Some(learned) = before.host.bequeath() {
            service.inherit(learned);
        }
        let host = |metrics| add_host(&mut self.hosts, service, metrics);
        let before = self.listeners.replace(bound, &self.limits, options, host);
        self.cx.turn_end |= T::BEGINS_ALONE;
        self.retire(before);
    }

    /// Other certificates for the next connections of the listener at `bound`, if it speaks TLS.
    ///
    /// # Panics
    /// If nothing listens there.
    pub fn set_certificates(&mut self, bound: &Bind, which: Arc<dyn ResolvesServerCert>) {
        self.listeners.set_certificates(bound, which);
    }

    /// Stops listening at `bound`. Sessions go on to their end, and so do the other addresses of
    /// the listener.
    ///
    /// # Panics
    /// If nothing listens there.
    pub fn unlisten(&mut self, bound: &Bind) {
        match self.listeners.close(bound, &mut self.cx) {
            Left::Nothing { host } => self.retire(host),
            Left::Others { host, metrics } => self.hosts[host].metrics = metrics,
        }
    }

    /// Lets a service go when its last session has ended. Until then there is a place where it
    /// counts.
    fn retire(&mut self, host: usize) {
        let serving = &mut self.hosts[host];
        serving.retired = true;
        if serving.sessions == 0 && !serving.host.is_busy() {
            self.hosts.remove(host);
            self.cx.upstreams.idle.forget(host as u32);
        } else {
            self.cx.metrics.stay(serving.metrics);
        }
    }

    /// Serves a protocol over datagrams on `bind`; the address that it got.
    ///
    /// # Errors
    /// Those of `bind(2)`.
    pub fn bind_datagram<T: DatagramService + 'static>(
        &mut self,
        bind: SocketAddr,
        options: &DatagramOptions,
        service: T,
    ) -> io::Result<SocketAddr> {
        let service: Box<dyn DatagramService> = Box::new(service);
        let service = (service, T::counts());
        self.datagrams
            .open(bind, options, service, &mut self.cx, &self.limits)
    }

    /// Serves the datagram socket at `bound` by another service, which knows nothing of what the
    /// one before knew. Its name and kind are what they were.
    ///
    /// # Panics
    /// If there is no such socket.
    pub fn replace_datagram<T: DatagramService + 'static>(
        &mut self,
        bound: SocketAddr,
        options: &DatagramOptions,
        service: T,
    ) {
        let service = Box::new(service);
        self.datagrams
            .replace(bound, options, service, &mut self.cx, &self.limits);
    }

    /// Closes the datagram socket at `bound`.
    ///
    /// # Panics
    /// If there is no such socket.
    pub fn unbind_datagram(&mut self, bound: SocketAddr) {
        self.datagrams.close(bound, &mut self.cx);
    }

    /// Other limits, for what happens from now on. A session keeps the size of its queues.
    pub fn set_limits(&mut self, limits: Limits) {
        self.cx.pool.set_limits(
            limits.large_page_bytes_max,
            limits.pool_bytes_max,
            limits.page_bytes_max,
        );
        self.cx
            .compressed
            .set_bytes_max(limits.compressed_bytes_max);
        let share = limits.turn_handshake_time;
        self.cx.handshakes.set_turn_time_max(share);
        self.cx.upstreams.idle.set_limits(idle_limits(&limits));
        self.cx.pipes.set_max(limits.pipes_max);
        self.cx.limits = SessionLimits::of(&limits);
        self.cx.jobs.set_limits(limits.disk);
        self.cx.hooks.set_limits(limits.hooks);
        self.cx.inside.set_limits(limits.inside);
        self.listeners.set_limits(&limits);
        self.limits = limits;
    }

    /// The store of responses in a folder, which is opened if it is not open yet. What it holds is
    /// found out while requests are answered.
    pub fn open_store(&mut self, settings: store::Settings) -> StoreId {
        let id = self.cx.stores.open(settings, self.cx.sys.disk());
        let (stores, mut hands) = self.cx.stores();
        stores.scan(&mut hands);
        id
    }

    /// Other settings and hosts of the resolver. Look-ups under way go on.
    pub fn set_resolver(&mut self, settings: dns::Config, hosts: Hosts) {
        self.cx.resolver.reload(settings, hosts);
    }

    /// Looks at the files that the resolver's settings came from as long as names are asked for,
    /// and takes them again when they change.
    pub fn watch_name_files(&mut self, sources: Sources) {
        let (disk, jobs) = (self.cx.sys.disk(), &mut self.cx.jobs);
        self.name_files.watch(sources, disk, jobs);
    }

    /// Tells the service manager, if there is one, of a change of state.
    pub fn tell(&mut self, news: News) {
        let now = self.cx.sys.now();
        self.supervised.tell(news, &mut self.cx.sys, now);
    }

    /// From now on what the loop does is kept, for [`Reactor::take_watched`].
    pub fn watch(&mut self) {
        self.cx.inside.ring.watch();
    }

    /// What it did since this was asked for last, and the names of the states in it.
    pub fn take_watched(&mut self) -> (Vec<Record>, &Ring, &Metrics) {
        let (records, names) = self.cx.inside.ring.take_watched();
        (records, names, &self.cx.metrics)
    }

    /// What was seen of it, what it counted, and which senders it knew, at its end. `started`: when it
    /// began to serve.
    pub fn into_seen(mut self, started: SystemTime) -> (Ring, Books, Vec<KnownSenders>) {
        let senders = self.senders();
        let books = Books {
            beside: self.cx.of(0).beside(),
            started,
            wall: self.cx.wall,
            metrics: self.cx.metrics,
        };
        (self.cx.inside.ring, books, senders)
    }

    /// Admin pages tell of a record from now on, and no more of this process.
    pub fn show(&mut self, shown: Shown) {
        self.cx.senders.fix(shown.senders);
        self.cx.inside.show(shown.record);
    }

    /// All sessions, in the order of their places.
    pub fn rows(&self) -> Vec<Row> {
        let (sessions, _) = self.sessions.some(0, usize::MAX);
        let rows = sessions.map(|session| {
            let host = &*self.hosts[session.provenance.host as usize].host;
            session.row(host, &self.cx.limits, self.cx.now)
        });
        rows.collect()
    }

    /// The kernel.
    pub fn sys_mut(&mut self) -> &mut S {
        &mut self.cx.sys
    }

    /// What is kept of responses; for tests that look for what is left under way.
    pub fn stores(&self) -> &Stores {
        &self.cx.stores
    }

    /// The jobs for the disk; for tests that look for what is left of them.
    pub fn jobs(&self) -> &Jobs<Waiter> {
        &self.cx.jobs
    }

    /// The kernel, when the reactor is no longer needed. What sessions and services hold is dropped
    /// first.
    pub fn into_sys(self) -> S {
        self.cx.sys
    }

    /// What was counted, with the gauges of this moment.
    pub fn metrics(&mut self) -> &Metrics {
        self.set_gauges();
        &self.cx.metrics
    }

    /// Turns until the process is to end; there is no configuration to read again.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)`.
    pub fn run(&mut self) -> io::Result<()> {
        while self.turn()? != Turn::Stop {}
        Ok(())
    }

    /// One turn of the loop. See the module's picture.
    ///
    /// # Errors
    /// Those of `epoll_wait(2)`.
    pub fn turn(&mut self) -> io::Result<Turn> {
        let timeout = self.sleep();
        self.events.clear();
        self.cx.sys.poll(&mut self.events, timeout)?;
        self.cx.now = self.cx.sys.now();
        self.cx.wall = self.cx.sys.wall();
        self.turn_work = TurnWork::new(self.limits.turn_work_max, self.limits.turn_work);
        self.cx.metrics.turns += 1;
        self.cx.metrics.events += self.events.len() as u64;
        self.note_turn();

        while let Some(signal) = self.cx.sys.signal() {
            self.signalled(signal);
        }
        self.note();
        self.finish_jobs();
        self.accept();
        self.serve_datagrams();
        self.expire();
        self.run_queue();
        self.end_turn();
        self.supervised.expire(&mut self.cx.sys, self.cx.now);
        self.cx.note_part(Part::Carry);
        self.close_surplus();
        self.compress();
        self.serve_queries();
        self.start_jobs();
        hooks::serve(&mut self.cx);
        self.list_sessions();
        self.cx.sys.flush_log();
        let runnable = self.sessions.runnable();
        self.cx.note_loop(|| What::TurnEnded {
            runnable: u32::try_from(runnable).unwrap_or(u32::MAX),
        });
        Ok(self.life())
    }

    /// The poll returned.
    fn note_turn(&mut self) {
        if self.cx.inside.ring.is_on() {
            let events = u32::try_from(self.events.len()).unwrap_or(u32::MAX);
            let ring = &mut self.cx.inside.ring;
            ring.turn(self.cx.now);
            ring.push(self.cx.now, LOOP, What::Turn { events });
            ring.push_after(LOOP, What::Part(Part::Note));
        }
    }

    /// Goes on with the list of sessions, if somebody asked for it.
    fn list_sessions(&mut self) {
        self.cx.inside.roster.expire();
        let Some(place) = self.cx.inside.roster.place() else {
            return;
        };
        let (sessions, next) = self.sessions.some(place, ROWS_PER_TURN);
        let rows = sessions.map(|session| {
            let host = &*self.hosts[session.provenance.host as usize].host;
            session.row(host, &self.cx.limits, self.cx.now)
        });
        let (roster, woken) = (&mut self.cx.inside.roster, &mut self.cx.woken);
        roster.add(rows, next, woken);
        self.wake_woken();
    }

    /// How long `poll` may wait. The turn before ends here.
    fn sleep(&mut self) -> Option<Duration> {
        let now = self.cx.sys.now();
        if self.cx.metrics.turns > 0 {
            self.cx.metrics.turn_ended(self.cx.now, now);
        }
        let (sessions, limits) = (self.sessions.len(), &self.limits);
        if self.sessions.runnable() > 0
            || self.cx.turn_end
            || self.cx.handshakes.are_waiting()
            || self.listeners.are_pending(sessions, limits)
            || self.datagrams.are_pending()
            || self.cx.senders.place().is_some()
            || self.cx.compressed.has_work()
            || self.cx.jobs.has_work()
            || self.cx.inside.roster.place().is_some()
            || self.is_over()
        {
            return Some(Duration::ZERO);
        }
        let end = match self.life {
            Life::Draining { until } | Life::Ending { until } => Some(until),
            Life::Serving | Life::Over => None,
        };
        let moments = [
            end,
            self.timers.next(),
            self.listeners.next(sessions, limits),
            self.datagrams.next(),
            self.cx.resolver.deadline(),
            self.name_files.deadline(),
            self.cx.turn_end_at,
            self.cx.stores.deadline(),
            self.cx.hooks.deadline(),
            self.supervised.deadline(),
            self.cx.upstreams.idle.deadline(),
        ];
        let next = moments.into_iter().fold(None, earlier)?;
        Some(next.saturating_duration_since(now))
    }

    fn signalled(&mut self, signal: Signal) {
        match (signal, self.life) {
            (Signal::Reload, life) => {
                self.reopen();
                self.reload_wanted = matches!(life, Life::Serving);
            }
            (Signal::Reopen, _) => {
                self.reopen();
                self.log_senders();
            }
            (Signal::Terminate, Life::Serving) => self.drain(),
            (Signal::Terminate, Life::Ending { .. }) => {
                self.life = Life::Ending { until: self.cx.now };
            }
            (Signal::Terminate, _) => {
                log::warn!(
                    "told to end twice: {} sessions are cut",
                    self.sessions.len()
                );
                self.life = Life::Over;
            }
        }
    }

    /// Lets each service open the files that it writes to anew.
    fn reopen(&mut self) {
        for (_, serving) in &mut self.hosts {
            serving.host.reopen(&mut self.cx.of(serving.metrics));
        }
    }

    /// Tells the log what services over datagrams know of their senders.
    fn log_senders(&self) {
        let metrics = &self.cx.metrics;
        let (senders, now) = (&self.datagrams, self.cx.now);
        for known in senders.senders(metrics, now, LOGGED_SENDERS_MAX) {
            known.log();
        }
    }

    /// Lets the services go that stayed for a job only.
    fn let_go(&mut self) {
        let Context {
            metrics, upstreams, ..
        } = &mut self.cx;
        self.hosts.retain(|host, serving| {
            let stays = !serving.retired || serving.sessions > 0 || serving.host.is_busy();
            if !stays {
                upstreams.idle.forget(host as u32);
                metrics.leave(serving.metrics);
            }
            stays
        });
    }

    /// Tells the services of the end of the turn, if one of them wants to know: all of them have
    /// the work of one session, and those to whom there is less to do leave theirs to the others.
    fn end_turn(&mut self) {
        if self.cx.turn_end_at.is_some_and(|at| self.cx.now >= at) {
            (self.cx.turn_end, self.cx.job_done) = (true, true);
        }
        if std::mem::take(&mut self.cx.turn_end) {
            self.cx.note_part(Part::End);
            let job_done = std::mem::take(&mut self.cx.job_done);
            self.cx.turn_end_at = None;
            let (work, hosts) = (self.limits.turn_work, self.hosts.len());
            let mut all = TurnWork::new(work, work);
            let mut told = 0;
            for host in 0..self.hosts.capacity() {
                if self.hosts.contains(host) {
                    self.cx.work = all.share(hosts - told);
                    self.end_turn_of(host, job_done);
                    all.take(&self.cx.work);
                    told += 1;
                }
            }
            if job_done {
                self.let_go();
            }
        }
        let (stores, mut hands) = self.cx.stores();
        stores.expire(&mut hands);
        self.wake_woken();
    }

    /// Tells one service, which has what is left of this work.
    fn end_turn_of(&mut self, host: usize, job_done: bool) {
        let serving = &mut self.hosts[host];
        let cx = &mut self.cx.of(serving.metrics);
        let is_left = serving.host.turn_ended(job_done, cx);
        self.cx.turn_end |= is_left;
        self.begin_alone(host, None);
        let due = self.hosts[host].host.turn_deadline();
        let due = due.filter(|_| !self.cx.sys.planted(PlantedBug::MomentForgotten));
        let moments = [self.cx.turn_end_at, due];
        self.cx.turn_end_at = moments.into_iter().flatten().min();
    }

    fn wake_woken(&mut self) {
        while let Some(id) = self.cx.woken.pop() {
            if !self.cx.sys.planted(PlantedBug::CacheForgetsToWake) {
                self.wake(id, Why::Work);
            }
        }
    }

    /// Begins the end: stops accepting, closes what is idle, finishes what is under way within
    /// `drain_timeout`.
    pub fn drain(&mut self) {
        log::info!(
            "draining {} sessions, at most {:?}",
            self.sessions.len(),
            self.limits.drain_timeout
        );
        self.life = Life::Draining {
            until: self.cx.now + self.limits.drain_timeout,
        };
        let status = format!("draining {} sessions", self.sessions.len());
        self.tell(News::Stopping(status));
        self.reload_wanted = false; // what was told just before has nothing to change any more
        self.cx.draining = true;
        self.cx.metrics.draining = true;
        self.cx.upstreams.idle.clear();
        self.listeners.drain(&mut self.cx.sys);
        for id in self.sessions.ids() {
            self.wake(id, Why::Drain);
        }
    }

    /// Whether nothing is left to be done, or no time for it.
    fn is_over(&self) -> bool {
        match self.life {
            Life::Serving => false,
            Life::Draining { until } => self.cx.now >= until || self.listeners.are_drained(),
            Life::Over => true,
            Life::Ending { until } => {
                let is_done = !self.is_changing_disks() && self.cx.hooks.is_idle();
                self.cx.now >= until || is_done
            }
        }
    }

    /// Whether something is being written, made, renamed or removed, or is to be.
    fn is_changing_disks(&self) -> bool {
        self.cx.turn_end || self.cx.jobs.has_commands()
    }

    /// Whether the loop goes on. At its end, what is left is cut; then what is under way on a disk
    /// gets its time.
    fn life(&mut self) -> Turn {
        if !self.is_over() {
            return match std::mem::take(&mut self.reload_wanted) {
                true => Turn::Reload,
                false => Turn::Continue,
            };
        }
        if !matches!(self.life, Life::Ending { .. }) {
            for id in self.sessions.ids() {
                self.remove(id, &Err(Error::TimedOut(Phase::Drain)));
            }
            logging::about(None);
            self.cx.pipes.let_go(&mut self.cx.sys);
            // What was logged of them, for one, is still to be written.
            (self.cx.turn_end, self.cx.job_done) = (true, true);
            self.listeners.close_all(&mut self.cx.sys);
            self.cx.upstreams.idle.clear();
            self.close_surplus();
            self.datagrams.close_all(&mut self.cx.sys);
            self.queries.close(&mut self.cx.sys);
            self.name_files.end(&mut self.cx.jobs);
            let until = self.cx.now + self.limits.last_jobs_timeout;
            self.life = Life::Ending { until };
            return Turn::Continue;
        }
        self.life = Life::Over;
        let (waiting, running) = self.cx.hooks.under_way();
        if waiting + running > 0 {
            log::warn!("{running} commands go on by themselves, {waiting} are not run");
        }
        let (stores, mut hands) = self.cx.stores();
        stores.close(&mut hands);
        disk::take_back(&mut self.cx);
        self.cx.pipes.let_go(&mut self.cx.sys);
        self.queries.close(&mut self.cx.sys); // a name may have been asked for again since
        self.set_gauges();
        Turn::Stop
    }

    /// Events to marks.
    fn note(&mut self) {
        for event in &self.events {
            match Token::unpack(event.token) {
                Some(Token::Listener(index)) => self.listeners.ready(index as usize),
                Some(Token::Datagram(index)) => self.datagrams.ready(index as usize),
                Some(Token::Resolver(index)) => self.queries.ready(index as usize),
                Some(Token::Upstream(id)) => {
                    note_upstream(id, event, &mut self.sessions, &mut self.cx);
                }
                Some(Token::Session(mut id)) => {
                    if self.cx.sys.planted(PlantedBug::StaleEventAccepted) {
                        id = self.sessions.successor(id).unwrap_or(id);
                    }
                    match self.sessions.live(id) {
                        Some(session) => {
                            session.note(event.readable, event.writable, event.read_closed);
                            wake(id, Why::Event, &mut self.sessions, &mut self.cx);
                        }
                        None => self.cx.metrics.events_stale += 1,
                    }
                }
                None => self.cx.metrics.events_stale += 1,
            }
        }
    }

    /// Takes new connections, a bounded batch from each listener and the work of one session from
    /// all of them: one by one in turn, so that none gets the last places all the time.
    fn accept(&mut self) {
        if !self.listeners.are_busy() {
            return;
        }
        self.cx.note_part(Part::Accept);
        self.listeners.open_again(&mut self.cx, &self.limits);
        let order = self.listeners.order();
        let mut work = Work::new(self.limits.turn_work);
        for _ in 0..self.limits.accept_batch {
            let mut tried = false;
            for index in order.clone() {
                if work.is_spent() {
                    break;
                }
                let (sessions, now) = (self.sessions.len(), self.cx.now);
                if !self
                    .listeners
                    .may_accept(index, sessions, &self.limits, now)
                {
                    continue;
                }
                tried = true;
                work.charge(work::ACCEPT_NS);
                if let Some(accepted) = self.listeners.accept(index, &mut self.cx, &self.limits) {
                    self.begin(accepted);
                }
            }
            if !tried {
                break;
            }
        }
        self.turn_work.take(&work);
        self.listeners.rest();
    }

    /// Serves what has arrived on datagram sockets: all of them have the work of one session.
    fn serve_datagrams(&mut self) {
        if self.cx.inside.ring.is_on() && self.datagrams.are_pending() {
            self.cx.note_part(Part::Datagrams);
        }
        self.cx.work = Work::new(self.limits.turn_work);
        self.datagrams.serve(&mut self.cx, &self.limits);
        self.turn_work.take(&self.cx.work);
        self.cx.senders.expire();
        if self.cx.senders.place().is_some() {
            let all = self.senders();
            self.cx.senders.add(all, None, &mut self.cx.woken);
            self.wake_woken();
        }
    }

    /// What services over datagrams know of their senders.
    pub fn senders(&self) -> Vec<KnownSenders> {
        let metrics = &self.cx.metrics;
        self.datagrams.senders(metrics, self.cx.now, SENDERS_MAX)
    }

    fn wake(&mut self, id: Id, why: Why) {
        wake(id, why, &mut self.sessions, &mut self.cx);
    }

    /// Begins a session.
    fn begin(&mut self, accepted: Accepted<S>) {
        let serving = &mut self.hosts[accepted.host];
        serving.sessions += 1;
        let provenance = Provenance {
            socket: accepted.socket,
            host: accepted.host as u32,
            metrics: accepted.metrics as u32,
            conn: serving.host.accept(&accepted.peer, self.cx.now) as u32,
            peer: accepted.peer,
            admitted: accepted.admitted,
        };
        let (stream, tls) = (accepted.stream, accepted.tls);
        let (client_first, limits) = (accepted.client_first, &self.cx.limits);
        let introduction = accepted.introduction_timeout;
        let introduced_until = introduction.map(|timeout| self.cx.now + timeout);
        let listener = accepted.metrics;
        let id = self.sessions.insert(|id| {
            let mut session = Session::new(id, provenance, stream, tls, limits);
            if let Some(until) = introduced_until {
                session.await_introduction(until);
            }
            session.note(client_first, true, false);
            session
        });
        self.began(id, listener);
    }

    /// A session has its place: it is called as soon as may be.
    fn began(&mut self, id: Id, listener: usize) {
        if self.cx.inside.ring.is_on()
            && let Some(session) = self.sessions.live(id)
        {
            let (ip, port) = match session.provenance.peer {
                Peer::Inet(SocketAddr::V4(peer)) => (peer.ip().to_bits(), peer.port()),
                Peer::Inet(peer) => (0, peer.port()),
                Peer::Unix => (0, 0),
            };
            let listener = u16::try_from(listener).unwrap_or(u16::MAX);
            self.cx.note(id, || What::Began { listener, port, ip });
        }
        self.wake(id, Why::Accepted);
    }

    /// Reminders to the sessions whose deadline passed, new reminders for the others.
    fn expire(&mut self) {
        self.timers.expire(self.cx.now, &mut self.due);
        self.cx.metrics.timers_fired += self.due.len() as u64;
        if !self.due.is_empty() {
            self.cx.note_part(Part::Timers);
        }
        for (tick, id) in self.due.drain(..) {
            let Some(session) = self.sessions.live(id) else {
                continue;
            };
            if !session.reminders.came(tick) {
                continue;
            }
            let host = &*self.hosts[session.provenance.host as usize].host;
            let deadline = session.until(host, &self.cx.limits);
            if deadline <= self.cx.now {
                wake(id, Why::Deadline, &mut self.sessions, &mut self.cx);
            } else if !self.cx.sys.planted(PlantedBug::DeadlineNotRearmed) {
                session.reminders.arm(deadline, id, &mut self.timers);
            }
        }
    }

    /// Pumps each session that is queued now, once, and then those whose handshake may go on. Each
    /// gets its share of what this turn may still do.
    fn run_queue(&mut self) {
        self.cx.note_part(Part::Run);
        self.cx.handshakes.begin_turn();
        for waiting in (1..=self.sessions.queue_spent()).rev() {
            let Some(id) = self.sessions.next() else {
                break;
            };
            self.pump(id, waiting);
        }
        while let Some(id) = self.cx.handshakes.call() {
            self.pump(id, 1);
        }
        logging::about(None);
    }

    /// Pumps a session, one of so many that wait for their share of the turn.
    fn pump(&mut self, id: Id, waiting: usize) {
        let Some(session) = self.sessions.live(id) else {
            return;
        };
        self.cx.metrics.pumps += 1;
        about(id, &session.provenance, &self.cx.metrics);
        self.cx.note_after(id, || What::Pumped);
        let host = &mut *self.hosts[session.provenance.host as usize].host;
        self.cx.work = self.turn_work.share(waiting);
        let outcome = session.pump(host, &mut self.cx);
        self.turn_work.take(&self.cx.work);
        if std::mem::take(&mut self.cx.alone) {
            let Provenance {
                socket,
                host,
                metrics,
                ..
            } = session.provenance;
            self.begin_alone(host as usize, Some((socket as usize, metrics as usize)));
        }
        self.follow_up(id, outcome);
    }

    /// What becomes of a session that was pumped.
    fn follow_up(&mut self, id: Id, outcome: Outcome) {
        let Some(session) = self.sessions.live(id) else {
            return;
        };
        if self.cx.inside.ring.wants(id) {
            let host = &*self.hosts[session.provenance.host as usize].host;
            match outcome {
                Outcome::Park(_) => {
                    let parked = session.parked(host, &self.cx.limits, self.cx.now);
                    self.cx.note_after(id, || parked);
                }
                Outcome::Again => self.cx.note_after(id, || What::Again),
                Outcome::Introduced(_) | Outcome::Ended(_) => {}
            }
        }
        match outcome {
            Outcome::Park(deadline) => session.reminders.arm(deadline, id, &mut self.timers),
            Outcome::Again if self.cx.sys.planted(PlantedBug::BudgetForgets) => {}
            Outcome::Again => self.wake(id, Why::Budget),
            Outcome::Ended(Err(_)) if self.goes_on_alone(id) => {}
            Outcome::Introduced(client) => self.introduced(id, client),
            Outcome::Ended(result) => self.remove(id, &result),
        }
    }

    /// Begins the sessions without a client that a service wants, as ones of this listening socket
    /// and its counters, or of any that it has. Where there is none, or the process ends, they are
    /// over at once.
    fn begin_alone(&mut self, host: usize, at: Option<(usize, usize)>) {
        while let Some(conn) = self.hosts[host].host.alone(self.cx.now) {
            let serving = &mut self.hosts[host];
            let is_full = self.listeners.are_full(self.sessions.len(), &self.limits);
            let at = at.or_else(|| self.listeners.of_host(host));
            let Some((socket, metrics)) = at.filter(|_| !is_full && !self.cx.draining) else {
                let metrics = at.map_or(serving.metrics, |(_, metrics)| metrics);
                serving.host.ended(conn, &mut self.cx.of(metrics));
                continue;
            };
            serving.sessions += 1;
            self.listeners.began_alone(socket, &mut self.cx);
            let provenance = Provenance {
                socket: socket as u32,
                host: host as u32,
                metrics: metrics as u32,
                conn: conn as u32,
                peer: Peer::Unix,
                admitted: Admitted::default(),
            };
            let limits = &self.cx.limits;
            let id = self
                .sessions
                .insert(|id| Session::alone(id, provenance, limits));
            self.began(id, metrics);
        }
    }

    /// Whether a session goes on that lost its client.
    fn goes_on_alone(&mut self, id: Id) -> bool {
        let Some(session) = self
            .sessions
            .live(id)
            .filter(|session| session.has_client())
        else {
            return false;
        };
        let (host, metrics) = (session.provenance.host, session.provenance.metrics);
        let conn = session.provenance.conn as usize;
        let host = &mut self.hosts[host as usize].host;
        if !host.outlives_client(conn, &mut self.cx.of(metrics as usize)) {
            return false;
        }
        session.lose_client(&mut self.cx);
        self.wake(id, Why::Work);
        true
    }

    /// A proxy told whose connection it passes on: from here on it is as if that client had made it.
    fn introduced(&mut self, id: Id, client: Option<SocketAddr>) {
        let Some(session) = self.sessions.live(id) else {
            return;
        };
        if let Some(client) = client {
            let client = Peer::Inet(client);
            let provenance = &mut session.provenance;
            let socket = provenance.socket as usize;
            match self.listeners.introduce(socket, &client, &mut self.cx) {
                Ok(admitted) => provenance.admitted = admitted,
                Err(bar) => {
                    let why = format!("{client} ({})", bar.name());
                    return self.remove(id, &Err(Error::Refused(why)));
                }
            }
            let host = &mut self.hosts[provenance.host as usize].host;
            let cx = &mut self.cx.of(provenance.metrics as usize);
            host.ended(provenance.conn as usize, cx);
            provenance.conn = host.accept(&client, self.cx.now) as u32;
            provenance.peer = client;
        }
        session.begin();
        self.wake(id, Why::Accepted);
    }

    /// Ends a session: its service, its sockets, its pages, its place.
    fn remove(&mut self, id: Id, result: &Result<(), Error>) {
        let session = self.sessions.remove(id);
        about(id, &session.provenance, &self.cx.metrics);
        self.cx.note_end(id, || end(session.ending, result));
        self.cx.resolver.forget(id);
        if session.awaits_handshake() {
            let is_live = |id| self.sessions.is_live(id);
            self.cx.handshakes.ended(is_live);
        }
        let socket = session.provenance.socket as usize;
        let serving = &mut self.hosts[session.provenance.host as usize];
        serving.sessions -= 1;
        serving.host.ended(
            session.provenance.conn as usize,
            &mut self.cx.of(session.provenance.metrics as usize),
        );
        if serving.retired && serving.sessions == 0 && !serving.host.is_busy() {
            let serving = self.hosts.remove(session.provenance.host as usize);
            self.cx.upstreams.idle.forget(session.provenance.host);
            self.cx.metrics.leave(serving.metrics);
        }
        let counted = &mut self.cx.metrics.listeners[session.provenance.metrics as usize];
        if session.had_client() || !self.cx.sys.planted(PlantedBug::AloneKept) {
            counted.ended(session.ending, result);
        }
        if let Err(error) = result {
            let level = match error {
                Error::Disk(..) => log::Level::Error,
                Error::Protocol(_) | Error::Refused(_) | Error::Changed => log::Level::Info,
                Error::TimedOut(_) | Error::Reset(_) => log::Level::Debug,
            };
            let (name, peer) = (self.listeners.name(socket), &session.provenance.peer);
            log::log!(level, "{name}, {peer}: {error}");
        }
        let (peer, admitted) = (&session.provenance.peer, session.provenance.admitted);
        self.listeners
            .session_ended(socket, peer, admitted, &mut self.cx);
        session.dismantle(result.is_err(), &mut self.cx);
        if !self.cx.sys.planted(PlantedBug::JobsKept) {
            self.cx.jobs.forget(Waiter::Session(id));
            self.cx.jobs.forget(Waiter::Sending(id));
        }
        if self.timers.is_cluttered(self.sessions.len()) {
            let sessions = &self.sessions;
            let is_awaited = |tick, id: &Id| sessions.holds_reminder(*id, tick);
            self.timers.sweep(is_awaited);
        }
    }

    /// Closes connections to origins that nobody uses and that are too old or too many.
    fn close_surplus(&mut self) {
        let now = self.cx.now;
        let (upstreams, mut lenders) = self.cx.split_upstreams();
        upstreams.close_surplus(now, &mut lenders);
    }

    /// Takes what the engine has done, and wakes those who waited for it.
    fn finish_jobs(&mut self) {
        disk::finish(&mut self.cx);
        while let Some(waiter) = self.cx.jobs.poll_woken() {
            match waiter {
                Waiter::Session(id) | Waiter::Sending(id) => self.wake(id, Why::Disk),
                Waiter::Service => (self.cx.turn_end, self.cx.job_done) = (true, true),
                Waiter::NameFiles => {} // they are looked after in every turn
                Waiter::Store { store, task } => {
                    let (stores, mut hands) = self.cx.stores();
                    stores.job_done(store, task, &mut hands);
                }
            }
        }
    }

    /// Carries what was asked of the disk to the engine, and wakes those who were answered at once.
    fn start_jobs(&mut self) {
        if disk::start(&mut self.cx) {
            self.finish_jobs();
            self.wake_woken();
        }
    }

    /// Compresses as much as a turn may, and wakes those who waited for it.
    fn compress(&mut self) {
        let asker = &mut Asker {
            disk: self.cx.sys.disk(),
            jobs: &mut self.cx.jobs,
            waiter: Waiter::Service,
            now: self.cx.now,
        };
        self.cx.compressed.work(asker);
        while let Some(id) = self.cx.compressed.poll_woken() {
            self.wake(id, Why::Work);
        }
    }

    /// Carries datagrams for the resolver and wakes who waited for an answer.
    fn serve_queries(&mut self) {
        let Context {
            jobs,
            resolver,
            now,
            sys,
            ..
        } = &mut self.cx;
        let interface = |name: &str| {
            let mut number = None;
            sys.surroundings(&mut |around| number = around.interface(name));
            number
        };
        self.name_files.serve(jobs, resolver, *now, interface);
        self.queries
            .serve(&mut self.cx.sys, &mut self.cx.resolver, self.cx.now);
        while let Some(id) = self.cx.resolver.poll_woken() {
            if !self.cx.sys.planted(PlantedBug::NameWakeLost) {
                self.wake(id, Why::Name);
            }
        }
        self.cx.metrics.log_dropped = self.cx.sys.log_dropped();
        self.set_gauges();
    }

    /// What a look at the process itself tells: no kernel is asked.
    fn set_gauges(&mut self) {
        self.cx.metrics.gauges = Gauges {
            sessions: self.sessions.len(),
            runnable: self.sessions.runnable(),
            timers: self.timers.len(),
            idle_upstreams: self.cx.upstreams.idle.len(),
            pages_held: self.cx.pool.pages_held(),
            page_bytes_held: self.cx.pool.bytes_held(),
            page_bytes_kept: self.cx.pool.bytes_kept(),
            bytes_held_beside: self.cx.pool.bytes_held_beside(),
            page_bytes_max: self.limits.page_bytes_max,
            sockets: self.sessions.len()
                + self.cx.upstreams.len()
                + self.listeners.open_sockets()
                + self.datagrams.sockets()
                + self.queries.sockets(),
        };
    }
}

/// An event of a connection to an origin: for the session that uses it. One that nobody uses has
/// nothing to say but its end.
fn note_upstream<S: Sys>(id: Id, event: &Event, sessions: &mut Sessions<S>, cx: &mut Context<S>) {
    match cx.upstreams.holder(id) {
        Some(Holder::Session(user)) => {
            let user = *user;
            if let Some(session) = sessions.live(user) {
                session.note_upstream(id.index, event);
                wake(user, Why::Event, sessions, cx);
            }
        }
        Some(Holder::Nobody(_)) if event.readable || event.read_closed => {
            let (upstreams, mut lenders) = cx.split_upstreams();
            upstreams.died(id.index, &mut lenders);
        }
        Some(Holder::Nobody(upstream)) => upstream.half.ready.writable |= event.writable,
        None => cx.metrics.events_stale += 1,
    }
}

/// Lines of the log are about this session from now on.
fn about(id: Id, provenance: &Provenance, metrics: &Metrics) {
    let listener = &metrics.listeners[provenance.metrics as usize].name;
    logging::about(Some(About {
        session: id.generation,
        listener: Rc::clone(listener),
    }));
}

/// Queues a session.
fn wake<S: Sys>(id: Id, why: Why, sessions: &mut Sessions<S>, cx: &mut Context<S>) {
    if sessions.wake(id, why) {
        cx.note_after(id, || What::Woken(why));
    }
}

/// How a session ends, in the words of the ring.
fn end(ending: Ending, result: &Result<(), Error>) -> End {
    match result {
        Ok(()) => match ending {
            Ending::Done => End::Done,
            Ending::TimedOut(phase) => End::TimedOut(phase),
            Ending::Refused => End::Refused,
        },
        Err(Error::TimedOut(phase)) => End::TimedOut(*phase),
        Err(Error::Protocol(_) | Error::Refused(_)) => End::Refused,
        Err(Error::Reset(_)) => End::Reset,
        Err(Error::Disk(..) | Error::Changed) => End::Disk,
    }
}

/// Senders of one listener that have a line of the log each at SIGUSR1.
const LOGGED_SENDERS_MAX: usize = 150;

/// The earlier of two moments, each of which may be none.
fn earlier(one: Option<Instant>, other: Option<Instant>) -> Option<Instant> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

fn idle_limits(limits: &Limits) -> IdleLimits {
    IdleLimits {
        per_origin_max: limits.idle_upstreams_per_origin_max,
        max: limits.idle_upstreams_max,
        timeout: limits.upstream_idle_timeout,
    }
}

fn add_host<T: Service + 'static>(hosts: &mut Slab<Serving>, service: T, metrics: usize) -> usize {
    hosts.insert(Serving {
        host: Box::new(Hosted::new(service)),
        metrics,
        sessions: 0,
        retired: false,
    })
}
