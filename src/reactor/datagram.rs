//! A datagram socket with its service: batches in, batches out, and a limit for each source.
//!
//! Two services that answer each datagram answer each other without end, once somebody sent one of
//! them a datagram that bears the other's address (CERT advisory CA-1996-01). So who answers drops
//! what comes from where services stand: from ports below [`DatagramOptions::source_port_min`], and
//! from the ports of this process's answering sockets. Whatever address such a datagram bears: a
//! socket bound to the unspecified address has them all, and another machine's server of this kind
//! has the same port.
//!
//! Before that it drops what comes from addresses that may not come, and what an address sends
//! beyond its rate: see [`crate::gate`].
//!
//! What the kernel received as a run (see [`crate::sys::Received`]) is many datagrams: each is
//! admitted, counted and served by itself. So every datagram is accounted for: received (and what is
//! answered twice on purpose once more) = sent + dropped by cause + waiting, or taken in by a
//! service that does not answer. What the kernel dropped before, for want of room in the buffer of
//! the socket, is counted apart: it is asked for now and then while something comes, and once after
//! that ([`DROPS_READ_AFTER`]).
//!
//! How many are received in one turn follows what comes. Who got a full batch asks again; who got a
//! good part of one may ask again as well, instead of waiting for the poll to tell: whether that
//! pays is learnt ([`Eagerness`]), since it costs a call where nothing more came.
//!
//! All sockets together do as much in one turn as one session may. A batch whose datagrams are long
//! to answer may be more than that: its rest is served at the beginning of the next turn.
//!
//! A long file, since all that a datagram passes between the kernel and its service stands in it.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use slab::Slab;

use super::context::Context;
use super::eagerness::Eagerness;
use super::ear::Ear;
use super::token::Token;
use super::untold::Untold;
use crate::gate::{Access, Rates, is_loopback};
use crate::hooks::Hooks;
use crate::inside::ring::{LOOP, What};
use crate::limits::Limits;
use crate::metrics::{Became, Cause, ListenerMetrics, Metrics, Of};
use crate::service::datagram::{DatagramIo, DatagramService, KnownSenders, Outbox};
use crate::service::work::{self, Work};
use crate::sys::{Batch, DatagramTuning, Received, Sys, Unsent};

/// How often the kernel is asked what it dropped, and when after something was received.
const DROPS_READ_AFTER: Duration = Duration::from_millis(100);
/// A batch of so many is a good part of one.
const GOOD_BATCH: usize = 8;

/// What tells one datagram socket from another.
#[derive(Debug)]
pub struct DatagramOptions {
    /// Its name in logs and metrics.
    pub name: String,
    /// Its kind, as in the configuration.
    pub kind: &'static str,
    /// Which source addresses may come.
    pub access: Access,
    /// Datagrams a second from one source address; `None` for no limit.
    pub source_rate_max: Option<NonZeroU32>,
    /// The lowest source port that it answers; `None` if it never answers.
    pub source_port_min: Option<u16>,
    /// What its socket is to be like.
    pub tuning: DatagramTuning,
}

/// All datagram sockets, found by the address that they got.
pub(super) struct Datagrams<S: Sys> {
    all: Slab<DatagramSocket<S>>,
    /// The ports of those that answer.
    answering_ports: Vec<u16>,
    tray: Tray,
    /// Whose datagrams are left in the tray.
    left_of: Option<usize>,
    /// The place of the socket that is served first in the next turn.
    first: usize,
}

/// One batch: what was received and is not served yet, and what is to be sent. Kept between turns,
/// mostly for its memory.
struct Tray {
    batch: Batch,
    /// What is not served yet.
    next: Cursor,
    /// The turn in which it was received.
    received_at: Option<Instant>,
    outbox: Outbox,
    /// What was sent last.
    left: Option<Left>,
}

/// Answers that were sent.
struct Left {
    datagrams: usize,
    bytes: usize,
    unsent: usize,
}

