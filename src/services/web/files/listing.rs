//! Listings of folders, as a page or as JSON.
//!
//! ```text
//! Reading ──each name looked at──▶ Sorting ──▶ Writing ──each row written──▶ Ending ──what is shown below──▶ Done
//! ```
//!
//! The rules:
//! 1. The work of one turn is bounded, whatever folders are asked for: a listing is a job that is
//!    taken on at the end of each turn, while the sessions that wait for it are parked. Many that
//!    ask for the same one share the job, and the memory of what comes out.
//! 2. It waits for no disk: names are read by jobs, and what cannot be looked at in memory is
//!    looked at by jobs too, [`LOOKS_MAX`] at once. If those who wait for it have all gone, it is
//!    given up.
//! 3. What is done is shown to all who ask within [`FRESH_FOR`], and thrown away then.
//! 4. Entries, jobs and the bytes of listings still being sent are bounded; who comes then is told
//!    to try later. So is a client that has its share of them at work. Loopback is exempt from
//!    that: there all clients of this machine have one address.
//! 5. Folders first, then by name, size or date. Hidden names, what leads out of the root, and what
//!    is neither file nor folder are not shown. The page needs no script and names no other
//!    resource.
//!
//! [`job`] makes it, [`page`] writes it; below it stands what [`readme`](super::readme) finds. Not
//! here: whether a folder may be listed at all.

use std::cmp::Ordering;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::task::Poll;
use std::time::{Duration, Instant};

use crate::buffer::Held;
use crate::config::{CompressConfig, FilesConfig};
use crate::disk::{File, FileKind, Metadata};
use crate::gate::Address;
use crate::http::date::unix_s;
use crate::http::negotiate::ListingFormat;
use crate::service::work::ROW_NS;
use crate::service::{Cx, Id, Peer};
use crate::services::web::forms::Forms;
use job::{Job, Stage};
pub(super) use page::POLICY;

mod job;
mod page;
mod sort;
#[cfg(test)]
mod tests;

/// Entries looked at, or rows written, in one turn by all listings together: about a millisecond.
const WORK_PER_TURN: usize = 500;
/// Rows that are moved while they are sorted, in place of one that is looked at or written.
const MERGED_PER_WORK: usize = 16;
/// Names of one folder that are looked at at once, where the disk has to be waited for: half of
/// what one disk is asked at once by default, so that a long folder leaves places for the others.
const LOOKS_MAX: usize = 6;
/// Bytes of listings that are being sent.
const BYTES_MAX: usize = 64 << 20;
/// How long a finished listing is shown.
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
    /// Bytes of those being made, as they were last counted.
    held: Held,
}

/// What the listings of a site show.
struct Shows {
    entries_max: usize,
    /// Listings at work or remembered.
    listings_max: usize,
    /// Of those at work, how many of one client address.
    per_address_max: usize,
    compress: CompressConfig,
    readme_bytes_max: usize,
    /// Ways to the folder as an archive.
    archive: bool,
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

/// All entries together.
#[derive(Default)]
struct Tally {
    folders: usize,
    files: usize,
    bytes: u64,
}

impl Row {
    /// What a name stands for, if that is to be shown.
    fn new(name: PathBuf, metadata: &Metadata) -> Option<Self> {
        let is_folder = match metadata.kind {
            FileKind::Folder => true,
            FileKind::Regular => false,
            FileKind::Other => return None,
        };
        Some(Self {
            name,
            is_folder,
            bytes: if is_folder { 0 } else { metadata.len },
            modified_s: unix_s(metadata.modified),
        })
    }

    fn bytes_of_name(&self) -> &[u8] {
        self.name.as_os_str().as_bytes()
    }
}

fn is_hidden(name: &Path) -> bool {
    name.as_os_str().as_bytes().starts_with(b".")
}

impl Tally {
    fn add(&mut self, row: &Row) {
        match row.is_folder {
            true => self.folders += 1,
            false => self.files += 1,
        }
        self.bytes = self.bytes.saturating_add(row.bytes);
    }
}

impl Listings {
    pub(super) fn new(config: &FilesConfig) -> Self {
        Self {
            held: Held::default(),
            jobs: Vec::new(),
            sent: Vec::new(),
            shows: Shows {
                entries_max: config.listing_entries_max,
                listings_max: config.listings_max,
                per_address_max: config
                    .listings_per_address_max
                    .map_or(usize::MAX, |max| max.get() as usize),
                readme_bytes_max: config.readme_bytes_max,
                archive: config.archive,
                compress: config.compress.clone(),
            },
        }
    }

