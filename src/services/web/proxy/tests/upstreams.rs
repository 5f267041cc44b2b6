//! Dialogues with a gateway that has several upstreams.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use super::{answered, asked, bench_with, config, own_answer};
use crate::config::{CheckConfig, ProxyConfig, UpstreamConfig, Upstreams};
use crate::metrics::UpstreamMetrics;
use crate::service::LinkState;
use crate::services::bench::Bench;
use crate::services::web::Web;

const GET: &[u8] = b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n";
const POST: &[u8] = b"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi";
const EMPTY: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Upstreams at 192.0.2.1 and so on.
fn upstreams(count: usize) -> Upstreams {
    let url = |n| format!("http://192.0.2.{n}").parse().expect("an address");
    let all: Vec<_> = (1..=count).map(|n| UpstreamConfig::new(url(n))).collect();
    all.into()
}

fn gateway(upstreams: Upstreams) -> Bench<Web> {
    bench_with(&ProxyConfig {
        upstream: Some(upstreams),
        ..config()
    })
}

/// Which upstream a connection is asked for to.
fn connects(bench: &mut Bench<Web>) -> u8 {
    let asked = bench.connect.take().expect("a connection is asked for");
    match asked[..] {
        [SocketAddr::V4(address)] => address.ip().octets()[3],
        _ => panic!("{asked:?}"),
    }
}

/// The client asks; the upstream to which a connection is made.
fn goes_to(bench: &mut Bench<Web>, request: &[u8]) -> u8 {
    bench.peer_sends(request);
    let upstream = connects(bench);
    bench.origin_accepts();
    assert!(
        asked(bench).contains("\r\nHost: 192.0.2.1\r\n"),
        "one name for all"
    );
    upstream
}

/// The same, and it answers on a connection that it does not keep.
fn is_answered_by(bench: &mut Bench<Web>) -> u8 {
    let upstream = goes_to(bench, GET);
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert!(answered(bench).starts_with("HTTP/1.1 200 OK\r\n"));
    upstream
}

#[test]
fn requests_go_to_all_in_turn_on_connections_of_their_own() {
    let mut bench = gateway(upstreams(2));
    for upstream in [1, 2] {
        assert_eq!(goes_to(&mut bench, GET), upstream);
        bench.origin_sends(EMPTY);
        answered(&mut bench);
    }
    for _ in 0..2 {
        bench.peer_sends(GET);
        assert_eq!(bench.connect, None, "both are kept");
        assert!(!asked(&mut bench).is_empty());
        bench.origin_sends(EMPTY);
        answered(&mut bench);
    }
    assert_eq!(bench.idle.len(), 2);
}

#[test]
fn what_was_not_sent_goes_to_the_next_one_whatever_it_is() {
    let mut bench = gateway(upstreams(3));
    bench.peer_sends(POST);
    for upstream in [1, 2] {
        assert_eq!(connects(&mut bench), upstream);
        bench
            .origin_fails(io::ErrorKind::ConnectionRefused)
            .expect(b"");
    }
    assert_eq!(connects(&mut bench), 3);
    bench.origin_accepts();
    assert!(asked(&mut bench).ends_with("\r\n\r\nhi"));
    bench.origin_sends(EMPTY);
    assert!(answered(&mut bench).starts_with("HTTP/1.1 200 OK\r\n"));
    for _ in 0..3 {
        bench.connect = None;
        bench.peer_sends(GET);
        assert_eq!(bench.connect, None, "the others are out");
        asked(&mut bench);
        bench.origin_sends(EMPTY);
        answered(&mut bench);
    }
}

