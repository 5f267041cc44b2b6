//! Listings of folders, as a page or as JSON.
//!
//! ```text
//! Reading ──each name looked at──▶ Writing ──each row written──▶ Done, shown to all who ask within a second
//! ```
//!
//! The rules:
//! 1. The work of one turn is bounded, whatever folders are asked for: a listing is a job that is taken on at the end of each
//!    turn, while the sessions that wait for it are parked. Many that ask for the same one share the job, and the memory of
//!    what comes out.
//! 2. Entries, jobs and the bytes of listings still being sent are bounded; who comes then is told to try later.
//! 3. Folders first, then by name, size or date. Hidden names, what leads out of the root, and what is neither file nor
//!    folder are not shown. The page needs no script and names no other resource.
//!
//! Below the page stands what [`readme`] finds. Not here: whether a folder may be listed at all.

use std::cmp::Ordering;
use std::fmt::{self, Write};
use std::hash::BuildHasher;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use foldhash::quality::FixedState;

use super::readme;
use crate::config::{CompressConfig, FilesConfig};
use crate::disk::{File, FileKind};
use crate::http::date::{put_iso, unix_s};
use crate::http::negotiate::ListingFormat;
use crate::http::path::encode;
use crate::service::{Cx, Id};
use crate::services::web::forms::Forms;
use crate::services::web::html::Html;

/// Entries looked at, or rows written, in one turn by all listings together: about a millisecond.
const WORK_PER_TURN: usize = 500;
/// Listings at work or remembered.
const JOBS_MAX: usize = 16;
/// Bytes of listings that are being sent.
const BYTES_MAX: usize = 64 << 20;
/// How long a finished listing is shown, and one that nobody asks for any more is kept.
const FRESH_FOR: Duration = Duration::from_secs(1);

/// What a listing is ordered by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sort {
    Name,
    Size,
    Date,
}

/// A listing as it is asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Wanted {
    /// The path of the folder as the client sees it, decoded, with its slashes: `/` or `/a/b/`.
    pub(super) shown: Vec<u8>,
    /// The folder relative to the root of its site; empty for the root.
    pub(super) folder: PathBuf,
    pub(super) format: ListingFormat,
    sort: Sort,
    descending: bool,
}

impl Wanted {
    /// Reads the query: `format`, `sort` and `order`; what it cannot mean is as if it were not there.
    pub(super) fn new(
        shown: Vec<u8>,
        folder: PathBuf,
        query: Option<&str>,
        accepted: ListingFormat,
    ) -> Self {
        let mut wanted = Self {
            shown,
            folder,
            format: accepted,
            sort: Sort::Name,
            descending: false,
        };
        for pair in query.unwrap_or("").split('&') {
            match pair {
                "format=json" => wanted.format = ListingFormat::Json,
                "format=html" => wanted.format = ListingFormat::Html,
                "sort=name" => wanted.sort = Sort::Name,
                "sort=size" => wanted.sort = Sort::Size,
                "sort=date" => wanted.sort = Sort::Date,
                "order=asc" => wanted.descending = false,
                "order=desc" => wanted.descending = true,
                _ => {}
            }
        }
        wanted
    }
}

/// Why there is no listing.
#[derive(Debug)]
pub(super) enum Unlisted {
    /// Too many are being made or sent.
    Busy,
    /// The folder cannot be read.
    Disk(io::ErrorKind),
}

/// The listings of one site.
pub(super) struct Listings {
    jobs: Vec<Job>,
    /// What was handed out: alive as long as some send queue refers to it.
    sent: Vec<Weak<[u8]>>,
    shows: Shows,
}

/// What the listings of a site show.
struct Shows {
    entries_max: usize,
    compress: CompressConfig,
    readme_bytes_max: usize,
    /// Ways to the folder as an archive.
    archive: bool,
}

struct Job {
    wanted: Wanted,
    /// When somebody last asked for it, and for a finished one when it was finished.
    touched: Instant,
    /// Sessions to be woken when it is done.
    waiters: Vec<Id>,
    stage: Stage,
}

enum Stage {
    Reading {
        folder: File,
        /// Where the names not read yet begin.
        next: Option<u64>,
        names: Vec<PathBuf>,
        rows: Vec<Row>,
        more: bool,
    },
    Writing {
        rows: std::vec::IntoIter<Row>,
        text: String,
        more: bool,
        /// The name of the file to be shown below.
        readme: Option<PathBuf>,
    },
    Done(Page),
    /// The folder could not be read.
    Failed(io::ErrorKind),
}

