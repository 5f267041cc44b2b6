//! A walk through a folder and all below it: one thing at a time, so that it can stop after
//! any.
//!
//! ```text
//! folders that wait ──the last is opened──▶ some of its names ──each is looked at──▶ found
//! ```
//!
//! The rules:
//! 1. A step is one look at a name, or one call for more names. Where the disk has to be waited
//!    for, the next names are looked at meanwhile, [`LOOKS_MAX`] at once.
//! 2. What a listing would not show is not found: hidden names, what leads out of the root, what is
//!    neither file nor folder. Nor is what is for another site to show, for it may ask for a
//!    password.
//! 3. Links are followed. A folder that is one of those on the way to it, by such a link, is left
//!    out: it has no end.
//! 4. Depth and entries are bounded, and one folder is open at a time; what waits is bounded by the
//!    entries.

use std::collections::VecDeque;
use std::hash::Hash;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::{Stopped, Wanted};
use crate::config::ArchiveLimits;
use crate::disk::{File, FileKind, Metadata};
use crate::jobs::pending::{Asker, Names, Pending};
use crate::services::web::files::is_absent;

/// Names that are looked at at once, where the disk has to be waited for: half of what one disk is
/// asked at once by default, so that a long folder leaves places for the others.
pub(super) const LOOKS_MAX: usize = 6;

/// About what a name takes that is remembered, with its path.
const NAME_BYTES: usize = 96;

/// What is walked through.
pub(super) struct Walk {
    root: File,
    /// The folder, relative to the root.
    base: PathBuf,
    /// Paths relative to the root that are for other sites to show.
    elsewhere: Rc<[Vec<u8>]>,
    limits: ArchiveLimits,
    entries: usize,
    /// Folders that were found and not opened yet, the next one last.
    waiting: Vec<Folder>,
    at: At,
    /// What was there, but may not be read.
    pub(super) left_out: usize,
}

/// Something that was found: relative to the folder, and what it was.
pub(super) struct Found {
    pub(super) path: PathBuf,
    pub(super) metadata: Metadata,
}

/// What a step came to.
pub(super) enum Step {
    Found(Found),
    /// Nothing yet.
    Nothing,
    /// The disk is to answer first.
    Waits,
    End,
}

/// Where the walk is.
enum At {
    Between,
    Opening(Folder, Pending<(File, Metadata)>),
    Reading(Box<Reading>),
}

/// A folder, relative to the one that is walked through.
struct Folder {
    path: PathBuf,
    line: Rc<Line>,
}

/// A folder and those above it.
struct Line {
    identity: (u64, u64),
    depth: usize,
    above: Option<Rc<Line>>,
}

/// The folder that is open.
struct Reading {
    folder: Folder,
    file: File,
    /// Where the names not asked for yet begin.
    next: Option<u64>,
    asked: Option<Pending<Names>>,
    /// Names that were read, the next one last.
    names: Vec<PathBuf>,
    /// What was asked about names, in their order.
    looks: VecDeque<(PathBuf, Pending<Metadata>)>,
    /// Folders found in it, in the order of their names.
    folders: Vec<Folder>,
}

impl Line {
    fn contains(&self, identity: (u64, u64)) -> bool {
        let mut line = Some(self);
        while let Some(folder) = line {
            if folder.identity == identity {
                return true;
            }
            line = folder.above.as_deref();
        }
        false
    }
}

impl Walk {
    /// About how many bytes are remembered of what was found.
    pub(super) fn bytes_held(&self) -> usize {
        let reading = match &self.at {
            At::Reading(reading) => reading.names.capacity() + reading.folders.capacity(),
            At::Between | At::Opening(..) => 0,
        };
        NAME_BYTES * (self.waiting.capacity() + reading)
    }

    pub(super) fn new(wanted: &Wanted<'_>) -> Self {
        let line = Rc::new(Line {
            identity: wanted.metadata.identity,
            depth: 0,
            above: None,
        });
        Self {
            root: wanted.root.clone(),
            base: wanted.folder.to_owned(),
            elsewhere: Rc::clone(wanted.elsewhere),
            limits: wanted.limits,
            entries: 0,
            waiting: vec![Folder {
                path: PathBuf::new(),
                line,
            }],
            at: At::Between,
            left_out: 0,
        }
    }

    /// Whether it has left the folder that it began with.
    #[cfg(test)]
    pub(super) fn is_below(&self) -> bool {
        match &self.at {
            At::Between | At::Opening(..) => self.entries > 0,
            At::Reading(reading) => !reading.folder.path.as_os_str().is_empty(),
        }
    }

    /// Opens something that was found, and tells what it is now.
    pub(super) fn open<W: Copy + Ord + Hash>(
        &self,
        path: &Path,
        asker: &mut Asker<'_, W>,
    ) -> Pending<(File, Metadata)> {
        asker.open(&self.root, &self.base.join(path))
    }

    /// Goes on by one step.
    ///
    /// # Errors
    /// A limit was reached, or the disk failed: what was found is not all.
    pub(super) fn step<W: Copy + Ord + Hash>(
        &mut self,
        asker: &mut Asker<'_, W>,
    ) -> Result<Step, Stopped> {
        match std::mem::replace(&mut self.at, At::Between) {
            At::Between => {
                let Some(folder) = self.waiting.pop() else {
                    return Ok(Step::End);
                };
                let opened = self.open(&folder.path, asker);
                self.opened(folder, opened, asker)
            }
            At::Opening(folder, opened) => self.opened(folder, opened, asker),
            At::Reading(mut reading) => {
                if reading.names.is_empty() && reading.looks.is_empty() {
                    return self.read_names(reading, asker);
                }
                let step = self.look(&mut reading, asker);
                self.at = At::Reading(reading);
                step
            }
        }
    }

