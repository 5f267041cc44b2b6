//! `/status.json`: the same numbers as an object, with one for each listener.

use serde_json::{Map, json};

use crate::metrics::{ListenerMetrics, METRICS, Samples, UpstreamMetrics, Value, View};

/// An object of JSON.
type Object = Map<String, serde_json::Value>;

/// The whole status, written a piece at a time.
#[derive(Default)]
pub(super) struct Page {
    pub(super) text: String,
    /// Where the listeners go on.
    listeners: usize,
}

impl Page {
    /// Writes about so many bytes more. Whether that is all.
    pub(super) fn go_on(&mut self, view: &View<'_>, bytes: usize) -> bool {
        if self.text.is_empty() {
            let process = serde_json::Value::from(of_process(view)).to_string();
            self.text.push_str(process.trim_end_matches('}'));
            self.text.push_str(",\"listeners\":[");
        }
        let end = self.text.len().saturating_add(bytes);
        for (key, listener) in view.listeners_from(self.listeners) {
            if self.text.len() >= end {
                return false;
            }
            if !self.text.ends_with('[') {
                self.text.push(',');
            }
            let listener = serde_json::Value::from(of_listener(listener));
            self.text.push_str(&listener.to_string());
            self.listeners = key + 1;
        }
        self.text.push_str("]}\n");
        true
    }
}

fn of_process(view: &View<'_>) -> Object {
    let mut object = Object::new();
    object.insert("version".to_owned(), json!(view.version()));
    object.insert("start_time".to_owned(), json!(view.start_time_s()));
    object.insert("uptime".to_owned(), json!(view.uptime().as_secs_f64()));
    object.insert("draining".to_owned(), json!(view.metrics.draining));
    for metric in METRICS {
        let value = match metric.samples {
            Samples::One(get) => get(view).map_or(json!(null), number),
            Samples::Kinds(get) => {
                let named = |(kind, value): (&str, Value)| (kind.to_owned(), number(value));
                view.by_kind(get).map(named).collect::<Object>().into()
            }
            Samples::Spans(get) => {
                let spans = get(view.metrics);
                let up_to = |(bound, count): (&str, u64)| (bound.to_owned(), json!(count));
                let up_to: Object = spans.buckets().map(up_to).collect();
                json!({"count": spans.count(), "sum": spans.sum_s(), "up_to": up_to})
            }
            Samples::Each(_) | Samples::By(..) | Samples::Upstreams(_) => continue,
        };
        put(&mut object, metric.key, value);
    }
    object
}

fn of_listener(listener: &ListenerMetrics) -> Object {
    let mut object = Object::new();
    object.insert("name".to_owned(), json!(&*listener.name));
    object.insert("kind".to_owned(), json!(listener.kind));
    object.insert("address".to_owned(), json!(listener.address));
    for metric in METRICS {
        let value = match metric.samples {
            Samples::One(_) | Samples::Spans(_) | Samples::Kinds(_) => None,
            Samples::Each(get) => get(listener).map(|count| json!(count)),
            Samples::Upstreams(get) => of_upstreams(listener, get),
            Samples::By(_, get) => get(listener).map(|counts| {
                let named = |(name, count): (&str, u64)| (name.to_owned(), json!(count));
                counts.into_iter().map(named).collect::<Object>().into()
            }),
        };
        if let Some(value) = value {
            put(&mut object, metric.key, value);
        }
    }
    object
}

/// A number of each upstream, if there are any.
fn of_upstreams(
    listener: &ListenerMetrics,
    get: fn(&UpstreamMetrics) -> u64,
) -> Option<serde_json::Value> {
    let upstreams = &listener.of.web()?.upstreams;
    let named = |upstream: &UpstreamMetrics| (upstream.name.clone(), json!(get(upstream)));
    let numbers: Object = upstreams.iter().map(named).collect();
    (!numbers.is_empty()).then(|| numbers.into())
}

fn number(value: Value) -> serde_json::Value {
    match value {
        Value::Whole(count) => json!(count),
        Value::Decimal(measure) => json!(measure),
    }
}

/// Enters a value under a key: within an inner object before a dot, nowhere if it is empty.
fn put(object: &mut Object, key: &str, value: serde_json::Value) {
    match key.split_once('.') {
        _ if key.is_empty() => {}
        None => {
            object.insert(key.to_owned(), value);
        }
        Some((inner, key)) => {
            let inner = object.entry(inner).or_insert_with(|| json!({}));
            inner[key] = value;
        }
    }
}
