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
//!    those of a crash; but those that a client can go on with are kept ([`super::kept`]). Each server shares the lock of `.partial/` as long as it lives, and only a
//!    start that has the lock alone clears it: beside a server that still runs or drains, its files
//!    cannot be told from those of a dead one.
//! 3. After the start everything is a job ([`crate::jobs`]). What is to become of a file is decided
//!    by the last one, [`Command::Store`]: once that was asked for, it stores the file or removes
//!    it, also when its client has gone meanwhile.
//! 4. What failed for want of descriptors, or because the folder is gone, is asked for again each
//!    [`RETRY_AFTER`], within the time that the disk has ([`Store::until`] the first time that it was
//!    asked for). A folder that is gone is made anew meanwhile.
//!
//! A long file, since all that is asked of the folder stands here.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use super::announced::{Announced, Partial};
use super::kept::{Kept, KeptLimits, Key};
use super::owner::Owner;
use super::refusal::Refusal;
use super::resuming::ReadBack;
use super::room::{Room, RoomLimits, Wanted};
use crate::config::{Overwrite, UploadConfig};
use crate::disk::{Disk, File, FileKind, is_out_of_descriptors, open_or_make};
use crate::jobs::{
    self, Care, Command, Done, Finished, NewContents, NewFile, Query, Stored, Taken, TakenFile,
    Ticket,
};
use crate::service::{Cx, Io, Waiter};
use crate::wire::upload::{Code, SafeName};

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
    folder: File,
    taken: Taken,
    /// `.partial/`, kept open for its lock.
    partials_folder: File,
    /// What the names of this server's partial files begin with: another one may share the folder.
    prefix: u64,
    /// The partial files so far: the name of the next one.
    partials: u64,
    /// How long a job may take.
    timeout: Duration,
    pub(super) room: Room,
    pub(super) kept: Kept,
    /// The folder was gone, and is being made anew.
    preparing: Option<Ticket>,
}

/// A file that waits for the disk before its bytes can be taken.
pub(super) struct Beginning {
    pub(super) announced: Announced,
    key: Option<Key>,
    /// Its bytes are gathered in memory.
    is_small: bool,
    /// Since when the disk has been asked.
    since: Instant,
    making: Making,
    /// When it is tried again: there were no descriptors, or another connection has it.
    retry_at: Option<Instant>,
    /// There is no file that is the same.
    is_compared: bool,
    /// It was tried before: `since` stays, so that the tries come to an end.
    is_retry: bool,
}

/// How far a file is that is being made.
enum Making {
    /// Whether it may come.
    Asking,
    /// A file that has the name is read: it may be the same.
    Comparing(Box<ReadBack>),
    /// It is, and is made sure.
    Securing(Ticket),
    /// The partial file is being made, or taken.
    Creating { path: PathBuf, ticket: Ticket },
    /// What is there of it is being read.
    ReadingBack(Box<ReadBack>),
}

/// What a beginning comes to.
pub(super) enum Begun {
    /// The bytes are gathered in memory.
    Small(Announced),
    /// They go to a file that has so many already, with the digest of those, if there is to be one.
    Large(Partial, u64, Option<Sha256>),
    /// It is there already, and on the disk but perhaps for its name.
    Same(Announced),
}

/// Files that are being stored.
pub(super) struct Storing {
    /// Those that are not stored yet, in their order.
    pub(super) files: Vec<Announced>,
    pub(super) since: Instant,
    /// Partial files that were made before.
    partials: Vec<PathBuf>,
    attempt: Attempt,
    syncs: bool,
}

enum Attempt {
    /// A job stores them.
    Job(Ticket),
    /// There were no descriptors: when they are asked for again.
    Retry { at: Instant, files: Vec<NewFile> },
}

/// What became of files.
pub(super) struct Outcome {
    /// The names of those that were stored, in their order.
    pub(super) names: Vec<SafeName>,
    /// Why the one behind those was not. Nothing is left of it.
    pub(super) failed: Option<Refusal>,
    /// Whether nothing more is to come: those that are left were not stored.
    pub(super) is_over: bool,
}

impl Beginning {
    /// For a file of this key, if it is to be kept when it is broken off.
    pub(super) fn new(
        announced: Announced,
        key: Option<Key>,
        is_small: bool,
        now: Instant,
    ) -> Self {
        Self {
            announced,
            key,
            is_small,
            since: now,
            making: Making::Asking,
            retry_at: None,
            is_compared: false,
            is_retry: false,
        }
    }

