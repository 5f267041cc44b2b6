//! `/`: the same numbers for a reader, with links to the other pages.

use std::fmt::Write;

use crate::metrics::{ListenerMetrics, METRICS, Samples, View};
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
        if let Samples::One(get) = metric.samples
            && !metric.key.is_empty()
            && let Some(value) = get(view)
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

/// What one listener counted, in a line; of that which has labels, the sums.
fn counted(listener: &ListenerMetrics) -> String {
    let mut parts = Vec::new();
    for metric in METRICS {
        let count = match metric.samples {
            Samples::One(_) | Samples::Spans(_) => None,
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
