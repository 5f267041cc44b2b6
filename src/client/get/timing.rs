//! How long the parts of an exchange took.

use std::time::Duration;

use serde_json::json;

use crate::client::connect::ConnectTimes;

/// How long the parts of an exchange took, from the beginning.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Timing {
    pub(super) connect: ConnectTimes,
    pub(super) tls: Duration,
    pub(super) first_byte: Duration,
    pub(super) total: Duration,
}

impl Timing {
    pub(super) fn json(&self) -> serde_json::Value {
        let millis = |span: Duration| span.as_secs_f64() * 1e3;
        json!({
            "resolve": millis(self.connect.resolve), "connect": millis(self.connect.connect),
            "tls": millis(self.tls), "first_byte": millis(self.first_byte), "total": millis(self.total),
        })
    }
}

/// How long each part took, each from the end of the one before, and the whole.
pub(super) fn tell_timing(timing: &Timing) {
    let Timing {
        connect,
        tls,
        first_byte,
        total,
    } = timing;
    let waited = first_byte.saturating_sub(connect.resolve + connect.connect + *tls);
    let parts = [
        ("resolve", connect.resolve),
        ("connect", connect.connect),
        ("TLS", *tls),
        ("first byte", waited),
        ("body", total.saturating_sub(*first_byte)),
        ("total", *total),
    ];
    let longest = total.as_secs_f64().max(1e-9);
    for (name, span) in parts {
        let bar = "━".repeat((span.as_secs_f64() / longest * 40.0).round() as usize);
        let line = format!("{name:<10} {:>10.3} ms  {bar}", span.as_secs_f64() * 1e3);
        eprintln!("{}", line.trim_end());
    }
}