#[test]
fn what_may_be_repeated_goes_on_until_an_answer_begins_and_the_rest_does_not() {
    type Fails = fn(&mut Bench<Web>) -> &mut Bench<Web>;
    let failures: [Fails; 4] = [
        |bench| bench.origin_closes(),
        |bench| bench.origin_fails(io::ErrorKind::ConnectionReset),
        |bench| bench.origin_sends(b"HTTP/1.1 2").origin_closes(),
        |bench| bench.origin_sends(b"nonsense\r\n\r\n"),
    ];
    for fails in failures {
        let mut bench = gateway(upstreams(2));
        assert_eq!(goes_to(&mut bench, GET), 1);
        fails(&mut bench);
        assert_eq!(
            (connects(&mut bench), answered(&mut bench)),
            (2, String::new())
        );
        bench.origin_accepts();
        assert!(asked(&mut bench).starts_with("GET /a "));
        bench.origin_sends(EMPTY);
        assert!(answered(&mut bench).starts_with("HTTP/1.1 200 OK\r\n"));

        let mut bench = gateway(upstreams(2));
        assert_eq!(goes_to(&mut bench, POST), 1);
        fails(&mut bench);
        assert_eq!(own_answer(&mut bench).0, 502, "it may have had an effect");
    }
    let mut bench = gateway(upstreams(2));
    goes_to(&mut bench, GET);
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
    bench.origin_closes();
    assert!(
        answered(&mut bench).ends_with("\r\n\r\nhalf"),
        "it has begun"
    );
    bench.expect_closed();
}

#[test]
fn a_request_is_sent_to_each_once_and_to_as_many_as_it_may() {
    for (tries_max, last) in [(3, 3), (2, 2), (1, 1)] {
        let mut bench = gateway(Upstreams {
            tries_max,
            ..upstreams(3)
        });
        bench.peer_sends(GET);
        for upstream in 1..=last {
            assert_eq!(connects(&mut bench), upstream);
            bench.origin_fails(io::ErrorKind::ConnectionRefused);
        }
        let (code, text) = own_answer(&mut bench);
        assert_eq!(code, 502);
        assert!(
            text.contains(&format!("192.0.2.{last}: no connection")),
            "{text}"
        );
        bench.expect_open();
    }
}

#[test]
fn silence_is_a_failure_and_the_next_one_is_asked() {
    let mut bench = gateway(upstreams(2));
    assert_eq!(goes_to(&mut bench, GET), 1);
    bench.later(config().upstream_timeout);
    assert_eq!(connects(&mut bench), 2);
    bench.later(config().connect_timeout);
    assert_eq!(own_answer(&mut bench).0, 504);
    bench.expect_open();
}

#[test]
fn one_that_fails_is_left_alone_and_probed_and_all_are_tried_before_none_is() {
    let mut bench = gateway(upstreams(2));
    bench.peer_sends(GET);
    assert_eq!(connects(&mut bench), 1);
    bench.origin_fails(io::ErrorKind::ConnectionRefused);
    assert_eq!(connects(&mut bench), 2);
    bench.origin_accepts();
    asked(&mut bench);
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    answered(&mut bench);
    assert_eq!(
        [is_answered_by(&mut bench), is_answered_by(&mut bench)],
        [2, 2]
    );
    bench.later(Duration::from_secs(11));
    let of_four: Vec<u8> = (0..4).map(|_| is_answered_by(&mut bench)).collect();
    assert!(of_four.contains(&1) && of_four.contains(&2), "{of_four:?}");

    let mut bench = gateway(upstreams(2));
    for _ in 0..3 {
        bench.peer_sends(GET);
        for _ in 0..2 {
            connects(&mut bench);
            bench.origin_fails(io::ErrorKind::ConnectionRefused);
        }
        assert_eq!(own_answer(&mut bench).0, 502, "each was tried");
    }
}

#[test]
fn statuses_that_are_failures_go_to_the_client_only_from_the_last_one() {
    let busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy";
    let mut bench = gateway(Upstreams {
        fail_on: vec![503],
        ..upstreams(2)
    });
    assert_eq!(goes_to(&mut bench, GET), 1);
    bench.origin_sends(busy);
    assert_eq!(
        (connects(&mut bench), answered(&mut bench)),
        (2, String::new())
    );
    bench.origin_accepts();
    asked(&mut bench);
    bench.origin_sends(busy);
    assert!(answered(&mut bench).ends_with("\r\n\r\nbusy"));
    bench.expect_open();

    let mut bench = gateway(upstreams(2));
    assert_eq!(goes_to(&mut bench, GET), 1);
    bench.origin_sends(busy);
    assert!(
        answered(&mut bench).ends_with("busy"),
        "unless told otherwise"
    );
    assert_eq!(is_answered_by(&mut bench), 2);
}

