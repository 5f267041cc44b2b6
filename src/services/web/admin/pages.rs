//! The pages: from a path and what was counted to a body. Nothing here knows how it is sent.

use std::time::SystemTime;

use super::{exposition, index, process, status};
use crate::http::Status;
use crate::jobs::Kind;
use crate::metrics::View;
use crate::service::Cx;
use crate::services::web::reply::Refusal;

/// Every page, for those who asked for another.
const PAGES: &str = "/, /livez, /readyz, /metrics, /status.json";

const TEXT: &str = "text/plain; charset=utf-8";

/// What is answered to one request.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: Status,
    pub(super) content_type: &'static str,
    pub(super) body: String,
}

impl Page {
    /// A page of plain text.
    pub(super) fn text(status: Status, body: impl Into<String>) -> Self {
        Self {
            status,
            content_type: TEXT,
            body: body.into(),
        }
    }

    fn of(content_type: &'static str, body: String) -> Self {
        Self {
            status: Status::OK,
            content_type,
            body,
        }
    }
}

/// What there is to be seen now, in a process that began to serve at `started`.
pub(super) fn view<'a>(cx: &'a mut Cx<'_>, started: SystemTime) -> View<'a> {
    View {
        process: process::read(cx.disk),
        metrics: cx.counted.all(),
        resolver: cx.resolver.counters(),
        lookups: cx.resolver.lookups_under_way(),
        cached_names: cx.resolver.cached(),
        compressed: cx.compressed.counters(),
        compressed_bytes: cx.compressed.bytes(),
        jobs: Kind::ALL.map(|kind| cx.jobs.counts(kind)),
        jobs_under_way: cx.jobs.under_way(),
        started,
        wall: cx.wall,
    }
}

/// The page at a path.
///
/// # Errors
/// There is none.
pub(super) fn answer(path: &str, view: &View<'_>) -> Result<Page, Refusal> {
    Ok(match path {
        "/" => Page::of("text/html; charset=utf-8", index::page(view)),
        "/livez" => Page::text(Status::OK, "ok\n"),
        "/readyz" if view.metrics.draining => Page::text(Status::SERVICE_UNAVAILABLE, "draining\n"),
        "/readyz" => match down(view) {
            down if down.is_empty() => Page::text(Status::OK, "ready\n"),
            down => Page::text(Status::SERVICE_UNAVAILABLE, down),
        },
        "/metrics" => Page::of(exposition::CONTENT_TYPE, exposition::page(view)),
        "/status.json" => Page::of("application/json", status::page(view)),
        _ => {
            let text = format!("there is no such page: expected one of {PAGES}");
            return Err(Refusal::told(Status::NOT_FOUND, text));
        }
    })
}

/// A line for each listener whose socket failed and that has no other one yet.
fn down(view: &View<'_>) -> String {
    let down = view.listeners().filter(|listener| listener.is_down);
    down.map(|listener| format!("down: {listener}\n")).collect()
}
