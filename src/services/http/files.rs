//! Files of a folder: found, opened beneath the root, answered.
//!
//! An answer is made once for each file and kept: status line, headers and, for a small file, the body behind them, so that
//! a request costs one look-up and one copy. A larger body follows its head by `sendfile` from a descriptor that is kept
//! open. What a request changes (conditions, ranges, a last answer) is written anew from the same parts.
//!
//! Beside a file may stand copies of it that were compressed in advance. They are representations of the same resource
//! (RFC 9110 section 3.2): each with its own tag and length, chosen by `Accept-Encoding`.
//!
//! Who may see the files is for [`super::sites`], what is in a folder without an index for [`super::listing`].

use std::ffi::OsStr;
use std::fmt::Write;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use super::Connection;
use super::answer::{Answered, Answers, Detail, Out, Refusal, SERVER};
use super::listing::{Listings, POLICY, Page, Unlisted, Wanted};
use crate::cache::files::{FileCache, Held, Limits, Witness};
use crate::config::FilesConfig;
use crate::disk::File;
use crate::disk::{Disk, FileKind, Metadata, Version};
use crate::http::conditional::{self, Dated, EntityTag, Outcome, Validators};
use crate::http::date::{DATE_BYTES, Date, unix_s};
use crate::http::head::{
    Headers, RequestHead, put_head_end, put_header, put_header_number, put_status_line,
};
use crate::http::mime::MediaTypes;
use crate::http::negotiate::{AcceptedCodings, Coding, ListingFormat};
use crate::http::path::{SafePath, encode};
use crate::http::range::{Multipart, Ranges, put_content_range};
use crate::http::{Method, Status};
use crate::metrics::Limit;

/// The largest body that is kept in memory behind its head: above, `sendfile` from the page cache is cheaper than a copy
/// through this process (measured: `loadtest/`).
const SMALL_BYTES_MAX: u64 = 8 * 1024;

/// How often a small file that changes while it is read is read again.
const READS_MAX: usize = 3;

/// What an answer takes in memory besides its bytes, about.
const MADE_BYTES: usize = 512;

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
}

/// Whether a request was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Progress {
    Answered,
    /// Its answer takes more than one turn: ask again in the next.
    Later,
}

/// The answer made of a file: itself, and its compressed neighbours.
struct Made {
    plain: Representation,
    coded: Vec<(Coding, Representation)>,
}

/// One way to send a file.
struct Representation {
    /// The whole head, its `Date` as of `date_s`, and the body if it is small.
    whole: Vec<u8>,
    head_bytes: usize,
    date_s: i64,
    /// The file and the version that the head promises; `None` where the body stands behind the head in `whole`.
    file: Option<(File, Rc<Version>)>,
    /// What the file was.
    was: Metadata,
    content_type: String,
    /// Header lines that go with every answer about it, also with one that has no body.
    lines: Vec<u8>,
    /// `Content-Encoding`, if there is one, as a line.
    encoding: Vec<u8>,
    /// With its quotes.
    tag: String,
    modified_s: i64,
    /// What `modified_s` says of this version.
    dated: Dated,
    /// Where `Last-Modified` stands in `whole`.
    modified_at: usize,
    body_bytes: u64,
}

/// Where the `Date` stands in [`Representation::whole`]: behind the status line and `Server`.
const DATE_AT: usize = "HTTP/1.1 200 OK\r\nServer: \r\nDate: ".len() + SERVER.len();

