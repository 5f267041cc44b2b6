//! Listening sockets: opened, replaced and closed by the address that they got, and accepted from
//! in turn.
//!
//! ```text
//! accept ─┬─ a connection ──▶ gate ─────▶ TLS, if it has some ──▶ Accepted
//!         │                    └────────▶ closed unserved: its address may not come now
//!         ├─ nothing waits (EAGAIN) ────▶ until the next edge
//!         ├─ no descriptors ────────────▶ shed: the connection is closed unserved, or a pause
//!         ├─ no memory ─────────────────▶ a pause: no edge will tell again of what waits
//!         └─ anything else ─────────────▶ the next one; again and again: down (see `ear`)
//! ```
//!
//! A listener has a socket for each of its addresses; options, service and limits are its own, an
//! address has its counters. A socket that was closed keeps its place until its last session has
//! ended, for those.
//!
//! A long file, since it is all that knows which socket is whose.
//!
//! Not here: sessions and the services that they are given to (`reactor`).

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::server::ResolvesServerCert;
use slab::Slab;

use super::context::Context;
use super::ear::Ear;
use super::kept::Kept;
use super::tls::{Tls, TlsOptions};
use super::token::{self, Token};
use super::untold::Untold;
use crate::gate::{Admitted, Gate, GateOptions, Seats};
use crate::limits::Limits;
use crate::metrics::{Bar, Of};
use crate::service::Peer;
use crate::sys::{Bind, PlantedBug, Sys};

/// Errors of `accept(2)` that mean "no descriptors left" (`EMFILE` of the process, `ENFILE` of the
/// system).
const OUT_OF_DESCRIPTORS: [i32; 2] = [libc::EMFILE, libc::ENFILE];

/// Those that mean "no memory": the connection stays in the queue, and no edge will tell of it
/// again.
const OUT_OF_MEMORY: [i32; 2] = [libc::ENOBUFS, libc::ENOMEM];

/// How long a listener leaves its queue alone after a failure that the next attempt would only
/// repeat.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Pieces of 4 KiB that are read from a peer that is turned away: as much as a client is likely to
/// have sent at once.
const UNREAD_PIECES_MAX: usize = 16;

/// What tells one listener from another.
#[derive(Debug)]
pub struct ListenerOptions {
    /// Its name in logs and metrics.
    pub name: String,
    /// Its kind, as in the configuration.
    pub kind: &'static str,
    /// Connections at a time.
    pub connections_max: usize,
    /// Descriptors that a session may take: its connection, and another one to an origin, or a file.
    pub descriptors: usize,
    /// It goes on accepting while the process drains: for health checks.
    pub serves_while_draining: bool,
    /// What it asks of its peers.
    pub gate: GateOptions,
    /// For a listener that speaks TLS.
    pub tls: Option<TlsOptions>,
}

/// All listeners.
pub(super) struct Listeners<S: Sys> {
    all: Slab<Listener>,
    sockets: Slab<Socket<S>>,
    /// A connection may wait at a socket, or one is to be opened again. Most turns have nothing to
    /// do for any of them, however many there are.
    busy: bool,
    /// Which socket accepts first: the one behind the last that did.
    first: usize,
    /// The connections of all listeners by address.
    seats: Seats,
    /// Places that are kept for each listener.
    kept: Kept,
    /// What all sessions may take.
    descriptors: usize,
}

/// Descriptors that a session takes at most.
const SESSION_DESCRIPTORS_MAX: usize = 2;

/// What a listener knows of the type of its service.
#[derive(Clone, Copy)]
pub(super) struct ServiceType {
    /// See [`crate::service::Service::CLIENT_FIRST`].
    pub(super) client_first: bool,
    /// See [`crate::service::Service::counts`].
    pub(super) counts: fn() -> Of,
}

/// A connection that was accepted.
pub(super) struct Accepted<S: Sys> {
    pub(super) stream: S::Stream,
    pub(super) peer: Peer,
    /// Where it is counted by its address.
    pub(super) admitted: Admitted,
    pub(super) tls: Option<Box<Tls>>,
    /// The place of its listening socket.
    pub(super) socket: u32,
    /// Who serves it.
    pub(super) host: usize,
    /// The place of that socket in the metrics.
    pub(super) metrics: usize,
    /// Its first bytes are there already, as likely as not.
    pub(super) client_first: bool,
    /// A header of the PROXY protocol comes first, within this time.
    pub(super) introduction_timeout: Option<Duration>,
}

