//! Several roots behind one listener, told apart by host and by path.

use std::fmt::Write;

use super::Connection;
use super::answer::{Answers, Out};
use super::files::{Files, Progress, below};
use crate::http::Status;
use crate::http::head::RequestHead;
use crate::http::path::SafePath;
use crate::http::target::Authority;

/// The sites of a listener.
pub(super) struct Sites {
    /// The most particular first: those with a host, then those with a long prefix.
    sites: Vec<Site>,
    /// What no site is for.
    rest: Option<Files>,
}

/// A root, and what it is for.
pub(super) struct Site {
    /// In lower case; `None` for all.
    pub(super) host: Option<String>,
    /// Without slashes around it; empty for all.
    pub(super) prefix: String,
    pub(super) files: Files,
}

impl Sites {
    pub(super) fn new(mut sites: Vec<Site>, rest: Option<Files>) -> Self {
        sites.sort_by_key(|site| std::cmp::Reverse((site.host.is_some(), site.prefix.len())));
        Self { sites, rest }
    }

    /// Answers a GET or HEAD.
    pub(super) fn respond(
        &mut self,
        head: &RequestHead<'_>,
        connection: Connection,
        answers: &mut Answers,
        out: &mut Out<'_>,
    ) -> Progress {
        // What is compared is the decoded path: `/%78/` is not a way around the site at `/x/`.
        let safe = match SafePath::parse(head.target.path().unwrap_or("")) {
            Ok(safe) => safe,
            Err(error) => {
                let status = Status::BAD_REQUEST;
                answers.text(status, error.text(), head.method, connection, out);
                return Progress::Answered;
            }
        };
        let fits = |site: &&mut Site| {
            let host = match (&site.host, &head.authority()) {
                (Some(wanted), Some(authority)) => is_host(wanted, authority),
                (wanted, _) => wanted.is_none(),
            };
            host && below(&site.prefix, &safe.relative).is_some()
        };
        let files = match self.sites.iter_mut().find(fits) {
            Some(site) => Some(&mut site.files),
            None => self.rest.as_mut(),
        };
        match files {
            Some(files) => files.respond(head, connection, answers, out),
            None => {
                let text = "this server has nothing for this host and path";
                answers.text(Status::NOT_FOUND, text, head.method, connection, out);
                Progress::Answered
            }
        }
    }
}

/// Whether the authority's host is `wanted`, whatever its port and case; a dot at its end is of no account.
fn is_host(wanted: &str, authority: &Authority<'_>) -> bool {
    let mut name = String::new();
    // Invariant: writing to a String does not fail.
    let _ = write!(name, "{}", authority.host);
    let name = name.strip_suffix('.').unwrap_or(&name);
    name.eq_ignore_ascii_case(wanted)
}
