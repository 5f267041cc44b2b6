//! What a process tells of itself: is it alive, is it ready, what has it counted.
//!
//! GET and HEAD only, but for what changes something (`log`), and nothing for pages of other sites
//! ([`same_site`]). What is answered is
//! `pages`, pure functions of what was counted: `exposition`, `status` and `index`, each over the
//! table of metrics ([`crate::metrics::METRICS`]).

mod cache;
mod events;
mod exposition;
mod heartbeats;
mod index;
mod log;
mod pages;
mod process;
mod session;
mod sessions;
mod status;
#[cfg(test)]
mod tests;

use std::rc::Rc;
use std::task::Poll;
use std::time::SystemTime;

use super::files::Progress;
use super::live;
use super::reply::{self, Refusal, Reply};
use crate::config::AdminConfig;
use crate::http::Status;
use crate::http::head::{RequestHead, put_head_end, put_header, put_header_number};
use crate::http::same_site;
use crate::service::{Cx, Id, work};
use pages::{Draft, Name};

/// Pages are drawn by what this listener has itself, and are in no frame of another.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// The admin pages.
pub(super) struct Admin {
    hosts: Vec<String>,
    started: SystemTime,
    making: Vec<Making>,
    /// Held by each who listens to the events.
    listening: Rc<()>,
}

/// A long page that takes more than one share of work. Who asks for it meanwhile gets it too.
struct Making {
    name: Name,
    draft: Draft,
    /// Sessions to be woken when it is done.
    waiters: Vec<Id>,
    /// It is done; it goes at the end of the turn in which those who waited take it.
    done: Option<Rc<[u8]>>,
}

impl Admin {
    /// As configured, in a process that began to serve at `started`.
    pub(super) fn new(config: &AdminConfig, started: SystemTime) -> Self {
        Self {
            hosts: config.hosts.clone(),
            started,
            making: Vec::new(),
            listening: Rc::default(),
        }
    }

