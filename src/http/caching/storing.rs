//! What may be stored, and which fields of it (RFC 9111 sections 3 and 3.1).

use super::super::head::{Headers, RequestHead, ResponseHead};
use super::super::target::Uri;
use super::super::{Method, Status, list_elements};
use super::asks::Asks;
use super::freshness::{Terms, is_explicit, is_heuristic};
use super::invalidation::names_target;
use super::targeted::{self, Policy};
use super::{Rules, Times, partial, vary};

/// Why a response is not stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NotStored {
    /// The method is none whose responses are reused. A response to HEAD updates what is stored
    /// ([`super::update`]), and has nothing to be stored itself.
    Method,
    /// A response to POST that does not say how long it is fresh and that it stands for its target
    /// (RFC 9110 section 9.3.3).
    Post,
    /// An interim response, or a 304, which belongs to what is stored.
    NotFinal,
    /// A status that we do not understand, under `must-understand` (RFC 9111 section 5.2.2.3).
    NotUnderstood,
    /// A status that speaks of this request, or of who sent it: of its conditions, its range, its
    /// expectations, or how often and by which connection it came. It says nothing of what others
    /// will get under the same URL, so it is not stored however long it is said to be fresh (RFC 9110
    /// sections 15.5.13, 15.5.17, 15.5.18 and 15.5.20; RFC 6585 forbids 428, 429, 431 and 511, RFC
    /// 8470 section 5.2 makes 425 of no use).
    OfThisRequest,
    /// A 206 that was not asked for, or is not about one range of bytes.
    Partial,
    /// The request says `no-store`.
    RequestNoStore,
    /// The response says `no-store`.
    NoStore,
    /// The response says `private`.
    Private,
    /// The request had an `Authorization`, and the response does not allow it (RFC 9111 section
    /// 3.5).
    Authorization,
    /// Nobody says that it may be reused: no lifetime, and a status that is not reused by itself.
    NotCacheable,
    /// It would be stale at once, and could not be validated.
    NoUse,
    /// `Vary: *`: no other request is known to match (RFC 9111 section 4.1).
    VaryStar,
    /// `Vary` names too many fields, or too long ones.
    VaryTooLong,
}

impl NotStored {
    /// A token that says it, for the `detail` of `Cache-Status` and for logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Post => "post",
            Self::NotFinal => "not-final",
            Self::OfThisRequest => "of-this-request",
            Self::NotUnderstood => "must-understand",
            Self::Partial => "partial",
            Self::RequestNoStore => "request-no-store",
            Self::NoStore => "no-store",
            Self::Private => "private",
            Self::Authorization => "authorization",
            Self::NotCacheable => "no-lifetime",
            Self::NoUse => "stale-at-once",
            Self::VaryStar => "vary-star",
            Self::VaryTooLong => "vary-too-long",
        }
    }
}

/// Why a response to GET or HEAD is not stored, if what is known of the request from [`Asks`] is
/// enough to tell: most of those that are not stored say so themselves. [`may_store`] has the same
/// conditions, and all others.
#[must_use]
pub fn objection(asks: &Asks, response: &ResponseHead<'_>, rules: &Rules) -> Option<NotStored> {
    let policy = Policy::under(&response.headers, rules);
    let directives = of_directives(asks, &policy);
    directives
        .and_then(|()| of_lifetime(response, &policy))
        .err()
}

/// Whether the response to a request for `target`, the URL at the origin, may be stored, and under
/// which terms it may then be reused.
/// The body is still to come: one that does not come whole is not stored either, or as
/// [`partial::Part`].
///
/// # Errors
/// Why it may not.
pub fn may_store(
    request: &RequestHead<'_>,
    target: &Uri<'_>,
    response: &ResponseHead<'_>,
    times: Times,
    rules: &Rules,
) -> Result<Terms, NotStored> {
    let policy = Policy::under(&response.headers, rules);
    let asks = Asks::of(request);
    of_method(request.method, target, response, &policy)?;
    of_status(request, response, &policy)?;
    of_directives(&asks, &policy)?;
    vary::check(&response.headers, &request.headers)?;
    of_lifetime(response, &policy)?;
    let terms = Terms::under(&policy, response, times, rules);
    match terms.is_of_use() {
        true => Ok(terms),
        false => Err(NotStored::NoUse),
    }
}

