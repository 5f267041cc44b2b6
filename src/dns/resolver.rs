//! The resolver: who asked for which name, what was asked of whom, what is known for how long.
//!
//! The rules:
//! 1. [`Resolver::lookup`] is asked again until it answers. All who ask for one name share one
//!    lookup and are woken together; the answer then stays for about [`HOLD`], whatever its time to
//!    live, so that each of them finds it.
//! 2. Every try is a query with an id of its own, meant for a socket of its own, and is told to the
//!    caller twice: once to be sent ([`Resolver::poll_transmit`]), once to be forgotten
//!    ([`Resolver::poll_finished`]). A late answer to a forgotten query finds nobody.
//! 3. Failures are kept as well: "no" for as long as the zone allows (RFC 2308), silence and server
//!    failures for a short while (RFC 9520), so that a dead server is not asked at every request.
//! 4. A lookup ends with the last who waits for it: each waits for one name at a time, and says so
//!    when it no longer does ([`Resolver::forget`]). Lookups under way, and those who wait for one,
//!    are shared among the clients ([`crate::shares`]), and answers that are kept take no place of
//!    theirs.
//!
//! A long file, since it is one machine.
//!
//! A name:
//! ```text
//!            lookup                both questions settled
//!  unknown ---------> under way -------------------------> known --(expired, evicted)--> unknown
//!     ^-- nobody waits --|  ^                              waiters woken
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
//! The search list is walked to its end, the name itself included, also past a name that nobody
//! could say anything about: a broken zone in the list must not hide the names behind it. Each name
//! has its share of the time that is left. If none has an address, a failure outweighs a "no".
//!
//! RFC 1034 and 1035 (messages), 2308 and 9520 (failures kept), 6891 (EDNS), 7766 (TCP), 8305 (two
//! families). Deliberately not here: sockets, the files, and the order in which addresses are
//! tried.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use sha2::{Digest, Sha256};

use super::message::{self, Family, Verdict};
use super::name::{self, Target};
use super::outcome::{Nothing, Outcome};
use super::{Addresses, Config, Failure, Hosts, interleave};
use crate::shares::{Client, Shares};

/// Every answer is kept at least this long, so that those who wait for it can read it; unless more
/// come in that time than are kept or under way at most.
pub const HOLD: Duration = Duration::from_secs(1);

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

/// The state machine. `W` names whoever waits: a small id that may be stale by the time it is
/// woken.
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
    /// The name that each waiter waits for.
    waiting: BTreeMap<W, Rc<str>>,
    /// The lookups under way, by the client for whom they are.
    shares: Shares,
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
    UnderWay(Box<Lookup<W>>),
    Known {
        answer: Result<Addresses, Failure>,
        expires: Instant,
    },
}

