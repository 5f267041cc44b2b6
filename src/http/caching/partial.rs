//! Parts of representations: which are stored, what they can answer, what is missing from them and
//! how they are joined (RFC 9111 sections 3.3 and 3.4, RFC 9110 sections 14 and 15.3.7).
//!
//! Rules:
//! 1. A part is one piece. What does not touch it is not joined to it.
//! 2. Parts are joined under the same strong validator only ([`validation::strong`]): a tag, or a
//!    date that lies long enough before the response. Other dates do not do, since a representation
//!    can change twice in a second.
//! 3. `Content-Range` and the length of the body are to agree, with one exception ([`Part::of`]).

use super::super::conditional::{self, Dated, Outcome, Validators};
use super::super::head::{BodyLength, Headers, RequestHead, ResponseHead, put_header};
use super::super::range::{self, ByteRange, Ranges};
use super::super::{Method, Status, parse_decimal, put_decimal, trim_ows};
use super::validation::{self, Strong, strong, tag};

/// A part of a representation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The bytes that there are.
    pub range: ByteRange,
    /// How many there are in all, where that is known.
    pub total: Option<u64>,
}

impl Part {
    /// The part that a 206 brings, in answer to this request. `None` if it is not about one range
    /// of bytes, if there was no `Range`, or if its length and `Content-Range` do not agree.
    ///
    /// One disagreement is understood: the last `n` bytes were asked for (`bytes=-n`), `n` came, and
    /// `Content-Range` is wrong about where the representation ends. There is no doubt about which
    /// bytes they are, so where it begins is believed and its end counted.
    #[must_use]
    pub fn of(request: &RequestHead<'_>, response: &ResponseHead<'_>) -> Option<Self> {
        let asked = request
            .headers
            .only("range")
            .filter(|_| request.method == Method::Get)?;
        let part = Self::claimed(response)?;
        let BodyLength::Length(length) = response.body else {
            // Chunked: what comes is counted by whoever receives it.
            return (response.body == BodyLength::Chunked).then_some(part);
        };
        if length == part.range.len() {
            return Some(part);
        }
        let end = part.range.start.checked_add(length)?;
        let is_suffix = trim_ows(asked)
            .strip_prefix(b"bytes=-")
            .is_some_and(|suffix| parse_decimal(suffix) == Some(length));
        (is_suffix && part.total == Some(part.range.end)).then_some(Self {
            range: ByteRange { end, ..part.range },
            total: Some(end),
        })
    }

    /// The part that a stored response is, by its head ([`super::update::put_part`]); `None` if it is
    /// whole.
    #[must_use]
    pub fn of_stored(stored: &ResponseHead<'_>) -> Option<Self> {
        Self::claimed(stored)
    }

    /// What `Content-Range` says: `bytes FIRST-LAST/TOTAL`, the last perhaps `*`.
    fn claimed(response: &ResponseHead<'_>) -> Option<Self> {
        let value = response.headers.only("content-range")?;
        let (unit, rest) = value.split_at_checked(6)?;
        if response.status != Status::PARTIAL_CONTENT || !unit.eq_ignore_ascii_case(b"bytes ") {
            return None;
        }
        let slash = memchr::memchr(b'/', rest)?;
        let (range, total) = (trim_ows(&rest[..slash]), &rest[slash + 1..]);
        let dash = memchr::memchr(b'-', range)?;
        let start = parse_decimal(&range[..dash])?;
        let end = parse_decimal(&range[dash + 1..])?.checked_add(1)?;
        let total = match total {
            b"*" => None,
            digits => Some(parse_decimal(digits)?),
        };
        let is_good = start < end && total.is_none_or(|total| end <= total);
        is_good.then_some(Self {
            range: ByteRange { start, end },
            total,
        })
    }

    /// What is there of it if only its first `received` bytes came: nothing, or a smaller part.
    #[must_use]
    pub fn cut(self, received: u64) -> Option<Self> {
        let end = self.range.start.checked_add(received)?.min(self.range.end);
        (end > self.range.start).then_some(Self {
            range: ByteRange { end, ..self.range },
            ..self
        })
    }

