//! The limits of the whole process and of the resolver: table `[limits]` and table `[resolver]`.
//!
//! A limit of one listener stands with its kind in [`super::kinds`].

use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::path::PathBuf;
use std::time::Duration;

use super::section::{Section, string};
use crate::buffer::PAGE_BYTES;

/// The limits of the whole process: table `[limits]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Sessions of all listeners at once; at the limit the reactor stops accepting until one ends.
    /// Key `max_sessions`, default 65,536.
    pub sessions_max: usize,
    /// Sessions beyond that for admin listeners, so that a full server still tells how it is.
    /// Key `reserved_sessions`, default 16.
    pub sessions_reserved: usize,
    /// Connections accepted from one listener in one turn. Key `accept_batch`, default 64.
    pub accept_batch: usize,
    /// Connections that the kernel keeps for one listener until they are accepted; it caps the
    /// number at `net.core.somaxconn`. Key `backlog`, default 4,096.
    pub backlog: usize,
    /// Bytes that one session may move in one turn before the others get theirs: larger than a full
    /// socket buffer, in and out together. Key `turn_bytes`, default 4 MiB.
    pub turn_bytes: usize,
    /// Bytes of free pages that the pool keeps for later; what is above goes back to the system.
    /// Half of it for each class of page. Key `max_pool_bytes`, default 128 MiB.
    pub pool_bytes_max: usize,
    /// Bytes of pages in use above which bulk transfers get ordinary pages instead of large ones.
    /// Key `max_large_page_bytes`, default 64 MiB.
    pub large_page_bytes_max: usize,
    /// Bytes of pages in use, of all sessions together, above which a session gets room for an answer
    /// only once its last one was sent; each may still hold a page or two. Key `max_page_bytes`,
    /// default 1 GiB.
    pub page_bytes_max: usize,
    /// Bytes waiting to be sent on one side of a session, file ranges not counted; the protocol
    /// gets no room beyond. Key `max_send_queue_bytes`, default 256 KiB.
    pub send_queue_bytes_max: usize,
    /// A peer that is to take what is queued for it is looked at each time that so long has passed,
    /// and dropped if it took too little since. Key `write_timeout`, default 60 s.
    pub write_timeout: Duration,
    /// Bytes a second, on average over `write_timeout`, below which it is too little; `None`: one
    /// byte is enough. Key `min_write_rate` (0 for none), default 240.
    pub write_rate_min: Option<NonZeroU32>,
    /// Time for which a closing session still reads and discards, so that the kernel does not
    /// answer late input with a reset that cuts our last bytes. Key `linger_timeout`, default 2 s.
    pub linger_timeout: Duration,
    /// Bytes that a closing session reads and discards at most. Key `max_linger_bytes`,
    /// default 256 KiB.
    pub linger_bytes_max: usize,
    /// Batches of 64 datagrams taken from one socket in one turn. Key `datagram_batches`, default 4.
    pub datagram_batches_max: usize,
    /// Source addresses whose datagrams are counted apart from one another, per listener; when
    /// the table is full, newcomers share one count. Key `max_rate_sources`, default 65,536.
    pub rate_sources_max: usize,
    /// The longest pause before a listener whose socket failed for good is opened again; pauses begin
    /// at 100 ms and double. Key `max_reopen_pause`, default 30 s.
    pub reopen_pause_max: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            sessions_max: 65_536,
            sessions_reserved: 16,
            accept_batch: 64,
            backlog: 4096,
            turn_bytes: 4 * 1024 * 1024,
            pool_bytes_max: 128 * 1024 * 1024,
            large_page_bytes_max: 64 * 1024 * 1024,
            page_bytes_max: 1 << 30,
            send_queue_bytes_max: 256 * 1024,
            write_timeout: Duration::from_secs(60),
            write_rate_min: NonZeroU32::new(240),
            linger_timeout: Duration::from_secs(2),
            linger_bytes_max: 256 * 1024,
            datagram_batches_max: 4,
            rate_sources_max: 65_536,
            reopen_pause_max: Duration::from_secs(30),
        }
    }
}

impl Limits {
    /// Reads table `[limits]`.
    pub(super) fn read(&mut self, section: &mut Section<'_>) {
        section.count("max_sessions", 1..=1 << 24, &mut self.sessions_max);
        let reserved = &mut self.sessions_reserved;
        section.count("reserved_sessions", 0..=65_536, reserved);
        section.count("accept_batch", 1..=65_536, &mut self.accept_batch);
        section.count("backlog", 1..=i32::MAX as usize, &mut self.backlog);
        section.memory_size("turn_bytes", 4096..=1 << 30, &mut self.turn_bytes);
        section.memory_size("max_pool_bytes", 0..=1 << 40, &mut self.pool_bytes_max);
        let large = &mut self.large_page_bytes_max;
        section.memory_size("max_large_page_bytes", 0..=1 << 40, large);
        section.memory_size(
            "max_page_bytes",
            PAGE_BYTES..=1 << 40,
            &mut self.page_bytes_max,
        );
        let queue = &mut self.send_queue_bytes_max;
        section.memory_size("max_send_queue_bytes", PAGE_BYTES..=1 << 30, queue);
        section.timeout("write_timeout", &mut self.write_timeout);
        section.rate("min_write_rate", &mut self.write_rate_min);
        section.timeout("linger_timeout", &mut self.linger_timeout);
        section.memory_size("max_linger_bytes", 0..=1 << 40, &mut self.linger_bytes_max);
        let batches = &mut self.datagram_batches_max;
        section.count("datagram_batches", 1..=65_536, batches);
        section.count("max_rate_sources", 1..=1 << 24, &mut self.rate_sources_max);
        section.timeout("max_reopen_pause", &mut self.reopen_pause_max);
    }
}

