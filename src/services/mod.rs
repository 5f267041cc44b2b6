//! The protocols, a file or a folder each, and what several of them share. Which kind of listener
//! gets which stands in `serve.rs`.

#[doc(hidden)] // for tests, those in `tests/` among them
pub mod bench;

pub mod frame_echo;
pub mod hello;
pub mod tcp_echo;
pub mod udp_echo;
pub mod udp_heartbeat;
pub mod udp_ping;
pub mod upload;
pub mod web;

use std::num::NonZeroU32;
use std::time::{Duration, Instant};

/// Until when a body may go on after `bytes` more of it came: each buys its share of a second at
/// `rate_min` bytes a second, and no more than `most` can be in hand. Without a rate any byte buys
/// `most`.
fn prolonged(
    until: Instant,
    bytes: usize,
    rate_min: Option<NonZeroU32>,
    now: Instant,
    most: Duration,
) -> Instant {
    match rate_min {
        Some(rate) => {
            let nanoseconds = (bytes as u64).saturating_mul(1_000_000_000) / u64::from(rate.get());
            (until + Duration::from_nanos(nanoseconds)).min(now + most)
        }
        None if bytes > 0 => now + most,
        None => until,
    }
}
