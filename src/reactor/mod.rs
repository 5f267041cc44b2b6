//! The loop: one thread, one poll, every socket of the process.
//!
//! [`Reactor::turn`] is the whole of it:
//!
//! ```text
//! poll       until an event or the next deadline; not at all while anything is runnable
//! note       each event only marks its socket and queues its session, once
//! accept     a bounded batch from each listener
//! datagrams  bounded batches from each datagram socket
//! timers     queue the sessions whose deadline passed
//! run        pump each queued session once, first come first served
//! end        tell the services that asked for it that the turn ends
//! names      send and receive what the resolver wants
//! ```
//!
//! Nothing but `poll` waits, and nothing acts on an event directly: an event is a hint that a fact may have changed, and
//! [`session::Session::pump`] finds out. So merged, repeated and stale events are harmless.
//!
//! The modules in reading order: `session` (fill, advance, flush), `half` (one side: the two loops that cross the kernel),
//! `transfer`, `tls`, `taking`, `token`, `timer`, `host`, `upstream`, `datagram`,
//! `names`.

mod datagram;
mod half;
mod host;
mod names;
mod session;
mod taking;
mod timer;
pub mod tls;
mod token;
mod transfer;
mod upstream;

use std::collections::VecDeque;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use slab::Slab;

use crate::buffer::Pool;
use crate::dns::{self, Hosts, Resolver};
use crate::ending::{Error, Phase};
use crate::metrics::{Gauges, ListenerMetrics, Metrics, Of};
use crate::service::datagram::{DatagramService, Outbox};
use crate::service::{Id, Link, Service, Side, Status};
use crate::sys::{Batch, Bind, Event, PlantedBug, Signal, Sys};
use datagram::{DatagramSocket, Sources};
use host::{Host, Hosted};
use names::Names;
pub use names::resolver_settings;
use session::{Context, Outcome, Provenance, Session, SessionLimits};
use timer::{Tick, Timers};
use tls::TlsSource;
use token::Token;

/// Errors of `accept(2)` that mean "no descriptors left" (`EMFILE` of the process, `ENFILE` of the system).
const OUT_OF_DESCRIPTORS: [i32; 2] = [libc::EMFILE, libc::ENFILE];

/// Those that mean "no memory": the connection stays in the queue, and no edge will tell of it again.
const OUT_OF_MEMORY: [i32; 2] = [libc::ENOBUFS, libc::ENOMEM];

/// How long a listener leaves its queue alone after a failure that the next attempt would only repeat.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often the log tells of connections that were closed unserved.
const SHED_TOLD_EVERY: Duration = Duration::from_secs(1);

/// The limits of a reactor. Their defaults stand in [`crate::config`].
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Sessions at a time, over all listeners.
    pub sessions_max: usize,
    /// Sessions beyond that for listeners that serve while draining.
    pub sessions_reserved: usize,
    /// Connections accepted from one listener in one turn.
    pub accepts_per_turn_max: usize,
    /// Connections that the kernel keeps for one listener until they are accepted.
    pub backlog: i32,
    /// Bytes that one session may move in one turn.
    pub pump_bytes_max: usize,
    /// Bytes in memory that one send queue holds.
    pub send_bytes_max: u32,
    /// Bytes of pages in use above which no large pages are given out.
    pub large_page_bytes_max: usize,
    /// Bytes of pages in use above which a send queue takes something only while it is empty.
    pub page_bytes_max: usize,
    /// Bytes of unused pages that are kept.
    pub kept_page_bytes_max: usize,
    /// Batches of [`Batch::SLOTS`] datagrams taken from one socket in one turn.
    pub datagram_batches_max: usize,
    /// Source addresses whose datagrams are counted apart from one another, for each datagram socket.
    pub rate_sources_max: usize,
    /// How often a peer that is to take what is queued for it is looked at: one that took too little since is dropped.
    pub write_timeout: Duration,
    /// Bytes a second, on average, that are not too little; one byte must it be in any case.
    pub write_rate_min: u32,
    /// For how long nothing must come from the peer of a closed session before its end is waited for no longer.
    pub linger_timeout: Duration,
    /// How long it is waited for at most.
    pub linger_time_max: Duration,
    /// How many bytes of the peer's a closed session reads and drops.
    pub linger_bytes_max: usize,
    /// How long the process finishes what is under way after it was told to end.
    pub drain_timeout: Duration,
}

