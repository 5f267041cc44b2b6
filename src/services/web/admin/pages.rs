//! The pages: from a path and what was counted to a body. Nothing here knows how it is sent.

use std::borrow::Cow;
use std::task::Poll;
use std::time::SystemTime;

use super::{exposition, index, process, sessions, status};
use crate::http::Status;
use crate::inside::replayed::Replayed;
use crate::metrics::{Process, View};
use crate::service::{Cx, Id, work};
use crate::services::web::reply::Refusal;

/// Every page, for those who asked for another.
const PAGES: &str = "/, /livez, /readyz, /metrics, /status.json, /sessions.json, /heartbeats, \
                      /sessions/ID.json, /turns.json, /cache.json, /events, /trace, /log";

pub(super) const TEXT: &str = "text/plain; charset=utf-8";

/// What is answered to one request.
#[derive(Debug)]
pub(super) struct Page {
    pub(super) status: Status,
    pub(super) content_type: &'static str,
    pub(super) body: Cow<'static, str>,
}

/// A page that tells of all listeners: it may be long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Name {
    Index,
    Metrics,
    Status,
    Sessions,
}

/// One that is being written, a piece at a time.
pub(super) enum Draft {
    Index(index::Page),
    Metrics(exposition::Page),
    Status(status::Page),
    Sessions(sessions::Page),
}

impl Name {
    /// The one at a path, if it is one of them.
    pub(super) fn at(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Index,
            "/metrics" => Self::Metrics,
            "/status.json" => Self::Status,
            "/sessions.json" => Self::Sessions,
            _ => return None,
        })
    }

    /// One that is to be written; a session that has to wait for what it tells of is woken.
    pub(super) fn draft(self, asking: Id, cx: &mut Cx<'_>) -> Poll<Draft> {
        Poll::Ready(match self {
            Self::Index => Draft::Index(index::Page::default()),
            Self::Metrics => Draft::Metrics(exposition::Page::default()),
            Self::Status => Draft::Status(status::Page::default()),
            Self::Sessions => {
                let rows = cx.inside.roster.ask(asking);
                return rows.map(|rows| Draft::Sessions(sessions::Page::new(rows)));
            }
        })
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Index => "text/html; charset=utf-8",
            Self::Metrics => exposition::CONTENT_TYPE,
            Self::Status | Self::Sessions => "application/json",
        }
    }
}

impl Draft {
    /// Writes about so many bytes more. Whether that is all.
    pub(super) fn go_on(&mut self, view: &View<'_>, bytes: usize) -> bool {
        match self {
            Self::Index(page) => page.go_on(view, bytes),
            Self::Metrics(page) => page.go_on(view, bytes),
            Self::Status(page) => page.go_on(view, bytes),
            Self::Sessions(page) => page.go_on(view, bytes),
        }
    }

    /// What is written.
    pub(super) fn text(&mut self) -> &mut String {
        match self {
            Self::Index(page) => &mut page.text,
            Self::Metrics(page) => page.text(),
            Self::Status(page) => &mut page.text,
            Self::Sessions(page) => &mut page.text,
        }
    }
}

impl Page {
    /// A part of the first page.
    fn embedded(content_type: &'static str, body: &'static str) -> Self {
        Self {
            status: Status::OK,
            content_type,
            body: body.into(),
        }
    }

    /// A page of plain text.
    pub(super) fn text(status: Status, body: impl Into<Cow<'static, str>>) -> Self {
        Self {
            status,
            content_type: TEXT,
            body: body.into(),
        }
    }
}

/// What there is to be seen now, in a process that began to serve at `started`. Of the operating
/// system is asked what only the long pages show.
pub(super) fn view<'a>(long: bool, cx: &'a mut Cx<'_>, started: SystemTime) -> View<'a> {
    if let Some(replayed) = &cx.inside.replayed {
        return of_record(replayed);
    }
    let process = match long {
        true => {
            cx.work.charge(work::PROCESS_NS);
            process::read(cx.disk)
        }
        false => Process::default(),
    };
    View {
        process,
        metrics: cx.counted.all(),
        record: None,
        beside: cx.beside(),
        started,
        wall: cx.wall,
    }
}

/// The same of a record, as of its end. What the operating system said of its process nobody asked.
fn of_record(replayed: &Replayed) -> View<'_> {
    let books = &replayed.books;
    View {
        process: Process::default(),
        metrics: &books.metrics,
        record: Some((&replayed.about, replayed.numbers())),
        beside: books.beside,
        started: books.started,
        wall: books.wall,
    }
}

/// The page at a path, unless it is a long one.
///
/// # Errors
/// There is none.
pub(super) fn answer(path: &str, view: &View<'_>) -> Result<Page, Refusal> {
    Ok(match path {
        "/livez" => Page::text(Status::OK, "ok\n"),
        "/dashboard.css" => Page::embedded("text/css", include_str!("dashboard.css")),
        "/dashboard.js" => Page::embedded("text/javascript", include_str!("dashboard.js")),
        "/inspect.js" => Page::embedded("text/javascript", include_str!("inspect.js")),
        "/readyz" if view.metrics.draining => Page::text(Status::SERVICE_UNAVAILABLE, "draining\n"),
        "/readyz" => match down(view) {
            down if down.is_empty() => Page::text(Status::OK, "ready\n"),
            down => Page::text(Status::SERVICE_UNAVAILABLE, down),
        },
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
