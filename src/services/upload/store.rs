//! The folder of an upload listener: files of which not every byte came yet, and the names of those
//! that are whole.
//!
//! The rules:
//! 1. A file stands in the hidden folder `.partial/` until its last byte came, and gets its name in
//!    one step, by a `rename` that replaces nothing unless it was told to. So whatever happens to
//!    this process, `kill -9` included, a name never stands for half a file, and no file is lost to
//!    another of its name. A loss of power may do that: nothing is forced to the disk (`fsync`),
//!    and a file system may remember the name and not the bytes.
//! 2. A file that is broken off leaves nothing: [`Store::discard`] removes it, and a start removes
//!    those of a crash. Each server shares the lock of `.partial/` as long as it lives, and only a
//!    start that has the lock alone clears it: beside a server that still runs or drains, its files
//!    cannot be told from those of a dead one.
//! 3. After the start everything is a job ([`crate::jobs`]). What is to become of a file is decided
//!    by the last one, [`Command::Store`]: once that was asked for, it stores the file or removes
//!    it, also when its client has gone meanwhile.
//! 4. What failed for want of descriptors is asked for again each [`RETRY_AFTER`], within the time
//!    that the disk has ([`Store::until`] the first time that it was asked for).

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use super::owner::Owner;
use crate::config::Overwrite;
use crate::disk::{Disk, File, FileKind, is_out_of_descriptors, open_or_make};
use crate::ending::Error;
use crate::jobs::{self, Command, Done, Finished, NewContents, NewFile, Stored, Taken, Ticket};
use crate::service::{Cx, Io, Waiter};
use crate::wire::upload::SafeName;

/// Where files stand until they are whole. A name of a client never begins with a dot, so none
/// leads here.
pub(super) const PARTIAL: &str = ".partial";

/// How soon what failed for want of descriptors is tried again. Another connection may end in a
/// moment; meanwhile the client waits as for a slow disk.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(200);

/// The folder of one listener.
pub(super) struct Store {
    folder: File,
    taken: Taken,
    /// `.partial/`, kept open for its lock.
    _partials: File,
    /// What the names of this server's partial files begin with: another one may share the folder.
    prefix: u64,
    /// The partial files so far: the name of the next one.
    partials: u64,
    /// How long a job may take.
    timeout: Duration,
}

/// A file that was announced.
#[derive(Clone)]
pub(super) struct Announced {
    pub(super) name: SafeName,
    pub(super) size_bytes: u64,
    pub(super) began: Instant,
    /// Whose it is, and where it goes.
    pub(super) owner: Rc<Owner>,
}

/// A file that was made and has no name yet.
pub(super) struct Partial {
    pub(super) announced: Announced,
    /// Its path below the folder.
    path: PathBuf,
    pub(super) file: File,
}

/// A file that waits for the disk before its bytes can be taken.
pub(super) struct Beginning {
    announced: Announced,
    /// Since when the disk has been asked.
    since: Instant,
    /// The partial file that is being made.
    creating: Option<(PathBuf, Ticket)>,
    /// There were no descriptors: when it is tried again.
    retry_at: Option<Instant>,
    /// It was tried before: `since` stays, so that the tries come to an end.
    is_retry: bool,
}

/// Files that are being stored.
pub(super) struct Storing {
    /// Those that are not stored yet, in their order.
    pub(super) files: Vec<Announced>,
    pub(super) since: Instant,
    /// The partial file, if it was made before.
    partial: Option<PathBuf>,
    attempt: Attempt,
}

enum Attempt {
    /// A job stores them.
    Job(Ticket),
    /// There were no descriptors: when they are asked for again.
    Retry { at: Instant, files: Vec<NewFile> },
}

impl Beginning {
    pub(super) fn new(announced: Announced, now: Instant) -> Self {
        Self {
            announced,
            since: now,
            creating: None,
            retry_at: None,
            is_retry: false,
        }
    }
}

impl Storing {
    /// When it is tried again, if there were no descriptors for it.
    pub(super) fn retry_at(&self) -> Option<Instant> {
        match self.attempt {
            Attempt::Job(_) => None,
            Attempt::Retry { at, .. } => Some(at),
        }
    }
}

impl Store {
    /// Opens the folder; makes it, with its parents, and clears away what a crash left in it,
    /// unless another server uses it.
    ///
    /// # Errors
    /// The folder cannot be made or opened; the text names it.
    pub(super) fn open(
        dir: &Path,
        overwrite: Overwrite,
        timeout: Duration,
        disk: &mut dyn Disk,
    ) -> io::Result<Self> {
        let (folder, partials) = prepare(dir, disk)
            .map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", dir.display())))?;
        let mut prefix = [0; 8];
        disk.entropy(&mut prefix);
        Ok(Self {
            folder,
            taken: match overwrite {
                Overwrite::Refuse => Taken::Refuse,
                Overwrite::Replace => Taken::Replace,
                Overwrite::Version => Taken::Version,
            },
            _partials: partials,
            prefix: u64::from_le_bytes(prefix),
            partials: 0,
            timeout,
        })
    }

