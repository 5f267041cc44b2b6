//! Addresses that have expired (RFC 8767): when they are given, and when they are not.

use super::*;

/// The time to live of the answer that goes stale.
const TTL: Duration = Duration::from_secs(60);
const OLD: [&str; 1] = ["10.1.0.1"];

impl Bench {
    /// Knows an address of `www.test` that has just expired.
    fn with_stale(config: Config) -> Bench {
        let mut bench = Bench::new(config);
        bench.start("www.test", 1);
        bench.serve(&["www.test 60 A 10.1.0.1"]);
        assert_eq!(bench.woken(), [1]);
        bench.pass(TTL);
        bench.finished();
        bench
    }

    /// Every query under way fails, and those that follow, until nothing is under way.
    fn fail_all(&mut self, rcode: RCODE) {
        while let Some(query) = self.queries.pop() {
            self.reply(&query, rcode, &[]);
        }
        assert_eq!(self.resolver.lookups_under_way(), 0);
    }
}

#[test]
fn silence_brings_what_has_expired_while_the_lookup_goes_on() {
    let mut bench = Bench::with_stale(config());
    bench.start("www.test", 1);
    bench.start("www.test", 2);
    bench.pass(Config::STALE_DELAY - Duration::from_millis(1));
    assert!(bench.woken().is_empty(), "the servers have that long");
    bench.pass(Duration::from_millis(1));
    assert_eq!(bench.woken(), [1, 2]);
    assert_eq!(bench.ask("www.test", 1), ready(&OLD));
    assert_eq!(bench.ask("www.test", 2), ready(&OLD));
    assert_eq!(bench.ask("www.test", 3), ready(&OLD), "nobody waits again");
    assert_eq!(bench.resolver.counters().stale, 3);
    assert_eq!(bench.resolver.lookups_under_way(), 1, "behind");
    bench.serve(&["www.test 60 A 10.1.0.2"]);
    assert_eq!(bench.resolver.lookups_under_way(), 0);
    assert!(bench.woken().is_empty());
    assert_eq!(bench.ask("www.test", 1), ready(&["10.1.0.2"]));
    assert_eq!(bench.resolver.counters().stale, 3);
    assert_eq!(bench.resolver.counters().lookups, 2);
}

#[test]
fn where_nobody_can_say_what_has_expired_is_given_for_a_while_before_they_are_asked_again() {
    for rcode in [RCODE::ServerFailure, RCODE::Refused, RCODE::NotImplemented] {
        let mut bench = Bench::with_stale(config());
        bench.start("www.test", 1);
        bench.fail_all(rcode);
        assert_eq!(bench.woken(), [1]);
        assert_eq!(bench.ask("www.test", 1), ready(&OLD), "{rcode:?}");
        bench.pass(Config::STALE_TTL - Duration::from_millis(1));
        assert_eq!(bench.ask("www.test", 1), ready(&OLD));
        assert!(bench.queries.is_empty(), "the servers are left alone");
        assert_eq!(bench.resolver.counters().stale, 2);
        bench.pass(Duration::from_millis(1));
        bench.start("www.test", 1);
        bench.serve(&["www.test 60 A 10.1.0.2"]);
        assert_eq!(bench.ask("www.test", 1), ready(&["10.1.0.2"]));
    }
}

#[test]
fn a_server_that_stays_silent_ends_the_lookup_behind_in_time() {
    let mut bench = Bench::with_stale(config());
    bench.start("www.test", 1);
    while bench.resolver.deadline().is_some() {
        bench.wait();
    }
    assert_eq!(bench.woken(), [1]);
    assert_eq!(bench.resolver.lookups_under_way(), 0);
    assert_eq!(bench.finished().len() as u32, 2 * Config::ATTEMPTS);
    assert_eq!(bench.ask("www.test", 1), ready(&OLD));
}

#[test]
fn no_is_an_answer_and_replaces_what_has_expired() {
    for (rcode, failure) in [
        (RCODE::NameError, Failure::NotFound),
        (RCODE::NoError, Failure::NoAddress),
    ] {
        let mut bench = Bench::with_stale(config());
        bench.start("www.test", 1);
        bench.pass(Config::STALE_DELAY);
        assert_eq!(bench.ask("www.test", 1), ready(&OLD));
        for query in std::mem::take(&mut bench.queries) {
            bench.reply(&query, rcode, &["test 30 SOA 30"]);
        }
        assert_eq!(bench.ask("www.test", 1), Poll::Ready(Err(failure)));
        bench.pass(Duration::from_secs(30));
        bench.start("www.test", 1);
        bench.fail_all(RCODE::ServerFailure);
        let failure = Poll::Ready(Err(Failure::ServerFailure));
        assert_eq!(bench.ask("www.test", 1), failure, "it is gone");
    }
}

#[test]
fn nothing_is_used_longer_than_the_most_that_it_may_be_stale() {
    let stale_max = Duration::from_secs(100);
    let mut bench = Bench::with_stale(Config {
        stale_max,
        ..config()
    });
    // Each failure keeps it for another while, but not beyond that.
    for _ in 0..3 {
        bench.start("www.test", 1);
        bench.fail_all(RCODE::ServerFailure);
        assert_eq!(bench.ask("www.test", 1), ready(&OLD));
        bench.pass(Config::STALE_TTL);
    }
    bench.start("www.test", 1);
    bench.fail_all(RCODE::ServerFailure);
    bench.pass(Duration::from_secs(9));
    assert_eq!(bench.ask("www.test", 1), ready(&OLD));
    bench.pass(Duration::from_secs(1));
    bench.start("www.test", 1);
    bench.fail_all(RCODE::ServerFailure);
    let failure = Poll::Ready(Err(Failure::ServerFailure));
    assert_eq!(bench.ask("www.test", 1), failure);
}

