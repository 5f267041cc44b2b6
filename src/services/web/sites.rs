//! What a listener serves, told apart by host and by path: each site with its content, who may see
//! it, and its errors.
//!
//! Every error of the server is answered in one place, [`Site::refuse`], with the page that the
//! configuration has for it. Input that never became a request is refused by the
//! default site.

use std::io;
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::Instant;

use super::Place;
use super::admin::Admin;
use super::auth::{Auth, Verdict};
use super::files::{Files, Progress, below};
use super::pages::Pages;
use super::proxy::{Check, Forward, LearnedOfUpstreams, Proxy};
use super::reply::{self, Detail, Refusal, Reply};
use crate::cache::files::Capacity;
use crate::config::{AuthConfig, FilesConfig};
use crate::disk::Disk;
use crate::http::cors::{self, Cors};
use crate::http::head::{RequestHead, put_header, put_header_number};
use crate::http::negotiate::ErrorFormat;
use crate::http::path::SafePath;
use crate::http::range::put_content_range_unsatisfied;
use crate::http::target::Target;
use crate::http::{Method, Status};
use crate::metrics::Limit;
use crate::service::{Cx, Id, Peer, work};
use crate::wire::challenge::Secret;

pub(super) const UNKNOWN_METHOD: Refusal =
    Refusal::new(Status::NOT_IMPLEMENTED, "this server knows no such method");

/// The header lines of a proxy's refusal, nearly always.
const LINES_BYTES: usize = 256;

const TOO_MANY_PASSWORDS: Refusal = Refusal::beyond(
    Limit::Passwords,
    Status::SERVICE_UNAVAILABLE,
    "too many passwords are being checked; try again in a moment",
);

const WRONG_TOO_OFTEN: Refusal = Refusal::beyond(
    Limit::Passwords,
    Status::TOO_MANY_REQUESTS,
    "too many wrong passwords came from this address; try again in a minute",
);

/// The sites of a listener: those with a host first, then those with a long prefix; the last is for
/// everything else.
pub(super) struct Sites(Vec<Site>);

/// What gateways know of their upstreams, by the host and the prefix of their sites.
pub(super) type Learned = Vec<((Option<String>, String), LearnedOfUpstreams)>;

/// What is served for some hosts and paths.
pub(super) struct Site {
    /// In lower case; `None` for all.
    host: Option<String>,
    /// Without slashes around it; empty for all.
    prefix: String,
    pub(super) content: Content,
    auth: Option<Box<Auth>>,
    /// The folder of its error pages, if it is not that of its files.
    pub(super) errors: Option<Box<Files>>,
    /// The probe's routes are served before the content.
    pub(super) has_probe: bool,
    /// Which pages of other sites may read the answers.
    pub(super) cors: Option<Cors>,
}

/// What a site answers with.
#[allow(clippy::large_enum_variant)] // there are a handful in a process
pub(super) enum Content {
    Files(Files),
    Pages(Pages),
    Proxy(Proxy),
    Admin(Admin),
    /// There are other sites only.
    Nothing,
}

/// What a site asks though no client did.
pub(super) enum Alone {
    /// A request.
    Forward(Box<Forward>),
    /// Whether an upstream is well.
    Check(Check),
}

impl Sites {
    pub(super) fn new(mut sites: Vec<Site>, rest: Site) -> Self {
        sites.sort_by_key(|site| std::cmp::Reverse((site.host.is_some(), site.prefix.len())));
        sites.push(rest);
        for place in 0..sites.len() {
            let elsewhere = elsewhere(&sites, place);
            if let Content::Files(files) = &mut sites[place].content {
                files.leave(elsewhere);
            }
        }
        Self(sites)
    }

    /// The one for everything else, and for what is no request.
    pub(super) fn rest(&self) -> Place {
        self.0.len() - 1
    }

    pub(super) fn at(&mut self, place: Place) -> &mut Site {
        &mut self.0[place]
    }