    /// The folder, on whose disk other jobs of the listener wait.
    pub(super) fn folder(&self) -> &File {
        &self.folder
    }

    /// Files that one job stores, at most `most`. Where each call asks somebody else, one: calls
    /// that take long would add up to more than a job may take.
    pub(super) fn files_max(&self, most: usize) -> usize {
        match self.folder.is_slow() {
            true => 1,
            false => most,
        }
    }

    /// When a job that was asked for then has taken too long.
    pub(super) fn until(&self, since: Instant) -> Instant {
        since + self.timeout
    }

    /// When a file that waits for the disk must be looked at again, though nothing happened.
    pub(super) fn beginning_until(&self, beginning: &Beginning) -> Instant {
        beginning.retry_at.unwrap_or(self.until(beginning.since))
    }

    /// The same, of files that are being stored.
    pub(super) fn storing_until(&self, storing: &Storing) -> Instant {
        storing.retry_at().unwrap_or(self.until(storing.since))
    }

    /// When what was first asked for at `since` and has failed with `error` now is tried again;
    /// `None` if it is not.
    fn retry_at(&self, error: &io::Error, since: Instant, now: Instant) -> Option<Instant> {
        let at = now + RETRY_AFTER;
        (is_out_of_descriptors(error) && at < self.until(since)).then_some(at)
    }

    /// Makes a partial file for what was announced, or says why not; asked again until it answers.
    /// If it fails, nothing is left of it.
    pub(super) fn begin(
        &mut self,
        beginning: &mut Beginning,
        io: &mut Io<'_>,
    ) -> Result<Poll<Partial>, Error> {
        if beginning.retry_at.is_some_and(|at| io.cx.now < at) {
            return Ok(Poll::Pending);
        }
        beginning.retry_at = None;
        let begun = self.begin_once(beginning, io);
        if let Err(Error::Disk(_, error)) = &begun
            && let Some(at) = self.retry_at(error, beginning.since, io.cx.now)
        {
            io.cx.jobs.settle(Waiter::Session(io.id)); // so that it looks anew
            beginning.retry_at = Some(at);
            beginning.is_retry = true;
            return Ok(Poll::Pending);
        }
        begun
    }

    fn begin_once(
        &mut self,
        beginning: &mut Beginning,
        io: &mut Io<'_>,
    ) -> Result<Poll<Partial>, Error> {
        let (name, size_bytes) = (&beginning.announced.name, beginning.announced.size_bytes);
        let failed = |error| Error::Disk(name.to_string(), error);
        let Some((_, ticket)) = &beginning.creating else {
            let Poll::Ready(free_bytes) = self.look(&beginning.announced, io)? else {
                return self.pending(name, beginning.since, io);
            };
            if size_bytes > free_bytes {
                return Err(Error::Refused(format!(
                    "{name}: {size_bytes} bytes, and the disk has room for {free_bytes}"
                )));
            }
            let waiter = Waiter::Session(io.id);
            io.cx.jobs.settle(waiter);
            let path = self.next_partial();
            let create = Command::Create {
                root: self.folder.clone(),
                path: path.clone(),
            };
            let started = io.cx.jobs.start(waiter, create, io.cx.now);
            let ticket = started.map_err(|refused| failed(refusal(refused)))?;
            beginning.creating = Some((path, ticket));
            if !beginning.is_retry {
                beginning.since = io.cx.now;
            }
            return Ok(Poll::Pending);
        };
        let Poll::Ready(created) = io.cx.jobs.take(ticket) else {
            return self.pending(name, beginning.since, io);
        };
        let path = beginning.creating.take().map(|(path, _)| path);
        let file = opened(created).map_err(failed)?;
        let (announced, path) = (beginning.announced.clone(), path.unwrap_or_default());
        Ok(Poll::Ready(Partial {
            announced,
            path,
            file,
        }))
    }