const BUSY: &[u8] = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy";

/// Two upstreams, of which 503 is a failure; the first refused a connection and is out.
fn first_is_out(tries_max: usize) -> Bench<Web> {
    let mut bench = gateway(Upstreams {
        fail_on: vec![503],
        tries_max,
        ..upstreams(2)
    });
    bench.peer_sends(GET);
    assert_eq!(connects(&mut bench), 1);
    bench.origin_fails(io::ErrorKind::ConnectionRefused);
    if tries_max == 1 {
        assert_eq!(own_answer(&mut bench).0, 502);
        return bench;
    }
    assert_eq!(connects(&mut bench), 2);
    bench.origin_accepts();
    asked(&mut bench);
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    answered(&mut bench);
    bench
}

/// One that is out may be well by now: who is told of a failure by all others asks it as well.
#[test]
fn a_status_that_is_a_failure_goes_on_to_one_that_is_out_too() {
    let mut bench = first_is_out(2);
    assert_eq!(goes_to(&mut bench, GET), 2, "the first is out");
    bench.origin_sends(BUSY);
    assert_eq!(connects(&mut bench), 1);
    assert_eq!(answered(&mut bench), "");
    bench.origin_accepts();
    asked(&mut bench);
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
    assert!(answered(&mut bench).starts_with("HTTP/1.1 200 OK\r\n"));
    assert_eq!(is_answered_by(&mut bench), 1, "it is well, and back");

    // Each is asked once: the last answer is passed on, whatever it is.
    let mut bench = first_is_out(2);
    assert_eq!(goes_to(&mut bench, GET), 2);
    bench.origin_sends(BUSY);
    assert_eq!(connects(&mut bench), 1);
    bench.origin_accepts();
    asked(&mut bench);
    bench.origin_sends(BUSY);
    assert!(answered(&mut bench).ends_with("\r\n\r\nbusy"));
    assert_eq!(bench.connect, None);
    bench.expect_open();
}

#[test]
fn a_status_that_is_a_failure_is_passed_on_where_nobody_else_may_be_asked() {
    // It may have had an effect.
    let mut bench = first_is_out(2);
    assert_eq!(goes_to(&mut bench, POST), 2);
    bench.origin_sends(BUSY);
    assert!(answered(&mut bench).ends_with("\r\n\r\nbusy"));
    assert_eq!(bench.connect, None);

    let mut bench = first_is_out(1);
    assert_eq!(goes_to(&mut bench, GET), 2);
    bench.origin_sends(BUSY);
    assert!(answered(&mut bench).ends_with("\r\n\r\nbusy"), "one try");
    assert_eq!(bench.connect, None);

    // What is down by its checks is not asked, whatever else there is.
    let mut bench = gateway(Upstreams {
        fail_on: vec![503],
        check: Some(CheckConfig {
            path: "/up".to_owned(),
            ..CheckConfig::default()
        }),
        ..upstreams(2)
    });
    bench.peer_closes();
    bench.turn_ends();
    assert_eq!(checks(&mut bench, ["", WELL]), [1, 2]);
    let _client = bench.another();
    assert_eq!(goes_to(&mut bench, GET), 2);
    bench.origin_sends(BUSY);
    assert!(answered(&mut bench).ends_with("\r\n\r\nbusy"));
    assert_eq!(bench.connect, None);
}

#[test]
fn a_kept_connection_that_died_is_no_failure_of_its_upstream() {
    let mut bench = gateway(upstreams(2));
    for upstream in [1, 2] {
        assert_eq!(goes_to(&mut bench, GET), upstream);
        bench.origin_sends(EMPTY);
        answered(&mut bench);
    }
    bench.peer_sends(GET);
    assert_eq!(
        (bench.up.status, bench.connect.is_some()),
        (LinkState::Open, false)
    );
    asked(&mut bench);
    bench.origin_closes();
    assert_eq!(connects(&mut bench), 1, "the same once more");
    bench.origin_fails(io::ErrorKind::ConnectionRefused);
    assert_eq!(bench.connect, None, "the second is kept");
    assert!(asked(&mut bench).starts_with("GET /a "));
}