impl Files {
    /// `prefix` as in [`crate::config::SiteConfig`].
    pub(super) fn new(
        root: File,
        prefix: &str,
        config: &FilesConfig,
        limits: Limits,
        disk: &mut dyn Disk,
    ) -> Self {
        let mut lines = Vec::new();
        for (name, value) in &config.headers {
            put_header(&mut lines, name, value);
        }
        for page in config.error_pages.values().chain(&config.spa) {
            if let Err(error) = disk.look(&root, Path::new(page)) {
                log::warn!("{page}: {error}; answers go without this page until it is there");
            }
        }
        Self {
            root,
            prefix: prefix.to_owned(),
            lines: lines.into(),
            media_types: MediaTypes::new(config.media_types.clone()),
            cache: FileCache::new(limits),
            listings: Listings::new(config.listing_entries_max),
            config: config.clone(),
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
        let path = head.target.path().unwrap_or_default();
        match self.cache.get(path, out.cx.now, out.cx.disk, &self.root) {
            Ok(made) => {
                made.put(head, connection, answers, out)?;
                Ok(Progress::Answered)
            }
            Err(former) => self.respond_anew(path, former, head, connection, answers, out),
        }
    }

    /// Answers a request whose answer is not kept. `former`: the one that was, of a version before.
    fn respond_anew(
        &mut self,
        path: &str,
        former: Option<Made>,
        head: &RequestHead<'_>,
        connection: Connection,
        answers: &mut Answers,
        out: &mut Out<'_, '_>,
    ) -> Result<Progress, Refusal> {
        match self.find(path, head, out)? {
            Found::File { name, tried } => {
                let made = self.make(&name, tried, out);
                let (mut made, witnesses) = made.map_err(|error| unreadable(&name, &error))?;
                if let Some(former) = former {
                    made.follow(&former);
                }
                let result = made.put(head, connection, answers, out);
                self.keep(path, made, witnesses, out);
                result?;
            }
            Found::Fallback { name } => {
                let put = |made: &mut Made, out: &mut Out<'_, '_>| {
                    made.put(head, connection, answers, out)
                };
                self.with_page(&name, out, put).unwrap_or(Err(NOT_FOUND))?;
            }
            Found::Redirect { location } => {
                let mut lines = self.lines.to_vec();
                put_header(&mut lines, "Location", location);
                let others = std::mem::replace(&mut answers.lines, lines.into());
                let (status, text) = (Status::MOVED_PERMANENTLY, "this is a folder; see Location");
                answers.text(status, text, head.method, connection, out);
                answers.lines = others;
            }
            Found::Listing { wanted, folder } => {
                match self.listings.page(&wanted, &folder, &self.root, out) {
                    Poll::Pending => return Ok(Progress::Later),
                    Poll::Ready(Ok(page)) => {
                        let format = wanted.format;
                        self.put_listing(&page, format, head, connection, answers, out)?;
                    }
                    Poll::Ready(Err(Unlisted::Busy)) => return Err(TOO_MANY_LISTINGS),
                    Poll::Ready(Err(Unlisted::Disk(error))) => {
                        return Err(unreadable(&wanted.folder, &error));
                    }
                }
            }
        }
        Ok(Progress::Answered)
    }

    /// Answers with the page that the configuration has for an error. Whether there is one.
    pub(super) fn put_error_page(
        &mut self,
        status: Status,
        method: Method<'_>,
        connection: Connection,
        answers: &mut Answers,
        out: &mut Out<'_, '_>,
    ) -> bool {
        let Some(name) = self.config.error_pages.get(&status.code()).cloned() else {
            return false;
        };
        let put = |page: &mut Made, out: &mut Out<'_, '_>| {
            page.plain.put_as(status, method, connection, answers, out);
        };
        self.with_page(&name, out, put).is_some()
    }

    /// Answers with a listing: by reference, so that those who wait for it share its memory.
    fn put_listing(
        &self,
        page: &Page,
        format: ListingFormat,
        head: &RequestHead<'_>,
        connection: Connection,
        answers: &mut Answers,
        out: &mut Out<'_, '_>,
    ) -> Result<(), Refusal> {
        let tag = format!("\"{:016x}\"", page.tag);
        let current = Validators {
            tag: EntityTag::parse(tag.as_bytes()),
            ..Validators::default()
        };
        let status = match conditional::evaluate(head.method, &head.headers, Some(&current)) {
            Outcome::Proceed => Status::OK,
            Outcome::NotModified => Status::NOT_MODIFIED,
            Outcome::PreconditionFailed => return Err(PRECONDITION_FAILED),
        };
        let others = std::mem::replace(&mut answers.lines, Rc::clone(&self.lines));
        let answer = answers.begin(status, connection, out.cx.wall);
        put_header(answer, "ETag", &tag);
        put_header(answer, "Cache-Control", "no-cache");
        put_header(answer, "Vary", "Accept");
        if status == Status::OK {
            match format {
                ListingFormat::Html => {
                    put_header(answer, "Content-Type", "text/html; charset=utf-8");
                    put_header(answer, "Content-Security-Policy", POLICY);
                }
                ListingFormat::Json => put_header(answer, "Content-Type", "application/json"),
            }
            put_header_number(answer, "Content-Length", page.text.len() as u64);
            put_header(answer, "X-Content-Type-Options", "nosniff");
        }
        put_head_end(answer);
        answers.send(out);
        answers.lines = others;
        if status == Status::OK && head.method == Method::Get {
            answers.answered.body_bytes = page.text.len() as u64;
            out.tx
                .put_shared(&page.text, 0..page.text.len(), out.cx.pool);
        }
        Ok(())
    }

    /// A file that the configuration names, if it is there; kept under its name, which no request path is.
    fn with_page<T>(
        &mut self,
        name: &str,
        out: &mut Out<'_, '_>,
        put: impl FnOnce(&mut Made, &mut Out<'_, '_>) -> T,
    ) -> Option<T> {
        let former = match self.cache.get(name, out.cx.now, out.cx.disk, &self.root) {
            Ok(made) => return Some(put(made, out)),
            Err(former) => former,
        };
        let path = Path::new(name);
        let made = self.open(path, out).ok().and_then(|opened| {
            let is_file = opened.1.kind == FileKind::Regular;
            let tried = Vec::from([(path.to_owned(), Some(opened))]);
            is_file.then(|| self.make(path, tried, out).ok())?
        });
        let (mut made, witnesses) = made?; // where there is none, that was said at the start
        if let Some(former) = former {
            made.follow(&former);
        }
        let result = put(&mut made, out);
        self.keep(name, made, witnesses, out);
        Some(result)
    }

    fn keep(&mut self, key: &str, made: Made, witnesses: Vec<Witness>, out: &Out<'_, '_>) {
        let all = || std::iter::once(&made.plain).chain(made.coded.iter().map(|(_, coded)| coded));
        let open = |made: &Representation| Some((made.file.as_ref()?.0.clone(), made.was));
        let held = Held {
            files: all().filter_map(open).collect(),
            bytes: all().map(|made| made.whole.len() + MADE_BYTES).sum(),
        };
        self.cache
            .insert(key, witnesses, made, held, out.cx.now, out.cx.wall);
    }

    /// What a request path leads to.
    fn find(
        &self,
        path: &str,
        head: &RequestHead<'_>,
        out: &mut Out<'_, '_>,
    ) -> Result<Found, Refusal> {
        let safe = SafePath::parse(path)
            .map_err(|error| Refusal::new(Status::BAD_REQUEST, error.text()))?;
        if safe.is_hidden() {
            return Err(NOT_FOUND);
        }
        let name = below(&self.prefix, &safe.relative).ok_or(NOT_FOUND)?;
        let path = Path::new(OsStr::from_bytes(name));
        let (file, metadata) = match (self.open(path, out), &self.config.spa) {
            (Err(NOT_FOUND), Some(page)) if safe.folder || is_page(name, &head.headers) => {
                let name = page.clone();
                return Ok(Found::Fallback { name });
            }
            (opened, _) => opened?,
        };
        match (metadata.kind, safe.folder) {
            (FileKind::Regular, false) => Ok(Found::File {
                name: path.to_owned(),
                tried: Vec::from([(path.to_owned(), Some((file, metadata)))]),
            }),
            (FileKind::Folder, true) => {
                let shown = match safe.relative.as_ref() {
                    b"" => b"/".to_vec(),
                    relative => [b"/", relative, b"/"].concat(),
                };
                self.find_index(path, shown, file, head, out)
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
        }
    }

    /// What stands for a folder: the first index that exists, or its listing.
    fn find_index(
        &self,
        name: &Path,
        shown: Vec<u8>,
        folder: File,
        head: &RequestHead<'_>,
        out: &mut Out<'_, '_>,
    ) -> Result<Found, Refusal> {
        let mut tried = Vec::new();
        for index in &self.config.index {
            let index = name.join(index);
            let opened = match self.open(&index, out) {
                Ok(opened) => Some(opened),
                Err(NOT_FOUND) => None,
                Err(refusal) => return Err(refusal),
            };
            let kind = opened.as_ref().map(|(_, metadata)| metadata.kind);
            tried.push((index.clone(), opened));
            if kind == Some(FileKind::Regular) {
                return Ok(Found::File { name: index, tried });
            }
        }
        if self.config.listing {
            let accepted = ListingFormat::parse(&head.headers);
            let query = head.target.query();
            return Ok(Found::Listing {
                wanted: Wanted::new(shown, name.to_owned(), query, accepted),
                folder,
            });
        }
        Err(Refusal::new(
            Status::FORBIDDEN,
            "this folder has no index, and listings are off",
        ))
    }

    /// Opens a file or folder. Sockets, pipes and devices are as if they were not there.
    fn open(&self, name: &Path, out: &mut Out<'_, '_>) -> Result<(File, Metadata), Refusal> {
        let opened = out.cx.disk.open(&self.root, name).and_then(|file| {
            let metadata = out.cx.disk.metadata(&file)?;
            Ok((file, metadata))
        });
        match opened {
            Ok((_, metadata)) if metadata.kind == FileKind::Other => Err(NOT_FOUND),
            Ok(opened) => Ok(opened),
            // A way out of the root, a loop of links, a name that is too long: nothing that this server has.
            Err(error) if is_absent(&error) => Err(NOT_FOUND),
            // A socket cannot be opened at all, nor can a device without a driver.
            Err(error) => match out.cx.disk.look(&self.root, name) {
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
        }
    }

    /// Makes the answer of a file. `tried`: what was looked for, the file itself last. With it comes what it depends on.
    fn make(
        &self,
        name: &Path,
        mut tried: Vec<Tried>,
        out: &mut Out<'_, '_>,
    ) -> io::Result<(Made, Vec<Witness>)> {
        let Some((_, Some((file, metadata)))) = tried.pop() else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let mut neighbours = Vec::new();
        if self.config.precompressed {
            for coding in [Coding::Br, Coding::Zstd, Coding::Gzip] {
                let mut path = name.as_os_str().to_owned();
                path.push(coding.file_suffix());
                let path = PathBuf::from(path);
                let opened = self.open(&path, out).ok();
                if let Some((file, its)) = &opened
                    && its.kind == FileKind::Regular
                    && !is_older(its.modified, metadata.modified)
                {
                    neighbours.push((coding, file.clone(), *its));
                }
                tried.push((path, opened));
            }
        }
        let text = name.to_string_lossy();
        let mut lines = self.lines.to_vec();
        let mut rules = self.config.cache_control.iter();
        if let Some(rule) = rules.find(|rule| rule.pattern.matches(&text)) {
            put_header(&mut lines, "Cache-Control", &rule.value);
        }
        if !neighbours.is_empty() {
            put_header(&mut lines, "Vary", "Accept-Encoding");
        }
        let content_type = self.media_types.of(&text);
        let represent = |file, metadata, coding, out: &mut Out<'_, '_>| {
            Representation::new(file, metadata, &content_type, &lines, coding, out)
        };
        let (plain, metadata) = represent(file, metadata, Coding::Identity, out)?;
        let mut witnesses = Vec::from([Witness {
            path: name.into(),
            was: Some(metadata),
        }]);
        witnesses.extend(tried.into_iter().map(|(path, opened)| Witness {
            path,
            was: opened.map(|(_, metadata)| metadata),
        }));
        let mut made = Made {
            plain,
            coded: Vec::new(),
        };
        for (coding, file, metadata) in neighbours {
            made.coded
                .push((coding, represent(file, metadata, coding, out)?.0));
        }
        Ok((made, witnesses))
    }
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

fn unreadable(name: &Path, error: &io::Error) -> Refusal {
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

/// Whether a path that leads to nothing may be one that a page reads for itself: its last name has no extension, or the
/// client asks for a page by name, as browsers do for what stands in the address bar and for nothing else.
fn is_page(name: &[u8], headers: &Headers<'_>) -> bool {
    let last = name.rsplit(|&byte| byte == b'/').next().unwrap_or(name);
    let is_html = |element: &[u8]| {
        let html = element.get(..9);
        html.is_some_and(|html| html.eq_ignore_ascii_case(b"text/html"))
    };
    !last.contains(&b'.') || headers.list("accept").any(is_html)
}

/// Whether a compressed copy is older than its file. Tools that hand the file's time on may cut it to whole seconds; such a
/// copy is compared in seconds.
fn is_older(copy: SystemTime, file: SystemTime) -> bool {
    match nanoseconds(copy) % 1_000_000_000 {
        0 => unix_s(copy) < unix_s(file),
        _ => copy < file,
    }
}

/// A moment in nanoseconds since the epoch.
fn nanoseconds(moment: SystemTime) -> i128 {
    let span = |span: Duration| i128::try_from(span.as_nanos()).unwrap_or(i128::MAX);
    match moment.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(since) => span(since),
        Err(error) => -span(error.duration()),
    }
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

/// What an answer has of a file.
enum Contents {
    Small(Vec<u8>),
    /// It is read when it is sent.
    Large(Version),
}

/// Reads a small file, or notes the version of another; and what the file was then.
fn read(
    file: &File,
    mut metadata: Metadata,
    out: &mut Out<'_, '_>,
) -> io::Result<(Contents, Metadata)> {
    for _ in 0..READS_MAX {
        let contents = match metadata.len > SMALL_BYTES_MAX {
            true => out
                .cx
                .disk
                .version(file, &metadata)
                .ok()
                .map(Contents::Large),
            false => {
                let mut bytes = vec![0; metadata.len as usize];
                read_whole(out, file, &mut bytes)?.then_some(Contents::Small(bytes))
            }
        };
        let now = out.cx.disk.metadata(file)?;
        // A file that changed while it was read would make an answer of two versions.
        if let Some(contents) = contents
            && now == metadata
        {
            return Ok((contents, metadata));
        }
        metadata = now;
    }
    let version = out.cx.disk.version(file, &metadata)?;
    Ok((Contents::Large(version), metadata))
}

/// Reads from the beginning until `into` is full; whether there was as much.
fn read_whole(out: &mut Out<'_, '_>, file: &File, mut into: &mut [u8]) -> io::Result<bool> {
    let mut offset = 0;
    while !into.is_empty() {
        let count = out.cx.disk.read_at(file, offset, into)?;
        if count == 0 {
            return Ok(false);
        }
        offset += count as u64;
        into = &mut into[count..];
    }
    Ok(true)
}

/// A strong tag: another inode, another length or another time is another version. Both times count, with the file system's
/// resolution, far below the second of `Last-Modified`: the one of modification can be set to what it was, and there are file
/// systems without the other.
fn entity_tag(metadata: &Metadata) -> String {
    let mut tag = String::with_capacity(64);
    // Invariant: writing to a String does not fail.
    let _ = write!(
        tag,
        "\"{:x}-{:x}-{:x}-{:x}\"",
        metadata.identity.1,
        metadata.len,
        nanoseconds(metadata.modified),
        nanoseconds(metadata.changed)
    );
    tag
}

impl Made {
    /// Notes of each date whether a version before was shown under it.
    fn follow(&mut self, former: &Made) {
        self.plain.follow(&former.plain);
        for (coding, coded) in &mut self.coded {
            let mut before = former.coded.iter();
            if let Some((_, before)) = before.find(|(before, _)| before == coding) {
                coded.follow(before);
            }
        }
    }

    /// Answers with the file, as the request's codings, conditions and ranges have it.
    #[inline]
    fn put(
        &mut self,
        head: &RequestHead<'_>,
        connection: Connection,
        answers: &mut Answers,
        out: &mut Out<'_, '_>,
    ) -> Result<(), Refusal> {
        let representation = match self.coded.is_empty() {
            true => &mut self.plain,
            false => self.choose(&head.headers),
        };
        representation.put(head, connection, answers, out)
    }

    /// What the client likes best. One that takes nothing of what there is gets the file as it is: it is more use than 406.
    fn choose(&mut self, headers: &Headers<'_>) -> &mut Representation {
        let mut available = [Coding::Identity; Coding::ALL.len()];
        for (place, (coding, _)) in available.iter_mut().zip(&self.coded) {
            *place = *coding;
        }
        let chosen = AcceptedCodings::parse(headers).choose(&available);
        let mut coded = self.coded.iter_mut();
        match coded.find(|(coding, _)| Some(*coding) == chosen) {
            Some((_, representation)) => representation,
            None => &mut self.plain,
        }
    }
}

impl Representation {
    /// Reads a small file, remembers a large one; and what the file was then.
    fn new(
        file: File,
        metadata: Metadata,
        content_type: &str,
        lines: &[u8],
        coding: Coding,
        out: &mut Out<'_, '_>,
    ) -> io::Result<(Self, Metadata)> {
        let (contents, metadata) = read(&file, metadata, out)?;
        let modified_s = unix_s(metadata.modified);
        let dated = match modified_s == unix_s(metadata.changed) {
            true => Dated::ByClock,
            false => Dated::BySomebody,
        };
        let tag = entity_tag(&metadata);
        let date_s = unix_s(out.cx.wall);
        let mut encoding = Vec::new();
        if coding != Coding::Identity {
            put_header(&mut encoding, "Content-Encoding", coding.name());
        }
        let mut whole = Vec::with_capacity(512);
        put_status_line(&mut whole, Status::OK);
        put_header(&mut whole, "Server", SERVER);
        put_header(&mut whole, "Date", Date::new(date_s));
        put_header(&mut whole, "Content-Type", content_type);
        whole.extend_from_slice(&encoding);
        put_header_number(&mut whole, "Content-Length", metadata.len);
        let modified_at = whole.len() + "Last-Modified: ".len();
        put_header(
            &mut whole,
            "Last-Modified",
            Date::new(modified_s.min(date_s)),
        );
        put_header(&mut whole, "ETag", &tag);
        put_header(&mut whole, "Accept-Ranges", "bytes");
        put_header(&mut whole, "X-Content-Type-Options", "nosniff");
        whole.extend_from_slice(lines);
        put_head_end(&mut whole);
        let head_bytes = whole.len();
        let file = match contents {
            Contents::Small(body) => {
                whole.extend_from_slice(&body);
                None
            }
            Contents::Large(version) => Some((file, Rc::new(version))),
        };
        whole.shrink_to_fit();
        let made = Self {
            whole,
            head_bytes,
            date_s,
            file,
            was: metadata,
            content_type: content_type.to_owned(),
            lines: lines.to_vec(),
            encoding,
            tag,
            modified_s,
            dated,
            modified_at,
            body_bytes: metadata.len,
        };
        Ok((made, metadata))
    }

    /// Notes that a version before was shown under the same date, if it was.
    fn follow(&mut self, former: &Representation) {
        let is_other = former.tag != self.tag || former.dated == Dated::Twice;
        if is_other && former.modified_s == self.modified_s {
            self.dated = Dated::Twice;
        }
    }

    /// The value of `Last-Modified`: never later than that of `Date` (RFC 9110 section 8.8.2.1).
    fn last_modified_s(&self) -> i64 {
        self.modified_s.min(self.date_s)
    }

    fn set_date(&mut self, answers: &mut Answers, out: &Out<'_, '_>) {
        let now_s = unix_s(out.cx.wall);
        if now_s == self.date_s {
            return;
        }
        let shown_s = self.last_modified_s();
        self.date_s = now_s;
        self.whole[DATE_AT..][..DATE_BYTES].copy_from_slice(answers.date(out.cx.wall));
        if self.last_modified_s() != shown_s {
            let modified = Date::new(self.last_modified_s());
            self.whole[self.modified_at..][..DATE_BYTES].copy_from_slice(modified.as_bytes());
        }
    }

    /// Answers with it, as the request's conditions and ranges have it.
    fn put(
        &mut self,
        head: &RequestHead<'_>,
        connection: Connection,
        answers: &mut Answers,
        out: &mut Out<'_, '_>,
    ) -> Result<(), Refusal> {
        self.set_date(answers, out);
        let conditional = CONDITIONS.iter().any(|name| head.headers.contains(name));
        if conditional && self.put_conditional(head, connection, answers, out)? {
            return Ok(());
        }
        answers.answered = Answered {
            status: Status::OK,
            body_bytes: self.body_bytes,
        };
        if connection == Connection::Keep && self.file.is_none() && head.method == Method::Get {
            out.put(&self.whole); // the usual request: one copy
            return Ok(());
        }
        self.put_head(connection, out);
        if head.method == Method::Get {
            self.put_body(0, self.body_bytes, out);
        } else {
            answers.answered.body_bytes = 0;
        }
        Ok(())
    }

    /// Answers with it as the body of an error.
    fn put_as(
        &self,
        status: Status,
        method: Method<'_>,
        connection: Connection,
        answers: &mut Answers,
        out: &mut Out<'_, '_>,
    ) {
        let answer = answers.begin(status, connection, out.cx.wall);
        put_header(answer, "Content-Type", &self.content_type);
        put_header_number(answer, "Content-Length", self.body_bytes);
        put_header(answer, "X-Content-Type-Options", "nosniff");
        put_head_end(answer);
        answers.send(out);
        if method != Method::Head {
            answers.answered.body_bytes = self.body_bytes;
            self.put_body(0, self.body_bytes, out);
        }
    }

    /// The head of the whole file.
    fn put_head(&self, connection: Connection, out: &mut Out<'_, '_>) {
        if connection == Connection::Keep {
            return out.put(&self.whole[..self.head_bytes]);
        }
        out.put(&self.whole[..self.head_bytes - 2]);
        out.put(connection.header());
        out.put(b"\r\n");
    }

    /// Some of the body, from memory or by `sendfile`.
    fn put_body(&self, start: u64, end: u64, out: &mut Out<'_, '_>) {
        match &self.file {
            None => out.put(&self.whole[self.head_bytes..][start as usize..end as usize]),
            Some((file, version)) => {
                let version = Some(version);
                out.tx
                    .put_version(file, version, start, end - start, out.cx.pool);
            }
        }
    }

    /// Answers a request with conditions or ranges in the order of RFC 9110 section 13.2.2. Whether that was an answer: `false`
    /// means the whole file.
    fn put_conditional(
        &self,
        head: &RequestHead<'_>,
        connection: Connection,
        answers: &mut Answers,
        out: &mut Out<'_, '_>,
    ) -> Result<bool, Refusal> {
        let tag = EntityTag::parse(self.tag.as_bytes());
        let current = Validators {
            tag,
            modified_s: Some(self.modified_s),
            date: self.dated,
        };
        match conditional::evaluate(head.method, &head.headers, Some(&current)) {
            Outcome::Proceed => {}
            Outcome::NotModified => {
                let answer = answers.begin(Status::NOT_MODIFIED, connection, out.cx.wall);
                self.put_validators(answer);
                put_head_end(answer);
                answers.send(out);
                return Ok(true);
            }
            Outcome::PreconditionFailed => return Err(PRECONDITION_FAILED),
        }
        // Range is defined for GET alone (RFC 9110 section 14.2).
        let Some(range) = head
            .headers
            .only("range")
            .filter(|_| head.method == Method::Get)
        else {
            return Ok(false);
        };
        if !conditional::range_applies(&head.headers, &current, unix_s(out.cx.wall)) {
            return Ok(false);
        }
        match Ranges::parse(range, self.body_bytes) {
            Ranges::Whole => return Ok(false),
            Ranges::One(range) => {
                let answer = answers.begin(Status::PARTIAL_CONTENT, connection, out.cx.wall);
                put_header(answer, "Content-Type", &self.content_type);
                answer.extend_from_slice(&self.encoding);
                answer.extend_from_slice(b"Content-Range: ");
                put_content_range(answer, range, self.body_bytes);
                answer.extend_from_slice(b"\r\n");
                put_header_number(answer, "Content-Length", range.len());
                put_header(answer, "X-Content-Type-Options", "nosniff");
                self.put_validators(answer);
                put_head_end(answer);
                answers.send(out);
                answers.answered.body_bytes = range.len();
                self.put_body(range.start, range.end, out);
            }
            Ranges::Many(ranges) => {
                let mut seed = [0; 8];
                out.cx.disk.entropy(&mut seed);
                let parts = Multipart::new(
                    u64::from_ne_bytes(seed),
                    &self.content_type,
                    self.body_bytes,
                );
                let answer = answers.begin(Status::PARTIAL_CONTENT, connection, out.cx.wall);
                answer.extend_from_slice(b"Content-Type: ");
                parts.put_content_type(answer);
                answer.extend_from_slice(b"\r\n");
                answer.extend_from_slice(&self.encoding);
                put_header_number(answer, "Content-Length", parts.body_bytes(&ranges));
                put_header(answer, "X-Content-Type-Options", "nosniff");
                self.put_validators(answer);
                put_head_end(answer);
                answers.send(out);
                answers.answered.body_bytes = parts.body_bytes(&ranges);
                let mut framing = Vec::new();
                for range in ranges {
                    framing.clear();
                    parts.put_part_head(&mut framing, range);
                    out.put(&framing);
                    self.put_body(range.start, range.end, out);
                }
                framing.clear();
                parts.put_end(&mut framing);
                out.put(&framing);
            }
            Ranges::Unsatisfiable => {
                return Err(Refusal {
                    detail: Detail::Length(self.body_bytes),
                    ..Refusal::new(
                        Status::RANGE_NOT_SATISFIABLE,
                        "the file has none of the bytes that the request asks for",
                    )
                });
            }
        }
        Ok(true)
    }

    fn put_validators(&self, answer: &mut Vec<u8>) {
        put_header(answer, "Last-Modified", Date::new(self.last_modified_s()));
        put_header(answer, "ETag", &self.tag);
        put_header(answer, "Accept-Ranges", "bytes");
        answer.extend_from_slice(&self.lines);
    }
}

/// The headers that may make the answer another one than the whole file.
const CONDITIONS: [&str; 5] = [
    "range",
    "if-none-match",
    "if-modified-since",
    "if-match",
    "if-unmodified-since",
];