/// The next datagram of a batch: its slot, and its number in it.
#[derive(Clone, Copy, Default)]
struct Cursor {
    slot: usize,
    number: usize,
}

/// A datagram socket and what serves it.
struct DatagramSocket<S: Sys> {
    ear: Ear<S::Datagram>,
    /// Its address, by which it is found.
    bound: SocketAddr,
    service: Box<dyn DatagramService>,
    /// Its place in the metrics.
    metrics: usize,
    /// An edge was told and the socket not yet drained.
    pending: bool,
    /// The lowest source port that is answered; `None` for a service that never answers.
    source_port_min: Option<u16>,
    access: Access,
    /// Datagrams a second of each source address.
    sources: Rates<IpAddr>,
    /// Those that were dropped for each.
    denied: Untold,
    beyond_rate: Untold,
    tuning: DatagramTuning,
    eagerness: Eagerness,
    kernel_drops: KernelDrops,
}

/// What the kernel dropped.
#[derive(Default)]
struct KernelDrops {
    /// As it told when it was asked last; it begins again with each socket.
    told: u32,
    asked_at: Option<Instant>,
    /// When it is asked again, if nothing comes until then.
    due: Option<Instant>,
    untold: Untold,
}

impl Tray {
    fn new() -> Self {
        Self {
            batch: Batch::new(),
            next: Cursor::default(),
            received_at: None,
            outbox: Outbox::default(),
            left: None,
        }
    }

    /// Whether something is not served yet.
    fn has_rest(&self) -> bool {
        self.next.slot < self.batch.len()
    }

    fn clear(&mut self) {
        self.batch.clear();
        self.next = Cursor::default();
    }
}

impl<S: Sys> Datagrams<S> {
    /// None.
    pub(super) fn new() -> Self {
        Self {
            all: Slab::new(),
            answering_ports: Vec::new(),
            tray: Tray::new(),
            left_of: None,
            first: 0,
        }
    }

    /// Binds a socket; the address that it got.
    ///
    /// # Errors
    /// Those of `bind(2)`.
    pub(super) fn open(
        &mut self,
        bind: SocketAddr,
        options: &DatagramOptions,
        (service, counts): (Box<dyn DatagramService>, Of),
        cx: &mut Context<S>,
        limits: &Limits,
    ) -> io::Result<SocketAddr> {
        let token = Token::Datagram(self.all.vacant_key() as u32).pack();
        let (socket, bound) = cx.sys.bind_datagram(bind, token)?;
        let address = bound.to_string();
        let key = self.all.insert(DatagramSocket {
            ear: Ear::new(socket, cx.sys.now()),
            bound,
            service,
            metrics: cx
                .metrics
                .enter(&options.name, options.kind, address, counts),
            pending: false,
            source_port_min: options.source_port_min,
            access: options.access.clone(),
            sources: Rates::new(options.source_rate_max, None, limits.rate_sources_max),
            denied: Untold::default(),
            beyond_rate: Untold::default(),
            tuning: options.tuning,
            eagerness: Eagerness::default(),
            kernel_drops: KernelDrops::default(),
        });
        let datagram = &self.all[key];
        datagram.tune(&mut cx.sys, &cx.metrics.listeners[datagram.metrics]);
        self.list_answering_ports();
        Ok(bound)
    }

    /// Lets another service serve a socket.
    ///
    /// # Panics
    /// If none is bound there.
    pub(super) fn replace(
        &mut self,
        bound: SocketAddr,
        options: &DatagramOptions,
        service: Box<dyn DatagramService>,
        cx: &mut Context<S>,
        limits: &Limits,
    ) {
        let key = self.find(bound);
        let datagram = &mut self.all[key];
        let metrics = &mut cx.metrics.listeners[datagram.metrics];
        metrics.dropped(Cause::Unsent, datagram.service.waiting());
        metrics.wait(0);
        datagram.service = service;
        metrics.replaced();
        if datagram.tuning != options.tuning {
            datagram.tuning = options.tuning;
            datagram.tune(&mut cx.sys, metrics);
        }
        datagram.source_port_min = options.source_port_min;
        datagram.access = options.access.clone();
        datagram.sources = Rates::new(options.source_rate_max, None, limits.rate_sources_max);
        self.list_answering_ports();
    }

