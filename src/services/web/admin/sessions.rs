//! `/sessions.json`: every session that there is, with the state of its protocol.

use std::rc::Rc;

use serde_json::json;

use crate::inside::roster::Row;
use crate::metrics::View;

/// The list, written a piece at a time.
pub(super) struct Page {
    pub(super) text: String,
    rows: Rc<[Row]>,
    /// Rows that are written.
    written: usize,
}

impl Page {
    pub(super) fn new(rows: Rc<[Row]>) -> Self {
        Self {
            text: String::from("["),
            rows,
            written: 0,
        }
    }

    /// Writes about so many bytes more. Whether that is all.
    pub(super) fn go_on(&mut self, view: &View<'_>, bytes: usize) -> bool {
        let end = self.text.len().saturating_add(bytes);
        for row in &self.rows[self.written..] {
            if self.text.len() >= end {
                return false;
            }
            self.written += 1;
            // A listener that is gone has no sessions, but for those that ended since.
            let Some(listener) = view.metrics.listeners.get(row.listener) else {
                continue;
            };
            if self.text.len() > 1 {
                self.text.push_str(",\n");
            }
            let object = json!({
                "id": row.id.generation,
                "listener": &*listener.name,
                "kind": listener.kind,
                "peer": row.peer,
                "state": row.state,
                "waits_for": row.waits.name(),
                "deadline_ms": row.deadline_ms,
                "received_bytes": row.received,
                "queued_bytes": row.queued,
                "has_origin": row.has_origin,
            });
            self.text.push_str(&object.to_string());
        }
        self.text.push_str("]\n");
        true
    }
}
