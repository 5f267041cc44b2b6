//! `/events`: the status, once a second, as Server-Sent Events.
//!
//! Source: HTML Living Standard, section 9.2 (server-sent events).

use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime};

use super::pages;
use super::status;
use crate::http::Status;
use crate::http::head::RequestHead;
use crate::service::{Cx, work};
use crate::services::web::live::{self, Live, Source};
use crate::services::web::reply::{Refusal, Reply};

/// How often the status is told.
const PAUSE: Duration = Duration::from_secs(1);
/// For how long: the browser asks again by itself, which shows that it is still there.
const LIFE: Duration = Duration::from_secs(3600);
/// Those who listen at once.
const LISTENERS_MAX: usize = 64;

/// One who listens.
struct Pulse {
    started: SystemTime,
    /// The status that is being written.
    page: Option<status::Page>,
    next: Instant,
    /// Counts those who listen.
    _place: Rc<()>,
}

impl Source for Pulse {
    fn look(&mut self, cx: &mut Cx<'_>, text: &mut String) -> bool {
        if self.page.is_none() && cx.now < self.next {
            return true;
        }
        let mut page = self.page.take().unwrap_or_default();
        let before = page.text.len();
        let bytes = cx.work.steps(work::PAGE_BYTE_NS);
        let is_whole = page.go_on(&pages::view(true, cx, self.started), bytes);
        let written = page.text.len() - before;
        cx.work.charge_each(written, work::PAGE_BYTE_NS);
        if !is_whole {
            self.page = Some(page);
            return false;
        }
        text.push_str("event: status\ndata: ");
        text.push_str(page.text.trim_end());
        text.push_str("\n\n");
        self.next = cx.now + PAUSE;
        true
    }

    fn end(&mut self, _cx: &mut Cx<'_>, _text: &mut String) {}

    fn ended(&mut self, _cx: &mut Cx<'_>) {}

    fn pause(&self) -> Duration {
        PAUSE
    }
}

/// Begins to answer a request for `/events`; `None` if its head was all. `places`: counts those who
/// listen.
///
/// # Errors
/// There are too many.
pub(super) fn begin(
    head: &RequestHead<'_>,
    (started, places): (SystemTime, &Rc<()>),
    reply: &mut Reply<'_, '_>,
) -> Result<Option<Box<Live>>, Box<Refusal>> {
    if Rc::strong_count(places) > LISTENERS_MAX {
        let text =
            format!("{LISTENERS_MAX} listen to the events already; expected to wait for one");
        return Err(Refusal::told(Status::SERVICE_UNAVAILABLE, text).into());
    }
    if !live::begin_head(head, "text/event-stream", reply) {
        return Ok(None);
    }
    let pulse = Pulse {
        started,
        page: None,
        next: reply.cx.now,
        _place: Rc::clone(places),
    };
    let until = reply.cx.now + LIFE;
    Ok(Some(Live::new(
        Box::new(pulse),
        String::new(),
        head,
        until,
        reply,
    )))
}
