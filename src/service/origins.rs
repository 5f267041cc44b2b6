//! Ways to origins, and which connections to them nobody uses.
//!
//! RFC 9112 section 9.3 (persistence), 9.5 (time-outs). A connection on which an exchange ended
//! clean is kept, and given to whoever asks for the same [`Way`] next, whichever client that is:
//!
//! ```text
//! used by a session ──Io::keep──▶ idle ──Io::reuse──▶ used by a session
//!                                  │
//!                                  └──too many, too old, a word of the origin, its service is gone──▶ closed
//! ```
//!
//! [`Idle`] knows connections by the numbers of their places only, and is pure; who holds the
//! sockets (`reactor::upstream`) puts them in, takes them out, and closes what is surplus.
//!
//! Rules:
//! 1. A connection is shared within one service and one site of it, since each has rules of its own
//!    about where a connection may lead.
//! 2. The one that was used last is used next, so that those which are not needed grow old.
//! 3. One that told its origin of its client ([`Introduce`]) is never kept.
//! 4. At a limit, the one that has been idle longest makes room: of its way, else of all.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use foldhash::fast::RandomState;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;

use crate::wire::proxy_protocol::Version;

/// To which origin and how. A connection that was made for a way may carry the requests of all who
/// ask for an equal one.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Way {
    /// Its name or address, in lower case, an IPv6 address in its brackets.
    pub host: Rc<str>,
    /// Its port.
    pub port: u16,
    /// TLS is spoken with it.
    pub tls: bool,
    /// The site by whose rules it is connected to.
    pub site: usize,
    /// Who stands between, if anybody does.
    pub through: Through,
}

/// Whether a connection leads to its host itself. A site has one parent at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Through {
    /// It does.
    #[default]
    Nobody,
    /// It leads to the site's parent, which is host and port of the way, and takes the requests for
    /// every origin.
    Parent,
    /// It leads to its host by a tunnel that the parent opened.
    Tunnel,
}

/// TLS with an origin: as whom it has to prove itself, and to whose satisfaction.
#[derive(Clone, Debug)]
pub struct TlsTo {
    /// Whom we trust, and which protocols we offer.
    pub config: Arc<ClientConfig>,
    /// The name that its certificate must have, and that it is told (RFC 6066 section 3).
    pub name: ServerName<'static>,
    /// What went wrong, in words.
    pub explain: fn(&rustls::Error) -> String,
}

/// What is said on a connection to an origin before its protocol begins.
#[derive(Clone, Debug, Default)]
pub struct Opening {
    /// The header of the PROXY protocol.
    pub introduce: Option<Introduce>,
    /// TLS, behind that. Its handshake is part of the opening.
    pub tls: Option<TlsTo>,
}

/// How an origin is told of the client, which makes the connection that client's alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Introduce {
    /// The version of the PROXY protocol.
    pub version: Version,
    /// `None` for a client without an address.
    pub client: Option<SocketAddr>,
}

/// What is wrong with the TLS of an origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// In words, for people.
    pub text: String,
    /// Its certificate does not prove who it is.
    pub is_certificate: bool,
}

impl Way {
    /// The way of a site to a host.
    pub fn new(host: &str, port: u16, tls: bool, site: usize) -> Self {
        Self {
            host: host.to_ascii_lowercase().into(),
            port,
            tls,
            site,
            through: Through::Nobody,
        }
    }

    /// The same through a parent, or not.
    #[must_use]
    pub fn through(self, through: Through) -> Self {
        Self { through, ..self }
    }

    /// Whether it leads a site to this host, in whatever case the name is written.
    pub fn leads_to(&self, host: &str, port: u16, tls: bool, site: usize) -> bool {
        let is_alike = (self.port, self.tls, self.site) == (port, tls, site);
        is_alike && self.host.eq_ignore_ascii_case(host)
    }
}

/// How many connections may be idle, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IdleLimits {
    /// To one origin.
    pub per_origin_max: usize,
    /// To all of them.
    pub max: usize,
    /// The time after which one is closed.
    pub timeout: Duration,
}

/// A way, as one service asks for it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    service: u32,
    way: Way,
}

