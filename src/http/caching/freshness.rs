//! How long a response is fresh and how old it is (RFC 9111 section 4.2).
//!
//! ```text
//! lifetime   s-maxage, else max-age, else Expires - Date, else a share of Date - Last-Modified
//! age        max(response time - Date, Age + response time - request time), and the time since
//! fresh      while lifetime > age
//! ```
//!
//! What cannot be read makes stale (section 4.2.1): an argument that is no number, `Expires` that
//! is no date or is repeated. So does an `Age` that is no number or is repeated: section 5.1 would
//! have it ignored, but then nobody knows how old the response is. Of a list in one line the first
//! element counts, as section 5.1 says, unless a blank follows its comma: that is how intermediaries
//! join repeated lines (RFC 9110 section 5.3).

use super::super::head::ResponseHead;
use super::super::{Status, date, trim_ows};
use super::targeted::Policy;
use super::{Rules, Times, delta_seconds, span};

/// Under which terms a stored response may be reused: derived once, when it is stored or loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// When the response came, or when it was last validated.
    response_s: i64,
    /// Its age at that time (`corrected_initial_age`).
    initial_age_s: u32,
    /// How old it may become.
    lifetime_s: u32,
    /// How long it may then be sent while it is validated.
    while_revalidate_s: u32,
    /// How long it may then be sent if the origin fails; `None` where it does not say.
    if_error_s: Option<u32>,
    demands: Demands,
    /// Whether it has what a validation needs: a tag or a date.
    has_validator: bool,
}

/// What a response demands before it is reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Demands {
    /// Nothing.
    Nothing,
    /// To be validated once it is stale: must-revalidate, proxy-revalidate, s-maxage (RFC 9111
    /// sections 5.2.2.2, 5.2.2.8, 5.2.2.10).
    Fresh,
    /// To be validated each time: no-cache (section 5.2.2.4).
    Validation,
}

impl Terms {
    /// The terms of a response that may be stored.
    #[must_use]
    pub fn derive(response: &ResponseHead<'_>, times: Times, rules: &Rules) -> Self {
        let policy = Policy::under(&response.headers, rules);
        Self::under(&policy, response, times, rules)
    }

    /// The same, under a policy that is read already.
    pub(super) fn under(
        policy: &Policy,
        response: &ResponseHead<'_>,
        times: Times,
        rules: &Rules,
    ) -> Self {
        let control = policy.control();
        let is_bound =
            control.must_revalidate || control.proxy_revalidate || control.s_maxage_s.is_some();
        let demands = match (control.no_cache, is_bound) {
            (true, _) => Demands::Validation,
            (false, true) => Demands::Fresh,
            (false, false) => Demands::Nothing,
        };
        let (initial_age_s, age_is_known) = match age(response) {
            Ok(age_s) => (initial_age(response, age_s, times), true),
            Err(UnknownAge) => (initial_age(response, 0, times), false),
        };
        let lifetime_s = match age_is_known {
            true => lifetime(policy, response, times, rules),
            false => 0,
        };
        let is_prolonged = rules.lifetime_min_s > 0
            && is_heuristic(response.status)
            && !response.headers.contains("set-cookie");
        let least_s = match is_prolonged {
            true => span(i64::from(initial_age_s) + i64::from(rules.lifetime_min_s)),
            false => 0,
        };
        Self {
            response_s: times.response_s,
            initial_age_s,
            lifetime_s: lifetime_s.min(rules.lifetime_max_s).max(least_s),
            while_revalidate_s: control.stale_while_revalidate_s.unwrap_or(0),
            if_error_s: control.stale_if_error_s,
            demands,
            has_validator: super::validation::has_validator(&response.headers),
        }
    }

    /// How old the response is (`current_age`), in seconds: the value of `Age`. A clock that went
    /// back does not make it younger than when it came.
    #[must_use]
    pub fn age_s(&self, now_s: i64) -> u32 {
        let resident_s = span(now_s.saturating_sub(self.response_s));
        span(i64::from(self.initial_age_s) + i64::from(resident_s))
    }

    /// How many seconds it stays fresh; negative: for how long it has been stale. What `ttl` says
    /// in `Cache-Status`.
    #[must_use]
    pub fn fresh_for_s(&self, now_s: i64) -> i64 {
        i64::from(self.lifetime_s) - i64::from(self.age_s(now_s))
    }

    /// How many seconds it has been stale, or `None` while it is fresh.
    #[must_use]
    pub fn stale_for_s(&self, now_s: i64) -> Option<u32> {
        let fresh_for_s = self.fresh_for_s(now_s);
        (fresh_for_s <= 0).then(|| span(fresh_for_s.saturating_neg()))
    }

