//! Dialogues on the bench. The hosts file there has `origin.example` at 192.0.2.1 and
//! `inside.example` at 127.0.0.1.

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use super::tunnel::TUNNEL_OPEN;
use crate::config::{self, Cache, HttpConfig, Ports, ProxyConfig, StreamConfig};
use crate::dns::{self, Hosts, Resolver};
use crate::ending::{Ending, Error, Phase};
use crate::http::body::{BodyDecoder, CHUNK_END, ChunkHead, LAST_CHUNK};
use crate::http::forwarded::Fields;
use crate::http::head::BodyLength;
use crate::http::host_pattern::HostPattern;
use crate::service::origins::Introduce;
use crate::service::{Ends, Finish, LinkState, Peer, Service, Side};
use crate::services::bench::Bench;
use crate::services::web::{Given, Web};
use crate::sys::unix;
use crate::wire::proxy_protocol::Version;
use proptest::prelude::*;

mod cache;
mod parent;
mod upstreams;

const VIA: &str = "Via: 1.1 netlab-reactor (0000feed)\r\n";
/// What the proxy adds to a response that came without a date.
const ADDED: &str = "Date: Wed, 14 Oct 2026 17:46:40 GMT\r\nVia: 1.1 netlab-reactor (0000feed)\r\n";
const SANDBOX: &str = "Content-Security-Policy: sandbox allow-same-origin allow-forms allow-popups allow-downloads\r\n";
const GET: &[u8] = b"GET http://origin.example/a?b HTTP/1.1\r\nHost: x\r\n\r\n";

fn config() -> ProxyConfig {
    ProxyConfig::new(Cache::Off)
}

fn service(config: &ProxyConfig) -> Web {
    let mut disk = unix::Files::default();
    let given = Given {
        id: 0xfeed,
        ..Given::default()
    };
    Web::proxy(config, &given, &mut disk).expect("nothing to open")
}

fn bench_with(config: &ProxyConfig) -> Bench<Web> {
    Bench::new(service(config))
}

fn bench() -> Bench<Web> {
    bench_with(&config())
}

fn gateway() -> Bench<Web> {
    bench_with(&ProxyConfig {
        upstream: Some("http://127.0.0.1:8000".parse().expect("an origin")),
        ..config()
    })
}

/// What the origin of a gateway is told of a client that asked for this host.
fn told(host: &str) -> String {
    format!("X-Forwarded-For: 192.0.2.9\r\nX-Forwarded-Proto: http\r\nX-Forwarded-Host: {host}\r\n")
}

/// What the origin received, as text.
fn asked(bench: &mut Bench<Web>) -> String {
    String::from_utf8(bench.origin_received()).expect("text")
}

/// What the client received, as text.
fn answered(bench: &mut Bench<Web>) -> String {
    String::from_utf8_lossy(&bench.received()).into_owned()
}

/// The client asks for `request`, and the connection to the origin is made.
fn connected(bench: &mut Bench<Web>, request: &[u8]) -> String {
    bench.peer_sends(request).origin_accepts();
    asked(bench)
}

/// The status of an answer of our own to `request`, and its text.
fn refused(bench: &mut Bench<Web>, request: &str) -> (u16, String) {
    bench.peer_sends(request.as_bytes());
    own_answer(bench)
}

fn own_answer(bench: &mut Bench<Web>) -> (u16, String) {
    let answer = answered(bench);
    let code = answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3))
        .unwrap_or_else(|| panic!("an answer: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole head");
    assert!(head.contains(&format!("Content-Length: {}", body.len())));
    (code.parse().expect("a code"), body.to_owned())
}

#[test]
fn an_absolute_request_goes_to_its_origin_and_the_answer_comes_back() {
    let mut bench = bench();
    bench.peer_sends(
        b"GET http://origin.example:8081/a?b HTTP/1.1\r\nHost: other\r\nUser-Agent:  x \r\nACCEPT:*/*\r\n\r\n",
    );
    let address = "192.0.2.1:8081".parse().expect("an address");
    assert_eq!(bench.connect, Some(vec![address]));
    bench.origin_accepts();
    assert_eq!(
        asked(&mut bench),
        format!(
            "GET /a?b HTTP/1.1\r\nHost: origin.example:8081\r\nUser-Agent:  x \r\nACCEPT:*/*\r\n{VIA}\r\n"
        )
    );
    bench
        .origin_sends(b"HTTP/1.1 200 Fine\r\nServer: s\r\nContent-Length: 5\r\n\r\nhello")
        .expect_open();
    assert_eq!(
        answered(&mut bench),
        format!("HTTP/1.1 200 Fine\r\nServer: s\r\nContent-Length: 5\r\n{ADDED}\r\nhello")
    );
}

#[test]
fn headers_of_one_connection_are_dropped_both_ways() {
    let mut bench = bench();
    let request = b"GET http://origin.example/ HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, X-Drop\r\nX-Drop: 1\r\n\
        Keep-Alive: 5\r\nProxy-Connection: keep-alive\r\nProxy-Authorization: Basic x\r\nTE: trailers\r\n\
        Upgrade: h2c\r\nX-Keep: 2\r\nVia: 1.0 a\r\n\r\n";
    assert_eq!(
        connected(&mut bench, request),
        format!("GET / HTTP/1.1\r\nHost: origin.example\r\nX-Keep: 2\r\nVia: 1.0 a\r\n{VIA}\r\n")
    );
    bench.origin_sends(
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive, X-Drop\r\nX-Drop: 1\r\nKeep-Alive: timeout=5\r\n\
        Proxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
    );
    assert_eq!(
        answered(&mut bench),
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{}\r\n",
            ADDED.replace("1.1", "1.0")
        )
    );
    bench.expect_open();
}

