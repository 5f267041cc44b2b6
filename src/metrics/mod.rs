//! What the process counts about itself: plain numbers, added to where things happen and read by
//! the admin listener.
//!
//! One thread, so no atomics. Nothing here is labelled with an address, a name or a path that a
//! client chose; an upstream is named as the configuration has it. A new counter is a field here and a line in the table [`METRICS`]; `/metrics`,
//! `/status.json`, the admin listener's first page and the README follow from that line.

mod datagrams;
mod histogram;
mod latency;
mod table;

use std::fmt;
use std::rc::Rc;
use std::time::Instant;

use slab::Slab;

use crate::ending::{Ending, Error, Phase};
use crate::wire::upload::Code;

pub use datagrams::{Cause, DatagramMetrics, HeartbeatMetrics, Impairment, PingMetrics};
pub use histogram::{Histogram, Span};
pub(crate) use latency::Answered;
pub use latency::{Became, Latencies};
pub use table::{Beside, Class, Labelled, METRICS, Metric, Process, Samples, Value, View};

/// All counters of a process.
#[derive(Debug, Default)]
pub struct Metrics {
    /// One for each listener that is open or has sessions left.
    pub listeners: Slab<ListenerMetrics>,
    /// Turns of the loop.
    pub turns: u64,
    /// How long they took, from the end of the wait for events to the beginning of the next.
    pub turn_lengths: Histogram,
    /// Events that the kernel told.
    pub events: u64,
    /// Events for sessions that had ended.
    pub events_stale: u64,
    /// Sessions taken up by the run queue.
    pub pumps: u64,
    /// Reminders that came due.
    pub timers_fired: u64,
    /// Connections to origins.
    pub origins: OriginMetrics,
    /// Lines of the process's own log that were dropped because nobody read them; set before it is
    /// read.
    pub log_dropped: u64,
    /// Whether the process is about to end.
    pub draining: bool,
    /// Numbers that the reactor sets before they are read.
    pub gauges: Gauges,
    /// Requests that were answered since the last turn ended.
    pub(crate) answered: Vec<Answered>,
}