#[test]
fn without_a_time_for_it_nothing_is_used_once_it_has_expired() {
    let mut bench = Bench::with_stale(Config {
        stale_max: Duration::ZERO,
        ..config()
    });
    bench.start("www.test", 1);
    bench.pass(Config::STALE_DELAY);
    assert!(bench.woken().is_empty());
    bench.queries.clear();
    while bench.resolver.deadline().is_some() {
        bench.wait();
    }
    assert_eq!(bench.ask("www.test", 1), Poll::Ready(Err(Failure::Timeout)));
    assert_eq!(bench.resolver.counters().stale, 0);
}

#[test]
fn without_a_delay_what_has_expired_is_given_at_once_and_asked_for_behind() {
    let mut bench = Bench::with_stale(Config {
        stale_delay: Duration::ZERO,
        ..config()
    });
    assert_eq!(bench.ask("www.test", 1), ready(&OLD));
    assert_eq!(bench.resolver.lookups_under_way(), 1);
    bench.pass(Duration::ZERO);
    bench.serve(&["www.test 60 A 10.1.0.2"]);
    assert!(bench.woken().is_empty());
    assert_eq!(bench.ask("www.test", 1), ready(&["10.1.0.2"]));
}

#[test]
fn where_there_is_no_place_for_a_lookup_what_has_expired_is_given() {
    let mut bench = Bench::with_stale(Config {
        lookups_max: 1,
        ..config()
    });
    bench.start("other.test", 2);
    assert_eq!(bench.ask("www.test", 1), ready(&OLD));
    let busy = Poll::Ready(Err(Failure::Busy));
    assert_eq!(bench.ask("third.test", 1), busy);
}

#[test]
fn a_lookup_behind_keeps_its_place_among_those_of_its_client() {
    let mut bench = Bench::with_stale(Config {
        lookups_max: 2,
        ..config()
    });
    bench.start("www.test", MANY);
    bench.pass(Config::STALE_DELAY);
    let busy = Poll::Ready(Err(Failure::Busy));
    assert_eq!(bench.ask("other.test", MANY + 1), busy);
    bench.fail_all(RCODE::ServerFailure);
    bench.start("other.test", MANY + 1);
}

#[test]
fn what_has_expired_outlives_a_lookup_that_nobody_waited_for() {
    let mut bench = Bench::with_stale(config());
    bench.start("www.test", 1);
    bench.resolver.forget(1);
    assert_eq!(bench.resolver.lookups_under_way(), 0);
    assert_eq!(bench.resolver.deadline(), None);
    bench.queries.clear();
    bench.start("www.test", 2);
    bench.fail_all(RCODE::ServerFailure);
    assert_eq!(bench.ask("www.test", 2), ready(&OLD));
}

#[test]
fn what_has_expired_is_the_first_to_make_room() {
    let mut bench = Bench::with_stale(Config {
        cache_entries_max: 2,
        ..config()
    });
    for name in ["a.test", "b.test"] {
        bench.start(name, 1);
        bench.serve(&[&format!("{name} 300 A 10.1.0.9")]);
    }
    bench.pass(HOLD);
    bench.woken();
    assert_eq!(bench.resolver.cached(), 2);
    assert_eq!(bench.resolver.counters().evicted, 0, "it had expired");
    for name in ["a.test", "b.test"] {
        assert!(bench.ask(name, 1).is_ready());
    }
    bench.start("www.test", 1);
    bench.pass(Config::STALE_DELAY);
    assert!(bench.woken().is_empty(), "it made room");
}

#[test]
fn who_waits_for_what_made_room_meanwhile_waits_for_the_servers() {
    let mut bench = Bench::with_stale(Config {
        cache_entries_max: 0,
        lookups_max: 8,
        ..config()
    });
    assert_eq!(bench.resolver.cached(), 0);
    bench.start("www.test", 1);
    bench.pass(Config::STALE_DELAY);
    assert!(bench.woken().is_empty());
    bench.serve(&["www.test 60 A 10.1.0.2"]);
    assert_eq!(bench.woken(), [1]);
}

#[test]
fn a_reload_forgets_what_has_expired_and_ends_the_lookups_behind() {
    let mut bench = Bench::with_stale(config());
    bench.start("www.test", 1);
    bench.pass(Config::STALE_DELAY);
    assert_eq!(bench.ask("www.test", 1), ready(&OLD));
    bench.resolver.reload(config(), Hosts::default());
    assert_eq!(bench.resolver.lookups_under_way(), 0);
    assert_eq!(bench.resolver.deadline(), None);
    bench.queries.clear();
    bench.start("www.test", 1);
    bench.resolver.reload(config(), Hosts::default());
    assert_eq!(bench.resolver.lookups_under_way(), 1, "somebody waits");
    bench.fail_all(RCODE::ServerFailure);
    let failure = Poll::Ready(Err(Failure::ServerFailure));
    assert_eq!(bench.ask("www.test", 1), failure);
}
