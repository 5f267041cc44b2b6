//! Whether upstreams are well: when each is asked, and one such question.
//!
//! A check is a session without a client: a GET on a connection of its own, which ends with the
//! head of the answer or when its time is up. It is no longer under way when the next one of its
//! upstream is due, or that one is left out: checks never pile up.
//!
//! ```text
//! Resolving ──▶ Connecting (with TLS, where it is spoken) ──▶ Awaiting ──a final head──▶ passed or failed
//!                 └──a parent is to open a tunnel──▶ Asking ──▶ Securing ──▲
//! ```
//!
//! It goes the way of the requests: by the [`parent`], where they do.
//!
//! Not here: what follows from it ([`balance`](super::balance)).

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::task::{Poll, ready};
use std::time::{Duration, Instant};

use super::balance::Thresholds;
use super::opening::{opening, tls_to};
use super::parent::{self, Asking, Parent};
use super::route::{Form, Origin};
use super::{Proxy, Rules};
use crate::config::CheckConfig;
use crate::http::Method;
use crate::http::head::{HeadScanner, Limits, Parsed};
use crate::service::Io;
use crate::service::origins::Through;
use crate::services::web::Place;

/// What a check came to: whether it passed, or else why not.
pub(super) type Verdict = Result<(), String>;

/// What a check sends, and the statuses that it passes by.
pub(super) type Asked = (Vec<u8>, RangeInclusive<u16>);

/// When each upstream is checked, and how.
pub(super) struct Checks {
    every: Duration,
    timeout: Duration,
    expect: RangeInclusive<u16>,
    pub(super) thresholds: Thresholds,
    /// What is sent.
    head: Vec<u8>,
    /// By place.
    turns: Vec<Turn>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Turn {
    /// `None` before the first.
    due: Option<Instant>,
    is_under_way: bool,
}

impl Checks {
    /// As configured, of so many upstreams which are told this `Host`.
    pub(super) fn new(config: &CheckConfig, host: &str, count: usize) -> Self {
        let head = format!(
            "GET {} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: netlab-reactor (check)\r\n\
             Accept: */*\r\nConnection: close\r\n\r\n",
            config.path
        );
        Self {
            every: config.every,
            timeout: config.timeout,
            expect: config.expect.clone(),
            thresholds: Thresholds {
                rise: config.rise,
                fall: config.fall,
            },
            head: head.into_bytes(),
            turns: vec![Turn::default(); count],
        }
    }

    /// What is asked, and what is expected.
    pub(super) fn asks(&self) -> Asked {
        (self.head.clone(), self.expect.clone())
    }

    /// An upstream that is to be checked now, by its place, if there is one.
    pub(super) fn begin(&mut self, now: Instant) -> Option<usize> {
        let is_due = |turn: &Turn| turn.due.is_none_or(|due| due <= now);
        while let Some(place) = self.turns.iter().position(is_due) {
            let turn = &mut self.turns[place];
            turn.due = Some(now + self.every);
            if !std::mem::replace(&mut turn.is_under_way, true) {
                return Some(place);
            }
        }
        None
    }

    /// When that is to be asked for again.
    pub(super) fn due(&self) -> Option<Instant> {
        self.turns.iter().filter_map(|turn| turn.due).min()
    }

    /// Reads the answer as far as it is there. `is_by_parent`: a parent passed it on, or made it.
    fn judge(
        &self,
        scanner: &mut HeadScanner,
        (limits, is_by_parent): (&Limits, bool),
        io: &mut Io<'_>,
    ) -> Poll<Verdict> {
        loop {
            match scanner.response(io.up.rx.bytes(), limits, Method::Get) {
                Err(error) => return failed(&error.text()),
                Ok(Parsed::Partial) if io.up.eof || !io.up.rx.has_space() => {
                    return failed(&"it gave no answer");
                }
                Ok(Parsed::Partial) => return Poll::Pending,
                Ok(Parsed::Complete(head, head_bytes)) => match head.status.code() {
                    ..200 => {
                        io.up.rx.consume(head_bytes);
                        *scanner = HeadScanner::default();
                    }
                    407 if is_by_parent => {
                        return failed(&"the parent wants other credentials than it was told");
                    }
                    code if self.expect.contains(&code) => return Poll::Ready(Ok(())),
                    code => return failed(&format_args!("it answered {code}")),
                },
            }
        }
    }