    /// The methods of what is at a path.
    pub(super) fn methods(path: &str) -> &'static str {
        match path {
            log::PATH => log::ALLOW,
            _ => reply::ALLOW,
        }
    }

    /// Answers a request by one of [those methods](Self::methods), but for OPTIONS. `path`: below the
    /// prefix of the site; empty for the prefix without its slash, which leads to the one with it, or
    /// the pages' own links would lead past it.
    pub(super) fn respond(
        &mut self,
        path: &str,
        head: &RequestHead<'_>,
        reply: &mut Reply<'_, '_>,
    ) -> Result<Progress, Box<Refusal>> {
        if let Err(foreign) = same_site::check(head, &self.hosts) {
            return Err(Refusal::new(foreign.status(), foreign.text()).into());
        }
        if path.is_empty() {
            let whole = head.target.path().unwrap_or_default();
            let location = format!("{whole}/");
            let text = "the admin pages are below this; see Location";
            return Err(Refusal::redirect(Status::MOVED_PERMANENTLY, text, location).into());
        }
        if let Some(number) = session::at(path) {
            return session::respond(number, reply);
        }
        let live = match path {
            "/trace" => live::begin(head, reply)?,
            "/events" => return events::begin(head, (self.started, &self.listening), reply),
            "/turns.json" => events::turns(head, reply)?,
            _ => return self.respond_page(path, head, reply),
        };
        Ok(live.map_or(Progress::Answered, Progress::Lives))
    }

    fn respond_page(
        &mut self,
        path: &str,
        head: &RequestHead<'_>,
        reply: &mut Reply<'_, '_>,
    ) -> Result<Progress, Box<Refusal>> {
        if let Some(name) = Name::at(path) {
            return Ok(self.respond_long(name, reply));
        }
        match path {
            log::PATH => {
                let text = log::respond(head)?;
                if begin(Status::OK, pages::TEXT, text.len(), reply) {
                    reply.put(text.as_bytes());
                }
                return Ok(Progress::Answered);
            }
            "/heartbeats" => return Ok(respond_heartbeats(reply)),
            "/cache.json" if reply.cx.inside.replayed.is_some() => {
                let text = "a record has no stores; what was counted of them is in /status.json";
                return Err(Refusal::new(Status::NOT_FOUND, text).into());
            }
            "/cache.json" => {
                respond_json(&cache::page(reply.cx.stores), reply);
                return Ok(Progress::Answered);
            }
            _ => {}
        }
        let page = pages::answer(path, &pages::view(false, reply.cx, self.started))?;
        if begin(page.status, page.content_type, page.body.len(), reply) {
            reply.put(page.body.as_bytes());
        }
        Ok(Progress::Answered)
    }

    /// Answers with a long page: at once if the session's share of work is enough to write it.
    fn respond_long(&mut self, name: Name, reply: &mut Reply<'_, '_>) -> Progress {
        if let Some(making) = self.making.iter_mut().find(|making| making.name == name) {
            let Some(text) = &making.done else {
                if !making.waiters.contains(&reply.id) {
                    making.waiters.push(reply.id);
                }
                return Progress::Later;
            };
            if begin(Status::OK, name.content_type(), text.len(), reply) {
                reply.tx.put_shared(text, 0..text.len(), reply.cx.pool);
            }
            return Progress::Answered;
        }
        let Poll::Ready(mut draft) = name.draft(reply.id, reply.cx) else {
            return Progress::Later;
        };
        if !go_on(&mut draft, self.started, reply.cx) {
            self.making.push(Making {
                name,
                draft,
                waiters: Vec::from([reply.id]),
                done: None,
            });
            return Progress::Later;
        }
        let text = draft.text();
        if begin(Status::OK, name.content_type(), text.len(), reply) {
            reply.put(text.as_bytes());
        }
        Progress::Answered
    }

    /// Goes on with what takes more than one share of work. Whether there is more to do.
    pub(super) fn work(&mut self, cx: &mut Cx<'_>) -> bool {
        self.making.retain(|making| making.done.is_none());
        for making in &mut self.making {
            if cx.work.is_spent() {
                break;
            }
            if go_on(&mut making.draft, self.started, cx) {
                making.done = Some(making.draft.text().as_bytes().into());
                cx.woken.append(&mut making.waiters);
            }
        }
        !self.making.is_empty()
    }
}

/// Answers with the senders of heartbeats, once the listeners have told of them.
fn respond_heartbeats(reply: &mut Reply<'_, '_>) -> Progress {
    let Poll::Ready(tables) = reply.cx.senders.ask(reply.id) else {
        return Progress::Later;
    };
    respond_json(&heartbeats::page(&tables), reply);
    Progress::Answered
}

/// Answers with a page that was written in one step.
pub(super) fn respond_json(text: &str, reply: &mut Reply<'_, '_>) {
    let work = &mut reply.cx.work;
    work.charge_each(text.len(), work::PAGE_BYTE_NS);
    if begin(Status::OK, "application/json", text.len(), reply) {
        reply.put(text.as_bytes());
    }
}

/// Writes as much of a page as the share of work allows. Whether that is all.
fn go_on(draft: &mut Draft, started: SystemTime, cx: &mut Cx<'_>) -> bool {
    let before = draft.text().len();
    let bytes = cx.work.steps(work::PAGE_BYTE_NS);
    let is_done = draft.go_on(&pages::view(true, cx, started), bytes);
    let written = draft.text().len() - before;
    cx.work.charge_each(written, work::PAGE_BYTE_NS);
    is_done
}

/// Sends the head of a page. Whether its body follows.
fn begin(status: Status, content_type: &str, body_bytes: usize, reply: &mut Reply<'_, '_>) -> bool {
    let answer = reply.begin(status);
    put_header(answer, "Content-Type", content_type);
    put_header_number(answer, "Content-Length", body_bytes as u64);
    put_header(answer, "Cache-Control", "no-store");
    put_header(answer, "X-Content-Type-Options", "nosniff");
    put_header(answer, "Content-Security-Policy", POLICY);
    put_head_end(answer);
    reply.send(body_bytes as u64)
}
