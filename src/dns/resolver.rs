//! The resolver: who asked for which name, what was asked of whom, what is known for how long.
//!
//! Three rules:
//! 1. [`Resolver::lookup`] is asked again until it answers. All who ask for one name share one lookup and
//!    are woken together; the answer then stays for at least [`HOLD`], whatever its time to live, so that
//!    each of them finds it.
//! 2. Every try is a query with an id of its own, meant for a socket of its own, and is told to the caller
//!    twice: once to be sent ([`Resolver::poll_transmit`]), once to be forgotten
//!    ([`Resolver::poll_finished`]). A late answer to a forgotten query finds nobody.
//! 3. Failures are kept as well: "no" for as long as the zone allows (RFC 2308), silence and server
//!    failures for a short while (RFC 9520), so that a dead server is not asked at every request.
//!
//! A name:
//! ```text
//!            lookup                both questions settled
//!  unknown ---------> under way -------------------------> known --(expired, evicted)--> unknown
//!                      |    ^                              waiters woken
//!                      +----+ no address under this name, or nobody could say: the next of the search list
//! ```
//! Each of a lookup's two questions (A and AAAA, asked at once):
//! ```text
//!            an answer                               addresses, or that there are none
//!  asking --------------------------------------------------------------------------> settled
//!   |  ^  TC bit: again, over TCP                                                        ^
//!   |  |  not understood: again, without EDNS                                            |
//!   +--+  silence, failure, unreachable: the next server, while tries and time are left -+
//! ```
//! Once one family has addresses, the other has [`Config::second_family_delay`] left to answer.
//!
//! The search list is walked to its end, the name itself included, also past a name that nobody could
//! say anything about: a broken zone in the list must not hide the names behind it. Each name has its
//! share of the time that is left. If none has an address, a failure outweighs a "no".
//!
//! RFC 1034 and 1035 (messages), 2308 and 9520 (failures kept), 6891 (EDNS), 7766 (TCP), 8305 (two
//! families). Deliberately not here: sockets, the files, and the order in which addresses are tried.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::message::{self, Family, Verdict};
use super::name::{self, Target};
use super::{Addresses, Failure, Hosts, interleave};

/// Every answer is kept at least this long, so that those who wait for it can read it.
pub const HOLD: Duration = Duration::from_secs(1);

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
    /// Answers kept, over and above those younger than [`HOLD`].
    pub cache_entries_max: usize,
    /// Names whose lookup is under way or was answered less than [`HOLD`] ago; beyond it lookups fail with
    /// [`Failure::Busy`].
    pub lookups_max: usize,
    /// Waiters of one name; beyond it lookups fail with [`Failure::Busy`].
    pub waiters_max: usize,
    /// Addresses are kept at least this long, whatever the zone says.
    pub ttl_min: Duration,
    /// Addresses are kept no longer than this, whatever the zone says.
    pub ttl_max: Duration,
    /// "No such name" and "no address" are kept no longer than this, whatever the zone says.
    pub negative_ttl_max: Duration,
    /// Time-outs and failures of servers are kept this long.
    pub failure_ttl: Duration,
}

impl Config {
    /// Default of [`Config::ndots`], as in `resolv.conf(5)`.
    pub const NDOTS: u32 = 1;
    /// Default of [`Config::attempts`].
    pub const ATTEMPTS: u32 = 4;
    /// Default of [`Config::attempt_timeout`]. Answers take tens of milliseconds; a lost datagram should not
    /// cost the five seconds of the C library.
    pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(1);
    /// Default of [`Config::lookup_timeout`].
    pub const LOOKUP_TIMEOUT: Duration = Duration::from_secs(10);
    /// Default of [`Config::second_family_delay`]: ten times what RFC 8305 proposes, since an answer that
    /// comes later is not added to the one that was given.
    pub const SECOND_FAMILY_DELAY: Duration = Duration::from_millis(500);
    /// Default of [`Config::cache_entries_max`]: about a megabyte.
    pub const CACHE_ENTRIES_MAX: usize = 4096;
    /// Default of [`Config::lookups_max`]. Each lookup takes two sockets.
    pub const LOOKUPS_MAX: usize = 1024;
    /// Default of [`Config::waiters_max`].
    pub const WAITERS_MAX: usize = 1024;
    /// Default of [`Config::ttl_min`].
    pub const TTL_MIN: Duration = HOLD;
    /// Default of [`Config::ttl_max`].
    pub const TTL_MAX: Duration = Duration::from_secs(3600);
    /// Default of [`Config::negative_ttl_max`].
    pub const NEGATIVE_TTL_MAX: Duration = Duration::from_secs(60);
    /// Default of [`Config::failure_ttl`]; RFC 9520, section 3.2 asks for one second at least.
    pub const FAILURE_TTL: Duration = Duration::from_secs(5);
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
        }
    }
}

/// Names one try of one question; never used twice by one resolver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QueryId(u64);

/// How a query travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One datagram from a fresh socket.
    Udp,
    /// A fresh connection, to which the bytes are written once it is open.
    Tcp,
}

/// A query to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transmit {
    /// The name of this try, for [`Resolver::receive`] and [`Resolver::failed`].
    pub query: QueryId,
    /// The server to send it to.
    pub to: SocketAddr,
    /// How to send it.
    pub transport: Transport,
    /// What to send: for TCP with its two octets of length in front.
    pub bytes: Vec<u8>,
}

/// What happened so far; every number only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Lookups started.
    pub lookups: u64,
    /// Answers given from the cache.
    pub hits: u64,
    /// Queries handed out, tries repeated included.
    pub queries: u64,
    /// Tries that ended in silence.
    pub timeouts: u64,
    /// Messages that were no answer to the query that they came for.
    pub lies: u64,
    /// Lookups refused because of a limit.
    pub refused: u64,
    /// Answers thrown out before their time for want of room.
    pub evicted: u64,
}

/// The state machine. `W` names whoever waits: a small id that may be stale by the time it is woken.
#[derive(Debug)]
pub struct Resolver<W> {
    config: Config,
    hosts: Hosts,
    seed: [u8; 32],
    next_query: u64,
    /// The index of the server that answered last.
    preferred: usize,
    /// Every name that is under way or known, as it was asked for.
    names: BTreeMap<Rc<str>, Entry<W>>,
    /// Known names in the order in which their hold ends; none of them is evicted.
    young: VecDeque<(Instant, Rc<str>)>,
    /// The other known names in the order in which they expire.
    old: BTreeSet<(Instant, Rc<str>)>,
    queries: BTreeMap<QueryId, Query>,
    deadlines: BTreeSet<(Instant, QueryId)>,
    outbox: VecDeque<Transmit>,
    finished: VecDeque<QueryId>,
    woken: VecDeque<W>,
    counters: Counters,
}

#[derive(Debug)]
enum Entry<W> {
    UnderWay(Lookup<W>),
    Known {
        answer: Result<Addresses, Failure>,
        expires: Instant,
    },
}

#[derive(Debug)]
struct Lookup<W> {
    waiters: Vec<W>,
    /// The names still to be tried, the present one first.
    candidates: VecDeque<String>,
    /// When to give up.
    until: Instant,
    /// When to give up the present candidate.
    candidate_until: Instant,
    v4: Question,
    v6: Question,
    /// Why the earlier candidates have no address; `None` before the first one is through.
    nothing: Option<Nothing>,
}

/// Why there is no address, and how long that holds.
#[derive(Debug, Clone, Copy)]
struct Nothing {
    failure: Failure,
    ttl: Duration,
}

