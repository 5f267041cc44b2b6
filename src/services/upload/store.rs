//! The folder of an upload listener: files of which not every byte came yet, and the names of those
//! that are whole.
//!
//! The rules:
//! 1. A file stands in the hidden folder `.partial/` until its last byte came, and gets its name in
//!    one step, by a `rename` that replaces nothing unless it was told to. So whatever happens to
//!    this process, `kill -9` included, a name never stands for half a file, and no file is lost to
//!    another of its name. A loss of power may do that to a file whose client asked for no answer:
//!    nothing of it is forced to the disk (`fsync`), and a file system may remember the name and not
//!    the bytes. Of the others the bytes are on the disk before they get their names, and the names
//!    ([`Store::sync`]) before the answer.
//! 2. A file that is broken off leaves nothing: [`Store::discard`] removes it, and a start removes
//!    those of a crash; but those that a client can go on with are kept ([`super::kept`]). Each server
//!    shares the lock of `.partial/` as long as it lives, and only a start that has the lock alone
//!    clears it: beside a server that still runs or drains, its files cannot be told from those of a
//!    dead one.
//! 3. After the start everything is a job ([`crate::jobs`]). What is to become of a file is decided
//!    by the last one, [`Command::Store`]: once that was asked for, it stores the file or removes
//!    it, also when its client has gone meanwhile.
//! 4. What failed for want of descriptors, or because the folder is gone, is asked for again each
//!    [`RETRY_AFTER`], within the time that the disk has ([`Store::until`] the first time that it was
//!    asked for). A folder that is gone is made anew meanwhile.
//!
//! Not here: what is asked before the bytes of a file come (`beginning`), and how it gets its name
//! (`storing`).

use std::io;
use std::path::{Path, PathBuf};
use std::task::Poll;
use std::time::{Duration, Instant};

use super::announced::Partial;
use super::kept::{Kept, KeptLimits, Key};
use super::refusal::Refusal;
use super::room::{Room, RoomLimits};
use crate::config::{Overwrite, UploadConfig};
use crate::disk::{Disk, File, FileKind, is_out_of_descriptors, open_or_make};
use crate::jobs::{self, Command, Done, Finished, Taken, Ticket};
use crate::service::{Cx, Waiter};
use crate::wire::safe_path::SafePath;
use crate::wire::upload::Code;

/// Where files stand until they are whole. A name of a client never begins with a dot, so none
/// leads here.
pub(super) const PARTIAL: &str = ".partial";

/// How soon what failed for want of descriptors is tried again. Another connection may end in a
/// moment; meanwhile the client waits as for a slow disk.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(200);

/// How long a file that another connection has is waited for: it may just be ending.
pub(super) const BUSY_WAIT: Duration = Duration::from_secs(2);

/// The folder of one listener.
pub(super) struct Store {
    dir: PathBuf,
    /// Other jobs of the listener wait on its disk, too.
    pub(super) folder: File,
    pub(super) taken: Taken,
    /// `.partial/`, kept open for its lock.
    partials_folder: File,
    /// What the names of this server's partial files begin with: another one may share the folder.
    prefix: u64,
    /// The partial files so far: the name of the next one.
    partials: u64,
    /// How long a job may take.
    pub(super) timeout: Duration,
    pub(super) room: Room,
    pub(super) kept: Kept,
    /// The folder was gone, and is being made anew.
    preparing: Option<Ticket>,
}

/// Whether what failed may work in a moment.
fn is_passing(error: &io::Error) -> bool {
    is_out_of_descriptors(error) || is_gone(error)
}

/// Whether the folder is not there any more: nothing else is missed when a new file is made.
fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

