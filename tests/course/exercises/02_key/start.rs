// Exercise 2, a key of the configuration: a rate such as `"100/s"`, `"5/m"` or `"20/500ms"`: how
// many, and within what span. Nothing is 0, and whoever writes something else is told what was wrong
// and what was expected.
//
// Look at: `parse_duration` in `src/config/value.rs`, which knows the units, and how the texts of
// `src/config/section.rs` end: "is 5; expected ...".
//
// Run: cargo test --test course --features exercises e02

use std::time::Duration;

/// So many within a span.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) count: u32,
    pub(crate) span: Duration,
}

/// Reads a rate; the error says what was wrong and what was expected.
pub(crate) fn parse_rate(text: &str) -> Result<Rate, String> {
    let count = text.parse().map_err(|_| String::new())?;
    let span = Duration::from_secs(1);
    Ok(Rate { count, span })
}