impl Limits {
    fn of_sessions(&self) -> SessionLimits {
        SessionLimits {
            pump_bytes_max: self.pump_bytes_max,
            send_bytes_max: self.send_bytes_max,
            write_timeout: self.write_timeout,
            write_bytes_min: bytes_at(self.write_rate_min, self.write_timeout).max(1),
            linger_timeout: self.linger_timeout,
            linger_time_max: self.linger_time_max,
            linger_bytes_max: self.linger_bytes_max,
        }
    }
}

/// What tells one listener from another.
#[derive(Debug)]
pub struct ListenerOptions {
    /// Its name in logs and metrics.
    pub name: String,
    /// Its kind, as in the configuration.
    pub kind: &'static str,
    /// Connections at a time.
    pub connections_max: usize,
    /// It goes on accepting while the process drains: for health checks.
    pub serves_while_draining: bool,
    /// The certificate of a listener that speaks TLS.
    pub tls: Option<TlsSource>,
}

/// What tells one datagram socket from another.
#[derive(Debug)]
pub struct DatagramOptions {
    /// Its name in logs and metrics.
    pub name: String,
    /// Its kind, as in the configuration.
    pub kind: &'static str,
    /// Datagrams a second from one source address; 0 for no limit.
    pub source_rate_max: u32,
    /// The lowest source port that it answers; `None` if it never answers.
    pub source_port_min: Option<u16>,
}

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

struct Listener<S: Sys> {
    /// `None` once it stopped listening.
    socket: Option<S::Listener>,
    /// Its address, by which it is found: no two that listen have the same.
    bound: Bind,
    /// Who serves the next connections.
    host: usize,
    options: ListenerOptions,
    /// See [`Service::CLIENT_FIRST`].
    client_first: bool,
    /// An edge was told and the queue of connections not yet empty.
    pending: bool,
    /// When it may accept again, after the system had no means for it.
    paused_until: Option<Instant>,
    shed: Shed,
    active: usize,
    /// Its place in the metrics.
    metrics: usize,
}

impl<S: Sys> fmt::Display for Listener<S> {
    /// As the log names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.options.name, self.bound)
    }
}

/// A service and its sessions: it stays as long as it has any, or a listener for more.
struct Serving {
    host: Box<dyn Host>,
    /// The place of its listener in the metrics.
    metrics: usize,
    sessions: usize,
    /// No listener brings it sessions any more.
    retired: bool,
}

/// Connections of a listener that were closed unserved and are not in the log yet.
#[derive(Default)]
struct Shed {
    untold: u64,
    told_at: Option<Instant>,
}

impl Shed {
    /// Counts one. How many the log is to tell of now: it tells at most once a second, or a flood of connections would be
    /// one of lines.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.untold += 1;
        if self.told_at.is_some_and(|at| now < at + SHED_TOLD_EVERY) {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.untold))
    }
}

/// How far the end of the process is.
#[derive(Clone, Copy, Debug)]
enum Life {
    Serving,
    Draining { until: Instant },
    Over,
}

/// The reactor, over a real or a simulated kernel.
pub struct Reactor<S: Sys> {
    cx: Context<S>,
    limits: Limits,
    hosts: Slab<Serving>,
    /// Those that listen, and those that have sessions left.
    listeners: Slab<Listener<S>>,
    /// Which of them accepts first: the one behind the last that did.
    first_to_accept: usize,
    datagrams: Slab<DatagramSocket<S>>,
    /// The ports of those that answer.
    answering_ports: Vec<u16>,
    names: Names<S>,
    sessions: Slab<Session<S>>,
    generation: u32,
    timers: Timers<Id>,
    runnable: VecDeque<Id>,
    life: Life,
    /// The process was told to read its configuration again, and nobody else knows yet.
    reload_wanted: bool,
    // Kept between turns for their memory only.
    events: Vec<Event>,
    due: Vec<(Tick, Id)>,
    batch: Batch,
    outbox: Outbox,
}

