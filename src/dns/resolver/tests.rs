//! What the resolver does, driven by hand: its clock, its servers, its waiters.

mod stale;

use std::collections::BTreeSet;

use super::super::message::{Framed, forge, stream_message};
use super::*;
use proptest::prelude::*;
use simple_dns::RCODE;

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

/// From here on all waiters are one client.
const MANY: u32 = 1 << 16;

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

    /// Each waiter is a client of its own, up to [`MANY`].
    fn ask(&mut self, name: &str, waiter: u32) -> Answer {
        let client = waiter.min(MANY).to_be_bytes();
        let answer = self
            .resolver
            .lookup(name, waiter, Some(client.into()), self.now);
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

    /// The query for A of the two that a lookup starts with; the one for AAAA is answered with
    /// "none".
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
        Transport::Tcp => match stream_message(&query.bytes) {
            Framed::Whole(message) => message,
            other => panic!("{other:?}"),
        },
    }
}

fn family(query: &Transmit) -> Family {
    forge::family(message(query))
}

impl<W: Copy + Ord> Resolver<W> {
    /// What holds between any two calls.
    fn check(&self) {
        let (mut asking, mut waiting) = (0, 0);
        for lookup in self.lookups.values() {
            assert!(!lookup.candidates.is_empty());
            assert!(lookup.waiters.len() <= self.config.waiters_max);
            assert_eq!(lookup.clients.in_all(), lookup.waiters.len());
            let is_attended = lookup.clients.of(lookup.client) > 0;
            assert_eq!(is_attended, !lookup.waiters.is_empty());
            assert!(lookup.waiters.keys().all(|w| self.waiting.contains_key(w)));
            waiting += lookup.waiters.len();
            let before = asking;
            for question in [&lookup.v4, &lookup.v6] {
                match question {
                    Question::Due => panic!("a question was not asked"),
                    Question::Asking(id) => {
                        let open = self.tries.find(*id).expect("a try under way");
                        assert!(open.deadline <= lookup.candidate_until);
                        assert!(lookup.candidate_until <= lookup.until);
                        asking += 1;
                    }
                    Question::Settled(_) => {}
                }
            }
            assert!(asking > before, "a lookup waits for nothing");
        }
        assert_eq!(asking, self.tries.len());
        assert_eq!(waiting, self.waiting.len());
        assert_eq!(self.shares.in_all(), self.lookups_under_way());
        assert!(self.lookups_under_way() <= self.config.lookups_max);
        self.answers.check();
        for (at, key) in &self.stale_due {
            assert_eq!(self.lookups[key].stale_at, *at);
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
    let took = Config::ATTEMPT_TIMEOUT * Config::ATTEMPTS;
    assert_eq!(bench.now - started, took);
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
fn a_lie_over_tcp_ends_the_try() {
    let mut bench = Bench::new(config());
    bench.start("www.test", 1);
    let query = bench.take_v4();
    let cut = forge::truncated(forge::reply(message(&query), RCODE::NoError, &[]));
    bench.deliver(&query, query.to, &cut);
    let [tcp] = bench.take();
    assert_eq!(bench.resolver.counters().tcp_queries, 1);
    bench.finished();
    let mut other_id = forge::reply(message(&tcp), RCODE::NoError, &["www.test 60 A 10.6.6.6"]);
    other_id[0] ^= 0x80;
    bench.deliver(&tcp, tcp.to, &other_id);
    assert_eq!(bench.resolver.counters().lies, 1);
    assert_eq!(bench.finished(), [tcp.query]);
    let [next] = bench.take();
    assert_eq!((next.transport, next.to), (Transport::Udp, server(2)));
    bench.reply(&next, RCODE::NoError, &["www.test 60 A 10.1.0.1"]);
    assert_eq!(bench.ask("www.test", 1), ready(&["10.1.0.1"]));
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
                    let cut = forge::truncated(forge::reply(&query.bytes, RCODE::NoError, lines));
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
    /// Looks `host` up with the search list `a.test b.test c.test`, `trouble` befalling the
    /// questions of one of the names: both, or the one for AAAA. Only the name `with_address`, if
    /// any, has an address. The names that were asked for, in order, and the answer.
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
                        (false, _) => bench.reply(&query, RCODE::NameError, &["test 30 SOA 30"]),
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
    let pending = bench.ask("c.test", 4).is_pending();
    assert!(pending, "an answer that is kept takes no place");
}

#[test]
fn a_lookup_ends_with_the_last_who_waits_for_it() {
    let mut bench = Bench::new(config());
    bench.start("a.test", 1);
    bench.start("a.test", 2);
    let queries = bench.take::<2>().map(|transmit| transmit.query);
    bench.resolver.forget(1);
    assert_eq!(bench.resolver.lookups_under_way(), 1);
    bench.resolver.forget(2);
    bench.resolver.forget(2);
    bench.resolver.check();
    assert_eq!(bench.resolver.lookups_under_way(), 0);
    assert_eq!(bench.resolver.deadline(), None, "nothing is awaited");
    let mut finished = bench.finished();
    finished.sort();
    assert_eq!(finished, queries, "the sockets may be closed");
    bench.start("a.test", 3);
    assert_eq!(bench.take::<2>().len(), 2, "it is asked for anew");
}

#[test]
fn who_asks_for_another_name_waits_for_that_one_only() {
    let mut bench = Bench::new(config());
    bench.start("a.test", 1);
    bench.start("b.test", 1);
    bench.resolver.check();
    assert_eq!(bench.resolver.lookups_under_way(), 1);
    bench.serve(&["b.test 300 A 10.1.0.1"]);
    assert_eq!(bench.woken(), [1]);
    assert_eq!(bench.ask("b.test", 1), ready(&["10.1.0.1"]));
}

#[test]
fn one_client_leaves_places_for_the_others() {
    let mut bench = Bench::new(Config {
        lookups_max: 8,
        waiters_max: 8,
        ..config()
    });
    let busy = Poll::Ready(Err(Failure::Busy));
    for n in 0..4 {
        bench.start(&format!("n{n}.test"), MANY + n);
    }
    assert_eq!(bench.ask("n4.test", MANY + 4), busy);
    bench.start("mine.test", 1);
    // Nor can it keep others from a name that it waits for itself.
    for n in 0..3 {
        bench.start("n0.test", MANY + 10 + n);
    }
    assert_eq!(bench.ask("n0.test", MANY + 13), busy);
    bench.start("n0.test", 2);
    bench.resolver.check();
}

#[test]
fn a_lookup_is_in_the_share_of_somebody_who_waits_for_it() {
    let mut bench = Bench::new(Config {
        lookups_max: 2,
        ..config()
    });
    bench.start("a.test", 1);
    bench.start("a.test", MANY);
    bench.resolver.forget(1);
    bench.resolver.check();
    let busy = Poll::Ready(Err(Failure::Busy));
    assert_eq!(bench.ask("b.test", MANY + 1), busy, "its client has one");
    bench.start("b.test", 1);
}

#[test]
fn answers_that_come_faster_than_they_are_let_go_are_bounded() {
    let mut bench = Bench::new(Config {
        lookups_max: 2,
        cache_entries_max: 3,
        ..config()
    });
    for n in 0..20 {
        let name = format!("n{n}.test");
        bench.start(&name, 1);
        bench.serve(&[&format!("{name} 300 A 10.1.0.1")]);
        assert!(
            bench.ask(&name, 1).is_ready(),
            "who waited finds its answer"
        );
    }
    assert!(bench.resolver.cached() <= 3 + 3 + 1);
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
    assert!(
        bench
            .resolver
            .lookup("www.test", 1, None, bench.now)
            .is_pending()
    );
    bench.pass(Config::ATTEMPT_TIMEOUT);
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
    Forget { waiter: u32 },
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
        (0..48_u32).prop_map(|waiter| Step::Forget { waiter }),
    ]
}

proptest! {
    /// Whatever happens, the invariants hold (each step checks them), each query handed out is
    /// finished once, and whoever waits is woken before the lookup's time is up.
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
                Step::Forget { waiter } => {
                    bench.resolver.forget(waiter);
                    bench.fetch();
                    waiting.remove(&waiter);
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
