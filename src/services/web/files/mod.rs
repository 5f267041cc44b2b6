//! Files of a folder: found, opened beneath the root, answered.
//!
//! An answer is made once for each file and kept: status line, headers and, for a small file, the
//! body behind them, so that a request costs one look-up and one copy. A larger body follows its
//! head by `sendfile` from a descriptor that is kept open. What a request changes (conditions,
//! ranges, a last answer) is written from the same parts.
//!
//! Beside a file may stand copies of it that were compressed in advance, and others may be made of
//! it on the way. They are representations of the same resource (RFC 9110 section 3.2): each with
//! its own tag and length, chosen by `Accept-Encoding`.
//!
//! [`make`] has the answer that is made of a file, [`listing`] what is in a folder without an
//! index, [`archive`] all below it as one file. Who may see the files is for [`super::sites`].
//!
//! Nothing here waits for a disk: what cannot be answered from memory is a job, and the request is
//! looked at again, from its beginning, when it is done. The way from a path to an answer stands in
//! this file as a whole, which makes it a long one.

use std::ffi::OsStr;
use std::fmt;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::{Poll, ready};
use std::time::Instant;

use super::forms::{self, Forms, put_coding, tag_of};
use super::live::Live;
use super::reply::{Refusal, Reply};
use crate::cache::files::{Capacity, FileCache, Witness};
use crate::config::FilesConfig;
use crate::disk::{Disk, File, FileKind, Metadata};
use crate::http::Status;
use crate::http::conditional::{self, EntityTag, Outcome, Validators};
use crate::http::head::{Headers, RequestHead, put_head_end, put_header, put_header_number};
use crate::http::mime::MediaTypes;
use crate::http::negotiate::{Coding, ListingFormat};
use crate::http::path::{SafePath, encode};
use crate::inside::ring::Topic;
use crate::jobs::Asking;
use crate::metrics::Limit;
use crate::service::{Cx, Id, Waiter, work};
use crate::wire::text::LogLine;
use archive::{Archive, Asked};
use listing::{Listings, POLICY, Page, Unlisted, Wanted, content_type};
use make::{Made, Representation, is_older};

pub(super) mod archive;
#[cfg(test)]
mod form_tests;
mod listing;
mod make;
mod readme;
#[cfg(test)]
pub(super) mod tests;

/// The files of one root.
pub(super) struct Files {
    root: File,
    /// The part of a request's path that stands for the root, without slashes around it.
    prefix: String,
    config: FilesConfig,
    /// The configured headers as lines.
    pub(super) lines: Rc<[u8]>,
    media_types: MediaTypes,
    cache: FileCache<Made>,
    listings: Listings,
    /// Each archive that is being sent refers to it.
    archives: Rc<()>,
    /// Paths relative to the root that are for other sites to show, not for an archive.
    elsewhere: Rc<[Vec<u8>]>,
}

/// Whether a request was answered.
#[must_use]
pub(super) enum Progress {
    Answered,
    /// Its answer takes more than one turn: the session is woken when it is there.
    Later,
    /// The head was sent; this is the body.
    Packs(Box<Archive>),
    /// The same, for what is written as it happens.
    Lives(Box<Live>),
}

impl Files {
    /// `prefix` as in [`crate::config::SiteConfig`].
    pub(super) fn new(
        root: File,
        prefix: &str,
        config: &FilesConfig,
        capacity: Capacity,
        disk: &mut dyn Disk,
    ) -> Self {
        let mut lines = Vec::new();
        for (name, value) in &config.headers {
            put_header(&mut lines, name, value);
        }
        let errors = config.error_pages.values();
        let errors = errors.filter(|_| config.error_root.is_none());
        for page in errors.chain(&config.spa) {
            if let Err(error) = disk.look(&root, Path::new(page)) {
                log::warn!("{page}: {error}; answers go without this page until it is there");
            }
        }
        Self {
            root,
            prefix: prefix.to_owned(),
            lines: lines.into(),
            media_types: MediaTypes::new(config.media_types.clone()),
            cache: FileCache::new(capacity),
            listings: Listings::new(config),
            archives: Rc::new(()),
            elsewhere: Rc::from([]),
            config: config.clone(),
        }
    }

