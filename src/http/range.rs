//! Ranges: `Range: bytes=…`, `Content-Range`, and the `multipart/byteranges` body.
//!
//! RFC 9110 sections 14.1 to 14.6 and 15.3.7.
//!
//! Rules:
//! 1. A `Range` that is malformed, of another unit, or has too many ranges is ignored: the answer
//!    is the whole (200). Only one that is well-formed, none of whose ranges touches the
//!    representation, is unsatisfiable (416).
//! 2. Ranges that overlap, touch, or leave a gap smaller than a part head would be are merged, into
//!    the place of the first of them. Otherwise they keep the order in which they were asked for.
//!    So no byte is sent twice, and asking for a thousand overlapping ranges costs nothing (RFC
//!    9110 section 17.15). What is one range after merging is sent as one.
//! 3. The length of a multipart body is known before its first byte is sent.
//!
//! Not here: `If-Range`, which decides whether `Range` counts at all ([`super::conditional`]).

use super::{decimal_len, list_elements, parse_decimal, put_decimal, trim_ows};

/// The most ranges that one request may ask for.
pub const RANGES_MAX: usize = 32;

/// Gaps up to this many bytes are sent rather than spent on another part head.
pub const GAP_BYTES_MAX: u64 = 80;

/// The bytes `start` to `end` of a representation, `end` not included. Never empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteRange {
    /// Offset of the first byte.
    pub start: u64,
    /// Offset behind the last byte.
    pub end: u64,
}

impl ByteRange {
    /// How many bytes there are in it; never 0.
    #[must_use]
    #[allow(clippy::len_without_is_empty)] // It is never empty.
    pub fn len(self) -> u64 {
        self.end - self.start
    }

    fn is_near(self, other: Self) -> bool {
        self.start <= other.end.saturating_add(GAP_BYTES_MAX)
            && other.start <= self.end.saturating_add(GAP_BYTES_MAX)
    }
}

/// What a `Range` header asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ranges {
    /// The header does not count: send everything, with 200.
    Whole,
    /// One range: send it with 206 and `Content-Range`.
    One(ByteRange),
    /// Two or more ranges: send `multipart/byteranges` with 206.
    Many(Vec<ByteRange>),
    /// Nothing of what was asked for exists: 416 with `Content-Range: bytes */LENGTH`.
    Unsatisfiable,
}

impl Ranges {
    /// Reads the value of `Range`, of a request for a representation of `length` bytes.
    #[must_use]
    pub fn parse(value: &[u8], length: u64) -> Self {
        let Some(equals) = memchr::memchr(b'=', value) else {
            return Self::Whole;
        };
        if !trim_ows(&value[..equals]).eq_ignore_ascii_case(b"bytes") {
            return Self::Whole;
        }
        let mut first = None;
        let mut merged: Vec<ByteRange> = Vec::new();
        let mut count = 0;
        for spec in list_elements(&value[equals + 1..]) {
            count += 1;
            let Some(range) = range_spec(spec, length) else {
                return Self::Whole;
            };
            if count > RANGES_MAX {
                return Self::Whole;
            }
            // The list is made when there is a second range, so that the usual request allocates
            // nothing.
            match (range, first) {
                (None, _) => {}
                (Some(range), None) => first = Some(range),
                (Some(range), Some(first)) => {
                    if merged.is_empty() {
                        merged.push(first);
                    }
                    merge(&mut merged, range);
                }
            }
        }
        match (first, merged.as_slice()) {
            (None, _) if count == 0 || length == 0 => Self::Whole,
            (None, _) => Self::Unsatisfiable,
            (Some(only), []) => Self::One(only),
            (Some(_), &[only]) => Self::One(only),
            (Some(_), _) => Self::Many(merged),
        }
    }
}

/// Reads `a-b`, `a-` or `-n`. The outer `None` means malformed, the inner one unsatisfiable.
fn range_spec(spec: &[u8], length: u64) -> Option<Option<ByteRange>> {
    let dash = memchr::memchr(b'-', spec)?;
    let (first, last) = (&spec[..dash], &spec[dash + 1..]);
    let range = match (first, last) {
        ([], _) => {
            let suffix = position(last)?;
            ByteRange {
                start: length.saturating_sub(suffix),
                end: length,
            }
        }
        (_, []) => ByteRange {
            start: position(first)?,
            end: length,
        },
        _ => {
            let (start, last) = (position(first)?, position(last)?);
            if start > last {
                return None;
            }
            ByteRange {
                start,
                end: last.saturating_add(1).min(length),
            }
        }
    };
    Some((range.start < range.end).then_some(range))
}

/// A position; one that is too large for 64 bits is as good as the largest.
fn position(digits: &[u8]) -> Option<u64> {
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    is_number.then(|| parse_decimal(digits).unwrap_or(u64::MAX))
}

