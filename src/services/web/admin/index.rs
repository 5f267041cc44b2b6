//! `/`: the same numbers for a reader, with links to the other pages.

use std::fmt::Write;

use crate::jobs::Counts;
use crate::metrics::{ListenerMetrics, METRICS, Samples, Value, View};
use crate::services::web::html::Html;

/// The whole page.
pub(super) fn page(view: &View<'_>) -> String {
    let mut listeners = String::new();
    for listener in view.listeners() {
        // Writing to a String cannot fail.
        let _ = writeln!(
            listeners,
            "<tr><td>{}<td>{}<td>{}<td>{}",
            Html(listener.name.as_bytes()),
            listener.kind,
            Html(listener.address.as_bytes()),
            counted(listener),
        );
    }
    let mut process = String::new();
    for metric in METRICS {
        let value = match metric.samples {
            Samples::One(get) => get(view).map(|value| value.to_string()),
            Samples::Kinds(get) => Some(by_kind(view, get)),
            Samples::Each(_) | Samples::By(..) => None,
        };
        if !metric.key.is_empty()
            && let Some(value) = value
        {
            let (help, key) = (metric.help, metric.key);
            let _ = writeln!(process, "<tr><td title=\"{help}\">{key}<td>{value}");
        }
    }
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <title>netlab-reactor</title>\n\
         <h1>netlab-reactor {}</h1>\n<p>{} for {} s\n\
         <table>\n<tr><th>name<th>kind<th>address<th>counted\n{listeners}</table>\n\
         <p><a href=\"/livez\">/livez</a> <a href=\"/readyz\">/readyz</a> \
         <a href=\"/metrics\">/metrics</a> <a href=\"/status.json\">/status.json</a>\n\
         <table>\n{process}</table>\n</html>\n",
        view.version(),
        if view.metrics.draining {
            "draining, up"
        } else {
            "up"
        },
        view.uptime().as_secs(),
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
            Samples::One(_) | Samples::Kinds(_) => None,
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