    /// Leaves paths relative to the root to other sites.
    pub(super) fn leave(&mut self, elsewhere: Vec<Vec<u8>>) {
        self.elsewhere = elsewhere.into();
    }

    /// Answers a GET or HEAD.
    #[inline]
    pub(super) fn respond(
        &mut self,
        head: &RequestHead<'_>,
        reply: &mut Reply<'_, '_>,
    ) -> Result<Progress, Box<Refusal>> {
        let path = head.target.path().unwrap_or_default();
        let (now, turn) = (reply.cx.now, reply.cx.turn);
        match self
            .cache
            .get(path, now, turn, &mut reply.files(), &self.root)
        {
            Poll::Ready(Some(made)) => {
                let ring = &mut reply.cx.inside.ring;
                ring.tell(reply.id, Topic::File, || format!("{path} (made before)"));
                made.put(head, reply)
            }
            Poll::Ready(None) => match self.respond_anew(path, head, reply) {
                Poll::Ready(result) => result,
                Poll::Pending => Ok(Progress::Later),
            },
            Poll::Pending => Ok(Progress::Later),
        }
    }

    /// Answers a request whose answer is not kept.
    #[inline(never)] // the way of a kept answer goes past it
    fn respond_anew(
        &mut self,
        path: &str,
        head: &RequestHead<'_>,
        reply: &mut Reply<'_, '_>,
    ) -> Poll<Result<Progress, Box<Refusal>>> {
        let looks = if path.ends_with('/') {
            1 + self.config.index.len()
        } else {
            1
        };
        reply.cx.work.charge_each(looks, work::LOOKUP_NS);
        let found = ready!(self.find(path, head, &mut reply.files()));
        if let Ok(Found::File { name, tried }) = found {
            reply.cx.work.charge(work::MADE_NS);
            let ring = &mut reply.cx.inside.ring;
            ring.tell(reply.id, Topic::File, || {
                LogLine(format_args!("{}", name.display())).to_string()
            });
            let made = ready!(self.make(&name, tried, reply));
            let former = self.drop_former(path, reply.cx);
            let (mut made, witnesses) = made.map_err(|error| unreadable(&name, &error))?;
            if let Some(former) = former {
                made.follow(&former);
            }
            let result = made.put(head, reply);
            self.keep(path, made, witnesses, reply.cx);
            return Poll::Ready(result);
        }
        self.drop_former(path, reply.cx);
        Poll::Ready(match found? {
            Found::File { .. } => unreachable!("it was answered above"),
            Found::Fallback { name } => {
                let put = |made: &mut Made, reply: &mut Reply<'_, '_>| made.put(head, reply);
                ready!(self.with_page(&name, reply, put)).unwrap_or(Err(NOT_FOUND.into()))
            }
            Found::Redirect { location } => {
                let text = "this is a folder; see Location";
                let status = Status::MOVED_PERMANENTLY;
                Err(Refusal::redirect(status, text, location).into())
            }
            Found::Archive(asked) => self.put_archive(&asked, head, reply),
            Found::Listing { wanted, folder } => {
                let waiter = (reply.id, reply.peer);
                match ready!(self.listings.page(&wanted, &folder, waiter, reply.cx)) {
                    Ok(page) => put_listing(page, wanted.format, &self.lines, head, reply),
                    Err(Unlisted::Busy) => Err(TOO_MANY_LISTINGS.into()),
                    Err(Unlisted::Disk(error)) => Err(unreadable(&wanted.folder, &error).into()),
                }
            }
        })
    }

    /// Goes on with what takes more than one turn. Whether there is more to do at once.
    pub(super) fn turn_ended(&mut self, cx: &mut Cx<'_>) -> bool {
        self.listings.work(&self.root, cx)
    }

    /// When that is to be called though nothing happened.
    pub(super) fn turn_deadline(&self) -> Option<Instant> {
        self.listings.deadline()
    }

    /// A session whose request waited has gone.
    pub(super) fn forget(&mut self, waiter: Id, cx: &mut Cx<'_>) {
        self.listings.forget(waiter, cx);
    }

