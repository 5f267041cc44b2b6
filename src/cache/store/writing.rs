//! The file of an object while it is written, by one job after the other.
//!
//! ```text
//! Create ──▶ Body ──▶ Body … ──all bytes are there──▶ Header ──▶ Rename ──▶ done
//!              ▲ ▼
//!             Draw: what is kept already of a part that is completed
//! ```
//!
//! It has a temporary name until the last step, so a crash leaves no half object under a name. The
//! place of the header is left free at first: its length and checksum are known at the end only.

use std::collections::VecDeque;
use std::io;
use std::path::PathBuf;
use std::task::Poll;

use super::Hands;
use super::index::Entry;
use super::kept::{Body, Source};
use super::object::Name;
use crate::buffer::{PAGE_BYTES, PageSlice, Pool, SendQueue};
use crate::disk::File;
use crate::jobs::{Command, Ticket};
use crate::waiter::Waiter;

/// A file that is being written.
#[derive(Debug)]
pub(super) struct Writing {
    root: File,
    temporary: PathBuf,
    file: Option<File>,
    /// Room for the header at the front.
    header_bytes: u64,
    /// Bytes of the body that are written.
    written: u64,
    /// Those behind them.
    pages: VecDeque<PageSlice>,
    /// Bytes that were pushed in all, and their checksum.
    taken: u64,
    checksum: crc32fast::Hasher,
    /// What comes next is in this file: its place and its length.
    drawn: Option<(File, u64, u64)>,
    job: Option<(Ticket, Doing)>,
    last: Option<Last>,
}

/// What is done when all of the body is written.
#[derive(Debug)]
struct Last {
    /// Until it is written.
    header: Option<Vec<u8>>,
    name: Entry,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Create,
    Draw,
    Body(u64),
    Header,
    Rename(Entry),
}

impl Writing {
    pub(super) fn new(root: File, temporary: PathBuf, header_bytes: u64) -> Self {
        Self {
            root,
            temporary,
            file: None,
            header_bytes,
            written: 0,
            pages: VecDeque::new(),
            taken: 0,
            checksum: crc32fast::Hasher::new(),
            drawn: None,
            job: None,
            last: None,
        }
    }

    /// Whether more is taken: what was taken before has been given to the disk.
    pub(super) fn has_room(&self) -> bool {
        self.pages.is_empty() && self.file.is_some() && self.has_drawn()
    }

    /// Whether all that was to be drawn is pushed.
    pub(super) fn has_drawn(&self) -> bool {
        self.drawn.is_none() && !matches!(self.job, Some((_, Doing::Draw)))
    }

    /// Bytes of the body that were pushed.
    pub(super) fn taken(&self) -> u64 {
        self.taken
    }

    /// The checksum of those.
    pub(super) fn crc32(&self) -> u32 {
        self.checksum.clone().finalize()
    }