/// What is left of a listener when one of its sockets was closed.
pub(super) enum Left {
    /// No socket that is open: this host gets no more sessions.
    Nothing { host: usize },
    /// Others, one of which has this place in the metrics.
    Others { host: usize, metrics: usize },
}

/// What the sockets of a listener share.
struct Listener {
    options: ListenerOptions,
    gate: Gate,
    /// Who serves the next connections.
    host: usize,
    service: ServiceType,
    /// Its sockets, closed ones with sessions among them.
    sockets: usize,
    /// Sessions of all of them.
    active: usize,
}

/// A listening socket.
struct Socket<S: Sys> {
    ear: Ear<S::Listener>,
    /// Its address, by which it is found: no two that listen have the same.
    bound: Bind,
    /// The place of its listener.
    listener: usize,
    /// The name of that.
    name: String,
    /// An edge was told and the queue of connections not yet empty.
    pending: bool,
    /// When it may accept again, after the system had no means for it.
    paused_until: Option<Instant>,
    /// Connections that were closed unserved.
    shed: Untold,
    /// Those that the gate kept out, in the order of [`Bar::ALL`].
    barred: [Untold; Bar::ALL.len()],
    /// Times that the system had no memory for one.
    out_of_memory: Untold,
    active: usize,
    /// Its place in the metrics.
    metrics: usize,
}

impl<S: Sys> Listeners<S> {
    /// None.
    pub(super) fn new(limits: &Limits) -> Self {
        Self {
            all: Slab::new(),
            sockets: Slab::new(),
            busy: false,
            first: 0,
            seats: Seats::new(limits.connections_per_address_max),
            kept: Kept::new(limits),
            descriptors: 0,
        }
    }

    /// Other limits, for those who come from now on.
    pub(super) fn set_limits(&mut self, limits: &Limits) {
        self.seats.set_max(limits.connections_per_address_max);
        self.kept = Kept::new(limits);
        self.recount_kept();
    }

    /// Listeners, or limits, are others than before.
    fn recount_kept(&mut self) {
        let listeners = self.all.iter().map(|(_, listener)| listener);
        let keepers = listeners.filter(|listener| listener.keeps_places());
        self.kept.recount(keepers.map(|listener| listener.active));
        let all = self.all.iter().map(|(_, listener)| listener);
        self.descriptors = all.map(|l| l.active * l.options.descriptors).sum();
    }

    /// Whether there is no place for a session without a client.
    pub(super) fn are_full(&self, sessions: usize, limits: &Limits) -> bool {
        sessions >= limits.sessions_max || self.descriptors >= limits.session_descriptors_max
    }

    /// A new listener at `bind`; the address that it got. `host` is told the place of its counters,
    /// and tells who serves.
    ///
    /// # Errors
    /// Those of `bind(2)` and `listen(2)`.
    pub(super) fn open(
        &mut self,
        bind: &Bind,
        limits: &Limits,
        service: ServiceType,
        options: ListenerOptions,
        cx: &mut Context<S>,
        host: impl FnOnce(usize) -> usize,
    ) -> io::Result<Bind> {
        let backlog = limits.backlog;
        let (sockets, listener) = (&mut self.sockets, self.all.vacant_key());
        let socket = add_socket(sockets, listener, &options, service, bind, backlog, cx)?;
        let socket = &self.sockets[socket];
        self.all.insert(Listener {
            gate: Gate::new(&options.gate, limits.rate_sources_max),
            options,
            host: host(socket.metrics),
            service,
            sockets: 1,
            active: 0,
        });
        let bound = socket.bound.clone();
        self.recount_kept();
        Ok(bound)
    }

    /// One more address for the listener at `beside`; the address that it got.
    ///
    /// # Errors
    /// Those of `bind(2)` and `listen(2)`.
    ///
    /// # Panics
    /// If nothing listens at `beside`.
    pub(super) fn open_beside(
        &mut self,
        beside: &Bind,
        bind: &Bind,
        backlog: i32,
        cx: &mut Context<S>,
    ) -> io::Result<Bind> {
        let place = self.sockets[self.find(beside)].listener;
        let (sockets, listener) = (&mut self.sockets, &mut self.all[place]);
        let (options, service) = (&listener.options, listener.service);
        let socket = add_socket(sockets, place, options, service, bind, backlog, cx)?;
        listener.sockets += 1;
        Ok(self.sockets[socket].bound.clone())
    }