    /// What there is of a 200 or a 206 whose body broke off after `received` bytes, by its head as it
    /// came or was stored (RFC 9111 section 3.3). Only where it can be completed: under a strong
    /// validator.
    #[must_use]
    pub fn of_broken(response: &ResponseHead<'_>, received: u64) -> Option<Self> {
        strong(&response.headers)?;
        if response.status != Status::OK {
            return Self::claimed(response)?.cut(received);
        }
        let total = match response.body {
            BodyLength::Length(total) => Some(total),
            _ => None,
        };
        let is_good = received > 0 && total.is_none_or(|total| received < total);
        is_good.then_some(Self {
            range: ByteRange {
                start: 0,
                end: received,
            },
            total,
        })
    }

    /// Whether it is all there is.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.range.start == 0 && self.total == Some(self.range.end)
    }

    fn holds(&self, range: ByteRange) -> bool {
        self.range.start <= range.start && range.end <= self.range.end
    }

    /// This part and `other` as one, if they touch and are of the same whole. The bytes of `other`
    /// are those that count where both have some: it is the newer one.
    fn join(self, other: Self) -> Option<Self> {
        let touch = self.range.start <= other.range.end && other.range.start <= self.range.end;
        let total = match (self.total, other.total) {
            (Some(ours), Some(theirs)) if ours != theirs => return None,
            (ours, theirs) => ours.or(theirs),
        };
        let range = ByteRange {
            start: self.range.start.min(other.range.start),
            end: self.range.end.max(other.range.end),
        };
        let is_good = touch && total.is_none_or(|total| range.end <= total);
        is_good.then_some(Self { range, total })
    }
}

/// Whether a 206 may be stored (RFC 9111 section 3): we understand what it is a part of.
pub(super) fn may_store(request: &RequestHead<'_>, response: &ResponseHead<'_>) -> bool {
    Part::of(request, response).is_some()
}

/// What a request gets of a stored part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FromPart {
    /// 304: the client has it already.
    NotModified,
    /// 206: these bytes, which are there.
    Range(ByteRange),
    /// Something that is not there. It can be asked for by [`missing`].
    Missing,
}

/// What a request gets of a stored part. Several ranges are left to the origin.
#[must_use]
pub fn selection(request: &RequestHead<'_>, stored: &Headers<'_>, part: &Part) -> FromPart {
    let current = validators(stored);
    match conditional::evaluate(request.method, &request.headers, Some(&current)) {
        Outcome::NotModified => return FromPart::NotModified,
        Outcome::PreconditionFailed => return FromPart::Missing,
        Outcome::Proceed => {}
    }
    match wanted(request, part) {
        Some(range) if applies(request, stored) && part.holds(range) => FromPart::Range(range),
        _ => FromPart::Missing,
    }
}

fn validators<'b>(stored: &Headers<'b>) -> Validators<'b> {
    Validators {
        tag: tag(stored),
        modified_s: validation::modified_s(stored),
        date: match strong(stored) {
            Some(Strong::Date(_)) => Dated::ByClock,
            Some(Strong::Tag(_)) | None => Dated::BySomebody,
        },
    }
}

/// Whether `If-Range` lets the `Range` count. A date in it is believed where it is a strong one, which
/// was found out when it was stored: the moment does not matter.
fn applies(request: &RequestHead<'_>, stored: &Headers<'_>) -> bool {
    conditional::range_applies(&request.headers, &validators(stored), i64::MAX)
}

/// The one range that a request is for. Without a known total only a range with both ends can lie
/// within the part.
fn wanted(request: &RequestHead<'_>, part: &Part) -> Option<ByteRange> {
    let value = request
        .headers
        .only("range")
        .filter(|_| request.method == Method::Get)?;
    match Ranges::parse(value, part.total.unwrap_or(u64::MAX)) {
        Ranges::One(range) => Some(range),
        Ranges::Whole | Ranges::Many(_) | Ranges::Unsatisfiable => None,
    }
}