    /// Bytes of the body that are written.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    pub(super) fn header_bytes(&self) -> u64 {
        self.header_bytes
    }

    pub(super) fn push(&mut self, page: PageSlice) {
        self.taken += page.len() as u64;
        self.checksum.update(page.bytes());
        self.pages.push_back(page);
    }

    /// What is kept already is pushed: at once, or page by page if it is in a file.
    pub(super) fn draw(&mut self, source: &Source, pool: &mut Pool) {
        debug_assert!(self.has_drawn());
        match &source.body {
            Body::Bytes(_) => {
                for part in source.bytes().chunks(PAGE_BYTES) {
                    self.push(page_of(part, pool));
                }
            }
            Body::File(file, from) => {
                self.drawn = Some((file.clone(), from + source.at, source.count));
            }
        }
    }

    /// What was drawn of a file is pushed.
    fn take_drawn(&mut self, page: Option<PageSlice>, pool: &mut Pool) -> io::Result<()> {
        let (Some((_, at, left)), Some(page)) = (&mut self.drawn, page) else {
            return Err(io::ErrorKind::InvalidData.into());
        };
        let count = page.len() as u64;
        if count == 0 || count > *left {
            pool.give_slice(page);
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        *at += count;
        *left -= count;
        if *left == 0 {
            self.drawn = None;
        }
        self.push(page);
        Ok(())
    }

    /// The file, when all that was pushed is written.
    pub(super) fn whole_body(&self) -> Option<&File> {
        let is_written = self.written == self.taken && self.has_drawn();
        self.file.as_ref().filter(|_| is_written)
    }

    /// All of the body was pushed: what the header is, and the name.
    pub(super) fn finish(&mut self, header: Vec<u8>, name: Entry) {
        debug_assert_eq!(header.len() as u64, self.header_bytes);
        self.last = Some(Last {
            header: Some(header),
            name,
        });
    }

    /// Goes on with what is to be done. `Ready` when it has its name, which is that.
    ///
    /// # Errors
    /// Those of the disk: it can be discarded only. What was taken can still be read.
    pub(super) fn advance(
        &mut self,
        waiter: Waiter,
        hands: &mut Hands<'_>,
    ) -> Poll<io::Result<Entry>> {
        loop {
            match self.settle(hands) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Ok(Some(name))) => return Poll::Ready(Ok(name)),
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
            }
            let Some((command, doing)) = self.next(hands.pool) else {
                return Poll::Pending;
            };
            match hands.jobs.start(waiter, command, hands.now) {
                Ok(ticket) => self.job = Some((ticket, doing)),
                Err(refused) => {
                    if let Some(page) = refused.page {
                        match doing {
                            Doing::Body(_) => self.pages.push_front(page),
                            _ => hands.pool.give_slice(page),
                        }
                    }
                    let error = refused.result.err();
                    return Poll::Ready(Err(error.unwrap_or(io::ErrorKind::ResourceBusy.into())));
                }
            }
        }
    }

    /// Takes what the job under way came to; `Ready` when there is none any more, with the name if
    /// it has that now. What could not be written stands at the front of the pages again.
    ///
    /// # Errors
    /// Those of the disk.
    pub(super) fn settle(&mut self, hands: &mut Hands<'_>) -> Poll<io::Result<Option<Entry>>> {
        let Some((ticket, doing)) = self.job.take() else {
            return Poll::Ready(Ok(None));
        };
        let Poll::Ready(finished) = hands.jobs.take(&ticket) else {
            self.job = Some((ticket, doing));
            return Poll::Pending;
        };
        if doing == Doing::Draw && finished.result.is_ok() {
            self.take_drawn(finished.page, hands.pool)?;
            return Poll::Ready(Ok(None));
        }
        match (finished.page, doing) {
            (Some(page), Doing::Body(_)) if finished.result.is_err() => self.pages.push_front(page),
            (Some(page), _) => hands.pool.give_slice(page),
            (None, _) => {}
        }
        let done = match finished.result {
            Ok(done) => done,
            Err(error) => return Poll::Ready(Err(error)),
        };
        match doing {
            Doing::Create => self.file = Some(done.into_file()?.0),
            Doing::Body(bytes) => self.written += bytes,
            Doing::Header | Doing::Draw => {}
            Doing::Rename(name) => return Poll::Ready(Ok(Some(name))),
        }
        Poll::Ready(Ok(None))
    }

    /// Whether no job is under way: what is not written stands in the pages.
    pub(super) fn is_settled(&self) -> bool {
        self.job.is_none()
    }

    /// The next job, if there is one.
    fn next(&mut self, pool: &mut Pool) -> Option<(Command, Doing)> {
        let Some(file) = &self.file else {
            let (root, path) = (self.root.clone(), self.temporary.clone());
            return Some((Command::Create { root, path }, Doing::Create));
        };
        let file = file.clone();
        if let Some(page) = self.pages.pop_front() {
            let (offset, bytes) = (self.header_bytes + self.written, page.len() as u64);
            return Some((Command::Write { file, offset, page }, Doing::Body(bytes)));
        }
        if let Some((file, offset, left)) = &self.drawn {
            let fill = Command::Fill {
                file: file.clone(),
                offset: *offset,
                len: usize::try_from(*left).unwrap_or(usize::MAX),
                page: pool.take_slice(),
                version: None,
            };
            return Some((fill, Doing::Draw));
        }
        let last = self.last.as_mut()?;
        if let Some(header) = last.header.take() {
            let page = page_of(&header, pool);
            let offset = 0;
            return Some((Command::Write { file, offset, page }, Doing::Header));
        }
        let rename = Command::Rename {
            root: self.root.clone(),
            from: self.temporary.clone(),
            to: PathBuf::from(Name::from(last.name).to_string()),
            replace: true,
        };
        Some((rename, Doing::Rename(last.name)))
    }

    /// Queues `count` bytes of the body from `at` on: by reference to the file where they are
    /// written, copied from the pages behind it.
    pub(super) fn put(&self, at: u64, count: u64, tx: &mut SendQueue, pool: &mut Pool) {
        let in_file = count.min(self.written.saturating_sub(at));
        if let Some(file) = &self.file {
            tx.put_file(file, self.header_bytes + at, in_file, pool);
        }
        if in_file < count {
            let rest = (at + in_file, count - in_file);
            put_pages(self.pages.iter(), self.written, rest, tx, pool);
        }
    }

    /// Gives up: nothing is left of the file.
    pub(super) fn discard(mut self, hands: &mut Hands<'_>) {
        if let Some((ticket, _)) = self.job.take() {
            hands.jobs.cancel(ticket);
        }
        for page in self.pages.drain(..) {
            hands.pool.give_slice(page);
        }
        if let Some(file) = self.file.take() {
            let discard = Command::Discard {
                root: self.root,
                path: self.temporary,
                file: Some(file),
            };
            if hands.jobs.leave(discard, hands.now).is_err() {
                log::debug!("a temporary file of the cache stays until the next start");
            }
        }
    }
}

/// A page with these bytes, which fit into one.
pub(super) fn page_of(bytes: &[u8], pool: &mut Pool) -> PageSlice {
    let mut page = pool.take_slice();
    page.space_of(bytes.len()).copy_from_slice(bytes);
    page.filled(bytes.len());
    page
}

/// Queues bytes of pages that hold those from `from` on.
fn put_pages<'p>(
    pages: impl Iterator<Item = &'p PageSlice>,
    from: u64,
    (at, mut count): (u64, u64),
    tx: &mut SendQueue,
    pool: &mut Pool,
) {
    let mut skip = at.saturating_sub(from);
    for page in pages {
        let bytes = page.bytes();
        if skip >= bytes.len() as u64 {
            skip -= bytes.len() as u64;
            continue;
        }
        let rest = &bytes[skip as usize..];
        let part = &rest[..rest.len().min(count as usize)];
        tx.put(part, pool);
        count -= part.len() as u64;
        skip = 0;
        if count == 0 {
            break;
        }
    }
}
