//! `/heartbeats`: the senders that the heartbeat monitors know, as an object of JSON. Spans and
//! differences are in seconds.

use serde_json::{Value, json};

use crate::service::datagram::{KnownSenders, Sender};

/// The whole page.
pub(super) fn page(tables: &[KnownSenders]) -> String {
    let rows = |table: &KnownSenders| -> Vec<Value> {
        let row = |sender| row(&table.listener, sender);
        table.senders.rows.iter().map(row).collect()
    };
    let senders: Vec<Value> = tables.iter().flat_map(rows).collect();
    let omitted: usize = tables.iter().map(|table| table.senders.omitted).sum();
    format!("{}\n", json!({"senders": senders, "omitted": omitted}))
}

fn row(listener: &str, sender: &Sender) -> Value {
    let (counts, differences) = (&sender.counts, &sender.differences);
    json!({
        "listener": listener,
        "address": sender.address.to_string(),
        "id": sender.identity,
        "state": sender.state.name(),
        "down": sender.is_down,
        "silent_for": sender.silent_for.as_secs_f64(),
        "known_for": sender.known_for.as_secs_f64(),
        "sequence": sender.sequence,
        "received": counts.received,
        "lost": counts.lost,
        "duplicates": counts.duplicates,
        "reordered": counts.reordered,
        "restarts": counts.restarts,
        "clock_steps": counts.clock_steps,
        "downs": counts.downs,
        "interval": sender.interval.map(|interval| interval.as_secs_f64()),
        "difference": {
            "min": differences.min,
            "mean": differences.mean,
            "last": differences.last,
        },
        "jitter": sender.jitter_s,
    })
}