    /// Answers with the page that the configuration has for an error. Whether there is one.
    pub(super) fn put_error_page(
        &mut self,
        status: Status,
        reply: &mut Reply<'_, '_>,
    ) -> Poll<bool> {
        let Some(name) = self.config.error_pages.get(&status.code()).cloned() else {
            return Poll::Ready(false);
        };
        let put = |page: &mut Made, reply: &mut Reply<'_, '_>| page.put_as(status, reply);
        self.with_page(&name, reply, put).map(|put| put.is_some())
    }

    /// A file that the configuration names, if it is there; kept under its name, which no request
    /// path is.
    fn with_page<T>(
        &mut self,
        name: &str,
        reply: &mut Reply<'_, '_>,
        put: impl FnOnce(&mut Made, &mut Reply<'_, '_>) -> T,
    ) -> Poll<Option<T>> {
        let (now, turn) = (reply.cx.now, reply.cx.turn);
        if let Some(made) = ready!(
            self.cache
                .get(name, now, turn, &mut reply.files(), &self.root)
        ) {
            return Poll::Ready(Some(put(made, reply)));
        }
        let path = Path::new(name);
        let opened = ready!(self.open(path, &mut reply.files())).ok();
        let made = match opened.filter(|(_, metadata)| metadata.kind == FileKind::Regular) {
            Some(opened) => {
                let tried = Vec::from([(path.to_owned(), Some(opened))]);
                ready!(self.make(path, tried, reply)).ok()
            }
            None => None, // that was said at the start
        };
        let former = self.drop_former(name, reply.cx);
        Poll::Ready(made.map(|(mut made, witnesses)| {
            if let Some(former) = former {
                made.follow(&former);
            }
            let result = put(&mut made, reply);
            self.keep(name, made, witnesses, reply.cx);
            result
        }))
    }

    /// Drops the answer that was made of a version before.
    fn drop_former(&mut self, key: &str, cx: &mut Cx<'_>) -> Option<Made> {
        let former = self.cache.remove(key)?;
        former.discard(cx.compressed);
        Some(former)
    }

    fn keep(&mut self, key: &str, made: Made, witnesses: Vec<Witness>, cx: &Cx<'_>) {
        let held = made.held();
        self.cache
            .insert(key, witnesses, made, held, (cx.now, cx.turn), cx.wall);
    }

    /// What a request path leads to.
    fn find(
        &self,
        path: &str,
        head: &RequestHead<'_>,
        files: &mut Asking<'_, Waiter>,
    ) -> Poll<Result<Found, Refusal>> {
        let safe = SafePath::parse(path)
            .map_err(|error| Refusal::new(Status::BAD_REQUEST, error.text()))?;
        if safe.is_hidden() {
            return Poll::Ready(Err(NOT_FOUND));
        }
        let name = below(&self.prefix, &safe.relative).ok_or(NOT_FOUND)?;
        let path = Path::new(OsStr::from_bytes(name));
        let (file, metadata) = match ready!(self.open(path, files)) {
            Err(refusal) if refusal == NOT_FOUND => {
                let asked = ready!(self.archive_of_path(name, &safe, files));
                let is_page = safe.folder || is_page(name, &head.headers);
                return Poll::Ready(match (asked, &self.config.spa) {
                    (Err(refusal), Some(page)) if refusal == NOT_FOUND && is_page => {
                        let name = page.clone();
                        Ok(Found::Fallback { name })
                    }
                    (asked, _) => asked.map(Found::Archive),
                });
            }
            opened => opened?,
        };
        Poll::Ready(match (metadata.kind, safe.folder) {
            (FileKind::Regular, false) => Ok(Found::File {
                name: path.to_owned(),
                tried: Vec::from([(path.to_owned(), Some((file, metadata)))]),
            }),
            (FileKind::Folder, true) => {
                let shown = match safe.relative.as_ref() {
                    b"" => b"/".to_vec(),
                    relative => [b"/", relative, b"/"].concat(),
                };
                return self.find_index(path, shown, (file, metadata), head, files);
            }
            (FileKind::Folder, false) => {
                let mut location = format!("/{}/", encode(&safe.relative));
                if let Some(query) = head.target.query() {
                    location.push('?');
                    location.push_str(query);
                }
                Ok(Found::Redirect { location })
            }
            (FileKind::Regular, true) | (FileKind::Other, _) => Err(NOT_FOUND),
        })
    }

