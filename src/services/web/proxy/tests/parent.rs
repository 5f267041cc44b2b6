//! Dialogues with a proxy that has a parent, at 192.0.2.2; good parents and bad ones.

use std::time::Duration;

use super::*;
use crate::config::{Authorities, Parent};
use crate::service::origins::{Through, Way};
use crate::wire::no_proxy::NoProxy;
use crate::wire::user_info::Credentials;

/// What our credentials are told as: `ann:tulip`.
const OURS: &str = "Proxy-Authorization: Basic YW5uOnR1bGlw\r\n";
const CONNECT: &[u8] = b"CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\n\
    Proxy-Authorization: Basic bWU6bXk=\r\nUser-Agent: x\r\nVia: 1.1 before\r\n\r\n";
const SECURE: &[u8] = b"GET https://far.example/a HTTP/1.1\r\nHost: x\r\nCookie: c\r\n\r\n";

/// A parent that is not asked for these hosts.
pub(super) fn parent(no_proxy: &str) -> Parent {
    Parent {
        host: "192.0.2.2".to_owned(),
        port: 3128,
        tls: false,
        credentials: Credentials::from_url("ann:tulip"),
        no_proxy: NoProxy::parse(no_proxy),
        timeout: config::PARENT_TIMEOUT,
    }
}

pub(super) fn below(no_proxy: &str) -> ProxyConfig {
    let own = rcgen::generate_simple_self_signed(["far.example".to_owned()]).expect("a key");
    ProxyConfig {
        parent: Some(parent(no_proxy)),
        ca_file: Some(Authorities {
            path: "own.pem".into(),
            pem: own.cert.pem().into_bytes().into(),
        }),
        ..config()
    }
}

fn asks_parent(bench: &Bench<Web>) {
    let address = "192.0.2.2:3128".parse().expect("an address");
    assert_eq!(bench.connect, Some(vec![address]));
}

/// A bench whose parent was asked for a tunnel; the request for it.
fn asked_for_tunnel(request: &[u8]) -> (Bench<Web>, String) {
    let mut bench = bench_with(&below(""));
    bench.peer_sends(request);
    asks_parent(&bench);
    bench.origin_accepts();
    let asked = asked(&mut bench);
    (bench, asked)
}