    /// A folder was opened, or is being opened.
    fn opened<W: Copy + Ord + Hash>(
        &mut self,
        folder: Folder,
        opened: Pending<(File, Metadata)>,
        asker: &mut Asker<'_, W>,
    ) -> Result<Step, Stopped> {
        match opened.take(asker.jobs) {
            Err(opened) => {
                self.at = At::Opening(folder, opened);
                return Ok(Step::Waits);
            }
            Ok(Ok((file, _))) => {
                self.at = At::Reading(Box::new(Reading {
                    folder,
                    file,
                    next: Some(0),
                    asked: None,
                    names: Vec::new(),
                    looks: VecDeque::new(),
                    folders: Vec::new(),
                }));
            }
            Ok(Err(error)) if is_passed_over(&error) => self.left_out += 1,
            Ok(Err(error)) => return Err(Stopped::disk(&folder.path, error)),
        }
        Ok(Step::Nothing)
    }

    /// Gets more names of the folder that is open, or leaves it.
    fn read_names<W: Copy + Ord + Hash>(
        &mut self,
        mut reading: Box<Reading>,
        asker: &mut Asker<'_, W>,
    ) -> Result<Step, Stopped> {
        let asked = match (reading.asked.take(), reading.next) {
            (Some(asked), _) => asked,
            (None, Some(from)) => asker.names(&reading.file, from),
            (None, None) => {
                self.waiting.extend(reading.folders.into_iter().rev());
                return Ok(Step::Nothing);
            }
        };
        let step = match asked.take(asker.jobs) {
            Err(asked) => {
                reading.asked = Some(asked);
                Step::Waits
            }
            Ok(names) => {
                let names = names.map_err(|error| Stopped::disk(&reading.folder.path, error));
                let (names, next) = names?;
                (reading.names, reading.next) = (names.to_vec(), next);
                reading.names.sort_unstable_by(|one, two| two.cmp(one));
                Step::Nothing
            }
        };
        self.at = At::Reading(reading);
        Ok(step)
    }

    /// Looks at the next name in the open folder. While the disk is to be waited for, those behind
    /// it are asked for too.
    fn look<W: Copy + Ord + Hash>(
        &mut self,
        reading: &mut Reading,
        asker: &mut Asker<'_, W>,
    ) -> Result<Step, Stopped> {
        let waits = |looks: &VecDeque<(PathBuf, Pending<_>)>| {
            let last = looks.back();
            last.is_none_or(|(_, look)| look.is_job()) && looks.len() < LOOKS_MAX
        };
        while waits(&reading.looks)
            && let Some(name) = reading.names.pop()
        {
            let path = reading.folder.path.join(&name);
            let place = self.base.join(&path);
            if self.is_passed_by(&name, &place) {
                return Ok(Step::Nothing);
            }
            match asker.look(&self.root, &place) {
                Pending::Ready(Err(error))
                    if error.kind() == io::ErrorKind::ResourceBusy && !reading.looks.is_empty() =>
                {
                    reading.names.push(name); // there is room when one of them is answered
                    break;
                }
                asked => reading.looks.push_back((path, asked)),
            }
        }
        let Some((path, look)) = reading.looks.pop_front() else {
            return Ok(Step::Nothing);
        };
        match look.take(asker.jobs) {
            Err(look) => {
                reading.looks.push_front((path, look));
                Ok(Step::Waits)
            }
            Ok(Ok(metadata)) => self.found(path, metadata, reading),
            Ok(Err(error)) if is_passed_over(&error) => Ok(Step::Nothing),
            Ok(Err(error)) => Err(Stopped::disk(&path, error)),
        }
    }

    /// Whether a name is not looked at: it is hidden, or what it leads to is for another site.
    fn is_passed_by(&self, name: &Path, place: &Path) -> bool {
        let place = place.as_os_str().as_bytes();
        name.as_os_str().as_bytes().starts_with(b".")
            || self.elsewhere.iter().any(|other| **other == *place)
    }

    /// What a name in the open folder stands for.
    fn found(
        &mut self,
        path: PathBuf,
        metadata: Metadata,
        reading: &mut Reading,
    ) -> Result<Step, Stopped> {
        match metadata.kind {
            FileKind::Other => return Ok(Step::Nothing),
            FileKind::Regular => {}
            FileKind::Folder => {
                let above = &reading.folder.line;
                if above.contains(metadata.identity) {
                    return Ok(Step::Nothing);
                }
                let depth = above.depth + 1;
                if depth > self.limits.depth_max {
                    return Err(Stopped::TooDeep(path));
                }
                reading.folders.push(Folder {
                    path: path.clone(),
                    line: Rc::new(Line {
                        identity: metadata.identity,
                        depth,
                        above: Some(Rc::clone(above)),
                    }),
                });
            }
        }
        if self.entries == self.limits.entries_max {
            return Err(Stopped::TooMany(self.limits.entries_max));
        }
        self.entries += 1;
        Ok(Step::Found(Found { path, metadata }))
    }
}

/// Whether an error says that there is nothing to be shown: no such name any more, a link out of
/// the root or to itself, a folder or file that may not be read. All others, such as too many open
/// files, are about the moment and not about the name.
pub(super) fn is_passed_over(error: &io::Error) -> bool {
    is_absent(error) || error.kind() == io::ErrorKind::PermissionDenied
}