    /// Whether any of them sends requests on.
    pub(super) fn forwards(&self) -> bool {
        (0..self.0.len()).any(|place| self.forwards_at(place))
    }

    /// The upstreams of all gateways, as they are counted, and whether each gets requests.
    pub(super) fn upstreams(&self) -> impl Iterator<Item = (&str, bool)> {
        let proxies = self.0.iter().filter_map(|site| match &site.content {
            Content::Proxy(proxy) => Some(proxy),
            _ => None,
        });
        proxies.flat_map(Proxy::upstreams_served)
    }

    /// What the gateways know of their upstreams.
    pub(super) fn learned(&self) -> Learned {
        let learned = self.0.iter().filter_map(|site| {
            let Content::Proxy(proxy) = &site.content else {
                return None;
            };
            let place = (site.host.clone(), site.prefix.clone());
            Some((place, proxy.learned()?))
        });
        learned.collect()
    }

    /// They know from now on what those did in whose place they are, each by its host and prefix.
    pub(super) fn inherit(&mut self, learned: &Learned) {
        for site in &mut self.0 {
            let is_it = |(place, _): &&(_, _)| {
                let (host, prefix): &(Option<String>, String) = place;
                (host, prefix) == (&site.host, &site.prefix)
            };
            if let (Content::Proxy(proxy), Some((_, learned))) =
                (&mut site.content, learned.iter().find(is_it))
            {
                proxy.inherit(learned);
            }
        }
    }

    /// Whether this one does.
    pub(super) fn forwards_at(&self, place: Place) -> bool {
        matches!(self.0[place].content, Content::Proxy(_))
    }

    /// Whether a request of this one's own is to begin.
    #[inline]
    pub(super) fn wants_alone(&self, place: Place) -> bool {
        matches!(&self.0[place].content, Content::Proxy(proxy) if proxy.wants_alone())
    }

    /// What a site asks of its own accord, and is to begin.
    pub(super) fn take_alone(&mut self, now: Instant) -> Option<Alone> {
        let mut sites = self.0.iter_mut().enumerate();
        sites.find_map(|(place, site)| match &mut site.content {
            Content::Proxy(proxy) => {
                let forward = proxy.take_alone().map(Alone::Forward);
                let check = || Some(Alone::Check(proxy.take_check(place, now)?));
                forward.or_else(check)
            }
            _ => None,
        })
    }

    /// What a request is for.
    pub(super) fn find(&self, head: &RequestHead<'_>) -> Place {
        let rest = self.rest();
        if rest == 0 {
            return rest;
        }
        let Some(path) = head.target.path() else {
            return rest;
        };
        // What is compared is the decoded path: `/%78/` is not a way around the site at `/x/`.
        let Ok(safe) = SafePath::parse(path) else {
            return rest; // which refuses it
        };
        let fits = |site: &Site| {
            let host = match (&site.host, &head.authority()) {
                (Some(wanted), Some(authority)) => authority.is_host(wanted),
                (wanted, _) => wanted.is_none(),
            };
            host && below(&site.prefix, &safe.relative).is_some()
        };
        self.0[..rest].iter().position(fits).unwrap_or(rest)
    }

    /// Goes on with what takes more than one turn. Whether there is more to do at once.
    pub(super) fn turn_ended(&mut self, cx: &mut Cx<'_>) -> bool {
        let mut is_left = false;
        for site in &mut self.0 {
            if let Some(auth) = &mut site.auth {
                is_left |= auth.work(cx);
            }
            is_left |= match &mut site.content {
                Content::Files(files) => files.turn_ended(cx),
                Content::Admin(admin) => admin.work(cx),
                _ => false,
            };
        }
        is_left
    }