    /// When the response came, or when it was last validated, in seconds since the Unix epoch.
    #[must_use]
    pub fn response_s(&self) -> i64 {
        self.response_s
    }

    /// Whether a validation can be asked for it.
    #[must_use]
    pub fn has_validator(&self) -> bool {
        self.has_validator
    }

    pub(super) fn demands(&self) -> Demands {
        self.demands
    }

    pub(super) fn while_revalidate_s(&self) -> u32 {
        self.while_revalidate_s
    }

    pub(super) fn if_error_s(&self) -> Option<u32> {
        self.if_error_s
    }

    /// Whether there may ever be a request that it answers.
    pub(super) fn is_of_use(&self) -> bool {
        let by_itself = match self.demands {
            Demands::Validation => false,
            Demands::Fresh => self.lifetime_s > self.initial_age_s,
            // Once it is stale there may still be somebody who takes it, or an origin that fails.
            Demands::Nothing => {
                let if_error_s = self.if_error_s.unwrap_or(0);
                self.lifetime_s > 0 || self.while_revalidate_s > 0 || if_error_s > 0
            }
        };
        by_itself || self.has_validator
    }
}

/// There is an `Age`, but nobody can say which.
struct UnknownAge;

/// The value of `Age`; 0 where there is none.
fn age(response: &ResponseHead<'_>) -> Result<u32, UnknownAge> {
    let mut lines = response.headers.all("age");
    let Some(line) = lines.next() else {
        return Ok(0);
    };
    let comma = memchr::memchr(b',', line).unwrap_or(line.len());
    let is_joined = matches!(line.get(comma + 1), Some(b' ' | b'\t'));
    match delta_seconds(trim_ows(&line[..comma])) {
        Some(age_s) if !is_joined && lines.next().is_none() => Ok(age_s),
        _ => Err(UnknownAge),
    }
}

/// The age of a response when it came (RFC 9111 section 4.2.3).
fn initial_age(response: &ResponseHead<'_>, age_s: u32, times: Times) -> u32 {
    let sent_s = date_s(response, times);
    let apparent_s = span(times.response_s.saturating_sub(sent_s));
    let delay_s = span(times.response_s.saturating_sub(times.request_s));
    apparent_s.max(span(i64::from(age_s) + i64::from(delay_s)))
}

/// What `Date` says, or when the response came if it says nothing that can be read (RFC 9110
/// section 6.6.1).
fn date_s(response: &ResponseHead<'_>, times: Times) -> i64 {
    let date = response.headers.only("date").and_then(date::parse);
    date.unwrap_or(times.response_s)
}

/// How long a response is fresh (RFC 9111 section 4.2.1).
fn lifetime(policy: &Policy, response: &ResponseHead<'_>, times: Times, rules: &Rules) -> u32 {
    let control = policy.control();
    if let Some(seconds) = control.s_maxage_s.or(control.max_age_s) {
        return seconds;
    }
    let counts = matches!(policy, Policy::General(_));
    if counts && response.headers.contains("expires") {
        let expires = response.headers.only("expires").and_then(date::parse);
        return expires.map_or(0, |expires_s| {
            span(expires_s.saturating_sub(date_s(response, times)))
        });
    }
    match is_heuristic(response.status) || control.public {
        true => heuristic_lifetime(response, times, rules),
        false => 0,
    }
}

/// A share of the time for which it had not changed when it was sent (RFC 9111 section 4.2.2).
fn heuristic_lifetime(response: &ResponseHead<'_>, times: Times, rules: &Rules) -> u32 {
    let Some(modified_s) = response.headers.only("last-modified").and_then(date::parse) else {
        return 0;
    };
    let unchanged_s = span(date_s(response, times).saturating_sub(modified_s));
    let share_s = u64::from(unchanged_s) * u64::from(rules.heuristic_percent) / 100;
    span(i64::try_from(share_s).unwrap_or(i64::MAX)).min(rules.heuristic_max_s)
}

/// Whether a response says itself how long it is fresh.
pub(super) fn is_explicit(policy: &Policy, response: &ResponseHead<'_>) -> bool {
    let control = policy.control();
    control.s_maxage_s.is_some()
        || control.max_age_s.is_some()
        || (matches!(policy, Policy::General(_)) && response.headers.contains("expires"))
}

/// Whether responses with this status may be reused without saying so (RFC 9110 section 15.1). 206
/// is among them.
pub(super) fn is_heuristic(status: Status) -> bool {
    matches!(
        status.code(),
        200 | 203 | 204 | 206 | 300 | 301 | 308 | 404 | 405 | 410 | 414 | 501
    )
}