    /// The room that the disk has, unless the name is taken and may not be. Looked at before the
    /// client sends for nothing; the rename at the end looks again.
    fn look(&self, announced: &Announced, io: &mut Io<'_>) -> Result<Poll<u64>, Error> {
        let (name, path) = (&announced.name, announced.owner.path_of(&announced.name));
        let failed = |error| Error::Disk(name.to_string(), error);
        let mut files = io.cx.files(Waiter::Session(io.id));
        let looked = match self.taken {
            Taken::Refuse => files.look(&self.folder, &path).map(Some),
            Taken::Replace | Taken::Version => Poll::Ready(None),
        };
        let free_bytes = files.free_bytes(&self.folder);
        let Poll::Ready(looked) = looked else {
            return Ok(Poll::Pending);
        };
        if let Some(looked) = looked
            && jobs::is_taken(looked).map_err(failed)?
        {
            return Err(taken(name));
        }
        let Poll::Ready(free_bytes) = free_bytes else {
            return Ok(Poll::Pending);
        };
        free_bytes.map(Poll::Ready).map_err(failed)
    }

    /// The disk has its time.
    fn pending<T>(&self, name: &SafeName, since: Instant, io: &Io<'_>) -> Result<Poll<T>, Error> {
        self.in_time(name, since, io.cx.now)?;
        Ok(Poll::Pending)
    }

    /// # Errors
    /// A job for this file that was asked for then takes too long.
    pub(super) fn in_time(
        &self,
        name: &SafeName,
        since: Instant,
        now: Instant,
    ) -> Result<(), Error> {
        if now < self.until(since) {
            return Ok(());
        }
        let text = format!("the disk took longer than {:?}", self.timeout);
        let error = io::Error::new(io::ErrorKind::TimedOut, text);
        Err(Error::Disk(name.to_string(), error))
    }

    fn next_partial(&mut self) -> PathBuf {
        let name = format!("{:016x}-{}", self.prefix, self.partials);
        self.partials += 1;
        Path::new(PARTIAL).join(name)
    }

    /// Stores files whose bytes are all here, in their order.
    pub(super) fn store(
        &mut self,
        whole: &mut Vec<(Announced, Box<[u8]>)>,
        io: &mut Io<'_>,
    ) -> Result<Storing, Error> {
        let mut files = Vec::with_capacity(whole.len());
        let mut new = Vec::with_capacity(whole.len());
        for (announced, bytes) in whole.drain(..) {
            new.push(NewFile {
                partial: self.next_partial(),
                contents: NewContents::Bytes(bytes),
                name: announced.name.clone(),
                folder: announced.owner.folder.clone(),
            });
            files.push(announced);
        }
        self.start(files, new, None, io)
    }

    /// Stores a file whose bytes were all written.
    pub(super) fn keep(&self, whole: &Partial, io: &mut Io<'_>) -> Result<Storing, Error> {
        let announced = whole.announced.clone();
        let new = NewFile {
            partial: whole.path.clone(),
            contents: NewContents::Written(whole.file.clone()),
            name: announced.name.clone(),
            folder: announced.owner.folder.clone(),
        };
        let partial = Some(whole.path.clone());
        self.start(vec![announced], vec![new], partial, io)
    }

    fn start(
        &self,
        files: Vec<Announced>,
        new: Vec<NewFile>,
        partial: Option<PathBuf>,
        io: &mut Io<'_>,
    ) -> Result<Storing, Error> {
        match self.ask(new, Waiter::Session(io.id), &mut io.cx) {
            Ok(ticket) => Ok(Storing {
                files,
                since: io.cx.now,
                partial,
                attempt: Attempt::Job(ticket),
            }),
            Err(error) => Err(Error::Disk(named(&files, 0), error)),
        }
    }

    fn ask(&self, files: Vec<NewFile>, waiter: Waiter, cx: &mut Cx<'_>) -> io::Result<Ticket> {
        let store = Command::Store {
            root: self.folder.clone(),
            files,
            taken: self.taken,
        };
        cx.jobs.start(waiter, store, cx.now).map_err(refusal)
    }

    /// Asks again for files for which there were no descriptors, once it is time.
    pub(super) fn retry(
        &self,
        storing: &mut Storing,
        waiter: Waiter,
        cx: &mut Cx<'_>,
    ) -> Result<(), Error> {
        if let Attempt::Retry { at, files } = &mut storing.attempt
            && *at <= cx.now
        {
            let asked = self.ask(std::mem::take(files), waiter, cx);
            let failed = |error| Error::Disk(named(&storing.files, 0), error);
            storing.attempt = Attempt::Job(asked.map_err(failed)?);
        }
        Ok(())
    }

