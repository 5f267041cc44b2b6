//! The caching policy of a shared cache: pure functions over parsed heads, the clock and what was
//! derived from a stored response.
//!
//! RFC 9111 (caching), RFC 9110 sections 8.8, 13 and 14 (validators, conditions, ranges), RFC 5861
//! (stale-while-revalidate, stale-if-error), RFC 9213 (CDN-Cache-Control), RFC 9211 (Cache-Status),
//! RFC 9875 (Cache-Groups).
//!
//! ```text
//! request ── Asks::of ───────────┐
//!                                ├─ reuse(terms, asks, now) ─┬─ Fresh | Stale(why)     send it, with its age
//! stored ─── Terms::derive ──────┘                           ├─ Validate(why)          put_conditions, then ask the origin
//!            (once, at storing)                              ├─ Unavailable            504: only-if-cached
//!                                                            └─ Pass                   not for a cache to answer
//! answer of the origin ── may_store ─┬─ Ok                   put_stored_lines, Terms::derive, vary::put_key
//!                                    └─ Err(why)             pass it on
//!    to a validation  ──── update: a 304 freshens what is stored, a HEAD may too
//!    to an unsafe method ─ invalidation: the target and what it names are not used again
//! ```
//!
//! Rules:
//! 1. What a hit needs allocates nothing: [`Asks::of`], [`Terms::age_s`], [`reuse()`] and
//!    [`vary::matches`]. What is done once for a stored response may.
//! 2. In doubt a response is stale, and a directive as restrictive as it can be read: that costs a
//!    validation; the other way round, somebody is shown what is not true.
//! 3. Times are whole seconds since the Unix epoch and come from the caller. Spans are seconds in 32
//!    bits and stop at 2^31 (RFC 9111 section 1.2.2); no input makes them overflow.
//!
//! In reading order: [`control`] and [`targeted`] read directives, [`asks`] requests; [`freshness`]
//! derives the terms of reuse; [`storing`], [`vary`] and [`mod@reuse`] decide; [`validation`],
//! [`update`] and [`invalidation`] keep what is stored true; [`partial`] is about ranges;
//! [`status`] tells what was done;
//! [`refresh`] has what an operator decides otherwise for some URLs.
//!
//! # Where the public suite `http-cache-tests` 0.4.5 and the RFCs part
//!
//! | tests | what stands here |
//! |---|---|
//! | `age-parse-*` (a bad or repeated `Age` makes stale) | done: RFC 9111 section 5.1 would have a bad one ignored, but nobody has to reuse ([`freshness`]) |
//! | `age-parse-prefix` and `age-parse-dup-0` (`0,7200` counts as 0, `0, 0` does not) | both: `, ` is how lines are joined, so it is a repeated line |
//! | `304-etag-update-response-ETag` (a 304 with another tag than the one asked about) | done, for one stored response ([`update::identifies`]) |
//! | `partial-store-partial-reuse-partial*` (`Content-Range: bytes 4-9/10` over 5 bytes) | done, where the length is the suffix that was asked for ([`partial::Part::of`]) |
//! | `stale-close-{must-revalidate,proxy-revalidate,no-cache,s-maxage=2}` | done, but no test of them can pass: the answer they wait for would have to come from the origin that hung up |
//! | `conditional-lm-fresh-no-lm` | not done: RFC 9111 section 4.3.2 compares with `Date`, which is later |
//! | `vary-normalise-lang-select` | not done: the two lists do not mean the same (section 4.1) |
//! | `partial-store-partial-complete` | not done without a strong validator: the parts could not be joined (section 3.4) |
//!
//! Not here: keys, the store, and who waits for what.

pub mod asks;
pub mod control;
pub mod freshness;
pub mod groups;
pub mod invalidation;
pub mod partial;
pub mod refresh;
pub mod reuse;
pub mod status;
pub mod storing;
pub mod targeted;
pub mod update;
pub mod validation;
pub mod vary;

#[cfg(test)]
mod tests;

pub use asks::Asks;
pub use freshness::Terms;
pub use refresh::{Ignore, RuleBook};
pub use reuse::{Reuse, reuse};
pub use storing::{NotStored, may_store, objection};

/// The longest span, in seconds: what a longer one counts as (RFC 9111 section 1.2.2).
pub const SPAN_S_MAX: u32 = 1 << 31;

/// What the operator decides about caching.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How long a response that does not say it is fresh, in percent of the time between its last
    /// change and its date (RFC 9111 section 4.2.2). 0: never. Default 10.
    pub heuristic_percent: u32,
    /// The most seconds that this can come to. Default 1 day.
    pub heuristic_max_s: u32,
    /// The most seconds that any response is fresh, whatever it says. Default 1 year.
    pub lifetime_max_s: u32,
    /// How many seconds a response is fresh at least since it came or was last validated, whatever
    /// it says, if its status may be reused without saying so (RFC 9110 section 15.1) and it has no
    /// `Set-Cookie`. Default 0.
    pub lifetime_min_s: u32,
    /// What a response says in vain. Default nothing.
    pub ignore: Ignore,
    /// How long a response may have been stale to be sent when its origin cannot be reached (RFC
    /// 9111 section 4.2.4) and nothing forbids it. 0: never. Default 1 day.
    pub stale_if_unreachable_s: u32,
}

impl Default for Rules {
    fn default() -> Self {
        const DAY_S: u32 = 24 * 60 * 60;
        Self {
            heuristic_percent: 10,
            heuristic_max_s: DAY_S,
            lifetime_max_s: 365 * DAY_S,
            lifetime_min_s: 0,
            ignore: Ignore::default(),
            stale_if_unreachable_s: DAY_S,
        }
    }
}

/// When a response was asked for and when its head came, in seconds since the Unix epoch (RFC 9111
/// section 4.2.3: `request_time` and `response_time`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// When the request was sent.
    pub request_s: i64,
    /// When the head of the response was received.
    pub response_s: i64,
}

/// A count of seconds, at most [`SPAN_S_MAX`]; negative is none.
fn span(seconds: i64) -> u32 {
    u32::try_from(seconds.clamp(0, i64::from(SPAN_S_MAX))).unwrap_or(SPAN_S_MAX)
}

/// Reads delta-seconds (RFC 9111 section 1.2.2): digits only; too many seconds are
/// [`SPAN_S_MAX`].
fn delta_seconds(text: &[u8]) -> Option<u32> {
    let is_number = !text.is_empty() && text.iter().all(u8::is_ascii_digit);
    is_number.then(|| {
        text.iter().fold(0u32, |number, byte| {
            let next = u64::from(number) * 10 + u64::from(byte - b'0');
            u32::try_from(next).map_or(SPAN_S_MAX, |next| next.min(SPAN_S_MAX))
        })
    })
}