    /// When that is to be called though nothing happened.
    pub(super) fn turn_deadline(&self) -> Option<Instant> {
        let deadlines = self.0.iter().filter_map(|site| match &site.content {
            Content::Files(files) => files.turn_deadline(),
            Content::Proxy(proxy) => proxy.check_due(),
            _ => None,
        });
        deadlines.min()
    }

    /// A session whose request waited has gone.
    pub(super) fn forget(&mut self, waiter: Id, cx: &mut Cx<'_>) {
        for site in &mut self.0 {
            match &mut site.content {
                Content::Files(files) => files.forget(waiter, cx),
                Content::Proxy(proxy) => proxy.forget(waiter, cx),
                Content::Pages(_) | Content::Admin(_) | Content::Nothing => {}
            }
        }
    }
}

impl Site {
    /// A site for a host, or for all, and below a prefix.
    pub(super) fn new(
        host: Option<String>,
        prefix: &str,
        content: Content,
        auth: Option<&AuthConfig>,
        disk: &mut dyn Disk,
    ) -> Self {
        let auth = auth.map(|auth| Box::new(Auth::new(auth, random(disk))));
        Self {
            host,
            prefix: prefix.to_owned(),
            content,
            auth,
            errors: None,
            has_probe: false,
            cors: None,
        }
    }

    /// Who sends this token is answered, too; without a password, nobody else is.
    pub(super) fn take_token(&mut self, token: Option<&Secret>, disk: &mut dyn Disk) {
        if let Some(token) = token {
            let auth = self.auth.take();
            let auth = auth.unwrap_or_else(|| Box::new(Auth::without_users(random(disk))));
            self.auth = Some(Box::new(auth.with_token(token)));
        }
    }

    /// Answers what a browser asks before it lets a page of another site make a request; whether
    /// that was it. It has no password then, and follows no redirect.
    pub(super) fn answer_preflight(
        &self,
        head: &RequestHead<'_>,
        reply: &mut Reply<'_, '_>,
    ) -> bool {
        let Some(cors) = self.cors.as_ref().filter(|_| cors::is_preflight(head)) else {
            return false;
        };
        let mut lines = Vec::new();
        cors.put_preflight(&head.headers, &mut lines);
        reply.options(reply::ALLOW, &lines);
        true
    }

    /// Whether the request may see anything of the site. While that is being found out, the session
    /// is to be parked: it is woken when it is known.
    pub(super) fn admit(
        &mut self,
        head: &RequestHead<'_>,
        peer: &Peer,
        reply: &Reply<'_, '_>,
    ) -> Poll<Result<(), Box<Refusal>>> {
        let Some(auth) = &mut self.auth else {
            return Poll::Ready(Ok(()));
        };
        let (header, status) = match self.content.is_asked_as_proxy(head) {
            true => ("proxy-authorization", Status::PROXY_AUTHENTICATION_REQUIRED),
            false => ("authorization", Status::UNAUTHORIZED),
        };
        let value = head.headers.only(header);
        let needed = auth.needed();
        match auth.judge(value, reply.id, peer.network(), reply.cx.now) {
            Verdict::Right => Poll::Ready(Ok(())),
            Verdict::Later => Poll::Pending,
            Verdict::Wrong => Poll::Ready(Err(Refusal::new(status, needed).into())),
            Verdict::Busy => Poll::Ready(Err(TOO_MANY_PASSWORDS.into())),
            Verdict::Slowed => Poll::Ready(Err(WRONG_TOO_OFTEN.into())),
        }
    }

    /// Whether this session's password is still being checked.
    pub(super) fn checks_password_of(&self, session: Id) -> bool {
        let auth = self.auth.as_ref();
        auth.is_some_and(|auth| auth.is_awaited_by(session))
    }

    /// A session no longer waits for the check of its password, if it did.
    pub(super) fn forget(&mut self, session: Id) {
        if let Some(auth) = &mut self.auth {
            auth.forget(session);
        }
    }

