//! Listening sockets: opened, replaced and closed by the address that they got, and accepted from in turn.
//!
//! ```text
//! accept ─┬─ a connection ──────────────▶ TLS, if it has some ──▶ Accepted
//!         ├─ nothing waits (EAGAIN) ────▶ until the next edge
//!         ├─ no descriptors ────────────▶ shed: the connection is closed unserved, or a pause
//!         ├─ no memory ─────────────────▶ a pause: no edge will tell again of what waits
//!         └─ anything else ─────────────▶ the next one; again and again: down (see `ear`)
//! ```
//!
//! A listener that was closed keeps its place until its last session has ended, for its counters.
//!
//! Not here: sessions and the services that they are given to (`reactor`).

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use rustls::server::ResolvesServerCert;
use slab::Slab;

use super::ear::Ear;
use super::session::Context;
use super::tls::{Tls, TlsOptions};
use super::token::{self, Token};
use crate::limits::Limits;
use crate::metrics::Of;
use crate::service::Peer;
use crate::sys::{Bind, PlantedBug, Sys};

/// Errors of `accept(2)` that mean "no descriptors left" (`EMFILE` of the process, `ENFILE` of the system).
const OUT_OF_DESCRIPTORS: [i32; 2] = [libc::EMFILE, libc::ENFILE];

/// Those that mean "no memory": the connection stays in the queue, and no edge will tell of it again.
const OUT_OF_MEMORY: [i32; 2] = [libc::ENOBUFS, libc::ENOMEM];

/// How long a listener leaves its queue alone after a failure that the next attempt would only repeat.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// How often the log tells of what happens to many connections.
const TOLD_EVERY: Duration = Duration::from_secs(1);

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
    /// For a listener that speaks TLS.
    pub tls: Option<TlsOptions>,
}

/// All listeners.
pub(super) struct Listeners<S: Sys> {
    all: Slab<Listener<S>>,
    /// Which of them accepts first: the one behind the last that did.
    first: usize,
}

/// A connection that was accepted.
pub(super) struct Accepted<S: Sys> {
    pub(super) stream: S::Stream,
    pub(super) peer: Peer,
    pub(super) tls: Option<Box<Tls>>,
    /// The place of its listener.
    pub(super) listener: usize,
    /// Who serves it.
    pub(super) host: usize,
    /// The place of its listener in the metrics.
    pub(super) metrics: usize,
    /// Its first bytes are there already, as likely as not.
    pub(super) client_first: bool,
}

/// One listener.
pub(super) struct Listener<S: Sys> {
    ear: Ear<S::Listener>,
    /// Its address, by which it is found: no two that listen have the same.
    bound: Bind,
    /// Who serves the next connections.
    host: usize,
    options: ListenerOptions,
    /// See [`crate::service::Service::CLIENT_FIRST`].
    client_first: bool,
    /// An edge was told and the queue of connections not yet empty.
    pending: bool,
    /// When it may accept again, after the system had no means for it.
    paused_until: Option<Instant>,
    /// Connections that were closed unserved.
    shed: Untold,
    /// Times that the system had no memory for one.
    out_of_memory: Untold,
    active: usize,
    /// Its place in the metrics.
    metrics: usize,
}

impl<S: Sys> Listeners<S> {
    /// None.
    pub(super) fn new() -> Self {
        Self {
            all: Slab::new(),
            first: 0,
        }
    }

    /// Listens on `bind`; the address that it got. `host` is told the place of its counters, and tells who serves.
    ///
    /// # Errors
    /// Those of `bind(2)` and `listen(2)`.
    pub(super) fn open(
        &mut self,
        bind: &Bind,
        backlog: i32,
        (client_first, counts): (bool, Of),
        options: ListenerOptions,
        cx: &mut Context<S>,
        host: impl FnOnce(usize) -> usize,
    ) -> io::Result<Bind> {
        let token = Token::Listener(self.all.vacant_key() as u32).pack();
        let (socket, bound) = cx.sys.listen(bind, backlog, client_first, token)?;
        let metrics = cx
            .metrics
            .enter(&options.name, options.kind, bound.to_string(), counts);
        self.all.insert(Listener {
            ear: Ear::new(socket, cx.sys.now()),
            host: host(metrics),
            metrics,
            bound: bound.clone(),
            options,
            client_first,
            pending: false,
            paused_until: None,
            shed: Untold::default(),
            out_of_memory: Untold::default(),
            active: 0,
        });
        Ok(bound)
    }

