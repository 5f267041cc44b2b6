//! The table of metrics: what each is called, what it says, and where its numbers are.
//!
//! A line is all that there is to write for a metric. Units are in the names, as Prometheus has it:
//! `_bytes`, `_seconds`; what has none is a number of things.

use std::fmt;
use std::ops::Range;
use std::time::{Duration, SystemTime};

use super::histogram::Histogram;
use super::{
    Bar, Cached, Cause, Impairment, Latencies, Limit, ListenerMetrics, Metrics, UpstreamMetrics,
};
use crate::cache::{compressed, store};
use crate::dns::Counters;
use crate::ending::Phase;
use crate::hooks::{self, Fault};
use crate::jobs;
use crate::wire::heartbeat::{Change, State};
use crate::wire::upload::Code;

/// The version of the program.
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Everything that the admin listener can show, at one moment.
pub struct View<'a> {
    /// What was counted.
    pub metrics: &'a Metrics,
    /// If a record is told of, which one, and the numbers of the turns that are there of it.
    pub record: Option<(&'a str, Range<u64>)>,
    /// What parts of the process count by themselves.
    pub beside: Beside,
    /// When the process began to serve.
    pub started: SystemTime,
    /// The moment.
    pub wall: SystemTime,
    /// What the operating system says about the process.
    pub process: Process,
}

/// What parts of a process count by themselves, beside [`Metrics`], at one moment.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside {
    /// What the resolver counted.
    pub resolver: Counters,
    /// Names being resolved.
    pub lookups: usize,
    /// Names whose answers are remembered.
    pub cached_names: usize,
    /// What was counted about compressed forms.
    pub compressed: compressed::Counters,
    /// Bytes of those that are in memory.
    pub compressed_bytes: usize,
    /// What the stores of responses hold, all together.
    pub stores: store::Sums,
    /// What was counted of the jobs for the disk, in the order of [`jobs::Kind::ALL`].
    pub jobs: [jobs::Counts; jobs::Kind::ALL.len()],
    /// Of those, how many wait to be begun, and how many are under way.
    pub jobs_under_way: (usize, usize),
    /// What was counted of the commands of listeners.
    pub hooks: hooks::Counts,
    /// How many of those wait, and how many run.
    pub hooks_under_way: (usize, usize),
}

impl View<'_> {
    /// The program's version.
    pub fn version(&self) -> &'static str {
        VERSION
    }

    /// When the process began to serve, in seconds since the epoch.
    pub fn start_time_s(&self) -> f64 {
        self.started
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64()
    }

    /// For how long it has served.
    pub fn uptime(&self) -> Duration {
        self.wall.duration_since(self.started).unwrap_or_default()
    }

    /// One number of each kind of job for the disk.
    pub fn by_kind(
        &self,
        get: fn(&jobs::Counts) -> Value,
    ) -> impl Iterator<Item = (&'static str, Value)> {
        let kinds = jobs::Kind::ALL.into_iter().zip(&self.beside.jobs);
        kinds.map(move |(kind, counts)| (kind.name(), get(counts)))
    }

    /// The listeners, in the order in which they were opened.
    pub fn listeners(&self) -> impl Iterator<Item = &ListenerMetrics> {
        self.metrics.listeners.iter().map(|(_, listener)| listener)
    }

    /// Those from a place on, each with its place.
    pub fn listeners_from(&self, place: usize) -> impl Iterator<Item = (usize, &ListenerMetrics)> {
        let all = self.metrics.listeners.iter();
        all.skip_while(move |(key, _)| *key < place)
    }
}

/// What the operating system says about this process; `None` where it does not say.
#[derive(Clone, Copy, Debug, Default)]
pub struct Process {
    /// Memory that it occupies.
    pub resident_bytes: Option<u64>,
    /// Processor time that it used, of user and system.
    pub cpu_s: Option<f64>,
}

/// A number that is shown.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    /// A number of things.
    Whole(u64),
    /// A measure.
    Decimal(f64),
}

impl From<u64> for Value {
    fn from(count: u64) -> Self {
        Value::Whole(count)
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Self {
        Value::Whole(count as u64)
    }
}

impl From<Duration> for Value {
    fn from(span: Duration) -> Self {
        Value::Decimal(span.as_secs_f64())
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Value::Whole(count) => count.fmt(f),
            Value::Decimal(measure) => measure.fmt(f),
        }
    }
}