impl Store {
    /// Opens the folder; makes it, with its parents, and clears away what a crash left in it,
    /// unless another server uses it.
    ///
    /// # Errors
    /// The folder cannot be made or opened; the text names it.
    pub(super) fn open(config: &UploadConfig, disk: &mut dyn Disk) -> io::Result<Self> {
        let dir = &config.dir;
        let kept = KeptLimits {
            ttl: config.partial_ttl,
            files_max: config.partial_files_max,
        };
        let (folder, partials_folder) = prepare(dir, kept.ttl.is_zero(), disk)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", dir.display())))?;
        let mut prefix = [0; 8];
        disk.entropy(&mut prefix);
        Ok(Self {
            dir: dir.clone(),
            folder,
            taken: match config.overwrite {
                Overwrite::Refuse => Taken::Refuse,
                Overwrite::Replace => Taken::Replace,
                Overwrite::Version => Taken::Version,
            },
            partials_folder,
            prefix: u64::from_le_bytes(prefix),
            partials: 0,
            timeout: config.store_timeout,
            room: Room::new(RoomLimits {
                reserved_bytes: config.reserved_free_bytes,
                total_bytes_max: config.total_bytes_max,
                user_bytes_max: config.user_bytes_max,
            }),
            kept: Kept::new(kept),
            preparing: None,
        })
    }

    /// Files that one job stores, at most `most`. Where each call asks somebody else, one: calls
    /// that take long would add up to more than a job may take.
    pub(super) fn files_max(&self, most: usize) -> usize {
        match self.folder.is_slow() {
            true => 1,
            false => most,
        }
    }

    /// What is done beside the sessions: the files are counted, those that were kept for too long
    /// are removed, a folder that is gone is made anew. Whether there is more to do at once.
    pub(super) fn work(&mut self, cx: &mut Cx<'_>) -> bool {
        if let Some(ticket) = self.preparing.take() {
            match cx.jobs.take(&ticket) {
                Poll::Pending => self.preparing = Some(ticket),
                Poll::Ready(finished) => match finished.result.and_then(Done::into_folders) {
                    Ok((folder, partials_folder)) => {
                        log::warn!("{} was gone, and is made anew", self.dir.display());
                        (self.folder, self.partials_folder) = (folder, partials_folder);
                        self.kept.clear(cx);
                    }
                    Err(error) => log::error!("{}: {error}", self.dir.display()),
                },
            }
        }
        let folders = (&self.folder, &self.partials_folder, Path::new(PARTIAL));
        self.kept.work(folders, cx) | self.room.work(&self.folder, cx)
    }

    /// When there is something to be done beside the sessions though nothing happened.
    pub(super) fn deadline(&self) -> Option<Instant> {
        let moments = [self.kept.deadline(), self.room.deadline()];
        moments.into_iter().flatten().min()
    }

    /// The folder is gone: it is made anew.
    fn make_anew(&mut self, cx: &mut Cx<'_>) {
        if self.preparing.is_none() {
            let prepare = Command::Prepare {
                beside: self.folder.clone(),
                path: self.dir.clone(),
                inner: PathBuf::from(PARTIAL),
            };
            self.preparing = cx.jobs.start(Waiter::Service, prepare, cx.now).ok();
        }
    }

    /// When a job that was asked for then has taken too long.
    pub(super) fn until(&self, since: Instant) -> Instant {
        since + self.timeout
    }

    /// When what was first asked for at `since` and has failed with `error` now is tried again;
    /// `None` if it is not.
    pub(super) fn retry_at(
        &mut self,
        error: &io::Error,
        since: Instant,
        cx: &mut Cx<'_>,
    ) -> Option<Instant> {
        let at = cx.now + RETRY_AFTER;
        if !is_passing(error) || at >= self.until(since) {
            return None;
        }
        if is_gone(error) {
            self.make_anew(cx);
        }
        Some(at)
    }

    /// # Errors
    /// A job for this file that was asked for then takes too long.
    pub(super) fn in_time(
        &self,
        name: &SafePath,
        since: Instant,
        now: Instant,
    ) -> Result<(), Refusal> {
        match now < self.until(since) {
            true => Ok(()),
            false => Err(self.too_long(name)),
        }
    }

    /// Why a file is not stored for which the disk takes too long.
    pub(super) fn too_long(&self, name: &SafePath) -> Refusal {
        let text = format!("the disk took longer than {:?}", self.timeout);
        Refusal::disk(name, io::Error::new(io::ErrorKind::TimedOut, text))
    }

