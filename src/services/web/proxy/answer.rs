//! Answers from what is kept: the whole, a part of it, or the word that it has not changed.
//!
//! RFC 9111 section 4.3.2 (conditions), RFC 9110 sections 14 (ranges) and 15.4.5 (304).

use super::heads;
use super::route::Origin;
use crate::buffer::{Pool, SendQueue};
use crate::cache::store::{Kept, Object, parse_head, put_body};
use crate::http::caching::partial::{FromPart, Part};
use crate::http::caching::status::{CacheStatus, Handled};
use crate::http::caching::{Terms, partial, validation};
use crate::http::head::{
    RequestHead, ResponseHead, put_head_end, put_header, put_header_number, put_status_and_reason,
    put_status_line,
};
use crate::http::persistence::Persistence;
use crate::http::range::{ByteRange, Multipart, put_content_range_unsatisfied};
use crate::http::select::{Selection, decides};
use crate::http::{Method, Status, put_decimal};
use crate::services::web::reply::{Answered, SERVER};

/// How an answer is written, beside what it is.
#[derive(Clone, Copy)]
pub(super) struct Manner<'a> {
    pub(super) persistence: Persistence,
    /// The origin, where the request had the address-bar form.
    pub(super) address_bar: Option<&'a Origin>,
    /// The line of `Via`.
    pub(super) via: &'a [u8],
    /// What was done, for `Cache-Status`.
    pub(super) status: CacheStatus<'a>,
    pub(super) now_s: i64,
}

/// The fields that a 304 has of the response (RFC 9110 section 15.4.5).
const OF_NOT_MODIFIED: [&[u8]; 7] = [
    b"cache-control",
    b"cdn-cache-control",
    b"content-location",
    b"date",
    b"etag",
    b"expires",
    b"vary",
];

/// Where an answer goes, and memory for its head.
pub(super) struct Sink<'a> {
    pub(super) tx: &'a mut SendQueue,
    pub(super) pool: &'a mut Pool,
    pub(super) scratch: &'a mut Vec<u8>,
}

impl Sink<'_> {
    fn put_scratch(&mut self) {
        self.tx.put(self.scratch, self.pool);
    }
}

/// Answers a request with what is kept.
pub(super) fn put(
    kept: &Kept,
    request: &RequestHead<'_>,
    manner: Manner<'_>,
    sink: &mut Sink<'_>,
) -> Answered {
    if let Some(part) = &kept.part {
        return put_of_part(kept, part, request, manner, sink);
    }
    let is_chosen = kept.status == Status::OK && decides(&request.headers);
    if is_chosen || manner.address_bar.is_some() {
        return put_chosen(kept, request, manner, sink);
    }
    sink.tx.put(kept.lines(), sink.pool);
    sink.scratch.clear();
    if !kept.shown.has_length && !kept.status.is_bodyless() {
        put_header_number(sink.scratch, "Content-Length", kept.body_bytes);
    }
    put_own_lines(sink.scratch, &kept.terms, manner);
    sink.put_scratch();
    put_whole(kept, request.method, sink)
}

/// What a request gets of a part that is kept.
pub(super) fn from_part(kept: &Kept, part: &Part, request: &RequestHead<'_>) -> FromPart {
    match parse_head(&kept.head) {
        Some(head) => partial::selection(request, &head.headers, part),
        None => FromPart::Missing,
    }
}

/// Writes a request that asks its origin whether what is kept is still true.
pub(super) fn put_validating(out: &mut Vec<u8>, request: &[u8], kept: &Kept) {
    if let Some(head) = parse_head(&kept.head) {
        heads::put_validating(out, request, &head.headers, kept.part.is_some());
    }
}

/// Writes a request for what is missing from the part that is kept.
pub(super) fn put_completing(
    out: &mut Vec<u8>,
    request: &[u8],
    kept: &Kept,
    missing: (u64, Option<u64>),
) {
    if let Some(head) = parse_head(&kept.head) {
        heads::put_completing(out, request, &head.headers, missing);
    }
}

/// What a client gets of a response that grows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OfGrowing {
    /// All of it.
    All,
    /// These bytes of a representation.
    Range(ByteRange),
    /// Something else: it is to ask for itself.
    Other,
}

/// What a request gets of a response of which so many bytes can be read. A range that begins far
/// ahead of those is sooner there if the origin is asked for it.
pub(super) fn of_growing(
    object: &Object,
    readable: u64,
    request: &RequestHead<'_>,
    now_s: i64,
) -> OfGrowing {
    let (Some(length), Status::OK) = (object.expected, object.status) else {
        return OfGrowing::All;
    };
    if !request.headers.contains("range") {
        return OfGrowing::All;
    }
    let selected = parse_head(&object.head)
        .map(|head| validation::selection(request, &head.headers, &object.terms, length, now_s));
    match selected {
        Some(Selection::Whole) => OfGrowing::All,
        Some(Selection::Part(range)) if range.start <= readable.saturating_add(AHEAD_BYTES_MAX) => {
            OfGrowing::Range(range)
        }
        _ => OfGrowing::Other,
    }
}

