//! One listing being made: what is asked of the disk for it, and how far it is.

use std::hash::BuildHasher;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use foldhash::quality::FixedState;

use super::page::{put_end, put_last, put_row, put_start};
use super::sort::MergeSort;
use super::{LOOKS_MAX, MERGED_PER_WORK, Page, Row, Shows, Tally, Wanted, content_type};
use crate::disk::{File, Metadata};
use crate::gate::Address;
use crate::http::negotiate::ListingFormat;
use crate::jobs::pending::{Names, Pending};
use crate::service::{Cx, Id, Waiter};
use crate::services::web::files::readme;
use crate::services::web::forms::Forms;

/// About what a row takes, with its name.
const ROW_BYTES: usize = size_of::<Row>() + 32;

pub(super) struct Job {
    pub(super) wanted: Wanted,
    /// Whose it is, as far as there is a share.
    pub(super) address: Option<Address>,
    /// Sessions to be woken when it is done.
    pub(super) waiters: Vec<Id>,
    pub(super) stage: Stage,
}

pub(super) enum Stage {
    Reading(Box<Reading>),
    Sorting {
        rows: MergeSort<Row>,
        tally: Tally,
        more: bool,
    },
    Writing {
        rows: std::vec::IntoIter<Row>,
        text: String,
        more: bool,
        /// The file to be shown below.
        readme: readme::Choice,
    },
    /// The text lacks what is shown below.
    Ending {
        text: String,
        name: PathBuf,
        readme: readme::Readme,
    },
    Done(Box<Ended<Page>>),
    /// The folder could not be read.
    Failed(Ended<io::ErrorKind>),
}

/// What came of a listing, and when: by the clock, and by the number of the turn.
pub(super) struct Ended<T> {
    pub(super) it: T,
    pub(super) at: Instant,
    pub(super) turn: u64,
}

/// Names being read and looked at.
pub(super) struct Reading {
    folder: File,
    /// Where the names begin that were not asked for.
    next: Option<u64>,
    /// More names.
    asked: Option<Pending<Names>>,
    /// Names that were read, and how many of them were not looked at.
    names: (Arc<[PathBuf]>, usize),
    /// Those that are being looked at.
    looks: Vec<(PathBuf, Pending<Metadata>)>,
    rows: MergeSort<Row>,
    tally: Tally,
    /// There is more than may be shown.
    more: bool,
}

impl<T> Ended<T> {
    fn new(it: T, cx: &Cx<'_>) -> Self {
        let (at, turn) = (cx.now, cx.turn);
        Self { it, at, turn }
    }
}

impl Job {
    pub(super) fn new(wanted: &Wanted, folder: &File, address: Option<Address>) -> Self {
        Self {
            wanted: wanted.clone(),
            address,
            waiters: Vec::new(),
            stage: Stage::Reading(Box::new(Reading {
                folder: folder.clone(),
                next: Some(0),
                asked: None,
                names: (Arc::from([]), 0),
                looks: Vec::new(),
                rows: MergeSort::default(),
                tally: Tally::default(),
                more: false,
            })),
        }
    }

    /// About how many bytes it holds while it is made.
    pub(super) fn bytes_held(&self) -> usize {
        match &self.stage {
            Stage::Reading(reading) => reading.rows.len() * ROW_BYTES,
            Stage::Sorting { rows, .. } => rows.len() * ROW_BYTES,
            Stage::Writing { rows, text, .. } => rows.len() * ROW_BYTES + text.capacity(),
            Stage::Ending { text, .. } => text.capacity(),
            Stage::Done(_) | Stage::Failed(_) => 0,
        }
    }

    /// When it came to its end.
    pub(super) fn ended_at(&self) -> Option<(Instant, u64)> {
        match &self.stage {
            Stage::Done(page) => Some((page.at, page.turn)),
            Stage::Failed(kind) => Some((kind.at, kind.turn)),
            _ => None,
        }
    }

    /// Nobody wants it any more: nothing is left of it.
    pub(super) fn discard(self, cx: &mut Cx<'_>) {
        match self.stage {
            Stage::Reading(reading) => reading.cancel(cx),
            Stage::Ending { readme, .. } => readme.cancel(cx.jobs),
            Stage::Done(page) => page.it.forms.discard(cx.compressed),
            Stage::Sorting { .. } | Stage::Writing { .. } | Stage::Failed(_) => {}
        }
    }