/// What has to be fetched so that a stored part, joined with it, answers a request (RFC 9111 section
/// 3.3): a range with its end, or to the end of all. `None` where that cannot be: without a strong
/// validator, or where more than one piece is missing; the request is then to be asked as it is.
#[must_use]
pub fn missing(
    request: &RequestHead<'_>,
    stored: &Headers<'_>,
    part: &Part,
) -> Option<(u64, Option<u64>)> {
    strong(stored)?;
    if !request.headers.contains("range") || !applies(request, stored) {
        // Of a part that is all there is, nothing is missing but the status.
        let begins = part.range.start == 0 && !part.is_whole();
        return begins.then_some((part.range.end, part.total));
    }
    let range = wanted(request, part)?;
    let begins_within = (part.range.start..=part.range.end).contains(&range.start);
    let ends_within = (part.range.start..=part.range.end).contains(&range.end);
    match (begins_within, ends_within) {
        (true, false) if range.end == u64::MAX => Some((part.range.end, None)),
        (true, false) => Some((part.range.end, Some(range.end))),
        (false, true) => Some((range.start, Some(part.range.start))),
        (true, true) | (false, false) => None,
    }
}

/// Appends `Range` and `If-Range` for what is [`missing`] from a stored part: if it has changed, the
/// whole comes instead, with 200. A date stands in `If-Range` only where there is no tag, and it is
/// strong (RFC 9110 section 13.1.5).
pub fn put_range(out: &mut Vec<u8>, stored: &Headers<'_>, (start, end): (u64, Option<u64>)) {
    out.extend_from_slice(b"Range: bytes=");
    put_decimal(out, start);
    out.push(b'-');
    if let Some(end) = end {
        put_decimal(out, end.saturating_sub(1));
    }
    out.extend_from_slice(b"\r\n");
    let validator = strong(stored).and_then(|validator| match validator {
        Strong::Tag(_) => stored.only("etag"),
        Strong::Date(_) => stored.only("last-modified"),
    });
    if let Some(validator) = validator {
        put_header(out, "If-Range", validator);
    }
}

/// Appends `bytes FIRST-LAST/TOTAL`, the value of `Content-Range` for bytes of a representation whose
/// length may be unknown.
pub fn put_range_of(out: &mut Vec<u8>, range: ByteRange, total: Option<u64>) {
    range::put_content_range(out, range, total.unwrap_or(0));
    if total.is_none() {
        // The total was written as one digit.
        out.pop();
        out.push(b'*');
    }
}

/// Whether what there is of a response that broke off takes the place of a stored part: not that of
/// one with as much of the same representation. Both have a head by which they were or will be
/// stored.
#[must_use]
pub fn is_worth_more(broken: (&Headers<'_>, Part), stored: (&Headers<'_>, Part)) -> bool {
    !share_validator(broken.0, stored.0) || broken.1.range.len() > stored.1.range.len()
}

/// Whether both are of the same version, by the strong validator that they share (RFC 9110 section
/// 15.3.7.3).
fn share_validator(ours: &Headers<'_>, theirs: &Headers<'_>) -> bool {
    strong(ours).is_some_and(|validator| strong(theirs) == Some(validator))
}

/// Whether an origin may be asked if a stored part is still true. Not where a date is all that
/// identifies it, and a weak one: a 304 has a later `Date`, by which it would look strong, and could
/// bring a tag that its bytes never had.
#[must_use]
pub fn may_be_validated(stored: &Headers<'_>) -> bool {
    stored.contains("etag") || strong(stored).is_some()
}

/// Whether a 304 says that a stored part is still true. Where a date identifies that, it is to be the
/// same, since it is what other parts will be compared with.
#[must_use]
pub fn is_validated_by(stored: &Headers<'_>, newer: &Headers<'_>) -> bool {
    match strong(stored) {
        Some(Strong::Date(modified_s)) if newer.contains("last-modified") => {
            validation::modified_s(newer) == Some(modified_s)
        }
        Some(Strong::Date(_)) => !newer.contains("etag"),
        Some(Strong::Tag(_)) | None => true,
    }
}

/// A stored part and one that came for it, as one (RFC 9111 section 3.4); `None` if they do not go
/// together: the newer one then takes the place of the stored one.
#[must_use]
pub fn combined(stored: (&Headers<'_>, Part), newer: (&Headers<'_>, Part)) -> Option<Part> {
    match share_validator(stored.0, newer.0) {
        true => stored.1.join(newer.1),
        false => None,
    }
}
