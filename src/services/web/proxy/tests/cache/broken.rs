//! Responses that break off: what there is of them is a part, which the next request completes.

use std::io::ErrorKind;

use super::super::{answered, asked};
use super::{A, Lab, body_of, found, get, lab_of, lab_with, status_of};
use crate::config::{UpstreamConfig, Upstreams};
use crate::http::date::{Date, unix_s};
use crate::service::LinkState;

const TAGGED: &str = "Cache-Control: max-age=60\r\nETag: \"1\"\r\n";

/// How an origin breaks off.
#[derive(Clone, Copy, Debug)]
enum Break {
    Close,
    Reset,
    Silence,
    /// The client goes away, and too much is missing to go on without it.
    Client,
}

/// Where nothing is finished without a client.
fn lab() -> Lab {
    lab_of(None, |limits| limits.finish_bytes = 0)
}

fn letters(len: usize) -> String {
    (0..len)
        .map(|at| char::from(b'a' + (at % 23) as u8))
        .collect()
}

/// The head of a 206 with bytes `first` to `end` of `whole`, and those.
fn range_of(fields: &str, whole: &str, (first, end): (usize, usize)) -> String {
    let (last, total, count) = (end - 1, whole.len(), end - first);
    let range = format!("Content-Range: bytes {first}-{last}/{total}\r\nContent-Length: {count}");
    let part = &whole[first..end];
    format!("HTTP/1.1 206 Partial Content\r\n{fields}{range}\r\n\r\n{part}")
}

impl Lab {
    /// The response that comes breaks off behind `answer`; what its client got of it.
    fn breaks_off(&mut self, answer: &str, how: Break) -> String {
        self.bench.origin_sends(answer.as_bytes());
        let got = answered(&mut self.bench);
        match how {
            Break::Close => {
                self.bench.origin_closes();
            }
            Break::Reset => {
                self.bench.up.status = LinkState::Failed(ErrorKind::ConnectionReset);
                self.bench.up.eof = true;
                self.bench.step();
            }
            Break::Silence => {
                self.bench.later(std::time::Duration::from_secs(50_000));
            }
            Break::Client => {
                assert!(!self.bench.loses_client(), "it goes on for nobody");
            }
        }
        while self.bench.disk_does(1) {}
        let _ended = self.bench.another();
        self.assert_nothing_is_left();
        got
    }

    /// What the origin is asked for, as `Range` and `If-Range`.
    fn asks_for(&mut self, request: &str) -> (String, String) {
        let sent = self.asks(request);
        assert!(!sent.is_empty(), "the origin is not asked");
        let field = |name: &str| {
            let line = sent.split("\r\n").find_map(|line| line.strip_prefix(name));
            line.unwrap_or("-").to_owned()
        };
        (field("Range: "), field("If-Range: "))
    }
}

#[test]
fn a_response_that_breaks_off_anywhere_is_completed_by_the_next_request() {
    for how in [Break::Close, Break::Reset, Break::Client] {
        let mut lab = lab();
        for place in 0..30 {
            breaks_off_and_is_completed(&mut lab, 30, place, how);
        }
        for place in [0, 1, 4095, 4096, 4097, 9000, 19_999] {
            breaks_off_and_is_completed(&mut lab, 20_000, place, how);
        }
    }
}

/// A response of `len` bytes breaks off behind `place` of them, and others ask.
fn breaks_off_and_is_completed(lab: &mut Lab, len: usize, place: usize, how: Break) {
    let (url, whole) = (format!("{A}/{len}/{place}"), letters(len));
    let answer = found(TAGGED, &whole);
    let head_len = answer.len() - len;
    lab.asks(&get(&url, ""));
    let got = lab.breaks_off(&answer[..head_len + place], how);
    assert!(whole.starts_with(body_of(&got)), "{how:?} at {place}");
    if place == 0 {
        let got = lab.fetches(&get(&url, ""), "HTTP/1.1 204 No Content\r\n\r\n");
        assert!(got.starts_with("HTTP/1.1 204 "), "there is nothing of it");
        return;
    }
    // It is no whole, but has what lies within it.
    let only = get(&url, "Cache-Control: only-if-cached\r\n");
    assert!(lab.hits(&only).starts_with("HTTP/1.1 504 "), "{place}");
    let range = format!("Range: bytes={}-{}\r\n", place - 1, place - 1);
    let hit = lab.hits(&get(&url, &range));
    assert!(status_of(&hit).starts_with("hit"), "{place}: {hit}");
    assert_eq!(body_of(&hit), &whole[place - 1..place]);
    let asked_for = lab.asks_for(&get(&url, ""));
    let expected = (format!("bytes={place}-{}", len - 1), "\"1\"".to_owned());
    assert_eq!(asked_for, expected, "{how:?} at {place}");
    let rest = range_of(TAGGED, &whole, (place, len));
    lab.bench.origin_sends(rest.as_bytes());
    while lab.bench.disk_does(1) {}
    let got = answered(&mut lab.bench);
    assert!(got.starts_with("HTTP/1.1 200 "), "{place}: {got}");
    assert_eq!(body_of(&got), whole, "{how:?} at {place}");
    lab.bench.expect_open();
    while lab.bench.disk_does(1) {}
    assert_eq!(body_of(&lab.hits(&get(&url, ""))), whole);
    lab.assert_nothing_is_left();
}

