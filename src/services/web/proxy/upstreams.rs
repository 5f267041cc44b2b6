//! The upstreams of a gateway: to which of them a request is sent, and what its outcome says of it.
//!
//! A request is sent to one after another until one answers, to each once and to `max_tries` of
//! them at most, as long as no byte of an answer has gone to the client, and the request was either
//! not sent or may be repeated.
//!
//! Not here: who is next ([`balance`](super::balance)), and what a failure is
//! ([`ProxyError::is_of_origin`](crate::http::proxy_status::ProxyError::is_of_origin)).

use std::time::{Duration, Instant};

use super::balance::{Balance, Change, Terms, Tried};
use super::check::{Asked, Check, Checks, Verdict};
use super::route::Origin;
use crate::config;
use crate::http::Status;
use crate::metrics::Counted;
use crate::service::Cx;
use crate::service::origins::Way;
use crate::services::web::Place;

/// All of them.
pub(super) struct Upstreams {
    all: Vec<Upstream>,
    balance: Balance,
    tries_max: usize,
    /// Statuses that count as failures.
    fail_on: Vec<u16>,
    checks: Option<Checks>,
}

struct Upstream {
    /// As the log has it: its URL.
    name: String,
    origin: Origin,
    way: Way,
    fail_timeout: Duration,
}

/// What a gateway knows of its upstreams.
pub(in crate::services::web) struct LearnedOfUpstreams {
    names: Vec<String>,
    balance: Balance,
    /// What its checks ask, and expect.
    asks: Option<Asked>,
}

/// To whom one request was sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Attempts {
    tried: Tried,
    /// The last of them.
    last: Option<usize>,
    /// Of whom nothing is known yet.
    awaited: Option<usize>,
}

impl Attempts {
    /// Whether one was chosen, and has not answered or failed.
    pub(super) fn is_awaited(&self) -> bool {
        self.awaited.is_some()
    }

    /// The last one is sent the request once more: its answer was of no use, or its connection dead.
    pub(super) fn begin_again(&mut self) {
        self.awaited = self.last;
    }
}

impl Upstreams {
    /// As configured.
    pub(super) fn new(config: &config::Upstreams) -> Self {
        let terms = config.all.iter().map(|upstream| Terms {
            weight: upstream.weight,
            fails_max: upstream.fails_max,
            fail_timeout: upstream.fail_timeout,
            is_backup: upstream.is_backup,
        });
        let all: Vec<Upstream> = config.all.iter().map(Upstream::new).collect();
        let host = all.first().map_or("", |first| &first.origin.authority);
        let checks = config.check.as_ref();
        Self {
            checks: checks.map(|check| Checks::new(check, host, all.len())),
            balance: Balance::new(terms),
            all,
            tries_max: config.tries_max,
            fail_on: config.fail_on.clone(),
        }
    }

    /// What all of them are together, to clients and to the cache: the first.
    pub(super) fn identity(&self) -> Origin {
        // Invariant: the configuration has one at least.
        self.all[0].origin.clone()
    }

    /// Chooses one for a request of this site; `None` where all that are left are down.
    pub(super) fn choose(
        &mut self,
        attempts: &mut Attempts,
        place: Place,
        cx: &mut Cx<'_>,
    ) -> Option<(&Origin, Way)> {
        let chosen = self.balance.choose(attempts.tried, cx.now)?;
        attempts.tried.insert(chosen);
        (attempts.last, attempts.awaited) = (Some(chosen), Some(chosen));
        let upstream = &self.all[chosen];
        if let Some(counted) = cx.counted.upstream(&upstream.name) {
            counted.requests += 1;
        }
        let way = Way {
            site: place,
            ..upstream.way.clone()
        };
        Some((&upstream.origin, way))
    }

    /// Whether a request that failed may go to another one. One that is out may be well again, and is
    /// asked rather than nobody; one that is down by its checks is not.
    pub(super) fn may_go_on(&self, attempts: &Attempts) -> bool {
        attempts.tried.len() < self.tries_max && self.balance.has_untried(attempts.tried)
    }

    /// Whether an answer with this status is a failure.
    pub(super) fn fails_on(&self, status: Status) -> bool {
        self.fail_on.contains(&status.code())
    }