    /// Who serves the next connections of the listener at `bound`.
    ///
    /// # Panics
    /// If nothing listens at `bound`.
    pub(super) fn host_of(&self, bound: &Bind) -> usize {
        self.all[self.sockets[self.find(bound)].listener].host
    }

    /// Lets another host serve the next connections of the listener at `bound`; who served them
    /// before.
    ///
    /// # Panics
    /// If nothing listens at `bound`.
    pub(super) fn replace(
        &mut self,
        bound: &Bind,
        limits: &Limits,
        options: ListenerOptions,
        host: impl FnOnce(usize) -> usize,
    ) -> usize {
        let socket = &self.sockets[self.find(bound)];
        let listener = &mut self.all[socket.listener];
        let sources_max = limits.rate_sources_max;
        listener.gate.replace(&options.gate, sources_max);
        listener.options = options;
        let before = std::mem::replace(&mut listener.host, host(socket.metrics));
        self.recount_kept();
        before
    }

    /// Other certificates for the next connections, if TLS is spoken there. Sessions of before can
    /// be resumed.
    ///
    /// # Panics
    /// If nothing listens at `bound`.
    pub(super) fn set_certificates(&mut self, bound: &Bind, which: Arc<dyn ResolvesServerCert>) {
        let listener = self.sockets[self.find(bound)].listener;
        if let Some(tls) = &mut self.all[listener].options.tls {
            let mut config = ServerConfig::clone(&tls.config);
            config.cert_resolver = which;
            tls.config = Arc::new(config);
        }
    }

    /// Stops listening at one address.
    ///
    /// # Panics
    /// If nothing listens at `bound`.
    pub(super) fn close(&mut self, bound: &Bind, cx: &mut Context<S>) -> Left {
        let index = self.find(bound);
        self.sockets[index].close(&mut cx.sys);
        let listener = self.sockets[index].listener;
        let host = self.all[listener].host;
        self.forget(index, cx);
        let is_open = |socket: &Socket<S>| socket.listener == listener && !socket.ear.is_closed();
        match self.sockets.iter().find(|(_, socket)| is_open(socket)) {
            Some((_, Socket { metrics, .. })) => Left::Others {
                host,
                metrics: *metrics,
            },
            None => Left::Nothing { host },
        }
    }

    fn find(&self, bound: &Bind) -> usize {
        let is_it = |socket: &Socket<S>| !socket.ear.is_closed() && socket.bound == *bound;
        let found = self.sockets.iter().find(|(_, socket)| is_it(socket));
        // Invariant: the address is one that `open` gave and that was not given back since.
        found.expect("a listener").0
    }

    /// Frees the place of a socket that is closed and has no sessions left, and that of its
    /// listener with the last one, unless the process ends: then its counters are still asked for.
    fn forget(&mut self, index: usize, cx: &mut Context<S>) {
        let socket = &self.sockets[index];
        if !socket.ear.is_closed() || socket.active > 0 || cx.draining {
            return;
        }
        let socket = self.sockets.remove(index);
        cx.metrics.leave(socket.metrics);
        let listener = &mut self.all[socket.listener];
        listener.sockets -= 1;
        if listener.sockets == 0 {
            self.all.remove(socket.listener);
            self.recount_kept();
        }
    }

    /// A session of a socket ended.
    pub(super) fn session_ended(
        &mut self,
        index: usize,
        peer: &Peer,
        admitted: Admitted,
        cx: &mut Context<S>,
    ) {
        let socket = &mut self.sockets[index];
        socket.active -= 1;
        let listener = &mut self.all[socket.listener];
        listener.active -= 1;
        self.descriptors -= listener.options.descriptors;
        if listener.keeps_places() {
            self.kept.left(listener.active);
        }
        listener.gate.leave(peer, admitted, &mut self.seats);
        self.forget(index, cx);
    }

    /// A listening socket whose connections this host serves: its place, and that of its counters.
    pub(super) fn of_host(&self, host: usize) -> Option<(usize, usize)> {
        let is_it =
            |socket: &Socket<S>| !socket.ear.is_closed() && self.all[socket.listener].host == host;
        let found = self.sockets.iter().find(|(_, socket)| is_it(socket));
        found.map(|(place, socket)| (place, socket.metrics))
    }

    /// A session of a listening socket began that has no client.
    pub(super) fn began_alone(&mut self, index: usize, cx: &mut Context<S>) {
        let socket = &mut self.sockets[index];
        let listener = &mut self.all[socket.listener];
        if listener.keeps_places() {
            self.kept.entered(listener.active);
        }
        listener.active += 1;
        socket.active += 1;
        self.descriptors += listener.options.descriptors;
        cx.metrics.listeners[socket.metrics].began_alone();
    }

