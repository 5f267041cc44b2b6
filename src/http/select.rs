//! Which part of a representation a request is to get: all of it, some ranges, or nothing but its
//! validators.
//!
//! One pure function over the conditions and ranges of a request, in the order of RFC 9110 section
//! 13.2.2. Whoever has a representation (a file, a listing, a stored response) asks it and sends
//! what it says.

use super::Method;
use super::conditional::{self, Outcome, Validators};
use super::head::Headers;
use super::range::{ByteRange, Ranges};

/// What a request is to get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Selection {
    /// The whole representation.
    Whole,
    /// 304: the client has it already.
    NotModified,
    /// 412: it is not the version that the request is about.
    Failed,
    /// 206: one range.
    Part(ByteRange),
    /// 206: several, as `multipart/byteranges`.
    Parts(Vec<ByteRange>),
    /// 416: none of the bytes that were asked for exist.
    Unsatisfiable,
}

/// The headers that may make an answer anything else than the whole.
const DECIDING: [&str; 5] = [
    "range",
    "if-none-match",
    "if-modified-since",
    "if-match",
    "if-unmodified-since",
];

/// Whether the request has a header that [`select`] looks at; most have none.
#[must_use]
pub fn decides(headers: &Headers<'_>) -> bool {
    DECIDING.iter().any(|name| headers.contains(name))
}

/// What a request for a representation of `length` bytes gets. `now_s`: the moment of the answer,
/// in seconds since the epoch. To be asked only where the answer would be a 200 without conditions.
#[must_use]
pub fn select(
    method: Method<'_>,
    headers: &Headers<'_>,
    current: &Validators<'_>,
    length: u64,
    now_s: i64,
) -> Selection {
    match conditional::evaluate(method, headers, Some(current)) {
        Outcome::Proceed => {}
        Outcome::NotModified => return Selection::NotModified,
        Outcome::PreconditionFailed => return Selection::Failed,
    }
    // Range is defined for GET alone (RFC 9110 section 14.2).
    let range = headers.only("range").filter(|_| method == Method::Get);
    let Some(range) = range.filter(|_| conditional::range_applies(headers, current, now_s)) else {
        return Selection::Whole;
    };
    match Ranges::parse(range, length) {
        Ranges::Whole => Selection::Whole,
        Ranges::One(range) => Selection::Part(range),
        Ranges::Many(ranges) => Selection::Parts(ranges),
        Ranges::Unsatisfiable => Selection::Unsatisfiable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::conditional::EntityTag;
    use crate::http::head::{HeadScanner, Limits, Parsed};

    /// What a request with these header lines gets of 10,000 bytes with the tag `"a"`.
    fn selected(method: &str, lines: &str) -> (bool, Selection) {
        let text = format!("{method} / HTTP/1.1\r\nHost: x\r\n{lines}\r\n");
        let mut scanner = HeadScanner::default();
        let Ok(Parsed::Complete(head, _)) = scanner.request(text.as_bytes(), &Limits::default())
        else {
            panic!("{text} is no head");
        };
        let current = Validators {
            tag: EntityTag::parse(b"\"a\""),
            modified_s: Some(1_000),
            ..Validators::default()
        };
        let selection = select(head.method, &head.headers, &current, 10_000, 2_000);
        (decides(&head.headers), selection)
    }

    #[test]
    fn conditions_go_before_ranges_and_ranges_are_for_get() {
        let part = Selection::Part(ByteRange { start: 2, end: 5 });
        for (method, lines, expected) in [
            ("GET", "Accept: */*\r\n", Selection::Whole),
            ("GET", "If-None-Match: \"a\"\r\n", Selection::NotModified),
            ("HEAD", "If-None-Match: \"b\"\r\n", Selection::Whole),
            (
                "GET",
                "If-Match: \"b\"\r\nRange: bytes=2-4\r\n",
                Selection::Failed,
            ),
            (
                "GET",
                "If-Match: \"a\"\r\nRange: bytes=2-4\r\n",
                part.clone(),
            ),
            ("HEAD", "Range: bytes=2-4\r\n", Selection::Whole),
            ("GET", "Range: bytes=2-4\r\nIf-Range: \"a\"\r\n", part),
            (
                "GET",
                "Range: bytes=2-4\r\nIf-Range: \"b\"\r\n",
                Selection::Whole,
            ),
            ("GET", "Range: bytes=10000-\r\n", Selection::Unsatisfiable),
            ("GET", "Range: lines=1-2\r\n", Selection::Whole),
        ] {
            let (decides, selection) = selected(method, lines);
            assert_eq!(selection, expected, "{method} {lines}");
            assert!(decides || expected == Selection::Whole, "{lines}");
        }
        let (_, parts) = selected("GET", "Range: bytes=0-0,5000-5000\r\n");
        assert!(matches!(parts, Selection::Parts(ranges) if ranges.len() == 2));
    }
}