impl Nothing {
    /// What two answers without an address come to: the first of the two that weighs most, for as long
    /// as both hold. A server's failure outweighs a "no", which may then be wrong; a name without
    /// addresses outweighs one that does not exist.
    fn and(self, other: Nothing) -> Nothing {
        let weight = |nothing: &Nothing| match nothing.failure {
            Failure::NotFound => 0,
            Failure::NoAddress => 1,
            _ => 2,
        };
        let heavier = if weight(&other) > weight(&self) {
            other
        } else {
            self
        };
        Nothing {
            failure: heavier.failure,
            ttl: self.ttl.min(other.ttl),
        }
    }
}

#[derive(Debug)]
enum Question {
    /// About to be asked.
    Due,
    /// The try under way.
    Asking(QueryId),
    Settled(Outcome),
}

/// How a question ended.
#[derive(Debug, Clone)]
enum Outcome {
    /// At least one address.
    Found {
        addresses: Vec<IpAddr>,
        ttl: Duration,
    },
    /// The name has none, or nobody could say.
    Nothing(Nothing),
}

impl Outcome {
    /// What the answers for both families come to. A family of which nobody could say anything does not
    /// stand in the way of the other one, and may be back as soon as its failure is forgotten.
    fn and(self, other: Outcome) -> Outcome {
        match (self, other) {
            (
                Outcome::Found { mut addresses, ttl },
                Outcome::Found {
                    addresses: more,
                    ttl: other,
                },
            ) => {
                addresses.extend(more);
                let ttl = ttl.min(other);
                Outcome::Found { addresses, ttl }
            }
            (Outcome::Found { addresses, ttl }, Outcome::Nothing(nothing))
            | (Outcome::Nothing(nothing), Outcome::Found { addresses, ttl }) => {
                let ttl = match nothing.failure {
                    Failure::NotFound | Failure::NoAddress => ttl,
                    _ => ttl.min(nothing.ttl),
                };
                Outcome::Found { addresses, ttl }
            }
            (Outcome::Nothing(nothing), Outcome::Nothing(other)) => {
                Outcome::Nothing(nothing.and(other))
            }
        }
    }
}

/// One try under way.
#[derive(Debug)]
struct Query {
    attempt: Attempt,
    to: SocketAddr,
    sent: Vec<u8>,
    deadline: Instant,
}

/// What is to be tried: handed on from try to try.
#[derive(Debug, Clone)]
struct Attempt {
    /// The key of the lookup in [`Resolver::names`].
    key: Rc<str>,
    /// The absolute name asked for.
    name: Rc<str>,
    family: Family,
    /// The index of the server.
    server: usize,
    /// Servers tried before this one, repetitions included.
    tries: u32,
    edns: bool,
    transport: Transport,
    /// What a truncated answer held: better than nothing if TCP brings no more.
    partial: Option<(Vec<IpAddr>, Duration)>,
}

impl<W: Copy + Eq> Resolver<W> {
    /// A resolver that knows nothing yet. `seed` is 32 bytes of the system's randomness: the ids of the
    /// queries are drawn from it, and cannot be foreseen by who does not know it.
    pub fn new(config: Config, hosts: Hosts, seed: [u8; 32]) -> Self {
        Resolver {
            config,
            hosts,
            seed,
            next_query: 0,
            preferred: 0,
            names: BTreeMap::new(),
            young: VecDeque::new(),
            old: BTreeSet::new(),
            queries: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            outbox: VecDeque::new(),
            finished: VecDeque::new(),
            woken: VecDeque::new(),
            counters: Counters::default(),
        }
    }

    /// Takes a new configuration and hosts file: what is known is forgotten, lookups under way go on.
    pub fn reload(&mut self, config: Config, hosts: Hosts) {
        for (_, key) in std::mem::take(&mut self.old) {
            self.names.remove(&key);
        }
        for (held_until, key) in &self.young {
            if let Some(Entry::Known { expires, .. }) = self.names.get_mut(key) {
                *expires = *held_until;
            }
        }
        self.preferred = 0;
        self.config = config;
        self.hosts = hosts;
    }

    /// The addresses of `name`, if they are known now; otherwise remembers `waiter`, which is woken through
    /// [`Resolver::poll_woken`] and then asks again. Asking again meanwhile is harmless.
    ///
    /// Literal addresses (IPv6 with or without brackets, IPv4 in every spelling of `inet_aton(3)`), names of
    /// the hosts file, `localhost` and whatever is under it, and cached answers are answered at once.
    ///
    /// # Errors
    /// Every [`Failure`]; [`Failure::BadName`], [`Failure::Busy`] and [`Failure::NoNameserver`] are told at
    /// once and not kept.
    pub fn lookup(
        &mut self,
        name: &str,
        waiter: W,
        now: Instant,
    ) -> Poll<Result<Addresses, Failure>> {
        let name = match name::parse(name) {
            None => return Poll::Ready(Err(Failure::BadName)),
            Some(Target::Address(address)) => return Poll::Ready(Ok([address].into())),
            Some(Target::Name(name)) => name,
        };
        if let Some(answer) = self.hosts.answer(&name) {
            return Poll::Ready(answer);
        }
        self.end_holds(now);
        match self.names.get_mut(name.as_str()) {
            Some(Entry::Known { answer, expires }) if *expires > now => {
                self.counters.hits += 1;
                Poll::Ready(answer.clone())
            }
            Some(Entry::UnderWay(lookup)) if lookup.waiters.contains(&waiter) => Poll::Pending,
            Some(Entry::UnderWay(lookup)) if lookup.waiters.len() < self.config.waiters_max => {
                lookup.waiters.push(waiter);
                Poll::Pending
            }
            Some(Entry::UnderWay(_)) => self.refuse(),
            Some(Entry::Known { .. }) | None => self.start(name, waiter, now),
        }
    }