    /// Goes on as far as `work` and the disk allow. With work left over, it waits for the disk or
    /// has come to its end.
    pub(super) fn work(&mut self, work: &mut usize, shows: &Shows, root: &File, cx: &mut Cx<'_>) {
        while *work > 0 {
            let done = match &mut self.stage {
                Stage::Done(_) | Stage::Failed(_) => return,
                Stage::Reading(reading) => reading.work(work, &self.wanted, shows, root, cx),
                Stage::Sorting { rows, tally, more } => {
                    let mut steps = *work * MERGED_PER_WORK;
                    let order = |one: &Row, two: &Row| self.wanted.order(one, two);
                    let sorted = rows.step(&mut steps, order);
                    *work = steps / MERGED_PER_WORK;
                    if let Some(rows) = sorted {
                        let (tally, more) = (std::mem::take(tally), *more);
                        self.stage = self.wanted.begin(rows, &tally, more, shows);
                    }
                    continue;
                }
                Stage::Writing {
                    rows, text, readme, ..
                } => {
                    for row in rows.by_ref().take(*work) {
                        *work -= 1;
                        put_row(text, &row, self.wanted.format);
                        if !row.is_folder {
                            readme.offer(row.name.as_os_str());
                        }
                    }
                    Ok(rows.as_slice().is_empty())
                }
                Stage::Ending { readme, .. } => {
                    Ok(readme.work(shows.readme_bytes_max, &mut cx.asker(Waiter::Service)))
                }
            };
            match done {
                Ok(true) => self.advance(shows, root, cx),
                Ok(false) => return,
                Err(error) => self.fail(&error, cx),
            }
        }
    }

    fn is_page(&self) -> bool {
        self.wanted.format == ListingFormat::Html
    }

    fn fail(&mut self, error: &io::Error, cx: &mut Cx<'_>) {
        let failed = Stage::Failed(Ended::new(error.kind(), cx));
        if let Stage::Reading(reading) = std::mem::replace(&mut self.stage, failed) {
            reading.cancel(cx);
        }
    }

    /// What was done is followed by the next stage.
    fn advance(&mut self, shows: &Shows, root: &File, cx: &mut Cx<'_>) {
        let nothing = Stage::Failed(Ended::new(io::ErrorKind::Other, cx));
        self.stage = match std::mem::replace(&mut self.stage, nothing) {
            Stage::Reading(reading) => Stage::Sorting {
                rows: reading.rows,
                tally: reading.tally,
                more: reading.more,
            },
            Stage::Writing {
                mut text,
                more,
                readme,
                ..
            } => {
                put_end(&mut text, self.wanted.format, more);
                match readme.name() {
                    Some(name) if shows.readme_bytes_max > 0 && self.is_page() => {
                        let path = self.wanted.folder.join(&name);
                        let asker = &mut cx.asker(Waiter::Service);
                        let readme = readme::Readme::new(root, &path, asker);
                        Stage::Ending { text, name, readme }
                    }
                    _ => self.wanted.end(text, shows, cx),
                }
            }
            Stage::Ending {
                mut text,
                name,
                readme,
            } => {
                // What cannot be read is not shown, like a name that cannot.
                if let Some(contents) = readme.contents() {
                    readme::put(&mut text, name.as_os_str(), &contents);
                }
                self.wanted.end(text, shows, cx)
            }
            stage => stage,
        };
    }
}

impl Wanted {
    /// The rows are in their order.
    fn begin(&self, rows: Vec<Row>, tally: &Tally, more: bool, shows: &Shows) -> Stage {
        let mut text = String::with_capacity(4096);
        put_start(&mut text, self, tally, shows.archive);
        Stage::Writing {
            rows: rows.into_iter(),
            text,
            more,
            readme: readme::Choice::default(),
        }
    }

    /// All but the last line is written.
    fn end(&self, mut text: String, shows: &Shows, cx: &Cx<'_>) -> Stage {
        put_last(&mut text, self.format);
        let (kind, len) = (content_type(self.format), text.len() as u64);
        let page = Page {
            forms: Forms::new(&shows.compress, kind, len),
            tag: FixedState::default().hash_one(text.as_bytes()),
            text: text.into_bytes().into(),
        };
        Stage::Done(Box::new(Ended::new(page, cx)))
    }
}