    /// Lets another host serve the next connections; who served them before.
    ///
    /// # Panics
    /// If nothing listens at `bound`.
    pub(super) fn replace(
        &mut self,
        bound: &Bind,
        options: ListenerOptions,
        host: impl FnOnce(usize) -> usize,
    ) -> usize {
        let index = self.find(bound);
        let listener = &mut self.all[index];
        listener.options = options;
        let host = host(listener.metrics);
        std::mem::replace(&mut listener.host, host)
    }

    /// Other certificates for the next connections, if TLS is spoken there. Sessions of before can
    /// be resumed.
    ///
    /// # Panics
    /// If nothing listens at `bound`.
    pub(super) fn set_certificates(&mut self, bound: &Bind, which: Arc<dyn ResolvesServerCert>) {
        let index = self.find(bound);
        if let Some(tls) = &mut self.all[index].options.tls {
            let mut config = ServerConfig::clone(&tls.config);
            config.cert_resolver = which;
            tls.config = Arc::new(config);
        }
    }

    /// Stops listening; who served it.
    ///
    /// # Panics
    /// If nothing listens at `bound`.
    pub(super) fn close(&mut self, bound: &Bind, cx: &mut Context<S>) -> usize {
        let index = self.find(bound);
        self.all[index].close(&mut cx.sys);
        let host = self.all[index].host;
        self.forget(index, cx);
        host
    }

    fn find(&self, bound: &Bind) -> usize {
        let is_it = |l: &Listener<S>| !l.ear.is_closed() && l.bound == *bound;
        let found = self.all.iter().find(|(_, l)| is_it(l));
        // Invariant: the address is one that `open` gave and that was not given back since.
        found.expect("a listener").0
    }

    /// Frees the place of a listener that is closed and has no sessions left, unless the process ends: then its counters
    /// are still asked for.
    fn forget(&mut self, index: usize, cx: &mut Context<S>) {
        let listener = &self.all[index];
        if listener.ear.is_closed() && listener.active == 0 && !cx.draining {
            let listener = self.all.remove(index);
            cx.metrics.leave(listener.metrics);
        }
    }

    /// A session of a listener ended.
    pub(super) fn session_ended(&mut self, index: usize, cx: &mut Context<S>) {
        self.all[index].active -= 1;
        self.forget(index, cx);
    }

    /// A listener, as the log names it.
    pub(super) fn name(&self, index: usize) -> &impl fmt::Display {
        &self.all[index]
    }

    /// An event; one for a listener that is gone finds nobody, or another one, which looks for nothing.
    pub(super) fn ready(&mut self, index: usize) {
        if let Some(listener) = self.all.get_mut(index) {
            listener.pending = listener.ear.socket().is_some();
        }
    }

    /// The places of all, in the order in which they accept in this turn. Some may be empty.
    pub(super) fn order(&self) -> impl Iterator<Item = usize> + Clone + use<S> {
        let (places, first) = (self.all.capacity(), self.first);
        (0..places).map(move |i| (first + i) % places)
    }

    /// Whether a listener may accept now: a connection may wait, and there is a place for it.
    pub(super) fn may_accept(
        &self,
        index: usize,
        sessions: usize,
        limits: &Limits,
        now: Instant,
    ) -> bool {
        self.all.get(index).is_some_and(|listener| {
            listener.may_accept(sessions, limits)
                && listener.paused_until.is_none_or(|until| until <= now)
        })
    }

    /// The next connection of a listener, or none this time.
    pub(super) fn accept(
        &mut self,
        index: usize,
        cx: &mut Context<S>,
        limits: &Limits,
    ) -> Option<Accepted<S>> {
        let listener = &mut self.all[index];
        listener.paused_until = None;
        let (stream, peer) = match cx.sys.accept(listener.ear.socket()?) {
            Ok(accepted) => accepted,
            Err(error) => {
                listener.refused(&error, cx, limits);
                return None;
            }
        };
        listener.ear.worked();
        let tls = match listener.options.tls.as_ref().map(Tls::accept).transpose() {
            Ok(tls) => tls,
            Err(error) => {
                log::error!("{listener}: tls: {error}");
                cx.sys.close(stream);
                return None;
            }
        };
        listener.active += 1;
        cx.metrics.listeners[listener.metrics].accepted();
        if !listener.options.serves_while_draining {
            self.first = index + 1; // those have places of their own
        }
        Some(Accepted {
            stream,
            peer,
            tls,
            listener: index,
            host: listener.host,
            metrics: listener.metrics,
            client_first: listener.client_first,
        })
    }