    /// What became of files: how many were stored, under which names, and why the next one was not.
    /// Nothing is left of that one, unless it is [tried again](Storing::retry_at).
    pub(super) fn stored(
        &self,
        storing: &mut Storing,
        cx: &mut Cx<'_>,
    ) -> Poll<(Vec<SafeName>, Result<(), Error>)> {
        let Attempt::Job(ticket) = &storing.attempt else {
            return Poll::Pending;
        };
        let Poll::Ready(finished) = cx.jobs.take(ticket) else {
            return Poll::Pending;
        };
        let mut stored = match finished.result {
            Ok(Done::Stored(stored)) => stored,
            result => {
                // It was not even tried.
                if let Some(partial) = &storing.partial {
                    self.remove(partial, None, cx);
                }
                let error = result.err().unwrap_or_else(jobs::wrong);
                let error = Error::Disk(named(&storing.files, 0), error);
                return Poll::Ready((Vec::new(), Err(error)));
            }
        };
        // Invariant: a command has one asker, so nobody else has its result.
        let rest = Arc::get_mut(&mut stored).map(|stored| std::mem::take(&mut stored.rest));
        let Stored { names, failed, .. } = &*stored;
        let retry_at = failed
            .as_ref()
            .and_then(|error| self.retry_at(error, storing.since, cx.now));
        let result = match (failed, retry_at, rest) {
            (None, ..) => Ok(()),
            (Some(_), Some(at), Some(files)) => {
                storing.attempt = Attempt::Retry { at, files };
                Ok(())
            }
            (Some(error), ..) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(taken(&storing.files[names.len()].name))
            }
            (Some(error), ..) => {
                let error = jobs::copied(error);
                Err(Error::Disk(named(&storing.files, names.len()), error))
            }
        };
        Poll::Ready((names.clone(), result))
    }

    /// The session that waits for the end of this has ended: the service waits instead, for a job
    /// always, because nothing else calls it so soon.
    pub(super) fn hand_over(&self, storing: &mut Storing, cx: &mut Cx<'_>) -> Result<(), Error> {
        match &mut storing.attempt {
            Attempt::Job(ticket) => cx.jobs.hand_over(ticket, Waiter::Service),
            Attempt::Retry { at, .. } => *at = cx.now,
        }
        self.retry(storing, Waiter::Service, cx)
    }

    /// The session has ended before the bytes of a file could come. A file that is being made is
    /// removed by [`crate::jobs`]; so this is for one that was made and not taken.
    pub(super) fn give_up(&self, beginning: &Beginning, cx: &mut Cx<'_>) {
        if let Some((path, ticket)) = &beginning.creating
            && let Poll::Ready(created) = cx.jobs.take(ticket)
            && let Ok(file) = opened(created)
        {
            self.remove(path, Some(file), cx);
        }
    }

    /// Removes a file that will not be whole.
    pub(super) fn discard(&self, partial: Partial, cx: &mut Cx<'_>) {
        self.remove(&partial.path, Some(partial.file), cx);
    }

    fn remove(&self, partial: &Path, file: Option<File>, cx: &mut Cx<'_>) {
        let discard = Command::Discard {
            root: self.folder.clone(),
            path: partial.to_owned(),
            file,
        };
        if let Err(refused) = cx.jobs.leave(discard, cx.now) {
            let (path, error) = (partial.display(), refusal(refused));
            log::error!("{path} stays behind until the next start: {error}");
        }
    }
}

/// Why a job was not begun.
#[allow(clippy::boxed_local)] // as it came
pub(super) fn refusal(refused: Box<Finished>) -> io::Error {
    refused.result.err().unwrap_or_else(jobs::wrong)
}

fn opened(created: Finished) -> io::Result<File> {
    match created.result? {
        Done::File(file, _) => Ok(file),
        _ => Err(jobs::wrong()),
    }
}

fn taken(name: &SafeName) -> Error {
    Error::Refused(format!("{name}: there is such a file"))
}

/// The name of one of the files, for an error.
fn named(files: &[Announced], index: usize) -> String {
    let file = files.get(index);
    file.map_or_else(String::new, |file| file.name.to_string())
}

/// Opens the folder for the files, and the one for the partial ones in it: empty, unless another
/// server uses it.
fn prepare(dir: &Path, disk: &mut dyn Disk) -> io::Result<(File, File)> {
    let folder = open_or_make(dir, disk)?;
    disk.create_folder(&folder, Path::new(PARTIAL))?;
    let partials = disk.open(&folder, Path::new(PARTIAL))?;
    match disk.lock_alone(&partials) {
        Ok(true) => clear(&partials, disk)?,
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

/// Removes the files of a folder.
fn clear(folder: &File, disk: &mut dyn Disk) -> io::Result<()> {
    for entry in disk.entries(folder)? {
        if entry.metadata.kind != FileKind::Folder {
            disk.remove(folder, &entry.name)?;
        }
    }
    Ok(())
}