    /// Closes a socket.
    ///
    /// # Panics
    /// If none is bound there.
    pub(super) fn close(&mut self, bound: SocketAddr, cx: &mut Context<S>) {
        let key = self.find(bound);
        let mut datagram = self.all.remove(key);
        if self.left_of.take_if(|of| *of == key).is_some() {
            self.tray.clear();
        }
        datagram.close(&mut cx.sys);
        cx.metrics.leave(datagram.metrics);
        self.list_answering_ports();
    }

    fn find(&self, bound: SocketAddr) -> usize {
        let found = self.all.iter().find(|(_, d)| d.bound == bound);
        // Invariant: the address is one that `open` gave and that was not given back since.
        found.expect("a datagram socket").0
    }

    fn list_answering_ports(&mut self) {
        let answering = self.all.iter().map(|(_, datagram)| datagram);
        let answering = answering.filter(|datagram| datagram.source_port_min.is_some());
        self.answering_ports = answering.map(|datagram| datagram.bound.port()).collect();
    }

    /// An event; one for a socket that is gone finds nobody, or another one, which looks for
    /// nothing.
    pub(super) fn ready(&mut self, key: usize) {
        if let Some(datagram) = self.all.get_mut(key) {
            datagram.pending = datagram.ear.socket().is_some();
        }
    }

    /// Opens those again that were taken down, serves what has arrived, as far as this turn allows,
    /// and lets services act on their deadlines.
    pub(super) fn serve(&mut self, cx: &mut Context<S>, limits: &Limits) {
        let (tray, ports, now) = (&mut self.tray, &self.answering_ports, cx.now);
        // Those that are due have a share of their own, or a flood would leave them none.
        let mut timed = Work::new(limits.turn_work);
        if let Some(key) = self.left_of.take() {
            self.all[key].serve_batch(tray, ports, cx);
            self.left_of = tray.has_rest().then_some(key);
        }
        let (places, first) = (self.all.capacity(), self.first);
        for key in (0..places).map(|i| (first + i) % places) {
            let Some(datagram) = self.all.get_mut(key) else {
                continue;
            };
            let at = datagram.metrics;
            if datagram.ear.is_due(now) {
                let metrics = &mut cx.metrics.listeners[at];
                datagram.open_again(key, &mut cx.sys, metrics, now, limits);
            }
            for _ in 0..limits.datagram_batches_max {
                if !datagram.pending || cx.work.is_spent() {
                    break;
                }
                if let Err(error) = datagram.receive(&mut cx.sys, tray, now) {
                    let metrics = &mut cx.metrics.listeners[at];
                    datagram.take_down(&error, &mut cx.sys, metrics, now, limits);
                }
                datagram.serve_batch(tray, ports, cx);
                if cx.work.is_spent() {
                    self.left_of = tray.has_rest().then_some(key);
                    self.first = key + 1; // the others come before it the next time
                }
            }
            let (sys, metrics) = (&mut cx.sys, &mut cx.metrics.listeners[at]);
            if datagram.kernel_drops.is_due(now) {
                datagram.count_kernel_drops(sys, metrics, now);
            }
            let deadline = datagram.service.deadline();
            if deadline.is_some_and(|deadline| deadline <= now) {
                datagram.advance(sys, tray, metrics, &mut timed, now);
                run(tray, &mut cx.hooks, (datagram.metrics, metrics), now);
                let left = tray.left.take();
                datagram.note_left(left, cx);
            }
        }
    }

    /// Whether one may have something to receive.
    pub(super) fn are_pending(&self) -> bool {
        self.left_of.is_some() || self.all.iter().any(|(_, datagram)| datagram.pending)
    }

