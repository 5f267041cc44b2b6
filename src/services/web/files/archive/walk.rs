//! A walk through a folder and all below it: one thing at a time, so that whoever walks can stop after any.
//!
//! ```text
//! waiting folders ──the last one opened──▶ some of its names ──each looked at──▶ found: a file, or a folder that waits
//! ```
//!
//! The rules:
//! 1. A step is one look at a name, or one call for more names.
//! 2. What a listing would not show is not found: hidden names, what leads out of the root, what is neither file nor folder.
//!    Nor is what is for another site to show, for it may ask for a password.
//! 3. Links are followed. A folder that is one of those on the way to it, by such a link, is left out: it has no end.
//! 4. Depth and entries are bounded, and one folder is open at a time; what waits is bounded by the entries.

use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use super::{Stopped, Wanted};
use crate::config::ArchiveLimits;
use crate::disk::{Disk, File, FileKind, Metadata};

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
    reading: Option<Reading>,
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
    End,
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
    /// Where the names not read yet begin.
    next: Option<u64>,
    names: Vec<PathBuf>,
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
            reading: None,
            left_out: 0,
        }
    }

    /// Opens something that was found, and tells what it is now.
    pub(super) fn open(&self, path: &Path, disk: &mut dyn Disk) -> io::Result<(File, Metadata)> {
        let file = disk.open(&self.root, &self.base.join(path))?;
        let metadata = disk.metadata(&file)?;
        Ok((file, metadata))
    }

    /// Goes on by one step.
    ///
    /// # Errors
    /// A limit was reached, or the disk failed: what was found is not all.
    pub(super) fn step(&mut self, disk: &mut dyn Disk) -> Result<Step, Stopped> {
        let Some(reading) = &mut self.reading else {
            return self.open_next(disk);
        };
        if let Some(name) = reading.names.pop() {
            return self.look(&name, disk);
        }
        if let Some(from) = reading.next {
            let path = &reading.folder.path;
            let next = disk.names(&reading.file, from, &mut reading.names);
            reading.next = next.map_err(|error| Stopped::disk(path, error))?;
            reading.names.sort_unstable_by(|one, two| two.cmp(one));
            return Ok(Step::Nothing);
        }
        let folders = reading.folders.drain(..).rev();
        self.waiting.extend(folders);
        self.reading = None;
        Ok(Step::Nothing)
    }

    fn open_next(&mut self, disk: &mut dyn Disk) -> Result<Step, Stopped> {
        let Some(folder) = self.waiting.pop() else {
            return Ok(Step::End);
        };
        match self.open(&folder.path, disk) {
            Ok((file, _)) => {
                self.reading = Some(Reading {
                    folder,
                    file,
                    next: Some(0),
                    names: Vec::new(),
                    folders: Vec::new(),
                });
            }
            Err(error) if is_passed_over(&error) => self.left_out += 1,
            Err(error) => return Err(Stopped::disk(&folder.path, error)),
        }
        Ok(Step::Nothing)
    }

    /// What a name in the open folder stands for.
    fn look(&mut self, name: &Path, disk: &mut dyn Disk) -> Result<Step, Stopped> {
        let Some(reading) = &mut self.reading else {
            return Ok(Step::Nothing);
        };
        if name.as_os_str().as_bytes().starts_with(b".") {
            return Ok(Step::Nothing);
        }
        let path = reading.folder.path.join(name);
        let place = self.base.join(&path);
        if self
            .elsewhere
            .iter()
            .any(|other| **other == *place.as_os_str().as_bytes())
        {
            return Ok(Step::Nothing);
        }
        let metadata = match disk.look(&self.root, &place) {
            Ok(metadata) => metadata,
            Err(error) if is_passed_over(&error) => return Ok(Step::Nothing),
            Err(error) => return Err(Stopped::disk(&path, error)),
        };
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

/// Whether an error says that there is nothing to be shown: no such name any more, a link out of the root or to itself, a
/// folder or file that may not be read. All others, such as too many open files, are about the moment and not about the name.
pub(super) fn is_passed_over(error: &io::Error) -> bool {
    use io::ErrorKind::{
        CrossesDevices, InvalidFilename, NotADirectory, NotFound, PermissionDenied,
    };
    let kinds = [
        CrossesDevices,
        InvalidFilename,
        NotADirectory,
        NotFound,
        PermissionDenied,
    ];
    let links = [libc::ELOOP, libc::EILSEQ, libc::EINVAL];
    kinds.contains(&error.kind())
        || error
            .raw_os_error()
            .is_some_and(|code| links.contains(&code))
}
