//! What a resolver can be told: whom it asks, how long it waits and how much it keeps.

use std::net::SocketAddr;
use std::time::Duration;

use super::answers::HOLD;

/// What the resolver asks, how long it waits and how much it keeps. [`Config::default`] has no name
/// servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The servers in the order in which they are asked. The one that answered last is asked first.
    pub nameservers: Vec<SocketAddr>,
    /// Domains to append to a name that does not end in a dot.
    pub search: Vec<String>,
    /// A name with at least this many dots is asked for as it is before the search list is tried.
    pub ndots: u32,
    /// How often one question is asked before it is given up, all servers taken together.
    pub attempts: u32,
    /// How long one try may take.
    pub attempt_timeout: Duration,
    /// How long a lookup may take, with all its tries and the whole search list.
    pub lookup_timeout: Duration,
    /// How long to wait for the second family of addresses once the first one is there
    /// (RFC 8305, section 3).
    pub second_family_delay: Duration,
    /// Answers kept, over and above those younger than [`HOLD`], which are as many again at most.
    pub cache_entries_max: usize,
    /// Names whose lookup is under way; beyond it lookups fail with
    /// [`Failure::Busy`](super::Failure::Busy). One client may have as many as are free: half of
    /// them while nobody else has any.
    pub lookups_max: usize,
    /// Waiters of one name; beyond it lookups fail with [`Failure::Busy`](super::Failure::Busy).
    /// They are shared among the clients in the same way.
    pub waiters_max: usize,
    /// Addresses are kept at least this long, whatever the zone says.
    pub ttl_min: Duration,
    /// Addresses are kept no longer than this, whatever the zone says.
    pub ttl_max: Duration,
    /// "No such name" and "no address" are kept no longer than this, whatever the zone says.
    pub negative_ttl_max: Duration,
    /// Time-outs and failures of servers are kept this long.
    pub failure_ttl: Duration,
    /// Addresses that have expired are used for at most so long where no server can say anything
    /// (RFC 8767, section 5: the maximum stale timer); zero for never.
    pub stale_max: Duration,
    /// How long the servers have to answer before addresses that have expired are given; the lookup
    /// goes on (the client response timer).
    pub stale_delay: Duration,
    /// How long such addresses are given at once after a lookup that failed, before the servers are
    /// asked again (the failure recheck timer, and the time to live that section 4 gives them).
    pub stale_ttl: Duration,
}

impl Config {
    /// Default of [`Config::ndots`], as in `resolv.conf(5)`.
    pub const NDOTS: u32 = 1;
    /// Default of [`Config::attempts`].
    pub const ATTEMPTS: u32 = 4;
    /// Default of [`Config::attempt_timeout`]. Answers take tens of milliseconds; a lost datagram
    /// should not cost the five seconds of the C library.
    pub const ATTEMPT_TIMEOUT: Duration = Duration::from_millis(1500);
    /// Default of [`Config::lookup_timeout`].
    pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
    /// Default of [`Config::second_family_delay`]: ten times what RFC 8305 proposes, since an
    /// answer that comes later is not added to the one that was given.
    pub const SECOND_FAMILY_DELAY: Duration = Duration::from_millis(500);
    /// Default of [`Config::cache_entries_max`]: about a megabyte.
    pub const CACHE_ENTRIES_MAX: usize = 4096;
    /// Default of [`Config::lookups_max`]. Each lookup takes two sockets.
    pub const LOOKUPS_MAX: usize = 1024;
    /// Default of [`Config::waiters_max`]: half of it is enough for the clients of a large proxy
    /// or network that has one address.
    pub const WAITERS_MAX: usize = 16_384;
    /// Default of [`Config::ttl_min`].
    pub const TTL_MIN: Duration = HOLD;
    /// Default of [`Config::ttl_max`].
    pub const TTL_MAX: Duration = Duration::from_secs(3600);
    /// Default of [`Config::negative_ttl_max`].
    pub const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(60);
    /// Default of [`Config::failure_ttl`]; RFC 9520, section 3.2 asks for one second at least.
    pub const FAILURE_TTL: Duration = Duration::from_secs(5);
    /// Default of [`Config::stale_max`]: RFC 8767, section 5 proposes one to three days.
    pub const STALE_MAX: Duration = Duration::from_secs(24 * 3600);
    /// Default of [`Config::stale_delay`], as RFC 8767, section 5 has it.
    pub const STALE_DELAY: Duration = Duration::from_millis(1800);
    /// Default of [`Config::stale_ttl`], as RFC 8767, sections 4 and 5 have it.
    pub const STALE_TTL: Duration = Duration::from_secs(30);
}

impl Default for Config {
    fn default() -> Self {
        Config {
            nameservers: Vec::new(),
            search: Vec::new(),
            ndots: Self::NDOTS,
            attempts: Self::ATTEMPTS,
            attempt_timeout: Self::ATTEMPT_TIMEOUT,
            lookup_timeout: Self::LOOKUP_TIMEOUT,
            second_family_delay: Self::SECOND_FAMILY_DELAY,
            cache_entries_max: Self::CACHE_ENTRIES_MAX,
            lookups_max: Self::LOOKUPS_MAX,
            waiters_max: Self::WAITERS_MAX,
            ttl_min: Self::TTL_MIN,
            ttl_max: Self::TTL_MAX,
            negative_ttl_max: Self::NEGATIVE_TTL_MAX,
            failure_ttl: Self::FAILURE_TTL,
            stale_max: Self::STALE_MAX,
            stale_delay: Self::STALE_DELAY,
            stale_ttl: Self::STALE_TTL,
        }
    }
}