    /// The next query to be sent, each from a socket of its own. What the socket then receives goes to
    /// [`Resolver::receive`]; if it cannot be opened, or reports an error, or the connection ends without a
    /// whole message, call [`Resolver::failed`].
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        // A query may have ended, through `advance`, before it was fetched.
        while let Some(transmit) = self.outbox.pop_front() {
            if self.queries.contains_key(&transmit.query) {
                return Some(transmit);
            }
        }
        None
    }

    /// The next query whose socket may be closed. A query that was never fetched from
    /// [`Resolver::poll_transmit`] may be among them.
    pub fn poll_finished(&mut self) -> Option<QueryId> {
        self.finished.pop_front()
    }

    /// The next waiter that should ask again.
    pub fn poll_woken(&mut self) -> Option<W> {
        self.woken.pop_front()
    }

    /// When [`Resolver::advance`] has something to do, unless an answer comes first.
    pub fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Names whose lookup is under way.
    pub fn lookups_under_way(&self) -> usize {
        self.names.len() - self.young.len() - self.old.len()
    }

    /// Names whose answer is kept, expired ones that nobody asked for again included.
    pub fn cached(&self) -> usize {
        self.young.len() + self.old.len()
    }

    /// Ends every try whose time is up.
    pub fn advance(&mut self, now: Instant) {
        self.end_holds(now);
        while let Some(&(deadline, id)) = self.deadlines.first() {
            if deadline > now {
                return;
            }
            self.counters.timeouts += 1;
            if let Some(query) = self.end_query(id) {
                self.try_next(query.attempt, Failure::Timeout, now);
            }
        }
    }

    /// The socket of `query` cannot be used, or ended without an answer.
    pub fn failed(&mut self, query: QueryId, now: Instant) {
        if let Some(query) = self.end_query(query) {
            self.try_next(query.attempt, Failure::Unreachable, now);
        }
    }

    /// A message came on the socket of `query`: a datagram, or of a connection one whole message (see
    /// [`super::stream_message`]). Whatever its bytes are, nothing worse happens than that they are ignored;
    /// the query then goes on waiting.
    pub fn receive(&mut self, query: QueryId, from: SocketAddr, bytes: &[u8], now: Instant) {
        let Some(asked) = self.queries.get(&query) else {
            return;
        };
        let attempt = &asked.attempt;
        let whole = attempt.transport == Transport::Tcp;
        let verdict = if (from.ip(), from.port()) == (asked.to.ip(), asked.to.port()) {
            message::judge(&asked.sent, &attempt.name, attempt.family, bytes, whole)
        } else {
            Verdict::Lie
        };
        if verdict == Verdict::Lie {
            self.counters.lies += 1;
            return;
        }
        // Invariant: the query was found above.
        let Some(Query { mut attempt, .. }) = self.end_query(query) else {
            return;
        };
        let outcome = match verdict {
            Verdict::Lie => return,
            Verdict::Truncated { addresses, ttl } => {
                if !addresses.is_empty() {
                    attempt.partial = Some((addresses, self.positive_ttl(ttl)));
                }
                attempt.transport = Transport::Tcp;
                return self.ask(attempt, now, Failure::Truncated);
            }
            Verdict::NotUnderstood if attempt.edns => {
                attempt.edns = false;
                return self.ask(attempt, now, Failure::ServerFailure);
            }
            Verdict::NotUnderstood | Verdict::ServerFailure => {
                return self.try_next(attempt, Failure::ServerFailure, now);
            }
            Verdict::Found { addresses, ttl } => {
                let ttl = self.positive_ttl(ttl);
                Outcome::Found { addresses, ttl }
            }
            Verdict::NoAddress { ttl } => self.no(Failure::NoAddress, ttl),
            Verdict::NotFound { ttl } => self.no(Failure::NotFound, ttl),
        };
        self.preferred = attempt.server;
        self.settle(&attempt, outcome, now);
    }

    fn refuse(&mut self) -> Poll<Result<Addresses, Failure>> {
        self.counters.refused += 1;
        Poll::Ready(Err(Failure::Busy))
    }

    /// Starts the lookup of a name that is not known, or not any more.
    fn start(&mut self, name: String, waiter: W, now: Instant) -> Poll<Result<Addresses, Failure>> {
        if self.config.nameservers.is_empty() {
            return Poll::Ready(Err(Failure::NoNameserver));
        }
        if self.lookups_under_way() + self.young.len() >= self.config.lookups_max {
            return self.refuse();
        }
        if let Some((key, Entry::Known { expires, .. })) = self.names.remove_entry(name.as_str()) {
            // It has expired, so it is not young.
            self.old.remove(&(expires, key));
        }
        self.counters.lookups += 1;
        let candidates = name::candidates(&name, &self.config.search, self.config.ndots);
        let key: Rc<str> = name.into();
        let lookup = Lookup {
            waiters: vec![waiter],
            candidates: candidates.into(),
            until: now + self.config.lookup_timeout,
            candidate_until: now,
            v4: Question::Due,
            v6: Question::Due,
            nothing: None,
        };
        self.names.insert(key.clone(), Entry::UnderWay(lookup));
        self.ask_candidate(&key, now);
        Poll::Pending
    }

    /// Asks both questions about the first candidate of a lookup.
    fn ask_candidate(&mut self, key: &Rc<str>, now: Instant) {
        let Some(Entry::UnderWay(lookup)) = self.names.get_mut(key) else {
            return;
        };
        lookup.v4 = Question::Due;
        lookup.v6 = Question::Due;
        // Servers that are silent about one name leave time for those behind it.
        let left = lookup.until.saturating_duration_since(now);
        lookup.candidate_until = now + left / lookup.candidates.len() as u32;
        // Invariant: a lookup has a candidate until it is concluded.
        let name: Rc<str> = lookup.candidates[0].as_str().into();
        for family in [Family::V6, Family::V4] {
            let attempt = Attempt {
                key: key.clone(),
                name: name.clone(),
                family,
                server: self.preferred,
                tries: 0,
                edns: true,
                transport: Transport::Udp,
                partial: None,
            };
            self.ask(attempt, now, Failure::Timeout);
        }
    }

    /// Makes a try, unless the candidate's time is up: then its question ends, because of `cause`.
    fn ask(&mut self, mut attempt: Attempt, now: Instant, cause: Failure) {
        let Some(Entry::UnderWay(lookup)) = self.names.get_mut(&attempt.key) else {
            return;
        };
        let deadline = lookup
            .candidate_until
            .min(now + self.config.attempt_timeout);
        let servers = &self.config.nameservers;
        if deadline <= now || servers.is_empty() {
            return self.give_up(attempt, cause, now);
        }
        // A reload may have left fewer servers.
        attempt.server %= servers.len();
        let to = servers[attempt.server];
        let id = QueryId(self.next_query);
        self.next_query += 1;
        match attempt.family {
            Family::V4 => lookup.v4 = Question::Asking(id),
            Family::V6 => lookup.v6 = Question::Asking(id),
        }
        let message_id = message_id(&self.seed, id);
        let sent = message::query(message_id, &attempt.name, attempt.family, attempt.edns);
        let bytes = match attempt.transport {
            Transport::Udp => sent.clone(),
            // Invariant: a query is a few hundred bytes at most.
            Transport::Tcp => [&(sent.len() as u16).to_be_bytes()[..], &sent].concat(),
        };
        self.counters.queries += 1;
        self.outbox.push_back(Transmit {
            query: id,
            to,
            transport: attempt.transport,
            bytes,
        });
        self.deadlines.insert((deadline, id));
        self.queries.insert(
            id,
            Query {
                attempt,
                to,
                sent,
                deadline,
            },
        );
    }

    /// Asks the next server, or gives up if enough were asked. From the second round on the
    /// queries are plain: what swallows EDNS would swallow it again.
    fn try_next(&mut self, mut attempt: Attempt, cause: Failure, now: Instant) {
        let servers = self.config.nameservers.len() as u32;
        let was_tcp = attempt.transport == Transport::Tcp;
        attempt.tries += 1;
        let cause = if was_tcp { Failure::Truncated } else { cause };
        if attempt.tries >= self.config.attempts {
            return self.give_up(attempt, cause, now);
        }
        attempt.server += 1;
        attempt.edns &= attempt.tries < servers;
        attempt.transport = Transport::Udp;
        self.ask(attempt, now, cause);
    }

    /// Settles a question with what is there: a truncated answer, or the reason of the failure.
    fn give_up(&mut self, mut attempt: Attempt, cause: Failure, now: Instant) {
        let outcome = match attempt.partial.take() {
            Some((addresses, ttl)) => Outcome::Found { addresses, ttl },
            None => Outcome::Nothing(Nothing {
                failure: cause,
                ttl: match cause {
                    // Found out without a server, and thus as cheap to find out again.
                    Failure::Unreachable => HOLD,
                    _ => self.config.failure_ttl,
                },
            }),
        };
        self.settle(&attempt, outcome, now);
    }

    /// Takes a query off the lists; its socket may be closed.
    fn end_query(&mut self, id: QueryId) -> Option<Query> {
        let query = self.queries.remove(&id)?;
        self.deadlines.remove(&(query.deadline, id));
        self.finished.push_back(id);
        Some(query)
    }

    /// One of a lookup's two questions is answered.
    fn settle(&mut self, attempt: &Attempt, outcome: Outcome, now: Instant) {
        let Some(Entry::UnderWay(lookup)) = self.names.get_mut(&attempt.key) else {
            return;
        };
        let found = matches!(outcome, Outcome::Found { .. });
        let (question, other) = match attempt.family {
            Family::V4 => (&mut lookup.v4, &lookup.v6),
            Family::V6 => (&mut lookup.v6, &lookup.v4),
        };
        *question = Question::Settled(outcome);
        match other {
            Question::Settled(_) => self.conclude(&attempt.key, now),
            Question::Asking(id) if found => {
                let until = lookup
                    .candidate_until
                    .min(now + self.config.second_family_delay);
                lookup.candidate_until = until;
                if let Some(query) = self.queries.get_mut(id)
                    && query.deadline > until
                {
                    self.deadlines.remove(&(query.deadline, *id));
                    self.deadlines.insert((until, *id));
                    query.deadline = until;
                }
            }
            Question::Asking(_) | Question::Due => {}
        }
    }

    /// Both questions are settled: keeps the answer and wakes the waiters, or goes on to the next candidate.
    fn conclude(&mut self, key: &Rc<str>, now: Instant) {
        let Some(Entry::UnderWay(lookup)) = self.names.get_mut(key) else {
            return;
        };
        let (Question::Settled(v4), Question::Settled(v6)) = (&lookup.v4, &lookup.v6) else {
            return;
        };
        let (answer, ttl) = match v6.clone().and(v4.clone()) {
            Outcome::Found { addresses, ttl } => (Ok(interleave(addresses)), ttl),
            Outcome::Nothing(nothing) => {
                let before = lookup.nothing.take();
                let nothing = before.map_or(nothing, |before| before.and(nothing));
                lookup.nothing = Some(nothing);
                lookup.candidates.pop_front();
                // A reload may have left no server at all.
                let can_go_on = now < lookup.until && !self.config.nameservers.is_empty();
                if can_go_on && !lookup.candidates.is_empty() {
                    return self.ask_candidate(key, now);
                }
                (Err(nothing.failure), nothing.ttl)
            }
        };
        self.woken.extend(lookup.waiters.drain(..));
        let known = Entry::Known {
            answer,
            expires: now + ttl.max(HOLD),
        };
        self.names.insert(key.clone(), known);
        self.young.push_back((now + HOLD, key.clone()));
    }

    /// Answers that were held long enough may be evicted from now on.
    fn end_holds(&mut self, now: Instant) {
        while let Some((held_until, _)) = self.young.front()
            && *held_until <= now
            && let Some((_, key)) = self.young.pop_front()
        {
            if let Some(Entry::Known { expires, .. }) = self.names.get(&key) {
                self.old.insert((*expires, key));
            }
        }
        while self.old.len() > self.config.cache_entries_max
            && let Some((expires, key)) = self.old.pop_first()
        {
            self.names.remove(&key);
            self.counters.evicted += u64::from(expires > now);
        }
    }

    fn positive_ttl(&self, seconds: u32) -> Duration {
        Duration::from_secs(seconds.into())
            .max(self.config.ttl_min)
            .min(self.config.ttl_max)
    }

    /// A "no" without the zone's word on how long it holds is not kept beyond the hold (RFC 2308,
    /// section 5).
    fn no(&self, failure: Failure, seconds: Option<u32>) -> Outcome {
        let ttl = Duration::from_secs(seconds.unwrap_or(0).into());
        Outcome::Nothing(Nothing {
            failure,
            ttl: ttl.min(self.config.negative_ttl_max),
        })
    }
}