    /// The one that is awaited failed.
    pub(super) fn failed(&mut self, attempts: &mut Attempts, why: &str, cx: &mut Cx<'_>) {
        let Some(place) = attempts.awaited.take() else {
            return;
        };
        let change = self.balance.failed(place, cx.now);
        let Upstream {
            name, fail_timeout, ..
        } = &self.all[place];
        if let Some(counted) = cx.counted.upstream(name) {
            counted.fails += 1;
        }
        if change == Some(Change::Lost) {
            log::warn!("upstream {name} gets no requests for {fail_timeout:?}: {why}");
        }
        self.changed(place, change, &mut cx.counted);
    }

    /// The one that is awaited answered with this status.
    pub(super) fn answered(&mut self, attempts: &mut Attempts, status: Status, cx: &mut Cx<'_>) {
        if !attempts.is_awaited() {
            return;
        }
        if self.fails_on(status) {
            return self.failed(attempts, &format!("it answered {status}"), cx);
        }
        if let Some(place) = attempts.awaited.take() {
            let change = self.balance.answered(place);
            self.changed(place, change, &mut cx.counted);
        }
    }

    /// A check that is to begin, of an upstream of this site's, if there is one.
    pub(super) fn take_check(&mut self, place: Place, now: Instant) -> Option<Check> {
        let checks = self.checks.as_mut()?;
        let upstream = checks.begin(now)?;
        Some(Check::new(place, upstream, checks, now))
    }

    /// When that is to be asked for again.
    pub(super) fn check_due(&self) -> Option<Instant> {
        self.checks.as_ref()?.due()
    }

    /// What one is checked by.
    pub(super) fn to_check(&self, place: usize) -> Option<(&Checks, &Origin)> {
        Some((self.checks.as_ref()?, &self.all[place].origin))
    }

    /// One was checked.
    pub(super) fn checked(&mut self, place: usize, verdict: Verdict, cx: &mut Cx<'_>) {
        let Some(checks) = &self.checks else {
            return;
        };
        let name = &self.all[place].name;
        let thresholds = checks.thresholds;
        let change = self.balance.checked(place, verdict.is_ok(), thresholds);
        if let Err(why) = verdict {
            if let Some(counted) = cx.counted.upstream(name) {
                counted.checks_failed += 1;
            }
            match change {
                Some(_) => log::warn!("upstream {name} is down, and gets no requests: {why}"),
                None => log::debug!("upstream {name}: its check failed: {why}"),
            }
        }
        self.changed(place, change, &mut cx.counted);
    }

    /// A check is over, whatever came of it.
    pub(super) fn check_ended(&mut self, place: usize) {
        if let Some(checks) = &mut self.checks {
            checks.ended(place);
        }
    }

    /// The names of all, as they are counted, and whether each gets requests in its turn.
    pub(super) fn served(&self) -> impl Iterator<Item = (&str, bool)> {
        let all = self.all.iter().enumerate();
        all.map(|(place, upstream)| (&*upstream.name, self.balance.is_served(place)))
    }

    /// What is known of them.
    pub(super) fn learned(&self) -> LearnedOfUpstreams {
        LearnedOfUpstreams {
            names: self.all.iter().map(|one| one.name.clone()).collect(),
            balance: self.balance.clone(),
            asks: self.checks.as_ref().map(Checks::asks),
        }
    }

    /// Those that were there before are thought of as they were, by their URLs; by their checks as well
    /// where these ask and expect the same. All others are new.
    pub(super) fn inherit(&mut self, learned: &LearnedOfUpstreams) {
        let asks = self.checks.as_ref().map(Checks::asks);
        let checks_too = asks.is_some() && asks == learned.asks;
        let before = self.all.iter().map(|one| {
            let mut known = learned.names.iter();
            known.position(|name| *name == one.name)
        });
        let before: Vec<Option<usize>> = before.collect();
        self.balance.inherit(&learned.balance, &before, checks_too);
    }

    fn changed(&self, place: usize, change: Option<Change>, counted: &mut Counted<'_>) {
        if change.is_none() {
            return;
        }
        let name = &self.all[place].name;
        if let Some(counted) = counted.upstream(name) {
            counted.is_up = self.balance.is_served(place);
        }
        if change == Some(Change::Back) {
            log::warn!("upstream {name} is back");
        }
    }
}

impl Upstream {
    fn new(config: &config::UpstreamConfig) -> Self {
        let config::Upstream { tls, host, port } = &config.origin;
        let origin = Origin::new(host, *port, *tls);
        let scheme = if *tls { "https" } else { "http" };
        Self {
            name: format!("{scheme}://{}", origin.authority),
            way: Way::new(origin.host(), *port, *tls, 0),
            origin,
            fail_timeout: config.fail_timeout,
        }
    }
}