/// Silence of one name server before the question is asked again, unless the configuration or resolv.conf says otherwise.
pub const QUERY_TIMEOUT: Duration = Duration::from_millis(1500);

/// How often a question is asked before giving up, unless the configuration or resolv.conf says otherwise.
pub const ATTEMPTS: usize = 4;

/// How names are resolved: table `[resolver]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverConfig {
    /// Which servers are asked. Key `nameservers`, default those of `/etc/resolv.conf`.
    pub nameservers: Nameservers,
    /// The file of fixed names, in the format of hosts(5). Key `hosts`, default `/etc/hosts`.
    pub hosts: PathBuf,
    /// Silence of one server before the question is asked again; `None` for what resolv.conf says, or else
    /// [`QUERY_TIMEOUT`]. Key `query_timeout`, default none.
    pub query_timeout: Option<Duration>,
    /// How often a question is asked before giving up, all servers taken together; a name has two, for its IPv4 and for its
    /// IPv6 addresses. `None` for what resolv.conf says, or else [`ATTEMPTS`]. Key `attempts`, default none.
    pub attempts: Option<usize>,
    /// How long finding the addresses of a name may take, with all its questions and the whole search list of resolv.conf.
    /// Key `lookup_timeout`, default 10 s.
    pub lookup_timeout: Duration,
    /// How long the second of a name's two answers is awaited once the first has addresses.
    /// Key `second_family_delay`, default 500 ms.
    pub second_family_delay: Duration,
    /// Names being resolved at once; more are refused. Key `max_lookups`, default 1,024.
    pub lookups_max: usize,
    /// Sessions that wait for one name; more are refused. Key `max_waiters`, default 1,024.
    pub waiters_max: usize,
    /// Names whose answers are remembered. Key `max_cached_names`, default 4,096.
    pub cached_names_max: usize,
    /// Time for which addresses are remembered at least, whatever shorter time the zone allows: at least a second,
    /// and no longer than `max_cached_time`. Key `min_cached_time`, default 1 s.
    pub cached_time_min: Duration,
    /// Time for which addresses are remembered at most, whatever longer time the zone allows.
    /// Key `max_cached_time`, default 1 h.
    pub cached_time_max: Duration,
    /// Time for which it is remembered at most that a name does not exist or has no address, whatever longer time the zone
    /// allows. Key `max_negative_time`, default 60 s.
    pub negative_time_max: Duration,
    /// Time for which it is remembered that no server answered, or that they failed. Key `failure_time`, default 5 s.
    pub failure_time: Duration,
}

impl Default for ResolverConfig {
    fn default() -> ResolverConfig {
        ResolverConfig {
            nameservers: Nameservers::System(PathBuf::from("/etc/resolv.conf")),
            hosts: PathBuf::from("/etc/hosts"),
            query_timeout: None,
            attempts: None,
            lookup_timeout: Duration::from_secs(10),
            second_family_delay: Duration::from_millis(500),
            lookups_max: 1024,
            waiters_max: 1024,
            cached_names_max: 4096,
            cached_time_min: Duration::from_secs(1),
            cached_time_max: Duration::from_secs(60 * 60),
            negative_time_max: Duration::from_secs(60),
            failure_time: Duration::from_secs(5),
        }
    }
}

impl ResolverConfig {
    /// Reads table `[resolver]`.
    pub(super) fn read(&mut self, section: &mut Section<'_>) {
        let server = r#"the address of a name server such as "127.0.0.1:53" or "::1""#;
        let listed = section.list("nameservers", server, |value| {
            let text = string(value)?;
            let without_port = || {
                text.parse::<IpAddr>()
                    .ok()
                    .map(|ip| SocketAddr::new(ip, 53))
            };
            let address = text.parse::<SocketAddr>().ok().or_else(without_port);
            address
                .filter(|address| address.port() != 0)
                .ok_or_else(|| format!("is {text:?}"))
        });
        match listed {
            Some(servers) if servers.is_empty() => {
                let span = section.span("nameservers");
                section.problem(span, format!("`nameservers` is empty; expected {server}"));
            }
            Some(servers) => self.nameservers = Nameservers::Listed(servers),
            None => {}
        }
        if let Some(path) = section.path("hosts") {
            self.hosts = path;
        }
        let mut query_timeout = QUERY_TIMEOUT;
        section.timeout("query_timeout", &mut query_timeout);
        self.query_timeout = section.has("query_timeout").then_some(query_timeout);
        let mut attempts = ATTEMPTS;
        section.count("attempts", 1..=100, &mut attempts);
        self.attempts = section.has("attempts").then_some(attempts);
        section.timeout("lookup_timeout", &mut self.lookup_timeout);
        section.duration("second_family_delay", &mut self.second_family_delay);
        section.count("max_lookups", 1..=65_536, &mut self.lookups_max);
        section.count("max_waiters", 1..=1 << 24, &mut self.waiters_max);
        section.count("max_cached_names", 0..=1 << 24, &mut self.cached_names_max);
        section.duration("min_cached_time", &mut self.cached_time_min);
        section.duration("max_cached_time", &mut self.cached_time_max);
        section.duration("max_negative_time", &mut self.negative_time_max);
        section.duration("failure_time", &mut self.failure_time);
    }
}

/// Which name servers are asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nameservers {
    /// Those of this file, in the format of resolv.conf(5).
    System(PathBuf),
    /// These, in this order; never empty.
    Listed(Vec<SocketAddr>),
}
