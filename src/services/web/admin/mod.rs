//! What a process tells of itself: is it alive, is it ready, what has it counted.
//!
//! GET and HEAD only, and nothing for pages of other sites ([`same_site`]). What is answered is
//! `pages`, pure functions of what was counted: `exposition`, `status` and `index`, each over the
//! table of metrics ([`crate::metrics::METRICS`]).

mod exposition;
mod index;
mod pages;
mod process;
mod status;
#[cfg(test)]
mod tests;

use std::time::SystemTime;

use super::reply::{Refusal, Reply};
use crate::config::AdminConfig;
use crate::http::head::{RequestHead, put_head_end, put_header, put_header_number};
use crate::http::same_site;
use crate::service::work;

/// The admin pages.
pub(super) struct Admin {
    hosts: Vec<String>,
    started: SystemTime,
}

impl Admin {
    /// As configured, in a process that began to serve at `started`.
    pub(super) fn new(config: &AdminConfig, started: SystemTime) -> Self {
        Self {
            hosts: config.hosts.clone(),
            started,
        }
    }

    /// Answers a GET or HEAD.
    pub(super) fn respond(
        &self,
        head: &RequestHead<'_>,
        reply: &mut Reply<'_, '_>,
    ) -> Result<(), Refusal> {
        if let Err(foreign) = same_site::check(head, &self.hosts) {
            return Err(Refusal::new(foreign.status(), foreign.text()));
        }
        let path = head.target.path().unwrap_or_default();
        let page = pages::answer(path, &pages::view(path, reply.cx, self.started))?;
        let page_bytes = page.body.len();
        reply.cx.work.charge_each(page_bytes, work::PAGE_BYTE_NS);
        let answer = reply.begin(page.status);
        put_header(answer, "Content-Type", page.content_type);
        put_header_number(answer, "Content-Length", page.body.len() as u64);
        put_header(answer, "Cache-Control", "no-store");
        put_header(answer, "X-Content-Type-Options", "nosniff");
        put_head_end(answer);
        if reply.send(page.body.len() as u64) {
            reply.put(page.body.as_bytes());
        }
        Ok(())
    }
}
