//! The HTTP/1.1 codecs: pure functions and small state machines over byte slices.
//!
//! What it is: everything that a file server, a proxy and a client must agree on about the bytes of
//! HTTP, and nothing that knows of sockets, files or clocks. Times come in as seconds since the
//! Unix epoch.
//!
//! Rules:
//! 1. A message whose end could be read in two ways is refused, never guessed (RFC 9112 sections
//!    6.3 and 11.2).
//! 2. The outcome depends on the bytes alone, not on how the network split them.
//! 3. No input panics, and none allocates on the path of an ordinary request.
//!
//! In reading order: [`head`], [`target`] and [`body`] frame messages; [`path`], [`conditional`],
//! [`range`], [`negotiate`] and [`mime`] decide what a request asks for, [`basic`] and
//! [`same_site`] who asks, [`cors`] which pages may read the answer; [`redirect`] knows what has
//! moved; [`caching`] which answers may be kept and sent again; [`forwarded`] tells who asks
//! through a proxy, and [`proxy_status`] why one has no answer; [`plain`] answers requests where TLS
//! was expected; [`compress`] writes content codings; [`glob`] matches paths and [`host_pattern`]
//! hosts; [`date`] prints and reads time stamps.
//!
//! Not here: HTTP/2 and later (an `Upgrade` to it is tolerated and ignored), cookies.

pub mod basic;
pub mod body;
pub mod caching;
pub mod compress;
pub mod conditional;
pub mod cors;
pub mod date;
pub mod disposition;
pub mod forwarded;
pub mod glob;
pub mod head;
pub mod headers;
pub mod host_pattern;
pub mod mime;
pub mod negotiate;
pub mod path;
pub mod persistence;
pub mod plain;
pub mod proxy_status;
pub mod range;
pub mod redirect;
pub mod same_site;
pub mod select;
pub mod target;

use std::fmt;

/// A request method (RFC 9110 section 9). Unknown ones are borrowed from the head; a method's name
/// is case-sensitive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The nine names say it all.
pub enum Method<'b> {
    Get,
    Head,
    Post,
    Put,
    Delete,
    Connect,
    Options,
    Trace,
    Patch,
    /// Any other token, as it stood in the request.
    Other(&'b str),
}

impl<'b> Method<'b> {
    /// The method named by `name`, or `None` when `name` is not a token.
    #[must_use]
    pub fn from_bytes(name: &'b [u8]) -> Option<Self> {
        Some(match name {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            _ if is_token(name) => Self::Other(str::from_utf8(name).ok()?),
            _ => return None,
        })
    }

    /// The name as it is written on the wire.
    #[must_use]
    pub fn as_str(self) -> &'b str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
            Self::Other(name) => name,
        }
    }

    /// Whether the request asks for nothing but an answer (RFC 9110 section 9.2.1).
    #[must_use]
    pub fn is_safe(self) -> bool {
        matches!(self, Self::Get | Self::Head | Self::Options | Self::Trace)
    }

    /// Whether sending the request twice does no more than sending it once (RFC 9110 section
    /// 9.2.2), so that it may be retried on a fresh connection.
    #[must_use]
    pub fn is_idempotent(self) -> bool {
        self.is_safe() || matches!(self, Self::Put | Self::Delete)
    }
}

impl fmt::Display for Method<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The protocol version of a message. A higher minor version than 1.1 is read as 1.1 (RFC 9110
/// section 2.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Version {
    /// `HTTP/1.0`: the connection ends after the answer unless both sides say otherwise; there is
    /// no chunked coding.
    Http10,
    /// `HTTP/1.1`.
    Http11,
}

impl Version {
    /// The version as it is written on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Http10 => "HTTP/1.0",
            Self::Http11 => "HTTP/1.1",
        }
    }
}

/// A three-digit status code, 100 to 599 (RFC 9110 section 15).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Status(u16);

