//! The rules by section of their RFCs, and whole exchanges with the smallest cache that follows
//! them.

#[cfg(test)]
mod model;

use proptest::prelude::*;

use self::model::{Answer, FromOrigin, Model};
use super::invalidation::{Invalidated, invalidated};
use super::partial::{self, FromPart, Part};
use super::reuse::{Failure, Need, Permission, may_send_stale};
use super::status::{Because, CacheStatus, Handled};
use super::update::{Asked, HeadVerdict, by_head, identifies, put_combined, put_part, put_updated};
use super::validation::Strong;
use super::*;
use crate::http::conditional::EntityTag;
use crate::http::date::Date;
use crate::http::head::{HeadScanner, Limits, Parsed, RequestHead, ResponseHead};
use crate::http::range::ByteRange;
use crate::http::target::{Authority, Uri};
use crate::http::{Method, Status};

const NOW_S: i64 = 1_800_000_000;
const TIMES: Times = Times {
    request_s: NOW_S,
    response_s: NOW_S,
};

/// Heads borrow from their text; that of a test is never given back.
fn leak(text: &str) -> &'static [u8] {
    let bytes: Vec<u8> = text
        .chars()
        .map(|c| u8::try_from(c).expect("Latin 1"))
        .collect();
    Box::leak(bytes.into_boxed_slice())
}

fn request(text: &str) -> RequestHead<'static> {
    let limits = Limits::default();
    match HeadScanner::default().request(leak(text), &limits) {
        Ok(Parsed::Complete(head, _)) => head,
        other => panic!("{text}: {other:?}"),
    }
}

fn response(text: &str) -> ResponseHead<'static> {
    let limits = Limits::default();
    match HeadScanner::default().response(leak(text), &limits, Method::Get) {
        Ok(Parsed::Complete(head, _)) => head,
        other => panic!("{text}: {other:?}"),
    }
}

/// A GET of `/a` with these header lines, a `|` between them.
fn get(lines: &str) -> RequestHead<'static> {
    with_method("GET", lines)
}

fn with_method(method: &str, lines: &str) -> RequestHead<'static> {
    request(&format!(
        "{method} /a HTTP/1.1\r\nHost: origin\r\n{}\r\n",
        crlf(lines)
    ))
}

/// A response with these header lines, a `|` between them. `@-5` stands for the date five seconds
/// ago.
fn status(code: u16, lines: &str) -> ResponseHead<'static> {
    let lines = lines.split('|').map(|line| match line.split_once('@') {
        Some((name, offset)) => {
            let offset: i64 = offset.parse().expect("seconds");
            format!("{name}{}", Date::new(NOW_S + offset).as_str())
        }
        None => line.to_owned(),
    });
    let lines: Vec<String> = lines.collect();
    response(&format!(
        "HTTP/1.1 {code} X\r\n{}\r\n",
        crlf(&lines.join("|"))
    ))
}

fn ok(lines: &str) -> ResponseHead<'static> {
    status(200, lines)
}

fn crlf(lines: &str) -> String {
    let lines = lines.split('|').filter(|line| !line.is_empty());
    lines.map(|line| format!("{line}\r\n")).collect()
}

fn target() -> Uri<'static> {
    Uri {
        scheme: "http",
        authority: Authority::parse("origin").expect("a host"),
        path: "/a",
        query: None,
    }
}

fn stores(request: &RequestHead<'_>, response: &ResponseHead<'_>) -> Result<(), NotStored> {
    let rules = Rules::default();
    let result = may_store(request, &target(), response, TIMES, &rules).map(|_| ());
    let objection = objection(&Asks::of(request), response, &rules);
    assert!(objection.is_none() || result.is_err(), "{objection:?}");
    result
}

#[test]
fn what_says_itself_that_it_is_not_stored_is_objected_to() {
    use NotStored::{Authorization, NoStore, NotCacheable, Private, RequestNoStore};
    let fresh = "Cache-Control: max-age=60|Date: @0";
    for (asks, response, expected) in [
        ("", ok("Cache-Control: no-store|Date: @0"), Some(NoStore)),
        (
            "",
            ok("Cache-Control: max-age=60, private|Date: @0"),
            Some(Private),
        ),
        ("Cache-Control: no-store", ok(fresh), Some(RequestNoStore)),
        ("Authorization: Basic eA==", ok(fresh), Some(Authorization)),
        ("", status(302, "Date: @0"), Some(NotCacheable)),
        ("", ok(fresh), None),
    ] {
        let found = objection(&Asks::of(&get(asks)), &response, &Rules::default());
        assert_eq!(found, expected, "{asks} {response:?}");
    }
    let rules = refresh(60, 600, &["no-store"]);
    let response = ok("Cache-Control: no-store|Date: @0");
    assert_eq!(objection(&Asks::default(), &response, &rules), None);
}

/// RFC 9110 sections 15.5.13 to 15.5.20, RFC 6585: whoever asks for what cannot be had, or too often,
/// would otherwise answer for everybody.
#[test]
fn statuses_of_one_request_are_for_nobody_else() {
    for code in [407, 408, 412, 416, 417, 421, 425, 428, 429, 431, 511] {
        let response = status(code, "Cache-Control: public, max-age=99");
        assert_eq!(
            stores(&get("Range: bytes=9999-"), &response),
            Err(NotStored::OfThisRequest),
            "{code}"
        );
    }
}

fn terms(lines: &str) -> Terms {
    Terms::derive(&ok(lines), TIMES, &Rules::default())
}

/// What a request with these lines gets of a response with those, so many seconds later.
fn reused(response: &str, asks: &str, later_s: i64) -> Reuse {
    reuse(&terms(response), &Asks::of(&get(asks)), NOW_S + later_s)
}

/// For how long a response is fresh when it comes.
fn lifetime(lines: &str) -> i64 {
    terms(lines).fresh_for_s(NOW_S)
}

#[test]
fn terms_are_small() {
    assert!(size_of::<Terms>() <= 40, "{}", size_of::<Terms>());
    assert!(size_of::<Asks>() <= 48, "{}", size_of::<Asks>());
}

#[test]
fn rfc9111_3_methods_and_statuses_that_are_stored() {
    let fresh = "Cache-Control: max-age=60";
    assert_eq!(stores(&get(""), &ok(fresh)), Ok(()));
    for method in ["HEAD", "PUT", "DELETE", "OPTIONS", "M-SEARCH"] {
        let result = stores(&with_method(method, ""), &ok(fresh));
        assert_eq!(result, Err(NotStored::Method), "{method}");
    }
    // Any final status that says how long it is fresh, known or not.
    for code in [
        200, 203, 299, 301, 302, 303, 307, 308, 400, 404, 410, 451, 499, 500, 503, 599,
    ] {
        assert_eq!(stores(&get(""), &status(code, fresh)), Ok(()), "{code}");
    }
    for code in [103, 304] {
        assert_eq!(
            stores(&get(""), &status(code, fresh)),
            Err(NotStored::NotFinal)
        );
    }
}

#[test]
fn rfc9110_9_3_3_a_post_is_stored_if_it_stands_for_its_target() {
    let post = with_method("POST", "");
    let fresh = "Expires: @60|Date: @0";
    for location in [
        "/a",
        "a",
        "http://origin/a",
        "http://ORIGIN:80/a",
        "",
        "#x",
        "./b/../a",
    ] {
        let lines = format!("{fresh}|Content-Location: {location}");
        // The date marker is at the end of its line only.
        let result = stores(&post, &ok(&lines));
        assert_eq!(result, Ok(()), "{location}");
    }
    for location in [
        "/b",
        "a?",
        "https://origin/a",
        "http://other/a",
        "http://origin:81/a",
    ] {
        let lines = format!("{fresh}|Content-Location: {location}");
        assert_eq!(
            stores(&post, &ok(&lines)),
            Err(NotStored::Post),
            "{location}"
        );
    }
    assert_eq!(stores(&post, &ok(fresh)), Err(NotStored::Post));
    let heuristic = ok("Last-Modified: @-900|Content-Location: /a");
    assert_eq!(stores(&post, &heuristic), Err(NotStored::Post));
}