/// The id on the wire: 16 bits of a keyed hash of the query's number.
fn message_id(seed: &[u8; 32], id: QueryId) -> u16 {
    let hash = Sha256::new()
        .chain_update(seed)
        .chain_update(id.0.to_be_bytes())
        .finalize();
    u16::from_be_bytes([hash[0], hash[1]])
}

#[cfg(test)]
mod tests {
    use super::super::message::forge;
    use super::*;
    use proptest::prelude::*;
    use simple_dns::RCODE;

    const SECOND: Duration = Duration::from_secs(1);

    /// A resolver, a clock, and the queries that are on their way to the servers.
    struct Bench {
        resolver: Resolver<u32>,
        now: Instant,
        queries: Vec<Transmit>,
    }

    fn config() -> Config {
        Config {
            nameservers: vec![server(1), server(2)],
            ..Config::default()
        }
    }

    fn server(n: u8) -> SocketAddr {
        ([10, 0, 0, n], 53).into()
    }

    type Answer = Poll<Result<Vec<String>, Failure>>;

    fn ready(addresses: &[&str]) -> Answer {
        Poll::Ready(Ok(addresses.iter().map(ToString::to_string).collect()))
    }

    impl Bench {
        fn new(config: Config) -> Bench {
            let hosts = Hosts::parse("10.9.9.9 printer");
            Bench {
                resolver: Resolver::new(config, hosts, [7; 32]),
                now: Instant::now(),
                queries: Vec::new(),
            }
        }

        fn ask(&mut self, name: &str, waiter: u32) -> Answer {
            let answer = self.resolver.lookup(name, waiter, self.now);
            self.fetch();
            answer.map_ok(|list| list.iter().map(ToString::to_string).collect())
        }

        /// Asks for a name that is not known.
        fn start(&mut self, name: &str, waiter: u32) {
            assert_eq!(self.ask(name, waiter), Poll::Pending);
        }

        fn fetch(&mut self) {
            self.queries
                .extend(std::iter::from_fn(|| self.resolver.poll_transmit()));
            self.resolver.check();
        }

        /// Takes the queries that were sent, which must be as many as given.
        fn take<const N: usize>(&mut self) -> [Transmit; N] {
            let queries = std::mem::take(&mut self.queries);
            queries
                .try_into()
                .expect("another number of queries was sent")
        }

        /// The query for A of the two that a lookup starts with; the one for AAAA is answered with "none".
        fn take_v4(&mut self) -> Transmit {
            let [v6, v4] = self.take();
            assert_eq!((family(&v6), family(&v4)), (Family::V6, Family::V4));
            self.reply(&v6, RCODE::NoError, &["test 300 SOA 300"]);
            assert!(self.queries.is_empty());
            v4
        }

        fn reply(&mut self, query: &Transmit, rcode: RCODE, lines: &[&str]) {
            self.deliver(query, query.to, &forge::reply(message(query), rcode, lines));
        }

        fn deliver(&mut self, query: &Transmit, from: SocketAddr, bytes: &[u8]) {
            self.resolver.receive(query.query, from, bytes, self.now);
            self.fetch();
        }

        /// Answers all queries: those for AAAA with the lines that hold AAAA records, and so on.
        fn serve(&mut self, lines: &[&str]) {
            for query in std::mem::take(&mut self.queries) {
                let unwanted = if family(&query) == Family::V4 {
                    " AAAA "
                } else {
                    " A "
                };
                let lines: Vec<&str> = lines
                    .iter()
                    .copied()
                    .filter(|l| !l.contains(unwanted))
                    .collect();
                self.reply(&query, RCODE::NoError, &lines);
            }
        }

        fn pass(&mut self, time: Duration) {
            self.now += time;
            self.resolver.advance(self.now);
            self.fetch();
        }

        /// Lets the time pass up to the next deadline.
        fn wait(&mut self) {
            let deadline = self.resolver.deadline().expect("nothing to wait for");
            self.pass(deadline - self.now);
        }

        fn woken(&mut self) -> Vec<u32> {
            std::iter::from_fn(|| self.resolver.poll_woken()).collect()
        }

