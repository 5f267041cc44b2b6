//! What a listener serves, told apart by host and by path: each site with its content, who may see it, and its errors.
//!
//! Every error of the server is answered in one place, [`Site::refuse`], with the page that the configuration has for it. What
//! was no request is refused by the site that is for everything else.

use std::fmt::Write;
use std::io;
use std::path::PathBuf;
use std::task::Poll;

use super::Connection;
use super::answer::{Answers, Detail, Out, Refusal};
use super::auth::{Auth, Verdict};
use super::files::{Files, Progress, below};
use super::pages::Pages;
use crate::cache::files::Limits;
use crate::config::FilesConfig;
use crate::disk::Disk;
use crate::http::head::{RequestHead, put_header, put_header_number};
use crate::http::path::SafePath;
use crate::http::range::put_content_range_unsatisfied;
use crate::http::target::Authority;
use crate::http::{Method, Status};
use crate::metrics::Limit;

const UNAUTHORIZED: Refusal = Refusal::new(
    Status::UNAUTHORIZED,
    "a name and a password are needed here",
);

const TOO_MANY_PASSWORDS: Refusal = Refusal::beyond(
    Limit::Passwords,
    Status::SERVICE_UNAVAILABLE,
    "too many passwords are being checked; try again in a moment",
);

/// The sites of a listener.
pub(super) struct Sites {
    /// The most particular first: those with a host, then those with a long prefix.
    sites: Vec<Site>,
    /// What is for everything else.
    rest: Site,
}

/// What is served for some hosts and paths.
pub(super) struct Site {
    /// In lower case; `None` for all.
    host: Option<String>,
    /// Without slashes around it; empty for all.
    prefix: String,
    pub(super) content: Content,
    auth: Option<Box<Auth>>,
}

#[allow(clippy::large_enum_variant)] // there are a handful in a process
pub(super) enum Content {
    Files(Files),
    Pages(Pages),
    /// There are other sites only.
    Nothing,
}

impl Sites {
    pub(super) fn new(mut sites: Vec<Site>, rest: Site) -> Self {
        sites.sort_by_key(|site| std::cmp::Reverse((site.host.is_some(), site.prefix.len())));
        Self { sites, rest }
    }

    /// What a request is for; without one, what is for everything else.
    pub(super) fn find(&mut self, head: Option<&RequestHead<'_>>) -> &mut Site {
        let path = head.and_then(|head| head.target.path());
        let (Some(head), Some(path), false) = (head, path, self.sites.is_empty()) else {
            return &mut self.rest;
        };
        // What is compared is the decoded path: `/%78/` is not a way around the site at `/x/`.
        let Ok(safe) = SafePath::parse(path) else {
            return &mut self.rest; // which refuses it
        };
        let fits = |site: &&mut Site| {
            let host = match (&site.host, &head.authority()) {
                (Some(wanted), Some(authority)) => is_host(wanted, authority),
                (wanted, _) => wanted.is_none(),
            };
            host && below(&site.prefix, &safe.relative).is_some()
        };
        self.sites.iter_mut().find(fits).unwrap_or(&mut self.rest)
    }
}

impl Site {
    /// A site as configured: for a host, or for all, and below a prefix; with the files of `root`, or with nothing.
    ///
    /// # Errors
    /// The root cannot be opened.
    pub(super) fn open(
        host: Option<String>,
        prefix: &str,
        root: Option<&PathBuf>,
        config: &FilesConfig,
        limits: Limits,
        disk: &mut dyn Disk,
    ) -> Result<Self, (PathBuf, io::Error)> {
        let content = match root {
            Some(root) => {
                let folder = disk.open_folder(root);
                let folder = folder.map_err(|error| (root.clone(), error))?;
                Content::Files(Files::new(folder, prefix, config, limits, disk))
            }
            None => Content::Nothing,
        };
        let auth = config.auth.as_ref().map(|auth| {
            let mut key = [0; 32];
            disk.entropy(&mut key);
            Box::new(Auth::new(auth, key))
        });
        Ok(Self {
            host,
            prefix: prefix.to_owned(),
            content,
            auth,
        })
    }

    /// Whether the request may see anything of the site; asked again, once a turn, until it answers.
    pub(super) fn admit(
        &mut self,
        head: &RequestHead<'_>,
        out: &Out<'_, '_>,
    ) -> Poll<Result<(), Refusal>> {
        let Some(auth) = &mut self.auth else {
            return Poll::Ready(Ok(()));
        };
        match auth.judge(head, out) {
            Verdict::Right => Poll::Ready(Ok(())),
            Verdict::Later => Poll::Pending,
            Verdict::Wrong => Poll::Ready(Err(UNAUTHORIZED)),
            Verdict::Busy => Poll::Ready(Err(TOO_MANY_PASSWORDS)),
        }
    }

    /// Answers a GET or HEAD.
    pub(super) fn respond(
        &mut self,
        head: &RequestHead<'_>,
        connection: Connection,
        answers: &mut Answers,
        out: &mut Out<'_, '_>,
    ) -> Result<Progress, Refusal> {
        match &mut self.content {
            Content::Files(files) => files.respond(head, connection, answers, out),
            Content::Pages(pages) => {
                pages.respond(head, connection, answers, out)?;
                Ok(Progress::Answered)
            }
            Content::Nothing => {
                let text = "this server has nothing for this host and path";
                Err(Refusal::new(Status::NOT_FOUND, text))
            }
        }
    }

    /// Answers with an error: with the page for it if there is one, or else with a small page of our own.
    #[cold]
    pub(super) fn refuse(
        &mut self,
        refusal: Refusal,
        method: Method<'_>,
        connection: Connection,
        answers: &mut Answers,
        out: &mut Out<'_, '_>,
    ) {
        let Refusal {
            status,
            text,
            detail,
            limit,
        } = refusal;
        if let Some(limit) = limit {
            out.cx.counted.refused(limit);
        }
        let mut lines = match &self.content {
            Content::Files(files) => files.lines.to_vec(),
            Content::Pages(_) | Content::Nothing => Vec::new(),
        };
        match detail {
            Detail::None => {}
            Detail::Allow(methods) => put_header(&mut lines, "Allow", methods),
            Detail::Length(bytes) => {
                lines.extend_from_slice(b"Content-Range: ");
                put_content_range_unsatisfied(&mut lines, bytes);
                lines.extend_from_slice(b"\r\n");
            }
        }
        match (status, &self.auth) {
            (Status::UNAUTHORIZED, Some(auth)) => {
                put_header(&mut lines, "WWW-Authenticate", &auth.challenge);
            }
            (Status::SERVICE_UNAVAILABLE, _) => put_header_number(&mut lines, "Retry-After", 1),
            _ => {}
        }
        let others = std::mem::replace(&mut answers.lines, lines.into());
        let has_page = match &mut self.content {
            Content::Files(files) => files.put_error_page(status, method, connection, answers, out),
            Content::Pages(_) | Content::Nothing => false,
        };
        if !has_page {
            answers.text(status, text, method, connection, out);
        }
        answers.lines = others;
        answers.refused = true;
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