/// How far ahead of what is there of a growing response a range may begin to be waited for.
const AHEAD_BYTES_MAX: u64 = 1 << 20;

/// Writes the head of a response of which not all is there yet: of all of it, or of a range. The
/// status.
pub(super) fn put_head(
    object: &Object,
    range: Option<(ByteRange, Option<u64>)>,
    is_chunked: bool,
    manner: Manner<'_>,
    out: &mut Vec<u8>,
) -> Status {
    out.clear();
    let Some(head) = parse_head(&object.head) else {
        unreachable!("a head that was written here");
    };
    if let Some((range, total)) = range {
        put_range_head(out, &head, (range, total), manner.address_bar);
        put_own_lines(out, &object.terms, manner);
        return Status::PARTIAL_CONTENT;
    }
    put_status_and_reason(out, head.status, head.reason);
    put_lines(out, &head, manner.address_bar, |_| true);
    match object.expected {
        Some(length) if !object.status.is_bodyless() => {
            put_header_number(out, "Content-Length", length);
        }
        _ if is_chunked => heads::put_chunked(out),
        _ => {}
    }
    put_own_lines(out, &object.terms, manner);
    object.status
}

fn put_whole(kept: &Kept, method: Method<'_>, sink: &mut Sink<'_>) -> Answered {
    let body_bytes = match method {
        Method::Head => 0,
        _ => kept.body_bytes,
    };
    if body_bytes > 0 {
        put_body(&kept.body, 0, body_bytes, sink.tx, sink.pool);
    }
    Answered {
        status: kept.status,
        body_bytes,
    }
}

/// Writes what a head says of this very answer, and its end.
pub(super) fn put_own_lines(out: &mut Vec<u8>, terms: &Terms, manner: Manner<'_>) {
    out.extend_from_slice(b"Age: ");
    put_decimal(out, u64::from(terms.age_s(manner.now_s)));
    out.extend_from_slice(b"\r\n");
    let mut status = manner.status;
    if status.handled == Handled::Hit {
        status.ttl_s = Some(terms.fresh_for_s(manner.now_s));
    }
    status.put_line(out, SERVER);
    out.extend_from_slice(manner.via);
    out.extend_from_slice(manner.persistence.line());
    put_head_end(out);
}

/// Answers a request of which more has to be known.
fn put_chosen(
    kept: &Kept,
    request: &RequestHead<'_>,
    manner: Manner<'_>,
    sink: &mut Sink<'_>,
) -> Answered {
    let Some(head) = parse_head(&kept.head) else {
        // What is kept was parsed before: this is for the compiler.
        return put_whole(kept, Method::Head, sink);
    };
    let selection = match kept.status == Status::OK {
        true => validation::selection(
            request,
            &head.headers,
            &kept.terms,
            kept.body_bytes,
            manner.now_s,
        ),
        false => Selection::Whole,
    };
    sink.scratch.clear();
    match selection {
        Selection::Whole => {
            put_status_and_reason(sink.scratch, head.status, head.reason);
            put_lines(sink.scratch, &head, manner.address_bar, |_| true);
            if !kept.status.is_bodyless() {
                put_header_number(sink.scratch, "Content-Length", kept.body_bytes);
            }
            put_own_lines(sink.scratch, &kept.terms, manner);
            sink.put_scratch();
            put_whole(kept, request.method, sink)
        }
        Selection::NotModified => put_not_modified(kept, &head, manner, sink),
        Selection::Failed => {
            put_status_line(sink.scratch, Status::PRECONDITION_FAILED);
            put_header(sink.scratch, "Content-Length", "0");
            put_nothing(Status::PRECONDITION_FAILED, kept, manner, sink)
        }
        Selection::Unsatisfiable => {
            put_status_line(sink.scratch, Status::RANGE_NOT_SATISFIABLE);
            sink.scratch.extend_from_slice(b"Content-Range: ");
            put_content_range_unsatisfied(sink.scratch, kept.body_bytes);
            sink.scratch.extend_from_slice(b"\r\n");
            put_header(sink.scratch, "Content-Length", "0");
            put_nothing(Status::RANGE_NOT_SATISFIABLE, kept, manner, sink)
        }
        Selection::Part(range) => {
            let length = kept.body_bytes;
            put_part(
                kept,
                &head,
                (range, range.start, Some(length)),
                manner,
                sink,
            )
        }
        Selection::Parts(ranges) => put_parts(kept, &head, &ranges, manner, sink),
    }
}

/// Answers from a part, to a request that it answers ([`from_part`]).
fn put_of_part(
    kept: &Kept,
    part: &Part,
    request: &RequestHead<'_>,
    manner: Manner<'_>,
    sink: &mut Sink<'_>,
) -> Answered {
    sink.scratch.clear();
    if let Some(head) = parse_head(&kept.head) {
        match partial::selection(request, &head.headers, part) {
            FromPart::Range(range) => {
                let at = range.start - part.range.start;
                return put_part(kept, &head, (range, at, part.total), manner, sink);
            }
            FromPart::NotModified => return put_not_modified(kept, &head, manner, sink),
            FromPart::Missing => {}
        }
    }
    // Nobody asks for this: a part is never made to look like more than it is.
    debug_assert!(false, "a part that does not answer the request");
    put_status_line(sink.scratch, Status::GATEWAY_TIMEOUT);
    put_header(sink.scratch, "Content-Length", "0");
    put_nothing(Status::GATEWAY_TIMEOUT, kept, manner, sink)
}