        fn finished(&mut self) -> Vec<QueryId> {
            std::iter::from_fn(|| self.resolver.poll_finished()).collect()
        }
    }

    fn message(query: &Transmit) -> &[u8] {
        match query.transport {
            Transport::Udp => &query.bytes,
            Transport::Tcp => super::super::stream_message(&query.bytes).unwrap(),
        }
    }

    fn family(query: &Transmit) -> Family {
        forge::family(message(query))
    }

    impl<W: Copy + Eq> Resolver<W> {
        /// What holds between any two calls.
        fn check(&self) {
            assert_eq!(self.queries.len(), self.deadlines.len());
            let mut asking = 0;
            for entry in self.names.values() {
                let Entry::UnderWay(lookup) = entry else {
                    continue;
                };
                assert!(!lookup.candidates.is_empty());
                assert!(!lookup.waiters.is_empty());
                assert!(lookup.waiters.len() <= self.config.waiters_max);
                let before = asking;
                for question in [&lookup.v4, &lookup.v6] {
                    match question {
                        Question::Due => panic!("a question was not asked"),
                        Question::Asking(id) => {
                            let query = &self.queries[id];
                            assert!(query.deadline <= lookup.candidate_until);
                            assert!(lookup.candidate_until <= lookup.until);
                            assert!(self.deadlines.contains(&(query.deadline, *id)));
                            asking += 1;
                        }
                        Question::Settled(_) => {}
                    }
                }
                assert!(asking > before, "a lookup waits for nothing");
            }
            assert_eq!(asking, self.queries.len());
            assert!(self.lookups_under_way() + self.young.len() <= self.config.lookups_max);
            for key in self.young.iter().chain(&self.old).map(|(_, key)| key) {
                assert!(matches!(self.names[key], Entry::Known { .. }));
            }
        }
    }

    #[test]
    fn what_needs_no_server_is_answered_at_once() {
        let mut bench = Bench::new(Config::default());
        assert_eq!(bench.ask("2130706433", 1), ready(&["127.0.0.1"]));
        assert_eq!(bench.ask("[::1]", 1), ready(&["::1"]));
        assert_eq!(bench.ask("PRINTER", 1), ready(&["10.9.9.9"]));
        assert_eq!(bench.ask("a.localhost", 1), ready(&["::1", "127.0.0.1"]));
        assert_eq!(bench.ask("a b", 1), Poll::Ready(Err(Failure::BadName)));
        assert_eq!(
            bench.ask("x.test", 1),
            Poll::Ready(Err(Failure::NoNameserver))
        );
        assert_eq!(bench.resolver.deadline(), None);
    }

    #[test]
    fn both_families_are_asked_and_interleaved() {
        let mut bench = Bench::new(config());
        assert_eq!(bench.ask("www.test", 1), Poll::Pending);
        assert_eq!(bench.queries.len(), 2);
        assert!(
            bench
                .queries
                .iter()
                .all(|q| q.to == server(1) && q.transport == Transport::Udp)
        );
        bench.serve(&[
            "www.test 60 A 10.1.0.1",
            "www.test 60 A 10.1.0.2",
            "www.test 60 AAAA fd00::1",
        ]);
        assert_eq!(bench.woken(), [1]);
        assert_eq!(bench.finished().len(), 2);
        assert_eq!(
            bench.ask("WWW.test", 1),
            ready(&["fd00::1", "10.1.0.1", "10.1.0.2"])
        );
        assert_eq!(bench.resolver.counters().hits, 1);
        assert_eq!(bench.resolver.deadline(), None);
    }

    #[test]
    fn all_who_wait_for_a_name_share_its_lookup() {
        let mut bench = Bench::new(config());
        for waiter in [1, 2, 1, 3, 2] {
            assert_eq!(bench.ask("www.test", waiter), Poll::Pending);
        }
        assert_eq!(bench.queries.len(), 2);
        bench.serve(&["www.test 60 A 10.1.0.1"]);
        assert_eq!(bench.woken(), [1, 2, 3]);
        assert!(bench.woken().is_empty());
        assert_eq!(bench.resolver.counters().lookups, 1);
    }

    #[test]
    fn a_lost_query_is_asked_of_the_next_server_and_that_one_is_preferred() {
        let mut bench = Bench::new(config());
        bench.start("www.test", 1);
        let lost = bench.take_v4();
        bench.finished();
        bench.wait();
        assert_eq!(bench.finished(), [lost.query]);
        let [again] = bench.take();
        assert_eq!(again.to, server(2));
        assert_ne!(message(&again)[..2], message(&lost)[..2], "a fresh id");
        bench.reply(&lost, RCODE::NoError, &["www.test 60 A 10.6.6.6"]);
        assert!(bench.woken().is_empty(), "too late");
        bench.reply(&again, RCODE::NoError, &["www.test 60 A 10.1.0.1"]);
        assert_eq!(bench.ask("www.test", 1), ready(&["10.1.0.1"]));
        bench.start("other.test", 1);
        assert!(bench.queries.iter().all(|query| query.to == server(2)));
    }

    #[test]
    fn silence_ends_in_a_time_out_that_is_kept_for_a_while() {
        let mut bench = Bench::new(config());
        let started = bench.now;
        bench.start("www.test", 1);
        while bench.resolver.deadline().is_some() {
            bench.wait();
        }
        let tries = 2 * Config::ATTEMPTS; // of the question for A, and of that for AAAA
        assert_eq!(bench.queries.len() as u32, tries);
        assert_eq!(bench.now - started, SECOND * Config::ATTEMPTS);
        assert_eq!(bench.resolver.counters().timeouts, u64::from(tries));
        assert_eq!(bench.woken(), [1]);
        assert_eq!(bench.ask("www.test", 1), Poll::Ready(Err(Failure::Timeout)));
        // The first round asks with EDNS, the others without.
        let edns = bench
            .queries
            .iter()
            .filter(|q| forge::has_edns(message(q)))
            .count();
        assert_eq!(edns, 4);
        bench.pass(Config::FAILURE_TTL);
        assert_eq!(bench.ask("www.test", 1), Poll::Pending);
    }

    #[test]
    fn a_lookup_ends_in_time_whatever_the_number_of_tries() {
        let mut bench = Bench::new(Config {
            attempts: 1000,
            ..config()
        });
        let started = bench.now;
        bench.start("www.test", 1);
        while bench.resolver.deadline().is_some() {
            bench.wait();
        }
        assert_eq!(bench.now - started, Config::LOOKUP_TIMEOUT);
        assert_eq!(bench.ask("www.test", 1), Poll::Ready(Err(Failure::Timeout)));
    }

    #[test]
    fn a_failing_server_is_left_for_the_next_one_at_once() {
        let mut bench = Bench::new(config());
        bench.start("www.test", 1);
        let first = bench.take_v4();
        bench.reply(&first, RCODE::ServerFailure, &[]);
        let [second] = bench.take();
        assert_eq!(second.to, server(2));
        bench.resolver.failed(second.query, bench.now);
        bench.fetch();
        let [third] = bench.take();
        assert_eq!(third.to, server(1));
        bench.reply(&third, RCODE::NoError, &["www.test 60 A 10.1.0.1"]);
        assert_eq!(bench.ask("www.test", 1), ready(&["10.1.0.1"]));
    }