#[test]
fn rfc9111_5_2_2_directives_that_forbid_to_store() {
    for (lines, why) in [
        ("Cache-Control: no-store, max-age=60", NotStored::NoStore),
        ("Cache-Control: No-StOrE", NotStored::NoStore),
        (
            "Cache-Control: max-age=60|Cache-Control: no-store",
            NotStored::NoStore,
        ),
        ("Cache-Control: private, max-age=60", NotStored::Private),
        (
            "Cache-Control: private=\"\", max-age=60",
            NotStored::Private,
        ),
        (
            "Cache-Control: private=\"a b\", max-age=60",
            NotStored::Private,
        ),
        ("Cache-Control: max-age=60|Vary: *", NotStored::VaryStar),
        ("Cache-Control: max-age=60|Vary: , *", NotStored::VaryStar),
        (
            "Cache-Control: max-age=60|Vary: Foo|Vary: *",
            NotStored::VaryStar,
        ),
        ("Cache-Control: max-age=60|Vary: a b", NotStored::VaryStar),
        ("Cache-Control: max-age=0", NotStored::NoUse),
        ("Cache-Control: no-cache, max-age=60", NotStored::NoUse),
        (
            "Cache-Control: must-revalidate, max-age=60|Age: 60",
            NotStored::NoUse,
        ),
        ("A: b", NotStored::NoUse),
    ] {
        assert_eq!(stores(&get(""), &ok(lines)), Err(why), "{lines}");
    }
    for lines in [
        "Cache-Control: private=\"a\", max-age=60",
        "Cache-Control: x=\"no-store\", max-age=60",
        "Cache-Control: x=\"\\\", no-store\", max-age=60",
        "Cache-Control: no-cache|ETag: \"a\"",
        "Cache-Control: max-age=0|Last-Modified: @-9",
        "Cache-Control: max-age=0, stale-if-error=9",
        "Cache-Control: max-age=60|Age: 90", // for those who take what is stale
        "Cache-Control: max-age=60|Set-Cookie: a=b",
    ] {
        assert_eq!(stores(&get(""), &ok(lines)), Ok(()), "{lines}");
    }
    let no_store = get("Cache-Control: no-store");
    let result = stores(&no_store, &ok("Cache-Control: max-age=60"));
    assert_eq!(result, Err(NotStored::RequestNoStore));
}

#[test]
fn rfc9111_5_2_2_3_must_understand_goes_by_the_status() {
    let lines = "Cache-Control: max-age=60, must-understand, no-store";
    assert_eq!(stores(&get(""), &status(404, lines)), Ok(()));
    assert_eq!(
        stores(&get(""), &status(599, lines)),
        Err(NotStored::NotUnderstood)
    );
}

#[test]
fn rfc9111_3_5_responses_to_authorized_requests() {
    let authorized = get("Authorization: x");
    let result = stores(&authorized, &ok("Cache-Control: max-age=60"));
    assert_eq!(result, Err(NotStored::Authorization));
    for allowing in [
        "max-age=60, public",
        "max-age=60, must-revalidate",
        "s-maxage=60",
    ] {
        let lines = format!("Cache-Control: {allowing}");
        assert_eq!(stores(&authorized, &ok(&lines)), Ok(()), "{allowing}");
    }
}

#[test]
fn rfc9111_4_2_2_statuses_that_are_reused_without_saying_so() {
    let unchanged = "Last-Modified: @-86400|Date: @0";
    for code in [200, 203, 204, 300, 301, 308, 404, 405, 410, 414, 501] {
        assert_eq!(stores(&get(""), &status(code, unchanged)), Ok(()), "{code}");
    }
    for code in [201, 202, 302, 303, 307, 403, 502, 503, 504, 599] {
        let result = stores(&get(""), &status(code, unchanged));
        assert_eq!(result, Err(NotStored::NotCacheable), "{code}");
    }
    let public = status(599, "Last-Modified: @-86400|Cache-Control: public|Date: @0");
    let terms = may_store(&get(""), &target(), &public, TIMES, &Rules::default());
    assert_eq!(terms.expect("stored").fresh_for_s(NOW_S), 8640);
}

#[test]
fn rfc9111_4_2_2_the_heuristic_is_a_bounded_share() {
    for (lines, expected_s) in [
        ("Last-Modified: @-1000|Date: @0", 100),
        ("Last-Modified: @-1000", 100),
        ("Last-Modified: @-100000000|Date: @0", 86_400),
        ("Last-Modified: @1000|Date: @0", 0),
        ("Last-Modified: never|Date: @0", 0),
        ("Last-Modified: @-1000|Last-Modified: @-1000|Date: @0", 0),
        ("Last-Modified: @-1000|Date: @0|Expires: 0", 0),
    ] {
        assert_eq!(lifetime(lines), expected_s, "{lines}");
    }
    let none = Rules {
        heuristic_percent: 0,
        ..Rules::default()
    };
    let never = Terms::derive(&ok("Last-Modified: @-1000"), TIMES, &none);
    assert_eq!(never.fresh_for_s(NOW_S), 0);
}

/// With these numbers of seconds and what is ignored.
fn refresh(lifetime_min_s: u32, lifetime_max_s: u32, ignored: &[&str]) -> Rules {
    let mut ignore = Ignore::default();
    assert!(ignored.iter().all(|name| ignore.add(name)));
    Rules {
        lifetime_min_s,
        lifetime_max_s,
        ignore,
        ..Rules::default()
    }
}

#[test]
fn an_operator_bounds_how_long_responses_are_fresh() {
    let rules = refresh(60, 600, &[]);
    for (code, lines, expected_s) in [
        (200, "Cache-Control: max-age=5", 60),
        (200, "Cache-Control: max-age=100", 100),
        (200, "Cache-Control: max-age=9999", 600),
        (200, "CDN-Cache-Control: max-age=0", 60),
        (200, "Expires: 0", 60),
        (200, "", 60),
        // The minimum begins when it comes, however old it is then.
        (200, "Cache-Control: max-age=5|Age: 1000", 60),
        (200, "Age: x", 60),
        // Not for one client, nor an error that says no such thing.
        (200, "Cache-Control: max-age=5|Set-Cookie: a=b", 5),
        (500, "Cache-Control: max-age=5", 5),
        (404, "Cache-Control: max-age=5", 60),
    ] {
        let terms = Terms::derive(&status(code, lines), TIMES, &rules);
        assert_eq!(terms.fresh_for_s(NOW_S), expected_s, "{code} {lines}");
    }
    // What is validated each time still is.
    let terms = Terms::derive(&ok("Cache-Control: no-cache|ETag: x"), TIMES, &rules);
    let judged = reuse(&terms, &Asks::of(&get("")), NOW_S);
    assert_eq!(judged, Reuse::Validate(Need::NoCache));
}

#[test]
fn an_operator_ignores_directives_but_nothing_that_is_for_one_client() {
    let stored = |ignored: &[&str], asks: &str, lines: &str| {
        let rules = refresh(60, 600, ignored);
        may_store(&get(asks), &target(), &ok(lines), TIMES, &rules).map(|_| ())
    };
    for (ignored, lines) in [
        ("no-store", "Cache-Control: no-store"),
        ("no-store", "CDN-Cache-Control: no-store"),
        ("private", "Cache-Control: private, max-age=5"),
    ] {
        assert_eq!(stored(&[ignored], "", lines), Ok(()), "{lines}");
        assert!(stored(&[], "", lines).is_err(), "{lines}");
        assert!(stored(&["no-cache"], "", lines).is_err(), "{lines}");
        let with_cookie = format!("{lines}|Set-Cookie: a=b");
        assert!(stored(&[ignored], "", &with_cookie).is_err(), "{lines}");
    }
    let all = &Ignore::NAMES[..];
    let (request, lines) = ("Authorization: Basic eDp5", "Cache-Control: private");
    assert_eq!(stored(all, request, lines), Err(NotStored::Authorization));
    let (request, lines) = ("Cache-Control: no-store", "Cache-Control: no-store");
    assert_eq!(stored(all, request, lines), Err(NotStored::RequestNoStore));
    assert_eq!(stored(all, "", "Vary: *"), Err(NotStored::VaryStar));
    // Without `must-revalidate` a stale one may be sent, without `no-cache` a fresh one.
    let judged = |ignored: &[&str], lines: &str, asks: &str, later_s: i64| {
        let terms = Terms::derive(&ok(lines), TIMES, &refresh(60, 600, ignored));
        reuse(&terms, &Asks::of(&get(asks)), NOW_S + later_s)
    };
    let max_stale = "Cache-Control: max-stale";
    for lines in [
        "Cache-Control: must-revalidate",
        "Cache-Control: proxy-revalidate",
    ] {
        let stale = judged(&["must-revalidate"], lines, max_stale, 70);
        assert_eq!(stale, Reuse::Stale(Permission::MaxStale));
        assert_eq!(
            judged(&[], lines, max_stale, 70),
            Reuse::Validate(Need::Stale)
        );
    }
    assert_eq!(
        judged(&["no-cache"], "Cache-Control: no-cache", "", 0),
        Reuse::Fresh
    );
}