    /// Whether its password is asked for in the request's own `Authorization`, which then is for
    /// nobody else.
    pub(super) fn takes_authorization(&self, head: &RequestHead<'_>) -> bool {
        self.auth.is_some() && !self.content.is_asked_as_proxy(head)
    }

    /// The path of a request below the prefix of the site, beginning with `/`, as pages know it that
    /// are the same wherever they are; empty where the prefix has no slash behind it.
    pub(super) fn path_below<'h>(&self, head: &RequestHead<'h>) -> &'h str {
        path_below(&self.prefix, head)
    }

    /// Answers a request for something of this server's own.
    pub(super) fn respond(
        &mut self,
        head: &RequestHead<'_>,
        reply: &mut Reply<'_, '_>,
    ) -> Result<Progress, Box<Refusal>> {
        let methods = match &self.content {
            Content::Admin(_) => Admin::methods(self.path_below(head)),
            _ => reply::ALLOW,
        };
        match head.method {
            Method::Get | Method::Head => {}
            Method::Options => {
                reply.options(methods, b"");
                return Ok(Progress::Answered);
            }
            Method::Other(_) => return Err(UNKNOWN_METHOD.into()),
            Method::Put | Method::Post if methods != reply::ALLOW => {}
            _ => return Err(Refusal::method(methods).into()),
        }
        match &mut self.content {
            Content::Files(files) => files.respond(head, reply),
            Content::Pages(pages) => pages.respond(head, reply),
            Content::Admin(admin) => admin.respond(path_below(&self.prefix, head), head, reply),
            Content::Proxy(_) | Content::Nothing => {
                let text = "this server has nothing for this host and path";
                Err(Refusal::new(Status::NOT_FOUND, text).into())
            }
        }
    }

    /// In which form a request is told of an error, if it does not say what it takes.
    pub(super) fn error_format(&self) -> ErrorFormat {
        match self.content {
            Content::Proxy(_) | Content::Admin(_) => ErrorFormat::Text,
            Content::Files(_) | Content::Pages(_) | Content::Nothing => ErrorFormat::Html,
        }
    }

    /// Answers with an error: with the page for it if there is one, or else in a few words of our
    /// own. Where the page has to be waited for, a request waits, and what is no request is
    /// answered without it.
    #[cold]
    pub(super) fn refuse(
        &mut self,
        refusal: &Refusal,
        format: ErrorFormat,
        reply: &mut Reply<'_, '_>,
    ) -> Poll<()> {
        let Refusal {
            status,
            text,
            detail,
            limit,
            ..
        } = refusal;
        reply.cx.work.charge(work::WRITTEN_NS);
        let mut lines = match &self.content {
            Content::Files(files) => files.lines.to_vec(),
            Content::Proxy(_) => Vec::with_capacity(LINES_BYTES),
            _ => Vec::new(),
        };
        match detail {
            Detail::None | Detail::Proxied(_) => {}
            Detail::Allow(methods) => put_header(&mut lines, "Allow", methods),
            Detail::Location(location) => put_header(&mut lines, "Location", location),
            Detail::Length(bytes) => {
                lines.extend_from_slice(b"Content-Range: ");
                put_content_range_unsatisfied(&mut lines, *bytes);
                lines.extend_from_slice(b"\r\n");
            }
        }
        match (*status, &self.auth) {
            (Status::UNAUTHORIZED, Some(auth)) => {
                for challenge in &auth.challenges {
                    put_header(&mut lines, "WWW-Authenticate", challenge);
                }
            }
            (Status::PROXY_AUTHENTICATION_REQUIRED, Some(auth)) => {
                for challenge in &auth.challenges {
                    put_header(&mut lines, "Proxy-Authenticate", challenge);
                }
            }
            (Status::SERVICE_UNAVAILABLE, _) => put_header_number(&mut lines, "Retry-After", 1),
            _ => {}
        }
        if matches!(self.content, Content::Proxy(_)) {
            refusal.put_proxy_status(&mut lines);
        }
        if matches!(self.content, Content::Proxy(_) | Content::Admin(_)) {
            put_header(&mut lines, "Cache-Control", "no-store");
        }
        reply.lines = Some(lines.into());
        let pages = match (&mut self.errors, &mut self.content) {
            (Some(errors), _) => Some(&mut **errors),
            (None, Content::Files(files)) => Some(files),
            (None, _) => None,
        };
        let page = pages.map(|pages| pages.put_error_page(*status, reply));
        match page {
            Some(Poll::Ready(true)) => {}
            Some(Poll::Pending) if reply.may_wait_for_page => return Poll::Pending,
            _ => reply.error(*status, text, format),
        }
        if let Some(limit) = limit {
            reply.cx.counted.refused(*limit);
        }
        Poll::Ready(())
    }
}