impl Reading {
    /// Goes on as far as `work` and the disk allow. Whether all names were looked at.
    fn work(
        &mut self,
        work: &mut usize,
        wanted: &Wanted,
        shows: &Shows,
        root: &File,
        cx: &mut Cx<'_>,
    ) -> io::Result<bool> {
        self.take_looks(work, wanted, shows, cx);
        let mut goes_on = true;
        while goes_on && *work > 0 {
            goes_on = match self.names.1 {
                0 => self.read_names(work, cx)?,
                _ => self.look_at_next(work, wanted, shows, root, cx)?,
            };
        }
        let is_read = self.names.1 == 0 && self.asked.is_none() && self.next.is_none();
        Ok(is_read && self.looks.is_empty())
    }

    /// Gets more names. Whether there are any.
    fn read_names(&mut self, work: &mut usize, cx: &mut Cx<'_>) -> io::Result<bool> {
        let asked = match (self.asked.take(), self.next) {
            (Some(asked), _) => asked,
            (None, Some(from)) => cx.asker(Waiter::Service).names(&self.folder, from),
            (None, None) => return Ok(false),
        };
        match asked.take(cx.jobs) {
            Err(asked) => {
                self.asked = Some(asked);
                Ok(false)
            }
            Ok(Err(error)) if is_busy(&error) => self.until_an_answer(error),
            Ok(read) => {
                *work -= 1; // a folder without names has to end too
                let (names, next) = read?;
                let left = names.len();
                (self.names, self.next) = ((names, left), next);
                Ok(true)
            }
        }
    }

    /// Looks at a name, or asks for that. Whether it may go on with the next.
    fn look_at_next(
        &mut self,
        work: &mut usize,
        wanted: &Wanted,
        shows: &Shows,
        root: &File,
        cx: &mut Cx<'_>,
    ) -> io::Result<bool> {
        let (names, left) = &mut self.names;
        if self.looks.len() >= LOOKS_MAX {
            return Ok(false);
        }
        *work -= 1;
        *left -= 1;
        let name = names[*left].clone();
        if super::is_hidden(&name) {
            return Ok(true);
        }
        let path = wanted.folder.join(&name);
        match cx.asker(Waiter::Service).look(root, &path) {
            Pending::Ready(Err(error)) if is_busy(&error) => {
                *left += 1;
                return self.until_an_answer(error);
            }
            Pending::Ready(metadata) => self.add(name, metadata, wanted, shows, cx),
            asked => self.looks.push((name, asked)),
        }
        Ok(true)
    }

    /// The disk takes no more questions: there is room when one of those that are asked is
    /// answered, if there are any.
    fn until_an_answer(&self, error: io::Error) -> io::Result<bool> {
        match self.looks.is_empty() {
            true => Err(error),
            false => Ok(false),
        }
    }

    /// Takes what the disk has answered about names.
    fn take_looks(&mut self, work: &mut usize, wanted: &Wanted, shows: &Shows, cx: &mut Cx<'_>) {
        let mut place = 0;
        while *work > 0
            && let Some((_, look)) = self.looks.get(place)
        {
            if !look.is_there(cx.jobs) {
                place += 1;
                continue;
            }
            *work -= 1;
            let (name, look) = self.looks.swap_remove(place);
            if let Ok(metadata) = look.take(cx.jobs) {
                self.add(name, metadata, wanted, shows, cx);
            }
        }
    }

    /// What a name stands for, if that is to be shown.
    fn add(
        &mut self,
        name: PathBuf,
        metadata: io::Result<Metadata>,
        wanted: &Wanted,
        shows: &Shows,
        cx: &mut Cx<'_>,
    ) {
        let row = metadata.ok().and_then(|metadata| Row::new(name, &metadata));
        let Some(row) = row.filter(|_| !self.more) else {
            return;
        };
        if self.rows.len() == shows.entries_max {
            (self.more, self.next, self.names.1) = (true, None, 0);
            self.cancel_asked(cx);
            return;
        }
        self.tally.add(&row);
        self.rows.push(row, |one, two| wanted.order(one, two));
    }

    fn cancel_asked(&mut self, cx: &mut Cx<'_>) {
        for (_, look) in self.looks.drain(..) {
            look.cancel(cx.jobs);
        }
        if let Some(asked) = self.asked.take() {
            asked.cancel(cx.jobs);
        }
    }

    fn cancel(mut self, cx: &mut Cx<'_>) {
        self.cancel_asked(cx);
    }
}

/// Whether too many wait for the disk.
fn is_busy(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::ResourceBusy
}