    /// A listening socket, as the log names it.
    pub(super) fn name(&self, index: usize) -> &impl fmt::Display {
        &self.sockets[index]
    }

    /// An event; one for a socket that is gone finds nobody, or another one, which looks for
    /// nothing.
    pub(super) fn ready(&mut self, index: usize) {
        if let Some(socket) = self.sockets.get_mut(index) {
            socket.pending = socket.ear.socket().is_some();
            self.busy = true;
        }
    }

    /// Whether there may be anything to do.
    pub(super) fn are_busy(&self) -> bool {
        self.busy
    }

    /// What could be done in this turn was done.
    pub(super) fn rest(&mut self) {
        let mut all = self.sockets.iter().map(|(_, socket)| socket);
        self.busy = all.any(|socket| socket.pending || socket.ear.down_until().is_some());
    }

    /// The places of all sockets, in the order in which they accept in this turn. Some may be
    /// empty.
    pub(super) fn order(&self) -> impl Iterator<Item = usize> + Clone + use<S> {
        let (places, first) = (self.sockets.capacity(), self.first);
        (0..places).map(move |i| (first + i) % places)
    }

    /// Whether a socket may accept now: a connection may wait, and there is a place for it.
    pub(super) fn may_accept(
        &self,
        index: usize,
        sessions: usize,
        limits: &Limits,
        now: Instant,
    ) -> bool {
        self.sockets.get(index).is_some_and(|socket| {
            self.has_work(socket, sessions, limits)
                && socket.paused_until.is_none_or(|until| until <= now)
        })
    }

    /// Whether a connection may wait at a socket for which there is a place.
    fn has_work(&self, socket: &Socket<S>, sessions: usize, limits: &Limits) -> bool {
        let taken = (sessions, self.descriptors);
        socket.pending && self.all[socket.listener].has_room(taken, &self.kept, limits)
    }

    /// The next connection of a socket, or none this time.
    pub(super) fn accept(
        &mut self,
        index: usize,
        cx: &mut Context<S>,
        limits: &Limits,
    ) -> Option<Accepted<S>> {
        let socket = &mut self.sockets[index];
        let listener = &mut self.all[socket.listener];
        socket.paused_until = None;
        let (stream, peer) = match cx.sys.accept(socket.ear.socket()?) {
            Ok(accepted) => accepted,
            Err(error) => {
                socket.refused(&error, cx, limits);
                return None;
            }
        };
        socket.ear.worked();
        let introduction_timeout = listener.gate.introduction_timeout(&peer);
        let admitted = match introduction_timeout {
            Some(_) => Ok(Admitted::default()), // its client is asked for
            None => listener.gate.admit(&peer, cx.now, &mut self.seats),
        };
        let admitted = match admitted {
            Err(bar) if !cx.sys.planted(PlantedBug::GateLeftOpen) => {
                socket.turn_away(stream, &peer, bar, cx);
                return None;
            }
            admitted => admitted.unwrap_or_default(),
        };
        let tls = listener.options.tls.as_ref();
        let tls = match tls.map(|tls| Tls::accept(tls, &mut cx.sys)).transpose() {
            Ok(tls) => tls,
            Err(error) => {
                log::error!("{socket}: tls: {}", error.text);
                cx.sys.close(stream);
                listener.gate.leave(&peer, admitted, &mut self.seats);
                return None;
            }
        };
        if listener.keeps_places() {
            self.kept.entered(listener.active);
        }
        listener.active += 1;
        socket.active += 1;
        self.descriptors += listener.options.descriptors;
        cx.metrics.listeners[socket.metrics].accepted();
        if !listener.options.serves_while_draining {
            self.first = index + 1; // those have places of their own
        }
        Some(Accepted {
            stream,
            peer,
            admitted,
            tls,
            socket: index as u32, // as in its token
            host: listener.host,
            metrics: socket.metrics,
            client_first: listener.service.client_first,
            introduction_timeout,
        })
    }

    /// Lets the client in whose connection a proxy passes on, or counts why not.
    pub(super) fn introduce(
        &mut self,
        index: usize,
        client: &Peer,
        cx: &mut Context<S>,
    ) -> Result<Admitted, Bar> {
        let socket = &mut self.sockets[index];
        let gate = &mut self.all[socket.listener].gate;
        let admitted = gate.admit(client, cx.now, &mut self.seats);
        if let Err(bar) = admitted {
            socket.barred(client, bar, cx);
        }
        admitted
    }

