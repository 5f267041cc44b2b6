//! What the process counts about itself: plain numbers, added to where things happen and read by the admin listener.
//!
//! One thread, so no atomics. Nothing here is labelled with an address, a name or a path that a client chose.

use std::fmt;

use slab::Slab;

use crate::ending::Phase;
use crate::wire::heartbeat::Counts;

/// All counters of a process.
#[derive(Debug, Default)]
pub struct Metrics {
    /// One for each listener that is open or has sessions left.
    pub listeners: Slab<ListenerMetrics>,
    /// Turns of the loop.
    pub turns: u64,
    /// Events that the kernel told.
    pub events: u64,
    /// Events for sessions that had ended.
    pub events_stale: u64,
    /// Sessions taken up by the run queue.
    pub pumps: u64,
    /// Reminders that came due.
    pub timers_fired: u64,
    /// Files that were uploaded whole.
    pub files_stored: u64,
    /// Their bytes.
    pub file_bytes_stored: u64,
    /// Lines of the access logs, dropped ones included.
    pub access_log_lines: u64,
    /// Lines of the access logs that were dropped because they could not be written.
    pub access_log_dropped: u64,
    /// Lines of the process's own log that were dropped because nobody read them; set before it is read.
    pub log_dropped: u64,
    /// Connections closed unserved for want of descriptors.
    pub accepts_shed: u64,
    /// Whether the process is about to end.
    pub draining: bool,
    /// Numbers that the reactor sets before they are read.
    pub gauges: Gauges,
}

/// The counters of a process, and which listener what is counted now belongs to.
pub struct Counted<'a> {
    all: &'a mut Metrics,
    listener: usize,
}

impl<'a> Counted<'a> {
    /// `listener`: its place in [`Metrics::listeners`].
    pub fn new(all: &'a mut Metrics, listener: usize) -> Self {
        Self { all, listener }
    }

    /// Everything that was counted.
    pub fn all(&self) -> &Metrics {
        self.all
    }

    /// A client or a request was refused at a limit.
    pub fn refused(&mut self, limit: Limit) {
        self.all.listeners[self.listener].refused[limit as usize] += 1;
    }

    /// A file of `bytes` was uploaded whole.
    pub fn stored(&mut self, bytes: u64) {
        self.all.files_stored += 1;
        self.all.file_bytes_stored += bytes;
    }

    /// The access log got a line, whether or not it can be written.
    pub fn log_line(&mut self) {
        self.all.access_log_lines += 1;
    }

    /// Lines of the access log could not be written.
    pub fn log_lines_dropped(&mut self, lines: u64) {
        self.all.access_log_dropped += lines;
    }
}

impl Metrics {
    /// Counters for a listener, until it leaves: those of one that is the same and has sessions left, or new ones. Their
    /// place.
    pub fn enter(&mut self, name: &str, kind: &'static str, address: String) -> usize {
        let is_it = |l: &ListenerMetrics| (&*l.name, l.kind, &l.address) == (name, kind, &address);
        let all = &mut self.listeners;
        let known = all.iter().find(|(_, l)| is_it(l)).map(|(key, _)| key);
        let key = known.unwrap_or_else(|| all.insert(ListenerMetrics::new(name, kind, address)));
        all[key].users += 1;
        key
    }

    /// The counters stay until one more leaves.
    pub fn stay(&mut self, key: usize) {
        self.listeners[key].users += 1;
    }

    /// A listener is gone, and its counters with it, unless another one counts there.
    pub fn leave(&mut self, key: usize) {
        self.listeners[key].users -= 1;
        if self.listeners[key].users == 0 {
            self.listeners.remove(key);
        }
    }
}

/// What is counted now rather than since the start.
#[derive(Debug, Default, Clone, Copy)]
pub struct Gauges {
    /// Sessions that are open.
    pub sessions: usize,
    /// Sessions that wait in the run queue.
    pub runnable: usize,
    /// Reminders in the timer wheel.
    pub timers: usize,
    /// Pages held by buffers.
    pub pages_held: usize,
    /// Their bytes.
    pub page_bytes_held: usize,
    /// Bytes of unused pages kept.
    pub page_bytes_kept: usize,
    /// Bytes in use above which send queues take little.
    pub page_bytes_max: usize,
    /// Sockets held by sessions, listeners and the resolver.
    pub sockets: usize,
}

