//! The heads that the proxy writes: requests to origins, responses to clients.
//!
//! RFC 9110 sections 7.6 (what is forwarded), 7.6.3 (Via); RFC 9112 sections 3.2 (targets), 6
//! (framing), 9.6 (close).
//!
//! The lines that are passed on are copied as they came, in their order; only what speaks of one
//! connection is made anew.

use std::net::IpAddr;
use std::time::SystemTime;

use super::route::{Form, Origin, Route};
use super::upgrade;
use crate::http::caching::status::CacheStatus;
use crate::http::caching::{partial, validation};
use crate::http::date::{self, Date};
use crate::http::forwarded::{self, Fields, Hop};
use crate::http::head::{
    BodyLength, Headers, RequestHead, ResponseHead, put_head_end, put_header, put_header_number,
    put_status_and_reason,
};
use crate::http::persistence::Persistence;
use crate::http::{Method, Status, Version, parse_decimal, trim_ows};
use crate::services::web::reply::SERVER;

/// Headers of an address-bar request that speak of this proxy's origin, which all address-bar pages
/// share in the browser, with every other server of the same host as far as cookies go. They are
/// nobody else's business.
const OF_OUR_ORIGIN: [&[u8]; 4] = [b"cookie", b"authorization", b"referer", b"origin"];

/// Headers of a response that would change what the browser keeps for that origin.
const FOR_OUR_ORIGIN: [&[u8]; 3] = [b"set-cookie", b"set-cookie2", b"clear-site-data"];

/// Address-bar pages run no scripts: one would read the cookies of this host and what other pages
/// of ours keep and show. An origin of its own for each page (a sandbox without
/// `allow-same-origin`) would let them run, but takes away the `Referer` by which links find their
/// host, and makes each image look as if a page of another site asked for it (Chromium 156).
pub(super) const SANDBOX: &[u8] = b"Content-Security-Policy: sandbox allow-same-origin allow-forms allow-popups allow-downloads\r\n";

fn is_one_of(name: &[u8], names: &[&[u8]]) -> bool {
    names.iter().any(|other| name.eq_ignore_ascii_case(other))
}

/// How a request is written to its origin.
#[derive(Debug, Clone, Copy)]
pub(super) struct RequestManner<'a> {
    /// A header that is for nobody behind us.
    pub(super) hidden: Option<&'static str>,
    pub(super) pseudonym: &'a str,
    /// In which fields the origin is told of the client.
    pub(super) forwarded: Fields,
    /// The peer is believed in what it says in them.
    pub(super) is_trusted: bool,
    pub(super) peer: Option<IpAddr>,
    /// By which the request came.
    pub(super) scheme: &'static str,
    /// The response may be kept.
    pub(super) is_for_others: bool,
}

impl RequestManner<'_> {
    /// Writes what the origin is told of the client.
    fn put_forwarded(&self, out: &mut Vec<u8>, head: &RequestHead<'_>) {
        let hop = Hop {
            peer: self.peer,
            scheme: self.scheme,
            host: head.headers.first("host"),
            is_for_others: self.is_for_others,
        };
        let before = self.is_trusted.then_some(&head.headers);
        forwarded::put(out, self.forwarded, before, &hop);
    }
}