    /// Whether one may accept at once.
    pub(super) fn are_pending(&self, sessions: usize, limits: &Limits) -> bool {
        let mut all = self.all.iter();
        all.any(|(_, l)| l.paused_until.is_none() && l.may_accept(sessions, limits))
    }

    /// When the next one may accept again, or is to be opened again.
    pub(super) fn next(&self, sessions: usize, limits: &Limits) -> Option<Instant> {
        let all = self.all.iter().map(|(_, listener)| listener);
        let next = |listener: &Listener<S>| match listener.paused_until {
            Some(until) if listener.may_accept(sessions, limits) => Some(until),
            _ => listener.ear.down_until(),
        };
        all.filter_map(next).min()
    }

    /// Opens those again that were taken down, once their pause is over.
    pub(super) fn open_again(&mut self, cx: &mut Context<S>, limits: &Limits) {
        for (index, listener) in &mut self.all {
            if listener.ear.is_due(cx.now) {
                listener.open_again(index, cx, limits);
            }
        }
    }

    /// Stops accepting, but for those that serve while the process drains.
    pub(super) fn drain(&mut self, sys: &mut S) {
        for (_, listener) in &mut self.all {
            if !listener.options.serves_while_draining
                && !sys.planted(PlantedBug::DrainForgetsListener)
            {
                listener.close(sys);
            }
        }
    }

    /// Whether no session is left that the process waits for while it drains.
    pub(super) fn are_drained(&self) -> bool {
        let stays = |l: &Listener<S>| l.options.serves_while_draining || l.active == 0;
        self.all.iter().all(|(_, listener)| stays(listener))
    }

    /// Closes all: the process ends.
    pub(super) fn close_all(&mut self, sys: &mut S) {
        for (_, listener) in &mut self.all {
            listener.close(sys);
        }
    }

    /// Sockets that are open.
    pub(super) fn sockets(&self) -> usize {
        let open = self.all.iter().filter(|(_, l)| l.ear.socket().is_some());
        open.count()
    }
}

impl<S: Sys> Listener<S> {
    fn may_accept(&self, sessions: usize, limits: &Limits) -> bool {
        let reserved = match self.options.serves_while_draining {
            true => limits.sessions_reserved,
            false => 0,
        };
        // At a limit the connections wait in the kernel's queue; one that ends makes room.
        self.pending
            && sessions < (limits.sessions_max + reserved).min(token::SESSIONS_MAX)
            && self.active < self.options.connections_max
    }

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
            // The client gave up meanwhile (ECONNABORTED), or its network failed: the next one may be fine.
            log::debug!("{self}: accept: {error}");
            if self.ear.failed() {
                self.take_down(error, cx, limits);
            }
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

    fn open_again(&mut self, index: usize, cx: &mut Context<S>, limits: &Limits) {
        let token = Token::Listener(index as u32).pack();
        let (bound, backlog) = (&self.bound, limits.backlog);
        match cx.sys.listen(bound, backlog, self.client_first, token) {
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

impl<S: Sys> fmt::Display for Listener<S> {
    /// As the log names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.options.name, self.bound)
    }
}

/// What the log does not tell of yet.
#[derive(Default)]
struct Untold {
    count: u64,
    told_at: Option<Instant>,
}

impl Untold {
    /// Counts one. How many the log is to tell of now: it tells at most once in [`TOLD_EVERY`], or a flood of connections
    /// would be one of lines.
    fn count(&mut self, now: Instant) -> Option<u64> {
        self.count += 1;
        if self.told_at.is_some_and(|at| now < at + TOLD_EVERY) {
            return None;
        }
        self.told_at = Some(now);
        Some(std::mem::take(&mut self.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_tells_once_a_second_of_all_connections_that_were_closed_unserved() {
        let (mut shed, start) = (Untold::default(), Instant::now());
        let told: Vec<u64> = (0..3000)
            .filter_map(|ms| shed.count(start + Duration::from_millis(ms)))
            .collect();
        assert_eq!(told, [1, 1000, 1000]);
    }
}
