//! The upstreams of a gateway: how they are written, and what is wrong with them.

use std::time::Duration;

use super::{kind, problems};
use crate::config::{CheckConfig, Kind, UpstreamConfig, Upstreams};

fn upstreams(lines: &str) -> Upstreams {
    match kind(&format!("kind = 'proxy'\n{lines}")) {
        Kind::Proxy(proxy) => proxy.upstream.expect("a gateway"),
        other => panic!("{other:?}"),
    }
}

fn upstream(url: &str) -> UpstreamConfig {
    UpstreamConfig::new(url.parse().expect("an address"))
}

#[test]
fn upstreams_are_a_url_a_list_of_urls_or_tables_with_their_terms() {
    let one = upstreams("upstream = 'http://a'");
    assert_eq!(one, "http://a:80".parse().expect("an address"));
    assert_eq!((one.all.len(), one.tries_max, one.check), (1, 1, None));
    let two = upstreams("upstream = ['http://a', 'http://a:81']");
    assert_eq!(two.all, [upstream("http://a"), upstream("http://a:81")]);
    assert_eq!((two.tries_max, two.fail_on.len()), (2, 0));
    let written = [
        "upstream = ['https://a', { url = 'https://b', weight = 3, max_fails = 2, \
         fail_timeout = '30s', backup = true }]\nmax_tries = 1\nfail_on = [502, 503]",
        "max_tries = 1\nfail_on = [502, 503]\n[[listener.upstream]]\nurl = 'https://a'\n\
         [[listener.upstream]]\nurl = 'https://b'\nweight = 3\nmax_fails = 2\n\
         fail_timeout = '30s'\nbackup = true",
    ];
    for lines in written {
        let upstreams = upstreams(lines);
        let second = UpstreamConfig {
            weight: 3,
            fails_max: 2,
            fail_timeout: Duration::from_secs(30),
            is_backup: true,
            ..upstream("https://b")
        };
        assert_eq!(upstreams.all, [upstream("https://a"), second]);
        assert_eq!(upstreams.tries_max, 1);
        assert_eq!(upstreams.fail_on, [502, 503]);
        assert!(upstreams.tls());
    }
}

#[test]
fn checks_have_defaults_and_bounds() {
    let check = |check: &str| upstreams(&format!("upstream = ['http://a']\n{check}")).check;
    assert_eq!(check(""), None);
    assert_eq!(check("check = {}"), Some(CheckConfig::default()));
    let all = "check = { path = '/up?x', every = '1s', timeout = '500ms', rise = 1, fall = 4, expect = 204 }";
    let expected = CheckConfig {
        path: "/up?x".to_owned(),
        every: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        rise: 1,
        fall: 4,
        expect: 204..=204,
    };
    assert_eq!(check(all), Some(expected));
    let range = check("check = { expect = '200-299' }").map(|check| check.expect);
    assert_eq!(range, Some(200..=299));
}

#[test]
fn what_is_wrong_with_upstreams_is_said() {
    let many: String = (1..=65).map(|port| format!("'http://a:{port}',")).collect();
    let many = format!("upstream = [{many}]");
    for (lines, expected) in [
        (
            "upstream = []",
            "`upstream` is empty; expected a list, each \"http://127.0.0.1:8000\", or {",
        ),
        (
            "upstream = 8000",
            "`upstream` is an integer; expected a list",
        ),
        (
            "upstream = ['ftp://a']",
            "an entry of `upstream` is \"ftp://a\", not an http:// or https:// address; expected",
        ),
        (
            "upstream = [1]",
            "an entry of `upstream` is an integer; expected",
        ),
        (
            "upstream = [{ weight = 2 }]",
            "an entry of `upstream` without `url`; expected",
        ),
        (
            "upstream = [{ url = 'http://a', weight = 0 }]",
            "`weight` is 0; expected an integer from 1 to 65535",
        ),
        (
            "upstream = [{ url = 'http://a', fail_timeout = '0s' }]",
            "`fail_timeout` is zero; expected a duration above zero",
        ),
        (
            "upstream = [{ url = 'http://a', wieght = 2 }]",
            "unknown key `wieght`, probably meant as `weight`; expected in an entry of `upstream`",
        ),
        (
            "upstream = ['http://a', 'http://A:80']",
            "an entry of `upstream` is A:80 once more; expected each once (`weight`",
        ),
        (
            "upstream = ['http://a', 'https://b']",
            "an entry of `upstream` has another scheme than the first; expected http:// for all",
        ),
        (
            "upstream = [{ url = 'http://a', backup = true }]",
            "`upstream` has backups only; expected an entry without `backup = true`",
        ),
        (&many, "`upstream` has 65 entries; expected at most 64"),
        (
            "upstream = 'http://a'\nfail_on = [200]",
            "an entry of `fail_on` is 200; expected a status from 400 to 599",
        ),
        (
            "upstream = 'http://a'\nmax_tries = 0",
            "`max_tries` is 0; expected an integer from 1 to 64",
        ),
        (
            "upstream = 'http://a'\ncheck = { path = 'up' }",
            "`path` is \"up\"; expected a path such as \"/healthz\"",
        ),
        (
            "upstream = 'http://a'\ncheck = { every = '1s' }",
            "`timeout` is longer than `every`; expected a check to be over before the next",
        ),
        (
            "upstream = 'http://a'\ncheck = { expect = '399-200' }",
            "`expect` is \"399-200\"; expected a status such as 200, or a range",
        ),
        (
            "check = {}",
            "`check` is for a gateway; expected `upstream` beside it",
        ),
        (
            "max_tries = 2",
            "`max_tries` is for a gateway; expected `upstream`",
        ),
        (
            "fail_on = []",
            "`fail_on` is for a gateway; expected `upstream`",
        ),
    ] {
        let wrong = problems(&format!("[[listener]]\nkind = 'proxy'\n{lines}"));
        assert!(wrong.contains(expected), "{lines}: {wrong}");
        assert_eq!(wrong.lines().count(), 1, "{wrong}");
    }
}

#[test]
fn a_route_has_upstreams_as_well() {
    let Kind::Http(http) = kind(
        "kind = 'http'\n[[listener.route]]\nprefix = '/api/'\n\
         upstream = ['http://a', 'http://b']\ncheck = { path = '/up' }",
    ) else {
        panic!("another kind")
    };
    let crate::config::SiteContent::Upstream(proxy) = &http.sites[0].content else {
        panic!("another content")
    };
    let upstreams = proxy.upstream.as_ref().expect("upstreams");
    assert_eq!(upstreams.to_string(), "a:80, b:80");
    assert_eq!(
        upstreams.check.as_ref().map(|check| &*check.path),
        Some("/up")
    );
}