/// Writes the head of a request as the origin is to see it.
pub(super) fn put_request(
    out: &mut Vec<u8>,
    head: &RequestHead<'_>,
    route: &Route<'_>,
    manner: &RequestManner<'_>,
) {
    let hidden = manner.hidden;
    // What tells of the client is made anew, or passed on from one who is believed.
    let keeps_forwarded = manner.is_trusted && manner.forwarded == Fields::Off;
    out.extend_from_slice(head.method.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(route.path.as_bytes());
    if let Some(query) = route.query {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\nHost: ");
    out.extend_from_slice(route.authority.as_bytes());
    out.extend_from_slice(b"\r\n");
    let counts_hops = matches!(head.method, Method::Options | Method::Trace);
    let address_bar = route.form == Form::AddressBar;
    for (name, line) in head.headers.end_to_end_lines() {
        match name.len() {
            _ if address_bar && is_one_of(name, &OF_OUR_ORIGIN) => {}
            _ if hidden.is_some_and(|hidden| name.eq_ignore_ascii_case(hidden.as_bytes())) => {}
            4 if name.eq_ignore_ascii_case(b"host") => {}
            9.. if !keeps_forwarded && forwarded::is_field(name) => {}
            12 if counts_hops && name.eq_ignore_ascii_case(b"max-forwards") => {
                put_fewer_forwards(out, name, line);
            }
            _ => put_line(out, line),
        }
    }
    manner.put_forwarded(out, head);
    put_via(out, head.version, manner.pseudonym);
    if upgrade::is_asked(head, route.form) {
        upgrade::put(out, &head.headers);
    }
    if head.body == BodyLength::Chunked {
        put_chunked(out);
    }
    put_head_end(out);
}

/// One hop less; what is no number is passed on as it is (RFC 9110 section 7.6.2).
fn put_fewer_forwards(out: &mut Vec<u8>, name: &[u8], line: &[u8]) {
    match parse_decimal(trim_ows(&line[name.len() + 1..])) {
        Some(hops) => put_header_number(out, "Max-Forwards", hops.saturating_sub(1)),
        None => put_line(out, line),
    }
}

/// How a response is written to the client.
#[derive(Debug, Clone, Copy)]
pub(super) struct Manner<'a> {
    /// The body goes in the chunked coding.
    pub(super) chunked: bool,
    pub(super) persistence: Persistence,
    /// The origin, where the request had the address-bar form: redirects are to stay there, and
    /// cookies are not.
    pub(super) address_bar: Option<&'a Origin>,
    /// When it was received: the date of a response that has none.
    pub(super) wall: SystemTime,
    /// What the cache did.
    pub(super) cache: Option<CacheStatus<'a>>,
}

/// Writes the head of a final response as the client is to see it.
pub(super) fn put_response(
    out: &mut Vec<u8>,
    head: &ResponseHead<'_>,
    manner: Manner<'_>,
    pseudonym: &str,
) {
    put_status_and_reason(out, head.status, head.reason);
    let is_dated = put_response_lines(out, head, manner.address_bar);
    if manner.address_bar.is_some() {
        out.extend_from_slice(SANDBOX);
    }
    if !is_dated {
        put_date(out, manner.wall); // RFC 9110 section 6.6.1
    }
    put_via(out, head.version, pseudonym);
    if let Some(status) = &manner.cache {
        status.put_line(out, SERVER);
    }
    if manner.chunked {
        put_chunked(out);
    }
    // RFC 9110 section 15.5.22: what to upgrade to is all that this status says.
    if head.status == Status::UPGRADE_REQUIRED && upgrade::is_named(&head.headers) {
        upgrade::put(out, &head.headers);
    }
    out.extend_from_slice(manner.persistence.line());
    put_head_end(out);
}

/// Writes the head of an interim response (1xx).
pub(super) fn put_interim(
    out: &mut Vec<u8>,
    head: &ResponseHead<'_>,
    address_bar: Option<&Origin>,
    pseudonym: &str,
) {
    put_status_and_reason(out, head.status, head.reason);
    put_response_lines(out, head, address_bar);
    put_via(out, head.version, pseudonym);
    if head.status == Status::SWITCHING_PROTOCOLS {
        upgrade::put(out, &head.headers);
    }
    put_head_end(out);
}

/// Writes the lines that are passed on. Whether a date was among them.
fn put_response_lines(
    out: &mut Vec<u8>,
    head: &ResponseHead<'_>,
    address_bar: Option<&Origin>,
) -> bool {
    // RFC 9110 section 8.6: no length where there is never a body; some clients would wait for it.
    let lengthless = head.status.is_interim() || head.status == Status::NO_CONTENT;
    let is_left_out = |name: &[u8]| lengthless && name.eq_ignore_ascii_case(b"content-length");
    let lines = head.headers.end_to_end_lines();
    put_lines_of(
        out,
        lines.filter(|(name, _)| !is_left_out(name)),
        address_bar,
    )
}

/// Writes lines of a response. Whether a date was among them.
pub(super) fn put_lines_of<'b>(
    out: &mut Vec<u8>,
    lines: impl Iterator<Item = (&'b [u8], &'b [u8])>,
    address_bar: Option<&Origin>,
) -> bool {
    let mut is_dated = false;
    for (name, line) in lines {
        is_dated |= name.eq_ignore_ascii_case(b"date");
        match (name.len(), address_bar) {
            (8, Some(origin)) if name.eq_ignore_ascii_case(b"location") => {
                let value = trim_ows(&line[name.len() + 1..]);
                put_location(out, value, origin);
            }
            (_, Some(_)) if is_one_of(name, &FOR_OUR_ORIGIN) => {}
            _ => put_line(out, line),
        }
    }
    is_dated
}

