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
