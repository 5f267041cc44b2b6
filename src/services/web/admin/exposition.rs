//! `/metrics`: the text format of Prometheus, version 0.0.4.

use std::fmt::{Display, Write};

use crate::metrics::{Class, ListenerMetrics, METRICS, Metric, Samples, View};

/// The media type of the format.
pub(super) const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A label and its value.
type Label<'a> = (&'static str, &'a str);

/// Every metric that has a sample.
pub(super) fn page(view: &View<'_>) -> String {
    let mut out = Exposition::default();
    for metric in METRICS {
        let name = metric.full_name();
        match metric.samples {
            Samples::One(get) => {
                if let Some(value) = get(view) {
                    out.sample(metric, &name, metric.label.as_slice(), value);
                }
            }
            Samples::Kinds(get) => {
                for (kind, value) in view.by_kind(get) {
                    out.sample(metric, &name, &[("kind", kind)], value);
                }
            }
            Samples::Each(get) => {
                for listener in view.listeners() {
                    if let Some(count) = get(listener) {
                        out.sample(metric, &name, &labels(listener), count);
                    }
                }
            }
            Samples::By(label, get) => {
                for listener in view.listeners() {
                    let [of, kind, at] = labels(listener);
                    for (value, count) in get(listener).into_iter().flatten() {
                        out.sample(metric, &name, &[of, kind, at, (label, value)], count);
                    }
                }
            }
        }
    }
    out.text
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
            };
            let help = metric.help;
            let _ = writeln!(self.text, "# HELP {name} {help}\n# TYPE {name} {class}");
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

    fn escape(&mut self, value: &str) {
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