#[test]
fn what_completes_a_part_may_break_off_as_well_and_the_part_grows() {
    for len in [30, 20_000] {
        let (mut lab, whole) = (lab(), letters(len));
        let answer = found(TAGGED, &whole);
        let (third, half) = (len / 3, len / 2);
        lab.asks(&get(A, ""));
        lab.breaks_off(&answer[..answer.len() - len + third], Break::Close);
        let last = len - 1;
        assert_eq!(lab.asks_for(&get(A, "")).0, format!("bytes={third}-{last}"));
        let rest = range_of(TAGGED, &whole, (third, len));
        let got = &rest[..rest.len() - (len - half)];
        lab.breaks_off(got, Break::Silence);
        assert_eq!(lab.asks_for(&get(A, "")).0, format!("bytes={half}-{last}"));
        // One that brings nothing leaves what there is.
        let (head, _) = rest.split_once("\r\n\r\n").expect("a head");
        lab.breaks_off(&format!("{head}\r\n\r\n"), Break::Close);
        assert_eq!(lab.asks_for(&get(A, "")).0, format!("bytes={half}-{last}"));
        lab.bench
            .origin_sends(range_of(TAGGED, &whole, (half, len)).as_bytes());
        while lab.bench.disk_does(1) {}
        assert_eq!(body_of(&answered(&mut lab.bench)), whole);
        lab.assert_nothing_is_left();
    }
}

#[test]
fn a_range_that_breaks_off_is_a_smaller_part() {
    let (mut lab, whole) = (lab(), letters(20_000));
    lab.asks(&get(A, "Range: bytes=1000-\r\n"));
    let answer = range_of(TAGGED, &whole, (1000, 20_000));
    lab.breaks_off(&answer[..answer.len() - 9000], Break::Client);
    let hit = lab.hits(&get(A, "Range: bytes=2000-10999\r\n"));
    assert_eq!(body_of(&hit), &whole[2000..11_000]);
    assert!(hit.contains("\r\nContent-Range: bytes 2000-10999/20000\r\n"));
    let asked_for = lab.asks_for(&get(A, "Range: bytes=5000-\r\n"));
    assert_eq!(asked_for.0, "bytes=11000-19999");
    // Less of the same does not take its place.
    lab.breaks_off("", Break::Close);
    lab.asks(&get(A, "Range: bytes=15000-\r\n"));
    let answer = range_of(TAGGED, &whole, (15_000, 20_000));
    lab.breaks_off(&answer[..answer.len() - 4000], Break::Client);
    let hit = lab.hits(&get(A, "Range: bytes=2000-10999\r\n"));
    assert_eq!(body_of(&hit), &whole[2000..11_000]);
}

#[test]
fn of_a_response_whose_length_nobody_knows_there_is_a_part_without_an_end() {
    for framing in [
        "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "\r\nhello",
    ] {
        let mut lab = lab();
        lab.asks(&get(A, ""));
        let answer = format!("HTTP/1.1 200 OK\r\n{TAGGED}{framing}");
        // Without a length an end in good order is the end of the body.
        lab.breaks_off(&answer, Break::Reset);
        let hit = lab.hits(&get(A, "Range: bytes=1-3\r\n"));
        assert!(hit.contains("\r\nContent-Range: bytes 1-3/*\r\n"), "{hit}");
        let asked_for = lab.asks_for(&get(A, ""));
        assert_eq!(asked_for, ("bytes=5-".to_owned(), "\"1\"".to_owned()));
        lab.bench
            .origin_sends(range_of(TAGGED, "helloworld", (5, 10)).as_bytes());
        let got = answered(&mut lab.bench);
        assert!(got.contains("\r\nContent-Length: 10\r\n"), "{got}");
        assert_eq!(body_of(&got), "helloworld");
        assert_eq!(body_of(&lab.hits(&get(A, ""))), "helloworld");
        lab.assert_nothing_is_left();
    }
}