/// The counters of a process, and which listener what is counted now belongs to. A service that
/// counts what it did not declare by [`Service::counts`](crate::service::Service::counts) is a bug,
/// and panics.
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

    /// The place of the listener, and its name.
    pub fn listener(&self) -> (usize, &str) {
        (self.listener, &self.all.listeners[self.listener].name)
    }

    /// A request was answered: all of its answer is queued. `began`: the turn of its first byte.
    #[inline]
    pub fn answered(&mut self, became: Became, began: Instant) {
        self.all.answered(self.listener, became, began, 1);
    }

    /// A client or a request was refused at a limit.
    pub fn refused(&mut self, limit: Limit) {
        self.web().refused[limit as usize] += 1;
    }

    /// The access log got a line, whether or not it can be written.
    pub fn log_line(&mut self) {
        self.web().log_lines += 1;
    }

    /// Lines of the access log could not be written.
    pub fn log_lines_dropped(&mut self, lines: u64) {
        self.web().log_lines_dropped += lines;
    }

    /// An answer was sent in a form that is so much shorter than its content.
    pub fn compressed(&mut self, bytes_saved: u64) {
        let web = self.web();
        web.compressed += 1;
        web.compressed_bytes_saved += bytes_saved;
    }

    /// A cache handled a request.
    pub fn cached(&mut self, handled: Cached) {
        self.web().cached[handled as usize] += 1;
    }

    /// The gateways of the listener have these upstreams, which get requests or not; those that it had
    /// before and not any more are forgotten.
    pub fn have_upstreams<'n>(&mut self, all: impl Iterator<Item = (&'n str, bool)>) {
        let Of::Web(WebMetrics { upstreams, .. }) = &mut self.all.listeners[self.listener].of
        else {
            return;
        };
        let mut before = std::mem::take(upstreams);
        for (name, is_up) in all {
            if upstreams.iter().all(|upstream| upstream.name != name) {
                let known = before.iter().position(|upstream| upstream.name == name);
                let mut upstream = match known {
                    Some(place) => before.swap_remove(place),
                    None => UpstreamMetrics::new(name),
                };
                upstream.is_up = is_up;
                upstreams.push(upstream);
            }
        }
    }

    /// The counters of an upstream, if it is one of those that the listener has now: at whichever of
    /// its addresses they are.
    pub fn upstream(&mut self, name: &str) -> Option<&mut UpstreamMetrics> {
        let own = &self.all.listeners[self.listener];
        let is_known = |listener: &ListenerMetrics| {
            let is_same = (listener.kind, &listener.name) == (own.kind, &own.name);
            is_same && listener.of.web().is_some_and(|web| web.knows(name))
        };
        let place = match is_known(own) {
            true => self.listener,
            false => self.all.listeners.iter().find(|(_, one)| is_known(one))?.0,
        };
        let Of::Web(web) = &mut self.all.listeners[place].of else {
            return None;
        };
        web.upstreams.iter_mut().find(|one| one.name == name)
    }

    /// A file of `bytes` was uploaded whole.
    pub fn stored(&mut self, bytes: u64) {
        let upload = self.upload();
        upload.files_stored += 1;
        upload.file_bytes_stored += bytes;
    }

    /// A file was refused, and its client told so.
    pub fn file_refused(&mut self, code: Code) {
        self.upload().files_refused[code as usize] += 1;
    }

    /// A client goes on with a file of which so many bytes are there.
    pub fn resumed(&mut self, bytes: u64) {
        let upload = self.upload();
        upload.files_resumed += 1;
        upload.file_bytes_resumed += bytes;
    }

    /// So many half-received files of so many bytes are kept.
    pub fn partials(&mut self, files: usize, bytes: u64) {
        let upload = self.upload();
        (upload.partial_files, upload.partial_bytes) = (files as u64, bytes);
    }

    fn upload(&mut self) -> &mut UploadMetrics {
        match &mut self.all.listeners[self.listener].of {
            Of::Upload(upload) => upload,
            other => other.undeclared(),
        }
    }

    fn web(&mut self) -> &mut WebMetrics {
        match &mut self.all.listeners[self.listener].of {
            Of::Web(web) => web,
            other => other.undeclared(),
        }
    }
}