    /// What stands for a folder: the first index that exists, or its listing.
    fn find_index(
        &self,
        name: &Path,
        shown: Vec<u8>,
        (folder, metadata): (File, Metadata),
        head: &RequestHead<'_>,
        files: &mut Asking<'_, Waiter>,
    ) -> Poll<Result<Found, Refusal>> {
        let query = head.target.query();
        if let Index::File { name, tried } = ready!(self.index_of(name, files))? {
            return Poll::Ready(Ok(Found::File { name, tried }));
        }
        if let Some(asked) = self.archive_of_query(name, metadata, &shown, query) {
            return Poll::Ready(Ok(Found::Archive(asked)));
        }
        if self.config.listing {
            let accepted = ListingFormat::parse(&head.headers);
            return Poll::Ready(Ok(Found::Listing {
                wanted: Wanted::new(shown, name.to_owned(), query, accepted),
                folder,
            }));
        }
        Poll::Ready(Err(Refusal::new(
            Status::FORBIDDEN,
            "this folder has no index, and listings are off",
        )))
    }

    /// The first index of a folder that exists.
    fn index_of(
        &self,
        folder: &Path,
        files: &mut Asking<'_, Waiter>,
    ) -> Poll<Result<Index, Refusal>> {
        let mut tried = Vec::new();
        for index in &self.config.index {
            let name = folder.join(index);
            let opened = match ready!(self.open(&name, files)) {
                Ok(opened) => Some(opened),
                Err(refusal) if refusal == NOT_FOUND => None,
                Err(refusal) => return Poll::Ready(Err(refusal)),
            };
            let kind = opened.as_ref().map(|(_, metadata)| metadata.kind);
            tried.push((name.clone(), opened));
            if kind == Some(FileKind::Regular) {
                return Poll::Ready(Ok(Index::File { name, tried }));
            }
        }
        Poll::Ready(Ok(Index::None))
    }

    /// Opens a file or folder. Sockets, pipes and devices are as if they were not there.
    fn open(
        &self,
        name: &Path,
        files: &mut Asking<'_, Waiter>,
    ) -> Poll<Result<(File, Metadata), Refusal>> {
        Poll::Ready(match ready!(files.open(&self.root, name)) {
            Ok((_, metadata)) if metadata.kind == FileKind::Other => Err(NOT_FOUND),
            Ok(opened) => Ok(opened),
            // A way out of the root, a loop of links, a name that is too long: nothing that this
            // server has.
            Err(error) if is_absent(&error) => Err(NOT_FOUND),
            // A socket cannot be opened at all, nor can a device without a driver.
            Err(error) => match ready!(files.look(&self.root, name)) {
                Ok(metadata) if metadata.kind == FileKind::Other => Err(NOT_FOUND),
                _ if error.kind() == io::ErrorKind::PermissionDenied => {
                    let text = "this file may not be read";
                    Err(Refusal::new(Status::FORBIDDEN, text))
                }
                _ => {
                    log::error!("{name:?}: {error}");
                    let text = "the file cannot be opened now";
                    Err(Refusal::new(Status::SERVICE_UNAVAILABLE, text))
                }
            },
        })
    }

    /// The copies of a file that were compressed in advance, as far as they are not older than it.
    /// What was looked for is added to `tried`.
    fn neighbours(
        &self,
        name: &Path,
        metadata: &Metadata,
        tried: &mut Vec<Tried>,
        files: &mut Asking<'_, Waiter>,
    ) -> Poll<Vec<(Coding, File, Metadata)>> {
        let mut found = Vec::new();
        if !self.config.precompressed {
            return Poll::Ready(found);
        }
        // All are asked for before one is waited for.
        let codings = [Coding::Br, Coding::Zstd, Coding::Gzip];
        let opened = codings.map(|coding| {
            let mut path = name.as_os_str().to_owned();
            path.push(coding.file_suffix());
            let path = PathBuf::from(path);
            let opened = self.open(&path, files);
            (coding, path, opened)
        });
        for (coding, path, opened) in opened {
            let opened = ready!(opened).ok();
            if let Some((file, its)) = &opened
                && its.kind == FileKind::Regular
                && !is_older(its.modified, metadata.modified)
            {
                found.push((coding, file.clone(), *its));
            }
            tried.push((path, opened));
        }
        Poll::Ready(found)
    }

