//! The limits of the whole process. Each has its default here, and its key in the configuration.
//!
//! A limit of one listener stands with its kind in [`crate::config`], one of the resolver in
//! [`crate::dns::Config`].

use std::num::NonZeroU32;
use std::time::Duration;

/// How jobs for the disk are done. Key `engine` of the table `[disk]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiskEngine {
    /// `"auto"`: by io_uring where the kernel gives it, else by threads.
    #[default]
    Auto,
    /// `"io_uring"`: by the kernel, which is told of them through a ring that it shares with us.
    IoUring,
    /// `"threads"`: by helper threads, each of which takes one job and makes its call.
    Threads,
    /// `"inline"`: by the loop itself, which waits for each.
    Inline,
}

impl DiskEngine {
    /// All of them, by their words in the configuration.
    pub const WORDS: [(&'static str, DiskEngine); 4] = [
        ("auto", DiskEngine::Auto),
        ("io_uring", DiskEngine::IoUring),
        ("threads", DiskEngine::Threads),
        ("inline", DiskEngine::Inline),
    ];

    /// Its word in the configuration.
    pub fn word(self) -> &'static str {
        Self::WORDS[self as usize].0
    }
}

/// How many jobs for the disk there may be: the table `[disk]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskLimits {
    /// Which engine does them; another one needs a restart. Key `engine`, default `"auto"`.
    pub engine: DiskEngine,
    /// Jobs that are done at once; as many helper threads, or workers of the kernel, started as
    /// they are needed. Another number needs a restart. Key `max_jobs`, default 16: many disks
    /// answer several calls together faster than one by one.
    pub jobs_max: usize,
    /// Of those, how many of one file system, so that a dead one leaves places for the others. Key
    /// `max_jobs_per_disk`, default 12, or `max_jobs` if that is less.
    pub jobs_per_disk_max: usize,
    /// Jobs of one file system that wait to be begun; what is asked beyond fails. Key
    /// `max_waiting_jobs_per_disk`, default 4,096.
    pub waiting_per_disk_max: usize,
}

impl Default for DiskLimits {
    fn default() -> DiskLimits {
        DiskLimits {
            engine: DiskEngine::default(),
            jobs_max: 16,
            jobs_per_disk_max: 12,
            waiting_per_disk_max: 4096,
        }
    }
}

/// How many commands may run that listeners have for what happens (`on_change`, `on_stored`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HookLimits {
    /// Commands that run at once. Key `max_hooks`, default 8.
    pub running_max: usize,
    /// Commands of one listener that wait to be run; those beyond are dropped. Key
    /// `max_waiting_hooks`, default 256.
    pub waiting_max: usize,
    /// Time after which one is killed. Key `hook_timeout`, default 60 s.
    pub timeout: Duration,
}

impl Default for HookLimits {
    fn default() -> HookLimits {
        HookLimits {
            running_max: 8,
            waiting_max: 256,
            timeout: Duration::from_secs(60),
        }
    }
}

/// How many may look at what the loop does, and how much of it is written down: the table `[trace]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InsideLimits {
    /// Memory of the record of what the loop did, while it is kept; 0 for none. Key `ring_bytes`,
    /// default 4 MiB.
    pub ring_bytes: usize,
    /// It is kept also while nobody reads it. Key `always`, default false.
    pub ring_always: bool,
    /// Those who read it at once: traces, timelines, turns. Key `max_readers`, default 8.
    pub readers_max: usize,
    /// For how long a trace may be asked for. Key `max_time`, default 10 min.
    pub time_max: Duration,
    /// Those who listen to events at once (`/events`), of each admin listener. Key
    /// `max_listeners`, default 64.
    pub listeners_max: usize,
}

impl Default for InsideLimits {
    fn default() -> InsideLimits {
        InsideLimits {
            ring_bytes: 4 << 20,
            ring_always: false,
            readers_max: 8,
            time_max: Duration::from_secs(600),
            listeners_max: 64,
        }
    }
}

