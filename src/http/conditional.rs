//! Conditional requests: entity tags, and the order in which the five conditions are judged.
//!
//! RFC 9110 sections 8.8 (validators) and 13 (conditional requests).
//!
//! ```text
//! If-Match ──── there: no match ─▶ PreconditionFailed
//!    └ absent: If-Unmodified-Since: modified ─▶ PreconditionFailed
//! If-None-Match there: match ─▶ NotModified with GET and HEAD, else PreconditionFailed
//!    └ absent, GET or HEAD: If-Modified-Since: not modified ─▶ NotModified
//! Range with If-Range: match ─▶ the range, else the whole           (apart: `range_applies`)
//! ```
//!
//! Rules:
//! 1. An entity tag goes before a date: where a tag condition is present, the date one of its pair
//!    is not looked at.
//! 2. `If-Match` and `If-Range` compare strongly, `If-None-Match` weakly.
//! 3. A list with an error in it matches as far as it can be read: that makes `If-None-Match` send
//!    too much rather than too little, and `If-Match` refuse rather than overwrite. A date that
//!    cannot be read is no condition.
//!
//! Not here: making the tags, and what a cache does with `Not Modified`.

use super::head::Headers;
use super::{Method, date, trim_ows};

/// An entity tag (RFC 9110 section 8.8.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityTag<'b> {
    /// Whether it begins with `W/`: equal tags then mean alike, not the same bytes.
    pub weak: bool,
    /// What stands between the quotes.
    pub opaque: &'b [u8],
}

impl<'b> EntityTag<'b> {
    /// Reads one tag, `"x"` or `W/"x"`, with nothing around it.
    #[must_use]
    pub fn parse(text: &'b [u8]) -> Option<Self> {
        Self::split_first(text).and_then(|(tag, rest)| rest.is_empty().then_some(tag))
    }

    /// Reads the tag at the beginning of `text`, and returns it with what follows.
    fn split_first(text: &'b [u8]) -> Option<(Self, &'b [u8])> {
        let (weak, text) = match text.strip_prefix(b"W/") {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let text = text.strip_prefix(b"\"")?;
        let end = memchr::memchr(b'"', text)?;
        let opaque = &text[..end];
        let is_good = opaque
            .iter()
            .all(|&byte| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..));
        is_good.then_some((Self { weak, opaque }, &text[end + 1..]))
    }

    /// Whether both tags are strong and the same.
    #[must_use]
    pub fn strong_eq(self, other: EntityTag<'_>) -> bool {
        !self.weak && !other.weak && self.opaque == other.opaque
    }

    /// Whether the tags are the same, weak or not.
    #[must_use]
    pub fn weak_eq(self, other: EntityTag<'_>) -> bool {
        self.opaque == other.opaque
    }
}

/// The tags of a comma-separated list, up to the first that is malformed.
pub fn entity_tags(mut list: &[u8]) -> impl Iterator<Item = EntityTag<'_>> {
    std::iter::from_fn(move || {
        while let [b' ' | b'\t' | b',', rest @ ..] = list {
            list = rest;
        }
        let (tag, rest) = EntityTag::split_first(list)?;
        let rest = trim_ows(rest);
        // A tag must be followed by a comma or the end: `"a""b"` is an error, not two tags.
        list = if rest.is_empty() || rest.starts_with(b",") {
            rest
        } else {
            b""
        };
        Some(tag)
    })
}

/// What is known of the representation that would be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Validators<'b> {
    /// Its entity tag.
    pub tag: Option<EntityTag<'b>>,
    /// When it last changed, in seconds since the epoch; the value of `Last-Modified`.
    pub modified_s: Option<i64>,
    /// What that date says of the representation.
    pub date: Dated,
}

/// How far a date tells a representation from others (RFC 9110 section 8.8.2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dated {
    /// It is when a clock says that the last change happened: only another one within the same
    /// second has that date too.
    ByClock,
    /// It was set, and another version may have been given the same. It is believed where no more
    /// than a copy grows old.
    #[default]
    BySomebody,
    /// Another version was shown under it. It says nothing.
    Twice,
}

/// What the conditions of a request come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Do what the request asks for.
    Proceed,
    /// Answer 304 with the validators and without a body.
    NotModified,
    /// Answer 412.
    PreconditionFailed,
}

/// Judges the conditions of a request (RFC 9110 section 13.2.2). `current` is `None` when there is
/// no representation: a file that does not exist. To be asked only where the answer would be a 2xx
/// without conditions.
#[must_use]
pub fn evaluate(
    method: Method<'_>,
    headers: &Headers<'_>,
    current: Option<&Validators<'_>>,
) -> Outcome {
    let reads = matches!(method, Method::Get | Method::Head);
    let modified_s = current.and_then(|current| match current.date {
        Dated::ByClock | Dated::BySomebody => current.modified_s,
        Dated::Twice => Some(i64::MAX), // later than any version that the client may have seen
    });
    let date_of = |name| headers.only(name).and_then(date::parse);

    if headers.contains("if-match") {
        if !any_match(headers, "if-match", current, Comparison::Strong) {
            return Outcome::PreconditionFailed;
        }
    } else if let (Some(limit_s), Some(modified_s)) = (date_of("if-unmodified-since"), modified_s)
        && modified_s > limit_s
    {
        return Outcome::PreconditionFailed;
    }

    if headers.contains("if-none-match") {
        match (
            any_match(headers, "if-none-match", current, Comparison::Weak),
            reads,
        ) {
            (true, true) => return Outcome::NotModified,
            (true, false) => return Outcome::PreconditionFailed,
            (false, _) => {}
        }
    } else if let (Some(known_s), Some(modified_s), true) =
        (date_of("if-modified-since"), modified_s, reads)
        && modified_s <= known_s
    {
        return Outcome::NotModified;
    }
    Outcome::Proceed
}