/// Puts `range` in, at the place of the first range that it is near to, and swallows all others
/// that it is near to by then.
fn merge(ranges: &mut Vec<ByteRange>, mut range: ByteRange) {
    let mut place = ranges.len();
    while let Some(near) = ranges.iter().position(|&other| other.is_near(range)) {
        let other = ranges.remove(near);
        range = ByteRange {
            start: range.start.min(other.start),
            end: range.end.max(other.end),
        };
        place = place.min(near);
    }
    ranges.insert(place.min(ranges.len()), range);
}

/// Appends `bytes FIRST-LAST/LENGTH`, the value of `Content-Range` with 206.
pub fn put_content_range(out: &mut Vec<u8>, range: ByteRange, length: u64) {
    out.extend_from_slice(b"bytes ");
    put_decimal(out, range.start);
    out.push(b'-');
    put_decimal(out, range.end - 1);
    out.push(b'/');
    put_decimal(out, length);
}

/// Appends `bytes */LENGTH`, the value of `Content-Range` with 416.
pub fn put_content_range_unsatisfied(out: &mut Vec<u8>, length: u64) {
    out.extend_from_slice(b"bytes */");
    put_decimal(out, length);
}

/// The framing of a `multipart/byteranges` body (RFC 9110 section 14.6). Each part is
/// [`Multipart::put_part_head`], then the bytes of its range; [`Multipart::put_end`] comes after
/// the last.
#[derive(Debug, Clone, Copy)]
pub struct Multipart<'a> {
    boundary: [u8; 16],
    content_type: &'a str,
    length: u64,
}

impl<'a> Multipart<'a> {
    /// Framing for parts of a representation of `length` bytes and the type `content_type`. The
    /// boundary is made from `seed`, which has to be random where the content could come from an
    /// enemy of the reader.
    #[must_use]
    pub fn new(seed: u64, content_type: &'a str, length: u64) -> Self {
        let mut boundary = [0; 16];
        for (index, digit) in boundary.iter_mut().enumerate() {
            *digit = b"0123456789abcdef"[(seed >> (index * 4)) as usize & 15];
        }
        Self {
            boundary,
            content_type,
            length,
        }
    }

