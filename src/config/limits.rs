//! How the limits of the whole process and those of the resolver are read: tables `[limits]`,
//! `[disk]` and `[resolver]`.
//!
//! A limit of one listener stands with its kind in [`super::kinds`].

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::section::{Section, string};
use crate::buffer::PAGE_BYTES;
use crate::dns;
use crate::limits::{DiskEngine, DiskLimits, Limits};

impl Limits {
    /// Reads table `[limits]`.
    pub(super) fn read(&mut self, section: &mut Section<'_>) {
        section.count("max_sessions", 1..=1 << 24, &mut self.sessions_max);
        let kept = &mut self.sessions_kept;
        section.count("kept_sessions", 0..=1 << 24, kept);
        let reserved = &mut self.descriptors_reserved;
        section.count("reserved_descriptors", 0..=1 << 24, reserved);
        let reserved = &mut self.sessions_reserved;
        section.count("reserved_sessions", 0..=65_536, reserved);
        let per_address = &mut self.connections_per_address_max;
        section.rate("max_connections_per_address", per_address);
        section.count("accept_batch", 1..=65_536, &mut self.accept_batch);
        let mut backlog = self.backlog.unsigned_abs() as usize;
        section.count("backlog", 1..=i32::MAX as usize, &mut backlog);
        self.backlog = i32::try_from(backlog).unwrap_or(i32::MAX);
        section.memory_size("turn_bytes", 4096..=1 << 30, &mut self.turn_bytes);
        section.timeout("turn_handshake_time", &mut self.turn_handshake_time);
        section.timeout("turn_work", &mut self.turn_work);
        section.timeout("max_turn_work", &mut self.turn_work_max);
        section.memory_size("max_pool_bytes", 0..=1 << 40, &mut self.pool_bytes_max);
        let large = &mut self.large_page_bytes_max;
        section.memory_size("max_large_page_bytes", 0..=1 << 40, large);
        section.memory_size(
            "max_page_bytes",
            PAGE_BYTES..=1 << 40,
            &mut self.page_bytes_max,
        );
        section.count("max_pipes", 0..=65_536, &mut self.pipes_max);
        let queue = &mut self.send_queue_bytes_max;
        section.memory_size("max_send_queue_bytes", PAGE_BYTES..=1 << 30, queue);
        section.timeout("write_timeout", &mut self.write_timeout);
        section.rate("min_write_rate", &mut self.write_rate_min);
        section.timeout("linger_timeout", &mut self.linger_timeout);
        section.timeout("max_linger_time", &mut self.linger_time_max);
        section.timeout("last_jobs_timeout", &mut self.last_jobs_timeout);
        section.memory_size("max_linger_bytes", 0..=1 << 40, &mut self.linger_bytes_max);
        let batches = &mut self.datagram_batches_max;
        section.count("datagram_batches", 1..=65_536, batches);
        section.count("max_rate_sources", 1..=1 << 24, &mut self.rate_sources_max);
        let compressed = &mut self.compressed_bytes_max;
        section.memory_size("max_compressed_bytes", 0..=1 << 40, compressed);
        section.timeout("max_reopen_pause", &mut self.reopen_pause_max);
        let delay = &mut self.connect_attempt_delay;
        section.timeout("connect_attempt_delay", delay);
        let idle = &mut self.idle_upstreams_max;
        section.count("max_idle_upstreams", 0..=1 << 20, idle);
        let idle = &mut self.idle_upstreams_per_origin_max;
        section.count("max_idle_upstreams_per_origin", 1..=1 << 20, idle);
        section.timeout("upstream_idle_timeout", &mut self.upstream_idle_timeout);
        section.count("max_hooks", 1..=1024, &mut self.hooks.running_max);
        let waiting = &mut self.hooks.waiting_max;
        section.count("max_waiting_hooks", 0..=1 << 20, waiting);
        section.timeout("hook_timeout", &mut self.hooks.timeout);
    }

    /// Reads table `[trace]`.
    pub(super) fn read_trace(&mut self, section: &mut Section<'_>) {
        let inside = &mut self.inside;
        section.memory_size("ring_bytes", 0..=1 << 30, &mut inside.ring_bytes);
        section.flag("always", &mut inside.ring_always);
        section.count("max_readers", 0..=1024, &mut inside.readers_max);
        section.timeout("max_time", &mut inside.time_max);
        section.count("max_listeners", 0..=1 << 16, &mut inside.listeners_max);
    }
}