    /// When the next service has something to do, or the next socket is to be opened again.
    pub(super) fn next(&self) -> Option<Instant> {
        let moments =
            |d: &DatagramSocket<S>| [d.service.deadline(), d.ear.down_until(), d.kernel_drops.due];
        let all = self.all.iter().flat_map(|(_, datagram)| moments(datagram));
        all.flatten().min()
    }

    /// Closes all: the process ends.
    pub(super) fn close_all(&mut self, sys: &mut S) {
        for mut datagram in self.all.drain() {
            datagram.close(sys);
        }
        self.left_of = None;
        self.tray.clear();
    }

    /// What each service that knows senders tells of at most `most` of them.
    pub(super) fn senders(
        &self,
        metrics: &Metrics,
        now: Instant,
        most: usize,
    ) -> Vec<KnownSenders> {
        let table = |datagram: &DatagramSocket<S>| {
            let listener = &metrics.listeners[datagram.metrics];
            Some(KnownSenders {
                listener: listener.name.to_string(),
                address: listener.address.clone(),
                senders: datagram.service.senders(now, most)?,
            })
        };
        let all = self.all.iter().map(|(_, datagram)| datagram);
        all.filter_map(table).collect()
    }

    /// Sockets that are open.
    pub(super) fn sockets(&self) -> usize {
        let open = self.all.iter().filter(|(_, d)| d.ear.socket().is_some());
        open.count()
    }
}

/// The address and port of a source, as the ring has them: IPv4, mapped ones too.
fn ipv4(from: SocketAddr) -> (u32, u16) {
    let ip = match from.ip().to_canonical() {
        IpAddr::V4(ip) => ip.to_bits(),
        IpAddr::V6(_) => 0,
    };
    (ip, from.port())
}

/// Asks for the commands that a service wants run.
fn run(
    tray: &mut Tray,
    hooks: &mut Hooks,
    (listener, metrics): (usize, &ListenerMetrics),
    now: Instant,
) {
    for call in tray.outbox.calls.drain(..) {
        hooks.ask(listener, &metrics.name, call, now);
    }
}

impl<S: Sys> DatagramSocket<S> {
    /// Gives the socket what it is to have, and says where the kernel gives less.
    fn tune(&self, sys: &mut S, metrics: &ListenerMetrics) {
        let Some(socket) = self.ear.socket() else {
            return;
        };
        let asked = &self.tuning;
        sys.tune_datagram(socket, asked);
        let Some(given) = sys.datagram_memory(socket) else {
            return;
        };
        let less = |key, asked, given, limit| {
            if given < asked {
                log::info!(
                    "{metrics}: {key} is {asked}, and the kernel gives {given} ({limit} is its limit)"
                );
            }
        };
        let (asked_recv, asked_send) = (asked.recv_buffer_bytes, asked.send_buffer_bytes);
        let (recv, send) = (given.recv_buffer_bytes, given.send_buffer_bytes);
        less("recv_buffer_bytes", asked_recv, recv, "net.core.rmem_max");
        less("send_buffer_bytes", asked_send, send, "net.core.wmem_max");
    }

    /// Asks the kernel what it dropped since it was asked last.
    fn count_kernel_drops(&mut self, sys: &S, metrics: &mut ListenerMetrics, now: Instant) {
        self.kernel_drops.due = None;
        self.kernel_drops.asked_at = Some(now);
        let Some(memory) = self.ear.socket().and_then(|s| sys.datagram_memory(s)) else {
            return;
        };
        let dropped = self.kernel_drops.take(memory.drops);
        if dropped == 0 {
            return;
        }
        metrics.dropped_by_kernel(dropped);
        if let Some(count) = self.kernel_drops.untold.add(dropped.into(), now) {
            log::warn!("{metrics}: the kernel dropped {count} datagrams: its buffer was full");
        }
    }