#[test]
fn rfc9111_4_2_1_lifetimes_in_their_order() {
    for (lines, expected_s) in [
        ("Cache-Control: max-age=60", 60),
        ("Cache-Control: MaX-aGe=60", 60),
        ("Cache-Control: x, max-age=60", 60),
        (
            "Cache-Control: max-age=1, s-maxage=60|Expires: @-9|Date: @0",
            60,
        ),
        ("Cache-Control: s-maxage=1, max-age=60", 1),
        ("Cache-Control: max-age=60|Cache-Control: s-maxage=1", 1),
        ("Cache-Control: max-age=60|Expires: 0", 60),
        ("Cache-Control: max-age=0|Expires: @60|Date: @0", 0),
        ("Expires: @60|Date: @0", 60),
        ("Expires: @60|Date: foo", 60),
        ("Expires: @60", 60),
        ("Expires: @-60|Date: @0", 0),
        ("Expires: @300|Date: @400", 0),
        ("Expires: 0|Date: @0|Last-Modified: @-999999", 0),
        ("Expires: @60|Expires: @60|Date: @0", 0),
    ] {
        assert_eq!(lifetime(lines), expected_s, "{lines}");
    }
}

#[test]
fn rfc9111_4_2_1_hostile_lifetimes_make_stale() {
    let year_s = i64::from(Rules::default().lifetime_max_s);
    for (argument, expected_s) in [
        ("003600", 3600),
        ("\"3600\"", 3600),
        ("2147483647", year_s),
        ("99999999999999999999999999", year_s),
        ("-3600", 0),
        ("3600.5", 0),
        ("'3600'", 0),
        ("a3600", 0),
        ("3600a", 0),
        (" 3600", 0),
        ("", 0),
        ("\"3600", 0),
        ("1, max-age=3600", 1),
        ("3600, max-age=1", 3600),
        ("1|Cache-Control: max-age=3600", 1),
        ("1, x=\"max-age=3600\"", 1),
    ] {
        let lines = format!("Cache-Control: max-age={argument}");
        assert_eq!(lifetime(&lines), expected_s, "{argument}");
    }
    assert_eq!(lifetime("Cache-Control: x=\"max-age=3600\", max-age=1"), 1);
    assert_eq!(lifetime("Cache-Control: max-age =3600"), 0);
    assert_eq!(lifetime("Cache-Control: max-age"), 0);
}

#[test]
fn rfc9111_4_2_3_the_age_of_what_comes() {
    let age = |lines: &str, times: Times| {
        Terms::derive(&ok(lines), times, &Rules::default()).age_s(times.response_s)
    };
    assert_eq!(age("A: b", TIMES), 0);
    assert_eq!(age("Date: @-30", TIMES), 30);
    assert_eq!(age("Date: @30", TIMES), 0);
    assert_eq!(age("Age: 40|Date: @-30", TIMES), 40);
    assert_eq!(age("Age: 99999999999999999999", TIMES), SPAN_S_MAX);
    let slow = Times {
        request_s: NOW_S - 5,
        ..TIMES
    };
    assert_eq!(age("Age: 40", slow), 45);
    assert_eq!(age("Date: @-5", slow), 5);
    let back = Times {
        request_s: NOW_S + 5,
        ..TIMES
    };
    assert_eq!(age("Age: 40", back), 40);
    let aged = terms("Age: 40");
    assert_eq!((aged.age_s(NOW_S + 7), aged.age_s(NOW_S - 7)), (47, 40));
}

#[test]
fn rfc9111_5_1_an_age_that_nobody_can_tell_makes_stale() {
    for (age, is_fresh) in [
        ("0", true),
        ("30", true),
        ("7200", false),
        ("abc", false),
        ("-7200", false),
        ("7200.0", false),
        ("30;a=b", false),
        ("", false),
        ("7200,0", false),
        ("0,7200", true),
        ("0, 0", false),
        ("30, 30", false),
        ("0|Age: 0", false),
        ("0|Age: 7200", false),
    ] {
        let lines = format!("Cache-Control: max-age=3600|Age: {age}");
        assert_eq!(lifetime(&lines) > 0, is_fresh, "{age}");
    }
}

#[test]
fn rfc9111_4_2_fresh_until_the_age_reaches_the_lifetime() {
    let lines = "Cache-Control: max-age=10|Age: 3";
    assert_eq!(reused(lines, "", 6), Reuse::Fresh);
    assert_eq!(reused(lines, "", 7), Reuse::Validate(Need::Stale));
    let aged = terms(lines);
    assert_eq!(
        (aged.stale_for_s(NOW_S + 6), aged.stale_for_s(NOW_S + 9)),
        (None, Some(2))
    );
    assert_eq!(
        (aged.fresh_for_s(NOW_S), aged.fresh_for_s(NOW_S + 9)),
        (7, -2)
    );
}

#[test]
fn rfc9111_5_2_1_what_requests_ask() {
    let lines = "Cache-Control: max-age=100|Age: 50";
    for (asks, later_s, expected) in [
        ("max-age=50", 0, Reuse::Fresh),
        ("max-age=49", 0, Reuse::Validate(Need::Request)),
        ("max-age=0", 0, Reuse::Validate(Need::Request)),
        ("max-age=x", 0, Reuse::Validate(Need::Request)),
        ("min-fresh=50", 0, Reuse::Fresh),
        ("min-fresh=51", 0, Reuse::Validate(Need::Request)),
        ("no-cache", 0, Reuse::Validate(Need::Request)),
        ("no-store", 0, Reuse::Fresh),
        ("max-stale=10", 60, Reuse::Stale(Permission::MaxStale)),
        ("max-stale=9", 60, Reuse::Validate(Need::Stale)),
        ("max-stale", 99_999, Reuse::Stale(Permission::MaxStale)),
        ("max-stale=x", 60, Reuse::Validate(Need::Stale)),
        ("max-stale, min-fresh=1", 60, Reuse::Validate(Need::Stale)),
        ("max-stale, max-age=109", 60, Reuse::Validate(Need::Request)),
        (
            "max-stale, max-age=110",
            60,
            Reuse::Stale(Permission::MaxStale),
        ),
        ("only-if-cached", 0, Reuse::Fresh),
        ("only-if-cached", 60, Reuse::Unavailable),
        (
            "only-if-cached, max-stale",
            60,
            Reuse::Stale(Permission::MaxStale),
        ),
        ("only-if-cached, no-cache", 0, Reuse::Unavailable),
        ("nothing-known", 0, Reuse::Fresh),
    ] {
        let asked = reused(lines, &format!("Cache-Control: {asks}"), later_s);
        assert_eq!(asked, expected, "{asks}");
    }
    let nothing = |asks: &str| reuse::without_stored(&Asks::of(&get(asks)));
    assert_eq!(nothing("Cache-Control: only-if-cached"), Reuse::Unavailable);
    assert_eq!(nothing(""), Reuse::Validate(Need::Stale));
}

#[test]
fn rfc9111_5_4_pragma_counts_without_cache_control() {
    let lines = "Cache-Control: max-age=100";
    let validate = Reuse::Validate(Need::Request);
    assert_eq!(reused(lines, "Pragma: x, No-Cache", 0), validate);
    assert_eq!(
        reused(lines, "Pragma: no-cache|Cache-Control: max-age=9", 0),
        Reuse::Fresh
    );
    assert_eq!(reused(lines, "Pragma: x", 0), Reuse::Fresh);
}

#[test]
fn rfc9111_4_3_2_methods_and_conditions_that_are_not_for_a_cache() {
    let lines = "Cache-Control: max-age=100|ETag: \"a\"";
    for asks in ["If-Match: \"a\"", "If-Unmodified-Since: x"] {
        assert_eq!(reused(lines, asks, 0), Reuse::Pass, "{asks}");
    }
    let post = Asks::of(&with_method("POST", ""));
    assert_eq!(reuse(&terms(lines), &post, NOW_S), Reuse::Pass);
    let head = Asks::of(&with_method("HEAD", ""));
    assert_eq!(reuse(&terms(lines), &head, NOW_S), Reuse::Fresh);
}

