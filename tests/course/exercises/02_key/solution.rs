// A unit alone is one of it. The errors name what was written, since a file has many rates.

use std::time::Duration;

use netlab_reactor::config::parse_duration;

/// So many within a span.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub(crate) count: u32,
    pub(crate) span: Duration,
}

/// Reads a rate; the error says what was wrong and what was expected.
pub(crate) fn parse_rate(text: &str) -> Result<Rate, String> {
    let wrong = |what: &str| {
        format!(r#"is {text:?}, {what}; expected a rate such as "100/s" or "20/500ms""#)
    };
    let (count, span) = text
        .split_once('/')
        .ok_or_else(|| wrong("without a span"))?;
    let count = count
        .parse()
        .map_err(|_| wrong("whose count is no number"))?;
    let span = match span.starts_with(|c: char| c.is_ascii_digit()) {
        true => parse_duration(span),
        false => parse_duration(&format!("1{span}")),
    };
    let span = span.map_err(|_| wrong("whose span has no unit"))?;
    match count == 0 || span.is_zero() {
        true => Err(wrong("which is nothing")),
        false => Ok(Rate { count, span }),
    }
}