    /// Closes the socket, which goes on failing, for a while.
    fn take_down(
        &mut self,
        error: &io::Error,
        sys: &mut S,
        metrics: &mut ListenerMetrics,
        now: Instant,
        limits: &Limits,
    ) {
        self.count_kernel_drops(sys, metrics, now);
        self.kernel_drops.told = 0;
        let (socket, pause) = self.ear.take_down(now, limits.reopen_pause_max);
        if let Some(socket) = socket {
            sys.close_datagram(socket);
        }
        self.pending = false;
        metrics.went_down();
        log::error!("{metrics}: {error}; it is down, and opened again in {pause:?}");
    }

    fn open_again(
        &mut self,
        key: usize,
        sys: &mut S,
        metrics: &mut ListenerMetrics,
        now: Instant,
        limits: &Limits,
    ) {
        let token = Token::Datagram(key as u32).pack();
        match sys.bind_datagram(self.bound, token) {
            Ok((socket, _)) => {
                self.ear.open(socket, now);
                self.tune(sys, metrics);
                metrics.is_down = false;
                log::warn!("{metrics}: it receives again");
            }
            Err(error) => {
                let (_, pause) = self.ear.take_down(now, limits.reopen_pause_max);
                log::error!("{metrics}: {error}; it stays down for {pause:?}");
            }
        }
    }

    fn close(&mut self, sys: &mut S) {
        if let Some(socket) = self.ear.close() {
            sys.close_datagram(socket);
        }
    }