    /// Whether one may accept at once.
    pub(super) fn are_pending(&self, sessions: usize, limits: &Limits) -> bool {
        let mut all = self.sockets.iter().map(|(_, socket)| socket);
        self.busy && all.any(|s| s.paused_until.is_none() && self.has_work(s, sessions, limits))
    }

    /// When the next one may accept again, or is to be opened again.
    pub(super) fn next(&self, sessions: usize, limits: &Limits) -> Option<Instant> {
        if !self.busy {
            return None;
        }
        let all = self.sockets.iter().map(|(_, socket)| socket);
        let next = |socket: &Socket<S>| match socket.paused_until {
            Some(until) if self.has_work(socket, sessions, limits) => Some(until),
            _ => socket.ear.down_until(),
        };
        all.filter_map(next).min()
    }

    /// Opens those again that were taken down, once their pause is over.
    pub(super) fn open_again(&mut self, cx: &mut Context<S>, limits: &Limits) {
        for (index, socket) in &mut self.sockets {
            if socket.ear.is_due(cx.now) {
                let client_first = self.all[socket.listener].service.client_first;
                socket.open_again(index, client_first, cx, limits);
            }
        }
    }

    /// Stops accepting, but for those that serve while the process drains.
    pub(super) fn drain(&mut self, sys: &mut S) {
        for (_, socket) in &mut self.sockets {
            let stays = self.all[socket.listener].options.serves_while_draining;
            if !stays && !sys.planted(PlantedBug::DrainForgetsListener) {
                socket.close(sys);
            }
        }
    }

    /// Whether no session is left that the process waits for while it drains.
    pub(super) fn are_drained(&self) -> bool {
        let stays = |l: &Listener| l.options.serves_while_draining || l.active == 0;
        self.all.iter().all(|(_, listener)| stays(listener))
    }

    /// Closes all: the process ends, and no session is left.
    pub(super) fn close_all(&mut self, sys: &mut S) {
        let mut gates = self.all.iter().map(|(_, listener)| &listener.gate);
        debug_assert!(self.seats.are_free() && gates.all(Gate::is_empty));
        for (_, socket) in &mut self.sockets {
            socket.close(sys);
        }
    }

    /// Sockets that are open.
    pub(super) fn open_sockets(&self) -> usize {
        let open = self
            .sockets
            .iter()
            .filter(|(_, s)| s.ear.socket().is_some());
        open.count()
    }
}

/// Opens a socket for a listener; its place.
fn add_socket<S: Sys>(
    sockets: &mut Slab<Socket<S>>,
    listener: usize,
    options: &ListenerOptions,
    service: ServiceType,
    bind: &Bind,
    backlog: i32,
    cx: &mut Context<S>,
) -> io::Result<usize> {
    let token = Token::Listener(sockets.vacant_key() as u32).pack();
    let (socket, bound) = cx.sys.listen(bind, backlog, service.client_first, token)?;
    let (address, counts) = (bound.to_string(), (service.counts)());
    Ok(sockets.insert(Socket {
        ear: Ear::new(socket, cx.sys.now()),
        metrics: cx
            .metrics
            .enter(&options.name, options.kind, address, counts),
        bound,
        listener,
        name: options.name.clone(),
        pending: false,
        paused_until: None,
        shed: Untold::default(),
        barred: Default::default(),
        out_of_memory: Untold::default(),
        active: 0,
    }))
}

impl Listener {
    /// Whether there is a place for one more connection. At a limit they wait in the kernel's
    /// queue; one that ends makes room.
    fn has_room(
        &self,
        (sessions, descriptors): (usize, usize),
        kept: &Kept,
        limits: &Limits,
    ) -> bool {
        let (fewer, more) = match self.keeps_places() {
            true => (kept.of_others(self.active), 0),
            false => (0, limits.sessions_reserved),
        };
        let places = |all: usize, each: usize| {
            let all = all.saturating_add(each * more);
            all.saturating_sub(each * fewer)
        };
        sessions < places(limits.sessions_max, 1).min(token::SESSIONS_MAX)
            && descriptors + self.options.descriptors
                <= places(limits.session_descriptors_max, SESSION_DESCRIPTORS_MAX)
            && self.active < self.options.connections_max
    }

    /// Whether places are kept for it. Those that serve while the process drains have places beyond
    /// the limit.
    fn keeps_places(&self) -> bool {
        !self.options.serves_while_draining
    }
}