    /// Appends the value of the response's own `Content-Type`.
    pub fn put_content_type(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"multipart/byteranges; boundary=");
        out.extend_from_slice(&self.boundary);
    }

    /// Appends what stands before the bytes of `range`.
    pub fn put_part_head(&self, out: &mut Vec<u8>, range: ByteRange) {
        out.extend_from_slice(b"\r\n--");
        out.extend_from_slice(&self.boundary);
        out.extend_from_slice(b"\r\nContent-Type: ");
        out.extend_from_slice(self.content_type.as_bytes());
        out.extend_from_slice(b"\r\nContent-Range: ");
        put_content_range(out, range, self.length);
        out.extend_from_slice(b"\r\n\r\n");
    }

    /// Appends what ends the body.
    pub fn put_end(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"\r\n--");
        out.extend_from_slice(&self.boundary);
        out.extend_from_slice(b"--\r\n");
    }

    /// The exact `Content-Length` of the body with these parts.
    #[must_use]
    pub fn body_bytes(&self, ranges: &[ByteRange]) -> u64 {
        const PART_HEAD: &str = "\r\n--\r\nContent-Type: \r\nContent-Range: bytes -/\r\n\r\n";
        const END: &str = "\r\n----\r\n";
        let fixed = PART_HEAD.len()
            + self.boundary.len()
            + self.content_type.len()
            + decimal_len(self.length);
        let parts = ranges.iter().map(|range| {
            let positions = decimal_len(range.start) + decimal_len(range.end - 1);
            (fixed + positions) as u64 + range.len()
        });
        parts.sum::<u64>() + (END.len() + self.boundary.len()) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parse(value: &str, length: u64) -> Ranges {
        Ranges::parse(value.as_bytes(), length)
    }

    fn one(start: u64, end: u64) -> Ranges {
        Ranges::One(ByteRange { start, end })
    }

    #[test]
    fn single_ranges_are_clipped_to_what_exists() {
        assert_eq!(parse("bytes=0-499", 10_000), one(0, 500));
        assert_eq!(parse("Bytes = 500-999 ", 10_000), one(500, 1000));
        assert_eq!(parse("bytes=9500-", 10_000), one(9500, 10_000));
        assert_eq!(parse("bytes=-500", 10_000), one(9500, 10_000));
        assert_eq!(parse("bytes=-20000", 10_000), one(0, 10_000));
        assert_eq!(
            parse("bytes=0-99999999999999999999999", 10_000),
            one(0, 10_000)
        );
        assert_eq!(parse("bytes=9999-9999,", 10_000), one(9999, 10_000));
        assert_eq!(parse("bytes=10000-, 5-5", 10_000), one(5, 6));
    }

    #[test]
    fn what_is_malformed_is_ignored_and_what_lies_outside_is_unsatisfiable() {
        for bad in [
            "",
            "bytes",
            "bytes=",
            "bytes= ,",
            "lines=0-1",
            "bytes=5",
            "bytes=-",
            "bytes=2-1",
            "bytes=a-b",
            "bytes=0-1-2",
            "bytes=+0-1",
            "bytes=0 - 1",
            "bytes=0-1;2-3",
            "bytes=0-1,x",
        ] {
            assert_eq!(parse(bad, 100), Ranges::Whole, "{bad:?}");
        }
        for outside in [
            "bytes=100-",
            "bytes=100-200",
            "bytes=-0",
            "bytes=99999999999999999999999-",
            "bytes=-0,100-",
        ] {
            assert_eq!(parse(outside, 100), Ranges::Unsatisfiable, "{outside:?}");
        }
        assert_eq!(parse("bytes=0-", 0), Ranges::Whole);
        assert_eq!(parse("bytes=-5", 0), Ranges::Whole);
    }

    #[test]
    fn near_ranges_merge_into_the_first_place_and_others_keep_their_order() {
        let many = |value| match parse(value, 10_000) {
            Ranges::Many(ranges) => ranges.iter().map(|r| (r.start, r.end)).collect(),
            other => panic!("{other:?}"),
        };
        let ranges: Vec<(u64, u64)> = many("bytes=5000-5099,0-99,9000-9099");
        assert_eq!(ranges, [(5000, 5100), (0, 100), (9000, 9100)]);
        assert_eq!(
            many("bytes=5000-5099,0-99,5050-5200"),
            [(5000, 5201), (0, 100)]
        );
        assert_eq!(
            many("bytes=0-0,1000-1000,2000-2000,0-1000"),
            [(0, 1001), (2000, 2001)]
        );
        assert_eq!(
            parse("bytes=0-9,90-99", 100),
            one(0, 100),
            "the gap is cheaper than a part head"
        );
        assert_eq!(parse("bytes=0-,0-,0-,-1", 100), one(0, 100));
        let too_many: Vec<_> = (0..=RANGES_MAX)
            .map(|n| format!("{0}-{0}", n * 1000))
            .collect();
        assert_eq!(
            parse(&format!("bytes={}", too_many.join(",")), 1 << 20),
            Ranges::Whole
        );
    }

    #[test]
    fn content_range_names_the_last_byte() {
        let mut out = Vec::new();
        put_content_range(&mut out, ByteRange { start: 0, end: 500 }, 1234);
        out.push(b' ');
        put_content_range_unsatisfied(&mut out, 1234);
        assert_eq!(out, b"bytes 0-499/1234 bytes */1234");
    }

    proptest! {
        #[test]
        fn the_length_of_a_multipart_body_is_exact(
            specs in prop::collection::vec((0u64..100_000, 0u64..2000), 1..8),
            seed: u64,
        ) {
            let multipart = Multipart::new(seed, "text/html; charset=utf-8", 100_000);
            let ranges: Vec<_> = specs
                .iter()
                .map(|&(start, len)| ByteRange { start, end: start + len + 1 })
                .collect();
            let mut body = Vec::new();
            for &range in &ranges {
                multipart.put_part_head(&mut body, range);
                body.resize(body.len() + usize::try_from(range.len()).unwrap(), b'x');
            }
            multipart.put_end(&mut body);
            prop_assert_eq!(multipart.body_bytes(&ranges), body.len() as u64);
        }

        #[test]
        fn ranges_are_apart_and_cover_what_was_asked_for(
            specs in prop::collection::vec((0u64..5000, 0u64..300), 1..20),
        ) {
            let value: Vec<_> = specs.iter().map(|(start, len)| format!("{start}-{}", start + len)).collect();
            let ranges = match parse(&format!("bytes={}", value.join(",")), 4000) {
                Ranges::Many(ranges) => ranges,
                Ranges::One(range) => vec![range],
                Ranges::Unsatisfiable => vec![],
                Ranges::Whole => panic!("well-formed"),
            };
            for (index, range) in ranges.iter().enumerate() {
                prop_assert!(range.start < range.end && range.end <= 4000);
                prop_assert!(!ranges[index + 1..].iter().any(|other| other.is_near(*range)));
            }
            for (start, len) in specs {
                for asked in start..(start + len + 1).min(4000) {
                    prop_assert!(ranges.iter().any(|r| r.start <= asked && asked < r.end));
                }
            }
        }

        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..60), length: u64) {
            let _ = Ranges::parse(&[b"bytes=", &bytes[..]].concat(), length);
        }
    }
}
