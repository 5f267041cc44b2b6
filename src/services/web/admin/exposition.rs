//! `/metrics`: the text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write};

use crate::metrics::{Class, Histogram, ListenerMetrics, METRICS, Metric, Samples, View};

/// The media type of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A label and its value.
type Label<'a> = (&'static str, &'a str);

/// Every metric that has a sample, written a piece at a time.
#[derive(Default)]
pub(super) struct Page {
    out: Exposition,
    /// Metrics that are written.
    metrics: usize,
    /// Where the next one's listeners go on.
    listeners: usize,
}

impl Page {
    /// Writes about so many bytes more. Whether that is all.
    pub(super) fn go_on(&mut self, view: &View<'_>, bytes: usize) -> bool {
        let end = self.out.text.len().saturating_add(bytes);
        while let Some(metric) = METRICS.get(self.metrics) {
            let name = metric.full_name();
            match metric.samples {
                Samples::One(get) => {
                    if let Some(value) = get(view) {
                        self.out
                            .sample(metric, &name, metric.label.as_slice(), value);
                    }
                }
                Samples::Kinds(get) => {
                    for (kind, value) in view.by_kind(get) {
                        self.out.sample(metric, &name, &[("kind", kind)], value);
                    }
                }
                Samples::Spans(get) => self.out.histogram(metric, &name, &[], get(view.metrics)),
                Samples::Each(_)
                | Samples::Classes(_)
                | Samples::By(..)
                | Samples::Upstreams(_) => {
                    for (key, listener) in view.listeners_from(self.listeners) {
                        if self.out.text.len() >= end {
                            self.listeners = key;
                            return false;
                        }
                        self.out.of_listener(metric, &name, listener);
                    }
                    self.listeners = 0;
                }
            }
            self.metrics += 1;
        }
        true
    }

    /// What is written.
    pub(super) fn text(&mut self) -> &mut String {
        &mut self.out.text
    }
}

/// Which listener it is. Its name alone need not be unique; with kind and address it is.
fn labels(listener: &ListenerMetrics) -> [Label<'_>; 3] {
    [
        ("listener", &listener.name),
        ("kind", listener.kind),
        ("address", &listener.address),
    ]
}

/// The text so far. Writing to it cannot fail.
#[derive(Default)]
struct Exposition {
    text: String,
    /// The metric whose samples are being written: its HELP and TYPE stand before them.
    family: &'static str,
}

impl Exposition {
    fn sample(
        &mut self,
        metric: &'static Metric,
        name: &str,
        labels: &[Label<'_>],
        value: impl Display,
    ) {
        if self.family != metric.name {
            self.family = metric.name;
            let class = match metric.class {
                Class::Counter => "counter",
                Class::Gauge => "gauge",
                Class::Histogram => "histogram",
            };
            let (family, help) = (metric.full_name(), metric.help);
            let _ = writeln!(self.text, "# HELP {family} {help}\n# TYPE {family} {class}");
        }
        self.text.push_str(name);
        for (index, (label, value)) in labels.iter().enumerate() {
            self.text.push(if index == 0 { '{' } else { ',' });
            let _ = write!(self.text, "{label}=\"");
            self.escape(value);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        let _ = writeln!(self.text, " {value}");
    }

    /// What one listener has of a metric.
    fn of_listener(&mut self, metric: &'static Metric, name: &str, listener: &ListenerMetrics) {
        let [of, kind, at] = labels(listener);
        match metric.samples {
            Samples::One(_) | Samples::Spans(_) | Samples::Kinds(_) => {}
            Samples::Classes(get) => {
                for (class, spans) in get(listener).iter() {
                    self.histogram(metric, name, &[of, kind, at, ("class", class)], spans);
                }
            }
            Samples::Each(get) => {
                if let Some(count) = get(listener) {
                    self.sample(metric, name, &[of, kind, at], count);
                }
            }
            Samples::Upstreams(get) => {
                for upstream in listener.of.web().into_iter().flat_map(|web| &web.upstreams) {
                    let labels = [of, kind, at, ("upstream", &*upstream.name)];
                    self.sample(metric, name, &labels, get(upstream));
                }
            }
            Samples::By(label, get) => {
                for (value, count) in get(listener).into_iter().flatten() {
                    self.sample(metric, name, &[of, kind, at, (label, value)], count);
                }
            }
        }
    }

    /// The buckets, each with all that is in those before it, the sum and the number.
    fn histogram(
        &mut self,
        metric: &'static Metric,
        name: &str,
        labels: &[Label<'_>],
        spans: &Histogram,
    ) {
        let bucket = format!("{name}_bucket");
        let bounds = spans
            .buckets()
            .map(|(bound, count)| (bound.to_string(), count));
        for (bound, count) in bounds.chain([("+Inf".to_owned(), spans.count())]) {
            let labels = [labels, &[("le", &*bound)]].concat();
            self.sample(metric, &bucket, &labels, count);
        }
        self.sample(metric, &format!("{name}_sum"), labels, spans.sum_s());
        self.sample(metric, &format!("{name}_count"), labels, spans.count());
    }

    fn escape(&mut self, value: &str) {
        if !value.contains(['\\', '"', '\n']) {
            return self.text.push_str(value); // nearly always
        }
        for character in value.chars() {
            match character {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                other => self.text.push(other),
            }
        }
    }
}