/// RFC 9111 section 3: the method is understood. GET; POST under the conditions of RFC 9110 section
/// 9.3.3.
fn of_method(
    method: Method<'_>,
    target: &Uri<'_>,
    response: &ResponseHead<'_>,
    policy: &Policy,
) -> Result<(), NotStored> {
    match method {
        Method::Get => Ok(()),
        Method::Post if is_explicit(policy, response) && names_target(target, response) => Ok(()),
        Method::Post => Err(NotStored::Post),
        _ => Err(NotStored::Method),
    }
}

/// RFC 9111 section 3: the status is final, and understood where it has to be.
fn of_status(
    request: &RequestHead<'_>,
    response: &ResponseHead<'_>,
    policy: &Policy,
) -> Result<(), NotStored> {
    let status = response.status;
    if status.is_interim() || status == Status::NOT_MODIFIED {
        return Err(NotStored::NotFinal);
    }
    if matches!(
        status.code(),
        407 | 408 | 412 | 416 | 417 | 421 | 425 | 428 | 429 | 431 | 511
    ) {
        return Err(NotStored::OfThisRequest);
    }
    if policy.control().must_understand && !is_understood(status) {
        return Err(NotStored::NotUnderstood);
    }
    match status {
        Status::PARTIAL_CONTENT if !partial::may_store(request, response) => {
            Err(NotStored::Partial)
        }
        _ => Ok(()),
    }
}

/// Whether we know the status and do with it what its definition says about caching: that of none
/// but 206 and 304 goes beyond RFC 9111 section 3.
fn is_understood(status: Status) -> bool {
    status.reason() != "Unknown"
}

/// RFC 9111 sections 3, 3.5, 5.2.1.5, 5.2.2.3, 5.2.2.5 and 5.2.2.7: nobody forbids it.
fn of_directives(asks: &Asks, policy: &Policy) -> Result<(), NotStored> {
    let control = policy.control();
    // With `must-understand`, `no-store` is for those who do not understand the status.
    if control.no_store && !control.must_understand {
        return Err(NotStored::NoStore);
    }
    if asks.no_store {
        return Err(NotStored::RequestNoStore);
    }
    if control.private {
        return Err(NotStored::Private);
    }
    let is_allowed = control.public || control.must_revalidate || control.s_maxage_s.is_some();
    match asks.authorized && !is_allowed {
        true => Err(NotStored::Authorization),
        false => Ok(()),
    }
}

/// RFC 9111 section 3: somebody says how long it is fresh, or its status is reused by itself.
fn of_lifetime(response: &ResponseHead<'_>, policy: &Policy) -> Result<(), NotStored> {
    let is_reusable =
        is_explicit(policy, response) || policy.control().public || is_heuristic(response.status);
    is_reusable.then_some(()).ok_or(NotStored::NotCacheable)
}

/// Appends the header lines of a response that are stored (RFC 9111 section 3.1): those that are
/// forwarded ([`Headers::end_to_end`]), but not what `no-cache` and `private` name. `Age` is among
/// them, since [`Terms::derive`] reads it again after a restart; whoever sends the response from
/// the store writes its own in its place.
pub fn put_stored_lines(out: &mut Vec<u8>, headers: &Headers<'_>) {
    let named = named_fields(headers);
    for (name, line) in headers.end_to_end_lines() {
        if !list_elements(&named).any(|field| field.eq_ignore_ascii_case(name)) {
            out.extend_from_slice(line);
            out.extend_from_slice(b"\r\n");
        }
    }
}

/// The fields that are not to be stored, as a list; nearly always empty.
pub(super) fn named_fields(headers: &Headers<'_>) -> Vec<u8> {
    let mut named = Vec::new();
    if Policy::of(headers).control().names_fields {
        targeted::put_named_fields(&mut named, headers);
    }
    named
}