    #[test]
    fn the_last_reason_is_told() {
        for (rcode, failure) in [
            (Some(RCODE::Refused), Failure::ServerFailure),
            (None, Failure::Unreachable),
        ] {
            let mut bench = Bench::new(config());
            bench.start("www.test", 1);
            while let Some(query) = bench.queries.pop() {
                match rcode {
                    Some(rcode) => bench.reply(&query, rcode, &[]),
                    None => bench.resolver.failed(query.query, bench.now),
                }
                bench.fetch();
            }
            assert_eq!(bench.ask("www.test", 1), Poll::Ready(Err(failure)));
        }
    }

    #[test]
    fn lies_are_counted_and_the_wait_goes_on() {
        let mut bench = Bench::new(config());
        bench.start("www.test", 1);
        let query = bench.take_v4();
        let good = forge::reply(message(&query), RCODE::NoError, &["www.test 60 A 10.1.0.1"]);
        let mut other_id = good.clone();
        other_id[0] ^= 0x80;
        bench.deliver(&query, server(1), &other_id);
        bench.deliver(&query, server(2), &good);
        bench.deliver(&query, ([10, 0, 0, 1], 54).into(), &good);
        bench.deliver(&query, server(1), b"");
        let mut stranger = query.clone();
        stranger.query = QueryId(u64::MAX);
        bench.deliver(&stranger, server(1), &good);
        assert_eq!(bench.resolver.counters().lies, 4);
        assert!(bench.woken().is_empty());
        bench.deliver(&query, server(1), &good);
        assert_eq!(bench.woken(), [1]);
        assert_eq!(bench.ask("www.test", 1), ready(&["10.1.0.1"]));
    }

    #[test]
    fn ids_depend_on_the_seed_alone() {
        let ids = |seed| {
            let ids = (0..8).map(QueryId).map(|id| message_id(&[seed; 32], id));
            ids.collect::<Vec<_>>()
        };
        assert_eq!(ids(1), ids(1));
        assert_ne!(ids(1), ids(2));
        assert!(ids(1).windows(2).all(|pair| pair[0] != pair[1]));
    }

    #[test]
    fn a_truncated_answer_is_asked_for_over_tcp() {
        let mut bench = Bench::new(config());
        bench.start("www.test", 1);
        let query = bench.take_v4();
        let cut = forge::truncated(forge::reply(message(&query), RCODE::NoError, &[]));
        bench.deliver(&query, query.to, &cut);
        let [tcp] = bench.take();
        assert_eq!((tcp.transport, tcp.to), (Transport::Tcp, query.to));
        bench.reply(
            &tcp,
            RCODE::NoError,
            &["www.test 60 A 10.1.0.1", "www.test 60 A 10.1.0.2"],
        );
        assert_eq!(bench.ask("www.test", 1), ready(&["10.1.0.1", "10.1.0.2"]));
    }

    #[test]
    fn without_tcp_what_fitted_is_used_or_the_lookup_fails() {
        for (lines, expected) in [
            (&["www.test 60 A 10.1.0.1"][..], ready(&["10.1.0.1"])),
            (&[][..], Poll::Ready(Err(Failure::Truncated))),
        ] {
            let mut bench = Bench::new(config());
            bench.start("www.test", 1);
            bench.queries = vec![bench.take_v4()];
            while let Some(query) = bench.queries.pop() {
                match query.transport {
                    Transport::Tcp => bench.resolver.failed(query.query, bench.now),
                    Transport::Udp => {
                        let cut =
                            forge::truncated(forge::reply(&query.bytes, RCODE::NoError, lines));
                        bench.deliver(&query, query.to, &cut);
                    }
                }
                bench.fetch();
            }
            assert_eq!(bench.ask("www.test", 1), expected);
        }
    }

    #[test]
    fn a_server_that_knows_no_edns_is_asked_plainly() {
        let mut bench = Bench::new(config());
        bench.start("www.test", 1);
        let query = bench.take_v4();
        assert!(forge::has_edns(&query.bytes));
        bench.reply(&query, RCODE::FormatError, &[]);
        let [plain] = bench.take();
        assert_eq!(plain.to, query.to);
        assert!(!forge::has_edns(&plain.bytes));
        bench.reply(&plain, RCODE::FormatError, &[]);
        let [next] = bench.take();
        assert_eq!(next.to, server(2));
    }

    #[test]
    fn an_answer_without_time_to_live_is_there_for_those_who_waited() {
        let mut bench = Bench::new(config());
        bench.start("www.test", 1);
        bench.start("www.test", 2);
        bench.serve(&["www.test 0 A 10.1.0.1"]);
        assert_eq!(bench.woken(), [1, 2]);
        assert_eq!(bench.ask("www.test", 1), ready(&["10.1.0.1"]));
        bench.pass(HOLD / 2);
        assert_eq!(bench.ask("www.test", 2), ready(&["10.1.0.1"]));
        bench.pass(HOLD / 2);
        assert_eq!(bench.ask("www.test", 2), Poll::Pending);
    }

    #[test]
    fn the_zones_time_to_live_is_kept_within_bounds() {
        for (ttl, kept) in [(2, 2), (60, 60), (1_000_000, 3600)] {
            let mut bench = Bench::new(config());
            bench.start("www.test", 1);
            bench.serve(&[&format!("www.test {ttl} A 10.1.0.1")]);
            bench.pass(Duration::from_secs(kept) - Duration::from_millis(1));
            assert!(bench.ask("www.test", 1).is_ready());
            bench.pass(Duration::from_millis(1));
            assert!(bench.ask("www.test", 1).is_pending());
        }
    }

    #[test]
    fn no_is_kept_as_long_as_the_zone_says() {
        for (rcode, lines, kept, failure) in [
            (
                RCODE::NameError,
                &["test 30 SOA 90"][..],
                30,
                Failure::NotFound,
            ),
            (
                RCODE::NameError,
                &["test 9999 SOA 9999"][..],
                60,
                Failure::NotFound,
            ),
            (RCODE::NameError, &[][..], 1, Failure::NotFound),
            (
                RCODE::NoError,
                &["test 90 SOA 30"][..],
                30,
                Failure::NoAddress,
            ),
        ] {
            let mut bench = Bench::new(config());
            bench.start("www.test", 1);
            for query in bench.take::<2>() {
                bench.reply(&query, rcode, lines);
            }
            assert_eq!(bench.woken(), [1]);
            bench.pass(Duration::from_secs(kept) - Duration::from_millis(1));
            assert_eq!(bench.ask("www.test", 1), Poll::Ready(Err(failure)));
            bench.pass(Duration::from_millis(1));
            assert!(bench.ask("www.test", 1).is_pending());
        }
    }

    #[test]
    fn the_second_family_has_not_long_once_the_first_is_there() {
        let mut bench = Bench::new(config());
        bench.start("www.test", 1);
        let [_, v4] = bench.take();
        bench.reply(&v4, RCODE::NoError, &["www.test 300 A 10.1.0.1"]);
        assert!(bench.woken().is_empty());
        bench.pass(Config::SECOND_FAMILY_DELAY);
        assert_eq!(bench.woken(), [1]);
        assert!(bench.queries.is_empty(), "no further try");
        assert_eq!(bench.ask("www.test", 1), ready(&["10.1.0.1"]));
        bench.pass(Config::FAILURE_TTL);
        assert!(
            bench.ask("www.test", 1).is_pending(),
            "half an answer is not kept for long"
        );
    }

    #[test]
    fn one_family_is_enough() {
        let mut bench = Bench::new(config());
        bench.start("www.test", 1);
        let [v6, v4] = bench.take();
        bench.reply(&v4, RCODE::NameError, &[]);
        bench.reply(&v6, RCODE::NoError, &["www.test 300 AAAA fd00::1"]);
        assert_eq!(bench.ask("www.test", 1), ready(&["fd00::1"]));
    }