#[derive(Debug)]
struct Lookup<W> {
    /// Who waits, and for which client.
    waiters: BTreeMap<W, Client>,
    clients: Shares,
    /// The client in whose share it is: one of those that wait.
    client: Client,
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

#[derive(Debug)]
enum Question {
    /// About to be asked.
    Due,
    /// The try under way.
    Asking(QueryId),
    Settled(Outcome),
}

impl Question {
    /// The try under way, if there is one.
    fn asking(&self) -> Option<QueryId> {
        match self {
            Question::Asking(id) => Some(*id),
            Question::Due | Question::Settled(_) => None,
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

impl<W: Copy + Ord> Resolver<W> {
    /// A resolver that knows nothing yet. `seed` is 32 bytes of the system's randomness: the ids of
    /// the queries are drawn from it, and cannot be foreseen by who does not know it.
    pub fn new(config: Config, hosts: Hosts, seed: [u8; 32]) -> Self {
        Resolver {
            config,
            hosts,
            seed,
            next_query: 0,
            preferred: 0,
            names: BTreeMap::new(),
            waiting: BTreeMap::new(),
            shares: Shares::default(),
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

    /// Takes a new configuration and hosts file: what is known is forgotten, lookups under way go
    /// on.
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

    /// The addresses of `name`, if they are known now; otherwise remembers `waiter`, which is woken
    /// through [`Resolver::poll_woken`] and then asks again. Asking again meanwhile is harmless;
    /// asking for another name ends the wait for the one before. `client` is the address in whose
    /// share that is, or `None` for one that has none.
    ///
    /// Literal addresses (IPv6 with or without brackets, IPv4 in every spelling of `inet_aton(3)`),
    /// names of the hosts file, `localhost` and whatever is under it, and cached answers are
    /// answered at once.
    ///
    /// # Errors
    /// Every [`Failure`]; [`Failure::BadName`], [`Failure::Busy`] and [`Failure::NoNameserver`] are
    /// told at once and not kept.
    pub fn lookup(
        &mut self,
        name: &str,
        waiter: W,
        client: Option<IpAddr>,
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
        match self.waiting.get(&waiter) {
            Some(awaited) if **awaited == *name => return Poll::Pending,
            Some(_) => self.forget(waiter),
            None => {}
        }
        match self.names.get_key_value(name.as_str()) {
            Some((_, Entry::Known { answer, expires })) if *expires > now => {
                self.counters.hits += 1;
                Poll::Ready(answer.clone())
            }
            Some((key, Entry::UnderWay(_))) => {
                let key = key.clone();
                self.join(key, waiter, client)
            }
            Some((_, Entry::Known { .. })) | None => self.start(name, waiter, client, now),
        }
    }

    /// What is known of a name without asking anybody: an address, however it is written, `localhost`,
    /// what the hosts file has, and that it is no name at all. `None` for all others.
    pub fn known(&self, name: &str) -> Option<Result<Addresses, Failure>> {
        match name::parse(name) {
            None => Some(Err(Failure::BadName)),
            Some(Target::Address(address)) => Some(Ok([address].into())),
            Some(Target::Name(name)) => self.hosts.answer(&name),
        }
    }

    /// `waiter` no longer waits for a name, if it did. A lookup that nobody waits for any more
    /// ends.
    pub fn forget(&mut self, waiter: W) {
        let Some(key) = self.waiting.remove(&waiter) else {
            return;
        };
        let Some(Entry::UnderWay(lookup)) = self.names.get_mut(&key) else {
            return;
        };
        if let Some(client) = lookup.waiters.remove(&waiter) {
            lookup.clients.leave(client);
        }
        let asking = match lookup.waiters.first_key_value() {
            Some((_, &next)) => {
                if lookup.clients.of(lookup.client) == 0 {
                    self.shares
                        .leave(std::mem::replace(&mut lookup.client, next));
                    self.shares.enter(next);
                }
                return;
            }
            None => [&lookup.v4, &lookup.v6].map(Question::asking),
        };
        self.shares.leave(lookup.client);
        self.names.remove(&key);
        for query in asking.into_iter().flatten() {
            self.end_query(query);
        }
    }

    /// The next query to be sent, each from a socket of its own. What the socket then receives goes
    /// to [`Resolver::receive`]; if it cannot be opened, or reports an error, or the connection
    /// ends without a whole message, call [`Resolver::failed`].
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

    /// A message came on the socket of `query`: a datagram, or of a connection one whole message
    /// (see [`super::stream_message`]). Whatever its bytes are, nothing worse happens than that
    /// they are ignored; the query then goes on waiting.
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

    /// Waits with the others for a name that is under way.
    fn join(
        &mut self,
        key: Rc<str>,
        waiter: W,
        client: Client,
    ) -> Poll<Result<Addresses, Failure>> {
        let waiters_max = self.config.waiters_max;
        match self.names.get_mut(&key) {
            Some(Entry::UnderWay(lookup)) if lookup.clients.has_room(client, waiters_max) => {
                lookup.waiters.insert(waiter, client);
                lookup.clients.enter(client);
                self.waiting.insert(waiter, key);
                Poll::Pending
            }
            _ => self.refuse(),
        }
    }

    /// Starts the lookup of a name that is not known, or not any more.
    fn start(
        &mut self,
        name: String,
        waiter: W,
        client: Client,
        now: Instant,
    ) -> Poll<Result<Addresses, Failure>> {
        if self.config.nameservers.is_empty() {
            return Poll::Ready(Err(Failure::NoNameserver));
        }
        if !self.shares.has_room(client, self.config.lookups_max) {
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
            waiters: BTreeMap::new(),
            clients: Shares::default(),
            client,
            candidates: candidates.into(),
            until: now + self.config.lookup_timeout,
            candidate_until: now,
            v4: Question::Due,
            v6: Question::Due,
            nothing: None,
        };
        self.names
            .insert(key.clone(), Entry::UnderWay(Box::new(lookup)));
        self.shares.enter(client);
        self.ask_candidate(&key, now);
        // Invariant: a lookup has room for one who waits.
        self.join(key, waiter, client)
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

    /// Both questions are settled: keeps the answer and wakes the waiters, or goes on to the next
    /// candidate.
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
        self.shares.leave(lookup.client);
        for waiter in std::mem::take(&mut lookup.waiters).into_keys() {
            self.waiting.remove(&waiter);
            self.woken.push_back(waiter);
        }
        let known = Entry::Known {
            answer,
            expires: now + ttl.max(HOLD),
        };
        self.names.insert(key.clone(), known);
        self.young.push_back((now + HOLD, key.clone()));
    }

    /// Answers that were held long enough may be evicted from now on.
    fn end_holds(&mut self, now: Instant) {
        let young_max = self.config.cache_entries_max.max(self.config.lookups_max);
        while let Some((held_until, _)) = self.young.front()
            && (*held_until <= now || self.young.len() > young_max)
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
mod tests;