impl Metrics {
    /// Counters for a listener, until it leaves: those of one that is the same and has sessions
    /// left, or new ones. Their place.
    pub fn enter(&mut self, name: &str, kind: &'static str, address: String, of: Of) -> usize {
        let is_it = |l: &ListenerMetrics| (&*l.name, l.kind, &l.address) == (name, kind, &address);
        let all = &mut self.listeners;
        let known = all.iter().find(|(_, l)| is_it(l)).map(|(key, _)| key);
        let key =
            known.unwrap_or_else(|| all.insert(ListenerMetrics::new(name, kind, address, of)));
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

/// What is counted of connections to origins.
#[derive(Debug, Default, Clone, Copy)]
pub struct OriginMetrics {
    /// Those that were made.
    pub opened: u64,
    /// Times that one which nobody used was given to a session.
    pub reused: u64,
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
    /// Connections to origins that nobody uses.
    pub idle_upstreams: usize,
    /// Pages held by buffers.
    pub pages_held: usize,
    /// Their bytes.
    pub page_bytes_held: usize,
    /// Bytes of unused pages kept.
    pub page_bytes_kept: usize,
    /// Bytes in use outside of pages that count like those in pages.
    pub bytes_held_beside: usize,
    /// Bytes in use above which send queues take little.
    pub page_bytes_max: usize,
    /// Sockets held by sessions, listeners and the resolver.
    pub sockets: usize,
}

/// The counters of one listener.
#[derive(Debug, Clone)]
pub struct ListenerMetrics {
    /// Its name: the configuration's, or its kind.
    pub name: Rc<str>,
    /// The name of its kind: a label, by which nothing is decided.
    pub kind: &'static str,
    /// Where it is bound.
    pub address: String,
    /// Listeners that count here: one that was closed and has sessions left, and one that was
    /// opened since.
    users: usize,
    /// Its socket failed, and it has no other one yet.
    pub is_down: bool,
    /// How often that happened.
    pub failures: u64,
    /// Bytes received, of streams or datagrams.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
    /// How long its requests took.
    pub latencies: Latencies,
    /// What else it counts.
    pub of: Of,
}

/// What a listener counts beside its bytes. A service declares it, as
/// [`Service::counts`](crate::service::Service::counts), and counts nothing else.
#[derive(Debug, Clone)]
pub enum Of {
    /// Sessions.
    Streams(StreamMetrics),
    /// What a web server counts.
    Web(WebMetrics),
    /// What a receiver of files counts.
    Upload(UploadMetrics),
    /// Datagrams.
    Datagrams(DatagramMetrics),
    /// Datagrams, with what was done to their answers on purpose.
    Ping(PingMetrics),
    /// What a monitor of heartbeats counts.
    Heartbeat(HeartbeatMetrics),
}

impl Of {
    /// The counters of sessions, of what has sessions.
    pub fn streams(&self) -> Option<&StreamMetrics> {
        match self {
            Of::Streams(streams) => Some(streams),
            Of::Web(web) => Some(&web.streams),
            Of::Upload(upload) => Some(&upload.streams),
            Of::Datagrams(_) | Of::Ping(_) | Of::Heartbeat(_) => None,
        }
    }

    /// The counters of datagrams, of what is served over them.
    pub fn datagrams(&self) -> Option<&DatagramMetrics> {
        match self {
            Of::Datagrams(datagrams) => Some(datagrams),
            Of::Ping(ping) => Some(&ping.datagrams),
            Of::Heartbeat(heartbeat) => Some(&heartbeat.datagrams),
            Of::Streams(_) | Of::Web(_) | Of::Upload(_) => None,
        }
    }

    /// The counters of a web server.
    pub fn web(&self) -> Option<&WebMetrics> {
        match self {
            Of::Web(web) => Some(web),
            _ => None,
        }
    }

    /// The counters of a receiver of files.
    pub fn upload(&self) -> Option<&UploadMetrics> {
        match self {
            Of::Upload(upload) => Some(upload),
            _ => None,
        }
    }

    /// The counters of a simulated bad network.
    pub fn ping(&self) -> Option<&PingMetrics> {
        match self {
            Of::Ping(ping) => Some(ping),
            _ => None,
        }
    }

    /// The counters of a monitor of heartbeats.
    pub fn heartbeat(&self) -> Option<&HeartbeatMetrics> {
        match self {
            Of::Heartbeat(heartbeat) => Some(heartbeat),
            _ => None,
        }
    }

    fn streams_mut(&mut self) -> &mut StreamMetrics {
        match self {
            Of::Streams(streams) => streams,
            Of::Web(web) => &mut web.streams,
            Of::Upload(upload) => &mut upload.streams,
            Of::Datagrams(_) | Of::Ping(_) | Of::Heartbeat(_) => self.undeclared(),
        }
    }

    fn datagrams_mut(&mut self) -> &mut DatagramMetrics {
        match self {
            Of::Datagrams(datagrams) => datagrams,
            Of::Ping(ping) => &mut ping.datagrams,
            Of::Heartbeat(heartbeat) => &mut heartbeat.datagrams,
            Of::Streams(_) | Of::Web(_) | Of::Upload(_) => self.undeclared(),
        }
    }

    /// Invariant: the counters of a listener are those that its service declares.
    fn undeclared(&self) -> ! {
        panic!("a service counted what it did not declare: it has {self:?}")
    }
}

/// The sessions of a listener over streams.
#[derive(Debug, Default, Clone)]
pub struct StreamMetrics {
    /// Connections accepted.
    pub accepted: u64,
    /// Connections closed unserved for want of descriptors.
    pub shed: u64,
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
}

/// A web server.
#[derive(Debug, Default, Clone)]
pub struct WebMetrics {
    /// Its sessions.
    pub streams: StreamMetrics,
    /// Clients and requests that were refused at a limit, in the order of [`Limit::ALL`].
    pub refused: [u64; Limit::ALL.len()],
    /// Lines of its access log, dropped ones included.
    pub log_lines: u64,
    /// Lines of its access log that were dropped because they could not be written.
    pub log_lines_dropped: u64,
    /// Answers sent in a form that was compressed on the way.
    pub compressed: u64,
    /// Bytes that those were shorter than their contents.
    pub compressed_bytes_saved: u64,
    /// Requests that a cache handled, in the order of [`Cached::ALL`].
    pub cached: [u64; Cached::ALL.len()],
    /// The upstreams of its gateways, each once, however many routes lead to it.
    pub upstreams: Vec<UpstreamMetrics>,
}

impl WebMetrics {
    /// Whether one of its gateways has this upstream.
    fn knows(&self, upstream: &str) -> bool {
        self.upstreams.iter().any(|one| one.name == upstream)
    }
}

/// An upstream of a gateway.
#[derive(Debug, Clone)]
pub struct UpstreamMetrics {
    /// Its URL.
    pub name: String,
    /// It gets requests in its turn: not too many failed, and no check says that it is down.
    pub is_up: bool,
    /// Requests that were sent to it, or would have been, had it taken a connection.
    pub requests: u64,
    /// Those that failed.
    pub fails: u64,
    /// Checks that failed.
    pub checks_failed: u64,
}

impl UpstreamMetrics {
    /// One of which nothing is counted.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            is_up: true,
            requests: 0,
            fails: 0,
            checks_failed: 0,
        }
    }
}