#[test]
fn a_part_of_what_has_changed_makes_way() {
    let (mut lab, whole) = (lab(), letters(30));
    let answer = found(TAGGED, &whole);
    lab.asks(&get(A, ""));
    lab.breaks_off(&answer[..answer.len() - 20], Break::Close);
    assert_eq!(lab.asks_for(&get(A, "")).0, "bytes=10-29");
    let other = found(
        "Cache-Control: max-age=60\r\nETag: \"2\"\r\n",
        "something else",
    );
    lab.bench.origin_sends(other.as_bytes());
    assert_eq!(body_of(&answered(&mut lab.bench)), "something else");
    assert_eq!(body_of(&lab.hits(&get(A, ""))), "something else");
    lab.assert_nothing_is_left();
}

#[test]
fn what_could_not_be_completed_is_no_part() {
    let whole = letters(30);
    let cut = |fields: &str| {
        let answer = found(fields, &whole);
        answer[..answer.len() - 20].to_owned()
    };
    let post = "POST http://origin.example/a HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n";
    let located = format!("{TAGGED}Content-Location: {A}\r\n");
    let malformed = format!(
        "HTTP/1.1 200 OK\r\n{TAGGED}Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nxyz\r\n"
    );
    let not_found = cut(TAGGED).replace("200 OK", "404 Not Found");
    for (request, answer) in [
        (get(A, ""), cut("Cache-Control: max-age=60\r\n")),
        (
            get(A, ""),
            cut("Cache-Control: max-age=60\r\nETag: W/\"1\"\r\n"),
        ),
        (
            get(A, ""),
            cut("Cache-Control: no-store\r\nETag: \"1\"\r\n"),
        ),
        (post.to_owned(), cut(&located)),
        (get(A, ""), malformed),
        (get(A, ""), not_found),
    ] {
        let mut lab = lab();
        lab.asks(&request);
        lab.breaks_off(&answer, Break::Close);
        assert_eq!(lab.asks_for(&get(A, "")).0, "-", "{answer}");
    }
}

/// Those who follow get all that came, and see that it is not all there is.
#[test]
fn followers_of_what_becomes_a_part_are_cut_where_it_ends() {
    for (version, is_chunked) in [("1.0", true), ("1.1", true), ("1.0", false), ("1.1", false)] {
        let mut lab = lab();
        lab.asks(&get(A, ""));
        let mut first = lab.bench.another();
        lab.asks(&format!("GET {A} HTTP/{version}\r\nHost: x\r\n\r\n"));
        lab.bench.switch(&mut first);
        let framing = match is_chunked {
            true => "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
            false => "Content-Length: 10\r\n\r\nhello",
        };
        lab.bench
            .origin_sends(format!("HTTP/1.1 200 OK\r\n{TAGGED}{framing}").as_bytes());
        lab.bench.switch(&mut first);
        let mut got = answered(&mut lab.bench);
        lab.bench.switch(&mut first);
        lab.bench.up.status = LinkState::Failed(ErrorKind::ConnectionReset);
        lab.bench.up.eof = true;
        lab.bench.step();
        lab.bench.switch(&mut first);
        got += &answered(&mut lab.bench);
        assert!(
            got.contains("hello") && !got.ends_with("0\r\n\r\n"),
            "{got}"
        );
        match version == "1.0" && is_chunked {
            true => assert!(lab.bench.failed.is_some(), "it ended in good order"),
            false => {
                lab.bench.expect_closed();
            }
        }
        lab.assert_nothing_is_left();
        let _ended = lab.bench.another();
        assert_eq!(asked(&mut lab.bench), "");
        assert_eq!(lab.asks_for(&get(A, "")).1, "\"1\"");
    }
}