fn path_below<'h>(prefix: &str, head: &RequestHead<'h>) -> &'h str {
    let mut path = head.target.path().unwrap_or_default();
    let names = prefix.split('/').filter(|name| !name.is_empty());
    for _ in names {
        let below = path.strip_prefix('/').unwrap_or_default();
        path = &below[below.find('/').unwrap_or(below.len())..];
    }
    path
}

fn random(disk: &mut dyn Disk) -> [u8; 32] {
    let mut key = [0; 32];
    disk.entropy(&mut key);
    key
}

impl Content {
    /// The files of a folder.
    ///
    /// # Errors
    /// The folder cannot be opened; with its path.
    pub(super) fn files(
        root: &Path,
        prefix: &str,
        config: &FilesConfig,
        capacity: Capacity,
        disk: &mut dyn Disk,
    ) -> Result<Self, (PathBuf, io::Error)> {
        open(root, prefix, config, capacity, disk).map(Content::Files)
    }

    /// The pages of errors that stand in a folder of their own.
    ///
    /// # Errors
    /// As [`Content::files`].
    pub(super) fn errors(
        config: &FilesConfig,
        capacity: Capacity,
        disk: &mut dyn Disk,
    ) -> Result<Option<Box<Files>>, (PathBuf, io::Error)> {
        let Some(root) = &config.error_root else {
            return Ok(None);
        };
        let pages = FilesConfig {
            error_pages: config.error_pages.clone(),
            ..FilesConfig::default()
        };
        let files = open(root, "", &pages, capacity, disk)?;
        Ok(Some(Box::new(files)))
    }

    /// Whether the request asks for what is not ours: then its `Authorization` is its origin's (RFC
    /// 9110 section 11.7).
    fn is_asked_as_proxy(&self, head: &RequestHead<'_>) -> bool {
        let is_forward = matches!(head.target, Target::Absolute { .. } | Target::Authority(_));
        matches!(self, Content::Proxy(proxy) if is_forward && !proxy.is_gateway())
    }
}

/// What lies below the prefix of a site, relative to it, and is for another one, at least under one
/// host.
fn elsewhere(sites: &[Site], place: Place) -> Vec<Vec<u8>> {
    let own = &sites[place];
    let shares = |other: &Site| match (&own.host, &other.host) {
        (Some(one), Some(two)) => one == two,
        _ => true,
    };
    let others = sites.iter().filter(|other| shares(other));
    let paths = others.filter_map(|other| below(&own.prefix, other.prefix.as_bytes()));
    let paths = paths.filter(|path| !path.is_empty());
    paths.map(<[u8]>::to_vec).collect()
}

/// The files of a folder, or why it cannot be opened, with its path.
fn open(
    root: &Path,
    prefix: &str,
    config: &FilesConfig,
    capacity: Capacity,
    disk: &mut dyn Disk,
) -> Result<Files, (PathBuf, io::Error)> {
    let folder = disk.open_folder(root);
    let folder = folder.map_err(|error| (root.to_owned(), error))?;
    Ok(Files::new(folder, prefix, config, capacity, disk))
}