    /// The digest of a file that need not come if it is there.
    fn skips(&self) -> Option<[u8; 32]> {
        self.announced.asks.filter(|asks| asks.skip_same)?.sha256
    }

    fn failed(&self, error: io::Error) -> Refusal {
        Refusal::disk(&self.announced.name, error)
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
    fn retry_at(&mut self, error: &io::Error, since: Instant, cx: &mut Cx<'_>) -> Option<Instant> {
        let at = cx.now + RETRY_AFTER;
        if !is_passing(error) || at >= self.until(since) {
            return None;
        }
        if is_gone(error) {
            self.make_anew(cx);
        }
        Some(at)
    }

    /// Makes a partial file for what was announced, or says why not; asked again until it answers.
    /// If it fails, nothing is left of it but what is kept. A small one needs none.
    pub(super) fn begin(
        &mut self,
        beginning: &mut Beginning,
        io: &mut Io<'_>,
    ) -> Result<Poll<Begun>, Refusal> {
        if beginning.retry_at.is_some_and(|at| io.cx.now < at) {
            return Ok(Poll::Pending);
        }
        beginning.retry_at = None;
        let begun = self.begin_once(beginning, io);
        let Err(refusal) = &begun else {
            return begun;
        };
        let at = match &refusal.error {
            crate::ending::Error::Disk(_, error) if error.kind() == io::ErrorKind::WouldBlock => {
                let is_patient = io.cx.now < beginning.since + BUSY_WAIT.min(self.timeout);
                is_patient.then(|| io.cx.now + RETRY_AFTER)
            }
            crate::ending::Error::Disk(_, error) => {
                self.retry_at(error, beginning.since, &mut io.cx)
            }
            _ => None,
        };
        match at {
            Some(at) => {
                io.cx.jobs.settle(Waiter::Session(io.id)); // so that it looks anew
                beginning.announced.promise = None;
                beginning.retry_at = Some(at);
                beginning.is_retry = true;
                Ok(Poll::Pending)
            }
            None => begun,
        }
    }

    fn begin_once(
        &mut self,
        beginning: &mut Beginning,
        io: &mut Io<'_>,
    ) -> Result<Poll<Begun>, Refusal> {
        if let Some(sha256) = beginning.skips()
            && !beginning.is_compared
        {
            return self.compare(beginning, &sha256, io);
        }
        if let Making::Asking = beginning.making {
            return self.let_in(beginning, io);
        }
        if let Making::Creating { ticket, .. } = &beginning.making {
            let Poll::Ready(created) = io.cx.jobs.take(ticket) else {
                return self.pending(beginning, io);
            };
            let made = std::mem::replace(&mut beginning.making, Making::Asking);
            let taken = match taken(created) {
                Ok(taken) => taken,
                // Whoever does not go on with it gets a file of their own.
                Err(error)
                    if error.kind() == io::ErrorKind::WouldBlock
                        && beginning.announced.asks.is_some_and(|asks| !asks.resume) =>
                {
                    beginning.key = None;
                    beginning.announced.promise = None;
                    return self.let_in(beginning, io);
                }
                Err(error) => {
                    if error.kind() == io::ErrorKind::StorageFull {
                        self.room.is_full();
                    }
                    return Err(beginning.failed(error));
                }
            };
            let Making::Creating { path, .. } = made else {
                return Ok(Poll::Pending); // Invariant: it was just looked at.
            };
            return Ok(self.created(beginning, path, taken, io));
        }
        self.read_back(beginning, io)
    }

    /// Looks whether the file is there already.
    fn compare(
        &mut self,
        beginning: &mut Beginning,
        sha256: &[u8; 32],
        io: &mut Io<'_>,
    ) -> Result<Poll<Begun>, Refusal> {
        let waiter = Waiter::Session(io.id);
        let is_same = match &mut beginning.making {
            Making::Comparing(read_back) => {
                let Poll::Ready(digest) = read_back.poll(waiter, &mut io.cx) else {
                    beginning.since = read_back.since().unwrap_or(beginning.since);
                    return match io.cx.work.is_spent() {
                        true => Ok(Poll::Pending),
                        false => self.pending(beginning, io),
                    };
                };
                let digest = digest.map(|digest| <[u8; 32]>::from(digest.finalize()));
                digest.is_ok_and(|digest| digest == *sha256)
            }
            Making::Securing(ticket) => {
                let Poll::Ready(finished) = io.cx.jobs.take(ticket) else {
                    return self.pending(beginning, io);
                };
                beginning.making = Making::Asking;
                finished.result.map_err(|error| beginning.failed(error))?;
                return Ok(Poll::Ready(Begun::Same(beginning.announced.clone())));
            }
            Making::Asking | Making::Creating { .. } | Making::ReadingBack(_) => {
                return self.find_same(beginning, io);
            }
        };
        let making = std::mem::replace(&mut beginning.making, Making::Asking);
        beginning.since = io.cx.now;
        beginning.is_compared = !is_same;
        let Making::Comparing(read_back) = making else {
            return Ok(Poll::Pending); // Invariant: it was just looked at.
        };
        let (found, _) = read_back.give_up(&mut io.cx);
        if !is_same {
            return self.begin_once(beginning, io);
        }
        let sync = Query::Sync { file: found.file };
        let ticket = io.cx.jobs.start(waiter, sync, io.cx.now);
        let ticket = ticket.map_err(|came_back| beginning.failed(refused(came_back)))?;
        beginning.making = Making::Securing(ticket);
        Ok(Poll::Pending)
    }

    /// Opens the file that has the name, if it is as long.
    fn find_same(
        &mut self,
        beginning: &mut Beginning,
        io: &mut Io<'_>,
    ) -> Result<Poll<Begun>, Refusal> {
        let announced = &beginning.announced;
        let path = announced.owner.path_of(&announced.name);
        let mut files = io.cx.files(Waiter::Session(io.id));
        let Poll::Ready(opened) = files.open(&self.folder, &path) else {
            return self.pending(beginning, io);
        };
        io.cx.jobs.settle(Waiter::Session(io.id));
        let size_bytes = announced.size_bytes;
        match opened {
            Ok((file, was)) if was.kind == FileKind::Regular && was.len == size_bytes => {
                let announced = announced.clone();
                let found = Partial {
                    announced,
                    path,
                    file,
                    key: None,
                };
                beginning.making = Making::Comparing(Box::new(ReadBack::new(found, size_bytes)));
            }
            _ => beginning.is_compared = true,
        }
        self.begin_once(beginning, io)
    }

    /// Looks whether the file may come, promises it room, and has its partial file made.
    fn let_in(
        &mut self,
        beginning: &mut Beginning,
        io: &mut Io<'_>,
    ) -> Result<Poll<Begun>, Refusal> {
        let size_bytes = beginning.announced.size_bytes;
        let waiter = Waiter::Session(io.id);
        if self.is_taken(&beginning.announced, io)?.is_pending() {
            return self.pending(beginning, io);
        }
        let (beside_bytes, kept_bytes) = self.kept.bytes_beside(beginning.key);
        let announced = &beginning.announced;
        let wanted = Wanted {
            name: &announced.name,
            at: &announced.owner.folder,
            size_bytes,
            held_bytes: kept_bytes.min(size_bytes),
            beside_bytes,
        };
        let Poll::Ready(promise) = self.room.admit(&wanted, &self.folder, io) else {
            return self.pending(beginning, io);
        };
        io.cx.jobs.settle(waiter);
        beginning.announced.promise = Some(Rc::new(promise?));
        if beginning.is_small {
            return Ok(Poll::Ready(Begun::Small(beginning.announced.clone())));
        }
        let path = match beginning.key {
            Some(key) => Path::new(PARTIAL).join(key.file_name()),
            None => self.next_partial(),
        };
        let (root, at) = (self.folder.clone(), path.clone());
        let command = match beginning.announced.asks {
            None => Command::Create { root, path: at },
            Some(asks) => Command::Take {
                root,
                path: at,
                stays: asks.resume && beginning.key.is_some(),
                len: size_bytes,
            },
        };
        let started = io.cx.jobs.start(waiter, command, io.cx.now);
        let ticket = started.map_err(|came_back| beginning.failed(refused(came_back)))?;
        beginning.making = Making::Creating { path, ticket };
        if !beginning.is_retry {
            beginning.since = io.cx.now;
        }
        Ok(Poll::Pending)
    }

    /// The partial file is there.
    fn created(
        &mut self,
        beginning: &mut Beginning,
        path: PathBuf,
        taken: TakenFile,
        io: &mut Io<'_>,
    ) -> Poll<Begun> {
        let announced = beginning.announced.clone();
        if let Some(key) = beginning.key {
            self.kept.forget(key);
        }
        if taken.is_reserved
            && let Some(promise) = &announced.promise
        {
            self.room.reserved(promise);
        }
        let digest = announced.asks.map(|_| Sha256::default());
        let partial = Partial {
            announced,
            path,
            file: taken.file,
            key: beginning.key,
        };
        if taken.held_bytes == 0 {
            return Poll::Ready(Begun::Large(partial, 0, digest));
        }
        let mut read_back = Box::new(ReadBack::new(partial, taken.held_bytes));
        // Nothing can be there yet, but it is asked for.
        let _ = read_back.poll(Waiter::Session(io.id), &mut io.cx);
        beginning.making = Making::ReadingBack(read_back);
        beginning.since = io.cx.now;
        Poll::Pending
    }

    /// What is there is read. If that fails, it is worth nothing, and the file is begun anew.
    fn read_back(
        &mut self,
        beginning: &mut Beginning,
        io: &mut Io<'_>,
    ) -> Result<Poll<Begun>, Refusal> {
        let waiter = Waiter::Session(io.id);
        let Making::ReadingBack(read_back) = &mut beginning.making else {
            return Ok(Poll::Pending); // Invariant: the caller looked at the others.
        };
        let Poll::Ready(digest) = read_back.poll(waiter, &mut io.cx) else {
            if let Some(since) = read_back.since() {
                beginning.since = since;
            }
            return match io.cx.work.is_spent() {
                true => Ok(Poll::Pending),
                false => self.pending(beginning, io),
            };
        };
        let making = std::mem::replace(&mut beginning.making, Making::Asking);
        let Making::ReadingBack(read_back) = making else {
            return Ok(Poll::Pending); // Invariant: as above.
        };
        let (partial, len) = read_back.give_up(&mut io.cx);
        match digest {
            Ok(digest) => Ok(Poll::Ready(Begun::Large(partial, len, Some(digest)))),
            // Whoever wants its name waits for its lock, so it is removed before it is made anew.
            Err(error) => {
                log::warn!("{}: begun anew: {error}", partial.announced.name);
                self.discard(partial, &mut io.cx);
                beginning.announced.promise = None;
                beginning.retry_at = Some(io.cx.now + RETRY_AFTER);
                beginning.is_retry = true;
                Ok(Poll::Pending)
            }
        }
    }

    /// Whether the name is taken and may not be: then it fails. Looked at before the client sends for
    /// nothing; the rename at the end looks again.
    fn is_taken(&self, announced: &Announced, io: &mut Io<'_>) -> Result<Poll<()>, Refusal> {
        let (name, path) = (&announced.name, announced.owner.path_of(&announced.name));
        if self.taken != Taken::Refuse {
            return Ok(Poll::Ready(()));
        }
        let mut files = io.cx.files(Waiter::Session(io.id));
        let Poll::Ready(looked) = files.look(&self.folder, &path) else {
            return Ok(Poll::Pending);
        };
        let is_taken = jobs::is_taken(looked).map_err(|error| Refusal::disk(name, error))?;
        match is_taken {
            true => Err(exists(name)),
            false => Ok(Poll::Ready(())),
        }
    }

    /// The disk has its time.
    fn pending<T>(&self, beginning: &Beginning, io: &Io<'_>) -> Result<Poll<T>, Refusal> {
        self.in_time(&beginning.announced.name, beginning.since, io.cx.now)?;
        Ok(Poll::Pending)
    }

    /// # Errors
    /// A job for this file that was asked for then takes too long.
    pub(super) fn in_time(
        &self,
        name: &SafeName,
        since: Instant,
        now: Instant,
    ) -> Result<(), Refusal> {
        match now < self.until(since) {
            true => Ok(()),
            false => Err(self.too_long(name)),
        }
    }

    /// Why a file is not stored for which the disk takes too long.
    pub(super) fn too_long(&self, name: &SafeName) -> Refusal {
        let text = format!("the disk took longer than {:?}", self.timeout);
        Refusal::disk(name, io::Error::new(io::ErrorKind::TimedOut, text))
    }

    fn next_partial(&mut self) -> PathBuf {
        let name = format!("{:016x}-{}", self.prefix, self.partials);
        self.partials += 1;
        Path::new(PARTIAL).join(name)
    }

    /// A file whose bytes are all here.
    pub(super) fn new_file(&mut self, announced: &Announced, bytes: Box<[u8]>) -> NewFile {
        NewFile {
            partial: self.next_partial(),
            contents: NewContents::Bytes(bytes),
            name: announced.name.clone(),
            folder: announced.owner.folder.clone(),
        }
    }

    /// One whose bytes were all written.
    pub(super) fn written_file(partial: &Partial) -> NewFile {
        NewFile {
            partial: partial.path.clone(),
            contents: NewContents::Written(partial.file.clone()),
            name: partial.announced.name.clone(),
            folder: partial.announced.owner.folder.clone(),
        }
    }

    /// Stores files whose bytes are all here, in their order.
    pub(super) fn store(
        &mut self,
        whole: &mut Vec<(Announced, Box<[u8]>)>,
        io: &mut Io<'_>,
    ) -> Result<Storing, Refusal> {
        let mut files = Vec::with_capacity(whole.len());
        let mut new = Vec::with_capacity(whole.len());
        for (announced, bytes) in whole.drain(..) {
            new.push(self.new_file(&announced, bytes));
            files.push(announced);
        }
        self.start(files, new, false, Waiter::Session(io.id), &mut io.cx)
    }

    /// Stores a file whose bytes were all written.
    pub(super) fn keep(&mut self, whole: &Partial, io: &mut Io<'_>) -> Result<Storing, Refusal> {
        let (announced, new) = (whole.announced.clone(), Self::written_file(whole));
        let waiter = Waiter::Session(io.id);
        self.start(vec![announced], vec![new], false, waiter, &mut io.cx)
    }

    /// Stores files, and has their bytes on the disk before they get their names if it `syncs`.
    pub(super) fn start(
        &mut self,
        files: Vec<Announced>,
        new: Vec<NewFile>,
        syncs: bool,
        waiter: Waiter,
        cx: &mut Cx<'_>,
    ) -> Result<Storing, Refusal> {
        let is_written = |new: &&NewFile| matches!(new.contents, NewContents::Written(_));
        let made = new.iter().filter(is_written);
        let partials: Vec<PathBuf> = made.map(|new| new.partial.clone()).collect();
        match self.ask(new, syncs, waiter, cx) {
            Ok(ticket) => Ok(Storing {
                files,
                since: cx.now,
                partials,
                attempt: Attempt::Job(ticket),
                syncs,
            }),
            Err(error) => {
                self.remove_unkept(&partials, cx);
                Err(Refusal::disk(&files[0].name, error))
            }
        }
    }

    fn ask(
        &self,
        files: Vec<NewFile>,
        syncs: bool,
        waiter: Waiter,
        cx: &mut Cx<'_>,
    ) -> io::Result<Ticket> {
        let store = Command::Store {
            root: self.folder.clone(),
            files,
            taken: self.taken,
            care: Care {
                syncs,
                counts: self.room.is_limited(),
            },
        };
        cx.jobs.start(waiter, store, cx.now).map_err(refused)
    }

    /// Has the names of this owner's folder on the disk. Those that were given before this was asked
    /// for are, once it is done.
    pub(super) fn sync(
        &self,
        owner: &Owner,
        waiter: Waiter,
        cx: &mut Cx<'_>,
    ) -> io::Result<Ticket> {
        let sync = Query::SyncNames {
            root: self.folder.clone(),
            folder: owner.folder.clone(),
        };
        cx.jobs.start(waiter, sync, cx.now).map_err(refused)
    }

    /// Asks again for files for which there were no descriptors, once it is time.
    pub(super) fn retry(
        &self,
        storing: &mut Storing,
        waiter: Waiter,
        cx: &mut Cx<'_>,
    ) -> Result<(), Refusal> {
        if let Attempt::Retry { at, files } = &mut storing.attempt
            && *at <= cx.now
        {
            let asked = self.ask(std::mem::take(files), storing.syncs, waiter, cx);
            let failed = |error| Refusal::disk(&storing.files[0].name, error);
            storing.attempt = Attempt::Job(asked.map_err(failed)?);
        }
        Ok(())
    }

    /// What became of files, once something is known: how many were stored, under which names, and
    /// why the next one was not. Nothing is left of that one, unless it is
    /// [tried again](Storing::retry_at).
    pub(super) fn stored(&mut self, storing: &mut Storing, cx: &mut Cx<'_>) -> Poll<Outcome> {
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
                self.remove_unkept(&storing.partials, cx);
                let error = result.err().unwrap_or_else(jobs::wrong);
                return Poll::Ready(Outcome {
                    names: Vec::new(),
                    failed: Some(Refusal::disk(&storing.files[0].name, error)),
                    is_over: true,
                });
            }
        };
        // Invariant: a command has one asker, so nobody else has its result.
        let rest = Arc::get_mut(&mut stored).map(|stored| std::mem::take(&mut stored.rest));
        let rest = rest.unwrap_or_default();
        let names = stored.names.clone();
        let bytes = storing.files[..names.len()].iter();
        let bytes = bytes.map(|file| file.size_bytes).sum();
        // All are of one connection.
        let folder = &storing.files[0].owner.folder;
        self.room.stored(folder, bytes, stored.replaced_bytes);
        let (failed, is_over) = self.failed(storing, &stored, rest, cx);
        Poll::Ready(Outcome {
            names,
            failed,
            is_over,
        })
    }

    /// Why the first file that was not stored was not, if it is not tried again; and whether nothing
    /// more is to come. `rest`: those that came back.
    fn failed(
        &mut self,
        storing: &mut Storing,
        stored: &Stored,
        rest: Vec<NewFile>,
        cx: &mut Cx<'_>,
    ) -> (Option<Refusal>, bool) {
        let Some(error) = &stored.failed else {
            return (None, true);
        };
        let left = storing.files.len() - stored.names.len();
        if rest.len() == left
            && let Some(at) = self.retry_at(error, storing.since, cx)
        {
            storing.attempt = Attempt::Retry { at, files: rest };
            return (None, false);
        }
        if error.kind() == io::ErrorKind::StorageFull {
            self.room.is_full();
        }
        let name = &storing.files[stored.names.len()].name;
        let refusal = match error.kind() {
            io::ErrorKind::AlreadyExists => exists(name),
            _ => Refusal::disk(name, jobs::copied(error)),
        };
        // Who gets an answer for each file has those behind stored, too; others sent in vain.
        let goes_on = storing.syncs && !rest.is_empty() && rest.len() == left - 1;
        if goes_on {
            let at = cx.now;
            storing.attempt = Attempt::Retry { at, files: rest };
        }
        (Some(refusal), !goes_on)
    }

    /// The session that waits for the end of this has ended: the service waits instead, for a job
    /// always, because nothing else calls it so soon.
    pub(super) fn hand_over(&self, storing: &mut Storing, cx: &mut Cx<'_>) -> Result<(), Refusal> {
        match &mut storing.attempt {
            Attempt::Job(ticket) => cx.jobs.hand_over(ticket, Waiter::Service),
            Attempt::Retry { at, .. } => *at = cx.now,
        }
        self.retry(storing, Waiter::Service, cx)
    }

    /// The session has ended before the bytes of a file could come. A file that is being made is
    /// removed by [`crate::jobs`]; so this is for one that was made and not taken, or is read back.
    pub(super) fn give_up(&mut self, beginning: Beginning, cx: &mut Cx<'_>) {
        let Beginning {
            announced,
            key,
            making,
            ..
        } = beginning;
        match making {
            Making::Asking | Making::Securing(_) => {}
            Making::Comparing(read_back) => _ = read_back.give_up(cx), // it stays as it is
            Making::Creating { path, ticket } => {
                if let Poll::Ready(created) = cx.jobs.take(&ticket)
                    && let Ok(taken) = taken(created)
                {
                    let partial = Partial {
                        announced,
                        path,
                        file: taken.file,
                        key,
                    };
                    self.leave(partial, taken.held_bytes, cx);
                }
            }
            Making::ReadingBack(read_back) => {
                let (partial, len) = read_back.give_up(cx);
                self.leave(partial, len, cx);
            }
        }
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
    fn remove_unkept(&self, partials: &[PathBuf], cx: &mut Cx<'_>) {
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

/// A file that was made, or taken.
fn taken(created: Finished) -> io::Result<TakenFile> {
    match created.result? {
        Done::File(file, _) => Ok(TakenFile {
            file,
            held_bytes: 0,
            is_reserved: false,
        }),
        done => done.into_taken(),
    }
}

fn exists(name: &SafeName) -> Refusal {
    Refusal::new(Code::Exists, format!("{name}: there is such a file"))
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
