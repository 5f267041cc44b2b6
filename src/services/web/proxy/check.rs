//! Whether upstreams are well: when each is asked, and one such question.
//!
//! A check is a session without a client: a GET on a connection of its own, which ends with the
//! head of the answer or when its time is up. It is no longer under way when the next one of its
//! upstream is due, or that one is left out: checks never pile up.
//!
//! ```text
//! Resolving ──▶ Connecting (with TLS, where it is spoken) ──▶ Awaiting ──a final head──▶ passed or failed
//! ```
//!
//! Not here: what follows from it ([`balance`](super::balance)).

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::Proxy;
use super::balance::Thresholds;
use super::opening::{introduce, tls_to};
use crate::config::CheckConfig;
use crate::http::Method;
use crate::http::head::{HeadScanner, Limits, Parsed};
use crate::service::Io;
use crate::service::origins::Opening;
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

    /// Reads the answer as far as it is there.
    fn judge(&self, scanner: &mut HeadScanner, limits: &Limits, io: &mut Io<'_>) -> Poll<Verdict> {
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
        let Some((checks, origin)) = proxy
            .upstreams
            .as_ref()
            .and_then(|all| all.to_check(self.upstream))
        else {
            return Poll::Ready(Ok(()));
        };
        if let State::Resolving = self.state {
            let addresses = match io.resolve(origin.host()) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Err(failure)) => return failed(&failure),
                Poll::Ready(Ok(addresses)) => addresses,
            };
            let tls = match tls_to(origin, &proxy.rules) {
                Ok(tls) => tls,
                Err((_, text)) => return failed(&text),
            };
            let opening = Opening {
                introduce: introduce(&proxy.rules, io),
                tls,
            };
            let to = addresses.iter().map(|&ip| SocketAddr::new(ip, origin.port));
            let to: Vec<SocketAddr> = to.collect();
            self.state = State::Connecting;
            // The answer comes with the next call: nothing is made before this one is over.
            let _ = io.connect_with(&to, checks.timeout, opening);
            return Poll::Pending;
        }
        if let State::Connecting = self.state {
            match (io.connect(&[], checks.timeout), io.trouble) {
                (Poll::Pending, _) => return Poll::Pending,
                (Poll::Ready(Ok(())), _) => {}
                (Poll::Ready(Err(_)), Some(trouble)) => return failed(&trouble.text),
                (Poll::Ready(Err(kind)), None) => return failed(&kind),
            }
            io.up.tx.put(&checks.head, io.cx.pool);
            self.state = State::Awaiting(HeadScanner::default());
        }
        match &mut self.state {
            State::Awaiting(scanner) => checks.judge(scanner, &proxy.rules.response_limits, io),
            State::Resolving | State::Connecting => Poll::Pending,
        }
    }
}

fn failed(why: &dyn std::fmt::Display) -> Poll<Verdict> {
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
