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
//! 4. Addresses that have expired are given where the servers are silent for
//!    [`Config::stale_delay`], while the lookup goes on, and where nobody could say anything: then
//!    for [`Config::stale_ttl`], before the servers are asked again (RFC 8767). A "no" is an answer,
//!    and replaces them.
//! 5. A lookup ends with the last who waits for it: each waits for one name at a time, and says so
//!    when it no longer does ([`Resolver::forget`]). Lookups under way, and those who wait for one,
//!    are shared among the clients ([`crate::shares`]), and answers that are kept take no place of
//!    theirs.
//!
//! A name:
//! ```text
//!            lookup                both questions settled
//!  unknown ---------> under way -------------------------> known --(expired, evicted)--> unknown
//!     ^-- nobody waits --|  ^                              waiters woken
//!                      +----+ no address under this name, or nobody could say: the next of the search list
//! ```
//! With addresses that have expired, a lookup that takes long goes on while nobody waits:
//! ```text
//!            lookup                silence for a while                     both questions settled
//!  expired ---------> under way ----------------------> under way, behind ----------------------> known
//!     ^-- nobody waits --|                 waiters woken, and given them   if nobody could say: still them
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
//! families), 8767 (stale answers). Deliberately not here: sockets, the files, and the order in which addresses are
//! tried.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::answers::{Answers, HOLD};
use super::lookup::{Lookup, Question};
use super::message::{self, Family, Verdict};
use super::name::{self, Target};
use super::outcome::{Nothing, Outcome};
use super::tries::{Attempt, QueryId, Transmit, Transport, Tries};
use super::{Addresses, Config, Failure, Hosts, interleave};
use crate::shares::{Client, Shares};

/// What happened so far; every number only grows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Lookups started.
    pub lookups: u64,
    /// Answers given from the cache.
    pub hits: u64,
    /// Answers given from the cache although they had expired.
    pub stale: u64,
    /// Queries handed out, tries repeated included.
    pub queries: u64,
    /// Those of them that went over TCP, after a truncated answer.
    pub tcp_queries: u64,
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
    /// The index of the server that answered last.
    preferred: usize,
    /// The lookups under way, by the name as it was asked for.
    lookups: BTreeMap<Rc<str>, Lookup<W>>,
    /// The name that each waiter waits for.
    waiting: BTreeMap<W, Rc<str>>,
    /// The lookups under way, by the client for whom they are.
    shares: Shares,
    answers: Answers,
    /// When lookups under way give what has expired to those who wait.
    stale_due: BTreeSet<(Instant, Rc<str>)>,
    tries: Tries,
    woken: VecDeque<W>,
    /// Names that were asked for, literal addresses aside.
    asked: u64,
    counters: Counters,
}

/// Whether somebody waits for a lookup.
enum Wait {
    Waits,
    /// It has taken too long already.
    InVain,
}

impl<W: Copy + Ord> Resolver<W> {
    /// A resolver that knows nothing yet. `seed` is 32 bytes of the system's randomness: the ids of
    /// the queries are drawn from it, and cannot be foreseen by who does not know it.
    pub fn new(config: Config, hosts: Hosts, seed: [u8; 32]) -> Self {
        Resolver {
            config,
            hosts,
            preferred: 0,
            lookups: BTreeMap::new(),
            waiting: BTreeMap::new(),
            shares: Shares::default(),
            answers: Answers::default(),
            stale_due: BTreeSet::new(),
            tries: Tries::new(seed),
            woken: VecDeque::new(),
            asked: 0,
            counters: Counters::default(),
        }
    }

    /// Takes a new configuration and hosts file: what is known is forgotten, lookups under way for
    /// which somebody waits go on.
    pub fn reload(&mut self, config: Config, hosts: Hosts) {
        self.answers.forget();
        let unattended = self.lookups.iter().filter(|(_, l)| l.waiters.is_empty());
        let unattended: Vec<Rc<str>> = unattended.map(|(key, _)| key.clone()).collect();
        for key in unattended {
            self.abandon(&key);
        }
        self.preferred = 0;
        self.config = config;
        self.hosts = hosts;
    }

    /// The same, if the configuration is another one than before; whether it is.
    pub fn set_config(&mut self, config: Config) -> bool {
        let is_new = config != self.config;
        if is_new {
            let hosts = std::mem::take(&mut self.hosts);
            self.reload(config, hosts);
        }
        is_new
    }

    /// Takes a new hosts file; whether it is another one than before. It goes before what is known,
    /// which stays.
    pub fn set_hosts(&mut self, hosts: Hosts) -> bool {
        let is_new = hosts != self.hosts;
        self.hosts = hosts;
        is_new
    }