/// The connections that nobody uses, by the numbers of their places.
#[derive(Debug)]
pub struct Idle {
    limits: IdleLimits,
    /// By place.
    entries: Vec<Option<Entry>>,
    /// All of them, the one that has been idle longest first.
    all: List,
    ways: HashMap<Key, List, RandomState>,
    /// Places of connections that are to be closed.
    surplus: Vec<u32>,
}

#[derive(Debug)]
struct Entry {
    key: Key,
    since: Instant,
    /// Its neighbours among all, and among those of its way.
    links: [Links; 2],
}

/// Which of the two lists that a connection stands in: an index of [`Entry::links`].
const ALL: usize = 0;
const WAY: usize = 1;

#[derive(Clone, Copy, Debug, Default)]
struct Links {
    before: Option<u32>,
    behind: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default)]
struct List {
    first: Option<u32>,
    last: Option<u32>,
    len: usize,
}

impl List {
    /// Puts an entry at the end.
    fn push(&mut self, place: u32, which: usize, entries: &mut [Option<Entry>]) {
        links(entries, place)[which] = Links {
            before: self.last,
            behind: None,
        };
        match self.last.replace(place) {
            Some(last) => links(entries, last)[which].behind = Some(place),
            None => self.first = Some(place),
        }
        self.len += 1;
    }

    /// Takes an entry out of wherever it stands.
    fn unlink(&mut self, place: u32, which: usize, entries: &mut [Option<Entry>]) {
        let Links { before, behind } = links(entries, place)[which];
        match before {
            Some(before) => links(entries, before)[which].behind = behind,
            None => self.first = behind,
        }
        match behind {
            Some(behind) => links(entries, behind)[which].before = before,
            None => self.last = before,
        }
        self.len -= 1;
    }
}

fn links(entries: &mut [Option<Entry>], place: u32) -> &mut [Links; 2] {
    let entry = entries[place as usize].as_mut();
    // Invariant: a list holds places of entries only, `remove` unlinks what it takes out.
    &mut entry.expect("an entry in a list").links
}

impl Idle {
    /// None yet.
    pub fn new(limits: IdleLimits) -> Self {
        Self {
            limits,
            entries: Vec::new(),
            all: List::default(),
            ways: HashMap::default(),
            surplus: Vec::new(),
        }
    }