/// A finished listing.
#[derive(Default)]
pub(super) struct Page {
    pub(super) text: Rc<[u8]>,
    /// What tells it from a page with another text.
    pub(super) tag: u64,
    pub(super) forms: Forms,
}

/// One entry.
struct Row {
    name: PathBuf,
    is_folder: bool,
    bytes: u64,
    modified_s: i64,
}

impl Row {
    fn bytes_of_name(&self) -> &[u8] {
        self.name.as_os_str().as_bytes()
    }
}

impl Listings {
    pub(super) fn new(config: &FilesConfig) -> Self {
        Self {
            jobs: Vec::new(),
            sent: Vec::new(),
            shows: Shows {
                entries_max: config.listing_entries_max,
                readme_bytes_max: config.readme_bytes_max,
                archive: config.archive,
                compress: config.compress.clone(),
            },
        }
    }

    /// A listing of `folder`, which is open. While it is being made, `waiter` is listed once, to be woken and to ask again.
    pub(super) fn page(
        &mut self,
        wanted: &Wanted,
        folder: &File,
        waiter: Id,
        cx: &mut Cx<'_>,
    ) -> Poll<Result<&mut Page, Unlisted>> {
        let now = cx.now;
        self.jobs.retain(|job| {
            let is_fresh = now < job.touched + FRESH_FOR;
            if let (false, Stage::Done(page)) = (is_fresh, &job.stage) {
                page.forms.discard(cx.compressed);
            }
            is_fresh
        });
        let known = self.jobs.iter().position(|job| job.wanted == *wanted);
        let place = match known {
            Some(place) => place,
            None if self.jobs.len() >= JOBS_MAX || self.bytes_sent() >= BYTES_MAX => {
                return Poll::Ready(Err(Unlisted::Busy));
            }
            None => {
                self.jobs.push(Job::new(wanted, folder, now));
                self.jobs.len() - 1
            }
        };
        let job = &mut self.jobs[place];
        let page = match &mut job.stage {
            Stage::Done(page) => page,
            Stage::Failed(kind) => return Poll::Ready(Err(Unlisted::Disk(*kind))),
            Stage::Reading { .. } | Stage::Writing { .. } => {
                if !job.waiters.contains(&waiter) {
                    job.waiters.push(waiter);
                }
                return Poll::Pending;
            }
        };
        let handed_out = Rc::downgrade(&page.text);
        if !self
            .sent
            .last()
            .is_some_and(|last| last.ptr_eq(&handed_out))
        {
            self.sent.push(handed_out);
        }
        Poll::Ready(Ok(page))
    }

    /// Goes on with the listings, first come first served, as far as one turn's work allows, and wakes those whose listing is
    /// done. Whether any is left.
    pub(super) fn work(&mut self, root: &File, cx: &mut Cx<'_>) -> bool {
        let mut work = WORK_PER_TURN;
        let mut is_left = false;
        for job in &mut self.jobs {
            if let Err(error) = job.work(&mut work, &self.shows, root, cx) {
                job.stage = Stage::Failed(error.kind());
            }
            match job.stage {
                Stage::Done(_) | Stage::Failed(_) => cx.woken.append(&mut job.waiters),
                Stage::Reading { .. } | Stage::Writing { .. } => is_left = true,
            }
        }
        is_left
    }

    /// Bytes of the listings that some queue or job still holds.
    fn bytes_sent(&mut self) -> usize {
        self.sent.retain(|page| page.strong_count() > 0);
        self.sent
            .iter()
            .filter_map(Weak::upgrade)
            .map(|page| page.len())
            .sum()
    }
}

impl Job {
    fn new(wanted: &Wanted, folder: &File, now: Instant) -> Self {
        Self {
            wanted: wanted.clone(),
            touched: now,
            waiters: Vec::new(),
            stage: Stage::Reading {
                folder: folder.clone(),
                next: Some(0),
                names: Vec::new(),
                rows: Vec::new(),
                more: false,
            },
        }
    }

