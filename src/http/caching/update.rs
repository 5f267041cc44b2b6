//! What a response to a validation or to HEAD does to what is stored (RFC 9111 sections 3.2, 4.3.3,
//! 4.3.4 and 4.3.5).

use super::super::date::Date;
use super::super::head::{
    Headers, ResponseHead, put_head_end, put_header, put_header_number, put_status_and_reason,
    put_status_line,
};
use super::super::{Status, list_elements, parse_decimal};
use super::partial::{Part, put_range_of};
use super::storing::named_fields;
use super::validation::{modified_s, tag};

/// How many stored responses a validation was about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// One: a 304 can only mean that.
    One,
    /// Several, by their tags: a 304 has to say which.
    Several,
}

/// Whether a 304 says that this stored response is still true (RFC 9111 section 4.3.4).
///
/// Where only one was asked about, a 304 without validators means that one (RFC 9110 section
/// 15.4.5), as does one with another strong tag: servers that add the coding to the tag of a
/// response forget to do so in the 304. The strict rule, which would have the response fetched
/// again, chooses among several.
#[must_use]
pub fn identifies(newer: &Headers<'_>, stored: &Headers<'_>, asked: Asked) -> bool {
    match (asked, tag(newer), tag(stored)) {
        (Asked::One, ..) => true,
        (Asked::Several, Some(newer), Some(stored)) if !newer.weak => newer.strong_eq(stored),
        (Asked::Several, Some(newer), Some(stored)) => newer.weak_eq(stored),
        (Asked::Several, _, None) | (Asked::Several, None, _) => {
            let dates = (modified_s(newer), modified_s(stored));
            tag(newer).is_none() && dates.0.is_some() && dates.0 == dates.1
        }
    }
}

/// What a response to HEAD means for a stored response to GET.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeadVerdict {
    /// It is the same still: its fields are updated ([`put_updated`]), its terms derived anew.
    Update,
    /// It has changed: it is not used again without validation.
    Invalidate,
    /// It says nothing about it: only a 200 does.
    Keep,
}

/// What a response to HEAD means for a stored 200 to GET of `length` bytes (RFC 9111 section
/// 4.3.5): validators and length that it has are to be those of what is stored.
#[must_use]
pub fn by_head(newer: &ResponseHead<'_>, stored: &Headers<'_>, length: u64) -> HeadVerdict {
    if newer.status != Status::OK {
        return HeadVerdict::Keep;
    }
    let is_same = |name: &str| match newer.headers.first(name) {
        Some(value) => stored.first(name) == Some(value),
        None => true,
    };
    let has_length = match newer.headers.first("content-length") {
        Some(value) => parse_decimal(value) == Some(length),
        None => true,
    };
    match is_same("etag") && is_same("last-modified") && has_length {
        true => HeadVerdict::Update,
        false => HeadVerdict::Invalidate,
    }
}

/// The fields that stay as they were stored (RFC 9111 section 3.2): they describe the stored bytes,
/// which have not changed.
const OF_THE_BYTES: [&str; 8] = [
    "content-length",
    "content-encoding",
    "content-range",
    "content-md5",
    "content-digest",
    "repr-digest",
    "digest",
    "etag",
];

/// The fields that say when a response was made. They go together: those of a stored response say
/// nothing about a newer one.
const OF_THE_TIME: [&str; 2] = ["age", "date"];

fn is_one_of(name: &[u8], names: &[&str]) -> bool {
    names
        .iter()
        .any(|other| name.eq_ignore_ascii_case(other.as_bytes()))
}

/// Appends the head of a stored response with the fields of a newer one in the place of its own
/// (RFC 9111 section 3.2), for the store: of the newer one all that [`super::storing`] would store,
/// but those that describe the bytes. `response_s`: when it came, the date of one that has none.
///
/// The terms are then derived from the result, with the times of the newer response.
pub fn put_updated(
    out: &mut Vec<u8>,
    stored: &ResponseHead<'_>,
    newer: &ResponseHead<'_>,
    response_s: i64,
) {
    put_status_and_reason(out, stored.status, stored.reason);
    put_updated_lines(out, stored, newer, response_s, |_| true);
    put_head_end(out);
}

/// Appends the head of two parts joined ([`super::partial::combined`]): a 200 if nothing is missing
/// any more, else a 206. The fields are those of [`put_updated`], with the length made anew (RFC
/// 9111 section 3.4).
pub fn put_combined(
    out: &mut Vec<u8>,
    stored: &ResponseHead<'_>,
    newer: &ResponseHead<'_>,
    part: &Part,
    response_s: i64,
) {
    let status = match part.is_whole() {
        true => Status::OK,
        false => Status::PARTIAL_CONTENT,
    };
    put_status_line(out, status);
    put_updated_lines(out, stored, newer, response_s, |name| {
        !is_one_of(name, &["content-length", "content-range"])
    });
    put_header_number(out, "Content-Length", part.range.len());
    if !part.is_whole() {
        put_part_range(out, part);
    }
    put_head_end(out);
}

/// Appends the head of a part as it is stored, by the head of the response that brings it: a 206
/// with the range that its bytes are, whatever the response says of that ([`Part::of`]).
pub fn put_part(out: &mut Vec<u8>, response: &ResponseHead<'_>, part: &Part, response_s: i64) {
    put_status_line(out, Status::PARTIAL_CONTENT);
    let named = named_fields(&response.headers);
    for (name, line) in response.headers.end_to_end_lines() {
        let is_named = list_elements(&named).any(|field| field.eq_ignore_ascii_case(name));
        if !is_named && !is_one_of(name, &["content-length", "content-range"]) {
            put_line(out, line);
        }
    }
    put_header_number(out, "Content-Length", part.range.len());
    put_part_range(out, part);
    if !response.headers.contains("date") {
        put_header(out, "Date", Date::new(response_s).as_bytes());
    }
    put_head_end(out);
}

/// Appends the `Content-Range` of a part.
fn put_part_range(out: &mut Vec<u8>, part: &Part) {
    out.extend_from_slice(b"Content-Range: ");
    put_range_of(out, part.range, part.total);
    out.extend_from_slice(b"\r\n");
}

/// Appends the lines of `stored` that `keeps`, updated by those of `newer`.
fn put_updated_lines(
    out: &mut Vec<u8>,
    stored: &ResponseHead<'_>,
    newer: &ResponseHead<'_>,
    response_s: i64,
    keeps: impl Fn(&[u8]) -> bool,
) {
    let named = named_fields(&newer.headers);
    let comes = |name: &[u8]| {
        let is_kept = is_one_of(name, &OF_THE_BYTES)
            && (has(&stored.headers, name) || !name.eq_ignore_ascii_case(b"etag"));
        let is_named = list_elements(&named).any(|field| field.eq_ignore_ascii_case(name));
        !is_kept && !is_named
    };
    for (name, line) in stored.headers.end_to_end_lines() {
        let is_replaced = comes(name) && has(&newer.headers, name);
        if keeps(name) && !is_replaced && !is_one_of(name, &OF_THE_TIME) {
            put_line(out, line);
        }
    }
    for (name, line) in newer.headers.end_to_end_lines() {
        if comes(name) {
            put_line(out, line);
        }
    }
    if !newer.headers.contains("date") {
        put_header(out, "Date", Date::new(response_s).as_bytes());
    }
}

fn has(headers: &Headers<'_>, name: &[u8]) -> bool {
    str::from_utf8(name).is_ok_and(|name| headers.contains(name))
}

fn put_line(out: &mut Vec<u8>, line: &[u8]) {
    out.extend_from_slice(line);
    out.extend_from_slice(b"\r\n");
}