fn put_not_modified(
    kept: &Kept,
    head: &ResponseHead<'_>,
    manner: Manner<'_>,
    sink: &mut Sink<'_>,
) -> Answered {
    put_status_line(sink.scratch, Status::NOT_MODIFIED);
    put_lines(sink.scratch, head, None, |name| {
        OF_NOT_MODIFIED
            .iter()
            .any(|of| name.eq_ignore_ascii_case(of))
    });
    put_nothing(Status::NOT_MODIFIED, kept, manner, sink)
}

fn put_nothing(status: Status, kept: &Kept, manner: Manner<'_>, sink: &mut Sink<'_>) -> Answered {
    put_own_lines(sink.scratch, &kept.terms, manner);
    sink.put_scratch();
    Answered {
        status,
        body_bytes: 0,
    }
}

/// Answers with a range of a representation of `total` bytes, which stands at `at` in what is kept.
fn put_part(
    kept: &Kept,
    head: &ResponseHead<'_>,
    (range, at, total): (ByteRange, u64, Option<u64>),
    manner: Manner<'_>,
    sink: &mut Sink<'_>,
) -> Answered {
    put_range_head(sink.scratch, head, (range, total), manner.address_bar);
    put_own_lines(sink.scratch, &kept.terms, manner);
    sink.put_scratch();
    put_body(&kept.body, at, range.len(), sink.tx, sink.pool);
    Answered {
        status: Status::PARTIAL_CONTENT,
        body_bytes: range.len(),
    }
}

/// Writes the head of a range, but for what it says of this very answer.
fn put_range_head(
    out: &mut Vec<u8>,
    head: &ResponseHead<'_>,
    (range, total): (ByteRange, Option<u64>),
    address_bar: Option<&Origin>,
) {
    put_status_line(out, Status::PARTIAL_CONTENT);
    put_lines(out, head, address_bar, |name| {
        !name.eq_ignore_ascii_case(b"content-range")
    });
    out.extend_from_slice(b"Content-Range: ");
    partial::put_range_of(out, range, total);
    out.extend_from_slice(b"\r\n");
    put_header_number(out, "Content-Length", range.len());
}

fn put_parts(
    kept: &Kept,
    head: &ResponseHead<'_>,
    ranges: &[ByteRange],
    manner: Manner<'_>,
    sink: &mut Sink<'_>,
) -> Answered {
    let content_type = head.headers.first("content-type").unwrap_or_default();
    let content_type = str::from_utf8(content_type).unwrap_or("application/octet-stream");
    // The key is the hash of a text with a secret: what is kept cannot foresee the boundary.
    let seed = (kept.key.0 >> 64) as u64 ^ kept.key.0 as u64 ^ manner.now_s as u64;
    let parts = Multipart::new(seed, content_type, kept.body_bytes);
    let body_bytes = parts.body_bytes(ranges);
    put_status_line(sink.scratch, Status::PARTIAL_CONTENT);
    put_lines(sink.scratch, head, manner.address_bar, |name| {
        !name.eq_ignore_ascii_case(b"content-type")
    });
    sink.scratch.extend_from_slice(b"Content-Type: ");
    parts.put_content_type(sink.scratch);
    sink.scratch.extend_from_slice(b"\r\n");
    put_header_number(sink.scratch, "Content-Length", body_bytes);
    put_own_lines(sink.scratch, &kept.terms, manner);
    for &range in ranges {
        parts.put_part_head(sink.scratch, range);
        sink.put_scratch();
        sink.scratch.clear();
        put_body(&kept.body, range.start, range.len(), sink.tx, sink.pool);
    }
    parts.put_end(sink.scratch);
    sink.put_scratch();
    Answered {
        status: Status::PARTIAL_CONTENT,
        body_bytes,
    }
}

/// Writes the stored lines that are wanted, but for those that say how long the body and how old
/// the response is.
fn put_lines(
    out: &mut Vec<u8>,
    head: &ResponseHead<'_>,
    address_bar: Option<&Origin>,
    is_wanted: impl Fn(&[u8]) -> bool,
) {
    let is_made_anew = |name: &[u8]| {
        name.eq_ignore_ascii_case(b"age") || name.eq_ignore_ascii_case(b"content-length")
    };
    let wanted = head.headers.end_to_end_lines();
    let wanted = wanted.filter(|(name, _)| !is_made_anew(name) && is_wanted(name));
    heads::put_lines_of(out, wanted, address_bar);
    if address_bar.is_some() {
        out.extend_from_slice(heads::SANDBOX);
    }
}