/// A receiver of files.
#[derive(Debug, Default, Clone)]
pub struct UploadMetrics {
    /// Its sessions.
    pub streams: StreamMetrics,
    /// Files that were uploaded whole.
    pub files_stored: u64,
    /// Their bytes.
    pub file_bytes_stored: u64,
    /// Files whose clients were told why they are not taken, in the order of [`Code::ALL`].
    pub files_refused: [u64; Code::ALL.len()],
    /// Files that were gone on with.
    pub files_resumed: u64,
    /// The bytes of them that were there already.
    pub file_bytes_resumed: u64,
    /// Half-received files that are kept, as of the last look.
    pub partial_files: u64,
    /// Their bytes.
    pub partial_bytes: u64,
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
    /// Archives that are being sent (503).
    Archives,
}

impl Limit {
    /// All of them, in the order of their numbers.
    pub const ALL: [Limit; 8] = [
        Limit::Connections,
        Limit::ConnectionsPerAddress,
        Limit::Head,
        Limit::Target,
        Limit::Body,
        Limit::Passwords,
        Limit::Listings,
        Limit::Archives,
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
            Limit::Archives => "archives",
        }
    }
}

/// How a cache handled a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cached {
    /// Answered with what is kept, which is fresh.
    Hit,
    /// Answered with what is kept, although it is stale.
    StaleHit,
    /// Answered with what is kept, after the origin said that it is still true.
    Revalidated,
    /// Answered with the response to somebody else's request.
    Collapsed,
    /// Sent on: nothing was kept for its URL.
    UriMiss,
    /// Sent on: what was kept for its URL was for other requests.
    VaryMiss,
    /// Sent on: what was kept was stale, and is no longer true.
    StaleMiss,
    /// Sent on since the request asked for that.
    RequestMiss,
    /// Sent on: only a part was kept.
    PartialMiss,
    /// Sent on: its like is not kept.
    Passed,
    /// Refused: it wanted no origin to be asked, and there was nothing for it.
    Unavailable,
}

impl Cached {
    /// All of them, in the order of their numbers.
    pub const ALL: [Cached; 11] = [
        Cached::Hit,
        Cached::StaleHit,
        Cached::Revalidated,
        Cached::Collapsed,
        Cached::UriMiss,
        Cached::VaryMiss,
        Cached::StaleMiss,
        Cached::RequestMiss,
        Cached::PartialMiss,
        Cached::Passed,
        Cached::Unavailable,
    ];

    /// Its name in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Cached::Hit => "hit",
            Cached::StaleHit => "stale_hit",
            Cached::Revalidated => "revalidated",
            Cached::Collapsed => "collapsed",
            Cached::UriMiss => "uri_miss",
            Cached::VaryMiss => "vary_miss",
            Cached::StaleMiss => "stale_miss",
            Cached::RequestMiss => "request_miss",
            Cached::PartialMiss => "partial_miss",
            Cached::Passed => "passed",
            Cached::Unavailable => "unavailable",
        }
    }
}