impl<S: Sys> Socket<S> {
    /// Nothing was accepted.
    fn refused(&mut self, error: &io::Error, cx: &mut Context<S>, limits: &Limits) {
        let is_one_of = |codes: [i32; 2]| {
            let code = error.raw_os_error();
            code.is_some_and(|code| codes.contains(&code))
        };
        if error.kind() == io::ErrorKind::WouldBlock {
            self.ear.worked();
            self.pending = false;
        } else if error.kind() == io::ErrorKind::Interrupted {
            // It is tried again.
        } else if is_one_of(OUT_OF_DESCRIPTORS) {
            self.shed(cx);
        } else if is_one_of(OUT_OF_MEMORY) {
            if let Some(count) = self.out_of_memory.count(cx.now) {
                log::warn!("{self}: accept: {error}, {count} times");
            }
            self.paused_until = Some(cx.now + ACCEPT_PAUSE);
        } else {
            // The client gave up meanwhile (ECONNABORTED), or its network failed: the next one may
            // be fine.
            log::debug!("{self}: accept: {error}");
            if self.ear.failed() {
                self.take_down(error, cx, limits);
            }
        }
    }

    /// The gate keeps a peer out: closes the connection unserved. What it has sent is read before,
    /// within bounds, or the kernel would send a reset and not the end of the stream.
    fn turn_away(&mut self, stream: S::Stream, peer: &Peer, bar: Bar, cx: &mut Context<S>) {
        let mut unread = [0; 4096];
        for _ in 0..UNREAD_PIECES_MAX {
            if !matches!(cx.sys.recv(&stream, &mut unread), Ok(1..)) {
                break;
            }
        }
        cx.sys.close(stream);
        self.barred(peer, bar, cx);
    }

    /// Counts one who may not come.
    fn barred(&mut self, peer: &Peer, bar: Bar, cx: &mut Context<S>) {
        cx.metrics.listeners[self.metrics].barred(bar);
        if let Some(count) = self.barred[bar as usize].count(cx.now) {
            let cause = bar.name();
            log::info!("{self}: connections refused ({cause}): {count}, the last from {peer}");
        }
    }

    /// Out of descriptors: closes the connection unserved, so that the client learns of it at once.
    fn shed(&mut self, cx: &mut Context<S>) {
        if cx.sys.planted(PlantedBug::AcceptEdgeLost) {
            self.pending = false;
            return;
        }
        let Some(socket) = self.ear.socket() else {
            return;
        };
        match cx.sys.shed(socket) {
            Ok(()) => {
                cx.metrics.listeners[self.metrics].shed();
                if let Some(count) = self.shed.count(cx.now) {
                    log::warn!("{self}: out of descriptors, {count} connections closed unserved");
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.pending = false,
            // The edge came already, and the connection still waits.
            Err(_) => self.paused_until = Some(cx.now + ACCEPT_PAUSE),
        }
    }

    /// Closes the socket, which goes on failing, for a while.
    fn take_down(&mut self, error: &io::Error, cx: &mut Context<S>, limits: &Limits) {
        let (socket, pause) = self.ear.take_down(cx.now, limits.reopen_pause_max);
        if let Some(socket) = socket {
            cx.sys.unlisten(socket);
        }
        self.pending = false;
        cx.metrics.listeners[self.metrics].went_down();
        log::error!("{self}: {error}; it is down, and opened again in {pause:?}");
    }

    fn open_again(
        &mut self,
        index: usize,
        client_first: bool,
        cx: &mut Context<S>,
        limits: &Limits,
    ) {
        let token = Token::Listener(index as u32).pack();
        let (bound, backlog) = (&self.bound, limits.backlog);
        match cx.sys.listen(bound, backlog, client_first, token) {
            Ok((socket, _)) => {
                self.ear.open(socket, cx.now);
                cx.metrics.listeners[self.metrics].is_down = false;
                log::warn!("{self}: it listens again");
            }
            Err(error) => {
                let (_, pause) = self.ear.take_down(cx.now, limits.reopen_pause_max);
                log::error!("{self}: {error}; it stays down for {pause:?}");
            }
        }
    }

    fn close(&mut self, sys: &mut S) {
        self.pending = false;
        if let Some(socket) = self.ear.close() {
            sys.unlisten(socket);
        }
    }
}

impl<S: Sys> fmt::Display for Socket<S> {
    /// As the log names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.bound)
    }
}