    /// A listing of `folder`, which is open, for `peer`. While it is being made, `waiter` is listed
    /// once, to be woken and to ask again.
    pub(super) fn page(
        &mut self,
        wanted: &Wanted,
        folder: &File,
        (waiter, peer): (Id, Option<&Peer>),
        cx: &mut Cx<'_>,
    ) -> Poll<Result<&mut Page, Unlisted>> {
        self.expire(cx);
        let known = self.jobs.iter().position(|job| job.wanted == *wanted);
        let place = match known {
            Some(place) => place,
            None => {
                let address = peer.and_then(address_of);
                if !self.has_place(address, cx) {
                    return Poll::Ready(Err(Unlisted::Busy));
                }
                self.jobs.push(Job::new(wanted, folder, address));
                self.jobs.len() - 1
            }
        };
        let job = &mut self.jobs[place];
        let page = match &mut job.stage {
            Stage::Done(page) => &mut page.it,
            Stage::Failed(kind) => {
                return Poll::Ready(Err(match kind.it {
                    io::ErrorKind::ResourceBusy => Unlisted::Busy,
                    kind => Unlisted::Disk(kind),
                }));
            }
            _ => {
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

    /// Whether another may be begun for a client. The oldest of those that are done makes room for
    /// it, once all who waited for that had their turn.
    fn has_place(&mut self, address: Option<Address>, cx: &mut Cx<'_>) -> bool {
        let at_work = self.jobs.iter().filter(|job| job.ended_at().is_none());
        let its = at_work.filter(|job| address.is_some() && job.address == address);
        if its.count() >= self.shows.per_address_max || self.bytes_sent() >= BYTES_MAX {
            return false;
        }
        if self.jobs.len() < self.shows.listings_max {
            return true;
        }
        let ended = self.jobs.iter().enumerate().filter_map(|(place, job)| {
            let (_, turn) = job.ended_at()?;
            (turn + 1 < cx.turn).then_some((turn, place))
        });
        let Some((_, oldest)) = ended.min() else {
            return false;
        };
        self.jobs.remove(oldest).discard(cx);
        true
    }

    /// Goes on with the listings, first come first served, as far as one turn's work allows, and
    /// wakes those whose listing is done. Whether there is more to do at once.
    pub(super) fn work(&mut self, root: &File, cx: &mut Cx<'_>) -> bool {
        self.expire(cx);
        let mut work = WORK_PER_TURN.min(cx.work.steps(ROW_NS)).max(1);
        let before = work;
        let mut is_left = false;
        for job in &mut self.jobs {
            if job.ended_at().is_some() {
                continue;
            }
            job.work(&mut work, &self.shows, root, cx);
            match job.ended_at() {
                Some(_) => cx.woken.append(&mut job.waiters),
                None => is_left |= work == 0,
            }
        }
        cx.work.charge_each(before - work, ROW_NS);
        self.count(cx);
        is_left
    }

    /// Counts what those hold that are being made; those that are sent have a bound of their own.
    fn count(&mut self, cx: &Cx<'_>) {
        let bytes = self.jobs.iter().map(Job::bytes_held).sum();
        cx.pool.hold(&mut self.held, bytes);
    }

    /// A session that may have waited for a listing has gone.
    pub(super) fn forget(&mut self, waiter: Id, cx: &mut Cx<'_>) {
        let is_abandoned = |job: &mut Job| {
            let before = job.waiters.len();
            job.waiters.retain(|known| *known != waiter);
            job.waiters.is_empty() && before > 0
        };
        for job in self.jobs.extract_if(.., is_abandoned) {
            job.discard(cx);
        }
        self.count(cx);
    }

    /// When something is to be thrown away.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let ended = self.jobs.iter().filter_map(Job::ended_at);
        ended.map(|(at, _)| at + FRESH_FOR).min()
    }

    /// Throws away what was shown for long enough; at the end of the process, all that is done.
    fn expire(&mut self, cx: &mut Cx<'_>) {
        let (now, draining) = (cx.now, cx.draining);
        let is_over = |job: &mut Job| {
            let ended = job.ended_at();
            ended.is_some_and(|(at, _)| {
                now >= at + FRESH_FOR || (draining && job.waiters.is_empty())
            })
        };
        for job in self.jobs.extract_if(.., is_over) {
            job.discard(cx);
        }
        if self.jobs.is_empty() {
            self.sent.retain(|page| page.strong_count() > 0);
        }
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

/// What a client's share goes by.
fn address_of(peer: &Peer) -> Option<Address> {
    let ip = peer.ip()?;
    (!ip.is_loopback()).then(|| ip.into())
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
            let order = folded.cmp(two.iter().map(u8::to_ascii_lowercase));
            order.then_with(|| one.cmp(two))
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