impl DiskLimits {
    /// Reads table `[disk]`.
    pub(super) fn read(&mut self, section: &mut Section<'_>) {
        section.choice("engine", &DiskEngine::WORDS, &mut self.engine);
        section.count("max_jobs", 1..=1024, &mut self.jobs_max);
        self.jobs_per_disk_max = self.jobs_per_disk_max.min(self.jobs_max);
        section.count("max_jobs_per_disk", 1..=1024, &mut self.jobs_per_disk_max);
        let (of_one, all) = (self.jobs_per_disk_max, self.jobs_max);
        if of_one > all {
            let what = format!(
                "`max_jobs_per_disk` is {of_one}, and `max_jobs` {all}; expected at most as many"
            );
            section.problem(section.span("max_jobs_per_disk"), what);
        }
        let waiting = &mut self.waiting_per_disk_max;
        section.count("max_waiting_jobs_per_disk", 0..=1 << 24, waiting);
    }
}

/// How names are resolved: table `[resolver]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResolverConfig {
    /// Which servers are asked. Key `nameservers`, default those of `/etc/resolv.conf`.
    pub nameservers: Nameservers,
    /// The file of fixed names, in the format of hosts(5). Key `hosts`, default `/etc/hosts`.
    pub hosts: PathBuf,
    /// Silence of one server before the question is asked again; `None` for what resolv.conf says,
    /// or else the resolver's own. Key `query_timeout`, default none.
    pub query_timeout: Option<Duration>,
    /// How often a question is asked before giving up, all servers taken together; a name has two,
    /// for its IPv4 and for its IPv6 addresses. `None` for what resolv.conf says, or else the
    /// resolver's own. Key `attempts`, default none.
    pub attempts: Option<usize>,
    /// How often `hosts` and resolv.conf are looked at for changes while names are asked for, zero
    /// for never. Key `reread_interval`, default [`dns::Sources::REREAD_INTERVAL`].
    pub reread_interval: Duration,
    /// The rest, at the resolver's own defaults where the file says nothing: the keys
    /// `lookup_timeout`, `second_family_delay`, `max_lookups`, `max_waiters`, `max_cached_names`,
    /// `min_cached_time`, `max_cached_time`, `max_negative_time`, `failure_time`, `max_stale_time`,
    /// `stale_delay` and `stale_time`.
    pub settings: dns::Config,
}

impl Default for ResolverConfig {
    fn default() -> ResolverConfig {
        ResolverConfig {
            nameservers: Nameservers::System(PathBuf::from("/etc/resolv.conf")),
            hosts: PathBuf::from("/etc/hosts"),
            query_timeout: None,
            attempts: None,
            reread_interval: dns::Sources::REREAD_INTERVAL,
            settings: dns::Config::default(),
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
        section.duration("reread_interval", &mut self.reread_interval);
        let settings = &mut self.settings;
        let mut query_timeout = settings.attempt_timeout;
        section.timeout("query_timeout", &mut query_timeout);
        self.query_timeout = section.has("query_timeout").then_some(query_timeout);
        let mut attempts = settings.attempts as usize;
        section.count("attempts", 1..=100, &mut attempts);
        self.attempts = section.has("attempts").then_some(attempts);
        section.timeout("lookup_timeout", &mut settings.lookup_timeout);
        let delay = &mut settings.second_family_delay;
        section.duration("second_family_delay", delay);
        section.count("max_lookups", 1..=65_536, &mut settings.lookups_max);
        section.count("max_waiters", 1..=1 << 24, &mut settings.waiters_max);
        let names = &mut settings.cache_entries_max;
        section.count("max_cached_names", 0..=1 << 24, names);
        section.duration("min_cached_time", &mut settings.ttl_min);
        section.duration("max_cached_time", &mut settings.ttl_max);
        section.duration("max_negative_time", &mut settings.negative_ttl_max);
        section.duration("failure_time", &mut settings.failure_ttl);
        section.duration("max_stale_time", &mut settings.stale_max);
        section.duration("stale_delay", &mut settings.stale_delay);
        section.timeout("stale_time", &mut settings.stale_ttl);
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
