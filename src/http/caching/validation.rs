//! Validators of stored responses: how an origin is asked about one, and how a client's conditions
//! are answered from one (RFC 9111 section 4.3).
//!
//! The conditions of the client are replaced by ours when a stored response is validated, and
//! answered from what is stored after that: so the answer of the origin is always one that the
//! store can use. Where nothing is stored they are passed on as they are.

use super::super::conditional::{Dated, EntityTag, Validators};
use super::super::date;
use super::super::head::{Headers, RequestHead, put_header};
use super::super::select::{Selection, select};
use super::Terms;

/// The tag of a response, if it has one that is well-formed.
#[must_use]
pub fn tag<'b>(headers: &Headers<'b>) -> Option<EntityTag<'b>> {
    headers.only("etag").and_then(EntityTag::parse)
}

/// When the response last changed, by its own account.
#[must_use]
pub fn modified_s(headers: &Headers<'_>) -> Option<i64> {
    headers.only("last-modified").and_then(date::parse)
}

/// How long after its `Last-Modified` a response is to be dated, in seconds, for the date to be a
/// strong validator. One second does where both come from one clock, which nobody tells a cache;
/// this is "enough difference" for two (RFC 9110 section 8.8.2.2).
pub const CLOCKS_APART_S: i64 = 60;

/// A validator that no two versions of a representation have in common (RFC 9110 section 8.8.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strong<'b> {
    /// A tag that is not weak.
    Tag(EntityTag<'b>),
    /// A `Last-Modified`, in seconds since the epoch.
    Date(i64),
}

/// The strong validator of a response by the head with which its body came, if it has one: its tag,
/// or where it has none at all (section 13.1.5), a `Last-Modified` that lies so far before its
/// `Date` that what was sent cannot have changed again within that second (section 8.8.2.2).
#[must_use]
pub fn strong<'b>(headers: &Headers<'b>) -> Option<Strong<'b>> {
    if headers.contains("etag") {
        return tag(headers).filter(|tag| !tag.weak).map(Strong::Tag);
    }
    let (modified_s, dated_s) = (modified_s(headers)?, headers.only("date")?);
    let apart_s = date::parse(dated_s)?.checked_sub(modified_s)?;
    (apart_s >= CLOCKS_APART_S).then_some(Strong::Date(modified_s))
}

pub(super) fn has_validator(headers: &Headers<'_>) -> bool {
    tag(headers).is_some() || modified_s(headers).is_some()
}

/// The fields of a request that a validation replaces: by those of [`put_conditions`].
#[must_use]
pub fn is_condition(name: &[u8]) -> bool {
    ["if-none-match", "if-modified-since", "if-range"]
        .iter()
        .any(|condition| name.eq_ignore_ascii_case(condition.as_bytes()))
}

/// Appends the header lines that ask an origin whether a stored response is still true: both
/// validators where there are two (RFC 9111 section 4.3.1), as they came. The request is to be
/// without those that [`is_condition`], and without its `Range`: the whole is what a changed
/// response is wanted as. Whether anything was appended.
pub fn put_conditions(out: &mut Vec<u8>, stored: &Headers<'_>) -> bool {
    let start = out.len();
    if let Some(value) = stored
        .only("etag")
        .filter(|value| EntityTag::parse(value).is_some())
    {
        put_header(out, "If-None-Match", value);
    }
    if let Some(value) = stored
        .only("last-modified")
        .filter(|value| date::parse(value).is_some())
    {
        put_header(out, "If-Modified-Since", value);
    }
    out.len() > start
}

/// What a request gets of a stored response with `length` bytes: the whole, a part, or nothing but
/// 304 (RFC 9111 section 4.3.2). Where the response does not say when it changed, its `Date` stands
/// for that, or else when it came. To be asked for a stored 200 only.
#[must_use]
pub fn selection(
    request: &RequestHead<'_>,
    stored: &Headers<'_>,
    terms: &Terms,
    length: u64,
    now_s: i64,
) -> Selection {
    let modified_s = modified_s(stored)
        .or_else(|| stored.only("date").and_then(date::parse))
        .unwrap_or(terms.response_s());
    let current = Validators {
        tag: tag(stored),
        modified_s: Some(modified_s),
        date: Dated::BySomebody,
    };
    select(request.method, &request.headers, &current, length, now_s)
}