    /// The addresses of `name`, if they are known now; otherwise remembers `waiter`, which is woken
    /// through [`Resolver::poll_woken`] and then asks again. Asking again meanwhile is harmless;
    /// asking for another name ends the wait for the one before. `client` is the address in whose
    /// share that is, or `None` for one that has none.
    ///
    /// Literal addresses (IPv6 with or without brackets, IPv4 in every spelling of `inet_aton(3)`),
    /// names of the hosts file, `localhost` and whatever is under it, and cached answers are
    /// answered at once; so are those that have expired while the servers are silent, or where there
    /// is no place for a lookup.
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
        self.asked += 1;
        if let Some(answer) = self.hosts.answer(&name) {
            return Poll::Ready(answer);
        }
        self.end_holds(now);
        match self.waiting.get(&waiter) {
            Some(awaited) if **awaited == *name => return Poll::Pending,
            Some(_) => self.forget(waiter),
            None => {}
        }
        if let Some(kept) = self.answers.find(&name, now) {
            match kept.is_stale {
                true => self.counters.stale += 1,
                false => self.counters.hits += 1,
            }
            return Poll::Ready(kept.answer.clone());
        }
        let stale = self.answers.stale(&name, now).cloned();
        match (self.wait(name, stale.is_some(), waiter, client, now), stale) {
            (Ok(Wait::Waits), _) => Poll::Pending,
            (Ok(Wait::InVain) | Err(_), Some(stale)) => {
                self.counters.stale += 1;
                Poll::Ready(Ok(stale))
            }
            (Err(failure), None) => Poll::Ready(Err(failure)),
            // Invariant: nobody waits in vain who has nothing.
            (Ok(Wait::InVain), None) => Poll::Ready(Err(Failure::Busy)),
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
        let Some(lookup) = self.lookups.get_mut(&key) else {
            return;
        };
        if let Some(client) = lookup.waiters.remove(&waiter) {
            lookup.clients.leave(client);
        }
        if let Some((_, &next)) = lookup.waiters.first_key_value() {
            if lookup.clients.of(lookup.client) == 0 {
                self.shares
                    .leave(std::mem::replace(&mut lookup.client, next));
                self.shares.enter(next);
            }
            return;
        }
        self.abandon(&key);
    }

    /// The next query to be sent, each from a socket of its own. What the socket then receives goes
    /// to [`Resolver::receive`]; if it cannot be opened, or reports an error, or the connection
    /// ends without a whole message, call [`Resolver::failed`].
    pub fn poll_transmit(&mut self) -> Option<Transmit> {
        self.tries.poll_transmit()
    }

    /// The next query whose socket may be closed. A query that was never fetched from
    /// [`Resolver::poll_transmit`] may be among them.
    pub fn poll_finished(&mut self) -> Option<QueryId> {
        self.tries.poll_finished()
    }

    /// The next waiter that should ask again.
    pub fn poll_woken(&mut self) -> Option<W> {
        self.woken.pop_front()
    }