    #[test]
    fn the_search_list_is_walked() {
        let search = vec!["one.test".to_owned(), "two.test".to_owned()];
        let mut bench = Bench::new(Config { search, ..config() });
        bench.start("host", 1);
        let mut asked = Vec::new();
        while asked.last().is_none_or(|name| name != "host") {
            let [v6, v4] = bench.take();
            asked.push(forge::name(&v4.bytes));
            bench.reply(&v6, RCODE::NameError, &["test 30 SOA 30"]);
            bench.reply(&v4, RCODE::NameError, &["test 30 SOA 30"]);
        }
        assert_eq!(asked, ["host.one.test", "host.two.test", "host"]);
        assert_eq!(bench.woken(), [1]);
        assert_eq!(bench.ask("host", 1), Poll::Ready(Err(Failure::NotFound)));
        assert_eq!(
            bench.ask("host.", 1),
            Poll::Pending,
            "absolute, hence another name"
        );
        bench.serve(&["host 60 A 10.1.0.1"]);
        assert_eq!(bench.ask("host.", 1), ready(&["10.1.0.1"]));
    }

    /// What a server may make of a question without saying that there is no such name.
    #[derive(Debug, Clone, Copy, PartialEq)]
    enum Trouble {
        Answers(RCODE),
        Silence,
        Unreachable,
        Truncation,
    }

    const TROUBLES: [(Trouble, Failure); 6] = [
        (
            Trouble::Answers(RCODE::ServerFailure),
            Failure::ServerFailure,
        ),
        (Trouble::Answers(RCODE::Refused), Failure::ServerFailure),
        (
            Trouble::Answers(RCODE::NotImplemented),
            Failure::ServerFailure,
        ),
        (Trouble::Silence, Failure::Timeout),
        (Trouble::Unreachable, Failure::Unreachable),
        (Trouble::Truncation, Failure::Truncated),
    ];

    impl Bench {
        /// Looks `host` up with the search list `a.test b.test c.test`, `trouble` befalling the questions of one of the
        /// names: both, or the one for AAAA. Only the name `with_address`, if any, has an address. The names that were
        /// asked for, in order, and the answer.
        fn walk(
            trouble: Trouble,
            at: &str,
            only_v6: bool,
            with_address: &str,
        ) -> (Vec<String>, Answer) {
            let search = ["a.test", "b.test", "c.test"].map(str::to_owned).into();
            let ndots = 5;
            let mut bench = Bench::new(Config {
                search,
                ndots,
                ..config()
            });
            bench.start("host", 1);
            let mut asked = Vec::new();
            while bench.resolver.lookups_under_way() > 0 {
                let Some(query) = bench.queries.pop() else {
                    bench.wait();
                    continue;
                };
                let name = forge::name(message(&query));
                if !asked.contains(&name) {
                    asked.push(name.clone());
                }
                match trouble {
                    _ if name != at || (only_v6 && family(&query) == Family::V4) => {
                        let address = format!("{name} 60 A 10.1.0.1");
                        match (name == with_address, family(&query)) {
                            (true, Family::V4) => bench.reply(&query, RCODE::NoError, &[&address]),
                            (true, Family::V6) => bench.reply(&query, RCODE::NoError, &[]),
                            (false, _) => {
                                bench.reply(&query, RCODE::NameError, &["test 30 SOA 30"])
                            }
                        }
                    }
                    Trouble::Answers(rcode) => bench.reply(&query, rcode, &[]),
                    Trouble::Silence => {}
                    Trouble::Truncation if query.transport == Transport::Udp => {
                        let cut = forge::reply(&query.bytes, RCODE::NoError, &[]);
                        bench.deliver(&query, query.to, &forge::truncated(cut));
                    }
                    Trouble::Unreachable | Trouble::Truncation => {
                        bench.resolver.failed(query.query, bench.now);
                        bench.fetch();
                    }
                }
            }
            assert_eq!(bench.woken(), [1]);
            let answer = bench.ask("host", 1);
            (asked, answer)
        }
    }

    #[test]
    fn trouble_with_one_name_does_not_hide_those_behind_it() {
        let names = ["host.a.test", "host.b.test", "host.c.test", "host"];
        for (trouble, failure) in TROUBLES {
            for only_v6 in [false, true] {
                for at in names {
                    let case = format!("{trouble:?} at {at}, only AAAA: {only_v6}");
                    for (index, with_address) in names.into_iter().enumerate() {
                        if with_address == at {
                            continue;
                        }
                        let (asked, answer) = Bench::walk(trouble, at, only_v6, with_address);
                        assert_eq!(asked, names[..=index], "{case}, address at {with_address}");
                        assert_eq!(answer, ready(&["10.1.0.1"]), "{case}");
                    }
                    let (asked, answer) = Bench::walk(trouble, at, only_v6, "nowhere");
                    assert_eq!(asked, names, "{case}");
                    assert_eq!(answer, Poll::Ready(Err(failure)), "{case}");
                }
            }
        }
    }

    #[test]
    fn a_family_in_trouble_leaves_the_other_ones_address() {
        for (trouble, _) in TROUBLES {
            let (asked, answer) = Bench::walk(trouble, "host.b.test", true, "host.b.test");
            assert_eq!(asked, ["host.a.test", "host.b.test"], "{trouble:?}");
            assert_eq!(answer, ready(&["10.1.0.1"]), "{trouble:?}");
        }
    }

    #[test]
    fn silence_about_every_name_leaves_time_to_ask_for_each() {
        let search: Vec<String> = (0..6).map(|n| format!("s{n}.test")).collect();
        let mut bench = Bench::new(Config { search, ..config() });
        let started = bench.now;
        bench.start("host", 1);
        while bench.resolver.deadline().is_some() {
            bench.wait();
        }
        let mut asked: Vec<String> = bench
            .queries
            .iter()
            .map(|q| forge::name(message(q)))
            .collect();
        asked.dedup();
        assert_eq!(asked.len(), 7);
        assert_eq!(asked[6], "host");
        assert_eq!(bench.now - started, Config::LOOKUP_TIMEOUT);
        assert_eq!(bench.ask("host", 1), Poll::Ready(Err(Failure::Timeout)));
    }

    #[test]
    fn a_name_without_addresses_outweighs_one_that_does_not_exist() {
        for exists in ["host.one.test", "host"] {
            let search = vec!["one.test".to_owned()];
            let mut bench = Bench::new(Config { search, ..config() });
            bench.start("host", 1);
            for _ in 0..2 {
                for query in bench.take::<2>() {
                    let rcode = match forge::name(&query.bytes) == exists {
                        true => RCODE::NoError,
                        false => RCODE::NameError,
                    };
                    bench.reply(&query, rcode, &["test 30 SOA 30"]);
                }
            }
            assert_eq!(bench.ask("host", 1), Poll::Ready(Err(Failure::NoAddress)));
        }
    }

    #[test]
    fn lookups_and_waiters_have_bounds() {
        let mut bench = Bench::new(Config {
            lookups_max: 2,
            waiters_max: 2,
            ..config()
        });
        let busy = Poll::Ready(Err(Failure::Busy));
        assert!(bench.ask("a.test", 1).is_pending());
        assert!(bench.ask("a.test", 2).is_pending());
        assert_eq!(bench.ask("a.test", 3), busy);
        assert!(
            bench.ask("a.test", 2).is_pending(),
            "one who waits may ask again"
        );
        assert!(bench.ask("b.test", 3).is_pending());
        assert_eq!(bench.ask("c.test", 4), busy);
        assert_eq!(bench.resolver.counters().refused, 2);
        bench.serve(&[]);
        assert_eq!(bench.ask("c.test", 4), busy, "the answers are not read yet");
        bench.pass(HOLD);
        assert!(bench.ask("c.test", 4).is_pending());
    }