#[test]
fn the_same_origin_is_asked_on_the_same_connection_and_another_is_not() {
    let mut bench = bench();
    connected(&mut bench, GET);
    bench.origin_sends(b"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(
        answered(&mut bench),
        format!("HTTP/1.1 204 No Content\r\n{ADDED}\r\n")
    );
    bench.connect = None;
    bench.peer_sends(b"GET http://ORIGIN.example:80/2 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(bench.connect, None, "no connection is asked for");
    assert!(asked(&mut bench).starts_with("GET /2 HTTP/1.1\r\nHost: ORIGIN.example:80\r\n"));
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    bench.peer_sends(b"GET http://192.0.2.7/3 HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(
        bench.connect,
        Some(vec!["192.0.2.7:80".parse().expect("an address")])
    );
}

#[test]
fn pipelined_requests_are_answered_in_order() {
    let mut bench = bench();
    let two = [
        GET,
        b"GET http://origin.example/2 HTTP/1.1\r\nHost: x\r\n\r\n",
    ]
    .concat();
    assert!(connected(&mut bench, &two).starts_with("GET /a?b "));
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1");
    assert!(answered(&mut bench).ends_with("\r\n\r\n1"));
    assert!(asked(&mut bench).starts_with("GET /2 "));
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n2");
    assert!(answered(&mut bench).ends_with("\r\n\r\n2"));
    bench.expect_open();
}

#[test]
fn a_kept_connection_that_died_is_replaced_before_and_after_sending() {
    let mut bench = bench();
    connected(&mut bench, GET);
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    bench.origin_closes();
    assert_eq!(bench.idle.len(), 0, "it is dropped while idle");
    let first = connected(&mut bench, GET);
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    bench.received();

    bench.peer_sends(GET);
    assert_eq!(asked(&mut bench), first);
    bench.origin_closes().expect(b"").origin_accepts();
    assert_eq!(asked(&mut bench), first, "the same request once more");
    bench.origin_fails(io::ErrorKind::ConnectionReset);
    assert_eq!(own_answer(&mut bench).0, 502, "but once only");
    bench.expect_open();
}

#[test]
fn a_connection_that_one_client_is_done_with_is_used_by_the_next() {
    let mut bench = bench();
    connected(&mut bench, GET);
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(bench.up.status, LinkState::Closed, "nobody's");
    bench.connect = None;
    let first = bench.next_client();
    bench.peer_sends(GET);
    assert_eq!((bench.connect.take(), bench.idle.len()), (None, 0));
    assert!(asked(&mut bench).starts_with("GET /a?b "));
    let busy = bench.next_client();
    bench.up = crate::service::Link::new(LinkState::Closed, 1 << 20);
    bench.peer_sends(GET);
    assert!(bench.connect.is_some(), "it is in use");
    bench.ends(first);
    bench.ends(busy);
}

#[test]
fn a_connection_is_kept_only_after_a_clean_end() {
    let answers = [
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nmore",
    ];
    for answer in answers {
        let mut bench = bench();
        connected(&mut bench, GET);
        bench.origin_sends(answer.as_bytes());
        assert!(answered(&mut bench).contains(" 200 OK"));
        assert_eq!((bench.idle.len(), bench.up.status), (0, LinkState::Closed));
    }
    let mut bench = bench();
    let unread = b"PUT http://origin.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx";
    connected(&mut bench, unread);
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert_eq!(bench.idle.len(), 0, "it may never read the rest");
}

#[test]
fn what_may_have_had_an_effect_is_not_sent_twice() {
    let mut bench = bench();
    for request in [
        "POST http://origin.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
        "PUT http://origin.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx",
    ] {
        connected(&mut bench, GET);
        bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        bench.received();
        bench.peer_sends(request.as_bytes());
        asked(&mut bench);
        bench.origin_closes();
        let (code, text) = own_answer(&mut bench);
        assert_eq!(code, 502);
        assert!(text.contains("origin.example: it closed without an answer"));
    }
}

#[test]
fn an_answer_that_has_begun_is_not_asked_for_again() {
    let mut bench = bench();
    connected(&mut bench, GET);
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    bench.received();
    bench.peer_sends(GET).origin_sends(b"H").origin_closes();
    assert_eq!(own_answer(&mut bench).0, 502);
}

#[test]
fn bodies_with_a_length_and_in_chunks_are_passed_on() {
    for (framing, body) in [
        ("Content-Length: 11\r\n", "hello world"),
        (
            "Transfer-Encoding: chunked\r\n",
            "5\r\nhello\r\n6\r\n world\r\n0\r\nTrailer: t\r\n\r\n",
        ),
    ] {
        let mut bench = bench();
        let request =
            format!("POST http://origin.example/ HTTP/1.1\r\nHost: x\r\n{framing}\r\n{body}");
        let chunked = framing.starts_with('T');
        let (before, after) = if chunked {
            ("", framing)
        } else {
            (framing, "")
        };
        assert_eq!(
            connected(&mut bench, request.as_bytes()),
            format!("POST / HTTP/1.1\r\nHost: origin.example\r\n{before}{VIA}{after}\r\n{body}")
        );
        bench.origin_sends(format!("HTTP/1.1 200 OK\r\n{framing}\r\n{body}").as_bytes());
        assert_eq!(
            answered(&mut bench),
            format!("HTTP/1.1 200 OK\r\n{before}{ADDED}{after}\r\n{body}")
        );
        bench.expect_open();
        assert_eq!(bench.idle.len(), 1, "it is kept");
    }
}

#[test]
fn a_body_until_the_end_becomes_chunks() {
    let mut bench = bench();
    connected(&mut bench, GET);
    bench.origin_sends(b"HTTP/1.0 200 OK\r\n\r\nhello");
    bench.origin_sends(b" world").origin_closes();
    assert_eq!(
        answered(&mut bench),
        format!(
            "HTTP/1.1 200 OK\r\n{}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n",
            ADDED.replace("1.1", "1.0")
        )
    );
    bench.expect_open();
    assert_eq!(bench.up.status, LinkState::Closed);
}

#[test]
fn a_client_of_1_0_gets_no_chunks_and_the_end_of_the_connection() {
    for (response, body) in [
        (
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n",
            "abcde",
        ),
        ("HTTP/1.1 200 OK\r\n\r\nabcde", "abcde"),
    ] {
        let mut bench = bench();
        let request = b"GET http://origin.example/ HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
        assert_eq!(
            connected(&mut bench, request),
            "GET / HTTP/1.1\r\nHost: origin.example\r\nVia: 1.0 netlab-reactor (0000feed)\r\n\r\n"
        );
        bench.origin_sends(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n");
        bench.origin_sends(response.as_bytes());
        if !bench.is_over() {
            bench.origin_closes();
        }
        bench.expect_closed();
        assert_eq!(
            answered(&mut bench),
            format!("HTTP/1.1 200 OK\r\n{ADDED}Connection: close\r\n\r\n{body}")
        );
    }
}

#[test]
fn some_answers_have_no_body_whatever_their_head_says() {
    for (method, response, told) in [
        (
            "HEAD",
            "200 OK\r\nContent-Length: 9\r\n",
            "200 OK\r\nContent-Length: 9\r\n",
        ),
        (
            "HEAD",
            "200 OK\r\nTransfer-Encoding: chunked\r\n",
            "200 OK\r\n",
        ),
        (
            "GET",
            "304 Not Modified\r\nContent-Length: 9\r\n",
            "304 Not Modified\r\nContent-Length: 9\r\n",
        ),
        ("GET", "204 No Content\r\n", "204 No Content\r\n"),
    ] {
        let mut bench = bench();
        let request = format!("{method} http://origin.example/ HTTP/1.1\r\nHost: x\r\n\r\n");
        connected(&mut bench, request.as_bytes());
        bench.origin_sends(format!("HTTP/1.1 {response}\r\n").as_bytes());
        assert_eq!(
            answered(&mut bench),
            format!("HTTP/1.1 {told}{ADDED}\r\n"),
            "{method} {response}"
        );
        bench.expect_open();
        assert_eq!(bench.idle.len(), 1, "it is kept");
    }
}

#[test]
fn the_word_to_continue_is_the_origins() {
    let mut bench = bench();
    let request = b"POST http://origin.example/ HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n";
    let head = connected(&mut bench, request);
    assert!(head.contains("\r\nExpect: 100-continue\r\n"));
    bench
        .expect(b"")
        .origin_sends(b"HTTP/1.1 100 Continue\r\n\r\n")
        .expect(format!("HTTP/1.1 100 Continue\r\n{VIA}\r\n").as_bytes());
    bench.peer_sends(b"ok");
    assert_eq!(asked(&mut bench), "ok");
    bench
        .origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .expect_open();
}

#[test]
fn an_early_answer_ends_the_connection_behind_it() {
    let mut bench = bench();
    let request = b"POST http://origin.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n12";
    connected(&mut bench, request);
    bench.origin_sends(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
    assert_eq!(
        answered(&mut bench),
        format!(
            "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n{ADDED}Connection: close\r\n\r\nno"
        )
    );
    bench.expect_closed();
}

#[test]
fn an_answer_is_passed_on_when_the_origin_took_no_more_of_the_request() {
    let mut bench = bench();
    connected(
        &mut bench,
        b"POST http://origin.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n12",
    );
    bench.up.rx.push(
        b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno",
        &mut bench.pool,
    );
    bench.origin_fails(io::ErrorKind::BrokenPipe);
    assert!(answered(&mut bench).starts_with("HTTP/1.1 413 "));
    bench.expect_closed();
}

#[test]
fn the_address_bar_names_the_origin_in_the_path() {
    for (target, path, host, address) in [
        (
            "/origin.example/a/b?c",
            "/a/b?c",
            "origin.example",
            "192.0.2.1:80",
        ),
        ("/origin.example", "/", "origin.example", "192.0.2.1:80"),
        ("/origin.example?q", "/?q", "origin.example", "192.0.2.1:80"),
        ("/192.0.2.3:8081/", "/", "192.0.2.3:8081", "192.0.2.3:8081"),
        (
            "/[2001:db8::1]:8081/x",
            "/x",
            "[2001:db8::1]:8081",
            "[2001:db8::1]:8081",
        ),
        (
            "/origin.example/web/http://b.example/",
            "/web/http://b.example/",
            "origin.example",
            "192.0.2.1:80",
        ),
        (
            "/http://origin.example/a",
            "/a",
            "origin.example",
            "192.0.2.1:80",
        ),
    ] {
        let mut bench = bench();
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost:8888\r\n\r\n");
        bench.peer_sends(request.as_bytes());
        assert_eq!(
            bench.connect,
            Some(vec![address.parse().expect("an address")])
        );
        bench.origin_accepts();
        let head = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\n{VIA}\r\n");
        assert_eq!(asked(&mut bench), head, "{target}");
    }
}

#[test]
fn redirects_stay_in_the_address_bar() {
    let mut bench = bench();
    for (location, told) in [
        ("http://b.example/x", "/b.example/x"),
        ("HTTP://b.example:8081", "/b.example:8081"),
        ("//b.example/x", "/b.example/x"),
        ("/x?y", "/origin.example:8081/x?y"),
        ("x", "x"),
        ("https://b.example/", "/https://b.example/"),
    ] {
        bench.peer_sends(b"GET /origin.example:8081/ HTTP/1.1\r\nHost: localhost\r\n\r\n");
        if bench.up.status == LinkState::Connecting {
            bench.origin_accepts();
        }
        asked(&mut bench);
        bench.origin_sends(
            format!("HTTP/1.1 302 Found\r\nlocation: {location}\r\nContent-Length: 0\r\n\r\n")
                .as_bytes(),
        );
        assert_eq!(
            answered(&mut bench),
            format!(
                "HTTP/1.1 302 Found\r\nLocation: {told}\r\nContent-Length: 0\r\n{SANDBOX}{ADDED}\r\n"
            )
        );
    }
}

#[test]
fn a_link_of_an_address_bar_page_finds_its_host_again() {
    let ask = |target: &str, referer: &str| {
        let mut bench = bench();
        let request =
            format!("GET {target} HTTP/1.1\r\nHost: localhost:8888\r\nReferer: {referer}\r\n\r\n");
        bench.peer_sends(request.as_bytes());
        let answer = answered(&mut bench);
        let location = answer.lines().find_map(|l| l.strip_prefix("Location: "));
        location.map(str::to_owned)
    };
    let page = "http://localhost:8888/origin.example/dir/page";
    for target in ["/logo.png", "/static/site.css?v=1", "/favicon.ico"] {
        let told = format!("/origin.example{target}");
        assert_eq!(ask(target, page), Some(told));
    }
    assert_eq!(ask("/other.example/x", page), None, "a host");
    assert_eq!(
        ask("/logo.png", "http://elsewhere/origin.example/"),
        None,
        "somebody else's page"
    );
    assert_eq!(
        ask("/logo.png", "http://localhost:8888/a.css"),
        None,
        "a page of nobody's"
    );
}

#[test]
fn what_the_browser_keeps_for_this_proxy_stays_out_of_the_address_bar() {
    let secrets = "Cookie: a=1\r\nAUTHORIZATION: Basic eDp5\r\nReferer: http://localhost/q\r\nOrigin: http://localhost\r\n";
    let kept = "Set-Cookie: a=2; Path=/\r\nset-cookie2: a=3\r\nClear-Site-Data: \"*\"\r\n";
    for (target, passes) in [
        ("/origin.example/", false),
        ("http://origin.example/", true),
    ] {
        let mut bench = bench();
        let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n{secrets}\r\n");
        let (secrets, kept_of_it, sandbox) = match passes {
            true => (secrets, kept, ""),
            false => ("", "", SANDBOX),
        };
        assert_eq!(
            connected(&mut bench, request.as_bytes()),
            format!("GET / HTTP/1.1\r\nHost: origin.example\r\n{secrets}{VIA}\r\n")
        );
        bench.origin_sends(
            format!("HTTP/1.1 103 Early Hints\r\n{kept}\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n{kept}\r\n")
                .as_bytes(),
        );
        assert_eq!(
            answered(&mut bench),
            format!(
                "HTTP/1.1 103 Early Hints\r\n{kept_of_it}{VIA}\r\n\
                 HTTP/1.1 200 OK\r\nContent-Length: 0\r\n{kept_of_it}{sandbox}{ADDED}\r\n"
            )
        );
    }
}

#[test]
fn a_page_of_another_site_gets_nothing_through_the_address_bar() {
    for (lines, status) in [
        ("Host: localhost:8888", None),
        ("Host: proxy.lan", None),
        ("Host: localhost\r\nSec-Fetch-Site: none", None),
        (
            "Host: localhost\r\nOrigin: http://localhost\r\nSec-Fetch-Site: same-origin",
            None,
        ),
        ("Host: localhost\r\nSec-Fetch-Site: cross-site", Some(403)),
        ("Host: localhost\r\nSec-Fetch-Site: same-site", Some(403)),
        ("Host: localhost\r\nOrigin: http://evil.example", Some(403)),
        ("Host: rebound.example", Some(421)),
    ] {
        let mut bench = bench_with(&ProxyConfig {
            hosts: vec!["proxy.lan".to_owned()],
            ..config()
        });
        bench.peer_sends(format!("GET /origin.example/ HTTP/1.1\r\n{lines}\r\n\r\n").as_bytes());
        assert_eq!(bench.connect.is_none(), status.is_some(), "{lines}");
        if let Some(status) = status {
            assert_eq!(own_answer(&mut bench).0, status, "{lines}");
        }
    }
    // A browser that knows its proxy may say so of any request: that is between it and the origin.
    let mut bench = bench();
    bench.peer_sends(
        b"GET http://origin.example/ HTTP/1.1\r\nHost: x\r\nSec-Fetch-Site: cross-site\r\n\r\n",
    );
    assert!(bench.connect.is_some());
}

#[test]
fn a_gateway_asks_its_one_origin() {
    for target in ["/a?b", "http://anything.example/a?b"] {
        let mut bench = gateway();
        let request = format!("GET {target} HTTP/1.1\r\nHost: public.example\r\n\r\n");
        bench.peer_sends(request.as_bytes());
        assert_eq!(
            bench.connect,
            Some(vec!["127.0.0.1:8000".parse().expect("an address")])
        );
        bench.origin_accepts();
        assert_eq!(
            asked(&mut bench),
            format!(
                "GET /a?b HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n{}{VIA}\r\n",
                told("public.example")
            )
        );
    }
    let mut bench = gateway();
    bench
        .peer_sends(b"GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n")
        .origin_accepts();
    bench.origin_received();
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    assert!(answered(&mut bench).contains("\r\nConnection: keep-alive\r\n"));
    bench.expect_open();
    let connect = "CONNECT a.example:443 HTTP/1.1\r\nHost: a.example:443\r\n\r\n";
    assert_eq!(refused(&mut gateway(), connect).0, 405);
    for (target, path) in [("http://x", "*"), ("*", "*"), ("http://x/", "/")] {
        let request = format!("OPTIONS {target} HTTP/1.1\r\nHost: x\r\n\r\n");
        let asked = connected(&mut gateway(), request.as_bytes());
        assert!(
            asked.starts_with(&format!("OPTIONS {path} HTTP/1.1\r\n")),
            "{asked}"
        );
    }
}

/// The lines that tell of the client, as the origin of a gateway sees them.
fn forwarded(keys: &str, trusted: &[&str], lines: &str) -> String {
    let mut config = ProxyConfig {
        upstream: Some("http://127.0.0.1:8000".parse().expect("an origin")),
        ..config()
    };
    config.http.forwarded = match keys {
        "off" => Some(Fields::Off),
        "forwarded" => Some(Fields::Forwarded),
        _ => None,
    };
    let trusted = trusted.iter().map(|range| range.parse().expect("a range"));
    config.http.stream.trusted_proxies = trusted.collect();
    let request = format!("GET / HTTP/1.1\r\nHost: [::1]:80\r\n{lines}\r\n");
    let sent = connected(&mut bench_with(&config), request.as_bytes());
    let lines = sent.split_inclusive("\r\n").skip(2);
    let told = lines.take_while(|line| !line.starts_with("Via"));
    told.collect()
}

#[test]
fn an_origin_is_told_of_the_client_and_what_it_writes_itself_ends_here() {
    let forged = "X-Forwarded-For: 10.0.0.1\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Port: 1\r\n\
        X-Real-IP: 10.0.0.1\r\nForwarded: for=10.0.0.1\r\n";
    let us = &["192.0.2.9/32"];
    assert_eq!(forwarded("", &[], forged), told("[::1]:80"));
    assert_eq!(forwarded("off", &[], forged), "");
    assert_eq!(forwarded("off", us, forged), forged);
    let own = "for=192.0.2.9;host=\"[::1]:80\";proto=http\r\n";
    assert_eq!(
        forwarded("forwarded", &[], forged),
        format!("Forwarded: {own}")
    );
    assert_eq!(
        forwarded("forwarded", us, forged),
        format!("Forwarded: for=10.0.0.1, {own}")
    );
    assert_eq!(
        forwarded("", us, forged),
        "X-Forwarded-For: 10.0.0.1, 192.0.2.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: [::1]:80\r\n"
    );
    let named = format!("Connection: X-Forwarded-For\r\n{forged}");
    assert!(forwarded("", us, &named).starts_with("X-Forwarded-For: 10.0.0.1, 192.0.2.9\r\n"));
}

#[test]
fn an_origin_that_is_told_of_the_client_gets_a_connection_for_each_request() {
    let config = ProxyConfig {
        upstream: Some("http://127.0.0.1:8000".parse().expect("an origin")),
        send_proxy: Some(Version::V1),
        ..config()
    };
    let mut bench = bench_with(&config);
    for _ in 0..2 {
        bench.peer_sends(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
        let introduce = Introduce {
            version: Version::V1,
            client: Some("192.0.2.9:40000".parse().expect("an address")),
        };
        assert_eq!(bench.opening.introduce, Some(introduce));
        bench.origin_accepts();
        assert!(asked(&mut bench).starts_with("GET / HTTP/1.1\r\n"));
        bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
        assert_eq!((bench.up.status, bench.idle.len()), (LinkState::Closed, 0));
    }
    bench.expect_open();
}

#[test]
fn the_log_names_the_client_of_a_proxy_that_is_trusted() {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let mut config = config();
    config.http.access_log = Some(config::AccessLog::Path(log.path().to_owned()));
    config.http.stream.trusted_proxies = vec!["192.0.2.9/32".parse().expect("a range")];
    let mut bench = bench_with(&config);
    let told = "Host: x\r\nX-Forwarded-For: 198.51.100.7\r\n\r\n";
    connected(
        &mut bench,
        format!("GET http://origin.example/ HTTP/1.1\r\n{told}").as_bytes(),
    );
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    bench.peer_sends(format!("OPTIONS * HTTP/1.1\r\n{told}").as_bytes());
    bench.peer_closes().expect_closed();
    bench.turn_ends();
    let lines = std::fs::read_to_string(log.path()).expect("text");
    let ours = |line: &str| line.starts_with("198.51.100.7 - - [");
    assert_eq!(
        (lines.lines().count(), lines.lines().all(ours)),
        (2, true),
        "{lines}"
    );
}

#[test]
fn forbidden_destinations_are_named_in_the_refusal() {
    for host in [
        "inside.example",
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "0177.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "169.254.169.254",
        "10.0.0.1:8080",
    ] {
        for target in [format!("http://{host}/"), format!("/{host}/")] {
            let mut bench = bench();
            let request = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let (code, text) = refused(&mut bench, &request);
            assert_eq!(code, 403, "{target}: {text}");
            assert!(text.contains("address, which is refused here"), "{text}");
            assert_eq!(bench.connect, None);
            bench.expect_open();
        }
    }
    let mut bench = bench();
    let connect = "CONNECT inside.example:443 HTTP/1.1\r\nHost: x\r\n\r\n";
    assert_eq!(refused(&mut bench, connect).0, 403);
    let mut bench = bench_with(&ProxyConfig {
        allow_destinations: vec!["127.0.0.0/8".parse().expect("a range")],
        ..config()
    });
    connected(
        &mut bench,
        b"GET http://inside.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    let mut bench = bench_with(&ProxyConfig {
        allow_destinations: vec!["127.0.0.0/8".parse().expect("a range")],
        ..config()
    });
    bench.peer_sends(b"GET http://Localhost:8081/ HTTP/1.1\r\nHost: x\r\n\r\n");
    let address = "127.0.0.1:8081".parse().expect("an address");
    assert_eq!(bench.connect, Some(vec![address]), "and not ::1");
}

#[test]
fn hosts_and_their_addresses_are_judged_both() {
    let pattern = |text: &str| HostPattern::parse(text).expect("a pattern");
    let config = ProxyConfig {
        allow_hosts: Some(vec![pattern("*.example"), pattern("192.0.2.9")]),
        deny_hosts: vec![pattern("secret.example"), pattern("*.secret.example")],
        deny_destinations: vec!["192.0.2.1/32".parse().expect("a range")],
        connect_ports: Ports::Any,
        ..config()
    };
    for (host, expected) in [
        ("other.test", "other.test is not for this proxy to ask"),
        (
            "SECRET.example.",
            "SECRET.example. is not for this proxy to ask",
        ),
        ("a.secret.example", "a.secret.example is not"),
        ("192.0.2.8", "192.0.2.8 is not"),
        (
            "origin.example",
            "origin.example: 192.0.2.1 is a denied address",
        ),
    ] {
        for request in [
            format!("GET http://{host}/ HTTP/1.1\r\nHost: x\r\n\r\n"),
            format!("GET /{host}/ HTTP/1.1\r\nHost: localhost\r\n\r\n"),
            format!("CONNECT {host}:443 HTTP/1.1\r\nHost: x\r\n\r\n"),
        ] {
            let (code, text) = refused(&mut bench_with(&config), &request);
            assert_eq!(code, 403, "{request}");
            assert!(text.contains(expected), "{text}");
        }
    }
    let mut bench = bench_with(&config);
    bench.peer_sends(b"GET http://192.0.2.9/ HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(bench.connect.is_some());
}

#[test]
fn requests_that_cannot_be_served_are_answered() {
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let long = "a".repeat(9000);
    let many = "x: y\r\n".repeat(101);
    for (request, code, text) in [
        (get("ftp://origin.example/"), 501, "https://"),
        (get("ftp://origin.example/"), 501, "ftp://"),
        (get("/"), 400, "http://HOST/PATH"),
        (get("/a%20b/"), 400, "http://HOST/PATH"),
        (get("http://1.2.3.4.5/"), 400, "not a host name"),
        (get("http://a..example/"), 400, "not a host name"),
        (get(&format!("/{long}")), 414, "target too long"),
        (get("http://origin.example/a|b"), 400, "percent-encoded"),
        (get("http://origin.example/?a=\u{fc}"), 400, "percent-encoded"),
        (get("/origin.example/<a>"), 400, "percent-encoded"),
        (format!("{long} http://origin.example/ HTTP/1.1\r\nHost: x\r\n\r\n"), 501, "unknown method"),
        ("GET / HTTP/2.0\r\n\r\n".to_owned(), 505, "version"),
        ("GET  / HTTP/1.1\r\n\r\n".to_owned(), 400, "bad request line"),
        (
            format!("GET http://origin.example/ HTTP/1.1\r\nHost: x\r\n{many}\r\n"),
            431,
            "too many headers",
        ),
        (
            "POST http://origin.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
                .to_owned(),
            400,
            "Content-Length with Transfer-Encoding",
        ),
        (
            "POST http://origin.example/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
                .to_owned(),
            501,
            "transfer coding",
        ),
        (
            "CONNECT origin.example:80 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            403,
            "port 80",
        ),
        (
            "CONNECT origin.example:443 HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc".to_owned(),
            400,
            "CONNECT has no body",
        ),
        (
            "TRACE http://origin.example/ HTTP/1.1\r\nHost: x\r\nMax-Forwards: 0\r\n\r\n".to_owned(),
            405,
            "TRACE",
        ),
        (
            "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            200,
            "every method",
        ),
    ] {
        let (got, body) = refused(&mut bench(), &request);
        assert_eq!(got, code, "{request:.70?}: {body}");
        assert!(body.contains(text), "{body}");
    }
    let (got, body) = refused(&mut gateway(), &get("/a{b}"));
    assert_eq!(got, 400, "{body}");
}

#[test]
fn options_and_trace_count_their_hops() {
    let mut bench = bench();
    let request = b"OPTIONS http://origin.example HTTP/1.1\r\nHost: x\r\nMax-Forwards: 3\r\n\r\n";
    assert_eq!(
        connected(&mut bench, request),
        format!("OPTIONS * HTTP/1.1\r\nHost: origin.example\r\nMax-Forwards: 2\r\n{VIA}\r\n")
    );
}

#[test]
fn a_request_that_was_here_before_is_refused() {
    let mut bench = bench();
    let request = format!(
        "GET http://origin.example/ HTTP/1.1\r\nHost: x\r\nVia: 1.1 a\r\n{}\r\n",
        VIA.replace("1.1", "1.1 b, 1.1")
    );
    assert_eq!(refused(&mut bench, &request).0, 508);
    let other = "GET http://origin.example/ HTTP/1.1\r\nHost: x\r\nVia: 1.1 netlab-reactor (0000beef)\r\n\r\n";
    bench.peer_sends(other.as_bytes()).origin_accepts();
}

#[test]
fn an_origin_that_cannot_be_reached_is_a_bad_gateway() {
    for (kind, code, text) in [
        (io::ErrorKind::ConnectionRefused, 502, "connection refused"),
        (io::ErrorKind::HostUnreachable, 502, "unreachable"),
        (io::ErrorKind::TimedOut, 504, "timed out"),
    ] {
        let mut bench = bench();
        bench.peer_sends(GET).origin_fails(kind);
        let (got, body) = own_answer(&mut bench);
        assert_eq!(got, code);
        assert!(
            body.contains("origin.example") && body.contains(text),
            "{body}"
        );
        bench.expect_open();
    }
    let mut bench = bench();
    bench.peer_sends(GET).later(Duration::from_secs(5));
    assert_eq!(own_answer(&mut bench).0, 504);
    // Nobody answers for names on the bench.
    bench.peer_sends(b"GET http://nowhere.example/ HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(own_answer(&mut bench).0, 502, "no name server");
}

/// The error that `Proxy-Status` names in the answer to `request`, after `then` happened.
fn error_named(request: &str, then: impl FnOnce(&mut Bench<Web>)) -> String {
    let mut bench = bench();
    bench.peer_sends(request.as_bytes());
    then(&mut bench);
    let answer = answered(&mut bench);
    let (_, status) = answer
        .split_once("\r\nProxy-Status: netlab-reactor; error=")
        .unwrap_or_else(|| panic!("{answer}"));
    let (error, details) = status.split_once("; details=\"").expect("details");
    let (details, _) = details.split_once("\"\r\n").expect("a whole line");
    let (_, body) = answer.split_once("\r\n\r\n").expect("a body");
    assert_eq!(
        body.split_once("\n\n").map(|(_, text)| text.trim_end()),
        Some(details)
    );
    error.to_owned()
}

#[test]
fn an_error_says_to_programs_what_failed() {
    let get = str::from_utf8(GET).expect("text");
    let nothing = |_: &mut Bench<Web>| {};
    let answers = |bytes: &'static [u8]| {
        move |bench: &mut Bench<Web>| {
            bench.origin_accepts().origin_sends(bytes);
        }
    };
    let fails = |kind: io::ErrorKind| {
        move |bench: &mut Bench<Web>| {
            bench.origin_fails(kind);
        }
    };
    let to = |host: &str| format!("GET http://{host}/ HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(
        error_named(&to("127.0.0.1"), nothing),
        "destination_ip_prohibited"
    );
    assert_eq!(
        error_named(&to("a.example:25"), nothing),
        "http_request_denied"
    );
    assert_eq!(
        error_named("GET /?/ HTTP/1.1\r\nHost: localhost\r\n\r\n", nothing),
        "http_request_error"
    );
    let looped = get.replace("Host: x", "Host: x\r\nVia: 1.1 netlab-reactor (0000feed)");
    assert_eq!(error_named(&looped, nothing), "proxy_loop_detected");
    assert_eq!(
        error_named(get, fails(io::ErrorKind::ConnectionRefused)),
        "connection_refused"
    );
    assert_eq!(
        error_named(get, fails(io::ErrorKind::TimedOut)),
        "connection_timeout"
    );
    assert_eq!(
        error_named(get, fails(io::ErrorKind::HostUnreachable)),
        "destination_ip_unroutable"
    );
    assert_eq!(
        error_named(get, answers(b"nonsense\r\n\r\n")),
        "http_protocol_error"
    );
    let ends = |bench: &mut Bench<Web>| {
        bench.origin_accepts().origin_sends(b"HTTP/1.1 200 OK\r\n");
        bench.origin_closes();
    };
    assert_eq!(error_named(get, ends), "http_response_incomplete");
    let closes = |bench: &mut Bench<Web>| {
        bench.origin_accepts().origin_closes();
    };
    assert_eq!(error_named(get, closes), "connection_terminated");
    let is_silent = |bench: &mut Bench<Web>| {
        bench.origin_accepts().origin_received();
        bench.later(Duration::from_secs(60));
    };
    assert_eq!(error_named(get, is_silent), "http_response_timeout");
}

#[test]
fn an_error_of_the_proxy_has_the_page_that_is_configured_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::write(folder.path().join("502.html"), "<p>try later").expect("a write");
    let mut config = config();
    config.http.files.error_root = Some(folder.path().to_owned());
    config.http.files.error_pages = [502, 504].map(|code| (code, "502.html".to_owned())).into();
    let mut bench = bench_with(&config);
    for (kind, code) in [
        (io::ErrorKind::ConnectionRefused, 502),
        (io::ErrorKind::TimedOut, 504),
    ] {
        bench.peer_sends(GET).origin_fails(kind);
        let answer = answered(&mut bench);
        assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{answer}");
        assert!(answer.contains("Content-Type: text/html"), "{answer}");
        assert!(answer.contains("Cache-Control: no-store"), "{answer}");
        assert!(answer.ends_with("\r\n\r\n<p>try later"), "{answer}");
    }
    // What has no page is told in a few words of our own.
    let (code, text) = refused(&mut bench, "GET / HTTP/1.1\r\nHost: x y\r\n\r\n");
    assert_eq!(code, 400);
    assert!(!text.contains("try later"), "{text}");
}

#[test]
fn answers_of_which_the_end_is_in_doubt_are_refused() {
    for response in [
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        "HTTP/1.1 200 OK\r\n folded: x\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\n\r\n",
        "HTTP/3.0 200 OK\r\n\r\n",
        "nonsense\r\n\r\n",
        "\r\n",
    ] {
        let mut bench = bench();
        connected(&mut bench, GET);
        bench.origin_sends(response.as_bytes());
        let (code, text) = own_answer(&mut bench);
        assert_eq!(code, 502, "{response:?}");
        assert!(text.contains("origin.example: bad response: "), "{text}");
        bench.expect_open();
        assert_eq!(bench.up.status, LinkState::Closed);
    }
    let mut bench = bench();
    connected(&mut bench, GET);
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nx: ");
    bench.origin_sends(&[b'x'; 16 * 1024]);
    assert_eq!(own_answer(&mut bench).0, 502);
}

#[test]
fn what_was_broken_off_looks_broken_off() {
    for (head, cut) in [
        ("Content-Length: 9\r\n\r\nabc", None),
        ("Transfer-Encoding: chunked\r\n\r\n9\r\nabc", None),
        (
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            Some("x\r\n"),
        ),
        (
            "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
            Some("1\nx"),
        ),
    ] {
        let mut bench = bench();
        connected(&mut bench, GET);
        bench.origin_sends(format!("HTTP/1.1 200 OK\r\n{head}").as_bytes());
        match cut {
            Some(bytes) => bench.origin_sends(bytes.as_bytes()),
            None => bench.origin_closes(),
        };
        bench.expect_closed();
        let answer = answered(&mut bench);
        assert!(answer.contains("abc") && !answer.contains("\r\n0\r\n"));
    }
    // A reset is no end, even where an end would do.
    let mut bench = bench();
    connected(&mut bench, GET);
    bench
        .origin_sends(b"HTTP/1.1 200 OK\r\n\r\nabc")
        .origin_fails(io::ErrorKind::ConnectionReset)
        .expect_closed();
    assert!(answered(&mut bench).ends_with("3\r\nabc\r\n"));
    let mut bench = self::bench();
    connected(&mut bench, b"GET http://origin.example/ HTTP/1.0\r\n\r\n");
    bench
        .origin_sends(b"HTTP/1.1 200 OK\r\n\r\nabc")
        .origin_fails(io::ErrorKind::ConnectionReset);
    assert!(matches!(bench.failed, Some(Error::Protocol(_))));
}

#[test]
fn where_the_end_is_the_framing_what_was_broken_off_ends_with_a_reset() {
    let get = "GET http://origin.example/ HTTP/1.0\r\n\r\n";
    let post = "POST http://origin.example/ HTTP/1.0\r\nContent-Length: 9\r\n\r\n";
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let until_close = "HTTP/1.1 200 OK\r\n\r\nabc";
    type Breaks = fn(&mut Bench<Web>);
    let cases: [(&str, &str, Breaks); 5] = [
        (get, chunked, |bench| {
            bench.origin_sends(b"x\r\n");
        }),
        (get, chunked, |bench| {
            bench.origin_closes();
        }),
        (get, until_close, |bench| {
            bench.later(Duration::from_secs(60));
        }),
        (get, until_close, |bench| {
            bench.origin_fails(io::ErrorKind::ConnectionReset);
        }),
        (post, chunked, |bench| {
            bench.later(Duration::from_secs(60));
        }),
    ];
    for (number, (request, response, breaks)) in cases.into_iter().enumerate() {
        let mut bench = bench();
        connected(&mut bench, request.as_bytes());
        bench.origin_sends(response.as_bytes()).expect_open();
        breaks(&mut bench);
        assert!(
            bench.failed.is_some() && bench.down.end_is_framing,
            "{number}"
        );
        assert!(answered(&mut bench).ends_with("abc"));
    }
}

#[test]
fn more_than_the_answer_is_not_taken_for_the_next_one() {
    let mut bench = bench();
    connected(&mut bench, GET);
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n1HTTP/1.1 200 OK\r\n\r\n");
    assert!(answered(&mut bench).ends_with("\r\n\r\n1"));
    assert_eq!(bench.up.status, LinkState::Closed);
}

#[test]
fn a_broken_request_body_is_a_bad_request() {
    let start = "POST http://origin.example/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n";
    let mut bench = bench();
    connected(&mut bench, start.as_bytes());
    bench.peer_sends(b"zz\r\n");
    let (code, text) = own_answer(&mut bench);
    assert_eq!(code, 400);
    assert!(text.contains("bad chunk size"), "{text}");
    bench.expect_closed();
    let mut bench = self::bench();
    connected(&mut bench, start.as_bytes());
    bench.peer_closes();
    assert_eq!(own_answer(&mut bench).0, 400, "ended early");
    bench.expect_closed();
}

#[test]
fn a_client_that_sends_its_end_is_still_answered() {
    let mut bench = bench();
    bench.peer_sends(GET).peer_closes().expect_open();
    bench.origin_accepts();
    assert!(asked(&mut bench).starts_with("GET /a?b "));
    bench
        .origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .expect_closed();
    assert!(answered(&mut bench).ends_with("\r\n\r\nok"));
    let mut bench = self::bench();
    bench.peer_sends(b"GET http://or").peer_closes();
    assert_eq!(own_answer(&mut bench).0, 400);
    let mut bench = self::bench();
    bench.peer_closes().expect(b"").expect_closed();
}

#[test]
fn times_run_out() {
    let seconds = Duration::from_secs;
    let mut bench = bench();
    bench.later(seconds(10)); // for the first request, the head's time
    bench.expect_closed();
    assert_eq!(bench.ending, Ending::TimedOut(Phase::Idle));

    // A head's time does not begin anew with each byte.
    let mut bench = self::bench();
    bench.peer_sends(b"GET ");
    assert_eq!(bench.deadline(), Some(bench.now + seconds(10)));
    for _ in 0..9 {
        bench.later(seconds(1)).peer_sends(b"h").expect_open();
    }
    bench.later(seconds(1));
    assert_eq!(own_answer(&mut bench).0, 408);
    bench.expect_closed();

    let mut bench = self::bench();
    connected(&mut bench, GET);
    bench.later(seconds(59)).expect(b"").later(seconds(1));
    assert_eq!(own_answer(&mut bench).0, 504, "a silent origin");
    bench.expect_open();

    let mut bench = self::bench();
    connected(&mut bench, GET);
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1");
    bench
        .later(seconds(59))
        .origin_sends(b"2")
        .later(seconds(59));
    bench.expect_open().later(seconds(1)).expect_closed();

    let mut bench = bench_with(&ProxyConfig {
        http: HttpConfig {
            body_rate_min: None,
            idle_timeout: seconds(3),
            ..HttpConfig::default()
        },
        ..config()
    });
    let post = b"POST http://origin.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n";
    connected(&mut bench, post);
    bench.later(seconds(2)).peer_sends(b"1");
    bench.origin_received();
    bench.later(seconds(2)).expect(b"").later(seconds(1));
    assert_eq!(own_answer(&mut bench).0, 408, "a silent client");
    bench.expect_closed();

    // An origin that takes nothing is the one to blame.
    let mut bench = bench_with(&ProxyConfig {
        http: HttpConfig {
            idle_timeout: seconds(3),
            ..HttpConfig::default()
        },
        upstream_timeout: seconds(5),
        ..config()
    });
    connected(&mut bench, post);
    bench.peer_sends(b"12").later(seconds(3)).expect(b"");
    bench.later(seconds(2));
    assert_eq!(own_answer(&mut bench).0, 504);
    bench.expect_closed();
}

#[test]
fn a_body_that_drips_does_not_last_for_ever() {
    let second = Duration::from_secs(1);
    for (rate, lasts_s) in [(NonZeroU32::new(2), 118), (None, 299)] {
        let mut bench = bench_with(&ProxyConfig {
            http: HttpConfig {
                body_rate_min: rate,
                ..HttpConfig::default()
            },
            ..config()
        });
        let post =
            b"POST http://origin.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 999\r\n\r\n";
        connected(&mut bench, post);
        let mut lasted_s = 0;
        while lasted_s < 299 {
            bench.later(second);
            if bench.is_over() {
                break;
            }
            bench.peer_sends(b"x").origin_received();
            lasted_s += 1;
        }
        assert_eq!(
            lasted_s, lasts_s,
            "{rate:?}: 60 s in hand, and half a second for each byte"
        );
        if rate.is_some() {
            assert_eq!(own_answer(&mut bench).0, 408);
        }
    }
}

#[test]
fn interim_responses_do_not_prolong_the_wait_for_the_final_one_for_ever() {
    let mut bench = bench_with(&ProxyConfig {
        response_timeout: Duration::from_secs(150),
        ..config()
    });
    connected(&mut bench, GET);
    for _ in 0..149 {
        bench
            .later(Duration::from_secs(1))
            .origin_sends(b"HTTP/1.1 102 Processing\r\n\r\n")
            .expect(format!("HTTP/1.1 102 Processing\r\n{VIA}\r\n").as_bytes());
    }
    bench.later(Duration::from_secs(1));
    assert_eq!(own_answer(&mut bench).0, 504);
}

#[test]
fn requests_reach_the_ports_where_web_servers_are() {
    for (port, allowed) in [
        (80, true),
        (443, true),
        (1024, true),
        (65535, true),
        (25, false),
        (1023, false),
    ] {
        for target in ["http://origin.example:PORT/", "/origin.example:PORT/"] {
            let target = target.replace("PORT", &port.to_string());
            let mut bench = bench();
            bench.peer_sends(format!("POST {target} HTTP/1.1\r\nHost: [::1]\r\n\r\n").as_bytes());
            assert_eq!(bench.connect.is_some(), allowed, "{target}");
            if !allowed {
                assert_eq!(own_answer(&mut bench).0, 403);
            }
        }
    }
}

#[test]
fn an_address_has_as_many_connections_as_it_may() {
    let config = ProxyConfig {
        http: HttpConfig {
            stream: StreamConfig {
                connections_per_address_max: NonZeroU32::new(1),
                ..StreamConfig::default()
            },
            ..HttpConfig::default()
        },
        ..config()
    };
    let mut service = service(&config);
    let now = Instant::now();
    let on_the_bench = Peer::Inet(([192, 0, 2, 9], 1).into());
    let first = service.accept(&on_the_bench, now);
    let mut bench = Bench::new(service);
    assert_eq!(
        own_answer(&mut bench).0,
        429,
        "before it asked for anything"
    );
    bench.expect_closed();
    bench.ends(first);
    let mut bench = Bench::new(bench.service);
    bench.peer_sends(GET);
    assert!(bench.connect.is_some(), "it is served");
}

#[test]
fn trailers_that_would_change_the_head_are_refused() {
    let head = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n";
    for (name, passes) in [
        ("Server-Timing", true),
        ("Host2", true),
        ("hOsT", false),
        ("Content-Length", false),
        ("transfer-encoding", false),
        ("SET-COOKIE", false),
    ] {
        let mut bench = bench();
        connected(&mut bench, GET);
        for piece in format!("{head}T: v\r\n{name}: x\r\n\r\n")
            .as_bytes()
            .chunks(3)
        {
            if !bench.is_over() {
                bench.origin_sends(piece);
            }
        }
        assert_eq!(bench.is_over(), !passes, "{name}");
        assert_eq!(answered(&mut bench).ends_with("\r\n\r\n"), passes);
    }
    let mut bench = bench();
    let post = "POST http://origin.example/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
    connected(&mut bench, post.as_bytes());
    bench.peer_sends(b"Host: y\r\n\r\n");
    assert_eq!(own_answer(&mut bench).0, 400);
}

#[test]
fn draining_finishes_the_exchange() {
    let mut bench = bench();
    connected(&mut bench, GET);
    bench.draining = true;
    bench.step();
    bench
        .expect_open()
        .origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
        .expect_closed();
    assert!(answered(&mut bench).contains("\r\nConnection: close\r\n\r\nok"));
    let mut bench = self::bench();
    bench.draining = true;
    bench.step();
    // It came just now: a request may be on its way.
    bench.expect_open().later(Duration::from_secs(1));
    bench.expect_closed();
}

#[test]
fn a_tunnel_carries_bytes_and_ends_both_ways() {
    let mut bench = bench();
    let connect =
        b"CONNECT origin.example:443 HTTP/1.1\r\nHost: origin.example:443\r\n\r\n\x16early";
    assert_eq!(connected(&mut bench, connect), "\x16early");
    bench.expect(TUNNEL_OPEN);
    bench
        .peer_sends(b"up")
        .origin_sends(b"down")
        .expect(b"down");
    assert_eq!(asked(&mut bench), "up");
    bench.origin_closes().expect_open();
    assert_eq!(bench.down.finish, Finish::Wanted);
    bench.peer_sends(b"more");
    assert_eq!(asked(&mut bench), "more");
    bench.peer_closes().expect_closed();

    let mut bench = self::bench();
    connected(&mut bench, connect);
    bench.peer_sends(b"last").peer_closes().expect_open();
    assert_eq!(bench.up.finish, Finish::Wanted);
    bench.origin_sends(b"answer");
    bench.origin_closes().expect_open(); // "last" has not left yet
    assert_eq!(asked(&mut bench), "last");
    bench.expect_closed();
    assert!(answered(&mut bench).ends_with("answer"));

    let mut bench = self::bench();
    connected(&mut bench, connect);
    bench
        .origin_sends(b"answer")
        .origin_fails(io::ErrorKind::ConnectionReset);
    assert!(matches!(bench.failed, Some(Error::Reset(_))));
    assert!(answered(&mut bench).ends_with("answer"));
    assert!(bench.down.end_is_framing, "the client is reset as well");
}

#[test]
fn a_tunnel_lives_as_long_as_it_is_used() {
    let mut bench = bench();
    let connect = b"CONNECT origin.example:443 HTTP/1.0\r\n\r\n";
    connected(&mut bench, connect);
    for _ in 0..3 {
        bench.later(Duration::from_secs(299)).peer_sends(b"x");
        bench.origin_received();
        bench.later(Duration::from_secs(299)).origin_sends(b"x");
    }
    bench.expect_open().later(Duration::from_secs(300));
    assert!(matches!(bench.failed, Some(Error::TimedOut(Phase::Idle))));
}

/// A request for a WebSocket with this target, and its lines for the origin.
fn web_socket(target: &str) -> String {
    format!(
        "GET {target} HTTP/1.1\r\nHost: 192.0.2.77\r\nConnection: keep-alive, upgrade\r\n\
         Upgrade: websocket\r\nSec-WebSocket-Key: a\r\n\r\n"
    )
}

const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: b\r\n";

#[test]
fn a_web_socket_is_a_tunnel_behind_its_101_in_every_form() {
    let own = String::new;
    for (mut bench, target, host, told) in [
        (bench(), "http://origin.example/w", "origin.example", own()),
        (bench(), "/origin.example/w", "origin.example", own()),
        (gateway(), "/w", "127.0.0.1:8000", told("192.0.2.77")),
        (
            gateway(),
            "http://any/w",
            "127.0.0.1:8000",
            told("192.0.2.77"),
        ),
    ] {
        assert_eq!(
            connected(&mut bench, web_socket(target).as_bytes()),
            format!(
                "GET /w HTTP/1.1\r\nHost: {host}\r\nSec-WebSocket-Key: a\r\n{told}{VIA}\
                 Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
            )
        );
        bench.peer_sends(b"early").expect(b"");
        let answer = format!("{SWITCHED}connection: UPGRADE\r\nUpgrade: WebSocket\r\n\r\nfirst");
        bench.origin_sends(answer.as_bytes()).expect_open();
        assert_eq!(
            answered(&mut bench),
            format!("{SWITCHED}{VIA}Connection: Upgrade\r\nUpgrade: WebSocket\r\n\r\nfirst")
        );
        assert_eq!(asked(&mut bench), "early");
        bench.later(Duration::from_secs(299)).peer_sends(b"ping");
        assert_eq!(asked(&mut bench), "ping");
        bench.origin_sends(b"HTTP/1.1 200 OK\r\n\r\n");
        bench.expect(b"HTTP/1.1 200 OK\r\n\r\n").origin_closes();
        bench.expect_open().peer_sends(b"bye").peer_closes();
        assert_eq!(asked(&mut bench), "bye");
        bench.expect_closed();
    }
}

#[test]
fn another_protocol_may_be_refused_by_its_origin() {
    let mut bench = bench();
    connected(&mut bench, web_socket("http://origin.example/w").as_bytes());
    bench.origin_sends(
        b"HTTP/1.1 426 Upgrade Required\r\nConnection: upgrade\r\nUpgrade: chat/2\r\nContent-Length: 0\r\n\r\n",
    );
    assert!(answered(&mut bench).ends_with("Connection: Upgrade\r\nUpgrade: chat/2\r\n\r\n"));
    bench.peer_sends(GET).expect_open();
    assert!(asked(&mut bench).starts_with("GET /a?b "));
}

#[test]
fn a_protocol_that_was_not_asked_for_is_no_answer() {
    let ask =
        |lines: &str| format!("GET http://origin.example/ HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
    let old = ask("Connection: upgrade\r\nUpgrade: websocket\r\n").replace("HTTP/1.1", "HTTP/1.0");
    for request in [
        ask(""),
        ask("Upgrade: websocket\r\n"),
        ask("Connection: upgrade\r\n"),
        ask("Connection: upgrade\r\nUpgrade: h2c, HTTP/2.0, TLS/1.0, ,\r\n"),
        ask("Connection: upgrade\r\nUpgrade: websocket\r\nContent-Length: 2\r\n") + "ab",
        old,
    ] {
        let mut bench = bench();
        let sent = connected(&mut bench, request.as_bytes());
        assert!(!sent.contains("pgrade"), "{sent}");
        let answer = format!("{SWITCHED}Connection: upgrade\r\nUpgrade: websocket\r\n\r\n");
        bench.origin_sends(answer.as_bytes());
        assert_eq!(own_answer(&mut bench).0, 502, "{request}");
    }
    for granted in [
        "",
        "Connection: upgrade\r\nUpgrade: h2c\r\n",
        "Upgrade: websocket\r\n",
    ] {
        let mut bench = bench();
        connected(&mut bench, web_socket("http://origin.example/").as_bytes());
        bench.origin_sends(format!("{SWITCHED}{granted}\r\n").as_bytes());
        assert_eq!(own_answer(&mut bench).0, 502, "{granted}");
    }
}

#[test]
fn of_several_protocols_those_that_carry_requests_are_left_out() {
    let mut bench = bench();
    let request = b"GET http://origin.example/ HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\n\
        Upgrade: h2c, chat/2\r\nUpgrade: websocket\r\nHTTP2-Settings: A\r\n\r\n";
    let sent = connected(&mut bench, request);
    assert!(sent.ends_with("Connection: Upgrade\r\nUpgrade: chat/2, websocket\r\n\r\n"));
    assert!(!sent.contains("HTTP2-Settings"));
}

/// Three exchanges: a chunked upload, a HEAD, and an answer until the end.
fn dialogue(cut: usize, room: Option<u32>) -> (Vec<u8>, Vec<u8>) {
    let mut bench = bench();
    if let Some(room) = room {
        bench.down.tx.set_memory_bytes_max(room);
    }
    let mut upstream = Vec::new();
    let body: String = "6;a=b\r\nabcdef\r\n".repeat(20);
    for (request, response) in [
        (
            format!(
                "POST http://origin.example/1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{body}0\r\n\r\n"
            ),
            format!(
                "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{body}0\r\nT: v\r\n\r\n"
            ),
        ),
        (
            "\r\nHEAD http://origin.example/2 HTTP/1.1\r\nHost: x\r\n\r\n".to_owned(),
            "HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n".to_owned(),
        ),
        (
            "PUT http://origin.example/3 HTTP/1.1\r\nHost: x\r\nContent-Length: 7\r\n\r\n1234567"
                .to_owned(),
            format!(
                "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{}",
                "x".repeat(500)
            ),
        ),
    ] {
        for piece in request.as_bytes().chunks(cut) {
            bench.peer_sends(piece);
            if bench.up.status == LinkState::Connecting {
                bench.origin_accepts();
                if let Some(room) = room {
                    bench.up.tx.set_memory_bytes_max(room);
                }
            }
            loop {
                match bench.origin_received() {
                    bytes if bytes.is_empty() => break,
                    bytes => upstream.extend(bytes),
                }
            }
        }
        for piece in response.as_bytes().chunks(cut) {
            bench.origin_sends(piece);
        }
    }
    bench.expect_open();
    (upstream, bench.received())
}

#[test]
fn cuts_and_little_room_do_not_show() {
    let whole = dialogue(usize::MAX / 2, None);
    for cut in [1, 2, 3, 7, 64] {
        for room in [None, Some(1), Some(40)] {
            assert!(dialogue(cut, room) == whole, "{cut} {room:?}");
        }
    }
}

#[test]
fn nothing_is_held_by_an_idle_connection() {
    let mut bench = bench();
    connected(&mut bench, GET);
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    bench.received();
    assert!(bench.down.rx.is_empty() && bench.up.rx.is_empty());
    assert_eq!((bench.queued(Side::Down), bench.queued(Side::Up)), (0, 0));
}

#[test]
fn a_response_waits_for_room() {
    let mut bench = bench();
    connected(&mut bench, GET);
    bench.down.tx.set_memory_bytes_max(100_000);
    let length = 1_000_000;
    let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
    bench.origin_sends(head.as_bytes());
    let head_bytes = bench.received().len();
    assert!(head_bytes > 0);
    let body = vec![7; length];
    bench.origin_sends(&body);
    assert_eq!(bench.received(), body);
    bench.expect_open();
}

proptest! {
    #[test]
    fn no_bytes_of_either_side_panic(
        request in prop::collection::vec(prop::sample::select(&b"GET http://origin.example/ HTTP/1.1\r\n\r\nx:0123\0\xff"[..]), 0..80),
        response in prop::collection::vec(prop::sample::select(&b"HTTP/1.1 200 OK\r\n\r\n:0123ab\0\xff"[..]), 0..80),
        cut in 1usize..9,
    ) {
        let mut bench = bench();
        for piece in request.chunks(cut) {
            bench.peer_sends(piece);
        }
        let mut bench = self::bench();
        connected(&mut bench, GET);
        for piece in response.chunks(cut) {
            if bench.up.status == LinkState::Open {
                bench.origin_sends(piece);
            }
        }
    }

    #[test]
    fn any_chunks_come_through(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..6),
        cut in 1usize..50,
        old_client: bool,
        old_origin: bool,
    ) {
        let mut bench = bench();
        let version = if old_client { "1.0" } else { "1.1" };
        connected(&mut bench, format!("GET http://origin.example/ HTTP/{version}\r\nHost: x\r\n\r\n").as_bytes());
        let mut response = b"HTTP/1.1 200 OK\r\n".to_vec();
        if old_origin {
            response.extend_from_slice(b"\r\n");
            response.extend(chunks.concat());
        } else {
            response.extend_from_slice(b"Transfer-Encoding: chunked\r\n\r\n");
            for chunk in &chunks {
                response.extend_from_slice(ChunkHead::new(chunk.len() as u64).as_bytes());
                response.extend_from_slice(chunk);
                response.extend_from_slice(CHUNK_END);
            }
            response.extend_from_slice(LAST_CHUNK);
        }
        for piece in response.chunks(cut) {
            bench.origin_sends(piece);
        }
        if old_origin {
            bench.origin_closes();
        }
        let answer = bench.received();
        let at = memchr::memmem::find(&answer, b"\r\n\r\n").expect("a head") + 4;
        let mut body = answer[at..].to_vec();
        if !old_client {
            let mut decoder = BodyDecoder::new(BodyLength::Chunked);
            let (mut used, mut payload) = (0, Vec::new());
            while !decoder.is_done() {
                let step = decoder.step(&body[used..]).expect("good chunks");
                payload.extend_from_slice(&body[used + step.framing..used + step.consumed()]);
                used += step.consumed();
            }
            prop_assert_eq!(used, body.len());
            body = payload;
        }
        prop_assert_eq!(body, chunks.concat());
        prop_assert_eq!(bench.is_over(), old_client);
    }
}

#[test]
fn a_body_that_ends_early_is_refused_at_once_whatever_the_proxy_waits_for() {
    for (framing, part) in [
        ("Content-Length: 10", "abc"),
        ("Transfer-Encoding: chunked", "3\r\nabc\r\n0\r\n"),
    ] {
        let head = format!("POST http://origin.example/ HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n");
        let expect_refused = |bench: &mut Bench<Web>| {
            let (code, text) = own_answer(bench);
            assert_eq!((code, text.contains("ended early")), (400, true), "{text}");
            bench.expect_closed();
        };
        let unknown = head.replace("origin.example", "slow.example");
        let mut resolving = bench();
        let nameservers = vec![SocketAddr::from(([192, 0, 2, 53], 53))];
        let config = dns::Config {
            nameservers,
            ..dns::Config::default()
        };
        resolving.resolver = Resolver::new(config, Hosts::parse(""), [7; 32]);
        resolving.peer_sends(unknown.as_bytes()).expect(b"");
        expect_refused(resolving.peer_sends_and_closes(part.as_bytes()));
        let waits = resolving.resolver.lookups_under_way();
        assert_eq!(waits, 0, "nobody waits for the name any more");

        let mut connecting = bench();
        connecting.peer_sends(head.as_bytes()).expect(b"");
        assert_eq!(connecting.up.status, LinkState::Connecting);
        expect_refused(connecting.peer_sends_and_closes(part.as_bytes()));

        let mut exchanging = bench();
        connected(&mut exchanging, head.as_bytes());
        expect_refused(exchanging.peer_sends_and_closes(part.as_bytes()));

        let mut answered = bench();
        connected(&mut answered, head.as_bytes());
        answered.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n1");
        answered.peer_sends_and_closes(part.as_bytes());
        assert!(asked(&mut answered).ends_with(part));
        assert_eq!(
            answered.up.finish,
            Finish::Wanted,
            "the origin learns of it"
        );
        answered.origin_sends(b"2").expect_closed();
    }
}

#[test]
fn a_whole_request_with_the_end_behind_it_is_answered() {
    let mut bench = bench();
    let request = b"PUT http://origin.example/ HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
    bench.peer_sends_and_closes(request).origin_accepts();
    assert!(asked(&mut bench).ends_with("abc"));
    bench.origin_sends(b"HTTP/1.1 204 No Content\r\n\r\n");
    assert!(answered(&mut bench).starts_with("HTTP/1.1 204 "));
    bench.expect_closed();
}

#[test]
fn half_a_line_end_between_requests_is_no_request() {
    for rest in ["", "\r", "\r\n", "\r\n\r"] {
        let mut bench = bench();
        connected(&mut bench, GET);
        bench.origin_sends(b"HTTP/1.1 204 No Content\r\n\r\n");
        bench.received();
        for byte in rest.bytes() {
            bench.peer_sends(&[byte]);
        }
        bench.peer_closes().expect(b"").expect_closed();
    }
}

#[test]
fn chunk_extensions_end_here_and_sizes_are_written_anew() {
    let came = "005;x=\"y;\\\"\";z\r\nhello\r\nA ;a\r\n0123456789\r\n01\r\n!\r\n\
        000;last=1\r\nT: v;w\r\nU:\r\n\r\n";
    let told = "5\r\nhello\r\na\r\n0123456789\r\n1\r\n!\r\n0\r\nT: v;w\r\nU:\r\n\r\n";
    for cut in [1, 2, 3, 5, 8, 13, came.len()] {
        let mut bench = bench();
        connected(
            &mut bench,
            b"POST http://origin.example/ HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
        );
        let mut upstream = String::new();
        for piece in came.as_bytes().chunks(cut) {
            bench.peer_sends(piece);
            upstream += &asked(&mut bench);
        }
        assert_eq!(upstream, told, "to the origin, cut {cut}");
        bench.origin_sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        bench.received();
        for piece in came.as_bytes().chunks(cut) {
            bench.origin_sends(piece);
        }
        assert_eq!(answered(&mut bench), told, "to the client, cut {cut}");
        bench.expect_open();
        assert_eq!(bench.idle.len(), 1, "it is kept");
    }
}

#[test]
fn an_odd_response_is_passed_on_in_order() {
    for (came, told) in [
        (
            "200 OK\r\nX : 1\r\nY: 2\r\n 3\r\nContent-Length\t: 2\r\n",
            "200 OK\r\nX:  1\r\nY: 2   3\r\nContent-Length:\t 2\r\n",
        ),
        (
            "600 So\r\nContent-Length: 2\r\n",
            "600 So\r\nContent-Length: 2\r\n",
        ),
        (
            "999 No\r\nContent-Length: 2\r\n",
            "999 No\r\nContent-Length: 2\r\n",
        ),
    ] {
        for cut in [1, 7, 1000] {
            let mut bench = bench();
            connected(&mut bench, GET);
            for piece in format!("HTTP/1.1 {came}\r\nok").as_bytes().chunks(cut) {
                bench.origin_sends(piece);
            }
            assert_eq!(
                answered(&mut bench),
                format!("HTTP/1.1 {told}{ADDED}\r\nok")
            );
            bench.expect_open();
        }
    }
    let dated = "HTTP/1.1 200 OK\r\nDATE: Mon, 01 Jan 2024 00:00:00 GMT\r\nContent-Length: 0\r\n";
    for (connection, kept) in [("", true), ("Connection: date\r\n", false)] {
        let mut bench = bench();
        connected(&mut bench, GET);
        bench.origin_sends(format!("{dated}{connection}\r\n").as_bytes());
        let told = answered(&mut bench);
        assert_eq!(told.contains("DATE: Mon, 01 Jan 2024"), kept, "{told}");
        assert_eq!(told.contains(ADDED), !kept, "{told}");
    }
    for wrong in ["099 No\r\n", "200 OK\r\n X: 1\r\n", "200 OK\r\nX y: 1\r\n"] {
        let mut bench = bench();
        connected(&mut bench, GET);
        bench.origin_sends(format!("HTTP/1.1 {wrong}\r\n").as_bytes());
        assert_eq!(own_answer(&mut bench).0, 502, "{wrong:?}");
    }
    for wrong in ["X : 1", "X: 1\r\n 2"] {
        let request = format!("GET http://origin.example/ HTTP/1.1\r\nHost: x\r\n{wrong}\r\n\r\n");
        assert_eq!(refused(&mut bench(), &request).0, 400, "{wrong:?}");
    }
}

/// The connection that was asked for is made, between these ends.
fn made(bench: &mut Bench<Web>, local: &str, peer: &str) {
    let end = |text: &str| text.parse().expect("an address and a port");
    let (local, peer) = (end(local), end(peer));
    bench.leads = Some(Ends { local, peer });
    bench.origin_accepts();
}

#[test]
fn this_machine_is_refused_by_whatever_address_unless_it_is_allowed() {
    for (local, peer) in [
        ("192.0.2.1:40000", "192.0.2.1:80"),
        ("[2001:db8::1]:40000", "[2001:db8::1]:80"),
        ("[::ffff:192.0.2.1]:40000", "192.0.2.1:80"),
        ("[fe80::1%3]:40000", "[fe80::1%4]:80"),
    ] {
        for request in [
            "GET http://origin.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
            "GET /origin.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n",
            "CONNECT origin.example:443 HTTP/1.1\r\nHost: x\r\n\r\n",
        ] {
            let mut closed = bench();
            closed.peer_sends(request.as_bytes());
            made(&mut closed, local, peer);
            let (code, text) = own_answer(&mut closed);
            assert_eq!(code, 403, "{local} {peer}: {text}");
            assert!(text.contains("this machine"), "{text}");
            assert_eq!(asked(&mut closed), "");
            closed.expect_open();

            for range in ["192.0.2.0/24", "2001:db8::/32", "fe80::/10"] {
                let mut open = bench_with(&ProxyConfig {
                    allow_destinations: vec![range.parse().expect("a range")],
                    ..config()
                });
                open.peer_sends(request.as_bytes());
                made(&mut open, local, peer);
                let held = range.get(..2) == peer.trim_start_matches('[').get(..2);
                assert_eq!(
                    answered(&mut open).starts_with("HTTP/1.1 403 "),
                    !held,
                    "{range} {peer}"
                );
            }
        }
    }
    let mut other = bench();
    other.peer_sends(GET);
    made(&mut other, "192.0.2.2:40000", "192.0.2.1:80");
    assert!(asked(&mut other).starts_with("GET /a?b "));

    let mut gateway = gateway();
    gateway.peer_sends(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    made(&mut gateway, "127.0.0.1:40000", "127.0.0.1:8000");
    assert!(asked(&mut gateway).starts_with("GET / "));
}

#[test]
fn a_tunnel_leads_into_no_other_tunnel_of_this_proxy() {
    let connect = b"CONNECT origin.example:443 HTTP/1.1\r\nHost: x\r\n\r\n";
    // Our end of the tunnel is the address from which the bench's clients come.
    let mut outer = bench();
    outer.peer_sends(connect);
    made(&mut outer, "[::ffff:192.0.2.9]:40000", "192.0.2.1:443");
    outer.expect(TUNNEL_OPEN);
    let text = str::from_utf8(connect).expect("text");
    let mut looped = Bench::new(outer.service);
    assert_eq!(refused(&mut looped, text).0, 508);

    let mut outer = bench();
    outer.peer_sends(connect);
    made(&mut outer, "192.0.2.9:40000", "192.0.2.1:443");
    outer.expect(TUNNEL_OPEN);
    outer.origin_closes().peer_closes().expect_closed();
    let mut after = Bench::new(outer.service);
    after.peer_sends(connect);
    assert!(after.connect.is_some(), "the tunnel is gone");
}

#[test]
fn hosts_in_letters_beyond_ascii_are_asked_for_in_ascii() {
    for (name, ascii) in [
        ("b\u{fc}cher.example", "xn--bcher-kva.example"),
        ("b%C3%BCcher.example", "xn--bcher-kva.example"),
        ("B%c3%9cCHER%2eexample", "xn--bcher-kva.example"),
        (
            "\u{4f8b}\u{3048}\u{3002}\u{30c6}\u{30b9}\u{30c8}",
            "xn--r8jz45g.xn--zckzah",
        ),
        ("%6frigin.example", "origin.example"),
    ] {
        let resolver = || {
            let hosts = Hosts::parse(&format!("192.0.2.7 {ascii}\n"));
            Resolver::new(dns::Config::default(), hosts, [7; 32])
        };
        let absolute = format!("GET http://{name}:8081/a?b HTTP/1.1\r\nHost: {name}:8081\r\n\r\n");
        let encoded: String = name
            .bytes()
            .map(|byte| match byte {
                b' '..=b'~' => char::from(byte).to_string(),
                _ => format!("%{byte:02X}"),
            })
            .collect();
        let address_bar = format!("GET /{encoded}:8081/a?b HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let connect = format!("CONNECT {name}:443 HTTP/1.1\r\nHost: {name}:443\r\n\r\n");
        for request in [absolute, address_bar, connect] {
            let mut bench = bench();
            bench.resolver = resolver();
            let head = connected(&mut bench, request.as_bytes());
            match request.starts_with("CONNECT") {
                true => bench.expect(TUNNEL_OPEN),
                false => {
                    let expected = format!("GET /a?b HTTP/1.1\r\nHost: {ascii}:8081\r\n{VIA}\r\n");
                    assert_eq!(head, expected, "{request}");
                    &mut bench
                }
            };
        }
    }
}

#[test]
fn what_letters_beyond_ascii_come_to_is_judged_like_any_other_name() {
    for (name, code) in [
        ("\u{ff11}\u{ff12}\u{ff17}.0.0.1", 403),
        ("%31%32%37.0.0.1", 403),
        ("%5b::1%5d", 400),
        ("a%2fb.example", 400),
        ("a%40b.example", 400),
        ("a%00.example", 400),
        ("a%c3.example", 400),
        ("a%.example", 400),
        ("a%zz.example", 400),
        ("a\u{ff0f}b.example", 400),
        ("a\u{ff0e}\u{ff0e}b.example", 400),
        ("a\u{202e}b.example", 400),
    ] {
        let request = format!("GET http://{name}/ HTTP/1.1\r\nHost: x\r\n\r\n");
        let (got, text) = refused(&mut bench(), &request);
        assert_eq!(got, code, "{name}: {text}");
    }
    let raw = "GET /b\u{fc}cher.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
    assert_eq!(
        refused(&mut bench(), raw).0,
        400,
        "a path has no such bytes"
    );
}