    /// When [`Resolver::advance`] has something to do, unless an answer comes first.
    pub fn deadline(&self) -> Option<Instant> {
        let stale = self.stale_due.first().map(|(at, _)| *at);
        [self.tries.deadline(), stale].into_iter().flatten().min()
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// How often a name was asked for that the files may have something to say about.
    pub fn asked(&self) -> u64 {
        self.asked
    }

    /// Names whose lookup is under way.
    pub fn lookups_under_way(&self) -> usize {
        self.lookups.len()
    }

    /// Names whose answer is kept, expired ones that nobody asked for again included.
    pub fn cached(&self) -> usize {
        self.answers.len()
    }

    /// Ends every try whose time is up, and every wait for a server where there is something stale.
    pub fn advance(&mut self, now: Instant) {
        self.end_holds(now);
        while let Some((at, _)) = self.stale_due.first()
            && *at <= now
            && let Some((_, key)) = self.stale_due.pop_first()
        {
            if self.answers.stale(&key, now).is_some()
                && let Some(lookup) = self.lookups.get_mut(&key)
            {
                let waiters = lookup.take_waiters();
                self.wake(waiters);
            }
        }
        while let Some(id) = self.tries.due(now) {
            self.counters.timeouts += 1;
            if let Some(ended) = self.tries.end(id) {
                self.try_next(ended.attempt, Failure::Timeout, now);
            }
        }
    }

    /// The socket of `query` cannot be used, or ended without an answer.
    pub fn failed(&mut self, query: QueryId, now: Instant) {
        if let Some(ended) = self.tries.end(query) {
            self.try_next(ended.attempt, Failure::Unreachable, now);
        }
    }

    /// A message came on the socket of `query`: a datagram, or of a connection one whole message
    /// (see [`super::stream_message`]). Whatever its bytes are, nothing worse happens than that
    /// they are ignored, and a query by datagram goes on waiting; a connection that brings what was
    /// not asked for is left for the next server.
    pub fn receive(&mut self, query: QueryId, from: SocketAddr, bytes: &[u8], now: Instant) {
        let Some(asked) = self.tries.find(query) else {
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
            if !whole {
                return;
            }
        }
        // Invariant: the query was found above.
        let Some(ended) = self.tries.end(query) else {
            return;
        };
        let mut attempt = ended.attempt;
        let outcome = match verdict {
            Verdict::Lie => return self.try_next(attempt, Failure::ServerFailure, now),
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

    /// Waits for a name, with the others if it is under way. `has_stale`: there is something to be
    /// given once that took long.
    fn wait(
        &mut self,
        name: String,
        has_stale: bool,
        waiter: W,
        client: Client,
        now: Instant,
    ) -> Result<Wait, Failure> {
        let key = match self.lookups.get_key_value(name.as_str()) {
            Some((key, _)) => key.clone(),
            None => self.start(name, has_stale, client, now)?,
        };
        let waiters_max = self.config.waiters_max;
        match self.lookups.get_mut(&key) {
            Some(lookup) if has_stale && lookup.stale_at <= now => Ok(Wait::InVain),
            Some(lookup) if lookup.clients.has_room(client, waiters_max) => {
                if lookup.waiters.is_empty() {
                    self.shares
                        .leave(std::mem::replace(&mut lookup.client, client));
                    self.shares.enter(client);
                }
                lookup.waiters.insert(waiter, client);
                lookup.clients.enter(client);
                self.waiting.insert(waiter, key);
                Ok(Wait::Waits)
            }
            _ => {
                self.counters.refused += 1;
                Err(Failure::Busy)
            }
        }
    }

    /// Starts the lookup of a name that is not known, or not any more.
    fn start(
        &mut self,
        name: String,
        has_stale: bool,
        client: Client,
        now: Instant,
    ) -> Result<Rc<str>, Failure> {
        if self.config.nameservers.is_empty() {
            return Err(Failure::NoNameserver);
        }
        if !self.shares.has_room(client, self.config.lookups_max) {
            self.counters.refused += 1;
            return Err(Failure::Busy);
        }
        self.counters.lookups += 1;
        let candidates = name::candidates(&name, &self.config.search, self.config.ndots);
        let key: Rc<str> = name.into();
        let stale_at = now + self.config.stale_delay;
        let until = now + self.config.lookup_timeout;
        let lookup = Lookup::new(candidates, client, stale_at, until);
        self.lookups.insert(key.clone(), lookup);
        if has_stale {
            self.stale_due.insert((stale_at, key.clone()));
        }
        self.shares.enter(client);
        self.ask_candidate(&key, now);
        Ok(key)
    }

    /// Takes a lookup off the lists; its tries go on.
    fn end_lookup(&mut self, key: &Rc<str>) -> Option<Lookup<W>> {
        let lookup = self.lookups.remove(key)?;
        self.shares.leave(lookup.client);
        self.stale_due.remove(&(lookup.stale_at, key.clone()));
        Some(lookup)
    }

    /// Ends a lookup that nobody waits for.
    fn abandon(&mut self, key: &Rc<str>) {
        let tries = self.end_lookup(key).map(|lookup| lookup.tries());
        for id in tries.into_iter().flatten() {
            self.tries.end(id);
        }
    }

    fn wake(&mut self, waiters: impl Iterator<Item = W>) {
        for waiter in waiters {
            self.waiting.remove(&waiter);
            self.woken.push_back(waiter);
        }
    }

    /// Asks both questions about the first candidate of a lookup.
    fn ask_candidate(&mut self, key: &Rc<str>, now: Instant) {
        let Some(lookup) = self.lookups.get_mut(key) else {
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
        let Some(lookup) = self.lookups.get_mut(&attempt.key) else {
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
        self.counters.queries += 1;
        self.counters.tcp_queries += u64::from(attempt.transport == Transport::Tcp);
        let family = attempt.family;
        let id = self.tries.begin(attempt, to, deadline);
        *lookup.question_mut(family) = Question::Asking(id);
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

    /// One of a lookup's two questions is answered.
    fn settle(&mut self, attempt: &Attempt, outcome: Outcome, now: Instant) {
        let Some(lookup) = self.lookups.get_mut(&attempt.key) else {
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
                self.tries.shorten(*id, until);
            }
            Question::Asking(_) | Question::Due => {}
        }
    }

    /// Both questions are settled: keeps the answer and wakes the waiters, or goes on to the next
    /// candidate.
    fn conclude(&mut self, key: &Rc<str>, now: Instant) {
        let Some(lookup) = self.lookups.get_mut(key) else {
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
        if let Some(mut lookup) = self.end_lookup(key) {
            let waiters = lookup.take_waiters();
            self.wake(waiters);
        }
        let is_answer = answer.as_ref().map_or_else(|f| f.is_answer(), |_| true);
        let (stale_ttl, stale_max) = (self.config.stale_ttl, self.config.stale_max);
        if is_answer || !self.answers.keep_stale(key, stale_ttl, now) {
            self.answers.keep(key.clone(), answer, ttl, stale_max, now);
        }
    }

    /// Answers that were held long enough may be evicted from now on.
    fn end_holds(&mut self, now: Instant) {
        let old_max = self.config.cache_entries_max;
        let young_max = old_max.max(self.config.lookups_max);
        self.counters.evicted += self.answers.end_holds(now, young_max, old_max);
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

#[cfg(test)]
mod tests;