/// The counters of one listener.
#[derive(Debug, Default, Clone)]
pub struct ListenerMetrics {
    /// Its name: the configuration's, or its kind.
    pub name: String,
    /// Its kind.
    pub kind: &'static str,
    /// Where it is bound.
    pub address: String,
    /// Listeners that count here: one that was closed and has sessions left, and one that was opened since.
    users: usize,
    /// Its socket failed, and it has no other one yet.
    pub is_down: bool,
    /// How often that happened.
    pub failures: u64,
    /// Connections accepted.
    pub accepted: u64,
    /// Connections closed before a service saw them, in the order of [`Bar::ALL`].
    pub barred: [u64; Bar::ALL.len()],
    /// Sessions open now.
    pub active: u64,
    /// Sessions that were done when they ended.
    pub ended_ok: u64,
    /// Sessions that ended because the peer broke the protocol or was refused.
    pub ended_refused: u64,
    /// Sessions dropped because the connection broke.
    pub ended_reset: u64,
    /// Sessions dropped because a file could not be read or written.
    pub ended_disk: u64,
    /// Sessions that ended by a time-out, by phase, in the order of [`Phase::ALL`].
    pub timed_out: [u64; Phase::ALL.len()],
    /// Clients and requests that were refused at a limit, in the order of [`Limit::ALL`].
    pub refused: [u64; Limit::ALL.len()],
    /// Bytes received, of streams or datagrams.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// Datagrams received.
    pub datagrams_in: u64,
    /// Datagrams answered.
    pub datagrams_out: u64,
    /// Datagrams dropped because their source may not come.
    pub dropped_deny: u64,
    /// Datagrams dropped because their source sent more than `source_rate_max`.
    pub dropped_rate: u64,
    /// Datagrams dropped because what sent them may answer the answer.
    pub dropped_loop: u64,
    /// Datagrams dropped on purpose, to simulate loss.
    pub dropped_loss: u64,
    /// Datagrams that were not what the service expects.
    pub dropped_malformed: u64,
    /// Answers that the socket did not take.
    pub dropped_unsent: u64,
    /// Datagrams dropped because a table or queue was full.
    pub dropped_full: u64,
    /// What a heartbeat listener knows of its senders.
    pub heartbeat: HeartbeatMetrics,
}

/// What keeps a connection from its service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bar {
    /// Its address is denied, or not among those that are allowed.
    Deny,
    /// Its address has as many connections at this listener as it may.
    PerAddress,
    /// Its address has as many connections at all listeners together as it may.
    PerAddressInAll,
    /// Its address had too many connections in a short time.
    Rate,
}

impl Bar {
    /// All of them, in the order of their numbers.
    pub const ALL: [Bar; 4] = [Bar::Deny, Bar::PerAddress, Bar::PerAddressInAll, Bar::Rate];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Bar::Deny => "deny",
            Bar::PerAddress => "per_address",
            Bar::PerAddressInAll => "per_address_in_all",
            Bar::Rate => "rate",
        }
    }
}

/// A limit at which a web server refuses a client or a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Connections at once (503).
    Connections,
    /// Connections at once from one address (429).
    ConnectionsPerAddress,
    /// The length or the lines of a head (431).
    Head,
    /// The length of a target (414).
    Target,
    /// The length of a body (413).
    Body,
    /// Passwords that wait to be checked (503).
    Passwords,
    /// Listings that are being made or sent (503).
    Listings,
}

impl Limit {
    /// All of them, in the order of their numbers.
    pub const ALL: [Limit; 7] = [
        Limit::Connections,
        Limit::ConnectionsPerAddress,
        Limit::Head,
        Limit::Target,
        Limit::Body,
        Limit::Passwords,
        Limit::Listings,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Limit::Connections => "connections",
            Limit::ConnectionsPerAddress => "connections_per_address",
            Limit::Head => "head",
            Limit::Target => "target",
            Limit::Body => "body",
            Limit::Passwords => "passwords",
            Limit::Listings => "listings",
        }
    }
}

/// What a heartbeat listener knows of all its senders together.
#[derive(Debug, Default, Clone)]
pub struct HeartbeatMetrics {
    /// Senders by what they are taken to be, in the order of [`State`](crate::wire::heartbeat::State): up, late, dead.
    pub senders: [u64; 3],
    /// Changes told, in the order of [`Change`](crate::wire::heartbeat::Change): new, late, dead, back.
    pub changes: [u64; 4],
    /// Sequence numbers that were skipped and did not come since; it shrinks when one comes after all.
    pub lost: u64,
    /// Heartbeats that came a second time.
    pub duplicates: u64,
    /// Heartbeats that came after a later one.
    pub reordered: u64,
    /// How often a sender began again, with a lower number or a far higher one.
    pub restarts: u64,
}

impl HeartbeatMetrics {
    /// Adds what one heartbeat changed in the counts of its sender. Those are bounded, so the sums do not overflow, and
    /// what one sender adds can be taken off again.
    pub fn count(&mut self, before: Counts, after: Counts) {
        self.lost = self.lost + after.lost - before.lost;
        self.duplicates += after.duplicates - before.duplicates;
        self.reordered += after.reordered - before.reordered;
        self.restarts += after.restarts - before.restarts;
    }
}

impl ListenerMetrics {
    /// Counters for a listener of that name and kind.
    pub fn new(name: &str, kind: &'static str, address: String) -> Self {
        Self {
            name: name.to_owned(),
            kind,
            address,
            ..Self::default()
        }
    }

    /// Counts that its socket failed.
    pub fn went_down(&mut self) {
        self.is_down = true;
        self.failures += 1;
    }
}

impl fmt::Display for ListenerMetrics {
    /// The listener, as the log names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.address)
    }
}
