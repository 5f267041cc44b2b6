//! The embedded site, served where no root is configured: what is listening where, with a command
//! to try each, and `HelloWorld.html`.

use std::fmt::Write;
use std::rc::Rc;
use std::task::Poll;

use super::files::Progress;
use super::forms::{self, Forms, put_coding};
use super::html::Html;
use super::reply::{Refusal, Reply};
use crate::config::{CompressConfig, ListenerConfig, addresses};
use crate::http::Status;
use crate::http::head::{RequestHead, put_head_end, put_header, put_header_number};
use crate::http::negotiate::Coding;
use crate::http::path::SafePath;

const HELLO: &str = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Hello</title>\n\
                     <h1>Hello, world!</h1>\n<p>Served by netlab-reactor.</p>\n</html>\n";

const CONTENT_TYPE: &str = "text/html; charset=utf-8";

/// The pages.
pub(super) struct Pages {
    index: Page,
    hello: Page,
}

struct Page {
    text: Rc<[u8]>,
    forms: Forms,
}

impl Page {
    fn new(text: &str, compress: &CompressConfig) -> Self {
        Self {
            text: text.as_bytes().into(),
            forms: Forms::new(compress, CONTENT_TYPE, text.len() as u64),
        }
    }
}

impl Pages {
    /// `listeners`: all of the process.
    pub(super) fn new(listeners: &[ListenerConfig], compress: &CompressConfig) -> Self {
        let mut rows = String::new();
        for (listener, bind) in addresses(listeners) {
            let kind = &listener.kind;
            let (name, at) = (kind.name(), Html(bind.to_string().as_bytes()).to_string());
            let attempt = kind.attempt(bind).unwrap_or_default();
            let attempt = Html(attempt.as_bytes());
            // Invariant: writing to a String does not fail.
            let _ = writeln!(
                rows,
                "<tr><td>{name}</td><td>{at}</td><td><code>{attempt}</code></td></tr>"
            );
        }
        let index = format!(
            "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>netlab-reactor</title>\n\
             <meta name=\"viewport\" content=\"width=device-width\">\n<style>{STYLE}</style>\n\
             <h1>netlab-reactor</h1>\n<p>One process, one thread, and these listeners:</p>\n\
             <table><tr><th>kind</th><th>address</th><th>try it</th></tr>\n{rows}</table>\n\
             <p>To serve a folder of your own: <code>netlab-reactor serve --root DIR</code>. \
             There is also a <a href=\"/HelloWorld.html\">page that says hello</a>.</p>\n</html>\n"
        );
        Self {
            index: Page::new(&index, compress),
            hello: Page::new(HELLO, compress),
        }
    }

    /// Answers a GET or HEAD.
    pub(super) fn respond(
        &mut self,
        head: &RequestHead<'_>,
        reply: &mut Reply<'_, '_>,
    ) -> Result<Progress, Box<Refusal>> {
        let path = SafePath::parse(head.target.path().unwrap_or_default())
            .map_err(|error| Refusal::new(Status::BAD_REQUEST, error.text()))?;
        let page = match (&*path.relative, path.folder) {
            (b"", true) | (b"index.html", false) => &mut self.index,
            (b"HelloWorld.html", false) => &mut self.hello,
            _ => {
                let text = "there is no such page here";
                return Err(Refusal::new(Status::NOT_FOUND, text).into());
            }
        };
        let Poll::Ready(chosen) = page.forms.choose(&page.text, &head.headers, reply) else {
            return Ok(Progress::Later);
        };
        let body_bytes = chosen.body.len() as u64;
        let answer = reply.begin(Status::OK);
        put_header(answer, "Content-Type", CONTENT_TYPE);
        put_coding(answer, chosen.coding);
        if !page.forms.is_empty() {
            put_header(answer, "Vary", "Accept-Encoding");
        }
        put_header_number(answer, "Content-Length", body_bytes);
        put_header(answer, "X-Content-Type-Options", "nosniff");
        put_head_end(answer);
        if reply.send(body_bytes) {
            reply.put(&chosen.body);
        }
        if chosen.coding != Coding::Identity {
            forms::count(&chosen.body, page.text.len() as u64, reply);
        }
        Ok(Progress::Answered)
    }
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}\
                     table{border-collapse:collapse}td,th{text-align:left;padding:.3em 1em .3em 0;\
                     border-bottom:1px solid #ccc}code{background:#f3f3f3;padding:.1em .3em}\
                     @media(prefers-color-scheme:dark){body{background:#111;color:#ddd}code{background:#222}a{color:#8cf}}";