#[allow(missing_docs)] // The names are the reason phrases.
impl Status {
    pub const CONTINUE: Self = Self(100);
    pub const SWITCHING_PROTOCOLS: Self = Self(101);
    pub const OK: Self = Self(200);
    pub const CREATED: Self = Self(201);
    pub const ACCEPTED: Self = Self(202);
    pub const NO_CONTENT: Self = Self(204);
    pub const PARTIAL_CONTENT: Self = Self(206);
    pub const MOVED_PERMANENTLY: Self = Self(301);
    pub const FOUND: Self = Self(302);
    pub const SEE_OTHER: Self = Self(303);
    pub const NOT_MODIFIED: Self = Self(304);
    pub const TEMPORARY_REDIRECT: Self = Self(307);
    pub const PERMANENT_REDIRECT: Self = Self(308);
    pub const BAD_REQUEST: Self = Self(400);
    pub const UNAUTHORIZED: Self = Self(401);
    pub const FORBIDDEN: Self = Self(403);
    pub const NOT_FOUND: Self = Self(404);
    pub const METHOD_NOT_ALLOWED: Self = Self(405);
    pub const PROXY_AUTHENTICATION_REQUIRED: Self = Self(407);
    pub const NOT_ACCEPTABLE: Self = Self(406);
    pub const REQUEST_TIMEOUT: Self = Self(408);
    pub const PRECONDITION_FAILED: Self = Self(412);
    pub const CONTENT_TOO_LARGE: Self = Self(413);
    pub const URI_TOO_LONG: Self = Self(414);
    pub const RANGE_NOT_SATISFIABLE: Self = Self(416);
    pub const EXPECTATION_FAILED: Self = Self(417);
    pub const MISDIRECTED_REQUEST: Self = Self(421);
    pub const UPGRADE_REQUIRED: Self = Self(426);
    pub const TOO_MANY_REQUESTS: Self = Self(429);
    pub const REQUEST_HEADER_FIELDS_TOO_LARGE: Self = Self(431);
    pub const INTERNAL_SERVER_ERROR: Self = Self(500);
    pub const NOT_IMPLEMENTED: Self = Self(501);
    pub const BAD_GATEWAY: Self = Self(502);
    pub const SERVICE_UNAVAILABLE: Self = Self(503);
    pub const GATEWAY_TIMEOUT: Self = Self(504);
    pub const HTTP_VERSION_NOT_SUPPORTED: Self = Self(505);
    pub const INSUFFICIENT_STORAGE: Self = Self(507);
    pub const LOOP_DETECTED: Self = Self(508);
}

impl Status {
    /// The status with this code, or `None` outside 100 to 999. Those from 600 on mean nothing, but
    /// are sent (RFC 9110 section 15).
    #[must_use]
    pub fn from_code(code: u16) -> Option<Self> {
        (100..=999).contains(&code).then_some(Self(code))
    }

    /// The code as a number.
    #[must_use]
    pub fn code(self) -> u16 {
        self.0
    }

    /// Whether the response is an interim one (1xx), to be followed by another on the same
    /// exchange.
    #[must_use]
    pub fn is_interim(self) -> bool {
        self.0 < 200
    }

    /// Whether a response with this status never has a body (1xx, 204, 304; RFC 9112 section 6.3).
    #[must_use]
    pub fn is_bodyless(self) -> bool {
        self.is_interim() || self.0 == 204 || self.0 == 304
    }

    /// The reason phrase registered with IANA, or `Unknown`. Long because it is their table.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self.0 {
            100 => "Continue",
            101 => "Switching Protocols",
            102 => "Processing",
            103 => "Early Hints",
            200 => "OK",
            201 => "Created",
            202 => "Accepted",
            203 => "Non-Authoritative Information",
            204 => "No Content",
            205 => "Reset Content",
            206 => "Partial Content",
            207 => "Multi-Status",
            208 => "Already Reported",
            226 => "IM Used",
            300 => "Multiple Choices",
            301 => "Moved Permanently",
            302 => "Found",
            303 => "See Other",
            304 => "Not Modified",
            305 => "Use Proxy",
            307 => "Temporary Redirect",
            308 => "Permanent Redirect",
            400 => "Bad Request",
            401 => "Unauthorized",
            402 => "Payment Required",
            403 => "Forbidden",
            404 => "Not Found",
            405 => "Method Not Allowed",
            406 => "Not Acceptable",
            407 => "Proxy Authentication Required",
            408 => "Request Timeout",
            409 => "Conflict",
            410 => "Gone",
            411 => "Length Required",
            412 => "Precondition Failed",
            413 => "Content Too Large",
            414 => "URI Too Long",
            415 => "Unsupported Media Type",
            416 => "Range Not Satisfiable",
            417 => "Expectation Failed",
            421 => "Misdirected Request",
            422 => "Unprocessable Content",
            423 => "Locked",
            424 => "Failed Dependency",
            425 => "Too Early",
            426 => "Upgrade Required",
            428 => "Precondition Required",
            429 => "Too Many Requests",
            431 => "Request Header Fields Too Large",
            451 => "Unavailable For Legal Reasons",
            500 => "Internal Server Error",
            501 => "Not Implemented",
            502 => "Bad Gateway",
            503 => "Service Unavailable",
            504 => "Gateway Timeout",
            505 => "HTTP Version Not Supported",
            506 => "Variant Also Negotiates",
            507 => "Insufficient Storage",
            508 => "Loop Detected",
            511 => "Network Authentication Required",
            _ => "Unknown",
        }
    }
}