#[test]
fn rfc9111_5_2_2_what_is_never_sent_stale() {
    for bound in [
        "must-revalidate",
        "proxy-revalidate",
        "s-maxage=1",
        "no-cache",
    ] {
        let lines = format!(
            "Cache-Control: max-age=1, {bound}, stale-while-revalidate=99, stale-if-error=99"
        );
        let judged = reused(&lines, "Cache-Control: max-stale", 5);
        assert!(matches!(judged, Reuse::Validate(_)), "{bound}");
        let asks = Asks::of(&get("Cache-Control: stale-if-error=99"));
        let rules = Rules::default();
        for failure in [Failure::Unreachable, Failure::Status(Status::BAD_GATEWAY)] {
            let may = may_send_stale(&terms(&lines), &asks, failure, NOW_S + 5, &rules);
            assert!(!may, "{bound}");
        }
    }
    let fresh = reused("Cache-Control: max-age=9, no-cache", "", 0);
    assert_eq!(fresh, Reuse::Validate(Need::NoCache));
    let fresh = reused("Cache-Control: max-age=9, must-revalidate", "", 0);
    assert_eq!(fresh, Reuse::Fresh);
}

#[test]
fn rfc5861_3_stale_while_revalidate() {
    let lines = "Cache-Control: max-age=10, stale-while-revalidate=5";
    let stale = Reuse::Stale(Permission::WhileRevalidate);
    assert_eq!(reused(lines, "", 14), stale);
    assert_eq!(reused(lines, "", 15), Reuse::Validate(Need::Stale));
    // Who names an age wants nothing stale (RFC 9111 section 5.2.1.1).
    let with_age = reused(lines, "Cache-Control: max-age=99", 14);
    assert_eq!(with_age, Reuse::Validate(Need::Stale));
}

#[test]
fn rfc5861_4_and_rfc9111_4_2_4_stale_after_a_failure() {
    let rules = Rules {
        stale_if_unreachable_s: 50,
        ..Rules::default()
    };
    let may = |lines: &str, asks: &str, failure, later_s| {
        let asks = Asks::of(&get(asks));
        may_send_stale(&terms(lines), &asks, failure, NOW_S + later_s, &rules)
    };
    let (gone, bad) = (Failure::Unreachable, Failure::Status(Status::BAD_GATEWAY));
    let plain = "Cache-Control: max-age=10";
    assert!(may(plain, "", gone, 59) && !may(plain, "", gone, 60));
    assert!(!may(plain, "", bad, 11));
    let allowing = "Cache-Control: max-age=10, stale-if-error=20";
    for failure in [gone, bad] {
        assert!(may(allowing, "", failure, 29) && !may(allowing, "", failure, 30));
    }
    assert!(!may(
        "Cache-Control: max-age=10, stale-if-error=0",
        "",
        gone,
        11
    ));
    assert!(may(plain, "Cache-Control: stale-if-error=5", bad, 14));
    assert!(!may(plain, "Cache-Control: stale-if-error=5", bad, 15));
    assert!(!may(allowing, "Cache-Control: no-cache", gone, 11));
    assert!(!may(allowing, "Cache-Control: max-age=99", gone, 11));
    assert_eq!(Failure::of(Status::NOT_FOUND), None);
    assert!(Failure::of(Status::GATEWAY_TIMEOUT).is_some());
}

#[test]
fn rfc9213_2_2_cdn_cache_control_goes_first_if_it_can_be_read() {
    for (targeted, expected_s) in [
        ("max-age=60", 60),
        ("max-age=60, stale-if-error=5", 60),
        ("max-age=60;x=1", 60),
        ("max-age=1|CDN-Cache-Control: max-age=60", 60), // the last of a key counts in a dictionary
        ("x=1", 0),
        ("no-store=?0, max-age=60", 60),
        ("max-age=60.5", 0),
        ("max-age=\"60\"", 0),
        ("max-age=-5", 0),
        ("max-age", 0),
        ("", 7),
        ("max-age=60,", 7),
        ("Max-Age=60", 7),
        ("max-age = 60", 7),
        ("max-age=60; ,", 7),
    ] {
        let lines =
            format!("CDN-Cache-Control: {targeted}|Cache-Control: max-age=7|Expires: @9999");
        assert_eq!(lifetime(&lines), expected_s, "{targeted}");
    }
    for (lines, expected) in [
        (
            "CDN-Cache-Control: no-store|Cache-Control: max-age=9",
            Err(NotStored::NoStore),
        ),
        (
            "CDN-Cache-Control: private|Cache-Control: max-age=9",
            Err(NotStored::Private),
        ),
        (
            "CDN-Cache-Control: max-age=9|Cache-Control: no-store",
            Ok(()),
        ),
        ("CDN-Cache-Control: private=\"a, b\", max-age=9", Ok(())),
        (
            "CDN-Cache-Control: private=\"a b\", max-age=9",
            Err(NotStored::Private),
        ),
        (
            "CDN-Cache-Control: must-revalidate|Expires: @99",
            Err(NotStored::NoUse),
        ),
    ] {
        assert_eq!(stores(&get(""), &ok(lines)), expected, "{lines}");
    }
}

#[test]
fn rfc9111_3_1_fields_that_are_not_stored() {
    let stored = |lines: &str| {
        let mut out = Vec::new();
        storing::put_stored_lines(&mut out, &ok(lines).headers);
        String::from_utf8(out).expect("ASCII").replace("\r\n", "|")
    };
    let hop = "Connection: x, y|X: 1|Keep-Alive: 1|Proxy-Authenticate: a|TE: a|Upgrade: a|";
    let kept = "Z: 1|Set-Cookie: a=b|Age: 3|";
    assert_eq!(stored(&format!("{hop}Y: 2|{kept}")), kept);
    let control = "Cache-Control: no-cache=\"a, b\", private=\"C\"|";
    assert_eq!(
        stored(&format!("{control}A: 1|b: 2|c: 3|d: 4")),
        format!("{control}d: 4|")
    );
    let targeted = "CDN-Cache-Control: private=\"a\"|Cache-Control: private=\"b\"|";
    assert_eq!(
        stored(&format!("{targeted}A: 1|b: 2")),
        format!("{targeted}b: 2|")
    );
}

fn key(vary: &str, lines: &str) -> Vec<u8> {
    let mut key = Vec::new();
    let response = ok(&format!("Vary: {vary}"));
    vary::put_key(&mut key, &response.headers, &get(lines).headers).expect("a key");
    key
}

#[test]
fn rfc9111_4_1_keys_that_match_and_keys_that_do_not() {
    for (vary, first, second, expected) in [
        ("Foo", "Foo: 1", "Foo: 1", true),
        ("Foo", "Foo: 1", "foo: 1|Other: 2", true),
        ("Foo", "Foo: 1", "Foo: 2", false),
        ("Foo", "Foo: 1", "Foo: 12", false),
        ("Foo", "Foo: 12", "Foo: 1", false),
        ("Foo", "Foo: 1", "", false),
        ("Foo", "", "Foo: 1", false),
        ("Foo", "", "Foo:", false),
        ("Foo", "", "", true),
        ("Foo, BAR", "Foo: 1|Bar: 2", "bar: 2|foo: 1", true),
        ("Foo, Bar", "Foo: 1|Bar: 2", "Foo: 1", false),
        ("Foo", "Foo: 1, 2", "Foo: 1|Foo: 2", true),
        ("Foo", "Foo: 1,2", "Foo:  1 ,, 2 ", true),
        ("Foo", "Foo: 1,2", "Foo: 2,1", false),
        ("Foo", "Foo: \"1, 2\"", "Foo: \"1,2\"", false),
        ("Foo", "Foo: a", "Foo: A", false),
        (
            "Accept-Language",
            "Accept-Language: en, de",
            "Accept-Language: De,eN",
            true,
        ),
        (
            "Accept-Language",
            "Accept-Language: en, de",
            "Accept-Language: en",
            false,
        ),
        (
            "Accept-Language",
            "Accept-Language: en;q=0.5, de",
            "Accept-Language: de;q=1.0, en ; q=0.50",
            true,
        ),
        (
            "Accept-Language",
            "Accept-Language: en;q=0.5, de",
            "Accept-Language: de;q=0.5, en",
            false,
        ),
        (
            "Accept-Encoding",
            "Accept-Encoding: gzip, br",
            "Accept-Encoding: BR,gzip",
            true,
        ),
        (
            "Accept",
            "Accept: Text/HTML;Level=A, b/c",
            "Accept: b/c, text/html; Level=A",
            true,
        ),
        (
            "Accept",
            "Accept: text/html;level=A",
            "Accept: text/html;level=a",
            false,
        ),
        (
            "Accept",
            "Accept: text/html",
            "Accept: text/html;q=2",
            false,
        ),
    ] {
        let matched = vary::matches(&key(vary, first), &get(second).headers);
        assert_eq!(matched, expected, "{vary}: {first} / {second}");
    }
    assert!(vary::matches(b"", &get("Foo: 1").headers));
    assert!(!vary::matches(b"foo", &get("").headers)); // cut off on its way through a disk
}

