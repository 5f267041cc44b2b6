//! Whether a stored response answers a request (RFC 9111 sections 4, 4.2.4 and 5.2.1; RFC 5861).
//!
//! A stale response is sent only where somebody allows it (`max-stale`, `stale-while-revalidate`,
//! `stale-if-error`, or an origin that cannot be reached), and never where the response forbids it:
//! `must-revalidate`, `proxy-revalidate`, `no-cache`, and `s-maxage`, which means `proxy-revalidate`
//! as well (section 5.2.2.10), whatever stands beside them. Nor where the request asks for a
//! validated or a young one.

use super::super::Status;
use super::freshness::Demands;
use super::{Asks, Rules, Terms};

/// What a stored response that matches a request is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reuse {
    /// Send it: it is fresh.
    Fresh,
    /// Send it, although it is stale.
    Stale(Permission),
    /// Ask the origin first.
    Validate(Need),
    /// Answer 504: it would need a validation, and the request says `only-if-cached` (RFC 9111
    /// section 5.2.1.7).
    Unavailable,
    /// The request is not one that a cache answers: another method than GET and HEAD, or a
    /// condition for the origin. It goes there as it is, `only-if-cached` or not.
    Pass,
}

/// Who allows that a stale response is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Permission {
    /// The request, by `max-stale`.
    MaxStale,
    /// The response, by `stale-while-revalidate`: it is to be validated behind the client's back.
    WhileRevalidate,
}

/// Why a response has to be validated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// It is stale.
    Stale,
    /// It says `no-cache`.
    NoCache,
    /// The request asks for it: `no-cache`, `max-age`, `min-fresh`.
    Request,
}

/// What becomes of a request for which a matching response is stored. Allocates nothing.
#[must_use]
pub fn reuse(terms: &Terms, asks: &Asks, now_s: i64) -> Reuse {
    if !asks.reads || asks.for_origin {
        return Reuse::Pass;
    }
    match judge(terms, asks, now_s) {
        Reuse::Validate(_) if asks.only_if_cached => Reuse::Unavailable,
        judged => judged,
    }
}

/// What becomes of a request for which nothing is stored.
#[must_use]
pub fn without_stored(asks: &Asks) -> Reuse {
    match (asks.reads && !asks.for_origin, asks.only_if_cached) {
        (true, true) => Reuse::Unavailable,
        (true, false) => Reuse::Validate(Need::Stale),
        (false, _) => Reuse::Pass,
    }
}

fn judge(terms: &Terms, asks: &Asks, now_s: i64) -> Reuse {
    if terms.demands() == Demands::Validation {
        return Reuse::Validate(Need::NoCache);
    }
    let age_s = terms.age_s(now_s);
    let is_too_old = asks
        .max_age_s
        .is_some_and(|max_s| age_s > max_s || max_s == 0);
    if asks.no_cache || is_too_old {
        return Reuse::Validate(Need::Request);
    }
    let Some(stale_for_s) = terms.stale_for_s(now_s) else {
        let fresh_for_s = terms.fresh_for_s(now_s);
        return match asks.min_fresh_s {
            Some(min_s) if fresh_for_s < i64::from(min_s) => Reuse::Validate(Need::Request),
            _ => Reuse::Fresh,
        };
    };
    if terms.demands() == Demands::Nothing && asks.min_fresh_s.is_none() {
        if asks.max_stale_s.is_some_and(|max_s| stale_for_s <= max_s) {
            return Reuse::Stale(Permission::MaxStale);
        }
        if asks.max_age_s.is_none() && stale_for_s < terms.while_revalidate_s() {
            return Reuse::Stale(Permission::WhileRevalidate);
        }
    }
    Reuse::Validate(Need::Stale)
}

/// How an origin failed to validate a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// No response came: no address, no connection, a time-out, a connection that ended early.
    Unreachable,
    /// This came.
    Status(Status),
}

impl Failure {
    /// The failure that a response is, if it is one of those that RFC 5861 section 4 counts.
    #[must_use]
    pub fn of(status: Status) -> Option<Self> {
        matches!(status.code(), 500 | 502 | 503 | 504).then_some(Self::Status(status))
    }
}

/// Whether a stored response may be sent stale since its origin failed: by `stale-if-error` (RFC
/// 5861 section 4) of the response or the request, or, where no response came, within
/// [`Rules::stale_if_unreachable_s`] (RFC 9111 section 4.2.4).
#[must_use]
pub fn may_send_stale(
    terms: &Terms,
    asks: &Asks,
    failure: Failure,
    now_s: i64,
    rules: &Rules,
) -> bool {
    let asks_for_fresh = asks.no_cache || asks.max_age_s.is_some() || asks.min_fresh_s.is_some();
    if terms.demands() != Demands::Nothing || asks_for_fresh || !asks.reads || asks.for_origin {
        return false;
    }
    let stale_for_s = terms.stale_for_s(now_s).unwrap_or(0);
    let by_rule_s = match failure {
        Failure::Unreachable => Some(rules.stale_if_unreachable_s),
        Failure::Status(_) => None,
    };
    // Where the response says for how long, that is it.
    let allowed_s = terms.if_error_s().or(by_rule_s);
    allowed_s
        .max(asks.stale_if_error_s)
        .is_some_and(|span_s| stale_for_s < span_s)
}