/// How two tags are compared (RFC 9110 section 8.8.3.2).
#[derive(Clone, Copy)]
enum Comparison {
    Strong,
    Weak,
}

/// Whether `*` stands in the headers called `name` and there is a representation, or one of the
/// listed tags equals its tag.
fn any_match(
    headers: &Headers<'_>,
    name: &str,
    current: Option<&Validators<'_>>,
    comparison: Comparison,
) -> bool {
    let Some(current) = current else {
        return false;
    };
    let equal = |listed: EntityTag<'_>, tag: EntityTag<'_>| match comparison {
        Comparison::Strong => listed.strong_eq(tag),
        Comparison::Weak => listed.weak_eq(tag),
    };
    headers.all(name).any(|value| {
        value == b"*"
            || current
                .tag
                .is_some_and(|tag| entity_tags(value).any(|listed| equal(listed, tag)))
    })
}

/// Whether `Range` is to be looked at: there is no `If-Range`, or it names exactly what is current
/// (RFC 9110 section 13.1.5). A date counts only when it is the very `Last-Modified`, comes from a
/// clock, and lies before `now_s`, the time now: a file that changed within this second can change
/// again without its date showing it (section 8.8.2.2). The client is about to join two parts, so
/// what is not certain is sent whole.
#[must_use]
pub fn range_applies(headers: &Headers<'_>, current: &Validators<'_>, now_s: i64) -> bool {
    if !headers.contains("if-range") {
        return true;
    }
    let Some(value) = headers.only("if-range") else {
        return false;
    };
    match EntityTag::parse(value) {
        Some(wanted) => current.tag.is_some_and(|tag| tag.strong_eq(wanted)),
        None => current.modified_s.is_some_and(|modified_s| {
            current.date == Dated::ByClock
                && modified_s < now_s
                && date::parse(value) == Some(modified_s)
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::super::head::{HeadScanner, Limits, Parsed};
    use super::*;
    use proptest::prelude::*;

    const T0: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const T1: &str = "Sun, 06 Nov 1994 08:49:38 GMT";
    const T0_S: i64 = 784_111_777;

    fn with_headers<T>(lines: &[&str], then: impl FnOnce(&Headers<'_>) -> T) -> T {
        let text = format!("HTTP/1.1 200 OK\r\n{}\r\n\r\n", lines.join("\r\n"));
        let parsed =
            HeadScanner::default().response(text.as_bytes(), &Limits::default(), Method::Get);
        match parsed {
            Ok(Parsed::Complete(head, _)) => then(&head.headers),
            other => panic!("{other:?}"),
        }
    }

    fn outcome(method: Method<'_>, tag: &str, lines: &[&str]) -> Outcome {
        let current = Validators {
            tag: EntityTag::parse(tag.as_bytes()),
            modified_s: Some(T0_S),
            date: Dated::BySomebody,
        };
        with_headers(lines, |headers| evaluate(method, headers, Some(&current)))
    }

    #[test]
    fn tags_are_read_and_compared() {
        let parse = |text: &'static str| EntityTag::parse(text.as_bytes());
        let (strong, weak) = (parse("\"a\"").unwrap(), parse("W/\"a\"").unwrap());
        assert!(strong.strong_eq(strong) && strong.weak_eq(weak));
        assert!(!strong.strong_eq(weak) && !weak.strong_eq(weak));
        for bad in [
            "", "a", "\"a", "a\"", "w/\"a\"", "W/ \"a\"", "\"a\"b", "\"a b\"", "*",
        ] {
            assert_eq!(parse(bad), None, "{bad:?}");
        }
        let opaque = |list: &'static str| {
            entity_tags(list.as_bytes())
                .map(|tag| tag.opaque)
                .collect::<Vec<_>>()
        };
        assert_eq!(opaque(" , \"a\" ,W/\"b,c\",\"\""), [&b"a"[..], b"b,c", b""]);
        assert_eq!(opaque("\"a\", b, \"c\""), [b"a"]);
        assert_eq!(opaque("\"a\"\"b\""), [b"a"]);
    }

    #[test]
    fn conditions_are_judged_in_the_order_of_the_rfc() {
        use Outcome::{NotModified, PreconditionFailed, Proceed};
        let get = Method::Get;
        let since = |name: &str, date: &str| format!("{name}: {date}");
        let cases: &[(Method<'_>, &[&str], Outcome)] = &[
            (get, &["A: b"], Proceed),
            (get, &["If-None-Match: \"x\""], NotModified),
            (Method::Head, &["If-None-Match: W/\"x\""], NotModified),
            (get, &["If-None-Match: \"a\", \"x\""], NotModified),
            (
                get,
                &["If-None-Match: \"a\"", "If-None-Match: \"x\""],
                NotModified,
            ),
            (get, &["If-None-Match: *"], NotModified),
            (get, &["If-None-Match: \"a\""], Proceed),
            (Method::Put, &["If-None-Match: *"], PreconditionFailed),
            (get, &["If-Match: \"x\""], Proceed),
            (get, &["If-Match: W/\"x\""], PreconditionFailed),
            (get, &["If-Match: \"a\""], PreconditionFailed),
            (get, &["If-Match: garbage"], PreconditionFailed),
            (get, &["If-Match: *", "If-None-Match: *"], NotModified),
            (
                get,
                &["If-Match: \"a\"", "If-None-Match: \"x\""],
                PreconditionFailed,
            ),
            (get, &[&since("If-Modified-Since", T0)], NotModified),
            (get, &[&since("If-Modified-Since", T1)], NotModified),
            (
                get,
                &["If-Modified-Since: Sun, 06 Nov 1994 08:49:36 GMT"],
                Proceed,
            ),
            (get, &["If-Modified-Since: yesterday"], Proceed),
            (Method::Post, &[&since("If-Modified-Since", T0)], Proceed),
            (
                get,
                &["If-None-Match: \"a\"", &since("If-Modified-Since", T0)],
                Proceed,
            ),
            (get, &[&since("If-Unmodified-Since", T0)], Proceed),
            (
                get,
                &["If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT"],
                PreconditionFailed,
            ),
            (
                get,
                &[
                    "If-Match: \"x\"",
                    "If-Unmodified-Since: Sun, 06 Nov 1994 08:49:36 GMT",
                ],
                Proceed,
            ),
        ];
        for (method, lines, expected) in cases {
            assert_eq!(
                outcome(*method, "\"x\"", lines),
                *expected,
                "{method} {lines:?}"
            );
        }
    }

    #[test]
    fn nothing_matches_what_does_not_exist() {
        let judge = |line| with_headers(&[line], |headers| evaluate(Method::Put, headers, None));
        assert_eq!(judge("If-Match: *"), Outcome::PreconditionFailed);
        assert_eq!(judge("If-None-Match: *"), Outcome::Proceed);
    }

    #[test]
    fn a_date_that_two_versions_had_is_no_condition_that_holds() {
        let current = Validators {
            tag: EntityTag::parse(b"\"x\""),
            modified_s: Some(T0_S),
            date: Dated::Twice,
        };
        let judge = |line: &str| {
            with_headers(&[line], |headers| {
                evaluate(Method::Get, headers, Some(&current))
            })
        };
        for date in [T0, T1] {
            let since = judge(&format!("If-Modified-Since: {date}"));
            assert_eq!(since, Outcome::Proceed);
            let unmodified = judge(&format!("If-Unmodified-Since: {date}"));
            assert_eq!(unmodified, Outcome::PreconditionFailed);
        }
        assert_eq!(judge("If-None-Match: \"x\""), Outcome::NotModified);
    }

    #[test]
    fn a_range_applies_to_exactly_what_it_was_asked_of() {
        let current = Validators {
            tag: EntityTag::parse(b"\"x\""),
            modified_s: Some(T0_S),
            date: Dated::ByClock,
        };
        let weak = Validators {
            tag: EntityTag::parse(b"W/\"x\""),
            ..Validators::default()
        };
        let date = Dated::BySomebody;
        let set = Validators { date, ..current };
        let applies = |line: &str, current, now_s| {
            with_headers(&[line], |headers| range_applies(headers, current, now_s))
        };
        assert!(applies("A: b", &current, T0_S));
        assert!(applies("If-Range: \"x\"", &current, T0_S));
        assert!(!applies("If-Range: W/\"x\"", &current, T0_S));
        assert!(!applies("If-Range: W/\"x\"", &weak, T0_S));
        assert!(!applies("If-Range: \"x\"", &weak, T0_S));
        assert!(applies(&format!("If-Range: {T0}"), &current, T0_S + 1));
        assert!(!applies(&format!("If-Range: {T0}"), &current, T0_S));
        assert!(!applies(&format!("If-Range: {T1}"), &current, T0_S + 9));
        assert!(!applies(&format!("If-Range: {T0}"), &set, T0_S + 9));
        assert!(applies("If-Range: \"x\"", &set, T0_S + 9));
        assert!(!applies(
            "If-Range: \"x\"\r\nIf-Range: \"x\"",
            &current,
            T0_S
        ));
    }

    proptest! {
        #[test]
        fn no_list_panics_or_repeats_for_ever(list in prop::collection::vec(prop::sample::select(&b"\"W/, ab\xff"[..]), 0..40)) {
            prop_assert!(entity_tags(&list).count() <= list.len());
        }
    }
}