    /// A check is over, whatever came of it.
    pub(super) fn ended(&mut self, place: usize) {
        self.turns[place].is_under_way = false;
    }
}

/// One check.
pub(in crate::services::web) struct Check {
    /// The site of the proxy whose upstream it is.
    pub(in crate::services::web) place: Place,
    /// That upstream's place.
    pub(super) upstream: usize,
    pub(in crate::services::web) until: Instant,
    state: State,
}

enum State {
    Resolving,
    Connecting,
    /// A parent was asked for a tunnel.
    Asking(Asking),
    /// TLS begins in that.
    Securing,
    Awaiting(HeadScanner),
}

impl Check {
    /// One that begins.
    pub(super) fn new(place: Place, upstream: usize, checks: &Checks, now: Instant) -> Self {
        Self {
            place,
            upstream,
            until: now + checks.timeout,
            state: State::Resolving,
        }
    }

    /// Takes it as far as the facts allow. Whether it is over.
    pub(in crate::services::web) fn advance(&mut self, proxy: &mut Proxy, io: &mut Io<'_>) -> bool {
        let verdict = match self.step(proxy, io) {
            Poll::Ready(verdict) => Some(verdict),
            Poll::Pending if io.cx.draining => None, // nobody will be asked any more
            Poll::Pending if io.cx.now < self.until => return false,
            Poll::Pending => Some(Err("it took too long".to_owned())),
        };
        io.stop_resolving();
        io.disconnect();
        if let (Some(verdict), Some(upstreams)) = (verdict, &mut proxy.upstreams) {
            upstreams.checked(self.upstream, verdict, &mut io.cx);
        }
        true
    }

    fn step(&mut self, proxy: &Proxy, io: &mut Io<'_>) -> Poll<Verdict> {
        let upstreams = proxy.upstreams.as_ref();
        let Some((checks, origin)) = upstreams.and_then(|all| all.to_check(self.upstream)) else {
            return Poll::Ready(Ok(()));
        };
        let rules = &proxy.rules;
        let way = By::find(checks, origin, rules);
        loop {
            let next = match &mut self.state {
                State::Resolving => way.resolve(io),
                State::Connecting => way.connect(self.until, io),
                State::Asking(asking) => way.ask(asking, io),
                State::Securing => way.secure(io),
                State::Awaiting(scanner) => return way.judge(scanner, io),
            };
            match ready!(next) {
                Ok(state) => self.state = state,
                Err(why) => return Poll::Ready(Err(why)),
            }
        }
    }
}

/// By which way an upstream is asked: that of the requests.
struct By<'a> {
    checks: &'a Checks,
    origin: &'a Origin,
    rules: &'a Rules,
    /// The parent that stands between, and how it is asked.
    parent: Option<(&'a Parent, Through)>,
}

/// What comes next, or why the check failed.
type Next = Poll<Result<State, String>>;

impl<'a> By<'a> {
    fn find(checks: &'a Checks, origin: &'a Origin, rules: &'a Rules) -> Self {
        let parent = rules.parent.as_ref();
        let parent = parent.map(|parent| (parent, parent.leads(Form::Gateway, origin)));
        Self {
            checks,
            origin,
            rules,
            parent: parent.filter(|(_, through)| *through != Through::Nobody),
        }
    }

    fn resolve(&self, io: &mut Io<'_>) -> Next {
        let (host, port) = match self.parent {
            Some((parent, _)) => (&*parent.host, parent.port),
            None => (self.origin.host(), self.origin.port),
        };
        if self.parent.is_some() {
            let known = io.cx.resolver.known(self.origin.host());
            if let Err((.., why)) = parent::may_ask(self.origin.host(), known, self.rules) {
                return failed(&why);
            }
        }
        let addresses = match ready!(io.resolve(host)) {
            Ok(addresses) => addresses,
            Err(failure) => return failed(&failure),
        };
        let parent = self.parent.map(|(parent, _)| parent);
        let opening = match opening(self.origin, parent, self.rules, io) {
            Ok(opening) => opening,
            Err((_, text)) => return failed(&text),
        };
        let to = addresses.iter().map(|&ip| SocketAddr::new(ip, port));
        let to: Vec<SocketAddr> = to.collect();
        // The answer comes with the next call: nothing is made before this one is over.
        let _ = io.connect_with(&to, self.checks.timeout, opening);
        Poll::Ready(Ok(State::Connecting))
    }