#[test]
fn rfc9111_4_1_keys_have_bounds() {
    let names: Vec<String> = (0..=vary::FIELDS_MAX).map(|n| format!("f{n}")).collect();
    let vary = format!("Cache-Control: max-age=9|Vary: {}", names.join(","));
    assert_eq!(stores(&get(""), &ok(&vary)), Err(NotStored::VaryTooLong));
    let long = get(&format!("Foo: {}", "x".repeat(vary::KEY_BYTES_MAX)));
    let vary = ok("Cache-Control: max-age=9|Vary: Foo");
    assert_eq!(stores(&long, &vary), Err(NotStored::VaryTooLong));
}

#[test]
fn rfc9111_4_3_1_both_validators_are_asked_with() {
    let conditions = |lines: &str| {
        let mut out = Vec::new();
        let any = validation::put_conditions(&mut out, &ok(lines).headers);
        assert_eq!(any, !out.is_empty());
        String::from_utf8(out).expect("ASCII").replace("\r\n", "|")
    };
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    assert_eq!(
        conditions(&format!("ETag: W/\"a\"|Last-Modified: {date}")),
        format!("If-None-Match: W/\"a\"|If-Modified-Since: {date}|")
    );
    assert_eq!(conditions("ETag: a|Last-Modified: b"), "");
    assert_eq!(conditions("ETag: \"a\"|ETag: \"b\""), "");
}

#[test]
fn rfc9111_4_3_2_conditions_are_answered_from_the_store() {
    use crate::http::select::Selection;
    let selected = |stored: &str, asks: String| {
        let response = ok(stored);
        let terms = Terms::derive(&response, TIMES, &Rules::default());
        validation::selection(&get(&asks), &response.headers, &terms, 10, NOW_S)
    };
    let since = |offset_s: i64| {
        format!(
            "If-Modified-Since: {}",
            Date::new(NOW_S + offset_s).as_str()
        )
    };
    let stored = "Cache-Control: max-age=9|ETag: \"a\"|Last-Modified: @-30|Date: @0";
    assert_eq!(
        selected(stored, "If-None-Match: \"b\", \"a\"".into()),
        Selection::NotModified
    );
    assert_eq!(
        selected(stored, "If-None-Match: \"b\"".into()),
        Selection::Whole
    );
    assert_eq!(selected(stored, since(-30)), Selection::NotModified);
    assert_eq!(selected(stored, since(-31)), Selection::Whole);
    // Without Last-Modified it is Date that counts, or when it came.
    for stored in [
        "Cache-Control: max-age=9|Date: @0",
        "Cache-Control: max-age=9",
    ] {
        assert_eq!(selected(stored, since(0)), Selection::NotModified);
        assert_eq!(selected(stored, since(-1)), Selection::Whole);
    }
    let part = Selection::Part(ByteRange { start: 8, end: 10 });
    assert_eq!(selected(stored, "Range: bytes=-2".into()), part);
}

#[test]
fn rfc9111_4_3_4_which_stored_response_a_304_means() {
    use Asked::{One, Several};
    for (newer, stored, asked, expected) in [
        ("ETag: \"a\"", "ETag: \"a\"", Several, true),
        ("ETag: \"b\"", "ETag: \"a\"", Several, false),
        ("ETag: \"b\"", "ETag: \"a\"", One, true),
        ("ETag: \"a\"", "ETag: W/\"a\"", Several, false),
        ("ETag: W/\"a\"", "ETag: \"a\"", Several, true),
        ("Last-Modified: @-9", "Last-Modified: @-9", Several, true),
        ("Last-Modified: @-9", "Last-Modified: @-8", Several, false),
        ("A: b", "ETag: \"a\"", Several, false),
        ("A: b", "ETag: \"a\"", One, true),
    ] {
        let (newer_head, stored_head) = (status(304, newer), ok(stored));
        let identified = identifies(&newer_head.headers, &stored_head.headers, asked);
        assert_eq!(identified, expected, "{newer} {stored} {asked:?}");
    }
}

fn updated(stored: &str, newer: &str) -> String {
    let mut out = Vec::new();
    put_updated(&mut out, &ok(stored), &status(304, newer), NOW_S);
    String::from_utf8(out).expect("ASCII").replace("\r\n", "|")
}

#[test]
fn rfc9111_3_2_fields_that_a_304_updates() {
    let date = Date::new(NOW_S);
    let date = date.as_str();
    assert_eq!(
        updated("A: 1|B: 2|B: 3|Age: 9|Date: @-99", "b: 4|C: 5"),
        format!("HTTP/1.1 200 X|A: 1|b: 4|C: 5|Date: {date}||")
    );
    // What describes the bytes stays; what is not stored is not added.
    let of_bytes = "Content-Length: 5|Content-Encoding: gzip|ETag: \"a\"|Content-MD5: x|";
    let newer = "Content-Length: 9|Content-Encoding: br|ETag: \"b\"|Content-MD5: y|Date: @0|\
                 Content-Range: bytes 0-1/2|Connection: z|Z: 1|Upgrade: x|Content-Type: t/t";
    assert_eq!(
        updated(of_bytes, newer),
        format!("HTTP/1.1 200 X|{of_bytes}Date: {date}|Content-Type: t/t||")
    );
    assert_eq!(
        updated("A: 1", &format!("ETag: \"a\"|Date: {date}|Age: 7")),
        format!("HTTP/1.1 200 X|A: 1|ETag: \"a\"|Date: {date}|Age: 7||")
    );
    let named = updated("A: 1|S: 1", "Cache-Control: private=\"s\"|S: 2|Date: @0");
    assert!(
        named.contains("|S: 1|") && !named.contains("S: 2"),
        "{named}"
    );
}

#[test]
fn rfc9111_4_3_5_a_head_updates_or_invalidates() {
    let stored = ok("ETag: \"a\"|Last-Modified: @-9");
    for (code, lines, expected) in [
        (200, "A: b", HeadVerdict::Update),
        (200, "ETag: \"a\"|Content-Length: 5", HeadVerdict::Update),
        (200, "Content-Length: 6", HeadVerdict::Invalidate),
        (200, "Content-Length: 0", HeadVerdict::Invalidate),
        (200, "ETag: \"b\"", HeadVerdict::Invalidate),
        (200, "Last-Modified: @-8", HeadVerdict::Invalidate),
        (410, "ETag: \"b\"", HeadVerdict::Keep),
    ] {
        let verdict = by_head(&status(code, lines), &stored.headers, 5);
        assert_eq!(verdict, expected, "{code} {lines}");
    }
}

#[test]
fn rfc9111_4_4_what_unsafe_methods_invalidate() {
    let base = Uri {
        path: "/a/b",
        query: Some("q"),
        ..target()
    };
    let after = |method, code, lines| invalidated(method, &base, &status(code, lines));
    for method in [Method::Get, Method::Head, Method::Options, Method::Trace] {
        assert_eq!(after(method, 200, "Location: /x"), None);
    }
    for code in [400, 404, 500, 599] {
        assert_eq!(after(Method::Post, code, "Location: /x"), None);
    }
    for method in [
        Method::Post,
        Method::Put,
        Method::Delete,
        Method::Other("M-SEARCH"),
    ] {
        assert_eq!(after(method, 204, "A: b"), Some(Invalidated::default()));
    }
    let lines = "Location: http://other/x|Content-Location: c?d|Cache-Group-Invalidation: \"g\"";
    let invalid = after(Method::Put, 303, lines).expect("some");
    assert_eq!(
        (invalid.others, invalid.groups),
        (vec!["/a/c?d".into()], vec!["g".into()])
    );
}

#[test]
fn rfc3986_5_4_references_on_the_same_origin() {
    let base = Uri {
        path: "/b/c/d;p",
        query: Some("q"),
        ..target()
    };
    for (reference, expected) in [
        ("g", Some("/b/c/g")),
        ("./g", Some("/b/c/g")),
        ("g/", Some("/b/c/g/")),
        ("/g", Some("/g")),
        ("?y", Some("/b/c/d;p?y")),
        ("g?y/../x", Some("/b/c/g?y/../x")),
        ("#s", Some("/b/c/d;p?q")),
        ("", Some("/b/c/d;p?q")),
        (".", Some("/b/c/")),
        ("..", Some("/b/")),
        ("../../../g", Some("/g")),
        ("/./g/../h", Some("/h")),
        ("//origin/x", Some("/x")),
        ("//other/x", None),
        ("HTTP://Origin:80/x?y", Some("/x?y")),
        ("http://origin", Some("/")),
        ("https://origin/x", None),
        ("http://origin:8080/x", None),
        ("http://u@origin/x", None),
        ("mailto:a", None),
        ("g:h", None),
        ("/g:h", Some("/g:h")),
    ] {
        assert_eq!(
            base.resolve(reference.as_bytes()).as_deref(),
            expected,
            "{reference}"
        );
    }
    assert_eq!(base.resolve(b"/\xe4"), None);
}