    pub(super) fn next_partial(&mut self) -> PathBuf {
        let name = format!("{:016x}-{}", self.prefix, self.partials);
        self.partials += 1;
        Path::new(PARTIAL).join(name)
    }

    /// A file is broken off, of which so many bytes are there: it is kept, if its client can go on
    /// with it.
    pub(super) fn leave(&mut self, partial: Partial, bytes: u64, cx: &mut Cx<'_>) {
        match partial.key {
            Some(key) if bytes > 0 => self.kept.keep(key, bytes, partial.file, cx),
            _ => self.discard(partial, cx),
        }
    }

    /// Removes a file that will not be whole.
    pub(super) fn discard(&self, partial: Partial, cx: &mut Cx<'_>) {
        self.remove(&partial.path, Some(partial.file), cx);
    }

    /// The same for files that were not stored and are closed. Those that are kept stay, since somebody
    /// else may have them by now.
    pub(super) fn remove_unkept(&self, partials: &[PathBuf], cx: &mut Cx<'_>) {
        for partial in partials {
            let name = partial.file_name().map(Path::new);
            if name.and_then(Key::of).is_none() {
                self.remove(partial, None, cx);
            }
        }
    }

    fn remove(&self, partial: &Path, file: Option<File>, cx: &mut Cx<'_>) {
        let discard = Command::Discard {
            root: self.folder.clone(),
            path: partial.to_owned(),
            file,
        };
        if let Err(came_back) = cx.jobs.leave(discard, cx.now) {
            let (path, error) = (partial.display(), refused(came_back));
            log::error!("{path} stays behind until the next start: {error}");
        }
    }
}

/// Why a job was not begun.
#[allow(clippy::boxed_local)] // as it came
pub(super) fn refused(came_back: Box<Finished>) -> io::Error {
    came_back.result.err().unwrap_or_else(jobs::wrong)
}

pub(super) fn exists(name: &SafePath) -> Refusal {
    Refusal::new(Code::Exists, format!("{name}: there is such a file"))
}

/// What is in the place of a folder of this file is none.
pub(super) fn in_the_way(name: &SafePath) -> Refusal {
    let folder = name.folder().display();
    let text = format!("{name}: something is in the way of the folder {folder} that is no folder");
    Refusal::new(Code::Exists, text)
}

/// Opens the folder for the files, and the one for the partial ones in it: without those of a crash,
/// unless another server uses it.
fn prepare(dir: &Path, clears_kept: bool, disk: &mut dyn Disk) -> io::Result<(File, File)> {
    let folder = open_or_make(dir, disk)?;
    // A process that died in the moment after it made the folder may not have told the disk.
    if let Some(parent) = dir.parent().filter(|parent| !parent.as_os_str().is_empty())
        && let Ok(parent) = disk.open_folder(parent)
    {
        let _ = disk.sync(&parent);
    }
    disk.create_folder(&folder, Path::new(PARTIAL))?;
    let partials = disk.open(&folder, Path::new(PARTIAL))?;
    match disk.lock_alone(&partials) {
        Ok(true) => clear(&partials, clears_kept, disk)?,
        Ok(false) => {}
        // Not every network file system has locks.
        Err(error) => {
            let dir = dir.display();
            log::warn!("{dir}/{PARTIAL}: what a crash left there stays: {error}");
            return Ok((folder, partials));
        }
    }
    disk.lock_shared(&partials)?;
    Ok((folder, partials))
}

/// Removes the files of a folder, those that are kept for their clients only if it `clears_kept`.
fn clear(folder: &File, clears_kept: bool, disk: &mut dyn Disk) -> io::Result<()> {
    for entry in disk.entries(folder)? {
        let is_kept = !clears_kept && Key::of(&entry.name).is_some();
        if entry.metadata.kind != FileKind::Folder && !is_kept {
            disk.remove(folder, &entry.name)?;
        }
    }
    Ok(())
}
