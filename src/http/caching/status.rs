//! `Cache-Status`: what this cache did with a request (RFC 9211).
//!
//! Written as a line of its own behind those of the caches before us: the list goes from the origin
//! to the client.

use super::super::{Status, is_token_byte, put_decimal};

/// What was done with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Handled {
    /// Answered from the store without asking anybody.
    Hit,
    /// Passed on, and why.
    Forwarded(Because),
}

/// Why a request was passed on (RFC 9211 section 2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// This cache was told not to look at it.
    Bypass,
    /// Its method.
    Method,
    /// Nothing is stored for its URL.
    UriMiss,
    /// What is stored for its URL was for other requests.
    VaryMiss,
    /// Nothing is stored for it, for one of these two reasons.
    Miss,
    /// What is stored is fresh, but the request wanted it validated.
    Request,
    /// What is stored is stale.
    Stale,
    /// Only a part of what it asks for is stored.
    Partial,
}

impl Because {
    fn as_str(self) -> &'static str {
        match self {
            Self::Bypass => "bypass",
            Self::Method => "method",
            Self::UriMiss => "uri-miss",
            Self::VaryMiss => "vary-miss",
            Self::Miss => "miss",
            Self::Request => "request",
            Self::Stale => "stale",
            Self::Partial => "partial",
        }
    }
}

/// A member of `Cache-Status`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheStatus<'a> {
    /// What was done.
    pub handled: Handled,
    /// The status that the origin answered with.
    pub origin_status: Option<Status>,
    /// For how many seconds the response is fresh; negative: for how long it has been stale.
    pub ttl_s: Option<i64>,
    /// Whether the response was stored.
    pub stored: bool,
    /// Whether the request waited for one that was under way already.
    pub collapsed: bool,
    /// Anything else, for people.
    pub detail: Option<&'a str>,
}

impl CacheStatus<'_> {
    /// A member that says no more than what was done.
    #[must_use]
    pub fn new(handled: Handled) -> Self {
        Self {
            handled,
            origin_status: None,
            ttl_s: None,
            stored: false,
            collapsed: false,
            detail: None,
        }
    }

    /// Appends the header line. `cache` is the name of this cache.
    pub fn put_line(&self, out: &mut Vec<u8>, cache: &str) {
        out.extend_from_slice(b"Cache-Status: ");
        put_token_or_string(out, cache);
        match self.handled {
            Handled::Hit => out.extend_from_slice(b"; hit"),
            Handled::Forwarded(because) => {
                out.extend_from_slice(b"; fwd=");
                out.extend_from_slice(because.as_str().as_bytes());
            }
        }
        if let Some(status) = self.origin_status {
            out.extend_from_slice(b"; fwd-status=");
            put_decimal(out, u64::from(status.code()));
        }
        if self.stored {
            out.extend_from_slice(b"; stored");
        }
        if self.collapsed {
            out.extend_from_slice(b"; collapsed");
        }
        if let Some(ttl_s) = self.ttl_s {
            out.extend_from_slice(b"; ttl=");
            if ttl_s < 0 {
                out.push(b'-');
            }
            put_decimal(out, ttl_s.unsigned_abs());
        }
        if let Some(detail) = self.detail {
            out.extend_from_slice(b"; detail=");
            put_token_or_string(out, detail);
        }
        out.extend_from_slice(b"\r\n");
    }
}

/// Appends a structured token, or a string where the text is none (RFC 9651 sections 3.3.3 and
/// 3.3.4). What neither may have in it becomes `?`.
fn put_token_or_string(out: &mut Vec<u8>, text: &str) {
    let is_token = text.starts_with(|c: char| c.is_ascii_alphabetic() || c == '*')
        && text
            .bytes()
            .all(|byte| is_token_byte(byte) || matches!(byte, b':' | b'/'));
    if is_token {
        return out.extend_from_slice(text.as_bytes());
    }
    out.push(b'"');
    for byte in text.bytes() {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            b' '..=b'~' => out.push(byte),
            _ => out.push(b'?'),
        }
    }
    out.push(b'"');
}