#[test]
fn rfc9875_groups_are_lists_of_strings() {
    let groups_of = |value: &str| groups::of(&ok(&format!("Cache-Groups: {value}")).headers);
    assert_eq!(
        groups_of("\"a\", \"b\";x=1|Cache-Groups: \"c d\""),
        ["a", "b", "c d"]
    );
    for bad in ["a", "\"a\", b", "(\"a\")", "\"a\",", "\"a"] {
        assert!(groups_of(bad).is_empty(), "{bad}");
    }
}

const TAGGED: &str = "ETag: \"a\"|Cache-Control: max-age=9";

fn part(start: u64, end: u64, total: Option<u64>) -> Part {
    Part {
        range: ByteRange { start, end },
        total,
    }
}

#[test]
fn rfc9110_14_4_and_15_3_7_which_parts_are_understood() {
    let of = |range: &str, lines: &str| {
        let asked = get(&format!("Range: {range}"));
        let came = status(206, &format!("Cache-Control: max-age=9|{lines}"));
        let part = Part::of(&asked, &came);
        assert_eq!(stores(&asked, &came).is_ok(), part.is_some());
        part
    };
    let good = "Content-Range: bytes 4-8/10|Content-Length: 5";
    assert_eq!(of("bytes=4-8", good), Some(part(4, 9, Some(10))));
    let unknown = "Content-Range: BYTES 4-8/*|Content-Length: 5";
    assert_eq!(of("bytes=4-8", unknown), Some(part(4, 9, None)));
    for bad in [
        "Content-Length: 5",
        "Content-Range: lines 4-8/10|Content-Length: 5",
        "Content-Range: bytes 8-4/10|Content-Length: 5",
        "Content-Range: bytes 4-8/8|Content-Length: 5",
        "Content-Range: bytes */10|Content-Length: 5",
        "Content-Range: bytes 4-18446744073709551615/*|Content-Length: 5",
        "Content-Range: bytes 4-9/10|Content-Length: 5",
        "Content-Range: bytes 4-8/10|Content-Range: bytes 4-8/10|Content-Length: 5",
    ] {
        assert_eq!(of("bytes=4-9", bad), None, "{bad}");
    }
    // The one disagreement that is understood: the suffix that was asked for, wrongly placed.
    let misplaced = "Content-Range: bytes 4-9/10|Content-Length: 5";
    assert_eq!(of("bytes=-5", misplaced), Some(part(4, 9, Some(9))));
    assert_eq!(of("bytes=-6", misplaced), None);
    assert_eq!(Part::of(&get(""), &status(206, good)), None);
}

#[test]
fn rfc9111_3_3_what_is_there_of_a_response_that_broke_off() {
    let of = |lines: &str, received| Part::of_broken(&ok(lines), received);
    assert_eq!(
        of("ETag: \"a\"|Content-Length: 9", 4),
        Some(part(0, 4, Some(9)))
    );
    assert_eq!(
        of("ETag: \"a\"|Transfer-Encoding: chunked", 4),
        Some(part(0, 4, None))
    );
    assert_eq!(of("ETag: \"a\"|Content-Length: 9", 0), None);
    assert_eq!(of("ETag: W/\"a\"|Content-Length: 9", 4), None);
    assert_eq!(
        of("Last-Modified: @-99|Content-Length: 9", 4),
        None,
        "no Date"
    );
    let of_part = |lines: &str, received| Part::of_broken(&status(206, lines), received);
    let range = "ETag: \"a\"|Content-Range: bytes 4-8/10|Content-Length: 5";
    assert_eq!(of_part(range, 2), Some(part(4, 6, Some(10))));
    assert_eq!(of_part(range, 0), None);
    let weak = "ETag: W/\"a\"|Content-Range: bytes 4-8/10|Content-Length: 5";
    assert_eq!(of_part(weak, 2), None);
    assert_eq!(of_part("ETag: \"a\"|Content-Length: 5", 2), None);
    let error = status(404, "ETag: \"a\"|Content-Length: 5");
    assert_eq!(
        Part::of_broken(&error, 2),
        None,
        "an error is no representation"
    );
    assert_eq!(part(4, 9, None).cut(2), Some(part(4, 6, None)));
    assert_eq!(part(4, 9, None).cut(99), Some(part(4, 9, None)));
    assert_eq!(part(4, 9, None).cut(0), None);
}

/// A date is strong only where there was no time for another change within its second.
#[test]
fn rfc9110_8_8_2_2_a_last_modified_long_before_its_date_is_a_strong_validator() {
    let modified_s = NOW_S - 60;
    for (lines, expected) in [
        (
            "Last-Modified: @-60|Date: @0",
            Some(Strong::Date(modified_s)),
        ),
        (
            "Last-Modified: @-60|Date: @99",
            Some(Strong::Date(modified_s)),
        ),
        ("Last-Modified: @-60|Date: @-1", None),
        ("Last-Modified: @-60|Date: @-60", None),
        ("Last-Modified: @-60|Date: @-99", None),
        ("Last-Modified: @-60", None),
        ("Date: @0", None),
        ("Last-Modified: yesterday|Date: @0", None),
        ("Last-Modified: @-60|Date: today", None),
        ("Last-Modified: @-60|Last-Modified: @-60|Date: @0", None),
        ("Last-Modified: @-60|Date: @0|Date: @0", None),
        // Section 13.1.5: a date counts where there is no tag.
        ("ETag: W/\"a\"|Last-Modified: @-60|Date: @0", None),
        ("ETag: a|Last-Modified: @-60|Date: @0", None),
        ("ETag: \"a\"|ETag: \"a\"|Last-Modified: @-60|Date: @0", None),
    ] {
        assert_eq!(validation::strong(&ok(lines).headers), expected, "{lines}");
    }
    let tagged = ok("ETag: \"a\"|Last-Modified: @-60|Date: @0");
    let strong = validation::strong(&tagged.headers);
    assert!(matches!(strong, Some(Strong::Tag(tag)) if tag.opaque == b"a"));
}

#[test]
fn rfc9111_3_3_what_broke_off_under_a_strong_date_is_a_part() {
    let of = |lines: &str| Part::of_broken(&ok(&format!("{lines}|Content-Length: 9")), 4);
    let expected = Some(part(0, 4, Some(9)));
    assert_eq!(of("Last-Modified: @-60|Date: @0"), expected);
    assert_eq!(of("Last-Modified: @-59|Date: @0"), None);
    let range = "Last-Modified: @-60|Date: @0|Content-Range: bytes 4-8/10|Content-Length: 5";
    assert_eq!(
        Part::of_broken(&status(206, range), 2),
        Some(part(4, 6, Some(10)))
    );
}

#[test]
fn rfc9110_13_1_5_a_date_stands_in_if_range_where_it_is_strong() {
    let have = part(0, 4, Some(9));
    let put = |lines: &str| {
        let stored = status(206, lines);
        let missing = partial::missing(&get(""), &stored.headers, &have)?;
        let mut out = Vec::new();
        partial::put_range(&mut out, &stored.headers, missing);
        Some(String::from_utf8(out).expect("ASCII").replace("\r\n", "|"))
    };
    let modified = Date::new(NOW_S - 60);
    let expected = format!("Range: bytes=4-8|If-Range: {}|", modified.as_str());
    assert_eq!(put("Last-Modified: @-60|Date: @0"), Some(expected));
    assert_eq!(put("Last-Modified: @-59|Date: @0"), None);
    assert_eq!(put("ETag: W/\"a\"|Last-Modified: @-60|Date: @0"), None);
    let tagged = "Range: bytes=4-8|If-Range: \"a\"|".to_owned();
    assert_eq!(
        put("ETag: \"a\"|Last-Modified: @-60|Date: @0"),
        Some(tagged)
    );

    // A client's date is compared with a strong one only, and is to be the very same.
    let answers = |offset: i64, lines: &str| {
        let (stored, date) = (status(206, lines), Date::new(NOW_S + offset));
        let asked = get(&format!("Range: bytes=0-1|If-Range: {}", date.as_str()));
        partial::selection(&asked, &stored.headers, &have) != FromPart::Missing
    };
    let (strong, weak) = (
        "Last-Modified: @-60|Date: @0",
        "Last-Modified: @-59|Date: @0",
    );
    assert!(answers(-60, strong));
    assert!(!answers(-59, strong) && !answers(-61, strong));
    assert!(!answers(-59, weak));
}