    /// Receives a batch of what has arrived. More may be there while it is pending.
    ///
    /// # Errors
    /// Receiving fails again and again: the socket is broken.
    fn receive(&mut self, sys: &mut S, tray: &mut Tray, now: Instant) -> io::Result<()> {
        debug_assert!(!tray.has_rest(), "the batch before is served");
        tray.clear();
        let Some(socket) = self.ear.socket() else {
            return Ok(());
        };
        let received = match sys.recv_batch(socket, &mut tray.batch) {
            Ok(received) => received,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                self.ear.worked();
                self.eagerness.learn(false);
                self.pending = false;
                return Ok(());
            }
            // An administrator closed it (`ss --kill`). That is told once; a socket whose port the
            // kernel chose has none from then on.
            Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => return Err(error),
            // Linux tells a socket without a peer of no ICMP error. What else fails once may
            // concern one datagram.
            Err(error) if self.ear.failed() => return Err(error),
            Err(_) => return Ok(()),
        };
        self.ear.worked();
        tray.received_at = Some(now);
        self.kernel_drops.due = Some(now + DROPS_READ_AFTER);
        self.eagerness.learn(true);
        // Fewer than asked for: the socket is drained, the next datagram is a new edge.
        let is_full = received == Batch::SLOTS;
        self.pending = is_full || (received >= GOOD_BATCH && self.eagerness.asks_again());
        Ok(())
    }

    /// Serves what was received, as far as this turn allows, and has run what it asked for.
    fn serve_batch(&mut self, tray: &mut Tray, answering_ports: &[u16], cx: &mut Context<S>) {
        let dropped = self.note_batch(tray, cx);
        let (now, metrics) = (cx.now, &mut cx.metrics.listeners[self.metrics]);
        let work = &mut cx.work;
        let sent = self.answer(&mut cx.sys, tray, answering_ports, metrics, work, now);
        let left = tray.left.take();
        run(tray, &mut cx.hooks, (self.metrics, metrics), now);
        if sent > 0 {
            let (began, sent) = (tray.received_at.unwrap_or(now), sent as u32);
            cx.metrics
                .answered(self.metrics, Became::Answered, began, sent);
        }
        if let Some(dropped) = dropped {
            self.note_dropped(&dropped, cx);
        }
        self.note_left(left, cx);
    }

    /// Writes what a batch brought, if anybody looks: then what was dropped before it.
    fn note_batch(&self, tray: &Tray, cx: &mut Context<S>) -> Option<[u64; Cause::ALL.len()]> {
        if !cx.inside.ring.wants(LOOP) || tray.next.slot + tray.next.number > 0 {
            return None; // what is left of a batch was written before
        }
        let now = cx.moment(LOOP);
        let ring = &mut cx.inside.ring;
        let listener = self.metrics as u16;
        let messages = || (0..).map_while(|slot| tray.batch.message(slot));
        let datagrams = messages().map(|message| message.datagrams() as u32).sum();
        if datagrams == 0 {
            return None;
        }
        let length = |message: &Received, number| message.datagram(number).len() as u32;
        let lengths = |message: Received| -> u32 {
            let all = 0..message.datagrams();
            all.map(|number| length(&message, number)).sum()
        };
        let bytes = messages().map(lengths).sum();
        let received = What::Received {
            listener,
            datagrams,
            bytes,
        };
        ring.push(now, LOOP, received);
        for message in messages() {
            let (ip, port) = ipv4(message.from);
            for number in 0..message.datagrams() {
                let bytes = length(&message, number);
                let datagram = What::Datagram {
                    listener,
                    port,
                    ip,
                    bytes,
                };
                ring.push(now, LOOP, datagram);
            }
        }
        let counts = cx.metrics.listeners[self.metrics].of.datagrams();
        counts.map(|counts| counts.dropped)
    }

    /// Writes for what causes more was dropped than before.
    fn note_dropped(&self, before: &[u64; Cause::ALL.len()], cx: &mut Context<S>) {
        let counts = cx.metrics.listeners[self.metrics].of.datagrams();
        let dropped = counts.map_or(*before, |counts| counts.dropped);
        for (cause, (before, after)) in Cause::ALL.iter().zip(before.iter().zip(dropped)) {
            if after > *before {
                let cause = cx.inside.ring.number(cause.name());
                cx.note_loop(|| What::Dropped(cause));
            }
        }
    }

    /// Writes what answers left.
    fn note_left(&self, left: Option<Left>, cx: &mut Context<S>) {
        if let Some(left) = left {
            let listener = self.metrics as u16;
            cx.note_loop(|| What::Replied {
                listener,
                unsent: left.unsent as u16,
                datagrams: left.datagrams as u32,
                bytes: left.bytes as u32,
            });
        }
    }

    /// Serves what was received, as far as `work` allows. How many answers left.
    fn answer(
        &mut self,
        sys: &mut S,
        tray: &mut Tray,
        answering_ports: &[u16],
        metrics: &mut ListenerMetrics,
        work: &mut Work,
        now: Instant,
    ) -> usize {
        let wall = sys.wall();
        let (mut datagrams, mut bytes) = (0, 0);
        while !work.is_spent()
            && let Some(message) = tray.batch.message(tray.next.slot)
        {
            let bar = self.bar(&message, answering_ports);
            let (first, count) = (tray.next.number, message.datagrams());
            let mut number = first;
            while number < count && (number == first || !work.is_spent()) {
                work.charge(match number {
                    0 => work::DATAGRAM_NS,
                    _ => work::RUN_DATAGRAM_NS,
                });
                let range = message.datagram(number);
                number += 1;
                datagrams += 1;
                bytes += range.len();
                let is_cut = message.is_cut && number == count;
                if !self.admits(message.from, bar, is_cut, metrics, now) {
                    continue;
                }
                let (offset, payload) = tray.batch.part_mut(tray.next.slot, range);
                self.service.receive(&mut DatagramIo {
                    now,
                    wall,
                    from: message.from,
                    payload,
                    out: &mut tray.outbox,
                    metrics,
                    work,
                    offset,
                });
            }
            tray.next = match number < count {
                true => Cursor {
                    number,
                    ..tray.next
                },
                false => Cursor {
                    slot: tray.next.slot + 1,
                    number: 0,
                },
            };
        }
        metrics.received(datagrams, bytes);
        metrics.wait(self.service.waiting());
        self.send(sys, tray, metrics)
    }

    /// Why no datagram of this source is served, if so.
    fn bar(&self, message: &Received, answering_ports: &[u16]) -> Option<Cause> {
        let port = message.from.port();
        let is_loop = |min| port < min || answering_ports.contains(&port);
        if !self.access.admits(message.from.ip()) {
            return Some(Cause::Deny);
        }
        self.source_port_min
            .is_some_and(is_loop)
            .then_some(Cause::Loop)
    }

    /// Whether a datagram is served; what is not is counted, and logged at a rate.
    #[inline]
    fn admits(
        &mut self,
        from: SocketAddr,
        bar: Option<Cause>,
        is_cut: bool,
        metrics: &mut ListenerMetrics,
        now: Instant,
    ) -> bool {
        let ip = from.ip();
        let is_denied = bar == Some(Cause::Deny);
        let cause = match bar {
            _ if !is_denied && !is_loopback(ip) && self.sources.exceeded(ip, now) => Cause::Rate,
            Some(cause) => cause,
            None if is_cut => Cause::Truncated,
            None => return true,
        };
        metrics.dropped(cause, 1);
        let told = match cause {
            Cause::Deny => self.denied.count(now),
            Cause::Rate => self.beyond_rate.count(now),
            _ => None,
        };
        if let Some(count) = told {
            let cause = cause.name();
            log::info!("{metrics}: datagrams refused ({cause}): {count}, the last from {from}");
        }
        false
    }

    /// Lets the service act on its deadline.
    fn advance(
        &mut self,
        sys: &mut S,
        tray: &mut Tray,
        metrics: &mut ListenerMetrics,
        work: &mut Work,
        now: Instant,
    ) {
        self.service.advance(&mut tray.outbox, now, metrics, work);
        metrics.wait(self.service.waiting());
        self.send(sys, tray, metrics);
    }

    /// Sends the replies; without a socket they are dropped. How many left.
    fn send(&self, sys: &mut S, tray: &mut Tray, metrics: &mut ListenerMetrics) -> usize {
        let (batch, out) = (&tray.batch, &mut tray.outbox);
        if out.is_empty() {
            return 0;
        }
        let (replies, bytes) = out.sum();
        let socket = self.ear.socket();
        let unsent = socket.map_or(Unsent { replies, bytes }, |socket| {
            sys.send_batch(socket, batch, out)
        });
        metrics.dropped(Cause::Unsent, unsent.replies);
        metrics.sent(replies - unsent.replies, bytes - unsent.bytes);
        out.clear();
        tray.left = Some(Left {
            datagrams: replies - unsent.replies,
            bytes: bytes - unsent.bytes,
            unsent: unsent.replies,
        });
        replies - unsent.replies
    }
}