/// Its leader's client, which sees by the end of its connection alone where the body ends, is failed
/// by the first look at the reset; the session goes on for those who follow, and looks again.
#[test]
fn a_body_without_a_length_that_a_reset_ended_is_no_whole_when_it_is_looked_at_twice() {
    for len in [5, 9000] {
        let (mut lab, body) = (lab(), letters(len));
        lab.asks(&format!("GET {A} HTTP/1.0\r\nHost: x\r\n\r\n"));
        let mut first = lab.bench.another();
        assert_eq!(lab.asks(&get(A, "")), "", "it waits for the first");
        lab.bench.switch(&mut first);
        let answer = format!("HTTP/1.1 200 OK\r\n{TAGGED}\r\n{body}");
        lab.bench.origin_sends(answer.as_bytes());
        assert!(lab.bench.down.end_is_framing);
        lab.bench.switch(&mut first);
        let mut got = answered(&mut lab.bench);
        lab.bench.switch(&mut first);
        lab.bench.up.status = LinkState::Failed(ErrorKind::ConnectionReset);
        lab.bench.up.eof = true;
        lab.bench.step();
        assert_eq!(lab.bench.down.status, LinkState::Closed, "it went on alone");
        assert!(lab.bench.is_over());
        while lab.bench.disk_does(1) {}
        lab.bench.switch(&mut first);
        got += &answered(&mut lab.bench);
        assert!(!got.ends_with("\r\n0\r\n\r\n"), "it looks whole");
        lab.bench.expect_closed();
        lab.assert_nothing_is_left();
        let _ended = lab.bench.another();
        let expected = (format!("bytes={len}-"), "\"1\"".to_owned());
        assert_eq!(lab.asks_for(&get(A, "")), expected, "a part of it is kept");
    }
}

/// Fields of a response that was made now and last changed so many seconds ago.
fn dated(lab: &Lab, changed_s: i64, age_max_s: u32) -> String {
    let now_s = unix_s(lab.bench.wall);
    let (date, modified) = (Date::new(now_s), Date::new(now_s - changed_s));
    format!(
        "Cache-Control: max-age={age_max_s}\r\nDate: {}\r\nLast-Modified: {}\r\n",
        date.as_str(),
        modified.as_str()
    )
}

/// RFC 9110 sections 8.8.2.2 and 13.1.5, RFC 9111 section 3.4.
#[test]
fn a_response_with_a_date_that_is_a_strong_validator_is_completed_by_that_date() {
    for len in [30, 20_000] {
        let (mut lab, whole) = (lab(), letters(len));
        let fields = dated(&lab, 60, 600);
        let modified = Date::new(unix_s(lab.bench.wall) - 60).as_str().to_owned();
        let answer = found(&fields, &whole);
        let third = len / 3;
        lab.asks(&get(A, ""));
        lab.breaks_off(&answer[..answer.len() - len + third], Break::Close);
        let hit = lab.hits(&get(A, "Range: bytes=1-2\r\n"));
        assert_eq!(body_of(&hit), &whole[1..3]);
        let expected = (format!("bytes={third}-{}", len - 1), modified);
        assert_eq!(lab.asks_for(&get(A, "")), expected);
        // The rest comes later, and so it says.
        lab.bench.wall += std::time::Duration::from_secs(5);
        let fields = dated(&lab, 65, 600);
        lab.bench
            .origin_sends(range_of(&fields, &whole, (third, len)).as_bytes());
        while lab.bench.disk_does(1) {}
        let got = answered(&mut lab.bench);
        assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
        assert_eq!(body_of(&got), whole);
        assert_eq!(body_of(&lab.hits(&get(A, ""))), whole);
        lab.assert_nothing_is_left();
    }
}

#[test]
fn a_part_of_another_date_is_not_joined_and_all_is_asked_for_again() {
    let (mut lab, whole) = (lab(), letters(30));
    let answer = found(&dated(&lab, 60, 600), &whole);
    lab.asks(&get(A, ""));
    lab.breaks_off(&answer[..answer.len() - 20], Break::Close);
    assert_eq!(lab.asks_for(&get(A, "")).0, "bytes=10-29");
    // It knows no If-Range.
    let other = range_of(&dated(&lab, 61, 600), &whole.to_uppercase(), (10, 30));
    lab.bench.origin_sends(other.as_bytes());
    if lab.bench.connect.take().is_some() {
        lab.bench.origin_accepts();
    }
    let again = asked(&mut lab.bench);
    assert!(
        again.starts_with("GET ") && !again.contains("Range: "),
        "{again}"
    );
    let all = found(&dated(&lab, 61, 600), &whole.to_uppercase());
    lab.bench.origin_sends(all.as_bytes());
    let got = answered(&mut lab.bench);
    assert_eq!(body_of(&got), whole.to_uppercase());
    lab.assert_nothing_is_left();
}