#[test]
fn rfc9110_15_3_7_3_parts_are_joined_under_the_same_strong_date() {
    let join = |stored: &str, newer: &str| {
        let (stored, newer) = (status(206, stored), status(206, newer));
        let (left, right) = (part(0, 5, Some(10)), part(5, 10, None));
        partial::combined((&stored.headers, left), (&newer.headers, right)).is_some()
    };
    let ours = "Last-Modified: @-60|Date: @0";
    assert!(join(ours, "Last-Modified: @-60|Date: @9"));
    for other in [
        "Last-Modified: @-61|Date: @9",
        "Last-Modified: @-60|Date: @-1",
        "Date: @9",
        "ETag: \"a\"|Last-Modified: @-60|Date: @9",
        "ETag: W/\"a\"|Last-Modified: @-60|Date: @9",
    ] {
        assert!(!join(ours, other), "{other}");
        assert!(!join(other, ours), "{other}");
    }
}

/// The `Date` of a 304 says nothing of when the bytes came.
#[test]
fn rfc9110_8_8_2_2_a_304_makes_no_date_strong() {
    let may = |lines: &str| partial::may_be_validated(&status(206, lines).headers);
    assert!(may("Last-Modified: @-60|Date: @0"));
    assert!(!may("Last-Modified: @-59|Date: @0"));
    assert!(!may("Date: @0"));
    assert!(may("ETag: \"a\"|Date: @0") && may("ETag: W/\"a\"|Date: @0"));
    let is_by = |stored: &str, newer: &str| {
        let (stored, newer) = (status(206, stored), status(304, newer));
        partial::is_validated_by(&stored.headers, &newer.headers)
    };
    let dated = "Last-Modified: @-60|Date: @0";
    assert!(is_by(dated, "Last-Modified: @-60|ETag: \"a\"|Date: @9"));
    assert!(is_by(dated, "Date: @9"));
    assert!(
        !is_by(dated, "Last-Modified: @-99|Date: @9"),
        "an older one"
    );
    assert!(
        !is_by(dated, "ETag: \"a\"|Date: @9"),
        "which is not its own"
    );
    assert!(is_by(
        "ETag: \"a\"|Date: @0",
        "Last-Modified: @-99|Date: @9"
    ));
}

#[test]
fn what_broke_off_takes_the_place_of_less_or_of_something_else() {
    let (ours, theirs) = (ok("ETag: \"a\""), ok("ETag: \"b\""));
    let is_worth_more = |broken, stored: &ResponseHead<'_>, part| {
        partial::is_worth_more((&ours.headers, broken), (&stored.headers, part))
    };
    let (less, more) = (part(0, 4, Some(9)), part(3, 8, Some(9)));
    assert!(is_worth_more(more, &ours, less));
    assert!(!is_worth_more(less, &ours, more));
    assert!(!is_worth_more(more, &ours, more));
    assert!(is_worth_more(less, &theirs, more));
}

#[test]
fn rfc9111_3_4_what_a_part_answers_and_what_is_missing() {
    let stored = status(206, TAGGED);
    let have = part(4, 8, Some(10));
    for (asks, from, missing) in [
        ("Range: bytes=4-7", FromPart::Range(have.range), None),
        (
            "Range: bytes=5-5",
            FromPart::Range(ByteRange { start: 5, end: 6 }),
            None,
        ),
        ("Range: bytes=6-", FromPart::Missing, Some((8, Some(10)))),
        ("Range: bytes=8-", FromPart::Missing, Some((8, Some(10)))),
        ("Range: bytes=-6", FromPart::Missing, Some((8, Some(10)))),
        ("Range: bytes=0-5", FromPart::Missing, Some((0, Some(4)))),
        ("Range: bytes=0-9", FromPart::Missing, None),
        ("Range: bytes=0-1", FromPart::Missing, None),
        (
            "Range: bytes=4-4,7-7,900-",
            FromPart::Range(have.range),
            None,
        ),
        ("", FromPart::Missing, None),
        ("If-None-Match: \"a\"", FromPart::NotModified, None),
        ("Range: bytes=4-7|If-Range: \"b\"", FromPart::Missing, None),
    ] {
        let asked = get(asks);
        assert_eq!(
            partial::selection(&asked, &stored.headers, &have),
            from,
            "{asks}"
        );
        let would = partial::missing(&asked, &stored.headers, &have);
        if from == FromPart::Missing {
            assert_eq!(would, missing, "{asks}");
        }
    }
    let begin = part(0, 4, None);
    assert_eq!(
        partial::missing(&get(""), &stored.headers, &begin),
        Some((4, None))
    );
    let all = part(0, 10, Some(10));
    assert_eq!(partial::missing(&get(""), &stored.headers, &all), None);
    let open = get("Range: bytes=2-");
    assert_eq!(
        partial::missing(&open, &stored.headers, &begin),
        Some((4, None))
    );
    let weak = status(206, "ETag: W/\"a\"");
    assert_eq!(partial::missing(&get(""), &weak.headers, &begin), None);
    // A range that is wanted of another version only: of this one, all is.
    let other = get("Range: bytes=2-3|If-Range: \"b\"");
    assert_eq!(
        partial::missing(&other, &stored.headers, &begin),
        Some((4, None))
    );
    let mut lines = Vec::new();
    partial::put_range(&mut lines, &stored.headers, (4, None));
    partial::put_range(&mut lines, &stored.headers, (0, Some(4)));
    let expected = b"Range: bytes=4-\r\nIf-Range: \"a\"\r\nRange: bytes=0-3\r\nIf-Range: \"a\"\r\n";
    assert_eq!(lines, expected);
}

#[test]
fn rfc9111_3_3_the_head_of_a_part_says_which_bytes_there_are() {
    for (range, total) in [("bytes 4-9/10", Some(9)), ("bytes 4-8/*", None)] {
        let lines = format!("ETag: \"a\"|Content-Range: {range}|Content-Length: 5|X: 1|Date: @0");
        let came = status(
            206,
            &format!("Cache-Control: no-cache=\"x\", max-age=9|{lines}"),
        );
        let part = Part::of(&get("Range: bytes=-5"), &came).expect("a part");
        let mut head = Vec::new();
        put_part(&mut head, &came, &part, NOW_S);
        let text = String::from_utf8(head).expect("text");
        let stored = response(&text);
        assert_eq!(Part::of_stored(&stored), Some(Part { total, ..part }));
        assert_eq!(stored.headers.only("content-length"), Some(&b"5"[..]));
        assert!(
            !stored.headers.contains("x"),
            "it is not to be stored: {text}"
        );
        assert!(stored.headers.contains("etag") && stored.headers.contains("date"));
    }
    assert_eq!(
        Part::of_stored(&status(200, "Content-Range: bytes 0-4/10")),
        None
    );
}

#[test]
fn rfc9111_3_4_parts_are_joined_under_the_same_strong_tag() {
    let (tagged, other) = (status(206, TAGGED), status(206, "ETag: \"b\""));
    let weak = status(206, "ETag: W/\"a\"");
    let join = |a: &ResponseHead<'_>, b: &ResponseHead<'_>, left, right| {
        partial::combined((&a.headers, left), (&b.headers, right))
    };
    let (left, right) = (part(0, 5, Some(10)), part(5, 10, None));
    assert_eq!(
        join(&tagged, &tagged, left, right),
        Some(part(0, 10, Some(10)))
    );
    assert_eq!(
        join(&tagged, &tagged, right, left),
        Some(part(0, 10, Some(10)))
    );
    assert_eq!(join(&tagged, &other, left, right), None);
    assert_eq!(join(&weak, &weak, left, right), None);
    assert_eq!(join(&tagged, &tagged, left, part(6, 10, None)), None);
    assert_eq!(join(&tagged, &tagged, left, part(5, 10, Some(11))), None);
    assert_eq!(join(&tagged, &tagged, left, part(5, 11, None)), None);
    let combine = |joined: Part| {
        let mut out = Vec::new();
        let old = "ETag: \"a\"|A: 1|Content-Range: bytes 0-4/10|Content-Length: 5";
        let new = "ETag: \"a\"|A: 2|Content-Range: bytes 5-9/10|Content-Length: 5|Date: @0";
        put_combined(
            &mut out,
            &status(206, old),
            &status(206, new),
            &joined,
            NOW_S,
        );
        String::from_utf8(out).expect("ASCII").replace("\r\n", "|")
    };
    let date = Date::new(NOW_S);
    let lines = format!("ETag: \"a\"|A: 2|Date: {}|", date.as_str());
    assert_eq!(
        combine(part(0, 10, Some(10))),
        format!("HTTP/1.1 200 OK|{lines}Content-Length: 10||")
    );
    assert_eq!(
        combine(part(0, 9, None)),
        format!(
            "HTTP/1.1 206 Partial Content|{lines}Content-Length: 9|Content-Range: bytes 0-8/*||"
        )
    );
}