/// Two upstreams that are checked every five seconds.
fn checked() -> Bench<Web> {
    let mut bench = gateway(Upstreams {
        check: Some(CheckConfig {
            path: "/up".to_owned(),
            ..CheckConfig::default()
        }),
        ..upstreams(2)
    });
    bench.peer_closes(); // the client is of no use here
    bench.turn_ends();
    bench
}

/// The checks that are due now, each with an answer of its upstream, or none at all: which were
/// made.
fn checks(bench: &mut Bench<Web>, answers: [&str; 2]) -> Vec<u8> {
    let mut made = Vec::new();
    while let Some(mut client) = bench.alone() {
        let upstream = connects(bench);
        made.push(upstream);
        match answers[usize::from(upstream) - 1] {
            "" => drop(
                bench
                    .origin_fails(io::ErrorKind::ConnectionRefused)
                    .received(),
            ),
            answer => {
                bench.origin_accepts();
                let request = "GET /up HTTP/1.1\r\nHost: 192.0.2.1\r\nUser-Agent: netlab-reactor (check)\r\n\
                    Accept: */*\r\nConnection: close\r\n\r\n";
                assert_eq!(asked(bench), request);
                bench.origin_sends(answer.as_bytes());
            }
        }
        bench.expect_closed().expect(b"");
        assert_eq!(bench.up.status, LinkState::Closed);
        bench.switch(&mut client);
    }
    made
}

const WELL: &str = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
const ILL: &str = "HTTP/1.1 500 Oh\r\nContent-Length: 2\r\n\r\nno";

/// The upstream that a new client's request is sent to; it answers.
fn serves(bench: &mut Bench<Web>) -> u8 {
    let mut before = bench.another();
    let upstream = is_answered_by(bench);
    bench.peer_closes();
    bench.switch(&mut before);
    upstream
}

#[test]
fn what_fails_its_checks_gets_no_requests_until_it_passes_them() {
    let mut bench = checked();
    let serve = |bench: &mut Bench<Web>| [serves(bench), serves(bench)];
    let every = |bench: &mut Bench<Web>, answers| {
        let made = checks(bench, answers);
        assert_eq!(made, [1, 2]);
        assert!(bench.alone().is_none(), "not before they are due");
        bench.now += Duration::from_secs(5);
    };
    every(&mut bench, [WELL, WELL]);
    assert_eq!(serve(&mut bench), [1, 2]);
    for answers in [[ILL, WELL], ["", WELL]] {
        every(&mut bench, answers);
        assert_eq!(serve(&mut bench), [1, 2], "three must fail");
    }
    every(&mut bench, ["nonsense\r\n\r\n", WELL]);
    assert_eq!(serve(&mut bench), [2, 2]);
    every(&mut bench, [WELL, WELL]);
    assert_eq!(serve(&mut bench), [2, 2], "two must pass");
    every(&mut bench, [WELL, WELL]);
    assert!((0..3).any(|_| serves(&mut bench) == 1));
}

#[test]
fn while_all_are_down_nobody_is_asked_and_the_client_is_told() {
    let mut bench = checked();
    assert_eq!(checks(&mut bench, ["", ILL]), [1, 2]);
    let _first = bench.another();
    bench.peer_sends(GET);
    assert_eq!(bench.connect, None);
    let answer = answered(&mut bench);
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("\r\nProxy-Status: netlab-reactor; error=destination_unavailable;"));
    assert!(answer.contains("\r\nRetry-After: 1\r\n"));
    assert!(
        answer.contains("192.0.2.1: every upstream is down"),
        "{answer}"
    );
    bench.expect_open();
}

