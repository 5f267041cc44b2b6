//! The embedded site, served where no root is configured: what is listening where, with a command to try each, and
//! `HelloWorld.html`.

use std::fmt::Write;

use super::html::Html;
use super::reply::{Refusal, Reply};
use crate::config::{ListenerConfig, addresses};
use crate::http::Status;
use crate::http::head::RequestHead;
use crate::http::path::SafePath;

const HELLO: &str = "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Hello</title>\n\
                     <h1>Hello, world!</h1>\n<p>Served by netlab-reactor.</p>\n</html>\n";

/// The pages.
pub(super) struct Pages {
    index: String,
}

impl Pages {
    /// `listeners`: all of the process.
    pub(super) fn new(listeners: &[ListenerConfig]) -> Self {
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
        Self { index }
    }

    /// Answers a GET or HEAD.
    pub(super) fn respond(
        &self,
        head: &RequestHead<'_>,
        reply: &mut Reply<'_, '_>,
    ) -> Result<(), Refusal> {
        let path = SafePath::parse(head.target.path().unwrap_or_default())
            .map_err(|error| Refusal::new(Status::BAD_REQUEST, error.text()))?;
        let page = match (&*path.relative, path.folder) {
            (b"", true) | (b"index.html", false) => &self.index,
            (b"HelloWorld.html", false) => HELLO,
            _ => {
                let text = "there is no such page here";
                return Err(Refusal::new(Status::NOT_FOUND, text));
            }
        };
        reply.body(Status::OK, "text/html; charset=utf-8", page.as_bytes());
        Ok(())
    }
}

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:60em;margin:2em auto;padding:0 1em}\
                     table{border-collapse:collapse}td,th{text-align:left;padding:.3em 1em .3em 0;\
                     border-bottom:1px solid #ccc}code{background:#f3f3f3;padding:.1em .3em}\
                     @media(prefers-color-scheme:dark){body{background:#111;color:#ddd}code{background:#222}a{color:#8cf}}";