/// What is there of a response that changed a moment before it was sent is of no use.
#[test]
fn a_date_that_may_be_that_of_two_versions_makes_no_part_and_is_not_asked_about() {
    let (mut lab, whole) = (lab(), letters(30));
    let answer = found(&dated(&lab, 59, 600), &whole);
    lab.asks(&get(A, ""));
    lab.breaks_off(&answer[..answer.len() - 20], Break::Close);
    assert_eq!(lab.asks_for(&get(A, "")).0, "-");
    lab.breaks_off("", Break::Close);
    // A range is kept as it came; once it is stale, it is asked for anew, without a condition.
    let (range, now_s) = ("Range: bytes=5-9\r\n", unix_s(lab.bench.wall));
    lab.asks(&get(A, range));
    let part = range_of(&dated(&lab, 59, 5), &whole, (5, 10));
    lab.bench.origin_sends(part.as_bytes());
    assert_eq!(body_of(&answered(&mut lab.bench)), &whole[5..10]);
    assert_eq!(body_of(&lab.hits(&get(A, range))), &whole[5..10]);
    lab.later(10);
    assert!(unix_s(lab.bench.wall) >= now_s + 10);
    let sent = lab.asks(&get(A, range));
    assert!(sent.contains("\r\nRange: bytes=5-9\r\n"), "{sent}");
    assert!(!sent.contains("If-"), "{sent}");
}

/// One that is strong is: the answer is to be about the same date.
#[test]
fn a_part_with_a_strong_date_is_asked_about_and_another_date_is_no_answer() {
    for same in [true, false] {
        let (mut lab, whole) = (lab(), letters(30));
        let range = "Range: bytes=5-9\r\n";
        lab.asks(&get(A, range));
        let part = range_of(&dated(&lab, 60, 5), &whole, (5, 10));
        lab.bench.origin_sends(part.as_bytes());
        assert_eq!(body_of(&answered(&mut lab.bench)), &whole[5..10]);
        lab.later(10);
        let sent = lab.asks(&get(A, range));
        assert!(sent.contains("\r\nIf-Modified-Since: "), "{sent}");
        let changed_s = if same { 70 } else { 99 };
        let not_modified = format!("HTTP/1.1 304 OK\r\n{}\r\n", dated(&lab, changed_s, 600));
        lab.bench.origin_sends(not_modified.as_bytes());
        if same {
            assert_eq!(body_of(&answered(&mut lab.bench)), &whole[5..10]);
            assert_eq!(body_of(&lab.hits(&get(A, range))), &whole[5..10]);
            continue;
        }
        if lab.bench.connect.take().is_some() {
            lab.bench.origin_accepts();
        }
        let again = asked(&mut lab.bench);
        assert!(again.contains("\r\nRange: bytes=5-9\r\n"), "{again}");
        assert!(!again.contains("If-"), "{again}");
    }
}

/// What was of no use was an answer all the same: of the next one it is judged anew.
#[test]
fn a_request_that_an_upstream_is_sent_again_may_still_go_to_another_one() {
    type Fails = fn(&mut Lab);
    let failures: [Fails; 2] = [
        |lab| {
            let busy = b"HTTP/1.1 503 Busy\r\nContent-Length: 4\r\n\r\nbusy";
            lab.bench.origin_sends(busy);
        },
        |lab| {
            lab.bench.origin_closes();
        },
    ];
    for fails in failures {
        let url = |n| format!("http://192.0.2.{n}").parse().expect("an address");
        let all: Vec<_> = (1..=2).map(|n| UpstreamConfig::new(url(n))).collect();
        let mut lab = lab_with(
            |limits| limits.finish_bytes = 0,
            |config| {
                config.upstream = Some(Upstreams {
                    fail_on: vec![503],
                    ..all.into()
                });
            },
        );
        let (get, whole) = ("GET /a HTTP/1.1\r\nHost: x\r\n\r\n", letters(30));
        let answer = found(TAGGED, &whole);
        lab.asks(get);
        lab.breaks_off(&answer[..answer.len() - 20], Break::Close);
        assert_eq!(lab.asks_for(get).0, "bytes=10-29");
        // It knows no If-Range.
        let other = TAGGED.replace("\"1\"", "\"2\"");
        lab.bench
            .origin_sends(range_of(&other, &whole, (10, 30)).as_bytes());
        let before = lab.bench.connect.take().expect("it is sent once more");
        lab.bench.origin_accepts();
        assert!(!asked(&mut lab.bench).contains("\r\nRange: "));
        fails(&mut lab);
        let next = lab.bench.connect.take().expect("another upstream is asked");
        assert_ne!(next, before);
        lab.bench.origin_accepts();
        assert!(!asked(&mut lab.bench).is_empty());
        lab.bench.origin_sends(found(&other, &whole).as_bytes());
        let got = answered(&mut lab.bench);
        assert!(got.starts_with("HTTP/1.1 200 "), "{got}");
        assert_eq!(body_of(&got), whole);
        lab.assert_nothing_is_left();
    }
}