    #[test]
    fn the_cache_has_a_bound_and_the_first_to_expire_goes_first() {
        let mut bench = Bench::new(Config {
            cache_entries_max: 2,
            ..config()
        });
        for (name, ttl) in [("a.test", 300), ("b.test", 100), ("c.test", 200)] {
            bench.start(name, 1);
            bench.serve(&[&format!("{name} {ttl} A 10.1.0.1")]);
        }
        assert_eq!(bench.resolver.cached(), 3, "answers are held at first");
        assert!(bench.ask("b.test", 1).is_ready());
        bench.pass(HOLD);
        assert_eq!(bench.resolver.cached(), 2);
        assert_eq!(bench.resolver.counters().evicted, 1);
        assert!(bench.ask("a.test", 1).is_ready());
        assert!(bench.ask("c.test", 1).is_ready());
        assert!(bench.ask("b.test", 1).is_pending());
    }

    #[test]
    fn a_query_that_ended_unfetched_is_not_sent() {
        let mut bench = Bench::new(Config {
            attempts: 1,
            nameservers: vec![server(1)],
            ..config()
        });
        assert!(bench.resolver.lookup("www.test", 1, bench.now).is_pending());
        bench.pass(SECOND);
        assert!(bench.queries.is_empty());
        assert_eq!(bench.ask("www.test", 1), Poll::Ready(Err(Failure::Timeout)));
    }

    #[test]
    fn a_reload_forgets_what_is_known_and_goes_on_with_the_rest() {
        let mut bench = Bench::new(config());
        bench.start("known.test", 1);
        bench.serve(&["known.test 300 A 10.1.0.1"]);
        bench.pass(HOLD);
        bench.start("young.test", 1);
        bench.serve(&["young.test 300 A 10.1.0.2"]);
        bench.start("pending.test", 1);
        let nameservers = vec![server(9)];
        bench.resolver.reload(
            Config {
                nameservers,
                ..config()
            },
            Hosts::parse("10.8.8.8 new"),
        );
        assert_eq!(bench.ask("new", 1), ready(&["10.8.8.8"]));
        bench.serve(&["pending.test 300 A 10.1.0.3"]);
        assert_eq!(bench.ask("pending.test", 1), ready(&["10.1.0.3"]));
        assert_eq!(
            bench.ask("young.test", 1),
            ready(&["10.1.0.2"]),
            "still held"
        );
        assert!(bench.ask("known.test", 1).is_pending());
        bench.pass(HOLD);
        assert!(bench.ask("young.test", 1).is_pending());
        assert!(bench.queries.iter().all(|query| query.to == server(9)));
    }

    #[test]
    fn a_reload_to_no_server_ends_what_is_under_way() {
        let mut bench = Bench::new(config());
        bench.start("www.test", 1);
        bench.resolver.reload(Config::default(), Hosts::default());
        bench.wait();
        assert_eq!(bench.woken(), [1]);
        assert_eq!(bench.ask("www.test", 1), Poll::Ready(Err(Failure::Timeout)));
    }

    /// What may happen to the resolver.
    #[derive(Debug, Clone)]
    enum Step {
        Ask { name: u8, waiter: u32 },
        Pass { millis: u64 },
        Answer { query: usize, kind: u8, ttl: u32 },
        Spoil { query: usize, at: usize, byte: u8 },
        Fail { query: usize },
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            (0..6_u8, 0..8_u32).prop_map(|(name, waiter)| Step::Ask { name, waiter }),
            (0..1500_u64).prop_map(|millis| Step::Pass { millis }),
            (0..8_usize, 0..6_u8, 0..4_u32).prop_map(|(query, kind, ttl)| Step::Answer {
                query,
                kind,
                ttl
            }),
            (0..8_usize, 0..60_usize, any::<u8>()).prop_map(|(query, at, byte)| Step::Spoil {
                query,
                at,
                byte
            }),
            (0..8_usize).prop_map(|query| Step::Fail { query }),
        ]
    }

    proptest! {
        /// Whatever happens, the invariants hold (each step checks them), each query handed out is finished
        /// once, and whoever waits is woken before the lookup's time is up.
        #[test]
        fn whoever_waits_is_woken(steps in proptest::collection::vec(step(), 0..120)) {
            let search = vec!["search.test".to_owned()];
            let mut bench = Bench::new(Config {
                search, lookups_max: 4, waiters_max: 5, cache_entries_max: 2, ..config()
            });
            let mut waiting = BTreeSet::new();
            let mut open: Vec<Transmit> = Vec::new();
            let mut ended = BTreeSet::new();
            for step in steps {
                match step {
                    Step::Ask { name, waiter } => {
                        // Each waiter waits for one name.
                        let waiter = u32::from(name) * 8 + waiter;
                        if bench.ask(&format!("n{name}"), waiter).is_pending() {
                            waiting.insert(waiter);
                        }
                    }
                    Step::Pass { millis } => bench.pass(Duration::from_millis(millis)),
                    Step::Answer { query, kind, ttl } => {
                        let Some(query) = open.get(query).cloned() else { continue };
                        let owner = forge::name(message(&query));
                        let record = match family(&query) {
                            Family::V4 => format!("{owner} {ttl} A 10.1.0.1"),
                            Family::V6 => format!("{owner} {ttl} AAAA fd00::1"),
                        };
                        let found = forge::reply(message(&query), RCODE::NoError, &[&record]);
                        let bytes = match kind {
                            0 => found,
                            1 => forge::truncated(found),
                            2 => forge::reply(message(&query), RCODE::NameError, &["test 2 SOA 2"]),
                            3 => forge::reply(message(&query), RCODE::NoError, &[]),
                            4 => forge::reply(message(&query), RCODE::ServerFailure, &[]),
                            _ => forge::reply(message(&query), RCODE::FormatError, &[]),
                        };
                        bench.deliver(&query, query.to, &bytes);
                    }
                    Step::Spoil { query, at, byte } => {
                        let Some(query) = open.get(query).cloned() else { continue };
                        let mut bytes = forge::reply(message(&query), RCODE::NoError, &["x 1 CNAME y"]);
                        let at = at % bytes.len();
                        bytes[at] = byte;
                        bench.deliver(&query, query.to, &bytes);
                    }
                    Step::Fail { query } => {
                        if let Some(query) = open.get(query) {
                            bench.resolver.failed(query.query, bench.now);
                            bench.fetch();
                        }
                    }
                }
                open.append(&mut bench.queries);
                for id in bench.finished() {
                    prop_assert!(ended.insert(id), "finished twice");
                    open.retain(|query| query.query != id);
                }
                for waiter in bench.woken() {
                    prop_assert!(waiting.remove(&waiter), "woken, but not waiting");
                }
            }
            bench.pass(Config::LOOKUP_TIMEOUT);
            let woken = bench.woken();
            prop_assert!(waiting.iter().all(|waiter| woken.contains(waiter)));
            prop_assert_eq!(bench.resolver.deadline(), None);
            prop_assert_eq!(bench.resolver.lookups_under_way(), 0);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300), echo in 0..40_usize) {
            let mut bench = Bench::new(config());
            bench.start("www.test", 1);
            for query in bench.take::<2>() {
                let mut message = message(&query).to_vec();
                message[2] |= 0x80;
                message.truncate(echo);
                message.extend(&bytes);
                bench.deliver(&query, query.to, &message);
            }
        }
    }
}
