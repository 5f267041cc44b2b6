//! What a request asks of a cache (RFC 9111 sections 5.2.1 and 5.4, RFC 5861 section 4).

use super::super::Method;
use super::super::head::RequestHead;
use super::control::directives;
use super::delta_seconds;

/// What a request asks of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Asks {
    /// `max-age`: the response is to be no older.
    pub max_age_s: Option<u32>,
    /// `min-fresh`: it is to stay fresh for so long.
    pub min_fresh_s: Option<u32>,
    /// `max-stale`: it may have been stale for so long; `u32::MAX` without a value.
    pub max_stale_s: Option<u32>,
    /// `stale-if-error`: it may have been stale for so long if the origin fails.
    pub stale_if_error_s: Option<u32>,
    /// `no-cache`, also that of `Pragma` where there is no `Cache-Control`.
    pub no_cache: bool,
    /// `no-store`: nothing of the response is to be kept.
    pub no_store: bool,
    /// `only-if-cached`: no origin is to be asked.
    pub only_if_cached: bool,
    /// Whether there is an `Authorization`.
    pub authorized: bool,
    /// Whether the method is one that a stored response can answer: GET or HEAD.
    pub reads: bool,
    /// Whether there is a condition that only the origin can judge: `If-Match`,
    /// `If-Unmodified-Since` (RFC 9111 section 4.3.2).
    pub for_origin: bool,
    /// Whether there is a condition that a stored response can answer: `If-None-Match`,
    /// `If-Modified-Since`.
    pub conditional: bool,
    /// Whether there is a `Range`, which a stored response can answer for GET.
    pub ranged: bool,
}

impl Asks {
    /// Reads a request. Allocates nothing; costs eight look-ups, most of which a filter answers.
    #[must_use]
    pub fn of(request: &RequestHead<'_>) -> Self {
        let headers = &request.headers;
        let mut asks = Self {
            authorized: headers.contains("authorization"),
            reads: matches!(request.method, Method::Get | Method::Head),
            for_origin: headers.contains("if-match") || headers.contains("if-unmodified-since"),
            conditional: headers.contains("if-none-match") || headers.contains("if-modified-since"),
            ranged: request.method == Method::Get && headers.contains("range"),
            ..Self::default()
        };
        if headers.contains("cache-control") {
            for directive in directives(headers, "cache-control") {
                asks.take(directive.name, directive.argument);
            }
        } else if headers.contains("pragma") {
            let mut pragmas = directives(headers, "pragma");
            asks.no_cache = pragmas.any(|one| one.name.eq_ignore_ascii_case(b"no-cache"));
        }
        asks
    }

    /// Takes a directive in. Of one that is repeated the first counts; an age that cannot be read
    /// is none at all, a permission that cannot be read is not given.
    fn take(&mut self, name: &[u8], argument: Option<&[u8]>) {
        let is = |directive: &str| name.eq_ignore_ascii_case(directive.as_bytes());
        let seconds = argument.and_then(delta_seconds);
        match name.len() {
            7 if is("max-age") => {
                self.max_age_s.get_or_insert(seconds.unwrap_or(0));
            }
            8 if is("no-cache") => self.no_cache = true,
            8 if is("no-store") => self.no_store = true,
            9 if is("min-fresh") => self.min_fresh_s = self.min_fresh_s.or(seconds),
            9 if is("max-stale") => {
                let any = argument.is_none().then_some(u32::MAX);
                self.max_stale_s = self.max_stale_s.or(seconds).or(any);
            }
            14 if is("only-if-cached") => self.only_if_cached = true,
            14 if is("stale-if-error") => {
                self.stale_if_error_s = self.stale_if_error_s.or(seconds);
            }
            _ => {}
        }
    }
}