impl ListenerMetrics {
    /// Counters for a listener of that name and kind.
    pub fn new(name: &str, kind: &'static str, address: String, of: Of) -> Self {
        Self {
            name: name.into(),
            kind,
            address,
            users: 0,
            is_down: false,
            failures: 0,
            bytes_in: 0,
            bytes_out: 0,
            latencies: Latencies::default(),
            of,
        }
    }

    /// Counts that its socket failed.
    pub fn went_down(&mut self) {
        self.is_down = true;
        self.failures += 1;
    }

    /// A session began that has no client.
    pub fn began_alone(&mut self) {
        self.of.streams_mut().active += 1;
    }

    /// A connection was accepted.
    pub fn accepted(&mut self) {
        let streams = self.of.streams_mut();
        streams.accepted += 1;
        streams.active += 1;
    }

    /// A connection was closed unserved for want of descriptors.
    pub fn shed(&mut self) {
        self.of.streams_mut().shed += 1;
    }

    /// A connection was closed before a service saw it.
    pub fn barred(&mut self, bar: Bar) {
        self.of.streams_mut().barred[bar as usize] += 1;
    }

    /// A session ended. Where it was closed for a reason, that is why it ended, however the peer
    /// took it.
    pub fn ended(&mut self, ending: Ending, result: &Result<(), Error>) {
        let streams = self.of.streams_mut();
        streams.active -= 1;
        let count = match (ending, result) {
            (Ending::TimedOut(phase), _) => &mut streams.timed_out[phase as usize],
            (Ending::Refused, _) => &mut streams.ended_refused,
            (Ending::Done, Ok(())) => &mut streams.ended_ok,
            (_, Err(Error::TimedOut(phase))) => &mut streams.timed_out[*phase as usize],
            (_, Err(Error::Protocol(_) | Error::Refused(_))) => &mut streams.ended_refused,
            (_, Err(Error::Reset(_))) => &mut streams.ended_reset,
            (_, Err(Error::Disk(..) | Error::Changed)) => &mut streams.ended_disk,
        };
        *count += 1;
    }

    /// Datagrams came, of so many bytes together.
    pub fn received(&mut self, datagrams: usize, bytes: usize) {
        self.of.datagrams_mut().received += datagrams as u64;
        self.bytes_in += bytes as u64;
    }

    /// Datagrams left in answer, of so many bytes together.
    pub fn sent(&mut self, datagrams: usize, bytes: usize) {
        self.of.datagrams_mut().sent += datagrams as u64;
        self.bytes_out += bytes as u64;
    }

    /// So many datagrams or answers were dropped.
    pub fn dropped(&mut self, cause: Cause, datagrams: usize) {
        self.of.datagrams_mut().dropped[cause as usize] += datagrams as u64;
    }

    /// Something was done to an answer on purpose.
    pub fn impaired(&mut self, impairment: Impairment) {
        match &mut self.of {
            Of::Ping(ping) => ping.impaired[impairment as usize] += 1,
            other => other.undeclared(),
        }
    }

    /// So many answers are held back now.
    pub fn wait(&mut self, answers: usize) {
        self.of.datagrams_mut().waiting = answers as u64;
    }

    /// The kernel dropped so many more.
    pub fn dropped_by_kernel(&mut self, datagrams: u32) {
        self.of.datagrams_mut().kernel_drops += u64::from(datagrams);
    }

    /// What is known of the senders of heartbeats.
    ///
    /// # Panics
    /// If that was not declared.
    pub fn heartbeat_mut(&mut self) -> &mut HeartbeatMetrics {
        match &mut self.of {
            Of::Heartbeat(heartbeat) => heartbeat,
            other => other.undeclared(),
        }
    }

    /// Another service begins here, which knows none of the senders that are counted now.
    pub fn replaced(&mut self) {
        if let Of::Heartbeat(heartbeat) = &mut self.of {
            heartbeat.senders = [0; 3];
        }
    }
}

impl fmt::Display for ListenerMetrics {
    /// The listener, as the log names it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", self.name, self.address)
    }
}
