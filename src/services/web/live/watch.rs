//! `/trace`: what the loop does, for so many seconds.

use std::time::Duration;

use super::{Live, Source, begin_head, names};
use crate::http::Status;
use crate::http::head::RequestHead;
use crate::http::target::Target;
use crate::inside::Inside;
use crate::inside::trace::{Format, Trace};
use crate::service::{Cx, work};
use crate::services::web::reply::{Refusal, Reply};

/// For how long a trace goes if nothing is said.
const SECONDS: u64 = 5;

/// How often it looks for news.
const PAUSE: Duration = Duration::from_millis(50);

/// One who looks at what the loop does.
struct Watch {
    /// The place of the next record in the sequence of all.
    from: u64,
    trace: Trace,
}

impl Source for Watch {
    fn look(&mut self, cx: &mut Cx<'_>, text: &mut String) -> bool {
        let names = names(cx);
        let most = cx.work.steps(work::RECORD_NS);
        let (missing, records) = names.ring.since(self.from);
        if missing > 0 {
            self.trace.missed(missing, text);
            self.from += missing;
        }
        let mut count = 0;
        for record in records.take(most) {
            self.trace.add(record, names, text);
            count += 1;
        }
        self.from += count as u64;
        let has_all = self.from == names.ring.written();
        cx.work.charge_each(count, work::RECORD_NS);
        has_all
    }

    fn end(&mut self, cx: &mut Cx<'_>, text: &mut String) {
        self.trace.end(names(cx), text);
    }

    fn ended(&mut self, cx: &mut Cx<'_>) {
        cx.inside.ring.end_reading();
    }

    fn pause(&self) -> Duration {
        PAUSE
    }
}

/// Begins to answer a request for `/trace`; `None` if its head was all.
///
/// # Errors
/// What is asked for is nothing that there is.
pub(in crate::services::web) fn begin(
    head: &RequestHead<'_>,
    reply: &mut Reply<'_, '_>,
) -> Result<Option<Box<Live>>, Box<Refusal>> {
    let seconds_max = reply.cx.inside.limits.time_max.as_secs().max(1);
    let (seconds, format) =
        asked(query(head), seconds_max).map_err(|text| Refusal::told(Status::BAD_REQUEST, text))?;
    may_read(reply.cx.inside)?;
    let content_type = match format {
        Format::Json => "application/json",
        Format::Text => "text/plain; charset=utf-8",
        Format::Records => "application/x-ndjson",
    };
    if !begin_head(head, content_type, reply) {
        return Ok(None);
    }
    let mut text = String::new();
    let trace = Trace::new(format, &mut text);
    let from = reply.cx.inside.ring.begin_reading();
    let watch = Watch { from, trace };
    let until = reply.cx.now + Duration::from_secs(seconds);
    Ok(Some(Live::new(Box::new(watch), text, head, until, reply)))
}

/// Whether one more may read the ring.
///
/// # Errors
/// It has no memory, or too many read it.
pub(in crate::services::web) fn may_read(inside: &Inside) -> Result<(), Box<Refusal>> {
    let most = inside.limits.readers_max;
    if !inside.ring.can_be_on() {
        let text = "there is no room for a trace: expected `ring_bytes` of table `[trace]` above 0";
        return Err(Refusal::new(Status::SERVICE_UNAVAILABLE, text).into());
    }
    if inside.ring.readers() >= most {
        let text = format!(
            "{most} read what the loop does already (`max_readers`); expected to wait for one"
        );
        return Err(Refusal::told(Status::SERVICE_UNAVAILABLE, text).into());
    }
    Ok(())
}

/// The query of a request; empty if it has none.
pub(in crate::services::web) fn query<'h>(head: &RequestHead<'h>) -> &'h str {
    match head.target {
        Target::Origin { query, .. } | Target::Absolute { query, .. } => query.unwrap_or_default(),
        _ => "",
    }
}

/// What a query asks for: `seconds=N` and `format=json`, `text` or `records`, both
/// optional; of at most `seconds_max`.
fn asked(query: &str, seconds_max: u64) -> Result<(u64, Format), String> {
    let (mut seconds, mut format) = (SECONDS.min(seconds_max), Format::Json);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        match (key, value) {
            ("seconds", _) => {
                let parsed = value.parse().ok();
                let within = parsed.filter(|parsed| (1..=seconds_max).contains(parsed));
                seconds = within.ok_or_else(|| {
                    format!("seconds is {value:?}: expected a number from 1 to {seconds_max}")
                })?;
            }
            ("format", "json") => format = Format::Json,
            ("format", "text") => format = Format::Text,
            ("format", "records") => format = Format::Records,
            ("format", _) => {
                return Err(format!(
                    "format is {value:?}: expected json, text or records"
                ));
            }
            _ => return Err(format!("there is no {key:?}: expected seconds or format")),
        }
    }
    Ok((seconds, format))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_says_for_how_long_and_how() {
        assert_eq!(asked("", 600), Ok((SECONDS, Format::Json)));
        assert_eq!(asked("seconds=1", 600), Ok((1, Format::Json)));
        assert_eq!(
            asked("format=text&seconds=600", 600),
            Ok((600, Format::Text))
        );
        for wrong in [
            "seconds=0",
            "seconds=601",
            "seconds=",
            "seconds=-1",
            "seconds",
            "format=xml",
            "second=1",
        ] {
            let text = asked(wrong, 600).expect_err(wrong);
            assert!(text.contains("expected"), "{text}");
        }
    }
}