    /// Looks for a connection that is being made.
    fn made(&self, io: &mut Io<'_>) -> Poll<Result<(), String>> {
        let made = ready!(io.connect(&[], self.checks.timeout));
        Poll::Ready(made.map_err(|kind| {
            let trouble = io.trouble.map(|trouble| trouble.text.clone());
            trouble.unwrap_or_else(|| kind.to_string())
        }))
    }

    fn connect(&self, until: Instant, io: &mut Io<'_>) -> Next {
        let of_parent = |why: String| match self.parent {
            Some((parent, _)) => format!("parent {}: {why}", parent.name),
            None => why,
        };
        if let Err(why) = ready!(self.made(io)) {
            return Poll::Ready(Err(of_parent(why)));
        }
        let (checks, tx) = (self.checks, &mut io.up.tx);
        let next = match self.parent {
            Some((parent, Through::Tunnel)) => {
                let mut asked = Vec::new();
                parent.put_connect(&mut asked, &checks.head, self.origin);
                tx.put(&asked, io.cx.pool);
                State::Asking(Asking::new(until))
            }
            Some((parent, _)) => {
                parent.put_request(tx, &checks.head, self.origin, io.cx.pool);
                State::Awaiting(HeadScanner::default())
            }
            None => {
                tx.put(&checks.head, io.cx.pool);
                State::Awaiting(HeadScanner::default())
            }
        };
        Poll::Ready(Ok(next))
    }

    /// Looks for the answer of a parent that was asked for a tunnel.
    fn ask(&self, asking: &mut Asking, io: &mut Io<'_>) -> Next {
        let Some((parent, _)) = self.parent else {
            unreachable!("a parent is asked where there is one");
        };
        if let Err(why) = ready!(asking.advance(&self.rules.response_limits, io)) {
            let (.., why) = parent::refused(parent, self.origin, why);
            return failed(&why);
        }
        match tls_to(self.origin, self.rules) {
            Ok(Some(tls)) if io.up.is_reusable() => {
                io.secure(tls, self.checks.timeout);
                Poll::Ready(Ok(State::Securing))
            }
            _ => failed(&"something of the parent's own came ahead of TLS, or its end"),
        }
    }

    fn secure(&self, io: &mut Io<'_>) -> Next {
        if let Err(why) = ready!(self.made(io)) {
            return failed(&why);
        }
        io.up.tx.put(&self.checks.head, io.cx.pool);
        Poll::Ready(Ok(State::Awaiting(HeadScanner::default())))
    }

    fn judge(&self, scanner: &mut HeadScanner, io: &mut Io<'_>) -> Poll<Verdict> {
        let is_by_parent = matches!(self.parent, Some((_, Through::Parent)));
        let limits = &self.rules.response_limits;
        self.checks.judge(scanner, (limits, is_by_parent), io)
    }
}

fn failed<T>(why: &dyn std::fmt::Display) -> Poll<Result<T, String>> {
    Poll::Ready(Err(why.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_due_at_once_and_then_every_so_often_and_none_twice_at_a_time() {
        let config = CheckConfig::default();
        let mut checks = Checks::new(&config, "a", 2);
        let now = Instant::now();
        let begin = |checks: &mut Checks, now| -> Vec<usize> {
            std::iter::from_fn(|| checks.begin(now)).collect()
        };
        assert_eq!(begin(&mut checks, now), [0, 1]);
        assert_eq!(begin(&mut checks, now), [0; 0]);
        assert_eq!(checks.due(), Some(now + config.every));
        checks.ended(0);
        let later = now + config.every;
        assert_eq!(begin(&mut checks, later), [0], "the other is under way");
        assert_eq!(checks.due(), Some(later + config.every));
        checks.ended(0);
        checks.ended(1);
        assert_eq!(begin(&mut checks, later), [0; 0]);
        assert_eq!(begin(&mut checks, later + config.every), [0, 1]);
    }
}