#[test]
fn rfc9211_2_what_was_done_is_told() {
    let line = |status: CacheStatus<'_>, name: &str| {
        let mut out = Vec::new();
        status.put_line(&mut out, name);
        String::from_utf8(out).expect("ASCII")
    };
    let hit = CacheStatus {
        ttl_s: Some(-3),
        ..CacheStatus::new(Handled::Hit)
    };
    assert_eq!(
        line(hit, "netlab-reactor"),
        "Cache-Status: netlab-reactor; hit; ttl=-3\r\n"
    );
    let forwarded = CacheStatus {
        origin_status: Some(Status::NOT_MODIFIED),
        stored: true,
        collapsed: true,
        detail: Some("no \"use\""),
        ..CacheStatus::new(Handled::Forwarded(Because::Stale))
    };
    assert_eq!(
        line(forwarded, "a b"),
        "Cache-Status: \"a b\"; fwd=stale; fwd-status=304; stored; collapsed; \
         detail=\"no \\\"use\\\"\"\r\n"
    );
}

/// The answer of an origin with these header lines.
fn answers(code: u16, lines: &str, body: &str) -> FromOrigin {
    let head = format!(
        "HTTP/1.1 {code} X\r\nContent-Length: {}\r\n{}\r\n",
        body.len(),
        crlf(lines)
    );
    Some((head, body.as_bytes().to_vec()))
}

fn body(answer: &Answer) -> &str {
    str::from_utf8(&answer.body).expect("ASCII")
}

#[test]
fn exchange_a_validated_response_is_fresh_again() {
    let mut model = Model::default();
    let ask = "GET /a HTTP/1.1\r\nHost: origin\r\n\r\n";
    let first = "Cache-Control: max-age=2|ETag: \"a\"|A: 1";
    model.exchange(ask, NOW_S, |_| answers(200, first, "body"));
    let hit = model.exchange(ask, NOW_S + 1, |_| panic!("it is fresh"));
    assert_eq!(
        (hit.value("age").as_deref(), body(&hit)),
        (Some("1"), "body")
    );
    let validated = model.exchange(ask, NOW_S + 5, |request| {
        assert_eq!(request.headers.first("if-none-match"), Some(&b"\"a\""[..]));
        answers(304, "A: 2|Cache-Control: max-age=9", "")
    });
    assert_eq!(
        (validated.value("a").as_deref(), body(&validated)),
        (Some("2"), "body")
    );
    let hit = model.exchange(ask, NOW_S + 13, |_| panic!("it is fresh again"));
    assert_eq!(hit.value("age").as_deref(), Some("8"));
}

#[test]
fn exchange_a_part_is_completed() {
    let mut model = Model::default();
    let ask = |lines: &str| format!("GET /a HTTP/1.1\r\nHost: origin\r\n{}\r\n", crlf(lines));
    let first = format!("{TAGGED}|Content-Range: bytes 0-4/10");
    model.exchange(&ask("Range: bytes=0-4"), NOW_S, |_| {
        answers(206, &first, "01234")
    });
    let within = model.exchange(&ask("Range: bytes=1-2"), NOW_S, |_| panic!("it is there"));
    assert_eq!((within.status, body(&within)), (206, "12"));
    let whole = model.exchange(&ask(""), NOW_S, |request| {
        assert_eq!(request.headers.first("range"), Some(&b"bytes=5-9"[..]));
        assert_eq!(request.headers.first("if-range"), Some(&b"\"a\""[..]));
        answers(
            206,
            &format!("{TAGGED}|Content-Range: bytes 5-9/10"),
            "56789",
        )
    });
    assert_eq!((whole.status, body(&whole)), (200, "0123456789"));
    let again = model.exchange(&ask("Range: bytes=-1"), NOW_S, |_| panic!("it is whole"));
    assert_eq!((again.status, body(&again)), (206, "9"));
}

#[test]
fn exchange_an_unsafe_request_makes_the_stored_response_untrue() {
    let mut model = Model::default();
    let ask = "GET /a HTTP/1.1\r\nHost: origin\r\n\r\n";
    let fresh = "Cache-Control: max-age=99";
    model.exchange(ask, NOW_S, |_| answers(200, fresh, "old"));
    let delete = "DELETE /a HTTP/1.1\r\nHost: origin\r\n\r\n";
    model.exchange(delete, NOW_S, |_| answers(500, "", ""));
    assert_eq!(
        body(&model.exchange(ask, NOW_S, |_| panic!("it failed"))),
        "old"
    );
    model.exchange(delete, NOW_S, |_| answers(204, "", ""));
    assert_eq!(
        body(&model.exchange(ask, NOW_S, |_| answers(200, fresh, "new"))),
        "new"
    );
}

proptest! {
    /// No times, however mad, overflow; nothing grows younger, and what is stale stays so.
    #[test]
    fn ages_never_overflow_and_never_fall(
        (request_s, response_s, now_s) in any::<(i64, i64, i64)>(),
        later_s in 0..=i64::MAX,
        age in any::<u64>(),
        max_age in any::<u64>(),
        (percent, longest_s) in any::<(u32, u32)>(),
    ) {
        let rules = Rules {
            heuristic_percent: percent,
            heuristic_max_s: longest_s,
            lifetime_max_s: longest_s,
            stale_if_unreachable_s: longest_s,
            ..Rules::default()
        };
        let times = Times { request_s, response_s };
        for lines in [
            format!("Age: {age}|Date: @0|Cache-Control: max-age={max_age}"),
            format!("Age: {age}|Date: @0|Expires: @99999"),
            "Last-Modified: @-99999999|Date: @0".to_owned(),
        ] {
            let terms = Terms::derive(&ok(&lines), times, &rules);
            let then_s = now_s.saturating_add(later_s);
            prop_assert!(terms.age_s(now_s) <= terms.age_s(then_s));
            prop_assert!(terms.fresh_for_s(now_s) >= terms.fresh_for_s(then_s));
            prop_assert!(terms.stale_for_s(now_s).is_none() || terms.stale_for_s(then_s).is_some());
            prop_assert!(terms.age_s(then_s) <= SPAN_S_MAX);
            let asks = Asks::of(&get("Cache-Control: max-stale=99999999999, min-fresh=1"));
            let _ = reuse(&terms, &asks, then_s);
            let _ = may_send_stale(&terms, &asks, Failure::Unreachable, then_s, &rules);
        }
    }

    /// A request always matches the key that was made of it, and one with its list in another order
    /// and spacing does too.
    #[test]
    fn keys_match_what_they_were_made_of(
        mut tags in prop::collection::vec("[a-zA-Z]{1,3}(;q=(0(\\.[0-9]{0,3})?|1(\\.0{0,3})?))?", 0..40),
        value in "[ -~]{0,40}",
    ) {
        let first = format!("Accept-Language: {}|Foo: {}", tags.join(","), value.replace('|', ""));
        let key = key("Accept-Language, Foo, Bar", &first);
        prop_assert!(vary::matches(&key, &get(&first).headers));
        let is_short = tags.len() <= 32;
        tags.reverse();
        let second = format!(
            "Foo:   {}|Accept-Language:  , {}",
            value.replace('|', ""),
            tags.join(" ,\t").replace(';', " ; ").to_uppercase()
        );
        prop_assert_eq!(vary::matches(&key, &get(&second).headers) || !is_short, true);
    }

    /// No value of a field makes anything panic.
    #[test]
    fn no_field_panics(value in "[\\x21-\\x7e]{0,30}", name in 0usize..8) {
        let name = ["Cache-Control", "CDN-Cache-Control", "Age", "Expires", "Vary", "Content-Range",
            "Cache-Groups", "Content-Location"][name];
        let lines = format!("{name}: {}", value.replace(['@', '|'], ""));
        let came = status(206, &lines);
        let _ = stores(&get("Range: bytes=0-1"), &came);
        let _ = invalidated(Method::Post, &target(), &ok(&lines));
        let _ = groups::of(&came.headers);
        let _ = updated(&lines, &lines);
        let _ = EntityTag::parse(value.as_bytes());
    }
}