impl<S: Sys> Reactor<S> {
    /// A reactor without listeners.
    pub fn new(sys: S, limits: Limits, resolver: Resolver<Id>) -> Self {
        let (now, wall) = (sys.now(), sys.wall());
        Self {
            cx: Context {
                sys,
                pool: Pool::new(limits.large_page_bytes_max, limits.kept_page_bytes_max)
                    .with_bytes_max(limits.page_bytes_max),
                resolver,
                metrics: Metrics::default(),
                limits: limits.of_sessions(),
                now,
                wall,
                draining: false,
                turn_end: false,
                nowhere: Link::new(Status::Closed, 0),
            },
            limits,
            hosts: Slab::new(),
            listeners: Slab::new(),
            first_to_accept: 0,
            datagrams: Slab::new(),
            answering_ports: Vec::new(),
            names: Names::default(),
            sessions: Slab::new(),
            generation: 0,
            timers: Timers::new(now),
            runnable: VecDeque::new(),
            life: Life::Serving,
            reload_wanted: false,
            events: Vec::new(),
            due: Vec::new(),
            batch: Batch::new(),
            outbox: Outbox::default(),
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
        let token = Token::Listener(self.listeners.vacant_key() as u32).pack();
        let (socket, bound) =
            self.cx
                .sys
                .listen(bind, self.limits.backlog, T::CLIENT_FIRST, token)?;
        let metrics = self.add_metrics(&options.name, options.kind, bound.to_string(), T::counts());
        let listener = Listener {
            socket: Some(socket),
            host: self.add_host(service, metrics),
            metrics,
            bound: bound.clone(),
            options,
            client_first: T::CLIENT_FIRST,
            pending: false,
            paused_until: None,
            shed: Shed::default(),
            active: 0,
        };
        self.listeners.insert(listener);
        Ok(bound)
    }

    /// Serves the next connections of the listener at `bound` by another service of the same type,
    /// with other options; sessions stay with the service that they began with. Its name and kind
    /// are what they were.
    ///
    /// # Panics
    /// If nothing listens there.
    pub fn replace<T: Service + 'static>(
        &mut self,
        bound: &Bind,
        options: ListenerOptions,
        service: T,
    ) {
        let metrics = self.listener_mut(bound).1.metrics;
        let host = self.add_host(service, metrics);
        let (_, listener) = self.listener_mut(bound);
        listener.options = options;
        let before = std::mem::replace(&mut listener.host, host);
        self.retire(before);
    }

    /// Stops listening at `bound`. Sessions go on to their end.
    ///
    /// # Panics
    /// If nothing listens there.
    pub fn unlisten(&mut self, bound: &Bind) {
        let (index, listener) = self.listener_mut(bound);
        listener.pending = false;
        let (socket, host) = (listener.socket.take(), listener.host);
        if let Some(socket) = socket {
            self.cx.sys.unlisten(socket);
        }
        self.retire(host);
        self.forget_listener(index);
    }

    fn listener_mut(&mut self, bound: &Bind) -> (usize, &mut Listener<S>) {
        let is_it = |(_, l): &(usize, &mut Listener<S>)| l.socket.is_some() && l.bound == *bound;
        // Invariant: the address is one that `listen` gave and that was not given back since.
        self.listeners.iter_mut().find(is_it).expect("a listener")
    }

    /// Frees the place of a listener that is closed and has no sessions left, unless the process ends: then its counters
    /// are still asked for.
    fn forget_listener(&mut self, index: usize) {
        let listener = &self.listeners[index];
        if listener.socket.is_none() && listener.active == 0 && matches!(self.life, Life::Serving) {
            let listener = self.listeners.remove(index);
            self.forget_metrics(listener.metrics);
        }
    }