    /// Makes the answer of a file. `tried`: what was looked for, the file itself last. With it
    /// comes what it depends on.
    fn make(
        &self,
        name: &Path,
        mut tried: Vec<Tried>,
        reply: &mut Reply<'_, '_>,
    ) -> Poll<io::Result<(Made, Vec<Witness>)>> {
        let Some((_, Some((file, metadata)))) = tried.pop() else {
            return Poll::Ready(Err(io::ErrorKind::NotFound.into()));
        };
        let neighbours = self.neighbours(name, &metadata, &mut tried, &mut reply.files());
        let neighbours = ready!(neighbours);
        let text = name.to_string_lossy();
        let content_type = self.media_types.of(&text);
        let mut forms = Forms::new(&self.config.compress, &content_type, metadata.len);
        for (coding, ..) in &neighbours {
            forms.remove(*coding);
        }
        let mut lines = self.lines.to_vec();
        let mut rules = self.config.cache_control.iter();
        if let Some(rule) = rules.find(|rule| rule.pattern.matches(&text)) {
            put_header(&mut lines, "Cache-Control", &rule.value);
            if forbids_transformation(&rule.value) {
                forms = Forms::default();
            }
        }
        if !neighbours.is_empty() || !forms.is_empty() {
            put_header(&mut lines, "Vary", "Accept-Encoding");
        }
        let mut represent = |file, metadata, coding| {
            Representation::new(file, metadata, &content_type, &lines, coding, reply)
        };
        let (plain, metadata) = ready!(represent(file, metadata, Coding::Identity))?;
        let mut witnesses = Vec::from([Witness {
            path: name.into(),
            was: Some(metadata),
        }]);
        witnesses.extend(tried.into_iter().map(|(path, opened)| Witness {
            path,
            was: opened.map(|(_, metadata)| metadata),
        }));
        let mut beside = Vec::new();
        for (coding, file, metadata) in neighbours {
            let ((neighbour, body), _) = ready!(represent(file, metadata, coding))?;
            beside.push((coding, neighbour, body));
        }
        let mut made = Made::new(plain, beside, forms);
        if !self.cache.can_keep(&made.held()) {
            made.forget_forms();
        }
        Poll::Ready(Ok((made, witnesses)))
    }
}

/// Answers with a listing: by reference, so that those who wait for it share its memory. `lines`:
/// those of the site.
fn put_listing(
    page: &mut Page,
    format: ListingFormat,
    lines: &Rc<[u8]>,
    head: &RequestHead<'_>,
    reply: &mut Reply<'_, '_>,
) -> Result<Progress, Box<Refusal>> {
    let Poll::Ready(chosen) = page.forms.choose(&page.text, &head.headers, reply) else {
        return Ok(Progress::Later);
    };
    let mut tag = format!("\"{:016x}\"", page.tag);
    if chosen.coding != Coding::Identity {
        tag = tag_of(&tag, chosen.coding, &chosen.body);
    }
    let current = Validators {
        tag: EntityTag::parse(tag.as_bytes()),
        ..Validators::default()
    };
    let status = match conditional::evaluate(head.method, &head.headers, Some(&current)) {
        Outcome::Proceed => Status::OK,
        Outcome::NotModified => Status::NOT_MODIFIED,
        Outcome::PreconditionFailed => return Err(PRECONDITION_FAILED.into()),
    };
    reply.lines = Some(Rc::clone(lines));
    let answer = reply.begin(status);
    put_header(answer, "ETag", &tag);
    put_header(answer, "Cache-Control", "no-cache");
    let vary = match page.forms.is_empty() {
        true => "Accept",
        false => "Accept, Accept-Encoding",
    };
    put_header(answer, "Vary", vary);
    let mut body_bytes = 0;
    if status == Status::OK {
        body_bytes = chosen.body.len() as u64;
        put_header(answer, "Content-Type", content_type(format));
        if format == ListingFormat::Html {
            put_header(answer, "Content-Security-Policy", POLICY);
        }
        put_coding(answer, chosen.coding);
        put_header_number(answer, "Content-Length", body_bytes);
        put_header(answer, "X-Content-Type-Options", "nosniff");
    }
    put_head_end(answer);
    if reply.send(body_bytes) {
        let (body, pool) = (&chosen.body, &mut *reply.cx.pool);
        reply.tx.put_shared(body, 0..body.len(), pool);
    }
    if chosen.coding != Coding::Identity {
        forms::count(&chosen.body, page.text.len() as u64, reply);
    }
    Ok(Progress::Answered)
}