impl fmt::Display for Status {
    /// Writes the code and the reason phrase: `404 Not Found`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.0, self.reason())
    }
}

/// Whether `byte` may stand in a token (RFC 9110 section 5.6.2).
#[inline]
#[must_use]
pub fn is_token_byte(byte: u8) -> bool {
    const TOKEN: [bool; 256] = byte_class(b"!#$%&'*+-.^_`|~", true);
    TOKEN[usize::from(byte)]
}

/// Whether `text` is a token: at least one byte, all of them token bytes.
#[must_use]
pub fn is_token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|&byte| is_token_byte(byte))
}

/// `text` without the blanks and tabs around it (OWS, RFC 9110 section 5.6.3).
#[inline]
#[must_use]
pub fn trim_ows(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] = text {
        text = rest;
    }
    while let [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// The non-empty elements of a comma-separated list without quoted strings (RFC 9110 section
/// 5.6.1).
pub fn list_elements(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value
        .split(|&byte| byte == b',')
        .map(trim_ows)
        .filter(|element| !element.is_empty())
}

/// `text` read as a decimal number of digits only: no sign, no blank, at most 20 digits; `None`
/// also on overflow of `u64`.
#[must_use]
pub fn parse_decimal(text: &[u8]) -> Option<u64> {
    if text.is_empty() || text.len() > 20 {
        return None;
    }
    text.iter().try_fold(0u64, |number, &byte| {
        let digit = byte.is_ascii_digit().then(|| u64::from(byte - b'0'))?;
        number.checked_mul(10)?.checked_add(digit)
    })
}

/// Appends `number` in decimal, without going through the formatting machinery.
pub fn put_decimal(out: &mut Vec<u8>, number: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(number).as_bytes());
}

/// How many decimal digits `number` has.
#[must_use]
pub fn decimal_len(number: u64) -> usize {
    number.checked_ilog10().map_or(1, |log| log as usize + 1)
}

/// A table of the bytes in `extra`, with ASCII letters and digits when `alphanumeric` is set.
const fn byte_class(extra: &[u8], alphanumeric: bool) -> [bool; 256] {
    let mut class = [false; 256];
    let mut byte = 0;
    while byte < 128 {
        class[byte] = alphanumeric && (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut index = 0;
    while index < extra.len() {
        class[extra[index] as usize] = true;
        index += 1;
    }
    class
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn method_names_are_case_sensitive_tokens() {
        for name in [
            "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH", "BREW",
            "get",
        ] {
            assert_eq!(
                Method::from_bytes(name.as_bytes()).map(Method::as_str),
                Some(name)
            );
        }
        assert_eq!(Method::from_bytes(b"get"), Some(Method::Other("get")));
        for bad in [&b""[..], b"G@T", b"GE T", b"GET\0", b"G\xc3\x89T"] {
            assert_eq!(Method::from_bytes(bad), None);
        }
    }

    #[test]
    fn decimal_is_digits_only_and_bounded() {
        assert_eq!(parse_decimal(b"18446744073709551615"), Some(u64::MAX));
        for bad in [
            "",
            "18446744073709551616",
            "+1",
            "-1",
            " 1",
            "1 ",
            "0x1",
            "1_0",
            "000000000000000000001",
        ] {
            assert_eq!(parse_decimal(bad.as_bytes()), None, "{bad:?}");
        }
        for number in [0, 9, 10, 99, 100, u64::MAX] {
            let mut out = Vec::new();
            put_decimal(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
            assert_eq!(decimal_len(number), out.len());
        }
    }

    #[test]
    fn status_prints_code_and_reason() {
        assert_eq!(Status::NOT_FOUND.to_string(), "404 Not Found");
        assert_eq!(Status::from_code(99), None);
        assert_eq!(Status::from_code(1000), None);
        assert!(Status::from_code(103).is_some_and(Status::is_bodyless));
    }
}