    fn add_host<T: Service + 'static>(&mut self, service: T, metrics: usize) -> usize {
        self.hosts.insert(Serving {
            host: Box::new(Hosted::new(service)),
            metrics,
            sessions: 0,
            retired: false,
        })
    }

    /// Lets a service go when its last session has ended.
    fn retire(&mut self, host: usize) {
        self.hosts[host].retired = true;
        if self.hosts[host].sessions == 0 {
            self.hosts.remove(host);
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
        let key = self.datagrams.vacant_key();
        let token = Token::Datagram(key as u32).pack();
        let (socket, bound) = self.cx.sys.bind_datagram(bind, token)?;
        let metrics = self.add_metrics(&options.name, options.kind, bound.to_string(), T::counts());
        self.datagrams.insert(DatagramSocket {
            socket,
            bound,
            service: Box::new(service),
            metrics,
            pending: false,
            source_port_min: options.source_port_min,
            batches_per_turn_max: self.limits.datagram_batches_max,
            sources: Sources::new(options.source_rate_max, self.limits.rate_sources_max),
        });
        self.list_answering_ports();
        Ok(bound)
    }

    /// Serves the datagram socket at `bound` by another service, which knows nothing of what the one before knew. Its name
    /// and kind are what they were.
    ///
    /// # Panics
    /// If there is no such socket.
    pub fn replace_datagram<T: DatagramService + 'static>(
        &mut self,
        bound: SocketAddr,
        options: &DatagramOptions,
        service: T,
    ) {
        let key = self.datagram_key(bound);
        let datagram = &mut self.datagrams[key];
        datagram.service = Box::new(service);
        datagram.source_port_min = options.source_port_min;
        datagram.sources = Sources::new(options.source_rate_max, self.limits.rate_sources_max);
        self.cx.metrics.listeners[datagram.metrics].replaced();
        self.list_answering_ports();
    }

    /// Closes the datagram socket at `bound`.
    ///
    /// # Panics
    /// If there is no such socket.
    pub fn unbind_datagram(&mut self, bound: SocketAddr) {
        let key = self.datagram_key(bound);
        let datagram = self.datagrams.remove(key);
        self.cx.sys.close_datagram(datagram.socket);
        self.forget_metrics(datagram.metrics);
        self.list_answering_ports();
    }

    fn datagram_key(&self, bound: SocketAddr) -> usize {
        let found = self.datagrams.iter().find(|(_, d)| d.bound == bound);
        // Invariant: as for listeners.
        found.expect("a datagram socket").0
    }

    fn list_answering_ports(&mut self) {
        let answering = self.datagrams.iter().map(|(_, datagram)| datagram);
        let answering = answering.filter(|datagram| datagram.source_port_min.is_some());
        self.answering_ports = answering.map(|datagram| datagram.bound.port()).collect();
    }

    /// The counters of a listener: those of one from before, if it is the same and still has sessions.
    fn add_metrics(&mut self, name: &str, kind: &'static str, address: String, of: Of) -> usize {
        let all = &mut self.cx.metrics.listeners;
        let is_it = |l: &ListenerMetrics| (&*l.name, l.kind, &l.address) == (name, kind, &address);
        let known = all.iter().find(|(_, l)| is_it(l)).map(|(key, _)| key);
        known.unwrap_or_else(|| all.insert(ListenerMetrics::new(name, kind, address, of)))
    }

    /// Drops the counters of a listener that is gone, unless another one counts there.
    fn forget_metrics(&mut self, key: usize) {
        let counts = |metrics: usize| metrics == key;
        let used = self.listeners.iter().any(|(_, l)| counts(l.metrics))
            || self.datagrams.iter().any(|(_, d)| counts(d.metrics));
        if !used {
            self.cx.metrics.listeners.remove(key);
        }
    }

    /// Other limits, for what happens from now on. A session keeps the size of its queues.
    pub fn set_limits(&mut self, limits: Limits) {
        self.cx.pool.set_limits(
            limits.large_page_bytes_max,
            limits.kept_page_bytes_max,
            limits.page_bytes_max,
        );
        self.cx.limits = limits.of_sessions();
        for (_, datagram) in &mut self.datagrams {
            datagram.batches_per_turn_max = limits.datagram_batches_max;
        }
        self.limits = limits;
    }

    /// Other settings and hosts of the resolver. Look-ups under way go on.
    pub fn set_resolver(&mut self, settings: dns::Config, hosts: Hosts) {
        self.cx.resolver.reload(settings, hosts);
    }

    /// The kernel; for tests that simulate one.
    pub fn sys_mut(&mut self) -> &mut S {
        &mut self.cx.sys
    }

    /// The kernel, when the reactor is no longer needed. What sessions and services hold is dropped first.
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
        self.cx.metrics.turns += 1;
        self.cx.metrics.events += self.events.len() as u64;

        while let Some(signal) = self.cx.sys.signal() {
            self.signalled(signal);
        }
        self.note();
        self.accept();
        self.serve_datagrams();
        self.expire();
        self.run_queue();
        self.end_turn();
        self.serve_names();
        self.cx.sys.flush_log();
        Ok(self.life())
    }

    /// How long `poll` may wait.
    fn sleep(&self) -> Option<Duration> {
        let accepting = |l: &Listener<S>| l.paused_until.is_none() && self.may_accept(l);
        if !self.runnable.is_empty()
            || self.listeners.iter().any(|(_, l)| accepting(l))
            || self.datagrams.iter().any(|(_, d)| d.pending)
            || self.is_over()
        {
            return Some(Duration::ZERO);
        }
        let now = self.cx.sys.now();
        let until = |moment: Instant| moment.saturating_duration_since(now);
        let drain = match self.life {
            Life::Draining { until: end } => Some(until(end)),
            _ => None,
        };
        let datagrams = self
            .datagrams
            .iter()
            .filter_map(|(_, d)| d.service.deadline())
            .min()
            .map(until);
        let names = self.cx.resolver.deadline().map(until);
        let paused = self.listeners.iter().map(|(_, listener)| listener);
        let paused = paused.filter(|l| self.may_accept(l));
        let paused = paused.filter_map(|l| l.paused_until).min().map(until);
        [self.timers.sleep(now), drain, datagrams, names, paused]
            .into_iter()
            .flatten()
            .min()
    }

    fn signalled(&mut self, signal: Signal) {
        match (signal, self.life) {
            (Signal::Reload, life) => {
                self.reopen();
                self.reload_certificates();
                self.reload_wanted = matches!(life, Life::Serving);
            }
            (Signal::Reopen, _) => self.reopen(),
            (Signal::Terminate, Life::Serving) => self.drain(),
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

    /// Tells the services of the end of the turn, if one of them wants to know.
    fn end_turn(&mut self) {
        if std::mem::take(&mut self.cx.turn_end) {
            for (_, serving) in &mut self.hosts {
                serving.host.turn_ended(&mut self.cx.of(serving.metrics));
            }
        }
    }

    /// Reads the certificates again. Connections that are open keep theirs.
    fn reload_certificates(&mut self) {
        for (_, listener) in &mut self.listeners {
            let Some(tls) = &mut listener.options.tls else {
                continue;
            };
            match tls.reload() {
                Ok(()) => log::info!("{listener}: certificate read again"),
                Err(error) => log::error!("{listener}: the old certificate stays: {error}"),
            }
        }
    }

    /// Begins the end: stops accepting, closes what is idle, finishes what is under way within `drain_timeout`.
    pub fn drain(&mut self) {
        log::info!(
            "draining {} sessions, at most {:?}",
            self.sessions.len(),
            self.limits.drain_timeout
        );
        self.life = Life::Draining {
            until: self.cx.now + self.limits.drain_timeout,
        };
        self.reload_wanted = false; // what was told just before has nothing to change any more
        self.cx.draining = true;
        self.cx.metrics.draining = true;
        for (_, listener) in &mut self.listeners {
            if !listener.options.serves_while_draining
                && !self.cx.sys.planted(PlantedBug::DrainForgetsListener)
                && let Some(socket) = listener.socket.take()
            {
                self.cx.sys.unlisten(socket);
                listener.pending = false;
            }
        }
        for (_, session) in &mut self.sessions {
            session.woken = true;
            enqueue(session, &mut self.runnable);
        }
    }

    /// Whether nothing is left to be done, or no time for it.
    fn is_over(&self) -> bool {
        match self.life {
            Life::Serving => false,
            Life::Draining { until } => {
                let stays = |l: &Listener<S>| l.options.serves_while_draining || l.active == 0;
                self.cx.now >= until || self.listeners.iter().all(|(_, l)| stays(l))
            }
            Life::Over => true,
        }
    }

    /// Whether the loop goes on; at its end, what is left is cut.
    fn life(&mut self) -> Turn {
        if !self.is_over() {
            return match std::mem::take(&mut self.reload_wanted) {
                true => Turn::Reload,
                false => Turn::Continue,
            };
        }
        self.life = Life::Over;
        let left: Vec<usize> = self.sessions.iter().map(|(index, _)| index).collect();
        for index in left {
            self.remove(index, &Err(Error::TimedOut(Phase::Drain)));
        }
        for (_, listener) in &mut self.listeners {
            if let Some(socket) = listener.socket.take() {
                self.cx.sys.unlisten(socket);
            }
        }
        for datagram in self.datagrams.drain() {
            self.cx.sys.close_datagram(datagram.socket);
        }
        self.names.close(&mut self.cx.sys);
        self.set_gauges();
        Turn::Stop
    }

    /// Events to marks.
    fn note(&mut self) {
        for event in &self.events {
            match Token::unpack(event.token) {
                Some(Token::Listener(index)) => {
                    if let Some(listener) = self.listeners.get_mut(index as usize) {
                        listener.pending = listener.socket.is_some();
                    }
                }
                Some(Token::Datagram(index)) => {
                    if let Some(datagram) = self.datagrams.get_mut(index as usize) {
                        datagram.pending = true;
                    }
                }
                Some(Token::Resolver(index)) => self.names.ready(index as usize),
                Some(Token::Session(id, side)) => match self.sessions.get_mut(id.index as usize) {
                    Some(session)
                        if session.id == id
                            || self.cx.sys.planted(PlantedBug::StaleEventAccepted) =>
                    {
                        session.note(side, event.readable, event.writable, event.read_closed);
                        enqueue(session, &mut self.runnable);
                    }
                    _ => self.cx.metrics.events_stale += 1,
                },
                None => self.cx.metrics.events_stale += 1,
            }
        }
    }

    /// A connection may wait, and there is a place for it.
    fn may_accept(&self, listener: &Listener<S>) -> bool {
        let reserved = match listener.options.serves_while_draining {
            true => self.limits.sessions_reserved,
            false => 0,
        };
        listener.pending
            && self.sessions.len() < (self.limits.sessions_max + reserved).min(token::SESSIONS_MAX)
            && listener.active < listener.options.connections_max
    }

    /// Takes new connections, a bounded batch from each listener: one by one in turn, so that none gets the last places all
    /// the time.
    fn accept(&mut self) {
        let (places, first) = (self.listeners.capacity(), self.first_to_accept);
        for _ in 0..self.limits.accepts_per_turn_max {
            let mut accepted = false;
            for index in (0..places).map(|i| (first + i) % places) {
                let Some(listener) = self.listeners.get(index) else {
                    continue;
                };
                // At a limit the connections wait in the kernel's queue; one that ends makes room.
                let paused = listener
                    .paused_until
                    .is_some_and(|until| until > self.cx.now);
                if !paused && self.may_accept(listener) {
                    self.listeners[index].paused_until = None;
                    self.accept_one(index);
                    accepted = true;
                }
            }
            if !accepted {
                break;
            }
        }
    }

    fn accept_one(&mut self, index: usize) {
        let cx = &mut self.cx;
        let listener = &mut self.listeners[index];
        let Some(socket) = &listener.socket else {
            return;
        };
        let is_one_of = |error: &io::Error, codes: [i32; 2]| {
            let code = error.raw_os_error();
            code.is_some_and(|code| codes.contains(&code))
        };
        let (stream, peer) = match cx.sys.accept(socket) {
            Ok(accepted) => accepted,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                listener.pending = false;
                return;
            }
            Err(error) if is_one_of(&error, OUT_OF_DESCRIPTORS) => {
                if cx.sys.planted(PlantedBug::AcceptEdgeLost) {
                    listener.pending = false;
                    return;
                }
                match cx.sys.shed(socket) {
                    Ok(()) => {
                        cx.metrics.listeners[listener.metrics].shed();
                        if let Some(count) = listener.shed.count(cx.now) {
                            log::warn!(
                                "{listener}: out of descriptors, {count} connections closed unserved"
                            );
                        }
                    }
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        listener.pending = false;
                    }
                    // The edge came already, and the connection still waits.
                    Err(_) => listener.paused_until = Some(cx.now + ACCEPT_PAUSE),
                }
                return;
            }
            Err(error) if is_one_of(&error, OUT_OF_MEMORY) => {
                log::warn!("{listener}: accept: {error}");
                listener.paused_until = Some(cx.now + ACCEPT_PAUSE);
                return;
            }
            Err(error) => {
                // The client gave up meanwhile (ECONNABORTED), or its network failed: the next one may be fine.
                log::debug!("{listener}: accept: {error}");
                return;
            }
        };
        let tls = listener.options.tls.as_ref().map(TlsSource::accept);
        let tls = match tls.transpose() {
            Ok(tls) => tls,
            Err(error) => {
                log::error!("{listener}: tls: {error}");
                cx.sys.close(stream);
                return;
            }
        };
        if !listener.options.serves_while_draining {
            self.first_to_accept = index + 1; // those have places of their own
        }
        self.generation = self.generation.wrapping_add(1);
        let entry = self.sessions.vacant_entry();
        let id = Id {
            index: entry.key() as u32,
            generation: self.generation,
        };
        let serving = &mut self.hosts[listener.host];
        let conn = serving.host.accept(&peer, cx.now);
        serving.sessions += 1;
        listener.active += 1;
        cx.metrics.listeners[listener.metrics].accepted();
        let provenance = Provenance {
            listener: index,
            host: listener.host,
            metrics: listener.metrics,
            conn,
            peer,
        };
        let mut session = Session::new(id, provenance, stream, tls, &cx.limits);
        session.note(Side::Down, listener.client_first, true, false);
        let session = entry.insert(session);
        enqueue(session, &mut self.runnable);
    }

    fn serve_datagrams(&mut self) {
        for (_, datagram) in &mut self.datagrams {
            let Context {
                sys, metrics, now, ..
            } = &mut self.cx;
            let metrics = &mut metrics.listeners[datagram.metrics];
            if datagram.pending {
                let (batch, out) = (&mut self.batch, &mut self.outbox);
                datagram.serve(sys, batch, out, &self.answering_ports, metrics, *now);
            }
            if datagram
                .service
                .deadline()
                .is_some_and(|deadline| deadline <= *now)
            {
                datagram.advance(sys, &self.batch, &mut self.outbox, metrics, *now);
            }
        }
    }

    /// Reminders to the sessions whose deadline passed, new reminders for the others.
    fn expire(&mut self) {
        self.timers.expire(self.cx.now, &mut self.due);
        self.cx.metrics.timers_fired += self.due.len() as u64;
        for (tick, id) in self.due.drain(..) {
            let Some(session) = self
                .sessions
                .get_mut(id.index as usize)
                .filter(|s| s.id == id)
            else {
                continue;
            };
            if !session.reminders.came(tick) {
                continue;
            }
            let host = &*self.hosts[session.provenance.host].host;
            let deadline = session.until(host, &self.cx.limits);
            if deadline <= self.cx.now {
                session.woken = true;
                enqueue(session, &mut self.runnable);
            } else if !self.cx.sys.planted(PlantedBug::DeadlineNotRearmed) {
                session.reminders.arm(deadline, id, &mut self.timers);
            }
        }
    }

    /// Pumps each session that is queued now, once.
    fn run_queue(&mut self) {
        for _ in 0..self.runnable.len() {
            let Some(id) = self.runnable.pop_front() else {
                break;
            };
            let Some(session) = self
                .sessions
                .get_mut(id.index as usize)
                .filter(|s| s.id == id)
            else {
                continue;
            };
            session.queued = false;
            self.cx.metrics.pumps += 1;
            let host = &mut *self.hosts[session.provenance.host].host;
            match session.pump(host, &mut self.cx) {
                Outcome::Park(deadline) => session.reminders.arm(deadline, id, &mut self.timers),
                Outcome::Again if self.cx.sys.planted(PlantedBug::BudgetForgets) => {}
                Outcome::Again => enqueue(session, &mut self.runnable),
                Outcome::Ended(result) => self.remove(id.index as usize, &result),
            }
        }
    }

    /// Ends a session: its service, its sockets, its pages, its place.
    fn remove(&mut self, index: usize, result: &Result<(), Error>) {
        let session = self.sessions.remove(index);
        let listener = &mut self.listeners[session.provenance.listener];
        listener.active -= 1;
        let serving = &mut self.hosts[session.provenance.host];
        serving.sessions -= 1;
        serving.host.ended(
            session.provenance.conn,
            &mut self.cx.of(session.provenance.metrics),
        );
        if serving.retired && serving.sessions == 0 {
            self.hosts.remove(session.provenance.host);
        }
        self.cx.metrics.listeners[listener.metrics].ended(session.ending, result);
        if let Err(error) = result {
            let level = match error {
                Error::Disk(..) => log::Level::Error,
                Error::Protocol(_) | Error::Refused(_) | Error::Changed => log::Level::Info,
                Error::TimedOut(_) | Error::Reset(_) => log::Level::Debug,
            };
            log::log!(level, "{listener}, {}: {error}", session.provenance.peer);
        }
        self.forget_listener(session.provenance.listener);
        session.dismantle(result.is_err(), &mut self.cx);
    }

    /// Carries datagrams for the resolver and wakes who waited for an answer.
    fn serve_names(&mut self) {
        self.names
            .serve(&mut self.cx.sys, &mut self.cx.resolver, self.cx.now);
        while let Some(id) = self.cx.resolver.poll_woken() {
            if let Some(session) = self
                .sessions
                .get_mut(id.index as usize)
                .filter(|s| s.id == id)
                .filter(|_| !self.cx.sys.planted(PlantedBug::NameWakeLost))
            {
                session.woken = true;
                enqueue(session, &mut self.runnable);
            }
        }
        self.set_gauges();
    }

    fn set_gauges(&mut self) {
        self.cx.metrics.log_dropped = self.cx.sys.log_dropped();
        let listening = self.listeners.iter().filter(|(_, l)| l.socket.is_some());
        self.cx.metrics.gauges = Gauges {
            sessions: self.sessions.len(),
            runnable: self.runnable.len(),
            timers: self.timers.len(),
            pages_held: self.cx.pool.pages_held(),
            page_bytes_held: self.cx.pool.bytes_held(),
            page_bytes_kept: self.cx.pool.bytes_kept(),
            page_bytes_max: self.limits.page_bytes_max,
            sockets: self.sessions.len()
                + listening.count()
                + self.datagrams.len()
                + self.names.sockets(),
        };
    }
}

/// Bytes in a span of time at so many a second.
fn bytes_at(rate: u32, span: Duration) -> u64 {
    let bytes = u128::from(rate) * span.as_millis() / 1000;
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

/// Queues a session, unless it is.
fn enqueue<S: Sys>(session: &mut Session<S>, runnable: &mut VecDeque<Id>) {
    if !session.queued {
        session.queued = true;
        runnable.push_back(session.id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_once_a_second_of_all_connections_that_were_closed_unserved() {
        let (mut shed, start) = (Shed::default(), Instant::now());
        let told: Vec<u64> = (0..3000)
            .filter_map(|ms| shed.count(start + Duration::from_millis(ms)))
            .collect();
        assert_eq!(told, [1, 1000, 1000]);
    }
}