#[test]
fn a_check_ends_when_its_time_is_up_and_when_the_process_does() {
    let mut bench = checked();
    let mut first = bench.alone().expect("a check");
    bench.origin_accepts();
    bench.later(CheckConfig::default().timeout);
    bench.expect_closed();
    bench.switch(&mut first);
    let _second = bench.alone().expect("the other's");
    bench.draining = true;
    bench.step();
    bench.expect_closed();
    bench.draining = false;
    let _client = bench.another();
    bench.peer_sends(GET);
    assert_eq!(
        connects(&mut bench),
        2,
        "the first is down, of the second nothing is known"
    );
}

#[test]
fn what_became_of_each_upstream_is_counted_by_its_url() {
    let mut bench = checked();
    let counts = |bench: &Bench<Web>| -> Vec<_> {
        let web = bench.metrics.listeners[0].of.web().expect("a web server");
        let of = |u: &UpstreamMetrics| (u.is_up, u.requests, u.fails, u.checks_failed);
        web.upstreams.iter().map(of).collect()
    };
    assert_eq!(counts(&bench), [(true, 0, 0, 0); 2]);
    checks(&mut bench, [WELL, ""]);
    assert_eq!(serves(&mut bench), 1);
    assert_eq!(counts(&bench), [(true, 1, 0, 0), (false, 0, 0, 1)]);
    let _client = bench.another();
    goes_to(&mut bench, GET);
    bench.origin_closes();
    assert_eq!(own_answer(&mut bench).0, 502);
    assert_eq!(counts(&bench), [(false, 2, 1, 0), (false, 0, 0, 1)]);
    let web = bench.metrics.listeners[0].of.web().expect("a web server");
    let names: Vec<&str> = web.upstreams.iter().map(|u| &*u.name).collect();
    assert_eq!(names, ["http://192.0.2.1", "http://192.0.2.2"]);
}

/// Checks go by the way of the requests: by a parent, unless it is not for that upstream.
#[test]
fn checks_go_by_the_parent_where_requests_do() {
    let asks = |scheme: &str, no_proxy: &str| {
        let url = |n| {
            format!("{scheme}://192.0.2.{n}")
                .parse()
                .expect("an address")
        };
        let all: Vec<_> = (8..=9).map(|n| UpstreamConfig::new(url(n))).collect();
        let mut bench = bench_with(&ProxyConfig {
            upstream: Some(Upstreams {
                check: Some(CheckConfig::default()),
                ..all.into()
            }),
            ..super::parent::below(no_proxy)
        });
        bench.peer_closes();
        bench.turn_ends();
        let client = bench.alone().expect("a check");
        let to = connects(&mut bench);
        bench.origin_accepts();
        (to, asked(&mut bench), bench, client)
    };
    let (to, request, mut bench, _client) = asks("http", "");
    assert_eq!(to, 2);
    assert!(
        request.starts_with("GET http://192.0.2.8/ HTTP/1.1\r\nHost: 192.0.2.8\r\n"),
        "{request}"
    );
    assert!(
        request.contains("\r\nProxy-Authorization: Basic "),
        "{request}"
    );
    bench.origin_sends(b"HTTP/1.1 407 Who\r\nContent-Length: 0\r\n\r\n");
    bench.expect_closed();
    let web = bench.metrics.listeners[0].of.web().expect("a web server");
    assert_eq!(web.upstreams[0].checks_failed, 1);

    let (to, request, mut bench, _client) = asks("https", "");
    assert_eq!(to, 2);
    assert!(
        request.starts_with("CONNECT 192.0.2.8:443 HTTP/1.1\r\nHost: 192.0.2.8:443\r\n"),
        "{request}"
    );
    bench.origin_sends(b"HTTP/1.1 200 Open\r\n\r\n");
    assert_eq!(bench.secured.as_deref(), Some("192.0.2.8"));
    bench.origin_accepts();
    let request = asked(&mut bench);
    assert!(request.starts_with("GET / HTTP/1.1\r\n"), "{request}");
    assert!(!request.contains("Proxy-Authorization"), "{request}");

    let (to, request, ..) = asks("http", "192.0.2.8");
    assert_eq!(to, 8);
    assert!(request.starts_with("GET / HTTP/1.1\r\n"), "{request}");
}