    /// Goes on as far as `work` allows.
    fn work(
        &mut self,
        work: &mut usize,
        shows: &Shows,
        root: &File,
        cx: &mut Cx<'_>,
    ) -> io::Result<()> {
        loop {
            let is_done = match &mut self.stage {
                Stage::Done(_) | Stage::Failed(_) => return Ok(()),
                _ if *work == 0 => {
                    self.touched = cx.now;
                    return Ok(());
                }
                Stage::Reading {
                    folder,
                    next,
                    names,
                    rows,
                    more,
                } => {
                    if names.is_empty()
                        && let Some(from) = *next
                    {
                        *work -= 1; // a folder without names has to end too
                        *next = cx.disk.names(folder, from, names)?;
                    }
                    while *work > 0
                        && let Some(name) = names.pop()
                    {
                        *work -= 1;
                        let Some(row) = look(&self.wanted.folder, &name, root, cx) else {
                            continue;
                        };
                        if rows.len() == shows.entries_max {
                            (*more, *next) = (true, None);
                            names.clear();
                            break;
                        }
                        rows.push(row);
                    }
                    names.is_empty() && next.is_none()
                }
                Stage::Writing { rows, text, .. } => {
                    for row in rows.by_ref().take(*work) {
                        *work -= 1;
                        put_row(text, &row, self.wanted.format);
                    }
                    rows.as_slice().is_empty()
                }
            };
            if is_done {
                self.advance(shows, root, cx);
            }
        }
    }

    /// What was done is followed by the next stage.
    fn advance(&mut self, shows: &Shows, root: &File, cx: &mut Cx<'_>) {
        let done = Stage::Done(Page::default());
        self.stage = match std::mem::replace(&mut self.stage, done) {
            Stage::Reading { mut rows, more, .. } => {
                rows.sort_unstable_by(|one, two| self.wanted.order(one, two));
                let mut text = String::with_capacity(4096);
                put_start(&mut text, &self.wanted, &rows, shows.archive);
                let files = rows.iter().filter(|row| !row.is_folder);
                let readme = readme::choose(files.map(|row| row.name.as_os_str()));
                Stage::Writing {
                    readme: readme.map(PathBuf::from),
                    rows: rows.into_iter(),
                    text,
                    more,
                }
            }
            Stage::Writing {
                readme,
                mut text,
                more,
                ..
            } => {
                put_end(&mut text, self.wanted.format, more);
                if let (Some(name), ListingFormat::Html) = (readme, self.wanted.format) {
                    let path = self.wanted.folder.join(&name);
                    let read = readme::read(root, &path, shows.readme_bytes_max, cx.disk);
                    // What cannot be read is not shown, like a name that cannot.
                    if let Ok(Some(contents)) = read {
                        readme::put(&mut text, name.as_os_str(), &contents);
                    }
                }
                put_last(&mut text, self.wanted.format);
                self.touched = cx.now;
                let (kind, len) = (content_type(self.wanted.format), text.len() as u64);
                Stage::Done(Page {
                    forms: Forms::new(&shows.compress, kind, len),
                    tag: FixedState::default().hash_one(text.as_bytes()),
                    text: text.into_bytes().into(),
                })
            }
            done @ (Stage::Done(_) | Stage::Failed(_)) => done,
        };
    }
}

/// The value of `Content-Type`.
pub(super) fn content_type(format: ListingFormat) -> &'static str {
    match format {
        ListingFormat::Html => "text/html; charset=utf-8",
        ListingFormat::Json => "application/json",
    }
}

impl Wanted {
    fn order(&self, one: &Row, two: &Row) -> Ordering {
        let by_name = || {
            let (one, two) = (one.bytes_of_name(), two.bytes_of_name());
            let folded = one.to_ascii_lowercase().cmp(&two.to_ascii_lowercase());
            folded.then_with(|| one.cmp(two))
        };
        let order = match self.sort {
            Sort::Name => by_name(),
            Sort::Size => one.bytes.cmp(&two.bytes).then_with(by_name),
            Sort::Date => one.modified_s.cmp(&two.modified_s).then_with(by_name),
        };
        let order = if self.descending {
            order.reverse()
        } else {
            order
        };
        two.is_folder.cmp(&one.is_folder).then(order)
    }
}

/// What a name stands for, if that is to be shown.
fn look(folder: &Path, name: &Path, root: &File, cx: &mut Cx<'_>) -> Option<Row> {
    if name.as_os_str().as_bytes().starts_with(b".") {
        return None;
    }
    let metadata = cx.disk.look(root, &folder.join(name)).ok()?;
    let is_folder = match metadata.kind {
        FileKind::Folder => true,
        FileKind::Regular => false,
        FileKind::Other => return None,
    };
    Some(Row {
        name: name.to_owned(),
        is_folder,
        bytes: if is_folder { 0 } else { metadata.len },
        modified_s: unix_s(metadata.modified),
    })
}