/// Whether a number only grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// It does, from 0 at the start.
    Counter,
    /// It does not.
    Gauge,
    /// Spans of time, in buckets.
    Histogram,
}

/// Numbers by the value of a label.
pub type Labelled = Vec<(&'static str, u64)>;

/// Where the samples of a metric come from.
#[derive(Clone, Copy)]
pub enum Samples {
    /// One for the process, if it is known.
    One(fn(&View<'_>) -> Option<Value>),
    /// Spans of time in the process.
    Spans(fn(&Metrics) -> &Histogram),
    /// One for the process and each kind of job for the disk, by the label `kind`.
    Kinds(fn(&jobs::Counts) -> Value),
    /// Spans of time of each listener, by the label `class`.
    Classes(fn(&ListenerMetrics) -> &Latencies),
    /// One for each listener that has it.
    Each(fn(&ListenerMetrics) -> Option<u64>),
    /// For each listener that has them, one for each value of this label.
    By(&'static str, fn(&ListenerMetrics) -> Option<Labelled>),
    /// For each listener with upstreams, one for each of these, by the label `upstream`.
    Upstreams(fn(&UpstreamMetrics) -> u64),
}

/// A line of the table.
#[derive(Clone, Copy)]
pub struct Metric {
    /// Its name without `netlab_`, and without a counter's `_total`.
    pub name: &'static str,
    /// A label that is always the same. Lines of one name that follow one another are one metric.
    pub label: Option<(&'static str, &'static str)>,
    /// Its key in the status, within the object before a dot;
    /// empty if the status says it otherwise.
    pub key: &'static str,
    /// Whether it only grows.
    pub class: Class,
    /// What it says, in a sentence.
    pub help: &'static str,
    /// Its numbers.
    pub samples: Samples,
}

impl Metric {
    /// The name as Prometheus has it.
    pub fn full_name(&self) -> String {
        let suffix = match self.class {
            Class::Counter => "_total",
            Class::Gauge | Class::Histogram => "",
        };
        format!("netlab_{}{suffix}", self.name)
    }

    const fn new(name: &'static str, class: Class, help: &'static str, samples: Samples) -> Self {
        Self {
            name,
            label: None,
            key: name,
            class,
            help,
            samples,
        }
    }

    const fn key(self, key: &'static str) -> Self {
        Self { key, ..self }
    }

    const fn label(self, name: &'static str, value: &'static str) -> Self {
        Self {
            label: Some((name, value)),
            ..self
        }
    }
}

const fn counter(name: &'static str, help: &'static str, samples: Samples) -> Metric {
    Metric::new(name, Class::Counter, help, samples)
}

const fn gauge(name: &'static str, help: &'static str, samples: Samples) -> Metric {
    Metric::new(name, Class::Gauge, help, samples)
}

/// Every metric, in the order in which they are shown.
#[rustfmt::skip] // a line each
pub static METRICS: &[Metric] = {
    use Samples::{By, Classes, Each, Kinds, One, Spans, Upstreams};
    &[
        // The process.
        gauge("build_info", "Which program this is: always 1.", One(|_| Some(Value::Whole(1)))).label("version", VERSION).key(""),
        gauge("start_time_seconds", "When the process began to serve, since the epoch.", One(|v| Some(Value::Decimal(v.start_time_s())))).key(""),
        counter("cpu_seconds", "Processor time used, of user and system.", One(|v| v.process.cpu_s.map(Value::Decimal))),
        gauge("resident_memory_bytes", "Memory that the process occupies.", One(|v| v.process.resident_bytes.map(Value::Whole))),
        gauge("draining", "1 while the process finishes what is under way before it ends.", One(|v| Some(u64::from(v.metrics.draining).into()))).key(""),
        counter("log_dropped", "Lines of the log dropped because nobody read standard error.", One(|v| Some(v.metrics.log_dropped.into()))),
        // The loop.
        counter("turns", "Turns of the loop.", One(|v| Some(v.metrics.turns.into()))),
        Metric::new("turn_seconds", Class::Histogram, "How long turns took, without the wait for events.", Spans(|m| &m.turn_lengths)),
        counter("events", "Readiness events that the kernel told.", One(|v| Some(v.metrics.events.into()))),
        counter("events_stale", "Events for sessions that had ended.", One(|v| Some(v.metrics.events_stale.into()))),
        counter("pumps", "Sessions taken from the run queue.", One(|v| Some(v.metrics.pumps.into()))),
        gauge("runnable", "Sessions that wait in the run queue.", One(|v| Some(v.metrics.gauges.runnable.into()))),
        counter("timers_fired", "Reminders that came due.", One(|v| Some(v.metrics.timers_fired.into()))),
        gauge("timers", "Reminders in the timer wheel.", One(|v| Some(v.metrics.gauges.timers.into()))),
        gauge("sockets", "Sockets of sessions, origins, listeners and the resolver.", One(|v| Some(v.metrics.gauges.sockets.into()))),
        gauge("pages", "Buffer pages in use.", One(|v| Some(v.metrics.gauges.pages_held.into()))),
        gauge("page_bytes", "Memory of buffer pages, in use and kept for later.", One(|v| Some(v.metrics.gauges.page_bytes_held.into()))).label("state", "held"),
        gauge("page_bytes", "Memory of buffer pages, in use and kept for later.", One(|v| Some(v.metrics.gauges.page_bytes_kept.into()))).label("state", "kept").key("page_bytes_kept"),
        gauge("bytes_beside_pages", "Memory in use that counts like that of buffer pages: records of TLS, heads and file headers that are gathered, listings and archives being made.", One(|v| Some(v.metrics.gauges.bytes_held_beside.into()))),
        gauge("page_bytes_max", "Memory in use, of buffer pages and beside them, above which send queues take little.", One(|v| Some(v.metrics.gauges.page_bytes_max.into()))),
        // Listeners.
        gauge("listener_up", "0 while a listener's socket failed and it has no other one.", Each(|l| Some(u64::from(!l.is_down)))).key("up"),
        counter("listener_failures", "Times that a listener's socket failed.", Each(|l| Some(l.failures))).key("failures"),
        gauge("sessions", "Sessions that are open.", Each(|l| Some(l.of.streams()?.active))),
        counter("sessions_accepted", "Connections accepted.", Each(|l| Some(l.of.streams()?.accepted))).key("accepted"),
        counter("accepts_shed", "Connections closed unserved for want of descriptors.", Each(|l| Some(l.of.streams()?.shed))),
        counter("connections_refused", "Connections closed before a service saw them, by cause.", By("cause", barred)),
        counter("sessions_ended", "Sessions that ended, by reason.", By("reason", ended)).key("ended"),
        counter("timeouts", "Sessions that ended by a time-out, by what they waited for.", By("phase", timed_out)).key("timed_out"),
        counter("received_bytes", "Bytes received from clients.", Each(|l| Some(l.bytes_in))).key("bytes_received"),
        counter("sent_bytes", "Bytes sent to clients.", Each(|l| Some(l.bytes_out))).key("bytes_sent"),
        Metric::new("request_seconds", Class::Histogram, "How long requests took, from the turn of their first byte to the end of the one in which the last byte of their answer was queued; `all` is where answers have no status: what an echo answered at once, a datagram, an uploaded file.", Classes(|l| &l.latencies)).key("requests"),
        counter("refusals", "Clients and requests refused by a web server, by the limit.", By("limit", refused)).key("refused"),
        counter("access_log_lines", "Lines of the access log.", Each(|l| Some(l.of.web()?.log_lines))),
        counter("access_log_dropped", "Lines of the access log that could not be written.", Each(|l| Some(l.of.web()?.log_lines_dropped))),
        counter("compressed_answers", "Answers sent in a form that was compressed on the way.", Each(|l| Some(l.of.web()?.compressed))),
        counter("compressed_saved_bytes", "Bytes that those answers were shorter than their contents.", Each(|l| Some(l.of.web()?.compressed_bytes_saved))).key("compressed_bytes_saved"),
        counter("files_stored", "Files that were uploaded whole.", Each(|l| Some(l.of.upload()?.files_stored))),
        counter("file_stored_bytes", "Bytes of the files that were uploaded whole.", Each(|l| Some(l.of.upload()?.file_bytes_stored))).key("file_bytes_stored"),
        counter("files_refused", "Files whose clients were told why they are not taken, by the code.", By("code", not_taken)).key("files_refused"),
        counter("files_resumed", "Files that clients went on with.", Each(|l| Some(l.of.upload()?.files_resumed))),
        counter("file_resumed_bytes", "Bytes of those files that were there already.", Each(|l| Some(l.of.upload()?.file_bytes_resumed))).key("file_bytes_resumed"),
        gauge("partial_files", "Half-received files that are kept.", Each(|l| Some(l.of.upload()?.partial_files))),
        gauge("partial_file_bytes", "Bytes of the half-received files that are kept.", Each(|l| Some(l.of.upload()?.partial_bytes))),
        counter("datagrams_received", "Datagrams received.", Each(|l| Some(l.of.datagrams()?.received))),
        counter("datagrams_sent", "Datagrams sent in answer.", Each(|l| Some(l.of.datagrams()?.sent))),
        counter("datagrams_dropped", "Datagrams and answers dropped, by cause.", By("cause", dropped)),
        counter("datagrams_impaired", "Answers to which something was done on purpose, beside losing them.", By("impairment", impaired)),
        gauge("datagrams_waiting", "Answers that are held back.", Each(|l| Some(l.of.datagrams()?.waiting))),
        counter("datagrams_kernel_drops", "Datagrams that the kernel dropped because the buffer of the socket was full; it counts a run that it received as one as one.", Each(|l| Some(l.of.datagrams()?.kernel_drops))),
        gauge("heartbeat_senders", "Senders of heartbeats, by what they are taken to be.", By("state", senders)).key("senders"),
        counter("heartbeat_changes", "Changes of senders, by what they became.", By("change", changes)).key("heartbeats.changes"),
        gauge("heartbeat_lost", "Heartbeats skipped in a sequence that did not come since.", Each(|l| Some(l.of.heartbeat()?.lost))).key("heartbeats.lost"),
        counter("heartbeat_duplicates", "Heartbeats that came a second time.", Each(|l| Some(l.of.heartbeat()?.duplicates))).key("heartbeats.duplicates"),
        counter("heartbeat_reordered", "Heartbeats that came after a later one.", Each(|l| Some(l.of.heartbeat()?.reordered))).key("heartbeats.reordered"),
        counter("heartbeat_restarts", "Senders that began again, with a lower number or a far higher one.", Each(|l| Some(l.of.heartbeat()?.restarts))).key("heartbeats.restarts"),
        counter("heartbeat_clock_steps", "Times that a sender's clock was set while it ran.", Each(|l| Some(l.of.heartbeat()?.clock_steps))).key("heartbeats.clock_steps"),
        counter("heartbeat_downs", "Times that a sender said that it ends.", Each(|l| Some(l.of.heartbeat()?.downs))).key("heartbeats.downs"),
        counter("heartbeat_evicted", "Senders that made room for others in a full table.", Each(|l| Some(l.of.heartbeat()?.evicted))).key("heartbeats.evicted"),
        counter("heartbeat_accepted", "Heartbeats that were taken for some: what was received and not dropped.", Each(|l| Some(l.of.heartbeat()?.accepted))).key("heartbeats.accepted"),
        // Compression.
        counter("compressed_forms", "Contents compressed, each version once.", One(|v| Some(v.beside.compressed.made.into()))),
        counter("compressed_worthless", "Contents of which compression made hardly less.", One(|v| Some(v.beside.compressed.worthless.into()))),
        counter("compressed_refused", "Times that a content was sent as it is because too many were being compressed.", One(|v| Some(v.beside.compressed.refused.into()))),
        counter("compressed_lost", "Contents compressed in vain: they changed, could not be read, or had no room.", One(|v| Some(v.beside.compressed.lost.into()))),
        counter("compressed_evicted", "Compressed contents that made room for others.", One(|v| Some(v.beside.compressed.evicted.into()))),
        gauge("compressed_bytes", "Memory of compressed contents.", One(|v| Some(v.beside.compressed_bytes.into()))),
        // Responses that are kept.
        counter("cache_requests", "Requests by how the cache of a proxy handled them.", By("handled", cached)).key("cache_requests"),
        gauge("cache_objects", "Responses that are kept.", One(|v| Some(u64::from(v.beside.stores.objects).into()))).label("place", "disk").key("cache.objects"),
        gauge("cache_objects", "Responses that are kept.", One(|v| Some(v.beside.stores.warm_objects.into()))).label("place", "memory").key("cache.objects_in_memory"),
        gauge("cache_bytes", "Bytes of the responses that are kept.", One(|v| Some(v.beside.stores.bytes.into()))).label("place", "disk").key("cache.bytes"),
        gauge("cache_bytes", "Bytes of the responses that are kept.", One(|v| Some(v.beside.stores.warm_bytes.into()))).label("place", "memory").key("cache.bytes_in_memory"),
        gauge("cache_index_bytes", "Memory of the index of all responses that are kept.", One(|v| Some(v.beside.stores.index_bytes.into()))).key("cache.index_bytes"),
        counter("cache_stored", "Responses that were kept.", One(|v| Some(v.beside.stores.counts.stored.into()))).key("cache.stored"),
        counter("cache_evicted", "Responses that made room for others.", One(|v| Some(v.beside.stores.counts.evicted.into()))).key("cache.evicted"),
        counter("cache_loaded", "Responses that were read from disk.", One(|v| Some(v.beside.stores.counts.loaded.into()))).key("cache.loaded"),
        counter("cache_purged", "Responses that were purged.", One(|v| Some(v.beside.stores.counts.purged.into()))).key("cache.purged"),
        counter("cache_failed", "Responses that could not be written or read.", One(|v| Some(v.beside.stores.counts.failed.into()))).key("cache.failed"),
        gauge("cache_bans", "Purges by prefix or tag whose responses are still being looked for.", One(|v| Some(v.beside.stores.bans.into()))).key("cache.bans"),
        // Origins.
        counter("upstreams_opened", "Connections to origins that were made.", One(|v| Some(v.metrics.origins.opened.into()))).key("upstreams.opened"),
        counter("upstreams_reused", "Times that a kept connection to an origin was used again.", One(|v| Some(v.metrics.origins.reused.into()))).key("upstreams.reused"),
        gauge("upstreams_idle", "Connections to origins that are kept and that nobody uses.", One(|v| Some(v.metrics.gauges.idle_upstreams.into()))).key("upstreams.idle"),
        gauge("upstream_up", "1 while an upstream of a gateway gets requests in its turn, 0 while it does not.", Upstreams(|u| u.is_up.into())).key("upstream_up"),
        counter("upstream_requests", "Requests that an upstream was chosen for.", Upstreams(|u| u.requests)).key("upstream_requests"),
        counter("upstream_fails", "Those of them that failed at it.", Upstreams(|u| u.fails)).key("upstream_fails"),
        counter("upstream_checks_failed", "Checks that an upstream did not pass.", Upstreams(|u| u.checks_failed)).key("upstream_checks_failed"),
        // The disk.
        counter("disk_jobs", "Jobs for the disk that came to their end.", Kinds(|c| c.finished.into())).key("disk.finished"),
        counter("disk_jobs_failed", "Jobs for the disk that failed.", Kinds(|c| c.failed.into())).key("disk.failed"),
        counter("disk_jobs_refused", "Jobs refused because too many waited for their disk.", Kinds(|c| c.refused.into())).key("disk.refused"),
        counter("disk_wait_seconds", "Time that jobs waited to be begun.", Kinds(|c| c.waited.into())).key("disk.wait_seconds"),
        counter("disk_job_seconds", "Time from the beginning of jobs to their end.", Kinds(|c| c.took.into())).key("disk.job_seconds"),
        gauge("disk_jobs_waiting", "Jobs that wait to be begun.", One(|v| Some(v.beside.jobs_under_way.0.into()))).key("disk.waiting"),
        gauge("disk_jobs_under_way", "Jobs that the disks are asked for now.", One(|v| Some(v.beside.jobs_under_way.1.into()))).key("disk.under_way"),
        // Commands.
        counter("hooks_started", "Commands of listeners that were begun.", One(|v| Some(v.beside.hooks.started.into()))).key("hooks.started"),
        counter("hooks_failed", "Commands of listeners that failed.", One(|v| Some(v.beside.hooks.failed[Fault::NotStarted as usize].into()))).label("cause", "not_started").key("hooks.failed.not_started"),
        counter("hooks_failed", "Commands of listeners that failed.", One(|v| Some(v.beside.hooks.failed[Fault::Code as usize].into()))).label("cause", "code").key("hooks.failed.code"),
        counter("hooks_failed", "Commands of listeners that failed.", One(|v| Some(v.beside.hooks.failed[Fault::Signal as usize].into()))).label("cause", "signal").key("hooks.failed.signal"),
        counter("hooks_failed", "Commands of listeners that failed.", One(|v| Some(v.beside.hooks.failed[Fault::TimedOut as usize].into()))).label("cause", "timed_out").key("hooks.failed.timed_out"),
        counter("hooks_dropped", "Commands of listeners that were not run because too many waited.", One(|v| Some(v.beside.hooks.dropped.into()))).key("hooks.dropped"),
        gauge("hooks_waiting", "Commands of listeners that wait to be run.", One(|v| Some(v.beside.hooks_under_way.0.into()))).key("hooks.waiting"),
        gauge("hooks_running", "Commands of listeners that run.", One(|v| Some(v.beside.hooks_under_way.1.into()))).key("hooks.running"),
        // Names.
        counter("resolver_hits", "Names answered from memory.", One(|v| Some(v.beside.resolver.hits.into()))),
        counter("resolver_stale", "Names answered from memory although the answer had expired.", One(|v| Some(v.beside.resolver.stale.into()))),
        counter("resolver_lookups", "Names that servers were asked for.", One(|v| Some(v.beside.resolver.lookups.into()))),
        counter("resolver_queries", "Questions sent to name servers.", One(|v| Some(v.beside.resolver.queries.into()))),
        counter("resolver_tcp_queries", "Those of them that went over TCP, after an answer that was cut short.", One(|v| Some(v.beside.resolver.tcp_queries.into()))),
        counter("resolver_timeouts", "Questions that were not answered in time.", One(|v| Some(v.beside.resolver.timeouts.into()))),
        counter("resolver_lies", "Answers to questions that were not asked.", One(|v| Some(v.beside.resolver.lies.into()))),
        counter("resolver_refused", "Lookups refused because too many were under way.", One(|v| Some(v.beside.resolver.refused.into()))),
        counter("resolver_evicted", "Remembered names that made room for others.", One(|v| Some(v.beside.resolver.evicted.into()))),
        gauge("resolver_lookups_under_way", "Names being resolved.", One(|v| Some(v.beside.lookups.into()))),
        gauge("resolver_cached_names", "Names whose answers are remembered.", One(|v| Some(v.beside.cached_names.into()))),
    ]
};

fn barred(listener: &ListenerMetrics) -> Option<Labelled> {
    let counts = listener.of.streams()?.barred;
    Some(Bar::ALL.map(Bar::name).into_iter().zip(counts).collect())
}

fn ended(listener: &ListenerMetrics) -> Option<Labelled> {
    let streams = listener.of.streams()?;
    Some(vec![
        ("ok", streams.ended_ok),
        ("refused", streams.ended_refused),
        ("reset", streams.ended_reset),
        ("disk", streams.ended_disk),
        ("timed_out", streams.timed_out.iter().sum()),
    ])
}

fn timed_out(listener: &ListenerMetrics) -> Option<Labelled> {
    let counts = listener.of.streams()?.timed_out;
    Some(
        Phase::ALL
            .map(Phase::name)
            .into_iter()
            .zip(counts)
            .collect(),
    )
}

fn refused(listener: &ListenerMetrics) -> Option<Labelled> {
    let counts = listener.of.web()?.refused;
    Some(
        Limit::ALL
            .map(Limit::name)
            .into_iter()
            .zip(counts)
            .collect(),
    )
}

fn not_taken(listener: &ListenerMetrics) -> Option<Labelled> {
    let counts = listener.of.upload()?.files_refused;
    Some(Code::ALL.map(Code::word).into_iter().zip(counts).collect())
}

fn dropped(listener: &ListenerMetrics) -> Option<Labelled> {
    let counts = listener.of.datagrams()?.dropped;
    Some(
        Cause::ALL
            .map(Cause::name)
            .into_iter()
            .zip(counts)
            .collect(),
    )
}

fn impaired(listener: &ListenerMetrics) -> Option<Labelled> {
    let counts = listener.of.ping()?.impaired;
    let names = Impairment::ALL.map(Impairment::name);
    Some(names.into_iter().zip(counts).collect())
}

fn senders(listener: &ListenerMetrics) -> Option<Labelled> {
    let counts = listener.of.heartbeat()?.senders;
    Some(
        State::ALL
            .map(State::name)
            .into_iter()
            .zip(counts)
            .collect(),
    )
}

fn cached(listener: &ListenerMetrics) -> Option<Labelled> {
    let counts = listener.of.web()?.cached;
    Some(
        Cached::ALL
            .map(Cached::name)
            .into_iter()
            .zip(counts)
            .collect(),
    )
}

fn changes(listener: &ListenerMetrics) -> Option<Labelled> {
    let counts = listener.of.heartbeat()?.changes;
    Some(
        Change::ALL
            .map(Change::name)
            .into_iter()
            .zip(counts)
            .collect(),
    )
}

#[cfg(test)]
mod tests {
    use super::super::{
        Became, DatagramMetrics, HeartbeatMetrics, Of, PingMetrics, StreamMetrics, UploadMetrics,
        WebMetrics,
    };
    use super::*;
    use std::collections::HashSet;

    /// A listener of each sort.
    fn listeners() -> Vec<ListenerMetrics> {
        let all = [
            Of::Streams(StreamMetrics::default()),
            Of::Web(WebMetrics::default()),
            Of::Upload(UploadMetrics::default()),
            Of::Datagrams(DatagramMetrics::default()),
            Of::Ping(PingMetrics::default()),
            Of::Heartbeat(HeartbeatMetrics::default()),
        ];
        let listener = |of| ListenerMetrics::new("name", "kind", String::new(), of);
        all.map(listener).into()
    }

    /// The labels of a metric and their values, as the README has them.
    fn labels(lines: &[&Metric]) -> String {
        let quoted = |texts: &[&str]| {
            let texts: Vec<String> = texts.iter().map(|text| format!("`{text}`")).collect();
            texts.join(", ")
        };
        match lines[0].samples {
            Samples::One(_) => match lines[0].label {
                Some(("version", _)) => "`version`".to_owned(),
                Some((label, _)) => {
                    let values: Vec<&str> = lines.iter().filter_map(|m| Some(m.label?.1)).collect();
                    format!("`{label}`: {}", quoted(&values))
                }
                None => String::new(),
            },
            Samples::Spans(_) => "`le`".to_owned(),
            Samples::Kinds(_) => {
                let values = jobs::Kind::ALL.map(jobs::Kind::name);
                format!("`kind`: {}", quoted(&values))
            }
            Samples::Classes(_) => {
                let classes = Became::ALL.map(Became::name);
                format!("`listener`, `class`: {}, `le`", quoted(&classes))
            }
            Samples::Each(_) => "`listener`".to_owned(),
            Samples::Upstreams(_) => "`listener`, `upstream`".to_owned(),
            Samples::By(label, get) => {
                let counts = listeners()
                    .iter()
                    .find_map(get)
                    .expect("somebody counts it");
                let values: Vec<&str> = counts.iter().map(|(value, _)| *value).collect();
                format!("`listener`, `{label}`: {}", quoted(&values))
            }
        }
    }

    #[test]
    fn the_readme_has_this_table() {
        let mut table = String::from("| metric | labels | what it says |\n|---|---|---|\n");
        for lines in METRICS.chunk_by(|one, other| one.name == other.name) {
            let lines: Vec<&Metric> = lines.iter().collect();
            let (name, labels) = (lines[0].full_name(), labels(&lines));
            let name = name.trim_start_matches("netlab_");
            table += &format!("| `{name}` | {labels} | {} |\n", lines[0].help);
        }
        let readme = include_str!("../../README.md");
        assert!(readme.contains(&table), "the README should have\n{table}");
    }

    #[test]
    fn names_and_keys_are_given_once() {
        let mut names = HashSet::new();
        let mut keys = HashSet::new();
        for metric in METRICS {
            assert!(names.insert((metric.name, metric.label)), "{}", metric.name);
            // Those of the process and those of a listener stand in different objects.
            let of_process = matches!(
                metric.samples,
                Samples::One(_) | Samples::Spans(_) | Samples::Kinds(_)
            );
            let fresh = metric.key.is_empty() || keys.insert((metric.key, of_process));
            assert!(fresh, "{}", metric.key);
            assert!(metric.help.ends_with('.'), "{}", metric.help);
        }
    }

    #[test]
    fn every_listener_metric_is_some_listeners() {
        for metric in METRICS {
            let known = |listener: &ListenerMetrics| match metric.samples {
                Samples::One(_) | Samples::Spans(_) | Samples::Kinds(_) => true,
                Samples::Classes(_) => true,
                Samples::Each(get) => get(listener).is_some(),
                Samples::By(_, get) => get(listener).is_some(),
                Samples::Upstreams(_) => listener.of.web().is_some(),
            };
            assert!(listeners().iter().any(known), "{}", metric.name);
        }
    }
}