#[test]
fn a_plain_request_goes_to_the_parent_in_the_absolute_form() {
    let mut bench = bench_with(&below(""));
    let request = b"GET http://far.example:8081/a?b HTTP/1.1\r\nHost: x\r\nProxy-Authorization: Basic bWU6bXk=\r\nX-Keep: 1\r\n\r\n";
    bench.peer_sends(request);
    asks_parent(&bench);
    bench.origin_accepts();
    assert_eq!(
        asked(&mut bench),
        format!(
            "GET http://far.example:8081/a?b HTTP/1.1\r\nHost: far.example:8081\r\nX-Keep: 1\r\n{VIA}{OURS}\r\n"
        )
    );
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    assert_eq!(
        answered(&mut bench),
        format!("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n{ADDED}\r\nok")
    );
    // Whoever asks for another origin goes on with the same connection.
    bench.connect = None;
    bench.peer_sends(b"OPTIONS http://other.example HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(bench.connect, None);
    assert_eq!(
        asked(&mut bench),
        format!("OPTIONS http://other.example HTTP/1.1\r\nHost: other.example\r\n{VIA}{OURS}\r\n")
    );
}

#[test]
fn by_tls_a_parent_is_asked_for_the_same_and_proves_who_it_is() {
    let mut config = below("192.0.2.7");
    if let Some(parent) = &mut config.parent {
        (parent.host, parent.tls) = ("origin.example".to_owned(), true);
    }
    let with = |bench: &Bench<Web>| {
        let tls = bench.opening.tls.as_ref();
        tls.map(|tls| tls.name.to_str().into_owned())
    };
    for (request, name, secured) in [
        (
            "GET http://far.example/ HTTP/1.1",
            Some("origin.example"),
            None,
        ),
        (
            "GET https://far.example/ HTTP/1.1",
            Some("origin.example"),
            Some("far.example"),
        ),
        (
            "CONNECT far.example:443 HTTP/1.1",
            Some("origin.example"),
            None,
        ),
        ("GET http://192.0.2.7/ HTTP/1.1", None, None),
        ("GET https://192.0.2.7/ HTTP/1.1", Some("192.0.2.7"), None),
    ] {
        let mut bench = bench_with(&config);
        bench.peer_sends(format!("{request}\r\nHost: x\r\n\r\n").as_bytes());
        assert_eq!(with(&bench).as_deref(), name, "{request}");
        bench.origin_accepts();
        let is_told = asked(&mut bench).contains(OURS);
        assert_eq!(is_told, !request.contains("192.0.2.7"), "{request}");
        if secured.is_some() {
            bench.origin_sends(TUNNEL_OPEN);
        }
        assert_eq!(bench.secured.as_deref(), secured, "{request}");
    }
    // Nobody can vouch for it.
    config.ca_file = None;
    let mut bench = bench_with(&config);
    let (code, text) = refused(
        &mut bench,
        "GET http://far.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    assert_eq!(code, 502);
    assert!(
        text.contains("parent origin.example:3128: nobody can vouch"),
        "{text}"
    );
}

#[test]
fn the_address_bar_and_a_gateway_have_parents_too() {
    let mut bench = bench_with(&below(""));
    bench.peer_sends(b"GET /far.example/a HTTP/1.1\r\nHost: localhost\r\nCookie: c\r\n\r\n");
    asks_parent(&bench);
    bench.origin_accepts();
    assert_eq!(
        asked(&mut bench),
        format!("GET http://far.example/a HTTP/1.1\r\nHost: far.example\r\n{VIA}{OURS}\r\n")
    );
    let mut bench = bench_with(&ProxyConfig {
        upstream: Some("http://127.0.0.1:8000".parse().expect("an origin")),
        ..below("")
    });
    bench.peer_sends(b"GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
    asks_parent(&bench);
    bench.origin_accepts();
    assert_eq!(
        asked(&mut bench),
        format!(
            "GET http://127.0.0.1:8000/a HTTP/1.1\r\nHost: 127.0.0.1:8000\r\n{}{VIA}{OURS}\r\n",
            told("x")
        )
    );
}

#[test]
fn what_no_proxy_names_is_asked_directly() {
    let config = below("example:80, 192.0.2.0/24");
    let mut bench = bench_with(&config);
    let request = connected(&mut bench, GET);
    assert_eq!(
        request,
        format!("GET /a?b HTTP/1.1\r\nHost: origin.example\r\n{VIA}\r\n")
    );
    assert_eq!(
        bench.connect,
        Some(vec!["192.0.2.1:80".parse().expect("an address")])
    );
    let mut bench = bench_with(&config);
    let connect = "CONNECT 192.0.2.7:443 HTTP/1.1\r\nHost: x\r\n\r\n";
    bench.peer_sends(connect.as_bytes());
    assert_eq!(
        bench.connect,
        Some(vec!["192.0.2.7:443".parse().expect("an address")])
    );
    bench.origin_accepts().expect(TUNNEL_OPEN);
    // It is judged by its address, as ever.
    let mut bench = bench_with(&config);
    let (code, text) = refused(
        &mut bench,
        "GET http://inside.example/ HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    assert_eq!(code, 403, "{text}");
}

#[test]
fn a_tunnel_is_asked_of_the_parent_and_its_first_bytes_come_first() {
    let (mut bench, asked_for) = asked_for_tunnel(&[CONNECT, b"\x16early"].concat());
    assert_eq!(
        asked_for,
        format!(
            "CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\nVia: 1.1 before\r\n{VIA}{OURS}\r\n"
        )
    );
    bench
        .expect(b"")
        .origin_sends(
            b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\nHTTP/1.",
        )
        .expect(b"")
        .origin_sends(
            b"1 200 Fine\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\nhello",
        );
    assert_eq!(
        answered(&mut bench).as_bytes(),
        [TUNNEL_OPEN, b"hello"].concat()
    );
    assert_eq!(asked(&mut bench), "\x16early");
    bench.peer_sends(b"more");
    assert_eq!(asked(&mut bench), "more");
    bench.origin_closes().peer_closes().expect_closed();
}

#[test]
fn an_https_origin_is_spoken_to_within_a_tunnel_which_is_kept_for_it_alone() {
    let (mut bench, asked_for) = asked_for_tunnel(SECURE);
    assert_eq!(
        asked_for,
        format!("CONNECT far.example:443 HTTP/1.1\r\nHost: far.example:443\r\n{VIA}{OURS}\r\n")
    );
    bench.origin_sends(b"HTTP/1.0 200 Connection established\r\n\r\n");
    assert_eq!(bench.secured.as_deref(), Some("far.example"));
    bench.origin_accepts();
    assert_eq!(
        asked(&mut bench),
        format!("GET /a HTTP/1.1\r\nHost: far.example\r\nCookie: c\r\n{VIA}\r\n")
    );
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    answered(&mut bench);
    let way = |tls| Way::new("far.example", if tls { 443 } else { 80 }, tls, 0);
    let now = bench.now;
    for other in [
        way(true),
        way(true).through(Through::Parent),
        way(false).through(Through::Tunnel),
        Way::new("192.0.2.2", 3128, false, 0).through(Through::Parent),
    ] {
        assert_eq!(bench.idle.take(0, &other, now), None, "{other:?}");
    }
    bench.connect = None;
    bench.peer_sends(SECURE);
    assert_eq!(bench.connect, None);
    assert!(asked(&mut bench).starts_with("GET /a HTTP/1.1\r\n"));
    // It was dead: a new tunnel is asked for.
    bench.origin_closes();
    asks_parent(&bench);
    bench.origin_accepts();
    assert!(asked(&mut bench).starts_with("CONNECT far.example:443 "));
}

#[test]
fn what_a_parent_sends_ahead_of_tls_is_not_taken_for_it() {
    let (mut bench, _) = asked_for_tunnel(SECURE);
    bench.origin_sends(b"HTTP/1.1 200 OK\r\n\r\n\x16\x03");
    let (code, text) = own_answer(&mut bench);
    assert_eq!((code, bench.secured.take()), (502, None));
    assert!(text.contains("ahead of TLS"), "{text}");
    bench.expect_open();
}

#[test]
fn a_refusal_of_the_parent_is_told_with_its_name_and_without_its_body() {
    for (answer, code, error, what) in [
        (
            "407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"p\"\r\nContent-Length: 4",
            502,
            "proxy_configuration_error",
            "it refused with 407 Proxy Authentication Required",
        ),
        (
            "403 Forbidden\r\nContent-Length: 4",
            502,
            "destination_unavailable",
            "it refused with 403 Forbidden",
        ),
        (
            "502 \u{fc}\r\nTransfer-Encoding: chunked",
            502,
            "destination_unavailable",
            "it refused with 502 \u{fc}",
        ),
        (
            "504 Late\r\nConnection: close",
            504,
            "connection_timeout",
            "it refused with 504 Late",
        ),
        (
            "302 Found\r\nLocation: http://evil.example/",
            502,
            "destination_unavailable",
            "it refused with 302 Found",
        ),
        (
            "101 Switching Protocols\r\nUpgrade: x",
            502,
            "http_protocol_error",
            "it switched protocols unasked",
        ),
    ] {
        for request in [CONNECT, SECURE] {
            let (mut bench, _) = asked_for_tunnel(request);
            bench.origin_sends(format!("HTTP/1.1 {answer}\r\n\r\nbody").as_bytes());
            let answer = answered(&mut bench);
            assert!(answer.starts_with(&format!("HTTP/1.1 {code} ")), "{answer}");
            let field = format!(
                "Proxy-Status: netlab-reactor; error={error}; next-hop=\"192.0.2.2:3128\"; details=\"parent 192.0.2.2:3128: CONNECT far.example:443: "
            );
            assert!(answer.contains(&field), "{answer}");
            let text = format!("parent 192.0.2.2:3128: CONNECT far.example:443: {what}");
            assert!(answer.contains(&text), "{answer}");
            assert!(
                !answer.contains("\nbody") && !answer.contains("tulip"),
                "{answer}"
            );
            assert_eq!((bench.up.status, bench.idle.len()), (LinkState::Closed, 0));
            bench.expect_open();
        }
    }
}

#[test]
fn what_is_no_answer_of_a_proxy_ends_in_a_refusal() {
    let endless = format!(
        "HTTP/1.1 200 OK\r\n{}",
        "X-Y: zzzzzzzzzzzzzzzz\r\n".repeat(90)
    );
    let interim = "HTTP/1.1 100 Continue\r\n\r\n".repeat(9);
    let large = format!("HTTP/1.1 200 OK\r\nX: {}", "y".repeat(16 * 1024));
    for (bytes, error) in [
        ("\x16\x03\x01 garbage", "http_protocol_error"),
        ("SSH-2.0-x\r\n\r\n", "http_protocol_error"),
        ("HTTP/1.1 2000 OK\r\n\r\n", "http_protocol_error"),
        (&interim, "http_protocol_error"),
        (&large, "http_"),
        ("", "connection_terminated"),
        (&endless, "http_response_incomplete"),
        ("HTTP/1.1 200 OK\r\nX: y", "http_response_incomplete"),
    ] {
        for request in [CONNECT, SECURE] {
            let (mut bench, _) = asked_for_tunnel(request);
            for part in bytes.as_bytes().chunks(4000) {
                if bench.up.status == LinkState::Open {
                    bench.origin_sends(part);
                }
            }
            if bench.up.status == LinkState::Open {
                bench.origin_closes();
            }
            let answer = answered(&mut bench);
            assert!(
                answer.starts_with("HTTP/1.1 502 "),
                "{bytes:.40?}: {answer}"
            );
            let field = format!("Proxy-Status: netlab-reactor; error={error}");
            assert!(answer.contains(&field), "{bytes:.40?}: {answer}");
            assert!(answer.contains("parent 192.0.2.2:3128: CONNECT far.example:443: "));
            bench.expect_open();
        }
    }
}

#[test]
fn it_does_not_matter_how_the_answer_of_a_parent_was_cut() {
    for (answer, came) in [
        (
            "HTTP/1.1 103 Early\r\n\r\nHTTP/1.1 200 OK\n\nhello",
            "HTTP/1.1 200 Connection",
        ),
        (
            "HTTP/1.1 407 Who\r\nContent-Length: 4\r\n\r\nbody",
            "HTTP/1.1 502 Bad",
        ),
        ("HTTP/1.1 20x OK\r\n\r\n", "HTTP/1.1 502 Bad"),
    ] {
        let mut outcomes = [1, 2, 7, 1000].map(|size| {
            let (mut bench, _) = asked_for_tunnel(CONNECT);
            for part in answer.as_bytes().chunks(size) {
                if bench.up.status == LinkState::Open {
                    bench.origin_sends(part);
                }
            }
            answered(&mut bench)
        });
        assert!(outcomes[0].starts_with(came), "{}", outcomes[0]);
        assert_eq!(outcomes[0].ends_with("\r\n\r\nhello"), came.contains("200"));
        outcomes.sort_unstable();
        assert_eq!(outcomes[0], outcomes[3]);
    }
}

#[test]
fn a_parent_has_its_time_for_the_answer_however_slowly_it_speaks() {
    let (mut bench, _) = asked_for_tunnel(CONNECT);
    for byte in b"HTTP/1.1 200 OK\r\nX: yyyyyyyyy" {
        bench.origin_sends(&[*byte]).later(Duration::from_secs(1));
    }
    bench.expect(b"").later(Duration::from_secs(1));
    let (code, text) = own_answer(&mut bench);
    assert_eq!(code, 504, "{text}");
    assert!(
        text.contains("parent 192.0.2.2:3128: CONNECT far.example:443: it did not answer in time")
    );
}

#[test]
fn a_parent_that_cannot_be_reached_is_named() {
    for request in [GET, CONNECT, SECURE] {
        let mut bench = bench_with(&below(""));
        bench.peer_sends(request);
        bench.origin_fails(io::ErrorKind::ConnectionRefused);
        let (code, text) = own_answer(&mut bench);
        assert_eq!(code, 502);
        assert!(
            text.starts_with("502 Bad Gateway\n\nparent 192.0.2.2:3128: no connection"),
            "{text}"
        );
    }
}

#[test]
fn a_parent_that_wants_other_credentials_is_not_the_clients_business() {
    let mut bench = bench_with(&below(""));
    connected(&mut bench, GET);
    bench.origin_sends(
        b"HTTP/1.1 407 Who\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n",
    );
    let (code, text) = own_answer(&mut bench);
    assert_eq!(code, 502);
    assert!(
        text.contains("the parent wants other credentials"),
        "{text}"
    );
}

#[test]
fn what_shows_without_asking_is_refused_as_ever() {
    for host in [
        "127.0.0.1",
        "2130706433",
        "0x7f.1",
        "[::1]",
        "[::ffff:10.0.0.1]",
        "localhost",
        "a.LOCALHOST.",
        // By our own hosts file.
        "inside.example",
        "169.254.169.254",
    ] {
        for request in [
            format!("GET http://{host}/ HTTP/1.1\r\nHost: x\r\n\r\n"),
            format!("GET https://{host}/ HTTP/1.1\r\nHost: x\r\n\r\n"),
            format!("CONNECT {host}:443 HTTP/1.1\r\nHost: x\r\n\r\n"),
        ] {
            let mut bench = bench_with(&below(""));
            let (code, text) = refused(&mut bench, &request);
            assert_eq!((code, bench.connect), (403, None), "{request}: {text}");
        }
    }
    let mut bench = bench_with(&below(""));
    assert_eq!(
        refused(
            &mut bench,
            "GET http://127.0.0.256/ HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        .0,
        400
    );
    for host in ["127.0.0.1", "localhost"] {
        let mut bench = bench_with(&ProxyConfig {
            allow_destinations: vec!["127.0.0.0/8".parse().expect("a range")],
            ..below("")
        });
        bench.peer_sends(format!("GET http://{host}/ HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes());
        asks_parent(&bench);
    }
    // The parent may be anywhere, and a connection to it that is kept is no way around.
    let mut local = below("");
    local.parent.as_mut().expect("a parent").host = "127.0.0.1".to_owned();
    let mut bench = bench_with(&local);
    let ends = |local: &str| Ends {
        local: local.parse().expect("an address"),
        peer: "127.0.0.1:3128".parse().expect("an address"),
    };
    bench.leads = Some(ends("127.0.0.1:50000"));
    let request = connected(&mut bench, GET);
    assert!(request.starts_with("GET http://origin.example/a?b "));
    bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    answered(&mut bench);
    assert_eq!(bench.idle.len(), 1);
    assert_eq!(
        refused(
            &mut bench,
            "GET http://127.0.0.1/ HTTP/1.1\r\nHost: x\r\n\r\n"
        )
        .0,
        403
    );
}

#[test]
fn a_way_that_leads_back_here_is_found_by_its_via() {
    let mut bench = bench_with(&below(""));
    let request = format!("CONNECT far.example:443 HTTP/1.1\r\nHost: x\r\n{VIA}\r\n");
    assert_eq!(refused(&mut bench, &request).0, 508);
    assert_eq!(bench.connect, None);
}

#[test]
fn the_log_names_the_parent() {
    let log = tempfile::NamedTempFile::new().expect("a file");
    let mut config = below("origin.example");
    config.http.access_log = Some(config::AccessLog::Path(log.path().to_owned()));
    let mut bench = bench_with(&config);
    let get = |host: &str| format!("GET http://{host}/ HTTP/1.1\r\nHost: x\r\n\r\n");
    for host in ["far.example", "origin.example"] {
        connected(&mut bench, get(host).as_bytes());
        bench.origin_sends(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
    bench.peer_closes().expect_closed();
    bench.turn_ends();
    let lines = std::fs::read_to_string(log.path()).expect("text");
    let ends: Vec<_> = lines
        .lines()
        .map(|line| line.split("\"-\" \"-\"").nth(1))
        .collect();
    assert_eq!(
        ends,
        [
            Some(" \"far.example\" origin via \"192.0.2.2:3128\""),
            Some(" \"origin.example\" origin"),
        ],
        "{lines}"
    );
}

#[test]
fn who_did_not_answer_is_the_parent_and_the_next_hop() {
    type Happens = fn(&mut Bench<Web>);
    let answers: [(&str, Happens); 3] = [
        ("it did not answer in time", |bench| {
            bench.later(Duration::from_secs(50_000));
        }),
        ("it closed without an answer", |bench| {
            bench.origin_closes();
        }),
        ("bad response", |bench| {
            bench.origin_sends(b"nonsense\r\n\r\n");
        }),
    ];
    for (what, happens) in answers {
        let mut bench = bench_with(&below(""));
        bench.peer_sends(b"GET http://far.example/ HTTP/1.1\r\nHost: x\r\n\r\n");
        bench.origin_accepts();
        happens(&mut bench);
        let answer = answered(&mut bench);
        let told = format!("parent 192.0.2.2:3128, asked for far.example: {what}");
        assert!(answer.contains(&told), "{answer}");
        let named = "; next-hop=\"192.0.2.2:3128\"; details=\"";
        assert!(answer.contains(named), "{answer}");
        let mut bench = bench_with(&below("192.0.2.7"));
        bench.peer_sends(b"GET http://192.0.2.7/ HTTP/1.1\r\nHost: x\r\n\r\n");
        bench.origin_accepts();
        happens(&mut bench);
        let answer = answered(&mut bench);
        assert!(answer.contains(&format!("192.0.2.7: {what}")), "{answer}");
        assert!(!answer.contains("next-hop"), "{answer}");
    }
}