/// Writes the head of a request that was written before with conditions in the place of its own:
/// the origin is asked whether what is kept is still true. `is_part`: that is a part, so if it is
/// not, the same range of what it has become is wanted, as the client's `If-Range` says.
pub(super) fn put_validating(out: &mut Vec<u8>, head: &[u8], kept: &Headers<'_>, is_part: bool) {
    put_lines_but(out, head, |name| match is_range(name) {
        true => !is_part,
        false => validation::is_condition(name),
    });
    validation::put_conditions(out, kept);
    put_head_end(out);
}

/// Writes the head of a request that was written before for another range: what is missing from the
/// part that is kept.
pub(super) fn put_completing(
    out: &mut Vec<u8>,
    head: &[u8],
    kept: &Headers<'_>,
    missing: (u64, Option<u64>),
) {
    put_lines_but(out, head, |name| {
        is_range(name) || validation::is_condition(name)
    });
    partial::put_range(out, kept, missing);
    put_head_end(out);
}

fn is_range(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"range") || name.eq_ignore_ascii_case(b"if-range")
}

fn put_lines_but(out: &mut Vec<u8>, head: &[u8], is_left_out: impl Fn(&[u8]) -> bool) {
    let lines = head.split_inclusive(|&byte| byte == b'\n');
    for line in lines.filter(|line| *line != b"\r\n") {
        let name = line.split(|&byte| byte == b':').next().unwrap_or_default();
        if !is_left_out(name) {
            out.extend_from_slice(line);
        }
    }
}

/// Writes where a redirect leads in the form in which the browser asked us.
fn put_location(out: &mut Vec<u8>, value: &[u8], origin: &Origin) {
    out.extend_from_slice(b"Location: ");
    match value {
        [b'/', b'/', rest @ ..] => {
            put_page(out, origin);
            out.extend_from_slice(rest);
        }
        [b'/', ..] => {
            put_page(out, origin);
            out.extend_from_slice(origin.authority.as_bytes());
            out.extend_from_slice(value);
        }
        _ => match value.split_at_checked(7) {
            Some((scheme, rest)) if scheme.eq_ignore_ascii_case(b"http://") => {
                out.push(b'/');
                out.extend_from_slice(rest);
            }
            Some((scheme, _)) if scheme.eq_ignore_ascii_case(b"https:/") => {
                out.push(b'/');
                out.extend_from_slice(value);
            }
            _ => out.extend_from_slice(value),
        },
    }
    out.extend_from_slice(b"\r\n");
}

/// What stands before the host in the address bar.
fn put_page(out: &mut Vec<u8>, origin: &Origin) {
    let page: &[u8] = if origin.tls { b"/https://" } else { b"/" };
    out.extend_from_slice(page);
}

fn put_line(out: &mut Vec<u8>, line: &[u8]) {
    out.extend_from_slice(line);
    out.extend_from_slice(b"\r\n");
}

fn put_date(out: &mut Vec<u8>, wall: SystemTime) {
    put_header(out, "Date", Date::new(date::unix_s(wall)).as_bytes());
}

fn put_via(out: &mut Vec<u8>, version: Version, pseudonym: &str) {
    out.extend_from_slice(match version {
        Version::Http10 => b"Via: 1.0 ",
        Version::Http11 => b"Via: 1.1 ",
    });
    out.extend_from_slice(pseudonym.as_bytes());
    out.extend_from_slice(b"\r\n");
}

pub(super) fn put_chunked(out: &mut Vec<u8>) {
    out.extend_from_slice(b"Transfer-Encoding: chunked\r\n");
}
