//! `/`: the same numbers for a reader, with links to the other pages.

use std::fmt::Write;

use crate::jobs::Counts;
use crate::metrics::{ListenerMetrics, METRICS, Samples, Value, View};
use crate::services::web::html::Html;

/// The whole page, written a piece at a time.
#[derive(Default)]
pub(super) struct Page {
    pub(super) text: String,
    /// Where the listeners go on.
    listeners: usize,
}

// Writing to a String cannot fail.
impl Page {
    /// Writes about so many bytes more. Whether that is all.
    pub(super) fn go_on(&mut self, view: &View<'_>, bytes: usize) -> bool {
        if self.text.is_empty() {
            let _ = write!(
                self.text,
                "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
                 <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
                 <title>netlab-reactor</title>\n\
                 <link rel=\"stylesheet\" href=\"dashboard.css\">\n\
                 <script src=\"dashboard.js\" defer></script>\n\
                 <script src=\"inspect.js\" defer></script>\n\
                 <h1>netlab-reactor {}</h1>\n<p><span id=\"since\">{} for {} s</span> \
                 <span id=\"connection\" class=\"faint\" role=\"status\"></span>\n\
                 {}<main id=\"live\"></main>\n\
                 <details id=\"plain\" open><summary>Everything that is counted, as of when this page was asked for</summary>\n\
                 <div class=\"wide\"><table>\n<tr><th>name<th>kind<th>address<th>counted\n",
                view.version(),
                match view.metrics.draining {
                    true => "draining, up",
                    false => "up",
                },
                view.uptime().as_secs(),
                record(view),
            );
        }
        let end = self.text.len().saturating_add(bytes);
        for (key, listener) in view.listeners_from(self.listeners) {
            if self.text.len() >= end {
                return false;
            }
            let _ = writeln!(
                self.text,
                "<tr><td>{}<td>{}<td>{}<td>{}",
                Html(listener.name.as_bytes()),
                listener.kind,
                Html(listener.address.as_bytes()),
                counted(listener),
            );
            self.listeners = key + 1;
        }
        self.text.push_str(
            "</table></div>\n\
             <p><a href=\"livez\">/livez</a> <a href=\"readyz\">/readyz</a> \
             <a href=\"metrics\">/metrics</a> <a href=\"status.json\">/status.json</a>\n\
             <a href=\"sessions.json\">/sessions.json</a> <a href=\"cache.json\">/cache.json</a>\n\
             <a href=\"heartbeats\">/heartbeats</a> <a href=\"turns.json\">/turns.json</a>\n\
             <a href=\"trace?seconds=5\">/trace</a>\n\
             <table>\n",
        );
        for metric in METRICS {
            let value = match metric.samples {
                Samples::One(get) => get(view).map(|value| value.to_string()),
                Samples::Kinds(get) => Some(by_kind(view, get)),
                Samples::Spans(_)
                | Samples::Classes(_)
                | Samples::Each(_)
                | Samples::By(..)
                | Samples::Upstreams(_) => None,
            };
            if !metric.key.is_empty()
                && let Some(value) = value
            {
                let (help, key) = (metric.help, metric.key);
                let _ = writeln!(self.text, "<tr><td title=\"{help}\">{key}<td>{value}");
            }
        }
        self.text.push_str("</table></details>\n</html>\n");
        true
    }
}

/// Which record it is, if it is one, and for scripts the numbers of its turns.
fn record(view: &View<'_>) -> String {
    let Some((about, turns)) = &view.record else {
        return String::new();
    };
    let about = Html(about.as_bytes());
    format!(
        "<p id=\"record\" data-first=\"{}\" data-end=\"{}\">{about}. All below is of this record, \
         and does not go on.\n",
        turns.start, turns.end
    )
}

/// A number of each kind of job for the disk that has had any, in a line.
fn by_kind(view: &View<'_>, get: fn(&Counts) -> Value) -> String {
    let none = [Value::Whole(0), Value::Decimal(0.0)];
    let some = view.by_kind(get).filter(|(_, value)| !none.contains(value));
    let parts: Vec<String> = some
        .map(|(kind, value)| format!("{kind} {value}"))
        .collect();
    match parts.is_empty() {
        true => "0".to_owned(),
        false => parts.join(", "),
    }
}

/// What one listener counted, in a line; of that which has labels, the sums.
fn counted(listener: &ListenerMetrics) -> String {
    let mut parts = Vec::new();
    for metric in METRICS {
        let count = match metric.samples {
            Samples::One(_) | Samples::Spans(_) | Samples::Kinds(_) | Samples::Upstreams(_) => None,
            Samples::Classes(get) => {
                let spans = get(listener).iter().map(|(_, spans)| spans.count());
                Some(spans.sum())
            }
            Samples::Each(get) => get(listener),
            Samples::By(_, get) => get(listener).map(|c| c.iter().map(|(_, n)| n).sum()),
        };
        if let Some(count) = count {
            let (help, key) = (metric.help, metric.key);
            parts.push(format!("<span title=\"{help}\">{key} {count}</span>"));
        }
    }
    parts.join(", ")
}