/// The limits of the whole process: the tables `[limits]`, `[disk]` and `[trace]` of the configuration,
/// and `drain_timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Sessions of all listeners at once; at the limit the reactor stops accepting until one ends.
    /// No more than there are descriptors for. Key `max_sessions`, default 65,536.
    pub sessions_max: usize,
    /// Descriptors that all sessions may take, of which each takes one or two. It has no key: at the
    /// start it becomes what the reserved ones leave.
    pub session_descriptors_max: usize,
    /// Descriptors that are not for sessions: those of listeners, logs and look-ups. Those of kept
    /// files (`max_open_files`) are added; in all it is at most half. Key `reserved_descriptors`,
    /// default 256.
    pub descriptors_reserved: usize,
    /// Places among them that each listener has to itself, so that the clients of one cannot keep
    /// out those of all others; together a quarter of all at most. Key `kept_sessions`, default 16.
    pub sessions_kept: usize,
    /// Sessions beyond that for admin listeners, so that a full server still tells how it is.
    /// Key `reserved_sessions`, default 16.
    pub sessions_reserved: usize,
    /// Connections of all listeners at once from one IPv4 address or one IPv6 /64; those beyond are
    /// closed at once. `None` for no limit. Loopback is exempt: there all clients of this machine
    /// have one address. Key `max_connections_per_address` (0 for none), default 16,384, a quarter
    /// of `max_sessions` (of what is left of them, if the descriptors are not enough for all): no
    /// client alone can take all places, and none that has others behind it,
    /// a proxy or a whole network, is likely to need so many.
    pub connections_per_address_max: Option<NonZeroU32>,
    /// Connections accepted from one listener in one turn. Key `accept_batch`, default 64.
    pub accept_batch: usize,
    /// Connections that the kernel keeps for one listener until they are accepted; it caps the
    /// number at `net.core.somaxconn`. Key `backlog`, default 4,096.
    pub backlog: i32,
    /// Bytes that one session may move in one turn before the others get theirs: larger than a full
    /// socket buffer, in and out together. Key `turn_bytes`, default 4 MiB.
    pub turn_bytes: usize,
    /// Time that TLS handshakes may take of one turn before the others get theirs, to be exceeded
    /// by one signature: 0.1 ms with a key on P-256, 0.7 ms with one of RSA of 2,048 bits. Those
    /// that find it used wait, the clients in turn. Key `turn_handshake_time`, default 1 ms.
    pub turn_handshake_time: Duration,
    /// Work that one session, one datagram socket or the acceptance of connections may do in one
    /// turn before the others get theirs, by the estimates of [`crate::service::work`]. Key
    /// `turn_work`, default 1 ms.
    pub turn_work: Duration,
    /// The work of all of them in one turn: if it is not enough for all who wait, each gets its
    /// part, but 50 us. Key `max_turn_work`, default 4 ms.
    pub turn_work_max: Duration,
    /// Bytes of free pages that the pool keeps for later; the memory of those above goes back to the
    /// system at once. Half of it for large pages, half for the others. Key `max_pool_bytes`, default 128 MiB.
    pub pool_bytes_max: usize,
    /// Bytes of pages in use above which bulk transfers get ordinary pages instead of large ones.
    /// Key `max_large_page_bytes`, default 64 MiB.
    pub large_page_bytes_max: usize,
    /// Bytes of pages in use, and of what is counted like them, of all sessions together, above
    /// which a session gets room for an answer only once its last one was sent, and a body that is
    /// to be sent back is refused; each session may still hold a page or two. Key `max_page_bytes`,
    /// default 1 GiB.
    pub page_bytes_max: usize,
    /// Pipes through which tunnels and uploads pass bytes at once, without copying them: each takes
    /// two descriptors, and up to 1 MiB of the kernel's memory. Who gets none copies. Key
    /// `max_pipes`, default 128.
    pub pipes_max: usize,
    /// Bytes waiting to be sent on one side of a session, file ranges not counted; the protocol
    /// gets no room beyond. Key `max_send_queue_bytes`, default 256 KiB.
    pub send_queue_bytes_max: usize,
    /// A peer that is to take what is queued for it is looked at each time that so long has passed,
    /// and dropped if it took too little since. Key `write_timeout`, default 60 s.
    pub write_timeout: Duration,
    /// Bytes a second, on average over `write_timeout`, below which it is too little; `None`: one
    /// byte is enough. Key `min_write_rate` (0 for none), default 240.
    pub write_rate_min: Option<NonZeroU32>,
    /// Silence after which a closing session no longer reads and discards what still comes. Until
    /// then it does, so that the kernel does not answer late input with a reset that cuts our last
    /// bytes. Key `linger_timeout`, default 2 s.
    pub linger_timeout: Duration,
    /// Time for which it does so at most, whatever comes. A client that sends a body to its end
    /// before it looks for an answer needs as long as its line takes. Key `max_linger_time`,
    /// default 30 s.
    pub linger_time_max: Duration,
    /// Bytes that a closing session reads and discards at most. Key `max_linger_bytes`,
    /// default 1 GiB: what the buffers on the way hold must fit in any case.
    pub linger_bytes_max: usize,
    /// Time at the end of the process, after the last session, for what is still to be done on a
    /// disk: lines of logs, files to be stored or removed. What is left then is left. Key
    /// `last_jobs_timeout`, default 5 s.
    pub last_jobs_timeout: Duration,
    /// Batches of 64 datagrams taken from one socket in one turn. Key `datagram_batches`, default
    /// 4.
    pub datagram_batches_max: usize,
    /// Source addresses whose datagrams, or connections, a second are counted apart from one
    /// another, per listener; when the table is full, newcomers share one count. Key
    /// `max_rate_sources`, default 65,536.
    pub rate_sources_max: usize,
    /// The longest pause before a listener whose socket failed for good is opened again; pauses
    /// begin at 100 ms and double. Key `max_reopen_pause`, default 30 s.
    pub reopen_pause_max: Duration,
    /// Bytes of compressed forms in memory, those that are only being sent any more included; at 0
    /// nothing is compressed. Key `max_compressed_bytes`, default 64 MiB.
    pub compressed_bytes_max: usize,
    /// The start that an attempt to connect to one address of an origin has on the next one (RFC
    /// 8305 section 5). Key `connect_attempt_delay`, default 250 ms.
    pub connect_attempt_delay: Duration,
    /// Connections to origins that nobody uses, kept for whoever asks for the same origin next: to
    /// all of them, each a descriptor that is reserved; at 0 none is kept. Key
    /// `max_idle_upstreams`, default 512.
    pub idle_upstreams_max: usize,
    /// Of those, to one origin. Key `max_idle_upstreams_per_origin`, default 256.
    pub idle_upstreams_per_origin_max: usize,
    /// Time after which one is closed. Key `upstream_idle_timeout`, default 60 s.
    pub upstream_idle_timeout: Duration,
    /// Commands.
    pub hooks: HookLimits,
    /// Who looks inside.
    pub inside: InsideLimits,
    /// Jobs for the disk.
    pub disk: DiskLimits,
    /// Time for what is under way to finish after SIGTERM or SIGINT; what is left is cut. Key
    /// `drain_timeout` at the top of the file, default 10 s.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            sessions_max: 65_536,
            session_descriptors_max: usize::MAX,
            descriptors_reserved: 256,
            sessions_kept: 16,
            sessions_reserved: 16,
            connections_per_address_max: NonZeroU32::new(16_384),
            accept_batch: 64,
            backlog: 4096,
            turn_bytes: 4 * 1024 * 1024,
            turn_handshake_time: Duration::from_millis(1),
            turn_work: Duration::from_millis(1),
            turn_work_max: Duration::from_millis(4),
            pool_bytes_max: 128 * 1024 * 1024,
            large_page_bytes_max: 64 * 1024 * 1024,
            page_bytes_max: 1 << 30,
            pipes_max: 128,
            send_queue_bytes_max: 256 * 1024,
            write_timeout: Duration::from_secs(60),
            write_rate_min: NonZeroU32::new(240),
            linger_timeout: Duration::from_secs(2),
            linger_time_max: Duration::from_secs(30),
            linger_bytes_max: 1 << 30,
            last_jobs_timeout: Duration::from_secs(5),
            datagram_batches_max: 4,
            rate_sources_max: 65_536,
            compressed_bytes_max: 64 * 1024 * 1024,
            reopen_pause_max: Duration::from_secs(30),
            connect_attempt_delay: Duration::from_millis(250),
            idle_upstreams_max: 512,
            idle_upstreams_per_origin_max: 256,
            upstream_idle_timeout: Duration::from_secs(60),
            hooks: HookLimits::default(),
            inside: InsideLimits::default(),
            disk: DiskLimits::default(),
            drain_timeout: Duration::from_secs(10),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_engine_has_its_own_word() {
        for (word, engine) in DiskEngine::WORDS {
            assert_eq!(engine.word(), word);
        }
    }
}