impl KernelDrops {
    /// Whether the kernel is to be asked: after something came, when that was long enough ago or it
    /// was not asked for long enough.
    fn is_due(&self, now: Instant) -> bool {
        let is_long_ago = |at: Instant| at + DROPS_READ_AFTER <= now;
        self.due
            .is_some_and(|due| due <= now || self.asked_at.is_none_or(is_long_ago))
    }

    /// What was dropped since the kernel told last, which now tells this.
    fn take(&mut self, told: u32) -> u32 {
        told.wrapping_sub(std::mem::replace(&mut self.told, told))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::UdpEchoConfig;
    use crate::services::udp_echo::UdpEcho;
    use crate::sys::unix::Unix;
    use std::net::Ipv4Addr;
    use std::time::Duration;

    const TUNING: DatagramTuning = DatagramTuning {
        recv_buffer_bytes: 1 << 20,
        send_buffer_bytes: 1 << 20,
        receive_runs: true,
    };

    /// A socket that echoes, a client that sent it some datagrams, and the client's address.
    struct Bench {
        sys: Unix,
        socket: DatagramSocket<Unix>,
        to: SocketAddr,
        from: SocketAddr,
        metrics: ListenerMetrics,
    }

    impl Bench {
        fn new(datagrams: usize) -> Self {
            let mut sys = Unix::new(false).expect("a poll");
            let free = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
            let (socket, to) = sys.bind_datagram(free, 0).expect("a socket");
            let (client, from) = sys.bind_datagram(free, 1).expect("a socket");
            let mut out = Outbox::default();
            for _ in 0..datagrams {
                out.send(to, b"x");
            }
            assert_eq!(sys.send_batch(&client, &Batch::new(), &out).replies, 0);
            let socket = DatagramSocket {
                bound: to,
                ear: Ear::new(socket, Instant::now()),
                service: Box::new(UdpEcho::new(&UdpEchoConfig::default())),
                metrics: 0,
                pending: true,
                source_port_min: Some(0),
                access: Access::default(),
                sources: Rates::new(None, None, 1),
                denied: Untold::default(),
                beyond_rate: Untold::default(),
                tuning: TUNING,
                eagerness: Eagerness::default(),
                kernel_drops: KernelDrops::default(),
            };
            Self {
                sys,
                socket,
                to,
                from,
                metrics: ListenerMetrics::new(
                    "echo",
                    "udp-echo",
                    to.to_string(),
                    UdpEcho::counts(),
                ),
            }
        }

        /// A batch; how many datagrams were answered so far and how many dropped for fear of a
        /// loop.
        fn batch(&mut self, answering_port: u16) -> (u64, u64) {
            let (ports, now) = ([self.to.port(), answering_port], Instant::now());
            let Self {
                sys,
                socket,
                metrics,
                ..
            } = self;
            let (mut tray, mut work) = (Tray::new(), Work::new(Duration::MAX));
            let received = socket.receive(sys, &mut tray, now);
            received.expect("a socket that works");
            socket.answer(sys, &mut tray, &ports, metrics, &mut work, now);
            let datagrams = metrics.of.datagrams().expect("it has datagrams");
            (datagrams.sent, datagrams.dropped[Cause::Loop as usize])
        }
    }

    #[test]
    fn a_socket_is_pending_until_a_batch_is_not_full() {
        let mut bench = Bench::new(2 * Batch::SLOTS + 1);
        let slots = Batch::SLOTS as u64;
        for (answered, pending) in [(slots, true), (2 * slots, true), (2 * slots + 1, false)] {
            assert_eq!(bench.batch(0), (answered, 0));
            assert_eq!(bench.socket.pending, pending);
        }
    }

    #[test]
    fn what_the_kernel_dropped_is_counted_across_the_end_of_its_counter() {
        let mut drops = KernelDrops::default();
        let told = [0, 5, 5, u32::MAX - 1, 3];
        let taken = told.map(|told| drops.take(told));
        assert_eq!(taken, [0, 5, 0, u32::MAX - 6, 5]);
    }

    #[test]
    fn a_batch_that_is_more_than_a_share_is_served_in_parts() {
        let mut bench = Bench::new(3);
        let (mut tray, now) = (Tray::new(), Instant::now());
        let Bench {
            sys,
            socket,
            metrics,
            ..
        } = &mut bench;
        socket
            .receive(sys, &mut tray, now)
            .expect("a socket that works");
        for answered in [2, 3] {
            let mut work = Work::new(Duration::from_nanos(2 * u64::from(work::DATAGRAM_NS)));
            socket.answer(sys, &mut tray, &[], metrics, &mut work, now);
            let datagrams = metrics.of.datagrams().expect("it has datagrams");
            assert_eq!((datagrams.received, datagrams.sent), (answered, answered));
        }
        assert!(!tray.has_rest());
    }

    #[test]
    fn who_may_answer_the_answer_gets_none() {
        let answered = |limits: fn(u16) -> (Option<u16>, u16)| {
            let mut bench = Bench::new(3);
            let (source_port_min, answering_port) = limits(bench.from.port());
            bench.socket.source_port_min = source_port_min;
            bench.batch(answering_port)
        };
        assert_eq!(answered(|port| (Some(port), 0)), (3, 0));
        assert_eq!(answered(|port| (Some(port + 1), 0)), (0, 3));
        assert_eq!(answered(|port| (Some(0), port)), (0, 3));
        // Who never answers has nothing to fear.
        assert_eq!(answered(|port| (None, port)), (3, 0));
    }
}
