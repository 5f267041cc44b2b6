//! Listings of folders, as a page or as JSON.
//!
//! ```text
//! Reading ──each name looked at──▶ Writing ──each row written──▶ Done, shown to all who ask within a second
//! ```
//!
//! The rules:
//! 1. The work of one turn is bounded, whatever folders are asked for: a listing is a job that is
//!    taken on at the end of each turn, while the sessions that wait for it are parked. Rows are
//!    sorted as they are read and written ([`merge`]). Many that
//!    ask for the same one share the job, and the memory of what comes out.
//! 2. Entries, jobs and the bytes of listings still being sent are bounded; who comes then is told
//!    to try later.
//! 3. Folders first, then by name, size or date. Hidden names, what leads out of the root, and what
//!    is neither file nor folder are not shown. The page needs no script and names no other
//!    resource.
//!
//! [`page`] writes it; below it stands what [`readme`] finds. Not here: whether a folder may be
//! listed at all.

use std::cmp::Ordering;
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
use crate::http::date::unix_s;
use crate::http::negotiate::ListingFormat;
use crate::service::work::ROW_NS;
use crate::service::{Cx, Id};
use crate::services::web::forms::Forms;

use merge::{Merge, Runs};
pub(super) use page::POLICY;
use page::{put_end, put_last, put_row, put_start};

mod merge;
mod page;

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
    /// Reads the query: `format`, `sort` and `order`; what it cannot mean is as if it were not
    /// there.
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
        rows: Runs<Row>,
        tally: Tally,
        more: bool,
    },
    Writing {
        rows: Merge<Row>,
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

/// What is said of all entries together.
#[derive(Default)]
struct Tally {
    folders: usize,
    files: usize,
    bytes: u64,
    /// The files that may be shown below.
    readmes: Vec<PathBuf>,
}

impl Tally {
    fn count(&mut self, row: &Row) {
        self.bytes = self.bytes.saturating_add(row.bytes);
        match row.is_folder {
            true => self.folders += 1,
            false => {
                self.files += 1;
                if readme::choose([row.name.as_os_str()].into_iter()).is_some() {
                    self.readmes.push(row.name.clone());
                }
            }
        }
    }
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

    /// A listing of `folder`, which is open. While it is being made, `waiter` is listed once, to be
    /// woken and to ask again.
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

    /// Goes on with the listings, first come first served, as far as one turn's work allows, and
    /// wakes those whose listing is done. Whether any is left.
    pub(super) fn work(&mut self, root: &File, cx: &mut Cx<'_>) -> bool {
        let mut work = WORK_PER_TURN.min(cx.work.steps(ROW_NS)).max(1);
        let before = work;
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
        cx.work.charge_each(before - work, ROW_NS);
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
                rows: Runs::new(),
                tally: Tally::default(),
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
                    tally,
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
                        tally.count(&row);
                        rows.push(row, |one, two| self.wanted.order(one, two));
                    }
                    names.is_empty() && next.is_none()
                }
                Stage::Writing { rows, text, .. } => {
                    while *work > 0
                        && let Some(row) = rows.next(|one, two| self.wanted.order(one, two))
                    {
                        *work -= 1;
                        put_row(text, &row, self.wanted.format);
                    }
                    rows.is_empty()
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
            Stage::Reading {
                rows,
                mut tally,
                more,
                ..
            } => {
                let mut text = String::with_capacity(4096);
                put_start(&mut text, &self.wanted, &tally, shows.archive);
                tally.readmes.sort_unstable();
                let readme = readme::choose(tally.readmes.iter().map(|name| name.as_os_str()));
                Stage::Writing {
                    readme: readme.map(PathBuf::from),
                    rows: rows.merge(|one, two| self.wanted.order(one, two)),
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
            let folded = one.iter().map(u8::to_ascii_lowercase);
            let folded = folded.cmp(two.iter().map(u8::to_ascii_lowercase));
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