/// A path that was looked for, and what was there.
type Tried = (PathBuf, Option<(File, Metadata)>);

/// What a path leads to.
enum Found {
    /// A file, by its name relative to the root.
    File { name: PathBuf, tried: Vec<Tried> },
    /// Nothing, so the file that answers in place of what is missing.
    Fallback { name: String },
    /// A folder asked for without its slash: relative links in its index need it.
    Redirect { location: String },
    /// A folder without an index.
    Listing { wanted: Wanted, folder: File },
    /// One that is wanted with all below it.
    Archive(Asked),
}

/// What stands for a folder.
enum Index {
    /// A file of it, by its name relative to the root.
    File {
        name: PathBuf,
        tried: Vec<Tried>,
    },
    None,
}

impl Index {
    fn is_file(&self) -> bool {
        matches!(self, Index::File { .. })
    }
}

const NOT_FOUND: Refusal = Refusal::new(Status::NOT_FOUND, "there is no such file here");
const PRECONDITION_FAILED: Refusal = Refusal::new(
    Status::PRECONDITION_FAILED,
    "this is not the version that the request is about",
);

const TOO_MANY_LISTINGS: Refusal = Refusal::beyond(
    Limit::Listings,
    Status::SERVICE_UNAVAILABLE,
    "too many folders are being listed; try again in a moment",
);

fn unreadable(name: &Path, error: &dyn fmt::Display) -> Refusal {
    log::error!("{name:?}: {error}");
    Refusal::new(Status::INTERNAL_SERVER_ERROR, "the file could not be read")
}

/// `path` relative to the folder `prefix`; `None` outside of it.
pub(super) fn below<'p>(prefix: &str, path: &'p [u8]) -> Option<&'p [u8]> {
    if prefix.is_empty() {
        return Some(path);
    }
    match path.strip_prefix(prefix.as_bytes())? {
        b"" => Some(b""),
        rest => rest.strip_prefix(b"/"),
    }
}

/// Whether a path that leads to nothing may be one that a page reads for itself: its last name has
/// no extension, or the client asks for a page by name, as browsers do for what stands in the
/// address bar and for nothing else.
fn is_page(name: &[u8], headers: &Headers<'_>) -> bool {
    let last = name.rsplit(|&byte| byte == b'/').next().unwrap_or(name);
    let is_html = |element: &[u8]| {
        let html = element.get(..9);
        html.is_some_and(|html| html.eq_ignore_ascii_case(b"text/html"))
    };
    !last.contains(&b'.') || headers.list("accept").any(is_html)
}

/// Whether a value of `Cache-Control` has `no-transform` (RFC 9111 section 5.2.2.6).
fn forbids_transformation(cache_control: &str) -> bool {
    let mut directives = cache_control.split(',').map(str::trim);
    directives.any(|directive| directive.eq_ignore_ascii_case("no-transform"))
}

fn is_absent(error: &io::Error) -> bool {
    use io::ErrorKind::{CrossesDevices, InvalidFilename, NotADirectory, NotFound};
    matches!(
        error.kind(),
        CrossesDevices | InvalidFilename | NotADirectory | NotFound
    ) || matches!(
        error.raw_os_error(),
        // The last two: a name of bytes that this file system has no names of.
        Some(libc::ELOOP | libc::EILSEQ | libc::EINVAL)
    )
}