    /// Other limits. Those beyond them become surplus.
    pub fn set_limits(&mut self, limits: IdleLimits) {
        self.limits = limits;
        for place in self.places() {
            let list = self
                .entry(place)
                .and_then(|entry| self.ways.get(&entry.key));
            let of_way = list.map_or(0, |list| list.len);
            if of_way > limits.per_origin_max || self.all.len > limits.max {
                self.drop(place);
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.all.len
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.all.len == 0
    }

    /// The connection in `place`, of which nothing is known here, is idle from now on: it may be
    /// taken by whoever asks `service` for this way. It, or another, may become surplus by that.
    ///
    /// # Panics
    /// If it is idle already.
    pub fn put(&mut self, service: u32, way: Way, place: u32, now: Instant) {
        let key = Key { service, way };
        if self.limits.max == 0 || self.limits.per_origin_max == 0 {
            self.surplus.push(place);
            return;
        }
        let of_way = self.ways.get(&key).copied().unwrap_or_default();
        if of_way.len >= self.limits.per_origin_max {
            of_way
                .first
                .into_iter()
                .for_each(|oldest| self.drop(oldest));
        } else if self.all.len >= self.limits.max {
            self.all
                .first
                .into_iter()
                .for_each(|oldest| self.drop(oldest));
        }
        if self.entries.len() <= place as usize {
            self.entries.resize_with(place as usize + 1, || None);
        }
        let entry = Entry {
            key: key.clone(),
            since: now,
            links: Default::default(),
        };
        let before = self.entries[place as usize].replace(entry);
        assert!(before.is_none(), "a connection that is idle twice");
        self.all.push(place, ALL, &mut self.entries);
        let of_way = self.ways.entry(key).or_default();
        of_way.push(place, WAY, &mut self.entries);
    }

    /// The connection of this way that was used last: it is not idle any more.
    pub fn take(&mut self, service: u32, way: &Way, now: Instant) -> Option<u32> {
        if self.is_empty() {
            return None;
        }
        let way = way.clone();
        let place = self.ways.get(&Key { service, way })?.last?;
        let since = self.entry(place)?.since;
        if now.saturating_duration_since(since) >= self.limits.timeout {
            return None; // and so are all others, which have been idle for longer
        }
        self.remove(place);
        Some(place)
    }

    /// The connection in `place` is idle no more, if it was. Whether it was.
    pub fn remove(&mut self, place: u32) -> bool {
        if self.entry(place).is_none() {
            return false;
        }
        self.all.unlink(place, ALL, &mut self.entries);
        let key = self.entry(place).map(|entry| entry.key.clone());
        if let Some(key) = key
            && let Some(list) = self.ways.get_mut(&key)
        {
            list.unlink(place, WAY, &mut self.entries);
            if list.len == 0 {
                self.ways.remove(&key);
            }
        }
        self.entries[place as usize] = None;
        true
    }

    /// Those that have been idle for too long become surplus.
    pub fn expire(&mut self, now: Instant) {
        while let Some(oldest) = self.all.first
            && self.deadline().is_some_and(|deadline| deadline <= now)
        {
            self.drop(oldest);
        }
    }

    /// When the next one will have been idle for too long.
    pub fn deadline(&self) -> Option<Instant> {
        let oldest = self.entry(self.all.first?)?;
        Some(oldest.since + self.limits.timeout)
    }

    /// A service is gone: its connections become surplus.
    pub fn forget(&mut self, service: u32) {
        for place in self.places() {
            if self
                .entry(place)
                .is_some_and(|entry| entry.key.service == service)
            {
                self.drop(place);
            }
        }
    }

    /// All of them become surplus.
    pub fn clear(&mut self) {
        while let Some(oldest) = self.all.first {
            self.drop(oldest);
        }
    }

    /// The place of the next connection that is to be closed.
    pub fn poll_surplus(&mut self) -> Option<u32> {
        self.surplus.pop()
    }

    fn entry(&self, place: u32) -> Option<&Entry> {
        self.entries.get(place as usize)?.as_ref()
    }

    /// The places of all, the one that has been idle longest first.
    fn places(&self) -> Vec<u32> {
        let behind = |place: &u32| self.entry(*place)?.links[ALL].behind;
        std::iter::successors(self.all.first, behind).collect()
    }

    fn drop(&mut self, place: u32) {
        if self.remove(place) {
            self.surplus.push(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMITS: IdleLimits = IdleLimits {
        per_origin_max: 3,
        max: 5,
        timeout: Duration::from_secs(60),
    };

    fn way(n: u16) -> Way {
        Way::new("origin.example", n, false, 0)
    }

    fn surplus(idle: &mut Idle) -> Vec<u32> {
        let mut places: Vec<u32> = std::iter::from_fn(|| idle.poll_surplus()).collect();
        places.sort_unstable();
        places
    }

    #[test]
    fn the_one_that_was_used_last_is_used_next_and_only_for_its_way() {
        let (mut idle, now) = (Idle::new(LIMITS), Instant::now());
        idle.put(0, Way::new("Origin.EXAMPLE", 1, false, 0), 7, now);
        idle.put(0, way(1), 8, now);
        let others = [
            way(2),
            Way::new("other.example", 1, false, 0),
            Way::new("origin.example", 1, false, 1),
            Way::new("origin.example", 1, true, 0),
            way(1).through(Through::Parent),
            way(1).through(Through::Tunnel),
        ];
        for other in others {
            assert_eq!(idle.take(0, &other, now), None);
        }
        assert_eq!(idle.take(1, &way(1), now), None, "another service");
        assert_eq!(idle.take(0, &way(1), now), Some(8));
        assert_eq!(idle.take(0, &way(1), now), Some(7));
        assert_eq!(idle.take(0, &way(1), now), None);
        assert!(idle.is_empty() && surplus(&mut idle).is_empty());
    }

    #[test]
    fn what_is_too_old_is_not_given_to_anybody() {
        let (mut idle, now) = (Idle::new(LIMITS), Instant::now());
        idle.put(0, way(1), 0, now);
        idle.put(0, way(1), 1, now + Duration::from_secs(1));
        let at = idle.deadline().expect("a moment");
        assert_eq!(at, now + LIMITS.timeout);
        idle.expire(at);
        assert_eq!(surplus(&mut idle), [0]);
        assert_eq!(idle.take(0, &way(1), at + Duration::from_secs(1)), None);
        idle.expire(at + Duration::from_secs(1));
        assert_eq!((surplus(&mut idle), idle.deadline()), (vec![1], None));
    }

    #[test]
    fn lower_limits_hold_at_once_and_none_keeps_nothing() {
        let (mut idle, now) = (Idle::new(LIMITS), Instant::now());
        for place in 0..4 {
            idle.put(0, way(place as u16 % 2), place, now);
        }
        idle.set_limits(IdleLimits { max: 2, ..LIMITS });
        assert_eq!(surplus(&mut idle), [0, 1]);
        idle.set_limits(IdleLimits { max: 0, ..LIMITS });
        idle.put(0, way(1), 9, now);
        assert_eq!(surplus(&mut idle), [2, 3, 9]);
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Put(u32, u16),
        Take(u32, u16),
        Remove(usize),
        Pass(u64),
        Forget(u32),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            6 => (0..2_u32, 0..3_u16).prop_map(|(service, way)| Step::Put(service, way)),
            4 => (0..2_u32, 0..3_u16).prop_map(|(service, way)| Step::Take(service, way)),
            2 => any::<usize>().prop_map(Step::Remove),
            2 => (0..40_u64).prop_map(Step::Pass),
            1 => (0..2_u32).prop_map(Step::Forget),
        ]
    }

    /// What is idle, as a list of (place, service, way, since) in the order in which it came.
    type Model = Vec<(u32, u32, u16, Instant)>;

    /// What must go before one of this way can come.
    fn make_room(model: &mut Model, service: u32, way: u16) -> Option<u32> {
        let of_way = |(_, s, w, _): &&(u32, u32, u16, Instant)| (*s, *w) == (service, way);
        let is_full = model.iter().filter(of_way).count() >= LIMITS.per_origin_max;
        let at = match is_full {
            true => model.iter().position(|entry| of_way(&entry))?,
            false if model.len() >= LIMITS.max => 0,
            false => return None,
        };
        Some(model.remove(at).0)
    }

    proptest! {
        #[test]
        fn it_does_what_a_plain_list_does(steps in proptest::collection::vec(step(), 0..200)) {
            let (mut idle, mut now) = (Idle::new(LIMITS), Instant::now());
            let (mut model, mut next) = (Model::new(), 0);
            for step in steps {
                let mut gone: Vec<u32> = Vec::new();
                match step {
                    Step::Put(service, n) => {
                        gone.extend(make_room(&mut model, service, n));
                        model.push((next, service, n, now));
                        idle.put(service, way(n), next, now);
                        next += 1;
                    }
                    Step::Take(service, n) => {
                        let at = model.iter().rposition(|(_, s, w, _)| (*s, *w) == (service, n));
                        let expected = at.map(|at| model.remove(at).0);
                        prop_assert_eq!(idle.take(service, &way(n), now), expected);
                    }
                    Step::Remove(which) if !model.is_empty() => {
                        let (place, ..) = model.remove(which % model.len());
                        prop_assert!(idle.remove(place) && !idle.remove(place));
                    }
                    Step::Remove(_) => prop_assert!(!idle.remove(next)),
                    Step::Pass(seconds) => {
                        now += Duration::from_secs(seconds);
                        let is_old = |since: Instant| now >= since + LIMITS.timeout;
                        gone.extend(model.iter().filter(|e| is_old(e.3)).map(|e| e.0));
                        model.retain(|entry| !is_old(entry.3));
                        idle.expire(now);
                    }
                    Step::Forget(service) => {
                        gone.extend(model.iter().filter(|e| e.1 == service).map(|e| e.0));
                        model.retain(|entry| entry.1 != service);
                        idle.forget(service);
                    }
                }
                gone.sort_unstable();
                prop_assert_eq!(surplus(&mut idle), gone);
                let places: Vec<u32> = model.iter().map(|entry| entry.0).collect();
                prop_assert_eq!(idle.places(), places);
                prop_assert_eq!(idle.ways.len(), {
                    let mut ways: Vec<_> = model.iter().map(|e| (e.1, e.2)).collect();
                    ways.sort_unstable();
                    ways.dedup();
                    ways.len()
                });
            }
        }
    }
}