// Writing to a String does not fail, so what `write!` returns below is dropped.

fn put_start(text: &mut String, wanted: &Wanted, rows: &[Row], archive: bool) {
    if wanted.format == ListingFormat::Json {
        let shown = String::from_utf8_lossy(&wanted.shown);
        let _ = write!(text, "{{\"path\":{},\"entries\":[", Json(&shown));
        return;
    }
    let _ = write!(
        text,
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\"><title>Index of {0}</title>\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<meta name=\"color-scheme\" content=\"light dark\">\n\
         <style>{STYLE}</style>\n<h1>Index of ",
        Html(&wanted.shown)
    );
    let names = || {
        let all = wanted.shown.split(|&byte| byte == b'/');
        all.filter(|name| !name.is_empty())
    };
    let depth = names().count();
    for (level, name) in std::iter::once(&b""[..]).chain(names()).enumerate() {
        match depth - level {
            0 => _ = write!(text, "{}/", Html(name)),
            up => _ = write!(text, "<a href=\"{}\">{}/</a>", "../".repeat(up), Html(name)),
        }
    }
    let (before, ways, behind) = match archive {
        true => ("<form>", ARCHIVES, "</form>"),
        false => ("", "", ""),
    };
    let folders = rows.iter().filter(|row| row.is_folder).count();
    let bytes = rows
        .iter()
        .fold(0u64, |sum, row| sum.saturating_add(row.bytes));
    let _ = write!(
        text,
        "</h1>\n{before}<p>{}, {}, {}{ways}</p>{behind}\n<table><thead><tr>",
        Count(folders, "folder"),
        Count(rows.len() - folders, "file"),
        Size(bytes)
    );
    for (sort, key, title) in [
        (Sort::Name, "name", "Name"),
        (Sort::Size, "size", "Size"),
        (Sort::Date, "date", "Modified (UTC)"),
    ] {
        let current = sort == wanted.sort;
        let (state, arrow, order) = match (current, wanted.descending) {
            (true, false) => (" aria-sort=\"ascending\"", " \u{2191}", "desc"),
            (true, true) => (" aria-sort=\"descending\"", " \u{2193}", "asc"),
            (false, _) => ("", "", "asc"),
        };
        let _ = write!(
            text,
            "<th{state}><a href=\"?sort={key}&amp;order={order}\">{title}</a>{arrow}</th>"
        );
    }
    text.push_str("</tr></thead>\n<tbody>\n");
    if wanted.shown != b"/" {
        text.push_str("<tr><td><a href=\"../\">../</a></td><td></td><td></td></tr>\n");
    }
}

fn put_row(text: &mut String, row: &Row, format: ListingFormat) {
    let slash = if row.is_folder { "/" } else { "" };
    if format == ListingFormat::Json {
        if !text.ends_with('[') {
            text.push(',');
        }
        // A name that is no text is still found by its link.
        let (name, link) = (row.name.to_string_lossy(), encode(row.bytes_of_name()));
        let _ = write!(
            text,
            "\n{{\"name\":{},\"href\":\"./{link}{slash}\",\"kind\":",
            Json(&name)
        );
        match row.is_folder {
            true => text.push_str("\"folder\""),
            false => _ = write!(text, "\"file\",\"size\":{}", row.bytes),
        }
        text.push_str(",\"modified\":\"");
        put_iso(text, row.modified_s);
        text.push_str("\"}");
        return;
    }
    // `./`: a name such as `a:b` would be taken for another scheme without it.
    let _ = write!(
        text,
        "<tr><td><a href=\"./{}{slash}\">{}{slash}</a></td>",
        encode(row.bytes_of_name()),
        Html(row.bytes_of_name())
    );
    let size = Size(row.bytes);
    match row.is_folder {
        true => text.push_str("<td></td>"),
        false => _ = write!(text, "<td title=\"{} bytes\">{size}</td>", row.bytes),
    }
    let mut modified = String::with_capacity(20);
    put_iso(&mut modified, row.modified_s);
    let (date, time) = modified.split_once('T').unwrap_or((&modified, ""));
    let time = time.get(..5).unwrap_or("");
    let _ = writeln!(
        text,
        "<td><time datetime=\"{modified}\">{date} {time}</time></td></tr>"
    );
}

/// Behind the last row.
fn put_end(text: &mut String, format: ListingFormat, more: bool) {
    match (format, more) {
        (ListingFormat::Json, more) => _ = writeln!(text, "\n],\"more\":{more}}}"),
        (ListingFormat::Html, true) => {
            text.push_str("</tbody></table>\n<p>There is more than is shown here.</p>\n");
        }
        (ListingFormat::Html, false) => text.push_str("</tbody></table>\n"),
    }
}

fn put_last(text: &mut String, format: ListingFormat) {
    match format {
        ListingFormat::Json => {}
        ListingFormat::Html => text.push_str("</html>\n"),
    }
}

/// Ways to the folder with all below it. Buttons: a program that follows all links of a page, such
/// as `wget -r`, would fetch everything once more for each folder on the way to it.
const ARCHIVES: &str = "; download all: <button name=\"archive\" value=\"tar\">tar</button> \
    <button name=\"archive\" value=\"zip\">zip</button>";

/// What the page may use: its own style, told by its hash (CSP Level 3, section 8.3), and nothing else.
pub(super) const POLICY: &str = "default-src 'none'; frame-ancestors 'self'; \
    style-src 'sha256-lEFfkS3zPdqCHoLS71cuUNxpCHVCR2Bc3q/ffsuNTi0='";

const STYLE: &str = "body{font:16px/1.5 system-ui,sans-serif;max-width:64em;margin:2em auto;padding:0 1em;\
    color:#222;background:#fff}h1{font-size:1.3em;font-weight:600;overflow-wrap:anywhere}p{color:#666}\
    table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:.35em .6em;border-bottom:1px solid #e4e4e4}\
    th{font-weight:600;white-space:nowrap}td:first-child{overflow-wrap:anywhere}\
    th:nth-child(n+2),td:nth-child(n+2){text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}\
    tbody tr:hover{background:#f5f7fa}a{color:#0b57d0;text-decoration:none}a:hover{text-decoration:underline}\
    h2{font-size:1em}pre{white-space:pre-wrap;overflow-wrap:anywhere}\
    button{font:inherit;color:#0b57d0;background:none;border:1px solid #e4e4e4;border-radius:4px;cursor:pointer}\
    @media(prefers-color-scheme:dark){body{color:#ddd;background:#14161a}p{color:#999}th,td{border-color:#2c3036}\
    tbody tr:hover{background:#1d2026}a,button{color:#8ab4f8}button{border-color:#2c3036}}\
    @media(max-width:36em){th:nth-child(3),td:nth-child(3){display:none}}";

/// A text in JSON, with its quotes.
struct Json<'a>(&'a str);

impl fmt::Display for Json<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self.0).map_err(|_| fmt::Error)?)
    }
}

/// A number of things.
struct Count(usize, &'static str);

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.0 == 1 { "" } else { "s" };
        write!(f, "{} {}{plural}", self.0, self.1)
    }
}

/// A number of bytes for people: three digits and a unit.
struct Size(u64);

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut size = self.0 as f64;
        if self.0 < 1000 {
            return write!(f, "{} B", self.0);
        }
        for unit in ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"] {
            size /= 1024.0;
            if size < 9.995 {
                return write!(f, "{size:.2} {unit}");
            }
            if size < 99.95 {
                return write!(f, "{size:.1} {unit}");
            }
            if size < 999.5 {
                return write!(f, "{size:.0} {unit}");
            }
        }
        write!(f, "{size:.0} EiB")
    }
}

#[cfg(test)]
mod tests {
    use base64::prelude::{BASE64_STANDARD, Engine as _};
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn the_policy_lets_the_style_in() {
        let hash = BASE64_STANDARD.encode(Sha256::digest(STYLE));
        assert!(POLICY.contains(&format!("'sha256-{hash}'")), "{hash}");
    }

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "0.98 KiB"),
            (1536, "1.50 KiB"),
            (10 * 1024 * 1024, "10.0 MiB"),
            (1023 * 1024, "1.00 MiB"),
            (u64::MAX, "16.0 EiB"),
        ] {
            assert_eq!(Size(bytes).to_string(), text);
        }
    }
}
